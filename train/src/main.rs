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
use earmark_core::tags::{Calibration, MIN_POSITIVES};
use earmark_train::comparison::{self, ReportArgs};
use earmark_train::config::{Config, Method};
use earmark_train::data::cache::{Cache, CacheArgs};
use earmark_train::data::clips::Clip;
use earmark_train::data::items::Split;
use earmark_train::data::mtat::SplitRule;
use earmark_train::dataset::{self, Dataset};
use earmark_train::doctor::{self, DoctorArgs, Role};
use earmark_train::eval::noise::NoiseArgs;
use earmark_train::eval::record::{self, Plan};
use earmark_train::eval::report::Report;
use earmark_train::eval::{self, report, thresholds};
use earmark_train::progress::Progress;
use earmark_train::run::RunFolder;
use earmark_train::stages::Outcome;
use earmark_train::stages::supervised::{self, Which};
use earmark_train::stages::{dat, dc, fe};
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
    /// Stage 1: the feature extractor by contrastive learning, without tags.
    Fe,
    /// Stage 2: the domain classifier on a trained feature extractor.
    Dc,
    /// Stage 3: domain adversarial training, or the baseline or supervised reference (dat.method).
    Dat,
    /// Stages 1 to 3 one after the other, each in a folder of --out.
    All,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Supervised => "supervised",
            Self::Fe => fe::STAGE,
            Self::Dc => dc::STAGE,
            Self::Dat => dat::STAGE,
            Self::All => "all",
        }
    }
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
    /// Feature extractor that the stages dc and dat start from: a run of stage fe, supervised or dat, or a model file.
    #[arg(long, value_name = "RUN|FILE")]
    fe: Option<PathBuf>,
    /// Domain classifier that the stage dat starts from: a run of stage dc.
    #[arg(long, value_name = "RUN")]
    dc: Option<PathBuf>,
    /// Folder of the run [default: runs/CONFIG-seedN].
    #[arg(long, value_name = "RUN", required_if_eq("resume", "true"))]
    out: Option<PathBuf>,
    /// Continue the run in --out from its newest checkpoint.
    #[arg(long)]
    resume: bool,
    /// Override a value of the configuration, e.g. supervised.epochs=3. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "resume")]
    set: Vec<String>,
    #[command(flatten)]
    cache: CacheArgs,
    /// Train on data that `train doctor` calls broken.
    #[arg(long)]
    allow_broken: bool,
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
    /// Look for what is wrong with data sets: missing, damaged, duplicate and leaking files. Exit code 1: broken.
    Doctor(DoctorArgs),
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
    /// What decides the split of a clip [default: as in --run, else folders].
    #[arg(long, value_enum)]
    split_rule: Option<SplitRule>,
    #[command(flatten)]
    cache: CacheArgs,
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
        Some(Command::Doctor(args)) => match doctor::run(&args) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::from(1),
            Err(error) => Err(error.into()),
        },
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
    let usage = |message: String| Failure::Usage(anyhow::anyhow!(message));
    let stage = args.stage.ok_or_else(|| usage("--stage is required".to_owned()))?;
    let out = match (&args.out, &args.config) {
        (Some(out), _) => out.clone(),
        (None, Some(path)) => {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let seed = Config::load(path, &args.set).map_err(Failure::Usage)?.seed;
            PathBuf::from("runs").join(format!("{stem}-seed{seed}"))
        }
        (None, None) => return Err(usage("--out is required with --resume".to_owned())),
    };
    let stop = stop_on_ctrl_c()?;
    if !matches!(stage, Stage::All) {
        let start = Start { fe: args.fe.clone(), dc: args.dc.clone() };
        train_stage(stage, &args, &out, start, args.resume, &stop)?;
        return Ok(());
    }
    let (fe, dc) = (out.join(fe::STAGE), out.join(dc::STAGE));
    for (stage, start) in [
        (Stage::Fe, Start::default()),
        (Stage::Dc, Start { fe: Some(fe.clone()), dc: None }),
        (Stage::Dat, Start { fe: Some(fe.clone()), dc: Some(dc.clone()) }),
    ] {
        let out = out.join(stage.name());
        // A stage that was begun is continued, one that was not is started; both need --resume or a free folder.
        let resume = args.resume && out.exists();
        if train_stage(stage, &args, &out, start, resume, &stop)? == Outcome::Interrupted {
            return Ok(());
        }
    }
    Ok(())
}

/// What a stage starts from.
#[derive(Default)]
struct Start {
    fe: Option<PathBuf>,
    dc: Option<PathBuf>,
}

impl Start {
    /// Reads what a new run would start from, so that a mistake is known before anything else is done.
    fn check(&self, stage: Stage, config: &Config) -> Result<()> {
        if !matches!(stage, Stage::Dc | Stage::Dat) {
            return Ok(());
        }
        let device = Device::flex();
        let needs = || format!("stage {} needs a trained feature extractor: --fe RUN or --fe MODEL", stage.name());
        fe::load(self.fe.as_deref().with_context(needs)?, config, &device)?;
        if matches!(stage, Stage::Dat) && config.dat.method == Method::Proposed {
            let needs = "the proposed method needs a domain classifier: --dc RUN, of a run of --stage dc";
            dc::load(self.dc.as_deref().context(needs)?, config, &device)?;
        }
        Ok(())
    }
}

fn train_stage(
    stage: Stage,
    args: &TrainArgs,
    out: &Path,
    start: Start,
    resume: bool,
    stop: &AtomicBool,
) -> Result<Outcome, Failure> {
    let progress = progress(args.no_progress);
    let data = args.data.as_deref().ok_or_else(|| Failure::Usage(anyhow::anyhow!("--data is required")))?;
    let config = configuration(args, out, resume)?;
    if !resume {
        start.check(stage, &config).map_err(Failure::Usage)?;
    }

    let (dataset, cache) = (Dataset::open(data, &config)?, args.cache.open()?);
    let (device, device_name) = open_device(args.device, &config, dataset.num_tags())?;
    for broken in doctor::admit(Role::Data, dataset.annotations(), cache.as_ref(), args.allow_broken)? {
        eprintln!("warning: training on broken data: {broken}");
    }
    let loaded = dataset.with_cache(cache).load(&config, progress, stop)?;
    if progress == Progress::Shown {
        eprintln!("stage {}: {}", stage.name(), loaded.summary());
    }
    let identity = loaded.identity(&config, stage.name())?;
    let run = if resume {
        let run = RunFolder::open(out)?;
        let begun = run.identity()?;
        if begun.stage != identity.stage {
            let message = format!("is a run of stage {}; resume it with --stage {0}", begun.stage);
            return Err(Failure::Usage(anyhow::anyhow!("{}: {message}", out.display())));
        }
        if !begun.same_data(&identity) {
            let message = "the labels or clips are not those that the run began with; resume with the same --data";
            return Err(Failure::Usage(anyhow::anyhow!("{}: {message}", data.display())));
        }
        run
    } else {
        RunFolder::create(out, &config, &identity)?
    };

    eprintln!("training on {device_name}");
    let fe = start.fe.unwrap_or_default();
    let train = || match stage {
        Stage::Fe => fe::train(&run, &config, &loaded.into_pairs(&config)?, &device, progress, stop),
        Stage::Dc => dc::train(&run, &config, &loaded.into_domains(&config)?, &fe, &device, progress, stop),
        Stage::Dat => {
            let start = dat::Start { feature_extractor: fe, domain_classifier: start.dc };
            dat::train(&run, &config, &loaded.into_dat(&config)?, &start, &device, progress, stop)
        }
        Stage::Supervised | Stage::All => {
            supervised::train(&run, &config, &loaded.into_supervised(&config), &device, progress, stop)
        }
    };
    // A device that is lost while it computes reaches us as a panic of its runtime.
    let outcome = catch_unwind(AssertUnwindSafe(train)).map_err(|panic| {
        if device == Device::flex() {
            resume_unwind(panic);
        }
        let cpu = resume_command(args, out, DeviceChoice::Cpu);
        anyhow::anyhow!("{device_name} failed; continue from the newest checkpoint on another device, e.g. with: {cpu}")
    })??;
    match outcome {
        Outcome::Finished if matches!(stage, Stage::Fe | Stage::Dc) => {
            println!("{}: stage {} is done", out.display(), stage.name());
        }
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
            println!("interrupted and saved; continue with: {}", resume_command(args, out, args.device));
        }
    }
    Ok(outcome)
}

/// The configuration of a new run, or that of the run which is resumed.
fn configuration(args: &TrainArgs, out: &Path, resume: bool) -> Result<Config, Failure> {
    if !resume {
        // Stage 2 or 3 of an interrupted --stage all has no folder yet; it takes the configuration of the stage before.
        let earlier = [dc::STAGE, fe::STAGE].map(|stage| out.with_file_name(stage));
        let config = match &args.config {
            Some(path) => Config::load(path, &args.set),
            None => earlier.iter().find(|run| run.exists()).map_or_else(
                || Err(anyhow::anyhow!("--config is required")),
                |run| Ok(RunFolder::open(run)?.config().clone()),
            ),
        };
        RunFolder::must_be_free(out).map_err(Failure::Usage)?;
        return config.map_err(Failure::Usage);
    }
    let config = RunFolder::open(out).map_err(Failure::Usage)?.config().clone();
    if let Some(path) = &args.config
        && Config::load(path, &[]).map_err(Failure::Usage)? != config
    {
        let message = "differs from the configuration saved with the run; leave --config out to continue the run";
        return Err(Failure::Usage(anyhow::anyhow!("{}: {message}", path.display())));
    }
    Ok(config)
}

/// The command that continues what `args` began, in the folder of a stage or, with `--stage all`, of them all.
fn resume_command(args: &TrainArgs, out: &Path, device: DeviceChoice) -> String {
    let stage = args.stage.map_or("", Stage::name);
    let data = args.data.as_deref().unwrap_or(Path::new("")).display();
    let out = if matches!(args.stage, Some(Stage::All)) { out.parent().unwrap_or(out) } else { out }.display();
    format!("train --stage {stage} --data {data} --out {out} --resume --device {device}")
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
    let rule = match (args.split_rule, &args.run) {
        (Some(rule), _) => rule,
        (None, Some(run)) => RunFolder::open(run)?.config().data.split,
        (None, None) => SplitRule::default(),
    };
    let (progress, cache) = (progress(args.no_progress), args.cache.open()?);
    let noises = args.noise.load(cache.as_ref(), progress)?;
    for set in noises.iter().filter(|set| !set.left_out.is_empty()) {
        let (count, name, first) = (set.left_out.len(), &set.name, &set.left_out[0]);
        eprintln!("warning: {count} noises of '{name}' were left out; the first: {first}");
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
    let from = Source { data: &args.data, rule, cache };
    let clips = from.load(args.split, &model.metadata.tags, progress)?;
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

/// Where clips to measure on come from.
struct Source<'a> {
    data: &'a Path,
    rule: SplitRule,
    cache: Option<Cache>,
}

impl Source<'_> {
    fn load(&self, split: Split, tags: &[String], progress: Progress) -> Result<Vec<Clip>> {
        dataset::load_split(self.data, self.rule, split, tags, self.cache.as_ref(), progress)
    }
}

fn compare(args: &ReportArgs) -> Result<()> {
    let [markdown, html] = comparison::run(args)?;
    println!("{}\n{}", markdown.display(), html.display());
    Ok(())
}

/// The measures of a split, and what thresholds are worth there.
fn measure(
    model: &Model,
    from: &Source<'_>,
    split: Split,
    min_positives: usize,
    progress: Progress,
) -> Result<(Report, Calibration)> {
    let tags = &model.metadata.tags;
    let clips = from.load(split, tags, progress)?;
    let scores = eval::score(&CpuEngine::new(model, 1)?, &clips, progress)?;
    let tag_targets: Vec<bool> = clips.iter().flat_map(|clip| clip.entry.tag_targets.iter().copied()).collect();
    let calibration = thresholds::calibrate(&split.to_string(), tags.len(), &scores.clip_probabilities, &tag_targets);
    Ok((Report::new(&scores, &clips, tags, split, min_positives), calibration))
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
    let (name, licence) = (args.name.as_deref(), args.licence.as_deref());
    let (mut model, rule) = match (&args.run, &args.model) {
        (Some(run), _) => {
            let run = RunFolder::open(run)?;
            let (name, licence) = (name.unwrap_or("earmark"), licence.unwrap_or("CC-BY-SA-4.0"));
            (export::model_of_run(&run, args.weights, name, licence)?, run.config().data.split)
        }
        (None, Some(file)) => {
            let mut model = Model::load(file)?;
            name.inspect(|&name| name.clone_into(&mut model.metadata.name));
            licence.inspect(|&licence| licence.clone_into(&mut model.metadata.licence));
            (model, SplitRule::default())
        }
        (None, None) => bail!("name a --run or a --model"),
    };
    if let Some(data) = &args.data {
        // What is measured is the file as it will be read, 16-bit weights included.
        let written = Model::from_bytes(&model.to_bytes()?, &args.out.display().to_string())?;
        let from = Source { data, rule: args.split_rule.unwrap_or(rule), cache: args.cache.open()? };
        let mut measures = serde_json::Map::new();
        for split in [Split::Valid, Split::Test] {
            let (report, calibration) = measure(&written, &from, split, 5, progress(args.no_progress))?;
            measures.insert(split.to_string(), serde_json::to_value(report)?);
            if split == Split::Valid {
                model.metadata.calibration = Some(calibration);
            }
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
    if let Some(calibration) = &model.metadata.calibration {
        let supported = calibration.tags.iter().filter(|tag| tag.positives >= MIN_POSITIVES).count();
        let Calibration { split, num_clips, tags } = calibration;
        println!("calibrated on {num_clips} clips ({split}): {supported} of {} tags have support", tags.len());
    } else {
        println!("not calibrated: --data DIR adds what --target-precision needs");
    }
    Ok(())
}
