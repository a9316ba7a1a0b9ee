//! A data set as a stage needs it: labels read, audio decoded, identity known.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};

use crate::config::{Config, Targets};
use crate::data::batches::BatchSource;
use crate::data::clips::{self, Clip, ClipAudio, Loaded};
use crate::data::mtat::{ANNOTATIONS_FILE, ClipEntry, Mtat, Split};
use crate::data::soft_labels::{CLIPS_FILE, INDEX_FILE, SoftLabels, WINDOWS_FILE};
use crate::progress::Progress;
use crate::run::Identity;
use crate::stages::supervised::SupervisedData;

/// Labels of a data set, read and checked; no audio yet.
#[derive(Debug)]
pub struct Dataset {
    annotations: Mtat,
    soft_labels: Option<SoftLabels>,
    label_files: Vec<&'static str>,
}

/// Labels and audio of the training and the validation split.
#[derive(Debug)]
pub struct LoadedDataset {
    root: PathBuf,
    tags: Vec<String>,
    soft_labels: Option<SoftLabels>,
    label_files: Vec<&'static str>,
    train: Vec<Clip>,
    valid: Vec<Clip>,
    noise: Vec<ClipAudio>,
    left_out: Vec<String>,
}

impl Dataset {
    /// Number of tags that it knows.
    pub fn num_tags(&self) -> usize {
        self.annotations.tags.len()
    }

    /// Reads the labels that `config` asks for from a folder in `MagnaTagATune`'s layout.
    ///
    /// # Errors
    /// Names file, line and rule; or the training clip that the teacher has not heard.
    pub fn open(root: &Path, config: &Config) -> Result<Self> {
        let annotations = Mtat::open(root)?;
        let mut label_files = vec![ANNOTATIONS_FILE];
        let soft_labels = match config.data.targets {
            Targets::Hard => None,
            Targets::Soft => {
                let with_windows = config.data.clip_share < 1.0;
                label_files.push(CLIPS_FILE);
                if with_windows {
                    label_files.extend([WINDOWS_FILE, INDEX_FILE]);
                }
                let soft = SoftLabels::open(root, &annotations.tags, with_windows)?;
                for clip in annotations.split(Split::Train) {
                    if soft.clip(clip.id).is_none() || (with_windows && soft.window(clip.id, 0.0).is_none()) {
                        let id = clip.id;
                        bail!("{}: clip_id {id} of the training split is missing", root.join(CLIPS_FILE).display());
                    }
                }
                Some(soft)
            }
        };
        Ok(Self { annotations, soft_labels, label_files })
    }

    /// Decodes the training and the validation clips and the noise that `config` asks for.
    ///
    /// # Errors
    /// If a split has no clip that can be decoded, the noise folder holds none, or `stop` was raised.
    pub fn load(self, config: &Config, progress: Progress, stop: &AtomicBool) -> Result<LoadedDataset> {
        let root = self.annotations.root.clone();
        let split = |split| -> Result<Loaded> {
            let entries: Vec<&ClipEntry> = self.annotations.split(split).collect();
            clips::load(&root, &entries, progress, stop).with_context(|| format!("split {split}"))
        };
        let (train, valid) = (split(Split::Train)?, split(Split::Valid)?);
        let noise = match &config.augment.recorded_noise {
            Some(noise) => clips::load_folder(&root.join(&noise.folder), progress, stop)
                .context("augment.recorded_noise.folder (relative to the data folder)")?,
            None => Vec::new(),
        };
        Ok(LoadedDataset {
            tags: self.annotations.tags,
            soft_labels: self.soft_labels,
            label_files: self.label_files,
            train: train.clips,
            valid: valid.clips,
            noise,
            left_out: train.left_out.into_iter().chain(valid.left_out).collect(),
            root,
        })
    }
}

impl LoadedDataset {
    /// One line for people, and one for the first clip that was left out.
    pub fn summary(&self) -> String {
        let minutes = |clips: &[Clip]| {
            let samples: usize = clips.iter().map(|clip| clip.audio.len()).sum();
            samples as f64 / f64::from(earmark_core::SAMPLE_RATE_HZ) / 60.0
        };
        let mut text = format!(
            "{} training clips ({:.0} min), {} validation clips ({:.0} min), {} tags",
            self.train.len(),
            minutes(&self.train),
            self.valid.len(),
            minutes(&self.valid),
            self.tags.len()
        );
        if let Some(first) = self.left_out.first() {
            let count = self.left_out.len();
            let left_out = format!("\n{count} clips are missing or unreadable and were left out; the first: {first}");
            text.push_str(&left_out);
        }
        text
    }

    /// What a run on these clips and labels is made from.
    ///
    /// # Errors
    /// If a file cannot be read any more.
    pub fn identity(&self, config: &Config, stage: &str) -> Result<Identity> {
        let mut label_files = BTreeMap::new();
        for &file in &self.label_files {
            let path = self.root.join(file);
            let bytes = std::fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
            label_files.insert(file.to_owned(), blake3::hash(&bytes).to_hex().to_string());
        }
        let mut hasher = blake3::Hasher::new();
        for clip in self.train.iter().chain(&self.valid) {
            hasher.update(format!("{}\t{}\n", clip.entry.path, clip.audio.len()).as_bytes());
        }
        hasher.update(&(self.noise.len() as u64).to_le_bytes());
        Ok(Identity {
            format_version: Identity::FORMAT_VERSION,
            stage: stage.to_owned(),
            seed: config.seed,
            tags: self.tags.clone(),
            label_files,
            clips: hasher.finalize().to_hex().to_string(),
            num_train_clips: self.train.len(),
            num_valid_clips: self.valid.len(),
            split: "folders: 0-9, a, b train; c valid; d, e, f test".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit(),
        })
    }

    /// As stage `supervised` wants it.
    pub fn into_supervised(self, config: &Config) -> SupervisedData {
        let train = Arc::new(BatchSource {
            clips: self.train,
            soft_labels: self.soft_labels,
            noise: self.noise,
            data: config.data.clone(),
            augment: config.augment.clone(),
            batch: config.supervised.batch,
            seed: config.seed,
        });
        SupervisedData { train, valid: self.valid, tags: self.tags }
    }
}

/// Decodes one split for evaluation with a model that knows `tags`.
///
/// # Errors
/// If the data set has other tags, or a clip is missing: a measure over fewer clips would not be comparable.
pub fn load_split(root: &Path, split: Split, tags: &[String], progress: Progress) -> Result<Vec<Clip>> {
    let annotations = Mtat::open(root)?;
    if annotations.tags != tags {
        bail!("{}: the tags are not those of the model, in its order", root.join(ANNOTATIONS_FILE).display());
    }
    let entries: Vec<&ClipEntry> = annotations.split(split).collect();
    let loaded = clips::load(root, &entries, progress, &AtomicBool::new(false))?;
    if let Some(first) = loaded.left_out.first() {
        eprintln!("warning: {} of {} clips were left out; the first: {first}", loaded.left_out.len(), entries.len());
    }
    Ok(loaded.clips)
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
