//! Clips at hand: decoded in parallel to 22,050 Hz mono, in memory or in a cache on disk.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use earmark_core::audio::{self, AudioWarning};
use rayon::prelude::*;

use super::cache::{Cache, MappedSamples};
use super::items::Item;
use crate::progress::Progress;

/// Largest magnitude of a stored sample.
const FULL_SCALE: f32 = 32_767.0;

/// A waveform at 22,050 Hz, stored as 16-bit integers times one factor: half the memory of `f32`, with quantisation
/// noise 96 dB below the peak. The integers lie in memory or, mapped, in a file of the [`Cache`].
#[derive(Clone, Debug)]
pub struct ClipAudio {
    samples: Samples,
    scale: f32,
}

#[derive(Clone, Debug)]
enum Samples {
    Memory(Box<[i16]>),
    Mapped(MappedSamples),
}

impl ClipAudio {
    /// Stores a waveform in memory.
    pub fn new(samples: &[f32]) -> Self {
        let peak = samples.iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
        let scale = if peak > 0.0 { peak / FULL_SCALE } else { 1.0 };
        let samples = samples.iter().map(|sample| (sample / scale).round() as i16).collect();
        Self { samples: Samples::Memory(samples), scale }
    }

    /// A waveform in a file of the cache.
    pub(super) fn mapped(samples: MappedSamples, scale: f32) -> Self {
        Self { samples: Samples::Mapped(samples), scale }
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        match &self.samples {
            Samples::Memory(samples) => samples.len(),
            Samples::Mapped(samples) => samples.len(),
        }
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sample `index`, or `None` behind the end.
    pub fn get(&self, index: usize) -> Option<f32> {
        let sample = match &self.samples {
            Samples::Memory(samples) => samples.get(index).copied(),
            Samples::Mapped(samples) => samples.get(index),
        };
        sample.map(|sample| f32::from(sample) * self.scale)
    }

    /// The whole waveform.
    pub fn to_vec(&self) -> Vec<f32> {
        (0..self.len()).map_while(|index| self.get(index)).collect()
    }

    /// Whether every sample is zero.
    pub fn is_silent(&self) -> bool {
        (0..self.len()).all(|index| self.get(index) == Some(0.0))
    }

    /// What a sample is multiplied with.
    pub(super) fn scale(&self) -> f32 {
        self.scale
    }

    /// The integers as little-endian bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        match &self.samples {
            Samples::Memory(samples) => samples.iter().flat_map(|sample| sample.to_le_bytes()).collect(),
            Samples::Mapped(samples) => samples.bytes().to_vec(),
        }
    }
}

/// A decoded file and what decoding it told.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The waveform.
    pub audio: ClipAudio,
    /// Hash of the samples, whatever their loudness: equal for files that decode to the same.
    pub digest: blake3::Hash,
    /// The file ends before what its header declares, or decoding stopped early.
    pub is_truncated: bool,
    /// What the decoder had to say, line by line.
    pub notes: String,
}

/// A labelled clip and its audio.
#[derive(Clone, Debug)]
pub struct Clip {
    /// What the label files say.
    pub entry: Item,
    /// What it sounds like.
    pub audio: ClipAudio,
}

/// Clips that could be decoded, and a message for each that could not.
#[derive(Debug)]
pub struct Loaded {
    /// In the order of the entries.
    pub clips: Vec<Clip>,
    /// One message per clip that is not there or cannot be decoded.
    pub left_out: Vec<String>,
}

/// Decodes `entries` under `root` on all threads, or takes them from the `cache`. A clip that is missing or cannot be
/// decoded is left out and said so.
///
/// # Errors
/// If no clip is left, or if `stop` was raised meanwhile.
pub fn load(
    root: &Path,
    entries: &[&Item],
    cache: Option<&Cache>,
    progress: Progress,
    stop: &AtomicBool,
) -> Result<Loaded> {
    let bar = progress.bar("decoding", entries.len() as u64);
    let decoded: Vec<Result<Clip, String>> = entries
        .par_iter()
        .map(|&entry| {
            let decoded = decode_unless(stop, &root.join(&entry.path), cache);
            bar.inc(1);
            decoded.map(|decoded| Clip { entry: entry.clone(), audio: decoded.audio })
        })
        .collect();
    bar.finish_and_clear();
    if stop.load(Ordering::Relaxed) {
        bail!("interrupted while decoding; nothing was changed, start again with the same command");
    }
    let (mut clips, mut left_out) = (Vec::new(), Vec::new());
    for result in decoded {
        match result {
            Ok(clip) => clips.push(clip),
            Err(message) => left_out.push(message),
        }
    }
    if clips.is_empty() {
        let first = left_out.first().map_or("the split has no clips", String::as_str);
        bail!("{}: none of the {} clips can be read; the first: {first}", root.display(), entries.len());
    }
    Ok(Loaded { clips, left_out })
}

/// Decodes every audio file under `folder`, in the order of their paths.
///
/// # Errors
/// If the folder cannot be read or holds no audio, or if `stop` was raised meanwhile.
pub fn load_folder(
    folder: &Path,
    cache: Option<&Cache>,
    progress: Progress,
    stop: &AtomicBool,
) -> Result<Vec<ClipAudio>> {
    let files = audio_files(folder)?;
    let bar = progress.bar("decoding noise", files.len() as u64);
    let clips: Vec<ClipAudio> = files
        .par_iter()
        .filter_map(|path| {
            let decoded = decode_unless(stop, path, cache).ok();
            bar.inc(1);
            decoded.map(|decoded| decoded.audio)
        })
        .collect();
    bar.finish_and_clear();
    if stop.load(Ordering::Relaxed) {
        bail!("interrupted while decoding; nothing was changed, start again with the same command");
    }
    if clips.is_empty() {
        bail!("{}: no file in this folder could be decoded", folder.display());
    }
    Ok(clips)
}

fn decode_unless(stop: &AtomicBool, path: &Path, cache: Option<&Cache>) -> Result<Decoded, String> {
    if stop.load(Ordering::Relaxed) {
        return Err("interrupted".to_owned());
    }
    decode(path, cache)
}

/// Decodes a file, or takes it from the cache; what is decoded goes into the cache.
///
/// # Errors
/// Names the file and why it cannot be decoded.
pub fn decode(path: &Path, cache: Option<&Cache>) -> Result<Decoded, String> {
    if let Some(cached) = cache.and_then(|cache| cache.get(path)) {
        return Ok(cached);
    }
    let (waveform, warnings) = audio::load(path).map_err(|error| error.to_string())?;
    if waveform.samples.is_empty() {
        return Err(format!("{}: the file holds no samples", path.display()));
    }
    let audio = ClipAudio::new(&waveform.samples);
    let is_truncated =
        |warning: &AudioWarning| matches!(warning, AudioWarning::Truncated { .. } | AudioWarning::StoppedEarly { .. });
    let notes: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    let decoded = Decoded {
        digest: blake3::hash(&audio.to_bytes()),
        audio,
        is_truncated: warnings.iter().any(is_truncated),
        notes: notes.join("\n"),
    };
    Ok(match cache {
        Some(cache) => cache.put(path, decoded),
        None => decoded,
    })
}

/// Every file with the name of an audio file under `folder`, sorted.
///
/// # Errors
/// If a folder cannot be read.
pub fn audio_files(folder: &Path) -> Result<Vec<PathBuf>> {
    const EXTENSIONS: [&str; 13] =
        ["wav", "flac", "ogg", "oga", "mp3", "m4a", "mp4", "aac", "opus", "webm", "mka", "aif", "aiff"];
    let is_audio = |path: &Path| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension.is_some_and(|extension| EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known)))
    };
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let unreadable = |error| anyhow::anyhow!("{}: cannot be read: {error}", folder.display());
        for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let path = entry.path();
            if entry.file_type().map_err(unreadable)?.is_dir() {
                folders.push(path);
            } else if is_audio(&path) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_survive_storage_to_16_bits_of_the_peak() {
        let waveform: Vec<f32> = (0..1_000).map(|n| 1.4 * (n as f32 * 0.05).sin()).collect();
        let audio = ClipAudio::new(&waveform);
        assert_eq!(audio.len(), 1_000);
        for (stored, sample) in audio.to_vec().iter().zip(&waveform) {
            assert!((stored - sample).abs() <= 0.5 * 1.4 / FULL_SCALE + 1e-7);
        }
        assert_eq!(audio.get(1_000), None);
    }

    #[test]
    fn silence_and_nothing_are_stored() {
        assert_eq!(ClipAudio::new(&[0.0; 3]).to_vec(), [0.0; 3]);
        assert!(ClipAudio::new(&[]).is_empty());
    }
}
