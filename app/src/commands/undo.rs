//! `earmark undo`: takes back the tags that a run wrote.

use anyhow::Result;

use super::Exit;
use crate::args::UndoArgs;
use crate::batch::{self, Outcome, contained};
use crate::console::Console;
use crate::file_tags::Field;
use crate::file_tags::journal::{Broken, Reader};
use crate::file_tags::undo::{Undone, undo};
use crate::inputs::shown;

/// Takes back what the journal says, the last file first.
///
/// # Errors
/// If the journal cannot be read. A file that fails is reported, and the others go on.
pub fn run(args: &UndoArgs) -> Result<Exit> {
    let console = Console::new(args.quiet);
    let mut journal = Reader::open(&args.journal)?;
    batch::silence_contained_panics();
    let (mut num_restored, mut num_as_before, mut num_by_fields, mut num_failed) = (0, 0, 0, 0);
    for index in (0..journal.num_files()).rev() {
        let record = journal.record(index)?;
        let name = shown(&record.path);
        let undone = contained(|| match undo(&record, args.dry_run) {
            Ok(undone) => Outcome::Done(undone),
            Err(cause) => Outcome::Failed(format!("{cause:#}")),
        });
        match undone {
            Outcome::Done(Undone::Restored) => {
                num_restored += 1;
                if args.dry_run {
                    super::print(format!("{name}\n").as_bytes())?;
                }
            }
            Outcome::Done(Undone::AsBefore) | Outcome::Abandoned => num_as_before += 1,
            Outcome::Done(Undone::Fields { restored, left }) => {
                num_by_fields += 1;
                let (restored, left) = (names(&restored), names(&left));
                let taken_back = if args.dry_run { "would be taken back" } else { "taken back" };
                console.error(format!(
                    "{name}: changed since the tags were written, so that its bytes before cannot come back; fields \
                     {taken_back}: {restored}; left, as others have changed them: {left}"
                ));
            }
            Outcome::Failed(cause) => {
                num_failed += 1;
                console.error(format!("{name}: not restored: {cause}"));
            }
        }
    }
    match journal.broken {
        Some(Broken::Torn) => {
            console.note(
                "the journal ends inside a record: the run was ended while it wrote, before that file was replaced",
            );
        }
        Some(Broken::Damaged(at)) => {
            num_failed += 1;
            console.error(format!(
                "the journal is damaged from byte {at} on: files that were written after that are not restored; take a \
                 copy of the journal if there is one"
            ));
        }
        None => {}
    }
    let would = if args.dry_run { "would be " } else { "" };
    let files = if num_restored == 1 { "file" } else { "files" };
    let mut closing = format!("{num_restored} {files} {would}restored byte for byte");
    for (count, what) in
        [(num_as_before, "already as before"), (num_by_fields, "by their fields"), (num_failed, "failed")]
    {
        if count > 0 {
            closing += &format!("; {count} {what}");
        }
    }
    console.note(closing);
    Ok(if num_failed > 0 { Exit::SomeFailed } else { Exit::Done })
}

fn names(fields: &[Field]) -> String {
    if fields.is_empty() {
        return "none".to_owned();
    }
    fields.iter().map(|field| field.name()).collect::<Vec<_>>().join(", ")
}
