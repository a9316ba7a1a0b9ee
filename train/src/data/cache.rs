//! Decoded audio on disk, so that no file is decoded twice and a data set need not fit in memory.
//!
//! ```text
//! CACHE/3f/3f9c...e1.pcm    header of 96 bytes | 16-bit samples, 22,050 Hz mono | what the decoder said
//! ```
//!
//! A file's name is a hash of its source's path, size and time of change, so a source that changes is decoded again.
//! Files are written under a temporary name and renamed. They are mapped into memory: the system keeps in memory what
//! fits and reads the rest when a batch asks for it. The cache may be deleted at any moment, even while a run uses it:
//! what is mapped stays until the run ends, and what is missing is decoded again. What finds no room, cannot be
//! written, or exceeds the number of files that the system lets a program map (Linux: 65,530), stays in memory.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use memmap2::Mmap;

use super::clips::{ClipAudio, Decoded};

/// Version of the files and of the decoding behind them: another one makes other names.
const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"EARMKPCM";
const HEADER_BYTES: usize = 96;
const EXTENSION: &str = "pcm";
const TEMPORARY_PREFIX: &str = ".tmp-";
/// A temporary file this old was left by a program that was killed.
const ABANDONED: Duration = Duration::from_hours(24);
/// The time of last use is written at most this often.
const USE_RESOLUTION: Duration = Duration::from_hours(1);

/// Command-line arguments of everything that decodes a data set.
#[derive(Clone, Debug, clap::Args)]
pub struct CacheArgs {
    /// Folder for decoded audio, which may be deleted at any time; `none` keeps it in memory [default: a folder
    /// `earmark` in the user's cache folder].
    #[arg(long, value_name = "DIR", env = "EARMARK_CACHE")]
    pub cache: Option<PathBuf>,
    /// Size from which on the files used longest ago make room, e.g. 500M or 2T. An hour of audio takes 159 MB.
    #[arg(long, value_name = "SIZE", env = "EARMARK_CACHE_LIMIT", default_value = "64G", value_parser = parse_size)]
    pub cache_limit: u64,
}

impl CacheArgs {
    /// Opens the cache; `None` if there shall be none, or none was named and the user's cache folder is not known or
    /// cannot be written (which a warning says).
    ///
    /// # Errors
    /// If the named folder cannot be written.
    pub fn open(&self) -> Result<Option<Cache>> {
        match &self.cache {
            Some(folder) if folder.as_os_str() == "none" => Ok(None),
            Some(folder) => Cache::open(folder, self.cache_limit).map(Some),
            None => Ok(user_cache_folder().and_then(|folder| {
                let opened = Cache::open(&folder.join("earmark"), self.cache_limit);
                opened.inspect_err(|error| eprintln!("warning: decoding without a cache: {error:#}")).ok()
            })),
        }
    }
}

/// A number of bytes with an optional K, M, G or T (powers of 1,000).
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => Some(1),
        "K" | "KB" => Some(1_000),
        "M" | "MB" => Some(1_000_000),
        "G" | "GB" => Some(1_000_000_000),
        "T" | "TB" => Some(1_000_000_000_000),
        _ => None,
    };
    let number: Option<u64> = digits.trim().parse().ok();
    number
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor))
        .ok_or_else(|| "expected a number of bytes such as 500M, 64G or 2T".to_owned())
}

/// Where this system keeps what programs can make again.
fn user_cache_folder() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    if cfg!(windows) {
        folder("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        folder("HOME").map(|home| home.join("Library/Caches"))
    } else {
        folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")))
    }
}

/// A folder of decoded audio with a size limit. Several programs may share it; each keeps to the limit by its own
/// count.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    limit_bytes: u64,
    state: Mutex<State>,
}

/// What is known of the files in the cache.
#[derive(Debug, Default)]
struct State {
    used_bytes: u64,
    /// Files that were there when the cache was opened: name, size; the one used longest ago comes last.
    idle: Vec<(PathBuf, u64)>,
    /// Files that this program uses; they stay.
    in_use: HashSet<PathBuf>,
    /// Waveforms that found no room, or could not be written.
    refused: usize,
}

impl Cache {
    /// Opens or makes the cache in `folder`, and clears what killed programs left half done.
    ///
    /// # Errors
    /// If the folder cannot be made or read.
    pub fn open(folder: &Path, limit_bytes: u64) -> Result<Self> {
        let failed = || format!("{}: the cache cannot be used; name another folder with --cache", folder.display());
        fs::create_dir_all(folder).with_context(failed)?;
        let mut files = Vec::new();
        for shard in fs::read_dir(folder).with_context(failed)?.flatten() {
            let Ok(entries) = fs::read_dir(shard.path()) else { continue };
            // What another program removes meanwhile is no longer there, which is all we ask.
            for entry in entries.flatten() {
                let (path, Ok(metadata)) = (entry.path(), entry.metadata()) else { continue };
                let used = metadata.modified().unwrap_or(UNIX_EPOCH);
                if path.extension().is_some_and(|extension| extension == EXTENSION) {
                    files.push((used, path, metadata.len()));
                } else if entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX)
                    && used.elapsed().is_ok_and(|age| age > ABANDONED)
                {
                    let _ = fs::remove_file(path);
                }
            }
        }
        files.sort_by(|a, b| b.cmp(a));
        let state = State {
            used_bytes: files.iter().map(|(_, _, len)| len).sum(),
            idle: files.into_iter().map(|(_, path, len)| (path, len)).collect(),
            ..State::default()
        };
        let cache = Self { folder: folder.to_owned(), limit_bytes, state: Mutex::new(state) };
        cache.make_room(0);
        Ok(cache)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Size from which on files make room.
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// Bytes that a waveform of `num_samples` takes.
    pub fn entry_bytes(num_samples: usize) -> u64 {
        (HEADER_BYTES + 2 * num_samples) as u64
    }

    /// Waveforms that stay in memory because they found no room or could not be written.
    pub fn refused(&self) -> usize {
        self.state().refused
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic elsewhere leaves at worst a count that is off.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The decoded audio of `source`, if it is there.
    pub(super) fn get(&self, source: &Path) -> Option<Decoded> {
        let key = Key::of(source)?;
        let path = key.path(&self.folder);
        let decoded = read(&path, &key)?;
        if let Ok(file) = File::open(&path)
            && file.metadata().and_then(|metadata| metadata.modified()).is_ok_and(is_old)
        {
            // Only the order in which files make room depends on it.
            let _ = file.set_modified(SystemTime::now());
        }
        self.state().in_use.insert(path);
        Some(decoded)
    }

    /// Stores what was decoded from `source` and gives it back mapped; as it was, if it cannot be stored.
    pub(super) fn put(&self, source: &Path, decoded: Decoded) -> Decoded {
        let stored = Key::of(source).and_then(|key| {
            let bytes = encode(&decoded, &key);
            self.make_room(bytes.len() as u64).then_some(())?;
            let path = key.path(&self.folder);
            write(&path, &bytes).ok()?;
            let mapped = read(&path, &key)?;
            let mut state = self.state();
            if state.in_use.insert(path) {
                state.used_bytes += bytes.len() as u64;
            }
            Some(mapped)
        });
        stored.unwrap_or_else(|| {
            self.state().refused += 1;
            decoded
        })
    }

    /// Removes the files used longest ago until `bytes` more keep to the limit; whether they do.
    fn make_room(&self, bytes: u64) -> bool {
        let mut state = self.state();
        while state.used_bytes.saturating_add(bytes) > self.limit_bytes {
            let Some((path, len)) = state.idle.pop() else { return false };
            if !state.in_use.contains(&path) {
                // On failure it counts as gone all the same: it is in nobody's way but the limit's.
                let _ = fs::remove_file(path);
                state.used_bytes = state.used_bytes.saturating_sub(len);
            }
        }
        true
    }
}

fn is_old(used: SystemTime) -> bool {
    used.elapsed().is_ok_and(|age| age > USE_RESOLUTION)
}

/// Identifies a source file in one state, and the version that decoded it.
#[derive(Debug, PartialEq, Eq)]
struct Key(blake3::Hash);

impl Key {
    fn of(source: &Path) -> Option<Self> {
        let metadata = fs::metadata(source).ok()?;
        let changed = metadata.modified().ok()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut hasher = blake3::Hasher::new();
        for number in [u128::from(VERSION), u128::from(metadata.len()), changed.as_nanos()] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(env!("CARGO_PKG_VERSION").as_bytes());
        hasher.update(std::path::absolute(source).ok()?.as_os_str().as_encoded_bytes());
        Some(Self(hasher.finalize()))
    }

    fn path(&self, folder: &Path) -> PathBuf {
        let name = self.0.to_hex();
        folder.join(&name[..2]).join(format!("{name}.{EXTENSION}"))
    }
}

/// The bytes of a file of the cache.
fn encode(decoded: &Decoded, key: &Key) -> Vec<u8> {
    let samples = decoded.audio.to_bytes();
    let mut bytes = Vec::with_capacity(HEADER_BYTES + samples.len() + decoded.notes.len());
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(u32::from(decoded.is_truncated).to_le_bytes());
    bytes.extend(decoded.audio.scale().to_le_bytes());
    bytes.extend((decoded.notes.len() as u32).to_le_bytes());
    bytes.extend((decoded.audio.len() as u64).to_le_bytes());
    bytes.extend(key.0.as_bytes());
    bytes.extend(decoded.digest.as_bytes());
    bytes.extend(samples);
    bytes.extend(decoded.notes.as_bytes());
    bytes
}

/// Maps a file of the cache; `None` if it is not there or not what [`encode`] makes.
fn read(path: &Path, key: &Key) -> Option<Decoded> {
    let map = map(&File::open(path).ok()?).ok()?;
    let header = map.get(..HEADER_BYTES)?;
    let word = |at: usize| Some(u32::from_le_bytes(header.get(at..at + 4)?.try_into().ok()?));
    let hash = |at: usize| Some(blake3::Hash::from_bytes(header.get(at..at + 32)?.try_into().ok()?));
    let is_sound = header.starts_with(MAGIC) && word(8)? == VERSION && hash(32)? == key.0;
    let (flags, scale, notes_len) = (word(12)?, f32::from_bits(word(16)?), word(20)? as usize);
    let len = usize::try_from(u64::from_le_bytes(header.get(24..32)?.try_into().ok()?)).ok()?;
    let samples_end = len.checked_mul(2)?.checked_add(HEADER_BYTES)?;
    if !is_sound || len == 0 || samples_end.checked_add(notes_len)? != map.len() || !scale.is_finite() {
        return None;
    }
    let digest = hash(64)?;
    let notes = std::str::from_utf8(map.get(samples_end..)?).ok()?.to_owned();
    let audio = ClipAudio::mapped(MappedSamples { map: Arc::new(map), len }, scale);
    Some(Decoded { audio, digest, is_truncated: flags == 1, notes })
}

/// Writes under a temporary name and renames. It is not forced to the disk, for speed: what a power cut leaves behind
/// has another length or header and is decoded again.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().prefix(TEMPORARY_PREFIX).tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}

/// Samples in a mapped file of the cache.
#[derive(Clone, Debug)]
pub(super) struct MappedSamples {
    map: Arc<Mmap>,
    /// Number of samples; [`read`] has checked that the file holds them.
    len: usize,
}

impl MappedSamples {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn bytes(&self) -> &[u8] {
        &self.map[HEADER_BYTES..HEADER_BYTES + 2 * self.len]
    }

    pub fn get(&self, index: usize) -> Option<i16> {
        let at = 2 * index;
        let pair = self.bytes().get(at..at + 2)?;
        Some(i16::from_le_bytes([pair[0], pair[1]]))
    }
}

#[allow(unsafe_code)]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: a mapping must not change or shrink under its reader. Files of the cache are complete before they get
    // their name, are never written again, and end by being unlinked, which leaves a mapping as it is.
    unsafe { Mmap::map(file) }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        folder: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().expect("a folder") }
        }

        fn cache(&self, limit_bytes: u64) -> Cache {
            Cache::open(&self.folder.path().join("cache"), limit_bytes).expect("a cache")
        }

        /// A source file; what it "decodes" to is made up, as the cache does not look into it.
        fn source(&self, name: &str) -> PathBuf {
            let path = self.folder.path().join(name);
            fs::write(&path, name).expect("written");
            path
        }

        fn cached_files(&self) -> Vec<PathBuf> {
            let shards = fs::read_dir(self.folder.path().join("cache")).expect("readable").flatten();
            shards.flat_map(|shard| fs::read_dir(shard.path()).expect("readable").flatten()).map(|e| e.path()).collect()
        }
    }

    fn decoded(samples: &[f32], notes: &str) -> Decoded {
        let audio = ClipAudio::new(samples);
        Decoded {
            digest: blake3::hash(&audio.to_bytes()),
            audio,
            is_truncated: !notes.is_empty(),
            notes: notes.to_owned(),
        }
    }

    #[test]
    fn what_is_stored_comes_back_bit_for_bit() {
        let fixture = Fixture::new();
        let (cache, source) = (fixture.cache(1 << 20), fixture.source("a"));
        assert!(cache.get(&source).is_none());
        let original = decoded(&[0.5, -1.4, 0.0, 0.3], "truncated: two\nlines é");
        let stored = cache.put(&source, original.clone());
        let again = fixture.cache(1 << 20).get(&source).expect("it was stored");
        for copy in [stored, again] {
            assert_eq!(copy.audio.to_vec(), original.audio.to_vec());
            assert_eq!((copy.digest, copy.is_truncated, &copy.notes), (original.digest, true, &original.notes));
            assert_eq!((copy.audio.len(), copy.audio.get(4)), (4, None));
        }
    }

    #[test]
    fn a_changed_source_is_another_entry() {
        let fixture = Fixture::new();
        let (cache, source) = (fixture.cache(1 << 20), fixture.source("a"));
        let _ = cache.put(&source, decoded(&[0.5], ""));
        fs::write(&source, "longer than before").expect("written");
        assert!(cache.get(&source).is_none());
    }

    #[test]
    fn a_damaged_entry_counts_as_absent_and_is_written_again() {
        let fixture = Fixture::new();
        let (cache, source) = (fixture.cache(1 << 20), fixture.source("a"));
        let _ = cache.put(&source, decoded(&[0.5; 100], ""));
        let path = fixture.cached_files().remove(0);
        let whole = fs::read(&path).expect("readable");
        for len in [0, 50, HEADER_BYTES, whole.len() - 1] {
            // A new file, as renaming makes one: the old one is still mapped.
            fs::remove_file(&path).expect("removed");
            fs::write(&path, &whole[..len]).expect("written");
            assert!(cache.get(&source).is_none(), "{len} bytes");
        }
        let _ = cache.put(&source, decoded(&[0.5; 100], ""));
        assert_eq!(cache.get(&source).expect("written again").audio.len(), 100);
    }

    #[test]
    fn the_cache_may_be_deleted_while_it_is_used() {
        let fixture = Fixture::new();
        let (cache, source) = (fixture.cache(1 << 20), fixture.source("a"));
        let stored = cache.put(&source, decoded(&[0.25; 3_000], ""));
        fs::remove_dir_all(cache.folder()).expect("deleted");
        assert!(stored.audio.to_vec().iter().all(|sample| (sample - 0.25).abs() < 1e-6));
        assert!(cache.get(&source).is_none());
        let _ = cache.put(&source, decoded(&[0.25; 3_000], ""));
        assert!(cache.get(&source).is_some());
    }

    #[test]
    fn the_limit_holds_and_the_file_used_longest_ago_makes_room() {
        let fixture = Fixture::new();
        let entry_bytes = (HEADER_BYTES + 200) as u64;
        let sources = ["a", "b", "c", "d"].map(|name| fixture.source(name));
        let cache = fixture.cache(2 * entry_bytes);
        for source in &sources[..3] {
            let _ = cache.put(source, decoded(&[0.5; 100], ""));
        }
        // The first two are in use, so the third stayed in memory.
        assert_eq!((fixture.cached_files().len(), cache.refused()), (2, 1));

        let key = Key::of(&sources[0]).expect("a key").path(cache.folder());
        let old = SystemTime::now() - Duration::from_hours(48);
        File::open(&key).and_then(|file| file.set_modified(old)).expect("set");
        let cache = fixture.cache(2 * entry_bytes);
        let _ = cache.put(&sources[3], decoded(&[0.5; 100], ""));
        assert!(
            cache.get(&sources[0]).is_none() && cache.get(&sources[1]).is_some() && cache.get(&sources[3]).is_some()
        );

        drop(cache);
        assert_eq!(fixture.cache(entry_bytes).state().used_bytes, entry_bytes);
        assert_eq!(fixture.cached_files().len(), 1);
    }

    #[test]
    fn what_a_killed_program_left_is_cleared_when_it_is_old() {
        let fixture = Fixture::new();
        let _ = fixture.cache(1 << 20).put(&fixture.source("a"), decoded(&[0.5], ""));
        let shard = fixture.cached_files()[0].parent().expect("a shard").to_owned();
        fs::write(shard.join(".tmp-old"), "x").expect("written");
        fs::write(shard.join(".tmp-new"), "x").expect("written");
        let old = SystemTime::now() - Duration::from_hours(48);
        File::options().write(true).open(shard.join(".tmp-old")).and_then(|file| file.set_modified(old)).expect("set");
        let _ = fixture.cache(1 << 20);
        assert!(!shard.join(".tmp-old").exists() && shard.join(".tmp-new").exists());
    }

    #[test]
    fn sizes_are_read_with_their_unit() {
        assert_eq!(parse_size("500"), Ok(500));
        assert_eq!(parse_size("64G"), Ok(64_000_000_000));
        assert_eq!(parse_size("2 tb"), Ok(2_000_000_000_000));
        assert!(parse_size("G").is_err() && parse_size("5X").is_err() && parse_size("99999999T").is_err());
    }
}
