//! `earmark adapt` and `earmark profiles` as their user meets them.
//!
//! ```text
//! songs, a room -> earmark adapt -> table -> profile -> earmark profiles use -> earmark tag says so, earmark live too
//! ```

#![cfg(feature = "gpu")]
#![allow(clippy::unwrap_used)]

use std::f32::consts::TAU;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use earmark_core::model_file::Model;
use earmark_core::weights::Architecture;
use serde_json::Value;

const RATE: u32 = 22_050;

/// `earmark` in an environment of its own.
fn earmark(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_earmark"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("EARMARK_") || name.starts_with("PULSE_") || name.starts_with("XDG_") {
            command.env_remove(&*name);
        }
    }
    command.env("HOME", home).env("LC_ALL", "C.UTF-8").current_dir(home);
    command
}

fn text(output: &Output) -> (Option<i32>, String, String) {
    let read = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), read(&output.stdout), read(&output.stderr))
}

fn run(home: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    text(&earmark(home).args(arguments).output().unwrap())
}

fn write(path: &Path, sample: impl FnMut(u32) -> f32, secs: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let spec =
        hound::WavSpec { channels: 1, sample_rate: RATE, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for sample in (0..secs * RATE).map(sample) {
        writer.write_sample((sample * 32_767.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
}

/// Plucked notes.
fn song(index: u32) -> f32 {
    let (note, time) = (index / (RATE / 2), (index % (RATE / 2)) as f32 / RATE as f32);
    let hz = 110.0 * 2_f32.powf((note * 7 % 25) as f32 / 12.0);
    let partials = (1..=3_u8).map(|n| (TAU * hz * f32::from(n) * time).sin() / f32::from(n)).sum::<f32>();
    0.2 * (-2.0 * time).exp() * partials
}

/// Hiss that swells and fades.
fn hiss() -> impl FnMut(u32) -> f32 {
    let mut state = 1_u32;
    move |index| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let level = 0.1 + 0.08 * (index as f32 / RATE as f32 * 0.9).sin();
        level * ((state >> 8) as f32 / (1 << 23) as f32 - 1.0)
    }
}

/// A home with songs, a room and a small model, with which everything is quick.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    write(&home.path().join("music/song.wav"), song, 90);
    write(&home.path().join("room/room.wav"), hiss(), 90);
    let mut model = Model::random(Architecture::scaled(1.0 / 16.0, 3, Some(12), 5), 0);
    model.metadata.name = "small".into();
    model.save(&home.path().join("small.safetensors")).unwrap();
    home
}

fn profiles(home: &Path) -> PathBuf {
    home.join(".local/share/earmark/profiles")
}

const ADAPT: [&str; 7] = ["adapt", "--clean", "music", "--room", "room", "--model", "small.safetensors"];

/// Accepts anything: a network with random weights promises nothing.
const ANYTHING: [&str; 6] = ["--max-clean-change", "1", "--min-clean-kept", "0", "--min-meter-accuracy", "0"];

#[test]
fn a_room_becomes_a_profile_that_is_used_listed_and_removed() {
    let home = home();
    let home = home.path();
    let (code, out, err) = run(home, &[&ADAPT[..], &["--out", "club"], &ANYTHING].concat());
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("noise meter is right") && out.contains("accepted, measured on 1 clips"), "{out}");
    assert!(err.contains("room: 1:30 of sound from 1 file") && err.contains("earmark profiles use club"), "{err}");
    let model = Model::load(&profiles(home).join("club.safetensors")).unwrap();
    assert_eq!((model.metadata.name.as_str(), model.metadata.format_version), ("club", 2));
    assert!(model.metadata.noise_meter.unwrap().accuracy.unwrap() > 0.5);

    // It is not in use until it is chosen.
    let (_, out, _) = run(home, &["profiles"]);
    assert!(out.starts_with("* default") && out.contains("  club"), "{out}");
    let (_, _, err) = run(home, &["tag", "room/room.wav"]);
    assert!(!err.contains("with profile"), "{err}");
    assert_eq!(run(home, &["profiles", "use", "club"]).0, Some(0));
    let (code, _, err) = run(home, &["tag", "room/room.wav"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(
        err.contains("with profile club (earmark profiles use default goes back") && err.contains("model club"),
        "{err}"
    );
    let live = ["live", "--file", "room/room.wav", "--speed", "50", "--format", "ndjson"];
    let (_, _, err) = run(home, &live);
    assert!(err.contains("with profile club"), "{err}");
    // A model that is named wins.
    let (_, _, err) = run(home, &["tag", "--model", "small.safetensors", "room/room.wav"]);
    assert!(!err.contains("with profile") && err.contains("model small"), "{err}");

    let (_, out, _) = run(home, &["profiles", "list", "--json"]);
    let listed: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (listed["profiles"][0]["in_use"].as_bool(), &listed["profiles"][0]["adapted_from"]),
        (Some(true), &"small".into())
    );
    let (_, out, _) = run(home, &["profiles", "show", "club"]);
    assert!(out.contains("from the model small") && out.contains("noise meter is right"), "{out}");
    let (_, out, _) = run(home, &["model", "info", ".local/share/earmark/profiles/club.safetensors"]);
    assert!(out.contains("noise meter") && out.contains("adapted_from.name small"), "{out}");

    // Nothing is written over.
    let (code, _, err) = run(home, &[&ADAPT[..], &["--out", "club"]].concat());
    assert!(code == Some(2) && err.contains("there already"), "{err}");
    assert_eq!(run(home, &["profiles", "remove", "club"]).0, Some(0));
    let (_, _, err) = run(home, &["tag", "room/room.wav"]);
    assert!(!err.contains("with profile"), "{err}");
    let (code, _, err) = run(home, &["profiles", "use", "club"]);
    assert!(code == Some(2) && err.contains("there are none yet"), "{err}");
}

#[test]
fn a_profile_in_use_that_is_gone_is_an_error_with_the_way_out() {
    let home = home();
    let home = home.path();
    assert_eq!(run(home, &[&ADAPT[..], &["--out", "club", "--use", "--quiet"], &ANYTHING].concat()).0, Some(0));
    fs::remove_file(profiles(home).join("club.safetensors")).unwrap();
    let (code, _, err) = run(home, &["tag", "room/room.wav"]);
    assert!(code == Some(2) && err.contains("earmark profiles use default"), "{err}");
    assert_eq!(run(home, &["profiles", "use", "default"]).0, Some(0));
    assert_eq!(run(home, &["tag", "room/room.wav"]).0, Some(0));
}

#[test]
fn an_interrupted_adaptation_goes_on_with_the_same_command() {
    let home = home();
    let home = home.path();
    let with = |out: &'static str| {
        let dat =
            ["--stages", "dat", "--steps", "90", "--batch", "4", "--learning-rate", "1e-2", "--json", "--out", out];
        [&ADAPT[..], &dat, &ANYTHING].concat()
    };
    // A network with random weights may bring nothing in the room, and is then refused; its figures are what counts here.
    let (code, whole, err) = run(home, &with("whole"));
    assert!(code == Some(0) || code == Some(1), "{err}");

    let mut child = earmark(home).args(with("torn")).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // Killed without a word as soon as something is kept.
    let state = home.join(".local/share/earmark/adapting/torn");
    let started = Instant::now();
    while !state.exists() && child.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < Duration::from_mins(10), "nothing was kept");
        thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(state.exists(), "it was done before it could be killed");
    assert!(!profiles(home).join("torn.safetensors").exists());
    let (other, _, err) = run(home, &[&with("torn")[..], &["--lambda", "0.5"]].concat());
    assert!(other == Some(2) && err.contains("begun with other settings"), "{err}");
    let (again, torn, err) = run(home, &with("torn"));
    assert_eq!(again, code, "{err}");
    assert!(err.contains("going on after step 50") && !state.exists(), "{err}");
    // Every figure of before and after, to the last digit.
    assert_eq!(torn, whole);
}

#[test]
fn what_cannot_be_learnt_from_is_refused_and_leaves_nothing() {
    let home = home();
    let home = home.path();
    write(&home.join("tones/tones.wav"), |index| 0.2 * (TAU * 1_000.0 * (index % RATE) as f32 / RATE as f32).sin(), 90);
    let (code, out, err) = run(
        home,
        &["adapt", "--clean", "music", "--room", "tones", "--model", "small.safetensors", "--out", "x", "--json"],
    );
    assert!(code == Some(1) && err.contains("tones that stand still"), "{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert!(report["material"]["room"]["tonality"].as_f64().unwrap() > 0.5, "{out}");
    let (code, _, err) =
        run(home, &["adapt", "--clean", "music", "--room", "music", "--model", "small.safetensors", "--out", "x"]);
    assert!(code == Some(1) && err.contains("the same sound is on both sides"), "{err}");
    // A limit that nothing can keep: refused with its figures, and nothing is written.
    let limit = ["--stages", "dat", "--steps", "10", "--batch", "4", "--max-clean-change", "0", "--out", "x"];
    let (code, out, err) = run(home, &[&ADAPT[..], &limit].concat());
    assert!(code == Some(1) && err.contains("no profile was written"), "{err}");
    assert!(out.contains("refused") && out.contains("at most 0.000 is allowed"), "{out}");
    assert!(!profiles(home).join("x.safetensors").exists());
    // Usage.
    for (arguments, expected) in [
        (&["adapt", "--clean", "music", "--room", "room"][..], "--out"),
        (&["adapt", "--clean", "music", "--out", "x"], "--room is missing"),
        (&["adapt", "--clean", "music", "--room", "nowhere", "--out", "x"], "nowhere is not there"),
        (&["adapt", "--clean", "music", "--room", "room", "--out", "default"], "built-in model"),
        (&["adapt", "--clean", "music", "--room", "room", "--out", "x", "--steps", "0"], "steps is 0"),
    ] {
        let (code, _, err) = run(home, arguments);
        assert!(code == Some(2) && err.contains(expected), "{arguments:?}: {err}");
    }
}

#[test]
fn a_room_is_recorded_through_live_and_looked_at() {
    let home = home();
    let home = home.path();
    let record = ["adapt", "record", "--out", "club", "--file", "room/room.wav", "--speed", "50", "--duration", "85"];
    let (code, _, err) = run(home, &record);
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("stays on this machine"), "{err}");
    let recorded: Vec<_> = fs::read_dir(home.join("club")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(recorded.len() == 1 && recorded[0].extension().unwrap() == "flac", "{recorded:?}");
    let (code, _, err) = run(home, &["adapt", "--clean", "music", "--room", "club", "--check"]);
    assert!(code == Some(0) && err.contains("room: 1:"), "{err}");
}
