//! What every layout is read into: items with a split, a recording they come from, and tags.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// Part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// What the network learns from.
    Train,
    /// What every choice is made on.
    Valid,
    /// What is looked at once, at the end.
    Test,
}

impl Split {
    /// All of them, in the order of their use.
    pub const ALL: [Self; 3] = [Self::Train, Self::Valid, Self::Test];
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Train => "train",
            Self::Valid => "valid",
            Self::Test => "test",
        })
    }
}

/// Layout of a data set on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// See [`mtat`](super::mtat).
    MagnaTagATune,
    /// See [`jamendo`](super::jamendo).
    Jamendo,
    /// See [`audioset`](super::audioset).
    AudioSet,
    /// See [`musan`](super::musan).
    Musan,
    /// See [`folder`](super::folder).
    Folder,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::MagnaTagATune => "MagnaTagATune",
            Self::Jamendo => "MTG-Jamendo",
            Self::AudioSet => "AudioSet",
            Self::Musan => "MUSAN",
            Self::Folder => "folder of audio",
        })
    }
}

/// One audio file and what is known of it before it is decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Identifier in the label files.
    pub id: String,
    /// Path relative to [`Collection::root`], with `/`.
    pub path: String,
    /// Part of the data set that the item belongs to.
    pub split: Split,
    /// The recording, or the album where the data set keeps albums together; it must not occur in two splits.
    pub group: String,
    /// Where in that recording the file begins, in seconds.
    pub start_secs: f64,
    /// Length of the file according to the labels, in seconds.
    pub length_secs: Option<f64>,
    /// Multi-hot truth, `[num_tags]`.
    pub tag_targets: Vec<bool>,
}

/// Items that the labels list and the layout's rules leave out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Which rule.
    pub reason: String,
    /// Number of items.
    pub count: usize,
}

/// A data set as its label files describe it. Nothing is decoded.
#[derive(Clone, Debug)]
pub struct Collection {
    /// How it lies on disk.
    pub layout: Layout,
    /// Folder that the items' paths start from.
    pub root: PathBuf,
    /// What decides the split, in words.
    pub split_rule: String,
    /// Tag names in the order of the targets.
    pub tags: Vec<String>,
    /// In the order of the label files, or of the paths.
    pub items: Vec<Item>,
    /// The files that were read for this.
    pub label_files: Vec<PathBuf>,
    /// What the rules leave out.
    pub left_out: Vec<LeftOut>,
    /// Identifiers for which no file was found, where the labels do not say its path.
    pub missing: Vec<(Split, String)>,
    /// Identifiers that the label files put into two splits.
    pub in_two_splits: Vec<String>,
    /// What else a user should know.
    pub warnings: Vec<String>,
}

impl Collection {
    /// An empty collection.
    pub(super) fn new(layout: Layout, root: &Path, split_rule: impl Into<String>) -> Self {
        Self {
            layout,
            root: root.to_owned(),
            split_rule: split_rule.into(),
            tags: Vec::new(),
            items: Vec::new(),
            label_files: Vec::new(),
            left_out: Vec::new(),
            missing: Vec::new(),
            in_two_splits: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// The items of one split, in their order.
    pub fn split(&self, split: Split) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(move |item| item.split == split)
    }

    /// The file of an item.
    pub fn path(&self, item: &Item) -> PathBuf {
        self.root.join(&item.path)
    }

    /// Notes items that a rule leaves out, if there are any.
    pub(super) fn leave_out(&mut self, reason: impl Into<String>, count: usize) {
        if count > 0 {
            self.left_out.push(LeftOut { reason: reason.into(), count });
        }
    }
}

/// Checks that a path from a label file stays inside its folder.
pub(super) fn stays_inside(column: &str, path: &str) -> Result<()> {
    if path.split('/').any(|part| part == ".." || part.is_empty()) || path.contains('\\') {
        bail!("{column} '{path}' must stay inside the data folder");
    }
    Ok(())
}

/// Name of a file without folder and extension.
pub(super) fn stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// `path` relative to `root`, with `/`; a name that is not Unicode is `None`.
pub(super) fn relative(root: &Path, path: &Path) -> Option<String> {
    let parts: Option<Vec<&str>> = path.strip_prefix(root).ok()?.iter().map(|part| part.to_str()).collect();
    Some(parts?.join("/"))
}
