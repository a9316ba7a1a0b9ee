//! Takes written tags back.
//!
//! ```text
//! record, file -> the file as we wrote it?   -> its bytes before, checked by their hash
//!                 the file as it was before? -> nothing to do
//!                 changed since?             -> our fields that are still as we wrote them get their old values
//! ```

use std::fs::File;

use anyhow::{Result, ensure};

use super::fields::{Field, same_values};
use super::journal::FileRecord;
use super::replace::{Target, content_of};
use super::{check, open};

/// What became of a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Undone {
    /// It has the bytes that it had before.
    Restored,
    /// It had them already.
    AsBefore,
    /// It was changed since by somebody else; these fields have their old values, those were left as they are.
    Fields {
        /// Fields that were taken back.
        restored: Vec<Field>,
        /// Fields that have other values than we wrote.
        left: Vec<Field>,
    },
}

/// Takes back what `record` says; in a `dry_run` only looks.
///
/// # Errors
/// Why the file stays as it is, without its name.
pub fn undo(record: &FileRecord, dry_run: bool) -> Result<Undone> {
    let mut target = if dry_run { Target::for_reading(&record.path)? } else { Target::open(&record.path)? };
    let is = target.hash()?;
    if is == record.old {
        return Ok(Undone::AsBefore);
    }
    if is == record.new {
        if !dry_run {
            let copy = target.copy(&record.back)?;
            // Read from the disk, not from what was meant to be written.
            ensure!(
                content_of(File::open(copy.path())?)? == record.old,
                "the journal does not lead back to the file before; the file stays as it is"
            );
            target.replace_by(copy, Some(record.modified))?;
        }
        return Ok(Undone::Restored);
    }
    let mut tags = open(&mut target.file)?;
    let (back, left): (Vec<_>, Vec<_>) =
        record.changes.iter().cloned().partition(|change| same_values(&tags.get(change.field), &change.new));
    let restored = back.iter().map(|change| change.field).collect();
    let left = left
        .iter()
        .filter(|change| !same_values(&tags.get(change.field), &change.old))
        .map(|change| change.field)
        .collect();
    if !dry_run && !back.is_empty() {
        let mut back = back;
        for change in &mut back {
            std::mem::swap(&mut change.old, &mut change.new);
            tags.set(change.field, &change.new);
        }
        let splices = tags.splices(&mut target.file)?;
        let copy = target.copy(&splices)?;
        check(&mut target.file, &target.path, copy.path(), &back)?;
        target.replace_by(copy, None)?;
    }
    Ok(Undone::Fields { restored, left })
}
