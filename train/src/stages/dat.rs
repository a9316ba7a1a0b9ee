//! Stage 3: domain adversarial training, and the two references it is compared with.
//!
//! ```text
//! source, target -> feature extractor -> embedding -+-> label predictor   -> label loss (source; supervised: both)
//!                                                   +-> gradient reversal -> domain classifier -> domain loss
//! validation: clean, and with noise at 10, 5, 0, -5 and -10 dB; the mean decides which weights are best
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use earmark_core::WINDOW_SAMPLES;
use earmark_core::adapt::{Adversarial, DatHealth, DatNetworks, Supervision, dat_gradients};
use earmark_core::engine::CpuEngine;
use earmark_core::model::{SampleCnnConfig, Tagger};
use earmark_core::weights::{Architecture, Weights};
use serde_json::json;

use super::clock::Clock;
use super::supervised::{
    BEST_FILE, NEWEST_FILE, State, SupervisedData, Validation, measure, read_weights, validate_weights,
};
use super::{
    NETWORK_FILE, OPTIMISER_FILE, Outcome, adam, dc, fe, network_from_bytes, network_to_bytes, optimiser_from_bytes,
    optimiser_to_bytes,
};
use crate::config::{Adversary, Config, Method};
use crate::data::batches::prefetch;
use crate::data::domains::{DomainSource, Noise};
use crate::progress::Progress;
use crate::run::RunFolder;
use crate::{eval, export, rng, weights};

/// The name of the stage in a run's identity.
pub const STAGE: &str = "dat";

/// Signal-to-noise ratios of validation (thesis, section 4.1.3).
const VALIDATION_SNR_DB: [i32; 5] = [10, 5, 0, -5, -10];

/// Below this spread of the embedding every window looks the same.
const COLLAPSED: f64 = 1e-6;

/// What the stage learns from and is measured on.
#[derive(Debug)]
pub struct DatData {
    /// Training batches.
    pub train: Arc<DomainSource>,
    /// Clips and tags of validation, and the labels that thresholds are chosen on.
    pub supervised: SupervisedData,
    /// Noise of validation.
    pub valid_noise: Noise,
}

/// Where the networks come from.
#[derive(Clone, Debug)]
pub struct Start {
    /// See [`fe::load`].
    pub feature_extractor: PathBuf,
    /// See [`dc::load`]; the proposed method needs it.
    pub domain_classifier: Option<PathBuf>,
}

/// Trains on `device` until all epochs are done or `stop` is raised. Continues from the newest checkpoint of `run` if
/// there is one; `start` is then not read.
///
/// # Errors
/// If the networks to start from are missing, the run's folder cannot be read or written, the loss is no longer a
/// number, or the embedding has collapsed.
pub fn train(
    run: &RunFolder,
    config: &Config,
    data: &DatData,
    start: &Start,
    device: &Device,
    progress: Progress,
    stop: &AtomicBool,
) -> Result<Outcome> {
    let stage = &config.dat;
    let architecture = config.architecture(data.supervised.tags.len());
    let device = device.clone().autodiff();
    let steps_per_epoch = data.train.steps_per_epoch();
    let total_steps = (stage.epochs * steps_per_epoch) as u64;

    let (mut networks, mut optimiser) = (untrained(config, &architecture, &device), adam(0.0));
    let (mut best_weights, mut newest_weights) = (None, None);
    let mut state = State::default();
    if let Some(checkpoint) = run.newest_checkpoint()? {
        networks = network_from_bytes(networks, checkpoint.required(NETWORK_FILE)?)?;
        optimiser = optimiser_from_bytes(optimiser, checkpoint.required(OPTIMISER_FILE)?)?;
        best_weights = read_weights(&checkpoint, BEST_FILE, &architecture)?;
        newest_weights = read_weights(&checkpoint, NEWEST_FILE, &architecture)?;
        state = checkpoint.state()?;
    } else {
        networks.feature_extractor = fe::load(&start.feature_extractor, config, &device)?;
        if let Some(classifier) = &mut networks.domain_classifier {
            let needed = "the proposed method needs a trained domain classifier; train one with --stage dc";
            let path = start.domain_classifier.as_deref().context(needed)?;
            *classifier = dc::load(path, config, &device)?;
        }
    }
    if stage.domain_classifier == Adversary::Freeze {
        networks.domain_classifier = networks.domain_classifier.map(Module::freeze);
    }
    let mut log = run.metrics_log(state.step)?;
    let bar = progress.bar("training dat", total_steps);
    bar.set_position(state.step);
    let mut clock = Clock::new(state.elapsed_secs, state.step);

    let batches = Arc::clone(&data.train);
    let make = move |epoch, step| batches.batch(epoch, step);
    let from = (state.epoch, state.step_in_epoch);
    for (epoch, step_in_epoch, batch) in prefetch(make, steps_per_epoch, stage.epochs, from) {
        // Forward, backward, update.
        let windows = |samples, size| tensor(samples, [size, WINDOW_SAMPLES], &device);
        let tags = |targets, size| tensor(targets, [size, data.supervised.tags.len()], &device);
        let source_size = batch.source.size;
        let target_size = batch.target.as_ref().map_or(0, |target| target.size);
        let target = batch.target.map(|target| windows(target.samples, target.size));
        let alpha = stage.alpha.at(state.step, total_steps);
        let supervision = match (target, batch.target_tags) {
            (None, _) => Supervision::Source,
            (Some(target), Some(targets)) => Supervision::Both { target, target_tags: tags(targets, target_size) },
            (Some(target), None) => Supervision::Adversarial(Adversarial { target, reversal: alpha * stage.lambda }),
        };
        let (gradients, health) = dat_gradients(
            &networks,
            windows(batch.source.samples, source_size),
            tags(batch.source_tags, source_size),
            supervision,
            stage.batch_statistics,
        );
        networks = optimiser.step(stage.learning_rate, networks, gradients);

        state.step += 1;
        (state.epoch, state.step_in_epoch) =
            if step_in_epoch + 1 == steps_per_epoch { (epoch + 1, 0) } else { (epoch, step_in_epoch + 1) };
        check(&health, state.step, config)?;
        let snr = data.train.snr.at(epoch);
        log.write(&json!({
            "event": "step", "step": state.step, "epoch": epoch + 1, "label_loss": health.label_loss,
            "domain_loss": health.adversary.map(|adversary| adversary.domain_loss),
            "domain_accuracy": health.adversary.map(|adversary| adversary.domain_accuracy),
            "gradient_ratio": health.adversary.and_then(|adversary| adversary.gradient_ratio),
            "embedding_spread": health.embedding_spread,
            "alpha": alpha, "lambda": stage.lambda, "snr_db": [snr.start(), snr.end()],
        }))?;
        clock.stepped(source_size + target_size, state.step);
        bar.set_position(state.step);
        bar.set_message(format!(
            "epoch {}/{} {} {}",
            epoch + 1,
            stage.epochs,
            summary(&health),
            clock.text(total_steps)
        ));

        // Validation, at the end of an epoch.
        let epoch_done = state.step_in_epoch == 0;
        let validate =
            epoch_done && (state.epoch.is_multiple_of(stage.validate_every_epochs) || state.epoch == stage.epochs);
        if validate {
            let candidate = tagger(&networks).to_weights();
            let (found, by_snr) = validate_under_noise(&architecture, &candidate, config, data, state.epoch)?;
            log.write(&json!({
                "event": "validation", "step": state.step, "epoch": state.epoch, "score": found.score,
                "roc_auc_macro": found.metrics.roc_auc_macro,
                "average_precision_macro": found.metrics.average_precision_macro,
                "num_tags": found.metrics.num_tags, "noisy": by_snr,
            }))?;
            let better = state.best.as_ref().is_none_or(|best| found.score > best.score);
            let line = format!(
                "epoch {}/{} step {} {} validation, clean: ROC-AUC {:.4} AP {:.4}{}",
                state.epoch,
                stage.epochs,
                state.step,
                summary(&health),
                found.metrics.roc_auc_macro,
                found.metrics.average_precision_macro,
                if better { " (best)" } else { "" },
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
                vec![(NETWORK_FILE, network_to_bytes(&networks)?), (OPTIMISER_FILE, optimiser_to_bytes(&optimiser)?)];
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

/// Networks of the right shapes; of their numbers only the label predictor's are used, which starts from the seed.
fn untrained(config: &Config, architecture: &Architecture, device: &Device) -> DatNetworks {
    let initial = weights::initial(architecture, &mut rng::stream(config.seed, "initial weights", 0, 0));
    let proposed = config.dat.method == Method::Proposed;
    DatNetworks {
        feature_extractor: SampleCnnConfig::from(architecture).init(device),
        projector: None,
        label_predictor: Tagger::from_weights(architecture, &initial, device).label_predictor,
        domain_classifier: proposed.then(|| dc::classifier(config, device)),
    }
}

fn tensor(values: Vec<f32>, shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// What inference needs of the networks.
fn tagger(networks: &DatNetworks) -> Tagger {
    Tagger { feature_extractor: networks.feature_extractor.clone(), label_predictor: networks.label_predictor.clone() }
}

/// Stops a run that is not worth going on, and says what to change.
fn check(health: &DatHealth, step: u64, config: &Config) -> Result<()> {
    let (rate, lambda) = (config.dat.learning_rate, config.dat.lambda);
    if !health.is_finite() {
        bail!(
            "step {step}: the losses are no longer numbers ({health:?}); lower dat.learning_rate (it is {rate}) or \
             dat.lambda (it is {lambda}), and start a new run"
        );
    }
    if health.embedding_spread < COLLAPSED {
        bail!(
            "step {step}: the embedding has collapsed, every window looks the same (spread {:.1e}); lower dat.lambda \
             (it is {lambda}) or dat.learning_rate (it is {rate}), or look for silent clips, and start a new run",
            health.embedding_spread
        );
    }
    Ok(())
}

fn summary(health: &DatHealth) -> String {
    let label = format!("label loss {:.4}", health.label_loss);
    health.adversary.map_or(label.clone(), |adversary| {
        let ratio = adversary.gradient_ratio.unwrap_or_default();
        let (loss, accuracy) = (adversary.domain_loss, adversary.domain_accuracy);
        format!("{label} domain loss {loss:.3} accuracy {accuracy:.2} gradient ratio {ratio:.3}")
    })
}

/// The validation on clean clips, its score being the mean over clean and noisy ones; and the measures by SNR. The
/// mixtures follow from the seed, so every epoch meets the same.
fn validate_under_noise(
    architecture: &Architecture,
    weights: &Weights,
    config: &Config,
    data: &DatData,
    epoch: usize,
) -> Result<(Validation, Vec<serde_json::Value>)> {
    let SupervisedData { valid, tags, .. } = &data.supervised;
    let mut clean = validate_weights(architecture, weights, config, &data.supervised, epoch)?;
    let model = export::untrained_model(architecture, weights.clone(), tags.clone());
    let engine = CpuEngine::new(&model, 1)?;
    let (mut sum, mut by_snr) = (clean.score, Vec::new());
    for snr_db in VALIDATION_SNR_DB {
        let noisy = |index: usize, mut waveform: Vec<f32>| {
            let rng = &mut rng::stream(config.seed, "validation noise", index as u64, 0);
            data.valid_noise.add_throughout(&mut waveform, snr_db, rng);
            waveform
        };
        let scores = eval::score_altered(&engine, valid, noisy, Progress::Hidden)?;
        let metrics = scores.clip_metrics(valid, tags, config.supervised.best_min_positives);
        sum += measure(config, &metrics);
        by_snr.push(json!({
            "snr_db": snr_db, "roc_auc_macro": metrics.roc_auc_macro,
            "average_precision_macro": metrics.average_precision_macro,
        }));
    }
    clean.score = sum / (1 + VALIDATION_SNR_DB.len()) as f64;
    Ok((clean, by_snr))
}

/// The networks of a run's newest checkpoint, domain classifier included.
///
/// # Errors
/// If there is none yet or it cannot be read.
pub fn networks(run: &RunFolder, device: &Device) -> Result<DatNetworks> {
    let checkpoint = run.newest_checkpoint()?;
    let checkpoint = checkpoint.with_context(|| format!("{}: no checkpoint yet; train on", run.path().display()))?;
    let architecture = run.config().architecture(run.identity()?.tags.len());
    network_from_bytes(untrained(run.config(), &architecture, device), checkpoint.required(NETWORK_FILE)?)
}
