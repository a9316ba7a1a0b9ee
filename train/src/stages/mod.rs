//! The stages: one readable loop each.
//!
//! A plain loop rather than burn-train's `Learner`: a checkpoint must hold the moving average, the best weights and the
//! place inside an epoch as one unit, so that a run that is killed and resumed gives the same losses bit for bit.

mod clock;
pub mod dat;
pub mod dc;
pub mod fe;
pub mod networks;
mod optimiser;
mod schedule;
pub mod supervised;
pub mod validation;

pub use optimiser::{adam, optimiser_from_bytes, optimiser_to_bytes};
pub use schedule::learning_rate;

use anyhow::{Result, anyhow};
use burn::module::Module;
use burn::store::ModuleRecord;
use burn::tensor::Bytes;
use serde::{Deserialize, Serialize};

/// The network in a checkpoint ([`network_to_bytes`]).
const NETWORK_FILE: &str = "network.bpk";
/// The optimiser in a checkpoint ([`optimiser_to_bytes`]).
const OPTIMISER_FILE: &str = "optimiser.bpk";

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All epochs are done.
    Finished,
    /// It was asked to stop, and saved its state.
    Interrupted,
}

/// A network's parameters, their identities (which the optimiser's state refers to) and batch norm's statistics.
///
/// # Errors
/// If Burn cannot write the record.
pub fn network_to_bytes<M: Module>(network: &M) -> Result<Vec<u8>> {
    // `valid` first: it folds pending batch norm statistics into what a record holds.
    let record = network.valid().into_record();
    Ok(record.into_bytes().map_err(|error| anyhow!("the network cannot be saved: {error}"))?.to_vec())
}

/// `network` with the parameters, identities and statistics that [`network_to_bytes`] saved.
///
/// # Errors
/// If the bytes hold another network.
pub fn network_from_bytes<M: Module>(network: M, bytes: Vec<u8>) -> Result<M> {
    ModuleRecord::from_bytes(Bytes::from_bytes_vec(bytes))
        .and_then(|record| network.try_load_record(record))
        .map_err(|error| anyhow!("network of the checkpoint: {error}"))
}

/// Place in a run; with the networks and the optimiser, all that a resumed run of stage 1 or 2 needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Place {
    /// Steps done.
    step: u64,
    /// Epoch of the next step, from 0.
    epoch: usize,
    /// Next step within the epoch, from 0.
    step_in_epoch: usize,
    /// Time spent so far.
    elapsed_secs: f64,
}

impl Place {
    /// Epoch and step of the next batch.
    fn next(&self) -> (usize, usize) {
        (self.epoch, self.step_in_epoch)
    }

    /// A step was done.
    fn advance(&mut self, epoch: usize, step_in_epoch: usize, steps_per_epoch: usize) {
        self.step += 1;
        (self.epoch, self.step_in_epoch) =
            if step_in_epoch + 1 == steps_per_epoch { (epoch + 1, 0) } else { (epoch, step_in_epoch + 1) };
    }

    /// Whether an epoch has just ended after which something is due: every so many epochs, and after the last.
    fn is_due(&self, every_epochs: usize, epochs: usize) -> bool {
        self.step_in_epoch == 0 && (self.epoch.is_multiple_of(every_epochs) || self.epoch == epochs)
    }
}
