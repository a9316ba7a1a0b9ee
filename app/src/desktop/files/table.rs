//! The table of files. Only rows that are seen are made: ten thousand cost as much as thirty.

use eframe::egui::{self, Align, Id, Layout, RichText, Sense, Ui, vec2};
use egui_extras::{Column as Width, TableBuilder, TableRow};

use super::list::{self, Column, Order, Search};
use super::queue::{Entry, Queue, State};
use crate::desktop::theme;
use crate::inputs::shown;
use crate::progress::clock;

/// Height of a row, and of the heads of columns, in points.
const ROW: f32 = 32.0;
const HEAD: f32 = 28.0;

/// Columns that can be ordered by, with their heads.
const HEADS: [(Column, &str); 5] = [
    (Column::Name, "Name"),
    (Column::Folder, "Folder"),
    (Column::Heard, "Heard"),
    (Column::Length, "Length"),
    (Column::Confidence, "Confidence"),
];

/// Width of the page from which on there is room for the folder.
const WITH_FOLDER: f32 = 860.0;

/// The table, and which of its rows is selected.
#[derive(Default)]
pub struct Table {
    /// Number of the selected entry.
    selected: Option<usize>,
    /// A row to bring into view.
    reveal: Option<usize>,
    rows_seen: usize,
    /// Rows that are seen.
    ids: Vec<Id>,
    /// The selected row takes the keyboard, so that a screen reader says it.
    takes_focus: bool,
}

impl Table {
    /// Number of the selected entry.
    pub fn selected(&self) -> Option<usize> {
        self.selected
    }

    /// Rows that were seen at the last look.
    pub fn rows_seen(&self) -> usize {
        self.rows_seen
    }

    /// Whether `id` is a row's.
    pub fn is(&self, id: Id) -> bool {
        self.ids.contains(&id)
    }

    /// Moves the selection.
    pub fn step(&mut self, by: isize, rows: &[u32]) {
        let Some(last) = rows.len().checked_sub(1) else { return };
        let at = self.selected.and_then(|selected| rows.iter().position(|&row| row as usize == selected));
        let to = match at {
            Some(at) => at.saturating_add_signed(by).min(last),
            None if by == isize::MAX => last,
            None => 0,
        };
        self.selected = Some(rows[to] as usize);
        (self.reveal, self.takes_focus) = (Some(to), true);
    }

    /// Shows it, and returns the number of an entry that was clicked.
    pub fn ui(
        &mut self,
        ui: &mut Ui,
        queue: &Queue,
        rows: &[u32],
        search: &Search,
        order: &mut Order,
    ) -> Option<usize> {
        let mut clicked = None;
        self.ids.clear();
        self.rows_seen = ((ui.available_height() - HEAD) / ROW).max(1.0) as usize;
        let narrow = ui.available_width() < 620.0;
        let with_folder = ui.available_width() >= WITH_FOLDER;
        ui.spacing_mut().item_spacing = vec2(theme::GAP, 0.0);
        let mut table = TableBuilder::new(ui)
            .id_salt("files")
            .striped(false)
            // Rows have the keyboard, not every cell.
            .sense(Sense::CLICK)
            .cell_layout(Layout::left_to_right(Align::Center))
            .column(Width::remainder().at_least(120.0).clip(true))
            .auto_shrink([false, false]);
        if with_folder {
            table = table.column(Width::exact(150.0).clip(true));
        }
        table = table
            .column(Width::exact(if narrow { 180.0 } else { 320.0 }).clip(true))
            .column(Width::exact(64.0))
            .column(Width::exact(if narrow { 96.0 } else { 150.0 }));
        if let Some(row) = self.reveal.take() {
            table = table.scroll_to_row(row, None);
        }
        table
            .header(HEAD, |mut row| {
                for (column, name) in HEADS {
                    if column == Column::Folder && !with_folder {
                        continue;
                    }
                    row.col(|ui| {
                        if column == Column::Name {
                            ui.add_space(theme::GAP);
                        }
                        let shown = match column {
                            Column::Confidence => search.tag(queue.tags()).unwrap_or(name),
                            _ => name,
                        };
                        if head(ui, shown, name, column, *order) {
                            *order = order.clicked(column);
                        }
                    });
                }
            })
            .body(|body| {
                body.rows(ROW, rows.len(), |mut row| {
                    let index = rows[row.index()] as usize;
                    let entry = &queue.entries()[index];
                    let is_selected = self.selected == Some(index);
                    row.set_selected(is_selected);
                    let (response, focus) = show(&mut row, entry, queue, search, with_folder);
                    let label = spoken(entry, queue);
                    focus.widget_info(|| egui::WidgetInfo::selected(egui::Role::Row, true, is_selected, &label));
                    self.ids.push(focus.id);
                    if is_selected && std::mem::take(&mut self.takes_focus) {
                        focus.request_focus();
                    }
                    if focus.has_focus() {
                        // Else egui itself would move on at an arrow.
                        let filter = egui::EventFilter { vertical_arrows: true, ..egui::EventFilter::default() };
                        focus.ctx.memory_mut(|memory| memory.set_focus_lock_filter(focus.id, filter));
                    }
                    if focus.gained_focus() && !self.takes_focus {
                        self.selected = Some(index);
                    }
                    if response.clicked() {
                        self.selected = Some(index);
                        clicked = Some(index);
                    }
                });
            });
        clicked
    }
}

/// The head of a column; true if it was clicked.
fn head(ui: &mut Ui, shown: &str, name: &str, column: Column, order: Order) -> bool {
    let palette = theme::of(ui);
    let is_ordered = order.by == column;
    let arrow = match (is_ordered, order.reverse) {
        (false, _) => "",
        (true, false) => " ↑",
        (true, true) => " ↓",
    };
    let color = if is_ordered { palette.strong } else { palette.muted };
    let text = RichText::new(format!("{shown}{arrow}")).text_style(theme::caption()).color(color);
    let label = match (is_ordered, order.reverse) {
        (false, _) => format!("Order by {name}"),
        (true, false) => format!("Ordered by {name}, turn around"),
        (true, true) => format!("Ordered by {name} from the end, turn around"),
    };
    ui.add(egui::Button::new(text).frame(false)).accessible_name(label).clicked()
}

/// Shows a row: its response as a whole, and what of it can have the keyboard.
fn show(
    row: &mut TableRow<'_, '_>,
    entry: &Entry,
    queue: &Queue,
    search: &Search,
    with_folder: bool,
) -> (egui::Response, egui::Response) {
    let tags = queue.tags();
    let mut focus = None;
    row.col(|ui| {
        let palette = theme::of(ui);
        let sense = Sense::focusable_noninteractive();
        focus = Some(ui.interact(ui.max_rect(), ui.scope_id().with("row"), sense));
        let color = if entry.summary().is_some() { palette.strong } else { palette.muted };
        ui.add_space(theme::GAP);
        let name = egui::Label::new(RichText::new(&entry.name).color(color)).truncate().selectable(false);
        ui.add(name).on_hover_text(shown(&entry.input.path));
    });
    if with_folder {
        row.col(|ui| {
            let folder = entry.input.path.parent().and_then(std::path::Path::file_name).unwrap_or_default();
            let folder = RichText::new(shown(folder.as_ref())).color(theme::of(ui).muted);
            ui.add(egui::Label::new(folder).truncate().selectable(false));
        });
    }
    row.col(|ui| {
        let palette = theme::of(ui);
        let color = match entry.state {
            State::Done(_) => palette.text,
            State::Failed(_) => palette.danger,
            State::Running => palette.accent,
            State::Waiting | State::Stopped => palette.muted,
        };
        let line = list::line(entry, tags);
        let label = ui.add(egui::Label::new(RichText::new(&line).color(color)).truncate().selectable(false));
        if matches!(entry.state, State::Failed(_)) {
            label.on_hover_text(line);
        }
    });
    row.col(|ui| {
        if let Some(summary) = entry.summary() {
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                ui.add_space(theme::GAP);
                let length = RichText::new(clock(summary.duration_s)).color(theme::of(ui).text);
                ui.add(egui::Label::new(length).selectable(false));
            });
        }
    });
    row.col(|ui| {
        if let Some(confidence) = list::shown_confidence(entry, search, tags) {
            bar(ui, confidence);
        }
    });
    let response = row.response();
    let focus = focus.unwrap_or_else(|| response.clone());
    (response, focus)
}

/// A probability as a bar and in figures. The row's label says it too.
fn bar(ui: &mut Ui, share: f32) {
    let palette = theme::of(ui);
    let figures = 40.0;
    let width = (ui.available_width() - figures - theme::GAP).max(10.0);
    let (rect, _) = ui.allocate_exact_size(vec2(width, ROW), Sense::hover());
    let track = egui::Rect::from_center_size(rect.center(), vec2(rect.width(), theme::BAR));
    ui.painter().rect_filled(track, theme::BAR / 2.0, palette.line);
    let filled = track.with_max_x(track.left() + track.width() * share.clamp(0.0, 1.0));
    ui.painter().rect_filled(filled, theme::BAR / 2.0, palette.accent);
    let text = RichText::new(format!("{:.0} %", share * 100.0)).text_style(theme::small()).color(palette.muted);
    ui.add(egui::Label::new(text).selectable(false));
}

/// A row as a screen reader says it.
fn spoken(entry: &Entry, queue: &Queue) -> String {
    let line = list::line(entry, queue.tags());
    match entry.summary() {
        Some(summary) => format!("{}, {}, {line}", entry.name, clock(summary.duration_s)),
        None => format!("{}, {line}", entry.name),
    }
}
