//! Noise for evaluation: the same mixtures for every model.
//!
//! ```text
//! clip -> windows side by side -> each window + n excerpts of noise, scaled together to the SNR -> engine
//! ```
//!
//! The SNR holds over each window, as in training and in the thesis: over a whole clip, quiet passages would drown and
//! loud ones stay almost clean, and the SNR in the table's head would be that of no window. Which noises meet a window,
//! and at which place they begin, follows from the seed, the clip's path, the SNR and the window's number and from
//! nothing else; so every model meets the same mixtures, whatever the number of threads and the other SNRs asked for.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Result, bail};
use earmark_core::WINDOW_SAMPLES;
use earmark_core::audio::mix_snr;
use rand::{Rng, RngExt};
use rayon::prelude::*;

use super::record::FilesIdentity;
use crate::data::audioset;
use crate::data::cache::Cache;
use crate::data::clips::{ClipAudio, audio_files, decode};
use crate::progress::Progress;
use crate::rng;

/// Times that noises are drawn for a window until they can be heard.
const MAX_DRAWS: usize = 100;

/// Command-line arguments of an evaluation in noise.
#[derive(Clone, Debug, clap::Args)]
pub struct NoiseArgs {
    /// Also measure in noise from this folder, under this name, e.g. internal=noise/test. May be repeated.
    #[arg(long, value_name = "NAME=DIR")]
    pub noise: Vec<NamedFolder>,
    /// List of the noise files in AudioSet's form (YTID = name without extension); its labels are the kinds of noise,
    /// else the names of the folders are. Class names come from an `ontology.json` beside it. May be repeated.
    #[arg(long, value_name = "FILE", requires = "noise")]
    pub noise_list: Vec<PathBuf>,
    /// Signal-to-noise ratios in dB, over each window; `clean` is always measured.
    #[arg(
        long,
        value_name = "DB",
        value_delimiter = ',',
        default_value = "clean,10,5,0,-5,-10",
        allow_hyphen_values = true,
        requires = "noise"
    )]
    pub snr: Vec<Snr>,
    /// Noises in each window.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "noise")]
    pub num_noises: usize,
    /// Decides which noise meets which window at which place. Results with different seeds are not comparable.
    #[arg(long, value_name = "S", default_value_t = 1, requires = "noise")]
    pub seed: u64,
    /// Lay the embeddings of windows, clean and at this SNR, out in the plane (t-SNE) for the report.
    #[arg(long, value_name = "DB", allow_hyphen_values = true, requires = "noise", value_parser = parse_snr_db)]
    pub tsne: Option<f32>,
}

impl NoiseArgs {
    /// Each of these noises at the thesis' ratios, one noise in a window.
    pub fn of(noise: Vec<NamedFolder>) -> Self {
        let snr = [Snr::Clean].into_iter().chain([10.0, 5.0, 0.0, -5.0, -10.0].map(Snr::Db)).collect();
        Self { noise, noise_list: Vec::new(), snr, num_noises: 1, seed: 1, tsne: None }
    }

    /// Checks what the types of the arguments cannot.
    ///
    /// # Errors
    /// Names the argument and its rule.
    pub fn validate(&self) -> Result<()> {
        let snrs_db = self.snrs_db();
        if let Some((_, twice)) = snrs_db.iter().enumerate().find(|(index, snr)| snrs_db[..*index].contains(snr)) {
            bail!("--snr: {twice} dB is given twice");
        }
        let names: Vec<&str> = self.noise.iter().map(|named| named.name.as_str()).collect();
        if let Some((_, twice)) = names.iter().enumerate().find(|(index, name)| names[..*index].contains(name)) {
            bail!("--noise: the name '{twice}' is used twice");
        }
        if self.num_noises == 0 {
            bail!("--num-noises is 0; it must be at least 1");
        }
        Ok(())
    }

    /// The SNRs in dB, in the order given.
    pub fn snrs_db(&self) -> Vec<f32> {
        let snr_db = |snr: &Snr| match snr {
            Snr::Clean => None,
            Snr::Db(snr_db) => Some(*snr_db),
        };
        self.snr.iter().filter_map(snr_db).collect()
    }

    /// Decodes the noises.
    ///
    /// # Errors
    /// If a folder or a list cannot be read, or a folder holds fewer noises than a window needs.
    pub fn load(&self, cache: Option<&Cache>, progress: Progress) -> Result<Vec<NoiseSet>> {
        let mut kinds = HashMap::new();
        for path in &self.noise_list {
            kinds.extend(audioset::labels_by_id(path)?);
        }
        let mut sets: Vec<NoiseSet> = Vec::new();
        for NamedFolder { name, folder } in &self.noise {
            let set = NoiseSet::load(name, folder, &kinds, cache, progress)?;
            if set.noises.len() < self.num_noises {
                let count = set.noises.len();
                bail!("{}: {count} noises are fewer than --num-noises {}", folder.display(), self.num_noises);
            }
            sets.push(set);
        }
        Ok(sets)
    }
}

/// A folder under a name, written `NAME=DIR`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFolder {
    /// Name in tables and records.
    pub name: String,
    /// Where the audio is.
    pub folder: PathBuf,
}

impl FromStr for NamedFolder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, folder)) if !name.is_empty() && !folder.is_empty() => {
                Ok(Self { name: name.to_owned(), folder: folder.into() })
            }
            _ => Err("expected a name and a folder, e.g. internal=noise/test".to_owned()),
        }
    }
}

/// A column of the tables.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Snr {
    /// Without noise.
    Clean,
    /// With noise at this SNR in dB.
    Db(f32),
}

impl FromStr for Snr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "clean" => Ok(Self::Clean),
            number => parse_snr_db(number).map(Self::Db).map_err(|rule| format!("{rule}, or 'clean'")),
        }
    }
}

fn parse_snr_db(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        // Adding 0 turns -0 into 0, which would be another mixture.
        Ok(snr_db) if snr_db.abs() <= 100.0 => Ok(snr_db + 0.0),
        _ => Err("expected an SNR between -100 and 100 dB".to_owned()),
    }
}

/// One recording.
#[derive(Clone, Debug)]
pub struct Noise {
    /// What it is a recording of: all its labels in the list, so that each noise counts once, or its folder's name.
    pub kind: String,
    /// What it sounds like.
    pub audio: ClipAudio,
}

/// The noises of one folder.
#[derive(Clone, Debug)]
pub struct NoiseSet {
    /// Name in tables and records.
    pub name: String,
    /// In the order of their paths.
    pub noises: Vec<Noise>,
    /// What was read.
    pub files: FilesIdentity,
    /// One message per file that cannot be decoded.
    pub left_out: Vec<String>,
}

impl NoiseSet {
    /// Decodes every audio file under `folder`, or takes it from the cache. `kinds` holds the kind of noise by file name without extension.
    ///
    /// # Errors
    /// If the folder cannot be read or none of its files can be decoded.
    pub fn load(
        name: &str,
        folder: &Path,
        kinds: &HashMap<String, String>,
        cache: Option<&Cache>,
        progress: Progress,
    ) -> Result<Self> {
        let paths = audio_files(folder)?;
        let bar = progress.bar(format!("decoding noise '{name}'"), paths.len() as u64);
        let decoded: Vec<Result<(PathBuf, Noise), String>> = paths
            .into_par_iter()
            .map(|path| {
                let decoded = decode(&path, cache);
                bar.inc(1);
                let audio = decoded?.audio;
                let kind = kinds.get(&lossy(path.file_stem())).cloned();
                let kind = kind.unwrap_or_else(|| lossy(path.parent().and_then(Path::file_name)));
                Ok((path, Noise { kind, audio }))
            })
            .collect();
        bar.finish_and_clear();
        let (mut used, mut noises, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
        for result in decoded {
            match result {
                Ok((path, noise)) => {
                    used.push(path);
                    noises.push(noise);
                }
                Err(message) => left_out.push(message),
            }
        }
        if noises.is_empty() {
            let first = left_out.first().map_or("it holds no audio files", String::as_str);
            bail!("{}: no noise can be read: {first}", folder.display());
        }
        let relative = used.iter().map(|path| lossy(path.strip_prefix(folder).ok()));
        let num_samples = noises.iter().map(|noise| noise.audio.len()).sum();
        let files = FilesIdentity::of(used.iter().map(PathBuf::as_path).zip(relative), num_samples)?;
        Ok(Self { name: name.to_owned(), noises, files, left_out })
    }
}

fn lossy(text: Option<impl AsRef<std::ffi::OsStr>>) -> String {
    text.map(|text| text.as_ref().to_string_lossy().replace('\\', "/")).unwrap_or_default()
}

/// Part of a noise: from sample `start` on, looped where the recording ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// Index of the noise in its set.
    pub noise: usize,
    /// First sample.
    pub start: usize,
}

/// How clips are mixed with noise.
#[derive(Clone, Copy, Debug)]
pub struct Mixture<'a> {
    /// Noises to draw from.
    pub set: &'a NoiseSet,
    /// Signal-to-noise ratio over each window.
    pub snr_db: f32,
    /// Different noises in each window, at most as many as there are.
    pub num_noises: usize,
    /// Seed of the evaluation.
    pub seed: u64,
}

impl Mixture<'_> {
    /// The noises of window number `window` of the clip at `path`. Where all of them are silent there, as recordings
    /// padded with zeros are at their end, others are drawn.
    pub fn excerpts(&self, path: &str, window: usize) -> Vec<Excerpt> {
        let purpose = format!("evaluation noise {path}");
        let mut rng = rng::stream(self.seed, &purpose, u64::from(self.snr_db.to_bits()), window as u64);
        let mut excerpts = self.draw(&mut rng);
        for _ in 1..MAX_DRAWS {
            if excerpts.iter().any(|&excerpt| self.samples(excerpt).take(WINDOW_SAMPLES).any(|sample| sample != 0.0)) {
                break;
            }
            excerpts = self.draw(&mut rng);
        }
        excerpts
    }

    fn draw(&self, rng: &mut impl Rng) -> Vec<Excerpt> {
        // Drawn as u64, so that 32-bit machines draw the same.
        let mut below = |bound: usize| rng.random_range(0..bound.max(1) as u64) as usize;
        let mut drawn: Vec<Excerpt> = Vec::new();
        while drawn.len() < self.num_noises.min(self.set.noises.len()) {
            let noise = below(self.set.noises.len());
            if drawn.iter().any(|excerpt| excerpt.noise == noise) {
                continue;
            }
            // A recording that fills the window is cropped, a shorter one looped from anywhere.
            let len = self.set.noises[noise].audio.len();
            let starts = if len >= WINDOW_SAMPLES { len - WINDOW_SAMPLES + 1 } else { len };
            drawn.push(Excerpt { noise, start: below(starts) });
        }
        drawn
    }

    /// Adds noise to a clip, window by window; `path` identifies the clip. Returns the number of windows that stay as
    /// they are because they or their noises are silent.
    pub fn mix(&self, path: &str, samples: &mut [f32]) -> usize {
        let windows = samples.chunks_mut(WINDOW_SAMPLES).enumerate();
        windows.filter_map(|(index, window)| (!self.mix_window(path, index, window)).then_some(())).count()
    }

    /// Adds noise to window number `index` of the clip at `path`. Returns whether there was anything to mix.
    pub fn mix_window(&self, path: &str, index: usize, window: &mut [f32]) -> bool {
        let excerpts = self.excerpts(path, index);
        let cut = |&excerpt: &Excerpt| self.samples(excerpt).take(window.len()).collect();
        let noises: Vec<Vec<f32>> = excerpts.iter().map(cut).collect();
        let noises: Vec<&[f32]> = noises.iter().map(Vec::as_slice).collect();
        let sounds = |samples: &[f32]| samples.iter().any(|&sample| sample != 0.0);
        let mixed = sounds(window) && noises.iter().any(|noise| sounds(noise));
        mix_snr(window, &noises, self.snr_db);
        mixed
    }

    /// The noise from the start of the excerpt on, again and again.
    fn samples(&self, excerpt: Excerpt) -> impl Iterator<Item = f32> {
        let audio = &self.set.noises[excerpt.noise].audio;
        (excerpt.start..audio.len()).chain((0..audio.len()).cycle()).map_while(|index| audio.get(index))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Noises of these lengths, each a hiss of its own, one kind each.
    pub(in super::super) fn hisses(lengths: &[usize]) -> NoiseSet {
        let noises = lengths.iter().enumerate().map(|(index, &len)| Noise {
            kind: format!("kind {index}"),
            audio: ClipAudio::new(&hiss(index as u64, len)),
        });
        let files = FilesIdentity { blake3: "00".to_owned(), num_files: lengths.len(), minutes: 0.0 };
        NoiseSet { name: "hiss".to_owned(), noises: noises.collect(), files, left_out: Vec::new() }
    }

    pub(in super::super) fn hiss(seed: u64, len: usize) -> Vec<f32> {
        let mut rng = rng::stream(seed, "hiss", 0, 0);
        (0..len).map(|_| rng.random_range(-0.5..0.5)).collect()
    }

    fn mixture(set: &NoiseSet, snr_db: f32, num_noises: usize) -> Mixture<'_> {
        Mixture { set, snr_db, num_noises, seed: 1 }
    }

    fn power(samples: &[f32]) -> f64 {
        samples.iter().map(|&sample| f64::from(sample).powi(2)).sum()
    }

    #[test]
    fn the_ratio_holds_in_every_window_to_a_hundredth_of_a_decibel() {
        let set = hisses(&[10_000, 100_000, 59_049, 70_000]);
        // Three windows that get louder, and clips shorter than a window.
        for (clip, len) in [("0/long.ogg", 3 * WINDOW_SAMPLES), ("0/short.ogg", 20_000)] {
            let mut clean = hiss(99, len);
            clean.iter_mut().enumerate().for_each(|(index, x)| *x *= 0.01 + index as f32 / len as f32);
            for (snr_db, num_noises) in [(10.0, 1), (0.0, 2), (-10.0, 4)] {
                let mut mixed = clean.clone();
                assert_eq!(mixture(&set, snr_db, num_noises).mix(clip, &mut mixed), 0);
                for (clean, mixed) in clean.chunks(WINDOW_SAMPLES).zip(mixed.chunks(WINDOW_SAMPLES)) {
                    let added: Vec<f32> = mixed.iter().zip(clean).map(|(mixed, clean)| mixed - clean).collect();
                    let measured = 10.0 * (power(clean) / power(&added)).log10();
                    assert!((measured - f64::from(snr_db)).abs() < 0.01, "{measured} dB, asked for {snr_db}");
                }
            }
        }
    }

    #[test]
    fn a_mixture_follows_from_seed_clip_snr_and_window_alone() {
        let set = hisses(&[100_000; 50]);
        let base = mixture(&set, 5.0, 2);
        let first = base.excerpts("0/a.ogg", 3);
        assert_eq!(first, base.excerpts("0/a.ogg", 3));
        assert_ne!(first[0].noise, first[1].noise, "a noise occurs once in a window");
        for other in [
            base.excerpts("0/b.ogg", 3),
            base.excerpts("0/a.ogg", 4),
            Mixture { snr_db: 0.0, ..base }.excerpts("0/a.ogg", 3),
            Mixture { seed: 2, ..base }.excerpts("0/a.ogg", 3),
        ] {
            assert_ne!(first, other);
        }
        // These values must never change: published results would stop being comparable.
        assert_eq!(first, [Excerpt { noise: 30, start: 31_785 }, Excerpt { noise: 13, start: 7_408 }]);
    }

    #[test]
    fn long_noises_are_cropped_and_short_ones_looped() {
        let set = hisses(&[WINDOW_SAMPLES + 10, 100]);
        let mixture = mixture(&set, 0.0, 2);
        for window in 0..200 {
            for excerpt in mixture.excerpts("0/a.ogg", window) {
                assert!(excerpt.start < [11, 100][excerpt.noise], "{excerpt:?}");
            }
        }
        let looped = mixture.samples(Excerpt { noise: 1, start: 90 }).take(250).collect::<Vec<f32>>();
        let noise = set.noises[1].audio.to_vec();
        assert_eq!((looped[0], looped[9], looped[10]), (noise[90], noise[99], noise[0]));
        assert_eq!(looped[..100], looped[100..200]);
    }

    #[test]
    fn silent_music_or_noise_stays_finite_and_is_counted() {
        let mut set = hisses(&[1_000, 1_000]);
        let mut silence = vec![0.0; 2 * WINDOW_SAMPLES];
        assert_eq!(mixture(&set, -10.0, 1).mix("0/a.ogg", &mut silence), 2);
        assert!(silence.iter().all(|&sample| sample == 0.0));
        set.noises.iter_mut().for_each(|noise| noise.audio = ClipAudio::new(&[0.0; 50]));
        let music = hiss(3, WINDOW_SAMPLES);
        let mut mixed = music.clone();
        assert_eq!(mixture(&set, -10.0, 2).mix("0/a.ogg", &mut mixed), 1);
        assert_eq!(mixed, music);
    }

    #[test]
    fn silent_excerpts_are_drawn_again() {
        // Five in six recordings are silent, and so is most of the sixth.
        let mut set = hisses(&[2 * WINDOW_SAMPLES; 6]);
        let mut clicks = vec![0.0; 2 * WINDOW_SAMPLES];
        clicks[WINDOW_SAMPLES] = 1.0;
        set.noises.iter_mut().for_each(|noise| noise.audio = ClipAudio::new(&[0.0; 50]));
        set.noises[5].audio = ClipAudio::new(&clicks);
        for window in 0..20 {
            let mut music = hiss(window as u64, WINDOW_SAMPLES);
            assert!(mixture(&set, 0.0, 1).mix_window("0/a.ogg", window, &mut music), "window {window}");
        }
    }

    #[test]
    fn ratios_and_folders_are_read_or_refused() {
        assert_eq!("clean".parse(), Ok(Snr::Clean));
        assert_eq!("-0".parse(), Ok(Snr::Db(0.0)));
        for wrong in ["nan", "inf", "1000", "loud", ""] {
            assert!(wrong.parse::<Snr>().is_err(), "{wrong}");
        }
        let named = "internal=a=b".parse::<NamedFolder>().expect("a name and a folder");
        assert_eq!((named.name.as_str(), named.folder.as_path()), ("internal", Path::new("a=b")));
        assert!("internal".parse::<NamedFolder>().is_err() && "=x".parse::<NamedFolder>().is_err());
    }
}
