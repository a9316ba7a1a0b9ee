//! The kernels against finite differences in `f64` and against Burn's own operations.

use burn::{
    module::Module as _,
    optim::{AdamConfig, GradientsParams},
    prelude::*,
    tensor::activation::log_sigmoid,
};
use proptest::prelude::*;

use super::{
    block::{self, Backward, Gradients, Input},
    passes::Norm,
    reference::{Module, slope},
    rows::BlockShape,
    stem::{SampleMoments, Stem, StemGradients},
};
use crate::{
    WINDOW_SAMPLES,
    model::Tagger,
    weights::{Architecture, Weights},
};

/// Numbers in `-1..1` from a seed (`SplitMix64`), the same on every machine.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// Numbers that `f32` holds exactly, so that both precisions start from the same.
    fn take(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| f64::from(self.next() as f32)).collect()
    }

    fn module(&mut self, shape: &BlockShape, training: bool) -> Module {
        let channels = shape.channels_out;
        let positive = |values: Vec<f64>| values.into_iter().map(|v| f64::from((v * 0.5 + 1.0) as f32)).collect();
        Module {
            weight: self.take(channels * shape.channels_in * shape.kernel),
            bias: self.take(channels),
            // Either sign: with a negative scale the smallest of three wins the pooling.
            gamma: self.take(channels),
            beta: self.take(channels),
            running: (!training).then(|| (self.take(channels), positive(self.take(channels)))),
        }
    }
}

fn to_f32(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

/// `[batch, len, channels]` to a buffer with zero rows.
fn padded(values: &[f64], batch: usize, len: usize, channels: usize) -> Vec<f32> {
    let mut rows = vec![0.0; BlockShape::padded_rows(batch, len) * channels];
    for (sample, from) in values.chunks_exact(len * channels).enumerate() {
        let start = (sample * (len + 1) + 1) * channels;
        rows[start..start + len * channels].copy_from_slice(&to_f32(from));
    }
    rows
}

/// A buffer with zero rows to `[batch, len, channels]`.
fn unpadded(rows: &[f32], batch: usize, len: usize, channels: usize) -> Vec<f64> {
    (0..batch)
        .flat_map(|sample| &rows[(sample * (len + 1) + 1) * channels..][..len * channels])
        .map(|&value| f64::from(value))
        .collect()
}

fn norm(module: &Module, batch: Option<&block::Statistics>) -> Norm {
    let (mean, variance) = match (&module.running, batch) {
        (None, Some(statistics)) => (statistics.mean.clone(), statistics.variance.clone()),
        (Some((mean, variance)), _) => {
            (mean.iter().zip(&module.bias).map(|(mean, bias)| mean - bias).collect(), variance.clone())
        }
        (None, None) => unreachable!("statistics come from somewhere"),
    };
    let inverse_std: Vec<f64> = variance.iter().map(|variance| 1.0 / (variance + 1e-5).sqrt()).collect();
    Norm {
        mean: to_f32(&mean),
        scale: inverse_std.iter().zip(&module.gamma).map(|(s, gamma)| (s * gamma) as f32).collect(),
        inverse_std: to_f32(&inverse_std),
        offset: to_f32(&module.beta),
    }
}

fn assert_close(what: &str, shape: &BlockShape, expected: f64, got: f64, scale: f64, tolerance: f64) {
    assert!(
        (expected - got).abs() <= tolerance * scale.max(1.0),
        "{what} of {shape:?}: expected {expected}, got {got}, where values reach {scale}"
    );
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

/// Compares up to twelve numbers of a gradient with slopes.
fn check_slopes(
    what: &str,
    shape: &BlockShape,
    at: &mut [f64],
    gradient: &[f64],
    noise: &mut Noise,
    mut loss: impl FnMut(&[f64]) -> f64,
) {
    assert_eq!(at.len(), gradient.len(), "{what} of {shape:?}");
    for _ in 0..12 {
        let index = (f64::midpoint(noise.next(), 1.0) * at.len() as f64) as usize % at.len();
        let expected = slope(at, index, &mut loss);
        assert_close(what, shape, expected, gradient[index], largest(gradient), 2e-4);
    }
}

fn to_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// The parameters and the input that a seed stands for.
fn block_case(shape: &BlockShape, training: bool, seed: u64) -> (Module, Vec<f64>, Noise) {
    let mut noise = Noise(seed);
    let module = noise.module(shape, training);
    let x = noise.take(shape.batch * shape.len * shape.channels_in);
    (module, x, noise)
}

fn check_block(shape: BlockShape, training: bool, seed: u64) {
    let (module, x, mut noise) = block_case(&shape, training, seed);
    let pull = noise.take(shape.batch * shape.len_out() * shape.channels_out);
    let padding = shape.kernel / 2;
    let forward = |module: &Module, x: &[f64]| module.forward(&shape, x, shape.len, 1, padding);
    let loss = |module: &Module, x: &[f64]| -> f64 { forward(module, x).iter().zip(&pull).map(|(a, b)| a * b).sum() };

    let rows = padded(&x, shape.batch, shape.len, shape.channels_in);
    let weight = to_f32(&module.weight);
    let operand = block::forward_operand(&shape, &weight);
    let (y, statistics) = block::convolve_and_measure(&shape, Input::Rows(&rows), &operand);
    let norm = norm(&module, Some(&statistics));
    let out = block::activate(&shape, &norm, &y);
    let expected = forward(&module, &x);
    let got = unpadded(&out, shape.batch, shape.len_out(), shape.channels_out);
    for (expected, got) in expected.iter().zip(&got) {
        assert_close("output", &shape, *expected, *got, 1.0, 1e-4);
    }
    assert_eq!(block::infer(&shape, Input::Rows(&rows), &operand, &norm), out, "inference of {shape:?}");

    // Zero rows of the incoming gradient may hold anything.
    let mut gradient = vec![f32::NAN; shape.output_size()];
    for (row, clean) in padded(&pull, shape.batch, shape.len_out(), shape.channels_out).into_iter().enumerate() {
        let slot = (row / shape.channels_out).wrapping_sub(1);
        if slot < shape.slots() && shape.position(slot).is_some() {
            gradient[row] = clean;
        }
    }
    let result = block::backward(&Backward {
        shape,
        x: Input::Rows(&rows),
        y: &y,
        norm: &norm,
        weight: &weight,
        training,
        needs_input: true,
        gradient: &gradient,
    });
    check_module(&shape, &module, &result, &mut noise, |module| loss(module, &x));
    let input = unpadded(&result.input.expect("asked for"), shape.batch, shape.len, shape.channels_in);
    check_slopes("input gradient", &shape, &mut x.clone(), &input, &mut noise, |x| loss(&module, x));
}

fn check_module(
    shape: &BlockShape,
    module: &Module,
    result: &Gradients,
    noise: &mut Noise,
    loss: impl Fn(&Module) -> f64,
) {
    let mut with = |what: &str, gradient: &[f32], field: fn(&mut Module) -> &mut Vec<f64>| {
        let mut at = field(&mut module.clone()).clone();
        check_slopes(what, shape, &mut at, &to_f64(gradient), noise, |values| {
            let mut module = module.clone();
            *field(&mut module) = values.to_vec();
            loss(&module)
        });
    };
    with("weight gradient", &result.weight, |module| &mut module.weight);
    with("bias gradient", &result.bias, |module| &mut module.bias);
    with("gamma gradient", &result.gamma, |module| &mut module.gamma);
    with("beta gradient", &result.beta, |module| &mut module.beta);
}

#[test]
fn gradients_are_slopes_on_shapes_chosen_for_their_edges() {
    let shape = |batch, len, channels_in, channels_out, kernel, pool| BlockShape {
        batch,
        measured: batch,
        len,
        channels_in,
        channels_out,
        kernel,
        pool,
    };
    let shapes = [
        shape(1, 3, 1, 1, 3, true),    // the smallest that pools
        shape(4, 1, 3, 5, 3, false),   // module 11 with kernel 3: only padding around
        shape(4, 1, 3, 5, 1, false),   // module 11 with kernel 1
        shape(2, 7, 3, 5, 3, true),    // a position is dropped
        shape(3, 11, 17, 33, 3, true), // two are; odd channels
        shape(1, 400, 3, 4, 3, true),  // several tiles and groups
        shape(2, 257, 3, 4, 3, false), // the same without pooling
        shape(300, 3, 2, 3, 3, true),  // many samples in a tile
        shape(1, 1023, 2, 1, 1, true), // kernel 1 with pooling
    ];
    for (seed, shape) in shapes.into_iter().enumerate() {
        for training in [true, false] {
            check_block(shape, training, seed as u64);
        }
        for measured in [1, shape.batch / 2, shape.batch - 1].into_iter().filter(|&measured| measured > 0) {
            check_block(BlockShape { measured, ..shape }, true, seed as u64);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn gradients_are_slopes_on_any_shape(
        batch in 1..5usize, unmeasured in 0..4usize, len in 3..60usize, channels_in in 1..20usize, channels_out in 1..20usize,
        wide in any::<bool>(), pool in any::<bool>(), training in any::<bool>(), seed in any::<u64>(),
    ) {
        let kernel = if wide { 3 } else { 1 };
        let measured = batch.saturating_sub(unmeasured).max(1);
        let shape = BlockShape { batch, measured, len, channels_in, channels_out, kernel, pool };
        let (module, x, _) = block_case(&shape, training, seed);
        prop_assume!(!module.is_near_kink(&shape, &x, 1e-5));
        check_block(shape, training, seed);
    }
}

/// Modules 1 and 2 together.
fn check_stem(shape: BlockShape, training: bool, seed: u64) {
    let mut noise = Noise(seed);
    let first_shape = BlockShape { channels_in: 1, channels_out: shape.channels_in, pool: false, ..shape };
    let (first, second) = (noise.module(&first_shape, training), noise.module(&shape, training));
    let samples_per_window = shape.len * 3;
    // An offset, as microphones have it.
    let windows: Vec<f64> =
        noise.take(shape.batch * samples_per_window).iter().map(|v| f64::from((v * 0.2 + 0.5) as f32)).collect();
    let pull = noise.take(shape.batch * shape.len_out() * shape.channels_out);
    let forward = |first: &Module, second: &Module| {
        let x = first.forward(&first_shape, &windows, samples_per_window, 3, 0);
        second.forward(&shape, &x, shape.len, 1, 1)
    };
    let loss =
        |first: &Module, second: &Module| -> f64 { forward(first, second).iter().zip(&pull).map(|(a, b)| a * b).sum() };

    let samples = to_f32(&windows);
    let (first_weight, weight) = (to_f32(&first.weight), to_f32(&second.weight));
    let measured = &samples[..shape.measured * samples_per_window];
    let moments = training.then(|| SampleMoments::measure(measured, samples_per_window));
    let statistics = moments.map(|moments| moments.statistics(&first_weight));
    let first_norm = norm(&first, statistics.as_ref());
    let stem = Stem::new(&samples, samples_per_window, &first_weight, &first_norm, moments.as_ref());
    let operand = block::forward_operand(&shape, &weight);
    let (y, statistics) = block::convolve_and_measure(&shape, Input::Stem(&stem), &operand);
    let second_norm = norm(&second, Some(&statistics));
    let out = block::activate(&shape, &second_norm, &y);
    let got = unpadded(&out, shape.batch, shape.len_out(), shape.channels_out);
    for (expected, got) in forward(&first, &second).iter().zip(&got) {
        assert_close("output", &shape, *expected, *got, 1.0, 1e-4);
    }
    assert_eq!(block::infer(&shape, Input::Stem(&stem), &operand, &second_norm), out, "inference of {shape:?}");

    let gradient = padded(&pull, shape.batch, shape.len_out(), shape.channels_out);
    let result = block::backward(&Backward {
        shape,
        x: Input::Stem(&stem),
        y: &y,
        norm: &second_norm,
        weight: &weight,
        training,
        needs_input: true,
        gradient: &gradient,
    });
    check_module(&shape, &second, &result, &mut noise, |second| loss(&first, second));
    let StemGradients { weight, bias, gamma, beta } =
        result.stem.expect("asked for").gradients(&first_weight, &first_norm, moments.as_ref());
    let first_result = Gradients { input: None, stem: None, weight, bias, gamma, beta };
    check_module(&first_shape, &first, &first_result, &mut noise, |first| loss(first, &second));
}

#[test]
fn the_stems_gradients_are_slopes() {
    let shapes = [(1_usize, 3, 1, 1), (2, 7, 3, 5), (1, 400, 4, 3), (3, 100, 17, 2), (200, 3, 2, 3)];
    for (seed, (batch, len, channels_in, channels_out)) in shapes.into_iter().enumerate() {
        for training in [true, false] {
            for measured in [batch, batch.div_ceil(2)] {
                let shape = BlockShape { batch, measured, len, channels_in, channels_out, kernel: 3, pool: true };
                check_stem(shape, training, seed as u64);
            }
        }
    }
}

fn random_windows(batch: usize, seed: u64, device: &Device) -> Tensor<2> {
    let values = to_f32(&Noise(seed).take(batch * WINDOW_SAMPLES));
    Tensor::from_data(TensorData::new(values, [batch, WINDOW_SAMPLES]), device)
}

/// Binary cross entropy on logits, mean over all.
fn loss(logits: Tensor<2>, targets: &Tensor<2>) -> Tensor<1> {
    let positive = log_sigmoid(logits.clone()) * targets.clone();
    let negative = log_sigmoid(logits.neg()) * (targets.clone().neg() + 1.0);
    (positive + negative).mean().neg()
}

fn logits(tagger: &Tagger, windows: Tensor<2>, plain: bool) -> Tensor<2> {
    let [batch, _] = windows.dims();
    logits_measuring(tagger, windows, batch, plain)
}

fn logits_measuring(tagger: &Tagger, windows: Tensor<2>, measured: usize, plain: bool) -> Tensor<2> {
    let cnn = &tagger.feature_extractor;
    let embedding =
        if plain { cnn.forward_plain_measuring(windows, measured) } else { super::sample_cnn(cnn, windows, measured) };
    tagger.label_predictor.forward(embedding)
}

fn random_targets(batch: usize, num_tags: usize, device: &Device) -> Tensor<2> {
    let values: Vec<f32> = Noise(99).take(batch * num_tags).iter().map(|&v| f32::from(v > 0.4)).collect();
    Tensor::from_data(TensorData::new(values, [batch, num_tags]), device)
}

/// Same parameters, fresh running statistics: taggers share those when cloned.
fn tagger(architecture: &Architecture, weights: &Weights, device: &Device) -> Tagger {
    Tagger::from_weights(architecture, weights, device)
}

/// Parameters with scales and offsets away from one and zero, in either sign.
fn random_weights(architecture: &Architecture, seed: u64) -> Weights {
    let device = Device::flex();
    device.seed(seed);
    let mut weights = Tagger::new(architecture, &device).to_weights();
    let mut noise = Noise(seed);
    for conv in &mut weights.convs {
        let channels = conv.gamma.len();
        conv.gamma = noise.take(channels).iter().map(|v| (v + v.signum()) as f32).collect();
        conv.beta = noise.take(channels).iter().map(|v| *v as f32 * 0.5).collect();
        conv.running_mean = noise.take(channels).iter().map(|v| *v as f32 * 0.1).collect();
        conv.running_var = noise.take(channels).iter().map(|v| (v * 0.1 + 0.3) as f32).collect();
    }
    weights
}

/// `|a - b| / |b|` over all numbers.
fn relative_distance(a: &[f32], b: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let difference = norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    difference / norm(&mut b.iter().map(|b| f64::from(*b))).max(1e-12)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("f32")
}

/// Gradients by the name of their parameter.
type NamedGradients = Vec<(String, Vec<f32>)>;

/// Logits, running statistics and the gradient of each convolution module's weight, gamma and beta and of the head.
fn forward_and_backward(
    tagger: &Tagger,
    windows: &Tensor<2>,
    measured: usize,
    plain: bool,
) -> (Vec<f32>, Weights, NamedGradients) {
    let logits = logits_measuring(tagger, windows.clone(), measured, plain);
    let targets = random_targets(windows.dims()[0], logits.dims()[1], &windows.device());
    let grads = loss(logits.clone(), &targets).backward();
    let mut all = Vec::new();
    for (index, module) in tagger.feature_extractor.modules.iter().enumerate() {
        let name = |what| format!("{what} of module {}", index + 1);
        all.push((name("weight"), values(module.conv.weight.grad(&grads).expect("tracked"))));
        all.push((name("gamma"), values(module.batch_norm.gamma.grad(&grads).expect("tracked"))));
        all.push((name("beta"), values(module.batch_norm.beta.grad(&grads).expect("tracked"))));
    }
    all.push(("head".into(), values(tagger.label_predictor.output.weight.grad(&grads).expect("tracked"))));
    (values(logits), tagger.to_weights(), all)
}

fn compare_with_plain(architecture: &Architecture, batch: usize, measured: usize, seed: u64) {
    let device = Device::flex().autodiff();
    let weights = random_weights(architecture, seed);
    let windows = random_windows(batch, seed, &device);
    let new = || tagger(architecture, &weights, &device);
    let (expected, expected_weights, expected_gradients) = forward_and_backward(&new(), &windows, measured, true);
    let (got, got_weights, got_gradients) = forward_and_backward(&new(), &windows, measured, false);
    let distance = relative_distance(&got, &expected);
    assert!(distance < 1e-3, "logits of {architecture:?}, batch {batch}: {distance}");
    for (index, (got, expected)) in got_weights.convs.iter().zip(&expected_weights.convs).enumerate() {
        let mean = relative_distance(&got.running_mean, &expected.running_mean);
        let variance = relative_distance(&got.running_var, &expected.running_var);
        assert!(mean < 1e-4 && variance < 1e-4, "statistics of module {}: {mean}, {variance}", index + 1);
    }
    for ((name, got), (_, expected)) in got_gradients.iter().zip(&expected_gradients) {
        let distance = relative_distance(got, expected);
        println!("{name}: {distance:.1e}");
        assert!(distance < 1e-2, "{name} of {architecture:?}, batch {batch}: {distance}");
    }

    let inference = new().valid();
    let windows = windows.without_autodiff();
    let distance = relative_distance(
        &values(logits(&inference, windows.clone(), false)),
        &values(logits(&inference, windows, true)),
    );
    assert!(distance < 1e-5, "logits in inference: {distance}");
}

#[test]
fn narrow_networks_equal_the_plain_modules() {
    for (seed, last_kernel) in [1, 3].into_iter().enumerate() {
        for measured in [5, 3] {
            compare_with_plain(&Architecture::scaled(0.0625, last_kernel, None, 5), 5, measured, seed as u64);
        }
    }
}

#[test]
fn the_real_layer_shapes_equal_the_plain_modules() {
    compare_with_plain(&Architecture::scaled(1.0, 3, None, 50), 4, 4, 3);
}

#[test]
fn frozen_batch_norm_uses_running_statistics_and_still_passes_gradients() {
    let device = Device::flex().autodiff();
    let architecture = Architecture::scaled(0.0625, 3, None, 5);
    let weights = random_weights(&architecture, 5);
    let windows = random_windows(1, 5, &device);
    let new = || {
        let mut tagger = tagger(&architecture, &weights, &device);
        for module in &mut tagger.feature_extractor.modules {
            module.batch_norm.training = burn::module::Param::from_bool(false);
        }
        tagger
    };
    let (expected, _, expected_gradients) = forward_and_backward(&new(), &windows, 1, true);
    let (got, got_weights, got_gradients) = forward_and_backward(&new(), &windows, 1, false);
    assert!(relative_distance(&got, &expected) < 1e-5);
    assert_eq!(got_weights.convs[3].running_mean, weights.convs[3].running_mean);
    for ((name, got), (_, expected)) in got_gradients.iter().zip(&expected_gradients) {
        let distance = relative_distance(got, expected);
        assert!(distance < 1e-4, "{name}: {distance}");
    }
}

fn ten_losses(architecture: &Architecture, weights: &Weights, plain: bool) -> (Vec<f32>, Weights) {
    let device = Device::flex().autodiff();
    let mut tagger = tagger(architecture, weights, &device);
    let mut optimizer = AdamConfig::new().init();
    let targets = random_targets(6, architecture.num_tags, &device);
    let mut losses = Vec::new();
    for step in 0..10 {
        let loss = loss(logits(&tagger, random_windows(6, step, &device), plain), &targets);
        losses.extend(values(loss.clone()));
        let grads = GradientsParams::from_grads(loss.backward(), &tagger);
        tagger = optimizer.step(1e-4, tagger, grads);
    }
    (losses, tagger.to_weights())
}

#[test]
fn ten_training_steps_lose_what_the_plain_modules_lose() {
    let architecture = Architecture::scaled(0.125, 3, None, 5);
    let device = Device::flex();
    device.seed(7);
    let weights = Tagger::new(&architecture, &device).to_weights();
    let (expected, _) = ten_losses(&architecture, &weights, true);
    let (got, _) = ten_losses(&architecture, &weights, false);
    println!("{expected:?}\n{got:?}");
    for (expected, got) in expected.iter().zip(&got) {
        assert!((expected - got).abs() < 5e-4, "expected {expected}, got {got}");
    }
}

#[test]
fn training_gives_the_same_bits_whatever_the_number_of_threads() {
    let architecture = Architecture::scaled(0.125, 1, Some(16), 5);
    let weights = random_weights(&architecture, 11);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
        pool.install(|| ten_losses(&architecture, &weights, false))
    };
    let (losses, trained) = run(1);
    for threads in [1, 2, 5] {
        let (again, trained_again) = run(threads);
        assert_eq!(losses, again, "{threads} threads");
        assert_eq!(trained, trained_again, "{threads} threads");
    }
}

#[test]
#[should_panic(expected = "forward_plain")]
fn a_gradient_with_respect_to_the_samples_is_refused() {
    let device = Device::flex().autodiff();
    let architecture = Architecture::scaled(0.0625, 1, None, 2);
    let tagger = tagger(&architecture, &random_weights(&architecture, 1), &device);
    let windows = random_windows(2, 1, &device).require_grad();
    let _ = logits(&tagger, windows, false).sum().backward();
}
