//! Tags that mean the same, and tags that mean the opposite, as one line with a verdict.
//!
//! ```text
//! vocal .4  vocals .3  voice .1  singing .2 --says----\
//!                                                      +-> line "vocals": yes / no / disputed / absent
//! no vocals .1  no vocal .05  no voice .0 --denies----/
//! ```
//!
//! What means the same and the opposite is written in [`super::synonyms`]. A listener wants one answer; the raw probabilities
//! stay available beside it.

use super::synonyms::Group;
use super::vocabulary::TagVocabulary;

/// Groups that share a line with those that say the opposite; every other group has a line of its own.
const OPPOSED: [(&str, &[&str]); 3] = [("vocals", &["no vocals"]), ("loud", &["quiet", "soft"]), ("fast", &["slow"])];

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

/// One line: a group of tags, with the groups that say the opposite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    name: String,
    opposite: Option<String>,
    says: Vec<usize>,
    denies: Vec<usize>,
}

impl Line {
    fn new(says: Group, denies: &[Group]) -> Self {
        Self {
            name: says.name,
            opposite: denies.first().map(|group| group.name.clone()),
            says: says.tags,
            denies: denies.iter().flat_map(|group| &group.tags).copied().collect(),
        }
    }

    /// What is said under `verdict`; `None` where there is nothing to say.
    pub fn label(&self, verdict: Verdict) -> Option<&str> {
        match verdict {
            Verdict::Yes => Some(&self.name),
            Verdict::No => self.opposite.as_deref(),
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
        let mut groups = Group::of(vocabulary.names());
        let mut taken = |name: &str| {
            let position = groups.iter().position(|group| group.name == name)?;
            Some(groups.remove(position))
        };
        let mut lines: Vec<Line> = Vec::new();
        for (name, opposites) in OPPOSED {
            let denies: Vec<Group> = opposites.iter().filter_map(|&opposite| taken(opposite)).collect();
            match taken(name) {
                Some(says) => lines.push(Line::new(says, &denies)),
                // Without anything to be the opposite of, they stand for themselves.
                None => lines.extend(denies.into_iter().map(|group| Line::new(group, &[]))),
            }
        }
        lines.extend(groups.into_iter().map(|group| Line::new(group, &[])));
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
    use super::*;
    use crate::tags::are_opposites;

    fn vocabulary(names: &[&str]) -> TagVocabulary {
        let thresholds = vec![0.2; names.len()];
        TagVocabulary::new(names.iter().map(ToString::to_string).collect(), thresholds).expect("valid")
    }

    fn judge(lines: &Lines, probabilities: &[f32], states: &mut [LineState]) {
        let certain: Vec<bool> = probabilities.iter().map(|&p| p >= 0.2).collect();
        lines.judge(probabilities, &certain, states);
    }

    #[test]
    fn what_shares_a_line_excludes_each_other() {
        for (name, opposites) in OPPOSED {
            assert!(opposites.iter().all(|opposite| are_opposites(name, opposite)), "{name}");
        }
    }

    #[test]
    fn an_opposite_alone_is_a_line_of_its_own() {
        let lines = Lines::new(&vocabulary(&["soft", "slow", "fast", "quiet"]));
        let names: Vec<&str> = lines.lines().iter().map(Line::name).collect();
        assert_eq!(names, ["soft", "fast", "quiet"]);
        assert_eq!(lines.lines()[1].label(Verdict::No), Some("slow"));
        assert_eq!(lines.lines()[0].label(Verdict::No), None);
    }

    #[test]
    fn every_tag_is_in_exactly_one_line() {
        let vocabulary = vocabulary(&["rock", "vocal", "no vocals", "choral", "voice", "harp"]);
        let lines = Lines::new(&vocabulary);
        let names: Vec<&str> = lines.lines().iter().map(Line::name).collect();
        assert_eq!(names, ["rock", "vocals", "choir", "harp"]);
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
