//! Tags that mean the same, and tags that mean the opposite, as one line with a verdict.
//!
//! ```text
//! vocal .4  vocals .3  voice .1  singing .2 --says----\
//!                                                      +-> line "vocals": yes / no / disputed / absent
//! no vocals .1  no vocal .05  no voice .0 --denies----/
//! ```
//!
//! People gave the tags of `MagnaTagATune` freely, so its vocabulary says one thing in several words. A reader wants one
//! answer; the raw probabilities stay available beside it.

use super::vocabulary::TagVocabulary;

/// Words of one meaning, and of its opposite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineGroup {
    /// What the line is called, and what is said when it holds.
    pub name: &'static str,
    /// Tags that say so.
    pub says: &'static [&'static str],
    /// What is said when the opposite holds; empty if no tag says that.
    pub opposite: &'static str,
    /// Tags that say the opposite.
    pub denies: &'static [&'static str],
}

/// The groups of `MagnaTagATune`'s 50 tags. Tags that are not named here stand for themselves.
pub const GROUPS: [LineGroup; 8] = [
    LineGroup {
        name: "vocals",
        says: &["vocal", "vocals", "voice", "singing"],
        opposite: "no vocals",
        denies: &["no vocal", "no vocals", "no voice"],
    },
    LineGroup {
        name: "female voice",
        says: &["female", "woman", "female vocal", "female voice"],
        opposite: "",
        denies: &[],
    },
    LineGroup { name: "male voice", says: &["male", "man", "male vocal", "male voice"], opposite: "", denies: &[] },
    LineGroup { name: "choir", says: &["choir", "choral"], opposite: "", denies: &[] },
    LineGroup { name: "classical", says: &["classical", "classic"], opposite: "", denies: &[] },
    LineGroup { name: "beat", says: &["beat", "beats"], opposite: "", denies: &[] },
    LineGroup { name: "loud", says: &["loud"], opposite: "quiet", denies: &["quiet", "soft"] },
    LineGroup { name: "fast", says: &["fast"], opposite: "slow", denies: &["slow"] },
];

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Verdict {
    /// Neither side is certain.
    #[default]
    Absent,
    /// What the line is called holds.
    Yes,
    /// The opposite holds.
    No,
    /// Both sides are certain, and neither is clearly ahead.
    Disputed,
}

/// How far one side must be ahead of the other, as a ratio of certainties, to win a line that both claim. The side
/// that holds the line keeps it until the other is as far ahead.
const LEAD: f32 = 1.25;

/// One line: a group that the vocabulary has tags of, or a tag that stands for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    name: String,
    opposite: String,
    says: Vec<usize>,
    denies: Vec<usize>,
}

impl Line {
    /// What is said under `verdict`; `None` where there is nothing to say.
    pub fn label(&self, verdict: Verdict) -> Option<&str> {
        match verdict {
            Verdict::Yes => Some(&self.name),
            Verdict::No => Some(&self.opposite),
            Verdict::Absent | Verdict::Disputed => None,
        }
    }

    /// What the line is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tags that say so, then those that deny it, as positions among the logits.
    pub fn tags(&self) -> impl Iterator<Item = usize> + '_ {
        self.says.iter().chain(&self.denies).copied()
    }
}

/// The lines of a vocabulary, in the order of their first tags.
#[derive(Clone, Debug, PartialEq)]
pub struct Lines {
    lines: Vec<Line>,
    thresholds: Vec<f32>,
}

/// What a line says at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct LineState {
    /// Its verdict.
    pub verdict: Verdict,
    /// Highest probability of a tag on the side that holds; of the name's side if none does.
    pub confidence: f32,
}

impl Lines {
    /// Groups the tags of `vocabulary`.
    pub fn new(vocabulary: &TagVocabulary) -> Self {
        let found = |names: &[&str]| names.iter().filter_map(|name| vocabulary.index_of(name)).collect::<Vec<usize>>();
        let mut lines: Vec<Line> = GROUPS
            .iter()
            .map(|group| Line {
                name: group.name.to_owned(),
                opposite: group.opposite.to_owned(),
                says: found(group.says),
                denies: found(group.denies),
            })
            // A single tag is its own line, under its own name.
            .filter(|line| line.says.len() + line.denies.len() > 1)
            .collect();
        let mut grouped = vec![false; vocabulary.num_tags()];
        lines.iter().flat_map(Line::tags).for_each(|tag| grouped[tag] = true);
        for (tag, name) in vocabulary.names().iter().enumerate().filter(|&(tag, _)| !grouped[tag]) {
            lines.push(Line { name: name.clone(), opposite: String::new(), says: vec![tag], denies: Vec::new() });
        }
        lines.sort_by_key(|line| line.tags().min());
        Self { lines, thresholds: vocabulary.thresholds().to_vec() }
    }

    /// The lines.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// What every line says, given the tags' probabilities and which of them are certain, `[num_tags]` each. `states`,
    /// one per line, holds what they said before. Does not allocate.
    ///
    /// # Panics
    /// If a length is wrong.
    pub fn judge(&self, probabilities: &[f32], certain: &[bool], states: &mut [LineState]) {
        assert_eq!(states.len(), self.lines.len(), "one state per line");
        assert_eq!((probabilities.len(), certain.len()), (self.thresholds.len(), self.thresholds.len()), "one per tag");
        for (line, state) in self.lines.iter().zip(states) {
            let yes = self.side(&line.says, probabilities, certain);
            let no = self.side(&line.denies, probabilities, certain);
            state.verdict = match (yes.certain, no.certain) {
                (false, false) => Verdict::Absent,
                (true, false) => Verdict::Yes,
                (false, true) => Verdict::No,
                (true, true) if yes.certainty >= no.certainty * LEAD => Verdict::Yes,
                (true, true) if no.certainty >= yes.certainty * LEAD => Verdict::No,
                // Nobody is clearly ahead: whoever held the line keeps it.
                (true, true) => match state.verdict {
                    Verdict::Absent => Verdict::Disputed,
                    held => held,
                },
            };
            state.confidence = if state.verdict == Verdict::No { no.probability } else { yes.probability };
        }
    }

    fn side(&self, tags: &[usize], probabilities: &[f32], certain: &[bool]) -> Side {
        tags.iter().fold(Side::default(), |side, &tag| Side {
            certain: side.certain || certain[tag],
            probability: side.probability.max(probabilities[tag]),
            certainty: side.certainty.max(certainty(probabilities[tag], self.thresholds[tag])),
        })
    }
}

/// One side of a line.
#[derive(Clone, Copy, Default)]
struct Side {
    certain: bool,
    probability: f32,
    /// Probability over threshold, the highest.
    certainty: f32,
}

/// A probability as a multiple of its threshold, by which tags of different thresholds compare.
fn certainty(probability: f32, threshold: f32) -> f32 {
    probability / threshold.max(1e-3)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn vocabulary(names: &[&str]) -> TagVocabulary {
        let thresholds = vec![0.2; names.len()];
        TagVocabulary::new(names.iter().map(ToString::to_string).collect(), thresholds).expect("valid")
    }

    fn judge(lines: &Lines, probabilities: &[f32], states: &mut [LineState]) {
        let certain: Vec<bool> = probabilities.iter().map(|&p| p >= 0.2).collect();
        lines.judge(probabilities, &certain, states);
    }

    #[test]
    fn a_tag_is_in_one_group_only() {
        let tags: Vec<&str> = GROUPS.iter().flat_map(|group| group.says.iter().chain(group.denies)).copied().collect();
        assert_eq!(tags.iter().collect::<HashSet<_>>().len(), tags.len());
        for group in GROUPS {
            assert_eq!(group.denies.is_empty(), group.opposite.is_empty(), "{}", group.name);
        }
    }

    #[test]
    fn every_tag_is_in_exactly_one_line() {
        let vocabulary = vocabulary(&["rock", "vocal", "no vocals", "choral", "voice", "harp"]);
        let lines = Lines::new(&vocabulary);
        let names: Vec<&str> = lines.lines().iter().map(Line::name).collect();
        // `choir` has one tag here and so keeps that tag's name.
        assert_eq!(names, ["rock", "vocals", "choral", "harp"]);
        let mut tags: Vec<usize> = lines.lines().iter().flat_map(Line::tags).collect();
        tags.sort_unstable();
        assert_eq!(tags, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn opposites_end_in_one_verdict() {
        let lines = Lines::new(&vocabulary(&["vocal", "singing", "no vocals"]));
        let mut states = [LineState::default()];
        let mut verdict = |probabilities: [f32; 3]| {
            judge(&lines, &probabilities, &mut states);
            (states[0].verdict, states[0].confidence)
        };
        assert_eq!(verdict([0.1, 0.1, 0.1]), (Verdict::Absent, 0.1));
        assert_eq!(verdict([0.3, 0.31, 0.3]), (Verdict::Disputed, 0.31));
        assert_eq!(verdict([0.1, 0.5, 0.3]), (Verdict::Yes, 0.5));
        assert_eq!(verdict([0.1, 0.35, 0.4]), (Verdict::Yes, 0.35), "the holder stays while nobody is clearly ahead");
        assert_eq!(verdict([0.1, 0.3, 0.4]), (Verdict::No, 0.4));
        assert_eq!(verdict([0.1, 0.4, 0.35]), (Verdict::No, 0.35));
        assert_eq!(lines.lines()[0].label(Verdict::No), Some("no vocals"));
        assert_eq!(lines.lines()[0].label(Verdict::Disputed), None);
    }

    #[test]
    fn the_surer_synonym_speaks() {
        let lines = Lines::new(&vocabulary(&["choir", "choral"]));
        let mut states = [LineState::default()];
        judge(&lines, &[0.1, 0.7], &mut states);
        assert_eq!(states[0], LineState { verdict: Verdict::Yes, confidence: 0.7 });
        assert_eq!(lines.lines()[0].label(Verdict::Yes), Some("choir"));
    }
}
