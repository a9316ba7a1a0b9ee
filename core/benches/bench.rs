//! Benchmarks of the CPU engine and of the augmentations:
//! `cargo bench --bench bench -- engine|sliding|chain [--threads N]`.
//!
//! Each is a ratio of two things timed in turn within one run, so that a busy machine slows both; the fastest of the
//! rounds counts, and the median is shown beside it. The network is SampleCNN at full width (table 3.1, last kernel 3,
//! label predictor 512 -> 512 -> 50) with random weights: speed does not depend on their values.

use std::time::Instant;

use earmark_core::audio::augment::Chain;
use earmark_core::engine::{CpuEngine, Engine, Hop, WindowStream};
use earmark_core::model_file::Model;
use earmark_core::weights::Architecture;
use earmark_core::{SAMPLE_RATE_HZ, WINDOW_SAMPLES};
use gemm::Parallelism;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Multiply-accumulate operations of one window at full width (table 3.1), twice.
const FLOP_PER_WINDOW: f64 = 3.456e9;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let threads = args
        .iter()
        .position(|arg| arg == "--threads")
        .and_then(|at| args.get(at + 1))
        .and_then(|n| n.parse().ok())
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    match args.first().map(String::as_str) {
        Some("engine") => engine(threads),
        Some("sliding") => sliding(threads),
        Some("chain") => chain(),
        other => {
            eprintln!("no benchmark {other:?}; there are: chain, engine, sliding");
            std::process::exit(2);
        }
    }
}

/// Fastest and median seconds of `rounds` calls of each function, in turn.
fn in_turn<const N: usize>(rounds: usize, mut functions: [&mut dyn FnMut(); N]) -> [(f64, f64); N] {
    let mut times = [const { Vec::new() }; N];
    for round in 0..=rounds {
        for (function, times) in functions.iter_mut().zip(&mut times) {
            let start = Instant::now();
            function();
            // The first round warms caches and grows buffers.
            if round > 0 {
                times.push(start.elapsed().as_secs_f64());
            }
        }
    }
    times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        (times[0], times[times.len() / 2])
    })
}

/// CLMR's chain with its own probabilities, and each effect alone, on one thread.
fn chain() {
    const WINDOWS: u64 = 64;
    let window = noise(WINDOW_SAMPLES);
    let never =
        Chain { polarity: 0.0, white_noise: 0.0, gain: 0.0, filter: 0.0, delay: 0.0, pitch_shift: 0.0, reverb: 0.0 };
    let run = |chain: &Chain| {
        for seed in 0..WINDOWS {
            chain.apply(&mut window.clone(), &mut ChaCha8Rng::seed_from_u64(seed));
        }
    };
    for (name, chain) in [
        ("white noise", Chain { white_noise: 1.0, ..never.clone() }),
        ("filter", Chain { filter: 1.0, ..never.clone() }),
        ("delay", Chain { delay: 1.0, ..never.clone() }),
        ("pitch shift", Chain { pitch_shift: 1.0, ..never.clone() }),
        ("reverb", Chain { reverb: 1.0, ..never.clone() }),
    ] {
        let [(fastest, _)] = in_turn(5, [&mut || run(&chain)]);
        println!("{name}: {:.2} ms per window", fastest / WINDOWS as f64 * 1e3);
    }
    let [(fastest, median)] = in_turn(9, [&mut || run(&Chain::default())]);
    println!("CLMR's chain, one thread: {:.2} ms per window", fastest / WINDOWS as f64 * 1e3);
    let rates = [fastest, median].map(|secs| WINDOWS as f64 / secs);
    println!("RESULT chain windows_per_s={:.0} windows_per_s_median={:.0}", rates[0], rates[1]);
}

/// One window on its own, against the same machine's f32 matrix product.
fn engine(threads: usize) {
    let engine = CpuEngine::new(&model(), threads).expect("valid model");
    let window = noise(WINDOW_SAMPLES);
    let mut stream = engine.plain_stream(Hop::NON_OVERLAPPING);
    let mut product = peak(threads, 512);
    let [(fastest, median), (gemm, _)] = in_turn(60, [&mut || run(stream.as_mut(), &window, 1), &mut || product()]);
    let peak = threads as f64 * 2.0 * 512_f64.powi(3) * PRODUCTS as f64 / gemm / 1e9;
    let gflops = FLOP_PER_WINDOW / fastest / 1e9;
    println!("{}: {:.2} ms per window (median {:.2})", engine.device(), fastest * 1e3, median * 1e3);
    println!("f32 matrix product of the same library, 512 x 512 x 512 on every thread: {peak:.0} GFLOP/s");
    println!("RESULT engine ms_per_window={:.3} gflops={gflops:.1} peak_share={:.3}", fastest * 1e3, gflops / peak);
}

/// 30 s of audio at the default hop, with and without sharing between windows.
fn sliding(threads: usize) {
    let engine = CpuEngine::new(&model(), threads).expect("valid model");
    let clip = noise(30 * SAMPLE_RATE_HZ as usize);
    let windows = 1 + (clip.len() - WINDOW_SAMPLES).div_ceil(Hop::DEFAULT.samples());
    let mut shared = engine.stream(Hop::DEFAULT);
    let mut plain = engine.plain_stream(Hop::DEFAULT);
    let [(shared, shared_median), (plain, plain_median)] =
        in_turn(7, [&mut || run(shared.as_mut(), &clip, windows), &mut || run(plain.as_mut(), &clip, windows)]);
    println!("{}: 30 s, {windows} windows, hop {} samples", engine.device(), Hop::DEFAULT.samples());
    println!(
        "shared {:.1} ms (median {:.1}), plain {:.1} ms (median {:.1})",
        shared * 1e3,
        shared_median * 1e3,
        plain * 1e3,
        plain_median * 1e3
    );
    println!(
        "RESULT sliding saving={:.2} ms_per_window={:.3} real_time={:.0}",
        plain / shared,
        shared * 1e3 / windows as f64,
        30.0 / shared
    );
}

fn run(stream: &mut dyn WindowStream, samples: &[f32], expected: usize) {
    let mut windows = 0;
    stream.push(samples, &mut |_| windows += 1).expect("cpu");
    stream.finish(&mut |_| windows += 1).expect("cpu");
    assert_eq!(windows, expected);
}

/// Products per call of [`peak`], on each thread.
const PRODUCTS: usize = 8;

/// Square products that run on every thread at once: the ceiling for anything built on them.
#[allow(unsafe_code)]
fn peak(threads: usize, n: usize) -> impl FnMut() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    let mut outputs = vec![vec![0.0_f32; n * n]; threads];
    let (a, b) = (noise(n * n), noise(n * n));
    let stride = n as isize;
    move || {
        pool.install(|| {
            outputs.par_iter_mut().for_each(|output| {
                for _ in 0..PRODUCTS {
                    // SAFETY: all three matrices hold n * n values; the output overlaps neither operand.
                    unsafe {
                        gemm::gemm(
                            n,
                            n,
                            n,
                            output.as_mut_ptr(),
                            1,
                            stride,
                            false,
                            a.as_ptr(),
                            1,
                            stride,
                            b.as_ptr(),
                            1,
                            stride,
                            0.0,
                            1.0,
                            false,
                            false,
                            false,
                            Parallelism::None,
                        );
                    }
                }
            });
        });
    }
}

fn noise(len: usize) -> Vec<f32> {
    let mut state = 0x9E37_79B9_u32;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as f32 / u32::MAX as f32 - 0.5
        })
        .collect()
}

fn model() -> Model {
    Model::random(Architecture::scaled(1.0, 3, Some(512), 50), 1)
}
