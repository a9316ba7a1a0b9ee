//! A question that a page has put to the user, and how it was answered.
//!
//! ```text
//! page -- Request, purpose --> Asking -> dialog -> Answer -> poll(): purpose and Reply
//! ```

use std::path::PathBuf;
use std::time::{Duration, Instant};

use eframe::egui;

use super::context::Shared;
use super::dialog::{Answer, Request};

/// A dialog that closes sooner than anybody can close it was never there.
const NOBODY_IS_THAT_QUICK: Duration = Duration::from_millis(120);

/// What to say then.
const NO_DIALOG: &str = "this system shows no dialog for files; install a desktop portal (xdg-desktop-portal-gtk) or zenity, or \
                         drop files and folders into the window";

/// How a dialog ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// These paths were chosen.
    Chosen(Vec<PathBuf>),
    /// None were.
    Closed,
    /// There was no dialog, and why.
    Impossible(&'static str),
}

/// At most one open dialog of a page, with what its answer is for.
pub struct Asking<P>(Option<(Answer, P, Instant)>);

impl<P> Default for Asking<P> {
    fn default() -> Self {
        Self(None)
    }
}

impl<P> Asking<P> {
    /// Opens a dialog, unless one is open.
    pub fn ask(&mut self, ctx: &egui::Context, shared: &Shared, request: Request, purpose: P) {
        if self.0.is_none() {
            self.0 = Some((shared.dialogs.ask(ctx, request), purpose, Instant::now()));
        }
    }

    /// The answer, once it is there.
    pub fn poll(&mut self) -> Option<(P, Reply)> {
        let (answer, _, began) = self.0.as_ref()?;
        let paths = answer.take()?;
        let reply = match paths.is_empty() {
            false => Reply::Chosen(paths),
            true if began.elapsed() < NOBODY_IS_THAT_QUICK => Reply::Impossible(NO_DIALOG),
            true => Reply::Closed,
        };
        self.0.take().map(|(_, purpose, _)| (purpose, reply))
    }
}

#[cfg(test)]
pub mod testing {
    //! Answers for tests.

    use super::*;
    use crate::desktop::dialog::Dialogs;

    /// Dialogs in which always the same is chosen.
    pub struct Choosing(pub Vec<PathBuf>);

    impl Dialogs for Choosing {
        fn ask(&self, _: &egui::Context, _: Request) -> Answer {
            Answer::of(self.0.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_with_their_purpose_and_an_absent_dialog_is_told() {
        let asking = |paths: Vec<PathBuf>, age: Duration| {
            let began = Instant::now().checked_sub(age).expect("long after the start of this machine");
            Asking(Some((Answer::of(paths), 7, began))).poll()
        };
        let paths = vec![PathBuf::from("a.mp3")];
        assert_eq!(asking(paths.clone(), Duration::ZERO), Some((7, Reply::Chosen(paths))));
        assert_eq!(asking(Vec::new(), 2 * NOBODY_IS_THAT_QUICK), Some((7, Reply::Closed)));
        assert!(
            matches!(asking(Vec::new(), Duration::ZERO), Some((7, Reply::Impossible(why))) if why.contains("portal"))
        );
        assert_eq!(Asking::<u8>::default().poll(), None);
    }
}
