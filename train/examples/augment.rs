//! Measures the augmentations on one core: windows per second of each step and of all of them in a row, which says how
//! many cores a GPU needs to be fed.
//!
//! ```text
//! cargo run --release --example augment -- [--seconds 1.0]
//! ```

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use earmark_core::WINDOW_SAMPLES;
use earmark_core::audio::mix_snr;
use earmark_train::data::augment::{Pass, filter, gain, read_at_speed, white_noise};
use earmark_train::rng;

/// Noises mixed into a window.
const NUM_NOISES: usize = 4;

/// Something that happens to a window.
type Step<'a> = &'a mut dyn FnMut(&mut [f32]);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seconds = match &arguments[..] {
        [] => 1.0,
        [name, value] if name == "--seconds" => value.parse()?,
        other => return Err(format!("unknown options {other:?}; --seconds S is the only one").into()),
    };

    let rng = &mut rng::stream(0, "benchmark", 0, 0);
    let mut clip = vec![0.0; 2 * WINDOW_SAMPLES];
    white_noise(rng, &mut clip);
    let noises: Vec<Vec<f32>> = (0..NUM_NOISES).map(|n| clip[n..n + WINDOW_SAMPLES].to_vec()).collect();
    let noises: Vec<&[f32]> = noises.iter().map(Vec::as_slice).collect();
    let mut window = clip[..WINDOW_SAMPLES].to_vec();
    let mut white = vec![0.0; WINDOW_SAMPLES];

    let crop = |window: &mut [f32]| read_at_speed(|index| clip.get(index).copied(), 1_000.0, 1.01, window);
    let mut steps: [(&str, Step<'_>); 5] = [
        ("crop at another speed", &mut |window| crop(window)),
        ("filter", &mut |window| filter(window, Pass::Low, 4_000.0)),
        // Turns the waveform over; a factor of one size keeps it in range however often it is applied.
        ("gain, polarity", &mut |window| gain(window, -1.0)),
        ("mix 4 noises", &mut |window| mix_snr(window, &noises, 20.0)),
        ("white noise", &mut |window| {
            white_noise(rng, &mut white);
            mix_snr(window, &[&white], 40.0);
        }),
    ];

    for (name, step) in &mut steps {
        let rate = rate(seconds, &mut window, |window| {
            step(window);
        });
        println!("{name:<24} {rate:>9.0} windows/s on one core");
        // Ready for the next one.
        crop(&mut window);
    }
    let all = rate(seconds, &mut window, |window| {
        steps.iter_mut().for_each(|(_, step)| step(window));
    });
    println!("{:<24} {all:>9.0} windows/s on one core", "all in a row");
    println!("RESULT augment windows_per_core_s={all:.0}");
    Ok(())
}

/// Calls per second at the fastest of the runs of ten that fit into `seconds`.
fn rate(seconds: f64, window: &mut [f32], mut step: impl FnMut(&mut [f32])) -> f64 {
    const CALLS: usize = 10;
    let (begin, mut best) = (Instant::now(), f64::INFINITY);
    while best.is_infinite() || begin.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        for _ in 0..CALLS {
            step(black_box(window));
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    CALLS as f64 / best
}
