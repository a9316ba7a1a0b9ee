//! How results are looked at: a model's tags, which of them count, and how many are shown.

use anyhow::Result;
use earmark_core::engine::Hop;
use earmark_core::model_file::ModelMetadata;
use earmark_core::tags::{Group, TagVocabulary};

use crate::journal::Rendering;
use crate::output::Run;
use crate::thresholds::Thresholds;

/// A model as a reader of results needs it, and what was asked for.
#[derive(Debug)]
pub struct View {
    model: ModelMetadata,
    model_hash: String,
    hop: Hop,
    rendering: Rendering,
    vocabulary: TagVocabulary,
    groups: Vec<Group>,
    thresholds: Vec<f32>,
    /// What a person should know about the thresholds.
    pub notes: Vec<String>,
}

impl View {
    /// Checks that `rendering` can be had of this model.
    ///
    /// # Errors
    /// If the model's tags are wrong, or its calibration has no answer to the precision asked for.
    pub fn new(model: ModelMetadata, model_hash: String, hop: Hop, rendering: Rendering) -> Result<Self> {
        let vocabulary = TagVocabulary::new(model.tags.clone(), model.thresholds.clone())?;
        let Thresholds { values: thresholds, notes } = Thresholds::choose(&model, rendering.target_precision)?;
        let groups = Group::of(&model.tags);
        Ok(Self { model, model_hash, hop, rendering, vocabulary, groups, thresholds, notes })
    }

    /// The run that this is a view of.
    pub fn run<'a>(&'a self, device: &'a str, num_files: usize) -> Run<'a> {
        Run {
            model: &self.model,
            model_hash: &self.model_hash,
            vocabulary: &self.vocabulary,
            groups: &self.groups,
            thresholds: &self.thresholds,
            only_certain: self.rendering.target_precision.is_some(),
            device,
            hop: self.hop,
            top_n: self.rendering.top_n,
            min_confidence: self.rendering.min_confidence,
            num_files,
        }
    }
}
