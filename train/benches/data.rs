//! Benchmark of the loader: `cargo bench --bench data -- DIR`, with DIR in MagnaTagATune's layout. On one thread: hours of
//! audio per second when a file is decoded, when it is decoded into an empty cache, and when it is in the cache; then
//! windows per second of batches with the augmentation of `configs/open-corpus.toml`, from memory and from the cache.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context, Result};
use earmark_train::config::Config;
use earmark_train::data::batches::BatchSource;
use earmark_train::data::cache::Cache;
use earmark_train::dataset::Dataset;
use earmark_train::progress::Progress;

const BATCHES: usize = 12;
const CACHE_LIMIT: u64 = 1 << 40;

fn main() -> Result<()> {
    let dir = std::env::args().skip(1).find(|arg| arg != "--bench");
    let dir = dir.context("name a data set in MagnaTagATune's layout")?;
    // The noise is relative to the data set, which need not be the open corpus.
    let overrides = ["data.targets=hard", "data.clip_share=1.0", "data.hard_share=0.0"].map(str::to_owned);
    let mut config = Config::parse(include_str!("../configs/open-corpus.toml"), &overrides)?;
    config.augment.recorded_noise = None;
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global()?;

    let folder = tempfile::tempdir()?;
    let cache = || Cache::open(folder.path(), CACHE_LIMIT).map(Some);
    let (memory, decode) = load(Path::new(&dir), &config, None)?;
    let (_, store) = load(Path::new(&dir), &config, cache()?)?;
    let (cached, open) = load(Path::new(&dir), &config, cache()?)?;
    println!(
        "hours of audio per second: decoded {decode:.3}, decoded into the cache {store:.3}, from the cache {open:.1}"
    );

    let (from_memory, from_cache) = (windows_per_s(&memory), windows_per_s(&cached));
    println!("windows per second: from memory {from_memory:.0}, from the cache {from_cache:.0}");
    println!(
        "RESULT data decode_hours_per_s={decode:.3} store_hours_per_s={store:.3} cached_hours_per_s={open:.1} \
         windows_per_s={from_memory:.0} cached_windows_per_s={from_cache:.0}"
    );
    Ok(())
}

/// The training clips and the hours of audio that one second loads.
fn load(dir: &Path, config: &Config, cache: Option<Cache>) -> Result<(std::sync::Arc<BatchSource>, f64)> {
    let dataset = Dataset::open(dir, config)?.with_cache(cache);
    let start = Instant::now();
    let loaded = dataset.load(config, Progress::Hidden, &AtomicBool::new(false))?;
    let secs = start.elapsed().as_secs_f64();
    let supervised = loaded.into_supervised(config);
    let clips = supervised.train.clips.iter().chain(&supervised.valid);
    let samples: usize = clips.map(|clip| clip.audio.len()).sum();
    let hours = samples as f64 / f64::from(earmark_core::SAMPLE_RATE_HZ) / 3_600.0;
    Ok((supervised.train, hours / secs))
}

/// The fastest of two rounds of [`BATCHES`] batches: the first also reads what is not in memory yet.
fn windows_per_s(source: &BatchSource) -> f64 {
    let steps = source.steps_per_epoch();
    let speed = |index: usize| {
        let start = Instant::now();
        let batch = source.batch(index / steps, index % steps);
        batch.size as f64 / start.elapsed().as_secs_f64()
    };
    (0..2 * BATCHES).map(|index| speed(index % BATCHES)).fold(0.0, f64::max)
}
