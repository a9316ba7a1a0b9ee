//! Whole libraries: runs that are killed and go on, shards, files that take the process down, thresholds, watching.

#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use earmark_core::SAMPLE_RATE_HZ;
use earmark_core::model_file::{Model, ModelMetadata};
use earmark_core::tags::{Calibration, TagCalibration};
use earmark_core::weights::Architecture;
use serde_json::Value;

/// A folder of its own for each test, and the binary in an environment of its own.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// With `num_files` tones of different pitch and length in `music`, and two files that are no music.
    fn library(num_files: usize) -> Self {
        let bench = Self::new();
        for index in 0..num_files {
            let secs = 0.5 + 0.7 * (index % 5) as f32;
            bench.tone(format!("music/{}/{index}.wav", index % 3), secs, 200.0 + 40.0 * index as f32);
        }
        fs::write(bench.path("music/0/empty.mp3"), "").unwrap();
        fs::create_dir_all(bench.path("music/2")).unwrap();
        fs::write(bench.path("music/2/broken.flac"), "fLaC, or so it says").unwrap();
        bench
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Fails with the place where two files begin to differ.
    #[track_caller]
    fn assert_equal(&self, expected: &str, found: &str) {
        let (a, b) = (self.read(expected), self.read(found));
        let Some(place) =
            a.iter().zip(&b).position(|(a, b)| a != b).or((a.len() != b.len()).then_some(a.len().min(b.len())))
        else {
            return;
        };
        let around = |bytes: &[u8]| {
            let part = &bytes[place.saturating_sub(200).min(bytes.len())..(place + 100).min(bytes.len())];
            String::from_utf8_lossy(part).into_owned()
        };
        panic!("{expected} and {found} differ at byte {place}:\n{}\n---\n{}", around(&a), around(&b));
    }

    fn tone(&self, name: impl AsRef<Path>, secs: f32, frequency_hz: f32) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let rate = SAMPLE_RATE_HZ as f32;
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: SAMPLE_RATE_HZ,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(&path, spec).unwrap();
        for index in 0..(secs * rate) as usize {
            let sample = 0.3 * (std::f32::consts::TAU * frequency_hz * index as f32 / rate).sin();
            writer.write_sample((sample * 32_767.0) as i16).unwrap();
        }
        writer.finalize().unwrap();
        path
    }

    fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_earmark"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("EARMARK_") {
                command.env_remove(name);
            }
        }
        command.current_dir(self.folder.path()).env("HOME", self.folder.path()).env_remove("XDG_CONFIG_HOME");
        command.env("LC_ALL", "C.UTF-8").env("EARMARK_DEVICE", "cpu").env("EARMARK_MODEL", model_file());
        command.args(args);
        command
    }

    fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Ran {
        Ran::new(self.command(args).output().unwrap())
    }

    fn spawn<S: AsRef<OsStr>>(&self, args: &[S]) -> Child {
        self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// How many records of this kind a journal holds.
    fn count(&self, journal: &str, kind: &str) -> usize {
        let bytes = fs::read(self.path(journal)).unwrap_or_default();
        let pattern = format!("{{\"entry\":\"{kind}\"");
        bytes.windows(pattern.len()).filter(|window| *window == pattern.as_bytes()).count()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path(".")).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

/// What the binary did.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn new(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
}

/// A small network with arbitrary but fixed weights and the tags of [`model`].
fn model_file() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("library-{}.safetensors", std::process::id()));
        model().save(&path).unwrap();
        path
    })
}

fn model() -> Model {
    let mut model = Model::random(Architecture::scaled(0.05, 3, None, 4), 1);
    let tags = ["voice", "vocals", "no vocals", "harp"].map(str::to_owned).to_vec();
    model.metadata = ModelMetadata::new("small", model.metadata.architecture, tags);
    model.weights.head[0].weight.iter_mut().for_each(|weight| *weight *= 0.5);
    model.weights.head[0].bias = vec![1.0, 2.0, 0.3, -4.0];
    model
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_mins(3), "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Delays that are spread out and the same in every run.
fn delays(count: u64) -> impl Iterator<Item = Duration> {
    (1..=count).map(|n| Duration::from_millis(20 + (n * 0x9E37_79B9) % 130))
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_with_the_same_bytes() {
    let bench = Bench::library(24);
    for format in ["csv", "ndjson", "parquet"] {
        let args = |out: &str| -> Vec<String> {
            let fixed = ["tag", "music", "--resume", "--jobs", "2", "--hop-secs", "0.011", "--format", format, "--out"];
            fixed.map(str::to_owned).into_iter().chain([out.to_owned()]).collect()
        };
        let (whole, torn) = (format!("whole.{format}"), format!("torn.{format}"));
        bench.run(&args(&whole)).expect(1);
        let mut kills = 0;
        for delay in delays(8) {
            let journal = format!("{torn}.journal");
            let before = bench.count(&journal, "run");
            let mut child = bench.spawn(&args(&torn));
            wait_for("its begin", || bench.count(&journal, "run") > before || child.try_wait().unwrap().is_some());
            thread::sleep(delay);
            child.kill().unwrap();
            kills += usize::from(child.wait().unwrap().code().is_none());
        }
        assert!(kills >= 2, "the run is too short to be killed");
        let last = bench.run(&args(&torn)).expect(1);
        assert!(last.err.contains("2 failed"), "{last:#?}");
        bench.assert_equal(&whole, &torn);
        if format == "parquet" {
            bench.assert_equal("whole.tracks.parquet", "torn.tracks.parquet");
        }
    }
    let left: Vec<String> = bench.names().into_iter().filter(|name| name.starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn only_what_changed_is_done_again() {
    let bench = Bench::library(6);
    let args = ["tag", "music", "--resume", "--format", "csv", "--out", "out.csv"];
    let started = || bench.count("out.csv.journal", "started");
    bench.run(&args).expect(1);
    assert_eq!(started(), 8);
    let first = bench.read("out.csv");
    bench.run(&args).expect(1);
    assert_eq!(started(), 10, "what failed is tried again, nothing else");
    assert_eq!(bench.read("out.csv"), first);

    // Touched, changed, gone, new.
    let later = SystemTime::now() + Duration::from_secs(9);
    File::options().append(true).open(bench.path("music/0/0.wav")).unwrap().set_modified(later).unwrap();
    bench.tone("music/1/1.wav", 1.2, 999.0);
    fs::remove_file(bench.path("music/2/2.wav")).unwrap();
    bench.tone("music/2/new.wav", 1.0, 555.0);
    bench.run(&args).expect(1);
    assert_eq!(started(), 14, "one changed, one new, two that fail");
    bench.run(&["tag", "music", "--format", "csv", "--out", "fresh.csv"]).expect(1);
    assert_eq!(bench.read("out.csv"), bench.read("fresh.csv"));

    // What is shown may change at no cost; what is computed may not.
    bench.run(&[&args[..], &["--top-n", "1"]].concat()).expect(1);
    assert_eq!(started(), 16);
    let other = bench.run(&[&args[..], &["--hop-secs", "2.678"]].concat()).expect(1);
    assert!(other.err.contains("of another model, hop or version"), "{other:#?}");
    assert_eq!(started(), 24);
}

#[test]
fn a_journal_is_kept_only_for_whoever_goes_on_from_it() {
    let bench = Bench::new();
    bench.tone("music/a.wav", 1.0, 300.0);
    bench.run(&["tag", "music", "--format", "csv", "--out", "out.csv"]).expect(0);
    assert_eq!(bench.names(), ["music", "out.csv"]);
    fs::write(bench.path("music/b.mp3"), "").unwrap();
    let failed = bench.run(&["tag", "music", "--format", "csv", "--out", "out.csv"]).expect(1);
    assert!(failed.err.contains("out.csv.journal is kept"), "{failed:#?}");
    assert_eq!(bench.names(), ["music", "out.csv", "out.csv.journal"]);
    bench.tone("music/b.mp3", 1.0, 300.0);
    bench.run(&["tag", "music", "--resume", "--format", "csv", "--out", "out.csv"]).expect(0);
    assert_eq!(bench.count("out.csv.journal", "started"), 3);
}

/// Files of [`long_library`]: some seconds of work, more than a lock is waited for.
const LONG_FILES: usize = 40;

/// Files enough for a run over them to be met at work.
fn long_library() -> Bench {
    let bench = Bench::new();
    for index in 0..LONG_FILES {
        bench.tone(format!("music/{index}.wav"), 15.0, 300.0 + 10.0 * index as f32);
    }
    bench
}

const LONG: [&str; 8] = ["tag", "music", "--format", "csv", "--hop-secs", "0.011", "--jobs", "1"];

#[test]
fn an_unfinished_run_keeps_its_output_to_itself() {
    let bench = long_library();
    fs::write(bench.path("out.csv"), "from before").unwrap();
    let mut first = bench.spawn(&[&LONG[..], &["--out", "out.csv"]].concat());
    wait_for("a first result", || bench.count("out.csv.journal", "done") > 0);
    let second = bench.run(&[&LONG[..], &["--out", "out.csv", "--resume"]].concat()).expect(2);
    assert!(second.err.contains("another run is writing out.csv"), "{second:#?}");
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(bench.read("out.csv"), b"from before", "an output is complete or as it was");
    let fresh = bench.run(&[&LONG[..], &["--out", "out.csv"]].concat()).expect(2);
    assert!(fresh.err.contains("--resume") && fresh.err.contains("out.csv.journal"), "{fresh:#?}");
    let last = bench.run(&[&LONG[..], &["--out", "out.csv", "--resume"]].concat()).expect(0);
    assert!(last.err.contains("when an earlier run ended without a word"), "{last:#?}");
    assert!(bench.count("out.csv.journal", "started") <= LONG_FILES + 1, "what was done is not begun again");
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_is_done_and_casts_no_suspicion() {
    let bench = long_library();
    let child = bench
        .command(&[&LONG[..], &["--out", "out.csv", "--resume"]].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("a first result", || bench.count("out.csv.journal", "done") > 0);
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let ran = Ran::new(child.wait_with_output().unwrap()).expect(130);
    assert!(ran.err.contains("are kept in out.csv.journal; go on with --resume"), "{ran:#?}");
    assert!(!bench.path("out.csv").exists());
    let done = bench.count("out.csv.journal", "done");
    let last = bench.run(&[&LONG[..], &["--out", "out.csv", "--resume"]].concat()).expect(0);
    assert!(!last.err.contains("without a word"), "{last:#?}");
    assert_eq!(bench.count("out.csv.journal", "done"), LONG_FILES);
    assert!(done < LONG_FILES, "the run was too short to be interrupted");
}

/// A file that ends the process which reads it: it needs an ffmpeg, and this one kills its parent. Every attempt is noted.
#[cfg(unix)]
fn deadly_file(bench: &Bench, signal: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir_all(bench.path("bin")).unwrap();
    let attempts = bench.path("attempts");
    let script = format!("#!/bin/sh\necho x >> '{}'\nkill -{signal} $PPID\n", attempts.display());
    fs::write(bench.path("bin/ffmpeg"), script).unwrap();
    fs::set_permissions(bench.path("bin/ffmpeg"), fs::Permissions::from_mode(0o755)).unwrap();
    // How ASF begins, which is not decoded here.
    fs::write(bench.path("music/1/deadly.wma"), b"\x30\x26\xB2\x75\x8E\x66\xCF\x11 and so on").unwrap();
    format!("{}:{}", bench.path("bin").display(), std::env::var("PATH").unwrap_or_default())
}

#[cfg(unix)]
#[test]
fn a_file_that_ends_the_process_is_set_aside_the_second_time_and_named() {
    for (signal, how) in [("ABRT", "aborted"), ("KILL", "memory runs out")] {
        let bench = Bench::library(9);
        // An ffmpeg would be asked about it too.
        fs::remove_file(bench.path("music/2/broken.flac")).unwrap();
        // Without the deadly one, for comparison.
        bench.run(&["tag", "music", "--format", "csv", "--out", "good.csv"]).expect(1);
        let path = deadly_file(&bench, signal);
        let args = ["tag", "music", "--resume", "--jobs", "3", "--format", "csv", "--out", "out.csv"];
        let run = || Ran::new(bench.command(&args).env("PATH", &path).output().unwrap());
        let attempts = || fs::read_to_string(bench.path("attempts")).unwrap_or_default().lines().count();
        let first = run();
        assert_eq!((first.code, attempts()), (None, 1), "{first:#?}");
        let second = run().expect(1);
        assert_eq!(attempts(), 2);
        let named: Vec<&str> = second.err.lines().filter(|line| line.contains("deadly.wma")).collect();
        assert!(named.len() == 1 && named[0].contains("set aside") && named[0].contains(how), "{second:#?}");
        assert!(
            second.err.contains("2 failed"),
            "the innocent that were read beside it are not set aside: {second:#?}"
        );
        assert_eq!(bench.read("out.csv"), bench.read("good.csv"));
        run().expect(1);
        assert_eq!(attempts(), 2, "it is not tried again");
        fs::write(bench.path("music/1/deadly.wma"), "harmless now").unwrap();
        fs::remove_file(bench.path("bin/ffmpeg")).unwrap();
        let changed = run().expect(1);
        assert!(!changed.err.contains("set aside"), "a changed file is tried again: {changed:#?}");
    }
}

/// As when a container runs out of memory: whoever reads the file dies, and whoever started that too.
#[cfg(unix)]
#[test]
fn a_file_that_ends_everything_is_set_aside_after_the_second_time_alone() {
    use std::os::unix::process::CommandExt;
    let bench = Bench::library(5);
    fs::remove_file(bench.path("music/2/broken.flac")).unwrap();
    let path = deadly_file(&bench, "KILL");
    let script = fs::read_to_string(bench.path("bin/ffmpeg")).unwrap().replace("$PPID", "0");
    fs::write(bench.path("bin/ffmpeg"), script).unwrap();
    let args = ["tag", "music", "--resume", "--jobs", "2", "--format", "csv", "--out", "out.csv"];
    // A process group of its own, which is what the script kills.
    let run = || Ran::new(bench.command(&args).env("PATH", &path).process_group(0).output().unwrap());
    for _ in 0..3 {
        let killed = run();
        assert_eq!(killed.code, None, "{killed:#?}");
    }
    let last = run().expect(1);
    assert!(last.err.contains("deadly.wma: set aside") && last.err.contains("with the whole run"), "{last:#?}");
    assert!(last.err.contains("2 failed"), "{last:#?}");
    let left: Vec<String> = bench.names().into_iter().filter(|name| name.contains("journal.alone")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn shards_apart_and_merged_are_one_run() {
    let bench = Bench::library(30);
    for format in ["csv", "json", "ndjson", "human", "audacity", "parquet"] {
        let whole = format!("whole.{format}");
        bench.run(&["tag", "music", "--format", format, "--out", &whole]).expect(1);
        let parts: Vec<String> = (1..=8).map(|index| format!("part-{index}.{format}")).collect();
        for (index, part) in parts.iter().enumerate() {
            let shard = format!("{}/8", index + 1);
            let ran = bench.run(&["tag", "music", "--format", format, "--out", part, "--shard", &shard]);
            assert!(ran.code.is_some_and(|code| code < 2), "{ran:#?}");
        }
        // In any order, by output or journal.
        let journal = format!("{}.journal", parts[3]);
        let mut named: Vec<&str> = parts.iter().rev().map(String::as_str).collect();
        named[4] = &journal;
        let merged = format!("merged.{format}");
        let ran = bench.run(&[&["merge"], &named[..], &["--out", &merged]].concat()).expect(0);
        assert!(ran.err.contains("8 parts, 30 files; 2 failed"), "{ran:#?}");
        bench.assert_equal(&whole, &merged);
    }
    bench.assert_equal("whole.tracks.parquet", "merged.tracks.parquet");
}

#[test]
fn parts_that_do_not_fit_are_refused_by_name() {
    let bench = Bench::library(5);
    let shard = |part: &str, out: &str, more: &[&str]| {
        bench.run(&[&["tag", "music", "--format", "csv", "--out", out, "--shard", part], more].concat());
    };
    shard("1/2", "a.csv", &[]);
    shard("2/2", "b.csv", &[]);
    let refused = |parts: &[&str], words: &[&str]| {
        let ran = bench.run(&[&["merge", "--out", "x.csv"], parts].concat()).expect(2);
        assert!(words.iter().all(|word| ran.err.contains(word)) && !bench.path("x.csv").exists(), "{ran:#?}");
    };
    refused(&["a.csv"], &["missing: 2/2"]);
    refused(&["a.csv", "a.csv"], &["both part 1/2"]);
    refused(&["a.csv", "absent.csv"], &["absent.csv.journal", "copy both"]);
    shard("2/3", "c.csv", &[]);
    refused(&["a.csv", "c.csv"], &["one of 2 parts", "c.csv.journal one of 3"]);
    shard("2/2", "d.csv", &["--top-n", "1"]);
    refused(&["a.csv", "d.csv"], &["different options", "--resume"]);
    shard("2/2", "e.csv", &["--hop-secs", "2.678"]);
    refused(&["a.csv", "e.csv"], &["different models or --hop-secs"]);
    bench.tone("music/late.wav", 1.0, 300.0);
    shard("2/2", "f.csv", &[]);
    refused(&["a.csv", "f.csv"], &["different files to choose from"]);
    bench.run(&["tag", "music", "--resume", "--format", "csv", "--out", "plain.csv"]).expect(1);
    refused(&["plain.csv"], &["is not a shard", "--shard I/N"]);
    fs::write(bench.path("g.csv.journal"), "nothing of the kind").unwrap();
    refused(&["g.csv"], &["g.csv.journal is not a journal"]);
    bench.run(&["merge", "a.csv", "b.csv", "--out", "x.csv"]).expect(0);
    bench.run(&["tag", "music", "--shard", "3/2"]).expect(2);
}

#[cfg(target_os = "linux")]
#[test]
fn a_place_without_room_is_said() {
    let bench = Bench::library(3);
    let ran = bench.run(&["tag", "music", "--format", "csv", "--out", "/dev/full"]).expect(1);
    assert!(ran.err.contains("cannot write the results to /dev/full: No space left"), "{ran:#?}");
}

#[test]
fn a_file_that_vanishes_is_one_failure() {
    let bench = long_library();
    let mut child = bench.command(&[&LONG[..], &["--out", "out.csv"]].concat()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the first file", || bench.count("out.csv.journal", "started") > 0);
    fs::remove_file(bench.path("music/5.wav")).unwrap();
    let err = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{err}");
    let lines: Vec<&str> = err.lines().filter(|line| line.contains("5.wav")).collect();
    assert!(lines.len() == 1 && lines[0].contains(';'), "the cause and the way out: {err}");
    assert!(String::from_utf8(bench.read("out.csv")).unwrap().contains("music/4.wav"));
}

#[test]
fn thresholds_follow_from_the_precision_asked_for() {
    let bench = Bench::new();
    bench.tone("a.wav", 3.0, 300.0);
    let mut model = model();
    let clips = |right_from: usize| TagCalibration::measure((0..40).map(|i| (i as f32 / 40.0, i >= right_from)));
    let mixed = TagCalibration::measure((0..40).map(|i| (i as f32 / 40.0, i % 2 == 0)));
    model.metadata.calibration = Some(Calibration {
        split: "valid".into(),
        num_clips: 40,
        tags: vec![clips(10), clips(36), mixed, TagCalibration::default()],
    });
    model.save(&bench.path("calibrated.safetensors")).unwrap();
    let args = ["tag", "a.wav", "--format", "json", "--target-precision", "0.9"];
    let ran = bench.run(&[&args[..], &["--model", "calibrated.safetensors"]].concat()).expect(0);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    let threshold = |tag: usize| json["model"]["tags"][tag]["threshold"].as_f64();
    assert!(threshold(0).is_some_and(|t| t < 0.3), "{json:#}");
    assert_eq!(
        (threshold(1), threshold(2), threshold(3)),
        (None, None, None),
        "too few positives, too low, no support"
    );
    let tags: Vec<&Value> = json["files"][0]["tags"].as_array().unwrap().iter().map(|tag| &tag["tag"]).collect();
    assert_eq!(tags, ["voice"]);
    assert!(ran.err.contains("1 of 4 tags reach a precision of 0.9 on 40 clips"), "{ran:#?}");
    assert!(ran.err.contains("no vocals (0.50)") && ran.err.contains("vocals (4), harp (0)"), "{ran:#?}");
    let info = bench.run(&["model", "info", "calibrated.safetensors"]).expect(0);
    assert!(info.out.contains("calibrated"), "{info:#?}");

    let old = bench.run(&args).expect(2);
    assert!(old.err.contains("small was not calibrated") && old.err.contains("train export"), "{old:#?}");
}

#[test]
fn the_verdict_joins_synonyms_and_keeps_the_scores() {
    let bench = Bench::new();
    bench.tone("a.wav", 3.0, 300.0);
    let ran = bench.run(&["tag", "a.wav", "--format", "json"]).expect(0);
    let file = serde_json::from_str::<Value>(&ran.out).unwrap()["files"][0].clone();
    let heard = &file["verdict"][0];
    assert_eq!((&heard["name"], &heard["tags"]), (&"vocals".into(), &serde_json::json!(["voice", "vocals"])));
    assert_eq!(heard["segments"][0]["end_s"], 3.0);
    assert_eq!(heard["whole_track"], true);
    assert_eq!((&file["verdict"][1]["name"], &file["verdict"][1]["whole_track"]), (&"no vocals".into(), &false.into()));
    assert_eq!(file["tags"].as_array().unwrap().len(), 4, "each tag keeps its own score");
    let text = bench.run(&["tag", "a.wav"]).expect(0).out;
    assert!(text.contains("  vocals ") && !text.contains("voice"), "{text}");
}

#[cfg(unix)]
#[test]
fn what_arrives_is_tagged_once_it_is_written() {
    let bench = Bench::library(3);
    let args = ["tag", "--watch", "--settle-secs", "0.7", "--resume", "--format", "csv", "--out", "out.csv", "music"];
    let text = || String::from_utf8(fs::read(bench.path("out.csv")).unwrap_or_default()).unwrap();
    let mut child = bench.spawn(&args);
    wait_for("what was there", || text().contains("2.wav"));

    // Arrives in two halves: not to be read in between.
    let whole = fs::read(bench.tone("elsewhere.wav", 4.0, 700.0)).unwrap();
    let slow = bench.path("music/slow.wav");
    fs::write(&slow, &whole[..whole.len() / 2]).unwrap();
    thread::sleep(Duration::from_millis(400));
    fs::write(&slow, &whole).unwrap();
    wait_for("what arrived", || text().contains("slow.wav"));
    // The journal knows how often each was begun: the three, the two that fail, and the late one once.
    assert_eq!(bench.count("out.csv.journal", "started"), 6);

    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(1), "two files failed");
    bench.run(&["tag", "music", "--format", "csv", "--out", "plain.csv"]).expect(1);
    assert_eq!(text().into_bytes(), bench.read("plain.csv"), "the bytes of a plain run");
    // A plain run goes on from there.
    bench.run(&["tag", "music", "--resume", "--format", "csv", "--out", "out.csv"]).expect(1);
    assert_eq!(bench.count("out.csv.journal", "started"), 8, "what failed, again");

    let refused = bench.run(&["tag", "--watch", "music/slow.wav"]).expect(2);
    assert!(refused.err.contains("is not a folder"), "{refused:#?}");
}

#[cfg(unix)]
#[test]
fn watching_writes_to_the_standard_output_as_things_happen() {
    use std::io::{BufRead, BufReader};
    let bench = Bench::library(2);
    let args = ["tag", "--watch", "--settle-secs", "0.2", "--format", "ndjson", "music"];
    let mut child = bench.command(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut completed = 0;
    while completed < 2 {
        let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        completed += usize::from(event["event"] == "file_completed");
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let last = lines.last().unwrap().unwrap();
    assert!(last.contains("pipeline_completed"), "{last}");
    child.wait().unwrap();
}
