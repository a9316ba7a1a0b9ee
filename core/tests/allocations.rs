//! The live path's promise: a warmed-up stream keeps no more memory, hop after hop.
//!
//! The stream's own buffers are reused. The matrix product of the `gemm` crate takes a packing buffer from the allocator
//! in each call and returns it before the call ends; that is the only traffic, so the bytes in use after every push are
//! exactly those before it. A binary of its own, because it replaces the allocator with one that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use earmark_core::SAMPLE_RATE_HZ;
use earmark_core::engine::{CpuEngine, Engine, Hop};
use earmark_core::model_file::Model;
use earmark_core::weights::Architecture;

struct Counting;

/// Bytes in use, and the most that were in use since the last reset.
static IN_USE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn took(bytes: usize) {
    let now = IN_USE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(now, Ordering::Relaxed);
}

#[allow(unsafe_code)]
// SAFETY: every call is handed to the system's allocator unchanged; counting touches no memory it manages.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller keeps GlobalAlloc's contract, which is System's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above; `pointer` came from System.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        took(size);
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_warm_stream_keeps_no_more_memory() {
    let engine =
        CpuEngine::new(&Model::random(Architecture::scaled(0.125, 3, Some(32), 50), 1), 1).expect("valid model");
    let waveform: Vec<f32> =
        (0..20 * SAMPLE_RATE_HZ as usize).map(|i| ((i * 7919 % 2003) as f32 / 2003.0) - 0.5).collect();
    // 10 ms pieces, as a sound card delivers them; whole hops; uneven pieces.
    for piece in [220, 6_561, 4_999] {
        let mut stream = engine.stream(Hop::DEFAULT);
        let mut results = 0_usize;
        let mut sum = 0.0;
        let (warm_up, live) = waveform.split_at((8 * SAMPLE_RATE_HZ as usize).next_multiple_of(piece));
        for samples in warm_up.chunks(piece) {
            stream.push(samples, &mut |r| sum += r.logits[0]).expect("cpu");
        }
        let before = IN_USE.load(Ordering::Relaxed);
        MOST.store(before, Ordering::Relaxed);
        for samples in live.chunks(piece) {
            let mut sink = |r: earmark_core::engine::WindowResult<'_>| {
                results += 1;
                sum += r.logits[0];
            };
            stream.push(samples, &mut sink).expect("cpu");
            let after = IN_USE.load(Ordering::Relaxed);
            assert_eq!(after, before, "bytes in use changed after {results} hops with pieces of {piece} samples");
        }
        let passing = MOST.load(Ordering::Relaxed) - before;
        assert!(results >= 39, "{results} results in 12 s");
        assert!(sum.is_finite());
        assert!(passing < 1 << 20, "{passing} bytes of packing buffers at once");
    }
}
