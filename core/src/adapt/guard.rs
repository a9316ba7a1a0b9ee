//! Before and after, on music and room that nothing was learnt from.
//!
//! ```text
//! blocks of music -+-> as they are --------------------> engine --> clip probabilities --+-> distance from what
//!   of one part    +-> with its room, 10 .. -10 dB ----> engine --> clip probabilities --'   the unchanged model
//!                                                                                            says of them clean
//! ```
//!
//! Everything is compared with the unchanged model on clean music: a model that says the same whatever it hears agrees
//! with itself perfectly and is found out here.

use super::control::Control;
use super::examples::hear;
use super::material::{Block, Material, Part};
use super::mixing::{RoomSound, rng};
use super::report::{AdaptError, Agreement, GUARD_SNR_DB};
use crate::engine::Engine;
use crate::tags::{ClipProbabilities, sigmoid};

/// Noises laid over every clip at each ratio.
const DRAWS: u64 = 2;

/// The clips on which models are compared, and what the unchanged one says of them.
pub(super) struct Guard<'m> {
    clips: Vec<&'m [f32]>,
    room: RoomSound<'m>,
    thresholds: &'m [f32],
    seed: u64,
    /// Clip probabilities of the unchanged model on clean music.
    reference: Vec<Vec<f32>>,
}

impl<'m> Guard<'m> {
    /// Takes down what `unchanged` says of the clips of `part`.
    pub fn new(
        unchanged: &dyn Engine,
        material: &'m Material,
        blocks: (&[Block], &[Block]),
        part: Part,
        thresholds: &'m [f32],
        seed: u64,
        control: &Control,
    ) -> Result<Self, AdaptError> {
        let clean = blocks.0.iter().filter(|block| block.part == part);
        let mut guard = Self {
            clips: clean.map(|block| block.samples(&material.clean)).collect(),
            room: RoomSound::new(&material.room, blocks.1, part),
            thresholds,
            seed,
            reference: Vec::new(),
        };
        for clip in guard.clips.clone() {
            control.look()?;
            guard.reference.push(probabilities(unchanged, clip)?);
        }
        Ok(guard)
    }

    pub fn num_clips(&self) -> usize {
        self.clips.len()
    }

    /// How near `engine` is on clean music.
    pub fn clean(&self, engine: &dyn Engine, control: &Control) -> Result<Agreement, AdaptError> {
        let mut sum = Sum::default();
        for (clip, reference) in self.clips.iter().zip(&self.reference) {
            control.look()?;
            sum.add(reference, &probabilities(engine, clip)?, self.thresholds);
        }
        Ok(sum.agreement())
    }

    /// How near `engine` is with the room over the music, at each of [`GUARD_SNR_DB`].
    pub fn noisy(&self, engine: &dyn Engine, control: &Control) -> Result<Vec<Agreement>, AdaptError> {
        let mut noisy = vec![Sum::default(); GUARD_SNR_DB.len()];
        for (index, (clip, reference)) in (0_u64..).zip(self.clips.iter().zip(&self.reference)) {
            control.look()?;
            for (place, (sum, snr_db)) in (0_u64..).zip(noisy.iter_mut().zip(GUARD_SNR_DB)) {
                for draw in 0..DRAWS {
                    // Every model meets the same mixtures.
                    let which = (index * GUARD_SNR_DB.len() as u64 + place) * DRAWS + draw;
                    let mut mixed = clip.to_vec();
                    self.room.add(&mut mixed, snr_db, &mut rng(self.seed, "guard", which));
                    sum.add(reference, &probabilities(engine, &mixed)?, self.thresholds);
                }
            }
        }
        Ok(noisy.iter().map(Sum::agreement).collect())
    }
}

/// The mean over a clip's windows; zeros if all are silent.
fn probabilities(engine: &dyn Engine, samples: &[f32]) -> Result<Vec<f32>, AdaptError> {
    let mut clip = ClipProbabilities::new(engine.num_tags());
    let mut window = vec![0.0; engine.num_tags()];
    hear(engine, samples, &mut |_, _, logits| {
        for (probability, &logit) in window.iter_mut().zip(logits) {
            *probability = sigmoid(logit);
        }
        clip.push(&window);
    })?;
    Ok(clip.mean().unwrap_or_else(|| vec![0.0; engine.num_tags()]))
}

#[derive(Clone, Copy, Default)]
struct Sum {
    distance: f64,
    values: u32,
    both: u32,
    either: u32,
}

impl Sum {
    fn add(&mut self, reference: &[f32], found: &[f32], thresholds: &[f32]) {
        for ((&reference, &found), &threshold) in reference.iter().zip(found).zip(thresholds) {
            self.distance += f64::from((reference - found).abs());
            self.values += 1;
            let (was, is) = (reference >= threshold, found >= threshold);
            self.both += u32::from(was && is);
            self.either += u32::from(was || is);
        }
    }

    fn agreement(&self) -> Agreement {
        // Where no tag is certain to anyone, none is lost.
        let kept = if self.either == 0 { 1.0 } else { f64::from(self.both) / f64::from(self.either) };
        Agreement { distance: self.distance / f64::from(self.values.max(1)), kept }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapt::material::{Recording, divide};
    use crate::adapt::testing::{music, noise};
    use crate::engine::{CpuEngine, test_model};

    #[test]
    fn a_model_agrees_with_itself_on_clean_music_and_another_does_not() {
        let recording = |samples| Recording { name: String::new(), samples };
        let material = Material { clean: vec![recording(music(90.0, 1))], room: vec![recording(noise(90.0, 1))] };
        let (clean, room) = (divide(&material.clean), divide(&material.room));
        let (control, model) = (Control::new(), test_model(None, 3));
        let engine = CpuEngine::new(&model, 1).expect("valid");
        let thresholds = [0.5; 5];
        let guard =
            Guard::new(&engine, &material, (&clean, &room), Part::Test, &thresholds, 1, &control).expect("heard");
        assert_eq!(guard.num_clips(), 1);
        let same = guard.clean(&engine, &control).expect("heard");
        let noisy = guard.noisy(&engine, &control).expect("heard");
        assert_eq!(same, Agreement { distance: 0.0, kept: 1.0 });
        assert_eq!(noisy.len(), 5);
        assert!(noisy[4].distance > noisy[0].distance && noisy[4].distance > 0.0, "{noisy:?}");

        // One that says the same of everything: near to nothing, however well it agrees with itself.
        let mut constant = model.clone();
        constant.weights.head[0].weight.fill(0.0);
        constant.weights.head[0].bias.fill(4.0);
        let constant = CpuEngine::new(&constant, 1).expect("valid");
        let clean = guard.clean(&constant, &control).expect("heard");
        let noisy = guard.noisy(&constant, &control).expect("heard");
        assert!(clean.distance > 0.1 && (clean.distance - noisy[4].distance).abs() < 1e-6, "{clean:?} {noisy:?}");
    }

    #[test]
    fn certain_tags_are_counted_over_both() {
        let mut sum = Sum::default();
        sum.add(&[0.9, 0.8, 0.1, 0.1], &[0.9, 0.2, 0.7, 0.1], &[0.5; 4]);
        let Agreement { distance, kept } = sum.agreement();
        assert!((kept - 1.0 / 3.0).abs() < 1e-9 && (distance - 0.3).abs() < 1e-6);
        assert!((Sum::default().agreement().kept - 1.0).abs() < 1e-9);
    }
}
