//! Time as the live path sees it, so that tests and faster-than-real runs can bring their own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A clock that never goes backwards. Reading it neither allocates nor locks: capture callbacks do.
pub trait Clock: Send + Sync {
    /// Time since the clock was made.
    fn now(&self) -> Duration;

    /// Lets `duration` pass.
    fn sleep(&self, duration: Duration);
}

/// The machine's clock, or one that runs a number of times faster.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
    speed: f64,
}

impl SystemClock {
    /// Real time.
    pub fn new() -> Self {
        Self::faster(1.0)
    }

    /// `speed` times as fast as real time; values below a hundredth count as that.
    pub fn faster(speed: f64) -> Self {
        Self { started: Instant::now(), speed: speed.max(0.01) }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.started.elapsed().mul_f64(self.speed)
    }

    fn sleep(&self, duration: Duration) {
        thread::sleep(duration.div_f64(self.speed));
    }
}

/// A clock that stands still until it is told to go on. Sleeping moves it.
#[derive(Debug, Default)]
pub struct ManualClock {
    nanos: AtomicU64,
}

impl ManualClock {
    /// At zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on by `duration`.
    pub fn advance(&self, duration: Duration) {
        self.nanos.fetch_add(duration.as_nanos() as u64, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }

    fn sleep(&self, duration: Duration) {
        self.advance(duration);
    }
}
