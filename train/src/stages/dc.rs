//! Stage 2: the domain classifier learns to hear noise in the embedding of a feature extractor that stays as it is.
//!
//! ```text
//! source, target [n + m, 59049] -> feature extractor (frozen, batch norm included) -> embedding [n + m, 512]
//!                               -> domain classifier -> logits [n + m, 1]
//! loss = binary cross entropy on the domain (eq. 3.2); Adam
//! ```

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use earmark_core::WINDOW_SAMPLES;
use earmark_core::adapt::{Domain, domain_accuracy, domain_loss};
use serde_json::json;

use super::clock::Clock;
use super::networks::{DcNetworks, load_feature_extractor, load_projector};
use super::{
    NETWORK_FILE, OPTIMISER_FILE, Outcome, Place, adam, network_from_bytes, network_to_bytes, optimiser_from_bytes,
    optimiser_to_bytes,
};
use crate::config::Config;
use crate::data::batches::prefetch;
use crate::data::domains::{DomainBatch, DomainSource};
use crate::progress::Progress;
use crate::run::RunFolder;

/// Trains on `device` until all epochs are done or `stop` is raised, on the feature extractor `start` ([`load_feature_extractor`]).
/// Continues from the newest checkpoint of `run` if there is one; `start` is then not read.
///
/// # Errors
/// If there is no feature extractor to start from, the run's folder cannot be read or written, or the loss is no longer
/// a number.
pub fn train(
    run: &RunFolder,
    config: &Config,
    data: &Arc<DomainSource>,
    start: &Path,
    device: &Device,
    progress: Progress,
    stop: &AtomicBool,
) -> Result<Outcome> {
    let stage = &config.dc;
    let plain_device = device;
    let device = device.clone().autodiff();
    let steps_per_epoch = data.steps_per_epoch();
    let total_steps = (stage.epochs * steps_per_epoch) as u64;

    let (mut networks, mut optimiser) = (DcNetworks::new(config, &device), adam(0.0));
    let mut place = Place::default();
    if let Some(checkpoint) = run.newest_checkpoint()? {
        networks = network_from_bytes(networks, checkpoint.required(NETWORK_FILE)?)?;
        optimiser = optimiser_from_bytes(optimiser, checkpoint.required(OPTIMISER_FILE)?)?;
        place = checkpoint.state()?;
    } else {
        networks.feature_extractor = load_feature_extractor(start, config, &device)?;
        networks.projector = load_projector(start, config, &device)?;
    }
    // Without autodiff its batch norm uses the running statistics and leaves them alone.
    let given = networks.valid();
    let mut log = run.metrics_log(place.step)?;
    let bar = progress.bar("training dc", total_steps);
    bar.set_position(place.step);
    let mut clock = Clock::new(place.elapsed_secs, place.step);

    let batches = Arc::clone(data);
    let make = move |epoch, step| batches.batch(epoch, step);
    for (epoch, step_in_epoch, batch) in prefetch(make, steps_per_epoch, stage.epochs, place.next()) {
        let (windows, domains) = both_domains(batch, plain_device);
        let size = domains.len();
        let embedding = given.embed(windows); // [n + m, 512]
        let logits = networks.domain_classifier.forward(Tensor::from_inner(embedding)); // [n + m, 1]
        let loss = domain_loss(logits.clone(), &domains);
        let gradients = GradientsParams::from_grads(loss.backward(), &networks.domain_classifier);
        networks.domain_classifier = optimiser.step(stage.learning_rate, networks.domain_classifier, gradients);

        let (loss, accuracy): (f32, _) = (loss.into_scalar(), domain_accuracy(logits, &domains));
        place.advance(epoch, step_in_epoch, steps_per_epoch);
        if !loss.is_finite() {
            let rate = stage.learning_rate;
            bail!("step {}: the loss is {loss}; lower dc.learning_rate (it is {rate}) and start a new run", place.step);
        }
        let snr = data.snr.at(epoch);
        log.write(&json!({
            "event": "step", "step": place.step, "epoch": epoch + 1, "domain_loss": loss, "domain_accuracy": accuracy,
            "snr_db": [snr.start(), snr.end()],
        }))?;
        clock.stepped(size, place.step);
        bar.set_position(place.step);
        bar.set_message(format!(
            "epoch {}/{} domain loss {loss:.4} accuracy {accuracy:.2} {}",
            epoch + 1,
            stage.epochs,
            clock.text(total_steps)
        ));

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

/// Windows of both domains, source first, without autodiff, and where each comes from.
fn both_domains(batch: DomainBatch, device: &Device) -> (Tensor<2>, Vec<Domain>) {
    let target = batch.target.unwrap_or_default();
    let domains = [vec![Domain::Source; batch.source.size], vec![Domain::Target; target.size]].concat();
    let samples = [batch.source.samples, target.samples].concat();
    (Tensor::from_data(TensorData::new(samples, [domains.len(), WINDOW_SAMPLES]), device), domains)
}
