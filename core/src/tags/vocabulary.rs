//! Names and thresholds of the tags, in the order of the logits.

use std::collections::HashSet;

/// The tags a model knows, in the order of its logits, and from which clip probability on each counts as certain.
#[derive(Clone, Debug, PartialEq)]
pub struct TagVocabulary {
    names: Vec<String>,
    thresholds: Vec<f32>,
}

/// The rule a vocabulary broke, with the offending value.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum VocabularyError {
    /// No tags at all.
    #[error("the tag list is empty; it needs one name per output of the model")]
    Empty,
    /// Not one threshold per tag.
    #[error("{thresholds} thresholds for {tags} tags; each tag needs one")]
    ThresholdCount {
        /// Number of tags.
        tags: usize,
        /// Number of thresholds.
        thresholds: usize,
    },
    /// A name is blank or holds a control character.
    #[error("tag {index} is {name:?}; a name needs letters and no control characters")]
    Name {
        /// Position in the list.
        index: usize,
        /// The name.
        name: String,
    },
    /// A name appears twice.
    #[error("the tag {name:?} appears twice; names must differ")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A threshold is not a probability.
    #[error("the threshold of {name:?} is {threshold}; it must be between 0 and 1")]
    Threshold {
        /// The tag.
        name: String,
        /// Its threshold.
        threshold: f32,
    },
}

impl TagVocabulary {
    /// Checks and keeps names and thresholds, `[num_tags]` each.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn new(names: Vec<String>, thresholds: Vec<f32>) -> Result<Self, VocabularyError> {
        if names.is_empty() {
            return Err(VocabularyError::Empty);
        }
        if names.len() != thresholds.len() {
            return Err(VocabularyError::ThresholdCount { tags: names.len(), thresholds: thresholds.len() });
        }
        let mut seen = HashSet::new();
        for (index, name) in names.iter().enumerate() {
            if name.trim().is_empty() || name.chars().any(char::is_control) {
                return Err(VocabularyError::Name { index, name: name.clone() });
            }
            if !seen.insert(name) {
                return Err(VocabularyError::Duplicate { name: name.clone() });
            }
        }
        for (name, &threshold) in names.iter().zip(&thresholds) {
            if !(0.0..=1.0).contains(&threshold) {
                return Err(VocabularyError::Threshold { name: name.clone(), threshold });
            }
        }
        Ok(Self { names, thresholds })
    }

    /// Number of tags.
    pub fn num_tags(&self) -> usize {
        self.names.len()
    }

    /// Names in the order of the logits.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Thresholds on the clip probability, in the order of the logits.
    pub fn thresholds(&self) -> &[f32] {
        &self.thresholds
    }

    /// Position of a tag among the logits.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn keeps_order_and_finds_names() {
        let vocabulary = TagVocabulary::new(names(&["rock", "no vocal"]), vec![0.5, 0.25]).expect("valid");
        assert_eq!(vocabulary.num_tags(), 2);
        assert_eq!(vocabulary.index_of("no vocal"), Some(1));
        assert_eq!(vocabulary.index_of("vocal"), None);
        assert_eq!(vocabulary.thresholds(), [0.5, 0.25]);
    }

    #[test]
    fn refuses_each_broken_rule_and_names_the_value() {
        let message = |list: &[&str], thresholds: &[f32]| {
            TagVocabulary::new(names(list), thresholds.to_vec()).expect_err("must be refused").to_string()
        };
        assert!(message(&[], &[]).contains("empty"));
        assert!(message(&["a", "b"], &[0.5]).contains("1 thresholds for 2 tags"));
        assert!(message(&["a", " "], &[0.5; 2]).contains("tag 1"));
        assert!(message(&["a", "b\u{1b}[2J"], &[0.5; 2]).contains("control"));
        assert!(message(&["a", "a"], &[0.5; 2]).contains("twice"));
        assert!(message(&["a"], &[1.5]).contains("1.5"));
        assert!(message(&["a"], &[f32::NAN]).contains("NaN"));
    }
}
