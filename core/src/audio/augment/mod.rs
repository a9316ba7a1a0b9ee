//! What may happen to a window between the clip and the batch. Each function does one thing to samples it is given;
//! what is drawn at random is drawn by the caller, or, in [`Chain`], from the generator it is given.

mod chain;
mod pitch;
mod reverb;
#[cfg(test)]
#[allow(clippy::float_cmp)]
mod tests;

use std::f32::consts::PI;

use rand::{Rng, RngExt};

use crate::SAMPLE_RATE_HZ;
pub use chain::Chain;
pub use pitch::pitch_shift;
pub use reverb::{Room, reverb};

/// Reads `out.len()` samples from `source` at `start`, `start + speed`, `start + 2 * speed`, ...: four-point cubic
/// (Catmull-Rom) interpolation, zeros outside `source`. A `speed` of 1 from a whole `start` copies.
pub fn read_at_speed(source: impl Fn(usize) -> Option<f32>, start: f64, speed: f64, out: &mut [f32]) {
    let sample = |index: i64| usize::try_from(index).ok().and_then(&source).unwrap_or(0.0);
    for (index, out) in out.iter_mut().enumerate() {
        let position = start + index as f64 * speed;
        let whole = position.floor();
        let t = (position - whole) as f32;
        let at = whole as i64;
        if t == 0.0 {
            *out = sample(at);
            continue;
        }
        let (a, b, c, d) = (sample(at - 1), sample(at), sample(at + 1), sample(at + 2));
        let cubic = 1.5 * (b - c) + 0.5 * (d - a);
        let square = a - 2.5 * b + 2.0 * c - 0.5 * d;
        *out = ((cubic * t + square) * t + 0.5 * (c - a)) * t + b;
    }
}

/// Multiplies every sample; a negative factor also turns the waveform over.
pub fn gain(window: &mut [f32], factor: f32) {
    for sample in window {
        *sample *= factor;
    }
}

/// `window = (1 - share) * window + share * other`: mixup (Zhang et al., 2018), for waveforms and for targets.
pub fn mix(window: &mut [f32], other: &[f32], share: f32) {
    for (sample, other) in window.iter_mut().zip(other) {
        *sample += share * (other - *sample);
    }
}

/// Fills `out` with normally distributed samples (Box and Muller, 1958).
pub fn white_noise(rng: &mut impl Rng, out: &mut [f32]) {
    for pair in out.chunks_mut(2) {
        let radius = (-2.0 * (1.0 - rng.random::<f32>()).ln()).sqrt();
        let (sin, cos) = (2.0 * PI * rng.random::<f32>()).sin_cos();
        pair[0] = radius * cos;
        if let Some(second) = pair.get_mut(1) {
            *second = radius * sin;
        }
    }
}

/// Which side of the corner frequency a filter keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Below the corner.
    Low,
    /// Above the corner.
    High,
}

/// Second-order Butterworth filter (12 dB per octave) with its -3 dB corner at `corner_hz`, which must lie between 0
/// and half the sample rate (bilinear transform, the form of R. Bristow-Johnson's cookbook).
pub fn filter(window: &mut [f32], pass: Pass, corner_hz: f32) {
    let angle = 2.0 * PI * corner_hz / SAMPLE_RATE_HZ as f32;
    let (sin, cos) = angle.sin_cos();
    let alpha = sin * std::f32::consts::FRAC_1_SQRT_2;
    let norm = 1.0 / (1.0 + alpha);
    let (b0, b1) = match pass {
        Pass::Low => ((1.0 - cos) / 2.0 * norm, (1.0 - cos) * norm),
        Pass::High => (f32::midpoint(1.0, cos) * norm, -(1.0 + cos) * norm),
    };
    let (a1, a2) = (-2.0 * cos * norm, (1.0 - alpha) * norm);
    let (mut state_1, mut state_2) = (0.0, 0.0);
    for sample in window {
        let x = *sample;
        let y = b0 * x + state_1;
        state_1 = b1 * x - a1 * y + state_2;
        state_2 = b0 * x - a2 * y;
        *sample = y;
    }
}

/// Adds one echo of `volume` after `samples` and halves the sum.
pub fn delay(window: &mut [f32], samples: usize, volume: f32) {
    for index in (0..window.len()).rev() {
        let echo = index.checked_sub(samples).map_or(0.0, |earlier| window[earlier]);
        window[index] = 0.5 * (window[index] + volume * echo);
    }
}
