//! Recording a set: where it goes, and what it becomes afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow};
use directories::UserDirs;
use earmark_core::live::RecordOptions;
use eframe::egui::{self, Ui};

use crate::args::{ExportArgs, ExportFormat};
use crate::commands;
use crate::desktop::settings::Settings;
use crate::desktop::theme;
use crate::desktop::widgets::small;
use crate::output::timestamp;

/// Shortest chapter of an export, in seconds; `earmark export` has the same unless told otherwise.
const MIN_CHAPTER_SECS: f64 = 30.0;

/// What a set can become: format, name, and what is added to the set's name.
pub const EXPORTS: [(ExportFormat, &str, &str); 6] = [
    (ExportFormat::Csv, "Table (CSV)", ".csv"),
    (ExportFormat::Json, "Everything (JSON)", ".json"),
    (ExportFormat::Audacity, "Audacity labels", ".labels.txt"),
    (ExportFormat::Cue, "Cue sheet", ".cue"),
    (ExportFormat::Chapters, "Video chapters (ffmpeg)", ".ffmetadata"),
    (ExportFormat::Description, "Chapters for a description", ".chapters.txt"),
];

/// Where sets go when nothing else was said.
pub fn default_folder() -> Option<PathBuf> {
    let folders = UserDirs::new()?;
    Some(folders.audio_dir().unwrap_or_else(|| folders.home_dir()).join("Earmark"))
}

/// Files for a recording that begins now, under a name that is free.
///
/// # Errors
/// There is no folder for it.
pub fn options(settings: &Settings, now: SystemTime) -> Result<RecordOptions> {
    let folder = settings.folders.sets.clone().or_else(default_folder);
    let folder = folder.ok_or_else(|| anyhow!("there is no folder for recordings; name one in the settings"))?;
    fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}; choose another folder in the settings", folder.display()))?;
    // 2026-01-31T20:15:04.123Z: what no file system minds.
    let moment: String = timestamp(now).chars().take(19).map(|c| if c == ':' { '-' } else { c }).collect();
    let stem = format!("set {}", moment.replace('T', " "));
    let session = free(&folder, &stem, ".jsonl");
    let audio = settings.records_audio.then(|| session.with_extension("flac"));
    let now_playing = settings.now_playing.clone();
    Ok(RecordOptions { session: Some(session), audio, now_playing, created: Some(timestamp(now)) })
}

/// A path in `folder` that is not taken.
fn free(folder: &Path, stem: &str, ending: &str) -> PathBuf {
    let numbered = (2..).map(|number| folder.join(format!("{stem} ({number}){ending}")));
    let mut candidates = std::iter::once(folder.join(format!("{stem}{ending}"))).chain(numbered);
    // The candidates never end.
    candidates.find(|path| !path.exists()).unwrap_or_else(|| folder.join(stem))
}

/// An export on its way.
pub struct Export(Receiver<Result<PathBuf, String>>);

impl Export {
    /// Writes `session` in another form beside it, in the background.
    pub fn start(ctx: &egui::Context, session: &Path, format: ExportFormat) -> Self {
        let (sender, receiver) = mpsc::channel();
        let (ctx, session) = (ctx.clone(), session.to_owned());
        // Without a thread the sender is dropped, which is told as a failure.
        let _ = thread::Builder::new().name("export".to_owned()).spawn(move || {
            let written = export(&session, format).map_err(|error| format!("not exported: {error:#}"));
            let _ = sender.send(written);
            ctx.request_repaint();
        });
        Self(receiver)
    }

    /// Where it was written, or why not, once.
    pub fn take(&self) -> Option<Result<PathBuf, String>> {
        match self.0.try_recv() {
            Ok(written) => Some(written),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err("not exported: it was interrupted".to_owned())),
        }
    }
}

fn export(session: &Path, format: ExportFormat) -> Result<PathBuf> {
    let ending = EXPORTS.iter().find(|(known, ..)| *known == format).map_or("", |(_, _, ending)| ending);
    let folder = session.parent().unwrap_or(Path::new("."));
    let stem = session.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let out = free(folder, &stem, ending);
    let args = ExportArgs { session: session.to_owned(), format, out: out.clone(), min_chapter_secs: MIN_CHAPTER_SECS };
    commands::export::run(&args)?;
    Ok(out)
}

/// What is recorded, and where: on the settings page and beside the record button.
pub fn settings_ui(ui: &mut Ui, settings: &mut Settings) {
    ui.checkbox(&mut settings.records_audio, "Keep the sound too (FLAC)");
    let default = default_folder().unwrap_or_default();
    path(ui, "Folder for recorded sets", &mut settings.folders.sets, &default.display().to_string());
    path(ui, "Text file for what is heard, for OBS", &mut settings.now_playing, "none");
    small(ui, "In OBS, add a Text source that reads this file. It is written while a set is recorded.");
}

/// A path as text; empty is none.
fn path(ui: &mut Ui, name: &str, value: &mut Option<PathBuf>, hint: &str) {
    ui.vertical(|ui| {
        ui.spacing_mut().item_spacing.y = theme::SMALL;
        let label = small(ui, name);
        let mut text = value.as_ref().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        let edit =
            egui::TextEdit::singleline(&mut text).hint_text(hint).desired_width(f32::INFINITY).margin(theme::GAP);
        if ui.add(edit).labelled_by(label.id).changed() {
            *value = Some(text.trim()).filter(|text| !text.is_empty()).map(PathBuf::from);
        }
    });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_recording_never_takes_a_name_that_is_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut settings = Settings::default();
        settings.records_audio = true;
        settings.folders.sets = Some(folder.path().join("sets"));
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        let first = options(&settings, now).expect("a name").session.expect("a session");
        assert_eq!(first.file_name().expect("a name"), "set 2027-01-15 08-00-00.jsonl");
        fs::write(&first, "").expect("written");
        let second = options(&settings, now).expect("a name");
        assert_eq!(second.session, Some(folder.path().join("sets/set 2027-01-15 08-00-00 (2).jsonl")));
        assert_eq!(second.audio, Some(folder.path().join("sets/set 2027-01-15 08-00-00 (2).flac")));
        settings.folders.sets = Some(first.join("below a file"));
        assert!(options(&settings, now).expect_err("refused").to_string().contains("choose another folder"));
    }
}
