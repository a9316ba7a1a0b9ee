//! The desktop from outside: what happens where there is no screen, and that the program says how to open one.

#![cfg(feature = "gui")]
#![allow(clippy::unwrap_used)]

use std::process::Command;

fn earmark() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_earmark"));
    let home = std::env::temp_dir();
    command.env("HOME", &home).env("XDG_CONFIG_HOME", home.join("earmark-no-settings"));
    command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").env_remove("WAYLAND_SOCKET");
    command
}

/// Elsewhere there is always a screen to ask.
#[cfg(target_os = "linux")]
#[test]
fn without_a_display_it_says_what_needs_none() {
    let output = earmark().output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("earmark live and earmark tag need none"), "{err}");
}

#[test]
fn the_help_says_that_the_desktop_opens_without_a_command() {
    let output = earmark().arg("--help").output().unwrap();
    let help = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    assert!(help.contains("Without a command the desktop opens"), "{help}");
}
