//! The page as its user meets it: files are dropped, searched, ordered, opened, played, exported.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use earmark_core::engine::CpuEngine;
use earmark_core::live::FakeOutput;
use eframe::egui::{self, Key, Modifiers, Role};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};

use super::queue::testing::{TAGS, filled, tagger, tone};
use super::*;
use crate::desktop::asking::testing::Choosing;
use crate::desktop::settings::Settings;
use crate::desktop::testing::until;

/// A page with invented dialogs, output and engine.
struct Stage {
    page: FilesPage,
    shared: Shared,
}

/// A file from another window.
#[derive(Debug)]
struct Dropped(PathBuf);

impl egui::DroppedFile for Dropped {
    fn path(&self) -> &Path {
        &self.0
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        Err("nobody reads it".to_owned())
    }
}

const RATE_HZ: u32 = 22_050;

fn shared(chosen: Vec<PathBuf>) -> Shared {
    let model = crate::commands::load_model(None).expect("the built-in model");
    let engine = Arc::new(CpuEngine::new(&model, 1).expect("usable"));
    let mut shared = Shared::new(Loaded::with(model, "0".repeat(64), None, engine), Settings::default());
    shared.dialogs = Box::new(Choosing(chosen));
    shared
}

fn outside(folder: &Path, output: &FakeOutput) -> Outside {
    Outside {
        host: Arc::new(output.clone()),
        cache: folder.join("cache"),
        make_tagger: Arc::new(|_| tagger("ear")),
        ..Outside::default()
    }
}

fn harness<'a>(page: FilesPage, chosen: Vec<PathBuf>) -> Harness<'a, Stage> {
    Harness::builder()
        .with_size([960.0, 640.0])
        .with_theme(egui::Theme::Dark)
        .with_context_setup(theme::apply)
        .build_ui_state(
            |ui, stage: &mut Stage| {
                let ctx = ui.ctx().clone();
                stage.page.logic(&ctx, &mut stage.shared);
                stage.page.ui(ui, &mut stage.shared);
            },
            Stage { page, shared: shared(chosen) },
        )
}

/// Three files are in the folder `music`: a loud one of 8 s, a soft one of 4 s and one that is none.
fn library(folder: &Path) -> PathBuf {
    let music = folder.join("music");
    std::fs::create_dir(&music).expect("made");
    tone(&music.join("loud.wav"), 8.0, 0.9);
    tone(&music.join("soft.wav"), 4.0, 0.01);
    std::fs::write(music.join("broken.mp3"), "no music").expect("written");
    music
}

/// The page with the three files tagged, and the output that it plays on.
fn tagged<'a>(folder: &Path) -> (Harness<'a, Stage>, FakeOutput) {
    let output = FakeOutput::new(RATE_HZ, 2);
    let music = library(folder);
    let mut harness = harness(FilesPage::with(outside(folder, &output)), vec![folder.join("export.csv")]);
    harness.step();
    assert!(harness.query_by_label_contains("Drop music").is_some(), "what to do is said");
    harness.input_mut().dropped_files.push(Arc::new(Dropped(music)));
    until(&mut harness, "three files", |harness| {
        let desk = harness.state().page.desk.as_ref().expect("a model");
        let counts = desk.queue.counts();
        counts.all == 3 && counts.waiting == 0 && !desk.queue.is_running()
    });
    harness.run_steps(2);
    (harness, output)
}

fn names(harness: &Harness<'_, Stage>) -> Vec<String> {
    let rows = harness.get_all_by_role(Role::Row);
    let mut rows: Vec<(f32, String)> = rows
        .filter_map(|row| Some((row.rect().top(), row.accesskit_node().label()?.split(',').next()?.to_owned())))
        .collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    rows.into_iter().map(|(_, name)| name).collect()
}

#[test]
fn dropped_folders_are_tagged_and_failures_say_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let (harness, _) = tagged(folder.path());
    assert_eq!(names(&harness), ["broken.mp3", "loud.wav", "soft.wav"]);
    assert!(harness.query_by_label("loud.wav, 0:08, rock, no vocals").is_some());
    assert!(harness.query_by_label_contains("broken.mp3, is not audio").is_some());
    assert!(harness.query_by_label_contains("3 files, 1 failed").is_some());
}

#[test]
fn typing_searches_and_heads_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, _) = tagged(folder.path());
    harness.key_press_modifiers(Modifiers::COMMAND, Key::F);
    harness.run_steps(2);
    harness.get_by_label("Search names and tags").type_text("rock");
    harness.run_steps(3);
    assert_eq!(names(&harness), ["loud.wav"]);
    assert!(harness.query_by_label("1 of 3 files").is_some());
    harness.get_by_label("Search names and tags").focus();
    (0..4).for_each(|_| harness.key_press(Key::Backspace));
    harness.run_steps(3);
    assert_eq!(names(&harness).len(), 3);
    harness.get_by_label("Order by Length").click();
    harness.run_steps(3);
    assert_eq!(names(&harness), ["loud.wav", "soft.wav", "broken.mp3"], "the longest first");
    harness.get_by_label_contains("Ordered by Length").click();
    harness.run_steps(3);
    assert_eq!(names(&harness), ["soft.wav", "loud.wav", "broken.mp3"]);
}

#[test]
fn a_track_opens_plays_seeks_and_closes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, output) = tagged(folder.path());
    harness.get_by_label_contains("loud.wav, 0:08").click();
    until(&mut harness, "an opened track", |harness| harness.query_by_label_contains("Taggram of loud.wav").is_some());
    until(&mut harness, "a loaded file", |harness| harness.query_by_label("0:00 / 0:08").is_some());
    harness.get_by_label("Play").click();
    until(&mut harness, "sound", |harness| harness.query_by_label("Pause").is_some() && output.pull(441).is_some());

    // A click into the middle of the picture goes there.
    let picture = harness.get_by_label_contains("Taggram of loud.wav").rect();
    harness.hover_at(picture.center());
    harness.step();
    harness.drag_at(picture.center());
    harness.step();
    harness.drop_at(picture.center());
    let position =
        |harness: &Harness<'_, Stage>| harness.state().page.player.as_ref().expect("a player").state().position_s;
    until(&mut harness, "the middle", |harness| {
        output.pull(441);
        (3.9..6.0).contains(&position(harness))
    });
    harness.key_press(Key::Space);
    until(&mut harness, "a pause", |harness| harness.query_by_label("Play").is_some());
    harness.key_press(Key::Escape);
    harness.run_steps(2);
    assert!(harness.query_by_label_contains("Taggram of").is_none());
}

#[test]
fn keys_go_through_the_table() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, _) = tagged(folder.path());
    for key in [Key::ArrowDown, Key::ArrowDown, Key::ArrowDown, Key::ArrowDown, Key::ArrowUp] {
        harness.key_press(key);
        harness.step();
    }
    assert_eq!(harness.state().page.table.selected(), Some(1), "the second of three");
    harness.run_steps(2);
    let row = harness.get_by_label_contains("loud.wav, 0:08");
    assert!(row.accesskit_node().is_focused(), "a screen reader says the row");
    harness.key_press(Key::Enter);
    until(&mut harness, "an opened track", |harness| harness.query_by_label_contains("Taggram of loud.wav").is_some());
    harness.key_press(Key::End);
    harness.step();
    assert_eq!(harness.state().page.table.selected(), Some(2));
    // What failed cannot be opened.
    harness.key_press(Key::Home);
    harness.key_press(Key::Enter);
    harness.run_steps(2);
    assert!(harness.query_by_label_contains("Taggram of loud.wav").is_some());
}

#[test]
fn what_is_shown_is_exported() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, _) = tagged(folder.path());
    harness.get_by_label("Export").click();
    harness.run_steps(2);
    harness.get_by_label_contains("CSV").click();
    let path = folder.path().join("export.csv");
    until(&mut harness, "an export", |_| path.exists());
    let text = std::fs::read_to_string(&path).expect("text");
    assert!(text.contains("loud.wav") && text.contains("soft.wav"), "{text}");
    until(&mut harness, "a word about it", |harness| harness.state().page.exports.is_none());
    let told = harness.state_mut().shared.take_commands();
    assert!(
        told.iter().any(|command| matches!(command, Command::Tell(toast) if toast.text.contains("2 files written to"))),
        "{told:?}"
    );
}

#[test]
fn the_dialog_adds_files_and_its_absence_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let music = library(folder.path());
    let output = FakeOutput::new(RATE_HZ, 2);
    let mut opened = harness(FilesPage::with(outside(folder.path(), &output)), vec![music.join("soft.wav")]);
    opened.step();
    opened.key_press_modifiers(Modifiers::COMMAND, Key::O);
    until(&mut opened, "a tagged file", |harness| harness.query_by_label_contains("soft.wav, 0:04, harp").is_some());

    let mut none = harness(FilesPage::with(outside(folder.path(), &output)), Vec::new());
    none.step();
    none.get_by_label("Add files").click();
    let end = Instant::now() + Duration::from_mins(1);
    let told = loop {
        none.step();
        let told = none.state_mut().shared.take_commands();
        if !told.is_empty() {
            break told;
        }
        assert!(Instant::now() < end, "nothing is told");
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(matches!(&told[0], Command::Tell(toast) if toast.text.contains("portal")), "{told:?}");
}

#[test]
fn ten_thousand_rows_are_fluid() {
    let folder = tempfile::tempdir().expect("a folder");
    let (small, output) = tagged(folder.path());
    let done = small.state().page.desk.as_ref().expect("a model").queue.entries()[1].clone();
    let entries: Vec<queue::Entry> = (0..10_000)
        .map(|n| queue::Entry {
            name: format!("{n:05} track.wav"),
            words: format!("{n:05} track.wav|rock|"),
            ..done.clone()
        })
        .collect();
    let mut page = FilesPage::with(outside(folder.path(), &output));
    let loaded = Arc::clone(&small.state().shared.loaded);
    page.desk = Some(Desk { loaded: Arc::clone(&loaded), queue: filled(folder.path(), entries) });
    let mut harness = harness(page, Vec::new());
    harness.state_mut().shared.loaded = loaded;
    harness.run_steps(3);
    let began = Instant::now();
    let num_frames = 60;
    for _ in 0..num_frames {
        harness.key_press(Key::PageDown);
        harness.step();
    }
    let ms = began.elapsed().as_secs_f64() * 1_000.0 / f64::from(num_frames);
    println!("10,000 rows: {ms:.1} ms per frame, without painting");
    assert!(harness.get_all_by_role(Role::Row).count() < 60, "only rows that are seen are made");
    assert!(ms < 33.0, "{ms} ms per frame");
    assert!(harness.state().page.table.selected() > Some(500));
    assert_eq!(TAGS.len(), 4);
}

#[test]
fn the_page_looks_as_it_should() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, _) = tagged(folder.path());
    harness.get_by_label_contains("loud.wav, 0:08").click();
    until(&mut harness, "an opened track", |harness| harness.query_by_label("0:00 / 0:08").is_some());
    harness.remove_cursor();
    harness.run_steps(4);
    crate::desktop::testing::compare(&mut harness, "files");
}

#[test]
fn tags_are_shown_before_they_are_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harness, _) = tagged(folder.path());
    let before = std::fs::read(folder.path().join("music/loud.wav")).expect("readable");
    harness.get_by_label("Write tags").click();
    until(&mut harness, "a preview", |harness| harness.query_by_label_contains("2 files would change").is_some());
    assert!(harness.query_by_label("GENRE: (none) -> Rock").is_some());
    harness.get_by_label("Cancel").click();
    harness.run_steps(2);
    assert!(harness.query_by_label_contains("would change").is_none());
    assert_eq!(std::fs::read(folder.path().join("music/loud.wav")).expect("readable"), before);
}
