//! The page that fits the model to a room, in three steps.
//!
//! ```text
//! 1  your music: a folder       the room: recordings, made here; sizes, deletion
//! 2  how much; start, pause, cancel; curves while it learns
//! 3  before and after, or why it is refused         profiles: in use, remove
//! ```
//!
//! The work runs on a thread of its own ([`work`]); the live page goes on meanwhile.

mod chart;
#[cfg(test)]
mod tests;
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use earmark_core::adapt::{
    AdaptEvent, AdaptSettings, BUILT_IN, MaterialReport, Profile, Profiles, Report, RoomStep, Side, Stages, check_name,
};
use earmark_core::live::{CaptureHost, Clock, DeviceKind, SourceChoice, SystemClock, SystemHost};
use eframe::egui::{self, RichText, Ui, vec2};

use super::context::{Command, Shared};
use super::dialog::{Answer, Request, Wanted};
use super::taggram::clock;
use super::theme;
use super::widgets::{Icon, Look, action, bar, caption, small};
use crate::commands::live::remembered;
use crate::inputs::{Inputs, shown};
use crate::report::lines;
use work::{Ended, Job, Machine, Recorder, Recording, Run, Update, Worker, recordings};

/// How long a recording of the room should be, in seconds.
const ADVISED_SECS: f64 = 300.0;

/// Steps over which the curve of stage 3 is smoothed.
const SMOOTHED: usize = 20;

/// Height of a curve.
const CURVE: f32 = 110.0;

/// Where things lie.
struct Places {
    recordings: PathBuf,
    profiles: Profiles,
}

/// What is known of a run while it goes and after.
#[derive(Default)]
struct Course {
    name: String,
    doing: String,
    share: f32,
    material: Option<MaterialReport>,
    train_losses: Vec<f64>,
    valid_losses: Vec<f64>,
    steps: Vec<RoomStep>,
    total_steps: usize,
    notes: Vec<String>,
    ended: Option<Ended>,
}

/// The page.
pub struct AdaptPage {
    worker: Box<dyn Worker>,
    host: Arc<dyn CaptureHost>,
    clock: Arc<dyn Clock>,
    places: Option<Places>,
    music: Option<PathBuf>,
    num_songs: usize,
    recordings: Vec<Recording>,
    recorder: Option<Recorder>,
    stages: Stages,
    name: String,
    run: Option<Run>,
    course: Course,
    profiles: Vec<Profile>,
    dialog: Option<Answer>,
}

impl AdaptPage {
    /// With this machine's devices and folders.
    pub fn new(shared: &mut Shared) -> Self {
        let places = crate::places::recordings()
            .and_then(|recordings| Ok(Places { recordings, profiles: crate::places::profiles()? }));
        let places = places.map_err(|error| shared.error(format!("{error:#}"))).ok();
        Self::with(Box::new(Machine), Arc::new(SystemHost::new()), Arc::new(SystemClock::new()), places, shared)
    }

    fn with(
        worker: Box<dyn Worker>,
        host: Arc<dyn CaptureHost>,
        clock: Arc<dyn Clock>,
        places: Option<Places>,
        shared: &mut Shared,
    ) -> Self {
        let mut page = Self {
            worker,
            host,
            clock,
            places,
            music: None,
            num_songs: 0,
            recordings: Vec::new(),
            recorder: None,
            stages: Stages::Dc,
            name: "my room".to_owned(),
            run: None,
            course: Course::default(),
            profiles: Vec::new(),
            dialog: None,
        };
        page.look(shared);
        page
    }

    /// Looks into the folders.
    fn look(&mut self, shared: &mut Shared) {
        let Some(places) = &self.places else { return };
        match recordings(&places.recordings) {
            Ok(found) => self.recordings = found,
            Err(error) => shared.error(format!("{error:#}")),
        }
        match places.profiles.list() {
            Ok(found) => self.profiles = found,
            Err(error) => shared.error(error.to_string()),
        }
    }

    /// What happens whether or not it is seen.
    pub fn logic(&mut self, ctx: &egui::Context, shared: &mut Shared) {
        if let Some(paths) = self.dialog.as_ref().and_then(Answer::take) {
            self.dialog = None;
            if let Some(folder) = paths.into_iter().next() {
                self.choose_music(folder);
            }
        }
        if self.recorder.is_some() {
            // The clock beside the button.
            ctx.request_repaint_after(Duration::from_millis(250));
        }
        let updates: Vec<Update> = self.run.iter().flat_map(|run| run.updates.try_iter()).collect();
        for update in updates {
            match update {
                Update::Event(event) => self.course.take(event),
                Update::Ended(ended) => {
                    self.run = None;
                    if let Ended::Failed(error) = &ended {
                        shared.error(error.clone());
                    }
                    self.course.ended = Some(ended);
                    self.look(shared);
                }
            }
        }
    }

    /// Has the music in `folder`.
    pub fn choose_music(&mut self, folder: PathBuf) {
        self.num_songs = Inputs::find(std::slice::from_ref(&folder)).files.len();
        self.music = Some(folder);
    }

    fn toggle_recording(&mut self, shared: &mut Shared) {
        if let Some(recorder) = self.recorder.take() {
            recorder.stop();
            return self.look(shared);
        }
        let Some(places) = &self.places else { return };
        let source = remembered::load().ok().flatten().unwrap_or(SourceChoice::Default(DeviceKind::Input));
        let (host, clock) = (Arc::clone(&self.host), Arc::clone(&self.clock));
        match Recorder::start(&shared.loaded, source, &places.recordings, host, clock) {
            Ok(recorder) => self.recorder = Some(recorder),
            Err(error) => shared.error(format!("{error:#}")),
        }
    }

    fn delete(&mut self, paths: &[PathBuf], shared: &mut Shared) {
        for path in paths {
            if let Err(error) = std::fs::remove_file(path) {
                shared.error(format!("{}: {error}", shown(path)));
            }
        }
        self.look(shared);
    }

    /// Why it cannot start, if it cannot.
    fn lacks(&self) -> Option<String> {
        if self.music.is_none() {
            return Some("choose a folder of your music first".to_owned());
        }
        if self.num_songs == 0 {
            return Some("there is no music in the folder".to_owned());
        }
        if self.recordings.is_empty() {
            return Some("record the room first".to_owned());
        }
        if self.recorder.is_some() {
            return Some("the room is being recorded".to_owned());
        }
        if let Err(error) = check_name(&self.name) {
            return Some(error.to_string());
        }
        let is_taken = self.profiles.iter().any(|profile| profile.name == self.name);
        is_taken.then(|| format!("there is a profile '{}' already; choose another name", self.name))
    }

    fn start(&mut self, ctx: &egui::Context, shared: &mut Shared) {
        let result = self.job(shared).and_then(|job| self.worker.start(ctx, job));
        match result {
            Ok(run) => {
                self.course = Course { name: self.name.clone(), doing: "reading".to_owned(), ..Course::default() };
                self.run = Some(run);
            }
            Err(error) => shared.error(format!("{error:#}")),
        }
    }

    fn job(&self, shared: &Shared) -> Result<Job> {
        let loaded = &shared.loaded;
        // From an adapted model to the next one, errors would add up.
        let is_adapted = !loaded.model.metadata.training["adapted_from"].is_null();
        let base = if is_adapted {
            crate::commands::live::load_model(None)?
        } else {
            (loaded.model.clone(), loaded.blake3.clone())
        };
        let music: Vec<PathBuf> = self.music.iter().cloned().collect();
        Ok(Job {
            base,
            clean: Inputs::find(&music).files.into_iter().map(|input| input.path).collect(),
            room: self.recordings.iter().map(|recording| recording.path.clone()).collect(),
            name: self.name.clone(),
            settings: AdaptSettings { stages: self.stages, seed: 1, ..AdaptSettings::default() },
        })
    }

    fn use_profile(&mut self, name: Option<&str>, shared: &mut Shared) {
        let Some(places) = &self.places else { return };
        let used = places.profiles.use_profile(name).and_then(|()| places.profiles.in_use_path());
        match used {
            Ok(path) => shared.send(Command::LoadModel(path)),
            Err(error) => shared.error(error.to_string()),
        }
        self.look(shared);
    }

    fn remove(&mut self, name: &str, shared: &mut Shared) {
        let Some(places) = &self.places else { return };
        let was_loaded = places.profiles.path(name).ok() == shared.loaded.file;
        match places.profiles.remove(name) {
            Ok(()) => {
                shared.note(format!("profile {name} is removed"));
                if was_loaded {
                    shared.send(Command::LoadModel(None));
                }
            }
            Err(error) => shared.error(error.to_string()),
        }
        self.look(shared);
    }

    /// Shows it.
    pub fn ui(&mut self, ui: &mut Ui, shared: &mut Shared) {
        let palette = theme::of(ui);
        ui.label(RichText::new("Adapt to a room").text_style(theme::title()).color(palette.strong));
        small(
            ui,
            "Some minutes of the room and your own music, unlabelled, make a noise meter for this room, and tags that hold in \
             it. Nothing leaves this machine, and the built-in model stays as it is.",
        );
        egui::ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            self.material_ui(ui, shared);
            self.learning_ui(ui, shared);
            self.result_ui(ui, shared);
            self.profiles_ui(ui, shared);
        });
    }

    fn material_ui(&mut self, ui: &mut Ui, shared: &mut Shared) {
        step(ui, "1", "Sound", |ui| {
            ui.columns(2, |columns| {
                self.music_ui(&mut columns[0], shared);
                self.room_ui(&mut columns[1], shared);
            });
            if let Some(report) = &self.course.material {
                findings(ui, report);
            }
        });
    }

    fn music_ui(&mut self, ui: &mut Ui, shared: &Shared) {
        caption(ui, "Your music, as it is on the record");
        let text = match &self.music {
            None => "no folder chosen".to_owned(),
            Some(folder) => format!("{}, {} files", shown(folder), self.num_songs),
        };
        ui.add(egui::Label::new(text).truncate());
        if ui.button("Choose a folder …").clicked() {
            let folder = self.music.clone().or_else(|| shared.settings.folders.music.clone());
            let request = Request { title: "A folder of your music", wanted: Wanted::Folder, folder };
            self.dialog = Some(shared.dialogs.ask(ui.ctx(), request));
        }
        small(ui, "Five minutes or more, of the kind that is played in the room.");
    }

    fn room_ui(&mut self, ui: &mut Ui, shared: &mut Shared) {
        let bytes: u64 = self.recordings.iter().map(|recording| recording.bytes).sum();
        let held = if self.recordings.is_empty() { String::new() } else { format!(", {}", megabytes(bytes)) };
        caption(ui, &format!("The room{held}"));
        ui.horizontal(|ui| {
            let (icon, text, look) = match self.recorder {
                None => (Icon::Record, "Record the room", Look::Plain),
                Some(_) => (Icon::Stop, "End the recording", Look::Danger),
            };
            if action(ui, icon, text, look).clicked() {
                self.toggle_recording(shared);
            }
            if let Some(recorder) = &mut self.recorder {
                let (secs, peak) = recorder.so_far();
                ui.label(format!("{} of {}", clock(secs), clock(ADVISED_SECS)));
                let color = theme::of(ui).accent;
                bar(ui, "level", peak, vec2(60.0, theme::BAR), color, None);
            }
        });
        if let Some(trouble) = self.recorder.as_mut().and_then(Recorder::trouble) {
            ui.label(RichText::new(trouble).color(theme::of(ui).warning));
        }
        let mut deleted = Vec::new();
        for recording in &self.recordings {
            ui.horizontal(|ui| {
                ui.label(&recording.name);
                small(ui, megabytes(recording.bytes));
                let delete = format!("Delete {}", recording.name);
                if ui.small_button("×").on_hover_text(&delete).accessible_name(&delete).clicked() {
                    deleted.push(recording.path.clone());
                }
            });
        }
        if self.recordings.len() > 1 && ui.button("Delete all recordings").clicked() {
            deleted = self.recordings.iter().map(|recording| recording.path.clone()).collect();
        }
        if !deleted.is_empty() {
            self.delete(&deleted, shared);
        }
        if self.recordings.is_empty() {
            small(ui, "Five minutes, while no music plays, or from where the audience stands.");
        }
    }

    fn learning_ui(&mut self, ui: &mut Ui, shared: &mut Shared) {
        step(ui, "2", "Learn", |ui| {
            let is_running = self.run.is_some();
            ui.add_enabled_ui(!is_running, |ui| {
                ui.horizontal_wrapped(|ui| {
                    ui.radio_value(&mut self.stages, Stages::Dc, "Noise meter alone, seconds");
                    ui.radio_value(&mut self.stages, Stages::Dat, "Tags too, some minutes");
                    let label = ui.label("Name");
                    ui.add(egui::TextEdit::singleline(&mut self.name).desired_width(160.0)).labelled_by(label.id);
                });
            });
            let lacks = self.lacks();
            ui.horizontal(|ui| match &self.run {
                None => {
                    let can = lacks.is_none();
                    let start = ui.add_enabled_ui(can, |ui| action(ui, Icon::Play, "Start", Look::Accent)).inner;
                    if start.clicked() {
                        let ctx = ui.ctx().clone();
                        self.start(&ctx, shared);
                    }
                    if let Some(lacks) = &lacks {
                        small(ui, lacks.clone());
                    }
                }
                Some(run) => {
                    let is_paused = run.control.is_paused();
                    if ui.button(if is_paused { "Go on" } else { "Pause" }).clicked() {
                        if is_paused { run.control.resume() } else { run.control.pause() }
                    }
                    if ui.button("Cancel").clicked() {
                        run.control.cancel();
                    }
                    let doing = if is_paused { "paused" } else { &self.course.doing };
                    bar(ui, "progress", self.course.share, vec2(160.0, theme::BAR), theme::of(ui).accent, None);
                    ui.label(doing);
                }
            });
            self.course.curves(ui);
        });
    }

    fn result_ui(&mut self, ui: &mut Ui, shared: &mut Shared) {
        step(ui, "3", "Before and after", |ui| {
            let palette = theme::of(ui);
            let refused = |ui: &mut Ui, text: &str| ui.label(RichText::new(text).color(palette.danger).heading());
            match self.course.ended.clone() {
                None => drop(small(ui, "Here you see what it brings and what it costs, before anything is used.")),
                Some(Ended::Cancelled) => drop(small(ui, "Cancelled; nothing was changed.")),
                Some(Ended::Failed(error)) => drop(ui.label(RichText::new(error).color(palette.danger))),
                Some(Ended::Unfit(_)) => {
                    refused(ui, "Refused: nothing can be learnt from this sound");
                    small(ui, "Step 1 says why, and what helps. Nothing was changed.");
                }
                Some(Ended::Refused(report)) => {
                    refused(ui, "Refused: not good enough to be used");
                    for refusal in &report.refusals {
                        ui.label(RichText::new(format!("• {refusal}")).color(palette.text));
                    }
                    small(ui, "Nothing was changed. Longer recordings, or more of your music, may help.");
                    comparison(ui, &report);
                }
                Some(Ended::Accepted(report)) => {
                    let name = self.course.name.clone();
                    let is_in_use = self.profiles.iter().any(|profile| profile.name == name && profile.is_in_use);
                    ui.horizontal(|ui| {
                        ui.label(RichText::new(format!("Accepted: profile “{name}”")).color(palette.accent).heading());
                        if !is_in_use && ui.button("Use it now").clicked() {
                            self.use_profile(Some(&name), shared);
                        }
                    });
                    comparison(ui, &report);
                }
            }
        });
    }

    fn profiles_ui(&mut self, ui: &mut Ui, shared: &mut Shared) {
        let (mut used, mut removed) = (None, None);
        group(ui, "Profiles", |ui| {
            let is_built_in = self.profiles.iter().all(|profile| !profile.is_in_use);
            if ui.radio(is_built_in, format!("{BUILT_IN} (the built-in model)")).clicked() {
                used = Some(None);
            }
            for profile in &self.profiles {
                ui.horizontal(|ui| {
                    if ui.radio(profile.is_in_use, &profile.name).clicked() {
                        used = Some(Some(profile.name.clone()));
                    }
                    small(ui, megabytes(profile.bytes));
                    let remove = format!("Remove {}", profile.name);
                    if ui.small_button("×").on_hover_text(&remove).accessible_name(&remove).clicked() {
                        removed = Some(profile.name.clone());
                    }
                });
            }
        });
        if let Some(name) = used {
            self.use_profile(name.as_deref(), shared);
        }
        if let Some(name) = removed {
            self.remove(&name, shared);
        }
    }
}

impl Course {
    fn take(&mut self, event: AdaptEvent) {
        match event {
            AdaptEvent::Note(text) => self.notes.push(text),
            AdaptEvent::Reading(side, secs) => self.doing = format!("reading {side}: {}", clock(secs)),
            AdaptEvent::Material(report) => self.material = Some(report),
            AdaptEvent::Listening(share) => {
                (self.doing, self.share) = ("listening to music and room".to_owned(), share as f32);
            }
            AdaptEvent::Domain(epoch) => {
                if epoch.epoch == 1 {
                    self.train_losses.clear();
                    self.valid_losses.clear();
                }
                self.doing = format!("noise meter, pass {}", epoch.epoch);
                self.train_losses.push(epoch.train_loss);
                self.valid_losses.push(epoch.valid_loss);
            }
            AdaptEvent::Meter(_, after) => {
                self.notes.push(format!("the noise meter is right in {:.0} % of cases", 100.0 * after.accuracy));
            }
            AdaptEvent::Step(step) => {
                self.total_steps = step.total as usize;
                self.share = step.step as f32 / step.total.max(1) as f32;
                self.doing = format!("tags, step {} of {}", step.step, step.total);
                self.steps.push(step);
            }
            AdaptEvent::Kept(_) => {}
            AdaptEvent::Judging => "comparing before and after".clone_into(&mut self.doing),
        }
    }

    fn curves(&self, ui: &mut Ui) {
        if self.valid_losses.is_empty() && self.steps.is_empty() {
            return;
        }
        let num = if self.steps.is_empty() { 1 } else { 3 };
        let width = (ui.available_width() - theme::GAP * (num - 1) as f32) / num as f32;
        let size = vec2(width, CURVE);
        ui.horizontal(|ui| {
            let total = self.valid_losses.len().max(20);
            chart::curve(
                ui,
                "Noise meter: error on unheard sound",
                &self.valid_losses,
                &self.train_losses,
                total,
                size,
            );
            if self.steps.is_empty() {
                return;
            }
            let of =
                |get: fn(&RoomStep) -> f64| chart::smoothed(&self.steps.iter().map(get).collect::<Vec<_>>(), SMOOTHED);
            let (noisy, clean) = (of(|step| step.consistency_loss), of(|step| step.label_loss));
            chart::curve(ui, "Tags: error in the room, and on clean music", &noisy, &clean, self.total_steps, size);
            let told = of(|step| step.domain_accuracy);
            chart::curve(ui, "How well room and music can be told apart", &told, &[], self.total_steps, size);
        });
    }
}

/// A numbered card.
fn step<R>(ui: &mut Ui, number: &str, title: &str, contents: impl FnOnce(&mut Ui) -> R) -> R {
    let accent = theme::of(ui).accent;
    theme::card(ui)
        .show(ui, |ui| {
            ui.set_width(ui.available_width());
            ui.horizontal(|ui| {
                ui.label(RichText::new(number).heading().color(accent));
                ui.label(RichText::new(title).heading().color(theme::of(ui).strong));
            });
            contents(ui)
        })
        .inner
}

fn group<R>(ui: &mut Ui, title: &str, contents: impl FnOnce(&mut Ui) -> R) -> R {
    theme::card(ui)
        .show(ui, |ui| {
            ui.set_width(ui.available_width());
            caption(ui, title);
            contents(ui)
        })
        .inner
}

/// What was found about the material.
fn findings(ui: &mut Ui, report: &MaterialReport) {
    let palette = theme::of(ui);
    for (side, figures) in [(Side::Clean, &report.clean), (Side::Room, &report.room)] {
        small(ui, format!("{side}: {} of sound, tonal share {:.2}", clock(figures.audible_secs), figures.tonality));
    }
    for finding in &report.findings {
        let color = if finding.refuses { palette.danger } else { palette.warning };
        ui.label(RichText::new(&finding.text).color(color));
    }
}

/// Before beside after.
fn comparison(ui: &mut Ui, report: &Report) {
    let palette = theme::of(ui);
    egui::Grid::new("before and after").num_columns(4).spacing([theme::WIDE * 1.5, theme::SMALL]).show(ui, |ui| {
        for head in ["", "before", "after", ""] {
            ui.label(RichText::new(head).text_style(theme::caption()).color(palette.muted));
        }
        ui.end_row();
        for line in lines(report) {
            let color = if line.is_detail { palette.muted } else { palette.strong };
            let indent = if line.is_detail { "    " } else { "" };
            ui.label(RichText::new(format!("{indent}{}", line.label)).color(color));
            ui.label(RichText::new(&line.before).color(palette.muted));
            ui.label(RichText::new(&line.after).color(color));
            ui.label(RichText::new(&line.limit).text_style(theme::small()).color(palette.muted));
            ui.end_row();
        }
    });
    small(ui, format!("measured on {} clips of your music that nothing was learnt from", report.num_clips));
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
