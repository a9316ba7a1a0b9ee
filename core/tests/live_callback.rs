//! The callbacks' promise: capture and playback neither allocate nor free, whatever happens around them.
//!
//! A binary of its own, because it replaces the allocator with one that counts, per thread: the callback's alone is
//! watched, while the other end of the ring is emptied.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use earmark_core::live::{Clock, FrameFormat, ManualClock, RING_SECS, Trouble, frame_ring, output_ring};

struct Counting;

thread_local! {
    /// Calls of the allocator on this thread while they are counted.
    static CALLS: Cell<Option<u64>> = const { Cell::new(None) };
}

fn count() {
    CALLS.set(CALLS.get().map(|calls| calls + 1));
}

#[allow(unsafe_code)]
// SAFETY: every call is handed to the system's allocator unchanged; counting touches no memory it manages.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps GlobalAlloc's contract, which is System's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: as above; `pointer` came from System.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Calls of the allocator during `act`.
fn calls(act: impl FnOnce()) -> u64 {
    CALLS.set(Some(0));
    act();
    CALLS.take().expect("counted")
}

#[test]
fn the_counter_counts() {
    assert!(calls(|| drop(std::hint::black_box(vec![0_u8; 100]))) >= 2);
}

#[test]
fn the_callback_never_allocates() {
    const RATE_HZ: u32 = 48_000;
    let format = FrameFormat { rate_hz: RATE_HZ, channels: 2 };
    let (mut sink, source) = frame_ring(format, Arc::new(ManualClock::new()));
    let samples = vec![0.25_f32; 2 * 1_024];
    let signals = sink.signals();
    // More than the ring holds: the first callbacks find room, the last do not; marks run out too.
    let found = calls(|| {
        for _ in 0..2 * RING_SECS * RATE_HZ as usize / 1_024 {
            sink.push(&samples);
            sink.mark();
        }
        for _ in 0..RING_SECS * 2_000 {
            sink.push(&samples[..2]);
            sink.mark();
        }
        signals.count_xrun();
        signals.report(Trouble::Lost);
        signals.report(Trouble::Denied);
        signals.report(Trouble::Rerouted);
    });
    assert_eq!(found, 0, "calls of the allocator in a callback");
    // The other end may go first.
    let dropped = thread::spawn(move || drop(source)).join();
    assert!(dropped.is_ok());
    assert_eq!(calls(|| sink.push(&samples)), 0);
}

#[test]
fn the_playing_callback_never_allocates() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let (mut feeder, mut renderer) = output_ring(48_000, 2, &clock);
    let mut samples = vec![0.0_f32; 2 * 2_400];
    let more = vec![0.5; 9_600];
    feeder.push(&samples);
    feeder.set_playing(true);
    // More than there is, a place that is left, a pause, and another start.
    let mut found = 0;
    let mut sounded = false;
    for step in 0..6 {
        match step {
            2 => {
                feeder.discard();
                feeder.push(&more);
            }
            3 => feeder.set_playing(false),
            4 => feeder.set_playing(true),
            _ => {}
        }
        found += calls(|| renderer.fill(&mut samples, Duration::from_millis(50)));
        sounded |= samples.iter().any(|&sample| sample != 0.0);
    }
    assert_eq!(found, 0, "calls of the allocator in a callback");
    assert!(sounded, "what was pushed sounds");
    assert!(thread::spawn(move || drop(feeder)).join().is_ok());
    assert_eq!(calls(|| renderer.fill(&mut samples, Duration::ZERO)), 0);
}
