//! Writing a set down while it plays, on a thread of its own: a slow disk delays nobody.
//!
//! ```text
//! worker -- records, frames --> bounded channel -> recorder thread -+-> session file, flushed every second
//!                                                                   +-> FLAC
//!                                                                   +-> now-playing text, renamed into place
//! ```
//!
//! Session and sound are written in place, not renamed: what a crash leaves must be there. Nothing that exists is
//! overwritten. A failure ends the recording with a message and leaves the listening alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use flac_codec::encode::{FlacSampleWriter, Options};

use super::frames::FrameFormat;
use super::session::Record;

/// Messages that may wait for the disk: at 50 pieces per second, half a minute of sound.
const QUEUE: usize = 1_500;

/// What to write.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecordOptions {
    /// Session file.
    pub session: Option<PathBuf>,
    /// FLAC file.
    pub audio: Option<PathBuf>,
    /// Text file with what is said at the moment, for streaming software to show.
    pub now_playing: Option<PathBuf>,
    /// Moment of its begin, RFC 3339, for the record; `None` is that of the listening.
    pub created: Option<String>,
}

impl RecordOptions {
    /// Whether there is anything to write.
    pub fn is_empty(&self) -> bool {
        self.session.is_none() && self.audio.is_none() && self.now_playing.is_none()
    }

    /// Where the sound goes, as the session's header has it.
    pub(super) fn audio_name(&self) -> Option<String> {
        self.audio.as_ref().map(|path| path.display().to_string())
    }
}

enum Message {
    Record(Box<Record>),
    Frames(Vec<f32>),
    /// So many frames are missing.
    Missing(u64),
    Format(FrameFormat),
    NowPlaying(String),
    Flush,
}

/// The worker's side.
pub(super) struct Recorder {
    sender: Option<SyncSender<Message>>,
    thread: Option<JoinHandle<Result<(), String>>>,
    wants_audio: bool,
    /// Frames that the disk was too slow for.
    pub unwritten: u64,
    format: Option<FrameFormat>,
}

impl Recorder {
    /// Opens the files.
    ///
    /// # Errors
    /// The file that cannot be written, as a sentence.
    pub fn start(options: RecordOptions) -> Result<Self, String> {
        let files = Files::create(options)?;
        let wants_audio = files.audio_path.is_some();
        let (sender, receiver) = sync_channel(QUEUE);
        let thread = thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || files.write_all(&receiver))
            .map_err(|error| format!("nothing is recorded: no thread could be started ({error})"))?;
        Ok(Self { sender: Some(sender), thread: Some(thread), wants_audio, unwritten: 0, format: None })
    }

    /// Whether it still writes; if not, [`finish`](Self::finish) says why.
    pub fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Frames from here on have this format.
    pub fn format(&mut self, format: FrameFormat) {
        if self.wants_audio && self.format != Some(format) {
            self.format = Some(format);
            self.send(Message::Format(format));
        }
    }

    /// Interleaved frames.
    pub fn frames(&mut self, samples: &[f32], channels: usize) {
        if self.wants_audio && !self.send(Message::Frames(samples.to_vec())) {
            self.unwritten += (samples.len() / channels.max(1)) as u64;
        }
    }

    /// Missing sound is silence in the file, so that its time stays right.
    pub fn missing(&mut self, secs: f64) {
        if let Some(format) = self.format {
            self.send(Message::Missing((secs * f64::from(format.rate_hz)).round() as u64));
        }
    }

    pub fn record(&mut self, record: Record) {
        self.send(Message::Record(Box::new(record)));
    }

    pub fn now_playing(&mut self, text: String) {
        self.send(Message::NowPlaying(text));
    }

    /// What is written so far reaches the files.
    pub fn flush(&mut self) {
        if self.unwritten > 0 && self.send(Message::Missing(self.unwritten)) {
            self.unwritten = 0;
        }
        self.send(Message::Flush);
    }

    /// Never waits for the disk.
    fn send(&self, message: Message) -> bool {
        let Some(sender) = &self.sender else { return false };
        !matches!(sender.try_send(message), Err(TrySendError::Full(_) | TrySendError::Disconnected(_)))
    }

    /// Ends the files.
    ///
    /// # Errors
    /// What could not be written, as a sentence.
    pub fn finish(mut self) -> Result<(), String> {
        self.close()
    }

    fn close(&mut self) -> Result<(), String> {
        drop(self.sender.take());
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err("the recording broke off: its thread panicked".to_owned()),
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // Who wants to know calls `finish`.
        let _ = self.close();
    }
}

/// What is being written.
struct Files {
    session: Option<(BufWriter<File>, PathBuf)>,
    audio_path: Option<PathBuf>,
    /// Made when the format is known.
    audio: Option<Audio>,
    now_playing: Option<PathBuf>,
}

struct Audio {
    writer: FlacSampleWriter<BufWriter<File>>,
    format: FrameFormat,
    integers: Vec<i32>,
}

/// Bits per sample in the FLAC file: what the best converters deliver. Devices with 16 bits leave the rest zero, which
/// costs FLAC nothing.
const BITS: u32 = 24;

/// Most channels that FLAC holds; of more, the first are kept.
const MAX_CHANNELS: usize = 8;

fn create_new(path: &Path) -> Result<File, String> {
    OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| {
        let help = match error.kind() {
            io::ErrorKind::AlreadyExists => "a recording is never overwritten; choose another name",
            io::ErrorKind::NotFound => "choose a folder that exists",
            _ => "choose a folder that is writable",
        };
        format!("cannot write {}: {error}; {help}", path.display())
    })
}

impl Files {
    fn create(options: RecordOptions) -> Result<Self, String> {
        let RecordOptions { session, audio, now_playing, created: _ } = options;
        let session = session.map(|path| create_new(&path).map(|file| (BufWriter::new(file), path))).transpose()?;
        // Claimed now, so that a name that cannot be written is known at once.
        if let Some(path) = &audio {
            create_new(path)?;
        }
        if let Some(path) = &now_playing {
            write_now_playing(path, "")?;
        }
        Ok(Self { session, audio_path: audio, audio: None, now_playing })
    }

    fn write_all(mut self, receiver: &Receiver<Message>) -> Result<(), String> {
        let mut result = Ok(());
        for message in receiver {
            result = self.write(message);
            if result.is_err() {
                break;
            }
        }
        // What there is becomes a whole file, whatever happened to the others.
        let ended = self.end();
        result.and(ended)
    }

    fn write(&mut self, message: Message) -> Result<(), String> {
        match message {
            Message::Record(record) => self.session(|file| {
                serde_json::to_writer(&mut *file, &record)?;
                file.write_all(b"\n")
            }),
            Message::Flush => self.session(Write::flush),
            Message::NowPlaying(text) => {
                self.now_playing.as_ref().map_or(Ok(()), |path| write_now_playing(path, &text))
            }
            Message::Format(format) => self.set_format(format),
            Message::Frames(samples) => self.audio(|audio| audio.frames(&samples)),
            Message::Missing(num_frames) => self.audio(|audio| audio.silence(num_frames)),
        }
    }

    fn session(&mut self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<(), String> {
        let Some((file, path)) = &mut self.session else { return Ok(()) };
        write(file).map_err(|error| format!("cannot write {}: {error}; the recording ends here", path.display()))
    }

    fn audio(&mut self, write: impl FnOnce(&mut Audio) -> Result<(), flac_codec::Error>) -> Result<(), String> {
        let (Some(audio), Some(path)) = (&mut self.audio, &self.audio_path) else { return Ok(()) };
        write(audio).map_err(|error| format!("cannot write {}: {error}; the recording ends here", path.display()))
    }

    /// Opens the FLAC file, or another one beside it when the format changes: `set.flac`, `set.2.flac`.
    fn set_format(&mut self, format: FrameFormat) -> Result<(), String> {
        let Some(path) = self.audio_path.clone() else { return Ok(()) };
        let file = match self.audio.take() {
            None => OpenOptions::new().write(true).truncate(true).open(&path).map_err(|error| error.to_string()),
            Some(before) => {
                before.end().map_err(|error| format!("cannot write {}: {error}", path.display()))?;
                let next =
                    (2..1_000).map(|number| path.with_extension(format!("{number}.flac"))).find(|path| !path.exists());
                let next = next.unwrap_or_else(|| path.clone());
                let file = create_new(&next);
                self.audio_path = Some(next);
                file
            }
        }?;
        let channels = format.channels.min(MAX_CHANNELS) as u8;
        let writer = FlacSampleWriter::new(BufWriter::new(file), Options::fast(), format.rate_hz, BITS, channels, None)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        self.audio = Some(Audio { writer, format, integers: Vec::new() });
        Ok(())
    }

    fn end(mut self) -> Result<(), String> {
        let session = self.session(|file| {
            file.flush()?;
            file.get_ref().sync_all()
        });
        let audio = match (self.audio.take(), &self.audio_path) {
            (Some(audio), Some(path)) => {
                audio.end().map_err(|error| format!("cannot write {}: {error}", path.display()))
            }
            // No sound ever came: an empty file is no FLAC.
            (None, Some(path)) => {
                let _ = fs::remove_file(path);
                Ok(())
            }
            _ => Ok(()),
        };
        let now_playing = self.now_playing.as_ref().map_or(Ok(()), |path| write_now_playing(path, ""));
        session.and(audio).and(now_playing)
    }
}

impl Audio {
    fn frames(&mut self, samples: &[f32]) -> Result<(), flac_codec::Error> {
        let full_scale = (1_i32 << (BITS - 1)) as f32;
        let (lowest, highest) = (-full_scale, full_scale - 1.0);
        self.integers.clear();
        for frame in samples.chunks_exact(self.format.channels) {
            // A number that is none is silence.
            let integers = frame.iter().take(MAX_CHANNELS).map(|sample| {
                let scaled = (sample * full_scale).round();
                if scaled.is_nan() { 0 } else { scaled.clamp(lowest, highest) as i32 }
            });
            self.integers.extend(integers);
        }
        self.writer.write(&self.integers)
    }

    fn silence(&mut self, mut num_frames: u64) -> Result<(), flac_codec::Error> {
        let channels = self.format.channels.min(MAX_CHANNELS);
        while num_frames > 0 {
            let now = num_frames.min(4_096);
            self.integers.clear();
            self.integers.resize(now as usize * channels, 0);
            self.writer.write(&self.integers)?;
            num_frames -= now;
        }
        Ok(())
    }

    fn end(self) -> Result<(), flac_codec::Error> {
        self.writer.finalize()
    }
}

/// Readers see the old text or the new one, never half of either.
fn write_now_playing(path: &Path, text: &str) -> Result<(), String> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let write = || -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".earmark-").tempfile_in(folder)?;
        writeln!(file, "{text}")?;
        // Streaming software often runs as another user.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        }
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|error| format!("cannot write {}: {error}; choose a folder that is writable", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio;
    use crate::live::session::{GapCause, GapRecord};

    fn gap(start_s: f64) -> Record {
        Record::Gap(GapRecord { start_s, end_s: start_s + 1.0, cause: GapCause::Missing })
    }

    #[test]
    fn sound_comes_back_with_its_gaps_as_silence() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("set.flac");
        let options = RecordOptions { audio: Some(path.clone()), ..RecordOptions::default() };
        let mut recorder = Recorder::start(options).expect("writable");
        recorder.format(FrameFormat { rate_hz: 22_050, channels: 2 });
        let frames: Vec<f32> = (0..22_050).flat_map(|n| [0.5 * (n as f32 * 0.1).sin(), f32::NAN]).collect();
        recorder.frames(&frames, 2);
        recorder.missing(0.5);
        recorder.frames(&frames, 2);
        recorder.finish().expect("written");
        let (waveform, warnings) = audio::load(&path).expect("FLAC");
        assert_eq!((waveform.samples.len(), warnings.len()), (22_050 * 5 / 2, 0));
        // Mono is the mean of the two channels, of which one is silent.
        for (index, expected) in [(100, 0.25 * 10.0_f32.sin()), (30_000, 0.0), (33_175, 0.25 * 10.0_f32.sin())] {
            assert!((waveform.samples[index] - expected).abs() < 1e-5, "{index}: {}", waveform.samples[index]);
        }
    }

    #[test]
    fn another_format_goes_into_another_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("set.flac");
        let options = RecordOptions { audio: Some(path.clone()), ..RecordOptions::default() };
        let mut recorder = Recorder::start(options).expect("writable");
        for rate_hz in [44_100, 48_000] {
            recorder.format(FrameFormat { rate_hz, channels: 1 });
            recorder.frames(&vec![0.1; rate_hz as usize], 1);
        }
        recorder.finish().expect("written");
        for name in ["set.flac", "set.2.flac"] {
            let (waveform, _) = audio::load(&folder.path().join(name)).expect("FLAC");
            assert_eq!(waveform.samples.len(), 22_050, "{name}");
        }
    }

    #[test]
    fn a_recording_that_was_killed_still_decodes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("set.flac");
        let options = RecordOptions { audio: Some(path.clone()), ..RecordOptions::default() };
        let mut recorder = Recorder::start(options).expect("writable");
        recorder.format(FrameFormat { rate_hz: 22_050, channels: 1 });
        let noise: Vec<f32> =
            (0..10 * 22_050_u32).map(|n| (n.wrapping_mul(7_919) % 2_003) as f32 / 2_003.0 - 0.5).collect();
        recorder.frames(&noise, 1);
        // Wait for the thread to have written what it can.
        let written = || fs::metadata(&path).map_or(0, |metadata| metadata.len());
        let mut before = 0;
        while before == 0 || written() != before {
            before = written();
            thread::sleep(std::time::Duration::from_millis(100));
        }
        let copy = folder.path().join("killed.flac");
        fs::copy(&path, &copy).expect("copied");
        let (waveform, _) = audio::load(&copy).expect("what is there decodes");
        assert!(waveform.secs() > 9.0, "{} s of 10", waveform.secs());
    }

    #[test]
    fn records_are_lines_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("set.jsonl");
        let options = RecordOptions { session: Some(path.clone()), ..RecordOptions::default() };
        let mut recorder = Recorder::start(options.clone()).expect("writable");
        recorder.record(gap(1.0));
        recorder.flush();
        recorder.record(gap(3.0));
        recorder.finish().expect("written");
        let text = fs::read_to_string(&path).expect("readable");
        assert_eq!(text.lines().count(), 2, "{text}");
        let refused = Recorder::start(options).err().expect("it exists");
        assert!(refused.contains("never overwritten") && refused.contains("set.jsonl"), "{refused}");
    }

    #[test]
    fn now_playing_is_replaced_whole_and_empty_at_the_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("now.txt");
        let options = RecordOptions { now_playing: Some(path.clone()), ..RecordOptions::default() };
        let mut recorder = Recorder::start(options).expect("writable");
        recorder.now_playing("rock, guitar".to_owned());
        recorder.finish().expect("written");
        assert_eq!(fs::read_to_string(&path).expect("readable"), "\n");
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1, "no temporary file is left");
        let absent =
            RecordOptions { now_playing: Some(folder.path().join("absent/now.txt")), ..RecordOptions::default() };
        assert!(Recorder::start(absent).err().expect("no such folder").contains("absent"));
    }
}
