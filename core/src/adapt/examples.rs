//! What the domain classifier learns from: embeddings, computed once and kept.
//!
//! ```text
//! clean music, as it is and at another level --+
//! the same with the room on it, twice ---------+-> engine, at hop 6,561 -> Examples of each part
//! the room by itself, as loud as music --------+      (windows share their work)
//! ```

use rand::RngExt;

use super::Domain;
use super::control::Control;
use super::material::{Block, Material, Part};
use super::mixing::{RoomSound, rms, rng, set_level};
use super::report::AdaptError;
use crate::engine::{Engine, Hop};
use crate::tags::SilenceGate;

/// Signal-to-noise ratios of mixtures in stage 2, in dB (thesis, section 4.3).
const SNR_DB: std::ops::RangeInclusive<i32> = -10..=10;

/// How much softer than it is a block may be made, in dB: a classifier must not take a low level for noise.
const SOFTER_DB: std::ops::Range<f32> = -12.0..0.0;

/// Mixtures of every block.
const MIXTURES: u64 = 2;

/// What a window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Music alone.
    Clean,
    /// The room alone.
    Room,
    /// Music and room, at this many dB.
    Mixed(i32),
}

impl Kind {
    pub fn domain(self) -> Domain {
        if self == Self::Clean { Domain::Source } else { Domain::Target }
    }
}

/// Embeddings of windows, and what these are.
#[derive(Clone, Debug, Default)]
pub(super) struct Examples {
    /// `[len, embedding_len]`.
    pub embeddings: Vec<f32>,
    /// `[len]`.
    pub kinds: Vec<Kind>,
}

impl Examples {
    pub fn embedding(&self, index: usize) -> &[f32] {
        let len = self.embeddings.len() / self.kinds.len().max(1);
        &self.embeddings[index * len..(index + 1) * len]
    }

    /// Indices of the windows of a domain.
    pub fn of(&self, domain: Domain) -> Vec<usize> {
        (0..self.kinds.len()).filter(|&index| self.kinds[index].domain() == domain).collect()
    }
}

/// One thing for each part.
#[derive(Clone, Debug, Default)]
pub(super) struct ByPart<T> {
    pub train: T,
    pub valid: T,
    pub test: T,
}

impl<T> ByPart<T> {
    pub fn of(&mut self, part: Part) -> &mut T {
        match part {
            Part::Train => &mut self.train,
            Part::Valid => &mut self.valid,
            Part::Test => &mut self.test,
        }
    }
}

/// A window that was heard: first sample within its block, embedding, logits.
pub(super) type Heard<'w> = dyn FnMut(usize, &[f32], &[f32]) + 'w;

/// Has `engine` hear a block; silent and padded windows are passed over.
pub(super) fn hear(engine: &dyn Engine, samples: &[f32], each: &mut Heard<'_>) -> Result<(), AdaptError> {
    let mut gate = SilenceGate::new();
    gate.push(samples);
    let mut stream = engine.stream(Hop::DEFAULT);
    let mut sink = |window: crate::engine::WindowResult<'_>| {
        if !window.padded && !gate.window_is_silent(window.start) {
            each(window.start as usize, window.embedding, window.logits);
        }
    };
    stream.push(samples, &mut sink)?;
    Ok(())
}

/// Hears everything there is, in all its forms. `progress` is told the share that is done.
pub(super) fn collect(
    engine: &dyn Engine,
    material: &Material,
    blocks: (&[Block], &[Block]),
    seed: u64,
    control: &Control,
    progress: &mut dyn FnMut(f64),
) -> Result<ByPart<Examples>, AdaptError> {
    let (clean_blocks, room_blocks) = blocks;
    let mut examples = ByPart::<Examples>::default();
    let total = (clean_blocks.len() as u64 * (2 + MIXTURES) + room_blocks.len() as u64).max(1) as f64;
    let mut done = 0_u64;
    let mut take = |part: Part, kind: Kind, samples: &[f32]| -> Result<(), AdaptError> {
        control.look()?;
        let examples = examples.of(part);
        hear(engine, samples, &mut |_, embedding, _| {
            examples.embeddings.extend_from_slice(embedding);
            examples.kinds.push(kind);
        })?;
        done += 1;
        progress(done as f64 / total);
        Ok(())
    };
    let softer = |samples: &mut [f32], index: u64, form: &str| {
        let gain = 10_f32.powf(rng(seed, form, index).random_range(SOFTER_DB) / 20.0);
        samples.iter_mut().for_each(|sample| *sample *= gain);
    };
    for (index, block) in (0_u64..).zip(clean_blocks) {
        let clean = block.samples(&material.clean);
        let room = RoomSound::new(&material.room, room_blocks, block.part);
        take(block.part, Kind::Clean, clean)?;
        let mut soft = clean.to_vec();
        softer(&mut soft, index, "softer music");
        take(block.part, Kind::Clean, &soft)?;
        for mixture in 0..MIXTURES {
            let draw = index * MIXTURES + mixture;
            let rng = &mut rng(seed, "mixture", draw);
            let snr_db = rng.random_range(SNR_DB);
            let mut mixed = clean.to_vec();
            room.add(&mut mixed, snr_db, rng);
            // Half as they are, half softer, as the music is.
            if mixture % 2 == 1 {
                softer(&mut mixed, draw, "softer mixture");
            }
            take(block.part, Kind::Mixed(snr_db), &mixed)?;
        }
    }
    for (index, block) in (0_u64..).zip(room_blocks) {
        let same_part: Vec<&Block> = clean_blocks.iter().filter(|clean| clean.part == block.part).collect();
        let mut room = block.samples(&material.room).to_vec();
        if !same_part.is_empty() {
            let like = same_part[rng(seed, "level of the room", index).random_range(0..same_part.len())];
            set_level(&mut room, rms(like.samples(&material.clean)));
        }
        softer(&mut room, index, "softer room");
        take(block.part, Kind::Room, &room)?;
    }
    Ok(examples)
}
