//! The page as its user meets it: it shows the card, tests the engine, asks for another model; one that is broken changes
//! nothing.

use std::sync::Arc;

use earmark_core::engine::CpuEngine;
use earmark_core::model_file::Model;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;

use super::*;
use crate::desktop::asking::testing::Choosing;
use crate::desktop::settings::Settings;
use crate::desktop::testing::until;

struct Stage {
    page: ModelPage,
    shared: Shared,
}

fn harness<'a>(chosen: Vec<PathBuf>) -> Harness<'a, Stage> {
    let model = crate::commands::load_model(None).expect("the built-in model");
    let engine = Arc::new(CpuEngine::new(&model, 1).expect("usable"));
    let mut shared = Shared::new(Loaded::with(model, "0".repeat(64), None, engine), Settings::default());
    shared.dialogs = Box::new(Choosing(chosen));
    Harness::builder().with_size([1_000.0, 900.0]).with_context_setup(theme::apply).build_ui_state(
        |ui, stage: &mut Stage| {
            let ctx = ui.ctx().clone();
            stage.page.logic(&ctx, &mut stage.shared);
            stage.page.ui(ui, &mut stage.shared);
        },
        Stage { page: ModelPage::default(), shared },
    )
}

#[test]
fn the_card_and_the_self_test_are_shown() {
    let mut harness = harness(Vec::new());
    harness.step();
    for label in ["earmark-open-2", "built in", "50 tags", "guitar", "32 %"] {
        assert!(harness.query_all_by_label(label).next().is_some(), "{label}");
    }
    until(&mut harness, "a self-test", |harness| harness.query_by_label_contains("Self-test passed").is_some());
    assert!(harness.query_by_label_contains("x real time").is_some());
    assert!(harness.query_by_label_contains("18 tags with at least 5 positives").is_some());
    assert!(harness.query_by_label("Use the built-in model").is_none(), "it is in use");
    harness.get_by_label("Test again").click();
    until(&mut harness, "another self-test", |harness| harness.query_by_label_contains("Self-test passed").is_some());
}

#[test]
fn a_model_is_asked_for() {
    let mut harness = harness(vec!["models/other.safetensors".into()]);
    harness.step();
    harness.get_by_label("Load another model").click();
    until(&mut harness, "a command", |harness| {
        let wanted = Command::LoadModel(Some("models/other.safetensors".into()));
        harness.state_mut().shared.take_commands().contains(&wanted)
    });
    assert_eq!(harness.state().shared.settings.folders.model.as_deref(), Some(Path::new("models")));
}

#[test]
fn a_broken_file_is_named_and_one_that_is_whole_is_loaded() {
    let folder = tempfile::tempdir().expect("a folder");
    let broken = folder.path().join("broken.safetensors");
    std::fs::write(&broken, "no model").expect("written");
    let error = Loaded::open(Some(&broken)).err().expect("refused").to_string();
    assert!(error.contains("broken.safetensors"), "{error}");

    let whole = folder.path().join("small.safetensors");
    let architecture = earmark_core::weights::Architecture::scaled(0.1, 3, None, 4);
    Model::random(architecture, 1).save(&whole).expect("written");
    let loaded = Loaded::open(Some(&whole)).expect("usable");
    assert_eq!((loaded.model.metadata.tags.len(), loaded.file.as_deref()), (4, Some(whole.as_path())));
    let card = Card::new(&loaded.model, loaded.file.as_deref());
    assert!(card.origin.ends_with("small.safetensors") && card.tags[0].worth == "not measured");
}
