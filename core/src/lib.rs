//! Music tagging from raw audio that stays right under noise.
//!
//! ```text
//! bytes -> waveform -> 22,050 Hz mono -> windows -> embedding [512] -> logits [50] -> probabilities -> tags
//!          audio ------------------------|  engine --------------------------------|  tags --------------|
//! ```
//!
//! [`audio`] decodes and resamples and never sees a tensor library. [`model`] defines the networks as Burn modules and
//! never sees audio. They meet in [`engine`], which turns samples into one result per window, on the CPU or on a Burn
//! device. [`model_file`] is what an engine is built from.
//!
//! Failures are typed and local: one unreadable file is an [`audio::AudioError`] that names the file, the rule it broke
//! and the way out; a damaged model is a [`model_file::ModelError`]; nothing here prints or exits.

pub mod adapt;
pub mod audio;
pub mod engine;
#[cfg(feature = "burn")]
pub mod kernels;
#[cfg(feature = "live")]
pub mod live;
mod matrix;
#[cfg(feature = "burn")]
pub mod model;
pub mod model_file;
pub mod tags;
pub mod weights;

/// Sample rate of every waveform a network hears, in Hz (SampleCNN, table 3.1).
pub const SAMPLE_RATE_HZ: u32 = 22_050;

/// Samples in one window: 3^10, about 2.68 s (SampleCNN, table 3.1).
pub const WINDOW_SAMPLES: usize = 59_049;
