//! What was listened to the last time: a small file beside the settings.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use directories::ProjectDirs;
use earmark_core::live::SourceChoice;
use serde::{Deserialize, Serialize};

use crate::kept;

/// Version of the file.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Remembered {
    version: u32,
    source: SourceChoice,
}

/// Where it lies; `None` where the system has no place for settings.
fn path() -> Option<PathBuf> {
    ProjectDirs::from("", "", "earmark").map(|folders| folders.config_dir().join("live.json"))
}

/// The last choice, if there is one.
///
/// # Errors
/// The file, and what is wrong with it.
pub fn load() -> Result<Option<SourceChoice>> {
    path().map_or(Ok(None), |path| load_from(&path))
}

/// Remembers a choice.
///
/// # Errors
/// The file that cannot be written.
pub fn save(choice: &SourceChoice) -> Result<()> {
    path().map_or(Ok(()), |path| save_to(&path, choice))
}

fn load_from(path: &Path) -> Result<Option<SourceChoice>> {
    let shown = path.display();
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("cannot read {shown}"))?,
    };
    let wrong = || format!("{shown} is wrong; delete it, and choose again with --input or --system");
    let value: serde_json::Value = serde_json::from_str(&text).with_context(wrong)?;
    let version = value["version"].as_u64();
    ensure!(
        version == Some(u64::from(VERSION)),
        "{shown} is of version {}, where this build reads {VERSION}; delete it, and choose again",
        version.map_or_else(|| "none".to_owned(), |version| version.to_string())
    );
    Ok(Some(Remembered::deserialize(value).with_context(wrong)?.source))
}

fn save_to(path: &Path, choice: &SourceChoice) -> Result<()> {
    kept::write_json(path, &Remembered { version: VERSION, source: choice.clone() })
}

#[cfg(test)]
mod tests {
    use earmark_core::live::DeviceKind;

    use super::*;

    #[test]
    fn a_choice_comes_back_and_damage_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/live.json");
        assert_eq!(load_from(&path).expect("none yet"), None);
        for choice in [
            SourceChoice::Default(DeviceKind::System),
            SourceChoice::Device { id: "usb".into(), name: "USB Audio".into() },
        ] {
            save_to(&path, &choice).expect("written");
            assert_eq!(load_from(&path).expect("readable"), Some(choice));
        }
        fs::write(&path, "{\"version\":2}").expect("written");
        assert!(load_from(&path).expect_err("refused").to_string().contains("version 2"));
        fs::write(&path, "{").expect("written");
        assert!(load_from(&path).expect_err("refused").to_string().contains("delete it"));
    }
}
