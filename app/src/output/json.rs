//! One JSON object for a run, or one event per line.

use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::{CONFIDENCE_DECIMALS, Report, Run, Summary, TIME_DECIMALS, rounded};
use crate::progress::Snapshot;
use crate::tagging::TaggedFile;
use earmark_core::tags::TagConfidence;
use earmark_core::{SAMPLE_RATE_HZ, WINDOW_SAMPLES};

/// Version of both forms; the first number changes when a reader has to.
pub const SPEC_VERSION: &str = "1.1";

#[derive(Serialize)]
struct ModelRecord<'a> {
    name: &'a str,
    licence: &'a str,
    window_s: f64,
    hop_s: f64,
    tags: Vec<ThresholdRecord<'a>>,
}

#[derive(Serialize)]
struct ThresholdRecord<'a> {
    tag: &'a str,
    /// `null` if no confidence is high enough.
    threshold: Option<f64>,
}

#[derive(Serialize)]
struct TagRecord<'a> {
    tag: &'a str,
    confidence: f64,
}

/// A thing that was heard: synonyms joined.
#[derive(Serialize)]
struct HeardRecord<'a> {
    name: &'a str,
    confidence: f64,
    whole_track: bool,
    /// The tags that name it.
    tags: Vec<&'a str>,
    segments: Vec<SegmentRecord>,
}

#[derive(Serialize)]
struct SegmentRecord {
    start_s: f64,
    end_s: f64,
    confidence: f64,
}

#[derive(Serialize)]
struct WindowRecord<'a> {
    start_s: f64,
    end_s: f64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    silent: bool,
    tags: Vec<TagRecord<'a>>,
}

#[derive(Serialize)]
struct FileRecord<'a> {
    file: String,
    duration_s: f64,
    silent: bool,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
    verdict: Vec<HeardRecord<'a>>,
    tags: Vec<TagRecord<'a>>,
    windows: Vec<WindowRecord<'a>>,
}

#[derive(Serialize)]
struct FailureRecord {
    file: String,
    error: String,
}

impl<'a> ModelRecord<'a> {
    fn new(run: &Run<'a>) -> Self {
        let tags = run.vocabulary.names().iter().zip(run.thresholds);
        Self {
            name: &run.model.name,
            licence: &run.model.licence,
            window_s: rounded(WINDOW_SAMPLES as f64 / f64::from(SAMPLE_RATE_HZ), TIME_DECIMALS),
            hop_s: rounded(run.hop.duration().as_secs_f64(), TIME_DECIMALS),
            tags: tags
                .map(|(tag, &threshold)| ThresholdRecord {
                    tag,
                    threshold: (threshold <= 1.0).then(|| rounded(f64::from(threshold), CONFIDENCE_DECIMALS)),
                })
                .collect(),
        }
    }
}

impl<'a> FileRecord<'a> {
    fn new(run: &'a Run<'_>, file: &'a TaggedFile) -> Self {
        let records = |tags: Vec<TagConfidence>| {
            tags.into_iter()
                .map(|tag| TagRecord {
                    tag: run.name(tag.index),
                    confidence: rounded(f64::from(tag.confidence), CONFIDENCE_DECIMALS),
                })
                .collect()
        };
        let windows = file.taggram.windows().map(|window| WindowRecord {
            start_s: rounded(window.start_s, TIME_DECIMALS),
            end_s: rounded(window.end_s.min(file.duration_s), TIME_DECIMALS),
            silent: window.silent,
            tags: if window.silent { Vec::new() } else { records(run.wanted(window.probabilities)) },
        });
        let confidence = |value: f32| rounded(f64::from(value), CONFIDENCE_DECIMALS);
        let heard = run.verdict(file).into_iter().take(run.top_n).map(|heard| HeardRecord {
            name: &run.groups[heard.group].name,
            confidence: confidence(heard.confidence),
            whole_track: heard.whole_track,
            tags: run.groups[heard.group].tags.iter().map(|&tag| run.name(tag)).collect(),
            segments: heard
                .segments
                .iter()
                .map(|segment| SegmentRecord {
                    start_s: rounded(segment.start_s, TIME_DECIMALS),
                    end_s: rounded(segment.end_s, TIME_DECIMALS),
                    confidence: confidence(segment.confidence),
                })
                .collect(),
        });
        Self {
            file: file.path.to_string_lossy().into_owned(),
            verdict: heard.collect(),
            duration_s: rounded(file.duration_s, TIME_DECIMALS),
            silent: file.clip_probabilities.is_none(),
            warnings: &file.warnings,
            tags: file.clip_probabilities.as_deref().map_or_else(Vec::new, |clip| records(run.wanted(clip))),
            windows: windows.collect(),
        }
    }
}

/// `{spec_version, model, files: [...], failed: [...]}`, one file per line, written as files are done: a run of any
/// length needs the memory of one file.
pub struct Json<'a> {
    run: Run<'a>,
    any: bool,
    failed: Vec<FailureRecord>,
}

impl<'a> Json<'a> {
    pub fn new(run: Run<'a>) -> Self {
        Self { run, any: false, failed: Vec::new() }
    }
}

impl Report for Json<'_> {
    fn start(&mut self, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "{{\"spec_version\":\"{SPEC_VERSION}\",\"model\":")?;
        serde_json::to_writer(&mut *out, &ModelRecord::new(&self.run))?;
        write!(out, ",\"files\":[")
    }

    fn file_completed(&mut self, out: &mut dyn Write, _index: usize, file: &TaggedFile) -> io::Result<()> {
        out.write_all(if self.any { b",\n" } else { b"\n" })?;
        self.any = true;
        Ok(serde_json::to_writer(out, &FileRecord::new(&self.run, file))?)
    }

    fn file_failed(&mut self, _: &mut dyn Write, _: Option<usize>, path: &Path, cause: &str) -> io::Result<()> {
        self.failed.push(FailureRecord { file: path.to_string_lossy().into_owned(), error: cause.to_owned() });
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn Write, _summary: &Summary) -> io::Result<()> {
        write!(out, "\n],\"failed\":")?;
        serde_json::to_writer(&mut *out, &self.failed)?;
        writeln!(out, "}}")
    }
}

#[derive(Serialize)]
struct Envelope<P> {
    spec_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    event: &'static str,
    payload: P,
}

#[derive(Serialize)]
struct PipelineStarted<'a> {
    model: ModelRecord<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
    files_total: usize,
}

#[derive(Serialize)]
struct FileStarted {
    index: usize,
    file: String,
}

#[derive(Serialize)]
struct FileCompleted<'a> {
    index: usize,
    #[serde(flatten)]
    file: FileRecord<'a>,
}

#[derive(Serialize)]
struct FileFailed {
    index: Option<usize>,
    #[serde(flatten)]
    failure: FailureRecord,
}

#[derive(Serialize)]
struct PipelineCompleted {
    files_completed: usize,
    files_failed: usize,
    interrupted: bool,
    #[serde(flatten)]
    snapshot: Option<Snapshot>,
}

/// One event per line. `file_completed` and `file_failed` keep the order of the input; `file_started` and `progress`
/// come when they happen. Without a clock there are only the results, and nothing that says when or how fast.
pub struct Ndjson<'a> {
    run: Run<'a>,
    now: Option<fn() -> SystemTime>,
}

impl<'a> Ndjson<'a> {
    /// Events are dated by `now`.
    pub fn new(run: Run<'a>, now: Option<fn() -> SystemTime>) -> Self {
        Self { run, now }
    }

    fn event(&self, out: &mut dyn Write, event: &'static str, payload: impl Serialize) -> io::Result<()> {
        write_event(out, self.now.map(|now| now()), event, payload)
    }
}

impl Report for Ndjson<'_> {
    fn start(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let run = &self.run;
        let device = self.now.map(|_| run.device);
        let payload = PipelineStarted { model: ModelRecord::new(run), device, files_total: run.num_files };
        self.event(out, "pipeline_started", payload)
    }

    fn file_started(&mut self, out: &mut dyn Write, index: usize, path: &Path) -> io::Result<()> {
        if self.now.is_none() {
            return Ok(());
        }
        self.event(out, "file_started", FileStarted { index, file: path.to_string_lossy().into_owned() })
    }

    fn progress(&mut self, out: &mut dyn Write, snapshot: &Snapshot) -> io::Result<()> {
        if self.now.is_none() { Ok(()) } else { self.event(out, "progress", snapshot) }
    }

    fn file_completed(&mut self, out: &mut dyn Write, index: usize, file: &TaggedFile) -> io::Result<()> {
        let payload = FileCompleted { index, file: FileRecord::new(&self.run, file) };
        self.event(out, "file_completed", payload)
    }

    fn file_failed(&mut self, out: &mut dyn Write, index: Option<usize>, path: &Path, cause: &str) -> io::Result<()> {
        let failure = FailureRecord { file: path.to_string_lossy().into_owned(), error: cause.to_owned() };
        self.event(out, "file_failed", FileFailed { index, failure })
    }

    fn finish(&mut self, out: &mut dyn Write, summary: &Summary) -> io::Result<()> {
        let &Summary { num_completed, num_failed, interrupted, snapshot } = summary;
        let snapshot = self.now.map(|_| snapshot);
        let payload =
            PipelineCompleted { files_completed: num_completed, files_failed: num_failed, interrupted, snapshot };
        self.event(out, "pipeline_completed", payload)
    }
}

/// One event as a line; without a moment it is not dated.
pub fn write_event(
    out: &mut dyn Write,
    now: Option<SystemTime>,
    event: &'static str,
    payload: impl Serialize,
) -> io::Result<()> {
    let event = Envelope { spec_version: SPEC_VERSION, timestamp: now.map(timestamp), event, payload };
    serde_json::to_writer(&mut *out, &event)?;
    out.write_all(b"\n")
}

/// A moment as RFC 3339 in UTC with milliseconds.
pub fn timestamp(moment: SystemTime) -> String {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, secs) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (secs / 3600, secs / 60 % 60, secs % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// Year, month and day of the Gregorian calendar, `days` after 1970-01-01.
///
/// Years are counted from March, so that the leap day is a year's last: every 400 years have 146,097 days, and month
/// `m` after March begins at day `(153 m + 2) / 5` of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_PER_ERA: u64 = 146_097;
    // Days since 0000-03-01.
    let days = days + 719_468;
    let (era, day) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    // Without the leap days of its 4, 100 and 400 years, an era is 365 days a year.
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    (era * 400 + year, month, day_of_month)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::super::testing::{Fixture, file, summary, written};
    use super::*;

    fn keys(value: &Value) -> Vec<&str> {
        value.as_object().expect("an object").keys().map(String::as_str).collect()
    }

    #[test]
    fn json_has_the_documented_shape() {
        let fixture = Fixture::new();
        let files = [file("a\u{1}.wav", &[Some([0.25, 0.5, 0.75]), None]), file("b.wav", &[None])];
        let mut report = Json::new(fixture.run());
        let text = written(&mut report, &files);
        let value: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(keys(&value), ["failed", "files", "model", "spec_version"]);
        assert_eq!(value["model"]["name"], "three");
        assert_eq!(value["model"]["hop_s"], 2.678);
        assert_eq!(
            value["files"][0],
            json!({
                "file": "a\u{1}.wav", "duration_s": 5.356, "silent": false,
                "verdict": [
                    {"name": "harp", "confidence": 0.75, "whole_track": true, "tags": ["harp"],
                        "segments": [{"start_s": 0.0, "end_s": 2.678, "confidence": 0.75}]},
                    {"name": "no vocals", "confidence": 0.5, "whole_track": true, "tags": ["no vocals"],
                        "segments": [{"start_s": 0.0, "end_s": 2.678, "confidence": 0.5}]},
                ],
                "tags": [{"tag": "harp", "confidence": 0.75}, {"tag": "no vocals", "confidence": 0.5}],
                "windows": [
                    {"start_s": 0.0, "end_s": 2.678, "tags":
                        [{"tag": "harp", "confidence": 0.75}, {"tag": "no vocals", "confidence": 0.5}]},
                    {"start_s": 2.678, "end_s": 5.356, "silent": true, "tags": []},
                ],
            })
        );
        assert_eq!(value["files"][1]["silent"], true);
        assert_eq!(value["files"][1]["tags"], json!([]));
    }

    #[test]
    fn json_of_nothing_or_of_failures_is_still_json() {
        let fixture = Fixture::new();
        let empty: Value = serde_json::from_str(&written(&mut Json::new(fixture.run()), &[])).expect("JSON");
        assert_eq!((&empty["files"], &empty["failed"]), (&json!([]), &json!([])));

        let mut report = Json::new(fixture.run());
        let mut out = Vec::new();
        report.start(&mut out).expect("written");
        report.file_failed(&mut out, Some(0), Path::new("x.mp3"), "is empty; copy it again").expect("written");
        report.finish(&mut out, &summary(0)).expect("written");
        let value: Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(value["failed"], json!([{"file": "x.mp3", "error": "is empty; copy it again"}]));
    }

    #[test]
    fn every_event_is_a_line_with_the_same_envelope() {
        let fixture = Fixture::new();
        let mut report = Ndjson::new(fixture.run(), Some(|| UNIX_EPOCH + Duration::from_millis(951_782_400_250)));
        let text = written(&mut report, &[file("a.wav", &[Some([0.25, 0.5, 0.75])])]);
        let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let names: Vec<_> = events.iter().map(|event| event["event"].as_str().expect("a name")).collect();
        assert_eq!(names, ["pipeline_started", "file_started", "file_completed", "pipeline_completed"]);
        for event in &events {
            assert_eq!(keys(event), ["event", "payload", "spec_version", "timestamp"]);
            assert_eq!(event["timestamp"], "2000-02-29T00:00:00.250Z");
        }
        assert_eq!(events[0]["payload"]["files_total"], 1);
        assert_eq!(events[2]["payload"]["index"], 0);
        assert_eq!(events[2]["payload"]["tags"][0]["tag"], "harp");
        assert_eq!(events[3]["payload"]["files_completed"], 1);
    }

    #[test]
    fn without_a_clock_there_are_results_alone() {
        let fixture = Fixture::new();
        let text = written(&mut Ndjson::new(fixture.run(), None), &[file("a.wav", &[Some([0.25, 0.5, 0.75])])]);
        let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let names: Vec<_> = events.iter().map(|event| event["event"].as_str().expect("a name")).collect();
        assert_eq!(names, ["pipeline_started", "file_completed", "pipeline_completed"]);
        assert_eq!(keys(&events[0]), ["event", "payload", "spec_version"]);
        assert_eq!(keys(&events[0]["payload"]), ["files_total", "model"]);
        assert_eq!(keys(&events[2]["payload"]), ["files_completed", "files_failed", "interrupted"]);
    }

    #[test]
    fn a_threshold_out_of_reach_is_null() {
        let fixture = Fixture::new();
        let run = Run { thresholds: &[0.5, f32::INFINITY, 0.5], only_certain: true, ..fixture.run() };
        let text = written(&mut Json::new(run), &[file("a.wav", &[Some([0.4, 0.9, 0.75])])]);
        let value: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["model"]["tags"][1], json!({"tag": "no vocals", "threshold": null}));
        let tags = json!([{"tag": "harp", "confidence": 0.75}]);
        assert_eq!((&value["files"][0]["tags"], &value["files"][0]["windows"][0]["tags"]), (&tags, &tags));
        assert_eq!(value["files"][0]["verdict"].as_array().expect("a list").len(), 1);
    }

    #[test]
    fn dates_are_gregorian() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(11_017), (2000, 3, 1));
        assert_eq!(civil(20_088), (2024, 12, 31));
        assert_eq!(civil(47_541), (2100, 3, 1));
        // Every day is followed by the next one.
        let mut before = civil(0);
        for days in 1..60_000 {
            let (year, month, day) = civil(days);
            let next = [(before.0, before.1, before.2 + 1), (before.0, before.1 + 1, 1), (before.0 + 1, 1, 1)];
            assert!(next.contains(&(year, month, day)), "{before:?} then {:?}", (year, month, day));
            before = (year, month, day);
        }
    }
}
