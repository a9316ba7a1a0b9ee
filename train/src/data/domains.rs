//! Batches of two domains: clean clips (source) and clips with noise on them (target).
//!
//! ```text
//! clip 0, 2, 4, ..  -> crop ------------------------------------------> source
//! clip 1, 3, 5, ..  -> crop -+- at an SNR drawn from the epoch's range -> target
//! 1, 2 or 4 recordings -> sum
//! ```
//!
//! As everywhere, a batch is a function of seed, epoch and step alone.

use earmark_core::WINDOW_SAMPLES;
use earmark_core::adapt::{Domain, SnrRange, SnrSchedule};
use earmark_core::audio::augment::Chain;
use earmark_core::audio::mix_snr;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use rayon::prelude::*;

use super::batches::{BatchSource, noise_window, share};
use super::clips::ClipAudio;
use crate::config::Method;
use crate::rng;

/// Excerpts that are tried before a window stays clean for want of any noise that sounds.
const TRIES: usize = 20;

/// Recordings of noise.
#[derive(Debug)]
pub struct Noise {
    /// Not empty.
    pub recordings: Vec<ClipAudio>,
    /// Recordings that are summed: 1, 2 or 4.
    pub num_noises: usize,
}

impl Noise {
    /// Adds to at most a window's length of music the sum of excerpts of as many recordings as there are to be, so that
    /// `10 log10(P_music / P_noise)` is a whole number of decibels drawn from `snr`. Silent excerpts are drawn again;
    /// silent music stays as it is.
    pub fn add(&self, window: &mut [f32], snr: SnrRange, rng: &mut impl Rng) {
        let snr_db = rng.random_range(snr) as f32;
        for _ in 0..TRIES {
            let excerpts: Vec<Vec<f32>> = (0..self.num_noises)
                .map(|_| {
                    let recording = &self.recordings[rng.random_range(0..self.recordings.len())];
                    let mut excerpt = noise_window(recording, rng);
                    // Only the last piece of a waveform is shorter than a window.
                    excerpt.truncate(window.len());
                    excerpt
                })
                .collect();
            if excerpts.iter().flatten().any(|&sample| sample != 0.0) {
                mix_snr(window, &excerpts.iter().map(Vec::as_slice).collect::<Vec<_>>(), snr_db);
                return;
            }
        }
    }

    /// Adds noise to a whole waveform, other excerpts in each window's length of it.
    pub fn add_throughout(&self, waveform: &mut [f32], snr_db: i32, rng: &mut impl Rng) {
        for window in waveform.chunks_mut(WINDOW_SAMPLES) {
            self.add(window, snr_db..=snr_db, rng);
        }
    }
}

/// Windows of one domain.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Windows {
    /// Number of windows.
    pub size: usize,
    /// `[size, 59_049]`.
    pub samples: Vec<f32>,
}

impl Windows {
    fn new(windows: Vec<Vec<f32>>) -> Self {
        Self { size: windows.len(), samples: windows.concat() }
    }
}

/// What one step of stage 2 or 3 learns from.
#[derive(Clone, Debug, PartialEq)]
pub struct DomainBatch {
    /// Clean windows.
    pub source: Windows,
    /// `[source.size, num_tags]`.
    pub source_tags: Vec<f32>,
    /// Noisy windows; `None` for the baseline, which does not hear them.
    pub target: Option<Windows>,
    /// `[target.size, num_tags]`, for the supervised method alone.
    pub target_tags: Option<Vec<f32>>,
}

/// Makes the batches of stage 2 and 3.
#[derive(Debug)]
pub struct DomainSource {
    /// Clips, labels and how a crop is made; its `batch` counts both domains.
    pub clips: std::sync::Arc<BatchSource>,
    /// What the target domain is made with.
    pub noise: std::sync::Arc<Noise>,
    /// How loud.
    pub snr: SnrSchedule,
    /// Windows per step, half of them noisy.
    pub batch: usize,
    /// What the batch is for.
    pub method: Method,
}

impl DomainSource {
    /// Steps in one epoch. Batches are rather too large than too small, for batch norm's sake.
    pub fn steps_per_epoch(&self) -> usize {
        (self.members(Domain::Source).len() / (self.batch / 2)).max(1)
    }

    fn members(&self, domain: Domain) -> Vec<usize> {
        (0..self.clips.clips.len()).filter(|&clip| Domain::of_index(clip) == domain).collect()
    }

    /// Batch `step` of `epoch` (both from 0). Over an epoch every clip occurs once.
    pub fn batch(&self, epoch: usize, step: usize) -> DomainBatch {
        let (source, source_tags) = self.windows(Domain::Source, epoch, step);
        let (target, target_tags) = match self.method {
            Method::Baseline => (None, None),
            Method::Supervised => {
                let (target, tags) = self.windows(Domain::Target, epoch, step);
                (Some(target), Some(tags))
            }
            Method::Proposed => (Some(self.windows(Domain::Target, epoch, step).0), None),
        };
        DomainBatch { source, source_tags, target, target_tags }
    }

    fn windows(&self, domain: Domain, epoch: usize, step: usize) -> (Windows, Vec<f32>) {
        let seed = self.clips.seed;
        let mut members = self.members(domain);
        members.shuffle(&mut rng::stream(seed, "order", epoch as u64, domain as u64));
        let members = &members[share(members.len(), self.steps_per_epoch(), step)];
        let (windows, tags): (Vec<_>, Vec<_>) = members
            .par_iter()
            .map(|&clip| {
                let (mut window, tags) = self.clips.example(epoch, clip);
                if domain == Domain::Target {
                    let rng = &mut rng::stream(seed, "noise", epoch as u64, clip as u64);
                    self.noise.add(&mut window, self.snr.at(epoch), rng);
                }
                (window, tags)
            })
            .unzip();
        (Windows::new(windows), tags.concat())
    }
}

/// Two crops of each of a number of tracks.
#[derive(Clone, Debug, PartialEq)]
pub struct PairBatch {
    /// Number of tracks.
    pub size: usize,
    /// `[2 * size, 59_049]`: the first crop of every track, then the second ones in the same order.
    pub windows: Vec<f32>,
}

/// Makes the batches of stage 1: two random crops of each clip, each through CLMR's chain. The crops of the noisy
/// domain get noise first, each its own: what they share is the music.
#[derive(Debug)]
pub struct PairSource {
    /// Clips; their labels are not read.
    pub clips: Vec<ClipAudio>,
    /// What the target domain is made with.
    pub noise: std::sync::Arc<Noise>,
    /// How loud.
    pub snr: SnrRange,
    /// Augmentations.
    pub chain: Chain,
    /// Largest number of pairs in a batch.
    pub batch: usize,
    /// The run's seed.
    pub seed: u64,
}

impl PairSource {
    /// Steps in one epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.clips.len().div_ceil(self.batch)
    }

    /// Batch `step` of `epoch` (both from 0). Over an epoch every clip occurs once.
    pub fn batch(&self, epoch: usize, step: usize) -> PairBatch {
        let mut order: Vec<usize> = (0..self.clips.len()).collect();
        order.shuffle(&mut rng::stream(self.seed, "order", epoch as u64, 0));
        let members = &order[share(self.clips.len(), self.steps_per_epoch(), step)];
        let crops = |which: u64| -> Vec<f32> {
            let windows: Vec<Vec<f32>> = members.par_iter().map(|&clip| self.crop(clip, epoch, which)).collect();
            windows.concat()
        };
        PairBatch { size: members.len(), windows: [crops(0), crops(1)].concat() }
    }

    fn crop(&self, index: usize, epoch: usize, which: u64) -> Vec<f32> {
        let rng = &mut rng::stream(self.seed, "crop of a pair", epoch as u64, 2 * index as u64 + which);
        let clip = &self.clips[index];
        let start = rng.random_range(0..=clip.len().saturating_sub(WINDOW_SAMPLES));
        // A clip shorter than a window is followed by silence.
        let mut window: Vec<f32> = (start..start + WINDOW_SAMPLES).map(|at| clip.get(at).unwrap_or(0.0)).collect();
        if Domain::of_index(index) == Domain::Target {
            self.noise.add(&mut window, self.snr.clone(), rng);
        }
        self.chain.apply(&mut window, rng);
        window
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use earmark_core::adapt::SnrOrder;

    use super::*;
    use crate::config::{AugmentConfig, DataConfig, Targets};
    use crate::data::clips::Clip;
    use crate::data::items::{Item, Split};
    use crate::data::mtat::SplitRule;

    fn tone(hz: f32, len: usize) -> Vec<f32> {
        (0..len).map(|n| 0.5 * (n as f32 * hz * std::f32::consts::TAU / 22_050.0).sin()).collect()
    }

    fn noise(num_noises: usize) -> Noise {
        let recordings = [tone(1_000.0, 5_000), tone(3_000.0, 90_000), vec![0.0; 70_000]];
        Noise { recordings: recordings.iter().map(|samples| ClipAudio::new(samples)).collect(), num_noises }
    }

    /// Ten clips, each a tone of its own, shorter and longer than a window; clip 3 is silent.
    fn clips() -> Vec<ClipAudio> {
        (0..10)
            .map(|index| match index {
                3 => ClipAudio::new(&vec![0.0; 60_000]),
                _ => ClipAudio::new(&tone(200.0 + 10.0 * index as f32, 50_000 + 3_000 * index)),
            })
            .collect()
    }

    fn source(method: Method, snr: SnrSchedule) -> DomainSource {
        let clips = clips().into_iter().enumerate().map(|(index, audio)| Clip {
            entry: Item {
                id: index.to_string(),
                path: format!("0/{index}.wav"),
                split: Split::Train,
                group: index.to_string(),
                start_secs: 0.0,
                length_secs: None,
                tag_targets: vec![index < 5, true],
            },
            audio,
        });
        let batches = BatchSource {
            clips: clips.collect(),
            soft_labels: None,
            noise: Vec::new(),
            data: DataConfig { targets: Targets::Hard, split: SplitRule::Folders, clip_share: 1.0, hard_share: 0.0 },
            augment: AugmentConfig::default(),
            batch: 1,
            seed: 5,
        };
        DomainSource { clips: Arc::new(batches), noise: Arc::new(noise(2)), snr, batch: 4, method }
    }

    fn power(samples: impl Iterator<Item = f32>) -> f64 {
        samples.map(|sample| f64::from(sample).powi(2)).sum()
    }

    #[test]
    fn every_second_clip_is_noisy_at_a_whole_ratio_of_the_epochs_range() {
        let narrow = SnrSchedule { range_db: [-2, 3], ..SnrSchedule::default() };
        let soft_first = SnrSchedule { order: SnrOrder::SoftNoiseFirst { epochs_per_db: 1 }, ..SnrSchedule::default() };
        for (snr, epoch) in [(SnrSchedule::default(), 0), (narrow, 1), (soft_first, 2)] {
            let source = source(Method::Supervised, snr);
            let mut heard = 0;
            for step in 0..source.steps_per_epoch() {
                let batch = source.batch(epoch, step);
                let target = batch.target.expect("a noisy half");
                let windows = |windows: &Windows| -> Vec<Vec<f32>> {
                    assert_eq!(windows.samples.len(), windows.size * WINDOW_SAMPLES);
                    windows.samples.chunks(WINDOW_SAMPLES).map(<[f32]>::to_vec).collect()
                };
                heard += batch.source.size + target.size;
                let clean = |index| source.clips.example(epoch, index).0;
                for window in windows(&batch.source) {
                    assert!((0..10).step_by(2).any(|index| clean(index) == window), "a clean window of the source");
                }
                for window in windows(&target) {
                    // The clip is the one whose rest, the noise, lies at a whole number of decibels.
                    let is_of = |index: usize| {
                        let clean = clean(index);
                        if clean.iter().all(|&sample| sample == 0.0) {
                            return window == clean;
                        }
                        let added = power(window.iter().zip(&clean).map(|(noisy, clean)| noisy - clean));
                        let snr_db = 10.0 * (power(clean.iter().copied()) / added).log10();
                        let whole = snr_db.round() as i32;
                        (snr_db - f64::from(whole)).abs() < 0.01 && source.snr.at(epoch).contains(&whole)
                    };
                    assert!((1..10).step_by(2).any(is_of), "no clip of the target domain is this one's music");
                }
            }
            assert_eq!(heard, 10);
        }
    }

    #[test]
    fn a_method_is_given_only_what_it_may_see() {
        let batch = |method| source(method, SnrSchedule::default()).batch(1, 0);
        let (baseline, supervised, proposed) =
            (batch(Method::Baseline), batch(Method::Supervised), batch(Method::Proposed));
        assert!(baseline.target.is_none() && baseline.target_tags.is_none());
        assert!(proposed.target.is_some() && proposed.target_tags.is_none());
        assert_eq!(supervised.target_tags.expect("tags").len(), 2 * supervised.target.as_ref().expect("windows").size);
        assert!(baseline.source == supervised.source && supervised.source == proposed.source);
        assert_eq!(supervised.target, proposed.target);
    }

    #[test]
    fn silence_and_silent_noise_stay_finite() {
        let silent = Noise { recordings: vec![ClipAudio::new(&[0.0; 100])], num_noises: 4 };
        let (music, rng) = (tone(300.0, 70_000), &mut rng::stream(1, "test", 0, 0));
        let mut window = music.clone();
        silent.add_throughout(&mut window, 0, rng);
        assert_eq!(window, music);
        let mut silence = vec![0.0; 70_000];
        noise(1).add_throughout(&mut silence, -10, rng);
        assert_eq!(silence, vec![0.0; 70_000]);
    }

    #[test]
    fn a_whole_waveform_gets_the_ratio_in_each_window() {
        let music = tone(300.0, WINDOW_SAMPLES + 20_000);
        let mut noisy = music.clone();
        noise(4).add_throughout(&mut noisy, -5, &mut rng::stream(1, "test", 0, 0));
        for (noisy, music) in noisy.chunks(WINDOW_SAMPLES).zip(music.chunks(WINDOW_SAMPLES)) {
            let added = power(noisy.iter().zip(music).map(|(noisy, music)| noisy - music));
            let snr_db = 10.0 * (power(music.iter().copied()) / added).log10();
            assert!((snr_db + 5.0).abs() < 0.01, "{snr_db}");
        }
    }

    #[test]
    fn pairs_are_two_different_crops_and_repeat_with_the_seed() {
        let pairs = || PairSource {
            clips: clips(),
            noise: Arc::new(noise(1)),
            snr: -10..=10,
            chain: Chain::default(),
            batch: 4,
            seed: 5,
        };
        let (first, again) = (pairs(), pairs());
        let sizes: Vec<usize> = (0..first.steps_per_epoch()).map(|step| first.batch(0, step).size).collect();
        assert_eq!(sizes, [3, 3, 4]);
        let batch = first.batch(2, 1);
        assert_eq!(batch, again.batch(2, 1));
        assert_ne!(batch, first.batch(3, 1));
        assert_eq!(batch.windows.len(), 2 * batch.size * WINDOW_SAMPLES);
        assert!(batch.windows.iter().all(|sample| sample.is_finite()));
        let (crops, others) = batch.windows.split_at(batch.size * WINDOW_SAMPLES);
        let num_equal = crops.chunks(WINDOW_SAMPLES).zip(others.chunks(WINDOW_SAMPLES)).filter(|(a, b)| a == b).count();
        assert!(num_equal <= 1, "only the silent clip's crops may be equal");
    }
}
