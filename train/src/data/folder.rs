//! A plain folder of audio, searched recursively: music without tags for stage 1, or noise. All of it is for training.

use std::path::Path;

use anyhow::{Result, bail};

use super::clips::audio_files;
use super::items::{Collection, Item, Layout, Split, relative, stem};

/// Lists the audio files under `root`, in the order of their paths.
///
/// # Errors
/// If the folder cannot be read or holds no audio file.
pub fn open(root: &Path) -> Result<Collection> {
    let mut collection = Collection::new(Layout::Folder, root, "everything is for training");
    collection.items = items_under(root, root, Split::Train, &[])?;
    if collection.items.is_empty() {
        bail!("{}: holds no audio file such as wav, flac, ogg, mp3 or m4a", root.display());
    }
    Ok(collection)
}

/// Every audio file under `folder`, a part of `root`, with the same split and tags.
pub(super) fn items_under(root: &Path, folder: &Path, split: Split, tag_targets: &[bool]) -> Result<Vec<Item>> {
    let paths = audio_files(folder)?.into_iter().filter_map(|path| relative(root, &path));
    Ok(paths
        .map(|path| Item {
            id: stem(&path).to_owned(),
            group: path.clone(),
            path,
            split,
            start_secs: 0.0,
            length_secs: None,
            tag_targets: tag_targets.to_vec(),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audio_is_found_at_every_depth_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(folder.path().join("b/c")).expect("created");
        for name in ["b/c/two.FLAC", "one.wav", "b/notes.txt"] {
            std::fs::write(folder.path().join(name), "x").expect("written");
        }
        let collection = open(folder.path()).expect("a folder of audio");
        let paths: Vec<&str> = collection.items.iter().map(|item| item.path.as_str()).collect();
        assert_eq!(paths, ["b/c/two.FLAC", "one.wav"]);
        assert!(collection.items.iter().all(|item| item.split == Split::Train));
        assert!(open(&folder.path().join("b/absent")).expect_err("absent").to_string().contains("cannot be read"));
        std::fs::create_dir(folder.path().join("empty")).expect("created");
        assert!(open(&folder.path().join("empty")).expect_err("empty").to_string().contains("no audio file"));
    }
}
