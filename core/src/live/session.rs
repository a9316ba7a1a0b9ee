//! The record of a set: one JSON object per line, written as it happens.
//!
//! ```text
//! {"type":"header", "format":"earmark-session", "version":1, "created":.., "model":{..}, ..}
//! {"type":"source", "t":0.3, "state":"live", "device":..}
//! {"type":"tags", "t":3.7, "heard":"music", "now":[{"line":"rock","confidence":.8}], "probabilities":[..], ..}   each second
//! {"type":"segment", "tag":"rock", "start_s":1.2, "end_s":63.8, "confidence":.74}           when it is over
//! {"type":"gap", "start_s":70.1, "end_s":71.3, "cause":"device"}
//! {"type":"end", "t":3600.2, "received_s":3599.0, "lost_s":1.2, "reason":"stopped"}
//! ```
//!
//! All times are seconds on one timeline, that of the recorded sound: it begins with the first sample, and gaps count. A file that
//! ends without its `end` line is what a crash left, complete to the last second; [`Session::read`] takes it as it is.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Device;
use crate::model_file::ModelMetadata;
use crate::tags::Audible;

/// What the first line calls itself.
pub const FORMAT: &str = "earmark-session";

/// Version of the lines this build writes and reads.
pub const VERSION: u32 = 1;

/// Longest line that is read, in bytes: a header with a thousand tags is far shorter.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// A line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Record {
    /// The first line.
    Header(Header),
    /// What is heard, once per second.
    Tags(TagsRecord),
    /// A tag sounded.
    Segment(SegmentRecord),
    /// Sound is missing.
    Gap(GapRecord),
    /// The source changed its state.
    Source(SourceRecord),
    /// The last line.
    End(EndRecord),
}

/// What is recorded, and by what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// When the recording began, RFC 3339.
    pub created: String,
    /// Program and version.
    pub program: String,
    /// The model that heard it.
    pub model: ModelIdentity,
    /// Device that it ran on.
    pub engine: String,
    /// Length of a window in seconds.
    pub window_s: f64,
    /// Distance between windows in seconds.
    pub hop_s: f64,
    /// Where the sound was recorded to, beside this file or absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio: Option<String>,
}

/// Which model it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// Its name.
    pub name: String,
    /// Hash of its file, BLAKE3 in hexadecimal.
    pub blake3: String,
    /// Licence of its weights.
    pub licence: String,
    /// Its tags, in the order of [`TagsRecord::probabilities`].
    pub tags: Vec<String>,
    /// Its thresholds, in the same order.
    pub thresholds: Vec<f32>,
}

impl ModelIdentity {
    /// The identity of a model whose file has this hash.
    pub fn new(metadata: &ModelMetadata, blake3: String) -> Self {
        Self {
            name: metadata.name.clone(),
            blake3,
            licence: metadata.licence.clone(),
            tags: metadata.tags.clone(),
            thresholds: metadata.thresholds.clone(),
        }
    }
}

/// [`Audible`] as a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeardWord {
    /// The first window is not full.
    Listening,
    /// Nothing to hear.
    Silence,
    /// Sound, but no music.
    NoMusic,
    /// Music.
    Music,
}

impl From<Audible> for HeardWord {
    fn from(heard: Audible) -> Self {
        match heard {
            Audible::Listening => Self::Listening,
            Audible::Silence => Self::Silence,
            Audible::NoMusic => Self::NoMusic,
            Audible::Music => Self::Music,
        }
    }
}

/// A line that holds at a moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NowRecord {
    /// What is said: a tag, or the name of a group of tags.
    pub line: String,
    /// Smoothed probability of its surest tag.
    pub confidence: f32,
}

/// A tag that is certain at a moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CertainRecord {
    /// The tag.
    pub tag: String,
    /// Since when.
    pub since_s: f64,
}

/// What is heard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TagsRecord {
    /// End of the last window that counts.
    pub t: f64,
    /// Whether there is music.
    pub heard: HeardWord,
    /// What is said, surest first: certain tags, those of one meaning as one.
    pub now: Vec<NowRecord>,
    /// The certain tags themselves, and since when.
    pub certain: Vec<CertainRecord>,
    /// Mean over the windows since the last such record, one per tag of the model; silent windows count as zeros.
    pub probabilities: Vec<f32>,
    /// Share of tonal energy.
    pub tonality: f32,
    /// Level in decibels of full scale.
    pub level_db: f32,
}

/// A stretch of time in which a tag sounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentRecord {
    /// The tag.
    pub tag: String,
    /// Begin.
    pub start_s: f64,
    /// End.
    pub end_s: f64,
    /// Mean probability.
    pub confidence: f32,
}

/// Why sound is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapCause {
    /// There was no device, or another was being opened.
    Device,
    /// Fewer frames came than time passed. Where in the four seconds before, is not known.
    Missing,
    /// This program did not keep up.
    Overrun,
}

/// Missing sound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GapRecord {
    /// Begin.
    pub start_s: f64,
    /// End.
    pub end_s: f64,
    /// Why.
    pub cause: GapCause,
}

/// A change of the source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// When.
    pub t: f64,
    /// Its state, as [`super::SourceState::word`] says it.
    pub state: String,
    /// The device in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
    /// What there is to say about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The end.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct EndRecord {
    /// When.
    pub t: f64,
    /// Seconds of sound received.
    pub received_s: f64,
    /// Seconds of sound missing.
    pub lost_s: f64,
    /// Number of gaps.
    pub gaps: u64,
    /// Windows heard.
    pub windows: u64,
    /// Why it ended.
    pub reason: String,
}

impl Record {
    /// The same on a timeline that begins at `begin`, with its counts from there: a recording that began while it was
    /// listened to has a time of its own, that of its sound.
    pub(super) fn since(mut self, begin: &EndRecord) -> Self {
        let earlier = |t: &mut f64| *t = rounded((*t - begin.t).max(0.0), 3);
        match &mut self {
            Self::Header(_) => {}
            Self::Tags(tags) => {
                earlier(&mut tags.t);
                tags.certain.iter_mut().for_each(|certain| earlier(&mut certain.since_s));
            }
            Self::Segment(SegmentRecord { start_s, end_s, .. }) | Self::Gap(GapRecord { start_s, end_s, .. }) => {
                earlier(start_s);
                earlier(end_s);
            }
            Self::Source(source) => earlier(&mut source.t),
            Self::End(end) => {
                earlier(&mut end.t);
                end.received_s = rounded(end.received_s - begin.received_s, 3);
                end.lost_s = rounded(end.lost_s - begin.lost_s, 3);
                (end.gaps, end.windows) = (end.gaps - begin.gaps, end.windows - begin.windows);
            }
        }
        self
    }
}

/// `value` with as many decimals as are written.
pub(super) fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10_f64.powi(decimals);
    (value * scale).round() / scale
}

/// Why a session file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The system does not give it.
    #[error("{path}: {source}; check that the file exists and that you may read it")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no session, or a damaged one.
    #[error("{path}, line {line}: {reason}")]
    Line {
        /// The file.
        path: String,
        /// Number of the line, from 1.
        line: u64,
        /// The rule that is broken, and the way out.
        reason: String,
    },
}

/// A recorded set.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// What is recorded.
    pub header: Header,
    /// What was heard, once per second.
    pub tags: Vec<TagsRecord>,
    /// Segments, in the order of their begins. Tags that sounded when a crash ended the file have theirs too.
    pub segments: Vec<SegmentRecord>,
    /// Gaps.
    pub gaps: Vec<GapRecord>,
    /// Changes of the source.
    pub sources: Vec<SourceRecord>,
    /// The end; `None` if the file has none, after a crash.
    pub end: Option<EndRecord>,
}

impl Session {
    /// Reads a session. Lines of unknown types are passed over, a last line that is cut off is left out.
    ///
    /// # Errors
    /// [`SessionError`], with the line.
    pub fn read(path: &Path) -> Result<Self, SessionError> {
        let name = path.display().to_string();
        let io = |source| SessionError::Io { path: name.clone(), source };
        let wrong = |line, reason: String| SessionError::Line { path: name.clone(), line, reason };
        let mut reader = BufReader::new(File::open(path).map_err(io)?);
        let mut session: Option<Self> = None;
        let mut text = Vec::new();
        for number in 1_u64.. {
            text.clear();
            std::io::Read::take(&mut reader, MAX_LINE_BYTES).read_until(b'\n', &mut text).map_err(io)?;
            let is_cut_off = text.last() != Some(&b'\n');
            if text.is_empty() {
                break;
            }
            if is_cut_off && text.len() as u64 == MAX_LINE_BYTES {
                return Err(wrong(
                    number,
                    format!("it is longer than {MAX_LINE_BYTES} bytes; this is no session file"),
                ));
            }
            let value: serde_json::Value = match serde_json::from_slice(&text) {
                Ok(value) => value,
                Err(_) if is_cut_off && session.is_some() => break,
                Err(error) => return Err(wrong(number, format!("{error}; this is no session file, or a damaged one"))),
            };
            let Some(session) = &mut session else {
                session = Some(Self::begin(value).map_err(|reason| wrong(number, reason))?);
                continue;
            };
            let kind = value["type"].as_str().unwrap_or_default();
            if !["tags", "segment", "gap", "source", "end"].contains(&kind) {
                continue;
            }
            let record = Record::deserialize(value).map_err(|error| wrong(number, error.to_string()))?;
            session.add(record).map_err(|reason| wrong(number, reason))?;
        }
        let mut session =
            session.ok_or_else(|| wrong(1, "the file is empty; nothing was recorded into it".to_owned()))?;
        session.close();
        Ok(session)
    }

    fn begin(value: serde_json::Value) -> Result<Self, String> {
        let no_session = "the first line is no session header; earmark live --record writes files that begin with one";
        if value["format"].as_str() != Some(FORMAT) {
            return Err(no_session.to_owned());
        }
        let version = value["version"].as_u64().unwrap_or(0);
        if version != u64::from(VERSION) {
            let hint = if version > u64::from(VERSION) { "update Earmark" } else { "record it again" };
            return Err(format!("version {version} where this build reads {VERSION}; {hint}"));
        }
        match Record::deserialize(value) {
            Ok(Record::Header(header)) => Ok(Self {
                header,
                tags: Vec::new(),
                segments: Vec::new(),
                gaps: Vec::new(),
                sources: Vec::new(),
                end: None,
            }),
            Ok(_) => Err(no_session.to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn add(&mut self, record: Record) -> Result<(), String> {
        match record {
            Record::Header(_) => {}
            Record::Tags(tags) => {
                let (found, known) = (tags.probabilities.len(), self.header.model.tags.len());
                if found != known {
                    return Err(format!("{found} probabilities for {known} tags"));
                }
                self.tags.push(tags);
            }
            Record::Segment(segment) => self.segments.push(segment),
            Record::Gap(gap) => self.gaps.push(gap),
            Record::Source(source) => self.sources.push(source),
            Record::End(end) => self.end = Some(end),
        }
        Ok(())
    }

    /// Ends what sounded when the file broke off, and sorts.
    fn close(&mut self) {
        if self.end.is_none()
            && let Some(last) = self.tags.last()
        {
            for CertainRecord { tag, since_s } in &last.certain {
                let index = self.header.model.tags.iter().position(|known| known == tag);
                let heard: Vec<f32> = index.map_or_else(Vec::new, |index| {
                    let since = self.tags.iter().filter(|tags| tags.t >= *since_s);
                    since.map(|tags| tags.probabilities[index]).collect()
                });
                let confidence = heard.iter().sum::<f32>() / heard.len().max(1) as f32;
                let (start_s, end_s) = (*since_s, last.t.max(*since_s));
                self.segments.push(SegmentRecord { tag: tag.clone(), start_s, end_s, confidence });
            }
        }
        self.segments.sort_by(|a, b| a.start_s.total_cmp(&b.start_s).then_with(|| a.tag.cmp(&b.tag)));
    }

    /// Duration of the timeline, in seconds.
    pub fn secs(&self) -> f64 {
        let last = self.tags.last().map_or(0.0, |tags| tags.t);
        self.end.as_ref().map_or(last, |end| end.t)
    }

    /// The set in chapters: stretches of at least `min_secs` in which mostly the same is heard, each with a title.
    ///
    /// The title of a second is what is said of it, at most two lines; a chapter has the title that most of its seconds
    /// have. Chapters that would be shorter join the one before.
    pub fn chapters(&self, min_secs: f64) -> Vec<Chapter> {
        let mut parts: Vec<Part> = Vec::new();
        let ends = self.tags.iter().skip(1).map(|next| next.t).chain([self.secs()]);
        for (tags, end_s) in self.tags.iter().zip(ends) {
            let title = title(tags);
            match parts.last_mut() {
                Some(last) if last.title() == title => last.add(&title, 1, end_s),
                last => {
                    let start_s = last.map_or(0.0, |last| last.end_s);
                    parts.push(Part { start_s, end_s, titles: vec![(title, 1)] });
                }
            }
            join_short(&mut parts, min_secs);
        }
        // The last one is over too.
        if parts.len() > 1 && parts.last().is_some_and(|last| last.secs() < min_secs) {
            join_last(&mut parts);
        }
        let chapter = |part: Part| Chapter { start_s: part.start_s, end_s: part.end_s, title: part.title().to_owned() };
        parts.into_iter().map(chapter).collect()
    }
}

/// A part of a set.
#[derive(Clone, Debug, PartialEq)]
pub struct Chapter {
    /// Begin.
    pub start_s: f64,
    /// End.
    pub end_s: f64,
    /// What is heard.
    pub title: String,
}

fn title(tags: &TagsRecord) -> String {
    match tags.heard {
        HeardWord::Listening | HeardWord::Silence => "silence".to_owned(),
        HeardWord::NoMusic => "no music".to_owned(),
        HeardWord::Music if tags.now.is_empty() => "music".to_owned(),
        HeardWord::Music => tags.now.iter().take(2).map(|now| now.line.as_str()).collect::<Vec<&str>>().join(", "),
    }
}

/// A chapter that is still being made.
struct Part {
    start_s: f64,
    end_s: f64,
    /// Titles with the number of seconds that have them, in the order in which they came.
    titles: Vec<(String, usize)>,
}

impl Part {
    fn secs(&self) -> f64 {
        self.end_s - self.start_s
    }

    /// The title that occurs most, of equal ones the first.
    fn title(&self) -> &str {
        let best = self.titles.iter().rev().max_by_key(|(_, count)| *count);
        best.map_or("", |(title, _)| title)
    }

    fn add(&mut self, title: &str, seconds: usize, end_s: f64) {
        self.end_s = end_s;
        match self.titles.iter_mut().find(|(known, _)| known == title) {
            Some((_, count)) => *count += seconds,
            None => self.titles.push((title.to_owned(), seconds)),
        }
    }
}

/// The last part becomes a part of the one before it.
fn join_last(parts: &mut Vec<Part>) {
    if let Some(last) = parts.pop()
        && let Some(before) = parts.last_mut()
    {
        last.titles.iter().for_each(|(title, seconds)| before.add(title, *seconds, last.end_s));
    }
}

/// The last part but one is over: if it is too short it joins the one before it, or, being the first, the last.
fn join_short(parts: &mut Vec<Part>, min_secs: f64) {
    let [.., over, _] = &parts[..] else { return };
    if over.secs() >= min_secs {
        return;
    }
    if parts.len() == 2 {
        return join_last(parts);
    }
    let newest = parts.pop();
    join_last(parts);
    parts.extend(newest);
    // What came between may have been all that kept two equal ones apart.
    if let [.., before, last] = &parts[..]
        && before.title() == last.title()
    {
        join_last(parts);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn header() -> Header {
        Header {
            format: FORMAT.to_owned(),
            version: VERSION,
            created: "2026-01-01T00:00:00Z".to_owned(),
            program: "earmark 0".to_owned(),
            model: ModelIdentity {
                name: "two".to_owned(),
                blake3: "00".to_owned(),
                licence: "CC0-1.0".to_owned(),
                tags: vec!["rock".to_owned(), "harp".to_owned()],
                thresholds: vec![0.5, 0.5],
            },
            engine: "cpu".to_owned(),
            window_s: 2.678,
            hop_s: 0.298,
            audio: None,
        }
    }

    fn tags(t: f64, heard: HeardWord, now: &[&str]) -> TagsRecord {
        let now: Vec<NowRecord> =
            now.iter().map(|line| NowRecord { line: (*line).to_owned(), confidence: 0.8 }).collect();
        let certain = now.iter().map(|now| CertainRecord { tag: now.line.clone(), since_s: 2.0 }).collect();
        TagsRecord { t, heard, now, certain, probabilities: vec![0.75, 0.1], tonality: 0.2, level_db: -12.0 }
    }

    fn read(lines: &[String]) -> Result<Session, SessionError> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(lines.concat().as_bytes()).expect("written");
        Session::read(file.path())
    }

    fn line(record: &Record) -> String {
        serde_json::to_string(record).expect("JSON") + "\n"
    }

    #[test]
    fn what_a_crash_left_is_read_to_the_last_whole_line() {
        let mut lines = vec![line(&Record::Header(header()))];
        lines.extend((3..9).map(|t| line(&Record::Tags(tags(f64::from(t), HeardWord::Music, &["rock"])))));
        lines.push("{\"type\":\"later\",\"t\":9}\n".to_owned());
        lines.push("{\"type\":\"tags\",\"t\":10,\"hea".to_owned());
        let session = read(&lines).expect("readable");
        assert_eq!((session.tags.len(), session.end.clone(), session.secs()), (6, None, 8.0));
        // Rock sounded when it ended.
        let expected = SegmentRecord { tag: "rock".to_owned(), start_s: 2.0, end_s: 8.0, confidence: 0.75 };
        assert_eq!(session.segments, [expected]);
    }

    #[test]
    fn other_files_are_refused_with_the_line() {
        let message = |lines: &[&str]| {
            let lines: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
            read(&lines).expect_err("refused").to_string()
        };
        assert!(message(&[]).contains("empty"));
        assert!(message(&["tags, scores\n"]).contains("line 1"));
        assert!(message(&["{\"type\":\"gap\"}\n"]).contains("no session header"));
        assert!(message(&["{\"format\":\"earmark-session\",\"version\":9}\n"]).contains("update Earmark"));
        let header = line(&Record::Header(header()));
        assert!(message(&[&header, "{\"type\":\"tags\"\n", "{}\n"]).contains("line 2"));
        let mut short = tags(3.0, HeardWord::Music, &[]);
        short.probabilities.pop();
        assert!(message(&[&header, &line(&Record::Tags(short))]).contains("1 probabilities for 2 tags"));
        assert!(Session::read(Path::new("absent.jsonl")).expect_err("refused").to_string().contains("absent.jsonl"));
    }

    fn chapters(seconds: &[(usize, HeardWord, &[&str])], min_secs: f64) -> Vec<(f64, f64, String)> {
        let mut session = Session {
            header: header(),
            tags: Vec::new(),
            segments: Vec::new(),
            gaps: Vec::new(),
            sources: Vec::new(),
            end: None,
        };
        for &(count, heard, now) in seconds {
            for _ in 0..count {
                session.tags.push(tags(session.tags.len() as f64 + 1.0, heard, now));
            }
        }
        session.chapters(min_secs).into_iter().map(|c| (c.start_s, c.end_s, c.title)).collect()
    }

    #[test]
    fn chapters_follow_what_is_heard_and_short_ones_join() {
        use HeardWord::{Music, NoMusic};
        let found = chapters(
            &[
                (30, Music, &["rock", "guitar", "loud"]),
                (3, Music, &["metal"]),
                (30, Music, &["rock", "guitar"]),
                (20, NoMusic, &[]),
                (40, Music, &["harp"]),
            ],
            15.0,
        );
        let expected = [(0.0, 64.0, "rock, guitar"), (64.0, 84.0, "no music"), (84.0, 123.0, "harp")];
        assert_eq!(found.len(), 3, "{found:?}");
        for ((start, end, title), expected) in found.iter().zip(expected) {
            assert_eq!((*start, *end, title.as_str()), expected);
        }
        assert_eq!(chapters(&[(3, NoMusic, &[]), (4, Music, &["harp"])], 15.0).len(), 1);
        assert_eq!(chapters(&[], 15.0), []);
    }

    #[test]
    fn chapters_lie_end_to_end_and_are_long_enough() {
        use HeardWord::Music;
        // Alternating by the second, then in blocks.
        let names = ["a", "b", "c"];
        for block in [1_usize, 4, 20] {
            let seconds: Vec<(usize, HeardWord, &[&str])> =
                (0..30).map(|index| (block, Music, &names[index % 3..=index % 3])).collect();
            let found = chapters(&seconds, 15.0);
            assert!(found[0].0.abs() < 1e-9 && (found.last().expect("some").1 - (30 * block) as f64).abs() < 1e-9);
            for pair in found.windows(2) {
                assert!((pair[0].1 - pair[1].0).abs() < 1e-9 && pair[0].1 - pair[0].0 >= 15.0, "{found:?}");
            }
        }
    }
}
