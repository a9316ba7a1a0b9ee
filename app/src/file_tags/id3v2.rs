//! ID3v2.3 and 2.4 tags, edited frame by frame: frames of others keep their bytes.
//!
//! ```text
//! "ID3" version flags size | [extended header] | frame frame .. | padding | [footer]
//!                            frame: id, size, flags, data
//! ```
//!
//! Why not through a library that turns frames into values and back: that changes what is not ours. Texts change their
//! encoding, and frames that are rare, doubled or of the other version get lost, sort names in ID3v2.3 above all.
//!
//! Several values are separated by a zero in 2.4. In 2.3 there is no such thing: genres of ID3's list are written as
//! references, `(17)(9)`, one other genre may follow as text, and values of user texts are separated by a slash.

use anyhow::{Context, Result, bail, ensure};

use super::fields::Field;

/// Header of a tag, and of a frame.
pub const HEADER_LEN: usize = 10;

/// Room that is left behind the frames when a tag grows, so that the next change need not move the audio.
const PADDING: usize = 1024;

/// Sizes are written with 7 bits per byte.
const MAX_SIZE: usize = (1 << 28) - 1;

const UNSYNCHRONISED: u8 = 0x80;
const EXTENDED: u8 = 0x40;
const EXPERIMENTAL: u8 = 0x20;
const FOOTER: u8 = 0x10;

/// Genres of ours and their numbers in ID3's list.
const GENRES: &[(&str, u8)] = &[
    ("Country", 2),
    ("Dance", 3),
    ("Metal", 9),
    ("New Age", 10),
    ("Pop", 13),
    ("Rock", 17),
    ("Techno", 18),
    ("Ambient", 26),
    ("Classical", 32),
    ("Electronic", 52),
    ("Opera", 103),
];

/// A tag as its frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Id3v2 {
    version: u8,
    /// Those flags of the header that stay true.
    flags: u8,
    frames: Vec<Frame>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame {
    id: [u8; 4],
    flags: [u8; 2],
    data: Vec<u8>,
}

/// Bytes that a tag takes whose header this is; `None` if it is none.
pub fn tag_len(header: &[u8]) -> Option<usize> {
    let head = header.get(..HEADER_LEN).filter(|head| head.starts_with(b"ID3"))?;
    let footer = if head[5] & FOOTER != 0 && head[3] == 4 { HEADER_LEN } else { 0 };
    Some(HEADER_LEN + synchsafe(&head[6..])? + footer)
}

impl Id3v2 {
    /// A tag without frames, version 2.4.
    pub fn new() -> Self {
        Self { version: 4, flags: 0, frames: Vec::new() }
    }

    /// Parses a tag, `tag_len` bytes of it.
    ///
    /// # Errors
    /// If it is of another version or damaged: what is not understood is not rewritten.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        ensure!(tag_len(bytes).is_some_and(|len| len <= bytes.len()), "its ID3v2 tag is cut off; copy the file again");
        let (version, flags) = (bytes[3], bytes[5]);
        ensure!(
            matches!(version, 3 | 4),
            "its tag is ID3v2.{version}, which is not rewritten; convert it to ID3v2.4 with another program first"
        );
        let footer = if version == 4 && flags & FOOTER != 0 { HEADER_LEN } else { 0 };
        let (stored, footer) = bytes[HEADER_LEN..].split_at(bytes.len() - HEADER_LEN - footer);
        ensure!(
            footer.is_empty() || footer.starts_with(b"3DI"),
            "its ID3v2 tag is damaged (footer); copy the file again"
        );
        // In 2.3 sizes count the bytes before they were made free of false syncs, in 2.4 those after.
        let body = if version == 3 && flags & UNSYNCHRONISED != 0 { resynchronised(stored) } else { stored.to_vec() };
        let mut body = body.as_slice();
        if flags & EXTENDED != 0 {
            let len = if version == 4 {
                body.get(..4).and_then(synchsafe)
            } else {
                body.get(..4).map(|size| 4 + be_u32(size) as usize)
            };
            body = len.and_then(|len| body.get(len..)).context("its ID3v2 tag is damaged (extended header)")?;
        }
        let frames = if version == 3 {
            frames(body, |size| Some(be_u32(size) as usize))
        } else {
            // Some programs write sizes of 2.4 as in 2.3.
            frames(body, synchsafe).or_else(|| frames(body, |size| Some(be_u32(size) as usize)))
        };
        let frames = frames.context("its ID3v2 tag is damaged; repair it with another program first")?;
        let kept = if version == 4 { UNSYNCHRONISED | EXPERIMENTAL } else { EXPERIMENTAL };
        Ok(Self { version, flags: flags & kept, frames })
    }

    /// Values of a field; what cannot be read as text counts as one value.
    pub fn get(&self, field: Field) -> Vec<String> {
        let mut values = Vec::new();
        for frame in self.frames.iter().filter(|frame| self.holds(frame, field)) {
            match frame.text(self.version) {
                None => values.push("(unreadable)".to_owned()),
                Some(text) if &frame.id == b"TCON" => values.extend(genres(&text)),
                Some(text) => {
                    let text =
                        if &frame.id == b"TXXX" { text.split_once('\0').map_or("", |(_, text)| text) } else { &text };
                    let separators: &[char] = if self.version == 3 { &['\0', '/'] } else { &['\0'] };
                    values.extend(text.split(separators).filter(|value| !value.is_empty()).map(str::to_owned));
                }
            }
        }
        values
    }

    /// Replaces the values of a field; none take it away.
    pub fn set(&mut self, field: Field, values: &[String]) {
        let version = self.version;
        let old = std::mem::take(&mut self.frames);
        self.frames = old.into_iter().filter(|frame| !Self::holds_in(version, frame, field)).collect();
        if values.is_empty() {
            return;
        }
        let separator = if version == 3 { "/" } else { "\0" };
        let (id, text) = match field {
            Field::Genre if version == 3 => (b"TCON", genre_references(values)),
            Field::Genre => (b"TCON", values.join(separator)),
            Field::Mood if version == 4 => (b"TMOO", values.join(separator)),
            field => (b"TXXX", format!("{}\0{}", field.name(), values.join(separator))),
        };
        self.push_text(*id, version, &text);
    }

    /// Adds a text frame. Texts of ours are plain ASCII, so that any encoding will do: the oldest in 2.3, UTF-8 in 2.4.
    fn push_text(&mut self, id: [u8; 4], version: u8, text: &str) {
        let encoding = if version == 3 { 0 } else { 3 };
        let data = [[encoding].as_slice(), text.as_bytes()].concat();
        self.frames.push(Frame { id, flags: [0; 2], data });
    }

    /// Adds a frame whose data are given.
    pub fn push_raw(&mut self, id: [u8; 4], data: Vec<u8>) {
        self.frames.push(Frame { id, flags: [0; 2], data });
    }

    /// Frames that are none of our fields, as they are.
    pub fn others(&self) -> Vec<Vec<u8>> {
        let others = self.frames.iter().filter(|frame| !Field::ALL.iter().any(|&field| self.holds(frame, field)));
        others.map(|frame| [frame.id.as_slice(), &frame.flags, &frame.data].concat()).collect()
    }

    /// The bytes of the tag, none if it has no frames. They fill `room` if they fit there; else there is room for more.
    ///
    /// # Errors
    /// If it is too large for an ID3v2 tag.
    pub fn encode(&self, room: Room) -> Result<Vec<u8>> {
        if self.frames.is_empty() {
            return Ok(Vec::new());
        }
        let mut bytes = vec![b'I', b'D', b'3', self.version, 0, self.flags, 0, 0, 0, 0];
        for frame in &self.frames {
            ensure!(frame.data.len() <= MAX_SIZE, "its ID3v2 tag would be larger than 256 MB");
            bytes.extend(frame.id);
            bytes.extend(if self.version == 4 {
                synchsafe_bytes(frame.data.len())
            } else {
                (frame.data.len() as u32).to_be_bytes()
            });
            bytes.extend(frame.flags);
            bytes.extend(&frame.data);
        }
        let len = match room {
            Room::Exact => bytes.len(),
            Room::Fill(room) if room >= bytes.len() => room,
            Room::Fill(_) => bytes.len() + PADDING,
        };
        ensure!(len <= MAX_SIZE, "its ID3v2 tag would be larger than 256 MB");
        bytes.resize(len, 0);
        bytes[6..HEADER_LEN].copy_from_slice(&synchsafe_bytes(len - HEADER_LEN));
        Ok(bytes)
    }

    fn holds(&self, frame: &Frame, field: Field) -> bool {
        Self::holds_in(self.version, frame, field)
    }

    /// Whether a frame is where `field` is kept. A mood may be in either place: programs disagree.
    fn holds_in(version: u8, frame: &Frame, field: Field) -> bool {
        match (&frame.id, field) {
            (b"TCON", Field::Genre) | (b"TMOO", Field::Mood) => true,
            (b"TXXX", field) if field != Field::Genre => {
                let text = frame.text(version).unwrap_or_default();
                text.split('\0').next().is_some_and(|name| Field::named(name) == Some(field))
            }
            _ => false,
        }
    }
}

/// How long an encoded tag may become.
#[derive(Clone, Copy, Debug)]
pub enum Room {
    /// As long as it needs to be.
    Exact,
    /// As long as this, if that is enough.
    Fill(usize),
}

impl Frame {
    /// Its text, for a user text description, zero, text; `None` if it is packed or no text.
    fn text(&self, version: u8) -> Option<String> {
        // Compressed, encrypted, grouped, with a length in front.
        let packed = if version == 3 { self.flags[1] & 0xe0 } else { self.flags[1] & 0x4f };
        if packed != 0 {
            return None;
        }
        let (&encoding, text) = self.data.split_first()?;
        let text = match encoding {
            0 => text.iter().map(|&byte| char::from(byte)).collect(),
            // A byte order mark may stand before each of several values.
            1 => utf16(text)?,
            2 => {
                let units: Vec<u16> = text.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
                String::from_utf16(&units).ok()?
            }
            3 => String::from_utf8(text.to_vec()).ok()?,
            _ => return None,
        };
        Some(text.trim_end_matches('\0').to_owned())
    }
}

fn utf16(bytes: &[u8]) -> Option<String> {
    let mut big_endian = false;
    let mut units = Vec::with_capacity(bytes.len() / 2);
    for pair in bytes.chunks_exact(2) {
        match pair {
            [0xff, 0xfe] => big_endian = false,
            [0xfe, 0xff] => big_endian = true,
            _ if big_endian => units.push(u16::from_be_bytes([pair[0], pair[1]])),
            _ => units.push(u16::from_le_bytes([pair[0], pair[1]])),
        }
    }
    String::from_utf16(&units).ok()
}

/// Splits a body into frames and padding; `None` if it does not add up with these sizes.
fn frames(mut body: &[u8], size: impl Fn(&[u8]) -> Option<usize>) -> Option<Vec<Frame>> {
    let mut frames = Vec::new();
    while body.first().is_some_and(|&byte| byte != 0) {
        let head = body.get(..HEADER_LEN)?;
        let id: [u8; 4] = head[..4].try_into().ok()?;
        // The last letter may be missing: names of 2.2 are found in 2.3.
        let is_name = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        if !id[..3].iter().all(is_name) || !(is_name(&id[3]) || matches!(id[3], 0 | b' ')) {
            return None;
        }
        let end = HEADER_LEN.checked_add(size(&head[4..8])?)?;
        let data = body.get(HEADER_LEN..end)?.to_vec();
        frames.push(Frame { id, flags: [head[8], head[9]], data });
        body = &body[end..];
    }
    Some(frames)
}

/// Genres of a text: values separated by zeros, each with references `(17)` in front or, in 2.4, as a number alone.
fn genres(text: &str) -> Vec<String> {
    let mut genres = Vec::new();
    // Some programs put names where numbers should be.
    let name = |reference: &str| {
        let number: Option<u8> = reference.parse().ok();
        let genre = GENRES.iter().find(|(name, known)| Some(*known) == number || *name == reference);
        genre.map(|(name, _)| (*name).to_owned())
    };
    for mut value in text.split('\0') {
        while let Some((number, rest)) = value.strip_prefix('(').and_then(|value| value.split_once(')')) {
            genres.push(name(number).unwrap_or_else(|| format!("({number})")));
            value = rest;
        }
        if !value.is_empty() {
            genres.push(name(value).unwrap_or_else(|| value.to_owned()));
        }
    }
    genres
}

/// Genres as ID3v2.3 means several of them: references to the list, then what is not in it. One alone is its name.
fn genre_references(values: &[String]) -> String {
    if let [value] = values {
        return value.clone();
    }
    let number = |value: &String| GENRES.iter().find(|(name, _)| name == value).map(|(_, number)| *number);
    let references: Vec<String> = values.iter().filter_map(number).map(|number| format!("({number})")).collect();
    let rest: Vec<&str> = values.iter().filter(|value| number(value).is_none()).map(String::as_str).collect();
    references.concat() + &rest.join("/")
}

/// Undoes what hides false syncs: a zero after each 0xff.
fn resynchronised(bytes: &[u8]) -> Vec<u8> {
    let mut previous = 0;
    let keep = |&byte: &u8| {
        let is_inserted = previous == 0xff && byte == 0;
        previous = byte;
        !is_inserted
    };
    bytes.iter().copied().filter(keep).collect()
}

fn synchsafe(bytes: &[u8]) -> Option<usize> {
    bytes.iter().all(|&byte| byte < 0x80).then(|| bytes.iter().fold(0, |size, &byte| size << 7 | usize::from(byte)))
}

fn synchsafe_bytes(size: usize) -> [u8; 4] {
    [21, 14, 7, 0].map(|shift| (size >> shift & 0x7f) as u8)
}

fn be_u32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u32::from(byte))
}

/// The fields of an ID3v1 tag (the last 128 bytes of a file) as frames. Players that find an ID3v2 tag do not look at
/// ID3v1 any more, so that a new ID3v2 tag would hide its fields. Texts keep their bytes: which alphabet they are in,
/// nobody knows.
///
/// # Errors
/// If it is no ID3v1 tag.
pub fn from_v1(v1: &[u8; 128]) -> Result<Id3v2> {
    let mut tag = Id3v2::new();
    if !v1.starts_with(b"TAG") {
        bail!("not an ID3v1 tag");
    }
    let text = |range: std::ops::Range<usize>| {
        let text = &v1[range];
        let text = &text[..text.iter().position(|&byte| byte == 0).unwrap_or(text.len())];
        text[..text.iter().rposition(|&byte| byte != b' ').map_or(0, |last| last + 1)].to_vec()
    };
    let mut push = |id: &[u8; 4], head: &[u8], text: Vec<u8>| {
        if !text.is_empty() {
            tag.push_raw(*id, [head, &text].concat());
        }
    };
    push(b"TIT2", &[0], text(3..33));
    push(b"TPE1", &[0], text(33..63));
    push(b"TALB", &[0], text(63..93));
    push(b"TDRC", &[0], text(93..97));
    // Encoding, language, empty description.
    push(b"COMM", b"\0eng\0", text(97..127));
    if v1[125] == 0 && v1[126] != 0 {
        push(b"TRCK", &[0], v1[126].to_string().into_bytes());
    }
    if v1[127] != u8::MAX {
        push(b"TCON", &[0], v1[127].to_string().into_bytes());
    }
    Ok(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(id: [u8; 4], version: u8, data: &[u8]) -> Vec<u8> {
        let size = if version == 4 { synchsafe_bytes(data.len()) } else { (data.len() as u32).to_be_bytes() };
        [id.as_slice(), &size, &[0, 0], data].concat()
    }

    fn tag(version: u8, flags: u8, body: &[u8]) -> Vec<u8> {
        [[b'I', b'D', b'3', version, 0, flags].as_slice(), &synchsafe_bytes(body.len()), body].concat()
    }

    fn strings(values: &[&str]) -> Vec<String> {
        values.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn frames_of_others_keep_their_bytes() {
        for version in [3, 4] {
            let title = frame(*b"TIT2", version, b"\x01\xff\xfe\x2f\x66\x42\x30");
            let sort = frame(*b"TSOP", version, b"\x00Sort");
            let odd = frame(*b"ETCO", version, &[7; 200]);
            let doubled = frame(*b"COMM", version, b"\x00deu\x00Gr\xfc\xdfe");
            let body = [title, sort, odd, doubled.clone(), doubled, vec![0; 40]].concat();
            let bytes = tag(version, 0, &body);
            assert_eq!(tag_len(&bytes), Some(bytes.len()));
            let mut edited = Id3v2::parse(&bytes).expect("valid");
            edited.set(Field::Mood, &strings(&["Fast"]));
            let out = edited.encode(Room::Fill(bytes.len())).expect("fits");
            assert_eq!(out[HEADER_LEN..HEADER_LEN + body.len() - 40], body[..body.len() - 40], "2.{version}");
            let again = Id3v2::parse(&out).expect("valid");
            assert_eq!(again.others(), Id3v2::parse(&bytes).expect("valid").others());
            assert_eq!(again.get(Field::Mood), ["Fast"]);
            edited.set(Field::Mood, &[]);
            assert_eq!(edited.encode(Room::Fill(bytes.len())).expect("fits"), bytes);
        }
    }

    #[test]
    fn values_are_separated_as_the_version_means_them() {
        let values = strings(&["Rock", "Indian", "Metal"]);
        let mut v4 = Id3v2::new();
        v4.set(Field::Genre, &values);
        v4.set(Field::Mood, &strings(&["Fast", "Loud"]));
        let bytes = v4.encode(Room::Exact).expect("small");
        assert!(bytes.windows(18).any(|part| part == b"\x03Rock\0Indian\0Metal"));
        assert!(bytes.windows(4).any(|part| part == b"TMOO"));
        assert_eq!(Id3v2::parse(&bytes).expect("valid").get(Field::Genre), values);

        let mut v3 = Id3v2::parse(&tag(3, 0, &frame(*b"TIT2", 3, b"\x00x"))).expect("valid");
        v3.set(Field::Genre, &values);
        v3.set(Field::Mood, &strings(&["Fast", "Loud"]));
        let bytes = v3.encode(Room::Exact).expect("small");
        assert!(bytes.windows(14).any(|part| part == b"\0(17)(9)Indian"), "{}", bytes.escape_ascii());
        assert!(bytes.windows(14).any(|part| part == b"MOOD\0Fast/Loud"));
        let again = Id3v2::parse(&bytes).expect("valid");
        assert_eq!(again.get(Field::Genre), ["Rock", "Metal", "Indian"]);
        assert_eq!(again.get(Field::Mood), ["Fast", "Loud"]);
    }

    #[test]
    fn texts_of_any_encoding_are_read() {
        let utf16 = |text: &str| -> Vec<u8> {
            let units = std::iter::once(0xfeff).chain(text.encode_utf16());
            std::iter::once(1).chain(units.flat_map(u16::to_le_bytes)).collect()
        };
        let body = [frame(*b"TCON", 3, &utf16("ロック")), frame(*b"TXXX", 3, &utf16("mood\0Грусть"))].concat();
        let parsed = Id3v2::parse(&tag(3, 0, &body)).expect("valid");
        assert_eq!(parsed.get(Field::Genre), ["ロック"]);
        assert_eq!(parsed.get(Field::Mood), ["Грусть"]);
        let packed = [b"TCON".as_slice(), &5_u32.to_be_bytes(), &[0, 0x80], b"zzzzz"].concat();
        assert_eq!(Id3v2::parse(&tag(3, 0, &packed)).expect("valid").get(Field::Genre), ["(unreadable)"]);
        let names = frame(*b"TCON", 3, b"\0(Rock)(RX)Metal");
        assert_eq!(Id3v2::parse(&tag(3, 0, &names)).expect("valid").get(Field::Genre), ["Rock", "(RX)", "Metal"]);
        let numbers = frame(*b"TCON", 4, b"\x0317\x00(9)Doom\x0077");
        assert_eq!(
            Id3v2::parse(&tag(4, 0, &numbers)).expect("valid").get(Field::Genre),
            ["Rock", "Metal", "Doom", "77"]
        );
    }

    #[test]
    fn headers_with_more_in_them_are_read() {
        let title = frame(*b"TIT2", 3, b"\x01\xff\xfeA\0");
        // Zeros behind each 0xff, and an extended header of 2.3.
        let hidden: Vec<u8> =
            title.iter().flat_map(|&byte| if byte == 0xff { vec![0xff, 0] } else { vec![byte] }).collect();
        let parsed = Id3v2::parse(&tag(3, UNSYNCHRONISED, &hidden)).expect("valid");
        assert_eq!(parsed.others(), [[b"TIT2".as_slice(), &[0, 0], b"\x01\xff\xfeA\0"].concat()]);
        let extended = [6_u32.to_be_bytes().as_slice(), &[0; 6], &frame(*b"TIT2", 3, b"\0A")].concat();
        assert_eq!(Id3v2::parse(&tag(3, EXTENDED, &extended)).expect("valid").others().len(), 1);
        // A footer, and sizes of 2.4 as in 2.3.
        let mut with_footer = tag(4, FOOTER, &frame(*b"TIT2", 4, b"\0A"));
        with_footer.extend(b"3DI\x04\x00\x10\x00\x00\x00\x0c");
        assert_eq!(tag_len(&with_footer), Some(with_footer.len()));
        assert_eq!(Id3v2::parse(&with_footer).expect("valid").others().len(), 1);
        let plain_size = frame(*b"TIT2", 3, &[b'A'; 300]);
        let parsed = Id3v2::parse(&tag(4, 0, &plain_size)).expect("valid");
        assert_eq!(Id3v2::parse(&parsed.encode(Room::Exact).expect("small")).expect("valid").others(), parsed.others());
    }

    #[test]
    fn what_is_not_understood_is_not_rewritten() {
        let message = |bytes: &[u8]| Id3v2::parse(bytes).expect_err("refused").to_string();
        assert!(message(&tag(2, 0, b"TT2\0\0\x02\0A")).contains("ID3v2.2"));
        assert!(message(&tag(3, 0, b"TIT2\0\0\0\xff\0\0\0A")).contains("damaged"));
        assert!(message(&tag(4, 0, b"<xml>not frames")).contains("damaged"));
        assert!(message(&tag(4, 0, b"TIT2")[..12]).contains("cut off"));
    }

    #[test]
    fn a_tag_grows_with_room_and_vanishes_when_empty() {
        let mut tag = Id3v2::new();
        assert!(tag.encode(Room::Fill(100)).expect("empty").is_empty());
        tag.set(Field::Genre, &strings(&["Rock"]));
        assert_eq!(tag.encode(Room::Fill(100)).expect("small").len(), 100);
        assert_eq!(
            tag.encode(Room::Fill(0)).expect("small").len(),
            tag.encode(Room::Exact).expect("small").len() + PADDING
        );
        tag.set(Field::Genre, &[]);
        assert!(tag.encode(Room::Exact).expect("empty").is_empty());
    }

    #[test]
    fn fields_of_id3v1_are_carried_over() {
        let mut v1 = [0; 128];
        v1[..3].copy_from_slice(b"TAG");
        v1[3..9].copy_from_slice(b"Stra\xdfe");
        v1[93..97].copy_from_slice(b"1999");
        v1[126] = 7;
        v1[127] = 17;
        let tag = from_v1(&v1).expect("valid");
        assert_eq!(tag.get(Field::Genre), ["Rock"]);
        assert_eq!(tag.others().len(), 3);
        assert!(tag.others().contains(&b"TIT2\0\0\0Stra\xdfe".to_vec()));
    }
}
