//! Earmark listens to music, also under applause, talk and street noise, and says what it hears.
//!
//! ```text
//! args (what was written) -> settings (what holds) -> commands -> tagging, many at a time (batch) -> output
//!                                                                     `- journal: what is done is kept
//!                                                                     `- file_tags: written into the files themselves
//! ```
//!
//! A file that cannot be tagged is reported and the rest goes on; what makes the whole run impossible is returned as an
//! error up to here, printed once, and ends the process with the code for usage.

mod args;
mod batch;
mod commands;
mod console;
#[cfg(feature = "gui")]
mod desktop;
mod file_tags;
mod inputs;
mod isolate;
mod journal;
mod kept;
mod output;
mod places;
mod progress;
mod report;
mod session;
mod settings;
mod shard;
mod tagging;
mod thresholds;
mod view;
mod worker;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
#[cfg(not(feature = "gui"))]
use clap::CommandFactory;
use clap::Parser;

use crate::args::{Cli, Command};
use crate::commands::Exit;
use crate::console::Console;
use crate::settings::{LiveSettings, TagSettings};

fn main() -> ExitCode {
    let exit = run(Cli::parse()).unwrap_or_else(|error| {
        Console::new(false).error(format!("{error:#}"));
        Exit::Usage
    });
    exit.into()
}

fn run(cli: Cli) -> Result<Exit> {
    match cli.command {
        #[cfg(feature = "gui")]
        None => desktop::run(args::DesktopArgs::default()),
        #[cfg(feature = "gui")]
        Some(Command::Desktop(args)) => desktop::run(args),
        #[cfg(not(feature = "gui"))]
        None => {
            let help = Cli::command().render_long_help();
            commands::print(help.to_string().as_bytes())?;
            Ok(Exit::Done)
        }
        Some(Command::Tag(args)) => {
            let file = settings::read_file(cli.config.as_deref(), |name| env::var_os(name).map(PathBuf::from))?;
            let mut settings = TagSettings::resolve(args, file.tag)?;
            commands::profiles::take_in_use(&mut settings.model, &Console::new(settings.quiet))?;
            commands::tag::run(&settings)
        }
        Some(Command::Merge(args)) => commands::merge::run(&args),
        Some(Command::TagAlone(args)) => isolate::run(&args),
        Some(Command::Undo(args)) => commands::undo::run(&args),
        Some(Command::Live(args)) => {
            let file = settings::read_file(cli.config.as_deref(), |name| env::var_os(name).map(PathBuf::from))?;
            let mut settings = LiveSettings::resolve(args, file.live)?;
            commands::profiles::take_in_use(&mut settings.model, &Console::new(settings.quiet))?;
            commands::live::run(&settings)
        }
        #[cfg(feature = "gpu")]
        Some(Command::Adapt(args)) => commands::adapt::run(&args),
        Some(Command::Profiles(args)) => commands::profiles::run(args),
        Some(Command::Export(args)) => commands::export::run(&args),
        #[cfg(feature = "gpu")]
        Some(Command::Devices(args)) => commands::devices::run(&args),
        Some(Command::Model(command)) => commands::model::run(command),
        Some(Command::Completions { shell }) => commands::completions::run(shell),
    }
}
