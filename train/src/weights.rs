//! Weights: how they start, how they are averaged, how they are saved exactly.

use anyhow::{Result, bail};
use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData};
use earmark_core::model_file::{Model, ModelMetadata};
use earmark_core::weights::{Architecture, ConvWeights, LinearWeights, NUM_MODULES, Weights};
use rand::{Rng, RngExt};

/// PyTorch's default start: every convolution and fully connected layer uniform in `±1/sqrt(fan_in)`, weights and
/// biases alike; batch norm the identity.
pub fn initial(architecture: &Architecture, rng: &mut impl Rng) -> Weights {
    let mut uniform = |len: usize, fan_in: usize| -> Vec<f32> {
        let bound = 1.0 / (fan_in as f32).sqrt();
        (0..len).map(|_| rng.random_range(-bound..=bound)).collect()
    };
    let convs = (0..NUM_MODULES)
        .map(|index| {
            let (inputs, outputs, kernel) = architecture.conv_shape(index);
            ConvWeights {
                weight: uniform(outputs * inputs * kernel, inputs * kernel),
                bias: uniform(outputs, inputs * kernel),
                gamma: vec![1.0; outputs],
                beta: vec![0.0; outputs],
                running_mean: vec![0.0; outputs],
                running_var: vec![1.0; outputs],
            }
        })
        .collect();
    let head = architecture
        .head_shapes()
        .into_iter()
        .map(|(inputs, outputs)| LinearWeights {
            weight: uniform(outputs * inputs, inputs),
            bias: uniform(outputs, inputs),
        })
        .collect();
    Weights { convs, head }
}

/// Gives a fully connected layer PyTorch's default start, as [`initial`] does.
pub fn start(layer: &mut Linear, rng: &mut impl Rng, device: &Device) {
    let [inputs, outputs] = layer.weight.dims();
    let bound = 1.0 / (inputs as f32).sqrt();
    let mut uniform = |len: usize| -> Vec<f32> { (0..len).map(|_| rng.random_range(-bound..=bound)).collect() };
    let weight = TensorData::new(uniform(inputs * outputs), [inputs, outputs]);
    layer.weight = Param::from_tensor(Tensor::from_data(weight, device));
    layer.bias = layer
        .bias
        .take()
        .map(|_| Param::from_tensor(Tensor::from_data(TensorData::new(uniform(outputs), [outputs]), device)));
}

/// A model around weights whose training is not over: what the engine needs, thresholds of one half, nothing about its
/// origin.
pub fn untrained_model(architecture: &Architecture, weights: Weights, tags: Vec<String>) -> Model {
    let metadata = ModelMetadata::new("training", architecture.clone(), tags);
    Model { metadata, weights, domain_classifier: None }
}

/// Number of values in a model's weights, batch norm's statistics included.
pub fn num_parameters(model: &Model) -> usize {
    model.weights.vectors().map(Vec::len).sum()
}

/// Whether every value is a finite number.
pub fn is_finite(weights: &Weights) -> bool {
    weights.vectors().flatten().all(|value| value.is_finite())
}

/// Moves `average` towards `new`: `average = decay * average + (1 - decay) * new`, batch norm's statistics included.
/// The decay starts low and rises to `decay` with the number of `updates` made before, so that the random start is
/// forgotten.
pub fn average(average: &mut Weights, new: &Weights, decay: f64, updates: u64) {
    let decay = decay.min((1.0 + updates as f64) / (10.0 + updates as f64)) as f32;
    for (average, new) in average.vectors_mut().zip(new.vectors()) {
        for (average, new) in average.iter_mut().zip(new) {
            *average += (1.0 - decay) * (new - *average);
        }
    }
}

/// Every value as little-endian `f32`, without loss.
pub fn to_bytes(weights: &Weights) -> Vec<u8> {
    weights.vectors().flatten().flat_map(|value| value.to_le_bytes()).collect()
}

/// What [`to_bytes`] wrote.
///
/// # Errors
/// If the number of bytes is not that of the architecture.
pub fn from_bytes(architecture: &Architecture, bytes: &[u8]) -> Result<Weights> {
    let mut weights = initial(architecture, &mut crate::rng::stream(0, "shape only", 0, 0));
    let expected = 4 * weights.vectors().map(Vec::len).sum::<usize>();
    if bytes.len() != expected {
        bail!("{} bytes of weights where the configuration asks for {expected}", bytes.len());
    }
    let mut values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    for vector in weights.vectors_mut() {
        vector.iter_mut().zip(&mut values).for_each(|(slot, value)| *slot = value);
    }
    Ok(weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;

    fn architecture() -> Architecture {
        Architecture::scaled(1.0 / 16.0, 3, Some(4), 5)
    }

    #[test]
    fn the_start_is_bounded_and_seeded() {
        let weights = initial(&architecture(), &mut rng::stream(1, "weights", 0, 0));
        assert_eq!(weights, initial(&architecture(), &mut rng::stream(1, "weights", 0, 0)));
        let bound = 1.0 / (8.0_f32 * 3.0).sqrt();
        let largest = weights.convs[1].weight.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        assert!(largest <= bound && largest > 0.9 * bound, "{largest} of {bound}");
        assert_eq!(weights.head.len(), 2);
        assert!(is_finite(&weights));
    }

    #[test]
    fn saved_weights_come_back_bit_for_bit() {
        let weights = initial(&architecture(), &mut rng::stream(2, "weights", 0, 0));
        let mut bytes = to_bytes(&weights);
        assert_eq!(from_bytes(&architecture(), &bytes).expect("fits"), weights);
        bytes.pop();
        assert!(from_bytes(&architecture(), &bytes).expect_err("too short").to_string().contains("bytes of weights"));
    }

    #[test]
    fn the_average_follows_fast_at_first_and_slowly_later() {
        let start = initial(&architecture(), &mut rng::stream(1, "weights", 0, 0));
        let target = initial(&architecture(), &mut rng::stream(2, "weights", 0, 0));
        let moved = |updates| {
            let mut at = start.clone();
            average(&mut at, &target, 0.999, updates);
            let (from, to, now) = (start.head[0].bias[0], target.head[0].bias[0], at.head[0].bias[0]);
            (now - from) / (to - from)
        };
        assert!((moved(0) - 0.9).abs() < 1e-4);
        assert!((moved(1_000_000) - 0.001).abs() < 1e-4);
    }
}
