//! A data set as a stage needs it: labels read, audio decoded, identity known.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};

use crate::config::{Config, Targets};
use crate::data::batches::BatchSource;
use crate::data::cache::Cache;
use crate::data::clips::{self, Clip, ClipAudio, Loaded};
use crate::data::items::{Collection, Item, Split};
use crate::data::mtat::{self, ANNOTATIONS_FILE, CLIP_INFO_FILE, SplitRule};
use crate::data::soft_labels::{CLIPS_FILE, INDEX_FILE, SoftLabels, WINDOWS_FILE};
use crate::progress::Progress;
use crate::run::Identity;
use crate::stages::supervised::SupervisedData;

/// Labels of a data set, read and checked; no audio yet.
#[derive(Debug)]
pub struct Dataset {
    annotations: Collection,
    soft_labels: Option<SoftLabels>,
    label_files: Vec<String>,
    cache: Option<Cache>,
}

/// Labels and audio of the training and the validation split.
#[derive(Debug)]
pub struct LoadedDataset {
    root: PathBuf,
    tags: Vec<String>,
    soft_labels: Option<SoftLabels>,
    split_rule: String,
    label_files: Vec<String>,
    train: Vec<Clip>,
    valid: Vec<Clip>,
    noise: Vec<ClipAudio>,
    left_out: Vec<String>,
    /// Clips and recordings that the cache could not take.
    not_cached: usize,
}

impl Dataset {
    /// Reads the labels that `config` asks for from a folder in `MagnaTagATune`'s layout.
    ///
    /// # Errors
    /// Names file, line and rule; or the training clip that the teacher has not heard.
    pub fn open(root: &Path, config: &Config) -> Result<Self> {
        let annotations = mtat::open(root, config.data.split)?;
        let names =
            annotations.label_files.iter().filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        // Which clips share a track says nothing about what is learnt.
        let mut label_files: Vec<String> = names.filter(|name| name != CLIP_INFO_FILE).collect();
        let soft_labels = match config.data.targets {
            Targets::Hard => None,
            Targets::Soft => {
                let with_windows = config.data.clip_share < 1.0;
                label_files.push(CLIPS_FILE.to_owned());
                if with_windows {
                    label_files.extend([WINDOWS_FILE, INDEX_FILE].map(str::to_owned));
                }
                let soft = SoftLabels::open(root, &annotations.tags, with_windows)?;
                for clip in annotations.split(Split::Train) {
                    if soft.clip(&clip.id).is_none() || (with_windows && soft.window(&clip.id, 0.0).is_none()) {
                        let id = &clip.id;
                        bail!("{}: clip_id {id} of the training split is missing", root.join(CLIPS_FILE).display());
                    }
                }
                Some(soft)
            }
        };
        Ok(Self { annotations, soft_labels, label_files, cache: None })
    }

    /// Takes decoded audio from `cache` and leaves there what is decoded; without one, it stays in memory.
    #[must_use]
    pub fn with_cache(self, cache: Option<Cache>) -> Self {
        Self { cache, ..self }
    }

    /// What the annotation files describe.
    pub fn annotations(&self) -> &Collection {
        &self.annotations
    }

    /// Decodes the training and the validation clips and the noise that `config` asks for.
    ///
    /// # Errors
    /// If a split has no clip that can be decoded, the noise folder holds none, or `stop` was raised.
    pub fn load(self, config: &Config, progress: Progress, stop: &AtomicBool) -> Result<LoadedDataset> {
        let root = self.annotations.root.clone();
        let split = |split| -> Result<Loaded> {
            let entries: Vec<&Item> = self.annotations.split(split).collect();
            clips::load(&root, &entries, self.cache.as_ref(), progress, stop).with_context(|| format!("split {split}"))
        };
        let (train, valid) = (split(Split::Train)?, split(Split::Valid)?);
        let noise = match &config.augment.recorded_noise {
            Some(noise) => clips::load_folder(&root.join(&noise.folder), self.cache.as_ref(), progress, stop)
                .context("augment.recorded_noise.folder (relative to the data folder)")?,
            None => Vec::new(),
        };
        Ok(LoadedDataset {
            tags: self.annotations.tags,
            soft_labels: self.soft_labels,
            split_rule: self.annotations.split_rule,
            label_files: self.label_files,
            train: train.clips,
            valid: valid.clips,
            noise,
            left_out: train.left_out.into_iter().chain(valid.left_out).collect(),
            not_cached: self.cache.as_ref().map_or(0, Cache::refused),
            root,
        })
    }
}

impl LoadedDataset {
    /// One line for people, one for the first clip that was left out, and one for what the cache could not take.
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
        if self.not_cached > 0 {
            text += &format!(
                "\n{} waveforms found no room in the cache and stay in memory; --cache-limit or --cache gives it more",
                self.not_cached
            );
        }
        text
    }

    /// What a run on these clips and labels is made from.
    ///
    /// # Errors
    /// If a file cannot be read any more.
    pub fn identity(&self, config: &Config, stage: &str) -> Result<Identity> {
        let mut label_files = BTreeMap::new();
        for file in &self.label_files {
            let path = self.root.join(file);
            let bytes = std::fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
            label_files.insert(file.clone(), blake3::hash(&bytes).to_hex().to_string());
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
            split: self.split_rule.clone(),
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

/// Decodes one split for evaluation with a model that knows `tags`, and warns of clips that are left out: a measure
/// over fewer clips is not comparable.
///
/// # Errors
/// If the data set has other tags, or no clip of the split can be decoded.
pub fn load_split(
    root: &Path,
    rule: SplitRule,
    split: Split,
    tags: &[String],
    cache: Option<&Cache>,
    progress: Progress,
) -> Result<Vec<Clip>> {
    let annotations = mtat::open(root, rule)?;
    if annotations.tags != tags {
        bail!("{}: the tags are not those of the model, in its order", root.join(ANNOTATIONS_FILE).display());
    }
    let entries: Vec<&Item> = annotations.split(split).collect();
    let loaded = clips::load(root, &entries, cache, progress, &AtomicBool::new(false))?;
    if let Some(first) = loaded.left_out.first() {
        eprintln!("warning: {} of {} clips were left out; the first: {first}", loaded.left_out.len(), entries.len());
    }
    Ok(loaded.clips)
}

/// Commit of the checkout that the program is run in, with `-dirty` where files differ from it; `None` outside a
/// checkout of this project or without git.
fn commit() -> Option<String> {
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
