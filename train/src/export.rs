//! From a run to the model file that engines read.

use anyhow::Result;
use earmark_core::model_file::Model;
use serde_json::json;

use crate::eval::thresholds::LOWEST_THRESHOLD;
use crate::run::RunFolder;
use crate::stages::validation::{self, Which};
use crate::weights;

/// The model file of a run: its best or newest weights, thresholds chosen on the validation split, what it was trained
/// from and how it measures there.
///
/// # Errors
/// If the run has not been validated yet or cannot be read.
pub fn model_of_run(run: &RunFolder, which: Which, name: &str, licence: &str) -> Result<Model> {
    let found = validation::validated(run, which)?;
    let identity = run.identity()?;
    let mut model = weights::untrained_model(&found.architecture, found.weights, identity.tags.clone());
    name.clone_into(&mut model.metadata.name);
    licence.clone_into(&mut model.metadata.licence);
    let thresholds = found.validation.thresholds.iter();
    model.metadata.thresholds = thresholds.map(|threshold| threshold.max(LOWEST_THRESHOLD)).collect();
    model.metadata.training = json!({
        "identity": identity,
        "config": run.config(),
        "epoch": found.validation.epoch,
        "threshold_choices": found.validation.threshold_choices,
    });
    model.metadata.metrics = json!({ "valid": { "clip": found.validation.metrics } });
    Ok(model)
}
