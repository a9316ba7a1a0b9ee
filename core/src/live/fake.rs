//! A sound system that does what a test says.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Clock;
use super::frames::{FrameFormat, FrameSink, Signals, Trouble, frame_ring};
use super::source::{Capture, CaptureError, CaptureHost, Device};

/// Invented devices. Clones are the same system.
#[derive(Clone, Default)]
pub struct FakeHost {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    devices: Vec<Device>,
    error: Option<CaptureError>,
    format: Option<FrameFormat>,
    /// Every opened device's id and patience, in order.
    opened: Vec<(String, u32)>,
    /// The callback's side of what is open.
    sink: Option<FrameSink>,
}

/// Marks the end of a capture.
struct Guard(Arc<Mutex<State>>);

impl Drop for Guard {
    fn drop(&mut self) {
        lock(&self.0).sink = None;
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeHost {
    /// A system with these devices, which deliver frames of `format`.
    pub fn new(devices: Vec<Device>, format: FrameFormat) -> Self {
        let host = Self::default();
        {
            let mut state = lock(&host.state);
            (state.devices, state.format) = (devices, Some(format));
        }
        host
    }

    /// Plugs devices in and out.
    pub fn set_devices(&self, devices: Vec<Device>) {
        lock(&self.state).devices = devices;
    }

    /// Makes every attempt to open a device fail, or no more.
    pub fn refuse(&self, error: Option<CaptureError>) {
        lock(&self.state).error = error;
    }

    /// The callback of the open device runs with these samples; false if none is open.
    pub fn deliver(&self, samples: &[f32]) -> bool {
        let mut state = lock(&self.state);
        let Some(sink) = &mut state.sink else { return false };
        sink.push(samples);
        sink.mark();
        true
    }

    /// The open device's error callback reports trouble.
    pub fn trouble(&self, trouble: Trouble) {
        if let Some(signals) = self.signals() {
            signals.report(trouble);
        }
    }

    fn signals(&self) -> Option<Arc<Signals>> {
        lock(&self.state).sink.as_ref().map(FrameSink::signals)
    }

    /// The device that is open.
    pub fn open_device(&self) -> Option<String> {
        let state = lock(&self.state);
        state.sink.as_ref().and_then(|_| state.opened.last()).map(|(id, _)| id.clone())
    }

    /// How often a device was opened, and with which patience the last time.
    pub fn openings(&self) -> (usize, u32) {
        let state = lock(&self.state);
        (state.opened.len(), state.opened.last().map_or(0, |&(_, patience)| patience))
    }
}

impl CaptureHost for FakeHost {
    fn devices(&self) -> Result<Vec<Device>, CaptureError> {
        Ok(lock(&self.state).devices.clone())
    }

    fn open(&self, device: &Device, patience: u32, clock: &Arc<dyn Clock>) -> Result<Capture, CaptureError> {
        let mut state = lock(&self.state);
        if let Some(error) = &state.error {
            return Err(error.clone());
        }
        let gone = |cause: &str| CaptureError::Gone { device: device.name.clone(), cause: cause.to_owned() };
        if !state.devices.iter().any(|known| known.id == device.id) {
            return Err(gone("unplugged"));
        }
        let format = state.format.ok_or_else(|| gone("it has no format"))?;
        let (sink, frames) = frame_ring(format, Arc::clone(clock));
        state.sink = Some(sink);
        state.opened.push((device.id.clone(), patience));
        Ok(Capture { frames, guard: Box::new(Guard(Arc::clone(&self.state))) })
    }
}
