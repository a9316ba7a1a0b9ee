//! The elementwise passes: batch norm, ReLU and max-pool forward and backward, and module 1 itself.
//!
//! Each runs over one tile that lies in the cache, channels innermost, and is compiled once per instruction set. Sums
//! run over rows in order within each channel, without fused multiply-add, so every instruction set gives the same bits.

use std::ops::Range;

use super::rows::BlockShape;

/// Batch norm of one module with its statistics: `(y - mean) * scale + offset`.
#[derive(Clone, Debug)]
pub struct Norm {
    /// Subtracted first; the convolution's bias, which `y` lacks, is taken off it where it does not cancel.
    pub mean: Vec<f32>,
    /// `1 / sqrt(variance + epsilon)`.
    pub inverse_std: Vec<f32>,
    /// `gamma * inverse_std`.
    pub scale: Vec<f32>,
    /// `beta`.
    pub offset: Vec<f32>,
}

/// What batch norm subtracts from the gradient in training: with `c = y - mean`, `dy = scale * (dz - mean_gradient - c *
/// slope)`. Both are zero with running statistics, and for samples that are not measured.
#[derive(Clone, Debug)]
pub struct NormGradient {
    /// Mean of the gradient over the batch.
    pub mean: Vec<f32>,
    /// `inverse_std^2` times the mean of gradient times `c`.
    pub slope: Vec<f32>,
    /// Zeros: either of the two for samples that are not measured.
    pub none: Vec<f32>,
}

/// Defines a function that is compiled for AVX-512, for AVX2 and for the baseline, and picks at run time.
macro_rules! vectorised {
    ($(#[$attribute:meta])* pub fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$attribute])*
        #[allow(unsafe_code, clippy::too_many_arguments)]
        pub fn $name($($argument: $type),*) {
            #[inline(always)]
            #[allow(clippy::too_many_arguments, clippy::inline_always)]
            fn portable($($argument: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
                #[allow(clippy::too_many_arguments)]
                fn avx512($($argument: $type),*) {
                    portable($($argument),*);
                }
                #[target_feature(enable = "avx2")]
                #[allow(clippy::too_many_arguments)]
                fn avx2($($argument: $type),*) {
                    portable($($argument),*);
                }
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512bw")
                {
                    // SAFETY: the processor has the four features.
                    return unsafe { avx512($($argument),*) };
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has the feature.
                    return unsafe { avx2($($argument),*) };
                }
            }
            portable($($argument),*);
        }
    };
}

vectorised! {
    /// Mean and sum of squared deviations per channel over the measured positions of a tile.
    ///
    /// # Shapes
    ///
    /// - `y`: `[rows, channels_out]`, from conv row `first_row` on; `mean`, `deviation`: `[channels_out]`
    pub fn moments(
        shape: &BlockShape, first_row: usize, y: &[f32], count: usize, mean: &mut [f32], deviation: &mut [f32],
    ) {
        let rows = || {
            let positions = (first_row..).map(|row| shape.is_measured(row));
            y.chunks_exact(shape.channels_out).zip(positions).filter_map(|(row, keep)| keep.then_some(row))
        };
        mean.fill(0.0);
        for row in rows() {
            for (sum, &value) in mean.iter_mut().zip(row) {
                *sum += value;
            }
        }
        let weight = 1.0 / count as f32;
        mean.iter_mut().for_each(|sum| *sum *= weight);
        deviation.fill(0.0);
        for row in rows() {
            for ((sum, &value), &mean) in deviation.iter_mut().zip(row).zip(&*mean) {
                let centred = value - mean;
                *sum += centred * centred;
            }
        }
    }
}

vectorised! {
    /// Batch norm, ReLU and, where the module has it, max-pool.
    ///
    /// # Shapes
    ///
    /// - `y`: `[conv rows of slots, channels_out]`; `out`: `[slots, channels_out]`, zero rows included
    pub fn activate(shape: &BlockShape, norm: &Norm, slots: &Range<usize>, y: &[f32], out: &mut [f32]) {
        let channels = shape.channels_out;
        let (mean, scale, offset) = (&norm.mean[..channels], &norm.scale[..channels], &norm.offset[..channels]);
        let first_row = shape.first_conv_row(slots.start);
        for (slot, out) in slots.clone().zip(out.chunks_exact_mut(channels)) {
            if shape.position(slot).is_none() {
                out.fill(0.0);
                continue;
            }
            let y = &y[(shape.first_conv_row(slot) - first_row) * channels..];
            // A NaN must survive, so that a diverged training shows itself: `z < 0` is false for it.
            let relu = |z: f32| if z < 0.0 { 0.0 } else { z };
            if shape.pool {
                let (y0, y1, y2) = (&y[..channels], &y[channels..2 * channels], &y[2 * channels..3 * channels]);
                for c in 0..channels {
                    let z = |y: f32| (y - mean[c]) * scale[c] + offset[c];
                    let (z0, z1, z2) = (z(y0[c]), z(y1[c]), z(y2[c]));
                    let z01 = if z1 > z0 { z1 } else { z0 };
                    out[c] = relu(if z2 > z01 { z2 } else { z01 });
                }
            } else {
                for c in 0..channels {
                    out[c] = relu((y[c] - mean[c]) * scale[c] + offset[c]);
                }
            }
        }
    }
}

/// Gradient with respect to batch norm's output at the three positions of a pooling window: all of it goes to the
/// largest, to the first of equals, and nowhere if ReLU held that back.
#[inline(always)]
#[allow(clippy::inline_always)]
fn unpooled(z: [f32; 3], gradient: f32) -> [f32; 3] {
    let first = z[0] >= z[1] && z[0] >= z[2];
    let second = !first && z[1] >= z[2];
    let largest = if first {
        z[0]
    } else if second {
        z[1]
    } else {
        z[2]
    };
    let gradient = if largest > 0.0 { gradient } else { 0.0 };
    let (first_gradient, second_gradient) = (if first { gradient } else { 0.0 }, if second { gradient } else { 0.0 });
    [first_gradient, second_gradient, if first || second { 0.0 } else { gradient }]
}

vectorised! {
    /// Adds to `sums` the gradient with respect to batch norm's output, and to `weighted` the same times `y - mean`.
    ///
    /// # Shapes
    ///
    /// - `y`: `[conv rows of slots, channels_out]`; `gradient`: `[slots, channels_out]`
    /// - `sums`, `weighted`: `[channels_out]`
    pub fn gradient_sums(
        shape: &BlockShape, norm: &Norm, slots: &Range<usize>, y: &[f32], gradient: &[f32], sums: &mut [f32],
        weighted: &mut [f32],
    ) {
        let channels = shape.channels_out;
        let (mean, scale, offset) = (&norm.mean[..channels], &norm.scale[..channels], &norm.offset[..channels]);
        let (sums, weighted) = (&mut sums[..channels], &mut weighted[..channels]);
        let first_row = shape.first_conv_row(slots.start);
        for (slot, gradient) in slots.clone().zip(gradient.chunks_exact(channels)) {
            if shape.position(slot).is_none() {
                continue;
            }
            let y = &y[(shape.first_conv_row(slot) - first_row) * channels..];
            if shape.pool {
                let (y0, y1, y2) = (&y[..channels], &y[channels..2 * channels], &y[2 * channels..3 * channels]);
                for c in 0..channels {
                    let centred = [y0[c] - mean[c], y1[c] - mean[c], y2[c] - mean[c]];
                    let d = unpooled(centred.map(|y| y * scale[c] + offset[c]), gradient[c]);
                    sums[c] += d[0] + d[1] + d[2];
                    weighted[c] += d[0] * centred[0] + d[1] * centred[1] + d[2] * centred[2];
                }
            } else {
                for c in 0..channels {
                    let centred = y[c] - mean[c];
                    let d = if centred * scale[c] + offset[c] > 0.0 { gradient[c] } else { 0.0 };
                    sums[c] += d;
                    weighted[c] += d * centred;
                }
            }
        }
    }
}

vectorised! {
    /// Gradient with respect to the convolution's output, zero in zero rows.
    ///
    /// # Shapes
    ///
    /// - `y`, `out`: `[conv rows of slots, channels_out]`; `gradient`: `[slots, channels_out]`
    pub fn conv_gradient(
        shape: &BlockShape, norm: &Norm, correction: &NormGradient, slots: &Range<usize>, y: &[f32], gradient: &[f32],
        out: &mut [f32],
    ) {
        let channels = shape.channels_out;
        let (mean, scale, offset) = (&norm.mean[..channels], &norm.scale[..channels], &norm.offset[..channels]);
        let rows = shape.conv_rows_of(slots);
        for (slot, gradient) in slots.clone().zip(gradient.chunks_exact(channels)) {
            let (mean_gradient, slope) = if shape.is_measured_slot(slot) {
                (&correction.mean[..channels], &correction.slope[..channels])
            } else {
                (&correction.none[..channels], &correction.none[..channels])
            };
            let start = shape.first_conv_row(slot) - rows.start;
            let end = shape.first_conv_row(slot + 1) - rows.start;
            let (y, out) = (&y[start * channels..end * channels], &mut out[start * channels..end * channels]);
            let Some(_) = shape.position(slot) else {
                // Dropped positions still took part in batch norm's statistics; the zero row did not.
                let dropped = (end - start - 1) * channels;
                for (row, out) in y[..dropped].chunks_exact(channels).zip(out.chunks_exact_mut(channels)) {
                    for c in 0..channels {
                        out[c] = scale[c] * (-mean_gradient[c] - (row[c] - mean[c]) * slope[c]);
                    }
                }
                out[dropped..].fill(0.0);
                continue;
            };
            if shape.pool {
                let (y0, y1, y2) = (&y[..channels], &y[channels..2 * channels], &y[2 * channels..3 * channels]);
                let (out0, out) = out.split_at_mut(channels);
                let (out1, out2) = out.split_at_mut(channels);
                let (out0, out1, out2) = (&mut out0[..channels], &mut out1[..channels], &mut out2[..channels]);
                for c in 0..channels {
                    let centred = [y0[c] - mean[c], y1[c] - mean[c], y2[c] - mean[c]];
                    let d = unpooled(centred.map(|y| y * scale[c] + offset[c]), gradient[c]);
                    let dy = |d: f32, centred: f32| scale[c] * (d - mean_gradient[c] - centred * slope[c]);
                    out0[c] = dy(d[0], centred[0]);
                    out1[c] = dy(d[1], centred[1]);
                    out2[c] = dy(d[2], centred[2]);
                }
            } else {
                let out = &mut out[..channels];
                for c in 0..channels {
                    let centred = y[c] - mean[c];
                    let d = if centred * scale[c] + offset[c] > 0.0 { gradient[c] } else { 0.0 };
                    out[c] = scale[c] * (d - mean_gradient[c] - centred * slope[c]);
                }
            }
        }
    }
}

vectorised! {
    /// Module 1 on one row: `relu(offset + taps[0] * u[0] + taps[1] * u[1] + taps[2] * u[2])` per channel.
    ///
    /// # Shapes
    ///
    /// - `taps`: `[3, channels]`; `offset`, `out`: `[channels]`
    pub fn first_module(taps: &[f32], offset: &[f32], samples: &[f32], centre: [f32; 3], out: &mut [f32]) {
        let channels = offset.len();
        let (t0, t1, t2) = (&taps[..channels], &taps[channels..2 * channels], &taps[2 * channels..3 * channels]);
        for (u, out) in samples.chunks_exact(3).zip(out.chunks_exact_mut(channels)) {
            let u = [u[0] - centre[0], u[1] - centre[1], u[2] - centre[2]];
            for c in 0..channels {
                let z = offset[c] + t0[c] * u[0] + t1[c] * u[1] + t2[c] * u[2];
                out[c] = if z < 0.0 { 0.0 } else { z };
            }
        }
    }
}

vectorised! {
    /// Adds up what module 1's gradients are made of: with `d` the gradient where ReLU let through, `sum d` and
    /// `sum d * u[k]`.
    ///
    /// # Shapes
    ///
    /// - `x`, `gradient`: `[rows, channels]`, module 1's output and the gradient with respect to it
    /// - `samples`: `[rows, 3]`; `sums`: `[4, channels]`
    pub fn first_module_sums(
        channels: usize, samples: &[f32], centre: [f32; 3], x: &[f32], gradient: &[f32], sums: &mut [f32],
    ) {
        let (sum, products) = sums.split_at_mut(channels);
        let (p0, products) = products.split_at_mut(channels);
        let (p1, p2) = products.split_at_mut(channels);
        let p2 = &mut p2[..channels];
        let rows = x.chunks_exact(channels).zip(gradient.chunks_exact(channels));
        for (u, (x, gradient)) in samples.chunks_exact(3).zip(rows) {
            let u = [u[0] - centre[0], u[1] - centre[1], u[2] - centre[2]];
            for c in 0..channels {
                let d = if x[c] > 0.0 { gradient[c] } else { 0.0 };
                sum[c] += d;
                p0[c] += d * u[0];
                p1[c] += d * u[1];
                p2[c] += d * u[2];
            }
        }
    }
}
