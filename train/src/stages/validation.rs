//! How good the weights of a run are: measured on the validation split in the course of training, the best ones kept.

use anyhow::{Context, Result, bail};
use earmark_core::engine::CpuEngine;
use earmark_core::weights::{Architecture, Weights};
use serde::{Deserialize, Serialize};

use super::Place;
use crate::config::{BestBy, Config};
use crate::dataset::SupervisedData;
use crate::eval::metrics::Metrics;
use crate::eval::thresholds::{self, Choice};
use crate::progress::Progress;
use crate::run::{Checkpoint, RunFolder};
use crate::{eval, weights};

/// Moving average of the weights ([`weights::to_bytes`]).
const AVERAGE_FILE: &str = "average.f32";
/// Weights of the newest validation, likewise.
const NEWEST_FILE: &str = "newest.f32";
/// Best weights so far, likewise.
const BEST_FILE: &str = "best.f32";

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

/// Place in a run and what was validated there; with [`Course`]'s weights and the networks, all that a resumed run needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    #[serde(flatten)]
    pub(super) place: Place,
    /// Best validation so far.
    best: Option<Validation>,
    /// Newest validation.
    #[serde(default)]
    newest: Option<Validation>,
}

/// The course of a run that validates: where it is, and which weights it keeps besides those that it trains.
#[derive(Default)]
pub(super) struct Course {
    pub(super) state: State,
    /// Moving average of the weights, where it is on; it is then what is validated.
    average: Option<Weights>,
    best: Option<Weights>,
    newest: Option<Weights>,
}

impl Course {
    /// From the checkpoint of an earlier part of the run, or from its beginning. `average` is what a moving average
    /// begins with, where it is on.
    pub(super) fn new(
        checkpoint: Option<&Checkpoint>,
        architecture: &Architecture,
        average: Option<Weights>,
    ) -> Result<Self> {
        let Some(checkpoint) = checkpoint else { return Ok(Self { average, ..Self::default() }) };
        let incomplete = || format!("{}: {AVERAGE_FILE} is missing", checkpoint.path().display());
        let average = average.map(|_| read_weights(checkpoint, AVERAGE_FILE, architecture)?.with_context(incomplete));
        Ok(Self {
            state: checkpoint.state()?,
            average: average.transpose()?,
            best: read_weights(checkpoint, BEST_FILE, architecture)?,
            newest: read_weights(checkpoint, NEWEST_FILE, architecture)?,
        })
    }

    /// Moves the average, where it is on, towards the weights after a step.
    pub(super) fn stepped(&mut self, weights: impl FnOnce() -> Weights, decay: f64, step: u64) {
        if let Some(average) = &mut self.average {
            weights::average(average, &weights(), decay, step);
        }
    }

    /// What is to be validated: the average, or `weights` where there is none.
    pub(super) fn candidate(&self, weights: impl FnOnce() -> Weights) -> Weights {
        self.average.clone().unwrap_or_else(weights)
    }

    /// Keeps what was validated; whether it is better than all before.
    pub(super) fn keep(&mut self, found: Validation, candidate: Weights) -> bool {
        let better = self.state.best.as_ref().is_none_or(|best| found.score > best.score);
        if better {
            self.state.best = Some(found.clone());
            self.best = Some(candidate.clone());
        }
        self.state.newest = Some(found);
        self.newest = Some(candidate);
        better
    }

    /// The weights as files of a checkpoint.
    pub(super) fn files(&self) -> impl Iterator<Item = (&'static str, Vec<u8>)> {
        let files = [(AVERAGE_FILE, &self.average), (BEST_FILE, &self.best), (NEWEST_FILE, &self.newest)];
        files.into_iter().filter_map(|(name, weights)| Some((name, weights::to_bytes(weights.as_ref()?))))
    }
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

fn read_weights(checkpoint: &Checkpoint, file: &str, architecture: &Architecture) -> Result<Option<Weights>> {
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
    let model = weights::untrained_model(architecture, weights.clone(), data.tags.clone());
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
