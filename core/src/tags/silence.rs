//! Whether there was anything to hear in a window.

use std::collections::VecDeque;

use crate::WINDOW_SAMPLES;

/// A window whose samples all stay below this magnitude is silent: -60 dB under full scale. Recorded music, however
/// quiet, peaks above it; digital silence, dither and the idle noise of a sound card stay below.
pub const SILENCE_PEAK: f32 = 1e-3;

/// Samples per block: 3^5, which divides the window and every hop of the exact grid.
const BLOCK_SAMPLES: usize = 243;

/// Remembers which parts of a stream were audible, block by block, for as long as a window may still ask.
///
/// A network answers silence with whatever its biases say, so such an answer must not be shown as a tag.
#[derive(Clone, Debug, Default)]
pub struct SilenceGate {
    /// One entry per complete block, the oldest first.
    audible: VecDeque<bool>,
    /// Number of the oldest entry's block.
    first_block: u64,
    /// The block that is still filling: samples so far, and whether one of them was audible.
    filled: usize,
    filling_audible: bool,
}

impl SilenceGate {
    /// A gate at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next samples; call before the same samples are pushed into a window stream.
    pub fn push(&mut self, mut samples: &[f32]) {
        while !samples.is_empty() {
            let (head, tail) = samples.split_at(samples.len().min(BLOCK_SAMPLES - self.filled));
            self.filling_audible |= head.iter().any(|sample| sample.abs() >= SILENCE_PEAK);
            self.filled += head.len();
            if self.filled == BLOCK_SAMPLES {
                self.audible.push_back(self.filling_audible);
                self.filled = 0;
                self.filling_audible = false;
            }
            samples = tail;
        }
    }

    /// Whether the window that starts at sample `start` is silent. Windows must be asked for in order: what lies before
    /// `start` is forgotten. Exact on the grid of [`crate::engine::Hop::nearest_exact`]; elsewhere a block that the
    /// window only touches counts too.
    pub fn window_is_silent(&mut self, start: u64) -> bool {
        let block = start / BLOCK_SAMPLES as u64;
        while self.first_block < block && self.audible.pop_front().is_some() {
            self.first_block += 1;
        }
        let end_block = (start + WINDOW_SAMPLES as u64).div_ceil(BLOCK_SAMPLES as u64);
        let num_blocks = end_block.saturating_sub(self.first_block) as usize;
        let audible_filling = self.filling_audible && self.audible.len() < num_blocks;
        !(audible_filling || self.audible.iter().take(num_blocks).any(|&audible| audible))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_one_audible_sample_of_a_window() {
        let mut gate = SilenceGate::new();
        let mut samples = vec![0.0; 3 * WINDOW_SAMPLES];
        samples[2 * WINDOW_SAMPLES - 1] = -0.5;
        gate.push(&samples);
        let hop = 6_561;
        for start in (0..=2 * WINDOW_SAMPLES).step_by(hop) {
            let contains = (start..start + WINDOW_SAMPLES).contains(&(2 * WINDOW_SAMPLES - 1));
            assert_eq!(gate.window_is_silent(start as u64), !contains, "window at {start}");
        }
    }

    #[test]
    fn noise_under_the_limit_is_silence() {
        let mut gate = SilenceGate::new();
        gate.push(&vec![SILENCE_PEAK * 0.99; WINDOW_SAMPLES]);
        assert!(gate.window_is_silent(0));
        let mut gate = SilenceGate::new();
        gate.push(&[SILENCE_PEAK; 10]);
        assert!(!gate.window_is_silent(0), "a short stream is judged by what it has");
    }

    #[test]
    fn chunk_sizes_do_not_matter_and_memory_stays_bounded() {
        let samples: Vec<f32> =
            (0..20 * WINDOW_SAMPLES).map(|index| if (index / 40_000) % 4 == 0 { 0.1 } else { 0.0 }).collect();
        let ask = |chunk: usize| {
            let mut gate = SilenceGate::new();
            let mut answers = Vec::new();
            let mut pushed = 0;
            for piece in samples.chunks(chunk) {
                gate.push(piece);
                pushed += piece.len();
                while (answers.len() + 2) * WINDOW_SAMPLES <= pushed {
                    answers.push(gate.window_is_silent((answers.len() * WINDOW_SAMPLES) as u64));
                    assert!(gate.audible.len() <= 3 * 243 + chunk / BLOCK_SAMPLES);
                }
            }
            answers
        };
        let whole = ask(1_000);
        assert!(whole.contains(&true) && whole.contains(&false));
        assert_eq!(whole, ask(7));
        assert_eq!(whole, ask(9_999));
    }
}
