//! From logits per window to what a person reads: tags of a clip and segments over time.
//!
//! ```text
//! logits [num_tags] -> sigmoid -> Taggram [num_windows, num_tags] -+-> clip_probabilities [num_tags] -> top
//! samples -> SilenceGate: was there anything to hear? -------------+-> segments with hysteresis in seconds
//!                                                                  +-> downsampled, for a line on a screen
//!                                                                  +-> verdict: synonyms joined, and where in the track
//!
//! live   probabilities [num_tags] --+-> Steady: certain tags, with attack and hold in seconds -> Lines: one verdict each
//!        tonality, silence ---------+-> Presence: music, no music heard, or silence
//! ```
//!
//! Nothing here fails on numbers: a probability that is not a number is below every threshold. Only a
//! [`TagVocabulary`] can be refused.

mod calibration;
mod clip;
mod lines;
mod presence;
mod segments;
mod silence;
mod steady;
mod synonyms;
mod taggram;
mod verdict;
mod vocabulary;

pub use calibration::{Calibration, MIN_POSITIVES, MIN_REPORTED, OutOfReach, Point, TagCalibration};
pub use clip::{ClipProbabilities, TagConfidence, sigmoid, top};
pub use lines::{Line, LineState, Lines, Verdict};
pub use presence::{Audible, Presence};
pub use segments::{Hysteresis, Segment};
pub use silence::{SILENCE_PEAK, SilenceGate};
pub use steady::{Steady, Timing};
pub use synonyms::{Group, are_opposites};
pub use taggram::{Taggram, Window};
pub use verdict::{Heard, verdict};
pub use vocabulary::{TagVocabulary, VocabularyError};
