//! A run's writing of tags as the command sees it: one call per file, and a few words at the end.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::{Writer, Written};
use crate::batch::{Outcome, contained};

/// What a run wrote so far.
pub struct Session {
    writer: Writer,
    num_changed: usize,
    num_unchanged: usize,
    num_failed: usize,
    /// Files that have tags of another model, by its marker.
    other_models: BTreeMap<String, usize>,
}

/// What there is to say of a file.
#[derive(Debug, Default)]
pub struct Told {
    /// In a dry run what would change, by line.
    pub diff: Vec<String>,
    /// The file is another than before.
    pub is_rewritten: bool,
}

impl Session {
    /// Nothing yet.
    pub fn new(writer: Writer) -> Self {
        Self { writer, num_changed: 0, num_unchanged: 0, num_failed: 0, other_models: BTreeMap::new() }
    }

    /// Writes what was heard in a file, `clip_probabilities` `[num_tags]`; a silent one has none.
    ///
    /// # Errors
    /// Why the file stays as it is, without its name.
    pub fn on_file(&mut self, path: &Path, clip_probabilities: Option<&[f32]>) -> Result<Told, String> {
        let Some(clip_probabilities) = clip_probabilities else {
            self.num_unchanged += 1;
            return Ok(Told::default());
        };
        // Readers of tags are given anything; one that panics should cost a file, not the run.
        let written = contained(|| match self.writer.write(path, clip_probabilities) {
            Ok(written) => Outcome::Done(written),
            Err(cause) => Outcome::Failed(format!("{cause:#}")),
        });
        match written {
            Outcome::Done(Written::Changed(changes)) => {
                self.num_changed += 1;
                let is_dry_run = self.writer.is_dry_run();
                let diff = changes.iter().filter(|_| is_dry_run).map(ToString::to_string).collect();
                Ok(Told { diff, is_rewritten: !is_dry_run })
            }
            Outcome::Done(Written::Unchanged) | Outcome::Abandoned => {
                self.num_unchanged += 1;
                Ok(Told::default())
            }
            Outcome::Done(Written::OtherModel(model)) => {
                *self.other_models.entry(model).or_default() += 1;
                Ok(Told::default())
            }
            Outcome::Failed(cause) => {
                self.num_failed += 1;
                Err(cause)
            }
        }
    }

    /// Ends the run: what to say, and how many files could not be written.
    ///
    /// # Errors
    /// If the journal cannot be closed.
    pub fn finish(self) -> Result<(Vec<String>, usize)> {
        let is_dry_run = self.writer.is_dry_run();
        let verb = if is_dry_run { "would be written" } else { "written" };
        let mut said = vec![format!("tags {verb} into {}", files(self.num_changed))];
        if self.num_unchanged > 0 {
            said[0] += &format!("; {} had nothing to add", files(self.num_unchanged));
        }
        if self.num_failed > 0 {
            said[0] += &format!("; {} failed", files(self.num_failed));
        }
        for (model, count) in &self.other_models {
            said.push(format!("{} left with the tags of {model}; --overwrite replaces them", files(*count)));
        }
        if let Some(journal) = self.writer.finish()? {
            said.push(format!("to take them back: earmark undo {}", journal.display()));
        }
        Ok((said, self.num_failed))
    }
}

fn files(count: usize) -> String {
    format!("{count} {}", if count == 1 { "file" } else { "files" })
}
