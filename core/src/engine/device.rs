//! Choosing a device by name.

use std::fmt;
use std::str::FromStr;

use super::{CpuEngine, Engine, EngineError};
use crate::model_file::Model;

/// A device as named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The CPU engine, the fastest on a machine without a GPU; a GPU must be asked for by name.
    #[default]
    Auto,
    /// The CPU engine.
    Cpu,
    /// Burn's own CPU backend: the slow reference.
    Flex,
    /// A GPU through wgpu, by its number.
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

/// Puts `model` on the chosen device; `threads` is what the CPU engine may use.
///
/// # Errors
/// [`EngineError::NoDevice`] if the device is not there or this build cannot drive it, [`EngineError::Model`] if the
/// model is not usable.
pub fn open(model: &Model, choice: DeviceChoice, threads: usize) -> Result<Box<dyn Engine>, EngineError> {
    match choice {
        DeviceChoice::Auto | DeviceChoice::Cpu => {
            Ok(Box::new(CpuEngine::new(model, threads).map_err(EngineError::Model)?))
        }
        #[cfg(feature = "burn")]
        DeviceChoice::Flex => Ok(Box::new(super::BurnEngine::flex(model).map_err(EngineError::Model)?)),
        #[cfg(feature = "burn")]
        DeviceChoice::Wgpu(index) => Ok(Box::new(super::BurnEngine::wgpu(model, index)?)),
        #[cfg(not(feature = "burn"))]
        other => Err(EngineError::NoDevice {
            requested: other.to_string(),
            available: "cpu (this build has no GPU support)".into(),
        }),
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
}
