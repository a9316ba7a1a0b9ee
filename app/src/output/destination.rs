//! Where results go: the standard output, or a file that appears when it is complete.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, StdoutLock, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tempfile::NamedTempFile;

/// Where results go.
pub enum Destination {
    /// The standard output, flushed whenever a file is done.
    Stdout(BufWriter<StdoutLock<'static>>),
    /// A file, written beside its final name and renamed by [`Destination::commit`].
    File {
        /// What is written meanwhile.
        temporary: BufWriter<NamedTempFile>,
        /// The final name.
        path: PathBuf,
    },
    /// Something that exists and is not a file, like `/dev/null` or a named pipe: written directly, never replaced.
    Special(BufWriter<File>),
}

impl Destination {
    /// Opens `out`, or the standard output for `None`.
    ///
    /// # Errors
    /// If the results could not be written there; better to know before the work.
    pub fn open(out: Option<&Path>) -> Result<Self> {
        let Some(out) = out else {
            return Ok(Self::Stdout(BufWriter::new(io::stdout().lock())));
        };
        let shown = out.display();
        // Through a link to what it points at, so that the link stays.
        let path = out.canonicalize().unwrap_or_else(|_| out.to_path_buf());
        let existing = fs::metadata(&path).ok();
        if let Some(metadata) = &existing {
            ensure!(!metadata.is_dir(), "--out {shown} is a folder; name a file");
            if !metadata.is_file() {
                let file = OpenOptions::new().write(true).open(&path);
                return Ok(Self::Special(BufWriter::new(file.with_context(|| format!("cannot write to {shown}"))?)));
            }
        }
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".earmark-");
        // What an ordinary new file would get, or what the file that is replaced has.
        #[cfg(unix)]
        let permissions = {
            use std::os::unix::fs::PermissionsExt;
            existing.map_or_else(|| fs::Permissions::from_mode(0o666), |metadata| metadata.permissions())
        };
        #[cfg(unix)]
        builder.permissions(permissions);
        let temporary = builder
            .tempfile_in(folder)
            .with_context(|| format!("cannot write --out {shown}; choose a folder that exists and is writable"))?;
        Ok(Self::File { temporary: BufWriter::new(temporary), path })
    }

    /// Makes what was written visible.
    ///
    /// # Errors
    /// If it could not be written to the end; the file that was there before stays.
    pub fn commit(self) -> io::Result<()> {
        match self {
            Self::Stdout(mut out) => out.flush(),
            Self::Special(mut out) => out.flush(),
            Self::File { temporary, path } => {
                let temporary = temporary.into_inner().map_err(io::IntoInnerError::into_error)?;
                temporary.as_file().sync_all()?;
                temporary.persist(path)?;
                Ok(())
            }
        }
    }

    /// The file that is in the way if the process ends without [`commit`](Self::commit) and without dropping this.
    pub fn temporary(&self) -> Option<PathBuf> {
        match self {
            Self::File { temporary, .. } => Some(temporary.get_ref().path().to_owned()),
            Self::Stdout(_) | Self::Special(_) => None,
        }
    }

    /// What is written can be seen at once, by a person or by the next program.
    pub fn is_live(&self) -> bool {
        !matches!(self, Self::File { .. })
    }
}

impl Write for Destination {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(bytes),
            Self::File { temporary, .. } => temporary.write(bytes),
            Self::Special(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File { temporary, .. } => temporary.flush(),
            Self::Special(out) => out.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("readable");
        entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_file_appears_complete_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out.csv");
        let mut destination = Destination::open(Some(&path)).expect("opened");
        destination.write_all(b"one").expect("written");
        destination.flush().expect("flushed");
        assert!(!path.exists());
        drop(destination);
        assert!(names(folder.path()).is_empty(), "nothing is left behind");

        let mut destination = Destination::open(Some(&path)).expect("opened");
        destination.write_all(b"two").expect("written");
        destination.commit().expect("committed");
        assert_eq!(fs::read(&path).expect("readable"), b"two");
        assert_eq!(names(folder.path()), ["out.csv"]);
    }

    #[test]
    fn folders_are_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let message = |path: &Path| Destination::open(Some(path)).err().expect("refused").to_string();
        assert!(message(folder.path()).contains("is a folder"));
        assert!(message(&folder.path().join("absent/out.csv")).contains("absent"));
    }

    #[cfg(unix)]
    #[test]
    fn devices_are_written_and_links_are_kept() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().expect("a folder");
        let null = folder.path().join("null");
        symlink("/dev/null", &null).expect("linked");
        let destination = Destination::open(Some(&null)).expect("opened");
        assert!(matches!(destination, Destination::Special(_)));

        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::write(&real, b"old").expect("written");
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).expect("set");
        symlink(&real, &link).expect("linked");
        let mut destination = Destination::open(Some(&link)).expect("opened");
        destination.write_all(b"new").expect("written");
        destination.commit().expect("committed");
        assert!(link.is_symlink());
        assert_eq!(fs::read(&real).expect("readable"), b"new");
        assert_eq!(fs::metadata(&real).expect("there").permissions().mode() & 0o777, 0o640);
    }
}
