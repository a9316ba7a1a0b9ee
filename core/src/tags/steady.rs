//! Tags that a person can read while the music plays: they come after a moment and stay for a while.
//!
//! ```text
//! probability per window    ..  /\/\/‾\/\__/\_  ..           one row per hop, each for the centre of its window
//! smoothed, in seconds          _/‾‾‾‾‾‾\__
//! threshold                  - / - - - - - \ - - -           on above it, off below 80 % of it
//! certain                       <attack>====<hold>           what lasts shorter than the attack never shows,
//!                                                            a dip shorter than the hold is not seen
//! ```
//!
//! All times are seconds, so that the hop does not change what is shown. Nothing here allocates after construction.

use super::segments::{Hysteresis, Segment};
use super::vocabulary::TagVocabulary;

/// A row never speaks for more time than this, in seconds: after a gap, what was not heard is not made up.
const MAX_STEP_SECS: f64 = 1.0;

/// How fast a tag follows what is heard, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// Time constant of the exponential smoothing.
    pub smoothing_secs: f64,
    /// How long the smoothed probability must stay above the threshold before the tag is certain.
    pub attack_secs: f64,
    /// How long it must stay below before the tag is not.
    pub hold_secs: f64,
}

impl Timing {
    /// For what sounds or does not: instruments and voices. A window reaches over 2.7 s already, so little is added.
    pub const SOUND: Self = Self { smoothing_secs: 0.5, attack_secs: 0.5, hold_secs: 2.0 };

    /// For the character of a piece: genre, mood, tempo. It seldom changes within one.
    pub const CHARACTER: Self = Self { smoothing_secs: 1.0, attack_secs: 1.0, hold_secs: 4.0 };

    /// The timing of a tag by its name: what is known to be an instrument or a voice is a sound, the rest is character.
    pub fn of_tag(name: &str) -> Self {
        if SOUNDS.contains(&name) { Self::SOUND } else { Self::CHARACTER }
    }
}

/// Instruments and voices among `MagnaTagATune`'s tags.
const SOUNDS: [&str; 31] = [
    "guitar",
    "strings",
    "drums",
    "piano",
    "violin",
    "vocal",
    "synth",
    "female",
    "male",
    "singing",
    "vocals",
    "no vocals",
    "harpsichord",
    "flute",
    "woman",
    "male vocal",
    "no vocal",
    "sitar",
    "man",
    "choir",
    "voice",
    "male voice",
    "female vocal",
    "harp",
    "cello",
    "no voice",
    "female voice",
    "choral",
    "beat",
    "beats",
    "solo",
];

/// What is above or below its limit, and for how long.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    secs: f64,
    /// Probability times seconds.
    area: f64,
}

impl Span {
    fn add(&mut self, probability: f32, secs: f64) {
        self.secs += secs;
        self.area += f64::from(probability) * secs;
    }
}

/// One tag.
#[derive(Clone, Debug)]
struct Tag {
    limits: Hysteresis,
    timing: Timing,
    certain: bool,
    /// While not certain, the time above the threshold; while certain, the time below.
    pending: Span,
    /// While certain: begin, and what was heard since.
    start_s: f64,
    heard: Span,
}

impl Tag {
    /// Ends at `end_s`.
    fn end(&mut self, end_s: f64) -> Segment {
        let Span { secs, area } = self.heard;
        self.certain = false;
        self.pending = Span::default();
        Segment { start_s: self.start_s, end_s, confidence: if secs > 0.0 { (area / secs) as f32 } else { 0.0 } }
    }
}

/// Smoothed probabilities and certain tags over time.
#[derive(Clone, Debug)]
pub struct Steady {
    tags: Vec<Tag>,
    smoothed: Vec<f32>,
    certain: Vec<bool>,
    /// Time of the last row.
    last_s: Option<f64>,
}

impl Steady {
    /// Nothing heard yet; thresholds from the vocabulary, timing by name.
    pub fn new(vocabulary: &TagVocabulary) -> Self {
        let timings = vocabulary.names().iter().map(|name| Timing::of_tag(name)).collect::<Vec<Timing>>();
        Self::with_timings(vocabulary, &timings)
    }

    /// The same with one timing per tag.
    ///
    /// # Panics
    /// If there is not one timing per tag.
    pub fn with_timings(vocabulary: &TagVocabulary, timings: &[Timing]) -> Self {
        assert_eq!(timings.len(), vocabulary.num_tags(), "one timing per tag");
        let tag = |(&threshold, &timing): (&f32, &Timing)| Tag {
            limits: Hysteresis::around(threshold),
            timing,
            certain: false,
            pending: Span::default(),
            start_s: 0.0,
            heard: Span::default(),
        };
        Self {
            tags: vocabulary.thresholds().iter().zip(timings).map(tag).collect(),
            smoothed: vec![0.0; timings.len()],
            certain: vec![false; timings.len()],
            last_s: None,
        }
    }

    /// Takes the probabilities `[num_tags]` of the window whose centre is `at_s`; times must not go backwards. Where
    /// there is no music (`is_music` false) no tag becomes or stays certain for longer than its hold, whatever the
    /// probabilities. `ended` is given each tag that ceases to be certain.
    ///
    /// # Panics
    /// If the length is not `num_tags`.
    pub fn push(&mut self, probabilities: &[f32], at_s: f64, is_music: bool, mut ended: impl FnMut(usize, Segment)) {
        assert_eq!(probabilities.len(), self.tags.len(), "one probability per tag");
        let secs = self.last_s.map_or(0.0, |last_s| (at_s - last_s).clamp(0.0, MAX_STEP_SECS));
        let is_first = self.last_s.is_none();
        self.last_s = Some(at_s);
        for (index, tag) in self.tags.iter_mut().enumerate() {
            let probability = if probabilities[index].is_nan() { 0.0 } else { probabilities[index] };
            let smoothed = &mut self.smoothed[index];
            let share = if is_first { 1.0 } else { 1.0 - (-secs / tag.timing.smoothing_secs.max(1e-6)).exp() };
            *smoothed += share as f32 * (probability - *smoothed);

            if tag.certain {
                let stays = is_music && *smoothed >= tag.limits.off;
                tag.pending.add(probability, secs);
                if stays {
                    tag.heard.secs += tag.pending.secs;
                    tag.heard.area += tag.pending.area;
                    tag.pending = Span::default();
                } else if tag.pending.secs >= tag.timing.hold_secs {
                    // It ended when it fell, not when that became certain.
                    let end_s = (at_s - tag.pending.secs).max(tag.start_s);
                    ended(index, tag.end(end_s));
                }
            } else if is_music && *smoothed >= tag.limits.on {
                tag.pending.add(probability, secs);
                if tag.pending.secs >= tag.timing.attack_secs {
                    tag.certain = true;
                    tag.start_s = at_s - tag.pending.secs;
                    tag.heard = tag.pending;
                    tag.pending = Span::default();
                }
            } else {
                tag.pending = Span::default();
            }
            self.certain[index] = tag.certain;
        }
    }

    /// The sound is interrupted: what was certain ends with the last row, and the next row begins anew.
    pub fn interrupt(&mut self, mut ended: impl FnMut(usize, Segment)) {
        let Some(last_s) = self.last_s.take() else { return };
        for (index, tag) in self.tags.iter_mut().enumerate() {
            if tag.certain {
                let end_s = (last_s - tag.pending.secs).max(tag.start_s);
                ended(index, tag.end(end_s));
            }
            tag.pending = Span::default();
        }
        self.smoothed.fill(0.0);
        self.certain.fill(false);
    }

    /// Smoothed probabilities, `[num_tags]`.
    pub fn smoothed(&self) -> &[f32] {
        &self.smoothed
    }

    /// Which tags are certain, `[num_tags]`.
    pub fn certain(&self) -> &[bool] {
        &self.certain
    }

    /// Since when a tag is certain, in seconds; `None` if it is not.
    pub fn since_s(&self, tag: usize) -> Option<f64> {
        self.tags.get(tag).filter(|tag| tag.certain).map(|tag| tag.start_s)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIMING: Timing = Timing { smoothing_secs: 0.5, attack_secs: 1.0, hold_secs: 2.0 };

    fn steady() -> Steady {
        let vocabulary = TagVocabulary::new(vec!["rock".to_owned()], vec![0.5]).expect("valid");
        Steady::with_timings(&vocabulary, &[TIMING])
    }

    /// Segments of a signal given by its probability over time, in windows `hop` seconds apart, and when they were told.
    fn run(hop: f64, secs: f64, probability: impl Fn(f64) -> f32) -> (Vec<Segment>, Vec<f64>) {
        let mut steady = steady();
        let (mut segments, mut told) = (Vec::new(), Vec::new());
        for index in 0..(secs / hop) as usize {
            let at_s = index as f64 * hop;
            steady.push(&[probability(at_s)], at_s, true, |_, segment| {
                segments.push(segment);
                told.push(at_s);
            });
        }
        steady.interrupt(|_, segment| segments.push(segment));
        (segments, told)
    }

    fn between(from: f64, to: f64) -> impl Fn(f64) -> f32 {
        move |t| if (from..to).contains(&t) { 0.9 } else { 0.1 }
    }

    #[test]
    fn a_tag_comes_after_its_attack_and_goes_after_its_hold() {
        let (segments, told) = run(0.298, 30.0, between(5.0, 15.0));
        assert_eq!((segments.len(), told.len()), (1, 1));
        // Smoothing shifts both ends by less than a second; the hold is no part of the segment.
        assert!((5.0..6.0).contains(&segments[0].start_s) && (15.0..16.0).contains(&segments[0].end_s), "{segments:?}");
        assert!((17.0..18.6).contains(&told[0]), "{told:?}");
        assert!((segments[0].confidence - 0.9).abs() < 0.05, "{segments:?}");
    }

    #[test]
    fn what_is_shorter_than_the_attack_never_shows_and_a_short_dip_is_not_seen() {
        assert_eq!(run(0.1, 10.0, between(3.0, 3.8)).0, []);
        let dip = |t: f64| if (6.0..7.5).contains(&t) { 0.1 } else { between(3.0, 12.0)(t) };
        assert_eq!(run(0.1, 20.0, dip).0.len(), 1);
    }

    #[test]
    fn without_music_nothing_is_certain_for_long() {
        let mut steady = steady();
        let mut ended = Vec::new();
        for index in 0..100 {
            let at_s = f64::from(index) * 0.2;
            steady.push(&[0.9], at_s, at_s < 10.0, |tag, segment| ended.push((tag, segment)));
            assert_eq!(steady.certain()[0], steady.since_s(0).is_some());
        }
        assert_eq!(ended.len(), 1);
        assert!((ended[0].1.end_s - 10.0).abs() < 0.3, "{ended:?}");
        assert!(!steady.certain()[0] && steady.smoothed()[0] > 0.8, "the probability itself stays visible");
    }

    #[test]
    fn an_interruption_ends_what_was_certain_and_starts_anew() {
        let mut steady = steady();
        (0..20).for_each(|index| steady.push(&[0.9], f64::from(index) * 0.3, true, |_, _| {}));
        assert!(steady.certain()[0]);
        let mut ended = Vec::new();
        steady.interrupt(|_, segment| ended.push(segment));
        assert_eq!((ended.len(), ended[0].end_s), (1, 19.0 * 0.3));
        steady.push(&[0.9], 100.0, true, |_, _| {});
        assert!(!steady.certain()[0], "the attack begins again");
        steady.interrupt(|_, _| panic!("nothing was certain"));
    }

    #[test]
    fn a_gap_is_not_made_up() {
        let mut steady = steady();
        steady.push(&[0.9], 0.0, true, |_, _| {});
        steady.push(&[0.9], 0.3, true, |_, _| {});
        // A minute later one row does not pass for a minute of rock, but for MAX_STEP_SECS.
        steady.push(&[0.9], 60.3, true, |_, _| {});
        assert!(steady.since_s(0).expect("certain by now") > 58.9);
    }

    #[test]
    fn instruments_are_faster_than_genres() {
        assert_eq!((Timing::of_tag("violin"), Timing::of_tag("rock")), (Timing::SOUND, Timing::CHARACTER));
        assert!(SOUNDS.iter().all(|name| *name == name.to_lowercase()));
    }

    proptest! {
        #[test]
        fn the_hop_does_not_matter(from in 2.0f64..8.0, secs in 3.0f64..10.0, hop in 0.011f64..0.298) {
            let coarse = run(0.298, 30.0, between(from, from + secs)).0;
            let fine = run(hop, 30.0, between(from, from + secs)).0;
            prop_assert_eq!((coarse.len(), fine.len()), (1, 1));
            prop_assert!((coarse[0].start_s - fine[0].start_s).abs() <= 0.6);
            prop_assert!((coarse[0].end_s - fine[0].end_s).abs() <= 0.6);
        }

        #[test]
        fn whatever_is_heard_nothing_flickers(
            probabilities in prop::collection::vec(0.0f32..1.0, 0..300),
            hop in 0.03f64..0.9,
        ) {
            let mut steady = steady();
            let mut changes = Vec::new();
            let mut was_certain = false;
            for (index, &probability) in probabilities.iter().enumerate() {
                let at_s = index as f64 * hop;
                steady.push(&[probability], at_s, true, |_, segment| {
                    assert!(segment.end_s >= segment.start_s);
                });
                if steady.certain()[0] != was_certain {
                    was_certain = !was_certain;
                    changes.push((at_s, was_certain));
                }
            }
            for pair in changes.windows(2) {
                // From on to off at least the hold, from off to on at least the attack (to one hop).
                let least = if pair[0].1 { TIMING.hold_secs } else { TIMING.attack_secs };
                prop_assert!(pair[1].0 - pair[0].0 >= least - 1e-6, "{:?}", pair);
            }
        }

        #[test]
        fn segments_do_not_overlap(probabilities in prop::collection::vec(0.0f32..1.0, 0..300)) {
            let mut steady = steady();
            let mut segments: Vec<Segment> = Vec::new();
            for (index, &probability) in probabilities.iter().enumerate() {
                steady.push(&[probability], index as f64 * 0.298, true, |_, segment| segments.push(segment));
            }
            steady.interrupt(|_, segment| segments.push(segment));
            for pair in segments.windows(2) {
                prop_assert!(pair[1].start_s >= pair[0].end_s - 1e-9, "{:?}", pair);
            }
        }
    }
}
