//! Which layout a folder has.

use std::path::Path;

use anyhow::Result;

use super::items::{Collection, Layout};
use super::mtat::{self, SplitRule};
use super::{audioset, folder, jamendo, musan};

/// The layout of `dir` by the files that only this layout has; else a plain folder of audio.
pub fn recognise(dir: &Path) -> Layout {
    let has = |name: &str| dir.join(name).is_file();
    if has(mtat::ANNOTATIONS_FILE) || has(mtat::LIST_INDEX_FILE) {
        Layout::MagnaTagATune
    } else if jamendo::find_lists(dir).is_some() {
        Layout::Jamendo
    } else if !audioset::find_lists(dir).is_empty() {
        Layout::AudioSet
    } else if musan::find_root(dir).is_some() {
        Layout::Musan
    } else {
        Layout::Folder
    }
}

/// Reads the label files in `dir`, whichever layout it has. `rule` concerns MagnaTagATune alone.
///
/// # Errors
/// As the parser of the layout.
pub fn open(dir: &Path, rule: SplitRule) -> Result<Collection> {
    match recognise(dir) {
        Layout::MagnaTagATune => mtat::open(dir, rule),
        Layout::Jamendo => jamendo::open(dir),
        Layout::AudioSet => audioset::open(dir),
        Layout::Musan => musan::open(dir),
        Layout::Folder => folder::open(dir),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_layout_is_known_by_its_files() {
        for (file, text, layout) in [
            ("annotations_final.csv", "", Layout::MagnaTagATune),
            ("index_mtt.tsv", "", Layout::MagnaTagATune),
            ("autotagging_genre.tsv", "", Layout::Jamendo),
            ("data/autotagging.tsv", "", Layout::Jamendo),
            ("eval_segments.csv", "# Segments csv created\n", Layout::AudioSet),
            ("train.csv", "YTID,start_seconds,end_seconds,positive_labels\n", Layout::AudioSet),
            ("musan/noise/free-sound/noise-free-sound-0000.wav", "", Layout::Musan),
            ("prices.csv", "name,price\n", Layout::Folder),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("created");
            std::fs::write(path, text).expect("written");
            assert_eq!(recognise(folder.path()), layout, "{file}");
        }
    }
}
