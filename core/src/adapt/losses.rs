//! The losses of the three stages.

use burn::{
    prelude::*,
    tensor::activation::{log_sigmoid, log_softmax},
};

use super::Domain;

/// Temperature of NT-Xent (method of the thesis; SimCLR's and CLMR's value).
pub const NT_XENT_TEMPERATURE: f64 = 0.5;

/// Shortest vector that is brought to length 1; shorter ones stay shorter (PyTorch's `CosineSimilarity`).
const MIN_NORM: f64 = 1e-8;

/// NT-Xent (eq. 3.1; Chen et al. 2020): each of the `2 n` projections must find the other crop of its track among all
/// the others. The mean over all of them.
///
/// ```text
/// loss(i) = -log( exp(sim(i, j) / t) / sum over k != i of exp(sim(i, k) / t) )      j: the other crop of i's track
/// ```
///
/// # Shapes
///
/// - `first`, `second`: `[n, projection_len]`, row by row two crops of one track
/// - output: `[1]`
///
/// # Panics
///
/// If the shapes differ.
pub fn nt_xent(first: Tensor<2>, second: Tensor<2>, temperature: f64) -> Tensor<1> {
    assert_eq!(first.dims(), second.dims(), "NT-Xent compares pairs: as many first crops as second ones");
    let [n, _] = first.dims();
    let device = first.device();
    let z = unit_rows(Tensor::cat(vec![first, second], 0)); // [2n, projection_len]
    let similarity = z.clone().matmul(z.transpose()) / temperature; // [2n, 2n]
    let itself = Tensor::<2, Int>::eye(2 * n, &device).equal_elem(1);
    let log_probabilities = log_softmax(similarity.mask_fill(itself, f32::NEG_INFINITY), 1);
    let other_crop = Tensor::<1, Int>::arange(0..2 * n as i64, &device).roll_dim(n as i64, 0).unsqueeze_dim::<2>(1);
    -log_probabilities.gather(1, other_crop).mean()
}

/// Every row divided by its length.
fn unit_rows(rows: Tensor<2>) -> Tensor<2> {
    // The bound lies under the root, whose slope at zero is infinite: a vector of zeros gets the gradient zero.
    let squares = rows.clone().powi_scalar(2).sum_dim(1);
    rows / squares.clamp_min(MIN_NORM * MIN_NORM).sqrt()
}

/// Binary cross entropy (eq. 3.2) between `logits` and `targets` in 0 to 1, averaged over both axes, without overflow:
/// `(1 - t) x - log sigmoid(x)`.
///
/// # Shapes
///
/// - `logits`, `targets`: `[batch, num_tags]`
/// - output: `[1]`
pub fn binary_cross_entropy_with_logits(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    ((targets.neg() + 1.0) * logits.clone() - log_sigmoid(logits)).mean()
}

/// The domain classifier's loss: [`binary_cross_entropy_with_logits`] against [`Domain::label`]. `ln 2` (0.693) is
/// chance.
///
/// # Shapes
///
/// - `logits`: `[domains.len(), 1]`
/// - output: `[1]`
pub fn domain_loss(logits: Tensor<2>, domains: &[Domain]) -> Tensor<1> {
    let labels: Vec<f32> = domains.iter().map(|domain| domain.label()).collect();
    let labels = Tensor::from_data(TensorData::new(labels, [domains.len(), 1]), &logits.device());
    binary_cross_entropy_with_logits(logits, labels)
}

/// Share of windows whose domain the sign of the logit tells. One half is chance where the domains are equally large.
///
/// # Shapes
///
/// - `logits`: `[domains.len(), 1]`
pub fn domain_accuracy(logits: Tensor<2>, domains: &[Domain]) -> f64 {
    let logits = logits.detach().into_data();
    let right =
        logits.iter::<f32>().zip(domains).filter(|&(logit, &domain)| (logit > 0.0) == (domain == Domain::Target));
    right.count() as f64 / domains.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Device {
        Device::flex().autodiff()
    }

    /// The tensors of `goldens/losses.py`: a formula both sides can compute exactly.
    fn wave<const R: usize, const C: usize>(seed: u32) -> Tensor<2> {
        let values: Vec<f32> = (0..(R * C) as u32).map(|i| ((i * 37 + seed * 11) % 64) as f32 / 16.0 - 2.0).collect();
        Tensor::from_data(TensorData::new(values, [R, C]), &device()).require_grad()
    }

    fn targets<const R: usize, const C: usize>() -> Tensor<2> {
        let values: Vec<f32> = (0..(R * C) as u32).map(|i| ((i * 5) % 9) as f32 / 8.0).collect();
        Tensor::from_data(TensorData::new(values, [R, C]), &device())
    }

    fn assert_close(found: Tensor<2>, expected: &[f64]) {
        let found: Vec<f64> = found.into_data().iter::<f64>().collect();
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    // Written by goldens/losses.py.
    include!("goldens/losses.rs");

    #[test]
    fn nt_xent_equals_pytorch() {
        let (first, second) = (wave::<3, 4>(1), wave::<3, 4>(2));
        let loss = nt_xent(first.clone(), second.clone(), NT_XENT_TEMPERATURE);
        let gradients = loss.backward();
        assert!((loss.into_scalar::<f64>() - NT_XENT_LOSS).abs() < 1e-6);
        assert_close(first.grad(&gradients).expect("tracked"), &NT_XENT_GRADIENT_FIRST);
        assert_close(second.grad(&gradients).expect("tracked"), &NT_XENT_GRADIENT_SECOND);
    }

    #[test]
    fn binary_cross_entropy_equals_pytorch() {
        let logits = wave::<3, 4>(3);
        let loss = binary_cross_entropy_with_logits(logits.clone(), targets::<3, 4>());
        let gradients = loss.backward();
        assert!((loss.into_scalar::<f64>() - BCE_LOSS).abs() < 1e-6);
        assert_close(logits.grad(&gradients).expect("tracked"), &BCE_GRADIENT);
    }

    #[test]
    fn domain_loss_equals_pytorch_and_accuracy_counts_signs() {
        let domains = [Domain::Source, Domain::Target, Domain::Target, Domain::Source];
        let logits = wave::<4, 1>(4);
        let loss = domain_loss(logits.clone(), &domains);
        let gradients = loss.backward();
        assert!((loss.into_scalar::<f64>() - DOMAIN_LOSS).abs() < 1e-6);
        assert_close(logits.grad(&gradients).expect("tracked"), &DOMAIN_GRADIENT);
        let logits = Tensor::from_floats([[-1.0], [2.0], [-3.0], [0.0]], &device());
        assert!((domain_accuracy(logits, &domains) - 0.75).abs() < 1e-12);
    }

    #[test]
    fn a_projection_of_zeros_gives_no_nan() {
        let (first, second) = (Tensor::<2>::zeros([2, 3], &device()).require_grad(), wave::<2, 3>(1));
        let loss = nt_xent(first.clone(), second.clone(), NT_XENT_TEMPERATURE);
        let gradients = loss.backward();
        assert!(loss.into_scalar::<f32>().is_finite());
        for z in [first, second] {
            let gradient = z.grad(&gradients).expect("tracked").into_data();
            assert!(gradient.iter::<f32>().all(f32::is_finite));
        }
    }

    #[test]
    fn identical_projections_are_at_chance_and_separate_pairs_below() {
        let same = || Tensor::<2>::ones([4, 3], &device());
        // Every other one of eight is equally similar: log 7.
        let loss: f32 = nt_xent(same(), same(), NT_XENT_TEMPERATURE).into_scalar();
        assert!((loss - 7.0_f32.ln()).abs() < 1e-6);
        let pairs = || Tensor::<2>::eye(4, &device());
        assert!(nt_xent(pairs(), pairs(), NT_XENT_TEMPERATURE).into_scalar::<f32>() < 1.0);
    }

    fn cross_entropy(logit: f32, target: f32) -> (f32, f32) {
        let logits = Tensor::<2>::from_data([[logit]], &device()).require_grad();
        let loss = binary_cross_entropy_with_logits(logits.clone(), Tensor::from_data([[target]], &device()));
        let gradients = loss.backward();
        (loss.into_scalar(), logits.grad(&gradients).expect("tracked").into_scalar())
    }

    #[test]
    fn cross_entropy_equals_its_definition_with_soft_targets() {
        for (logit, target) in [(0.3_f32, 0.2_f32), (-2.0, 0.9), (4.0, 1.0), (1.0, 0.0)] {
            let p = 1.0 / (1.0 + f64::from(-logit).exp());
            let t = f64::from(target);
            let expected = -(t * p.ln() + (1.0 - t) * (1.0 - p).ln());
            let (value, gradient) = cross_entropy(logit, target);
            assert!((f64::from(value) - expected).abs() < 1e-6, "{logit} {target}");
            assert!((f64::from(gradient) - (p - t)).abs() < 1e-6, "{logit} {target}");
        }
    }

    #[test]
    fn cross_entropy_stays_finite_at_the_ends() {
        assert!(cross_entropy(200.0, 1.0).0.abs() < f32::MIN_POSITIVE);
        assert!((cross_entropy(200.0, 0.0).0 - 200.0).abs() < 1e-3);
        assert!((cross_entropy(-200.0, 1.0).0 - 200.0).abs() < 1e-3);
        let (value, gradient) = cross_entropy(-1e4, 0.5);
        assert!(value.is_finite() && gradient.is_finite());
    }
}
