//! `earmark model import`: a model file from trained weights.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use earmark_core::model::import;
use earmark_core::model_file::{Model, ModelMetadata};
use serde_json::json;

use crate::args::ImportArgs;
use crate::console::Console;
use crate::inputs::shown;

/// Reads the weights, adds what they do not say of themselves, and writes the model file.
///
/// # Errors
/// The file that cannot be read or written, or the rule that it breaks.
pub fn run(args: ImportArgs) -> Result<()> {
    let ImportArgs { input, output, tags, threshold, name, licence } = args;
    ensure!((0.0..=1.0).contains(&threshold), "threshold is {threshold}; it must be between 0 and 1");
    let (architecture, weights) = import::read(&input)?;
    let tags = match tags {
        Some(file) => read_tags(&file, threshold)?,
        None => default_tags(architecture.num_tags, threshold)?,
    };
    let (tags, thresholds) = tags.into_iter().unzip();
    let name = name.unwrap_or_else(|| output.file_stem().map_or_else(String::new, |stem| shown(stem.as_ref())));
    let metadata = ModelMetadata {
        thresholds,
        training: json!({ "imported_from": shown(input.file_name().unwrap_or_default().as_ref()) }),
        licence,
        ..ModelMetadata::new(name, architecture, tags)
    };
    let model = Model { metadata, weights, domain_classifier: None };
    model.validate()?;
    model.save(&output)?;
    let ModelMetadata { name, tags, .. } = &model.metadata;
    Console::new(false).note(format!("wrote {}: model {name}, {} tags", shown(&output), tags.len()));
    Ok(())
}

/// A tag and its threshold.
type Tag = (String, f32);

fn default_tags(num_tags: usize, threshold: f32) -> Result<Vec<Tag>> {
    let known = earmark_assets::MTAT_TAGS;
    ensure!(
        num_tags == known.len(),
        "these weights have {num_tags} outputs, not the {} of MagnaTagATune; name them with --tags FILE",
        known.len()
    );
    Ok(known.iter().map(|&tag| (tag.to_owned(), threshold)).collect())
}

fn read_tags(file: &Path, threshold: f32) -> Result<Vec<Tag>> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read the tags in {}", shown(file)))?;
    parse_tags(&text, threshold).with_context(|| format!("the tags in {} are wrong", shown(file)))
}

/// One tag per line, with an optional tab and threshold; blank lines do not count.
fn parse_tags(text: &str, default_threshold: f32) -> Result<Vec<Tag>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| match line.split_once('\t') {
            None => Ok((line.trim().to_owned(), default_threshold)),
            Some((name, threshold)) => {
                let threshold = threshold.trim();
                let parsed = threshold.parse().with_context(|| {
                    format!("line {}: the threshold '{threshold}' is not a number between 0 and 1", index + 1)
                })?;
                Ok((name.trim().to_owned(), parsed))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_lists_may_carry_thresholds() {
        let tags = parse_tags("rock\t0.25\n\nno vocals\r\n", 0.5).expect("valid");
        assert_eq!(tags, [("rock".to_owned(), 0.25), ("no vocals".to_owned(), 0.5)]);
        let error = parse_tags("a\nrock\tloud", 0.5).expect_err("refused").to_string();
        assert!(error.contains("line 2") && error.contains("loud"), "{error}");
    }

    #[test]
    fn the_default_tags_need_fifty_outputs() {
        assert_eq!(default_tags(50, 0.5).expect("valid").len(), 50);
        assert!(default_tags(10, 0.5).expect_err("refused").to_string().contains("--tags"));
    }
}
