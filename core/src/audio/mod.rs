//! From files to mono waveforms at 22,050 Hz.
//!
//! ```text
//! file -> container and codec -> channels -> repair, mean -> mono at the native rate -> resampler -> mono, 22,050 Hz
//!         symphonia, or ffmpeg               sanitize                                   rubato
//! ```
//!
//! [`AudioStream`] does this piece by piece in bounded memory; [`load`] does it at once. symphonia decodes what it decodes
//! correctly; an `ffmpeg` on the PATH is used for the rest (more than two channels of AAC, Opus or Vorbis, AC-3, WMA,
//! WavPack, MPEG-TS, AVI, ...), and its absence is an error that names it.
//!
//! Two or more channels become one by their mean, whatever their names: a tagger wants everything that sounds, and a mean
//! can neither clip nor favour a channel.
//!
//! [`StereoStream`] is for listening: both sides, at a sound card's rate, from any place on.
//!
//! [`mix_snr`] adds noise to music in memory. [`copy_packets`] reads a file's audio still encoded.
//!
//! Files are not trusted. A file that makes a decoder panic fails alone; declared sizes do not reserve memory; samples are
//! finite and within ±[`CLAMP`]. What was repaired or is missing is told by [`AudioStream::warnings`].

pub mod augment;
mod decode;
mod error;
mod ffmpeg;
mod mix;
mod packets;
mod resample;
mod sanitize;
mod sniff;
mod stereo;
#[cfg(test)]
mod tests;
mod tonality;

use std::fmt;
use std::fs::File;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

pub use error::{AudioError, AudioErrorCause, AudioWarning, MAX_CHANNELS};
pub use ffmpeg::FfmpegFailure;
pub use mix::mix_snr;
pub use packets::copy_packets;
pub use resample::{MAX_RATE_HZ, MIN_RATE_HZ, Resampler, resample};
pub use sanitize::CLAMP;
pub use stereo::StereoStream;
pub use tonality::TonalityMeter;

use crate::SAMPLE_RATE_HZ;
use decode::{Refusal, SymphoniaSource};
use ffmpeg::{Ffmpeg, FfmpegSource};
#[cfg(feature = "live")]
pub(crate) use sanitize::Sanitizer;
#[cfg(not(feature = "live"))]
use sanitize::Sanitizer;

/// Mono samples with their rate.
#[derive(Clone, Debug, PartialEq)]
pub struct Waveform {
    /// Samples; full scale is ±1.
    pub samples: Vec<f32>,
    /// Samples per second.
    pub sample_rate_hz: u32,
}

impl Waveform {
    /// Duration in seconds.
    pub fn secs(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.sample_rate_hz)
    }
}

/// Who decodes a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoder {
    /// The decoders built in.
    Symphonia,
    /// The `ffmpeg` program.
    Ffmpeg,
}

impl fmt::Display for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Symphonia => "symphonia",
            Self::Ffmpeg => "ffmpeg",
        })
    }
}

/// A duration that a container claims.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Declared {
    secs: f64,
    /// How much less an undamaged file may hold.
    slack_secs: f64,
}

impl Declared {
    /// The duration of one track whose packets last `packet_secs` where the duration counts whole packets.
    ///
    /// Containers round to their clock and may count priming: complete files made by ffmpeg lack at most 0.06 s.
    fn of_track(secs: f64, packet_secs: f64) -> Self {
        Self { secs, slack_secs: (0.002 * secs).max(0.15).max(packet_secs) }
    }

    /// The duration of the longest of several tracks. Sound that ends before its picture is usual, so only a large gap
    /// counts.
    fn of_whole_file(secs: f64) -> Self {
        Self { secs, slack_secs: (0.1 * secs).max(5.0) }
    }
}

/// Why decoding stopped, where the bytes ran out within a packet.
const FILE_ENDS: &str = "the file ends inside a packet";

/// What a source knows at its end.
#[derive(Clone, Debug, Default)]
struct SourceReport {
    sanitizer: Sanitizer,
    corrupt_packets: u64,
    good_packets: u64,
    stopped: Option<String>,
}

/// Encoded audio as mono samples at the native rate.
enum Source {
    Symphonia(Box<SymphoniaSource>),
    Ffmpeg(FfmpegSource),
}

impl Source {
    fn next_block(&mut self, mono: &mut Vec<f32>) -> Result<Option<u32>, AudioErrorCause> {
        match self {
            Self::Symphonia(source) => source.next_block(mono),
            Self::Ffmpeg(source) => source.next_block(mono),
        }
    }

    fn declared(&self) -> Option<Declared> {
        match self {
            Self::Symphonia(source) => source.declared(),
            Self::Ffmpeg(source) => source.declared(),
        }
    }

    fn report(&self) -> SourceReport {
        match self {
            Self::Symphonia(source) => source.report(),
            Self::Ffmpeg(source) => source.report(),
        }
    }
}

/// A file as mono samples at 22,050 Hz, piece by piece. Memory does not grow with the length of the file.
///
/// ```no_run
/// # fn main() -> Result<(), earmark_core::audio::AudioError> {
/// let mut stream = earmark_core::audio::AudioStream::open("concert.flac".as_ref())?;
/// while let Some(samples) = stream.next_chunk()? {
///     println!("{} samples", samples.len());
/// }
/// for warning in stream.warnings() {
///     eprintln!("{warning}");
/// }
/// # Ok(())
/// # }
/// ```
pub struct AudioStream {
    file: String,
    source: Source,
    resampler: Option<Resampler>,
    /// Samples of one block at the native rate.
    native: Vec<f32>,
    /// The chunk that is lent to the caller.
    chunk: Vec<f32>,
    native_secs: f64,
    delivered: u64,
    ended: bool,
    warnings: Vec<AudioWarning>,
}

impl AudioStream {
    /// Opens a file with the decoder that reads it correctly; an `ffmpeg` is looked for on the PATH.
    ///
    /// Of several audio tracks the one that the container marks as default is taken, else the first.
    ///
    /// # Errors
    /// [`AudioError::File`] if nothing can be decoded: see [`AudioErrorCause`].
    pub fn open(path: &Path) -> Result<Self, AudioError> {
        Self::open_using(path, &Ffmpeg::default())
    }

    /// Like [`open`](Self::open), with `program` as ffmpeg.
    ///
    /// # Errors
    /// [`AudioError::File`] if nothing can be decoded: see [`AudioErrorCause`].
    pub fn open_with_ffmpeg(path: &Path, program: &Path) -> Result<Self, AudioError> {
        Self::open_using(path, &Ffmpeg { program: program.to_owned(), ..Ffmpeg::default() })
    }

    /// Opens encoded audio in memory. `name` stands for the file in messages.
    ///
    /// # Errors
    /// [`AudioError::File`] as [`open`](Self::open); what needs ffmpeg cannot be decoded from memory.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>, name: &str) -> Result<Self, AudioError> {
        let bytes = bytes.into();
        let opened = SymphoniaSource::open(|| Ok(Cursor::new(Arc::clone(&bytes))));
        choose_source(opened, |_| Err(FfmpegFailure::NotAFile))
            .map(|source| Self::new(name.to_owned(), source))
            .map_err(|cause| AudioError::File { file: name.to_owned(), cause })
    }

    fn open_using(path: &Path, ffmpeg: &Ffmpeg) -> Result<Self, AudioError> {
        let name = path.display().to_string();
        open_source(path, ffmpeg)
            .map(|source| Self::new(name.clone(), source))
            .map_err(|cause| AudioError::File { file: name, cause })
    }

    fn new(file: String, source: Source) -> Self {
        Self {
            file,
            source,
            resampler: None,
            native: Vec::new(),
            chunk: Vec::new(),
            native_secs: 0.0,
            delivered: 0,
            ended: false,
            warnings: Vec::new(),
        }
    }

    /// The next samples at 22,050 Hz, at least one; `None` at the end and ever after.
    ///
    /// # Errors
    /// [`AudioError::File`] if decoding has to stop without a sound result, or if the file turns out to hold no sample. An
    /// error ends the stream.
    pub fn next_chunk(&mut self) -> Result<Option<&[f32]>, AudioError> {
        self.chunk.clear();
        while self.chunk.is_empty() && !self.ended {
            if let Err(cause) = self.advance() {
                self.ended = true;
                return Err(AudioError::File { file: self.file.clone(), cause });
            }
        }
        // The filter overshoots at steps between clamped samples.
        self.chunk.iter_mut().for_each(|sample| *sample = sample.clamp(-CLAMP, CLAMP));
        self.delivered += self.chunk.len() as u64;
        Ok((!self.chunk.is_empty()).then_some(&self.chunk))
    }

    /// Decodes one block and resamples it into `self.chunk`.
    fn advance(&mut self) -> Result<(), AudioErrorCause> {
        self.native.clear();
        let rate_hz = self.source.next_block(&mut self.native)?;
        // At the end, and where the rate changes within a file, the filter gives what it still holds.
        if self.resampler.as_ref().is_some_and(|resampler| Some(resampler.from_hz()) != rate_hz)
            && let Some(mut resampler) = self.resampler.take()
        {
            resampler.finish(&mut self.chunk);
        }
        let Some(rate_hz) = rate_hz else {
            self.ended = true;
            return self.conclude();
        };
        self.native_secs += self.native.len() as f64 / f64::from(rate_hz);
        if self.resampler.is_none() {
            let resampler = Resampler::new(rate_hz, SAMPLE_RATE_HZ);
            self.resampler = Some(resampler.map_err(|_| AudioErrorCause::SampleRate { rate_hz })?);
        }
        if let Some(resampler) = &mut self.resampler {
            resampler.process(&self.native, &mut self.chunk);
        }
        Ok(())
    }

    /// Draws the conclusions at the end of the file.
    fn conclude(&mut self) -> Result<(), AudioErrorCause> {
        let SourceReport { sanitizer, corrupt_packets, good_packets, stopped } = self.source.report();
        if self.native_secs == 0.0 {
            return Err(AudioErrorCause::NoSamples { corrupt_packets });
        }
        if corrupt_packets > good_packets {
            return Err(AudioErrorCause::MostlyCorrupt { corrupt_packets, good_packets });
        }
        let found_secs = self.native_secs;
        if let Some(declared) = self.source.declared()
            && declared.secs - found_secs > declared.slack_secs
        {
            self.warnings.push(AudioWarning::Truncated { declared_secs: declared.secs, found_secs });
        }
        // That the file ends is said already if it is truncated.
        if let Some(reason) = stopped.filter(|reason| reason != FILE_ENDS || self.warnings.is_empty()) {
            self.warnings.push(AudioWarning::StoppedEarly { at_secs: found_secs, reason });
        }
        if corrupt_packets > 0 {
            self.warnings.push(AudioWarning::CorruptPackets { packets: corrupt_packets });
        }
        if sanitizer.non_finite > 0 {
            self.warnings.push(AudioWarning::NonFinite { samples: sanitizer.non_finite });
        }
        if sanitizer.clamped > 0 {
            self.warnings.push(AudioWarning::Clamped { samples: sanitizer.clamped });
        }
        Ok(())
    }

    /// Duration that the container claims, in seconds, if it does.
    pub fn declared_secs(&self) -> Option<f64> {
        self.source.declared().map(|declared| declared.secs)
    }

    /// Duration of the chunks given so far, in seconds.
    pub fn decoded_secs(&self) -> f64 {
        self.delivered as f64 / f64::from(SAMPLE_RATE_HZ)
    }

    /// What to know about the file; complete once [`next_chunk`](Self::next_chunk) has returned `None`.
    pub fn warnings(&self) -> &[AudioWarning] {
        &self.warnings
    }

    /// Who decodes.
    pub fn decoder(&self) -> Decoder {
        match self.source {
            Source::Symphonia(_) => Decoder::Symphonia,
            Source::Ffmpeg(_) => Decoder::Ffmpeg,
        }
    }
}

/// Decodes a whole file to 22,050 Hz mono.
///
/// # Errors
/// As [`AudioStream::open`] and [`AudioStream::next_chunk`].
pub fn load(path: &Path) -> Result<(Waveform, Vec<AudioWarning>), AudioError> {
    let mut stream = AudioStream::open(path)?;
    let mut samples = Vec::new();
    while let Some(chunk) = stream.next_chunk()? {
        samples.extend_from_slice(chunk);
    }
    Ok((Waveform { samples, sample_rate_hz: SAMPLE_RATE_HZ }, stream.warnings))
}

fn open_source(path: &Path, ffmpeg: &Ffmpeg) -> Result<Source, AudioErrorCause> {
    // Asked before opening: opening a pipe without a writer would block.
    let metadata = std::fs::metadata(path).map_err(AudioErrorCause::Unreadable)?;
    if metadata.is_dir() {
        return Err(AudioErrorCause::Directory);
    }
    if !metadata.is_file() {
        return Err(AudioErrorCause::NotRegular);
    }
    if metadata.len() == 0 {
        return Err(AudioErrorCause::Empty);
    }
    choose_source(SymphoniaSource::open(|| File::open(path)), |track| ffmpeg.open(path, track))
}

/// Decides between the decoders.
fn choose_source(
    opened: Result<SymphoniaSource, Refusal>,
    ffmpeg: impl FnOnce(usize) -> Result<FfmpegSource, FfmpegFailure>,
) -> Result<Source, AudioErrorCause> {
    match opened {
        Ok(source) if source.he_aac_suspect() => {
            // symphonia decodes the lower half of HE-AAC's spectrum and does not say so.
            Ok(ffmpeg(source.audio_track()).map_or_else(|_| Source::Symphonia(Box::new(source)), Source::Ffmpeg))
        }
        Ok(source) => Ok(Source::Symphonia(Box::new(source))),
        Err(Refusal::Final(cause)) => Err(cause),
        Err(Refusal::Damaged(cause)) => ffmpeg(0).map(Source::Ffmpeg).map_err(|_| cause),
        Err(Refusal::Unsupported { what, audio_track }) => {
            ffmpeg(audio_track).map(Source::Ffmpeg).map_err(|failure| match failure {
                FfmpegFailure::NoAudioTrack => AudioErrorCause::NoAudioTrack,
                failure => AudioErrorCause::NeedsFfmpeg { what, ffmpeg: failure },
            })
        }
        Err(Refusal::Unknown) => ffmpeg(0).map(Source::Ffmpeg).map_err(|failure| match failure {
            FfmpegFailure::NoAudioTrack => AudioErrorCause::NoAudioTrack,
            failure => AudioErrorCause::NotAudio { ffmpeg: failure },
        }),
    }
}
