//! Where activations lie: channels last, samples one after the other, a row of zeros around each.
//!
//! ```text
//! row     0     1 .. len     len + 1     len + 2 .. 2 len + 1     2 len + 2   ..
//!         0     sample 0        0        sample 1                     0
//! ```
//!
//! A row holds the channels of one position. With the zero rows in place a kernel-3 convolution with padding 1 over the
//! whole batch is one matrix product: row `j` of its left operand is the `3 * channels` numbers from row `j` on, rows
//! overlapping. The product also yields a meaningless row wherever the kernel's centre is a zero row; it is skipped.

use std::ops::Range;

/// Rows of a tile, as a rule: its input, its output and the weights lie in the second-level cache together.
const TILE_ROWS: usize = 256;

/// Tiles are dealt out in at most this many groups; the partial sums of a group are added in order, so that results do
/// not depend on the number of threads.
const MAX_GROUPS: usize = 32;

/// The shape of one convolution module on a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockShape {
    /// Samples in the batch.
    pub batch: usize,
    /// The first so many of them are what batch norm measures in training, to normalise all of them.
    pub measured: usize,
    /// Positions of a sample before pooling.
    pub len: usize,
    /// Channels before the convolution.
    pub channels_in: usize,
    /// Channels after it.
    pub channels_out: usize,
    /// Kernel: 3 with padding 1, or 1.
    pub kernel: usize,
    /// Whether a max-pool 3 follows. Positions that fill no window of three are dropped.
    pub pool: bool,
}

impl BlockShape {
    /// Rows of a buffer with zero rows for samples of `len` positions.
    pub fn padded_rows(batch: usize, len: usize) -> usize {
        batch * (len + 1) + 1
    }

    /// Positions of a sample in the output.
    pub fn len_out(&self) -> usize {
        self.len / self.pool_width()
    }

    /// Conv positions per output position.
    pub fn pool_width(&self) -> usize {
        if self.pool { 3 } else { 1 }
    }

    /// Values per channel that batch norm averages over.
    pub fn positions(&self) -> usize {
        self.measured * self.len
    }

    /// Numbers in the input buffer.
    pub fn input_size(&self) -> usize {
        Self::padded_rows(self.batch, self.len) * self.channels_in
    }

    /// Numbers in the output buffer.
    pub fn output_size(&self) -> usize {
        Self::padded_rows(self.batch, self.len_out()) * self.channels_out
    }

    /// Rows of the convolution's output: those of row 1 of the input onwards, the zero row after each sample included.
    pub fn conv_rows(&self) -> usize {
        self.batch * (self.len + 1)
    }

    /// Output rows from row 1 on, the zero row after each sample included. A slot is the unit that work is divided in.
    pub fn slots(&self) -> usize {
        self.batch * (self.len_out() + 1)
    }

    /// Sample and position of a slot; `None` for a zero row.
    pub fn position(&self, slot: usize) -> Option<(usize, usize)> {
        let (sample, position) = (slot / (self.len_out() + 1), slot % (self.len_out() + 1));
        (position < self.len_out()).then_some((sample, position))
    }

    /// First row of the convolution that belongs to `slot`. The slot of a zero row owns the dropped positions too.
    pub fn first_conv_row(&self, slot: usize) -> usize {
        let (sample, position) = (slot / (self.len_out() + 1), slot % (self.len_out() + 1));
        sample * (self.len + 1) + position * self.pool_width()
    }

    /// Rows of the convolution that belong to `slots`.
    pub fn conv_rows_of(&self, slots: &Range<usize>) -> Range<usize> {
        self.first_conv_row(slots.start)..self.first_conv_row(slots.end)
    }

    /// Whether a row of the convolution is a position of a sample.
    pub fn is_position(&self, conv_row: usize) -> bool {
        conv_row % (self.len + 1) < self.len
    }

    /// Whether a row of the convolution is a position of a sample that batch norm measures.
    pub fn is_measured(&self, conv_row: usize) -> bool {
        self.is_position(conv_row) && conv_row < self.measured * (self.len + 1)
    }

    /// Whether the sample of a slot is one that batch norm measures.
    pub fn is_measured_slot(&self, slot: usize) -> bool {
        slot < self.measured * (self.len_out() + 1)
    }

    /// The slots in groups that may run in parallel. Depends on the shape alone.
    pub fn groups(&self) -> Vec<Range<usize>> {
        let num_groups = (self.conv_rows() / 128).clamp(1, MAX_GROUPS);
        let bound = |group: usize| group * self.slots() / num_groups;
        (0..num_groups).map(|group| bound(group)..bound(group + 1)).collect()
    }

    /// A group in tiles.
    pub fn tiles(&self, group: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let Range { start, end } = group.clone();
        let step = TILE_ROWS / self.pool_width();
        (start..end).step_by(step).map(move |first| first..(first + step).min(end))
    }
}

/// Cuts `data` into pieces of the given lengths; what is left over is not part of any.
pub fn split_mut(mut data: &mut [f32], lengths: impl IntoIterator<Item = usize>) -> Vec<&mut [f32]> {
    lengths
        .into_iter()
        .map(|length| {
            let (piece, rest) = std::mem::take(&mut data).split_at_mut(length);
            data = rest;
            piece
        })
        .collect()
}
