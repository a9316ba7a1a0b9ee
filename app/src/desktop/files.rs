//! The page of files: to be tagged, and to be played with their tags.

use eframe::egui::{self, RichText, Ui};

use super::context::Shared;
use super::theme;

/// The page.
#[derive(Default)]
pub struct FilesPage;

impl FilesPage {
    /// What happens whether or not it is seen.
    pub fn logic(&mut self, _ctx: &egui::Context, _shared: &mut Shared) {}

    /// Shows it.
    pub fn ui(&mut self, ui: &mut Ui, _shared: &mut Shared) {
        ui.label(RichText::new("Files").text_style(theme::title()).color(theme::of(ui).strong));
        ui.label("Files are tagged with earmark tag in a terminal; this page cannot do it yet.");
    }
}
