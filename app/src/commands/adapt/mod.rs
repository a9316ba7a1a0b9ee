//! `earmark adapt`: a model for a room.
//!
//! ```text
//! args -> files of both sides -> core::adapt -> progress (bar, notes) -> table: before, after -> profile, or a refusal
//! ```

mod record;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow, bail, ensure};
use earmark_core::adapt::{
    self, AdaptError, AdaptEvent, AdaptSettings, Adapted, Control, MaterialReport, Plan, Profiles, RoomStep, Side,
    Stop, check_name,
};
use earmark_core::engine::{DeviceChoice, Notify};
use earmark_core::model_file::Model;
use indicatif::ProgressBar;
use serde_json::json;

use super::{Exit, INTERRUPTED_CODE};
use crate::args::{AdaptArgs, AdaptCommand};
use crate::console::Console;
use crate::inputs::{Inputs, shown};
use crate::output::{SPEC_VERSION, timestamp};
use crate::progress::{self, clock};
use crate::{places, report};

/// Adapts, or does what belongs to it.
///
/// # Errors
/// What makes it impossible from the start: the material, the model, the place to write to.
pub fn run(args: &AdaptArgs) -> Result<Exit> {
    if let Some(AdaptCommand::Record(args)) = &args.command {
        return record::run(args);
    }
    let console = Console::new(args.quiet);
    let (clean, room) = (files("clean", &args.clean, &console)?, files("room", &args.room, &console)?);
    let control = Arc::new(Control::new());
    leave_on_ctrl_c(Arc::clone(&control))?;
    let bar = if args.quiet { None } else { progress::bar() };
    let console = console.beside(bar.clone());
    let mut watch = Watch { bar: bar.as_ref(), console: &console, epochs: 0, last: None };
    if args.check {
        let (_, report) = adapt::inspect(&clean, &room, &control, &mut |event| watch.event(event))?;
        return Ok(if report.refuses() { Exit::SomeFailed } else { Exit::Done });
    }
    let out = args.out.as_deref().context("--out is missing: name the profile, like --out club")?;
    let place = Place::new(out, places::profiles()?)?;
    let (base, base_blake3) = super::live::load_model(args.model.as_deref())?;
    let plan = Plan {
        base,
        base_blake3,
        clean,
        room,
        name: place.name.clone(),
        settings: settings(args)?,
        device: match &args.device {
            None => DeviceChoice::Auto,
            Some(device) => device.parse().map_err(|cause: String| anyhow!("device: {cause}"))?,
        },
        threads: super::processors(),
        state: Some(place.state.clone()),
        created: timestamp(SystemTime::now()),
        program: concat!("earmark ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    if args.fresh && place.state.exists() {
        std::fs::remove_file(&place.state).with_context(|| format!("cannot remove {}", shown(&place.state)))?;
    }
    let notify: Notify = {
        let console = console.clone();
        Arc::new(move |notice: &str| console.error(notice))
    };
    let result = adapt::adapt(&plan, &control, &notify, &mut |event| watch.event(event));
    bar.iter().for_each(ProgressBar::finish_and_clear);
    let console = Console::new(args.quiet);
    match result {
        Ok(adapted) => finish(args, &place, &adapted, &console),
        Err(AdaptError::Stopped(Stop::Leave)) => {
            console.error(if place.state.exists() {
                "interrupted; what is done is kept, and the same command goes on from there (--fresh begins anew)"
            } else {
                "interrupted; there was nothing to keep yet"
            });
            Ok(Exit::Interrupted)
        }
        Err(AdaptError::Material(report)) => {
            // The findings were told when they were found.
            if args.json {
                super::print(material_json(&report)?.as_bytes())?;
            }
            console.error("refused: nothing can be learnt from this material");
            Ok(Exit::SomeFailed)
        }
        Err(error) => Err(error.into()),
    }
}

/// Prints the comparison and writes the profile, if it is accepted.
fn finish(args: &AdaptArgs, place: &Place, adapted: &Adapted, console: &Console) -> Result<Exit> {
    let Adapted { model, report } = adapted;
    let text = if args.json {
        let value = json!({ "spec_version": SPEC_VERSION, "accepted": report.is_accepted(), "report": report });
        serde_json::to_string_pretty(&value)? + "\n"
    } else {
        report::table(report)
    };
    super::print(text.as_bytes())?;
    if !report.is_accepted() {
        console.error(
            "refused: no profile was written, and the model in use is the one before; longer recordings, or more of your music, \
             may help",
        );
        return Ok(Exit::SomeFailed);
    }
    place.save(model)?;
    match (&place.profiles, args.use_it) {
        (Some(profiles), true) => {
            profiles.use_profile(Some(&place.name))?;
            console.note(format!("profile {} is in use; earmark profiles use default goes back", place.name));
        }
        (Some(_), false) => {
            console
                .note(format!("profile {0} is written; earmark profiles use {0} makes it the one in use", place.name));
        }
        (None, _) => console.note(format!("wrote {}; use it with --model", shown(&place.path))),
    }
    Ok(Exit::Done)
}

/// Where the result goes.
struct Place {
    name: String,
    path: PathBuf,
    state: PathBuf,
    /// Those that it becomes one of; `None` for a file elsewhere.
    profiles: Option<Profiles>,
}

impl Place {
    fn new(out: &str, profiles: Profiles) -> Result<Self> {
        let path = Path::new(out);
        let is_file = path.extension().is_some_and(|ending| ending == "safetensors") || path.components().count() > 1;
        let place = if is_file {
            let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            check_name(&name)?;
            let mut state = path.as_os_str().to_owned();
            state.push(".adapting");
            Self { name, path: path.to_path_buf(), state: state.into(), profiles: None }
        } else {
            let (path, state) = (profiles.path(out)?, places::adapting(out)?);
            Self { name: out.to_owned(), path, state, profiles: Some(profiles) }
        };
        ensure!(!place.path.exists(), "{} is there already; choose another name, or remove it", shown(&place.path));
        Ok(place)
    }

    fn save(&self, model: &Model) -> Result<()> {
        match &self.profiles {
            Some(profiles) => drop(profiles.save(&self.name, model)?),
            None => model.save(&self.path)?,
        }
        Ok(())
    }
}

/// The settings, with what is written over them.
fn settings(args: &AdaptArgs) -> Result<AdaptSettings> {
    let mut settings = AdaptSettings { stages: args.stages, seed: args.seed, ..AdaptSettings::default() };
    let AdaptSettings { room, limits, .. } = &mut settings;
    room.steps = args.steps.unwrap_or(room.steps);
    room.batch = args.batch.unwrap_or(room.batch);
    for (value, from) in [
        (&mut room.learning_rate, args.learning_rate),
        (&mut room.lambda, args.lambda),
        (&mut room.consistency, args.consistency),
        (&mut limits.max_clean_change, args.max_clean_change),
        (&mut limits.min_clean_kept, args.min_clean_kept),
        (&mut limits.min_meter_accuracy, args.min_meter_accuracy),
    ] {
        *value = from.unwrap_or(*value);
    }
    settings.validate().map_err(|rule| anyhow!(rule))?;
    Ok(settings)
}

/// The music files of one side.
fn files(side: &str, paths: &[PathBuf], console: &Console) -> Result<Vec<PathBuf>> {
    ensure!(!paths.is_empty(), "--{side} is missing: name files or folders (earmark adapt --help shows examples)");
    if let Some(absent) = paths.iter().find(|path| !path.exists()) {
        bail!("--{side}: {} is not there", shown(absent));
    }
    let inputs = Inputs::find(paths);
    inputs.warnings.iter().for_each(|warning| console.note(warning));
    for (path, cause) in &inputs.errors {
        console.error(format!("{}: {cause}", shown(path)));
    }
    if inputs.files.is_empty() {
        bail!("--{side}: no music or video file was found");
    }
    Ok(inputs.files.into_iter().map(|input| input.path).collect())
}

/// Shows how it goes.
struct Watch<'c> {
    bar: Option<&'c ProgressBar>,
    console: &'c Console,
    /// Passes of stage 2.
    epochs: usize,
    last: Option<RoomStep>,
}

impl Watch<'_> {
    fn event(&mut self, event: AdaptEvent) {
        match event {
            AdaptEvent::Note(text) => self.console.note(text),
            AdaptEvent::Reading(side, secs) => self.show(0.0, format!("reading {side}: {}", clock(secs))),
            AdaptEvent::Material(report) => self.material(&report),
            AdaptEvent::Listening(share) => self.show(share, "listening to music and room".to_owned()),
            AdaptEvent::Domain(epoch) => {
                self.epochs += 1;
                self.show(0.0, format!("noise meter: pass {}, loss {:.3}", epoch.epoch, epoch.valid_loss));
            }
            AdaptEvent::Meter(_, after) => {
                let right = 100.0 * after.accuracy;
                self.console.note(format!("noise meter: right in {right:.0} % of cases after {} passes", self.epochs));
            }
            AdaptEvent::Step(step) => {
                let RoomStep { step: number, total, consistency_loss, domain_accuracy, .. } = step;
                let first = self.last.is_none();
                if first || number.is_multiple_of(50) || number == total {
                    // Where no bar is seen, a line now and then is.
                    if self.bar.is_none() {
                        self.console.note(format!("step {number} of {total}, loss in the room {consistency_loss:.4}"));
                    }
                }
                self.last = Some(step);
                let text = format!(
                    "step {number} of {total}, loss in the room {consistency_loss:.4}, room told from music {domain_accuracy:.2}"
                );
                self.show(number as f64 / total as f64, text);
            }
            AdaptEvent::Kept(_) => {}
            AdaptEvent::Judging => self.show(1.0, "comparing before and after".to_owned()),
        }
    }

    fn material(&self, report: &MaterialReport) {
        for (side, figures) in [(Side::Clean, &report.clean), (Side::Room, &report.room)] {
            let files = if figures.recordings == 1 { "file" } else { "files" };
            let (num, secs) = (figures.recordings, clock(figures.audible_secs));
            self.console.note(format!("{side}: {secs} of sound from {num} {files}"));
        }
        for finding in &report.findings {
            if finding.refuses {
                self.console.error(&finding.text);
            } else {
                self.console.note(&finding.text);
            }
        }
    }

    fn show(&self, share: f64, text: String) {
        if let Some(bar) = self.bar {
            bar.set_position((share * bar.length().unwrap_or(0) as f64) as u64);
            bar.set_message(text);
        }
    }
}

fn material_json(report: &MaterialReport) -> Result<String> {
    Ok(serde_json::to_string_pretty(&json!({ "spec_version": SPEC_VERSION, "accepted": false, "material": report }))?
        + "\n")
}

/// The first Ctrl-C keeps what is done, the second does not wait.
fn leave_on_ctrl_c(control: Arc<Control>) -> Result<()> {
    let pressed = std::sync::atomic::AtomicBool::new(false);
    ctrlc::set_handler(move || {
        control.leave();
        if pressed.swap(true, std::sync::atomic::Ordering::Relaxed) {
            std::process::exit(i32::from(INTERRUPTED_CODE));
        }
    })
    .context("cannot listen for Ctrl-C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_has_a_name_and_a_file_a_path() {
        let folder = tempfile::tempdir().expect("a folder");
        let profiles = || Profiles::new(folder.path().join("profiles"));
        let place = Place::new("club", profiles()).expect("a name");
        assert!(place.profiles.is_some() && place.path == folder.path().join("profiles/club.safetensors"));
        let file = folder.path().join("x/kirche.safetensors");
        let place = Place::new(&file.to_string_lossy(), profiles()).expect("a file");
        assert_eq!((place.name.as_str(), &place.path), ("kirche", &file));
        assert!(place.profiles.is_none() && place.state.ends_with("kirche.safetensors.adapting"));
        for (out, expected) in [("default", "built-in model"), ("a:b", "must not hold")] {
            let message = Place::new(out, profiles()).err().expect("refused").to_string();
            assert!(message.contains(expected), "{message}");
        }
        std::fs::create_dir_all(folder.path().join("profiles")).expect("made");
        std::fs::write(folder.path().join("profiles/club.safetensors"), b"x").expect("written");
        assert!(Place::new("club", profiles()).err().expect("refused").to_string().contains("there already"));
    }
}
