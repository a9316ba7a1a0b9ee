//! One convolution module on a batch: convolution, batch norm, ReLU and max-pool, forward and backward.
//!
//! ```text
//! forward   tile of x --GEMM--> tile of y --> moments      | all tiles: batch norm's statistics
//!           y --> normalise, ReLU, pool --> out            |
//! backward  y, d out --> sums                              | all tiles: what batch norm subtracts
//!           y, d out --> tile of dy --GEMM--> tile of dx   | dy exists only tile by tile
//!                        tile of x  --GEMM--> dW           | summed per group of tiles, groups in order
//! ```
//!
//! Kept between the two: `y`, the convolution's output without its bias, and the statistics. Batch norm's output, the
//! pooling's choice and `dy` are computed again where they are needed, in the cache.
//!
//! In training the first samples of a batch may be the ones that are measured, to normalise all of them: every sample then
//! has a part in the gradient of the statistics, which goes to those alone.
//!
//! In training a bias before batch norm cancels: it moves the running mean and nothing else, and its gradient is zero.

use std::ops::Range;

use rayon::prelude::*;

use crate::matrix::{Matrix, multiply};

use super::{
    buffers,
    passes::{self, Norm, NormGradient},
    rows::{BlockShape, split_mut},
    stem::{Stem, StemSums},
};

/// Where a module's input comes from.
#[derive(Clone, Copy)]
pub enum Input<'a> {
    /// A buffer with zero rows ([`rows`](super::rows)).
    Rows(&'a [f32]),
    /// Module 1, computed again from the samples for each tile: cheaper than to read it back from memory.
    Stem(&'a Stem<'a>),
}

impl Input<'_> {
    /// Rows of the input, zero rows included.
    fn rows<'b>(&'b self, shape: &BlockShape, rows: Range<usize>, scratch: &'b mut Vec<f32>) -> &'b [f32] {
        match self {
            Self::Rows(data) => &data[rows.start * shape.channels_in..rows.end * shape.channels_in],
            Self::Stem(stem) => {
                scratch.resize(rows.len() * shape.channels_in, 0.0);
                stem.rows(shape.len, rows, scratch);
                scratch
            }
        }
    }
}

/// Statistics of the convolution's output (without its bias) over the samples that batch norm measures.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// Per channel.
    pub mean: Vec<f64>,
    /// Biased, per channel.
    pub variance: Vec<f64>,
}

/// Reorders convolution weights `[out, in, kernel]` to the right operand of the forward product,
/// `[kernel * in, out]`.
pub fn forward_operand(shape: &BlockShape, weight: &[f32]) -> Vec<f32> {
    let &BlockShape { channels_in, channels_out, kernel, .. } = shape;
    let mut operand = buffers::take(weight.len());
    operand.par_chunks_exact_mut(channels_out).enumerate().for_each(|(row, out)| {
        let (tap, input) = (row / channels_in, row % channels_in);
        for (o, value) in out.iter_mut().enumerate() {
            *value = weight[(o * channels_in + input) * kernel + tap];
        }
    });
    operand
}

/// Reorders convolution weights to the right operand of the input gradient's product, `[kernel * out, in]`: the
/// transposed convolution, its taps in reverse.
fn backward_operand(shape: &BlockShape, weight: &[f32]) -> Vec<f32> {
    let &BlockShape { channels_in, channels_out, kernel, .. } = shape;
    let mut operand = buffers::take(weight.len());
    operand.par_chunks_exact_mut(channels_in).enumerate().for_each(|(row, out)| {
        let (tap, output) = (kernel - 1 - row / channels_out, row % channels_out);
        let weight = &weight[output * channels_in * kernel..][..channels_in * kernel];
        for (value, taps) in out.iter_mut().zip(weight.chunks_exact(kernel)) {
            *value = taps[tap];
        }
    });
    operand
}

/// Convolves the given rows.
fn convolve(
    shape: &BlockShape,
    x: Input<'_>,
    operand: &[f32],
    rows: Range<usize>,
    y: &mut [f32],
    scratch: &mut Vec<f32>,
) {
    let &BlockShape { channels_in, channels_out, kernel, .. } = shape;
    // The zero row that ends the buffer has no neighbour on its right; nothing reads its product.
    let rows = rows.start..rows.end.min(shape.conv_rows() - 1);
    let x = x.rows(shape, input_rows(kernel, &rows), scratch);
    multiply(
        y,
        [rows.len(), channels_out, kernel * channels_in],
        Matrix::rows(x, channels_in),
        Matrix::rows(operand, channels_out),
        false,
    );
}

/// Input rows under the kernel at the given conv rows.
fn input_rows(kernel: usize, rows: &Range<usize>) -> Range<usize> {
    if kernel == 3 { rows.start..rows.end + 2 } else { rows.start + 1..rows.end + 1 }
}

/// Convolves the batch and measures it.
///
/// # Shapes
///
/// - `operand`: of [`forward_operand`]; result: `[batch * (len + 1), channels_out]`
pub fn convolve_and_measure(shape: &BlockShape, x: Input<'_>, operand: &[f32]) -> (Vec<f32>, Statistics) {
    let channels = shape.channels_out;
    let groups = shape.groups();
    let mut y = buffers::take(shape.conv_rows() * channels);
    let pieces = split_mut(&mut y, groups.iter().map(|group| shape.conv_rows_of(group).len() * channels));
    let moments: Vec<Moments> = groups
        .par_iter()
        .zip(pieces)
        .map(|(group, mut y)| {
            let mut scratch = Vec::new();
            let mut moments = Moments::new(channels);
            for tile in shape.tiles(group) {
                let rows = shape.conv_rows_of(&tile);
                let (y_tile, rest) = y.split_at_mut(rows.len() * channels);
                convolve(shape, x, operand, rows.clone(), y_tile, &mut scratch);
                moments.add_tile(shape, rows, y_tile);
                y = rest;
            }
            moments
        })
        .collect();
    let mut total = Moments::new(channels);
    moments.iter().for_each(|moments| total.merge(moments.count, moments.mean.iter().copied(), &moments.deviation));
    let count = total.count;
    let variance = total.deviation.into_iter().map(|deviation| deviation / count).collect();
    (y, Statistics { mean: total.mean, variance })
}

/// Count, mean and sum of squared deviations per channel (Chan et al.'s pairwise update).
struct Moments {
    count: f64,
    mean: Vec<f64>,
    deviation: Vec<f64>,
    tile_mean: Vec<f32>,
    tile_deviation: Vec<f32>,
}

impl Moments {
    fn new(channels: usize) -> Self {
        Self {
            count: 0.0,
            mean: vec![0.0; channels],
            deviation: vec![0.0; channels],
            tile_mean: vec![0.0; channels],
            tile_deviation: vec![0.0; channels],
        }
    }

    fn add_tile(&mut self, shape: &BlockShape, rows: Range<usize>, y: &[f32]) {
        let count = rows.clone().filter(|&row| shape.is_measured(row)).count();
        if count == 0 {
            return;
        }
        let (mut mean, mut deviation) = (std::mem::take(&mut self.tile_mean), std::mem::take(&mut self.tile_deviation));
        passes::moments(shape, rows.start, y, count, &mut mean, &mut deviation);
        self.merge(count as f64, mean.iter().map(|&mean| f64::from(mean)), &deviation);
        (self.tile_mean, self.tile_deviation) = (mean, deviation);
    }

    fn merge<D: Copy + Into<f64>>(&mut self, count: f64, mean: impl Iterator<Item = f64>, deviation: &[D]) {
        let total = self.count + count;
        let (weight, cross) = (count / total, self.count * count / total);
        for (((own, other), own_deviation), &other_deviation) in
            self.mean.iter_mut().zip(mean).zip(&mut self.deviation).zip(deviation)
        {
            let difference = other - *own;
            *own += difference * weight;
            *own_deviation += other_deviation.into() + difference * difference * cross;
        }
        self.count = total;
    }
}

/// Batch norm, ReLU and pooling of a convolved batch into a buffer with zero rows.
pub fn activate(shape: &BlockShape, norm: &Norm, y: &[f32]) -> Vec<f32> {
    let channels = shape.channels_out;
    let groups = shape.groups();
    let mut out = buffers::take(shape.output_size());
    let (zero_row, rows) = out.split_at_mut(channels);
    zero_row.fill(0.0);
    let pieces = split_mut(rows, groups.iter().map(|group| group.len() * channels));
    groups.par_iter().zip(pieces).for_each(|(group, out)| {
        let rows = shape.conv_rows_of(group);
        passes::activate(shape, norm, group, &y[rows.start * channels..rows.end * channels], out);
    });
    out
}

/// The whole module with known statistics, tile by tile, keeping nothing: for inference.
pub fn infer(shape: &BlockShape, x: Input<'_>, operand: &[f32], norm: &Norm) -> Vec<f32> {
    let channels = shape.channels_out;
    let groups = shape.groups();
    let mut out = buffers::take(shape.output_size());
    let (zero_row, rows) = out.split_at_mut(channels);
    zero_row.fill(0.0);
    let pieces = split_mut(rows, groups.iter().map(|group| group.len() * channels));
    groups.par_iter().zip(pieces).for_each(|(group, mut out)| {
        let (mut scratch, mut y) = (Vec::new(), Vec::new());
        for tile in shape.tiles(group) {
            let rows = shape.conv_rows_of(&tile);
            y.resize(rows.len() * channels, 0.0);
            convolve(shape, x, operand, rows, &mut y, &mut scratch);
            let (out_tile, rest) = out.split_at_mut(tile.len() * channels);
            passes::activate(shape, norm, &tile, &y, out_tile);
            out = rest;
        }
    });
    out
}

/// Gradients of one module.
pub struct Gradients {
    /// With respect to the input, where it is a buffer and was asked for. Zero rows hold anything.
    pub input: Option<Vec<f32>>,
    /// What module 1's gradients are made of, where the input is module 1.
    pub stem: Option<StemSums>,
    /// `[out, in, kernel]`.
    pub weight: Vec<f32>,
    /// With respect to the convolution's bias.
    pub bias: Vec<f32>,
    /// With respect to batch norm's scale.
    pub gamma: Vec<f32>,
    /// With respect to batch norm's offset.
    pub beta: Vec<f32>,
}

/// What [`backward`] starts from.
pub struct Backward<'a> {
    /// The module's shape.
    pub shape: BlockShape,
    /// Its input.
    pub x: Input<'a>,
    /// Its convolution's output.
    pub y: &'a [f32],
    /// Its batch norm.
    pub norm: &'a Norm,
    /// Its weights, `[out, in, kernel]`.
    pub weight: &'a [f32],
    /// Whether batch norm used the batch's statistics, and so passes gradients through them.
    pub training: bool,
    /// Whether the gradient with respect to the input, or module 1's, is wanted.
    pub needs_input: bool,
    /// Gradient with respect to the output, in a buffer with zero rows that may hold anything.
    pub gradient: &'a [f32],
}

/// Computes all gradients of one module.
pub fn backward(args: &Backward<'_>) -> Gradients {
    let &Backward { shape, x, y, norm, weight, training, needs_input, gradient } = args;
    let BlockShape { channels_in, channels_out, kernel, .. } = shape;
    let groups = shape.groups();

    let (sums, weighted) = gradient_sums(args, &groups);
    let positions = if training { shape.positions() as f64 } else { f64::INFINITY };
    let inverse_std = || norm.inverse_std.iter().map(|&value| f64::from(value));
    let correction = NormGradient {
        mean: sums.iter().map(|sum| (sum / positions) as f32).collect(),
        slope: weighted.iter().zip(inverse_std()).map(|(sum, s)| (sum * s * s / positions) as f32).collect(),
        none: vec![0.0; channels_out],
    };
    let gamma = weighted.iter().zip(inverse_std()).map(|(sum, s)| (sum * s) as f32).collect();
    let bias = sums.iter().zip(&norm.scale).map(|(sum, &s)| if training { 0.0 } else { *sum as f32 * s }).collect();

    let stem = match x {
        Input::Stem(stem) if needs_input => Some(stem),
        _ => None,
    };
    let mut input = (needs_input && stem.is_none()).then(|| buffers::take(shape.input_size()));
    let operand = needs_input.then(|| backward_operand(&shape, weight));
    let pieces: Vec<Option<&mut [f32]>> = match &mut input {
        Some(input) => {
            let (first, rows) = input.split_at_mut(channels_in);
            first.fill(0.0);
            let lengths = groups.iter().map(|group| shape.conv_rows_of(group).len() * channels_in);
            split_mut(rows, lengths).into_iter().map(Some).collect()
        }
        None => groups.iter().map(|_| None).collect(),
    };
    let partial: Vec<(Vec<f32>, Option<StemSums>)> = groups
        .par_iter()
        .zip(pieces)
        .map(|(group, mut piece)| {
            let mut weight_sum = buffers::take(weight.len());
            let mut stem_sums = stem.map(|_| StemSums::new(channels_in));
            let (mut x_scratch, mut dy, mut dx) = (Vec::new(), Vec::new(), Vec::new());
            for (index, tile) in shape.tiles(group).enumerate() {
                let rows = shape.conv_rows_of(&tile);
                let x_rows = rows.start..rows.end.min(shape.conv_rows() - 1);
                let x = x.rows(&shape, input_rows(kernel, &x_rows), &mut x_scratch);

                // One slot more on either side: the rows a kernel of 3 reaches into. Row 0 stands for what lies
                // before the first of all rows.
                let wider = tile.start.saturating_sub(1)..(tile.end + 1).min(shape.slots());
                let wider_rows = shape.conv_rows_of(&wider);
                dy.resize((wider_rows.len() + 1) * channels_out, 0.0);
                dy[..channels_out].fill(0.0);
                passes::conv_gradient(
                    &shape,
                    norm,
                    &correction,
                    &wider,
                    &y[wider_rows.start * channels_out..wider_rows.end * channels_out],
                    &gradient[(wider.start + 1) * channels_out..],
                    &mut dy[channels_out..],
                );
                let centre = rows.start + 1 - wider_rows.start;
                let dy_tile = &dy[centre * channels_out..];

                multiply(
                    &mut weight_sum,
                    [kernel * channels_in, channels_out, x_rows.len()],
                    Matrix::rows(x, channels_in).transposed(),
                    Matrix::rows(dy_tile, channels_out),
                    index > 0,
                );

                let Some(operand) = &operand else { continue };
                let first = centre - kernel / 2;
                let left = Matrix::rows(&dy[first * channels_out..], channels_out);
                let dims = [x_rows.len(), channels_in, kernel * channels_out];
                let right = Matrix::rows(operand, channels_in);
                if let Some(slice) = piece.take() {
                    let (out, rest) = slice.split_at_mut(rows.len() * channels_in);
                    multiply(out, dims, left, right, false);
                    out[x_rows.len() * channels_in..].fill(0.0);
                    piece = Some(rest);
                } else if let (Some(stem), Some(sums)) = (stem, &mut stem_sums) {
                    dx.resize(x_rows.len() * channels_in, 0.0);
                    multiply(&mut dx, dims, left, right, false);
                    let centre = &x[(kernel / 2) * channels_in..][..x_rows.len() * channels_in];
                    stem.add_gradient(shape.len, x_rows, centre, &dx, sums);
                }
            }
            (weight_sum, stem_sums)
        })
        .collect();
    operand.into_iter().for_each(buffers::give);

    let (weight_sums, stem_sums): (Vec<_>, Vec<_>) = partial.into_iter().unzip();
    Gradients {
        input,
        stem: stem_sums.into_iter().flatten().reduce(StemSums::merged),
        weight: weight_gradient(&shape, weight_sums),
        bias,
        gamma,
        beta: sums.iter().map(|&sum| sum as f32).collect(),
    }
}

/// Per channel: the sum of the gradient with respect to batch norm's output, and of that times `y - mean`.
fn gradient_sums(args: &Backward<'_>, groups: &[Range<usize>]) -> (Vec<f64>, Vec<f64>) {
    let &Backward { shape, y, norm, gradient, .. } = args;
    let channels = shape.channels_out;
    let partial: Vec<[Vec<f64>; 2]> = groups
        .par_iter()
        .map(|group| {
            let mut total = [vec![0.0; channels], vec![0.0; channels]];
            let mut tile_sums = [vec![0.0; channels], vec![0.0; channels]];
            for tile in shape.tiles(group) {
                let rows = shape.conv_rows_of(&tile);
                let y = &y[rows.start * channels..rows.end * channels];
                let [sums, weighted] = &mut tile_sums;
                sums.fill(0.0);
                weighted.fill(0.0);
                passes::gradient_sums(&shape, norm, &tile, y, &gradient[(tile.start + 1) * channels..], sums, weighted);
                for (total, tile) in total.iter_mut().zip(&tile_sums) {
                    total.iter_mut().zip(tile).for_each(|(total, &value): (&mut f64, &f32)| *total += f64::from(value));
                }
            }
            total
        })
        .collect();
    let mut total = [vec![0.0; channels], vec![0.0; channels]];
    for partial in &partial {
        for (total, partial) in total.iter_mut().zip(partial) {
            total.iter_mut().zip(partial).for_each(|(total, value)| *total += value);
        }
    }
    let [sums, weighted] = total;
    (sums, weighted)
}

/// Adds the groups' sums `[kernel * in, out]` in order and reorders them to `[out, in, kernel]`.
fn weight_gradient(shape: &BlockShape, mut sums: Vec<Vec<f32>>) -> Vec<f32> {
    let &BlockShape { channels_in, channels_out, kernel, .. } = shape;
    let (total, others) = sums.split_first_mut().expect("there is at least one group");
    let row = channels_out;
    total.par_chunks_mut(row).enumerate().for_each(|(index, total)| {
        for other in &*others {
            total.iter_mut().zip(&other[index * row..]).for_each(|(total, value)| *total += value);
        }
    });
    let mut weight = vec![0.0; total.len()];
    weight.par_chunks_exact_mut(channels_in * kernel).enumerate().for_each(|(output, weight)| {
        for (input, taps) in weight.chunks_exact_mut(kernel).enumerate() {
            for (tap, value) in taps.iter_mut().enumerate() {
                *value = total[(tap * channels_in + input) * channels_out + output];
            }
        }
    });
    sums.into_iter().for_each(buffers::give);
    weight
}
