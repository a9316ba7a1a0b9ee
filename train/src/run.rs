//! The folder of a run and its checkpoints.
//!
//! ```text
//! RUN/config.toml             the configuration as used
//! RUN/identity.json           data hashes, seed, commit, version
//! RUN/metrics.jsonl           one line per step and per validation
//! RUN/events.out.tfevents..   the same for TensorBoard
//! RUN/checkpoint-00001234/    the newest state, after that many steps: networks, optimiser, place, best weights, and
//!                             the configuration it was made with
//! ```
//!
//! A state made with one configuration means nothing under another, so a run whose `config.toml` no longer says what its
//! newest checkpoint was made with is not opened.
//!
//! A checkpoint is one folder, written under a temporary name and then renamed: it is there completely or not at all.
//! What lies in `metrics.jsonl` behind the checkpoint's step is cut off on resume, because those steps run again.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::tensorboard::EventsLog;

/// Version of the run folder's layout.
const FORMAT_VERSION: u32 = 1;
const CONFIG_FILE: &str = "config.toml";
const IDENTITY_FILE: &str = "identity.json";
/// Name of the log inside a run's folder.
pub const METRICS_FILE: &str = "metrics.jsonl";
const STATE_FILE: &str = "state.json";
const CHECKPOINT_PREFIX: &str = "checkpoint-";
const TEMPORARY_PREFIX: &str = ".tmp-";

/// A stage of training, as a run's identity names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The supervised reference.
    Supervised,
    /// Stage 1: the feature extractor by contrastive learning.
    Fe,
    /// Stage 2: the domain classifier.
    Dc,
    /// Stage 3: domain adversarial training, or one of its two references.
    Dat,
}

impl Stage {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Supervised => "supervised",
            Self::Fe => "fe",
            Self::Dc => "dc",
            Self::Dat => "dat",
        }
    }

    /// Passes over the training clips that `config` asks of it.
    pub fn epochs(self, config: &Config) -> usize {
        match self {
            Self::Supervised => config.supervised.epochs,
            Self::Fe => config.fe.epochs,
            Self::Dc => config.dc.epochs,
            Self::Dat => config.dat.epochs,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a run was made from: enough to tell whether a second one should give the same numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Version of this layout.
    pub format_version: u32,
    /// Stage that was trained.
    pub stage: Stage,
    /// The run's seed.
    pub seed: u64,
    /// Tag names in the order of the logits.
    pub tags: Vec<String>,
    /// BLAKE3 of each label file that was read, by name.
    pub label_files: std::collections::BTreeMap<String, String>,
    /// BLAKE3 over path and size of every training and validation clip that was decoded, in order.
    pub clips: String,
    /// BLAKE3 of the numbers of the networks that it began with, by their names; of those that began from the seed,
    /// nothing.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub started_from: std::collections::BTreeMap<String, String>,
    /// Training clips.
    pub num_train_clips: usize,
    /// Validation clips.
    pub num_valid_clips: usize,
    /// How the clips were split.
    pub split: String,
    /// Version of this program.
    pub version: String,
    /// Commit of the source tree it was run from, where it was.
    pub commit: Option<String>,
}

impl Identity {
    /// Version of the layout that this build writes.
    pub const FORMAT_VERSION: u32 = FORMAT_VERSION;

    /// Whether another run would read the same data.
    pub fn same_data(&self, other: &Self) -> bool {
        (&self.tags, &self.label_files, &self.clips) == (&other.tags, &other.label_files, &other.clips)
    }
}

/// A run's folder.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
    config: Config,
}

impl RunFolder {
    /// Starts a run in `path`, which must not hold one.
    ///
    /// # Errors
    /// If there is a run already, or the folder cannot be written.
    pub fn create(path: &Path, config: &Config, identity: &Identity) -> Result<Self> {
        Self::must_be_free(path)?;
        let run = Self { path: path.to_owned(), config: config.clone() };
        fs::create_dir_all(path).with_context(|| format!("{}: cannot be created", path.display()))?;
        write_atomically(&run.path.join(IDENTITY_FILE), &serde_json::to_vec_pretty(identity)?)?;
        write_atomically(&run.path.join(METRICS_FILE), b"")?;
        // The configuration comes last: its presence says that the folder is complete.
        write_atomically(&run.path.join(CONFIG_FILE), config.to_toml()?.as_bytes())?;
        Ok(run)
    }

    /// Checks that `path` holds no run.
    ///
    /// # Errors
    /// If it does.
    pub fn must_be_free(path: &Path) -> Result<()> {
        if holds_run(path) {
            bail!("{}: holds a run already; continue it with --resume or name another folder", path.display());
        }
        Ok(())
    }

    /// Opens the run in `path`.
    ///
    /// # Errors
    /// If there is none, it was written by another version, or its configuration was changed after its newest checkpoint.
    pub fn open(path: &Path) -> Result<Self> {
        if !holds_run(path) {
            bail!("{}: holds no run (no {CONFIG_FILE}); start one without --resume", path.display());
        }
        let run = Self { path: path.to_owned(), config: Config::load(&path.join(CONFIG_FILE), &[])? };
        let identity = run.identity()?;
        if identity.format_version != FORMAT_VERSION {
            bail!(
                "{}: written in format {}, this build reads {FORMAT_VERSION}; use the version that wrote it ({})",
                path.display(),
                identity.format_version,
                identity.version
            );
        }
        if let Some(checkpoint) = run.newest_checkpoint()?
            && let Some(config) = checkpoint.config()?
            && let changes = run.config.changes_since(&config)?
            && !changes.is_empty()
        {
            bail!(
                "{}: changed since {} was saved: {}; put back that folder's {CONFIG_FILE}, or start a new run with \
                 --config and another --out",
                path.join(CONFIG_FILE).display(),
                checkpoint.path.display(),
                changes.join(", ")
            );
        }
        Ok(run)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configuration of the run.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What the run was made from.
    ///
    /// # Errors
    /// If the file cannot be read or is not valid.
    pub fn identity(&self) -> Result<Identity> {
        read_json(&self.path.join(IDENTITY_FILE))
    }

    /// The stage that is trained in it.
    ///
    /// # Errors
    /// If the run's identity cannot be read.
    pub fn stage(&self) -> Result<Stage> {
        Ok(self.identity()?.stage)
    }

    /// Whether all epochs are done and saved.
    ///
    /// # Errors
    /// If the newest checkpoint cannot be read.
    pub fn is_finished(&self) -> Result<bool> {
        #[derive(Deserialize)]
        struct Done {
            epoch: usize,
        }
        let Some(checkpoint) = self.newest_checkpoint()? else { return Ok(false) };
        Ok(checkpoint.state::<Done>()?.epoch >= self.stage()?.epochs(&self.config))
    }

    /// Saves a checkpoint after `step` steps and removes older ones.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn save_checkpoint(&self, step: u64, state: &impl Serialize, files: &[(&str, Vec<u8>)]) -> Result<()> {
        let name = format!("{CHECKPOINT_PREFIX}{step:08}");
        let target = self.path.join(&name);
        let failed = || format!("{}: the checkpoint cannot be written", target.display());
        let older: Vec<PathBuf> = self.checkpoints()?.into_iter().map(|(_, path)| path).collect();
        if older.contains(&target) {
            return Ok(());
        }
        let temporary = self.temporary_folder().with_context(failed)?;
        let state = serde_json::to_vec_pretty(state)?;
        let config = self.config.to_toml()?.into_bytes();
        let own = [(STATE_FILE, &state), (CONFIG_FILE, &config)];
        for (file, bytes) in files.iter().map(|(file, bytes)| (*file, bytes)).chain(own) {
            let mut file = File::create(temporary.path().join(file)).with_context(failed)?;
            file.write_all(bytes).and_then(|()| file.sync_all()).with_context(failed)?;
        }
        let temporary = temporary.keep();
        fs::rename(&temporary, &target).with_context(failed)?;
        sync_folder(&self.path);
        for path in older {
            fs::remove_dir_all(&path).with_context(|| format!("{}: cannot be removed", path.display()))?;
        }
        Ok(())
    }

    fn temporary_folder(&self) -> std::io::Result<tempfile::TempDir> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(TEMPORARY_PREFIX);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        builder.tempdir_in(&self.path)
    }

    /// The newest checkpoint, if there is one.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn newest_checkpoint(&self) -> Result<Option<Checkpoint>> {
        Ok(self.checkpoints()?.pop().map(|(_, path)| Checkpoint { path }))
    }

    /// Checkpoints by step.
    fn checkpoints(&self) -> Result<Vec<(u64, PathBuf)>> {
        let failed = || format!("{}: cannot be read", self.path.display());
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path).with_context(failed)? {
            let path = entry.with_context(failed)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let Some(step) = name.strip_prefix(CHECKPOINT_PREFIX).and_then(|step| step.parse().ok()) {
                found.push((step, path));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Opens `metrics.jsonl` and TensorBoard's events for appending after cutting off everything behind `step`, and
    /// clears what a killed run left half done.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn metrics_log(&self, step: u64) -> Result<MetricsLog> {
        for entry in fs::read_dir(&self.path)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX) {
                // A leftover only costs room; that it cannot be removed is no reason to stop.
                let path = entry.path();
                let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            }
        }
        let path = self.path.join(METRICS_FILE);
        let text = fs::read_to_string(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
        let kept: String = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .filter(|line| serde_json::from_str::<Line>(line).is_ok_and(|line| line.step <= step))
            .collect();
        write_atomically(&path, kept.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path);
        let file = file.with_context(|| format!("{}: cannot be written", path.display()))?;
        Ok(MetricsLog { file, path, events: EventsLog::open(&self.path, step)? })
    }
}

fn holds_run(path: &Path) -> bool {
    path.join(CONFIG_FILE).is_file()
}

/// What every line of `metrics.jsonl` holds.
#[derive(Deserialize)]
struct Line {
    step: u64,
}

/// A saved state.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    path: PathBuf,
}

impl Checkpoint {
    /// The state as saved.
    ///
    /// # Errors
    /// If the file cannot be read or is not valid.
    pub fn state<S: DeserializeOwned>(&self) -> Result<S> {
        read_json(&self.path.join(STATE_FILE))
    }

    /// The configuration that the state was made with; `None` for a checkpoint from before it was kept.
    ///
    /// # Errors
    /// If the file cannot be read or is not valid.
    pub fn config(&self) -> Result<Option<Config>> {
        let path = self.path.join(CONFIG_FILE);
        path.is_file().then(|| Config::load(&path, &[])).transpose()
    }

    /// One of the files as saved; `None` if it was not.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("{}: cannot be read", path.display())),
        }
    }

    /// One of the files as saved.
    ///
    /// # Errors
    /// If it was not, or cannot be read.
    pub fn required(&self, name: &str) -> Result<Vec<u8>> {
        self.file(name)?.with_context(|| format!("{}: {name} is missing", self.path.display()))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Appends to `metrics.jsonl` and to TensorBoard's events.
#[derive(Debug)]
pub struct MetricsLog {
    file: File,
    path: PathBuf,
    events: EventsLog,
}

impl MetricsLog {
    /// Appends one object, which must have a field `step`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&mut self, line: &serde_json::Value) -> Result<()> {
        writeln!(self.file, "{line}").with_context(|| format!("{}: cannot be written", self.path.display()))?;
        self.events.write(line)
    }
}

/// Commit of the checkout that the program is run in, with `-dirty` where files differ from it; `None` outside a
/// checkout of this project or without git.
pub(crate) fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let top = git(&["rev-parse", "--show-toplevel"])?;
    Path::new(&top).join("train/configs/open-corpus.toml").is_file().then_some(())?;
    let hash = git(&["rev-parse", "HEAD"])?;
    let clean = git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(if clean { hash } else { format!("{hash}-dirty") })
}

/// Writes a file under a temporary name and renames it.
///
/// # Errors
/// If the folder cannot be written.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = || format!("{}: cannot be written", path.display());
    let mut file = temporary_file(folder).with_context(failed)?;
    file.write_all(bytes).with_context(failed)?;
    file.as_file().sync_all().with_context(failed)?;
    file.persist(path).with_context(failed)?;
    sync_folder(folder);
    Ok(())
}

/// A temporary file that everyone may read whom the user's mask lets, as of a file that is written plainly.
fn temporary_file(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY_PREFIX);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// Makes a rename survive a power cut where the system can; elsewhere the rename itself is all there is.
fn sync_folder(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{}: not written by this version", path.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config() -> Config {
        Config::parse(include_str!("../configs/smoke.toml"), &[]).expect("valid")
    }

    fn identity() -> Identity {
        Identity {
            format_version: FORMAT_VERSION,
            stage: Stage::Supervised,
            seed: 1,
            tags: vec!["guitar".to_owned()],
            label_files: [("annotations_final.csv".to_owned(), "00".to_owned())].into(),
            clips: "11".to_owned(),
            started_from: [("feature_extractor".to_owned(), "22".to_owned())].into(),
            num_train_clips: 2,
            num_valid_clips: 1,
            split: "folders 0-b, c".to_owned(),
            version: "0.1.0".to_owned(),
            commit: None,
        }
    }

    #[test]
    fn a_run_is_created_once_and_opened_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run");
        assert!(RunFolder::open(&path).expect_err("no run").to_string().contains("without --resume"));
        RunFolder::create(&path, &config(), &identity()).expect("created");
        assert!(RunFolder::create(&path, &config(), &identity()).expect_err("a run").to_string().contains("--resume"));
        let run = RunFolder::open(&path).expect("opened");
        assert_eq!(*run.config(), config());
        assert_eq!(run.identity().expect("identity"), identity());
    }

    #[test]
    fn the_newest_checkpoint_replaces_older_ones() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = RunFolder::create(&folder.path().join("run"), &config(), &identity()).expect("created");
        assert!(run.newest_checkpoint().expect("readable").is_none());
        for step in [3_u64, 12] {
            run.save_checkpoint(step, &json!({ "step": step }), &[("network.bpk", vec![step as u8])]).expect("saved");
        }
        let checkpoint = run.newest_checkpoint().expect("readable").expect("a checkpoint");
        assert_eq!(checkpoint.state::<serde_json::Value>().expect("state")["step"], 12);
        assert_eq!(checkpoint.file("network.bpk").expect("readable"), Some(vec![12]));
        assert_eq!(checkpoint.file("other").expect("readable"), None);
        assert_eq!(run.checkpoints().expect("readable").len(), 1);
    }

    #[test]
    fn a_run_whose_configuration_was_changed_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run");
        let run = RunFolder::create(&path, &config(), &identity()).expect("created");
        let file = path.join(CONFIG_FILE);
        let written = fs::read_to_string(&file).expect("readable");
        run.save_checkpoint(3, &json!({}), &[]).expect("saved");

        fs::write(&file, format!("# What is no value may be changed.\n{written}")).expect("written");
        RunFolder::open(&path).expect("the same configuration");

        let mut changed = config();
        changed.seed += 1;
        changed.supervised.epochs += 1;
        changed.augment.gain = None;
        fs::write(&file, changed.to_toml().expect("TOML")).expect("written");
        let error = RunFolder::open(&path).expect_err("another configuration").to_string();
        let (seed, epochs) = (config().seed, config().supervised.epochs);
        let [low, high] = config().augment.gain.expect("on");
        for part in [
            format!("seed is {}, was {seed}", seed + 1),
            format!("supervised.epochs is {}, was {epochs}", epochs + 1),
            format!("augment.gain is not set, was [{low:?}, {high:?}]"),
            "checkpoint-00000003".to_owned(),
            "start a new run".to_owned(),
        ] {
            assert!(error.contains(&part), "{part} is not in: {error}");
        }
        assert!(!error.contains("model."), "{error}");

        fs::copy(path.join("checkpoint-00000003").join(CONFIG_FILE), &file).expect("copied");
        RunFolder::open(&path).expect("the old configuration");
    }

    #[test]
    fn resuming_cuts_the_log_behind_the_checkpoint_and_half_a_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = RunFolder::create(&folder.path().join("run"), &config(), &identity()).expect("created");
        let mut log = run.metrics_log(0).expect("a log");
        for step in 1..=4 {
            log.write(&json!({ "step": step })).expect("written");
        }
        log.file.write_all(b"{\"step\":2").expect("written");
        fs::create_dir(run.path().join(".tmp-killed")).expect("created");
        run.metrics_log(2).expect("a log");
        let text = fs::read_to_string(run.path().join(METRICS_FILE)).expect("readable");
        assert_eq!(text, "{\"step\":1}\n{\"step\":2}\n");
        assert!(!run.path().join(".tmp-killed").exists());
    }
}
