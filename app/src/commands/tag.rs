//! `earmark tag`: files in, tags out.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use earmark_core::engine::{self, Notify, Work};
use earmark_core::tags::TagVocabulary;
use indicatif::ProgressBar;

use super::{Exit, INTERRUPTED_CODE};
use crate::args::Format;
use crate::batch::{self, Event, Outcome, Plan};
use crate::console::Console;
use crate::file_tags::{Identity, Session as TagSession, Writer};
use crate::inputs::{Inputs, shown};
use crate::output::{self, Destination, Report, Run, Style, Summary};
use crate::progress::{self, Progress, Snapshot, clock};
use crate::settings::TagSettings;
use crate::tagging::{TaggedFile, tag_file};

/// How often a `progress` event is written.
const PROGRESS_EVENT_EVERY: Duration = Duration::from_secs(1);

/// Finished files that may wait for an earlier one, per job.
const LOOK_AHEAD_PER_JOB: usize = 4;

/// Bytes of input from which on it can pay to start a GPU: about an hour of music. A CPU is through with it before most
/// drivers and their shader compilers are.
const LONG_WORK_BYTES: u64 = 64 << 20;

/// Set by Ctrl-C, and when nobody reads the results any more.
static STOP: AtomicBool = AtomicBool::new(false);

/// Set by Ctrl-C alone.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Tags what `settings` name and writes the results.
///
/// # Errors
/// What makes the whole run impossible: the model, the device, the place to write to. A file that fails does not.
pub fn run(settings: &TagSettings) -> Result<Exit> {
    let console = Console::new(settings.quiet);
    if let Some(note) = &settings.hop_note {
        console.note(note);
    }
    let model = super::load_model(settings.model.as_deref())?;
    let vocabulary = TagVocabulary::new(model.metadata.tags.clone(), model.metadata.thresholds.clone())?;
    let inputs = Inputs::find(&settings.paths);
    for warning in &inputs.warnings {
        console.note(warning);
    }
    let (jobs, threads) = share(settings.jobs, inputs.files.len(), processors());
    let mut out = Destination::open(settings.out.as_deref())?;
    let num_bytes: u64 = inputs.files.iter().map(|input| input.num_bytes).sum();
    let work = Work { threads, hop: settings.hop, is_long: num_bytes >= LONG_WORK_BYTES };
    let (sender, notices) = mpsc::channel();
    let notify: Notify = Arc::new(move |notice: &str| drop(sender.send(notice.to_owned())));
    let engine = engine::open(&model, settings.device, work, &notify)?;
    notices.try_iter().for_each(|notice| console.note(notice));
    let device = engine.device();
    stop_on_ctrl_c(out.temporary())?;
    batch::silence_contained_panics();

    let wanted = Run {
        model: &model.metadata,
        vocabulary: &vocabulary,
        device: &device,
        hop: settings.hop,
        top_n: settings.top_n,
        min_confidence: settings.min_confidence,
        num_files: inputs.files.len(),
    };
    if wanted.num_files > 0 {
        console.note(format!("model {} on {device}", model.metadata.name));
    }
    if settings.format == Format::Audacity && wanted.num_files > 1 {
        console.note(format!("labels of {} files in one track; each begins with its file", wanted.num_files));
    }

    let writer = match &settings.write_tags {
        None => None,
        Some(how) => {
            let hash = super::model_hash(settings.model.as_deref())?;
            Some(TagSession::new(Writer::new(how, &vocabulary, Identity::new(&model.metadata.name, &hash))?))
        }
    };

    let progress = Progress::new(&inputs.files);
    let bar = if settings.progress && wanted.num_files > 0 { progress::bar() } else { None };
    let mut session = Session {
        console: console.beside(bar.clone()),
        report: output::report(settings.format, wanted, Style::detect(settings.out.is_none())),
        reports_silence: settings.format != Format::Human,
        inputs: &inputs,
        notices: &notices,
        progress: &progress,
        bar,
        last_event: Instant::now(),
        num_completed: 0,
        num_failed: 0,
        shows_diff: settings.format == Format::Human,
        writer,
        out: &mut out,
    };

    let mut written = session.begin();
    if written.is_ok() && !(settings.fail_fast && session.num_failed > 0) {
        let plan = Plan { jobs, fail_fast: settings.fail_fast, look_ahead: jobs.saturating_mul(LOOK_AHEAD_PER_JOB) };
        let work = |input: &_| tag_file(input, &*engine, settings.hop, progress.file(input), &STOP);
        batch::run(&inputs.files, plan, &STOP, work, |event| {
            written = session.on_event(event);
            if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
    }
    let written = written.and_then(|()| session.end());
    let (num_completed, num_failed) = (session.num_completed, session.num_failed);
    let writer = session.writer.take();
    let not_done = session.not_done();
    if let Some(bar) = &session.bar {
        bar.finish_and_clear();
    }
    drop(session);
    let num_unwritten = match writer {
        None => 0,
        Some(writer) => match writer.finish() {
            Ok((said, num_unwritten)) => {
                said.iter().for_each(|line| console.note(line));
                num_unwritten
            }
            Err(cause) => {
                console.error(format!("{cause:#}"));
                1
            }
        },
    };
    match written.and_then(|()| out.commit()) {
        Ok(()) => {}
        // Whoever read has read enough, as `head` does: nothing to say.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(ended(num_failed + num_unwritten)),
        Err(error) => {
            let place = settings.out.as_deref().map_or_else(|| "the standard output".to_owned(), shown);
            console.error(format!("cannot write the results to {place}: {error}"));
            return Ok(Exit::SomeFailed);
        }
    }

    if INTERRUPTED.load(Ordering::Relaxed) {
        console.error(format!("interrupted: {not_done} files not done; the results of {num_completed} are written"));
        return Ok(Exit::Interrupted);
    }
    if not_done > 0 {
        console.error(format!("stopped after a failure (--fail-fast): {not_done} files not done"));
    }
    if num_completed + num_failed > 0 {
        console.note(closing(num_completed, num_failed, &progress.snapshot()));
    }
    Ok(ended(num_failed + num_unwritten))
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

fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Files at a time, and threads of the engine. Many files keep every processor busy with one thread each, which costs
/// no coordination; fewer files than processors share an engine that uses all of them.
fn share(jobs: Option<usize>, num_files: usize, processors: usize) -> (usize, usize) {
    let at_a_time = jobs.unwrap_or(processors).min(num_files).max(1);
    let threads = if at_a_time == 1 || (jobs.is_none() && at_a_time < processors) { processors } else { 1 };
    (at_a_time, threads)
}

/// The first Ctrl-C lets what is done be written; the second does not wait, and takes `temporary` away.
fn stop_on_ctrl_c(temporary: Option<PathBuf>) -> Result<()> {
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

/// A run in progress, as the main thread sees it.
struct Session<'a> {
    console: Console,
    report: Box<dyn Report + 'a>,
    /// The format does not tell a person that a file is silent, so that the console does.
    reports_silence: bool,
    inputs: &'a Inputs,
    /// What becomes of the device while the jobs run.
    notices: &'a Receiver<String>,
    progress: &'a Progress,
    bar: Option<ProgressBar>,
    last_event: Instant,
    num_completed: usize,
    num_failed: usize,
    /// What a dry run would write is shown among the results; other formats have no place for it.
    shows_diff: bool,
    /// Writes tags into files, if that is asked for.
    writer: Option<TagSession>,
    out: &'a mut Destination,
}

impl Session<'_> {
    fn begin(&mut self) -> io::Result<()> {
        self.write(|report, out| report.start(out))?;
        for (path, cause) in &self.inputs.errors {
            self.failed(None, path, cause)?;
        }
        Ok(())
    }

    fn on_event(&mut self, event: Event<TaggedFile>) -> io::Result<()> {
        if let Some(bar) = &self.bar {
            progress::show(bar, self.progress);
        }
        if self.last_event.elapsed() >= PROGRESS_EVENT_EVERY {
            self.last_event = Instant::now();
            let snapshot = self.progress.snapshot();
            self.write(|report, out| report.progress(out, &snapshot))?;
        }
        self.notices.try_iter().for_each(|notice| self.console.error(notice));
        let inputs = self.inputs;
        let path = |index: usize| inputs.files[index].path.as_path();
        match event {
            Event::Started(index) => self.write(|report, out| report.file_started(out, index, path(index))),
            Event::Finished(index, Outcome::Done(file)) => self.completed(index, &file),
            Event::Finished(index, Outcome::Failed(cause)) => self.failed(Some(index), path(index), &cause),
            Event::Finished(_, Outcome::Abandoned) | Event::Tick => Ok(()),
        }
    }

    fn completed(&mut self, index: usize, file: &TaggedFile) -> io::Result<()> {
        self.num_completed += 1;
        let name = shown(&file.path);
        for warning in &file.warnings {
            self.console.note(format!("{name}: warning: {warning}"));
        }
        if file.clip_probabilities.is_none() && self.reports_silence {
            self.console.note(format!("{name}: silent, so it has no tags"));
        }
        self.write(|report, out| report.file_completed(out, index, file))?;
        self.write_tags(file)
    }

    /// Writes what was heard into the file itself.
    fn write_tags(&mut self, file: &TaggedFile) -> io::Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        match writer.on_file(&file.path, file.clip_probabilities.as_deref()) {
            Err(cause) => self.console.error(format!("{}: tags not written: {cause}", shown(&file.path))),
            Ok(diff) if self.shows_diff => {
                self.write(|_, out| diff.iter().try_for_each(|line| writeln!(out, "  {line}")))?;
            }
            Ok(diff) => diff.iter().for_each(|line| self.console.note(format!("{}: {line}", shown(&file.path)))),
        }
        Ok(())
    }

    fn failed(&mut self, index: Option<usize>, path: &Path, cause: &str) -> io::Result<()> {
        self.num_failed += 1;
        self.console.error(format!("{}: {cause}", shown(path)));
        self.write(|report, out| report.file_failed(out, index, path, cause))
    }

    fn end(&mut self) -> io::Result<()> {
        let summary = Summary {
            num_completed: self.num_completed,
            num_failed: self.num_failed,
            interrupted: INTERRUPTED.load(Ordering::Relaxed),
            snapshot: self.progress.snapshot(),
        };
        self.write(|report, out| report.finish(out, &summary))
    }

    /// Files without a result and without a failure.
    fn not_done(&self) -> usize {
        let failed_files = self.num_failed - self.inputs.errors.len().min(self.num_failed);
        self.inputs.files.len() - self.num_completed - failed_files
    }

    fn write(&mut self, write: impl FnOnce(&mut dyn Report, &mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let Self { console, report, out, .. } = self;
        console.undisturbed(|| {
            write(&mut **report, &mut **out)?;
            if out.is_live() { out.flush() } else { Ok(()) }
        })
    }
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
