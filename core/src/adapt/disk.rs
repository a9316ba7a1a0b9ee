//! How files of an adaptation appear: whole, or not at all.
//!
//! ```text
//! bytes -> temporary file beside the place, synced -> renamed into the place -> folder synced
//! ```
//!
//! The steps are behind a trait so that a test can take the power away at each of them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What files of ours are called until they are whole.
const TEMPORARY: &str = ".earmark-";

/// The steps of which writing and removing are made.
pub(super) trait Disk: Send + Sync {
    /// Makes a folder and those above it.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Writes a file that is nobody's yet, down to the disk.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Puts a file in the place of another.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Takes a file away.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The machine's own.
#[derive(Debug)]
pub(super) struct RealDisk;

impl Disk for RealDisk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        sync_folder(to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)?;
        sync_folder(path)
    }
}

/// The name's change reaches the disk too. Systems that cannot sync a folder do it in their own time.
fn sync_folder(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(folder_of(path))?.sync_all()?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Where a file lies until it is whole: the same for the same place, so that what a power cut left is written over.
fn temporary(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(TEMPORARY);
    name.push(path.file_name().unwrap_or_default());
    folder_of(path).join(name)
}

/// Puts `bytes` into `path`.
pub(super) fn put(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    disk.create_folder(folder_of(path))?;
    let temporary = temporary(path);
    disk.write(&temporary, bytes).and_then(|()| disk.rename(&temporary, path)).inspect_err(|_| {
        // Where the disk is full this makes room; where it is gone nothing is lost.
        let _ = disk.remove(&temporary);
    })
}

/// Takes `path` away, if it is there.
pub(super) fn take_away(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
pub(super) mod testing {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A disk whose power goes after so many steps: the step itself is done by half, and no other follows.
    pub struct PowerCut {
        pub steps_left: AtomicUsize,
    }

    impl PowerCut {
        pub fn after(steps: usize) -> Self {
            Self { steps_left: AtomicUsize::new(steps) }
        }

        fn step(
            &self,
            half: impl FnOnce() -> io::Result<()>,
            whole: impl FnOnce() -> io::Result<()>,
        ) -> io::Result<()> {
            let left = self.steps_left.load(Ordering::Relaxed);
            if left == usize::MAX {
                return Err(io::Error::other("no power"));
            }
            if left == 0 {
                self.steps_left.store(usize::MAX, Ordering::Relaxed);
                half()?;
                return Err(io::Error::other("power cut"));
            }
            self.steps_left.store(left - 1, Ordering::Relaxed);
            whole()
        }
    }

    impl Disk for PowerCut {
        fn create_folder(&self, path: &Path) -> io::Result<()> {
            self.step(|| Ok(()), || RealDisk.create_folder(path))
        }

        fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
            self.step(|| fs::write(path, &bytes[..bytes.len() / 2]), || RealDisk.write(path, bytes))
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.step(|| Ok(()), || RealDisk.rename(from, to))
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            self.step(|| Ok(()), || RealDisk.remove(path))
        }
    }

    /// Does something with the power going at every step in turn, until it succeeds; `check` looks at what is left.
    pub fn with_power_cuts(act: impl Fn(&PowerCut) -> io::Result<()>, check: impl Fn(usize)) -> usize {
        for steps in 0..100 {
            let done = act(&PowerCut::after(steps)).is_ok();
            check(steps);
            if done {
                return steps;
            }
        }
        panic!("a hundred steps were not enough");
    }
}

#[cfg(test)]
mod tests {
    use super::testing::with_power_cuts;
    use super::*;

    #[test]
    fn a_file_is_old_or_new_wherever_the_power_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("below/file");
        let absent_or = |wanted: &'static [&'static [u8]]| {
            let path = path.clone();
            move |_| {
                let found = fs::read(&path).ok();
                assert!(found.is_none_or(|found| wanted.contains(&&found[..])));
            }
        };
        let steps = with_power_cuts(|disk| put(disk, &path, b"first"), absent_or(&[b"first"]));
        assert!(steps >= 3);
        assert_eq!(fs::read(&path).expect("there"), b"first");
        with_power_cuts(|disk| put(disk, &path, b"second one"), absent_or(&[b"first", b"second one"]));
        assert_eq!(fs::read(&path).expect("there"), b"second one");
        // Nothing is left beside it in the end.
        assert_eq!(fs::read_dir(folder.path().join("below")).expect("there").count(), 1);
        take_away(&RealDisk, &path).expect("removed");
        take_away(&RealDisk, &path).expect("gone is gone");
    }
}
