//! `./dev bench presence MUSIC NOISE`: how often music is called music, and other sounds are not.
//!
//! Every file in the two folders is heard as a source of its own; its first five seconds, in which nothing can be known,
//! are left out. Beside it, what the tagger's own certainty would have said.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use earmark_core::audio::{AudioStream, TonalityMeter};
use earmark_core::engine::{CpuEngine, Engine, Hop};
use earmark_core::model_file::Model;
use earmark_core::tags::{Audible, Presence, SilenceGate, sigmoid};
use earmark_core::{SAMPLE_RATE_HZ, WINDOW_SAMPLES};

/// Time at the begin of a file that does not count.
const SETTLING_SECS: f64 = 5.0;

#[derive(Default)]
struct Counts {
    windows: u64,
    music: u64,
    certain: u64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, music, noise] = &arguments[..] else {
        eprintln!("presence MODEL MUSIC NOISE: a model file and two folders");
        std::process::exit(2);
    };
    let model = Model::load(Path::new(model)).unwrap();
    let engine = CpuEngine::new(&model, 1).unwrap();
    let [music, noise] = [music, noise].map(|folder| {
        let mut counts = Counts::default();
        for file in files(Path::new(folder)) {
            hear(&file, &engine, &model.metadata.thresholds, &mut counts);
        }
        println!("{folder}: {} windows, {} called music", counts.windows, counts.music);
        counts
    });
    let share = |part: u64, counts: &Counts| part as f64 / counts.windows.max(1) as f64;
    println!(
        "RESULT presence music_heard={:.4} noise_rejected={:.4} tagger_certain_of_noise={:.4}",
        share(music.music, &music),
        1.0 - share(noise.music, &noise),
        share(noise.certain, &noise)
    );
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

fn hear(file: &Path, engine: &CpuEngine, thresholds: &[f32], counts: &mut Counts) {
    let Ok(mut audio) = AudioStream::open(file) else { return };
    let (mut gate, mut tonality, mut presence) = (SilenceGate::new(), TonalityMeter::new(), Presence::new());
    let mut stream = engine.stream(Hop::DEFAULT);
    while let Ok(Some(samples)) = audio.next_chunk() {
        // Hop by hop, as the live path does.
        for piece in samples.chunks(1_024) {
            gate.push(piece);
            tonality.push(piece);
            stream
                .push(piece, &mut |window| {
                    let at_s = (window.start + WINDOW_SAMPLES as u64 / 2) as f64 / f64::from(SAMPLE_RATE_HZ);
                    let is_silent = gate.window_is_silent(window.start);
                    let surest = window.logits.iter().map(|&logit| sigmoid(logit)).fold(0.0, f32::max);
                    let heard = presence.push(at_s, is_silent, tonality.take(), surest);
                    if at_s >= SETTLING_SECS && !is_silent {
                        counts.windows += 1;
                        counts.music += u64::from(heard == Audible::Music);
                        let certain = window.logits.iter().zip(thresholds).any(|(&logit, &t)| sigmoid(logit) >= t);
                        counts.certain += u64::from(certain);
                    }
                })
                .unwrap();
        }
    }
}
