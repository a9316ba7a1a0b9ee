//! The small networks on the embedding, and the gradient reversal between two of them.

use burn::{
    module::{Module, RunningState},
    nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig},
    prelude::*,
    tensor::activation::relu,
};

use super::tagger::{param, tensor, transposed, values};
use crate::weights::{DomainWeights, LinearWeights};

/// Configuration of [`LabelPredictor`].
#[derive(Config, Debug)]
pub struct LabelPredictorConfig {
    /// Length of the embedding.
    pub embedding_len: usize,
    /// Outputs, one logit per tag.
    pub num_tags: usize,
    /// Hidden units; `None` for a single fully connected layer (the supervised reference of table 3.1).
    pub hidden: Option<usize>,
    /// Hidden units of stage 1's projector, where it is in front of the head.
    pub projector_hidden: Option<usize>,
}

/// Figure 3.1, right: fully connected layers from the embedding to one logit per tag, ReLU between them.
#[derive(Module, Debug)]
pub struct LabelPredictor {
    /// The projector's first layer, where it is in front of the head; its second is part of the next layer here.
    pub projector: Option<Linear>,
    /// The hidden layer, where there is one.
    pub hidden: Option<Linear>,
    /// The layer that gives the logits.
    pub output: Linear,
}

impl LabelPredictorConfig {
    /// Initializes a [`LabelPredictor`].
    pub fn init(&self, device: &Device) -> LabelPredictor {
        let projected = self.projector_hidden.unwrap_or(self.embedding_len);
        let input = self.hidden.unwrap_or(projected);
        LabelPredictor {
            projector: self.projector_hidden.map(|units| LinearConfig::new(self.embedding_len, units).init(device)),
            hidden: self.hidden.map(|hidden| LinearConfig::new(projected, hidden).init(device)),
            output: LinearConfig::new(input, self.num_tags).init(device),
        }
    }
}

impl LabelPredictor {
    /// Predicts the tags of each embedding.
    ///
    /// # Shapes
    ///
    /// - `embedding`: `[batch, embedding_len]`
    /// - logits: `[batch, num_tags]`
    pub fn forward(&self, embedding: Tensor<2>) -> Tensor<2> {
        let hidden = self.projector.iter().chain(&self.hidden).fold(embedding, |x, layer| relu(layer.forward(x)));
        self.output.forward(hidden)
    }
}

/// Configuration of [`Projector`].
#[derive(Config, Debug)]
pub struct ProjectorConfig {
    /// Length of the embedding; the hidden layer is as wide.
    #[config(default = 512)]
    pub embedding_len: usize,
    /// Length of the projection.
    #[config(default = 64)]
    pub projection_len: usize,
}

/// The projection head of contrastive learning (SimCLR, as in CLMR): two fully connected layers without bias, ReLU
/// between them. Only stage 1 uses it.
#[derive(Module, Debug)]
pub struct Projector {
    /// First layer.
    pub hidden: Linear,
    /// Second layer.
    pub output: Linear,
}

impl ProjectorConfig {
    /// Initializes a [`Projector`].
    pub fn init(&self, device: &Device) -> Projector {
        Projector {
            hidden: LinearConfig::new(self.embedding_len, self.embedding_len).with_bias(false).init(device),
            output: LinearConfig::new(self.embedding_len, self.projection_len).with_bias(false).init(device),
        }
    }
}

impl Projector {
    /// Projects each embedding into the space of the contrastive loss.
    ///
    /// # Shapes
    ///
    /// - `embedding`: `[batch, embedding_len]`
    /// - output: `[batch, projection_len]`
    pub fn forward(&self, embedding: Tensor<2>) -> Tensor<2> {
        self.output.forward(relu(self.hidden.forward(embedding)))
    }
}

/// Configuration of [`DomainClassifier`].
#[derive(Config, Debug)]
pub struct DomainClassifierConfig {
    /// Length of the embedding.
    #[config(default = 512)]
    pub embedding_len: usize,
    /// Hidden units (DANN's 100).
    #[config(default = 100)]
    pub hidden: usize,
}

/// Figure 3.1, left: says whether an embedding comes from the noisy domain. Fully connected, batch norm, ReLU, fully
/// connected.
#[derive(Module, Debug)]
pub struct DomainClassifier {
    /// First layer.
    pub hidden: Linear,
    /// Batch norm of the hidden layer.
    pub batch_norm: BatchNorm,
    /// Second layer, one output.
    pub output: Linear,
}

impl DomainClassifierConfig {
    /// Initializes a [`DomainClassifier`].
    pub fn init(&self, device: &Device) -> DomainClassifier {
        DomainClassifier {
            hidden: LinearConfig::new(self.embedding_len, self.hidden).init(device),
            batch_norm: BatchNormConfig::new(self.hidden).init(device),
            output: LinearConfig::new(self.hidden, 1).init(device),
        }
    }
}

impl DomainClassifier {
    /// Gives one logit per embedding, positive for the noisy (target) domain.
    ///
    /// # Shapes
    ///
    /// - `embedding`: `[batch, embedding_len]`
    /// - logits: `[batch, 1]`
    pub fn forward(&self, embedding: Tensor<2>) -> Tensor<2> {
        self.output.forward(relu(self.batch_norm.forward(self.hidden.forward(embedding))))
    }
}

impl DomainClassifier {
    /// A classifier with the parameters of `weights`.
    ///
    /// # Panics
    ///
    /// If the lengths of the vectors do not agree; readers of files check that ([`model_file`](crate::model_file)).
    pub fn from_weights(weights: &DomainWeights, device: &Device) -> Self {
        let hidden = weights.hidden_len();
        let embedding_len = weights.hidden.weight.len() / hidden.max(1);
        let config = DomainClassifierConfig::new().with_embedding_len(embedding_len).with_hidden(hidden);
        let mut classifier = config.init(device);
        let layers = [
            (&mut classifier.hidden, &weights.hidden, embedding_len, hidden),
            (&mut classifier.output, &weights.output, hidden, 1),
        ];
        for (layer, from, inputs, outputs) in layers {
            layer.weight = param(&transposed(&from.weight, outputs, inputs), [inputs, outputs], device);
            layer.bias = Some(param(&from.bias, [outputs], device));
        }
        classifier.batch_norm.gamma = param(&weights.gamma, [hidden], device);
        classifier.batch_norm.beta = param(&weights.beta, [hidden], device);
        classifier.batch_norm.running_mean = RunningState::new(tensor(&weights.running_mean, [hidden], device));
        classifier.batch_norm.running_var = RunningState::new(tensor(&weights.running_var, [hidden], device));
        classifier
    }

    /// Copies the parameters and batch norm's running statistics out.
    pub fn to_weights(&self) -> DomainWeights {
        let layer = |layer: &Linear| {
            let [inputs, outputs] = layer.weight.dims();
            LinearWeights {
                weight: transposed(&values(layer.weight.val()), inputs, outputs),
                bias: layer.bias.as_ref().map_or_else(|| vec![0.0; outputs], |bias| values(bias.val())),
            }
        };
        DomainWeights {
            hidden: layer(&self.hidden),
            gamma: values(self.batch_norm.gamma.val()),
            beta: values(self.batch_norm.beta.val()),
            running_mean: values(self.batch_norm.running_mean.value_sync()),
            running_var: values(self.batch_norm.running_var.value_sync()),
            output: layer(&self.output),
        }
    }
}

/// Gradient reversal (Ganin et al., DANN): the identity on the way forward, `-lambda` times the gradient on the way back.
///
/// # Shapes
///
/// - `input` and output: the same, any rank
pub fn gradient_reversal<const D: usize>(input: Tensor<D>, lambda: f64) -> Tensor<D> {
    // The value is `detached + 0`; the gradient flows through `-input` alone.
    let detached = input.clone().detach();
    detached.clone() + (detached - input) * lambda
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Device {
        Device::flex().autodiff()
    }

    #[test]
    fn parameter_counts() {
        let device = device();
        assert_eq!(ProjectorConfig::new().init(&device).num_params(), 512 * 512 + 512 * 64);
        // Two layers with biases; batch norm's scale, offset and two running statistics.
        assert_eq!(DomainClassifierConfig::new().init(&device).num_params(), 512 * 100 + 100 + 4 * 100 + 100 + 1);
        let predictor = LabelPredictorConfig::new(512, 50).with_hidden(Some(512)).init(&device);
        assert_eq!(predictor.num_params(), 512 * 512 + 512 + 512 * 50 + 50);
    }

    #[test]
    fn a_domain_classifiers_weights_survive_the_round_trip() {
        let mut weights = DomainWeights::untrained(6, 4, 3);
        weights.running_mean = vec![0.5, -0.25, 0.0, 2.0];
        weights.running_var = vec![0.5, 1.0, 2.0, 4.0];
        let classifier = DomainClassifier::from_weights(&weights, &Device::flex());
        assert_eq!(classifier.to_weights(), weights);
        // A row of [out, in] is one unit: the first unit alone reads the first value.
        let first = (0..24).map(|index| if index == 0 { 1.0 } else { 0.0 }).collect();
        weights.hidden = LinearWeights { weight: first, bias: vec![0.0; 4] };
        let hidden = DomainClassifier::from_weights(&weights, &Device::flex()).hidden;
        let found = hidden.forward(Tensor::<2>::ones([1, 6], &Device::flex())).into_data();
        found.assert_eq(&TensorData::from([[1.0f32, 0.0, 0.0, 0.0]]), true);
    }

    #[test]
    fn gradient_reversal_keeps_values_and_turns_gradients() {
        let x = Tensor::<2>::from_floats([[1.5, -2.25], [0.0, 1e7]], &device()).require_grad();
        let y = gradient_reversal(x.clone(), 0.25);
        y.to_data().assert_eq(&x.to_data(), true);
        let grads = (y * Tensor::from_floats([[1.0, 2.0], [3.0, 4.0]], &device())).sum().backward();
        let expected = TensorData::from([[-0.25f32, -0.5], [-0.75, -1.0]]);
        x.grad(&grads).expect("x is tracked").into_data().assert_eq(&expected, true);
    }

    #[test]
    fn a_frozen_domain_classifier_keeps_its_statistics_and_passes_gradients() {
        let device = device();
        let frozen = DomainClassifierConfig::new().with_embedding_len(4).with_hidden(3).init(&device).freeze();
        let before = frozen.batch_norm.running_mean.value_sync().to_data();
        let x = Tensor::<2>::random([5, 4], burn::tensor::Distribution::Default, &device).require_grad();
        let grads = frozen.forward(x.clone()).sum().backward();
        frozen.batch_norm.running_mean.value_sync().to_data().assert_eq(&before, true);
        assert!(frozen.hidden.weight.grad(&grads).is_none());
        assert!(x.grad(&grads).is_some());
    }
}
