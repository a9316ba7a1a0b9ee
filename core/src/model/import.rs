//! Reads the parameters of a tagger from files that other programs wrote.
//!
//! | file | read with | names |
//! | --- | --- | --- |
//! | `.pt`, `.pth`, `.ckpt` | Burn's PyTorch reader, which interprets no code | CLMR's |
//! | safetensors | `safetensors` | CLMR's, a model file's, Burn's |
//! | burnpack | Burn's reader | Burn's |
//!
//! The format is told by content. Names may follow any prefix (`state_dict.`, `model.encoder.`, `module.`):
//!
//! ```text
//! CLMR        sequential.{0..10}.0.weight .bias    sequential.{0..10}.1.weight .bias .running_mean .running_var
//!             fc.weight fc.bias
//! model file  feature_extractor.{0..10}.weight .bias .gamma .beta .running_mean .running_var
//!             head.{0, 1}.weight .bias
//! Burn        feature_extractor.modules.{0..10}.conv.weight ..   .batch_norm.gamma ..
//!             label_predictor.hidden.weight ..   label_predictor.output.weight ..      ([in, out])
//! ```
//!
//! Widths, the last kernel and the head follow from the shapes. Other tensors (projector, optimiser) are ignored.

use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

use burn::{
    store::{
        burn_pack::{self, DType as PackType},
        pytorch_reader::{self, DType as TorchType, PytorchReader},
    },
    tensor::TensorData,
};
use safetensors::SafeTensors;

use crate::weights::{Architecture, ConvWeights, LinearWeights, MAX_WIDTH, NUM_MODULES, Weights};

/// Why a file could not be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is in no format this build reads, or damaged.
    #[error("{path}: {reason}")]
    Format {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file holds no SampleCNN under any of the known names.
    #[error(
        "{path}: no tensor is called like a SampleCNN's first convolution ('..sequential.0.0.weight', \
         '..feature_extractor.0.weight'); the file holds {found}"
    )]
    NoSampleCnn {
        /// The file.
        path: String,
        /// The first names in it.
        found: String,
    },
    /// The file holds more than one SampleCNN.
    #[error("{path}: holds several SampleCNNs, at {found}; export the one to import alone")]
    Ambiguous {
        /// The file.
        path: String,
        /// Names of their first convolutions.
        found: String,
    },
    /// A tensor is missing.
    #[error(
        "{path}: tensor '{key}' is missing; a SampleCNN has {NUM_MODULES} convolution modules with bias and batch norm"
    )]
    Missing {
        /// The file.
        path: String,
        /// Its name in the file.
        key: String,
    },
    /// The file holds a feature extractor alone, as CLMR's pretraining leaves it.
    #[error(
        "{path}: holds a feature extractor without a head ('fc.weight'), as self-supervised pretraining leaves it; \
         it cannot tag before a head is trained on it"
    )]
    NoHead {
        /// The file.
        path: String,
    },
    /// A tensor has a shape that does not fit.
    #[error("{path}: tensor '{key}' has shape {found:?}, expected {expected}")]
    Shape {
        /// The file.
        path: String,
        /// Its name in the file.
        key: String,
        /// Its shape.
        found: Vec<usize>,
        /// What would fit.
        expected: String,
    },
    /// A tensor holds what no weight can be.
    #[error("{path}: tensor '{key}' {reason}")]
    Value {
        /// The file.
        path: String,
        /// Its name in the file.
        key: String,
        /// The rule and the offending value.
        reason: String,
    },
}

/// Files beyond this are no tagger.
const MAX_FILE_BYTES: u64 = 4 << 30;

/// Reads a feature extractor and its head.
///
/// # Errors
///
/// [`ImportError`]; in particular [`ImportError::NoHead`] for a feature extractor alone, which
/// [`read_feature_extractor`] reads.
pub fn read(path: &Path) -> Result<(Architecture, Weights), ImportError> {
    let archive = Archive::open(path)?;
    let names = Names::find(path, &archive)?;
    let (widths, last_kernel, convs) = names.convs(&archive)?;
    let head = names.head(&archive, widths[NUM_MODULES - 1])?;
    let Some(last) = head.last() else { return Err(ImportError::NoHead { path: path.display().to_string() }) };
    let architecture = Architecture {
        widths,
        last_kernel,
        head_hidden: (head.len() == 2).then(|| head[0].bias.len()),
        projector_hidden: None,
        num_tags: last.bias.len(),
    };
    architecture.validate().map_err(|reason| ImportError::Format { path: path.display().to_string(), reason })?;
    Ok((architecture, Weights { convs, head }))
}

/// Reads a feature extractor, whether there is a head or not: its widths, last kernel and modules.
///
/// # Errors
///
/// [`ImportError`].
pub fn read_feature_extractor(path: &Path) -> Result<([usize; NUM_MODULES], usize, Vec<ConvWeights>), ImportError> {
    let archive = Archive::open(path)?;
    Names::find(path, &archive)?.convs(&archive)
}

/// Who named the tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Clmr,
    ModelFile,
    Burn,
}

/// The names of a tagger's tensors in one file.
#[derive(Debug)]
struct Names {
    scheme: Scheme,
    prefix: String,
}

impl Names {
    fn find(path: &Path, archive: &Archive) -> Result<Self, ImportError> {
        let schemes = [
            (Scheme::Clmr, "sequential.0.0.weight"),
            (Scheme::ModelFile, "feature_extractor.0.weight"),
            (Scheme::Burn, "feature_extractor.modules.0.conv.weight"),
        ];
        let mut found = Vec::new();
        for name in archive.shapes.keys() {
            for (scheme, first) in schemes {
                if let Some(prefix) = name.strip_suffix(first)
                    && (prefix.is_empty() || prefix.ends_with('.'))
                {
                    found.push(Self { scheme, prefix: prefix.to_owned() });
                }
            }
        }
        let path = || path.display().to_string();
        match found.len() {
            0 => Err(ImportError::NoSampleCnn { path: path(), found: archive.first_names() }),
            1 => Ok(found.remove(0)),
            _ => {
                let found = found.iter().map(|names| format!("'{}'", names.prefix)).collect::<Vec<_>>().join(", ");
                Err(ImportError::Ambiguous { path: path(), found })
            }
        }
    }

    /// Of a convolution module: weight, bias, gamma, beta, running mean, running variance.
    fn module(&self, index: usize) -> [String; 6] {
        let fields = match self.scheme {
            Scheme::Clmr => ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"],
            Scheme::ModelFile => ["weight", "bias", "gamma", "beta", "running_mean", "running_var"],
            Scheme::Burn => [
                "conv.weight",
                "conv.bias",
                "batch_norm.gamma",
                "batch_norm.beta",
                "batch_norm.running_mean",
                "batch_norm.running_var",
            ],
        };
        let module = match self.scheme {
            Scheme::Clmr => "sequential",
            Scheme::ModelFile => "feature_extractor",
            Scheme::Burn => "feature_extractor.modules",
        };
        fields.map(|field| format!("{}{module}.{index}.{field}", self.prefix))
    }

    /// Of the head's layers, those that are there.
    fn layers(&self, archive: &Archive) -> Vec<String> {
        let layers: &[&str] = match self.scheme {
            Scheme::Clmr => &["fc"],
            Scheme::ModelFile => &["head.0", "head.1"],
            Scheme::Burn => &["label_predictor.hidden", "label_predictor.output"],
        };
        let names = layers.iter().map(|layer| format!("{}{layer}", self.prefix));
        names.filter(|name| archive.shapes.contains_key(&format!("{name}.weight"))).collect()
    }

    fn convs(&self, archive: &Archive) -> Result<([usize; NUM_MODULES], usize, Vec<ConvWeights>), ImportError> {
        let (mut widths, mut last_kernel, mut channels_in) = ([0; NUM_MODULES], 3, 1);
        let mut convs = Vec::with_capacity(NUM_MODULES);
        for (index, width) in widths.iter_mut().enumerate() {
            let [weight, bias, gamma, beta, running_mean, running_var] = self.module(index);
            let is_last = index == NUM_MODULES - 1;
            let shape = archive.shape(&weight)?;
            let channels_out = match *shape {
                [out, input, 3] if input == channels_in && (1..=MAX_WIDTH).contains(&out) => out,
                [out, input, 1] if is_last && input == channels_in && (1..=MAX_WIDTH).contains(&out) => out,
                _ => {
                    let kernel = if is_last { "1 or 3" } else { "3" };
                    let expected = format!("[1..={MAX_WIDTH}, {channels_in}, {kernel}]");
                    return Err(archive.misshapen(weight, shape, expected));
                }
            };
            last_kernel = shape[2];
            let vector = |key: &str| archive.read(key, &[channels_out]);
            let conv = ConvWeights {
                weight: archive.read(&weight, &[channels_out, channels_in, last_kernel])?,
                bias: vector(&bias)?,
                gamma: vector(&gamma)?,
                beta: vector(&beta)?,
                running_mean: vector(&running_mean)?,
                running_var: vector(&running_var)?,
            };
            if let Some(value) = conv.running_var.iter().find(|value| **value < 0.0) {
                return Err(archive.worthless(running_var, format!("holds a variance of {value}")));
            }
            convs.push(conv);
            (*width, channels_in) = (channels_out, channels_out);
        }
        let one_more = &self.module(NUM_MODULES)[0];
        if let Ok(shape) = archive.shape(one_more) {
            let expected = format!("no such tensor: SampleCNN has {NUM_MODULES} modules");
            return Err(archive.misshapen(one_more.clone(), shape, expected));
        }
        Ok((widths, last_kernel, convs))
    }

    fn head(&self, archive: &Archive, embedding_len: usize) -> Result<Vec<LinearWeights>, ImportError> {
        let mut inputs = embedding_len;
        let mut head = Vec::new();
        for layer in self.layers(archive) {
            let (weight, bias) = (format!("{layer}.weight"), format!("{layer}.bias"));
            let shape = archive.shape(&weight)?;
            // Burn keeps [in, out], everyone else [out, in].
            let is_burn = self.scheme == Scheme::Burn;
            let outputs = match *shape {
                [rows, columns] if is_burn && rows == inputs => Some(columns),
                [rows, columns] if !is_burn && columns == inputs => Some(rows),
                _ => None,
            };
            let Some(outputs) = outputs.filter(|outputs| (1..=MAX_WIDTH).contains(outputs)) else {
                let expected = if is_burn { format!("[{inputs}, outputs]") } else { format!("[outputs, {inputs}]") };
                return Err(archive.misshapen(weight, shape, expected));
            };
            let mut values = archive.read(&weight, shape)?;
            if is_burn {
                values = (0..outputs * inputs).map(|i| values[i % inputs * outputs + i / inputs]).collect();
            }
            head.push(LinearWeights { weight: values, bias: archive.read(&bias, &[outputs])? });
            inputs = outputs;
        }
        Ok(head)
    }
}

/// The tensors of a file, read one by one.
struct Archive {
    /// The file, as errors name it.
    path: String,
    shapes: BTreeMap<String, Vec<usize>>,
    contents: Contents,
}

enum Contents {
    Torch(PytorchReader),
    Safetensors(Vec<u8>),
    Pack(BTreeMap<String, burn_pack::Tensor>),
}

impl Archive {
    fn open(path: &Path) -> Result<Self, ImportError> {
        let shown = || path.display().to_string();
        let io = |source| ImportError::Io { path: shown(), source };
        let format = |reason: String| ImportError::Format { path: shown(), reason };
        let mut file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        if size > MAX_FILE_BYTES {
            return Err(format(format!("{size} bytes are more than any tagger has ({MAX_FILE_BYTES})")));
        }
        let mut start = Vec::new();
        file.by_ref().take(9).read_to_end(&mut start).map_err(io)?;
        match &start[..] {
            // The header's length, then JSON.
            [_, _, _, _, _, _, _, _, b'{'] => {
                let mut bytes = start;
                file.read_to_end(&mut bytes).map_err(io)?;
                let damaged = |e| format(format!("damaged safetensors file: {e}"));
                let tensors = SafeTensors::deserialize(&bytes).map_err(damaged)?;
                let shapes = tensors.iter().map(|(name, view)| (name.to_owned(), view.shape().to_vec())).collect();
                Ok(Self { path: shown(), shapes, contents: Contents::Safetensors(bytes) })
            }
            [a, b, c, d, ..] if u32::from_le_bytes([*a, *b, *c, *d]) == burn_pack::MAGIC_NUMBER => {
                let damaged = |e| format(format!("damaged burnpack file: {e}"));
                let reader = burn_pack::Reader::from_file_exact(path).map_err(damaged)?;
                let tensors: BTreeMap<_, _> = reader
                    .into_tensors()
                    .map_err(damaged)?
                    .into_iter()
                    .map(|tensor| (tensor.name.clone(), tensor))
                    .collect();
                let shapes = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape.to_vec())).collect();
                Ok(Self { path: shown(), shapes, contents: Contents::Pack(tensors) })
            }
            _ => {
                let reader = PytorchReader::new(path).map_err(|e| {
                    format(format!("neither safetensors nor burnpack, and not a readable PyTorch file: {e}"))
                })?;
                let tensors = reader.tensors().iter();
                let shapes = tensors.map(|(name, tensor)| (name.clone(), tensor.shape().to_vec())).collect();
                Ok(Self { path: shown(), shapes, contents: Contents::Torch(reader) })
            }
        }
    }

    fn first_names(&self) -> String {
        let names: Vec<&str> = self.shapes.keys().take(5).map(String::as_str).collect();
        match self.shapes.len() {
            0 => "no tensors".into(),
            count if count > names.len() => format!("{} and {} more", names.join(", "), count - names.len()),
            _ => names.join(", "),
        }
    }

    fn shape(&self, key: &str) -> Result<&[usize], ImportError> {
        let missing = || ImportError::Missing { path: self.path.clone(), key: key.to_owned() };
        self.shapes.get(key).map(Vec::as_slice).ok_or_else(missing)
    }

    fn misshapen(&self, key: String, found: &[usize], expected: String) -> ImportError {
        ImportError::Shape { path: self.path.clone(), key, found: found.to_vec(), expected }
    }

    fn worthless(&self, key: String, reason: String) -> ImportError {
        ImportError::Value { path: self.path.clone(), key, reason }
    }

    /// A tensor of the expected shape as `f32`, all of it finite.
    fn read(&self, key: &str, expected: &[usize]) -> Result<Vec<f32>, ImportError> {
        let found = self.shape(key)?;
        if found != expected {
            return Err(self.misshapen(key.to_owned(), found, format!("{expected:?}")));
        }
        let values = self.values(key).map_err(|reason| self.worthless(key.to_owned(), reason))?;
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(self.worthless(key.to_owned(), format!("holds {value}")));
        }
        Ok(values)
    }

    /// The numbers of a tensor that is there.
    fn values(&self, key: &str) -> Result<Vec<f32>, String> {
        let unread = |e: &dyn std::fmt::Display| format!("cannot be read: {e}");
        let (bytes, dtype) = match &self.contents {
            Contents::Torch(reader) => {
                let tensor = reader.get(key).ok_or("is missing")?;
                (tensor.read().map_err(|e| unread(&e))?, torch_type(tensor)?)
            }
            Contents::Safetensors(bytes) => {
                let tensors = SafeTensors::deserialize(bytes).map_err(|e| unread(&e))?;
                let view = tensors.tensor(key).map_err(|e| unread(&e))?;
                let dtype = match view.dtype() {
                    safetensors::Dtype::F32 => PackType::F32,
                    safetensors::Dtype::F16 => PackType::F16,
                    safetensors::Dtype::BF16 => PackType::BF16,
                    safetensors::Dtype::F64 => PackType::F64,
                    other => return Err(format!("holds {other:?}, not floats")),
                };
                (view.data().to_vec(), dtype)
            }
            Contents::Pack(tensors) => {
                let tensor = tensors.get(key).ok_or("is missing")?;
                (tensor.to_bytes().map_err(|e| unread(&e))?.to_vec(), tensor.dtype)
            }
        };
        if !matches!(dtype, PackType::F64 | PackType::F32 | PackType::F16 | PackType::BF16) {
            return Err(format!("holds {dtype:?}, not floats"));
        }
        let count = bytes.len() / dtype.size();
        let data = TensorData::try_from_bytes_vec(bytes, [count], dtype).map_err(|e| unread(&e))?;
        data.try_into_vec_as::<f32>().map_err(|e| unread(&e))
    }
}

fn torch_type(tensor: &pytorch_reader::Tensor) -> Result<PackType, String> {
    match tensor.dtype() {
        TorchType::F32 => Ok(PackType::F32),
        TorchType::F16 => Ok(PackType::F16),
        TorchType::BF16 => Ok(PackType::BF16),
        TorchType::F64 => Ok(PackType::F64),
        other => Err(format!("holds {other:?}, not floats")),
    }
}

#[cfg(test)]
mod tests {
    use burn::{module::Module as _, prelude::*};
    use safetensors::{Dtype, tensor::TensorView};

    use super::*;
    use crate::{WINDOW_SAMPLES, model::Tagger};

    const CLMR: &[u8] = include_bytes!("fixtures/clmr_tiny.pt");
    const CLMR_ANSWER: &str = include_str!("fixtures/clmr_tiny.json");

    fn import_bytes(bytes: &[u8]) -> Result<(Architecture, Weights), ImportError> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), bytes).expect("a written file");
        read(file.path())
    }

    #[test]
    fn a_clmr_checkpoint_gives_pytorchs_logits() {
        let (architecture, weights) = import_bytes(CLMR).expect("a readable checkpoint");
        assert_eq!(architecture.widths, [2, 3, 2, 4, 3, 2, 3, 4, 2, 3, 5]);
        assert_eq!((architecture.last_kernel, architecture.head_hidden, architecture.num_tags), (3, None, 4));

        let device = Device::flex();
        let samples: Vec<f32> = (0..WINDOW_SAMPLES).map(|i| ((i * 37 % 1024) as f32 - 512.0) / 512.0).collect();
        let window = Tensor::<2>::from_data(TensorData::new(samples, [1, WINDOW_SAMPLES]), &device);
        let tagger = Tagger::from_weights(&architecture, &weights, &device);
        let logits: Vec<f32> = tagger.forward(window).logits.into_data().try_into_vec().expect("f32");
        let answer: serde_json::Value = serde_json::from_str(CLMR_ANSWER).expect("JSON");
        for (got, expected) in logits.iter().zip(answer["logits"].as_array().expect("a list")) {
            let expected = expected.as_f64().expect("a number");
            assert!((f64::from(*got) - expected).abs() < 1e-5, "expected {expected}, got {got}");
        }
    }

    fn example() -> (Architecture, Weights) {
        let mut architecture = Architecture::scaled(0.03, 1, Some(6), 3);
        architecture.widths[4] = 5;
        let device = Device::flex();
        device.seed(1);
        let weights = Tagger::new(&architecture, &device).to_weights();
        (architecture, weights)
    }

    #[test]
    fn burnpack_is_read_back() {
        let (architecture, weights) = example();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("tagger.bpk");
        let tagger = Tagger::from_weights(&architecture, &weights, &Device::flex());
        tagger.save_file(&path).expect("a written file");
        assert_eq!(read(&path).expect("a readable file"), (architecture, weights));
    }

    /// Named tensors with their shapes, as the file of a tagger with one-layer head under CLMR's names.
    fn clmr_tensors() -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
        let architecture = Architecture::scaled(0.03, 1, None, 3);
        let weights = Tagger::new(&architecture, &Device::flex()).to_weights();
        let mut tensors = BTreeMap::new();
        for (index, conv) in weights.convs.into_iter().enumerate() {
            let (inputs, outputs, kernel) = architecture.conv_shape(index);
            let mut add = |field: &str, shape: &[usize], values| {
                tensors.insert(format!("module.sequential.{index}.{field}"), (shape.to_vec(), values));
            };
            add("0.weight", &[outputs, inputs, kernel], conv.weight);
            add("0.bias", &[outputs], conv.bias);
            add("1.weight", &[outputs], conv.gamma);
            add("1.bias", &[outputs], conv.beta);
            add("1.running_mean", &[outputs], conv.running_mean);
            add("1.running_var", &[outputs], conv.running_var);
        }
        let (inputs, outputs) = architecture.head_shapes()[0];
        tensors.insert("module.fc.weight".into(), (vec![outputs, inputs], weights.head[0].weight.clone()));
        tensors.insert("module.fc.bias".into(), (vec![outputs], weights.head[0].bias.clone()));
        tensors
    }

    fn safetensors_file(tensors: &BTreeMap<String, (Vec<usize>, Vec<f32>)>) -> Vec<u8> {
        let bytes: Vec<Vec<u8>> =
            tensors.values().map(|(_, values)| values.iter().flat_map(|value| value.to_le_bytes()).collect()).collect();
        let views = tensors.iter().zip(&bytes).map(|((name, (shape, _)), bytes)| {
            (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).expect("a consistent tensor"))
        });
        safetensors::serialize(views, None).expect("a serialised file")
    }

    #[test]
    fn a_prefix_is_found_in_safetensors() {
        let tensors = clmr_tensors();
        let (architecture, weights) = import_bytes(&safetensors_file(&tensors)).expect("a readable file");
        assert_eq!((architecture.last_kernel, architecture.num_tags), (1, 3));
        assert_eq!(weights.convs[10].gamma, tensors["module.sequential.10.1.weight"].1);
        assert_eq!(weights.head[0].weight, tensors["module.fc.weight"].1);
    }

    #[test]
    fn a_feature_extractor_alone_is_said_to_be_one() {
        let mut tensors = clmr_tensors();
        tensors.remove("module.fc.weight");
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), safetensors_file(&tensors)).expect("a written file");
        assert!(matches!(read(file.path()), Err(ImportError::NoHead { .. })));
        let (widths, last_kernel, convs) = read_feature_extractor(file.path()).expect("a feature extractor");
        assert_eq!((widths[10], last_kernel, convs.len()), (16, 1, NUM_MODULES));
    }

    #[test]
    fn errors_name_the_tensor_and_the_rule() {
        type Break = fn(&mut BTreeMap<String, (Vec<usize>, Vec<f32>)>);
        let broken: [(Break, &str); 6] = [
            (|t| drop(t.remove("module.sequential.7.1.running_var")), "'module.sequential.7.1.running_var' is missing"),
            (|t| drop(t.remove("module.sequential.10.0.weight")), "'module.sequential.10.0.weight' is missing"),
            (
                |t| t.get_mut("module.sequential.3.0.weight").expect("there").0.swap(0, 2),
                "'module.sequential.3.0.weight' has shape [3,",
            ),
            (|t| t.get_mut("module.fc.weight").expect("there").0.swap(0, 1), "'module.fc.weight' has shape [16, 3]"),
            (
                |t| t.get_mut("module.sequential.2.1.bias").expect("there").1[0] = f32::NAN,
                "'module.sequential.2.1.bias' holds NaN",
            ),
            (|t| t.retain(|name, _| !name.contains("sequential.0.")), "no tensor is called like"),
        ];
        for (break_it, message) in broken {
            let mut tensors = clmr_tensors();
            break_it(&mut tensors);
            let error = import_bytes(&safetensors_file(&tensors)).expect_err(message).to_string();
            assert!(error.contains(message), "'{error}' does not say '{message}'");
        }
        let mut twice = clmr_tensors();
        let copies: Vec<_> = twice.iter().map(|(name, tensor)| (format!("teacher.{name}"), tensor.clone())).collect();
        twice.extend(copies);
        let error = import_bytes(&safetensors_file(&twice)).expect_err("ambiguous").to_string();
        assert!(error.contains("'module.', 'teacher.module.'"), "{error}");
    }

    #[test]
    fn damaged_files_are_errors() {
        for len in [0, 3, 8, 100, 5_000, CLMR.len() - 30] {
            assert!(import_bytes(&CLMR[..len]).is_err(), "the first {len} bytes of a checkpoint");
        }
        let whole = safetensors_file(&clmr_tensors());
        for len in [9, 200, whole.len() - 1] {
            assert!(import_bytes(&whole[..len]).is_err(), "the first {len} bytes of a safetensors file");
        }
        assert!(import_bytes(b"NRUB\x01\x00\xff\xff\xff\xff").is_err());
        assert!(matches!(read(Path::new("/nonexistent/file.pt")), Err(ImportError::Io { .. })));
    }
}
