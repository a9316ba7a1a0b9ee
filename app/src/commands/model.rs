//! `earmark model`: look into model files, or make one.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use earmark_core::model::import;
use earmark_core::model_file::{Model, ModelMetadata};
use earmark_core::tags::{Calibration, MIN_POSITIVES};
use earmark_core::weights::Weights;
use earmark_core::{SAMPLE_RATE_HZ, WINDOW_SAMPLES};
use serde_json::{Value, json};

use super::Exit;
use crate::args::ModelCommand;
use crate::console::Console;
use crate::inputs::shown;

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
        ModelCommand::Import { input, output, tags, threshold, name, licence } => {
            ensure!((0.0..=1.0).contains(&threshold), "threshold is {threshold}; it must be between 0 and 1");
            let (architecture, weights) = import::read(&input)?;
            let tags = match tags {
                Some(file) => read_tags(&file, threshold)?,
                None => default_tags(architecture.num_tags, threshold)?,
            };
            let (tags, thresholds) = tags.into_iter().unzip();
            let name = name.unwrap_or_else(|| output.file_stem().map_or_else(String::new, |stem| shown(stem.as_ref())));
            let metadata = ModelMetadata {
                thresholds,
                training: json!({ "imported_from": shown(input.file_name().unwrap_or_default().as_ref()) }),
                licence,
                ..ModelMetadata::new(name, architecture, tags)
            };
            let model = Model { metadata, weights };
            model.validate()?;
            model.save(&output)?;
            let ModelMetadata { name, tags, .. } = &model.metadata;
            Console::new(false).note(format!("wrote {}: model {name}, {} tags", shown(&output), tags.len()));
        }
    }
    Ok(Exit::Done)
}

/// A tag and its threshold.
type Tag = (String, f32);

fn default_tags(num_tags: usize, threshold: f32) -> Result<Vec<Tag>> {
    let known = earmark_assets::MTAT_TAGS;
    ensure!(
        num_tags == known.len(),
        "these weights have {num_tags} outputs, not the {} of MagnaTagATune; name them with --tags FILE",
        known.len()
    );
    Ok(known.iter().map(|&tag| (tag.to_owned(), threshold)).collect())
}

fn read_tags(file: &Path, threshold: f32) -> Result<Vec<Tag>> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read the tags in {}", shown(file)))?;
    parse_tags(&text, threshold).with_context(|| format!("the tags in {} are wrong", shown(file)))
}

/// One tag per line, with an optional tab and threshold; blank lines do not count.
fn parse_tags(text: &str, default_threshold: f32) -> Result<Vec<Tag>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| match line.split_once('\t') {
            None => Ok((line.trim().to_owned(), default_threshold)),
            Some((name, threshold)) => {
                let threshold = threshold.trim();
                let parsed = threshold.parse().with_context(|| {
                    format!("line {}: the threshold '{threshold}' is not a number between 0 and 1", index + 1)
                })?;
                Ok((name.trim().to_owned(), parsed))
            }
        })
        .collect()
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
fn outline(path: &str, value: &Value) -> Vec<String> {
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
fn num_parameters(weights: &Weights) -> usize {
    let convs = weights.convs.iter().map(|c| c.weight.len() + c.bias.len() + c.gamma.len() + c.beta.len());
    let head = weights.head.iter().map(|layer| layer.weight.len() + layer.bias.len());
    convs.chain(head).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_lists_may_carry_thresholds() {
        let tags = parse_tags("rock\t0.25\n\nno vocals\r\n", 0.5).expect("valid");
        assert_eq!(tags, [("rock".to_owned(), 0.25), ("no vocals".to_owned(), 0.5)]);
        let error = parse_tags("a\nrock\tloud", 0.5).expect_err("refused").to_string();
        assert!(error.contains("line 2") && error.contains("loud"), "{error}");
    }

    #[test]
    fn free_form_json_becomes_one_line_per_value() {
        let value =
            json!({ "seed": 1, "identity": { "commit": "abc", "clips": [1, 2, 3] }, "gain": [0.5, 1.2], "x": null });
        let expected =
            ["gain [0.5,1.2]", "identity.clips (3 values; --json shows them)", "identity.commit abc", "seed 1"];
        assert_eq!(outline("", &value), expected);
    }

    #[test]
    fn the_default_tags_need_fifty_outputs() {
        assert_eq!(default_tags(50, 0.5).expect("valid").len(), 50);
        assert!(default_tags(10, 0.5).expect_err("refused").to_string().contains("--tags"));
    }
}
