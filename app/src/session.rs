//! A run in progress, as the main thread sees it: what happens goes to the report and to the person.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use crate::batch::{Event, Outcome};
use crate::console::Console;
use crate::file_tags;
use crate::inputs::{Input, shown};
use crate::journal::Journal;
use crate::output::{Output, Report, Summary};
use crate::progress::{self, Progress};
use crate::tagging::TaggedFile;

/// How often a `progress` event is written.
const PROGRESS_EVENT_EVERY: Duration = Duration::from_secs(1);

/// What is written where.
pub struct Pen<'a> {
    /// The format.
    pub report: Box<dyn Report + 'a>,
    /// The place.
    pub out: &'a mut Output,
}

/// A run in progress.
pub struct Session<'a> {
    /// The standard error.
    pub console: Console,
    /// `None` if results are only kept, to be written later.
    pub pen: Option<Pen<'a>>,
    /// Keeps results; here it is only told when to wait for the disk.
    pub journal: Option<&'a Journal>,
    /// Writes tags into the files, if that is asked for.
    pub tags: Option<file_tags::Session>,
    /// What a dry run of that would write is shown among the results; other formats have no place for it.
    pub shows_diff: bool,
    /// The file that was rewritten last, until somebody takes the name.
    pub rewritten: Option<PathBuf>,
    /// The format does not tell a person that a file is silent, so that the console does.
    pub reports_silence: bool,
    /// What becomes of the device while the jobs run.
    pub notices: &'a Receiver<String>,
    /// The bar, if one is shown.
    pub bar: Option<ProgressBar>,
    /// When a `progress` event was last written.
    pub last_event: Instant,
    /// Number of the first of the current inputs in the report.
    pub first: usize,
    /// Files with a result.
    pub num_completed: usize,
    /// Files and folders without.
    pub num_failed: usize,
}

impl Session<'_> {
    /// The run begins; these places could not be looked into.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn begin<'p>(&mut self, errors: impl IntoIterator<Item = &'p (std::path::PathBuf, String)>) -> io::Result<()> {
        self.write(|report, out| report.start(out))?;
        for (path, cause) in errors {
            self.failed(None, path, cause)?;
        }
        Ok(())
    }

    /// Something happens to one of `inputs`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn on_event(&mut self, inputs: &[Input], progress: &Progress, event: Event<TaggedFile>) -> io::Result<()> {
        if let Some(bar) = &self.bar {
            progress::show(bar, progress);
        }
        if self.last_event.elapsed() >= PROGRESS_EVENT_EVERY {
            self.last_event = Instant::now();
            let snapshot = progress.snapshot();
            self.write(|report, out| report.progress(out, &snapshot))?;
        }
        if let Some(Err(error)) = self.journal.map(Journal::sync_now_and_then) {
            return Err(error);
        }
        self.notices.try_iter().for_each(|notice| self.console.error(notice));
        let path = |index: usize| inputs[index].path.as_path();
        let first = self.first;
        match event {
            Event::Started(index) => self.write(|report, out| report.file_started(out, first + index, path(index))),
            Event::Finished(index, Outcome::Done(file)) => self.completed(first + index, &file),
            Event::Finished(index, Outcome::Failed(cause)) => self.failed(Some(first + index), path(index), &cause),
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
        let Some(tags) = &mut self.tags else { return Ok(()) };
        let name = shown(&file.path);
        let told = match tags.on_file(&file.path, file.clip_probabilities.as_deref()) {
            Ok(told) => told,
            Err(cause) => {
                self.console.error(format!("{name}: tags not written: {cause}"));
                return Ok(());
            }
        };
        if told.is_rewritten {
            self.rewritten = Some(file.path.clone());
            if let Some(journal) = self.journal {
                journal.rewritten(&file.path)?;
            }
        }
        if self.shows_diff {
            return self.write(|_, out| told.diff.iter().try_for_each(|line| writeln!(out, "  {line}")));
        }
        told.diff.iter().for_each(|line| self.console.note(format!("{name}: {line}")));
        Ok(())
    }

    /// There is no result for `path`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn failed(&mut self, index: Option<usize>, path: &Path, cause: &str) -> io::Result<()> {
        self.num_failed += 1;
        self.console.error(format!("{}: {cause}", shown(path)));
        self.write(|report, out| report.file_failed(out, index, path, cause))
    }

    /// The run ends.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn end(&mut self, progress: &Progress, interrupted: bool) -> io::Result<()> {
        let summary = Summary {
            num_completed: self.num_completed,
            num_failed: self.num_failed,
            interrupted,
            snapshot: progress.snapshot(),
        };
        self.write(|report, out| report.finish(out, &summary))
    }

    fn write(&mut self, write: impl FnOnce(&mut dyn Report, &mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let Self { console, pen, .. } = self;
        let Some(Pen { report, out }) = pen else { return Ok(()) };
        console.undisturbed(|| {
            write(&mut **report, &mut **out)?;
            out.write_beside(&report.take_beside())?;
            if out.is_live() { out.flush() } else { Ok(()) }
        })
    }
}
