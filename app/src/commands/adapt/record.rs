//! `earmark adapt record`: some minutes of the room, as `earmark live` hears it, into a FLAC file.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use super::super::{Exit, live};
use crate::args::{AdaptRecordArgs, LiveArgs, LiveFormat, LiveOptions};
use crate::console::Console;
use crate::inputs::shown;
use crate::output::timestamp;
use crate::settings::LiveSettings;

/// Records.
///
/// # Errors
/// The folder that cannot be made, or what makes listening impossible.
pub fn run(args: &AdaptRecordArgs) -> Result<Exit> {
    fs::create_dir_all(&args.out).with_context(|| format!("cannot make the folder {}", shown(&args.out)))?;
    let file = args.out.join(file_name(SystemTime::now()));
    let live_args = LiveArgs {
        list: false,
        system: args.system,
        file: args.file.clone(),
        speed: args.speed,
        play: false,
        record: None,
        audio: Some(file.clone()),
        duration: Some(args.duration),
        options: LiveOptions {
            input: args.input.clone(),
            quiet: Some(args.quiet),
            format: Some(LiveFormat::Human),
            ..LiveOptions::default()
        },
    };
    let console = Console::new(args.quiet);
    let duration = Duration::from_secs_f64(args.duration.clamp(0.0, 1e9));
    console.note(format!("recording the room for {:.0} s; no music needs to play", duration.as_secs_f64()));
    let exit = live::run(&LiveSettings::resolve(live_args, LiveOptions::default())?)?;
    if let Ok(metadata) = fs::metadata(&file) {
        let (size, all) = (metadata.len() as f64 / 1e6, folder_bytes(&args.out) as f64 / 1e6);
        console.note(format!("{size:.1} MB, the folder now holds {all:.1} MB; it stays on this machine"));
    }
    Ok(exit)
}

/// A name that sorts by time and is legal everywhere.
fn file_name(moment: SystemTime) -> String {
    let stamp: String = timestamp(moment).chars().filter(char::is_ascii_digit).take(14).collect();
    format!("room-{}-{}.flac", &stamp[..8], &stamp[8..])
}

/// Bytes of the files in a folder.
fn folder_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).filter(fs::Metadata::is_file).map(|metadata| metadata.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_are_named_after_their_time() {
        let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert_eq!(file_name(moment), "room-20231114-221320.flac");
    }
}
