//! Means over a handful of seeds, and how far they can be trusted.

/// Mean of repeated measurements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Mean.
    pub mean: f64,
    /// Half the width of the 95 % interval of Student's t; `None` for one value, which says nothing about its spread.
    pub half_width: Option<f64>,
    /// Number of values.
    pub count: usize,
}

impl Estimate {
    /// Mean and interval of independent `values`; `None` without any.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count as f64;
        let half_width = (count > 1).then(|| {
            let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1) as f64;
            student_t_975(count - 1) * (variance / count as f64).sqrt()
        });
        (count > 0).then_some(Self { mean, half_width, count })
    }
}

/// The 97.5 % quantile of Student's t with `freedom` degrees of freedom: 95 % lie between it and its negative.
///
/// # Panics
/// Without a degree of freedom, which is an error of the caller.
fn student_t_975(freedom: usize) -> f64 {
    assert!(freedom > 0, "an interval needs two values");
    let (mut low, mut high) = (0.0, 100.0);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if central_probability(middle, freedom) < 0.95 { low = middle } else { high = middle }
    }
    low
}

/// P(|T| < t), Abramowitz and Stegun 26.7.3 and 26.7.4, with `theta = atan(t / sqrt(freedom))`:
///
/// ```text
/// odd   2/pi (theta + sin(theta) (cos + 2/3 cos^3 + 2 4/(3 5) cos^5 + ... up to cos^(freedom - 2)))
/// even  sin(theta) (1 + 1/2 cos^2 + 1 3/(2 4) cos^4 + ... up to cos^(freedom - 2))
/// ```
fn central_probability(t: f64, freedom: usize) -> f64 {
    let theta = (t / (freedom as f64).sqrt()).atan();
    let (sin, cos) = theta.sin_cos();
    let odd = freedom % 2 == 1;
    let (mut term, mut sum) = (if odd { cos } else { 1.0 }, 0.0);
    for power in (usize::from(odd)..=freedom.saturating_sub(2)).step_by(2) {
        sum += term;
        term *= cos * cos * (power + 1) as f64 / (power + 2) as f64;
    }
    if odd { std::f64::consts::FRAC_2_PI * (theta + sin * sum) } else { sin * sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (freedom, quantile) in [
            (1, 12.706_205),
            (2, 4.302_653),
            (3, 3.182_446),
            (4, 2.776_445),
            (5, 2.570_582),
            (9, 2.262_157),
            (10, 2.228_139),
            (29, 2.045_230),
            (30, 2.042_272),
            (1_000, 1.962_339),
        ] {
            let found = student_t_975(freedom);
            assert!((found - quantile).abs() < 1e-6, "{freedom}: {found}, the tables have {quantile}");
        }
    }

    #[test]
    fn an_interval_by_hand() {
        // Mean 0.72, standard deviation 0.02, standard error 0.0115470, times 4.302653.
        let estimate = Estimate::of(&[0.70, 0.72, 0.74]).expect("values");
        assert!((estimate.mean - 0.72).abs() < 1e-12 && estimate.count == 3);
        assert!((estimate.half_width.expect("an interval") - 0.049_682_8).abs() < 1e-6);
        assert_eq!(Estimate::of(&[0.5]), Some(Estimate { mean: 0.5, half_width: None, count: 1 }));
        assert_eq!(Estimate::of(&[]), None);
        assert_eq!(Estimate::of(&[0.5, 0.5]).expect("values").half_width, Some(0.0));
    }
}
