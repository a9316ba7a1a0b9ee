//! What a journal says, record by record.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use earmark_core::engine::Hop;
use earmark_core::model_file::ModelMetadata;
use earmark_core::tags::Taggram;
use serde::{Deserialize, Serialize};

use crate::args::Format;
use crate::shard::Shard;
use crate::tagging::TaggedFile;

/// A record. Results themselves, which are numbers, are its tail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum Entry {
    /// A run begins; what follows is its.
    Run(Box<RunRecord>),
    /// Work on a file begins.
    Started {
        /// The file as it was then.
        file: FileStamp,
        /// In a process of its own, while nothing else was worked on.
        alone: bool,
    },
    /// A file has a result; the tail is [`encode_result`]'s.
    Done {
        /// The file as it was before it was read.
        file: FileStamp,
        /// The rest of the result.
        result: ResultHead,
    },
    /// A file has none, for a cause that may pass.
    Failed {
        /// The file.
        file: FileStamp,
        /// `cause; way out`.
        cause: String,
    },
    /// A file ended the process that read it, again.
    SetAside {
        /// The file.
        file: FileStamp,
        /// `cause; way out`.
        cause: String,
    },
    /// Work on a file was given up because the run was stopped.
    Left {
        /// The file.
        id: FileId,
    },
    /// A known file has another time of change and the same content.
    Seen {
        /// The file as it is now.
        file: FileStamp,
    },
    /// The run is complete.
    End(EndRecord),
}

/// What results follow from, besides the files: results of two runs may stand side by side if these are equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Version of this program.
    pub tool_version: String,
    /// BLAKE3 of the model.
    pub model_hash: String,
    /// Stride between windows.
    pub hop_samples: usize,
}

/// How results are shown, which may change from run to run at no cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rendering {
    /// How results are written.
    pub format: Format,
    /// At most this many tags per file, and per window.
    pub top_n: usize,
    /// Least confidence asked for.
    pub min_confidence: Option<f32>,
    /// Precision asked for.
    pub target_precision: Option<f64>,
}

/// The head of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// What results follow from.
    pub identity: Identity,
    /// How they are shown.
    pub rendering: Rendering,
    /// The part of the files that this run is about.
    pub shard: Option<Shard>,
    /// Name of the output file.
    pub out: String,
    /// The model without its weights: what a reader of results needs.
    pub model: ModelMetadata,
}

/// The end of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndRecord {
    /// Files of all shards.
    pub num_all: usize,
    /// BLAKE3 of their names in order: shards that saw other files do not fit together.
    pub listing: String,
    /// Places that could not be looked into, and why.
    pub errors: Vec<(String, String)>,
    /// The files of a shard, with their places among all.
    pub files: Vec<(usize, FileId)>,
}

/// A file by its name as given, whatever its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId([u8; 16]);

impl FileId {
    /// Of a name as given.
    pub fn of(path: &Path) -> Self {
        let hash = blake3::hash(path.as_os_str().as_encoded_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&hash.as_bytes()[..16]);
        Self(id)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl Serialize for FileId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FileId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = u128::from_str_radix(&text, 16).map_err(serde::de::Error::custom)?;
        Ok(Self(number.to_be_bytes()))
    }
}

/// What tells whether a file is still the one that was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Bytes.
    pub size: u64,
    /// Time of change in nanoseconds since 1970, where the system knows it.
    pub modified_ns: Option<i64>,
    /// BLAKE3 of the content.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hash: Option<ContentHash>,
}

/// BLAKE3 of a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentHash(blake3::Hash);

impl Serialize for ContentHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.to_hex().as_str())
    }
}

impl<'de> Deserialize<'de> for ContentHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        blake3::Hash::from_hex(text).map(Self).map_err(serde::de::Error::custom)
    }
}

impl ContentHash {
    /// Reads a file from end to end.
    ///
    /// # Errors
    /// If that cannot be done.
    pub fn of(path: &Path) -> io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path)?)?;
        Ok(Self(hasher.finalize()))
    }
}

impl Stamp {
    /// Of a file as it is now; zeros where it is not there.
    pub fn of(path: &Path) -> Self {
        fs::metadata(path).map_or_else(|_| Self::default(), |metadata| Self::from(&metadata))
    }

    /// Whether nothing speaks for a change. Cheap: the content is not looked at.
    pub fn looks_like(&self, other: &Self) -> bool {
        self.size == other.size && self.modified_ns.is_some() && self.modified_ns == other.modified_ns
    }

    /// Whether `path`, whose stamp this is, has the content that `other` had: read only if nothing cheaper decides.
    pub fn same_content(&self, other: &Self, path: &Path) -> bool {
        self.size == other.size && other.hash.is_some_and(|hash| ContentHash::of(path).is_ok_and(|found| found == hash))
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        let since = |moment: SystemTime| match moment.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_nanos()).ok(),
            Err(before) => i64::try_from(before.duration().as_nanos()).ok().map(|ns| -ns),
        };
        Self { size: metadata.len(), modified_ns: metadata.modified().ok().and_then(since), hash: None }
    }
}

/// A file at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    /// Which file.
    pub id: FileId,
    /// Its name as results show it.
    pub name: String,
    /// How it was.
    #[serde(flatten)]
    pub stamp: Stamp,
}

impl FileStamp {
    /// `path` as it was when `stamp` was taken.
    pub fn new(path: &Path, stamp: Stamp) -> Self {
        Self { id: FileId::of(path), name: path.to_string_lossy().into_owned(), stamp }
    }
}

/// A result but for its numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultHead {
    num_tags: usize,
    num_windows: usize,
    hop_samples: usize,
    warnings: Vec<String>,
}

/// A result as a record's parts. The tail holds the duration as an f64, a byte per window (1 if it is silent) and the
/// probabilities `[num_windows, num_tags]` as f32, little-endian: bit for bit what was computed.
pub fn encode_result(file: &TaggedFile, hop: Hop) -> (ResultHead, Vec<u8>) {
    let taggram = &file.taggram;
    let head = ResultHead {
        num_tags: taggram.num_tags(),
        num_windows: taggram.num_windows(),
        hop_samples: hop.samples(),
        warnings: file.warnings.clone(),
    };
    let mut tail = Vec::with_capacity(8 + head.num_windows * (1 + 4 * head.num_tags));
    tail.extend(file.duration_s.to_le_bytes());
    tail.extend(taggram.silent().iter().map(|&silent| u8::from(silent)));
    taggram.probabilities().iter().for_each(|probability| tail.extend(probability.to_le_bytes()));
    (head, tail)
}

/// The result of the file called `name`; `None` if head and tail do not agree.
pub fn decode_result(name: PathBuf, head: ResultHead, tail: &[u8]) -> Option<TaggedFile> {
    let (duration, rest) = tail.split_first_chunk::<8>()?;
    let (silent, probabilities) = rest.split_at_checked(head.num_windows)?;
    let (probabilities, rest) = probabilities.as_chunks::<4>();
    if !rest.is_empty() {
        return None;
    }
    let probabilities = probabilities.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    let silent = silent.iter().map(|&silent| silent != 0).collect();
    let taggram = Taggram::from_parts(head.num_tags, Hop::new(head.hop_samples)?, probabilities, silent)?;
    Some(TaggedFile {
        path: name,
        duration_s: f64::from_le_bytes(*duration),
        clip_probabilities: taggram.clip_probabilities(),
        taggram,
        warnings: head.warnings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_back_bit_for_bit() {
        let mut taggram = Taggram::new(2, Hop::DEFAULT);
        taggram.push(&[0.1, -3.7], false);
        taggram.push(&[0.1, -3.7], true);
        let file = TaggedFile {
            path: "a.wav".into(),
            duration_s: 0.1 + 0.2,
            clip_probabilities: taggram.clip_probabilities(),
            taggram,
            warnings: vec!["ends early".into()],
        };
        let (head, tail) = encode_result(&file, Hop::DEFAULT);
        let again = decode_result("a.wav".into(), head.clone(), &tail).expect("agree");
        assert_eq!(format!("{again:?}"), format!("{file:?}"));
        assert!(decode_result("a.wav".into(), head.clone(), &tail[1..]).is_none());
        assert!(decode_result("a.wav".into(), ResultHead { num_tags: 3, ..head }, &tail).is_none());
    }

    #[test]
    fn a_stamp_tells_touched_from_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.wav");
        fs::write(&path, "one").expect("written");
        let before = Stamp { hash: Some(ContentHash::of(&path).expect("read")), ..Stamp::of(&path) };
        assert!(Stamp::of(&path).looks_like(&before));
        let touched = Stamp { modified_ns: Some(5), ..Stamp::of(&path) };
        assert!(!touched.looks_like(&before) && touched.same_content(&before, &path));
        fs::write(&path, "two").expect("written");
        assert!(!Stamp::of(&path).same_content(&before, &path));
        assert!(!Stamp::default().looks_like(&Stamp::default()), "what cannot be asked is not the same");
    }

    #[test]
    fn identifiers_survive_json() {
        let id = FileId::of("x".as_ref());
        let json = serde_json::to_string(&id).expect("JSON");
        assert_eq!(serde_json::from_str::<FileId>(&json).expect("read"), id);
        assert_ne!(FileId::of("y".as_ref()), id);
    }
}
