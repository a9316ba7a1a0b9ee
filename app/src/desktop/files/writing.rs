//! Tags written into the files themselves: first shown, then written, and taken back if asked for.
//!
//! ```text
//! results that are shown -> dry run -> Preview -- yes --> file_tags::Writer -> Written, with a journal -- undo --> Undone
//! ```
//!
//! All of it is what `earmark tag --write-tags` does: empty fields alone are filled, what others wrote stays, and a file that
//! cannot be written stays as it is. Each step runs on a thread.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use anyhow::Result;
use eframe::egui::{self, Align, Layout, RichText, Ui, vec2};

use super::files;
use super::queue::Queue;
use crate::batch::{Outcome, contained};
use crate::desktop::theme;
use crate::file_tags::journal::Reader;
use crate::file_tags::undo::{Undone, undo};
use crate::file_tags::{Identity, WriteSettings, Writer, Written};
use crate::inputs::shown;

/// Digits of a model's hash that tell it from others of the same name, as in `earmark tag`.
const HASH_LEN: usize = 8;

/// Size of the window.
const SIZE: egui::Vec2 = vec2(620.0, 420.0);

/// What to write, and where.
#[derive(Clone)]
struct Order {
    files: Vec<(PathBuf, Box<[f32]>)>,
    names: Vec<String>,
    thresholds: Vec<f32>,
    model: String,
    hash: String,
}

/// What would change, or has changed.
#[derive(Debug, Default, PartialEq)]
struct Changes {
    /// Files with their changes, a line per field.
    changed: Vec<(String, Vec<String>)>,
    /// Files that stay as they are, and why.
    failed: Vec<(String, String)>,
    /// Files that have nothing to add.
    num_same: usize,
    /// The way back.
    journal: Option<PathBuf>,
}

/// What was taken back.
#[derive(Debug, Default, PartialEq)]
struct TakenBack {
    num_restored: usize,
    /// Changed since by somebody else: fields alone were taken back.
    num_fields: usize,
    failed: Vec<(String, String)>,
}

enum Step {
    /// Something is going on.
    Busy(&'static str, Receiver<Result<Found, String>>),
    Preview(Changes),
    Written(Changes),
    Undone(TakenBack),
    Failed(String),
}

enum Found {
    Preview(Changes),
    Written(Changes),
    Undone(TakenBack),
}

/// The window in which tags are written.
pub struct Writing {
    order: Order,
    step: Step,
}

impl Writing {
    /// Begins with what would change in the files that are shown. `None` if none of them has tags.
    pub fn begin(ctx: &egui::Context, queue: &Queue, rows: &[u32]) -> Option<Self> {
        let entries = rows.iter().map(|&row| &queue.entries()[row as usize]);
        let with_tags = entries.filter_map(|entry| {
            let clip = &entry.summary()?.clip_probabilities;
            (!clip.is_empty()).then(|| (entry.input.path.clone(), clip.clone()))
        });
        let files: Vec<_> = with_tags.collect();
        if files.is_empty() {
            return None;
        }
        let (tagger, vocabulary) = (queue.tagger(), &queue.tags().vocabulary);
        let order = Order {
            files,
            names: vocabulary.names().to_vec(),
            thresholds: vocabulary.thresholds().to_vec(),
            model: tagger.model.name.clone(),
            hash: tagger.model_hash.get(..HASH_LEN).unwrap_or(&tagger.model_hash).to_owned(),
        };
        let step = start(ctx, "looking at the files", {
            let order = order.clone();
            move || order.write(true).map(Found::Preview)
        });
        Some(Self { order, step })
    }

    /// Shows the window; false once it is closed.
    pub fn ui(&mut self, ctx: &egui::Context) -> bool {
        if let Step::Busy(_, receiver) = &self.step
            && let Ok(found) = receiver.try_recv()
        {
            self.step = match found {
                Ok(Found::Preview(changes)) => Step::Preview(changes),
                Ok(Found::Written(changes)) => Step::Written(changes),
                Ok(Found::Undone(taken_back)) => Step::Undone(taken_back),
                Err(why) => Step::Failed(why),
            };
        }
        let mut asked = None;
        let frame = egui::Frame::popup(&ctx.global_style()).inner_margin(theme::PAGE);
        let modal = egui::Modal::new(egui::Id::unique("write tags")).frame(frame).show(ctx, |ui| {
            ui.set_width(SIZE.x.min(ctx.content_rect().width() - 4.0 * theme::PAGE));
            ui.label(RichText::new("Write tags into files").text_style(theme::title()).color(theme::of(ui).strong));
            self.contents(ui);
            ui.add_space(theme::GAP);
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| asked = self.buttons(ui));
        });
        let is_busy = matches!(self.step, Step::Busy(..));
        match asked {
            Some(Asked::Close) => return false,
            Some(Asked::Write) => {
                let order = self.order.clone();
                self.step = start(ctx, "writing", move || order.write(false).map(Found::Written));
            }
            Some(Asked::Undo(journal)) => {
                self.step = start(ctx, "taking back", move || take_back(&journal).map(Found::Undone));
            }
            None if modal.should_close() && !is_busy => return false,
            None => {}
        }
        true
    }

    fn contents(&self, ui: &mut Ui) {
        let palette = theme::of(ui);
        match &self.step {
            Step::Busy(what, _) => {
                ui.label(RichText::new(format!("{what}: {}", files(self.order.files.len()))).color(palette.muted));
            }
            Step::Preview(changes) => {
                let text = format!(
                    "{} would change. Empty fields are filled; genres and moods of yours stay, and so does the sound.",
                    files(changes.changed.len())
                );
                ui.label(text);
                list(ui, changes);
            }
            Step::Written(changes) => {
                ui.label(format!("Tags are written into {}.", files(changes.changed.len())));
                if let Some(journal) = &changes.journal {
                    let text = format!("They can be taken back here, or later with earmark undo {}", shown(journal));
                    ui.add(egui::Label::new(RichText::new(text).color(palette.muted)).wrap().selectable(true));
                }
                list(ui, changes);
            }
            Step::Undone(taken_back) => {
                let mut text = format!("{} as before, byte for byte.", files(taken_back.num_restored));
                if taken_back.num_fields > 0 {
                    text += &format!(" {} changed since: our fields were taken back.", files(taken_back.num_fields));
                }
                ui.label(text);
                failures(ui, &taken_back.failed);
            }
            Step::Failed(why) => {
                ui.label(RichText::new(why).color(palette.danger));
            }
        }
    }

    fn buttons(&self, ui: &mut Ui) -> Option<Asked> {
        let palette = theme::of(ui);
        let mut asked = None;
        let is_busy = matches!(self.step, Step::Busy(..));
        let close = if matches!(self.step, Step::Preview(_)) { "Cancel" } else { "Close" };
        match &self.step {
            Step::Preview(changes) if !changes.changed.is_empty() => {
                let text = format!("Write into {}", files(changes.changed.len()));
                let button = egui::Button::new(RichText::new(text).color(palette.on_accent)).fill(palette.accent);
                if ui.add(button).clicked() {
                    asked = Some(Asked::Write);
                }
            }
            Step::Written(changes) => {
                if let Some(journal) = &changes.journal
                    && ui.button("Take back").clicked()
                {
                    asked = Some(Asked::Undo(journal.clone()));
                }
            }
            _ => {}
        }
        if ui.add_enabled(!is_busy, egui::Button::new(close)).clicked() {
            asked = Some(Asked::Close);
        }
        asked
    }
}

enum Asked {
    Close,
    Write,
    Undo(PathBuf),
}

/// Files with what changes in them.
fn list(ui: &mut Ui, changes: &Changes) {
    let palette = theme::of(ui);
    ui.add_space(theme::SMALL);
    let height = SIZE.y - 150.0;
    let area = egui::ScrollArea::vertical().max_height(height).min_scrolled_height(height).auto_shrink([false, true]);
    area.show(ui, |ui| {
        // More than anybody reads; the numbers are in the buttons.
        for (name, lines) in changes.changed.iter().take(200) {
            ui.label(RichText::new(name).color(palette.strong));
            for line in lines {
                ui.add(egui::Label::new(RichText::new(line).text_style(theme::small()).color(palette.muted)).wrap());
            }
        }
        if changes.num_same > 0 {
            ui.label(RichText::new(format!("{} with nothing to add", files(changes.num_same))).color(palette.muted));
        }
        failures(ui, &changes.failed);
    });
}

fn failures(ui: &mut Ui, failed: &[(String, String)]) {
    for (name, why) in failed.iter().take(200) {
        ui.label(RichText::new(format!("{name}: {why}")).color(theme::of(ui).danger));
    }
}

fn start(ctx: &egui::Context, what: &'static str, act: impl FnOnce() -> Result<Found> + Send + 'static) -> Step {
    let (sender, receiver) = mpsc::channel();
    let ctx = ctx.clone();
    let run = move || {
        let _ = sender.send(act().map_err(|error| format!("{error:#}")));
        ctx.request_repaint();
    };
    match thread::Builder::new().name("write-tags".to_owned()).spawn(run) {
        Ok(_) => Step::Busy(what, receiver),
        Err(error) => Step::Failed(format!("no thread could be started: {error}; end other programs")),
    }
}

impl Order {
    fn write(&self, dry_run: bool) -> Result<Changes> {
        let settings = WriteSettings { dry_run, overwrite: false, journal: None };
        let identity = Identity::new(&self.model, &self.hash);
        let mut writer = Writer::new(&settings, &self.names, &self.thresholds, identity)?;
        let mut changes = Changes::default();
        for (path, clip) in &self.files {
            let name = name_of(path);
            // Readers of tags are given anything; one that panics should cost a file, not the run.
            let written = contained(|| match writer.write(path, clip) {
                Ok(written) => Outcome::Done(written),
                Err(cause) => Outcome::Failed(format!("{cause:#}")),
            });
            match written {
                Outcome::Done(Written::Changed(fields)) => {
                    changes.changed.push((name, fields.iter().map(ToString::to_string).collect()));
                }
                Outcome::Done(Written::Unchanged) | Outcome::Abandoned => changes.num_same += 1,
                Outcome::Done(Written::OtherModel(model)) => {
                    changes.failed.push((name, format!("left with the tags of {model}")));
                }
                Outcome::Failed(cause) => changes.failed.push((name, cause)),
            }
        }
        changes.journal = writer.finish()?;
        Ok(changes)
    }
}

fn take_back(journal: &Path) -> Result<TakenBack> {
    let mut reader = Reader::open(journal)?;
    let mut taken_back = TakenBack::default();
    for index in (0..reader.num_files()).rev() {
        let record = reader.record(index)?;
        let undone = contained(|| match undo(&record, false) {
            Ok(undone) => Outcome::Done(undone),
            Err(cause) => Outcome::Failed(format!("{cause:#}")),
        });
        match undone {
            Outcome::Done(Undone::Restored | Undone::AsBefore) | Outcome::Abandoned => taken_back.num_restored += 1,
            Outcome::Done(Undone::Fields { .. }) => taken_back.num_fields += 1,
            Outcome::Failed(cause) => taken_back.failed.push((name_of(&record.path), cause)),
        }
    }
    Ok(taken_back)
}

fn name_of(path: &Path) -> String {
    shown(path.file_name().unwrap_or(path.as_os_str()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Copies a fixture, which has no tags of ours, and returns it with what it is to get.
    fn order(folder: &Path) -> Order {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/audio/vbr.mp3");
        let path = folder.join("song.mp3");
        std::fs::copy(fixture, &path).expect("copied");
        let broken = folder.join("broken.mp3");
        std::fs::write(&broken, "no music").expect("written");
        Order {
            files: vec![(path, [0.9, 0.8, 0.1].into()), (broken, [0.9, 0.8, 0.1].into())],
            names: ["rock", "guitar", "harp"].map(str::to_owned).to_vec(),
            thresholds: vec![0.5; 3],
            model: "test".to_owned(),
            hash: "12345678".to_owned(),
        }
    }

    #[test]
    fn what_is_previewed_is_written_and_taken_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let order = order(folder.path());
        let song = order.files[0].0.clone();
        let before = std::fs::read(&song).expect("readable");
        let preview = order.write(true).expect("possible");
        assert_eq!(std::fs::read(&song).expect("readable"), before, "a preview writes nothing");
        assert_eq!((preview.changed.len(), preview.failed.len(), &preview.journal), (1, 1, &None));
        assert!(preview.changed[0].1.iter().any(|line| line.contains("GENRE") && line.contains("Rock")), "{preview:?}");

        // The way back lies where the test can take it away.
        let journal = folder.path().join("tags.journal");
        let settings = WriteSettings { dry_run: false, overwrite: false, journal: Some(journal.clone()) };
        let identity = Identity::new(&order.model, &order.hash);
        let mut writer = Writer::new(&settings, &order.names, &order.thresholds, identity).expect("possible");
        writer.write(&song, &order.files[0].1).expect("written");
        assert_eq!(writer.finish().expect("closed"), Some(journal.clone()));
        assert_ne!(std::fs::read(&song).expect("readable"), before);
        assert_eq!(take_back(&journal).expect("readable"), TakenBack { num_restored: 1, ..TakenBack::default() });
        assert_eq!(std::fs::read(&song).expect("readable"), before);
    }
}
