//! The way back: for each file what was changed and the bytes that went, on the disk before the file is replaced.
//!
//! ```text
//! "earmark tags journal 1\n" | record | record | ..
//! record   length u32 | payload | checksum [16]      of the checksum before it and the payload
//! payload  length u32 | JSON | bytes: the path, then those of the splices
//! ```
//!
//! A journal only grows. A record that was being written when the process ended is not complete; its file had not been
//! replaced then. As checksums are chained, records cannot be left out, doubled or moved.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::fields::{Change, Identity};
use super::replace::Content;
use super::splice::Splice;

/// First line of a journal of this version, and what all versions have in common.
const MAGIC: &[u8] = b"earmark tags journal 1\n";
const ANY_MAGIC: &[u8] = b"earmark tags journal ";

const CHECKSUM_LEN: usize = 16;

/// Larger records do not occur: an index of a film has some megabytes.
const MAX_PAYLOAD: u32 = 1 << 30;

/// What there is to know of a file that was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRecord {
    /// Its real name.
    pub path: PathBuf,
    /// Its time of change before.
    pub modified: SystemTime,
    /// The file before.
    pub old: Content,
    /// The file after.
    pub new: Content,
    /// The fields that were changed.
    pub changes: Vec<Change>,
    /// What turns the file after into the one before.
    pub back: Vec<Splice>,
}

/// A journal that is being written.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes that are complete.
    len: u64,
    checksum: [u8; CHECKSUM_LEN],
    num_records: u64,
}

/// Records as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
enum Head {
    /// The run. The first record.
    Run { marker: String, started_unix_s: u64 },
    /// A file.
    File(FileHead),
}

#[derive(Debug, Serialize, Deserialize)]
struct FileHead {
    path_len: usize,
    modified_unix: (u64, u32),
    old: (u64, String),
    new: (u64, String),
    changes: Vec<Change>,
    /// Start, length before undoing, length after.
    back: Vec<(u64, u64, usize)>,
}

/// A new journal in the user's state folder: the XDG rule, and `%LOCALAPPDATA%` where there is no home.
///
/// # Errors
/// If there is no such folder.
pub fn default_path(var: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf> {
    let folder = var("XDG_STATE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| var("HOME").filter(|path| path.is_absolute()).map(|home| home.join(".local/state")))
        .or_else(|| var("LOCALAPPDATA"))
        .context("there is no home folder to keep the journal in; name a place for it with --undo-journal FILE")?
        .join("earmark");
    fs::create_dir_all(&folder).with_context(|| {
        format!("cannot make the folder {}; name a place with --undo-journal FILE", folder.display())
    })?;
    let name = |n: u32| folder.join(format!("tags-{}-{}-{n}.journal", unix_s(SystemTime::now()).0, std::process::id()));
    Ok((0..u32::MAX).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(0)))
}

fn unix_s(time: SystemTime) -> (u64, u32) {
    // Before 1970 nothing of ours was changed; such a time is lost.
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_secs(), since.subsec_nanos())
}

impl Journal {
    /// Makes a new journal.
    ///
    /// # Errors
    /// If the file is there already or cannot be made.
    pub fn create(path: &Path, identity: &Identity) -> Result<Self> {
        let shown = path.display();
        let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| {
            let way_out = match error.kind() {
                ErrorKind::AlreadyExists => "it exists already, and undoing needs it; choose a new name",
                _ => "choose a folder that exists and is writable",
            };
            anyhow::Error::new(error).context(format!("cannot make the journal {shown}: {way_out}"))
        })?;
        let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let mut journal = Self { path, file, len: 0, checksum: [0; CHECKSUM_LEN], num_records: 0 };
        let head = Head::Run { marker: identity.marker(), started_unix_s: unix_s(SystemTime::now()).0 };
        let start = [MAGIC, &journal.record(&head, &[])?].concat();
        journal.write(&start)?;
        // That it is in its folder should also outlast a power cut.
        #[cfg(unix)]
        if let Some(folder) = journal.path.parent() {
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .with_context(|| format!("cannot write the journal {shown}"))?;
        }
        journal.num_records = 0;
        Ok(journal)
    }

    /// Adds a file. When this returns, the record is on the disk.
    ///
    /// # Errors
    /// If it is not; the journal is then as before.
    pub fn append(&mut self, record: &FileRecord) -> Result<()> {
        let path = path_bytes(&record.path)?;
        let (secs, nanos) = unix_s(record.modified);
        let content = |content: Content| (content.len, content.hash.to_hex().to_string());
        let head = Head::File(FileHead {
            path_len: path.len(),
            modified_unix: (secs, nanos),
            old: content(record.old),
            new: content(record.new),
            changes: record.changes.clone(),
            back: record.back.iter().map(|splice| (splice.start, splice.old_len, splice.new.len())).collect(),
        });
        let blob = std::iter::once(path.as_slice()).chain(record.back.iter().map(|splice| splice.new.as_slice()));
        let bytes = self.record(&head, &blob.collect::<Vec<_>>().concat())?;
        self.write(&bytes)
    }

    /// The bytes of the next record.
    fn record(&self, head: &Head, blob: &[u8]) -> Result<Vec<u8>> {
        let json = serde_json::to_vec(head)?;
        let payload = [(json.len() as u32).to_le_bytes().as_slice(), &json, blob].concat();
        let len = u32::try_from(payload.len()).ok().filter(|len| *len <= MAX_PAYLOAD);
        let len =
            len.with_context(|| format!("the way back would take {} bytes, too many for a journal", payload.len()))?;
        let checksum = chained(&self.checksum, &payload);
        Ok([len.to_le_bytes().as_slice(), &payload, &checksum].concat())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all(bytes).and_then(|()| self.file.sync_all());
        if let Err(error) = written {
            // Half a record must not stand in front of the next. If it does, for want of a working disk, reading stops there.
            let undone = self.file.set_len(self.len).and_then(|()| self.file.seek(SeekFrom::Start(self.len)));
            drop(undone);
            let way_out = "the file stays as it is; free some space on the disk";
            return Err(anyhow::Error::new(error))
                .with_context(|| format!("cannot write the journal {}; {way_out}", self.path.display()));
        }
        self.len += bytes.len() as u64;
        self.checksum.copy_from_slice(&bytes[bytes.len() - CHECKSUM_LEN..]);
        self.num_records += 1;
        Ok(())
    }

    /// Ends the journal; its path, if any file was changed. One without files is taken away.
    ///
    /// # Errors
    /// If it cannot be taken away.
    pub fn finish(self) -> Result<Option<PathBuf>> {
        let Self { path, file, num_records, .. } = self;
        drop(file);
        if num_records > 0 {
            return Ok(Some(path));
        }
        fs::remove_file(&path).with_context(|| format!("cannot remove the empty journal {}", path.display()))?;
        Ok(None)
    }
}

fn chained(previous: &[u8; CHECKSUM_LEN], payload: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(previous).update(payload);
    let mut checksum = [0; CHECKSUM_LEN];
    hasher.finalize_xof().fill(&mut checksum);
    checksum
}

/// A journal that is read.
#[derive(Debug)]
pub struct Reader {
    file: File,
    /// Where the payloads of the files' records are, and how long they are.
    files: Vec<(u64, u32)>,
    /// Why the journal was not read to its end.
    pub broken: Option<Broken>,
}

/// How a journal ends that does not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// In a record that is not complete: the run was ended while it wrote.
    Torn,
    /// In a record that is not what was written, at this byte. What follows cannot be trusted.
    Damaged(u64),
}

impl Reader {
    /// Opens a journal and checks all of it.
    ///
    /// # Errors
    /// If it is none, or of a version that is not known.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let file = File::open(path).with_context(|| format!("cannot read the journal {shown}"))?;
        let mut input = BufReader::new(file);
        let mut magic = Vec::new();
        input.by_ref().take(MAGIC.len() as u64).read_to_end(&mut magic)?;
        if magic != MAGIC {
            ensure!(
                !magic.starts_with(ANY_MAGIC),
                "{shown} is a journal of another version; use the Earmark that wrote it"
            );
            bail!("{shown} is no journal of written tags; name the file that `earmark tag --write-tags` spoke of");
        }
        let mut reader = Self { file: input.get_ref().try_clone()?, files: Vec::new(), broken: None };
        let mut start = MAGIC.len() as u64;
        let mut checksum = [0; CHECKSUM_LEN];
        loop {
            match next(&mut input, &checksum) {
                Ok(None) => break,
                Ok(Some((payload, sum))) => {
                    let len = payload.len() as u32;
                    if let Ok((Head::File(_), _)) = parse(&payload) {
                        reader.files.push((start + 4, len));
                    }
                    start += 4 + u64::from(len) + CHECKSUM_LEN as u64;
                    checksum = sum;
                }
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    reader.broken = Some(Broken::Torn);
                    break;
                }
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    reader.broken = Some(Broken::Damaged(start));
                    break;
                }
                Err(error) => return Err(error).with_context(|| format!("cannot read the journal {shown}")),
            }
        }
        Ok(reader)
    }

    /// Number of files.
    pub fn num_files(&self) -> usize {
        self.files.len()
    }

    /// The record of a file.
    ///
    /// # Errors
    /// If it cannot be read again.
    pub fn record(&mut self, index: usize) -> Result<FileRecord> {
        let &(start, len) = self.files.get(index).context("no such record")?;
        self.file.seek(SeekFrom::Start(start))?;
        let mut payload = vec![0; len as usize];
        self.file.read_exact(&mut payload).context("the journal became shorter")?;
        match parse(&payload)? {
            (Head::File(head), blob) => head.record(blob),
            (Head::Run { .. }, _) => bail!("not the record of a file"),
        }
    }
}

/// The next payload and its checksum; `None` at the end. A record that is not complete is `UnexpectedEof`, one that does
/// not agree with its checksum is `InvalidData`.
fn next(input: &mut impl Read, previous: &[u8; CHECKSUM_LEN]) -> io::Result<Option<(Vec<u8>, [u8; CHECKSUM_LEN])>> {
    let mut len = [0; 4];
    match input.read(&mut len[..1])? {
        0 => return Ok(None),
        _ => input.read_exact(&mut len[1..])?,
    }
    let len = u32::from_le_bytes(len);
    if len > MAX_PAYLOAD {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut payload = Vec::new();
    input.by_ref().take(u64::from(len)).read_to_end(&mut payload)?;
    if payload.len() < len as usize {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let mut checksum = [0; CHECKSUM_LEN];
    input.read_exact(&mut checksum)?;
    if chained(previous, &payload) != checksum {
        return Err(ErrorKind::InvalidData.into());
    }
    Ok(Some((payload, checksum)))
}

fn parse(payload: &[u8]) -> Result<(Head, &[u8])> {
    let (len, rest) = payload.split_first_chunk::<4>().context("a record is too short")?;
    let (json, blob) = rest.split_at_checked(u32::from_le_bytes(*len) as usize).context("a record is too short")?;
    Ok((serde_json::from_slice(json)?, blob))
}

impl FileHead {
    fn record(self, blob: &[u8]) -> Result<FileRecord> {
        let short = "a record is too short";
        let (path, mut blob) = blob.split_at_checked(self.path_len).context(short)?;
        let mut back = Vec::new();
        for (start, old_len, len) in self.back {
            let (new, rest) = blob.split_at_checked(len).context(short)?;
            back.push(Splice { start, old_len, new: new.to_vec() });
            blob = rest;
        }
        let content = |(len, hash): (u64, String)| -> Result<Content> {
            Ok(Content { len, hash: blake3::Hash::from_hex(hash).context("a record has no hash")? })
        };
        let (secs, nanos) = self.modified_unix;
        Ok(FileRecord {
            path: path_of(path.to_vec())?,
            modified: UNIX_EPOCH + Duration::new(secs, nanos),
            old: content(self.old)?,
            new: content(self.new)?,
            changes: self.changes,
            back,
        })
    }
}

/// Names of files are bytes on Unix and text elsewhere.
#[cfg(unix)]
#[allow(clippy::unnecessary_wraps)]
fn path_bytes(path: &Path) -> Result<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    Ok(path.as_os_str().as_bytes().to_vec())
}

#[cfg(not(unix))]
fn path_bytes(path: &Path) -> Result<Vec<u8>> {
    Ok(path.to_str().context("its name is no valid text; rename it first")?.as_bytes().to_vec())
}

#[cfg(unix)]
#[allow(clippy::unnecessary_wraps)]
fn path_of(bytes: Vec<u8>) -> Result<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    Ok(OsString::from_vec(bytes).into())
}

#[cfg(not(unix))]
fn path_of(bytes: Vec<u8>) -> Result<PathBuf> {
    Ok(OsString::from(String::from_utf8(bytes).context("a record has no valid path")?).into())
}

#[cfg(test)]
mod tests {
    use super::super::fields::Field;
    use super::*;

    fn record(name: &str) -> FileRecord {
        let content = |byte: u8| Content { len: u64::from(byte), hash: blake3::hash(&[byte]) };
        FileRecord {
            path: path_of([b"/music/\xff/".as_slice(), name.as_bytes()].concat()).expect("a path"),
            modified: UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789),
            old: content(1),
            new: content(2),
            changes: vec![Change { field: Field::Genre, old: vec!["Волна".into()], new: Vec::new() }],
            back: vec![
                Splice { start: 3, old_len: 0, new: vec![1, 2] },
                Splice { start: u64::MAX, old_len: 9, new: Vec::new() },
            ],
        }
    }

    fn journal(folder: &Path, names: &[&str]) -> PathBuf {
        let path = folder.join("j");
        let mut journal = Journal::create(&path, &Identity::new("m", "1a")).expect("made");
        for name in names {
            journal.append(&record(name)).expect("written");
        }
        assert_eq!(journal.finish().expect("finished").as_deref(), Some(path.canonicalize().expect("there").as_path()));
        path
    }

    #[cfg(unix)]
    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = journal(folder.path(), &["a", "b"]);
        let mut reader = Reader::open(&path).expect("valid");
        assert_eq!((reader.num_files(), reader.broken), (2, None));
        assert_eq!(reader.record(1).expect("there"), record("b"));
        assert_eq!(reader.record(0).expect("there"), record("a"));
    }

    #[cfg(unix)]
    #[test]
    fn a_cut_anywhere_loses_the_last_record_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = journal(folder.path(), &["a", "b", "c"]);
        let bytes = fs::read(&path).expect("readable");
        let cut = folder.path().join("cut");
        let mut counts = Vec::new();
        for len in MAGIC.len()..=bytes.len() {
            fs::write(&cut, &bytes[..len]).expect("written");
            let mut reader = Reader::open(&cut).expect("a journal");
            for (index, name) in ["a", "b", "c"].iter().enumerate().take(reader.num_files()) {
                assert_eq!(reader.record(index).expect("whole"), record(name), "cut to {len}");
            }
            let is_whole = matches!(reader.broken, None | Some(Broken::Torn));
            assert!(is_whole, "cut to {len}: {:?}", reader.broken);
            counts.push(reader.num_files());
        }
        assert!(counts.is_sorted() && counts.last() == Some(&3));
    }

    #[cfg(unix)]
    #[test]
    fn damage_is_noticed_wherever_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = journal(folder.path(), &["a", "b"]);
        let bytes = fs::read(&path).expect("readable");
        for at in (MAGIC.len()..bytes.len()).step_by(7) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            fs::write(&path, &damaged).expect("written");
            let mut reader = Reader::open(&path).expect("a journal");
            assert!(reader.broken.is_some() && reader.num_files() < 2, "byte {at}");
            if reader.num_files() == 1 {
                assert_eq!(reader.record(0).expect("whole"), record("a"));
            }
        }
    }

    #[test]
    fn journals_are_never_written_over_and_empty_ones_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("j");
        let identity = Identity::new("m", "1a");
        let journal = Journal::create(&path, &identity).expect("made");
        let again = format!("{:#}", Journal::create(&path, &identity).expect_err("refused"));
        assert!(again.contains("exists already"), "{again}");
        assert_eq!(journal.finish().expect("finished"), None);
        assert!(!path.exists());
        let absent = Journal::create(&folder.path().join("no/j"), &identity).expect_err("refused");
        assert!(format!("{absent:#}").contains("folder that exists"));
    }

    #[test]
    fn other_files_are_no_journals() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x");
        let message = |bytes: &[u8]| {
            fs::write(&path, bytes).expect("written");
            Reader::open(&path).expect_err("refused").to_string()
        };
        assert!(message(b"ID3").contains("no journal"));
        assert!(message(b"earmark tags journal 2\nxxx").contains("another version"));
        assert!(Reader::open(&folder.path().join("absent")).is_err());
    }

    #[test]
    fn the_default_place_is_the_state_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = default_path(|name| (name == "HOME").then(|| folder.path().into())).expect("a place");
        assert!(path.starts_with(folder.path().join(".local/state/earmark")));
        assert!(path.parent().is_some_and(Path::is_dir));
        assert!(default_path(|_| None).expect_err("nowhere").to_string().contains("--undo-journal"));
    }
}
