//! A run and files for the tests of the formats.

use std::io::Write;

use earmark_core::engine::Hop;
use earmark_core::model_file::ModelMetadata;
use earmark_core::tags::{Group, TagVocabulary, Taggram};
use earmark_core::weights::Architecture;

use super::{Report, Run, Summary};
use crate::progress::Snapshot;
use crate::tagging::TaggedFile;

/// A model of three tags, certain from 0.5 on.
pub struct Fixture {
    model: ModelMetadata,
    vocabulary: TagVocabulary,
    groups: Vec<Group>,
}

impl Fixture {
    pub fn new() -> Self {
        let tags: Vec<String> = ["rock", "no vocals", "harp"].map(str::to_owned).to_vec();
        let thresholds = vec![0.5; 3];
        let vocabulary = TagVocabulary::new(tags.clone(), thresholds.clone()).expect("valid");
        let groups = Group::of(&tags);
        let licence = "CC0-1.0".into();
        let model =
            ModelMetadata { licence, ..ModelMetadata::new("three", Architecture::scaled(0.1, 3, None, 3), tags) };
        Self { model, vocabulary, groups }
    }

    pub fn run(&self) -> Run<'_> {
        Run {
            model: &self.model,
            model_hash: "0123",
            vocabulary: &self.vocabulary,
            groups: &self.groups,
            thresholds: self.vocabulary.thresholds(),
            only_certain: false,
            device: "cpu",
            hop: Hop::NON_OVERLAPPING,
            top_n: 2,
            min_confidence: None,
            num_files: 1,
        }
    }
}

/// A file with one row of probabilities per window, `None` where it is silent.
pub fn file(path: &str, windows: &[Option<[f32; 3]>]) -> TaggedFile {
    let mut taggram = Taggram::new(3, Hop::NON_OVERLAPPING);
    for window in windows {
        let logits = window.unwrap_or([0.5; 3]).map(|p| (p / (1.0 - p)).ln());
        taggram.push(&logits, window.is_none());
    }
    let duration_s = windows.len() as f64 * 59_049.0 / 22_050.0;
    let clip_probabilities = taggram.clip_probabilities();
    TaggedFile { path: path.into(), duration_s, taggram, clip_probabilities, warnings: Vec::new() }
}

/// What a report writes of a run over `files`, all of which are completed.
pub fn written(report: &mut dyn Report, files: &[TaggedFile]) -> String {
    let mut out: Vec<u8> = Vec::new();
    let writer: &mut dyn Write = &mut out;
    report.start(writer).expect("written");
    for (index, file) in files.iter().enumerate() {
        report.file_started(writer, index, &file.path).expect("written");
        report.file_completed(writer, index, file).expect("written");
    }
    report.finish(writer, &summary(files.len())).expect("written");
    String::from_utf8(out).expect("text")
}

pub fn summary(num_completed: usize) -> Summary {
    let snapshot = Snapshot {
        files_done: num_completed,
        files_total: num_completed,
        audio_s: 8.0,
        wall_s: 0.5,
        speed: 16.0,
        time_left_s: None,
    };
    Summary { num_completed, num_failed: 0, interrupted: false, snapshot }
}
