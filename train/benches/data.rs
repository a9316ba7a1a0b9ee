//! Benchmark of the loader: `cargo bench --bench data -- DIR`, with DIR in MagnaTagATune's layout. On one thread: hours
//! of audio per second when files are decoded, when they are decoded into an empty cache, and when they are in the
//! cache; then windows per second of batches with the augmentation of `configs/open-corpus.toml` (without recorded
//! noise), from memory and from the cache.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context, Result};
use earmark_train::config::Config;
use earmark_train::data::batches::BatchSource;
use earmark_train::data::cache::Cache;
use earmark_train::dataset::Dataset;
use earmark_train::progress::Progress;

/// Everything is measured in turn, each thing at its fastest.
const ROUNDS: usize = 3;
const BATCHES: usize = 12;
const CACHE_LIMIT: u64 = 1 << 40;

fn main() -> Result<()> {
    let dir = std::env::args().skip(1).find(|arg| arg != "--bench");
    let dir = dir.context("name a data set in MagnaTagATune's layout")?;
    let dir = Path::new(&dir);
    // Teacher and noise belong to the open corpus; the data set may be another.
    let overrides = ["data.targets=hard", "data.clip_share=1.0", "data.hard_share=0.0"].map(str::to_owned);
    let mut config = Config::parse(include_str!("../configs/open-corpus.toml"), &overrides)?;
    config.augment.recorded_noise = None;
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global()?;

    let [mut decode, mut store, mut open, mut from_memory, mut from_cache] = [0.0_f64; 5];
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir()?;
        let cache = || Cache::open(folder.path(), CACHE_LIMIT).map(Some);
        let (memory, hours_per_s) = load(dir, &config, None)?;
        decode = decode.max(hours_per_s);
        store = store.max(load(dir, &config, cache()?)?.1);
        let (cached, hours_per_s) = load(dir, &config, cache()?)?;
        open = open.max(hours_per_s);
        for index in 0..BATCHES {
            from_memory = from_memory.max(windows_per_s(&memory, index));
            from_cache = from_cache.max(windows_per_s(&cached, index));
        }
    }
    println!("hours of audio per second: decoded {decode:.3}, decoded into the cache {store:.3}, cached {open:.1}");
    println!("windows per second: from memory {from_memory:.0}, from the cache {from_cache:.0}");
    println!(
        "RESULT data decode_hours_per_s={decode:.3} store_hours_per_s={store:.3} cached_hours_per_s={open:.1} \
         windows_per_s={from_memory:.0} cached_windows_per_s={from_cache:.0}"
    );
    Ok(())
}

/// The training clips, and how many hours of audio one second loads.
fn load(dir: &Path, config: &Config, cache: Option<Cache>) -> Result<(Arc<BatchSource>, f64)> {
    let dataset = Dataset::open(dir, config)?.with_cache(cache);
    let start = Instant::now();
    let loaded = dataset.load(config, Progress::Hidden, &AtomicBool::new(false))?;
    let secs = start.elapsed().as_secs_f64();
    let data = loaded.into_supervised(config);
    let samples: usize = data.train.clips.iter().chain(&data.valid).map(|clip| clip.audio.len()).sum();
    let hours = samples as f64 / f64::from(earmark_core::SAMPLE_RATE_HZ) / 3_600.0;
    Ok((data.train, hours / secs))
}

/// Windows per second of one batch.
fn windows_per_s(source: &BatchSource, index: usize) -> f64 {
    let steps = source.steps_per_epoch();
    let start = Instant::now();
    let batch = source.batch(index / steps, index % steps);
    batch.size as f64 / start.elapsed().as_secs_f64()
}
