//! t-SNE (van der Maaten and Hinton, 2008), exact: a few hundred points in the plane, near where they were near.
//!
//! ```text
//! p_ij ~ exp(-|x_i - x_j|^2 / 2 sigma_i^2), sigma_i from the perplexity, symmetrised       neighbours in the embedding
//! q_ij ~ 1 / (1 + |y_i - y_j|^2)                                                           neighbours in the plane
//! minimise KL(P || Q) over y by gradient descent with momentum
//! ```

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

/// Effective number of neighbours; less where there are few points.
const PERPLEXITY: f64 = 30.0;
const ITERATIONS: usize = 750;
/// Iterations during which attraction is exaggerated, so that clusters can pass each other.
const EARLY_ITERATIONS: usize = 250;
const EXAGGERATION: f64 = 12.0;

type Point = [f64; 2];

/// Lays `[num_points, dimensions]` out in the plane. `rng` draws the start.
///
/// # Panics
/// If the length is not a multiple of `dimensions`, which is an error of the caller.
pub fn tsne(points: &[f32], dimensions: usize, rng: &mut ChaCha8Rng) -> Vec<Point> {
    assert!(dimensions > 0 && points.len().is_multiple_of(dimensions), "every point has {dimensions} coordinates");
    let n = points.len() / dimensions;
    if n < 3 {
        return (0..n).map(|index| [index as f64, 0.0]).collect();
    }
    let p = joint_probabilities(points, dimensions, PERPLEXITY.min((n - 1) as f64 / 3.0));
    let mut uniform = || f64::from(rng.next_u32()) / f64::from(u32::MAX) - 0.5;
    let mut y: Vec<Point> = (0..n).map(|_| [1e-4 * uniform(), 1e-4 * uniform()]).collect();
    let mut velocity = vec![[0.0; 2]; n];
    let mut gains = vec![[1.0_f64; 2]; n];
    // Belkina et al. (2019).
    let rate = (n as f64 / EXAGGERATION / 4.0).max(50.0);
    for iteration in 0..ITERATIONS {
        let early = iteration < EARLY_ITERATIONS;
        let gradient = gradient(&p, &y, if early { EXAGGERATION } else { 1.0 });
        let momentum = if early { 0.5 } else { 0.8 };
        for i in 0..n {
            for axis in 0..2 {
                let (slope, speed) = (gradient[i][axis], &mut velocity[i][axis]);
                // A coordinate that goes on downhill is given speed, one that turns back loses it.
                let gain = &mut gains[i][axis];
                *gain = if (slope > 0.0) == (*speed > 0.0) { (*gain * 0.8).max(0.01) } else { *gain + 0.2 };
                *speed = momentum * *speed - rate * *gain * slope;
                y[i][axis] += *speed;
            }
        }
        let centre = [0, 1].map(|axis| y.iter().map(|point| point[axis]).sum::<f64>() / n as f64);
        y.iter_mut().for_each(|point| *point = [point[0] - centre[0], point[1] - centre[1]]);
    }
    y
}

/// P, `[n, n]`: symmetric, sums to one, zero on the diagonal.
fn joint_probabilities(points: &[f32], dimensions: usize, perplexity: f64) -> Vec<f64> {
    let n = points.len() / dimensions;
    let point = |i: usize| &points[i * dimensions..(i + 1) * dimensions];
    let mut p = vec![0.0; n * n];
    for i in 0..n {
        let squared: Vec<f64> = (0..n)
            .map(|j| point(i).iter().zip(point(j)).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum())
            .collect();
        for (j, probability) in neighbour_probabilities(&squared, i, perplexity).into_iter().enumerate() {
            p[i * n + j] += probability / (2 * n) as f64;
            p[j * n + i] += probability / (2 * n) as f64;
        }
    }
    p
}

/// p(j | i) over squared distances from point `i`, of the width that gives the perplexity.
fn neighbour_probabilities(squared: &[f64], i: usize, perplexity: f64) -> Vec<f64> {
    let others = || squared.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, d)| *d);
    let nearest = others().fold(f64::INFINITY, f64::min);
    let mean = others().sum::<f64>() / others().count() as f64 - nearest;
    // The nearest neighbour's distance is taken off, so that its weight is one and no sum vanishes.
    let weights = |precision: f64| -> Vec<f64> {
        let weight = |(j, d): (usize, &f64)| if j == i { 0.0 } else { (-(d - nearest) * precision).exp() };
        squared.iter().enumerate().map(weight).collect()
    };
    let (mut low, mut high) = (0.0, f64::INFINITY);
    let mut precision = 1.0 / mean.max(f64::MIN_POSITIVE);
    let mut p = Vec::new();
    for _ in 0..100 {
        p = weights(precision);
        let total: f64 = p.iter().sum();
        p.iter_mut().for_each(|weight| *weight /= total);
        let entropy: f64 = p.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
        let excess = entropy - perplexity.ln();
        if excess.abs() < 1e-6 {
            break;
        }
        if excess > 0.0 {
            low = precision;
            precision = if high.is_finite() { f64::midpoint(low, high) } else { (precision * 2.0).min(f64::MAX) };
        } else {
            high = precision;
            precision = f64::midpoint(low, high);
        }
    }
    p
}

/// Gradient of KL(exaggeration P || Q): `4 sum_j (e p_ij - q_ij) w_ij (y_i - y_j)`, `w_ij = 1 / (1 + |y_i - y_j|^2)`.
fn gradient(p: &[f64], y: &[Point], exaggeration: f64) -> Vec<Point> {
    let (w, total) = affinities(y);
    let row = |i: usize| {
        let mut sum = [0.0; 2];
        for (j, other) in y.iter().enumerate() {
            let w = w[i * y.len() + j];
            let force = 4.0 * (exaggeration * p[i * y.len() + j] - w / total) * w;
            sum = [sum[0] + force * (y[i][0] - other[0]), sum[1] + force * (y[i][1] - other[1])];
        }
        sum
    };
    (0..y.len()).map(row).collect()
}

/// w, `[n, n]`, zero on the diagonal, and its sum.
fn affinities(y: &[Point]) -> (Vec<f64>, f64) {
    let mut w = vec![0.0; y.len() * y.len()];
    for (i, a) in y.iter().enumerate() {
        for (j, b) in y.iter().enumerate().filter(|(j, _)| *j != i) {
            w[i * y.len() + j] = 1.0 / (1.0 + (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2));
        }
    }
    let total = w.iter().sum();
    (w, total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;

    /// Three clouds of `per_cloud` points around corners of a cube in eight dimensions.
    fn clouds(per_cloud: usize) -> Vec<f32> {
        let mut rng = rng::stream(1, "clouds", 0, 0);
        let mut noise = || rng.next_u32() as f32 / u32::MAX as f32 - 0.5;
        (0..3 * per_cloud)
            .flat_map(|index| (0..8).map(move |axis| if axis == index % 3 { 10.0 } else { 0.0 }))
            .map(|corner| corner + noise())
            .collect()
    }

    #[test]
    fn clouds_stay_apart() {
        let y = tsne(&clouds(40), 8, &mut rng::stream(1, "t-SNE", 0, 0));
        for (i, a) in y.iter().enumerate() {
            let distance = |b: &Point| (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2);
            let nearest = (0..y.len()).filter(|&j| j != i).min_by(|&j, &k| distance(&y[j]).total_cmp(&distance(&y[k])));
            assert_eq!(nearest.map(|j| j % 3), Some(i % 3), "point {i}");
        }
        assert_eq!(y, tsne(&clouds(40), 8, &mut rng::stream(1, "t-SNE", 0, 0)));
    }

    #[test]
    fn neighbourhoods_have_the_perplexity_asked_for() {
        let squared: Vec<f64> = (0..50).map(|j| (f64::from(j) * 0.37).powi(2)).collect();
        let p = neighbour_probabilities(&squared, 0, 12.0);
        let entropy: f64 = p.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
        assert!((entropy.exp() - 12.0).abs() < 1e-3, "{}", entropy.exp());
        assert_eq!(p[0], 0.0);
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_divergence() {
        let p = joint_probabilities(&clouds(4), 8, 3.0);
        assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let mut y: Vec<Point> = (0..12_u8).map(|i| [f64::from(i).sin(), f64::from(i * i % 7)]).collect();
        let divergence = |y: &[Point]| -> f64 {
            let (w, total) = affinities(y);
            p.iter().zip(&w).filter(|(p, _)| **p > 0.0).map(|(p, w)| p * (p * total / w).ln()).sum()
        };
        let exact = gradient(&p, &y, 1.0);
        for i in 0..y.len() {
            for axis in 0..2 {
                let (here, step) = (y[i][axis], 1e-5);
                y[i][axis] = here + step;
                let above = divergence(&y);
                y[i][axis] = here - step;
                let slope = (above - divergence(&y)) / (2.0 * step);
                y[i][axis] = here;
                assert!((slope - exact[i][axis]).abs() < 1e-7, "point {i}: {slope}, {}", exact[i][axis]);
            }
        }
    }

    #[test]
    fn equal_points_and_few_points_stay_finite() {
        for n in [0, 1, 2, 3, 9] {
            let y = tsne(&vec![1.0; n * 4], 4, &mut rng::stream(1, "t-SNE", 0, 0));
            assert!(y.len() == n && y.iter().flatten().all(|coordinate| coordinate.is_finite()), "{n}: {y:?}");
        }
    }
}
