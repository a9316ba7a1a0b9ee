//! An opened track: what was heard, over time, and where it is being played.
//!
//! ```text
//! result from the journal -> one column of the taggram per hop -> picture, playhead, clicks -> Wish
//!                            verdict -> chips; a click goes to where a thing first sounds
//! ```

use std::path::PathBuf;

use earmark_core::live::{Phase, PlayerState};
use earmark_core::tags::Heard;
use eframe::egui::{self, Align, Layout, RichText, Ui, vec2};

use super::queue::{Queue, TagSet};
use crate::desktop::taggram::Taggram;
use crate::desktop::theme;
use crate::inputs::shown;
use crate::progress::clock;
use crate::tagging::TaggedFile;
use earmark_core::WINDOW_SAMPLES;
use earmark_core::engine::Hop;

/// Height of the panel: at the start, least, and most as a share of the page.
const HEIGHT: f32 = 330.0;
const MIN_HEIGHT: f32 = 190.0;
const MAX_SHARE: f32 = 0.75;

/// What is asked of the player.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wish {
    /// Play, or wait.
    PlayOrPause,
    /// Go to a second.
    Seek(f64),
    /// Be as loud as this, 0 to 1.
    Volume(f32),
    /// Close the track.
    Close,
}

/// A thing that was heard, as a chip.
struct Chip {
    text: String,
    /// Where it first sounds, and all its places in words.
    first_s: Option<f64>,
    places: String,
    whole_track: bool,
}

/// The opened track.
pub struct Track {
    /// Number of its entry.
    pub index: usize,
    /// Its file.
    pub path: PathBuf,
    name: String,
    duration_s: f64,
    chips: Vec<Chip>,
    taggram: Taggram,
    warnings: Vec<String>,
}

impl Track {
    /// Reads the whole result of an entry; `None` if there is none.
    pub fn open(queue: &Queue, index: usize) -> Option<Self> {
        let entry = queue.entries().get(index)?;
        let summary = entry.summary()?;
        let file = queue.result(index)?;
        Some(Self {
            index,
            path: entry.input.path.clone(),
            name: entry.name.clone(),
            duration_s: summary.duration_s,
            chips: summary.heard.iter().map(|heard| Chip::new(heard, queue.tags())).collect(),
            taggram: taggram(&file, queue.tags(), queue.hop()),
            warnings: summary.warnings.clone(),
        })
    }

    /// Shows it as a panel at the bottom of the page.
    pub fn panel(&mut self, ui: &mut Ui, _queue: &Queue, state: Option<&PlayerState>) -> Option<Wish> {
        let palette = theme::of(ui);
        let frame = egui::Frame::new()
            .fill(palette.card)
            .corner_radius(theme::CARD_ROUND)
            .inner_margin(egui::Margin::same(theme::WIDE as i8));
        let most = (ui.available_height() * MAX_SHARE).max(MIN_HEIGHT);
        egui::Panel::bottom("track")
            .resizable(true)
            .default_size(HEIGHT.min(most))
            .size_range(MIN_HEIGHT..=most)
            .show_separator_line(false)
            .frame(frame)
            .show(ui, |ui| self.contents(ui, state))
            .inner
    }

    fn contents(&mut self, ui: &mut Ui, state: Option<&PlayerState>) -> Option<Wish> {
        let mut wish = self.controls(ui, state);
        if let Some(reason) = state.and_then(trouble) {
            ui.label(RichText::new(reason).text_style(theme::small()).color(theme::of(ui).warning));
        }
        for warning in &self.warnings {
            ui.label(RichText::new(warning).text_style(theme::small()).color(theme::of(ui).warning));
        }
        wish = self.show_chips(ui).or(wish);
        ui.add_space(theme::SMALL);
        self.picture(ui, state).or(wish)
    }

    fn controls(&self, ui: &mut Ui, state: Option<&PlayerState>) -> Option<Wish> {
        let palette = theme::of(ui);
        let is_playing = state.is_some_and(PlayerState::is_playing);
        let mut wish = None;
        ui.horizontal(|ui| {
            let name = if is_playing { "Pause" } else { "Play" };
            let button = egui::Button::new("").fill(palette.accent).min_size(vec2(theme::CONTROL, theme::CONTROL));
            let response = ui.add(button).on_hover_text(format!("{name} (space)")).accessible_name(name);
            sign(ui, response.rect, is_playing);
            if response.clicked() {
                wish = Some(Wish::PlayOrPause);
            }
            let position = state.map_or(0.0, |state| state.position_s).min(self.duration_s);
            let time = format!("{} / {}", clock(position.floor()), clock(self.duration_s));
            ui.label(RichText::new(time).color(palette.muted));
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let close = egui::Button::new("×").frame(false);
                if ui.add(close).on_hover_text("Close (Esc)").accessible_name("Close track").clicked() {
                    wish = Some(Wish::Close);
                }
                let mut volume = state.map_or(1.0, |state| state.volume);
                ui.spacing_mut().slider_width = 80.0;
                let slider = egui::Slider::new(&mut volume, 0.0..=1.0).show_value(false);
                if ui.add(slider).on_hover_text("Volume").accessible_name("Volume").changed() {
                    wish = Some(Wish::Volume(volume));
                }
                ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                    let name = RichText::new(&self.name).color(palette.strong);
                    ui.add(egui::Label::new(name).truncate()).on_hover_text(shown(&self.path));
                });
            });
        });
        wish
    }

    fn show_chips(&self, ui: &mut Ui) -> Option<Wish> {
        let palette = theme::of(ui);
        let mut wish = None;
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing = vec2(6.0, 6.0);
            ui.spacing_mut().button_padding = vec2(10.0, 3.0);
            ui.spacing_mut().interact_size.y = 26.0;
            if self.chips.is_empty() {
                ui.label(RichText::new("No tag is certain in this track.").color(palette.muted));
            }
            for chip in &self.chips {
                let (fill, color) =
                    if chip.whole_track { (palette.tint, palette.strong) } else { (palette.raised, palette.text) };
                let button = egui::Button::new(RichText::new(&chip.text).color(color)).fill(fill).corner_radius(13.0);
                let response = ui.add(button).on_hover_text(&chip.places);
                let response = response.accessible_name(format!("{}: {}", chip.text, chip.places));
                if response.clicked() {
                    wish = chip.first_s.map(Wish::Seek);
                }
            }
        });
        wish
    }

    fn picture(&mut self, ui: &mut Ui, state: Option<&PlayerState>) -> Option<Wish> {
        let palette = theme::of(ui);
        let size = ui.available_size().max(vec2(160.0, 60.0));
        let told = format!("Taggram of {}: tags by time; a click plays from there", self.name);
        let view = 0.0..self.duration_s.max(1e-3);
        let (response, picture) = self.taggram.ui(ui, size, view, &told);
        let position = state.map_or(0.0, |state| state.position_s).min(self.duration_s);
        let x = picture.x(position);
        let (top, bottom) = (picture.plot.top(), picture.plot.bottom());
        let painter = ui.painter_at(picture.plot.expand(6.0));
        // A dark edge, so that it is seen on every colour.
        painter.vline(x, top..=bottom, egui::Stroke::new(4.0, palette.ground.gamma_multiply(0.6)));
        painter.vline(x, top..=bottom, egui::Stroke::new(2.0, palette.strong));
        painter.circle_filled(egui::pos2(x, top), 4.0, palette.strong);
        let at = response.interact_pointer_pos()?;
        let is_asked = response.clicked() || response.dragged();
        is_asked.then(|| Wish::Seek(picture.secs(at.x).clamp(0.0, self.duration_s)))
    }
}

impl Chip {
    fn new(heard: &Heard, tags: &TagSet) -> Self {
        let name = &tags.groups[heard.group].name;
        let span = |start: f64, end: f64| format!("{}-{}", clock(start), clock(end));
        let places: Vec<String> =
            heard.segments.iter().take(8).map(|segment| span(segment.start_s, segment.end_s)).collect();
        let more = if heard.segments.len() > 8 { ", ..." } else { "" };
        let places = match (heard.whole_track, places.is_empty()) {
            (_, false) => format!("{}{more}", places.join(", ")),
            (true, true) => "the track as a whole".to_owned(),
            (false, true) => String::new(),
        };
        let text = if heard.whole_track {
            format!("{name}  {:.0} %", heard.confidence * 100.0)
        } else {
            let first = heard.segments.first().map(|segment| format!("  {}", clock(segment.start_s)));
            format!("{name}{}", first.unwrap_or_default())
        };
        Self {
            text,
            first_s: heard.segments.first().map(|segment| segment.start_s),
            places,
            whole_track: heard.whole_track,
        }
    }
}

/// A triangle that says play, or two bars that say pause.
fn sign(ui: &Ui, rect: egui::Rect, is_playing: bool) {
    let color = theme::of(ui).on_accent;
    let centre = rect.center();
    if is_playing {
        for x in [-4.0, 4.0] {
            let bar = egui::Rect::from_center_size(centre + vec2(x, 0.0), vec2(3.5, 13.0));
            ui.painter().rect_filled(bar, 1.0, color);
        }
    } else {
        let corners = [vec2(-4.0, -7.0), vec2(7.0, 0.0), vec2(-4.0, 7.0)].map(|corner| centre + corner);
        ui.painter().add(egui::Shape::convex_polygon(corners.to_vec(), color, egui::Stroke::NONE));
    }
}

/// Why nothing sounds, if that needs a word.
fn trouble(state: &PlayerState) -> Option<&str> {
    match &state.phase {
        Phase::NoDevice { reason } | Phase::Lost { reason } | Phase::Failed { reason } => Some(reason),
        Phase::Empty | Phase::Paused | Phase::Playing | Phase::Ended => None,
    }
}

/// One column per hop, each with the window whose centre lies in it, as segments have it: the first and the last window speak for the
/// ends of the track.
fn taggram(file: &TaggedFile, tags: &TagSet, hop: Hop) -> Taggram {
    let hop_s = hop.duration().as_secs_f64();
    let names = tags.vocabulary.names().to_vec();
    let (num_tags, num_windows) = (names.len(), file.taggram.num_windows());
    let first = (WINDOW_SAMPLES / 2) / hop.samples();
    let num_columns = ((file.duration_s / hop_s).ceil() as usize).max(1);
    let (mut probabilities, mut silent) = (Vec::with_capacity(num_columns * num_tags), Vec::with_capacity(num_columns));
    for column in 0..num_columns {
        let window = column.saturating_sub(first).min(num_windows.saturating_sub(1));
        match file.taggram.probabilities().get(window * num_tags..(window + 1) * num_tags) {
            Some(row) => probabilities.extend_from_slice(row),
            None => probabilities.resize(probabilities.len() + num_tags, 0.0),
        }
        silent.push(file.taggram.silent().get(window).copied().unwrap_or(true));
    }
    Taggram::of_track(names, hop_s, &probabilities, &silent)
}
