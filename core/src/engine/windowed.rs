//! Windows one by one: for hops that share nothing, and for devices that run the Burn modules.

use super::{EngineError, Sink, WindowResult, WindowStream};
use crate::WINDOW_SAMPLES;

/// Computes whole windows.
pub(crate) trait WindowForward: Send {
    /// Windows that are worth computing together.
    fn batch(&self) -> usize;

    /// Computes `windows` `[n, 59049]` and calls `each(embedding, logits)` n times, in order.
    ///
    /// # Errors
    /// The device failed.
    fn forward(&mut self, windows: &[f32], each: &mut dyn FnMut(&[f32], &[f32])) -> Result<(), EngineError>;
}

/// A stream that copies each window out of the samples and computes it on its own.
pub(crate) struct WindowedStream<F> {
    forward: F,
    hop: usize,
    received: u64,
    /// Samples from `base` on.
    samples: Vec<f32>,
    base: u64,
    /// Next window to put into the batch.
    next_window: u64,
    /// Complete windows that wait for company, `[n, 59049]`.
    batch: Vec<f32>,
}

impl<F: WindowForward> WindowedStream<F> {
    pub(crate) fn new(forward: F, hop: usize) -> Self {
        Self { forward, hop, received: 0, samples: Vec::new(), base: 0, next_window: 0, batch: Vec::new() }
    }

    fn start_of_next(&self) -> u64 {
        self.next_window * self.hop as u64
    }

    fn flush(&mut self, sink: &mut Sink<'_>) -> Result<(), EngineError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let mut window = self.next_window - (self.batch.len() / WINDOW_SAMPLES) as u64;
        let hop = self.hop as u64;
        self.forward.forward(&self.batch, &mut |embedding, logits| {
            sink(WindowResult { start: window * hop, padded: false, embedding, logits });
            window += 1;
        })?;
        self.batch.clear();
        Ok(())
    }
}

impl<F: WindowForward> WindowStream for WindowedStream<F> {
    fn push(&mut self, samples: &[f32], sink: &mut Sink<'_>) -> Result<(), EngineError> {
        for chunk in samples.chunks(WINDOW_SAMPLES) {
            self.received += chunk.len() as u64;
            self.samples.extend_from_slice(chunk);
            while self.start_of_next() + WINDOW_SAMPLES as u64 <= self.received {
                let offset = (self.start_of_next() - self.base) as usize;
                self.batch.extend_from_slice(&self.samples[offset..offset + WINDOW_SAMPLES]);
                self.next_window += 1;
                if self.batch.len() >= self.forward.batch() * WINDOW_SAMPLES {
                    self.flush(sink)?;
                }
            }
            let needed = self.start_of_next().min(self.received);
            self.samples.drain(..(needed - self.base) as usize);
            self.base = needed;
        }
        // Whoever pushes waits for every result that these samples completed.
        self.flush(sink)
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
        self.batch.clear();
        Ok(())
    }
}
