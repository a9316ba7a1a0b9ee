//! Stage 2 on the device: the domain classifier learns this room from cached embeddings, in seconds.
//!
//! ```text
//! train: embeddings, both domains half and half -> classifier -> binary cross entropy (eq. 3.2); Adam
//! valid: its loss says when to stop; then Platt scaling -> scale, offset -> the noise meter
//! test:  share of windows told right, by kind and SNR
//! ```

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use rand::seq::SliceRandom;

use super::control::Control;
use super::examples::{Examples, Kind};
use super::mixing::rng;
use super::report::{AdaptError, DomainEpoch, DomainSettings, MeterFigures};
use super::{Domain, adam, domain_loss};
use crate::engine::NoiseMeter;
use crate::model::DomainClassifier;
use crate::weights::DomainWeights;

/// Trains from `start`.
pub(super) fn train(
    start: &DomainWeights,
    train: &Examples,
    valid: &Examples,
    settings: &DomainSettings,
    seed: u64,
    control: &Control,
    told: &mut dyn FnMut(DomainEpoch),
) -> Result<DomainWeights, AdaptError> {
    let device = Device::flex().autodiff();
    let mut classifier = DomainClassifier::from_weights(start, &device);
    let mut optimiser = adam(settings.weight_decay);
    let (mut source, mut target) = (train.of(Domain::Source), train.of(Domain::Target));
    let half = (settings.batch / 2).min(source.len()).min(target.len()).max(1);
    let steps = source.len().max(target.len()).div_ceil(half);
    let domains = [vec![Domain::Source; half], vec![Domain::Target; half]].concat();
    let (mut best, mut best_loss, mut since) = (start.clone(), valid_loss(start, valid), 0);
    for epoch in 1..=settings.max_epochs {
        control.look()?;
        let rng = &mut rng(seed, "order of embeddings", epoch as u64);
        source.shuffle(rng);
        target.shuffle(rng);
        let mut sum = 0.0;
        for step in 0..steps {
            let chosen = |of: &[usize]| (0..half).map(|k| of[(step * half + k) % of.len()]).collect::<Vec<_>>();
            let rows = [chosen(&source), chosen(&target)].concat();
            let values: Vec<f32> = rows.iter().flat_map(|&row| train.embedding(row)).copied().collect();
            let len = values.len() / rows.len();
            let embeddings = Tensor::<2>::from_data(TensorData::new(values, [rows.len(), len]), &device);
            let loss = domain_loss(classifier.forward(embeddings), &domains);
            let gradients = GradientsParams::from_grads(loss.backward(), &classifier);
            sum += loss.into_scalar::<f64>();
            classifier = optimiser.step(settings.learning_rate, classifier, gradients);
        }
        let weights = classifier.to_weights();
        let loss = valid_loss(&weights, valid);
        told(DomainEpoch { epoch, train_loss: sum / steps as f64, valid_loss: loss });
        if loss < best_loss {
            (best, best_loss, since) = (weights, loss, 0);
        } else {
            since += 1;
            if since >= settings.patience {
                break;
            }
        }
    }
    Ok(best)
}

/// Cross entropy on `valid`, both domains counting alike.
fn valid_loss(classifier: &DomainWeights, valid: &Examples) -> f64 {
    let meter = NoiseMeter::new(classifier);
    let of = |domain: Domain| {
        let windows = valid.of(domain);
        let sign = if domain == Domain::Target { 1.0 } else { -1.0 };
        let loss = |&index: &usize| softplus(-sign * f64::from(meter.logit(valid.embedding(index))));
        windows.iter().map(loss).sum::<f64>() / windows.len().max(1) as f64
    };
    f64::midpoint(of(Domain::Source), of(Domain::Target))
}

/// `ln(1 + exp(x))` without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// Scale and offset with which the logit's sigmoid is the share of noisy windows (Platt 1999: Newton's method on the
/// cross entropy, with targets that are never quite 0 or 1, so that a perfect separation gives no infinite scale). Both
/// domains count alike.
pub(super) fn calibrate(classifier: &DomainWeights, valid: &Examples) -> (f32, f32) {
    let meter = NoiseMeter::new(classifier);
    let counts = [Domain::Source, Domain::Target].map(|domain| valid.of(domain).len().max(1) as f64);
    // Neighbouring windows share most of their sound, so there is less evidence than windows.
    let evidence = counts.map(|count| (count / WINDOWS_PER_SOUND).max(1.0));
    let points: Vec<(f64, f64, f64)> = (0..valid.kinds.len())
        .map(|index| {
            let noisy = valid.kinds[index].domain() == Domain::Target;
            let of = usize::from(noisy);
            let target = if noisy { (evidence[1] + 1.0) / (evidence[1] + 2.0) } else { 1.0 / (evidence[0] + 2.0) };
            (f64::from(meter.logit(valid.embedding(index))), target, 0.5 / counts[of])
        })
        .collect();
    let (mut a, mut b) = (1.0_f64, 0.0_f64);
    for _ in 0..MAX_NEWTON_STEPS {
        // A little curvature of its own keeps the step finite where all logits are equal.
        let (mut ga, mut gb, mut haa, mut hab, mut hbb) = (0.0, 0.0, 1e-9, 0.0, 1e-9);
        for &(x, target, weight) in &points {
            let p = 1.0 / (1.0 + (-(a * x + b)).exp());
            let (slope, curve) = (weight * (p - target), weight * p * (1.0 - p));
            ga += slope * x;
            gb += slope;
            haa += curve * x * x;
            hab += curve * x;
            hbb += curve;
        }
        let determinant = haa * hbb - hab * hab;
        let (da, db) = ((hbb * ga - hab * gb) / determinant, (haa * gb - hab * ga) / determinant);
        // Half steps at most: far from the end the curvature says little.
        let shorten = 1.0 / (1.0_f64).max(da.abs().max(db.abs()));
        (a, b) = (a - shorten * da, b - shorten * db);
        if da.abs().max(db.abs()) < 1e-9 {
            break;
        }
    }
    if a.is_finite() && b.is_finite() && a >= 0.0 { (a as f32, b as f32) } else { (1.0, 0.0) }
}

/// Newton steps at most; ten are usual.
const MAX_NEWTON_STEPS: usize = 100;

/// Windows at the default hop over the length of one: how often each moment of sound is counted.
const WINDOWS_PER_SOUND: f64 = 9.0;

/// What `meter` is worth on `test`.
pub(super) fn judge(meter: &NoiseMeter, test: &Examples) -> MeterFigures {
    let said: Vec<f32> = (0..test.kinds.len()).map(|index| meter.noisiness(test.embedding(index))).collect();
    let right = |accept: &dyn Fn(Kind) -> bool| {
        let of: Vec<bool> = said
            .iter()
            .zip(&test.kinds)
            .filter(|&(_, &kind)| accept(kind))
            .map(|(&said, kind)| (said > 0.5) == (kind.domain() == Domain::Target))
            .collect();
        of.iter().filter(|&&right| right).count() as f64 / of.len().max(1) as f64
    };
    let (clean, noisy) = (right(&|kind| kind == Kind::Clean), right(&|kind| kind != Kind::Clean));
    let mixed = |low: i32, high: i32| right(&|kind| matches!(kind, Kind::Mixed(snr) if (low..=high).contains(&snr)));
    MeterFigures {
        accuracy: f64::midpoint(clean, noisy),
        clean,
        noisy,
        room: right(&|kind| kind == Kind::Room),
        mixed: [mixed(5, i32::MAX), mixed(-4, 4), mixed(i32::MIN, -5)],
        calibration_error: calibration_error(&said, test),
    }
}

/// Expected calibration error over ten bins, both domains counting alike.
fn calibration_error(said: &[f32], test: &Examples) -> f64 {
    let counts = [Domain::Source, Domain::Target].map(|domain| test.of(domain).len().max(1) as f64);
    let mut bins = [(0.0_f64, 0.0_f64, 0.0_f64); 10];
    for (&said, kind) in said.iter().zip(&test.kinds) {
        let noisy = kind.domain() == Domain::Target;
        let weight = 0.5 / counts[usize::from(noisy)];
        let bin = &mut bins[((said * 10.0) as usize).min(9)];
        bin.0 += weight;
        bin.1 += weight * f64::from(said);
        bin.2 += weight * f64::from(u8::from(noisy));
    }
    bins.iter().map(|(_, said, is)| (said - is).abs()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Embeddings of length 4 whose first value is higher in noise; `apart` says by how much.
    fn examples(apart: f32, num: usize, seed: u64) -> Examples {
        use rand::RngExt;
        let rng = &mut rng(seed, "test examples", 0);
        let mut examples = Examples::default();
        for index in 0..num {
            let kind = [Kind::Clean, Kind::Room, Kind::Clean, Kind::Mixed((index % 21) as i32 - 10)][index % 4];
            let shift = if kind == Kind::Clean { 0.0 } else { apart };
            let mut value = || rng.random_range(-1.0..1.0_f32) + rng.random_range(-1.0..1.0_f32);
            examples.embeddings.extend([value() + shift, value(), value(), 0.3]);
            examples.kinds.push(kind);
        }
        examples
    }

    fn trained(apart: f32) -> (DomainWeights, MeterFigures) {
        let start = DomainWeights::untrained(4, 8, 1);
        let (train_part, valid) = (examples(apart, 400, 1), examples(apart, 200, 2));
        let settings = DomainSettings { learning_rate: 1e-2, max_epochs: 60, ..DomainSettings::default() };
        let control = Control::new();
        let mut epochs = Vec::new();
        let mut told = |epoch| epochs.push(epoch);
        let weights = train(&start, &train_part, &valid, &settings, 1, &control, &mut told).expect("not stopped");
        assert!(!epochs.is_empty() && epochs.len() <= settings.max_epochs);
        let (scale, offset) = calibrate(&weights, &valid);
        let meter = NoiseMeter::new(&weights).scaled(scale, offset);
        (weights.clone(), judge(&meter, &examples(apart, 2_000, 3)))
    }

    #[test]
    fn it_learns_what_tells_the_domains_apart_and_its_scale_is_right() {
        let (_, figures) = trained(2.0);
        // The best that a sum of two uniforms allows: the triangles overlap by a quarter, an eighth on each side.
        assert!((0.84..0.91).contains(&figures.accuracy), "{figures:?}");
        assert!(figures.calibration_error < 0.1, "{figures:?}");
        assert!((figures.room - figures.mixed[1]).abs() < 0.15, "{figures:?}");
    }

    #[test]
    fn what_is_the_same_stays_at_chance_and_says_so() {
        let (_, figures) = trained(0.0);
        assert!((0.43..0.57).contains(&figures.accuracy), "{figures:?}");
        assert!(figures.calibration_error < 0.1, "{figures:?}");
    }

    #[test]
    fn training_is_the_same_every_time_and_can_be_stopped() {
        assert_eq!(trained(2.0).0, trained(2.0).0);
        let control = Control::new();
        control.cancel();
        let (part, start) = (examples(1.0, 40, 1), DomainWeights::untrained(4, 8, 1));
        let settings = DomainSettings::default();
        assert!(train(&start, &part, &part, &settings, 1, &control, &mut |_| {}).is_err());
    }

    #[test]
    fn a_perfect_separation_gives_a_finite_scale() {
        let mut examples = Examples::default();
        for index in 0..40 {
            examples.embeddings.push(if index % 2 == 0 { -5.0 } else { 5.0 });
            examples.kinds.push(if index % 2 == 0 { Kind::Clean } else { Kind::Room });
        }
        let mut weights = DomainWeights::untrained(1, 1, 1);
        (weights.hidden.weight, weights.hidden.bias) = (vec![1.0], vec![10.0]);
        (weights.output.weight, weights.output.bias) = (vec![1.0], vec![-10.0]);
        let (scale, offset) = calibrate(&weights, &examples);
        assert!(scale > 0.1 && scale < 10.0 && offset.abs() < 1.0, "{scale} {offset}");
        let meter = NoiseMeter::new(&weights).scaled(scale, offset);
        assert!(meter.noisiness(&[5.0]) > 0.7 && meter.noisiness(&[-5.0]) < 0.3);
    }
}
