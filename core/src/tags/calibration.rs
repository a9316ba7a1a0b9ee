//! What a threshold is worth: how often a tag was right, on clips the network had not learnt from.
//!
//! ```text
//! probabilities and truth of the validation clips -> table per tag: threshold -> correct of reported, precision rising
//! target precision -> the lowest threshold of the table that reaches it, or why there is none
//! ```

use serde::{Deserialize, Serialize};

/// Validation clips with a tag, under which nothing is claimed about it.
pub const MIN_POSITIVES: u32 = 5;

/// Validation clips for which a tag must have been reported before its precision counts: three right of three say little.
pub const MIN_REPORTED: u32 = 5;

/// A threshold, and what reporting from there on was worth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// On the clip probability.
    pub threshold: f32,
    /// Clips whose probability reached it.
    pub reported: u32,
    /// Those among them that have the tag.
    pub correct: u32,
}

/// One tag's table. Thresholds and precisions rise from point to point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TagCalibration {
    /// Clips that have the tag.
    pub positives: u32,
    /// From the lowest threshold to the highest; empty without a positive.
    pub points: Vec<Point>,
}

/// Tables of all tags, measured on the same clips.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// What the tables were measured on, e.g. `valid`.
    pub split: String,
    /// Number of its clips.
    pub num_clips: u32,
    /// One per tag, in the order of the logits.
    pub tags: Vec<TagCalibration>,
}

/// Why a tag has no threshold for a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OutOfReach {
    /// Under [`MIN_POSITIVES`] clips have it.
    NoSupport {
        /// How many do.
        positives: u32,
    },
    /// It is never right that often.
    TooLow {
        /// The best that it reaches where [`MIN_REPORTED`] clips or more are reported; 0 if there is no such place.
        best: f64,
    },
}

impl Point {
    /// Share of the reported clips that have the tag.
    pub fn precision(&self) -> f64 {
        f64::from(self.correct) / f64::from(self.reported.max(1))
    }
}

impl TagCalibration {
    /// The table of a tag from `(probability, truth)` of each clip.
    ///
    /// Precision as measured jumps up and down with single clips. Neighbouring clips are therefore pooled until the share
    /// of positives rises from pool to pool (isotonic regression by pooling adjacent violators); a threshold lies halfway
    /// between two pools. There, precision is exactly what was measured, and it rises with the threshold.
    pub fn measure(clips: impl IntoIterator<Item = (f32, bool)>) -> Self {
        let mut clips: Vec<(f32, bool)> = clips.into_iter().collect();
        // Best first, so that pools are counted from the top as thresholds are lowered.
        clips.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let positives = clips.iter().filter(|clip| clip.1).count() as u32;
        if positives == 0 {
            return Self::default();
        }
        let mut pools: Vec<Pool> = Vec::new();
        for equal in clips.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
            let correct = equal.iter().filter(|clip| clip.1).count() as u32;
            let mut pool = Pool { lowest: equal[0].0, reported: equal.len() as u32, correct };
            // A pool below must not be better than the one above.
            while let Some(above) = pools.pop_if(|above| above.share() <= pool.share()) {
                pool.reported += above.reported;
                pool.correct += above.correct;
            }
            pools.push(pool);
        }
        let mut points = Vec::with_capacity(pools.len());
        let (mut reported, mut correct) = (0, 0);
        for pool in &pools {
            reported += pool.reported;
            correct += pool.correct;
            let next = clips.get(reported as usize).map_or(0.0, |clip| clip.0);
            // A pool without positives at the bottom only says that everything is reported at 0.
            if pool.correct > 0 {
                points.push(Point { threshold: f32::midpoint(pool.lowest, next), reported, correct });
            }
        }
        points.reverse();
        Self { positives, points }
    }

    /// The lowest threshold whose precision reaches `target`.
    ///
    /// # Errors
    /// Why there is none.
    pub fn threshold(&self, target: f64) -> Result<Point, OutOfReach> {
        if self.positives < MIN_POSITIVES {
            return Err(OutOfReach::NoSupport { positives: self.positives });
        }
        let supported = || self.points.iter().filter(|point| point.reported >= MIN_REPORTED);
        supported()
            .find(|point| point.precision() >= target)
            .copied()
            .ok_or_else(|| OutOfReach::TooLow { best: supported().map(Point::precision).fold(0.0, f64::max) })
    }
}

impl Calibration {
    /// Checks what [`TagCalibration::threshold`] relies on, for a model of `num_tags` tags.
    ///
    /// # Errors
    /// The rule that is broken, with the offending value.
    pub(crate) fn validate(&self, num_tags: usize) -> Result<(), String> {
        if self.tags.len() != num_tags {
            return Err(format!("calibration of {} tags for {num_tags} outputs", self.tags.len()));
        }
        for (index, tag) in self.tags.iter().enumerate() {
            let refuse = |what: String| Err(format!("calibration of tag {index}: {what}"));
            if tag.positives > self.num_clips {
                return refuse(format!("{} positives among {} clips", tag.positives, self.num_clips));
            }
            for point in &tag.points {
                if !(0.0..=1.0).contains(&point.threshold) {
                    return refuse(format!("threshold {} lies outside 0..=1", point.threshold));
                }
                if point.correct > point.reported || point.reported > self.num_clips || point.reported == 0 {
                    return refuse(format!(
                        "{} correct of {} reported of {} clips",
                        point.correct, point.reported, self.num_clips
                    ));
                }
            }
            for pair in tag.points.windows(2) {
                if pair[0].threshold > pair[1].threshold || pair[0].precision() > pair[1].precision() {
                    return refuse(format!("thresholds and precisions must rise, and do not at {}", pair[1].threshold));
                }
            }
        }
        Ok(())
    }
}

/// Clips that are neighbours by probability and count as one.
struct Pool {
    lowest: f32,
    reported: u32,
    correct: u32,
}

impl Pool {
    fn share(&self) -> f64 {
        f64::from(self.correct) / f64::from(self.reported)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(tag: &TagCalibration) -> Vec<(f32, u32, u32)> {
        tag.points.iter().map(|p| ((p.threshold * 100.0).round() / 100.0, p.reported, p.correct)).collect()
    }

    #[test]
    fn pools_make_precision_rise() {
        // From the top: right, wrong, right, right, wrong. The second to fourth are one pool.
        let clips = [(0.9, true), (0.8, false), (0.7, true), (0.6, true), (0.2, false)];
        let tag = TagCalibration::measure(clips);
        assert_eq!(tag.positives, 3);
        assert_eq!(rows(&tag), [(0.4, 4, 3), (0.85, 1, 1)]);
    }

    #[test]
    fn equal_probabilities_stay_together_and_no_positive_is_no_table() {
        let tag = TagCalibration::measure([(0.5, true), (0.5, false), (0.1, false)]);
        assert_eq!(rows(&tag), [(0.3, 2, 1)]);
        assert_eq!(TagCalibration::measure([(0.5, false)]), TagCalibration::default());
        assert_eq!(TagCalibration::measure([]), TagCalibration::default());
    }

    #[test]
    fn a_target_takes_the_lowest_threshold_that_reaches_it() {
        let right = (0..10).map(|i| (0.9 - 0.01 * i as f32, true));
        let mixed = (0..10).map(|i| (0.6 - 0.01 * i as f32, i % 2 == 0));
        let tag = TagCalibration::measure(right.chain(mixed).chain([(0.1, false)]));
        let strict = tag.threshold(1.0).expect("reached");
        assert!(strict.reported >= 10 && strict.threshold > 0.55, "{strict:?}");
        let loose = tag.threshold(0.75).expect("reached");
        assert!(loose.reported > strict.reported && loose.precision() >= 0.75, "{loose:?}");
    }

    #[test]
    fn what_is_out_of_reach_says_why() {
        let few = TagCalibration::measure([(0.9, true), (0.8, true), (0.1, false)]);
        assert_eq!(few.threshold(0.1), Err(OutOfReach::NoSupport { positives: 2 }));
        let wrong = TagCalibration::measure((0..20).map(|i| (i as f32 / 20.0, i % 2 == 0)));
        let Err(OutOfReach::TooLow { best }) = wrong.threshold(0.9) else { panic!("{wrong:?}") };
        assert!((best - 0.5).abs() < 1e-9, "{best}");
    }

    #[test]
    fn each_broken_rule_is_named() {
        let point = |threshold, reported, correct| Point { threshold, reported, correct };
        let with = |positives, points: &[Point]| Calibration {
            split: "valid".into(),
            num_clips: 10,
            tags: vec![TagCalibration { positives, points: points.to_vec() }],
        };
        assert_eq!(with(3, &[point(0.1, 10, 3), point(0.5, 4, 3)]).validate(1), Ok(()));
        let message = |calibration: Calibration| calibration.validate(1).expect_err("refused");
        assert!(message(with(11, &[])).contains("11 positives"));
        assert!(message(with(3, &[point(f32::NAN, 4, 3)])).contains("NaN"));
        assert!(message(with(3, &[point(0.1, 4, 5)])).contains("5 correct of 4"));
        assert!(message(with(3, &[point(0.1, 0, 0)])).contains("0 correct of 0"));
        assert!(message(with(3, &[point(0.5, 4, 3), point(0.1, 4, 4)])).contains("must rise"));
        assert!(with(3, &[]).validate(2).expect_err("refused").contains("1 tags for 2"));
    }

    proptest! {
        #[test]
        fn tables_rise_and_count_what_is_there(
            clips in prop::collection::vec((0_u8..40, any::<bool>()), 0..80)
        ) {
            let clips: Vec<(f32, bool)> = clips.into_iter().map(|(p, truth)| (f32::from(p) / 40.0, truth)).collect();
            let tag = TagCalibration::measure(clips.iter().copied());
            for point in &tag.points {
                let reported = clips.iter().filter(|clip| clip.0 >= point.threshold);
                prop_assert_eq!(reported.clone().count(), point.reported as usize);
                prop_assert_eq!(reported.filter(|clip| clip.1).count(), point.correct as usize);
            }
            let calibration = Calibration { split: "valid".into(), num_clips: 80, tags: vec![tag] };
            prop_assert_eq!(calibration.validate(1), Ok(()));
        }
    }
}
