//! The command line: arguments in, text on standard output and an exit code out.
//!
//! Commands about servers use the daemon's unix socket. Commands that only read use the state folder if no daemon runs
//! (see `node`). Data goes to standard output, everything else to standard error. Exit codes: 0; 1 for a failure; 2 for a wrong
//! command line.
//!
//! This module does not know the daemon itself: [`main`] gets the functions that run it and check its start.

mod about;
mod adopt;
mod apply;
mod arguments;
mod backup;
mod client;
mod configure;
mod cp;
mod describe;
mod diagnostics;
mod error;
mod events;
#[cfg(test)]
mod examples;
mod export;
mod get;
mod logs;
mod node;
mod operations;
mod outcome;
mod output;
mod plan;
mod requests;
mod server;
mod trash;
mod validate;

use std::path::Path;
use std::process::ExitCode;

use crate::clock::Clock;
use crate::config::{Loaded, Problem};
use crate::telemetry;
use arguments::{Arguments, Command, NodeArguments};
use error::CliError;
use node::Node;
use output::Printer;

pub use arguments::RunOptions;
pub use error::chain;

/// Executes the command line of this process. `daemon` runs the daemon with a configuration file until a signal ends it, and `check`
/// finds what would keep it from starting.
pub fn main(
    daemon: impl FnOnce(&Path, &RunOptions) -> anyhow::Result<()>,
    check: impl AsyncFn(&Loaded) -> Vec<Problem>,
) -> ExitCode {
    match Arguments::read().and_then(|arguments| execute(arguments, daemon, check)) {
        Ok(()) | Err(CliError::Closed) => ExitCode::SUCCESS,
        Err(CliError::Reported) => ExitCode::FAILURE,
        Err(error) => {
            // Line by line: a message on standard error has one line.
            format!("error: {error}").lines().for_each(output::notify);
            if matches!(error, CliError::Usage(_)) { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

fn execute(
    arguments: Arguments,
    daemon: impl FnOnce(&Path, &RunOptions) -> anyhow::Result<()>,
    check: impl AsyncFn(&Loaded) -> Vec<Problem>,
) -> Result<(), CliError> {
    let is_command = !matches!(arguments.command, None | Some(Command::Run(_)));
    let Arguments { node, run, output, command } = arguments;
    let node = node.or_environment(is_command, |name| std::env::var_os(name));
    let more = match command {
        None => RunOptions::default(),
        Some(Command::Run(more)) => more,
        Some(_) if run != RunOptions::default() => {
            let message =
                "--debug, --ignore-certificate-errors and --auto-tls with its options are options of `alula run`";
            return Err(CliError::Usage(message.into()));
        }
        Some(command) => {
            telemetry::warnings_to_stderr();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| CliError::Failed(format!("cannot start the asynchronous runtime: {error}")))?;
            return runtime.block_on(perform(&node, &command, Printer::new(output, Clock::System.now()), check));
        }
    };
    let options = run.and(more);
    daemon(&node::config_path(&node)?, &options).map_err(|error| CliError::Failed(error::chain(&error)))
}

async fn perform(
    node: &NodeArguments,
    command: &Command,
    printer: Printer,
    check: impl AsyncFn(&Loaded) -> Vec<Problem>,
) -> Result<(), CliError> {
    let open = async || Node::open(node).await;
    match command {
        // Handled by the caller.
        Command::Run(_) => Ok(()),
        Command::Configure(wanted) => configure::run(node, wanted).await,
        Command::Get(select) => get::run(&open().await?, select, printer).await,
        Command::Describe(one) => describe::run(&open().await?, one, printer).await,
        Command::Plan(select) => plan::run(&open().await?, select, printer).await,
        Command::Validate(files) => validate::run(files, printer, check).await,
        // The flag is required.
        Command::Adopt(_) => adopt::run(node, printer, check).await,
        Command::Apply(files) => apply::run(node, files, printer).await,
        Command::Install(install) => requests::install(&open().await?, install, printer).await,
        Command::Power(power) => requests::power(&open().await?, power, printer).await,
        Command::Delete(delete) => requests::delete(&open().await?, delete, printer).await,
        Command::RestoreDeleted(wanted) => trash::run(&open().await?, wanted, printer).await,
        Command::Export(wanted) => export::export(&open().await?, wanted).await,
        Command::Import => export::import(&open().await?, printer).await,
        Command::Events(events) => events::run(open().await?, events, printer).await,
        Command::Logs(logs) => logs::run(&open().await?, logs, printer).await,
        Command::Cp(copy) => cp::run(&open().await?, copy, printer).await,
        Command::Backup(backup) => backup::run(&open().await?, backup, printer).await,
        Command::Diagnostics(contents) => diagnostics::run(node, contents, printer).await,
        Command::Version => about::version(printer),
        Command::Completions { shell } => about::completions(*shell),
        Command::Schema => about::schema(),
    }
}
