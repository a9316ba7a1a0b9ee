//! Which files a run concerns: what was named, and what lies in the folders that were named; or a part of them.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use crate::shard::{self, Shard};

/// Endings, in lower case, under which music and video are looked for in folders. A file that is named itself is tried
/// whatever its ending.
const EXTENSIONS: &[&str] = &[
    "3gp", "aac", "ac3", "aif", "aifc", "aiff", "alac", "ape", "asf", "au", "avi", "caf", "dts", "eac3", "flac", "flv",
    "m2ts", "m4a", "m4b", "m4v", "mka", "mkv", "mov", "mp1", "mp2", "mp3", "mp4", "mpeg", "mpg", "mpga", "mts", "oga",
    "ogg", "ogv", "opus", "snd", "tta", "vob", "wav", "wave", "weba", "webm", "wma", "wmv", "wv",
];

/// Size of a packet in an MPEG transport stream, each of which begins with [`TS_SYNC`].
const TS_PACKET_BYTES: usize = 188;
const TS_SYNC: u8 = 0x47;

/// A file to tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// As named, or as found under a folder as named.
    pub path: PathBuf,
    /// Size in bytes; 0 where it cannot be had.
    pub num_bytes: u64,
    /// Place among all files, whatever part of them is taken.
    pub index: usize,
    /// What decides the part in which it is.
    pub shard_key: u64,
}

/// What a search found.
#[derive(Debug, Default)]
pub struct Inputs {
    /// Files in the order of the arguments, those of a folder sorted by name, each once.
    pub files: Vec<Input>,
    /// Things to know that cost nothing: a loop of links, a folder without music.
    pub warnings: Vec<String>,
    /// Places that could not be looked into, and why.
    pub errors: Vec<(PathBuf, String)>,
    /// Number of all files, whatever part of them is taken.
    pub num_all: usize,
    /// BLAKE3 of the names of all files in order.
    pub listing: String,
}

impl Inputs {
    /// Looks through `paths`. Links are followed, loops of them are not.
    pub fn find(paths: &[PathBuf]) -> Self {
        let mut found = Self::default();
        let mut seen = Seen::default();
        for path in paths {
            if path.is_dir() {
                found.walk(path, &mut seen);
            } else {
                found.add(path, path.file_name().unwrap_or_default().as_ref(), &mut seen);
            }
        }
        found.num_all = found.files.len();
        let mut names = blake3::Hasher::new();
        for file in &found.files {
            names.update(file.path.as_os_str().as_encoded_bytes()).update(b"\0");
        }
        found.listing = names.finalize().to_hex().to_string();
        found
    }

    /// The files of one part.
    #[must_use]
    pub fn of(mut self, shard: Option<Shard>) -> Self {
        self.files.retain(|file| shard.is_none_or(|shard| shard.holds(file.shard_key)));
        self
    }

    /// `below_root` is the name in the folder that is searched.
    fn add(&mut self, path: &Path, below_root: &Path, seen: &mut Seen) {
        if seen.is_new(path) {
            let num_bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
            let (index, shard_key) = (self.files.len(), shard::key(below_root));
            self.files.push(Input { path: path.to_path_buf(), num_bytes, index, shard_key });
        }
    }

    fn walk(&mut self, folder: &Path, seen: &mut Seen) {
        let mut any = false;
        let visible = |entry: &DirEntry| entry.depth() == 0 || !is_hidden(entry);
        for entry in WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter().filter_entry(visible) {
            match entry {
                Ok(entry) => {
                    if entry.file_type().is_file() && is_media(entry.path()) {
                        any = true;
                        let below_root = entry.path().strip_prefix(folder).unwrap_or(entry.path());
                        self.add(entry.path(), below_root, seen);
                    }
                }
                Err(error) => {
                    let path = error.path().unwrap_or(folder);
                    if let Some(ancestor) = error.loop_ancestor() {
                        let (path, ancestor) = (shown(path), shown(ancestor));
                        self.warnings.push(format!("{path}: leads back to {ancestor}; not entered"));
                    } else if path.is_symlink() && !has_media_extension(path) {
                        // A dangling link to something that would not have been tagged.
                    } else {
                        let cause = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
                        let cause = format!("cannot be read: {cause}; check that it exists and that you may read it");
                        self.errors.push((path.to_path_buf(), cause));
                    }
                }
            }
        }
        if !any {
            self.warnings.push(format!("{}: no music or video files in this folder", shown(folder)));
        }
    }
}

fn is_hidden(entry: &DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(b".")
}

fn has_media_extension(path: &Path) -> bool {
    path.extension().and_then(|extension| extension.to_str()).is_some_and(|extension| {
        let extension = extension.to_ascii_lowercase();
        extension == "ts" || EXTENSIONS.contains(&extension.as_str())
    })
}

/// By its ending; `.ts` may also be TypeScript or a translation, so there the first two packets must be in sync.
fn is_media(path: &Path) -> bool {
    let is_ts = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("ts"));
    has_media_extension(path) && (!is_ts || is_transport_stream(path))
}

fn is_transport_stream(path: &Path) -> bool {
    let mut head = [0; TS_PACKET_BYTES + 1];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head[0] == TS_SYNC && head[TS_PACKET_BYTES] == TS_SYNC
}

/// Files seen so far, by the real folder and the name in it: `a.wav`, `./a.wav` and `../here/a.wav` are one file, two
/// links to the same file are two.
#[derive(Default)]
struct Seen {
    folders: HashMap<PathBuf, PathBuf>,
    files: HashSet<(PathBuf, OsString)>,
}

impl Seen {
    fn is_new(&mut self, path: &Path) -> bool {
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let real = self
            .folders
            .entry(folder.to_path_buf())
            .or_insert_with(|| folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf()))
            .clone();
        self.files.insert((real, path.file_name().unwrap_or(path.as_os_str()).to_os_string()))
    }
}

/// A path for a person: what is not text is replaced, and so are control characters, which could drive the terminal.
pub fn shown(path: &Path) -> String {
    path.to_string_lossy().chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("created");
            fs::write(path, b"x").expect("written");
        }
        folder
    }

    fn names(inputs: &Inputs, root: &Path) -> Vec<String> {
        let relative = |input: &Input| shown(input.path.strip_prefix(root).expect("under the root")).replace('\\', "/");
        inputs.files.iter().map(relative).collect()
    }

    #[test]
    fn folders_are_sorted_and_filtered_by_ending() {
        let root = folder(&["b.MP3", "a/z.flac", "a/notes.txt", "c.mkv", ".hidden.wav", ".git/x.wav", "code.ts"]);
        let found = Inputs::find(&[root.path().into()]);
        assert_eq!(names(&found, root.path()), ["a/z.flac", "b.MP3", "c.mkv"]);
        assert!(found.warnings.is_empty() && found.errors.is_empty());
        assert_eq!(found.files[0].num_bytes, 1);
    }

    #[test]
    fn a_transport_stream_is_told_from_typescript() {
        let root = folder(&[]);
        let mut stream = vec![0; 2 * TS_PACKET_BYTES];
        stream[0] = TS_SYNC;
        stream[TS_PACKET_BYTES] = TS_SYNC;
        fs::write(root.path().join("tv.ts"), stream).expect("written");
        fs::write(root.path().join("G.ts"), "GGGG".repeat(20)).expect("written");
        assert_eq!(names(&Inputs::find(&[root.path().into()]), root.path()), ["tv.ts"]);
    }

    #[test]
    fn named_files_are_tried_and_come_once_in_the_order_given() {
        let root = folder(&["b.wav", "a.wav", "song.xyz"]);
        let at = |name: &str| root.path().join(name);
        let found = Inputs::find(&[at("song.xyz"), at("b.wav"), at("./b.wav"), root.path().into(), at("absent.mp3")]);
        assert_eq!(names(&found, root.path()), ["song.xyz", "b.wav", "a.wav", "absent.mp3"]);
    }

    #[test]
    fn parts_keep_the_places_and_do_not_depend_on_the_folders_name() {
        let files: Vec<String> = (0..40).map(|index| format!("{}/{index}.wav", index % 3)).collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let (one, other) = (folder(&files), folder(&files));
        let all = Inputs::find(&[one.path().into()]);
        let mut together: Vec<Input> = Vec::new();
        for part in ["1/3", "2/3", "3/3"] {
            let shard: Shard = part.parse().expect("valid");
            let found = Inputs::find(&[one.path().into()]).of(Some(shard));
            assert_eq!((found.num_all, &found.listing), (40, &all.listing));
            let elsewhere = Inputs::find(&[other.path().join(".")]).of(Some(shard));
            let places = |inputs: &Inputs| inputs.files.iter().map(|file| file.index).collect::<Vec<_>>();
            assert_eq!(places(&found), places(&elsewhere));
            together.extend(found.files);
        }
        together.sort_by_key(|file| file.index);
        assert_eq!(together, all.files);
    }

    #[test]
    fn an_empty_folder_is_said() {
        let root = folder(&["readme.md"]);
        let found = Inputs::find(&[root.path().into()]);
        assert!(found.files.is_empty());
        assert!(found.warnings[0].contains("no music or video files"));
    }

    #[cfg(unix)]
    #[test]
    fn loops_are_warnings_and_dangling_music_is_an_error() {
        use std::os::unix::fs::symlink;
        let root = folder(&["a.wav", "sub/b.wav"]);
        symlink(root.path(), root.path().join("sub/loop")).expect("linked");
        symlink("nowhere", root.path().join("lost.txt")).expect("linked");
        symlink("nowhere.mp3", root.path().join("lost.mp3")).expect("linked");
        let found = Inputs::find(&[root.path().into()]);
        assert_eq!(names(&found, root.path()), ["a.wav", "sub/b.wav"]);
        assert_eq!(found.warnings.len(), 1, "{:?}", found.warnings);
        assert!(found.warnings[0].contains("loop") && found.warnings[0].contains("leads back"));
        assert_eq!(found.errors.len(), 1, "{:?}", found.errors);
        assert!(found.errors[0].0.ends_with("lost.mp3"));
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_not_text_are_shown_without_harm() {
        use std::os::unix::ffi::OsStrExt;
        let name = std::ffi::OsStr::from_bytes(b"\xff\x1b[2J.wav");
        assert_eq!(shown(Path::new(name)), "\u{fffd}\u{fffd}[2J.wav");
    }
}
