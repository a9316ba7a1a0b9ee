//! The network on WGSL kernels: windows in batches that share what they can.
//!
//! A batch is a stretch of samples and the number of windows in it. It is computed from its samples alone, so a stream
//! keeps nothing between batches but samples ([`WindowedStream`](super::windowed::WindowedStream)); a GPU that computes
//! a hundred windows at once does not notice that neighbouring batches compute the rows they have in common twice.
//!
//! Within a batch the windows share their rows, as on the CPU (`engine/sliding.rs` explains why that is exact), for as
//! long as their starts stay on the grid of the pools. One dispatch per block computes the shared rows and, behind
//! them, the first and the last row of every window, where its own zero padding shows:
//!
//! ```text
//! samples      [ ............................................ ]        windows 3^k samples apart
//!                | modules 1 and 2
//! rows         [ shared rows ............ | l0 r0 l1 r1 l2 r2 ]        3^(k-2) rows apart
//!                | module 3
//! rows         [ shared rows .... | l0 r0 l1 r1 l2 r2 ]
//!                :
//! rows         [ shared | l0 r0 l1 r1 l2 r2 ]                          one row apart
//!                | module k                                            reads l, the shared rows between, r
//! rows         [ window 0 | window 1 | window 2 ]                      every window on its own
//!                | .. module 11, head
//! ```
//!
//! Any hop divisible by 9 gains; one that is not a power of three leaves the grid earlier. A lone window, or windows
//! off the grid, take the same path with nothing to share. Nowhere is a row copied: which rows form a window is
//! arithmetic on row numbers in the kernel ([`RowLayout`]).

use burn::prelude::*;

use super::folded::{FIRST_ROWS, Folded, Layer, NUM_BLOCKS};
use super::windowed::each_window;
use crate::WINDOW_SAMPLES;
use crate::kernels::wgpu::{InferBlock, InferDense, RowLayout};

/// Most values in one activation: 64 MiB, half of what WebGPU lets a shader see of a buffer by default.
const MAX_VALUES: usize = 1 << 24;

/// Most windows in one batch. The rows before the first window's end are computed once per batch: at the default hop
/// that is 8 windows' worth, so 128 windows cost as much as 136.
const MAX_WINDOWS: usize = 128;

/// SampleCNN and its head on a wgpu device, batch norm folded.
#[derive(Debug)]
pub(super) struct WgpuNetwork {
    /// Modules 2 to 10, the first of them with module 1.
    blocks: Vec<InferBlock>,
    /// Module 11.
    last: InferDense,
    head: Vec<InferDense>,
    device: Device,
}

impl WgpuNetwork {
    pub(super) fn new(net: &Folded, device: &Device) -> Self {
        let blocks = net.blocks.iter().enumerate().map(|(index, layer)| InferBlock {
            weight: Tensor::from_data(padded_weight(layer, [3, layer.inputs, layer.outputs]), device),
            bias: padded_bias(layer, device),
            first: (index == 0).then(|| Tensor::from_data(padded_first(&net.first), device)),
        });
        let dense = |layer: &Layer, relu| InferDense {
            weight: Tensor::<3>::from_data(padded_weight(layer, [1, layer.inputs, layer.outputs]), device)
                .squeeze_dim(0),
            bias: padded_bias(layer, device),
            relu,
        };
        let num_layers = net.head.len();
        Self {
            blocks: blocks.collect(),
            last: dense(&net.last, true),
            head: net.head.iter().enumerate().map(|(index, layer)| dense(layer, index + 1 < num_layers)).collect(),
            device: device.clone(),
        }
    }

    /// Windows `hop` samples apart that are computed in one batch.
    pub(super) fn batch(&self, hop: usize) -> usize {
        let widths: Vec<usize> = self.blocks.iter().map(|block| block.bias.dims()[0]).collect();
        windows_per_batch(grid_hop(hop), &widths)
    }

    /// Computes `windows` windows `hop` samples apart, the first at the start of `samples`.
    ///
    /// # Shapes
    ///
    /// - embedding: `[windows, embedding_len]`, logits: `[windows, num_tags]`; both widths rounded up to multiples of 4
    pub(super) fn forward(&self, samples: &[f32], hop: usize, windows: usize) -> (Tensor<2>, Tensor<2>) {
        let mut samples = if grid_hop(hop) == hop {
            samples[..(windows - 1) * hop + WINDOW_SAMPLES].to_vec()
        } else {
            each_window(samples, hop, windows).flatten().copied().collect()
        };
        // Three samples per row, and a multiple of four rows.
        samples.resize(samples.len().next_multiple_of(12), 0.0);
        let num_rows = samples.len() / 3;
        let mut rows = Tensor::from_data(TensorData::new(samples, [num_rows, 3]), &self.device);
        for (block, layout) in self.blocks.iter().zip(plan(windows, grid_hop(hop))) {
            rows = block.forward(rows, layout);
        }
        let embedding = self.last.forward(rows);
        let logits = self.head.iter().fold(embedding.clone(), |x, layer| layer.forward(x));
        (embedding, logits)
    }
}

/// The hop at which windows are laid out for the network: their own where they overlap and each starts with a row of
/// three samples, else side by side.
fn grid_hop(hop: usize) -> usize {
    if hop.is_multiple_of(3) && hop < WINDOW_SAMPLES { hop } else { WINDOW_SAMPLES }
}

/// The largest power of two, at most [`MAX_WINDOWS`], whose activations stay within [`MAX_VALUES`]; at least one.
/// `widths` are the blocks' output channels.
fn windows_per_batch(hop: usize, widths: &[usize]) -> usize {
    let fits = |&windows: &usize| {
        plan(windows, hop).iter().zip(widths).all(|(layout, width)| layout.output_rows() * width <= MAX_VALUES)
    };
    std::iter::successors(Some(MAX_WINDOWS), |&windows| (windows > 1).then_some(windows / 2)).find(fits).unwrap_or(1)
}

/// The rows of each block for `windows` windows `hop` samples apart: shared while the windows overlap and start where a
/// pool does, from then on window by window.
fn plan(windows: usize, hop: usize) -> [RowLayout; NUM_BLOCKS] {
    let (mut len, mut hop, mut edges) = (FIRST_ROWS, hop / 3, None);
    std::array::from_fn(|_| {
        let shares = windows > 1 && hop < len && hop.is_multiple_of(3);
        let shared_rows = if shares { (windows - 1) * hop + len } else { 0 };
        let layout = RowLayout { shared_rows, windows, window_len: len, window_hop: hop, ends_only: shares, edges };
        len /= 3;
        (hop, edges) = if shares { (hop / 3, Some(shared_rows / 3)) } else { (len, None) };
        layout
    })
}

/// `values` `[rows, width]` with every row, and the number of rows, filled up with zeros to a multiple of 4.
fn padded(values: &[f32], width: usize) -> impl Iterator<Item = f32> {
    let gap = width.next_multiple_of(4) - width;
    let rows = values.len() / width;
    let missing = (rows.next_multiple_of(4) - rows) * (width + gap);
    let rows = values.chunks_exact(width).flat_map(move |row| row.iter().copied().chain(std::iter::repeat_n(0.0, gap)));
    rows.chain(std::iter::repeat_n(0.0, missing))
}

/// A folded layer's weight as `[taps, in, out]`, both numbers of channels filled up to multiples of 4.
fn padded_weight(layer: &Layer, [taps, inputs, outputs]: [usize; 3]) -> TensorData {
    let values = layer.weight.chunks_exact(inputs * outputs).flat_map(|tap| padded(tap, outputs)).collect::<Vec<f32>>();
    TensorData::new(values, [taps, inputs.next_multiple_of(4), outputs.next_multiple_of(4)])
}

fn padded_bias(layer: &Layer, device: &Device) -> Tensor<1> {
    let values: Vec<f32> = padded(&layer.bias, layer.outputs).take(layer.outputs.next_multiple_of(4)).collect();
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

/// Module 1's three taps and its bias, `[4, channels]`.
fn padded_first(layer: &Layer) -> TensorData {
    let values: Vec<f32> = padded(&[&layer.weight[..], &layer.bias].concat(), layer.outputs).collect();
    TensorData::new(values, [4, layer.outputs.next_multiple_of(4)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_never_reads_rows_that_the_block_before_does_not_write() {
        for hop in [3, 9, 27, 243, 486, 729, 6_561, 19_683, 39_366, 30_000, 59_049] {
            for windows in [1, 2, 3, 40] {
                let layouts = plan(windows, hop);
                assert!(3 * layouts[0].input_rows() <= (windows - 1) * hop + WINDOW_SAMPLES, "hop {hop}");
                for pair in layouts.windows(2) {
                    assert_eq!(pair[0].output_rows(), pair[1].input_rows(), "{windows} windows, hop {hop}: {pair:?}");
                }
                assert_eq!(layouts[NUM_BLOCKS - 1].output_rows(), windows);
            }
        }
    }

    #[test]
    fn windows_at_the_default_hop_share_seven_levels() {
        let rows = |layouts: [RowLayout; NUM_BLOCKS]| -> usize { layouts.iter().map(RowLayout::output_rows).sum() };
        assert_eq!(plan(64, 6_561).iter().filter(|layout| layout.shared_rows > 0).count(), 7);
        assert!(rows(plan(64, 6_561)) * 7 < rows(plan(64, WINDOW_SAMPLES)));
        assert_eq!(plan(64, WINDOW_SAMPLES)[0], RowLayout::side_by_side(64, FIRST_ROWS));
    }

    #[test]
    fn batches_are_bounded_at_every_hop() {
        let widths = [128, 128, 256, 256, 256, 256, 256, 256, 512];
        assert_eq!(windows_per_batch(grid_hop(6_561), &widths), MAX_WINDOWS);
        assert_eq!(windows_per_batch(grid_hop(WINDOW_SAMPLES), &widths), 16);
        for hop in [1, 2, 3, 9, 27, 6_561, 9_999, 10_000, 59_048, 59_049, 1_000_000] {
            let hop = grid_hop(hop);
            let windows = windows_per_batch(hop, &widths);
            for (layout, width) in plan(windows, hop).iter().zip(widths) {
                assert!(layout.output_rows() * width <= MAX_VALUES, "{windows} windows, hop {hop}: {layout:?}");
            }
        }
        // Rows too wide for the bound still go through, one window at a time.
        assert_eq!(windows_per_batch(WINDOW_SAMPLES, &[4_096; NUM_BLOCKS]), 1);
    }

    #[test]
    fn padding_fills_rows_and_columns_with_zeros() {
        let values: Vec<f32> = padded(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3).collect();
        let zero = [0.0; 4];
        assert_eq!(values, [[1.0, 2.0, 3.0, 0.0], [4.0, 5.0, 6.0, 0.0], zero, zero].concat());
    }
}
