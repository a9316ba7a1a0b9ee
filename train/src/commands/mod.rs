//! What the commands do: they read what was typed, call the library and print.

pub mod all;
pub mod evaluate;
pub mod export;
pub mod train;

use earmark_train::progress::Progress;

/// A failure and whose it is.
pub enum Failure {
    /// The command line or the configuration is wrong: exit code 2.
    Usage(anyhow::Error),
    /// Anything else: exit code 1.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl Failure {
    /// A wrong command line.
    fn usage(message: impl std::fmt::Display) -> Self {
        Self::Usage(anyhow::anyhow!("{message}"))
    }
}

fn progress(hidden: bool) -> Progress {
    if hidden { Progress::Hidden } else { Progress::Shown }
}
