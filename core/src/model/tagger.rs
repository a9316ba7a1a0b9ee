//! Feature extractor and label predictor as one module, and its exchange with plain weights.

use burn::{
    module::{Module, Param, RunningState},
    nn::Linear,
    prelude::*,
};

use super::{LabelPredictor, LabelPredictorConfig, SampleCnn, SampleCnnConfig};
use crate::weights::{Architecture, ConvWeights, LinearWeights, Weights};

/// Configuration of [`Tagger`].
#[derive(Config, Debug)]
pub struct TaggerConfig {
    /// Shape of both networks.
    pub architecture: Architecture,
}

/// The feature extractor and the label predictor on its embedding.
#[derive(Module, Debug)]
pub struct Tagger {
    /// From a window to its embedding.
    pub feature_extractor: SampleCnn,
    /// From an embedding to logits.
    pub label_predictor: LabelPredictor,
}

/// What a [`Tagger`] says of a batch.
#[derive(Clone, Debug)]
pub struct TaggerOutput {
    /// `[batch, embedding_len]`.
    pub embedding: Tensor<2>,
    /// Before the sigmoid, `[batch, num_tags]`.
    pub logits: Tensor<2>,
}

impl TaggerConfig {
    /// Initializes a [`Tagger`].
    pub fn init(&self, device: &Device) -> Tagger {
        Tagger::new(&self.architecture, device)
    }
}

impl Tagger {
    /// A tagger with random parameters; [`Device::seed`] fixes them.
    pub fn new(architecture: &Architecture, device: &Device) -> Self {
        let head = LabelPredictorConfig::new(architecture.embedding_len(), architecture.num_tags)
            .with_hidden(architecture.head_hidden)
            .with_projector_hidden(architecture.projector_hidden);
        Self { feature_extractor: SampleCnnConfig::from(architecture).init(device), label_predictor: head.init(device) }
    }

    /// A tagger with the parameters of `weights`.
    ///
    /// # Panics
    ///
    /// If a vector of `weights` has not the length `architecture` says; readers of files check that
    /// ([`model_file`](crate::model_file)).
    pub fn from_weights(architecture: &Architecture, weights: &Weights, device: &Device) -> Self {
        let mut tagger = Self::new(architecture, device);
        assert_eq!(weights.convs.len(), tagger.feature_extractor.modules.len(), "number of convolution modules");
        for (module, from) in tagger.feature_extractor.modules.iter_mut().zip(&weights.convs) {
            let [channels_out, channels_in, kernel] = module.conv.weight.dims();
            module.conv.weight = param(&from.weight, [channels_out, channels_in, kernel], device);
            module.conv.bias = Some(param(&from.bias, [channels_out], device));
            module.batch_norm.gamma = param(&from.gamma, [channels_out], device);
            module.batch_norm.beta = param(&from.beta, [channels_out], device);
            module.batch_norm.running_mean = RunningState::new(tensor(&from.running_mean, [channels_out], device));
            module.batch_norm.running_var = RunningState::new(tensor(&from.running_var, [channels_out], device));
        }
        let head = &mut tagger.label_predictor;
        let hidden = head.projector.iter_mut().chain(&mut head.hidden);
        let layers: Vec<&mut Linear> = hidden.chain([&mut head.output]).collect();
        assert_eq!(weights.head.len(), layers.len(), "number of layers of the head");
        for (layer, from) in layers.into_iter().zip(&weights.head) {
            let [inputs, outputs] = layer.weight.dims();
            layer.weight = param(&transposed(&from.weight, outputs, inputs), [inputs, outputs], device);
            layer.bias = Some(param(&from.bias, [outputs], device));
        }
        tagger
    }

    /// Copies the parameters and batch norm's running statistics out.
    pub fn to_weights(&self) -> Weights {
        let convs = self.feature_extractor.modules.iter().map(|module| {
            let channels_out = module.conv.weight.dims()[0];
            ConvWeights {
                weight: values(module.conv.weight.val()),
                bias: module.conv.bias.as_ref().map_or_else(|| vec![0.0; channels_out], |bias| values(bias.val())),
                gamma: values(module.batch_norm.gamma.val()),
                beta: values(module.batch_norm.beta.val()),
                running_mean: values(module.batch_norm.running_mean.value_sync()),
                running_var: values(module.batch_norm.running_var.value_sync()),
            }
        });
        let LabelPredictor { projector, hidden, output } = &self.label_predictor;
        let head = projector.iter().chain(hidden).chain([output]).map(|layer| {
            let [inputs, outputs] = layer.weight.dims();
            LinearWeights {
                weight: transposed(&values(layer.weight.val()), inputs, outputs),
                bias: layer.bias.as_ref().map_or_else(|| vec![0.0; outputs], |bias| values(bias.val())),
            }
        });
        Weights { convs: convs.collect(), head: head.collect() }
    }

    /// Tags each window.
    ///
    /// # Shapes
    ///
    /// - `windows`: `[batch, 59049]`, samples at 22,050 Hz
    ///
    /// # Panics
    ///
    /// As [`SampleCnn::forward`].
    pub fn forward(&self, windows: Tensor<2>) -> TaggerOutput {
        let embedding = self.feature_extractor.forward(windows);
        let logits = self.label_predictor.forward(embedding.clone());
        TaggerOutput { embedding, logits }
    }
}

pub(super) fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

pub(super) fn param<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    Param::from_tensor(tensor(values, shape, device))
}

/// The values of a float tensor, row-major, as `f32` whatever the device computes in.
pub(super) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Row-major `[rows, columns]` to row-major `[columns, rows]`: PyTorch keeps fully connected weights as `[out, in]`,
/// Burn as `[in, out]`.
pub(super) fn transposed(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    assert_eq!(matrix.len(), rows * columns, "a weight matrix of [{rows}, {columns}]");
    (0..columns).flat_map(|column| (0..rows).map(move |row| matrix[row * columns + column])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WINDOW_SAMPLES;

    /// Weights, biases and batch norm's scale and offset; not its running statistics.
    fn counts(architecture: &Architecture) -> (usize, usize) {
        let weights = Tagger::new(architecture, &Device::flex()).to_weights();
        let convs: usize = weights.convs.iter().map(|conv| conv.weight.len() + conv.bias.len()).sum();
        let norms: usize = weights.convs.iter().map(|conv| conv.gamma.len() + conv.beta.len()).sum();
        let head: usize = weights.head.iter().map(|layer| layer.weight.len() + layer.bias.len()).sum();
        (convs + head, convs + head + norms)
    }

    #[test]
    fn parameter_counts_equal_table_3_1() {
        let reference = Architecture::scaled(1.0, 1, None, 50);
        assert_eq!(counts(&reference), (1_863_986, 1_869_874));
        // Burn counts the running statistics too.
        assert_eq!(Tagger::new(&reference, &Device::flex()).num_params(), 1_875_762);
        let clmr = Architecture::scaled(1.0, 3, None, 50);
        assert_eq!(counts(&clmr).0, 1_863_986 + 524_288);
    }

    #[test]
    fn weights_survive_the_round_trip_and_decide_the_output() {
        for (last_kernel, head_hidden) in [(1, None), (3, Some(24))] {
            let architecture = Architecture::scaled(0.0625, last_kernel, head_hidden, 5);
            let device = Device::flex();
            device.seed(1);
            let tagger = Tagger::new(&architecture, &device);
            let weights = tagger.to_weights();
            for (index, conv) in weights.convs.iter().enumerate() {
                let (channels_in, channels_out, kernel) = architecture.conv_shape(index);
                assert_eq!(conv.weight.len(), channels_out * channels_in * kernel);
            }
            let copy = Tagger::from_weights(&architecture, &weights, &device);
            assert_eq!(copy.to_weights(), weights);

            let windows = Tensor::random([2, WINDOW_SAMPLES], burn::tensor::Distribution::Default, &device);
            let output = tagger.forward(windows.clone());
            assert_eq!(output.embedding.dims(), [2, architecture.embedding_len()]);
            assert_eq!(output.logits.dims(), [2, 5]);
            output.logits.to_data().assert_eq(&copy.forward(windows).logits.to_data(), true);
        }
    }

    #[test]
    fn the_head_keeps_pytorchs_layout() {
        let architecture = Architecture::scaled(0.0625, 1, None, 2);
        let mut weights = Tagger::new(&architecture, &Device::flex()).to_weights();
        let inputs = architecture.embedding_len();
        // Row 1 of [out, in] is one, row 0 zero: logit 1 is the sum of the embedding, logit 0 is zero.
        weights.head[0].weight = (0..2 * inputs).map(|i| if i < inputs { 0.0 } else { 1.0 }).collect();
        weights.head[0].bias = vec![0.0; 2];
        let tagger = Tagger::from_weights(&architecture, &weights, &Device::flex());
        let embedding = Tensor::<2>::ones([1, inputs], &Device::flex());
        let logits = tagger.label_predictor.forward(embedding).into_data();
        logits.assert_eq(&TensorData::from([[0.0f32, inputs as f32]]), true);
    }
}
