//! `train --stage all`: from nothing to tables. Every run of the plan, its evaluation, and one report; what is done is
//! not done again.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use earmark_train::comparison::{self, EVALUATION_FILE, ReportArgs};
use earmark_train::config::{AllConfig, Config};
use earmark_train::eval::noise::{NamedFolder, NoiseArgs};
use earmark_train::plan::{self, PlannedRun};
use earmark_train::run::{RunFolder, Stage, write_atomically};
use earmark_train::stages::Outcome;

use super::evaluate::Evaluation;
use super::train::{Job, Start, TrainArgs, resume_command, train_stage, unchanged};
use super::{Failure, progress};

/// The experiment's configuration, in its folder.
const EXPERIMENT_FILE: &str = "experiment.toml";

/// Runs the experiment in `out`, or continues it.
pub fn run(args: &TrainArgs, out: &Path, stop: &AtomicBool) -> Result<(), Failure> {
    if args.fe.is_some() || args.dc.is_some() {
        return Err(Failure::usage("--fe and --dc name what one stage starts from; --stage all trains all of it"));
    }
    let config = configuration(args, out)?;
    let runs = plan::plan(&config).map_err(Failure::Usage)?;
    let all = config.all.clone().unwrap_or_default();
    let noise = noise(&all, args)?;
    let stopped = || {
        println!("continue with: {}", resume_command(args, "all", out, args.device));
        Ok(())
    };
    for (index, run) in runs.iter().enumerate() {
        eprintln!("run {} of {}: {}", index + 1, runs.len(), run.folder.display());
        if train(run, args, out, stop)? == Outcome::Interrupted || stop.load(Ordering::Relaxed) {
            return stopped();
        }
    }
    let models: Vec<&PlannedRun> = runs.iter().filter(|run| run.stage == Stage::Dat).collect();
    let record = |run: &PlannedRun| out.join(&run.folder).join(EVALUATION_FILE);
    let left: Vec<&&PlannedRun> = models.iter().filter(|run| !record(run).is_file()).collect();
    if let Some(first) = left.first() {
        let data = args.data.as_deref().ok_or_else(|| Failure::usage("--data is required"))?;
        let tags = RunFolder::open(&out.join(&first.folder))?.identity()?.tags;
        let (rule, cache, progress) = (config.data.split, args.cache.open()?, progress(args.no_progress));
        // Clips and noises are decoded once for all models.
        let evaluation = Evaluation::load(data, rule, all.split, &tags, &noise, cache, progress)?
            .with_min_positives(all.min_positives);
        for run in left {
            if stop.load(Ordering::Relaxed) {
                return stopped();
            }
            eprintln!("evaluating {}", run.folder.display());
            let found = evaluation.of_run(&RunFolder::open(&out.join(&run.folder))?, &run.name)?;
            write_atomically(&record(run), &serde_json::to_vec_pretty(&found).context("the record")?)?;
        }
    }
    let report = ReportArgs::new(models.iter().map(|run| out.join(&run.folder)).collect(), out.join("report"));
    for written in comparison::run(&report)? {
        println!("{}", written.display());
    }
    Ok(())
}

/// Trains a run of the plan unless that is done.
fn train(run: &PlannedRun, args: &TrainArgs, out: &Path, stop: &AtomicBool) -> Result<Outcome, Failure> {
    let folder = out.join(&run.folder);
    let begun = RunFolder::must_be_free(&folder).is_err();
    if begun {
        let found = RunFolder::open(&folder)?;
        let changes = run.config.changes_since(found.config())?;
        if found.stage()? != run.stage || !changes.is_empty() {
            let changes = changes.join(", ");
            let message = format!("holds another run than the experiment asks for ({changes}); move it away");
            return Err(Failure::usage(format!("{}: {message}", folder.display())));
        }
        if found.is_finished()? {
            return Ok(Outcome::Finished);
        }
    }
    let within = |start: &Option<PathBuf>| start.as_ref().map(|start| out.join(start));
    let start = Start { fe: within(&run.fe), dc: within(&run.dc) };
    let job = Job { stage: run.stage, config: run.config.clone(), out: &folder, start, resume: begun };
    train_stage(job, args, stop)
}

/// The configuration of a new experiment, which is then saved, or that of the one which is resumed.
fn configuration(args: &TrainArgs, out: &Path) -> Result<Config, Failure> {
    let saved = out.join(EXPERIMENT_FILE);
    let named = args.config.as_ref().map(|path| Config::load(path, &args.set)).transpose().map_err(Failure::Usage)?;
    if args.resume {
        if !saved.is_file() {
            let message = format!("holds no experiment (no {EXPERIMENT_FILE}); start one without --resume");
            return Err(Failure::usage(format!("{}: {message}", out.display())));
        }
        let config = Config::load(&saved, &[]).map_err(Failure::Usage)?;
        if let Some(named) = named {
            unchanged(args, &named, &config)?;
        }
        return Ok(config);
    }
    if saved.is_file() {
        let message = "holds an experiment already; continue it with --resume or name another folder";
        return Err(Failure::usage(format!("{}: {message}", out.display())));
    }
    let config = named.ok_or_else(|| Failure::usage("--config is required"))?;
    plan::plan(&config).map_err(Failure::Usage)?;
    std::fs::create_dir_all(out).with_context(|| format!("{}: cannot be created", out.display()))?;
    write_atomically(&saved, config.to_toml()?.as_bytes())?;
    Ok(config)
}

/// The noises that models are measured in.
fn noise(all: &AllConfig, args: &TrainArgs) -> Result<NoiseArgs, Failure> {
    let data = args.data.as_deref().unwrap_or(Path::new(""));
    let within = |text: &String| -> Result<NamedFolder, Failure> {
        let named =
            NamedFolder::from_str(text).map_err(|rule| Failure::usage(format!("all.noises: '{text}': {rule}")))?;
        Ok(NamedFolder { folder: data.join(named.folder), ..named })
    };
    let noises: Vec<NamedFolder> = all.noises.iter().map(within).collect::<Result<_, _>>()?;
    let lists = all.noise_lists.iter().map(|list| data.join(list)).collect();
    let noise = NoiseArgs { noise_list: lists, tsne: all.tsne_snr_db, ..NoiseArgs::of(noises) };
    noise.validate().map_err(Failure::Usage)?;
    Ok(noise)
}
