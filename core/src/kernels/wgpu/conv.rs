//! A convolution of training and its gradients: `shaders/train_conv.wgsl`, with a choice, pass by pass, between it and the
//! backend's own convolution, which is also its reference.

use burn::{
    backend::{
        Autodiff, Backend, Dispatch,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        backend_extension,
        ops::ModuleOps,
        tensor::FloatTensor,
        wgpu::{CubeBackend, CubeTensor},
    },
    nn::{PaddingConfig1d, conv::Conv1d},
    prelude::*,
    tensor::ops::ConvOptions,
};
use earmark_shaders::{SUM_PARTS, TRAIN_CONV};

use super::{allocate, contiguous, launch};

/// Rows, columns and depth that a workgroup takes at a time.
const TILE_ROWS: usize = 64;
const TILE_COLUMNS: usize = 128;
const TILE_DEPTH: usize = 16;

/// Workgroups that a weight gradient is spread over, to occupy a large GPU several times over.
const WEIGHT_GRADIENT_WORKGROUPS: usize = 512;

/// Least depth that is worth a workgroup of its own.
const MIN_DEPTH_PER_PART: usize = 256;

/// A convolution over positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Samples in the batch.
    pub batch: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Positions of the input.
    pub len_in: usize,
    /// Taps: 3 or 1.
    pub kernel: usize,
    /// Positions between outputs: 1 or 3.
    pub stride: usize,
    /// Zeros before and after the input: 0 or 1.
    pub padding: usize,
}

impl ConvShape {
    /// Positions of the output.
    pub const fn len_out(&self) -> usize {
        (self.len_in + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// `[batch, in_channels, len_in]`.
    pub const fn input(&self) -> [usize; 3] {
        [self.batch, self.in_channels, self.len_in]
    }

    /// `[out_channels, in_channels, kernel]`.
    pub const fn weight(&self) -> [usize; 3] {
        [self.out_channels, self.in_channels, self.kernel]
    }

    /// `[batch, out_channels, len_out]`.
    pub const fn output(&self) -> [usize; 3] {
        [self.batch, self.out_channels, self.len_out()]
    }

    /// Floating-point operations of the forward pass, and of each gradient, the products with padding included.
    pub fn flop(&self) -> f64 {
        2.0 * self.output().iter().product::<usize>() as f64 * (self.in_channels * self.kernel) as f64
    }

    fn options(&self) -> ConvOptions<1> {
        ConvOptions::new([self.stride], [self.padding], [1], 1)
    }

    fn check(&self) {
        assert!(
            matches!((self.kernel, self.stride, self.padding), (1 | 3, 1 | 3, 0 | 1)),
            "{self:?}: the kernel is 1 or 3, the stride 1 or 3, the padding 0 or 1"
        );
        assert!(self.len_in + 2 * self.padding >= self.kernel, "{self:?}: the input is shorter than the kernel");
        let sizes = [self.input(), self.weight(), self.output()].map(|shape| shape.iter().product::<usize>());
        assert!(sizes.iter().all(|&size| size > 0), "{self:?}: a size is zero");
        assert!(
            sizes.iter().all(|&size| size <= 1 << 30) && self.len_in < 1 << 28,
            "{self:?}: more than 2^30 numbers, or 2^28 positions; use a smaller batch"
        );
    }
}

/// Which passes of a convolution run on the WGSL kernel; the others run on the backend's own convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvChoice {
    /// The output.
    pub forward: bool,
    /// The gradient with respect to the input.
    pub input_grad: bool,
    /// The gradient with respect to the weight.
    pub weight_grad: bool,
}

/// Layers, up to their batch, for which a pass of the WGSL kernel was measured to be faster than the backend's own on a
/// GPU, with the choice that is best. `./dev bench gpu-train` measures it. No GPU has been measured yet, so there are
/// none, and the backend's own convolution is used throughout.
const MEASURED_FASTER: &[(ConvShape, ConvChoice)] = &[];

impl ConvChoice {
    /// The backend's own convolution for everything.
    pub const BACKEND: Self = Self { forward: false, input_grad: false, weight_grad: false };

    /// The WGSL kernel for everything.
    pub const KERNEL: Self = Self { forward: true, input_grad: true, weight_grad: true };

    /// What was measured to be fastest for the layer; [`BACKEND`](Self::BACKEND) for a layer that was not measured.
    pub fn measured(shape: &ConvShape) -> Self {
        let same_layer = |measured: &ConvShape| ConvShape { batch: shape.batch, ..*measured } == *shape;
        MEASURED_FASTER.iter().find(|(layer, _)| same_layer(layer)).map_or(Self::BACKEND, |&(_, choice)| choice)
    }
}

/// A convolution on a device with WGSL kernels ([`supports`](super::supports)), differentiable once.
///
/// # Shapes
///
/// - `input`: `[batch, in_channels, len_in]`, `weight`: `[out_channels, in_channels, kernel]`, `bias`: `[out_channels]`,
///   as `shape` says
/// - output: `[batch, out_channels, len_out]`
///
/// # Panics
///
/// If a tensor does not have the shape, the kernel does not take it (see the fields of [`ConvShape`]; at most 2^30
/// numbers per tensor, 65,535 x 128 positions and samples), tensors are not `f32`, or the device has no kernels.
pub fn conv(input: Tensor<3>, weight: Tensor<3>, bias: Tensor<1>, shape: ConvShape, choice: ConvChoice) -> Tensor<3> {
    shape.check();
    assert_eq!(input.dims(), shape.input(), "the input of {shape:?}");
    assert_eq!(weight.dims(), shape.weight(), "the weight of {shape:?}");
    assert_eq!(bias.dims(), [shape.out_channels], "the bias of {shape:?}");
    let output =
        Dispatch::train_conv(input.into_dispatch(), weight.into_dispatch(), bias.into_dispatch(), shape, choice);
    Tensor::from_dispatch(output)
}

/// A module's convolution, by whom `choose` says. Without a bias, with a dilation, groups or padding that differs between
/// the ends, the backend computes it.
pub(crate) fn conv_module(module: &Conv1d, input: Tensor<3>, choose: impl Fn(&ConvShape) -> ConvChoice) -> Tensor<3> {
    let [batch, in_channels, len_in] = input.dims();
    let (Some(bias), 1, 1, PaddingConfig1d::Explicit(padding, right)) =
        (&module.bias, module.dilation, module.groups, &module.padding)
    else {
        return module.forward(input);
    };
    let shape = ConvShape {
        batch,
        in_channels,
        out_channels: module.weight.dims()[0],
        len_in,
        kernel: module.kernel_size,
        stride: module.stride,
        padding: *padding,
    };
    let choice = if padding == right { choose(&shape) } else { ConvChoice::BACKEND };
    if choice == ConvChoice::BACKEND {
        return module.forward(input);
    }
    conv(input, module.weight.val(), bias.val(), shape, choice)
}

/// The gradient of a [`conv`] with respect to its input, given that of its output; on the kernel if `choice` says so.
/// [`conv`] calls it in the backward pass: by itself it is for measuring.
///
/// # Shapes
///
/// - `weight`: `[out_channels, in_channels, kernel]`, `output_grad`: `[batch, out_channels, len_out]`
/// - result: `[batch, in_channels, len_in]`
///
/// # Panics
///
/// As [`conv`].
pub fn conv_input_grad(weight: Tensor<3>, output_grad: Tensor<3>, shape: ConvShape, choice: ConvChoice) -> Tensor<3> {
    shape.check();
    assert_eq!(weight.dims(), shape.weight(), "the weight of {shape:?}");
    assert_eq!(output_grad.dims(), shape.output(), "the gradient of the output of {shape:?}");
    Tensor::from_dispatch(Dispatch::conv_input_grad(weight.into_dispatch(), output_grad.into_dispatch(), shape, choice))
}

/// The gradient of a [`conv`] with respect to its weight, given that of its output; on the kernel if `choice` says so.
/// [`conv`] calls it in the backward pass: by itself it is for measuring.
///
/// # Shapes
///
/// - `input`: `[batch, in_channels, len_in]`, `output_grad`: `[batch, out_channels, len_out]`
/// - result: `[out_channels, in_channels, kernel]`
///
/// # Panics
///
/// As [`conv`].
pub fn conv_weight_grad(input: Tensor<3>, output_grad: Tensor<3>, shape: ConvShape, choice: ConvChoice) -> Tensor<3> {
    shape.check();
    assert_eq!(input.dims(), shape.input(), "the input of {shape:?}");
    assert_eq!(output_grad.dims(), shape.output(), "the gradient of the output of {shape:?}");
    Tensor::from_dispatch(Dispatch::conv_weight_grad(input.into_dispatch(), output_grad.into_dispatch(), shape, choice))
}

/// The operation behind [`conv`].
#[backend_extension(Cube, Fusion, Autodiff)]
pub trait ConvOps: Backend {
    /// Shapes as in `shaders/train_conv.wgsl`.
    #[fusion(dtype = input, shape = Shape::from(shape.output()))]
    fn train_conv(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        shape: ConvShape,
        choice: ConvChoice,
    ) -> FloatTensor<Self>;
}

/// The operations behind the gradients of [`conv`], which are not differentiable again.
#[backend_extension(Cube, Fusion)]
pub trait ConvGradOps: Backend {
    /// Shapes as in `shaders/train_conv.wgsl`.
    #[fusion(dtype = weight, shape = Shape::from(shape.input()))]
    fn conv_input_grad(
        weight: FloatTensor<Self>,
        output_grad: FloatTensor<Self>,
        shape: ConvShape,
        choice: ConvChoice,
    ) -> FloatTensor<Self>;

    /// Shapes as in `shaders/train_conv.wgsl`.
    #[fusion(dtype = input, shape = Shape::from(shape.weight()))]
    fn conv_weight_grad(
        input: FloatTensor<Self>,
        output_grad: FloatTensor<Self>,
        shape: ConvShape,
        choice: ConvChoice,
    ) -> FloatTensor<Self>;
}

impl ConvOps for CubeBackend {
    fn train_conv(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        shape: ConvShape,
        choice: ConvChoice,
    ) -> FloatTensor<Self> {
        if !choice.forward {
            return Self::conv1d(input, weight, Some(bias), shape.options());
        }
        let [input, weight, bias] = [input, weight, bias].map(contiguous);
        let output = allocate(&input, shape.output());
        launch_pass(Pass::Forward, &shape, [&weight, &input, &bias, &output], 1);
        output
    }
}

impl ConvGradOps for CubeBackend {
    fn conv_input_grad(
        weight: FloatTensor<Self>,
        output_grad: FloatTensor<Self>,
        shape: ConvShape,
        choice: ConvChoice,
    ) -> FloatTensor<Self> {
        let input_grad = allocate(&weight, shape.input());
        if !choice.input_grad {
            // Of the input, the backend reads the shape.
            return Self::conv1d_x_backward(input_grad, weight, output_grad, shape.options());
        }
        let [weight, output_grad] = [weight, output_grad].map(contiguous);
        // There is no bias; the weight fills its place.
        launch_pass(Pass::InputGradient, &shape, [&weight, &output_grad, &weight, &input_grad], 1);
        input_grad
    }

    fn conv_weight_grad(
        input: FloatTensor<Self>,
        output_grad: FloatTensor<Self>,
        shape: ConvShape,
        choice: ConvChoice,
    ) -> FloatTensor<Self> {
        if !choice.weight_grad {
            // Of the weight, the backend reads the shape.
            let weight = allocate(&input, shape.weight());
            return Self::conv1d_weight_backward(input, weight, output_grad, shape.options());
        }
        let [input, output_grad] = [input, output_grad].map(contiguous);
        let [out_channels, in_channels, kernel] = shape.weight();
        let weight_grad = allocate(&input, shape.weight());
        let parts = weight_gradient_parts(&shape);
        if parts == 1 {
            launch_pass(Pass::WeightGradient, &shape, [&output_grad, &input, &output_grad, &weight_grad], 1);
            return weight_grad;
        }
        let partial = allocate(&input, [parts, out_channels, in_channels, kernel]);
        launch_pass(Pass::WeightGradient, &shape, [&output_grad, &input, &output_grad, &partial], parts);
        let len = out_channels * in_channels * kernel;
        launch(SUM_PARTS, &[], &[&partial, &weight_grad], &[parts as u32, len as u32], [len.div_ceil(256), 1, 1]);
        weight_grad
    }
}

/// What `shaders/train_conv.wgsl` computes, with the numbers it knows the passes by.
#[derive(Clone, Copy)]
enum Pass {
    Forward = 0,
    InputGradient = 1,
    WeightGradient = 2,
}

impl Pass {
    /// Rows, depth and columns of the product.
    fn extent(self, shape: &ConvShape) -> [usize; 3] {
        let &ConvShape { batch, in_channels, out_channels, len_in, kernel, .. } = shape;
        match self {
            Self::Forward => [out_channels, in_channels * kernel, batch * shape.len_out()],
            Self::InputGradient => [in_channels, out_channels * kernel, batch * len_in],
            Self::WeightGradient => [out_channels, batch * shape.len_out(), in_channels * kernel],
        }
    }
}

/// Into how many parts the depth of a weight gradient is cut. The same for every device, so that rounding is, too.
fn weight_gradient_parts(shape: &ConvShape) -> usize {
    let [rows, depth, columns] = Pass::WeightGradient.extent(shape);
    let tiles = rows.div_ceil(TILE_ROWS) * columns.div_ceil(TILE_COLUMNS);
    (WEIGHT_GRADIENT_WORKGROUPS / tiles).min(depth / MIN_DEPTH_PER_PART).max(1)
}

fn launch_pass(pass: Pass, shape: &ConvShape, tensors: [&CubeTensor; 4], parts: usize) {
    let constants = [
        ("PASS", pass as u32),
        ("KERNEL", shape.kernel as u32),
        ("STRIDE", shape.stride as u32),
        ("PAD", shape.padding as u32),
    ];
    let [rows, depth, columns] = pass.extent(shape);
    let depth_per_part = depth.div_ceil(parts).next_multiple_of(TILE_DEPTH);
    let params = [shape.batch, shape.in_channels, shape.out_channels, shape.len_in, shape.len_out(), depth_per_part];
    let workgroups = [columns.div_ceil(TILE_COLUMNS), rows.div_ceil(TILE_ROWS), parts];
    launch(TRAIN_CONV, &constants, &tensors, &params.map(|size| size as u32), workgroups);
}

impl<B: ConvOps + ConvGradOps, C: CheckpointStrategy> ConvOps for Autodiff<B, C> {
    fn train_conv(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        shape: ConvShape,
        choice: ConvChoice,
    ) -> FloatTensor<Self> {
        let nodes = [input.node(), weight.node(), bias.node()];
        let [input, weight, bias] = [input, weight, bias].map(FloatTensor::<Self>::into_primitive);
        let output = B::train_conv(input.clone(), weight.clone(), bias.clone(), shape, choice);
        match ConvBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((input, weight, bias, shape, choice), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

#[derive(Debug)]
struct ConvBackward;

impl<B: ConvGradOps> Backward<B, 3> for ConvBackward {
    type State = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, ConvShape, ConvChoice);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let output_grad = grads.consume::<B>(&ops.node);
        let (input, weight, bias, shape, choice) = ops.state;
        let [input_node, weight_node, bias_node] = ops.parents;
        if let Some(node) = input_node {
            grads.register::<B>(node.id, B::conv_input_grad(weight, output_grad.clone(), shape, choice));
        }
        if let Some(node) = weight_node {
            grads.register::<B>(node.id, B::conv_weight_grad(input.clone(), output_grad.clone(), shape, choice));
        }
        if let Some(node) = bias_node {
            grads.register::<B>(node.id, B::conv1d_bias_backward(input, bias, output_grad));
        }
    }
}
