//! How far a run is: counted by the jobs, shown by the main thread.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::inputs::Input;

/// Resolution of the audio time that is counted.
const MICROS_PER_SEC: f64 = 1e6;

/// Counts files, audio time and bytes of input. Bytes stand for work, as durations are not known before a file is open.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    num_files: usize,
    total_bytes: u64,
    files_done: AtomicUsize,
    audio_micros: AtomicU64,
    bytes_done: AtomicU64,
}

/// A moment of a run, as it is shown and written.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    /// Files finished, failed ones included.
    pub files_done: usize,
    /// Files of the run.
    pub files_total: usize,
    /// Seconds of audio heard.
    pub audio_s: f64,
    /// Seconds since the begin.
    pub wall_s: f64,
    /// Seconds of audio per second.
    pub speed: f64,
    /// Seconds left, if there is enough to guess from.
    pub time_left_s: Option<f64>,
}

impl Progress {
    /// At the begin of a run over `files`.
    pub fn new(files: &[Input]) -> Self {
        Self {
            started: Instant::now(),
            num_files: files.len(),
            total_bytes: files.iter().map(weight).sum(),
            files_done: AtomicUsize::new(0),
            audio_micros: AtomicU64::new(0),
            bytes_done: AtomicU64::new(0),
        }
    }

    /// Begins to count a file.
    pub fn file(&self, input: &Input) -> FileProgress<'_> {
        FileProgress { progress: self, weight: weight(input), bytes: 0, micros: 0 }
    }

    /// Where the run is now.
    pub fn snapshot(&self) -> Snapshot {
        self.at(self.started.elapsed())
    }

    fn at(&self, elapsed: Duration) -> Snapshot {
        let wall_s = elapsed.as_secs_f64();
        let audio_s = self.audio_micros.load(Ordering::Relaxed) as f64 / MICROS_PER_SEC;
        let share = self.share();
        Snapshot {
            files_done: self.files_done.load(Ordering::Relaxed),
            files_total: self.num_files,
            audio_s,
            wall_s,
            speed: if wall_s > 0.0 { audio_s / wall_s } else { 0.0 },
            time_left_s: (share > 0.0 && wall_s >= 1.0).then(|| wall_s * (1.0 - share) / share),
        }
    }

    /// Share of the work that is done, 0 to 1.
    fn share(&self) -> f64 {
        (self.bytes_done.load(Ordering::Relaxed) as f64 / self.total_bytes.max(1) as f64).min(1.0)
    }
}

/// Even an empty file is some work.
fn weight(input: &Input) -> u64 {
    input.num_bytes.max(1)
}

/// One file's part of the count; when it goes out of scope the file is finished, whatever became of it.
#[derive(Debug)]
pub struct FileProgress<'a> {
    progress: &'a Progress,
    weight: u64,
    bytes: u64,
    micros: u64,
}

impl FileProgress<'_> {
    /// `decoded_secs` of `declared_secs` are heard. A file that does not say its length counts when it is finished.
    pub fn heard(&mut self, decoded_secs: f64, declared_secs: Option<f64>) {
        let micros = ((decoded_secs * MICROS_PER_SEC) as u64).max(self.micros);
        self.progress.audio_micros.fetch_add(micros - self.micros, Ordering::Relaxed);
        self.micros = micros;
        if let Some(declared_secs) = declared_secs.filter(|&secs| secs > 0.0) {
            let share = (decoded_secs / declared_secs).clamp(0.0, 1.0);
            self.advance((self.weight as f64 * share) as u64);
        }
    }

    fn advance(&mut self, bytes: u64) {
        let bytes = bytes.clamp(self.bytes, self.weight);
        self.progress.bytes_done.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for FileProgress<'_> {
    fn drop(&mut self) {
        self.advance(self.weight);
        self.progress.files_done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Positions of the bar.
const BAR_STEPS: u64 = 1000;

/// A bar on the standard error, if that is a terminal.
pub fn bar() -> Option<ProgressBar> {
    io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::new(BAR_STEPS);
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        bar
    })
}

/// Shows where the run is.
pub fn show(bar: &ProgressBar, progress: &Progress) {
    bar.set_position((progress.share() * BAR_STEPS as f64) as u64);
    bar.set_message(describe(&progress.snapshot()));
}

fn describe(snapshot: &Snapshot) -> String {
    let Snapshot { files_done, files_total, audio_s, speed, time_left_s, .. } = snapshot;
    let left = time_left_s.map(|secs| format!(", {} left", clock(secs))).unwrap_or_default();
    format!("{files_done}/{files_total} files, {} of audio, {speed:.0} x real time{left}", clock(*audio_s))
}

/// A duration as on a clock: `3:42`, `1:02:03`.
pub fn clock(secs: f64) -> String {
    let secs = secs.round().max(0.0) as u64;
    let (hours, minutes, secs) = (secs / 3600, secs / 60 % 60, secs % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{secs:02}") } else { format!("{minutes}:{secs:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(sizes: &[u64]) -> Vec<Input> {
        sizes.iter().map(|&num_bytes| Input { path: "x.wav".into(), num_bytes, index: 0, shard_key: 0 }).collect()
    }

    #[test]
    fn counts_files_audio_and_work() {
        let files = inputs(&[300, 100]);
        let progress = Progress::new(&files);
        let mut first = progress.file(&files[0]);
        first.heard(30.0, Some(60.0));
        let half = progress.at(Duration::from_secs(3));
        assert_eq!((half.files_done, half.files_total), (0, 2));
        assert!((half.audio_s - 30.0).abs() < 1e-6 && (half.speed - 10.0).abs() < 1e-6);
        // 150 of 400 bytes took 3 s, so the other 250 take 5 s.
        assert!((half.time_left_s.expect("known") - 5.0).abs() < 1e-6);
        first.heard(70.0, Some(60.0));
        drop(first);
        drop(progress.file(&files[1]));
        let end = progress.at(Duration::from_secs(4));
        assert_eq!(end.files_done, 2);
        assert!(end.time_left_s.expect("known").abs() < 1e-9);
        assert!((end.audio_s - 70.0).abs() < 1e-6);
    }

    #[test]
    fn an_empty_run_divides_by_nothing() {
        let snapshot = Progress::new(&[]).at(Duration::ZERO);
        assert_eq!((snapshot.speed, snapshot.time_left_s), (0.0, None));
    }

    #[test]
    fn clocks() {
        assert_eq!(clock(0.4), "0:00");
        assert_eq!(clock(222.2), "3:42");
        assert_eq!(clock(3723.0), "1:02:03");
        assert_eq!(clock(f64::NAN), "0:00");
    }

    #[test]
    fn description_reads_well() {
        let snapshot = Snapshot {
            files_done: 3,
            files_total: 12,
            audio_s: 4_320.0,
            wall_s: 10.0,
            speed: 432.0,
            time_left_s: Some(83.0),
        };
        assert_eq!(describe(&snapshot), "3/12 files, 1:12:00 of audio, 432 x real time, 1:23 left");
    }
}
