//! A sound system that does what a test says, and an engine that hears how loud it is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Clock;
use super::frames::{FrameFormat, FrameSink, Signals, Trouble, frame_ring};
use super::output::{Output, OutputError, OutputHost, Renderer, output_ring};
use super::source::{Capture, CaptureError, CaptureHost, Device};
use crate::WINDOW_SAMPLES;
use crate::engine::{Engine, EngineError, Hop, Sink, WindowResult, WindowStream};

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

/// An output device that plays when a test says so. Clones are the same device.
#[derive(Clone)]
pub struct FakeOutput {
    rate_hz: u32,
    channels: usize,
    state: Arc<Mutex<Playing>>,
}

#[derive(Default)]
struct Playing {
    renderer: Option<Renderer>,
    gone: Option<String>,
    num_opened: usize,
}

/// Marks the end of an output.
struct OutputGuard(Arc<Mutex<Playing>>);

impl Drop for OutputGuard {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).renderer = None;
    }
}

impl FakeOutput {
    /// A device of this rate and so many channels.
    pub fn new(rate_hz: u32, channels: usize) -> Self {
        Self { rate_hz, channels, state: Arc::default() }
    }

    /// Frames per second.
    pub fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// The device's callback runs for so many frames, without latency; `None` if nobody has it open.
    pub fn pull(&self, num_frames: usize) -> Option<Vec<f32>> {
        let mut state = self.playing();
        let mut samples = vec![0.0; num_frames * self.channels];
        state.renderer.as_mut()?.fill(&mut samples, Duration::ZERO);
        Some(samples)
    }

    /// Unplugs it.
    pub fn lose(&self, cause: &str) {
        let mut state = self.playing();
        state.gone = Some(cause.to_owned());
        if let Some(renderer) = state.renderer.take() {
            renderer.signals().report(Trouble::Lost);
        }
    }

    /// Plugs it in again.
    pub fn bring_back(&self) {
        self.playing().gone = None;
    }

    /// How often it was opened.
    pub fn num_opened(&self) -> usize {
        self.playing().num_opened
    }

    fn playing(&self) -> MutexGuard<'_, Playing> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OutputHost for FakeOutput {
    fn open_output(&self, clock: &Arc<dyn Clock>) -> Result<Output, OutputError> {
        let mut state = self.playing();
        if let Some(cause) = &state.gone {
            return Err(OutputError::NoDevice { cause: cause.clone() });
        }
        let (feeder, renderer) = output_ring(self.rate_hz, self.channels, clock);
        state.renderer = Some(renderer);
        state.num_opened += 1;
        drop(state);
        Ok(Output { feeder, name: "The speaker".to_owned(), guard: Box::new(OutputGuard(Arc::clone(&self.state))) })
    }
}

/// An engine that knows three tags: the first is certain where the sound is loud, the second where it is not; the third never.
#[derive(Clone, Copy, Debug)]
pub struct FakeEar;

impl FakeEar {
    /// Its tags.
    pub const TAGS: [&str; 3] = ["loud", "harp", "rock"];
}

struct EarStream {
    samples: Vec<f32>,
    start: u64,
}

impl Engine for FakeEar {
    fn device(&self) -> String {
        "ear".to_owned()
    }

    fn embedding_len(&self) -> usize {
        0
    }

    fn num_tags(&self) -> usize {
        Self::TAGS.len()
    }

    fn stream(&self, _: Hop) -> Box<dyn WindowStream + '_> {
        Box::new(EarStream { samples: Vec::new(), start: 0 })
    }
}

impl WindowStream for EarStream {
    fn push(&mut self, samples: &[f32], sink: &mut Sink<'_>) -> Result<(), EngineError> {
        self.samples.extend_from_slice(samples);
        while self.samples.len() >= WINDOW_SAMPLES {
            let power = self.samples[..WINDOW_SAMPLES].iter().map(|x| x * x).sum::<f32>() / WINDOW_SAMPLES as f32;
            let (loud, harp) = if power.sqrt() > 0.1 { (3.0, -3.0) } else { (-3.0, 0.4) };
            sink(WindowResult { start: self.start, padded: false, embedding: &[], logits: &[loud, harp, -5.0] });
            self.samples.drain(..Hop::DEFAULT.samples());
            self.start += Hop::DEFAULT.samples() as u64;
        }
        Ok(())
    }

    fn finish(&mut self, _: &mut Sink<'_>) -> Result<(), EngineError> {
        self.samples.clear();
        self.start = 0;
        Ok(())
    }
}
