//! The inference model: safetensors with everything needed to run it and to know where it came from.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::path::Path;

use half::f16;
use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};

use crate::tags::Calibration;
use crate::weights::{Architecture, ConvWeights, DomainWeights, LinearWeights, MAX_WIDTH, NUM_MODULES, Weights};
use crate::{SAMPLE_RATE_HZ, WINDOW_SAMPLES};

/// Newest version of the file format that this build reads and writes: with a domain classifier.
pub const FORMAT_VERSION: u32 = 2;

/// Version of a file without a domain classifier, which earlier builds read too.
const PLAIN_VERSION: u32 = 1;

/// Largest model file that is read, in bytes: many times the size of the largest network.
pub const MAX_FILE_BYTES: u64 = 256 << 20;

/// Key of the JSON metadata in the safetensors header.
const METADATA_KEY: &str = "earmark";

/// A model: what an engine is built from.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Everything but the numbers.
    pub metadata: ModelMetadata,
    /// The numbers.
    pub weights: Weights,
    /// The domain classifier that was trained beside the tagger, where there is one: what the noise meter is made of
    /// ([`ModelMetadata::noise_meter`] holds its scale). [`Model::set_noise_meter`] sets both.
    pub domain_classifier: Option<DomainWeights>,
}

/// How the logit of a model's domain classifier is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeterMetadata {
    /// Hidden units of the classifier.
    pub hidden: usize,
    /// Probability of noise is `sigmoid(scale * logit + offset)`: Platt scaling, fitted on sound that the classifier was
    /// not trained on.
    pub scale: f32,
    /// See `scale`.
    pub offset: f32,
    /// Share of windows whose domain it told right, the mean of both domains', on sound that neither training nor scale
    /// had seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
}

/// What a model file says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelMetadata {
    /// [`FORMAT_VERSION`] at the time of writing.
    pub format_version: u32,
    /// Short name, e.g. `earmark-open-1`.
    pub name: String,
    /// Shape of the networks.
    pub architecture: Architecture,
    /// Tag names in the order of the logits.
    pub tags: Vec<String>,
    /// Decision threshold per tag on the clip probability, in the order of `tags`.
    pub thresholds: Vec<f32>,
    /// What thresholds are worth, tag by tag; files written by earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// The scale of the domain classifier, where the model has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_meter: Option<MeterMetadata>,
    /// Sample rate of the waveform in Hz.
    pub sample_rate_hz: u32,
    /// Samples in a window.
    pub window_samples: usize,
    /// How the model was made: data hashes, split, seed, stage configuration, commit. Free-form JSON.
    pub training: serde_json::Value,
    /// Measured quality, e.g. `{"test": {"roc_auc_macro": ..}}`. Free-form JSON.
    pub metrics: serde_json::Value,
    /// Licence of the weights (SPDX expression).
    pub licence: String,
}

/// Why a model file was refused.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not a model this build can use.
    #[error("{origin}: {reason}")]
    Invalid {
        /// File or source of the bytes.
        origin: String,
        /// The rule that is broken, the offending value and the way out.
        reason: String,
    },
}

impl ModelError {
    fn invalid(origin: &str, reason: impl Into<String>) -> Self {
        Self::Invalid { origin: origin.to_owned(), reason: reason.into() }
    }

    fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.display().to_string(), source }
    }
}

impl ModelMetadata {
    /// A model of which nothing else is known yet: thresholds of 0.5, no word about training, quality or licence.
    pub fn new(name: impl Into<String>, architecture: Architecture, tags: Vec<String>) -> Self {
        Self {
            format_version: PLAIN_VERSION,
            name: name.into(),
            architecture,
            thresholds: vec![0.5; tags.len()],
            tags,
            calibration: None,
            noise_meter: None,
            sample_rate_hz: SAMPLE_RATE_HZ,
            window_samples: WINDOW_SAMPLES,
            training: serde_json::Value::Null,
            metrics: serde_json::Value::Null,
            licence: String::new(),
        }
    }

    /// Checks everything that an engine or a screen relies on.
    ///
    /// # Errors
    /// The rule that is broken, with the offending value.
    fn validate(&self) -> Result<(), String> {
        if !(PLAIN_VERSION..=FORMAT_VERSION).contains(&self.format_version) {
            return Err(format!(
                "format version {} where this build reads {PLAIN_VERSION} to {FORMAT_VERSION}; {}",
                self.format_version,
                if self.format_version > FORMAT_VERSION { "update Earmark" } else { "export the model again" }
            ));
        }
        if let Some(meter) = &self.noise_meter {
            let MeterMetadata { hidden, scale, offset, .. } = *meter;
            // Earlier builds would take the file for another network's and not say what they lack.
            if self.format_version == PLAIN_VERSION {
                return Err(format!("format version {PLAIN_VERSION} with a noise meter, which came with version 2"));
            }
            if !(1..=MAX_WIDTH).contains(&hidden) {
                return Err(format!("noise_meter.hidden is {hidden}; it must be between 1 and {MAX_WIDTH}"));
            }
            if !(scale.is_finite() && offset.is_finite() && scale >= 0.0) {
                return Err(format!(
                    "the noise meter's scale {scale} and offset {offset} must be finite, the scale not negative"
                ));
            }
        }
        self.architecture.validate()?;
        let num_tags = self.architecture.num_tags;
        if self.tags.len() != num_tags {
            return Err(format!("{} tag names for {num_tags} outputs", self.tags.len()));
        }
        if self.thresholds.len() != num_tags {
            return Err(format!("{} thresholds for {num_tags} outputs", self.thresholds.len()));
        }
        let mut seen = HashSet::new();
        for tag in &self.tags {
            if tag.trim().is_empty() || tag.len() > 100 || tag.chars().any(char::is_control) {
                return Err(format!("tag name {tag:?} is empty, over 100 bytes or holds control characters"));
            }
            if !seen.insert(tag) {
                return Err(format!("tag {tag:?} is listed twice"));
            }
        }
        if let Some(threshold) = self.thresholds.iter().find(|t| !(0.0..=1.0).contains(*t)) {
            return Err(format!("threshold {threshold} lies outside 0..=1"));
        }
        if let Some(calibration) = &self.calibration {
            calibration.validate(num_tags)?;
        }
        if self.sample_rate_hz != SAMPLE_RATE_HZ || self.window_samples != WINDOW_SAMPLES {
            return Err(format!(
                "made for windows of {} samples at {} Hz; this build hears {WINDOW_SAMPLES} at {SAMPLE_RATE_HZ}",
                self.window_samples, self.sample_rate_hz
            ));
        }
        Ok(())
    }
}

/// A named parameter and its shape.
type Entry<T> = (String, Vec<usize>, T);

/// Every tensor of a model in file order: name, shape, values. The one place that knows the names.
fn entries<'w>(architecture: &Architecture, weights: &'w Weights) -> Vec<Entry<&'w Vec<f32>>> {
    let mut entries = Vec::new();
    for (index, conv) in weights.convs.iter().enumerate() {
        let (inputs, outputs, kernel) = architecture.conv_shape(index);
        let name = |field: &str| format!("feature_extractor.{index}.{field}");
        entries.push((name("weight"), vec![outputs, inputs, kernel], &conv.weight));
        entries.push((name("bias"), vec![outputs], &conv.bias));
        entries.push((name("gamma"), vec![outputs], &conv.gamma));
        entries.push((name("beta"), vec![outputs], &conv.beta));
        entries.push((name("running_mean"), vec![outputs], &conv.running_mean));
        entries.push((name("running_var"), vec![outputs], &conv.running_var));
    }
    for (index, (linear, (inputs, outputs))) in weights.head.iter().zip(architecture.head_shapes()).enumerate() {
        entries.push((format!("head.{index}.weight"), vec![outputs, inputs], &linear.weight));
        entries.push((format!("head.{index}.bias"), vec![outputs], &linear.bias));
    }
    entries
}

/// The same of a domain classifier.
fn domain_entries(embedding_len: usize, hidden: usize, weights: &DomainWeights) -> Vec<Entry<&Vec<f32>>> {
    let name = |field: &str| format!("domain_classifier.{field}");
    vec![
        (name("hidden.weight"), vec![hidden, embedding_len], &weights.hidden.weight),
        (name("hidden.bias"), vec![hidden], &weights.hidden.bias),
        (name("gamma"), vec![hidden], &weights.gamma),
        (name("beta"), vec![hidden], &weights.beta),
        (name("running_mean"), vec![hidden], &weights.running_mean),
        (name("running_var"), vec![hidden], &weights.running_var),
        (name("output.weight"), vec![1, hidden], &weights.output.weight),
        (name("output.bias"), vec![1], &weights.output.bias),
    ]
}

/// A tensor on its way into a file: matrices as f16, vectors (bias and batch norm, under 1 % of the bytes) as f32.
struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

impl Model {
    /// A model that has learnt nothing, with tags called `tag 0`, `tag 1`, ...; see [`Weights::random`].
    pub fn random(architecture: Architecture, seed: u64) -> Self {
        let weights = Weights::random(&architecture, seed);
        let tags = (0..architecture.num_tags).map(|index| format!("tag {index}")).collect();
        Self { metadata: ModelMetadata::new("random", architecture, tags), weights, domain_classifier: None }
    }

    /// Gives the model a noise meter: a domain classifier and how its logit is read.
    pub fn set_noise_meter(&mut self, classifier: DomainWeights, meter: MeterMetadata) {
        self.metadata.format_version = FORMAT_VERSION;
        self.metadata.noise_meter = Some(meter);
        self.domain_classifier = Some(classifier);
    }

    /// Every tensor in file order.
    fn all_entries(&self) -> Vec<Entry<&Vec<f32>>> {
        let architecture = &self.metadata.architecture;
        let mut all = entries(architecture, &self.weights);
        if let (Some(weights), Some(meter)) = (&self.domain_classifier, &self.metadata.noise_meter) {
            all.extend(domain_entries(architecture.embedding_len(), meter.hidden, weights));
        }
        all
    }

    /// Checks metadata, the number of layers and every length and value.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] with the first rule that is broken.
    pub fn validate(&self) -> Result<(), ModelError> {
        let refuse = |reason: String| ModelError::invalid(&self.metadata.name, reason);
        self.metadata.validate().map_err(refuse)?;
        let architecture = &self.metadata.architecture;
        let (convs, layers) = (self.weights.convs.len(), self.weights.head.len());
        if convs != NUM_MODULES || layers != architecture.head_shapes().len() {
            return Err(refuse(format!(
                "{convs} convolution modules and {layers} layers in the head where the architecture has {NUM_MODULES} and {}",
                architecture.head_shapes().len()
            )));
        }
        if self.domain_classifier.is_some() != self.metadata.noise_meter.is_some() {
            return Err(refuse(
                "a domain classifier and the scale of its logit belong together; one is missing".into(),
            ));
        }
        for (name, shape, values) in self.all_entries() {
            if values.len() != shape.iter().product::<usize>() {
                return Err(refuse(format!("{name} has {} values for shape {shape:?}", values.len())));
            }
            if let Some(value) = values.iter().find(|v| !v.is_finite()) {
                return Err(refuse(format!("{name} holds {value}; weights must be finite")));
            }
            if name.ends_with("running_var") && values.iter().any(|&v| v < 0.0) {
                return Err(refuse(format!("{name} holds a negative variance")));
            }
        }
        Ok(())
    }

    /// The model as the bytes of a file. Equal models give equal bytes.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] if the model breaks a rule or a weight does not fit f16.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ModelError> {
        self.validate()?;
        let refuse = |reason: String| ModelError::invalid(&self.metadata.name, reason);
        let mut stored = Vec::new();
        for (name, shape, values) in self.all_entries() {
            let (dtype, bytes) = if shape.len() > 1 {
                let halves: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
                if let Some(index) = halves.iter().position(|h| !h.is_finite()) {
                    return Err(refuse(format!("{name} holds {}, beyond f16's 65504", values[index])));
                }
                (Dtype::F16, halves.iter().flat_map(|h| h.to_le_bytes()).collect())
            } else {
                (Dtype::F32, values.iter().flat_map(|v| v.to_le_bytes()).collect())
            };
            stored.push((name, Stored { dtype, shape, bytes }));
        }
        let json = serde_json::to_string(&self.metadata).map_err(|e| refuse(format!("metadata: {e}")))?;
        let header = HashMap::from([(METADATA_KEY.to_owned(), json)]);
        safetensors::serialize(stored, Some(header)).map_err(|e| refuse(e.to_string()))
    }

    /// Reads a model from the bytes of a file; `origin` names them in errors.
    ///
    /// Nothing is allocated that the bytes do not back, whatever they claim.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] with the first rule that is broken.
    pub fn from_bytes(bytes: &[u8], origin: &str) -> Result<Self, ModelError> {
        let refuse = |reason: String| ModelError::invalid(origin, reason);
        let damaged = |e: safetensors::SafeTensorError| refuse(format!("not a readable safetensors file: {e}"));
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
        let json = header.metadata().as_ref().and_then(|map| map.get(METADATA_KEY)).ok_or_else(|| {
            refuse(format!(
                "safetensors without '{METADATA_KEY}' metadata, so not an Earmark model; use `earmark model import`"
            ))
        })?;
        let metadata: ModelMetadata =
            serde_json::from_str(json).map_err(|e| refuse(format!("metadata is damaged: {e}")))?;
        metadata.validate().map_err(refuse)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(damaged)?;
        let mut reader = Reader { tensors, origin, read: 0 };
        let architecture = &metadata.architecture;
        let convs = (0..NUM_MODULES)
            .map(|index| {
                let (inputs, outputs, kernel) = architecture.conv_shape(index);
                let mut vector = |field: &str| reader.read(format!("feature_extractor.{index}.{field}"), &[outputs]);
                Ok(ConvWeights {
                    bias: vector("bias")?,
                    gamma: vector("gamma")?,
                    beta: vector("beta")?,
                    running_mean: vector("running_mean")?,
                    running_var: vector("running_var")?,
                    weight: reader.read(format!("feature_extractor.{index}.weight"), &[outputs, inputs, kernel])?,
                })
            })
            .collect::<Result<_, ModelError>>()?;
        let head = architecture
            .head_shapes()
            .into_iter()
            .enumerate()
            .map(|(index, (inputs, outputs))| {
                Ok(LinearWeights {
                    weight: reader.read(format!("head.{index}.weight"), &[outputs, inputs])?,
                    bias: reader.read(format!("head.{index}.bias"), &[outputs])?,
                })
            })
            .collect::<Result<_, ModelError>>()?;
        let domain_classifier = match &metadata.noise_meter {
            Some(meter) => Some(reader.domain_classifier(architecture.embedding_len(), meter.hidden)?),
            None => None,
        };
        if reader.read != reader.tensors.len() {
            return Err(refuse(format!(
                "{} tensors where the architecture has {}; the file belongs to another network",
                reader.tensors.len(),
                reader.read
            )));
        }
        let model = Self { metadata, weights: Weights { convs, head }, domain_classifier };
        model.validate().map_err(|e| match e {
            ModelError::Invalid { reason, .. } => refuse(reason),
            other @ ModelError::Io { .. } => other,
        })?;
        Ok(model)
    }

    /// Reads a model file.
    ///
    /// # Errors
    /// [`ModelError::Io`] if it cannot be read, [`ModelError::Invalid`] if it is not a model.
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        let io = |e| ModelError::io(path, e);
        let file = std::fs::File::open(path).map_err(io)?;
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
        let origin = path.display().to_string();
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(ModelError::invalid(&origin, format!("larger than {MAX_FILE_BYTES} bytes, so not a model")));
        }
        Self::from_bytes(&bytes, &origin)
    }

    /// Writes a model file atomically: a temporary file in the same folder, then a rename.
    ///
    /// # Errors
    /// [`ModelError::Io`] if it cannot be written, [`ModelError::Invalid`] if the model breaks a rule.
    pub fn save(&self, path: &Path) -> Result<(), ModelError> {
        let bytes = self.to_bytes()?;
        let io = |e| ModelError::io(path, e);
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        // Readable by whom the user's mask lets, as a file that is written plainly.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut file = builder.tempfile_in(folder).map_err(io)?;
        file.write_all(&bytes).map_err(io)?;
        file.as_file().sync_all().map_err(io)?;
        file.persist(path).map_err(|e| io(e.error))?;
        Ok(())
    }
}

/// Reads tensors by name and counts them.
struct Reader<'a> {
    tensors: SafeTensors<'a>,
    origin: &'a str,
    read: usize,
}

impl Reader<'_> {
    fn domain_classifier(&mut self, embedding_len: usize, hidden: usize) -> Result<DomainWeights, ModelError> {
        let mut read = |field: &str, shape: &[usize]| self.read(format!("domain_classifier.{field}"), shape);
        Ok(DomainWeights {
            hidden: LinearWeights {
                weight: read("hidden.weight", &[hidden, embedding_len])?,
                bias: read("hidden.bias", &[hidden])?,
            },
            gamma: read("gamma", &[hidden])?,
            beta: read("beta", &[hidden])?,
            running_mean: read("running_mean", &[hidden])?,
            running_var: read("running_var", &[hidden])?,
            output: LinearWeights { weight: read("output.weight", &[1, hidden])?, bias: read("output.bias", &[1])? },
        })
    }

    fn read(&mut self, name: String, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let refuse = |reason: String| ModelError::invalid(self.origin, reason);
        let tensor = self.tensors.tensor(&name).map_err(|_| refuse(format!("tensor {name} is missing")))?;
        if tensor.shape() != shape {
            return Err(refuse(format!("tensor {name} has shape {:?} instead of {shape:?}", tensor.shape())));
        }
        let bytes = tensor.data();
        let values = match tensor.dtype() {
            Dtype::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            Dtype::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            other => return Err(refuse(format!("tensor {name} is {other:?}; only F16 and F32 are read"))),
        };
        self.read += 1;
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tags::TagCalibration;

    fn model() -> Model {
        crate::engine::test_model(Some(24), 3)
    }

    #[test]
    fn bytes_survive_a_round_trip_and_are_stable() {
        let first = Model::from_bytes(&model().to_bytes().expect("valid"), "first").expect("readable");
        let bytes = first.to_bytes().expect("valid");
        assert_eq!(Model::from_bytes(&bytes, "second").expect("readable"), first);
        assert_eq!(first.to_bytes().expect("valid"), bytes);
        assert_eq!(first.metadata, model().metadata);
    }

    #[test]
    fn calibration_is_kept_and_files_without_are_read() {
        let mut model = model();
        let bytes = model.to_bytes().expect("valid");
        assert!(!String::from_utf8_lossy(&bytes).contains("calibration"), "as earlier versions wrote it");
        assert_eq!(Model::from_bytes(&bytes, "old").expect("readable").metadata.calibration, None);
        let tag = TagCalibration::measure([(0.9, true), (0.25, false)]);
        let tags = vec![tag; model.metadata.tags.len()];
        model.metadata.calibration = Some(Calibration { split: "valid".into(), num_clips: 2, tags });
        let read = Model::from_bytes(&model.to_bytes().expect("valid"), "new").expect("readable");
        assert_eq!(read.metadata.calibration, model.metadata.calibration);
        model.metadata.calibration.as_mut().expect("set").tags.pop();
        assert!(model.to_bytes().expect_err("broken").to_string().contains("calibration of"));
    }

    fn metered() -> Model {
        let mut model = model();
        let meter = MeterMetadata { hidden: 6, scale: 1.5, offset: -0.25, accuracy: Some(0.9) };
        model.set_noise_meter(DomainWeights::untrained(model.metadata.architecture.embedding_len(), 6, 1), meter);
        model
    }

    #[test]
    fn a_noise_meter_is_kept_and_asks_for_a_newer_build() {
        let read = Model::from_bytes(&metered().to_bytes().expect("valid"), "new").expect("readable");
        assert_eq!(read.metadata, metered().metadata);
        assert_eq!(read.metadata.format_version, 2);
        let classifier = read.domain_classifier.expect("there");
        assert_eq!(classifier.hidden.bias, metered().domain_classifier.expect("there").hidden.bias);
        // Without one the file is what earlier builds read.
        assert_eq!(model().metadata.format_version, 1);
        assert!(!String::from_utf8_lossy(&model().to_bytes().expect("valid")).contains("noise_meter"));
    }

    #[test]
    fn half_a_noise_meter_is_refused() {
        let cases: [(Damage, &str); 5] = [
            (|m| m.domain_classifier = None, "belong together"),
            (|m| m.metadata.noise_meter = None, "belong together"),
            (|m| m.metadata.format_version = 1, "came with version 2"),
            (|m| m.metadata.noise_meter.as_mut().expect("set").hidden = 7, "domain_classifier.hidden.weight has"),
            (|m| m.metadata.noise_meter.as_mut().expect("set").scale = f32::NAN, "scale NaN"),
        ];
        for (damage, expected) in cases {
            let mut model = metered();
            damage(&mut model);
            let message = model.to_bytes().expect_err("broken").to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn weights_are_stored_within_half_precision() {
        let original = model();
        let read = Model::from_bytes(&original.to_bytes().expect("valid"), "test").expect("readable");
        for (a, b) in original.weights.convs.iter().zip(&read.weights.convs) {
            assert_eq!(a.running_var, b.running_var);
            for (a, b) in a.weight.iter().zip(&b.weight) {
                assert!((a - b).abs() <= a.abs() * 4.9e-4 + 1e-7, "{a} became {b}");
            }
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = model().to_bytes().expect("valid");
        for end in (0..bytes.len()).step_by(bytes.len() / 97).chain([bytes.len() - 1]) {
            let error = Model::from_bytes(&bytes[..end], "cut.safetensors").expect_err("truncated");
            assert!(error.to_string().starts_with("cut.safetensors: "), "{error}");
        }
    }

    #[test]
    fn a_header_that_claims_terabytes_is_refused_without_allocating_them() {
        let mut bytes = (u64::MAX / 2).to_le_bytes().to_vec();
        bytes.extend(b"{}");
        assert!(Model::from_bytes(&bytes, "claim").is_err());
    }

    type Damage = fn(&mut Model);

    #[test]
    fn each_broken_rule_is_named() {
        let cases: [(Damage, &str); 8] = [
            (|m| m.metadata.format_version = 9, "format version 9"),
            (|m| m.metadata.tags[1] = m.metadata.tags[0].clone(), "listed twice"),
            (|m| m.metadata.tags[0] = "a\nb".into(), "control characters"),
            (|m| m.metadata.thresholds[0] = f32::NAN, "threshold NaN"),
            (|m| m.metadata.architecture.widths[3] = 1 << 40, "width of module 4"),
            (|m| m.metadata.sample_rate_hz = 44_100, "44100 Hz"),
            (|m| m.weights.convs[2].weight[5] = f32::INFINITY, "must be finite"),
            (|m| m.weights.convs[2].running_var[0] = -1.0, "negative variance"),
        ];
        for (damage, expected) in cases {
            let mut model = model();
            damage(&mut model);
            let message = model.to_bytes().expect_err("broken").to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn a_tensor_of_another_shape_is_refused_by_name() {
        let bytes = model().to_bytes().expect("valid");
        let text = String::from_utf8_lossy(&bytes[8..]).into_owned();
        let header_end = text.find("}}").expect("header") + 2;
        let swapped = text[..header_end]
            .replace("\"widths\":[8,", "\"widths\":[9,")
            .replace("\\\"widths\\\":[8,", "\\\"widths\\\":[9,");
        assert_ne!(swapped, text[..header_end], "the header holds the widths");
        let mut damaged = bytes.clone();
        damaged[8..8 + header_end].copy_from_slice(swapped.as_bytes());
        let message = Model::from_bytes(&damaged, "swapped").expect_err("shape").to_string();
        assert!(message.contains("feature_extractor.0.bias") && message.contains("[9]"), "{message}");
    }

    #[test]
    fn saving_replaces_the_file_or_leaves_it() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("model.safetensors");
        model().save(&path).expect("saved");
        let before = std::fs::read(&path).expect("there");
        let mut broken = model();
        broken.metadata.tags.pop();
        assert!(broken.save(&path).is_err());
        assert_eq!(std::fs::read(&path).expect("still there"), before);
        assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 1);
    }
}
