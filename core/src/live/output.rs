//! Frames on their way to an output device.
//!
//! ```text
//! decoder -> Feeder --- stereo frames --> ring -> Renderer, in the device's callback -> device
//!               |------ playing, volume, discard: atomics -----^      |
//!               '<----- frames handed over, when, latency: triple buffer
//! ```
//!
//! The callback's side neither allocates, locks nor prints. What it has handed over is heard later, by the device's latency;
//! [`Feeder::heard`] takes that into account, so that a playhead is where the ear is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use ringbuf::traits::{Consumer, Observer, Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};

use super::{Clock, Signals};

/// Frames that wait in the ring, in seconds: longer than a decoder is busy with a packet, or a machine with something else.
const RING_SECS: f64 = 1.0;

/// Time in which the sound is faded in and out, so that stopping does not click.
const FADE_SECS: f32 = 0.005;

/// Frames taken from the ring at a time, on the stack.
const PIECE: usize = 256;

/// Why nothing can be played.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    /// There is no output device.
    #[error("there is no output device to play on: {cause}; connect one, or start PipeWire or PulseAudio")]
    NoDevice {
        /// What the system said.
        cause: String,
    },
    /// There is one and it cannot be used, at least not now.
    #[error(
        "{device} cannot be played on: {cause}; close other programs that use it, or choose another in the system's settings"
    )]
    Unusable {
        /// The device.
        device: String,
        /// What the system said.
        cause: String,
    },
}

/// An output device that plays. Dropping it ends that.
pub struct Output {
    /// Where its frames come from.
    pub feeder: Feeder,
    /// Its name for people.
    pub name: String,
    /// What keeps it open.
    pub guard: Box<dyn Send>,
}

/// A sound system that plays, real or invented.
pub trait OutputHost: Send + Sync {
    /// Opens the default output device, which then asks for frames.
    ///
    /// # Errors
    /// [`OutputError`], as the system refuses.
    fn open_output(&self, clock: &Arc<dyn Clock>) -> Result<Output, OutputError>;
}

/// What both sides see.
#[derive(Debug)]
struct Shared {
    playing: AtomicBool,
    /// Bits of an `f32`.
    volume: AtomicU32,
    /// Frames before this are passed over.
    discard_until: AtomicU64,
    /// No frames come from here on, and that is no underrun.
    end_at: AtomicU64,
    /// Nanoseconds by the clock at the last callback.
    called_at: AtomicU64,
    /// Frames that were due and not there.
    underruns: AtomicU64,
}

/// What a callback has handed over.
#[derive(Clone, Copy, Debug, Default)]
struct Handed {
    /// Number of its first frame, and of the one after its last.
    first: u64,
    until: u64,
    /// When its first frame is heard.
    heard_at: Duration,
}

/// The decoder's side.
pub struct Feeder {
    frames: HeapProd<f32>,
    handed: triple_buffer::Output<Handed>,
    shared: Arc<Shared>,
    signals: Arc<Signals>,
    clock: Arc<dyn Clock>,
    rate_hz: u32,
    pushed: u64,
    /// Never goes back, whatever a device says of its latency.
    heard: u64,
    opened_at: Duration,
}

/// The callback's side.
pub struct Renderer {
    frames: HeapCons<f32>,
    handed: triple_buffer::Input<Handed>,
    shared: Arc<Shared>,
    signals: Arc<Signals>,
    clock: Arc<dyn Clock>,
    channels: usize,
    popped: u64,
    gain: f32,
    gain_step: f32,
}

/// Both ends of a ring for a device of `rate_hz` and `channels`. Nothing sounds before [`Feeder::set_playing`].
pub fn output_ring(rate_hz: u32, channels: usize, clock: &Arc<dyn Clock>) -> (Feeder, Renderer) {
    let rate_hz = rate_hz.max(1);
    let (frames_in, frames) = HeapRb::new(2 * (RING_SECS * f64::from(rate_hz)) as usize).split();
    let (handed_in, handed) = triple_buffer::triple_buffer(&Handed::default());
    let shared = Arc::new(Shared {
        playing: AtomicBool::new(false),
        volume: AtomicU32::new(1.0_f32.to_bits()),
        discard_until: AtomicU64::new(0),
        end_at: AtomicU64::new(u64::MAX),
        called_at: AtomicU64::new(clock.now().as_nanos() as u64),
        underruns: AtomicU64::new(0),
    });
    let signals = Arc::new(Signals::default());
    let feeder = Feeder {
        frames: frames_in,
        handed,
        shared: Arc::clone(&shared),
        signals: Arc::clone(&signals),
        clock: Arc::clone(clock),
        rate_hz,
        pushed: 0,
        heard: 0,
        opened_at: clock.now(),
    };
    let renderer = Renderer {
        frames,
        handed: handed_in,
        shared,
        signals,
        clock: Arc::clone(clock),
        channels: channels.max(1),
        popped: 0,
        gain: 0.0,
        gain_step: 1.0 / (FADE_SECS * rate_hz as f32),
    };
    (feeder, renderer)
}

impl Feeder {
    /// Frames per second that the device takes.
    pub fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// Frames that fit.
    pub fn room(&self) -> usize {
        self.frames.vacant_len() / 2
    }

    /// Takes stereo frames as far as they fit and returns how many did.
    pub fn push(&mut self, frames: &[f32]) -> usize {
        let count = (frames.len() / 2).min(self.room());
        self.frames.push_slice(&frames[..2 * count]);
        self.pushed += count as u64;
        count
    }

    /// Frames so far.
    pub fn pushed(&self) -> u64 {
        self.pushed
    }

    /// Lets the device sound, or be silent and keep its frames.
    pub fn set_playing(&self, playing: bool) {
        self.shared.playing.store(playing, Ordering::Release);
    }

    /// Loudness, 0 to 1.
    pub fn set_volume(&self, volume: f32) {
        self.shared.volume.store(volume.clamp(0.0, 1.0).to_bits(), Ordering::Relaxed);
    }

    /// Frames that have not been handed over yet are not to be; returns the number of the next.
    pub fn discard(&mut self) -> u64 {
        self.shared.end_at.store(u64::MAX, Ordering::Release);
        self.shared.discard_until.store(self.pushed, Ordering::Release);
        self.heard = self.pushed;
        self.pushed
    }

    /// No more frames come, unless some are [discarded](Self::discard).
    pub fn end(&self) {
        self.shared.end_at.store(self.pushed, Ordering::Release);
    }

    /// Frames that have been heard, discarded ones included.
    pub fn heard(&mut self) -> u64 {
        let Handed { first, until, heard_at } = *self.handed.read();
        let since = self.clock.now().saturating_sub(heard_at).as_secs_f64();
        let now = (first + (since * f64::from(self.rate_hz)) as u64).min(until);
        self.heard = self.heard.max(now);
        self.heard
    }

    /// Frames that were due and not there.
    pub fn underruns(&self) -> u64 {
        self.shared.underruns.load(Ordering::Relaxed)
    }

    /// Time since the device last asked for frames, or since it was opened.
    pub fn silent_for(&self) -> Duration {
        let called_at = Duration::from_nanos(self.shared.called_at.load(Ordering::Relaxed));
        self.clock.now().saturating_sub(called_at.max(self.opened_at))
    }

    /// What the device reports.
    pub(super) fn signals(&self) -> &Signals {
        &self.signals
    }
}

impl Renderer {
    /// Where to report what is no frame.
    pub fn signals(&self) -> Arc<Signals> {
        Arc::clone(&self.signals)
    }

    /// Samples per frame of the device.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Fills `samples`, whole frames of the device, whose first is heard after `latency`. One channel gets the mean of both
    /// sides; of more than two the first two sound. Does not allocate, lock or print.
    pub fn fill(&mut self, samples: &mut [f32], latency: Duration) {
        let now = self.clock.now();
        self.shared.called_at.store(now.as_nanos() as u64, Ordering::Relaxed);
        samples.fill(0.0);
        let discard_until = self.shared.discard_until.load(Ordering::Acquire);
        if self.popped < discard_until {
            self.popped += (self.frames.skip(2 * (discard_until - self.popped) as usize) / 2) as u64;
            self.gain = 0.0;
        }
        let playing = self.shared.playing.load(Ordering::Acquire);
        let volume = f32::from_bits(self.shared.volume.load(Ordering::Relaxed));
        let target = if playing { volume } else { 0.0 };
        let num_frames = samples.len() / self.channels;
        let wanted = if playing { num_frames } else { ((self.gain / self.gain_step).ceil() as usize).min(num_frames) };
        let first = self.popped;
        let mut out = samples.chunks_exact_mut(self.channels).take(wanted);
        let mut piece = [0.0_f32; 2 * PIECE];
        let mut left = wanted;
        while left > 0 {
            let count = self.frames.pop_slice(&mut piece[..2 * left.min(PIECE)]) / 2;
            if count == 0 {
                break;
            }
            for (pair, frame) in piece[..2 * count].chunks_exact(2).zip(&mut out) {
                self.gain += (target - self.gain).clamp(-self.gain_step, self.gain_step);
                match frame {
                    [mono] => *mono = self.gain * (pair[0] + pair[1]) / 2.0,
                    [left, right, ..] => (*left, *right) = (self.gain * pair[0], self.gain * pair[1]),
                    [] => {}
                }
            }
            left -= count;
            self.popped += count as u64;
        }
        if playing
            && left > 0
            && self.popped > discard_until
            && self.popped < self.shared.end_at.load(Ordering::Acquire)
        {
            self.shared.underruns.fetch_add(left as u64, Ordering::Relaxed);
        }
        if self.popped > first {
            self.handed.write(Handed { first, until: self.popped, heard_at: now + latency });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ManualClock;
    use super::*;

    const RATE_HZ: u32 = 1_000;

    fn ring(channels: usize) -> (Feeder, Renderer, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new());
        let shared: Arc<dyn Clock> = clock.clone();
        let (feeder, renderer) = output_ring(RATE_HZ, channels, &shared);
        (feeder, renderer, clock)
    }

    fn ones(num_frames: usize) -> Vec<f32> {
        [0.5, 0.25].repeat(num_frames)
    }

    fn fill(renderer: &mut Renderer, num_frames: usize) -> Vec<f32> {
        let mut samples = vec![9.0; num_frames * renderer.channels()];
        renderer.fill(&mut samples, Duration::from_millis(100));
        samples
    }

    #[test]
    fn nothing_sounds_before_it_may_and_fades_are_short() {
        let (mut feeder, mut renderer, _) = ring(2);
        assert_eq!(feeder.push(&ones(100)), 100);
        assert_eq!(fill(&mut renderer, 10), [0.0; 20]);
        feeder.set_playing(true);
        let sound = fill(&mut renderer, 20);
        assert!(sound[0] > 0.0 && sound[0] < 0.2, "{sound:?}");
        assert_eq!(sound[20..22], [0.5, 0.25]);
        feeder.set_playing(false);
        let sound = fill(&mut renderer, 20);
        assert!(sound[0] > 0.3 && sound[10..].iter().all(|&sample| sample == 0.0), "{sound:?}");
        // What was not heard is kept: 100 less 20, and 5 of the fade.
        feeder.set_playing(true);
        assert_eq!(renderer.frames.occupied_len(), 2 * 75);
    }

    #[test]
    fn channels_of_the_device_are_filled() {
        for (channels, expected) in [(1, vec![0.375]), (2, vec![0.5, 0.25]), (4, vec![0.5, 0.25, 0.0, 0.0])] {
            let (mut feeder, mut renderer, _) = ring(channels);
            feeder.push(&ones(50));
            feeder.set_playing(true);
            let sound = fill(&mut renderer, 50);
            assert_eq!(sound[sound.len() - channels..], expected);
        }
    }

    #[test]
    fn the_position_is_what_is_heard() {
        let (mut feeder, mut renderer, clock) = ring(2);
        feeder.push(&ones(500));
        feeder.set_playing(true);
        fill(&mut renderer, 50);
        assert_eq!(feeder.heard(), 0, "it takes 100 ms to the ear");
        clock.advance(Duration::from_millis(120));
        assert_eq!(feeder.heard(), 20);
        clock.advance(Duration::from_secs(5));
        assert_eq!(feeder.heard(), 50, "no more than was handed over");
        fill(&mut renderer, 50);
        assert_eq!(feeder.heard(), 50, "and never back");
    }

    #[test]
    fn discarded_frames_are_never_heard() {
        let (mut feeder, mut renderer, clock) = ring(2);
        feeder.push(&[0.1, 0.1].repeat(200));
        feeder.set_playing(true);
        fill(&mut renderer, 50);
        assert_eq!(feeder.discard(), 200);
        feeder.push(&ones(100));
        let sound = fill(&mut renderer, 50);
        assert_eq!(sound[98..], [0.5, 0.25], "{sound:?}");
        clock.advance(Duration::from_millis(110));
        assert_eq!(feeder.heard(), 210);
        assert_eq!(feeder.underruns(), 0);
    }

    #[test]
    fn what_is_due_and_not_there_is_counted_unless_it_is_the_end() {
        let (mut feeder, mut renderer, _) = ring(2);
        feeder.set_playing(true);
        fill(&mut renderer, 50);
        assert_eq!(feeder.underruns(), 0, "nothing has begun");
        feeder.push(&ones(30));
        fill(&mut renderer, 50);
        assert_eq!(feeder.underruns(), 20);
        feeder.push(&ones(30));
        feeder.end();
        fill(&mut renderer, 50);
        assert_eq!(feeder.underruns(), 20);
    }
}
