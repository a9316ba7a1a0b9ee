//! `earmark model`: look into model files, or make one.

use std::fmt::Write as _;

use anyhow::Result;
use earmark_core::model_file::{Model, ModelMetadata};
use earmark_core::tags::{Calibration, MIN_POSITIVES};
use earmark_core::weights::Weights;
use earmark_core::{SAMPLE_RATE_HZ, WINDOW_SAMPLES};
use serde_json::Value;

use super::Exit;
use crate::args::ModelCommand;

/// Runs a `model` command.
///
/// # Errors
/// The file that cannot be read or written, or the rule that it breaks.
pub fn run(command: ModelCommand) -> Result<Exit> {
    match command {
        ModelCommand::Info { file, json } => {
            let model = super::load_model(file.as_deref())?;
            let text = if json { info_json(&model)? } else { info(&model) };
            super::print(text.as_bytes())?;
        }
        #[cfg(feature = "gpu")]
        ModelCommand::Import(args) => super::import::run(args)?,
    }
    Ok(Exit::Done)
}

/// What is known of a model, without its weights.
fn info_json(model: &Model) -> Result<String> {
    let mut value = serde_json::to_value(&model.metadata)?;
    value["num_parameters"] = num_parameters(&model.weights).into();
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}

fn info(model: &Model) -> String {
    let ModelMetadata {
        name,
        format_version,
        architecture,
        tags,
        thresholds,
        training,
        metrics,
        licence,
        calibration,
        noise_meter,
        ..
    } = &model.metadata;
    let head = match architecture.head_hidden {
        None => "one fully connected layer".to_owned(),
        Some(hidden) => format!("two fully connected layers, {hidden} hidden units"),
    };
    let head = if architecture.projector_hidden.is_some() { format!("stage 1's projector, {head}") } else { head };
    let window_secs = WINDOW_SAMPLES as f64 / f64::from(SAMPLE_RATE_HZ);
    let mut text = String::new();
    // Writing to a string cannot fail.
    let mut row = |label: &str, value: &str| {
        let _ = writeln!(text, "{label:<12} {value}");
    };
    row("name", name);
    row("licence", licence);
    row("format", &format!("version {format_version}"));
    row("hears", &format!("windows of {window_secs:.2} s, mono, {SAMPLE_RATE_HZ} Hz"));
    row("network", &format!("SampleCNN, widths {:?}, last kernel {}", architecture.widths, architecture.last_kernel));
    row("head", &head);
    row("parameters", &num_parameters(&model.weights).to_string());
    for (label, value) in [("training", training), ("metrics", metrics)] {
        let mut label = label;
        for line in outline("", value) {
            row(label, &line);
            label = "";
        }
    }
    if let Some(meter) = noise_meter {
        let accuracy = meter.accuracy.map(|accuracy| format!(", right in {:.1} % of cases", 100.0 * accuracy));
        row(
            "noise meter",
            &format!("domain classifier, {} hidden units{}", meter.hidden, accuracy.unwrap_or_default()),
        );
    }
    if let Some(calibration) = calibration {
        let supported = calibration.tags.iter().filter(|tag| tag.positives >= MIN_POSITIVES).count();
        let Calibration { split, num_clips, .. } = calibration;
        row(
            "calibrated",
            &format!("{supported} tags, on {num_clips} clips of the split '{split}' (--target-precision)"),
        );
    }
    row("tags", &format!("{}, each with the confidence from which on it counts as certain", tags.len()));
    for (tag, threshold) in tags.iter().zip(thresholds) {
        row("", &format!("{threshold:.3}  {tag}"));
    }
    text
}

/// One line per value of free-form JSON, `path value`; lists of more than two show their length alone.
pub fn outline(path: &str, value: &Value) -> Vec<String> {
    match value {
        Value::Null => Vec::new(),
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(key, value)| {
                let separator = if path.is_empty() { "" } else { "." };
                outline(&format!("{path}{separator}{key}"), value)
            })
            .collect(),
        Value::Array(values) if values.len() > 2 => {
            vec![format!("{path} ({} values; --json shows them)", values.len())]
        }
        Value::String(text) => vec![format!("{path} {text}")],
        value => vec![format!("{path} {value}")],
    }
}

/// Every number that training changes: without batch norm's running statistics.
pub fn num_parameters(weights: &Weights) -> usize {
    let convs = weights.convs.iter().map(|c| c.weight.len() + c.bias.len() + c.gamma.len() + c.beta.len());
    let head = weights.head.iter().map(|layer| layer.weight.len() + layer.bias.len());
    convs.chain(head).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn free_form_json_becomes_one_line_per_value() {
        let value =
            json!({ "seed": 1, "identity": { "commit": "abc", "clips": [1, 2, 3] }, "gain": [0.5, 1.2], "x": null });
        let expected =
            ["gain [0.5,1.2]", "identity.clips (3 values; --json shows them)", "identity.commit abc", "seed 1"];
        assert_eq!(outline("", &value), expected);
    }
}
