//! Training curves of runs, from their `metrics.jsonl`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::page::Block;
use super::plot::{Chart, Point, Series};

/// Points drawn of a curve; more would only be a blur.
const MAX_POINTS: usize = 150;
/// Keys that place a line instead of measuring something.
const PLACES: [&str; 4] = ["step", "epoch", "learning_rate", "num_tags"];

/// Everything that a run wrote down along the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Curves {
    /// Name in the legend.
    name: String,
    /// `(step, value)` by event and quantity.
    values: BTreeMap<(String, String), Vec<(f64, f64)>>,
}

impl Curves {
    /// Reads the log of a run. A line that is not complete, as one that is just being written, is skipped.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(path: &Path, name: String) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))?;
        Ok(Self::parse(&text, name))
    }

    fn parse(text: &str, name: String) -> Self {
        let mut values: BTreeMap<_, Vec<(f64, f64)>> = BTreeMap::new();
        for line in text.lines().filter_map(|line| serde_json::from_str::<serde_json::Map<String, Value>>(line).ok()) {
            let (Some(event), Some(step)) =
                (line.get("event").and_then(Value::as_str), line.get("step").and_then(Value::as_f64))
            else {
                continue;
            };
            for (key, value) in &line {
                if let Some(value) = value.as_f64().filter(|_| !PLACES.contains(&key.as_str())) {
                    // A validation repeats the loss of its last step.
                    if event == "step" || key != "loss" {
                        values.entry((event.to_owned(), key.clone())).or_default().push((step, value));
                    }
                }
            }
        }
        Self { name, values }
    }
}

/// One chart per quantity, one line per run; nothing without runs.
pub fn blocks(curves: &[Curves]) -> Vec<Block> {
    let mut quantities: Vec<&(String, String)> = curves.iter().flat_map(|curves| curves.values.keys()).collect();
    quantities.sort();
    quantities.dedup();
    let chart = |quantity: &(String, String)| {
        let (event, key) = quantity;
        let of_run = curves.iter().filter_map(|run| Some((run, run.values.get(quantity)?)));
        let series = of_run.map(|(run, values)| Series { name: run.name.clone(), points: thinned(values) });
        let what = match key.as_str() {
            "loss" => "loss (nats)".to_owned(),
            "roc_auc_macro" => "macro ROC-AUC (0 to 1)".to_owned(),
            "average_precision_macro" => "macro average precision (0 to 1)".to_owned(),
            other => other.replace('_', " "),
        };
        let phase = if event == "step" { "training" } else { event };
        let chart = Chart {
            description: format!("{what} by step, {phase}, means of neighbouring steps"),
            x_label: "step (optimiser updates)".to_owned(),
            y_label: what,
            x_names: Vec::new(),
            series: series.collect(),
            is_scatter: false,
        };
        (format!("curve-{event}-{}", key.replace('_', "-")), chart)
    };
    if quantities.is_empty() {
        return Vec::new();
    }
    vec![Block::Heading("Training curves".to_owned()), Block::Figures(quantities.into_iter().map(chart).collect())]
}

/// At most [`MAX_POINTS`] means of neighbouring values.
fn thinned(values: &[(f64, f64)]) -> Vec<Point> {
    let mean = |bin: &[(f64, f64)]| {
        let sum = bin.iter().fold((0.0, 0.0), |sum, (x, y)| (sum.0 + x, sum.1 + y));
        Point { x: sum.0 / bin.len() as f64, y: sum.1 / bin.len() as f64, half_width: None }
    };
    values.chunks(values.len().div_ceil(MAX_POINTS).max(1)).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_becomes_one_curve_per_quantity() {
        let log = "{\"event\":\"step\",\"step\":1,\"epoch\":1,\"loss\":0.9,\"domain_loss\":0.7}\n\
            {\"event\":\"step\",\"step\":2,\"epoch\":1,\"loss\":0.5,\"domain_loss\":0.6}\n\
            {\"event\":\"validation\",\"step\":2,\"epoch\":1,\"loss\":0.5,\"roc_auc_macro\":0.8,\"num_tags\":3}\n\
            {\"event\":\"step\",\"st";
        let curves = Curves::parse(log, "run".to_owned());
        let keys: Vec<_> = curves.values.keys().map(|(event, key)| format!("{event} {key}")).collect();
        assert_eq!(keys, ["step domain_loss", "step loss", "validation roc_auc_macro"]);
        assert_eq!(curves.values[&("step".to_owned(), "loss".to_owned())], [(1.0, 0.9), (2.0, 0.5)]);
        let blocks = blocks(&[curves]);
        assert!(matches!(&blocks[1], Block::Figures(figures) if figures.len() == 3));
        assert!(super::blocks(&[]).is_empty());
    }

    #[test]
    fn long_curves_are_thinned_by_means() {
        let values: Vec<(f64, f64)> = (0..300).map(|step| (f64::from(step), f64::from(step % 2))).collect();
        let points = thinned(&values);
        assert_eq!(points.len(), 150);
        assert!(points.iter().all(|point| (point.y - 0.5).abs() < 1e-12));
        assert!((points[0].x - 0.5).abs() < 1e-12);
    }
}
