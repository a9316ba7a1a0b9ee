//! The layout of MTG-Jamendo (Bogdanov et al., 2019): tab-separated lists with CRLF and as many tag columns as a track
//! has tags.
//!
//! ```text
//! TRACK_ID       ARTIST_ID      ALBUM_ID      PATH        DURATION  TAGS
//! track_0000948  artist_000087  album_000149  48/948.mp3  212.7     genre---rock  genre---poprock
//!
//! DIR[/data]/autotagging_genre.tsv, autotagging_moodtheme.tsv            (or autotagging.tsv, which has both)
//! DIR[/data]/splits/split-0/autotagging_genre-{train,validation,test}.tsv, ...
//! DIR, DIR/audio, DIR/audio-low, or a folder `audio`, `audio-low` or `music` beside DIR: 48/948.mp3 or 48/948.low.mp3
//! ```
//!
//! Stage 1 takes the tracks that carry a genre and a mood or theme tag. The split is the data set's own split-0, which
//! keeps the tracks of an album together.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::items::{Collection, Item, Layout, Split, stays_inside};

/// Tags of both kinds are asked of a track.
const CATEGORIES: [&str; 2] = ["genre---", "mood/theme---"];
/// Lists of one kind each, and the list of all kinds.
const SUBSETS: [&str; 2] = ["autotagging_genre", "autotagging_moodtheme"];
const WHOLE: &str = "autotagging";
/// The data set's name of each split.
const SPLITS: [(Split, &str); 3] = [(Split::Train, "train"), (Split::Valid, "validation"), (Split::Test, "test")];
/// Tracks looked at to find the folder of the audio.
const PROBED_TRACKS: usize = 200;

/// One line of a list.
#[derive(Clone, Debug, PartialEq)]
struct Track {
    id: String,
    album: String,
    path: String,
    duration_secs: f64,
    tags: Vec<String>,
}

/// The folder of the lists in or at `dir`, if there is one.
pub fn find_lists(dir: &Path) -> Option<PathBuf> {
    let has_lists =
        |folder: &PathBuf| SUBSETS.iter().chain([&WHOLE]).any(|name| folder.join(format!("{name}.tsv")).is_file());
    [dir.to_owned(), dir.join("data")].into_iter().find(has_lists)
}

/// Reads the lists in `dir` and finds the audio.
///
/// # Errors
/// Names file, line and rule: no list, a row with fewer than six columns, a tag without a category, a path that leaves
/// the audio folder.
pub fn open(dir: &Path) -> Result<Collection> {
    let Some(lists) = find_lists(dir) else {
        bail!("{}: holds no {}.tsv as MTG-Jamendo does", dir.display(), SUBSETS[0]);
    };
    let names: &[&str] =
        if SUBSETS.iter().all(|name| lists.join(format!("{name}.tsv")).is_file()) { &SUBSETS } else { &[WHOLE] };
    let mut collection = Collection::new(Layout::Jamendo, dir, "split-0");

    let mut tracks: BTreeMap<String, Track> = BTreeMap::new();
    for name in names {
        let path = lists.join(format!("{name}.tsv"));
        for track in read_list(&path)? {
            tracks
                .entry(track.id.clone())
                .or_insert_with(|| Track { tags: Vec::new(), ..track.clone() })
                .tags
                .extend(track.tags);
        }
        collection.label_files.push(path);
    }
    let listed = tracks.len();
    tracks.retain(|_, track| CATEGORIES.iter().all(|kind| track.tags.iter().any(|tag| tag.starts_with(kind))));
    collection.leave_out("without a genre tag or without a mood or theme tag", listed - tracks.len());
    if tracks.is_empty() {
        bail!("{}: no track has a genre tag and a mood or theme tag", lists.display());
    }

    let Splits { of_track: splits, tags } = read_splits(&lists, names, &mut collection)?;
    collection.tags = tags.into_iter().collect();

    collection.root = find_audio(dir, &lists, &tracks);
    let mut without_split = 0;
    for track in tracks.into_values() {
        let Some(&split) = splits.get(&track.id) else {
            without_split += 1;
            continue;
        };
        collection.items.push(Item {
            id: track.id,
            path: existing(&collection.root, track.path),
            split,
            group: track.album,
            start_secs: 0.0,
            length_secs: Some(track.duration_secs),
            tag_targets: collection.tags.iter().map(|tag| track.tags.contains(tag)).collect(),
        });
    }
    collection.leave_out("in no list of split-0", without_split);
    Ok(collection)
}

fn read_list(path: &Path) -> Result<Vec<Track>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    parse_list(&text).with_context(|| format!("{}", path.display()))
}

fn parse_list(text: &str) -> Result<Vec<Track>> {
    if !text.starts_with("TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS") {
        bail!("line 1: expected the columns TRACK_ID, ARTIST_ID, ALBUM_ID, PATH, DURATION, TAGS, separated by tabs");
    }
    let rows = text.lines().enumerate().skip(1).filter(|(_, line)| !line.trim().is_empty());
    rows.map(|(index, line)| parse_row(line).with_context(|| format!("line {}", index + 1))).collect()
}

fn parse_row(line: &str) -> Result<Track> {
    let fields: Vec<&str> = line.split('\t').map(str::trim).collect();
    let [id, _artist, album, path, duration, tags @ ..] = fields.as_slice() else {
        bail!("{} columns, a track has at least 6", fields.len());
    };
    stays_inside("PATH", path)?;
    let duration_secs = duration
        .parse()
        .ok()
        .filter(|secs: &f64| secs.is_finite() && *secs >= 0.0)
        .with_context(|| format!("DURATION '{duration}' is not a number of seconds"))?;
    let tags: Vec<String> = tags.iter().filter(|tag| !tag.is_empty()).map(ToString::to_string).collect();
    if let Some(tag) = tags.iter().find(|tag| !tag.contains("---")) {
        bail!("tag '{tag}' must be category---tag");
    }
    Ok(Track { id: (*id).to_owned(), album: (*album).to_owned(), path: (*path).to_owned(), duration_secs, tags })
}

/// What the lists of split-0 say.
struct Splits {
    of_track: HashMap<String, Split>,
    /// The genre, mood and theme tags in them: those that occur in every split (87 and 56), not all that there are.
    tags: BTreeSet<String>,
}

/// Reads the lists of split-0. Tracks on which they disagree are noted; the later split counts, so that nothing that is
/// held out anywhere is learnt from.
fn read_splits(lists: &Path, names: &[&str], collection: &mut Collection) -> Result<Splits> {
    let folder = lists.join("splits").join("split-0");
    let mut splits = Splits { of_track: HashMap::new(), tags: BTreeSet::new() };
    let mut in_two_splits = BTreeSet::new();
    for name in names {
        for (split, word) in SPLITS {
            let path = folder.join(format!("{name}-{word}.tsv"));
            if !path.is_file() {
                collection
                    .warnings
                    .push(format!("{}: there is no such list, so it adds nothing to {split}", path.display()));
                continue;
            }
            for track in read_list(&path)? {
                let at = splits.of_track.entry(track.id.clone()).or_insert(split);
                if *at != split {
                    in_two_splits.insert(track.id);
                    *at = split.max(*at);
                }
                let of_interest = |tag: &String| CATEGORIES.iter().any(|kind| tag.starts_with(kind));
                splits.tags.extend(track.tags.into_iter().filter(of_interest));
            }
            collection.label_files.push(path);
        }
    }
    if splits.of_track.is_empty() {
        bail!("{}: holds no list; it comes with the data set's repository", folder.display());
    }
    collection.in_two_splits = in_two_splits.into_iter().collect();
    Ok(splits)
}

/// The candidate folder that holds the most of the first tracks.
fn find_audio(dir: &Path, lists: &Path, tracks: &BTreeMap<String, Track>) -> PathBuf {
    let beside = |folder: &Path, name: &str| folder.parent().map_or_else(|| PathBuf::from(name), |up| up.join(name));
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let candidates = [
        dir.to_owned(),
        dir.join("audio"),
        dir.join("audio-low"),
        lists.join("audio"),
        beside(&absolute, "audio"),
        beside(&absolute, "audio-low"),
        beside(&absolute, "music"),
    ];
    let found = |root: &Path| {
        let is_there = |track: &&Track| {
            root.join(&track.path).is_file() || low_quality(&track.path).is_some_and(|path| root.join(path).is_file())
        };
        tracks.values().take(PROBED_TRACKS).filter(is_there).count()
    };
    let counted = candidates.into_iter().rev().map(|root| (found(&root), root));
    counted.max_by_key(|(count, _)| *count).map_or_else(|| dir.to_owned(), |(_, root)| root)
}

/// `48/948.mp3` as it is called in the low-quality download: `48/948.low.mp3`.
fn low_quality(path: &str) -> Option<String> {
    path.rsplit_once('.').map(|(stem, extension)| format!("{stem}.low.{extension}"))
}

/// The low-quality name where only that file exists, else the name in the list.
fn existing(root: &Path, path: String) -> String {
    let low = low_quality(&path).filter(|low| !root.join(&path).is_file() && root.join(low).is_file());
    low.unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\r\n";
    const GENRE: &str = "\
        track_0000948\tartist_000087\talbum_000149\t48/948.mp3\t212.7\tgenre---rock\tgenre---poprock\r\n\
        track_0000950\tartist_000087\talbum_000149\t50/950.mp3\t248.0\tgenre---rock\r\n\
        track_0001002\tartist_000090\talbum_000150\t02/1002.mp3\t31.5\tgenre---jazz\r\n\
        track_0001003\tartist_000091\talbum_000151\t03/1003.mp3\t40.0\tgenre---jazz\r\n";
    const MOOD: &str = "\
        track_0000948\tartist_000087\talbum_000149\t48/948.mp3\t212.7\tmood/theme---calm\r\n\
        track_0001002\tartist_000090\talbum_000150\t02/1002.mp3\t31.5\tmood/theme---film\tmood/theme---calm\r\n\
        track_0001003\tartist_000091\talbum_000151\t03/1003.mp3\t40.0\tmood/theme---film\r\n";

    fn rows(text: &str, ids: &[&str]) -> String {
        let rows: String = text.split_inclusive("\r\n").filter(|row| ids.iter().any(|id| row.contains(id))).collect();
        format!("{HEADER}{rows}")
    }

    fn fixture(root: &Path) {
        let splits = root.join("splits/split-0");
        std::fs::create_dir_all(&splits).expect("created");
        for (name, text) in [("genre", GENRE), ("moodtheme", MOOD)] {
            std::fs::write(root.join(format!("autotagging_{name}.tsv")), format!("{HEADER}{text}")).expect("written");
            for (split, ids) in [("train", &["948", "950"][..]), ("validation", &["1002"]), ("test", &["1003"])] {
                let path = splits.join(format!("autotagging_{name}-{split}.tsv"));
                std::fs::write(path, rows(text, ids)).expect("written");
            }
        }
        for path in ["audio/48/948.mp3", "audio/02/1002.low.mp3"] {
            std::fs::create_dir_all(root.join(path).parent().expect("a parent")).expect("created");
            std::fs::write(root.join(path), "x").expect("written");
        }
    }

    #[test]
    fn tracks_with_both_kinds_of_tags_are_taken_with_split_0() {
        let folder = tempfile::tempdir().expect("a folder");
        fixture(folder.path());
        let collection = open(folder.path()).expect("MTG-Jamendo");
        let items: Vec<_> = collection.items.iter().map(|item| (item.path.as_str(), item.split)).collect();
        let expected = [("48/948.mp3", Split::Train), ("02/1002.low.mp3", Split::Valid), ("03/1003.mp3", Split::Test)];
        assert_eq!(items, expected);
        assert_eq!(collection.root, folder.path().join("audio"));
        let tags = ["genre---jazz", "genre---poprock", "genre---rock", "mood/theme---calm", "mood/theme---film"];
        assert_eq!(collection.tags, tags);
        assert_eq!(collection.items[0].tag_targets, [false, true, true, true, false]);
        assert_eq!(collection.items[0].length_secs, Some(212.7));
        assert_eq!(collection.items[1].group, "album_000150");
        assert_eq!(collection.left_out[0].count, 1, "track 950 has no mood");
        assert!(collection.in_two_splits.is_empty());
    }

    #[test]
    fn the_list_of_all_kinds_gives_the_same_tracks() {
        let folder = tempfile::tempdir().expect("a folder");
        let splits = folder.path().join("data/splits/split-0");
        std::fs::create_dir_all(&splits).expect("created");
        let both = "track_0000948\ta\tb\t48/948.mp3\t212.7\tgenre---rock\tinstrument---bass\tmood/theme---calm\r\n\
            track_0000950\ta\tb\t50/950.mp3\t248.0\tgenre---rock\tinstrument---bass\r\n";
        std::fs::write(folder.path().join("data/autotagging.tsv"), format!("{HEADER}{both}")).expect("written");
        std::fs::write(splits.join("autotagging-train.tsv"), format!("{HEADER}{both}")).expect("written");
        let collection = open(folder.path()).expect("MTG-Jamendo");
        assert_eq!(collection.items.len(), 1);
        assert_eq!(collection.tags, ["genre---rock", "mood/theme---calm"]);
        assert_eq!(collection.warnings.len(), 2, "two lists are absent: {:?}", collection.warnings);
    }

    #[test]
    fn lists_that_disagree_are_noted_and_the_track_is_held_out() {
        let folder = tempfile::tempdir().expect("a folder");
        fixture(folder.path());
        let path = folder.path().join("splits/split-0/autotagging_moodtheme-test.tsv");
        std::fs::write(path, rows(MOOD, &["1003", "948"])).expect("written");
        let collection = open(folder.path()).expect("MTG-Jamendo");
        assert_eq!(collection.in_two_splits, ["track_0000948"]);
        assert_eq!(collection.items[0].split, Split::Test);
    }

    #[test]
    fn a_malformed_row_is_named_by_its_line() {
        let refused =
            |rows: &str| format!("{:#}", parse_list(&format!("{HEADER}{rows}")).expect_err("must be refused"));
        assert!(refused("track_1\ta\tb\r\n").contains("line 2: 3 columns"));
        assert!(refused("t\ta\tb\t../1.mp3\t1\tgenre---rock\r\n").contains("line 2: PATH"));
        assert!(refused("t\ta\tb\t0/1.mp3\tlong\tgenre---rock\r\n").contains("line 2: DURATION 'long'"));
        assert!(refused("t\ta\tb\t0/1.mp3\t1\trock\r\n").contains("category---tag"));
        assert!(parse_list("id\tpath\n").expect_err("header").to_string().contains("TRACK_ID"));
    }
}
