//! What an evaluation found, as a file that later comparisons can trust: every figure, and what it was measured on.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use earmark_core::engine::{CpuEngine, Engine, EngineError, Hop, WindowResult};
use earmark_core::model_file::Model;
use earmark_core::{SAMPLE_RATE_HZ, WINDOW_SAMPLES};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::metrics::Metrics;
use super::noise::{Mixture, NoiseSet};
use super::report::{Level, Report, Summary, Tags};
use super::{Scores, heard, score_mixtures};
use crate::data::clips::Clip;
use crate::data::items::Split;
use crate::progress::Progress;
use crate::{rng, run, weights};

/// Version of the record that this build writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// Windows per domain in a [`Projection`].
const PROJECTED_WINDOWS: usize = 200;

/// An evaluation of one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`FORMAT_VERSION`] at the time of writing.
    pub format_version: u32,
    /// What was measured.
    pub model: ModelIdentity,
    /// What it was measured on. Figures of two records are comparable where these are equal.
    pub setting: Setting,
    /// Clean first, then every noise at every SNR.
    pub conditions: Vec<Condition>,
    /// Window level by kind of noise, where enough windows met one.
    pub kinds: Vec<KindMeasures>,
    /// Embeddings in the plane, where they were asked for.
    pub projections: Vec<Projection>,
    /// How long it took.
    pub speed: Speed,
    /// Version of this program.
    pub version: String,
    /// Commit of the source tree it was run from, where it was.
    pub commit: Option<String>,
}

/// A model, and the training that made it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// Name in the model file.
    pub name: String,
    /// How it was trained, e.g. `baseline`: what a comparison groups by.
    pub method: String,
    /// Seed of the training, where it is known: what a comparison pairs by.
    pub seed: Option<u64>,
    /// BLAKE3 of the weights as 32-bit floats.
    pub weights: String,
    /// Number of weights.
    pub num_parameters: usize,
}

/// Data, noise and rules of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// Part of the data set.
    pub split: String,
    /// Tag names in the order of the logits.
    pub tags: Vec<String>,
    /// The clips' files.
    pub clips: FilesIdentity,
    /// BLAKE3 over the truth of every clip.
    pub tag_targets: String,
    /// Positives that a tag needs to count in `*_min_positives`.
    pub min_positives: usize,
    /// Noise sets by name; empty in an evaluation without noise.
    pub noises: Vec<NoiseIdentity>,
    /// Different noises in each window.
    pub num_noises: usize,
    /// Seed of the mixtures.
    pub seed: u64,
}

/// A noise set by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoiseIdentity {
    /// Name on the command line.
    pub name: String,
    /// Its files.
    pub files: FilesIdentity,
}

/// Audio files by content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FilesIdentity {
    /// BLAKE3 over relative path and bytes of every file, in order. Encoded bytes, as decoders may differ in rounding.
    pub blake3: String,
    /// Number of files.
    pub num_files: usize,
    /// Their duration.
    pub minutes: f64,
}

impl FilesIdentity {
    /// Identity of files given as path and name; `num_samples` is what they decode to at 22,050 Hz.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn of<'a>(files: impl Iterator<Item = (&'a Path, String)>, num_samples: usize) -> Result<Self> {
        let mut hasher = blake3::Hasher::new();
        let mut num_files = 0;
        for (path, name) in files {
            let bytes = std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
            hasher.update(format!("{name}\t{}\n", blake3::hash(&bytes)).as_bytes());
            num_files += 1;
        }
        let minutes = num_samples as f64 / f64::from(SAMPLE_RATE_HZ) / 60.0;
        Ok(Self { blake3: hasher.finalize().to_hex().to_string(), num_files, minutes })
    }
}

/// Measures under one condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// Name of the noise set; `None`: clean.
    pub noise: Option<String>,
    /// Signal-to-noise ratio over each window; `None`: clean.
    pub snr_db: Option<f32>,
    /// Windows that could not be mixed because they or their noise are silent.
    pub num_unmixed_windows: usize,
    /// The measures.
    #[serde(flatten)]
    pub report: Report,
}

/// Windows that met one kind of noise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KindMeasures {
    /// Name of the noise set.
    pub noise: String,
    /// Labels of the noise list, or name of the folder.
    pub kind: String,
    /// Signal-to-noise ratio over each window.
    pub snr_db: f32,
    /// Windows that met this kind at this SNR.
    pub num_windows: usize,
    /// Over the tags with at least `min_positives` positive windows among them.
    pub noisy: Summary,
    /// The same windows and tags without noise.
    pub clean: Summary,
}

/// Embeddings of windows, clean and noisy, laid out together by t-SNE.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Projection {
    /// Name of the noise set.
    pub noise: String,
    /// Signal-to-noise ratio over each window.
    pub snr_db: f32,
    /// Clean windows, `[num_windows, 2]`.
    pub clean: Vec<[f32; 2]>,
    /// The same windows with noise, `[num_windows, 2]`.
    pub noisy: Vec<[f32; 2]>,
}

/// Speed of an evaluation, decoding not counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// Engine's device.
    pub device: String,
    /// Windows scored, all conditions together.
    pub num_windows: usize,
    /// Seconds it took.
    pub secs: f64,
}

impl ModelIdentity {
    /// Identity of `model`. Without a `method`, what its training calls itself.
    pub fn new(model: &Model, method: Option<&str>) -> Self {
        let training = &model.metadata.training;
        let identity = &training["identity"];
        let stage = identity["stage"].as_str();
        let found = training["config"]["dat"]["method"].as_str().filter(|_| stage == Some("dat")).or(stage);
        Self {
            name: model.metadata.name.clone(),
            method: method.or(found).unwrap_or(&model.metadata.name).to_owned(),
            seed: identity["seed"].as_u64(),
            weights: blake3::hash(&weights::to_bytes(&model.weights)).to_hex().to_string(),
            num_parameters: weights::num_parameters(model),
        }
    }
}

/// What to measure on, and how.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// Folder of the clips' paths.
    pub root: &'a Path,
    /// Part of the data set.
    pub split: Split,
    /// Positives that a tag needs to count in `*_min_positives`.
    pub min_positives: usize,
    /// Noises; none for an evaluation on clean clips alone.
    pub noises: &'a [NoiseSet],
    /// Signal-to-noise ratios over each window.
    pub snrs_db: &'a [f32],
    /// Different noises in each window.
    pub num_noises: usize,
    /// Seed of the mixtures.
    pub seed: u64,
    /// SNR at which embeddings are laid out in the plane.
    pub tsne_snr_db: Option<f32>,
}

impl Plan<'_> {
    /// What `clips` and the noises are.
    ///
    /// # Errors
    /// If a file cannot be read any more.
    fn setting(&self, clips: &[Clip], tags: &[String]) -> Result<Setting> {
        let paths: Vec<_> = clips.iter().map(|clip| self.root.join(&clip.entry.path)).collect();
        let names = clips.iter().map(|clip| clip.entry.path.clone());
        let num_samples = clips.iter().map(|clip| clip.audio.len()).sum();
        let truth: Vec<u8> = clips.iter().flat_map(|clip| clip.entry.tag_targets.iter().map(|&on| on.into())).collect();
        let noise = |set: &NoiseSet| NoiseIdentity { name: set.name.clone(), files: set.files.clone() };
        Ok(Setting {
            split: self.split.to_string(),
            tags: tags.to_vec(),
            clips: FilesIdentity::of(paths.iter().map(AsRef::as_ref).zip(names), num_samples)?,
            tag_targets: blake3::hash(&truth).to_hex().to_string(),
            min_positives: self.min_positives,
            noises: self.noises.iter().map(noise).collect(),
            num_noises: self.num_noises,
            seed: self.seed,
        })
    }
}

/// Measures `model` on `clips` as `plan` says. Returns the record and the scores of the clean clips.
///
/// # Errors
/// If the model cannot be run or a file cannot be read any more.
pub fn evaluate(
    model: &Model,
    method: Option<&str>,
    clips: &[Clip],
    plan: &Plan<'_>,
    progress: Progress,
) -> Result<(Record, Scores)> {
    let engine = CpuEngine::new(model, 1)?;
    let tags = &model.metadata.tags;
    let mixture = |set, snr_db| Mixture { set, snr_db, num_noises: plan.num_noises, seed: plan.seed };
    let noisy = plan.noises.iter().flat_map(|set| plan.snrs_db.iter().map(move |&snr_db| Some(mixture(set, snr_db))));
    let mixtures: Vec<Option<Mixture<'_>>> = std::iter::once(None).chain(noisy).collect();

    let started = Instant::now();
    let mut scores = score_mixtures(&engine, clips, &mixtures, progress)?;
    let secs = started.elapsed().as_secs_f64();

    let condition = |(mixture, scores): (&Option<Mixture<'_>>, &Scores)| Condition {
        noise: mixture.map(|mixture| mixture.set.name.clone()),
        snr_db: mixture.map(|mixture| mixture.snr_db),
        num_unmixed_windows: scores.num_unmixed_windows,
        report: Report::new(scores, clips, tags, plan.split, plan.min_positives),
    };
    let of_kinds = |(mixture, noisy): (&Option<Mixture<'_>>, &Scores)| {
        mixture.as_ref().map(|mixture| kinds(mixture, clips, tags, (&scores[0], noisy), plan.min_positives))
    };
    let projected = plan.tsne_snr_db.map(|snr_db| {
        let sets = plan.noises.iter();
        sets.map(|set| project(&engine, clips, &mixture(set, snr_db))).collect::<Result<_, _>>()
    });
    let record = Record {
        format_version: FORMAT_VERSION,
        model: ModelIdentity::new(model, method),
        setting: plan.setting(clips, tags)?,
        conditions: mixtures.iter().zip(&scores).map(condition).collect(),
        kinds: mixtures.iter().zip(&scores).filter_map(of_kinds).flatten().collect(),
        projections: projected.transpose()?.unwrap_or_default(),
        speed: Speed {
            device: engine.device(),
            num_windows: scores.iter().map(|scores| scores.window_clips.len()).sum(),
            secs,
        },
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: run::commit(),
    };
    Ok((record, scores.swap_remove(0)))
}

impl Record {
    /// Reads a record.
    ///
    /// # Errors
    /// If the file cannot be read, is no record, or is one of another version.
    pub fn read(path: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let bytes = std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
        let not_one = || format!("{}: not a record; `train evaluate --json FILE` writes one", path.display());
        let Version { format_version } = serde_json::from_slice(&bytes).with_context(not_one)?;
        if format_version != FORMAT_VERSION {
            bail!(
                "{}: written in format {format_version}, this build reads {FORMAT_VERSION}; evaluate again",
                path.display()
            );
        }
        serde_json::from_slice(&bytes).with_context(not_one)
    }

    /// The condition without noise.
    pub fn clean(&self) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.noise.is_none())
    }

    /// The condition with this noise at this SNR.
    pub fn condition(&self, noise: &str, snr_db: f32) -> Option<&Condition> {
        let wanted = (Some(noise), Some(snr_db));
        self.conditions.iter().find(|condition| (condition.noise.as_deref(), condition.snr_db) == wanted)
    }

    /// The SNRs in dB at which `noise` was measured, in order.
    pub fn snrs_db(&self, noise: &str) -> Vec<f32> {
        let with = self.conditions.iter().filter(|condition| condition.noise.as_deref() == Some(noise));
        with.filter_map(|condition| condition.snr_db).collect()
    }

    /// Tables for people: by SNR, by tag, by kind of noise.
    pub fn text(&self) -> String {
        let Setting { split, clips, noises, num_noises, seed, min_positives, .. } = &self.setting;
        let mut text = format!("{} ({}), split {split}: {} clips", self.model.name, self.model.method, clips.num_files);
        if !noises.is_empty() {
            let plural = if *num_noises == 1 { "" } else { "s" };
            let _ = write!(text, ", {num_noises} noise{plural} in each window, SNR over the window, seed {seed}");
        }
        text.push('\n');
        let Some(clean) = self.clean() else { return text };

        for (tags, rule) in
            [(Tags::Frequent, format!("at least {min_positives} positives")), (Tags::All, "both classes".to_owned())]
        {
            for (level, name) in [(Level::Clip, "clip"), (Level::Window, "window")] {
                let num_tags = clean.report.summary(level, tags).num_tags;
                let _ = writeln!(text, "\n{name} level, {num_tags} tags with {rule}: ROC-AUC / AP");
                text += &self.rows(|condition| {
                    let Summary { roc_auc_macro, average_precision_macro, .. } = condition.report.summary(level, tags);
                    format!("{roc_auc_macro:.4}/{average_precision_macro:.4}")
                });
            }
        }
        for condition in self.conditions.iter().filter(|condition| condition.num_unmixed_windows > 0) {
            let (noise, count) = (condition.noise.as_deref().unwrap_or_default(), condition.num_unmixed_windows);
            let snr_db = condition.snr_db.unwrap_or_default();
            let _ =
                writeln!(text, "{noise} at {snr_db} dB: {count} windows stay clean: they or their noise are silent");
        }
        text += &self.per_tag_text(clean);
        text += &self.kinds_text();
        let _ = writeln!(text, "\n{}", self.speed.text());
        text
    }

    /// One row per noise, clean first, with `cell` of each condition.
    fn rows(&self, cell: impl Fn(&Condition) -> String) -> String {
        let mut text = String::new();
        let mut header: Vec<f32> = Vec::new();
        for noise in &self.setting.noises {
            let snrs_db = self.snrs_db(&noise.name);
            if header != snrs_db {
                let _ = write!(text, "{:16} {:>15}", "", "clean");
                snrs_db.iter().for_each(|snr_db| text += &format!(" {:>15}", format!("{snr_db} dB")));
                text.push('\n');
                header = snrs_db;
            }
            let _ = write!(text, "{:16}", noise.name);
            let of_noise = |condition: &&Condition| condition.noise.as_ref().is_none_or(|name| *name == noise.name);
            self.conditions.iter().filter(of_noise).for_each(|condition| text += &format!(" {:>15}", cell(condition)));
            text.push('\n');
        }
        if self.setting.noises.is_empty() {
            self.conditions.iter().for_each(|condition| text += &format!("{:16} {:>15}\n", "clean", cell(condition)));
        }
        text
    }

    fn per_tag_text(&self, clean: &Condition) -> String {
        let mut text = "\nROC-AUC / AP by tag, clip level\n".to_owned();
        let _ = write!(text, "{:16} {:>9} {:>9}", "tag", "positives", "clean");
        let noisy: Vec<&Condition> = self.conditions.iter().filter(|condition| condition.noise.is_some()).collect();
        for condition in &noisy {
            let name: String = condition.noise.iter().flat_map(|name| name.chars()).take(4).collect();
            let _ = write!(text, " {:>9}", format!("{name} {}", condition.snr_db.unwrap_or_default()));
        }
        text.push('\n');
        let number =
            |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}").replacen("0.", ".", 1));
        for (index, tag) in clean.report.clip.per_tag.iter().enumerate() {
            let _ = write!(text, "{:16} {:>9}", tag.tag, tag.positives);
            for condition in std::iter::once(&clean).chain(&noisy) {
                let tag = &condition.report.clip.per_tag[index];
                let cell = format!("{}/{}", number(tag.roc_auc), number(tag.average_precision));
                let _ = write!(text, " {cell:>9}");
            }
            text.push('\n');
        }
        if !clean.report.clip.left_out.is_empty() {
            let _ = writeln!(text, "left out (no positive or no negative): {}", clean.report.clip.left_out.join(", "));
        }
        text
    }

    fn kinds_text(&self) -> String {
        let mut text = String::new();
        for noise in &self.setting.noises {
            let of_noise = || self.kinds.iter().filter(|kind| kind.noise == noise.name);
            let kinds: BTreeSet<&str> = of_noise().map(|kind| kind.kind.as_str()).collect();
            if kinds.is_empty() {
                continue;
            }
            let snrs_db = self.snrs_db(&noise.name);
            let _ = writeln!(
                text,
                "\nROC-AUC by kind of noise '{}', window level, against the same windows clean",
                noise.name
            );
            let _ = write!(text, "{:32} {:>7}", "kind", "windows");
            snrs_db.iter().for_each(|snr_db| text += &format!(" {:>15}", format!("{snr_db} dB")));
            text.push('\n');
            for kind in kinds {
                let num_windows: usize = of_noise().filter(|k| k.kind == kind).map(|k| k.num_windows).sum();
                let _ = write!(text, "{kind:32} {num_windows:>7}");
                for snr_db in &snrs_db {
                    let found = of_noise().find(|k| k.kind == kind && k.snr_db.to_bits() == snr_db.to_bits());
                    let cell = found.map_or("-".to_owned(), |k| {
                        let difference = k.noisy.roc_auc_macro - k.clean.roc_auc_macro;
                        format!("{:.3} ({difference:+.3})", k.noisy.roc_auc_macro)
                    });
                    let _ = write!(text, " {cell:>15}");
                }
                text.push('\n');
            }
        }
        text
    }
}

impl Speed {
    fn text(&self) -> String {
        let audio_secs = (self.num_windows * WINDOW_SAMPLES) as f64 / f64::from(SAMPLE_RATE_HZ);
        format!(
            "{} windows in {:.1} s: {:.1} windows/s, {:.0} x real time ({} x {})",
            self.num_windows,
            self.secs,
            self.num_windows as f64 / self.secs.max(1e-9),
            audio_secs / self.secs.max(1e-9),
            rayon::current_num_threads(),
            self.device
        )
    }
}

/// Window level by kind of noise: the windows that met it under `mixture`, against the same windows clean. Kinds of
/// which no tag has `min_positives` positive windows and a negative one are left out.
fn kinds(
    mixture: &Mixture<'_>,
    clips: &[Clip],
    tags: &[String],
    (clean, noisy): (&Scores, &Scores),
    min_positives: usize,
) -> Vec<KindMeasures> {
    let names: BTreeSet<&str> = mixture.set.noises.iter().map(|noise| noise.kind.as_str()).collect();
    // The kinds that each window met, in the order of the scores.
    let windows_of_clips = noisy.window_clips.chunk_by(|a, b| a == b);
    let met: Vec<Vec<&str>> = windows_of_clips
        .flat_map(|windows| {
            let path = &clips[windows[0]].entry.path;
            (0..windows.len()).map(move |window| mixture.excerpts(path, window))
        })
        .map(|excerpts| excerpts.iter().map(|excerpt| mixture.set.noises[excerpt.noise].kind.as_str()).collect())
        .collect();
    let of_kind = |kind: &str| -> Option<KindMeasures> {
        let windows: Vec<usize> = (0..met.len()).filter(|&window| met[window].contains(&kind)).collect();
        let truth: Vec<bool> = windows
            .iter()
            .flat_map(|&window| clips[noisy.window_clips[window]].entry.tag_targets.iter().copied())
            .collect();
        let measure = |scores: &Scores| {
            let row = |&window: &usize| &scores.window_probabilities[window * tags.len()..(window + 1) * tags.len()];
            let rows: Vec<f32> = windows.iter().flat_map(row).copied().collect();
            Summary::from(&Metrics::new(&rows, &truth, tags, min_positives))
        };
        let (noisy, clean) = (measure(noisy), measure(clean));
        let (noise, snr_db) = (mixture.set.name.clone(), mixture.snr_db);
        let num_windows = windows.len();
        (noisy.num_tags > 0).then(|| KindMeasures { noise, kind: kind.to_owned(), snr_db, num_windows, noisy, clean })
    };
    names.into_iter().filter_map(of_kind).collect()
}

/// Embeddings of windows spread evenly over `clips`, clean and under `mixture`, in one plane.
///
/// # Errors
/// When the engine's device fails.
fn project(engine: &dyn Engine, clips: &[Clip], mixture: &Mixture<'_>) -> Result<Projection, EngineError> {
    let windows: Vec<(usize, usize)> = clips
        .iter()
        .enumerate()
        .flat_map(|(clip, Clip { audio, .. })| {
            (0..heard(audio.len()).div_ceil(WINDOW_SAMPLES)).map(move |window| (clip, window))
        })
        .collect();
    let count = windows.len().min(PROJECTED_WINDOWS);
    let chosen: Vec<(usize, usize)> = (0..count).map(|index| windows[index * windows.len() / count]).collect();
    let embedded: Vec<[Vec<f32>; 2]> = chosen
        .par_iter()
        .map(|&(clip, window)| {
            let clip = &clips[clip];
            let range = window * WINDOW_SAMPLES..((window + 1) * WINDOW_SAMPLES).min(heard(clip.audio.len()));
            let mut samples: Vec<f32> = clip.audio.to_vec().drain(range).collect();
            let clean = embedding(engine, &samples)?;
            mixture.mix_window(&clip.entry.path, window, &mut samples);
            Ok([clean, embedding(engine, &samples)?])
        })
        .collect::<Result<_, EngineError>>()?;
    let points: Vec<f32> =
        (0..2).flat_map(|domain| embedded.iter().flat_map(move |pair| pair[domain].clone())).collect();
    let mut rng = rng::stream(mixture.seed, "t-SNE", 0, 0);
    let plane = super::tsne::tsne(&points, engine.embedding_len(), &mut rng);
    let plane: Vec<[f32; 2]> = plane.into_iter().map(|[x, y]| [x as f32, y as f32]).collect();
    let (clean, noisy) = plane.split_at(count);
    Ok(Projection {
        noise: mixture.set.name.clone(),
        snr_db: mixture.snr_db,
        clean: clean.to_vec(),
        noisy: noisy.to_vec(),
    })
}

/// The embedding of one window, `[embedding_len]`.
fn embedding(engine: &dyn Engine, samples: &[f32]) -> Result<Vec<f32>, EngineError> {
    let mut embedding = Vec::new();
    let mut sink = |window: WindowResult<'_>| window.embedding.clone_into(&mut embedding);
    let mut stream = engine.stream(Hop::NON_OVERLAPPING);
    stream.push(samples, &mut sink)?;
    stream.finish(&mut sink)?;
    Ok(embedding)
}

#[cfg(test)]
mod tests {
    use earmark_core::weights::Architecture;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_model_is_named_by_its_training_unless_told_otherwise() {
        let mut model = Model::random(Architecture::scaled(1.0 / 16.0, 3, None, 2), 0);
        let named = |model: &Model, method: Option<&str>| ModelIdentity::new(model, method);
        assert_eq!((named(&model, None).method, named(&model, None).seed), (model.metadata.name.clone(), None));
        let config = json!({ "dat": { "method": "proposed" } });
        model.metadata.training = json!({ "identity": { "stage": "dat", "seed": 3 }, "config": config });
        assert_eq!((named(&model, None).method.as_str(), named(&model, None).seed), ("proposed", Some(3)));
        assert_eq!(named(&model, Some("proposed, E2H")).method, "proposed, E2H");
        // Every configuration names a method; only stage `dat` is trained by it.
        model.metadata.training = json!({ "identity": { "stage": "supervised", "seed": 3 }, "config": config });
        assert_eq!(named(&model, None).method, "supervised");
        let other = Model::random(Architecture::scaled(1.0 / 16.0, 3, None, 2), 1);
        assert_ne!(named(&model, None).weights, named(&other, None).weights);
    }
}
