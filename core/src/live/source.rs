//! What can be listened to, and who opens it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Clock, FrameSource};

/// Kind of a device, by which lists are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// A microphone or a line.
    Input,
    /// What the machine plays: a sink's monitor, a loopback.
    System,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "microphones and lines",
            Self::System => "what this machine plays",
        })
    }
}

/// A device that works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Name that stays the same over restarts.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// What it is.
    pub kind: DeviceKind,
    /// The system's choice among those of its kind.
    pub is_default: bool,
}

/// What to listen to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceChoice {
    /// Whatever device of the kind is the system's default, also when that changes.
    Default(DeviceKind),
    /// This device and no other; when it is gone, its return is awaited.
    Device {
        /// [`Device::id`].
        id: String,
        /// [`Device::name`] when it was chosen, for messages while it is gone.
        name: String,
    },
    /// A music or video file, as it would sound.
    File(PathBuf),
}

impl SourceChoice {
    /// The device that is meant, among those there are.
    pub fn find<'d>(&self, devices: &'d [Device]) -> Option<&'d Device> {
        match self {
            Self::Default(kind) => devices.iter().find(|device| device.kind == *kind && device.is_default),
            Self::Device { id, .. } => devices.iter().find(|device| device.id == *id),
            Self::File(_) => None,
        }
    }
}

impl fmt::Display for SourceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default(DeviceKind::Input) => f.write_str("the default microphone"),
            Self::Default(DeviceKind::System) => f.write_str("what this machine plays"),
            Self::Device { name, .. } => f.write_str(name),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Why a device could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaptureError {
    /// It is not there (any more), or its server is not.
    #[error("{device} is not there: {cause}; connect it, or choose another (earmark live --list)")]
    Gone {
        /// The device.
        device: String,
        /// What the system said.
        cause: String,
    },
    /// The system refuses access.
    #[error(
        "{device} may not be listened to: {cause}; allow this program the microphone in the system's privacy settings, \
             or on Linux join the group `audio`"
    )]
    Denied {
        /// The device.
        device: String,
        /// What the system said.
        cause: String,
    },
    /// It is there and cannot be used, at least not now.
    #[error(
        "{device} cannot be used: {cause}; close other programs that use it, or choose another (earmark live --list)"
    )]
    Unusable {
        /// The device.
        device: String,
        /// What the system said.
        cause: String,
    },
    /// There is no sound system to ask.
    #[error("the sound system does not answer: {cause}; start PipeWire or PulseAudio, or listen to a file (--file)")]
    NoSystem {
        /// What the system said.
        cause: String,
    },
}

/// A device that is being listened to. Dropping it ends that.
pub struct Capture {
    /// Its frames.
    pub frames: FrameSource,
    /// What keeps it open.
    pub guard: Box<dyn Send>,
}

/// A sound system, real or invented.
pub trait CaptureHost: Send + Sync {
    /// The devices that work, default ones first within a kind.
    ///
    /// # Errors
    /// [`CaptureError::NoSystem`].
    fn devices(&self) -> Result<Vec<Device>, CaptureError>;

    /// Listens to a device. `patience` says how often frames of this device were lost for want of a buffer: with each
    /// step the host should ask the system for a larger one, which costs latency.
    ///
    /// # Errors
    /// [`CaptureError`], as the system refuses.
    fn open(&self, device: &Device, patience: u32, clock: &Arc<dyn Clock>) -> Result<Capture, CaptureError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_finds_its_device() {
        let device = |id: &str, kind, is_default| Device { id: id.into(), name: id.to_uppercase(), kind, is_default };
        let devices = [
            device("mic", DeviceKind::Input, false),
            device("usb", DeviceKind::Input, true),
            device("monitor", DeviceKind::System, true),
        ];
        let found = |choice: SourceChoice| choice.find(&devices).map(|device| device.id.as_str());
        assert_eq!(found(SourceChoice::Default(DeviceKind::Input)), Some("usb"));
        assert_eq!(found(SourceChoice::Default(DeviceKind::System)), Some("monitor"));
        assert_eq!(found(SourceChoice::Device { id: "mic".into(), name: String::new() }), Some("mic"));
        assert_eq!(found(SourceChoice::Device { id: "gone".into(), name: String::new() }), None);
        assert_eq!(found(SourceChoice::File("mic".into())), None);
    }
}
