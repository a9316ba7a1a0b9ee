//! Stage 1: the feature extractor learns, without labels, to recognise a track by another crop of it.
//!
//! ```text
//! crop, crop [2n, 59049] -> feature extractor -> embedding [2n, 512] -> projector -> [2n, 64]
//! loss = NT-Xent (eq. 3.1) between the crops of a track; half of the tracks are noisy; Adam
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use earmark_core::WINDOW_SAMPLES;
use earmark_core::adapt::nt_xent;
use serde_json::json;

use super::clock::Clock;
use super::networks::FeNetworks;
use super::{
    NETWORK_FILE, OPTIMISER_FILE, Outcome, Place, adam, network_from_bytes, network_to_bytes, optimiser_from_bytes,
    optimiser_to_bytes,
};
use crate::config::Config;
use crate::data::batches::prefetch;
use crate::data::domains::PairSource;
use crate::progress::Progress;
use crate::run::RunFolder;

/// Trains on `device` until all epochs are done or `stop` is raised. Continues from the newest checkpoint of `run` if
/// there is one.
///
/// # Errors
/// If the run's folder cannot be read or written, or the loss is no longer a number.
pub fn train(
    run: &RunFolder,
    config: &Config,
    data: &Arc<PairSource>,
    device: &Device,
    progress: Progress,
    stop: &AtomicBool,
) -> Result<Outcome> {
    let stage = &config.fe;
    let device = device.clone().autodiff();
    let steps_per_epoch = data.steps_per_epoch();
    let total_steps = (stage.epochs * steps_per_epoch) as u64;

    let (mut networks, mut optimiser) = (FeNetworks::new(config, &device), adam(stage.weight_decay));
    let mut place = Place::default();
    if let Some(checkpoint) = run.newest_checkpoint()? {
        networks = network_from_bytes(networks, checkpoint.required(NETWORK_FILE)?)?;
        optimiser = optimiser_from_bytes(optimiser, checkpoint.required(OPTIMISER_FILE)?)?;
        place = checkpoint.state()?;
    }
    let mut log = run.metrics_log(place.step)?;
    let bar = progress.bar("training fe", total_steps);
    bar.set_position(place.step);
    let mut clock = Clock::new(place.elapsed_secs, place.step);

    let batches = Arc::clone(data);
    let make = move |epoch, step| batches.batch(epoch, step);
    for (epoch, step_in_epoch, batch) in prefetch(make, steps_per_epoch, stage.epochs, place.next()) {
        let n = batch.size;
        let windows = Tensor::<2>::from_data(TensorData::new(batch.windows, [2 * n, WINDOW_SAMPLES]), &device);
        let z = networks.projector.forward(networks.feature_extractor.forward(windows)); // [2n, 64]
        let loss = nt_xent(z.clone().narrow(0, 0, n), z.narrow(0, n, n), stage.temperature);
        let gradients = GradientsParams::from_grads(loss.backward(), &networks);
        networks = optimiser.step(stage.learning_rate, networks, gradients);

        let loss: f32 = loss.into_scalar();
        place.advance(epoch, step_in_epoch, steps_per_epoch);
        if !loss.is_finite() {
            let rate = stage.learning_rate;
            bail!("step {}: the loss is {loss}; lower fe.learning_rate (it is {rate}) and start a new run", place.step);
        }
        // Chance: every other crop of the batch is as likely.
        let chance = ((2 * n - 1) as f64).ln();
        log.write(&json!({
            "event": "step", "step": place.step, "epoch": epoch + 1, "loss": loss, "chance": chance,
        }))?;
        clock.stepped(2 * n, place.step);
        bar.set_position(place.step);
        bar.set_message(format!("epoch {}/{} loss {loss:.4} {}", epoch + 1, stage.epochs, clock.text(total_steps)));

        let stopping = stop.load(Ordering::Relaxed);
        if place.is_due(stage.checkpoint_every_epochs, stage.epochs) || stopping {
            place.elapsed_secs = clock.elapsed_secs();
            let files =
                [(NETWORK_FILE, network_to_bytes(&networks)?), (OPTIMISER_FILE, optimiser_to_bytes(&optimiser)?)];
            run.save_checkpoint(place.step, &place, &files)?;
        }
        if stopping && place.step < total_steps {
            bar.abandon();
            return Ok(Outcome::Interrupted);
        }
    }
    bar.finish_and_clear();
    Ok(Outcome::Finished)
}
