//! From a model and a split to the measures of the field.

pub mod metrics;
pub mod noise;
pub mod record;
pub mod report;
pub mod thresholds;
pub mod tsne;

use earmark_core::WINDOW_SAMPLES;
use earmark_core::engine::{Engine, EngineError, Hop, WindowResult};
use earmark_core::tags::{ClipProbabilities, sigmoid};
use rayon::prelude::*;

use crate::data::clips::Clip;
use crate::progress::Progress;
use metrics::Metrics;
use noise::Mixture;

/// What a model says of the clips of a split.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// Mean of the window probabilities of each clip, `[num_clips, num_tags]`.
    pub clip_probabilities: Vec<f32>,
    /// `[num_windows, num_tags]`.
    pub window_probabilities: Vec<f32>,
    /// Index of the clip of each window, `[num_windows]`.
    pub window_clips: Vec<usize>,
    /// Windows that should have been mixed with noise and stayed as they were, because they or the noise are silent.
    pub num_unmixed_windows: usize,
}

/// Scores every clip as it is, one per thread, with CLMR's protocol: windows side by side ([`heard`]), the clip's
/// probabilities are the mean of its windows'.
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
    let mut scores = score_variants(engine, clips, 1, |_, clip, waveform| (alter(clip, waveform), 0), progress)?;
    Ok(scores.swap_remove(0))
}

/// Scores every clip under each of `mixtures`, `None` being the clip as it is, and returns one result per mixture.
/// Clips are decoded already: what a mixture costs is the mixing and the network.
///
/// # Errors
/// When the engine's device fails.
pub fn score_mixtures(
    engine: &dyn Engine,
    clips: &[Clip],
    mixtures: &[Option<Mixture<'_>>],
    progress: Progress,
) -> Result<Vec<Scores>, EngineError> {
    let mix = |variant: usize, clip: usize, mut waveform: Vec<f32>| {
        let mixture: &Option<Mixture<'_>> = &mixtures[variant];
        let unmixed = mixture.as_ref().map_or(0, |mixture| mixture.mix(&clips[clip].entry.path, &mut waveform));
        (waveform, unmixed)
    };
    score_variants(engine, clips, mixtures.len(), mix, progress)
}

/// Scores what `alter` makes of each clip in each of `num_variants` variants, given the numbers of both and the part
/// of the waveform that is heard; it returns a waveform and a number of unmixed windows. One result per variant.
fn score_variants(
    engine: &dyn Engine,
    clips: &[Clip],
    num_variants: usize,
    alter: impl Fn(usize, usize, Vec<f32>) -> (Vec<f32>, usize) + Sync,
    progress: Progress,
) -> Result<Vec<Scores>, EngineError> {
    let num_tags = engine.num_tags();
    let bar = progress.bar("scoring", (clips.len() * num_variants) as u64);
    // Every variant of a clip is a task of its own, so that a short split still fills many threads.
    let per_task: Vec<(Vec<f32>, usize)> = (0..num_variants * clips.len())
        .into_par_iter()
        .map(|task| {
            let (variant, clip) = (task / clips.len(), task % clips.len());
            let mut waveform = clips[clip].audio.to_vec();
            waveform.truncate(heard(waveform.len()));
            let (waveform, unmixed) = alter(variant, clip, waveform);
            let windows = window_probabilities(engine, &waveform)?;
            bar.inc(1);
            Ok((windows, unmixed))
        })
        .collect::<Result<_, EngineError>>()?;
    bar.finish_and_clear();

    let gather = |tasks: &[(Vec<f32>, usize)]| {
        let mut scores = Scores {
            clip_probabilities: Vec::new(),
            window_probabilities: Vec::new(),
            window_clips: Vec::new(),
            num_unmixed_windows: 0,
        };
        for (index, (windows, unmixed)) in tasks.iter().enumerate() {
            let mut clip = ClipProbabilities::new(num_tags);
            windows.chunks(num_tags).for_each(|window| clip.push(window));
            // A stream reports at least one window of a clip that is not empty, and clips are not.
            scores.clip_probabilities.extend(clip.mean().unwrap_or_else(|| vec![0.0; num_tags]));
            scores.window_clips.extend(std::iter::repeat_n(index, windows.len() / num_tags));
            scores.window_probabilities.extend(windows);
            scores.num_unmixed_windows += unmixed;
        }
        scores
    };
    let of_variant = |index: usize| gather(&per_task[index * clips.len()..(index + 1) * clips.len()]);
    Ok((0..num_variants).map(of_variant).collect())
}

/// How many of a clip's samples are heard: whole windows side by side, a rest shorter than a window is not, unless it
/// is all there is.
pub fn heard(num_samples: usize) -> usize {
    if num_samples < WINDOW_SAMPLES { num_samples } else { num_samples / WINDOW_SAMPLES * WINDOW_SAMPLES }
}

/// Probabilities of the windows of one clip, `[num_windows, num_tags]`.
fn window_probabilities(engine: &dyn Engine, samples: &[f32]) -> Result<Vec<f32>, EngineError> {
    let mut probabilities = Vec::new();
    let mut sink = |window: WindowResult<'_>| probabilities.extend(window.logits.iter().map(|&logit| sigmoid(logit)));
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::data::clips::ClipAudio;
    use crate::data::items::{Item, Split};
    use earmark_core::engine::{Sink, WindowStream};

    /// A model that listens: it keeps every waveform it is given and says nothing but zeros.
    struct Listener {
        num_tags: usize,
        heard: Mutex<Vec<Vec<f32>>>,
    }

    struct ListenerStream<'l> {
        listener: &'l Listener,
        samples: Vec<f32>,
    }

    impl Listener {
        fn new(num_tags: usize) -> Self {
            Self { num_tags, heard: Mutex::default() }
        }

        /// What was heard, in an order that does not depend on the threads.
        fn heard(self) -> Vec<Vec<f32>> {
            let mut heard = self.heard.into_inner().expect("no thread panicked");
            heard.sort_by(|a, b| a.partial_cmp(b).expect("finite samples"));
            heard
        }
    }

    impl Engine for Listener {
        fn device(&self) -> String {
            "test".to_owned()
        }

        fn embedding_len(&self) -> usize {
            1
        }

        fn num_tags(&self) -> usize {
            self.num_tags
        }

        fn stream(&self, _hop: Hop) -> Box<dyn WindowStream + '_> {
            Box::new(ListenerStream { listener: self, samples: Vec::new() })
        }
    }

    impl WindowStream for ListenerStream<'_> {
        fn push(&mut self, samples: &[f32], _sink: &mut Sink<'_>) -> Result<(), EngineError> {
            self.samples.extend(samples);
            Ok(())
        }

        fn finish(&mut self, sink: &mut Sink<'_>) -> Result<(), EngineError> {
            let logits = vec![0.0; self.listener.num_tags];
            for index in 0..self.samples.len().div_ceil(WINDOW_SAMPLES) {
                let start = (index * WINDOW_SAMPLES) as u64;
                sink(WindowResult { start, padded: false, embedding: &[0.0], logits: &logits });
            }
            self.listener.heard.lock().expect("no thread panicked").push(std::mem::take(&mut self.samples));
            Ok(())
        }
    }

    fn clip(id: u64, samples: &[f32]) -> Clip {
        let entry = Item {
            id: id.to_string(),
            path: format!("c/{id}.ogg"),
            split: Split::Valid,
            group: id.to_string(),
            start_secs: 0.0,
            length_secs: None,
            tag_targets: vec![true],
        };
        Clip { entry, audio: ClipAudio::new(samples) }
    }

    fn listen(num_tags: usize, threads: usize, clips: &[Clip], mixtures: &[Option<Mixture<'_>>]) -> Vec<Vec<f32>> {
        let listener = Listener::new(num_tags);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| score_mixtures(&listener, clips, mixtures, Progress::Hidden)).expect("listens");
        listener.heard()
    }

    #[test]
    fn every_model_meets_the_same_mixtures_at_the_ratio_asked_for() {
        let noises = noise::tests::hisses(&[30_000, 90_000, 200_000]);
        let clips: Vec<Clip> =
            [(1, 130_000), (2, 40_000)].map(|(id, len)| clip(id, &noise::tests::hiss(10 + id, len))).into();
        let mixture = |snr_db| Some(Mixture { set: &noises, snr_db, num_noises: 2, seed: 7 });
        let heard_by_one = listen(1, 1, &clips, &[None, mixture(10.0), mixture(-10.0)]);
        // Another model, more threads, other SNRs before and between.
        let heard_by_other = listen(3, 4, &clips, &[mixture(5.0), mixture(-10.0), None, mixture(10.0)]);
        assert_eq!(heard_by_one.len(), 6);
        assert!(heard_by_one.iter().all(|waveform| heard_by_other.contains(waveform)));

        // The SNR of what was fed, against what is fed without noise.
        for clip in &clips {
            let one = std::slice::from_ref(clip);
            let (clean, noisy) = (listen(1, 1, one, &[None]), listen(1, 1, one, &[mixture(-10.0)]));
            assert_eq!(clean[0].len(), heard(clip.audio.len()));
            for (clean, noisy) in clean[0].chunks(WINDOW_SAMPLES).zip(noisy[0].chunks(WINDOW_SAMPLES)) {
                let power = |samples: &mut dyn Iterator<Item = f64>| samples.map(|x| x * x).sum::<f64>();
                let music = power(&mut clean.iter().map(|&x| f64::from(x)));
                let added = power(&mut clean.iter().zip(noisy).map(|(&x, &y)| f64::from(y) - f64::from(x)));
                let snr_db = 10.0 * (music / added).log10();
                assert!((snr_db + 10.0).abs() < 0.01, "{snr_db} dB");
            }
        }
    }

    #[test]
    fn whole_windows_are_heard_and_a_short_clip_as_it_is() {
        assert_eq!(heard(10), 10);
        assert_eq!(heard(WINDOW_SAMPLES), WINDOW_SAMPLES);
        assert_eq!(heard(3 * WINDOW_SAMPLES - 1), 2 * WINDOW_SAMPLES);
        let clips = [clip(1, &vec![0.5; 2 * WINDOW_SAMPLES + 9]), clip(2, &[0.5; 9])];
        let scores = score(&Listener::new(2), &clips, Progress::Hidden).expect("listens");
        assert_eq!(scores.window_clips, [0, 0, 1]);
        assert_eq!(scores.window_probabilities, [0.5; 6]);
        assert_eq!(scores.clip_probabilities, [0.5; 4]);
    }

    #[test]
    fn silence_gives_scores_that_are_numbers() {
        let model = earmark_core::model_file::Model::random(
            earmark_core::weights::Architecture::scaled(1.0 / 16.0, 3, None, 2),
            0,
        );
        let engine = earmark_core::engine::CpuEngine::new(&model, 1).expect("valid");
        let noises = noise::tests::hisses(&[30_000]);
        let clips = [clip(1, &vec![0.0; WINDOW_SAMPLES])];
        let mixtures = [None, Some(Mixture { set: &noises, snr_db: -10.0, num_noises: 1, seed: 1 })];
        let scores = score_mixtures(&engine, &clips, &mixtures, Progress::Hidden).expect("scores");
        assert_eq!(scores[0].clip_probabilities, scores[1].clip_probabilities);
        assert!(scores[1].clip_probabilities.iter().all(|probability| probability.is_finite()));
        assert_eq!((scores[0].num_unmixed_windows, scores[1].num_unmixed_windows), (0, 1));
    }
}
