//! The modules as operations of Burn's Flex backend, with hand-written gradients.

use std::sync::Arc;

use burn::{
    backend::{
        Autodiff, AutodiffBackend, Backend as BurnBackend, ExtensionType, Flex,
        autodiff::{
            NodeId,
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients as GradientStore,
            ops::{Backward as BackwardOp, NodeGuard, Ops, OpsKind},
        },
        backend_extension,
        flex::FlexTensor,
        tensor::FloatTensor,
    },
    tensor::TensorData,
};

use super::{
    block::{self, Backward, Input, Statistics},
    buffers,
    passes::Norm,
    rows::BlockShape,
    stem::{SampleMoments, Stem},
};

/// The parameters of one convolution module and its running statistics.
#[derive(Clone, Debug, ExtensionType)]
pub struct ModuleTensors<B: BurnBackend> {
    /// `[out, in, kernel]`.
    pub weight: FloatTensor<B>,
    /// `[out]`.
    pub bias: FloatTensor<B>,
    /// Batch norm's scale, `[out]`.
    pub gamma: FloatTensor<B>,
    /// Batch norm's offset, `[out]`.
    pub beta: FloatTensor<B>,
    /// `[out]`; read where batch norm does not train.
    pub running_mean: FloatTensor<B>,
    /// `[out]`; read where batch norm does not train.
    pub running_var: FloatTensor<B>,
}

/// Everything about a module that is not a tensor.
#[derive(Clone, Copy, Debug)]
pub struct BlockOptions {
    /// Samples in the batch.
    pub batch: usize,
    /// The first so many of them are what batch norm measures where it uses the batch's statistics.
    pub measured: usize,
    /// Whether a max-pool 3 follows.
    pub pool: bool,
    /// Whether batch norm uses the batch's statistics.
    pub training: bool,
    /// Batch norm's epsilon.
    pub epsilon: f64,
}

/// The operations that [`sample_cnn`](super::sample_cnn) is made of. Activations are buffers with zero rows
/// ([`rows`](super::rows)), `[rows, channels]`.
#[backend_extension(Flex, Autodiff)]
// One tensor per output, as the dispatch macro wants it.
#[allow(clippy::type_complexity)]
pub trait SampleCnnOps: BurnBackend {
    /// Modules 1 and 2: windows `[batch, samples]` to module 2's output; `first_training` says for module 1 what
    /// `options` say for module 2. Also returns, for running statistics, the
    /// batch's mean and biased variance before batch norm: `(output, mean 1, variance 1, mean 2, variance 2)`.
    fn stem_block(
        windows: FloatTensor<Self>,
        #[extension_type] first: ModuleTensors<Self>,
        #[extension_type] second: ModuleTensors<Self>,
        first_training: bool,
        options: BlockOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// One later module. Returns `(output, mean, variance)`.
    fn conv_block(
        input: FloatTensor<Self>,
        #[extension_type] module: ModuleTensors<Self>,
        options: BlockOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl SampleCnnOps for Flex {
    fn stem_block(
        windows: FlexTensor,
        first: ModuleTensors<Self>,
        second: ModuleTensors<Self>,
        first_training: bool,
        options: BlockOptions,
    ) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
        let (output, [mean1, variance1, mean2, variance2], saved) =
            StemSaved::forward(windows, first, second, first_training, options, false);
        saved.recycle();
        (output, mean1, variance1, mean2, variance2)
    }

    fn conv_block(
        input: FlexTensor,
        module: ModuleTensors<Self>,
        options: BlockOptions,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let (output, [mean, variance], saved) = BlockSaved::forward(input, module, options, false);
        saved.recycle();
        (output, mean, variance)
    }
}

impl<C: CheckpointStrategy> SampleCnnOps for Autodiff<Flex, C> {
    fn stem_block(
        windows: FloatTensor<Self>,
        first: ModuleTensors<Self>,
        second: ModuleTensors<Self>,
        first_training: bool,
        options: BlockOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let [weight1, bias1, gamma1, beta1] = first.nodes();
        let [weight2, bias2, gamma2, beta2] = second.nodes();
        let nodes = [windows.node(), weight1, bias1, gamma1, beta1, weight2, bias2, gamma2, beta2];
        let run = |keep| {
            let windows = windows.into_primitive();
            StemSaved::forward(windows, first.into_inner(), second.into_inner(), first_training, options, keep)
        };
        let (output, statistics) = match StemBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (output, statistics, saved) = run(true);
                (prep.finish(Saved(Arc::new(saved)), output), statistics)
            }
            OpsKind::UnTracked(prep) => {
                let (output, statistics, saved) = run(false);
                saved.recycle();
                (prep.finish(output), statistics)
            }
        };
        let [mean1, variance1, mean2, variance2] = statistics.map(Self::from_inner);
        (output, mean1, variance1, mean2, variance2)
    }

    fn conv_block(
        input: FloatTensor<Self>,
        module: ModuleTensors<Self>,
        options: BlockOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let [weight, bias, gamma, beta] = module.nodes();
        let nodes = [input.node(), weight, bias, gamma, beta];
        let run = |keep| BlockSaved::forward(input.into_primitive(), module.into_inner(), options, keep);
        let (output, statistics) = match BlockBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (output, statistics, saved) = run(true);
                (prep.finish(Saved(Arc::new(saved)), output), statistics)
            }
            OpsKind::UnTracked(prep) => {
                let (output, statistics, saved) = run(false);
                saved.recycle();
                (prep.finish(output), statistics)
            }
        };
        let [mean, variance] = statistics.map(Self::from_inner);
        (output, mean, variance)
    }
}

impl<C: CheckpointStrategy> ModuleTensors<Autodiff<Flex, C>> {
    /// The parameters' places in the graph; running statistics have none.
    fn nodes(&self) -> [NodeGuard; 4] {
        [self.weight.node(), self.bias.node(), self.gamma.node(), self.beta.node()]
    }

    fn into_inner(self) -> ModuleTensors<Flex> {
        ModuleTensors {
            weight: self.weight.into_primitive(),
            bias: self.bias.into_primitive(),
            gamma: self.gamma.into_primitive(),
            beta: self.beta.into_primitive(),
            running_mean: self.running_mean.into_primitive(),
            running_var: self.running_var.into_primitive(),
        }
    }
}

/// What a forward pass leaves for the backward pass.
struct Saved<T>(Arc<T>);

impl<T> Clone for Saved<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> std::fmt::Debug for Saved<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::any::type_name::<T>())
    }
}

/// A module between its forward and its backward pass.
struct BlockSaved {
    shape: BlockShape,
    input: FlexTensor,
    /// The convolution's output; empty if nothing was to be kept.
    y: Vec<f32>,
    norm: Norm,
    weight: FlexTensor,
    training: bool,
}

impl BlockSaved {
    /// Runs the module; with `keep`, what is returned last suffices for the backward pass.
    fn forward(
        input: FlexTensor,
        module: ModuleTensors<Flex>,
        options: BlockOptions,
        keep: bool,
    ) -> (FlexTensor, [FlexTensor; 2], Self) {
        let input = input.to_contiguous();
        let rows = input.layout().shape()[0];
        let shape = block_shape(&module.weight, (rows - 1) / options.batch - 1, options);
        let module = ModuleValues::new(module);
        let (output, statistics, y, norm) = run_block(&shape, Input::Rows(slice(&input)), &module, options, keep);
        let saved = Self { shape, input, y, norm, weight: module.weight, training: options.training };
        (output, statistics, saved)
    }

    fn recycle(self) {
        buffers::give(self.y);
        recycle(self.input);
    }
}

/// Modules 1 and 2 between their forward and their backward pass.
struct StemSaved {
    /// Module 2; its input is the windows.
    second: BlockSaved,
    samples_per_window: usize,
    first_weight: FlexTensor,
    first_norm: Norm,
    /// Where module 1's batch norm trains.
    moments: Option<SampleMoments>,
}

impl StemSaved {
    fn forward(
        windows: FlexTensor,
        first: ModuleTensors<Flex>,
        second: ModuleTensors<Flex>,
        first_training: bool,
        options: BlockOptions,
        keep: bool,
    ) -> (FlexTensor, [FlexTensor; 4], Self) {
        let windows = windows.to_contiguous();
        let samples_per_window = windows.layout().shape()[1];
        let shape = block_shape(&second.weight, samples_per_window / 3, options);
        let (first, second) = (ModuleValues::new(first), ModuleValues::new(second));
        let measured = &slice(&windows)[..options.measured * samples_per_window];
        let moments = first_training.then(|| SampleMoments::measure(measured, samples_per_window));
        let statistics = moments.map(|moments| moments.statistics(slice(&first.weight)));
        let (first_norm, [mean1, variance1]) = first.norm(statistics.as_ref(), options.epsilon);
        let stem = Stem::new(slice(&windows), samples_per_window, slice(&first.weight), &first_norm, moments.as_ref());
        let (output, [mean2, variance2], y, norm) = run_block(&shape, Input::Stem(&stem), &second, options, keep);
        let second = BlockSaved { shape, input: windows, y, norm, weight: second.weight, training: options.training };
        let saved = Self { second, samples_per_window, first_weight: first.weight, first_norm, moments };
        (output, [mean1, variance1, mean2, variance2], saved)
    }

    fn recycle(self) {
        // The windows are the caller's.
        buffers::give(self.second.y);
    }
}

/// A module's parameters, contiguous.
struct ModuleValues {
    weight: FlexTensor,
    bias: FlexTensor,
    gamma: FlexTensor,
    beta: FlexTensor,
    running_mean: FlexTensor,
    running_var: FlexTensor,
}

impl ModuleValues {
    fn new(module: ModuleTensors<Flex>) -> Self {
        Self {
            weight: module.weight.to_contiguous(),
            bias: module.bias.to_contiguous(),
            gamma: module.gamma.to_contiguous(),
            beta: module.beta.to_contiguous(),
            running_mean: module.running_mean.to_contiguous(),
            running_var: module.running_var.to_contiguous(),
        }
    }

    /// Batch norm with the batch's statistics, or with the running ones, and those statistics with the bias included.
    fn norm(&self, batch: Option<&Statistics>, epsilon: f64) -> (Norm, [FlexTensor; 2]) {
        let bias = slice(&self.bias);
        let (mean, variance): (Vec<f64>, Vec<f64>) = match batch {
            Some(statistics) => (statistics.mean.clone(), statistics.variance.clone()),
            None => (
                slice(&self.running_mean).iter().zip(bias).map(|(&mean, &b)| f64::from(mean) - f64::from(b)).collect(),
                slice(&self.running_var).iter().map(|&variance| f64::from(variance)).collect(),
            ),
        };
        let inverse_std: Vec<f64> = variance.iter().map(|variance| 1.0 / (variance + epsilon).sqrt()).collect();
        let norm = Norm {
            mean: mean.iter().map(|&mean| mean as f32).collect(),
            inverse_std: inverse_std.iter().map(|&value| value as f32).collect(),
            scale: inverse_std.iter().zip(slice(&self.gamma)).map(|(s, &g)| (s * f64::from(g)) as f32).collect(),
            offset: slice(&self.beta).to_vec(),
        };
        let with_bias = mean.iter().zip(bias).map(|(mean, &b)| (mean + f64::from(b)) as f32).collect();
        let variance = variance.iter().map(|&variance| variance as f32).collect();
        let channels = bias.len();
        (norm, [tensor(with_bias, [channels]), tensor(variance, [channels])])
    }
}

/// Output, statistics with the bias included, convolution's output (empty unless kept), batch norm.
fn run_block(
    shape: &BlockShape,
    x: Input<'_>,
    module: &ModuleValues,
    options: BlockOptions,
    keep: bool,
) -> (FlexTensor, [FlexTensor; 2], Vec<f32>, Norm) {
    let operand = block::forward_operand(shape, slice(&module.weight));
    let (y, statistics) = if options.training || keep {
        let (y, statistics) = block::convolve_and_measure(shape, x, &operand);
        (y, options.training.then_some(statistics))
    } else {
        (Vec::new(), None)
    };
    let (norm, statistics) = module.norm(statistics.as_ref(), options.epsilon);
    let output = if y.is_empty() { block::infer(shape, x, &operand, &norm) } else { block::activate(shape, &norm, &y) };
    buffers::give(operand);
    let rows = BlockShape::padded_rows(shape.batch, shape.len_out());
    (tensor(output, [rows, shape.channels_out]), statistics, y, norm)
}

fn block_shape(weight: &FlexTensor, len: usize, options: BlockOptions) -> BlockShape {
    let weight = weight.layout().shape();
    BlockShape {
        batch: options.batch,
        measured: options.measured,
        len,
        channels_in: weight[1],
        channels_out: weight[0],
        kernel: weight[2],
        pool: options.pool,
    }
}

#[derive(Debug)]
struct BlockBackward;

impl BackwardOp<Flex, 5> for BlockBackward {
    type State = Saved<BlockSaved>;

    fn backward(self, ops: Ops<Self::State, 5>, grads: &mut GradientStore, _checkpointer: &mut Checkpointer) {
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let saved = ops.state.0;
        let [input, weight, bias, gamma, beta] = ops.parents.map(|parent| parent.map(|node| node.id));
        let result = block::backward(&Backward {
            shape: saved.shape,
            x: Input::Rows(slice(&saved.input)),
            y: &saved.y,
            norm: &saved.norm,
            weight: slice(&saved.weight),
            training: saved.training,
            needs_input: input.is_some(),
            gradient: slice(&gradient),
        });
        recycle(gradient);
        let BlockShape { batch, len, channels_in, channels_out, kernel, .. } = saved.shape;
        if let (Some(node), Some(value)) = (input, result.input) {
            let rows = BlockShape::padded_rows(batch, len);
            grads.register::<Flex>(node, tensor(value, [rows, channels_in]));
        }
        register(grads, weight, result.weight, [channels_out, channels_in, kernel]);
        register(grads, bias, result.bias, [channels_out]);
        register(grads, gamma, result.gamma, [channels_out]);
        register(grads, beta, result.beta, [channels_out]);
        if let Ok(saved) = Arc::try_unwrap(saved) {
            saved.recycle();
        }
    }
}

#[derive(Debug)]
struct StemBackward;

impl BackwardOp<Flex, 9> for StemBackward {
    type State = Saved<StemSaved>;

    fn backward(self, ops: Ops<Self::State, 9>, grads: &mut GradientStore, _checkpointer: &mut Checkpointer) {
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let saved = ops.state.0;
        let [windows, weight1, bias1, gamma1, beta1, weight2, bias2, gamma2, beta2] =
            ops.parents.map(|parent| parent.map(|node| node.id));
        assert!(
            windows.is_none(),
            "the training kernels do not compute gradients with respect to the samples; use SampleCnn::forward_plain"
        );
        let second = &saved.second;
        let first_weight = slice(&saved.first_weight);
        let moments = saved.moments.as_ref();
        let stem = Stem::new(slice(&second.input), saved.samples_per_window, first_weight, &saved.first_norm, moments);
        let result = block::backward(&Backward {
            shape: second.shape,
            x: Input::Stem(&stem),
            y: &second.y,
            norm: &second.norm,
            weight: slice(&second.weight),
            training: second.training,
            needs_input: [&weight1, &bias1, &gamma1, &beta1].into_iter().any(Option::is_some),
            gradient: slice(&gradient),
        });
        recycle(gradient);
        let BlockShape { channels_in, channels_out, kernel, .. } = second.shape;
        if let Some(sums) = result.stem {
            let first = sums.gradients(first_weight, &saved.first_norm, moments);
            register(grads, weight1, first.weight, [channels_in, 1, 3]);
            register(grads, bias1, first.bias, [channels_in]);
            register(grads, gamma1, first.gamma, [channels_in]);
            register(grads, beta1, first.beta, [channels_in]);
        }
        register(grads, weight2, result.weight, [channels_out, channels_in, kernel]);
        register(grads, bias2, result.bias, [channels_out]);
        register(grads, gamma2, result.gamma, [channels_out]);
        register(grads, beta2, result.beta, [channels_out]);
        if let Ok(saved) = Arc::try_unwrap(saved) {
            saved.recycle();
        }
    }
}

fn register<const D: usize>(grads: &mut GradientStore, node: Option<NodeId>, values: Vec<f32>, shape: [usize; D]) {
    if let Some(node) = node {
        grads.register::<Flex>(node, tensor(values, shape));
    }
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// The numbers of a contiguous f32 tensor; [`sample_cnn`](super::sample_cnn) sees to both.
fn slice(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().expect("the kernels are given contiguous f32 tensors")
}

/// Keeps the buffer of a tensor that nobody else holds.
fn recycle(tensor: FlexTensor) {
    if tensor.is_unique()
        && let Ok(values) = tensor.into_data().try_into_vec::<f32>()
    {
        buffers::give(values);
    }
}
