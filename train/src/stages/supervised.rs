//! The supervised reference: feature extractor and head on tag targets.
//!
//! ```text
//! windows [batch, 59049] -> feature extractor -> embedding [batch, 512] -> dropout -> head -> logits [batch, tags]
//! loss = binary cross entropy with the targets; AdamW; cosine schedule; moving average of the weights
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor, TensorData};
use earmark_core::WINDOW_SAMPLES;
use earmark_core::adapt::binary_cross_entropy_with_logits;
use earmark_core::engine::CpuEngine;
use earmark_core::model::Tagger;
use earmark_core::weights::{Architecture, Weights};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::clock::Clock;
use super::{
    NETWORK_FILE, OPTIMISER_FILE, Outcome, adam, learning_rate, network_from_bytes, network_to_bytes,
    optimiser_from_bytes, optimiser_to_bytes,
};
use crate::config::{BestBy, Config};
use crate::data::batches::{BatchSource, prefetch};
use crate::data::clips::Clip;
use crate::eval::metrics::Metrics;
use crate::eval::thresholds::{self, Choice};
use crate::progress::Progress;
use crate::run::{Checkpoint, RunFolder};
use crate::{eval, export, rng, weights};

/// Moving average of the weights ([`weights::to_bytes`]).
const AVERAGE_FILE: &str = "average.f32";
/// Weights of the newest validation ([`weights::to_bytes`]).
pub(super) const NEWEST_FILE: &str = "newest.f32";
/// Best weights so far ([`weights::to_bytes`]).
pub(super) const BEST_FILE: &str = "best.f32";

/// What the stage learns from and is measured on.
#[derive(Debug)]
pub struct SupervisedData {
    /// Training batches.
    pub train: Arc<BatchSource>,
    /// Training clips whose labels may be read, by index, besides what the batches hold: thresholds are chosen on them.
    pub labelled: Vec<usize>,
    /// Validation clips.
    pub valid: Vec<Clip>,
    /// Tag names in the order of the targets.
    pub tags: Vec<String>,
}

/// Place in the run; with the files beside it, all that a resumed run needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// Steps done.
    pub(super) step: u64,
    /// Epoch of the next step, from 0.
    pub(super) epoch: usize,
    /// Next step within the epoch, from 0.
    pub(super) step_in_epoch: usize,
    /// Time spent so far.
    pub(super) elapsed_secs: f64,
    /// Best validation so far.
    pub(super) best: Option<Validation>,
    /// Newest validation.
    #[serde(default)]
    pub(super) newest: Option<Validation>,
}

/// A validation, and what goes into a model file besides the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Epochs done when these weights were validated.
    pub epoch: usize,
    /// Value of the measure that decides.
    pub score: f64,
    /// Measures on clip probabilities of the validation split.
    pub metrics: Metrics,
    /// Decision threshold per tag.
    pub thresholds: Vec<f32>,
    /// How each threshold was chosen.
    pub threshold_choices: Vec<Choice>,
}

/// One of the validated states of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Which {
    /// Best on the validation split.
    #[default]
    Best,
    /// Validated last.
    Newest,
}

/// Validated weights of a run.
#[derive(Clone, Debug)]
pub struct Validated {
    /// Shape of the network.
    pub architecture: Architecture,
    /// Its numbers.
    pub weights: Weights,
    /// Their validation.
    pub validation: Validation,
}

/// Everything that changes from step to step.
struct Training {
    network: Tagger,
    optimiser: ModuleOptimizer,
    /// Moving average, where it is on.
    average: Option<Weights>,
    best_weights: Option<Weights>,
    newest_weights: Option<Weights>,
    state: State,
}

/// Trains on `device` until all epochs are done or `stop` is raised. Continues from the newest checkpoint of `run` if
/// there is one, whatever device that was made on.
///
/// # Errors
/// If the run's folder cannot be read or written, or the loss is no longer a number.
pub fn train(
    run: &RunFolder,
    config: &Config,
    data: &SupervisedData,
    device: &Device,
    progress: Progress,
    stop: &AtomicBool,
) -> Result<Outcome> {
    let stage = &config.supervised;
    let architecture = config.architecture(data.tags.len());
    let device = device.clone().autodiff();

    let steps_per_epoch = data.train.steps_per_epoch();
    let total_steps = (stage.epochs * steps_per_epoch) as u64;
    let warmup_steps = (stage.warmup_epochs * steps_per_epoch as f64).round() as u64;

    let Training { mut network, mut optimiser, mut average, mut best_weights, mut newest_weights, mut state } =
        Training::start(run, config, &architecture, &device)?;
    let mut log = run.metrics_log(state.step)?;
    let bar = progress.bar("training", total_steps);
    bar.set_position(state.step);
    let mut clock = Clock::new(state.elapsed_secs, state.step);

    let batches = data.train.clone();
    let make = move |epoch, step| batches.batch(epoch, step);
    for (epoch, step_in_epoch, batch) in
        prefetch(make, steps_per_epoch, stage.epochs, (state.epoch, state.step_in_epoch))
    {
        // Forward, backward, update.
        let windows = Tensor::<2>::from_data(TensorData::new(batch.windows, [batch.size, WINDOW_SAMPLES]), &device);
        let targets =
            Tensor::<2>::from_data(TensorData::new(batch.tag_targets, [batch.size, data.tags.len()]), &device);
        let mut embedding = network.feature_extractor.forward(windows); // [batch, 512]
        if stage.dropout > 0.0 {
            embedding =
                embedding.clone() * dropout_mask(embedding.dims(), stage.dropout, config.seed, state.step, &device);
        }
        let logits = network.label_predictor.forward(embedding); // [batch, tags]
        let loss = binary_cross_entropy_with_logits(logits, targets);
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        let rate = learning_rate(stage.learning_rate, state.step, warmup_steps, total_steps);
        network = optimiser.step(rate, network, gradients);

        let loss: f32 = loss.into_scalar();
        if !loss.is_finite() {
            bail!(
                "step {}: the loss is {loss}; lower supervised.learning_rate (it is {}) or lengthen warmup_epochs, and \
                 start a new run",
                state.step + 1,
                stage.learning_rate
            );
        }
        if let Some(average) = &mut average {
            weights::average(average, &network.to_weights(), stage.ema_decay, state.step);
        }
        state.step += 1;
        (state.epoch, state.step_in_epoch) =
            if step_in_epoch + 1 == steps_per_epoch { (epoch + 1, 0) } else { (epoch, step_in_epoch + 1) };
        log.write(&json!({
            "event": "step", "step": state.step, "epoch": epoch + 1, "loss": loss, "learning_rate": rate,
        }))?;
        clock.stepped(batch.size, state.step);
        bar.set_position(state.step);
        bar.set_message(format!("epoch {}/{} loss {loss:.4} {}", epoch + 1, stage.epochs, clock.text(total_steps)));

        // Validation, at the end of an epoch.
        let epoch_done = state.step_in_epoch == 0;
        let validate =
            epoch_done && (state.epoch.is_multiple_of(stage.validate_every_epochs) || state.epoch == stage.epochs);
        if validate {
            let candidate = average.clone().unwrap_or_else(|| network.to_weights());
            let found = validate_weights(&architecture, &candidate, config, data, state.epoch)?;
            log.write(&json!({
                "event": "validation", "step": state.step, "epoch": state.epoch, "loss": loss,
                "roc_auc_macro": found.metrics.roc_auc_macro,
                "average_precision_macro": found.metrics.average_precision_macro,
                "num_tags": found.metrics.num_tags,
            }))?;
            let better = state.best.as_ref().is_none_or(|best| found.score > best.score);
            let line = format!(
                "epoch {}/{} step {} loss {loss:.4} validation ROC-AUC {:.4} AP {:.4}{} {}",
                state.epoch,
                stage.epochs,
                state.step,
                found.metrics.roc_auc_macro,
                found.metrics.average_precision_macro,
                if better { " (best)" } else { "" },
                clock.text(total_steps)
            );
            progress.line(&bar, &line);
            if better {
                state.best = Some(found.clone());
                best_weights = Some(candidate.clone());
            }
            state.newest = Some(found);
            newest_weights = Some(candidate);
            clock.skip();
        }

        // Checkpoint: after each validation, every so many steps, and when asked to stop.
        let stopping = stop.load(Ordering::Relaxed);
        let due = stage.checkpoint_every_steps > 0 && state.step.is_multiple_of(stage.checkpoint_every_steps);
        if validate || due || stopping {
            state.elapsed_secs = clock.elapsed_secs();
            let mut files =
                vec![(NETWORK_FILE, network_to_bytes(&network)?), (OPTIMISER_FILE, optimiser_to_bytes(&optimiser)?)];
            files.extend(average.as_ref().map(|average| (AVERAGE_FILE, weights::to_bytes(average))));
            files.extend(best_weights.as_ref().map(|best| (BEST_FILE, weights::to_bytes(best))));
            files.extend(newest_weights.as_ref().map(|newest| (NEWEST_FILE, weights::to_bytes(newest))));
            run.save_checkpoint(state.step, &state, &files)?;
        }
        if stopping && state.step < total_steps {
            bar.abandon();
            return Ok(Outcome::Interrupted);
        }
    }
    bar.finish_and_clear();
    Ok(Outcome::Finished)
}

/// Weights that a run has validated.
///
/// # Errors
/// If the run has not been validated yet or its checkpoint cannot be read.
pub fn validated(run: &RunFolder, which: Which) -> Result<Validated> {
    let none = || format!("{}: no validation has been done yet; train at least one epoch", run.path().display());
    let checkpoint = run.newest_checkpoint()?.with_context(none)?;
    let state: State = checkpoint.state()?;
    let (validation, file) = match which {
        Which::Best => (state.best, BEST_FILE),
        Which::Newest => (state.newest, NEWEST_FILE),
    };
    let architecture = run.config().architecture(run.identity()?.tags.len());
    let weights = read_weights(&checkpoint, file, &architecture)?.with_context(none)?;
    Ok(Validated { architecture, weights, validation: validation.with_context(none)? })
}

impl Training {
    /// From the newest checkpoint, or from the seed.
    fn start(run: &RunFolder, config: &Config, architecture: &Architecture, device: &Device) -> Result<Self> {
        let stage = &config.supervised;
        let initial = weights::initial(architecture, &mut rng::stream(config.seed, "initial weights", 0, 0));
        let network = Tagger::from_weights(architecture, &initial, device);
        let optimiser = adam(stage.weight_decay);
        let average = (stage.ema_decay > 0.0).then_some(initial);
        let fresh =
            Self { network, optimiser, average, best_weights: None, newest_weights: None, state: State::default() };

        let Some(checkpoint) = run.newest_checkpoint()? else { return Ok(fresh) };
        let incomplete = |file: &str| format!("{}: {file} is missing", checkpoint.path().display());
        Ok(Self {
            network: network_from_bytes(fresh.network, checkpoint.required(NETWORK_FILE)?)?,
            optimiser: optimiser_from_bytes(fresh.optimiser, checkpoint.required(OPTIMISER_FILE)?)?,
            average: match fresh.average {
                Some(_) => Some(
                    read_weights(&checkpoint, AVERAGE_FILE, architecture)?.with_context(|| incomplete(AVERAGE_FILE))?,
                ),
                None => None,
            },
            best_weights: read_weights(&checkpoint, BEST_FILE, architecture)?,
            newest_weights: read_weights(&checkpoint, NEWEST_FILE, architecture)?,
            state: checkpoint.state()?,
        })
    }
}

pub(super) fn read_weights(
    checkpoint: &Checkpoint,
    file: &str,
    architecture: &Architecture,
) -> Result<Option<Weights>> {
    let Some(bytes) = checkpoint.file(file)? else { return Ok(None) };
    let weights = weights::from_bytes(architecture, &bytes);
    weights.map(Some).with_context(|| format!("{}: {file}", checkpoint.path().display()))
}

/// Measures `weights` on the validation split and chooses the thresholds that would go with them.
pub(super) fn validate_weights(
    architecture: &Architecture,
    weights: &Weights,
    config: &Config,
    data: &SupervisedData,
    epoch: usize,
) -> Result<Validation> {
    if !weights::is_finite(weights) {
        bail!("epoch {epoch}: the weights are no longer numbers; lower supervised.learning_rate and start a new run");
    }
    let model = export::untrained_model(architecture, weights.clone(), data.tags.clone());
    let scores = eval::score(&CpuEngine::new(&model, 1)?, &data.valid, Progress::Hidden)?;
    let metrics = scores.clip_metrics(&data.valid, &data.tags, config.supervised.best_min_positives);
    let score = measure(config, &metrics);
    let num_tags = data.tags.len();
    let (thresholds, threshold_choices) = (0..num_tags)
        .map(|tag| {
            let probabilities = scores.clip_probabilities.iter().skip(tag).step_by(num_tags);
            let validation: Vec<(f32, bool)> =
                probabilities.zip(&data.valid).map(|(&p, clip)| (p, clip.entry.tag_targets[tag])).collect();
            thresholds::choose(&validation, &teacher_column(data, tag))
        })
        .unzip();
    Ok(Validation { epoch, score, metrics, thresholds, threshold_choices })
}

/// The value by which validations are compared.
pub(super) fn measure(config: &Config, metrics: &Metrics) -> f64 {
    match config.supervised.best_by {
        BestBy::RocAucMacro => metrics.roc_auc_macro,
        BestBy::AveragePrecisionMacro => metrics.average_precision_macro,
        BestBy::Sum => metrics.roc_auc_macro + metrics.average_precision_macro,
    }
}

/// The teacher's probability and the annotation of one tag on every training clip whose labels may be read.
fn teacher_column(data: &SupervisedData, tag: usize) -> Vec<(f32, bool)> {
    let Some(soft_labels) = &data.train.soft_labels else { return Vec::new() };
    let clips = data.labelled.iter().map(|&clip| &data.train.clips[clip]);
    clips.filter_map(|clip| Some((soft_labels.clip(&clip.entry.id)?[tag], clip.entry.tag_targets[tag]))).collect()
}

/// Zero with probability `share`, else `1 / (1 - share)`: drawn outside Burn, whose generator a checkpoint cannot hold.
fn dropout_mask(shape: [usize; 2], share: f64, seed: u64, step: u64, device: &Device) -> Tensor<2> {
    let mut rng = rng::stream(seed, "dropout", step, 0);
    let kept = 1.0 / (1.0 - share as f32);
    let mask: Vec<f32> = (0..shape[0] * shape[1]).map(|_| if rng.random_bool(share) { 0.0 } else { kept }).collect();
    Tensor::from_data(TensorData::new(mask, shape), device)
}
