//! The desktop.
//!
//! ```text
//! settings file, model -> Shared ---------------------------------.
//!                                                                  v
//! Desktop: navigation, shortcuts, messages -> a page: live | files | model | adapt | settings
//!                                             logic (always) and ui (when seen)
//! ```
//!
//! A page never waits: what takes time runs on a thread that asks for the next frame when there is something new to show.
//! Without anything new no frame is drawn.

mod adapt;
mod app;
mod asking;
mod context;
mod dialog;
mod files;
mod live;
mod model;
mod settings;
mod taggram;
#[cfg(test)]
mod testing;
mod theme;
mod widgets;

use anyhow::{Result, anyhow};
use eframe::egui;

use crate::args::DesktopArgs;
use crate::commands::Exit;
use app::Desktop;
use context::{Loaded, Shared};
use settings::Settings;

/// How the window opens.
const SIZE: [f32; 2] = [1_180.0, 760.0];
const MIN_SIZE: [f32; 2] = [640.0, 440.0];

/// Its sign.
const ICON: &[u8] = include_bytes!("../../packaging/icons/earmark-256.png");

/// Opens the window and returns when it is closed; a recording is finished by then.
///
/// # Errors
/// There is no display, or the model cannot be used.
pub fn run(args: DesktopArgs) -> Result<Exit> {
    let mut troubles = Vec::new();
    let path = settings::path();
    let settings = path.as_deref().map_or_else(|| Ok(Settings::default()), Settings::load).unwrap_or_else(|error| {
        troubles.push(format!("{error:#}"));
        Settings::default()
    });
    let loaded = match &settings.model {
        None => match crate::commands::profiles::in_use() {
            Ok(profile) => Loaded::open(profile.as_deref())?,
            Err(error) => {
                troubles.push(format!("{error:#}; the built-in model is used"));
                Loaded::open(None)?
            }
        },
        Some(file) => Loaded::open(Some(file)).or_else(|error| {
            troubles.push(format!("{error:#}; the built-in model is used"));
            Loaded::open(None)
        })?,
    };
    let mut shared = Shared::new(loaded, settings);
    troubles.into_iter().for_each(|trouble| shared.error(trouble));
    let icon = eframe::icon_data::from_png_bytes(ICON).unwrap_or_default();
    let viewport = egui::ViewportBuilder::default()
        .with_icon(icon)
        .with_app_id("earmark")
        .with_title("Earmark")
        .with_inner_size(SIZE)
        .with_min_inner_size(MIN_SIZE);
    // Without gradients there is nothing to dither, and on a software renderer every operation per pixel counts.
    let options = eframe::NativeOptions { viewport, dithering: false, ..eframe::NativeOptions::default() };
    let opened = eframe::run_native(
        "earmark",
        options,
        Box::new(move |creation| {
            close_on_signals(&creation.egui_ctx);
            Ok(Box::new(Desktop::new(&creation.egui_ctx, shared, path, args)?))
        }),
    );
    opened.map(|()| Exit::Done).map_err(|error| {
        let cause = match error {
            // What the system says of it names lines of source code.
            eframe::Error::WinitEventLoop(_) => {
                "there is no display (on Linux, DISPLAY or WAYLAND_DISPLAY names one)".to_owned()
            }
            error => error.to_string(),
        };
        anyhow!("no window can be opened: {cause}; earmark live and earmark tag need none (earmark --help)")
    })
}

/// Ctrl-C in the terminal, and a request to terminate, close the window as its button does: with the recording finished.
fn close_on_signals(ctx: &egui::Context) {
    let ctx = ctx.clone();
    // Without a handler the process ends at once, and what was recorded is there to the last second.
    let _ = ctrlc::set_handler(move || {
        ctx.send_viewport_cmd(egui::ViewportCommand::Close);
        ctx.request_repaint();
    });
}
