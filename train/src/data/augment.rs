//! What may happen to a window between the clip and the batch. Each function does one thing to samples it is given;
//! what is drawn at random is drawn by the caller.

use std::f32::consts::PI;

use rand::{Rng, RngExt};

use earmark_core::SAMPLE_RATE_HZ;

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

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn sine(hz: f32, len: usize) -> Vec<f32> {
        (0..len).map(|n| (2.0 * PI * hz * n as f32 / SAMPLE_RATE_HZ as f32).sin()).collect()
    }

    fn rms(samples: &[f32]) -> f32 {
        (samples.iter().map(|x| x * x).sum::<f32>() / samples.len() as f32).sqrt()
    }

    #[test]
    fn speed_one_copies_and_pads_with_zeros() {
        let source = [1.0, 2.0, 3.0];
        let mut out = [9.0; 4];
        read_at_speed(|index| source.get(index).copied(), 1.0, 1.0, &mut out);
        assert_eq!(out, [2.0, 3.0, 0.0, 0.0]);
    }

    #[test]
    fn a_faster_sine_is_a_higher_sine() {
        let source = sine(441.0, 4_000);
        let mut out = vec![0.0; 3_000];
        read_at_speed(|index| source.get(index).copied(), 5.0, 1.02, &mut out);
        let expected: Vec<f32> =
            (0..3_000).map(|n| (2.0 * PI * 441.0 * (5.0 + 1.02 * n as f32) / SAMPLE_RATE_HZ as f32).sin()).collect();
        let worst = out.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 2e-3, "largest difference {worst}");
    }

    #[test]
    fn gain_turns_over_and_mix_interpolates() {
        let mut window = [1.0, -2.0];
        gain(&mut window, -0.5);
        assert_eq!(window, [-0.5, 1.0]);
        mix(&mut window, &[1.5, 3.0], 0.25);
        assert_eq!(window, [0.0, 1.5]);
    }

    #[test]
    fn white_noise_is_standard_normal() {
        let mut noise = vec![0.0; 100_001];
        white_noise(&mut ChaCha8Rng::seed_from_u64(1), &mut noise);
        let mean = noise.iter().sum::<f32>() / noise.len() as f32;
        let beyond_two = noise.iter().filter(|x| x.abs() > 2.0).count() as f32 / noise.len() as f32;
        assert!(mean.abs() < 0.01 && (rms(&noise) - 1.0).abs() < 0.01, "mean {mean}, rms {}", rms(&noise));
        assert!((beyond_two - 0.0455).abs() < 0.003, "{beyond_two} beyond two sigma");
    }

    #[test]
    fn filters_pass_one_side_and_halve_the_corner() {
        let through = |pass, corner_hz, tone_hz| {
            let mut window = sine(tone_hz, 22_050);
            filter(&mut window, pass, corner_hz);
            rms(&window[2_205..]) * std::f32::consts::SQRT_2
        };
        assert!((through(Pass::Low, 1_000.0, 100.0) - 1.0).abs() < 0.01);
        assert!((through(Pass::Low, 1_000.0, 1_000.0) - std::f32::consts::FRAC_1_SQRT_2).abs() < 0.01);
        assert!(through(Pass::Low, 1_000.0, 8_000.0) < 0.02);
        assert!((through(Pass::High, 1_000.0, 8_000.0) - 1.0).abs() < 0.01);
        assert!(through(Pass::High, 1_000.0, 100.0) < 0.02);
    }
}
