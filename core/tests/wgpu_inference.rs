//! Inference on a wgpu device against the plain computation.
//!
//! These tests take any Vulkan adapter, a software one too, which the product never does: they ask whether the kernels
//! are right, not whether they are fast. Without an adapter they say that they were skipped.

mod common;

use burn::prelude::*;
use common::{Random, device};
use earmark_core::WINDOW_SAMPLES;
use earmark_core::engine::{BurnEngine, CpuEngine, Engine, Hop, WindowResult, WindowStream};
use earmark_core::kernels::wgpu::{InferBlock, InferDense, RowLayout, supports};
use earmark_core::model_file::Model;
use earmark_core::weights::Architecture;

/// A block with random parameters, on each of two devices.
fn block(
    random: &mut Random,
    in_channels: usize,
    out_channels: usize,
    first: bool,
    devices: [&Device; 2],
) -> [InferBlock; 2] {
    let scale = (2.0 / (3 * in_channels) as f32).sqrt();
    let weight = TensorData::new(random.values(3 * in_channels * out_channels, scale), [3, in_channels, out_channels]);
    let bias = TensorData::new(random.values(out_channels, 0.3), [out_channels]);
    let first = first.then(|| TensorData::new(random.values(4 * in_channels, 0.8), [4, in_channels]));
    devices.map(|device| InferBlock {
        weight: Tensor::from_data(weight.clone(), device),
        bias: Tensor::from_data(bias.clone(), device),
        first: first.clone().map(|first| Tensor::from_data(first, device)),
    })
}

/// The largest value; NaN if there is one.
fn largest(values: impl Iterator<Item = f32>) -> f32 {
    values.fold(0.0, |largest, value| if value > largest || value.is_nan() { value } else { largest })
}

fn assert_close(got: &TensorData, expected: &TensorData, what: &str) {
    assert_eq!(got.shape(), expected.shape(), "{what}");
    let worst = largest(got.iter::<f32>().zip(expected.iter::<f32>()).map(|(a, b)| (a - b).abs()));
    assert!(worst <= 1e-5, "{what}: off by {worst}");
}

/// The kernel on the device against the reference on the CPU.
fn assert_block_is_right(random: &mut Random, channels: [usize; 2], first: bool, layout: RowLayout, device: &Device) {
    let flex = Device::flex();
    let [kernel, reference] = block(random, channels[0], channels[1], first, [device, &flex]);
    // Rows beyond those needed must not matter.
    let rows = (layout.input_rows() + random.within(0, 5)).next_multiple_of(4);
    let width = if first { 3 } else { channels[0] };
    let input = TensorData::new(random.values(rows * width, 1.0), [rows, width]);
    let got = kernel.forward(Tensor::from_data(input.clone(), device), layout).into_data();
    let expected = reference.forward_plain(Tensor::from_data(input, &flex), layout).into_data();
    assert_close(&got, &expected, &format!("{channels:?} channels, {layout:?}, first module: {first}"));
}

#[test]
fn a_block_equals_the_reference_on_windows_side_by_side() {
    let Some(device) = device() else { return };
    assert!(supports(&device));
    let random = &mut Random(0x9E37_79B9_7F4A_7C15);
    // Widths that fill a tile of 64 channels and 8 input channels, and such that do not.
    for channels in [[4, 4], [8, 64], [12, 68], [20, 12], [36, 132]] {
        for first in [false, true] {
            for (windows, len) in [(1, 3), (1, 6), (2, 3), (7, 9), (1, 189), (1, 192), (1, 195), (3, 33), (67, 3)] {
                assert_block_is_right(random, channels, first, RowLayout::side_by_side(windows, len), &device);
            }
        }
    }
}

#[test]
fn a_block_equals_the_reference_on_windows_that_share_rows() {
    let Some(device) = device() else { return };
    let random = &mut Random(0xD1B5_4A32_D192_ED03);
    for round in 0..24 {
        let windows = random.within(1, 9);
        let (window_len, window_hop) = (3 * random.within(2, 30), random.within(1, 40));
        let shared_rows = ((windows - 1) * window_hop + window_len).next_multiple_of(3);
        let first = round % 4 == 0;
        let edges = (!first).then_some(shared_rows + random.within(0, 2));
        let ends_only = round % 2 == 0;
        let shared_rows = if ends_only { shared_rows } else { 0 };
        let layout = RowLayout { shared_rows, windows, window_len, window_hop, ends_only, edges };
        assert_block_is_right(random, [8, 12], first, layout, &device);
    }
}

#[test]
fn a_block_equals_the_reference_at_the_networks_widths() {
    let Some(device) = device() else { return };
    let random = &mut Random(0x94D0_49BB_1331_11EB);
    for (channels, first, len) in [([128, 128], true, 243), ([128, 256], false, 27), ([256, 512], false, 3)] {
        assert_block_is_right(random, channels, first, RowLayout::side_by_side(2, len), &device);
    }
}

#[test]
fn a_fully_connected_layer_equals_the_reference() {
    let Some(device) = device() else { return };
    let random = &mut Random(0x2545_F491_4F6C_DD1D);
    let flex = Device::flex();
    for [rows, inputs, outputs] in [[1, 4, 4], [1, 512, 52], [3, 36, 68], [16, 32, 64], [17, 28, 132], [130, 64, 8]] {
        let weight = TensorData::new(random.values(inputs * outputs, 1.0 / (inputs as f32).sqrt()), [inputs, outputs]);
        let bias = TensorData::new(random.values(outputs, 0.5), [outputs]);
        let input = TensorData::new(random.values(rows * inputs, 1.0), [rows, inputs]);
        for relu in [false, true] {
            let [kernel, reference] = [&device, &flex].map(|device| InferDense {
                weight: Tensor::from_data(weight.clone(), device),
                bias: Tensor::from_data(bias.clone(), device),
                relu,
            });
            let got = kernel.forward(Tensor::from_data(input.clone(), &device)).into_data();
            let expected = reference.forward_plain(Tensor::from_data(input.clone(), &flex)).into_data();
            assert_close(&got, &expected, &format!("[{rows}, {inputs}] x [{inputs}, {outputs}], ReLU: {relu}"));
        }
    }
}

/// A model with random weights, its widths no multiples of 4, as a model file may have them.
fn model(random: &mut Random, last_kernel: usize, head_hidden: Option<usize>) -> Model {
    let widths = [6, 8, 5, 8, 7, 8, 9, 8, 10, 12, 14];
    let architecture = Architecture { widths, last_kernel, head_hidden, projector_hidden: None, num_tags: 5 };
    Model::random(architecture, random.next())
}

/// Start, whether padded, embedding and logits of one window.
type Window = (u64, bool, Vec<f32>, Vec<f32>);

/// Pushes `waveform` in pieces of the given sizes, in turn, and finishes. The second result tells for each window of a
/// push how many samples had been pushed before it and after it.
fn run(
    stream: &mut dyn WindowStream,
    waveform: &[f32],
    mut piece: impl FnMut() -> usize,
) -> (Vec<Window>, Vec<[usize; 2]>) {
    let (mut windows, mut arrivals, mut rest) = (Vec::new(), Vec::new(), waveform);
    let keep = |windows: &mut Vec<Window>, result: WindowResult<'_>| {
        windows.push((result.start, result.padded, result.embedding.to_vec(), result.logits.to_vec()));
    };
    while !rest.is_empty() {
        let (now, later) = rest.split_at(piece().min(rest.len()));
        stream.push(now, &mut |result| keep(&mut windows, result)).expect("the device works");
        arrivals.resize(windows.len(), [waveform.len() - rest.len(), waveform.len() - later.len()]);
        rest = later;
    }
    stream.finish(&mut |result| keep(&mut windows, result)).expect("the device works");
    (windows, arrivals)
}

/// Equal windows, and values equal to `tolerance`.
fn assert_same(got: &[Window], expected: &[Window], tolerance: f32, what: &str) {
    let places = |windows: &[Window]| windows.iter().map(|w| (w.0, w.1)).collect::<Vec<_>>();
    assert_eq!(places(got), places(expected), "{what}");
    for (got, expected) in got.iter().zip(expected) {
        assert_eq!((got.2.len(), got.3.len()), (expected.2.len(), expected.3.len()), "{what}");
        let pairs = got.2.iter().zip(&expected.2).chain(got.3.iter().zip(&expected.3));
        let worst = largest(pairs.map(|(a, b)| (a - b).abs()));
        assert!(worst <= tolerance, "{what}: the window at {} is off by {worst}", got.0);
    }
}

#[test]
fn the_engine_equals_the_modules_and_the_cpu_engine() {
    let Some(device) = device() else { return };
    let random = &mut Random(0xBF58_476D_1CE4_E5B9);
    let waveform = random.values(WINDOW_SAMPLES + 20_000, 0.5);
    for (last_kernel, head_hidden) in [(1, None), (3, Some(11))] {
        let model = model(random, last_kernel, head_hidden);
        let kernels = BurnEngine::on(&model, device.clone(), "kernels".into()).expect("valid");
        let modules = BurnEngine::flex(&model).expect("valid");
        let cpu = CpuEngine::new(&model, 1).expect("valid");
        for hop in [Hop::DEFAULT, Hop::NON_OVERLAPPING] {
            let all = |engine: &dyn Engine| run(&mut *engine.stream(hop), &waveform, || 30_000).0;
            let got = all(&kernels);
            assert_same(&got, &all(&modules), 1e-5, "against the modules");
            assert_same(&got, &all(&cpu), 1e-5, "against the CPU engine");
        }
    }
}

#[test]
fn sliding_windows_equal_plain_windows() {
    let Some(device) = device() else { return };
    let random = &mut Random(0x1234_5678_9ABC_DEF1);
    let model = model(random, 3, Some(11));
    let engine = BurnEngine::on(&model, device, "kernels".into()).expect("valid");
    // Exact hops; hops that leave the grid of the pools after some levels; hops that share nothing, with gaps between
    // windows or without.
    for hop in [27, 243, 729, 2_187, 6_561, 19_683, 59_049, 1, 9, 486, 30_000, 39_366, 12_345, 10_000, 70_000] {
        let extra = (9 * hop).min(WINDOW_SAMPLES + hop) + random.within(0, hop);
        let waveform = random.values(WINDOW_SAMPLES + extra, 0.5);
        let hop = Hop::new(hop).expect("positive");
        let (plain, _) = run(&mut *engine.plain_stream(hop), &waveform, || waveform.len());
        let mut stream = engine.stream(hop);
        let what = format!("hop {}", hop.samples());
        assert_same(&run(&mut *stream, &waveform, || waveform.len()).0, &plain, 1e-5, &what);

        // The stream is ready for another waveform; pieces of any size give each window as soon as it is complete.
        let (windows, arrivals) = run(&mut *stream, &waveform, || random.within(0, 1) * random.within(0, 40_000));
        assert_same(&windows, &plain, 1e-5, &format!("{what}, in pieces"));
        assert_eq!(arrivals.len(), plain.iter().filter(|window| !window.1).count(), "{what}");
        for (window, [before, after]) in windows.iter().zip(arrivals) {
            let end = window.0 as usize + WINDOW_SAMPLES;
            assert!(before < end && end <= after, "{what}: {end} samples, reported between {before} and {after}");
        }
    }
}

#[test]
fn a_padded_window_is_the_window_of_the_zero_padded_waveform() {
    let Some(device) = device() else { return };
    let random = &mut Random(0xABCD_EF01_2345_6789);
    let model = model(random, 1, None);
    let engine = BurnEngine::on(&model, device, "kernels".into()).expect("valid");
    let mut stream = engine.stream(Hop::DEFAULT);
    let lengths = [(1, 0), (20_000, 0), (WINDOW_SAMPLES - 1, 0), (WINDOW_SAMPLES + 1, 1), (WINDOW_SAMPLES + 6_562, 2)];
    for (len, num_full) in lengths {
        let short = random.values(len, 0.5);
        let got = run(&mut *stream, &short, || 9_000).0;
        let (padded, full): (Vec<_>, Vec<_>) = got.iter().cloned().partition(|window| window.1);
        assert_eq!((full.len(), padded.len()), (num_full, 1));
        let mut filled = short.clone();
        filled.resize(padded[0].0 as usize + WINDOW_SAMPLES, 0.0);
        let mut expected = run(&mut *stream, &filled, || 9_000).0;
        expected.last_mut().expect("a window").1 = true;
        assert_same(&got, &expected, 1e-5, &format!("{len} samples"));
    }
    assert!(run(&mut *stream, &[], || 1).0.is_empty());
}

#[test]
fn streams_may_run_side_by_side() {
    let Some(device) = device() else { return };
    let random = &mut Random(0x0DDB_1A5E_5BAD_5EED);
    let model = model(random, 3, Some(11));
    let engine = BurnEngine::on(&model, device, "kernels".into()).expect("valid");
    let waveforms: Vec<Vec<f32>> = (0..3).map(|_| random.values(WINDOW_SAMPLES + 40_000, 0.5)).collect();
    let once = |waveform: &[f32]| run(&mut *engine.stream(Hop::DEFAULT), waveform, || 7_000).0;
    let alone: Vec<_> = waveforms.iter().map(|waveform| once(waveform)).collect();
    std::thread::scope(|scope| {
        let once = &once;
        let together: Vec<_> = waveforms.iter().map(|waveform| scope.spawn(move || once(waveform))).collect();
        for (thread, alone) in together.into_iter().zip(&alone) {
            assert_same(&thread.join().expect("no panic"), alone, 1e-6, "side by side");
        }
    });
}
