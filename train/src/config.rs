//! What a run is made of: one TOML file, saved with the run. Unknown keys are refused; [`Config::validate`] is the one
//! place that checks values, whether they came from the file or from `--set`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::Path;

use anyhow::{Context, Result, bail};
use earmark_core::adapt::{AdversarialLoss, Alpha, BatchStatistics, NT_XENT_TEMPERATURE, SnrOrder, SnrSchedule};
use earmark_core::audio::augment::Chain;
use earmark_core::weights::{Architecture, MAX_WIDTH};
use serde::{Deserialize, Serialize};

use crate::data::items::Split;
use crate::data::mtat::SplitRule;

/// Configuration of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Fixes initial weights, order of clips, crops and augmentation.
    pub seed: u64,
    /// Size of the network.
    pub model: ModelConfig,
    /// What the network is asked to say.
    pub data: DataConfig,
    /// The supervised reference: feature extractor and head on tag targets.
    #[serde(default)]
    pub supervised: SupervisedConfig,
    /// The noisy domain, which the stages `fe`, `dc` and `dat` need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<NoiseConfig>,
    /// Stage 1: the feature extractor by contrastive learning. The defaults of the three stages are the thesis' values.
    #[serde(default)]
    pub fe: FeConfig,
    /// Stage 2: the domain classifier.
    #[serde(default)]
    pub dc: DcConfig,
    /// Stage 3: domain adversarial training and its two references.
    #[serde(default)]
    pub dat: DatConfig,
    /// What happens to a window on its way into a batch; everything is off unless named.
    #[serde(default)]
    pub augment: AugmentConfig,
    /// What `--stage all` trains and measures; of no concern to a single run, whose saved configuration is without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<AllConfig>,
}

/// Positive clips that a tag needs to count among the frequent ones, unless told otherwise.
pub const MIN_POSITIVES: usize = 5;

/// An experiment: runs of stage 3 with what each of them starts from, and the noise that they are measured in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AllConfig {
    /// Training seeds; without any, the configuration's own.
    pub seeds: Vec<u64>,
    /// Split that the models are measured on.
    pub split: Split,
    /// Noises to measure in, each `NAME=FOLDER` with a folder relative to the data folder.
    pub noises: Vec<String>,
    /// Positive clips that a tag needs to count in the tables.
    pub min_positives: usize,
    /// Lists of them in `AudioSet`'s form, whose labels are the kinds of noise; relative to the data folder.
    pub noise_lists: Vec<String>,
    /// SNR at which embeddings are laid out in the plane; left out, they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tsne_snr_db: Option<f32>,
    /// The runs, in the order of the tables.
    pub runs: Vec<RunConfig>,
}

/// A run of stage 3 and how it differs from the configuration around it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Name in tables, and of its folder.
    pub name: String,
    /// Values of the configuration that are others here, each `KEY=VALUE`.
    #[serde(default)]
    pub set: Vec<String>,
    /// Its seeds, where they are not those of all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seeds: Vec<u64>,
    /// The run before it whose best networks it goes on with, label predictor included; left out, it starts from stage 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

impl Default for AllConfig {
    /// The methods of the thesis' table 4.1, on the test split, without noise.
    fn default() -> Self {
        let method = |name: &str| RunConfig {
            name: name.to_owned(),
            set: vec![format!("dat.method={name}")],
            ..RunConfig::default()
        };
        Self {
            seeds: Vec::new(),
            split: Split::Test,
            noises: Vec::new(),
            noise_lists: Vec::new(),
            min_positives: MIN_POSITIVES,
            tsne_snr_db: None,
            runs: ["baseline", "supervised", "proposed"].map(method).to_vec(),
        }
    }
}

/// Size of the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Factor on the widths of SampleCNN's table 3.1 (1.0 is the table).
    pub width: f64,
    /// Kernel of the last module: 3 (CLMR's code) or 1 (table 3.1).
    pub last_kernel: usize,
    /// Hidden units of the head; left out, the head is one fully connected layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_hidden: Option<usize>,
    /// What the domain classifier and the label predictor read.
    #[serde(default)]
    pub embedding: Embedding,
}

/// What stage 2, stage 3 and inference read of stage 1's networks (section 3.1.1 of the thesis can be read both ways).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Embedding {
    /// The feature extractor's output, as `SimCLR` does.
    #[default]
    Encoder,
    /// The projector's output. The projector is then trained on in stage 3.
    Projector,
}

/// Where training targets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Targets {
    /// 0 or 1 from the annotation file.
    Hard,
    /// A teacher's probabilities.
    Soft,
}

/// What the network is asked to say of a crop. With soft targets:
/// `hard_share * annotation + (1 - hard_share) * (clip_share * clip + (1 - clip_share) * nearest window)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Where training targets come from.
    pub targets: Targets,
    /// What decides the split of a clip.
    #[serde(default)]
    pub split: SplitRule,
    /// Share of the clip's probabilities in the teacher's part; the rest are those of the teacher's window nearest to
    /// the crop.
    #[serde(default = "one")]
    pub clip_share: f64,
    /// Share of the annotation in a soft target.
    #[serde(default)]
    pub hard_share: f64,
}

/// Stage `supervised`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SupervisedConfig {
    /// Passes over the training clips, one random crop of each clip per pass.
    pub epochs: usize,
    /// Windows per step.
    pub batch: usize,
    /// Adam's learning rate after warm-up; falls to zero along a cosine.
    pub learning_rate: f64,
    /// Epochs over which the learning rate rises linearly from zero.
    pub warmup_epochs: f64,
    /// Decoupled weight decay (AdamW); 0 is plain Adam.
    pub weight_decay: f64,
    /// Decay of the moving average of the weights, which is then what is validated and exported; 0 is off.
    pub ema_decay: f64,
    /// Share of the embedding that is dropped before the head.
    pub dropout: f64,
    /// Which measure on the validation split picks the best weights.
    pub best_by: BestBy,
    /// Positives in the validation split that a tag needs to count in that measure: with few, chance decides.
    pub best_min_positives: usize,
    /// Epochs between validations; the last epoch is always validated.
    pub validate_every_epochs: usize,
    /// Steps between checkpoints, besides the one after each validation; 0 is off.
    pub checkpoint_every_steps: u64,
}

impl Default for SupervisedConfig {
    /// Plain Adam as in stage 3.
    fn default() -> Self {
        Self {
            epochs: 100,
            batch: 48,
            learning_rate: 1e-4,
            warmup_epochs: 0.0,
            weight_decay: 0.0,
            ema_decay: 0.0,
            dropout: 0.0,
            best_by: BestBy::default(),
            best_min_positives: 1,
            validate_every_epochs: 1,
            checkpoint_every_steps: 0,
        }
    }
}

/// The noisy domain: every second clip of the data set, with noise on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoiseConfig {
    /// Noise of training, relative to the data folder: `AudioSet`'s or MUSAN's layout (their training part), or a
    /// folder whose every recording counts.
    pub train: String,
    /// Noise of validation, likewise (the validation part).
    pub valid: String,
    /// Recordings that are summed on a window: 1, 2 or 4.
    #[serde(default = "one_noise")]
    pub num_noises: usize,
    /// Lowest and highest signal-to-noise ratio of the noisy half in dB; whole decibels between them are drawn.
    #[serde(default = "thesis_snr_db")]
    pub snr_db: [i32; 2],
}

/// Stage `fe`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FeConfig {
    /// Passes over the training clips, one pair of random crops of each clip per pass.
    pub epochs: usize,
    /// Pairs per step.
    pub batch: usize,
    /// Adam's learning rate.
    pub learning_rate: f64,
    /// Decoupled weight decay (AdamW).
    pub weight_decay: f64,
    /// NT-Xent's temperature.
    pub temperature: f64,
    /// Length of the projection that the loss compares.
    pub projection_len: usize,
    /// Probabilities of CLMR's augmentations.
    pub chain: Chain,
    /// Epochs between checkpoints; the last one always has one.
    pub checkpoint_every_epochs: usize,
}

impl Default for FeConfig {
    fn default() -> Self {
        Self {
            epochs: 1_000,
            batch: 48,
            learning_rate: 3e-4,
            weight_decay: 1e-6,
            temperature: NT_XENT_TEMPERATURE,
            projection_len: 64,
            chain: Chain::default(),
            checkpoint_every_epochs: 1,
        }
    }
}

/// How loud the noise is in the course of stage 2 and 3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// All of `noise.snr_db` all along.
    #[default]
    None,
    /// From easy to hard, see [`SnrOrder`].
    EasyToHard,
}

/// Stage `dc`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DcConfig {
    /// Passes over the training clips.
    pub epochs: usize,
    /// Windows per step, half of them noisy.
    pub batch: usize,
    /// Adam's learning rate.
    pub learning_rate: f64,
    /// Hidden units of the domain classifier.
    pub hidden: usize,
    /// How loud the noise is.
    pub strategy: Strategy,
    /// Epochs after which `easy_to_hard` goes on by 1 dB.
    pub epochs_per_db: usize,
    /// Epochs between checkpoints; the last one always has one.
    pub checkpoint_every_epochs: usize,
}

impl Default for DcConfig {
    fn default() -> Self {
        Self {
            epochs: 60,
            batch: 48,
            learning_rate: 1e-4,
            hidden: 100,
            strategy: Strategy::None,
            epochs_per_db: 3,
            checkpoint_every_epochs: 1,
        }
    }
}

impl DcConfig {
    /// Which noise the noisy half begins with.
    pub fn snr_order(&self) -> SnrOrder {
        match self.strategy {
            Strategy::None => SnrOrder::Constant,
            Strategy::EasyToHard => SnrOrder::LoudNoiseFirst { epochs_per_db: self.epochs_per_db },
        }
    }
}

/// What stage `dat` learns from (thesis, table 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Labels of the clean domain.
    Baseline,
    /// Labels of both domains.
    Supervised,
    /// Labels of the clean domain and the domain classifier's reversed gradient on both.
    #[default]
    Proposed,
}

/// What becomes of the domain classifier in stage 3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Adversary {
    /// It stays as stage 2 left it (best in the thesis).
    #[default]
    Freeze,
    /// It goes on learning.
    Finetune,
}

/// What the label predictor of stage 3 begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// The seed.
    #[default]
    New,
    /// That of the tagger which the feature extractor is of: a trained tagger goes on learning.
    Keep,
}

/// How the learning rate changes in the course of stage 3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// It stays.
    #[default]
    None,
    /// It falls to zero along half a cosine.
    Cosine,
}

/// Stage `dat`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatConfig {
    /// What is learnt from.
    pub method: Method,
    /// Passes over the training clips.
    pub epochs: usize,
    /// Windows per step, half of them noisy; `baseline` takes the clean half alone.
    pub batch: usize,
    /// Adam's learning rate.
    pub learning_rate: f64,
    /// How it changes.
    pub decay: Decay,
    /// Decay of the moving average of the weights, which is then what is validated and exported; 0 is off.
    pub ema_decay: f64,
    /// Which gradient passes from the domain classifier to the feature extractor.
    pub adversarial_loss: AdversarialLoss,
    /// Factor on that gradient.
    pub lambda: f64,
    /// Further factor on it: DANN's schedule or 1.
    pub alpha: Alpha,
    /// What the label predictor begins with.
    pub label_predictor: Head,
    /// What becomes of the domain classifier.
    pub domain_classifier: Adversary,
    /// Its learning rate where it is fine-tuned; left out, it is that of the other networks. An adversary that learns
    /// too slowly is overrun: its accuracy falls below one half, and the feature extractor follows an old judgement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain_learning_rate: Option<f64>,
    /// Steps of it for each step of the other networks, on the same embeddings, where it is fine-tuned.
    pub domain_steps: usize,
    /// How loud the noise is.
    pub strategy: Strategy,
    /// Epochs after which `easy_to_hard` goes on by 1 dB.
    pub epochs_per_db: usize,
    /// Over which windows the feature extractor's batch norm takes its statistics.
    pub batch_statistics: BatchStatistics,
    /// Epochs between validations, clean and at five signal-to-noise ratios; the last epoch is always validated.
    pub validate_every_epochs: usize,
    /// Steps between checkpoints, besides the one after each validation; 0 is off.
    pub checkpoint_every_steps: u64,
}

impl Default for DatConfig {
    fn default() -> Self {
        Self {
            method: Method::default(),
            epochs: 800,
            batch: 48,
            learning_rate: 1e-4,
            decay: Decay::default(),
            ema_decay: 0.0,
            adversarial_loss: AdversarialLoss::default(),
            lambda: 0.05,
            alpha: Alpha::default(),
            label_predictor: Head::default(),
            domain_classifier: Adversary::default(),
            domain_learning_rate: None,
            domain_steps: 1,
            strategy: Strategy::None,
            epochs_per_db: 30,
            batch_statistics: BatchStatistics::default(),
            validate_every_epochs: 10,
            checkpoint_every_steps: 0,
        }
    }
}

impl DatConfig {
    /// Which noise the noisy half begins with.
    pub fn snr_order(&self) -> SnrOrder {
        match self.strategy {
            Strategy::None => SnrOrder::Constant,
            Strategy::EasyToHard => SnrOrder::SoftNoiseFirst { epochs_per_db: self.epochs_per_db },
        }
    }
}

/// Measure that picks the best weights, on clip probabilities of the validation split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BestBy {
    /// Macro ROC-AUC.
    RocAucMacro,
    /// Macro average precision.
    AveragePrecisionMacro,
    /// The sum of both.
    #[default]
    Sum,
}

/// What happens to a window on its way into a batch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AugmentConfig {
    /// Range of a factor on the samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gain: Option<[f32; 2]>,
    /// Probability of turning the waveform over.
    #[serde(default)]
    pub polarity_probability: f64,
    /// Largest change of speed (and so of pitch) in percent, up or down.
    #[serde(default)]
    pub speed_percent: f64,
    /// Low-pass or high-pass filtering.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<FilterConfig>,
    /// Mixing with another clip, targets included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixup: Option<MixupConfig>,
    /// White noise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub white_noise: Option<WhiteNoiseConfig>,
    /// Recorded noise; the targets stay the music's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_noise: Option<RecordedNoiseConfig>,
}

/// A low-pass or a high-pass (each in half of the cases) of second order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterConfig {
    /// Probability per window.
    pub probability: f64,
    /// Range of the low-pass' corner frequency, drawn evenly on a logarithmic scale.
    pub low_pass_hz: [f32; 2],
    /// Range of the high-pass' corner frequency, drawn likewise.
    pub high_pass_hz: [f32; 2],
}

/// `window = (1 - share) * window + share * other`, targets likewise (Zhang et al., 2018).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixupConfig {
    /// Probability per window.
    pub probability: f64,
    /// The other clip's share is drawn evenly between 0 and this.
    pub max_share: f32,
}

/// White noise at a random signal-to-noise ratio.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhiteNoiseConfig {
    /// Probability per window.
    pub probability: f64,
    /// Range of the signal-to-noise ratio.
    pub snr_db: [f32; 2],
}

/// Recorded noise at a random signal-to-noise ratio.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedNoiseConfig {
    /// Folder of noise recordings, relative to the data folder; searched recursively.
    pub folder: String,
    /// Probability per window.
    pub probability: f64,
    /// Range of the signal-to-noise ratio.
    pub snr_db: [f32; 2],
}

fn one_noise() -> usize {
    1
}

fn thesis_snr_db() -> [i32; 2] {
    SnrSchedule::default().range_db
}

fn one() -> f64 {
    1.0
}

impl Config {
    /// Reads a TOML file, applies `key=value` overrides (`supervised.epochs=3`) and validates.
    ///
    /// # Errors
    /// Names the file, the key and the rule.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{}: cannot be read; configurations ship in train/configs", path.display()))?;
        Self::parse(&text, overrides).with_context(|| format!("{}", path.display()))
    }

    /// Parses TOML text, applies overrides and validates.
    ///
    /// # Errors
    /// Names the key and the rule.
    pub fn parse(text: &str, overrides: &[String]) -> Result<Self> {
        let config: Self = if overrides.is_empty() {
            toml::from_str(text)?
        } else {
            let mut table: toml::Table = toml::from_str(text)?;
            for item in overrides {
                set(&mut table, item).with_context(|| format!("--set {item}"))?;
            }
            table.try_into()?
        };
        config.validate()?;
        Ok(config)
    }

    /// This configuration with other values, each `KEY=VALUE`.
    ///
    /// # Errors
    /// Names the key and the rule.
    pub fn with(&self, overrides: &[String]) -> Result<Self> {
        Self::parse(&self.to_toml()?, overrides)
    }

    /// The configuration as the TOML text that [`parse`](Self::parse) reads.
    ///
    /// # Errors
    /// Never for a configuration that was parsed.
    pub fn to_toml(&self) -> Result<String> {
        Ok(toml::to_string(self)?)
    }

    /// Values that differ from those in `earlier`, each as `key is A, was B`.
    ///
    /// # Errors
    /// Never for configurations that were parsed.
    pub fn changes_since(&self, earlier: &Self) -> Result<Vec<String>> {
        let (now, before) = (leaves(self)?, leaves(earlier)?);
        let keys: BTreeSet<&String> = now.keys().chain(before.keys()).collect();
        let shown = |value: Option<&toml::Value>| value.map_or_else(|| "not set".to_owned(), ToString::to_string);
        Ok(keys
            .into_iter()
            .map(|key| (key, now.get(key), before.get(key)))
            .filter(|(_, now, before)| now != before)
            .map(|(key, now, before)| format!("{key} is {}, was {}", shown(now), shown(before)))
            .collect())
    }

    /// Shape of the network for `num_tags` tags.
    pub fn architecture(&self, num_tags: usize) -> Architecture {
        let head_on_encoder =
            Architecture::scaled(self.model.width, self.model.last_kernel, self.model.head_hidden, num_tags);
        let projected = self.model.embedding == Embedding::Projector;
        Architecture { projector_hidden: projected.then_some(head_on_encoder.embedding_len()), ..head_on_encoder }
    }

    /// Length of what the domain classifier and the label predictor read.
    pub fn read_len(&self) -> usize {
        match self.model.embedding {
            Embedding::Encoder => self.architecture(1).embedding_len(),
            Embedding::Projector => self.fe.projection_len,
        }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// Names the key, its value and the range it must lie in.
    pub fn validate(&self) -> Result<()> {
        within("model.width", self.model.width, 0.01..=8.0)?;
        self.architecture(1).validate().map_err(|rule| anyhow::anyhow!("model: {rule}"))?;

        within("data.clip_share", self.data.clip_share, 0.0..=1.0)?;
        within("data.hard_share", self.data.hard_share, 0.0..=1.0)?;
        if self.data.targets == Targets::Hard && (self.data.clip_share, self.data.hard_share) != (1.0, 0.0) {
            bail!("data.clip_share and data.hard_share mix soft targets; leave them out with data.targets = \"hard\"");
        }

        let stage = &self.supervised;
        within("supervised.epochs", stage.epochs as f64, 1.0..=1e6)?;
        within("supervised.batch", stage.batch as f64, 2.0..=4096.0)?;
        within("supervised.learning_rate", stage.learning_rate, 1e-9..=1.0)?;
        within("supervised.warmup_epochs", stage.warmup_epochs, 0.0..=stage.epochs as f64)?;
        within("supervised.weight_decay", stage.weight_decay, 0.0..=1.0)?;
        within("supervised.ema_decay", stage.ema_decay, 0.0..=0.999_999)?;
        within("supervised.dropout", stage.dropout, 0.0..=0.95)?;
        within("supervised.best_min_positives", stage.best_min_positives as f64, 1.0..=1e6)?;
        within("supervised.validate_every_epochs", stage.validate_every_epochs as f64, 1.0..=1e6)?;

        if let Some(noise) = &self.noise {
            if ![1, 2, 4].contains(&noise.num_noises) {
                bail!("noise.num_noises is {}; it must be 1, 2 or 4", noise.num_noises);
            }
            range("noise.snr_db", noise.snr_db.map(|db| db as f32), -100.0..=100.0)?;
        }
        let fe = &self.fe;
        within("fe.epochs", fe.epochs as f64, 1.0..=1e6)?;
        within("fe.batch", fe.batch as f64, 2.0..=4096.0)?;
        within("fe.learning_rate", fe.learning_rate, 1e-9..=1.0)?;
        within("fe.weight_decay", fe.weight_decay, 0.0..=1.0)?;
        within("fe.temperature", fe.temperature, 1e-3..=100.0)?;
        within("fe.projection_len", fe.projection_len as f64, 1.0..=MAX_WIDTH as f64)?;
        for (effect, probability) in fe.chain.probabilities() {
            within(&format!("fe.chain.{effect}"), probability, 0.0..=1.0)?;
        }
        within("fe.checkpoint_every_epochs", fe.checkpoint_every_epochs as f64, 1.0..=1e6)?;
        let dc = &self.dc;
        within("dc.epochs", dc.epochs as f64, 1.0..=1e6)?;
        within("dc.batch", dc.batch as f64, 4.0..=4096.0)?;
        within("dc.learning_rate", dc.learning_rate, 1e-9..=1.0)?;
        within("dc.hidden", dc.hidden as f64, 1.0..=MAX_WIDTH as f64)?;
        within("dc.epochs_per_db", dc.epochs_per_db as f64, 1.0..=1e6)?;
        within("dc.checkpoint_every_epochs", dc.checkpoint_every_epochs as f64, 1.0..=1e6)?;
        let dat = &self.dat;
        within("dat.epochs", dat.epochs as f64, 1.0..=1e6)?;
        within("dat.batch", dat.batch as f64, 4.0..=4096.0)?;
        within("dat.learning_rate", dat.learning_rate, 1e-9..=1.0)?;
        within("dat.domain_learning_rate", dat.domain_learning_rate.unwrap_or(dat.learning_rate), 1e-9..=1.0)?;
        within("dat.domain_steps", dat.domain_steps as f64, 1.0..=1000.0)?;
        if dat.domain_steps > 1 && dat.domain_classifier == Adversary::Freeze {
            let steps = dat.domain_steps;
            bail!(
                "dat.domain_steps is {steps}, but a frozen classifier makes none; use dat.domain_classifier = \
                 \"finetune\""
            );
        }
        within("dat.ema_decay", dat.ema_decay, 0.0..=0.999_999)?;
        within("dat.lambda", dat.lambda, 0.0..=1e3)?;
        if dat.label_predictor == Head::Keep && self.model.embedding == Embedding::Projector {
            bail!(
                "dat.label_predictor = \"keep\" goes on with a tagger, whose head is not one on a projection; use \
                 model.embedding = \"encoder\""
            );
        }
        within("dat.epochs_per_db", dat.epochs_per_db as f64, 1.0..=1e6)?;
        within("dat.validate_every_epochs", dat.validate_every_epochs as f64, 1.0..=1e6)?;

        let augment = &self.augment;
        if let Some(gain) = augment.gain {
            range("augment.gain", gain, 0.001..=100.0)?;
        }
        within("augment.polarity_probability", augment.polarity_probability, 0.0..=1.0)?;
        within("augment.speed_percent", augment.speed_percent, 0.0..=20.0)?;
        if let Some(filter) = &augment.filter {
            within("augment.filter.probability", filter.probability, 0.0..=1.0)?;
            range("augment.filter.low_pass_hz", filter.low_pass_hz, 20.0..=11_000.0)?;
            range("augment.filter.high_pass_hz", filter.high_pass_hz, 20.0..=11_000.0)?;
        }
        if let Some(mixup) = &augment.mixup {
            within("augment.mixup.probability", mixup.probability, 0.0..=1.0)?;
            within("augment.mixup.max_share", f64::from(mixup.max_share), 0.0..=0.5)?;
        }
        if let Some(noise) = &augment.white_noise {
            within("augment.white_noise.probability", noise.probability, 0.0..=1.0)?;
            range("augment.white_noise.snr_db", noise.snr_db, -30.0..=100.0)?;
        }
        if let Some(noise) = &augment.recorded_noise {
            within("augment.recorded_noise.probability", noise.probability, 0.0..=1.0)?;
            range("augment.recorded_noise.snr_db", noise.snr_db, -30.0..=100.0)?;
        }
        Ok(())
    }
}

/// Every value by its dotted key.
fn leaves(config: &Config) -> Result<BTreeMap<String, toml::Value>> {
    fn collect(prefix: &str, table: toml::Table, all: &mut BTreeMap<String, toml::Value>) {
        for (key, value) in table {
            let key = format!("{prefix}{key}");
            match value {
                toml::Value::Table(table) => collect(&format!("{key}."), table, all),
                value => drop(all.insert(key, value)),
            }
        }
    }
    let mut all = BTreeMap::new();
    // Through text, where an f32 is as short as in the file.
    collect("", config.to_toml()?.parse()?, &mut all);
    Ok(all)
}

/// Sets `a.b=value` in `table`, where `value` is TOML or, failing that, a bare string.
fn set(table: &mut toml::Table, item: &str) -> Result<()> {
    let (key, text) = item.split_once('=').context("expected key=value")?;
    let value = toml::from_str::<toml::Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()));
    let mut parts: Vec<&str> = key.trim().split('.').collect();
    let last = parts.pop().filter(|part| !part.is_empty()).context("the key is empty")?;
    let mut at = table;
    for part in parts {
        at = at
            .entry(part)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .with_context(|| format!("{part} is a value, not a table"))?;
    }
    at.insert(last.to_owned(), value);
    Ok(())
}

fn within(key: &str, value: f64, allowed: RangeInclusive<f64>) -> Result<()> {
    if !allowed.contains(&value) {
        bail!("{key} is {value}; it must be between {} and {}", allowed.start(), allowed.end());
    }
    Ok(())
}

fn range(key: &str, [low, high]: [f32; 2], allowed: RangeInclusive<f32>) -> Result<()> {
    if !(allowed.contains(&low) && allowed.contains(&high) && low <= high) {
        let (min, max) = (allowed.start(), allowed.end());
        bail!("{key} is [{low}, {high}]; it must be [low, high] between {min} and {max}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "seed = 1\n[model]\nwidth = 0.25\nlast_kernel = 3\n[data]\ntargets = \"soft\"\n\
        [supervised]\nepochs = 2\nbatch = 16\nlearning_rate = 1e-3\n";

    fn refused(overrides: &[&str]) -> String {
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        format!("{:#}", Config::parse(MINIMAL, &overrides).expect_err("must be refused"))
    }

    #[test]
    fn shipped_configurations_are_valid() {
        for text in [
            include_str!("../configs/smoke.toml"),
            include_str!("../configs/open-corpus.toml"),
            include_str!("../configs/thesis.toml"),
            include_str!("../configs/ablation.toml"),
            include_str!("../configs/open-corpus-noise.toml"),
        ] {
            Config::parse(text, &[]).expect("a shipped configuration");
        }
    }

    #[test]
    fn what_is_saved_reads_back_the_same() {
        let config = Config::parse(include_str!("../configs/open-corpus.toml"), &[]).expect("valid");
        assert_eq!(Config::parse(&config.to_toml().expect("TOML"), &[]).expect("valid"), config);
    }

    #[test]
    fn overrides_reach_every_level() {
        let overrides = ["seed=7", "supervised.learning_rate=5e-4", "augment.gain=[0.5, 1.0]", "data.targets=hard"];
        let config = Config::parse(MINIMAL, &overrides.map(str::to_owned)).expect("valid");
        assert_eq!(config.seed, 7);
        assert!((config.supervised.learning_rate - 5e-4).abs() < 1e-12);
        assert_eq!(config.augment.gain, Some([0.5, 1.0]));
        assert_eq!(config.data.targets, Targets::Hard);
    }

    #[test]
    fn a_wrong_value_is_named_with_its_rule() {
        assert!(refused(&["supervised.epochs=0"]).contains("supervised.epochs is 0; it must be between 1"));
        assert!(refused(&["supervised.batch=1"]).contains("supervised.batch is 1"));
        assert!(refused(&["model.last_kernel=2"]).contains("last_kernel is 2"));
        assert!(refused(&["augment.gain=[1.0, 0.5]"]).contains("augment.gain is [1, 0.5]"));
        assert!(refused(&["supervised.learning_rate=nan"]).contains("learning_rate is NaN"));
        assert!(refused(&["data.targets=hard", "data.hard_share=0.5"]).contains("hard_share"));
        let backwards = ["noise.train=street", "noise.valid=street", "noise.snr_db=[5, -5]"];
        assert!(refused(&backwards).contains("noise.snr_db is [5, -5]"));
        assert!(refused(&["supervised.epoch=3"]).contains("unknown field `epoch`"));
        assert!(refused(&["seed"]).contains("key=value"));
        assert!(refused(&["seed.x=1"]).contains("not a table"));
    }
}
