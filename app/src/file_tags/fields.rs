//! The fields that Earmark writes, and which of them a file gets.
//!
//! ```text
//! fields in the file --+
//!                      +-> plan -> changes: field, old values, new values
//! values of the file --+
//! ```
//!
//! A field is ours if we say so in the file: `EARMARK_GENRE` stands beside a genre that Earmark filled in, with the
//! same values and their scores. A genre that was edited since no longer equals it and is the user's. `EARMARK_MODEL`
//! names the program and the model behind all of our fields.

use serde::{Deserialize, Serialize};

use super::mapping::{Kind, Scored, Values};

/// A field of a file that Earmark may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Field {
    /// The genre that every player shows.
    Genre,
    /// The mood that some players show.
    Mood,
    /// The genres that Earmark filled in, with scores.
    OwnGenre,
    /// The moods that Earmark filled in, with scores.
    OwnMood,
    /// Instruments with scores.
    Instrument,
    /// Voices with scores.
    Voice,
    /// Who wrote: program and model.
    Model,
}

impl Field {
    /// All fields, in the order in which they are written.
    pub const ALL: [Self; 7] =
        [Self::Genre, Self::Mood, Self::OwnGenre, Self::OwnMood, Self::Instrument, Self::Voice, Self::Model];

    /// Its name where a format has free names: Vorbis comments, ID3's user texts, MP4's freeform atoms.
    pub fn name(self) -> &'static str {
        match self {
            Self::Genre => "GENRE",
            Self::Mood => "MOOD",
            Self::OwnGenre => "EARMARK_GENRE",
            Self::OwnMood => "EARMARK_MOOD",
            Self::Instrument => "EARMARK_INSTRUMENT",
            Self::Voice => "EARMARK_VOICE",
            Self::Model => "EARMARK_MODEL",
        }
    }

    /// The field with this name, in any case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.name().eq_ignore_ascii_case(name))
    }
}

/// What happens to a field. No values mean that it is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The field.
    pub field: Field,
    /// Its values before.
    pub old: Vec<String>,
    /// Its values after.
    pub new: Vec<String>,
}

/// Whether and how a file is to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// These fields change; none if the file already has all that it earned.
    Change(Vec<Change>),
    /// The file has tags of another model, which only `--overwrite` replaces.
    OtherModel(String),
}

/// Decides what to do with a file whose fields are `current`. `elsewhere` says that the file has a genre or mood in
/// another kind of tag than the one that we write.
pub fn plan(
    current: impl Fn(Field) -> Vec<String>,
    elsewhere: impl Fn(Field) -> bool,
    values: &Values,
    model: &Identity,
    overwrite: bool,
) -> Plan {
    let marker = current(Field::Model);
    if !overwrite && marker.first().is_some_and(|marker| !model.wrote(marker)) {
        return Plan::OtherModel(marker.join(" "));
    }
    let mut after: Vec<(Field, Vec<String>)> = Vec::new();
    for (shown, own, kind) in [(Field::Genre, Field::OwnGenre, Kind::Genre), (Field::Mood, Field::OwnMood, Kind::Mood)]
    {
        let (is, claimed) = (current(shown), current(own));
        let claims: Vec<String> = claimed.iter().map(|claim| unscored(claim)).collect();
        let is_ours = !is.is_empty() && same_values(&is, &claims);
        let is_users = (!is.is_empty() && !is_ours) || elsewhere(shown);
        let fills = if claimed.is_empty() { is.is_empty() } else { overwrite };
        if is_users {
            // What we once claimed there is no longer true.
            after.push((own, if overwrite { Vec::new() } else { claimed }));
        } else if fills {
            after.push((shown, values.of(kind).map(|scored| scored.value.to_owned()).collect()));
            after.push((own, values.of(kind).map(Scored::to_string).collect()));
        } else {
            // Ours from before, or taken out by the user since.
            after.push((own, claimed));
        }
    }
    for (own, kind) in [(Field::Instrument, Kind::Instrument), (Field::Voice, Kind::Voice)] {
        let is = current(own);
        let fills = overwrite || is.is_empty();
        after.push((own, if fills { values.of(kind).map(Scored::to_string).collect() } else { is }));
    }
    let any_left =
        after.iter().any(|(field, values)| *field != Field::Genre && *field != Field::Mood && !values.is_empty());
    after.push((Field::Model, if any_left { vec![model.marker()] } else { Vec::new() }));

    let mut changes: Vec<Change> = after
        .into_iter()
        .map(|(field, new)| Change { field, old: current(field), new })
        .filter(|change| !same_values(&change.old, &change.new))
        .collect();
    // A new version of the program alone is no reason to touch a file.
    if changes.iter().all(|change| change.field == Field::Model && model.wrote(&change.old.join(" "))) {
        changes.clear();
    }
    changes.sort_by_key(|change| change.field);
    Plan::Change(changes)
}

/// Whether a field would look the same. The order does not count: ID3v2.3 cannot keep that of genres.
pub fn same_values(a: &[String], b: &[String]) -> bool {
    let sorted = |values: &[String]| {
        let mut values = values.to_vec();
        values.sort();
        values
    };
    a == b || sorted(a) == sorted(b)
}

/// `guitar` of `guitar=0.83`.
fn unscored(value: &str) -> String {
    value.rsplit_once('=').map_or(value, |(name, _)| name).to_owned()
}

/// Who writes: the program and the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    model: String,
}

impl Identity {
    /// A model by its name and the hash of its file.
    pub fn new(name: &str, hash: &str) -> Self {
        // The name is anything; a field should stay one word in every encoding.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let plain: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
        Self { model: format!("{plain}@{hash}") }
    }

    /// What is written into [`Field::Model`].
    pub fn marker(&self) -> String {
        format!("earmark-{} {}", env!("CARGO_PKG_VERSION"), self.model)
    }

    /// Whether this model wrote the marker, whatever the version of the program.
    fn wrote(&self, marker: &str) -> bool {
        marker.rsplit_once(' ').is_some_and(|(_, model)| model == self.model)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    type Fields = BTreeMap<Field, Vec<String>>;

    fn values(scores: &[(&str, f32)]) -> Values {
        let (names, probabilities): (Vec<String>, Vec<f32>) =
            scores.iter().map(|&(name, score)| (name.to_owned(), score)).unzip();
        Values::new(&names, &vec![0.5; scores.len()], &probabilities)
    }

    fn identity(hash: &str) -> Identity {
        Identity::new("my model", hash)
    }

    /// The fields after a run, and the plan itself.
    fn run(fields: &Fields, scores: &[(&str, f32)], model: &Identity, overwrite: bool) -> (Fields, Plan) {
        let current = |field| fields.get(&field).cloned().unwrap_or_default();
        let plan = plan(current, |_| false, &values(scores), model, overwrite);
        let mut after = fields.clone();
        if let Plan::Change(changes) = &plan {
            for change in changes {
                assert_ne!(change.old, change.new);
                after.insert(change.field, change.new.clone());
            }
            after.retain(|_, values| !values.is_empty());
        }
        (after, plan)
    }

    fn own(list: &[(Field, &[&str])]) -> Fields {
        list.iter().map(|(field, values)| (*field, values.iter().map(ToString::to_string).collect())).collect()
    }

    const ROCK: &[(&str, f32)] = &[("rock", 0.8), ("guitar", 0.71), ("fast", 0.4)];
    const JAZZ: &[(&str, f32)] = &[("classical", 0.9), ("piano", 0.6)];

    #[test]
    fn an_empty_file_gets_all_it_earned_and_the_next_run_nothing() {
        let (after, _) = run(&Fields::new(), ROCK, &identity("1a"), false);
        let expected = own(&[
            (Field::Genre, &["Rock"]),
            (Field::OwnGenre, &["Rock=0.80"]),
            (Field::Instrument, &["guitar=0.71"]),
            (Field::Model, &[&identity("1a").marker()]),
        ]);
        assert_eq!(after, expected);
        for overwrite in [false, true] {
            assert_eq!(run(&after, ROCK, &identity("1a"), overwrite).1, Plan::Change(Vec::new()));
        }
        assert_eq!(run(&Fields::new(), &[("rock", 0.1)], &identity("1a"), false).1, Plan::Change(Vec::new()));
    }

    #[test]
    fn a_users_genre_stays_whatever_is_asked() {
        let users = own(&[(Field::Genre, &["Klassik", "ロック"])]);
        for overwrite in [false, true] {
            let (after, _) = run(&users, ROCK, &identity("1a"), overwrite);
            assert_eq!(after[&Field::Genre], users[&Field::Genre]);
            assert!(!after.contains_key(&Field::OwnGenre), "what we did not write, we do not claim");
            assert_eq!(after[&Field::Instrument], ["guitar=0.71"]);
        }
        // Even one that equals ours.
        let same = own(&[(Field::Genre, &["Rock"])]);
        let (after, _) = run(&same, ROCK, &identity("1a"), false);
        let (after, _) = run(&after, JAZZ, &identity("2b"), true);
        assert_eq!(after[&Field::Genre], ["Rock"]);
    }

    #[test]
    fn a_genre_in_another_kind_of_tag_counts() {
        let current = |_| Vec::new();
        let plan = plan(current, |field| field == Field::Genre, &values(ROCK), &identity("1a"), true);
        let Plan::Change(changes) = plan else { panic!("{plan:?}") };
        assert!(changes.iter().all(|change| change.field != Field::Genre && change.field != Field::OwnGenre));
    }

    #[test]
    fn overwrite_replaces_ours_alone() {
        let (ours, _) = run(&Fields::new(), ROCK, &identity("1a"), false);
        let (_, plan) = run(&ours, JAZZ, &identity("2b"), false);
        assert_eq!(plan, Plan::OtherModel(identity("1a").marker()));
        let (after, _) = run(&ours, JAZZ, &identity("2b"), true);
        let expected = own(&[
            (Field::Genre, &["Classical"]),
            (Field::OwnGenre, &["Classical=0.90"]),
            (Field::Instrument, &["piano=0.60"]),
            (Field::Model, &[&identity("2b").marker()]),
        ]);
        assert_eq!(after, expected);

        // Edited since: the user's.
        let mut edited = ours.clone();
        edited.insert(Field::Genre, vec!["Post-Rock".into()]);
        let (after, _) = run(&edited, JAZZ, &identity("2b"), true);
        assert_eq!(after[&Field::Genre], ["Post-Rock"]);
        assert!(!after.contains_key(&Field::OwnGenre));

        // Nothing earned: nothing of ours remains.
        assert_eq!(run(&ours, &[("rock", 0.1)], &identity("2b"), true).0, Fields::new());
    }

    #[test]
    fn what_a_user_took_out_stays_out() {
        let (mut fields, _) = run(&Fields::new(), ROCK, &identity("1a"), false);
        fields.remove(&Field::Genre);
        assert_eq!(run(&fields, ROCK, &identity("1a"), false).1, Plan::Change(Vec::new()));
        assert_eq!(run(&fields, ROCK, &identity("1a"), true).0[&Field::Genre], ["Rock"]);
    }

    #[test]
    fn a_marker_is_plain_and_knows_its_model() {
        let identity = Identity::new("mein Modell/ü", "1a2b");
        assert!(identity.marker().ends_with(" mein_Modell__@1a2b"));
        assert!(identity.wrote("earmark-0.0.1 mein_Modell__@1a2b"));
        assert!(!identity.wrote("earmark-0.0.1 mein_Modell__@1a2c"));
        assert!(!identity.wrote(""));
    }
}
