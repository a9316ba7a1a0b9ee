//! CLMR's augmentation chain (Spijkervet and Burgoyne, 2021), by which two crops of one track become a positive pair.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::{Pass, Room, delay, filter, gain, pitch_shift, reverb, white_noise};
use crate::SAMPLE_RATE_HZ;

// Ranges of the package torchaudio-augmentations 0.2, on whose defaults CLMR relies.
/// White noise's standard deviation over the window's.
const NOISE_RATIO: [f32; 2] = [0.001, 1.0];
const GAIN_DB: [f32; 2] = [-20.0, -1.0];
/// Corners, drawn evenly. The package's filters are windowed sincs; these are Butterworth filters of second order.
const HIGH_PASS_HZ: [f32; 2] = [200.0, 1_200.0];
const LOW_PASS_HZ: [f32; 2] = [2_200.0, 4_000.0];
/// 200 to 450 ms in steps of 50.
const DELAY_STEPS_OF_50_MS: [usize; 2] = [4, 9];
const ECHO_VOLUME: f32 = 0.5;
const PITCH_CENTS: [i32; 2] = [-700, 700];
const ROOM_PERCENT: [f32; 2] = [0.0, 100.0];

/// Probability of each effect, in the order in which they follow. The default is CLMR's configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Chain {
    /// The waveform is turned over.
    pub polarity: f64,
    /// White noise of 0.001 to 1 times the window's standard deviation is added.
    pub white_noise: f64,
    /// -20 to -1 dB.
    pub gain: f64,
    /// A high-pass at 200 to 1,200 Hz or a low-pass at 2,200 to 4,000 Hz.
    pub filter: f64,
    /// One echo of half the volume after 200, 250, ... or 450 ms; the sum is halved.
    pub delay: f64,
    /// -700 to 700 cents.
    pub pitch_shift: f64,
    /// A room with reverberance, damping and size of 0 to 100 percent.
    pub reverb: f64,
}

impl Default for Chain {
    fn default() -> Self {
        Self { polarity: 0.8, white_noise: 0.01, gain: 0.3, filter: 0.8, delay: 0.3, pitch_shift: 0.6, reverb: 0.6 }
    }
}

impl Chain {
    /// The probabilities by name.
    pub fn probabilities(&self) -> [(&'static str, f64); 7] {
        [
            ("polarity", self.polarity),
            ("white_noise", self.white_noise),
            ("gain", self.gain),
            ("filter", self.filter),
            ("delay", self.delay),
            ("pitch_shift", self.pitch_shift),
            ("reverb", self.reverb),
        ]
    }

    /// Sends a window at 22,050 Hz through the chain. The same state of `rng` gives the same result.
    ///
    /// # Panics
    ///
    /// If a probability is not within 0 to 1.
    pub fn apply(&self, window: &mut [f32], rng: &mut impl Rng) {
        if rng.random_bool(self.polarity) {
            gain(window, -1.0);
        }
        if rng.random_bool(self.white_noise) {
            let mut noise = vec![0.0; window.len()];
            white_noise(rng, &mut noise);
            let deviation = uniform(rng, NOISE_RATIO) * standard_deviation(window);
            for (sample, noise) in window.iter_mut().zip(noise) {
                *sample += deviation * noise;
            }
        }
        if rng.random_bool(self.gain) {
            gain(window, 10_f32.powf(uniform(rng, GAIN_DB) / 20.0));
        }
        if rng.random_bool(self.filter) {
            let (pass, corner_hz) = if rng.random() { (Pass::High, HIGH_PASS_HZ) } else { (Pass::Low, LOW_PASS_HZ) };
            filter(window, pass, uniform(rng, corner_hz));
        }
        if rng.random_bool(self.delay) {
            let [first, last] = DELAY_STEPS_OF_50_MS;
            delay(window, rng.random_range(first..=last) * SAMPLE_RATE_HZ as usize / 20, ECHO_VOLUME);
        }
        if rng.random_bool(self.pitch_shift) {
            let [lowest, highest] = PITCH_CENTS;
            pitch_shift(window, rng.random_range(lowest..=highest) as f32);
        }
        if rng.random_bool(self.reverb) {
            let mut percent = || uniform(rng, ROOM_PERCENT);
            reverb(window, Room { reverberance: percent(), damping: percent(), size: percent() });
        }
    }
}

fn uniform(rng: &mut impl Rng, [low, high]: [f32; 2]) -> f32 {
    rng.random_range(low..=high)
}

fn standard_deviation(samples: &[f32]) -> f32 {
    let count = samples.len().max(1) as f64;
    let mean = samples.iter().map(|&sample| f64::from(sample)).sum::<f64>() / count;
    let variance = samples.iter().map(|&sample| (f64::from(sample) - mean).powi(2)).sum::<f64>() / count;
    variance.sqrt() as f32
}
