//! The card with what is heard now: tags with bars, or in plain words why there are none.

use earmark_core::live::SourceState;
use earmark_core::tags::Verdict;
use eframe::egui::{self, Align2, RichText, ScrollArea, Sense, Stroke, Ui, pos2, vec2};

use super::view::{Phase, Saying, Tone, View};
use crate::desktop::theme;
use crate::desktop::widgets::{bar, caption_row, small};

/// Height of a tag with its bar, and of the first.
const ROW: f32 = 46.0;

/// Fills the card.
pub fn ui(ui: &mut Ui, view: &View, shows_raw: &mut bool) {
    caption_row(ui, if *shows_raw { "Raw scores" } else { "Heard now" }, |ui| {
        let text = RichText::new(if *shows_raw { "Verdicts" } else { "Raw scores" }).text_style(theme::small());
        let hint = if *shows_raw { "Show what is certain" } else { "Show the probability of every tag" };
        if ui.add(egui::Button::new(text.color(theme::of(ui).muted)).small()).on_hover_text(hint).clicked() {
            *shows_raw = !*shows_raw;
        }
    });
    ui.add_space(theme::SMALL);
    if let (Phase::Listening, SourceState::Rerouted { from }) = (&view.phase, &view.state.source) {
        let now = view.state.device.as_ref().map_or("another device", |device| device.name.as_str());
        notice(ui, &format!("The system moved the sound from {from} to {now}."), Tone::Warning);
    }
    if *shows_raw {
        return raw(ui, view);
    }
    match view.saying() {
        Some(saying) => say(ui, &saying),
        None => tags(ui, view),
    }
}

/// A line that stands out.
fn notice(ui: &mut Ui, text: &str, tone: Tone) {
    let palette = theme::of(ui);
    let color = match tone {
        Tone::Calm => palette.muted,
        Tone::Warning => palette.warning,
        Tone::Wrong => palette.danger,
    };
    ui.label(RichText::new(text).text_style(theme::small()).color(color));
}

/// Words in the place of tags.
fn say(ui: &mut Ui, saying: &Saying) {
    let palette = theme::of(ui);
    let (mark, color) = match saying.tone {
        Tone::Calm => (None, palette.strong),
        Tone::Warning => (Some("!"), palette.warning),
        Tone::Wrong => (Some("!"), palette.danger),
    };
    ui.add_space((ui.available_height() * 0.16).min(70.0));
    if let Some(mark) = mark {
        let (rect, _) = ui.allocate_exact_size(vec2(34.0, 34.0), Sense::hover());
        ui.painter().circle_stroke(rect.center(), 15.0, Stroke::new(2.0, color));
        ui.painter().text(rect.center(), Align2::CENTER_CENTER, mark, theme::big().resolve(ui.style()), color);
        ui.add_space(theme::SMALL);
    }
    let title = ui.label(RichText::new(&saying.title).text_style(theme::huge()).color(color));
    announce(ui, title.id, &saying.title);
    if !saying.help.is_empty() {
        ui.add_space(theme::SMALL);
        ui.label(RichText::new(&saying.help).color(palette.text));
    }
}

/// A screen reader says it when it changes.
fn announce(ui: &Ui, id: egui::Id, text: &str) {
    ui.ctx().accesskit_node_builder(id, |node| {
        node.set_live(egui::accesskit::Live::Polite);
        node.set_label(text.to_owned());
    });
}

fn tags(ui: &mut Ui, view: &View) {
    let palette = theme::of(ui);
    let below = if view.state.noisiness.is_some() { 44.0 } else { 0.0 } + 22.0 * view.disputed().count().min(2) as f32;
    let room = (((ui.available_height() - below) / ROW) as usize).max(1);
    let width = ui.available_width();
    ui.spacing_mut().item_spacing.y = theme::SMALL;
    for (place, &index) in view.ranking.iter().take(room).enumerate() {
        let (line, state) = (&view.lines.lines()[index], view.state.lines[index]);
        let Some(name) = line.label(state.verdict) else { continue };
        let style = if place == 0 { theme::huge() } else { theme::big() };
        let percent = format!("{:.0} %", state.confidence * 100.0);
        ui.horizontal(|ui| {
            ui.set_height(if place == 0 { 34.0 } else { 27.0 });
            ui.label(RichText::new(name).text_style(style).color(palette.strong));
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                ui.label(RichText::new(&percent).text_style(egui::TextStyle::Heading).color(palette.muted));
            });
        });
        bar(ui, &format!("{name}, certain"), state.confidence, vec2(width, theme::BAR), palette.accent, None);
        ui.add_space(theme::SMALL);
    }
    if view.ranking.len() > room {
        let rest: Vec<&str> = view.ranking[room..]
            .iter()
            .filter_map(|&index| view.lines.lines()[index].label(view.state.lines[index].verdict))
            .collect();
        ui.add(egui::Label::new(RichText::new(format!("also {}", rest.join(", "))).color(palette.text)).truncate());
    }
    for index in view.disputed().take(2) {
        let name = view.lines.lines()[index].name();
        small(ui, format!("{name}: both this and the opposite are likely; no verdict"));
    }
    if let Some(noisiness) = view.state.noisiness {
        ui.add_space(theme::SMALL);
        small(ui, format!("Noise in the input {:.0} %", noisiness * 100.0));
        bar(ui, "Noise in the input", noisiness, vec2(width, theme::BAR), palette.warning, None);
    }
}

/// Every tag's smoothed probability, those of one line together.
fn raw(ui: &mut Ui, view: &View) {
    let palette = theme::of(ui);
    small(ui, "Smoothed probabilities; the mark is where a tag becomes certain.");
    ScrollArea::vertical().auto_shrink([false, false]).show(ui, |ui| {
        ui.spacing_mut().item_spacing.y = 2.0;
        let font = theme::small().resolve(ui.style());
        for (line, state) in view.lines.lines().iter().zip(&view.state.lines) {
            if line.tags().count() > 1 {
                let verdict = match state.verdict {
                    Verdict::Absent => "no verdict".to_owned(),
                    Verdict::Disputed => "disputed".to_owned(),
                    Verdict::Yes | Verdict::No => line.label(state.verdict).unwrap_or_default().to_owned(),
                };
                ui.add_space(theme::SMALL);
                small(ui, format!("{}: {verdict}", line.name()));
            }
            for tag in line.tags() {
                let (value, is_certain) = (view.state.smoothed[tag], view.state.certain[tag]);
                let ink = if is_certain { palette.strong } else { palette.text };
                ui.horizontal(|ui| {
                    ui.set_height(18.0);
                    let (rect, _) = ui.allocate_exact_size(vec2(104.0, 18.0), Sense::hover());
                    let at = pos2(rect.left() + 2.0, rect.center().y);
                    ui.painter().text(at, Align2::LEFT_CENTER, &view.tags[tag], font.clone(), ink);
                    let width = (ui.available_width() - 52.0).max(30.0);
                    let color = if is_certain { palette.accent } else { palette.muted };
                    bar(ui, &view.tags[tag], value, vec2(width, theme::BAR), color, Some(view.thresholds[tag]));
                    let text = RichText::new(format!("{:.0} %", value * 100.0)).text_style(theme::small());
                    ui.label(text.color(if is_certain { palette.strong } else { palette.muted }));
                });
            }
        }
        ui.add_space(theme::GAP);
    });
}
