//! One module of SampleCNN in inference, in one pass: `shaders/infer_block.wgsl`, and the same from Burn's operations.
//!
//! Activations lie channels last, `[rows, channels]`. A [`RowLayout`] says which rows form the windows, so the kernel
//! is the same for windows side by side and for windows that share their rows.

use burn::{
    backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor, wgpu::CubeBackend},
    prelude::*,
    tensor::{activation::relu, module::conv1d, ops::ConvOptions},
};
use earmark_shaders::INFER_BLOCK;

use super::{allocate, contiguous, launch};

/// Rows that the three positions of a pool see.
const POOL_ROWS: usize = 5;

/// Which input rows each output row of a block is made from.
///
/// ```text
/// input    [ shared rows, one sequence                | l0 r0 l1 r1 ... ]     edges: the row l0
/// window 0 [--------------]
/// window 1     [--------------]                                               window_hop rows further
/// output   [ pools of the shared rows | pools of window 0 | of window 1 ... ]
/// ```
///
/// The first `shared_rows` rows are one sequence. Window `t` is `window_len` rows from row `t * window_hop` on; with
/// `edges`, its first row is row `edges + 2 t` and its last row `edges + 2 t + 1` instead. Both kinds of sequence have
/// zeros before and after. The output begins with the pools of the shared sequence and goes on with those of each
/// window: all of them, or with `ends_only` the first and the last, which are the next block's edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowLayout {
    /// Length of the shared sequence, a multiple of 3; 0 if there is none.
    pub shared_rows: usize,
    /// Number of windows.
    pub windows: usize,
    /// Rows of a window, a multiple of 3.
    pub window_len: usize,
    /// Rows between the starts of consecutive windows.
    pub window_hop: usize,
    /// Whether only the first and the last pool of each window are computed.
    pub ends_only: bool,
    /// First row of the windows' own first and last rows.
    pub edges: Option<usize>,
}

impl RowLayout {
    /// `windows` sequences of `len` rows, one after the other.
    pub const fn side_by_side(windows: usize, len: usize) -> Self {
        Self { shared_rows: 0, windows, window_len: len, window_hop: len, ends_only: false, edges: None }
    }

    /// Pools computed of each window.
    const fn window_pools(&self) -> usize {
        if self.ends_only { 2 } else { self.window_len / 3 }
    }

    /// Rows that an input must have.
    pub fn input_rows(&self) -> usize {
        let windows = if self.windows == 0 { 0 } else { (self.windows - 1) * self.window_hop + self.window_len };
        let edges = self.edges.map_or(0, |edges| edges + 2 * self.windows);
        self.shared_rows.max(windows).max(edges)
    }

    /// Rows of the output.
    pub const fn output_rows(&self) -> usize {
        self.shared_rows / 3 + self.windows * self.window_pools()
    }

    /// The row that output row `pool` sees at `offset` (0 to 4); `None` where it sees zeros.
    fn input_row(&self, pool: usize, offset: usize) -> Option<usize> {
        let shared_pools = self.shared_rows / 3;
        if pool < shared_pools {
            return (3 * pool + offset).checked_sub(1).filter(|&row| row < self.shared_rows);
        }
        let (window, pool) = ((pool - shared_pools) / self.window_pools(), (pool - shared_pools) % self.window_pools());
        let start = if pool + 1 == self.window_pools() { self.window_len - 3 } else { 3 * pool };
        let position = (start + offset).checked_sub(1).filter(|&position| position < self.window_len)?;
        Some(match self.edges {
            Some(edges) if position == 0 => edges + 2 * window,
            Some(edges) if position == self.window_len - 1 => edges + 2 * window + 1,
            _ => window * self.window_hop + position,
        })
    }

    /// What the shader reads as `params`.
    fn params(&self) -> [u32; 6] {
        let edges = self.edges.map_or(u32::MAX, |edges| edges as u32);
        let [shared_rows, windows, len, hop, pools] =
            [self.shared_rows, self.windows, self.window_len, self.window_hop, self.window_pools()].map(|n| n as u32);
        [shared_rows, windows, len, hop, pools, edges]
    }

    fn check(&self) {
        assert!(
            self.shared_rows.is_multiple_of(3) && self.window_len.is_multiple_of(3),
            "{self:?}: a pool takes three rows"
        );
        assert!(!self.ends_only || self.window_len > 3, "{self:?}: a window of one pool has no two ends");
        assert!(self.output_rows() > 0, "{self:?}: no rows to compute");
        assert!(self.input_rows() < u32::MAX as usize, "{self:?}: rows are counted in 32 bits");
    }
}

/// The parameters of a block: kernel-3 convolution (stride 1, padding 1) with batch norm folded into it. ReLU and
/// max-pool 3 follow.
#[derive(Clone, Debug)]
pub struct InferBlock {
    /// `[3, in, out]`: taps outermost. Both numbers of channels are multiples of 4.
    pub weight: Tensor<3>,
    /// `[out]`.
    pub bias: Tensor<1>,
    /// `[4, in]`, module 1's three taps and its bias: given to the block that follows module 1, which then takes
    /// samples and computes module 1 (kernel 3, stride 3, ReLU) where it is needed.
    pub first: Option<Tensor<2>>,
}

impl InferBlock {
    /// The block in one pass, on devices with WGSL kernels ([`supports`](super::supports)).
    ///
    /// # Shapes
    ///
    /// - `input`: `[at least layout.input_rows(), in]`; with a first module samples, `[.., 3]`, in a multiple of 4 rows
    /// - output: `[layout.output_rows(), out]`
    ///
    /// # Panics
    ///
    /// If a shape breaks a rule above, tensors are not `f32`, or the device has no kernels or has autodiff.
    pub fn forward(&self, input: Tensor<2>, layout: RowLayout) -> Tensor<2> {
        self.check(&input, &layout);
        let first = self.first.clone().map_or_else(|| self.bias.clone().into_dispatch(), Tensor::into_dispatch);
        Tensor::from_dispatch(Dispatch::infer_block(
            input.into_dispatch(),
            self.weight.clone().into_dispatch(),
            self.bias.clone().into_dispatch(),
            first,
            self.first.is_some(),
            layout,
        ))
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
    pub fn forward_plain(&self, input: Tensor<2>, layout: RowLayout) -> Tensor<2> {
        self.check(&input, &layout);
        let device = input.device();
        let rows = match &self.first {
            None => input,
            Some(first) => relu(input.matmul(first.clone().narrow(0, 0, 3)) + first.clone().narrow(0, 3, 1)),
        };
        let [num_rows, in_channels] = rows.dims();
        let pools = layout.output_rows();
        let rows = Tensor::cat(vec![rows, Tensor::zeros([1, in_channels], &device)], 0);
        let seen: Vec<i32> = (0..pools)
            .flat_map(|pool| {
                (0..POOL_ROWS).map(move |offset| layout.input_row(pool, offset).unwrap_or(num_rows) as i32)
            })
            .collect();
        let x = rows.select(0, Tensor::<1, Int>::from_data(TensorData::new(seen, [pools * POOL_ROWS]), &device));
        let x = x.reshape([pools, POOL_ROWS, in_channels]).swap_dims(1, 2);
        let weight = self.weight.clone().permute([2, 1, 0]);
        let y = conv1d(x, weight, Some(self.bias.clone()), ConvOptions::new([1], [0], [1], 1));
        relu(y).max_dim(2).squeeze_dim(2)
    }

    fn check(&self, input: &Tensor<2>, layout: &RowLayout) {
        layout.check();
        let [taps, in_channels, out_channels] = self.weight.dims();
        assert_eq!(taps, 3, "the kernel has three taps");
        assert!(
            in_channels.is_multiple_of(4) && out_channels.is_multiple_of(4) && in_channels * out_channels > 0,
            "{in_channels} -> {out_channels} channels: both must be multiples of 4"
        );
        assert_eq!(self.bias.dims(), [out_channels], "one bias per output channel");
        let [rows, width] = input.dims();
        match &self.first {
            None => assert_eq!(width, in_channels, "channels of the input"),
            Some(first) => {
                assert_eq!(first.dims(), [4, in_channels], "module 1's taps and bias");
                assert_eq!(width, 3, "module 1 takes three samples per row");
                assert!(rows.is_multiple_of(4), "{rows} rows of samples: the number must be a multiple of 4");
            }
        }
        assert!(rows >= layout.input_rows(), "{rows} input rows, {} needed for {layout:?}", layout.input_rows());
    }
}

/// The operation behind [`InferBlock::forward`].
#[backend_extension(Cube, Fusion)]
pub trait InferBlockOps: Backend {
    /// Shapes as in `shaders/infer_block.wgsl`; `first` is not read unless `first_module`.
    #[fusion(dtype = input, shape = output_shape(weight, layout))]
    fn infer_block(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        first: FloatTensor<Self>,
        first_module: bool,
        layout: RowLayout,
    ) -> FloatTensor<Self>;
}

fn output_shape(weight: &Shape, layout: &RowLayout) -> Shape {
    Shape::from([layout.output_rows(), weight[2]])
}

impl InferBlockOps for CubeBackend {
    fn infer_block(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        first: FloatTensor<Self>,
        first_module: bool,
        layout: RowLayout,
    ) -> FloatTensor<Self> {
        let [input, weight, bias, first] = [input, weight, bias, first].map(contiguous);
        let shape = output_shape(weight.meta.shape(), &layout);
        let (in_channels, [rows, out_channels]) = (weight.meta.shape()[1], shape.dims());
        let output = allocate(&input, shape);
        let constants = [
            ("IN_CHANNELS", in_channels as u32),
            ("OUT_CHANNELS", out_channels as u32),
            ("FIRST_MODULE", u32::from(first_module)),
        ];
        let workgroups = [rows.div_ceil(64), out_channels.div_ceil(64), 1];
        let tensors = [&input, &weight, &bias, &first, &output];
        launch(INFER_BLOCK, &constants, &tensors, &layout.params(), workgroups);
        output
    }
}
