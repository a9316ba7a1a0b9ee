//! WAV and AIFF: an ID3v2 tag in a chunk of its own. RIFF's own INFO list has no place for several values, a mood or a
//! name of ours, so a genre there is respected and nothing is written to it.
//!
//! ```text
//! "RIFF" size "WAVE" | "fmt " .. | "data" .. | "id3 " size, ID3v2 tag
//! "FORM" size "AIFF" | "COMM" .. | "SSND" .. | "ID3 " size, ID3v2 tag
//! ```

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use anyhow::{Context, Result, ensure};

use super::Container;
use super::fields::Field;
use super::id3v2::{self, Id3v2, Room};
use super::splice::Splice;

const HEADER_LEN: u64 = 8;

/// The ID3v2 tag of a WAV or AIFF file.
pub struct Iff {
    tag: Id3v2,
    is_wav: bool,
    /// Where its chunk lies, from header to padding, and its bytes.
    place: Option<(u64, Vec<u8>)>,
    /// Where the last chunk ends.
    end: u64,
}

impl Iff {
    /// Walks through the chunks.
    ///
    /// # Errors
    /// If the file is cut off or damaged, or larger than its sizes can say.
    pub fn open(file: &mut File) -> Result<Self> {
        let mut head = [0; 12];
        file.seek(SeekFrom::Start(0))?;
        file.read_exact(&mut head)?;
        let is_wav = &head[..4] == b"RIFF" && &head[8..] == b"WAVE";
        ensure!(
            is_wav || (&head[..4] == b"FORM" && matches!(&head[8..], b"AIFF" | b"AIFC")),
            "it is a WAV of more than 4 GB or of an unusual kind; tags of such files are not written"
        );
        let size =
            |bytes: [u8; 4]| u64::from(if is_wav { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) });
        let end = HEADER_LEN + size([head[4], head[5], head[6], head[7]]);
        let file_len = file.metadata()?.len();
        ensure!(end <= file_len, "it is cut off ({file_len} bytes of {end}); copy the file again");
        ensure!(end >= head.len() as u64, "its size is damaged; copy the file again");
        let (mut start, mut place, mut tag) = (head.len() as u64, None, Id3v2::new());
        while start + HEADER_LEN <= end {
            file.seek(SeekFrom::Start(start))?;
            let mut head = [0; HEADER_LEN as usize];
            file.read_exact(&mut head)?;
            let content_len = size([head[4], head[5], head[6], head[7]]);
            // Chunks begin at even places. The last one may lack the byte for it.
            let next =
                (start + HEADER_LEN + content_len).next_multiple_of(2).min(end.next_multiple_of(2).min(file_len));
            ensure!(start + HEADER_LEN + content_len <= end, "one of its chunks is cut off; copy the file again");
            if matches!(&head[..4], b"ID3 " | b"id3 ") {
                ensure!(place.is_none(), "it has two ID3 chunks; repair it with another program first");
                let mut bytes = vec![0; (next - start) as usize];
                file.seek(SeekFrom::Start(start))?;
                file.read_exact(&mut bytes)?;
                let content = &bytes[HEADER_LEN as usize..][..content_len as usize];
                let len = id3v2::tag_len(content)
                    .context("its ID3 chunk is damaged; repair it with another program first")?;
                tag = Id3v2::parse(content.get(..len).unwrap_or(content))?;
                place = Some((start, bytes));
            }
            start = next;
        }
        ensure!(start >= end, "its chunks do not add up to its size; repair it with another program first");
        Ok(Self { tag, is_wav, place, end })
    }

    fn size(&self, len: u64) -> Result<[u8; 4]> {
        let len = u32::try_from(len).context("it would be larger than 4 GB, the most that its format holds")?;
        Ok(if self.is_wav { len.to_le_bytes() } else { len.to_be_bytes() })
    }

    fn chunk(&self, id: [u8; 4], room: Room) -> Result<Vec<u8>> {
        let tag = self.tag.encode(room)?;
        if tag.is_empty() {
            return Ok(tag);
        }
        let mut chunk = [id.as_slice(), &self.size(tag.len() as u64)?, &tag].concat();
        chunk.resize(chunk.len().next_multiple_of(2), 0);
        Ok(chunk)
    }
}

impl Container for Iff {
    fn get(&self, field: Field) -> Vec<String> {
        self.tag.get(field)
    }

    fn set(&mut self, field: Field, values: &[String]) {
        self.tag.set(field, values);
    }

    fn others(&self) -> Vec<Vec<u8>> {
        self.tag.others()
    }

    fn splices(&self, _file: &mut File) -> Result<Vec<Splice>> {
        // As most programs write it.
        let name = if self.is_wav { b"id3 " } else { b"ID3 " };
        let (start, old, new) = match &self.place {
            Some((start, old)) => {
                let name = [old[0], old[1], old[2], old[3]];
                (*start, old.clone(), self.chunk(name, Room::Fill(old.len() - HEADER_LEN as usize))?)
            }
            None => {
                let mut chunk = self.chunk(*name, Room::Exact)?;
                if !self.end.is_multiple_of(2) {
                    chunk.insert(0, 0);
                }
                (self.end, Vec::new(), chunk)
            }
        };
        let size_before = self.end - HEADER_LEN;
        let size_after = size_before + new.len() as u64 - old.len() as u64;
        let mut splices = Vec::new();
        splices.extend(Splice::between(4, &self.size(size_before)?, &self.size(size_after)?));
        splices.extend(Splice::between(start, &old, &new));
        Ok(splices)
    }
}
