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
mod context;
mod dialog;
mod files;
mod live;
mod model;
mod settings;
mod taggram;
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
    let viewport = egui::ViewportBuilder::default()
        .with_app_id("earmark")
        .with_title("Earmark")
        .with_inner_size(SIZE)
        .with_min_inner_size(MIN_SIZE);
    let options = eframe::NativeOptions { viewport, ..eframe::NativeOptions::default() };
    let opened = eframe::run_native(
        "earmark",
        options,
        Box::new(move |creation| Ok(Box::new(Desktop::new(&creation.egui_ctx, shared, path, args)?))),
    );
    opened.map(|()| Exit::Done).map_err(|error| {
        anyhow!("no window can be opened: {error}; earmark live and earmark tag need none (earmark --help)")
    })
}
