//! What the program says on the standard error, beside a progress bar if there is one.

use std::io::{self, Write};

use indicatif::ProgressBar;

/// The standard error.
#[derive(Clone, Debug)]
pub struct Console {
    quiet: bool,
    bar: Option<ProgressBar>,
}

impl Console {
    /// Says notes unless `quiet`.
    pub fn new(quiet: bool) -> Self {
        Self { quiet, bar: None }
    }

    /// The same, keeping out of the way of `bar`.
    pub fn beside(&self, bar: Option<ProgressBar>) -> Self {
        Self { quiet: self.quiet, bar }
    }

    /// Something went wrong.
    pub fn error(&self, message: impl std::fmt::Display) {
        // A closed standard error leaves nobody to tell.
        self.undisturbed(|| drop(writeln!(io::stderr(), "earmark: {message}")));
    }

    /// Something to know.
    pub fn note(&self, message: impl std::fmt::Display) {
        if !self.quiet {
            self.error(message);
        }
    }

    /// Does something to the terminal while the bar is out of sight.
    pub fn undisturbed<R>(&self, write: impl FnOnce() -> R) -> R {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}
