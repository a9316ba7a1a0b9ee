//! The layout of AudioSet (Gemmeke et al., 2017): lists of ten-second segments of videos and a folder of audio.
//!
//! ```text
//! # Segments csv created Sun Mar  5 10:54:31 2017                official: comments, a space behind each comma
//! # YTID, start_seconds, end_seconds, positive_labels
//! --4gqARaEJE, 0.000, 10.000, "/m/068hy,/m/07q6cd_,/m/0bt9lr,/m/0jbk"
//!
//! YTID,start_seconds,end_seconds,positive_labels                 copies: a plain header, no spaces
//! ```
//!
//! A list's name tells its split (`train`, `valid`, `test`); `eval` is halved into validation and test by a hash of the
//! video's id, and `unbalanced_train` is read only where no other list is for training. Audio may lie anywhere below the folder, called `YTID`, `YYTID` or `YTID_START[_END]` (START and END in
//! seconds or milliseconds), in any known format. A part of the videos is gone from everybody's copy: what has no file
//! is counted, not refused.
//!
//! As noise, what contains music is left out. Which labels mean music is read from the `ontology.json` that AudioSet
//! publishes (CC BY-SA 4.0), placed beside the lists: everything below the classes Music, Singing, Humming and
//! Whistling. It is not shipped with this program; without it only clips labelled with the first two themselves go.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::clips::audio_files;
use super::items::{Collection, Item, Layout, Split, relative, stem};

/// Classes whose subtrees are music: by id (Music, Singing), and by name where the ontology is at hand.
const MUSIC_IDS: [&str; 2] = ["/m/04rlf", "/m/015lz1"];
const MUSIC_NAMES: [&str; 2] = ["Humming", "Whistling"];
const ONTOLOGY_FILE: &str = "ontology.json";
/// In the name of the list of two million segments, of which hardly anybody has the audio.
const UNBALANCED: &str = "unbalanced";

/// One line of a list.
#[derive(Clone, Debug, PartialEq)]
struct Segment {
    id: String,
    start_secs: f64,
    end_secs: f64,
    labels: Vec<String>,
}

/// One class of the ontology; what else it says is not needed.
#[derive(Debug, Deserialize)]
struct Class {
    id: String,
    name: String,
    child_ids: Vec<String>,
}

/// Which split a list's name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ListSplit {
    Whole(Split),
    /// The official evaluation list.
    Halved,
}

impl ListSplit {
    fn of_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let words = [
            ("train", Self::Whole(Split::Train)),
            ("valid", Self::Whole(Split::Valid)),
            ("test", Self::Whole(Split::Test)),
            ("eval", Self::Halved),
        ];
        words.into_iter().find(|(word, _)| name.contains(word)).map(|(_, split)| split)
    }

    fn of(self, id: &str) -> Split {
        match self {
            Self::Whole(split) => split,
            Self::Halved if blake3::hash(id.as_bytes()).as_bytes()[0] & 1 == 0 => Split::Valid,
            Self::Halved => Split::Test,
        }
    }
}

/// Lists in AudioSet's form in `dir`, in the order of their names.
pub fn find_lists(dir: &Path) -> Vec<PathBuf> {
    let looks_right = |path: &PathBuf| {
        use std::io::Read;
        let mut head = [0; 64];
        let read = std::fs::File::open(path).and_then(|mut file| file.read(&mut head)).unwrap_or(0);
        let head = String::from_utf8_lossy(&head[..read]).to_ascii_lowercase();
        head.starts_with("# segments csv") || head.trim_start_matches(['#', ' ']).starts_with("ytid")
    };
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut lists: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "csv") && looks_right(path))
        .collect();
    lists.sort();
    lists
}

/// Reads the lists in `dir` and finds their audio below it.
///
/// # Errors
/// Names file, line and rule: no list whose name tells a split, a row without four columns, times that are no numbers,
/// an ontology that is not AudioSet's.
pub fn open(dir: &Path) -> Result<Collection> {
    let mut collection = Collection::new(Layout::AudioSet, dir, "the lists' names; `eval` halved by a hash of the id");
    let ontology = Ontology::open(dir)?;
    let files = AudioIndex::new(dir)?;
    match &ontology {
        Some(_) => collection.label_files.push(dir.join(ONTOLOGY_FILE)),
        None => collection.warnings.push(format!(
            "{}: there is no {ONTOLOGY_FILE}, so only clips labelled Music or Singing themselves are left out, and a \
             clip labelled Guitar alone stays; place the file from github.com/audioset/ontology there",
            dir.display()
        )),
    }

    let mut segments: Vec<(Split, Segment)> = Vec::new();
    let mut place: HashMap<String, usize> = HashMap::new();
    let (mut music, mut listed_twice) = (0, 0);
    let mut in_two_splits = BTreeSet::new();
    let name_of = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let lists = find_lists(dir);
    let mut of_training =
        lists.iter().filter(|path| ListSplit::of_name(&name_of(path)) == Some(ListSplit::Whole(Split::Train)));
    let has_balanced = of_training.any(|path| !name_of(path).contains(UNBALANCED));
    for path in lists {
        let name = name_of(&path);
        if has_balanced && name.contains(UNBALANCED) {
            collection.warnings.push(format!("{name}: not read; the smaller training list beside it counts"));
            continue;
        }
        let Some(list_split) = ListSplit::of_name(&name) else {
            collection.warnings.push(format!("{name}: its name tells no split (train, valid, test or eval); not read"));
            continue;
        };
        let text = std::fs::read_to_string(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
        for segment in parse_list(&text).with_context(|| format!("{}", path.display()))? {
            let split = list_split.of(&segment.id);
            if segment.labels.iter().any(|label| Ontology::is_music(ontology.as_ref(), label)) {
                music += 1;
            } else if let Some(&at) = place.get(&segment.id) {
                listed_twice += 1;
                if segments[at].0 != split {
                    in_two_splits.insert(segment.id);
                    segments[at].0 = split.max(segments[at].0);
                }
            } else {
                place.insert(segment.id.clone(), segments.len());
                segments.push((split, segment));
            }
        }
        collection.label_files.push(path);
    }
    if segments.is_empty() {
        bail!("{}: holds no list of segments with train, valid, test or eval in its name", dir.display());
    }
    collection.leave_out("labelled as music", music);
    collection.leave_out("listed twice", listed_twice);
    collection.in_two_splits = in_two_splits.into_iter().collect();

    let labels: BTreeSet<&String> = segments.iter().flat_map(|(_, segment)| &segment.labels).collect();
    let column: HashMap<&String, usize> = labels.iter().enumerate().map(|(index, label)| (*label, index)).collect();
    collection.tags = labels.iter().map(|label| Ontology::name(ontology.as_ref(), label)).collect();
    for (split, segment) in &segments {
        let Some(path) = files.find(&segment.id) else {
            collection.missing.push((*split, segment.id.clone()));
            continue;
        };
        let mut tag_targets = vec![false; column.len()];
        for label in &segment.labels {
            tag_targets[column[label]] = true;
        }
        collection.items.push(Item {
            id: segment.id.clone(),
            path: path.to_owned(),
            split: *split,
            group: segment.id.clone(),
            start_secs: segment.start_secs,
            length_secs: Some(segment.end_secs - segment.start_secs),
            tag_targets,
        });
    }
    Ok(collection)
}

fn parse_list(text: &str) -> Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || (index == 0 && line.to_ascii_lowercase().starts_with("ytid")) {
            continue;
        }
        segments.push(parse_row(line).with_context(|| format!("line {}", index + 1))?);
    }
    Ok(segments)
}

/// Not read as CSV: in the official form the quotes do not stand at the beginning of their field.
fn parse_row(line: &str) -> Result<Segment> {
    let fields: Vec<&str> = line.splitn(4, ',').map(str::trim).collect();
    let [id, start, end, labels] = fields[..] else {
        bail!("'{line}' has {} columns, expected YTID, start_seconds, end_seconds, positive_labels", fields.len());
    };
    let secs = |text: &str| match text.parse::<f64>() {
        Ok(secs) if secs.is_finite() && secs >= 0.0 => Ok(secs),
        _ => bail!("'{text}' is not a time in seconds"),
    };
    let (start_secs, end_secs) = (secs(start)?, secs(end)?);
    if end_secs <= start_secs {
        bail!("the segment ends at {end_secs} s, before it starts at {start_secs} s");
    }
    if id.is_empty() || id.contains(['/', '\\']) {
        bail!("'{id}' is not the id of a video");
    }
    let labels = labels.trim_matches('"').split(',').map(str::trim).filter(|label| !label.is_empty());
    Ok(Segment { id: id.to_owned(), start_secs, end_secs, labels: labels.map(str::to_owned).collect() })
}

/// The labels of every row of the list at `path` under the row's id, joined where there are several; by the classes'
/// names where the ontology lies beside the list.
///
/// # Errors
/// Names file, line and rule: a row without four columns, times that are no numbers, an ontology that is not AudioSet's.
pub fn labels_by_id(path: &Path) -> Result<HashMap<String, String>> {
    let ontology = Ontology::open(path.parent().unwrap_or(Path::new(".")))?;
    let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let segments = parse_list(&text).with_context(|| format!("{}", path.display()))?;
    let joined = |labels: &[String]| {
        let names: BTreeSet<String> = labels.iter().map(|label| Ontology::name(ontology.as_ref(), label)).collect();
        names.into_iter().collect::<Vec<_>>().join(", ")
    };
    Ok(segments.into_iter().map(|segment| (segment.id, joined(&segment.labels))).collect())
}

/// Names of the classes, and which of them are music.
#[derive(Debug)]
struct Ontology {
    names: HashMap<String, String>,
    music: HashSet<String>,
}

impl Ontology {
    /// Reads `ontology.json` in `dir`; `None` if there is none.
    fn open(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(ONTOLOGY_FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
        Self::parse(&text).map(Some).with_context(|| format!("{}: expected AudioSet's ontology", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let classes: Vec<Class> = serde_json::from_str(text)?;
        let children: HashMap<&str, &[String]> =
            classes.iter().map(|class| (class.id.as_str(), class.child_ids.as_slice())).collect();
        if let Some(root) = MUSIC_IDS.into_iter().find(|root| !children.contains_key(root)) {
            bail!("there is no class {root}");
        }
        let named = classes.iter().filter(|class| MUSIC_NAMES.contains(&class.name.as_str()));
        let mut open: Vec<&str> = named.map(|class| class.id.as_str()).chain(MUSIC_IDS).collect();
        let mut music = HashSet::new();
        while let Some(id) = open.pop() {
            if music.insert(id.to_owned()) {
                open.extend(children.get(id).into_iter().copied().flatten().map(String::as_str));
            }
        }
        Ok(Self { names: classes.into_iter().map(|class| (class.id, class.name)).collect(), music })
    }

    fn is_music(ontology: Option<&Self>, label: &str) -> bool {
        ontology.map_or_else(|| MUSIC_IDS.contains(&label), |ontology| ontology.music.contains(label))
    }

    fn name(ontology: Option<&Self>, label: &str) -> String {
        ontology.and_then(|ontology| ontology.names.get(label)).map_or(label, String::as_str).to_owned()
    }
}

/// Audio files by what their names may mean.
#[derive(Debug)]
struct AudioIndex {
    by_stem: HashMap<String, String>,
    by_reading: HashMap<String, String>,
}

impl AudioIndex {
    fn new(dir: &Path) -> Result<Self> {
        let mut index = Self { by_stem: HashMap::new(), by_reading: HashMap::new() };
        for path in audio_files(dir)?.into_iter().filter_map(|path| relative(dir, &path)) {
            let stem = stem(&path).to_owned();
            for reading in readings(&stem) {
                index.by_reading.entry(reading.to_owned()).or_insert_with(|| path.clone());
            }
            index.by_stem.entry(stem).or_insert(path);
        }
        Ok(index)
    }

    fn find(&self, id: &str) -> Option<&str> {
        self.by_stem.get(id).or_else(|| self.by_reading.get(id)).map(String::as_str)
    }
}

/// The ids that a name may stand for: without `Y` in front, without one or two times behind. Ids themselves may begin
/// with `Y` and end in `_1`, so every reading counts.
fn readings(stem: &str) -> Vec<&str> {
    let without_time = |name: &str| {
        let (rest, time) = name.rsplit_once('_')?;
        let is_time = !time.is_empty() && time.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        (is_time && !rest.is_empty()).then_some(rest.len())
    };
    let mut readings = Vec::new();
    for name in [Some(stem), stem.strip_prefix('Y')].into_iter().flatten() {
        readings.push(name);
        let once = without_time(name);
        let twice = once.and_then(|len| without_time(&name[..len]));
        readings.extend(once.into_iter().chain(twice).map(|len| &name[..len]));
    }
    readings
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFICIAL: &str = "# Segments csv created Sun Mar  5 10:54:31 2017\n\
        # num_ytids=4, num_segs=4, num_unique_labels=5, num_positive_labels=6\n\
        # YTID, start_seconds, end_seconds, positive_labels\n\
        --4gqARaEJE, 0.000, 10.000, \"/m/068hy,/m/0bt9lr\"\n\
        -_a2_03Ab_1, 30.000, 40.000, \"/m/09x0r\"\n\
        gone_away_0, 30.000, 40.000, \"/m/09x0r\"\n\
        singer00000, 30.000, 40.000, \"/m/09x0r,/m/choir\"\n";
    const COPY: &str = "YTID,start_seconds,end_seconds,positive_labels\n\
        evalA000000,0.0,10.0,\"/m/09x0r\"\n\
        evalB000000,1.0,9.5,\"/m/09x0r,/m/068hy\"\n";
    const ONTOLOGY: &str = r#"[
        {"id": "/m/04rlf", "name": "Music", "description": "", "child_ids": ["/m/guitar"], "restrictions": []},
        {"id": "/m/guitar", "name": "Guitar", "child_ids": []},
        {"id": "/m/015lz1", "name": "Singing", "child_ids": ["/m/choir"]},
        {"id": "/m/choir", "name": "Choir", "child_ids": []},
        {"id": "/m/hum", "name": "Humming", "child_ids": []},
        {"id": "/m/09x0r", "name": "Speech", "child_ids": []}]"#;

    fn fixture(root: &Path) {
        std::fs::create_dir_all(root.join("audio/bal_train")).expect("created");
        for (name, text) in
            [("balanced_train_segments.csv", OFFICIAL), ("eval_segments.csv", COPY), ("ontology.json", ONTOLOGY)]
        {
            std::fs::write(root.join(name), text).expect("written");
        }
        for name in [
            "bal_train/--4gqARaEJE.flac",
            "bal_train/Y-_a2_03Ab_1_30.000_40.000.wav",
            "evalB000000_1000.m4a",
            "evalA000000.wav",
        ] {
            std::fs::write(root.join("audio").join(name), "x").expect("written");
        }
    }

    #[test]
    fn segments_find_their_files_under_every_name() {
        let folder = tempfile::tempdir().expect("a folder");
        fixture(folder.path());
        let collection = open(folder.path()).expect("AudioSet");
        let items: Vec<_> = collection.items.iter().map(|item| (item.id.as_str(), item.path.as_str())).collect();
        let expected = [
            ("--4gqARaEJE", "audio/bal_train/--4gqARaEJE.flac"),
            ("-_a2_03Ab_1", "audio/bal_train/Y-_a2_03Ab_1_30.000_40.000.wav"),
            ("evalA000000", "audio/evalA000000.wav"),
            ("evalB000000", "audio/evalB000000_1000.m4a"),
        ];
        assert_eq!(items, expected);
        assert_eq!(collection.missing, [(Split::Train, "gone_away_0".to_owned())]);
        assert_eq!(
            collection.left_out,
            [super::super::items::LeftOut { reason: "labelled as music".to_owned(), count: 1 }]
        );
        assert_eq!(collection.tags, ["/m/068hy", "Speech", "/m/0bt9lr"]);
        assert_eq!(collection.items[0].tag_targets, [true, false, true]);
        assert_eq!((collection.items[3].start_secs, collection.items[3].length_secs), (1.0, Some(8.5)));
        assert!(collection.items[2..].iter().all(|item| item.split != Split::Train));
        assert!(collection.warnings.is_empty());
    }

    #[test]
    fn the_evaluation_list_is_halved_the_same_way_every_time() {
        let split = |index: usize| ListSplit::Halved.of(&format!("video{index:06}"));
        let test = (0..1_000).filter(|&index| split(index) == Split::Test).count();
        assert!((400..600).contains(&test), "{test} of 1,000 are for the test");
        assert_eq!(split(3), split(3));
    }

    #[test]
    fn the_unbalanced_list_counts_only_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        fixture(folder.path());
        let unbalanced = OFFICIAL.replace("--4gqARaEJE", "--other_one");
        std::fs::write(folder.path().join("unbalanced_train_segments.csv"), unbalanced).expect("written");
        let missing = || open(folder.path()).expect("AudioSet").missing.len();
        assert_eq!(missing(), 1, "the balanced list counts");
        std::fs::remove_file(folder.path().join("balanced_train_segments.csv")).expect("removed");
        assert_eq!(missing(), 2, "the unbalanced list counts");
    }

    #[test]
    fn without_the_ontology_only_the_roots_go_and_it_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        fixture(folder.path());
        std::fs::remove_file(folder.path().join("ontology.json")).expect("removed");
        std::fs::write(folder.path().join("audio/singer00000.wav"), "x").expect("written");
        let collection = open(folder.path()).expect("AudioSet");
        assert_eq!(collection.items.len(), 5);
        assert!(collection.warnings[0].contains("ontology.json"));
    }

    #[test]
    fn music_is_the_subtree_of_the_roots() {
        let ontology = Ontology::parse(ONTOLOGY).expect("an ontology");
        let music = ["/m/04rlf", "/m/guitar", "/m/015lz1", "/m/choir", "/m/hum"];
        assert!(music.iter().all(|label| Ontology::is_music(Some(&ontology), label)));
        assert!(!Ontology::is_music(Some(&ontology), "/m/09x0r"));
        assert!(Ontology::parse("[]").expect_err("empty").to_string().contains("/m/04rlf"));
    }

    #[test]
    fn labels_are_named_by_the_ontology_beside_the_list() {
        let folder = tempfile::tempdir().expect("a folder");
        fixture(folder.path());
        let labels = labels_by_id(&folder.path().join("balanced_train_segments.csv")).expect("a list");
        assert_eq!((labels.len(), labels["--4gqARaEJE"].as_str()), (4, "/m/068hy, /m/0bt9lr"));
        assert_eq!(labels["singer00000"], "Choir, Speech");
        std::fs::remove_file(folder.path().join("ontology.json")).expect("removed");
        let labels = labels_by_id(&folder.path().join("eval_segments.csv")).expect("a list");
        assert_eq!(labels["evalA000000"], "/m/09x0r");
    }

    #[test]
    fn a_malformed_row_is_named_by_its_line() {
        let refused = |row: &str| format!("{:#}", parse_list(&format!("# x\n{row}\n")).expect_err("must be refused"));
        assert!(refused("id, 0.000").contains("line 2: 'id, 0.000' has 2 columns"));
        assert!(refused("id, x, 1, \"/m/a\"").contains("line 2: 'x' is not a time"));
        assert!(refused("id, 5, 1, \"/m/a\"").contains("ends at 1 s"));
        assert!(refused("../id, 0, 1, \"/m/a\"").contains("not the id"));
    }

    #[test]
    fn a_name_is_read_with_and_without_times() {
        assert_eq!(readings("-_a2_03Ab_1_30"), ["-_a2_03Ab_1_30", "-_a2_03Ab_1", "-_a2_03Ab"]);
        assert_eq!(
            readings("Yabc_30.000_40.000"),
            ["Yabc_30.000_40.000", "Yabc_30.000", "Yabc", "abc_30.000_40.000", "abc_30.000", "abc"]
        );
        assert_eq!(readings("--4gqARaEJE"), ["--4gqARaEJE"]);
        assert_eq!(readings("_30"), ["_30"]);
    }
}
