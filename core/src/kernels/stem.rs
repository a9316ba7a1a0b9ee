//! Module 1: three samples to one row of channels, no pooling.
//!
//! Its output is the largest activation of the network and the cheapest to compute, so it is never stored: module 2's
//! tiles compute it from the samples, forward and backward. That works because module 1 is linear in three samples
//! before ReLU. Batch norm's statistics follow from the samples' mean `m` and covariance `C`:
//!
//! ```text
//! y = w u + b      mean y = w m + b      variance y = w C w^T
//! ```
//!
//! and so do its gradients from `S = sum d` and `P = sum d (u - m)`, `d` being the gradient behind ReLU and `s` the
//! inverse standard deviation (`m` and `C` may be those of a part of the windows, as the sums are over all of them):
//!
//! ```text
//! d beta = S      d gamma = s w P      d w = gamma s (P - s C w^T d gamma)      d b = 0
//! ```

use std::ops::Range;

use rayon::prelude::*;

use super::{
    block::Statistics,
    passes::{self, Norm},
};

/// First and second moments of the samples at the three taps.
#[derive(Clone, Copy, Debug)]
pub struct SampleMoments {
    mean: [f64; 3],
    covariance: [[f64; 3]; 3],
}

impl SampleMoments {
    /// Measures `windows`: `[batch, 3 * len]`.
    pub fn measure(windows: &[f32], samples_per_window: usize) -> Self {
        // Sums of products about the first triple, window by window in a fixed order.
        let origin: [f64; 3] = std::array::from_fn(|k| f64::from(windows.get(k).copied().unwrap_or(0.0)));
        let partial: Vec<([f64; 3], [[f64; 3]; 3])> = windows
            .par_chunks_exact(samples_per_window)
            .map(|window| {
                let (mut sum, mut products) = ([0.0; 3], [[0.0; 3]; 3]);
                for triple in window.chunks_exact(3) {
                    let u: [f64; 3] = std::array::from_fn(|k| f64::from(triple[k]) - origin[k]);
                    for j in 0..3 {
                        sum[j] += u[j];
                        for k in j..3 {
                            products[j][k] += u[j] * u[k];
                        }
                    }
                }
                (sum, products)
            })
            .collect();
        let count = (windows.len() / samples_per_window * (samples_per_window / 3)) as f64;
        let (mut mean, mut products) = ([0.0; 3], [[0.0; 3]; 3]);
        for (sum, partial) in &partial {
            for j in 0..3 {
                mean[j] += sum[j] / count;
                for k in j..3 {
                    products[j][k] += partial[j][k] / count;
                }
            }
        }
        let covariance =
            std::array::from_fn(|j| std::array::from_fn(|k| products[j.min(k)][j.max(k)] - mean[j] * mean[k]));
        Self { mean: std::array::from_fn(|k| mean[k] + origin[k]), covariance }
    }

    /// Statistics of module 1's convolution, without its bias.
    pub fn statistics(&self, weight: &[f32]) -> Statistics {
        let rows = weight.chunks_exact(3).map(|w| [f64::from(w[0]), f64::from(w[1]), f64::from(w[2])]);
        Statistics {
            mean: rows.clone().map(|w| (0..3).map(|k| w[k] * self.mean[k]).sum()).collect(),
            variance: rows
                .map(|w| {
                    let quadratic: f64 = (0..3).map(|j| w[j] * self.times_covariance(w, j)).sum();
                    quadratic.max(0.0)
                })
                .collect(),
        }
    }

    fn times_covariance(&self, w: [f64; 3], k: usize) -> f64 {
        (0..3).map(|j| w[j] * self.covariance[j][k]).sum()
    }
}

/// Module 1 on a batch of windows.
pub struct Stem<'a> {
    windows: &'a [f32],
    samples_per_window: usize,
    channels: usize,
    /// Subtracted from the samples: their mean in training, zero with running statistics.
    centre: [f32; 3],
    /// Weights times batch norm's scale, `[3, channels]`.
    taps: Vec<f32>,
    /// What is added per channel.
    offset: Vec<f32>,
}

impl<'a> Stem<'a> {
    /// Module 1 with weights `[channels, 1, 3]`. In training `moments` are those of the batch and `norm.mean` follows
    /// from them.
    pub fn new(
        windows: &'a [f32],
        samples_per_window: usize,
        weight: &[f32],
        norm: &Norm,
        moments: Option<&SampleMoments>,
    ) -> Self {
        let channels = norm.mean.len();
        let taps = (0..3).flat_map(|k| (0..channels).map(move |c| weight[c * 3 + k] * norm.scale[c])).collect();
        let (centre, offset) = match moments {
            Some(moments) => (moments.mean.map(|mean| mean as f32), norm.offset.clone()),
            None => {
                let offset = (0..channels).map(|c| norm.offset[c] - norm.mean[c] * norm.scale[c]).collect();
                ([0.0; 3], offset)
            }
        };
        Self { windows, samples_per_window, channels, centre, taps, offset }
    }

    /// Module 1's output as module 2 reads it: rows of a buffer with zero rows, for windows of `len` positions.
    pub fn rows(&self, len: usize, rows: Range<usize>, out: &mut [f32]) {
        let channels = self.channels;
        let mut out = out;
        for (run, samples) in self.runs(len, rows) {
            let (piece, rest) = out.split_at_mut(run.len() * channels);
            match samples {
                Some(samples) => passes::first_module(&self.taps, &self.offset, samples, self.centre, piece),
                None => piece.fill(0.0),
            }
            out = rest;
        }
    }

    /// Adds the gradient with respect to module 1's output at the given conv rows.
    ///
    /// # Shapes
    ///
    /// - `x`, `gradient`: `[rows, channels]`, module 1's output and the gradient
    pub fn add_gradient(&self, len: usize, rows: Range<usize>, x: &[f32], gradient: &[f32], sums: &mut StemSums) {
        let channels = self.channels;
        let mut tile = vec![0.0; 4 * channels];
        let (mut x, mut gradient) = (x, gradient);
        // Conv row j lies at row j + 1 of the padded buffer.
        for (run, samples) in self.runs(len, rows.start + 1..rows.end + 1) {
            let size = run.len() * channels;
            if let Some(samples) = samples {
                passes::first_module_sums(channels, samples, self.centre, &x[..size], &gradient[..size], &mut tile);
            }
            (x, gradient) = (&x[size..], &gradient[size..]);
        }
        sums.0.iter_mut().zip(&tile).for_each(|(sum, &value)| *sum += f64::from(value));
    }

    /// Cuts padded rows into runs within one window, with their samples, and zero rows, without.
    fn runs(&self, len: usize, rows: Range<usize>) -> impl Iterator<Item = (Range<usize>, Option<&'a [f32]>)> {
        let (windows, samples_per_window) = (self.windows, self.samples_per_window);
        let mut next = rows.start;
        std::iter::from_fn(move || {
            let row = next;
            if row >= rows.end {
                return None;
            }
            let (window, position) = match row.checked_sub(1) {
                Some(conv_row) if conv_row % (len + 1) < len => (conv_row / (len + 1), conv_row % (len + 1)),
                _ => {
                    next = row + 1;
                    return Some((row..row + 1, None));
                }
            };
            next = rows.end.min(row + len - position);
            let start = window * samples_per_window + position * 3;
            Some((row..next, Some(&windows[start..start + (next - row) * 3])))
        })
    }
}

/// `sum d` and `sum d (u - centre)` per channel, `[4, channels]`.
#[derive(Clone, Debug)]
pub struct StemSums(Vec<f64>);

/// Gradients of module 1.
pub struct StemGradients {
    /// `[channels, 1, 3]`.
    pub weight: Vec<f32>,
    /// With respect to the convolution's bias.
    pub bias: Vec<f32>,
    /// With respect to batch norm's scale.
    pub gamma: Vec<f32>,
    /// With respect to batch norm's offset.
    pub beta: Vec<f32>,
}

impl StemSums {
    /// Nothing added yet.
    pub fn new(channels: usize) -> Self {
        Self(vec![0.0; 4 * channels])
    }

    /// The sums of both.
    pub fn merged(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(&other.0).for_each(|(own, other)| *own += other);
        self
    }

    /// Module 1's gradients; `moments` as in [`Stem::new`].
    pub fn gradients(&self, weight: &[f32], norm: &Norm, moments: Option<&SampleMoments>) -> StemGradients {
        let channels = norm.mean.len();
        let sum = |k: usize, c: usize| self.0[k * channels + c];
        let mut gradients = StemGradients {
            weight: Vec::with_capacity(3 * channels),
            bias: Vec::with_capacity(channels),
            gamma: Vec::with_capacity(channels),
            beta: Vec::with_capacity(channels),
        };
        for c in 0..channels {
            let w: [f64; 3] = std::array::from_fn(|k| f64::from(weight[c * 3 + k]));
            let (inverse_std, scale) = (f64::from(norm.inverse_std[c]), f64::from(norm.scale[c]));
            let product: f64 = (0..3).map(|k| w[k] * sum(k + 1, c)).sum();
            // With running statistics `centre` is zero and the mean, less the bias, is still to be taken off.
            let product = if moments.is_some() { product } else { product - f64::from(norm.mean[c]) * sum(0, c) };
            let gamma = inverse_std * product;
            for k in 0..3 {
                let statistics = moments.map_or(0.0, |moments| inverse_std * moments.times_covariance(w, k) * gamma);
                gradients.weight.push((scale * (sum(k + 1, c) - statistics)) as f32);
            }
            gradients.bias.push(if moments.is_some() { 0.0 } else { (scale * sum(0, c)) as f32 });
            gradients.gamma.push(gamma as f32);
            gradients.beta.push(sum(0, c) as f32);
        }
        gradients
    }
}
