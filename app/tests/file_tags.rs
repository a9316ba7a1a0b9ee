//! Tags written into files of every kind, and taken back, through the binary.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use earmark_core::audio::copy_packets;
use earmark_core::model_file::{Model, ModelMetadata};
use earmark_core::weights::Architecture;
use lofty::config::WriteOptions;
use lofty::file::TaggedFileExt;
use lofty::probe::Probe;
use lofty::tag::{Accessor, ItemKey, TagExt};

/// Fixtures that are refused: nothing of ID3v2.2 is rewritten.
const REFUSED: &str = "v22.mp3";

/// A folder with the fixtures of its own for each test, and the binary in an environment of its own.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(fixtures: &[&str]) -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(bench.path("music")).unwrap();
        for name in fixtures {
            fs::copy(fixtures_folder().join(name), bench.music(name)).unwrap();
        }
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn music(&self, name: &str) -> PathBuf {
        self.path("music").join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_earmark"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("EARMARK_")) {
            command.env_remove(name);
        }
        command.current_dir(self.folder.path());
        command.env("HOME", self.folder.path()).env_remove("XDG_CONFIG_HOME").env_remove("XDG_STATE_HOME");
        command.env("EARMARK_DEVICE", "cpu").env("EARMARK_MODEL", model_file("first"));
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::new(self.command().args(args).output().unwrap())
    }

    /// The bytes of all files.
    fn bytes(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(self.path("music")).unwrap().map(Result::unwrap);
        entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
    }
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn new(output: Output) -> Self {
        Self {
            code: output.status.code().expect("ended by itself"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    fn says(&self, part: &str) {
        assert!(self.err.contains(part), "'{part}' is not said:\n{}", self.err);
    }
}

fn fixtures_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tags")
}

fn fixtures() -> Vec<String> {
    let entries = fs::read_dir(fixtures_folder()).unwrap().map(|entry| entry.unwrap().path());
    let is_audio = |path: &PathBuf| !matches!(path.extension().and_then(|ext| ext.to_str()), Some("sh" | "py"));
    entries.filter(is_audio).map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

/// A model that says the same of everything it hears.
fn model_file(name: &str) -> &'static Path {
    static FILES: OnceLock<BTreeMap<&str, PathBuf>> = OnceLock::new();
    let files = FILES.get_or_init(|| {
        let first: &[(&str, f32)] = &[
            ("rock", 3.0),
            ("indian", 2.0),
            ("metal", 1.0),
            ("pop", -1.0),
            ("fast", 0.5),
            ("guitar", 1.5),
            ("woman", 2.0),
        ];
        let second: &[(&str, f32)] = &[("classical", 2.0), ("quiet", 1.0), ("piano", 3.0), ("no vocals", 1.0)];
        [("first", first), ("second", second)].into_iter().map(|(name, tags)| (name, save_model(name, tags))).collect()
    });
    &files[name]
}

fn save_model(name: &str, tags: &[(&str, f32)]) -> PathBuf {
    let mut model = Model::random(Architecture::scaled(0.05, 3, None, tags.len()), 1);
    let names = tags.iter().map(|(tag, _)| (*tag).to_owned()).collect();
    model.metadata =
        ModelMetadata { licence: "CC0-1.0".into(), ..ModelMetadata::new(name, model.metadata.architecture, names) };
    model.weights.head[0].weight.iter_mut().for_each(|weight| *weight = 0.0);
    model.weights.head[0].bias = tags.iter().map(|(_, logit)| *logit).collect();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.safetensors", std::process::id()));
    model.save(&path).unwrap();
    path
}

fn packets(path: &Path) -> Vec<u8> {
    let mut packets = Vec::new();
    copy_packets(path, &mut packets).unwrap();
    packets
}

fn tagged(path: &Path) -> lofty::file::TaggedFile {
    Probe::new(BufReader::new(File::open(path).unwrap())).guess_file_type().unwrap().read().unwrap()
}

/// What lofty finds under a key in the main tag.
fn strings(path: &Path, key: ItemKey) -> Vec<String> {
    let tagged = tagged(path);
    tagged.primary_tag().map_or_else(Vec::new, |tag| tag.get_strings(key).map(str::to_owned).collect())
}

#[test]
fn every_kind_of_file_is_written_and_gets_back_its_bytes() {
    let names = fixtures();
    let bench = Bench::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let before = bench.bytes();
    assert!(before.len() >= 19, "{} fixtures", before.len());
    let times: BTreeMap<_, _> = before
        .keys()
        .map(|name| (name.clone(), fs::metadata(bench.music(name)).unwrap().modified().unwrap()))
        .collect();
    let audio: BTreeMap<_, _> = before.keys().map(|name| (name.clone(), packets(&bench.music(name)))).collect();

    let ran = bench.run(&["tag", "music", "--write-tags", "--undo-journal", "j", "--format", "csv"]).expect(1);
    ran.says(&format!("{REFUSED}: tags not written: its tag is ID3v2.2"));
    ran.says(&format!("tags written into {} files; 1 file failed", before.len() - 1));
    ran.says("earmark undo ");
    let after = bench.bytes();
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "nothing is left behind");
    for (name, bytes) in &after {
        let path = bench.music(name);
        assert_eq!(*bytes == before[name], name == REFUSED, "{name}");
        assert!(packets(&path) == audio[name], "{name}: the audio changed");
        if name == REFUSED {
            continue;
        }
        // As another reader sees it.
        let genres = strings(&path, ItemKey::Genre);
        match name.as_str() {
            "info.wav" | "ape_v1.mp3" | "v24_ape_v1.mp3" => assert!(genres.is_empty(), "{name}: {genres:?}"),
            "v23.mp3" | "unsynchronised.mp3" | "tagged.aiff" => {
                assert_eq!(genres, ["Rock", "Metal", "Indian"], "{name}");
            }
            _ => assert_eq!(genres, ["Rock", "Indian", "Metal"], "{name}"),
        }
        // ID3v2.3 has no frame for moods, and lofty no name for the text that is.
        if !matches!(name.as_str(), "v23.mp3" | "unsynchronised.mp3" | "tagged.aiff") {
            assert_eq!(strings(&path, ItemKey::Mood), ["Fast"], "{name}");
        }
    }

    let again = bench.run(&["tag", "music", "--write-tags", "--overwrite", "--undo-journal", "j2"]).expect(1);
    again.says(&format!("tags written into 0 files; {} files had nothing to add", before.len() - 1));
    assert!(bench.bytes() == after && !bench.path("j2").exists());

    bench.run(&["undo", "--dry-run", "j"]).expect(0).says("would be restored");
    assert!(bench.bytes() == after);
    let undone = bench.run(&["undo", "j"]).expect(0);
    undone.says(&format!("{} files restored byte for byte", before.len() - 1));
    for (name, bytes) in bench.bytes() {
        assert!(bytes == before[&name], "{name} is not as before");
        assert_eq!(fs::metadata(bench.music(&name)).unwrap().modified().unwrap(), times[&name], "{name}");
    }
    bench.run(&["undo", "j"]).expect(0).says(&format!("{} already as before", before.len() - 1));
}

#[test]
fn a_dry_run_shows_the_difference_and_writes_nothing() {
    let bench = Bench::new(&["tagged.flac", "info.wav"]);
    let before = bench.bytes();
    let ran = bench.run(&["tag", "music", "--write-tags", "--dry-run"]).expect(0);
    for line in [
        "  GENRE: (none) -> Rock; Indian; Metal",
        "  MOOD: (none) -> Fast",
        "  EARMARK_INSTRUMENT: (none) -> guitar=0.82",
        "  EARMARK_VOICE: (none) -> female vocals=0.88",
    ] {
        assert!(ran.out.contains(line), "'{line}' is not in:\n{}", ran.out);
    }
    let (wav, flac) = ran.out.split_once("tagged.flac").unwrap();
    assert!(!wav.contains("GENRE:") && flac.contains("GENRE:"), "{}", ran.out);
    ran.says("tags would be written into 2 files");
    assert!(!ran.err.contains("undo"), "{}", ran.err);
    // Formats for programs have no place for it.
    let ran = bench.run(&["tag", "music", "--write-tags", "--dry-run", "--format", "csv"]).expect(0);
    assert!(!ran.out.contains("MOOD"));
    ran.says("tagged.flac: MOOD: (none) -> Fast");
    assert!(bench.bytes() == before && !bench.path(".local").exists());
}

#[test]
fn options_without_write_tags_are_refused() {
    let bench = Bench::new(&["none.mp3"]);
    for args in [["tag", "music", "--dry-run"], ["tag", "music", "--overwrite"], ["tag", "music", "--undo-journal=j"]] {
        bench.run(&args).expect(2).says("--write-tags");
    }
    fs::write(bench.path("j"), "x").unwrap();
    bench.run(&["tag", "music", "--write-tags", "--undo-journal", "j"]).expect(2).says("exists already");
    assert_eq!(fs::read(bench.path("j")).unwrap(), b"x");
    bench.run(&["undo", "j"]).expect(2).says("no journal");
    bench.run(&["undo", "absent"]).expect(2).says("absent");
}

#[test]
fn a_users_genre_stays_and_overwrite_replaces_ours() {
    let bench = Bench::new(&["tagged.flac", "tagged.ogg"]);
    let (ours, users) = (bench.music("tagged.flac"), bench.music("tagged.ogg"));
    let mut file = tagged(&users);
    let tag = file.primary_tag_mut().unwrap();
    tag.insert_text(ItemKey::Genre, "演歌".into());
    tag.save_to_path(&users, WriteOptions::new()).unwrap();
    let before = bench.bytes();

    // The default place of the journal.
    let first = bench.run(&["tag", "music", "--write-tags"]).expect(0);
    let second = |overwrite: &[&str]| {
        let mut command = bench.command();
        command.env("EARMARK_MODEL", model_file("second")).args(["tag", "music", "--write-tags"]).args(overwrite);
        Ran::new(command.output().unwrap()).expect(0)
    };
    second(&[]).says("2 files left with the tags of earmark-");
    assert_eq!(strings(&ours, ItemKey::Genre), ["Rock", "Indian", "Metal"]);
    let other = second(&["--overwrite"]);
    assert_eq!(strings(&ours, ItemKey::Genre), ["Classical"]);
    assert_eq!(strings(&ours, ItemKey::Mood), ["Quiet"]);
    assert_eq!(strings(&users, ItemKey::Genre), ["演歌"]);
    assert_eq!(strings(&users, ItemKey::Mood), ["Quiet"]);

    let journal = |ran: &Ran| ran.err.lines().find_map(|line| line.split_once("earmark undo ")).unwrap().1.to_owned();
    assert!(journal(&first).contains(".local/state/earmark/"));
    // The older run cannot be undone byte for byte over the newer one, but after it.
    bench.run(&["undo", &journal(&other)]).expect(0).says("2 files restored byte for byte");
    bench.run(&["undo", &journal(&first)]).expect(0).says("2 files restored byte for byte");
    assert!(bench.bytes() == before);
}

#[test]
fn a_file_that_others_changed_since_gets_back_its_fields() {
    // ID3v2.4, 2.3 and 2.4 in a chunk; the fixtures with many kinds of frames are more than lofty can write.
    for name in ["none.mp3", "unsynchronised.mp3", "info.wav", "tagged.flac", "tagged.opus", "tagged.m4a"] {
        let bench = Bench::new(&[name, "v1.mp3"]);
        let path = bench.music(name);
        let before = bench.bytes();
        bench.run(&["tag", "music", "--write-tags", "--undo-journal", "j"]).expect(0);
        let mut file = tagged(&path);
        let tag = file.primary_tag_mut().unwrap();
        tag.set_title("新しい".to_owned());
        tag.insert_text(ItemKey::Mood, "мечтательный".into());
        let mut options = WriteOptions::new();
        tag.save_to_path(&path, options.use_id3v23(name == "unsynchronised.mp3")).unwrap();
        // lofty does not write moods into ID3v2.3.
        let keeps_mood = name != "unsynchronised.mp3";

        let ran = bench.run(&["undo", "j"]).expect(0);
        ran.says(&format!("{name}: changed since"));
        ran.says("1 file restored byte for byte; 1 by their fields");
        assert!(strings(&path, ItemKey::Genre).is_empty(), "{name}");
        assert_eq!(tagged(&path).primary_tag().unwrap().title().as_deref(), Some("新しい"), "{name}");
        if keeps_mood {
            ran.says("left, as others have changed them: MOOD");
            assert_eq!(strings(&path, ItemKey::Mood), ["мечтательный"], "{name}");
        }
        let bytes = fs::read(&path).unwrap();
        assert!(!bytes.windows(13).any(|part| part.eq_ignore_ascii_case(b"EARMARK_GENRE")), "{name}");
        assert!(fs::read(bench.music("v1.mp3")).unwrap() == before["v1.mp3"]);
    }
}

#[cfg(unix)]
#[test]
fn files_that_cannot_be_written_are_named_and_the_others_go_on() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let bench = Bench::new(&["none.mp3", "tagged.flac", "tagged.ogg", "v24.mp3", "tagged.m4a"]);
    fs::set_permissions(bench.music("tagged.flac"), fs::Permissions::from_mode(0o444)).unwrap();
    fs::hard_link(bench.music("tagged.ogg"), bench.path("other-name.ogg")).unwrap();
    symlink("../elsewhere.mp3", bench.music("link.mp3")).unwrap();
    fs::copy(bench.music("v24.mp3"), bench.path("elsewhere.mp3")).unwrap();
    let locked = File::open(bench.music("v24.mp3")).unwrap();
    locked.lock().unwrap();
    let before = bench.bytes();
    let ran = bench.run(&["tag", "music", "--write-tags", "--undo-journal", "j", "--format", "csv"]).expect(1);
    ran.says("tagged.flac: tags not written: it is write protected; make it writable");
    ran.says("tagged.ogg: tags not written: it has 2 names");
    ran.says("v24.mp3: tags not written: it is locked");
    ran.says("tags written into 3 files; 3 files failed");
    let after = bench.bytes();
    for name in ["tagged.flac", "tagged.ogg", "v24.mp3"] {
        assert!(after[name] == before[name], "{name}");
    }
    // The results are there all the same.
    assert!(ran.out.contains("tagged.flac") && ran.out.contains("v24.mp3"));
    assert!(bench.music("link.mp3").is_symlink());
    assert_eq!(strings(&bench.path("elsewhere.mp3"), ItemKey::Mood), ["Fast"]);
    bench.run(&["undo", "j"]).expect(0).says("3 files restored");
    assert!(bench.bytes() == before);
}

/// A file size limit stands for a disk without space: writing fails in the middle.
#[cfg(unix)]
#[test]
fn a_full_disk_loses_nothing() {
    let bench = Bench::new(&["none.mp3", "tagged.flac", "tagged.wav"]);
    let before = bench.bytes();
    for (blocks, num_failed) in [(8, 2), (1, 3)] {
        let mut command = Command::new("sh");
        command.current_dir(bench.folder.path()).env("HOME", bench.folder.path());
        command.env("EARMARK_DEVICE", "cpu").env("EARMARK_MODEL", model_file("first"));
        let script = format!(
            "trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" tag music --write-tags --undo-journal j --format csv"
        );
        let ran = Ran::new(command.args(["-c", &script, env!("CARGO_BIN_EXE_earmark")]).output().unwrap()).expect(1);
        ran.says("free some space");
        ran.says(&format!("{num_failed} files failed"));
        if num_failed < 3 {
            bench.run(&["undo", "j"]).expect(0).says("restored byte for byte");
        }
        assert!(bench.bytes() == before, "limit {blocks}");
        let _ = fs::remove_file(bench.path("j"));
    }
}

/// Files that Earmark itself changed have not changed for a run that goes on.
#[test]
fn a_resumed_run_does_not_tag_again_what_it_wrote() {
    let bench = Bench::new(&["none.mp3", "tagged.flac", "tagged.m4a"]);
    let args = ["tag", "music", "--write-tags", "--resume", "--format", "csv", "--out", "o.csv"];
    let started = || {
        let journal = fs::read(bench.path("o.csv.journal")).unwrap();
        journal.windows(9).filter(|part| part == b"\"started\"").count()
    };
    bench.run(&args).expect(0).says("tags written into 3 files");
    let (output, written) = (fs::read(bench.path("o.csv")).unwrap(), bench.bytes());
    assert_eq!(started(), 3);
    bench.run(&args).expect(0).says("3 files had nothing to add");
    assert_eq!(started(), 3, "files were tagged again");
    assert!(fs::read(bench.path("o.csv")).unwrap() == output && bench.bytes() == written);
    // Others' changes count.
    fs::copy(fixtures_folder().join("v1.mp3"), bench.music("none.mp3")).unwrap();
    bench.run(&args).expect(0);
    assert_eq!(started(), 4);
}

/// Killed at any moment, each file is the old or the new one, and the journal leads back.
#[cfg(unix)]
#[test]
fn a_killed_run_leaves_nothing_half_done() {
    let bench = Bench::new(&[]);
    for index in 0..60 {
        let name = ["v24.mp3", "tagged.flac", "tagged.ogg", "faststart.m4a"][index % 4];
        fs::copy(fixtures_folder().join(name), bench.music(&format!("{index:02}-{name}"))).unwrap();
    }
    let before = bench.bytes();
    let mut num_changed = Vec::new();
    for round in 0..6_u64 {
        let journal = format!("j{round}");
        let mut command = bench.command();
        command.args(["tag", "music", "--write-tags", "--undo-journal", &journal, "-q", "--format", "csv"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // From the first file that is written on, some moments later each time.
        for _ in 0..4000 {
            if fs::metadata(bench.path(&journal)).is_ok_and(|journal| journal.len() > 400) {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(7 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut now = bench.bytes();
        now.retain(|name, _| !name.starts_with(".earmark-"));
        assert_eq!(now.len(), before.len());
        for (name, bytes) in &now {
            if *bytes != before[name] {
                assert_eq!(strings(&bench.music(name), ItemKey::Genre), ["Rock", "Indian", "Metal"], "{name}");
            }
        }
        num_changed.push(now.iter().filter(|(name, bytes)| **bytes != before[*name]).count());
        bench.run(&["undo", &journal]).expect(0);
        let mut now = bench.bytes();
        now.retain(|name, _| !name.starts_with(".earmark-"));
        assert!(now == before, "round {round}: the journal does not lead back");
    }
    assert!(num_changed.iter().any(|&count| count > 0), "killed too early every time: {num_changed:?}");
}
