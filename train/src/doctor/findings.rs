//! What can be wrong with a data set, and what to do about it.

use std::collections::{BTreeMap, HashMap};

use earmark_core::{SAMPLE_RATE_HZ, WINDOW_SAMPLES};
use serde::Serialize;

use super::{Role, Subject};
use crate::data::cache::Cache;
use crate::data::items::{Item, Split};

/// Share of a split's items that may be missing or unreadable. Public copies of AudioSet lack 16 % of the videos.
const MAX_UNUSABLE_SHARE: f64 = 0.2;
/// What a file may be shorter than its labels say: encoders pad and cut, and labels are rounded.
const LENGTH_SLACK_SECS: f64 = 1.0;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Training can go on without it.
    Warning,
    /// Training would give numbers that mislead, or none.
    Broken,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, with numbers.
    pub what: String,
    /// What to do about it.
    pub advice: String,
    /// All that it concerns, by path or identifier.
    pub items: Vec<String>,
}

impl Finding {
    fn new(severity: Severity, what: impl Into<String>, advice: &str, items: Vec<String>) -> Self {
        Self { severity, what: what.into(), advice: advice.to_owned(), items }
    }
}

/// A finding about `items`, if there are any; their number follows `what`.
fn about(severity: Severity, items: Vec<String>, what: &str, advice: &str) -> Option<Finding> {
    let count = items.len();
    (count > 0).then(|| Finding::new(severity, format!("{what}: {count}"), advice, items))
}

/// What can be told without decoding.
pub fn in_labels_and_files(subject: &Subject) -> Vec<Finding> {
    let collection = &subject.collection;
    let absent = collection.items.iter().zip(&subject.is_present).filter(|(_, present)| !**present);
    let absent = absent.map(|(item, _)| item.path.clone());
    let without_file = collection.missing.iter().map(|(_, id)| id.clone());
    let missing = about(
        Severity::Warning,
        absent.chain(without_file).collect(),
        "missing or empty files",
        "they are left out; download them again, or keep in mind that scores on fewer clips are not comparable",
    );
    let in_two_splits = about(
        Severity::Broken,
        collection.in_two_splits.clone(),
        "items in the lists of two splits",
        "take the lists of one release of the data set",
    );
    let warnings = collection.warnings.iter();
    let warnings = warnings.map(|text| {
        let (what, advice) = text.split_once("; ").unwrap_or((text, ""));
        Finding::new(Severity::Warning, what, advice, Vec::new())
    });
    let found = [missing, in_two_splits, leaks(subject), rare_tags(subject)];
    found.into_iter().flatten().chain(warnings).collect()
}

/// Recordings that occur in two splits.
fn leaks(subject: &Subject) -> Option<Finding> {
    let mut groups: BTreeMap<&str, [Option<&Item>; 3]> = BTreeMap::new();
    for item in &subject.collection.items {
        groups.entry(&item.group).or_default()[item.split as usize].get_or_insert(item);
    }
    let leaks = groups.into_iter().filter_map(|(group, splits)| {
        let found: Vec<String> = splits.iter().flatten().map(|item| format!("{} {}", item.split, item.path)).collect();
        (found.len() > 1).then(|| format!("{group}: {}", found.join(", ")))
    });
    about(
        Severity::Broken,
        leaks.collect(),
        "recordings or albums in more than one split",
        "a network is tested on what it has learnt: move all clips of a recording into one split",
    )
}

/// Tags that cannot be measured or learnt.
fn rare_tags(subject: &Subject) -> Option<Finding> {
    let collection = &subject.collection;
    if subject.role != Role::Data {
        return None;
    }
    let without = |split: Split| -> Vec<&str> {
        let is_absent = |tag: &usize| !collection.split(split).any(|item| item.tag_targets[*tag]);
        (0..collection.tags.len()).filter(is_absent).map(|tag| collection.tags[tag].as_str()).collect()
    };
    let lists = Split::ALL.into_iter().map(|split| (split, without(split))).filter(|(_, tags)| !tags.is_empty());
    let items: Vec<String> = lists.map(|(split, tags)| format!("{split}: {}", tags.join(", "))).collect();
    let what = "some tags have no positive clip in a split";
    let advice = "averages over tags leave them out there; nothing is learnt of a tag without a training clip";
    (!items.is_empty()).then(|| Finding::new(Severity::Warning, what, advice, items))
}

/// What decoding told, item by item.
pub fn in_audio(subject: &Subject) -> Vec<Finding> {
    let present = || {
        let items = subject.collection.items.iter().zip(&subject.heard).zip(&subject.is_present);
        items.filter(|(_, present)| **present).map(|(heard, _)| heard)
    };
    let heard = || present().filter_map(|(item, heard)| heard.as_ref().ok().map(|heard| (item, heard)));
    let secs = |num_samples: usize| num_samples as f64 / f64::from(SAMPLE_RATE_HZ);

    let unreadable = present().filter_map(|(_, heard)| heard.as_ref().err().cloned()).collect();
    let mut truncated = Vec::new();
    let mut damaged = Vec::new();
    for (item, heard) in heard() {
        let found_secs = secs(heard.num_samples);
        match item.length_secs {
            _ if heard.is_truncated => truncated.push(format!("{}: {}", item.path, heard.notes.replace('\n', "; "))),
            Some(declared) if found_secs < declared - LENGTH_SLACK_SECS => {
                truncated.push(format!("{}: the labels say {declared:.2} s, it holds {found_secs:.2} s", item.path));
            }
            _ if !heard.notes.is_empty() => damaged.push(format!("{}: {}", item.path, heard.notes.replace('\n', "; "))),
            _ => {}
        }
    }
    let of_noise = subject.role == Role::Noise;
    let short = heard().filter(|(_, heard)| heard.num_samples < WINDOW_SAMPLES && !of_noise);
    let short = short.map(|(item, heard)| format!("{}: {:.2} s", item.path, secs(heard.num_samples))).collect();
    let silent = heard().filter(|(_, heard)| heard.is_silent).map(|(item, _)| item.path.clone()).collect();
    let warning = |items, what, advice| about(Severity::Warning, items, what, advice);
    let found = [
        warning(unreadable, "files that cannot be decoded", "they are left out; copy or download them again"),
        warning(truncated, "files shorter than they should be", "they are used as they are; download them again"),
        warning(damaged, "files with damaged parts", "they are used as they are; download them again"),
        warning(short, "files shorter than a window of 2.68 s", "they are filled up with silence"),
        warning(silent, "silent files", "they teach nothing; leave them out or find out why"),
    ];
    found.into_iter().flatten().collect()
}

/// Whether the decoded audio finds room in the cache.
pub fn in_cache(subject: &Subject, cache: &Cache) -> Option<Finding> {
    let heard = subject.heard.iter().flatten();
    let bytes: u64 = heard.map(|heard| Cache::entry_bytes(heard.num_samples)).sum();
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    let what = format!(
        "the decoded audio takes {:.1} GB, the cache's limit is {:.1} GB",
        gigabytes(bytes),
        gigabytes(cache.limit_bytes())
    );
    let advice = "what finds no room stays in memory and is decoded in every run; raise --cache-limit";
    (bytes > cache.limit_bytes()).then(|| Finding::new(Severity::Warning, what, advice, Vec::new()))
}

/// Files that decode to the same samples, by the index of the subject that they are told of.
pub fn duplicates(subjects: &[Subject]) -> Vec<(usize, Finding)> {
    let mut by_digest: HashMap<blake3::Hash, Vec<(usize, &Item)>> = HashMap::new();
    for (index, subject) in subjects.iter().enumerate() {
        for (item, heard) in subject.collection.items.iter().zip(&subject.heard) {
            // All silence is the same.
            if let Ok(heard) = heard
                && !heard.is_silent
            {
                by_digest.entry(heard.digest).or_default().push((index, item));
            }
        }
    }
    // For each subject: copies within a split, and copies across splits.
    let mut copies: Vec<[Vec<String>; 2]> = subjects.iter().map(|_| [Vec::new(), Vec::new()]).collect();
    for same in by_digest.values().filter(|same| same.len() > 1) {
        let name = |(index, item): &(usize, &Item)| {
            format!("{} {}", item.split, subjects[*index].collection.path(item).display())
        };
        let list = || same.iter().map(name).collect::<Vec<_>>().join(" = ");
        for (index, _) in subjects.iter().enumerate() {
            let own: Vec<&Item> = same.iter().filter(|(of, _)| *of == index).map(|(_, item)| *item).collect();
            let leaks =
                same.iter().any(|(other, item)| own.iter().any(|own| leak(subjects, (index, own), (*other, item))));
            if leaks {
                copies[index][1].push(list());
            } else if own.len() > 1 {
                copies[index][0].push(list());
            }
        }
    }
    let findings = copies.into_iter().enumerate().flat_map(|(index, [mut within, mut across])| {
        within.sort();
        across.sort();
        let within = about(
            Severity::Warning,
            within,
            "copies within a split (equal decoded samples)",
            "they weigh double; remove all but one",
        );
        let across = about(
            Severity::Broken,
            across,
            "copies across splits (equal decoded samples)",
            "a network is tested on what it has learnt: remove one of them",
        );
        [within, across].into_iter().flatten().map(move |finding| (index, finding))
    });
    findings.collect()
}

/// Whether two equal files are a leak. Stage 1 comes first: what it holds out may be learnt from later.
fn leak(subjects: &[Subject], a: (usize, &Item), b: (usize, &Item)) -> bool {
    let is_leak = |(learnt, train): (usize, &Item), (held_out, test): (usize, &Item)| {
        let is_held_out = learnt == held_out || subjects[held_out].role != Role::Pretrain;
        train.split == Split::Train && test.split != Split::Train && is_held_out
    };
    let within = a.0 == b.0 && a.1.split != b.1.split;
    within || is_leak(a, b) || is_leak(b, a)
}

/// Whether enough is left to work with; told last, when all that is unusable is known.
pub fn in_what_is_left(subject: &Subject) -> Vec<Finding> {
    let collection = &subject.collection;
    let mut listed = [0_usize; 3];
    let mut usable = [0_usize; 3];
    for (index, item) in collection.items.iter().enumerate() {
        listed[item.split as usize] += 1;
        usable[item.split as usize] += usize::from(subject.is_usable(index));
    }
    for (split, _) in &collection.missing {
        listed[*split as usize] += 1;
    }
    let mut found = Vec::new();
    for split in Split::ALL {
        let (listed, usable) = (listed[split as usize], usable[split as usize]);
        let lost = listed - usable;
        if usable == 0 && subject.role.needs().contains(&split) {
            let what = format!("the {split} split has no usable file ({listed} are listed)");
            let advice = "check that the folder is the whole data set, and where its audio lies";
            found.push(Finding::new(Severity::Broken, what, advice, Vec::new()));
        } else if lost as f64 > MAX_UNUSABLE_SHARE * listed as f64 {
            let what = format!("{lost} of {listed} files of the {split} split cannot be used");
            let advice = "more than a fifth is too much for results to stand for this data set; complete the download";
            found.push(Finding::new(Severity::Broken, what, advice, Vec::new()));
        }
    }
    if usable == [0; 3] && found.is_empty() {
        let advice = "check that the folder is the whole data set, and where its audio lies";
        found.push(Finding::new(Severity::Broken, "there is no usable file", advice, Vec::new()));
    }
    found
}
