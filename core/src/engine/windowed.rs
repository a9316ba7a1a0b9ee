//! Windows without state between them: for hops that share nothing, and for devices that compute many windows at once.

use super::{EngineError, Sink, WindowResult, WindowStream};
use crate::WINDOW_SAMPLES;

/// Computes whole windows.
pub(crate) trait WindowForward: Send {
    /// Windows `hop` samples apart that are worth computing together.
    fn batch(&self, hop: usize) -> usize;

    /// Computes `windows` windows, the first at the start of `samples`, each `hop` samples after the one before, and
    /// calls `each(embedding, logits)` for each, in order.
    ///
    /// # Errors
    /// The device failed.
    fn forward(
        &mut self,
        samples: &[f32],
        hop: usize,
        windows: usize,
        each: &mut dyn FnMut(&[f32], &[f32]),
    ) -> Result<(), EngineError>;
}

/// The windows of [`WindowForward::forward`] one by one.
pub(crate) fn each_window(samples: &[f32], hop: usize, windows: usize) -> impl Iterator<Item = &[f32]> {
    (0..windows).map(move |window| &samples[window * hop..window * hop + WINDOW_SAMPLES])
}

/// A stream that keeps nothing but samples: from the next window's first on.
pub(crate) struct WindowedStream<F> {
    forward: F,
    hop: usize,
    /// Most windows computed at once; bounds what is kept.
    batch: usize,
    received: u64,
    /// Samples from `base` on.
    samples: Vec<f32>,
    base: u64,
    /// Next window to compute.
    next_window: u64,
}

impl<F: WindowForward> WindowedStream<F> {
    pub(crate) fn new(forward: F, hop: usize) -> Self {
        // Windows further apart than they are long must not make us keep what lies between them.
        let batch = (forward.batch(hop) * WINDOW_SAMPLES / hop.max(WINDOW_SAMPLES)).max(1);
        Self { forward, hop, batch, received: 0, samples: Vec::new(), base: 0, next_window: 0 }
    }

    fn start_of_next(&self) -> u64 {
        self.next_window * self.hop as u64
    }

    /// Windows that have all their samples and wait to be computed.
    fn complete(&self) -> usize {
        let end_of_next = self.start_of_next() + WINDOW_SAMPLES as u64;
        self.received.checked_sub(end_of_next).map_or(0, |more| more as usize / self.hop + 1)
    }

    /// Computes waiting windows while there are `at_least` as many, and forgets samples that no window needs any more.
    fn compute(&mut self, at_least: usize, sink: &mut Sink<'_>) -> Result<(), EngineError> {
        while self.complete() >= at_least {
            let windows = self.complete().min(self.batch);
            let offset = (self.start_of_next() - self.base) as usize;
            let (hop, mut start) = (self.hop as u64, self.start_of_next());
            self.forward.forward(&self.samples[offset..], self.hop, windows, &mut |embedding, logits| {
                sink(WindowResult { start, padded: false, embedding, logits });
                start += hop;
            })?;
            self.next_window += windows as u64;
        }
        let needed = self.start_of_next().min(self.received);
        self.samples.drain(..(needed - self.base) as usize);
        self.base = needed;
        Ok(())
    }
}

impl<F: WindowForward> WindowStream for WindowedStream<F> {
    fn push(&mut self, samples: &[f32], sink: &mut Sink<'_>) -> Result<(), EngineError> {
        for chunk in samples.chunks(WINDOW_SAMPLES) {
            self.samples.extend_from_slice(chunk);
            self.received += chunk.len() as u64;
            self.compute(self.batch, sink)?;
        }
        // Whoever pushes waits for every result that these samples completed.
        self.compute(1, sink)
    }

    fn finish(&mut self, sink: &mut Sink<'_>) -> Result<(), EngineError> {
        let mut missing = super::missing_samples(self.received, self.next_window, self.hop as u64) as usize;
        let zeros = [0.0; WINDOW_SAMPLES / 27];
        while missing > 0 {
            let count = missing.min(zeros.len());
            self.push(&zeros[..count], &mut |mut result| {
                result.padded = true;
                sink(result);
            })?;
            missing -= count;
        }
        self.received = 0;
        self.samples.clear();
        self.base = 0;
        self.next_window = 0;
        Ok(())
    }
}
