//! The binary on generated files: order, failures, exit codes, formats, settings.

#![allow(clippy::unwrap_used)]

use std::f32::consts::TAU;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use earmark_core::SAMPLE_RATE_HZ;
use earmark_core::model_file::{Model, ModelMetadata};
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

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A tone with a slow tremolo, 16 bit mono.
    fn tone(&self, name: impl AsRef<Path>, secs: f32, frequency_hz: f32) -> PathBuf {
        self.wav(name, secs, |t| 0.4 * (TAU * frequency_hz * t).sin() * (1.0 + (TAU * 0.7 * t).sin()) / 2.0)
    }

    fn wav(&self, name: impl AsRef<Path>, secs: f32, sample: impl Fn(f32) -> f32) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: SAMPLE_RATE_HZ,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(&path, spec).unwrap();
        let rate = SAMPLE_RATE_HZ as f32;
        for index in 0..(secs * rate) as usize {
            writer.write_sample((sample(index as f32 / rate) * 32_767.0) as i16).unwrap();
        }
        writer.finalize().unwrap();
        path
    }

    /// `earmark ARGS` with the small model, in this folder, with nothing else in the environment.
    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_earmark"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("EARMARK_") {
                command.env_remove(name);
            }
        }
        command.current_dir(self.folder.path());
        command.env("HOME", self.folder.path()).env_remove("XDG_CONFIG_HOME").env_remove("NO_COLOR");
        command.env("LC_ALL", "C.UTF-8").env("EARMARK_DEVICE", "cpu").env("EARMARK_MODEL", model_file());
        command
    }

    fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Ran {
        Ran::new(self.command().args(args).output().unwrap())
    }
}

/// What the binary did.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn new(output: Output) -> Self {
        Self {
            code: output.status.code().expect("ended by itself"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    fn events(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// First column of a CSV, each value once.
    fn csv_files(&self) -> Vec<&str> {
        let mut files: Vec<&str> = self.out.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
        files.dedup();
        files
    }
}

/// A small network with arbitrary but fixed weights, whose four tags are certain, likely, unlikely and impossible.
fn model_file() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("small-{}.safetensors", std::process::id()));
        model().save(&path).unwrap();
        path
    })
}

/// Four tags whose probabilities are far apart whatever is heard.
fn model() -> Model {
    let mut model = Model::random(Architecture::scaled(0.05, 3, None, 4), 1);
    model.metadata = ModelMetadata {
        licence: "CC0-1.0".into(),
        ..ModelMetadata::new(
            "small",
            model.metadata.architecture,
            ["certain", "likely", "unlikely", "never"].map(str::to_owned).to_vec(),
        )
    };
    model.weights.head[0].weight.iter_mut().for_each(|weight| *weight *= 0.5);
    model.weights.head[0].bias = vec![3.0, 1.0, -1.0, -4.0];
    model
}

#[test]
fn without_arguments_it_opens_a_window_or_says_what_needs_none() {
    let ran = Bench::new().run(&["--help"]).expect(0);
    assert!(ran.out.contains("Usage: earmark") && ran.out.contains("tag"), "{ran:#?}");
    let bench = Bench::new();
    let mut command = bench.command();
    command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").env_remove("WAYLAND_SOCKET");
    // Elsewhere a window needs no such variable, and would stay open.
    if cfg!(all(unix, not(target_os = "macos"))) {
        let ran = Ran::new(command.output().unwrap()).expect(2);
        assert!(ran.err.contains("no window can be opened") && ran.err.contains("earmark tag"), "{ran:#?}");
    }
}

#[test]
fn bytes_are_equal_for_one_job_and_four() {
    let bench = Bench::new();
    // Long ones first, so that with four jobs the later ones are done before.
    for index in 0..8 {
        bench.tone(format!("{index}.wav"), 12.0 - 1.4 * index as f32, 200.0 + 50.0 * index as f32);
    }
    fs::write(bench.path("3b.mp3"), "this is not music").unwrap();
    for format in ["human", "json", "csv", "audacity"] {
        let run = |jobs: &str| bench.run(&["tag", ".", "--format", format, "--jobs", jobs]).expect(1);
        let (one, four) = (run("1"), run("4"));
        assert_eq!(one.out, four.out, "{format}");
        assert!(one.out.contains("0.wav") && one.out.contains("7.wav"));
    }
    let csv = bench.run(&["tag", ".", "--format", "csv", "--jobs", "4"]);
    let expected: Vec<String> = (0..8).map(|index| format!("./{index}.wav")).collect();
    assert_eq!(csv.csv_files(), expected);
    let first_row = |file: &str| csv.out.lines().find(|line| line.contains(file)).unwrap().rsplit(',').next().unwrap();
    assert_ne!(first_row("0.wav"), first_row("7.wav"), "files must differ, or order would not show");
}

#[test]
fn a_failed_file_is_reported_and_the_rest_goes_on() {
    let bench = Bench::new();
    bench.tone("a.wav", 1.0, 300.0);
    fs::write(bench.path("empty.mp3"), "").unwrap();
    bench.tone("z.wav", 1.0, 300.0);
    let ran = bench.run(&["tag", "a.wav", "empty.mp3", "absent.ogg", "z.wav", "--format", "csv"]).expect(1);
    assert_eq!(ran.csv_files(), ["a.wav", "z.wav"]);
    let reports: Vec<&str> = ran.err.lines().filter(|line| line.contains(".mp3") || line.contains(".ogg")).collect();
    assert_eq!(reports.len(), 2, "{ran:#?}");
    for (report, name) in reports.iter().zip(["empty.mp3", "absent.ogg"]) {
        assert!(report.starts_with(&format!("earmark: {name}: ")), "{report}");
        assert!(report.contains(';'), "the way out is missing: {report}");
        assert_eq!(report.matches(name).count(), 1, "the file is named once: {report}");
    }
    assert!(ran.err.contains("2 failed"), "{ran:#?}");
    bench.run(&["tag", "a.wav"]).expect(0);
}

#[test]
fn usage_errors_end_with_two_and_name_the_value() {
    let bench = Bench::new();
    bench.tone("a.wav", 0.2, 300.0);
    let refused = |args: &[&str], part: &str| {
        let ran = bench.run(args).expect(2);
        assert!(ran.err.contains(part) && ran.out.is_empty(), "{ran:#?}");
    };
    refused(&["tag"], "PATH");
    refused(&["tag", "a.wav", "--hop-secs", "0"], "hop-secs is 0");
    refused(&["tag", "a.wav", "--hop-secs", "-3"], "hop-secs is -3");
    refused(&["tag", "a.wav", "--hop-secs", "soon"], "soon");
    refused(&["tag", "a.wav", "--top-n", "0"], "top-n is 0");
    refused(&["tag", "a.wav", "--min-confidence", "7"], "min-confidence is 7");
    refused(&["tag", "a.wav", "--jobs", "0"], "jobs is 0");
    refused(&["tag", "a.wav", "--format", "xml"], "xml");
    refused(&["tag", "a.wav", "--device", "abacus"], "abacus");
    refused(&["tag", "a.wav", "--model", "absent.safetensors"], "absent.safetensors");
    refused(&["tag", "a.wav", "--config", "absent.toml"], "absent.toml");
    refused(&["tag", "a.wav", "--out", "absent/out.csv"], "absent/out.csv");
    refused(&["tag", "a.wav", "--out", "."], "folder");
    refused(&["listen"], "listen");
    fs::write(bench.path("bad.safetensors"), "not a model").unwrap();
    refused(&["tag", "a.wav", "--model", "bad.safetensors"], "bad.safetensors");
}

#[test]
fn a_hop_off_the_grid_is_rounded_and_said() {
    let bench = Bench::new();
    bench.tone("a.wav", 6.0, 300.0);
    let ran = bench.run(&["tag", "a.wav", "--hop-secs", "0.8", "--format", "json"]).expect(0);
    assert!(ran.err.contains("0.8 s") && ran.err.contains("0.893 s"), "{ran:#?}");
    assert_eq!(ran.json()["model"]["hop_s"], 0.893);
    assert_eq!(ran.json()["files"][0]["windows"][1]["start_s"], 0.893);
    let ran = bench.run(&["tag", "a.wav", "--hop-secs", "0.893"]).expect(0);
    assert!(!ran.err.contains("rounded"), "{ran:#?}");
    let ran = bench.run(&["tag", "-q", "a.wav", "--hop-secs", "0.8"]).expect(0);
    assert!(ran.err.is_empty(), "{ran:#?}");
}

#[test]
fn flags_win_over_environment_over_file() {
    let bench = Bench::new();
    bench.tone("a.wav", 3.0, 300.0);
    fs::create_dir_all(bench.path(".config/earmark")).unwrap();
    fs::write(bench.path(".config/earmark/config.toml"), "[tag]\nformat = 'json'\ntop-n = 1\nquiet = true\n").unwrap();
    let num_tags = |ran: Ran| ran.json()["files"][0]["tags"].as_array().unwrap().len();
    let with_env = |name: &str, value: &str, args: &[&str]| {
        Ran::new(bench.command().env(name, value).arg("tag").arg("a.wav").args(args).output().unwrap())
    };

    let file = bench.run(&["tag", "a.wav"]).expect(0);
    assert!(file.err.is_empty());
    assert_eq!(num_tags(file), 1);
    assert_eq!(num_tags(with_env("EARMARK_TOP_N", "2", &[])), 2);
    assert_eq!(num_tags(with_env("EARMARK_TOP_N", "2", &["--top-n", "3"])), 3);
    assert!(!with_env("EARMARK_QUIET", "false", &[]).err.is_empty());
    assert!(with_env("EARMARK_QUIET", "false", &["-q"]).err.is_empty());

    fs::write(bench.path("other.toml"), "[tag]\nformat = 'csv'\n").unwrap();
    let other = bench.run(&["--config", "other.toml", "tag", "a.wav"]).expect(0);
    assert!(other.out.starts_with("file,start_s,"));
    let other = with_env("EARMARK_CONFIG", "other.toml", &[]).expect(0);
    assert!(other.out.starts_with("file,start_s,"));

    // One validator: the same words from each source.
    let flag = bench.run(&["tag", "a.wav", "--top-n", "0"]).expect(2);
    assert_eq!(with_env("EARMARK_TOP_N", "0", &[]).expect(2).err, flag.err);
    fs::write(bench.path("other.toml"), "[tag]\ntop-n = 0\n").unwrap();
    assert_eq!(bench.run(&["tag", "a.wav", "--config", "other.toml"]).expect(2).err, flag.err);
    fs::write(bench.path("other.toml"), "[tag]\ntop_n = 1\n").unwrap();
    let typo = bench.run(&["tag", "a.wav", "--config", "other.toml"]).expect(2);
    assert!(typo.err.contains("other.toml") && typo.err.contains("top_n"), "{typo:#?}");
}

#[test]
fn json_has_the_documented_keys() {
    let bench = Bench::new();
    bench.tone("a.wav", 3.0, 300.0);
    fs::write(bench.path("bad.flac"), "fLaC").unwrap();
    let value = bench.run(&["tag", "a.wav", "bad.flac", "--format", "json"]).expect(1).json();
    let file = &value["files"][0];
    assert_eq!(file["file"], "a.wav");
    assert_eq!(file["duration_s"], 3.0);
    assert_eq!(file["tags"][0]["tag"], "certain");
    let confidence = file["tags"][0]["confidence"].as_f64().unwrap();
    assert!((0.5..=1.0).contains(&confidence));
    let windows = file["windows"].as_array().unwrap();
    assert_eq!(windows.len(), 3, "two whole windows and a padded one in 3 s");
    assert_eq!(windows[2]["end_s"], 3.0);
    assert_eq!(windows[0]["tags"].as_array().unwrap().len(), 4);
    assert_eq!(value["failed"][0]["file"], "bad.flac");
    assert_eq!(value["model"]["name"], "small");
}

#[test]
fn ndjson_tells_the_run_as_events() {
    let bench = Bench::new();
    bench.tone("a.wav", 3.0, 300.0);
    bench.tone("b.wav", 3.0, 500.0);
    fs::write(bench.path("c.mp3"), "").unwrap();
    let ran = bench.run(&["tag", "a.wav", "c.mp3", "b.wav", "--format", "ndjson", "--jobs", "2"]).expect(1);
    let events = ran.events();
    let named = |name: &str| events.iter().filter(|event| event["event"] == name).collect::<Vec<_>>();
    assert_eq!(events[0]["event"], "pipeline_started");
    assert_eq!(events[events.len() - 1]["event"], "pipeline_completed");
    assert_eq!(named("file_started").len(), 3);
    let completed: Vec<_> = named("file_completed").iter().map(|event| event["payload"]["file"].clone()).collect();
    assert_eq!(completed, ["a.wav", "b.wav"]);
    assert_eq!(named("file_failed")[0]["payload"]["index"], 1);
    for event in &events {
        assert!(event["spec_version"].is_string() && event["timestamp"].as_str().unwrap().ends_with('Z'));
    }
    let end = &events[events.len() - 1]["payload"];
    assert_eq!((&end["files_completed"], &end["files_failed"]), (&Value::from(2), &Value::from(1)));
}

#[test]
fn csv_and_audacity_rows() {
    let bench = Bench::new();
    bench.tone("a.wav", 6.0, 300.0);
    let csv = bench.run(&["tag", "a.wav", "--format", "csv", "--top-n", "1", "--hop-secs", "2.678"]).expect(0);
    let lines: Vec<&str> = csv.out.lines().collect();
    assert_eq!(lines[0], "file,start_s,end_s,tag,confidence");
    assert!(lines[1].starts_with("a.wav,0.000,2.678,certain,0."), "{csv:#?}");
    assert!(lines[3].starts_with("a.wav,5.356,6.000,certain,0."), "{csv:#?}");
    assert_eq!(lines.len(), 4);

    let labels = bench.run(&["tag", "a.wav", "--format", "audacity"]).expect(0);
    for line in labels.out.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [start, end, tag] = fields[..] else { panic!("{line}") };
        assert!(start.parse::<f64>().unwrap() < end.parse::<f64>().unwrap(), "{line}");
        assert!(["certain", "likely"].contains(&tag), "{line}");
    }
    assert!(labels.out.contains("0.000000\t6.000000\tcertain\n"), "{labels:#?}");

    let filtered = bench.run(&["tag", "a.wav", "--format", "csv", "--min-confidence", "0.999"]).expect(0);
    assert_eq!(filtered.out, "file,start_s,end_s,tag,confidence\n");
}

#[test]
fn human_output_fits_its_place() {
    let bench = Bench::new();
    bench.tone("a.wav", 6.0, 300.0);
    let run = |name: &str, value: &str| {
        Ran::new(bench.command().args(["tag", "a.wav"]).env(name, value).output().unwrap()).expect(0)
    };
    let blocks = run("LC_ALL", "C.UTF-8");
    assert!(blocks.out.contains("certain") && blocks.out.contains('█') && !blocks.out.contains("never"), "{blocks:#?}");
    assert!(!blocks.out.contains('\x1b'), "no colours in a pipe");
    assert!(blocks.out.lines().all(|line| line.chars().count() <= 80));
    assert!(run("LC_ALL", "C").out.is_ascii());
    assert!(!run("NO_COLOR", "1").out.contains('\x1b'));
    let uncertain = bench.run(&["tag", "a.wav", "--min-confidence", "1"]).expect(0);
    assert!(uncertain.out.contains("no tag is certain"), "{uncertain:#?}");
}

#[test]
fn silence_is_flagged_and_has_no_tags() {
    let bench = Bench::new();
    bench.wav("silent.wav", 4.0, |_| 0.0);
    bench.wav("half.wav", 12.0, |t| if t < 6.0 { 0.4 * (TAU * 300.0 * t).sin() } else { 0.0 });
    let ran = bench.run(&["tag", "silent.wav", "half.wav", "--format", "json"]).expect(0);
    let files = &ran.json()["files"];
    assert_eq!((&files[0]["silent"], &files[0]["tags"]), (&true.into(), &Value::Array(Vec::new())));
    assert_eq!(files[1]["silent"], false);
    let windows = files[1]["windows"].as_array().unwrap();
    let silent = |window: &Value| window["silent"] == true;
    assert!(!silent(&windows[0]) && silent(&windows[windows.len() - 1]));
    assert!(ran.err.contains("silent.wav: silent"), "{ran:#?}");
    assert!(bench.run(&["tag", "silent.wav"]).expect(0).out.contains("silent: nothing is louder"));
}

#[test]
fn very_short_files_have_one_window() {
    let bench = Bench::new();
    bench.tone("short.wav", 0.1, 300.0);
    let file = bench.run(&["tag", "short.wav", "--format", "json"]).expect(0).json()["files"][0].clone();
    assert_eq!(file["windows"].as_array().unwrap().len(), 1);
    assert_eq!((&file["duration_s"], &file["windows"][0]["end_s"]), (&0.1.into(), &0.1.into()));
}

#[test]
fn out_appears_complete() {
    let bench = Bench::new();
    bench.tone("a.wav", 1.0, 300.0);
    fs::write(bench.path("out.csv"), "old").unwrap();
    let ran = bench.run(&["tag", "a.wav", "--format", "csv", "--out", "out.csv"]).expect(0);
    assert!(ran.out.is_empty());
    assert!(fs::read_to_string(bench.path("out.csv")).unwrap().starts_with("file,start_s"));
    let left: Vec<_> = fs::read_dir(bench.path("."))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name != "a.wav" && name != "out.csv")
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let stdout = bench.run(&["tag", "a.wav", "--format", "csv", "--out", "-"]).expect(0);
    assert!(stdout.out.starts_with("file,start_s"));
}

#[test]
fn fail_fast_prints_what_was_done() {
    let bench = Bench::new();
    for name in ["a.wav", "c.wav", "d.wav"] {
        bench.tone(name, 1.0, 300.0);
    }
    fs::write(bench.path("b.wav"), "").unwrap();
    let ran = bench.run(&["tag", ".", "--fail-fast", "--jobs", "1", "--format", "json"]).expect(1);
    let files = ran.json()["files"].as_array().unwrap().len();
    assert_eq!(files, 1);
    assert!(ran.err.contains("2 files not done"), "{ran:#?}");
}

#[test]
fn paths_come_once_and_named_files_are_tried() {
    let bench = Bench::new();
    let tone = bench.tone("music/a.wav", 1.0, 300.0);
    fs::copy(&tone, bench.path("music/strange.bin")).unwrap();
    fs::create_dir(bench.path("music/none")).unwrap();
    let ran = bench.run(&["tag", "music/strange.bin", "music", "music/a.wav", "--format", "csv"]).expect(0);
    assert_eq!(ran.csv_files(), ["music/strange.bin", "music/a.wav"]);
    let none = bench.run(&["tag", "music/none", "--format", "json"]).expect(0);
    assert!(none.err.contains("no music or video files"), "{none:#?}");
    assert_eq!(none.json()["files"], Value::Array(Vec::new()));
}

#[cfg(unix)]
#[test]
fn loops_of_links_and_names_that_are_not_text() {
    use std::os::unix::ffi::OsStrExt;
    let bench = Bench::new();
    bench.tone("music/a.wav", 1.0, 300.0);
    bench.tone(Path::new("music").join(OsStr::from_bytes(b"\xff\xfe.wav")), 1.0, 300.0);
    std::os::unix::fs::symlink(bench.path("music"), bench.path("music/again")).unwrap();
    for format in ["human", "json", "ndjson", "csv", "audacity"] {
        let ran = bench.run(&["tag", "music", "--format", format]).expect(0);
        assert!(ran.err.contains("again: leads back to"), "{ran:#?}");
        assert!(ran.out.contains('\u{fffd}') || format == "human", "{ran:#?}");
    }
}

#[cfg(unix)]
#[test]
fn a_reader_that_leaves_ends_the_run_quietly() {
    let bench = Bench::new();
    for index in 0..20 {
        bench.tone(format!("{index}.wav"), 3.0, 300.0);
    }
    let mut child = bench
        .command()
        .args(["tag", ".", "-q", "--format", "csv", "--top-n", "50", "--hop-secs", "0.011"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::with_capacity(64, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
}

#[cfg(unix)]
#[test]
fn ctrl_c_writes_what_is_done() {
    let bench = Bench::new();
    bench.tone("a.wav", 1.0, 300.0);
    let long = bench.tone("b.wav", 120.0, 300.0);
    for index in 0..30 {
        fs::hard_link(&long, bench.path(format!("b{index}.wav"))).unwrap();
    }
    let mut child = bench
        .command()
        .args(["tag", ".", "--jobs", "1", "--format", "json", "--hop-secs", "0.011"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The first result is there when its line is; then the user loses patience.
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("a.wav") {
        assert!(out.read_line(&mut text).unwrap() > 0, "{text}");
    }
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    out.read_to_string(&mut text).unwrap();
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{err}");
    assert!(err.contains("interrupted: "), "{err}");
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["files"][0]["file"], "./a.wav");
}

#[test]
fn model_info_reads_models() {
    let bench = Bench::new();
    let file = model_file().to_str().unwrap();
    let text = bench.run(&["model", "info", file]).expect(0);
    assert!(text.out.contains("small") && text.out.contains("0.500  likely"), "{text:#?}");
    let json = bench.run(&["model", "info", file, "--json"]).expect(0).json();
    assert_eq!(json["tags"][0], "certain");
    assert!(json["num_parameters"].as_u64().unwrap() > 0);
    bench.run(&["model", "info", "absent.safetensors"]).expect(2);
}

#[test]
fn imported_weights_tag_as_the_original() {
    let bench = Bench::new();
    bench.tone("a.wav", 3.0, 300.0);
    let file = model_file().to_str().unwrap();
    fs::write(bench.path("tags.txt"), "one\ntwo\t0.25\nthree\nfour\n").unwrap();
    let import = ["model", "import", file, "mine.safetensors", "--tags", "tags.txt", "--licence", "MIT"];
    let ran = bench.run(&import).expect(0);
    assert!(ran.err.contains("wrote mine.safetensors") && ran.err.contains("4 tags"), "{ran:#?}");
    let info = bench.run(&["model", "info", "mine.safetensors", "--json"]).expect(0).json();
    assert_eq!((&info["name"], &info["licence"]), (&"mine".into(), &"MIT".into()));
    assert_eq!((&info["thresholds"][0], &info["thresholds"][1]), (&0.5.into(), &0.25.into()));

    let csv = |model: &str| bench.run(&["tag", "a.wav", "--format", "csv", "--model", model]).expect(0).out;
    let renamed = ["certain", "likely", "unlikely", "never"].iter().zip(["one", "two", "three", "four"]);
    let expected = renamed.fold(csv(file), |text, (from, to)| text.replace(&format!(",{from},"), &format!(",{to},")));
    assert_eq!(csv("mine.safetensors"), expected);
}

#[test]
fn what_cannot_be_imported_is_refused_and_nothing_is_written() {
    let bench = Bench::new();
    let file = model_file().to_str().unwrap();
    fs::write(bench.path("text.pt"), "not weights").unwrap();
    fs::write(bench.path("three.txt"), "one\ntwo\nthree\n").unwrap();
    let refused = |args: &[&str], part: &str| {
        let ran = bench.run(&[&["model", "import"], args].concat()).expect(2);
        assert!(ran.err.starts_with("earmark: ") && ran.err.contains(part), "{ran:#?}");
        assert!(!bench.path("out.safetensors").exists());
    };
    refused(&["absent.pt", "out.safetensors"], "absent.pt");
    refused(&["text.pt", "out.safetensors"], "text.pt");
    refused(&[file, "out.safetensors"], "--tags");
    refused(&[file, "out.safetensors", "--tags", "three.txt"], "3 tag names for 4 outputs");
    refused(&[file, "out.safetensors", "--tags", "three.txt", "--threshold", "2"], "threshold is 2");
}

/// Description of the software Vulkan driver (Debian: mesa-vulkan-drivers), if it is installed.
fn lavapipe() -> Option<PathBuf> {
    let mut drivers = fs::read_dir("/usr/share/vulkan/icd.d").ok()?.flatten().map(|entry| entry.path());
    let found = drivers.find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("lvp_icd")));
    if found.is_none() {
        eprintln!("skipped: no software Vulkan driver is installed (mesa-vulkan-drivers)");
    }
    found
}

impl Bench {
    /// `earmark ARGS` where `driver` is the only Vulkan driver; as a GPU with `as_gpu`.
    fn with_driver(&self, driver: &Path, as_gpu: bool, args: &[&str]) -> Ran {
        let mut command = self.command();
        command.env("VK_DRIVER_FILES", driver).env("VK_ICD_FILENAMES", driver).env("CUBECL_AUTOTUNE_LEVEL", "minimal");
        command.env("XDG_RUNTIME_DIR", self.folder.path());
        if as_gpu {
            command.env("EARMARK_TEST_SOFTWARE_GPU", "1");
        }
        Ran::new(command.args(args).output().unwrap())
    }
}

#[test]
fn devices_are_listed_where_there_is_no_graphics_driver() {
    let bench = Bench::new();
    bench.tone("a.wav", 3.0, 300.0);
    let absent = bench.path("absent.json");
    let devices = bench.with_driver(&absent, false, &["devices"]).expect(0);
    assert!(devices.out.starts_with("cpu "), "{devices:#?}");
    let json = bench.with_driver(&absent, false, &["devices", "--json", "--bench"]).expect(0).json();
    let cpu = &json["devices"][0];
    assert_eq!((&cpu["device"], &cpu["usable"]), (&"cpu".into(), &true.into()));
    assert!(cpu["windows_per_s"].as_f64().unwrap() > 0.0, "{json:#}");
    if cfg!(target_os = "linux") {
        assert!(devices.out.contains("No graphics adapter was found"), "{devices:#?}");
        assert_eq!(json["devices"].as_array().unwrap().len(), 1);
        let refused = bench.with_driver(&absent, false, &["tag", "a.wav", "--device", "wgpu"]).expect(2);
        assert!(refused.err.contains("no device matches 'wgpu'; available: cpu\n"), "{refused:#?}");
    }
    bench.with_driver(&absent, false, &["tag", "a.wav", "--device", "auto"]).expect(0);
    bench.with_driver(&absent, true, &["tag", "a.wav", "--device", "wgpu:9"]).expect(2);
}

#[test]
fn software_is_listed_and_never_taken_for_a_gpu() {
    let Some(driver) = lavapipe() else { return };
    let bench = Bench::new();
    bench.tone("a.wav", 3.0, 300.0);
    let json = bench.with_driver(&driver, false, &["devices", "--json"]).expect(0).json();
    let software = &json["devices"][1];
    assert_eq!((&software["device"], &software["kind"]), (&"wgpu:0".into(), &"software".into()));
    assert_eq!((&software["usable"], &software["max_logit_difference"]), (&false.into(), &Value::Null));
    for device in ["wgpu", "wgpu:0"] {
        let refused = bench.with_driver(&driver, false, &["tag", "a.wav", "--device", device]).expect(2);
        assert!(refused.err.contains("available: cpu, but not wgpu:0 ("), "{refused:#?}");
        assert!(refused.err.contains("software") && refused.out.is_empty(), "{refused:#?}");
    }
    let auto = bench.with_driver(&driver, false, &["tag", "a.wav", "--device", "auto", "--format", "ndjson"]).expect(0);
    assert!(auto.events()[0]["payload"]["device"].as_str().unwrap().starts_with("cpu ("), "{auto:#?}");
}

#[test]
fn a_gpu_gives_the_processors_results() {
    let Some(driver) = lavapipe() else { return };
    let bench = Bench::new();
    bench.tone("a.wav", 4.0, 300.0);
    let devices = bench.with_driver(&driver, true, &["devices", "--json"]).expect(0).json();
    let gpu = &devices["devices"][1];
    assert_eq!((&gpu["device"], &gpu["usable"], &gpu["reason"]), (&"wgpu:0".into(), &true.into(), &Value::Null));
    assert!(gpu["max_logit_difference"].as_f64().unwrap() < 1e-3, "{devices:#}");

    let args = |device: &'static str| ["tag", "a.wav", "--format", "ndjson", "--top-n", "4", "--device", device];
    let on_gpu = bench.with_driver(&driver, true, &args("wgpu")).expect(0);
    let on_cpu = bench.with_driver(&driver, true, &args("cpu")).expect(0);
    assert!(on_gpu.err.contains("on wgpu:0 ("), "the device in use is named: {on_gpu:#?}");
    let results = |ran: &Ran| {
        let events = ran.events();
        let file = events.iter().find(|event| event["event"] == "file_completed").unwrap()["payload"].clone();
        let windows = file["windows"].as_array().unwrap().clone();
        let confidences = windows.iter().flat_map(|window| window["tags"].as_array().unwrap());
        let confidences: Vec<f64> = confidences.map(|tag| tag["confidence"].as_f64().unwrap()).collect();
        (windows.len(), confidences)
    };
    let ((windows, ours), (expected_windows, expected)) = (results(&on_gpu), results(&on_cpu));
    assert_eq!((windows, ours.len()), (expected_windows, expected.len()));
    assert!(ours.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-3), "{ours:?} {expected:?}");
}

#[cfg(unix)]
#[test]
fn a_second_ctrl_c_leaves_no_half_written_file() {
    let bench = Bench::new();
    // So many failures that the standard error, which nobody reads, is full: the first Ctrl-C cannot end the run.
    fs::create_dir(bench.path("music")).unwrap();
    for index in 0..2_000 {
        fs::write(bench.path(format!("music/{index:0>100}.mp3")), "").unwrap();
    }
    let mut child = bench
        .command()
        .args(["tag", "music", "--format", "csv", "--out", "out.csv"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let temporary = || {
        let mut names = fs::read_dir(bench.path(".")).unwrap().map(|entry| entry.unwrap().file_name());
        names.any(|name| name.to_string_lossy().starts_with(".earmark-"))
    };
    let started = Instant::now();
    while !temporary() && started.elapsed() < Duration::from_mins(1) {
        thread::sleep(Duration::from_millis(5));
    }
    // The handler is set right after the file is made.
    thread::sleep(Duration::from_millis(500));
    for _ in 0..2 {
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!temporary() && !bench.path("out.csv").exists());
}

#[test]
fn completions_name_the_commands() {
    let bench = Bench::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(bench.run(&["completions", shell]).expect(0).out.contains("hop-secs"), "{shell}");
    }
    bench.run(&["completions", "cmd"]).expect(2);
}
