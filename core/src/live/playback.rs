//! Files played through the default output device.
//!
//! ```text
//! commands -> player thread: StereoStream -> Feeder -> ring -> callback -> device
//!                 |             ^ seek                  '- what is heard -+
//!                 '-> PlayerState <---------------------------------------+
//! ```
//!
//! [`Player`] is all that a screen needs. Nothing waits: commands go in through a channel, the state is a copy. A device
//! that is lost is a state, not an end: the default device is tried again each second, and the file goes on where it was.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Clock;
use super::output::{Output, OutputHost};
use crate::audio::StereoStream;

/// How often the ring is looked after while there is an output, and how often a lost one is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How often an output is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A device that has not asked for frames for so long is lost.
const STALLED: Duration = Duration::from_secs(2);

/// How long a paused player keeps its device, so that going on is instant and the sound card may sleep.
const KEPT_WHILE_PAUSED: Duration = Duration::from_secs(5);

/// Frames decoded in one look at most, in seconds: commands are heard in between.
const DECODED_AT_A_TIME: f64 = 0.25;

/// Rate at which a file is opened before the device's is known.
const PROVISIONAL_RATE_HZ: u32 = 48_000;

/// What a player does.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Phase {
    /// No file.
    #[default]
    Empty,
    /// A file that waits.
    Paused,
    /// A file sounds, or is about to.
    Playing,
    /// The file is at its end.
    Ended,
    /// There is no device to play on. It is looked for, and then the file goes on.
    NoDevice {
        /// What is known about it, and what helps.
        reason: String,
    },
    /// The device is gone. Another one is looked for, and then the file goes on.
    Lost {
        /// What is known about it.
        reason: String,
    },
    /// The file cannot be played.
    Failed {
        /// The file, why, and what helps.
        reason: String,
    },
}

/// A moment of a player.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct PlayerState {
    /// The file.
    pub file: Option<PathBuf>,
    /// What becomes of it.
    pub phase: Phase,
    /// What is heard now, in seconds.
    pub position_s: f64,
    /// Duration that the file claims, in seconds.
    pub declared_s: Option<f64>,
    /// Loudness, 0 to 1.
    pub volume: f32,
    /// The device, while it is open.
    pub device: Option<String>,
    /// Frames that could not be decoded in time.
    pub underruns: u64,
}

impl PlayerState {
    /// Whether time goes on.
    pub fn is_playing(&self) -> bool {
        self.phase == Phase::Playing
    }
}

/// What can be asked of a player.
#[derive(Clone, Debug, PartialEq)]
enum Wish {
    Load(PathBuf),
    Unload,
    Play,
    Pause,
    Seek(f64),
    Volume(f32),
}

/// Plays one file after the other. Dropping it ends that.
pub struct Player {
    wishes: Option<Sender<Wish>>,
    state: Arc<Mutex<PlayerState>>,
    thread: Option<JoinHandle<()>>,
}

impl Player {
    /// A player without a file. No device is opened before something is to sound.
    ///
    /// # Errors
    /// If the system starts no more threads.
    pub fn start(host: Arc<dyn OutputHost>, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        let state = Arc::new(Mutex::new(PlayerState { volume: 1.0, ..PlayerState::default() }));
        let (wishes, wishes_out) = mpsc::channel();
        let mut deck = Deck::new(host, clock, Arc::clone(&state));
        let thread = thread::Builder::new().name("player".to_owned()).spawn(move || run(&mut deck, &wishes_out))?;
        Ok(Self { wishes: Some(wishes), state, thread: Some(thread) })
    }

    fn wish(&self, wish: Wish) {
        if let Some(wishes) = &self.wishes {
            let _ = wishes.send(wish);
        }
    }

    /// Takes a file, paused at its start.
    pub fn load(&self, file: PathBuf) {
        self.wish(Wish::Load(file));
    }

    /// Lets go of the file.
    pub fn unload(&self) {
        self.wish(Wish::Unload);
    }

    /// Goes on; at the end from the start.
    pub fn play(&self) {
        self.wish(Wish::Play);
    }

    /// Waits.
    pub fn pause(&self) {
        self.wish(Wish::Pause);
    }

    /// Goes to a place, in seconds.
    pub fn seek(&self, secs: f64) {
        self.wish(Wish::Seek(secs));
    }

    /// Sets the loudness, 0 to 1.
    pub fn set_volume(&self, volume: f32) {
        self.wish(Wish::Volume(volume));
    }

    /// What it does now.
    pub fn state(&self) -> PlayerState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.wishes = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has printed itself; there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

fn run(deck: &mut Deck, wishes: &Receiver<Wish>) {
    loop {
        let wish = if deck.is_idle() {
            wishes.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            wishes.recv_timeout(LOOK_EVERY)
        };
        match wish {
            Ok(wish) => {
                deck.take(wish);
                // A slider that is dragged asks for many places; the last one counts.
                wishes.try_iter().for_each(|wish| deck.take(wish));
                // Before a device is opened, which can take seconds.
                deck.publish();
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        deck.step();
    }
}

/// A file on its way to the output.
struct Track {
    file: PathBuf,
    stream: StereoStream,
    /// Decoded and not in the ring yet, and how much of it is.
    waiting: Vec<f32>,
    taken: usize,
    is_decoded: bool,
    /// Number of the frame that is at this place.
    base: (u64, f64),
}

/// The player's thread.
struct Deck {
    host: Arc<dyn OutputHost>,
    clock: Arc<dyn Clock>,
    shared: Arc<Mutex<PlayerState>>,
    state: PlayerState,
    track: Option<Track>,
    output: Option<Output>,
    wants_to_play: bool,
    /// A place to go to before anything else is decoded.
    wanted_s: Option<f64>,
    next_try: Duration,
    paused_at: Duration,
}

impl Deck {
    fn new(host: Arc<dyn OutputHost>, clock: Arc<dyn Clock>, shared: Arc<Mutex<PlayerState>>) -> Self {
        let state = PlayerState { volume: 1.0, ..PlayerState::default() };
        let next_try = clock.now();
        Self {
            host,
            clock,
            shared,
            state,
            track: None,
            output: None,
            wants_to_play: false,
            wanted_s: None,
            next_try,
            paused_at: next_try,
        }
    }

    /// Nothing happens before the next wish.
    fn is_idle(&self) -> bool {
        self.output.is_none() && !self.wants_to_play
    }

    fn take(&mut self, wish: Wish) {
        match wish {
            Wish::Load(file) => self.load(file),
            Wish::Unload => {
                (self.track, self.output, self.wants_to_play, self.wanted_s) = (None, None, false, None);
                self.state = PlayerState { volume: self.state.volume, ..PlayerState::default() };
            }
            Wish::Play => {
                if self.track.is_some() && !self.wants_to_play {
                    if self.state.phase == Phase::Ended {
                        self.go_to(0.0);
                    }
                    (self.wants_to_play, self.next_try) = (true, self.clock.now());
                    self.state.phase = Phase::Playing;
                }
            }
            Wish::Pause => self.pause(Phase::Paused),
            Wish::Seek(secs) => {
                if self.track.is_some() {
                    self.go_to(if secs.is_finite() { secs.max(0.0) } else { 0.0 });
                    if self.state.phase == Phase::Ended {
                        self.state.phase = Phase::Paused;
                    }
                }
            }
            Wish::Volume(volume) => self.state.volume = if volume.is_finite() { volume.clamp(0.0, 1.0) } else { 1.0 },
        }
    }

    fn load(&mut self, file: PathBuf) {
        self.pause(Phase::Paused);
        let rate_hz = self.output.as_ref().map_or(PROVISIONAL_RATE_HZ, |output| output.feeder.rate_hz());
        let volume = self.state.volume;
        self.state = PlayerState { file: Some(file.clone()), volume, ..PlayerState::default() };
        match StereoStream::open(&file, rate_hz) {
            Ok(stream) => {
                self.state.declared_s = stream.declared_secs();
                self.state.phase = Phase::Paused;
                self.track =
                    Some(Track { file, stream, waiting: Vec::new(), taken: 0, is_decoded: false, base: (0, 0.0) });
                self.go_to(0.0);
            }
            Err(error) => {
                self.track = None;
                self.state.phase = Phase::Failed { reason: error.to_string() };
            }
        }
    }

    fn pause(&mut self, phase: Phase) {
        if self.wants_to_play {
            (self.wants_to_play, self.paused_at) = (false, self.clock.now());
            self.state.phase = phase;
        }
        if let Some(output) = &self.output {
            output.feeder.set_playing(false);
        }
    }

    fn go_to(&mut self, secs: f64) {
        let secs = self.state.declared_s.map_or(secs, |declared| secs.min(declared));
        self.wanted_s = Some(secs);
        self.state.position_s = secs;
    }

    fn fail(&mut self, reason: String) {
        self.pause(Phase::Paused);
        self.track = None;
        self.state.phase = Phase::Failed { reason };
    }

    /// Everything there is to do now.
    fn step(&mut self) {
        self.open_output_if_due();
        self.watch_output();
        self.feed();
        self.follow();
        self.publish();
    }

    fn publish(&mut self) {
        self.state.device = self.output.as_ref().map(|output| output.name.clone());
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&self.state);
    }

    fn open_output_if_due(&mut self) {
        let now = self.clock.now();
        if self.track.is_none() || !self.wants_to_play || self.output.is_some() || now < self.next_try {
            return;
        }
        match self.host.open_output(&self.clock) {
            Ok(output) => {
                let rate_hz = output.feeder.rate_hz();
                self.output = Some(output);
                self.state.phase = Phase::Playing;
                self.go_to(self.state.position_s);
                let Some(track) = &mut self.track else { return };
                if track.stream.rate_hz() != rate_hz {
                    match StereoStream::open(&track.file, rate_hz) {
                        Ok(stream) => track.stream = stream,
                        Err(error) => self.fail(error.to_string()),
                    }
                }
            }
            Err(error) => {
                self.next_try = now + RETRY;
                if !matches!(self.state.phase, Phase::Lost { .. }) {
                    self.state.phase = Phase::NoDevice { reason: error.to_string() };
                }
            }
        }
    }

    /// Looks at what the device reports, and at what it does not.
    fn watch_output(&mut self) {
        let now = self.clock.now();
        let Some(output) = &self.output else { return };
        let trouble = match output.feeder.signals().take_trouble() {
            // The system plays on with another device.
            Some((super::Trouble::Rerouted, _)) | None => None,
            Some(_) => Some("is gone"),
        };
        let stalled = (self.wants_to_play && output.feeder.silent_for() >= STALLED).then_some("takes no more sound");
        if let Some(what) = trouble.or(stalled) {
            let reason = format!("{} {what}; the file goes on where it was on the next device", output.name);
            self.output = None;
            self.next_try = now + RETRY;
            if self.wants_to_play {
                self.state.phase = Phase::Lost { reason };
            }
        } else if !self.wants_to_play && now.saturating_sub(self.paused_at) >= KEPT_WHILE_PAUSED {
            self.output = None;
        }
    }

    /// Fills the ring.
    fn feed(&mut self) {
        let (Some(output), Some(track)) = (&mut self.output, &mut self.track) else { return };
        let feeder = &mut output.feeder;
        feeder.set_volume(self.state.volume);
        if let Some(secs) = self.wanted_s.take() {
            track.base = (feeder.discard(), secs);
            track.waiting.clear();
            (track.taken, track.is_decoded) = (0, false);
            if let Err(error) = track.stream.seek(secs) {
                return self.fail(error.to_string());
            }
        }
        feeder.set_playing(self.wants_to_play);
        let most = 2 * (DECODED_AT_A_TIME * f64::from(feeder.rate_hz())) as usize;
        let mut decoded = 0;
        while feeder.room() > 0 && decoded < most {
            if track.taken == track.waiting.len() {
                track.waiting.clear();
                track.taken = 0;
                if track.is_decoded {
                    break;
                }
                match track.stream.next_chunk(&mut track.waiting) {
                    Ok(more) => track.is_decoded = !more,
                    Err(error) => return self.fail(error.to_string()),
                }
                decoded += track.waiting.len();
            }
            track.taken += 2 * feeder.push(&track.waiting[track.taken..]);
        }
        if track.is_decoded && track.taken == track.waiting.len() {
            feeder.end();
        }
    }

    /// Where the ear is.
    fn follow(&mut self) {
        let (Some(output), Some(track)) = (&mut self.output, &self.track) else { return };
        if self.wanted_s.is_some() {
            return;
        }
        let heard = output.feeder.heard();
        let (frame, secs) = track.base;
        self.state.position_s = secs + heard.saturating_sub(frame) as f64 / f64::from(output.feeder.rate_hz());
        self.state.underruns = output.feeder.underruns();
        let is_over = track.is_decoded && track.taken == track.waiting.len() && heard >= output.feeder.pushed();
        if is_over && self.wants_to_play {
            self.pause(Phase::Ended);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{FakeOutput, ManualClock};
    use super::*;

    struct Stage {
        deck: Deck,
        host: FakeOutput,
        clock: Arc<ManualClock>,
        /// Everything that sounded.
        heard: Vec<f32>,
    }

    const RATE_HZ: u32 = 8_000;

    impl Stage {
        fn new(rate_hz: u32) -> Self {
            let (host, clock) = (FakeOutput::new(rate_hz, 1), Arc::new(ManualClock::new()));
            let deck = Deck::new(Arc::new(host.clone()), clock.clone(), Arc::default());
            Self { deck, host, clock, heard: Vec::new() }
        }

        fn wish(&mut self, wish: Wish) {
            self.deck.take(wish);
            self.deck.step();
        }

        /// Time passes, in callbacks of 10 ms.
        fn pass(&mut self, secs: f64) {
            for _ in 0..(secs * 100.0).round() as usize {
                self.clock.advance(Duration::from_millis(10));
                if let Some(samples) = self.host.pull(self.host.rate_hz() as usize / 100) {
                    self.heard.extend(samples);
                }
                self.deck.step();
            }
        }

        fn state(&self) -> PlayerState {
            self.deck.shared.lock().expect("no panic").clone()
        }
    }

    /// Ten seconds whose sample at `t` is `t / 20`.
    fn ramp(folder: &Path) -> PathBuf {
        let path = folder.join("ramp.wav");
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: RATE_HZ,
            bits_per_sample: 32,
            sample_format: hound::SampleFormat::Float,
        };
        let mut writer = hound::WavWriter::create(&path, spec).expect("written");
        for n in 0..10 * RATE_HZ {
            writer.write_sample(n as f32 / RATE_HZ as f32 / 20.0).expect("written");
        }
        writer.finalize().expect("written");
        path
    }

    #[track_caller]
    fn assert_near(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance, "{a} is not {b}");
    }

    #[test]
    fn a_file_plays_pauses_and_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut stage = Stage::new(RATE_HZ);
        stage.wish(Wish::Load(ramp(folder.path())));
        assert_eq!(stage.state().phase, Phase::Paused);
        assert_near(stage.state().declared_s.expect("known"), 10.0, 0.01);
        stage.pass(1.0);
        assert!(stage.heard.is_empty(), "no device is opened for nothing");

        stage.wish(Wish::Play);
        stage.pass(2.0);
        assert_near(stage.state().position_s, 2.0, 0.03);
        assert_near(f64::from(*stage.heard.last().expect("sound")) * 20.0, 2.0, 0.03);
        stage.wish(Wish::Pause);
        stage.pass(1.0);
        assert_eq!(stage.state().phase, Phase::Paused);
        assert_near(stage.state().position_s, 2.0, 0.03);
        assert!(stage.heard.last().expect("silence").abs() < 1e-9);
        assert!(stage.state().device.is_some());
        stage.pass(6.0);
        assert_eq!(stage.state().device, None, "the card may sleep");

        stage.wish(Wish::Play);
        stage.pass(8.5);
        assert_eq!(stage.state().phase, Phase::Ended);
        assert_near(stage.state().position_s, 10.0, 0.01);
        assert_eq!(stage.state().underruns, 0);
        stage.wish(Wish::Play);
        stage.pass(1.0);
        assert_near(stage.state().position_s, 1.0, 0.03);
    }

    #[test]
    fn a_place_sounds_at_once_and_exactly() {
        let folder = tempfile::tempdir().expect("a folder");
        for rate_hz in [RATE_HZ, 44_100] {
            let mut stage = Stage::new(rate_hz);
            stage.wish(Wish::Load(ramp(folder.path())));
            stage.wish(Wish::Seek(7.0));
            assert_near(stage.state().position_s, 7.0, 1e-9);
            stage.wish(Wish::Play);
            stage.pass(0.5);
            assert_near(stage.state().position_s, 7.5, 0.03);
            assert_near(f64::from(*stage.heard.last().expect("sound")) * 20.0, 7.5, 0.03);
            stage.wish(Wish::Seek(1.25));
            stage.pass(0.5);
            assert_near(stage.state().position_s, 1.75, 0.03);
            assert_near(f64::from(*stage.heard.last().expect("sound")) * 20.0, 1.75, 0.03);
            stage.wish(Wish::Seek(99.0));
            stage.pass(0.1);
            assert_eq!(stage.state().phase, Phase::Ended);
        }
    }

    #[test]
    fn volume_is_heard() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut stage = Stage::new(RATE_HZ);
        stage.wish(Wish::Load(ramp(folder.path())));
        stage.wish(Wish::Volume(0.5));
        stage.wish(Wish::Seek(4.0));
        stage.wish(Wish::Play);
        stage.pass(0.2);
        assert_near(f64::from(*stage.heard.last().expect("sound")), 0.105, 0.001);
    }

    #[test]
    fn a_lost_device_is_a_state_and_the_file_goes_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut stage = Stage::new(RATE_HZ);
        stage.wish(Wish::Load(ramp(folder.path())));
        stage.wish(Wish::Play);
        stage.pass(3.0);
        stage.host.lose("unplugged");
        stage.pass(2.5);
        let state = stage.state();
        assert!(matches!(&state.phase, Phase::Lost { reason } if reason.contains("is gone")), "{state:?}");
        assert_near(state.position_s, 3.0, 0.03);
        stage.host.bring_back();
        stage.pass(2.0);
        assert_eq!(stage.state().phase, Phase::Playing);
        assert!((4.0..5.1).contains(&stage.state().position_s), "{:?}", stage.state());
        // A device that takes no more frames is lost too.
        for _ in 0..35 {
            stage.clock.advance(Duration::from_millis(100));
            stage.deck.step();
        }
        assert!(matches!(stage.state().phase, Phase::Lost { .. } | Phase::Playing));
        assert!(stage.host.num_opened() >= 3, "opened anew");
    }

    #[test]
    fn without_a_device_it_says_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut stage = Stage::new(RATE_HZ);
        stage.host.lose("no card");
        stage.wish(Wish::Load(ramp(folder.path())));
        stage.wish(Wish::Play);
        let state = stage.state();
        assert!(matches!(&state.phase, Phase::NoDevice { reason } if reason.contains("no output device")), "{state:?}");
        stage.wish(Wish::Pause);
        assert_eq!(stage.state().phase, Phase::Paused);
    }

    #[test]
    fn what_is_no_music_fails_with_its_name() {
        let mut stage = Stage::new(RATE_HZ);
        stage.wish(Wish::Load(PathBuf::from("absent.mp3")));
        stage.wish(Wish::Play);
        let state = stage.state();
        assert!(matches!(&state.phase, Phase::Failed { reason } if reason.contains("absent.mp3")), "{state:?}");
        stage.wish(Wish::Unload);
        assert_eq!(stage.state().phase, Phase::Empty);
    }

    #[test]
    fn a_player_ends_when_it_is_dropped() {
        let folder = tempfile::tempdir().expect("a folder");
        let host = FakeOutput::new(RATE_HZ, 2);
        let player = Player::start(Arc::new(host), Arc::new(ManualClock::new())).expect("a thread");
        player.load(ramp(folder.path()));
        player.play();
        for _ in 0..500 {
            if player.state().is_playing() {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        assert!(player.state().is_playing());
    }
}
