//! One module per command. Each returns how the process ends.

#[cfg(feature = "gpu")]
pub mod adapt;
pub mod completions;
#[cfg(feature = "gpu")]
pub mod devices;
pub mod export;
#[cfg(feature = "gpu")]
mod import;
pub mod live;
pub mod merge;
pub mod model;
pub mod profiles;
pub mod tag;
pub mod undo;
pub mod watch;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use earmark_core::model_file::{Model, ModelError};

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All done.
    Done,
    /// Some files failed.
    SomeFailed,
    /// What was asked for cannot be done.
    Usage,
    /// Stopped by the user (128 + SIGINT, as shells count).
    Interrupted,
}

/// Exit code of an interrupted run.
pub const INTERRUPTED_CODE: u8 = 130;

/// Exit code of what cannot be done.
pub const USAGE_CODE: i32 = 2;

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::SomeFailed => 1,
            Exit::Usage => 2,
            Exit::Interrupted => INTERRUPTED_CODE,
        })
    }
}

/// The model in `file`, or the built-in one.
pub fn load_model(file: Option<&Path>) -> Result<Model, ModelError> {
    match file {
        Some(file) => Model::load(file),
        None => Model::from_bytes(earmark_assets::DEFAULT_MODEL, "the built-in model"),
    }
}

/// Processors that this process may use.
pub fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Writes a whole text to the standard output; a reader that has gone away has read enough.
pub fn print(text: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
