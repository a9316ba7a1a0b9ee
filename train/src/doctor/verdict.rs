//! What the doctor found broken, kept beside the decoded audio under a hash of the data it looked at.

use std::fs;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Finding, Severity};
use crate::data::cache::Cache;
use crate::data::items::Collection;
use crate::run::write_atomically;

/// Version of the verdict and of the rules behind it.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Verdict {
    version: u32,
    broken: Vec<String>,
}

/// Keeps which findings say *broken*.
pub fn remember(cache: &Cache, collection: &Collection, findings: &[Finding]) -> Result<()> {
    let broken = findings.iter().filter(|finding| finding.severity == Severity::Broken);
    let verdict = Verdict { version: VERSION, broken: broken.map(|finding| finding.what.clone()).collect() };
    let path = path(cache, collection);
    let folder = path.parent().unwrap_or(cache.folder());
    fs::create_dir_all(folder).with_context(|| format!("{}: cannot be created", folder.display()))?;
    write_atomically(&path, &serde_json::to_vec_pretty(&verdict)?)
}

/// What the doctor found broken in these files, if it has seen them as they are.
pub fn recall(cache: &Cache, collection: &Collection) -> Option<Vec<String>> {
    let bytes = fs::read(path(cache, collection)).ok()?;
    let verdict: Verdict = serde_json::from_slice(&bytes).ok()?;
    (verdict.version == VERSION).then_some(verdict.broken)
}

/// The name follows from the label files' bytes and from split, path, size and time of change of every item.
fn path(cache: &Cache, collection: &Collection) -> PathBuf {
    let mut hasher = blake3::Hasher::new();
    let mut add = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    add(collection.split_rule.as_bytes());
    for file in &collection.label_files {
        add(&fs::read(file).unwrap_or_default());
    }
    for item in &collection.items {
        let path = std::path::absolute(collection.path(item)).unwrap_or_else(|_| collection.path(item));
        add(path.as_os_str().as_encoded_bytes());
        add(&[item.split as u8]);
        let metadata = fs::metadata(path).ok();
        let changed = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
        let changed = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        add(&metadata.map_or(0, |metadata| metadata.len()).to_le_bytes());
        add(&changed.as_nanos().to_le_bytes());
    }
    cache.folder().join("doctor").join(format!("{}.json", hasher.finalize().to_hex()))
}
