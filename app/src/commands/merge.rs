//! `earmark merge`: shards in, the bytes of a single run out.
//!
//! ```text
//! PART.journal of each shard -> same model, options, files? every part once? -> results in the order of all files
//!                                                                               -> rendered as the single run would have
//! ```

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use earmark_core::engine::Hop;

use super::Exit;
use super::tag::full;
use crate::args::MergeArgs;
use crate::console::Console;
use crate::inputs::shown;
use crate::journal::{FileId, Held, Hold, Shelf, path_beside};
use crate::output::{self, Form, Output, Report, Style, Summary};
use crate::progress::Snapshot;
use crate::shard::Shard;
use crate::view::View;

/// A shard and where it was found.
struct Part {
    path: PathBuf,
    shelf: Shelf,
}

/// Joins shards.
///
/// # Errors
/// If they do not fit together or one is not complete.
pub fn run(args: &MergeArgs) -> Result<Exit> {
    let console = Console::new(args.quiet);
    let mut parts = args.parts.iter().map(|path| Part::open(path)).collect::<Result<Vec<Part>>>()?;
    let places = fit(&parts)?;
    let first = &parts[0].shelf.run;
    let rendering = first.rendering.clone();
    let format = rendering.format;
    let hop = Hop::new(first.identity.hop_samples)
        .with_context(|| format!("{}: its hop is 0; it is damaged", shown(&parts[0].path)))?;
    let view = View::new(first.model.clone(), first.identity.model_hash.clone(), hop, rendering)?;

    let _hold = if output::is_file(&args.out) { Some(Hold::take(&args.out)?) } else { None };
    let mut out = Output::open(Some(&args.out), format)?;
    let run = view.run("", places.len());
    let mut report = output::report(format, run, Style::detect(false), Form::Kept)?;
    match write(&mut parts, &places, &mut *report, &mut out)? {
        Ok(summary) => {
            drop(report);
            if let Err(error) = out.commit() {
                console.error(full(&format!("cannot write {}", shown(&args.out)), &error, false));
                return Ok(Exit::SomeFailed);
            }
            let failed =
                if summary.num_failed > 0 { format!("; {} failed", summary.num_failed) } else { String::new() };
            let (parts, files) = (parts.len(), summary.num_completed);
            console.note(format!("wrote {}: {parts} parts, {files} files{failed}", shown(&args.out)));
            Ok(Exit::Done)
        }
        Err(error) => {
            console.error(full(&format!("cannot write {}", shown(&args.out)), &error, false));
            Ok(Exit::SomeFailed)
        }
    }
}

impl Part {
    fn open(path: &Path) -> Result<Self> {
        let is_journal = path.extension().is_some_and(|extension| extension == "journal");
        let path = if is_journal { path.to_path_buf() } else { path_beside(path) };
        Ok(Self { shelf: Shelf::open(&path)?, path })
    }
}

/// Checks that the parts are all parts of one run, and says in which part each file is, in the order of all files.
fn fit(parts: &[Part]) -> Result<Vec<(usize, FileId)>> {
    let first = &parts[0];
    let name = |part: &Part| shown(&part.path);
    let mut by_index: HashMap<u32, &Part> = HashMap::new();
    for part in parts {
        let Some(shard) = part.shelf.run.shard else {
            bail!("{} is not a shard; shards are made with --shard I/N", name(part));
        };
        let count = first.shelf.run.shard.map_or(0, Shard::count);
        ensure!(
            shard.count() == count,
            "{} is one of {count} parts and {} one of {}; merge the parts of one division",
            name(first),
            name(part),
            shard.count()
        );
        if let Some(other) = by_index.insert(shard.index(), part) {
            bail!("{} and {} are both part {shard}; name each part once", name(other), name(part));
        }
        let differs = |what: &str| {
            anyhow!(
                "{} and {} were made with different {what}; make one of them again with the other's and --resume",
                name(first),
                name(part)
            )
        };
        let (a, b) = (&first.shelf, &part.shelf);
        ensure!(a.run.identity.tool_version == b.run.identity.tool_version, differs("versions of earmark"));
        ensure!(a.run.identity == b.run.identity, differs("models or --hop-secs"));
        ensure!(
            a.run.rendering == b.run.rendering,
            differs("options (format, top-n, min-confidence, target-precision)")
        );
        ensure!(a.end.listing == b.end.listing && a.end.num_all == b.end.num_all, differs("files to choose from"));
    }
    let count = first.shelf.run.shard.map_or(0, Shard::count);
    let missing: Vec<String> =
        (1..=count).filter(|index| !by_index.contains_key(index)).map(|index| format!("{index}/{count}")).collect();
    ensure!(missing.is_empty(), "these parts are missing: {}; name all {count}", missing.join(", "));

    let mut places: Vec<Option<(usize, FileId)>> = vec![None; first.shelf.end.num_all];
    for (index, part) in parts.iter().enumerate() {
        for &(place, id) in &part.shelf.end.files {
            let slot = places.get_mut(place).filter(|slot| slot.is_none());
            *slot.with_context(|| format!("{}: file {place} is out of place; it is damaged", name(part)))? =
                Some((index, id));
        }
    }
    let lost = || anyhow!("a file is in none of the parts; run all shards again with --resume over the same files");
    places.into_iter().map(|place| place.ok_or_else(lost)).collect()
}

/// Writes the run that the parts are. The outer error is a part's, the inner one the output's.
fn write(
    parts: &mut [Part],
    places: &[(usize, FileId)],
    report: &mut dyn Report,
    out: &mut Output,
) -> Result<io::Result<Summary>> {
    let mut errors: Vec<(String, String)> = Vec::new();
    for part in &*parts {
        // Every shard looks everywhere, and may not see the same everywhere.
        for error in &part.shelf.end.errors {
            if !errors.contains(error) {
                errors.push(error.clone());
            }
        }
    }
    let snapshot = Snapshot {
        files_done: places.len(),
        files_total: places.len(),
        audio_s: 0.0,
        wall_s: 0.0,
        speed: 0.0,
        time_left_s: None,
    };
    let mut summary = Summary { num_completed: 0, num_failed: errors.len(), interrupted: false, snapshot };
    let begun = (|| {
        report.start(out)?;
        errors.iter().try_for_each(|(path, cause)| report.file_failed(out, None, path.as_ref(), cause))
    })();
    if let Err(error) = begun {
        return Ok(Err(error));
    }
    for (index, &(part, id)) in places.iter().enumerate() {
        let part = &mut parts[part];
        let held = part.shelf.held(id).with_context(|| {
            format!("{}: the result of file {index} is damaged; run the shard again with --resume", shown(&part.path))
        })?;
        let written = match held {
            Held::Done(file) => {
                summary.num_completed += 1;
                report.file_completed(out, index, &file)
            }
            Held::Failed(name, cause) => {
                summary.num_failed += 1;
                report.file_failed(out, Some(index), &name, &cause)
            }
        };
        if let Err(error) = written.and_then(|()| out.write_beside(&report.take_beside())) {
            return Ok(Err(error));
        }
    }
    let finished = report.finish(out, &summary).and_then(|()| out.write_beside(&report.take_beside()));
    Ok(finished.and_then(|()| out.flush()).map(|()| summary))
}
