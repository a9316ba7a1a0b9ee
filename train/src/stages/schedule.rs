//! Learning rates over a run.

use std::f64::consts::PI;

/// Learning rate of `step` (from 0) of `total_steps`: rises linearly to `peak` over `warmup_steps`, then falls to zero
/// along half a cosine (Loshchilov and Hutter, 2017).
pub fn learning_rate(peak: f64, step: u64, warmup_steps: u64, total_steps: u64) -> f64 {
    if step < warmup_steps {
        return peak * (step + 1) as f64 / (warmup_steps + 1) as f64;
    }
    let progress = (step - warmup_steps) as f64 / total_steps.saturating_sub(warmup_steps).max(1) as f64;
    peak * 0.5 * (1.0 + (PI * progress.min(1.0)).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_to_the_peak_and_falls_to_zero() {
        let at = |step| learning_rate(2.0, step, 4, 104);
        assert!((at(0) - 0.4).abs() < 1e-12);
        assert!((at(3) - 1.6).abs() < 1e-12);
        assert!((at(4) - 2.0).abs() < 1e-12);
        assert!((at(54) - 1.0).abs() < 1e-12);
        assert!(at(103) > 0.0 && at(103) < 1e-3);
        assert!(at(104) < 1e-12 && at(1_000) < 1e-12);
        assert!((learning_rate(1.0, 0, 0, 0) - 1.0).abs() < 1e-12);
    }
}
