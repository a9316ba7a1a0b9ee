//! `earmark tag --watch`: tags what arrives in folders, once it is fully written, until stopped.
//!
//! ```text
//! every moment   look through the folders -> a file with the same size and time of change for a while is settled
//! settled        -> tagged like in any run, in batches -> to the standard output at once, or kept in the journal
//! nothing to do  -> the output file is rendered from the journal: the bytes of a plain run over what is there
//! ```
//!
//! Folders are looked through again and again instead of being watched by the system: that works on network drives too,
//! and what was missed while nobody looked is found.

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use earmark_core::engine::Work;

use super::Exit;
use super::tag::{
    LOOK_AHEAD_PER_JOB, Prepared, STOP, alone, end_record, finish_tags, full, share, stop_on_ctrl_c, tags,
};
use crate::args::Format;
use crate::batch::{self, Plan};
use crate::console::Console;
use crate::inputs::{Input, Inputs, shown};
use crate::journal::{FileId, Held, Journal, Mode, Stamp};
use crate::output::{self, Form, Output, Style, Summary};
use crate::progress::Progress;
use crate::session::{Pen, Session};
use crate::settings::TagSettings;
use crate::worker::Worker;

/// Shortest time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Looking, and rendering, take at most this part of the time.
const SHARE_OF_TIME: u32 = 20;

/// How often a stop is noticed.
const TICK: Duration = Duration::from_millis(100);

/// A file as it was seen.
struct Seen {
    stamp: Stamp,
    since: Instant,
    is_tagged: bool,
}

/// What was seen so far.
#[derive(Default)]
struct Watched {
    files: HashMap<PathBuf, Seen>,
    told: HashSet<PathBuf>,
}

impl Watched {
    /// The files of `inputs` that have settled and are not tagged yet; they count as tagged from now on.
    fn settled(
        &mut self,
        inputs: &[Input],
        now: Instant,
        settle: Duration,
        stamp: impl Fn(&Input) -> Stamp,
    ) -> Vec<Input> {
        let mut settled = Vec::new();
        for input in inputs {
            let stamp = stamp(input);
            let fresh = Seen { stamp, since: now, is_tagged: false };
            match self.files.get_mut(&input.path) {
                None => drop(self.files.insert(input.path.clone(), fresh)),
                Some(seen) if !stamp.looks_like(&seen.stamp) => *seen = fresh,
                Some(seen) if !seen.is_tagged && now.duration_since(seen.since) >= settle => {
                    seen.is_tagged = true;
                    settled.push(input.clone());
                }
                Some(_) => {}
            }
        }
        settled
    }

    /// Takes a file that this program itself rewrote for the one that it tagged.
    fn rewritten(&mut self, path: &Path, stamp: Stamp) {
        if let Some(seen) = self.files.get_mut(path) {
            seen.stamp = stamp;
        }
    }

    /// Forgets what is not there any more.
    fn keep(&mut self, inputs: &[Input]) -> bool {
        let before = self.files.len();
        let here: HashSet<&PathBuf> = inputs.iter().map(|input| &input.path).collect();
        self.files.retain(|path, _| here.contains(path));
        before != self.files.len()
    }

    fn is_tagged(&self, input: &Input) -> bool {
        self.files.get(&input.path).is_some_and(|seen| seen.is_tagged)
    }

    /// Those of `errors` that are new.
    fn news<'e>(&mut self, errors: &'e [(PathBuf, String)]) -> Vec<&'e (PathBuf, String)> {
        errors.iter().filter(|(path, _)| self.told.insert(path.clone())).collect()
    }
}

/// Watches the folders of `settings`; a file that has not changed for as long as `settle` is fully written.
///
/// # Errors
/// What makes it impossible from the beginning.
pub fn run(settings: &TagSettings, settle: Duration, prepared: &Prepared, console: &Console) -> Result<Exit> {
    for path in &settings.paths {
        ensure!(path.is_dir(), "{} is not a folder, and --watch waits for files in folders", shown(path));
    }
    let (jobs, threads) = share(settings.jobs, usize::MAX, super::processors());
    let journal = prepared.journal(settings, console)?;
    // A file can only be replaced by a complete one; anything else is written as things happen.
    let mut live = if journal.is_some() {
        drop(Output::open(settings.out.as_deref(), settings.format)?);
        None
    } else {
        Some(Output::open(settings.out.as_deref(), settings.format)?)
    };
    let work = Work { threads, hop: settings.hop, is_long: true };
    let (engine, notices) = prepared.engine(settings, work)?;
    notices.try_iter().for_each(|notice| console.note(notice));
    let device = engine.device();
    stop_on_ctrl_c(Vec::new())?;
    batch::silence_contained_panics();
    console.note(format!("model {} on {device}; waiting for files, Ctrl-C ends it", prepared.name()));

    let worker = Worker { engine: &*engine, hop: settings.hop, journal: journal.as_ref(), stop: &STOP };
    let pen = match &mut live {
        Some(out) => {
            let run = prepared.view.run(&device, 0);
            let report = output::report(settings.format, run, Style::detect(settings.out.is_none()), Form::Live)?;
            Some(Pen { report, out })
        }
        None => None,
    };
    let has_pen = pen.is_some();
    let mut session = Session {
        console: console.clone(),
        pen,
        journal: journal.as_ref(),
        tags: tags(settings, &prepared.view.run(&device, 0))?,
        shows_diff: settings.format == Format::Human && has_pen,
        rewritten: None,
        reports_silence: settings.format != Format::Human,
        notices: &notices,
        bar: None,
        last_event: Instant::now(),
        first: 0,
        num_completed: 0,
        num_failed: 0,
    };

    let mut watched = Watched::default();
    let mut inputs = Inputs::find(&settings.paths);
    worker.try_suspects(&inputs.files, &alone(settings, work.is_long), console);
    let mut written = session.begin(&[]);
    // An output is there from the beginning, even if nothing is.
    let mut is_stale = true;
    let mut render_after = Instant::now();
    let mut num_failed = 0;
    while written.is_ok() && !STOP.load(Ordering::Relaxed) {
        let looked = Instant::now();
        inputs = Inputs::find(&settings.paths);
        let looking = looked.elapsed();
        for (path, cause) in watched.news(&inputs.errors) {
            written = written.and_then(|()| session.failed(None, path, cause));
        }
        is_stale |= watched.keep(&inputs.files);
        let batch = watched.settled(&inputs.files, looked, settle, |input| Stamp::of(&input.path));
        if !batch.is_empty() && written.is_ok() {
            let progress = Progress::new(&batch);
            let plan = Plan { jobs, fail_fast: false, look_ahead: jobs.saturating_mul(LOOK_AHEAD_PER_JOB) };
            batch::run(
                &batch,
                plan,
                &STOP,
                |input| worker.tag(input, progress.file(input)),
                |event| {
                    written = session.on_event(&batch, &progress, event);
                    if let Some(path) = session.rewritten.take() {
                        let stamp = Stamp::of(&path);
                        watched.rewritten(&path, stamp);
                    }
                    if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                },
            );
            session.first += batch.len();
            is_stale = true;
            // More may have settled meanwhile.
            continue;
        }
        if let Some(journal) = journal.as_ref().filter(|_| is_stale && Instant::now() >= render_after) {
            let began = Instant::now();
            match render(settings, prepared, journal, &inputs, &watched) {
                Ok(failed) => (num_failed, is_stale) = (failed, false),
                Err(error) => written = Err(error),
            }
            render_after = Instant::now() + began.elapsed() * SHARE_OF_TIME;
        }
        let next = Instant::now() + LOOK_EVERY.max(looking * SHARE_OF_TIME);
        while Instant::now() < next && !STOP.load(Ordering::Relaxed) {
            thread::sleep(TICK.min(LOOK_EVERY));
        }
    }

    let failure = journal.as_ref().and_then(Journal::failure);
    if let (Some(journal), true, None) = (&journal, is_stale && written.is_ok(), &failure) {
        match render(settings, prepared, journal, &inputs, &watched) {
            Ok(failed) => num_failed = failed,
            Err(error) => written = Err(error),
        }
    }
    let num_unwritten = finish_tags(session.tags.take(), console);
    let (completed, failed) = (session.num_completed, session.num_failed);
    written = written.and_then(|()| session.end(&Progress::new(&[]), false));
    drop(session);
    if let Some(out) = live {
        written = written.and_then(|()| out.commit());
    }
    let place = settings.out.as_deref().map_or_else(|| "the standard output".to_owned(), shown);
    match failure.map_or(written, Err) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
        Err(error) => {
            console.error(full(&format!("cannot write the results to {place}"), &error, journal.is_some()));
            return Ok(Exit::SomeFailed);
        }
    }
    if let Some(journal) = journal {
        let path = shown(journal.path());
        let closed =
            if settings.mode == Mode::Resume { journal.end(end_record(&inputs, false)) } else { journal.remove() };
        if let Err(error) = closed {
            console.error(format!("{path}: {error}; the results are complete"));
        }
    }
    console.note(format!("stopped watching: {completed} files tagged, {failed} failed"));
    Ok(if failed.max(num_failed) + num_unwritten > 0 { Exit::SomeFailed } else { Exit::Done })
}

/// Writes the output of a plain run over what is there and tagged, and says how many files of it failed.
fn render(
    settings: &TagSettings,
    prepared: &Prepared,
    journal: &Journal,
    inputs: &Inputs,
    watched: &Watched,
) -> io::Result<usize> {
    let tagged: Vec<&Input> = inputs.files.iter().filter(|input| watched.is_tagged(input)).collect();
    let run = prepared.view.run("", tagged.len());
    let mut out = Output::open(settings.out.as_deref(), settings.format).map_err(io::Error::other)?;
    let mut report = output::report(settings.format, run, Style::detect(false), Form::Kept)?;
    let (mut num_completed, mut num_failed) = (0, inputs.errors.len());
    report.start(&mut out)?;
    for (path, cause) in &inputs.errors {
        report.file_failed(&mut out, None, path, cause)?;
    }
    for (index, input) in tagged.into_iter().enumerate() {
        match journal.held(FileId::of(&input.path)) {
            Some(Held::Done(file)) => {
                num_completed += 1;
                report.file_completed(&mut out, index, &file)?;
            }
            Some(Held::Failed(_, cause)) => {
                num_failed += 1;
                report.file_failed(&mut out, Some(index), &input.path, &cause)?;
            }
            // Given up when the run was stopped.
            None => {}
        }
        out.write_beside(&report.take_beside())?;
    }
    let snapshot = Progress::new(&[]).snapshot();
    report.finish(&mut out, &Summary { num_completed, num_failed, interrupted: false, snapshot })?;
    out.write_beside(&report.take_beside())?;
    drop(report);
    out.commit()?;
    Ok(num_failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(name: &str) -> Input {
        Input { path: name.into(), num_bytes: 1, index: 0, shard_key: 0 }
    }

    #[test]
    fn a_file_settles_when_it_has_not_changed_for_a_while_and_again_after_a_change() {
        let settle = Duration::from_secs(3);
        let mut watched = Watched::default();
        let start = Instant::now();
        let inputs = [input("a.wav")];
        let mut look = |secs: u64, size: u64| {
            let stamp = Stamp { size, modified_ns: Some(7), hash: None };
            watched.settled(&inputs, start + Duration::from_secs(secs), settle, |_| stamp).len()
        };
        assert_eq!(look(0, 10), 0, "just seen");
        assert_eq!(look(2, 20), 0, "still growing");
        assert_eq!(look(4, 20), 0, "for two seconds");
        assert_eq!(look(5, 20), 1);
        assert_eq!(look(9, 20), 0, "once");
        assert_eq!(look(10, 30), 0, "written again");
        assert_eq!(look(13, 30), 1);
    }

    #[test]
    fn what_we_rewrote_ourselves_is_no_change() {
        let (mut watched, start, inputs) = (Watched::default(), Instant::now(), [input("a.wav")]);
        let stamp = |size| Stamp { size, modified_ns: Some(7), hash: None };
        let look = |watched: &mut Watched, size| watched.settled(&inputs, start, Duration::ZERO, |_| stamp(size)).len();
        assert_eq!((look(&mut watched, 1), look(&mut watched, 1)), (0, 1));
        watched.rewritten("a.wav".as_ref(), stamp(2));
        assert_eq!(look(&mut watched, 2), 0);
        assert_eq!((look(&mut watched, 3), look(&mut watched, 3)), (0, 1), "others' changes are");
    }

    #[test]
    fn what_is_gone_is_forgotten_and_trouble_is_told_once() {
        let mut watched = Watched::default();
        let stamp = Stamp { size: 1, modified_ns: Some(7), hash: None };
        watched.settled(&[input("a.wav"), input("b.wav")], Instant::now(), Duration::ZERO, |_| stamp);
        assert!(!watched.keep(&[input("a.wav"), input("b.wav")]));
        assert!(watched.keep(&[input("b.wav")]) && watched.files.len() == 1);
        let errors = [(PathBuf::from("x"), "cannot be read".to_owned())];
        assert_eq!(watched.news(&errors).len(), 1);
        assert!(watched.news(&errors).is_empty());
    }
}
