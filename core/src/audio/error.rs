//! What can be wrong with an audio file, in words a user can act on.

use std::fmt;

use super::ffmpeg::FfmpegFailure;
use super::resample::{MAX_RATE_HZ, MIN_RATE_HZ};

/// Most channels a file may have. The largest honest layouts (seventh-order ambisonics, mixing desks) stay far below.
pub const MAX_CHANNELS: usize = 256;

/// Why audio could not be had.
#[derive(Debug, thiserror::Error)]
pub enum AudioError {
    /// One file cannot be used. The others of a batch are not concerned.
    #[error("{file}: {cause}")]
    File {
        /// The file as it was named by the caller.
        file: String,
        /// What is wrong and what helps.
        cause: AudioErrorCause,
    },
    /// A resampler was asked for a rate outside of the supported range.
    #[error("cannot resample from {from_hz} Hz to {to_hz} Hz: both rates must lie in {MIN_RATE_HZ}..={MAX_RATE_HZ} Hz")]
    SampleRate {
        /// Rate of the input in Hz.
        from_hz: u32,
        /// Rate of the output in Hz.
        to_hz: u32,
    },
}

impl AudioError {
    /// The cause, if the error is about a file.
    pub fn cause(&self) -> Option<&AudioErrorCause> {
        match self {
            Self::File { cause, .. } => Some(cause),
            Self::SampleRate { .. } => None,
        }
    }
}

/// What is wrong with a file, and the way out.
#[derive(Debug, thiserror::Error)]
pub enum AudioErrorCause {
    /// The system does not let us read it.
    #[error("cannot be read: {0}; check that the file exists and that you may read it")]
    Unreadable(std::io::Error),
    /// A folder where a file was expected.
    #[error("is a directory, not an audio file; name the files in it")]
    Directory,
    /// A pipe, socket or device: reading it could block forever.
    #[error("is not a regular file; copy the audio to a file first")]
    NotRegular,
    /// Zero bytes.
    #[error("is empty (0 bytes); copy or download it again")]
    Empty,
    /// Neither decoder knows what this is.
    #[error("is not audio, or of a kind that is not known{}; {}", detail(.ffmpeg), hint(.ffmpeg))]
    NotAudio {
        /// Why ffmpeg could not help either.
        ffmpeg: FfmpegFailure,
    },
    /// A container or codec that only ffmpeg reads, and ffmpeg could not be used.
    #[error("{what} needs ffmpeg{}; {}", detail(.ffmpeg), hint(.ffmpeg))]
    NeedsFfmpeg {
        /// Codec or container in words, e.g. `AAC with 6 channels`.
        what: String,
        /// Why ffmpeg could not help.
        ffmpeg: FfmpegFailure,
    },
    /// The container is known, but its structure is broken before any audio.
    #[error("is damaged: {reason}; copy or download it again")]
    Damaged {
        /// What the decoder met.
        reason: String,
    },
    /// A well-formed file without sound.
    #[error("has no audio track; choose a file with sound")]
    NoAudioTrack,
    /// The header says that there are no channels.
    #[error("declares 0 channels, so there is nothing to hear; export it again")]
    ZeroChannels,
    /// More channels than any recording has: a damaged or hostile header.
    #[error("declares {channels} channels, more than {MAX_CHANNELS}; its header is damaged, export it again")]
    TooManyChannels {
        /// What the header says.
        channels: usize,
    },
    /// A sample rate that no recording has.
    #[error(
        "declares a sample rate of {rate_hz} Hz, outside of {MIN_RATE_HZ}..={MAX_RATE_HZ} Hz; \
         its header is damaged, export it again"
    )]
    SampleRate {
        /// What the header says.
        rate_hz: u32,
    },
    /// A packet larger than any codec makes: decoding it could exhaust memory.
    #[error("declares {what}, more than any honest file; its header is damaged, export it again")]
    Absurd {
        /// The quantity and its value.
        what: String,
    },
    /// Everything was read and not one sample came out.
    #[error("holds no audio samples{}; copy or download it again", if *.corrupt_packets == 0 { String::new() }
        else { format!(": all its {} packets are corrupt", .corrupt_packets) })]
    NoSamples {
        /// Packets that the decoder refused.
        corrupt_packets: u64,
    },
    /// More packets were refused than decoded: what came out is noise, or too little to judge.
    #[error(
        "is not audio or damaged beyond use: {corrupt_packets} of its {} packets are corrupt; copy or download it again",
        .corrupt_packets + .good_packets
    )]
    MostlyCorrupt {
        /// Packets that the decoder refused.
        corrupt_packets: u64,
        /// Packets that it decoded.
        good_packets: u64,
    },
    /// The decoder hit a bug of its own. It was stopped; nothing else is affected.
    #[error("made the decoder panic ({message}); the file is probably damaged, convert it, for example with ffmpeg")]
    Panic {
        /// The panic message.
        message: String,
    },
    /// ffmpeg stopped or fell silent in the middle.
    #[error("{0}; try the file with ffmpeg itself to see more")]
    Ffmpeg(FfmpegFailure),
}

fn detail(failure: &FfmpegFailure) -> String {
    match failure {
        FfmpegFailure::Missing | FfmpegFailure::NotAFile => String::new(),
        other => format!(" ({other})"),
    }
}

fn hint(failure: &FfmpegFailure) -> &'static str {
    match failure {
        FfmpegFailure::Missing => {
            "install ffmpeg so that it is on the PATH (Debian, Ubuntu: apt install ffmpeg), or convert the file to FLAC"
        }
        FfmpegFailure::NotAFile => "write the bytes to a file, so that ffmpeg can read it",
        _ => "check that the file plays elsewhere, or convert it to FLAC",
    }
}

/// Something to know about a file that could be decoded all the same.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum AudioWarning {
    /// The file ends before what its header declares.
    Truncated {
        /// Duration that the container claims, in seconds.
        declared_secs: f64,
        /// Duration that could be decoded, in seconds.
        found_secs: f64,
    },
    /// Samples that were NaN or infinite and became 0.
    NonFinite {
        /// Number of samples, over all channels.
        samples: u64,
    },
    /// Samples beyond [`CLAMP`](super::CLAMP) that were clamped.
    Clamped {
        /// Number of samples, over all channels.
        samples: u64,
    },
    /// Packets that the decoder refused; what they held is missing.
    CorruptPackets {
        /// Number of packets.
        packets: u64,
    },
    /// Decoding had to stop before the end of the file.
    StoppedEarly {
        /// Position in the audio, in seconds.
        at_secs: f64,
        /// What the decoder met.
        reason: String,
    },
}

impl fmt::Display for AudioWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { declared_secs, found_secs } => {
                write!(f, "truncated: declares {declared_secs:.2} s, holds {found_secs:.2} s")
            }
            Self::NonFinite { samples } => write!(f, "{samples} samples were not finite and were set to 0"),
            Self::Clamped { samples } => write!(f, "{samples} samples were absurdly loud and were clamped"),
            Self::CorruptPackets { packets } => write!(f, "{packets} corrupt packets were skipped"),
            Self::StoppedEarly { at_secs, reason } => write!(f, "decoding stopped at {at_secs:.2} s: {reason}"),
        }
    }
}
