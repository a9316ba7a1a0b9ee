//! The adapters that wgpu sees, numbered as `--device wgpu:N` counts them.
//!
//! Hardware comes first (discrete, integrated, virtual), software last, so that `wgpu:0` is the GPU if there is one. The
//! list holds the adapters of one graphics API: the first of Metal, Vulkan and Direct3D 12 through which a GPU can be
//! reached, else the first with anything at all. OpenGL is not asked: it leads to the same GPUs, under lower limits.
//!
//! A software adapter draws pictures on the processor, several times slower than the CPU engine tags on it. It is listed
//! as what it is and never opened, unless [`TEST_VARIABLE`] is `1` in the environment: so tests can run the GPU's code
//! where there is none.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use burn::tensor::wgpu::wgpu::{self, AdapterInfo, Backend, DeviceType, Instance, InstanceDescriptor};
use burn::tensor::wgpu::{WgpuBackend, WgpuInitError};
use burn::tensor::{Device, DeviceKind};

use super::EngineError;

/// Environment variable that, set to `1`, lets tests take a software adapter for a GPU.
pub const TEST_VARIABLE: &str = "EARMARK_TEST_SOFTWARE_GPU";

/// What an adapter is, in the order of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdapterKind {
    /// A graphics card with its own memory.
    Discrete,
    /// A GPU that shares the processor's memory.
    Integrated,
    /// A GPU that a hypervisor hands in.
    Virtual,
    /// The driver does not say.
    Unknown,
    /// A renderer that runs on the processor.
    Software,
}

impl fmt::Display for AdapterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Discrete => "discrete GPU",
            Self::Integrated => "integrated GPU",
            Self::Virtual => "virtual GPU",
            Self::Unknown => "unknown",
            Self::Software => "software",
        })
    }
}

/// One adapter.
#[derive(Clone, Debug)]
pub struct Adapter {
    index: usize,
    kind: AdapterKind,
    info: AdapterInfo,
    /// Its number among those of its kind, in the order of the graphics API.
    index_in_kind: usize,
}

impl Adapter {
    /// N of `wgpu:N`.
    pub fn index(&self) -> usize {
        self.index
    }

    /// What it calls itself.
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// What it is.
    pub fn kind(&self) -> AdapterKind {
        self.kind
    }

    /// Graphics API through which it is reached, e.g. `Vulkan`.
    pub fn graphics_api(&self) -> String {
        format!("{:?}", self.info.backend)
    }

    /// The driver and its version, as far as it says.
    pub fn driver(&self) -> String {
        format!("{} {}", self.info.driver, self.info.driver_info).trim().to_owned()
    }

    /// Whether it may be taken for a GPU.
    ///
    /// # Errors
    /// Why not.
    pub fn is_usable(&self) -> Result<(), &'static str> {
        let software_allowed = std::env::var_os(TEST_VARIABLE).is_some_and(|value| value == "1");
        usable(self.kind, software_allowed)
    }

    /// Starts Burn on it, once per process: a runtime lives as long as the process does.
    ///
    /// # Errors
    /// [`EngineError::NoDevice`] if it is not [usable](Self::is_usable), [`EngineError::Device`] if its driver fails.
    pub fn open(&self) -> Result<Device, EngineError> {
        static OPENED: OnceLock<Mutex<HashMap<usize, Device>>> = OnceLock::new();
        if self.is_usable().is_err() {
            return Err(no_device(&format!("wgpu:{}", self.index)));
        }
        let mut opened = OPENED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(device) = opened.get(&self.index) {
            return Ok(device.clone());
        }
        let failed = |cause: String| EngineError::Device { device: self.to_string(), cause };
        let (device, found) =
            contained(|| self.start()).and_then(|started| started.map_err(|e| e.to_string())).map_err(failed)?;
        if found.name != self.info.name || found.device_pci_bus_id != self.info.device_pci_bus_id {
            return Err(failed(format!("the driver opened {} in its place", found.name)));
        }
        opened.insert(self.index, device.clone());
        Ok(device)
    }

    fn start(&self) -> Result<(Device, AdapterInfo), WgpuInitError> {
        let kind = match self.kind {
            AdapterKind::Discrete => DeviceKind::DiscreteGpu(self.index_in_kind),
            AdapterKind::Integrated => DeviceKind::IntegratedGpu(self.index_in_kind),
            AdapterKind::Virtual => DeviceKind::VirtualGpu(self.index_in_kind),
            AdapterKind::Unknown | AdapterKind::Software => DeviceKind::Cpu,
        };
        let api = match self.info.backend {
            Backend::Metal => WgpuBackend::Metal,
            Backend::Dx12 => WgpuBackend::Dx12,
            _ => WgpuBackend::Vulkan,
        };
        let (device, setup) = Device::wgpu_options().device_kind(kind).graphics_api(api).init_with_setup()?;
        Ok((device, setup.adapter.get_info()))
    }
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wgpu:{} ({}, {}, {})", self.index, self.info.name, self.kind, self.graphics_api())
    }
}

struct Listing {
    adapters: Vec<Adapter>,
    /// They stay: drivers do not like them to come and go.
    _instances: Vec<Instance>,
}

/// The adapters of this machine, asked for once per process; none where there is no driver.
///
/// # Errors
/// What a driver said that failed while it was asked.
pub fn list() -> Result<&'static [Adapter], &'static str> {
    static LISTED: OnceLock<Result<Listing, String>> = OnceLock::new();
    let listed = LISTED.get_or_init(|| {
        contained(|| {
            let (mut infos, mut instances) = (Vec::new(), Vec::new());
            for api in [Backend::Metal, Backend::Vulkan, Backend::Dx12] {
                let (instance, found) = ask(api);
                instances.push(instance);
                let has_hardware = found.iter().any(|info| kind(info) != AdapterKind::Software);
                if has_hardware || infos.is_empty() {
                    infos = found;
                }
                if has_hardware {
                    break;
                }
            }
            Listing { adapters: numbered(infos), _instances: instances }
        })
    });
    listed.as_ref().map(|listing| &listing.adapters[..]).map_err(|cause| &cause[..])
}

/// Adapter number `index`, or with `None` the first that is usable.
///
/// # Errors
/// [`EngineError::NoDevice`] if it is not there, or is not usable.
pub fn find(index: Option<usize>) -> Result<&'static Adapter, EngineError> {
    let requested = index.map_or_else(|| "wgpu".to_owned(), |index| format!("wgpu:{index}"));
    let usable = list().unwrap_or_default().iter().filter(|adapter| adapter.is_usable().is_ok());
    let found = usable.into_iter().find(|adapter| index.is_none_or(|index| adapter.index == index));
    found.ok_or_else(|| no_device(&requested))
}

fn no_device(requested: &str) -> EngineError {
    let listed = match list() {
        Ok(adapters) => adapters
            .iter()
            .map(|adapter| match adapter.is_usable() {
                Ok(()) => format!(", {adapter}"),
                Err(cause) => format!(", but not {adapter}: {cause}"),
            })
            .collect(),
        Err(cause) => format!(" (a graphics driver failed: {cause})"),
    };
    EngineError::NoDevice { requested: requested.to_owned(), available: format!("cpu{listed}") }
}

fn ask(api: Backend) -> (Instance, Vec<AdapterInfo>) {
    let descriptor = InstanceDescriptor { backends: api.into(), ..InstanceDescriptor::new_without_display_handle() };
    let instance = Instance::new(descriptor);
    let adapters = at_once(instance.enumerate_adapters(api.into())).unwrap_or_default();
    (instance, adapters.iter().map(wgpu::Adapter::get_info).collect())
}

/// Outside browsers, wgpu's futures are ready when they are made.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn numbered(infos: Vec<AdapterInfo>) -> Vec<Adapter> {
    let mut counts = HashMap::new();
    let mut adapters: Vec<Adapter> = infos
        .into_iter()
        .map(|info| {
            let kind = kind(&info);
            let count = counts.entry(info.device_type as u8).or_insert(0);
            *count += 1;
            Adapter { index: 0, kind, info, index_in_kind: *count - 1 }
        })
        .collect();
    adapters.sort_by_key(|adapter| adapter.kind);
    for (index, adapter) in adapters.iter_mut().enumerate() {
        adapter.index = index;
    }
    adapters
}

fn kind(info: &AdapterInfo) -> AdapterKind {
    match info.device_type {
        DeviceType::DiscreteGpu => AdapterKind::Discrete,
        DeviceType::IntegratedGpu => AdapterKind::Integrated,
        DeviceType::VirtualGpu => AdapterKind::Virtual,
        DeviceType::Cpu => AdapterKind::Software,
        DeviceType::Other => AdapterKind::Unknown,
    }
}

fn usable(kind: AdapterKind, software_allowed: bool) -> Result<(), &'static str> {
    match kind {
        AdapterKind::Software if software_allowed => Ok(()),
        AdapterKind::Software => Err("it runs on the processor, slower than the CPU engine"),
        AdapterKind::Unknown => Err("its driver does not say what it is"),
        AdapterKind::Discrete | AdapterKind::Integrated | AdapterKind::Virtual => Ok(()),
    }
}

/// A driver that is only half installed makes wgpu panic; that is its failure, not ours.
pub(super) fn contained<T>(ask: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(ask)).map_err(|panic| panic_message(&*panic))
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("the driver panicked").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str, device_type: DeviceType) -> AdapterInfo {
        AdapterInfo { name: name.to_owned(), ..AdapterInfo::new(device_type, Backend::Vulkan) }
    }

    #[test]
    fn hardware_is_numbered_first_and_counted_by_kind() {
        let adapters = numbered(vec![
            info("llvmpipe", DeviceType::Cpu),
            info("iris", DeviceType::IntegratedGpu),
            info("first card", DeviceType::DiscreteGpu),
            info("second card", DeviceType::DiscreteGpu),
        ]);
        let listed: Vec<_> = adapters.iter().map(|a| (a.index, a.name(), a.index_in_kind)).collect();
        assert_eq!(listed, [(0, "first card", 0), (1, "second card", 1), (2, "iris", 0), (3, "llvmpipe", 0)]);
        assert_eq!(adapters[0].to_string(), "wgpu:0 (first card, discrete GPU, Vulkan)");
    }

    #[test]
    fn software_is_no_gpu_but_for_tests() {
        for kind in [AdapterKind::Discrete, AdapterKind::Integrated, AdapterKind::Virtual] {
            assert!(usable(kind, false).is_ok() && usable(kind, true).is_ok(), "{kind}");
        }
        assert!(usable(AdapterKind::Software, false).is_err() && usable(AdapterKind::Unknown, true).is_err());
        assert!(usable(AdapterKind::Software, true).is_ok());
    }

    #[test]
    fn an_adapter_that_is_not_there_is_refused_with_what_there_is() {
        let error = find(Some(99)).expect_err("no machine has so many").to_string();
        assert!(error.contains("'wgpu:99'") && error.contains("available: cpu"), "{error}");
        for adapter in list().unwrap_or_default() {
            assert!(error.contains(adapter.name()), "{error}");
        }
    }

    #[test]
    fn a_panicking_driver_is_contained() {
        assert_eq!(contained(|| 3), Ok(3));
        assert_eq!(contained::<()>(|| panic!("no {}", "loader")), Err("no loader".to_owned()));
    }
}
