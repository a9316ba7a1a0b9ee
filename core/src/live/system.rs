//! The machine's sound system through cpal.
//!
//! | system | microphones and lines | what the machine plays |
//! | --- | --- | --- |
//! | PipeWire, PulseAudio | sources | the sinks' monitors |
//! | ALSA alone | `default`, `plughw` | - |
//! | Windows (WASAPI) | input devices | output devices, opened for input: loopback |
//! | macOS (CoreAudio, 14.6 and later) | input devices | output devices, opened for input: a tap |
//!
//! Linux is what has been run. A list holds what works: a device that has no input configuration is left out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{BufferSize, ErrorKind, FromSample, Sample, SampleFormat, SizedSample, StreamConfig, SupportedBufferSize};

use super::Clock;
use super::frames::{FrameFormat, FrameSink, Signals, Trouble, frame_ring};
use super::output::{Output, OutputError, OutputHost, Renderer, output_ring};
use super::source::{Capture, CaptureError, CaptureHost, Device, DeviceKind};
use crate::audio::MAX_CHANNELS;

/// How long a server may take to open a stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a server is asked, two seconds each, before the system is taken to have none.
const CONNECT_ATTEMPTS: usize = 3;

/// Buffers to ask for, in milliseconds, by patience. Small ones are what PipeWire serves without loss; a PulseAudio server
/// has no room for more than one of them and needs the last.
const BUFFER_MS: [u32; 3] = [21, 100, 300];

/// Buffer to ask a server for when something is played, in milliseconds; it keeps two. Short enough that pausing and seeking are
/// heard at once, long enough for a busy machine.
const PLAYED_MS: u32 = 50;

/// cpal's name of PulseAudio's host, which PipeWire answers too.
const PULSE: &str = "pulseaudio";

/// Marks the identity of an output device that is listened to.
const LOOPBACK: &str = "loopback:";

/// Suffix of the source that repeats what a sink plays.
const MONITOR: &str = ".monitor";

/// The machine's sound system.
#[derive(Default)]
pub struct SystemHost {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The connection to a sound server, kept while it works.
    server: Option<cpal::Host>,
    /// Whether a device worked when it was first seen. Asking opens it on some systems, which a device in use refuses.
    works: HashMap<String, bool>,
}

impl SystemHost {
    /// Nothing is asked or opened yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Does something with the host; the connection is made anew after `act` failed.
    fn with_host<R>(
        &self,
        act: impl FnOnce(&cpal::Host, &mut HashMap<String, bool>) -> Result<R, cpal::Error>,
    ) -> Result<R, cpal::Error> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let host = known.server.take().unwrap_or_else(connect);
        let result = act(&host, &mut known.works);
        // A server that could be reached is asked again; where there was none, one may have been started since.
        if result.is_ok() && is_pulse(&host) {
            known.server = Some(host);
        }
        result
    }
}

/// The system's sound. A server that is there is asked more than once: on a busy machine the first answer may come too late,
/// and what there is without it is not what the user listens to.
fn connect() -> cpal::Host {
    let server = cpal::available_hosts().into_iter().find(|id| id.to_string().eq_ignore_ascii_case(PULSE));
    if server.is_some() {
        // Without one the server is asked all the same, and says no.
        let _ = cookie::ensure();
    }
    let asked = server.and_then(|id| (0..CONNECT_ATTEMPTS).find_map(|_| cpal::host_from_id(id).ok()));
    asked.unwrap_or_else(cpal::default_host)
}

/// PulseAudio's cookie. Every client of libpulse makes one where there is none, and a server refuses a client that has none;
/// where PipeWire serves, there may never have been another.
mod cookie {
    use std::fs::{self, OpenOptions};
    use std::io::{self, Write};
    use std::path::{Path, PathBuf};

    /// Bytes in a cookie.
    const LEN: usize = 256;

    /// Makes one unless there is one, where cpal's client looks.
    pub(super) fn ensure() -> io::Result<()> {
        let Some(home) = std::env::home_dir() else { return Ok(()) };
        let named = std::env::var_os("PULSE_COOKIE").map(PathBuf::from);
        let known = named.into_iter().chain([home.join(".config/pulse/cookie"), home.join(".pulse-cookie")]);
        if known.into_iter().any(|path| path.exists()) {
            return Ok(());
        }
        make(&home.join(".config/pulse"))
    }

    fn make(folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut bytes = Vec::with_capacity(LEN);
        while bytes.len() < LEN {
            bytes.extend_from_slice(&rand::random::<u64>().to_le_bytes());
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        options.open(folder.join("cookie"))?.write_all(&bytes)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_cookie_is_made_once_and_is_the_users_alone() {
            let home = tempfile::tempdir().expect("a folder");
            let folder = home.path().join(".config/pulse");
            make(&folder).expect("made");
            let path = folder.join("cookie");
            let first = fs::read(&path).expect("readable");
            assert_eq!(first.len(), LEN);
            assert!(first.iter().any(|&byte| byte != first[0]));
            assert!(make(&folder).is_err(), "one that is there stays");
            assert_eq!(fs::read(&path).expect("readable"), first);
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
            }
        }
    }
}

fn is_pulse(host: &cpal::Host) -> bool {
    host.id().to_string().eq_ignore_ascii_case(PULSE)
}

/// Devices of a host with what they are, unprobed, default ones first.
fn enumerate(host: &cpal::Host) -> Result<Vec<(cpal::Device, Device)>, cpal::Error> {
    let id_of = |device: Option<cpal::Device>| device.and_then(|device| device.id().ok()).map(|id| id.id().to_owned());
    let default_input = id_of(host.default_input_device());
    let default_output = id_of(host.default_output_device());
    let is_alsa = host.id().to_string().eq_ignore_ascii_case("alsa");
    let mut found = Vec::new();
    if is_pulse(host) {
        let monitor = default_output.map(|sink| sink + MONITOR);
        for device in host.devices()?.filter(DeviceTrait::supports_input) {
            let Ok(id) = device.id() else { continue };
            let (kind, default) = if id.id().ends_with(MONITOR) {
                (DeviceKind::System, &monitor)
            } else {
                (DeviceKind::Input, &default_input)
            };
            let is_default = default.as_deref() == Some(id.id());
            let known = Device { id: id.id().to_owned(), name: device.to_string(), kind, is_default };
            found.push((device, known));
        }
    } else {
        for device in host.input_devices()? {
            let Ok(id) = device.id() else { continue };
            // Every card has a dozen more names for the same inputs.
            if is_alsa && id.id() != "default" && !id.id().starts_with("plughw:") {
                continue;
            }
            // ALSA's names go on with a line of explanation.
            let name = device.to_string().lines().next().unwrap_or_default().to_owned();
            let is_default = default_input.as_deref() == Some(id.id());
            let known = Device { id: id.id().to_owned(), name, kind: DeviceKind::Input, is_default };
            found.push((device, known));
        }
        let outputs = if is_alsa { Vec::new() } else { host.output_devices()?.collect() };
        for device in outputs {
            let Ok(id) = device.id() else { continue };
            let is_default = default_output.as_deref() == Some(id.id());
            let known = Device {
                id: format!("{LOOPBACK}{}", id.id()),
                name: device.to_string(),
                kind: DeviceKind::System,
                is_default,
            };
            found.push((device, known));
        }
    }
    found.sort_by_key(|(_, device)| (device.kind, !device.is_default));
    Ok(found)
}

/// The configuration in which a device delivers.
fn config_of(device: &cpal::Device, known: &Device) -> Result<cpal::SupportedStreamConfig, cpal::Error> {
    if known.id.starts_with(LOOPBACK) { device.default_output_config() } else { device.default_input_config() }
}

impl CaptureHost for SystemHost {
    fn devices(&self) -> Result<Vec<Device>, CaptureError> {
        self.with_host(|host, works| {
            let found = enumerate(host)?;
            works.retain(|id, _| found.iter().any(|(_, device)| device.id == *id));
            Ok(found
                .into_iter()
                .filter(|(device, known)| {
                    *works.entry(known.id.clone()).or_insert_with(|| config_of(device, known).is_ok())
                })
                .map(|(_, known)| known)
                .collect())
        })
        .map_err(|error| CaptureError::NoSystem { cause: error.to_string() })
    }

    fn open(&self, device: &Device, patience: u32, clock: &Arc<dyn Clock>) -> Result<Capture, CaptureError> {
        let name = || device.name.clone();
        let opened = self.with_host(|host, _| {
            let found = enumerate(host)?.into_iter().find(|(_, known)| known.id == device.id);
            let Some((found, known)) = found else { return Ok(None) };
            let is_pulse = is_pulse(host);
            Ok(Some(listen(&found, &known, is_pulse, patience, clock)))
        });
        match opened {
            Ok(Some(Ok(capture))) => Ok(capture),
            Ok(Some(Err(error))) => Err(refusal(&error, name())),
            Ok(None) => Err(CaptureError::Gone { device: name(), cause: "the system does not list it".to_owned() }),
            Err(error) => Err(CaptureError::NoSystem { cause: error.to_string() }),
        }
    }
}

fn refusal(error: &cpal::Error, device: String) -> CaptureError {
    let cause = error.to_string();
    match error.kind() {
        ErrorKind::PermissionDenied => CaptureError::Denied { device, cause },
        ErrorKind::DeviceNotAvailable | ErrorKind::StreamInvalidated => CaptureError::Gone { device, cause },
        ErrorKind::HostUnavailable => CaptureError::NoSystem { cause },
        _ => CaptureError::Unusable { device, cause },
    }
}

fn listen(
    device: &cpal::Device,
    known: &Device,
    is_pulse: bool,
    patience: u32,
    clock: &Arc<dyn Clock>,
) -> Result<Capture, cpal::Error> {
    let supported = config_of(device, known)?;
    let mut config = supported.config();
    config.buffer_size = buffer_size(&supported, is_pulse, patience);
    // A server converts to what is asked for; elsewhere the device's own format is what there is.
    let sample_format = if is_pulse { SampleFormat::F32 } else { supported.sample_format() };
    if usize::from(config.channels) > MAX_CHANNELS {
        let message = format!("it has {} channels; at most {MAX_CHANNELS} are read", config.channels);
        return Err(cpal::Error::with_message(ErrorKind::UnsupportedConfig, message));
    }
    let format = FrameFormat { rate_hz: config.sample_rate, channels: usize::from(config.channels) };
    let (sink, frames) = frame_ring(format, Arc::clone(clock));
    let stream = match sample_format {
        SampleFormat::F32 => build_f32(device, config, sink),
        SampleFormat::I16 => build::<i16>(device, config, sink),
        SampleFormat::U16 => build::<u16>(device, config, sink),
        SampleFormat::I24 => build::<cpal::I24>(device, config, sink),
        SampleFormat::I32 => build::<i32>(device, config, sink),
        SampleFormat::F64 => build::<f64>(device, config, sink),
        SampleFormat::I8 => build::<i8>(device, config, sink),
        SampleFormat::U8 => build::<u8>(device, config, sink),
        other => {
            let message = format!("its samples are of format {other}, which Earmark does not read");
            return Err(cpal::Error::with_message(ErrorKind::UnsupportedConfig, message));
        }
    }?;
    stream.play()?;
    Ok(Capture { frames, guard: Box::new(stream) })
}

fn buffer_size(supported: &cpal::SupportedStreamConfig, is_pulse: bool, patience: u32) -> BufferSize {
    // Other systems' own choice is small and safe.
    if !is_pulse && patience == 0 {
        return BufferSize::Default;
    }
    let ms = BUFFER_MS[(patience as usize).min(BUFFER_MS.len() - 1)];
    let frames = (u64::from(supported.sample_rate()) * u64::from(ms) / 1_000) as u32;
    match supported.buffer_size() {
        SupportedBufferSize::Range { min, max } => BufferSize::Fixed(frames.clamp(*min, *max.max(min))),
        SupportedBufferSize::Unknown => BufferSize::Default,
    }
}

fn build_f32(device: &cpal::Device, config: StreamConfig, mut sink: FrameSink) -> Result<cpal::Stream, cpal::Error> {
    let signals = sink.signals();
    let callback = move |samples: &[f32], _: &cpal::InputCallbackInfo| {
        sink.push(samples);
        sink.mark();
    };
    device.build_input_stream(config, callback, move |error| tell(&signals, &error), Some(OPEN_TIMEOUT))
}

/// Samples converted at a time, on the stack: at least two frames of [`MAX_CHANNELS`].
const CONVERTED: usize = 2 * MAX_CHANNELS;

fn build<T>(device: &cpal::Device, config: StreamConfig, mut sink: FrameSink) -> Result<cpal::Stream, cpal::Error>
where
    T: SizedSample,
    f32: FromSample<T>,
{
    let signals = sink.signals();
    let callback = move |samples: &[T], _: &cpal::InputCallbackInfo| {
        let mut converted = [0.0_f32; CONVERTED];
        // Whole frames at a time.
        for piece in samples.chunks(CONVERTED - CONVERTED % sink.channels()) {
            for (to, &from) in converted.iter_mut().zip(piece) {
                *to = f32::from_sample(from);
            }
            sink.push(&converted[..piece.len()]);
        }
        sink.mark();
    };
    device.build_input_stream(config, callback, move |error| tell(&signals, &error), Some(OPEN_TIMEOUT))
}

impl OutputHost for SystemHost {
    fn open_output(&self, clock: &Arc<dyn Clock>) -> Result<Output, OutputError> {
        let no_device = |cause: &str| OutputError::NoDevice { cause: cause.to_owned() };
        let opened = self.with_host(|host, _| {
            let Some(device) = host.default_output_device() else { return Ok(Err(no_device("the system lists none"))) };
            let name = device.to_string().lines().next().unwrap_or_default().to_owned();
            let opened = play_on(&device, is_pulse(host), clock).map_err(|error| match error.kind() {
                // What ALSA calls its default may be nothing at all.
                ErrorKind::DeviceNotAvailable | ErrorKind::HostUnavailable => no_device(&error.to_string()),
                _ => OutputError::Unusable { device: name.clone(), cause: error.to_string() },
            });
            Ok(opened.map(|(feeder, guard)| Output { feeder, name, guard }))
        });
        opened.unwrap_or_else(|error: cpal::Error| Err(no_device(&error.to_string())))
    }
}

fn play_on(
    device: &cpal::Device,
    is_pulse: bool,
    clock: &Arc<dyn Clock>,
) -> Result<(super::Feeder, Box<dyn Send>), cpal::Error> {
    let supported = device.default_output_config()?;
    let mut config = supported.config();
    if is_pulse {
        let frames = config.sample_rate * PLAYED_MS / 1_000;
        config.buffer_size = match supported.buffer_size() {
            SupportedBufferSize::Range { min, max } => BufferSize::Fixed(frames.clamp(*min, *max.max(min))),
            SupportedBufferSize::Unknown => BufferSize::Default,
        };
    }
    let sample_format = if is_pulse { SampleFormat::F32 } else { supported.sample_format() };
    if usize::from(config.channels) > MAX_CHANNELS {
        let message = format!("it has {} channels; at most {MAX_CHANNELS} are filled", config.channels);
        return Err(cpal::Error::with_message(ErrorKind::UnsupportedConfig, message));
    }
    let (feeder, renderer) = output_ring(config.sample_rate, usize::from(config.channels), clock);
    let stream = match sample_format {
        SampleFormat::F32 => play_f32(device, config, renderer),
        SampleFormat::I16 => play::<i16>(device, config, renderer),
        SampleFormat::U16 => play::<u16>(device, config, renderer),
        SampleFormat::I24 => play::<cpal::I24>(device, config, renderer),
        SampleFormat::I32 => play::<i32>(device, config, renderer),
        SampleFormat::F64 => play::<f64>(device, config, renderer),
        SampleFormat::I8 => play::<i8>(device, config, renderer),
        SampleFormat::U8 => play::<u8>(device, config, renderer),
        other => {
            let message = format!("its samples are of format {other}, which Earmark does not write");
            return Err(cpal::Error::with_message(ErrorKind::UnsupportedConfig, message));
        }
    }?;
    stream.play()?;
    Ok((feeder, Box::new(stream)))
}

/// Time until the first frame of a callback is heard, as far as the system knows it.
fn latency(info: &cpal::OutputCallbackInfo) -> Duration {
    let timestamp = info.timestamp();
    timestamp.playback.saturating_duration_since(timestamp.callback)
}

fn play_f32(device: &cpal::Device, config: StreamConfig, mut renderer: Renderer) -> Result<cpal::Stream, cpal::Error> {
    let signals = renderer.signals();
    let callback = move |samples: &mut [f32], info: &cpal::OutputCallbackInfo| renderer.fill(samples, latency(info));
    device.build_output_stream(config, callback, move |error| tell(&signals, &error), Some(OPEN_TIMEOUT))
}

fn play<T>(device: &cpal::Device, config: StreamConfig, mut renderer: Renderer) -> Result<cpal::Stream, cpal::Error>
where
    T: SizedSample + FromSample<f32>,
{
    let signals = renderer.signals();
    let (channels, rate_hz) = (renderer.channels(), f64::from(config.sample_rate.max(1)));
    let callback = move |samples: &mut [T], info: &cpal::OutputCallbackInfo| {
        let mut floats = [0.0_f32; CONVERTED];
        let mut before = 0;
        // Whole frames at a time.
        for piece in samples.chunks_mut(CONVERTED - CONVERTED % channels) {
            let later = Duration::from_secs_f64(f64::from(before) / rate_hz);
            renderer.fill(&mut floats[..piece.len()], latency(info) + later);
            before += (piece.len() / channels) as u32;
            for (to, &from) in piece.iter_mut().zip(&floats) {
                *to = T::from_sample(from);
            }
        }
    };
    device.build_output_stream(config, callback, move |error| tell(&signals, &error), Some(OPEN_TIMEOUT))
}

/// What a stream reports between its frames. Runs on the system's threads: no allocation, no lock, no printing.
fn tell(signals: &Signals, error: &cpal::Error) {
    match error.kind() {
        ErrorKind::Xrun => signals.count_xrun(),
        // Not a loss by itself; if it leads to one, the frames say so.
        ErrorKind::RealtimeDenied => {}
        ErrorKind::DeviceChanged => signals.report(Trouble::Rerouted),
        ErrorKind::PermissionDenied => signals.report(Trouble::Denied),
        _ => signals.report(Trouble::Lost),
    }
}
