//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::app::{self, RunOptions};

/// Node daemon of a game-server host.
#[derive(Debug, Parser)]
#[command(name = "alula", version)]
struct Arguments {
    /// The node's configuration file.
    #[arg(long, default_value = crate::config::DEFAULT_PATH)]
    config: PathBuf,
    /// Log what happens in detail.
    #[arg(long)]
    debug: bool,
}

/// Runs what the command line says.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match app::run(&arguments.config, RunOptions { debug: arguments.debug, ignore_certificate_errors: false }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
