//! The shipped model on the shipped clips, through every path that must agree.

use std::path::PathBuf;

use earmark_assets::{DEFAULT_MODEL, MTAT_TAGS};
use earmark_core::WINDOW_SAMPLES;
use earmark_core::audio;
use earmark_core::engine::{BurnEngine, CpuEngine, Engine, Hop, WindowStream};
use earmark_core::model_file::Model;

fn model() -> Model {
    Model::from_bytes(DEFAULT_MODEL, "the embedded model").expect("the embedded model is valid")
}

fn clip(name: &str) -> Vec<f32> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../assets/demo").join(name);
    let (waveform, warnings) = audio::load(&path).expect("a shipped clip decodes");
    assert_eq!(warnings, [], "{name}");
    waveform.samples
}

/// Logits of every window, one row each.
fn logits(mut stream: Box<dyn WindowStream + '_>, samples: &[f32], piece: usize) -> Vec<f32> {
    let mut logits = Vec::new();
    for samples in samples.chunks(piece) {
        stream.push(samples, &mut |r| logits.extend_from_slice(r.logits)).expect("computes");
    }
    stream.finish(&mut |r| logits.extend_from_slice(r.logits)).expect("computes");
    logits
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn the_embedded_model_is_complete() {
    let model = model();
    assert_eq!(model.metadata.tags, MTAT_TAGS);
    assert!(!model.metadata.licence.is_empty());
    assert!(model.metadata.training["identity"]["seed"].is_number(), "it says how it was trained");
    assert!(model.metadata.metrics.is_object(), "it says how well it does");
    let card = include_str!("../../assets/model/MODEL_CARD.md");
    assert!(card.contains(&model.metadata.name), "the model card is this model's");
}

#[test]
fn shipped_clips_get_the_tags_a_listener_would_give() {
    let model = model();
    let engine = CpuEngine::new(&model, 2).expect("valid");
    for (name, expected) in [("choir.ogg", "choir"), ("rock.ogg", "rock"), ("sitar.ogg", "sitar")] {
        let rows = logits(engine.stream(Hop::DEFAULT), &clip(name), 20_000);
        let mut mean = vec![0.0_f32; model.metadata.tags.len()];
        let windows = (rows.len() / mean.len()) as f32;
        for row in rows.chunks_exact(mean.len()) {
            for (mean, logit) in mean.iter_mut().zip(row) {
                *mean += 1.0 / (1.0 + (-logit).exp()) / windows;
            }
        }
        let mut order: Vec<usize> = (0..mean.len()).collect();
        order.sort_by(|&a, &b| mean[b].total_cmp(&mean[a]));
        let top: Vec<&str> = order.iter().take(3).map(|&tag| model.metadata.tags[tag].as_str()).collect();
        assert!(top.contains(&expected), "{name}: {top:?}");
    }
}

#[test]
fn all_engines_agree_on_real_music() {
    let model = model();
    let one = CpuEngine::new(&model, 1).expect("valid");
    let two = CpuEngine::new(&model, 2).expect("valid");
    let flex = BurnEngine::flex(&model).expect("valid");
    for name in ["rock.ogg", "techno.ogg"] {
        let samples = clip(name);
        let plain = logits(one.plain_stream(Hop::DEFAULT), &samples, samples.len());
        let shared = logits(two.stream(Hop::DEFAULT), &samples, samples.len());
        let pieces = logits(one.stream(Hop::DEFAULT), &samples, 1_999);
        assert!(largest_difference(&plain, &shared) <= 1e-5, "{name}: shared windows");
        assert!(largest_difference(&plain, &pieces) <= 1e-5, "{name}: in pieces");

        let few = &samples[..2 * WINDOW_SAMPLES];
        let plain = logits(one.plain_stream(Hop::NON_OVERLAPPING), few, few.len());
        let modules = logits(flex.stream(Hop::NON_OVERLAPPING), few, few.len());
        assert!(largest_difference(&plain, &modules) <= 1e-4, "{name}: Burn modules");
    }
}
