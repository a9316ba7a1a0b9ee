//! The encoded audio of a file, without the container around it: what must stay the same when tags are written.
//!
//! ```text
//! file -> demuxer -> codec and its header, per track -+-> sink (a hash)
//!                    packets: track, times, bytes ----+
//! ```

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use symphonia::core::errors::Error;
use symphonia::core::formats::FormatReader;

use super::decode::{BoundedInput, MAX_DEMUX_FAILURES, READ_BUDGET, contain, is_end, probe_format};
use super::{AudioError, AudioErrorCause, sniff};

/// Writes every packet of every track of `path` into `sink`, each with its track, its times and its length, after a
/// description of the codecs. Two files for which `sink` gets the same bytes sound the same to any decoder. Returns the
/// number of packets.
///
/// # Errors
/// [`AudioError::File`] if the container is not one of those that Earmark itself reads, or holds no packet.
pub fn copy_packets(path: &Path, sink: &mut dyn Write) -> Result<u64, AudioError> {
    copy(path, sink).map_err(|cause| AudioError::File { file: path.display().to_string(), cause })
}

fn copy(path: &Path, sink: &mut dyn Write) -> Result<u64, AudioErrorCause> {
    let mut input = File::open(path).map_err(AudioErrorCause::Unreadable)?;
    let len = input.metadata().map_err(AudioErrorCause::Unreadable)?.len();
    // As for decoding: what a broken index would hide is read.
    let patch = sniff::mp4_cut_media(&mut input, len).map_err(AudioErrorCause::Unreadable)?;
    input.seek(SeekFrom::Start(0)).map_err(AudioErrorCause::Unreadable)?;
    let budget = Arc::new(AtomicU64::new(READ_BUDGET));
    let input = BoundedInput { input, len, position: 0, seekable: true, patch, budget: Arc::clone(&budget) };
    let mut reader = probe_format(input)
        .map_err(|message| AudioErrorCause::Panic { message })?
        .map_err(|error| AudioErrorCause::Damaged { reason: error.to_string() })?;
    let result = contain(|| copy_all(reader.as_mut(), sink, &budget));
    let num_packets = result.map_err(|message| AudioErrorCause::Panic { message })??;
    if num_packets == 0 { Err(AudioErrorCause::NoSamples { corrupt_packets: 0 }) } else { Ok(num_packets) }
}

fn copy_all(reader: &mut dyn FormatReader, sink: &mut dyn Write, budget: &AtomicU64) -> Result<u64, AudioErrorCause> {
    let mut num_packets = 0;
    let mut failures = 0;
    describe_tracks(reader, sink)?;
    loop {
        budget.store(READ_BUDGET, Ordering::Relaxed);
        let packet = match reader.next_packet() {
            Ok(Some(packet)) => packet,
            // Chained streams: other codecs may follow.
            Err(Error::ResetRequired) => {
                describe_tracks(reader, sink)?;
                continue;
            }
            Err(Error::DecodeError(_)) if failures < MAX_DEMUX_FAILURES => {
                failures += 1;
                continue;
            }
            Err(Error::IoError(error)) if !is_end(&error) => return Err(AudioErrorCause::Unreadable(error)),
            // A damaged end is the end, before and after.
            Ok(None) | Err(_) => break,
        };
        num_packets += 1;
        let head = [
            u64::from(packet.track_id),
            packet.pts.get() as u64,
            packet.dts.get() as u64,
            packet.dur.get(),
            packet.trim_start.get(),
            packet.trim_end.get(),
            packet.data.len() as u64,
        ];
        for number in head {
            sink.write_all(&number.to_le_bytes()).map_err(AudioErrorCause::Unreadable)?;
        }
        sink.write_all(&packet.data).map_err(AudioErrorCause::Unreadable)?;
    }
    Ok(num_packets)
}

fn describe_tracks(reader: &dyn FormatReader, sink: &mut dyn Write) -> Result<(), AudioErrorCause> {
    for track in reader.tracks() {
        writeln!(sink, "track {} {:?} {:?}", track.id, track.time_base, track.codec_params)
            .map_err(AudioErrorCause::Unreadable)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(bytes: &[u8]) -> Result<(u64, Vec<u8>), AudioError> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(bytes).expect("written");
        let mut sink = Vec::new();
        copy_packets(file.path(), &mut sink).map(|count| (count, sink))
    }

    #[test]
    fn packets_are_the_audio_and_not_the_tags() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/audio");
        let read = |name: &str| std::fs::read(folder.join(name)).expect("a fixture");
        let mp3 = read("no_xing.mp3");
        let (count, plain) = packets(&mp3).expect("audio");
        assert!(count > 10 && plain.len() > mp3.len() - 1000, "{count} packets, {} bytes", plain.len());

        // An ID3v2.4 tag in front of it: 10 bytes of header, TIT2 "x".
        let tag = b"ID3\x04\x00\x00\x00\x00\x00\x0cTIT2\x00\x00\x00\x02\x00\x00\x03x";
        let (_, tagged) = packets(&[tag.as_slice(), &mp3].concat()).expect("audio");
        assert!(tagged == plain, "a tag changes nothing");

        let mut changed = mp3.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        let (_, changed) = packets(&changed).expect("audio");
        assert!(changed != plain, "one bit of audio counts");
    }

    #[test]
    fn what_is_no_audio_is_refused() {
        assert!(packets(b"this is not music").is_err());
        assert!(packets(b"").is_err());
    }
}
