//! One file in a process of its own: for files that may take the process down which reads them.
//!
//! ```text
//! this process -> earmark tag-alone FILE -> a record on its standard output -> result, or failure
//!                                    `- killed, aborted, out of memory: that file did it, and this process goes on
//! ```

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, anyhow};
use earmark_core::engine::{self, DeviceChoice, Hop, Work};

use crate::args::TagAloneArgs;
use crate::batch::Outcome;
use crate::commands::{self, Exit};
use crate::inputs::{Input, shown};
use crate::journal::{self, Entry, FileId, FileStamp, SignOfLife, Stamp, decode_result, encode_result};
use crate::progress::Progress;
use crate::tagging::{TaggedFile, tag_file};

/// How a file is tagged.
#[derive(Clone, Debug)]
pub struct Alone {
    /// Model file; `None` is the built-in model.
    pub model: Option<PathBuf>,
    /// Device to compute on, as written.
    pub device: DeviceChoice,
    /// Stride between windows.
    pub hop: Hop,
    /// The run is long enough for a GPU to be looked for.
    pub is_long: bool,
}

/// What became of a file in a process of its own.
pub enum Ended {
    /// The process told.
    Told(Outcome<TaggedFile>),
    /// The process came to an end of its own; how.
    Died(String),
}

impl Alone {
    /// Tags `path` in a process of its own, which says at `sign_of_life` that it lives.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn tag(&self, path: &Path, sign_of_life: &Path) -> io::Result<Ended> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("tag-alone").arg("--hop-samples").arg(self.hop.samples().to_string());
        command.arg("--device").arg(self.device.to_string()).arg("--sign-of-life").arg(sign_of_life);
        if self.is_long {
            command.arg("--long");
        }
        if let Some(model) = &self.model {
            command.arg("--model").arg(model);
        }
        let output = command.arg("--").arg(path).stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        // One that died could not take it away.
        let _ = fs::remove_file(sign_of_life);
        Ok(match journal::decode(&output.stdout) {
            Some((Entry::Done { result, .. }, tail)) => {
                let damaged = || Outcome::Failed("its process gave half a result; try again".to_owned());
                Ended::Told(decode_result(path.into(), result, tail).map_or_else(damaged, Outcome::Done))
            }
            Some((Entry::Failed { cause, .. }, _)) => Ended::Told(Outcome::Failed(cause)),
            _ if was_stopped(output.status) => Ended::Told(Outcome::Abandoned),
            // It said why on its standard error, and the file is not to blame.
            _ if output.status.code() == Some(commands::USAGE_CODE) => {
                return Err(io::Error::other("it could not be set up"));
            }
            _ => Ended::Died(how(output.status)),
        })
    }
}

/// Whether somebody asked the process to end, which is not the file's fault.
#[cfg(unix)]
fn was_stopped(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    /// SIGHUP, SIGINT and SIGTERM, whose numbers are the same on every Unix.
    const POLITE: [i32; 3] = [1, 2, 15];
    status.code() == Some(i32::from(commands::INTERRUPTED_CODE)) || status.signal().is_some_and(|s| POLITE.contains(&s))
}

#[cfg(not(unix))]
fn was_stopped(status: ExitStatus) -> bool {
    status.code() == Some(i32::from(commands::INTERRUPTED_CODE))
}

/// How a process ended, in words.
#[cfg(unix)]
fn how(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match status.signal() {
        Some(6) => "it was aborted".to_owned(),
        Some(9) => "it was killed, as it is when memory runs out".to_owned(),
        Some(11 | 7) => "it crashed".to_owned(),
        Some(signal) => format!("it was ended by signal {signal}"),
        None => format!("it ended with {status}"),
    }
}

#[cfg(not(unix))]
fn how(status: ExitStatus) -> String {
    format!("it ended with {status}")
}

/// `earmark tag-alone`: the other side.
///
/// # Errors
/// What makes it impossible for any file: the model, the device, the standard output.
pub fn run(args: &TagAloneArgs) -> Result<Exit> {
    let _sign = SignOfLife::give(&args.sign_of_life, FileId::of(&args.path))
        .with_context(|| format!("cannot write {}", shown(&args.sign_of_life)))?;
    let model = commands::load_model(args.model.as_deref())?;
    let hop = Hop::new(args.hop_samples).context("hop-samples is 0")?;
    let device: DeviceChoice = args.device.parse().map_err(|cause: String| anyhow!("device: {cause}"))?;
    let work = Work { threads: commands::processors(), hop, is_long: args.long };
    let engine = engine::open(&model, device, work, &(Arc::new(|_: &str| {}) as engine::Notify))?;
    let stamp = Stamp::of(&args.path);
    let input = Input { path: args.path.clone(), num_bytes: stamp.size, index: 0, shard_key: 0 };
    let inputs = [input];
    let progress = Progress::new(&inputs);
    let outcome = crate::batch::contained(|| {
        tag_file(&inputs[0], &*engine, hop, progress.file(&inputs[0]), &AtomicBool::new(false))
    });
    let file = FileStamp::new(&args.path, stamp);
    let frame = match outcome {
        Outcome::Done(found) => {
            let (result, tail) = encode_result(&found, hop);
            journal::encode(&Entry::Done { file, result }, &tail)?
        }
        Outcome::Failed(cause) => journal::encode(&Entry::Failed { file, cause }, &[])?,
        Outcome::Abandoned => return Ok(Exit::Interrupted),
    };
    let mut out = io::stdout().lock();
    out.write_all(&frame).and_then(|()| out.flush())?;
    Ok(Exit::Done)
}
