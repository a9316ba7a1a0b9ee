//! The layout of MagnaTagATune (Law et al., 2009): `annotations_final.csv` beside sixteen folders `0` to `f` of clips.
//!
//! ```text
//! "clip_id"  "guitar"  ...  "choral"  "mp3_path"          tab-separated, quoted, one row per clip
//! "2"        "1"       ...  "0"       "f/artist-album-01-title-30-59.mp3"
//! ```
//!
//! Three splits are in use, and scores on different ones are not comparable ([`SplitRule`]). Of 188 tag columns the
//! usual top 50 are taken. `clip_info_final.csv`, where it is there, tells which clips come from one track; else the
//! file names do. Rows without a path and MagnaTagATune's three broken clips are left out.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result, bail};
use earmark_assets::MTAT_TAGS;
use serde::{Deserialize, Serialize};

use super::items::{Collection, Item, Layout, Split, stays_inside, stem};
use super::npy;

/// Name of the annotation file.
pub const ANNOTATIONS_FILE: &str = "annotations_final.csv";
/// Name of the file that tells which track a clip comes from.
pub const CLIP_INFO_FILE: &str = "clip_info_final.csv";
/// Paths by clip id, beside the text lists.
pub const LIST_INDEX_FILE: &str = "index_mtt.tsv";

/// One file is missing from the data set and two are damaged (musicnn-training's `partition_gt.py`).
const BROKEN_IDS: [&str; 3] = ["35644", "55753", "57881"];
/// The split's part in the names of the text lists and of the `.npy` lists.
const LIST_NAMES: [(Split, &str, &str); 3] = [
    (Split::Train, "train_gt_mtt.tsv", "train.npy"),
    (Split::Valid, "val_gt_mtt.tsv", "valid.npy"),
    (Split::Test, "test_gt_mtt.tsv", "test.npy"),
];

/// What decides the split of a clip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum SplitRule {
    /// The folder: 0-9, a, b train (18,706 clips), c validation (1,825), d, e, f test (5,329), as since Lee et al.
    /// (2017).
    #[default]
    Folders,
    /// The folder, without the clips that have none of the 50 tags (15,244, 1,529 and 4,332), as in musicnn (Pons and
    /// Serra, 2019) and in Won et al. (2020).
    Clean,
    /// Lists in the data folder: `train_gt_mtt.tsv`, `val_gt_mtt.tsv`, `test_gt_mtt.tsv` and `index_mtt.tsv`, or
    /// `train.npy`, `valid.npy` and `test.npy`.
    Lists,
}

impl SplitRule {
    /// In words, as a run's identity records it.
    fn describe(self) -> &'static str {
        match self {
            Self::Folders => "folders: 0-9, a, b train; c valid; d, e, f test",
            Self::Clean => "clean: folders 0-9, a, b train; c valid; d, e, f test; without clips that have no tag",
            Self::Lists => "lists of clips in the data folder",
        }
    }
}

/// The split of a folder of MagnaTagATune.
fn split_of_folder(folder: &str) -> Option<Split> {
    match folder {
        "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "a" | "b" => Some(Split::Train),
        "c" => Some(Split::Valid),
        "d" | "e" | "f" => Some(Split::Test),
        _ => None,
    }
}

/// Reads the label files in `root`. Audio is not touched.
///
/// # Errors
/// Names file and line: unreadable, columns missing, a value other than 0 or 1, an id or a path that occurs twice, a
/// folder outside 0 to f, a path that leaves the data folder; lists that are asked for and are not there.
pub fn open(root: &Path, rule: SplitRule) -> Result<Collection> {
    let mut collection = Collection::new(Layout::MagnaTagATune, root, rule.describe());
    let path = root.join(ANNOTATIONS_FILE);
    if rule == SplitRule::Lists && !path.is_file() {
        collection.tags = MTAT_TAGS.map(str::to_owned).to_vec();
    } else {
        let text = std::fs::read(&path).with_context(|| {
            format!("{}: cannot be read; --data must name a folder in MagnaTagATune's layout", path.display())
        })?;
        let annotations = parse_annotations(&text).with_context(|| format!("{}", path.display()))?;
        collection.tags = annotations.tags;
        collection.items = annotations.items;
        collection.leave_out("without a path", annotations.rows_without_path);
        collection.leave_out("broken in every copy of MagnaTagATune", annotations.broken);
        collection.label_files.push(path);
    }
    match rule {
        SplitRule::Folders => {}
        SplitRule::Clean => {
            let listed = collection.items.len();
            collection.items.retain(|item| item.tag_targets.contains(&true));
            collection.leave_out("without any of the tags", listed - collection.items.len());
        }
        SplitRule::Lists => apply_lists(root, &mut collection)?,
    }
    let path = root.join(CLIP_INFO_FILE);
    if path.is_file() {
        let text = std::fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
        apply_clip_info(&text, &mut collection);
        collection.label_files.push(path);
    }
    Ok(collection)
}

/// What [`ANNOTATIONS_FILE`] holds.
#[derive(Debug)]
struct Annotations {
    tags: Vec<String>,
    items: Vec<Item>,
    rows_without_path: usize,
    broken: usize,
}

fn parse_annotations(text: &[u8]) -> Result<Annotations> {
    let mut reader = csv::ReaderBuilder::new().delimiter(b'\t').flexible(true).from_reader(text);
    let header = reader.headers().context("line 1 is not text")?.clone();
    let columns = header.len();
    if header.get(0) != Some("clip_id") || header.iter().next_back() != Some("mp3_path") {
        bail!("line 1: expected the columns clip_id, the tags, mp3_path, separated by tabs");
    }
    let file_tags: Vec<&str> = header.iter().skip(1).take(columns - 2).collect();
    // The ids of another data set in this layout mean other clips.
    let is_the_original = file_tags.len() > MTAT_TAGS.len();
    let (tags, tag_columns) = choose_tags(&file_tags)?;

    let (mut items, mut rows_without_path, mut broken) = (Vec::new(), 0, 0);
    let (mut seen_ids, mut seen_paths) = (HashSet::new(), HashSet::new());
    for record in reader.into_records() {
        let record = record.map_err(|error| {
            let line = error.position().map_or(0, csv::Position::line);
            anyhow::anyhow!("line {line}: {error}")
        })?;
        let line = record.position().map_or(0, csv::Position::line);
        let row = parse_row(&record, columns, &tag_columns).with_context(|| format!("line {line}"))?;
        let Some(item) = row else {
            rows_without_path += 1;
            continue;
        };
        if is_the_original && BROKEN_IDS.contains(&item.id.as_str()) {
            broken += 1;
            continue;
        }
        if !seen_ids.insert(item.id.clone()) {
            bail!("line {line}: clip_id {} occurs a second time", item.id);
        }
        if !seen_paths.insert(item.path.clone()) {
            bail!("line {line}: {} occurs a second time", item.path);
        }
        items.push(item);
    }
    if items.is_empty() {
        bail!("the file lists no clips");
    }
    Ok(Annotations { tags, items, rows_without_path, broken })
}

/// The tags to train on and their column numbers: all where the file has fifty or fewer, else the fifty most frequent
/// of MagnaTagATune by name, synonyms not merged, as is usual.
fn choose_tags(file_tags: &[&str]) -> Result<(Vec<String>, Vec<usize>)> {
    if file_tags.is_empty() {
        bail!("line 1: there are no tag columns between clip_id and mp3_path");
    }
    let chosen: Vec<&str> = if file_tags.len() <= MTAT_TAGS.len() { file_tags.to_vec() } else { MTAT_TAGS.to_vec() };
    let columns = chosen
        .iter()
        .map(|tag| {
            let mut at = file_tags.iter().enumerate().filter(|(_, name)| *name == tag).map(|(index, _)| index + 1);
            match (at.next(), at.next()) {
                (Some(column), None) => Ok(column),
                (None, _) => bail!("line 1: there is no column for the tag '{tag}'"),
                (Some(_), Some(_)) => bail!("line 1: there are two columns for the tag '{tag}'"),
            }
        })
        .collect::<Result<_>>()?;
    Ok((chosen.into_iter().map(str::to_owned).collect(), columns))
}

/// `None` for a row without a path.
fn parse_row(record: &csv::StringRecord, columns: usize, tag_columns: &[usize]) -> Result<Option<Item>> {
    if record.len() != columns {
        bail!("{} columns, the header has {columns}", record.len());
    }
    let id = clip_id(&record[0])?;
    let path = record[columns - 1].trim();
    if path.is_empty() {
        return Ok(None);
    }
    let tag_targets = tag_columns
        .iter()
        .map(|&column| match &record[column] {
            "0" => Ok(false),
            "1" => Ok(true),
            other => bail!("tag column {} holds '{other}'; it must be 0 or 1", column + 1),
        })
        .collect::<Result<_>>()?;
    item(id, path, tag_targets).map(Some)
}

/// Ids are numbers; written in one way, they can be compared as text.
fn clip_id(text: &str) -> Result<String> {
    let id: u64 = text.trim().parse().with_context(|| format!("clip_id '{text}' is not a number"))?;
    Ok(id.to_string())
}

fn item(id: String, path: &str, tag_targets: Vec<bool>) -> Result<Item> {
    let Some(split) = split_of_folder(path.split('/').next().unwrap_or_default()) else {
        bail!("mp3_path '{path}' must start with a folder 0 to 9 or a to f, which decides the split");
    };
    stays_inside("mp3_path", path)?;
    let (track, start_secs, length_secs) = origin_of_name(stem(path));
    Ok(Item { id, path: path.to_owned(), split, group: track.to_owned(), start_secs, length_secs, tag_targets })
}

/// `artist-album-01-title-30-59` is cut from 30 s to 59 s of the track `artist-album-01-title`.
fn origin_of_name(name: &str) -> (&str, f64, Option<f64>) {
    let mut parts = name.rsplitn(3, '-');
    let secs = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok()).map(f64::from);
    let (end, start) = (secs(parts.next()), secs(parts.next()));
    match (parts.next(), start, end) {
        (Some(track), Some(start), Some(end)) if start < end => (track, start, Some(end - start)),
        _ => (name, 0.0, None),
    }
}

/// Where a clip comes from, according to [`CLIP_INFO_FILE`].
#[derive(Debug, PartialEq)]
struct Origin {
    track: String,
    start_secs: f64,
    length_secs: Option<f64>,
}

/// Takes track, start and length from the file. It only adds to what the names of the clips tell, so a row that cannot
/// be read is worth a warning, not a refusal.
fn apply_clip_info(text: &[u8], collection: &mut Collection) {
    let (origins, unreadable) = match parse_clip_info(text) {
        Ok(parsed) => parsed,
        Err(error) => {
            collection
                .warnings
                .push(format!("{CLIP_INFO_FILE}: {error:#}; the clips' names tell their tracks instead"));
            return;
        }
    };
    if unreadable > 0 {
        let what = format!("{CLIP_INFO_FILE}: {unreadable} rows cannot be read");
        collection.warnings.push(format!("{what}; the clips' names tell their tracks instead"));
    }
    for item in &mut collection.items {
        if let Some(origin) = origins.get(&item.id) {
            item.group.clone_from(&origin.track);
            (item.start_secs, item.length_secs) = (origin.start_secs, origin.length_secs);
        }
    }
}

/// Origins by clip id, and the number of rows without a readable id. A row without a title tells no track.
fn parse_clip_info(text: &[u8]) -> Result<(HashMap<String, Origin>, usize)> {
    let mut reader = csv::ReaderBuilder::new().delimiter(b'\t').flexible(true).from_reader(text);
    let header = reader.byte_headers().context("line 1 cannot be read")?.clone();
    let column = |name: &str| {
        let at = header.iter().position(|field| field == name.as_bytes());
        at.with_context(|| format!("line 1: there is no column {name}"))
    };
    let [id, title, artist, album] = [column("clip_id")?, column("title")?, column("artist")?, column("album")?];
    let [start, end] = [column("segmentStart")?, column("segmentEnd")?];
    let (mut origins, mut unreadable) = (HashMap::new(), 0);
    for record in reader.into_byte_records() {
        let record = record?;
        // Names are old and from everywhere; their bytes need not be UTF-8 to be compared.
        let field = |index: usize| String::from_utf8_lossy(record.get(index).unwrap_or_default()).trim().to_owned();
        let Ok(clip) = clip_id(&field(id)) else {
            unreadable += 1;
            continue;
        };
        let secs = |index: usize| field(index).parse().ok().filter(|secs: &f64| secs.is_finite());
        let length_secs = secs(start).zip(secs(end)).map(|(start, end)| end - start).filter(|&secs| secs > 0.0);
        if !field(title).is_empty() {
            let track = format!("{} / {} / {}", field(artist), field(album), field(title));
            origins.insert(clip, Origin { track, start_secs: secs(start).unwrap_or(0.0), length_secs });
        }
    }
    Ok((origins, unreadable))
}

/// A clip that a list names: by id with its targets, or by path.
#[derive(Debug, PartialEq)]
enum Listed {
    Id(String, Vec<bool>),
    Path(String),
}

/// Replaces the split of the items by that of the lists and leaves out what no list names. Without an annotation file,
/// the items are made from the text lists.
fn apply_lists(root: &Path, collection: &mut Collection) -> Result<()> {
    let listed = read_lists(root, collection)?;
    let without_annotations = collection.items.is_empty();
    let paths = if without_annotations { read_list_index(root, collection)? } else { HashMap::new() };
    let items = std::mem::take(&mut collection.items);
    let known = items.len();
    let by_path: HashMap<String, String> = items.iter().map(|item| (item.path.clone(), item.id.clone())).collect();
    let mut by_id: HashMap<String, Item> = items.into_iter().map(|item| (item.id.clone(), item)).collect();
    let mut places: HashMap<String, usize> = HashMap::new();
    let (mut in_two_splits, mut unknown) = (BTreeSet::new(), Vec::new());
    for (split, clip) in listed {
        let (id, targets) = match clip {
            Listed::Id(id, targets) => (Some(id), targets),
            Listed::Path(path) => (by_path.get(&path).cloned(), Vec::new()),
        };
        let Some(id) = id else {
            unknown.push(split);
            continue;
        };
        if let Some(&at) = places.get(&id) {
            let item: &mut Item = &mut collection.items[at];
            if item.split != split {
                in_two_splits.insert(id);
                item.split = split.max(item.split);
            }
            continue;
        }
        let item = match paths.get(&id) {
            Some(path) => Some(item(id.clone(), path, targets)?),
            None => by_id.remove(&id),
        };
        let Some(item) = item else {
            unknown.push(split);
            continue;
        };
        places.insert(id, collection.items.len());
        collection.items.push(Item { split, ..item });
    }
    if collection.items.is_empty() {
        bail!("{}: none of the clips in the lists is known", root.display());
    }
    collection.in_two_splits = in_two_splits.into_iter().collect();
    collection.leave_out("in a list, but not in the annotations or the index", unknown.len());
    collection.leave_out("in no list", known.saturating_sub(collection.items.len()));
    Ok(())
}

fn read_lists(root: &Path, collection: &mut Collection) -> Result<Vec<(Split, Listed)>> {
    let is_text = root.join(LIST_NAMES[0].1).is_file();
    let mut listed = Vec::new();
    for (split, text_name, npy_name) in LIST_NAMES {
        let path = root.join(if is_text { text_name } else { npy_name });
        let clips = if is_text {
            let text = std::fs::read_to_string(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
            parse_text_list(&text).with_context(|| format!("{}", path.display()))?
        } else {
            npy::read_strings(&path)?
                .into_iter()
                .map(|row| match row.split_once('\t') {
                    Some((_, path)) => Ok(Listed::Path(path.to_owned())),
                    None => bail!("{}: row '{row}' must be a number, a tab and a path", path.display()),
                })
                .collect::<Result<_>>()?
        };
        listed.extend(clips.into_iter().map(|clip| (split, clip)));
        collection.label_files.push(path);
    }
    Ok(listed)
}

/// Lines of a clip id, a tab and fifty zeros and ones as Python writes a list: `2<TAB>[1.0, 0.0, ...]`.
fn parse_text_list(text: &str) -> Result<Vec<Listed>> {
    let row = |line: &str| {
        let (id, list) = line.split_once('\t').context("expected a clip id, a tab and a list")?;
        let list = list.trim().strip_prefix('[').and_then(|list| list.strip_suffix(']'));
        let targets = list.context("the list must stand in square brackets")?.split(',').map(|value| {
            match value.trim().parse::<f32>() {
                Ok(0.0) => Ok(false),
                Ok(1.0) => Ok(true),
                _ => bail!("the list holds '{}'; it must be 0 or 1", value.trim()),
            }
        });
        let targets: Vec<bool> = targets.collect::<Result<_>>()?;
        if targets.len() != MTAT_TAGS.len() {
            bail!("the list holds {} values, there are {} tags", targets.len(), MTAT_TAGS.len());
        }
        Ok(Listed::Id(clip_id(id)?, targets))
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(index, line)| row(line).with_context(|| format!("line {}", index + 1))).collect()
}

/// Paths by clip id. What stands in front of the folder `0` to `f` depends on the machine that wrote the index.
fn read_list_index(root: &Path, collection: &mut Collection) -> Result<HashMap<String, String>> {
    let path = root.join(LIST_INDEX_FILE);
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!("{}: cannot be read; without {ANNOTATIONS_FILE} it must tell the clips' paths", path.display())
    })?;
    let row = |line: &str| -> Result<(String, String)> {
        let (id, path) = line.split_once('\t').context("expected a clip id, a tab and a path")?;
        let mut parts = path.trim().rsplitn(3, '/');
        let (name, folder) = (parts.next().unwrap_or_default(), parts.next().context("the path has no folder")?);
        Ok((clip_id(id)?, format!("{folder}/{name}")))
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let paths = lines.map(|(index, line)| row(line).with_context(|| format!("{}: line {}", path.display(), index + 1)));
    let paths = paths.collect::<Result<_>>()?;
    collection.label_files.push(path);
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        format!("{:#}", parse_annotations(text.as_bytes()).expect_err("must be refused"))
    }

    const SMALL: &str = "\"clip_id\"\t\"guitar\"\t\"no voice\"\t\"mp3_path\"\n\
        \"2\"\t\"1\"\t\"0\"\t\"0/a.mp3\"\n\
        \"6\"\t\"0\"\t\"1\"\t\"c/b.mp3\"\n\
        \"7\"\t\"0\"\t\"0\"\t\"\"\n\
        \"9\"\t\"1\"\t\"1\"\t\"f/c.mp3\"\n";

    #[test]
    fn reads_tags_paths_and_folder_split() {
        let Annotations { tags, items, rows_without_path, broken } =
            parse_annotations(SMALL.as_bytes()).expect("a valid file");
        assert_eq!(tags, ["guitar", "no voice"]);
        assert_eq!((rows_without_path, broken), (1, 0));
        let splits: Vec<_> = items.iter().map(|item| (item.id.as_str(), item.split, item.path.as_str())).collect();
        let expected = [("2", Split::Train, "0/a.mp3"), ("6", Split::Valid, "c/b.mp3"), ("9", Split::Test, "f/c.mp3")];
        assert_eq!(splits, expected);
        assert_eq!(items[1].tag_targets, [false, true]);
    }

    #[test]
    fn of_188_columns_the_top_50_are_taken_by_name() {
        let mut names: Vec<String> = (0..138).map(|index| format!("rare {index}")).collect();
        names.extend(MTAT_TAGS.iter().rev().map(ToString::to_string));
        let values: Vec<&str> = names.iter().map(|name| if name == "cello" { "1" } else { "0" }).collect();
        let text = format!("clip_id\t{}\tmp3_path\n1\t{}\ta/x.mp3\n", names.join("\t"), values.join("\t"));
        let text = format!("{text}35644\t{}\t6/broken.mp3\n", values.join("\t"));
        let Annotations { tags, items, broken, .. } = parse_annotations(text.as_bytes()).expect("a valid file");
        assert_eq!(tags, MTAT_TAGS);
        assert_eq!((items.len(), broken), (1, 1));
        let positive: Vec<_> = tags.iter().zip(&items[0].tag_targets).filter(|(_, on)| **on).collect();
        assert_eq!(positive.len(), 1);
        assert_eq!(positive[0].0, "cello");
    }

    #[test]
    fn a_malformed_row_is_named_by_its_line() {
        let row3 = |replacement: &str| SMALL.replace("\"6\"\t\"0\"\t\"1\"\t\"c/b.mp3\"", replacement);
        assert!(refused(&row3("\"6\"\t\"0\"\t\"c/b.mp3\"")).contains("line 3: 3 columns, the header has 4"));
        assert!(refused(&row3("x\t0\t1\tc/b.mp3")).contains("line 3: clip_id 'x'"));
        assert!(refused(&row3("6\t0\t2\tc/b.mp3")).contains("line 3: tag column 3 holds '2'"));
        assert!(refused(&row3("6\t0\t1\tz/b.mp3")).contains("line 3: mp3_path 'z/b.mp3'"));
        assert!(refused(&row3("6\t0\t1\tc/../../b.mp3")).contains("inside the data folder"));
        assert!(refused(&row3("2\t0\t1\tc/b.mp3")).contains("line 3: clip_id 2 occurs a second time"));
        assert!(refused(&row3("6\t0\t1\t0/a.mp3")).contains("line 3: 0/a.mp3 occurs a second time"));
        assert!(refused("clip_id,guitar,mp3_path\n").contains("separated by tabs"));
        assert!(refused("clip_id\tguitar\tmp3_path\n").contains("no clips"));
        assert!(refused("clip_id\tguitar\tguitar\tmp3_path\n").contains("two columns"));
    }

    fn fixture(root: &Path) {
        std::fs::write(root.join(ANNOTATIONS_FILE), SMALL.replace("\"9\"\t\"1\"\t\"1\"", "\"9\"\t\"0\"\t\"0\""))
            .expect("written");
    }

    fn ids_and_splits(collection: &Collection) -> Vec<(&str, Split)> {
        collection.items.iter().map(|item| (item.id.as_str(), item.split)).collect()
    }

    #[test]
    fn the_clean_split_leaves_out_clips_without_a_tag() {
        let folder = tempfile::tempdir().expect("a folder");
        fixture(folder.path());
        let all = open(folder.path(), SplitRule::Folders).expect("MagnaTagATune");
        assert_eq!(ids_and_splits(&all), [("2", Split::Train), ("6", Split::Valid), ("9", Split::Test)]);
        let clean = open(folder.path(), SplitRule::Clean).expect("MagnaTagATune");
        assert_eq!(ids_and_splits(&clean), [("2", Split::Train), ("6", Split::Valid)]);
        assert_eq!(clean.left_out[1].count, 1);
    }

    #[test]
    fn clip_info_tells_the_track_and_else_the_name_does() {
        let folder = tempfile::tempdir().expect("a folder");
        fixture(folder.path());
        let info = "\"clip_id\"\t\"track_number\"\t\"title\"\t\"artist\"\t\"album\"\t\"url\"\t\"segmentStart\"\t\
            \"segmentEnd\"\t\"original_url\"\t\"mp3_path\"\n\
            \"2\"\t\"1\"\t\"Aria\"\t\"Soloists\"\t\"Cantatas\"\t\"\"\t\"30\"\t\"59\"\t\"\"\t\"0/a.mp3\"\n\
            \"6\"\t\"1\"\t\"\"\t\"\"\t\"\"\t\"\"\t\"\"\t\"\"\t\"\"\t\"\"\n";
        std::fs::write(folder.path().join(CLIP_INFO_FILE), info).expect("written");
        let collection = open(folder.path(), SplitRule::Folders).expect("MagnaTagATune");
        let item = &collection.items[0];
        assert_eq!(
            (item.group.as_str(), item.start_secs, item.length_secs),
            ("Soloists / Cantatas / Aria", 30.0, Some(29.0))
        );
        assert_eq!(collection.items[1].group, "b");
        assert!(collection.warnings.is_empty());
        std::fs::write(folder.path().join(CLIP_INFO_FILE), format!("{info}half a row\n")).expect("written");
        let collection = open(folder.path(), SplitRule::Folders).expect("MagnaTagATune");
        assert_eq!(collection.items[0].start_secs, 30.0);
        assert!(collection.warnings[0].contains("1 rows cannot be read"), "{:?}", collection.warnings);

        assert_eq!(origin_of_name("artist-album-01-title-30-59"), ("artist-album-01-title", 30.0, Some(29.0)));
        assert_eq!(origin_of_name("clip-7"), ("clip-7", 0.0, None));
        assert_eq!(origin_of_name("one-59-30"), ("one-59-30", 0.0, None));
    }

    /// A row of a text list whose `tag`-th value is 1.
    fn list_row(id: u32, tag: usize) -> String {
        let values: Vec<&str> = (0..50).map(|index| if index == tag { "1.0" } else { "0.0" }).collect();
        format!("{id}\t[{}]\n", values.join(", "))
    }

    #[test]
    fn text_lists_decide_with_and_without_annotations() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
        write("train_gt_mtt.tsv", &list_row(9, 0));
        write("val_gt_mtt.tsv", &list_row(6, 49));
        write("test_gt_mtt.tsv", &(list_row(9, 0) + &list_row(77, 3)));
        write("index_mtt.tsv", "9\tsomewhere/audio/f/c.mp3\n6\tc/b.mp3\n");
        let alone = open(folder.path(), SplitRule::Lists).expect("lists alone");
        assert_eq!(ids_and_splits(&alone), [("9", Split::Test), ("6", Split::Valid)]);
        assert_eq!(alone.items[0].path, "f/c.mp3");
        assert_eq!((alone.tags.len(), alone.items[1].tag_targets[49]), (50, true));
        assert_eq!(alone.in_two_splits, ["9"]);
        assert_eq!(alone.left_out.len(), 1, "clip 77 is in no index: {:?}", alone.left_out);

        fixture(folder.path());
        let with = open(folder.path(), SplitRule::Lists).expect("lists and annotations");
        assert_eq!(ids_and_splits(&with), ids_and_splits(&alone));
        assert_eq!(with.tags, ["guitar", "no voice"]);
        assert_eq!(with.left_out.iter().map(|left| left.count).collect::<Vec<_>>(), [1, 1, 1]);
    }

    #[test]
    fn npy_lists_name_paths() {
        let folder = tempfile::tempdir().expect("a folder");
        fixture(folder.path());
        for (name, rows) in
            [("train.npy", &["0\tf/c.mp3"][..]), ("valid.npy", &["1\tc/b.mp3"]), ("test.npy", &["2\t0/a.mp3"])]
        {
            std::fs::write(folder.path().join(name), npy::string_file(rows)).expect("written");
        }
        let collection = open(folder.path(), SplitRule::Lists).expect("lists");
        assert_eq!(ids_and_splits(&collection), [("9", Split::Train), ("6", Split::Valid), ("2", Split::Test)]);
    }

    #[test]
    fn a_malformed_list_is_named_by_its_line() {
        let refused = |text: &str| format!("{:#}", parse_text_list(text).expect_err("must be refused"));
        assert!(refused("2 [1.0]").contains("line 1: expected a clip id"));
        assert!(refused(&(list_row(1, 0) + "2\t[1.0, 0.0]")).contains("line 2: the list holds 2 values"));
        assert!(refused("2\t[1.0, 0.5]").contains("'0.5'"));
        assert!(refused("2\t1.0").contains("square brackets"));
    }
}
