//! A change of a file as byte ranges that are replaced. What is not named stays as it is, and the inverse of a change
//! is what undoing needs.
//!
//! ```text
//! old  aaaa[bbb]cccccccc[d]eee     splices: at 4, "bbb" -> "BBBBB"; at 15, "d" -> ""
//! new  aaaa[BBBBB]cccccccc[]eee    inverse: at 4, "BBBBB" -> "bbb"; at 17, "" -> "d"
//! ```

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Bytes that take the place of `old_len` bytes at `start`. Splices of a file are sorted and do not overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice {
    /// Where, in the file before.
    pub start: u64,
    /// How many bytes go.
    pub old_len: u64,
    /// What comes.
    pub new: Vec<u8>,
}

impl Splice {
    /// From `old`, which lies at `start`, to `new`, without what they have in common at both ends; `None` if they are
    /// equal.
    pub fn between(start: u64, old: &[u8], new: &[u8]) -> Option<Self> {
        let prefix = old.iter().zip(new).take_while(|(a, b)| a == b).count();
        let (old, new) = (&old[prefix..], &new[prefix..]);
        let suffix = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
        let (old, new) = (&old[..old.len() - suffix], &new[..new.len() - suffix]);
        (!old.is_empty() || !new.is_empty()).then(|| Self {
            start: start + prefix as u64,
            old_len: old.len() as u64,
            new: new.to_vec(),
        })
    }

    fn end(&self) -> u64 {
        self.start + self.old_len
    }
}

/// Copies `input` to `output` with `splices` applied.
///
/// # Errors
/// If reading or writing fails, or the file is shorter than the splices say.
pub fn apply(input: &mut File, splices: &[Splice], output: &mut dyn Write) -> io::Result<()> {
    input.seek(SeekFrom::Start(0))?;
    let mut position = 0;
    for splice in splices {
        copy_exact(input, splice.start - position, output)?;
        output.write_all(&splice.new)?;
        position = input.seek(SeekFrom::Start(splice.end()))?;
    }
    io::copy(input, output)?;
    Ok(())
}

fn copy_exact(input: &mut File, len: u64, output: &mut dyn Write) -> io::Result<()> {
    if io::copy(&mut input.take(len), output)? < len {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter"));
    }
    Ok(())
}

/// What takes the file after `splices` back to `input`, the file before.
///
/// # Errors
/// If the bytes that go cannot be read.
pub fn inverse(input: &mut File, splices: &[Splice]) -> io::Result<Vec<Splice>> {
    let mut shift = 0;
    splices
        .iter()
        .map(|splice| {
            input.seek(SeekFrom::Start(splice.start))?;
            let mut old = vec![0; usize::try_from(splice.old_len).map_err(io::Error::other)?];
            input.read_exact(&mut old)?;
            let new_len = splice.new.len() as u64;
            let inverse = Splice { start: splice.start.wrapping_add(shift), old_len: new_len, new: old };
            // Both may be negative steps: two's complement adds them up.
            shift = shift.wrapping_add(new_len).wrapping_sub(splice.old_len);
            Ok(inverse)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("written");
        file
    }

    #[test]
    fn a_change_and_its_inverse() {
        let old = b"aaaabbbccccccccdeee";
        let splices = [
            Splice { start: 4, old_len: 3, new: b"BBBBB".to_vec() },
            Splice { start: 15, old_len: 1, new: Vec::new() },
            Splice { start: 19, old_len: 0, new: b"!".to_vec() },
        ];
        let mut new = Vec::new();
        apply(&mut file(old), &splices, &mut new).expect("applied");
        assert_eq!(new, b"aaaaBBBBBcccccccceee!");
        let back = inverse(&mut file(old), &splices).expect("inverted");
        let mut again = Vec::new();
        apply(&mut file(&new), &back, &mut again).expect("applied");
        assert_eq!(again, old);
    }

    #[test]
    fn what_both_have_in_common_is_left_out() {
        assert_eq!(Splice::between(10, b"same", b"same"), None);
        let splice = |start, old_len, new: &[u8]| Some(Splice { start, old_len, new: new.to_vec() });
        assert_eq!(Splice::between(10, b"a12z", b"a3z"), splice(11, 2, b"3"));
        assert_eq!(Splice::between(10, b"", b"new"), splice(10, 0, b"new"));
        assert_eq!(Splice::between(0, b"aaa", b"aaaa"), splice(3, 0, b"a"));
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error() {
        let splices = [Splice { start: 9, old_len: 0, new: Vec::new() }];
        assert!(apply(&mut file(b"short"), &splices, &mut Vec::new()).is_err());
        assert!(inverse(&mut file(b"short"), &[Splice { start: 3, old_len: 9, new: Vec::new() }]).is_err());
    }
}
