//! `./dev bench live`: what it costs to listen, and how soon it is said.
//!
//! ```text
//! clip -> 48 kHz stereo, 1,024 frames per callback, as the clock goes -> Live (engine, recorder) -> state, looked at
//! ```
//!
//! An invented device delivers, so that the figures are those of everything behind the callback. Latency is the time from
//! the arrival of a window's last sample to the publication of its state, by the worker's own clock; with --speed it is
//! stretched by that factor, and is not told.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use earmark_core::SAMPLE_RATE_HZ;
use earmark_core::audio::{load, resample};
use earmark_core::engine::CpuEngine;
use earmark_core::live::{
    Clock, Device, DeviceKind, Event, FakeHost, FrameFormat, Live, LiveOptions, Record, RecordOptions, SourceChoice,
    SystemClock,
};
use earmark_core::model_file::Model;

const FORMAT: FrameFormat = FrameFormat { rate_hz: 48_000, channels: 2 };
const CALLBACK_FRAMES: usize = 1_024;

/// Time until buffers have their size, in seconds of sound.
const WARM_UP_SECS: f64 = 10.0;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1));
    let number = |name: &str, default: f64| value(name).map_or(default, |text| text.parse().unwrap());
    let model = value("--model").map_or("assets/model/default.safetensors", String::as_str);
    let clip = value("--clip").map_or("assets/demo/rock.ogg", String::as_str);
    // A soak is an hour of sound in three minutes.
    let is_soak = arguments.iter().any(|a| a == "--soak");
    let speed = number("--speed", if is_soak { 20.0 } else { 1.0 });
    let secs = number("--secs", if is_soak { 3_600.0 } else { 300.0 });

    let model = Model::load(Path::new(model)).unwrap();
    let frames = stereo(Path::new(clip));
    let device = Device { id: "fake".into(), name: "fake".into(), kind: DeviceKind::Input, is_default: true };
    let host = FakeHost::new(vec![device], FORMAT);
    let clock = Arc::new(SystemClock::faster(speed));
    let folder = tempfile::tempdir().unwrap();
    let options = LiveOptions {
        source: SourceChoice::Default(DeviceKind::Input),
        record: RecordOptions { session: Some(folder.path().join("set.jsonl")), ..RecordOptions::default() },
        output: None,
        created: String::new(),
        program: "bench live".into(),
        model_blake3: String::new(),
    };
    let engine = Arc::new(CpuEngine::new(&model, 1).unwrap());
    let mut live = Live::start(engine, &model.metadata, Arc::new(host.clone()), clock.clone(), options).unwrap();

    let (stop, delivered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let device = {
        let (stop, delivered, clock) = (Arc::clone(&stop), Arc::clone(&delivered), clock.clone());
        thread::spawn(move || {
            while host.open_device().is_none() {
                thread::sleep(Duration::from_millis(1));
            }
            let started = clock.now();
            for piece in frames.chunks_exact(CALLBACK_FRAMES * FORMAT.channels).cycle() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let sent = delivered.load(Ordering::Relaxed) + CALLBACK_FRAMES as u64;
                let due = started + Duration::from_secs_f64(sent as f64 / f64::from(FORMAT.rate_hz));
                clock.sleep(due.saturating_sub(clock.now()));
                if host.deliver(piece) {
                    delivered.store(sent, Ordering::Relaxed);
                }
            }
        })
    };

    let mut latencies = Vec::new();
    let mut num_windows = 0;
    let mut warm: Option<Usage> = None;
    let mut last = Usage::now();
    while live.state().received_s < secs {
        // As a screen would, thirty times per second.
        thread::sleep(Duration::from_millis(33));
        while live.event(Duration::ZERO).is_some() {}
        let state = live.state();
        if state.num_windows != num_windows {
            num_windows = state.num_windows;
            if state.received_s > WARM_UP_SECS {
                latencies.push(state.latency_s);
            }
        }
        if warm.is_none() && state.received_s > WARM_UP_SECS {
            warm = Some(Usage::now());
        }
        last = Usage::now();
    }
    stop.store(true, Ordering::Relaxed);
    device.join().unwrap();
    live.stop();
    let mut end = None;
    while let Some(event) = live.event(Duration::ZERO) {
        if let Event::Record(record) = event
            && let Record::End(record) = *record
        {
            end = Some(record);
        }
    }
    let end = end.unwrap();
    let warm = warm.unwrap();
    let arrived = delivered.load(Ordering::Relaxed);
    // The record's seconds are rounded to milliseconds; the state's are not.
    let state = live.state();
    let accounted = ((state.received_s + state.lost_s) * f64::from(FORMAT.rate_hz)).round() as i64;
    let wall = last.at.duration_since(warm.at).as_secs_f64();
    println!("{secs} s of 48 kHz stereo at {speed} x, {num_windows} windows, {} gaps ({:.2} s)", end.gaps, end.lost_s);
    println!("frames in {arrived}, accounted for {accounted}");
    let share = (last.cpu_secs - warm.cpu_secs) / wall;
    let growth = last.rss_mb - warm.rss_mb;
    latencies.sort_by(f64::total_cmp);
    let quantile = |q: f64| latencies.get((latencies.len() as f64 * q) as usize).copied().unwrap_or(f64::NAN) * 1e3;
    let latency = if (speed - 1.0).abs() < 1e-9 {
        format!("latency_p95_ms={:.1} latency_p50_ms={:.1} ", quantile(0.95), quantile(0.5))
    } else {
        String::new()
    };
    println!(
        "RESULT live {latency}cpu_core_share={share:.4} rss_mb={:.1} rss_growth_mb={growth:.1} frames_unaccounted={}",
        last.rss_mb,
        arrived as i64 - accounted
    );
}

/// A clip as a device would deliver it.
fn stereo(clip: &Path) -> Vec<f32> {
    let (waveform, _) = load(clip).unwrap();
    let native = resample(&waveform.samples, SAMPLE_RATE_HZ, FORMAT.rate_hz).unwrap();
    native.iter().flat_map(|&sample| [sample; 2]).collect()
}

/// What the process has used.
struct Usage {
    at: Instant,
    cpu_secs: f64,
    rss_mb: f64,
}

impl Usage {
    fn now() -> Self {
        // Linux: fields 14 and 15 after the name, in hundredths of a second; pages of 4 KiB.
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let fields: Vec<f64> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0.0))
            .collect();
        let field = |index: usize| fields.get(index).copied().unwrap_or(f64::NAN);
        let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages: f64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(f64::NAN);
        Self { at: Instant::now(), cpu_secs: (field(11) + field(12)) / 100.0, rss_mb: pages * 4.0 / 1_024.0 }
    }
}
