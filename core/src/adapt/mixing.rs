//! The room's sound, laid over music.
//!
//! ```text
//! room blocks of one part -> excerpt, looped where it is short -+-> at an SNR --> as loud as the music was before
//! music ---------------------------------------------------------+
//! ```
//!
//! A mixture is as loud as its music, and the room by itself is made as loud as some music: else what is learnt of noise
//! would be that it is louder, or softer, than a record.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::material::{Block, Part, Recording};
use crate::audio::mix_snr;
use crate::tags::SILENCE_PEAK;

/// Excerpts that are tried before a mixture stays clean for want of any that sounds.
const TRIES: usize = 20;

/// Random numbers for one purpose, so that what is drawn for one thing never depends on how much was drawn for another.
pub(super) fn rng(seed: u64, purpose: &str, index: u64) -> StdRng {
    // FNV-1a over everything that names the stream.
    let bytes = purpose.bytes().chain(seed.to_le_bytes()).chain(index.to_le_bytes());
    StdRng::seed_from_u64(
        bytes.fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)),
    )
}

/// The room, as far as one part may hear it.
#[derive(Clone, Debug)]
pub(super) struct RoomSound<'m> {
    recordings: &'m [Recording],
    blocks: Vec<Block>,
}

impl<'m> RoomSound<'m> {
    pub fn new(recordings: &'m [Recording], blocks: &[Block], part: Part) -> Self {
        Self { recordings, blocks: blocks.iter().filter(|block| block.part == part).copied().collect() }
    }

    /// `len` samples from anywhere, a block that is too short repeated; silence if there is nothing else.
    pub fn excerpt(&self, len: usize, rng: &mut StdRng) -> Vec<f32> {
        let mut excerpt = vec![0.0; len];
        for _ in 0..TRIES {
            if self.blocks.is_empty() {
                break;
            }
            let block = self.blocks[rng.random_range(0..self.blocks.len())].samples(self.recordings);
            let start = rng.random_range(0..block.len());
            let from = if block.len() >= len { rng.random_range(0..=block.len() - len) } else { start };
            for (index, sample) in excerpt.iter_mut().enumerate() {
                *sample = block[(from + index) % block.len()];
            }
            if excerpt.iter().any(|sample| sample.abs() >= SILENCE_PEAK) {
                break;
            }
        }
        excerpt
    }

    /// Lays the room over `music` at `snr_db`, without making it louder.
    pub fn add(&self, music: &mut [f32], snr_db: i32, rng: &mut StdRng) {
        let level = rms(music);
        mix_snr(music, &[&self.excerpt(music.len(), rng)], snr_db as f32);
        set_level(music, level);
    }
}

/// Root of the mean square.
pub(super) fn rms(samples: &[f32]) -> f32 {
    let sum: f64 = samples.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    (sum / samples.len().max(1) as f64).sqrt() as f32
}

/// Makes `samples` as loud as `level` says; silence stays silence.
pub(super) fn set_level(samples: &mut [f32], level: f32) {
    let own = rms(samples);
    if own > 0.0 {
        let gain = level / own;
        samples.iter_mut().for_each(|sample| *sample *= gain);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapt::material::divide;
    use crate::adapt::testing::{music, noise};

    #[test]
    fn a_mixture_has_its_ratio_and_the_musics_level() {
        let room = [Recording { name: "room".into(), samples: noise(100.0, 1) }];
        let sound = RoomSound::new(&room, &divide(&room), Part::Train);
        let clean = music(5.0, 2);
        let mut mixed = clean.clone();
        sound.add(&mut mixed, 0, &mut rng(1, "test", 0));
        assert!((rms(&mixed) / rms(&clean) - 1.0).abs() < 1e-3);
        // Equal powers that do not know of each other: the music is left at 1/sqrt(2) of its level.
        let share: f64 = mixed.iter().zip(&clean).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
            / clean.iter().map(|b| f64::from(*b) * f64::from(*b)).sum::<f64>();
        assert!((share - 0.707).abs() < 0.05, "{share}");
    }

    #[test]
    fn parts_hear_their_own_room_and_short_blocks_repeat() {
        let room = [Recording { name: "room".into(), samples: noise(100.0, 1) }];
        let blocks = divide(&room);
        let of = |part| RoomSound::new(&room, &blocks, part).blocks;
        for block in of(Part::Test) {
            assert!(!of(Part::Train).contains(&block));
        }
        let sound = RoomSound::new(&room, &blocks, Part::Test);
        let long = sound.excerpt(60 * 22_050, &mut rng(1, "test", 1));
        assert!(long[50 * 22_050..].iter().any(|x| x.abs() > 0.01));
        let same = |index| sound.excerpt(1_000, &mut rng(1, "test", index));
        assert_eq!(same(2), same(2));
        assert_ne!(same(2), same(3));
    }
}
