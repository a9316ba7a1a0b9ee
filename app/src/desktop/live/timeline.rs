//! The set so far: what was said, and for how long.
//!
//! ```text
//! tags records (once per second) -> a row per thing said, of spans -> drawn to scale, longest rows first
//! gap records ---------------------> absent everywhere
//! ```

use std::ops::Range;

use earmark_core::live::{GapRecord, HeardWord, TagsRecord};
use eframe::egui::{self, Align2, Rect, Sense, Ui, pos2, vec2};

use crate::desktop::taggram::{Picture, clock, times};
use crate::desktop::theme;

/// Records further apart than this do not join, in seconds: a record comes each second.
const JOINS_SECS: f64 = 2.0;

/// The time shown at the begin of a set, in seconds.
const LEAST_SECS: f64 = 120.0;

/// Height of a row, width of the names, height of the times.
const ROW: f32 = 18.0;
const NAMES: f32 = 118.0;
const TIMES: f32 = 18.0;

/// A stretch of time, with the sum of confidences and their number.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    start_s: f64,
    end_s: f64,
    sum: f32,
    count: u32,
}

/// Something that was said.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    name: String,
    spans: Vec<Span>,
    secs: f64,
}

/// The set so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    rows: Vec<Row>,
    /// Where there was music.
    music: Vec<Span>,
    /// Where sound is missing.
    gaps: Vec<Range<f64>>,
    last_s: Option<f64>,
    end_s: f64,
}

impl Timeline {
    /// What is heard now.
    pub fn tags(&mut self, record: &TagsRecord) {
        let end_s = record.t;
        // A record speaks for the time since the one before.
        let start_s = self.last_s.filter(|last| end_s - last <= JOINS_SECS).unwrap_or((end_s - 1.0).max(0.0));
        self.last_s = Some(end_s);
        self.end_s = self.end_s.max(end_s);
        for now in &record.now {
            let row = match self.rows.iter().position(|row| row.name == now.line) {
                Some(row) => &mut self.rows[row],
                None => {
                    self.rows.push(Row { name: now.line.clone(), spans: Vec::new(), secs: 0.0 });
                    let last = self.rows.len() - 1;
                    &mut self.rows[last]
                }
            };
            extend(&mut row.spans, start_s, end_s, now.confidence);
            row.secs += end_s - start_s;
        }
        if record.heard == HeardWord::Music {
            extend(&mut self.music, start_s, end_s, 1.0);
        }
    }

    /// Sound is missing.
    pub fn gap(&mut self, gap: &GapRecord) {
        self.gaps.push(gap.start_s..gap.end_s);
        self.end_s = self.end_s.max(gap.end_s);
        if gap.end_s - gap.start_s > JOINS_SECS {
            self.last_s = None;
        }
    }

    /// Draws it until `end_s`; while it `is_away`, the time since the last sound is missing too.
    pub fn ui(&self, ui: &mut Ui, size: egui::Vec2, end_s: f64, is_away: bool) {
        let palette = theme::of(ui);
        let (whole, response) = ui.allocate_exact_size(size, Sense::hover());
        let plot = Rect::from_min_max(whole.min + vec2(NAMES, 0.0), whole.max - vec2(0.0, TIMES));
        let picture = Picture { plot, view: 0.0..self.end_s.max(end_s).max(LEAST_SECS) };
        let room = ((plot.height() / ROW) as usize).max(2) - 1;
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.sort_by(|a, b| b.secs.total_cmp(&a.secs));
        rows.truncate(room);
        let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        let said = if names.is_empty() { "nothing yet".to_owned() } else { names.join(", ") };
        let name = format!("Timeline of {}: {said}", clock(picture.view.end));
        response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, &name));

        let painter = ui.painter();
        if self.end_s == 0.0 {
            let text = "What was heard, and for how long, appears here";
            let font = egui::TextStyle::Body.resolve(ui.style());
            painter.text(whole.center(), Align2::CENTER_CENTER, text, font, palette.muted);
            return;
        }
        let font = theme::axis().resolve(ui.style());
        let name_at = |y: f32| pos2(plot.left() - theme::GAP, y);
        let band = |y: f32, height: f32, span: &Span| {
            let (left, right) = (picture.x(span.start_s), picture.x(span.end_s));
            Rect::from_min_max(pos2(left, y - height / 2.0), pos2(right.max(left + 2.0), y + height / 2.0))
        };
        let first = plot.top() + ROW / 2.0;
        painter.text(name_at(first), Align2::RIGHT_CENTER, "music", font.clone(), palette.muted);
        painter.hline(plot.x_range(), first, egui::Stroke::new(1.0, palette.line));
        for span in &self.music {
            painter.rect_filled(band(first, 4.0, span), 2.0, palette.muted);
        }
        for (index, row) in rows.iter().enumerate() {
            let y = first + (index + 1) as f32 * ROW;
            painter.text(name_at(y), Align2::RIGHT_CENTER, &row.name, font.clone(), palette.text);
            painter.hline(plot.x_range(), y, egui::Stroke::new(1.0, palette.line));
            for span in &row.spans {
                let mean = span.sum / span.count.max(1) as f32;
                painter.rect_filled(
                    band(y, 10.0, span),
                    3.0,
                    palette.accent.gamma_multiply(0.35 + 0.65 * mean.min(1.0)),
                );
            }
        }
        let open = is_away.then_some(self.end_s..end_s);
        for gap in self.gaps.iter().chain(open.iter().filter(|open| open.start > 0.0)) {
            let (left, right) = (picture.x(gap.start), picture.x(gap.end));
            let rect = Rect::from_min_max(pos2(left, plot.top()), pos2(right.max(left + 2.0), plot.bottom()));
            painter.rect_filled(rect, 0.0, palette.danger.gamma_multiply(0.45));
        }
        times(ui, &picture);
        let Some(at) = response.hover_pos() else { return };
        let secs = picture.secs(at.x);
        let index = (((at.y - plot.top()) / ROW) as usize).checked_sub(1);
        let text = self.hovered(secs, index.and_then(|index| rows.get(index)).copied());
        response.on_hover_text_at_pointer(text);
    }

    /// What there is to say about a moment.
    fn hovered(&self, secs: f64, row: Option<&Row>) -> String {
        if let Some(gap) = self.gaps.iter().find(|gap| gap.contains(&secs)) {
            return format!("{:.1} s of sound are missing here", gap.end - gap.start);
        }
        let span =
            row.and_then(|row| Some((row, row.spans.iter().find(|span| (span.start_s..span.end_s).contains(&secs))?)));
        match span {
            Some((row, span)) => {
                let mean = 100.0 * span.sum / span.count.max(1) as f32;
                format!("{} {mean:.0} %\n{} to {}", row.name, clock(span.start_s), clock(span.end_s))
            }
            None => clock(secs),
        }
    }
}

/// The last of `spans` reaches until now, or a new one begins.
fn extend(spans: &mut Vec<Span>, start_s: f64, end_s: f64, confidence: f32) {
    match spans.last_mut() {
        Some(last) if start_s - last.end_s < 0.01 => {
            (last.end_s, last.sum, last.count) = (end_s.max(last.end_s), last.sum + confidence, last.count + 1);
        }
        _ => spans.push(Span { start_s, end_s, sum: confidence, count: 1 }),
    }
}

#[cfg(test)]
mod tests {
    use earmark_core::live::{GapCause, NowRecord};

    use super::*;

    fn record(t: f64, now: &[&str]) -> TagsRecord {
        let now = now.iter().map(|line| NowRecord { line: (*line).to_owned(), confidence: 0.5 }).collect();
        TagsRecord {
            t,
            heard: HeardWord::Music,
            now,
            certain: Vec::new(),
            probabilities: Vec::new(),
            tonality: 0.0,
            level_db: 0.0,
        }
    }

    #[test]
    fn what_goes_on_is_one_span_and_a_gap_divides() {
        let mut timeline = Timeline::default();
        for t in 3..8 {
            timeline.tags(&record(f64::from(t), &["rock"]));
        }
        timeline.tags(&record(8.0, &["harp", "rock"]));
        timeline.gap(&GapRecord { start_s: 8.2, end_s: 11.0, cause: GapCause::Device });
        timeline.tags(&record(14.0, &["rock"]));
        let spans = |name: &str| -> Vec<(f64, f64)> {
            let row = timeline.rows.iter().find(|row| row.name == name).expect("a row");
            row.spans.iter().map(|span| (span.start_s, span.end_s)).collect()
        };
        assert_eq!(spans("rock"), [(2.0, 8.0), (13.0, 14.0)]);
        assert_eq!(spans("harp"), [(7.0, 8.0)]);
        assert!(timeline.hovered(9.0, None).contains("2.8 s of sound are missing"));
        let rock = &timeline.rows[0];
        assert!((rock.secs - 7.0).abs() < 1e-9 && rock.spans.len() == 2);
        assert!(timeline.hovered(4.0, Some(rock)).contains("rock 50 %"));
    }
}
