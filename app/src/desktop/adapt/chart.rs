//! A curve that grows while something is learnt.

use eframe::egui::{self, Align2, Rect, Response, Role, Sense, Shape, Stroke, Ui, Vec2, WidgetInfo, pos2};

use crate::desktop::theme;

/// Draws `values` from left to right, as `total` of them will fill the width; a lighter line beside it where there is one.
pub fn curve(ui: &mut Ui, name: &str, values: &[f64], other: &[f64], total: usize, size: Vec2) -> Response {
    let palette = theme::of(ui);
    let (rect, response) = ui.allocate_exact_size(size, Sense::hover());
    response.widget_info(|| {
        let said = values.last().map_or_else(|| "nothing yet".to_owned(), |last| format!("{last:.3}"));
        WidgetInfo::labeled(Role::Image, true, format!("{name}: {said}"))
    });
    ui.painter().rect_filled(rect, theme::ROUND, palette.raised);
    let text = |at, align, text: String| {
        ui.painter().text(at, align, text, egui::TextStyle::Small.resolve(ui.style()), palette.muted);
    };
    text(rect.left_top() + Vec2::new(theme::GAP, theme::SMALL), Align2::LEFT_TOP, name.to_owned());
    let inner = Rect::from_min_max(
        pos2(rect.left() + theme::GAP, rect.top() + theme::PAGE + theme::SMALL),
        rect.max - Vec2::splat(theme::GAP),
    );
    let highest = values.iter().chain(other).copied().filter(|value| value.is_finite()).fold(1e-9, f64::max);
    let line = |values: &[f64], stroke: Stroke| {
        let last = total.max(values.len()).max(2) - 1;
        let points: Vec<_> = values
            .iter()
            .enumerate()
            .map(|(index, value)| {
                let share = if value.is_finite() { (value / highest) as f32 } else { 1.0 };
                let x = inner.left() + inner.width() * index as f32 / last as f32;
                pos2(x, inner.bottom() - inner.height() * share.clamp(0.0, 1.0))
            })
            .collect();
        if points.len() > 1 {
            ui.painter().add(Shape::line(points, stroke));
        } else if let Some(&point) = points.first() {
            ui.painter().circle_filled(point, 1.5, stroke.color);
        }
    };
    line(other, Stroke::new(1.2, palette.muted));
    line(values, Stroke::new(1.8, palette.accent));
    if let Some(last) = values.last() {
        text(rect.right_top() + Vec2::new(-theme::GAP, theme::SMALL), Align2::RIGHT_TOP, format!("{last:.3}"));
    }
    response
}

/// Every so many values as their mean, so that what is noisy can be read.
pub fn smoothed(values: &[f64], width: usize) -> Vec<f64> {
    let mut sum = 0.0;
    values
        .iter()
        .enumerate()
        .map(|(index, value)| {
            sum += value;
            if index >= width {
                sum -= values[index - width];
            }
            sum / (index + 1).min(width) as f64
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::smoothed;

    #[test]
    fn smoothing_is_a_mean_over_the_last_ones() {
        assert_eq!(smoothed(&[2.0, 4.0, 6.0, 0.0], 2), [2.0, 3.0, 5.0, 3.0]);
        assert_eq!(smoothed(&[], 3), Vec::<f64>::new());
    }
}
