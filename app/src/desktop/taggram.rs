//! Tags by time, coloured by probability: musicnn's taggram, which scrolls while it is live.
//!
//! ```text
//! columns (one per window) -> values, a ring -> texture of [columns, tags], of which only new columns are sent
//!                                           `-> rows: the tags that matter, as two strips of the texture each
//! ```
//!
//! The texture is the ring: time goes on around it, and a strip that reaches over its seam is drawn as two pieces. So a
//! frame costs a few quads, whatever is shown.

use std::ops::Range;

use eframe::egui::{
    self, Align2, Color32, ColorImage, Mesh, Pos2, Rect, Response, Sense, Shape, TextureHandle, TextureOptions, Theme,
    Ui, pos2, vec2,
};

use super::theme::{self, Palette};

/// Widest texture that every renderer has.
const MAX_COLUMNS: usize = 2_048;

/// Height of a row with a readable label, in points.
const ROW: f32 = 19.0;

/// Space left of the picture for tags and below it for times.
const LABELS: f32 = 118.0;
const TIMES: f32 = 18.0;

/// How long a tag that was strong keeps its row, as a share that is left after a column.
const FADING: f32 = 0.985;

/// What a column says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Probabilities.
    Heard,
    /// Probabilities of what is no music: shown without colour, since nothing is said of it.
    NoMusic,
    /// Nothing was to be heard.
    Silent,
    /// Sound is missing.
    Missing,
}

/// Tags over time.
pub struct Taggram {
    tags: Vec<String>,
    /// Seconds per column.
    column_s: f64,
    /// `[capacity, num_tags]`, a ring.
    values: Vec<f32>,
    kinds: Vec<Column>,
    capacity: usize,
    /// Number of the next column since time zero; those before `first` have been overwritten or never were.
    next: u64,
    first: u64,
    /// Columns that the texture lacks.
    unsent: Range<u64>,
    texture: Option<(TextureHandle, Theme)>,
    /// How strong each tag was lately, and which have a row, in the order of the vocabulary.
    strengths: Vec<f32>,
    rows: Vec<usize>,
}

impl Taggram {
    /// An empty one that keeps at least `secs` seconds in columns of `column_s` seconds.
    pub fn live(tags: Vec<String>, column_s: f64, secs: f64) -> Self {
        let capacity = ((secs / column_s).ceil() as usize).clamp(1, MAX_COLUMNS);
        Self::new(tags, column_s, capacity)
    }

    /// That of a whole track: `probabilities` is `[num_windows, num_tags]`, zeros where a window is `silent`. Longer
    /// tracks than a texture can hold are drawn with the largest of neighbouring values.
    pub fn of_track(tags: Vec<String>, window_s: f64, probabilities: &[f32], silent: &[bool]) -> Self {
        let (num_tags, num_windows) = (tags.len(), silent.len());
        let per_column = num_windows.div_ceil(MAX_COLUMNS).max(1);
        let mut taggram = Self::new(tags, window_s * per_column as f64, num_windows.div_ceil(per_column).max(1));
        let mut column = vec![0.0_f32; num_tags];
        for (windows, silent) in probabilities.chunks(num_tags.max(1) * per_column).zip(silent.chunks(per_column)) {
            column.fill(0.0);
            for window in windows.chunks(num_tags.max(1)) {
                column.iter_mut().zip(window).for_each(|(most, &value)| *most = most.max(value));
            }
            let kind = if silent.iter().all(|&silent| silent) { Column::Silent } else { Column::Heard };
            taggram.push_column(&column, kind);
        }
        taggram
    }

    fn new(tags: Vec<String>, column_s: f64, capacity: usize) -> Self {
        let num_tags = tags.len();
        Self {
            values: vec![0.0; capacity * num_tags],
            kinds: vec![Column::Missing; capacity],
            strengths: vec![0.0; num_tags],
            tags,
            column_s,
            capacity,
            next: 0,
            first: 0,
            unsent: 0..0,
            texture: None,
            rows: Vec::new(),
        }
    }

    /// The window that ended at `end_s`; time in between without windows is missing.
    ///
    /// # Panics
    /// If there is not one probability per tag.
    pub fn push(&mut self, end_s: f64, probabilities: &[f32], kind: Column) {
        let number = (end_s / self.column_s).round().max(1.0) as u64 - 1;
        if self.next == 0 {
            (self.next, self.first, self.unsent) = (number, number, number..number);
        }
        if number > self.next {
            let from = self.next.max(number.saturating_sub(self.capacity as u64));
            self.first = self.first.max(number.saturating_sub(self.capacity as u64));
            (self.next, self.unsent.start) = (from, self.unsent.start.max(self.first));
            let empty = vec![0.0; self.tags.len()];
            for _ in from..number {
                self.push_column(&empty, Column::Missing);
            }
        }
        // Two windows in one column, after a source was opened anew: the later one stays.
        self.next = self.next.min(number).max(self.next.saturating_sub(1));
        self.unsent.start = self.unsent.start.min(self.next);
        self.push_column(probabilities, kind);
    }

    fn push_column(&mut self, probabilities: &[f32], kind: Column) {
        assert_eq!(probabilities.len(), self.tags.len(), "one probability per tag");
        let slot = (self.next % self.capacity as u64) as usize;
        let num_tags = self.tags.len();
        self.values[slot * num_tags..(slot + 1) * num_tags].copy_from_slice(probabilities);
        self.kinds[slot] = kind;
        for (strength, &value) in self.strengths.iter_mut().zip(probabilities) {
            *strength = (*strength * FADING).max(value);
        }
        self.next += 1;
        self.first = self.first.max(self.next.saturating_sub(self.capacity as u64));
        self.unsent = self.unsent.start.max(self.first)..self.next;
    }

    /// End of the last column, in seconds.
    pub fn end_s(&self) -> f64 {
        self.next as f64 * self.column_s
    }

    /// The tags that have a row when there is room for `room`: the strongest of late, in the order of the vocabulary.
    /// A tag keeps its row until another is clearly stronger.
    fn choose_rows(&mut self, room: usize) {
        let strength = |tag: usize, rows: &[usize]| self.strengths[tag] * if rows.contains(&tag) { 1.25 } else { 1.0 };
        let mut tags: Vec<usize> = (0..self.tags.len()).collect();
        tags.sort_by(|&a, &b| strength(b, &self.rows).total_cmp(&strength(a, &self.rows)).then(a.cmp(&b)));
        tags.truncate(room);
        tags.sort_unstable();
        self.rows = tags;
    }

    /// Sends what the texture lacks.
    fn send(&mut self, ctx: &egui::Context, theme: Theme) {
        let options = TextureOptions::NEAREST;
        let num_tags = self.tags.len().max(1);
        let palette = Palette::of_theme(theme);
        if self.texture.as_ref().is_none_or(|(_, sent)| *sent != theme) {
            let image = ColorImage::filled([self.capacity, num_tags], palette.absent);
            self.texture = Some((ctx.load_texture("taggram", image, options), theme));
            self.unsent = self.first..self.next;
        }
        let Some((texture, _)) = &mut self.texture else { return };
        let mut number = self.unsent.start;
        while number < self.unsent.end {
            // As far as the seam at once.
            let slot = (number % self.capacity as u64) as usize;
            let count = (self.unsent.end - number).min((self.capacity - slot) as u64) as usize;
            let mut image = ColorImage::filled([count, num_tags], palette.absent);
            for column in 0..count {
                if self.kinds[slot + column] == Column::Missing {
                    continue;
                }
                for tag in 0..self.tags.len() {
                    let value = self.values[(slot + column) * self.tags.len() + tag];
                    let is_said = self.kinds[slot + column] != Column::NoMusic;
                    image.pixels[tag * count + column] =
                        if is_said { palette.probability(value) } else { palette.unsaid(value) };
                }
            }
            texture.set_partial([slot, 0], image, options);
            number += count as u64;
        }
        self.unsent = self.next..self.next;
    }

    /// Draws the seconds `view` into a picture of this size, with tags at its left and times below. Its response is that of
    /// the picture alone, so that [`time_at`](Self::time_at) says which second was clicked.
    pub fn ui(&mut self, ui: &mut Ui, size: egui::Vec2, view: Range<f64>, describe: &str) -> (Response, Picture) {
        let palette = theme::of(ui);
        let theme = if ui.visuals().dark_mode { Theme::Dark } else { Theme::Light };
        let (whole, _) = ui.allocate_exact_size(size, Sense::hover());
        let plot = Rect::from_min_max(whole.min + vec2(LABELS, 0.0), whole.max - vec2(0.0, TIMES));
        self.choose_rows(((plot.height() / ROW) as usize).max(1));
        self.send(ui.ctx(), theme);
        let response = ui.interact(plot, ui.scope_id().with("taggram"), Sense::click_and_drag());
        response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, describe));
        let picture = Picture { plot, view };
        let painter = ui.painter();
        if self.first == self.next {
            let text = "Tags over time appear here";
            let font = egui::TextStyle::Body.resolve(ui.style());
            painter.text(plot.center(), Align2::CENTER_CENTER, text, font, palette.muted);
            return (response, picture);
        }
        let height = plot.height() / self.rows.len().max(1) as f32;
        if let Some((texture, _)) = &self.texture {
            let mut mesh = Mesh::with_texture(texture.id());
            for (row, &tag) in self.rows.iter().enumerate() {
                let top = plot.top() + row as f32 * height;
                self.strip(&mut mesh, &picture, top..(top + height - 1.0).max(top + 1.0), tag);
            }
            ui.painter_at(plot).add(Shape::mesh(mesh));
        }
        self.labels(ui, &picture, height);
        times(ui, &picture);
        self.hover(&response, &picture, height);
        (response, picture)
    }

    /// One tag's strip, in pieces that do not reach over the ring's seam.
    fn strip(&self, mesh: &mut Mesh, picture: &Picture, y: Range<f32>, tag: usize) {
        let capacity = self.capacity as u64;
        let row = tag as f32 / self.tags.len() as f32..(tag + 1) as f32 / self.tags.len() as f32;
        // The middle of the row, so that no neighbour bleeds in.
        let v = f32::midpoint(row.start, row.end);
        let mut number = self.first;
        while number < self.next {
            let slot = number % capacity;
            let count = (self.next - number).min(capacity - slot);
            let x = |number: u64| picture.x(number as f64 * self.column_s);
            let rect = Rect::from_min_max(pos2(x(number), y.start), pos2(x(number + count), y.end));
            let u = |slot: u64| slot as f32 / capacity as f32;
            let uv = Rect::from_min_max(pos2(u(slot), v), pos2(u(slot + count), v));
            mesh.add_rect_with_uv(rect, uv, Color32::WHITE);
            number += count;
        }
    }

    fn labels(&self, ui: &Ui, picture: &Picture, height: f32) {
        let palette = theme::of(ui);
        let font = theme::axis().resolve(ui.style());
        for (row, &tag) in self.rows.iter().enumerate() {
            let y = picture.plot.top() + (row as f32 + 0.5) * height;
            let color = if self.strengths[tag] >= 0.5 { palette.text } else { palette.muted };
            let at = pos2(picture.plot.left() - theme::GAP, y);
            ui.painter().text(at, Align2::RIGHT_CENTER, &self.tags[tag], font.clone(), color);
        }
    }

    fn hover(&self, response: &Response, picture: &Picture, height: f32) {
        let Some(at) = response.hover_pos() else { return };
        let row = ((at.y - picture.plot.top()) / height) as usize;
        let (Some(&tag), secs) = (self.rows.get(row), picture.secs(at.x)) else { return };
        let text = match self.value(secs, tag) {
            None => return,
            Some((Column::Missing, _)) => format!("{}\nsound is missing", clock(secs)),
            Some((Column::Silent, _)) => format!("{}\nsilence", clock(secs)),
            Some((Column::NoMusic, value)) => {
                format!("{}\nno music heard; the score of {} is {:.0} %", clock(secs), self.tags[tag], value * 100.0)
            }
            Some((Column::Heard, value)) => format!("{}  {:.0} %\n{}", self.tags[tag], value * 100.0, clock(secs)),
        };
        response.clone().on_hover_text_at_pointer(text);
    }

    /// What is known of `tag` at `secs`.
    fn value(&self, secs: f64, tag: usize) -> Option<(Column, f32)> {
        let number = (secs / self.column_s).floor();
        if number < self.first as f64 || number >= self.next as f64 {
            return None;
        }
        let slot = (number as u64 % self.capacity as u64) as usize;
        Some((self.kinds[slot], self.values[slot * self.tags.len() + tag]))
    }
}

/// Where a taggram was drawn, and which seconds.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The picture without labels.
    pub plot: Rect,
    /// From its left edge to its right.
    pub view: Range<f64>,
}

impl Picture {
    /// Where a second lies.
    pub fn x(&self, secs: f64) -> f32 {
        let share = (secs - self.view.start) / (self.view.end - self.view.start).max(1e-9);
        self.plot.left() + (share * f64::from(self.plot.width())) as f32
    }

    /// The second at a place.
    pub fn secs(&self, x: f32) -> f64 {
        let share = f64::from((x - self.plot.left()) / self.plot.width().max(1e-9));
        self.view.start + share * (self.view.end - self.view.start)
    }
}

/// Distances between times at the edge, in seconds.
const TICKS: [f64; 11] = [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0];

/// Times below a picture.
pub fn times(ui: &Ui, picture: &Picture) {
    let palette = theme::of(ui);
    let font = theme::axis().resolve(ui.style());
    let span = picture.view.end - picture.view.start;
    let room = f64::from(picture.plot.width() / 72.0).max(1.0);
    let tick = TICKS.into_iter().find(|tick| span / tick <= room).unwrap_or(3_600.0);
    let mut number = (picture.view.start.max(0.0) / tick).ceil();
    while number * tick <= picture.view.end {
        let at = pos2(picture.x(number * tick), picture.plot.bottom() + theme::SMALL);
        // Text that would reach over the edge is left out.
        if at.x > picture.plot.left() - 1.0 && at.x < picture.plot.right() - 12.0 {
            ui.painter().text(
                Pos2::new(at.x, at.y),
                Align2::CENTER_TOP,
                clock(number * tick),
                font.clone(),
                palette.muted,
            );
        }
        number += 1.0;
    }
}

/// Minutes and seconds, with hours where there are any.
pub fn clock(secs: f64) -> String {
    crate::progress::clock(secs.max(0.0).floor())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(count: usize) -> Vec<String> {
        (0..count).map(|tag| format!("tag {tag}")).collect()
    }

    #[test]
    fn time_goes_around_the_ring() {
        let mut taggram = Taggram::live(tags(2), 0.5, 4.0);
        for window in 1..=20 {
            taggram.push(f64::from(window) * 0.5, &[window as f32 / 20.0, 0.0], Column::Heard);
        }
        assert!((taggram.end_s() - 10.0).abs() < 1e-9);
        assert_eq!(taggram.value(9.75, 0), Some((Column::Heard, 1.0)));
        assert_eq!(taggram.value(6.25, 0), Some((Column::Heard, 13.0 / 20.0)));
        assert_eq!((taggram.value(5.9, 0), taggram.value(10.1, 0)), (None, None));
    }

    #[test]
    fn a_gap_is_missing_and_an_overlap_keeps_the_later_window() {
        let mut taggram = Taggram::live(tags(1), 1.0, 10.0);
        taggram.push(3.0, &[0.5], Column::Heard);
        taggram.push(6.2, &[0.6], Column::Heard);
        assert_eq!(taggram.value(1.5, 0), None);
        assert_eq!(taggram.value(2.5, 0), Some((Column::Heard, 0.5)));
        assert_eq!(taggram.value(4.5, 0), Some((Column::Missing, 0.0)));
        assert_eq!(taggram.value(5.5, 0), Some((Column::Heard, 0.6)));
        taggram.push(6.4, &[0.7], Column::Silent);
        assert_eq!(taggram.value(5.5, 0), Some((Column::Silent, 0.7)));
        assert!((taggram.end_s() - 6.0).abs() < 1e-9);
        // Longer than what is kept.
        taggram.push(100.0, &[0.8], Column::Heard);
        assert_eq!(taggram.value(99.5, 0), Some((Column::Heard, 0.8)));
        assert_eq!(taggram.value(92.5, 0), Some((Column::Missing, 0.0)));
        assert_eq!(taggram.value(5.5, 0), None);
    }

    #[test]
    fn a_track_longer_than_a_texture_keeps_its_peaks() {
        let windows = MAX_COLUMNS * 2 + 10;
        let mut values = vec![0.1; windows];
        values[1_000] = 0.9;
        let taggram = Taggram::of_track(tags(1), 0.3, &values, &vec![false; windows]);
        assert!(taggram.capacity <= MAX_COLUMNS);
        assert_eq!(taggram.value(1_000.5 * 0.3, 0), Some((Column::Heard, 0.9)));
        assert!((taggram.end_s() - windows as f64 * 0.3).abs() < 3.0 * 0.3);
    }

    #[test]
    fn the_strongest_have_rows_and_keep_them() {
        let mut taggram = Taggram::live(tags(3), 1.0, 10.0);
        taggram.push(1.0, &[0.5, 0.1, 0.4], Column::Heard);
        taggram.choose_rows(2);
        assert_eq!(taggram.rows, [0, 2]);
        taggram.push(2.0, &[0.0, 0.45, 0.0], Column::Heard);
        taggram.choose_rows(2);
        assert_eq!(taggram.rows, [0, 2], "not clearly stronger");
        taggram.push(3.0, &[0.0, 0.9, 0.0], Column::Heard);
        taggram.choose_rows(2);
        assert_eq!(taggram.rows, [0, 1]);
    }
}
