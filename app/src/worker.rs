//! A file's way to its result: from the journal if it lies there, else by listening.
//!
//! ```text
//! input -> known and unchanged? -> result from the journal
//!          else started -> hashed -> tagged -> kept           a panic is the file's failure, kept like any other
//! suspects, before anything else: one at a time, each in a process of its own
//! ```

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use earmark_core::engine::{Engine, Hop};

use crate::batch::{Outcome, contained};
use crate::console::Console;
use crate::inputs::{Input, shown};
use crate::isolate::{Alone, Ended};
use crate::journal::{Before, ContentHash, FileId, Journal, Stamp, Suspect};
use crate::progress::FileProgress;
use crate::tagging::{TaggedFile, tag_file};

/// What the jobs of a run share.
pub struct Worker<'a> {
    /// Turns samples into logits.
    pub engine: &'a dyn Engine,
    /// Stride between windows.
    pub hop: Hop,
    /// Keeps results.
    pub journal: Option<&'a Journal>,
    /// The run is to end; set also when the journal cannot be written, as results would be lost.
    pub stop: &'a AtomicBool,
}

impl Worker<'_> {
    /// Tags one file.
    pub fn tag(&self, input: &Input, progress: FileProgress<'_>) -> Outcome<TaggedFile> {
        let Some(journal) = self.journal else {
            return tag_file(input, self.engine, self.hop, progress, self.stop);
        };
        let stamp = Stamp::of(&input.path);
        match journal.before(&input.path, &stamp) {
            Before::Done(file) => return Outcome::Done(*file),
            Before::SetAside(cause) => return Outcome::Failed(cause),
            Before::Nothing => {}
        }
        if let Err(error) = journal.started(&input.path, stamp, false) {
            return self.broke(journal, error);
        }
        // Before it is decoded, which then finds it in the system's memory.
        let stamp = Stamp { hash: ContentHash::of(&input.path).ok(), ..stamp };
        let outcome = contained(|| tag_file(input, self.engine, self.hop, progress, self.stop));
        self.keep(journal, input, stamp, outcome)
    }

    fn keep(
        &self,
        journal: &Journal,
        input: &Input,
        stamp: Stamp,
        outcome: Outcome<TaggedFile>,
    ) -> Outcome<TaggedFile> {
        let kept = match &outcome {
            Outcome::Done(file) => journal.done(&input.path, stamp, file, self.hop),
            Outcome::Failed(cause) => journal.failed(&input.path, stamp, cause),
            Outcome::Abandoned => journal.left(&input.path),
        };
        match kept {
            Ok(()) => outcome,
            Err(error) => self.broke(journal, error),
        }
    }

    fn broke(&self, journal: &Journal, error: io::Error) -> Outcome<TaggedFile> {
        journal.broke(error);
        self.stop.store(true, Ordering::Relaxed);
        Outcome::Abandoned
    }

    /// Tries the files among `inputs` that were being read when a run ended without a word, one at a time and each in a
    /// process of its own. One that ends that too is set aside.
    pub fn try_suspects(&self, inputs: &[Input], alone: &Alone, console: &Console) {
        let Some(journal) = self.journal else { return };
        let by_id: HashMap<FileId, &Input> = if journal.suspects().is_empty() {
            HashMap::new()
        } else {
            inputs.iter().map(|input| (FileId::of(&input.path), input)).collect()
        };
        let suspects = journal.suspects().iter().filter_map(|suspect| Some((suspect, *by_id.get(&suspect.file.id)?)));
        // One that changed since is another file.
        let suspects = suspects.filter(|(suspect, input)| Stamp::of(&input.path).looks_like(&suspect.file.stamp));
        let suspects: Vec<(&Suspect, &Input)> = suspects.collect();
        if !suspects.is_empty() {
            let (files, verb) = if suspects.len() == 1 { ("file", "was") } else { ("files", "were") };
            console.note(format!(
                "{} {files} {verb} being read when an earlier run ended without a word; tried first, each by itself",
                suspects.len()
            ));
        }
        for (suspect, input) in suspects {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            if let Err(error) = self.try_suspect(journal, suspect, input, alone, console) {
                journal.broke(error);
                self.stop.store(true, Ordering::Relaxed);
            }
        }
    }

    fn try_suspect(
        &self,
        journal: &Journal,
        suspect: &Suspect,
        input: &Input,
        alone: &Alone,
        console: &Console,
    ) -> io::Result<()> {
        let stamp = Stamp { hash: ContentHash::of(&input.path).ok(), ..Stamp::of(&input.path) };
        let path = &input.path;
        if suspect.is_convicted() {
            return journal.set_aside(path, stamp, &set_aside("with the whole run, though nothing else was read"));
        }
        journal.started(path, stamp, true)?;
        match alone.tag(path, &journal.sign_of_life()) {
            Ok(Ended::Told(outcome)) => {
                self.keep(journal, input, stamp, outcome);
                Ok(())
            }
            // Whoever stops this run stops that process too.
            Ok(Ended::Died(_)) if self.stop.load(Ordering::Relaxed) => journal.left(path),
            Ok(Ended::Died(how)) => journal.set_aside(path, stamp, &set_aside(&how)),
            Err(error) => {
                console.error(format!("{}: cannot be tried in a process of its own: {error}", shown(path)));
                journal.left(path)
            }
        }
    }
}

fn set_aside(how: &str) -> String {
    format!(
        "set aside: it ended the process that read it for the second time ({how}); it is tried again when it changes, \
         please report it with this file"
    )
}
