//! What an adaptation is made from, and whether it is fit for that.
//!
//! ```text
//! clean music, files --+-> decoded, an even share of each --> Recordings --+-> Figures --> Findings, each with its advice
//! room, files ---------+                                                   +-> blocks of 16 s: train | valid | test
//! ```
//!
//! Nothing of it is labelled, and nothing leaves the machine.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::control::{Control, Stop};
use crate::audio::{AudioStream, TonalityMeter};
use crate::tags::SILENCE_PEAK;
use crate::{SAMPLE_RATE_HZ, WINDOW_SAMPLES};

/// Most audio of a side that is used, in seconds: more adds little and costs memory (5 MB per minute).
pub const MAX_SIDE_SECS: f64 = 20.0 * 60.0;

/// Least audible sound of a side, in seconds: five blocks, so that each part has one.
pub const MIN_SIDE_SECS: f64 = 5.0 * BLOCK_SAMPLES as f64 / SAMPLE_RATE_HZ as f64;

/// Sound of a side below which more is advised, in seconds.
const ADVISED_SECS: f64 = 180.0;

/// Samples of a block: six windows, 16 s. Neighbouring blocks of a recording share no window.
pub const BLOCK_SAMPLES: usize = 6 * WINDOW_SAMPLES;

/// Shortest share of a file that is taken, in seconds: two blocks.
const MIN_SHARE_SECS: f64 = 2.0 * BLOCK_SAMPLES as f64 / SAMPLE_RATE_HZ as f64;

/// Samples of a moment, 46 ms: of these it is counted how many are silent or clipped.
const MOMENT_SAMPLES: usize = 1_024;

/// Magnitude from which on a moment counts as clipped.
const CLIPPED: f32 = 0.99;

/// Share of clipped moments of the room from which on a lower level is advised, and from which on it is refused.
const CLIPPED_ADVISED: f64 = 0.02;
const CLIPPED_REFUSED: f64 = 0.5;

/// Median tonal share from which on a room is pure tones: they reach .59, the most that lies in the peaks' own bins. Of 30
/// clips of the open corpus' music the most tonal has .47.
const PURE_TONES: f64 = 0.52;

/// Share of the room's windows that are as tonal as three quarters of the clean music, from which on the room is music. By
/// itself music has about .75 there, on the open corpus .5 to .85 between one album and another; music under talk 10 dB softer
/// has at most .48, helicopters .2, talk and rain nothing.
const MUSIC_SHARE: f64 = 0.5;

/// Music without notes, drums alone, says nothing of what a room sounds like: the clean music counts as at least so tonal.
const LEAST_MUSICAL: f64 = 0.1;

/// Least correlation of two loudness curves of 10 s that only the same sound has.
const SAME_SOUND: f32 = 0.97;

/// One of the two sounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The user's music, as it is on the record.
    Clean,
    /// The room.
    Room,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clean => "clean music",
            Self::Room => "room",
        })
    }
}

/// A piece of one file.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// The file's name.
    pub name: String,
    /// Mono at 22,050 Hz.
    pub samples: Vec<f32>,
}

impl Recording {
    /// Length in seconds.
    pub fn secs(&self) -> f64 {
        self.samples.len() as f64 / f64::from(SAMPLE_RATE_HZ)
    }
}

/// Both sides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Material {
    /// The user's music.
    pub clean: Vec<Recording>,
    /// The room.
    pub room: Vec<Recording>,
}

/// Reads at most `max_secs` of `files`: an even share from the middle of each; where there are too many for that, of every
/// n-th, and of those between them as long as there is room. Files that cannot be read are passed over and told.
///
/// # Errors
/// If it is to stop.
pub fn read(
    files: &[PathBuf],
    max_secs: f64,
    control: &Control,
    progress: &mut dyn FnMut(f64),
) -> Result<(Vec<Recording>, Vec<String>), Stop> {
    let most = ((max_secs / MIN_SHARE_SECS) as usize).max(1);
    let every = files.len().div_ceil(most).max(1);
    let order = (0..every).flat_map(|first| files.iter().skip(first).step_by(every));
    let (mut recordings, mut told, mut read_secs) = (Vec::new(), Vec::new(), 0.0);
    for (index, path) in order.enumerate() {
        control.look()?;
        let left_secs = max_secs - read_secs;
        if left_secs < WINDOW_SAMPLES as f64 / f64::from(SAMPLE_RATE_HZ) {
            break;
        }
        // What short files leave over goes to those after them.
        let even_secs = left_secs / (files.len() - index) as f64;
        match read_file(path, even_secs.max(MIN_SHARE_SECS).min(left_secs)) {
            Ok(recording) => {
                read_secs += recording.secs();
                progress(read_secs);
                recordings.push(recording);
            }
            Err(cause) => told.push(cause),
        }
    }
    Ok((recordings, told))
}

/// At most `max_secs` from the middle of a file, as far as its length is known.
fn read_file(path: &Path, max_secs: f64) -> Result<Recording, String> {
    let mut audio = AudioStream::open(path).map_err(|error| error.to_string())?;
    let most = (max_secs * f64::from(SAMPLE_RATE_HZ)) as usize;
    let before = audio.declared_secs().map_or(0.0, |declared| ((declared - max_secs) / 2.0).max(0.0));
    let mut skip = (before * f64::from(SAMPLE_RATE_HZ)) as usize;
    let mut samples = Vec::new();
    while samples.len() < most {
        let Some(chunk) = audio.next_chunk().map_err(|error| error.to_string())? else { break };
        let passed = skip.min(chunk.len());
        skip -= passed;
        samples.extend_from_slice(&chunk[passed..]);
    }
    samples.truncate(most);
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Ok(Recording { name, samples })
}

/// What a block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Networks learn from it.
    Train,
    /// Says when to stop, and how a logit is read.
    Valid,
    /// Nothing is learnt from it: before and after are measured here.
    Test,
}

/// Turn in which blocks are given to the parts.
const PARTS: [Part; 5] = [Part::Train, Part::Valid, Part::Train, Part::Test, Part::Train];

/// A stretch of a recording, at least one window long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Index of the recording.
    pub recording: usize,
    /// First sample.
    pub start: usize,
    /// Number of samples.
    pub len: usize,
    /// What it is for.
    pub part: Part,
}

impl Block {
    /// Its samples.
    pub fn samples<'r>(&self, recordings: &'r [Recording]) -> &'r [f32] {
        &recordings[self.recording].samples[self.start..self.start + self.len]
    }
}

/// Divides recordings into blocks for the three parts. Whole recordings are kept apart where there are enough of them,
/// so that no piece of music is in two parts; else blocks of time are. Silent blocks are left out.
pub fn divide(recordings: &[Recording]) -> Vec<Block> {
    let cut = |part: &dyn Fn(usize, usize) -> Part| {
        let mut blocks = Vec::new();
        for (recording, Recording { samples, .. }) in recordings.iter().enumerate() {
            for start in (0..samples.len()).step_by(BLOCK_SAMPLES) {
                let len = BLOCK_SAMPLES.min(samples.len() - start);
                let audible = samples[start..start + len].iter().any(|sample| sample.abs() >= SILENCE_PEAK);
                if len >= WINDOW_SAMPLES && audible {
                    let part = part(recording, blocks.len());
                    blocks.push(Block { recording, start, len, part });
                }
            }
        }
        blocks
    };
    let by_recording = cut(&|recording, _| PARTS[recording % PARTS.len()]);
    let share = |part: Part| {
        let len = |blocks: &[Block]| blocks.iter().map(|block| block.len).sum::<usize>() as f64;
        let own: Vec<Block> = by_recording.iter().filter(|block| block.part == part).copied().collect();
        len(&own) / len(&by_recording).max(1.0)
    };
    if [Part::Train, Part::Valid, Part::Test].into_iter().all(|part| share(part) >= 0.1) {
        by_recording
    } else {
        cut(&|_, index| PARTS[index % PARTS.len()])
    }
}

/// What is known of a side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SideFigures {
    /// Number of recordings.
    pub recordings: usize,
    /// Seconds.
    pub secs: f64,
    /// Seconds in which there is sound.
    pub audible_secs: f64,
    /// Share of the moments of sound that reach full scale.
    pub clipped_share: f64,
    /// Tonal share of the energy ([`TonalityMeter`]): the median over windows.
    pub tonality: f64,
    /// The same, of which three quarters of the windows have more.
    pub tonality_low: f64,
}

/// A rule that the material breaks or a wish that it leaves open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Whether nothing is to be learnt from it.
    pub refuses: bool,
    /// What there is, and what helps.
    pub text: String,
}

/// What is known of both sides, and what follows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MaterialReport {
    /// Of the clean music.
    pub clean: SideFigures,
    /// Of the room.
    pub room: SideFigures,
    /// Share of the room's windows that are as tonal as three quarters of the clean music.
    pub musical_share: f64,
    /// Share of the places looked at whose sound is on both sides.
    pub shared_share: f64,
    /// Refusals first.
    pub findings: Vec<Finding>,
}

impl MaterialReport {
    /// Looks at the material.
    ///
    /// # Errors
    /// If it is to stop.
    pub fn new(material: &Material, control: &Control) -> Result<Self, Stop> {
        let (clean, _) = figures(&material.clean, control)?;
        let (room, room_tonality) = figures(&material.room, control)?;
        let bar = clean.tonality_low.max(LEAST_MUSICAL);
        let as_tonal = room_tonality.iter().filter(|&&tonality| f64::from(tonality) >= bar);
        let musical_share = as_tonal.count() as f64 / room_tonality.len().max(1) as f64;
        let (shared_share, shared_names) = shared(&material.clean, &material.room, control)?;
        let mut report = Self { clean, room, musical_share, shared_share, findings: Vec::new() };
        report.judge(&shared_names);
        for (side, recordings) in [(Side::Clean, &material.clean), (Side::Room, &material.room)] {
            let blocks = divide(recordings);
            let has = |part| blocks.iter().any(|block| block.part == part);
            let is_divided = has(Part::Train) && has(Part::Valid) && has(Part::Test);
            if !report.refuses() && !is_divided {
                let text = format!(
                    "{side}: too few pieces are as long as a window, {:.1} s; use longer recordings",
                    WINDOW_SAMPLES as f64 / f64::from(SAMPLE_RATE_HZ)
                );
                report.findings.insert(0, Finding { refuses: true, text });
            }
        }
        Ok(report)
    }

    /// Whether it is refused.
    pub fn refuses(&self) -> bool {
        self.findings.iter().any(|finding| finding.refuses)
    }

    fn judge(&mut self, shared_names: &[String]) {
        let mut findings = Vec::new();
        let mut find = |refuses: bool, text: String| findings.push(Finding { refuses, text });
        for (side, figures) in [(Side::Clean, &self.clean), (Side::Room, &self.room)] {
            let SideFigures { secs, audible_secs, .. } = *figures;
            let more = match side {
                Side::Clean => "name a folder with more of your music",
                Side::Room => "record the room for longer",
            };
            if secs < MIN_SIDE_SECS {
                find(true, format!("{side}: {secs:.0} s, and at least {MIN_SIDE_SECS:.0} s are needed; {more}"));
            } else if audible_secs < MIN_SIDE_SECS {
                find(
                    true,
                    format!(
                        "{side}: {:.0} of {secs:.0} s are silent, and {MIN_SIDE_SECS:.0} s of sound are needed; {}",
                        secs - audible_secs,
                        match side {
                            Side::Clean => "choose other music",
                            Side::Room => "is the microphone muted, or another one chosen?",
                        }
                    ),
                );
            } else if audible_secs < ADVISED_SECS {
                find(
                    false,
                    format!("{side}: {audible_secs:.0} s of sound; with five minutes the result is surer: {more}"),
                );
            }
        }
        let clipped = self.room.clipped_share;
        if clipped >= CLIPPED_REFUSED {
            find(
                true,
                format!(
                    "room: {:.0} % of it is clipped, so its sound is not the room's; turn the input down and record again",
                    100.0 * clipped
                ),
            );
        } else if clipped >= CLIPPED_ADVISED {
            find(false, format!("room: {:.0} % of it is clipped; turn the input down the next time", 100.0 * clipped));
        }
        if self.shared_share > 0.1 {
            find(
                true,
                format!(
                    "the same sound is on both sides ({:.0} % of the room, in {}): it cannot be clean and noisy at once; \
                     take it out of one of them",
                    100.0 * self.shared_share,
                    some(shared_names)
                ),
            );
        }
        if self.room.tonality >= PURE_TONES {
            find(
                true,
                format!(
                    "room: {:.0} % of its energy are tones that stand still; that is a test signal, a hum or a whistle of \
                     the equipment, not a room. Remove its cause and record again",
                    100.0 * self.room.tonality
                ),
            );
        } else if self.musical_share >= MUSIC_SHARE && self.shared_share <= 0.1 {
            find(
                true,
                format!(
                    "room: {:.0} % of it is as tonal as most of your music (tonal share {:.2}, your music {:.2}): this is music \
                     rather than a room. Record while none plays, or from where the audience stands",
                    100.0 * self.musical_share,
                    self.room.tonality,
                    self.clean.tonality
                ),
            );
        }
        findings.sort_by_key(|finding| !finding.refuses);
        self.findings = findings;
    }
}

/// The first of some names.
fn some(names: &[String]) -> String {
    let more = if names.len() > 3 { format!(" and {} more", names.len() - 3) } else { String::new() };
    names[..names.len().min(3)].join(", ") + &more
}

/// Figures of a side, and the tonal share of each of its windows.
fn figures(recordings: &[Recording], control: &Control) -> Result<(SideFigures, Vec<f32>), Stop> {
    let (mut audible, mut clipped, mut tonality) = (0_u64, 0_u64, Vec::new());
    for Recording { samples, .. } in recordings {
        control.look()?;
        for moment in samples.chunks(MOMENT_SAMPLES) {
            let peak = moment.iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
            audible += if peak >= SILENCE_PEAK { moment.len() as u64 } else { 0 };
            clipped += if peak >= CLIPPED { moment.len() as u64 } else { 0 };
        }
        let mut meter = TonalityMeter::new();
        for window in samples.chunks(WINDOW_SAMPLES) {
            meter.push(window);
            let found = meter.take();
            if window.iter().any(|sample| sample.abs() >= SILENCE_PEAK) {
                tonality.extend(found);
            }
        }
    }
    tonality.sort_by(f32::total_cmp);
    let quantile = |of: usize| f64::from(tonality.get(tonality.len() / of).copied().unwrap_or(0.0));
    let figures = SideFigures {
        recordings: recordings.len(),
        // Adding zero: an empty sum of f64 is minus zero, and would be shown so.
        secs: recordings.iter().map(Recording::secs).sum::<f64>() + 0.0,
        audible_secs: audible as f64 / f64::from(SAMPLE_RATE_HZ),
        clipped_share: clipped as f64 / (audible as f64).max(1.0),
        tonality: quantile(2),
        tonality_low: quantile(4),
    };
    Ok((figures, tonality))
}

/// Points of a loudness curve: one per 23 ms, each over 93 ms, so that where the first one begins hardly matters.
const CURVE_HOP: usize = 512;
const CURVE_LEN: usize = 2_048;
/// Points compared: 10 s.
const PROBE: usize = 430;
/// Places of the room that are looked for in the clean music.
const NUM_PROBES: usize = 16;
/// Least standard deviation of a curve that tells sounds apart, in dB.
const MIN_SPREAD_DB: f32 = 1.0;

/// Share of the places looked at in `room` that sound in `clean` too, and the names of their recordings.
fn shared(clean: &[Recording], room: &[Recording], control: &Control) -> Result<(f64, Vec<String>), Stop> {
    let clean_curves: Vec<Vec<f32>> = clean.iter().map(|recording| curve(&recording.samples)).collect();
    let room_curves: Vec<Vec<f32>> = room.iter().map(|recording| curve(&recording.samples)).collect();
    let places: Vec<(usize, usize)> = room_curves
        .iter()
        .enumerate()
        .flat_map(|(recording, curve)| (0..curve.len() / PROBE).map(move |index| (recording, index * PROBE)))
        .collect();
    let every = places.len().div_ceil(NUM_PROBES).max(1);
    let (mut looked, mut found, mut names) = (0_u32, 0_u32, Vec::new());
    for &(recording, start) in places.iter().step_by(every) {
        control.look()?;
        let probe = &room_curves[recording][start..start + PROBE];
        if spread(probe) < MIN_SPREAD_DB {
            continue;
        }
        looked += 1;
        let best = clean_curves.iter().map(|curve| best_correlation(curve, probe)).fold(0.0, f32::max);
        if best >= SAME_SOUND {
            found += 1;
            if !names.contains(&room[recording].name) {
                names.push(room[recording].name.clone());
            }
        }
    }
    Ok((f64::from(found) / f64::from(looked.max(1)), names))
}

/// Loudness over time in dB, not under -60 of full scale.
fn curve(samples: &[f32]) -> Vec<f32> {
    let pieces: Vec<f32> = samples.chunks(CURVE_HOP).map(|piece| piece.iter().map(|x| x * x).sum()).collect();
    let per_point = CURVE_LEN / CURVE_HOP;
    pieces
        .windows(per_point)
        .map(|sums| 10.0 * (sums.iter().sum::<f32>() / CURVE_LEN as f32).max(1e-6).log10())
        .collect()
}

fn spread(curve: &[f32]) -> f32 {
    let mean = curve.iter().sum::<f32>() / curve.len() as f32;
    (curve.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / curve.len() as f32).sqrt()
}

/// Highest correlation of `probe` with a stretch of `curve`.
fn best_correlation(curve: &[f32], probe: &[f32]) -> f32 {
    let len = probe.len() as f32;
    let mean = probe.iter().sum::<f32>() / len;
    let centred: Vec<f32> = probe.iter().map(|x| x - mean).collect();
    let norm = centred.iter().map(|x| x * x).sum::<f32>().sqrt();
    let mut best = 0.0_f32;
    for stretch in curve.windows(probe.len()) {
        // The mean of the stretch drops out of the product: the probe's is zero.
        let (mut product, mut sum, mut squares) = (0.0_f32, 0.0_f32, 0.0_f32);
        for (x, y) in stretch.iter().zip(&centred) {
            product += x * y;
            sum += x;
            squares += x * x;
        }
        let spread = (squares - sum * sum / len).max(0.0).sqrt();
        if spread > MIN_SPREAD_DB * len.sqrt() {
            best = best.max(product / (norm * spread));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapt::testing::{music, noise, tones};

    fn recording(name: &str, samples: Vec<f32>) -> Recording {
        Recording { name: name.into(), samples }
    }

    fn report(clean: Vec<f32>, room: Vec<f32>) -> MaterialReport {
        let material = Material { clean: vec![recording("song", clean)], room: vec![recording("room", room)] };
        MaterialReport::new(&material, &Control::new()).expect("not stopped")
    }

    fn refusal(report: &MaterialReport) -> &str {
        assert!(report.refuses(), "{report:?}");
        &report.findings[0].text
    }

    #[test]
    fn good_material_passes_and_short_one_is_advised_against() {
        let good = report(music(240.0, 1), noise(240.0, 2));
        assert_eq!(good.findings, [], "{good:?}");
        assert!((good.room.secs - 240.0).abs() < 0.1 && good.room.audible_secs > 239.0);
        let short = report(music(240.0, 1), noise(100.0, 2));
        assert!(!short.refuses() && short.findings[0].text.contains("five minutes"), "{short:?}");
    }

    #[test]
    fn what_cannot_be_learnt_from_is_refused_with_what_helps() {
        let short = report(music(240.0, 1), noise(40.0, 2));
        assert!(refusal(&short).contains("room: 40 s") && refusal(&short).contains("record the room for longer"));
        let mut silent = vec![0.0; 240 * 22_050];
        silent[..22_050].copy_from_slice(&noise(1.0, 3));
        assert!(refusal(&report(music(240.0, 1), silent)).contains("239 of 240 s are silent"));
        let clipped = noise(240.0, 2).iter().map(|x| (20.0 * x).clamp(-1.0, 1.0)).collect();
        assert!(refusal(&report(music(240.0, 1), clipped)).contains("turn the input down"));
        assert!(refusal(&report(music(240.0, 1), tones(240.0))).contains("tones that stand still"));
        assert!(refusal(&report(music(240.0, 1), music(240.0, 7))).contains("music rather than a room"));
    }

    #[test]
    fn the_same_sound_is_found_at_another_place_and_level() {
        let song = music(240.0, 1);
        // 60 s of it, quieter, beginning elsewhere, among noise.
        let mut room = noise(200.0, 4);
        room[700_123..700_123 + 60 * 22_050].copy_from_slice(&song[1_000_000..1_000_000 + 60 * 22_050]);
        room.iter_mut().for_each(|x| *x *= 0.3);
        let shared = report(song, room);
        assert!((0.15..0.45).contains(&shared.shared_share), "{shared:?}");
        assert!(refusal(&shared).contains("the same sound is on both sides"), "{shared:?}");
        assert!(report(music(240.0, 1), noise(240.0, 2)).shared_share < 0.01);
    }

    #[test]
    fn parts_share_no_recording_if_there_are_enough_and_no_window_in_any_case() {
        let many: Vec<Recording> = (0..10).map(|index| recording("x", noise(35.0, index))).collect();
        let blocks = divide(&many);
        assert_eq!(blocks.len(), 30, "two whole blocks and the rest of each");
        for block in &blocks {
            assert!(blocks.iter().all(|other| other.recording != block.recording || other.part == block.part));
        }
        let one = [recording("x", noise(200.0, 1))];
        let blocks = divide(&one);
        for part in [Part::Train, Part::Valid, Part::Test] {
            assert!(blocks.iter().filter(|block| block.part == part).count() >= 2);
        }
        for pair in blocks.windows(2) {
            assert!(pair[0].start + pair[0].len <= pair[1].start);
        }
        // What is silent, or shorter than a window, is no block.
        assert_eq!(divide(&[recording("x", vec![0.0; 500_000]), recording("y", noise(2.0, 1))]), []);
    }

    #[test]
    fn long_files_give_their_middle_and_broken_ones_are_told() {
        let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/demo/rock.ogg");
        let missing = PathBuf::from("missing.ogg");
        let files = [PathBuf::from(demo), missing];
        let (whole, told) = read(&files, 1_000.0, &Control::new(), &mut |_| {}).expect("not stopped");
        assert_eq!((whole.len(), told.len()), (1, 1));
        assert!(told[0].contains("missing.ogg"), "{told:?}");
        let (some, _) = read(&files[..1], 4.0, &Control::new(), &mut |_| {}).expect("not stopped");
        assert_eq!(some[0].samples.len(), 4 * 22_050);
        let middle = (whole[0].samples.len() - some[0].samples.len()) / 2;
        let near = |at: usize| whole[0].samples[at..at + 1_000] == some[0].samples[..1_000];
        assert!((middle - 22_050..middle + 22_050).any(near), "not from the middle");
    }

    #[test]
    fn many_short_files_are_used_up_to_the_limit() {
        let demo = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/demo/rock.ogg"));
        let (one, _) = read(std::slice::from_ref(&demo), 1_000.0, &Control::new(), &mut |_| {}).expect("not stopped");
        let secs = one[0].secs();
        // Three shares of two blocks each have room, and ten files that are shorter.
        let max_secs = 3.0 * MIN_SHARE_SECS;
        assert!(secs < MIN_SHARE_SECS, "{secs}");
        let (many, _) = read(&vec![demo; 12], max_secs, &Control::new(), &mut |_| {}).expect("not stopped");
        let read_secs: f64 = many.iter().map(Recording::secs).sum();
        assert!(read_secs > max_secs - 3.0 && read_secs <= max_secs, "{read_secs} of {max_secs}");
    }
}
