//! Ogg with one stream of Vorbis or Opus: the comments are the second packet, the audio begins on a page of its own.
//!
//! ```text
//! page 0: head | page 1 ..: comments, [Vorbis: set-up] | audio pages, numbered on
//! ```
//!
//! Where the packets need another number of pages than before, every page that follows in the stream gets a new number,
//! and with it a new checksum. Nothing else of it changes, and streams that are chained behind stay as they are.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use anyhow::{Context, Result, bail, ensure};

use super::Container;
use super::fields::Field;
use super::splice::Splice;
use super::vorbis::Comments;

const HEADER_LEN: usize = 27;
const MAX_SEGMENTS: usize = 255;
const CONTINUED: u8 = 1;
const FIRST: u8 = 2;
const LAST: u8 = 4;
/// Where number and checksum of a page are: next to each other.
const NUMBER_AT: usize = 18;
const CHECKSUM_AT: usize = 22;
/// Of a page on which no packet ends.
const NO_POSITION: u64 = u64::MAX;

/// A page as it is.
struct Page {
    bytes: Vec<u8>,
}

/// The header packets of an Ogg file.
pub struct Ogg {
    /// In front of the comments in their packet.
    signature: &'static [u8],
    comments: Comments,
    /// Packets behind the comments that are header too.
    more: Vec<Vec<u8>>,
    serial: u32,
    /// Pages between the first and the audio.
    pages: Vec<Page>,
    /// Where these pages start.
    start: u64,
}

impl Ogg {
    /// Reads the header packets.
    ///
    /// # Errors
    /// If the file is damaged, or laid out in a way that is not rewritten.
    pub fn open(file: &mut File) -> Result<Self> {
        file.seek(SeekFrom::Start(0))?;
        let mut input = BufReader::new(file);
        let damaged = "its Ogg pages are damaged; copy the file again";
        let first = Page::read(&mut input)?.context(damaged)?;
        ensure!(first.flags() & FIRST != 0, damaged);
        let (signature, num_more): (&'static [u8], _) = match first.content() {
            head if head.starts_with(b"\x01vorbis") => (b"\x03vorbis", 1),
            head if head.starts_with(b"OpusHead") => (b"OpusTags", 0),
            _ => bail!("its Ogg holds neither Vorbis nor Opus first; tags of such files are not written"),
        };
        let mut pages: Vec<Page> = Vec::new();
        let mut packets: Vec<Vec<u8>> = Vec::new();
        let mut unfinished = Vec::new();
        while packets.len() < 1 + num_more {
            let page = Page::read(&mut input)?.context(damaged)?;
            ensure!(
                page.serial() == first.serial(),
                "its Ogg holds several streams side by side; tags of such files are not written"
            );
            ensure!((page.flags() & CONTINUED != 0) != unfinished.is_empty(), damaged);
            for (part, ends) in page.parts() {
                unfinished.extend(part);
                if ends {
                    packets.push(std::mem::take(&mut unfinished));
                }
            }
            pages.push(page);
        }
        ensure!(
            packets.len() == 1 + num_more && unfinished.is_empty(),
            "its audio begins on the page of its comments; tags of such files are not written"
        );
        let more = packets.split_off(1);
        let packet = packets.pop().unwrap_or_default();
        let comments =
            packet.strip_prefix(signature).context("it has no comments where they should be; copy the file again")?;
        let comments = Comments::parse(comments)?;
        Ok(Self { signature, comments, more, serial: first.serial(), pages, start: first.bytes.len() as u64 })
    }

    /// Pages with the header packets, of which there are as many as before if that can be.
    fn new_pages(&self) -> Result<Vec<Page>> {
        let old_len: usize = self.pages.iter().flat_map(Page::parts).map(|(part, _)| part.len()).sum();
        let more_len: usize = self.more.iter().map(Vec::len).sum();
        // Padding keeps the packet's length.
        let comments = self.comments.encode(old_len - more_len - self.signature.len())?;
        let mut packets = vec![[self.signature, &comments].concat()];
        packets.extend(self.more.iter().cloned());
        let dense = paged(&[&packets], self.serial);
        if dense.len() != self.pages.len() && packets.len() > 1 {
            let apart = paged(&[&packets[..1], &packets[1..]], self.serial);
            if apart.len() == self.pages.len() {
                return Ok(apart);
            }
        }
        Ok(dense)
    }
}

impl Container for Ogg {
    fn get(&self, field: Field) -> Vec<String> {
        self.comments.get(field)
    }

    fn set(&mut self, field: Field, values: &[String]) {
        self.comments.set(field, values);
    }

    fn others(&self) -> Vec<Vec<u8>> {
        self.comments.others()
    }

    fn splices(&self, file: &mut File) -> Result<Vec<Splice>> {
        let new_pages = self.new_pages()?;
        let bytes = |pages: &[Page]| pages.iter().flat_map(|page| page.bytes.iter().copied()).collect::<Vec<u8>>();
        let mut splices = Vec::new();
        if new_pages.len() == self.pages.len() {
            // Page by page: a large picture in the comments need not be kept twice.
            let mut start = self.start;
            for (old, new) in self.pages.iter().zip(&new_pages) {
                splices.extend(Splice::between(start, &old.bytes, &new.bytes));
                start += old.bytes.len() as u64;
            }
            return Ok(splices);
        }
        let old = bytes(&self.pages);
        splices.extend(Splice::between(self.start, &old, &bytes(&new_pages)));
        let mut start = self.start + old.len() as u64;
        let shift = (new_pages.len() as u32).wrapping_sub(self.pages.len() as u32);
        file.seek(SeekFrom::Start(start))?;
        let mut input = BufReader::new(file);
        while let Some(mut page) = Page::read(&mut input)? {
            if page.flags() & FIRST != 0 {
                // The next of a chain of streams.
                break;
            }
            ensure!(
                page.serial() == self.serial,
                "its Ogg holds several streams side by side; tags of such files are not written"
            );
            let old = page.bytes.clone();
            page.renumber(page.number().wrapping_add(shift));
            splices.extend(Splice::between(start, &old, &page.bytes));
            start += old.len() as u64;
            if page.flags() & LAST != 0 {
                break;
            }
        }
        Ok(splices)
    }
}

impl Page {
    /// The next page; `None` at the end.
    fn read(input: &mut impl Read) -> Result<Option<Self>> {
        let mut bytes = Vec::new();
        input.by_ref().take(HEADER_LEN as u64).read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let damaged = "its Ogg pages are damaged; copy the file again";
        ensure!(bytes.len() == HEADER_LEN && bytes.starts_with(b"OggS\0"), damaged);
        let num_segments = usize::from(bytes[HEADER_LEN - 1]);
        bytes.resize(HEADER_LEN + num_segments, 0);
        input.read_exact(&mut bytes[HEADER_LEN..]).context(damaged)?;
        let content: usize = bytes[HEADER_LEN..].iter().copied().map(usize::from).sum();
        let head = bytes.len();
        bytes.resize(head + content, 0);
        input.read_exact(&mut bytes[head..]).context(damaged)?;
        let page = Self { bytes };
        // A new checksum would hide that something is wrong.
        ensure!(page.u32_at(CHECKSUM_AT) == page.checksum(), damaged);
        Ok(Some(page))
    }

    fn new(segments: &[u8], content: &[u8], flags: u8, position: u64, serial: u32, number: u32) -> Self {
        let mut bytes = b"OggS\0".to_vec();
        bytes.push(flags);
        bytes.extend(position.to_le_bytes());
        bytes.extend(serial.to_le_bytes());
        bytes.extend([0; 8]);
        bytes.push(segments.len() as u8);
        bytes.extend(segments);
        bytes.extend(content);
        let mut page = Self { bytes };
        page.renumber(number);
        page
    }

    fn flags(&self) -> u8 {
        self.bytes[5]
    }

    fn serial(&self) -> u32 {
        self.u32_at(14)
    }

    fn number(&self) -> u32 {
        self.u32_at(NUMBER_AT)
    }

    fn u32_at(&self, at: usize) -> u32 {
        self.bytes[at..at + 4].iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte))
    }

    fn segments(&self) -> &[u8] {
        &self.bytes[HEADER_LEN..HEADER_LEN + usize::from(self.bytes[HEADER_LEN - 1])]
    }

    fn content(&self) -> &[u8] {
        &self.bytes[HEADER_LEN + self.segments().len()..]
    }

    /// Parts of packets on this page, and whether the packet ends with it.
    fn parts(&self) -> impl Iterator<Item = (&[u8], bool)> {
        let mut content = self.content();
        let mut segments = self.segments();
        std::iter::from_fn(move || {
            if segments.is_empty() {
                return None;
            }
            let end = segments.iter().position(|&len| len < u8::MAX);
            let count = end.map_or(segments.len(), |end| end + 1);
            let len = segments[..count].iter().copied().map(usize::from).sum();
            let (part, rest) = content.split_at(len);
            (content, segments) = (rest, &segments[count..]);
            Some((part, end.is_some()))
        })
    }

    fn renumber(&mut self, number: u32) {
        self.bytes[NUMBER_AT..NUMBER_AT + 4].copy_from_slice(&number.to_le_bytes());
        let checksum = self.checksum();
        self.bytes[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Of the page with zeros in the place of its checksum.
    fn checksum(&self) -> u32 {
        let (head, rest) = self.bytes.split_at(CHECKSUM_AT);
        crc(crc(crc(0, head), &[0; 4]), &rest[4..])
    }
}

/// Packets on pages from number 1 on; each group begins a page of its own.
fn paged(groups: &[&[Vec<u8>]], serial: u32) -> Vec<Page> {
    let mut pages = Vec::new();
    for group in groups {
        // Lengths of segments, and whether a packet ends with it.
        let segments: Vec<u8> = group
            .iter()
            .flat_map(|packet| std::iter::repeat_n(u8::MAX, packet.len() / 255).chain([(packet.len() % 255) as u8]))
            .collect();
        let mut content = group.concat();
        let mut continues = false;
        for segments in segments.chunks(MAX_SEGMENTS) {
            let len = segments.iter().copied().map(usize::from).sum();
            let rest = content.split_off(len);
            let position = if segments.iter().any(|&len| len < u8::MAX) { 0 } else { NO_POSITION };
            let flags = if continues { CONTINUED } else { 0 };
            pages.push(Page::new(segments, &content, flags, position, serial, pages.len() as u32 + 1));
            continues = segments.last() == Some(&u8::MAX);
            content = rest;
        }
    }
    pages
}

/// Ogg's CRC, continued: polynomial 0x04c11db7, not reflected, from zero (RFC 3533, section 6).
fn crc(start: u32, bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut crc = (index as u32) << 24;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 0x8000_0000 != 0 { crc << 1 ^ 0x04c1_1db7 } else { crc << 1 };
                bit += 1;
            }
            table[index] = crc;
            index += 1;
        }
        table
    };
    bytes.iter().fold(start, |crc, &byte| crc << 8 ^ TABLE[(crc >> 24) as usize ^ usize::from(byte)])
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn pages(bytes: &[u8]) -> Vec<Page> {
        let mut input = bytes;
        std::iter::from_fn(|| Page::read(&mut input).expect("sound")).collect()
    }

    fn fixture(name: &str) -> Vec<u8> {
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/audio").join(name))
            .expect("a fixture")
    }

    fn edited(bytes: &[u8], value: &str) -> Vec<u8> {
        let mut file = tempfile::tempfile().expect("a file");
        std::io::Write::write_all(&mut file, bytes).expect("written");
        let mut ogg = Ogg::open(&mut file).expect("sound");
        ogg.set(Field::Mood, &[value.to_owned()]);
        let splices = ogg.splices(&mut file).expect("written");
        let mut out = Vec::new();
        super::super::splice::apply(&mut file, &splices, &mut out).expect("applied");
        out
    }

    #[test]
    fn our_checksums_are_those_of_the_encoder() {
        for name in ["vorbis.ogg", "opus.opus"] {
            // Read, so sound; and rebuilt from its parts.
            for mut page in pages(&fixture(name)) {
                let before = page.bytes.clone();
                page.renumber(page.number());
                assert!(page.bytes == before, "{name}, page {}", page.number());
            }
            let mut damaged = fixture(name);
            let last = damaged.len() - 1;
            damaged[last] ^= 1;
            let mut input = damaged.as_slice();
            let ends_badly = std::iter::from_fn(|| Page::read(&mut input).transpose()).any(|page| page.is_err());
            assert!(ends_badly, "{name}: one wrong bit is noticed");
        }
    }

    #[test]
    fn pages_are_numbered_on_and_audio_stays() {
        for name in ["vorbis.ogg", "opus.opus"] {
            let old = fixture(name);
            // Within a page, over several, and exactly at a segment's end.
            for len in [4, 70_000, 200_000] {
                let new = edited(&old, &"x".repeat(len));
                let (old, new) = (pages(&old), pages(&new));
                assert_eq!(new.iter().map(Page::number).collect::<Vec<_>>(), (0..new.len() as u32).collect::<Vec<_>>());
                let audio = |pages: &[Page]| {
                    let with_audio = pages.iter().filter(|page| !matches!(page.u32_at(6), 0 | u32::MAX));
                    with_audio.flat_map(|page| page.content().to_vec()).collect::<Vec<u8>>()
                };
                assert!(audio(&old) == audio(&new) && !audio(&old).is_empty(), "{name} {len}");
            }
        }
    }

    #[test]
    fn a_stream_chained_behind_is_left_alone() {
        let (first, second) = (fixture("vorbis.ogg"), fixture("opus.opus"));
        let chained = [first, second.clone()].concat();
        let new = edited(&chained, &"x".repeat(100_000));
        assert!(new.ends_with(&second));
    }

    #[test]
    fn packets_that_fill_their_segments_end_with_an_empty_one() {
        for len in [254, 255, 510, 255 * 255, 255 * 255 + 1] {
            let packets = [vec![7; len], vec![9; 3]];
            let pages = paged(&[&packets], 5);
            let mut parts: Vec<Vec<u8>> = vec![Vec::new()];
            for (part, ends) in pages.iter().flat_map(Page::parts) {
                parts.last_mut().expect("one").extend(part);
                if ends {
                    parts.push(Vec::new());
                }
            }
            assert_eq!(parts[..2], packets, "{len}");
        }
    }
}
