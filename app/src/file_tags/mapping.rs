//! From `MagnaTagATune`'s 50 tags to what the fields of a music file mean. Every tag has its place here, and nowhere
//! else are tags merged: results on the screen and in tables keep all fifty.
//!
//! ```text
//! probabilities [num_tags] -> at or above the tag's threshold -> meaning (synonyms merged, highest score)
//!                          -> of two opposites the stronger -> values of genre, mood, instrument, voice
//! ```

use std::fmt;

/// What kind of statement a tag is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A style of music.
    Genre,
    /// A mood, or how the music feels: its pace and loudness.
    Mood,
    /// What is played.
    Instrument,
    /// Who sings, or that nobody does.
    Voice,
}

/// One value of a field and the tags that mean it.
struct Meaning {
    kind: Kind,
    value: &'static str,
    tags: &'static [&'static str],
}

const fn meaning(kind: Kind, value: &'static str, tags: &'static [&'static str]) -> Meaning {
    Meaning { kind, value, tags }
}

/// The table, which README repeats. Genres are spelled as in ID3's list of genres where it has them.
const MEANINGS: &[Meaning] = &[
    meaning(Kind::Genre, "Ambient", &["ambient"]),
    meaning(Kind::Genre, "Classical", &["classical", "classic"]),
    meaning(Kind::Genre, "Country", &["country"]),
    meaning(Kind::Genre, "Dance", &["dance"]),
    meaning(Kind::Genre, "Electronic", &["electronic"]),
    meaning(Kind::Genre, "Indian", &["indian"]),
    meaning(Kind::Genre, "Metal", &["metal"]),
    meaning(Kind::Genre, "New Age", &["new age"]),
    meaning(Kind::Genre, "Opera", &["opera"]),
    meaning(Kind::Genre, "Pop", &["pop"]),
    meaning(Kind::Genre, "Rock", &["rock"]),
    meaning(Kind::Genre, "Techno", &["techno"]),
    meaning(Kind::Mood, "Fast", &["fast"]),
    meaning(Kind::Mood, "Loud", &["loud"]),
    meaning(Kind::Mood, "Quiet", &["quiet"]),
    meaning(Kind::Mood, "Slow", &["slow"]),
    meaning(Kind::Mood, "Soft", &["soft"]),
    meaning(Kind::Mood, "Weird", &["weird"]),
    meaning(Kind::Instrument, "cello", &["cello"]),
    meaning(Kind::Instrument, "drums", &["drums"]),
    meaning(Kind::Instrument, "flute", &["flute"]),
    meaning(Kind::Instrument, "guitar", &["guitar"]),
    meaning(Kind::Instrument, "harp", &["harp"]),
    meaning(Kind::Instrument, "harpsichord", &["harpsichord"]),
    meaning(Kind::Instrument, "piano", &["piano"]),
    meaning(Kind::Instrument, "sitar", &["sitar"]),
    meaning(Kind::Instrument, "strings", &["strings"]),
    meaning(Kind::Instrument, "synth", &["synth"]),
    meaning(Kind::Instrument, "violin", &["violin"]),
    meaning(Kind::Voice, "choir", &["choir", "choral"]),
    meaning(Kind::Voice, "female vocals", &["female", "female vocal", "female voice", "woman"]),
    meaning(Kind::Voice, "male vocals", &["male", "male vocal", "male voice", "man"]),
    meaning(Kind::Voice, "no vocals", &["no vocal", "no vocals", "no voice"]),
    meaning(Kind::Voice, "vocals", &["vocal", "vocals", "voice", "singing"]),
];

/// Tags that no field is for: neither a genre nor a mood, an instrument or a voice.
const NOT_WRITTEN: &[&str] = &["beat", "beats", "solo"];

/// Values that exclude each other; the one with the higher score is written.
const OPPOSITES: &[(&str, &str)] = &[
    ("Fast", "Slow"),
    ("Loud", "Quiet"),
    ("Loud", "Soft"),
    ("no vocals", "choir"),
    ("no vocals", "female vocals"),
    ("no vocals", "male vocals"),
    ("no vocals", "vocals"),
];

/// A value that is to be written, with the highest score among its tags.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    kind: Kind,
    /// The value as a field shows it.
    pub value: &'static str,
    score: f32,
}

impl fmt::Display for Scored {
    /// `guitar=0.83`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:.2}", self.value, self.score)
    }
}

/// The values that a file has earned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values(Vec<Scored>);

impl Values {
    /// Values whose tags reach their thresholds in `probabilities`, all `[num_tags]`.
    pub fn new(names: &[String], thresholds: &[f32], probabilities: &[f32]) -> Self {
        let mut scored: Vec<Scored> = Vec::new();
        let tags = names.iter().zip(thresholds).zip(probabilities);
        for ((tag, threshold), &score) in tags {
            // A probability that is not a number reaches nothing.
            let Some(meaning) = meaning_of(tag).filter(|_| score >= *threshold) else { continue };
            match scored.iter_mut().find(|known| known.value == meaning.value) {
                Some(known) => known.score = known.score.max(score),
                None => scored.push(Scored { kind: meaning.kind, value: meaning.value, score }),
            }
        }
        let score_of = |value: &str| scored.iter().find(|known| known.value == value).map(|known| known.score);
        let beaten = |weaker: &Scored| {
            OPPOSITES.iter().any(|&(a, b)| {
                // At a tie the first of the pair stays.
                (weaker.value == a && score_of(b).is_some_and(|score| score > weaker.score))
                    || (weaker.value == b && score_of(a).is_some_and(|score| score >= weaker.score))
            })
        };
        let mut kept: Vec<Scored> = scored.iter().filter(|value| !beaten(value)).copied().collect();
        kept.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.value.cmp(b.value)));
        Self(kept)
    }

    /// Values of one kind, the most certain first.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Scored> {
        self.0.iter().filter(move |scored| scored.kind == kind)
    }
}

/// Tags of a model that this table does not know.
pub fn unknown_tags(names: &[String]) -> Vec<&str> {
    let known = |tag: &&str| meaning_of(tag).is_some() || NOT_WRITTEN.contains(tag);
    names.iter().map(String::as_str).filter(|tag| !known(tag)).collect()
}

fn meaning_of(tag: &str) -> Option<&'static Meaning> {
    MEANINGS.iter().find(|meaning| meaning.tags.contains(&tag))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn values(scores: &[(&str, f32)]) -> Vec<String> {
        let (names, probabilities): (Vec<String>, Vec<f32>) =
            scores.iter().map(|&(name, score)| (name.to_owned(), score)).unzip();
        Values::new(&names, &vec![0.3; scores.len()], &probabilities).0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_of_the_fifty_tags_has_one_place() {
        let mut places: Vec<&str> = MEANINGS.iter().flat_map(|meaning| meaning.tags).copied().collect();
        places.extend(NOT_WRITTEN);
        assert_eq!(places.len(), 50);
        assert_eq!(places.iter().collect::<HashSet<_>>(), earmark_assets::MTAT_TAGS.iter().collect());
        let values: HashSet<_> = MEANINGS.iter().map(|meaning| meaning.value).collect();
        assert_eq!(values.len(), MEANINGS.len(), "a value is listed twice");
        for (a, b) in OPPOSITES {
            assert!(values.contains(a) && values.contains(b), "{a} or {b} is no value");
        }
    }

    #[test]
    fn the_readme_shows_the_table() {
        let readme = include_str!("../../../README.md");
        for meaning in MEANINGS {
            let row = format!("| {} | {} |", meaning.value, meaning.tags.join(", "));
            assert!(readme.contains(&row), "README.md lacks the row: {row}");
        }
    }

    #[test]
    fn thresholds_decide_and_synonyms_merge() {
        assert_eq!(values(&[("rock", 0.3), ("pop", 0.29), ("solo", 0.9)]), ["Rock=0.30"]);
        assert_eq!(values(&[("vocal", 0.4), ("singing", 0.7), ("voice", 0.1)]), ["vocals=0.70"]);
        assert_eq!(values(&[("guitar", f32::NAN), ("harp", 0.8), ("drums", 0.9)]), ["drums=0.90", "harp=0.80"]);
    }

    #[test]
    fn of_two_opposites_the_stronger_stays() {
        assert_eq!(values(&[("fast", 0.5), ("slow", 0.6)]), ["Slow=0.60"]);
        assert_eq!(values(&[("no vocal", 0.5), ("male", 0.4), ("vocals", 0.45)]), ["no vocals=0.50"]);
        assert_eq!(values(&[("no vocal", 0.4), ("male", 0.5)]), ["male vocals=0.50"]);
        assert_eq!(values(&[("loud", 0.5), ("quiet", 0.5)]), ["Loud=0.50"]);
    }

    #[test]
    fn tags_of_other_models_are_named() {
        let names = ["rock", "beat", "theremin"].map(str::to_owned).to_vec();
        assert_eq!(unknown_tags(&names), ["theremin"]);
    }
}
