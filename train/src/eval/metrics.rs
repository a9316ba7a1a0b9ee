//! Macro ROC-AUC and macro average precision, equal to scikit-learn's `roc_auc_score` and `average_precision_score`,
//! ties included.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Both measures of one tag.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TagMetrics {
    /// Name of the tag.
    pub tag: String,
    /// Items that carry the tag.
    pub positives: usize,
    /// Area under the receiver operating characteristic; `None` without a positive or without a negative.
    pub roc_auc: Option<f64>,
    /// Average precision; `None` likewise.
    pub average_precision: Option<f64>,
}

/// Both measures of a set of tags.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Mean ROC-AUC of the tags that count; 0 if none counts.
    pub roc_auc_macro: f64,
    /// Mean average precision of the tags that count.
    pub average_precision_macro: f64,
    /// Items scored.
    pub num_items: usize,
    /// Tags that count.
    pub num_tags: usize,
    /// Tags that do not count: no positive, no negative, or not selected.
    pub left_out: Vec<String>,
    /// Every tag, in the order of the logits.
    pub per_tag: Vec<TagMetrics>,
}

impl Metrics {
    /// Measures of `scores` against `truth`, both `[num_items, tags.len()]`, row-major. A tag counts with at least
    /// `min_positives` positives (at least one) and one negative.
    ///
    /// # Panics
    /// If the lengths disagree, which is an error of the caller.
    pub fn new(scores: &[f32], truth: &[bool], tags: &[String], min_positives: usize) -> Self {
        assert_eq!(scores.len(), truth.len(), "one truth per score");
        assert!(!tags.is_empty() && scores.len().is_multiple_of(tags.len()), "one row of scores per item");
        let per_tag: Vec<TagMetrics> = (0..tags.len())
            .into_par_iter()
            .map(|column| {
                // Adding 0 turns -0 into 0, which total order would tell apart.
                let of_tag = scores.iter().zip(truth).skip(column).step_by(tags.len());
                let (positives, measures) =
                    roc_auc_and_average_precision(of_tag.map(|(&s, &t)| (s + 0.0, t)).collect());
                let (roc_auc, average_precision) = measures.unzip();
                TagMetrics { tag: tags[column].clone(), positives, roc_auc, average_precision }
            })
            .collect();
        Self::from_tags(per_tag, scores.len() / tags.len(), |_, tag| tag.positives >= min_positives)
    }

    /// The same measures where only tags with at least `min_positives` positives count.
    #[must_use]
    pub fn with_min_positives(&self, min_positives: usize) -> Self {
        Self::from_tags(self.per_tag.clone(), self.num_items, |_, tag| tag.positives >= min_positives)
    }

    /// The same measures where only the tags marked in `counts` (in the order of the logits) count.
    #[must_use]
    pub fn restricted_to(&self, counts: &[bool]) -> Self {
        Self::from_tags(self.per_tag.clone(), self.num_items, |index, _| counts[index])
    }

    fn from_tags(per_tag: Vec<TagMetrics>, num_items: usize, counts: impl Fn(usize, &TagMetrics) -> bool) -> Self {
        let (mut roc_auc, mut average_precision, mut num_tags) = (0.0, 0.0, 0_usize);
        let mut left_out = Vec::new();
        for (index, tag) in per_tag.iter().enumerate() {
            match (tag.roc_auc, tag.average_precision) {
                (Some(auc), Some(precision)) if counts(index, tag) => {
                    roc_auc += auc;
                    average_precision += precision;
                    num_tags += 1;
                }
                _ => left_out.push(tag.tag.clone()),
            }
        }
        let count = num_tags.max(1) as f64;
        Self {
            roc_auc_macro: roc_auc / count,
            average_precision_macro: average_precision / count,
            num_items,
            num_tags,
            left_out,
            per_tag,
        }
    }
}

/// Number of positives, and ROC-AUC and average precision where there is a positive and a negative.
///
/// Going down the scores, items of equal score form one step of both curves:
/// AUC = sum of `negatives * (positives above + positives / 2)` over `P N`; AP = sum of `positives / P * precision`.
fn roc_auc_and_average_precision(mut items: Vec<(f32, bool)>) -> (usize, Option<(f64, f64)>) {
    let num_positives = items.iter().filter(|(_, positive)| *positive).count();
    let num_negatives = items.len() - num_positives;
    if num_positives == 0 || num_negatives == 0 {
        return (num_positives, None);
    }
    items.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let (mut positives_above, mut above) = (0_usize, 0_usize);
    let (mut pairs_won, mut average_precision) = (0.0, 0.0);
    for step in items.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        let positives = step.iter().filter(|(_, positive)| *positive).count();
        let negatives = step.len() - positives;
        pairs_won += negatives as f64 * (positives_above as f64 + 0.5 * positives as f64);
        positives_above += positives;
        above += step.len();
        let precision = positives_above as f64 / above as f64;
        average_precision += positives as f64 / num_positives as f64 * precision;
    }
    let roc_auc = pairs_won / (num_positives as f64 * num_negatives as f64);
    (num_positives, Some((roc_auc, average_precision)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("tag {index}")).collect()
    }

    fn of_one_tag(scores: &[f32], truth: &[u8]) -> (Option<f64>, Option<f64>) {
        let truth: Vec<bool> = truth.iter().map(|&t| t == 1).collect();
        let metrics = Metrics::new(scores, &truth, &tags(1), 1);
        (metrics.per_tag[0].roc_auc, metrics.per_tag[0].average_precision)
    }

    #[test]
    fn perfect_reversed_and_all_tied() {
        assert_eq!(of_one_tag(&[0.9, 0.8, 0.1], &[1, 1, 0]), (Some(1.0), Some(1.0)));
        assert_eq!(of_one_tag(&[0.1, 0.9], &[1, 0]), (Some(0.0), Some(0.5)));
        assert_eq!(of_one_tag(&[0.5, 0.5, 0.5, 0.5], &[1, 0, 0, 0]), (Some(0.5), Some(0.25)));
    }

    #[test]
    fn both_zeros_are_one_value() {
        assert_eq!(of_one_tag(&[0.0, -0.0], &[1, 0]), (Some(0.5), Some(0.5)));
    }

    #[test]
    fn a_tag_of_one_class_is_left_out_and_named() {
        let scores = [0.9, 0.1, 0.5, 0.2, 0.3, 0.6];
        let truth = [true, false, true, false, false, true];
        let metrics = Metrics::new(&scores, &truth, &tags(3), 1);
        // Tag 1 has no positive, tag 2 no negative.
        assert_eq!(metrics.left_out, ["tag 1", "tag 2"]);
        assert_eq!(metrics.num_tags, 1);
        assert_eq!(metrics.per_tag[1].roc_auc, None);
        assert!((metrics.roc_auc_macro - 1.0).abs() < 1e-12);
        let strict = metrics.with_min_positives(2);
        assert_eq!(strict.num_tags, 0);
        assert_eq!(strict.left_out.len(), 3);
    }

    /// `goldens/sklearn_metrics.py` wrote the cases: seeded scores with and without ties, a class without positives.
    #[test]
    fn equals_scikit_learn() {
        #[derive(Deserialize)]
        struct Case {
            name: String,
            scores: Vec<f32>,
            truth: Vec<u8>,
            num_tags: usize,
            roc_auc: Vec<Option<f64>>,
            average_precision: Vec<Option<f64>>,
        }
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("goldens/sklearn_metrics.json")).expect("the golden file");
        assert!(cases.len() >= 4);
        let close = |ours: Option<f64>, theirs: Option<f64>| match (ours, theirs) {
            (Some(ours), Some(theirs)) => (ours - theirs).abs() < 1e-12,
            (None, None) => true,
            _ => false,
        };
        for case in cases {
            let truth: Vec<bool> = case.truth.iter().map(|&t| t == 1).collect();
            let metrics = Metrics::new(&case.scores, &truth, &tags(case.num_tags), 1);
            for (index, tag) in metrics.per_tag.iter().enumerate() {
                assert!(close(tag.roc_auc, case.roc_auc[index]), "{}: ROC-AUC of {tag:?}", case.name);
                assert!(close(tag.average_precision, case.average_precision[index]), "{}: AP of {tag:?}", case.name);
            }
        }
    }

    #[test]
    fn the_full_test_split_takes_less_than_a_tenth_of_a_second() {
        let (items, num_tags) = (5_329, 50);
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        let scores: Vec<f32> = (0..items * num_tags).map(|_| next()).collect();
        let truth: Vec<bool> = (0..items * num_tags).map(|_| next() < 0.05).collect();
        let names = tags(num_tags);
        let best = (0..5)
            .map(|_| {
                let start = std::time::Instant::now();
                let metrics = Metrics::new(&scores, &truth, &names, 1);
                assert_eq!(metrics.num_tags, 50);
                start.elapsed()
            })
            .min()
            .expect("five runs");
        assert!(best.as_millis() < 100, "{best:?}");
    }
}
