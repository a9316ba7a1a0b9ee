//! Training on a wgpu device against the CPU.
//!
//! These tests take any Vulkan adapter, a software one too, which the product never does: they ask whether the kernels
//! are right, not whether they are fast. Without an adapter they say that they were skipped.

mod common;

use std::panic::catch_unwind;

use burn::module::Module as _;
use burn::optim::{AdamConfig, GradientsParams};
use burn::prelude::*;
use burn::tensor::activation::log_sigmoid;
use burn::tensor::module::conv1d;
use burn::tensor::ops::ConvOptions;
use common::{Random, device};
use earmark_core::WINDOW_SAMPLES;
use earmark_core::audio;
use earmark_core::kernels::wgpu::{ConvChoice, ConvShape, conv, conv_input_grad, conv_weight_grad, supports};
use earmark_core::kernels::{mix_snr, mix_snr_plain};
use earmark_core::model::Tagger;
use earmark_core::weights::{Architecture, Weights};

/// Numbers up to `scale` in size, in a shape.
fn data<const D: usize>(random: &mut Random, shape: [usize; D], scale: f32) -> TensorData {
    TensorData::new(random.values(shape.iter().product(), scale), shape)
}

fn values(data: &TensorData) -> Vec<f32> {
    data.iter::<f32>().collect()
}

/// The largest difference over the largest expected value.
fn assert_close(got: &TensorData, expected: &TensorData, tolerance: f32, what: &str) {
    assert_eq!(got.shape(), expected.shape(), "{what}");
    let scale = expected.iter::<f32>().fold(1e-6_f32, |largest, value| largest.max(value.abs()));
    for (index, (got, expected)) in got.iter::<f32>().zip(expected.iter::<f32>()).enumerate() {
        // Written so that NaN fails.
        let close = (got - expected).abs() <= tolerance * scale;
        assert!(close, "{what}: number {index} is {got}, expected {expected}, where values reach {scale}");
    }
}

// --- mixing ----------------------------------------------------------------------------------------------------------

/// Music, noises and ratios.
struct Mixture {
    clean: TensorData,
    noises: TensorData,
    snr_db: TensorData,
}

impl Mixture {
    fn new(random: &mut Random, batch: usize, num_noises: usize, samples: usize) -> Self {
        Self {
            clean: data(random, [batch, samples], 0.7),
            noises: data(random, [batch, num_noises, samples], 0.02),
            snr_db: TensorData::new((0..batch).map(|_| random.within(0, 20) as f32 - 10.0).collect(), [batch]),
        }
    }

    fn dims(&self) -> [usize; 3] {
        let shape: Vec<usize> = self.noises.shape().iter().copied().collect();
        [shape[0], shape[1], shape[2]]
    }

    /// Makes some samples of the music, or of all noises of a window, silent.
    fn silence(&mut self, which: fn(&mut Self) -> &mut TensorData, window: usize) {
        let data = which(self);
        let shape: Vec<usize> = data.shape().iter().copied().collect();
        let len: usize = shape[1..].iter().product();
        let mut samples = values(data);
        samples[window * len..(window + 1) * len].fill(0.0);
        *data = TensorData::new(samples, shape);
    }

    fn on(&self, device: &Device, mix: impl Fn(Tensor<2>, Tensor<3>, Tensor<1>) -> Tensor<2>) -> TensorData {
        let [clean, noises, snr_db] = [&self.clean, &self.noises, &self.snr_db].map(TensorData::clone);
        mix(Tensor::from_data(clean, device), Tensor::from_data(noises, device), Tensor::from_data(snr_db, device))
            .into_data()
    }

    /// `audio::mix_snr`, window by window.
    fn expected(&self) -> TensorData {
        let [batch, num_noises, samples] = self.dims();
        let (mut mixed, noises, snr_db) = (values(&self.clean), values(&self.noises), values(&self.snr_db));
        for (window, (music, snr_db)) in mixed.chunks_exact_mut(samples).zip(snr_db).enumerate() {
            let noises: Vec<&[f32]> =
                noises[window * num_noises * samples..].chunks_exact(samples).take(num_noises).collect();
            audio::mix_snr(music, &noises, snr_db);
        }
        TensorData::new(mixed, [batch, samples])
    }
}

#[test]
fn mixing_equals_the_reference_and_reaches_the_ratio() {
    let Some(device) = device() else { return };
    assert!(supports(&device));
    let random = &mut Random(0x9E37_79B9_7F4A_7C15);
    for num_noises in [1, 2, 4] {
        for (batch, samples) in [(1, 1), (3, 255), (2, 256), (1, 257), (5, 1_001), (2, WINDOW_SAMPLES)] {
            let what = format!("{batch} windows of {samples} samples, {num_noises} noises");
            let mixture = Mixture::new(random, batch, num_noises, samples);
            let expected = mixture.expected();
            let mixed = mixture.on(&device, mix_snr);
            assert_close(&mixed, &expected, 1e-5, &what);
            assert_close(&mixture.on(&Device::flex(), mix_snr), &expected, 1e-5, &format!("{what}, on the CPU"));

            let (clean, mixed) = (values(&mixture.clean), values(&mixed));
            let windows = clean.chunks_exact(samples).zip(mixed.chunks_exact(samples));
            for ((clean, mixed), asked) in windows.zip(values(&mixture.snr_db)) {
                let power = |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x).powi(2)).sum::<f64>();
                let added = power(&mut mixed.iter().zip(clean).map(|(mixed, clean)| mixed - clean));
                let reached = 10.0 * (power(&mut clean.iter().copied()) / added).log10();
                assert!((reached - f64::from(asked)).abs() < 0.01, "{what}: {reached} dB, asked for {asked}");
            }
        }
    }
}

#[test]
fn silence_stays_finite_and_leaves_the_music_alone() {
    let Some(device) = device() else { return };
    let random = &mut Random(0xD1B5_4A32_D192_ED03);
    for num_noises in [1, 2, 4] {
        let mut mixture = Mixture::new(random, 4, num_noises, 999);
        mixture.silence(|mixture| &mut mixture.clean, 0);
        mixture.silence(|mixture| &mut mixture.noises, 1);
        mixture.silence(|mixture| &mut mixture.clean, 2);
        mixture.silence(|mixture| &mut mixture.noises, 2);
        for mixed in [mixture.on(&device, mix_snr), mixture.on(&Device::flex(), mix_snr_plain)] {
            assert_close(&mixed, &mixture.expected(), 1e-5, "some windows are silent");
            assert_eq!(
                values(&mixed)[..3 * 999],
                values(&mixture.clean)[..3 * 999],
                "nothing is added to the first three"
            );
        }
    }
    // Music and noise at the two ends of what 16 bits can tell from silence, and far beyond.
    for (music, noise) in [(1.0, 1e-12), (1e-12, 1.0), (1e-12, 1e-12), (1e6, 1e-15)] {
        let mixture = Mixture {
            clean: data(random, [1, 777], music),
            noises: data(random, [1, 1, 777], noise),
            snr_db: TensorData::from([-10.0_f32]),
        };
        for mix in [mix_snr, mix_snr_plain] {
            assert_close(
                &mixture.on(&device, mix),
                &mixture.expected(),
                1e-5,
                &format!("music {music}, noise {noise}"),
            );
        }
    }
}

#[test]
fn mixing_is_repeatable_and_refuses_wrong_shapes() {
    let Some(device) = device() else { return };
    let random = &mut Random(0x2545_F491_4F6C_DD1D);
    let mixture = Mixture::new(random, 3, 2, 5_000);
    assert_eq!(values(&mixture.on(&device, mix_snr)), values(&mixture.on(&device, mix_snr)));
    // A batch for training is a constant on the autodiff device.
    let mixed = mixture.on(&device.clone().autodiff(), |clean, noises, snr_db| {
        let mixed = mix_snr(clean, noises, snr_db);
        assert!(mixed.device().is_autodiff());
        mixed
    });
    assert_eq!(values(&mixed), values(&mixture.on(&device, mix_snr)));

    for (noises, snr_db) in [([3, 3, 50], 3), ([2, 1, 50], 3), ([3, 1, 49], 3), ([3, 1, 50], 2)] {
        let device = device.clone();
        let refused = catch_unwind(move || {
            mix_snr(Tensor::ones([3, 50], &device), Tensor::ones(noises, &device), Tensor::zeros([snr_db], &device))
        });
        assert!(refused.is_err(), "noises {noises:?}, {snr_db} ratios");
    }
}

// --- convolution -----------------------------------------------------------------------------------------------------

/// A convolution's operands and the gradient of a loss with respect to its output.
struct Conv {
    shape: ConvShape,
    input: TensorData,
    weight: TensorData,
    bias: TensorData,
    output_grad: TensorData,
    /// Whether the bias has a gradient. It is Burn's own sum, for which Burn searches a kernel, size by size, for
    /// seconds.
    learns_bias: bool,
}

impl Conv {
    fn new(random: &mut Random, shape: ConvShape) -> Self {
        let scale = (3.0 / (shape.in_channels * shape.kernel) as f32).sqrt();
        Self {
            shape,
            input: data(random, shape.input(), 1.0),
            weight: data(random, shape.weight(), scale),
            bias: data(random, [shape.out_channels], 0.5),
            output_grad: data(random, shape.output(), 1.0),
            learns_bias: true,
        }
    }

    /// Output, and the gradients of the sum of `output * output_grad` with respect to input, weight and, if it learns,
    /// bias.
    fn on(&self, device: &Device, conv: impl Fn(Tensor<3>, Tensor<3>, Tensor<1>) -> Tensor<3>) -> Vec<TensorData> {
        let device = device.clone().autodiff();
        let input = Tensor::<3>::from_data(self.input.clone(), &device).require_grad();
        let weight = Tensor::<3>::from_data(self.weight.clone(), &device).require_grad();
        let bias = Tensor::<1>::from_data(self.bias.clone(), &device).set_require_grad(self.learns_bias);
        let output = conv(input.clone(), weight.clone(), bias.clone());
        // Without a sum the gradient starts at ones, which is the same.
        let gradients = (output.clone() * Tensor::from_data(self.output_grad.clone(), &device)).backward();
        let grads = [input.grad(&gradients), weight.grad(&gradients)]
            .map(|grad| grad.expect("tracked").into_data())
            .into_iter();
        let bias_grad = self.learns_bias.then(|| bias.grad(&gradients).expect("tracked").into_data());
        std::iter::once(output.into_data()).chain(grads).chain(bias_grad).collect()
    }

    fn on_kernel(&self, device: &Device, choice: ConvChoice) -> Vec<TensorData> {
        self.on(device, |input, weight, bias| conv(input, weight, bias, self.shape, choice))
    }

    /// Burn's own convolution on the CPU.
    fn expected(&self) -> Vec<TensorData> {
        let options = ConvOptions::new([self.shape.stride], [self.shape.padding], [1], 1);
        self.on(&Device::flex(), |input, weight, bias| conv1d(input, weight, Some(bias), options.clone()))
    }

    /// The loss in `f64`, straight from the definition.
    fn loss(&self, input: &[f64], weight: &[f64], bias: &[f64]) -> f64 {
        let ConvShape { batch, in_channels, out_channels, len_in, kernel, stride, padding } = self.shape;
        let len_out = self.shape.len_out();
        let output_grad = values(&self.output_grad);
        let mut loss = 0.0;
        for (at, grad) in output_grad.iter().enumerate() {
            let (b, o, p) = (at / len_out / out_channels, at / len_out % out_channels, at % len_out);
            let mut y = bias[o];
            for i in 0..in_channels {
                for t in 0..kernel {
                    if let Some(q) = (p * stride + t).checked_sub(padding).filter(|&q| q < len_in) {
                        y += weight[(o * in_channels + i) * kernel + t] * input[(b * in_channels + i) * len_in + q];
                    }
                }
            }
            loss += y * f64::from(*grad);
        }
        assert_eq!(output_grad.len(), batch * out_channels * len_out);
        loss
    }
}

const NAMES: [&str; 4] = ["output", "input gradient", "weight gradient", "bias gradient"];

fn assert_conv_is_right(random: &mut Random, shape: ConvShape, device: &Device) {
    let conv = Conv { learns_bias: false, ..Conv::new(random, shape) };
    let got = conv.on_kernel(device, ConvChoice::KERNEL);
    for ((got, expected), name) in got.iter().zip(&conv.expected()).zip(NAMES) {
        assert_close(got, expected, 1e-5, &format!("{name} of {shape:?}"));
    }
}

/// Kernel, stride and padding of SampleCNN's modules: the first, those in the middle, and the last of table 3.1.
const GEOMETRIES: [[usize; 3]; 3] = [[3, 3, 0], [3, 1, 1], [1, 1, 0]];

#[test]
fn a_convolution_and_its_gradients_equal_the_plain_ones_on_random_shapes() {
    let Some(device) = device() else { return };
    let random = &mut Random(0x94D0_49BB_1331_11EB);
    for round in 0..24 {
        let [kernel, stride, padding] = GEOMETRIES[round % 3];
        let shape = ConvShape {
            batch: if round % 4 == 0 { 1 } else { random.within(2, 7) },
            in_channels: random.within(1, 90),
            out_channels: random.within(1, 90),
            // Also lengths that the stride does not divide: the last samples then have no output.
            len_in: random.within(3, 150),
            kernel,
            stride,
            padding,
        };
        assert_conv_is_right(random, shape, &device);
    }
    // The other strides and paddings that the kernel takes.
    for [kernel, stride, padding] in [[3, 1, 0], [3, 3, 1], [1, 3, 0], [1, 1, 1], [1, 3, 1]] {
        let shape = ConvShape { batch: 2, in_channels: 5, out_channels: 7, len_in: 31, kernel, stride, padding };
        assert_conv_is_right(random, shape, &device);
    }
}

#[test]
fn a_convolution_and_its_gradients_equal_the_plain_ones_at_the_networks_widths() {
    let Some(device) = device() else { return };
    let random = &mut Random(0xBF58_476D_1CE4_E5B9);
    let architecture = Architecture::scaled(1.0, 1, None, 50);
    // Each module's channels, with the length that its input has near the end of the network, and shorter before.
    for (index, len_in) in [(0, 2_187), (1, 729), (3, 243), (4, 81), (9, 3), (10, 1)] {
        let (in_channels, out_channels, kernel) = architecture.conv_shape(index);
        let (stride, padding) = if index == 0 { (3, 0) } else { (1, kernel / 2) };
        let shape = ConvShape { batch: 2, in_channels, out_channels, len_in, kernel, stride, padding };
        assert_conv_is_right(random, shape, &device);
    }
}

#[test]
fn gradients_equal_finite_differences() {
    let Some(device) = device() else { return };
    let random = &mut Random(0x1234_5678_9ABC_DEF1);
    for [kernel, stride, padding] in GEOMETRIES {
        let shape = ConvShape { batch: 2, in_channels: 3, out_channels: 5, len_in: 11, kernel, stride, padding };
        let conv = Conv::new(random, shape);
        let grads = &conv.on_kernel(&device, ConvChoice::KERNEL)[1..];
        let wide = |data: &TensorData| -> Vec<f64> { data.iter::<f32>().map(f64::from).collect() };
        let mut at = [&conv.input, &conv.weight, &conv.bias].map(wide);
        for (operand, grad) in grads.iter().enumerate() {
            let grad = values(grad);
            assert_eq!(grad.len(), at[operand].len());
            for (index, &got) in grad.iter().enumerate() {
                let (value, step) = (at[operand][index], 1e-4);
                let mut loss_at = |value| {
                    at[operand][index] = value;
                    conv.loss(&at[0], &at[1], &at[2])
                };
                let slope = (loss_at(value + step) - loss_at(value - step)) / (2.0 * step);
                loss_at(value);
                let error = (slope - f64::from(got)).abs();
                assert!(error < 1e-5, "{} {index} of {shape:?}: {got}, the slope is {slope}", NAMES[operand + 1]);
            }
        }
    }
}

#[test]
fn every_choice_computes_the_same() {
    let Some(device) = device() else { return };
    let random = &mut Random(0xABCD_EF01_2345_6789);
    let shape = ConvShape { batch: 3, in_channels: 6, out_channels: 9, len_in: 20, kernel: 3, stride: 1, padding: 1 };
    let conv = Conv::new(random, shape);
    let expected = conv.expected();
    for bits in 0..8 {
        let choice = ConvChoice { forward: bits & 1 > 0, input_grad: bits & 2 > 0, weight_grad: bits & 4 > 0 };
        for ((got, expected), name) in conv.on_kernel(&device, choice).iter().zip(&expected).zip(NAMES) {
            assert_close(got, expected, 1e-5, &format!("{name} with {choice:?}"));
        }
    }
    // The gradients by themselves, as they are measured.
    let on = |data: &TensorData| Tensor::<3>::from_data(data.clone(), &device);
    let (input, weight, output_grad) = (on(&conv.input), on(&conv.weight), on(&conv.output_grad));
    for choice in [ConvChoice::KERNEL, ConvChoice::BACKEND] {
        let input_grad = conv_input_grad(weight.clone(), output_grad.clone(), shape, choice);
        let weight_grad = conv_weight_grad(input.clone(), output_grad.clone(), shape, choice);
        assert_close(&input_grad.into_data(), &expected[1], 1e-5, NAMES[1]);
        assert_close(&weight_grad.into_data(), &expected[2], 1e-5, NAMES[2]);
    }
}

#[test]
fn operands_may_be_views_and_wrong_shapes_are_refused() {
    let Some(device) = device() else { return };
    let random = &mut Random(0x0F1E_2D3C_4B5A_6978);
    let shape = ConvShape { batch: 2, in_channels: 4, out_channels: 3, len_in: 15, kernel: 3, stride: 1, padding: 1 };
    let operands = Conv::new(random, shape);
    // The same numbers as `[batch, len, channels]`, seen through swapped axes.
    let swapped = |tensor: Tensor<3>| {
        let copy: Tensor<3> = Tensor::from_data(tensor.clone().swap_dims(1, 2).into_data(), &tensor.device());
        copy.swap_dims(1, 2)
    };
    let plain = operands.on_kernel(&device, ConvChoice::KERNEL);
    let output = {
        let on = |data: &TensorData| Tensor::<3>::from_data(data.clone(), &device);
        let bias = Tensor::from_data(operands.bias.clone(), &device);
        conv(swapped(on(&operands.input)), swapped(on(&operands.weight)), bias, shape, ConvChoice::KERNEL)
    };
    assert_eq!(values(&output.into_data()), values(&plain[0]));

    let wrong = [
        ConvShape { batch: 3, ..shape },
        ConvShape { in_channels: 5, ..shape },
        ConvShape { kernel: 5, ..shape },
        ConvShape { stride: 2, ..shape },
        ConvShape { padding: 2, ..shape },
    ];
    for wrong in wrong {
        let device = device.clone();
        let refused = catch_unwind(move || {
            let (input, weight) = (Tensor::ones(shape.input(), &device), Tensor::ones(shape.weight(), &device));
            conv(input, weight, Tensor::ones([shape.out_channels], &device), wrong, ConvChoice::KERNEL)
        });
        assert!(refused.is_err(), "{wrong:?}");
    }
}

// --- training --------------------------------------------------------------------------------------------------------

/// Losses of ten steps of Adam on one window, with batch norm's statistics frozen. Burn's sums over positions are loops
/// in one invocation, and the software adapter of these tests ends those after 65,535 rounds in all, without a word.
fn losses(
    device: &Device,
    architecture: &Architecture,
    weights: &Weights,
    batch: &[TensorData; 2],
    embed: impl Fn(&Tagger, Tensor<2>) -> Tensor<2>,
) -> Vec<f32> {
    let device = device.clone().autodiff();
    let [windows, targets] = batch.clone().map(|data| Tensor::<2>::from_data(data, &device));
    let mut tagger = Tagger::from_weights(architecture, weights, &device);
    for module in &mut tagger.feature_extractor.modules {
        module.batch_norm = module.batch_norm.clone().freeze();
    }
    let mut optimizer = AdamConfig::new().with_epsilon(1e-8).init();
    (0..10)
        .map(|_| {
            let logits = tagger.label_predictor.forward(embed(&tagger, windows.clone()));
            let positive = log_sigmoid(logits.clone()) * targets.clone();
            let negative = log_sigmoid(logits.neg()) * (targets.clone().neg() + 1.0);
            let loss = (positive + negative).mean().neg();
            let grads = GradientsParams::from_grads(loss.backward(), &tagger);
            tagger = optimizer.step(1e-3, tagger.clone(), grads);
            loss.into_scalar()
        })
        .collect()
}

#[test]
fn a_tiny_network_trains_as_on_the_cpu() {
    let Some(device) = device() else { return };
    let random = &mut Random(0x5DEE_CE66_D1CE_4E5B);
    let flex = Device::flex();
    flex.seed(7);
    let mut architecture = Architecture::scaled(1.0 / 64.0, 3, None, 5);
    architecture.widths[10] = 16;
    let mut weights = Tagger::new(&architecture, &flex).to_weights();
    // Statistics that keep the activations' size from module to module, as trained ones do.
    weights.convs.iter_mut().for_each(|conv| conv.running_var.fill(0.15));
    let targets = TensorData::new((0..5).map(|_| random.within(0, 1) as f32).collect(), [1, 5]);
    let batch = [data(random, [1, WINDOW_SAMPLES], 0.3), targets];

    let cpu =
        losses(&flex, &architecture, &weights, &batch, |tagger, windows| tagger.feature_extractor.forward(windows));
    let gpu = losses(&device, &architecture, &weights, &batch, |tagger, windows| {
        tagger.feature_extractor.forward_choosing(windows, |_| ConvChoice::KERNEL)
    });
    assert!(cpu[9] < cpu[0] - 0.05, "it learns: {cpu:?}");
    for (step, (gpu, cpu)) in gpu.iter().zip(&cpu).enumerate() {
        assert!((gpu - cpu).abs() < 1e-4, "loss of step {step}: {gpu} on the device, {cpu} on the CPU");
    }
}
