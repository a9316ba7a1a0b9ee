//! The layout of MagnaTagATune: `annotations_final.csv` beside sixteen folders `0` to `f` of clips.
//!
//! ```text
//! "clip_id"  "guitar"  ...  "choral"  "mp3_path"          tab-separated, quoted, one row per clip
//! "2"        "1"       ...  "0"       "f/artist-album-01-title-30-59.mp3"
//! ```
//!
//! The first character of `mp3_path` is the folder and decides the split (0-9, a, b: train; c: validation; d, e, f:
//! test), as in the literature since Lee et al. (2017). Rows without a path are left out, as MagnaTagATune's three
//! broken clips are.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use earmark_assets::MTAT_TAGS;

/// Name of the annotation file.
pub const ANNOTATIONS_FILE: &str = "annotations_final.csv";

/// Part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Split {
    /// What the network learns from.
    Train,
    /// What every choice is made on.
    Valid,
    /// What is looked at once, at the end.
    Test,
}

impl Split {
    /// The split of a folder of MagnaTagATune.
    fn of_folder(folder: &str) -> Option<Self> {
        match folder {
            "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "a" | "b" => Some(Self::Train),
            "c" => Some(Self::Valid),
            "d" | "e" | "f" => Some(Self::Test),
            _ => None,
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Valid => "valid",
            Self::Test => "test",
        })
    }
}

/// One labelled clip.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipEntry {
    /// Identifier in the annotation file.
    pub id: u64,
    /// Path relative to the data folder, with `/`.
    pub path: String,
    /// Part of the data set that the clip belongs to.
    pub split: Split,
    /// Multi-hot truth, `[num_tags]`.
    pub tag_targets: Vec<bool>,
}

/// A data set in MagnaTagATune's layout.
#[derive(Clone, Debug)]
pub struct Mtat {
    /// Folder that holds the annotation file and the clips' folders.
    pub root: PathBuf,
    /// Tag names in the order of the targets.
    pub tags: Vec<String>,
    /// Every row with a path, in the order of the file.
    pub clips: Vec<ClipEntry>,
    /// Rows without a path, left out.
    pub rows_without_path: usize,
}

impl Mtat {
    /// Reads the annotation file in `root`. Audio is not touched.
    ///
    /// # Errors
    /// Names file and line: unreadable, columns missing, a value other than 0 or 1, an id or a path that occurs twice,
    /// a folder outside 0 to f, a path that leaves the data folder.
    pub fn open(root: &Path) -> Result<Self> {
        let path = root.join(ANNOTATIONS_FILE);
        let text = std::fs::read(&path).with_context(|| {
            format!("{}: cannot be read; --data must name a folder in MagnaTagATune's layout", path.display())
        })?;
        let (tags, clips, rows_without_path) =
            parse_annotations(&text).with_context(|| format!("{}", path.display()))?;
        Ok(Self { root: root.to_owned(), tags, clips, rows_without_path })
    }

    /// The clips of one split, in the order of the file.
    pub fn split(&self, split: Split) -> impl Iterator<Item = &ClipEntry> {
        self.clips.iter().filter(move |clip| clip.split == split)
    }
}

fn parse_annotations(text: &[u8]) -> Result<(Vec<String>, Vec<ClipEntry>, usize)> {
    let mut reader = csv::ReaderBuilder::new().delimiter(b'\t').flexible(true).from_reader(text);
    let header = reader.headers().context("line 1 is not text")?.clone();
    let columns = header.len();
    if header.get(0) != Some("clip_id") || header.iter().next_back() != Some("mp3_path") {
        bail!("line 1: expected the columns clip_id, the tags, mp3_path, separated by tabs");
    }
    let file_tags: Vec<&str> = header.iter().skip(1).take(columns - 2).collect();
    let (tags, tag_columns) = choose_tags(&file_tags)?;

    let mut clips = Vec::new();
    let mut rows_without_path = 0;
    let mut seen_ids = std::collections::HashSet::new();
    let mut seen_paths = std::collections::HashSet::new();
    for record in reader.into_records() {
        let record = record.map_err(|error| {
            let line = error.position().map_or(0, csv::Position::line);
            anyhow::anyhow!("line {line}: {error}")
        })?;
        let line = record.position().map_or(0, csv::Position::line);
        let row = parse_row(&record, columns, &tag_columns).with_context(|| format!("line {line}"))?;
        let Some(clip) = row else {
            rows_without_path += 1;
            continue;
        };
        if !seen_ids.insert(clip.id) {
            bail!("line {line}: clip_id {} occurs a second time", clip.id);
        }
        if !seen_paths.insert(clip.path.clone()) {
            bail!("line {line}: {} occurs a second time", clip.path);
        }
        clips.push(clip);
    }
    if clips.is_empty() {
        bail!("the file lists no clips");
    }
    Ok((tags, clips, rows_without_path))
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
fn parse_row(record: &csv::StringRecord, columns: usize, tag_columns: &[usize]) -> Result<Option<ClipEntry>> {
    if record.len() != columns {
        bail!("{} columns, the header has {columns}", record.len());
    }
    let id = record[0].parse().with_context(|| format!("clip_id '{}' is not a number", &record[0]))?;
    let path = record[columns - 1].trim().to_owned();
    if path.is_empty() {
        return Ok(None);
    }
    let folder = path.split('/').next().unwrap_or_default();
    let Some(split) = Split::of_folder(folder) else {
        bail!("mp3_path '{path}' must start with a folder 0 to 9 or a to f, which decides the split");
    };
    if path.split('/').any(|part| part == ".." || part.is_empty()) || path.contains('\\') {
        bail!("mp3_path '{path}' must stay inside the data folder");
    }
    let tag_targets = tag_columns
        .iter()
        .map(|&column| match &record[column] {
            "0" => Ok(false),
            "1" => Ok(true),
            other => bail!("tag column {} holds '{other}'; it must be 0 or 1", column + 1),
        })
        .collect::<Result<_>>()?;
    Ok(Some(ClipEntry { id, path, split, tag_targets }))
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
        let (tags, clips, rows_without_path) = parse_annotations(SMALL.as_bytes()).expect("a valid file");
        assert_eq!(tags, ["guitar", "no voice"]);
        assert_eq!(rows_without_path, 1);
        let splits: Vec<_> = clips.iter().map(|clip| (clip.id, clip.split, clip.path.as_str())).collect();
        assert_eq!(splits, [(2, Split::Train, "0/a.mp3"), (6, Split::Valid, "c/b.mp3"), (9, Split::Test, "f/c.mp3")]);
        assert_eq!(clips[1].tag_targets, [false, true]);
    }

    #[test]
    fn of_188_columns_the_top_50_are_taken_by_name() {
        let mut names: Vec<String> = (0..138).map(|index| format!("rare {index}")).collect();
        names.extend(MTAT_TAGS.iter().rev().map(ToString::to_string));
        let values: Vec<&str> = names.iter().map(|name| if name == "cello" { "1" } else { "0" }).collect();
        let text = format!("clip_id\t{}\tmp3_path\n1\t{}\ta/x.mp3\n", names.join("\t"), values.join("\t"));
        let (tags, clips, _) = parse_annotations(text.as_bytes()).expect("a valid file");
        assert_eq!(tags, MTAT_TAGS);
        let positive: Vec<_> = tags.iter().zip(&clips[0].tag_targets).filter(|(_, on)| **on).collect();
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
}
