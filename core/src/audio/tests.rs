//! Whole files through the whole path. The fixtures and their signals come from `tests/fixtures/audio/make.sh`.

// Repaired samples are exactly what they are repaired to.
#![allow(clippy::float_cmp)]

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/audio")
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(fixtures().join(name)).expect("fixture exists")
}

/// An ffmpeg that does not exist.
fn no_ffmpeg() -> Ffmpeg {
    Ffmpeg { program: PathBuf::from("/nonexistent/ffmpeg"), patience: Duration::from_secs(1) }
}

/// Whether this machine has ffmpeg; says so if not.
fn has_ffmpeg(test: &str) -> bool {
    let found = std::process::Command::new("ffmpeg").arg("-version").output().is_ok();
    if !found {
        eprintln!("SKIPPED {test}: there is no ffmpeg on the PATH");
    }
    found
}

struct Decoded {
    samples: Vec<f32>,
    warnings: Vec<AudioWarning>,
    decoder: Decoder,
    declared_secs: Option<f64>,
}

fn drain(mut stream: AudioStream) -> Result<Decoded, AudioError> {
    let mut samples = Vec::new();
    while let Some(chunk) = stream.next_chunk()? {
        assert!(!chunk.is_empty());
        samples.extend_from_slice(chunk);
    }
    assert!(stream.next_chunk()?.is_none(), "a stream that ended stays ended");
    assert!((stream.decoded_secs() - samples.len() as f64 / 22_050.0).abs() < 1e-9);
    assert!(samples.iter().all(|sample| sample.abs() <= CLAMP));
    Ok(Decoded { samples, decoder: stream.decoder(), declared_secs: stream.declared_secs(), warnings: stream.warnings })
}

fn decode_with(path: &Path, ffmpeg: &Ffmpeg) -> Result<Decoded, AudioError> {
    drain(AudioStream::open_using(path, ffmpeg)?)
}

fn decode_bytes(bytes: Vec<u8>, name: &str) -> Result<Decoded, AudioError> {
    drain(AudioStream::from_bytes(bytes, name)?)
}

fn cause(result: Result<Decoded, AudioError>) -> AudioErrorCause {
    match result.err().expect("an error is expected") {
        AudioError::File { cause, .. } => cause,
        error @ AudioError::SampleRate { .. } => panic!("not about a file: {error}"),
    }
}

/// Amplitudes of the 440 Hz and 1,320 Hz tones and the SNR in dB of both against all the rest, by least squares over a
/// stretch away from the edges. Phase is free, so an encoder's delay does not matter.
fn analyse(samples: &[f32]) -> ([f64; 2], f64) {
    let (start, end) = (samples.len().min(7_500) / 5, samples.len() - samples.len().min(10_000) / 4);
    let basis = |n: usize| {
        let phase = std::f64::consts::TAU * n as f64 / 22_050.0;
        [(440.0 * phase).sin(), (440.0 * phase).cos(), (1320.0 * phase).sin(), (1320.0 * phase).cos()]
    };
    // Normal equations, solved by elimination.
    let mut system = [[0.0f64; 5]; 4];
    for (n, &sample) in samples.iter().enumerate().take(end).skip(start) {
        let row = basis(n);
        for i in 0..4 {
            for j in 0..4 {
                system[i][j] += row[i] * row[j];
            }
            system[i][4] += row[i] * f64::from(sample);
        }
    }
    for i in 0..4 {
        for k in i + 1..4 {
            let factor = system[k][i] / system[i][i];
            let (above, below) = system.split_at_mut(k);
            for (value, pivot) in below[0][i..].iter_mut().zip(&above[i][i..]) {
                *value -= factor * pivot;
            }
        }
    }
    let mut fit = [0.0; 4];
    for i in (0..4).rev() {
        let known: f64 = (i + 1..4).map(|j| system[i][j] * fit[j]).sum();
        fit[i] = (system[i][4] - known) / system[i][i];
    }
    let (mut signal, mut residual) = (0.0, 0.0);
    for (n, &sample) in samples.iter().enumerate().take(end).skip(start) {
        let tone: f64 = basis(n).iter().zip(fit).map(|(a, b)| a * b).sum();
        signal += tone * tone;
        residual += (f64::from(sample) - tone).powi(2);
    }
    ([fit[0].hypot(fit[1]), fit[2].hypot(fit[3])], 10.0 * (signal / residual).log10())
}

/// Name, seconds of sound, and the SNR in dB that the encoder leaves at least.
const BUILT_IN: [(&str, f64, f64); 36] = [
    ("s16.wav", 0.2, 80.0),
    ("s24.wav", 0.2, 120.0),
    ("f32.wav", 0.2, 120.0),
    ("u8.wav", 0.2, 35.0),
    ("adpcm_ms.wav", 0.277, 11.0),
    ("adpcm_ima.wav", 0.2777, 11.0),
    ("surround.wav", 0.1, 75.0),
    ("s16.aiff", 0.2, 80.0),
    ("s16.caf", 0.2, 80.0),
    ("stereo.flac", 0.1, 100.0),
    ("surround.flac", 0.2, 100.0),
    ("flac.oga", 0.2, 100.0),
    ("alac.m4a", 0.2, 100.0),
    ("alac.caf", 0.2, 100.0),
    ("mp2.mp2", 0.5, 25.0),
    ("cbr.mp3", 0.5, 70.0),
    ("vbr.mp3", 0.5, 40.0),
    ("no_xing.mp3", 0.5, 40.0),
    ("mpeg2.mp3", 0.5, 70.0),
    ("vorbis.ogg", 0.5, 38.0),
    ("opus.opus", 0.5, 38.0),
    ("mono.opus", 0.5, 18.0),
    ("aac.m4a", 0.5, 18.0),
    ("aac.aac", 0.5, 18.0),
    ("aac_22050.m4a", 0.5, 18.0),
    ("aac.mkv", 0.5, 18.0),
    ("opus.mkv", 0.5, 38.0),
    ("opus.mp4", 0.5, 38.0),
    ("opus.caf", 0.5, 38.0),
    ("film.mp4", 0.5, 18.0),
    ("faststart.mp4", 0.5, 18.0),
    ("fragmented.mp4", 0.5, 18.0),
    ("film.mov", 0.5, 18.0),
    ("film.mkv", 0.5, 70.0),
    ("opus.webm", 0.5, 38.0),
    ("vorbis.webm", 0.5, 38.0),
];

/// The same for what needs ffmpeg, and what its absence is called.
const NEEDS_FFMPEG: [(&str, f64, f64, &str); 9] = [
    ("surround.m4a", 0.5, 25.0, "AAC with 6 channels"),
    ("surround.opus", 0.5, 35.0, "Opus with 6 channels"),
    ("surround.ogg", 0.5, 35.0, "Vorbis with 6 channels"),
    ("ac3.ac3", 0.5, 60.0, "AC-3"),
    ("ac3.mkv", 0.5, 60.0, "AC-3"),
    ("wma.wma", 0.46, 40.0, "ASF (WMA, WMV)"),
    ("wavpack.wv", 0.2, 100.0, "WavPack"),
    ("aac.ts", 0.5, 18.0, "MPEG transport stream"),
    ("film.avi", 0.5, 70.0, "AVI"),
];

fn check_sound(name: &str, decoded: &Decoded, secs: f64, min_snr_db: f64) {
    assert_eq!(decoded.warnings, [], "{name}: a healthy file");
    let found_secs = decoded.samples.len() as f64 / 22_050.0;
    assert!((-0.005..0.06).contains(&(found_secs - secs)), "{name}: {found_secs} s");
    let (amplitudes, snr_db) = analyse(&decoded.samples);
    let expected = if name.starts_with("surround") { [0.1, 0.1] } else { [0.25, 0.125] };
    for (amplitude, expected) in amplitudes.iter().zip(expected) {
        // LAME attenuates by 5 % at low bit rates, ADPCM is coarse.
        assert!((amplitude / expected - 1.0).abs() < 0.06, "{name}: amplitude {amplitude}, expected {expected}");
    }
    assert!(snr_db > min_snr_db, "{name}: {snr_db:.1} dB");
}

#[test]
fn every_built_in_format_sounds_as_it_was_made() {
    for (name, secs, min_snr_db) in BUILT_IN {
        let decoded = decode_with(&fixtures().join(name), &no_ffmpeg()).expect(name);
        assert_eq!(decoded.decoder, Decoder::Symphonia, "{name}");
        check_sound(name, &decoded, secs, min_snr_db);
        let from_memory = decode_bytes(fixture(name), name).expect(name);
        assert!(decoded.samples == from_memory.samples, "{name}: a file and its bytes differ");
    }
}

#[test]
fn ffmpeg_decodes_the_rest() {
    if !has_ffmpeg("ffmpeg_decodes_the_rest") {
        return;
    }
    for (name, secs, min_snr_db, _) in NEEDS_FFMPEG {
        let decoded = decode_with(&fixtures().join(name), &Ffmpeg::default()).expect(name);
        assert_eq!(decoded.decoder, Decoder::Ffmpeg, "{name}");
        check_sound(name, &decoded, secs, min_snr_db);
    }
    // HE-AAC cannot be told from AAC at these rates, and symphonia would give half of its spectrum.
    let decoded = decode_with(&fixtures().join("aac_22050.m4a"), &Ffmpeg::default()).expect("decodes");
    assert_eq!(decoded.decoder, Decoder::Ffmpeg);
    check_sound("aac_22050.m4a", &decoded, 0.5, 18.0);
}

#[test]
fn without_ffmpeg_its_absence_is_told_by_name() {
    for (name, _, _, what) in NEEDS_FFMPEG {
        for result in [decode_with(&fixtures().join(name), &no_ffmpeg()), decode_bytes(fixture(name), name)] {
            let message = result.err().expect(name).to_string();
            assert!(message.contains(name) && message.contains("needs ffmpeg"), "{message}");
            assert!(message.replace("this kind of ", "").contains(what), "{message}");
        }
        let message = decode_with(&fixtures().join(name), &no_ffmpeg()).err().expect(name).to_string();
        assert!(message.contains("install ffmpeg"), "{message}");
    }
}

#[test]
fn both_decoders_agree() {
    if !has_ffmpeg("both_decoders_agree") {
        return;
    }
    // The same bytes, once as they are and once where symphonia does not look: in an MPEG transport stream.
    let ours = decode_with(&fixtures().join("aac.aac"), &no_ffmpeg()).expect("decodes").samples;
    let theirs = decode_with(&fixtures().join("aac.ts"), &Ffmpeg::default()).expect("decodes").samples;
    assert_eq!(ours.len(), theirs.len());
    let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-5, "{worst}");
}

#[test]
fn declared_durations_are_told() {
    for (name, declared) in [("s16.wav", Some(0.2)), ("cbr.mp3", Some(0.5)), ("vorbis.ogg", Some(0.5))] {
        assert_eq!(decode_with(&fixtures().join(name), &no_ffmpeg()).expect(name).declared_secs, declared, "{name}");
    }
    // Elementary streams declare nothing; a guess from the bit rate would make false warnings.
    for name in ["no_xing.mp3", "aac.aac", "mp2.mp2"] {
        assert_eq!(decode_with(&fixtures().join(name), &no_ffmpeg()).expect(name).declared_secs, None, "{name}");
    }
}

#[test]
fn truncated_files_give_what_they_hold_and_say_so() {
    // The part that is kept leaves even the shortest lack more than the slack.
    for (name, secs, part) in [
        ("s16.wav", 0.2, 0.1),
        ("s16.aiff", 0.2, 0.1),
        ("cbr.mp3", 0.5, 0.35),
        ("vbr.mp3", 0.5, 0.35),
        ("faststart.mp4", 0.52, 0.6),
    ] {
        let mut bytes = fixture(name);
        bytes.truncate((bytes.len() as f64 * part) as usize);
        let decoded = decode_bytes(bytes, name).expect(name);
        let found = decoded.samples.len() as f64 / 22_050.0;
        let told = decoded.warnings.iter().any(|warning| {
            matches!(warning, AudioWarning::Truncated { declared_secs, found_secs }
                if (declared_secs - secs).abs() < 0.01 && (found_secs - found).abs() < 0.01)
        });
        assert!(told && found < 0.7 * secs, "{name}: {found} s, {:?}", decoded.warnings);
    }
    // FLAC declares its length too; the fixture is one tenth of a second, so make the header declare more.
    let mut flac = fixture("stereo.flac");
    flac[23] = 1;
    flac.truncate(flac.len() * 2 / 3);
    let warnings = decode_bytes(flac, "cut.flac").expect("holds something").warnings;
    assert!(warnings.iter().any(|warning| matches!(warning, AudioWarning::Truncated { .. })), "{warnings:?}");
    // An MP4 whose index was at the lost end holds nothing that can be found.
    let mut bytes = fixture("film.mp4");
    bytes.truncate(bytes.len() / 2);
    let error = decode_bytes(bytes, "cut.mp4").err().expect("no index");
    assert!(error.to_string().starts_with("cut.mp4: is damaged"), "{error}");
}

/// A 16-bit PCM WAV header as it is given, then `data`.
fn wav(channels: u16, rate_hz: u32, declared_bytes: u32, data: &[u8]) -> Vec<u8> {
    let mut file = b"RIFF\xFF\xFF\xFF\xFFWAVEfmt \x10\0\0\0\x01\0".to_vec();
    file.extend(channels.to_le_bytes());
    file.extend(rate_hz.to_le_bytes());
    file.extend(rate_hz.wrapping_mul(2 * u32::from(channels)).to_le_bytes());
    file.extend((2 * channels).to_le_bytes());
    file.extend(16u16.to_le_bytes());
    file.extend(b"data");
    file.extend(declared_bytes.to_le_bytes());
    file.extend(data);
    file
}

fn float_wav(samples: &[f32]) -> Vec<u8> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 22_050,
        bits_per_sample: 32,
        sample_format: hound::SampleFormat::Float,
    };
    let mut bytes = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut bytes, spec).expect("in memory");
    for &sample in samples {
        writer.write_sample(sample).expect("in memory");
    }
    writer.finalize().expect("in memory");
    bytes.into_inner()
}

#[test]
fn unsound_samples_are_repaired_and_counted() {
    let mut samples = vec![0.5f32; 1000];
    samples[10] = f32::NAN;
    samples[20] = f32::NEG_INFINITY;
    samples[30] = 8024.0;
    samples[40] = -1.5;
    let decoded = decode_bytes(float_wav(&samples), "nan.wav").expect("decodes");
    assert_eq!(decoded.warnings, [AudioWarning::NonFinite { samples: 2 }, AudioWarning::Clamped { samples: 1 }]);
    assert_eq!([10, 20, 30, 40, 50].map(|n| decoded.samples[n]), [0.0, 0.0, CLAMP, -1.5, 0.5]);
}

#[test]
fn silence_and_short_clips_are_fine() {
    let decoded = decode_bytes(float_wav(&vec![0.0; 22_050]), "silence.wav").expect("decodes");
    assert_eq!((decoded.samples, decoded.warnings), (vec![0.0; 22_050], vec![]));
    let decoded = decode_bytes(float_wav(&[0.1; 2_205]), "short.wav").expect("decodes");
    assert_eq!(decoded.samples.len(), 2_205);
    let decoded = decode_bytes(wav(1, 48_000, 2, &[1, 2]), "one_sample.wav").expect("decodes");
    assert_eq!(decoded.samples.len(), 1);
}

#[test]
fn wavs_written_into_a_pipe_have_no_length_and_no_warning() {
    let data = [0u8, 16].repeat(44_100);
    for declared in [u32::MAX, 0x7FFF_F000, u32::MAX - 36] {
        let decoded = decode_bytes(wav(2, 44_100, declared, &data), "piped.wav").expect("decodes");
        assert_eq!((decoded.samples.len(), decoded.declared_secs, &decoded.warnings[..]), (11_025, None, &[][..]));
    }
}

#[test]
fn broken_headers_are_named() {
    let data = [0u8; 4_000];
    assert!(matches!(cause(decode_bytes(wav(0, 44_100, 4_000, &data), "a.wav")), AudioErrorCause::ZeroChannels));
    for rate_hz in [0, 999, 768_001, u32::MAX] {
        let cause = cause(decode_bytes(wav(1, rate_hz, 4_000, &data), "a.wav"));
        assert!(matches!(cause, AudioErrorCause::SampleRate { rate_hz: found } if found == rate_hz), "{cause}");
    }
    for rate_hz in [1_000, 768_000] {
        assert!(decode_bytes(wav(1, rate_hz, 4_000, &data), "a.wav").is_ok());
    }
    let cause_of_many = cause(decode_bytes(wav(10_000, 44_100, 4_000, &data), "a.wav"));
    assert!(matches!(cause_of_many, AudioErrorCause::TooManyChannels { channels: 10_000 }), "{cause_of_many}");
    let nothing = cause(decode_bytes(wav(1, 44_100, 0, &[]), "a.wav"));
    assert!(matches!(nothing, AudioErrorCause::NoSamples { corrupt_packets: 0 }), "{nothing}");
    assert!(matches!(cause(decode_bytes(Vec::new(), "a.wav")), AudioErrorCause::Empty));
    assert!(matches!(cause(decode_bytes(fixture("silent.mp4"), "a.mp4")), AudioErrorCause::NoAudioTrack));
}

#[test]
fn what_is_no_audio_is_refused_with_and_without_ffmpeg() {
    let folder = TempDir::new().expect("temporary folder");
    let text = folder.path().join("song.mp3");
    fs::write(&text, "hello, this is text and no music at all\n".repeat(500)).expect("writes");
    let message = decode_with(&text, &no_ffmpeg()).err().expect("no audio").to_string();
    assert!(message.contains("song.mp3: is not audio") && message.contains("install ffmpeg"), "{message}");
    if has_ffmpeg("what_is_no_audio_is_refused_with_and_without_ffmpeg") {
        let message = decode_with(&text, &Ffmpeg::default()).err().expect("no audio").to_string();
        assert!(message.contains("song.mp3: is not audio") && !message.contains("install ffmpeg"), "{message}");
        // A playlist names other files; it must not be followed.
        let playlist = folder.path().join("list.m3u8");
        let target = fixtures().join("aac.ts");
        let text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n", target.display());
        fs::write(&playlist, text).expect("writes");
        assert!(decode_with(&playlist, &Ffmpeg::default()).is_err());
    }
    // Machine code holds what looks like MPEG frames here and there.
    let mut noise = 1u32;
    let bytes = (0..300_000).map(|_| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 24) as u8
    });
    assert!(decode_bytes(bytes.collect(), "noise.bin").is_err());
}

#[test]
fn what_is_no_file_is_refused() {
    let folder = TempDir::new().expect("temporary folder");
    assert!(matches!(cause(decode_with(folder.path(), &no_ffmpeg())), AudioErrorCause::Directory));
    let missing = decode_with(&folder.path().join("missing.mp3"), &no_ffmpeg()).err().expect("missing").to_string();
    assert!(missing.contains("missing.mp3: cannot be read"), "{missing}");
    let empty = folder.path().join("empty.mp3");
    fs::write(&empty, "").expect("writes");
    assert!(matches!(cause(decode_with(&empty, &no_ffmpeg())), AudioErrorCause::Empty));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert!(matches!(cause(decode_with(Path::new("/dev/zero"), &no_ffmpeg())), AudioErrorCause::NotRegular));
        let secret = folder.path().join("secret.wav");
        fs::copy(fixtures().join("s16.wav"), &secret).expect("copies");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).expect("changes the mode");
        if fs::File::open(&secret).is_err() {
            assert!(matches!(cause(decode_with(&secret, &no_ffmpeg())), AudioErrorCause::Unreadable(_)));
        } else {
            eprintln!("SKIPPED the unreadable file: the superuser may read everything");
        }
    }
}

#[test]
#[cfg(unix)]
fn odd_names_stay_file_names() {
    use std::os::unix::ffi::OsStrExt;
    if !has_ffmpeg("odd_names_stay_file_names") {
        return;
    }
    let folder = TempDir::new().expect("temporary folder");
    for name in [&b"-i.wv"[..], b"http:.wv", b"a:b %d*?.wv", b"\xFF\xFE.wv", b"'\".wv"] {
        let path = folder.path().join(std::ffi::OsStr::from_bytes(name));
        fs::copy(fixtures().join("wavpack.wv"), &path).expect("copies");
        decode_with(&path, &Ffmpeg::default()).expect("decodes");
    }
}

/// A program that stands for ffmpeg.
#[cfg(unix)]
fn script(folder: &Path, body: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("ffmpeg.sh");
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("writes");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("changes the mode");
    path
}

#[test]
#[cfg(unix)]
fn a_silent_ffmpeg_is_ended() {
    let folder = TempDir::new().expect("temporary folder");
    let patience = Duration::from_millis(300);
    // Silent from the start, and silent after one sample: an AU header, then 1.0.
    let header = r"printf '.snd\0\0\0\030\377\377\377\377\0\0\0\006\0\0\126\042\0\0\0\001\077\200\0\0'";
    for body in [
        format!("echo $$ > {0}/pid; exec sleep 60", folder.path().display()),
        format!("echo $$ > {0}/pid; {header}; exec sleep 60", folder.path().display()),
    ] {
        let ffmpeg = Ffmpeg { program: script(folder.path(), &body), patience };
        let start = Instant::now();
        let message = decode_with(&fixtures().join("wavpack.wv"), &ffmpeg).err().expect("hangs").to_string();
        assert!(message.contains("ffmpeg gave nothing for"), "{message}");
        assert!(start.elapsed() < Duration::from_secs(20));
        let pid = fs::read_to_string(folder.path().join("pid")).expect("the script ran");
        assert!(!is_running(&pid), "process {pid} was left behind");
    }
}

#[cfg(unix)]
fn is_running(pid: &str) -> bool {
    std::process::Command::new("kill").args(["-0", pid.trim()]).output().is_ok_and(|output| output.status.success())
}

#[test]
#[cfg(unix)]
fn dropping_a_stream_ends_ffmpeg() {
    let folder = TempDir::new().expect("temporary folder");
    // Endless audio: the pipe is full, the program blocks, and nobody reads.
    let header = r"printf '.snd\0\0\0\030\377\377\377\377\0\0\0\006\0\0\126\042\0\0\0\001'";
    let body = format!("echo $$ > {}/pid; {header}; exec cat /dev/zero", folder.path().display());
    let ffmpeg = Ffmpeg { program: script(folder.path(), &body), patience: Duration::from_secs(20) };
    let mut stream = AudioStream::open_using(&fixtures().join("wavpack.wv"), &ffmpeg).expect("opens");
    assert!(stream.next_chunk().expect("zeros").is_some());
    let pid = fs::read_to_string(folder.path().join("pid")).expect("the script ran");
    assert!(is_running(&pid));
    drop(stream);
    assert!(!is_running(&pid), "process {pid} was left behind");
}

#[test]
#[cfg(unix)]
fn an_ffmpeg_that_dies_is_told() {
    let folder = TempDir::new().expect("temporary folder");
    let body = "echo 'wavpack.wv: no such codec' >&2; exit 1";
    let ffmpeg = Ffmpeg { program: script(folder.path(), body), patience: Duration::from_secs(20) };
    let message = decode_with(&fixtures().join("wavpack.wv"), &ffmpeg).err().expect("dies").to_string();
    assert!(message.contains("WavPack needs ffmpeg (ffmpeg says: wavpack.wv: no such codec)"), "{message}");

    let header = r"printf '.snd\0\0\0\030\377\377\377\377\0\0\0\006\0\0\126\042\0\0\0\001\077\200\0\0'";
    let body = format!("{header}; echo 'out of luck' >&2; exit 1");
    let ffmpeg = Ffmpeg { program: script(folder.path(), &body), patience: Duration::from_secs(20) };
    let decoded = decode_with(&fixtures().join("wavpack.wv"), &ffmpeg).expect("holds one sample");
    assert_eq!(decoded.samples, [1.0]);
    assert!(matches!(&decoded.warnings[..], [AudioWarning::StoppedEarly { reason, .. }] if reason.contains("luck")));
}

#[test]
fn a_rate_that_changes_within_a_file_keeps_the_time() {
    // Ogg streams one after the other: Vorbis at 44.1 kHz, then Opus at 48 kHz.
    let mut chained = fixture("vorbis.ogg");
    chained.extend(fixture("mono.opus"));
    let decoded = decode_bytes(chained, "chained.ogg").expect("decodes");
    let secs = decoded.samples.len() as f64 / 22_050.0;
    assert!((secs - 1.0).abs() < 0.03, "{secs} s");
    let (amplitudes, _) = analyse(&decoded.samples[..11_000]);
    assert!((amplitudes[0] - 0.25).abs() < 0.01);
}

#[test]
fn decoding_is_deterministic() {
    let path = fixtures().join("vbr.mp3");
    let (first, second) = (load(&path).expect("decodes").0, load(&path).expect("decodes").0);
    assert!(first.samples.iter().map(|x| x.to_bits()).eq(second.samples.iter().map(|x| x.to_bits())));
    assert_eq!(first.sample_rate_hz, 22_050);
}

#[test]
fn streams_can_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<AudioStream>();
    is_send::<Resampler>();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Any damage ends in samples or in an error, in bounded time, and never in a panic or an unsound sample.
    #[test]
    fn damaged_files_do_no_harm(
        which in 0..BUILT_IN.len(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in prop::option::of(any::<prop::sample::Index>()),
        at_start in any::<bool>(),
    ) {
        let name = BUILT_IN[which].0;
        let mut bytes = fixture(name);
        // Headers are short: half of the cases aim at them.
        let reach = if at_start { bytes.len().min(400) } else { bytes.len() };
        for (index, value) in damage {
            bytes[index.index(reach)] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(mut stream) = AudioStream::from_bytes(bytes, name) {
            let mut total = 0;
            while let Ok(Some(chunk)) = stream.next_chunk() {
                prop_assert!(chunk.iter().all(|sample| sample.abs() <= CLAMP));
                total += chunk.len();
                prop_assert!(total < 100_000_000, "endless");
            }
        }
    }
}
