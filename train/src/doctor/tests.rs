//! The doctor on small data sets made here, each with one thing wrong.

use super::*;

/// A folder in MagnaTagATune's layout: two training, one validation and one test clip of different tones.
struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self { folder: tempfile::tempdir().expect("a folder") };
        let clips = ["0/a-0-3.wav", "1/b-0-3.wav", "c/c-0-3.wav", "d/d-0-3.wav"];
        for (index, path) in clips.iter().enumerate() {
            fixture.write_tone(path, 200.0 + 50.0 * index as f32, 70_000);
        }
        fixture.annotate(&clips);
        fixture
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("music")
    }

    fn annotate(&self, clips: &[&str]) {
        let mut text = "clip_id\ttone\tmp3_path\n".to_owned();
        for (index, path) in clips.iter().enumerate() {
            text += &format!("{index}\t1\t{path}\n");
        }
        std::fs::write(self.root().join("annotations_final.csv"), text).expect("written");
    }

    fn write_tone(&self, path: &str, hz: f32, samples: u32) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("created");
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 22_050,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(path, spec).expect("a file");
        for n in 0..samples {
            let sample = (std::f32::consts::TAU * hz * n as f32 / 22_050.0).sin();
            writer.write_sample((sample * 20_000.0) as i16).expect("written");
        }
        writer.finalize().expect("written");
    }

    fn cache(&self) -> Cache {
        Cache::open(&self.folder.path().join("cache"), 1 << 30).expect("a cache")
    }

    fn args(&self, quick: bool) -> DoctorArgs {
        DoctorArgs {
            data: vec![self.root()],
            noise: Vec::new(),
            pretrain: Vec::new(),
            split_rule: SplitRule::Folders,
            quick,
            json: false,
            no_progress: true,
            cache: CacheArgs { cache: None, cache_limit: 1 << 30 },
        }
    }

    fn examine(&self) -> Report {
        examine(&self.args(false), Some(&self.cache()), Progress::Hidden).expect("a report")
    }

    fn admit(&self, allow_broken: bool) -> Result<Vec<String>> {
        let collection = layout::open(&self.root(), SplitRule::Folders).expect("labels");
        admit(Role::Data, &collection, Some(&self.cache()), allow_broken)
    }
}

/// The finding whose text holds `what`.
fn finding<'a>(report: &'a Report, what: &str) -> &'a Finding {
    let mut findings = report.collections.iter().flat_map(|collection| &collection.findings);
    findings.find(|finding| finding.what.contains(what)).unwrap_or_else(|| panic!("no '{what}' in\n{}", report.text()))
}

#[test]
fn sound_data_is_sound_and_counted() {
    let fixture = Fixture::new();
    let report = fixture.examine();
    assert!(report.is_sound && report.collections[0].findings.is_empty(), "{}", report.text());
    let splits: Vec<_> = report.collections[0].splits.iter().map(|s| (s.split, s.listed, s.usable)).collect();
    assert_eq!(splits, [(Split::Train, 2, 2), (Split::Valid, 1, 1), (Split::Test, 1, 1)]);
    let hours = report.collections[0].splits[0].hours.expect("decoded");
    assert!((hours * 3_600.0 - 2.0 * 70_000.0 / 22_050.0).abs() < 1e-6);
    let tag = TagCount { tag: "tone".to_owned(), train: 2, valid: 1, test: 1 };
    assert_eq!(report.collections[0].tags, [tag]);
    assert_eq!(fixture.admit(false).expect("admitted"), Vec::<String>::new());
}

#[test]
fn a_recording_in_two_splits_is_broken_and_training_refuses_it() {
    let fixture = Fixture::new();
    fixture.write_tone("d/a-3-6.wav", 700.0, 70_000);
    fixture.annotate(&["0/a-0-3.wav", "1/b-0-3.wav", "c/c-0-3.wav", "d/a-3-6.wav"]);
    let report = fixture.examine();
    assert!(!report.is_sound);
    let leak = finding(&report, "recordings or albums in more than one split: 1");
    assert_eq!(leak.items, ["a: train 0/a-0-3.wav, test d/a-3-6.wav"]);
    let message = fixture.admit(false).expect_err("refused").to_string();
    assert!(message.contains("--allow-broken") && message.contains("more than one split: 1"), "{message}");
    assert_eq!(fixture.admit(true).expect("overruled").len(), 1);
}

#[test]
fn a_copy_in_another_split_is_broken_and_remembered() {
    let fixture = Fixture::new();
    std::fs::copy(fixture.root().join("0/a-0-3.wav"), fixture.root().join("d/d-0-3.wav")).expect("copied");
    assert!(fixture.admit(false).is_ok(), "labels and files alone do not tell");
    let report = fixture.examine();
    assert!(!report.is_sound);
    let copies = finding(&report, "copies across splits (equal decoded samples): 1");
    assert!(copies.items[0].contains("0/a-0-3.wav") && copies.items[0].contains("test"), "{:?}", copies.items);
    assert!(fixture.admit(false).expect_err("remembered").to_string().contains("copies across splits"));

    fixture.write_tone("d/d-0-3.wav", 350.0, 70_001);
    assert!(fixture.admit(false).is_ok(), "these are other files");
    assert!(fixture.examine().is_sound);
}

#[test]
fn a_copy_in_the_same_split_is_a_warning() {
    let fixture = Fixture::new();
    std::fs::copy(fixture.root().join("0/a-0-3.wav"), fixture.root().join("1/b-0-3.wav")).expect("copied");
    let report = fixture.examine();
    assert!(report.is_sound);
    assert_eq!(finding(&report, "copies within a split (equal decoded samples): 1").severity, Severity::Warning);
}

#[test]
fn truncated_short_silent_and_unreadable_files_are_told_apart() {
    let fixture = Fixture::new();
    let clips: Vec<String> = (0..12).map(|index| format!("0/x{index}-0-3.wav")).collect();
    for (index, path) in clips.iter().enumerate() {
        fixture.write_tone(path, 203.0 + 7.0 * index as f32, 70_000);
    }
    let path = |index: usize| fixture.root().join(&clips[index]);
    let whole = std::fs::read(path(0)).expect("readable");
    std::fs::write(path(0), &whole[..whole.len() - 20_000]).expect("written");
    std::fs::write(path(1), b"this is no audio at all, and long enough to be probed").expect("written");
    fixture.write_tone(&clips[2], 0.0, 70_000);
    fixture.write_tone(&clips[3], 300.0, 58_000);
    // The name says 3 s: whole by its header, it still lacks a second.
    fixture.write_tone(&clips[4], 310.0, 40_000);
    let mut all: Vec<&str> = clips.iter().map(String::as_str).collect();
    all.extend(["c/c-0-3.wav", "d/d-0-3.wav"]);
    fixture.annotate(&all);

    let report = fixture.examine();
    assert!(report.is_sound, "one in twelve is unreadable:\n{}", report.text());
    let truncated = finding(&report, "files shorter than they should be: 2");
    assert!(truncated.items[0].contains("x0-0-3.wav: truncated: declares 3.17 s"), "{:?}", truncated.items);
    assert!(truncated.items[1].contains("the labels say 3.00 s, it holds 1.81 s"), "{:?}", truncated.items);
    assert!(finding(&report, "files that cannot be decoded: 1").items[0].contains("x1-0-3.wav"));
    assert_eq!(finding(&report, "silent files: 1").items, [clips[2].as_str()]);
    assert_eq!(finding(&report, "files shorter than a window").items.len(), 2);
    assert_eq!(report.collections[0].splits[0].usable, 11);
    // The second look takes everything from the cache, what the decoder said included.
    assert_eq!(fixture.examine().text(), report.text());
}

#[test]
fn a_few_missing_files_are_a_warning_and_many_are_broken() {
    let fixture = Fixture::new();
    let clips: Vec<String> = (0..10).map(|index| format!("0/x{index}-0-3.wav")).collect();
    let mut all: Vec<&str> = clips.iter().map(String::as_str).collect();
    all.extend(["c/c-0-3.wav", "d/d-0-3.wav"]);
    fixture.annotate(&all);
    for (index, path) in clips.iter().enumerate().skip(2) {
        fixture.write_tone(path, 203.0 + 7.0 * index as f32, 70_000);
    }
    let quick = || examine(&fixture.args(true), None, Progress::Hidden).expect("a report");
    let report = quick();
    assert!(report.is_sound, "a fifth is missing:\n{}", report.text());
    assert_eq!(finding(&report, "missing or empty files: 2").items, clips[..2]);
    std::fs::write(fixture.root().join(&clips[2]), b"").expect("emptied");
    let report = quick();
    assert!(!report.is_sound && finding(&report, "3 of 10 files of the train split").severity == Severity::Broken);
    assert!(fixture.admit(false).is_err());

    std::fs::remove_file(fixture.root().join("c/c-0-3.wav")).expect("removed");
    assert_eq!(finding(&quick(), "the valid split has no usable file (1 are listed)").severity, Severity::Broken);
}

#[test]
fn stage_one_may_hold_out_what_is_learnt_later_but_not_learn_what_is_tested() {
    let fixture = Fixture::new();
    let pretrain = fixture.folder.path().join("pretrain");
    std::fs::create_dir(&pretrain).expect("created");
    std::fs::copy(fixture.root().join("0/a-0-3.wav"), pretrain.join("one.wav")).expect("copied");
    let mut args = fixture.args(false);
    args.pretrain.push(pretrain.clone());
    assert!(examine(&args, None, Progress::Hidden).expect("a report").is_sound);
    std::fs::copy(fixture.root().join("d/d-0-3.wav"), pretrain.join("two.wav")).expect("copied");
    let report = examine(&args, None, Progress::Hidden).expect("a report");
    for collection in &report.collections {
        assert!(
            collection.findings.iter().any(|found| found.what.contains("copies across splits")),
            "{}",
            report.text()
        );
    }
}

#[test]
fn the_report_says_everything_twice_the_same_way() {
    let fixture = Fixture::new();
    std::fs::remove_file(fixture.root().join("d/d-0-3.wav")).expect("removed");
    let report = fixture.examine();
    let text = report.text();
    assert!(
        text.contains("layout: MagnaTagATune") && text.contains("broken: 1 of 1 files of the test split"),
        "{text}"
    );
    let json = serde_json::to_value(&report).expect("JSON");
    assert_eq!(json["is_sound"], false);
    assert_eq!(json["collections"][0]["layout"], "magnatagatune");
    assert_eq!(json["collections"][0]["splits"][2]["usable"], 0);
}

#[test]
fn a_cache_too_small_for_the_data_is_told() {
    let fixture = Fixture::new();
    let cache = Cache::open(&fixture.folder.path().join("small"), 300_000).expect("a cache");
    let report = examine(&fixture.args(false), Some(&cache), Progress::Hidden).expect("a report");
    assert!(report.is_sound);
    assert_eq!(finding(&report, "the decoded audio takes").severity, Severity::Warning);
}
