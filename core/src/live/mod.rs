//! Live: from a microphone, a line, the machine's own sound or a file to tags, while it sounds.
//!
//! ```text
//! capture callback -> ring -> worker: mono -> 22,050 Hz -> windows -> tags, held steady -+-> triple buffer -> screen
//! (CaptureHost)      frames     ^  ^                                                     +-> events -> who listens
//!                               |  |                                                     '-> recorder -> files
//!                        commands  device lists, once per second (watcher thread)
//! ```
//!
//! [`Live::start`] is all that a command line or a screen needs: commands go in through a channel, the state comes out
//! through a triple buffer, what must not be missed through a channel of [`Event`]s. Nobody waits for anybody: a screen
//! that hangs, a disk that is slow and a sound system that does not answer leave the sound alone.
//!
//! Nothing that happens to a source is an error here. A device that is gone, one that may not be listened to, one that the
//! system exchanged and one that is silent are four [`SourceState`]s; a gone device is taken again when it returns. Loss is
//! measured by frames against the clock, counted, and recorded as gaps of the timeline.
//!
//! [`Player`] plays files for whoever looks at their tags.
//!
//! Sound system ([`CaptureHost`], [`OutputHost`]), clock ([`Clock`]) and engine are given from outside: [`FakeHost`] and [`ManualClock`] let
//! a test play an hour in a second.

mod clock;
mod fake;
mod file;
mod frames;
mod hearing;
mod loss;
mod output;
mod playback;
mod recorder;
mod session;
mod source;
mod state;
mod system;
#[cfg(test)]
mod tests;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub use clock::{Clock, ManualClock, SystemClock};
pub use fake::{FakeEar, FakeHost, FakeOutput};
pub use frames::{FrameFormat, FrameSink, FrameSource, RING_SECS, Signals, Trouble, frame_ring};
pub use loss::LossMeter;
pub use output::{Feeder, Output, OutputError, OutputHost, Renderer, output_ring};
pub use playback::{Phase, Player, PlayerState};
pub use recorder::RecordOptions;
pub use session::{
    CertainRecord, Chapter, EndRecord, FORMAT, GapCause, GapRecord, Header, HeardWord, ModelIdentity, NowRecord,
    Record, SegmentRecord, Session, SessionError, SourceRecord, TagsRecord, VERSION,
};
pub use source::{Capture, CaptureError, CaptureHost, Device, DeviceKind, SourceChoice};
pub use state::{Level, LiveState, SourceState};
pub use system::SystemHost;
pub use worker::{Command, Event};

use crate::engine::{Engine, Hop};
use crate::model_file::ModelMetadata;
use crate::tags::{Lines, TagVocabulary, VocabularyError};
use crate::{SAMPLE_RATE_HZ, WINDOW_SAMPLES};
use recorder::Recorder;
use worker::{Inputs, Outputs, Worker};

/// How often the worker looks into the ring.
const LOOK_EVERY: Duration = Duration::from_millis(8);

/// How often the devices are listed.
const LIST_EVERY: Duration = Duration::from_secs(1);

/// Events that may wait for their listener: more than an hour of them.
const MAX_EVENTS: usize = 8_192;

/// What to start with.
pub struct LiveOptions {
    /// What to listen to.
    pub source: SourceChoice,
    /// What to record.
    pub record: RecordOptions,
    /// Files are played aloud on this system's default output device; `None` listens to them silently.
    pub output: Option<Arc<dyn OutputHost>>,
    /// Moment of the start, RFC 3339, for the record.
    pub created: String,
    /// Program and version, for the record.
    pub program: String,
    /// BLAKE3 hash of the model's file, for the record.
    pub model_blake3: String,
}

/// A worker that listens. Dropping it ends that, with the record finished.
pub struct Live {
    commands: Sender<Command>,
    state: triple_buffer::Output<LiveState>,
    events: Receiver<Event>,
    lines: Lines,
    worker: Option<JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
}

impl Live {
    /// Starts to listen with `engine`, which runs the model that `metadata` describes.
    ///
    /// # Errors
    /// [`LiveError`] if the model's tags cannot be used, a file cannot be written or no thread can be started. What happens to the source later is
    /// part of the state.
    pub fn start(
        engine: Arc<dyn Engine>,
        metadata: &ModelMetadata,
        host: Arc<dyn CaptureHost>,
        clock: Arc<dyn Clock>,
        options: LiveOptions,
    ) -> Result<Self, LiveError> {
        let vocabulary = TagVocabulary::new(metadata.tags.clone(), metadata.thresholds.clone())?;
        let header = header(metadata, &*engine, &options);
        let lines = Lines::new(&vocabulary);
        let (state_in, state) = triple_buffer::triple_buffer(&worker::empty_state(&vocabulary, lines.lines().len()));
        let (events_in, events) = mpsc::sync_channel(MAX_EVENTS);
        let (commands, commands_out) = mpsc::channel();
        let (devices_in, devices) = mpsc::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let (audio, begun) = (options.record.audio_name(), options.record.created.clone());
        let recorder = if options.record.is_empty() {
            None
        } else {
            Some(Recorder::start(options.record).map_err(LiveError::Record)?)
        };
        let inputs = Inputs { commands: commands_out, devices };
        let outputs = Outputs { state: state_in, events: events_in };

        let watched = !matches!(options.source, SourceChoice::File(_));
        if watched {
            let (host, clock, is_over) = (Arc::clone(&host), Arc::clone(&clock), Arc::clone(&is_over));
            // Not joined: a sound system may take seconds to answer, and nobody waits for this answer.
            spawn("device-watch", move || {
                while !is_over.load(Ordering::Relaxed) {
                    clock.sleep(LIST_EVERY);
                    if devices_in.send(host.devices()).is_err() {
                        return;
                    }
                }
            })?;
        }
        let over = Arc::clone(&is_over);
        let worker = spawn("live", move || {
            let mut worker =
                Worker::new(&*engine, vocabulary, header, host, Arc::clone(&clock), options.source, outputs);
            if let Some(output) = options.output {
                worker.play_files_on(output);
            }
            if let Some(recorder) = recorder {
                worker.record_with(recorder, audio, begun);
            }
            run(&mut worker, &inputs, &*clock);
            over.store(true, Ordering::Relaxed);
        })?;
        Ok(Self { commands, state, events, lines, worker: Some(worker), is_over })
    }

    /// Asks for something. After the end nobody hears it.
    pub fn command(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// The latest state, without waiting.
    pub fn state(&mut self) -> &LiveState {
        self.state.read()
    }

    /// What was told since the last call, and what comes within `timeout`; `None` when nothing did.
    pub fn event(&self, timeout: Duration) -> Option<Event> {
        self.events.recv_timeout(timeout).ok()
    }

    /// The lines whose states [`LiveState::lines`] holds.
    pub fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Whether the worker has ended: it was asked to, or the file is over. Events may still wait.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn end(&mut self) {
        self.command(Command::Stop);
        if let Some(worker) = self.worker.take() {
            // A panic there has printed itself; there is nobody left to tell.
            let _ = worker.join();
        }
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Ends it and waits until the record is finished; then the last events can be taken.
    pub fn stop(&mut self) {
        self.end();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.end();
    }
}

/// Why listening could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The model's tags cannot be used.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
    /// A file to record to cannot be written.
    #[error("{0}")]
    Record(String),
    /// The system starts no more threads.
    #[error("no thread could be started: {0}; end other programs")]
    Thread(std::io::Error),
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, LiveError> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map_err(LiveError::Thread)
}

fn run(worker: &mut Worker<'_>, inputs: &Inputs, clock: &dyn Clock) {
    while !worker.is_over() {
        loop {
            match inputs.commands.try_recv() {
                Ok(command) => worker.command(command),
                Err(mpsc::TryRecvError::Empty) => break,
                // Whoever held the other end is gone, and with it the reason to go on.
                Err(mpsc::TryRecvError::Disconnected) => {
                    worker.finish("stopped");
                    break;
                }
            }
        }
        while let Ok(listed) = inputs.devices.try_recv() {
            worker.on_devices(&listed);
        }
        worker.step();
        clock.sleep(LOOK_EVERY);
    }
}

fn header(metadata: &ModelMetadata, engine: &dyn Engine, options: &LiveOptions) -> Header {
    Header {
        format: FORMAT.to_owned(),
        version: VERSION,
        created: options.created.clone(),
        program: options.program.clone(),
        model: ModelIdentity::new(metadata, options.model_blake3.clone()),
        engine: engine.device(),
        window_s: session::rounded(WINDOW_SAMPLES as f64 / f64::from(SAMPLE_RATE_HZ), 3),
        hop_s: session::rounded(Hop::DEFAULT.duration().as_secs_f64(), 3),
        audio: None,
    }
}
