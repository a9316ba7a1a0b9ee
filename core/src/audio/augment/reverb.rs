//! Reverberation: Schroeder's reverberator in the form of Jezar's Freeverb, with the parameters of `reverb` in `SoX`,
//! which CLMR's chain uses.
//!
//! ```text
//!          +-> comb 1 -+
//! input -+-+-> ...     +-> all-pass 1 -> ... -> all-pass 4 -> gain -+-> output
//!        | +-> comb 8 -+                                           |
//!        +-----------------------------------------------------------+
//! ```
//!
//! A comb repeats its input at its length; a low-pass in its loop takes the treble away, as air and walls do. The
//! all-passes make single echoes dense.

use crate::SAMPLE_RATE_HZ;

/// Loop lengths at 44,100 Hz and full room size (Freeverb).
const COMBS: [usize; 8] = [1116, 1188, 1277, 1356, 1422, 1491, 1557, 1617];
/// Lengths of the all-passes, likewise.
const ALL_PASSES: [usize; 4] = [225, 341, 441, 556];
/// What an all-pass feeds back (Freeverb).
const ALL_PASS_FEEDBACK: f32 = 0.5;
/// Gain of the reverberation beside the dry sound (`SoX`).
const WET_GAIN: f32 = 0.015;

/// A room. Each value is a percentage, 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Room {
    /// How long it sounds on.
    pub reverberance: f32,
    /// How fast the treble fades.
    pub damping: f32,
    /// How far the walls are apart.
    pub size: f32,
}

/// Adds the reverberation of a room, length kept.
pub fn reverb(window: &mut [f32], room: Room) {
    let share = |percent: f32| percent.clamp(0.0, 100.0) / 100.0;
    // SoX's scales: a reverberance of 0 feeds 0.3 back, 100 feeds 0.98 back, in even steps of the decay time's
    // logarithm.
    let feedback = 1.0 - 0.7 * (0.02_f32 / 0.7).powf(share(room.reverberance));
    let damping = 0.2 + 0.3 * share(room.damping);
    let scale = (0.1 + 0.9 * share(room.size)) * SAMPLE_RATE_HZ as f32 / 44_100.0;
    let lengths = |length: usize| ((length as f32 * scale).round() as usize).max(1);

    let mut wet = vec![0.0; window.len()];
    for length in COMBS.map(lengths) {
        let mut delay = Delay::new(length);
        let mut low = 0.0;
        for (wet, &dry) in wet.iter_mut().zip(window.iter()) {
            let output = delay.oldest();
            low = output + (low - output) * damping;
            delay.push(dry + low * feedback);
            *wet += output;
        }
    }
    for length in ALL_PASSES.map(lengths) {
        let mut delay = Delay::new(length);
        for wet in &mut wet {
            let output = delay.oldest();
            delay.push(*wet + output * ALL_PASS_FEEDBACK);
            *wet = output - *wet;
        }
    }
    for (dry, wet) in window.iter_mut().zip(wet) {
        *dry += WET_GAIN * wet;
    }
}

/// The last samples of a signal.
struct Delay {
    samples: Vec<f32>,
    at: usize,
}

impl Delay {
    fn new(length: usize) -> Self {
        Self { samples: vec![0.0; length], at: 0 }
    }

    /// The sample that was pushed `length` pushes ago.
    fn oldest(&self) -> f32 {
        self.samples[self.at]
    }

    fn push(&mut self, sample: f32) {
        self.samples[self.at] = sample;
        self.at += 1;
        if self.at == self.samples.len() {
            self.at = 0;
        }
    }
}
