//! `earmark completions`.

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;

use super::Exit;
use crate::args::Cli;

/// Prints the completions of the whole command line for `shell`.
///
/// # Errors
/// If they cannot be written.
pub fn run(shell: Shell) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "earmark", &mut script);
    super::print(&script)?;
    Ok(Exit::Done)
}
