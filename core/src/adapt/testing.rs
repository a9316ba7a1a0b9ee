//! Sounds for tests: something like music, like a room and like a test signal, of any length, the same every time.

use std::f32::consts::TAU;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const RATE: f32 = 22_050.0;

/// Notes of four partials, two a second, each louder or softer than the last.
pub fn music(secs: f64, seed: u64) -> Vec<f32> {
    let mut rng = StdRng::seed_from_u64(seed);
    let len = (secs * f64::from(RATE)) as usize;
    let mut samples = Vec::with_capacity(len);
    while samples.len() < len {
        let (pitch, level) =
            (110.0 * 2_f32.powf(rng.random_range(0..30) as f32 / 12.0), rng.random_range(0.05..0.2_f32));
        for index in 0..(RATE / 2.0) as usize {
            let time = index as f32 / RATE;
            let note: f32 = (1..=4_u8).map(|n| (TAU * f32::from(n) * pitch * time).sin() / f32::from(n)).sum();
            samples.push(level * (-2.0 * time).exp() * note);
        }
    }
    samples.truncate(len);
    samples
}

/// Hiss that swells and fades, as a crowd does.
pub fn noise(secs: f64, seed: u64) -> Vec<f32> {
    let mut rng = StdRng::seed_from_u64(seed.wrapping_add(1_000));
    let len = (secs * f64::from(RATE)) as usize;
    let (mut level, mut goal) = (0.05_f32, 0.05_f32);
    (0..len)
        .map(|index| {
            if index % 11_025 == 0 {
                goal = rng.random_range(0.01..0.2);
            }
            level += (goal - level) * 2e-4;
            level * rng.random_range(-1.0..1.0_f32)
        })
        .collect()
}

/// Three tones that stand still.
pub fn tones(secs: f64) -> Vec<f32> {
    let len = (secs * f64::from(RATE)) as usize;
    let tone = |index: usize, hz: f32| 0.1 * (TAU * hz * (index as f32 / RATE)).sin();
    (0..len).map(|index| tone(index, 440.0) + tone(index, 1_000.0) + tone(index, 2_500.0)).collect()
}
