//! Mixing music with noise at a signal-to-noise ratio.

/// Adds `noises` to `music`, scaled together so that over the window `10 log10(P_music / P_noise) = snr_db`, where
/// `P_noise` is the power of their sum.
///
/// If the music or the sum of the noises is silent there is no such scale, and the music stays as it is. Powers are
/// summed in `f64`.
///
/// # Panics
///
/// If a noise is not as long as the music.
pub fn mix_snr(music: &mut [f32], noises: &[&[f32]], snr_db: f32) {
    for noise in noises {
        assert_eq!(noise.len(), music.len(), "a noise must have as many samples as the music; loop it or crop it");
    }
    let noise_at = |index: usize| noises.iter().map(|noise| noise[index]).sum::<f32>();
    let music_power: f64 = music.iter().map(|&x| f64::from(x).powi(2)).sum();
    let noise_power: f64 = (0..music.len()).map(|index| f64::from(noise_at(index)).powi(2)).sum();
    if music_power <= 0.0 || noise_power <= 0.0 {
        return;
    }
    let factor = (music_power / noise_power / 10_f64.powf(f64::from(snr_db) / 10.0)).sqrt() as f32;
    for (index, sample) in music.iter_mut().enumerate() {
        *sample += factor * noise_at(index);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn power(samples: &[f32]) -> f64 {
        samples.iter().map(|&x| f64::from(x).powi(2)).sum()
    }

    /// Music and one, two or four noises of one length, each loud or quiet.
    fn music_and_noises() -> impl Strategy<Value = (Vec<f32>, Vec<Vec<f32>>)> {
        (1..200_usize, prop::sample::select(vec![1_usize, 2, 4])).prop_flat_map(|(len, num_noises)| {
            let samples = move || {
                (prop::collection::vec(-1.0_f32..1.0, len), -6..=0_i32)
                    .prop_map(|(x, scale)| x.into_iter().map(|x| x * 10_f32.powi(scale)).collect::<Vec<f32>>())
            };
            (samples(), prop::collection::vec(samples(), num_noises))
        })
    }

    proptest! {
        #[test]
        fn the_ratio_is_the_one_asked_for((music, noises) in music_and_noises(), snr_db in -20.0_f32..20.0) {
            let sum: Vec<f32> = (0..music.len()).map(|i| noises.iter().map(|noise| noise[i]).sum()).collect();
            prop_assume!(power(&music) > 0.0 && power(&sum) > 0.0);
            let mut mixed = music.clone();
            mix_snr(&mut mixed, &noises.iter().map(Vec::as_slice).collect::<Vec<_>>(), snr_db);
            let added: Vec<f32> = mixed.iter().zip(&music).map(|(mixed, music)| mixed - music).collect();
            let measured_db = 10.0 * (power(&music) / power(&added)).log10();
            prop_assert!((measured_db - f64::from(snr_db)).abs() < 0.01, "{measured_db} dB, asked for {snr_db}");
            // What was added is the sum of the noises, in proportion.
            let factor = (power(&added) / power(&sum)).sqrt() as f32;
            for ((added, music), sum) in added.iter().zip(&music).zip(&sum) {
                let tolerance = 1e-6 * (music.abs() + added.abs());
                prop_assert!((added - factor * sum).abs() <= tolerance, "{added} added, {factor} times {sum} expected");
            }
        }

        #[test]
        fn loudness_of_the_noise_does_not_matter((music, noises) in music_and_noises(), snr_db in -20.0_f32..20.0) {
            let mix = |scale: f32| {
                let noises: Vec<Vec<f32>> = noises.iter().map(|x| x.iter().map(|x| x * scale).collect()).collect();
                let mut mixed = music.clone();
                mix_snr(&mut mixed, &noises.iter().map(Vec::as_slice).collect::<Vec<_>>(), snr_db);
                mixed
            };
            // A power of two scales without rounding.
            for (a, b) in mix(1.0).into_iter().zip(mix(1.0 / 1024.0)) {
                prop_assert!((a - b).abs() <= 1e-6 * a.abs().max(1e-6), "{a} and {b}");
            }
        }
    }

    #[test]
    fn silence_changes_nothing() {
        let (tone, silence) = ([0.5, -0.25, 0.125], [0.0; 3]);
        for (music, noise) in [(tone, silence), (silence, tone), (silence, silence)] {
            let mut mixed = music.to_vec();
            mix_snr(&mut mixed, &[&noise], 0.0);
            assert_eq!(mixed, music.to_vec());
        }
        // Noises that cancel are silent together.
        let mut mixed = tone.to_vec();
        mix_snr(&mut mixed, &[&[1.0, 2.0, 3.0], &[-1.0, -2.0, -3.0]], 0.0);
        assert_eq!(mixed, tone.to_vec());
    }

    #[test]
    #[should_panic(expected = "as many samples")]
    fn a_noise_of_another_length_is_refused() {
        mix_snr(&mut [1.0, 2.0], &[&[1.0]], 0.0);
    }
}
