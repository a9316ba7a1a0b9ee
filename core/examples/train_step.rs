//! Measures one training step of the whole network on the CPU: forward, backward and Adam.
//!
//! ```text
//! cargo run --release --example train_step -- [--batch 16] [--width 1.0] [--last-kernel 1] [--steps 5] [--threads 2]
//!                                             [--plain] [--layers] [--export DIR]
//! ```
//!
//! `--plain` measures Burn's own operations instead of the kernels, `--layers` prints a table per module, `--export`
//! writes the initial weights, the batch and the losses, for a comparison with another framework on the same numbers.
//! The windows per second are those of the fastest step; per second of processor time they count all threads.

use std::{error::Error, path::PathBuf, time::Instant};

use burn::{
    module::Module as _,
    optim::{AdamConfig, GradientsParams},
    prelude::*,
    tensor::{Distribution, activation::log_sigmoid},
};
use earmark_core::{
    WINDOW_SAMPLES, kernels,
    model::Tagger,
    weights::{Architecture, Weights},
};

struct Options {
    batch: usize,
    width: f64,
    last_kernel: usize,
    steps: usize,
    threads: usize,
    plain: bool,
    layers: bool,
    export: Option<PathBuf>,
}

impl Options {
    fn parse() -> Result<Self, Box<dyn Error>> {
        let mut options = Self {
            batch: 16,
            width: 1.0,
            last_kernel: 1,
            steps: 5,
            threads: 2,
            plain: false,
            layers: false,
            export: None,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--batch" => options.batch = value()?.parse()?,
                "--width" => options.width = value()?.parse()?,
                "--last-kernel" => options.last_kernel = value()?.parse()?,
                "--steps" => options.steps = value()?.parse()?,
                "--threads" => options.threads = value()?.parse()?,
                "--export" => options.export = Some(value()?.into()),
                "--plain" => options.plain = true,
                "--layers" => options.layers = true,
                other => return Err(format!("unknown option {other}").into()),
            }
        }
        Ok(options)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse()?;
    rayon::ThreadPoolBuilder::new().num_threads(options.threads).build_global()?;
    let architecture = Architecture::scaled(options.width, options.last_kernel, None, 50);
    architecture.validate()?;
    if options.layers {
        for line in kernels::measure_modules(&architecture, options.batch, options.steps) {
            println!("{line}");
        }
        return Ok(());
    }

    let device = Device::flex();
    device.seed(0);
    let windows = Tensor::<2>::random([options.batch, WINDOW_SAMPLES], Distribution::Normal(0.0, 0.1), &device);
    let targets = Tensor::<2>::random([options.batch, 50], Distribution::Bernoulli(0.1), &device);
    let weights = Tagger::new(&architecture, &device).to_weights();
    let device = device.autodiff();
    let mut tagger = Tagger::from_weights(&architecture, &weights, &device);
    println!("{} parameters with running statistics, batch {}", tagger.num_params(), options.batch);
    let (batch, batch_targets) = (Tensor::from_inner(windows.clone()), Tensor::from_inner(targets.clone()));
    let mut optimizer = AdamConfig::new().with_epsilon(1e-8).init();

    let (mut best, mut best_cpu, mut losses) = (f64::INFINITY, f64::INFINITY, Vec::new());
    for step in 0..options.steps {
        let (start, cpu_start) = (Instant::now(), cpu_seconds());
        let embedding = if options.plain {
            tagger.feature_extractor.forward_plain(batch.clone())
        } else {
            tagger.feature_extractor.forward(batch.clone())
        };
        let loss = binary_cross_entropy(tagger.label_predictor.forward(embedding), &batch_targets);
        let value: f32 = loss.clone().into_scalar();
        let forward = start.elapsed().as_secs_f64();
        let grads = GradientsParams::from_grads(loss.backward(), &tagger);
        let backward = start.elapsed().as_secs_f64() - forward;
        tagger = optimizer.step(3e-4, tagger, grads);
        let total = start.elapsed().as_secs_f64();
        best_cpu = best_cpu.min(cpu_seconds() - cpu_start);
        println!(
            "step {step}: loss {value:.6}, forward {forward:.3} s, backward {backward:.3} s, optimiser {:.3} s",
            total - forward - backward
        );
        best = best.min(total);
        losses.push(value);
    }
    if let Some(folder) = &options.export {
        export(folder, &weights, windows, targets, &losses)?;
    }
    println!(
        "RESULT train-step windows_per_s={:.2} windows_per_cpu_s={:.2} rss_mb={:.0}",
        options.batch as f64 / best,
        options.batch as f64 / best_cpu,
        peak_resident_mb().unwrap_or(f64::NAN)
    );
    Ok(())
}

/// Mean over all logits.
fn binary_cross_entropy(logits: Tensor<2>, targets: &Tensor<2>) -> Tensor<1> {
    let positive = log_sigmoid(logits.clone()) * targets.clone();
    let negative = log_sigmoid(logits.neg()) * (targets.clone().neg() + 1.0);
    (positive + negative).mean().neg()
}

/// Processor time of all threads so far, where the system tells it (Linux, in hundredths of a second): unlike the
/// wall clock it does not count what other programs take.
fn cpu_seconds() -> f64 {
    let ticks = || {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        Some(fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?)
    };
    ticks().map_or(f64::NAN, |ticks| ticks / 100.0)
}

/// Peak resident memory, where the system tells it (Linux).
fn peak_resident_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}

/// Raw little-endian `f32` files, one per array, in the layout of [`Weights`].
fn export(
    folder: &std::path::Path,
    weights: &Weights,
    windows: Tensor<2>,
    targets: Tensor<2>,
    losses: &[f32],
) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    let write = |name: &str, values: &[f32]| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        std::fs::write(folder.join(format!("{name}.f32")), bytes)
    };
    write("windows", &windows.into_data().iter::<f32>().collect::<Vec<_>>())?;
    write("targets", &targets.into_data().iter::<f32>().collect::<Vec<_>>())?;
    write("losses", losses)?;
    for (index, conv) in weights.convs.iter().enumerate() {
        write(&format!("conv{index}.weight"), &conv.weight)?;
        write(&format!("conv{index}.bias"), &conv.bias)?;
    }
    write("head.weight", &weights.head[0].weight)?;
    write("head.bias", &weights.head[0].bias)?;
    Ok(())
}
