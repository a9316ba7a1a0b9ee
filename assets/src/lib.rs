//! What ships inside the binary: data only, no code.

/// The 50 tags of `MagnaTagATune`'s usual subset, in the order of the public musicnn tag list and of the columns of
/// `annotations_final.csv`.
pub const MTAT_TAGS: [&str; 50] = [
    "guitar",
    "classical",
    "slow",
    "techno",
    "strings",
    "drums",
    "electronic",
    "rock",
    "fast",
    "piano",
    "ambient",
    "beat",
    "violin",
    "vocal",
    "synth",
    "female",
    "indian",
    "opera",
    "male",
    "singing",
    "vocals",
    "no vocals",
    "harpsichord",
    "loud",
    "quiet",
    "flute",
    "woman",
    "male vocal",
    "no vocal",
    "pop",
    "soft",
    "sitar",
    "solo",
    "man",
    "classic",
    "choir",
    "voice",
    "new age",
    "dance",
    "male voice",
    "female vocal",
    "beats",
    "harp",
    "cello",
    "no voice",
    "weird",
    "country",
    "metal",
    "female voice",
    "choral",
];

/// The default model, in the format of `earmark_core::model_file`.
pub const DEFAULT_MODEL: &[u8] = include_bytes!("../model/default.safetensors");

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn tags_are_distinct_and_begin_and_end_as_published() {
        assert_eq!(MTAT_TAGS.iter().collect::<HashSet<_>>().len(), 50);
        assert_eq!((MTAT_TAGS[0], MTAT_TAGS[49]), ("guitar", "choral"));
    }
}
