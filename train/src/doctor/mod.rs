//! `train doctor`: looks at data sets before a network does.
//!
//! ```text
//! folder -> layout, label files -> files there? -> decoded -> findings -> report, verdict
//!           labels disagree        missing, empty  damaged, truncated,    remembered in the cache, so that
//!           splits leak                            silent, duplicate      training knows it without decoding
//! ```
//!
//! A finding is a warning where training can go on without what it names, and *broken* where numbers would mislead: a
//! recording in two splits, or so much missing that it is another data set. Training looks at labels and files itself
//! and asks for the remembered verdict ([`admit`]).

mod findings;
mod report;
mod verdict;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use rayon::prelude::*;
use serde::Serialize;

pub use self::findings::{Finding, Severity};
pub use self::report::{CollectionReport, Report, SplitReport, TagCount};
use crate::data::cache::{Cache, CacheArgs};
use crate::data::clips;
use crate::data::items::{Collection, Split};
use crate::data::layout;
use crate::data::mtat::SplitRule;
use crate::progress::Progress;

/// Command-line arguments of `train doctor`.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// Labelled music: MagnaTagATune's layout. May be repeated.
    #[arg(long, value_name = "DIR", required_unless_present_any = ["noise", "pretrain"])]
    pub data: Vec<PathBuf>,
    /// Noise: AudioSet's or MUSAN's layout, or a folder of audio. May be repeated.
    #[arg(long, value_name = "DIR")]
    pub noise: Vec<PathBuf>,
    /// Music for stage 1: MTG-Jamendo's layout, or a folder of audio. May be repeated.
    #[arg(long, value_name = "DIR")]
    pub pretrain: Vec<PathBuf>,
    /// What decides the split of a clip in MagnaTagATune's layout.
    #[arg(long, value_enum, default_value_t)]
    pub split_rule: SplitRule,
    /// Look at labels and files only; decode nothing and remember nothing.
    #[arg(long)]
    pub quick: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Show no progress.
    #[arg(long)]
    pub no_progress: bool,
    /// Where decoded audio and the verdict are kept.
    #[command(flatten)]
    pub cache: CacheArgs,
}

/// What a data set is for, which decides what it must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Labelled music: must have a training and a validation split.
    Data,
    /// Noise to mix in: must have something.
    Noise,
    /// Music for stage 1: must have a training split.
    Pretrain,
}

impl Role {
    /// Splits without which there is nothing to do.
    fn needs(self) -> &'static [Split] {
        match self {
            Self::Data => &[Split::Train, Split::Valid],
            Self::Noise => &[],
            Self::Pretrain => &[Split::Train],
        }
    }
}

/// A data set under examination.
#[derive(Debug)]
struct Subject {
    role: Role,
    dir: PathBuf,
    collection: Collection,
    /// Whether the file of each item is there and not empty.
    is_present: Vec<bool>,
    /// What each item sounds like, or why it cannot be decoded; empty where nothing was decoded.
    heard: Vec<Result<Heard, String>>,
}

/// What decoding an item told.
#[derive(Clone, Debug)]
struct Heard {
    num_samples: usize,
    digest: blake3::Hash,
    is_truncated: bool,
    is_silent: bool,
    notes: String,
}

impl Subject {
    /// Reads label files and looks for the files.
    fn open(role: Role, dir: &Path, rule: SplitRule) -> Result<Self> {
        Ok(Self::new(role, dir, layout::open(dir, rule)?))
    }

    fn new(role: Role, dir: &Path, collection: Collection) -> Self {
        let is_there = |path: PathBuf| std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() > 0);
        let is_present = collection.items.par_iter().map(|item| is_there(collection.path(item))).collect();
        Self { role, dir: dir.to_owned(), collection, is_present, heard: Vec::new() }
    }

    /// Decodes every item.
    fn listen(&mut self, cache: Option<&Cache>, progress: Progress) {
        let collection = &self.collection;
        let bar = progress.bar(format!("listening to {}", self.dir.display()), collection.items.len() as u64);
        self.heard = collection
            .items
            .par_iter()
            .map(|item| {
                let heard = clips::decode(&collection.path(item), cache).map(|decoded| Heard {
                    num_samples: decoded.audio.len(),
                    digest: decoded.digest,
                    is_truncated: decoded.is_truncated,
                    is_silent: decoded.audio.is_silent(),
                    notes: decoded.notes,
                });
                bar.inc(1);
                heard
            })
            .collect();
        bar.finish_and_clear();
    }

    /// Whether item `index` can be used, as far as is known.
    fn is_usable(&self, index: usize) -> bool {
        self.is_present[index] && self.heard.get(index).is_none_or(Result::is_ok)
    }
}

/// Examines the data sets in `args` and prints what it finds; whether all are sound.
///
/// # Errors
/// If label files cannot be read, or the cache that was named cannot be used.
pub fn run(args: &DoctorArgs) -> Result<bool> {
    let progress = if args.no_progress { Progress::Hidden } else { Progress::Shown };
    let cache = if args.quick { None } else { args.cache.open()? };
    let report = examine(args, cache.as_ref(), progress)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.text());
    }
    Ok(report.is_sound)
}

fn examine(args: &DoctorArgs, cache: Option<&Cache>, progress: Progress) -> Result<Report> {
    let roles = [(Role::Data, &args.data), (Role::Noise, &args.noise), (Role::Pretrain, &args.pretrain)];
    let mut subjects = Vec::new();
    for (role, dirs) in roles {
        for dir in dirs {
            subjects.push(Subject::open(role, dir, args.split_rule)?);
        }
    }
    let mut findings: Vec<Vec<Finding>> = subjects.iter().map(findings::in_labels_and_files).collect();
    if !args.quick {
        for (subject, found) in subjects.iter_mut().zip(&mut findings) {
            subject.listen(cache, progress);
            found.extend(findings::in_audio(subject));
            found.extend(cache.and_then(|cache| findings::in_cache(subject, cache)));
        }
        for (index, finding) in findings::duplicates(&subjects) {
            findings[index].push(finding);
        }
    }
    for (subject, found) in subjects.iter().zip(&mut findings) {
        found.extend(findings::in_what_is_left(subject));
        found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        if let (false, Some(cache)) = (args.quick, cache) {
            verdict::remember(cache, &subject.collection, found)?;
        }
    }
    Ok(Report::new(&subjects, findings, !args.quick))
}

/// Lets training begin: looks at labels and files, and asks the cache for the verdict of an earlier `train doctor` on
/// the same files. Gives the findings that say *broken* where `allow_broken` overrules them.
///
/// # Errors
/// If the data set is broken and `allow_broken` does not overrule it.
pub fn admit(role: Role, collection: &Collection, cache: Option<&Cache>, allow_broken: bool) -> Result<Vec<String>> {
    let subject = Subject::new(role, &collection.root, collection.clone());
    let mut found = findings::in_labels_and_files(&subject);
    found.extend(findings::in_what_is_left(&subject));
    let mut broken: Vec<String> =
        found.into_iter().filter(|finding| finding.severity == Severity::Broken).map(|finding| finding.what).collect();
    for what in cache.and_then(|cache| verdict::recall(cache, collection)).unwrap_or_default() {
        if !broken.contains(&what) {
            broken.push(what);
        }
    }
    if broken.is_empty() || allow_broken {
        return Ok(broken);
    }
    bail!(
        "{}: the data is broken: {}; `train doctor` tells more, --allow-broken trains all the same",
        collection.root.display(),
        broken.join("; ")
    )
}

#[cfg(test)]
mod tests;
