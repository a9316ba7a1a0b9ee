//! Loss, measured by frames against the clock.
//!
//! ```text
//! deficit = time passed - frames arrived / rate
//!
//! deficit   |\|\|\|\|\  jitter: callbacks come late, and the frames with them; the lower edge stays
//!           |         \|\|\|\|\|\|   loss: the lower edge rises, and stays there
//!           |____________________________ time
//! ```
//!
//! Sound systems drop audio without a word: the absence of a reported over- or underrun proves nothing. What counts is
//! the lowest deficit over some seconds, which lateness cannot raise. A sound card's clock differs from the machine's by
//! up to some hundred parts in a million, so that much of a rise is taken for drift.

use std::time::Duration;

/// Time over which the lowest deficit is taken.
const SPAN: Duration = Duration::from_secs(2);

/// Callbacks that a span must have; with fewer, lateness could pass for loss.
const MIN_MARKS: u32 = 4;

/// Smallest loss that is told from jitter, in seconds.
const MIN_LOSS_SECS: f64 = 0.04;

/// Drift of a sound card's clock that is no loss: 500 parts in a million.
const MAX_DRIFT: f64 = 5e-4;

/// Watches the frames of one capture.
#[derive(Clone, Debug)]
pub struct LossMeter {
    rate_hz: f64,
    /// Time of the first callback, at which its frames are there.
    started: Option<Duration>,
    /// Lowest deficit that is explained, in seconds.
    base: f64,
    span_started: Duration,
    span_lowest: f64,
    span_marks: u32,
    last_deficit: f64,
}

impl LossMeter {
    /// For frames at `rate_hz`.
    pub fn new(rate_hz: u32) -> Self {
        Self {
            rate_hz: f64::from(rate_hz.max(1)),
            started: None,
            base: f64::INFINITY,
            span_started: Duration::ZERO,
            span_lowest: f64::INFINITY,
            span_marks: 0,
            last_deficit: 0.0,
        }
    }

    /// What is missing beyond what was returned, as far as the last mark can tell: its lateness counts too. For the end of a
    /// capture that is known to lose.
    pub fn pending(&self) -> f64 {
        let base = if self.base.is_finite() { self.base } else { self.span_lowest };
        if base.is_finite() { (self.last_deficit - base).max(0.0) } else { 0.0 }
    }

    /// Takes the number of frames that arrived until `at`, those that did not fit into the ring included. Returns the
    /// seconds that are missing, once, when a span ends that shows it.
    pub fn mark(&mut self, arrived: u64, at: Duration) -> Option<f64> {
        let started = *self.started.get_or_insert_with(|| {
            self.span_started = at;
            at
        });
        let deficit = at.saturating_sub(started).as_secs_f64() - arrived as f64 / self.rate_hz;
        self.last_deficit = deficit;
        self.span_lowest = self.span_lowest.min(deficit);
        self.span_marks += 1;
        let span = at.saturating_sub(self.span_started);
        if span < SPAN || self.span_marks < MIN_MARKS {
            return None;
        }
        let lowest = self.span_lowest;
        (self.span_started, self.span_lowest, self.span_marks) = (at, f64::INFINITY, 0);
        let rise = lowest - self.base;
        if self.base.is_infinite() || rise <= 0.0 {
            self.base = lowest;
            None
        } else if rise >= MIN_LOSS_SECS {
            self.base = lowest;
            Some(rise)
        } else {
            self.base += rise.min(MAX_DRIFT * span.as_secs_f64());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE_HZ: u32 = 48_000;

    /// Callbacks of `period` frames over `secs`; `lost(t)` says whether the frames of that moment are lost, `late(t)` by how
    /// many seconds its callback is late. Returns what was found missing.
    fn run(secs: f64, period: u64, rate: f64, lost: impl Fn(f64) -> bool, late: impl Fn(f64) -> f64) -> Vec<f64> {
        let mut meter = LossMeter::new(RATE_HZ);
        let mut arrived = 0;
        let mut found = Vec::new();
        let mut latest = 0.0_f64;
        for index in 1..=(secs * rate / period as f64) as u64 {
            let due = (index * period) as f64 / rate;
            if !lost(due) {
                arrived += period;
                latest = latest.max(due + late(due));
                found.extend(meter.mark(arrived, Duration::from_secs_f64(latest)));
            }
        }
        found
    }

    #[test]
    fn a_steady_stream_has_no_loss_and_drift_is_none() {
        for rate in [48_000.0, 48_000.0 * (1.0 + 3e-4), 48_000.0 * (1.0 - 3e-4)] {
            for period in [480, 1_024, 9_600] {
                let found = run(3_600.0, period, rate, |_| false, |t| 0.004 * (t * 1_000.0).sin().abs());
                assert!(found.is_empty(), "{rate} Hz in pieces of {period}: {found:?}");
            }
        }
    }

    #[test]
    fn lateness_is_no_loss() {
        // A worker that is kept from running for 1.5 s every 10 s: frames come late, but all of them.
        let late = |t: f64| if t % 10.0 < 1.5 { 1.5 - t % 10.0 } else { 0.0 };
        assert!(run(600.0, 1_024, 48_000.0, |_| false, late).is_empty());
    }

    #[test]
    fn a_hole_is_found_with_its_length() {
        for secs in [0.1, 0.5, 3.0, 30.0] {
            let found = run(120.0, 1_024, 48_000.0, |t| (40.0..40.0 + secs).contains(&t), |_| 0.0);
            assert!((found.iter().sum::<f64>() - secs).abs() < 0.05, "{secs}: {found:?}");
        }
    }

    #[test]
    fn what_is_missing_at_the_end_is_known() {
        let mut meter = LossMeter::new(1_000);
        assert!(meter.pending().abs() < 1e-9);
        // 100 frames every 0.1 s, of which those of the second from 3.0 on are lost.
        let mut arrived = 0;
        for index in 1..=40_u64 {
            if !(30..40).contains(&index) {
                arrived += 100;
                assert_eq!(meter.mark(arrived, Duration::from_millis(100 * index)), None);
            }
        }
        assert!((meter.pending() - 1.0).abs() < 1e-9, "{}", meter.pending());
    }

    #[test]
    fn constant_small_losses_add_up() {
        // One piece of 21 ms every second: below what a single span can tell.
        let found = run(600.0, 1_024, 48_000.0, |t| t.fract() < 0.021, |_| 0.0);
        let lost = 600.0 * 0.0213;
        assert!((found.iter().sum::<f64>() - lost).abs() < 0.15 * lost, "{} of {lost}", found.iter().sum::<f64>());
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_is_missing(
            holes in prop::collection::vec((5.0f64..200.0, 0.06f64..4.0), 0..6),
            period in 480u64..4_800,
            jitter in 0.0f64..0.03,
        ) {
            let lost = |t: f64| holes.iter().any(|&(start, secs)| (start..start + secs).contains(&t));
            let late = |t: f64| jitter * (t * 977.0).sin().abs();
            let num_lost = (1..=(220.0 * 48_000.0 / period as f64) as u64)
                .filter(|index| lost((index * period) as f64 / 48_000.0))
                .count();
            let missing = num_lost as f64 * period as f64 / 48_000.0;
            let found: f64 = run(220.0, period, 48_000.0, lost, late).iter().sum();
            // Each hole may be off by the jitter and what is taken for drift.
            prop_assert!((found - missing).abs() < 0.05 * (holes.len() as f64 + 1.0), "{} of {}", found, missing);
        }
    }
}
