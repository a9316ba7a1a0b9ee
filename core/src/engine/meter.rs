//! From an embedding to how noisy its window is.
//!
//! ```text
//! embedding [512] -> hidden, batch norm folded into it, ReLU -> logit -> sigmoid(scale * logit + offset)
//!                    (the domain classifier of stage 2)                  (its calibration)
//! ```

use crate::model_file::{MeterMetadata, Model};
use crate::tags::sigmoid;
use crate::weights::{BATCH_NORM_EPSILON, DomainWeights};

/// A domain classifier, ready to be asked window by window. Asking does not allocate.
#[derive(Clone, Debug, PartialEq)]
pub struct NoiseMeter {
    /// `[hidden, embedding_len]`.
    weight: Vec<f32>,
    /// `[hidden]`.
    bias: Vec<f32>,
    /// `[hidden]`.
    output: Vec<f32>,
    output_bias: f32,
    scale: f32,
    offset: f32,
}

impl NoiseMeter {
    /// The meter of `model`, where it has one.
    pub fn of(model: &Model) -> Option<Self> {
        let meter = model.metadata.noise_meter.as_ref()?;
        let MeterMetadata { scale, offset, .. } = *meter;
        Some(Self::new(model.domain_classifier.as_ref()?).scaled(scale, offset))
    }

    /// The meter of a classifier whose logit is not scaled.
    pub fn new(classifier: &DomainWeights) -> Self {
        let hidden = classifier.hidden_len();
        let inputs = classifier.hidden.weight.len() / hidden.max(1);
        let factor = |unit: usize| classifier.gamma[unit] / (classifier.running_var[unit] + BATCH_NORM_EPSILON).sqrt();
        let weight = classifier.hidden.weight.iter().enumerate();
        let bias = |unit: usize| {
            (classifier.hidden.bias[unit] - classifier.running_mean[unit]) * factor(unit) + classifier.beta[unit]
        };
        Self {
            weight: weight.map(|(index, weight)| weight * factor(index / inputs.max(1))).collect(),
            bias: (0..hidden).map(bias).collect(),
            output: classifier.output.weight.clone(),
            output_bias: classifier.output.bias.first().copied().unwrap_or(0.0),
            scale: 1.0,
            offset: 0.0,
        }
    }

    /// The same with another scale.
    #[must_use]
    pub fn scaled(mut self, scale: f32, offset: f32) -> Self {
        (self.scale, self.offset) = (scale, offset);
        self
    }

    /// The classifier's logit, positive for noise; the scale takes no part.
    pub fn logit(&self, embedding: &[f32]) -> f32 {
        let units = self.bias.iter().zip(&self.output).enumerate();
        let inputs = self.weight.len() / self.bias.len().max(1);
        let mut logit = self.output_bias;
        for (unit, (bias, output)) in units {
            let row = &self.weight[unit * inputs..(unit + 1) * inputs];
            let sum: f32 = row.iter().zip(embedding).map(|(weight, value)| weight * value).sum();
            logit += output * (sum + bias).max(0.0);
        }
        logit
    }

    /// How noisy the window of this embedding is, 0 to 1: a probability on the sounds that the meter was calibrated on.
    pub fn noisiness(&self, embedding: &[f32]) -> f32 {
        sigmoid(self.scale * self.logit(embedding) + self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classifier() -> DomainWeights {
        let mut weights = DomainWeights::untrained(8, 5, 9);
        let values = |low: f32, step: f32| (0..5).map(|index| low + step * index as f32).collect();
        (weights.gamma, weights.beta) = (values(0.5, 0.3), values(-0.2, 0.1));
        (weights.running_mean, weights.running_var) = (values(-0.4, 0.2), values(0.3, 0.5));
        weights
    }

    fn embedding(seed: u32) -> Vec<f32> {
        (0..8_u32).map(|index| ((index * 7 + seed * 13) % 11) as f32 / 11.0).collect()
    }

    #[cfg(feature = "burn")]
    #[test]
    fn it_says_what_the_network_says() {
        use burn::tensor::{Device, Tensor, TensorData};

        use crate::model::DomainClassifier;

        let network = DomainClassifier::from_weights(&classifier(), &Device::flex());
        let meter = NoiseMeter::new(&classifier());
        for seed in 0..5 {
            let input = Tensor::<2>::from_data(TensorData::new(embedding(seed), [1, 8]), &Device::flex());
            let expected: f32 = network.forward(input).into_scalar();
            let found = meter.logit(&embedding(seed));
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }

    #[test]
    fn the_scale_moves_the_probability() {
        let meter = NoiseMeter::new(&classifier());
        let logit = meter.logit(&embedding(1));
        let found = meter.clone().scaled(2.0, 0.5).noisiness(&embedding(1));
        assert!((found - sigmoid(2.0 * logit + 0.5)).abs() < 1e-6);
    }
}
