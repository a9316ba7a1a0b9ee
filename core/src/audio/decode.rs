//! Decoding with symphonia, with fences around what a hostile file can make it do.

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once, OnceLock};

use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::well_known as codec;
use symphonia::core::codecs::audio::{AudioCodecId, AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::codecs::registry::CodecRegistry;
use symphonia::core::common::Limit;
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::{Hint, Probe, ProbeOptions};
use symphonia::core::formats::{FormatOptions, FormatReader, SeekMode, SeekTo, Track, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream, MediaSourceStreamOptions};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::Packet;
use symphonia::core::units::{Time, TimeBase};

use super::error::MAX_CHANNELS;
use super::resample::{MAX_RATE_HZ, MIN_RATE_HZ};
use super::sanitize::Sanitizer;
use super::sniff;
use super::{AudioErrorCause, Declared, FILE_ENDS, SourceReport};

/// Bytes that are searched for the start of a known format. Garbage before the first frame (a recorded stream, padding
/// behind a tag) is a few kilobytes; the further one searches, the more likely a chance match in what is no audio.
const PROBE_DEPTH: u32 = 256 << 10;
/// Bytes that opening a file, or reading one packet, may take from it. It bounds both the memory that a declared size can
/// claim (symphonia allocates as it reads) and the time of a search for the next packet. A film's index stays below.
pub(super) const READ_BUDGET: u64 = 128 << 20;
/// Packets without audio for us that may follow each other: video and subtitles, or a hostile endless list.
const MAX_DRY_PACKETS: u32 = 1 << 20;
/// Attempts to go on after the container itself was found damaged.
pub(super) const MAX_DEMUX_FAILURES: u32 = 64;
/// Samples over all channels that one packet may declare; the decoder's buffer has this size. FLAC's largest block has
/// 65,535 frames.
const MAX_PACKET_SAMPLES: u64 = 1 << 22;
/// How far before a place decoding begins, so that codecs whose packets build on each other have settled when it is
/// reached: Opus asks for 80 ms.
const PREROLL_SECS: f64 = 0.3;
/// How far before a place containers are asked to go, in turn: some land late (Matroska by a cluster, 5 s).
const SEEK_BACK_SECS: [f64; 2] = [PREROLL_SECS, 15.0];

/// Where encoded bytes come from.
pub(crate) trait Input: Read + Seek + Send + Sync + 'static {}
impl<T: Read + Seek + Send + Sync + 'static> Input for T {}

/// Why symphonia does not decode a file.
pub(crate) enum Refusal {
    /// Nothing can.
    Final(AudioErrorCause),
    /// The structure is damaged; another decoder may be more tolerant.
    Damaged(AudioErrorCause),
    /// No known format.
    Unknown,
    /// Known, but not decodable, or not decodable correctly.
    Unsupported {
        /// Codec in words.
        what: String,
        /// Position of the chosen track among the audio tracks.
        audio_track: usize,
    },
}

/// Encoded bytes -> mono samples at the native rate.
pub(crate) struct SymphoniaSource {
    reader: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track_id: u32,
    budget: Arc<AtomicU64>,
    file_len: u64,
    /// Decoded channels; reused for every packet.
    planes: Vec<Vec<f32>>,
    sanitizer: Sanitizer,
    declared: Option<Declared>,
    /// Sum of all packet sizes: an honest file holds every byte once.
    packet_bytes: u64,
    corrupt_packets: u64,
    demux_failures: u32,
    dry_packets: u32,
    good_packets: u64,
    stopped: Option<String>,
    he_aac_suspect: bool,
    audio_track: usize,
    timing: Timing,
    /// A packet that was read to find out where a seek has led.
    pending: Option<Packet>,
}

/// Where packets are on the timeline of what is decoded, whose zero is the first sample given.
#[derive(Clone, Copy, Debug, Default)]
struct Timing {
    base: Option<TimeBase>,
    /// The container's time at our zero. Codecs and containers differ in what they do to their first packets, so it is what the
    /// first blocks show.
    origin_secs: Option<f64>,
    /// Blocks since the start of a stream, as long as nothing was passed over, and the end of the last on the timeline.
    num_blocks: u32,
    end_secs: f64,
    /// What lies before this is passed over.
    wanted_secs: Option<f64>,
}

/// Blocks after which the origin is known.
const NUM_TIMED_BLOCKS: u32 = 4;

impl Timing {
    fn is_known(&self) -> bool {
        self.num_blocks >= NUM_TIMED_BLOCKS && self.origin_secs.is_some()
    }

    /// Begin and end of a packet by the container's clock, if it has one.
    fn stamps(&self, packet: &Packet) -> Option<(f64, f64)> {
        let base = self.base?;
        let start = base.calc_time(packet.pts.saturating_add(packet.trim_start))?.as_secs_f64();
        Some((start, start + base.calc_duration(packet.dur)?.as_secs_f64()))
    }

    /// Begin and end of a packet on the timeline, once the origin is known.
    fn place(&self, packet: &Packet) -> Option<(f64, f64)> {
        let origin = self.origin_secs.filter(|_| self.is_known())?;
        self.stamps(packet).map(|(start, end)| (start - origin, end - origin))
    }

    /// Takes a decoded block of so many seconds and returns where it begins.
    fn decoded(&mut self, packet: &Packet, secs: f64) -> f64 {
        let start = match self.place(packet) {
            Some((start, _)) => start,
            // Decoded from the start: what is counted is right.
            None => {
                self.origin_secs = self.stamps(packet).map(|(stamp, _)| stamp - self.end_secs);
                self.num_blocks += 1;
                self.end_secs
            }
        };
        self.end_secs = start + secs;
        start
    }

    /// A new stream follows, with stamps of its own.
    fn change(&mut self, base: Option<TimeBase>) {
        (self.base, self.origin_secs, self.num_blocks) = (base, None, 0);
    }
}

impl SymphoniaSource {
    /// Finds the format and the audio track and makes its decoder. `open` gives the bytes from their start.
    pub fn open<I: Input>(open: impl Fn() -> io::Result<I>) -> Result<Self, Refusal> {
        let unreadable = |error| Refusal::Final(AudioErrorCause::Unreadable(error));
        let mut input = open().map_err(unreadable)?;
        let file_len = input.seek(SeekFrom::End(0)).map_err(unreadable)?;
        if file_len == 0 {
            return Err(Refusal::Final(AudioErrorCause::Empty));
        }
        let head = sniff::read_head(&mut input, sniff::HEAD).map_err(unreadable)?;
        if let Some((channels, rate_hz)) = sniff::wav_header(&head) {
            check_spec(usize::from(channels), rate_hz).map_err(Refusal::Final)?;
        }
        // Told by their first bytes, because frames of MP3 or AAC inside of them look like a file of their own.
        if let Some(name) = sniff::unsupported_container(&head) {
            return Err(Refusal::Unsupported { what: name.to_owned(), audio_track: 0 });
        }
        let mpeg_declares_length = sniff::mpeg_declares_length(&mut input).map_err(unreadable)?;
        let patch = sniff::mp4_cut_media(&mut input, file_len).map_err(unreadable)?;
        input.seek(SeekFrom::Start(0)).map_err(unreadable)?;

        let budget = Arc::new(AtomicU64::new(READ_BUDGET));
        let bounded = |input, seekable| BoundedInput {
            input,
            len: file_len,
            position: 0,
            seekable,
            patch: patch.clone(),
            budget: Arc::clone(&budget),
        };
        let mut opened = probe_format(bounded(input, true));
        if matches!(&opened, Ok(Err(error)) if !is_unknown(error)) {
            // Some readers look for more behind the audio, or refuse what reaches beyond the end, and so give up on a
            // truncated file. Where they can neither seek nor know the length, they begin with what is there.
            budget.store(READ_BUDGET, Ordering::Relaxed);
            if let again @ Ok(Ok(_)) = probe_format(bounded(open().map_err(unreadable)?, false)) {
                opened = again;
            }
        }
        let damaged = |reason: &str| Refusal::Damaged(AudioErrorCause::Damaged { reason: reason.to_owned() });
        let reader = opened.map_err(|message| Refusal::Damaged(AudioErrorCause::Panic { message }))?.map_err(
            |error| match error {
                error if is_unknown(&error) && head.starts_with(b"OggS") => {
                    Refusal::Unsupported { what: "Ogg with an unusual codec".to_owned(), audio_track: 0 }
                }
                error if is_unknown(&error) => Refusal::Unknown,
                Error::Unsupported("isomp4: missing moov atom") => {
                    damaged("its index is missing, as in a download that broke off")
                }
                Error::Unsupported(what) if what.contains("missing") => damaged(what),
                Error::Unsupported(what) => Refusal::Unsupported { what: what.to_owned(), audio_track: 0 },
                Error::IoError(error) if is_end(&error) => damaged("the file ends inside its header"),
                Error::IoError(error) if !is_budget(&error) => unreadable(error),
                error => damaged(&error.to_string()),
            },
        )?;

        let chosen = choose_track(reader.as_ref())?;
        let declared = declared(reader.as_ref(), &chosen.track, file_len, mpeg_declares_length);
        Ok(Self {
            decoder: chosen.decoder,
            track_id: chosen.track.id,
            timing: Timing { base: chosen.track.time_base, ..Timing::default() },
            pending: None,
            he_aac_suspect: chosen.he_aac_suspect,
            audio_track: chosen.audio_track,
            reader,
            budget,
            file_len,
            planes: Vec::new(),
            sanitizer: Sanitizer::default(),
            declared,
            packet_bytes: 0,
            corrupt_packets: 0,
            demux_failures: 0,
            dry_packets: 0,
            good_packets: 0,
            stopped: None,
        })
    }

    /// Whether this is AAC at a rate that HE-AAC uses: its upper half would be missing.
    pub fn he_aac_suspect(&self) -> bool {
        self.he_aac_suspect
    }

    /// Position of the track among the audio tracks.
    pub fn audio_track(&self) -> usize {
        self.audio_track
    }

    pub fn declared(&self) -> Option<Declared> {
        self.declared
    }

    pub fn report(&self) -> SourceReport {
        SourceReport {
            sanitizer: self.sanitizer,
            corrupt_packets: self.corrupt_packets,
            good_packets: self.good_packets,
            stopped: self.stopped.clone(),
        }
    }

    /// Appends the samples of the next packet to `mono` and returns their rate in Hz; `None` at the end.
    pub fn next_block(&mut self, mono: &mut Vec<f32>) -> Result<Option<u32>, AudioErrorCause> {
        let rate_hz = self.next_planes()?;
        if rate_hz.is_some() {
            self.sanitizer.downmix_planar(&self.planes, mono);
        }
        Ok(rate_hz)
    }

    /// The same in stereo.
    pub fn next_stereo(&mut self, sides: &mut [Vec<f32>; 2]) -> Result<Option<u32>, AudioErrorCause> {
        let rate_hz = self.next_planes()?;
        if rate_hz.is_some() {
            self.sanitizer.downmix_stereo(&self.planes, sides);
        }
        Ok(rate_hz)
    }

    /// Goes to `secs` after the first sample, so that the next block begins there. False if the container cannot be led
    /// there; then nothing is lost but the place, and a source that is opened anew [passes over](Self::pass_over) what
    /// comes before.
    pub fn seek(&mut self, secs: f64) -> bool {
        // From the start one is there as soon, and whatever is done to first packets is done.
        if self.timing.base.is_none() || secs < 2.0 * PREROLL_SECS {
            return false;
        }
        self.timing.wanted_secs = None;
        while !self.timing.is_known() {
            if !matches!(self.next_planes(), Ok(Some(_))) {
                return false;
            }
        }
        let Some(origin) = self.timing.origin_secs else { return false };
        for back in SEEK_BACK_SECS {
            let Some(time) = Time::try_from_secs_f64((origin + secs - back).max(0.0)) else { return false };
            self.budget.store(READ_BUDGET, Ordering::Relaxed);
            let to = SeekTo::Time { time, track_id: Some(self.track_id) };
            if !matches!(contain(|| self.reader.seek(SeekMode::Accurate, to)), Ok(Ok(_))) {
                continue;
            }
            let packet = loop {
                match contain(|| self.reader.next_packet()) {
                    Ok(Ok(Some(packet))) if packet.track_id == self.track_id => break packet,
                    Ok(Ok(Some(_))) => {}
                    _ => return false,
                }
            };
            let early_enough = secs - PREROLL_SECS / 2.0;
            if self.timing.place(&packet).is_some_and(|(start, _)| start <= early_enough) {
                self.decoder.reset();
                self.pending = Some(packet);
                (self.stopped, self.packet_bytes) = (None, 0);
                self.timing.wanted_secs = Some(secs);
                return true;
            }
        }
        false
    }

    /// The next block begins `secs` after the first sample. What comes before is read, and of it only the last moment
    /// decoded.
    pub fn pass_over(&mut self, secs: f64) {
        self.timing.wanted_secs = Some(secs);
    }

    /// Decodes the next packet into `self.planes` and returns its rate in Hz; `None` at the end.
    fn next_planes(&mut self) -> Result<Option<u32>, AudioErrorCause> {
        while self.stopped.is_none() {
            self.budget.store(READ_BUDGET, Ordering::Relaxed);
            let pending = self.pending.take();
            let read = || pending.map_or_else(|| self.reader.next_packet(), |packet| Ok(Some(packet)));
            let packet = match contain(read).map_err(|message| AudioErrorCause::Panic { message })? {
                Ok(Some(packet)) => packet,
                Ok(None) => break,
                Err(Error::ResetRequired) => {
                    self.change_track();
                    continue;
                }
                Err(Error::IoError(error)) if is_end(&error) => {
                    // PCM has no packets that it could end in.
                    if !matches!(self.reader.format_info().short_name, "wave" | "aiff") {
                        self.stopped = Some(FILE_ENDS.to_owned());
                    }
                    break;
                }
                Err(Error::IoError(error)) if !is_budget(&error) => return Err(AudioErrorCause::Unreadable(error)),
                Err(Error::DecodeError(_)) if self.demux_failures < MAX_DEMUX_FAILURES => {
                    self.demux_failures += 1;
                    continue;
                }
                Err(error) => {
                    self.stopped = Some(error.to_string());
                    break;
                }
            };
            self.packet_bytes = self.packet_bytes.saturating_add(packet.data.len() as u64);
            self.dry_packets += 1;
            if self.packet_bytes > 2 * self.file_len + (1 << 20) || self.dry_packets > MAX_DRY_PACKETS {
                self.stopped = Some("the index lists the same data again and again".to_owned());
                break;
            }
            if packet.track_id != self.track_id {
                continue;
            }
            if let (Some(wanted), Some((_, end))) = (self.timing.wanted_secs, self.timing.place(&packet))
                && end < wanted - PREROLL_SECS
            {
                (self.dry_packets, self.timing.end_secs) = (0, end);
                continue;
            }
            let decoded = match contain(|| self.decoder.decode(&packet)) {
                Err(message) => return Err(AudioErrorCause::Panic { message }),
                Ok(Ok(decoded)) => decoded,
                Ok(Err(Error::DecodeError(_) | Error::IoError(_) | Error::ResetRequired)) => {
                    self.corrupt_packets += 1;
                    continue;
                }
                Ok(Err(error)) => {
                    self.stopped = Some(error.to_string());
                    break;
                }
            };
            if decoded.is_empty() {
                continue;
            }
            let rate_hz = decoded.spec().rate();
            check_spec(decoded.num_planes(), rate_hz)?;
            decoded.copy_to_vecs_planar(&mut self.planes);
            if self.good_packets == 0 {
                // What precedes the first audio is the cut end of something else (a recorded stream, an MP3 frame whose
                // data lies before the start), not damage that a listener would miss.
                self.corrupt_packets = 0;
            }
            self.good_packets += 1;
            self.dry_packets = 0;
            self.demux_failures = 0;
            if self.reaches_wanted(&packet, rate_hz) {
                return Ok(Some(rate_hz));
            }
        }
        Ok(None)
    }

    /// Cuts off what lies before the wanted place; false if nothing is left.
    fn reaches_wanted(&mut self, packet: &Packet, rate_hz: u32) -> bool {
        let num_frames = self.planes.first().map_or(0, Vec::len);
        let start = self.timing.decoded(packet, num_frames as f64 / f64::from(rate_hz));
        let Some(wanted) = self.timing.wanted_secs else { return true };
        let before = ((wanted - start) * f64::from(rate_hz)).round().max(0.0) as usize;
        if before >= num_frames {
            return false;
        }
        self.planes.iter_mut().for_each(|plane| drop(plane.drain(..before)));
        self.timing.wanted_secs = None;
        true
    }

    /// A new logical stream begins, as in chained Ogg files: choose again.
    fn change_track(&mut self) {
        match choose_track(self.reader.as_ref()) {
            Ok(chosen) => {
                self.decoder = chosen.decoder;
                self.track_id = chosen.track.id;
                self.timing.change(chosen.track.time_base);
                // The declared length was that of the first part.
                self.declared = None;
            }
            Err(Refusal::Unsupported { what, .. }) => self.stopped = Some(format!("the stream changes to {what}")),
            Err(Refusal::Final(cause) | Refusal::Damaged(cause)) => {
                self.stopped = Some(format!("the stream changes to one that {cause}"));
            }
            Err(Refusal::Unknown) => self.stopped = Some("the stream changes to an unknown codec".to_owned()),
        }
    }
}

/// Finds the format of `input` and reads its header; the outer error is the message of a panic.
pub(super) fn probe_format<I: Input>(input: BoundedInput<I>) -> Result<Result<Box<dyn FormatReader>, Error>, String> {
    let metadata = MetadataOptions::default()
        .limit_tag_bytes(Limit::Maximum(1 << 20))
        .limit_visual_bytes(Limit::Maximum(16 << 20));
    contain(|| {
        let stream = MediaSourceStream::new(Box::new(input), MediaSourceStreamOptions::default());
        // Symphonia goes by content; names lie too often.
        probe().probe(&Hint::new(), stream, FormatOptions::default(), metadata)
    })
}

struct Chosen {
    track: Track,
    decoder: Box<dyn AudioDecoder>,
    he_aac_suspect: bool,
    audio_track: usize,
}

/// The audio track that the container marks as default, else the first, with its decoder.
fn choose_track(reader: &dyn FormatReader) -> Result<Chosen, Refusal> {
    let tracks = reader.tracks();
    let Some(track) = reader.default_track(TrackType::Audio).or_else(|| reader.first_track(TrackType::Audio)) else {
        if tracks.iter().any(|track| track.codec_params.is_none()) {
            return Err(Refusal::Unsupported { what: "a track of an unknown codec".to_owned(), audio_track: 0 });
        }
        return Err(Refusal::Final(AudioErrorCause::NoAudioTrack));
    };
    let Some(CodecParameters::Audio(params)) = &track.codec_params else {
        return Err(Refusal::Final(AudioErrorCause::NoAudioTrack));
    };
    let audio_track = tracks
        .iter()
        .filter(|other| matches!(other.track_type(), Some(TrackType::Audio) | None))
        .position(|other| other.id == track.id)
        .unwrap_or(0);

    let channels = params.channels.as_ref().map(symphonia::core::audio::Channels::count);
    if let Some(rate_hz) = params.sample_rate {
        check_spec(channels.unwrap_or(1), rate_hz).map_err(Refusal::Final)?;
    }
    let declared_samples = params.max_frames_per_packet.unwrap_or(0).saturating_mul(channels.unwrap_or(1) as u64);
    if declared_samples > MAX_PACKET_SAMPLES {
        let what = format!("packets of {declared_samples} samples");
        return Err(Refusal::Final(AudioErrorCause::Absurd { what }));
    }

    let what = || describe(params, channels);
    // More than two channels of Vorbis decode, but into each other.
    if params.codec == codec::CODEC_ID_VORBIS && channels.is_some_and(|count| count > 2) {
        return Err(Refusal::Unsupported { what: what(), audio_track });
    }
    let params = &with_opus_pre_skip(params, reader.format_info().short_name);
    let decoder = contain(|| codecs().make_audio_decoder(params, &AudioDecoderOptions::default()))
        .map_err(|message| Refusal::Damaged(AudioErrorCause::Panic { message }))?
        .map_err(|error| match error {
            Error::Unsupported(_) => Refusal::Unsupported { what: what(), audio_track },
            error => Refusal::Damaged(AudioErrorCause::Damaged { reason: error.to_string() }),
        })?;
    let he_aac_suspect = params.codec == codec::CODEC_ID_AAC && params.sample_rate.is_some_and(|rate| rate <= 24_000);
    Ok(Chosen { track: track.clone(), decoder, he_aac_suspect, audio_track })
}

/// MP4 stores Opus' pre-skip as big-endian; the demuxer passes it on as it is where the decoder expects the little-endian
/// header of Ogg, and would drop the whole first packet.
fn with_opus_pre_skip(params: &AudioCodecParameters, format: &str) -> AudioCodecParameters {
    let mut params = params.clone();
    if params.codec == codec::CODEC_ID_OPUS
        && format == "isomp4"
        && let Some(pre_skip) = params.extra_data.as_deref_mut().and_then(|head| head.get_mut(10..12))
    {
        pre_skip.reverse();
    }
    params
}

fn check_spec(channels: usize, rate_hz: u32) -> Result<(), AudioErrorCause> {
    if channels == 0 {
        Err(AudioErrorCause::ZeroChannels)
    } else if channels > MAX_CHANNELS {
        Err(AudioErrorCause::TooManyChannels { channels })
    } else if !(MIN_RATE_HZ..=MAX_RATE_HZ).contains(&rate_hz) {
        Err(AudioErrorCause::SampleRate { rate_hz })
    } else {
        Ok(())
    }
}

/// What the container says of the duration, where it says rather than guesses.
fn declared(reader: &dyn FormatReader, track: &Track, file_len: u64, mpeg_declares_length: bool) -> Option<Declared> {
    let Some(CodecParameters::Audio(params)) = &track.codec_params else { return None };
    let format = reader.format_info().short_name;
    let is_mpeg = matches!(params.codec, codec::CODEC_ID_MP1 | codec::CODEC_ID_MP2 | codec::CODEC_ID_MP3);
    let is_elementary = reader.tracks().len() == 1 && (is_mpeg || params.codec == codec::CODEC_ID_AAC);
    // Elementary streams carry no duration; symphonia extrapolates one from the first frames.
    if is_elementary && ["mp1", "mp2", "mp3", "aac", "adts"].contains(&format) && !(is_mpeg && mpeg_declares_length) {
        return None;
    }
    let of_track = track.time_base.zip(track.duration).and_then(|(base, duration)| base.calc_duration(duration));
    let of_frames = track.num_frames.zip(params.sample_rate).map(|(frames, rate)| frames as f64 / f64::from(rate));
    let media = reader.media_info();
    let of_media = media.time_base.zip(media.duration).and_then(|(base, duration)| base.calc_duration(duration));
    let sound = |secs: &f64| *secs > 0.0 && secs.is_finite();
    let of_track = of_track.map(|time| time.as_secs_f64()).filter(sound).or(of_frames.filter(sound));
    // ALAC in CAF counts whole packets of 4,096 frames.
    let packet_secs = if params.codec == codec::CODEC_ID_ALAC { 4_096.0 / f64::from(params.sample_rate?) } else { 0.0 };
    let of_media = of_media.map(|time| time.as_secs_f64()).filter(sound);
    let declared = match of_track {
        Some(secs) => Declared::of_track(secs, packet_secs),
        None if reader.tracks().len() > 1 => Declared::of_whole_file(of_media?),
        None => Declared::of_track(of_media?, packet_secs),
    };
    // Programs that write WAV into a pipe cannot know the size and write about 2^31 or 2^32 bytes.
    let pcm_bytes_per_sec = f64::from(params.sample_rate?)
        * params.channels.as_ref().map_or(1, symphonia::core::audio::Channels::count) as f64
        * f64::from(params.bits_per_sample.unwrap_or(8))
        / 8.0;
    let is_piped = format == "wave" && file_len < 0x7FFF_0000 && declared.secs * pcm_bytes_per_sec >= 2_147_400_000.0;
    (!is_piped).then_some(declared)
}

/// Codec and channels in words.
fn describe(params: &AudioCodecParameters, channels: Option<usize>) -> String {
    let name = codec_name(params.codec);
    match channels {
        Some(count) if count > 2 => format!("{name} with {count} channels"),
        _ => name.to_owned(),
    }
}

fn codec_name(id: AudioCodecId) -> &'static str {
    match id {
        codec::CODEC_ID_AAC => "this kind of AAC",
        codec::CODEC_ID_OPUS => "Opus",
        codec::CODEC_ID_VORBIS => "Vorbis",
        codec::CODEC_ID_AC3 => "AC-3",
        codec::CODEC_ID_EAC3 => "E-AC-3",
        codec::CODEC_ID_AC4 => "AC-4",
        codec::CODEC_ID_DCA => "DTS",
        codec::CODEC_ID_TRUEHD => "TrueHD",
        codec::CODEC_ID_WMA => "WMA",
        codec::CODEC_ID_WAVPACK => "WavPack",
        codec::CODEC_ID_MONKEYS_AUDIO => "Monkey's Audio",
        codec::CODEC_ID_TTA => "True Audio",
        codec::CODEC_ID_SPEEX => "Speex",
        codec::CODEC_ID_MUSEPACK => "Musepack",
        codec::CODEC_ID_ADPCM_G722 | codec::CODEC_ID_ADPCM_G726 | codec::CODEC_ID_ADPCM_G726LE => "G.72x",
        _ => "its codec",
    }
}

fn probe() -> &'static Probe {
    static PROBE: OnceLock<Probe> = OnceLock::new();
    PROBE.get_or_init(|| {
        // The options cannot be built field by field outside their crate.
        #[allow(clippy::field_reassign_with_default)]
        let options = {
            let mut options = ProbeOptions::default();
            options.max_probe_depth = PROBE_DEPTH;
            options
        };
        let mut probe = Probe::new_with_options(&options);
        symphonia::default::register_enabled_formats(&mut probe);
        probe
    })
}

fn codecs() -> &'static CodecRegistry {
    static CODECS: OnceLock<CodecRegistry> = OnceLock::new();
    CODECS.get_or_init(|| {
        let mut codecs = CodecRegistry::new();
        symphonia::default::register_enabled_codecs(&mut codecs);
        codecs.register_audio_decoder::<symphonia_adapter_libopus::OpusDecoder>();
        codecs
    })
}

/// Whether no format was recognised, as opposed to one that is recognised and refused.
fn is_unknown(error: &Error) -> bool {
    matches!(error, Error::Unsupported(what) if what.starts_with("core (probe)"))
}

pub(super) fn is_end(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}

fn is_budget(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<BudgetSpent>)
}

/// Marks the error of a [`BoundedInput`] that gave all it may.
#[derive(Debug, thiserror::Error)]
#[error("a header or packet larger than {} MB", READ_BUDGET >> 20)]
struct BudgetSpent;

/// An input that gives a limited number of bytes until its budget is renewed.
pub(super) struct BoundedInput<I> {
    pub(super) input: I,
    pub(super) len: u64,
    pub(super) position: u64,
    pub(super) seekable: bool,
    /// Bytes to give in place of those in the file.
    pub(super) patch: Option<sniff::Patch>,
    pub(super) budget: Arc<AtomicU64>,
}

impl<I: Input> Read for BoundedInput<I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.budget.load(Ordering::Relaxed);
        if left == 0 {
            return Err(io::Error::other(BudgetSpent));
        }
        let count = self.input.read(buffer)?;
        self.budget.store(left.saturating_sub(count as u64), Ordering::Relaxed);
        if let Some(patch) = &self.patch {
            for (&byte, offset) in patch.bytes.iter().zip(patch.offset..) {
                if let Some(place) = offset.checked_sub(self.position).filter(|&place| place < count as u64) {
                    buffer[place as usize] = byte;
                }
            }
        }
        self.position += count as u64;
        Ok(count)
    }
}

impl<I: Input> Seek for BoundedInput<I> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = self.input.seek(to)?;
        Ok(self.position)
    }
}

impl<I: Input> MediaSource for BoundedInput<I> {
    fn is_seekable(&self) -> bool {
        self.seekable
    }

    fn byte_len(&self) -> Option<u64> {
        self.seekable.then_some(self.len)
    }
}

thread_local! {
    /// Set while this thread runs a decoder whose panics are caught.
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f`; a panic inside becomes its message, and is not printed.
pub(super) fn contain<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // A panic that is caught and reported must not write over a progress display or stop a fuzzer.
            if !CONTAINED.get() {
                previous(info);
            }
        }));
    });
    let outer = CONTAINED.replace(true);
    // What the closure touched is dropped after a panic: every caller turns the error into the end of its stream.
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    CONTAINED.set(outer);
    result.map_err(|payload| {
        let message = payload
            .downcast_ref::<&str>()
            .map(|message| (*message).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned());
        message.unwrap_or_else(|| "no message".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn panics_are_contained() {
        assert_eq!(contain(|| 7), Ok(7));
        let message = contain(|| -> () { panic!("index {} out of bounds", 3) }).expect_err("caught");
        assert_eq!(message, "index 3 out of bounds");
        assert!(!CONTAINED.get());
    }

    #[test]
    fn the_budget_ends_a_read_and_can_be_renewed() {
        let budget = Arc::new(AtomicU64::new(10));
        let patch = Some(sniff::Patch { offset: 8, bytes: vec![7; 4] });
        let input = Cursor::new(vec![1u8; 100]);
        let mut input =
            BoundedInput { input, len: 100, position: 0, seekable: true, patch, budget: Arc::clone(&budget) };
        let mut buffer = [0; 10];
        assert_eq!(input.read(&mut buffer).expect("within the budget"), 10);
        assert!(is_budget(&input.read(&mut buffer).expect_err("spent")));
        budget.store(5, Ordering::Relaxed);
        assert_eq!(input.read(&mut buffer[..3]).expect("renewed"), 3);
        assert_eq!(buffer, [7, 7, 1, 1, 1, 1, 1, 1, 7, 7]);
    }
}
