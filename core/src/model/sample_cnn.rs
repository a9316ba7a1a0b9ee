//! SampleCNN (Lee et al. 2017; table 3.1): eleven convolution modules from samples to an embedding.

use burn::{
    module::{Module, Param, RunningState},
    nn::{
        BatchNorm, BatchNormConfig, PaddingConfig1d,
        conv::{Conv1d, Conv1dConfig},
    },
    prelude::*,
    tensor::{activation::relu, module::max_pool1d, ops::MaxPoolOptions},
};

use crate::{
    WINDOW_SAMPLES,
    kernels::{
        self,
        wgpu::{ConvChoice, ConvShape},
    },
    weights::{Architecture, NUM_MODULES},
};

/// Configuration of [`SampleCnn`].
#[derive(Config, Debug)]
pub struct SampleCnnConfig {
    /// Output channels of each module; the last is the embedding's length.
    pub widths: [usize; NUM_MODULES],
    /// Kernel of the last module: 3 with padding 1 (CLMR's code) or 1 (table 3.1).
    #[config(default = 3)]
    pub last_kernel: usize,
}

impl From<&Architecture> for SampleCnnConfig {
    fn from(architecture: &Architecture) -> Self {
        Self { widths: architecture.widths, last_kernel: architecture.last_kernel }
    }
}

/// One convolution module: convolution and batch norm. ReLU and pooling follow it in [`SampleCnn`].
#[derive(Module, Debug)]
pub struct ConvModule {
    /// `[out, in, kernel]`, with bias.
    pub conv: Conv1d,
    /// Over the output channels.
    pub batch_norm: BatchNorm,
}

/// The feature extractor, from a window of samples to its embedding.
///
/// ```text
/// module     1        2 .. 10         11
/// conv       3 / 3    3 / 1, pad 1    last_kernel / 1, pad 1 or 0     (kernel / stride)
///            batch norm, ReLU
/// max-pool   -        3 / 3           -
/// length     19683    6561 .. 1       1
/// ```
#[derive(Module, Debug)]
pub struct SampleCnn {
    /// The eleven modules.
    pub modules: Vec<ConvModule>,
}

impl SampleCnnConfig {
    /// Initializes a [`SampleCnn`].
    ///
    /// # Panics
    ///
    /// If a width is zero.
    pub fn init(&self, device: &Device) -> SampleCnn {
        let modules = (0..NUM_MODULES)
            .map(|index| {
                let channels_in = if index == 0 { 1 } else { self.widths[index - 1] };
                let kernel = if index == NUM_MODULES - 1 { self.last_kernel } else { 3 };
                let (stride, padding) = if index == 0 { (3, 0) } else { (1, kernel / 2) };
                ConvModule {
                    conv: Conv1dConfig::new(channels_in, self.widths[index], kernel)
                        .with_stride(stride)
                        .with_padding(PaddingConfig1d::Explicit(padding, padding))
                        .init(device),
                    batch_norm: BatchNormConfig::new(self.widths[index]).init(device),
                }
            })
            .collect();
        SampleCnn { modules }
    }
}

impl SampleCnn {
    /// Embeds each window: with the training kernels where there are any for the device ([`kernels::supports`]), on a
    /// wgpu device with the convolutions that were measured to be fastest ([`ConvChoice::measured`]), and as
    /// [`forward_plain`](Self::forward_plain) elsewhere. All train batch norm's statistics under the same conditions
    /// (on an autodiff device, unless frozen).
    ///
    /// # Shapes
    ///
    /// - `windows`: `[batch, 59049]`, samples at 22,050 Hz
    /// - embedding: `[batch, embedding_len]`
    ///
    /// # Panics
    ///
    /// If a window has another length. On the training kernels, in the backward pass, if `windows` itself requires a
    /// gradient: they do not compute it; `forward_plain` does.
    pub fn forward(&self, windows: Tensor<2>) -> Tensor<2> {
        let [batch, _] = windows.dims();
        self.forward_measuring(windows, batch)
    }

    /// Embeds each window. Where batch norm trains, the statistics of the first `measured` windows normalise all of them,
    /// and the running statistics follow those; gradients go through them, whichever window they come from.
    ///
    /// # Shapes
    ///
    /// As [`forward`](Self::forward).
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward), and if `measured` is zero or greater than the batch.
    pub fn forward_measuring(&self, windows: Tensor<2>, measured: usize) -> Tensor<2> {
        let [batch, _] = windows.dims();
        assert!((1..=batch).contains(&measured), "{measured} of {batch} windows cannot be measured");
        let device = windows.device();
        if kernels::supports(&device) {
            kernels::sample_cnn(self, windows, measured)
        } else if kernels::wgpu::supports(&device) {
            self.run(windows, measured, |conv, x| kernels::wgpu::conv_module(conv, x, ConvChoice::measured))
        } else {
            self.run(windows, measured, Conv1d::forward)
        }
    }

    /// Embeds each window on a wgpu device; `choose` says who computes each convolution and its gradients.
    ///
    /// # Shapes
    ///
    /// As [`forward`](Self::forward).
    ///
    /// # Panics
    ///
    /// If a window has another length; with other choices than [`ConvChoice::BACKEND`] also as
    /// [`conv`](kernels::wgpu::conv) does.
    pub fn forward_choosing(&self, windows: Tensor<2>, choose: impl Fn(&ConvShape) -> ConvChoice) -> Tensor<2> {
        let [batch, _] = windows.dims();
        self.run(windows, batch, |conv, x| kernels::wgpu::conv_module(conv, x, &choose))
    }

    /// Embeds each window with Burn's own operations: the definition of the network.
    ///
    /// # Shapes
    ///
    /// As [`forward`](Self::forward).
    ///
    /// # Panics
    ///
    /// If a window has another length.
    pub fn forward_plain(&self, windows: Tensor<2>) -> Tensor<2> {
        let [batch, _] = windows.dims();
        self.run(windows, batch, Conv1d::forward)
    }

    /// [`forward_plain`](Self::forward_plain) with [`forward_measuring`](Self::forward_measuring)'s batch norm: its
    /// definition.
    #[cfg(test)]
    pub(crate) fn forward_plain_measuring(&self, windows: Tensor<2>, measured: usize) -> Tensor<2> {
        self.run(windows, measured, Conv1d::forward)
    }

    fn run(
        &self,
        windows: Tensor<2>,
        measured: usize,
        convolve: impl Fn(&Conv1d, Tensor<3>) -> Tensor<3>,
    ) -> Tensor<2> {
        let [_batch, samples] = windows.dims();
        assert_eq!(samples, WINDOW_SAMPLES, "SampleCNN takes windows of {WINDOW_SAMPLES} samples");
        let mut x = windows.unsqueeze_dim::<3>(1);
        for (index, module) in self.modules.iter().enumerate() {
            x = relu(normalise(&module.batch_norm, convolve(&module.conv, x), measured));
            if (1..NUM_MODULES - 1).contains(&index) {
                x = max_pool1d(x, MaxPoolOptions::new([3]).with_stride([3]));
            }
        }
        // 3^10 samples through eleven divisions by three, but the last: one position is left.
        x.squeeze_dim(2)
    }
}

/// Batch norm whose statistics, where it trains, are those of the first `measured` samples.
///
/// # Shapes
///
/// - `x` and output: `[batch, channels, len]`
fn normalise(norm: &BatchNorm, x: Tensor<3>, measured: usize) -> Tensor<3> {
    let [batch, channels, _] = x.dims();
    if measured == batch || !x.device().is_autodiff() || !norm.training.is_enabled() {
        return norm.forward(x);
    }
    // [1, channels, 1]
    let average = |x: Tensor<3>| x.mean_dim(2).mean_dim(0);
    let mean = average(x.clone().narrow(0, 0, measured));
    let centred = x - mean.clone();
    let variance = average(centred.clone().narrow(0, 0, measured).powi_scalar(2));
    let follow = |running: &RunningState<Tensor<1>>, batch: Tensor<3>| {
        let batch = batch.detach().reshape([channels]) * norm.momentum;
        running.update((running.value_sync().to_device(&batch.device()) * (1.0 - norm.momentum) + batch).detach());
    };
    follow(&norm.running_mean, mean);
    follow(&norm.running_var, variance.clone());
    let parameter = |parameter: &Param<Tensor<1>>| parameter.val().reshape([1, channels, 1]);
    centred / (variance + norm.epsilon).sqrt() * parameter(&norm.gamma) + parameter(&norm.beta)
}
