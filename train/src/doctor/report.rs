//! The doctor's report, for people and as JSON.

use std::fmt::Write;
use std::path::PathBuf;

use earmark_core::SAMPLE_RATE_HZ;
use serde::Serialize;

use super::findings::{Finding, Severity};
use super::{Role, Subject};
use crate::data::items::{Layout, LeftOut, Split};

/// Version of the JSON form.
const FORMAT_VERSION: u32 = 1;
/// Items of a finding that the text names.
const NAMED_ITEMS: usize = 5;
/// Tags whose counts the text gives.
const NAMED_TAGS: usize = 60;

/// What the doctor says of all data sets.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Version of this form.
    pub format_version: u32,
    /// Whether nothing is broken.
    pub is_sound: bool,
    /// Whether the audio was decoded; else only labels and files were looked at.
    pub listened: bool,
    /// One per data set, in the order of the command line.
    pub collections: Vec<CollectionReport>,
}

/// What the doctor says of one data set.
#[derive(Debug, Serialize)]
pub struct CollectionReport {
    /// What it is for.
    pub role: Role,
    /// The folder that was named.
    pub folder: PathBuf,
    /// How it is laid out.
    pub layout: Layout,
    /// Folder of its audio.
    pub audio: PathBuf,
    /// What decides the split.
    pub split_rule: String,
    /// The splits that have items.
    pub splits: Vec<SplitReport>,
    /// Usable items per tag.
    pub tags: Vec<TagCount>,
    /// What the layout's rules leave out.
    pub left_out: Vec<LeftOut>,
    /// The worst first.
    pub findings: Vec<Finding>,
}

/// One split.
#[derive(Debug, PartialEq, Serialize)]
pub struct SplitReport {
    /// Which.
    pub split: Split,
    /// Items that the labels list, without those that rules leave out.
    pub listed: usize,
    /// Items that can be used, as far as is known.
    pub usable: usize,
    /// Duration of the usable items: as decoded, or as the labels say; `None` if neither is known.
    pub hours: Option<f64>,
}

/// How often a tag occurs among the usable items.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct TagCount {
    /// Its name.
    pub tag: String,
    /// Items in the training split.
    pub train: usize,
    /// Items in the validation split.
    pub valid: usize,
    /// Items in the test split.
    pub test: usize,
}

impl Report {
    pub(super) fn new(subjects: &[Subject], findings: Vec<Vec<Finding>>, listened: bool) -> Self {
        let is_broken = |finding: &Finding| finding.severity == Severity::Broken;
        Self {
            format_version: FORMAT_VERSION,
            is_sound: !findings.iter().flatten().any(is_broken),
            listened,
            collections: subjects
                .iter()
                .zip(findings)
                .map(|(subject, found)| CollectionReport::new(subject, found))
                .collect(),
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for collection in &self.collections {
            collection.write(&mut text);
        }
        let findings = || self.collections.iter().flat_map(|collection| &collection.findings);
        let warnings = findings().filter(|finding| finding.severity == Severity::Warning).count();
        let broken = findings().count() - warnings;
        let verdict = if self.is_sound { "sound" } else { "broken" };
        let _ = writeln!(text, "{verdict}: {broken} finding(s) forbid training, {warnings} warning(s)");
        if !self.listened {
            text.push_str("Nothing was decoded: damage, true lengths and duplicates are not known.\n");
        }
        text
    }
}

impl CollectionReport {
    fn new(subject: &Subject, findings: Vec<Finding>) -> Self {
        let collection = &subject.collection;
        let usable = || collection.items.iter().enumerate().filter(|(index, _)| subject.is_usable(*index));
        let secs_of = |index: usize| match subject.heard.get(index) {
            Some(Ok(heard)) => Some(heard.num_samples as f64 / f64::from(SAMPLE_RATE_HZ)),
            _ => collection.items[index].length_secs,
        };
        let split_report = |split: Split| {
            let missing = collection.missing.iter().filter(|(of, _)| *of == split).count();
            let own = || usable().filter(move |(_, item)| item.split == split);
            let secs: Option<f64> = own().map(|(index, _)| secs_of(index)).sum();
            // An empty sum is -0.
            let hours = secs.map(|secs| secs.abs() / 3_600.0);
            SplitReport { split, listed: collection.split(split).count() + missing, usable: own().count(), hours }
        };
        let count = |tag: usize, split: Split| {
            usable().filter(|(_, item)| item.split == split && item.tag_targets.get(tag) == Some(&true)).count()
        };
        let tags = collection.tags.iter().enumerate().map(|(index, tag)| TagCount {
            tag: tag.clone(),
            train: count(index, Split::Train),
            valid: count(index, Split::Valid),
            test: count(index, Split::Test),
        });
        Self {
            role: subject.role,
            folder: subject.dir.clone(),
            layout: collection.layout,
            audio: collection.root.clone(),
            split_rule: collection.split_rule.clone(),
            splits: Split::ALL.into_iter().map(split_report).filter(|split| split.listed > 0).collect(),
            tags: tags.collect(),
            left_out: collection.left_out.clone(),
            findings,
        }
    }

    fn write(&self, text: &mut String) {
        // Writing into a string does not fail.
        let _ = writeln!(text, "{}\n  layout: {}; split: {}", self.folder.display(), self.layout, self.split_rule);
        if self.audio != self.folder {
            let _ = writeln!(text, "  audio: {}", self.audio.display());
        }
        let _ = writeln!(text, "  {:<6} {:>8} {:>8} {:>9}", "split", "listed", "usable", "hours");
        for SplitReport { split, listed, usable, hours } in &self.splits {
            let hours = hours.map_or_else(|| "?".to_owned(), |hours| format!("{hours:.2}"));
            let _ = writeln!(text, "  {split:<6} {listed:>8} {usable:>8} {hours:>9}");
        }
        for LeftOut { reason, count } in &self.left_out {
            let _ = writeln!(text, "  left out: {count} {reason}");
        }
        if self.tags.len() > NAMED_TAGS {
            let _ = writeln!(text, "  {} tags (--json counts them)", self.tags.len());
        } else if !self.tags.is_empty() {
            let tags = self.tags.iter().map(|t| format!("{} {}/{}/{}", t.tag, t.train, t.valid, t.test));
            let _ = writeln!(text, "  tags (train/valid/test): {}", tags.collect::<Vec<_>>().join("; "));
        }
        for finding in &self.findings {
            let severity = if finding.severity == Severity::Broken { "broken" } else { "warning" };
            let _ = writeln!(text, "  {severity}: {}", finding.what);
            for item in finding.items.iter().take(NAMED_ITEMS) {
                let _ = writeln!(text, "      {item}");
            }
            if finding.items.len() > NAMED_ITEMS {
                let _ = writeln!(text, "      and {} more (--json lists all)", finding.items.len() - NAMED_ITEMS);
            }
            if !finding.advice.is_empty() {
                let _ = writeln!(text, "    -> {}", finding.advice);
            }
        }
        text.push('\n');
    }
}
