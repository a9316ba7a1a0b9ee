//! What several pages are made of. Everything that shows a value by its length or colour also says it in words, for who
//! cannot see it.

use eframe::egui::{
    self, Color32, Rect, Response, RichText, Role, Sense, Shape, Stroke, Ui, UiBuilder, Vec2, WidgetInfo, pos2, vec2,
};

use super::theme;

/// A sign in front of a button's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icon {
    /// A triangle.
    Play,
    /// A square.
    Stop,
    /// A filled circle.
    Record,
    /// An arrow out of a box.
    Export,
}

/// How much a button asks to be pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// The one that matters here.
    Accent,
    /// One that ends what is being written.
    Danger,
    /// One among others.
    Plain,
}

/// A button with a sign and a text.
pub fn action(ui: &mut Ui, icon: Icon, text: &str, look: Look) -> Response {
    let palette = theme::of(ui);
    let font = egui::TextStyle::Button.resolve(ui.style());
    let galley = ui.painter().layout_no_wrap(text.to_owned(), font, Color32::PLACEHOLDER);
    let sign = 12.0;
    let size = vec2(galley.size().x + sign + theme::GAP + 2.0 * 14.0, theme::CONTROL);
    let (rect, response) = ui.allocate_exact_size(size, Sense::click());
    response.widget_info(|| WidgetInfo::labeled(Role::Button, ui.is_enabled(), text));
    let is_hot = response.hovered() || response.has_focus();
    let (fill, ink) = match look {
        Look::Accent => (palette.accent, palette.on_accent),
        Look::Danger => (palette.danger, palette.on_danger),
        Look::Plain => (if is_hot { palette.hovered } else { palette.raised }, palette.text),
    };
    let fill = if is_hot && look != Look::Plain { fill.lerp_to_gamma(palette.strong, 0.12) } else { fill };
    let (fill, ink) = if ui.is_enabled() { (fill, ink) } else { (palette.raised, palette.muted) };
    ui.painter().rect_filled(rect, theme::ROUND, fill);
    if response.has_focus() {
        let stroke = Stroke::new(2.0, palette.strong);
        ui.painter().rect_stroke(rect, theme::ROUND, stroke, egui::StrokeKind::Inside);
    }
    let at = Rect::from_center_size(pos2(rect.left() + 14.0 + sign / 2.0, rect.center().y), Vec2::splat(sign));
    let sign_ink = if icon == Icon::Record && look == Look::Plain && ui.is_enabled() { palette.danger } else { ink };
    draw(ui, icon, at, sign_ink);
    let text_at = pos2(at.right() + theme::GAP, rect.center().y - galley.size().y / 2.0);
    ui.painter().galley(text_at, galley, ink);
    response
}

fn draw(ui: &Ui, icon: Icon, rect: Rect, ink: Color32) {
    let painter = ui.painter();
    match icon {
        Icon::Play => {
            let points = vec![rect.left_top(), pos2(rect.right(), rect.center().y), rect.left_bottom()];
            painter.add(Shape::convex_polygon(points, ink, Stroke::NONE));
        }
        Icon::Stop => drop(painter.rect_filled(rect.shrink(1.0), 1.5, ink)),
        Icon::Record => drop(painter.circle_filled(rect.center(), rect.width() / 2.0 - 0.5, ink)),
        Icon::Export => {
            let stroke = Stroke::new(1.6, ink);
            let middle = rect.center().x;
            painter.vline(middle, rect.top()..=rect.bottom() - 4.0, stroke);
            let head = [
                pos2(middle - 3.5, rect.bottom() - 7.5),
                pos2(middle, rect.bottom() - 4.0),
                pos2(middle + 3.5, rect.bottom() - 7.5),
            ];
            painter.add(Shape::line(head.to_vec(), stroke));
            painter.hline(rect.x_range(), rect.bottom() - 0.5, stroke);
        }
    }
}

/// A probability as a bar, with a mark where it becomes certain.
pub fn bar(ui: &mut Ui, name: &str, value: f32, size: Vec2, color: Color32, mark: Option<f32>) -> Response {
    let palette = theme::of(ui);
    let (rect, response) = ui.allocate_exact_size(size, Sense::hover());
    response.widget_info(|| {
        let mut info = WidgetInfo::labeled(Role::ProgressIndicator, true, name);
        info.value = Some(f64::from((value * 100.0).round()));
        info
    });
    let value = if value.is_finite() { value.clamp(0.0, 1.0) } else { 0.0 };
    let round = size.y / 2.0;
    ui.painter().rect_filled(rect, round, palette.line);
    let filled = Rect::from_min_size(rect.min, vec2(rect.width() * value, rect.height()));
    ui.painter().rect_filled(filled, round, color);
    if let Some(mark) = mark {
        let x = rect.left() + rect.width() * mark.clamp(0.0, 1.0);
        ui.painter().vline(x, rect.y_range().expand(2.0), Stroke::new(1.0, palette.muted));
    }
    response
}

/// A small heading above a group.
pub fn caption(ui: &mut Ui, text: &str) -> Response {
    ui.label(RichText::new(text).text_style(theme::caption()).color(theme::of(ui).muted))
}

/// A caption with something at the right end of its row.
pub fn caption_row(ui: &mut Ui, text: &str, right: impl FnOnce(&mut Ui)) {
    ui.scope(|ui| {
        ui.spacing_mut().interact_size.y = theme::CAPTION;
        ui.horizontal(|ui| {
            caption(ui, text);
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), right);
        });
    });
}

/// Text that explains.
pub fn small(ui: &mut Ui, text: impl Into<String>) -> Response {
    ui.label(RichText::new(text.into()).text_style(theme::small()).color(theme::of(ui).muted))
}

/// A dot of a colour before a word.
pub fn dot(ui: &mut Ui, color: Color32) {
    let (rect, _) = ui.allocate_exact_size(vec2(8.0, theme::CONTROL), Sense::hover());
    ui.painter().circle_filled(rect.center(), 4.0, color);
}

/// A card that fills `rect`.
pub fn card_in<R>(ui: &mut Ui, rect: Rect, contents: impl FnOnce(&mut Ui) -> R) -> R {
    let frame = theme::card(ui);
    ui.painter().rect_stroke(rect, theme::CARD_ROUND, theme::outline(ui), egui::StrokeKind::Inside);
    let inner = rect - frame.inner_margin;
    ui.scope_builder(UiBuilder::new().max_rect(inner), |ui| {
        ui.set_clip_rect(rect.intersect(ui.clip_rect()));
        contents(ui)
    })
    .inner
}
