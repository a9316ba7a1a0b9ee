//! Folders of the program's own files.
//!
//! ```text
//! the user's data folder / earmark / profiles     adapted models, and which is in use
//!                                  / adapting     adaptations that were interrupted
//!                                  / recordings   rooms, recorded in the desktop
//! ```

use std::path::PathBuf;

use anyhow::{Context, Result};
use directories::ProjectDirs;
use earmark_core::adapt::Profiles;

/// The program's data folder.
fn data() -> Result<PathBuf> {
    let folders = ProjectDirs::from("", "", "earmark");
    folders
        .map(|folders| folders.data_dir().to_path_buf())
        .context("this system has no place for the data of programs; set HOME")
}

/// The profiles.
///
/// # Errors
/// If the system has no place for them.
pub fn profiles() -> Result<Profiles> {
    Ok(Profiles::new(data()?.join("profiles")))
}

/// Where the desktop keeps recordings of rooms.
///
/// # Errors
/// If the system has no place for them.
#[cfg(feature = "gui")]
pub fn recordings() -> Result<PathBuf> {
    Ok(data()?.join("recordings"))
}

/// Where the adaptation called `name` is kept while it is interrupted.
///
/// # Errors
/// If the system has no place for it.
#[cfg(feature = "gpu")]
pub fn adapting(name: &str) -> Result<PathBuf> {
    Ok(data()?.join("adapting").join(name))
}
