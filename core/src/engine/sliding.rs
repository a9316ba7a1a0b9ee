//! Exact sliding windows: each activation is computed once and shared by every window that contains it.
//!
//! Every stage of SampleCNN has stride or pool 3, so windows whose starts lie on a grid of 3^k samples see the same
//! activations, except where the zero padding at their own two ends reaches in: one row per side after every pool.
//!
//! ```text
//! level 0   module 1 over the stream     x0  ...................................      one row per 3 samples
//!             | conv, ReLU, pool 3            l|<------- window t ------->|r
//! level 1                                x1  ............                             shared rows, and per window
//!             :                                  l|<----->|r                          its own first and last row
//! level m   starts are one row apart     xm  ....     [0, l, shared rows, r, 0] -> remaining modules, per window
//! ```
//!
//! A window's own first row l and last row r move from level to level through a convolution over five rows:
//! `[0, l, x[s+1], x[s+2], x[s+3]]` and `[x[e-3], x[e-2], x[e-1], r, 0]`, s and e being the window's first and last row.
//! Nothing is approximated: the difference to the plain computation is float rounding.
//!
//! State is bounded: four rows per level, one l per window in flight, one window's rows at level m.

use std::collections::VecDeque;

use super::cpu::CpuEngine;
use super::folded::{FIRST_ROWS, NUM_BLOCKS, Workspace, for_each_tile};
use super::{EngineError, Sink, WindowResult, WindowStream};
use crate::WINDOW_SAMPLES;

/// Samples processed at once: bounds the memory of a push of any size.
const MAX_CHUNK_SAMPLES: usize = 177_147;

/// Values in one batch of windows at level m; bounds the memory of very small hops.
const MAX_BATCH_VALUES: usize = 1 << 21;

/// Rows `base ..` of a level, channels-last.
#[derive(Debug)]
struct Rows {
    data: Vec<f32>,
    base: i64,
    channels: usize,
}

impl Rows {
    /// Starts before the stream with one row of zeros. Pooled row 0 alone sees it, and every window replaces that row
    /// by its own l.
    fn new(channels: usize) -> Self {
        Self { data: vec![0.0; channels], base: -1, channels }
    }

    fn end(&self) -> i64 {
        self.base + (self.data.len() / self.channels) as i64
    }

    fn slice(&self, from: i64, to: i64) -> &[f32] {
        &self.data[(from - self.base) as usize * self.channels..(to - self.base) as usize * self.channels]
    }

    fn append(&mut self, rows: usize) -> &mut [f32] {
        let len = self.data.len();
        self.data.resize(len + rows * self.channels, 0.0);
        &mut self.data[len..]
    }

    fn forget_before(&mut self, row: i64) {
        let row = row.clamp(self.base, self.end());
        self.data.drain(..(row - self.base) as usize * self.channels);
        self.base = row;
    }
}

/// Edge rows of consecutive windows, oldest first.
#[derive(Debug)]
struct Edges {
    rows: VecDeque<f32>,
    first: u64,
    channels: usize,
}

impl Edges {
    fn new(channels: usize) -> Self {
        Self { rows: VecDeque::new(), first: 0, channels }
    }

    /// The window after the last one queued.
    fn end(&self) -> u64 {
        self.first + (self.rows.len() / self.channels) as u64
    }

    fn push(&mut self, row: &[f32]) {
        self.rows.extend(row);
    }

    /// Moves the oldest row into `dst`.
    fn pop_into(&mut self, dst: &mut [f32]) {
        for (dst, value) in dst.iter_mut().zip(self.rows.drain(..self.channels)) {
            *dst = value;
        }
        self.first += 1;
    }
}

/// One level after the first.
#[derive(Debug)]
struct Level {
    rows: Rows,
    left: Edges,
    right: Edges,
}

/// A stream on the exact grid: hop 3^k, 2 <= k <= 9.
pub(crate) struct SlidingStream<'e> {
    engine: &'e CpuEngine,
    hop: usize,
    chunk: usize,
    received: u64,
    /// Samples still needed; the first has index `samples_base`, a multiple of 3.
    samples: Vec<f32>,
    samples_base: u64,
    /// Levels 1 to m.
    levels: Vec<Level>,
    /// Next window whose l (r) leaves level i for level i + 1.
    next_left: Vec<u64>,
    next_right: Vec<u64>,
    /// Next window to report.
    next_window: u64,
    edge_in: Vec<f32>,
    edge_conv: Vec<f32>,
    edge_out: Vec<f32>,
    workspace: Workspace,
}

impl<'e> SlidingStream<'e> {
    /// `None` if windows `hop` samples apart share nothing.
    pub(crate) fn new(engine: &'e CpuEngine, hop: usize) -> Option<Self> {
        let exponent = (2..=9).find(|&k| 3_usize.pow(k) == hop)? as usize;
        let net = &engine.net;
        let levels = net.blocks[..exponent - 1]
            .iter()
            .map(|block| Level {
                rows: Rows::new(block.outputs),
                left: Edges::new(block.outputs),
                right: Edges::new(block.outputs),
            })
            .collect::<Vec<_>>();
        Some(Self {
            engine,
            hop,
            chunk: (64 * hop).clamp(MAX_CHUNK_SAMPLES / 9, MAX_CHUNK_SAMPLES),
            received: 0,
            samples: Vec::new(),
            samples_base: 0,
            next_left: vec![0; levels.len()],
            next_right: vec![0; levels.len()],
            levels,
            next_window: 0,
            edge_in: Vec::new(),
            edge_conv: Vec::new(),
            edge_out: Vec::new(),
            workspace: Workspace::default(),
        })
    }

    /// Rows between the starts of consecutive windows at `level`.
    fn stride(&self, level: usize) -> i64 {
        (self.hop / 3_usize.pow(level as u32 + 1)) as i64
    }

    /// Rows of one window at `level`.
    fn window_rows(level: usize) -> i64 {
        (FIRST_ROWS / 3_usize.pow(level as u32)) as i64
    }

    /// Rows available at `level`.
    fn available(&self, level: usize) -> i64 {
        if level == 0 { (self.received / 3) as i64 } else { self.levels[level - 1].rows.end() }
    }

    /// Samples of rows `from .. to` of level 0.
    fn row_samples(&self, from: i64, to: i64) -> &[f32] {
        let offset = self.samples_base as i64;
        &self.samples[(3 * from - offset) as usize..(3 * to - offset) as usize]
    }

    /// Everything that the samples received so far make possible.
    fn advance(&mut self, sink: &mut Sink<'_>) {
        for level in 0..self.levels.len() {
            self.share(level);
            self.move_left_edges(level);
            self.move_right_edges(level);
            let needed = self.available(level) - 4;
            if level > 0 {
                self.levels[level - 1].rows.forget_before(needed);
            } else {
                let base = 3 * needed.max(0) as u64;
                if base > self.samples_base {
                    self.samples.drain(..(base - self.samples_base) as usize);
                    self.samples_base = base;
                }
            }
        }
        self.report(sink);
    }

    /// Rows of `level + 1` whose five rows of `level` are there.
    fn share(&mut self, level: usize) {
        let available = self.available(level);
        let first = self.levels[level].rows.end();
        let groups = ((available - 1) / 3 - first).max(0) as usize;
        if groups == 0 {
            return;
        }
        let block = &self.engine.net.blocks[level];
        let pool = self.engine.pool.as_ref();
        let (below, above) = self.levels.split_at_mut(level);
        let dst = above[0].rows.append(groups);
        // Small tiles where there are few rows, so that every thread has work.
        let tile = (groups / 8).clamp(9, 81);
        if level == 0 {
            let (samples, offset) = (&self.samples, self.samples_base as i64);
            for_each_tile(pool, dst, block.outputs, tile, |group, dst| {
                self.engine.net.first_block(samples, offset, first + group as i64, available, dst);
            });
        } else {
            let rows = below[level - 1].rows.slice(3 * first - 1, 3 * (first + groups as i64) + 1);
            for_each_tile(pool, dst, block.outputs, tile, |group, dst| {
                block.conv_pool(&rows[3 * group * block.inputs..], dst.len() / block.outputs, dst);
            });
        }
    }

    /// l of every window whose rows s+1, s+2, s+3 are there.
    fn move_left_edges(&mut self, level: usize) {
        let (stride, available) = (self.stride(level), self.available(level));
        let channels = self.engine.net.blocks[level].inputs;
        let first = self.next_left[level];
        let end = ((available - 4).div_euclid(stride) + 1).max(first as i64) as u64;
        let count = (end - first) as usize;
        if count == 0 {
            return;
        }
        let mut edge_in = std::mem::take(&mut self.edge_in);
        edge_in.resize(count * 5 * channels, 0.0);
        for (window, five) in (first..end).zip(edge_in.chunks_exact_mut(5 * channels)) {
            let start = window as i64 * stride;
            let (zeros, four) = five.split_at_mut(channels);
            zeros.fill(0.0);
            if level == 0 {
                self.engine.net.first_rows(self.row_samples(start, start + 4), four);
            } else {
                let below = &mut self.levels[level - 1];
                let (own, shared) = four.split_at_mut(channels);
                below.left.pop_into(own);
                shared.copy_from_slice(below.rows.slice(start + 1, start + 4));
            }
        }
        self.edge_in = edge_in;
        self.convolve_edges(level, count);
        let above = &mut self.levels[level];
        above.left.push(&self.edge_out);
        self.next_left[level] = end;
    }

    /// r of every window that is complete.
    fn move_right_edges(&mut self, level: usize) {
        let stride = self.stride(level);
        let last = Self::window_rows(level) - 1;
        let channels = self.engine.net.blocks[level].inputs;
        let first = self.next_right[level];
        let end = if level == 0 {
            ((self.available(0) - 1 - last).div_euclid(stride) + 1).max(first as i64) as u64
        } else {
            self.levels[level - 1].right.end()
        };
        let count = (end - first) as usize;
        if count == 0 {
            return;
        }
        let mut edge_in = std::mem::take(&mut self.edge_in);
        edge_in.resize(count * 5 * channels, 0.0);
        for (window, five) in (first..end).zip(edge_in.chunks_exact_mut(5 * channels)) {
            let last = window as i64 * stride + last;
            let (four, zeros) = five.split_at_mut(4 * channels);
            zeros.fill(0.0);
            if level == 0 {
                self.engine.net.first_rows(self.row_samples(last - 3, last + 1), four);
            } else {
                let below = &mut self.levels[level - 1];
                let (shared, own) = four.split_at_mut(3 * channels);
                shared.copy_from_slice(below.rows.slice(last - 3, last));
                below.right.pop_into(own);
            }
        }
        self.edge_in = edge_in;
        self.convolve_edges(level, count);
        self.levels[level].right.push(&self.edge_out);
        self.next_right[level] = end;
    }

    /// `edge_in` `[count, 5, channels]` through the block into `edge_out` `[count, outputs]`.
    fn convolve_edges(&mut self, level: usize, count: usize) {
        let block = &self.engine.net.blocks[level];
        let rows = 5 * count - 2;
        self.edge_conv.resize(5 * count * block.outputs, 0.0);
        self.edge_out.resize(count * block.outputs, 0.0);
        block.conv(&self.edge_in, rows, &mut self.edge_conv);
        let convolved = self.edge_conv.chunks_exact(5 * block.outputs);
        for (five, dst) in convolved.zip(self.edge_out.chunks_exact_mut(block.outputs)) {
            block.pool(&five[..3 * block.outputs], dst);
        }
    }

    /// Remaining modules and the head for every complete window.
    fn report(&mut self, sink: &mut Sink<'_>) {
        let net = &self.engine.net;
        let shared_levels = self.levels.len();
        let Some(level) = self.levels.last_mut() else { return };
        let len = Self::window_rows(shared_levels) as usize;
        let channels = level.rows.channels;
        let padded = (len + 2) * channels;
        let (embedding_len, num_tags) = (net.embedding_len(), net.num_tags());
        while self.next_window < level.right.end() {
            let waiting = (level.right.end() - self.next_window) as usize;
            let count = waiting.min((MAX_BATCH_VALUES / padded).max(1));
            let input = self.workspace.input(count * padded);
            for (window, dst) in (self.next_window..).zip(input.chunks_exact_mut(padded)) {
                let start = window as i64;
                let (head, rest) = dst.split_at_mut(2 * channels);
                let (shared, tail) = rest.split_at_mut((len - 2) * channels);
                head[..channels].fill(0.0);
                level.left.pop_into(&mut head[channels..]);
                shared.copy_from_slice(level.rows.slice(start + 1, start + len as i64 - 1));
                level.right.pop_into(&mut tail[..channels]);
                tail[channels..].fill(0.0);
            }
            net.rest(shared_levels, count, len, &mut self.workspace, self.engine.pool.as_ref());
            let embeddings = self.workspace.embedding.chunks_exact(embedding_len);
            let logits = self.workspace.logits.chunks_exact(num_tags);
            for (window, (embedding, logits)) in (self.next_window..).zip(embeddings.zip(logits)).take(count) {
                sink(WindowResult { start: window * self.hop as u64, padded: false, embedding, logits });
            }
            self.next_window += count as u64;
        }
        level.rows.forget_before(self.next_window as i64);
    }

    fn push_chunk(&mut self, samples: &[f32], sink: &mut Sink<'_>) {
        self.samples.extend_from_slice(samples);
        self.received += samples.len() as u64;
        self.advance(sink);
    }

    fn reset(&mut self) {
        self.received = 0;
        self.samples.clear();
        self.samples_base = 0;
        self.next_left.fill(0);
        self.next_right.fill(0);
        self.next_window = 0;
        for level in &mut self.levels {
            let channels = level.rows.channels;
            level.rows.data.clear();
            level.rows.data.resize(channels, 0.0);
            level.rows.base = -1;
            for edges in [&mut level.left, &mut level.right] {
                edges.rows.clear();
                edges.first = 0;
            }
        }
    }
}

impl WindowStream for SlidingStream<'_> {
    fn push(&mut self, samples: &[f32], sink: &mut Sink<'_>) -> Result<(), EngineError> {
        for chunk in samples.chunks(self.chunk) {
            self.push_chunk(chunk, sink);
        }
        Ok(())
    }

    fn finish(&mut self, sink: &mut Sink<'_>) -> Result<(), EngineError> {
        let missing = super::missing_samples(self.received, self.next_window, self.hop as u64);
        let zeros = [0.0; WINDOW_SAMPLES / 27];
        let mut left = missing as usize;
        while left > 0 {
            let count = left.min(zeros.len());
            self.push_chunk(&zeros[..count], &mut |mut result| {
                result.padded = true;
                sink(result);
            });
            left -= count;
        }
        self.reset();
        Ok(())
    }
}

const _: () = assert!(NUM_BLOCKS == 9, "the level arithmetic above is that of table 3.1");
