//! The system's file dialogs, without waiting for them.
//!
//! ```text
//! page -- Request --> Dialogs -> a dialog of the system, on a thread of its own --> Answer, asked for once per frame
//! ```

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use eframe::egui;

/// What is to be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A file with one of these endings; none means any.
    File(&'static [&'static str]),
    /// Any number of files.
    Files(&'static [&'static str]),
    /// A folder.
    Folder,
    /// A place for a new file of this name.
    Place(String),
}

/// A question to the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Title of the dialog.
    pub title: &'static str,
    /// What is to be chosen.
    pub wanted: Wanted,
    /// Where the dialog opens.
    pub folder: Option<PathBuf>,
}

/// A dialog that is open.
pub struct Answer(Receiver<Vec<PathBuf>>);

impl Answer {
    /// What was chosen, once; nothing if the dialog was closed. `None` while it is open.
    pub fn take(&self) -> Option<Vec<PathBuf>> {
        match self.0.try_recv() {
            Ok(paths) => Some(paths),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Vec::new()),
        }
    }

    /// An answer that is there already.
    #[cfg(test)]
    pub fn of(paths: Vec<PathBuf>) -> Self {
        let (sender, receiver) = mpsc::channel();
        // The receiver is right here.
        let _ = sender.send(paths);
        Self(receiver)
    }
}

/// Who asks: the system, or a test.
pub trait Dialogs {
    /// Opens a dialog.
    fn ask(&self, ctx: &egui::Context, request: Request) -> Answer;
}

/// The system's own dialogs.
pub struct SystemDialogs;

impl Dialogs for SystemDialogs {
    fn ask(&self, ctx: &egui::Context, request: Request) -> Answer {
        let mut dialog = rfd::AsyncFileDialog::new().set_title(request.title);
        if let Some(folder) = &request.folder {
            dialog = dialog.set_directory(folder);
        }
        if let Wanted::File(endings) | Wanted::Files(endings) = &request.wanted
            && !endings.is_empty()
        {
            dialog = dialog.add_filter("these files", endings).add_filter("all files", &["*"]);
        }
        let one = |handle: Option<rfd::FileHandle>| handle.iter().map(|handle| handle.path().to_owned()).collect();
        // Made here, on the main thread, as macOS asks for; only the waiting is elsewhere.
        match request.wanted {
            Wanted::File(_) => wait(ctx, dialog.pick_file(), one),
            Wanted::Folder => wait(ctx, dialog.pick_folder(), one),
            Wanted::Place(name) => wait(ctx, dialog.set_file_name(name).save_file(), one),
            Wanted::Files(_) => wait(ctx, dialog.pick_files(), |handles: Option<Vec<rfd::FileHandle>>| {
                handles.into_iter().flatten().map(|handle| handle.path().to_owned()).collect()
            }),
        }
    }
}

fn wait<T>(
    ctx: &egui::Context,
    dialog: impl Future<Output = T> + Send + 'static,
    paths: impl Fn(T) -> Vec<PathBuf> + Send + 'static,
) -> Answer {
    let (sender, receiver) = mpsc::channel();
    let ctx = ctx.clone();
    // Without a thread the sender is dropped, which is an answer too: nothing was chosen.
    let _ = thread::Builder::new().name("dialog".to_owned()).spawn(move || {
        let _ = sender.send(paths(block_on(dialog)));
        ctx.request_repaint();
    });
    Answer(receiver)
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for one future on this thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_future_that_wakes_later_is_waited_for() {
        let mut left = 3;
        let value = block_on(std::future::poll_fn(move |context| {
            left -= 1;
            if left == 0 {
                return Poll::Ready(7);
            }
            let waker = context.waker().clone();
            thread::spawn(move || waker.wake());
            Poll::Pending
        }));
        assert_eq!(value, 7);
    }

    #[test]
    fn an_answer_is_given_once_and_a_closed_dialog_is_one() {
        let answer = Answer::of(vec!["a".into()]);
        assert_eq!(answer.take(), Some(vec![PathBuf::from("a")]));
        assert_eq!(answer.take(), Some(Vec::new()));
    }
}
