//! The work behind the page: an adaptation on a thread of its own, and recordings of the room.
//!
//! ```text
//! page -- Job --> Worker -> core::adapt on a thread -> updates, each with a new frame
//!      <- Run: control (pause, go on, cancel), updates ------'
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::SystemTime;

use anyhow::{Context, Result};
use earmark_core::adapt::{AdaptEvent, AdaptSettings, Control, MaterialReport, Report};
use earmark_core::live::{CaptureHost, Clock, Live, LiveOptions, RecordOptions, SourceChoice};
use earmark_core::model_file::Model;
use eframe::egui;

use crate::desktop::context::Loaded;
use crate::output::timestamp;

/// An adaptation as the page asks for it.
#[cfg_attr(not(feature = "gpu"), allow(dead_code))]
pub struct Job {
    /// What is adapted, and the hash of its file.
    pub base: (Model, String),
    /// The user's music.
    pub clean: Vec<PathBuf>,
    /// Recordings of the room.
    pub room: Vec<PathBuf>,
    /// Name of the profile.
    pub name: String,
    /// How.
    pub settings: AdaptSettings,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(not(feature = "gpu"), allow(dead_code))]
pub enum Ended {
    /// The profile is written.
    Accepted(Box<Report>),
    /// It was worse than is allowed.
    Refused(Box<Report>),
    /// Nothing can be learnt from the material.
    Unfit(Box<MaterialReport>),
    /// It was cancelled.
    Cancelled,
    /// Something could not be done.
    Failed(String),
}

/// What a run tells.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(not(feature = "gpu"), allow(dead_code))]
pub enum Update {
    /// How it goes.
    Event(AdaptEvent),
    /// The last one.
    Ended(Ended),
}

/// A run, from the page's side.
pub struct Run {
    /// Pauses it and ends it.
    pub control: Arc<Control>,
    /// What it tells.
    pub updates: Receiver<Update>,
}

/// Who works: this machine, or a test.
pub trait Worker {
    /// Begins, and asks `ctx` for a frame whenever there is something new.
    ///
    /// # Errors
    /// If it cannot begin.
    fn start(&self, ctx: &egui::Context, job: Job) -> Result<Run>;
}

/// This machine.
pub struct Machine;

#[cfg(not(feature = "gpu"))]
impl Worker for Machine {
    fn start(&self, _ctx: &egui::Context, _job: Job) -> Result<Run> {
        anyhow::bail!("this build has no training (feature gpu); build it with cargo build --release -p earmark")
    }
}

#[cfg(feature = "gpu")]
impl Worker for Machine {
    fn start(&self, ctx: &egui::Context, job: Job) -> Result<Run> {
        use std::sync::mpsc;
        use std::thread;

        let (sender, updates) = mpsc::channel();
        let control = Arc::new(Control::new());
        let (ctx, held) = (ctx.clone(), Arc::clone(&control));
        let work = move || {
            // Nobody waits any more when the window is closed; what is done is then kept for nobody.
            let tell = |update| {
                if sender.send(update).is_err() {
                    held.leave();
                }
                ctx.request_repaint();
            };
            let ended = run(job, &held, &|event| tell(Update::Event(event)));
            tell(Update::Ended(ended));
        };
        thread::Builder::new().name("adapt".to_owned()).spawn(work).context("no thread could be started")?;
        Ok(Run { control, updates })
    }
}

#[cfg(feature = "gpu")]
fn run(job: Job, control: &Control, tell: &dyn Fn(AdaptEvent)) -> Ended {
    use earmark_core::adapt::{AdaptError, Adapted, Plan, Stop, adapt};
    use earmark_core::engine::{DeviceChoice, Notify};

    let Job { base: (base, base_blake3), clean, room, name, settings } = job;
    let profiles = match crate::places::profiles() {
        Ok(profiles) => profiles,
        Err(error) => return Ended::Failed(format!("{error:#}")),
    };
    let plan = Plan {
        base,
        base_blake3,
        clean,
        room,
        name,
        settings,
        device: DeviceChoice::Auto,
        // One processor is left to what is heard and drawn meanwhile.
        threads: crate::commands::processors().saturating_sub(1).max(1),
        state: None,
        created: timestamp(SystemTime::now()),
        program: concat!("earmark ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let quiet: Notify = Arc::new(|_| ());
    match adapt(&plan, control, &quiet, &mut |event| tell(event)) {
        Ok(Adapted { report, .. }) if !report.is_accepted() => Ended::Refused(Box::new(report)),
        Ok(Adapted { model, report }) => match profiles.save(&plan.name, &model) {
            Ok(_) => Ended::Accepted(Box::new(report)),
            Err(error) => Ended::Failed(error.to_string()),
        },
        Err(AdaptError::Material(report)) => Ended::Unfit(report),
        Err(AdaptError::Stopped(Stop::Cancel | Stop::Leave)) => Ended::Cancelled,
        Err(error) => Ended::Failed(error.to_string()),
    }
}

/// A recording of the room.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// Its file.
    pub path: PathBuf,
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// The recordings in a folder, by name, which is by time.
///
/// # Errors
/// If it is there and cannot be read.
pub fn recordings(folder: &Path) -> Result<Vec<Recording>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("cannot read {}", folder.display()))?,
    };
    let mut found: Vec<Recording> = entries
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|ending| ending == "flac"))
        .filter_map(|entry| {
            let bytes = entry.metadata().ok()?.len();
            let name = entry.path().file_stem()?.to_string_lossy().into_owned();
            Some(Recording { path: entry.path(), name, bytes })
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// A recording that is being made.
pub struct Recorder {
    live: Live,
    path: PathBuf,
}

impl Recorder {
    /// Begins to record `source` into `folder`.
    ///
    /// # Errors
    /// If the folder cannot be written or no thread can be started.
    pub fn start(
        loaded: &Loaded,
        source: SourceChoice,
        folder: &Path,
        host: Arc<dyn CaptureHost>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let moment = timestamp(SystemTime::now());
        let digits: String = moment.chars().filter(char::is_ascii_digit).take(14).collect();
        let path = folder.join(format!("room-{}-{}.flac", &digits[..8], &digits[8..]));
        let options = LiveOptions {
            source,
            record: RecordOptions { audio: Some(path.clone()), ..RecordOptions::default() },
            created: moment,
            program: concat!("earmark ", env!("CARGO_PKG_VERSION")).to_owned(),
            model_blake3: loaded.blake3.clone(),
            output: None,
        };
        let live = Live::start(Arc::clone(&loaded.engine), &loaded.model.metadata, host, clock, options)?;
        Ok(Self { live, path })
    }

    /// Seconds of sound so far, and the level.
    pub fn so_far(&mut self) -> (f64, f32) {
        let state = self.live.state();
        (state.received_s, state.level.peak)
    }

    /// What is wrong with the source, if anything is.
    pub fn trouble(&mut self) -> Option<String> {
        self.live.state().source.message()
    }

    /// Ends it; the file is whole then.
    pub fn stop(mut self) -> PathBuf {
        self.live.stop();
        self.path.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_are_listed_with_their_sizes_and_nothing_else_is() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(recordings(&folder.path().join("none")).expect("none yet"), []);
        fs::write(folder.path().join("room-2.flac"), b"12345").expect("written");
        fs::write(folder.path().join("room-1.flac"), b"1").expect("written");
        fs::write(folder.path().join("notes.txt"), b"x").expect("written");
        let found = recordings(folder.path()).expect("readable");
        let found: Vec<(&str, u64)> = found.iter().map(|r| (r.name.as_str(), r.bytes)).collect();
        assert_eq!(found, [("room-1", 1), ("room-2", 5)]);
    }
}
