//! Compares every way to compute the same windows: `parity MODEL FILE...`.
//!
//! Each file is decoded and tagged at the default hop by the plain CPU engine, with shared windows, in pieces of random
//! size, and by the Burn modules on flex (a few windows: it is slow). Prints the largest difference of the logits to the
//! plain CPU engine; the last line is `RESULT parity ..`.

use std::error::Error;
use std::path::Path;

use earmark_core::WINDOW_SAMPLES;
use earmark_core::audio;
use earmark_core::engine::{BurnEngine, CpuEngine, Engine, Hop, WindowStream};
use earmark_core::model_file::Model;

/// Windows per file that the Burn modules compute.
const FLEX_WINDOWS: usize = 4;

/// Logits of all windows, pieces of the sizes that `next` gives.
fn logits(
    mut stream: Box<dyn WindowStream + '_>,
    samples: &[f32],
    mut next: impl FnMut() -> usize,
) -> Result<Vec<f32>, Box<dyn Error>> {
    let mut logits = Vec::new();
    let mut rest = samples;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(next().clamp(1, rest.len()));
        stream.push(now, &mut |r| logits.extend_from_slice(r.logits))?;
        rest = later;
    }
    stream.finish(&mut |r| logits.extend_from_slice(r.logits))?;
    Ok(logits)
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "the same windows");
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, files @ ..] = args.as_slice() else { return Err("usage: parity MODEL FILE...".into()) };
    let model = Model::load(Path::new(model))?;
    let one = CpuEngine::new(&model, 1)?;
    let two = CpuEngine::new(&model, 2)?;
    let flex = BurnEngine::flex(&model)?;
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % 30_000) as usize
    };
    let mut worst = [0.0_f32; 4];
    let mut windows = 0;
    for file in files {
        let (waveform, _) = audio::load(Path::new(file))?;
        let samples = &waveform.samples;
        let plain = logits(one.plain_stream(Hop::DEFAULT), samples, || usize::MAX)?;
        windows += plain.len() / one.num_tags();
        let few = &samples[..samples.len().min(FLEX_WINDOWS * WINDOW_SAMPLES)];
        let plain_few = logits(one.plain_stream(Hop::NON_OVERLAPPING), few, || usize::MAX)?;
        let found = [
            largest_difference(&plain, &logits(two.plain_stream(Hop::DEFAULT), samples, || usize::MAX)?),
            largest_difference(&plain, &logits(two.stream(Hop::DEFAULT), samples, || usize::MAX)?),
            largest_difference(&plain, &logits(one.stream(Hop::DEFAULT), samples, &mut random)?),
            largest_difference(&plain_few, &logits(flex.stream(Hop::NON_OVERLAPPING), few, || usize::MAX)?),
        ];
        for (worst, found) in worst.iter_mut().zip(found) {
            *worst = worst.max(found);
        }
    }
    println!(
        "{} files, {windows} windows, hop {} samples; largest difference of a logit to the plain CPU engine, 1 thread",
        files.len(),
        Hop::DEFAULT.samples()
    );
    let names = ["plain, 2 threads", "shared windows, 2 threads", "shared, random pieces", "Burn modules on flex"];
    for (name, worst) in names.iter().zip(worst) {
        println!("{name:<28}{worst:.2e}");
    }
    println!(
        "RESULT parity plain_2t={:.2e} sliding={:.2e} streaming={:.2e} flex={:.2e}",
        worst[0], worst[1], worst[2], worst[3]
    );
    Ok(())
}
