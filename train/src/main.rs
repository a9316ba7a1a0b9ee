//! The binary `train`: parses the command line, calls the library, prints.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use clap::{Args, Parser, Subcommand, ValueEnum};
use earmark_core::engine::{self, CpuEngine, DeviceChoice, EngineError, Notify};
use earmark_core::model_file::Model;
use earmark_train::comparison::{self, ReportArgs};
use earmark_train::config::Config;
use earmark_train::data::mtat::Split;
use earmark_train::dataset::{self, Dataset};
use earmark_train::eval::noise::NoiseArgs;
use earmark_train::eval::record::{self, Plan};
use earmark_train::eval::report::Report;
use earmark_train::eval::{self, report};
use earmark_train::progress::Progress;
use earmark_train::run::RunFolder;
use earmark_train::stages::supervised::{self, Outcome, Which};
use earmark_train::{export, rng, weights};

/// Trains Earmark's networks and measures them.
///
/// Exit codes: 0 done (or interrupted with its state saved), 1 failed, 2 wrong usage or configuration.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    train: TrainArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Stage {
    /// The supervised reference: feature extractor and head on tag targets.
    Supervised,
}

#[derive(Args)]
struct TrainArgs {
    /// What to train.
    #[arg(long, required = true)]
    stage: Option<Stage>,
    /// TOML configuration; train/configs has some. Not needed with --resume.
    #[arg(long, value_name = "FILE", required_unless_present = "resume")]
    config: Option<PathBuf>,
    /// Data set in MagnaTagATune's layout: the folder with `annotations_final.csv`.
    #[arg(long, value_name = "DIR", required = true)]
    data: Option<PathBuf>,
    /// Folder of the run [default: runs/CONFIG-seedN].
    #[arg(long, value_name = "RUN", required_if_eq("resume", "true"))]
    out: Option<PathBuf>,
    /// Continue the run in --out from its newest checkpoint.
    #[arg(long)]
    resume: bool,
    /// Override a value of the configuration, e.g. supervised.epochs=3. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "resume")]
    set: Vec<String>,
    /// Where to train: cpu, wgpu (the first GPU), wgpu:N as `earmark devices` lists them, or auto, which takes a GPU if
    /// it passes its self-test and is faster than the CPU. Only cpu repeats a run bit for bit.
    #[arg(long, value_name = "DEVICE", default_value_t = DeviceChoice::Cpu)]
    device: DeviceChoice,
    /// Show no progress.
    #[arg(long)]
    no_progress: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Measure a model on a split, clean and in noise: macro ROC-AUC and average precision, clip and window level.
    Evaluate(EvaluateArgs),
    /// Join records of `evaluate --json` into tables and plots, as Markdown and as one HTML page.
    Report(ReportArgs),
    /// Measure a file of scores that `evaluate --scores` wrote.
    Metrics(MetricsArgs),
    /// Write the weights of a run as a model file.
    Export(ExportArgs),
}

#[derive(Args)]
struct EvaluateArgs {
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
    /// Also measure only the tags with at least this many positive clips.
    #[arg(long, value_name = "N", default_value_t = 5)]
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

#[derive(Args)]
struct MetricsArgs {
    /// CSV with the columns `clip_id`, `tag`, `probability`, `target`.
    scores: PathBuf,
    /// Also measure only the tags with at least this many positive clips.
    #[arg(long, value_name = "N", default_value_t = 5)]
    min_positives: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ExportArgs {
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
    /// Show no progress.
    #[arg(long)]
    no_progress: bool,
}

/// A failure and whose it is.
enum Failure {
    /// The command line or the configuration is wrong: exit code 2.
    Usage(anyhow::Error),
    /// Anything else: exit code 1.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => train(cli.train),
        Some(Command::Evaluate(args)) => match args.noise.validate() {
            Ok(()) => evaluate(&args).map_err(Failure::from),
            Err(error) => Err(Failure::Usage(error)),
        },
        Some(Command::Report(args)) => compare(&args).map_err(Failure::from),
        Some(Command::Metrics(args)) => metrics(&args).map_err(Failure::from),
        Some(Command::Export(args)) => export(&args).map_err(Failure::from),
    };
    let (error, code) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Failed(error)) => (error, 1),
        Err(Failure::Usage(error)) => (error, 2),
    };
    eprintln!("train: {error:#}");
    ExitCode::from(code)
}

fn progress(hidden: bool) -> Progress {
    if hidden { Progress::Hidden } else { Progress::Shown }
}

fn train(args: TrainArgs) -> Result<(), Failure> {
    let progress = progress(args.no_progress);
    let data = args.data.ok_or_else(|| Failure::Usage(anyhow::anyhow!("--data is required")))?;
    let (config, out) = if args.resume {
        let out = args.out.unwrap_or_default();
        let config = RunFolder::open(&out).map_err(Failure::Usage)?.config().clone();
        if let Some(path) = &args.config
            && Config::load(path, &[]).map_err(Failure::Usage)? != config
        {
            let message = "differs from the configuration saved with the run; leave --config out to continue the run";
            return Err(Failure::Usage(anyhow::anyhow!("{}: {message}", path.display())));
        }
        (config, out)
    } else {
        let path = args.config.unwrap_or_default();
        let config = Config::load(&path, &args.set).map_err(Failure::Usage)?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let out = args.out.unwrap_or_else(|| PathBuf::from("runs").join(format!("{stem}-seed{}", config.seed)));
        RunFolder::must_be_free(&out).map_err(Failure::Usage)?;
        (config, out)
    };

    let stop = stop_on_ctrl_c()?;
    let dataset = Dataset::open(&data, &config)?;
    let (device, device_name) = open_device(args.device, &config, dataset.num_tags())?;
    let loaded = dataset.load(&config, progress, &stop)?;
    if progress == Progress::Shown {
        eprintln!("{}", loaded.summary());
    }
    let identity = loaded.identity(&config, "supervised")?;
    let run = if args.resume {
        let run = RunFolder::open(&out)?;
        if !run.identity()?.same_data(&identity) {
            let message = "the labels or clips are not those that the run began with; resume with the same --data";
            return Err(Failure::Usage(anyhow::anyhow!("{}: {message}", data.display())));
        }
        run
    } else {
        RunFolder::create(&out, &config, &identity)?
    };

    eprintln!("training on {device_name}");
    let data_of_stage = loaded.into_supervised(&config);
    // A device that is lost while it computes reaches us as a panic of its runtime.
    let outcome =
        catch_unwind(AssertUnwindSafe(|| supervised::train(&run, &config, &data_of_stage, &device, progress, &stop)));
    let outcome = outcome.map_err(|panic| {
        if device == Device::flex() {
            resume_unwind(panic);
        }
        let cpu = resume_command(&data, &out, DeviceChoice::Cpu);
        anyhow::anyhow!("{device_name} failed; continue from the newest checkpoint on another device, e.g. with: {cpu}")
    })??;
    match outcome {
        Outcome::Finished => {
            let best = supervised::validated(&run, Which::Best)?.validation;
            println!(
                "{}: best after epoch {}: validation ROC-AUC {:.4}, average precision {:.4} ({} tags)",
                out.display(),
                best.epoch,
                best.metrics.roc_auc_macro,
                best.metrics.average_precision_macro,
                best.metrics.num_tags
            );
        }
        Outcome::Interrupted => {
            println!("interrupted and saved; continue with: {}", resume_command(&data, &out, args.device));
        }
    }
    Ok(())
}

fn resume_command(data: &Path, out: &Path, device: DeviceChoice) -> String {
    let (data, out) = (data.display(), out.display());
    format!("train --stage supervised --data {data} --out {out} --resume --device {device}")
}

/// The device to train on and its name. The network as it begins is what a GPU is tested with.
fn open_device(choice: DeviceChoice, config: &Config, num_tags: usize) -> Result<(Device, String), Failure> {
    let architecture = config.architecture(num_tags);
    let weights = weights::initial(&architecture, &mut rng::stream(config.seed, "initial weights", 0, 0));
    let tags = (0..num_tags).map(|tag| tag.to_string()).collect();
    let model = export::untrained_model(&architecture, weights, tags);
    let notify: Notify = Arc::new(|notice: &str| eprintln!("{notice}"));
    engine::open_for_training(&model, choice, &notify).map_err(|error| match error {
        EngineError::NoDevice { .. } => Failure::Usage(error.into()),
        error => Failure::Failed(error.into()),
    })
}

/// A flag that Ctrl-C raises. A second Ctrl-C ends the program at once.
fn stop_on_ctrl_c() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if raised.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("\nfinishing this step and saving; press Ctrl-C again to stop at once");
    })
    .context("Ctrl-C cannot be handled")?;
    Ok(stop)
}

fn evaluate(args: &EvaluateArgs) -> Result<()> {
    let model = match (&args.model, &args.run) {
        (Some(path), _) => Model::load(path)?,
        (None, Some(run)) => export::model_of_run(&RunFolder::open(run)?, args.weights, "run", "")?,
        (None, None) => bail!("name a --model or a --run"),
    };
    let progress = progress(args.no_progress);
    let noises = args.noise.load(progress)?;
    for set in noises.iter().filter(|set| !set.left_out.is_empty()) {
        eprintln!(
            "warning: {} noises of '{}' were left out; the first: {}",
            set.left_out.len(),
            set.name,
            set.left_out[0]
        );
    }
    let plan = Plan {
        root: &args.data,
        split: args.split,
        min_positives: args.min_positives,
        noises: &noises,
        snrs_db: &args.noise.snrs_db(),
        num_noises: args.noise.num_noises,
        seed: args.noise.seed,
        tsne_snr_db: args.noise.tsne,
    };
    let clips = dataset::load_split(&args.data, args.split, &model.metadata.tags, progress)?;
    let (record, clean) = record::evaluate(&model, args.method.as_deref(), &clips, &plan, progress)?;
    if let Some(path) = &args.scores {
        let table = report::ScoreTable::new(&clean, &clips, &model.metadata.tags);
        earmark_train::run::write_atomically(path, table.to_csv()?.as_bytes())?;
    }
    let json = || serde_json::to_string_pretty(&record);
    match &args.json {
        Some(path) if path.as_os_str() == "-" => println!("{}", json()?),
        Some(path) => {
            earmark_train::run::write_atomically(path, json()?.as_bytes())?;
            print!("{}", record.text());
        }
        None => print!("{}", record.text()),
    }
    Ok(())
}

fn compare(args: &ReportArgs) -> Result<()> {
    let [markdown, html] = comparison::run(args)?;
    println!("{}\n{}", markdown.display(), html.display());
    Ok(())
}

fn measure(model: &Model, data: &Path, split: Split, min_positives: usize, progress: Progress) -> Result<Report> {
    let clips = dataset::load_split(data, split, &model.metadata.tags, progress)?;
    let scores = eval::score(&CpuEngine::new(model, 1)?, &clips, progress)?;
    Ok(Report::new(&scores, &clips, &model.metadata.tags, split, min_positives))
}

fn metrics(args: &MetricsArgs) -> Result<()> {
    let table = report::ScoreTable::read(&args.scores)?;
    let metrics = table.metrics(1);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&metrics)?);
    } else {
        print!("{}", report::metrics_text("clips", &metrics, args.min_positives));
    }
    Ok(())
}

fn export(args: &ExportArgs) -> Result<()> {
    let mut model = export::model_of_run(&RunFolder::open(&args.run)?, args.weights, &args.name, &args.licence)?;
    if let Some(data) = &args.data {
        model.save(&args.out)?;
        // What is measured is the file as written, 16-bit weights included.
        let written = Model::load(&args.out)?;
        let mut measures = serde_json::Map::new();
        for split in [Split::Valid, Split::Test] {
            let report = measure(&written, data, split, 5, progress(args.no_progress))?;
            measures.insert(split.to_string(), serde_json::to_value(report)?);
        }
        model.metadata.metrics = measures.into();
    }
    model.save(&args.out)?;
    println!(
        "{}: {} tags, {} parameters",
        args.out.display(),
        model.metadata.tags.len(),
        export::num_parameters(&model)
    );
    Ok(())
}
