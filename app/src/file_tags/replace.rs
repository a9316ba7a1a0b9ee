//! One file takes the place of another, or nothing happens.
//!
//! ```text
//! open, lock -> copy beside it, with splices -> owner, permissions, attributes -> disk -> unchanged since? -> rename
//! ```
//!
//! Links are followed: the file that a link points at is replaced, and the link stays. A file with several names (hard
//! links) is refused, because only one of the names would get the new file. The new file has the owner, permissions and
//! extended attributes of the old one, and the time at which it was written: players and backups go by it.
//!
//! A process that is killed leaves its copy behind, which the next run in that folder takes away.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use tempfile::NamedTempFile;

use super::splice::{self, Splice};

/// Names of copies that are being written.
const PREFIX: &str = ".earmark-";
const SUFFIX: &str = ".tmp";

/// Age from which on a copy that nobody holds is left over, and not just being made.
const LEFT_OVER_AFTER: Duration = Duration::from_mins(1);

/// A file by its length and content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// Bytes.
    pub len: u64,
    /// BLAKE3 of them.
    pub hash: blake3::Hash,
}

/// A file that may be replaced.
pub struct Target {
    /// Its real name.
    pub path: PathBuf,
    /// The file, open and locked.
    pub file: File,
    metadata: Metadata,
}

/// A changed copy of a file, beside it.
pub struct Copied {
    file: NamedTempFile,
    content: Content,
}

impl Copied {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// What is in it.
    pub fn hash(&self) -> Content {
        self.content
    }
}

impl Target {
    /// Opens a file only to look at it.
    ///
    /// # Errors
    /// If it is not there any more or may not be read.
    pub fn for_reading(path: &Path) -> Result<Self> {
        Self::open_with(path, OpenOptions::new().read(true))
    }

    /// Opens a file that is to be replaced.
    ///
    /// # Errors
    /// If it is gone, write protected, in use or known by several names.
    pub fn open(path: &Path) -> Result<Self> {
        let target = Self::open_with(path, OpenOptions::new().read(true).write(true))?;
        ensure!(!target.metadata.permissions().readonly(), "it is write protected; make it writable (chmod u+w) first");
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let num_names = target.metadata.nlink();
            ensure!(
                num_names <= 1,
                "it has {num_names} names (hard links), of which only one would get the tags; make it a file of its own \
                 first (cp, then mv)"
            );
        }
        match target.file.try_lock() {
            // Some file systems know no locks.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(target),
            Err(TryLockError::WouldBlock) => bail!("it is locked by another program; try again when that has ended"),
        }
    }

    fn open_with(path: &Path, options: &OpenOptions) -> Result<Self> {
        let gone = |error: &io::Error| error.kind() == ErrorKind::NotFound;
        let path = path.canonicalize().map_err(|error| explained(error, gone))?;
        let file = options.open(&path).map_err(|error| explained(error, gone))?;
        let metadata = file.metadata().context("cannot be looked at")?;
        ensure!(metadata.is_file(), "it is not a regular file");
        Ok(Self { path, file, metadata })
    }

    /// When it was changed last.
    ///
    /// # Errors
    /// On systems that do not know.
    pub fn modified(&self) -> Result<SystemTime> {
        self.metadata.modified().context("the time of its last change is not known")
    }

    /// What is in it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn hash(&mut self) -> Result<Content> {
        self.file.seek(SeekFrom::Start(0))?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&mut self.file).context("cannot be read")?;
        Ok(Content { len: hasher.count(), hash: hasher.finalize() })
    }

    /// A copy in the same folder, with `splices` applied, complete on the disk.
    ///
    /// # Errors
    /// If the folder or the disk does not take it; nothing is left behind then.
    pub fn copy(&mut self, splices: &[Splice]) -> Result<Copied> {
        let folder = self.path.parent().context("it has no folder")?;
        let mut temporary = tempfile::Builder::new().prefix(PREFIX).suffix(SUFFIX).tempfile_in(folder).context(
            "a copy cannot be made in its folder; make the folder writable and see that the disk is not full",
        )?;
        // Held as long as it is open: see `remove_left_over`. Some file systems know no locks.
        let _ = temporary.as_file().try_lock();
        let full = "a copy of it cannot be written beside it; free some space on the disk";
        let content = {
            let out = io::BufWriter::new(temporary.as_file_mut());
            let mut hashing = Hashing { out, hasher: blake3::Hasher::new() };
            splice::apply(&mut self.file, splices, &mut hashing).and_then(|()| hashing.out.flush()).context(full)?;
            Content { len: hashing.hasher.count(), hash: hashing.hasher.finalize() }
        };
        self.copy_attributes(temporary.as_file(), temporary.path())?;
        temporary.as_file().sync_all().context(full)?;
        Ok(Copied { file: temporary, content })
    }

    /// Puts the copy in the place of the file; with `modified` it is as old as that.
    ///
    /// # Errors
    /// If the file was changed meanwhile, or cannot be replaced. It stays then.
    pub fn replace_by(self, copy: Copied, modified: Option<SystemTime>) -> Result<()> {
        let now = fs::metadata(&self.path).context("it vanished meanwhile")?;
        ensure!(is_same(&self.metadata, &now), "it was changed by another program meanwhile; run again");
        if let Some(modified) = modified {
            copy.file.as_file().set_modified(modified).context("its time of change cannot be set")?;
            copy.file.as_file().sync_all()?;
        }
        // An open file cannot be replaced there.
        #[cfg(windows)]
        drop(self.file);
        copy.file.persist(&self.path).context("it cannot be replaced; make its folder writable")?;
        Ok(())
    }

    fn copy_attributes(&self, copy: &File, copy_path: &Path) -> Result<()> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::{MetadataExt, fchown};
            let now = copy.metadata()?;
            let (uid, gid) = (self.metadata.uid(), self.metadata.gid());
            if (uid, gid) != (now.uid(), now.gid()) {
                fchown(copy, Some(uid), Some(gid)).with_context(|| {
                    format!("it belongs to another user or group ({uid}:{gid}), which cannot be kept; run as that user")
                })?;
            }
            copy_xattrs(&self.file, copy_path)?;
        }
        #[cfg(not(unix))]
        let _ = copy_path;
        // Last: changing the owner takes some permissions away.
        copy.set_permissions(self.metadata.permissions()).context("its permissions cannot be kept")
    }
}

/// Extended attributes, access lists among them. Those of the system itself are not ours to set.
#[cfg(unix)]
fn copy_xattrs(from: &File, to: &Path) -> Result<()> {
    use xattr::FileExt;
    // A file system without them has none to keep.
    let Ok(names) = from.list_xattr() else { return Ok(()) };
    for name in names {
        let Some(value) = from.get_xattr(&name).ok().flatten() else { continue };
        let set = xattr::set(to, &name, &value);
        let is_systems =
            ["security.", "trusted."].iter().any(|part| name.as_encoded_bytes().starts_with(part.as_bytes()));
        if !is_systems {
            set.with_context(|| format!("its attribute {} cannot be kept", name.to_string_lossy()))?;
        }
    }
    Ok(())
}

/// Why a file cannot be opened, with a way out.
fn explained(error: io::Error, gone: impl Fn(&io::Error) -> bool) -> anyhow::Error {
    let way_out = match error.kind() {
        _ if gone(&error) => "it is not there any more; look where it went and run again",
        ErrorKind::PermissionDenied => "it is write protected; make it writable (chmod u+w), or run as its owner",
        ErrorKind::ReadOnlyFilesystem => "its disk is mounted for reading only; mount it for writing",
        _ => "it cannot be opened",
    };
    anyhow::Error::new(error).context(way_out)
}

/// Takes away copies in `folder` whose processes ended before they could.
pub fn remove_left_over(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with(PREFIX) || !name.ends_with(SUFFIX) {
            continue;
        }
        let is_left_over = File::open(&path).is_ok_and(|file| {
            let modified = file.metadata().and_then(|metadata| metadata.modified());
            let is_old = modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > LEFT_OVER_AFTER));
            is_old && file.try_lock().is_ok()
        });
        if is_left_over {
            // One that cannot be removed is in nobody's way.
            let _ = fs::remove_file(&path);
        }
    }
}

/// The same file, and as it was.
fn is_same(before: &Metadata, now: &Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        if (before.dev(), before.ino()) != (now.dev(), now.ino()) {
            return false;
        }
    }
    before.len() == now.len() && before.modified().ok() == now.modified().ok()
}

/// Hashes what is written.
struct Hashing<W> {
    out: W,
    hasher: blake3::Hasher,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// What a file holds.
///
/// # Errors
/// If it cannot be read.
pub fn content_of(mut input: impl Read) -> io::Result<Content> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(&mut input)?;
    Ok(Content { len: hasher.count(), hash: hasher.finalize() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, b"old content").expect("written");
        path
    }

    const SPLICE: fn() -> Vec<Splice> = || vec![Splice { start: 0, old_len: 3, new: b"new".to_vec() }];

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("readable");
        entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_copy_takes_the_place_of_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = file(folder.path(), "a");
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let mut target = Target::open(&path).expect("writable");
        let copy = target.copy(&SPLICE()).expect("copied");
        assert_eq!(copy.hash(), content_of(b"new content".as_slice()).expect("hashed"));
        assert_eq!(target.hash().expect("hashed"), content_of(b"old content".as_slice()).expect("hashed"));
        target.replace_by(copy, Some(modified)).expect("replaced");
        assert_eq!(fs::read(&path).expect("there"), b"new content");
        assert_eq!(fs::metadata(&path).expect("there").modified().expect("known"), modified);
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn a_file_that_changes_meanwhile_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let message = |change: &dyn Fn(&Path)| {
            let path = file(folder.path(), "a");
            let mut target = Target::open(&path).expect("writable");
            let copy = target.copy(&SPLICE()).expect("copied");
            change(&path);
            format!("{:#}", target.replace_by(copy, None).expect_err("refused"))
        };
        assert!(message(&|path| fs::write(path, b"theirs!").expect("written")).contains("another program"));
        assert_eq!(fs::read(folder.path().join("a")).expect("there"), b"theirs!");
        assert!(message(&|path| fs::remove_file(path).expect("removed")).contains("vanished"));
        assert!(names(folder.path()).is_empty(), "copies are taken away");
    }

    #[cfg(unix)]
    #[test]
    fn permissions_attributes_and_links_are_kept() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().expect("a folder");
        let (path, link) = (file(folder.path(), "a"), folder.path().join("link"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set");
        symlink("a", &link).expect("linked");
        let has_xattrs = xattr::set(&path, "user.mood", b"happy").is_ok();
        let mut target = Target::open(&link).expect("writable");
        let copy = target.copy(&SPLICE()).expect("copied");
        target.replace_by(copy, None).expect("replaced");
        assert!(link.is_symlink());
        assert_eq!(fs::read(&path).expect("there"), b"new content");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o640);
        if has_xattrs {
            assert_eq!(xattr::get(&path, "user.mood").expect("readable").as_deref(), Some(b"happy".as_slice()));
        }
    }

    #[cfg(unix)]
    #[test]
    fn files_that_cannot_be_replaced_are_refused_with_a_reason() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let message = |path: &Path| format!("{:#}", Target::open(path).err().expect("refused"));
        assert!(message(&folder.path().join("absent")).contains("not there any more"));
        assert!(message(folder.path()).contains(';') || message(folder.path()).contains("cannot be opened"));

        let protected = file(folder.path(), "protected");
        fs::set_permissions(&protected, fs::Permissions::from_mode(0o444)).expect("set");
        assert!(message(&protected).contains("chmod u+w"));

        let two_names = file(folder.path(), "one");
        fs::hard_link(&two_names, folder.path().join("two")).expect("linked");
        assert!(message(&two_names).contains("2 names"));

        let locked = file(folder.path(), "locked");
        let holder = File::open(&locked).expect("opened");
        holder.lock().expect("locked");
        assert!(message(&locked).contains("locked by another program"));
        drop(holder);
        assert!(Target::open(&locked).is_ok());
    }

    #[test]
    fn copies_that_were_left_over_are_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| file(folder.path(), name);
        let (old, held, new, other) =
            (path(".earmark-old.tmp"), path(".earmark-held.tmp"), path(".earmark-new.tmp"), path(".earmark-other"));
        let long_ago = SystemTime::now() - Duration::from_hours(1);
        for path in [&old, &held, &other] {
            File::options().write(true).open(path).and_then(|file| file.set_modified(long_ago)).expect("set");
        }
        let holder = File::open(&held).expect("opened");
        holder.lock().expect("locked");
        remove_left_over(folder.path());
        assert_eq!([&old, &held, &new, &other].map(|path| path.exists()), [false, true, true, true]);
    }
}
