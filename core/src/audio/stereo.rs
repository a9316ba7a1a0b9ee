//! Files to be listened to: stereo at the rate of a sound card, from any place on.
//!
//! ```text
//! file -> container and codec -> two sides -> resampler per side -> interleaved frames
//!           ^ seek: the container's own, if it leads before the place; else the file anew, passing over packets
//! ```
//!
//! Time is that of [`AudioStream`](super::AudioStream), which the tags are made of: zero is the first sample that is decoded,
//! also where a codec's priming makes that another moment than the container's zero. Of damaged files the two may drift apart:
//! a seek trusts the container's clock, decoding from the start counts samples.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::decode::SymphoniaSource;
use super::ffmpeg::Ffmpeg;
use super::{AudioError, AudioErrorCause, CLAMP, Resampler, Source, open_source};

/// A file as interleaved stereo frames, piece by piece. Mono files sound on both sides; of more than two channels both sides get
/// the mean, which is what is tagged.
pub struct StereoStream {
    path: PathBuf,
    source: Source,
    rate_hz: u32,
    resamplers: Option<[Resampler; 2]>,
    /// One block at the native rate, and resampled.
    native: [Vec<f32>; 2],
    ready: [Vec<f32>; 2],
    ended: bool,
}

impl StereoStream {
    /// Opens a file with the decoder that reads it correctly, for frames at `rate_hz`.
    ///
    /// # Errors
    /// [`AudioError::File`] if nothing can be decoded.
    pub fn open(path: &Path, rate_hz: u32) -> Result<Self, AudioError> {
        let source = open_source(path, &Ffmpeg::default()).map_err(|cause| named(path, cause))?;
        Ok(Self {
            path: path.to_owned(),
            source,
            rate_hz,
            resamplers: None,
            native: Default::default(),
            ready: Default::default(),
            ended: false,
        })
    }

    /// Frames per second.
    pub fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// Duration that the container claims, in seconds, if it does.
    pub fn declared_secs(&self) -> Option<f64> {
        self.source.declared().map(|declared| declared.secs)
    }

    /// Appends the next frames, left and right in turn, to `frames`: at least one; false at the end and ever after.
    ///
    /// # Errors
    /// [`AudioError::File`] if decoding has to stop. An error ends the stream, until it [seeks](Self::seek).
    pub fn next_chunk(&mut self, frames: &mut Vec<f32>) -> Result<bool, AudioError> {
        self.ready.iter_mut().for_each(Vec::clear);
        while self.ready[0].is_empty() && !self.ended {
            if let Err(cause) = self.advance() {
                self.ended = true;
                return Err(named(&self.path, cause));
            }
        }
        let [left, right] = &self.ready;
        let bounded = |sample: &f32| sample.clamp(-CLAMP, CLAMP);
        frames.extend(left.iter().zip(right).flat_map(|(left, right)| [bounded(left), bounded(right)]));
        Ok(!left.is_empty())
    }

    /// Decodes one block and resamples it into `self.ready`.
    fn advance(&mut self) -> Result<(), AudioErrorCause> {
        self.native.iter_mut().for_each(Vec::clear);
        let rate_hz = match &mut self.source {
            Source::Symphonia(source) => source.next_stereo(&mut self.native),
            Source::Ffmpeg(source) => source.next_stereo(&mut self.native),
        }?;
        if self.resamplers.as_ref().is_some_and(|[left, _]| Some(left.from_hz()) != rate_hz)
            && let Some(resamplers) = self.resamplers.take()
        {
            for (mut resampler, ready) in resamplers.into_iter().zip(&mut self.ready) {
                resampler.finish(ready);
            }
        }
        let Some(from_hz) = rate_hz else {
            self.ended = true;
            return Ok(());
        };
        if self.resamplers.is_none() {
            let new =
                || Resampler::new(from_hz, self.rate_hz).map_err(|_| AudioErrorCause::SampleRate { rate_hz: from_hz });
            self.resamplers = Some([new()?, new()?]);
        }
        if let Some(resamplers) = &mut self.resamplers {
            for ((resampler, native), ready) in resamplers.iter_mut().zip(&self.native).zip(&mut self.ready) {
                resampler.process(native, ready);
            }
        }
        Ok(())
    }

    /// Goes to `secs`: the next frame is the one at that time. At or behind the end there are no more frames.
    ///
    /// # Errors
    /// [`AudioError::File`] if the file has to be opened anew and cannot be.
    pub fn seek(&mut self, secs: f64) -> Result<(), AudioError> {
        let secs = if secs.is_finite() { secs.max(0.0) } else { 0.0 };
        (self.resamplers, self.ended) = (None, false);
        let path = &self.path;
        match &mut self.source {
            Source::Symphonia(source) => {
                if !source.seek(secs) {
                    let anew = SymphoniaSource::open(|| File::open(path));
                    let Ok(mut anew) = anew else {
                        let gone = std::io::Error::other("it changed while it was played");
                        return Err(named(path, AudioErrorCause::Unreadable(gone)));
                    };
                    anew.pass_over(secs);
                    **source = anew;
                }
            }
            Source::Ffmpeg(source) => {
                let anew = Ffmpeg::default().open_at(path, source.track(), secs);
                *source = anew.map_err(|failure| named(path, AudioErrorCause::Ffmpeg(failure)))?;
            }
        }
        Ok(())
    }
}

fn named(path: &Path, cause: AudioErrorCause) -> AudioError {
    AudioError::File { file: path.display().to_string(), cause }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::SAMPLE_RATE_HZ;
    use crate::audio::load;

    /// Frames of both sides until the end, or so many.
    fn read(stream: &mut StereoStream, most: usize) -> Vec<[f32; 2]> {
        let mut frames = Vec::new();
        while frames.len() < 2 * most && stream.next_chunk(&mut frames).expect("decodable") {}
        frames.truncate(2 * most);
        frames.chunks_exact(2).map(|frame| [frame[0], frame[1]]).collect()
    }

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/audio").join(name)
    }

    #[test]
    fn both_sides_together_are_what_is_tagged() {
        for name in ["stereo.flac", "s16.wav", "surround.wav", "vorbis.ogg", "vbr.mp3", "aac.m4a"] {
            let path = fixture(name);
            let mono = load(&path).expect("decodable").0.samples;
            let stereo = read(&mut StereoStream::open(&path, SAMPLE_RATE_HZ).expect("opens"), usize::MAX);
            assert_eq!(stereo.len(), mono.len(), "{name}");
            let worst = stereo.iter().zip(&mono).map(|([l, r], m)| ((l + r) / 2.0 - m).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-4, "{name}: {worst}");
        }
    }

    #[test]
    fn a_place_is_reached_exactly_in_short_files() {
        for name in [
            "s16.wav",
            "s24.wav",
            "s16.aiff",
            "s16.caf",
            "stereo.flac",
            "flac.oga",
            "vorbis.ogg",
            "vorbis.webm",
            "opus.opus",
            "opus.webm",
            "opus.mp4",
            "cbr.mp3",
            "vbr.mp3",
            "no_xing.mp3",
            "mp2.mp2",
            "aac.aac",
            "aac.m4a",
            "aac.mkv",
            "fragmented.mp4",
            "alac.m4a",
            "adpcm_ms.wav",
        ] {
            reaches(&fixture(name), name, &[0.05, 0.0, 0.13]);
        }
    }

    /// Compares what follows a seek with the same stretch of the whole file.
    fn reaches(path: &Path, name: &str, places: &[f64]) {
        const RATE_HZ: u32 = 48_000;
        let mut stream = StereoStream::open(path, RATE_HZ).expect("opens");
        let whole = read(&mut stream, usize::MAX);
        // Matroska's stamps are whole milliseconds and, for AAC, up to two packets off.
        let matroska = path.extension().is_some_and(|extension| extension == "mkv" || extension == "webm");
        let tolerance_ms = if matroska { 45.0 } else { 1.0 };
        for &secs in places.iter().filter(|&&secs| secs < whole.len() as f64 / f64::from(RATE_HZ) - 0.02) {
            stream.seek(secs).expect("leads there");
            let begin = (secs * f64::from(RATE_HZ)).round() as usize;
            let expected = 9_600.min(whole.len().saturating_sub(begin));
            let found = read(&mut stream, expected);
            assert!(found.len() + 64 >= expected, "{name} at {secs}: {} frames", found.len());
            let offset = best_offset(&whole, &found, begin);
            let ms = offset as f64 / f64::from(RATE_HZ) * 1e3;
            println!("{name} at {secs}: off by {ms:.2} ms, {} frames", found.len());
            assert!(ms.abs() <= tolerance_ms, "{name} at {secs}: off by {ms} ms");
        }
    }

    /// By how many frames `found` is later than `begin` in `whole`, within 100 ms.
    fn best_offset(whole: &[[f32; 2]], found: &[[f32; 2]], begin: usize) -> i64 {
        // The resampler begins in silence, the codec may still settle.
        let (from, len) = (found.len() / 4, (found.len() / 2).min(1_000));
        let difference = |offset: i64| -> f64 {
            let start = begin as i64 + from as i64 + offset;
            if start < 0 || start as usize + len > whole.len() {
                return f64::INFINITY;
            }
            let pairs = whole[start as usize..start as usize + len].iter().zip(&found[from..from + len]);
            pairs.map(|(a, b)| f64::from((a[0] - b[0]).abs() + (a[1] - b[1]).abs())).sum()
        };
        // Tones repeat; of offsets that are as good the nearest counts.
        let mut best = (0, difference(0));
        for offset in (1..4_800).flat_map(|step| [step, -step]) {
            let found = difference(offset);
            if found < best.1 - 1e-3 * len as f64 {
                best = (offset, found);
            }
        }
        best.0
    }

    #[test]
    fn a_place_is_reached_exactly_in_long_files() {
        let folder = tempfile::tempdir().expect("a folder");
        // A sweep, which is nowhere as it is elsewhere, with a click each second.
        let source =
            "aevalsrc='0.3*sin(2*PI*(200+7*t)*t)+0.5*lt(mod(t\\,1)\\,0.004)|0.3*sin(2*PI*(300+5*t)*t):s=44100:d=65'";
        let kinds: &[(&str, &[&str])] = &[
            ("long.flac", &[]),
            ("long.wav", &[]),
            ("vbr.mp3", &["-c:a", "libmp3lame", "-q:a", "4"]),
            ("long.ogg", &["-c:a", "libvorbis"]),
            ("long.opus", &["-c:a", "libopus"]),
            ("long.m4a", &["-c:a", "aac"]),
            ("vorbis.mkv", &["-c:a", "libvorbis"]),
            ("opus.webm", &["-c:a", "libopus"]),
            ("aac.mkv", &["-c:a", "aac"]),
            ("long.aac", &["-c:a", "aac"]),
            ("ac3.mkv", &["-c:a", "ac3"]),
        ];
        for (name, options) in kinds {
            let path = folder.path().join(name);
            let mut command = Command::new("ffmpeg");
            command.args(["-v", "error", "-f", "lavfi", "-i", source]).args(*options).arg(&path);
            match command.status() {
                Ok(status) if status.success() => reaches(&path, name, &[40.123, 3.5, 61.0, 64.6, 0.0]),
                Ok(_) => eprintln!("SKIPPED {name}: this ffmpeg cannot write it: seeking in it is NOT tested"),
                Err(_) => {
                    eprintln!("SKIPPED: there is no ffmpeg on the PATH: seeking in long files is NOT tested");
                    return;
                }
            }
        }
    }

    #[test]
    fn behind_the_end_there_is_nothing() {
        let mut stream = StereoStream::open(&fixture("s16.wav"), 44_100).expect("opens");
        stream.seek(100.0).expect("leads nowhere");
        assert!(read(&mut stream, 10).is_empty());
        stream.seek(f64::NAN).expect("is the start");
        assert_eq!(read(&mut stream, 10).len(), 10);
    }
}
