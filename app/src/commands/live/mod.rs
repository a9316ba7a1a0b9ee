//! `earmark live`: what is heard right now.
//!
//! ```text
//! settings -> source (named, remembered, default) -> core::live -> state  -> line in place    (terminal)
//!                                                             '--> events -> lines or NDJSON  (elsewhere)
//! ```

pub mod remembered;
mod report;

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, bail};
use earmark_core::engine::{self, Engine, Hop, Notify, Work};
use earmark_core::live::{
    CaptureHost, Clock, Device, DeviceKind, Event, Live, LiveOptions, Record, RecordOptions, SourceChoice, SystemClock,
    SystemHost,
};
use earmark_core::model_file::Model;

use super::{Exit, INTERRUPTED_CODE};
use crate::console::Console;
use crate::output::timestamp;
use crate::settings::{LiveSettings, LiveSource};
use report::Report;

/// How long to wait for the next event before the line is drawn again.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// Set by Ctrl-C, a request to terminate, and when nobody reads any more.
static STOP: AtomicBool = AtomicBool::new(false);

/// Listens until it is stopped, the time is over or the file has ended.
///
/// # Errors
/// What makes it impossible from the start: the model, the device, a file to record to. What happens to a source later is
/// part of what is reported.
pub fn run(settings: &LiveSettings) -> Result<Exit> {
    let host = SystemHost::new();
    if settings.list {
        let devices = host.devices()?;
        super::print(listing(&devices).as_bytes())?;
        return Ok(Exit::Done);
    }
    let console = Console::new(settings.quiet);
    let (model, model_blake3) = load_model(settings.model.as_deref())?;
    let source = choose(settings, &host, &console)?;
    let notify: Notify = {
        let console = console.clone();
        Arc::new(move |notice: &str| console.error(notice))
    };
    // One thread: a window takes a hundredth of the time until the next one.
    let work = Work { threads: 1, hop: Hop::DEFAULT, is_long: false };
    let engine: Arc<dyn Engine> = Arc::from(engine::open(&model, settings.device, work, &notify)?);
    stop_on_signals()?;

    let speed = if let LiveSource::File(_, speed) = settings.source { speed } else { 1.0 };
    let clock = Arc::new(SystemClock::faster(speed));
    let options = LiveOptions {
        source: source.clone(),
        record: RecordOptions {
            session: settings.record.clone(),
            audio: settings.audio.clone(),
            now_playing: settings.now_playing.clone(),
            created: None,
        },
        created: timestamp(SystemTime::now()),
        program: concat!("earmark ", env!("CARGO_PKG_VERSION")).to_owned(),
        model_blake3,
    };
    let device = engine.device();
    let live = Live::start(engine, &model.metadata, Arc::new(host), clock.clone(), options)?;
    console.note(format!("listening to {source} with model {} on {device}; Ctrl-C ends it", model.metadata.name));

    let mut report = report::report(settings.format, console.clone(), &model, &device, &source);
    let outcome = listen(live, &*clock, settings.duration, &mut *report);
    let outcome = match outcome {
        Ok(outcome) => outcome,
        // Whoever read has read enough, as `head` does; the record is finished all the same.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
        Err(error) => return Err(anyhow!(error).context("cannot write to the standard output")),
    };
    for (what, path) in [("record", &settings.record), ("sound", &settings.audio)] {
        if let Some(path) = path.as_ref().filter(|path| path.exists()) {
            console.note(format!("the {what} is in {}", crate::inputs::shown(path)));
        }
    }
    Ok(match outcome {
        // Without a time or an end, being stopped is how it ends.
        Outcome { failed: false, early: true } if settings.duration.is_some() || speed_of_file(&source) => {
            Exit::Interrupted
        }
        Outcome { failed: true, .. } => Exit::SomeFailed,
        Outcome { .. } => Exit::Done,
    })
}

fn speed_of_file(source: &SourceChoice) -> bool {
    matches!(source, SourceChoice::File(_))
}

/// How the listening ended.
struct Outcome {
    /// Something could not be done.
    failed: bool,
    /// It was stopped by a signal.
    early: bool,
}

/// Reports until the end. However it ends, the record is finished.
fn listen(
    mut live: Live,
    clock: &dyn Clock,
    duration: Option<Duration>,
    report: &mut dyn Report,
) -> io::Result<Outcome> {
    let mut failed = false;
    let mut heard_any = false;
    let mut tell = |event: &Event, report: &mut dyn Report| -> io::Result<()> {
        failed |= matches!(event, Event::Failure(_));
        if let Event::Record(record) = event
            && let Record::End(end) = &**record
        {
            heard_any = end.received_s > 0.0;
        }
        report.event(event)
    };
    let end_at = duration.map(|duration| clock.now() + duration);
    let early = loop {
        if let Some(event) = live.event(DRAW_EVERY) {
            tell(&event, report)?;
        }
        report.state(&live)?;
        report.draw(live.state())?;
        if STOP.load(Ordering::Relaxed) {
            break true;
        }
        if live.is_over() || end_at.is_some_and(|end_at| clock.now() >= end_at) {
            break false;
        }
    };
    live.stop();
    while let Some(event) = live.event(Duration::ZERO) {
        tell(&event, report)?;
    }
    report.end()?;
    Ok(Outcome { failed: failed || !heard_any, early })
}

/// The model in `file`, or the built-in one, and the hash of its file.
///
/// # Errors
/// The file, and what is wrong with it.
pub fn load_model(file: Option<&Path>) -> Result<(Model, String)> {
    let hash = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
    let Some(path) = file else {
        return Ok((super::load_model(None)?, hash(earmark_assets::DEFAULT_MODEL)));
    };
    let model = Model::load(path)?;
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok((model, hash(&bytes)))
}

/// What is to be listened to, among what there is.
fn choose(settings: &LiveSettings, host: &SystemHost, console: &Console) -> Result<SourceChoice> {
    let remember = |choice: SourceChoice| {
        if let Err(error) = remembered::save(&choice) {
            console.note(format!("the choice is not remembered: {error:#}"));
        }
        choice
    };
    match &settings.source {
        LiveSource::File(path, _) => Ok(SourceChoice::File(path.clone())),
        LiveSource::System => {
            let choice = SourceChoice::Default(DeviceKind::System);
            if choice.find(&host.devices()?).is_none() {
                bail!("this system offers no way to listen to what it plays; earmark live --list shows what it offers");
            }
            Ok(remember(choice))
        }
        LiveSource::Input(name) => Ok(remember(named(name, &host.devices()?)?)),
        LiveSource::Remembered => {
            let devices = host.devices()?;
            match remembered::load() {
                Ok(Some(choice)) if choice.find(&devices).is_some() => return Ok(choice),
                Ok(Some(choice)) => console.note(format!("{choice}, listened to the last time, is not there")),
                Ok(None) => {}
                Err(error) => console.note(format!("the last choice is not known: {error:#}")),
            }
            let choice = SourceChoice::Default(DeviceKind::Input);
            if choice.find(&devices).is_none() {
                bail!(
                    "there is no microphone or line; --system listens to what this machine plays, --file to a file, and \
                     --list shows the devices"
                );
            }
            Ok(choice)
        }
    }
}

/// The device that `name` means: its identity, its name, or a part of either that only one has.
fn named(name: &str, devices: &[Device]) -> Result<SourceChoice> {
    let chosen = |device: &Device| SourceChoice::Device { id: device.id.clone(), name: device.name.clone() };
    if let Some(device) = devices.iter().find(|device| device.id == name || device.name == name) {
        return Ok(chosen(device));
    }
    let part = name.to_lowercase();
    let has = |device: &&Device| [&device.id, &device.name].iter().any(|text| text.to_lowercase().contains(&part));
    let found: Vec<&Device> = devices.iter().filter(has).collect();
    match found[..] {
        [device] => Ok(chosen(device)),
        [] => bail!("no device is called like '{name}'; there are:\n{}", listing(devices)),
        _ => {
            let names: Vec<&str> = found.iter().map(|device| device.id.as_str()).collect();
            bail!("'{name}' can mean {}; name one of them", names.join(" or "))
        }
    }
}

/// The devices, grouped by kind.
fn listing(devices: &[Device]) -> String {
    if devices.is_empty() {
        return "There is no device to listen to.\n".to_owned();
    }
    let mut text = String::new();
    let mut last = None;
    for device in devices {
        if last != Some(device.kind) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}{}:", if last.is_some() { "\n" } else { "" }, device.kind);
            last = Some(device.kind);
        }
        let mark = if device.is_default { '*' } else { ' ' };
        let _ = writeln!(text, "{mark} {}\n    --input '{}'", device.name, device.id);
    }
    text += "\n* the system's default\n";
    text
}

/// The first signal ends the listening, with the record finished; the second does not wait.
fn stop_on_signals() -> Result<()> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(INTERRUPTED_CODE));
        }
    })
    .context("cannot listen for Ctrl-C")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices() -> Vec<Device> {
        let device =
            |id: &str, name: &str, kind, is_default| Device { id: id.into(), name: name.into(), kind, is_default };
        vec![
            device("alsa_input.usb", "USB Audio", DeviceKind::Input, true),
            device("alsa_input.pci", "Built-in Microphone", DeviceKind::Input, false),
            device("alsa_output.pci.monitor", "Monitor of Built-in Audio", DeviceKind::System, true),
        ]
    }

    #[test]
    fn a_part_of_a_name_is_enough_if_it_is_one_devices() {
        let id = |name: &str| match named(name, &devices()) {
            Ok(SourceChoice::Device { id, .. }) => id,
            other => format!("{other:?}"),
        };
        assert_eq!(id("usb"), "alsa_input.usb");
        assert_eq!(id("microphone"), "alsa_input.pci");
        assert_eq!(id("alsa_output.pci.monitor"), "alsa_output.pci.monitor");
        let message = |name: &str| named(name, &devices()).expect_err("refused").to_string();
        assert!(message("built-in").contains("alsa_input.pci or alsa_output.pci.monitor"));
        assert!(message("bluetooth").contains("USB Audio"));
    }

    #[test]
    fn lists_are_grouped_by_kind() {
        let text = listing(&devices());
        let heads: Vec<&str> = text.lines().filter(|line| line.ends_with(':')).collect();
        assert_eq!(heads, ["microphones and lines:", "what this machine plays:"]);
        assert!(text.contains("* USB Audio\n    --input 'alsa_input.usb'\n  Built-in"), "{text}");
        assert!(listing(&[]).contains("no device"));
    }
}
