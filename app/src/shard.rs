//! A part of the files, so that several processes or machines can share them.

use std::fmt;
use std::path::{Component, Path};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Most parts.
const MAX_SHARDS: u32 = 100_000;

/// Part `index` of `count`, counted from 1, as it is written: `3/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    index: u32,
    count: u32,
}

impl Shard {
    /// Which part, from 1.
    pub fn index(self) -> u32 {
        self.index
    }

    /// How many parts there are.
    pub fn count(self) -> u32 {
        self.count
    }

    /// Whether a file with this [`key`] is in it.
    pub fn holds(self, key: u64) -> bool {
        key % u64::from(self.count) == u64::from(self.index - 1)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rule = || format!("'{text}' is no part; write I/N, the I-th of N parts, like 1/8 to 8/8");
        let (index, count) = text.split_once('/').ok_or_else(rule)?;
        let number = |text: &str| text.trim().parse::<u32>().ok();
        match (number(index), number(count)) {
            (Some(index), Some(count)) if (1..=count).contains(&index) && count <= MAX_SHARDS => {
                Ok(Self { index, count })
            }
            _ => Err(rule()),
        }
    }
}

impl TryFrom<String> for Shard {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

/// What decides the part of a file: its name below the folder that was searched, so that a library is divided alike
/// wherever it is mounted and however its folder was named.
pub fn key(below_root: &Path) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for component in below_root.components().filter(|component| !matches!(component, Component::CurDir)) {
        hasher.update(component.as_os_str().as_encoded_bytes());
        hasher.update(b"/");
    }
    let mut key = [0; 8];
    key.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_counted_from_one() {
        let shard: Shard = "3/8".parse().expect("valid");
        assert_eq!((shard.index(), shard.count(), shard.to_string().as_str()), (3, 8, "3/8"));
        for wrong in ["0/8", "9/8", "1/0", "1", "a/b", "-1/3", "1/2/3", "1/100001", ""] {
            let message = wrong.parse::<Shard>().expect_err("refused");
            assert!(message.contains(&format!("'{wrong}'")) && message.contains("I/N"), "{message}");
        }
    }

    #[test]
    fn every_file_is_in_one_part_and_parts_are_alike() {
        let shards: Vec<Shard> = (1..=8).map(|i| format!("{i}/8").parse().expect("valid")).collect();
        let mut sizes = [0; 8];
        for index in 0..4000 {
            let key = key(format!("artist {}/song {index}.mp3", index / 12).as_ref());
            let holding: Vec<usize> = (0..8).filter(|&shard| shards[shard].holds(key)).collect();
            assert_eq!(holding.len(), 1);
            sizes[holding[0]] += 1;
        }
        assert!(sizes.iter().all(|&size| (400..600).contains(&size)), "{sizes:?}");
    }

    #[test]
    fn the_division_never_changes() {
        // Shards of two versions must fit together. The first eight bytes of `printf a/b.mp3/ | b3sum`, little-endian:
        assert_eq!(key("a/b.mp3".as_ref()), key("./a/./b.mp3".as_ref()));
        assert_ne!(key("a/b.mp3".as_ref()), key("ab.mp3".as_ref()));
        assert_eq!(key("a/b.mp3".as_ref()) % 1000, 228);
    }
}
