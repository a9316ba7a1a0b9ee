//! The page of files: they are dropped, tagged, searched, opened, played and exported.
//!
//! ```text
//! drop, dialog -> Queue -> rows (searched, ordered) -> table -> opened track: taggram, player
//!                   '------------------------------------------> export
//! ```
//!
//! The queue and the list know nothing of a screen; the player is core's. What takes time (looking through folders, tagging,
//! exporting, a dialog) runs on threads that wake the window.

mod export;
mod list;
mod queue;
mod table;
#[cfg(test)]
mod tests;
mod track;
mod writing;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use directories::ProjectDirs;
use earmark_core::engine::{self, DeviceChoice, Notify};
use earmark_core::live::{Clock, OutputHost, Player, SystemClock, SystemHost};
use eframe::egui::{self, Align, Key, KeyboardShortcut, Layout, Modifiers, RichText, Ui, vec2};

use super::asking::{Asking, Reply};
use super::context::{Command, Loaded, Shared, Toast, Weight};
use super::dialog::{Request, Wanted};
use super::theme;
use crate::args::Format;
use crate::inputs::shown;
use crate::progress::clock;
use export::{Export, FORMATS};
use list::{Column, Order, Search};
use queue::{Queue, Tagger};
use table::Table;
use track::Track;
use writing::Writing;

/// Time between two looks at the queue while it is running: rows move no more often.
const ROWS_EVERY_SECS: f64 = 0.2;

/// Frames per second of a playhead.
const PLAYHEAD: Duration = Duration::from_millis(33);

/// What a dialog was opened for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Purpose {
    Add,
    Export(Format),
}

/// Puts a model on a device for files.
type MakeTagger = dyn Fn(&Arc<Loaded>) -> Tagger + Send + Sync;

/// What the page has from outside, so that a test can give it.
struct Outside {
    host: Arc<dyn OutputHost>,
    clock: Arc<dyn Clock>,
    cache: PathBuf,
    make_tagger: Arc<MakeTagger>,
}

impl Default for Outside {
    fn default() -> Self {
        let cache = ProjectDirs::from("", "", "earmark").map(|folders| folders.cache_dir().to_owned());
        Self {
            host: Arc::new(SystemHost::new()),
            clock: Arc::new(SystemClock::new()),
            cache: cache.unwrap_or_else(|| std::env::temp_dir().join("earmark")),
            make_tagger: Arc::new(tagger),
        }
    }
}

/// The model in use, for as many threads as there are processors.
fn tagger(loaded: &Arc<Loaded>) -> Tagger {
    let on_device = Arc::clone(loaded);
    Tagger {
        model: loaded.model.metadata.clone(),
        model_hash: loaded.blake3.clone(),
        make_engine: Arc::new(move |work| {
            // Whatever becomes of a device, the engine changes over to the CPU by itself.
            let notify: Notify = Arc::new(|_| ());
            engine::open(&on_device.model, DeviceChoice::Auto, work, &notify).map_err(|error| error.to_string())
        }),
    }
}

/// What there is once a model is known.
struct Desk {
    loaded: Arc<Loaded>,
    queue: Queue,
}

/// The page.
#[derive(Default)]
pub struct FilesPage {
    outside: Outside,
    desk: Option<Desk>,
    to_add: Vec<PathBuf>,
    asking: Asking<Purpose>,
    search_text: String,
    search: Search,
    order: Order,
    /// Numbers of the entries that are shown.
    rows: Vec<u32>,
    /// Of which queue, search and order, and when they were found.
    rows_of: Option<(u64, Search, Order)>,
    rows_at: f64,
    table: Table,
    track: Option<Track>,
    player: Option<Player>,
    exports: Option<Receiver<(PathBuf, usize, Result<()>)>>,
    focus_search: bool,
    writing: Option<Writing>,
}

impl Default for Order {
    fn default() -> Self {
        Self { by: Column::Added, reverse: false }
    }
}

impl FilesPage {
    /// With everything from outside given.
    #[cfg(test)]
    fn with(outside: Outside) -> Self {
        Self { outside, ..Self::default() }
    }

    /// Tags files and what lies in folders, as soon as there is a model.
    pub fn add(&mut self, paths: Vec<PathBuf>) {
        self.to_add.extend(paths);
    }

    /// What happens whether or not it is seen.
    pub fn logic(&mut self, ctx: &egui::Context, shared: &mut Shared) {
        self.take_model(ctx, shared);
        let Some(desk) = &mut self.desk else { return };
        desk.queue.add(std::mem::take(&mut self.to_add));
        desk.queue.poll();
        desk.queue.take_notices().into_iter().for_each(|notice| shared.error(notice));
        if let Some((purpose, reply)) = self.asking.poll() {
            match (purpose, reply) {
                (_, Reply::Closed) => {}
                (_, Reply::Impossible(why)) => shared.error(why),
                (Purpose::Add, Reply::Chosen(paths)) => {
                    shared.settings.folders.music = paths.first().and_then(|path| path.parent()).map(Path::to_owned);
                    shared.send(Command::SaveSettings);
                    desk.queue.add(paths);
                }
                (Purpose::Export(format), Reply::Chosen(paths)) => {
                    if let Some(path) = paths.into_iter().next() {
                        shared.settings.folders.exports = path.parent().map(Path::to_owned);
                        shared.send(Command::SaveSettings);
                        let exported = start_export(&desk.queue, &self.rows, format, path, ctx);
                        match exported {
                            Ok(exports) => self.exports = Some(exports),
                            Err(why) => shared.error(why),
                        }
                    }
                }
            }
        }
        if let Some(Ok((path, count, written))) = self.exports.as_ref().map(Receiver::try_recv) {
            self.exports = None;
            match written {
                Ok(()) => {
                    let text = format!("{} written to {}", files(count), shown(&path));
                    shared.send(Command::Tell(Toast { weight: Weight::Note, text, file: Some(path) }));
                }
                Err(error) => shared.error(format!("{error:#}")),
            }
        }
        if self.player.as_ref().is_some_and(|player| player.state().is_playing()) {
            ctx.request_repaint_after(PLAYHEAD);
        }
    }

    /// Follows the model in use.
    fn take_model(&mut self, ctx: &egui::Context, shared: &mut Shared) {
        if self.desk.as_ref().is_some_and(|desk| Arc::ptr_eq(&desk.loaded, &shared.loaded)) {
            return;
        }
        let loaded = Arc::clone(&shared.loaded);
        let tagger = (self.outside.make_tagger)(&loaded);
        let taken = if let Some(desk) = &mut self.desk {
            let before = desk.queue.counts().done;
            desk.loaded = loaded;
            let taken = desk.queue.set_tagger(tagger);
            if desk.queue.counts().done != before {
                self.track = None;
            }
            taken
        } else {
            let wake = ctx.clone();
            let queue = Queue::new(tagger, self.outside.cache.clone(), Arc::new(move || wake.request_repaint()));
            queue.map(|queue| self.desk = Some(Desk { loaded, queue }))
        };
        if let Err(error) = taken {
            shared.error(format!("files cannot be tagged with this model: {error:#}"));
        }
    }

    /// Shows it.
    pub fn ui(&mut self, ui: &mut Ui, shared: &mut Shared) {
        let dropped: Vec<PathBuf> =
            ui.input(|input| input.raw.dropped_files.iter().map(|file| file.path().to_owned()).collect());
        if let Some(desk) = &mut self.desk {
            desk.queue.add(dropped);
        }
        if self.writing.is_none() {
            self.keys(ui, shared);
        }
        self.refresh_rows(ui);
        self.head(ui, shared);
        let Some(desk) = &mut self.desk else { return };
        if desk.queue.entries().is_empty() && !desk.queue.is_finding() {
            empty(ui);
        } else {
            if let Some(track) = &mut self.track {
                let state = self.player.as_ref().map(Player::state);
                let wish = track.panel(ui, &desk.queue, state.as_ref());
                self.obey(wish, shared);
            }
            if let Some(desk) = &self.desk {
                let desk_is_finding = desk.queue.is_finding();
                let acted = self.table.ui(ui, &desk.queue, &self.rows, &self.search, &mut self.order);
                if let Some(index) = acted {
                    self.open(index, shared);
                }
                if self.rows.is_empty() && !desk_is_finding {
                    nothing_found(ui);
                }
            }
        }
        if !ui.input(|input| input.raw.hovered_files.is_empty()) {
            drop_here(ui);
        }
        let ctx = ui.ctx().clone();
        if self.writing.as_mut().is_some_and(|writing| !writing.ui(&ctx)) {
            self.writing = None;
        }
    }

    /// Finds the rows anew when something has changed, while a run goes on not too often.
    fn refresh_rows(&mut self, ui: &Ui) {
        let Some(desk) = &self.desk else { return };
        let now = ui.input(|input| input.time);
        let wanted = (desk.queue.version(), self.search.clone(), self.order);
        if self.rows_of.as_ref() == Some(&wanted) {
            return;
        }
        let only_version =
            self.rows_of.as_ref().is_some_and(|(_, search, order)| (search, order) == (&wanted.1, &wanted.2));
        let is_early = now - self.rows_at < ROWS_EVERY_SECS;
        if only_version && is_early && desk.queue.is_running() && !self.rows.is_empty() {
            ui.ctx().request_repaint_after(Duration::from_secs_f64(ROWS_EVERY_SECS));
            return;
        }
        self.rows = list::rows(desk.queue.entries(), &self.search, self.order, desk.queue.tags());
        (self.rows_of, self.rows_at) = (Some(wanted), now);
    }

    fn keys(&mut self, ui: &mut Ui, shared: &mut Shared) {
        let control = |key| KeyboardShortcut::new(Modifiers::COMMAND, key);
        let pressed = |shortcut: KeyboardShortcut| ui.input_mut(|input| input.consume_shortcut(&shortcut));
        if pressed(control(Key::O)) {
            self.ask(ui.ctx(), Wanted::Files(&[]), Purpose::Add, shared);
        }
        if pressed(control(Key::F)) {
            self.focus_search = true;
        }
        let plain = |key| ui.input_mut(|input| input.consume_key(Modifiers::NONE, key));
        // A field that is typed into has all keys but this one, a button that is focused its space and enter.
        if ui.ctx().text_edit_focused() {
            return;
        }
        if self.track.is_some() && plain(Key::Escape) {
            self.close(shared);
        }
        let is_free = ui.memory(|memory| memory.focused().is_none_or(|id| self.table.is(id)));
        let step = |key| plain(key).then_some(());
        let page = self.table.rows_seen().max(2) as isize - 1;
        let moves = [
            (Key::ArrowDown, 1),
            (Key::ArrowUp, -1),
            (Key::PageDown, page),
            (Key::PageUp, -page),
            (Key::Home, isize::MIN),
            (Key::End, isize::MAX),
        ];
        for (key, by) in moves {
            if is_free && step(key).is_some() {
                self.table.step(by, &self.rows);
            }
        }
        if is_free
            && step(Key::Enter).is_some()
            && let Some(index) = self.table.selected()
        {
            self.open(index, shared);
        }
        if is_free && self.track.is_some() && step(Key::Space).is_some() {
            self.obey(Some(track::Wish::PlayOrPause), shared);
        }
    }

    /// Opens the track of an entry, if it has a result.
    fn open(&mut self, index: usize, shared: &mut Shared) {
        let Some(desk) = &self.desk else { return };
        if self.track.as_ref().is_some_and(|track| track.index == index) {
            return;
        }
        let Some(track) = Track::open(&desk.queue, index) else { return };
        let player = match self.player.take() {
            Some(player) => player,
            None => match Player::start(Arc::clone(&self.outside.host), Arc::clone(&self.outside.clock)) {
                Ok(player) => player,
                Err(error) => {
                    shared.error(format!("nothing can be played: {error}; end other programs"));
                    self.track = Some(track);
                    return;
                }
            },
        };
        player.load(track.path.clone());
        (self.player, self.track) = (Some(player), Some(track));
    }

    fn close(&mut self, _shared: &mut Shared) {
        self.track = None;
        if let Some(player) = &self.player {
            player.unload();
        }
    }

    fn obey(&mut self, wish: Option<track::Wish>, shared: &mut Shared) {
        let (Some(wish), Some(player)) = (wish, &self.player) else {
            if wish == Some(track::Wish::Close) {
                self.close(shared);
            }
            return;
        };
        match wish {
            track::Wish::PlayOrPause if player.state().is_playing() => player.pause(),
            track::Wish::PlayOrPause => player.play(),
            track::Wish::Seek(secs) => player.seek(secs),
            track::Wish::Volume(volume) => player.set_volume(volume),
            track::Wish::Close => self.close(shared),
        }
    }

    fn ask(&mut self, ctx: &egui::Context, wanted: Wanted, purpose: Purpose, shared: &Shared) {
        let folders = &shared.settings.folders;
        let (title, folder) = match purpose {
            Purpose::Add => ("Add music", &folders.music),
            Purpose::Export(_) => ("Export", &folders.exports),
        };
        self.asking.ask(ctx, shared, Request { title, wanted, folder: folder.clone() }, purpose);
    }

    /// Title, what can be done, the search, and how far the run is.
    fn head(&mut self, ui: &mut Ui, shared: &mut Shared) {
        let palette = theme::of(ui);
        let mut asked = None;
        ui.horizontal(|ui| {
            ui.label(RichText::new("Files").text_style(theme::title()).color(palette.strong));
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                asked = self.actions(ui);
            });
        });
        if let Some((wanted, purpose)) = asked {
            self.ask(ui.ctx(), wanted, purpose, shared);
        }
        let Some(desk) = &mut self.desk else { return };
        let counts = desk.queue.counts();
        if counts.all == 0 {
            return;
        }
        ui.horizontal(|ui| {
            let hint = "Search names and tags: sitar -vocals, rock>0.6";
            let edit = egui::TextEdit::singleline(&mut self.search_text)
                .hint_text(hint)
                .margin(egui::Margin::symmetric(10, 7));
            let width = (ui.available_width() - 250.0).clamp(160.0, 520.0);
            let response = ui.add_sized(vec2(width, theme::CONTROL), edit).accessible_name("Search names and tags");
            if std::mem::take(&mut self.focus_search) {
                response.request_focus();
            }
            if response.changed() {
                self.search = Search::new(&self.search_text);
            }
            let told = if self.rows.len() == counts.all {
                told(&counts)
            } else {
                format!("{} of {} files", self.rows.len(), counts.all)
            };
            ui.label(RichText::new(told).color(palette.muted));
        });
        let is_running = desk.queue.is_running() || desk.queue.is_finding();
        if is_running {
            let (share, text) = progress(&desk.queue);
            let bar = egui::ProgressBar::new(share).desired_height(theme::BAR).fill(palette.accent);
            ui.add(bar).accessible_name(format!("Progress: {text}"));
            ui.label(RichText::new(text).text_style(theme::small()).color(palette.muted));
        } else if counts.stopped > 0 {
            ui.horizontal(|ui| {
                let text = format!("{} not tagged yet.", files(counts.stopped));
                ui.label(RichText::new(text).color(palette.warning));
                if ui.button("Tag them").clicked() {
                    desk.queue.resume();
                }
            });
        }
        ui.add_space(theme::SMALL);
    }

    /// Buttons, from the right.
    fn actions(&mut self, ui: &mut Ui) -> Option<(Wanted, Purpose)> {
        let mut asked = None;
        let desk = self.desk.as_mut()?;
        let counts = desk.queue.counts();
        let primary = theme::of(ui);
        let add = egui::Button::new(RichText::new("Add files").color(primary.on_accent)).fill(primary.accent);
        if ui.add(add).on_hover_text("Ctrl O").accessible_name("Add files").clicked() {
            asked = Some((Wanted::Files(&[]), Purpose::Add));
        }
        if ui.button("Add folder").clicked() {
            asked = Some((Wanted::Folder, Purpose::Add));
        }
        if counts.all == 0 {
            return asked;
        }
        ui.add_enabled_ui(counts.done > 0 && self.exports.is_none(), |ui| {
            let export = ui.menu_button("Export", |ui| {
                let what = if self.rows.len() == counts.all {
                    "All files as".to_owned()
                } else {
                    format!("{} as", files(self.rows.len()))
                };
                ui.label(RichText::new(what).text_style(theme::caption()).color(theme::of(ui).muted));
                for (format, name, ending) in FORMATS {
                    if ui.button(name).clicked() {
                        asked = Some((Wanted::Place(format!("earmark.{ending}")), Purpose::Export(format)));
                        ui.close();
                    }
                }
            });
            export.response.on_hover_text("Write what is shown to a file");
            if ui
                .button("Write tags")
                .on_hover_text("Into the files that are shown; first you see what changes")
                .clicked()
            {
                self.writing = Writing::begin(ui.ctx(), &desk.queue, &self.rows);
            }
        });
        if desk.queue.is_running() {
            if ui.button("Stop").on_hover_text("What is done stays").clicked() {
                desk.queue.stop();
            }
        } else if ui.button("Clear").on_hover_text("Empty the list; no file is touched").clicked() {
            desk.queue.clear();
            self.track = None;
            if let Some(player) = &self.player {
                player.unload();
            }
        }
        asked
    }
}

/// Writes what is shown, on a thread.
fn start_export(
    queue: &Queue,
    rows: &[u32],
    format: Format,
    path: PathBuf,
    ctx: &egui::Context,
) -> Result<Receiver<(PathBuf, usize, Result<()>)>, String> {
    let export = Export::new(queue, rows, format).ok_or("there is nothing to export; tag files first")?;
    let (sender, receiver): (Sender<(PathBuf, usize, Result<()>)>, _) = mpsc::channel();
    let ctx = ctx.clone();
    let write = move || {
        let written = export.write(&path);
        let _ = sender.send((path, export.num_results(), written));
        ctx.request_repaint();
    };
    let spawned = thread::Builder::new().name("export".to_owned()).spawn(write);
    spawned.map(|_| receiver).map_err(|error| format!("no thread could be started: {error}; end other programs"))
}

fn files(count: usize) -> String {
    format!("{count} {}", if count == 1 { "file" } else { "files" })
}

/// What has become of the files, in a few words.
fn told(counts: &queue::Counts) -> String {
    let mut text = files(counts.all);
    if counts.failed > 0 {
        text += &format!(", {} failed", counts.failed);
    }
    text
}

/// Share that is done, and words about it.
fn progress(queue: &Queue) -> (f32, String) {
    let Some(now) = queue.progress() else {
        let text = if queue.is_finding() { "looking through folders" } else { "starting" };
        return (0.0, text.to_owned());
    };
    let left = now.time_left_s.map(|secs| format!(", {} left", clock(secs))).unwrap_or_default();
    let text = format!(
        "{} of {}, {} of audio, {:.0} x real time{left}",
        now.files_done,
        files(now.files_total),
        clock(now.audio_s),
        now.speed
    );
    let share = match now.time_left_s {
        Some(left) if now.wall_s + left > 0.0 => now.wall_s / (now.wall_s + left),
        _ => now.files_done as f64 / now.files_total.max(1) as f64,
    };
    (share as f32, text)
}

/// What is shown before there are files.
fn empty(ui: &mut Ui) {
    let palette = theme::of(ui);
    let rect = ui.available_rect_before_wrap();
    let frame = rect.shrink2(vec2(0.0, theme::WIDE));
    dashed(ui, frame, palette.line);
    ui.scope_builder(egui::UiBuilder::new().max_rect(frame).layout(Layout::top_down(Align::Center)), |ui| {
        ui.add_space((frame.height() / 2.0 - 52.0).max(theme::WIDE));
        ui.label(RichText::new("Drop music, videos or folders here").text_style(theme::big()).color(palette.strong));
        ui.label(RichText::new("They are listened to on this machine; no file is changed.").color(palette.muted));
    });
}

/// What is shown where a search finds nothing.
fn nothing_found(ui: &Ui) {
    let (rect, palette) = (ui.max_rect(), theme::of(ui));
    let font = egui::TextStyle::Body.resolve(ui.style());
    let at = egui::pos2(rect.center().x, rect.top() + rect.height() / 2.0);
    ui.painter().text(
        at,
        egui::Align2::CENTER_CENTER,
        "No file has that in its name or its tags.",
        font,
        palette.muted,
    );
}

/// What is shown while files hover over the window.
fn drop_here(ui: &mut Ui) {
    let palette = theme::of(ui);
    let rect = ui.max_rect();
    let painter = ui.ctx().layer_painter(egui::LayerId::new(egui::Order::Foreground, egui::Id::unique("drop")));
    painter.rect_filled(rect, f32::from(theme::CARD_ROUND), palette.ground.gamma_multiply(0.85));
    painter.rect_stroke(
        rect.shrink(2.0),
        f32::from(theme::CARD_ROUND),
        egui::Stroke::new(2.0, palette.accent),
        egui::StrokeKind::Inside,
    );
    let font = theme::big().resolve(ui.style());
    painter.text(rect.center(), egui::Align2::CENTER_CENTER, "Let go to tag them", font, palette.strong);
}

fn dashed(ui: &Ui, rect: egui::Rect, color: egui::Color32) {
    let corners = [rect.left_top(), rect.right_top(), rect.right_bottom(), rect.left_bottom(), rect.left_top()];
    ui.painter().extend(egui::Shape::dashed_line(&corners, egui::Stroke::new(1.5, color), 7.0, 6.0));
}
