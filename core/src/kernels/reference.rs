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
    /// Mean and variance, `[out]` each; `None` to use the batch's.
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
        let &BlockShape { batch, len, channels_in, channels_out, kernel, .. } = shape;
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
        let count = (batch * len) as f64;
        let mut out = vec![0.0; batch * shape.len_out() * channels_out];
        for o in 0..channels_out {
            let values: Vec<f64> = (0..batch * len).map(|row| y(row / len, row % len, o)).collect();
            let (mean, variance) = match &self.running {
                Some((mean, variance)) => (mean[o], variance[o]),
                None => {
                    let mean = values.iter().sum::<f64>() / count;
                    (mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count)
                }
            };
            let z =
                |row: usize| ((values[row] - mean) / (variance + 1e-5).sqrt() * self.gamma[o] + self.beta[o]).max(0.0);
            for b in 0..batch {
                for p in 0..shape.len_out() {
                    let first = b * len + p * shape.pool_width();
                    out[(b * shape.len_out() + p) * channels_out + o] =
                        (first..first + shape.pool_width()).map(z).fold(f64::NEG_INFINITY, f64::max);
                }
            }
        }
        out
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
