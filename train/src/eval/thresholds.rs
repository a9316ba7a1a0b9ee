//! The decision threshold of each tag, chosen without looking at the test split, and what other thresholds are worth.

use earmark_core::tags::{Calibration, TagCalibration};
use serde::{Deserialize, Serialize};

/// Positives that a tag needs in the validation split for its threshold to be chosen there.
pub const MIN_POSITIVES: usize = 3;

/// Threshold where nothing speaks for another.
pub const DEFAULT_THRESHOLD: f32 = 0.5;

/// How a threshold was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// Largest F1 of the network's clip probabilities on the validation split.
    ValidationF1,
    /// Too few positives there: the teacher's probability at which the annotation of the training split turns to 1, as
    /// a network that learnt the teacher's probabilities says what the teacher says.
    LabelRule,
    /// Neither: [`DEFAULT_THRESHOLD`].
    Default,
}

/// Lowest threshold of an exported model: the lowest at which the teacher's labels turn to 1. With a handful of
/// positives the largest F1 can lie far below, where a tag would be reported of which the network all but says no.
pub const LOWEST_THRESHOLD: f32 = 0.10;

/// The threshold that separates positives from the rest with the largest F1, halfway between the two neighbouring
/// probabilities; the higher one where two are equal. `None` without a positive.
pub fn best_f1(items: impl IntoIterator<Item = (f32, bool)>) -> Option<f32> {
    let mut items: Vec<(f32, bool)> = items.into_iter().collect();
    let num_positives = items.iter().filter(|(_, positive)| *positive).count();
    if num_positives == 0 {
        return None;
    }
    items.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let (mut true_positives, mut reported) = (0_usize, 0_usize);
    let (mut best_f1, mut best_threshold) = (-1.0, DEFAULT_THRESHOLD);
    for step in items.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        true_positives += step.iter().filter(|(_, positive)| *positive).count();
        reported += step.len();
        let f1 = 2.0 * true_positives as f64 / (reported + num_positives) as f64;
        if f1 > best_f1 {
            let below = items.get(reported).map_or(0.0, |(probability, _)| *probability);
            (best_f1, best_threshold) = (f1, f32::midpoint(step[0].0, below));
        }
    }
    Some(best_threshold)
}

/// Threshold and choice per tag from columns of `(probability, positive)`: the network's on the validation split, the
/// teacher's on the training split (empty without a teacher).
pub fn choose(validation: &[(f32, bool)], teacher: &[(f32, bool)]) -> (f32, Choice) {
    let enough = validation.iter().filter(|(_, positive)| *positive).count() >= MIN_POSITIVES;
    if let Some(threshold) = best_f1(validation.iter().copied()).filter(|_| enough) {
        return (threshold, Choice::ValidationF1);
    }
    match best_f1(teacher.iter().copied()) {
        Some(threshold) => (threshold, Choice::LabelRule),
        None => (DEFAULT_THRESHOLD, Choice::Default),
    }
}

/// What thresholds are worth on the clips of `split`: `clip_probabilities` and `tag_targets` are `[num_clips, num_tags]`.
pub fn calibrate(split: &str, num_tags: usize, clip_probabilities: &[f32], tag_targets: &[bool]) -> Calibration {
    debug_assert_eq!(clip_probabilities.len(), tag_targets.len());
    let column = |tag: usize| {
        let probabilities = clip_probabilities.iter().skip(tag).step_by(num_tags);
        probabilities.copied().zip(tag_targets.iter().skip(tag).step_by(num_tags).copied())
    };
    Calibration {
        split: split.to_owned(),
        num_clips: (clip_probabilities.len() / num_tags.max(1)) as u32,
        tags: (0..num_tags).map(|tag| TagCalibration::measure(column(tag))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separable_classes_are_split_halfway() {
        let threshold = best_f1([(0.9, true), (0.2, false), (0.7, true), (0.3, false)]).expect("positives");
        assert!((threshold - 0.5).abs() < 1e-6);
    }

    #[test]
    fn the_largest_f1_wins_over_precision_and_recall() {
        // F1 going down: 2/4, 2/5, 4/6 at 0.6, 4/7: the best is between 0.6 and 0.5.
        let items = [(0.8, true), (0.7, false), (0.6, true), (0.5, false), (0.4, false), (0.1, true)];
        let threshold = best_f1(items).expect("positives");
        assert!((threshold - 0.55).abs() < 1e-6, "{threshold}");
    }

    #[test]
    fn ties_are_not_split() {
        let threshold = best_f1([(0.6, true), (0.6, false), (0.2, false)]).expect("positives");
        assert!((threshold - 0.4).abs() < 1e-6);
    }

    #[test]
    fn few_positives_fall_back_to_the_label_rule_then_to_the_default() {
        let validation = [(0.9, true), (0.8, true), (0.1, false)];
        let teacher = [(0.25, true), (0.15, false)];
        assert_eq!(choose(&validation, &teacher), (0.2, Choice::LabelRule));
        assert_eq!(choose(&validation, &[(0.2, false)]), (DEFAULT_THRESHOLD, Choice::Default));
        let enough = [(0.9, true), (0.8, true), (0.7, true), (0.1, false)];
        assert_eq!(choose(&enough, &teacher), (0.4, Choice::ValidationF1));
    }

    #[test]
    fn each_tag_is_calibrated_on_its_own_column() {
        let calibration = calibrate("valid", 2, &[0.9, 0.1, 0.2, 0.8], &[true, false, false, false]);
        assert_eq!((calibration.num_clips, calibration.tags.len()), (2, 2));
        assert_eq!((calibration.tags[0].positives, calibration.tags[1].positives), (1, 0));
        assert_eq!(calibration.tags[0].points.len(), 1);
        assert!(calibration.tags[1].points.is_empty());
    }
}
