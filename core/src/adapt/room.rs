//! Stage 3 on the device: the tagger learns to hear music through this room.
//!
//! ```text
//! source: clean music       logits that the unchanged model has for it --+
//! target: music + room      those of the same music clean ---------------+-> dat_gradients -> Adam
//!         room with music   nothing is known ----------------------------+
//! ```
//!
//! No person labels anything. The unchanged model's logits on clean music hold the tagger where it is; the reversed
//! domain gradient, and the same logits for the same music under noise, move what it hears in the room there.
//!
//! Batch norm keeps its running statistics: the function that is trained is the one that inference computes, and a batch
//! half of noise cannot move what clean music is normalised by. Its scale and offset learn.

use burn::optim::ModuleOptimizer;
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;

use super::examples::hear;
use super::material::{Block, Material, Part};
use super::mixing::{RoomSound, rms, rng, set_level};
use super::optimiser::{StateError, network_from_bytes, network_to_bytes, optimiser_from_bytes, optimiser_to_bytes};
use super::report::{AdaptError, RoomSettings, RoomStep};
use super::{
    Adversarial, AdversarialLoss, BatchStatistics, Consistency, DatNetworks, Labels, Supervision, adam, dat_gradients,
    take_gradients,
};
use crate::WINDOW_SAMPLES;
use crate::engine::Engine;
use crate::model::{DomainClassifier, Tagger};
use crate::model_file::Model;
use crate::weights::{DomainWeights, Weights};

/// Below this spread of the embedding every window looks the same.
const COLLAPSED: f64 = 1e-6;

/// Share of the target that is the room by itself, where there is music in it.
const ROOM_SHARE: f64 = 0.25;

/// A window of clean music and the unchanged model's logits for it.
struct Known {
    block: usize,
    start: usize,
    /// `[num_tags]`.
    logits: Vec<f32>,
}

/// Makes the batches; a batch is a function of seed and step alone.
pub(super) struct RoomBatches<'m> {
    material: &'m Material,
    clean: Vec<Block>,
    room: RoomSound<'m>,
    known: Vec<Known>,
    /// The room's recordings hold music of their own.
    room_has_music: bool,
    seed: u64,
}

/// One update's windows.
pub(super) struct RoomBatch {
    pub source: Vec<f32>,
    pub source_logits: Vec<f32>,
    pub target: Vec<f32>,
    /// For the first windows of `target`, as they are without the room.
    pub target_logits: Vec<f32>,
}

impl<'m> RoomBatches<'m> {
    /// Takes down the logits of `unchanged` for every window of the training part.
    pub fn new(
        unchanged: &dyn Engine,
        material: &'m Material,
        blocks: (&[Block], &[Block]),
        room_has_music: bool,
        seed: u64,
    ) -> Result<Self, AdaptError> {
        let clean: Vec<Block> = blocks.0.iter().filter(|block| block.part == Part::Train).copied().collect();
        let mut known = Vec::new();
        for (index, block) in clean.iter().enumerate() {
            hear(unchanged, block.samples(&material.clean), &mut |start, _, logits| {
                known.push(Known { block: index, start, logits: logits.to_vec() });
            })?;
        }
        let room = RoomSound::new(&material.room, blocks.1, Part::Train);
        Ok(Self { material, clean, room, known, room_has_music, seed })
    }

    fn window(&self, known: &Known) -> &'m [f32] {
        &self.clean[known.block].samples(&self.material.clean)[known.start..known.start + WINDOW_SAMPLES]
    }

    /// The batch of `step`, counted from 0.
    pub fn batch(&self, step: u64, settings: &RoomSettings) -> RoomBatch {
        let rng = &mut rng(self.seed, "batch of the room", step);
        let num_target = settings.batch / 2;
        let num_room = if self.room_has_music { (num_target as f64 * ROOM_SHARE) as usize } else { 0 };
        let mut batch = RoomBatch { source: vec![], source_logits: vec![], target: vec![], target_logits: vec![] };
        for _ in 0..settings.batch - num_target {
            let known = &self.known[rng.random_range(0..self.known.len())];
            batch.source.extend_from_slice(self.window(known));
            batch.source_logits.extend_from_slice(&known.logits);
        }
        let [low, high] = settings.snr_db;
        for _ in 0..num_target - num_room {
            let known = &self.known[rng.random_range(0..self.known.len())];
            let mut mixed = self.window(known).to_vec();
            let snr_db = rng.random_range(low..=high);
            self.room.add(&mut mixed, snr_db, rng);
            batch.target.extend_from_slice(&mixed);
            batch.target_logits.extend_from_slice(&known.logits);
        }
        for _ in 0..num_room {
            let mut window = self.room.excerpt(WINDOW_SAMPLES, rng);
            let like = &self.known[rng.random_range(0..self.known.len())];
            set_level(&mut window, rms(self.window(like)));
            batch.target.extend_from_slice(&window);
        }
        batch
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

/// Networks and optimisers between two updates.
pub(super) struct RoomTraining {
    networks: DatNetworks,
    optimiser: ModuleOptimizer,
    domain_optimiser: ModuleOptimizer,
    device: Device,
    num_tags: usize,
    /// Updates done.
    pub step: u64,
}

/// What is kept of a training between two runs.
pub(super) struct RoomState {
    pub step: u64,
    pub networks: Vec<u8>,
    pub optimiser: Vec<u8>,
    pub domain_optimiser: Vec<u8>,
}

impl RoomTraining {
    /// Before the first update.
    pub fn new(model: &Model, classifier: &DomainWeights, device: &Device) -> Self {
        let device = device.clone().autodiff();
        let Tagger { feature_extractor, label_predictor } =
            Tagger::from_weights(&model.metadata.architecture, &model.weights, &device);
        let networks = DatNetworks {
            feature_extractor,
            projector: None,
            label_predictor,
            domain_classifier: Some(DomainClassifier::from_weights(classifier, &device)),
        };
        Self {
            networks,
            optimiser: adam(0.0),
            domain_optimiser: adam(0.0),
            device,
            num_tags: model.metadata.architecture.num_tags,
            step: 0,
        }
    }

    /// Goes on from what was kept.
    pub fn resume(mut self, state: RoomState) -> Result<Self, StateError> {
        self.networks = network_from_bytes(self.networks, state.networks)?;
        self.optimiser = optimiser_from_bytes(self.optimiser, state.optimiser)?;
        self.domain_optimiser = optimiser_from_bytes(self.domain_optimiser, state.domain_optimiser)?;
        self.step = state.step;
        Ok(self)
    }

    /// What is to be kept.
    pub fn state(&self) -> Result<RoomState, StateError> {
        Ok(RoomState {
            step: self.step,
            networks: network_to_bytes(&self.networks)?,
            optimiser: optimiser_to_bytes(&self.optimiser)?,
            domain_optimiser: optimiser_to_bytes(&self.domain_optimiser)?,
        })
    }

    /// One update: forward, backward, Adam.
    pub fn update(&mut self, batch: RoomBatch, settings: &RoomSettings) -> Result<RoomStep, AdaptError> {
        let windows = |samples: Vec<f32>| self.tensor(samples, WINDOW_SAMPLES);
        let labels = |logits: Vec<f32>| Labels::logits(self.tensor(logits, self.num_tags));
        let adversarial = Adversarial {
            target: windows(batch.target),
            loss: AdversarialLoss::Minimax,
            reversal: settings.alpha.at(self.step, settings.steps) * settings.lambda,
            consistency: Some(Consistency { clean_tags: labels(batch.target_logits), weight: settings.consistency }),
        };
        let (source, source_tags) = (windows(batch.source), labels(batch.source_logits));
        let (mut gradients, health) = dat_gradients(
            &self.networks,
            source,
            source_tags,
            Supervision::Adversarial(adversarial),
            BatchStatistics::Fixed,
        );
        let progress = self.step as f64 / settings.steps as f64;
        let decay = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        if let Some(classifier) = self.networks.domain_classifier.take() {
            let gradients = take_gradients(&classifier, &mut gradients);
            let rate = decay * settings.domain_learning_rate;
            self.networks.domain_classifier = Some(self.domain_optimiser.step(rate, classifier, gradients));
        }
        self.networks = self.optimiser.step(decay * settings.learning_rate, self.networks.clone(), gradients);
        self.step += 1;
        let diverged = |cause: String| AdaptError::Diverged { step: self.step, cause };
        if !health.is_finite() {
            return Err(diverged(format!("the losses are no longer numbers ({health:?})")));
        }
        if health.embedding_spread < COLLAPSED {
            return Err(diverged("the embedding has collapsed, every window looks the same".to_owned()));
        }
        Ok(RoomStep {
            step: self.step,
            total: settings.steps,
            label_loss: health.label_loss,
            consistency_loss: health.consistency_loss.unwrap_or_default(),
            domain_loss: health.adversary.map_or(0.0, |adversary| adversary.domain_loss),
            domain_accuracy: health.adversary.map_or(0.5, |adversary| adversary.domain_accuracy),
        })
    }

    fn tensor(&self, values: Vec<f32>, columns: usize) -> Tensor<2> {
        let rows = values.len() / columns;
        Tensor::from_data(TensorData::new(values, [rows, columns]), &self.device)
    }

    /// The tagger as it is now.
    pub fn weights(&self) -> Weights {
        let DatNetworks { feature_extractor, label_predictor, .. } = self.networks.clone();
        Tagger { feature_extractor, label_predictor }.to_weights()
    }

    /// The domain classifier as it is now.
    pub fn classifier(&self) -> Option<DomainWeights> {
        self.networks.domain_classifier.as_ref().map(DomainClassifier::to_weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapt::material::{Recording, divide};
    use crate::adapt::testing::{music, noise};
    use crate::engine::{CpuEngine, test_model};

    fn material() -> Material {
        let recording = |samples| Recording { name: String::new(), samples };
        Material { clean: vec![recording(music(90.0, 1))], room: vec![recording(noise(90.0, 1))] }
    }

    fn with_batches<R>(room_has_music: bool, act: impl FnOnce(&Model, &RoomBatches<'_>) -> R) -> R {
        let (material, model) = (material(), test_model(Some(12), 3));
        let (clean, room) = (divide(&material.clean), divide(&material.room));
        let engine = CpuEngine::new(&model, 1).expect("valid");
        let batches = RoomBatches::new(&engine, &material, (&clean, &room), room_has_music, 1).expect("heard");
        act(&model, &batches)
    }

    fn settings() -> RoomSettings {
        RoomSettings { steps: 4, batch: 6, learning_rate: 1e-3, ..RoomSettings::default() }
    }

    fn training(model: &Model) -> RoomTraining {
        let classifier = DomainWeights::untrained(model.metadata.architecture.embedding_len(), 4, 1);
        RoomTraining::new(model, &classifier, &Device::flex())
    }

    #[test]
    fn batches_hold_known_music_with_and_without_the_room() {
        with_batches(false, |_, batches| {
            let batch = batches.batch(0, &settings());
            assert_eq!(batch.source.len(), 3 * WINDOW_SAMPLES);
            assert_eq!((batch.target.len(), batch.target_logits.len()), (3 * WINDOW_SAMPLES, 3 * 5));
            assert_eq!(batches.batch(1, &settings()).source, batches.batch(1, &settings()).source);
            assert_ne!(batches.batch(1, &settings()).source, batch.source);
        });
        with_batches(true, |_, batches| {
            let batch = batches.batch(0, &RoomSettings { batch: 16, ..settings() });
            assert_eq!((batch.target.len(), batch.target_logits.len()), (8 * WINDOW_SAMPLES, 6 * 5));
        });
    }

    #[test]
    fn updates_move_the_weights_and_leave_the_statistics() {
        with_batches(false, |model, batches| {
            let mut training = training(model);
            let classifier = training.classifier();
            let step = training.update(batches.batch(0, &settings()), &settings()).expect("finite");
            assert_eq!((step.step, step.total), (1, 4));
            // Nothing is wrong with clean music yet.
            assert!(step.consistency_loss > 10.0 * step.label_loss && step.label_loss < 1e-6, "{step:?}");
            let after = training.weights();
            for (before, after) in model.weights.convs.iter().zip(&after.convs) {
                assert_eq!((&before.running_mean, &before.running_var), (&after.running_mean, &after.running_var));
                assert_ne!(before.weight, after.weight);
                assert_ne!(before.gamma, after.gamma);
            }
            assert_ne!(model.weights.head, after.head);
            assert_ne!(classifier, training.classifier());
        });
    }

    #[test]
    fn what_was_kept_goes_on_bit_for_bit() {
        with_batches(false, |model, batches| {
            let run = |training: &mut RoomTraining, steps: std::ops::Range<u64>| {
                for step in steps {
                    training.update(batches.batch(step, &settings()), &settings()).expect("finite");
                }
            };
            let (mut whole, mut first) = (training(model), training(model));
            run(&mut whole, 0..4);
            run(&mut first, 0..2);
            let mut second = training(model).resume(first.state().expect("saved")).expect("taken up");
            assert_eq!(second.step, 2);
            run(&mut second, 2..4);
            assert!(second.weights() == whole.weights() && second.classifier() == whole.classifier());
            let broken = RoomState { networks: vec![1, 2, 3], ..first.state().expect("saved") };
            assert!(training(model).resume(broken).is_err());
        });
    }
}
