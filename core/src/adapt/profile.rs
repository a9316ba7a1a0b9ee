//! Profiles: adapted models in a folder of their own, one of them in use or none.
//!
//! ```text
//! profiles/club.safetensors      a model file whose metadata tell what it was adapted from, with what, and how it did
//! profiles/in-use.json           {"version": 1, "profile": "club"}; absent: the built-in model is in use
//! ```
//!
//! The built-in model is part of the program and cannot be overwritten by any of this.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::disk::{Disk, RealDisk, put, take_away};
use crate::model_file::{Model, ModelError};

/// Version of the file that names the profile in use.
const VERSION: u32 = 1;

/// Its name.
const IN_USE: &str = "in-use.json";

/// Ending of a profile.
const ENDING: &str = "safetensors";

/// What stands for the built-in model where a profile could be named.
pub const BUILT_IN: &str = "default";

/// Longest name of a profile in bytes.
const MAX_NAME_BYTES: usize = 60;

/// Why something cannot be done with profiles.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// A name that is none.
    #[error("{name:?} cannot name a profile: {rule}")]
    Name {
        /// As it was given.
        name: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// There is no such profile.
    #[error("there is no profile {name:?}; there are {there}")]
    Absent {
        /// As it was asked for.
        name: String,
        /// The others.
        there: String,
    },
    /// There is one already.
    #[error(
        "there is a profile {name:?} already; choose another name, or remove it with `earmark profiles remove {name}`"
    )]
    Exists {
        /// The name.
        name: String,
    },
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file that names the profile in use is damaged.
    #[error("{path}: {reason}; choose again with `earmark profiles use NAME`")]
    InUse {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// It is no model.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// A profile as a list shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// When it was written.
    pub modified: Option<SystemTime>,
    /// Whether it is the one in use.
    pub is_in_use: bool,
}

#[derive(Serialize, Deserialize)]
struct InUse {
    version: u32,
    profile: String,
}

/// The folder of profiles.
pub struct Profiles {
    folder: PathBuf,
    disk: Box<dyn Disk>,
}

/// Checks a name.
///
/// # Errors
/// The rule that it breaks.
pub fn check_name(name: &str) -> Result<(), ProfileError> {
    let refuse = |rule| Err(ProfileError::Name { name: name.to_owned(), rule });
    if name == BUILT_IN {
        return refuse("that is what the built-in model is called");
    }
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return refuse("it must have between 1 and 60 bytes");
    }
    if name.starts_with('.') || name.ends_with('.') || name.trim() != name {
        return refuse("it must not begin or end with a dot or a space");
    }
    if name.chars().any(|c| c.is_control() || "/\\:*?\"<>|".contains(c)) {
        return refuse("it must not hold / \\ : * ? \" < > | or control characters");
    }
    Ok(())
}

impl Profiles {
    /// Those in `folder`, which need not be there yet.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, disk: Box::new(RealDisk) }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of the profile `name`, whether it is there or not.
    ///
    /// # Errors
    /// [`ProfileError::Name`].
    pub fn path(&self, name: &str) -> Result<PathBuf, ProfileError> {
        check_name(name)?;
        Ok(self.folder.join(format!("{name}.{ENDING}")))
    }

    /// All of them, by name.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn list(&self) -> Result<Vec<Profile>, ProfileError> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|source| io_error(&self.folder, source))?,
        };
        // A damaged choice must not hide what there is to choose from.
        let in_use = self.in_use().unwrap_or_default();
        let mut profiles = Vec::new();
        for entry in entries {
            let path = entry.map_err(|source| io_error(&self.folder, source))?.path();
            let Some(name) = path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned) else { continue };
            let is_profile = path.extension().is_some_and(|ending| ending == ENDING) && check_name(&name).is_ok();
            let Ok(metadata) = path.metadata() else { continue };
            if is_profile && metadata.is_file() {
                profiles.push(Profile {
                    is_in_use: in_use.as_deref() == Some(&name),
                    name,
                    path,
                    bytes: metadata.len(),
                    modified: metadata.modified().ok(),
                });
            }
        }
        profiles.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(profiles)
    }

    /// The profile `name`.
    ///
    /// # Errors
    /// If it is not there or no model.
    pub fn load(&self, name: &str) -> Result<Model, ProfileError> {
        Ok(Model::load(&self.existing(name)?)?)
    }

    fn existing(&self, name: &str) -> Result<PathBuf, ProfileError> {
        let path = self.path(name)?;
        if path.is_file() {
            return Ok(path);
        }
        let names: Vec<String> = self.list()?.into_iter().map(|profile| profile.name).collect();
        let there = if names.is_empty() { "none yet (earmark adapt makes one)".to_owned() } else { names.join(", ") };
        Err(ProfileError::Absent { name: name.to_owned(), there })
    }

    /// Writes a new profile: whole, or not at all.
    ///
    /// # Errors
    /// If there is one of this name already, the model breaks a rule or the disk does not take it.
    pub fn save(&self, name: &str, model: &Model) -> Result<PathBuf, ProfileError> {
        let path = self.path(name)?;
        if path.exists() {
            return Err(ProfileError::Exists { name: name.to_owned() });
        }
        let bytes = model.to_bytes()?;
        put(&*self.disk, &path, &bytes).map_err(|source| io_error(&path, source))?;
        Ok(path)
    }

    /// Name of the profile in use; `None` is the built-in model.
    ///
    /// # Errors
    /// If the file that says so is damaged.
    pub fn in_use(&self) -> Result<Option<String>, ProfileError> {
        let path = self.folder.join(IN_USE);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|source| io_error(&path, source))?,
        };
        let damaged = |reason: String| ProfileError::InUse { path: path.display().to_string(), reason };
        let found: InUse = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        if found.version != VERSION {
            return Err(damaged(format!("of version {}, where this build reads {VERSION}", found.version)));
        }
        check_name(&found.profile).map_err(|error| damaged(error.to_string()))?;
        Ok(Some(found.profile))
    }

    /// The file of the profile in use, if one is.
    ///
    /// # Errors
    /// If the choice is damaged, or the profile is not there any more.
    pub fn in_use_path(&self) -> Result<Option<PathBuf>, ProfileError> {
        self.in_use()?.map(|name| self.existing(&name)).transpose()
    }

    /// Uses a profile from now on, or with `None` the built-in model.
    ///
    /// # Errors
    /// If it is not there or no model, or the choice cannot be written.
    pub fn use_profile(&self, name: Option<&str>) -> Result<(), ProfileError> {
        let path = self.folder.join(IN_USE);
        let Some(name) = name else {
            return take_away(&*self.disk, &path).map_err(|source| io_error(&path, source));
        };
        self.load(name)?;
        let text = serde_json::json!({ "version": VERSION, "profile": name }).to_string() + "\n";
        put(&*self.disk, &path, text.as_bytes()).map_err(|source| io_error(&path, source))
    }

    /// Removes a profile; if it is in use, the built-in model is used from now on.
    ///
    /// # Errors
    /// If it is not there or cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), ProfileError> {
        let path = self.existing(name)?;
        // In this order: a choice of what is gone would be an error at every start.
        if self.in_use().unwrap_or_default().as_deref() == Some(name) {
            self.use_profile(None)?;
        }
        take_away(&*self.disk, &path).map_err(|source| io_error(&path, source))
    }
}

fn io_error(path: &Path, source: io::Error) -> ProfileError {
    ProfileError::Io { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::super::disk::testing::PowerCut;
    use super::*;
    use crate::engine::test_model;

    fn profiles(folder: &Path) -> Profiles {
        Profiles::new(folder.join("profiles"))
    }

    fn names(profiles: &Profiles) -> Vec<String> {
        profiles.list().expect("listed").into_iter().map(|profile| profile.name).collect()
    }

    #[test]
    fn profiles_are_saved_used_and_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let profiles = profiles(folder.path());
        assert_eq!((names(&profiles), profiles.in_use().expect("none")), (vec![], None));
        let model = test_model(None, 1);
        profiles.save("club", &model).expect("saved");
        profiles.save("Alte Kirche", &model).expect("saved");
        assert!(matches!(profiles.save("club", &model), Err(ProfileError::Exists { .. })));
        assert_eq!(names(&profiles), ["Alte Kirche", "club"]);
        profiles.use_profile(Some("club")).expect("used");
        assert_eq!(profiles.in_use().expect("said").as_deref(), Some("club"));
        assert_eq!(profiles.in_use_path().expect("there"), Some(profiles.path("club").expect("a name")));
        assert!(profiles.list().expect("listed")[1].is_in_use);
        // Removing what is in use goes back to the built-in model.
        profiles.remove("club").expect("removed");
        assert_eq!((names(&profiles), profiles.in_use().expect("none")), (vec!["Alte Kirche".to_owned()], None));
        let message = profiles.use_profile(Some("club")).expect_err("gone").to_string();
        assert!(message.contains("no profile \"club\"; there are Alte Kirche"), "{message}");
        profiles.use_profile(None).expect("nothing to do");
    }

    #[test]
    fn names_that_lead_elsewhere_and_damaged_files_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let profiles = profiles(folder.path());
        for name in ["", "default", "../x", "a/b", "a\\b", ".hidden", "x.", " x", "a\nb", &"x".repeat(61)] {
            assert!(profiles.path(name).is_err(), "{name:?}");
        }
        fs::create_dir_all(profiles.folder()).expect("made");
        fs::write(profiles.folder().join("broken.safetensors"), b"no model").expect("written");
        assert!(profiles.use_profile(Some("broken")).is_err());
        assert_eq!(profiles.in_use().expect("unchanged"), None);
        fs::write(profiles.folder().join(IN_USE), b"{\"version\": 2, \"profile\": \"x\"}").expect("written");
        assert!(profiles.in_use().expect_err("newer").to_string().contains("of version 2"));
        assert_eq!(names(&profiles), ["broken"], "a damaged choice hides nothing");
        profiles.remove("broken").expect("removed");
    }

    #[test]
    fn wherever_the_power_goes_profiles_are_whole_or_absent() {
        let folder = tempfile::tempdir().expect("a folder");
        let (whole, model) = (profiles(folder.path()), test_model(None, 1));
        whole.save("old", &model).expect("saved");
        whole.use_profile(Some("old")).expect("used");
        let after = |steps| Profiles { folder: whole.folder.clone(), disk: Box::new(PowerCut::after(steps)) };
        let check = || {
            for name in names(&whole) {
                whole.load(&name).expect("whole");
            }
            let in_use = whole.in_use().expect("readable");
            assert!(in_use.is_none_or(|name| whole.load(&name).is_ok()));
        };
        let mut cuts = 0;
        let mut until_done = |act: &dyn Fn(&Profiles) -> Result<(), ProfileError>| {
            for steps in 0.. {
                let done = act(&after(steps)).is_ok();
                check();
                if done {
                    break;
                }
                cuts += 1;
            }
        };
        until_done(&|profiles| profiles.save("new", &model).map(drop));
        until_done(&|profiles| profiles.use_profile(Some("new")));
        // A cut may come after the step that counts; then there is nothing left to remove.
        until_done(&|profiles| match profiles.remove("new") {
            Err(ProfileError::Absent { .. }) => Ok(()),
            result => result,
        });
        assert!(cuts >= 7, "{cuts}");
        assert_eq!((names(&whole), whole.in_use().expect("none")), (vec!["old".to_owned()], None));
    }
}
