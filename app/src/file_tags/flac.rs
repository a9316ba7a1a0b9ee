//! FLAC: one block of comments among the blocks in front of the audio.
//!
//! ```text
//! "fLaC" | STREAMINFO | .. | VORBIS_COMMENT | PICTURE .. | PADDING | audio
//! ```
//!
//! The block grows at the cost of the padding, so that the audio stays where it is, as long as there is some.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use anyhow::{Context, Result, ensure};

use super::Container;
use super::fields::Field;
use super::id3v2;
use super::splice::Splice;
use super::vorbis::Comments;

const HEADER_LEN: u64 = 4;
const MAX_CONTENT: usize = (1 << 24) - 1;
const LAST: u8 = 0x80;
const PADDING: u8 = 1;
const VORBIS_COMMENT: u8 = 4;

/// A block of metadata.
#[derive(Clone, Copy, Debug)]
struct Block {
    kind: u8,
    is_last: bool,
    /// Where its header starts.
    start: u64,
    content_len: usize,
}

/// The comments of a FLAC file, and where they are.
pub struct Flac {
    comments: Comments,
    /// The block of comments, its content included.
    place: Option<(Block, Vec<u8>)>,
    padding: Option<Block>,
    first: Block,
}

impl Flac {
    /// Reads the blocks in front of the audio.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn open(file: &mut File) -> Result<Self> {
        let mut head = [0; id3v2::HEADER_LEN];
        file.seek(SeekFrom::Start(0))?;
        file.read_exact(&mut head)?;
        // Some programs put an ID3v2 tag in front. It stays.
        let mut start = id3v2::tag_len(&head).unwrap_or(0) as u64;
        let mut marker = [0; 4];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut marker)?;
        ensure!(&marker == b"fLaC", "it has no FLAC marker; copy the file again");
        start += marker.len() as u64;
        let (mut first, mut padding, mut place) = (None, None, None);
        loop {
            let block = Block::read(file, start).context("its FLAC blocks are damaged; copy the file again")?;
            first.get_or_insert(block);
            match block.kind {
                PADDING => {
                    padding.get_or_insert(block);
                }
                VORBIS_COMMENT => {
                    ensure!(place.is_none(), "it has two blocks of comments; repair it with another program first");
                    let mut content = vec![0; block.content_len];
                    file.read_exact(&mut content).context("its comments are cut off; copy the file again")?;
                    place = Some((block, content));
                }
                _ => {}
            }
            if block.is_last {
                break;
            }
            start = block.end();
        }
        let first = first.context("it has no FLAC blocks; copy the file again")?;
        let comments = place.as_ref().map_or_else(|| Ok(Comments::new()), |(_, content)| Comments::parse(content))?;
        Ok(Self { comments, place, padding, first })
    }
}

impl Container for Flac {
    fn get(&self, field: Field) -> Vec<String> {
        self.comments.get(field)
    }

    fn set(&mut self, field: Field, values: &[String]) {
        self.comments.set(field, values);
    }

    fn others(&self) -> Vec<Vec<u8>> {
        self.comments.others()
    }

    fn splices(&self, _file: &mut File) -> Result<Vec<Splice>> {
        let content = self.comments.encode(0)?;
        ensure!(content.len() <= MAX_CONTENT, "its comments would be larger than 16 MB, the most that FLAC holds");
        let Some((block, old)) = &self.place else {
            // Behind STREAMINFO, which must be the first.
            let mut splices = Vec::new();
            if self.first.is_last {
                splices.push(Splice { start: self.first.start, old_len: 1, new: vec![self.first.kind] });
            }
            let block = Block { kind: VORBIS_COMMENT, content_len: content.len(), ..self.first };
            let new = [block.header().as_slice(), &content].concat();
            splices.push(Splice { start: self.first.end(), old_len: 0, new });
            return Ok(splices);
        };
        let mut splices = Vec::new();
        let header = Block { content_len: content.len(), ..*block }.header();
        splices.extend(Splice::between(block.start, &block.header(), &header));
        splices.extend(Splice::between(block.start + HEADER_LEN, old, &content));
        let growth = content.len() as i64 - old.len() as i64;
        if let Some(padding) = self.padding.filter(|_| growth != 0) {
            let room = padding.content_len as i64 - growth;
            if (0..=MAX_CONTENT as i64).contains(&room) {
                let header = Block { content_len: room as usize, ..padding }.header();
                splices.extend(Splice::between(padding.start, &padding.header(), &header));
                // Padding is zeros: less or more of them, at its end.
                let start = padding.start + HEADER_LEN + (padding.content_len as i64).min(room) as u64;
                let (old_len, new) =
                    if growth > 0 { (growth as u64, Vec::new()) } else { (0, vec![0; -growth as usize]) };
                splices.push(Splice { start, old_len, new });
            }
        }
        splices.sort_by_key(|splice| splice.start);
        Ok(splices)
    }
}

impl Block {
    /// Reads the header at `start`.
    fn read(file: &mut File, start: u64) -> Result<Self> {
        let mut head = [0; HEADER_LEN as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut head)?;
        let content_len = usize::from(head[1]) << 16 | usize::from(head[2]) << 8 | usize::from(head[3]);
        let (kind, is_last) = (head[0] & !LAST, head[0] & LAST != 0);
        ensure!(kind < 127, "a block of kind {kind}");
        Ok(Self { kind, is_last, start, content_len })
    }

    fn header(&self) -> [u8; HEADER_LEN as usize] {
        let [_, high, middle, low] = (self.content_len as u32).to_be_bytes();
        [self.kind | if self.is_last { LAST } else { 0 }, high, middle, low]
    }

    fn end(&self) -> u64 {
        self.start + HEADER_LEN + self.content_len as u64
    }
}
