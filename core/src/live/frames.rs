//! Frames on their way from a capture callback to the worker.
//!
//! ```text
//! callback -> FrameSink --- frames ---> ring ---> FrameSource -> worker
//!                 |-------- marks ----> ring ------^     one mark per callback: how many frames so far, how many did
//!                 '-------- signals --> atomics ---^     not fit, and when
//! ```
//!
//! The callback's side neither allocates, locks nor prints, whatever happens: frames that do not fit are counted and
//! forgotten. Marks carry the counts in order, so that the worker knows which frame came when, and where some are missing.
//! Frames pass whole; channels cannot change places.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ringbuf::traits::{Consumer, Observer, Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};

use super::Clock;

/// How long the worker may be busy elsewhere (a slow disk, a suspended process) before frames are dropped.
pub const RING_SECS: usize = 8;

/// Callbacks between two visits of the worker; at one per millisecond this is as long as the frames last.
const MAX_MARKS: usize = RING_SECS * 1_000;

/// Rate and channels of a stream of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameFormat {
    /// Frames per second.
    pub rate_hz: u32,
    /// Samples per frame.
    pub channels: usize,
}

/// What a callback or a source thread tells beside frames, each in an atomic of its own.
#[derive(Debug, Default)]
pub struct Signals {
    trouble: AtomicU8,
    ended: AtomicBool,
    xruns: AtomicU64,
    /// Written by sources that are no audio callback, before `trouble`.
    message: Mutex<Option<String>>,
    /// The same, for what is no trouble.
    notice: Mutex<Option<String>>,
}

/// Why frames cease to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The device or its server is gone.
    Lost,
    /// The system refuses access.
    Denied,
    /// The stream goes on, with another device.
    Rerouted,
}

impl Signals {
    /// Reports trouble. Does not allocate, lock or print.
    pub fn report(&self, trouble: Trouble) {
        let code = match trouble {
            Trouble::Lost => 1,
            Trouble::Denied => 2,
            Trouble::Rerouted => 3,
        };
        self.trouble.store(code, Ordering::Release);
    }

    /// The same with words, for a source that is no audio callback.
    pub(super) fn report_in_words(&self, trouble: Trouble, message: String) {
        *self.message.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
        self.report(trouble);
    }

    /// Something to know, from a source that is no audio callback.
    pub(super) fn tell(&self, notice: String) {
        *self.notice.lock().unwrap_or_else(PoisonError::into_inner) = Some(notice);
    }

    /// What was told since the last call.
    pub(super) fn take_notice(&self) -> Option<String> {
        self.notice.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The trouble reported since the last call, and its words.
    pub(super) fn take_trouble(&self) -> Option<(Trouble, Option<String>)> {
        let trouble = match self.trouble.swap(0, Ordering::AcqRel) {
            0 => return None,
            2 => Trouble::Denied,
            3 => Trouble::Rerouted,
            _ => Trouble::Lost,
        };
        Some((trouble, self.message.lock().unwrap_or_else(PoisonError::into_inner).take()))
    }

    /// Counts a buffer over- or underrun that the system reported. Their absence proves nothing.
    pub fn count_xrun(&self) {
        self.xruns.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn xruns(&self) -> u64 {
        self.xruns.load(Ordering::Relaxed)
    }

    /// The source has no more frames: a file was played to its end.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// The counts at the end of one callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Frames put into the ring so far.
    pub pushed: u64,
    /// Frames that did not fit so far.
    pub dropped: u64,
    /// When, by the clock.
    pub at: Duration,
}

/// The callback's side.
pub struct FrameSink {
    frames: HeapProd<f32>,
    marks: HeapProd<Mark>,
    channels: usize,
    pushed: u64,
    dropped: u64,
    clock: Arc<dyn Clock>,
    signals: Arc<Signals>,
}

impl FrameSink {
    /// Takes interleaved samples, a whole number of frames. Call [`mark`](Self::mark) once per callback, after its last
    /// piece.
    pub fn push(&mut self, samples: &[f32]) {
        let num_frames = samples.len() / self.channels;
        let room = self.frames.vacant_len() / self.channels;
        let taken = num_frames.min(room);
        self.frames.push_slice(&samples[..taken * self.channels]);
        self.pushed += taken as u64;
        self.dropped += (num_frames - taken) as u64;
    }

    /// Ends a callback: tells how many frames there were, and when.
    pub fn mark(&mut self) {
        // Without room the next mark, whose counts include these, says it.
        let _ = self.marks.try_push(Mark { pushed: self.pushed, dropped: self.dropped, at: self.clock.now() });
    }

    /// Frames that fit, for a source that can wait.
    pub fn room(&self) -> usize {
        self.frames.vacant_len() / self.channels
    }

    /// Where to report what is no frame.
    pub fn signals(&self) -> Arc<Signals> {
        Arc::clone(&self.signals)
    }

    /// Samples per frame.
    pub fn channels(&self) -> usize {
        self.channels
    }
}

/// The worker's side.
pub struct FrameSource {
    frames: HeapCons<f32>,
    marks: HeapCons<Mark>,
    format: FrameFormat,
    popped: u64,
    signals: Arc<Signals>,
}

/// Both ends of a ring for [`RING_SECS`] seconds of `format`.
pub fn frame_ring(format: FrameFormat, clock: Arc<dyn Clock>) -> (FrameSink, FrameSource) {
    let channels = format.channels.max(1);
    let (frames_in, frames) = HeapRb::new(RING_SECS * format.rate_hz.max(1) as usize * channels).split();
    let (marks_in, marks) = HeapRb::new(MAX_MARKS).split();
    let signals = Arc::new(Signals::default());
    let sink = FrameSink {
        frames: frames_in,
        marks: marks_in,
        channels,
        pushed: 0,
        dropped: 0,
        clock,
        signals: Arc::clone(&signals),
    };
    (sink, FrameSource { frames, marks, format: FrameFormat { channels, ..format }, popped: 0, signals })
}

impl FrameSource {
    pub(super) fn format(&self) -> FrameFormat {
        self.format
    }

    pub(super) fn signals(&self) -> &Signals {
        &self.signals
    }

    /// The next mark; its frames up to `pushed` are there to be [popped](Self::pop).
    pub(super) fn next_mark(&mut self) -> Option<Mark> {
        self.marks.try_pop()
    }

    /// Reads interleaved frames up to the mark's `until` into `samples`, as many as fit; returns what was read.
    pub(super) fn pop<'b>(&mut self, until: u64, samples: &'b mut [f32]) -> &'b [f32] {
        let wanted = until.saturating_sub(self.popped) as usize;
        let num_frames = wanted.min(samples.len() / self.format.channels);
        let count = self.frames.pop_slice(&mut samples[..num_frames * self.format.channels]);
        debug_assert_eq!(count % self.format.channels, 0, "frames pass whole");
        self.popped += (count / self.format.channels) as u64;
        &samples[..count]
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::super::ManualClock;
    use super::*;

    fn ring(rate_hz: u32, channels: usize) -> (FrameSink, FrameSource) {
        frame_ring(FrameFormat { rate_hz, channels }, Arc::new(ManualClock::new()))
    }

    #[test]
    fn frames_pass_whole_and_what_does_not_fit_is_counted() {
        // Room for 24 frames of two channels.
        let (mut sink, mut source) = ring(3, 2);
        let samples: Vec<f32> = (0..60).map(|index| index as f32).collect();
        sink.push(&samples);
        sink.mark();
        let mark = source.next_mark().expect("one");
        assert_eq!((mark.pushed, mark.dropped), (24, 6));
        let mut buffer = [0.0; 13];
        let mut read = Vec::new();
        while let popped = source.pop(mark.pushed, &mut buffer)
            && !popped.is_empty()
        {
            assert_eq!(popped.len() % 2, 0);
            read.extend_from_slice(popped);
        }
        assert_eq!(read, samples[..48]);
        assert_eq!(source.next_mark(), None);
    }

    #[test]
    fn marks_that_do_not_fit_are_made_up_by_the_next() {
        let (mut sink, mut source) = ring(10_000, 1);
        for _ in 0..MAX_MARKS + 10 {
            sink.push(&[0.5]);
            sink.mark();
        }
        let mut last = None;
        while let Some(mark) = source.next_mark() {
            last = Some(mark.pushed);
        }
        assert_eq!(last, Some(MAX_MARKS as u64));
        sink.push(&[0.5]);
        sink.mark();
        assert_eq!(source.next_mark().expect("one").pushed, MAX_MARKS as u64 + 11);
    }

    const NUM_FRAMES: u64 = 300_000;

    #[test]
    fn two_threads_agree_on_every_frame() {
        let (mut sink, mut source) = ring(48_000, 2);
        let producer = thread::spawn(move || {
            let mut next = 0_u64;
            let mut piece = Vec::new();
            while next < NUM_FRAMES {
                piece.clear();
                let len = (next % 479 + 1).min(NUM_FRAMES - next);
                (next..next + len).for_each(|frame| piece.extend([frame as f32, -(frame as f32)]));
                sink.push(&piece);
                sink.mark();
                next += len;
            }
            sink.dropped
        });
        let mut buffer = [0.0; 1_000];
        let (mut received, mut dropped, mut last) = (0, 0, -1.0);
        while received + dropped < NUM_FRAMES {
            let Some(mark) = source.next_mark() else { continue };
            while let popped = source.pop(mark.pushed, &mut buffer)
                && !popped.is_empty()
            {
                for frame in popped.chunks_exact(2) {
                    assert!(frame[0] > last && (frame[1] + frame[0]).abs() < 1e-6);
                    last = frame[0];
                    received += 1;
                }
            }
            dropped = mark.dropped;
        }
        assert_eq!(producer.join().expect("ends"), dropped);
    }

    #[test]
    fn trouble_is_told_once() {
        let signals = Signals::default();
        assert_eq!(signals.take_trouble(), None);
        signals.report_in_words(Trouble::Lost, "gone".to_owned());
        assert_eq!(signals.take_trouble(), Some((Trouble::Lost, Some("gone".to_owned()))));
        assert_eq!(signals.take_trouble(), None);
        signals.report(Trouble::Denied);
        assert_eq!(signals.take_trouble(), Some((Trouble::Denied, None)));
    }
}
