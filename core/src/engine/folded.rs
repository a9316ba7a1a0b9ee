//! SampleCNN made ready for inference: batch norm folded into the convolutions, weights laid out for [`crate::matrix`].

use super::passes::{add_bias, bias_relu, bias_relu_pool3, with_scratch};
use crate::WINDOW_SAMPLES;
use crate::matrix::{Matrix, multiply};
use crate::weights::{Architecture, BATCH_NORM_EPSILON, ConvWeights, LinearWeights, NUM_MODULES, Weights};

/// Convolution modules that end in a max-pool: modules 2 to 10 of table 3.1.
pub(crate) const NUM_BLOCKS: usize = 9;

/// Rows of the first module's output in one window.
pub(crate) const FIRST_ROWS: usize = WINDOW_SAMPLES / 3;

/// Rows per tile: large enough that packing the weights is cheap, small enough that input and output stay in L2.
const TILE_ROWS: usize = 243;

/// A matrix product with bias: a fully connected layer, or a convolution over overlapping rows.
#[derive(Debug)]
pub(crate) struct Layer {
    /// Channels of one input row.
    pub inputs: usize,
    /// Channels of one output row.
    pub outputs: usize,
    /// `[taps * inputs, outputs]`.
    pub weight: Vec<f32>,
    /// `[outputs]`.
    pub bias: Vec<f32>,
}

impl Layer {
    /// Folds `y = gamma * (conv(x) - mean) / sqrt(var + eps) + beta` into one convolution, taps outermost.
    fn fold(conv: &ConvWeights, inputs: usize, outputs: usize, kernel: usize, taps: std::ops::Range<usize>) -> Self {
        let scale: Vec<f32> =
            conv.gamma.iter().zip(&conv.running_var).map(|(g, var)| g / (var + BATCH_NORM_EPSILON).sqrt()).collect();
        let mut weight = Vec::with_capacity(taps.len() * inputs * outputs);
        for tap in taps {
            for input in 0..inputs {
                weight.extend((0..outputs).map(|o| conv.weight[(o * inputs + input) * kernel + tap] * scale[o]));
            }
        }
        let bias = (0..outputs).map(|o| (conv.bias[o] - conv.running_mean[o]) * scale[o] + conv.beta[o]).collect();
        Self { inputs, outputs, weight, bias }
    }

    fn linear(linear: &LinearWeights, inputs: usize, outputs: usize) -> Self {
        let weight =
            (0..inputs).flat_map(|i| (0..outputs).map(move |o| linear.weight[o * inputs + i])).collect::<Vec<f32>>();
        Self { inputs, outputs, weight, bias: linear.bias.clone() }
    }

    /// `y[rows, outputs] = x . weight`, `x` seen as `rows` rows of `k` values that start `stride` apart.
    fn multiply(&self, x: &[f32], stride: usize, rows: usize, k: usize, y: &mut [f32]) {
        let weight = Matrix::rows(&self.weight, self.outputs);
        multiply(y, [rows, self.outputs, k], Matrix::rows(x, stride), weight, false);
    }

    /// Convolution, bias, ReLU and max-pool 3 of `groups` pools. `x` starts one row before the first of the
    /// `3 * groups` rows and ends one row after the last; `dst` is `[groups, outputs]`.
    pub(crate) fn conv_pool(&self, x: &[f32], groups: usize, dst: &mut [f32]) {
        with_scratch(0, 3 * groups * self.outputs, |_, y| {
            self.conv(x, 3 * groups, y);
            bias_relu_pool3(y, &self.bias, dst);
        });
    }

    /// Kernel-3 convolution of `rows` positions without its bias; `x` has one more row at each end.
    pub(crate) fn conv(&self, x: &[f32], rows: usize, y: &mut [f32]) {
        self.multiply(x, self.inputs, rows, 3 * self.inputs, y);
    }

    /// The pass after [`Layer::conv`], for callers that convolve several sequences at once.
    pub(crate) fn pool(&self, y: &[f32], dst: &mut [f32]) {
        bias_relu_pool3(y, &self.bias, dst);
    }

    /// `y = relu(x . w + b)` row by row.
    fn dense_relu(&self, x: &[f32], rows: usize, k: usize, y: &mut [f32]) {
        self.multiply(x, k, rows, k, y);
        bias_relu(&mut y[..rows * self.outputs], &self.bias);
    }
}

/// SampleCNN and its head, folded.
#[derive(Debug)]
pub(crate) struct Folded {
    /// Module 1: three samples in, one row out.
    pub first: Layer,
    /// Modules 2 to 10.
    pub blocks: Vec<Layer>,
    /// Module 11. On a sequence of one position only a kernel-3's middle tap meets anything but padding.
    pub last: Layer,
    /// One or two fully connected layers.
    pub head: Vec<Layer>,
}

/// Grows `buffer` to at least `len` values without touching those already there.
fn reserve(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// Buffers of a forward pass, kept between calls.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    ping: Vec<f32>,
    pong: Vec<f32>,
    hidden: Vec<f32>,
    next_hidden: Vec<f32>,
    /// `[windows, embedding_len]` after [`Folded::rest`].
    pub embedding: Vec<f32>,
    /// `[windows, num_tags]` after [`Folded::rest`].
    pub logits: Vec<f32>,
}

impl Workspace {
    /// A buffer for the input of [`Folded::rest`].
    pub(crate) fn input(&mut self, len: usize) -> &mut [f32] {
        reserve(&mut self.ping, len)
    }
}

impl Folded {
    pub(crate) fn new(architecture: &Architecture, weights: &Weights) -> Self {
        let conv = |index: usize, taps: Option<std::ops::Range<usize>>| {
            let (inputs, outputs, kernel) = architecture.conv_shape(index);
            Layer::fold(&weights.convs[index], inputs, outputs, kernel, taps.unwrap_or(0..kernel))
        };
        let middle = architecture.last_kernel / 2;
        Self {
            first: conv(0, None),
            blocks: (1..=NUM_BLOCKS).map(|index| conv(index, None)).collect(),
            last: conv(NUM_MODULES - 1, Some(middle..middle + 1)),
            head: weights
                .head
                .iter()
                .zip(architecture.head_shapes())
                .map(|(linear, (inputs, outputs))| Layer::linear(linear, inputs, outputs))
                .collect(),
        }
    }

    pub(crate) fn embedding_len(&self) -> usize {
        self.last.outputs
    }

    pub(crate) fn num_tags(&self) -> usize {
        self.head[self.head.len() - 1].outputs
    }

    /// Module 1 over `samples` (three per row) into `rows` `[samples.len() / 3, channels]`.
    pub(crate) fn first_rows(&self, samples: &[f32], rows: &mut [f32]) {
        self.first.dense_relu(samples, samples.len() / 3, 3, rows);
    }

    /// Modules 1 and 2 for `groups` pools, fused: rows of module 1 live only in a tile's scratch.
    ///
    /// `row(p)` rows before `0` and from `limit` on are padding. Pool `group` covers rows `3 * group ..`; sample
    /// `3 * p - offset` of `samples` begins row `p`.
    pub(crate) fn first_block(&self, samples: &[f32], offset: i64, group: i64, limit: i64, dst: &mut [f32]) {
        let (channels, outputs) = (self.first.outputs, self.blocks[0].outputs);
        let groups = dst.len() / outputs;
        let begin = 3 * group - 1;
        let end = begin + 3 * groups as i64 + 2;
        with_scratch((end - begin) as usize * channels, 3 * groups * outputs, |x, y| {
            let (inside_begin, inside_end) = (begin.max(0), end.min(limit));
            let skipped = (inside_begin - begin) as usize * channels;
            let filled = (inside_end - begin) as usize * channels;
            x[..skipped].fill(0.0);
            x[filled..].fill(0.0);
            let samples = &samples[(3 * inside_begin - offset) as usize..(3 * inside_end - offset) as usize];
            self.first_rows(samples, &mut x[skipped..filled]);
            self.blocks[0].conv(x, 3 * groups, y);
            self.blocks[0].pool(y, dst);
        });
    }

    /// One whole window without sharing: the plain computation.
    pub(crate) fn window(&self, window: &[f32], workspace: &mut Workspace, pool: Option<&rayon::ThreadPool>) {
        let outputs = self.blocks[0].outputs;
        let len = FIRST_ROWS / 3;
        let padded = reserve(&mut workspace.ping, (len + 2) * outputs);
        zero_ends(padded, outputs);
        let inner = &mut padded[outputs..(len + 1) * outputs];
        for_each_tile(pool, inner, outputs, TILE_ROWS / 3, |group, dst| {
            self.first_block(window, 0, group as i64, FIRST_ROWS as i64, dst);
        });
        self.rest(1, 1, len, workspace, pool);
    }

    /// Blocks from `block` on, module 11 and the head. The workspace's input holds `windows` sequences of `len` rows,
    /// each with a row of zeros before and after; embedding and logits end up in the workspace.
    pub(crate) fn rest(
        &self,
        block: usize,
        windows: usize,
        mut len: usize,
        workspace: &mut Workspace,
        pool: Option<&rayon::ThreadPool>,
    ) {
        for layer in &self.blocks[block..] {
            let out_len = len / 3;
            let padded_in = (len + 2) * layer.inputs;
            let padded_out = (out_len + 2) * layer.outputs;
            let input = &workspace.ping[..windows * padded_in];
            let output = reserve(&mut workspace.pong, windows * padded_out);
            for window in output.chunks_exact_mut(padded_out) {
                zero_ends(window, layer.outputs);
            }
            if len > 3 * TILE_ROWS / 9 {
                for (x, out) in input.chunks_exact(padded_in).zip(output.chunks_exact_mut(padded_out)) {
                    let inner = &mut out[layer.outputs..(out_len + 1) * layer.outputs];
                    let groups = (out_len / 9).clamp(9, TILE_ROWS / 3);
                    for_each_tile(pool, inner, layer.outputs, groups, |group, dst| {
                        let groups = dst.len() / layer.outputs;
                        layer.conv_pool(&x[3 * group * layer.inputs..], groups, dst);
                    });
                }
            } else {
                short_sequences(layer, input, len, output, pool);
            }
            std::mem::swap(&mut workspace.ping, &mut workspace.pong);
            len = out_len;
        }
        self.top(windows, workspace);
    }

    /// Module 11 and the head on `windows` padded sequences of one row.
    fn top(&self, windows: usize, workspace: &mut Workspace) {
        let (inputs, embedding_len) = (self.last.inputs, self.last.outputs);
        let embedding = reserve(&mut workspace.embedding, windows * embedding_len);
        self.last.multiply(&workspace.ping[inputs..], 3 * inputs, windows, inputs, embedding);
        bias_relu(embedding, &self.last.bias);
        let (output, hidden) = self.head.split_last().expect("a head has a layer");
        let logits = reserve(&mut workspace.logits, windows * output.outputs);
        let (from, to) = (&mut workspace.hidden, &mut workspace.next_hidden);
        for (index, layer) in hidden.iter().enumerate() {
            let input = if index == 0 { &*embedding } else { &from[..windows * layer.inputs] };
            layer.dense_relu(input, windows, layer.inputs, reserve(to, windows * layer.outputs));
            std::mem::swap(from, to);
        }
        let input = if hidden.is_empty() { &*embedding } else { &from[..windows * output.inputs] };
        output.multiply(input, output.inputs, windows, output.inputs, logits);
        add_bias(logits, &output.bias);
    }
}

/// Zeroes the first and the last row of one padded sequence.
fn zero_ends(padded: &mut [f32], channels: usize) {
    let end = padded.len() - channels;
    padded[..channels].fill(0.0);
    padded[end..].fill(0.0);
}

/// One block over many short sequences: several are convolved in one product, over the rows between them as well.
fn short_sequences(layer: &Layer, input: &[f32], len: usize, output: &mut [f32], pool: Option<&rayon::ThreadPool>) {
    let out_len = len / 3;
    let padded_in = (len + 2) * layer.inputs;
    let padded_out = (out_len + 2) * layer.outputs;
    let per_tile = (TILE_ROWS / (len + 2)).max(1);
    for_each_tile(pool, output, padded_out, per_tile, |first, output| {
        let windows = output.len() / padded_out;
        let rows = windows * (len + 2) - 2;
        with_scratch(0, rows * layer.outputs, |_, y| {
            layer.conv(&input[first * padded_in..], rows, y);
            for (window, out) in output.chunks_exact_mut(padded_out).enumerate() {
                let y = &y[window * (len + 2) * layer.outputs..][..len * layer.outputs];
                layer.pool(y, &mut out[layer.outputs..(out_len + 1) * layer.outputs]);
            }
        });
    });
}

/// Calls `body(first_row, rows)` for tiles of `tile` rows of `dst` `[_, width]`, on the pool's threads if there is one.
pub(crate) fn for_each_tile(
    pool: Option<&rayon::ThreadPool>,
    dst: &mut [f32],
    width: usize,
    tile: usize,
    body: impl Fn(usize, &mut [f32]) + Sync,
) {
    use rayon::prelude::*;
    match pool {
        Some(pool) if dst.len() > tile * width => pool.install(|| {
            dst.par_chunks_mut(tile * width).enumerate().for_each(|(index, rows)| body(index * tile, rows));
        }),
        _ => dst.chunks_mut(tile * width).enumerate().for_each(|(index, rows)| body(index * tile, rows)),
    }
}
