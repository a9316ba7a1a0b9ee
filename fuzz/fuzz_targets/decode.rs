//! Any bytes as an audio file: an error or sound samples, in bounded time and memory.
#![no_main]

use earmark_core::audio::{AudioStream, CLAMP};
use libfuzzer_sys::fuzz_target;

/// Output samples after which an input has shown what it can do: 90 s. A few bytes of Opus or FLAC honestly hold this much.
const ENOUGH: usize = 2_000_000;

fuzz_target!(|data: &[u8]| {
    let Ok(mut stream) = AudioStream::from_bytes(data, "fuzz") else { return };
    let mut total = 0;
    while let Ok(Some(chunk)) = stream.next_chunk() {
        assert!(!chunk.is_empty());
        assert!(chunk.iter().all(|sample| sample.abs() <= CLAMP), "an unsound sample");
        total += chunk.len();
        if total > ENOUGH {
            return;
        }
    }
    for warning in stream.warnings() {
        assert!(!warning.to_string().is_empty());
    }
});
