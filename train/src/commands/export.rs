//! `train export`: from a run to a model file.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use earmark_core::engine::CpuEngine;
use earmark_core::model_file::Model;
use earmark_train::config::MIN_POSITIVES;
use earmark_train::data::cache::CacheArgs;
use earmark_train::data::items::Split;
use earmark_train::eval::report::Report;
use earmark_train::progress::Progress;
use earmark_train::run::RunFolder;
use earmark_train::stages::validation::Which;
use earmark_train::{dataset, eval, export, weights};

use super::progress;

/// Arguments of `train export`.
#[derive(Args)]
pub struct ExportArgs {
    /// The run.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Which weights of the run.
    #[arg(long, value_enum, default_value_t)]
    weights: Which,
    /// Model file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Name of the model.
    #[arg(long, default_value = "earmark")]
    name: String,
    /// Licence of the weights (SPDX expression).
    #[arg(long, default_value = "CC-BY-SA-4.0")]
    licence: String,
    /// Measure the model on the validation and the test split of this data set and write the measures into the file.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    cache: CacheArgs,
    /// Show no progress.
    #[arg(long)]
    no_progress: bool,
}

/// `train export`.
pub fn run(args: &ExportArgs) -> Result<()> {
    let run = RunFolder::open(&args.run)?;
    let mut model = export::model_of_run(&run, args.weights, &args.name, &args.licence)?;
    if let Some(data) = &args.data {
        model.save(&args.out)?;
        // What is measured is the file as written, 16-bit weights included.
        let written = Model::load(&args.out)?;
        let (rule, cache, tags) = (run.config().data.split, args.cache.open()?, &written.metadata.tags);
        let engine = CpuEngine::new(&written, 1)?;
        let progress: Progress = progress(args.no_progress);
        let mut measures = serde_json::Map::new();
        for split in [Split::Valid, Split::Test] {
            let clips = dataset::load_split(data, rule, split, tags, cache.as_ref(), progress)?;
            let scores = eval::score(&engine, &clips, progress)?;
            let report = Report::new(&scores, &clips, tags, split, MIN_POSITIVES);
            measures.insert(split.to_string(), serde_json::to_value(report)?);
        }
        model.metadata.metrics = measures.into();
    }
    model.save(&args.out)?;
    println!(
        "{}: {} tags, {} parameters",
        args.out.display(),
        model.metadata.tags.len(),
        weights::num_parameters(&model)
    );
    Ok(())
}
