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
use earmark_core::audio::augment::{self, Chain};
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
    /// Adds the sum of excerpts of as many recordings as there are to be, so that `10 log10(P_music / P_noise)` is a whole
    /// number of decibels drawn from `snr`. Silent excerpts are drawn again; silent music stays as it is.
    pub fn add(&self, window: &mut [f32], snr: SnrRange, rng: &mut impl Rng) {
        let snr_db = rng.random_range(snr) as f32;
        for _ in 0..TRIES {
            let mut sum = vec![0.0; window.len()];
            for _ in 0..self.num_noises {
                let recording = &self.recordings[rng.random_range(0..self.recordings.len())];
                for (sum, sample) in sum.iter_mut().zip(noise_window(recording, rng)) {
                    *sum += sample;
                }
            }
            if sum.iter().any(|&sample| sample != 0.0) {
                augment::add_at_snr(window, &sum, snr_db);
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
    /// Steps in one epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.members(Domain::Source).len().div_ceil(self.batch / 2)
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

/// Makes the batches of stage 1: two random crops of each clip, each through CLMR's chain. The crops of the noisy domain
/// get noise first, each its own: what they share is the music.
#[derive(Debug)]
pub struct PairSource {
    /// Clips; their labels are not read.
    pub clips: Vec<ClipAudio>,
    /// What the target domain is made with.
    pub noise: std::sync::Arc<Noise>,
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
            self.noise.add(&mut window, SnrSchedule::Constant.at(epoch), rng);
        }
        self.chain.apply(&mut window, rng);
        window
    }
}
