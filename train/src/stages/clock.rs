//! The pace of a stage.

use std::time::{Duration, Instant};

/// Speed and time left. Validation counts as elapsed time, not against the speed.
pub(super) struct Clock {
    started: Instant,
    earlier: Duration,
    first_step: u64,
    last: Instant,
    /// Smoothed over about twenty steps.
    windows_per_sec: Option<f64>,
    step: u64,
}

impl Clock {
    pub(super) fn new(elapsed_secs: f64, step: u64) -> Self {
        let now = Instant::now();
        let earlier = Duration::try_from_secs_f64(elapsed_secs).unwrap_or_default();
        Self { started: now, earlier, first_step: step, last: now, windows_per_sec: None, step }
    }

    pub(super) fn stepped(&mut self, windows: usize, step: u64) {
        let speed = windows as f64 / self.last.elapsed().as_secs_f64().max(1e-9);
        self.windows_per_sec =
            Some(self.windows_per_sec.map_or(speed, |smoothed| smoothed + 0.05 * (speed - smoothed)));
        self.last = Instant::now();
        self.step = step;
    }

    pub(super) fn skip(&mut self) {
        self.last = Instant::now();
    }

    pub(super) fn elapsed_secs(&self) -> f64 {
        (self.earlier + self.started.elapsed()).as_secs_f64()
    }

    pub(super) fn text(&self, total_steps: u64) -> String {
        let per_step = self.started.elapsed().as_secs_f64() / (self.step - self.first_step).max(1) as f64;
        let left = per_step * total_steps.saturating_sub(self.step) as f64;
        let left = if left < 90.0 { format!("{left:.0} s") } else { format!("{:.0} min", left / 60.0) };
        format!("{:.1} windows/s, {left} left", self.windows_per_sec.unwrap_or_default())
    }
}
