//! The layout of MUSAN (Snyder, Chen and Povey, 2015): `{music,speech,noise}/SOURCE/TYPE-SOURCE-0000.wav`.
//!
//! Only `noise` is read: it is the external noise of the test. `DIR` may be `musan` itself or the folder that holds it.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::clips::audio_files;
use super::folder::items_under;
use super::items::{Collection, Layout, Split};

const NOISE: &str = "noise";

/// The folder with `noise/SOURCE/...` in or at `dir`, if there is one.
pub fn find_root(dir: &Path) -> Option<PathBuf> {
    let is_musan = |root: &PathBuf| {
        let of_source = |entry: std::io::Result<std::fs::DirEntry>| {
            let Ok(entry) = entry else { return false };
            let prefix = format!("{NOISE}-{}-", entry.file_name().to_string_lossy());
            std::fs::read_dir(entry.path()).is_ok_and(|mut files| {
                files.any(|file| file.is_ok_and(|file| file.file_name().to_string_lossy().starts_with(&prefix)))
            })
        };
        std::fs::read_dir(root.join(NOISE)).is_ok_and(|mut sources| sources.any(of_source))
    };
    [dir.to_owned(), dir.join("musan")].into_iter().find(is_musan)
}

/// Lists the noise in `dir`, tagged with its source folder.
///
/// # Errors
/// If there is no `noise/SOURCE/noise-SOURCE-*`, or a folder cannot be read.
pub fn open(dir: &Path) -> Result<Collection> {
    let Some(root) = find_root(dir) else {
        bail!("{}: holds no {NOISE}/SOURCE/{NOISE}-SOURCE-0000.wav as MUSAN does", dir.display());
    };
    let mut collection = Collection::new(Layout::Musan, &root, "everything is for the test (external noise)");
    let mut items = items_under(&root, &root.join(NOISE), Split::Test, &[])?;
    let source = |path: &str| path.split('/').nth(1).unwrap_or_default().to_owned();
    collection.tags = items.iter().map(|item| source(&item.path)).collect();
    collection.tags.dedup();
    for item in &mut items {
        let of_item = source(&item.path);
        item.tag_targets = collection.tags.iter().map(|tag| *tag == of_item).collect();
    }
    collection.items = items;
    for part in ["music", "speech"] {
        let folder = root.join(part);
        if folder.is_dir() {
            collection.leave_out(format!("{part} is not noise"), audio_files(&folder)?.len());
        }
    }
    Ok(collection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_read_with_its_source_and_speech_is_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in [
            "musan/noise/free-sound/noise-free-sound-0000.wav",
            "musan/noise/free-sound/noise-free-sound-0001.wav",
            "musan/noise/sound-bible/noise-sound-bible-0000.wav",
            "musan/noise/sound-bible/ANNOTATIONS",
            "musan/speech/librivox/speech-librivox-0000.wav",
        ] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("created");
            std::fs::write(path, "x").expect("written");
        }
        for dir in [folder.path().to_owned(), folder.path().join("musan")] {
            let collection = open(&dir).expect("MUSAN");
            assert_eq!(collection.tags, ["free-sound", "sound-bible"]);
            assert_eq!(collection.items.len(), 3);
            assert_eq!(collection.items[2].path, "noise/sound-bible/noise-sound-bible-0000.wav");
            assert_eq!(collection.items[2].tag_targets, [false, true]);
            assert!(collection.items.iter().all(|item| item.split == Split::Test));
            assert_eq!(collection.left_out.len(), 1);
            assert_eq!(collection.left_out[0].count, 1);
        }
        assert!(open(&folder.path().join("musan/speech")).is_err());
    }
}
