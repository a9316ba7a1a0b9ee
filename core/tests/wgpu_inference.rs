//! Inference on a wgpu device against the plain computation.
//!
//! These tests take any Vulkan adapter, a software one too, which the product never does: they ask whether the kernels are
//! right, not whether they are fast. Without an adapter they say that they were skipped.

use std::panic::catch_unwind;
use std::sync::OnceLock;

use burn::prelude::*;
use earmark_core::kernels::wgpu::{InferBlock, RowLayout, supports};

/// The adapter, or `None` with a message.
fn device() -> Option<Device> {
    static DEVICE: OnceLock<Option<Device>> = OnceLock::new();
    let device = DEVICE.get_or_init(|| {
        // Without any driver wgpu may panic instead of reporting an error.
        let opened = catch_unwind(|| Device::wgpu_options().init_with_setup()).ok()?.ok();
        let (device, setup) = opened?;
        let info = setup.adapter.get_info();
        eprintln!("on {} ({:?}, {:?})", info.name, info.device_type, info.backend);
        Some(device)
    });
    if device.is_none() {
        eprintln!("skipped: no Vulkan adapter, install mesa-vulkan-drivers");
    }
    device.clone()
}

/// xorshift: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// One of `from ..= to`.
    fn within(&mut self, from: usize, to: usize) -> usize {
        from + (self.next() >> 20) as usize % (to - from + 1)
    }

    fn values(&mut self, len: usize, scale: f32) -> Vec<f32> {
        (0..len).map(|_| scale * ((self.next() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0)).collect()
    }
}

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
    assert_eq!(got.shape(), expected.shape());
    let pairs = got.iter::<f32>().zip(expected.iter::<f32>());
    let worst =
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, |worst: f32, d| if d > worst || d.is_nan() { d } else { worst });
    assert!(worst <= 1e-5, "{channels:?} channels, {layout:?}, first module: {first}: off by {worst}");
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
