//! The page as a person uses it, with invented devices, an invented clock and an ear that knows three tags.

use std::f32::consts::TAU;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use earmark_core::live::{
    CaptureError, Clock, Device, DeviceKind, FakeEar, FakeHost, FrameFormat, ManualClock, Session, SourceChoice,
};
use earmark_core::model_file::{Model, ModelMetadata};
use earmark_core::weights::Architecture;
use eframe::egui::{self, Key, Modifiers, Theme};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable, by};

use super::LivePage;
use crate::desktop::app::Desktop;
use crate::desktop::context::{Loaded, Shared};
use crate::desktop::settings::{Settings, ThemeChoice};
use crate::desktop::testing::{PATIENCE, compare};

/// A clock that only the test moves; who sleeps waits for a real moment.
struct StageClock(ManualClock);

impl Clock for StageClock {
    fn now(&self) -> Duration {
        self.0.now()
    }

    fn sleep(&self, _: Duration) {
        thread::sleep(Duration::from_millis(1));
    }
}

const FORMAT: FrameFormat = FrameFormat { rate_hz: 16_000, channels: 2 };
const CALLBACK: Duration = Duration::from_millis(10);
const CALLBACK_FRAMES: usize = 160;

fn device(id: &str, kind: DeviceKind, is_default: bool) -> Device {
    Device { id: id.to_owned(), name: format!("The {id}"), kind, is_default }
}

fn devices() -> Vec<Device> {
    vec![
        device("mic", DeviceKind::Input, true),
        device("line", DeviceKind::Input, false),
        device("desk", DeviceKind::System, true),
    ]
}

fn chord(t: f32) -> f32 {
    [220.0, 277.2, 329.6].iter().map(|hz| (TAU * hz * t).sin()).sum::<f32>() * 0.1
}

/// A tone that is as loud in every moment.
fn square(t: f32) -> f32 {
    if (t * 220.0).fract() < 0.5 { 0.04 } else { -0.04 }
}

/// White noise, the same each time and as loud in every moment.
fn hiss(t: f32) -> f32 {
    let bits = ((t * FORMAT.rate_hz as f32).round() as u32).wrapping_mul(2_654_435_761);
    let bits = (bits ^ (bits >> 15)).wrapping_mul(2_246_822_519);
    if (bits ^ (bits >> 13)) & 1 == 0 { 0.04 } else { -0.04 }
}

fn zero(_: f32) -> f32 {
    0.0
}

struct Stage {
    host: FakeHost,
    clock: Arc<StageClock>,
    window: Harness<'static, Desktop>,
    frames: u64,
}

impl Stage {
    fn new(settings: Settings, settings_path: Option<&Path>, size: [f32; 2]) -> Self {
        let host = FakeHost::new(devices(), FORMAT);
        let clock = Arc::new(StageClock(ManualClock::new()));
        let tags = FakeEar::TAGS.map(str::to_owned).to_vec();
        let architecture = Architecture::scaled(0.05, 3, None, tags.len());
        let mut model = Model::random(architecture.clone(), 1);
        model.metadata = ModelMetadata::new("ear", architecture, tags);
        let shared = Shared::new(Loaded::with(model, "00".to_owned(), None, Arc::new(FakeEar)), settings);
        let path = settings_path.map(Path::to_path_buf);
        let (devices, time) = (Arc::new(host.clone()), Arc::clone(&clock));
        let window = Harness::builder().with_size(size).build_eframe(move |creation| {
            let choice = SourceChoice::Default(DeviceKind::Input);
            let live = LivePage::with(&creation.egui_ctx, &shared, devices, time, choice).expect("a page");
            Desktop::with(&creation.egui_ctx, shared, path, live)
        });
        Self { host, clock, window, frames: 0 }
    }

    /// A stage whose user has read the welcome.
    fn usual() -> Self {
        let mut settings = Settings::default();
        settings.is_welcomed = true;
        Self::new(settings, None, [1_180.0, 760.0])
    }

    /// Draws frames until it is so.
    #[track_caller]
    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        loop {
            self.window.step();
            if is_so(self) {
                return;
            }
            assert!(Instant::now() < end, "{what} never came; there is: {:#?}", self.texts());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Everything that a screen reader finds.
    fn texts(&self) -> Vec<String> {
        let all = self.window.root().query_all(by().predicate(|_| true).recursive(true)).flat_map(|node| {
            let node = node.accesskit_node();
            [node.label(), node.value()].into_iter().flatten().collect::<Vec<String>>()
        });
        all.collect()
    }

    fn says(&self, text: &str) -> bool {
        self.texts().iter().any(|found| found.contains(text))
    }

    #[track_caller]
    fn shows(&mut self, text: &str) {
        self.until(text, |stage| stage.says(text));
    }

    #[track_caller]
    fn click(&mut self, label: &str) {
        self.shows(label);
        self.window.get_by_label(label).click();
        self.window.step();
        self.window.step();
    }

    /// Lets stage time pass with sound, or without any.
    fn play(&mut self, secs: f64, sound: Option<&dyn Fn(f32) -> f32>) {
        let before = self.window.state().live().received_s();
        let mut delivered = 0.0;
        for _ in 0..(secs / CALLBACK.as_secs_f64()).round() as u64 {
            self.clock.0.advance(CALLBACK);
            let first = self.frames as f32;
            self.frames += CALLBACK_FRAMES as u64;
            let Some(sound) = sound else { continue };
            let at = |frame: usize| (first + frame as f32) / FORMAT.rate_hz as f32;
            let samples: Vec<f32> = (0..CALLBACK_FRAMES).flat_map(|frame| [sound(at(frame)); 2]).collect();
            if self.host.deliver(&samples) {
                delivered += CALLBACK.as_secs_f64();
            }
            // The ring holds some seconds; a test must not fill it faster than it is emptied.
            let end = Instant::now() + PATIENCE;
            while self.window.state().live().received_s() - before < delivered - 0.5 {
                assert!(Instant::now() < end, "what was delivered is not taken");
                thread::sleep(Duration::from_millis(1));
            }
        }
        self.until("all of the sound", |stage| stage.window.state().live().received_s() - before > delivered - 0.011);
    }

    /// Until nothing changes any more.
    fn settle(&mut self) {
        let mut calm = 0;
        while calm < 10 {
            thread::sleep(Duration::from_millis(25));
            let news = self.window.ctx.has_requested_repaint();
            self.window.step();
            calm = if news { 0 } else { calm + 1 };
        }
    }

    fn listen(&mut self) {
        self.click("Listen");
        let host = self.host.clone();
        self.until("an open device", |_| host.open_device().is_some());
    }
}

#[test]
fn the_first_start_explains_itself_in_one_sentence_and_tags_come() {
    let mut stage = Stage::new(Settings::default(), None, [1_180.0, 760.0]);
    stage.shows("press Listen, and Earmark says what music it hears");
    stage.listen();
    stage.play(8.0, Some(&chord));
    stage.shows("loud, certain");
    // Its bar has a name and a value: 95 %.
    let bar = stage.window.get_by_label("loud, certain");
    assert_eq!(bar.accesskit_node().numeric_value(), Some(95.0));
    assert!(!stage.says("harp, certain") && stage.says("Input level: peak") && stage.says("No clipping"));
    // The one sentence is not said again.
    stage.click("Stop");
    stage.shows("Not listening");
    stage.window.check_accessibility();
}

#[test]
fn noise_is_no_music_and_nothing_is_guessed() {
    let mut stage = Stage::usual();
    stage.listen();
    stage.play(6.0, Some(&hiss));
    stage.shows("No music heard");
    assert!(!stage.says(", certain"));
    stage.click("Raw scores");
    stage.shows("Smoothed probabilities");
    let bar = stage.window.get_by_label("harp");
    assert!(bar.accesskit_node().numeric_value().is_some(), "the raw score is there");
}

#[test]
fn four_ways_to_hear_nothing_are_four_states() {
    let mut stage = Stage::usual();
    stage.listen();
    stage.play(4.0, Some(&zero));
    stage.shows("Silence, to the last bit");
    stage.play(2.0, None);
    stage.shows("Nothing comes from the source");
    stage.play(0.1, Some(&chord));
    stage.host.set_devices(Vec::new());
    stage.shows("The source is gone");
    stage.shows("taken again");
    // Nothing happens: nothing is drawn.
    for _ in 0..10 {
        stage.window.step();
        thread::sleep(Duration::from_millis(30));
    }
    stage.window.step();
    thread::sleep(Duration::from_millis(300));
    assert!(!stage.window.ctx.has_requested_repaint(), "{:?}", stage.window.ctx.repaint_causes());
    // It comes back, and may not be listened to.
    stage
        .host
        .refuse(Some(CaptureError::Denied { device: "The mic".into(), cause: "the privacy settings say no".into() }));
    stage.host.set_devices(devices());
    stage.clock.0.advance(Duration::from_secs(2));
    stage.shows("Not allowed to listen");
    stage.shows("privacy settings");
    stage.host.refuse(None);
    stage.clock.0.advance(Duration::from_secs(6));
    let host = stage.host.clone();
    stage.until("an open device", |_| host.open_device().is_some());
    stage.play(1.0, Some(&chord));
    stage.shows("live");
    stage.shows("gap");
}

#[test]
fn sources_are_grouped_and_another_is_listened_to_at_once() {
    let mut stage = Stage::usual();
    stage.listen();
    stage.play(0.5, Some(&chord));
    stage.click("Source: Default microphone: The mic");
    stage.shows("Microphones and lines");
    stage.shows("What this machine plays");
    stage.shows("Open a file");
    stage.click("The line");
    let host = stage.host.clone();
    stage.until("the line", |_| host.open_device().as_deref() == Some("line"));
    stage.shows("Source: The line");
}

#[test]
fn a_set_is_recorded_and_exported() {
    let folder = tempfile::tempdir().expect("a folder");
    let sets = folder.path().join("recorded");
    let mut stage = Stage::usual();
    stage.listen();
    stage.play(5.0, Some(&chord));
    stage.click("Recording settings");
    stage.click("Keep the sound too (FLAC)");
    let field = || by().role(egui::accesskit::Role::TextInput).label("Folder for recorded sets");
    stage.window.get(field()).focus();
    stage.window.step();
    stage.window.get(field()).type_text(&sets.to_string_lossy());
    stage.window.step();
    // The letter r in it records nothing.
    stage.window.key_press(Key::R);
    stage.window.step();
    assert!(!sets.exists());
    stage.window.key_press(Key::Escape);
    stage.window.step();
    stage.window.step();
    stage.window.key_press(Key::R);
    stage.shows("End recording");
    stage.play(40.0, Some(&chord));
    stage.shows("recording 0:3");
    stage.click("End recording");
    stage.click("Export set");
    stage.click("Cue sheet");
    stage.shows("Written:");

    let files: Vec<_> = fs::read_dir(&sets).expect("a folder").map(|entry| entry.expect("a file").path()).collect();
    let of = |ending: &str| files.iter().find(|path| path.extension().is_some_and(|e| e == ending)).expect(ending);
    assert_eq!(files.len(), 3, "{files:?}");
    let session = Session::read(of("jsonl")).expect("readable");
    assert!((session.secs() - 40.0).abs() < 0.5 && session.end.is_some(), "{} s", session.secs());
    assert_eq!(session.header.model.name, "ear");
    let (sound, _) = earmark_core::audio::load(of("flac")).expect("FLAC");
    assert!((sound.secs() - session.secs()).abs() < 0.05, "{} s of sound for {}", sound.secs(), session.secs());
    let cue = fs::read_to_string(of("cue")).expect("readable");
    assert!(cue.contains("TITLE \"loud\"") && cue.contains("INDEX 01 00:00:00"), "{cue}");
}

#[test]
fn closing_the_window_finishes_the_recording() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut settings = Settings::default();
    (settings.is_welcomed, settings.folders.sets) = (true, Some(folder.path().to_owned()));
    let mut stage = Stage::new(settings, None, [1_180.0, 760.0]);
    // Recording begins to listen, too.
    stage.click("Record");
    let host = stage.host.clone();
    stage.until("an open device", |_| host.open_device().is_some());
    stage.shows("End recording");
    stage.play(5.0, Some(&chord));
    drop(stage);
    let file = fs::read_dir(folder.path()).expect("a folder").next().expect("a set").expect("a file").path();
    let session = Session::read(&file).expect("readable");
    assert!(session.end.is_some() && session.tags.len() >= 2, "{session:?}");
}

#[test]
fn a_folder_that_cannot_be_is_told_and_stays_until_it_is_dismissed() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let mut settings = Settings::default();
    settings.folders.sets = Some(file.path().join("below a file"));
    let mut stage = Stage::new(settings, None, [1_180.0, 760.0]);
    stage.click("Record");
    stage.shows("choose another folder");
    stage.click("Dismiss");
    stage.until("nothing", |stage| !stage.says("choose another folder"));
}

#[test]
fn keys_and_settings_do_what_they_say() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("desktop.json");
    let mut stage = Stage::new(Settings::default(), Some(&path), [1_180.0, 760.0]);
    stage.window.key_press(Key::Space);
    let host = stage.host.clone();
    stage.until("an open device", |_| host.open_device().is_some());
    stage.window.key_press(Key::Space);
    stage.until("no open device", |_| host.open_device().is_none());
    stage.window.key_press_modifiers(Modifiers::COMMAND, Key::Comma);
    stage.shows("Size of text");
    stage.click("Light");
    stage.until("light", |stage| stage.window.ctx.theme() == Theme::Light);
    stage.click("Listen as soon as the program starts");
    stage.click("Larger text");
    stage.click("Larger text");
    stage.until("larger text", |stage| (stage.window.ctx.zoom_factor() - 1.2).abs() < 1e-3);
    stage.window.check_accessibility();
    stage.window.key_press_modifiers(Modifiers::COMMAND, Key::Num1);
    stage.shows("Heard now");
    let kept = Settings::load(&path).expect("readable");
    assert_eq!((kept.theme, kept.listens_at_start), (ThemeChoice::Light, true));
    assert!((kept.scale - 1.2).abs() < 1e-3);
    assert!(kept.is_welcomed);
}

/// Size of a picture.
const PICTURE: [f32; 2] = [900.0, 600.0];

/// Compares a picture, or says that there is nothing to draw it with.
#[track_caller]
fn picture(stage: &mut Stage, name: &str) {
    stage.window.remove_cursor();
    stage.settle();
    compare(&mut stage.window, name);
}

#[test]
fn it_looks_as_it_did() {
    let mut settings = Settings::default();
    settings.theme = ThemeChoice::Dark;
    let mut stage = Stage::new(settings, None, PICTURE);
    stage.until("the devices", |stage| stage.says("Source: Default microphone: The mic"));
    picture(&mut stage, "first_start");
    stage.listen();
    stage.play(30.0, Some(&chord));
    stage.play(20.0, Some(&square));
    stage.shows("harp, certain");
    picture(&mut stage, "music");
}

#[test]
fn in_daylight_it_looks_as_it_did() {
    let mut settings = Settings::default();
    (settings.theme, settings.is_welcomed) = (ThemeChoice::Light, true);
    let mut stage = Stage::new(settings, None, PICTURE);
    stage.listen();
    stage.play(6.0, Some(&hiss));
    stage.shows("No music heard");
    picture(&mut stage, "no_music");
    stage.host.set_devices(Vec::new());
    stage.shows("The source is gone");
    picture(&mut stage, "lost");
}
