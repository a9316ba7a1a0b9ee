//! What was written on the command line and in the environment, before anything is checked against anything else.

// These comments are the help text, which is no place for backticks.
#![allow(clippy::doc_markdown)]

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::shard::Shard;

/// The exit codes, shown under `--help`.
const EXIT_CODES: &str = "Exit codes: 0 all done, 1 some files failed, 2 usage, 130 interrupted.";

/// Tags music, also under applause, talk and street noise, on your own machine.
#[cfg_attr(feature = "gui", doc = "\nWithout a command the desktop opens.")]
#[derive(Debug, Parser)]
#[command(name = "earmark", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Settings file [default: earmark/config.toml in the user's configuration folder, if it is there].
    #[arg(long, global = true, value_name = "FILE", env = "EARMARK_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say what is heard in music and video files: genre, mood, instruments, voice.
    #[command(after_help = TAG_HELP)]
    Tag(TagArgs),
    /// Join the shards of a library into the bytes that a single run would have written.
    #[command(after_help = MERGE_HELP)]
    Merge(MergeArgs),
    /// Tag one file and write its record: how `tag` reads a file that ended it before.
    #[command(hide = true)]
    TagAlone(TagAloneArgs),
    /// Take back the tags that `tag --write-tags` wrote into files.
    #[command(after_help = UNDO_HELP)]
    Undo(UndoArgs),
    /// Say what is heard right now: from a microphone, from what this machine plays, or from a file as it would sound.
    #[command(after_help = LIVE_HELP)]
    Live(LiveArgs),
    /// Fit the model to a room, from your own music and some minutes of the room's sound, on this machine.
    #[cfg(feature = "gpu")]
    #[command(after_help = ADAPT_HELP)]
    Adapt(Box<AdaptArgs>),
    /// List the profiles that were adapted to rooms, use one, remove one.
    #[command(after_help = PROFILES_HELP)]
    Profiles(ProfilesArgs),
    /// Open the desktop in a certain way: for measurements and pictures of it.
    #[cfg(feature = "gui")]
    #[command(hide = true)]
    Desktop(DesktopArgs),
    /// Turn the record of a set into labels, chapters, a cue sheet or a table.
    Export(ExportArgs),
    /// Say which devices --device can name, and whether they compute what they should.
    #[cfg(feature = "gpu")]
    #[command(after_help = DEVICES_HELP)]
    Devices(DevicesArgs),
    /// Look into model files, or make one.
    #[command(subcommand, arg_required_else_help = true)]
    Model(ModelCommand),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

const TAG_HELP: &str = "\
Every option can also be set in the environment (as shown) and in the settings file, under [tag] with the option's name: \
hop-secs = 0.5. The command line wins over the environment, and the environment over the file.

A file or window whose samples all stay below -60 dB of full scale is called silent and gets no tags.

With --out FILE, results are kept in FILE.journal while the run lasts. A run that was interrupted, killed or ran out of \
disk goes on with --resume; its output is the same, byte for byte, as if nothing had happened. A file that ends the whole \
process is tried by itself the next time and set aside if it does so again.

--write-tags fills empty fields of mp3, aac, flac, ogg (Vorbis, Opus), m4a, mp4, wav and aiff files. A tag is written if \
its confidence in the whole file reaches the model's threshold for it (`earmark model info`), or the one for --target-precision; --top-n and --min-confidence \
are about the results alone. Genres go to GENRE and moods to MOOD, with their scores in EARMARK_GENRE and EARMARK_MOOD; \
instruments and voices to EARMARK_INSTRUMENT and EARMARK_VOICE; EARMARK_MODEL says who wrote. A genre or mood of yours \
is never replaced. The audio and all other fields stay as they are, which is checked before a file is replaced.

Examples:
  earmark tag ~/Music
  earmark tag --format csv --out tags.csv --top-n 50 ~/Music
  earmark tag --format audacity --out labels.txt concert.mkv
  earmark tag --write-tags --dry-run ~/Music
  earmark tag --resume --format parquet --out library.parquet ~/Music
  earmark tag --shard 3/8 --format parquet --out part-3.parquet ~/Music
  earmark tag --watch --resume --format csv --out tags.csv ~/Incoming

Exit codes: 0 all done, 1 some files failed, 2 usage, 130 interrupted.";

/// `earmark tag`.
#[derive(Debug, Args)]
pub struct TagArgs {
    /// Files, or folders in which to look for music and video files (hidden ones are left out).
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// The rest can come from elsewhere too.
    #[command(flatten)]
    pub options: TagOptions,
}

const MERGE_HELP: &str = "\
A shard's results lie in its journal, PART.journal beside the output PART; the format is that of the shards. All N shards of \
one run are needed, made by the same version with the same model and options over the same files.

Example:
  earmark merge part-*.journal --out library.parquet

Exit codes: 0 done, 1 the result could not be written, 2 usage.";

/// `earmark merge`.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// Outputs of the shards, or their journals.
    #[arg(required = true, value_name = "PART")]
    pub parts: Vec<PathBuf>,
    /// The file to write, complete or not at all.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Say nothing but errors.
    #[arg(short, long)]
    pub quiet: bool,
}

/// `earmark tag-alone`.
#[derive(Debug, Args)]
pub struct TagAloneArgs {
    /// The file.
    pub path: PathBuf,
    /// Samples between windows.
    #[arg(long)]
    pub hop_samples: usize,
    /// Where to compute.
    #[arg(long)]
    pub device: String,
    /// The file that is there, locked, as long as this process lives.
    #[arg(long)]
    pub sign_of_life: PathBuf,
    /// It is part of a run for which it can pay to look for a GPU.
    #[arg(long)]
    pub long: bool,
    /// Model file [default: the built-in model].
    #[arg(long)]
    pub model: Option<PathBuf>,
}

const UNDO_HELP: &str = "\
A file that is as the run left it gets back every byte and its time of change. One that was changed since gets back those \
fields that still are as they were written, and is named. Undoing can be interrupted and repeated; the journal stays.

Exit codes: 0 all done, 1 some files failed, 2 usage.";

/// `earmark undo`.
#[derive(Debug, Args)]
pub struct UndoArgs {
    /// The journal that the run spoke of at its end.
    pub journal: PathBuf,
    /// Show which files would be restored, and restore nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Say nothing but errors.
    #[arg(short, long)]
    pub quiet: bool,
}

#[cfg(feature = "gpu")]
const DEVICES_HELP: &str = "\
`auto` takes the first GPU if it passes its self-test and is faster than the processor, and looks for one only when there \
are more than 64 MiB to tag: less is done before a GPU is ready. A GPU that fails its self-test, or later, is replaced by \
the processor with a message, and no result is lost. Software adapters are listed but never used.

Exit codes: 0 done, 2 usage.";

/// `earmark devices`.
#[cfg(feature = "gpu")]
#[derive(Debug, Args)]
pub struct DevicesArgs {
    /// Measure the speed of each device that can be used, at the default distance between windows.
    #[arg(long)]
    pub bench: bool,
    /// Write JSON.
    #[arg(long)]
    pub json: bool,
    /// Model file to test with [default: the built-in model].
    #[arg(long, value_name = "FILE", env = "EARMARK_MODEL", hide_env_values = true)]
    pub model: Option<PathBuf>,
}

/// Options of `earmark tag`, each of which may come from a flag, the environment or the settings file. `None` means
/// that the source does not say.
#[derive(Clone, Debug, Default, PartialEq, Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TagOptions {
    /// Seconds between windows, taken to the nearest of 0.011, 0.033, 0.099, 0.298, 0.893 and 2.678 [default: 0.298].
    #[arg(long, value_name = "S", env = "EARMARK_HOP_SECS", hide_env_values = true, allow_negative_numbers = true)]
    pub hop_secs: Option<f64>,

    /// At most this many tags per file, and per window [default: 5].
    #[arg(long, value_name = "N", env = "EARMARK_TOP_N", hide_env_values = true, allow_negative_numbers = true)]
    pub top_n: Option<i64>,

    /// Leave out tags with less confidence, 0 to 1 [default: human and audacity the model's threshold for each tag,
    /// others 0].
    #[arg(
        long,
        value_name = "P",
        env = "EARMARK_MIN_CONFIDENCE",
        hide_env_values = true,
        allow_negative_numbers = true
    )]
    pub min_confidence: Option<f64>,

    /// Leave out tags below the confidence from which on they were right in this share of cases, 0 to 1, on clips that
    /// the model had not learnt from. Tags that are never right that often are named and left out.
    #[arg(
        long,
        value_name = "P",
        env = "EARMARK_TARGET_PRECISION",
        hide_env_values = true,
        allow_negative_numbers = true
    )]
    pub target_precision: Option<f64>,

    /// How to write the results [default: human].
    #[arg(long, value_name = "FORMAT", env = "EARMARK_FORMAT", hide_env_values = true)]
    pub format: Option<Format>,

    /// Write the results to this file, complete or not at all; `-` is the standard output [default: -].
    #[arg(long, value_name = "FILE", env = "EARMARK_OUT", hide_env_values = true)]
    pub out: Option<PathBuf>,

    /// Files tagged at the same time [default: one per processor]. Results keep the order of the input.
    #[arg(long, value_name = "N", env = "EARMARK_JOBS", hide_env_values = true, allow_negative_numbers = true)]
    pub jobs: Option<i64>,

    /// Go on from what an earlier run left in FILE.journal (see --out): files that have not changed since are not tagged
    /// again. Keeps the journal for the next time.
    #[arg(long, env = "EARMARK_RESUME", value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", value_parser = BoolishValueParser::new())]
    #[arg(hide_env_values = true, hide_possible_values = true)]
    pub resume: Option<bool>,

    /// Tag only part I of N, like 3/8; `earmark merge` joins them.
    #[arg(long, value_name = "I/N", env = "EARMARK_SHARD", hide_env_values = true)]
    pub shard: Option<Shard>,

    /// Go on for ever: tag what arrives in the folders, once it is fully written, until Ctrl-C.
    #[arg(long, env = "EARMARK_WATCH", value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", value_parser = BoolishValueParser::new())]
    #[arg(hide_env_values = true, hide_possible_values = true)]
    pub watch: Option<bool>,

    /// With --watch: how long a file must not have changed before it counts as fully written [default: 3].
    #[arg(long, value_name = "S", env = "EARMARK_SETTLE_SECS", hide_env_values = true, allow_negative_numbers = true)]
    pub settle_secs: Option<f64>,

    /// Start no more files after the first that fails.
    #[arg(long, env = "EARMARK_FAIL_FAST", value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", value_parser = BoolishValueParser::new())]
    #[arg(hide_env_values = true, hide_possible_values = true)]
    pub fail_fast: Option<bool>,

    /// Say nothing but results and errors.
    #[arg(short, long, env = "EARMARK_QUIET", value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", value_parser = BoolishValueParser::new())]
    #[arg(hide_env_values = true, hide_possible_values = true)]
    pub quiet: Option<bool>,

    /// Show no progress (it is only ever shown on a terminal).
    #[arg(long, env = "EARMARK_NO_PROGRESS", value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", value_parser = BoolishValueParser::new())]
    #[arg(hide_env_values = true, hide_possible_values = true)]
    pub no_progress: Option<bool>,

    /// Where to compute: auto, cpu, wgpu (the first GPU) or wgpu:N; `earmark devices` lists them [default: auto].
    #[arg(long, value_name = "DEVICE", env = "EARMARK_DEVICE", hide_env_values = true)]
    pub device: Option<String>,

    /// Model file [default: the profile in use, else the built-in model].
    #[arg(long, value_name = "FILE", env = "EARMARK_MODEL", hide_env_values = true)]
    pub model: Option<PathBuf>,

    /// Write genre, mood, instruments and voice into the files: empty fields only. `earmark undo` takes it back.
    #[arg(long, env = "EARMARK_WRITE_TAGS", value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", value_parser = BoolishValueParser::new())]
    #[arg(hide_env_values = true, hide_possible_values = true)]
    pub write_tags: Option<bool>,

    /// With --write-tags: show what would change in each file, and write nothing.
    #[arg(long, env = "EARMARK_DRY_RUN", value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", value_parser = BoolishValueParser::new())]
    #[arg(hide_env_values = true, hide_possible_values = true)]
    pub dry_run: Option<bool>,

    /// With --write-tags: also replace what Earmark wrote before, but never what others did.
    #[arg(long, env = "EARMARK_OVERWRITE", value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", value_parser = BoolishValueParser::new())]
    #[arg(hide_env_values = true, hide_possible_values = true)]
    pub overwrite: Option<bool>,

    /// With --write-tags: keep what `earmark undo` needs in this new file [default: one in the user's state folder].
    #[arg(long, value_name = "FILE", env = "EARMARK_UNDO_JOURNAL", hide_env_values = true)]
    pub undo_journal: Option<PathBuf>,
}

impl TagOptions {
    /// These options, and where they do not say, `other`'s.
    pub fn or(self, other: Self) -> Self {
        Self {
            hop_secs: self.hop_secs.or(other.hop_secs),
            top_n: self.top_n.or(other.top_n),
            min_confidence: self.min_confidence.or(other.min_confidence),
            target_precision: self.target_precision.or(other.target_precision),
            format: self.format.or(other.format),
            out: self.out.or(other.out),
            jobs: self.jobs.or(other.jobs),
            resume: self.resume.or(other.resume),
            shard: self.shard.or(other.shard),
            watch: self.watch.or(other.watch),
            settle_secs: self.settle_secs.or(other.settle_secs),
            fail_fast: self.fail_fast.or(other.fail_fast),
            quiet: self.quiet.or(other.quiet),
            no_progress: self.no_progress.or(other.no_progress),
            device: self.device.or(other.device),
            model: self.model.or(other.model),
            write_tags: self.write_tags.or(other.write_tags),
            dry_run: self.dry_run.or(other.dry_run),
            overwrite: self.overwrite.or(other.overwrite),
            undo_journal: self.undo_journal.or(other.undo_journal),
        }
    }
}

const LIVE_HELP: &str = "\
Without --input, --system or --file, it listens to what was chosen the last time, or to the default microphone. Options can \
also be set in the environment (as shown) and in the settings file, under [live]. The command line wins over the \
environment, and the environment over the file.

A tag is said when it has been certain for a moment, and until it has not been for some seconds. Where no music is heard, that \
is said instead of a guess. A device that is unplugged is taken again when it returns.

Examples:
  earmark live --list
  earmark live --system
  earmark live --input usb --record set.jsonl --audio set.flac
  earmark live --file song.mp3 --play
  earmark live --file concert.mkv --speed 20 --record concert.jsonl
  earmark export set.jsonl --format chapters

Exit codes: 0 done, also when it is stopped and no --duration or --file says when it would have ended, 1 something could not \
be done, like a recording, 2 usage, 130 interrupted before its end.";

/// `earmark live`.
#[derive(Debug, Args)]
pub struct LiveArgs {
    /// List the devices that can be listened to.
    #[arg(long)]
    pub list: bool,

    /// Listen to what this machine plays.
    #[arg(long, conflicts_with_all = ["input", "file"])]
    pub system: bool,

    /// Listen to a music or video file as it would sound.
    #[arg(long, value_name = "PATH", conflicts_with = "input")]
    pub file: Option<PathBuf>,

    /// How many times faster than it would sound a file is listened to [default: 1].
    #[arg(long, value_name = "X", requires = "file", allow_negative_numbers = true)]
    pub speed: Option<f64>,

    /// Play the file on the default output device; tags come in step with what is heard.
    #[arg(long, requires = "file", conflicts_with = "speed")]
    pub play: bool,

    /// Write the record of the set to this file, which must not exist: what is heard each second, segments and gaps.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,

    /// Record the sound to this FLAC file, which must not exist.
    #[arg(long, value_name = "FILE")]
    pub audio: Option<PathBuf>,

    /// End after this many seconds.
    #[arg(long, value_name = "SECS", allow_negative_numbers = true)]
    pub duration: Option<f64>,

    /// The rest can come from elsewhere too.
    #[command(flatten)]
    pub options: LiveOptions,
}

/// Options of `earmark live` that may come from a flag, the environment or the settings file. `None` means that the source
/// does not say.
#[derive(Clone, Debug, Default, PartialEq, Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LiveOptions {
    /// Listen to this device: its name or identity, or a part of either that only one has.
    #[arg(long, value_name = "NAME")]
    pub input: Option<String>,

    /// Keep this text file up to date with what is said, for streaming software to show.
    #[arg(long, value_name = "FILE", env = "EARMARK_NOW_PLAYING", hide_env_values = true)]
    pub now_playing: Option<PathBuf>,

    /// How to write [default: human at a terminal, else ndjson].
    #[arg(long, value_name = "FORMAT", env = "EARMARK_LIVE_FORMAT", hide_env_values = true)]
    pub format: Option<LiveFormat>,

    /// Say nothing but results and errors.
    #[arg(short, long, env = "EARMARK_QUIET", value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", value_parser = BoolishValueParser::new())]
    #[arg(hide_env_values = true, hide_possible_values = true)]
    pub quiet: Option<bool>,

    /// Where to compute: auto, cpu, wgpu (the first GPU) or wgpu:N [default: cpu, which one stream keeps busy a few percent].
    #[arg(long, value_name = "DEVICE", env = "EARMARK_DEVICE", hide_env_values = true)]
    pub device: Option<String>,

    /// Model file [default: the profile in use, else the built-in model].
    #[arg(long, value_name = "FILE", env = "EARMARK_MODEL", hide_env_values = true)]
    pub model: Option<PathBuf>,
}

impl LiveOptions {
    /// These options, and where they do not say, `other`'s.
    pub fn or(self, other: Self) -> Self {
        Self {
            input: self.input.or(other.input),
            now_playing: self.now_playing.or(other.now_playing),
            format: self.format.or(other.format),
            quiet: self.quiet.or(other.quiet),
            device: self.device.or(other.device),
            model: self.model.or(other.model),
        }
    }
}

#[cfg(feature = "gpu")]
const ADAPT_HELP: &str = "\
Nothing has to be labelled, and nothing leaves this machine. First the domain classifier learns to tell this room from your \
music: the result is a noise meter (stage dc, seconds). With --stages dat the tags are adapted too, so that they hold in the \
room (minutes). What is worse than before is refused, with the figures; what is accepted becomes a profile. The model that is \
built in is never changed.

Ctrl-C keeps what is done; the same command goes on from there.

Examples:
  earmark adapt record --out club/ --duration 300
  earmark adapt --clean ~/Music --room club/ --out club
  earmark adapt --clean ~/Music --room club/ --out club-tags --stages dat --use
  earmark profiles
  earmark profiles use default

Exit codes: 0 done, 1 refused, 2 usage, 130 interrupted.";

/// `earmark adapt`.
#[cfg(feature = "gpu")]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AdaptArgs {
    /// Something that belongs to it.
    #[command(subcommand)]
    pub command: Option<AdaptCommand>,

    /// Music as it is on the record: files, or folders in which to look for them. Five minutes or more.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub clean: Vec<PathBuf>,

    /// The room as it sounds: files, or folders in which to look for them. Five minutes or more.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub room: Vec<PathBuf>,

    /// Name of the profile, or a file to write (what ends in .safetensors or names a folder).
    #[arg(long, value_name = "PROFILE")]
    pub out: Option<String>,

    /// How much is adapted: dc, the noise meter alone, or dat, the tags too.
    #[arg(long, value_name = "STAGES", default_value = "dc")]
    pub stages: earmark_core::adapt::Stages,

    /// Use the profile from now on.
    #[arg(long = "use")]
    pub use_it: bool,

    /// Throw away what an interrupted run of this name has kept.
    #[arg(long)]
    pub fresh: bool,

    /// Only look at the material, and say what is wrong with it.
    #[arg(long)]
    pub check: bool,

    /// Updates of stage dat [default: 200].
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,

    /// Windows per update of stage dat [default: 16].
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,

    /// Learning rate of stage dat [default: 1e-4].
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub learning_rate: Option<f64>,

    /// How strongly stage dat hides the room from the domain classifier [default: 0.01].
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub lambda: Option<f64>,

    /// How strongly stage dat asks that music in the room be tagged as the same music without it; 0 turns that off
    /// [default: 1].
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub consistency: Option<f64>,

    /// Most that a tag's probability may change on clean music, on average.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub max_clean_change: Option<f64>,

    /// Least share of the certain tags of clean music that must stay.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub min_clean_kept: Option<f64>,

    /// Least share of cases in which the noise meter must be right; 0.5 is chance.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub min_meter_accuracy: Option<f64>,

    /// Fixes every random choice.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Where stage dat computes: auto, cpu, wgpu (the first GPU) or wgpu:N [default: auto].
    #[arg(long, value_name = "DEVICE", env = "EARMARK_DEVICE", hide_env_values = true)]
    pub device: Option<String>,

    /// Model file to begin with [default: the built-in model, also when a profile is in use].
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,

    /// Write the report as JSON.
    #[arg(long)]
    pub json: bool,

    /// Say nothing but the report and errors.
    #[arg(short, long)]
    pub quiet: bool,
}

/// What belongs to `earmark adapt`.
#[cfg(feature = "gpu")]
#[derive(Debug, Subcommand)]
pub enum AdaptCommand {
    /// Record the room: from a microphone or a line, to a FLAC file.
    Record(AdaptRecordArgs),
}

/// `earmark adapt record`.
#[cfg(feature = "gpu")]
#[derive(Debug, Args)]
pub struct AdaptRecordArgs {
    /// Folder of the recordings; it is made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,

    /// End after this many seconds.
    #[arg(long, value_name = "SECS", default_value_t = 300.0, allow_negative_numbers = true)]
    pub duration: f64,

    /// Listen to this device: its name or identity, or a part of either that only one has [default: what `live` listened to
    /// the last time, or the default microphone].
    #[arg(long, value_name = "NAME", conflicts_with_all = ["system", "file"])]
    pub input: Option<String>,

    /// Record what this machine plays.
    #[arg(long, conflicts_with = "file")]
    pub system: bool,

    /// Record a music or video file as it would sound.
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,

    /// How many times faster than it would sound a file is listened to [default: 1].
    #[arg(long, value_name = "X", requires = "file", allow_negative_numbers = true)]
    pub speed: Option<f64>,

    /// Say nothing but errors.
    #[arg(short, long)]
    pub quiet: bool,
}

const PROFILES_HELP: &str = "\
A profile is a model file that was adapted to a room (earmark adapt). tag, live and the desktop use the one in use unless \
--model names another model. 'default' stands for the built-in model, which is always there.

Examples:
  earmark profiles
  earmark profiles show club
  earmark profiles use club
  earmark profiles use default
  earmark profiles remove club

Exit codes: 0 done, 2 usage.";

/// `earmark profiles`.
#[derive(Debug, Args)]
pub struct ProfilesArgs {
    /// What to do [default: list].
    #[command(subcommand)]
    pub command: Option<ProfilesCommand>,
}

/// What can be done with profiles.
#[derive(Debug, Subcommand)]
pub enum ProfilesCommand {
    /// List them, with their sizes and what their noise meters are worth.
    List {
        /// Write JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say what one was adapted from, with what, and how it did.
    Show {
        /// Its name.
        name: String,
        /// Write JSON.
        #[arg(long)]
        json: bool,
    },
    /// Use one from now on; `default` is the built-in model.
    Use {
        /// Its name.
        name: String,
    },
    /// Remove one. If it is in use, the built-in model is used from now on.
    Remove {
        /// Its name.
        name: String,
    },
}

/// How live results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LiveFormat {
    /// A line that follows the music; where it cannot be rewritten, a line for every change.
    Human,
    /// One event per line, as things happen.
    Ndjson,
}

/// `earmark export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The record that `earmark live --record` wrote.
    #[arg(value_name = "SESSION")]
    pub session: PathBuf,

    /// What to write.
    #[arg(long, value_name = "FORMAT", default_value = "csv")]
    pub format: ExportFormat,

    /// Write it to this file, complete or not at all; `-` is the standard output.
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub out: PathBuf,

    /// Shortest chapter in seconds, for cue and chapters.
    #[arg(long, value_name = "SECS", default_value_t = 30.0, allow_negative_numbers = true)]
    pub min_chapter_secs: f64,
}

/// `earmark desktop`.
#[cfg(feature = "gui")]
#[derive(Clone, Debug, Default, Args)]
pub struct DesktopArgs {
    /// Files and folders to tag, on the page of files.
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Page to open on: live, files, model, adapt or settings.
    #[arg(long)]
    pub page: Option<String>,
    /// Listen at once.
    #[arg(long)]
    pub listen: bool,
    /// Listen to this file at once.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Show the raw scores.
    #[arg(long)]
    pub raw: bool,
    /// Have this folder of music chosen on the page that adapts.
    #[arg(long, value_name = "DIR")]
    pub music: Option<PathBuf>,
    /// Count frames for so many seconds, print how many were drawn and how long they took, and end.
    #[arg(long, value_name = "SECS")]
    pub frames: Option<f64>,
}

/// What a record can become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// One row per stretch of time in which a tag sounds.
    Csv,
    /// Everything as one object.
    Json,
    /// A label track for the audio editor Audacity, gaps included.
    Audacity,
    /// A cue sheet beside the recorded sound.
    Cue,
    /// Chapters for a video, as ffmpeg reads them: ffmpeg -i video -i FILE -map_metadata 1 -codec copy out.
    Chapters,
    /// Chapters as text, for the description of a video on the web.
    Description,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Tags with bars and a line over time, to read.
    Human,
    /// One object for the whole run.
    Json,
    /// One event per line: to the standard output as things happen, in a file the results alone.
    Ndjson,
    /// One row per window and tag.
    Csv,
    /// A label track for the audio editor Audacity.
    Audacity,
    /// Two tables: FILE as csv, and one of tracks beside it (x.parquet, x.tracks.parquet).
    Parquet,
}

/// `earmark model ...`.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Say what is in a model file.
    Info {
        /// The file [default: the built-in model].
        file: Option<PathBuf>,
        /// Write JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a model file from trained weights: PyTorch, safetensors or burnpack.
    #[cfg(feature = "gpu")]
    Import(ImportArgs),
}

/// `earmark model import`.
#[cfg(feature = "gpu")]
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The weights.
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// The model file to write.
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// Tag names in the order of the outputs, one per line, each with an optional tab and threshold [default: the
    /// 50 tags of MagnaTagATune].
    #[arg(long, value_name = "FILE")]
    pub tags: Option<PathBuf>,
    /// Threshold of tags for which the list gives none.
    #[arg(long, value_name = "P", default_value_t = 0.5)]
    pub threshold: f32,
    /// Name of the model [default: the name of OUT].
    #[arg(long)]
    pub name: Option<String>,
    /// Licence of the weights, an SPDX expression.
    #[arg(long, value_name = "SPDX", default_value = "unknown")]
    pub licence: String,
}
