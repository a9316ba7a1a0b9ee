//! The live page: what is heard now, over the last minute, and over the set.
//!
//! ```text
//! source | listen |                    state | record | exports
//! level  | what is heard now | taggram of the last minute
//! timeline of the set
//! ```
//!
//! [`Listener`] has the worker and everything that takes time; the page draws its [`View`](view::View).

mod listener;
mod meter;
mod now;
mod picker;
mod record;
#[cfg(test)]
mod tests;
mod timeline;
mod view;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result};
use earmark_core::live::{
    CaptureHost, Clock, DeviceKind, RecordOptions, SourceChoice, SourceState, SystemClock, SystemHost,
};
use eframe::egui::{self, Color32, Key, Modifiers, Rect, RichText, Ui, pos2, vec2};

use super::context::{Command, Loaded, Shared, Toast, Weight};
use super::dialog::{Answer, Request, Wanted};
use super::taggram::clock;
use super::theme;
use super::widgets::{Icon, Look, action, caption_row, card_in, dot, small};
use crate::commands::live::remembered;
use listener::{Listener, Listing};
use picker::Picked;
use record::Export;
pub use record::settings_ui as recording_settings_ui;
use view::{Phase, View};

/// Seconds that the taggram shows.
const TAGGRAM_SECS: f64 = 60.0;

/// Endings of files that can be listened to, for the dialog; others can be chosen too.
const ENDINGS: &[&str] =
    &["wav", "flac", "mp3", "ogg", "opus", "m4a", "aac", "aiff", "mka", "mkv", "mp4", "mov", "webm"];

/// Heights and widths of the parts.
const TIMELINE: std::ops::RangeInclusive<f32> = 128.0..=200.0;
const NOW: std::ops::RangeInclusive<f32> = 290.0..=420.0;
const METER: f32 = 58.0;
const LEAST_UPPER: f32 = 230.0;
const STATUS: f32 = 340.0;

/// The page.
pub struct LivePage {
    listener: Listener,
    choice: SourceChoice,
    /// Whether the choice is kept for the next start.
    is_remembered: bool,
    /// The model that is listened with.
    loaded: Arc<Loaded>,
    listing: Option<Listing>,
    /// What the source did in the last frame: when that changes, the devices have changed too.
    last_source: &'static str,
    dialog: Option<Answer>,
    export: Option<Export>,
    shows_raw: bool,
}

impl LivePage {
    /// With the machine's devices, and the source of the last time.
    ///
    /// # Errors
    /// If the model's tags cannot be used or no thread can be started.
    pub fn new(ctx: &egui::Context, shared: &mut Shared) -> Result<Self> {
        let choice = remembered::load().unwrap_or_else(|error| {
            shared.error(format!("the last source is not known: {error:#}"));
            None
        });
        let choice = choice.unwrap_or(SourceChoice::Default(DeviceKind::Input));
        let host = Arc::new(SystemHost::new());
        let mut page =
            Self::with(ctx, shared, Arc::clone(&host) as Arc<dyn CaptureHost>, Arc::new(SystemClock::new()), choice)?;
        page.listener.play_files_on(host);
        page.is_remembered = true;
        if shared.settings.listens_at_start {
            page.listen();
        }
        Ok(page)
    }

    /// With devices and a clock from elsewhere.
    fn with(
        ctx: &egui::Context,
        shared: &Shared,
        host: Arc<dyn CaptureHost>,
        clock: Arc<dyn Clock>,
        choice: SourceChoice,
    ) -> Result<Self> {
        let loaded = Arc::clone(&shared.loaded);
        let view = View::new(&loaded.model.metadata)?;
        let mut listener = Listener::new(ctx, view, host, clock).context("no thread could be started")?;
        listener.list();
        Ok(Self {
            listener,
            choice,
            is_remembered: false,
            loaded,
            listing: None,
            last_source: "",
            dialog: None,
            export: None,
            shows_raw: false,
        })
    }

    /// Listens to a file.
    pub fn open(&mut self, path: PathBuf, shared: &mut Shared) {
        self.choose(SourceChoice::File(path), shared);
        self.listen();
    }

    /// Opens on the raw scores, or on what is certain.
    pub fn shows_raw(&mut self, shows_raw: bool) {
        self.shows_raw = shows_raw;
    }

    /// Listens to what is chosen.
    pub fn listen(&self) {
        self.listener.listen(self.choice.clone(), Arc::clone(&self.loaded));
    }

    /// Seconds of sound that were received.
    #[cfg(test)]
    fn received_s(&self) -> f64 {
        self.listener.view().state.received_s
    }

    fn is_listening(&self) -> bool {
        self.listener.view().phase == Phase::Listening
    }

    fn toggle_listening(&mut self, shared: &mut Shared) {
        if self.is_listening() {
            return self.listener.stop();
        }
        if !shared.settings.is_welcomed {
            shared.settings.is_welcomed = true;
            shared.send(Command::SaveSettings);
        }
        self.listen();
    }

    /// Begins to record, and to listen if that is not so yet; or ends the recording.
    fn toggle_recording(&mut self, shared: &mut Shared) {
        if self.listener.view().state.is_recording {
            return self.listener.stop_recording();
        }
        match record::options(&shared.settings, SystemTime::now()) {
            Ok(options) => {
                if !self.is_listening() {
                    self.listen();
                }
                self.listener.record(options);
            }
            Err(error) => shared.error(format!("{error:#}")),
        }
    }

    fn choose(&mut self, choice: SourceChoice, shared: &mut Shared) {
        self.choice = choice;
        if self.is_remembered
            && let Err(error) = remembered::save(&self.choice)
        {
            shared.error(format!("the choice is not remembered: {error:#}"));
        }
        if self.is_listening() {
            self.listen();
        }
    }

    /// What happens whether or not it is seen.
    pub fn logic(&mut self, ctx: &egui::Context, shared: &mut Shared) {
        if !Arc::ptr_eq(&self.loaded, &shared.loaded) {
            self.loaded = Arc::clone(&shared.loaded);
            if self.is_listening() {
                self.listen();
            }
        }
        if let Some(listing) = self.listener.listed() {
            self.listing = Some(listing);
        }
        let mut view = self.listener.view();
        let messages = std::mem::take(&mut view.messages);
        let source = view.state.source.word();
        drop(view);
        for (weight, text) in messages {
            shared.send(Command::Tell(Toast { weight, text, file: None }));
        }
        if source != self.last_source {
            // Where one goes or comes, others may have too. Silence says nothing about devices.
            if [source, self.last_source].iter().any(|word| ["lost", "denied", "rerouted"].contains(word)) {
                self.listener.list();
            }
            self.last_source = source;
        }
        if let Some(paths) = self.dialog.as_ref().and_then(Answer::take) {
            self.dialog = None;
            if let Some(path) = paths.into_iter().next() {
                shared.settings.folders.music = path.parent().map(PathBuf::from);
                shared.send(Command::SaveSettings);
                self.open(path, shared);
            }
        }
        if let Some(written) = self.export.as_ref().and_then(Export::take) {
            self.export = None;
            match written {
                Ok(path) => shared.send(Command::Tell(Toast {
                    weight: Weight::Note,
                    text: format!("Written: {}", path.display()),
                    file: Some(path),
                })),
                Err(error) => shared.error(error),
            }
        }
        // Letters belong to whoever has the keyboard.
        if !ctx.egui_wants_keyboard_input() {
            if ctx.input_mut(|input| input.consume_key(Modifiers::NONE, Key::Space)) {
                self.toggle_listening(shared);
            }
            if ctx.input_mut(|input| input.consume_key(Modifiers::NONE, Key::R)) {
                self.toggle_recording(shared);
            }
        }
    }

    /// Shows it.
    pub fn ui(&mut self, ui: &mut Ui, shared: &mut Shared) {
        let dropped = ui.input(|input| input.raw.dropped_files.first().map(|file| file.path().to_owned()));
        if let Some(path) = dropped {
            self.open(path, shared);
        }
        egui::ScrollArea::vertical().auto_shrink([false, false]).show(ui, |ui| {
            self.controls(ui, shared);
            ui.add_space(theme::GAP);
            self.parts(ui, shared);
        });
    }

    fn controls(&mut self, ui: &mut Ui, shared: &mut Shared) {
        let (phase, is_recording) = {
            let view = self.listener.view();
            (view.phase.clone(), view.state.is_recording)
        };
        let mut status_fits = false;
        ui.horizontal(|ui| {
            let width = (ui.available_width() * 0.30).clamp(150.0, 320.0);
            let size = vec2(width, theme::CONTROL);
            let layout = egui::Layout::left_to_right(egui::Align::Center);
            let picked = ui.allocate_ui_with_layout(size, layout, |ui| {
                ui.set_max_width(width);
                picker::ui(ui, &self.choice, self.listing.as_ref(), width)
            });
            match picked.inner {
                Some(Picked::Source(choice)) => self.choose(choice, shared),
                Some(Picked::AnyFile) => {
                    let folder = shared.settings.folders.music.clone();
                    let request = Request { title: "Listen to a file", wanted: Wanted::File(ENDINGS), folder };
                    self.dialog = Some(shared.dialogs.ask(ui.ctx(), request));
                }
                Some(Picked::Opened) => self.listener.list(),
                None => {}
            }
            let (icon, text, look) = match phase {
                Phase::Listening => (Icon::Stop, "Stop", Look::Plain),
                _ => (Icon::Play, "Listen", Look::Accent),
            };
            if action(ui, icon, text, look).on_hover_text("Space").clicked() {
                self.toggle_listening(shared);
            }
            let (icon, text, look) = if is_recording {
                (Icon::Stop, "End recording", Look::Danger)
            } else {
                (Icon::Record, "Record", Look::Plain)
            };
            let hint = if is_recording { "R" } else { "Keep what is heard, and the sound if you like (R)" };
            if action(ui, icon, text, look).on_hover_text(hint).clicked() {
                self.toggle_recording(shared);
            }
            recording_menu(ui, shared);
            self.exports(ui);
            status_fits = ui.available_width() >= STATUS;
            if status_fits {
                self.status(ui);
            }
        });
        if !status_fits && phase == Phase::Listening {
            ui.horizontal(|ui| self.status(ui));
        }
    }

    /// What the last set can become.
    fn exports(&mut self, ui: &mut Ui) {
        let set = self.listener.view().set.clone();
        let Some(RecordOptions { session: Some(session), .. }) = set else { return };
        let name = session.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let button = action(ui, Icon::Export, "Export set", Look::Plain).on_hover_text(&name);
        egui::Popup::menu(&button).show(|ui| {
            ui.set_width(230.0);
            small(ui, name);
            for (format, what, _) in record::EXPORTS {
                if ui.button(what).clicked() {
                    self.export = Some(Export::start(ui.ctx(), &session, format));
                }
            }
        });
    }

    /// What the source does, for how long, and what was lost.
    fn status(&self, ui: &mut Ui) {
        let view = self.listener.view();
        if view.phase != Phase::Listening {
            return;
        }
        let palette = theme::of(ui);
        let (color, word): (Color32, &str) = match &view.state.source {
            SourceState::Opening => (palette.muted, "opening"),
            SourceState::Live => (palette.accent, "live"),
            SourceState::Silent { digital: true, .. } => (palette.warning, "all zeros"),
            SourceState::Silent { digital: false, .. } => (palette.muted, "silent"),
            SourceState::Stalled { .. } => (palette.warning, "no sound comes"),
            SourceState::Rerouted { .. } => (palette.warning, "rerouted"),
            SourceState::Lost { .. } => (palette.danger, "gone"),
            SourceState::Denied { .. } => (palette.danger, "not allowed"),
            SourceState::Ended => (palette.muted, "over"),
        };
        ui.add_space(theme::SMALL);
        ui.spacing_mut().item_spacing.x = 6.0;
        dot(ui, color);
        ui.label(RichText::new(word).color(palette.text));
        ui.label(RichText::new(clock(view.state.at_s)).color(palette.muted));
        if let Some(recording) = &view.recording {
            ui.add_space(theme::GAP);
            dot(ui, palette.danger);
            let secs = view.state.at_s - recording.from_s;
            ui.label(RichText::new(format!("recording {}", clock(secs))).color(palette.danger));
        }
        if view.state.num_gaps > 0 {
            ui.add_space(theme::GAP);
            let gaps =
                if view.state.num_gaps == 1 { "1 gap".to_owned() } else { format!("{} gaps", view.state.num_gaps) };
            let lost_s = view.state.lost_s;
            let lost = if lost_s < 0.05 { "less than 0.1 s".to_owned() } else { format!("{lost_s:.1} s") };
            let text = format!("{gaps}, {lost} missing");
            ui.label(RichText::new(text).color(palette.warning)).on_hover_text(
                "Sound that was lost between the source and this program, measured against the clock. The timeline shows where.",
            );
        }
    }

    fn parts(&mut self, ui: &mut Ui, shared: &Shared) {
        let area = ui.available_rect_before_wrap();
        // Below the scroll area's own margin everything that is left is used; what does not fit is scrolled to.
        let height = (ui.clip_rect().bottom() - area.top()).max(LEAST_UPPER + TIMELINE.start() + theme::WIDE);
        let lower = (height * 0.26).clamp(*TIMELINE.start(), *TIMELINE.end());
        let upper = height - lower - theme::WIDE;
        let now_width =
            (area.width() * 0.36).clamp(*NOW.start(), *NOW.end()).min(area.width() - METER - 2.0 * theme::GAP);
        let mut view = self.listener.view();
        let view = &mut *view;

        let meter = Rect::from_min_size(area.min, vec2(METER, upper));
        let pressed = ui.scope_builder(egui::UiBuilder::new().max_rect(meter), |ui| view.meter.ui(ui, upper)).inner;
        if pressed {
            view.meter.clear_clipped();
        }
        let left = meter.right() + theme::WIDE;
        let now = Rect::from_min_size(pos2(left, area.top()), vec2(now_width, upper));
        let is_new = !shared.settings.is_welcomed && view.phase == Phase::Idle;
        card_in(ui, now, |ui| if is_new { welcome(ui) } else { now::ui(ui, view, &mut self.shows_raw) });
        let rest = Rect::from_min_max(pos2(now.right() + theme::WIDE, area.top()), pos2(area.right(), now.bottom()));
        if rest.width() >= 220.0 {
            card_in(ui, rest, |ui| taggram(ui, view));
        }
        let below =
            Rect::from_min_max(pos2(area.left(), now.bottom() + theme::WIDE), pos2(area.right(), area.top() + height));
        card_in(ui, below, |ui| {
            caption_row(ui, "The set so far", |_| ());
            let size = ui.available_size();
            let waits = view.phase == Phase::Listening && !view.has_sound();
            view.timeline.ui(ui, size, view.state.at_s, waits);
        });
        ui.allocate_rect(area.with_max_y(area.top() + height), egui::Sense::hover());
    }
}

/// What is recorded, and where.
fn recording_menu(ui: &mut Ui, shared: &mut Shared) {
    let before = shared.settings.clone();
    let button = ui.button("…").on_hover_text("What is recorded, and where").accessible_name("Recording settings");
    let behavior = egui::PopupCloseBehavior::CloseOnClickOutside;
    egui::Popup::menu(&button).close_behavior(behavior).show(|ui| {
        ui.set_width(340.0);
        record::settings_ui(ui, &mut shared.settings);
    });
    if shared.settings != before {
        shared.send(Command::SaveSettings);
    }
}

/// The one sentence for who starts it the first time.
fn welcome(ui: &mut Ui) {
    let palette = theme::of(ui);
    ui.add_space((ui.available_height() * 0.2).min(90.0));
    ui.label(RichText::new("What is playing?").text_style(theme::huge()).color(palette.strong));
    ui.add_space(theme::SMALL);
    ui.label(
        "Choose what to listen to, press Listen, and Earmark says what music it hears, also under talk and applause; \
         nothing leaves this machine.",
    );
}

fn taggram(ui: &mut Ui, view: &mut View) {
    caption_row(ui, "Last minute", legend);
    let size = ui.available_size();
    let end_s = view.now_s.max(TAGGRAM_SECS);
    let strongest =
        view.ranking.first().and_then(|&line| view.lines.lines()[line].label(view.state.lines[line].verdict));
    let name = format!("Probability of tags over the last minute; now {}", strongest.unwrap_or("no tag is certain"));
    view.taggram.ui(ui, size, end_s - TAGGRAM_SECS..end_s, &name);
}

/// From nothing to certain.
fn legend(ui: &mut Ui) {
    let palette = theme::of(ui);
    ui.spacing_mut().item_spacing.x = 6.0;
    small(ui, "100 %");
    let (rect, _) = ui.allocate_exact_size(vec2(72.0, 8.0), egui::Sense::hover());
    let mut mesh = egui::Mesh::default();
    for step in 0..=12_u16 {
        let share = f32::from(step) / 12.0;
        let color = palette.probability(share);
        let x = egui::lerp(rect.x_range(), share);
        mesh.colored_vertex(pos2(x, rect.top()), color);
        mesh.colored_vertex(pos2(x, rect.bottom()), color);
        if step > 0 {
            let last = u32::from(step) * 2;
            mesh.add_triangle(last - 2, last - 1, last);
            mesh.add_triangle(last - 1, last, last + 1);
        }
    }
    ui.painter().add(egui::Shape::mesh(mesh));
    small(ui, "0");
}
