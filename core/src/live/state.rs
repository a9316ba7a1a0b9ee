//! What is published to whoever looks: a screen, a line in a terminal.

use super::Device;
use crate::tags::{Audible, LineState};

/// What the source does.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum SourceState {
    /// It is being opened.
    #[default]
    Opening,
    /// Sound arrives.
    Live,
    /// Samples arrive, and all are silent.
    Silent {
        /// For how long, in seconds.
        secs: f64,
        /// Every sample is exactly zero: nothing is played, the input is muted, or the system hides it from this program.
        digital: bool,
    },
    /// The device is open, and nothing arrives.
    Stalled {
        /// For how long, in seconds.
        secs: f64,
    },
    /// The sound comes from another device than before, which the system chose.
    Rerouted {
        /// Name of the device before.
        from: String,
    },
    /// The device is gone; it is taken again when it returns.
    Lost {
        /// What is known about it, and what helps.
        reason: String,
    },
    /// The system does not let us listen; it is asked again from time to time.
    Denied {
        /// What is known about it, and what helps.
        reason: String,
    },
    /// The file is at its end.
    Ended,
}

impl SourceState {
    /// The state as one word, as records have it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Live => "live",
            Self::Silent { .. } => "silent",
            Self::Stalled { .. } => "stalled",
            Self::Rerouted { .. } => "rerouted",
            Self::Lost { .. } => "lost",
            Self::Denied { .. } => "denied",
            Self::Ended => "ended",
        }
    }

    /// What there is to say beside the word.
    pub fn message(&self) -> Option<String> {
        match self {
            Self::Opening | Self::Live | Self::Ended => None,
            Self::Silent { digital: true, .. } => Some(
                "every sample is zero: nothing is playing, or the input is muted or hidden from this program".into(),
            ),
            Self::Silent { .. } => Some("nothing is louder than -60 dB of full scale".into()),
            Self::Stalled { secs } => Some(format!("the device is open, and for {secs:.0} s nothing has come from it")),
            Self::Rerouted { from } => Some(format!("the system took another device in place of {from}")),
            Self::Lost { reason } | Self::Denied { reason } => Some(reason.clone()),
        }
    }
}

/// Level of the last moments, over all channels; full scale is 1.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Level {
    /// Largest magnitude.
    pub peak: f32,
    /// Root of the mean square.
    pub rms: f32,
    /// Samples at full scale since the start: the input is too loud.
    pub clipped: u64,
}

/// A moment. Written by the worker, read through a triple buffer: neither ever waits for the other.
#[derive(Clone, Debug, Default)]
pub struct LiveState {
    /// Time on the session's timeline, in seconds.
    pub at_s: f64,
    /// What the source does.
    pub source: SourceState,
    /// The device in use.
    pub device: Option<Device>,
    /// Its level.
    pub level: Level,
    /// What is heard.
    pub heard: Audible,
    /// Share of the energy that is tonal, smoothed.
    pub tonality: f32,
    /// How noisy the input is by the model's own domain classifier, 0 to 1, smoothed. `None` if the model has none, and
    /// while nothing is heard.
    pub noisiness: Option<f32>,
    /// End of the last window on the timeline, in seconds; `None` before the first.
    pub window_end_s: Option<f64>,
    /// The last window's probabilities, `[num_tags]`.
    pub probabilities: Vec<f32>,
    /// The same smoothed, `[num_tags]`.
    pub smoothed: Vec<f32>,
    /// Which tags are certain, `[num_tags]`.
    pub certain: Vec<bool>,
    /// What the lines say, in the order of [`crate::tags::Lines`].
    pub lines: Vec<LineState>,
    /// Windows so far.
    pub num_windows: u64,
    /// Seconds of sound received, and seconds known to be missing.
    pub received_s: f64,
    /// Seconds that are missing.
    pub lost_s: f64,
    /// Number of gaps.
    pub num_gaps: u64,
    /// Buffer over- and underruns that the system reported.
    pub xruns: u64,
    /// From the arrival of a window's last sample to the publication of its result, in seconds.
    pub latency_s: f64,
    /// A set is being recorded.
    pub is_recording: bool,
}
