//! What a run has found so far, beside its output, so that the next one can go on from there.
//!
//! ```text
//! OUT.journal   magic | run | started | done | started | failed | ... | end | run | ...      only ever appended to
//!                       `- what results follow from: program, model, hop
//! open          heads alone -> what is known of each file under the same identity, where its result lies, and
//!                              which files were being read when a run ended without a word
//! a file        known and unchanged? -> its result from the journal
//!               else started -> tagged -> done | failed | left
//! ```
//!
//! The output is rendered from results in the order of the input, whether they were just found or lay here, so it is the
//! same bytes whatever was interrupted when. A torn or damaged record ends what is believed; the files behind it are done
//! again. The journal's lock is the output's: two runs cannot have it at the same time.

mod entry;
mod frame;

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use earmark_core::engine::Hop;

pub use entry::{
    ContentHash, EndRecord, Entry, FileId, FileStamp, Identity, Rendering, RunRecord, Stamp, decode_result,
    encode_result,
};
pub use frame::{decode, encode};

use crate::inputs::shown;
use crate::tagging::TaggedFile;
use frame::Span;

/// First bytes of a journal; the last is the version of its format.
const MAGIC: [u8; 8] = *b"EARMARK\x01";

/// How long results may be in the hands of the system alone. A crash of this program loses nothing; a loss of power, at
/// most what was found in this time.
const SYNC_EVERY: Duration = Duration::from_secs(2);

/// Times that a file may have ended the process that read it alone and the run with it.
const MAX_DEATHS_ALONE: u32 = 2;

/// An open, locked journal.
pub struct Journal {
    path: PathBuf,
    file: Mutex<Appended>,
    /// The same file, to wait for the disk while others append.
    syncing: File,
    last_sync: Mutex<Instant>,
    dirty: AtomicBool,
    known: Mutex<HashMap<FileId, Known>>,
    suspects: Vec<Suspect>,
    error: Mutex<Option<io::Error>>,
}

/// The file and where it ends.
struct Appended {
    file: File,
    end: u64,
}

/// What is known of a file.
#[derive(Clone, Copy, Debug)]
struct Known {
    kind: Kind,
    stamp: Stamp,
    span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Done,
    Failed,
    SetAside,
}

/// A file that was being read when a run ended without a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The file as it was then.
    pub file: FileStamp,
    /// How often the process that read it alone died with its run.
    pub deaths_alone: u32,
}

/// What a journal has to say about a file.
pub enum Before {
    /// Nothing that still holds.
    Nothing,
    /// Its result.
    Done(Box<TaggedFile>),
    /// It is not tried again, and why.
    SetAside(String),
}

/// What to do with what an earlier run left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Go on from it.
    Resume,
    /// Start over, unless the earlier run was not finished.
    Fresh,
}

/// The journal of an output, which lies beside what a link points at, as the output does.
pub fn path_beside(out: &Path) -> PathBuf {
    let real = if out.is_symlink() { out.canonicalize().ok() } else { None };
    let mut name = OsString::from(real.as_deref().unwrap_or(out));
    name.push(".journal");
    name.into()
}

/// The sign of life of a process that reads one file alone: it lies beside the journal, locked, as long as that process
/// lives, and is taken away by it at the end.
pub struct SignOfLife {
    path: PathBuf,
    _file: File,
}

impl SignOfLife {
    /// Where the process that reads alone for this journal gives it.
    fn path(journal: &Path) -> PathBuf {
        let mut name = journal.as_os_str().to_owned();
        name.push(".alone");
        name.into()
    }

    /// Gives it for reading `id`; waits for another process that is still reading.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn give(path: &Path, id: FileId) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        // Where there are no locks, it looks as if the process had died; that alone convicts nobody.
        let _ = file.lock();
        file.set_len(0)?;
        file.write_all(id.to_string().as_bytes())?;
        Ok(Self { path: path.to_owned(), _file: file })
    }

    /// Whether the process that read `id` alone has died. If it lives on without the run, or has ended in peace, the run
    /// was ended by something else.
    fn is_extinct(path: &Path, id: FileId) -> bool {
        let Ok(mut file) = File::open(path) else { return false };
        let mut text = String::new();
        let lives = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        !lives && file.read_to_string(&mut text).is_ok() && text == id.to_string()
    }

    /// Takes away what a dead process left, once that has been told.
    fn sweep(path: &Path) {
        let lives = |file: &File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        if File::open(path).is_ok_and(|file| !lives(&file)) {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Drop for SignOfLife {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Journal {
    /// Opens the journal beside `out`, makes it this run's alone, and begins `run` in it. Also says what an earlier run
    /// left that is worth knowing.
    ///
    /// # Errors
    /// If another run has it, it cannot be written, it was written by a newer version, or it holds an unfinished run
    /// that `mode` would throw away.
    pub fn open(out: &Path, run: RunRecord, mode: Mode) -> Result<(Self, Option<String>)> {
        let path = path_beside(out);
        let shown_path = shown(&path);
        let mut file = open_locked(&path, out)?;
        let len = file.metadata().with_context(|| format!("cannot read {shown_path}"))?.len();
        let scan = Scan::read(&mut file, len).with_context(|| format!("cannot read {shown_path}"))?;
        let mut note = None;
        let mut group = Group::default();
        let mut end = 0;
        match (mode, scan) {
            (_, Scan::Foreign) => bail!(
                "{shown_path} is not a journal that this version reads; use the version that wrote it, or remove it"
            ),
            (Mode::Fresh, Scan::Read { groups, .. }) => {
                let unfinished = groups.iter().filter(|group| group.end.is_none()).map(Group::num_done).sum::<usize>();
                ensure!(
                    unfinished == 0,
                    "{shown_path} holds {unfinished} results of a run that did not finish; go on from there with \
                     --resume, or remove it to start over"
                );
            }
            (Mode::Resume, Scan::Read { groups, end: intact }) => {
                end = intact;
                if intact < len {
                    note = Some(format!(
                        "{shown_path}: the last {} bytes are torn; that part is done again",
                        len - intact
                    ));
                }
                let others = groups.iter().map(Group::num_done).sum::<usize>();
                match groups.into_iter().find(|group| group.is_of(&run.identity)) {
                    Some(found) => group = found,
                    None if others > 0 => {
                        note = Some(format!(
                            "{shown_path}: its {others} results are of another model, hop or version; all files are \
                             tagged again"
                        ));
                    }
                    None => {}
                }
            }
        }
        let sign = SignOfLife::path(&path);
        let survivors = group.survivors(|id| SignOfLife::is_extinct(&sign, id));
        SignOfLife::sweep(&sign);
        let suspects = group.suspects();
        let journal = Self {
            syncing: file.try_clone().with_context(|| format!("cannot write {shown_path}"))?,
            file: Mutex::new(Appended { file, end }),
            path,
            last_sync: Mutex::new(Instant::now()),
            dirty: AtomicBool::new(false),
            known: Mutex::new(group.known),
            suspects,
            error: Mutex::new(None),
        };
        journal
            .begin(run, &survivors)
            .with_context(|| format!("cannot write {shown_path}; free some space, or name another --out"))?;
        Ok((journal, note))
    }

    fn begin(&self, run: RunRecord, survivors: &[FileId]) -> io::Result<()> {
        {
            let mut appended = lock(&self.file);
            if appended.end == 0 {
                appended.file.set_len(0)?;
                appended.file.seek(SeekFrom::Start(0))?;
                appended.file.write_all(&MAGIC)?;
                appended.end = MAGIC.len() as u64;
            } else {
                let end = appended.end;
                appended.file.set_len(end)?;
            }
        }
        // Before the run, which closes the books on the one before.
        for &id in survivors {
            self.append(&Entry::Left { id }, &[])?;
        }
        self.append(&Entry::Run(Box::new(run)), &[])?;
        self.syncing.sync_all()
    }

    /// Where a process that reads a file alone gives its sign of life.
    pub fn sign_of_life(&self) -> PathBuf {
        SignOfLife::path(&self.path)
    }

    /// The file itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Files that were being read when a run ended without a word, and have no result since.
    pub fn suspects(&self) -> &[Suspect] {
        &self.suspects
    }

    /// What is known of `path`, whose stamp is `now`.
    pub fn before(&self, path: &Path, now: &Stamp) -> Before {
        let id = FileId::of(path);
        let Some(known) = lock(&self.known).get(&id).copied() else { return Before::Nothing };
        if known.kind == Kind::Failed {
            return Before::Nothing;
        }
        if !now.looks_like(&known.stamp) {
            if !now.same_content(&known.stamp, path) {
                return Before::Nothing;
            }
            let stamp = Stamp { hash: known.stamp.hash, ..*now };
            // If this cannot be written, the next run reads the file once more.
            let _ = self.append(&Entry::Seen { file: FileStamp::new(path, stamp) }, &[]);
            lock(&self.known).insert(id, Known { stamp, ..known });
        }
        match self.read(known.span) {
            Some((Entry::Done { result, .. }, tail)) => {
                let found = decode_result(path.to_path_buf(), result, &tail);
                found.map_or(Before::Nothing, |found| Before::Done(Box::new(found)))
            }
            Some((Entry::SetAside { cause, .. }, _)) => Before::SetAside(cause),
            // Damaged: as if it were not there.
            _ => Before::Nothing,
        }
    }

    /// Notes that this program itself changed a file, but nothing that can be heard: what is known of it still holds.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn rewritten(&self, path: &Path) -> io::Result<()> {
        let id = FileId::of(path);
        let Some(known) = lock(&self.known).get(&id).copied() else { return Ok(()) };
        let stamp = Stamp { hash: ContentHash::of(path).ok(), ..Stamp::of(path) };
        self.append(&Entry::Seen { file: FileStamp::new(path, stamp) }, &[])?;
        lock(&self.known).insert(id, Known { stamp, ..known });
        Ok(())
    }

    fn read(&self, span: Span) -> Option<(Entry, Vec<u8>)> {
        read(&mut lock(&self.file).file, span).ok().flatten()
    }

    /// What there is of a file, whether it changed since or not; `None` if that is nothing or damaged.
    pub fn held(&self, id: FileId) -> Option<Held> {
        let known = lock(&self.known).get(&id).copied()?;
        Held::of(self.read(known.span)?)
    }

    /// Notes that work on a file begins.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn started(&self, path: &Path, stamp: Stamp, alone: bool) -> io::Result<()> {
        self.append(&Entry::Started { file: FileStamp::new(path, stamp), alone }, &[]).map(drop)
    }

    /// Keeps a result.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn done(&self, path: &Path, stamp: Stamp, file: &TaggedFile, hop: Hop) -> io::Result<()> {
        let (result, tail) = encode_result(file, hop);
        let span = self.append(&Entry::Done { file: FileStamp::new(path, stamp), result }, &tail)?;
        lock(&self.known).insert(FileId::of(path), Known { kind: Kind::Done, stamp, span });
        Ok(())
    }

    /// Keeps that there is no result.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn failed(&self, path: &Path, stamp: Stamp, cause: &str) -> io::Result<()> {
        let span = self.append(&Entry::Failed { file: FileStamp::new(path, stamp), cause: cause.to_owned() }, &[])?;
        lock(&self.known).insert(FileId::of(path), Known { kind: Kind::Failed, stamp, span });
        Ok(())
    }

    /// Keeps that a file is not to be tried again.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn set_aside(&self, path: &Path, stamp: Stamp, cause: &str) -> io::Result<()> {
        let span = self.append(&Entry::SetAside { file: FileStamp::new(path, stamp), cause: cause.to_owned() }, &[])?;
        lock(&self.known).insert(FileId::of(path), Known { kind: Kind::SetAside, stamp, span });
        Ok(())
    }

    /// Notes that work on a file was given up without its fault.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn left(&self, path: &Path) -> io::Result<()> {
        self.append(&Entry::Left { id: FileId::of(path) }, &[]).map(drop)
    }

    /// Notes that the run is complete.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn end(&self, record: EndRecord) -> io::Result<()> {
        self.append(&Entry::End(record), &[])?;
        self.syncing.sync_data()
    }

    /// Takes the journal away: the run is complete and nobody asked to keep it.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }

    fn append(&self, entry: &Entry, tail: &[u8]) -> io::Result<Span> {
        let frame = encode(entry, tail)?;
        let mut appended = lock(&self.file);
        let Appended { file, end } = &mut *appended;
        let at = *end;
        let written = file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(&frame));
        if let Err(error) = written {
            // What is half there would be found torn; better that it is not there.
            let _ = file.set_len(at);
            return Err(error);
        }
        *end += frame.len() as u64;
        self.dirty.store(true, Ordering::Relaxed);
        Ok(Span { at, len: frame.len() as u64 })
    }

    /// Hands what was appended over to the disk, if the last time is long enough ago.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn sync_now_and_then(&self) -> io::Result<()> {
        let mut last = lock(&self.last_sync);
        if last.elapsed() < SYNC_EVERY || !self.dirty.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let result = self.syncing.sync_data();
        *last = Instant::now();
        result
    }

    /// Keeps the first failure to write, for the end of the run.
    pub fn broke(&self, error: io::Error) {
        lock(&self.error).get_or_insert(error);
    }

    /// The failure that was kept.
    pub fn failure(&self) -> Option<io::Error> {
        lock(&self.error).take()
    }
}

impl Suspect {
    /// Whether it has been tried often enough.
    pub fn is_convicted(&self) -> bool {
        self.deaths_alone >= MAX_DEATHS_ALONE
    }
}

/// An output that is this process's alone, for what is written without a journal. Leaves nothing behind.
pub struct Hold {
    path: PathBuf,
    file: File,
}

impl Hold {
    /// Takes `out`.
    ///
    /// # Errors
    /// If a run is writing it.
    pub fn take(out: &Path) -> Result<Self> {
        let path = path_beside(out);
        Ok(Self { file: open_locked(&path, out)?, path })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // A journal that was there before stays.
        if self.file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A finished journal of a shard, to read.
pub struct Shelf {
    file: File,
    /// The newest run.
    pub run: RunRecord,
    /// How it ended.
    pub end: EndRecord,
    known: HashMap<FileId, Known>,
}

/// What a journal holds of a file.
pub enum Held {
    /// A result.
    Done(Box<TaggedFile>),
    /// A name, and why there is none.
    Failed(PathBuf, String),
}

impl Shelf {
    /// Opens the journal `path`.
    ///
    /// # Errors
    /// If it is not there, a run is writing it, or its newest run is not complete.
    pub fn open(path: &Path) -> Result<Self> {
        let shown_path = shown(path);
        let read = || format!("cannot read {shown_path}");
        let mut file = File::open(path)
            .with_context(|| format!("{}; a shard's journal lies beside its output: copy both", read()))?;
        if let Err(TryLockError::WouldBlock) = file.try_lock_shared() {
            bail!("{shown_path}: a run is still writing it; wait for its end");
        }
        let len = file.metadata().with_context(read)?.len();
        let Scan::Read { mut groups, .. } = Scan::read(&mut file, len).with_context(read)? else {
            bail!("{shown_path} is not a journal that this version reads; use the version that wrote it");
        };
        groups.sort_by_key(|group| group.begun_at);
        let newest = groups.pop().and_then(|group| Some((group.run?, group.end, group.known)));
        let Some((run, end, known)) = newest else { bail!("{shown_path} holds no run; it is damaged") };
        let end = end.ok_or_else(|| {
            anyhow!("{shown_path}: its run is not complete; finish it with the same command and --resume")
        })?;
        Ok(Self { file, run: *run, end, known })
    }

    /// What there is of a file; `None` if that is nothing or damaged.
    pub fn held(&mut self, id: FileId) -> Option<Held> {
        let known = self.known.get(&id)?;
        Held::of(read(&mut self.file, known.span).ok().flatten()?)
    }
}

impl Held {
    fn of((entry, tail): (Entry, Vec<u8>)) -> Option<Self> {
        match entry {
            Entry::Done { file, result } => Some(Self::Done(Box::new(decode_result(file.name.into(), result, &tail)?))),
            Entry::Failed { file, cause } | Entry::SetAside { file, cause } => {
                Some(Self::Failed(file.name.into(), cause))
            }
            _ => None,
        }
    }
}

/// How long a lock is waited for. A run that was just killed may have been starting a program, which then has the lock for
/// the moment until it is that program.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);

/// A file opened and locked that is still the one called `path`: another run may have removed it in between.
fn open_locked(path: &Path, out: &Path) -> Result<File> {
    let (out, shown_path) = (shown(out), shown(path));
    let began = Instant::now();
    loop {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.with_context(|| {
            format!("cannot write --out {out}: its journal {shown_path} cannot be; choose a folder that exists and is writable")
        })?;
        match file.try_lock() {
            // Some file systems cannot lock. Then nothing keeps a second run away, as anywhere else on them.
            Ok(()) | Err(TryLockError::Error(_)) => {}
            Err(TryLockError::WouldBlock) if began.elapsed() < LOCK_PATIENCE => {
                thread::sleep(LOCK_PATIENCE / 40);
                continue;
            }
            Err(TryLockError::WouldBlock) => {
                bail!("another run is writing {out}; wait for its end, or name another --out")
            }
        }
        let cloned = file.try_clone().and_then(same_file::Handle::from_file);
        if let (Ok(ours), Ok(named)) = (cloned, same_file::Handle::from_path(path))
            && ours == named
        {
            return Ok(file);
        }
    }
}

fn read(file: &mut File, span: Span) -> io::Result<Option<(Entry, Vec<u8>)>> {
    let mut bytes = vec![0; usize::try_from(span.len).map_err(io::Error::other)?];
    file.seek(SeekFrom::Start(span.at))?;
    file.read_exact(&mut bytes)?;
    Ok(decode(&bytes).map(|(entry, tail)| (entry, tail.to_vec())))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What lies in a file that may be a journal.
enum Scan {
    /// Something else.
    Foreign,
    /// Runs, by identity, and the end of what is intact.
    Read { groups: Vec<Group>, end: u64 },
}

/// All runs of one identity.
#[derive(Default)]
struct Group {
    /// The newest.
    run: Option<Box<RunRecord>>,
    /// Where it begins.
    begun_at: u64,
    end: Option<EndRecord>,
    known: HashMap<FileId, Known>,
    in_flight: HashMap<FileId, (FileStamp, bool)>,
    suspects: HashMap<FileId, Suspect>,
}

impl Scan {
    fn read(file: &mut File, len: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(0))?;
        let mut reader = BufReader::new(&mut *file);
        let mut magic = [0; MAGIC.len()];
        if len < MAGIC.len() as u64 {
            // The very first write was cut off.
            let mut begun = Vec::new();
            reader.read_to_end(&mut begun)?;
            let ours = MAGIC.starts_with(&begun);
            return Ok(if ours { Self::Read { groups: Vec::new(), end: 0 } } else { Self::Foreign });
        }
        reader.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Ok(Self::Foreign);
        }
        let mut groups: Vec<Group> = Vec::new();
        let mut current = 0;
        let mut at = magic.len() as u64;
        while let Some((entry, span)) = frame::next(&mut reader, at, len - at)? {
            match entry {
                Entry::Run(run) => {
                    current = groups.iter().position(|group| group.is_of(&run.identity)).unwrap_or_else(|| {
                        groups.push(Group::default());
                        groups.len() - 1
                    });
                    groups[current].begin(run, at);
                }
                entry => {
                    // Nothing comes before the first run.
                    if let Some(group) = groups.get_mut(current) {
                        group.apply(entry, span);
                    }
                }
            }
            at = span.end();
        }
        Ok(Self::Read { groups, end: at })
    }
}

impl Group {
    fn is_of(&self, identity: &Identity) -> bool {
        self.run.as_ref().is_some_and(|run| run.identity == *identity)
    }

    fn num_done(&self) -> usize {
        self.known.values().filter(|known| known.kind == Kind::Done).count()
    }

    fn begin(&mut self, run: Box<RunRecord>, at: u64) {
        self.settle();
        (self.run, self.begun_at, self.end) = (Some(run), at, None);
    }

    fn apply(&mut self, entry: Entry, span: Span) {
        let (kind, file) = match entry {
            Entry::Run(_) => return,
            Entry::End(end) => return self.end = Some(end),
            Entry::Started { file, alone } => {
                self.in_flight.insert(file.id, (file, alone));
                return;
            }
            Entry::Left { id } => {
                self.in_flight.remove(&id);
                return;
            }
            Entry::Seen { file } => {
                self.known.entry(file.id).and_modify(|known| known.stamp = file.stamp);
                return;
            }
            Entry::Done { file, .. } => (Kind::Done, file),
            Entry::Failed { file, .. } => (Kind::Failed, file),
            Entry::SetAside { file, .. } => (Kind::SetAside, file),
        };
        self.in_flight.remove(&file.id);
        self.suspects.remove(&file.id);
        self.known.insert(file.id, Known { kind, stamp: file.stamp, span });
    }

    /// The run is over: what was in flight ended with it.
    fn settle(&mut self) {
        for (id, (file, alone)) in self.in_flight.drain() {
            let suspect = self.suspects.entry(id).or_insert_with(|| Suspect { file: file.clone(), deaths_alone: 0 });
            suspect.file = file;
            suspect.deaths_alone += u32::from(alone);
        }
    }

    /// Files in flight, alone, whose process did not die: whatever ended the run, they did not.
    fn survivors(&mut self, is_extinct: impl Fn(FileId) -> bool) -> Vec<FileId> {
        let survived = |(id, (_, alone)): (&FileId, &(FileStamp, bool))| (*alone && !is_extinct(*id)).then_some(*id);
        let survivors: Vec<FileId> = self.in_flight.iter().filter_map(survived).collect();
        survivors.iter().for_each(|id| drop(self.in_flight.remove(id)));
        survivors
    }

    fn suspects(&mut self) -> Vec<Suspect> {
        self.settle();
        let mut suspects: Vec<Suspect> = self.suspects.drain().map(|(_, suspect)| suspect).collect();
        suspects.sort_by(|a, b| a.file.name.cmp(&b.file.name));
        let mut seen = HashSet::new();
        suspects.retain(|suspect| seen.insert(suspect.file.id));
        suspects
    }
}

#[cfg(test)]
mod tests;
