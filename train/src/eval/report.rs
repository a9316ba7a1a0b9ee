//! Measures as a person or a program reads them, and scores as a file.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::Scores;
use super::metrics::Metrics;
use crate::data::clips::Clip;
use crate::data::items::Split;

/// Measures of a model on one split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Part of the data set.
    pub split: String,
    /// Positives that a tag needs to count in `*_min_positives`.
    pub min_positives: usize,
    /// On clip probabilities, every tag with a positive and a negative.
    pub clip: Metrics,
    /// On clip probabilities, the tags with at least `min_positives` positive clips.
    pub clip_min_positives: Summary,
    /// On window probabilities, every tag with a positive and a negative; windows carry their clip's tags.
    pub window: Metrics,
    /// On window probabilities, the tags with at least `min_positives` positive clips.
    pub window_min_positives: Summary,
}

/// Both measures over a selection of tags.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Mean ROC-AUC.
    pub roc_auc_macro: f64,
    /// Mean average precision.
    pub average_precision_macro: f64,
    /// Tags that count.
    pub num_tags: usize,
}

/// What is scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// The mean of a clip's windows.
    Clip,
    /// Every window by itself, with its clip's tags.
    Window,
}

/// Tags that count in a mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tags {
    /// With at least the number of positive clips that the evaluation was told.
    Frequent,
    /// With one positive and one negative.
    All,
}

impl From<&Metrics> for Summary {
    fn from(metrics: &Metrics) -> Self {
        Self {
            roc_auc_macro: metrics.roc_auc_macro,
            average_precision_macro: metrics.average_precision_macro,
            num_tags: metrics.num_tags,
        }
    }
}

impl Report {
    /// Measures `scores` of `clips`.
    pub fn new(scores: &Scores, clips: &[Clip], tags: &[String], split: Split, min_positives: usize) -> Self {
        let clip = scores.clip_metrics(clips, tags, 1);
        let window = scores.window_metrics(clips, tags, 1);
        let frequent: Vec<bool> = clip.per_tag.iter().map(|tag| tag.positives >= min_positives).collect();
        Self {
            split: split.to_string(),
            min_positives,
            clip_min_positives: Summary::from(&clip.restricted_to(&frequent)),
            window_min_positives: Summary::from(&window.restricted_to(&frequent)),
            clip,
            window,
        }
    }

    /// The measures at one level over a choice of tags.
    pub fn summary(&self, level: Level, tags: Tags) -> Summary {
        match (level, tags) {
            (Level::Clip, Tags::Frequent) => self.clip_min_positives.clone(),
            (Level::Window, Tags::Frequent) => self.window_min_positives.clone(),
            (Level::Clip, Tags::All) => Summary::from(&self.clip),
            (Level::Window, Tags::All) => Summary::from(&self.window),
        }
    }
}

/// A table for people of measures without a split.
pub fn metrics_text(items: &str, metrics: &Metrics, min_positives: usize) -> String {
    let strict = metrics.with_min_positives(min_positives);
    let mut text = format!("{} {items}\n", metrics.num_items);
    for (rule, metrics) in
        [("all that can be measured".to_owned(), metrics), (format!("at least {min_positives} positives"), &strict)]
    {
        let (auc, precision) = (metrics.roc_auc_macro, metrics.average_precision_macro);
        let _ = writeln!(text, "{rule:24} {:3} tags  ROC-AUC {auc:.4}  AP {precision:.4}", metrics.num_tags);
    }
    text += &per_tag_text(metrics);
    text
}

fn per_tag_text(metrics: &Metrics) -> String {
    let mut text = format!("\n{:16} {:>9} {:>8} {:>8}\n", "tag", "positives", "ROC-AUC", "AP");
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
    for tag in &metrics.per_tag {
        let (auc, precision) = (number(tag.roc_auc), number(tag.average_precision));
        let _ = writeln!(text, "{:16} {:>9} {auc:>8} {precision:>8}", tag.tag, tag.positives);
    }
    if !metrics.left_out.is_empty() {
        let _ = writeln!(text, "\nleft out (no positive or no negative): {}", metrics.left_out.join(", "));
    }
    text
}

/// One line of a file of scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ScoreRow {
    clip_id: String,
    tag: String,
    probability: f32,
    target: u8,
}

/// Clip probabilities beside the truth, as `evaluate --scores` writes them: one row per clip and tag.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreTable {
    tags: Vec<String>,
    rows: Vec<ScoreRow>,
}

impl ScoreTable {
    /// The clip probabilities of `scores`.
    pub fn new(scores: &Scores, clips: &[Clip], tags: &[String]) -> Self {
        let rows = scores.clip_probabilities.iter().enumerate().map(|(index, &probability)| {
            let (clip, tag) = (&clips[index / tags.len()], index % tags.len());
            ScoreRow {
                clip_id: clip.entry.id.clone(),
                tag: tags[tag].clone(),
                probability,
                target: u8::from(clip.entry.tag_targets[tag]),
            }
        });
        Self { tags: tags.to_vec(), rows: rows.collect() }
    }

    /// The rows as CSV; probabilities are written so that they read back exactly.
    ///
    /// # Errors
    /// Never in memory; the CSV writer's type asks for it.
    pub fn to_csv(&self) -> Result<String> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        for row in &self.rows {
            writer.serialize(row)?;
        }
        Ok(String::from_utf8(writer.into_inner().context("scores cannot be written")?)?)
    }

    /// Reads what [`to_csv`](Self::to_csv) wrote.
    ///
    /// # Errors
    /// Names file, line and rule: every clip must have the same tags in the same order.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
        Self::parse(&text).with_context(|| format!("{}", path.display()))
    }

    fn parse(text: &[u8]) -> Result<Self> {
        let mut rows: Vec<ScoreRow> = Vec::new();
        for (index, row) in csv::Reader::from_reader(text).into_deserialize::<ScoreRow>().enumerate() {
            let row = row.with_context(|| format!("line {}", index + 2))?;
            if !row.probability.is_finite() || row.target > 1 {
                bail!("line {}: probability {} or target {}", index + 2, row.probability, row.target);
            }
            rows.push(row);
        }
        let first = rows.first().context("the file holds no scores")?.clip_id.as_str();
        let tags: Vec<String> = rows.iter().take_while(|row| row.clip_id == first).map(|row| row.tag.clone()).collect();
        for (index, row) in rows.iter().enumerate() {
            if row.tag != tags[index % tags.len()] || row.clip_id != rows[index - index % tags.len()].clip_id {
                bail!(
                    "line {}: expected tag '{}'; every clip has the same tags in the same order",
                    index + 2,
                    tags[index % tags.len()]
                );
            }
        }
        if !rows.len().is_multiple_of(tags.len()) {
            bail!("the last clip has {} of {} tags", rows.len() % tags.len(), tags.len());
        }
        Ok(Self { tags, rows })
    }

    /// Measures of the scores.
    pub fn metrics(&self, min_positives: usize) -> Metrics {
        let scores: Vec<f32> = self.rows.iter().map(|row| row.probability).collect();
        let truth: Vec<bool> = self.rows.iter().map(|row| row.target == 1).collect();
        Metrics::new(&scores, &truth, &self.tags, min_positives)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> ScoreTable {
        let row = |clip_id: &str, tag: &str, probability, target| ScoreRow {
            clip_id: clip_id.to_owned(),
            tag: tag.to_owned(),
            probability,
            target,
        };
        let rows =
            vec![row("3", "a", 0.1, 0), row("3", "b", 1.0 / 3.0, 1), row("8", "a", 0.7, 1), row("8", "b", 2e-9, 0)];
        ScoreTable { tags: vec!["a".to_owned(), "b".to_owned()], rows }
    }

    #[test]
    fn scores_survive_the_file_exactly() {
        let text = table().to_csv().expect("CSV");
        assert!(text.starts_with("clip_id,tag,probability,target\n3,a,0.1,0\n"));
        assert_eq!(ScoreTable::parse(text.as_bytes()).expect("valid"), table());
    }

    #[test]
    fn a_malformed_file_is_named_by_its_line() {
        let refused = |rows: &str| {
            let text = format!("clip_id,tag,probability,target\n{rows}");
            format!("{:#}", ScoreTable::parse(text.as_bytes()).expect_err("must be refused"))
        };
        assert!(refused("").contains("no scores"));
        assert!(refused("3,a,0.1,0\n3,b,0.2,1\n8,b,0.1,0\n").contains("line 4: expected tag 'a'"));
        assert!(refused("3,a,0.1,0\n3,b,0.2,1\n8,a,0.1,0\n").contains("1 of 2 tags"));
        assert!(refused("3,a,nan,0\n").contains("line 2"));
        assert!(refused("3,a,0.1,2\n").contains("line 2"));
    }

    #[test]
    fn tables_name_what_was_left_out() {
        let text = metrics_text("clips", &table().metrics(1), 2);
        assert!(text.contains("2 clips"));
        assert!(text.contains("at least 2 positives       0 tags"));
        assert!(!text.contains("left out"));
    }
}
