//! The live page.

use eframe::egui::{self, RichText, Ui};

use super::context::Shared;
use super::theme;

/// The page.
pub struct LivePage {}

impl LivePage {
    /// Nothing is listened to yet.
    pub fn new(_ctx: &egui::Context, _shared: &Shared) -> Self {
        Self {}
    }

    /// What happens whether or not it is seen.
    pub fn logic(&mut self, _ctx: &egui::Context, _shared: &mut Shared) {}

    /// Shows it.
    pub fn ui(&mut self, ui: &mut Ui, _shared: &mut Shared) {
        ui.label(RichText::new("Live").text_style(theme::title()).color(theme::of(ui).strong));
    }
}
