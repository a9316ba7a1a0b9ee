//! Every colour, distance and text size of the desktop; nothing elsewhere names one.
//!
//! ```text
//! Palette (dark stage, light paper) -> apply -> egui's style, both themes at once
//!                                  `-> of(ui): what a page paints with
//! ```
//!
//! Cards are outlines on one ground, with which the frame is cleared: a renderer in software pays for every pixel that is
//! filled, and thirty frames per second shall not take a graphics card.
//!
//! One accent marks what sounds and what can be done; red is kept for what is wrong, amber for what to look at. Distances
//! are multiples of four points. Everything is in points, so that one factor scales text and space together.

use std::sync::Arc;

use eframe::egui::{
    self, Color32, CornerRadius, FontData, FontDefinitions, FontFamily, FontId, Margin, Shadow, Stroke, TextStyle,
    Theme, Ui, Visuals, vec2,
};

/// Between things that belong together.
pub const SMALL: f32 = 4.0;
/// Between neighbours.
pub const GAP: f32 = 8.0;
/// Between groups, and around cards.
pub const WIDE: f32 = 16.0;
/// Around pages.
pub const PAGE: f32 = 20.0;
/// Height of buttons and fields.
pub const CONTROL: f32 = 32.0;
/// Width of the column with the pages' names.
pub const NAVIGATION: f32 = 148.0;
/// Height of a row with a caption.
pub const CAPTION: f32 = 20.0;
/// Rounding of buttons and fields.
pub const ROUND: u8 = 6;
/// Rounding of cards.
pub const CARD_ROUND: u8 = 10;
/// Height of a bar that shows a probability.
pub const BAR: f32 = 6.0;

/// Least zoom, and largest.
pub const SCALES: std::ops::RangeInclusive<f32> = 0.75..=2.5;

/// Steps of a ramp from nothing to certain.
const RAMP: usize = 5;

/// The colours of a theme.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Palette {
    /// Behind everything.
    pub ground: Color32,
    /// What lies above everything: menus and messages.
    pub card: Color32,
    /// Buttons and fields on cards.
    pub raised: Color32,
    /// The same under the pointer.
    pub hovered: Color32,
    /// Lines between things, and the empty part of bars.
    pub line: Color32,
    /// What is to be read first.
    pub strong: Color32,
    /// Text.
    pub text: Color32,
    /// Text that explains.
    pub muted: Color32,
    /// What sounds, and what can be done.
    pub accent: Color32,
    /// Text on the accent.
    pub on_accent: Color32,
    /// The accent, hardly there: behind what is selected.
    pub tint: Color32,
    /// What to look at.
    pub warning: Color32,
    /// What is wrong.
    pub danger: Color32,
    /// Text on danger.
    pub on_danger: Color32,
    /// Where no sound was.
    pub absent: Color32,
    /// From nothing to certain.
    ramp: [Color32; RAMP],
}

const fn rgb(hex: u32) -> Color32 {
    Color32::from_rgb((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

/// A stage before the lights go on.
pub const DARK: Palette = Palette {
    ground: rgb(0x10_1317),
    card: rgb(0x16_191e),
    raised: rgb(0x22_262d),
    hovered: rgb(0x2c_323a),
    line: rgb(0x2a_2f37),
    strong: rgb(0xf4_f5f6),
    text: rgb(0xd3_d7dc),
    muted: rgb(0x93_9ba6),
    accent: rgb(0x4f_d1ae),
    on_accent: rgb(0x06_221a),
    tint: rgb(0x15_2e2a),
    warning: rgb(0xe9_b44c),
    danger: rgb(0xf0_6a64),
    on_danger: rgb(0x2a_0807),
    absent: rgb(0x24_2830),
    ramp: [rgb(0x10_1317), rgb(0x12_413b), rgb(0x1f_9079), rgb(0x6f_e3c4), rgb(0xf2_fffa)],
};

/// Print on paper.
pub const LIGHT: Palette = Palette {
    ground: rgb(0xfa_f8f3),
    card: rgb(0xfd_fcf9),
    raised: rgb(0xf0_ece4),
    hovered: rgb(0xe6_e0d5),
    line: rgb(0xdd_d7cb),
    strong: rgb(0x14_181c),
    text: rgb(0x2b_3138),
    muted: rgb(0x58_606a),
    accent: rgb(0x08_6a54),
    on_accent: rgb(0xff_ffff),
    tint: rgb(0xd8_ebe2),
    warning: rgb(0x84_5300),
    danger: rgb(0xab_2620),
    on_danger: rgb(0xff_ffff),
    absent: rgb(0xe4_dfd5),
    ramp: [rgb(0xfa_f8f3), rgb(0xc9_e5da), rgb(0x5c_b79b), rgb(0x0c_7a5d), rgb(0x05_2d23)],
};

impl Palette {
    /// The colours of a theme.
    pub fn of_theme(theme: Theme) -> &'static Self {
        match theme {
            Theme::Dark => &DARK,
            Theme::Light => &LIGHT,
        }
    }

    /// The colour of a probability. Most lie low, so that the lower half has most of the ramp.
    pub fn probability(&self, probability: f32) -> Color32 {
        let probability = if probability.is_finite() { probability.clamp(0.0, 1.0) } else { 0.0 };
        let place = probability.powf(0.7) * (RAMP - 1) as f32;
        let step = (place as usize).min(RAMP - 2);
        self.ramp[step].lerp_to_gamma(self.ramp[step + 1], place - step as f32)
    }
}

impl Palette {
    /// The same for a probability of which nothing is said: it can be seen, and does not stand out.
    pub fn unsaid(&self, probability: f32) -> Color32 {
        let probability = if probability.is_finite() { probability.clamp(0.0, 1.0) } else { 0.0 };
        self.absent.lerp_to_gamma(self.muted, probability.powf(0.7) * 0.6)
    }
}

/// The colours that `ui` is painted with.
pub fn of(ui: &Ui) -> &'static Palette {
    if ui.visuals().dark_mode { &DARK } else { &LIGHT }
}

/// Text that explains.
pub fn small() -> TextStyle {
    TextStyle::Small
}

/// The title of a page.
pub fn title() -> TextStyle {
    TextStyle::Name("title".into())
}

/// What is heard.
pub fn big() -> TextStyle {
    TextStyle::Name("big".into())
}

/// The same where it stands alone.
pub fn huge() -> TextStyle {
    TextStyle::Name("huge".into())
}

/// A small heading above a group.
pub fn caption() -> TextStyle {
    TextStyle::Name("caption".into())
}

/// Text at the edge of a picture.
pub fn axis() -> TextStyle {
    TextStyle::Name("axis".into())
}

/// Text in a heavier weight.
fn heavy() -> FontFamily {
    FontFamily::Name("heavy".into())
}

/// Inter for everything; egui's own fonts stay behind it, and the system's behind them, for what it lacks.
fn fonts() -> FontDefinitions {
    let mut fonts = FontDefinitions::default();
    let mut add = |name: &str, bytes: &'static [u8]| {
        fonts.font_data.insert(name.to_owned(), Arc::new(FontData::from_static(bytes)));
    };
    add("inter", include_bytes!("fonts/Inter-Regular.otf"));
    add("inter-heavy", include_bytes!("fonts/Inter-SemiBold.otf"));
    let others = fonts.families.get(&FontFamily::Proportional).cloned().unwrap_or_default();
    for (family, first) in [(FontFamily::Proportional, "inter"), (heavy(), "inter-heavy")] {
        let all = [first.to_owned()].into_iter().chain(others.iter().cloned()).collect();
        fonts.families.insert(family, all);
    }
    fonts
}

/// Gives both themes their look.
pub fn apply(ctx: &egui::Context) {
    ctx.set_fonts(fonts());
    for theme in [Theme::Dark, Theme::Light] {
        ctx.style_mut_of(theme, |style| {
            let font = |size| FontId::new(size, FontFamily::Proportional);
            let strong = |size| FontId::new(size, heavy());
            style.text_styles = [
                (TextStyle::Small, font(12.0)),
                (TextStyle::Body, font(13.5)),
                (TextStyle::Button, font(13.5)),
                (TextStyle::Heading, strong(16.0)),
                (TextStyle::Monospace, FontId::new(13.0, FontFamily::Monospace)),
                (title(), strong(21.0)),
                (big(), strong(22.0)),
                (huge(), strong(28.0)),
                (caption(), strong(12.0)),
                (axis(), font(11.0)),
            ]
            .into();
            style.visuals = visuals(theme);
            let spacing = &mut style.spacing;
            spacing.item_spacing = vec2(GAP, GAP);
            spacing.button_padding = vec2(12.0, 6.0);
            spacing.interact_size = vec2(CONTROL, CONTROL);
            spacing.icon_width = 18.0;
            spacing.icon_width_inner = 10.0;
            spacing.icon_spacing = GAP;
            spacing.menu_margin = Margin::same(10);
            spacing.combo_height = 420.0;
            spacing.tooltip_width = 320.0;
            style.interaction.selectable_labels = false;
            style.interaction.tooltip_delay = 0.35;
            // What is shown is what is: nothing glides to where it ought to be.
            style.animation_time = 0.0;
        });
    }
}

fn visuals(theme: Theme) -> Visuals {
    let palette = Palette::of_theme(theme);
    let mut visuals = theme.default_visuals();
    visuals.panel_fill = palette.ground;
    visuals.window_fill = palette.card;
    visuals.window_stroke = Stroke::new(1.0, palette.line);
    visuals.window_corner_radius = CornerRadius::same(CARD_ROUND);
    visuals.menu_corner_radius = CornerRadius::same(CARD_ROUND);
    visuals.window_shadow = Shadow::NONE;
    visuals.popup_shadow = Shadow {
        offset: [0, 6],
        blur: 18,
        spread: 0,
        color: Color32::from_black_alpha(if theme == Theme::Dark { 110 } else { 40 }),
    };
    visuals.extreme_bg_color = palette.line;
    visuals.text_edit_bg_color = Some(palette.raised);
    visuals.faint_bg_color = palette.raised;
    visuals.code_bg_color = palette.raised;
    visuals.weak_text_color = Some(palette.muted);
    visuals.hyperlink_color = palette.accent;
    visuals.warn_fg_color = palette.warning;
    visuals.error_fg_color = palette.danger;
    visuals.selection.bg_fill = palette.tint;
    visuals.selection.stroke = Stroke::new(1.0, palette.accent);
    visuals.slider_trailing_fill = true;
    let widgets = &mut visuals.widgets;
    let all = [
        (&mut widgets.noninteractive, palette.card, palette.line, palette.text),
        (&mut widgets.inactive, palette.raised, palette.line, palette.text),
        (&mut widgets.hovered, palette.hovered, palette.muted, palette.strong),
        (&mut widgets.active, palette.hovered, palette.accent, palette.strong),
        (&mut widgets.open, palette.hovered, palette.line, palette.strong),
    ];
    for (widget, fill, outline, text) in all {
        widget.bg_fill = fill;
        widget.weak_bg_fill = fill;
        widget.bg_stroke = Stroke::new(1.0, outline);
        widget.fg_stroke = Stroke::new(1.0, text);
        widget.corner_radius = CornerRadius::same(ROUND);
        widget.expansion = 0.0;
    }
    visuals
}

/// The outline of a card.
pub fn outline(ui: &Ui) -> Stroke {
    Stroke::new(1.0, of(ui).line)
}

/// The frame of a card.
pub fn card(ui: &Ui) -> egui::Frame {
    egui::Frame::new().stroke(outline(ui)).corner_radius(CARD_ROUND).inner_margin(Margin::same(WIDE as i8))
}

/// The frame of what lies above the page.
pub fn above(ui: &Ui) -> egui::Frame {
    card(ui).fill(of(ui).card)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Contrast of two colours as WCAG 2 defines it.
    fn contrast(a: Color32, b: Color32) -> f32 {
        let luminance = |color: Color32| {
            let linear = |value: u8| {
                let value = f32::from(value) / 255.0;
                if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * linear(color.r()) + 0.7152 * linear(color.g()) + 0.0722 * linear(color.b())
        };
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn what_is_written_can_be_read() {
        for palette in [DARK, LIGHT] {
            let grounds = [palette.ground, palette.card, palette.raised, palette.tint];
            for ground in grounds {
                for text in
                    [palette.strong, palette.text, palette.muted, palette.accent, palette.warning, palette.danger]
                {
                    assert!(contrast(text, ground) >= 4.5, "{text:?} on {ground:?}: {}", contrast(text, ground));
                }
            }
            assert!(contrast(palette.on_accent, palette.accent) >= 4.5);
            assert!(contrast(palette.on_danger, palette.danger) >= 4.5);
        }
    }

    #[test]
    fn a_surer_tag_stands_out_more() {
        for palette in [DARK, LIGHT] {
            let seen: Vec<f32> = (0..=20)
                .map(|step| contrast(palette.probability(step as f32 / 20.0), palette.probability(0.0)))
                .collect();
            assert!(seen.windows(2).all(|pair| pair[1] > pair[0]), "{seen:?}");
            assert_eq!(palette.probability(f32::NAN), palette.probability(0.0));
        }
    }
}
