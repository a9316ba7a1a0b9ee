//! A convolution module in `f64`, straight from its definition, to check the kernels by finite differences.

use super::rows::BlockShape;

/// Parameters of one module.
#[derive(Clone, Debug)]
pub struct Module {
    /// `[out, in, kernel]`.
    pub weight: Vec<f64>,
    /// `[out]`.
    pub bias: Vec<f64>,
    /// `[out]`.
    pub gamma: Vec<f64>,
    /// `[out]`.
    pub beta: Vec<f64>,
    /// Mean and variance, `[out]` each; `None` to use those of the batch's measured samples.
    pub running: Option<(Vec<f64>, Vec<f64>)>,
}

impl Module {
    /// Convolution with the given stride and padding, batch norm, ReLU and pooling.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, len_in, channels_in]`; result: `[batch, len_out, channels_out]`
    /// - `shape.len` is the length after the convolution
    pub fn forward(&self, shape: &BlockShape, x: &[f64], len_in: usize, stride: usize, padding: usize) -> Vec<f64> {
        let channels = shape.channels_out;
        let mut out = vec![0.0; shape.batch * shape.len_out() * channels];
        self.for_each_pool(shape, x, [len_in, stride, padding], |b, p, o, pool| {
            out[(b * shape.len_out() + p) * channels + o] = pool.iter().copied().fold(0.0, f64::max);
        });
        out
    }

    /// Whether a change of `margin` before ReLU may change which value an output is, as rounding to `f32` may: there
    /// the `f64` slope says nothing about an `f32` gradient. For stride 1 and padding `kernel / 2`.
    pub fn is_near_kink(&self, shape: &BlockShape, x: &[f64], margin: f64) -> bool {
        let mut near = false;
        self.for_each_pool(shape, x, [shape.len, 1, shape.kernel / 2], |_, _, _, pool| {
            let mut candidates = [&[0.0], pool].concat();
            candidates.sort_by(|a, b| b.total_cmp(a));
            near |= candidates[0] - candidates[1] < margin;
        });
        near
    }

    /// Calls `each(sample, output position, channel, values)` with the values before ReLU that an output is the largest
    /// of. `geometry` is `[len_in, stride, padding]`.
    fn for_each_pool(
        &self,
        shape: &BlockShape,
        x: &[f64],
        geometry: [usize; 3],
        mut each: impl FnMut(usize, usize, usize, &[f64]),
    ) {
        let &BlockShape { batch, len, channels_in, channels_out, kernel, .. } = shape;
        let [len_in, stride, padding] = geometry;
        let y = |b: usize, p: usize, o: usize| {
            let mut sum = self.bias[o];
            for tap in 0..kernel {
                let Some(position) = (p * stride + tap).checked_sub(padding).filter(|&position| position < len_in)
                else {
                    continue;
                };
                for i in 0..channels_in {
                    sum += self.weight[(o * channels_in + i) * kernel + tap]
                        * x[(b * len_in + position) * channels_in + i];
                }
            }
            sum
        };
        let count = shape.positions() as f64;
        for o in 0..channels_out {
            let mut values: Vec<f64> = (0..batch * len).map(|row| y(row / len, row % len, o)).collect();
            let (mean, variance) = match &self.running {
                Some((mean, variance)) => (mean[o], variance[o]),
                None => {
                    let measured = &values[..shape.positions()];
                    let mean = measured.iter().sum::<f64>() / count;
                    (mean, measured.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count)
                }
            };
            for value in &mut values {
                *value = (*value - mean) / (variance + 1e-5).sqrt() * self.gamma[o] + self.beta[o];
            }
            for b in 0..batch {
                for p in 0..shape.len_out() {
                    let first = b * len + p * shape.pool_width();
                    each(b, p, o, &values[first..first + shape.pool_width()]);
                }
            }
        }
    }
}

/// Slope of `f` along one number of `at`, by central difference.
pub fn slope(at: &mut [f64], index: usize, mut f: impl FnMut(&[f64]) -> f64) -> f64 {
    let (value, step) = (at[index], 1e-6);
    at[index] = value + step;
    let above = f(at);
    at[index] = value - step;
    let below = f(at);
    at[index] = value;
    (above - below) / (2.0 * step)
}
