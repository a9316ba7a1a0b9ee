//! Tags that people use for the same thing, and tags that exclude each other.
//!
//! ```text
//! "vocal", "vocals", "voice", "singing"  ->  vocals      opposite: no vocals
//! "choir", "choral"                      ->  choir
//! "harp"                                 ->  harp        every other tag is its own group
//! ```
//!
//! MagnaTagATune's annotators were free in their words, so its 50 tags name some things several times, and a network learns
//! each name by itself. The scores stay apart everywhere; only a [`super::verdict`] joins them.

/// A thing and the tags that name it. The first group that lists a tag has it.
const SYNONYMS: &[(&str, &[&str])] = &[
    ("vocals", &["vocal", "vocals", "voice", "voices", "singing", "singer"]),
    ("no vocals", &["no vocal", "no vocals", "no voice", "no voices", "no singing", "no singer", "instrumental"]),
    ("female vocals", &["female", "female vocal", "female vocals", "female voice", "female singer", "woman", "women"]),
    ("male vocals", &["male", "male vocal", "male vocals", "male voice", "male singer", "man", "men"]),
    ("choir", &["choir", "choral"]),
    ("classical", &["classical", "classic"]),
    ("beat", &["beat", "beats"]),
    ("drums", &["drums", "drum"]),
    ("strings", &["strings", "string"]),
    ("violin", &["violin", "violins"]),
    ("guitar", &["guitar", "guitars"]),
];

/// Groups of which at most one holds at a time.
const OPPOSITES: &[(&str, &str)] = &[
    ("vocals", "no vocals"),
    ("female vocals", "no vocals"),
    ("male vocals", "no vocals"),
    ("choir", "no vocals"),
    ("opera", "no vocals"),
    ("fast", "slow"),
    ("loud", "quiet"),
    ("loud", "soft"),
];

/// Tags of a vocabulary that name the same thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The thing.
    pub name: String,
    /// Its tags, as positions among the logits, in their order.
    pub tags: Vec<usize>,
}

impl Group {
    /// The tags called `names`, joined; in the order in which their first tag comes.
    pub fn of(names: &[String]) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for (tag, name) in names.iter().enumerate() {
            let thing = SYNONYMS.iter().find(|(_, tags)| tags.contains(&name.as_str())).map(|&(thing, _)| thing);
            let thing = thing.unwrap_or(name);
            match groups.iter_mut().find(|group| group.name == thing) {
                Some(group) => group.tags.push(tag),
                None => groups.push(Self { name: thing.to_owned(), tags: vec![tag] }),
            }
        }
        groups
    }
}

/// Whether two groups, by their names, exclude each other.
pub fn are_opposites(a: &str, b: &str) -> bool {
    OPPOSITES.iter().any(|&pair| pair == (a, b) || pair == (b, a))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn groups(names: &[&str]) -> Vec<(String, Vec<usize>)> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        Group::of(&names).into_iter().map(|group| (group.name, group.tags)).collect()
    }

    #[test]
    fn synonyms_join_where_the_first_stands() {
        let found = groups(&["rock", "choral", "voice", "choir", "vocals", "no voice"]);
        let expected = [("rock", vec![0]), ("choir", vec![1, 3]), ("vocals", vec![2, 4]), ("no vocals", vec![5])];
        assert_eq!(found, expected.map(|(name, tags)| (name.to_owned(), tags)));
    }

    #[test]
    fn no_tag_is_in_two_groups_and_each_thing_names_itself() {
        let all: Vec<&str> = SYNONYMS.iter().flat_map(|(_, tags)| tags.iter().copied()).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        assert!(SYNONYMS.iter().all(|(thing, tags)| tags.contains(thing)));
    }

    #[test]
    fn opposites_go_both_ways() {
        assert!(are_opposites("fast", "slow") && are_opposites("slow", "fast"));
        assert!(are_opposites("no vocals", "choir"));
        assert!(!are_opposites("vocals", "choir") && !are_opposites("fast", "fast"));
    }
}
