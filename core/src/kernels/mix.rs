//! Mixing a batch where it is used: [`audio::mix_snr`](crate::audio::mix_snr) on tensors.

use burn::prelude::*;

use super::wgpu;

/// Adds noises to music, scaled together so that over each window `10 log10(P_music / P_noise) = snr_db`, where
/// `P_noise` is the power of their sum. If the music or the sum of its noises is silent, the music stays as it is.
///
/// One WGSL kernel where the device has them ([`wgpu::supports`]), [`mix_snr_plain`] elsewhere. Both sum powers in
/// `f32`: samples may reach about 1e16, and below about 1e-19 they count as silence. Nothing is differentiable: this
/// makes inputs, and on an autodiff device it returns a constant.
///
/// # Shapes
///
/// - `clean`: `[batch, samples]`
/// - `noises`: `[batch, n, samples]`, `n` 1, 2 or 4
/// - `snr_db`: `[batch]`, finite
/// - output: `[batch, samples]`
///
/// # Panics
///
/// If a shape breaks a rule above; on the kernel also if tensors are not `f32`, or for more than 65,535 windows.
pub fn mix_snr(clean: Tensor<2>, noises: Tensor<3>, snr_db: Tensor<1>) -> Tensor<2> {
    check(&clean, &noises, &snr_db);
    let device = clean.device();
    if !wgpu::supports(&device) {
        return mix_snr_plain(clean, noises, snr_db);
    }
    let mixed = wgpu::mix_snr(clean.without_autodiff(), noises.without_autodiff(), snr_db.without_autodiff());
    if device.is_autodiff() { mixed.autodiff() } else { mixed }
}

/// The same from Burn's own operations, on any device.
///
/// # Shapes
///
/// As [`mix_snr`].
///
/// # Panics
///
/// If a shape breaks a rule of [`mix_snr`].
pub fn mix_snr_plain(clean: Tensor<2>, noises: Tensor<3>, snr_db: Tensor<1>) -> Tensor<2> {
    check(&clean, &noises, &snr_db);
    let (clean, noise) = (clean.detach(), noises.detach().sum_dim(1).squeeze_dim::<2>(1));
    let amplitude = |x: &Tensor<2>| x.clone().square().sum_dim(1).sqrt();
    let (music_amplitude, noise_amplitude) = (amplitude(&clean), amplitude(&noise));
    let silent = music_amplitude.clone().equal_elem(0.0).bool_or(noise_amplitude.clone().equal_elem(0.0));
    // Roots before the ratio: the ratio of two powers may leave the range of f32, that of two amplitudes cannot.
    let ratio = music_amplitude / noise_amplitude.mask_fill(silent.clone(), 1.0);
    let attenuation = snr_db.detach().mul_scalar(-std::f32::consts::LN_10 / 20.0).exp().unsqueeze_dim::<2>(1);
    let factor = (ratio * attenuation).mask_fill(silent, 0.0);
    clean + noise * factor
}

fn check(clean: &Tensor<2>, noises: &Tensor<3>, snr_db: &Tensor<1>) {
    let [batch, samples] = clean.dims();
    let [noise_batch, num_noises, noise_samples] = noises.dims();
    assert!(batch * samples > 0, "{batch} windows of {samples} samples: nothing to mix");
    assert!(matches!(num_noises, 1 | 2 | 4), "{num_noises} noises per window; mix 1, 2 or 4");
    assert_eq!(
        [noise_batch, noise_samples],
        [batch, samples],
        "noises must have the batch and the samples of the music"
    );
    assert_eq!(snr_db.dims(), [batch], "one ratio per window");
}
