//! A journal that is cut, damaged, locked, foreign or of another model.

use earmark_core::model_file::ModelMetadata;
use earmark_core::tags::Taggram;
use earmark_core::weights::Architecture;
use proptest::prelude::*;

use super::*;
use crate::args::Format;

const HOP: Hop = Hop::DEFAULT;

fn run(model_hash: &str) -> RunRecord {
    RunRecord {
        identity: Identity { tool_version: "1".into(), model_hash: model_hash.into(), hop_samples: HOP.samples() },
        rendering: Rendering { format: Format::Csv, top_n: 5, min_confidence: None, target_precision: None },
        shard: None,
        out: "out.csv".into(),
        model: ModelMetadata::new("one", Architecture::scaled(0.1, 3, None, 1), vec!["rock".into()]),
    }
}

fn result(path: &Path, logit: f32) -> TaggedFile {
    let mut taggram = Taggram::new(1, HOP);
    (0..5).for_each(|t| taggram.push(&[logit + t as f32], false));
    let clip_probabilities = taggram.clip_probabilities();
    TaggedFile { path: path.into(), duration_s: 3.25, taggram, clip_probabilities, warnings: Vec::new() }
}

/// A folder with files to be tagged; `name` is its output.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new(files: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        files.iter().for_each(|name| std::fs::write(folder.path().join(name), name).expect("written"));
        Self(folder)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn out(&self) -> PathBuf {
        self.at("out.csv")
    }

    fn open(&self, mode: Mode) -> Journal {
        Journal::open(&self.out(), run("a"), mode).expect("opened").0
    }

    fn start(&self, journal: &Journal, name: &str) {
        let path = self.at(name);
        journal.started(&path, Stamp::of(&path), false).expect("written");
    }

    fn finish(&self, journal: &Journal, name: &str, logit: f32) {
        let path = self.at(name);
        let stamp = Stamp { hash: ContentHash::of(&path).ok(), ..Stamp::of(&path) };
        journal.done(&path, stamp, &result(&path, logit), HOP).expect("written");
    }

    /// The first logit's probability that is known of `name`.
    fn known(&self, journal: &Journal, name: &str) -> Option<f32> {
        let path = self.at(name);
        match journal.before(&path, &Stamp::of(&path)) {
            Before::Done(file) => Some(file.taggram.probabilities()[0]),
            Before::Nothing | Before::SetAside(_) => None,
        }
    }
}

fn refused(opened: Result<(Journal, Option<String>)>) -> String {
    format!("{:#}", opened.err().expect("refused"))
}

#[test]
fn results_are_found_again_unless_the_file_changed() {
    let bench = Bench::new(&["a.wav", "b.wav", "c.wav"]);
    let journal = bench.open(Mode::Resume);
    for (name, logit) in [("a.wav", 0.0), ("b.wav", 1.0), ("c.wav", 2.0)] {
        bench.start(&journal, name);
        bench.finish(&journal, name, logit);
    }
    drop(journal);
    std::fs::write(bench.at("b.wav"), "B.WAV").expect("written");
    // Touched, but the same.
    let later = std::time::SystemTime::now() + Duration::from_secs(9);
    File::options().append(true).open(bench.at("c.wav")).expect("opened").set_modified(later).expect("touched");

    let size = |journal: &Journal| std::fs::metadata(journal.path()).expect("there").len();
    let journal = bench.open(Mode::Resume);
    assert_eq!(bench.known(&journal, "a.wav"), Some(0.5));
    assert_eq!(bench.known(&journal, "b.wav"), None);
    assert!(bench.known(&journal, "c.wav").is_some_and(|p| p > 0.8));
    assert_eq!(bench.known(&journal, "absent.wav"), None);
    assert!(journal.suspects().is_empty());
    let before = size(&journal);
    assert!(bench.known(&journal, "c.wav").is_some());
    assert_eq!(size(&journal), before, "that it was touched is noted once");
    drop(journal);
    let journal = bench.open(Mode::Resume);
    let before = size(&journal);
    assert!(bench.known(&journal, "c.wav").is_some());
    assert_eq!(size(&journal), before, "and stays noted");
}

#[test]
fn another_model_sees_nothing_and_the_first_finds_its_results_again() {
    let bench = Bench::new(&["a.wav"]);
    bench.finish(&bench.open(Mode::Resume), "a.wav", 0.0);
    let (other, note) = Journal::open(&bench.out(), run("b"), Mode::Resume).expect("opened");
    assert!(note.expect("said").contains("1 results are of another model"));
    assert_eq!(bench.known(&other, "a.wav"), None);
    drop(other);
    assert_eq!(bench.known(&bench.open(Mode::Resume), "a.wav"), Some(0.5));
}

#[test]
fn an_unfinished_run_is_not_thrown_away() {
    let bench = Bench::new(&["a.wav"]);
    drop(bench.open(Mode::Fresh));
    let journal = bench.open(Mode::Fresh);
    bench.finish(&journal, "a.wav", 0.0);
    drop(journal);
    let message = refused(Journal::open(&bench.out(), run("a"), Mode::Fresh));
    assert!(message.contains("out.csv.journal holds 1 results") && message.contains("--resume"), "{message}");
    bench.open(Mode::Resume).end(EndRecord::default()).expect("written");
    let fresh = bench.open(Mode::Fresh);
    assert_eq!(bench.known(&fresh, "a.wav"), None, "a finished one makes room");
}

#[test]
fn two_runs_cannot_have_one_output() {
    let bench = Bench::new(&[]);
    let first = bench.open(Mode::Fresh);
    let message = refused(Journal::open(&bench.out(), run("a"), Mode::Resume));
    assert!(message.contains("another run is writing") && message.contains("out.csv"), "{message}");
    first.remove().expect("removed");
    drop(bench.open(Mode::Fresh));
    std::fs::write(path_beside(&bench.out()), "my diary").expect("written");
    assert!(refused(Journal::open(&bench.out(), run("a"), Mode::Resume)).contains("is not a journal"));
    assert!(refused(Journal::open(&bench.at("absent/x"), run("a"), Mode::Fresh)).contains("absent"));
}

#[test]
fn who_was_in_flight_is_suspect_and_who_dies_alone_is_convicted() {
    let bench = Bench::new(&["a.wav", "b.wav", "c.wav"]);
    let journal = bench.open(Mode::Resume);
    ["a.wav", "b.wav", "c.wav"].iter().for_each(|name| bench.start(&journal, name));
    journal.left(&bench.at("c.wav")).expect("written");
    drop(journal);

    let names = |journal: &Journal| -> Vec<(String, u32)> {
        let name = |suspect: &Suspect| Path::new(&suspect.file.name).file_name().expect("a name").to_owned();
        let suspects = journal.suspects().iter();
        suspects.map(|s| (name(s).to_string_lossy().into_owned(), s.deaths_alone)).collect()
    };
    let journal = bench.open(Mode::Resume);
    assert_eq!(names(&journal), [("a.wav".to_owned(), 0), ("b.wav".to_owned(), 0)]);
    // One is innocent; the other takes the run down twice.
    bench.finish(&journal, "a.wav", 0.0);
    let sign = journal.sign_of_life();
    drop(journal);
    // The run was killed while the process that read it alone went on, or after that had ended: nobody's fault.
    for lives in [true, false] {
        let journal = bench.open(Mode::Resume);
        journal.started(&bench.at("b.wav"), Stamp::of(&bench.at("b.wav")), true).expect("written");
        drop(journal);
        let alive = lives.then(|| SignOfLife::give(&sign, FileId::of(&bench.at("b.wav"))).expect("given"));
        assert_eq!(names(&bench.open(Mode::Resume)), [("b.wav".to_owned(), 0)]);
        drop(alive);
        assert!(!sign.exists());
    }
    for deaths in 1..=2 {
        let journal = bench.open(Mode::Resume);
        std::fs::write(&sign, FileId::of(&bench.at("b.wav")).to_string()).expect("written");
        journal.started(&bench.at("b.wav"), Stamp::of(&bench.at("b.wav")), true).expect("written");
        drop(journal);
        let journal = bench.open(Mode::Resume);
        assert_eq!(names(&journal), [("b.wav".to_owned(), deaths)]);
        assert_eq!(journal.suspects()[0].is_convicted(), deaths == 2);
    }
    let journal = bench.open(Mode::Resume);
    let path = bench.at("b.wav");
    journal.set_aside(&path, Stamp::of(&path), "it is bad").expect("written");
    drop(journal);
    let journal = bench.open(Mode::Resume);
    assert!(names(&journal).is_empty());
    assert!(matches!(journal.before(&path, &Stamp::of(&path)), Before::SetAside(cause) if cause == "it is bad"));
    std::fs::write(&path, "better").expect("written");
    assert!(matches!(journal.before(&path, &Stamp::of(&path)), Before::Nothing), "a changed file is tried again");
}

#[test]
fn a_shelf_is_a_finished_journal() {
    let bench = Bench::new(&["a.wav", "b.wav"]);
    let journal = bench.open(Mode::Resume);
    bench.finish(&journal, "a.wav", 0.0);
    journal.failed(&bench.at("b.wav"), Stamp::default(), "is empty").expect("written");
    let path = journal.path().to_path_buf();
    let message = |path: &Path| format!("{:#}", Shelf::open(path).err().expect("refused"));
    assert!(message(&path).contains("still writing"));
    drop(journal);
    assert!(message(&path).contains("not complete"));
    assert!(message(&bench.at("x.journal")).contains("copy both"));
    bench.open(Mode::Resume).end(EndRecord { num_all: 2, ..EndRecord::default() }).expect("written");
    let mut shelf = Shelf::open(&path).expect("opened");
    assert_eq!(shelf.end.num_all, 2);
    assert!(matches!(shelf.held(FileId::of(&bench.at("a.wav"))), Some(Held::Done(_))));
    let Some(Held::Failed(name, cause)) = shelf.held(FileId::of(&bench.at("b.wav"))) else { panic!("held") };
    assert!(name.ends_with("b.wav") && cause == "is empty");
    assert!(shelf.held(FileId::of(&bench.at("c.wav"))).is_none());
}

/// Bytes of a journal of six files, and where each of its records ends.
fn journal_bytes(bench: &Bench) -> (Vec<u8>, Vec<usize>) {
    let journal = bench.open(Mode::Resume);
    let size = || std::fs::metadata(journal.path()).expect("there").len() as usize;
    let mut ends = vec![size()];
    for index in 0..6 {
        let name = format!("{index}.wav");
        bench.start(&journal, &name);
        ends.push(size());
        bench.finish(&journal, &name, index as f32);
        ends.push(size());
    }
    (std::fs::read(journal.path()).expect("readable"), ends)
}

fn six_files() -> Bench {
    Bench::new(&["0.wav", "1.wav", "2.wav", "3.wav", "4.wav", "5.wav"])
}

/// Checks that of a journal whose first `intact` bytes are good, exactly the records in there are believed, that work can
/// go on, and that nothing is lost thereafter.
fn recovers(bench: &Bench, ends: &[usize], intact: usize) -> Result<(), TestCaseError> {
    let records = ends.iter().filter(|&&end| end <= intact).count();
    let done = records.saturating_sub(1) / 2;
    let journal = bench.open(Mode::Resume);
    for index in 0..6 {
        let known = bench.known(&journal, &format!("{index}.wav"));
        prop_assert_eq!(known.is_some(), index < done, "file {} of a journal cut at {}", index, intact);
    }
    let in_flight = records > 0 && (records - 1) % 2 == 1;
    prop_assert_eq!(journal.suspects().len(), usize::from(in_flight));
    for index in done..6 {
        bench.finish(&journal, &format!("{index}.wav"), index as f32);
    }
    drop(journal);
    let journal = bench.open(Mode::Resume);
    let all_known = (0..6).all(|index| bench.known(&journal, &format!("{index}.wav")).is_some());
    prop_assert!(all_known);
    prop_assert!(journal.suspects().is_empty());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_journal_cut_at_any_byte_recovers(cut in 0.0_f64..1.0) {
        let bench = six_files();
        let (bytes, ends) = journal_bytes(&bench);
        let cut = (bytes.len() as f64 * cut) as usize;
        std::fs::write(path_beside(&bench.out()), &bytes[..cut]).expect("written");
        recovers(&bench, &ends, cut)?;
    }

    /// A flipped bit in a head ends what is believed there; one in a result costs that result alone.
    #[test]
    fn a_damaged_journal_never_gives_a_wrong_result(place in 0.0_f64..1.0, bit in 0_u8..8) {
        let bench = six_files();
        let (mut bytes, _) = journal_bytes(&bench);
        let place = MAGIC.len() + ((bytes.len() - MAGIC.len()) as f64 * place) as usize;
        bytes[place] ^= 1 << bit;
        std::fs::write(path_beside(&bench.out()), &bytes).expect("written");
        let journal = bench.open(Mode::Resume);
        for index in 0..6 {
            let expected = earmark_core::tags::sigmoid(index as f32);
            let known = bench.known(&journal, &format!("{index}.wav"));
            prop_assert!(known.is_none_or(|p| p.to_bits() == expected.to_bits()), "{:?}", known);
        }
    }
}
