//! Where results go: the standard output, or a file that appears when it is complete.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, StdoutLock, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tempfile::NamedTempFile;

use crate::args::Format;

/// The files of an output: one, and for parquet the table of tracks beside it.
pub struct Output {
    main: Destination,
    beside: Option<Destination>,
}

impl Output {
    /// Opens `out`, or the standard output for `None`, for results in `format`.
    ///
    /// # Errors
    /// If the results could not be written there; better to know before the work.
    pub fn open(out: Option<&Path>, format: Format) -> Result<Self> {
        let main = Destination::open(out)?;
        let beside = match (out, &main) {
            (Some(out), Destination::File { .. }) if format == Format::Parquet => {
                Some(Destination::open(Some(&tracks_beside(out)))?)
            }
            _ => None,
        };
        Ok(Self { main, beside })
    }

    /// Writes to the second file, if there is one.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_beside(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.beside.as_mut().map_or(Ok(()), |beside| beside.write_all(bytes))
    }

    /// Makes what was written visible.
    ///
    /// # Errors
    /// If it could not be written to the end; the files that were there before stay.
    pub fn commit(self) -> io::Result<()> {
        self.beside.map_or(Ok(()), Destination::commit)?;
        self.main.commit()
    }

    /// Files that are in the way if the process ends without [`commit`](Self::commit) and without dropping this.
    pub fn temporary(&self) -> Vec<PathBuf> {
        self.main.temporary().into_iter().chain(self.beside.as_ref().and_then(Destination::temporary)).collect()
    }

    /// What is written can be seen at once, by a person or by the next program.
    pub fn is_live(&self) -> bool {
        self.main.is_live()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.main.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.main.flush()
    }
}

/// The table of tracks that belongs to `out`: `x.tracks.parquet` for `x.parquet`.
fn tracks_beside(out: &Path) -> PathBuf {
    let mut name = out.file_stem().unwrap_or_default().to_owned();
    name.push(".tracks");
    if let Some(extension) = out.extension() {
        name.push(".");
        name.push(extension);
    }
    out.with_file_name(name)
}

/// Whether `out` is, or will be, a file that appears when it is complete: not the standard output, a device or a pipe.
pub fn is_file(out: &Path) -> bool {
    fs::metadata(out).map_or(true, |metadata| metadata.is_file())
}

/// Begins the name of what will be an output.
const TEMPORARY_PREFIX: &str = ".earmark-";

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
        // One name for one output, so that what a killed run left is not there for ever. The journal's lock keeps a
        // second run from having it at the same time.
        let mut prefix = OsString::from(TEMPORARY_PREFIX);
        prefix.push(path.file_name().unwrap_or_default());
        let left = folder.join(&prefix);
        if left.is_file() {
            let removed = fs::remove_file(&left);
            removed.with_context(|| format!("cannot write --out {shown}: {} is in the way", left.display()))?;
        }
        builder.prefix(&prefix).rand_bytes(0);
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
    fn what_a_killed_run_left_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(".earmark-out.csv"), "half").expect("written");
        let mut destination = Destination::open(Some(&folder.path().join("out.csv"))).expect("opened");
        destination.write_all(b"whole").expect("written");
        destination.commit().expect("committed");
        assert_eq!(names(folder.path()), ["out.csv"]);
    }

    #[test]
    fn parquet_has_a_table_of_tracks_beside() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("x.parquet");
        let mut output = Output::open(Some(&out), Format::Parquet).expect("opened");
        output.write_all(b"windows").expect("written");
        output.write_beside(b"tracks").expect("written");
        assert_eq!(output.temporary().len(), 2);
        output.commit().expect("committed");
        assert_eq!(fs::read(&out).expect("there"), b"windows");
        assert_eq!(fs::read(folder.path().join("x.tracks.parquet")).expect("there"), b"tracks");
        assert_eq!(tracks_beside("a/b".as_ref()), Path::new("a/b.tracks"));
        assert!(Output::open(Some(&out), Format::Csv).expect("opened").beside.is_none());
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
