//! Tag probabilities over time.

use super::clip::{ClipProbabilities, sigmoid};
use super::segments::{Hysteresis, Segment, segments};
use crate::engine::Hop;
use crate::{SAMPLE_RATE_HZ, WINDOW_SAMPLES};

/// Tag probabilities over time (musicnn's word): one row per window. Takes 4 bytes per window and tag, 7 MB for three
/// hours of 50 tags at the default hop.
#[derive(Clone, Debug)]
pub struct Taggram {
    num_tags: usize,
    hop: Hop,
    /// `[num_windows, num_tags]`, zeros where a window is silent.
    probabilities: Vec<f32>,
    /// `[num_windows]`.
    silent: Vec<bool>,
}

/// One row of a [`Taggram`].
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// Begin in seconds.
    pub start_s: f64,
    /// End in seconds. A padded window ends after its clip.
    pub end_s: f64,
    /// Nothing was to be heard: the probabilities are zeros.
    pub silent: bool,
    /// `[num_tags]`.
    pub probabilities: &'a [f32],
}

impl Taggram {
    /// No windows yet.
    pub fn new(num_tags: usize, hop: Hop) -> Self {
        Self { num_tags, hop, probabilities: Vec::new(), silent: Vec::new() }
    }

    /// Adds the next window from its logits, `[num_tags]`. Of a silent window only the fact is kept.
    ///
    /// # Panics
    /// If the length is not `num_tags`.
    pub fn push(&mut self, logits: &[f32], silent: bool) {
        assert_eq!(logits.len(), self.num_tags, "one logit per tag");
        self.probabilities.extend(logits.iter().map(|&logit| if silent { 0.0 } else { sigmoid(logit) }));
        self.silent.push(silent);
    }

    /// What [`probabilities`](Self::probabilities) and [`silent`](Self::silent) gave, put together again; `None` if the
    /// lengths do not agree.
    pub fn from_parts(num_tags: usize, hop: Hop, probabilities: Vec<f32>, silent: Vec<bool>) -> Option<Self> {
        let agree = silent.len().checked_mul(num_tags) == Some(probabilities.len());
        agree.then_some(Self { num_tags, hop, probabilities, silent })
    }

    /// Every window's probabilities, `[num_windows, num_tags]`, zeros where a window is silent.
    pub fn probabilities(&self) -> &[f32] {
        &self.probabilities
    }

    /// Whether each window is silent, `[num_windows]`.
    pub fn silent(&self) -> &[bool] {
        &self.silent
    }

    /// Number of windows.
    pub fn num_windows(&self) -> usize {
        self.silent.len()
    }

    /// Number of tags.
    pub fn num_tags(&self) -> usize {
        self.num_tags
    }

    /// Whether nothing was to be heard in any window (or there is none).
    pub fn is_silent(&self) -> bool {
        self.silent.iter().all(|&silent| silent)
    }

    /// The windows in order.
    pub fn windows(&self) -> impl ExactSizeIterator<Item = Window<'_>> {
        let secs = |samples: usize| samples as f64 / f64::from(SAMPLE_RATE_HZ);
        self.silent.iter().enumerate().map(move |(t, &silent)| Window {
            start_s: secs(t * self.hop.samples()),
            end_s: secs(t * self.hop.samples() + WINDOW_SAMPLES),
            silent,
            probabilities: &self.probabilities[t * self.num_tags..(t + 1) * self.num_tags],
        })
    }

    /// One tag over time, `[num_windows]`.
    ///
    /// # Panics
    /// If `tag` is not below `num_tags`.
    pub fn tag(&self, tag: usize) -> Vec<f32> {
        assert!(tag < self.num_tags, "tag {tag} of {}", self.num_tags);
        self.probabilities.iter().skip(tag).step_by(self.num_tags).copied().collect()
    }

    /// The clip's probabilities `[num_tags]`: the mean over the windows in which something was to be heard; `None` if
    /// there is none.
    pub fn clip_probabilities(&self) -> Option<Vec<f32>> {
        let mut clip = ClipProbabilities::new(self.num_tags);
        for window in self.windows().filter(|window| !window.silent) {
            clip.push(window.probabilities);
        }
        clip.mean()
    }

    /// Stretches of time in which `tag` sounds, within a clip of `duration_s` seconds.
    ///
    /// Windows overlap, so each speaks for one hop around its centre; the first and the last reach to the clip's ends.
    ///
    /// # Panics
    /// If `tag` is not below `num_tags`.
    pub fn segments(&self, tag: usize, duration_s: f64, hysteresis: &Hysteresis) -> Vec<Segment> {
        let hop = self.hop.samples() as f64;
        let first_centre = WINDOW_SAMPLES as f64 / 2.0;
        let between = |t: usize| (first_centre + (t as f64 - 0.5) * hop) / f64::from(SAMPLE_RATE_HZ);
        let num_windows = self.num_windows();
        let mut boundaries = vec![0.0];
        boundaries.extend((1..num_windows).map(|t| between(t).min(duration_s)));
        boundaries.push(duration_s);
        if num_windows == 0 { Vec::new() } else { segments(&self.tag(tag), &boundaries, hysteresis) }
    }

    /// One tag over time in `columns` equal parts, each the mean of what falls into it (by area, so that any number of
    /// windows fits any number of columns).
    ///
    /// # Panics
    /// If `tag` is not below `num_tags`.
    pub fn downsampled(&self, tag: usize, columns: usize) -> Vec<f32> {
        downsample(&self.tag(tag), columns)
    }
}

/// Means of `values` over `columns` equal parts.
fn downsample(values: &[f32], columns: usize) -> Vec<f32> {
    if values.is_empty() {
        return vec![0.0; columns];
    }
    let width = values.len() as f64 / columns as f64;
    (0..columns)
        .map(|column| {
            let (begin, end) = (column as f64 * width, (column + 1) as f64 * width);
            let last = (end.ceil() as usize).min(values.len());
            let area: f64 = (begin as usize..last)
                .map(|index| {
                    let share = end.min(index as f64 + 1.0) - begin.max(index as f64);
                    share.max(0.0) * f64::from(values[index])
                })
                .sum();
            (area / width) as f32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A taggram of one tag with these probabilities; `None` is a silent window.
    fn taggram(hop: Hop, probabilities: &[Option<f32>]) -> Taggram {
        let mut taggram = Taggram::new(1, hop);
        for probability in probabilities {
            let p = probability.unwrap_or(0.5);
            taggram.push(&[(p / (1.0 - p)).ln()], probability.is_none());
        }
        taggram
    }

    #[test]
    fn silent_windows_do_not_count() {
        let some = taggram(Hop::DEFAULT, &[Some(0.8), None, Some(0.4)]);
        assert!((some.clip_probabilities().expect("audible")[0] - 0.6).abs() < 1e-6);
        assert!(!some.is_silent());
        let none = taggram(Hop::DEFAULT, &[None, None]);
        assert!(none.is_silent());
        assert_eq!(none.clip_probabilities(), None);
        assert!(none.windows().all(|window| window.probabilities == [0.0]));
    }

    #[test]
    fn windows_know_their_time() {
        let taggram = taggram(Hop::NON_OVERLAPPING, &[Some(0.5), Some(0.5)]);
        let spans: Vec<_> = taggram.windows().map(|window| (window.start_s, window.end_s)).collect();
        let window_secs = 59_049.0 / 22_050.0;
        assert_eq!(spans, [(0.0, window_secs), (window_secs, 2.0 * window_secs)]);
    }

    #[test]
    fn parts_make_the_whole_again_and_must_agree() {
        let taggram = taggram(Hop::DEFAULT, &[Some(0.25), None]);
        let (probabilities, silent) = (taggram.probabilities().to_vec(), taggram.silent().to_vec());
        let again = Taggram::from_parts(1, Hop::DEFAULT, probabilities.clone(), silent.clone()).expect("agree");
        assert_eq!((again.probabilities(), again.silent()), (taggram.probabilities(), taggram.silent()));
        assert!(Taggram::from_parts(2, Hop::DEFAULT, probabilities, silent).is_none());
        assert!(Taggram::from_parts(usize::MAX, Hop::DEFAULT, vec![0.0], vec![true, true]).is_none());
    }

    #[test]
    fn tags_do_not_mix() {
        let mut taggram = Taggram::new(2, Hop::DEFAULT);
        taggram.push(&[0.0, 100.0], false);
        taggram.push(&[-100.0, 0.0], false);
        assert_eq!(taggram.tag(0), [0.5, 0.0]);
        assert_eq!(taggram.tag(1), [1.0, 0.5]);
    }

    #[test]
    fn segments_reach_the_ends_and_change_between_centres() {
        let hysteresis = Hysteresis { on: 0.5, off: 0.5, min_secs: 0.0, bridge_secs: 0.0 };
        let taggram = taggram(Hop::DEFAULT, &[Some(0.9), Some(0.9), Some(0.1), Some(0.9)]);
        let duration_s = 3.5;
        let found = taggram.segments(0, duration_s, &hysteresis);
        let hop = 6_561.0 / 22_050.0;
        let half_window = 59_049.0 / 22_050.0 / 2.0;
        assert_eq!(found.len(), 2);
        assert!(found[0].start_s.abs() < 1e-9);
        assert!((found[0].end_s - (half_window + 1.5 * hop)).abs() < 1e-9);
        assert!((found[1].start_s - (half_window + 2.5 * hop)).abs() < 1e-9);
        assert!((found[1].end_s - duration_s).abs() < 1e-9);
        assert!(Taggram::new(1, Hop::DEFAULT).segments(0, 1.0, &hysteresis).is_empty());
    }

    #[test]
    fn a_clip_shorter_than_a_window_is_one_segment() {
        let found = taggram(Hop::DEFAULT, &[Some(0.9)]).segments(0, 0.1, &Hysteresis::around(0.5));
        assert_eq!((found[0].start_s, found[0].end_s), (0.0, 0.1));
    }

    #[test]
    fn downsampling_keeps_the_mean_both_ways() {
        assert_eq!(downsample(&[0.0, 1.0, 1.0, 0.0], 2), [0.5, 0.5]);
        assert_eq!(downsample(&[0.0, 1.0], 4), [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(downsample(&[], 3), [0.0; 3]);
        assert!(downsample(&[0.5], 0).is_empty());
        let values: Vec<f32> = (0..101).map(|index| (index % 7) as f32).collect();
        let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
        for columns in [1, 3, 40, 101, 250] {
            assert!((mean(&downsample(&values, columns)) - mean(&values)).abs() < 1e-4, "{columns} columns");
        }
    }
}
