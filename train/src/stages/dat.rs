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
use earmark_core::adapt::{
    Adversarial, DatHealth, DatUpdate, Supervision, dat_update, domain_gradients, take_gradients,
};
use earmark_core::engine::CpuEngine;
use earmark_core::weights::{Architecture, Weights};
use serde_json::json;

use super::clock::Clock;
use super::networks::{
    load_domain_classifier, load_feature_extractor, load_label_predictor, load_projector, tagger_weights, untrained_dat,
};
use super::validation::{Course, Validation, measure, validate_weights};
use super::{
    NETWORK_FILE, OPTIMISER_FILE, Outcome, adam, learning_rate, network_from_bytes, network_to_bytes,
    optimiser_from_bytes, optimiser_to_bytes,
};
use crate::config::{Adversary, Config, Decay};
use crate::data::batches::prefetch;
use crate::dataset::{DatData, SupervisedData};
use crate::progress::Progress;
use crate::run::RunFolder;
use crate::{eval, rng, weights};

/// Signal-to-noise ratios of validation (thesis, section 4.1.3).
const VALIDATION_SNR_DB: [i32; 5] = [10, 5, 0, -5, -10];

/// The domain classifier's optimiser in a checkpoint.
const ADVERSARY_FILE: &str = "adversary.bpk";

/// Below this spread of the embedding every window looks the same.
const COLLAPSED: f64 = 1e-6;

/// Where the networks come from.
#[derive(Clone, Debug)]
pub struct Start {
    /// See [`load_feature_extractor`] and [`load_label_predictor`].
    pub feature_extractor: PathBuf,
    /// See [`load_domain_classifier`]; the proposed method needs it.
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

    let (mut networks, mut optimiser) = (untrained_dat(config, &architecture, &device), adam(0.0));
    let mut adversary_optimiser = adam(0.0);
    let checkpoint = run.newest_checkpoint()?;
    if let Some(checkpoint) = &checkpoint {
        networks = network_from_bytes(networks, checkpoint.required(NETWORK_FILE)?)?;
        optimiser = optimiser_from_bytes(optimiser, checkpoint.required(OPTIMISER_FILE)?)?;
        adversary_optimiser = optimiser_from_bytes(adversary_optimiser, checkpoint.required(ADVERSARY_FILE)?)?;
    } else {
        networks.feature_extractor = load_feature_extractor(&start.feature_extractor, config, &device)?;
        networks.projector = load_projector(&start.feature_extractor, config, &device)?;
        let tags = &data.supervised.tags;
        if let Some(kept) = load_label_predictor(&start.feature_extractor, config, tags, &device)? {
            networks.label_predictor = kept;
        }
        if let Some(classifier) = &mut networks.domain_classifier {
            let needed = "the proposed method needs a trained domain classifier; train one with --stage dc";
            let path = start.domain_classifier.as_deref().context(needed)?;
            *classifier = load_domain_classifier(path, config, &device)?;
        }
    }
    let average = (stage.ema_decay > 0.0).then(|| tagger_weights(&networks));
    let mut course = Course::new(checkpoint.as_ref(), &architecture, average)?;
    if stage.domain_classifier == Adversary::Freeze {
        networks.domain_classifier = networks.domain_classifier.map(Module::freeze);
    }
    let place = &course.state.place;
    let mut log = run.metrics_log(place.step)?;
    let bar = progress.bar("training dat", total_steps);
    bar.set_position(place.step);
    let mut clock = Clock::new(place.elapsed_secs, place.step);
    let mut step = place.step;

    let batches = Arc::clone(&data.train);
    let make = move |epoch, step| batches.batch(epoch, step);
    for (epoch, step_in_epoch, batch) in prefetch(make, steps_per_epoch, stage.epochs, place.next()) {
        // Forward, backward, update.
        let windows = |samples, size| tensor(samples, [size, WINDOW_SAMPLES], &device);
        let tags = |targets, size| tensor(targets, [size, data.supervised.tags.len()], &device);
        let source_size = batch.source.size;
        let target_size = batch.target.as_ref().map_or(0, |target| target.size);
        let target = batch.target.map(|target| windows(target.samples, target.size));
        let alpha = stage.alpha.at(step, total_steps);
        let supervision = match (target, batch.target_tags) {
            (None, _) => Supervision::Source,
            (Some(target), Some(targets)) => Supervision::Both { target, target_tags: tags(targets, target_size) },
            (Some(target), None) => {
                let reversal = alpha * stage.lambda;
                Supervision::Adversarial(Adversarial {
                    target,
                    loss: stage.adversarial_loss,
                    reversal,
                    consistency: None,
                })
            }
        };
        let DatUpdate { mut gradients, health, embedding } = dat_update(
            &networks,
            windows(batch.source.samples, source_size),
            tags(batch.source_tags, source_size),
            supervision,
            stage.batch_statistics,
        );
        let decay = match stage.decay {
            Decay::None => 1.0,
            Decay::Cosine => learning_rate(1.0, step, 0, total_steps),
        };
        if let Some(classifier) = networks.domain_classifier.take() {
            let gradients = take_gradients(&classifier, &mut gradients);
            let rate = decay * stage.domain_learning_rate.unwrap_or(stage.learning_rate);
            let mut classifier = adversary_optimiser.step(rate, classifier, gradients);
            for _ in 1..stage.domain_steps {
                let gradients = domain_gradients(&classifier, embedding.clone(), source_size);
                classifier = adversary_optimiser.step(rate, classifier, gradients);
            }
            networks.domain_classifier = Some(classifier);
        }
        let rate = decay * stage.learning_rate;
        networks = optimiser.step(rate, networks, gradients);

        course.stepped(|| tagger_weights(&networks), stage.ema_decay, step);
        course.state.place.advance(epoch, step_in_epoch, steps_per_epoch);
        step = course.state.place.step;
        check(&health, step, config)?;
        let snr = data.train.snr.at(epoch);
        log.write(&json!({
            "event": "step", "step": step, "epoch": epoch + 1, "label_loss": health.label_loss,
            "domain_loss": health.adversary.map(|adversary| adversary.domain_loss),
            "domain_accuracy": health.adversary.map(|adversary| adversary.domain_accuracy),
            "gradient_ratio": health.adversary.and_then(|adversary| adversary.gradient_ratio),
            "embedding_spread": health.embedding_spread,
            "alpha": alpha, "lambda": stage.lambda, "learning_rate": rate, "snr_db": [snr.start(), snr.end()],
        }))?;
        clock.stepped(source_size + target_size, step);
        bar.set_position(step);
        bar.set_message(format!(
            "epoch {}/{} {} {}",
            epoch + 1,
            stage.epochs,
            summary(&health),
            clock.text(total_steps)
        ));

        let validate = course.state.place.is_due(stage.validate_every_epochs, stage.epochs);
        if validate {
            let candidate = course.candidate(|| tagger_weights(&networks));
            let (found, by_snr) = validate_under_noise(&architecture, &candidate, config, data, epoch + 1)?;
            let metrics = found.metrics.clone();
            log.write(&json!({
                "event": "validation", "step": step, "epoch": epoch + 1, "score": found.score,
                "roc_auc_macro": metrics.roc_auc_macro, "average_precision_macro": metrics.average_precision_macro,
                "num_tags": metrics.num_tags, "noisy": by_snr,
            }))?;
            let better = course.keep(found, candidate);
            let line = format!(
                "epoch {}/{} step {step} {} validation, clean: ROC-AUC {:.4} AP {:.4}{}",
                epoch + 1,
                stage.epochs,
                summary(&health),
                metrics.roc_auc_macro,
                metrics.average_precision_macro,
                if better { " (best)" } else { "" },
            );
            progress.line(&bar, &line);
            clock.skip();
        }

        // Checkpoint: after each validation, every so many steps, and when asked to stop.
        let stopping = stop.load(Ordering::Relaxed);
        let due = stage.checkpoint_every_steps > 0 && step.is_multiple_of(stage.checkpoint_every_steps);
        if validate || due || stopping {
            course.state.place.elapsed_secs = clock.elapsed_secs();
            let own = [
                (NETWORK_FILE, network_to_bytes(&networks)?),
                (OPTIMISER_FILE, optimiser_to_bytes(&optimiser)?),
                (ADVERSARY_FILE, optimiser_to_bytes(&adversary_optimiser)?),
            ];
            let files: Vec<_> = own.into_iter().chain(course.files()).collect();
            run.save_checkpoint(step, &course.state, &files)?;
        }
        if stopping && step < total_steps {
            bar.abandon();
            return Ok(Outcome::Interrupted);
        }
    }
    bar.finish_and_clear();
    Ok(Outcome::Finished)
}

fn tensor(values: Vec<f32>, shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, shape), device)
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
    let model = weights::untrained_model(architecture, weights.clone(), tags.clone());
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
