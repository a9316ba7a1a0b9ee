//! The page with a worker that plays what it is told to, an invented microphone and folders of its own.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc;

use earmark_core::adapt::{
    Agreement, Control, DomainEpoch, Figures, Finding, GUARD_SNR_DB, Limits, MeterFigures, SideFigures,
};
use earmark_core::engine::CpuEngine;
use earmark_core::live::{Device, FakeHost, FrameFormat};
use earmark_core::model_file::Model;
use earmark_core::weights::Architecture;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;

use super::*;
use crate::desktop::context::Loaded;
use crate::desktop::dialog::Dialogs;
use crate::desktop::settings::Settings;

/// A run's control, and what tells its updates.
type Running = (Arc<Control>, mpsc::Sender<Update>);

/// Tells a run's updates when it is asked to begin.
struct Canned {
    updates: Vec<Update>,
    /// The control of the last run, and the sender that keeps it going.
    last: Rc<RefCell<Option<Running>>>,
}

impl Worker for Canned {
    fn start(&self, ctx: &egui::Context, job: Job) -> Result<Run> {
        assert!(!job.clean.is_empty() && !job.room.is_empty());
        let (sender, updates) = mpsc::channel();
        for update in &self.updates {
            sender.send(update.clone())?;
        }
        let control = Arc::new(Control::new());
        *self.last.borrow_mut() = Some((Arc::clone(&control), sender));
        ctx.request_repaint();
        Ok(Run { control, updates })
    }
}

struct Folder(PathBuf);

impl Dialogs for Folder {
    fn ask(&self, _ctx: &egui::Context, _request: Request) -> Answer {
        Answer::of(vec![self.0.clone()])
    }
}

fn model(name: &str) -> Model {
    let mut model = Model::random(Architecture::scaled(1.0 / 16.0, 1, None, 3), 0);
    model.metadata.name = name.to_owned();
    model
}

fn report(refusals: &[&str]) -> Report {
    let noisy = |kept| GUARD_SNR_DB.map(|_| Agreement { distance: 0.1, kept }).to_vec();
    let meter = MeterFigures {
        accuracy: 0.94,
        clean: 0.95,
        noisy: 0.93,
        room: 0.99,
        mixed: [0.8, 0.93, 1.0],
        calibration_error: 0.02,
    };
    Report {
        stages: Stages::Dat,
        material: MaterialReport::default(),
        share: Some(0.5),
        before: Figures { meter: None, clean: Agreement { distance: 0.0, kept: 1.0 }, noisy: noisy(0.5) },
        after: Figures { meter: Some(meter), clean: Agreement { distance: 0.01, kept: 0.96 }, noisy: noisy(0.7) },
        num_clips: 4,
        limits: Limits::default(),
        refusals: refusals.iter().map(|&text| text.to_owned()).collect(),
    }
}

fn material(text: &str) -> MaterialReport {
    let side = |tonality| SideFigures {
        recordings: 1,
        secs: 300.0,
        audible_secs: 300.0,
        clipped_share: 0.0,
        tonality,
        tonality_low: tonality,
    };
    let findings = vec![Finding { refuses: true, text: text.to_owned() }];
    MaterialReport { clean: side(0.4), room: side(0.97), findings, ..MaterialReport::default() }
}

/// What a run tells before it ends.
fn course() -> Vec<Update> {
    let passes = (1..=12).map(|epoch| {
        let loss = 0.7 / (1.0 + epoch as f64 / 3.0);
        AdaptEvent::Domain(DomainEpoch { epoch, train_loss: 0.8 * loss, valid_loss: loss })
    });
    let steps = (1..=120_u64).map(|step| {
        let done = step as f64 / 200.0;
        AdaptEvent::Step(RoomStep {
            step,
            total: 200,
            label_loss: 0.2,
            consistency_loss: 0.3 - 0.08 * done,
            domain_loss: 0.5,
            domain_accuracy: 0.9 - 0.2 * done,
        })
    });
    passes.chain(steps).map(Update::Event).collect()
}

struct Stage {
    page: AdaptPage,
    shared: Shared,
    /// What was asked for outside of the page.
    asked: Vec<Command>,
}

type Last = Rc<RefCell<Option<(Arc<Control>, mpsc::Sender<Update>)>>>;

/// A page with a song, a recording and one profile, its music chosen.
fn stage(folder: &Path, updates: Vec<Update>) -> (Harness<'static, Stage>, Last) {
    for (name, bytes) in [("music/song.wav", 10), ("recordings/room-1.flac", 2_000_000)] {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, vec![0; bytes]).expect("written");
    }
    let places = Places { recordings: folder.join("recordings"), profiles: Profiles::new(folder.join("profiles")) };
    places.profiles.save("club", &model("club")).expect("saved");
    let engine: Arc<dyn earmark_core::engine::Engine> = Arc::new(CpuEngine::new(&model("base"), 1).expect("valid"));
    let loaded = Loaded::with(model("base"), "abc".to_owned(), None, engine);
    let mut shared = Shared::new(loaded, Settings::default());
    shared.dialogs = Box::new(Folder(folder.join("music")));
    let last: Last = Rc::default();
    let worker = Canned { updates, last: Rc::clone(&last) };
    let mic = Device { id: "mic".into(), name: "Microphone".into(), kind: DeviceKind::Input, is_default: true };
    let host = FakeHost::new(vec![mic], FrameFormat { rate_hz: 16_000, channels: 1 });
    let clock = Arc::new(SystemClock::new());
    let page = AdaptPage::with(Box::new(worker), Arc::new(host), clock, Some(places), &mut shared);
    let draw = |ui: &mut Ui, stage: &mut Stage| {
        let ctx = ui.ctx().clone();
        stage.page.logic(&ctx, &mut stage.shared);
        stage.page.ui(ui, &mut stage.shared);
        stage.asked.extend(stage.shared.take_commands());
    };
    let mut harness = Harness::builder()
        .with_size(vec2(1_000.0, 1_400.0))
        .with_context_setup(theme::apply)
        .build_ui_state(draw, Stage { page, shared, asked: Vec::new() });
    harness.run();
    (harness, last)
}

fn click(harness: &mut Harness<'_, Stage>, label: &str) {
    harness.get_by_label(label).click();
    harness.run();
}

fn shows(harness: &Harness<'_, Stage>, text: &str) -> bool {
    harness.query_all_by_label_contains(text).next().is_some()
}

#[test]
fn it_asks_for_what_is_missing_step_by_step() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, last) = stage(folder.path(), Vec::new());
    assert!(shows(&harness, "choose a folder of your music first"));
    click(&mut harness, "Choose a folder …");
    harness.run();
    assert!(shows(&harness, "music, 1 files"), "the folder and what is in it");
    assert!(!shows(&harness, "choose a folder of your music first"));
    // A name that is taken is told.
    harness.state_mut().page.name = "club".to_owned();
    harness.run();
    assert!(shows(&harness, "there is a profile 'club' already"));
    harness.state_mut().page.name = "bar".to_owned();
    harness.run();
    click(&mut harness, "Start");
    assert!(last.borrow().is_some());
}

#[test]
fn it_can_be_paused_gone_on_with_and_cancelled() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, last) = stage(folder.path(), course());
    harness.state_mut().page.choose_music(folder.path().join("music"));
    harness.run();
    click(&mut harness, "Start");
    harness.run();
    assert!(shows(&harness, "tags, step 120 of 200"));
    assert!(shows(&harness, "Tags: error in the room, and on clean music: 0."), "the curve says its last value");
    click(&mut harness, "Pause");
    let (control, sender) = last.borrow_mut().take().expect("runs");
    assert!(control.is_paused() && shows(&harness, "paused"));
    click(&mut harness, "Go on");
    assert!(!control.is_paused());
    click(&mut harness, "Cancel");
    assert!(control.look().is_err());
    sender.send(Update::Ended(Ended::Cancelled)).expect("the page listens");
    harness.step();
    harness.run();
    assert!(shows(&harness, "nothing was changed") && shows(&harness, "Start"));
}

#[test]
fn an_accepted_result_is_compared_and_used_with_one_click() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut updates = course();
    updates.push(Update::Ended(Ended::Accepted(Box::new(report(&[])))));
    let (mut harness, _) = stage(folder.path(), updates);
    harness.state_mut().page.choose_music(folder.path().join("music"));
    harness.state_mut().page.name = "bar".to_owned();
    // The worker would have written it.
    Profiles::new(folder.path().join("profiles")).save("bar", &model("bar")).expect("saved");
    harness.run();
    click(&mut harness, "Start");
    harness.run();
    for text in ["Accepted: profile “bar”", "noise meter is right", "94 %", "at least 90 %", "measured on 4 clips"]
    {
        assert!(shows(&harness, text), "{text}");
    }
    click(&mut harness, "Use it now");
    let path = folder.path().join("profiles/bar.safetensors");
    assert!(harness.state().asked.contains(&Command::LoadModel(Some(path))));
    assert_eq!(Profiles::new(folder.path().join("profiles")).in_use().expect("said").as_deref(), Some("bar"));
    assert!(!shows(&harness, "Use it now"));
}

#[test]
fn a_refusal_is_shown_with_its_figures_and_nothing_can_be_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let reason = "of the certain tags of clean music 40 % stay; at least 90 % must";
    let refused = Update::Ended(Ended::Refused(Box::new(report(&[reason]))));
    let (mut harness, _) = stage(folder.path(), vec![refused]);
    harness.state_mut().page.choose_music(folder.path().join("music"));
    harness.run();
    click(&mut harness, "Start");
    harness.run();
    assert!(shows(&harness, "Refused: not good enough to be used") && shows(&harness, reason));
    assert!(!shows(&harness, "Use it now"));

    let text = "room: 97 % of its energy are tones that stand still";
    let unfit = vec![
        Update::Event(AdaptEvent::Material(material(text))),
        Update::Ended(Ended::Unfit(Box::new(material(text)))),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, _) = stage(folder.path(), unfit);
    harness.state_mut().page.choose_music(folder.path().join("music"));
    harness.run();
    click(&mut harness, "Start");
    harness.run();
    assert!(shows(&harness, "nothing can be learnt from this sound") && shows(&harness, text));
}

#[test]
fn recordings_and_profiles_go_with_one_click_each() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, _) = stage(folder.path(), Vec::new());
    assert!(shows(&harness, "The room, 2.0 MB"));
    click(&mut harness, "Delete room-1");
    assert!(!folder.path().join("recordings/room-1.flac").exists());
    assert!(shows(&harness, "record the room first") || shows(&harness, "choose a folder"));
    click(&mut harness, "club");
    assert!(harness.state().page.profiles[0].is_in_use);
    click(&mut harness, "default (the built-in model)");
    assert!(!harness.state().page.profiles[0].is_in_use);
    click(&mut harness, "Remove club");
    assert!(!folder.path().join("profiles/club.safetensors").exists());
    assert!(harness.state().page.profiles.is_empty());
}

#[test]
fn the_room_is_recorded_here() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, _) = stage(folder.path(), Vec::new());
    harness.get_by_label("Record the room").click();
    harness.step();
    harness.step();
    assert!(harness.state().page.recorder.is_some() && shows(&harness, "of 5:00"));
    harness.get_by_label("End the recording").click();
    harness.step();
    harness.step();
    assert!(harness.state().page.recorder.is_none() && shows(&harness, "Record the room"));
}
