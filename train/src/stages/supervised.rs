//! The supervised reference: feature extractor and head on tag targets.
//!
//! ```text
//! windows [batch, 59049] -> feature extractor -> embedding [batch, 512] -> dropout -> head -> logits [batch, tags]
//! loss = binary cross entropy with the targets; AdamW; cosine schedule; moving average of the weights
//! ```

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use earmark_core::WINDOW_SAMPLES;
use earmark_core::adapt::binary_cross_entropy_with_logits;
use earmark_core::model::Tagger;
use rand::RngExt;
use serde_json::json;

use super::clock::Clock;
use super::validation::{Course, validate_weights};
use super::{
    NETWORK_FILE, OPTIMISER_FILE, Outcome, adam, learning_rate, network_from_bytes, network_to_bytes,
    optimiser_from_bytes, optimiser_to_bytes,
};
use crate::config::Config;
use crate::data::batches::prefetch;
use crate::dataset::SupervisedData;
use crate::progress::Progress;
use crate::run::RunFolder;
use crate::{rng, weights};

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

    let initial = weights::initial(&architecture, &mut rng::stream(config.seed, "initial weights", 0, 0));
    let mut network = Tagger::from_weights(&architecture, &initial, &device);
    let mut optimiser = adam(stage.weight_decay);
    let checkpoint = run.newest_checkpoint()?;
    let mut course = Course::new(checkpoint.as_ref(), &architecture, (stage.ema_decay > 0.0).then_some(initial))?;
    if let Some(checkpoint) = checkpoint {
        network = network_from_bytes(network, checkpoint.required(NETWORK_FILE)?)?;
        optimiser = optimiser_from_bytes(optimiser, checkpoint.required(OPTIMISER_FILE)?)?;
    }
    let place = &course.state.place;
    let mut log = run.metrics_log(place.step)?;
    let bar = progress.bar("training", total_steps);
    bar.set_position(place.step);
    let mut clock = Clock::new(place.elapsed_secs, place.step);
    let mut step = place.step;

    let batches = data.train.clone();
    let make = move |epoch, step| batches.batch(epoch, step);
    for (epoch, step_in_epoch, batch) in prefetch(make, steps_per_epoch, stage.epochs, place.next()) {
        // Forward, backward, update.
        let windows = Tensor::<2>::from_data(TensorData::new(batch.windows, [batch.size, WINDOW_SAMPLES]), &device);
        let targets =
            Tensor::<2>::from_data(TensorData::new(batch.tag_targets, [batch.size, data.tags.len()]), &device);
        let mut embedding = network.feature_extractor.forward(windows); // [batch, 512]
        if stage.dropout > 0.0 {
            embedding = embedding.clone() * dropout_mask(embedding.dims(), stage.dropout, config.seed, step, &device);
        }
        let logits = network.label_predictor.forward(embedding); // [batch, tags]
        let loss = binary_cross_entropy_with_logits(logits, targets);
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        let rate = learning_rate(stage.learning_rate, step, warmup_steps, total_steps);
        network = optimiser.step(rate, network, gradients);

        let loss: f32 = loss.into_scalar();
        if !loss.is_finite() {
            bail!(
                "step {}: the loss is {loss}; lower supervised.learning_rate (it is {}) or lengthen warmup_epochs, and \
                 start a new run",
                step + 1,
                stage.learning_rate
            );
        }
        course.stepped(|| network.to_weights(), stage.ema_decay, step);
        course.state.place.advance(epoch, step_in_epoch, steps_per_epoch);
        step = course.state.place.step;
        log.write(&json!({
            "event": "step", "step": step, "epoch": epoch + 1, "loss": loss, "learning_rate": rate,
        }))?;
        clock.stepped(batch.size, step);
        bar.set_position(step);
        bar.set_message(format!("epoch {}/{} loss {loss:.4} {}", epoch + 1, stage.epochs, clock.text(total_steps)));

        let validate = course.state.place.is_due(stage.validate_every_epochs, stage.epochs);
        if validate {
            let candidate = course.candidate(|| network.to_weights());
            let found = validate_weights(&architecture, &candidate, config, data, epoch + 1)?;
            let metrics = found.metrics.clone();
            log.write(&json!({
                "event": "validation", "step": step, "epoch": epoch + 1, "loss": loss,
                "roc_auc_macro": metrics.roc_auc_macro, "average_precision_macro": metrics.average_precision_macro,
                "num_tags": metrics.num_tags,
            }))?;
            let better = course.keep(found, candidate);
            let line = format!(
                "epoch {}/{} step {step} loss {loss:.4} validation ROC-AUC {:.4} AP {:.4}{} {}",
                epoch + 1,
                stage.epochs,
                metrics.roc_auc_macro,
                metrics.average_precision_macro,
                if better { " (best)" } else { "" },
                clock.text(total_steps)
            );
            progress.line(&bar, &line);
            clock.skip();
        }

        // Checkpoint: after each validation, every so many steps, and when asked to stop.
        let stopping = stop.load(Ordering::Relaxed);
        let due = stage.checkpoint_every_steps > 0 && step.is_multiple_of(stage.checkpoint_every_steps);
        if validate || due || stopping {
            course.state.place.elapsed_secs = clock.elapsed_secs();
            let own = [(NETWORK_FILE, network_to_bytes(&network)?), (OPTIMISER_FILE, optimiser_to_bytes(&optimiser)?)];
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

/// Zero with probability `share`, else `1 / (1 - share)`: drawn outside Burn, whose generator a checkpoint cannot hold.
fn dropout_mask(shape: [usize; 2], share: f64, seed: u64, step: u64, device: &Device) -> Tensor<2> {
    let mut rng = rng::stream(seed, "dropout", step, 0);
    let kept = 1.0 / (1.0 - share as f32);
    let mask: Vec<f32> = (0..shape[0] * shape[1]).map(|_| if rng.random_bool(share) { 0.0 } else { kept }).collect();
    Tensor::from_data(TensorData::new(mask, shape), device)
}
