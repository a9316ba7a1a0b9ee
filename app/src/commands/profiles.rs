//! `earmark profiles`: adapted models, and which is in use.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use earmark_core::adapt::{BUILT_IN, Profile, Report};
use earmark_core::model_file::{Model, ModelMetadata};
use serde_json::json;

use super::Exit;
use crate::args::{ProfilesArgs, ProfilesCommand};
use crate::console::Console;
use crate::inputs::shown;
use crate::output::{SPEC_VERSION, timestamp};
use crate::places;
use crate::report::table;

/// Runs a `profiles` command.
///
/// # Errors
/// The profile that is not there, or the file that cannot be read or written.
pub fn run(args: ProfilesArgs) -> Result<Exit> {
    let profiles = places::profiles()?;
    let console = Console::new(false);
    match args.command.unwrap_or(ProfilesCommand::List { json: false }) {
        ProfilesCommand::List { json } => {
            let listed: Vec<Row> = profiles.list()?.into_iter().map(Row::new).collect();
            let built_in_is_used = profiles.in_use()?.is_none();
            let text = if json { list_json(&listed)? } else { list(&listed, built_in_is_used) };
            super::print(text.as_bytes())?;
        }
        ProfilesCommand::Show { name, .. } if name == BUILT_IN => {
            bail!("{BUILT_IN} is the built-in model and not adapted; earmark model info shows it");
        }
        ProfilesCommand::Remove { name } if name == BUILT_IN => {
            bail!("{BUILT_IN} is the built-in model, which stays; earmark profiles lists what can be removed");
        }
        ProfilesCommand::Show { name, json } => {
            let model = profiles.load(&name)?;
            let text = if json {
                serde_json::to_string_pretty(&model.metadata.training)? + "\n"
            } else {
                show(&model.metadata)
            };
            super::print(text.as_bytes())?;
        }
        ProfilesCommand::Use { name } if name == BUILT_IN => {
            profiles.use_profile(None)?;
            console.note("the built-in model is in use");
        }
        ProfilesCommand::Use { name } => {
            profiles.use_profile(Some(&name))?;
            console.note(format!("profile {name} is in use; earmark profiles use {BUILT_IN} goes back"));
        }
        ProfilesCommand::Remove { name } => {
            profiles.remove(&name)?;
            console.note(format!("profile {name} is removed"));
        }
    }
    Ok(Exit::Done)
}

/// Where no model is named, that of the profile in use; says so.
///
/// # Errors
/// If a profile is in use and cannot be: another model than was chosen would give other results without a word.
pub fn take_in_use(model: &mut Option<PathBuf>, console: &Console) -> Result<()> {
    if model.is_some() {
        return Ok(());
    }
    *model = in_use()?;
    if let Some(name) = model.as_deref().and_then(Path::file_stem) {
        console.note(format!("with profile {} ({})", shown(name.as_ref()), way_back()));
    }
    Ok(())
}

/// File of the profile in use; `None` is the built-in model.
///
/// # Errors
/// As [`take_in_use`].
pub fn in_use() -> Result<Option<PathBuf>> {
    // A system without a place for profiles has none.
    let Ok(profiles) = places::profiles() else { return Ok(None) };
    profiles.in_use_path().with_context(way_back)
}

fn way_back() -> String {
    format!("earmark profiles use {BUILT_IN} goes back to the built-in model")
}

/// A profile and what its file says.
struct Row {
    profile: Profile,
    metadata: Result<ModelMetadata, String>,
}

impl Row {
    fn new(profile: Profile) -> Self {
        let metadata = Model::load(&profile.path).map(|model| model.metadata).map_err(|error| error.to_string());
        Self { profile, metadata }
    }

    fn about(&self) -> String {
        let metadata = match &self.metadata {
            Ok(metadata) => metadata,
            Err(error) => return format!("cannot be used: {error}"),
        };
        let meter = match metadata.noise_meter.as_ref().and_then(|meter| meter.accuracy) {
            Some(accuracy) => format!("noise meter right in {:.0} % of cases", 100.0 * accuracy),
            None => "no noise meter".to_owned(),
        };
        let stages = metadata.training["adapted"]["settings"]["stages"].as_str();
        let tags = if stages == Some("dat") { "tags adapted, " } else { "" };
        let from = metadata.training["adapted_from"]["name"].as_str().map(|from| format!(", from {from}"));
        format!("{tags}{meter}{}", from.unwrap_or_default())
    }
}

fn list(rows: &[Row], built_in_is_used: bool) -> String {
    let width = rows.iter().map(|row| row.profile.name.chars().count()).max().unwrap_or(0).max(BUILT_IN.len());
    let mark = |is_used| if is_used { '*' } else { ' ' };
    let mut text = format!("{} {BUILT_IN:width$}             the built-in model\n", mark(built_in_is_used));
    for row in rows {
        let Profile { name, bytes, is_in_use, .. } = &row.profile;
        let megabytes = *bytes as f64 / 1e6;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} {name:width$}  {megabytes:6.1} MB  {}", mark(*is_in_use), row.about());
    }
    text += "\n* in use\n";
    text
}

fn list_json(rows: &[Row]) -> Result<String> {
    let profiles: Vec<_> = rows
        .iter()
        .map(|row| {
            let Profile { name, path, bytes, modified, is_in_use } = &row.profile;
            let metadata = row.metadata.as_ref().ok();
            json!({
                "name": name, "file": path, "bytes": bytes, "modified": modified.map(timestamp), "in_use": is_in_use,
                "error": row.metadata.as_ref().err(),
                "noise_meter": metadata.and_then(|metadata| metadata.noise_meter.as_ref()),
                "stages": metadata.map(|metadata| &metadata.training["adapted"]["settings"]["stages"]),
                "adapted_from": metadata.map(|metadata| &metadata.training["adapted_from"]["name"]),
            })
        })
        .collect();
    Ok(serde_json::to_string_pretty(&json!({ "spec_version": SPEC_VERSION, "profiles": profiles }))? + "\n")
}

fn show(metadata: &ModelMetadata) -> String {
    let (adapted, from) = (&metadata.training["adapted"], &metadata.training["adapted_from"]);
    let word = |value: &serde_json::Value| value.as_str().unwrap_or("unknown").to_owned();
    let mut text = format!(
        "{}\nadapted on {} by {}, from the model {}\nlicence {}\n",
        metadata.name,
        word(&adapted["created"]),
        word(&adapted["program"]),
        word(&from["name"]),
        metadata.licence
    );
    match serde_json::from_value::<Report>(adapted["report"].clone()) {
        Ok(report) => {
            text += "\n";
            text += &table(&report);
        }
        Err(_) => text += "it does not say how it did before and after\n",
    }
    text
}

#[cfg(test)]
mod tests {
    use earmark_core::model_file::MeterMetadata;
    use earmark_core::weights::Architecture;

    use super::*;

    fn row(name: &str, is_in_use: bool, accuracy: Option<f64>) -> Row {
        let mut metadata = ModelMetadata::new(name, Architecture::scaled(0.1, 3, None, 1), vec!["rock".into()]);
        metadata.noise_meter =
            accuracy.map(|accuracy| MeterMetadata { hidden: 4, scale: 1.0, offset: 0.0, accuracy: Some(accuracy) });
        metadata.training = json!({
            "adapted": { "settings": { "stages": "dat" }, "created": "2026-01-02", "program": "earmark 1" },
            "adapted_from": { "name": "earmark-open-1" },
        });
        let path = PathBuf::from(name);
        Row {
            profile: Profile { name: name.into(), path, bytes: 1_300_000, modified: None, is_in_use },
            metadata: Ok(metadata),
        }
    }

    #[test]
    fn the_list_says_what_is_used_and_what_it_is_worth() {
        let mut broken = row("odd", false, None);
        broken.metadata = Err("no model".into());
        let text = list(&[row("club", true, Some(0.94)), broken], false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "  default             the built-in model");
        assert_eq!(
            lines[1],
            "* club        1.3 MB  tags adapted, noise meter right in 94 % of cases, from earmark-open-1"
        );
        assert_eq!(lines[2], "  odd         1.3 MB  cannot be used: no model");
        assert!(list(&[], true).starts_with("* default"));
    }

    #[test]
    fn showing_one_tells_where_it_comes_from() {
        let text = show(row("club", false, None).metadata.as_ref().expect("there"));
        assert!(
            text.starts_with("club\nadapted on 2026-01-02 by earmark 1, from the model earmark-open-1\n"),
            "{text}"
        );
        assert!(text.contains("does not say how it did"), "{text}");
    }
}
