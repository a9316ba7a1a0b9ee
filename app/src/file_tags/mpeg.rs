//! MP3 and its kin, and AAC in ADTS: an ID3v2 tag in front of the audio. Tags behind it (ID3v1, APE) are respected and
//! stay as they are.
//!
//! ```text
//! [ID3v2 tag] | audio frames | [APE tag] | [ID3v1 tag, 128 bytes]
//! ```

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use anyhow::{Context, Result};

use super::Container;
use super::fields::Field;
use super::id3v2::{self, Id3v2, Room};
use super::splice::Splice;

const V1_LEN: usize = 128;

/// The ID3v2 tag in front of a file.
pub struct Mpeg {
    tag: Id3v2,
    /// Its bytes; none if there is no tag.
    old: Vec<u8>,
    /// How many frames were taken over from ID3v1 into a new tag.
    num_from_v1: usize,
}

impl Mpeg {
    /// Reads the tag, or prepares a new one with what an ID3v1 tag says.
    ///
    /// # Errors
    /// If the tag is damaged or of a version that is not rewritten.
    pub fn open(file: &mut File) -> Result<Self> {
        let mut head = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.by_ref().take(id3v2::HEADER_LEN as u64).read_to_end(&mut head)?;
        if let Some(len) = id3v2::tag_len(&head) {
            file.seek(SeekFrom::Start(0))?;
            let mut old = Vec::new();
            file.by_ref().take(len as u64).read_to_end(&mut old)?;
            let tag = Id3v2::parse(&old)?;
            return Ok(Self { tag, old, num_from_v1: 0 });
        }
        let tag = match v1(file)? {
            Some(v1) => id3v2::from_v1(&v1)?,
            None => Id3v2::new(),
        };
        let num_from_v1 = tag.others().len() + usize::from(!tag.get(Field::Genre).is_empty());
        Ok(Self { tag, old: Vec::new(), num_from_v1 })
    }
}

fn v1(file: &mut File) -> Result<Option<[u8; V1_LEN]>> {
    if file.metadata()?.len() < V1_LEN as u64 {
        return Ok(None);
    }
    let mut v1 = [0; V1_LEN];
    file.seek(SeekFrom::End(-(V1_LEN as i64)))?;
    file.read_exact(&mut v1).context("the file became shorter")?;
    Ok(v1.starts_with(b"TAG").then_some(v1))
}

impl Container for Mpeg {
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
        let new = self.tag.encode(Room::Fill(self.old.len()))?;
        // A tag with nothing but what ID3v1 says is no reason for one.
        let is_needless = self.old.is_empty()
            && self.num_from_v1 > 0
            && Field::ALL.iter().all(|&field| field == Field::Genre || self.tag.get(field).is_empty());
        if is_needless {
            return Ok(Vec::new());
        }
        // The header by itself: behind it only what is ours differs, if the tag keeps its length.
        let split = id3v2::HEADER_LEN.min(self.old.len()).min(new.len());
        let head = Splice::between(0, &self.old[..split], &new[..split]);
        Ok(head.into_iter().chain(Splice::between(split as u64, &self.old[split..], &new[split..])).collect())
    }
}
