//! The files that are to be tagged, and what was heard in them. Without a screen: a page polls it, a test too.
//!
//! ```text
//! dropped paths -> finder thread: Inputs::find -> entries, waiting
//! waiting entries -> run thread: batch::run, jobs and threads as `earmark tag` shares them
//!                      |-> journal in a folder of this session: whole results, on the disk
//!                      '-> messages: started, summaries, progress -> poll() -> entries
//! an opened or exported file <- journal
//! ```
//!
//! In memory a file is its verdict and one probability per tag. Its probabilities over time, 160 KB for a song, lie in the
//! journal, bit for bit, and are read back when they are wanted; so thousands of files cost little memory and an export is
//! what `earmark tag` would have written.

use std::collections::HashSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use earmark_core::engine::{Engine, Hop, Work};
use earmark_core::model_file::ModelMetadata;
use earmark_core::tags::{Group, Heard, TagVocabulary, verdict};

use crate::args::Format;
use crate::batch::{self, Event, Outcome, Plan};
use crate::commands::processors;
use crate::commands::tag::{LONG_WORK_BYTES, LOOK_AHEAD_PER_JOB, share};
use crate::inputs::{Input, Inputs, shown};
use crate::journal::{FileId, Held, Identity, Journal, Mode, Rendering, RunRecord};
use crate::progress::{Progress, Snapshot};
use crate::tagging::TaggedFile;
use crate::worker::Worker;

/// Begins the names of the folders of sessions.
const FOLDER_PREFIX: &str = "results-";

/// Makes an engine for a run.
pub type MakeEngine = dyn Fn(Work) -> Result<Box<dyn Engine>, String> + Send + Sync;

/// Wakes the screen when there is something to poll.
pub type Wake = dyn Fn() + Send + Sync;

/// What files are tagged with.
#[derive(Clone)]
pub struct Tagger {
    /// The model without its weights.
    pub model: ModelMetadata,
    /// BLAKE3 of its file.
    pub model_hash: String,
    /// Puts it on the device in use.
    pub make_engine: Arc<MakeEngine>,
}

/// Names and thresholds by which results are read.
#[derive(Clone, Debug)]
pub struct TagSet {
    /// The tags in the order of the logits.
    pub vocabulary: TagVocabulary,
    /// The same, synonyms joined.
    pub groups: Vec<Group>,
}

impl TagSet {
    fn new(model: &ModelMetadata) -> Result<Self> {
        let vocabulary = TagVocabulary::new(model.tags.clone(), model.thresholds.clone())?;
        Ok(Self { vocabulary, groups: Group::of(&model.tags) })
    }

    /// What was heard in a file; nothing in a silent one.
    pub fn verdict(&self, file: &TaggedFile) -> Vec<Heard> {
        let Some(clip) = &file.clip_probabilities else { return Vec::new() };
        verdict(&file.taggram, clip, file.duration_s, &self.groups, |tag| self.vocabulary.thresholds()[tag])
    }
}

/// What there is to know of a tagged file without its taggram.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Seconds of sound.
    pub duration_s: f64,
    /// `[num_tags]`; empty if the file is silent.
    pub clip_probabilities: Box<[f32]>,
    /// What was heard, best first.
    pub heard: Box<[Heard]>,
    /// What the decoder met and could live with.
    pub warnings: Vec<String>,
}

/// What has become of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Its turn is to come.
    Waiting,
    /// It is being listened to.
    Running,
    /// It has a result.
    Done(Box<Summary>),
    /// It has none: why, and what helps.
    Failed(String),
    /// It was not done when the run was stopped.
    Stopped,
}

/// A file of the queue.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The file.
    pub input: Input,
    /// Its name for people.
    pub name: String,
    /// What has become of it.
    pub state: State,
    /// What a search looks through, in lower case: name, folder and what was heard.
    pub words: String,
}

impl Entry {
    fn new(input: Input) -> Self {
        let name = shown(input.path.file_name().unwrap_or(input.path.as_os_str()).as_ref());
        let words = shown(&input.path).to_lowercase();
        Self { input, name, state: State::Waiting, words }
    }

    /// Its result, if it has one.
    pub fn summary(&self) -> Option<&Summary> {
        if let State::Done(summary) = &self.state { Some(summary) } else { None }
    }
}

/// How many files are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub all: usize,
    /// With a result.
    pub done: usize,
    /// Without one.
    pub failed: usize,
    /// Still to be done.
    pub waiting: usize,
    /// Not done, because the run was stopped.
    pub stopped: usize,
}

/// What threads tell. Each carries the number of its run, or of the queue that was searched for, by which what comes too late is known.
enum Message {
    Found(u64, Inputs),
    Run(u64, Happened),
}

enum Happened {
    Started(usize),
    Finished(usize, Outcome<Summary>),
    Progress(Snapshot),
    Notice(String),
    Ended { device: String },
}

/// A run in progress.
struct Run {
    number: u64,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Whole results of this session.
struct Results {
    journal: Arc<Journal>,
    /// Goes with everything in it.
    _folder: tempfile::TempDir,
}

/// The queue.
pub struct Queue {
    tagger: Tagger,
    tags: Arc<TagSet>,
    hop: Hop,
    cache: PathBuf,
    entries: Vec<Entry>,
    known: HashSet<PathBuf>,
    results: Option<Results>,
    run: Option<Run>,
    num_finding: usize,
    /// Runs so far, and times that the queue was emptied.
    num_runs: u64,
    num_clears: u64,
    sender: Sender<Message>,
    messages: Receiver<Message>,
    wake: Arc<Wake>,
    progress: Option<Snapshot>,
    notices: Vec<String>,
    device: Option<String>,
    /// Grows with every change of an entry.
    version: u64,
    /// Nothing starts by itself: the run was stopped, or the model has changed.
    is_held: bool,
}

impl Queue {
    /// An empty queue that keeps results in a new folder below `cache`.
    ///
    /// # Errors
    /// If the model's tags cannot be used.
    pub fn new(tagger: Tagger, cache: PathBuf, wake: Arc<Wake>) -> Result<Self> {
        let (sender, messages) = mpsc::channel();
        Ok(Self {
            tags: Arc::new(TagSet::new(&tagger.model)?),
            tagger,
            hop: Hop::DEFAULT,
            cache,
            entries: Vec::new(),
            known: HashSet::new(),
            results: None,
            run: None,
            num_finding: 0,
            num_runs: 0,
            num_clears: 0,
            sender,
            messages,
            wake,
            progress: None,
            notices: Vec::new(),
            device: None,
            version: 0,
            is_held: false,
        })
    }

    /// Looks through `paths` as `earmark tag` does, and tags what is found; what is in the queue already is not added again.
    pub fn add(&mut self, paths: Vec<PathBuf>) {
        if paths.is_empty() {
            return;
        }
        self.is_held = false;
        let (sender, wake, number) = (self.sender.clone(), Arc::clone(&self.wake), self.num_clears);
        let find = move || {
            let _ = sender.send(Message::Found(number, Inputs::find(&paths)));
            wake();
        };
        match thread::Builder::new().name("file-finder".to_owned()).spawn(find) {
            Ok(_) => self.num_finding += 1,
            Err(error) => self.notices.push(format!("no thread could be started: {error}; end other programs")),
        }
    }

    /// Files with another model. Results of the one before are no longer shown; they come back when the files are tagged again,
    /// which [`resume`](Self::resume) does.
    ///
    /// # Errors
    /// If the model's tags cannot be used; then all stays as it was.
    pub fn set_tagger(&mut self, tagger: Tagger) -> Result<()> {
        let tags = TagSet::new(&tagger.model)?;
        let is_other = tagger.model_hash != self.tagger.model_hash;
        self.tagger = tagger;
        if is_other {
            self.end_run();
            (self.tags, self.results, self.is_held) = (Arc::new(tags), None, true);
            for entry in &mut self.entries {
                *entry = Entry { state: State::Stopped, ..Entry::new(entry.input.clone()) };
            }
            self.version += 1;
        }
        Ok(())
    }

    /// Tags what was stopped, and tries again what failed.
    pub fn resume(&mut self) {
        self.is_held = false;
        for entry in &mut self.entries {
            if matches!(entry.state, State::Stopped | State::Failed(_)) {
                entry.state = State::Waiting;
            }
        }
        self.version += 1;
    }

    /// Ends the run; what is done stays.
    pub fn stop(&mut self) {
        self.is_held = true;
        if let Some(run) = &self.run {
            run.stop.store(true, Ordering::Relaxed);
        }
        for entry in self.entries.iter_mut().filter(|entry| entry.state == State::Waiting) {
            entry.state = State::Stopped;
        }
        self.version += 1;
    }

    /// Empties the queue.
    pub fn clear(&mut self) {
        self.end_run();
        self.entries.clear();
        self.known.clear();
        (self.results, self.num_finding) = (None, 0);
        self.num_clears += 1;
        self.version += 1;
    }

    fn end_run(&mut self) {
        if let Some(run) = self.run.take() {
            run.stop.store(true, Ordering::Relaxed);
            // A panic there has printed itself, and its files stay where they are.
            let _ = run.thread.join();
        }
        self.progress = None;
        for entry in self.entries.iter_mut().filter(|entry| entry.state == State::Running) {
            entry.state = State::Stopped;
        }
    }

    /// Takes what has happened, and starts what can be started. True if anything changed.
    pub fn poll(&mut self) -> bool {
        let before = self.version;
        while let Ok(message) = self.messages.try_recv() {
            self.version += 1;
            match message {
                Message::Found(number, found) if number == self.num_clears => {
                    self.num_finding = self.num_finding.saturating_sub(1);
                    self.found(found);
                }
                Message::Run(number, happened) if self.run.as_ref().is_some_and(|run| run.number == number) => {
                    self.happened(happened);
                }
                Message::Found(..) | Message::Run(..) => {}
            }
        }
        if self.run.is_none()
            && self.num_finding == 0
            && !self.is_held
            && let Err(error) = self.start()
        {
            self.stop();
            self.notices.push(format!("{error:#}"));
        }
        self.version != before
    }

    fn happened(&mut self, happened: Happened) {
        match happened {
            Happened::Started(index) => self.entries[index].state = State::Running,
            Happened::Finished(index, outcome) => self.finished(index, outcome),
            Happened::Progress(snapshot) => self.progress = Some(snapshot),
            Happened::Notice(notice) => self.notices.push(notice),
            Happened::Ended { device } => {
                self.end_run();
                self.device = Some(device);
            }
        }
    }

    fn found(&mut self, found: Inputs) {
        self.notices.extend(found.warnings);
        for (path, cause) in found.errors {
            self.notices.push(format!("{}: {cause}", shown(&path)));
        }
        for input in found.files {
            if self.known.insert(input.path.clone()) {
                self.entries.push(Entry::new(input));
            }
        }
    }

    fn finished(&mut self, index: usize, outcome: Outcome<Summary>) {
        let tags = Arc::clone(&self.tags);
        let entry = &mut self.entries[index];
        entry.state = match outcome {
            Outcome::Done(summary) => {
                for heard in &summary.heard {
                    // Between bars, so that a tag is found as a whole.
                    entry.words.push('|');
                    entry.words.push_str(&tags.groups[heard.group].name);
                }
                entry.words.push('|');
                State::Done(Box::new(summary))
            }
            Outcome::Failed(cause) => State::Failed(cause),
            Outcome::Abandoned => State::Stopped,
        };
    }

    /// Starts a run over what waits.
    fn start(&mut self) -> Result<()> {
        let waiting = self.entries.iter().enumerate().filter(|(_, entry)| entry.state == State::Waiting);
        let items: Vec<(usize, Input)> = waiting.map(|(index, entry)| (index, entry.input.clone())).collect();
        if items.is_empty() {
            return Ok(());
        }
        let journal = self.journal()?;
        let stop = Arc::new(AtomicBool::new(false));
        self.num_runs += 1;
        let job = Job {
            number: self.num_runs,
            tagger: self.tagger.clone(),
            tags: Arc::clone(&self.tags),
            hop: self.hop,
            journal,
            items,
            stop: Arc::clone(&stop),
            sender: self.sender.clone(),
            wake: Arc::clone(&self.wake),
        };
        let thread = thread::Builder::new().name("file-run".to_owned()).spawn(move || job.run());
        self.run = Some(Run {
            number: self.num_runs,
            stop,
            thread: thread.context("no thread could be started; end other programs")?,
        });
        Ok(())
    }

    fn journal(&mut self) -> Result<Arc<Journal>> {
        if let Some(results) = &self.results {
            return Ok(Arc::clone(&results.journal));
        }
        let shown_cache = shown(&self.cache);
        let cannot = || format!("cannot keep results in {shown_cache}; make room there, or make it writable");
        fs::create_dir_all(&self.cache).with_context(cannot)?;
        sweep(&self.cache);
        let folder = tempfile::Builder::new().prefix(FOLDER_PREFIX).tempdir_in(&self.cache).with_context(cannot)?;
        let record = RunRecord {
            identity: Identity {
                tool_version: env!("CARGO_PKG_VERSION").to_owned(),
                model_hash: self.tagger.model_hash.clone(),
                hop_samples: self.hop.samples(),
            },
            rendering: Rendering { format: Format::Csv, top_n: 5, min_confidence: None, target_precision: None },
            shard: None,
            out: String::new(),
            model: self.tagger.model.clone(),
        };
        let (journal, _) = Journal::open(&folder.path().join("files"), record, Mode::Fresh)?;
        let journal = Arc::new(journal);
        self.results = Some(Results { journal: Arc::clone(&journal), _folder: folder });
        Ok(journal)
    }

    /// The files, in the order in which they came.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Names and thresholds of the tags.
    pub fn tags(&self) -> &Arc<TagSet> {
        &self.tags
    }

    /// What files are tagged with.
    pub fn tagger(&self) -> &Tagger {
        &self.tagger
    }

    /// Stride between windows.
    pub fn hop(&self) -> Hop {
        self.hop
    }

    /// The device of the last run.
    pub fn device(&self) -> Option<&str> {
        self.device.as_deref()
    }

    /// Grows with every change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether files are being tagged.
    pub fn is_running(&self) -> bool {
        self.run.is_some()
    }

    /// Whether folders are being looked through.
    pub fn is_finding(&self) -> bool {
        self.num_finding > 0
    }

    /// How far the run is.
    pub fn progress(&self) -> Option<&Snapshot> {
        self.progress.as_ref()
    }

    /// What there is to know, each once.
    pub fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// How many files are in which state.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts { all: self.entries.len(), ..Counts::default() };
        for entry in &self.entries {
            match entry.state {
                State::Waiting | State::Running => counts.waiting += 1,
                State::Done(_) => counts.done += 1,
                State::Failed(_) => counts.failed += 1,
                State::Stopped => counts.stopped += 1,
            }
        }
        counts
    }

    /// Reads whole results from elsewhere, for an export.
    pub fn reader(&self) -> Option<Reader> {
        self.results.as_ref().map(|results| Reader(Arc::clone(&results.journal)))
    }

    /// The whole result of a file, if it has one.
    pub fn result(&self, index: usize) -> Option<TaggedFile> {
        self.reader()?.read(&self.entries.get(index)?.input.path)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.end_run();
    }
}

/// Reads whole results.
#[derive(Clone)]
pub struct Reader(Arc<Journal>);

impl Reader {
    /// The whole result of a file, if it has one.
    pub fn read(&self, path: &Path) -> Option<TaggedFile> {
        match self.0.held(FileId::of(path))? {
            Held::Done(file) => Some(TaggedFile { path: path.to_owned(), ..*file }),
            Held::Failed(..) => None,
        }
    }
}

/// Takes away what sessions left that were killed: their journals are no longer locked.
fn sweep(cache: &Path) {
    let Ok(folders) = fs::read_dir(cache) else { return };
    for folder in folders.flatten() {
        if !folder.file_name().as_encoded_bytes().starts_with(FOLDER_PREFIX.as_bytes()) {
            continue;
        }
        let journal = fs::File::open(folder.path().join("files.journal"));
        if journal.is_ok_and(|file| file.try_lock_shared().is_ok()) {
            // Somebody who sweeps at the same time takes the rest.
            let _ = fs::remove_dir_all(folder.path());
        }
    }
}

/// One run, on a thread of its own.
struct Job {
    number: u64,
    tagger: Tagger,
    tags: Arc<TagSet>,
    hop: Hop,
    journal: Arc<Journal>,
    items: Vec<(usize, Input)>,
    stop: Arc<AtomicBool>,
    sender: Sender<Message>,
    wake: Arc<Wake>,
}

impl Job {
    fn tell(&self, happened: Happened) {
        let _ = self.sender.send(Message::Run(self.number, happened));
    }

    fn run(self) {
        let device = self.tag_all();
        self.tell(Happened::Ended { device });
        (self.wake)();
    }

    /// Tags the items and returns the name of the device.
    fn tag_all(&self) -> String {
        let (jobs, threads) = share(None, self.items.len(), processors());
        let num_bytes: u64 = self.items.iter().map(|(_, input)| input.num_bytes).sum();
        let work = Work { threads, hop: self.hop, is_long: num_bytes >= LONG_WORK_BYTES };
        let engine = match (self.tagger.make_engine)(work) {
            Ok(engine) => engine,
            Err(cause) => {
                for (index, _) in &self.items {
                    self.tell(Happened::Finished(*index, Outcome::Failed(cause.clone())));
                }
                return String::new();
            }
        };
        let inputs: Vec<Input> = self.items.iter().map(|(_, input)| input.clone()).collect();
        let progress = Progress::new(&inputs);
        let worker = Worker { engine: &*engine, hop: self.hop, journal: Some(&self.journal), stop: &self.stop };
        let work = |(_, input): &(usize, Input)| match worker.tag(input, progress.file(input)) {
            Outcome::Done(file) => Outcome::Done(Summary {
                duration_s: file.duration_s,
                heard: self.tags.verdict(&file).into(),
                clip_probabilities: file.clip_probabilities.unwrap_or_default().into(),
                warnings: file.warnings,
            }),
            Outcome::Failed(cause) => Outcome::Failed(cause),
            Outcome::Abandoned => Outcome::Abandoned,
        };
        let plan = Plan { jobs, fail_fast: false, look_ahead: jobs.saturating_mul(LOOK_AHEAD_PER_JOB) };
        batch::run(&self.items, plan, &self.stop, work, |event| {
            match event {
                Event::Started(place) => self.tell(Happened::Started(self.items[place].0)),
                Event::Finished(place, outcome) => self.tell(Happened::Finished(self.items[place].0, outcome)),
                Event::Tick => {}
            }
            self.tell(Happened::Progress(progress.snapshot()));
            (self.wake)();
            ControlFlow::Continue(())
        });
        if let Some(error) = self.journal.failure() {
            self.tell(Happened::Notice(format!("results cannot be kept: {error}; make room, then go on")));
        }
        engine.device()
    }
}

#[cfg(test)]
pub mod testing {
    //! A tagger for tests, and files for it.

    use std::time::{Duration, Instant};

    use earmark_core::WINDOW_SAMPLES;
    use earmark_core::engine::{EngineError, Sink, WindowResult, WindowStream};
    use earmark_core::weights::Architecture;

    use super::*;

    /// An engine for which loud windows are rock and quiet ones harp.
    struct Ear;

    struct EarStream(Vec<f32>, u64);

    pub const TAGS: [&str; 4] = ["rock", "harp", "vocal", "no vocals"];

    impl Engine for Ear {
        fn device(&self) -> String {
            "cpu (test)".to_owned()
        }

        fn embedding_len(&self) -> usize {
            0
        }

        fn num_tags(&self) -> usize {
            TAGS.len()
        }

        fn stream(&self, _: Hop) -> Box<dyn WindowStream + '_> {
            Box::new(EarStream(Vec::new(), 0))
        }
    }

    impl EarStream {
        fn tell(&mut self, sink: &mut Sink<'_>) {
            let len = self.0.len().min(WINDOW_SAMPLES);
            let power = self.0[..len].iter().map(|x| x * x).sum::<f32>() / len.max(1) as f32;
            let rock = if power.sqrt() > 0.1 { 2.0 } else { -2.0 };
            sink(WindowResult { start: self.1, padded: false, embedding: &[], logits: &[rock, -rock, -3.0, 1.0] });
            self.0.drain(..Hop::DEFAULT.samples().min(self.0.len()));
            self.1 += Hop::DEFAULT.samples() as u64;
        }
    }

    impl WindowStream for EarStream {
        fn push(&mut self, samples: &[f32], sink: &mut Sink<'_>) -> Result<(), EngineError> {
            self.0.extend_from_slice(samples);
            while self.0.len() >= WINDOW_SAMPLES {
                self.tell(sink);
            }
            Ok(())
        }

        fn finish(&mut self, sink: &mut Sink<'_>) -> Result<(), EngineError> {
            if self.1 == 0 && !self.0.is_empty() {
                self.tell(sink);
            }
            (self.0, self.1) = (Vec::new(), 0);
            Ok(())
        }
    }

    /// A model called `name` whose engine is quick.
    pub fn tagger(name: &str) -> Tagger {
        let tags: Vec<String> = TAGS.map(str::to_owned).to_vec();
        let model = ModelMetadata::new(name, Architecture::scaled(0.05, 3, None, TAGS.len()), tags);
        Tagger { model, model_hash: name.to_owned(), make_engine: Arc::new(|_| Ok(Box::new(Ear))) }
    }

    /// A queue whose results lie below `folder`.
    pub fn queue(folder: &Path) -> Queue {
        Queue::new(tagger("ear"), folder.join("cache"), Arc::new(|| {})).expect("valid")
    }

    /// A tone of `secs` seconds; loud ones are rock.
    pub fn tone(path: &Path, secs: f32, amplitude: f32) {
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 22_050,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(path, spec).expect("written");
        for n in 0..(secs * 22_050.0) as usize {
            let sample = amplitude * (n as f32 * 0.1).sin() * 32_767.0;
            writer.write_sample(sample as i16).expect("written");
        }
        writer.finalize().expect("written");
    }

    /// A queue of entries that were tagged already, without their whole results.
    pub fn filled(folder: &Path, entries: Vec<Entry>) -> Queue {
        let mut queue = queue(folder);
        (queue.entries, queue.version) = (entries, 1);
        queue
    }

    /// Polls until nothing is left to do.
    #[track_caller]
    pub fn settle(queue: &mut Queue) {
        let until = Instant::now() + Duration::from_mins(1);
        loop {
            queue.poll();
            if !queue.is_running() && !queue.is_finding() && (queue.counts().waiting == 0) {
                return;
            }
            assert!(Instant::now() < until, "the queue does not come to an end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{queue, settle, tagger, tone};
    use super::*;

    fn names(queue: &Queue) -> Vec<&str> {
        queue.entries().iter().map(|entry| entry.name.as_str()).collect()
    }

    #[test]
    fn folders_are_looked_through_and_each_file_is_tagged_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let music = folder.path().join("music");
        fs::create_dir(&music).expect("made");
        tone(&music.join("b loud.wav"), 6.0, 0.9);
        tone(&music.join("a soft.wav"), 6.0, 0.01);
        fs::write(music.join("c broken.wav"), "no music").expect("written");
        fs::write(music.join("notes.txt"), "no music").expect("written");
        let mut queue = queue(folder.path());
        queue.add(vec![music.clone()]);
        settle(&mut queue);
        queue.add(vec![music.join("a soft.wav"), music.clone()]);
        settle(&mut queue);
        assert_eq!(names(&queue), ["a soft.wav", "b loud.wav", "c broken.wav"]);
        assert_eq!(queue.counts(), Counts { all: 3, done: 2, failed: 1, ..Counts::default() });
        let heard = |index: usize| {
            let summary = queue.entries()[index].summary().expect("done");
            let name = |heard: &Heard| queue.tags().groups[heard.group].name.clone();
            (summary.duration_s.round(), summary.heard.iter().map(name).collect::<Vec<_>>())
        };
        assert_eq!(heard(0), (6.0, vec!["harp".to_owned(), "no vocals".to_owned()]));
        assert_eq!(heard(1), (6.0, vec!["rock".to_owned(), "no vocals".to_owned()]));
        assert!(matches!(&queue.entries()[2].state, State::Failed(cause) if cause.contains("not audio")));
        assert!(queue.entries()[0].words.contains("|harp|"));
        assert_eq!(queue.device(), Some("cpu (test)"));
        // Whole results are on the disk, and only there.
        let file = queue.result(1).expect("there");
        assert_eq!(file.taggram.num_windows(), 12);
        assert!(queue.result(2).is_none());
        let cache = folder.path().join("cache");
        assert_eq!(fs::read_dir(&cache).expect("there").count(), 1);
        drop(queue);
        assert_eq!(fs::read_dir(&cache).expect("there").count(), 0, "the session's results go with it");
    }

    #[test]
    fn a_stopped_queue_goes_on_where_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let files: Vec<PathBuf> = (0..4).map(|n| folder.path().join(format!("{n}.wav"))).collect();
        files.iter().for_each(|file| tone(file, 3.0, 0.5));
        let mut queue = queue(folder.path());
        queue.add(files[..2].to_vec());
        settle(&mut queue);
        queue.add(files[2..].to_vec());
        while queue.is_finding() {
            queue.poll();
        }
        queue.stop();
        settle(&mut queue);
        let counts = queue.counts();
        assert_eq!((counts.all, counts.done + counts.stopped), (4, 4), "{counts:?}");
        assert!(counts.done >= 2);
        queue.resume();
        settle(&mut queue);
        assert_eq!(queue.counts().done, 4);
    }

    #[test]
    fn another_model_makes_results_old() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.wav");
        tone(&file, 3.0, 0.5);
        let mut queue = queue(folder.path());
        queue.add(vec![file]);
        settle(&mut queue);
        queue.set_tagger(tagger("ear")).expect("the same");
        assert_eq!(queue.counts().done, 1);
        queue.set_tagger(tagger("other")).expect("valid");
        settle(&mut queue);
        assert_eq!((queue.counts().stopped, queue.result(0).is_none()), (1, true));
        queue.resume();
        settle(&mut queue);
        assert_eq!(queue.counts().done, 1);
        queue.clear();
        assert_eq!(queue.counts(), Counts::default());
    }

    #[test]
    fn without_an_engine_every_file_says_why() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.wav");
        tone(&file, 3.0, 0.5);
        let broken = Tagger { make_engine: Arc::new(|_| Err("no such device".to_owned())), ..tagger("ear") };
        let mut queue = Queue::new(broken, folder.path().join("cache"), Arc::new(|| {})).expect("valid");
        queue.add(vec![file]);
        settle(&mut queue);
        assert_eq!(queue.entries()[0].state, State::Failed("no such device".to_owned()));
    }

    #[test]
    fn what_a_killed_session_left_is_taken_away() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = folder.path().join("cache");
        fs::create_dir_all(cache.join("results-old")).expect("made");
        fs::create_dir_all(cache.join("something else")).expect("made");
        fs::write(cache.join("results-old/files.journal"), "x").expect("written");
        let file = folder.path().join("a.wav");
        tone(&file, 3.0, 0.5);
        let mut first = queue(folder.path());
        first.add(vec![file.clone()]);
        settle(&mut first);
        // A session that lives keeps its own.
        let mut second = queue(folder.path());
        second.add(vec![file]);
        settle(&mut second);
        assert!(first.result(0).is_some() && second.result(0).is_some());
        assert!(!cache.join("results-old").exists() && cache.join("something else").exists());
    }
}
