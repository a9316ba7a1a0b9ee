//! Results as files: what `earmark tag` would have written of the same files, byte for byte.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use earmark_core::engine::Hop;
use earmark_core::model_file::ModelMetadata;

use super::queue::{Queue, Reader, State};
use crate::args::Format;
use crate::inputs::shown;
use crate::journal::Rendering;
use crate::output::{self, Form, Output, Style, Summary};
use crate::progress::Snapshot;
use crate::view::View;

/// The formats, with a name for people and the ending of their files.
pub const FORMATS: [(Format, &str, &str); 5] = [
    (Format::Csv, "CSV, a row per window and tag", "csv"),
    (Format::Json, "JSON, one object", "json"),
    (Format::Ndjson, "NDJSON, a line per file", "ndjson"),
    (Format::Audacity, "Audacity labels", "txt"),
    (Format::Parquet, "Parquet, two tables", "parquet"),
];

/// Tags per window, and per file, as `earmark tag` writes them unless told otherwise.
const TOP_N: usize = 5;

/// What to write.
pub struct Export {
    format: Format,
    model: ModelMetadata,
    model_hash: String,
    hop: Hop,
    device: String,
    /// Files and, for those without a result, why.
    files: Vec<(PathBuf, Option<String>)>,
    reader: Reader,
}

impl Export {
    /// The results of `rows`, in the order in which files came. `None` if there are none.
    pub fn new(queue: &Queue, rows: &[u32], format: Format) -> Option<Self> {
        let mut rows = rows.to_vec();
        rows.sort_unstable();
        let entries = rows.iter().map(|&row| &queue.entries()[row as usize]);
        let files: Vec<_> = entries
            .filter_map(|entry| match &entry.state {
                State::Done(_) => Some((entry.input.path.clone(), None)),
                State::Failed(cause) => Some((entry.input.path.clone(), Some(cause.clone()))),
                State::Waiting | State::Running | State::Stopped => None,
            })
            .collect();
        let has_results = files.iter().any(|(_, failure)| failure.is_none());
        let tagger = queue.tagger();
        Some(Self {
            format,
            model: tagger.model.clone(),
            model_hash: tagger.model_hash.clone(),
            hop: queue.hop(),
            device: queue.device().unwrap_or_default().to_owned(),
            files,
            reader: queue.reader().filter(|_| has_results)?,
        })
    }

    /// Number of files with a result.
    pub fn num_results(&self) -> usize {
        self.files.iter().filter(|(_, failure)| failure.is_none()).count()
    }

    /// Writes to `path`, whole or not at all.
    ///
    /// # Errors
    /// The file that cannot be written, or a result that can no longer be read.
    pub fn write(&self, path: &Path) -> Result<()> {
        let rendering = Rendering { format: self.format, top_n: TOP_N, min_confidence: None, target_precision: None };
        let view = View::new(self.model.clone(), self.model_hash.clone(), self.hop, rendering)?;
        let run = view.run(&self.device, self.files.len());
        let mut out = Output::open(Some(path), self.format)?;
        let cannot = || format!("cannot write {}", shown(path));
        let mut report = output::report(self.format, run, Style::detect(false), Form::Kept).with_context(cannot)?;
        let mut each =
            |out: &mut Output, write: &mut dyn FnMut(&mut dyn output::Report, &mut dyn Write) -> io::Result<()>| {
                write(&mut *report, out)?;
                out.write_beside(&report.take_beside())
            };
        each(&mut out, &mut |report, out| report.start(out)).with_context(cannot)?;
        for (index, (file, failure)) in self.files.iter().enumerate() {
            if let Some(cause) = failure {
                each(&mut out, &mut |report, out| report.file_failed(out, Some(index), file, cause))
                    .with_context(cannot)?;
                continue;
            }
            let Some(result) = self.reader.read(file) else {
                bail!("the result of {} can no longer be read; tag it again", shown(file));
            };
            each(&mut out, &mut |report, out| report.file_completed(out, index, &result)).with_context(cannot)?;
        }
        let num_completed = self.num_results();
        let summary = Summary {
            num_completed,
            num_failed: self.files.len() - num_completed,
            interrupted: false,
            snapshot: Snapshot {
                files_done: self.files.len(),
                files_total: self.files.len(),
                audio_s: 0.0,
                wall_s: 0.0,
                speed: 0.0,
                time_left_s: None,
            },
        };
        each(&mut out, &mut |report, out| report.finish(out, &summary)).with_context(cannot)?;
        out.commit().with_context(cannot)
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue::testing::{queue, settle, tone};
    use super::*;

    #[test]
    fn every_format_holds_the_files_that_are_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let music = folder.path().join("music");
        std::fs::create_dir(&music).expect("made");
        tone(&music.join("loud.wav"), 6.0, 0.9);
        tone(&music.join("soft.wav"), 6.0, 0.01);
        std::fs::write(music.join("broken.mp3"), "no music").expect("written");
        let mut queue = queue(folder.path());
        assert!(Export::new(&queue, &[], Format::Csv).is_none(), "nothing to write");
        queue.add(vec![music.clone()]);
        settle(&mut queue);
        for (format, _, ending) in FORMATS {
            let path = folder.path().join("out").with_extension(ending);
            let export = Export::new(&queue, &[2, 0, 1], format).expect("results");
            assert_eq!(export.num_results(), 2);
            export.write(&path).expect("written");
            assert!(path.metadata().expect("there").len() > 0);
        }
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("text");
        let csv = read("out.csv");
        let rows: Vec<&str> = csv.lines().collect();
        assert_eq!(rows[0], "file,start_s,end_s,tag,confidence");
        // Twelve windows of four tags in each of two files.
        assert_eq!(rows.len(), 1 + 2 * 12 * 4);
        assert!(rows[1].contains("loud.wav,0.000,2.678,rock,0.8808"), "{}", rows[1]);
        let json: serde_json::Value = serde_json::from_str(&read("out.json")).expect("JSON");
        assert_eq!(json["files"].as_array().expect("files").len(), 2);
        assert!(read("out.ndjson").contains("broken.mp3"), "failures are told where there is a place for them");
        assert!(read("out.txt").contains("soft.wav: harp"));
        assert!(folder.path().join("out.tracks.parquet").exists());
        // What is searched for alone.
        let path = folder.path().join("one.csv");
        Export::new(&queue, &[2], Format::Csv).expect("a result").write(&path).expect("written");
        assert!(!read("one.csv").contains("loud.wav"));
        let nowhere = folder.path().join("absent/one.csv");
        assert!(Export::new(&queue, &[2], Format::Csv).expect("a result").write(&nowhere).is_err());
    }
}
