//! `train export`: from a run to a model file.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use earmark_core::engine::CpuEngine;
use earmark_core::model_file::Model;
use earmark_core::tags::{self, Calibration};
use earmark_train::config::MIN_POSITIVES;
use earmark_train::data::cache::CacheArgs;
use earmark_train::data::items::Split;
use earmark_train::data::mtat::SplitRule;
use earmark_train::eval::report::Report;
use earmark_train::eval::thresholds;
use earmark_train::run::RunFolder;
use earmark_train::stages::validation::Which;
use earmark_train::{dataset, eval, export, weights};

use super::progress;

/// Arguments of `train export`.
#[derive(Args)]
pub struct ExportArgs {
    /// The run.
    #[arg(long, value_name = "DIR", required_unless_present = "model", conflicts_with = "model")]
    run: Option<PathBuf>,
    /// A model file instead of a run: it is written again with what --data says of it, and is otherwise the same.
    #[arg(long, value_name = "FILE", requires = "data")]
    model: Option<PathBuf>,
    /// Which weights of the run.
    #[arg(long, value_enum, default_value_t, conflicts_with = "model")]
    weights: Which,
    /// Model file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Name of the model [default: earmark, or as in --model].
    #[arg(long)]
    name: Option<String>,
    /// Licence of the weights, an SPDX expression [default: CC-BY-SA-4.0, or as in --model].
    #[arg(long)]
    licence: Option<String>,
    /// Measure the model on the validation and the test split of this data set, calibrate thresholds on the validation
    /// split (for `earmark tag --target-precision`), and write both into the file.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// What decides the split of a clip [default: as in --run, else folders].
    #[arg(long, value_enum)]
    split_rule: Option<SplitRule>,
    #[command(flatten)]
    cache: CacheArgs,
    /// Show no progress.
    #[arg(long)]
    no_progress: bool,
}

/// `train export`.
pub fn run(args: &ExportArgs) -> Result<()> {
    let (mut model, rule) = open(args)?;
    if let Some(data) = &args.data {
        // What is measured is the file as it will be read, 16-bit weights included.
        let written = Model::from_bytes(&model.to_bytes()?, &args.out.display().to_string())?;
        let (rule, cache, names) = (args.split_rule.unwrap_or(rule), args.cache.open()?, &written.metadata.tags);
        let (engine, progress) = (CpuEngine::new(&written, 1)?, progress(args.no_progress));
        let mut measures = serde_json::Map::new();
        for split in [Split::Valid, Split::Test] {
            let clips = dataset::load_split(data, rule, split, names, cache.as_ref(), progress)?;
            let scores = eval::score(&engine, &clips, progress)?;
            let report = Report::new(&scores, &clips, names, split, MIN_POSITIVES);
            measures.insert(split.to_string(), serde_json::to_value(report)?);
            if split == Split::Valid {
                let targets: Vec<bool> = clips.iter().flat_map(|clip| clip.entry.tag_targets.iter().copied()).collect();
                let (split, probabilities) = (split.to_string(), &scores.clip_probabilities);
                model.metadata.calibration = Some(thresholds::calibrate(&split, names.len(), probabilities, &targets));
            }
        }
        model.metadata.metrics = measures.into();
    }
    model.save(&args.out)?;
    let (num_tags, num_parameters) = (model.metadata.tags.len(), weights::num_parameters(&model));
    println!("{}: {num_tags} tags, {num_parameters} parameters", args.out.display());
    if let Some(Calibration { split, num_clips, tags }) = &model.metadata.calibration {
        let supported = tags.iter().filter(|tag| tag.positives >= tags::MIN_POSITIVES).count();
        println!("calibrated on {num_clips} clips ({split}): {supported} of {} tags have support", tags.len());
    } else {
        println!("not calibrated: --data DIR adds what --target-precision needs");
    }
    Ok(())
}

/// The model to write, and what decides the split of a clip.
fn open(args: &ExportArgs) -> Result<(Model, SplitRule)> {
    let (name, licence) = (args.name.as_deref(), args.licence.as_deref());
    match (&args.run, &args.model) {
        (Some(run), _) => {
            let run = RunFolder::open(run)?;
            let (name, licence) = (name.unwrap_or("earmark"), licence.unwrap_or("CC-BY-SA-4.0"));
            Ok((export::model_of_run(&run, args.weights, name, licence)?, run.config().data.split))
        }
        (None, Some(file)) => {
            let mut model = Model::load(file)?;
            name.inspect(|&name| name.clone_into(&mut model.metadata.name));
            licence.inspect(|&licence| licence.clone_into(&mut model.metadata.licence));
            Ok((model, SplitRule::default()))
        }
        (None, None) => bail!("name a --run or a --model"),
    }
}
