//! The networks that the stages hand on to each other, and where they are found again.
//!
//! ```text
//! fe   feature extractor + projector          -> dc, dat
//! dc   feature extractor, domain classifier   -> dat
//! dat  feature extractor, label predictor, domain classifier
//! ```

use std::path::Path;

use anyhow::{Context, Result, bail};
use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};
use earmark_core::adapt::DatNetworks;
use earmark_core::model::{
    DomainClassifier, DomainClassifierConfig, LabelPredictor, LabelPredictorConfig, Projector, ProjectorConfig,
    SampleCnn, SampleCnnConfig, Tagger,
};
use earmark_core::model_file::Model;
use earmark_core::weights::{Architecture, LinearWeights, Weights};

use super::validation::{self, Which};
use super::{NETWORK_FILE, network_from_bytes};
use crate::config::{Config, Embedding, Head, Method};
use crate::run::{RunFolder, Stage};
use crate::{rng, weights};

/// What stage 1 trains.
#[derive(Module, Debug)]
pub(super) struct FeNetworks {
    pub(super) feature_extractor: SampleCnn,
    pub(super) projector: Projector,
}

impl FeNetworks {
    pub(super) fn new(config: &Config, device: &Device) -> Self {
        let architecture = config.architecture(1);
        let rng = &mut rng::stream(config.seed, "initial weights", 0, 0);
        let len = architecture.embedding_len();
        let mut projector =
            ProjectorConfig::new().with_embedding_len(len).with_projection_len(config.fe.projection_len).init(device);
        let feature_extractor =
            Tagger::from_weights(&architecture, &weights::initial(&architecture, rng), device).feature_extractor;
        weights::start(&mut projector.hidden, rng, device);
        weights::start(&mut projector.output, rng, device);
        Self { feature_extractor, projector }
    }
}

/// The projector that the heads read, where `config` says so: that of the run of stage 1 or 2 that the feature extractor
/// is of.
///
/// # Errors
/// If that is another kind of run or a model file, which have none to go on with.
pub fn load_projector(path: &Path, config: &Config, device: &Device) -> Result<Option<Projector>> {
    if config.model.embedding == Embedding::Encoder {
        return Ok(None);
    }
    let needs = || format!("{}: model.embedding = \"projector\" starts from a run of stage fe or dc", path.display());
    if path.is_file() {
        bail!(needs());
    }
    let run = RunFolder::open(path)?;
    let projector = match run.stage()? {
        Stage::Fe => Some(newest(&run, FeNetworks::new(run.config(), device))?.projector),
        Stage::Dc => dc_networks(&run, device)?.projector,
        Stage::Dat | Stage::Supervised => None,
    };
    let projector = projector.with_context(needs)?;
    let (found, wanted) = (projector.output.weight.dims()[1], config.fe.projection_len);
    if found != wanted {
        bail!("{}: projects to {found} values, the configuration says {wanted}; use the same [fe]", path.display());
    }
    Ok(Some(projector))
}

/// A trained feature extractor: of a run of any stage (its best weights where it validates), or of a model file.
///
/// # Errors
/// If there is none, or it has another shape than `config` asks for.
pub fn load_feature_extractor(path: &Path, config: &Config, device: &Device) -> Result<SampleCnn> {
    let wanted = config.architecture(1);
    let same = |found: &Architecture| {
        if (found.widths, found.last_kernel) != (wanted.widths, wanted.last_kernel) {
            bail!(
                "{}: a feature extractor of widths {:?} and last kernel {}, the configuration asks for {:?} and {}; \
                 use the same [model] in both",
                path.display(),
                found.widths,
                found.last_kernel,
                wanted.widths,
                wanted.last_kernel
            );
        }
        Ok(())
    };
    if path.is_file() {
        let model = Model::load(path)?;
        same(&model.metadata.architecture)?;
        return Ok(Tagger::from_weights(&model.metadata.architecture, &model.weights, device).feature_extractor);
    }
    let run = RunFolder::open(path)?;
    same(&run.config().architecture(1))?;
    Ok(match run.stage()? {
        Stage::Fe => newest(&run, FeNetworks::new(run.config(), device))?.feature_extractor,
        Stage::Dc => dc_networks(&run, device)?.feature_extractor,
        Stage::Dat | Stage::Supervised => {
            let found = validation::validated(&run, Which::Best)?;
            Tagger::from_weights(&found.architecture, &found.weights, device).feature_extractor
        }
    })
}

/// The label predictor of a trained tagger, where `config` says that it goes on learning: of a run that trains one (its
/// best weights), or of a model file.
///
/// # Errors
/// If there is none, or it predicts other tags or has another shape than `config` asks for.
pub fn load_label_predictor(
    path: &Path,
    config: &Config,
    tags: &[String],
    device: &Device,
) -> Result<Option<LabelPredictor>> {
    if config.dat.label_predictor == Head::New {
        return Ok(None);
    }
    let (architecture, weights, found) = if path.is_file() {
        let Model { metadata, weights } = Model::load(path)?;
        (metadata.architecture, weights, metadata.tags)
    } else {
        let run = RunFolder::open(path)?;
        let stage = run.stage()?;
        if !matches!(stage, Stage::Dat | Stage::Supervised) {
            bail!(
                "{}: a run of stage {stage}, which has no label predictor to keep; use dat.label_predictor = \"new\"",
                path.display()
            );
        }
        let best = validation::validated(&run, Which::Best)?;
        (best.architecture, best.weights, run.identity()?.tags)
    };
    if found != tags {
        bail!(
            "{}: its label predictor knows other tags than the data; use dat.label_predictor = \"new\"",
            path.display()
        );
    }
    let wanted = config.architecture(tags.len());
    if architecture.head_shapes() != wanted.head_shapes() {
        bail!(
            "{}: a head of layers {:?}, the configuration asks for {:?}; use the same [model] in both",
            path.display(),
            architecture.head_shapes(),
            wanted.head_shapes()
        );
    }
    Ok(Some(Tagger::from_weights(&architecture, &weights, device).label_predictor))
}

/// The networks of stage 2; the feature extractor is kept with the classifier that was trained on it.
#[derive(Module, Debug)]
pub struct DcNetworks {
    /// As the stage was given it.
    pub feature_extractor: SampleCnn,
    /// Likewise, where the classifier reads the projection.
    pub projector: Option<Projector>,
    /// What the stage trains.
    pub domain_classifier: DomainClassifier,
}

impl DcNetworks {
    pub(super) fn new(config: &Config, device: &Device) -> Self {
        Self {
            feature_extractor: SampleCnnConfig::from(&config.architecture(1)).init(device),
            projector: projector(config, device),
            domain_classifier: classifier(config, device),
        }
    }

    /// What the classifier reads of each window.
    ///
    /// # Shapes
    ///
    /// - `windows`: `[batch, 59049]`; output: `[batch, embedding_len]` or `[batch, projection_len]`
    pub fn embed(&self, windows: Tensor<2>) -> Tensor<2> {
        let embedding = self.feature_extractor.forward(windows);
        match &self.projector {
            Some(projector) => projector.forward(embedding),
            None => embedding,
        }
    }
}

/// A projector of the right shape, where the heads read one; its numbers are another's.
fn projector(config: &Config, device: &Device) -> Option<Projector> {
    let shape = ProjectorConfig::new()
        .with_embedding_len(config.architecture(1).embedding_len())
        .with_projection_len(config.fe.projection_len);
    (config.model.embedding == Embedding::Projector).then(|| shape.init(device))
}

/// An untrained domain classifier.
fn classifier(config: &Config, device: &Device) -> DomainClassifier {
    let rng = &mut rng::stream(config.seed, "initial domain classifier", 0, 0);
    let shape = DomainClassifierConfig::new().with_embedding_len(config.read_len()).with_hidden(config.dc.hidden);
    let mut classifier = shape.init(device);
    weights::start(&mut classifier.hidden, rng, device);
    weights::start(&mut classifier.output, rng, device);
    classifier
}

/// The domain classifier that a run of stage 2 trained.
///
/// # Errors
/// If there is none, or it reads an embedding of another length than `config` makes.
pub fn load_domain_classifier(path: &Path, config: &Config, device: &Device) -> Result<DomainClassifier> {
    let run = RunFolder::open(path)?;
    let stage = run.stage()?;
    if stage != Stage::Dc {
        bail!("{}: a run of stage {stage}, not of stage {}", path.display(), Stage::Dc);
    }
    let (found, wanted) = (run.config().read_len(), config.read_len());
    if found != wanted {
        bail!(
            "{}: for embeddings of length {found}, the configuration makes {wanted}; use the same [model]",
            path.display()
        );
    }
    Ok(dc_networks(&run, device)?.domain_classifier)
}

/// The networks of a run of stage 2, as its newest checkpoint has them.
///
/// # Errors
/// If there is none yet or it cannot be read.
pub fn dc_networks(run: &RunFolder, device: &Device) -> Result<DcNetworks> {
    newest(run, DcNetworks::new(run.config(), device))
}

/// Networks of the right shapes; of their numbers only the label predictor's are used, which starts from the seed.
pub(super) fn untrained_dat(config: &Config, architecture: &Architecture, device: &Device) -> DatNetworks {
    let rng = &mut rng::stream(config.seed, "initial weights", 0, 0);
    // The convolutions are drawn too, so that the label predictor's numbers are those of a network that starts whole.
    let encoder = Architecture { projector_hidden: None, ..architecture.clone() };
    let initial = weights::initial(&encoder, rng);
    let mut label_predictor = Tagger::from_weights(&encoder, &initial, device).label_predictor;
    if config.model.embedding == Embedding::Projector {
        let head = LabelPredictorConfig::new(config.read_len(), architecture.num_tags);
        label_predictor = head.with_hidden(architecture.head_hidden).init(device);
        for layer in label_predictor.hidden.iter_mut().chain([&mut label_predictor.output]) {
            weights::start(layer, rng, device);
        }
    }
    DatNetworks {
        feature_extractor: SampleCnnConfig::from(architecture).init(device),
        projector: projector(config, device),
        label_predictor,
        domain_classifier: (config.dat.method == Method::Proposed).then(|| classifier(config, device)),
    }
}

/// What inference needs of the networks of stage 3. A projector becomes a part of the head: its second layer has no bias
/// and no ReLU behind it, so it and the next layer are one.
pub(super) fn tagger_weights(networks: &DatNetworks) -> Weights {
    let tagger = Tagger {
        feature_extractor: networks.feature_extractor.clone(),
        label_predictor: networks.label_predictor.clone(),
    };
    let mut weights = tagger.to_weights();
    if let Some(projector) = &networks.projector {
        let first = weights.head.remove(0);
        let [hidden, output] = [&projector.hidden, &projector.output].map(rows);
        let len = projector.output.weight.dims()[1];
        let merged = first.weight.chunks_exact(len).flat_map(|row| {
            (0..output.len() / len).map(|unit| (0..len).map(|k| row[k] * output[k * (output.len() / len) + unit]).sum())
        });
        weights.head.insert(0, LinearWeights { weight: merged.collect(), bias: first.bias });
        let bias = vec![0.0; projector.hidden.weight.dims()[1]];
        weights.head.insert(0, LinearWeights { weight: hidden, bias });
    }
    weights
}

/// A layer's weights as rows of `[out, in]`.
fn rows(layer: &Linear) -> Vec<f32> {
    layer.weight.val().transpose().into_data().iter::<f32>().collect()
}

/// The networks of a run of stage 3, as its newest checkpoint has them, domain classifier included.
///
/// # Errors
/// If there is none yet or it cannot be read.
pub fn dat_networks(run: &RunFolder, device: &Device) -> Result<DatNetworks> {
    let architecture = run.config().architecture(run.identity()?.tags.len());
    newest(run, untrained_dat(run.config(), &architecture, device))
}

/// BLAKE3 of a network's numbers, running statistics included, as 32-bit floats.
pub fn blake3_of<M: Module>(network: &M) -> String {
    struct Numbers(blake3::Hasher);
    impl ModuleVisitor for Numbers {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            for value in param.val().into_data().iter::<f32>() {
                self.0.update(&value.to_le_bytes());
            }
        }
    }
    let mut numbers = Numbers(blake3::Hasher::new());
    network.visit(&mut numbers);
    numbers.0.finalize().to_hex().to_string()
}

/// `networks` as the newest checkpoint of `run` has them.
fn newest<M: Module>(run: &RunFolder, networks: M) -> Result<M> {
    let checkpoint = run.newest_checkpoint()?;
    let checkpoint = checkpoint.with_context(|| format!("{}: no checkpoint yet; train on", run.path().display()))?;
    network_from_bytes(networks, checkpoint.required(NETWORK_FILE)?)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, TensorData, Tolerance};
    use earmark_core::WINDOW_SAMPLES;

    use super::*;

    #[test]
    fn a_projector_becomes_part_of_the_head() {
        let text = "seed = 1\n[model]\nwidth = 0.0625\nlast_kernel = 3\nhead_hidden = 6\nembedding = \"projector\"\n\
            [data]\ntargets = \"hard\"\n[fe]\nprojection_len = 5\n";
        for overrides in [vec![], vec!["model.head_hidden=0".to_owned()]] {
            // Zero stands for "one layer" here alone: the key is taken out.
            let text = if overrides.is_empty() { text.to_owned() } else { text.replace("head_hidden = 6\n", "") };
            let config = Config::parse(&text, &[]).expect("valid");
            let (architecture, device) = (config.architecture(3), Device::flex());
            let networks = untrained_dat(&config, &architecture, &device);
            let windows = Tensor::random([2, WINDOW_SAMPLES], Distribution::Uniform(-0.5, 0.5), &device);
            let expected = networks.label_predictor.forward(networks.embed(windows.clone())).into_data();
            let weights = tagger_weights(&networks);
            let shapes: Vec<usize> = weights.head.iter().map(|layer| layer.weight.len()).collect();
            let wanted: Vec<usize> =
                architecture.head_shapes().iter().map(|(inputs, outputs)| inputs * outputs).collect();
            assert_eq!(shapes, wanted);
            let found = Tagger::from_weights(&architecture, &weights, &device).forward(windows).logits.into_data();
            expected.assert_approx_eq::<f32>(&found, Tolerance::absolute(1e-5));
            assert_ne!(expected, TensorData::zeros::<f32, _>([2, 3]));
        }
    }
}
