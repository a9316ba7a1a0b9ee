//! `earmark tag`: files in, tags out.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Instant;

use anyhow::{Context, Result};
use earmark_core::engine::{self, Engine, Notify, Work};
use earmark_core::model_file::Model;

use super::{Exit, INTERRUPTED_CODE};
use crate::args::Format;
use crate::batch::{self, Plan};
use crate::console::Console;
use crate::file_tags;
use crate::inputs::{Inputs, shown};
use crate::isolate::Alone;
use crate::journal::{EndRecord, FileId, Identity, Journal, Mode, Rendering, RunRecord};
use crate::output::{self, Form, Output, Run, Style};
use crate::progress::{self, Progress, Snapshot, clock};
use crate::session::{Pen, Session};
use crate::settings::TagSettings;
use crate::view::View;
use crate::worker::Worker;

/// Finished files that may wait for an earlier one, per job.
pub const LOOK_AHEAD_PER_JOB: usize = 4;

/// Bytes of input from which on it can pay to start a GPU: about an hour of music. A CPU is through with it before most
/// drivers and their shader compilers are.
pub const LONG_WORK_BYTES: u64 = 64 << 20;

/// Set by Ctrl-C, when nobody reads the results any more, and when they cannot be kept.
pub static STOP: AtomicBool = AtomicBool::new(false);

/// Set by Ctrl-C alone.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// A model and what is asked of it.
pub struct Prepared {
    model: Model,
    /// How results are looked at.
    pub view: View,
    record: RunRecord,
}

impl Prepared {
    /// Reads the model and checks that it can do what `settings` ask for.
    ///
    /// # Errors
    /// If it cannot.
    pub fn new(settings: &TagSettings) -> Result<Self> {
        let model = super::load_model(settings.model.as_deref())?;
        let model_hash = blake3::hash(&model.to_bytes()?).to_hex().to_string();
        let TagSettings { format, top_n, min_confidence, target_precision, hop, .. } = *settings;
        let rendering = Rendering { format, top_n, min_confidence, target_precision };
        let identity = Identity {
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            model_hash: model_hash.clone(),
            hop_samples: hop.samples(),
        };
        let record = RunRecord {
            identity,
            rendering: rendering.clone(),
            shard: settings.shard,
            out: settings.out.as_deref().map_or_else(String::new, shown),
            model: model.metadata.clone(),
        };
        let view = View::new(model.metadata.clone(), model_hash, hop, rendering)?;
        Ok(Self { model, view, record })
    }

    /// The name of the model.
    pub fn name(&self) -> &str {
        &self.model.metadata.name
    }

    /// The engine, and what it has to say while it works.
    ///
    /// # Errors
    /// If the device is not there.
    pub fn engine(&self, settings: &TagSettings, work: Work) -> Result<(Box<dyn Engine>, Receiver<String>)> {
        let (sender, notices) = mpsc::channel();
        let notify: Notify = Arc::new(move |notice: &str| drop(sender.send(notice.to_owned())));
        Ok((engine::open(&self.model, settings.device, work, &notify)?, notices))
    }

    /// The journal of the output, if that is a file.
    ///
    /// # Errors
    /// If another run has it, or it cannot be written.
    pub fn journal(&self, settings: &TagSettings, console: &Console) -> Result<Option<Journal>> {
        let Some(out) = settings.out.as_deref().filter(|out| output::is_file(out)) else { return Ok(None) };
        let (journal, note) = Journal::open(out, self.record.clone(), settings.mode)?;
        note.iter().for_each(|note| console.note(note));
        Ok(Some(journal))
    }
}

/// Tags what `settings` name and writes the results.
///
/// # Errors
/// What makes the whole run impossible: the model, the device, the place to write to. A file that fails does not.
pub fn run(settings: &TagSettings) -> Result<Exit> {
    let console = Console::new(settings.quiet);
    settings.hop_note.iter().for_each(|note| console.note(note));
    let prepared = Prepared::new(settings)?;
    prepared.view.notes.iter().for_each(|note| console.note(note));
    if let Some(settle) = settings.watch {
        return super::watch::run(settings, settle, &prepared, &console);
    }
    let inputs = Inputs::find(&settings.paths).of(settings.shard);
    inputs.warnings.iter().for_each(|warning| console.note(warning));
    let (jobs, threads) = share(settings.jobs, inputs.files.len(), super::processors());
    let journal = prepared.journal(settings, &console)?;
    let mut out = Output::open(settings.out.as_deref(), settings.format)?;
    let num_bytes: u64 = inputs.files.iter().map(|input| input.num_bytes).sum();
    let work = Work { threads, hop: settings.hop, is_long: num_bytes >= LONG_WORK_BYTES };
    let (engine, notices) = prepared.engine(settings, work)?;
    notices.try_iter().for_each(|notice| console.note(notice));
    let device = engine.device();
    stop_on_ctrl_c(out.temporary())?;
    batch::silence_contained_panics();

    let run = prepared.view.run(&device, inputs.files.len());
    if run.num_files > 0 {
        console.note(format!("model {} on {device}", prepared.name()));
    }
    if settings.format == Format::Audacity && run.num_files > 1 {
        console.note(format!("labels of {} files in one track; each begins with its file", run.num_files));
    }

    let tags = tags(settings, &run)?;
    let worker = Worker { engine: &*engine, hop: settings.hop, journal: journal.as_ref(), stop: &STOP };
    worker.try_suspects(&inputs.files, &alone(settings, work.is_long), &console);

    let progress = Progress::new(&inputs.files);
    let bar = if settings.progress && run.num_files > 0 { progress::bar() } else { None };
    let form = if out.is_live() { Form::Live } else { Form::Kept };
    let report = output::report(settings.format, run, Style::detect(settings.out.is_none()), form)?;
    let mut session = Session {
        console: console.beside(bar.clone()),
        pen: Some(Pen { report, out: &mut out }),
        journal: journal.as_ref(),
        tags,
        shows_diff: settings.format == Format::Human,
        rewritten: None,
        reports_silence: settings.format != Format::Human,
        notices: &notices,
        bar,
        last_event: Instant::now(),
        first: 0,
        num_completed: 0,
        num_failed: 0,
    };

    let mut written = session.begin(&inputs.errors);
    if written.is_ok() && !(settings.fail_fast && session.num_failed > 0) {
        let plan = Plan { jobs, fail_fast: settings.fail_fast, look_ahead: jobs.saturating_mul(LOOK_AHEAD_PER_JOB) };
        let work = |input: &_| worker.tag(input, progress.file(input));
        batch::run(&inputs.files, plan, &STOP, work, |event| {
            written = session.on_event(&inputs.files, &progress, event);
            if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
    }
    let written = written.and_then(|()| session.end(&progress, INTERRUPTED.load(Ordering::Relaxed)));
    let (num_completed, num_failed) = (session.num_completed, session.num_failed);
    let failed_files = num_failed - inputs.errors.len().min(num_failed);
    let not_done = inputs.files.len() - num_completed - failed_files;
    session.bar.iter().for_each(indicatif::ProgressBar::finish_and_clear);
    let num_unwritten = finish_tags(session.tags.take(), &console);
    drop(session);

    let kept = journal.as_ref().map(|journal| shown(journal.path()));
    if let Some(error) = journal.as_ref().and_then(Journal::failure) {
        console.error(full(&format!("cannot write {}", kept.unwrap_or_default()), &error, true));
        return Ok(Exit::SomeFailed);
    }
    // An output that is a file is complete or not there; what is done is kept for the next run.
    let complete = not_done == 0 || journal.is_none();
    match written.and_then(|()| if complete { out.commit() } else { Ok(()) }) {
        Ok(()) => {}
        // Whoever read has read enough, as `head` does: nothing to say.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(ended(num_failed + num_unwritten)),
        Err(error) => {
            let place = settings.out.as_deref().map_or_else(|| "the standard output".to_owned(), shown);
            console.error(full(&format!("cannot write the results to {place}"), &error, journal.is_some()));
            return Ok(Exit::SomeFailed);
        }
    }

    let go_on = kept.map_or_else(
        || format!("the results of {num_completed} are written"),
        |kept| format!("the results of {num_completed} are kept in {kept}; go on with --resume"),
    );
    if INTERRUPTED.load(Ordering::Relaxed) && not_done > 0 {
        console.error(format!("interrupted: {not_done} files not done; {go_on}"));
        return Ok(Exit::Interrupted);
    }
    if not_done > 0 {
        console.error(format!("stopped after a failure (--fail-fast): {not_done} files not done; {go_on}"));
    } else if let Some(journal) = journal {
        close(journal, settings, &inputs, num_failed, &console);
    }
    if num_completed + num_failed > 0 {
        console.note(closing(num_completed, num_failed, &progress.snapshot()));
    }
    Ok(ended(num_failed + num_unwritten))
}

/// What writes tags into the files of `run`, if `settings` ask for it.
///
/// # Errors
/// If the model's tags have no place in files, or the way back cannot be kept.
pub fn tags(settings: &TagSettings, run: &Run<'_>) -> Result<Option<file_tags::Session>> {
    let Some(how) = &settings.write_tags else { return Ok(None) };
    // With the name, a part of the hash is enough to tell models apart.
    let identity = file_tags::Identity::new(&run.model.name, run.model_hash.get(..8).unwrap_or(run.model_hash));
    let writer = file_tags::Writer::new(how, run.vocabulary.names(), run.thresholds, identity)?;
    Ok(Some(file_tags::Session::new(writer)))
}

/// Says how the writing of tags ended, and returns how many files could not be written.
pub fn finish_tags(tags: Option<file_tags::Session>, console: &Console) -> usize {
    match tags.map(file_tags::Session::finish) {
        None => 0,
        Some(Ok((said, num_unwritten))) => {
            said.iter().for_each(|line| console.note(line));
            num_unwritten
        }
        Some(Err(cause)) => {
            console.error(format!("{cause:#}"));
            1
        }
    }
}

/// How a file is tagged that ended an earlier run.
pub fn alone(settings: &TagSettings, is_long: bool) -> Alone {
    Alone { model: settings.model.clone(), device: settings.device, hop: settings.hop, is_long }
}

/// The output is there. Its journal stays for whoever goes on from it: the next run, a merge, a retry.
fn close(journal: Journal, settings: &TagSettings, inputs: &Inputs, num_failed: usize, console: &Console) {
    let path = shown(journal.path());
    let asked_for = settings.mode == Mode::Resume || settings.shard.is_some();
    let closed = if asked_for || num_failed > 0 {
        if !asked_for {
            console.note(format!("{path} is kept: --resume tries only what failed again"));
        }
        journal.end(end_record(inputs, settings.shard.is_some()))
    } else {
        journal.remove()
    };
    if let Err(error) = closed {
        console.error(format!("{path}: {error}; the results are complete, this file may be removed"));
    }
}

/// What a merge has to know; without a shard there is nothing to merge.
pub fn end_record(inputs: &Inputs, is_shard: bool) -> EndRecord {
    let name = |path: &Path| path.to_string_lossy().into_owned();
    let files = inputs.files.iter().filter(|_| is_shard).map(|file| (file.index, FileId::of(&file.path)));
    EndRecord {
        num_all: inputs.num_all,
        listing: inputs.listing.clone(),
        errors: inputs.errors.iter().map(|(path, cause)| (name(path), cause.clone())).collect(),
        files: files.collect(),
    }
}

/// Why results could not be written, and that nothing is lost.
pub fn full(what: &str, error: &io::Error, is_kept: bool) -> String {
    if is_kept {
        format!("{what}: {error}; what was done before is kept: make room or mend the place, then go on with --resume")
    } else {
        format!("{what}: {error}")
    }
}

/// The last line of a run.
fn closing(num_completed: usize, num_failed: usize, snapshot: &Snapshot) -> String {
    let failed = if num_failed > 0 { format!("; {num_failed} failed") } else { String::new() };
    if num_completed == 0 {
        return format!("no file tagged{failed}");
    }
    let files = if num_completed == 1 { "file" } else { "files" };
    let Snapshot { audio_s, wall_s, speed, .. } = *snapshot;
    let audio = clock(audio_s);
    format!("{num_completed} {files}, {audio} of audio in {wall_s:.1} s ({speed:.0} x real time){failed}")
}

fn ended(num_failed: usize) -> Exit {
    if num_failed > 0 { Exit::SomeFailed } else { Exit::Done }
}

/// Files at a time, and threads of the engine. Many files keep every processor busy with one thread each, which costs
/// no coordination; fewer files than processors share an engine that uses all of them.
pub fn share(jobs: Option<usize>, num_files: usize, processors: usize) -> (usize, usize) {
    let at_a_time = jobs.unwrap_or(processors).min(num_files).max(1);
    let threads = if at_a_time == 1 || (jobs.is_none() && at_a_time < processors) { processors } else { 1 };
    (at_a_time, threads)
}

/// The first Ctrl-C lets what is done be written; the second does not wait, and takes `temporary` away.
///
/// # Errors
/// If the system does not let this program listen.
pub fn stop_on_ctrl_c(temporary: Vec<PathBuf>) -> Result<()> {
    ctrlc::set_handler(move || {
        STOP.store(true, Ordering::Relaxed);
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            // That it is there no more, because the run ended just now, is no failure.
            temporary.iter().for_each(|temporary| drop(std::fs::remove_file(temporary)));
            std::process::exit(i32::from(INTERRUPTED_CODE));
        }
    })
    .context("cannot listen for Ctrl-C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_shared_between_files_and_threads() {
        assert_eq!(share(None, 1, 8), (1, 8), "a single file has all");
        assert_eq!(share(None, 100, 8), (8, 1), "many files have one thread each");
        assert_eq!(share(None, 3, 8), (3, 8), "few files share all");
        assert_eq!(share(Some(4), 100, 8), (4, 1), "asking for less is respected");
        assert_eq!(share(Some(4), 1, 8), (1, 8));
        assert_eq!(share(Some(1), 100, 8), (1, 8));
        assert_eq!(share(None, 0, 8), (1, 8));
    }
}
