//! From a model and a split to the measures of the field.

pub mod metrics;
pub mod report;
pub mod thresholds;

use earmark_core::engine::{Engine, EngineError, Hop, WindowResult};
use earmark_core::tags::{ClipProbabilities, sigmoid};
use rayon::prelude::*;

use crate::data::clips::Clip;
use crate::progress::Progress;
use metrics::Metrics;

/// What a model says of the clips of a split.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// Mean of the window probabilities of each clip, `[num_clips, num_tags]`.
    pub clip_probabilities: Vec<f32>,
    /// `[num_windows, num_tags]`.
    pub window_probabilities: Vec<f32>,
    /// Index of the clip of each window, `[num_windows]`.
    pub window_clips: Vec<usize>,
}

/// Scores every clip, one per thread, with CLMR's protocol: windows side by side, a rest shorter than a window is not
/// heard (unless it is all there is), the clip's probabilities are the mean of its windows'.
///
/// # Errors
/// When the engine's device fails.
pub fn score(engine: &dyn Engine, clips: &[Clip], progress: Progress) -> Result<Scores, EngineError> {
    score_altered(engine, clips, |_, waveform| waveform, progress)
}

/// [`score`] of what `alter` makes of the waveform of each clip, given its index.
///
/// # Errors
/// When the engine's device fails.
pub fn score_altered(
    engine: &dyn Engine,
    clips: &[Clip],
    alter: impl Fn(usize, Vec<f32>) -> Vec<f32> + Sync,
    progress: Progress,
) -> Result<Scores, EngineError> {
    let num_tags = engine.num_tags();
    let bar = progress.bar("scoring", clips.len() as u64);
    let per_clip: Vec<Vec<f32>> = clips
        .par_iter()
        .enumerate()
        .map(|(index, clip)| {
            let windows = window_probabilities(engine, &alter(index, clip.audio.to_vec()))?;
            bar.inc(1);
            Ok(windows)
        })
        .collect::<Result<_, EngineError>>()?;
    bar.finish_and_clear();

    let mut scores =
        Scores { clip_probabilities: Vec::new(), window_probabilities: Vec::new(), window_clips: Vec::new() };
    for (index, windows) in per_clip.into_iter().enumerate() {
        let mut clip = ClipProbabilities::new(num_tags);
        windows.chunks(num_tags).for_each(|window| clip.push(window));
        // A stream reports at least one window of a clip that is not empty, and clips are not.
        scores.clip_probabilities.extend(clip.mean().unwrap_or_else(|| vec![0.0; num_tags]));
        scores.window_clips.extend(std::iter::repeat_n(index, windows.len() / num_tags));
        scores.window_probabilities.extend(windows);
    }
    Ok(scores)
}

/// Probabilities of the windows of one clip, `[num_windows, num_tags]`.
fn window_probabilities(engine: &dyn Engine, samples: &[f32]) -> Result<Vec<f32>, EngineError> {
    let mut probabilities = Vec::new();
    let mut sink = |window: WindowResult<'_>| {
        if !window.padded || probabilities.is_empty() {
            probabilities.extend(window.logits.iter().map(|&logit| sigmoid(logit)));
        }
    };
    let mut stream = engine.stream(Hop::NON_OVERLAPPING);
    stream.push(samples, &mut sink)?;
    stream.finish(&mut sink)?;
    Ok(probabilities)
}

impl Scores {
    /// Measures on clip probabilities.
    pub fn clip_metrics(&self, clips: &[Clip], tags: &[String], min_positives: usize) -> Metrics {
        let truth: Vec<bool> = clips.iter().flat_map(|clip| clip.entry.tag_targets.iter().copied()).collect();
        Metrics::new(&self.clip_probabilities, &truth, tags, min_positives)
    }

    /// Measures on window probabilities; each window carries its clip's tags.
    pub fn window_metrics(&self, clips: &[Clip], tags: &[String], min_positives: usize) -> Metrics {
        let truth: Vec<bool> =
            self.window_clips.iter().flat_map(|&clip| clips[clip].entry.tag_targets.iter().copied()).collect();
        Metrics::new(&self.window_probabilities, &truth, tags, min_positives)
    }
}
