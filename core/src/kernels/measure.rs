//! Times each module, for the table of `examples/train_step.rs`.

use std::time::Instant;

use super::{
    block::{self, Backward, Input},
    buffers,
    passes::Norm,
    rows::BlockShape,
};
use crate::{
    WINDOW_SAMPLES,
    matrix::{Matrix, multiply},
    weights::{Architecture, NUM_MODULES},
};

/// A table of modules 2 to 11 on a batch: milliseconds of the fastest of `repeats` runs, GFLOP/s of the matrix products
/// in it, and their share of what the same product reaches on operands in the cache, with all threads. Batch norm, ReLU
/// and pooling count in the time and not in the operations. The input gradient's time is that of the whole backward
/// pass less that of one without it. Module 1 is part of module 2's kernel; here module 2 reads its input from memory.
pub fn measure_modules(architecture: &Architecture, batch: usize, repeats: usize) -> Vec<String> {
    let peak = peak_gflops();
    let cell = |seconds: f64, gflop: f64| {
        format!("{:>8.2} {:>6.1} {:>4.0}%", seconds * 1e3, gflop / seconds, 100.0 * gflop / seconds / peak)
    };
    let heads = ["forward", "weight gradient", "input gradient"].map(|head| format!("{head:>21}")).join(" |");
    let units = "      ms  GFLOP/s    ";
    let mut lines = vec![
        format!("matrix product in the cache, {} threads: {peak:.1} GFLOP/s", rayon::current_num_threads()),
        format!("{:>6} {:>12} {:>7} |{heads}", "module", "channels", "length"),
        format!("{:>27} |{units}|  {units}|  {units}", ""),
    ];
    let (mut totals, mut total_gflop) = ([0.0; 3], 0.0);
    for index in 1..NUM_MODULES {
        let (channels_in, channels_out, kernel) = architecture.conv_shape(index);
        let pool = index < NUM_MODULES - 1;
        // The first module divides the length by three, each pool that lies before this one does again.
        let len = WINDOW_SAMPLES / 3_usize.pow(index as u32);
        let shape = BlockShape { batch, measured: batch, len, channels_in, channels_out, kernel, pool };
        let [forward, weight_gradient, backward] = time(&shape, repeats);
        let times = [forward, weight_gradient, backward - weight_gradient];
        let gflop = 2e-9 * (shape.positions() * kernel * channels_in * channels_out) as f64;
        let cells = times.map(|seconds| cell(seconds, gflop)).join(" | ");
        lines.push(format!("{:>6} {channels_in:>4} -> {channels_out:>4} {len:>7} |{cells}", index + 1));
        totals.iter_mut().zip(times).for_each(|(total, seconds)| *total += seconds);
        total_gflop += gflop;
    }
    lines.push(format!("{:>27} |{}", "all", totals.map(|seconds| cell(seconds, total_gflop)).join(" | ")));
    lines
}

/// GFLOP/s of the kernels' matrix product on one tile per thread.
fn peak_gflops() -> f64 {
    const ROWS: usize = 256;
    const CHANNELS: usize = 128;
    const TAPS: usize = 384;
    const REPEATS: usize = 10;
    let slowest_thread = || {
        let seconds = rayon::broadcast(|_| {
            let (x, weight) = (vec![0.5; ROWS * TAPS], vec![0.5; TAPS * CHANNELS]);
            let mut y = vec![0.0; ROWS * CHANNELS];
            let start = Instant::now();
            for _ in 0..REPEATS {
                let (left, right) = (Matrix::rows(&x, TAPS), Matrix::rows(&weight, CHANNELS));
                multiply(&mut y, [ROWS, CHANNELS, TAPS], left, right, false);
            }
            start.elapsed().as_secs_f64()
        });
        seconds.into_iter().fold(0.0, f64::max)
    };
    let fastest = (0..20).map(|_| slowest_thread()).fold(f64::INFINITY, f64::min);
    2e-9 * (rayon::current_num_threads() * REPEATS * ROWS * CHANNELS * TAPS) as f64 / fastest
}

/// Seconds of the forward pass, the backward pass without and with the input gradient.
fn time(shape: &BlockShape, repeats: usize) -> [f64; 3] {
    // Any numbers do, as long as they vary.
    let noise = |len: usize| -> Vec<f32> { (0..len).map(|i| (i * 7919 % 1009) as f32 / 1009.0 - 0.5).collect() };
    let (x, gradient) = (noise(shape.input_size()), noise(shape.output_size()));
    let weight = noise(shape.channels_out * shape.channels_in * shape.kernel);
    let mut best = [f64::INFINITY; 3];
    for _ in 0..repeats.max(1) {
        let start = Instant::now();
        let operand = block::forward_operand(shape, &weight);
        let (y, statistics) = block::convolve_and_measure(shape, Input::Rows(&x), &operand);
        let inverse_std: Vec<f32> =
            statistics.variance.iter().map(|variance| (1.0 / (variance + 1e-5).sqrt()) as f32).collect();
        let norm = Norm {
            mean: statistics.mean.iter().map(|&mean| mean as f32).collect(),
            scale: inverse_std.clone(),
            offset: vec![0.0; inverse_std.len()],
            inverse_std,
        };
        let out = block::activate(shape, &norm, &y);
        best[0] = best[0].min(start.elapsed().as_secs_f64());
        for (needs_input, best) in [false, true].into_iter().zip(&mut best[1..]) {
            let start = Instant::now();
            let result = block::backward(&Backward {
                shape: *shape,
                x: Input::Rows(&x),
                y: &y,
                norm: &norm,
                weight: &weight,
                training: true,
                needs_input,
                gradient: &gradient,
            });
            *best = best.min(start.elapsed().as_secs_f64());
            result.input.into_iter().for_each(buffers::give);
        }
        [operand, y, out].into_iter().for_each(buffers::give);
    }
    best
}
