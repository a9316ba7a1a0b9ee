//! A file or video as a source that takes its time.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Clock;
use super::frames::{FrameFormat, FrameSink, Trouble, frame_ring};
use super::source::{Capture, CaptureError};
use crate::SAMPLE_RATE_HZ;
use crate::audio::AudioStream;

/// Samples per piece: about 23 ms, as a sound card would deliver.
const PIECE: usize = 512;

/// Plays `path` silently: its samples come as the clock goes.
///
/// # Errors
/// [`CaptureError::Unusable`] if it cannot be decoded.
pub(super) fn play(path: &Path, clock: &Arc<dyn Clock>) -> Result<Capture, CaptureError> {
    let audio = AudioStream::open(path)
        .map_err(|error| CaptureError::Unusable { device: path.display().to_string(), cause: error.to_string() })?;
    let format = FrameFormat { rate_hz: SAMPLE_RATE_HZ, channels: 1 };
    let (sink, frames) = frame_ring(format, Arc::clone(clock));
    let stop = Arc::new(AtomicBool::new(false));
    let player = {
        let (stop, clock) = (Arc::clone(&stop), Arc::clone(clock));
        thread::Builder::new().name("file-source".to_owned()).spawn(move || pace(audio, sink, &*clock, &stop))
    };
    let player = player.map_err(|error| CaptureError::Unusable {
        device: path.display().to_string(),
        cause: format!("no thread could be started: {error}"),
    })?;
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
