//! The level as a mixing desk shows it: peak with a slow fall, a held maximum, and a mark for clipping that stays.

use std::time::Duration;

use earmark_core::live::Level;
use eframe::egui::{self, Align2, Rect, Response, Sense, Ui, pos2, vec2};

use crate::desktop::theme;

/// Bottom of the scale in decibels of full scale.
pub const FLOOR_DB: f32 = -60.0;

/// How fast the bar falls: 20 dB in 1.7 s, as digital peak meters do (IEC 60268-18).
const FALL_DB_PER_SEC: f32 = 20.0 / 1.7;

/// How long the highest level is held.
const HOLD: Duration = Duration::from_millis(1_500);

/// Marks beside the bar.
const MARKS: [f32; 7] = [0.0, -6.0, -12.0, -18.0, -24.0, -36.0, -48.0];

/// Distance that marks need, in points.
const LEAST_BETWEEN_MARKS: f32 = 15.0;

/// Levels from here on are close to clipping.
const HOT_DB: f32 = -6.0;

/// The level over time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Meter {
    /// Peak, falling slowly, in decibels.
    pub peak_db: f32,
    /// Root of the mean square, in decibels.
    pub rms_db: f32,
    /// Highest peak of late.
    pub hold_db: f32,
    /// Samples at full scale since the mark was last cleared.
    pub clipped: u64,
    seen_clipped: u64,
    held_at: Duration,
    at: Duration,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            peak_db: FLOOR_DB,
            rms_db: FLOOR_DB,
            hold_db: FLOOR_DB,
            clipped: 0,
            seen_clipped: 0,
            held_at: Duration::ZERO,
            at: Duration::ZERO,
        }
    }
}

/// A magnitude in decibels of full scale, not below the scale's bottom.
pub fn decibels(magnitude: f32) -> f32 {
    (20.0 * magnitude.max(1e-9).log10()).max(FLOOR_DB)
}

impl Meter {
    /// The level at `now`; `None` while no sound arrives.
    pub fn push(&mut self, level: Option<&Level>, now: Duration) {
        // Without sound there is no level that could fall.
        let Some(level) = level else { return self.rest(now) };
        let fallen = FALL_DB_PER_SEC * now.saturating_sub(self.at).as_secs_f32();
        self.at = now;
        let (peak, rms) = (decibels(level.peak), decibels(level.rms));
        self.peak_db = peak.max(self.peak_db - fallen).max(FLOOR_DB);
        self.rms_db = rms.max(self.rms_db - fallen).max(FLOOR_DB);
        if self.peak_db >= self.hold_db || now.saturating_sub(self.held_at) > HOLD {
            (self.hold_db, self.held_at) = (self.peak_db, now);
        }
        self.clipped += level.clipped.saturating_sub(self.seen_clipped);
        self.seen_clipped = level.clipped;
    }

    /// No sound arrives: only the mark of clipping stays.
    pub fn rest(&mut self, now: Duration) {
        let (clipped, seen_clipped) = (self.clipped, self.seen_clipped);
        *self = Self { clipped, seen_clipped, at: now, held_at: now, ..Self::default() };
    }

    /// Takes the mark away.
    pub fn clear_clipped(&mut self) {
        self.clipped = 0;
    }

    /// What is visible of it, in quarters of a decibel.
    pub fn shown(&self) -> [i32; 4] {
        let quarters = |db: f32| (db * 4.0).round() as i32;
        [quarters(self.peak_db), quarters(self.rms_db), quarters(self.hold_db), self.clipped.min(1_000_000) as i32]
    }

    /// Draws it upright; true if the clipping mark was pressed.
    pub fn ui(&self, ui: &mut Ui, height: f32) -> bool {
        let width = 58.0;
        ui.vertical(|ui| {
            ui.set_width(width);
            let pressed = self.lamp(ui, width).clicked();
            let number =
                if self.hold_db <= FLOOR_DB { "no level".to_owned() } else { format!("{:.0} dB", self.hold_db) };
            let rest = height - 22.0 - 18.0 - 2.0 * theme::SMALL;
            ui.spacing_mut().item_spacing.y = theme::SMALL;
            self.scale(ui, vec2(width, rest.max(60.0)));
            let text = egui::RichText::new(number).text_style(theme::axis()).color(theme::of(ui).muted);
            ui.add_sized([width, 18.0], egui::Label::new(text));
            pressed
        })
        .inner
    }

    fn lamp(&self, ui: &mut Ui, width: f32) -> Response {
        let palette = theme::of(ui);
        let (rect, response) = ui.allocate_exact_size(vec2(width, 22.0), Sense::click());
        let is_on = self.clipped > 0;
        let (fill, text) = if is_on { (palette.danger, palette.on_danger) } else { (palette.raised, palette.muted) };
        ui.painter().rect_filled(rect, theme::SMALL, fill);
        let font = theme::axis().resolve(ui.style());
        ui.painter().text(rect.center(), Align2::CENTER_CENTER, "CLIP", font, text);
        let name = if is_on {
            format!("Clipping: {} samples at full scale. Press to clear", self.clipped)
        } else {
            "No clipping".to_owned()
        };
        response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Button, true, &name));
        if is_on {
            response.on_hover_text(format!(
                "{} samples reached full scale: the input is too loud, and tags may suffer. Turn it down, then press here.",
                self.clipped
            ))
        } else {
            response.on_hover_text("Lights up when the input is too loud, and stays lit until it is pressed")
        }
    }

    fn scale(&self, ui: &mut Ui, size: egui::Vec2) {
        let palette = theme::of(ui);
        let (rect, response) = ui.allocate_exact_size(size, Sense::hover());
        let name = format!("Input level: peak {:.0} dB, mean {:.0} dB of full scale", self.peak_db, self.rms_db);
        response.widget_info(|| {
            let mut info = egui::WidgetInfo::labeled(egui::Role::Meter, true, &name);
            info.value = Some(f64::from(self.peak_db));
            info
        });
        let bar = Rect::from_min_max(rect.min, pos2(rect.left() + 18.0, rect.bottom()));
        let y = |db: f32| egui::remap_clamp(db, FLOOR_DB..=0.0, bar.bottom()..=bar.top());
        let painter = ui.painter();
        painter.rect_filled(bar, 3.0, palette.line);
        let segment = |from: f32, to: f32, color: egui::Color32| {
            if to > from {
                painter.rect_filled(
                    Rect::from_min_max(pos2(bar.left(), y(to)), pos2(bar.right(), y(from))),
                    2.0,
                    color,
                );
            }
        };
        segment(FLOOR_DB, self.peak_db, palette.accent.gamma_multiply(0.45));
        segment(HOT_DB, self.peak_db, palette.warning);
        segment(FLOOR_DB, self.rms_db.min(HOT_DB), palette.accent);
        if self.hold_db > FLOOR_DB {
            let color = if self.hold_db >= HOT_DB { palette.warning } else { palette.accent };
            painter.hline(bar.x_range(), y(self.hold_db), egui::Stroke::new(2.0, color));
        }
        let font = theme::axis().resolve(ui.style());
        let mut free = f32::NEG_INFINITY;
        for mark in MARKS {
            // Where there is little room, fewer.
            if y(mark) < free {
                continue;
            }
            free = y(mark) + LEAST_BETWEEN_MARKS;
            let at = pos2(bar.right() + theme::SMALL, y(mark).clamp(rect.top() + 6.0, rect.bottom() - 6.0));
            painter.hline(bar.right()..=bar.right() + 3.0, y(mark), egui::Stroke::new(1.0, palette.muted));
            painter.text(
                at + vec2(theme::SMALL, 0.0),
                Align2::LEFT_CENTER,
                format!("{mark:.0}"),
                font.clone(),
                palette.muted,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(peak: f32, clipped: u64) -> Level {
        Level { peak, rms: peak / 2.0, clipped }
    }

    #[test]
    fn it_rises_at_once_and_falls_slowly() {
        let mut meter = Meter::default();
        let at = Duration::from_secs_f32;
        meter.push(Some(&level(0.5, 0)), at(0.0));
        assert!((meter.peak_db + 6.02).abs() < 0.01 && (meter.rms_db + 12.04).abs() < 0.01);
        meter.push(Some(&level(0.0, 0)), at(1.7));
        assert!((meter.peak_db + 26.02).abs() < 0.1, "{}", meter.peak_db);
        meter.push(None, at(2.0));
        assert!(meter.peak_db.max(meter.rms_db).max(meter.hold_db) <= FLOOR_DB);
        meter.push(Some(&level(f32::NAN, 0)), at(61.0));
        assert!(meter.peak_db <= FLOOR_DB);
    }

    #[test]
    fn the_maximum_is_held_and_clipping_until_it_is_cleared() {
        let mut meter = Meter::default();
        let at = Duration::from_secs_f32;
        meter.push(Some(&level(1.0, 3)), at(0.0));
        meter.push(Some(&level(0.01, 3)), at(1.0));
        assert!(meter.hold_db.abs() < 1e-6 && meter.clipped == 3);
        meter.push(Some(&level(0.01, 3)), at(2.0));
        assert!(meter.hold_db < -20.0);
        meter.clear_clipped();
        meter.push(Some(&level(0.01, 3)), at(3.0));
        assert_eq!(meter.clipped, 0);
        meter.push(Some(&level(1.0, 4)), at(4.0));
        assert_eq!(meter.clipped, 1);
    }
}
