//! Tags in music files: what was heard, written into the files themselves, and taken back.
//!
//! ```text
//! probabilities -> mapping -> values --+
//! file -> container -> fields ---------+-> plan -> changes -> splices of bytes -> copy beside the file
//!            |                                                                       |
//!            +-- audio packets, fields of others, lofty's reading ------ equal? -----+
//!                                                                                    |
//!                       journal: changes, bytes that go, hashes; on the disk  <------+
//!                       rename: the copy becomes the file             <--------------+
//!
//! journal -> undo -> the same bytes as before, or, if the file was changed since, the fields alone
//! ```
//!
//! A file that cannot be written is reported and stays as it is; the others go on. At any moment a file is the old one
//! or the new one, and the journal has the way back from every new one.

mod fields;
mod flac;
mod id3v2;
mod iff;
pub mod journal;
mod mapping;
mod mp4;
mod mpeg;
mod ogg;
mod replace;
mod session;
mod splice;
#[cfg(test)]
mod tests;
pub mod undo;
mod vorbis;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use earmark_core::audio::copy_packets;
use lofty::config::ParseOptions;
use lofty::file::TaggedFileExt;
use lofty::probe::Probe;
use lofty::tag::{ItemKey, TagType};

pub use fields::{Change, Field, Identity};
use fields::{Plan, same_values};
use journal::{FileRecord, Journal};
use mapping::{Values, unknown_tags};
use replace::Target;
pub use session::Session;
use splice::Splice;

/// How files are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteSettings {
    /// Only say what would change.
    pub dry_run: bool,
    /// Replace what Earmark wrote before.
    pub overwrite: bool,
    /// Where the way back is kept; `None` is a new file in the user's state folder.
    pub journal: Option<PathBuf>,
}

/// Writes tags into files, one after the other.
pub struct Writer {
    /// Names and thresholds `[num_tags]`.
    names: Vec<String>,
    thresholds: Vec<f32>,
    identity: Identity,
    overwrite: bool,
    /// None in a dry run.
    journal: Option<Journal>,
    /// Folders in which copies of killed runs were looked for.
    swept: HashSet<PathBuf>,
}

/// What became of a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    /// These fields were changed, or would be.
    Changed(Vec<Change>),
    /// It already has all that it earned.
    Unchanged,
    /// It has tags of another model (named), which only `--overwrite` replaces.
    OtherModel(String),
}

impl Writer {
    /// A writer for a model's tags, `names` `[num_tags]`, which are written from `thresholds` on, `[num_tags]`.
    ///
    /// # Errors
    /// If none of the tags has a place in a file, or the journal cannot be made.
    pub fn new(settings: &WriteSettings, names: &[String], thresholds: &[f32], identity: Identity) -> Result<Self> {
        ensure!(
            unknown_tags(names).len() < names.len(),
            "write-tags: the model has none of MagnaTagATune's tags, so that there is no field for what it says; use \
             another model"
        );
        let journal = if settings.dry_run {
            None
        } else {
            let path = match &settings.journal {
                Some(path) => path.clone(),
                None => journal::default_path(|name| std::env::var_os(name).map(PathBuf::from))?,
            };
            Some(Journal::create(&path, &identity)?)
        };
        let (names, thresholds, swept) = (names.to_vec(), thresholds.to_vec(), HashSet::new());
        Ok(Self { names, thresholds, identity, overwrite: settings.overwrite, journal, swept })
    }

    /// Whether nothing is written.
    pub fn is_dry_run(&self) -> bool {
        self.journal.is_none()
    }

    /// Writes what `clip_probabilities`, `[num_tags]`, say of the file at `path`.
    ///
    /// # Errors
    /// Why the file stays as it is, without its name.
    pub fn write(&mut self, path: &Path, clip_probabilities: &[f32]) -> Result<Written> {
        let mut target = if self.is_dry_run() { Target::for_reading(path)? } else { Target::open(path)? };
        let mut tags = open(&mut target.file)?;
        let elsewhere = read_with_lofty(&mut target.file)?.elsewhere();
        let values = Values::new(&self.names, &self.thresholds, clip_probabilities);
        let is_elsewhere = |field: Field| elsewhere.contains(&field);
        let changes = match fields::plan(|field| tags.get(field), is_elsewhere, &values, &self.identity, self.overwrite)
        {
            Plan::OtherModel(model) => return Ok(Written::OtherModel(model)),
            Plan::Change(changes) if changes.is_empty() => return Ok(Written::Unchanged),
            Plan::Change(changes) => changes,
        };
        for change in &changes {
            tags.set(change.field, &change.new);
        }
        let splices = tags.splices(&mut target.file)?;
        if let Some(journal) = &mut self.journal {
            if let Some(folder) = target.path.parent().filter(|folder| !self.swept.contains(*folder)) {
                replace::remove_left_over(folder);
                self.swept.insert(folder.to_path_buf());
            }
            let copy = target.copy(&splices)?;
            check(&mut target.file, &target.path, copy.path(), &changes)?;
            let record = FileRecord {
                path: target.path.clone(),
                modified: target.modified()?,
                old: target.hash()?,
                new: copy.hash(),
                changes: changes.clone(),
                back: splice::inverse(&mut target.file, &splices)?,
            };
            journal.append(&record)?;
            target.replace_by(copy, None)?;
        }
        Ok(Written::Changed(changes))
    }

    /// Ends the run; the path of the journal if there is anything in it.
    ///
    /// # Errors
    /// If an empty journal cannot be taken away.
    pub fn finish(self) -> Result<Option<PathBuf>> {
        self.journal.map_or(Ok(None), Journal::finish)
    }
}

/// The fields of a file in its container, as far as they are text, and how to change them.
trait Container {
    /// Values of a field.
    fn get(&self, field: Field) -> Vec<String>;
    /// Replaces the values of a field; none take it away.
    fn set(&mut self, field: Field, values: &[String]);
    /// What else is in the tag, as bytes: it must be the same before and after.
    fn others(&self) -> Vec<Vec<u8>>;
    /// What was set, as changes of bytes of `file`, the file that was opened.
    fn splices(&self, file: &mut File) -> Result<Vec<Splice>>;
}

/// Opens the tag of a file by the file's content.
fn open(file: &mut File) -> Result<Box<dyn Container>> {
    let mut head = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.by_ref().take(id3v2::HEADER_LEN as u64).read_to_end(&mut head)?;
    let mut behind_tag = [0; 4];
    let is_tagged_flac = id3v2::tag_len(&head).is_some_and(|len| {
        let read = file.seek(SeekFrom::Start(len as u64)).and_then(|_| file.read_exact(&mut behind_tag));
        read.is_ok() && &behind_tag == b"fLaC"
    });
    Ok(match head.as_slice() {
        [b'f', b'L', b'a', b'C', ..] => Box::new(flac::Flac::open(file)?),
        _ if is_tagged_flac => Box::new(flac::Flac::open(file)?),
        [b'O', b'g', b'g', b'S', ..] => Box::new(ogg::Ogg::open(file)?),
        [b'R', b'I', b'F', b'F', ..] | [b'R', b'F', b'6', b'4', ..] | [b'F', b'O', b'R', b'M', ..] => {
            Box::new(iff::Iff::open(file)?)
        }
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => Box::new(mp4::Mp4::open(file)?),
        [b'I', b'D', b'3', ..] => Box::new(mpeg::Mpeg::open(file)?),
        // Sync of MPEG audio and of AAC.
        [0xff, second, ..] if second & 0xe0 == 0xe0 => Box::new(mpeg::Mpeg::open(file)?),
        _ => anyhow::bail!(
            "tags are not written into files of this kind; they are into mp3, aac, flac, ogg (Vorbis, Opus), m4a, mp4, \
             wav and aiff"
        ),
    })
}

/// A file as lofty, which writes none of this, reads it.
struct LoftyTags {
    /// The kind of tag that we write into files of this kind.
    ours: TagType,
    /// Per kind of tag its items and pictures; genre and mood apart.
    tags: BTreeMap<String, Vec<String>>,
    /// Genre and mood per kind of tag.
    fields: Vec<(TagType, Field)>,
}

fn read_with_lofty(file: &mut File) -> Result<LoftyTags> {
    file.seek(SeekFrom::Start(0))?;
    let probe = Probe::new(BufReader::new(&mut *file)).options(ParseOptions::new().read_properties(false));
    let probe = probe.guess_file_type().context("its tags cannot be read")?;
    let tagged = probe.read().context("its tags cannot be read; repair them with another program first")?;
    let mut lofty = LoftyTags { ours: tagged.primary_tag_type(), tags: BTreeMap::new(), fields: Vec::new() };
    for tag in tagged.tags() {
        let items = tag.items().filter(|item| !matches!(item.key(), ItemKey::Genre | ItemKey::Mood));
        let items = items.map(|item| format!("{item:?}"));
        let pictures = tag.pictures().iter().map(|picture| format!("{:?}", blake3::hash(picture.data())));
        let mut all: Vec<String> = items.chain(pictures).collect();
        all.sort();
        lofty.tags.insert(format!("{:?}", tag.tag_type()), all);
        for (key, field) in [(ItemKey::Genre, Field::Genre), (ItemKey::Mood, Field::Mood)] {
            if tag.get_strings(key).any(|value| !value.is_empty()) {
                lofty.fields.push((tag.tag_type(), field));
            }
        }
    }
    Ok(lofty)
}

impl LoftyTags {
    /// Fields that stand in another kind of tag than the one that we write.
    fn elsewhere(&self) -> Vec<Field> {
        self.fields.iter().filter(|(tag, _)| *tag != self.ours).map(|(_, field)| *field).collect()
    }
}

/// Compares a file with the changed copy of it: the audio is the same, our fields are as they should be, and those of
/// others as they were. Two readers that did not write the copy take part: the demuxers and lofty.
fn check(old: &mut File, old_path: &Path, new_path: &Path, changes: &[Change]) -> Result<()> {
    let way_out = "the file stays as it is; please report it";
    ensure!(
        packets(old_path)? == packets(new_path)?,
        "with the new tags its audio would be read differently; {way_out}"
    );
    let mut new = File::open(new_path).context("the copy cannot be read")?;
    let (tags, before) = (open(&mut new)?, open(old)?);
    for change in changes {
        let is = tags.get(change.field);
        ensure!(
            same_values(&is, &change.new),
            "{} would become {is:?} instead of {:?}; {way_out}",
            change.field.name(),
            change.new
        );
    }
    ensure!(tags.others() == before.others(), "fields of others would change; {way_out}");
    let (before, after) = (read_with_lofty(old)?, read_with_lofty(&mut new)?);
    for (kind, items) in &before.tags {
        let is = after.tags.get(kind).map_or(&[] as &[String], Vec::as_slice);
        ensure!(is == items, "fields of others would change ({kind}); {way_out}");
    }
    Ok(())
}

/// The audio of a file, hashed packet by packet.
fn packets(path: &Path) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    match copy_packets(path, &mut hasher) {
        Ok(_) => Ok(hasher.finalize()),
        Err(error) => {
            let cause = error.cause().map_or_else(|| error.to_string(), ToString::to_string);
            anyhow::bail!("its audio cannot be compared before and after, so that nothing is written: it {cause}")
        }
    }
}

/// A change as a person reads it.
impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |values: &[String]| {
            let joined = if values.is_empty() { "(none)".to_owned() } else { values.join("; ") };
            joined.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect::<String>()
        };
        write!(f, "{}: {} -> {}", self.field.name(), shown(&self.old), shown(&self.new))
    }
}
