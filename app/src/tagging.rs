//! One file, from bytes to tags over time.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use earmark_core::audio::{AudioError, AudioStream};
use earmark_core::engine::{Engine, Hop, WindowResult};
use earmark_core::tags::{SilenceGate, Taggram};

use crate::batch::Outcome;
use crate::inputs::Input;
use crate::progress::FileProgress;

/// What was heard in a file.
#[derive(Clone, Debug)]
pub struct TaggedFile {
    /// The file, as named or found.
    pub path: PathBuf,
    /// Seconds of audio that were decoded.
    pub duration_s: f64,
    /// Probabilities over time.
    pub taggram: Taggram,
    /// Probabilities of the whole file, `[num_tags]`; `None` if it is silent.
    pub clip_probabilities: Option<Vec<f32>>,
    /// What the decoder met and could live with.
    pub warnings: Vec<String>,
}

/// Decodes and tags a file chunk by chunk, so that memory does not grow with the samples of the file. A failure
/// is `cause; way out`, without the name.
pub fn tag_file(
    input: &Input,
    engine: &dyn Engine,
    hop: Hop,
    mut progress: FileProgress<'_>,
    stop: &AtomicBool,
) -> Outcome<TaggedFile> {
    let mut heard = || -> Result<Option<TaggedFile>, String> {
        let mut audio = AudioStream::open(&input.path).map_err(|error| cause(&error))?;
        let mut stream = engine.stream(hop);
        let mut gate = SilenceGate::new();
        let mut taggram = Taggram::new(engine.num_tags(), hop);
        loop {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let Some(samples) = audio.next_chunk().map_err(|error| cause(&error))? else { break };
            gate.push(samples);
            let mut sink = |window: WindowResult<'_>| taggram.push(window.logits, gate.window_is_silent(window.start));
            stream.push(samples, &mut sink).map_err(|error| error.to_string())?;
            progress.heard(audio.decoded_secs(), audio.declared_secs());
        }
        let mut sink = |window: WindowResult<'_>| taggram.push(window.logits, gate.window_is_silent(window.start));
        stream.finish(&mut sink).map_err(|error| error.to_string())?;
        Ok(Some(TaggedFile {
            path: input.path.clone(),
            duration_s: audio.decoded_secs(),
            clip_probabilities: taggram.clip_probabilities(),
            taggram,
            warnings: audio.warnings().iter().map(ToString::to_string).collect(),
        }))
    };
    match heard() {
        Ok(Some(file)) => Outcome::Done(file),
        Ok(None) => Outcome::Abandoned,
        Err(cause) => Outcome::Failed(cause),
    }
}

/// The cause alone: whoever reports it names the file.
fn cause(error: &AudioError) -> String {
    error.cause().map_or_else(|| error.to_string(), ToString::to_string)
}
