//! From which confidence on a tag counts, as asked for.

use anyhow::{Result, bail};
use earmark_core::model_file::ModelMetadata;
use earmark_core::tags::{MIN_POSITIVES, OutOfReach};

/// A confidence that no tag reaches.
pub const NEVER: f32 = f32::INFINITY;

/// Thresholds `[num_tags]`, [`NEVER`] where there is none, and what a person should know about them.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    /// One per tag, in the order of the logits.
    pub values: Vec<f32>,
    /// Which tags are out of reach, and why.
    pub notes: Vec<String>,
}

impl Thresholds {
    /// The model's own, or those at which its tags are right in a share of `target_precision` of cases.
    ///
    /// # Errors
    /// If the model was not calibrated, or no tag is that often right.
    pub fn choose(model: &ModelMetadata, target_precision: Option<f64>) -> Result<Self> {
        let Some(target) = target_precision else {
            return Ok(Self { values: model.thresholds.clone(), notes: Vec::new() });
        };
        let Some(calibration) = &model.calibration else {
            bail!(
                "the model {} was not calibrated, so what a confidence is worth is not known; use --min-confidence, or \
                 calibrate it with `train export --model FILE --data DIR --out FILE`",
                model.name
            );
        };
        let mut values = Vec::with_capacity(model.tags.len());
        let (mut too_low, mut no_support) = (Vec::new(), Vec::new());
        for (name, tag) in model.tags.iter().zip(&calibration.tags) {
            match tag.threshold(target) {
                Ok(point) => values.push(point.threshold),
                Err(OutOfReach::TooLow { best }) => {
                    values.push(NEVER);
                    too_low.push(format!("{name} ({best:.2})"));
                }
                Err(OutOfReach::NoSupport { positives }) => {
                    values.push(NEVER);
                    no_support.push(format!("{name} ({positives})"));
                }
            }
        }
        let num_in_reach = values.iter().filter(|&&value| value < NEVER).count();
        let split = format!("{} clips of the split '{}'", calibration.num_clips, calibration.split);
        let mut notes =
            vec![format!("{num_in_reach} of {} tags reach a precision of {target} on {split}", values.len())];
        if !too_low.is_empty() {
            notes.push(format!("never that often right, with the best there is: {}", too_low.join(", ")));
        }
        if !no_support.is_empty() {
            let list = no_support.join(", ");
            notes.push(format!("nothing is known of tags that fewer than {MIN_POSITIVES} of these clips have: {list}"));
        }
        if num_in_reach == 0 {
            bail!("no tag of the model {} reaches target-precision {target}; {}", model.name, notes[1..].join("; "));
        }
        Ok(Self { values, notes })
    }
}

#[cfg(test)]
mod tests {
    use earmark_core::tags::{Calibration, TagCalibration};
    use earmark_core::weights::Architecture;

    use super::*;

    fn model() -> ModelMetadata {
        let tags = ["good", "mixed", "rare"].map(str::to_owned).to_vec();
        let clips = |truth: fn(usize) -> bool| TagCalibration::measure((0..20).map(|i| (i as f32 / 20.0, truth(i))));
        let calibration = Calibration {
            split: "valid".into(),
            num_clips: 20,
            tags: vec![clips(|i| i >= 10), clips(|i| i % 2 == 0), clips(|i| i == 19)],
        };
        ModelMetadata {
            calibration: Some(calibration),
            ..ModelMetadata::new("three", Architecture::scaled(0.1, 3, None, 3), tags)
        }
    }

    #[test]
    fn without_a_target_the_models_own_hold() {
        let own = Thresholds::choose(&model(), None).expect("there");
        assert_eq!(own, Thresholds { values: vec![0.5; 3], notes: Vec::new() });
    }

    #[test]
    fn a_target_names_what_is_out_of_reach() {
        let chosen = Thresholds::choose(&model(), Some(0.9)).expect("reached by one");
        assert!((0.4..0.5).contains(&chosen.values[0]) && chosen.values[1..] == [NEVER; 2], "{chosen:?}");
        assert!(chosen.notes[0].contains("1 of 3 tags reach a precision of 0.9"), "{chosen:?}");
        assert!(chosen.notes[1].contains("mixed (0.50)"), "{chosen:?}");
        assert!(chosen.notes[2].contains("rare (1)"), "{chosen:?}");
    }

    #[test]
    fn what_cannot_be_chosen_is_refused_with_the_way_out() {
        let old = ModelMetadata { calibration: None, ..model() };
        let message = Thresholds::choose(&old, Some(0.9)).expect_err("refused").to_string();
        assert!(message.contains("three was not calibrated") && message.contains("train export"), "{message}");
        let mut hopeless = model();
        hopeless.calibration.as_mut().expect("there").tags[0] = TagCalibration::default();
        let message = Thresholds::choose(&hopeless, Some(0.9)).expect_err("refused").to_string();
        assert!(message.contains("no tag of the model three reaches target-precision 0.9"), "{message}");
    }
}
