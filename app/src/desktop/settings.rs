//! What the desktop remembers between two starts, and the page that shows it.
//!
//! ```text
//! configuration folder/desktop.json -> Settings -> page -> Settings -> temporary file, renamed over the old one
//! ```
//!
//! The source that was listened to is remembered elsewhere, for the command line too. A file that cannot be read is told
//! about and set aside, never silently written over.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use directories::ProjectDirs;
use eframe::egui::{self, RichText, ThemePreference, Ui};
use serde::{Deserialize, Serialize};

use super::context::{Command, Shared};
use super::live::recording_settings_ui;
use super::theme;

/// Version of the file.
const VERSION: u32 = 1;

/// Light or dark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThemeChoice {
    /// As the system has it.
    #[default]
    System,
    /// Dark.
    Dark,
    /// Light.
    Light,
}

impl From<ThemeChoice> for ThemePreference {
    fn from(choice: ThemeChoice) -> Self {
        match choice {
            ThemeChoice::System => Self::System,
            ThemeChoice::Dark => Self::Dark,
            ThemeChoice::Light => Self::Light,
        }
    }
}

/// Where files were chosen the last time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Folders {
    /// Music to tag or to play.
    pub music: Option<PathBuf>,
    /// Model files.
    pub model: Option<PathBuf>,
    /// Recorded sets.
    pub sets: Option<PathBuf>,
    /// What is exported.
    pub exports: Option<PathBuf>,
}

/// What is remembered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    version: u32,
    /// Light or dark.
    pub theme: ThemeChoice,
    /// Size of text and everything around it; 1 is usual.
    pub scale: f32,
    /// Model file; `None` is the built-in model.
    pub model: Option<PathBuf>,
    /// Listen as soon as the program starts.
    pub listens_at_start: bool,
    /// The one sentence for beginners was read.
    pub is_welcomed: bool,
    /// Recording keeps the sound too.
    pub records_audio: bool,
    /// Text file with what is said at the moment, while recording.
    pub now_playing: Option<PathBuf>,
    /// Where files were chosen.
    pub folders: Folders,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            version: VERSION,
            theme: ThemeChoice::System,
            scale: 1.0,
            model: None,
            listens_at_start: false,
            is_welcomed: false,
            records_audio: false,
            now_playing: None,
            folders: Folders::default(),
        }
    }
}

/// Where they lie; `None` where the system has no place for settings.
pub fn path() -> Option<PathBuf> {
    ProjectDirs::from("", "", "earmark").map(|folders| folders.config_dir().join("desktop.json"))
}

impl Settings {
    /// What `path` holds; the defaults if there is no such file.
    ///
    /// # Errors
    /// The file, and what is wrong with it.
    pub fn load(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            text => text.with_context(|| format!("cannot read {shown}"))?,
        };
        let wrong =
            || format!("{shown} is wrong; settings are as at the first start, and it is replaced by the next change");
        let settings: Self = serde_json::from_str(&text).with_context(wrong)?;
        ensure!(
            settings.version == VERSION,
            "{shown} is of version {}, where this build reads {VERSION}; settings are as at the first start",
            settings.version
        );
        Ok(settings.checked())
    }

    /// Values that cannot be are replaced: a scale of zero would leave nothing to see.
    fn checked(mut self) -> Self {
        let (least, most) = (*theme::SCALES.start(), *theme::SCALES.end());
        self.scale = if self.scale.is_finite() { self.scale.clamp(least, most) } else { 1.0 };
        self
    }

    /// Writes them, whole or not at all.
    ///
    /// # Errors
    /// The file that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        crate::kept::write_json(path, self)
    }
}

/// The page.
pub fn ui(ui: &mut Ui, shared: &mut Shared) {
    let before = shared.settings.clone();
    egui::ScrollArea::vertical().auto_shrink([false, false]).show(ui, |ui| {
        ui.set_max_width(560.0);
        ui.label(RichText::new("Settings").text_style(theme::title()).color(theme::of(ui).strong));
        ui.add_space(theme::GAP);
        look(ui, &mut shared.settings);
        ui.add_space(theme::GAP);
        listening(ui, &mut shared.settings);
        ui.add_space(theme::GAP);
        group(ui, "Recording", |ui| recording_settings_ui(ui, &mut shared.settings));
        ui.add_space(theme::GAP);
        keys(ui);
        ui.add_space(theme::GAP);
        about(ui, shared);
    });
    if shared.settings != before {
        shared.send(Command::SaveSettings);
    }
}

/// A group of settings.
fn group(ui: &mut Ui, name: &str, contents: impl FnOnce(&mut Ui)) {
    theme::card(ui).show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.label(RichText::new(name).text_style(theme::caption()).color(theme::of(ui).muted));
        contents(ui);
    });
}

fn look(ui: &mut Ui, settings: &mut Settings) {
    group(ui, "Look", |ui| {
        ui.horizontal(|ui| {
            let choices =
                [(ThemeChoice::System, "As the system"), (ThemeChoice::Dark, "Dark"), (ThemeChoice::Light, "Light")];
            for (choice, name) in choices {
                ui.selectable_value(&mut settings.theme, choice, name);
            }
        });
        // Steps, not a slider: one that grew under the pointer would run away from it.
        ui.horizontal(|ui| {
            ui.label("Size of text");
            ui.add_space(theme::GAP);
            for (sign, name, step) in [("-", "Smaller text", -STEP), ("+", "Larger text", STEP)] {
                let button = egui::Button::new(sign).min_size(egui::vec2(theme::CONTROL, theme::CONTROL));
                if ui.add(button).on_hover_text(name).accessible_name(name).clicked() {
                    settings.scale = next_scale(settings.scale, step);
                }
            }
            ui.label(RichText::new(format!("{:.0} %", settings.scale * 100.0)).color(theme::of(ui).strong));
        });
    });
}

/// Distance between sizes.
const STEP: f32 = 0.1;

/// The size after `scale`, on the grid of steps.
fn next_scale(scale: f32, step: f32) -> f32 {
    let next = ((scale + step) / STEP).round() * STEP;
    next.clamp(*theme::SCALES.start(), *theme::SCALES.end())
}

fn listening(ui: &mut Ui, settings: &mut Settings) {
    group(ui, "Listening", |ui| {
        ui.checkbox(&mut settings.listens_at_start, "Listen as soon as the program starts");
    });
}

/// What the keys do.
const KEYS: [(&str, &str); 6] = [
    ("Space", "listen, or stop"),
    ("R", "record, or end the recording"),
    ("Ctrl 1, 2, 3, 4", "live, files, model, adapt"),
    ("Ctrl ,", "settings"),
    ("Ctrl +, -, 0", "size of text"),
    ("Tab, Enter", "move between controls, press one"),
];

fn keys(ui: &mut Ui) {
    group(ui, "Keys", |ui| {
        egui::Grid::new("keys").num_columns(2).spacing([theme::WIDE * 1.5, theme::SMALL]).show(ui, |ui| {
            for (key, what) in KEYS {
                ui.label(RichText::new(key).color(theme::of(ui).strong));
                ui.label(what);
                ui.end_row();
            }
        });
    });
}

fn about(ui: &mut Ui, shared: &Shared) {
    group(ui, "About", |ui| {
        ui.label(concat!(
            "Earmark ",
            env!("CARGO_PKG_VERSION"),
            ". Everything is computed on this machine; nothing leaves it."
        ));
        let small = |text: String| RichText::new(text).text_style(theme::small()).color(theme::of(ui).muted);
        let (model, device) = (&shared.loaded.model.metadata, &shared.loaded.device);
        let lines = [
            format!("Model {} ({}) on {device}", model.name, model.licence),
            format!(
                "A frame takes {:.1} ms, 95 of 100 less than {:.1} ms",
                shared.frames.mean_ms(),
                shared.frames.p95_ms()
            ),
        ];
        for line in lines.map(small) {
            ui.label(line);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_back_and_damage_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/desktop.json");
        assert_eq!(Settings::load(&path).expect("none yet"), Settings::default());
        let settings = Settings {
            theme: ThemeChoice::Light,
            scale: 1.5,
            model: Some("m.safetensors".into()),
            ..Settings::default()
        };
        settings.save(&path).expect("written");
        assert_eq!(Settings::load(&path).expect("readable"), settings);
        // What a version did not know yet has its default; what cannot be is replaced.
        fs::write(&path, "{\"version\":1,\"scale\":-3.0}").expect("written");
        let read = Settings::load(&path).expect("readable");
        assert_eq!(read, Settings { scale: *theme::SCALES.start(), ..Settings::default() });
        fs::write(&path, "{\"version\":2}").expect("written");
        assert!(Settings::load(&path).expect_err("refused").to_string().contains("version 2"));
        fs::write(&path, "{").expect("written");
        assert!(Settings::load(&path).expect_err("refused").to_string().contains("desktop.json"));
    }
}
