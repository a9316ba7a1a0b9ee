//! Batches: a pure function of seed, epoch and step, prepared ahead on a thread of their own.
//!
//! ```text
//! clip -> crop (speed) -> filter -> gain, polarity -+- mixup -> recorded noise -> white noise -> window [59,049]
//!                           another clip, likewise -+
//! ```

use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};

use earmark_core::WINDOW_SAMPLES;
use earmark_core::audio::augment::{self, Pass};
use earmark_core::audio::mix_snr;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};

use super::clips::{Clip, ClipAudio};
use super::soft_labels::SoftLabels;
use crate::config::{AugmentConfig, DataConfig};
use crate::rng;

/// Batches ready ahead of the trainer.
const PREFETCHED_BATCHES: usize = 3;

/// What one step learns from.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Number of windows.
    pub size: usize,
    /// `[size, 59_049]`.
    pub windows: Vec<f32>,
    /// `[size, num_tags]`, each in 0 to 1.
    pub tag_targets: Vec<f32>,
}

/// Makes batches from clips in memory.
#[derive(Debug)]
pub struct BatchSource {
    /// Training clips, not empty.
    pub clips: Vec<Clip>,
    /// A teacher's probabilities where the targets are soft; every clip has them.
    pub soft_labels: Option<SoftLabels>,
    /// Recordings for [`AugmentConfig::recorded_noise`].
    pub noise: Vec<ClipAudio>,
    /// How targets are mixed.
    pub data: DataConfig,
    /// What happens to a window.
    pub augment: AugmentConfig,
    /// Largest number of windows in a batch.
    pub batch: usize,
    /// The run's seed.
    pub seed: u64,
}

impl BatchSource {
    /// Steps in one epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.clips.len().div_ceil(self.batch)
    }

    /// Batch `step` of `epoch` (both from 0). Over an epoch every clip occurs once; the batches' sizes differ by at
    /// most one, so that none is too small for batch norm.
    pub fn batch(&self, epoch: usize, step: usize) -> Batch {
        let mut order: Vec<usize> = (0..self.clips.len()).collect();
        order.shuffle(&mut rng::stream(self.seed, "order", epoch as u64, 0));
        let members = &order[share(self.clips.len(), self.steps_per_epoch(), step)];

        let mut batch = Batch {
            size: members.len(),
            windows: Vec::with_capacity(members.len() * WINDOW_SAMPLES),
            tag_targets: Vec::new(),
        };
        for &clip in members {
            let (window, tag_targets) = self.example(epoch, clip);
            batch.windows.extend(window);
            batch.tag_targets.extend(tag_targets);
        }
        batch
    }

    /// The window and the targets of one clip in one epoch.
    pub(super) fn example(&self, epoch: usize, clip: usize) -> (Vec<f32>, Vec<f32>) {
        let rng = &mut rng::stream(self.seed, "example", epoch as u64, clip as u64);
        let (mut window, mut tag_targets) = self.crop(&self.clips[clip], rng);
        if let Some(mixup) = &self.augment.mixup
            && rng.random_bool(mixup.probability)
        {
            let other = rng.random_range(0..self.clips.len());
            let share = rng.random_range(0.0..=mixup.max_share);
            let (other_window, other_targets) = self.crop(&self.clips[other], rng);
            augment::mix(&mut window, &other_window, share);
            augment::mix(&mut tag_targets, &other_targets, share);
        }
        if let Some(config) = &self.augment.recorded_noise
            && rng.random_bool(config.probability)
            && !self.noise.is_empty()
        {
            let recording = &self.noise[rng.random_range(0..self.noise.len())];
            let noise = noise_window(recording, rng);
            mix_snr(&mut window, &[&noise], uniform(rng, config.snr_db));
        }
        if let Some(config) = &self.augment.white_noise
            && rng.random_bool(config.probability)
        {
            let mut noise = vec![0.0; window.len()];
            augment::white_noise(rng, &mut noise);
            mix_snr(&mut window, &[&noise], uniform(rng, config.snr_db));
        }
        (window, tag_targets)
    }

    /// A random crop of a clip with everything that concerns this clip alone.
    fn crop(&self, clip: &Clip, rng: &mut impl Rng) -> (Vec<f32>, Vec<f32>) {
        let change = self.augment.speed_percent / 100.0;
        let speed = if change > 0.0 { 1.0 + rng.random_range(-change..=change) } else { 1.0 };
        let span = (WINDOW_SAMPLES as f64 * speed).ceil() as usize;
        let start = rng.random_range(0..=clip.audio.len().saturating_sub(span));

        let mut window = vec![0.0; WINDOW_SAMPLES];
        augment::read_at_speed(|index| clip.audio.get(index), start as f64, speed, &mut window);
        if let Some(config) = &self.augment.filter
            && rng.random_bool(config.probability)
        {
            let (pass, [low, high]) =
                if rng.random() { (Pass::Low, config.low_pass_hz) } else { (Pass::High, config.high_pass_hz) };
            augment::filter(&mut window, pass, uniform(rng, [low.ln(), high.ln()]).exp());
        }
        let gain = self.augment.gain.map_or(1.0, |range| uniform(rng, range));
        let turned = rng.random_bool(self.augment.polarity_probability);
        augment::gain(&mut window, if turned { -gain } else { gain });

        let centre = start as f64 + span as f64 / 2.0;
        (window, self.tag_targets(clip, centre))
    }

    /// Targets of a crop around `centre` (samples), `[num_tags]`.
    fn tag_targets(&self, clip: &Clip, centre: f64) -> Vec<f32> {
        let hard = clip.entry.tag_targets.iter().map(|&on| f32::from(u8::from(on)));
        let Some(of_clip) = self.soft_labels.as_ref().and_then(|soft| soft.clip(&clip.entry.id)) else {
            return hard.collect();
        };
        let mut targets = of_clip.to_vec();
        if let Some(of_window) = self.soft_labels.as_ref().and_then(|soft| soft.window(&clip.entry.id, centre)) {
            augment::mix(&mut targets, of_window, 1.0 - self.data.clip_share as f32);
        }
        augment::mix(&mut targets, &hard.collect::<Vec<f32>>(), self.data.hard_share as f32);
        targets
    }
}

/// Part `index` of `len` items in `parts` parts whose sizes differ by at most one.
pub(super) fn share(len: usize, parts: usize, index: usize) -> Range<usize> {
    len * index / parts..len * (index + 1) / parts
}

fn uniform(rng: &mut impl Rng, [low, high]: [f32; 2]) -> f32 {
    rng.random_range(low..=high)
}

/// A window of a recording: a random crop, or the recording repeated from a random start where it is shorter.
pub(super) fn noise_window(recording: &ClipAudio, rng: &mut impl Rng) -> Vec<f32> {
    let len = recording.len();
    let start =
        if len > WINDOW_SAMPLES { rng.random_range(0..=len - WINDOW_SAMPLES) } else { rng.random_range(0..len) };
    (0..WINDOW_SAMPLES).filter_map(|offset| recording.get((start + offset) % len)).collect()
}

/// What `make` makes of epoch and step, from `(epoch, step)` on, prepared ahead on a thread; with the epoch and step of
/// each. The thread ends with its receiver.
pub fn prefetch<B: Send + 'static>(
    make: impl Fn(usize, usize) -> B + Send + 'static,
    steps_per_epoch: usize,
    epochs: usize,
    from: (usize, usize),
) -> Receiver<(usize, usize, B)> {
    let (sender, receiver) = sync_channel(PREFETCHED_BATCHES);
    std::thread::spawn(move || {
        for epoch in from.0..epochs {
            let first_step = if epoch == from.0 { from.1 } else { 0 };
            for step in first_step..steps_per_epoch {
                if sender.send((epoch, step, make(epoch, step))).is_err() {
                    return;
                }
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{FilterConfig, MixupConfig, RecordedNoiseConfig, Targets, WhiteNoiseConfig};
    use crate::data::items::{Item, Split};
    use crate::data::mtat::SplitRule;

    /// Clips whose samples are all `index + 1`, so that a window tells which clip it comes from.
    fn source(num_clips: usize, batch: usize) -> BatchSource {
        let clips = (0..num_clips)
            .map(|index| Clip {
                entry: Item {
                    id: index.to_string(),
                    path: format!("0/{index}.wav"),
                    split: Split::Train,
                    group: index.to_string(),
                    start_secs: 0.0,
                    length_secs: None,
                    tag_targets: vec![index == 0, true],
                },
                audio: ClipAudio::new(&vec![(index + 1) as f32; WINDOW_SAMPLES + 1_000]),
            })
            .collect();
        let data = DataConfig { targets: Targets::Hard, split: SplitRule::Folders, clip_share: 1.0, hard_share: 0.0 };
        let noise = vec![ClipAudio::new(&[0.5, -0.25, 0.125])];
        BatchSource { clips, soft_labels: None, noise, data, augment: AugmentConfig::default(), batch, seed: 5 }
    }

    fn everything_on() -> AugmentConfig {
        AugmentConfig {
            gain: Some([0.5, 1.5]),
            polarity_probability: 0.5,
            speed_percent: 3.0,
            filter: Some(FilterConfig {
                probability: 0.5,
                low_pass_hz: [2_000.0, 8_000.0],
                high_pass_hz: [50.0, 500.0],
            }),
            mixup: Some(MixupConfig { probability: 0.5, max_share: 0.5 }),
            white_noise: Some(WhiteNoiseConfig { probability: 0.5, snr_db: [0.0, 30.0] }),
            recorded_noise: Some(RecordedNoiseConfig { folder: String::new(), probability: 0.5, snr_db: [0.0, 30.0] }),
        }
    }

    #[test]
    fn an_epoch_hears_each_clip_once_in_batches_of_nearly_equal_size() {
        let source = source(10, 4);
        let mut heard = Vec::new();
        for step in 0..source.steps_per_epoch() {
            let batch = source.batch(3, step);
            assert!((3..=4).contains(&batch.size));
            assert_eq!(batch.windows.len(), batch.size * WINDOW_SAMPLES);
            heard.extend(batch.windows.chunks(WINDOW_SAMPLES).map(|window| window[7].round() as usize));
        }
        assert_ne!(heard, (1..=10).collect::<Vec<_>>(), "the order is random");
        heard.sort_unstable();
        assert_eq!(heard, (1..=10).collect::<Vec<_>>());
    }

    #[test]
    fn batches_are_a_function_of_seed_epoch_and_step() {
        let mut first = source(5, 2);
        first.augment = everything_on();
        let mut second = source(5, 2);
        second.augment = everything_on();
        let _ = second.batch(0, 0);
        assert_eq!(first.batch(1, 1), second.batch(1, 1));
        assert_ne!(first.batch(1, 1), first.batch(2, 1));
        second.seed = 6;
        assert_ne!(first.batch(1, 1), second.batch(1, 1));
    }

    #[test]
    fn prefetched_batches_continue_where_asked() {
        let source = Arc::new(source(5, 2));
        let batches = Arc::clone(&source);
        let make = move |epoch, step| batches.batch(epoch, step);
        let received: Vec<_> = prefetch(make, source.steps_per_epoch(), 2, (0, 2)).into_iter().collect();
        let places: Vec<_> = received.iter().map(|(epoch, step, _)| (*epoch, *step)).collect();
        assert_eq!(places, [(0, 2), (1, 0), (1, 1), (1, 2)]);
        assert_eq!(received[1].2, source.batch(1, 0));
    }

    #[test]
    fn mixup_mixes_targets_like_waveforms() {
        let mut source = source(2, 2);
        source.augment.mixup = Some(MixupConfig { probability: 1.0, max_share: 0.5 });
        for epoch in 0..5 {
            let batch = source.batch(epoch, 0);
            for (window, targets) in batch.windows.chunks(WINDOW_SAMPLES).zip(batch.tag_targets.chunks(2)) {
                // The window is 1 for the first clip, 2 for the second; the first tag is the first clip's.
                assert!((2.0 - window[0] - targets[0]).abs() < 1e-3, "{} against {}", window[0], targets[0]);
                assert!((targets[1] - 1.0).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn everything_on_stays_finite_even_in_silence() {
        let mut source = source(4, 4);
        source.augment = everything_on();
        source.clips[1].audio = ClipAudio::new(&[0.0; 100]);
        for epoch in 0..4 {
            let batch = source.batch(epoch, 0);
            assert!(batch.windows.iter().all(|sample| sample.is_finite()));
            assert!(batch.tag_targets.iter().all(|target| (0.0..=1.0).contains(target)));
        }
    }

    #[test]
    fn a_short_recording_repeats() {
        let window = noise_window(&ClipAudio::new(&[0.5, -0.25, 0.125]), &mut rng::stream(1, "test", 0, 0));
        assert_eq!(window.len(), WINDOW_SAMPLES);
        assert!((window[0] - window[3]).abs() < 1e-9 && (window[1] - window[0]).abs() > 0.1);
    }
}
