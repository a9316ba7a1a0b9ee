use std::f32::consts::PI;

use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::WINDOW_SAMPLES;

fn sine(hz: f32, len: usize) -> Vec<f32> {
    let step = 2.0 * std::f64::consts::PI * f64::from(hz) / f64::from(SAMPLE_RATE_HZ);
    (0..len).map(|n| (step * n as f64).sin() as f32).collect()
}

fn rms(samples: &[f32]) -> f32 {
    (samples.iter().map(|x| x * x).sum::<f32>() / samples.len() as f32).sqrt()
}

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// Every effect, each time.
fn all() -> Chain {
    Chain { polarity: 1.0, white_noise: 1.0, gain: 1.0, filter: 1.0, delay: 1.0, pitch_shift: 1.0, reverb: 1.0 }
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
    white_noise(&mut rng(1), &mut noise);
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

#[test]
fn the_echo_comes_when_asked_at_half_the_volume() {
    let mut window = vec![0.0; 10_000];
    window[100] = 1.0;
    delay(&mut window, 4_410, 0.5);
    for (index, sample) in window.iter().enumerate() {
        let expected = match index {
            100 => 0.5,
            4_510 => 0.25,
            _ => 0.0,
        };
        assert!((sample - expected).abs() < 1e-9, "sample {index} is {sample}");
    }
    let mut short = [1.0, -1.0];
    delay(&mut short, 5, 0.5);
    assert_eq!(short, [0.5, -0.5], "an echo behind the end is not heard");
}

/// Frequency of the strongest partial near `hz` by the phase that passes between two halves of the middle of `samples`,
/// after `hz` itself is taken out.
fn measured_hz(samples: &[f32], hz: f64) -> f64 {
    let rate = f64::from(SAMPLE_RATE_HZ);
    let middle = &samples[samples.len() / 8..samples.len() * 7 / 8];
    // Phase against the reference in eighths, unwrapped, fitted by a line.
    let part = middle.len() / 64;
    let mut phases: Vec<f64> = Vec::new();
    for (index, part_samples) in middle.chunks_exact(part).enumerate() {
        let (mut re, mut im) = (0.0, 0.0);
        for (n, &sample) in part_samples.iter().enumerate() {
            let angle = 2.0 * std::f64::consts::PI * hz * (index * part + n) as f64 / rate;
            let window = (std::f64::consts::PI * n as f64 / part as f64).sin().powi(2);
            re += window * f64::from(sample) * angle.cos();
            im -= window * f64::from(sample) * angle.sin();
        }
        let mut phase = im.atan2(re);
        if let Some(last) = phases.last() {
            phase += ((last - phase) / (2.0 * std::f64::consts::PI)).round() * 2.0 * std::f64::consts::PI;
        }
        phases.push(phase);
    }
    let count = phases.len() as f64;
    let mean_index = (count - 1.0) / 2.0;
    let mean_phase = phases.iter().sum::<f64>() / count;
    let (mut covariance, mut variance) = (0.0, 0.0);
    for (index, phase) in phases.iter().enumerate() {
        covariance += (index as f64 - mean_index) * (phase - mean_phase);
        variance += (index as f64 - mean_index).powi(2);
    }
    hz + covariance / variance * rate / (2.0 * std::f64::consts::PI * part as f64)
}

#[test]
fn pitch_is_shifted_to_within_two_cents() {
    for hz in [110.0_f32, 441.0, 1_234.5, 3_000.0] {
        for cents in [-700.0_f32, -333.0, -50.0, 0.0, 50.0, 400.0, 700.0] {
            let mut window = sine(hz, WINDOW_SAMPLES);
            pitch_shift(&mut window, cents);
            let asked = f64::from(hz) * (f64::from(cents) / 1_200.0).exp2();
            let error_cents = 1_200.0 * (measured_hz(&window, asked) / asked).log2();
            assert!(error_cents.abs() < 2.0, "{hz} Hz by {cents} cents is {error_cents} cents off");
            // The tone neither breaks nor fades, and nothing else sounds.
            let (loudness, middle) = (rms(&window) * std::f32::consts::SQRT_2, &window[1_000..WINDOW_SAMPLES - 1_000]);
            assert!((loudness - 1.0).abs() < 0.1, "{hz} Hz by {cents} cents: {loudness}");
            assert!(middle.iter().all(|sample| sample.abs() < 1.2));
        }
    }
}

#[test]
fn a_raised_pitch_does_not_fold_back() {
    // 9 kHz raised by 700 cents would be 13.5 kHz, beyond Nyquist: it must vanish instead of sounding at 8.6 kHz.
    let mut window = sine(9_000.0, WINDOW_SAMPLES);
    pitch_shift(&mut window, 700.0);
    assert!(rms(&window[2_000..WINDOW_SAMPLES - 2_000]) < 0.01);
}

#[test]
fn reverberation_starts_at_the_nearest_wall_and_fades() {
    let impulse = |room| {
        let mut window = vec![0.0; 44_100];
        window[0] = 1.0;
        reverb(&mut window, room);
        window
    };
    let power = |samples: &[f32]| samples.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    let medium = impulse(Room { reverberance: 50.0, damping: 50.0, size: 100.0 });
    // Through the all-passes, whose first way is the identity turned over, the shortest comb is heard first.
    assert!((medium[0] - 1.0).abs() < 1e-6);
    assert!(medium[1..558].iter().all(|sample| *sample == 0.0) && medium[558] != 0.0);
    assert!(power(&medium[22_050..]) < 1e-2 * power(&medium[558..22_050]), "it fades");
    let long = impulse(Room { reverberance: 95.0, damping: 50.0, size: 100.0 });
    assert!(power(&long[22_050..]) > 10.0 * power(&medium[22_050..]), "more reverberance sounds on longer");
    let small = impulse(Room { reverberance: 50.0, damping: 50.0, size: 0.0 });
    assert!(small[1..100].iter().any(|sample| *sample != 0.0), "small rooms answer sooner");
}

#[test]
fn the_chain_is_seeded_and_each_effect_occurs_as_often_as_asked() {
    let window = sine(441.0, 4_000);
    let through = |seed| {
        let mut window = window.clone();
        all().apply(&mut window, &mut rng(seed));
        window
    };
    assert_eq!(through(1), through(1));
    assert_ne!(through(1), through(2));

    let none =
        || Chain { polarity: 0.0, white_noise: 0.0, gain: 0.0, filter: 0.0, delay: 0.0, pitch_shift: 0.0, reverb: 0.0 };
    let changed = |chain: &Chain, seed| {
        let mut out = window.clone();
        chain.apply(&mut out, &mut rng(seed));
        out != window
    };
    assert!(!changed(&none(), 1));
    let share = |chain: &Chain| (0..400).filter(|&seed| changed(chain, seed)).count() as f64 / 400.0;
    for (chain, asked) in [
        (Chain { polarity: 0.8, ..none() }, 0.8),
        (Chain { gain: 0.3, ..none() }, 0.3),
        (Chain { filter: 0.8, ..none() }, 0.8),
        (Chain { reverb: 0.6, ..none() }, 0.6),
    ] {
        assert!((share(&chain) - asked).abs() < 0.08, "{chain:?}: {}", share(&chain));
    }
}

#[test]
fn the_chain_keeps_silence() {
    for seed in 0..20 {
        let mut window = vec![0.0; WINDOW_SAMPLES];
        all().apply(&mut window, &mut rng(seed));
        assert!(window.iter().all(|sample| *sample == 0.0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_window_stays_finite(
        samples in prop::collection::vec(-2.0_f32..2.0, 0..6_000),
        seed in any::<u64>(),
    ) {
        let mut window = samples.clone();
        all().apply(&mut window, &mut rng(seed));
        prop_assert_eq!(window.len(), samples.len());
        // Halved by the delay, at most doubled by noise and filter, and by the combs' feedback of at most 0.98.
        prop_assert!(window.iter().all(|sample| sample.is_finite() && sample.abs() < 1e3));
    }
}
