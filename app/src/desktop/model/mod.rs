//! The page of the model: what it is, how good it is, where it runs, and others in its place.
//!
//! ```text
//! model file's metadata -> Card -> page
//! engine in use -> self-test, on a thread -> what it found -> page
//! a file chosen or dropped -> LoadModel -> the window loads it; one that is broken is told, and the old one stays
//! ```

mod card;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use earmark_core::engine::{CpuEngine, Hop, self_test};
use eframe::egui::{self, Align, Layout, RichText, Ui, vec2};
use egui_extras::{Column, TableBuilder};

use super::asking::{Asking, Reply};
use super::context::{Command, Loaded, Shared};
use super::dialog::{Request, Wanted};
use super::theme;
use card::{Card, Quality, TagRow};

/// Height of a row of the table of tags.
const ROW: f32 = 26.0;

/// Rows of the table of tags that are seen at a time, at most.
const ROWS_SEEN: f32 = 14.0;

/// What a self-test found.
#[derive(Clone, Debug, PartialEq)]
struct Tested {
    /// Largest difference of a logit from what it should be.
    difference: f32,
    windows_per_s: f64,
}

/// The self-test of the engine in use.
enum Test {
    Running(Receiver<Result<Tested, String>>),
    Done(Result<Tested, String>),
}

/// A loaded model with its card and its test.
struct Shown {
    loaded: Arc<Loaded>,
    card: Card,
    test: Test,
}

/// The page.
#[derive(Default)]
pub struct ModelPage {
    asking: Asking<()>,
    shown: Option<Shown>,
}

impl ModelPage {
    /// What happens whether or not it is seen.
    pub fn logic(&mut self, _ctx: &egui::Context, shared: &mut Shared) {
        if let Some(((), reply)) = self.asking.poll() {
            match reply {
                Reply::Closed => {}
                Reply::Impossible(why) => shared.error(why),
                Reply::Chosen(paths) => load(paths, shared),
            }
        }
        if let Some(Shown { test, .. }) = &mut self.shown
            && let Test::Running(found) = test
            && let Ok(found) = found.try_recv()
        {
            *test = Test::Done(found);
        }
    }

    /// Shows it. The first time it is seen, the engine is tested.
    pub fn ui(&mut self, ui: &mut Ui, shared: &mut Shared) {
        let dropped: Vec<PathBuf> =
            ui.input(|input| input.raw.dropped_files.iter().map(|file| file.path().to_owned()).collect());
        load(dropped, shared);
        let control = egui::KeyboardShortcut::new(egui::Modifiers::COMMAND, egui::Key::O);
        if ui.input_mut(|input| input.consume_shortcut(&control)) {
            self.ask(ui.ctx(), shared);
        }
        if self.shown.as_ref().is_none_or(|shown| !Arc::ptr_eq(&shown.loaded, &shared.loaded)) {
            let loaded = Arc::clone(&shared.loaded);
            let test = Test::start(ui.ctx(), Arc::clone(&loaded));
            self.shown = Some(Shown { card: Card::new(&loaded.model, loaded.file.as_deref()), loaded, test });
        }
        self.head(ui, shared);
        let Some(shown) = &mut self.shown else { return };
        egui::ScrollArea::vertical().auto_shrink([false, false]).show(ui, |ui| {
            ui.set_max_width(1_000.0);
            summary(ui, &shown.card);
            ui.add_space(theme::SMALL);
            ui.columns(2, |columns| {
                device(&mut columns[0], shown);
                quality(&mut columns[1], &shown.card);
            });
            ui.add_space(theme::SMALL);
            tags(ui, &shown.card);
            ui.add_space(theme::SMALL);
            facts(ui, "How it was trained", &shown.card.training);
            facts(ui, "All figures", &shown.card.metrics);
        });
    }

    fn head(&mut self, ui: &mut Ui, shared: &mut Shared) {
        let palette = theme::of(ui);
        ui.horizontal(|ui| {
            ui.label(RichText::new("Model").text_style(theme::title()).color(palette.strong));
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                ui.add_enabled_ui(!shared.is_loading, |ui| {
                    if ui.button("Load another model").on_hover_text("Ctrl O, or drop a model file here").clicked() {
                        self.ask(ui.ctx(), shared);
                    }
                    if shared.loaded.file.is_some() && ui.button("Use the built-in model").clicked() {
                        shared.send(Command::LoadModel(None));
                    }
                });
                if shared.is_loading {
                    ui.label(RichText::new("loading a model").color(palette.muted));
                }
            });
        });
        ui.add_space(theme::SMALL);
    }

    fn ask(&mut self, ctx: &egui::Context, shared: &Shared) {
        let folder = shared.settings.folders.model.clone();
        let request = Request { title: "Load a model", wanted: Wanted::File(&["safetensors"]), folder };
        self.asking.ask(ctx, shared, request, ());
    }
}

/// Asks the window to load the first of `paths`.
fn load(paths: Vec<PathBuf>, shared: &mut Shared) {
    let Some(path) = paths.into_iter().next() else { return };
    shared.settings.folders.model = path.parent().map(Path::to_owned);
    shared.send(Command::LoadModel(Some(path)));
}

impl Test {
    /// Tests the engine in use on a thread.
    fn start(ctx: &egui::Context, loaded: Arc<Loaded>) -> Self {
        let (sender, found) = mpsc::channel();
        let ctx = ctx.clone();
        let run = move || {
            // Nobody waits any more when another model is in use.
            let _ = sender.send(test(&loaded));
            ctx.request_repaint();
        };
        match thread::Builder::new().name("self-test".to_owned()).spawn(run) {
            Ok(_) => Self::Running(found),
            Err(error) => Self::Done(Err(format!("no thread could be started: {error}; end other programs"))),
        }
    }
}

/// A device against the CPU engine; the CPU engine, which is the reference, against itself without shared work.
fn test(loaded: &Loaded) -> Result<Tested, String> {
    let engine = &*loaded.engine;
    let shared = self_test::compare_with_plain(engine, Hop::DEFAULT)?;
    let difference = if loaded.device.starts_with("cpu") {
        shared
    } else {
        let cpu = CpuEngine::new(&loaded.model, 1).map_err(|error| error.to_string())?;
        shared.max(self_test::compare(engine, &cpu)?)
    };
    let windows_per_s = self_test::windows_per_sec(engine, Hop::DEFAULT).map_err(|error| error.to_string())?;
    Ok(Tested { difference, windows_per_s })
}

/// A group with a heading.
fn group(ui: &mut Ui, name: &str, contents: impl FnOnce(&mut Ui)) {
    theme::card(ui).show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.label(RichText::new(name).text_style(theme::caption()).color(theme::of(ui).muted));
        contents(ui);
    });
}

fn summary(ui: &mut Ui, card: &Card) {
    theme::card(ui).show(ui, |ui| {
        ui.set_width(ui.available_width());
        let palette = theme::of(ui);
        ui.label(RichText::new(&card.name).text_style(theme::big()).color(palette.strong));
        ui.label(RichText::new(&card.origin).color(palette.muted));
        ui.add_space(theme::SMALL);
        rows(ui, "summary", &card.summary);
    });
}

/// Names and values side by side.
fn rows(ui: &mut Ui, id: &str, rows: &[(String, String)]) {
    let palette = theme::of(ui);
    egui::Grid::new(id).num_columns(2).spacing([theme::WIDE, theme::SMALL]).min_row_height(0.0).show(ui, |ui| {
        for (name, value) in rows {
            ui.label(RichText::new(name).color(palette.muted));
            ui.add(egui::Label::new(RichText::new(value).color(palette.text)).wrap().selectable(true));
            ui.end_row();
        }
    });
}

/// Facts that are shown when they are asked for.
fn facts(ui: &mut Ui, name: &str, facts: &[(String, String)]) {
    if facts.is_empty() {
        return;
    }
    let head = RichText::new(name).color(theme::of(ui).text);
    egui::CollapsingHeader::new(head).id_salt(name).show(ui, |ui| rows(ui, name, facts));
}

fn quality(ui: &mut Ui, card: &Card) {
    group(ui, "How good it is", |ui| {
        let palette = theme::of(ui);
        if card.quality.is_empty() {
            ui.label(RichText::new("The file says nothing about it.").color(palette.muted));
        }
        for Quality { split, roc_auc, average_precision, basis } in &card.quality {
            ui.horizontal(|ui| {
                ui.label(RichText::new(split).color(palette.muted));
                ui.label(RichText::new(format!("ROC-AUC {roc_auc:.3}")).color(palette.strong));
                ui.label(RichText::new(format!("average precision {average_precision:.3}")).color(palette.strong));
            });
            ui.label(RichText::new(basis).text_style(theme::small()).color(palette.muted));
        }
    });
}

fn device(ui: &mut Ui, shown: &mut Shown) {
    let mut again = false;
    group(ui, "Device in use", |ui| {
        let palette = theme::of(ui);
        ui.label(RichText::new(&shown.loaded.device).color(palette.strong));
        match &shown.test {
            Test::Running(_) => {
                ui.label(RichText::new("self-test running").color(palette.muted));
            }
            Test::Done(Ok(Tested { difference, windows_per_s })) => {
                let passed = match *difference {
                    0.0 => "Self-test passed: every logit is as it should be".to_owned(),
                    difference => format!("Self-test passed: no logit is off by more than {difference:.0e}"),
                };
                ui.label(RichText::new(passed).color(palette.accent));
                let faster = windows_per_s * Hop::DEFAULT.duration().as_secs_f64();
                let speed = format!("{windows_per_s:.0} windows per second: {faster:.0} x real time on one thread");
                ui.label(RichText::new(speed).color(palette.text));
            }
            Test::Done(Err(why)) => {
                ui.label(RichText::new(format!("Self-test failed: {why}")).color(palette.danger));
            }
        }
        if matches!(shown.test, Test::Done(_)) {
            ui.horizontal(|ui| again = ui.button("Test again").clicked());
        }
    });
    if again {
        shown.test = Test::start(ui.ctx(), Arc::clone(&shown.loaded));
    }
}

/// Heads of the table of tags.
const HEADS: [&str; 3] = ["Tag", "Certain from", "Right, when said"];

fn tags(ui: &mut Ui, card: &Card) {
    let name = format!("{} tags", card.tags.len());
    group(ui, &name, |ui| {
        if let Some(note) = &card.calibration {
            ui.label(RichText::new(note).text_style(theme::small()).color(theme::of(ui).muted));
        }
        ui.spacing_mut().item_spacing = vec2(theme::GAP, 0.0);
        let height = ROW * (card.tags.len() as f32).min(ROWS_SEEN);
        TableBuilder::new(ui)
            .id_salt("tags")
            .cell_layout(Layout::left_to_right(Align::Center))
            .column(Column::initial(170.0).at_least(90.0).clip(true))
            .column(Column::exact(110.0))
            .column(Column::remainder().clip(true))
            .min_scrolled_height(height)
            .max_scroll_height(height)
            .header(ROW, |mut row| {
                for head in HEADS {
                    row.col(|ui| {
                        ui.label(RichText::new(head).text_style(theme::caption()).color(theme::of(ui).muted));
                    });
                }
            })
            .body(|body| {
                body.rows(ROW, card.tags.len(), |mut row| {
                    let tag = &card.tags[row.index()];
                    tag_row(&mut row, tag);
                });
            });
    });
}

fn tag_row(row: &mut egui_extras::TableRow<'_, '_>, tag: &TagRow) {
    row.col(|ui| {
        ui.label(RichText::new(&tag.name).color(theme::of(ui).strong));
    });
    row.col(|ui| {
        ui.label(&tag.threshold);
    });
    row.col(|ui| {
        ui.label(RichText::new(&tag.worth).color(theme::of(ui).muted));
    });
}
