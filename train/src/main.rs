//! The binary `train`: parses the command line, calls the library, prints.

mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use earmark_train::comparison::{self, ReportArgs};
use earmark_train::doctor::{self, DoctorArgs};

use crate::commands::evaluate::{EvaluateArgs, MetricsArgs};
use crate::commands::export::ExportArgs;
use crate::commands::train::TrainArgs;
use crate::commands::{Failure, evaluate, export, train};

/// Trains Earmark's networks and measures them.
///
/// Exit codes: 0 done (or interrupted with its state saved), 1 failed, 2 wrong usage or configuration.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    train: TrainArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Look for what is wrong with data sets: missing, damaged, duplicate and leaking files. Exit code 1: broken.
    Doctor(DoctorArgs),
    /// Measure a model on a split, clean and in noise: macro ROC-AUC and average precision, clip and window level.
    Evaluate(EvaluateArgs),
    /// Join records of `evaluate --json` into tables and plots, as Markdown and as one HTML page.
    Report(ReportArgs),
    /// Measure a file of scores that `evaluate --scores` wrote.
    Metrics(MetricsArgs),
    /// Write the weights of a run as a model file.
    Export(ExportArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => train::run(&cli.train),
        Some(Command::Doctor(args)) => match doctor::run(&args) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::from(1),
            Err(error) => Err(error.into()),
        },
        Some(Command::Evaluate(args)) => evaluate::run(&args),
        Some(Command::Report(args)) => report(&args).map_err(Failure::from),
        Some(Command::Metrics(args)) => evaluate::metrics(&args).map_err(Failure::from),
        Some(Command::Export(args)) => export::run(&args).map_err(Failure::from),
    };
    let (error, code) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Failed(error)) => (error, 1),
        Err(Failure::Usage(error)) => (error, 2),
    };
    eprintln!("train: {error:#}");
    ExitCode::from(code)
}

fn report(args: &ReportArgs) -> anyhow::Result<()> {
    let [markdown, html] = comparison::run(args)?;
    println!("{}\n{}", markdown.display(), html.display());
    Ok(())
}
