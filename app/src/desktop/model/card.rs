//! What a model file says of itself, in words.

use std::path::Path;

use earmark_core::model_file::Model;
use earmark_core::tags::{MIN_POSITIVES, TagCalibration};
use earmark_core::{SAMPLE_RATE_HZ, WINDOW_SAMPLES};
use serde_json::Value;

use crate::commands::model::{num_parameters, outline};
use crate::inputs::shown;

/// Digits of a hash that are shown: enough to compare by eye.
const HASH_LEN: usize = 12;

/// A tag of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct TagRow {
    /// Its name.
    pub name: String,
    /// From which confidence on it counts as certain.
    pub threshold: String,
    /// How often it was right from there on.
    pub worth: String,
}

/// Quality on a split, averaged over tags.
#[derive(Clone, Debug, PartialEq)]
pub struct Quality {
    /// Name of the split.
    pub split: String,
    /// Area under the ROC curve.
    pub roc_auc: f64,
    /// Average precision.
    pub average_precision: f64,
    /// Over which tags and clips.
    pub basis: String,
}

/// A model in words.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    /// Its name.
    pub name: String,
    /// Its file.
    pub origin: String,
    /// Licence, network, window.
    pub summary: Vec<(String, String)>,
    /// Quality of clips, a line per split; empty if the file has none in the form that `train export` writes.
    pub quality: Vec<Quality>,
    /// Everything that was measured.
    pub metrics: Vec<(String, String)>,
    /// How it was made.
    pub training: Vec<(String, String)>,
    /// What its thresholds were measured on.
    pub calibration: Option<String>,
    /// Its tags.
    pub tags: Vec<TagRow>,
}

impl Card {
    /// Of a model read from `file`, or built in.
    pub fn new(model: &Model, file: Option<&Path>) -> Self {
        let metadata = &model.metadata;
        let head = match metadata.architecture.head_hidden {
            None => "one fully connected layer".to_owned(),
            Some(hidden) => format!("two fully connected layers, {hidden} hidden units"),
        };
        let window_s = WINDOW_SAMPLES as f64 / f64::from(SAMPLE_RATE_HZ);
        let licence = if metadata.licence.is_empty() { "not named" } else { &metadata.licence };
        let row = |name: &str, value: String| (name.to_owned(), value);
        let summary = vec![
            row("Licence", licence.to_owned()),
            row("Network", format!("SampleCNN, {} parameters, {head}", thousands(num_parameters(&model.weights)))),
            row("Hears", format!("windows of {window_s:.2} s, mono, {SAMPLE_RATE_HZ} Hz")),
            row("Format", format!("version {}", metadata.format_version)),
        ];
        let calibration = metadata.calibration.as_ref().map(|calibration| {
            format!(
                "Measured on {} clips of the split '{}', which the network had not learnt from.",
                calibration.num_clips, calibration.split
            )
        });
        let worth = |tag: usize, threshold: f32| {
            let table = metadata.calibration.as_ref().and_then(|calibration| calibration.tags.get(tag));
            table.map_or_else(|| "not measured".to_owned(), |table| worth(table, threshold))
        };
        let tags = metadata.tags.iter().zip(&metadata.thresholds).enumerate();
        Self {
            name: metadata.name.clone(),
            origin: file.map_or_else(|| "built in".to_owned(), shown),
            summary,
            quality: quality(&metadata.metrics),
            metrics: facts(&metadata.metrics),
            training: facts(&metadata.training),
            calibration,
            tags: tags
                .map(|(index, (name, &threshold))| TagRow {
                    name: name.clone(),
                    threshold: format!("{:.0} %", threshold * 100.0),
                    worth: worth(index, threshold),
                })
                .collect(),
        }
    }
}

/// How often a tag was right from `threshold` on: what was measured at the nearest threshold that is not above it.
fn worth(table: &TagCalibration, threshold: f32) -> String {
    if table.positives < MIN_POSITIVES {
        return format!("too few clips have it ({})", table.positives);
    }
    let point = table.points.iter().rev().find(|point| point.threshold <= threshold).or(table.points.first());
    point.map_or_else(
        || "not measured".to_owned(),
        |point| format!("{:.0} %, {} of {} clips", point.precision() * 100.0, point.correct, point.reported),
    )
}

/// What is known of clips, on the tags with enough positives if they were measured apart.
fn quality(metrics: &Value) -> Vec<Quality> {
    let Some(splits) = metrics.as_object() else { return Vec::new() };
    splits
        .iter()
        .filter_map(|(split, measured)| {
            let clip = &measured["clip"];
            let supported = measured.get("clip_min_positives").filter(|found| found["roc_auc_macro"].is_number());
            let of = supported.unwrap_or(clip);
            let tags = of["num_tags"].as_u64()?;
            let least = measured["min_positives"].as_u64().filter(|_| supported.is_some());
            let which = least.map(|least| format!(" with at least {least} positives")).unwrap_or_default();
            let clips = clip["num_items"].as_u64().map(|clips| format!(", {clips} clips")).unwrap_or_default();
            Some(Quality {
                split: split.clone(),
                roc_auc: of["roc_auc_macro"].as_f64()?,
                average_precision: of["average_precision_macro"].as_f64()?,
                basis: format!("mean over {tags} tags{which}{clips}"),
            })
        })
        .collect()
}

/// Free-form JSON as names and values; long hashes are cut, long lists left out.
fn facts(value: &Value) -> Vec<(String, String)> {
    outline("", value)
        .into_iter()
        .filter(|line| !line.ends_with("--json shows them)"))
        .filter_map(|line| {
            let (path, value) = line.split_once(' ')?;
            let name = path.replace(['_', '.'], " ");
            let is_hash = value.len() >= 40 && value.chars().all(|c| c.is_ascii_hexdigit());
            let value = if is_hash { format!("{} …", &value[..HASH_LEN]) } else { rounded(value) };
            Some((name, value))
        })
        .collect()
}

/// Numbers of single precision that were written with double are shown with four digits.
fn rounded(value: &str) -> String {
    match value.parse::<f64>() {
        Ok(number) if value.contains('.') && value.len() > 7 => {
            let text = format!("{number:.4}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => value.to_owned(),
    }
}

/// `607,282`.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use earmark_core::tags::Point;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_built_in_model_has_a_whole_card() {
        let card = Card::new(&crate::commands::load_model(None).expect("valid"), None);
        assert_eq!((card.name.as_str(), card.origin.as_str(), card.tags.len()), ("earmark-open-2", "built in", 50));
        assert!(card.summary.iter().any(|(name, value)| name == "Licence" && value.starts_with("CC-BY-SA")));
        assert!(card.summary.iter().any(|(_, value)| value.contains("607,282 parameters")), "{:?}", card.summary);
        assert!(card.calibration.as_deref().is_some_and(|text| text.contains("71 clips")));
        assert!(!card.training.is_empty() && !card.metrics.is_empty());
        let test = card.quality.iter().find(|quality| quality.split == "test").expect("measured");
        assert_eq!(
            (format!("{:.4}", test.roc_auc), format!("{:.4}", test.average_precision)),
            ("0.9050".into(), "0.6419".into())
        );
        assert_eq!(test.basis, "mean over 18 tags with at least 5 positives, 112 clips");
        let guitar = card.tags.iter().find(|tag| tag.name == "guitar").expect("there");
        assert_eq!((guitar.threshold.as_str(), guitar.worth.as_str()), ("32 %", "87 %, 20 of 23 clips"));
    }

    #[test]
    fn worth_is_what_was_measured_or_why_it_was_not() {
        let points = vec![
            Point { threshold: 0.2, reported: 20, correct: 10 },
            Point { threshold: 0.6, reported: 10, correct: 9 },
        ];
        let table = TagCalibration { positives: 10, points };
        assert_eq!(worth(&table, 0.5), "50 %, 10 of 20 clips");
        assert_eq!(worth(&table, 0.7), "90 %, 9 of 10 clips");
        assert_eq!(worth(&table, 0.1), "50 %, 10 of 20 clips");
        assert_eq!(worth(&TagCalibration { positives: 2, ..table }, 0.5), "too few clips have it (2)");
    }

    #[test]
    fn free_form_facts_are_readable() {
        let found = facts(&json!({
            "identity": { "commit": "b9ee5cab94f9abb6bf281c70d92a8a65e5eb392a", "clips": [1, 2, 3] },
            "learning_rate": 0.001_000_000_047_497_451_3,
            "seed": 1,
        }));
        let expected = [("identity commit", "b9ee5cab94f9 …"), ("learning rate", "0.001"), ("seed", "1")];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(thousands(607_282), "607,282");
        assert_eq!((thousands(7), thousands(1_000_000)), ("7".to_owned(), "1,000,000".to_owned()));
    }
}
