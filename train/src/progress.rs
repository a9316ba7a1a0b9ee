//! Progress on standard error; silent where nobody looks.

use std::borrow::Cow;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Whether progress is shown. On a terminal it is a bar; elsewhere nothing is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Show it.
    Shown,
    /// Stay silent, as tests and `--no-progress` want it.
    Hidden,
}

impl Progress {
    /// A bar of `len` items under the name `what`.
    pub fn bar(self, what: impl Into<Cow<'static, str>>, len: u64) -> ProgressBar {
        let target = match self {
            Self::Shown => ProgressDrawTarget::stderr(),
            Self::Hidden => ProgressDrawTarget::hidden(),
        };
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        ProgressBar::with_draw_target(Some(len), target).with_style(style).with_prefix(what)
    }

    /// Prints a line above the bar, or plainly where there is no bar.
    pub fn line(self, bar: &ProgressBar, text: &str) {
        if self == Self::Shown {
            bar.suspend(|| eprintln!("{text}"));
        }
    }
}
