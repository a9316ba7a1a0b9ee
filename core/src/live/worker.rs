//! The thread between the ring and everybody who looks.
//!
//! ```text
//!            commands, device lists
//!                     v
//! ring -> mark by mark: frames -> mono -> Hearing -> rows --+-> state, published through a triple buffer
//!              |                                            +-> records, to the recorder and to whoever listens
//!              +-> LossMeter, ring overruns -> gaps --------+
//! ```
//!
//! [`Worker::step`] does what there is to do and returns; time comes from outside, so that a test can let an hour pass in
//! a second. Everything that may fail here ends in a state or a notice: the worker itself goes on.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use super::Clock;
use super::file;
use super::frames::{FrameFormat, Mark, RING_SECS, Trouble};
use super::hearing::Hearing;
use super::loss::LossMeter;
use super::recorder::{RecordOptions, Recorder};
use super::session::{
    CertainRecord, EndRecord, GapCause, GapRecord, Header, NowRecord, Record, SegmentRecord, SourceRecord, TagsRecord,
    rounded,
};
use super::source::{Capture, CaptureError, CaptureHost, Device, SourceChoice};
use super::state::{Level, LiveState, SourceState};
use crate::SAMPLE_RATE_HZ;
use crate::audio::Sanitizer;
use crate::engine::Engine;
use crate::tags::{Audible, SILENCE_PEAK, TagVocabulary};

/// Silence of the source that is worth a word.
const SILENT_SECS: f64 = 3.0;
/// Time without a callback after which the source is called stalled, and after which it is opened anew.
const STALLED: Duration = Duration::from_millis(1_500);
const STALLED_TOO_LONG: Duration = Duration::from_secs(8);
/// How often a device that is gone, and one that is denied, is tried again.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_DENIED: Duration = Duration::from_secs(5);
/// Lists in a row that lack the open device before it counts as gone.
const MISSED_LISTS: u32 = 2;
/// How long a reroute is shown.
const REROUTED_SHOWN: Duration = Duration::from_secs(5);
/// Losses of one opening, and the time within which they must come, before a larger buffer is asked for.
const LOSSES_BEFORE_PATIENCE: u32 = 2;
const LOSSES_WITHIN: Duration = Duration::from_secs(30);
/// If the last of them is this many seconds long, a tenth of the time it is measured over, the largest is asked for.
const GREAT_LOSS_SECS: f64 = 0.2;
/// Largest patience a host knows.
const MAX_PATIENCE: u32 = 2;
/// Time between tags in the record: about a second, three windows.
const TAGS_EVERY_SECS: f64 = 0.85;
/// Gaps shorter than this between two openings are not told, in seconds.
const MIN_GAP_SECS: f64 = 0.02;
/// Frames taken from the ring at a time.
const PIECE_FRAMES: usize = 2_048;
/// Magnitude from which on a sample is clipped.
const CLIPPED: f32 = 0.999;

/// What can be asked of a worker.
#[derive(Debug)]
pub enum Command {
    /// Listen to something else.
    Select(SourceChoice),
    /// Begin to record.
    Record(RecordOptions),
    /// End the recording.
    StopRecording,
    /// End everything.
    Stop,
}

/// What a worker tells, in order. Nothing waits for the listener: what it does not take in time is dropped.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// What is, or would be, in the session file.
    Record(Box<Record>),
    /// Something to know.
    Notice(String),
    /// Something that was asked for cannot be done, or done no more: a recording, listening itself.
    Failure(String),
}

/// Where a worker's results go.
pub(super) struct Outputs {
    pub state: triple_buffer::Input<LiveState>,
    pub events: SyncSender<Event>,
}

/// The open source.
struct Running {
    capture: Capture,
    device: Option<Device>,
    format: FrameFormat,
    loss: LossMeter,
    /// The last mark, and the clock when the source was opened.
    last_mark: Option<Mark>,
    opened_at: Duration,
    /// Marks whose samples have not come out of a window yet: samples at 22,050 Hz up to the mark, and when.
    arrivals: VecDeque<(u64, Duration)>,
    frames_since_restart: u64,
    /// Frames that did not fit into the ring since the last one that did.
    dropped: u64,
    /// Since when every sample is silent, and whether every one is zero.
    silent_secs: f64,
    digital: bool,
    missed_lists: u32,
    losses: u32,
    first_loss: Duration,
    rerouted: Option<(String, Duration)>,
    /// The same device again, with another buffer: windows go on over the moment in between.
    continues: bool,
}

enum Phase {
    /// Nothing is open; `state` says why.
    Waiting {
        state: SourceState,
        next_try: Duration,
    },
    Running(Box<Running>),
    Ended,
}

/// Listens to one source after the other.
pub(super) struct Worker<'e> {
    host: Arc<dyn CaptureHost>,
    clock: Arc<dyn Clock>,
    vocabulary: TagVocabulary,
    header: Header,
    hearing: Hearing<'e>,
    outputs: Outputs,
    choice: SourceChoice,
    phase: Phase,
    /// How large a buffer each device was found to need.
    patience: HashMap<String, u32>,
    recorder: Option<Recorder>,
    /// What was counted when the recording began; its records count from there.
    recorded_from: EndRecord,
    state: LiveState,
    samples: Vec<f32>,
    mono: Vec<f32>,
    /// Sound of the timeline, in seconds, and since when by the clock there is none.
    position_s: f64,
    sound_until: Option<Duration>,
    /// Means for the next tags record.
    sums: Vec<f64>,
    num_summed: u32,
    last_tags_s: f64,
    told_state: Option<(&'static str, Option<String>)>,
    last_now: Vec<String>,
    dropped_events: u64,
    is_over: bool,
    ended: Vec<(usize, crate::tags::Segment)>,
    /// When the last sample of the last window arrived, until that window is published.
    unpublished: Option<Duration>,
}

impl<'e> Worker<'e> {
    pub fn new(
        engine: &'e dyn Engine,
        vocabulary: TagVocabulary,
        header: Header,
        host: Arc<dyn CaptureHost>,
        clock: Arc<dyn Clock>,
        choice: SourceChoice,
        outputs: Outputs,
    ) -> Self {
        let hearing = Hearing::new(engine, &vocabulary);
        let state = empty_state(&vocabulary, hearing.lines().lines().len());
        Self {
            phase: Phase::Waiting { state: SourceState::Opening, next_try: clock.now() },
            sums: vec![0.0; vocabulary.num_tags()],
            host,
            clock,
            vocabulary,
            header,
            hearing,
            outputs,
            choice,
            patience: HashMap::new(),
            recorder: None,
            recorded_from: EndRecord::default(),
            state,
            samples: Vec::new(),
            mono: Vec::new(),
            position_s: 0.0,
            sound_until: None,
            num_summed: 0,
            last_tags_s: 0.0,
            told_state: None,
            last_now: Vec::new(),
            dropped_events: 0,
            is_over: false,
            ended: Vec::new(),
            unpublished: None,
        }
    }

    /// Whether there is nothing left to do: stopped, or the file has ended.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Does what is asked for.
    pub fn command(&mut self, command: Command) {
        match command {
            Command::Select(choice) => {
                self.close_source();
                self.choice = choice;
                self.phase = Phase::Waiting { state: SourceState::Opening, next_try: self.clock.now() };
            }
            Command::Record(options) => {
                let (audio, created) = (options.audio_name(), options.created.clone());
                match Recorder::start(options) {
                    Ok(recorder) => self.record_with(recorder, audio, created),
                    Err(reason) => self.failure(reason),
                }
            }
            Command::StopRecording => self.stop_recording("the recording was stopped"),
            Command::Stop => self.finish("stopped"),
        }
    }

    /// Everything there is to do now.
    pub fn step(&mut self) {
        if self.is_over {
            return;
        }
        self.open_if_due();
        self.take_frames();
        self.watch_source();
        self.tell_source();
        if self.recorder.as_ref().is_some_and(|recorder| !recorder.is_alive()) {
            self.stop_recording("the recording broke off");
        }
        if matches!(self.phase, Phase::Ended) {
            self.finish("the file has ended");
        }
        self.publish();
    }

    /// Takes a list of the devices there are, about once per second.
    pub fn on_devices(&mut self, listed: &Result<Vec<Device>, CaptureError>) {
        let Phase::Running(running) = &mut self.phase else { return };
        let (Some(device), Ok(devices)) = (&running.device, listed) else { return };
        if devices.iter().any(|known| known.id == device.id) {
            running.missed_lists = 0;
        } else {
            // Sound may go on: servers move a stream to another device without a word, and that one was not chosen.
            running.missed_lists += 1;
        }
        let is_gone = running.missed_lists >= MISSED_LISTS;
        let name = device.name.clone();
        // The default is whatever it is now.
        let moved = matches!(self.choice, SourceChoice::Default(_))
            && self.choice.find(devices).is_some_and(|chosen| chosen.id != device.id);
        if moved {
            self.close_source();
            self.open(Some(name));
        } else if is_gone {
            self.lose(SourceState::Lost { reason: gone(&name) });
        }
    }

    // --- the source ----------------------------------------------------------------------------------------------------

    fn open_if_due(&mut self) {
        if let Phase::Waiting { next_try, .. } = &self.phase
            && self.clock.now() >= *next_try
        {
            self.open(None);
        }
    }

    /// Opens what is chosen; `from` is the device that another one replaces.
    fn open(&mut self, from: Option<String>) {
        let opened = match &self.choice {
            SourceChoice::File(path) => file::play(path, &self.clock).map(|capture| (capture, None)),
            choice => self.host.devices().and_then(|devices| {
                let device = choice.find(&devices).ok_or_else(|| CaptureError::Gone {
                    device: choice.to_string(),
                    cause: "the system does not list it".to_owned(),
                })?;
                let patience = self.patience.get(&device.id).copied().unwrap_or(0);
                let capture = self.host.open(device, patience, &self.clock)?;
                Ok((capture, Some(device.clone())))
            }),
        };
        let now = self.clock.now();
        self.phase = match opened {
            Ok((capture, device)) => {
                let format = capture.frames.format();
                if let Some(recorder) = &mut self.recorder {
                    recorder.format(format);
                }
                Phase::Running(Box::new(Running {
                    loss: LossMeter::new(format.rate_hz),
                    capture,
                    device,
                    format,
                    last_mark: None,
                    opened_at: now,
                    arrivals: VecDeque::new(),
                    frames_since_restart: 0,
                    dropped: 0,
                    silent_secs: 0.0,
                    digital: true,
                    missed_lists: 0,
                    losses: 0,
                    first_loss: now,
                    rerouted: from.map(|from| (from, now)),
                    continues: false,
                }))
            }
            Err(error) => {
                let reason = error.to_string();
                match error {
                    CaptureError::Denied { .. } => {
                        Phase::Waiting { state: SourceState::Denied { reason }, next_try: now + RETRY_DENIED }
                    }
                    // A file will not come back.
                    CaptureError::Unusable { .. } if matches!(self.choice, SourceChoice::File(_)) => {
                        self.failure(reason);
                        Phase::Ended
                    }
                    _ => Phase::Waiting { state: SourceState::Lost { reason }, next_try: now + RETRY },
                }
            }
        };
    }

    /// The source ends; what was certain with it.
    fn close_source(&mut self) {
        self.take_frames();
        self.end_overrun();
        self.hearing.interrupt(&mut |tag, segment| self.ended.push((tag, segment)));
        self.record_segments();
        self.phase = Phase::Waiting { state: SourceState::Opening, next_try: self.clock.now() };
        self.state.level = Level { clipped: self.state.level.clipped, ..Level::default() };
    }

    fn lose(&mut self, state: SourceState) {
        self.close_source();
        let wait = if matches!(state, SourceState::Denied { .. }) { RETRY_DENIED } else { RETRY };
        self.phase = Phase::Waiting { state, next_try: self.clock.now() + wait };
    }

    /// Looks at what the source reports, and at what it does not.
    fn watch_source(&mut self) {
        let Phase::Running(running) = &mut self.phase else { return };
        let name = running.device.as_ref().map_or_else(|| self.choice.to_string(), |device| device.name.clone());
        let now = self.clock.now();
        self.state.xruns = running.capture.frames.signals().xruns();
        match running.capture.frames.signals().take_trouble() {
            Some((Trouble::Rerouted, _)) => running.rerouted = Some((name.clone(), now)),
            Some((Trouble::Denied, words)) => {
                let reason = words.unwrap_or_else(|| {
                    CaptureError::Denied { device: name, cause: "the system withdrew its permission".to_owned() }
                        .to_string()
                });
                return self.lose(SourceState::Denied { reason });
            }
            Some((Trouble::Lost, words)) if running.device.is_none() => {
                self.take_frames();
                self.failure(words.unwrap_or_else(|| format!("{name} broke off")));
                self.phase = Phase::Ended;
                return;
            }
            Some((Trouble::Lost, _)) => return self.lose(SourceState::Lost { reason: gone(&name) }),
            None => {}
        }
        if running.capture.frames.signals().has_ended() {
            self.take_frames();
            self.phase = Phase::Ended;
            return;
        }
        let heard_at = running.last_mark.map_or(running.opened_at, |mark| mark.at);
        if now.saturating_sub(heard_at) >= STALLED_TOO_LONG && running.device.is_some() {
            let cause = format!("nothing has come from it for {} s", STALLED_TOO_LONG.as_secs());
            self.lose(SourceState::Lost { reason: CaptureError::Unusable { device: name, cause }.to_string() });
        }
    }

    fn source_state(&self) -> SourceState {
        let running = match &self.phase {
            Phase::Waiting { state, .. } => return state.clone(),
            Phase::Ended => return SourceState::Ended,
            Phase::Running(running) => running,
        };
        let now = self.clock.now();
        let quiet = now.saturating_sub(running.last_mark.map_or(running.opened_at, |mark| mark.at));
        match &running.rerouted {
            _ if quiet >= STALLED => SourceState::Stalled { secs: quiet.as_secs_f64() },
            _ if running.last_mark.is_none() => SourceState::Opening,
            Some((from, at)) if now.saturating_sub(*at) < REROUTED_SHOWN => {
                SourceState::Rerouted { from: from.clone() }
            }
            _ if running.silent_secs >= SILENT_SECS => {
                SourceState::Silent { secs: running.silent_secs, digital: running.digital }
            }
            _ => SourceState::Live,
        }
    }

    /// Records a change of the source's state.
    fn tell_source(&mut self) {
        let state = self.source_state();
        // Only a change of the word counts: seconds pass in messages, and every attempt has its own reason. One reroute may
        // follow another.
        let from = if let SourceState::Rerouted { from } = &state { Some(from.clone()) } else { None };
        let told = Some((state.word(), from));
        self.state.device = match &self.phase {
            Phase::Running(running) => running.device.clone(),
            _ => None,
        };
        if self.told_state != told {
            self.told_state = told;
            let record = SourceRecord {
                t: rounded(self.now_s(), 3),
                state: state.word().to_owned(),
                device: self.state.device.clone(),
                message: state.message(),
            };
            self.record(Record::Source(record));
        }
        self.state.source = state;
    }

    // --- frames --------------------------------------------------------------------------------------------------------

    /// Takes every frame that is there.
    fn take_frames(&mut self) {
        loop {
            let Phase::Running(running) = &mut self.phase else { return };
            let Some(mark) = running.capture.frames.next_mark() else { return };
            let before = running.last_mark.replace(mark);
            let num_new = mark.pushed - before.map_or(0, |before| before.pushed);
            let num_dropped = mark.dropped - before.map_or(0, |before| before.dropped);
            // A file's frames wait until there is room; what is late there is not lost.
            let missing_s = running.loss.mark(mark.pushed + mark.dropped, mark.at).filter(|_| running.device.is_some());
            if before.is_none() {
                self.begin_sound(mark, num_new + num_dropped);
            }
            if num_new > 0 {
                self.end_overrun();
                self.take_until(mark);
            }
            if let Phase::Running(running) = &mut self.phase {
                running.dropped += num_dropped;
            }
            self.sound_until = Some(mark.at);
            if let Some(missing_s) = missing_s {
                self.gap(missing_s, GapCause::Missing);
                self.grow_patient(missing_s, mark.at);
            }
        }
    }

    /// The first frames of a source: the time since the last one's is a gap.
    fn begin_sound(&mut self, mark: Mark, num_frames: u64) {
        let Phase::Running(running) = &self.phase else { return };
        let (rate_hz, continues) = (running.format.rate_hz, running.continues);
        let began = mark.at.saturating_sub(Duration::from_secs_f64(num_frames as f64 / f64::from(rate_hz)));
        let gap_s = self.sound_until.map_or(0.0, |until| began.saturating_sub(until).as_secs_f64());
        self.account(gap_s, GapCause::Device);
        if !(continues && self.hearing.skip(gap_s)) {
            self.restart(rate_hz);
        }
    }

    fn restart(&mut self, rate_hz: u32) {
        let Self { hearing, ended, position_s, .. } = self;
        let restarted = hearing.restart(rate_hz, *position_s, &mut |tag, segment| ended.push((tag, segment)));
        self.record_segments();
        if let Phase::Running(running) = &mut self.phase {
            running.arrivals.clear();
            running.frames_since_restart = 0;
        }
        if let Err(error) = restarted {
            self.fail(&error.to_string());
        }
    }

    /// Frames fit into the ring again: those that did not are one gap, of exactly their number.
    fn end_overrun(&mut self) {
        let Phase::Running(running) = &mut self.phase else { return };
        let num_frames = std::mem::take(&mut running.dropped);
        let secs = num_frames as f64 / f64::from(running.format.rate_hz);
        if num_frames > 0 {
            self.gap(secs, GapCause::Overrun);
        }
    }

    /// Sound is missing within a source.
    fn gap(&mut self, secs: f64, cause: GapCause) {
        self.account(secs, cause);
        if !self.hearing.skip(secs)
            && let Phase::Running(running) = &self.phase
        {
            let rate_hz = running.format.rate_hz;
            self.restart(rate_hz);
        }
    }

    /// Counts and records missing sound.
    fn account(&mut self, secs: f64, cause: GapCause) {
        // Frames that were counted are missing however few they are; a moment between two devices is none.
        if secs <= 0.0 || (cause == GapCause::Device && secs < MIN_GAP_SECS) {
            return;
        }
        let start_s = self.position_s;
        self.position_s += secs;
        self.state.lost_s += secs;
        self.state.num_gaps += 1;
        if let Some(recorder) = &mut self.recorder {
            recorder.missing(secs);
        }
        let gap = GapRecord { start_s: rounded(start_s, 3), end_s: rounded(self.position_s, 3), cause };
        self.record(Record::Gap(gap));
    }

    /// A device that keeps losing frames is asked for a larger buffer.
    fn grow_patient(&mut self, missing_s: f64, now: Duration) {
        let Phase::Running(running) = &mut self.phase else { return };
        if now.saturating_sub(running.first_loss) > LOSSES_WITHIN {
            (running.losses, running.first_loss) = (0, now);
        }
        running.losses += 1;
        let Some(device) = &running.device else { return };
        let patience = self.patience.entry(device.id.clone()).or_insert(0);
        let is_great = missing_s >= GREAT_LOSS_SECS;
        if *patience < MAX_PATIENCE && running.losses >= LOSSES_BEFORE_PATIENCE {
            *patience = if is_great { MAX_PATIENCE } else { *patience + 1 };
            let name = device.name.clone();
            // What was lost since the last span ended would be forgotten with the meter.
            let pending_s = running.loss.pending();
            self.account(pending_s, GapCause::Missing);
            self.notice(format!("{name} loses sound; a larger buffer is asked for, and tags come a little later"));
            self.reopen();
        }
    }

    /// Opens the same device anew. Nothing that is heard ends.
    fn reopen(&mut self) {
        self.take_frames();
        self.end_overrun();
        let Phase::Running(before) = &self.phase else { return };
        let (format, num_frames) = (before.format, before.frames_since_restart);
        self.phase = Phase::Waiting { state: SourceState::Opening, next_try: self.clock.now() };
        self.open(None);
        if let Phase::Running(running) = &mut self.phase
            && running.format == format
        {
            (running.continues, running.frames_since_restart) = (true, num_frames);
        } else {
            self.hearing.interrupt(&mut |tag, segment| self.ended.push((tag, segment)));
            self.record_segments();
        }
    }

    /// Takes the frames up to `mark` through everything.
    fn take_until(&mut self, mark: Mark) {
        let Self {
            phase,
            hearing,
            recorder,
            state,
            samples,
            mono,
            position_s,
            sums,
            num_summed,
            ended,
            unpublished,
            ..
        } = self;
        let Phase::Running(running) = phase else { return };
        let Running { capture, format, arrivals, frames_since_restart, silent_secs, digital, .. } = &mut **running;
        let channels = format.channels;
        let rate_hz = f64::from(format.rate_hz);
        samples.resize(PIECE_FRAMES * channels, 0.0);
        let (mut peak, mut squares, mut count) = (0.0_f32, 0.0_f64, 0_usize);
        let mut failure = None;
        loop {
            let popped = capture.frames.pop(mark.pushed, samples);
            if popped.is_empty() {
                break;
            }
            let num_frames = popped.len() / channels;
            for &sample in popped {
                let magnitude = if sample.is_nan() { 0.0 } else { sample.abs() };
                peak = peak.max(magnitude);
                squares += f64::from(magnitude) * f64::from(magnitude);
                state.level.clipped += u64::from(magnitude >= CLIPPED);
                *digital &= sample == 0.0;
            }
            count += popped.len();
            if let Some(recorder) = recorder {
                recorder.frames(popped, channels);
            }
            mono.clear();
            Sanitizer::default().downmix_interleaved(popped, channels, mono);
            *position_s += num_frames as f64 / rate_hz;
            state.received_s += num_frames as f64 / rate_hz;
            *frames_since_restart += num_frames as u64;
            let samples_here = (*frames_since_restart as f64 * f64::from(SAMPLE_RATE_HZ) / rate_hz) as u64;
            arrivals.push_back((samples_here, mark.at));
            let mut on_row = |row: super::hearing::Row<'_>| {
                state.num_windows += 1;
                state.window_end_s = Some(row.end_s);
                for (sum, &probability) in sums.iter_mut().zip(row.probabilities) {
                    *sum += f64::from(probability);
                }
                *num_summed += 1;
                // The window's last sample came with the first mark that reaches to it.
                while arrivals.front().is_some_and(|&(until, _)| until < row.end_sample) {
                    arrivals.pop_front();
                }
                *unpublished = arrivals.front().map(|&(_, arrived)| arrived);
            };
            let mut on_end = |tag, segment| ended.push((tag, segment));
            if let Err(error) = hearing.push(mono, &mut on_end, &mut on_row) {
                failure = Some(error.to_string());
                break;
            }
            // Enough for the longest wait of a window; a stalled one must not make it grow.
            while arrivals.len() > RING_SECS * 1_000 {
                arrivals.pop_front();
            }
        }
        if count > 0 {
            state.level.peak = peak;
            state.level.rms = (squares / count as f64).sqrt() as f32;
            if peak < SILENCE_PEAK {
                *silent_secs += (count / channels) as f64 / rate_hz;
            } else {
                (*silent_secs, *digital) = (0.0, true);
            }
        }
        if let Some(failure) = failure {
            self.fail(&failure);
        }
        self.record_segments();
        self.record_tags();
    }

    /// Nothing can be heard any more: the engine's device is gone, or the rate is impossible.
    fn fail(&mut self, reason: &str) {
        self.failure(format!("listening ends: {reason}"));
        self.phase = Phase::Ended;
    }

    // --- what is told --------------------------------------------------------------------------------------------------

    /// Time on the timeline, also while no sound comes.
    fn now_s(&self) -> f64 {
        let silent_for = match (&self.phase, self.sound_until) {
            (Phase::Waiting { .. }, Some(until)) => self.clock.now().saturating_sub(until).as_secs_f64(),
            _ => 0.0,
        };
        self.position_s + silent_for
    }

    fn record_segments(&mut self) {
        for (tag, segment) in std::mem::take(&mut self.ended) {
            let segment = Hearing::rounded(segment);
            let record = SegmentRecord {
                tag: self.vocabulary.names()[tag].clone(),
                start_s: segment.start_s,
                end_s: segment.end_s,
                confidence: segment.confidence,
            };
            self.record(Record::Segment(record));
        }
    }

    /// What is said now, surest first: the labels of the lines that hold, with their confidences.
    fn now(&self) -> Vec<NowRecord> {
        if self.hearing.heard() != Audible::Music {
            return Vec::new();
        }
        let lines = self.hearing.lines().lines().iter().zip(self.hearing.line_states());
        let mut now: Vec<NowRecord> = lines
            .filter_map(|(line, state)| {
                let line = line.label(state.verdict)?.to_owned();
                Some(NowRecord { line, confidence: rounded(f64::from(state.confidence), 4) as f32 })
            })
            .collect();
        now.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        now
    }

    fn record_tags(&mut self) {
        let Some(t) = self.state.window_end_s else { return };
        if self.num_summed == 0 || t - self.last_tags_s < TAGS_EVERY_SECS {
            return;
        }
        self.last_tags_s = t;
        let count = f64::from(self.num_summed);
        let probabilities = self.sums.iter().map(|sum| rounded(sum / count, 4) as f32).collect();
        self.sums.fill(0.0);
        self.num_summed = 0;
        let now = self.now();
        let steady = self.hearing.steady();
        let certain = (0..self.vocabulary.num_tags()).filter_map(|tag| {
            let since_s = rounded(steady.since_s(tag)?, 3);
            Some(CertainRecord { tag: self.vocabulary.names()[tag].clone(), since_s })
        });
        let level_db = 20.0 * self.state.level.peak.max(1e-6).log10();
        let record = TagsRecord {
            t: rounded(t, 3),
            heard: self.hearing.heard().into(),
            certain: certain.collect(),
            probabilities,
            tonality: rounded(f64::from(self.hearing.tonality()), 4) as f32,
            level_db: rounded(f64::from(level_db), 1) as f32,
            now,
        };
        let playing: Vec<String> = record.now.iter().take(NOW_PLAYING_LINES).map(|now| now.line.clone()).collect();
        self.record(Record::Tags(record));
        if let Some(recorder) = &mut self.recorder {
            recorder.flush();
            // The order changes with every window; the words are what is read.
            let mut words = playing.clone();
            words.sort_unstable();
            if words != self.last_now {
                recorder.now_playing(playing.join(", "));
                self.last_now = words;
            }
        }
    }

    fn record(&mut self, record: Record) {
        if let Some(recorder) = &mut self.recorder {
            recorder.record(record.clone().since(&self.recorded_from));
        }
        self.tell(Event::Record(Box::new(record)));
    }

    fn notice(&mut self, text: String) {
        self.tell(Event::Notice(text));
    }

    fn failure(&mut self, text: String) {
        self.tell(Event::Failure(text));
    }

    fn tell(&mut self, event: Event) {
        if self.outputs.events.try_send(event).is_err() {
            self.dropped_events += 1;
        }
    }

    /// Records with `recorder`; `audio` is where the sound goes and `created` when it begins, for the header.
    pub fn record_with(&mut self, mut recorder: Recorder, audio: Option<String>, created: Option<String>) {
        self.stop_recording("another recording began");
        // What came until now belongs to the time before.
        self.take_frames();
        self.recorded_from = self.end_record("");
        let created = created.unwrap_or_else(|| self.header.created.clone());
        recorder.record(Record::Header(Header { created, audio, ..self.header.clone() }));
        if let Phase::Running(running) = &self.phase {
            recorder.format(running.format);
        }
        recorder.flush();
        self.recorder = Some(recorder);
        self.last_now.clear();
        // The file says at its begin what the source does.
        self.told_state = None;
    }

    fn stop_recording(&mut self, reason: &str) {
        let end = self.end_record(reason);
        if let Some(mut recorder) = self.recorder.take() {
            recorder.record(Record::End(end).since(&self.recorded_from));
            if let Err(error) = recorder.finish() {
                self.failure(error);
            }
        }
    }

    fn end_record(&self, reason: &str) -> EndRecord {
        EndRecord {
            t: rounded(self.position_s, 3),
            received_s: rounded(self.state.received_s, 3),
            lost_s: rounded(self.state.lost_s, 3),
            gaps: self.state.num_gaps,
            windows: self.state.num_windows,
            reason: reason.to_owned(),
        }
    }

    /// Ends everything that is open.
    pub fn finish(&mut self, reason: &str) {
        if self.is_over {
            return;
        }
        self.take_frames();
        self.end_overrun();
        // The time without a source until now is a gap too.
        let silent_for = self.now_s() - self.position_s;
        self.account(silent_for, GapCause::Device);
        self.hearing.interrupt(&mut |tag, segment| self.ended.push((tag, segment)));
        self.record_segments();
        self.phase = Phase::Ended;
        self.tell_source();
        self.stop_recording(reason);
        // Whoever is told of the end finds the last state.
        self.publish();
        let end = self.end_record(reason);
        self.tell(Event::Record(Box::new(Record::End(end))));
        if self.dropped_events > 0 {
            self.notice(format!("{} events were dropped because nobody took them", self.dropped_events));
        }
        self.is_over = true;
    }

    /// Shows the state.
    fn publish(&mut self) {
        self.state.at_s = self.now_s();
        self.state.heard = self.hearing.heard();
        self.state.tonality = self.hearing.tonality();
        self.state.noisiness = self.hearing.noisiness();
        self.state.probabilities.copy_from_slice(self.hearing.probabilities());
        self.state.smoothed.copy_from_slice(self.hearing.steady().smoothed());
        self.state.certain.copy_from_slice(self.hearing.steady().certain());
        self.state.lines.copy_from_slice(self.hearing.line_states());
        self.state.is_recording = self.recorder.is_some();
        if let Some(arrived) = self.unpublished.take() {
            self.state.latency_s = self.clock.now().saturating_sub(arrived).as_secs_f64();
        }
        self.outputs.state.input_buffer_mut().clone_from(&self.state);
        self.outputs.state.publish();
    }
}

/// Lines in the now-playing text.
const NOW_PLAYING_LINES: usize = 3;

fn gone(name: &str) -> String {
    format!("{name} is gone; connect it again, and it is taken again")
}

/// A state with room for a vocabulary.
pub(super) fn empty_state(vocabulary: &TagVocabulary, num_lines: usize) -> LiveState {
    let num_tags = vocabulary.num_tags();
    LiveState {
        probabilities: vec![0.0; num_tags],
        smoothed: vec![0.0; num_tags],
        certain: vec![false; num_tags],
        lines: vec![crate::tags::LineState::default(); num_lines],
        ..LiveState::default()
    }
}

/// Commands and device lists that wait.
pub(super) struct Inputs {
    pub commands: Receiver<Command>,
    pub devices: Receiver<Result<Vec<Device>, CaptureError>>,
}
