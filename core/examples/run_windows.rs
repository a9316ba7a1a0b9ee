//! Runs a model over raw samples and times it: `run_windows MODEL IN.f32 OUT.f32 [--threads N] [--repeat K] [--hop H]`.
//!
//! `IN.f32` holds little-endian f32 samples, mono, 22,050 Hz. `OUT.f32` receives the logits, one row per window. The last
//! line is `RESULT run_windows windows=.. ms_per_window=..`, the fastest of K repetitions.

use std::error::Error;
use std::time::Instant;

use earmark_core::engine::{CpuEngine, Engine, Hop};
use earmark_core::model_file::Model;

fn main() -> Result<(), Box<dyn Error>> {
    let mut files = Vec::new();
    let (mut threads, mut repeat, mut hop) = (1, 1, Hop::NON_OVERLAPPING.samples());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let target = match arg.as_str() {
            "--threads" => &mut threads,
            "--repeat" => &mut repeat,
            "--hop" => &mut hop,
            _ => {
                files.push(arg);
                continue;
            }
        };
        *target = args.next().ok_or_else(|| format!("{arg} needs a number"))?.parse()?;
    }
    let [model, input, output] = files.as_slice() else {
        return Err("usage: run_windows MODEL IN.f32 OUT.f32 [--threads N] [--repeat K] [--hop H]".into());
    };
    let model = Model::load(model.as_ref())?;
    let samples: Vec<f32> =
        std::fs::read(input)?.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let engine = CpuEngine::new(&model, threads)?;
    let mut stream = engine.stream(Hop::new(hop).ok_or("--hop must be at least 1")?);
    let mut logits = Vec::new();
    let mut windows = 0_usize;
    let mut best = f64::INFINITY;
    // One more than asked for: the first pass grows the buffers.
    for _ in 0..=repeat {
        logits.clear();
        windows = 0;
        let start = Instant::now();
        let mut sink = |result: earmark_core::engine::WindowResult<'_>| {
            logits.extend(result.logits.iter().flat_map(|v| v.to_le_bytes()));
            windows += 1;
        };
        stream.push(&samples, &mut sink)?;
        stream.finish(&mut sink)?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    std::fs::write(output, &logits)?;
    println!("{}", engine.device());
    println!("RESULT run_windows windows={windows} ms_per_window={:.4}", best * 1e3 / windows.max(1) as f64);
    Ok(())
}
