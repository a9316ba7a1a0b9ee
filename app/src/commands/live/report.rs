//! What `earmark live` writes: a line that follows the music, or events.

use std::io::{self, IsTerminal, Write};
use std::time::SystemTime;

use earmark_core::live::{Event, HeardWord, Live, LiveState, NowRecord, Record, SourceChoice, SourceState, TagsRecord};
use earmark_core::model_file::Model;
use earmark_core::tags::{Audible, Lines};
use serde_json::json;

use crate::args::LiveFormat;
use crate::console::Console;
use crate::output::{Style, write_event};
use crate::progress::clock;

/// Lines said at a time.
const MAX_LINES: usize = 5;

/// Writes in one format.
pub trait Report {
    /// Something happened.
    fn event(&mut self, event: &Event) -> io::Result<()>;

    /// Called once before the first state.
    fn state(&mut self, _live: &Live) -> io::Result<()> {
        Ok(())
    }

    /// A moment, ten times per second.
    fn draw(&mut self, _state: &LiveState) -> io::Result<()> {
        Ok(())
    }

    /// It is over.
    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The report in `format`, or in the one that suits the standard output.
pub fn report(
    format: Option<LiveFormat>,
    console: Console,
    model: &Model,
    device: &str,
    source: &SourceChoice,
) -> Box<dyn Report> {
    let terminal = io::stdout().is_terminal();
    let default = if terminal { LiveFormat::Human } else { LiveFormat::Ndjson };
    match format.unwrap_or(default) {
        LiveFormat::Ndjson => Box::new(Ndjson {
            started: Some(json!({
                "model": { "name": model.metadata.name, "licence": model.metadata.licence, "tags": model.metadata.tags },
                "device": device,
                "source": source.to_string(),
            })),
            console,
        }),
        LiveFormat::Human if terminal => {
            Box::new(Terminal { console, style: Style::detect(true), lines: None, is_drawn: false, was_gone: false })
        }
        LiveFormat::Human => Box::new(Log { console, last: String::new() }),
    }
}

/// One event per line: `live_started`, `source`, `tags` each second, `segment`, `gap`, `notice`, `live_completed`.
struct Ndjson {
    started: Option<serde_json::Value>,
    console: Console,
}

impl Report for Ndjson {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let now = SystemTime::now();
        if let Some(started) = self.started.take() {
            write_event(&mut out, Some(now), "live_started", started)?;
        }
        match event {
            Event::Record(record) => match &**record {
                // What it holds was said by the first event.
                Record::Header(_) => return Ok(()),
                Record::Tags(tags) => write_event(&mut out, Some(now), "tags", tags),
                Record::Segment(segment) => write_event(&mut out, Some(now), "segment", segment),
                Record::Gap(gap) => write_event(&mut out, Some(now), "gap", gap),
                Record::Source(source) => write_event(&mut out, Some(now), "source", source),
                Record::End(end) => write_event(&mut out, Some(now), "live_completed", end),
            },
            Event::Notice(text) | Event::Failure(text) => {
                self.console.error(text);
                let failed = matches!(event, Event::Failure(_));
                write_event(&mut out, Some(now), "notice", json!({ "message": text, "failed": failed }))
            }
        }?;
        out.flush()
    }
}

/// The words of a second.
fn words(heard: HeardWord, now: &[NowRecord]) -> String {
    match heard {
        HeardWord::Listening => "listening".to_owned(),
        HeardWord::Silence => "silence".to_owned(),
        HeardWord::NoMusic => "no music heard".to_owned(),
        HeardWord::Music if now.is_empty() => "music; no tag is certain".to_owned(),
        HeardWord::Music => {
            let lines: Vec<String> =
                now.iter().take(MAX_LINES).map(|now| format!("{} {:.0}%", now.line, now.confidence * 100.0)).collect();
            lines.join("  ")
        }
    }
}

/// Says what happens to the source and to the recording, in words.
fn note(console: &Console, event: &Event, was_gone: &mut bool) {
    let record = match event {
        Event::Record(record) => record,
        Event::Notice(text) | Event::Failure(text) => return console.error(text),
    };
    match &**record {
        Record::Source(source) => {
            let name = source.device.as_ref().map_or("the source", |device| device.name.as_str());
            match source.state.as_str() {
                "lost" | "denied" | "stalled" => {
                    *was_gone = true;
                    console.error(source.message.as_deref().unwrap_or(&source.state));
                }
                "rerouted" => console.error(format!("{}; now {name}", source.message.as_deref().unwrap_or_default())),
                "live" | "silent" if *was_gone => {
                    *was_gone = false;
                    console.error(format!("{name} is back"));
                }
                _ => {}
            }
        }
        Record::Gap(gap) => {
            let secs = gap.end_s - gap.start_s;
            console.note(format!("{secs:.1} s of sound missing at {}", clock(gap.start_s)));
        }
        Record::End(end) => {
            let lost = match end.gaps {
                0 => "nothing missing".to_owned(),
                1 => format!("{:.1} s missing in one gap", end.lost_s),
                gaps => format!("{:.1} s missing in {gaps} gaps", end.lost_s),
            };
            console.note(format!("{}; {} of sound heard, {lost}", end.reason, clock(end.received_s)));
        }
        Record::Header(_) | Record::Tags(_) | Record::Segment(_) => {}
    }
}

/// A line for every change of what is said, where nothing can be rewritten.
struct Log {
    console: Console,
    last: String,
}

impl Report for Log {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        note(&self.console, event, &mut false);
        let Event::Record(record) = event else { return Ok(()) };
        let Record::Tags(TagsRecord { t, heard, now, .. }) = &**record else { return Ok(()) };
        // Confidences move all the time; the words are what changes.
        let mut lines: Vec<&str> = now.iter().take(MAX_LINES).map(|now| now.line.as_str()).collect();
        lines.sort_unstable();
        let key = format!("{heard:?} {}", lines.join(","));
        if key == self.last {
            return Ok(());
        }
        self.last = key;
        let mut out = io::stdout().lock();
        writeln!(out, "{:>8}  {}", clock(*t), words(*heard, now))?;
        out.flush()
    }
}

/// One line, drawn again and again.
struct Terminal {
    console: Console,
    style: Style,
    lines: Option<Lines>,
    is_drawn: bool,
    was_gone: bool,
}

/// Steps of the level meter.
const METER: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII_METER: [char; 8] = ['_', '.', ':', '-', '=', '+', '*', '#'];

impl Terminal {
    fn clear(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_drawn) {
            let mut out = io::stdout().lock();
            write!(out, "\r\x1b[2K")?;
            out.flush()?;
        }
        Ok(())
    }

    /// The state as a line of at most `columns` characters.
    fn line(&self, state: &LiveState) -> String {
        let mut line = format!("{:>8}  {}  {}", clock(state.at_s), self.meter(state.level.peak), self.said(state));
        if state.num_gaps > 0 {
            line += &format!("  [{:.1} s missing]", state.lost_s);
        }
        if state.is_recording {
            line = format!("{} {line}", if self.style.unicode { "●" } else { "REC" });
        }
        line.chars().take(self.style.columns.saturating_sub(1)).collect()
    }

    /// A meter over 60 dB and the level in figures.
    fn meter(&self, peak: f32) -> String {
        let steps = if self.style.unicode { METER } else { ASCII_METER };
        let db = 20.0 * peak.max(1e-6).log10();
        let step = (((db + 60.0) / 60.0 * 8.0).floor() as i32).clamp(0, 7) as usize;
        let clipped = if peak >= 0.999 { " CLIP" } else { "" };
        format!("{} {:>4.0} dB{clipped}", steps[step], db.max(-99.0))
    }

    fn said(&self, state: &LiveState) -> String {
        match &state.source {
            SourceState::Live | SourceState::Silent { digital: false, .. } | SourceState::Rerouted { .. } => {}
            other => return other.message().unwrap_or_else(|| other.word().to_owned()),
        }
        let Some(lines) = &self.lines else { return String::new() };
        if state.heard != Audible::Music {
            return words(state.heard.into(), &[]);
        }
        let mut now: Vec<NowRecord> = lines
            .lines()
            .iter()
            .zip(&state.lines)
            .filter_map(|(line, state)| {
                Some(NowRecord { line: line.label(state.verdict)?.to_owned(), confidence: state.confidence })
            })
            .collect();
        now.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        words(HeardWord::Music, &now)
    }
}

impl Report for Terminal {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        let is_quiet = |record: &Record| matches!(record, Record::Header(_) | Record::Tags(_) | Record::Segment(_));
        if !matches!(event, Event::Record(record) if is_quiet(record)) {
            self.clear()?;
        }
        note(&self.console, event, &mut self.was_gone);
        Ok(())
    }

    fn state(&mut self, live: &Live) -> io::Result<()> {
        self.lines.get_or_insert_with(|| live.lines().clone());
        Ok(())
    }

    fn draw(&mut self, state: &LiveState) -> io::Result<()> {
        // The window may have been resized.
        self.style = Style::detect(true);
        let line = self.line(state);
        let mut out = io::stdout().lock();
        write!(out, "\r\x1b[2K{line}")?;
        self.is_drawn = true;
        out.flush()
    }

    fn end(&mut self) -> io::Result<()> {
        self.clear()
    }
}

#[cfg(test)]
mod tests {
    use earmark_core::live::Level;
    use earmark_core::tags::{LineState, TagVocabulary, Verdict};

    use super::*;

    fn terminal(columns: usize) -> Terminal {
        let names = ["rock", "vocal", "no vocals"].map(str::to_owned).to_vec();
        let vocabulary = TagVocabulary::new(names, vec![0.2; 3]).expect("valid");
        let style = Style { colour: false, unicode: true, columns };
        Terminal {
            console: Console::new(true),
            style,
            lines: Some(Lines::new(&vocabulary)),
            is_drawn: false,
            was_gone: false,
        }
    }

    fn music() -> LiveState {
        LiveState {
            at_s: 83.0,
            source: SourceState::Live,
            level: Level { peak: 0.25, ..Level::default() },
            heard: Audible::Music,
            lines: vec![
                LineState { verdict: Verdict::Yes, confidence: 0.5 },
                LineState { verdict: Verdict::No, confidence: 0.75 },
            ],
            ..LiveState::default()
        }
    }

    #[test]
    fn the_line_says_the_surest_first_and_fits() {
        assert_eq!(terminal(80).line(&music()), "    1:23  ▇  -12 dB  no vocals 75%  rock 50%");
        for columns in [1, 20, 40] {
            assert!(terminal(columns).line(&music()).chars().count() < columns.max(1));
        }
    }

    #[test]
    fn the_line_never_guesses() {
        let said = |state: LiveState| terminal(120).said(&state);
        assert_eq!(said(LiveState { heard: Audible::NoMusic, ..music() }), "no music heard");
        assert_eq!(said(LiveState { heard: Audible::Silence, ..music() }), "silence");
        assert_eq!(said(LiveState { lines: vec![LineState::default(); 2], ..music() }), "music; no tag is certain");
        let lost = SourceState::Lost { reason: "USB Audio is gone".to_owned() };
        assert_eq!(said(LiveState { source: lost, ..music() }), "USB Audio is gone");
        let muted = SourceState::Silent { secs: 4.0, digital: true };
        assert!(said(LiveState { source: muted, ..music() }).contains("muted"));
    }
}
