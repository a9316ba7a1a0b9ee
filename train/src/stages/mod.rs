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
use burn::tensor::{Bytes, Tensor, activation};

/// Binary cross entropy between `logits` and `targets` in 0 to 1, averaged over both axes, without overflow:
/// `(1 - t) x - log sigmoid(x)`.
///
/// # Shapes
/// - `logits`, `targets`: `[batch, num_tags]`
/// - output: `[1]`
pub fn binary_cross_entropy_with_logits(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    ((targets.neg() + 1.0) * logits.clone() - activation::log_sigmoid(logits)).mean()
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

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn loss(logit: f32, target: f32) -> (f32, f32) {
        let device = Device::flex().autodiff();
        let logits = Tensor::<2>::from_data([[logit]], &device).require_grad();
        let loss = binary_cross_entropy_with_logits(logits.clone(), Tensor::from_data([[target]], &device));
        let gradients = loss.backward();
        let gradient = logits.grad(&gradients).expect("logits need a gradient");
        (loss.into_scalar(), gradient.into_scalar())
    }

    #[test]
    fn cross_entropy_equals_its_definition_with_soft_targets() {
        for (logit, target) in [(0.3_f32, 0.2_f32), (-2.0, 0.9), (4.0, 1.0), (1.0, 0.0)] {
            let p = 1.0 / (1.0 + f64::from(-logit).exp());
            let t = f64::from(target);
            let expected = -(t * p.ln() + (1.0 - t) * (1.0 - p).ln());
            let (value, gradient) = loss(logit, target);
            assert!((f64::from(value) - expected).abs() < 1e-6, "{logit} {target}");
            assert!((f64::from(gradient) - (p - t)).abs() < 1e-6, "{logit} {target}");
        }
    }

    #[test]
    fn cross_entropy_stays_finite_at_the_ends() {
        assert_eq!(loss(200.0, 1.0).0, 0.0);
        assert!((loss(200.0, 0.0).0 - 200.0).abs() < 1e-3);
        assert!((loss(-200.0, 1.0).0 - 200.0).abs() < 1e-3);
        let (value, gradient) = loss(-1e4, 0.5);
        assert!(value.is_finite() && gradient.is_finite());
    }
}
