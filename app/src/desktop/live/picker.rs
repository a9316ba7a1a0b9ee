//! The choice of a source: devices grouped by kind, and files.

use earmark_core::live::{Device, DeviceKind, SourceChoice};
use eframe::egui::{self, RichText, Ui};

use super::listener::Listing;
use crate::desktop::theme;
use crate::desktop::widgets::small;

/// What was picked.
#[derive(Clone, Debug, PartialEq)]
pub enum Picked {
    /// A source.
    Source(SourceChoice),
    /// Some file, still to be chosen.
    AnyFile,
    /// The list was opened: it should be new.
    Opened,
}

/// What the button says of a choice.
pub fn name(choice: &SourceChoice, devices: &[Device]) -> String {
    match choice {
        SourceChoice::File(path) => path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
        SourceChoice::Default(kind) => {
            let default = choice.find(devices).map(|device| device.name.as_str());
            let what = match kind {
                DeviceKind::Input => "Default microphone",
                DeviceKind::System => "What this machine plays",
            };
            default.map_or_else(|| what.to_owned(), |device| format!("{what}: {device}"))
        }
        SourceChoice::Device { name, .. } => name.clone(),
    }
}

/// Shows the choice and the list.
pub fn ui(ui: &mut Ui, choice: &SourceChoice, listing: Option<&Listing>, width: f32) -> Option<Picked> {
    let devices: &[Device] = match listing {
        Some(Ok(devices)) => devices,
        _ => &[],
    };
    let mut picked = None;
    let combo = egui::ComboBox::from_id_salt("source").width(width).truncate().selected_text(name(choice, devices));
    let response = combo.show_ui(ui, |ui| {
        ui.set_min_width(width);
        for kind in [DeviceKind::Input, DeviceKind::System] {
            heading(
                ui,
                match kind {
                    DeviceKind::Input => "Microphones and lines",
                    DeviceKind::System => "What this machine plays",
                },
            );
            let mut entry = |ui: &mut Ui, text: &str, value: SourceChoice| {
                if ui.selectable_label(*choice == value, text).clicked() && *choice != value {
                    picked = Some(Picked::Source(value));
                }
            };
            let of_kind = || devices.iter().filter(move |device| device.kind == kind);
            if of_kind().any(|device| device.is_default) {
                let text = match kind {
                    DeviceKind::Input => "Default microphone, whichever it is",
                    DeviceKind::System => "Whatever is played, on whichever output",
                };
                entry(ui, text, SourceChoice::Default(kind));
            }
            for device in of_kind() {
                // Two of a name are told apart by what the system calls them.
                let is_alone = devices.iter().filter(|other| other.name == device.name).count() == 1;
                let text = if is_alone { device.name.clone() } else { format!("{} ({})", device.name, device.id) };
                entry(ui, &text, SourceChoice::Device { id: device.id.clone(), name: device.name.clone() });
            }
            if of_kind().next().is_none() {
                small(ui, none_of(kind, listing));
            }
        }
        heading(ui, "Music and video files");
        if let SourceChoice::File(path) = choice {
            let _ = ui.selectable_label(true, path.file_name().unwrap_or(path.as_os_str()).to_string_lossy());
        }
        if ui.selectable_label(false, "Open a file …").clicked() {
            picked = Some(Picked::AnyFile);
        }
    });
    response.response.clone().accessible_name(format!("Source: {}", name(choice, devices)));
    if response.response.clicked() && picked.is_none() {
        picked = Some(Picked::Opened);
    }
    picked
}

fn heading(ui: &mut Ui, text: &str) {
    ui.add_space(theme::SMALL);
    ui.label(RichText::new(text).text_style(theme::caption()).color(theme::of(ui).accent));
}

/// Why there is nothing of a kind.
fn none_of(kind: DeviceKind, listing: Option<&Listing>) -> String {
    match (listing, kind) {
        (None, _) => "looking …".to_owned(),
        (Some(Err(error)), _) => error.to_string(),
        (Some(Ok(_)), DeviceKind::Input) => "none is connected".to_owned(),
        (Some(Ok(_)), DeviceKind::System) => "this system offers no way to listen to it".to_owned(),
    }
}
