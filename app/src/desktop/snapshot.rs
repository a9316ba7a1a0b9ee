//! Pictures of pages, compared with those that lie beside the code. `UPDATE_SNAPSHOTS=1` writes them.

use std::panic::{self, AssertUnwindSafe};

use egui_kittest::{Harness, SnapshotOptions};

/// Pixels of a picture that may differ.
const MAX_PIXELS: usize = 60;

/// Compares what `harness` shows with the picture called `name`; where nothing can be drawn, says so.
#[track_caller]
pub fn compare<State>(harness: &mut Harness<'_, State>, name: &str) {
    let drawn = panic::catch_unwind(AssertUnwindSafe(|| harness.render()));
    if !matches!(drawn, Ok(Ok(_))) {
        eprintln!("SKIPPED: there is no graphics adapter, not even in software: the picture {name} is NOT compared");
        return;
    }
    // Another version of the renderer rounds some pixels of an outline differently; a changed word is hundreds.
    let options = SnapshotOptions::new().output_path("src/desktop/snapshots").max_failed_pixels(MAX_PIXELS);
    harness.snapshot_options(name, &options);
}
