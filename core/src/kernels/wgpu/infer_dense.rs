//! A fully connected layer in inference: `shaders/infer_dense.wgsl`, and the same from Burn's operations.

use burn::{
    backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor, wgpu::CubeBackend},
    prelude::*,
    tensor::activation::relu,
};
use earmark_shaders::INFER_DENSE;

use super::{allocate, contiguous, launch};

/// The parameters of a fully connected layer.
#[derive(Clone, Debug)]
pub struct InferDense {
    /// `[in, out]`, both multiples of 4.
    pub weight: Tensor<2>,
    /// `[out]`.
    pub bias: Tensor<1>,
    /// Whether ReLU follows.
    pub relu: bool,
}

impl InferDense {
    /// The layer in one pass, on devices with WGSL kernels ([`supports`](super::supports)).
    ///
    /// # Shapes
    ///
    /// - `input`: `[rows, in]`, at least one row
    /// - output: `[rows, out]`
    ///
    /// # Panics
    ///
    /// If a shape breaks a rule above, tensors are not `f32`, or the device has no kernels or has autodiff.
    pub fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        self.check(&input);
        let (weight, bias) = (self.weight.clone().into_dispatch(), self.bias.clone().into_dispatch());
        Tensor::from_dispatch(Dispatch::infer_dense(input.into_dispatch(), weight, bias, self.relu))
    }

    /// The same from Burn's own operations, on any device: the reference.
    ///
    /// # Shapes
    ///
    /// As [`forward`](Self::forward).
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward).
    pub fn forward_plain(&self, input: Tensor<2>) -> Tensor<2> {
        self.check(&input);
        let y = input.matmul(self.weight.clone()) + self.bias.clone().unsqueeze();
        if self.relu { relu(y) } else { y }
    }

    fn check(&self, input: &Tensor<2>) {
        let ([rows, width], [in_channels, out_channels]) = (input.dims(), self.weight.dims());
        assert!(
            in_channels.is_multiple_of(4) && out_channels.is_multiple_of(4) && in_channels * out_channels > 0,
            "{in_channels} -> {out_channels} channels: both must be multiples of 4"
        );
        assert_eq!(self.bias.dims(), [out_channels], "one bias per output channel");
        assert_eq!(width, in_channels, "channels of the input");
        assert!(rows > 0, "no rows to compute");
    }
}

/// The operation behind [`InferDense::forward`].
#[backend_extension(Cube, Fusion)]
pub trait InferDenseOps: Backend {
    /// Shapes as in `shaders/infer_dense.wgsl`.
    #[fusion(dtype = input, shape = Shape::from([input[0], weight[1]]))]
    fn infer_dense(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self>;
}

impl InferDenseOps for CubeBackend {
    fn infer_dense(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self> {
        let [input, weight, bias] = [input, weight, bias].map(contiguous);
        let ([rows, in_channels], [_, out_channels]) = (input.meta.shape().dims(), weight.meta.shape().dims());
        let output = allocate(&input, [rows, out_channels]);
        let constants =
            [("IN_CHANNELS", in_channels as u32), ("OUT_CHANNELS", out_channels as u32), ("RELU", u32::from(relu))];
        let workgroups = [rows.div_ceil(16), out_channels.div_ceil(64), 1];
        launch(INFER_DENSE, &constants, &[&input, &weight, &bias, &output], &[rows as u32], workgroups);
        output
    }
}
