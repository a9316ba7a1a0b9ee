//! SampleCNN's modules as fused operations: here for training on the CPU, in [`wgpu`] for GPUs.
//!
//! Training on the CPU extends Burn's Flex backend, with hand-written gradients:
//!
//! ```text
//! windows --stem_block--> rows --conv_block--> rows --...--> rows [batch, 512]
//!           modules 1, 2        module 3               11
//! ```
//!
//! [`sample_cnn`] computes what [`SampleCnn::forward_plain`](crate::model::SampleCnn::forward_plain) computes, to float
//! rounding, several times as fast:
//!
//! - activations lie channels last with zero rows between samples ([`rows`]), which makes each convolution and both its
//!   gradients one matrix product on overlapping rows, without copying anything into columns first;
//! - a module is one operation ([`block`]): batch norm, ReLU and pooling run over tiles that lie in the cache, and only
//!   the convolution's output is kept for the backward pass;
//! - module 1 is computed again wherever it is needed ([`stem`]);
//! - batch norm can take its statistics over the first windows of a batch, to normalise all of them;
//! - results do not depend on the number of threads, and two runs are equal bit for bit.
//!
//! Where a maximum is attained twice in a pooling window, the first position gets the gradient, as in PyTorch.

mod block;
mod buffers;
mod extension;
mod measure;
mod mix;
mod passes;
#[cfg(test)]
mod reference;
mod rows;
mod stem;
#[cfg(test)]
mod tests;
pub mod wgpu;

use burn::{
    backend::{Dispatch, DispatchDevice},
    module::RunningState,
    prelude::*,
    tensor::DType,
};

pub use buffers::release as release_buffers;
pub use extension::{BlockOptions, ModuleTensors, SampleCnnOps};
pub use measure::measure_modules;
pub use mix::{mix_snr, mix_snr_plain};

use crate::{
    WINDOW_SAMPLES,
    model::{ConvModule, SampleCnn},
};

/// Whether there are training kernels for the device: for Flex, with and without autodiff.
pub fn supports(device: &Device) -> bool {
    matches!(device.clone().without_autodiff().as_dispatch(), DispatchDevice::Flex(_))
}

/// SampleCNN on the kernels. Where batch norm trains, its statistics are those of the first `measured` windows.
///
/// # Shapes
///
/// - `windows`: `[batch, 59049]`
/// - embedding: `[batch, embedding_len]`
///
/// # Panics
///
/// If the device has no kernels ([`supports`]), a window has another length, or tensors are not `f32`; in the backward
/// pass if `windows` requires a gradient.
pub fn sample_cnn(network: &SampleCnn, windows: Tensor<2>, measured: usize) -> Tensor<2> {
    let [batch, samples] = windows.dims();
    assert_eq!(samples, WINDOW_SAMPLES, "SampleCNN takes windows of {WINDOW_SAMPLES} samples");
    assert_eq!(windows.dtype(), DType::F32, "the training kernels compute in f32");
    let [first, second, later @ ..] = &network.modules[..] else { panic!("SampleCNN has eleven modules") };
    let device = windows.device();
    let options = |module: &ConvModule, pool| BlockOptions {
        batch,
        measured,
        pool,
        training: trains(module, &device),
        epsilon: module.batch_norm.epsilon,
    };

    let (rows, mean1, variance1, mean2, variance2) = Dispatch::stem_block(
        windows.into_dispatch(),
        tensors(first, &device),
        tensors(second, &device),
        trains(first, &device),
        options(second, true),
    );
    update(first, &device, Tensor::from_dispatch(mean1), Tensor::from_dispatch(variance1));
    update(second, &device, Tensor::from_dispatch(mean2), Tensor::from_dispatch(variance2));
    let mut rows = Tensor::<2>::from_dispatch(rows);
    for (index, module) in later.iter().enumerate() {
        let pool = index + 1 < later.len();
        let (output, mean, variance) =
            Dispatch::conv_block(rows.into_dispatch(), tensors(module, &device), options(module, pool));
        update(module, &device, Tensor::from_dispatch(mean), Tensor::from_dispatch(variance));
        rows = Tensor::from_dispatch(output);
    }
    // One position per window is left, in every other row from row 1 on; the rows between are zero.
    let [_, channels] = rows.dims();
    rows.slice([1..2 * batch + 1, 0..channels]).reshape([batch, 2 * channels]).slice([0..batch, 0..channels])
}

/// The condition under which Burn's batch norm trains.
fn trains(module: &ConvModule, device: &Device) -> bool {
    device.is_autodiff() && module.batch_norm.training.is_enabled()
}

fn tensors(module: &ConvModule, device: &Device) -> ModuleTensors<Dispatch> {
    let channels = module.conv.weight.dims()[0];
    let bias = module.conv.bias.as_ref().map_or_else(|| Tensor::zeros([channels], device), burn::module::Param::val);
    ModuleTensors {
        weight: module.conv.weight.val().into_dispatch(),
        bias: bias.into_dispatch(),
        gamma: module.batch_norm.gamma.val().into_dispatch(),
        beta: module.batch_norm.beta.val().into_dispatch(),
        running_mean: module.batch_norm.running_mean.value().to_device(device).into_dispatch(),
        running_var: module.batch_norm.running_var.value().to_device(device).into_dispatch(),
    }
}

/// Moves the running statistics towards the batch's, as Burn's batch norm does: with the biased variance.
fn update(module: &ConvModule, device: &Device, mean: Tensor<1>, variance: Tensor<1>) {
    if !trains(module, device) {
        return;
    }
    let momentum = module.batch_norm.momentum;
    let step = |state: &RunningState<Tensor<1>>, batch: Tensor<1>| {
        let old = state.value_sync().to_device(device);
        state.update((old.mul_scalar(1.0 - momentum) + batch.mul_scalar(momentum)).detach());
    };
    step(&module.batch_norm.running_mean, mean);
    step(&module.batch_norm.running_var, variance);
}
