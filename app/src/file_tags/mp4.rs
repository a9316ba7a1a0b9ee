//! MP4 (m4a, m4b, mp4, mov): atoms in `moov.udta.meta.ilst`. Atoms of others keep their bytes.
//!
//! ```text
//! ftyp | moov: .. trak: .. stco | udta: meta: hdlr, ilst, free | mdat
//!                                             "©gen": data, data ..
//!                                             "----": mean, name, data, data ..
//! ```
//!
//! The tag grows at the cost of the free atoms beside it. Where there is not enough of that, the atoms around it grow, and
//! if the audio lies behind them, the tables of its places (`stco`, `co64`) follow.
//!
//! Several values are several `data` in one atom; names of ours are freeform atoms of `com.apple.iTunes`, where other
//! programs look too.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};

use super::Container;
use super::fields::Field;
use super::splice::Splice;

/// The index of a film of some hours stays below.
const MAX_MOOV: u64 = 256 << 20;

/// Room that is left behind the tag when it grows.
const PADDING: usize = 1024;

const HEAD: usize = 8;
const FREEFORM_MEAN: &[u8] = b"com.apple.iTunes";
const GENRE: [u8; 4] = *b"\xa9gen";
/// Genres as a number, from before there were names.
const OLD_GENRE: [u8; 4] = *b"gnre";
/// Type of a `data` atom that is text.
const UTF8: u32 = 1;

/// Where an atom lies within some bytes.
#[derive(Clone, Debug)]
struct Place {
    name: [u8; 4],
    start: usize,
    /// Without its header.
    content: Range<usize>,
}

impl Place {
    fn end(&self) -> usize {
        self.content.end
    }
}

/// The index of an MP4 file, and the tag in it.
pub struct Mp4 {
    /// Where `moov` starts in the file, and its bytes.
    start: u64,
    moov: Vec<u8>,
    /// Atoms of the tag, as they will be.
    items: Vec<Vec<u8>>,
    /// There are fragments, whose tables are elsewhere.
    is_fragmented: bool,
    /// Something lies behind `moov` that may be found by its place.
    has_more: bool,
}

impl Mp4 {
    /// Reads the index.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn open(file: &mut File) -> Result<Self> {
        let damaged = "its MP4 atoms are damaged; copy the file again";
        let file_len = file.metadata()?.len();
        let (mut start, mut found, mut is_fragmented, mut has_more) = (0, None, false, false);
        while start + HEAD as u64 <= file_len {
            let mut head = [0; 2 * HEAD];
            file.seek(SeekFrom::Start(start))?;
            file.read_exact(&mut head[..HEAD])?;
            let len = match be_u32(&head[..4]) {
                0 => file_len - start,
                1 => {
                    file.read_exact(&mut head[HEAD..]).context(damaged)?;
                    be_u64(&head[HEAD..])
                }
                len => u64::from(len),
            };
            ensure!(len >= HEAD as u64 && len <= file_len - start, damaged);
            is_fragmented |= &head[4..HEAD] == b"moof";
            if &head[4..HEAD] == b"moov" {
                ensure!(found.is_none(), damaged);
                ensure!(
                    len <= MAX_MOOV,
                    "its index has {len} bytes, more than {MAX_MOOV}; tags of such files are not written"
                );
                found = Some((start, len));
            } else {
                has_more |= found.is_some();
            }
            start += len;
        }
        let (start, len) = found.context("it has no index (moov); copy the file again")?;
        let mut moov = vec![0; len as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut moov)?;
        let items = match Layout::of(&moov)?.ilst {
            None => Vec::new(),
            Some(ilst) => {
                let items = children(&moov, ilst.content.clone()).context(damaged)?;
                items.iter().filter(|item| !is_free(item)).map(|item| moov[item.start..item.end()].to_vec()).collect()
            }
        };
        Ok(Self { start, moov, items, is_fragmented, has_more })
    }
}

fn is_free(place: &Place) -> bool {
    matches!(&place.name, b"free" | b"skip")
}

/// Where the tag is in the index.
struct Layout {
    moov: Place,
    udta: Option<Place>,
    meta: Option<Place>,
    ilst: Option<Place>,
    /// The tag and the free atoms around it.
    room: Option<Range<usize>>,
}

impl Layout {
    fn of(bytes: &[u8]) -> Result<Self> {
        let damaged = "its MP4 atoms are damaged; copy the file again";
        let moov = children(bytes, 0..bytes.len()).and_then(|atoms| atoms.into_iter().next()).context(damaged)?;
        let mut layout = Self { udta: find(bytes, &moov.content, *b"udta")?, moov, meta: None, ilst: None, room: None };
        let Some(udta) = &layout.udta else { return Ok(layout) };
        layout.meta = find(bytes, &udta.content, *b"meta")?;
        let Some(meta) = &mut layout.meta else { return Ok(layout) };
        // With version and flags in front, or, in QuickTime's way, without.
        if bytes.get(meta.content.start + 4..meta.content.start + HEAD) != Some(b"hdlr") {
            meta.content.start = (meta.content.start + 4).min(meta.content.end);
        }
        let atoms = children(bytes, meta.content.clone()).context(damaged)?;
        // Version, flags and a reserved number stand before the kind.
        let kind =
            atoms.iter().find(|atom| &atom.name == b"hdlr").map(|hdlr| hdlr.content.start + 8..hdlr.content.start + 12);
        ensure!(
            kind.and_then(|kind| bytes.get(kind)).is_some_and(|kind| kind == b"mdir"),
            "its MP4 metadata are of an unusual kind; tags of such files are not written"
        );
        if let Some(at) = atoms.iter().position(|atom| &atom.name == b"ilst") {
            let first = atoms[..at].iter().rposition(|atom| !is_free(atom)).map_or(0, |before| before + 1);
            let last = atoms[at..].iter().skip(1).take_while(|atom| is_free(atom)).count() + at;
            layout.room = Some(atoms[first].start..atoms[last].end());
            layout.ilst = Some(atoms[at].clone());
        }
        Ok(layout)
    }
}

/// The atoms in a range; `None` if one does not fit. What is too short for an atom ends the list, as in `QuickTime`.
fn children(bytes: &[u8], range: Range<usize>) -> Option<Vec<Place>> {
    let mut places = Vec::new();
    let mut start = range.start;
    while start + HEAD <= range.end {
        let left = bytes.get(start..range.end)?;
        let (head, len) = match be_u32(&left[..4]) {
            0 => (HEAD, left.len()),
            1 => (2 * HEAD, usize::try_from(be_u64(left.get(HEAD..2 * HEAD)?)).ok()?),
            len => (HEAD, len as usize),
        };
        if len < head || len > left.len() {
            return None;
        }
        let name = left[4..HEAD].try_into().ok()?;
        places.push(Place { name, start, content: start + head..start + len });
        start += len;
    }
    Some(places)
}

fn find(bytes: &[u8], range: &Range<usize>, name: [u8; 4]) -> Result<Option<Place>> {
    let atoms = children(bytes, range.clone()).context("its MP4 atoms are damaged; copy the file again")?;
    Ok(atoms.into_iter().find(|atom| atom.name == name))
}

fn be_u32(bytes: &[u8]) -> u32 {
    bytes[..4].iter().fold(0, |number, &byte| number << 8 | u32::from(byte))
}

fn be_u64(bytes: &[u8]) -> u64 {
    bytes[..8].iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn atom(name: [u8; 4], content: &[u8]) -> Vec<u8> {
    [((content.len() + HEAD) as u32).to_be_bytes().as_slice(), &name, content].concat()
}

/// Free space; at least the eight bytes of its header.
fn free(len: usize) -> Vec<u8> {
    atom(*b"free", &vec![0; len - HEAD])
}

/// Which of our fields an atom of the tag is.
fn field_of(item: &[u8]) -> Option<Field> {
    match item.get(4..HEAD)?.try_into().ok()? {
        GENRE | OLD_GENRE => Some(Field::Genre),
        [b'-', b'-', b'-', b'-'] => {
            let name = children(item, HEAD..item.len())?.into_iter().find(|atom| &atom.name == b"name")?;
            let name = std::str::from_utf8(item.get(name.content.start + 4..name.content.end)?).ok()?;
            Field::named(name).filter(|field| *field != Field::Genre)
        }
        _ => None,
    }
}

/// Values of an atom of the tag; what is not text counts as one.
fn values(item: &[u8]) -> Vec<String> {
    let atoms = children(item, HEAD..item.len()).unwrap_or_default();
    let data = atoms.iter().filter(|atom| &atom.name == b"data").filter_map(|atom| item.get(atom.content.clone()));
    let value = |data: &[u8]| {
        let text = data.get(HEAD..).filter(|_| be_u32(data) == UTF8).map(<[u8]>::to_vec);
        text.and_then(|text| String::from_utf8(text).ok()).unwrap_or_else(|| "(not text)".to_owned())
    };
    data.filter(|data| data.len() >= HEAD).map(value).filter(|value| !value.is_empty()).collect()
}

fn item(field: Field, values: &[String]) -> Vec<u8> {
    // Type, language, text.
    let data = |value: &String| atom(*b"data", &[&UTF8.to_be_bytes(), [0; 4].as_slice(), value.as_bytes()].concat());
    let data: Vec<u8> = values.iter().flat_map(data).collect();
    if field == Field::Genre {
        return atom(GENRE, &data);
    }
    // Version and flags stand before the text.
    let mean = atom(*b"mean", &[[0; 4].as_slice(), FREEFORM_MEAN].concat());
    let name = atom(*b"name", &[[0; 4].as_slice(), field.name().as_bytes()].concat());
    atom(*b"----", &[mean, name, data].concat())
}

impl Container for Mp4 {
    fn get(&self, field: Field) -> Vec<String> {
        self.items.iter().filter(|item| field_of(item) == Some(field)).flat_map(|item| values(item)).collect()
    }

    fn set(&mut self, field: Field, values: &[String]) {
        self.items.retain(|item| field_of(item) != Some(field));
        if !values.is_empty() {
            self.items.push(item(field, values));
        }
    }

    fn others(&self) -> Vec<Vec<u8>> {
        self.items.iter().filter(|item| field_of(item).is_none()).cloned().collect()
    }

    fn splices(&self, _file: &mut File) -> Result<Vec<Splice>> {
        let layout = Layout::of(&self.moov)?;
        let ilst = atom(*b"ilst", &self.items.concat());
        // Where bytes change within `moov`, what goes there and what comes.
        let (at, old_len, new) = match (&layout.room, &layout.meta, &layout.udta) {
            (Some(room), ..) => {
                let rest = room.len() as i64 - ilst.len() as i64;
                let padding = match rest {
                    0 => Vec::new(),
                    rest if rest >= HEAD as i64 => free(rest as usize),
                    _ => free(PADDING),
                };
                (room.start, room.len(), [ilst, padding].concat())
            }
            (None, Some(meta), _) => (meta.end(), 0, [ilst, free(PADDING)].concat()),
            (None, None, udta) => {
                // Version and flags, reserved, kind, maker, reserved, no name.
                let hdlr = atom(*b"hdlr", b"\0\0\0\0\0\0\0\0mdirappl\0\0\0\0\0\0\0\0\0");
                let meta = atom(*b"meta", &[[0; 4].as_slice(), &hdlr, &ilst, &free(PADDING)].concat());
                match udta {
                    // In front: a zero may end the list.
                    Some(udta) => (udta.content.start, 0, meta),
                    None => (layout.moov.end(), 0, atom(*b"udta", &meta)),
                }
            }
        };
        let shift = new.len() as i64 - old_len as i64;
        let mut splices = Vec::new();
        splices.extend(Splice::between(self.start + at as u64, &self.moov[at..at + old_len], &new));
        if shift != 0 {
            for around in [Some(&layout.moov), layout.udta.as_ref(), layout.meta.as_ref()].into_iter().flatten() {
                splices.extend(self.resized(around, shift)?);
            }
            if self.has_more {
                ensure!(
                    !self.is_fragmented,
                    "it is a fragmented MP4 without room for tags; convert it to a plain one first (ffmpeg -c copy)"
                );
                self.moved(&layout.moov.content, self.start + at as u64, shift, &mut splices)?;
            }
        }
        splices.sort_by_key(|splice| splice.start);
        Ok(splices)
    }
}

impl Mp4 {
    /// The size of an atom that grows by `shift`.
    fn resized(&self, place: &Place, shift: i64) -> Result<Option<Splice>> {
        let size = &self.moov[place.start..place.start + 4];
        let start = self.start + place.start as u64;
        let too_large = "its index would become too large for its format";
        Ok(match be_u32(size) {
            // To the end of the file.
            0 => None,
            1 => {
                let long = &self.moov[place.start + HEAD..place.start + 2 * HEAD];
                let new = be_u64(long).checked_add_signed(shift).context(too_large)?;
                Splice::between(start + HEAD as u64, long, &new.to_be_bytes())
            }
            old => {
                let new = i64::from(old) + shift;
                Splice::between(start, size, &u32::try_from(new).context(too_large)?.to_be_bytes())
            }
        })
    }

    /// Moves the places of audio behind `from` in all tables within `range`.
    fn moved(&self, range: &Range<usize>, from: u64, shift: i64, splices: &mut Vec<Splice>) -> Result<()> {
        let atoms = children(&self.moov, range.clone()).context("its MP4 atoms are damaged; copy the file again")?;
        for place in atoms {
            let width = match &place.name {
                b"trak" | b"mdia" | b"minf" | b"stbl" => {
                    self.moved(&place.content, from, shift, splices)?;
                    continue;
                }
                b"stco" => 4,
                b"co64" => 8,
                _ => continue,
            };
            // Version and flags, number of entries, entries.
            let Some(old) = self.moov.get(place.content.start + HEAD..place.content.end) else {
                bail!("a table of its audio is damaged; copy the file again");
            };
            let mut new = old.to_vec();
            for entry in new.chunks_exact_mut(width) {
                let at = if width == 4 { u64::from(be_u32(entry)) } else { be_u64(entry) };
                if at >= from {
                    let at = at.checked_add_signed(shift).context("its audio would lie in front of the file")?;
                    if width == 4 {
                        let at =
                            u32::try_from(at).context("it would be larger than 4 GB, the most its table can say")?;
                        entry.copy_from_slice(&at.to_be_bytes());
                    } else {
                        entry.copy_from_slice(&at.to_be_bytes());
                    }
                }
            }
            splices.extend(Splice::between(self.start + (place.content.start + HEAD) as u64, old, &new));
        }
        Ok(())
    }
}
