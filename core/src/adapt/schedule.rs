//! What changes from epoch to epoch: the strength of the adversary and how loud the noise is.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// Factor on the domain classifier's reversed gradient, beside lambda.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alpha {
    /// DANN's schedule, from 0 to 1: `2 / (1 + exp(-10 p)) - 1` at the share `p` of the training that is done (Ganin et
    /// al. 2016, section 5.2.2). The best reported variant of the thesis.
    #[default]
    Dann,
    /// 1 from the start.
    One,
}

impl Alpha {
    /// Alpha at `step` (from 0) of `total_steps`. With steps counted over all epochs this is the thesis'
    /// `p = (batch + epoch * batches) / (epochs * batches)`.
    pub fn at(self, step: u64, total_steps: u64) -> f64 {
        match self {
            Self::Dann => {
                let progress = step as f64 / total_steps.max(1) as f64;
                2.0 / (1.0 + (-10.0 * progress).exp()) - 1.0
            }
            Self::One => 1.0,
        }
    }
}

/// Signal-to-noise ratios that are drawn from: whole decibels, both ends included.
pub type SnrRange = RangeInclusive<i32>;

/// Width of the range that easy to hard begins with, in dB (thesis, section 4.3: 5 to 10, or -10 to -5).
const EASY_DB: i32 = 5;

/// How loud the noise of an epoch may be (thesis, section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnrSchedule {
    /// Lowest and highest signal-to-noise ratio of training in dB; the thesis' are -10 and 10.
    pub range_db: [i32; 2],
    /// Which part of that range an epoch draws from.
    pub order: SnrOrder,
}

/// What comes first. What is easy depends on who learns: a domain classifier hears loud noise most easily, a tagger the
/// music under soft noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnrOrder {
    /// No strategy: the whole range all along.
    Constant,
    /// Easy to hard for the domain classifier (stage 2): the lowest 5 dB at first, the upper end rises by 1 dB every so
    /// many epochs.
    LoudNoiseFirst {
        /// The thesis' 3.
        epochs_per_db: usize,
    },
    /// Easy to hard for the tagger (stage 3): the highest 5 dB at first, the lower end falls by 1 dB every so many epochs.
    SoftNoiseFirst {
        /// The thesis' 30.
        epochs_per_db: usize,
    },
}

impl Default for SnrSchedule {
    fn default() -> Self {
        Self { range_db: [-10, 10], order: SnrOrder::Constant }
    }
}

impl SnrSchedule {
    /// The ratios of `epoch`, counted from 0.
    pub fn at(self, epoch: usize) -> SnrRange {
        let [lowest, highest] = self.range_db;
        let wide = |epochs_per_db: usize| {
            i32::try_from(epoch / epochs_per_db.max(1)).unwrap_or(i32::MAX).saturating_add(EASY_DB)
        };
        match self.order {
            SnrOrder::Constant => lowest..=highest,
            SnrOrder::LoudNoiseFirst { epochs_per_db } => {
                lowest..=lowest.saturating_add(wide(epochs_per_db)).min(highest)
            }
            SnrOrder::SoftNoiseFirst { epochs_per_db } => {
                highest.saturating_sub(wide(epochs_per_db)).max(lowest)..=highest
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alpha_rises_from_zero_to_one_as_dann_says() {
        let at = |step| Alpha::Dann.at(step, 1_000);
        assert!(at(0).abs() < 1e-15);
        // tanh(5 p): 2 / (1 + exp(-2 x)) - 1 is the hyperbolic tangent of x.
        for step in [1, 10, 100, 500, 1_000] {
            assert!((at(step) - (5.0 * step as f64 / 1_000.0).tanh()).abs() < 1e-12, "{step}");
        }
        assert!((Alpha::One.at(0, 1_000) - 1.0).abs() < 1e-15);
        assert!(Alpha::Dann.at(0, 0).abs() < 1e-15);
    }

    #[test]
    fn ranges_by_epoch_are_the_tables() {
        let thesis = |order| SnrSchedule { order, ..SnrSchedule::default() };
        let stage_2 = thesis(SnrOrder::LoudNoiseFirst { epochs_per_db: 3 });
        for (epoch, high) in [(0, -5), (2, -5), (3, -4), (5, -4), (6, -3), (44, 9), (45, 10), (46, 10), (10_000, 10)] {
            assert_eq!(stage_2.at(epoch), -10..=high, "epoch {epoch}");
        }
        let stage_3 = thesis(SnrOrder::SoftNoiseFirst { epochs_per_db: 30 });
        for (epoch, low) in [(0, 5), (29, 5), (30, 4), (59, 4), (150, 0), (449, -9), (450, -10), (799, -10)] {
            assert_eq!(stage_3.at(epoch), low..=10, "epoch {epoch}");
        }
        for epoch in [0, 7, 799, usize::MAX] {
            assert_eq!(SnrSchedule::default().at(epoch), -10..=10);
            assert!(!stage_2.at(epoch).is_empty() && !stage_3.at(epoch).is_empty());
        }
    }

    #[test]
    fn other_ranges_are_kept_within() {
        for range_db in [[-3, 3], [0, 2], [7, 7], [-30, 40]] {
            let [low, high] = range_db;
            for order in [SnrOrder::LoudNoiseFirst { epochs_per_db: 1 }, SnrOrder::SoftNoiseFirst { epochs_per_db: 1 }]
            {
                let schedule = SnrSchedule { range_db, order };
                let widths: Vec<i32> =
                    (0..100).map(|epoch| schedule.at(epoch).end() - schedule.at(epoch).start()).collect();
                assert!(widths.is_sorted() && widths[0] == (high - low).min(5) && schedule.at(100) == (low..=high));
            }
        }
    }
}
