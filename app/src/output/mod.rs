//! Results as bytes, one module per format.

mod audacity;
mod csv;
mod destination;
mod human;
mod json;
mod parquet;
#[cfg(test)]
mod testing;

use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use earmark_core::engine::Hop;
use earmark_core::model_file::ModelMetadata;
use earmark_core::tags::{Group, Heard, TagConfidence, TagVocabulary, top, verdict};

pub use destination::{Destination, Output, is_file};
pub use human::Style;
pub use json::{SPEC_VERSION, timestamp, write_event};

use crate::args::Format;
use crate::progress::Snapshot;
use crate::tagging::TaggedFile;

/// What a run is about and which of its tags are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The model in use.
    pub model: &'a ModelMetadata,
    /// BLAKE3 of the model.
    pub model_hash: &'a str,
    /// Its tags.
    pub vocabulary: &'a TagVocabulary,
    /// Its tags, synonyms joined.
    pub groups: &'a [Group],
    /// From which clip probability on each tag counts as certain, `[num_tags]`.
    pub thresholds: &'a [f32],
    /// Tags below their threshold are left out everywhere.
    pub only_certain: bool,
    /// Device in use.
    pub device: &'a str,
    /// Stride between windows.
    pub hop: Hop,
    /// At most this many tags per file, and per window.
    pub top_n: usize,
    /// Least confidence of a tag that is shown; `None` leaves it to the format.
    pub min_confidence: Option<f32>,
    /// Number of files.
    pub num_files: usize,
}

impl Run<'_> {
    /// The wanted ones of `probabilities` `[num_tags]`, with no least confidence unless one was asked for.
    fn wanted(&self, probabilities: &[f32]) -> Vec<TagConfidence> {
        top(probabilities, self.top_n, |tag| {
            if self.only_certain { self.thresholds[tag] } else { self.min_confidence.unwrap_or(0.0) }
        })
    }

    /// From which confidence on a tag counts as certain: what was asked for, or the tag's threshold.
    fn threshold(&self, tag: usize) -> f32 {
        self.min_confidence.unwrap_or(self.thresholds[tag])
    }

    /// What was heard in a file, synonyms joined; nothing in a silent one.
    fn verdict(&self, file: &TaggedFile) -> Vec<Heard> {
        let Some(clip_probabilities) = &file.clip_probabilities else { return Vec::new() };
        verdict(&file.taggram, clip_probabilities, file.duration_s, self.groups, |tag| self.threshold(tag))
    }

    fn name(&self, tag: usize) -> &str {
        &self.vocabulary.names()[tag]
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// Files with a result.
    pub num_completed: usize,
    /// Files and folders without.
    pub num_failed: usize,
    /// The run was stopped before its end.
    pub interrupted: bool,
    /// The last count.
    pub snapshot: Snapshot,
}

/// Where a report goes, which decides what it may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// It is read while it is written: it may say when things happen.
    Live,
    /// It is kept: it follows from files, model and options alone, so that equal runs give equal bytes.
    Kept,
}

/// Writes a run in one format. Called in the order of the files, except for `file_started` and `progress`, which come
/// when they happen.
pub trait Report {
    /// The run begins.
    fn start(&mut self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    /// Work on a file begins.
    fn file_started(&mut self, _out: &mut dyn Write, _index: usize, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    /// About once per second.
    fn progress(&mut self, _out: &mut dyn Write, _snapshot: &Snapshot) -> io::Result<()> {
        Ok(())
    }

    /// A file is done.
    fn file_completed(&mut self, out: &mut dyn Write, index: usize, file: &TaggedFile) -> io::Result<()>;

    /// A file has no result; `index` is `None` for a folder that could not be read.
    fn file_failed(
        &mut self,
        _out: &mut dyn Write,
        _index: Option<usize>,
        _path: &Path,
        _cause: &str,
    ) -> io::Result<()> {
        Ok(())
    }

    /// The run ends.
    fn finish(&mut self, _out: &mut dyn Write, _summary: &Summary) -> io::Result<()> {
        Ok(())
    }

    /// Takes what has been written since the last time of a second file, if the format has one.
    fn take_beside(&mut self) -> Vec<u8> {
        Vec::new()
    }
}

/// The report in `format`.
///
/// # Errors
/// If its libraries do not want to begin.
pub fn report<'a>(format: Format, run: Run<'a>, style: Style, form: Form) -> io::Result<Box<dyn Report + 'a>> {
    Ok(match format {
        Format::Human => Box::new(human::Human::new(run, style)),
        Format::Json => Box::new(json::Json::new(run)),
        Format::Ndjson => Box::new(json::Ndjson::new(run, (form == Form::Live).then_some(SystemTime::now))),
        Format::Csv => Box::new(csv::Csv::new(run)),
        Format::Audacity => Box::new(audacity::Audacity::new(run)),
        Format::Parquet => Box::new(parquet::Parquet::new(run)?),
    })
}

/// `value` with as many decimals as are written.
fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10_f64.powi(decimals);
    (value * scale).round() / scale
}

/// Decimals of a time in seconds; the smallest hop is 11 ms.
const TIME_DECIMALS: i32 = 3;

/// Decimals of a confidence.
const CONFIDENCE_DECIMALS: i32 = 4;
