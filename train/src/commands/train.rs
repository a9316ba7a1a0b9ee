//! `train --stage`: one stage in one folder.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use burn::tensor::Device;
use clap::{Args, ValueEnum};
use earmark_core::engine::{self, DeviceChoice, EngineError, Notify};
use earmark_train::config::{Config, Method};
use earmark_train::data::cache::CacheArgs;
use earmark_train::dataset::Dataset;
use earmark_train::doctor::{self, Role};
use earmark_train::progress::Progress;
use earmark_train::run::{RunFolder, Stage};
use earmark_train::stages::networks::{
    blake3_of, load_domain_classifier, load_feature_extractor, load_label_predictor, load_projector,
};
use earmark_train::stages::validation::{self, Which};
use earmark_train::stages::{Outcome, dat, dc, fe, supervised};
use earmark_train::{rng, weights};

use super::{Failure, all, progress};

/// What `--stage` can name.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StageArg {
    /// The supervised reference: feature extractor and head on tag targets.
    Supervised,
    /// Stage 1: the feature extractor by contrastive learning, without tags.
    Fe,
    /// Stage 2: the domain classifier on a trained feature extractor.
    Dc,
    /// Stage 3: domain adversarial training, or the baseline or supervised reference (dat.method).
    Dat,
    /// From nothing to tables: stages 1 to 3 for every method and seed of the configuration's section [all], their
    /// evaluation and the report.
    All,
}

impl StageArg {
    /// `None` for all of them.
    fn one(self) -> Option<Stage> {
        match self {
            Self::Supervised => Some(Stage::Supervised),
            Self::Fe => Some(Stage::Fe),
            Self::Dc => Some(Stage::Dc),
            Self::Dat => Some(Stage::Dat),
            Self::All => None,
        }
    }
}

/// Arguments of `train --stage`.
#[derive(Args)]
pub struct TrainArgs {
    /// What to train.
    #[arg(long, required = true)]
    pub stage: Option<StageArg>,
    /// TOML configuration; train/configs has some. Not needed with --resume.
    #[arg(long, value_name = "FILE", required_unless_present = "resume")]
    pub config: Option<PathBuf>,
    /// Data set in MagnaTagATune's layout: the folder with `annotations_final.csv`.
    #[arg(long, value_name = "DIR", required = true)]
    pub data: Option<PathBuf>,
    /// Feature extractor that the stages dc and dat start from: a run of stage fe, supervised or dat, or a model file.
    #[arg(long, value_name = "RUN|FILE")]
    pub fe: Option<PathBuf>,
    /// Domain classifier that the stage dat starts from: a run of stage dc.
    #[arg(long, value_name = "RUN")]
    pub dc: Option<PathBuf>,
    /// Folder of the run [default: runs/CONFIG-seedN; with --stage all: runs/CONFIG].
    #[arg(long, value_name = "RUN", required_if_eq("resume", "true"))]
    pub out: Option<PathBuf>,
    /// Continue what is in --out, each run from its newest checkpoint.
    #[arg(long)]
    pub resume: bool,
    /// Override a value of the configuration, e.g. supervised.epochs=3. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "resume")]
    pub set: Vec<String>,
    #[command(flatten)]
    pub cache: CacheArgs,
    /// Train on data that `train doctor` calls broken.
    #[arg(long)]
    pub allow_broken: bool,
    /// Where to train: cpu, wgpu (the first GPU), wgpu:N as `earmark devices` lists them, or auto, which takes a GPU if
    /// it passes its self-test and is faster than the CPU. Only cpu repeats a run bit for bit.
    #[arg(long, value_name = "DEVICE", default_value_t = DeviceChoice::Cpu)]
    pub device: DeviceChoice,
    /// Show no progress.
    #[arg(long)]
    pub no_progress: bool,
}

/// `train --stage`.
pub fn run(args: &TrainArgs) -> Result<(), Failure> {
    let stage = args.stage.ok_or_else(|| Failure::usage("--stage is required"))?;
    let out = match (&args.out, &args.config) {
        (Some(out), _) => out.clone(),
        (None, Some(path)) => {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let seed = Config::load(path, &args.set).map_err(Failure::Usage)?.seed;
            let name = if stage.one().is_some() { format!("{stem}-seed{seed}") } else { stem };
            PathBuf::from("runs").join(name)
        }
        (None, None) => return Err(Failure::usage("--out is required with --resume")),
    };
    let stop = stop_on_ctrl_c()?;
    let Some(stage) = stage.one() else { return all::run(args, &out, &stop) };
    let start = Start { fe: args.fe.clone(), dc: args.dc.clone() };
    let job = Job { stage, config: configuration(args, &out)?, out: &out, start, resume: args.resume };
    if train_stage(job, args, &stop)? == Outcome::Interrupted {
        println!("continue with: {}", resume_command(args, stage.name(), &out, args.device));
    }
    Ok(())
}

/// One stage to train.
pub struct Job<'a> {
    /// What is trained.
    pub stage: Stage,
    /// Its configuration.
    pub config: Config,
    /// Its folder.
    pub out: &'a Path,
    /// What a new run starts from.
    pub start: Start,
    /// Whether the run in the folder is continued.
    pub resume: bool,
}

/// What a stage starts from.
#[derive(Default)]
pub struct Start {
    /// The feature extractor: a run or a model file.
    pub fe: Option<PathBuf>,
    /// The domain classifier: a run.
    pub dc: Option<PathBuf>,
}

impl Start {
    /// Reads what a new run starts from, so that a mistake is known before anything else is done. Gives the networks'
    /// hashes by their names.
    fn check(&self, stage: Stage, config: &Config, tags: &[String]) -> Result<BTreeMap<String, String>> {
        let mut found = BTreeMap::new();
        if !matches!(stage, Stage::Dc | Stage::Dat) {
            return Ok(found);
        }
        let device = Device::flex();
        let needs = || format!("stage {stage} needs a trained feature extractor: --fe RUN or --fe MODEL");
        let start = self.fe.as_deref().with_context(needs)?;
        let extractor = load_feature_extractor(start, config, &device)?;
        found.insert("feature_extractor".to_owned(), blake3_of(&extractor));
        if stage == Stage::Dat
            && let Some(kept) = load_label_predictor(start, config, tags, &device)?
        {
            found.insert("label_predictor".to_owned(), blake3_of(&kept));
        }
        if let Some(projector) = load_projector(start, config, &device)? {
            found.insert("projector".to_owned(), blake3_of(&projector));
        }
        if stage == Stage::Dat && config.dat.method == Method::Proposed {
            let needs = "the proposed method needs a domain classifier: --dc RUN, of a run of --stage dc";
            let classifier = load_domain_classifier(self.dc.as_deref().context(needs)?, config, &device)?;
            found.insert("domain_classifier".to_owned(), blake3_of(&classifier));
        }
        Ok(found)
    }
}

/// Trains one stage to its end, or until `stop` is raised and its state is saved.
pub fn train_stage(job: Job<'_>, args: &TrainArgs, stop: &AtomicBool) -> Result<Outcome, Failure> {
    let Job { stage, config, out, start, resume } = job;
    let progress = progress(args.no_progress);
    let data = args.data.as_deref().ok_or_else(|| Failure::usage("--data is required"))?;
    let (dataset, cache) = (Dataset::open(data, &config)?, args.cache.open()?);
    let started_from = if resume {
        BTreeMap::new()
    } else {
        start.check(stage, &config, &dataset.annotations().tags).map_err(Failure::Usage)?
    };

    let (device, device_name) = open_device(args.device, &config, dataset.num_tags())?;
    for broken in doctor::admit(Role::Data, dataset.annotations(), cache.as_ref(), args.allow_broken)? {
        eprintln!("warning: training on broken data: {broken}");
    }
    let loaded = dataset.with_cache(cache).load(&config, progress, stop)?;
    if progress == Progress::Shown {
        eprintln!("stage {}: {}", stage.name(), loaded.summary());
    }
    let mut identity = loaded.identity(&config, stage)?;
    let run = if resume {
        let run = RunFolder::open(out)?;
        let begun = run.identity()?;
        if begun.stage != identity.stage {
            let message = format!("is a run of stage {}; resume it with --stage {0}", begun.stage);
            return Err(Failure::usage(format!("{}: {message}", out.display())));
        }
        if !begun.same_data(&identity) {
            let message = "the labels or clips are not those that the run began with; resume with the same --data";
            return Err(Failure::usage(format!("{}: {message}", data.display())));
        }
        run
    } else {
        identity.started_from = started_from;
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
        Stage::Supervised => {
            supervised::train(&run, &config, &loaded.into_supervised(&config), &device, progress, stop)
        }
    };
    // A device that is lost while it computes reaches us as a panic of its runtime.
    let outcome = catch_unwind(AssertUnwindSafe(train)).map_err(|panic| {
        if device == Device::flex() {
            resume_unwind(panic);
        }
        let cpu = resume_command(args, stage.name(), out, DeviceChoice::Cpu);
        anyhow::anyhow!("{device_name} failed; continue from the newest checkpoint on another device, e.g. with: {cpu}")
    })??;
    match outcome {
        Outcome::Finished if matches!(stage, Stage::Fe | Stage::Dc) => {
            println!("{}: stage {} is done", out.display(), stage.name());
        }
        Outcome::Finished => {
            let best = validation::validated(&run, Which::Best)?.validation;
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
            println!("{}: interrupted and saved", out.display());
        }
    }
    Ok(outcome)
}

/// The configuration of a new run, or that of the run which is resumed.
fn configuration(args: &TrainArgs, out: &Path) -> Result<Config, Failure> {
    let load = |overrides: &[String]| -> Result<Option<Config>, Failure> {
        let loaded =
            args.config.as_ref().map(|path| Config::load(path, overrides)).transpose().map_err(Failure::Usage)?;
        Ok(loaded.map(|config| Config { all: None, ..config }))
    };
    if !args.resume {
        let config = load(&args.set)?.ok_or_else(|| Failure::usage("--config is required"))?;
        RunFolder::must_be_free(out).map_err(Failure::Usage)?;
        return Ok(config);
    }
    let config = RunFolder::open(out).map_err(Failure::Usage)?.config().clone();
    if let Some(named) = load(&[])? {
        unchanged(args, &named, &config)?;
    }
    Ok(config)
}

/// Refuses to continue what was begun with another configuration than `--config` names now.
pub fn unchanged(args: &TrainArgs, named: &Config, begun: &Config) -> Result<(), Failure> {
    if named == begun {
        return Ok(());
    }
    let path = args.config.as_deref().unwrap_or(Path::new("--config")).display();
    let message = "differs from the configuration saved with the run; leave --config out to continue the run";
    Err(Failure::usage(format!("{path}: {message}")))
}

/// The command that continues what `args` began in `out`.
pub fn resume_command(args: &TrainArgs, stage: &str, out: &Path, device: DeviceChoice) -> String {
    let data = args.data.as_deref().unwrap_or(Path::new("")).display();
    format!("train --stage {stage} --data {data} --out {} --resume --device {device}", out.display())
}

/// The device to train on and its name. The network as it begins is what a GPU is tested with.
fn open_device(choice: DeviceChoice, config: &Config, num_tags: usize) -> Result<(Device, String), Failure> {
    let architecture = config.architecture(num_tags);
    let weights = weights::initial(&architecture, &mut rng::stream(config.seed, "initial weights", 0, 0));
    let tags = (0..num_tags).map(|tag| tag.to_string()).collect();
    let model = weights::untrained_model(&architecture, weights, tags);
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
