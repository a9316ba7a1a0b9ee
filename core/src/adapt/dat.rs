//! One update of domain adversarial training (stage 3), and of its two references.

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::{GradientsAccumulator, GradientsParams},
    prelude::*,
};
use serde::{Deserialize, Serialize};

use super::{Domain, binary_cross_entropy_with_logits, domain_accuracy, domain_loss};
use crate::model::{DomainClassifier, LabelPredictor, Projector, SampleCnn, gradient_reversal};

/// Over which windows the feature extractor's batch norm takes its statistics; see [`super`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchStatistics {
    /// One forward pass over both domains: joint statistics.
    #[default]
    Joint,
    /// A forward pass per domain, source first: each domain has its own; the running ones follow both.
    PerDomain,
    /// Those of the source for both domains; the running ones follow them.
    Source,
    /// The running ones that the stage began with, for both domains and to its end. Scale and offset are trained.
    Fixed,
}

/// The networks of stage 3.
#[derive(Module, Debug)]
pub struct DatNetworks {
    /// From a window to its embedding.
    pub feature_extractor: SampleCnn,
    /// Where the heads are to read stage 1's projection instead of SampleCNN's output (section 3.1.1 of the thesis can be
    /// read so; SimCLR reads the output).
    pub projector: Option<Projector>,
    /// From an embedding to logits of tags.
    pub label_predictor: LabelPredictor,
    /// From an embedding to the logit of the noisy domain. To train against a fixed adversary, `freeze` it: its weights
    /// and its running statistics then stay as they are, and its gradient passes on.
    pub domain_classifier: Option<DomainClassifier>,
}

impl DatNetworks {
    /// What the heads read of each window.
    ///
    /// # Shapes
    ///
    /// - `windows`: `[batch, 59049]`
    /// - output: `[batch, embedding_len]`, or `[batch, projection_len]` with a projector
    pub fn embed(&self, windows: Tensor<2>) -> Tensor<2> {
        let [batch, _] = windows.dims();
        self.embed_measuring(windows, batch)
    }

    /// As [`embed`](Self::embed), with batch norm as in [`SampleCnn::forward_measuring`].
    fn embed_measuring(&self, windows: Tensor<2>, measured: usize) -> Tensor<2> {
        let embedding = self.feature_extractor.forward_measuring(windows, measured);
        match &self.projector {
            Some(projector) => projector.forward(embedding),
            None => embedding,
        }
    }

    /// What the heads read of the windows of both domains, source first.
    ///
    /// # Shapes
    ///
    /// - `source`: `[n, 59049]`, `target`: `[m, 59049]`; output: `[n + m, ..]` as of [`embed`](Self::embed)
    fn embed_domains(&self, source: Tensor<2>, target: Option<Tensor<2>>, statistics: BatchStatistics) -> Tensor<2> {
        let Some(target) = target else {
            return if statistics == BatchStatistics::Fixed { self.fixed().embed(source) } else { self.embed(source) };
        };
        match statistics {
            BatchStatistics::Joint => self.embed(Tensor::cat(vec![source, target], 0)),
            BatchStatistics::PerDomain => Tensor::cat(vec![self.embed(source), self.embed(target)], 0),
            BatchStatistics::Fixed => self.fixed().embed(Tensor::cat(vec![source, target], 0)),
            BatchStatistics::Source => {
                let [measured, _] = source.dims();
                self.embed_measuring(Tensor::cat(vec![source, target], 0), measured)
            }
        }
    }

    /// The same parameters, the feature extractor's batch norm as in inference: by its running statistics, which stay.
    fn fixed(&self) -> Self {
        let mut fixed = self.clone();
        for module in &mut fixed.feature_extractor.modules {
            module.batch_norm.training = Param::from_bool(false);
        }
        fixed
    }
}

/// What logits of windows are to be, `[n, num_tags]`, and the loss that says how far they are from it.
#[derive(Clone, Debug)]
pub struct Labels {
    values: Tensor<2>,
    /// Of logits and `values`.
    loss: fn(Tensor<2>, Tensor<2>) -> Tensor<1>,
}

impl Labels {
    /// The logits of another model, by the mean squared difference (Ba and Caruana 2014). Cross entropy against its
    /// probabilities hardly minds a rare tag at .02 or at .03, on which the ranking of clips rests.
    pub fn logits(values: Tensor<2>) -> Self {
        Self { values, loss: |logits, values| (logits - values).powi_scalar(2).mean() }
    }

    fn loss(self, logits: Tensor<2>) -> Tensor<1> {
        (self.loss)(logits, self.values)
    }

    fn len(&self) -> usize {
        self.values.dims()[0]
    }
}

impl From<Tensor<2>> for Labels {
    /// Tags in 0 to 1, by binary cross entropy (eq. 3.2).
    fn from(values: Tensor<2>) -> Self {
        Self { values, loss: binary_cross_entropy_with_logits }
    }
}

/// The noisy domain's part in the update, one for each method of the thesis' table 4.1. What a method must not see, it
/// cannot be given.
#[derive(Clone, Debug)]
pub enum Supervision {
    /// `baseline`: the label loss of the source alone. The noisy domain is not heard at all, batch norm included.
    Source,
    /// `supervised`: the label loss of both domains.
    Both {
        /// `[m, 59049]`.
        target: Tensor<2>,
        /// `[m, num_tags]`.
        target_tags: Tensor<2>,
    },
    /// `proposed`: the label loss of the source and the domain loss of both.
    Adversarial(Adversarial),
}

/// What the feature extractor is given of the domain classifier's judgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdversarialLoss {
    /// The reversed gradient of the domain loss (eq. 3.3; DANN). It vanishes where the classifier is certain: at a
    /// window of loud noise.
    #[default]
    Minimax,
    /// The gradient of the domain loss with the domains exchanged: the same signs, and greatest where the classifier is
    /// certain (Goodfellow et al. 2014, section 3; ADDA, Tzeng et al. 2017, eq. 7).
    NonSaturating,
}

/// What `proposed` adds to the source.
#[derive(Clone, Debug)]
pub struct Adversarial {
    /// `[m, 59049]`.
    pub target: Tensor<2>,
    /// Which gradient passes from the domain classifier to the feature extractor.
    pub loss: AdversarialLoss,
    /// `alpha * lambda`: factor on that gradient.
    pub reversal: f64,
    /// Where the target's music is known without its noise; the thesis' method knows it not.
    pub consistency: Option<Consistency>,
}

/// Noise must not change what is heard: the label loss of noisy windows against what the same music is clean.
#[derive(Clone, Debug)]
pub struct Consistency {
    /// What the target's first windows are without noise, `[k, num_tags]`, k at most m.
    pub clean_tags: Labels,
    /// Factor on this loss beside the source's; with 0 it is measured and not learnt from.
    pub weight: f64,
}

/// How an update went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DatHealth {
    /// Mean over the windows whose labels are read.
    pub label_loss: f64,
    /// `proposed` only.
    pub adversary: Option<AdversaryHealth>,
    /// Where it is known what the target is without noise: the same loss there, before its factor.
    pub consistency_loss: Option<f64>,
    /// Standard deviation of an embedding value over the batch, averaged over its values. Near zero every window looks
    /// the same: the embedding has collapsed.
    pub embedding_spread: f64,
}

/// How the domain classifier fares. Healthy is an accuracy that falls towards one half while the label loss falls too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdversaryHealth {
    /// `ln 2` (0.693) is chance.
    pub domain_loss: f64,
    /// Share of the windows whose domain is recognised.
    pub domain_accuracy: f64,
    /// Norm of the reversed domain gradient over that of the label gradient, both at the embedding. `None` where the
    /// latter is zero. Far above 1 the adversary decides what is learnt, far below 0.01 it has no say.
    pub gradient_ratio: Option<f64>,
}

impl DatHealth {
    /// Whether every figure is a number.
    pub fn is_finite(&self) -> bool {
        let adversary = self.adversary.is_none_or(|adversary| {
            adversary.domain_loss.is_finite() && adversary.gradient_ratio.unwrap_or(0.0).is_finite()
        });
        let consistency = self.consistency_loss.unwrap_or(0.0).is_finite();
        self.label_loss.is_finite() && self.embedding_spread.is_finite() && consistency && adversary
    }
}

/// One update: what is to be stepped along, and how it went.
pub struct DatUpdate {
    /// Of everything that is not frozen.
    pub gradients: GradientsParams,
    /// How it went.
    pub health: DatHealth,
    /// What the heads have read, source first, without its graph: `[n + m, embedding_len]`.
    pub embedding: Tensor<2>,
}

/// [`dat_update`] without the embedding.
///
/// # Panics
///
/// As [`dat_update`].
pub fn dat_gradients(
    networks: &DatNetworks,
    source: Tensor<2>,
    source_tags: impl Into<Labels>,
    supervision: Supervision,
    statistics: BatchStatistics,
) -> (GradientsParams, DatHealth) {
    let update = dat_update(networks, source, source_tags, supervision, statistics);
    (update.gradients, update.health)
}

/// Gradients of one update for everything in `networks` that is not frozen.
///
/// The backward pass stops at the embedding, where the two branches meet: the gradient that each hands over is
/// measured, and their sum goes on into the feature extractor. By the chain rule that is the gradient of the whole.
///
/// # Shapes
///
/// - `source`: `[n, 59049]`, `source_tags`: `[n, num_tags]`, a tensor of tags in 0 to 1 or other [`Labels`]
///
/// # Panics
///
/// If `supervision` is adversarial and `networks` has no domain classifier, a window has another length, or the device
/// does not differentiate.
pub fn dat_update(
    networks: &DatNetworks,
    source: Tensor<2>,
    source_tags: impl Into<Labels>,
    supervision: Supervision,
    statistics: BatchStatistics,
) -> DatUpdate {
    let source_tags = source_tags.into();
    let [num_source, _] = source.dims();
    let (target, target_tags, adversary, consistency) = match supervision {
        Supervision::Source => (None, None, None, None),
        Supervision::Both { target, target_tags } => (Some(target), Some(target_tags), None, None),
        Supervision::Adversarial(Adversarial { target, loss, reversal, consistency }) => {
            (Some(target), None, Some((loss, reversal)), consistency)
        }
    };
    let num_target = target.as_ref().map_or(0, |target| target.dims()[0]);
    let embedding = networks.embed_domains(source, target, statistics); // [n + m, embedding_len]

    // Label branch: the windows whose tags are known.
    let label_input = embedding.clone().detach().require_grad();
    let (labelled, tags) = match target_tags {
        Some(target_tags) => {
            let values = Tensor::cat(vec![source_tags.values, target_tags], 0);
            (label_input.clone(), Labels { values, ..source_tags })
        }
        None => (label_input.clone().narrow(0, 0, num_source), source_tags),
    };
    let label_loss = tags.loss(networks.label_predictor.forward(labelled));
    let mut learnt_from = label_loss.clone();
    let consistency_loss = consistency.map(|Consistency { clean_tags, weight }| {
        let noisy = label_input.clone().narrow(0, num_source, clean_tags.len());
        let loss = clean_tags.loss(networks.label_predictor.forward(noisy));
        learnt_from = learnt_from.clone() + loss.clone() * weight;
        loss.into_scalar()
    });
    let mut gradients = learnt_from.backward();
    let mut at_embedding = label_input.grad(&gradients).expect("the label loss depends on its input");
    let mut all = GradientsAccumulator::new();
    all.accumulate(networks, GradientsParams::from_module(&mut gradients, networks));

    // Domain branch: every window.
    let adversary = adversary.map(|(adversarial_loss, reversal)| {
        let classifier = networks.domain_classifier.as_ref().expect("the proposed method has a domain classifier");
        let domain_input = embedding.clone().detach().require_grad();
        let logits = classifier.forward(gradient_reversal(domain_input.clone(), reversal)); // [n + m, 1]
        let domains = domains(num_source, num_target);
        let loss = domain_loss(logits.clone(), &domains);
        let mut gradients = loss.backward();
        let reversed = match adversarial_loss {
            AdversarialLoss::Minimax => domain_input.grad(&gradients),
            AdversarialLoss::NonSaturating => {
                let exchanged: Vec<Domain> = domains.iter().map(|domain| domain.other()).collect();
                let loss = domain_loss(classifier.forward(domain_input.clone()), &exchanged);
                domain_input.grad(&(loss * reversal).backward())
            }
        };
        let reversed = reversed.expect("the domain loss depends on its input");
        all.accumulate(networks, GradientsParams::from_module(&mut gradients, networks));
        let (of_label, of_domain) = (norm(at_embedding.clone()), norm(reversed.clone()));
        at_embedding = at_embedding.clone() + reversed;
        AdversaryHealth {
            domain_loss: loss.into_scalar(),
            domain_accuracy: domain_accuracy(logits, &domains),
            gradient_ratio: (of_label > 0.0).then_some(of_domain / of_label),
        }
    });

    // Both branches together, through the feature extractor.
    let read = embedding.clone().detach();
    let spread = read.clone().var_bias(0).sqrt().mean().into_scalar();
    let handed_over = Tensor::from_inner(at_embedding);
    let mut gradients = (embedding * handed_over).sum().backward();
    all.accumulate(networks, GradientsParams::from_module(&mut gradients, networks));
    let health =
        DatHealth { label_loss: label_loss.into_scalar(), adversary, consistency_loss, embedding_spread: spread };
    DatUpdate { gradients: all.grads(), health, embedding: read }
}

/// Gradients of a domain classifier alone on what an update has read ([`DatUpdate::embedding`]): for further steps of
/// the adversary, which cost next to nothing.
///
/// # Shapes
///
/// - `embedding`: `[n + m, embedding_len]`, the `num_source` of the source first
///
/// # Panics
///
/// If there are fewer embeddings than `num_source`.
pub fn domain_gradients(classifier: &DomainClassifier, embedding: Tensor<2>, num_source: usize) -> GradientsParams {
    let [num_embeddings, _] = embedding.dims();
    let loss = domain_loss(classifier.forward(embedding), &domains(num_source, num_embeddings - num_source));
    GradientsParams::from_grads(loss.backward(), classifier)
}

fn domains(num_source: usize, num_target: usize) -> Vec<Domain> {
    [vec![Domain::Source; num_source], vec![Domain::Target; num_target]].concat()
}

/// Takes the gradients of one of the networks out of those of all, for an optimiser of its own.
pub fn take_gradients<M: Module>(network: &M, gradients: &mut GradientsParams) -> GradientsParams {
    struct Take<'a> {
        from: &'a mut GradientsParams,
        taken: GradientsParams,
    }
    impl ModuleVisitor for Take<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.from.remove::<D>(param.id) {
                self.taken.register(param.id, gradient);
            }
        }
    }
    let mut take = Take { from: gradients, taken: GradientsParams::new() };
    network.visit(&mut take);
    take.taken
}

fn norm(gradient: Tensor<2>) -> f64 {
    gradient.powi_scalar(2).sum().sqrt().into_scalar()
}

#[cfg(test)]
mod tests {
    use burn::{module::RunningState, tensor::Distribution};

    use super::*;
    use crate::{
        WINDOW_SAMPLES,
        model::{DomainClassifierConfig, LabelPredictorConfig, ProjectorConfig, SampleCnnConfig},
        weights::Architecture,
    };

    const TAGS: usize = 3;
    const REVERSAL: f64 = 0.3;
    const ALL_STATISTICS: [BatchStatistics; 4] =
        [BatchStatistics::Joint, BatchStatistics::PerDomain, BatchStatistics::Source, BatchStatistics::Fixed];

    fn device() -> Device {
        Device::flex().autodiff()
    }

    /// Untrained networks; the classifier's frozen statistics are not those of the data.
    fn networks(frozen: bool) -> DatNetworks {
        let device = device();
        device.seed(7);
        let architecture = Architecture::scaled(1.0 / 16.0, 1, None, TAGS);
        let len = architecture.embedding_len();
        let classifier = DomainClassifierConfig::new().with_embedding_len(len).with_hidden(6).init(&device);
        DatNetworks {
            feature_extractor: SampleCnnConfig::from(&architecture).init(&device),
            projector: None,
            label_predictor: LabelPredictorConfig::new(len, TAGS).with_hidden(Some(5)).init(&device),
            domain_classifier: Some(if frozen { classifier.freeze() } else { classifier }),
        }
    }

    /// Networks with the same parameters and running statistics of their own; a clone shares them.
    fn copy(networks: &DatNetworks) -> DatNetworks {
        let mut copy = networks.clone();
        for module in &mut copy.feature_extractor.modules {
            let norm = &mut module.batch_norm;
            norm.running_mean = RunningState::new(norm.running_mean.value_sync());
            norm.running_var = RunningState::new(norm.running_var.value_sync());
        }
        copy
    }

    fn windows(batch: usize, loudness: f64) -> Tensor<2> {
        Tensor::random([batch, WINDOW_SAMPLES], Distribution::Uniform(-loudness, loudness), &device())
    }

    fn silence(batch: usize) -> Tensor<2> {
        Tensor::zeros([batch, WINDOW_SAMPLES], &device())
    }

    fn tags(batch: usize) -> Tensor<2> {
        Tensor::random([batch, TAGS], Distribution::Uniform(0.0, 1.0), &device())
    }

    fn adversarial(target: Tensor<2>) -> Supervision {
        adversarial_by(AdversarialLoss::Minimax, target)
    }

    fn adversarial_by(loss: AdversarialLoss, target: Tensor<2>) -> Supervision {
        Supervision::Adversarial(Adversarial { target, loss, reversal: REVERSAL, consistency: None })
    }

    fn values(tensor: Option<Tensor<3>>) -> Vec<f32> {
        tensor.expect("a gradient").into_data().iter::<f32>().collect()
    }

    /// Gradient of the feature extractor's module `index`.
    fn of_module(networks: &DatNetworks, gradients: &GradientsParams, index: usize) -> Vec<f32> {
        values(gradients.get::<3>(networks.feature_extractor.modules[index].conv.weight.id))
    }

    fn assert_close(found: &[f32], expected: &[f32]) {
        let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        assert!(largest > 0.0);
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-4 * largest, "{found} {expected} of {largest}");
        }
    }

    #[test]
    fn the_extractor_descends_the_label_loss_and_climbs_the_domain_loss() {
        for statistics in [BatchStatistics::Joint, BatchStatistics::Source] {
            for loss in [AdversarialLoss::Minimax, AdversarialLoss::NonSaturating] {
                both_branches_meet_at_the_embedding(statistics, loss);
            }
        }
    }

    fn both_branches_meet_at_the_embedding(statistics: BatchStatistics, adversarial_loss: AdversarialLoss) {
        let networks = networks(false);
        let (source, target, source_tags) = (windows(3, 0.1), windows(2, 0.9), tags(3));
        let supervision = adversarial_by(adversarial_loss, target.clone());
        let (found, health) = dat_gradients(&networks, source.clone(), source_tags.clone(), supervision, statistics);

        // Eqs. 3.3 and 3.4 in one graph each, without reversal: the sign is written out here.
        let losses = || {
            let embedding = networks.embed_domains(source.clone(), Some(target.clone()), statistics);
            let classifier = networks.domain_classifier.as_ref().expect("a classifier");
            let domains = [vec![Domain::Source; 3], vec![Domain::Target; 2]].concat();
            let logits = networks.label_predictor.forward(embedding.clone().narrow(0, 0, 3));
            let label_loss = binary_cross_entropy_with_logits(logits, source_tags.clone());
            let logits = classifier.forward(embedding);
            // What the extractor climbs, or descends with the domains exchanged.
            let climbed = match adversarial_loss {
                AdversarialLoss::Minimax => domain_loss(logits.clone(), &domains),
                AdversarialLoss::NonSaturating => {
                    let exchanged = [vec![Domain::Target; 3], vec![Domain::Source; 2]].concat();
                    domain_loss(logits.clone(), &exchanged).neg()
                }
            };
            (label_loss, domain_loss(logits, &domains), climbed)
        };
        let (label_loss, domain_loss, climbed) = losses();
        assert!((health.label_loss - label_loss.clone().into_scalar::<f64>()).abs() < 1e-6);
        let adversary = health.adversary.expect("an adversary");
        assert!((adversary.domain_loss - domain_loss.clone().into_scalar::<f64>()).abs() < 1e-6);
        assert!(adversary.gradient_ratio.expect("a label gradient") > 0.0 && health.embedding_spread > 0.0);

        let extractor = GradientsParams::from_grads((label_loss - climbed * REVERSAL).backward(), &networks);
        for index in [0, 5, 10] {
            assert_close(&of_module(&networks, &found, index), &of_module(&networks, &extractor, index));
        }
        // The classifier itself descends its whole loss, lambda or not.
        let classifier = GradientsParams::from_grads(losses().1.backward(), &networks);
        let id = networks.domain_classifier.as_ref().expect("a classifier").hidden.weight.id;
        let flat = |gradients: &GradientsParams| values(gradients.get::<2>(id).map(Tensor::unsqueeze));
        assert_close(&flat(&found), &flat(&classifier));
        assert_eq!(found.len(), extractor.len(), "every parameter has a gradient");

        let mut rest = found;
        let (all, expected) = (rest.len(), flat(&rest));
        let own = take_gradients(networks.domain_classifier.as_ref().expect("a classifier"), &mut rest);
        let embedding = networks.embed_domains(source.clone(), Some(target.clone()), statistics).detach();
        let alone = domain_gradients(networks.domain_classifier.as_ref().expect("a classifier"), embedding, 3);
        assert_close(&flat(&alone), &expected);
        assert_eq!(flat(&own), expected, "the classifier's gradients are taken as they are");
        assert!(rest.get::<2>(id).is_none() && own.len() == 6 && rest.len() == all - 6);
    }

    #[test]
    fn a_frozen_classifier_gets_no_gradient_and_keeps_its_statistics() {
        for frozen in [true, false] {
            let networks = networks(frozen);
            let classifier = networks.domain_classifier.as_ref().expect("a classifier");
            let before = classifier.batch_norm.running_mean.value_sync().to_data();
            let target = adversarial(windows(2, 0.9));
            let (gradients, _) = dat_gradients(&networks, windows(2, 0.1), tags(2), target, BatchStatistics::default());
            assert_eq!(gradients.get::<2>(classifier.hidden.weight.id).is_none(), frozen);
            assert_eq!(gradients.get::<1>(classifier.batch_norm.gamma.id).is_none(), frozen);
            let after = classifier.batch_norm.running_mean.value_sync().to_data();
            assert_eq!(before == after, frozen);
        }
    }

    #[test]
    fn the_baseline_is_a_plain_supervised_step() {
        let networks = networks(false);
        let (source, source_tags) = (windows(3, 0.5), tags(3));
        let (found, health) =
            dat_gradients(&networks, source.clone(), source_tags.clone(), Supervision::Source, BatchStatistics::Joint);
        assert!(health.adversary.is_none());
        let logits = networks.label_predictor.forward(networks.embed(source));
        let loss = binary_cross_entropy_with_logits(logits, source_tags);
        let plain = GradientsParams::from_grads(loss.backward(), &networks);
        assert_eq!(found.len(), plain.len());
        assert_close(&of_module(&networks, &found, 4), &of_module(&networks, &plain, 4));
    }

    #[test]
    fn supervised_reads_the_labels_of_both_domains() {
        let networks = networks(false);
        let (source, target, source_tags) = (windows(2, 0.1), windows(2, 0.9), tags(2));
        let loss = |target_tags: Tensor<2>| {
            let supervision = Supervision::Both { target: target.clone(), target_tags };
            let update =
                dat_gradients(&networks, source.clone(), source_tags.clone(), supervision, BatchStatistics::Joint);
            update.1.label_loss
        };
        let target_tags = tags(2);
        assert!((loss(target_tags.clone()) - loss(target_tags.clone() * 0.5)).abs() > 1e-4);
        let logits =
            networks.label_predictor.forward(networks.embed(Tensor::cat(vec![source.clone(), target.clone()], 0)));
        let all_tags = Tensor::cat(vec![source_tags.clone(), target_tags.clone()], 0);
        let expected: f64 = binary_cross_entropy_with_logits(logits, all_tags).into_scalar();
        assert!((loss(target_tags) - expected).abs() < 1e-6);
    }

    #[test]
    fn domains_meet_in_batch_norm_only_if_asked_to() {
        let networks = networks(true);
        let (source, source_tags) = (windows(3, 0.1), tags(3));
        let label_loss = |target: Tensor<2>, statistics| {
            dat_gradients(&networks, source.clone(), source_tags.clone(), adversarial(target), statistics).1.label_loss
        };
        for statistics in ALL_STATISTICS {
            let meet = statistics == BatchStatistics::Joint;
            let (soft, loud) = (label_loss(windows(3, 0.1), statistics), label_loss(windows(3, 0.9), statistics));
            assert_eq!((soft - loud).abs() > 1e-6, meet, "{statistics:?}: {soft} {loud}");
        }
    }

    /// Every running mean and variance of the feature extractor.
    fn running(networks: &DatNetworks) -> Vec<f32> {
        let norms = networks.feature_extractor.modules.iter().map(|module| &module.batch_norm);
        let states = norms.flat_map(|norm| [norm.running_mean.value_sync(), norm.running_var.value_sync()]);
        states.flat_map(|state| state.into_data().iter::<f32>().collect::<Vec<_>>()).collect()
    }

    #[test]
    fn without_the_adversary_proposed_is_the_baseline() {
        let (source, target, source_tags) = (windows(4, 0.1), windows(3, 0.9), tags(4));
        let networks = networks(false);
        for statistics in [BatchStatistics::Source, BatchStatistics::Fixed] {
            let step = |supervision| {
                let networks = copy(&networks);
                let update = dat_gradients(&networks, source.clone(), source_tags.clone(), supervision, statistics);
                let modules = (0..11).flat_map(|index| of_module(&networks, &update.0, index));
                let head = values(update.0.get::<2>(networks.label_predictor.output.weight.id).map(Tensor::unsqueeze));
                (modules.chain(head).collect::<Vec<f32>>(), running(&networks), update.1.label_loss)
            };
            let proposed = |reversal| {
                let adversarial =
                    Adversarial { target: target.clone(), loss: AdversarialLoss::Minimax, reversal, consistency: None };
                step(Supervision::Adversarial(adversarial))
            };
            let baseline = step(Supervision::Source);
            // A batch of another size is summed in another order.
            let without = proposed(0.0);
            assert_close(&without.0, &baseline.0);
            assert_close(&without.1, &baseline.1);
            assert!((without.2 - baseline.2).abs() < 1e-6, "{statistics:?}");
            let learns = proposed(REVERSAL);
            assert_close(&learns.1, &without.1);
            let from_without = |gradients: &[f32]| {
                gradients.iter().zip(&without.0).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()))
            };
            let (moved, rounding) = (from_without(&learns.0), from_without(&baseline.0));
            assert!(moved > 10.0 * rounding, "{statistics:?}: {moved} {rounding}");
        }
    }

    #[test]
    fn running_statistics_follow_whom_they_should() {
        let networks = networks(false);
        let (before, source, source_tags) = (running(&networks), windows(3, 0.1), tags(3));
        for (statistics, source_alone) in [
            (BatchStatistics::Joint, false),
            (BatchStatistics::PerDomain, false),
            (BatchStatistics::Source, true),
            (BatchStatistics::Fixed, true),
        ] {
            let after = |target: Tensor<2>| {
                let networks = copy(&networks);
                drop(dat_gradients(&networks, source.clone(), source_tags.clone(), adversarial(target), statistics));
                running(&networks)
            };
            let (soft, loud) = (after(windows(3, 0.1)), after(windows(3, 0.9)));
            assert_eq!(soft == loud, source_alone, "{statistics:?}");
            assert_eq!(soft == before, statistics == BatchStatistics::Fixed, "{statistics:?}");
        }
    }

    #[test]
    fn the_target_is_normalised_as_the_source_is() {
        let networks = networks(false);
        let source = windows(3, 0.3);
        let embed = |target: Tensor<2>| networks.embed_domains(source.clone(), Some(target), BatchStatistics::Source);
        let both: Vec<f32> = embed(source.clone()).into_data().iter::<f32>().collect();
        let (of_source, of_target) = both.split_at(both.len() / 2);
        assert_close(of_target, of_source);
        // A target by its own statistics would lose its loudness.
        let louder: Vec<f32> = embed(source.clone() * 2.0).into_data().iter::<f32>().collect();
        assert!(louder[both.len() / 2..].iter().sum::<f32>() > 1.2 * of_source.iter().sum::<f32>());
    }

    #[test]
    fn consistency_is_a_label_loss_of_known_targets_and_without_weight_a_measure() {
        let networks = networks(true);
        let (source, target, source_tags, clean_tags) = (windows(2, 0.1), windows(3, 0.9), tags(2), tags(2));
        let update = |weight: Option<f64>| {
            let consistency = weight.map(|weight| Consistency { clean_tags: clean_tags.clone().into(), weight });
            let adversarial =
                Adversarial { target: target.clone(), loss: AdversarialLoss::Minimax, reversal: 0.0, consistency };
            let supervision = Supervision::Adversarial(adversarial);
            dat_gradients(&networks, source.clone(), source_tags.clone(), supervision, BatchStatistics::PerDomain)
        };
        let (with, health) = update(Some(0.5));
        let label_losses = || {
            let of = |windows: Tensor<2>| networks.label_predictor.forward(networks.embed(windows));
            let source_loss = binary_cross_entropy_with_logits(of(source.clone()), source_tags.clone());
            let noisy = of(target.clone()).narrow(0, 0, 2);
            (source_loss, binary_cross_entropy_with_logits(noisy, clean_tags.clone()))
        };
        let (source_loss, noisy_loss) = label_losses();
        let found = health.consistency_loss.expect("measured");
        assert!((found - noisy_loss.clone().into_scalar::<f64>()).abs() < 1e-6);
        let expected = GradientsParams::from_grads((source_loss + noisy_loss * 0.5).backward(), &networks);
        for index in [0, 5, 10] {
            assert_close(&of_module(&networks, &with, index), &of_module(&networks, &expected, index));
        }
        let (measured, without) = (update(Some(0.0)), update(None));
        assert!(measured.1.consistency_loss.is_some() && without.1.consistency_loss.is_none());
        assert_close(&of_module(&networks, &measured.0, 4), &of_module(&networks, &without.0, 4));
    }

    #[test]
    fn heads_can_read_the_projection() {
        let device = device();
        let mut networks = networks(false);
        let len = networks.feature_extractor.modules[10].conv.weight.dims()[0];
        networks.projector = Some(ProjectorConfig::new().with_embedding_len(len).with_projection_len(4).init(&device));
        networks.label_predictor = LabelPredictorConfig::new(4, TAGS).init(&device);
        networks.domain_classifier = Some(DomainClassifierConfig::new().with_embedding_len(4).init(&device));
        let target = adversarial(windows(2, 0.9));
        let (gradients, health) = dat_gradients(&networks, windows(2, 0.1), tags(2), target, BatchStatistics::Joint);
        assert!(health.is_finite());
        let projector = networks.projector.as_ref().expect("a projector");
        assert!(gradients.get::<2>(projector.hidden.weight.id).is_some());
        assert!(of_module(&networks, &gradients, 3).iter().any(|value| value.abs() > 0.0));
    }

    #[test]
    fn silence_gives_finite_gradients() {
        for statistics in ALL_STATISTICS {
            let networks = networks(false);
            let target = adversarial(silence(2));
            let (gradients, health) = dat_gradients(&networks, silence(2), tags(2), target, statistics);
            assert!(health.is_finite(), "{health:?}");
            for index in 0..11 {
                assert!(of_module(&networks, &gradients, index).iter().all(|value| value.is_finite()));
            }
        }
    }

    #[test]
    fn logits_of_another_model_are_matched_by_their_squared_distance() {
        let device = Device::flex();
        let (found, wanted) = (Tensor::<2>::from_floats([[1.0, -4.0]], &device), [[0.5, -5.0]]);
        let loss: f32 = Labels::logits(Tensor::from_floats(wanted, &device)).loss(found.clone()).into_scalar();
        assert!((loss - 0.625).abs() < 1e-6, "{loss}");
        let itself: f32 = Labels::logits(found.clone()).loss(found).into_scalar();
        assert!(itself.abs() < 1e-9, "{itself}");
    }
}
