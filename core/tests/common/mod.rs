//! What the tests on a wgpu device share.

use std::panic::catch_unwind;
use std::sync::OnceLock;

use burn::prelude::*;
use burn::tensor::wgpu::WgpuBackend;
use burn::tensor::wgpu::wgpu::Backend;

/// A device on any adapter but an OpenGL one, a software adapter too, which the product never takes; or `None`, with a
/// message.
pub fn device() -> Option<Device> {
    static DEVICE: OnceLock<Option<Device>> = OnceLock::new();
    let device = DEVICE.get_or_init(|| {
        // Vulkan where there is it, for the same adapter in every run. Without any driver wgpu may panic.
        let open = |api| catch_unwind(|| Device::wgpu_options().graphics_api(api).init_with_setup()).ok()?.ok();
        let (device, setup) = open(WgpuBackend::Vulkan).or_else(|| open(WgpuBackend::Auto))?;
        let info = setup.adapter.get_info();
        eprintln!("on {} ({:?}, {:?})", info.name, info.device_type, info.backend);
        (info.backend != Backend::Gl).then_some(device)
    });
    if device.is_none() {
        eprintln!("skipped: no Vulkan adapter, install mesa-vulkan-drivers");
    }
    device.clone()
}

/// xorshift: the same numbers in every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// One of `from ..= to`.
    pub fn within(&mut self, from: usize, to: usize) -> usize {
        from + (self.next() >> 20) as usize % (to - from + 1)
    }

    pub fn values(&mut self, len: usize, scale: f32) -> Vec<f32> {
        (0..len).map(|_| scale * ((self.next() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0)).collect()
    }
}
