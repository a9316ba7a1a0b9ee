//! What a track is, in few words: synonyms joined, opposites settled, with the places where each thing sounds.
//!
//! ```text
//! clip probabilities [num_tags] -> synonyms joined: the surest tag speaks -> reaches its threshold? -\
//! taggram -> segments of each tag -> joined where they touch -----------------------------------------+-> Vec<Heard>
//!                                                                opposites: the surer one stays -----/
//! ```

use super::segments::{Hysteresis, Segment};
use super::synonyms::{Group, are_opposites};
use super::taggram::Taggram;

/// A thing that was heard in a track.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    /// Position of its group among those asked about.
    pub group: usize,
    /// The most probable of its tags, whose probability stands for all.
    pub tag: usize,
    /// That tag's clip probability.
    pub confidence: f32,
    /// Whether it holds for the track as a whole; otherwise only in its segments.
    pub whole_track: bool,
    /// Where in the track it sounds, in order and apart from each other. May be empty: what is just probable enough on the
    /// whole need not be so anywhere for long.
    pub segments: Vec<Segment>,
}

/// What was heard of `groups` in a clip of `duration_s` seconds, best first: what holds for the whole track, then what sounds
/// somewhere. `threshold(tag)` is the probability from which on a tag counts as certain.
///
/// Of two opposites that both hold for the whole track, the less probable one is kept for its segments alone: there is
/// singing in a part of a track without vocals.
pub fn verdict(
    taggram: &Taggram,
    clip_probabilities: &[f32],
    duration_s: f64,
    groups: &[Group],
    threshold: impl Fn(usize) -> f32,
) -> Vec<Heard> {
    let mut all: Vec<Heard> = groups
        .iter()
        .enumerate()
        .filter_map(|(index, group)| {
            let segments = group
                .tags
                .iter()
                .flat_map(|&tag| taggram.segments(tag, duration_s, &Hysteresis::around(threshold(tag))))
                .collect();
            let best = |a: usize, b: usize| if clip_probabilities[b] > clip_probabilities[a] { b } else { a };
            let tag = group.tags.iter().copied().reduce(best)?;
            let whole_track = group.tags.iter().any(|&tag| clip_probabilities[tag] >= threshold(tag));
            let confidence = clip_probabilities[tag];
            Some(Heard { group: index, tag, confidence, whole_track, segments: joined(segments) })
        })
        .filter(|heard| heard.whole_track || !heard.segments.is_empty())
        .collect();
    let rank = |a: &Heard, b: &Heard| b.confidence.total_cmp(&a.confidence).then(a.group.cmp(&b.group));
    all.sort_by(rank);
    for index in 1..all.len() {
        let (surer, rest) = all.split_at_mut(index);
        let name = |heard: &Heard| groups[heard.group].name.as_str();
        if surer.iter().any(|other| other.whole_track && are_opposites(name(other), name(&rest[0]))) {
            rest[0].whole_track = false;
        }
    }
    all.retain(|heard| heard.whole_track || !heard.segments.is_empty());
    all.sort_by(|a, b| b.whole_track.cmp(&a.whole_track).then_with(|| rank(a, b)));
    all
}

/// Segments of several tags as one list: what overlaps or touches becomes one, as sure as the surest of them.
fn joined(mut segments: Vec<Segment>) -> Vec<Segment> {
    segments.sort_by(|a, b| a.start_s.total_cmp(&b.start_s));
    let mut apart: Vec<Segment> = Vec::new();
    for segment in segments {
        match apart.last_mut() {
            Some(before) if segment.start_s <= before.end_s => {
                before.end_s = before.end_s.max(segment.end_s);
                before.confidence = before.confidence.max(segment.confidence);
            }
            _ => apart.push(segment),
        }
    }
    apart
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Hop;

    const WINDOW_SECS: f64 = 59_049.0 / 22_050.0;

    /// Name, confidence, whether it is the whole track, and the segments in windows.
    type Row = (String, f32, bool, Vec<(usize, usize)>);

    /// Windows side by side, one row of probabilities each.
    fn heard(names: &[&str], windows: &[&[f32]], threshold: f32) -> Vec<Row> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut taggram = Taggram::new(names.len(), Hop::NON_OVERLAPPING);
        for window in windows {
            let logits: Vec<f32> = window.iter().map(|p| (p / (1.0 - p)).ln()).collect();
            taggram.push(&logits, false);
        }
        let groups = Group::of(&names);
        let clip = taggram.clip_probabilities().expect("audible");
        let window = |secs: f64| (secs / WINDOW_SECS).round() as usize;
        verdict(&taggram, &clip, windows.len() as f64 * WINDOW_SECS, &groups, |_| threshold)
            .into_iter()
            .map(|heard| {
                let spans = heard.segments.iter().map(|s| (window(s.start_s), window(s.end_s))).collect();
                let confidence = (heard.confidence * 100.0).round() / 100.0;
                (groups[heard.group].name.clone(), confidence, heard.whole_track, spans)
            })
            .collect()
    }

    #[test]
    fn synonyms_speak_as_one_and_their_places_join() {
        let found = heard(&["choir", "choral"], &[&[0.9, 0.1], &[0.8, 0.9], &[0.1, 0.9], &[0.1, 0.1]], 0.6);
        assert_eq!(found, [("choir".to_owned(), 0.5, false, vec![(0, 3)])]);
    }

    #[test]
    fn what_sounds_in_a_part_comes_after_what_holds_for_the_whole() {
        let found = heard(&["vocals", "harp", "rock"], &[&[0.9, 0.7, 0.1], &[0.1, 0.7, 0.1], &[0.9, 0.7, 0.1]], 0.65);
        let expected =
            [("harp".to_owned(), 0.7, true, vec![(0, 3)]), ("vocals".to_owned(), 0.63, false, vec![(0, 1), (2, 3)])];
        assert_eq!(found, expected);
    }

    #[test]
    fn of_two_opposites_one_holds_for_the_whole() {
        let found = heard(&["no vocals", "female"], &[&[0.9, 0.1], &[0.9, 0.1], &[0.4, 0.9]], 0.3);
        let expected = [
            ("no vocals".to_owned(), 0.73, true, vec![(0, 3)]),
            ("female vocals".to_owned(), 0.37, false, vec![(2, 3)]),
        ];
        assert_eq!(found, expected);
        let found = heard(&["fast", "slow"], &[&[0.8, 0.6]], 0.5);
        assert_eq!(found.iter().map(|heard| heard.2).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn nothing_is_heard_where_nothing_is_reached() {
        assert!(heard(&["rock", "harp"], &[&[0.2, 0.1]], 0.5).is_empty());
    }
}
