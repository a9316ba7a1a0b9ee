//! `train evaluate` and `train metrics`: how good a model is.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use earmark_core::model_file::Model;
use earmark_train::config::MIN_POSITIVES;
use earmark_train::data::cache::{Cache, CacheArgs};
use earmark_train::data::clips::Clip;
use earmark_train::data::items::Split;
use earmark_train::data::mtat::SplitRule;
use earmark_train::dataset;
use earmark_train::eval::noise::{NoiseArgs, NoiseSet};
use earmark_train::eval::record::{self, Plan, Record};
use earmark_train::eval::{Scores, report};
use earmark_train::export;
use earmark_train::progress::Progress;
use earmark_train::run::{RunFolder, write_atomically};
use earmark_train::stages::validation::Which;

use super::{Failure, progress};

/// Arguments of `train evaluate`.
#[derive(Args)]
pub struct EvaluateArgs {
    /// Model file.
    #[arg(long, value_name = "FILE", required_unless_present = "run", conflicts_with = "run")]
    model: Option<PathBuf>,
    /// Run whose weights are measured.
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Which weights of the run.
    #[arg(long, value_enum, default_value_t, conflicts_with = "model")]
    weights: Which,
    /// Data set in MagnaTagATune's layout.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Part of the data set.
    #[arg(long)]
    split: Split,
    /// What decides the split of a clip [default: as in --run, else folders].
    #[arg(long, value_enum)]
    split_rule: Option<SplitRule>,
    #[command(flatten)]
    cache: CacheArgs,
    /// Also measure only the tags with at least this many positive clips.
    #[arg(long, value_name = "N", default_value_t = MIN_POSITIVES)]
    min_positives: usize,
    /// Write the clip probabilities and targets as CSV.
    #[arg(long, value_name = "FILE")]
    scores: Option<PathBuf>,
    #[command(flatten)]
    noise: NoiseArgs,
    /// How the model was trained, e.g. baseline, for `train report` [default: what its training calls itself].
    #[arg(long, value_name = "NAME")]
    method: Option<String>,
    /// Write every figure as JSON to this file, or print it if no file is named.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<PathBuf>,
    /// Show no progress.
    #[arg(long)]
    no_progress: bool,
}

/// Arguments of `train metrics`.
#[derive(Args)]
pub struct MetricsArgs {
    /// CSV with the columns `clip_id`, `tag`, `probability`, `target`.
    scores: PathBuf,
    /// Also measure only the tags with at least this many positive clips.
    #[arg(long, value_name = "N", default_value_t = MIN_POSITIVES)]
    min_positives: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Clips and noises that models are measured on, decoded.
pub struct Evaluation<'a> {
    data: &'a Path,
    split: Split,
    min_positives: usize,
    noise: &'a NoiseArgs,
    clips: Vec<Clip>,
    noises: Vec<NoiseSet>,
    progress: Progress,
}

impl<'a> Evaluation<'a> {
    /// Decodes the clips of `split` for models that know `tags`, and the noises. A tag counts among the frequent ones
    /// from [`MIN_POSITIVES`] on.
    pub fn load(
        data: &'a Path,
        rule: SplitRule,
        split: Split,
        tags: &[String],
        noise: &'a NoiseArgs,
        cache: Option<Cache>,
        progress: Progress,
    ) -> Result<Self> {
        let noises = noise.load(cache.as_ref(), progress)?;
        for set in noises.iter().filter(|set| !set.left_out.is_empty()) {
            let (count, name, first) = (set.left_out.len(), &set.name, &set.left_out[0]);
            eprintln!("warning: {count} noises of '{name}' were left out; the first: {first}");
        }
        let clips = dataset::load_split(data, rule, split, tags, cache.as_ref(), progress)?;
        Ok(Self { data, split, min_positives: MIN_POSITIVES, noise, clips, noises, progress })
    }

    /// The same with another number of positives that makes a tag frequent.
    #[must_use]
    pub fn with_min_positives(self, min_positives: usize) -> Self {
        Self { min_positives, ..self }
    }

    /// Measures the best weights of a run, whose method is called `name`.
    pub fn of_run(&self, run: &RunFolder, name: &str) -> Result<Record> {
        let model = export::model_of_run(run, Which::Best, name, "")?;
        Ok(self.of_model(&model, Some(name))?.0)
    }

    fn of_model(&self, model: &Model, method: Option<&str>) -> Result<(Record, Scores)> {
        let plan = Plan {
            root: self.data,
            split: self.split,
            min_positives: self.min_positives,
            noises: &self.noises,
            snrs_db: &self.noise.snrs_db(),
            num_noises: self.noise.num_noises,
            seed: self.noise.seed,
            tsne_snr_db: self.noise.tsne,
        };
        record::evaluate(model, method, &self.clips, &plan, self.progress)
    }
}

/// `train evaluate`.
pub fn run(args: &EvaluateArgs) -> Result<(), Failure> {
    args.noise.validate().map_err(Failure::Usage)?;
    Ok(evaluate(args)?)
}

fn evaluate(args: &EvaluateArgs) -> Result<()> {
    let model = match (&args.model, &args.run) {
        (Some(path), _) => Model::load(path)?,
        (None, Some(run)) => export::model_of_run(&RunFolder::open(run)?, args.weights, "run", "")?,
        (None, None) => bail!("name a --model or a --run"),
    };
    let rule = match (args.split_rule, &args.run) {
        (Some(rule), _) => rule,
        (None, Some(run)) => RunFolder::open(run)?.config().data.split,
        (None, None) => SplitRule::default(),
    };
    let (tags, cache, progress) = (&model.metadata.tags, args.cache.open()?, progress(args.no_progress));
    let evaluation = Evaluation::load(&args.data, rule, args.split, tags, &args.noise, cache, progress)?;
    let evaluation = evaluation.with_min_positives(args.min_positives);
    let (record, clean) = evaluation.of_model(&model, args.method.as_deref())?;
    if let Some(path) = &args.scores {
        let table = report::ScoreTable::new(&clean, &evaluation.clips, tags);
        write_atomically(path, table.to_csv()?.as_bytes())?;
    }
    let json = || serde_json::to_string_pretty(&record);
    match &args.json {
        Some(path) if path.as_os_str() == "-" => println!("{}", json()?),
        Some(path) => {
            write_atomically(path, json()?.as_bytes())?;
            print!("{}", record.text());
        }
        None => print!("{}", record.text()),
    }
    Ok(())
}

/// `train metrics`.
pub fn metrics(args: &MetricsArgs) -> Result<()> {
    let table = report::ScoreTable::read(&args.scores)?;
    let metrics = table.metrics(1);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&metrics)?);
    } else {
        print!("{}", report::metrics_text("clips", &metrics, args.min_positives));
    }
    Ok(())
}
