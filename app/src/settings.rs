//! Settings that hold: one validator for what flags, environment and settings file say.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use earmark_core::engine::{DeviceChoice, Hop};
use serde::Deserialize;

use crate::args::{Format, LiveArgs, LiveFormat, LiveOptions, TagArgs, TagOptions};
use crate::file_tags::WriteSettings;
use crate::journal::Mode;
use crate::shard::Shard;

/// Most jobs at a time; more would only fill memory.
const MAX_JOBS: i64 = 1024;

/// Tags per file and window where nothing is said.
const DEFAULT_TOP_N: usize = 5;

/// Copying over a network pauses, but seldom this long.
const DEFAULT_SETTLE_SECS: f64 = 3.0;

/// A day; who waits longer waits for something else.
const MAX_SETTLE_SECS: f64 = 86_400.0;

/// `earmark tag`, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct TagSettings {
    /// Files and folders, as given.
    pub paths: Vec<PathBuf>,
    /// Stride between windows, on the exact grid.
    pub hop: Hop,
    /// What to tell the user when `hop` is not what was asked for.
    pub hop_note: Option<String>,
    /// At most this many tags per file, and per window.
    pub top_n: usize,
    /// Least confidence of a tag that is shown; `None` leaves it to the format.
    pub min_confidence: Option<f32>,
    /// Share of cases in which a tag that is shown should be right.
    pub target_precision: Option<f64>,
    /// How results are written.
    pub format: Format,
    /// Where they are written; `None` is the standard output.
    pub out: Option<PathBuf>,
    /// Most files at a time; `None` is one per processor.
    pub jobs: Option<usize>,
    /// What to do with the output's journal.
    pub mode: Mode,
    /// The part of the files to tag; `None` is all.
    pub shard: Option<Shard>,
    /// Tag what arrives, until stopped: how long a file must not have changed to count as fully written.
    pub watch: Option<Duration>,
    /// Start no more files after the first that fails.
    pub fail_fast: bool,
    /// Only results and errors.
    pub quiet: bool,
    /// Progress may be shown on a terminal.
    pub progress: bool,
    /// Device to compute on.
    pub device: DeviceChoice,
    /// Model file; `None` is the built-in model.
    pub model: Option<PathBuf>,
    /// Write tags into the files.
    pub write_tags: Option<WriteSettings>,
}

impl TagSettings {
    /// Checks what flags and environment (`args`) and the settings file say, in this order of precedence.
    ///
    /// # Errors
    /// The first rule that is broken, with the option's name and the offending value.
    pub fn resolve(args: TagArgs, file: TagOptions) -> Result<Self> {
        let options = args.options.or(file);
        let (hop, hop_note) = match options.hop_secs {
            None => (Hop::DEFAULT, None),
            Some(secs) => hop(secs)?,
        };
        let top_n = match options.top_n {
            None => DEFAULT_TOP_N,
            Some(n) => {
                ensure!(n >= 1, "top-n is {n}; it must be at least 1");
                usize::try_from(n).unwrap_or(usize::MAX)
            }
        };
        if let Some(p) = options.min_confidence {
            ensure!((0.0..=1.0).contains(&p), "min-confidence is {p}; it must be between 0 and 1");
        }
        if let Some(p) = options.target_precision {
            ensure!(p > 0.0 && p <= 1.0, "target-precision is {p}; it must be above 0 and at most 1");
            ensure!(
                options.min_confidence.is_none(),
                "target-precision and min-confidence both say which tags to leave out; choose one"
            );
        }
        let write_tags = write_tags(&options)?;
        let out = options.out.filter(|out| out.as_os_str() != "-");
        let format = options.format.unwrap_or(Format::Human);
        let (resume, watch) = (options.resume.unwrap_or(false), options.watch.unwrap_or(false));
        ensure!(
            !resume || out.is_some(),
            "resume goes on from the journal beside an output, and there is none; name it with --out FILE"
        );
        ensure!(format != Format::Parquet || out.is_some(), "parquet is two files; name the first with --out FILE");
        ensure!(!watch || options.shard.is_none(), "shard divides what is there, and watch waits for more; choose one");
        let settle_secs = options.settle_secs.unwrap_or(DEFAULT_SETTLE_SECS);
        ensure!(
            (0.0..=MAX_SETTLE_SECS).contains(&settle_secs),
            "settle-secs is {settle_secs}; it must be between 0 and {MAX_SETTLE_SECS}"
        );
        let jobs = match options.jobs {
            None => None,
            Some(n) => {
                ensure!((1..=MAX_JOBS).contains(&n), "jobs is {n}; it must be between 1 and {MAX_JOBS}");
                usize::try_from(n).ok()
            }
        };
        let device = match options.device {
            None => DeviceChoice::Auto,
            Some(device) => device.parse().map_err(|cause: String| anyhow!("device: {cause}"))?,
        };
        Ok(Self {
            paths: args.paths,
            hop,
            hop_note,
            top_n,
            min_confidence: options.min_confidence.map(|p| p as f32),
            target_precision: options.target_precision,
            format,
            out,
            jobs,
            mode: if resume { Mode::Resume } else { Mode::Fresh },
            shard: options.shard,
            watch: watch.then(|| Duration::from_secs_f64(settle_secs)),
            fail_fast: options.fail_fast.unwrap_or(false),
            quiet: options.quiet.unwrap_or(false),
            progress: !options.no_progress.unwrap_or(false),
            device,
            model: options.model,
            write_tags,
        })
    }
}

/// How tags are written, if they are.
fn write_tags(options: &TagOptions) -> Result<Option<WriteSettings>> {
    let (dry_run, overwrite) = (options.dry_run.unwrap_or(false), options.overwrite.unwrap_or(false));
    if options.write_tags.unwrap_or(false) {
        return Ok(Some(WriteSettings { dry_run, overwrite, journal: options.undo_journal.clone() }));
    }
    for (is_set, name) in
        [(dry_run, "dry-run"), (overwrite, "overwrite"), (options.undo_journal.is_some(), "undo-journal")]
    {
        ensure!(!is_set, "{name} is set, but no tags are to be written; add --write-tags or leave it out");
    }
    Ok(None)
}

/// The hop on the exact grid, and a note if that is not what was asked for.
fn hop(secs: f64) -> Result<(Hop, Option<String>)> {
    let Some(hop) = Hop::nearest_exact(secs) else {
        bail!("hop-secs is {secs}; it must be a number of seconds above 0");
    };
    let exact = hop.duration().as_secs_f64();
    // What rounds to the same millisecond was asked for.
    let note = ((exact - secs).abs() >= 0.0005).then(|| {
        format!(
            "hop of {secs} s rounded to {exact:.3} s ({} samples), the nearest at which windows share their work",
            hop.samples()
        )
    });
    Ok((hop, note))
}

/// What `earmark live` listens to, as it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum LiveSource {
    /// What was chosen the last time, or the default microphone.
    Remembered,
    /// A device by a part of its name.
    Input(String),
    /// What the machine plays.
    System,
    /// A file, so many times as fast as it sounds.
    File(PathBuf, f64),
}

/// `earmark live`, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveSettings {
    /// Only list the devices.
    pub list: bool,
    /// What to listen to.
    pub source: LiveSource,
    /// A file is played aloud.
    pub play: bool,
    /// Session file to write.
    pub record: Option<PathBuf>,
    /// FLAC file to write.
    pub audio: Option<PathBuf>,
    /// Text file to keep up to date.
    pub now_playing: Option<PathBuf>,
    /// When to end.
    pub duration: Option<Duration>,
    /// How results are written; `None` depends on the place.
    pub format: Option<LiveFormat>,
    /// Only results and errors.
    pub quiet: bool,
    /// Device to compute on.
    pub device: DeviceChoice,
    /// Model file; `None` is the built-in model.
    pub model: Option<PathBuf>,
}

/// Fastest that a file is listened to: what one processor keeps up with.
const MAX_SPEED: f64 = 100.0;

/// Longest duration in seconds: a year.
const MAX_DURATION_SECS: f64 = 366.0 * 86_400.0;

impl LiveSettings {
    /// Checks what flags and environment (`args`) and the settings file say, in this order of precedence.
    ///
    /// # Errors
    /// The first rule that is broken, with the option's name and the offending value.
    pub fn resolve(args: LiveArgs, file: LiveOptions) -> Result<Self> {
        let LiveArgs { list, system, file: path, speed, play, record, audio, duration, options } = args;
        // A source that is named on the command line is not overruled by one from elsewhere.
        let options = options.or(file);
        let speed = speed.unwrap_or(1.0);
        ensure!((0.1..=MAX_SPEED).contains(&speed), "speed is {speed}; it must be between 0.1 and {MAX_SPEED}");
        let source = match (path, system, options.input) {
            (Some(path), _, _) => LiveSource::File(path, speed),
            (None, true, _) => LiveSource::System,
            (None, false, Some(input)) => {
                ensure!(!input.trim().is_empty(), "input is empty; name a device, as --list shows them");
                LiveSource::Input(input)
            }
            (None, false, None) => LiveSource::Remembered,
        };
        let duration = match duration {
            None => None,
            Some(secs) => {
                ensure!(
                    secs > 0.0 && secs <= MAX_DURATION_SECS,
                    "duration is {secs}; it must be a number of seconds above 0 and at most a year"
                );
                Some(Duration::from_secs_f64(secs))
            }
        };
        let device = match options.device {
            None => DeviceChoice::Cpu,
            Some(device) => device.parse().map_err(|cause: String| anyhow!("device: {cause}"))?,
        };
        Ok(Self {
            list,
            source,
            play,
            record,
            audio,
            now_playing: options.now_playing,
            duration,
            format: options.format,
            quiet: options.quiet.unwrap_or(false),
            device,
            model: options.model,
        })
    }
}

/// The settings file: one table per command.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SettingsFile {
    /// `[tag]`.
    pub tag: TagOptions,
    /// `[live]`.
    pub live: LiveOptions,
}

/// Reads the settings file: `explicit`, which must be there, or the default one of the environment, which may be.
///
/// # Errors
/// The file and the line that is wrong.
pub fn read_file(explicit: Option<&Path>, var: impl Fn(&str) -> Option<PathBuf>) -> Result<SettingsFile> {
    let Some(path) = explicit.map(Path::to_path_buf).or_else(|| default_path(var).filter(|path| path.is_file())) else {
        return Ok(SettingsFile::default());
    };
    let shown = path.display();
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read the settings file {shown}"))?;
    let mut options = parse_file(&text).with_context(|| format!("the settings file {shown} is wrong"))?;
    // Names in a file mean the same wherever the command is started.
    let folder = path.parent().unwrap_or(Path::new(""));
    let SettingsFile { tag, live } = &mut options;
    for path in [&mut tag.model, &mut tag.out, &mut tag.undo_journal, &mut live.model, &mut live.now_playing]
        .into_iter()
        .flatten()
    {
        if path.as_os_str() != "-" {
            *path = folder.join(&*path);
        }
    }
    Ok(options)
}

fn parse_file(text: &str) -> Result<SettingsFile> {
    Ok(toml::from_str(text)?)
}

/// Where the settings file lies unless it is named: the XDG rule, and `%APPDATA%` where there is no home.
fn default_path(var: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let folder = var("XDG_CONFIG_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| var("HOME").filter(|path| path.is_absolute()).map(|home| home.join(".config")))
        .or_else(|| var("APPDATA"))?;
    Some(folder.join("earmark").join("config.toml"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn resolve(options: TagOptions, file: TagOptions) -> Result<TagSettings> {
        TagSettings::resolve(TagArgs { paths: vec!["a.wav".into()], options }, file)
    }

    fn refused(options: TagOptions) -> String {
        // The same validator whichever the source.
        let from_file = resolve(TagOptions::default(), options.clone()).expect_err("refused").to_string();
        let from_flag = resolve(options, TagOptions::default()).expect_err("refused").to_string();
        assert_eq!(from_file, from_flag);
        from_flag
    }

    #[test]
    fn flags_win_over_the_file() {
        let flags = TagOptions { top_n: Some(3), quiet: Some(false), ..TagOptions::default() };
        let file = parse_file("[tag]\ntop-n = 7\nhop-secs = 1\nquiet = true\nformat = 'csv'\n").expect("valid");
        let settings = resolve(flags, file.tag).expect("valid");
        assert_eq!(settings.top_n, 3);
        assert!(!settings.quiet);
        assert_eq!(settings.hop.samples(), 19_683);
        assert_eq!(settings.format, Format::Csv);
        assert!(settings.progress);
    }

    #[test]
    fn a_hop_off_the_grid_is_rounded_and_said() {
        let settings = |hop_secs| resolve(TagOptions { hop_secs, ..TagOptions::default() }, TagOptions::default());
        let note = |secs| settings(Some(secs)).expect("valid").hop_note;
        assert_eq!(settings(None).expect("valid").hop, Hop::DEFAULT);
        assert_eq!(note(0.298), None);
        let said = note(0.5).expect("said");
        assert!(said.contains("0.5 s") && said.contains("0.298 s") && said.contains("6561"), "{said}");
        assert!(note(60.0).expect("said").contains("2.678 s"));
        assert!(note(1e-9).expect("said").contains("0.011 s"));
    }

    #[test]
    fn broken_rules_name_option_and_value() {
        let none = TagOptions::default;
        for secs in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(refused(TagOptions { hop_secs: Some(secs), ..none() }).starts_with("hop-secs is "));
        }
        assert!(refused(TagOptions { top_n: Some(0), ..none() }).contains("top-n is 0"));
        assert!(refused(TagOptions { min_confidence: Some(1.01), ..none() }).contains("1.01"));
        assert!(refused(TagOptions { target_precision: Some(0.0), ..none() }).contains("target-precision is 0"));
        let both = TagOptions { target_precision: Some(0.9), min_confidence: Some(0.5), ..none() };
        assert!(refused(both).contains("choose one"));
        assert!(refused(TagOptions { resume: Some(true), ..none() }).contains("--out FILE"));
        assert!(refused(TagOptions { format: Some(Format::Parquet), ..none() }).contains("--out FILE"));
        let shard = "1/2".parse().ok();
        assert!(refused(TagOptions { watch: Some(true), shard, ..none() }).contains("choose one"));
        assert!(refused(TagOptions { settle_secs: Some(-1.0), ..none() }).contains("settle-secs is -1"));
        assert!(refused(TagOptions { jobs: Some(-4), ..none() }).contains("jobs is -4"));
        assert!(refused(TagOptions { device: Some("cuda".into()), ..none() }).contains("'cuda'"));
        assert!(refused(TagOptions { device: Some("wgpu:x".into()), ..none() }).contains("'wgpu:x'"));
        assert!(refused(TagOptions { dry_run: Some(true), ..none() }).contains("dry-run is set"));
        assert!(refused(TagOptions { overwrite: Some(true), ..none() }).contains("overwrite is set"));
        assert!(refused(TagOptions { undo_journal: Some("j".into()), ..none() }).contains("undo-journal is set"));
    }

    #[test]
    fn unknown_names_in_the_file_are_refused() {
        let message = |text: &str| parse_file(text).expect_err("refused").to_string();
        assert!(message("[tag]\nhop_secs = 1").contains("hop_secs"));
        assert!(message("hop-secs = 1").contains("unknown field"));
        assert!(message("[tag]\nformat = 'xml'").contains("xml"));
        assert!(message("[tag]\nshard = '9/8'").contains("9/8"));
    }

    #[test]
    fn names_in_the_file_are_relative_to_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("my.toml");
        fs::write(&path, "[tag]\nmodel = 'm.safetensors'\nout = '-'\n").expect("written");
        let options = read_file(Some(&path), |_| None).expect("valid");
        assert_eq!(options.tag.model, Some(folder.path().join("m.safetensors")));
        assert_eq!(options.tag.out, Some("-".into()));
        assert!(read_file(Some(&folder.path().join("absent.toml")), |_| None).is_err());
        let none = read_file(None, |_| Some(folder.path().into())).expect("no file is fine");
        assert_eq!(none, SettingsFile::default());
    }

    #[test]
    fn the_default_file_follows_xdg() {
        let home = std::env::temp_dir();
        let with_home = default_path(|name| (name == "HOME").then(|| home.clone()));
        assert_eq!(with_home, Some(home.join(".config/earmark/config.toml")));
        let with_xdg = default_path(|name| (name != "APPDATA").then(|| home.join(name)));
        assert_eq!(with_xdg, Some(home.join("XDG_CONFIG_HOME/earmark/config.toml")));
        assert_eq!(default_path(|_| None), None);
    }

    fn live(args: &[&str], file: &str) -> Result<LiveSettings> {
        let cli = Cli::try_parse_from(["earmark", "live"].iter().chain(args))?;
        let Some(Command::Live(args)) = cli.command else { bail!("another command") };
        LiveSettings::resolve(args, parse_file(file)?.live)
    }

    #[test]
    fn a_source_on_the_command_line_wins() {
        let source = |args: &[&str], file: &str| live(args, file).expect("valid").source;
        let file = "[live]\ninput = 'usb'\n";
        assert_eq!(source(&[], ""), LiveSource::Remembered);
        assert_eq!(source(&[], file), LiveSource::Input("usb".into()));
        assert_eq!(source(&["--system"], file), LiveSource::System);
        assert_eq!(source(&["--file", "a.mkv", "--speed", "4"], file), LiveSource::File("a.mkv".into(), 4.0));
        assert_eq!(source(&["--input", "line"], file), LiveSource::Input("line".into()));
        assert!(live(&["--system", "--input", "line"], "").is_err());
        assert!(live(&["--speed", "2"], "").is_err());
    }

    #[test]
    fn broken_rules_of_live_name_option_and_value() {
        let message = |args: &[&str]| live(args, "").expect_err("refused").to_string();
        assert!(message(&["--duration", "-1"]).starts_with("duration is -1"));
        assert!(message(&["--duration", "NaN"]).starts_with("duration is NaN"));
        assert!(message(&["--file", "a", "--speed", "1000"]).starts_with("speed is 1000"));
        assert!(message(&["--input", " "]).contains("--list"));
        assert!(message(&["--device", "cuda"]).contains("'cuda'"));
        assert!(live(&[], "[live]\nspeed = 2\n").expect_err("refused").to_string().contains("speed"));
    }
}
