//! One answer for a whole clip.

/// The logistic function: a logit as a probability.
pub fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

/// The mean of the windows' probabilities, CLMR's clip score.
///
/// Sums are kept in `f64`: a three-hour file has 36,000 windows, and an `f32` sum would lose digits that are shown.
#[derive(Clone, Debug)]
pub struct ClipProbabilities {
    sums: Vec<f64>,
    num_windows: u64,
}

impl ClipProbabilities {
    /// No windows yet.
    pub fn new(num_tags: usize) -> Self {
        Self { sums: vec![0.0; num_tags], num_windows: 0 }
    }

    /// Adds one window's probabilities, `[num_tags]`. Does not allocate.
    ///
    /// # Panics
    /// If the length is not `num_tags`.
    pub fn push(&mut self, probabilities: &[f32]) {
        assert_eq!(probabilities.len(), self.sums.len(), "one probability per tag");
        for (sum, &probability) in self.sums.iter_mut().zip(probabilities) {
            *sum += f64::from(probability);
        }
        self.num_windows += 1;
    }

    /// Number of windows added.
    pub fn num_windows(&self) -> u64 {
        self.num_windows
    }

    /// The mean, `[num_tags]`; `None` before the first window.
    pub fn mean(&self) -> Option<Vec<f32>> {
        (self.num_windows > 0).then(|| self.sums.iter().map(|sum| (sum / self.num_windows as f64) as f32).collect())
    }
}

/// A tag and how sure the model is of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TagConfidence {
    /// Position among the logits.
    pub index: usize,
    /// Probability, 0 to 1.
    pub confidence: f32,
}

/// The `n` most probable tags whose probability reaches `minimum(index)`, best first.
///
/// Equal probabilities keep the order of the vocabulary, so the answer never depends on a sorting algorithm. A
/// probability that is not a number reaches no minimum.
pub fn top(probabilities: &[f32], n: usize, minimum: impl Fn(usize) -> f32) -> Vec<TagConfidence> {
    let mut tags: Vec<TagConfidence> = probabilities
        .iter()
        .enumerate()
        .filter(|&(index, &confidence)| confidence >= minimum(index))
        .map(|(index, &confidence)| TagConfidence { index, confidence })
        .collect();
    tags.sort_by(|a, b| b.confidence.total_cmp(&a.confidence).then(a.index.cmp(&b.index)));
    tags.truncate(n);
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indices(tags: &[TagConfidence]) -> Vec<usize> {
        tags.iter().map(|tag| tag.index).collect()
    }

    #[test]
    fn sigmoid_is_finite_and_symmetric() {
        assert!((sigmoid(0.0) - 0.5).abs() < f32::EPSILON);
        assert!((sigmoid(2.0) - 0.880_797).abs() < 1e-6);
        assert!((sigmoid(3.0) + sigmoid(-3.0) - 1.0).abs() < 1e-6);
        assert!(sigmoid(-1e9).abs() < f32::EPSILON);
        assert!((sigmoid(1e9) - 1.0).abs() < f32::EPSILON);
    }

    #[test]
    fn mean_of_probabilities_not_of_logits() {
        let mut clip = ClipProbabilities::new(2);
        assert_eq!(clip.mean(), None);
        clip.push(&[0.0, 0.25]);
        clip.push(&[1.0, 0.75]);
        assert_eq!(clip.mean(), Some(vec![0.5, 0.5]));
        assert_eq!(clip.num_windows(), 2);
    }

    #[test]
    fn long_sums_keep_their_digits() {
        let mut clip = ClipProbabilities::new(1);
        for _ in 0..1_000_000 {
            clip.push(&[0.1]);
        }
        // In f32 this mean would be 0.10096.
        assert!((clip.mean().expect("windows")[0] - 0.1).abs() < 1e-7);
    }

    #[test]
    fn top_is_deterministic_on_ties() {
        let tags = top(&[0.5, 0.9, 0.5, 0.9, 0.1], 3, |_| 0.0);
        assert_eq!(indices(&tags), [1, 3, 0]);
    }

    #[test]
    fn top_respects_minimum_per_tag_and_drops_nan() {
        let minimum = [0.6, 0.6, 0.0, 0.0];
        let tags = top(&[0.5, 0.7, f32::NAN, 0.2], 9, |index| minimum[index]);
        assert_eq!(indices(&tags), [1, 3]);
        assert!(top(&[0.5], 0, |_| 0.0).is_empty());
    }
}
