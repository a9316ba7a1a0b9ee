//! What an engine must show before it is trusted: the CPU engine's answer to one window, and how fast it is.

use std::f32::consts::TAU;
use std::time::Instant;

use super::{Engine, EngineError, Hop};
use crate::{SAMPLE_RATE_HZ, WINDOW_SAMPLES};

/// Largest difference of a logit that rounding explains. Engines in f32 agree to 1e-5; a driver that computes something
/// else is off by far more. A logit that moves by this moves a probability by at most a quarter of it.
pub const MAX_LOGIT_DIFFERENCE: f32 = 1e-3;

/// Windows whose time is taken: a full batch of a GPU.
const NUM_TIMED_WINDOWS: usize = 16;

/// Compares `engine` with `reference` on one window and returns the largest difference of a logit.
///
/// # Errors
/// If it is more than [`MAX_LOGIT_DIFFERENCE`], no number at all, or the device fails: the reason, as a clause.
pub fn compare(engine: &dyn Engine, reference: &dyn Engine) -> Result<f32, String> {
    let window = signal(WINDOW_SAMPLES);
    let (ours, expected) = match (logits(engine, &window), logits(reference, &window)) {
        (Ok(ours), Ok(expected)) => (ours, expected),
        (Err(EngineError::Device { cause, .. }), _) => return Err(format!("it failed its self-test: {cause}")),
        (Err(error), _) | (_, Err(error)) => return Err(error.to_string()),
    };
    worst(&ours, &expected, "the CPU engine's")
}

/// The largest difference, if it is small enough; `whose` logits are expected.
fn worst(ours: &[f32], expected: &[f32], whose: &str) -> Result<f32, String> {
    if ours.len() != expected.len() {
        return Err(format!("it gave {} logits in its self-test, not {}", ours.len(), expected.len()));
    }
    // f32::max would pass over a NaN.
    let differences = ours.iter().zip(expected).map(|(a, b)| (a - b).abs());
    let worst = differences.fold(0.0, |worst: f32, d| if d > worst || d.is_nan() { d } else { worst });
    if worst <= MAX_LOGIT_DIFFERENCE {
        return Ok(worst);
    }
    Err(format!("a logit of its self-test differs from {whose} by {worst:.1e}, more than {MAX_LOGIT_DIFFERENCE:.0e}"))
}

/// Compares what `engine` says of windows that share their work with what it says of each by itself, at `hop`, and returns the
/// largest difference of a logit. An engine that is its own reference can be tested so.
///
/// # Errors
/// As [`compare`].
pub fn compare_with_plain(engine: &dyn Engine, hop: Hop) -> Result<f32, String> {
    let waveform = signal(WINDOW_SAMPLES + 3 * hop.samples());
    let all = |mut stream: Box<dyn super::WindowStream + '_>| -> Result<Vec<f32>, String> {
        let mut logits = Vec::new();
        let failed = |error: EngineError| format!("it failed its self-test: {error}");
        stream.push(&waveform, &mut |result| logits.extend_from_slice(result.logits)).map_err(failed)?;
        Ok(logits)
    };
    worst(&all(engine.stream(hop))?, &all(engine.plain_stream(hop))?, "what it says of each window by itself")
}

/// Windows per second of one stream at `hop`, after a first run that compiles and allocates.
///
/// # Errors
/// If the device fails.
pub fn windows_per_sec(engine: &dyn Engine, hop: Hop) -> Result<f64, EngineError> {
    let waveform = signal(WINDOW_SAMPLES + (NUM_TIMED_WINDOWS - 1) * hop.samples());
    let mut stream = engine.stream(hop);
    let mut num_windows = 0_u32;
    let mut run = || {
        num_windows = 0;
        let mut sink = |_: super::WindowResult<'_>| num_windows += 1;
        stream.push(&waveform, &mut sink)?;
        stream.finish(&mut sink)
    };
    run()?;
    let started = Instant::now();
    run()?;
    Ok(f64::from(num_windows) / started.elapsed().as_secs_f64().max(1e-9))
}

fn logits(engine: &dyn Engine, window: &[f32]) -> Result<Vec<f32>, EngineError> {
    let mut logits = Vec::new();
    engine.stream(Hop::NON_OVERLAPPING).push(window, &mut |result| logits.extend_from_slice(result.logits))?;
    Ok(logits)
}

/// Three plucked notes a second over noise, the same on every machine to rounding.
fn signal(num_samples: usize) -> Vec<f32> {
    let mut state = 1_u32;
    (0..num_samples)
        .map(|index| {
            // Numerical Recipes' linear congruential generator.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
            let secs = index as f32 / SAMPLE_RATE_HZ as f32;
            let note = (secs * 3.0).floor();
            let decay = (-4.0 * (secs * 3.0).fract()).exp();
            0.4 * decay * (TAU * 220.0 * (1.0 + note / 4.0) * secs).sin() + 0.05 * noise
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{CpuEngine, test_model};
    use super::*;

    #[test]
    fn an_engine_agrees_with_itself_and_not_with_another_network() {
        let model = test_model(Some(24), 3);
        let engine = CpuEngine::new(&model, 1).expect("valid");
        assert_eq!(compare(&engine, &engine), Ok(0.0));

        let mut other = model.clone();
        other.weights.head[1].bias[2] += 0.01;
        let other = CpuEngine::new(&other, 1).expect("valid");
        let refused = compare(&other, &engine).expect_err("another bias");
        assert!(refused.contains("1.0e-2, more than 1e-3"), "{refused}");
    }

    #[test]
    fn shared_work_changes_nothing() {
        let engine = CpuEngine::new(&test_model(Some(24), 3), 1).expect("valid");
        assert!(compare_with_plain(&engine, Hop::DEFAULT).expect("equal") < 1e-4);
        assert!(compare_with_plain(&Constant(f32::NAN), Hop::DEFAULT).expect_err("NaN").contains("by itself"));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        assert!(compare(&Constant(f32::NAN), &Constant(0.0)).expect_err("NaN").contains("NaN"));
        assert_eq!(compare(&Constant(2.0), &Constant(2.0)), Ok(0.0));
        let engine = CpuEngine::new(&test_model(None, 1), 1).expect("valid");
        assert!(compare(&Constant(0.0), &engine).expect_err("one logit").contains("1 logits"));
    }

    #[test]
    fn speed_counts_every_window() {
        let engine = CpuEngine::new(&test_model(None, 1), 1).expect("valid");
        for hop in [Hop::DEFAULT, Hop::NON_OVERLAPPING] {
            assert!(windows_per_sec(&engine, hop).expect("cpu") > 0.1);
        }
    }

    /// Says the same of every window.
    struct Constant(f32);

    impl Engine for Constant {
        fn device(&self) -> String {
            "constant".to_owned()
        }

        fn embedding_len(&self) -> usize {
            0
        }

        fn num_tags(&self) -> usize {
            1
        }

        fn stream(&self, hop: Hop) -> Box<dyn super::super::WindowStream + '_> {
            Box::new(super::super::windowed::WindowedStream::new(Same(self.0), hop.samples()))
        }
    }

    struct Same(f32);

    impl super::super::windowed::WindowForward for Same {
        fn batch(&self, _: usize) -> usize {
            1
        }

        fn forward(
            &mut self,
            _: &[f32],
            _: usize,
            windows: usize,
            each: &mut dyn FnMut(&[f32], &[f32]),
        ) -> Result<(), EngineError> {
            (0..windows).for_each(|_| each(&[], &[self.0]));
            Ok(())
        }
    }
}
