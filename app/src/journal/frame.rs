//! A record as bytes, so that a torn or damaged one is known for what it is.
//!
//! ```text
//! json_len u32 | tail_len u64 | tail_sum [8] | head_sum [8] | json | tail          integers little-endian
//!                                              `- BLAKE3 of everything before it and of the JSON, first 8 bytes
//!                                 `- BLAKE3 of the tail, first 8 bytes
//! ```
//!
//! Two sums, so that a journal of many gigabytes is opened by reading its heads: a tail is checked when it is used.

use std::io::{self, Read, Seek};

use super::entry::Entry;

/// Bytes before the JSON.
const HEAD_BYTES: usize = 4 + 8 + SUM_BYTES + SUM_BYTES;
const SUM_BYTES: usize = 8;

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub at: u64,
    /// Number of bytes.
    pub len: u64,
}

impl Span {
    /// First byte behind it.
    pub fn end(self) -> u64 {
        self.at + self.len
    }
}

/// A record, complete.
///
/// # Errors
/// If the entry does not become JSON, which no entry of ours does.
pub fn encode(entry: &Entry, tail: &[u8]) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(entry)?;
    let json_len = u32::try_from(json.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(HEAD_BYTES + json.len() + tail.len());
    frame.extend(json_len.to_le_bytes());
    frame.extend((tail.len() as u64).to_le_bytes());
    frame.extend(sum(&[tail]));
    let head = sum(&[&frame, &json]);
    frame.extend(head);
    frame.extend(json);
    frame.extend(tail);
    Ok(frame)
}

/// The record that `bytes` are, all of them; `None` if they are damaged or something else.
pub fn decode(bytes: &[u8]) -> Option<(Entry, &[u8])> {
    let (lens, rest) = bytes.split_at_checked(4 + 8)?;
    let (tail_sum, rest) = rest.split_at_checked(SUM_BYTES)?;
    let (head_sum, rest) = rest.split_at_checked(SUM_BYTES)?;
    let (json_len, tail_len) = lengths(lens)?;
    let (json, tail) = rest.split_at_checked(json_len)?;
    let intact = tail.len() as u64 == tail_len && sum(&[lens, tail_sum, json]) == head_sum && sum(&[tail]) == tail_sum;
    if intact { Some((serde_json::from_slice(json).ok()?, tail)) } else { None }
}

/// The next record without its tail, which is passed over; `None` at the end of what is intact. `left` is how many bytes
/// there are: nothing is allocated that they do not back.
///
/// # Errors
/// If the file cannot be read.
pub fn next(file: &mut io::BufReader<impl Read + Seek>, at: u64, left: u64) -> io::Result<Option<(Entry, Span)>> {
    if left < HEAD_BYTES as u64 {
        return Ok(None);
    }
    let mut head = [0; HEAD_BYTES];
    file.read_exact(&mut head)?;
    let (covered, head_sum) = head.split_at(HEAD_BYTES - SUM_BYTES);
    let Some((json_len, tail_len)) = lengths(covered) else { return Ok(None) };
    let len = (HEAD_BYTES as u64 + json_len as u64).checked_add(tail_len);
    let Some(len) = len.filter(|&len| len <= left) else { return Ok(None) };
    let mut json = vec![0; json_len];
    file.read_exact(&mut json)?;
    if sum(&[covered, &json]) != head_sum {
        return Ok(None);
    }
    let Ok(entry) = serde_json::from_slice(&json) else { return Ok(None) };
    // No file is longer than an i64 can say.
    file.seek_relative(tail_len as i64)?;
    Ok(Some((entry, Span { at, len })))
}

fn lengths(bytes: &[u8]) -> Option<(usize, u64)> {
    let json_len = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    let tail_len = u64::from_le_bytes(bytes.get(4..12)?.try_into().ok()?);
    Some((json_len as usize, tail_len))
}

fn sum(parts: &[&[u8]]) -> [u8; SUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut sum = [0; SUM_BYTES];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..SUM_BYTES]);
    sum
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::journal::entry::FileId;

    fn left() -> Entry {
        Entry::Left { id: FileId::of("a.wav".as_ref()) }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let frame = encode(&left(), b"tail").expect("encoded");
        assert_eq!(decode(&frame), Some((left(), &b"tail"[..])));
        let len = frame.len() as u64;
        let read = next(&mut io::BufReader::new(Cursor::new(&frame)), 7, len).expect("readable");
        assert_eq!(read, Some((left(), Span { at: 7, len })));
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        let frame = encode(&left(), b"tail").expect("encoded");
        for index in 0..frame.len() {
            let mut damaged = frame.clone();
            damaged[index] ^= 0x10;
            assert_eq!(decode(&damaged), None, "byte {index}");
            assert_eq!(decode(&frame[..index]), None, "cut at {index}");
            let cut = next(&mut io::BufReader::new(Cursor::new(&frame[..index])), 0, index as u64);
            assert_eq!(cut.expect("readable"), None, "cut at {index}");
        }
    }

    #[test]
    fn lengths_that_nothing_backs_are_refused() {
        let mut frame = encode(&left(), &[]).expect("encoded");
        frame[4..12].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(decode(&frame), None);
        let len = frame.len() as u64;
        assert_eq!(next(&mut io::BufReader::new(Cursor::new(&frame)), 0, len).expect("readable"), None);
    }
}
