//! The stages: one readable loop each.
//!
//! A plain loop rather than burn-train's `Learner`: a checkpoint must hold the moving average, the best weights and the
//! place inside an epoch as one unit, so that a run that is killed and resumed gives the same losses bit for bit.

mod clock;
pub mod dat;
pub mod dc;
pub mod fe;
pub mod networks;
mod schedule;
pub mod supervised;
pub mod validation;

pub use schedule::learning_rate;

pub use earmark_core::adapt::{adam, network_from_bytes, network_to_bytes, optimiser_from_bytes, optimiser_to_bytes};
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
