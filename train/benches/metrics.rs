//! Benchmark of the metrics: `cargo bench --bench metrics`. Macro ROC-AUC and average precision over as many clips and
//! tags as MagnaTagATune's test split has; random scores with many ties, one truth in twenty.

use std::time::Instant;

use earmark_train::eval::metrics::Metrics;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const CLIPS: usize = 5_329;
const TAGS: usize = 50;
const ROUNDS: usize = 20;

fn main() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let scores: Vec<f32> = (0..CLIPS * TAGS).map(|_| f32::from(rng.random::<u8>()) / 255.0).collect();
    let truth: Vec<bool> = (0..CLIPS * TAGS).map(|_| rng.random_bool(0.05)).collect();
    let tags: Vec<String> = (0..TAGS).map(|i| format!("tag {i}")).collect();
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            let metrics = Metrics::new(&scores, &truth, &tags, 1);
            assert_eq!(metrics.num_tags, TAGS);
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("{CLIPS} clips, {TAGS} tags: {:.2} ms (median {:.2})", times[0], times[ROUNDS / 2]);
    println!("RESULT metrics ms={:.2}", times[0]);
}
