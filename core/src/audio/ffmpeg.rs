//! Decoding with an `ffmpeg` program, for what symphonia cannot do or does wrongly.
//!
//! ffmpeg only demuxes and decodes: it writes every channel at the native rate, and the mean of the channels, the repair
//! of samples and the resampling are ours, so that a file sounds the same to a network whichever decoder read it.
//! (ffmpeg's own `-ac 1` weighs surround channels and drops the bass channel.) The stream is AU: a header of six integers
//! that can be written into a pipe, then big-endian floats.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::error::MAX_CHANNELS;
use super::resample::{MAX_RATE_HZ, MIN_RATE_HZ};
use super::sanitize::Sanitizer;
use super::{AudioErrorCause, Declared, SourceReport};

/// Bytes handed over at a time, and how many such pieces may wait.
const PIECE: usize = 64 << 10;
const WAITING: usize = 4;
/// Samples over all channels that [`FfmpegSource::next_block`] gives at once.
const BLOCK_BYTES: usize = PIECE;
/// How long ffmpeg may be silent before it counts as hung; opening a large film on a slow disk takes seconds.
const PATIENCE: Duration = Duration::from_mins(1);
/// Demuxers that ffmpeg may use: containers of audio and video, and none that follow references to other files or
/// addresses (playlists, `concat`), render text or run scripts.
const DEMUXERS: &str = "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,asf_o,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,iff,loas,\
    m4v,matroska,webm,mlp,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpc,mpc8,mpeg,mpegts,mxf,nut,ogg,oma,rm,shn,tak,truehd,tta,voc,\
    w64,wav,wtv,wv";

/// Why ffmpeg gave no audio.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FfmpegFailure {
    /// There is no such program.
    Missing,
    /// The bytes are in memory; ffmpeg reads files only.
    NotAFile,
    /// The program exists but could not be run.
    NotStarted(String),
    /// ffmpeg says that there is no audio track.
    NoAudioTrack,
    /// ffmpeg refused the file or broke off; its last words.
    Refused(String),
    /// ffmpeg wrote nothing for this long and was ended.
    Silent(Duration),
}

impl fmt::Display for FfmpegFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("ffmpeg is not installed"),
            Self::NotAFile => f.write_str("ffmpeg cannot read from memory"),
            Self::NotStarted(reason) => write!(f, "ffmpeg could not be started: {reason}"),
            Self::NoAudioTrack => f.write_str("ffmpeg finds no audio track"),
            Self::Refused(words) => write!(f, "ffmpeg says: {words}"),
            Self::Silent(patience) => write!(f, "ffmpeg gave nothing for {} s and was ended", patience.as_secs()),
        }
    }
}

/// Which program to run, and how long to wait for it.
#[derive(Clone, Debug)]
pub(crate) struct Ffmpeg {
    pub program: PathBuf,
    pub patience: Duration,
}

impl Default for Ffmpeg {
    fn default() -> Self {
        Self { program: PathBuf::from("ffmpeg"), patience: PATIENCE }
    }
}

/// A running ffmpeg, as mono samples at the native rate. Dropping it ends the program.
pub(crate) struct FfmpegSource {
    child: Child,
    patience: Duration,
    pieces: Option<Receiver<io::Result<Vec<u8>>>>,
    log: Arc<Mutex<Log>>,
    log_ended: Receiver<()>,
    track: usize,
    rate_hz: u32,
    channels: usize,
    /// Bytes that are not decoded yet.
    bytes: Vec<u8>,
    sanitizer: Sanitizer,
    stopped: Option<String>,
}

impl Ffmpeg {
    /// Starts ffmpeg on the audio track number `track` (counted among audio tracks) and waits for its first words.
    pub fn open(&self, path: &Path, track: usize) -> Result<FfmpegSource, FfmpegFailure> {
        self.open_at(path, track, 0.0)
    }

    /// The same from `secs` on: ffmpeg goes to the nearest place before it and decodes until it is reached.
    pub fn open_at(&self, path: &Path, track: usize, secs: f64) -> Result<FfmpegSource, FfmpegFailure> {
        // The prefix keeps a name that begins with a dash, or looks like an address, a file name.
        let mut input = OsString::from("file:");
        input.push(path);
        let from = if secs > 0.0 { vec!["-ss".to_owned(), format!("{secs:.6}")] } else { Vec::new() };
        let mut child = Command::new(&self.program)
            .args(["-hide_banner", "-nostdin", "-nostats", "-v", "info", "-max_alloc", "536870912", "-threads", "1"])
            .args(["-protocol_whitelist", "file", "-format_whitelist", DEMUXERS])
            .args(from)
            .arg("-i")
            .arg(input)
            .args(["-map", &format!("0:a:{track}"), "-vn", "-sn", "-dn", "-map_metadata", "-1"])
            .args(["-c:a", "pcm_f32be", "-f", "au", "pipe:1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => FfmpegFailure::Missing,
                _ => FfmpegFailure::NotStarted(error.to_string()),
            })?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (send_piece, pieces) = sync_channel(WAITING);
        let (send_end, log_ended) = sync_channel(1);
        let log = Arc::new(Mutex::new(Log::default()));
        let (Some(stdout), Some(stderr)) = (stdout, stderr) else { unreachable!("both were piped") };
        // Two threads, because either pipe may fill up while the other is read, and a read cannot time out by itself.
        let shared = Arc::clone(&log);
        thread::spawn(move || forward_audio(stdout, &send_piece));
        thread::spawn(move || follow_log(stderr, &shared, &send_end));
        let mut source = FfmpegSource {
            child,
            patience: self.patience,
            pieces: Some(pieces),
            log,
            log_ended,
            track,
            rate_hz: 0,
            channels: 0,
            bytes: Vec::new(),
            sanitizer: Sanitizer::default(),
            stopped: None,
        };
        source.read_header()?;
        Ok(source)
    }
}

impl FfmpegSource {
    /// AU: magic, offset of the data, its size, encoding, sample rate, channels; all big-endian.
    fn read_header(&mut self) -> Result<(), FfmpegFailure> {
        let header = loop {
            if let Some(header) = self.bytes.get(..24) {
                let field = |n: usize| {
                    u32::from_be_bytes([header[4 * n], header[4 * n + 1], header[4 * n + 2], header[4 * n + 3]])
                };
                let offset = field(1) as usize;
                if &header[..4] != b".snd" || field(3) != 6 || offset > 1 << 20 {
                    return Err(FfmpegFailure::Refused("an unexpected stream".to_owned()));
                }
                if self.bytes.len() >= offset {
                    break (offset, field(4), field(5));
                }
            }
            match self.next_piece()? {
                Some(piece) => self.bytes.extend_from_slice(&piece),
                None => return Err(self.last_words()),
            }
        };
        let (offset, rate_hz, channels) = header;
        if !(MIN_RATE_HZ..=MAX_RATE_HZ).contains(&rate_hz) || !(1..=MAX_CHANNELS as u32).contains(&channels) {
            return Err(FfmpegFailure::Refused(format!("{channels} channels at {rate_hz} Hz")));
        }
        self.bytes.drain(..offset);
        (self.rate_hz, self.channels) = (rate_hz, channels as usize);
        Ok(())
    }

    fn next_piece(&mut self) -> Result<Option<Vec<u8>>, FfmpegFailure> {
        let Some(pieces) = &self.pieces else { return Ok(None) };
        match pieces.recv_timeout(self.patience) {
            Ok(Ok(piece)) => Ok(Some(piece)),
            Ok(Err(error)) => Err(FfmpegFailure::Refused(error.to_string())),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                self.end();
                Err(FfmpegFailure::Silent(self.patience))
            }
        }
    }

    /// What ffmpeg wrote last, once it has ended.
    fn last_words(&mut self) -> FfmpegFailure {
        let _ = self.log_ended.recv_timeout(Duration::from_secs(1));
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.no_audio_track {
            FfmpegFailure::NoAudioTrack
        } else if log.last_line.is_empty() {
            FfmpegFailure::Refused("nothing".to_owned())
        } else {
            FfmpegFailure::Refused(log.last_line.clone())
        }
    }

    fn end(&mut self) {
        self.pieces = None;
        // Fails only if it has ended already, and then `wait` collects it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn declared(&self) -> Option<Declared> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let secs = log.duration_secs.filter(|_| !log.duration_is_guess)?;
        // ffmpeg tells one duration: that of the longest track.
        Some(if log.tracks == 1 { Declared::of_track(secs, 0.0) } else { Declared::of_whole_file(secs) })
    }

    pub fn report(&self) -> SourceReport {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        SourceReport {
            sanitizer: self.sanitizer,
            corrupt_packets: log.complaints,
            // ffmpeg does not count them; it gives up by itself on what it finds hopeless.
            good_packets: u64::MAX,
            stopped: self.stopped.clone(),
        }
    }

    /// Number of the track among the audio tracks.
    pub fn track(&self) -> usize {
        self.track
    }

    /// Bytes of whole frames that are there, at least one frame; `None` at the end.
    fn next_frames(&mut self) -> Result<Option<usize>, AudioErrorCause> {
        let frame = 4 * self.channels;
        while self.bytes.len() < frame {
            match self.next_piece().map_err(AudioErrorCause::Ffmpeg)? {
                Some(piece) => self.bytes.extend_from_slice(&piece),
                None => {
                    self.finish();
                    return Ok(None);
                }
            }
        }
        Ok(Some(self.bytes.len().min(BLOCK_BYTES.max(frame)) / frame * frame))
    }

    /// Appends the next samples in stereo and returns their rate in Hz; `None` at the end.
    pub fn next_stereo(&mut self, sides: &mut [Vec<f32>; 2]) -> Result<Option<u32>, AudioErrorCause> {
        let Some(take) = self.next_frames()? else { return Ok(None) };
        let mut planes = vec![Vec::with_capacity(take / 4 / self.channels); self.channels];
        for (sample, channel) in self.bytes[..take].chunks_exact(4).zip((0..self.channels).cycle()) {
            planes[channel].push(f32::from_be_bytes([sample[0], sample[1], sample[2], sample[3]]));
        }
        self.sanitizer.downmix_stereo(&planes, sides);
        self.bytes.drain(..take);
        Ok(Some(self.rate_hz))
    }

    /// Appends the next samples to `mono` and returns their rate in Hz; `None` at the end.
    pub fn next_block(&mut self, mono: &mut Vec<f32>) -> Result<Option<u32>, AudioErrorCause> {
        let Some(take) = self.next_frames()? else { return Ok(None) };
        let frame = 4 * self.channels;
        let scale = 1.0 / self.channels as f32;
        mono.reserve(take / frame);
        for frame in self.bytes[..take].chunks_exact(frame) {
            let samples = frame.chunks_exact(4).map(|b| f32::from_be_bytes([b[0], b[1], b[2], b[3]]));
            let sum: f32 = samples.map(|sample| self.sanitizer.repair(sample)).sum();
            mono.push(sum * scale);
        }
        self.bytes.drain(..take);
        Ok(Some(self.rate_hz))
    }

    /// Collects the ended program and what it has to say.
    fn finish(&mut self) {
        if self.pieces.take().is_none() {
            return;
        }
        let patience = Instant::now() + Duration::from_secs(5);
        let status = loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() < patience => thread::sleep(Duration::from_millis(2)),
                Ok(status) => break status,
                Err(_) => break None,
            }
        };
        let _ = self.log_ended.recv_timeout(Duration::from_secs(1));
        if status.is_none_or(|status| !status.success()) {
            self.stopped = Some(self.last_words().to_string());
        }
    }
}

impl Drop for FfmpegSource {
    fn drop(&mut self) {
        self.end();
    }
}

/// Copies ffmpeg's audio into a bounded channel until either end closes.
fn forward_audio(mut stdout: ChildStdout, pieces: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut piece = vec![0; PIECE];
        let result = match stdout.read(&mut piece) {
            Ok(0) => return,
            Ok(count) => {
                piece.truncate(count);
                Ok(piece)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let is_error = result.is_err();
        if pieces.send(result).is_err() || is_error {
            return;
        }
    }
}

/// What ffmpeg's messages tell.
#[derive(Default)]
struct Log {
    duration_secs: Option<f64>,
    duration_is_guess: bool,
    tracks: u32,
    /// Decoding has begun: from here on, complaints are about audio.
    decoding: bool,
    complaints: u64,
    no_audio_track: bool,
    last_line: String,
}

impl Log {
    fn read(&mut self, line: &str) {
        let line = line.trim();
        if line.starts_with("Output #0") {
            self.decoding = true;
        } else if let Some((_, rest)) = line.split_once("Duration: ").filter(|_| !self.decoding) {
            self.duration_secs = self.duration_secs.or_else(|| parse_clock(rest.split([',', ' ']).next()?));
        } else if line.contains("Estimating duration from bitrate") {
            self.duration_is_guess = true;
        } else if line.starts_with("Stream #0:") && !self.decoding {
            self.tracks += 1;
        } else if line.contains("matches no streams") || line.contains("does not contain any stream") {
            self.no_audio_track = true;
        } else if self.decoding && ["rror", "nvalid", "orrupt"].iter().any(|word| line.contains(word)) {
            self.complaints += 1;
        }
        if !line.is_empty() && line != "Conversion failed!" {
            // "file:/home/a.mp3: Invalid data ..": the caller names the file already.
            let words =
                line.strip_prefix("file:").and_then(|rest| rest.rsplit_once(": ")).map_or(line, |(_, words)| words);
            words.clone_into(&mut self.last_line);
        }
    }
}

/// `HH:MM:SS.cc` in seconds.
fn parse_clock(text: &str) -> Option<f64> {
    let mut parts = text.splitn(3, ':');
    let (hours, minutes, secs) = (parts.next()?, parts.next()?, parts.next()?);
    let hours: u16 = hours.parse().ok()?;
    let minutes: u16 = minutes.parse().ok()?;
    let secs: f64 = secs.parse().ok()?;
    secs.is_finite().then(|| f64::from(hours) * 3600.0 + f64::from(minutes) * 60.0 + secs)
}

/// Reads ffmpeg's messages line by line; a line that never ends is cut into pieces.
fn follow_log(stderr: ChildStderr, log: &Mutex<Log>, ended: &SyncSender<()>) {
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    while let Ok(1..) = reader.by_ref().take(4096).read_until(b'\n', &mut line) {
        log.lock().unwrap_or_else(PoisonError::into_inner).read(&String::from_utf8_lossy(&line));
        line.clear();
    }
    let _ = ended.try_send(());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn understands_what_ffmpeg_says() {
        let mut log = Log::default();
        for line in [
            "Input #0, avi, from 'file:a.avi':",
            "  Duration: 00:01:02.50, start: 0.000000, bitrate: 61 kb/s",
            "  Stream #0:0: Video: mpeg4",
            "  Stream #0:1: Audio: ac3",
            "Output #0, au, to 'pipe:1':",
            "  Stream #0:0: Audio: pcm_f32be",
            "[ac3 @ 0x55] frame sync error",
            "size=  22kB time=00:00:01.00",
        ] {
            log.read(line);
        }
        assert_eq!((log.duration_secs, log.tracks, log.complaints), (Some(62.5), 2, 1));
        log.read("file:/a: b.avi: Invalid data found when processing input\n");
        assert_eq!(log.last_line, "Invalid data found when processing input");
        assert!(!log.no_audio_track);
        log.read("Stream map '0:a:0' matches no streams.");
        assert!(log.no_audio_track);
    }

    #[test]
    fn clocks() {
        assert_eq!(parse_clock("01:00:00.25"), Some(3600.25));
        for text in ["N/A", "", "::", "1:2", "99999999999:00:00", "00:00:nan"] {
            assert_eq!(parse_clock(text), None, "{text}");
        }
    }
}
