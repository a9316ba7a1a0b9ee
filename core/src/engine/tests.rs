//! What every engine promises, checked against a plain f64 computation that shares no code with it.

use super::*;
use crate::model_file::Model;
use crate::weights::{Architecture, BATCH_NORM_EPSILON, NUM_MODULES};

/// Owned copy of a [`WindowResult`].
#[derive(Debug, Clone, PartialEq)]
struct Result {
    start: u64,
    padded: bool,
    embedding: Vec<f32>,
    logits: Vec<f32>,
}

/// Music-like test signal: decaying tones over noise, with a silent stretch.
fn signal(len: usize) -> Vec<f32> {
    let mut noise = 0x9E37_79B9_u32;
    (0..len)
        .map(|i| {
            noise ^= noise << 13;
            noise ^= noise >> 17;
            noise ^= noise << 5;
            let t = i as f32 / SAMPLE_RATE_HZ as f32;
            let envelope = (-(t * 3.0).fract() * 2.0).exp();
            let tone = (t * 220.0 * std::f32::consts::TAU).sin() + 0.5 * (t * 1_730.0 * std::f32::consts::TAU).sin();
            let silent = (i / 20_000) % 5 == 3;
            if silent { 0.0 } else { 0.4 * envelope * tone + 0.05 * (noise as f32 / u32::MAX as f32 - 0.5) }
        })
        .collect()
}

/// Runs `waveform` through a stream in pieces of the given sizes, in turn.
fn run(mut stream: Box<dyn WindowStream + '_>, waveform: &[f32], pieces: &[usize]) -> Vec<Result> {
    let mut results = Vec::new();
    let mut sink = |r: WindowResult<'_>| {
        results.push(Result {
            start: r.start,
            padded: r.padded,
            embedding: r.embedding.to_vec(),
            logits: r.logits.to_vec(),
        });
    };
    let mut rest = waveform;
    for piece in pieces.iter().cycle() {
        let (now, later) = rest.split_at((*piece).min(rest.len()));
        stream.push(now, &mut sink).expect("cpu");
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    stream.finish(&mut sink).expect("cpu");
    results
}

/// Logits of one window by the definition of table 3.1, in f64, channel by channel.
fn reference_logits(model: &Model, window: &[f32]) -> Vec<f64> {
    let mut x: Vec<Vec<f64>> = vec![window.iter().map(|&v| f64::from(v)).collect()];
    for (index, conv) in model.weights.convs.iter().enumerate() {
        let (inputs, outputs, kernel) = model.metadata.architecture.conv_shape(index);
        let (stride, pad) = if index == 0 { (3, 0) } else { (1, kernel / 2) };
        let len = x[0].len();
        let out_len = (len + 2 * pad - kernel) / stride + 1;
        x = (0..outputs)
            .map(|o| {
                let scale =
                    f64::from(conv.gamma[o]) / (f64::from(conv.running_var[o]) + f64::from(BATCH_NORM_EPSILON)).sqrt();
                let row: Vec<f64> = (0..out_len)
                    .map(|p| {
                        let mut sum = f64::from(conv.bias[o]);
                        for (i, channel) in x.iter().enumerate() {
                            for tap in 0..kernel {
                                let at = p * stride + tap;
                                if at >= pad && at - pad < len {
                                    let w = f64::from(conv.weight[(o * inputs + i) * kernel + tap]);
                                    sum += w * channel[at - pad];
                                }
                            }
                        }
                        ((sum - f64::from(conv.running_mean[o])) * scale + f64::from(conv.beta[o])).max(0.0)
                    })
                    .collect();
                if index == 0 || index == NUM_MODULES - 1 {
                    row
                } else {
                    row.chunks_exact(3).map(|c| c[0].max(c[1]).max(c[2])).collect()
                }
            })
            .collect();
    }
    let mut h: Vec<f64> = x.iter().map(|channel| channel[0]).collect();
    let layers = model.weights.head.len();
    for (index, layer) in model.weights.head.iter().enumerate() {
        let inputs = h.len();
        h = layer
            .bias
            .iter()
            .enumerate()
            .map(|(o, &b)| {
                let y = f64::from(b) + (0..inputs).map(|i| f64::from(layer.weight[o * inputs + i]) * h[i]).sum::<f64>();
                if index + 1 < layers { y.max(0.0) } else { y }
            })
            .collect();
    }
    h
}

fn assert_close(a: &[Result], b: &[Result]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert_eq!((a.start, a.padded), (b.start, b.padded));
        let pairs = a.logits.iter().zip(&b.logits).chain(a.embedding.iter().zip(&b.embedding));
        let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= 1e-5, "window at {}: {worst}", a.start);
    }
}

#[test]
fn plain_windows_equal_the_definition() {
    let with_projector = Architecture { projector_hidden: Some(7), ..Architecture::scaled(1.0 / 16.0, 3, Some(24), 5) };
    for model in [test_model(None, 1), test_model(Some(24), 3), Model::random(with_projector, 0)] {
        let waveform = signal(2 * WINDOW_SAMPLES);
        for threads in [1, 2] {
            let engine = CpuEngine::new(&model, threads).expect("valid");
            let results = run(engine.plain_stream(Hop::NON_OVERLAPPING), &waveform, &[waveform.len()]);
            assert_eq!(results.len(), 2);
            for (result, window) in results.iter().zip(waveform.chunks_exact(WINDOW_SAMPLES)) {
                for (logit, expected) in result.logits.iter().zip(reference_logits(&model, window)) {
                    assert!((f64::from(*logit) - expected).abs() < 1e-5, "{logit} instead of {expected}");
                }
            }
        }
    }
}

#[test]
fn sliding_windows_equal_plain_windows_at_every_exact_hop() {
    let model = test_model(Some(24), 3);
    for exponent in 4..=10_u32 {
        let hop = Hop::new(3_usize.pow(exponent)).expect("positive");
        // A length that is no multiple of anything, so that the last window is padded.
        let extra = (40 * hop.samples()).min(3 * WINDOW_SAMPLES) + 1_234;
        let waveform = signal(WINDOW_SAMPLES + extra);
        for threads in [1, 2] {
            let engine = CpuEngine::new(&model, threads).expect("valid");
            let plain = run(engine.plain_stream(hop), &waveform, &[waveform.len()]);
            assert_close(&run(engine.stream(hop), &waveform, &[waveform.len()]), &plain);
            assert_close(&run(engine.stream(hop), &waveform, &[1, 7, 4_999, 0, 80_000, 333]), &plain);
        }
    }
}

#[test]
fn small_hops_work_too() {
    let model = test_model(None, 1);
    let engine = CpuEngine::new(&model, 1).expect("valid");
    for hop in [1, 3, 9, 27, 100] {
        let hop = Hop::new(hop).expect("positive");
        let waveform = signal(WINDOW_SAMPLES + 5 * hop.samples() + 1);
        let plain = run(engine.plain_stream(hop), &waveform, &[waveform.len()]);
        assert_eq!(plain.len(), 7);
        assert_close(&run(engine.stream(hop), &waveform, &[10_000]), &plain);
    }
}

#[test]
fn the_last_window_is_padded_exactly_when_samples_are_left() {
    let model = test_model(None, 1);
    let engine = CpuEngine::new(&model, 1).expect("valid");
    let expected = |len: usize, hop: usize| -> Vec<(u64, bool)> {
        let full = if len < WINDOW_SAMPLES { 0 } else { (len - WINDOW_SAMPLES) / hop + 1 };
        let covered = if full == 0 { 0 } else { (full - 1) * hop + WINDOW_SAMPLES };
        let mut windows: Vec<_> = (0..full).map(|t| ((t * hop) as u64, false)).collect();
        if len > covered && full * hop < len {
            windows.push(((full * hop) as u64, true));
        }
        windows
    };
    for hop in [6_561, 59_049, 50_000, 70_000] {
        for len in [0, 1, 100, 59_048, 59_049, 59_050, 65_609, 65_610, 65_611, 118_098, 130_000] {
            let results = run(engine.stream(Hop::new(hop).expect("positive")), &signal(len), &[9_000]);
            let got: Vec<_> = results.iter().map(|r| (r.start, r.padded)).collect();
            assert_eq!(got, expected(len, hop), "len {len} hop {hop}");
        }
    }
}

#[test]
fn a_padded_window_is_the_window_of_the_zero_padded_waveform() {
    let model = test_model(None, 3);
    let engine = CpuEngine::new(&model, 1).expect("valid");
    let short = signal(20_000);
    let mut padded = short.clone();
    padded.resize(WINDOW_SAMPLES, 0.0);
    let a = run(engine.stream(Hop::DEFAULT), &short, &[20_000]);
    let b = run(engine.stream(Hop::DEFAULT), &padded, &[WINDOW_SAMPLES]);
    assert!(a[0].padded && !b[0].padded);
    assert_eq!(a[0].logits, b[0].logits);
}

#[test]
fn a_stream_is_ready_for_another_waveform_after_finish() {
    let model = test_model(None, 1);
    let engine = CpuEngine::new(&model, 1).expect("valid");
    let waveform = signal(100_000);
    for hop in [6_561, 59_049] {
        let mut stream = engine.stream(Hop::new(hop).expect("positive"));
        let mut once = |waveform: &[f32]| {
            let mut logits = Vec::new();
            let mut sink = |r: WindowResult<'_>| logits.push((r.start, r.logits.to_vec()));
            stream.push(waveform, &mut sink).expect("cpu");
            stream.finish(&mut sink).expect("cpu");
            logits
        };
        let first = once(&waveform);
        once(&waveform[..77_777]);
        assert_eq!(once(&waveform), first);
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let model = test_model(Some(24), 3);
    let waveform = signal(150_000);
    let one = CpuEngine::new(&model, 1).expect("valid");
    let two = CpuEngine::new(&model, 2).expect("valid");
    for hop in [Hop::DEFAULT, Hop::NON_OVERLAPPING] {
        assert_eq!(run(one.stream(hop), &waveform, &[50_000]), run(two.stream(hop), &waveform, &[50_000]));
    }
}

#[test]
fn hops_are_rounded_to_the_exact_grid() {
    let nearest = |secs: f64| Hop::nearest_exact(secs).map(Hop::samples);
    assert_eq!(nearest(0.3), Some(6_561));
    assert_eq!(nearest(1.0), Some(19_683));
    assert_eq!(nearest(2.7), Some(59_049));
    assert_eq!(nearest(60.0), Some(59_049));
    assert_eq!(nearest(0.0001), Some(243));
    assert_eq!(nearest(0.0), None);
    assert_eq!(nearest(-1.0), None);
    assert_eq!(nearest(f64::NAN), None);
}
