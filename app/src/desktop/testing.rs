//! What tests of pages share: waiting for what a thread does, and pictures, compared with those that lie beside the code
//! (`UPDATE_SNAPSHOTS=1` writes them).

use std::panic::{self, AssertUnwindSafe};
use std::thread;
use std::time::{Duration, Instant};

use egui_kittest::{Harness, SnapshotOptions};

/// How long anything may take in real time before a test fails.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Pixels of a picture that may differ: another version of the renderer rounds some of an outline differently.
const MAX_PIXELS: usize = 40;

/// Frames pass until something is so.
#[track_caller]
pub fn until<State>(
    harness: &mut Harness<'_, State>,
    what: &str,
    mut is_so: impl FnMut(&mut Harness<'_, State>) -> bool,
) {
    let end = Instant::now() + PATIENCE;
    loop {
        harness.step();
        if is_so(harness) {
            return;
        }
        assert!(Instant::now() < end, "{what} never came; there is: {:?}", harness.root());
        thread::sleep(Duration::from_millis(5));
    }
}

/// Compares what `harness` shows with the picture called `name`; where nothing can be drawn, says so.
#[track_caller]
pub fn compare<State>(harness: &mut Harness<'_, State>, name: &str) {
    let drawn = panic::catch_unwind(AssertUnwindSafe(|| harness.render()));
    if !matches!(drawn, Ok(Ok(_))) {
        eprintln!("SKIPPED: there is no graphics adapter, not even in software: the picture {name} is NOT compared");
        return;
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/desktop/snapshots");
    let options = SnapshotOptions::new().output_path(folder).max_failed_pixels(MAX_PIXELS);
    harness.snapshot_options(name, &options);
}
