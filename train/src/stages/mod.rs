//! The stages: one readable loop each.
//!
//! A plain loop rather than burn-train's `Learner`: a checkpoint must hold the moving average, the best weights and the
//! place inside an epoch as one unit, so that a run that is killed and resumed gives the same losses bit for bit.

mod optimiser;
mod schedule;
pub mod supervised;

pub use optimiser::{adam, optimiser_from_bytes, optimiser_to_bytes};
pub use schedule::learning_rate;

use anyhow::{Result, anyhow};
use burn::module::Module;
use burn::store::ModuleRecord;
use burn::tensor::Bytes;

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
