//! Pitch shift without change of length: stretched in time, then read faster or slower.
//!
//! ```text
//! window [n] -> stretch -> [n * ratio], same pitch -> read at speed ratio -> [n], pitch * ratio
//!                                                                    ratio = 2^(cents / 1200)
//! ```
//!
//! Time is stretched by WSOLA (Verhelst and Roelands, 1993): pieces of the window are laid out at another distance,
//! each moved a little to where it continues the piece before it best. Lengths are those of `pitch` in `SoX`, which
//! CLMR's chain uses.

use std::f64::consts::PI;

use crate::SAMPLE_RATE_HZ;

const fn samples(microseconds: u64) -> usize {
    (microseconds * SAMPLE_RATE_HZ as u64 / 1_000_000) as usize
}

/// One piece: 82 ms.
const SEGMENT: usize = samples(82_000);
/// Part of a piece that is cross-faded with the one before: 12 ms.
const OVERLAP: usize = samples(12_000);
/// Places that are tried for a piece: 14.68 ms.
const SEARCH: usize = samples(14_680);

/// Zero crossings of the interpolation filter on each side.
const ZERO_CROSSINGS: f64 = 16.0;
/// Fractions of a sample at which the filter is tabulated; it is linear between them.
const PHASES: usize = 256;
/// Share of the lower Nyquist frequency that passes.
const PASS_BAND: f64 = 0.95;

/// Raises the pitch by `cents` hundredths of a semitone (lowers it if negative), length kept.
pub fn pitch_shift(window: &mut [f32], cents: f32) {
    let ratio = (f64::from(cents) / 1_200.0).exp2();
    let stretched = stretch(window, ratio);
    read_at_rate(&stretched, ratio, window);
}

/// `input` in `ratio` times its duration with its pitch, at least `input.len() * ratio` samples.
fn stretch(input: &[f32], ratio: f64) -> Vec<f32> {
    let wanted = (input.len() as f64 * ratio).ceil() as usize;
    // Silence behind the end, where the last pieces reach it.
    let padded = [input, &[0.0; SEGMENT + SEARCH]].concat();
    let hop = SEGMENT - OVERLAP;
    let mut output = Vec::with_capacity(wanted + SEGMENT);
    output.extend_from_slice(&padded[..SEGMENT]);
    for piece in 1.. {
        if output.len() >= wanted {
            break;
        }
        let nominal = ((piece * hop) as f64 / ratio).round() as usize;
        let first = nominal.saturating_sub(SEARCH / 2).min(input.len());
        let tail_start = output.len() - OVERLAP;
        let tail = &mut output[tail_start..];
        let start =
            first + best_continuation(tail, &padded[first..first + SEARCH + OVERLAP], nominal - nominal.min(first));
        for (index, (old, new)) in tail.iter_mut().zip(&padded[start..]).enumerate() {
            *old += (new - *old) * (index + 1) as f32 / (OVERLAP + 1) as f32;
        }
        output.extend_from_slice(&padded[start + OVERLAP..start + SEGMENT]);
    }
    output
}

/// Where in `candidates` the normalised correlation with `tail` is largest; `otherwise` in silence.
fn best_continuation(tail: &[f32], candidates: &[f32], otherwise: usize) -> usize {
    // One sum per place, side by side, which the compiler turns into vector code without reordering a sum.
    let mut correlations = [0.0_f32; SEARCH];
    for (index, sample) in tail.iter().enumerate() {
        for (correlation, candidate) in correlations.iter_mut().zip(&candidates[index..]) {
            *correlation += sample * candidate;
        }
    }
    let square = |sample: f32| f64::from(sample).powi(2);
    let mut energy: f64 = candidates[..tail.len()].iter().map(|&sample| square(sample)).sum();
    let (mut best, mut best_score) = (otherwise.min(SEARCH - 1), 0.0);
    for (place, &correlation) in correlations.iter().enumerate() {
        if energy > 1e-12 {
            let score = f64::from(correlation) / energy.sqrt();
            if score > best_score {
                (best, best_score) = (place, score);
            }
        }
        energy = (energy + square(candidates[place + tail.len()]) - square(candidates[place])).max(0.0);
    }
    best
}

/// Reads `source` at 0, `speed`, `2 * speed`, ... into `out`: windowed-sinc interpolation, without aliasing.
fn read_at_rate(source: &[f32], speed: f64, out: &mut [f32]) {
    let cutoff = PASS_BAND * (1.0 / speed).min(1.0);
    let half = (ZERO_CROSSINGS / cutoff).ceil() as usize;
    let taps = (2 * half).next_multiple_of(LANES);
    let filter = interpolation_filter(cutoff, half, taps);
    // Tap 0 of an output at position p is sample floor(p) - half + 1.
    let end = (out.len() as f64 * speed).ceil() as usize + taps + 1;
    let mut padded = vec![0.0; half - 1];
    padded.extend_from_slice(source);
    padded.resize(padded.len().max(end), 0.0);
    for (index, out) in out.iter_mut().enumerate() {
        let position = index as f64 * speed;
        let (whole, phase) = (position.floor(), position.fract() * PHASES as f64);
        let (row, between) = (phase as usize, phase.fract() as f32);
        let (low, high) = filter[row * taps..(row + 2) * taps].split_at(taps);
        let samples = &padded[whole as usize..whole as usize + taps];
        let mut sums = [0.0_f32; LANES];
        for ((samples, low), high) in
            samples.chunks_exact(LANES).zip(low.chunks_exact(LANES)).zip(high.chunks_exact(LANES))
        {
            for lane in 0..LANES {
                sums[lane] += samples[lane] * (low[lane] + between * (high[lane] - low[lane]));
            }
        }
        *out = sums.iter().sum();
    }
}

/// Sums that run side by side.
const LANES: usize = 8;

/// The filter at [`PHASES`] fractions and at 1, `[PHASES + 1, taps]`: a sinc of the given cut-off (1 is Nyquist) under
/// a Blackman window.
fn interpolation_filter(cutoff: f64, half: usize, taps: usize) -> Vec<f32> {
    let value = |distance: f64| {
        let x = distance / half as f64;
        if x.abs() >= 1.0 {
            return 0.0;
        }
        let window = 0.42 + 0.5 * (PI * x).cos() + 0.08 * (2.0 * PI * x).cos();
        let angle = PI * cutoff * distance;
        let sinc = if angle.abs() < 1e-9 { 1.0 } else { angle.sin() / angle };
        (cutoff * sinc * window) as f32
    };
    (0..=PHASES)
        .flat_map(|phase| {
            let fraction = phase as f64 / PHASES as f64;
            (0..taps).map(move |tap| (tap as f64 - (half as f64 - 1.0)) - fraction)
        })
        .map(value)
        .collect()
}
