//! The little that must be known of a file before a decoder opens it.

use std::io::{self, Read, Seek, SeekFrom};

/// Bytes that [`unsupported_container`] and [`wav_header`] look at.
pub(crate) const HEAD: usize = 1024;

/// Reads up to `len` bytes from the start of `source`.
pub(crate) fn read_head<R: Read + Seek>(source: &mut R, len: usize) -> io::Result<Vec<u8>> {
    source.seek(SeekFrom::Start(0))?;
    let mut head = Vec::with_capacity(len);
    source.by_ref().take(len as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// Names a container that may hold audio but that symphonia does not read, by its first bytes.
pub(crate) fn unsupported_container(head: &[u8]) -> Option<&'static str> {
    let at = |offset: usize, magic: &[u8]| head.get(offset..offset + magic.len()) == Some(magic);
    let transport_stream = |first: usize, stride: usize| (0..3).all(|n| head.get(first + n * stride) == Some(&0x47));
    Some(match () {
        () if at(0, b"RIFF") && at(8, b"AVI ") => "AVI",
        () if at(0, &[0x30, 0x26, 0xB2, 0x75, 0x8E, 0x66, 0xCF, 0x11]) => "ASF (WMA, WMV)",
        () if at(0, b"wvpk") => "WavPack",
        () if at(0, &[0x0B, 0x77]) => "AC-3",
        () if at(0, &[0x7F, 0xFE, 0x80, 0x01]) => "DTS",
        () if at(0, b"MAC ") => "Monkey's Audio",
        () if at(0, b"TTA1") || at(0, b"TTA2") => "True Audio",
        () if at(0, b"tBaK") => "TAK",
        () if at(0, b"MPCK") || at(0, b"MP+") => "Musepack",
        () if at(0, b"DSD ") || at(0, b"FRM8") => "DSD",
        () if at(0, b"#!AMR") => "AMR",
        () if at(0, b"FLV\x01") => "FLV",
        () if at(0, b".RMF") => "RealMedia",
        () if at(0, b".snd") => "AU",
        () if at(0, b"RF64") || at(0, b"BW64") || at(0, b"riff\x2E\x91\xCF\x11") => "64-bit WAV",
        () if at(0, &[0, 0, 1, 0xBA]) => "MPEG program stream",
        () if transport_stream(0, 188) || transport_stream(4, 192) => "MPEG transport stream",
        () => return None,
    })
}

/// Channels and sample rate as the `fmt ` chunk of a RIFF WAVE declares them, sound or not.
pub(crate) fn wav_header(head: &[u8]) -> Option<(u16, u32)> {
    if !head.starts_with(b"RIFF") || head.get(8..12)? != b"WAVE" {
        return None;
    }
    let mut rest = &head[12..];
    loop {
        let (tag, len) = (rest.get(..4)?, u32::from_le_bytes(rest.get(4..8)?.try_into().ok()?) as usize);
        let body = &rest[8..];
        if tag == b"fmt " {
            let channels = u16::from_le_bytes(body.get(2..4)?.try_into().ok()?);
            let rate_hz = u32::from_le_bytes(body.get(4..8)?.try_into().ok()?);
            return Some((channels, rate_hz));
        }
        rest = body.get(len.checked_next_multiple_of(2)?..)?;
    }
}

/// Whether an MPEG audio file declares its length in a Xing, Info or VBRI header.
///
/// Without one, a length can only be guessed from the first bit rate, which is far off for variable rates.
pub(crate) fn mpeg_declares_length<R: Read + Seek>(source: &mut R) -> io::Result<bool> {
    let mut start = 0;
    let mut buffer = Vec::new();
    // ID3v2 tags come first, possibly more than one.
    for _ in 0..4 {
        source.seek(SeekFrom::Start(start))?;
        buffer.clear();
        source.by_ref().take(8192).read_to_end(&mut buffer)?;
        match buffer.get(..10) {
            Some(&[b'I', b'D', b'3', _, _, flags, a, b, c, d]) => {
                let len = [a, b, c, d].iter().fold(0, |len, byte| len << 7 | u64::from(byte & 0x7F));
                start += 10 + len + if flags & 0x10 == 0 { 0 } else { 10 };
            }
            _ => break,
        }
    }
    Ok(buffer.windows(4).any(|tag| matches!(tag, b"Xing" | b"Info" | b"VBRI")))
}

/// Bytes that replace those at an offset of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Patch {
    pub offset: u64,
    pub bytes: Vec<u8>,
}

/// The size that the last `mdat` atom of an MP4 should declare, if the file was cut off inside it.
///
/// symphonia ignores an atom that reaches beyond the end of the file, and with it all the audio that is there: a download
/// that broke off would be silent.
pub(crate) fn mp4_cut_media<R: Read + Seek>(source: &mut R, file_len: u64) -> io::Result<Option<Patch>> {
    let mut start = 0u64;
    // A fragment lasts a second or more.
    for _ in 0..1_000_000 {
        if file_len.saturating_sub(start) < 16 {
            break;
        }
        let mut header = [0; 16];
        source.seek(SeekFrom::Start(start))?;
        source.read_exact(&mut header)?;
        let (short, kind, long) = (&header[..4], &header[4..8], &header[8..]);
        if start == 0 && kind != b"ftyp" {
            break;
        }
        let short = short.iter().fold(0, |size, &byte| size << 8 | u64::from(byte));
        let long = (short == 1).then(|| long.iter().fold(0, |size, &byte| size << 8 | u64::from(byte)));
        let size = long.unwrap_or(short);
        if size < 8 {
            break;
        }
        if size > file_len - start {
            let left = file_len - start;
            return Ok((kind == b"mdat").then(|| match long {
                Some(_) => Patch { offset: start + 8, bytes: left.to_be_bytes().to_vec() },
                // Smaller than `size`, which has 32 bits.
                None => Patch { offset: start, bytes: (left as u32).to_be_bytes().to_vec() },
            }));
        }
        start += size;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn names_what_needs_ffmpeg() {
        assert_eq!(unsupported_container(b"RIFF\0\0\0\0AVI LIST"), Some("AVI"));
        assert_eq!(unsupported_container(b"RIFF\0\0\0\0WAVEfmt "), None);
        let mut ts = vec![0; 400];
        for n in [0, 188, 376] {
            ts[n] = 0x47;
        }
        assert_eq!(unsupported_container(&ts), Some("MPEG transport stream"));
        assert_eq!(unsupported_container(b""), None);
        assert_eq!(unsupported_container(b"hello"), None);
    }

    #[test]
    fn reads_wav_headers_and_survives_cut_ones() {
        let mut wav = b"RIFF\0\0\0\0WAVEJUNK\x03\0\0\0abc\0fmt \x10\0\0\0\x01\0\x02\0".to_vec();
        assert_eq!(wav_header(&wav), None);
        wav.extend(44_100u32.to_le_bytes());
        assert_eq!(wav_header(&wav), Some((2, 44_100)));
        for len in 0..wav.len() {
            assert_eq!(wav_header(&wav[..len]), None);
        }
        assert_eq!(wav_header(b"RIFF\0\0\0\0WAVEJUNK\xFF\xFF\xFF\xFF"), None);
    }

    #[test]
    fn finds_the_length_header_behind_tags() {
        let mut file = b"ID3\x04\0\0\0\0\0\x05....\0\xFF\xFB\x90\0".to_vec();
        file.extend([0; 32]);
        assert!(!mpeg_declares_length(&mut Cursor::new(&file)).expect("in memory"));
        file.extend(b"Xing");
        assert!(mpeg_declares_length(&mut Cursor::new(&file)).expect("in memory"));
    }

    #[test]
    fn mends_the_size_of_a_cut_mp4() {
        let mut file = b"\0\0\0\x10ftypisom\0\0\0\0\0\0\x01\0mdat".to_vec();
        file.resize(16 + 100, 7);
        let len = file.len() as u64;
        let patch = mp4_cut_media(&mut Cursor::new(&file), len).expect("in memory");
        assert_eq!(patch, Some(Patch { offset: 16, bytes: vec![0, 0, 0, 100] }));
        file.resize(16 + 256, 7);
        assert_eq!(mp4_cut_media(&mut Cursor::new(&file), 16 + 256).expect("in memory"), None);

        let mut long = b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x01mdat\0\0\x01\0\0\0\0\0".to_vec();
        long.resize(16 + 64, 7);
        let patch = mp4_cut_media(&mut Cursor::new(&long), 16 + 64).expect("in memory");
        assert_eq!(patch, Some(Patch { offset: 24, bytes: vec![0, 0, 0, 0, 0, 0, 0, 64] }));
        assert_eq!(mp4_cut_media(&mut Cursor::new(b"RIFF0123456789abcdef"), 20).expect("in memory"), None);
    }
}
