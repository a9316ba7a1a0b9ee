//! The system's dialogs for files, which do not stop the window.
//!
//! ```text
//! page -- Question --> dialog, made on the window's thread --> waited for on another --> answer -> page, next frame
//! ```
//!
//! [`Ask`] is given from outside, so that a test can answer.

use std::future::Future;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// What to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Music or video files.
    Music,
    /// Folders of them.
    Folders,
    /// A model file.
    Model,
    /// A place for a file with this name, whose kind is called so and ends so.
    Save {
        /// Proposed name.
        name: String,
        /// Kind of file, for people.
        kind: String,
        /// Its ending.
        ending: String,
    },
}

/// The paths that were chosen; none if the dialog was closed.
pub type Answer = Pin<Box<dyn Future<Output = Vec<PathBuf>> + Send>>;

/// Opens a dialog that begins in a folder.
pub type Ask = dyn Fn(&Question, Option<&PathBuf>) -> Answer + Send + Sync;

/// A dialog that closes sooner than anybody can close it was never there.
const NOBODY_IS_THAT_QUICK: Duration = Duration::from_millis(120);

/// What to say then.
pub const NO_DIALOG: &str = "this system shows no dialog for files; install a desktop portal (xdg-desktop-portal-gtk) or zenity, or \
                             drop files and folders into the window";

/// The system's dialogs.
pub fn system(question: &Question, folder: Option<&PathBuf>) -> Answer {
    let mut dialog = rfd::AsyncFileDialog::new();
    if let Some(folder) = folder {
        dialog = dialog.set_directory(folder);
    }
    let paths = |files: Vec<rfd::FileHandle>| files.into_iter().map(|file| file.path().to_owned()).collect::<Vec<_>>();
    match question {
        Question::Music => {
            let asked = dialog.set_title("Add music").pick_files();
            Box::pin(async move { asked.await.map_or_else(Vec::new, paths) })
        }
        Question::Folders => {
            let asked = dialog.set_title("Add folders of music").pick_folders();
            Box::pin(async move { asked.await.map_or_else(Vec::new, paths) })
        }
        Question::Model => {
            let asked = dialog.set_title("Load a model").add_filter("Models", &["safetensors"]).pick_file();
            Box::pin(async move { asked.await.map_or_else(Vec::new, |file| paths(vec![file])) })
        }
        Question::Save { name, kind, ending } => {
            let asked = dialog.set_title("Export").set_file_name(name).add_filter(kind, &[ending]).save_file();
            Box::pin(async move { asked.await.map_or_else(Vec::new, |file| paths(vec![file])) })
        }
    }
}

/// Dialogs of a page, whose answers are of use to `purpose`.
pub struct Dialogs<P> {
    ask: Arc<Ask>,
    sender: Sender<(P, Reply)>,
    answers: Receiver<(P, Reply)>,
    /// One at a time.
    open: bool,
}

/// How a dialog ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// These paths were chosen.
    Chosen(Vec<PathBuf>),
    /// None were.
    Closed,
    /// There was no dialog, and why.
    Impossible(String),
}

impl<P: Send + 'static> Dialogs<P> {
    /// Dialogs that `ask` opens.
    pub fn new(ask: Arc<Ask>) -> Self {
        let (sender, answers) = mpsc::channel();
        Self { ask, sender, answers, open: false }
    }

    /// Opens a dialog, unless one is open. `wake` is called when it is answered.
    pub fn ask(
        &mut self,
        question: &Question,
        folder: Option<&PathBuf>,
        purpose: P,
        wake: impl FnOnce() + Send + 'static,
    ) {
        if self.open {
            return;
        }
        let answer = (self.ask)(question, folder);
        let sender = self.sender.clone();
        let wait = move || {
            let began = Instant::now();
            let paths = block_on(answer);
            let reply = match paths.is_empty() {
                false => Reply::Chosen(paths),
                true if began.elapsed() < NOBODY_IS_THAT_QUICK => Reply::Impossible(NO_DIALOG.to_owned()),
                true => Reply::Closed,
            };
            let _ = sender.send((purpose, reply));
            wake();
        };
        self.open = thread::Builder::new().name("dialog".to_owned()).spawn(wait).is_ok();
    }

    /// The answer, if there is one.
    pub fn poll(&mut self) -> Option<(P, Reply)> {
        let answer = self.answers.try_recv().ok()?;
        self.open = false;
        Some(answer)
    }
}

/// Wakes a thread that waits for a future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
pub mod testing {
    //! Answers for tests.

    use super::*;

    /// Dialogs in which always the same is chosen.
    pub fn choosing(paths: Vec<PathBuf>) -> Arc<Ask> {
        Arc::new(move |_, _| Box::pin(std::future::ready(paths.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(ask: Arc<Ask>) -> Reply {
        let (woken, waker) = mpsc::channel();
        let mut dialogs = Dialogs::new(ask);
        dialogs.ask(&Question::Music, None, 7, move || {
            let _ = woken.send(());
        });
        waker.recv_timeout(Duration::from_secs(10)).expect("answered");
        let (purpose, reply) = dialogs.poll().expect("an answer");
        assert_eq!((purpose, dialogs.poll()), (7, None));
        reply
    }

    #[test]
    fn answers_come_back_with_their_purpose() {
        assert_eq!(reply(testing::choosing(vec!["a.mp3".into()])), Reply::Chosen(vec!["a.mp3".into()]));
    }

    #[test]
    fn a_dialog_that_was_never_there_is_told_from_one_that_was_closed() {
        assert!(matches!(reply(testing::choosing(Vec::new())), Reply::Impossible(why) if why.contains("portal")));
        let slow: Arc<Ask> = Arc::new(|_, _| {
            Box::pin(async {
                thread::sleep(2 * NOBODY_IS_THAT_QUICK);
                Vec::new()
            })
        });
        assert_eq!(reply(slow), Reply::Closed);
    }
}
