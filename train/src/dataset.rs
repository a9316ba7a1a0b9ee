//! A data set as a stage needs it: labels read, audio decoded, identity known.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use earmark_core::adapt::{Domain, SnrOrder, SnrSchedule};

use crate::config::{Config, Method, Targets};
use crate::data::batches::BatchSource;
use crate::data::cache::Cache;
use crate::data::clips::{self, Clip, ClipAudio, Loaded};
use crate::data::domains::{DomainSource, Noise, PairSource};
use crate::data::items::{Collection, Item, Layout, Split};
use crate::data::layout;
use crate::data::mtat::{self, ANNOTATIONS_FILE, CLIP_INFO_FILE, SplitRule};
use crate::data::soft_labels::{CLIPS_FILE, INDEX_FILE, SoftLabels, WINDOWS_FILE};
use crate::progress::Progress;
use crate::run::{self, Identity, Stage};

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
    domain_noise: Option<DomainNoise>,
    left_out: Vec<String>,
    /// Clips and recordings that the cache could not take.
    not_cached: usize,
}

/// The noise of the noisy domain.
#[derive(Debug)]
struct DomainNoise {
    train: Noise,
    valid: Noise,
}

/// What stage `supervised` learns from and is measured on.
#[derive(Debug)]
pub struct SupervisedData {
    /// Training batches.
    pub train: Arc<BatchSource>,
    /// Training clips whose labels may be read, by index, besides what the batches hold: thresholds are chosen on them.
    pub labelled: Vec<usize>,
    /// Validation clips.
    pub valid: Vec<Clip>,
    /// Tag names in the order of the targets.
    pub tags: Vec<String>,
}

/// What stage `dat` learns from and is measured on.
#[derive(Debug)]
pub struct DatData {
    /// Training batches.
    pub train: Arc<DomainSource>,
    /// Clips and tags of validation, and the labels that thresholds are chosen on.
    pub supervised: SupervisedData,
    /// Noise of validation.
    pub valid_noise: Noise,
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

    /// Decodes the noise of one split: the split of a data set of noise, or the whole of a plain folder.
    fn noise(&self, dir: &Path, split: Split, progress: Progress, stop: &AtomicBool) -> Result<Vec<ClipAudio>> {
        let collection = layout::open(dir, SplitRule::default())?;
        let of_split = |item: &&Item| collection.layout == Layout::Folder || item.split == split;
        let items: Vec<&Item> = collection.items.iter().filter(of_split).collect();
        let loaded = clips::load(&collection.root, &items, self.cache.as_ref(), progress, stop)?;
        Ok(loaded.clips.into_iter().map(|clip| clip.audio).collect())
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
        let domain_noise = match &config.noise {
            Some(noise) => {
                let part = |folder: &str, split, key: &str| -> Result<Noise> {
                    let recordings = self
                        .noise(&root.join(folder), split, progress, stop)
                        .with_context(|| format!("{key} (relative to the data folder)"))?;
                    Ok(Noise { recordings, num_noises: noise.num_noises })
                };
                let train = part(&noise.train, Split::Train, "noise.train")?;
                Some(DomainNoise { train, valid: part(&noise.valid, Split::Valid, "noise.valid")? })
            }
            None => None,
        };
        Ok(LoadedDataset {
            tags: self.annotations.tags,
            soft_labels: self.soft_labels,
            split_rule: self.annotations.split_rule,
            label_files: self.label_files,
            train: train.clips,
            valid: valid.clips,
            noise,
            domain_noise,
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
    pub fn identity(&self, config: &Config, stage: Stage) -> Result<Identity> {
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
        if let Some(noise) = &self.domain_noise {
            for recording in noise.train.recordings.iter().chain(&noise.valid.recordings) {
                hasher.update(&(recording.len() as u64).to_le_bytes());
            }
        }
        Ok(Identity {
            format_version: Identity::FORMAT_VERSION,
            stage,
            seed: config.seed,
            tags: self.tags.clone(),
            label_files,
            clips: hasher.finalize().to_hex().to_string(),
            started_from: BTreeMap::new(),
            num_train_clips: self.train.len(),
            num_valid_clips: self.valid.len(),
            split: self.split_rule.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: run::commit(),
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
        let labelled = (0..train.clips.len()).collect();
        SupervisedData { train, labelled, valid: self.valid, tags: self.tags }
    }

    /// As stage `fe` wants it.
    ///
    /// # Errors
    /// If the configuration names no noise, or there are too few clips.
    pub fn into_pairs(self, config: &Config) -> Result<Arc<PairSource>> {
        self.check_domains(config)?;
        let noise = self.domain_noise.context(NO_NOISE)?;
        Ok(Arc::new(PairSource {
            clips: self.train.into_iter().map(|clip| clip.audio).collect(),
            noise: Arc::new(noise.train),
            snr: snr(config, SnrOrder::Constant).at(0),
            chain: config.fe.chain.clone(),
            batch: config.fe.batch,
            seed: config.seed,
        }))
    }

    /// As stage `dc` wants it. It reads no tags.
    ///
    /// # Errors
    /// If the configuration names no noise or mixes domains, or there are too few clips.
    pub fn into_domains(mut self, config: &Config) -> Result<Arc<DomainSource>> {
        self.check_domains(config)?;
        let noise = self.domain_noise.take().context(NO_NOISE)?;
        Ok(Arc::new(DomainSource {
            clips: self.into_supervised(config).train,
            noise: Arc::new(noise.train),
            snr: snr(config, config.dc.snr_order()),
            batch: config.dc.batch,
            method: Method::Proposed,
        }))
    }

    /// As stage `dat` wants it.
    ///
    /// # Errors
    /// As [`into_domains`](Self::into_domains).
    pub fn into_dat(mut self, config: &Config) -> Result<DatData> {
        self.check_domains(config)?;
        let noise = self.domain_noise.take().context(NO_NOISE)?;
        let mut supervised = self.into_supervised(config);
        if config.dat.method != Method::Supervised {
            supervised.labelled.retain(|&clip| Domain::of_index(clip) == Domain::Source);
        }
        let train = DomainSource {
            clips: Arc::clone(&supervised.train),
            noise: Arc::new(noise.train),
            snr: snr(config, config.dat.snr_order()),
            batch: config.dat.batch,
            method: config.dat.method,
        };
        Ok(DatData { train: Arc::new(train), supervised, valid_noise: noise.valid })
    }

    /// Checks that there are two clips for each domain, which batch norm needs, and that nothing carries sound or
    /// labels from one domain into the other.
    fn check_domains(&self, config: &Config) -> Result<()> {
        if self.train.len() < 4 {
            bail!("{} training clips; two domains need at least 4", self.train.len());
        }
        if config.augment.recorded_noise.is_some() || config.augment.mixup.is_some() {
            bail!(
                "augment.recorded_noise and augment.mixup would blur the two domains; leave them out in fe, dc and dat"
            );
        }
        Ok(())
    }
}

const NO_NOISE: &str =
    "the stages fe, dc and dat need a section [noise] in the configuration: train, valid, num_noises, snr_db";

/// How loud the noise is that `config` asks for.
fn snr(config: &Config, order: SnrOrder) -> SnrSchedule {
    let thesis = SnrSchedule::default();
    SnrSchedule { range_db: config.noise.as_ref().map_or(thesis.range_db, |noise| noise.snr_db), order }
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
