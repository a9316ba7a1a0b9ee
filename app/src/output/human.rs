//! To read: what was heard with bars, a line over time for each, and the places of what sounds in a part.

use std::env;
use std::io::{self, IsTerminal, Write};

use earmark_core::tags::{Heard, Segment, top};

use super::{Report, Run};
use crate::inputs::shown;
use crate::progress::clock;
use crate::tagging::TaggedFile;

/// What the place where the text is read can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Colours and weights.
    pub colour: bool,
    /// Block characters.
    pub unicode: bool,
    /// Characters per line.
    pub columns: usize,
}

/// Width where there is no terminal to ask.
const DEFAULT_COLUMNS: usize = 80;

impl Style {
    /// For plain text in a file or a pipe, or for the terminal that the standard output is.
    pub fn detect(to_stdout: bool) -> Self {
        let var = |name: &str| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let terminal = to_stdout && io::stdout().is_terminal();
        let columns = terminal.then(|| terminal_size::terminal_size_of(io::stdout())).flatten();
        Self {
            colour: terminal && colour_is_welcome(var),
            unicode: is_utf8(var),
            columns: columns.map_or(DEFAULT_COLUMNS, |(width, _)| usize::from(width.0)),
        }
    }
}

/// <https://no-color.org>, and terminals that say they are dumb.
fn colour_is_welcome(var: impl Fn(&str) -> Option<String>) -> bool {
    var("NO_COLOR").is_none_or(|value| value.is_empty()) && var("TERM").is_none_or(|term| term != "dumb")
}

/// Whether the locale's characters are UTF-8: the first of the three variables that is set decides, as in POSIX.
fn is_utf8(var: impl Fn(&str) -> Option<String>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(var).find(|value| !value.is_empty());
    match locale {
        Some(locale) => {
            let locale = locale.to_ascii_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        }
        None => cfg!(any(windows, target_os = "macos")),
    }
}

/// Steps of a line over time, from nothing to everything.
const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII_STEPS: [char; 8] = ['_', '.', ':', '-', '=', '+', '*', '#'];

/// A bar's last cell by eighths, from none.
const EIGHTHS: [Option<char>; 8] = [None, Some('▏'), Some('▎'), Some('▍'), Some('▌'), Some('▋'), Some('▊'), Some('▉')];

/// A taggram is scaled to the highest confidence in its file, but never blown up more than this.
const MIN_FULL_SCALE: f32 = 0.1;

/// What sounds in more of a file than this needs no places.
const NEARLY_EVERYWHERE: f64 = 0.9;

/// Longest tag name for which space is kept.
const MAX_NAME_COLUMNS: usize = 20;

/// A taggram shorter than this says nothing; one longer is no easier to read.
const TAGGRAM_COLUMNS: std::ops::RangeInclusive<usize> = 8..=64;

/// Text for a person.
pub struct Human<'a> {
    run: Run<'a>,
    style: Style,
    name_columns: usize,
    bar_columns: usize,
    taggram_columns: usize,
    any: bool,
}

impl<'a> Human<'a> {
    pub fn new(run: Run<'a>, style: Style) -> Self {
        let names = run.vocabulary.names().iter().chain(run.groups.iter().map(|group| &group.name));
        let longest = names.map(|name| name.chars().count()).max().unwrap_or(0);
        let name_columns = longest.min(MAX_NAME_COLUMNS);
        let bar_columns = if style.columns < 70 { 10 } else { 20 };
        // Indent, name, bar, percentage and the spaces between them.
        let used = 2 + name_columns + 1 + bar_columns + 1 + 4 + 2;
        let left = style.columns.saturating_sub(used).min(*TAGGRAM_COLUMNS.end());
        let taggram_columns = if TAGGRAM_COLUMNS.contains(&left) { left } else { 0 };
        Self { run, style, name_columns, bar_columns, taggram_columns, any: false }
    }

    /// `text` between escape codes, if colours are on.
    fn paint(&self, code: &str, text: &str) -> String {
        if self.style.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bar(&self, confidence: f32) -> String {
        let eighths = (confidence.clamp(0.0, 1.0) * (self.bar_columns * 8) as f32).round() as usize;
        let mut bar = if self.style.unicode {
            let mut bar = "█".repeat(eighths / 8);
            bar.extend(EIGHTHS[eighths % 8]);
            bar
        } else {
            "#".repeat((eighths + 4) / 8)
        };
        bar.extend(std::iter::repeat_n(' ', self.bar_columns - bar.chars().count()));
        bar
    }

    /// Tags that name one thing, over time: the most probable one in each place.
    fn over_time(&self, file: &TaggedFile, tags: &[usize]) -> Vec<f32> {
        let mut highest = vec![0.0_f32; self.taggram_columns];
        for &tag in tags {
            let tag = file.taggram.downsampled(tag, self.taggram_columns);
            highest.iter_mut().zip(tag).for_each(|(highest, p)| *highest = highest.max(p));
        }
        highest
    }

    fn rows(&self, out: &mut dyn Write, file: &TaggedFile, rows: &[Row<'_>], certain: bool) -> io::Result<()> {
        let over_time: Vec<Vec<f32>> = rows.iter().map(|row| self.over_time(file, row.tags)).collect();
        let full_scale = over_time.iter().flatten().copied().fold(MIN_FULL_SCALE, f32::max);
        let steps = if self.style.unicode { STEPS } else { ASCII_STEPS };
        for (Row { name, confidence, .. }, over_time) in rows.iter().zip(over_time) {
            let name = format!("{name:<width$}", width = self.name_columns);
            let bar = self.bar(*confidence);
            let percent = format!("{:>3.0}%", confidence * 100.0);
            let line: String = over_time.iter().map(|p| steps[((p / full_scale * 8.0) as usize).min(7)]).collect();
            let row = if certain {
                format!("{name} {} {percent}  {}", self.paint("36", &bar), self.paint("32", &line))
            } else {
                self.paint("2", &format!("{name} {bar} {percent}  {line}"))
            };
            writeln!(out, "  {}", row.trim_end())?;
        }
        Ok(())
    }

    /// Where the things sound that do not sound nearly everywhere.
    fn places(&self, out: &mut dyn Write, file: &TaggedFile, heard: &[Heard]) -> io::Result<()> {
        let length = |segments: &[Segment]| segments.iter().map(|s| s.end_s - s.start_s).sum::<f64>();
        let in_part = |heard: &&Heard| {
            !heard.segments.is_empty() && length(&heard.segments) < NEARLY_EVERYWHERE * file.duration_s
        };
        let in_parts: Vec<&Heard> = heard.iter().filter(in_part).collect();
        if !in_parts.is_empty() {
            writeln!(out, "  in parts:")?;
        }
        for heard in in_parts {
            let name = &self.run.groups[heard.group].name;
            let name = format!("{name:<width$}", width = self.name_columns);
            let room = self.style.columns.saturating_sub(self.name_columns + 3).max(1);
            writeln!(out, "  {name} {}", self.paint("32", &places(&heard.segments, room)))?;
        }
        Ok(())
    }
}

/// One line of the bars.
struct Row<'a> {
    name: &'a str,
    confidence: f32,
    tags: &'a [usize],
}

/// Begin and end of each segment, as many as there is room for.
fn places(segments: &[Segment], room: usize) -> String {
    let mut text = String::new();
    for (index, segment) in segments.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let place = format!("{comma}{}-{}", clock(segment.start_s), clock(segment.end_s));
        let left = segments.len() - index;
        let more = if left > 1 { format!(" and {} more", left - 1).len() } else { 0 };
        if index > 0 && text.len() + place.len() + more > room {
            return format!("{text} and {left} more");
        }
        text += &place;
    }
    text
}

impl Report for Human<'_> {
    fn file_completed(&mut self, out: &mut dyn Write, _index: usize, file: &TaggedFile) -> io::Result<()> {
        if self.any {
            writeln!(out)?;
        }
        self.any = true;
        writeln!(out, "{}  {}", self.paint("1", &shown(&file.path)), self.paint("2", &duration(file.duration_s)))?;
        let Some(clip_probabilities) = &file.clip_probabilities else {
            return writeln!(out, "  silent: nothing is louder than -60 dB of full scale, so there are no tags");
        };
        let mut heard = self.run.verdict(file);
        heard.truncate(self.run.top_n);
        let rows: Vec<Row<'_>> = heard
            .iter()
            .filter(|heard| heard.whole_track)
            .map(|heard| {
                let group = &self.run.groups[heard.group];
                Row { name: &group.name, confidence: heard.confidence, tags: &group.tags }
            })
            .collect();
        if rows.is_empty() {
            let guesses = top(clip_probabilities, self.run.top_n, |_| 0.0);
            let tags: Vec<[usize; 1]> = guesses.iter().map(|guess| [guess.index]).collect();
            let rows: Vec<Row<'_>> = guesses
                .iter()
                .zip(&tags)
                .map(|(guess, tags)| Row { name: self.run.name(guess.index), confidence: guess.confidence, tags })
                .collect();
            writeln!(out, "  {}", self.paint("33", "no tag is certain for the whole; best guesses:"))?;
            self.rows(out, file, &rows, false)?;
        } else {
            self.rows(out, file, &rows, true)?;
        }
        self.places(out, file, &heard)
    }
}

/// A duration as on a clock, or in tenths of a second where a clock would stand still.
fn duration(secs: f64) -> String {
    if secs < 1.0 { format!("{secs:.1} s") } else { clock(secs) }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fixture, file, written};
    use super::*;

    const PLAIN: Style = Style { colour: false, unicode: true, columns: 50 };

    fn text(style: Style, windows: &[Option<[f32; 3]>]) -> String {
        let fixture = Fixture::new();
        written(&mut Human::new(fixture.run(), style), &[file("a.wav", windows)])
    }

    #[test]
    fn certain_tags_have_bars_and_a_line_over_time() {
        // 21 columns for two windows: ten and a half for each, 0.9 as the highest step and 0.7 one below.
        let line = "█".repeat(11) + &"▇".repeat(10);
        let expected = format!("a.wav  0:05\n  rock      ████████    80%  {line}\n");
        assert_eq!(text(PLAIN, &[Some([0.9, 0.1, 0.1]), Some([0.7, 0.2, 0.1])]), expected);
    }

    #[test]
    fn ascii_where_blocks_cannot_be_shown() {
        let shown = text(Style { unicode: false, ..PLAIN }, &[Some([0.9, 0.1, 0.1])]);
        assert!(shown.is_ascii() && shown.contains("  rock      #########   90%  ####"), "{shown}");
    }

    #[test]
    fn uncertainty_is_said_and_the_guesses_follow() {
        let shown = text(PLAIN, &[Some([0.4, 0.3, 0.1])]);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[1], "  no tag is certain for the whole; best guesses:");
        assert!(lines[2].starts_with("  rock ") && lines[3].starts_with("  no vocals "), "{shown}");
        let dim = text(Style { colour: true, ..PLAIN }, &[Some([0.4, 0.3, 0.1])]);
        assert!(dim.lines().nth(2).expect("a guess").contains("\u{1b}[2m"), "{dim}");
    }

    #[test]
    fn what_sounds_in_a_part_has_its_places() {
        let shown = text(PLAIN, &[Some([0.9, 0.1, 0.8]), Some([0.9, 0.9, 0.1]), Some([0.9, 0.1, 0.8])]);
        let lines: Vec<&str> = shown.lines().skip(1).map(str::trim_end).collect();
        assert!(lines[0].starts_with("  rock ") && lines[1].starts_with("  harp "), "{shown}");
        assert_eq!(lines[2..], ["  in parts:", "  harp      0:00-0:03, 0:05-0:08"], "{shown}");
    }

    #[test]
    fn places_that_do_not_fit_are_counted() {
        let segments: Vec<Segment> = (0..9)
            .map(|index| f64::from(index) * 60.0)
            .map(|start_s| Segment { start_s, end_s: start_s + 5.0, confidence: 0.5 })
            .collect();
        assert_eq!(places(&segments[..2], 20), "0:00-0:05, 1:00-1:05");
        assert_eq!(places(&segments, 40), "0:00-0:05, 1:00-1:05 and 7 more");
        assert_eq!(places(&segments, 1), "0:00-0:05 and 8 more");
    }

    #[test]
    fn files_are_a_line_apart() {
        let fixture = Fixture::new();
        let mut short = file("b.wav", &[None]);
        short.duration_s = 0.12;
        let text = written(&mut Human::new(fixture.run(), PLAIN), &[file("a.wav", &[None]), short]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines[0], lines[2], lines[3]), ("a.wav  0:03", "", "b.wav  0.1 s"));
    }

    #[test]
    fn silence_is_said() {
        assert_eq!(
            text(PLAIN, &[None]),
            "a.wav  0:03\n  silent: nothing is louder than -60 dB of full scale, so there are no tags\n"
        );
    }

    #[test]
    fn narrow_terminals_get_no_line_and_no_line_is_too_wide() {
        for columns in [1, 30, 40, 50, 80, 200, 500] {
            let shown = text(Style { columns, ..PLAIN }, &[Some([0.9, 0.8, 0.1])]);
            let widest = shown.lines().map(|line| line.chars().count()).max().expect("lines");
            assert!(widest <= columns.max(30), "{columns}: {shown}");
        }
    }

    #[test]
    fn colours_and_blocks_depend_on_the_environment() {
        let with = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        assert!(colour_is_welcome(with(&[])));
        assert!(colour_is_welcome(with(&[("NO_COLOR", "")])));
        assert!(!colour_is_welcome(with(&[("NO_COLOR", "1")])));
        assert!(!colour_is_welcome(with(&[("TERM", "dumb")])));
        assert!(is_utf8(with(&[("LANG", "de_DE.UTF-8")])));
        assert!(!is_utf8(with(&[("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")])));
        assert!(is_utf8(with(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8")])));
    }
}
