//! Vorbis comments, as FLAC, Ogg Vorbis and Opus have them. Comments of others keep their bytes and their order.
//!
//! ```text
//! length, vendor | number | length, "NAME=value" .. | rest (framing bit, padding)
//! ```
//!
//! Several values are several comments of the same name.

use anyhow::{Context, Result};

use super::fields::Field;

/// A comment block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comments {
    vendor: Vec<u8>,
    items: Vec<Vec<u8>>,
    rest: Vec<u8>,
}

impl Comments {
    /// A block without comments.
    pub fn new() -> Self {
        Self { vendor: b"earmark".to_vec(), items: Vec::new(), rest: Vec::new() }
    }

    /// Parses a block.
    ///
    /// # Errors
    /// If it ends too early.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut left = bytes;
        let mut parse = || -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
            let vendor = take(&mut left)?;
            let num_items = take_u32(&mut left)?;
            // Not reserved: the number may be a lie.
            let items = (0..num_items).map(|_| take(&mut left)).collect::<Option<_>>()?;
            Some((vendor, items))
        };
        let (vendor, items) = parse().context("its comments are damaged; repair them with another program first")?;
        Ok(Self { vendor, items, rest: left.to_vec() })
    }

    /// Values of a field; what is not text counts as a value.
    pub fn get(&self, field: Field) -> Vec<String> {
        let values = self.items.iter().filter_map(|item| value_of(item, field));
        values.map(|value| String::from_utf8_lossy(value).into_owned()).filter(|value| !value.is_empty()).collect()
    }

    /// Replaces the values of a field; none take it away.
    pub fn set(&mut self, field: Field, values: &[String]) {
        self.items.retain(|item| value_of(item, field).is_none());
        self.items.extend(values.iter().map(|value| format!("{}={value}", field.name()).into_bytes()));
    }

    /// Comments that are none of our fields, as they are.
    pub fn others(&self) -> Vec<Vec<u8>> {
        let is_ours = |item: &[u8]| Field::ALL.iter().any(|&field| value_of(item, field).is_some());
        let others = self.items.iter().filter(|item| !is_ours(item)).cloned();
        std::iter::once(self.vendor.clone()).chain(others).collect()
    }

    /// The bytes of the block. A rest that is only padding gives way, so that the block keeps `len` if it can.
    ///
    /// # Errors
    /// If it is too large for its lengths.
    pub fn encode(&self, len: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let size = |part: &[u8]| u32::try_from(part.len()).context("its comments would be larger than 4 GB");
        bytes.extend(size(&self.vendor)?.to_le_bytes());
        bytes.extend(&self.vendor);
        bytes.extend((self.items.len() as u32).to_le_bytes());
        for item in &self.items {
            bytes.extend(size(item)?.to_le_bytes());
            bytes.extend(item);
        }
        let is_padding = !self.rest.is_empty() && self.rest.iter().all(|&byte| byte == 0);
        if is_padding && len >= bytes.len() {
            bytes.resize(len, 0);
        } else {
            bytes.extend(&self.rest);
        }
        Ok(bytes)
    }
}

/// The value of a comment that belongs to `field`.
fn value_of(item: &[u8], field: Field) -> Option<&[u8]> {
    let name_len = field.name().len();
    let is_named = item.get(..name_len)?.eq_ignore_ascii_case(field.name().as_bytes());
    item.get(name_len..)?.strip_prefix(b"=").filter(|_| is_named)
}

fn take_u32(left: &mut &[u8]) -> Option<u32> {
    let (head, rest) = left.split_first_chunk::<4>()?;
    *left = rest;
    Some(u32::from_le_bytes(*head))
}

fn take(left: &mut &[u8]) -> Option<Vec<u8>> {
    let len = take_u32(left)? as usize;
    let (item, rest) = left.split_at_checked(len)?;
    *left = rest;
    Some(item.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(items: &[&[u8]], rest: &[u8]) -> Vec<u8> {
        let items = items.iter().map(|item| item.to_vec()).collect();
        Comments { vendor: b"encoder".to_vec(), items, rest: rest.to_vec() }.encode(0).expect("small")
    }

    #[test]
    fn comments_of_others_keep_bytes_and_order() {
        let items: [&[u8]; 4] = [b"TITLE=\xe8\x8a\xb1", b"not a comment", b"X=\xff\xfe", b"genre="];
        let bytes = block(&items, b"\x01");
        let mut comments = Comments::parse(&bytes).expect("valid");
        assert!(comments.get(Field::Genre).is_empty(), "an empty comment is no value");
        let others = comments.others();
        comments.set(Field::Genre, &["Rock".into(), "Pop".into()]);
        assert_eq!(comments.get(Field::Genre), ["Rock", "Pop"]);
        let again = Comments::parse(&comments.encode(0).expect("small")).expect("valid");
        assert_eq!(again.others(), others);
        assert_eq!(again.rest, b"\x01");
        let users = Comments::parse(&block(&[b"Genre=Klassik", b"GENRE=\xff"], b"")).expect("valid");
        assert_eq!(users.get(Field::Genre), ["Klassik", "\u{fffd}"]);
    }

    #[test]
    fn padding_gives_way() {
        let bytes = block(&[b"A=b"], &[0; 100]);
        let mut comments = Comments::parse(&bytes).expect("valid");
        comments.set(Field::Mood, &["Fast".into()]);
        assert_eq!(comments.encode(bytes.len()).expect("small").len(), bytes.len());
        comments.set(Field::Mood, &["x".repeat(200)]);
        assert!(comments.encode(bytes.len()).expect("small").len() > bytes.len());
    }

    #[test]
    fn lies_about_lengths_are_errors() {
        let bytes = block(&[b"A=b"], b"");
        for len in 0..bytes.len() {
            assert!(Comments::parse(&bytes[..len]).is_err(), "{len}");
        }
        let mut many = bytes.clone();
        many[11..15].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Comments::parse(&many).is_err());
    }
}
