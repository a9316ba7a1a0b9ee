//! A worker with invented devices and an invented clock: every state a source can be in, every frame accounted for.

use std::f32::consts::TAU;
use std::fs;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use super::worker::{Outputs, Worker, empty_state};
use super::*;
use crate::tags::Audible;

fn metadata() -> ModelMetadata {
    let architecture = crate::weights::Architecture::scaled(0.05, 3, None, FakeEar::TAGS.len());
    ModelMetadata::new("ear", architecture, FakeEar::TAGS.map(str::to_owned).to_vec())
}

fn device(id: &str, kind: DeviceKind, is_default: bool) -> Device {
    Device { id: id.to_owned(), name: format!("The {id}"), kind, is_default }
}

fn mic() -> Device {
    device("mic", DeviceKind::Input, true)
}

fn by_id(id: &str) -> SourceChoice {
    SourceChoice::Device { id: id.to_owned(), name: format!("The {id}") }
}

/// 10 ms of 16 kHz in stereo per callback.
const FORMAT: FrameFormat = FrameFormat { rate_hz: 16_000, channels: 2 };
const CALLBACK: Duration = Duration::from_millis(10);
const CALLBACK_FRAMES: usize = 160;

/// A microphone, a clock and the worker between them.
struct Stage {
    host: FakeHost,
    clock: Arc<ManualClock>,
    worker: Worker<'static>,
    state: triple_buffer::Output<LiveState>,
    events: Receiver<Event>,
    /// Everything told so far.
    records: Vec<Record>,
    notices: Vec<String>,
    /// Frames handed to the callback.
    delivered: u64,
    callbacks: u64,
}

impl Stage {
    fn new(choice: SourceChoice, devices: Vec<Device>) -> Self {
        let host = FakeHost::new(devices, FORMAT);
        let clock = Arc::new(ManualClock::new());
        let metadata = metadata();
        let vocabulary = TagVocabulary::new(metadata.tags.clone(), metadata.thresholds.clone()).expect("valid");
        let num_lines = Lines::new(&vocabulary).lines().len();
        let (state_in, state) = triple_buffer::triple_buffer(&empty_state(&vocabulary, num_lines));
        let (events_in, events) = sync_channel(100_000);
        let options = LiveOptions {
            source: choice.clone(),
            record: RecordOptions::default(),
            output: None,
            created: "2026-01-01T00:00:00Z".to_owned(),
            program: "test".to_owned(),
            model_blake3: String::new(),
        };
        let header = header(&metadata, &FakeEar, &options);
        let outputs = Outputs { state: state_in, events: events_in };
        let worker = Worker::new(&FakeEar, vocabulary, header, Arc::new(host.clone()), clock.clone(), choice, outputs);
        let (records, notices) = (Vec::new(), Vec::new());
        let mut stage = Self { host, clock, worker, state, events, records, notices, delivered: 0, callbacks: 0 };
        stage.look();
        stage
    }

    fn with_mic() -> Self {
        Self::new(by_id("mic"), vec![mic()])
    }

    /// One callback's worth of time; the callback runs if `sound` gives it a signal, at the frame's time on this stage.
    fn tick(&mut self, sound: Option<&dyn Fn(f32) -> f32>) {
        self.clock.advance(CALLBACK);
        self.callbacks += 1;
        if let Some(sound) = sound {
            let first = (self.callbacks - 1) as f32 * CALLBACK_FRAMES as f32;
            let samples: Vec<f32> = (0..CALLBACK_FRAMES)
                .flat_map(|frame| [sound((first + frame as f32) / FORMAT.rate_hz as f32); 2])
                .collect();
            if self.host.deliver(&samples) {
                self.delivered += CALLBACK_FRAMES as u64;
            }
        }
    }

    /// Some seconds of it, with the worker looking after each callback and a device list each second.
    fn play(&mut self, secs: f64, sound: Option<&dyn Fn(f32) -> f32>) {
        for _ in 0..(secs / CALLBACK.as_secs_f64()).round() as u64 {
            self.tick(sound);
            if self.callbacks.is_multiple_of(100) {
                self.worker.on_devices(&self.host.devices());
            }
            self.look();
        }
    }

    fn look(&mut self) {
        self.worker.step();
        while let Ok(event) = self.events.try_recv() {
            match event {
                Event::Record(record) => self.records.push(*record),
                Event::Notice(text) | Event::Failure(text) => self.notices.push(text),
            }
        }
    }

    fn now(&mut self) -> LiveState {
        self.state.read().clone()
    }

    /// The states of the source in order.
    fn states(&self) -> Vec<&str> {
        let states = self.records.iter().filter_map(|record| match record {
            Record::Source(source) => Some(source.state.as_str()),
            _ => None,
        });
        states.collect()
    }

    fn gaps(&self) -> Vec<&GapRecord> {
        let gaps =
            self.records.iter().filter_map(|record| if let Record::Gap(gap) = record { Some(gap) } else { None });
        gaps.collect()
    }

    fn segments(&self) -> Vec<&SegmentRecord> {
        let segments = self
            .records
            .iter()
            .filter_map(|record| if let Record::Segment(found) = record { Some(found) } else { None });
        segments.collect()
    }

    /// Every frame is received or missing, and both together are the time that passed.
    #[track_caller]
    fn assert_accounted(&mut self, from: Duration, tolerance: f64) {
        let state = self.now();
        let passed = self.clock.now().saturating_sub(from).as_secs_f64();
        assert!((state.received_s + state.lost_s - state.at_s).abs() < 1e-6, "{state:?}");
        assert!((state.at_s - passed).abs() < tolerance, "{} of {passed} s are accounted for", state.at_s);
    }
}

/// A chord: music to the meter, and loud to the ear.
fn chord(t: f32) -> f32 {
    [220.0, 277.2, 329.6].iter().map(|hz| 0.15 * (TAU * hz * t).sin()).sum()
}

fn noise(t: f32) -> f32 {
    // A hash of the time (MurmurHash3's finaliser).
    let mut bits = (t * FORMAT.rate_hz as f32).round() as u32;
    bits = (bits ^ (bits >> 16)).wrapping_mul(0x85eb_ca6b);
    bits = (bits ^ (bits >> 13)).wrapping_mul(0xc2b2_ae35);
    0.3 * ((bits ^ (bits >> 16)) as f32 / u32::MAX as f32 - 0.5)
}

#[test]
fn music_is_heard_said_and_recorded_as_a_segment() {
    let mut stage = Stage::with_mic();
    stage.play(12.0, Some(&chord));
    let state = stage.now();
    assert_eq!((state.heard, state.source.clone()), (Audible::Music, SourceState::Live));
    assert_eq!(state.certain, [true, false, false]);
    assert!((0.1..0.46).contains(&state.level.peak) && state.level.clipped == 0, "{:?}", state.level);
    stage.worker.finish("stopped");
    stage.look();
    let Some(Record::End(end)) = stage.records.last() else { panic!("{:?}", stage.records.last()) };
    assert_eq!((end.gaps, end.reason.as_str()), (0, "stopped"));
    assert!((end.received_s - 12.0).abs() < 1e-6, "{end:?}");
    assert!(end.windows > 25, "{end:?}");
    assert_eq!(stage.segments().len(), 1);
    let segment = stage.segments()[0];
    assert_eq!(segment.tag, "loud");
    assert!(segment.start_s < 2.0 && segment.end_s > 10.0, "{segment:?}");
}

#[test]
fn noise_is_no_music_whatever_the_network_says() {
    let mut stage = Stage::with_mic();
    stage.play(15.0, Some(&noise));
    let state = stage.now();
    assert_eq!(state.heard, Audible::NoMusic);
    assert!(state.probabilities[1] > 0.55, "the network is sure of a harp, and the raw probabilities say so");
    assert_eq!(state.certain, [false; 3]);
    assert_eq!(stage.segments(), Vec::<&SegmentRecord>::new());
}

#[test]
fn an_hour_at_any_speed_accounts_for_every_frame() {
    let mut stage = Stage::with_mic();
    // The worker looks now and then, as a busy machine lets it.
    for round in 0..3_600 {
        let pause = [1, 5, 20, 100][round % 4];
        for index in 0..100 {
            stage.tick(Some(&|t| chord(t % 64.0)));
            if index % pause == 0 {
                stage.look();
            }
        }
        stage.worker.on_devices(&stage.host.devices());
        stage.records.retain(|record| !matches!(record, Record::Tags(_)));
    }
    stage.look();
    let state = stage.now();
    assert_eq!(stage.delivered, 3_600 * 16_000);
    assert!((state.received_s * 16_000.0 - stage.delivered as f64).abs() < 0.5, "{}", state.received_s);
    assert_eq!((state.num_gaps, stage.gaps().len()), (0, 0));
    stage.assert_accounted(Duration::ZERO, 1e-6);
    // 10 ms more would have completed one more window at most.
    let expected = (3_600.0 * 22_050.0 - WINDOW_SAMPLES as f64) / 6_561.0;
    assert!((state.num_windows as f64 - expected).abs() < 3.0, "{} of {expected}", state.num_windows);
}

#[test]
fn what_the_worker_is_too_late_for_is_a_gap_to_the_frame() {
    let mut stage = Stage::with_mic();
    stage.play(5.0, Some(&chord));
    // Nobody looks for longer than the ring lasts.
    let late = RING_SECS as f64 + 1.5;
    (0..(late * 100.0) as u64).for_each(|_| stage.tick(Some(&chord)));
    stage.play(5.0, Some(&chord));
    let (state, gaps) = (stage.now(), stage.gaps());
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0].cause, GapCause::Overrun);
    assert!((gaps[0].end_s - gaps[0].start_s - 1.51).abs() < 0.002, "{gaps:?}");
    assert!(((state.received_s + state.lost_s) * 16_000.0 - stage.delivered as f64).abs() < 0.5);
}

#[test]
fn frames_that_never_come_are_missed_by_the_clock() {
    let mut stage = Stage::with_mic();
    stage.play(20.0, Some(&chord));
    // Half a second in which the sound system drops everything and says nothing.
    stage.play(0.5, None);
    stage.play(20.0, Some(&chord));
    let gaps = stage.gaps();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0].cause, GapCause::Missing);
    assert!((gaps[0].end_s - gaps[0].start_s - 0.5).abs() < 0.02, "{gaps:?}");
    assert!((20.0..23.0).contains(&gaps[0].start_s), "{gaps:?}");
    stage.assert_accounted(Duration::ZERO, 0.03);
    // It went on being music: half a second is no reason to begin anew.
    assert_eq!(stage.segments().len(), 0);
}

#[test]
fn a_device_that_keeps_losing_gets_a_larger_buffer() {
    // Lost per second, and how often it is opened: much at once, or a little again and again.
    for (lost, openings) in [(0.3, 2), (0.05, 3)] {
        let mut stage = Stage::with_mic();
        for _ in 0..40 {
            stage.play(1.0 - lost, Some(&chord));
            stage.play(lost, None);
        }
        assert_eq!(stage.host.openings(), (openings, 2), "{lost}");
        assert!(stage.notices.iter().any(|notice| notice.contains("larger buffer")), "{:?}", stage.notices);
        assert_eq!(stage.segments().len(), 0, "it went on being music");
        let missing: f64 = stage.gaps().iter().map(|gap| gap.end_s - gap.start_s).sum();
        // What the last four seconds lost is not known yet.
        let unknown = 4.0 * lost + 0.1;
        assert!((missing - 40.0 * lost).abs() < unknown, "{missing} s of 40 times {lost}");
        stage.assert_accounted(Duration::ZERO, unknown);
    }
}

#[test]
fn a_device_is_lost_and_taken_again_when_it_returns() {
    let mut stage = Stage::with_mic();
    stage.play(10.0, Some(&chord));
    stage.host.set_devices(vec![device("line", DeviceKind::Input, true)]);
    stage.host.trouble(Trouble::Lost);
    stage.play(7.0, Some(&chord));
    let state = stage.now();
    assert!(matches!(&state.source, SourceState::Lost { reason } if reason.contains("The mic")), "{:?}", state.source);
    assert_eq!((state.device, state.certain), (None, vec![false; 3]));
    assert!((state.at_s - 17.0).abs() < 0.1, "time goes on: {}", state.at_s);
    assert_eq!(stage.host.open_device(), None, "no other device was chosen");

    stage.host.set_devices(vec![device("line", DeviceKind::Input, true), mic()]);
    stage.play(10.0, Some(&chord));
    assert_eq!(stage.now().source, SourceState::Live);
    assert_eq!(stage.host.open_device().as_deref(), Some("mic"));
    assert_eq!(stage.states(), ["opening", "live", "lost", "opening", "live"]);
    let gaps = stage.gaps();
    assert_eq!((gaps.len(), gaps[0].cause), (1, GapCause::Device));
    assert!((7.0..8.2).contains(&(gaps[0].end_s - gaps[0].start_s)), "{gaps:?}");
    stage.assert_accounted(Duration::ZERO, 0.03);
    // The tag ended with the sound and came again with it.
    assert_eq!(stage.segments().len(), 1);
    assert!(stage.segments()[0].end_s < 10.0);
    assert!(stage.now().certain[0]);
}

#[test]
fn a_server_that_moves_the_stream_does_not_pass_for_the_device() {
    let mut stage = Stage::with_mic();
    stage.play(5.0, Some(&chord));
    // The microphone is gone, and sound goes on: from something else.
    stage.host.set_devices(vec![device("line", DeviceKind::Input, true)]);
    stage.play(4.0, Some(&chord));
    assert!(matches!(stage.now().source, SourceState::Lost { .. }), "{:?}", stage.now().source);
}

#[test]
fn the_default_is_followed_and_said() {
    let mut stage = Stage::new(SourceChoice::Default(DeviceKind::Input), vec![mic()]);
    stage.play(5.0, Some(&chord));
    stage.host.set_devices(vec![
        Device { is_default: false, ..mic() },
        device("usb", DeviceKind::Input, true),
        device("screen", DeviceKind::System, true),
    ]);
    stage.play(2.0, Some(&chord));
    let state = stage.now();
    assert_eq!(state.source, SourceState::Rerouted { from: "The mic".to_owned() });
    assert_eq!(state.device.map(|device| device.id).as_deref(), Some("usb"));
    stage.play(8.0, Some(&chord));
    assert_eq!(stage.now().source, SourceState::Live);
    stage.assert_accounted(Duration::ZERO, 0.03);
}

#[test]
fn refused_permission_is_no_lost_device() {
    let mut stage = Stage::new(by_id("mic"), Vec::new());
    assert!(matches!(stage.now().source, SourceState::Lost { .. }));
    let denied = CaptureError::Denied { device: "The mic".to_owned(), cause: "access denied".to_owned() };
    stage.host.set_devices(vec![mic()]);
    stage.host.refuse(Some(denied));
    stage.play(3.0, Some(&chord));
    let state = stage.now().source;
    assert!(matches!(&state, SourceState::Denied { reason } if reason.contains("privacy settings")), "{state:?}");
    stage.host.refuse(None);
    stage.play(6.0, Some(&chord));
    assert_eq!(stage.now().source, SourceState::Live);
    assert_eq!(stage.states(), ["lost", "denied", "opening", "live"]);
    // There was no sound yet that could be missing.
    assert_eq!(stage.gaps().len(), 0);
    // Withdrawn while it listens.
    stage.host.trouble(Trouble::Denied);
    stage.play(0.1, Some(&chord));
    assert!(matches!(stage.now().source, SourceState::Denied { .. }));
}

#[test]
fn true_silence_is_a_state_of_its_own() {
    let mut stage = Stage::with_mic();
    stage.play(8.0, Some(&|_| 0.0));
    assert!(matches!(stage.now().source, SourceState::Silent { digital: true, .. }));
    assert_eq!(stage.now().heard, Audible::Silence);
    stage.play(8.0, Some(&|t| 1e-4 * noise(t)));
    assert!(matches!(stage.now().source, SourceState::Silent { digital: false, .. }), "{:?}", stage.now().source);
    stage.play(6.0, Some(&chord));
    assert_eq!((stage.now().source, stage.now().heard), (SourceState::Live, Audible::Music));
    assert_eq!(stage.gaps().len(), 0);
}

#[test]
fn an_open_device_that_sends_nothing_is_stalled_then_opened_anew() {
    let mut stage = Stage::with_mic();
    stage.play(5.0, Some(&chord));
    stage.play(3.0, None);
    assert!(matches!(stage.now().source, SourceState::Stalled { .. }));
    stage.play(8.0, None);
    assert!(stage.host.openings().0 >= 2);
    stage.play(5.0, Some(&chord));
    assert_eq!(stage.now().source, SourceState::Live);
    stage.assert_accounted(Duration::ZERO, 0.1);
}

#[test]
fn another_source_goes_on_on_the_same_timeline() {
    let mut stage = Stage::new(by_id("mic"), vec![mic(), device("line", DeviceKind::Input, false)]);
    stage.play(5.0, Some(&chord));
    stage.worker.command(Command::Select(by_id("line")));
    stage.play(5.0, Some(&chord));
    assert_eq!(stage.host.open_device().as_deref(), Some("line"));
    stage.assert_accounted(Duration::ZERO, 0.05);
    assert_eq!(stage.segments().len(), 1, "what was heard ends with its source");
}

#[test]
fn clipping_is_counted() {
    let mut stage = Stage::with_mic();
    stage.play(1.0, Some(&|t| if ((t * 100.0) as u32).is_multiple_of(10) { 1.0 } else { 0.1 }));
    let clipped = stage.now().level.clipped;
    assert!((3_000..3_500).contains(&clipped), "{clipped}");
}

#[test]
fn the_record_is_on_disk_while_it_is_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("set.jsonl");
    let mut stage = Stage::with_mic();
    stage.play(3.0, Some(&chord));
    let options = RecordOptions {
        session: Some(path.clone()),
        audio: Some(folder.path().join("set.flac")),
        now_playing: Some(folder.path().join("now.txt")),
        created: Some("2026-01-01T00:00:03Z".to_owned()),
    };
    stage.worker.command(Command::Record(options));
    stage.play(10.0, Some(&chord));
    // The recorder's thread writes in its own time.
    let lines = || fs::read_to_string(&path).map_or(0, |text| text.lines().count());
    for _ in 0..200 {
        if lines() >= 11 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let unfinished = Session::read(&path).expect("readable while it is written");
    assert!(unfinished.end.is_none() && unfinished.tags.len() >= 8, "{} seconds", unfinished.tags.len());
    assert_eq!(fs::read_to_string(folder.path().join("now.txt")).expect("there"), "loud\n");

    stage.worker.command(Command::StopRecording);
    stage.look();
    let session = Session::read(&path).expect("readable");
    assert_eq!(session.header.model.name, "ear");
    assert!(session.end.is_some());
    assert_eq!(session.sources[0].state, "live");
    // It has a time of its own, that of the sound beside it, however long was listened before.
    assert_eq!(session.header.created, "2026-01-01T00:00:03Z");
    let end = session.end.as_ref().expect("an end");
    assert!((end.t - 10.0).abs() < 0.05 && (end.received_s - 10.0).abs() < 0.05 && end.windows <= 34, "{end:?}");
    assert!(session.sources[0].t < 0.05 && session.tags[0].t < 1.5, "{:?}", session.tags[0]);
    assert!(session.tags.iter().flat_map(|tags| &tags.certain).all(|certain| certain.since_s <= 10.0));
    // Recording again into the same file is refused, and the rest goes on.
    stage.worker.command(Command::Record(RecordOptions { session: Some(path), ..RecordOptions::default() }));
    stage.play(1.0, Some(&chord));
    assert!(stage.notices.iter().any(|notice| notice.contains("never overwritten")), "{:?}", stage.notices);
    let (sound, _) = crate::audio::load(&folder.path().join("set.flac")).expect("FLAC");
    assert!((sound.secs() - 10.0).abs() < 0.05, "{} s", sound.secs());
}

#[test]
fn a_file_is_listened_to_as_it_sounds() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("song.wav");
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 44_100,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&path, spec).expect("created");
    for n in 0..44_100 * 20 {
        writer.write_sample((chord(n as f32 / 44_100.0) * 32_767.0) as i16).expect("written");
    }
    writer.finalize().expect("written");
    let start = |source| {
        let options = LiveOptions {
            source,
            record: RecordOptions::default(),
            output: None,
            created: String::new(),
            program: String::new(),
            model_blake3: String::new(),
        };
        let clock = Arc::new(SystemClock::faster(20.0));
        Live::start(Arc::new(FakeEar), &metadata(), Arc::new(FakeHost::default()), clock, options).expect("started")
    };
    let began = std::time::Instant::now();
    let mut live = start(SourceChoice::File(path));
    let mut end = None;
    while let Some(event) = live.event(Duration::from_secs(10)) {
        if let Event::Record(record) = event
            && let Record::End(record) = *record
        {
            end = Some(record);
            break;
        }
    }
    let end = end.expect("it ends by itself");
    assert!(began.elapsed() >= Duration::from_millis(990), "20 s at 20 times their speed: {:?}", began.elapsed());
    assert_eq!((end.gaps, end.reason.as_str()), (0, "the file has ended"));
    assert!((end.received_s - 20.0).abs() < 1e-3, "{end:?}");
    // As many windows as a file of this length has, without the padded one.
    assert_eq!(end.windows, (20 * 22_050 - WINDOW_SAMPLES as u64) / 6_561 + 1);
    assert_eq!(live.state().source, SourceState::Ended);

    let live = start(SourceChoice::File("absent.mp3".into()));
    let events: Vec<Event> = std::iter::from_fn(|| live.event(Duration::from_secs(2))).collect();
    let failed = |event: &Event| matches!(event, Event::Failure(text) if text.contains("absent.mp3"));
    assert!(events.iter().any(failed), "{events:?}");
}

// --- files that are heard ----------------------------------------------------------------------------------------------

/// Six seconds of a chord, at a rate that is not the device's.
fn six_seconds(folder: &std::path::Path) -> std::path::PathBuf {
    let path = folder.join("chord.wav");
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 32_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&path, spec).expect("created");
    for n in 0..32_000 * 6 {
        writer.write_sample((chord(n as f32 / 32_000.0) * 32_767.0) as i16).expect("written");
    }
    writer.finalize().expect("written");
    path
}

/// Listens to a file aloud on `output`, whose callbacks come at twice real time; `at(pulled, state)` sees every callback.
/// Returns the notices and the seconds received.
fn aloud(output: &FakeOutput, mut at: impl FnMut(f64, &LiveState)) -> (Vec<String>, f64) {
    let folder = tempfile::tempdir().expect("a folder");
    let options = LiveOptions {
        source: SourceChoice::File(six_seconds(folder.path())),
        record: RecordOptions::default(),
        output: Some(Arc::new(output.clone())),
        created: String::new(),
        program: String::new(),
        model_blake3: String::new(),
    };
    let clock = Arc::new(SystemClock::faster(2.0));
    let mut live =
        Live::start(Arc::new(FakeEar), &metadata(), Arc::new(FakeHost::default()), clock, options).expect("started");
    let (mut notices, mut received_s, mut pulled) = (Vec::new(), 0.0, 0_u64);
    let callback = output.rate_hz() as usize / 100;
    let began = std::time::Instant::now();
    while !live.is_over() {
        assert!(began.elapsed() < Duration::from_mins(1), "it does not end");
        std::thread::sleep(Duration::from_millis(5));
        if output.pull(callback).is_some() {
            pulled += callback as u64;
        }
        at(pulled as f64 / f64::from(output.rate_hz()), live.state());
    }
    live.stop();
    while let Some(event) = live.event(Duration::ZERO) {
        match event {
            Event::Notice(text) | Event::Failure(text) => notices.push(text),
            Event::Record(record) => {
                if let Record::End(end) = *record {
                    received_s = end.received_s;
                }
            }
        }
    }
    (notices, received_s)
}

#[test]
fn what_is_played_is_tagged_in_step() {
    let output = FakeOutput::new(44_100, 2);
    let mut behind = Vec::new();
    let (notices, received_s) = aloud(&output, |pulled_s, state| {
        if (0.5..5.5).contains(&pulled_s) {
            behind.push(pulled_s - state.received_s);
        }
    });
    assert!(notices.is_empty(), "{notices:?}");
    assert!((received_s - 6.0).abs() < 0.02, "{received_s}");
    behind.sort_by(f64::total_cmp);
    let (least, median) = (behind[0], behind[behind.len() / 2]);
    println!("tagged {median:.3} s behind what sounds (median), {:.3} s at most", behind[behind.len() - 1]);
    assert!(least > -0.02, "nothing is tagged before it sounds: {least}");
    assert!(median < Hop::DEFAULT.duration().as_secs_f64(), "{median}");
}

#[test]
fn a_file_goes_on_silently_without_its_device() {
    let output = FakeOutput::new(44_100, 2);
    output.lose("no card");
    let (notices, received_s) = aloud(&output, |_, _| {});
    assert!(notices.len() == 1 && notices[0].contains("without being heard"), "{notices:?}");
    assert!((received_s - 6.0).abs() < 0.05, "{received_s}");

    let output = FakeOutput::new(44_100, 2);
    let mut is_lost = false;
    let (notices, received_s) = aloud(&output, |pulled_s, _| {
        if pulled_s > 2.0 && !is_lost {
            is_lost = true;
            output.lose("unplugged");
        }
    });
    assert!(notices.len() == 1 && notices[0].contains("The speaker is gone"), "{notices:?}");
    assert!((received_s - 6.0).abs() < 0.05, "{received_s}");
}
