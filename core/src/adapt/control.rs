//! Pausing, resuming and ending an adaptation from another thread.

use std::sync::{Condvar, Mutex, PoisonError};

/// What whoever watches wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wish {
    #[default]
    Run,
    Pause,
    Leave,
    Cancel,
}

/// Why the work ends before it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// To be continued later: what is done is kept.
    Leave,
    /// For good: what is done is thrown away.
    Cancel,
}

/// A switch that the working thread looks at between two steps. Whoever holds it never waits for the work.
#[derive(Debug, Default)]
pub struct Control {
    wish: Mutex<Wish>,
    changed: Condvar,
}

impl Control {
    /// Running.
    pub fn new() -> Self {
        Self::default()
    }

    fn set(&self, wish: Wish) {
        let mut held = self.wish.lock().unwrap_or_else(PoisonError::into_inner);
        // What has ended does not begin again.
        if !matches!(*held, Wish::Leave | Wish::Cancel) {
            *held = wish;
        }
        self.changed.notify_all();
    }

    /// Waits after the step that is being done.
    pub fn pause(&self) {
        self.set(Wish::Pause);
    }

    /// Goes on.
    pub fn resume(&self) {
        self.set(Wish::Run);
    }

    /// Ends, with everything kept.
    pub fn leave(&self) {
        self.set(Wish::Leave);
    }

    /// Ends, with nothing kept.
    pub fn cancel(&self) {
        self.set(Wish::Cancel);
    }

    /// Whether it is paused.
    pub fn is_paused(&self) -> bool {
        *self.wish.lock().unwrap_or_else(PoisonError::into_inner) == Wish::Pause
    }

    /// The working thread's look: waits while it is paused.
    ///
    /// # Errors
    /// If it is to end.
    pub fn look(&self) -> Result<(), Stop> {
        let mut held = self.wish.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match *held {
                Wish::Run => return Ok(()),
                Wish::Leave => return Err(Stop::Leave),
                Wish::Cancel => return Err(Stop::Cancel),
                Wish::Pause => held = self.changed.wait(held).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_pause_holds_the_work_until_it_is_over() {
        let (control, steps) = (Arc::new(Control::new()), Arc::new(AtomicU32::new(0)));
        control.pause();
        let worker = {
            let (control, steps) = (Arc::clone(&control), Arc::clone(&steps));
            thread::spawn(move || {
                while control.look().is_ok() {
                    steps.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(1));
                }
                control.look()
            })
        };
        thread::sleep(Duration::from_millis(50));
        assert_eq!(steps.load(Ordering::Relaxed), 0);
        assert!(control.is_paused());
        control.resume();
        while steps.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        control.leave();
        assert_eq!(worker.join().expect("no panic"), Err(Stop::Leave));
        // An end is an end.
        control.resume();
        assert_eq!(control.look(), Err(Stop::Leave));
    }
}
