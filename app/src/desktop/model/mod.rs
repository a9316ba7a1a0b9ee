//! The page of the model: what it knows, how good it is, and others in its place.

use eframe::egui::{self, RichText, Ui};

use super::context::Shared;
use super::theme;

/// The page.
#[derive(Default)]
pub struct ModelPage;

impl ModelPage {
    /// What happens whether or not it is seen.
    pub fn logic(&mut self, _ctx: &egui::Context, _shared: &mut Shared) {}

    /// Shows it.
    pub fn ui(&mut self, ui: &mut Ui, shared: &mut Shared) {
        let metadata = &shared.loaded.model.metadata;
        ui.label(RichText::new("Model").text_style(theme::title()).color(theme::of(ui).strong));
        ui.label(format!("{}, {} tags, {}", metadata.name, metadata.tags.len(), metadata.licence));
    }
}
