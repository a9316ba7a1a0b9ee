//! Choosing a device by name, and trusting it.
//!
//! ```text
//! name -> adapter -> engine -> self-test against the CPU engine -> race (auto) -> engine with a fallback
//!           |          |           |                                 |
//!           |          +-----------+---------------------------------+--> the CPU engine, and a notice that says why
//!           +--> error: no such device, with those that there are
//! ```
//!
//! Whatever the device, the caller is told through notices when it is not the one asked for, or stops being it.

use std::fmt;
use std::str::FromStr;

#[cfg(feature = "burn")]
use super::{BurnEngine, FallbackEngine, adapters, self_test};
use super::{CpuEngine, Engine, EngineError, Hop};
use crate::model_file::Model;

/// A device as named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// A hardware GPU where it is there, right and faster than the CPU engine; else the CPU engine.
    #[default]
    Auto,
    /// The CPU engine.
    Cpu,
    /// Burn's own CPU backend: the slow reference.
    Flex,
    /// A GPU through wgpu: the adapter with this number ([`adapters`](super::adapters)), or the first.
    Wgpu(Option<usize>),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "flex" => Ok(Self::Flex),
            "wgpu" => Ok(Self::Wgpu(None)),
            other => match other.strip_prefix("wgpu:").map(str::parse) {
                Some(Ok(index)) if index < 16 => Ok(Self::Wgpu(Some(index))),
                _ => Err(format!("'{other}' is no device; use auto, cpu, wgpu, wgpu:0, wgpu:1, ... or flex")),
            },
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Flex => f.write_str("flex"),
            Self::Wgpu(None) => f.write_str("wgpu"),
            Self::Wgpu(Some(index)) => write!(f, "wgpu:{index}"),
        }
    }
}

/// What an engine is opened for.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Threads that the CPU engine may use for one stream.
    pub threads: usize,
    /// Stride between windows, at which a GPU must be the faster one to be taken by [`DeviceChoice::Auto`].
    pub hop: Hop,
    /// Whether there is so much to do that starting a GPU can pay. Where there is not, [`DeviceChoice::Auto`] does not
    /// look for one: asking a driver takes from a tenth of a second to several, in which the CPU engine tags minutes of
    /// music.
    pub is_long: bool,
}

/// Receives what the user should know about the device: why it is not the one asked for, or that it failed.
pub type Notify = std::sync::Arc<dyn Fn(&str) + Send + Sync>;

/// Puts `model` on the chosen device. An engine on a GPU has passed a self-test and changes over to the CPU engine when
/// its device fails; a GPU that does not pass is replaced by the CPU engine with a notice.
///
/// # Errors
/// [`EngineError::NoDevice`] if the device is not there or this build cannot drive it, [`EngineError::Model`] if the
/// model is not usable.
#[cfg_attr(not(feature = "burn"), allow(unused_variables))]
pub fn open(model: &Model, choice: DeviceChoice, work: Work, notify: &Notify) -> Result<Box<dyn Engine>, EngineError> {
    let cpu = || CpuEngine::new(model, work.threads).map(Box::new).map_err(EngineError::Model);
    match choice {
        DeviceChoice::Cpu => Ok(cpu()?),
        #[cfg(feature = "burn")]
        DeviceChoice::Flex => Ok(Box::new(BurnEngine::flex(model).map_err(EngineError::Model)?)),
        #[cfg(feature = "burn")]
        DeviceChoice::Auto | DeviceChoice::Wgpu(_) => {
            let Some(adapter) = chosen(choice, work.is_long)? else { return Ok(cpu()?) };
            let cpu = cpu()?;
            let rival = (choice == DeviceChoice::Auto).then_some(work.hop);
            match TestedGpu::new(model, adapter, &*cpu).and_then(|gpu| gpu.outruns(model, rival)) {
                Ok(gpu) => {
                    let notify = notify.clone();
                    Ok(Box::new(FallbackEngine::new(Box::new(gpu.engine), cpu, move |notice| notify(notice))))
                }
                Err(reason) => {
                    notify(&format!("{adapter} is not used: {reason}; computing on {}", cpu.device()));
                    Ok(cpu)
                }
            }
        }
        #[cfg(not(feature = "burn"))]
        DeviceChoice::Auto => Ok(cpu()?),
        #[cfg(not(feature = "burn"))]
        other => Err(EngineError::NoDevice {
            requested: other.to_string(),
            available: "cpu (this build has no GPU support)".into(),
        }),
    }
}

/// A Burn device to train `model`'s network on, and its name. The checks are those of [`open`]: a GPU must compute what
/// the CPU engine computes, and for [`DeviceChoice::Auto`] be faster at it.
///
/// # Errors
/// As [`open`].
#[cfg(feature = "burn")]
pub fn open_for_training(
    model: &Model,
    choice: DeviceChoice,
    notify: &Notify,
) -> Result<(burn::tensor::Device, String), EngineError> {
    let on_cpu = || (burn::tensor::Device::flex(), "cpu (Burn's Flex backend with Earmark's kernels)".to_owned());
    let Some(adapter) = chosen(choice, true)? else { return Ok(on_cpu()) };
    let cpu = CpuEngine::new(model, 1).map_err(EngineError::Model)?;
    let rival = (choice == DeviceChoice::Auto).then_some(Hop::NON_OVERLAPPING);
    match TestedGpu::new(model, adapter, &cpu).and_then(|gpu| gpu.outruns(model, rival)) {
        Ok(gpu) => Ok((gpu.device, gpu.engine.device())),
        Err(reason) => {
            let (device, name) = on_cpu();
            notify(&format!("{adapter} is not used: {reason}; training on {name}"));
            Ok((device, name))
        }
    }
}

/// The adapter that `choice` means; `None` is the CPU.
#[cfg(feature = "burn")]
fn chosen(choice: DeviceChoice, is_long: bool) -> Result<Option<&'static adapters::Adapter>, EngineError> {
    match choice {
        DeviceChoice::Auto if is_long => Ok(adapters::find(None).ok()),
        DeviceChoice::Wgpu(index) => adapters::find(index).map(Some),
        DeviceChoice::Auto | DeviceChoice::Cpu | DeviceChoice::Flex => Ok(None),
    }
}

/// A GPU that has passed its self-test.
#[cfg(feature = "burn")]
pub struct TestedGpu {
    /// The model on it.
    pub engine: BurnEngine,
    /// Its Burn device.
    pub device: burn::tensor::Device,
    /// Largest difference of a logit from the CPU engine's.
    pub max_logit_difference: f32,
}

#[cfg(feature = "burn")]
impl TestedGpu {
    /// Puts `model` on `adapter` and compares it with the model on `cpu`.
    ///
    /// # Errors
    /// Why the adapter cannot be used, as a clause that does not name it.
    pub fn new(model: &Model, adapter: &adapters::Adapter, cpu: &dyn Engine) -> Result<Self, String> {
        let device = adapter.open().map_err(cause)?;
        let engine = adapters::contained(|| BurnEngine::on(model, device.clone(), adapter.to_string()))?;
        let engine = engine.map_err(|error| error.to_string())?;
        let max_logit_difference = self_test::compare(&engine, cpu)?;
        Ok(Self { engine, device, max_logit_difference })
    }

    /// Itself, if it is faster at `hop` than the CPU engine with every processor; without a hop it need not be.
    fn outruns(self, model: &Model, hop: Option<Hop>) -> Result<Self, String> {
        let Some(hop) = hop else { return Ok(self) };
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let cpu = CpuEngine::new(model, processors).map_err(|error| error.to_string())?;
        let speed = |engine: &dyn Engine| self_test::windows_per_sec(engine, hop).map_err(cause);
        let (gpu_speed, cpu_speed) = (speed(&self.engine)?, speed(&cpu)?);
        if gpu_speed > cpu_speed {
            return Ok(self);
        }
        Err(format!("it computes {gpu_speed:.0} windows/s, the CPU engine {cpu_speed:.0}"))
    }
}

/// Of a device's failure, what it reported: whoever says so names the device.
#[cfg(feature = "burn")]
fn cause(error: EngineError) -> String {
    match error {
        EngineError::Device { cause, .. } => cause,
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_others_are_refused() {
        for name in ["auto", "cpu", "flex", "wgpu", "wgpu:0", "wgpu:3"] {
            assert_eq!(name.parse::<DeviceChoice>().expect("known").to_string(), name);
        }
        for name in ["", "gpu", "wgpu:", "wgpu:-1", "wgpu:99", "CPU "] {
            assert!(name.parse::<DeviceChoice>().is_err(), "{name}");
        }
    }

    #[test]
    fn the_cpu_is_opened_without_asking_a_driver() {
        let model = super::super::test_model(None, 1);
        let work = Work { threads: 1, hop: Hop::DEFAULT, is_long: false };
        let silent: Notify = std::sync::Arc::new(|notice: &str| panic!("{notice}"));
        for choice in [DeviceChoice::Auto, DeviceChoice::Cpu] {
            let engine = open(&model, choice, work, &silent).expect("there is always a CPU");
            assert!(engine.device().starts_with("cpu ("), "{}", engine.device());
        }
    }

    #[cfg(feature = "burn")]
    #[test]
    fn a_gpu_that_is_not_there_is_an_error() {
        let model = super::super::test_model(None, 1);
        let work = Work { threads: 1, hop: Hop::DEFAULT, is_long: true };
        let silent: Notify = std::sync::Arc::new(|notice: &str| panic!("{notice}"));
        let choice = DeviceChoice::Wgpu(Some(15));
        let error = open(&model, choice, work, &silent).err().expect("no machine has so many");
        assert!(matches!(&error, EngineError::NoDevice { .. }), "{error}");
        let error = open_for_training(&model, choice, &silent).expect_err("no machine has so many");
        assert!(matches!(&error, EngineError::NoDevice { .. }), "{error}");
    }
}
