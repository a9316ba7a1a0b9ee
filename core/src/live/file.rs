//! A file or video as a source that takes its time, silently or aloud.
//!
//! ```text
//! silently   AudioStream -> as the clock goes ----------------------------------> frames of the source
//! aloud      StereoStream -> output device -> frames that have been heard ------> frames of the source
//! ```
//!
//! Aloud, the device's clock is the file's: what is tagged is what has just left the speaker. A device that is not there, or
//! is lost, leaves the machine's clock and a word about it.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Clock;
use super::frames::{FrameFormat, FrameSink, Trouble, frame_ring};
use super::output::{Output, OutputHost};
use super::source::{Capture, CaptureError};
use crate::SAMPLE_RATE_HZ;
use crate::audio::{AudioStream, StereoStream};

/// Samples per piece: about 23 ms, as a sound card would deliver.
const PIECE: usize = 512;

/// How often what was heard is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(8);

/// A device that has taken nothing for so long is lost.
const STALLED: Duration = Duration::from_secs(2);

/// Plays `path`: aloud on the default device of `output`, if there is one, else silently, its samples coming as the clock goes.
///
/// # Errors
/// [`CaptureError::Unusable`] if it cannot be decoded.
pub(super) fn play(
    path: &Path,
    clock: &Arc<dyn Clock>,
    output: Option<&dyn OutputHost>,
) -> Result<Capture, CaptureError> {
    let unusable = |cause: String| CaptureError::Unusable { device: path.display().to_string(), cause };
    let opened = output.map(|host| host.open_output(clock));
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, their_clock) = (Arc::clone(&stop), Arc::clone(clock));
    let thread = thread::Builder::new().name("file-source".to_owned());
    let (frames, player) = if let Some(Ok(output)) = opened {
        let rate_hz = output.feeder.rate_hz();
        let stream = StereoStream::open(path, rate_hz).map_err(|error| unusable(error.to_string()))?;
        let (sink, frames) = frame_ring(FrameFormat { rate_hz, channels: 2 }, Arc::clone(clock));
        (frames, thread.spawn(move || Aloud::new(stream, output, their_clock).run(sink, &stopped)))
    } else {
        let audio = AudioStream::open(path).map_err(|error| unusable(error.to_string()))?;
        let (sink, frames) = frame_ring(FrameFormat { rate_hz: SAMPLE_RATE_HZ, channels: 1 }, Arc::clone(clock));
        if let Some(Err(error)) = opened {
            sink.signals().tell(format!("{error}; the file is tagged without being heard"));
        }
        (frames, thread.spawn(move || pace(audio, sink, &*their_clock, &stopped)))
    };
    let player = player.map_err(|error| unusable(format!("no thread could be started: {error}")))?;
    Ok(Capture { frames, guard: Box::new(Player { stop, player: Some(player) }) })
}

/// Ends the playing thread.
struct Player {
    stop: Arc<AtomicBool>,
    player: Option<JoinHandle<()>>,
}

impl Drop for Player {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(player) = self.player.take() {
            // A panic in a decoder is contained where it happens; what else could be said here nobody would hear.
            let _ = player.join();
        }
    }
}

fn pace(mut audio: AudioStream, mut sink: FrameSink, clock: &dyn Clock, stop: &AtomicBool) {
    let piece_secs = PIECE as f64 / f64::from(SAMPLE_RATE_HZ);
    let started = clock.now();
    let mut num_pieces = 0_u32;
    let mut waiting: Vec<f32> = Vec::new();
    loop {
        let is_over = match audio.next_chunk() {
            Ok(Some(samples)) => {
                waiting.extend_from_slice(samples);
                false
            }
            Ok(None) => true,
            Err(error) => {
                sink.signals().report_in_words(Trouble::Lost, error.to_string());
                return;
            }
        };
        let whole = if is_over { waiting.len() } else { waiting.len() - waiting.len() % PIECE };
        for piece in waiting[..whole].chunks(PIECE) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            num_pieces += 1;
            // A sample is there when its time has passed, as in a sound card.
            let due = started + Duration::from_secs_f64(f64::from(num_pieces) * piece_secs);
            clock.sleep(due.saturating_sub(clock.now()));
            // A file can wait for a machine that is slower than asked for; a microphone cannot.
            while sink.room() < piece.len() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                clock.sleep(Duration::from_secs_f64(piece_secs));
            }
            sink.push(piece);
            sink.mark();
        }
        waiting.drain(..whole);
        if is_over {
            sink.signals().end();
            return;
        }
    }
}

/// By what time passes for a file that is played aloud.
enum Ear {
    /// What a device has played.
    Device(Output),
    /// The machine's clock, from a frame on that was heard then.
    Clock { heard: u64, at: Duration },
}

/// A file that is heard and tagged in step.
struct Aloud {
    stream: StereoStream,
    ear: Ear,
    clock: Arc<dyn Clock>,
    /// Decoded and not given to the device yet, and how much of it is.
    waiting: Vec<f32>,
    taken: usize,
    is_decoded: bool,
    /// Given to the device and not told yet: samples, and the number of the first frame among them.
    unheard: VecDeque<f32>,
    told: u64,
}

impl Aloud {
    fn new(stream: StereoStream, output: Output, clock: Arc<dyn Clock>) -> Self {
        output.feeder.set_playing(true);
        Self {
            stream,
            ear: Ear::Device(output),
            clock,
            waiting: Vec::new(),
            taken: 0,
            is_decoded: false,
            unheard: VecDeque::new(),
            told: 0,
        }
    }

    fn run(mut self, mut sink: FrameSink, stop: &AtomicBool) {
        let mut piece = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            if let Err(error) = self.feed() {
                sink.signals().report_in_words(Trouble::Lost, error.to_string());
                return;
            }
            if let Some(name) = self.lost_device() {
                sink.signals().tell(format!("{name} is gone; the file is tagged on without being heard"));
            }
            let heard = self.heard();
            // A file can wait for a machine that is slower; a microphone cannot.
            let count = (heard.saturating_sub(self.told) as usize).min(sink.room()).min(self.unheard.len() / 2);
            if count > 0 {
                piece.clear();
                piece.extend(self.unheard.drain(..2 * count));
                sink.push(&piece);
                sink.mark();
                self.told += count as u64;
            }
            if self.is_decoded && self.taken == self.waiting.len() && self.unheard.is_empty() {
                sink.signals().end();
                return;
            }
            self.clock.sleep(LOOK_EVERY);
        }
    }

    /// Keeps the device supplied.
    fn feed(&mut self) -> Result<(), crate::audio::AudioError> {
        loop {
            if self.taken == self.waiting.len() {
                self.waiting.clear();
                self.taken = 0;
                if self.is_decoded {
                    return Ok(());
                }
                self.is_decoded = !self.stream.next_chunk(&mut self.waiting)?;
                if self.is_decoded {
                    if let Ear::Device(output) = &self.ear {
                        output.feeder.end();
                    }
                    return Ok(());
                }
            }
            let waiting = &self.waiting[self.taken..];
            let count = match &mut self.ear {
                Ear::Device(output) => output.feeder.push(waiting),
                // As much as a device would take.
                Ear::Clock { .. } => {
                    (waiting.len() / 2).min((self.stream.rate_hz() as usize).saturating_sub(self.unheard.len() / 2))
                }
            };
            if count == 0 {
                return Ok(());
            }
            self.unheard.extend(&waiting[..2 * count]);
            self.taken += 2 * count;
        }
    }

    fn heard(&mut self) -> u64 {
        match &mut self.ear {
            Ear::Device(output) => output.feeder.heard(),
            Ear::Clock { heard, at } => {
                let since = self.clock.now().saturating_sub(*at).as_secs_f64();
                *heard + (since * f64::from(self.stream.rate_hz())) as u64
            }
        }
    }

    /// The device that has just been lost; the clock goes on in its place.
    fn lost_device(&mut self) -> Option<String> {
        let Ear::Device(output) = &mut self.ear else { return None };
        let is_gone = match output.feeder.signals().take_trouble() {
            Some((Trouble::Rerouted, _)) | None => false,
            Some(_) => true,
        };
        if !is_gone && output.feeder.silent_for() < STALLED {
            return None;
        }
        let name = output.name.clone();
        self.ear = Ear::Clock { heard: output.feeder.heard(), at: self.clock.now() };
        Some(name)
    }
}
