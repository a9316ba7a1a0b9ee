//! From samples to one result per window: one contract, two implementations.
//!
//! ```text
//!                 +-- CpuEngine   folded weights, GEMM, exact sliding windows          (every machine)
//! Engine::stream -+
//!                 +-- BurnEngine  WGSL kernels, exact sliding windows in batches           (wgpu)
//!                                 or the Burn modules themselves, window by window     (flex)
//! ```
//!
//! [`open`] chooses between them by a device's name, tests the device, and wraps an engine on a GPU into a
//! [`FallbackEngine`], which goes on with the CPU engine when the GPU fails.
//!
//! A stream takes samples in pieces of any size and hands out one [`WindowResult`] per hop, in order. A waveform that
//! lies in memory is pushed like any other. Where the hop is a power of three each activation is computed
//! once and shared between the windows that contain it; the result equals the plain computation to float rounding.

#[cfg(feature = "burn")]
pub mod adapters;
#[cfg(feature = "burn")]
mod burn;
mod cpu;
mod device;
mod fallback;
mod folded;
mod meter;
mod passes;
pub mod self_test;
mod sliding;
#[cfg(feature = "burn")]
mod wgpu;
mod windowed;

use std::time::Duration;

#[cfg(feature = "burn")]
pub use self::burn::BurnEngine;
pub use cpu::CpuEngine;
pub use device::{DeviceChoice, Notify, Work, open};
#[cfg(feature = "burn")]
pub use device::{TestedGpu, open_for_training};
pub use fallback::FallbackEngine;
pub use meter::NoiseMeter;

use crate::{SAMPLE_RATE_HZ, WINDOW_SAMPLES};

/// Stride between the starts of consecutive windows, in samples at 22,050 Hz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop(usize);

impl Hop {
    /// The default: 3^8 samples, 298 ms.
    pub const DEFAULT: Self = Self(6_561);
    /// Windows side by side (CLMR's protocol for clip scores).
    pub const NON_OVERLAPPING: Self = Self(WINDOW_SAMPLES);

    /// A hop of any length of at least one sample; `None` for zero.
    pub const fn new(samples: usize) -> Option<Self> {
        if samples == 0 { None } else { Some(Self(samples)) }
    }

    /// The power of three nearest to `secs` (in ratio), between 3^5 (11 ms) and 3^10 (one window): the grid on which
    /// windows share their activations. `None` unless `secs` is positive and finite.
    pub fn nearest_exact(secs: f64) -> Option<Self> {
        if !(secs.is_finite() && secs > 0.0) {
            return None;
        }
        let exponent = (secs * f64::from(SAMPLE_RATE_HZ)).log(3.0).round().clamp(5.0, 10.0);
        Some(Self(3_usize.pow(exponent as u32)))
    }

    /// The stride in samples.
    pub const fn samples(self) -> usize {
        self.0
    }

    /// The stride as time.
    pub fn duration(self) -> Duration {
        Duration::from_secs_f64(self.0 as f64 / f64::from(SAMPLE_RATE_HZ))
    }
}

/// What an engine says of one window.
#[derive(Clone, Copy, Debug)]
pub struct WindowResult<'a> {
    /// First sample of the window, counted from the start of the stream.
    pub start: u64,
    /// The stream ended inside this window; the rest was filled with zeros.
    pub padded: bool,
    /// Feature extractor's output h, `[embedding_len]`.
    pub embedding: &'a [f32],
    /// Head's output before the sigmoid, `[num_tags]`.
    pub logits: &'a [f32],
}

/// Why an engine could not answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The device failed while computing; another engine can redo the work.
    #[error("device {device} failed: {cause}; try --device cpu")]
    Device {
        /// Name of the device.
        device: String,
        /// What it reported.
        cause: String,
    },
    /// The requested device is not there.
    #[error("no device matches '{requested}'; available: {available}")]
    NoDevice {
        /// What was asked for.
        requested: String,
        /// Names that would have worked.
        available: String,
    },
    /// The model cannot be run at all.
    #[error(transparent)]
    Model(crate::model_file::ModelError),
}

/// A model on a device.
pub trait Engine: Send + Sync {
    /// Device in use, as shown to the user, e.g. `cpu (AVX-512, 2 threads)`.
    fn device(&self) -> String;

    /// Length of a [`WindowResult::embedding`].
    fn embedding_len(&self) -> usize;

    /// Length of [`WindowResult::logits`].
    fn num_tags(&self) -> usize;

    /// What reads from an embedding how noisy the window is, where the model has a domain classifier.
    fn noise_meter(&self) -> Option<&NoiseMeter> {
        None
    }

    /// Starts a stream of windows `hop` apart.
    fn stream(&self, hop: Hop) -> Box<dyn WindowStream + '_>;

    /// The same results without sharing anything between windows: what [`stream`](Engine::stream) is measured against.
    fn plain_stream(&self, hop: Hop) -> Box<dyn WindowStream + '_> {
        self.stream(hop)
    }
}

/// Zeros that complete the last window after `received` samples of which the first `windows` windows are reported.
fn missing_samples(received: u64, windows: u64, hop: u64) -> u64 {
    let window = WINDOW_SAMPLES as u64;
    let covered = if windows == 0 { 0 } else { (windows - 1) * hop + window };
    let start = windows * hop;
    if received > covered && received > start { start + window - received } else { 0 }
}

/// Receives results in the order of their windows.
pub type Sink<'a> = dyn FnMut(WindowResult<'_>) + 'a;

/// Windows over a waveform that arrives in pieces.
///
/// Window `t` starts at sample `t * hop`. Every window that lies wholly inside the stream is reported when its last
/// sample arrives; [`finish`](WindowStream::finish) reports one more, padded with zeros, if samples were left that no
/// window has covered. So a stream of exactly one window gives one result, and a shorter one gives one padded result.
pub trait WindowStream: Send {
    /// Takes the next samples, any number of them. Buffers are reused: once pieces of a size have been seen, a push
    /// leaves no more memory in use than it found, on engines that say so.
    ///
    /// # Errors
    /// [`EngineError::Device`] when the device fails; the stream is then unusable.
    fn push(&mut self, samples: &[f32], sink: &mut Sink<'_>) -> Result<(), EngineError>;

    /// Ends the waveform, reports a padded window where one is due and makes the stream ready for another waveform.
    ///
    /// # Errors
    /// As [`push`](WindowStream::push).
    fn finish(&mut self, sink: &mut Sink<'_>) -> Result<(), EngineError>;
}

/// A small network with random weights, for tests.
#[cfg(test)]
pub(crate) fn test_model(head_hidden: Option<usize>, last_kernel: usize) -> crate::model_file::Model {
    use crate::weights::Architecture;
    crate::model_file::Model::random(Architecture::scaled(1.0 / 16.0, last_kernel, head_hidden, 5), 0)
}

#[cfg(test)]
mod tests;
