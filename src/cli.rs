//! The command line: what people type comes in, text on standard output and an exit code go out.
//!
//! Commands about servers go through the daemon's unix socket; where it does not run, those that read do so from the state
//! folder (`node` finds out). One file for each command; `output` is how everything is printed. Data goes to standard
//! output, everything else to standard error. Exit codes: 0, 1 for what failed, 2 for a command line without sense.
//!
//! The daemon itself is not known here: [`main`] is given the function that runs it.

mod about;
mod apply;
mod arguments;
mod client;
mod delete;
mod describe;
mod done;
mod error;
mod events;
#[cfg(test)]
mod examples;
mod get;
mod install;
mod logs;
mod node;
mod output;
mod plan;
mod power;
mod server;
mod validate;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::clock::Clock;
use crate::telemetry;
use arguments::{Arguments, Command, NodeArguments, RunOptions};
use error::CliError;
use node::Node;
use output::Printer;

/// How the daemon is to run.
#[derive(Debug)]
pub struct DaemonRequest {
    /// The node's configuration file.
    pub config: PathBuf,
    /// Log what happens in detail.
    pub debug: bool,
    /// Believe any certificate of the panel.
    pub ignore_certificate_errors: bool,
}

/// Does what the command line says; `daemon` runs the daemon until it is told to end.
pub fn main(daemon: impl FnOnce(DaemonRequest) -> anyhow::Result<()>) -> ExitCode {
    match execute(Arguments::parse(), daemon) {
        Ok(()) | Err(CliError::Closed) => ExitCode::SUCCESS,
        Err(CliError::Reported) => ExitCode::FAILURE,
        Err(error) => {
            for (number, line) in error.to_string().lines().enumerate() {
                output::tell(&if number == 0 { format!("error: {line}") } else { line.to_owned() });
            }
            if matches!(error, CliError::Usage(_)) { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

fn execute(arguments: Arguments, daemon: impl FnOnce(DaemonRequest) -> anyhow::Result<()>) -> Result<(), CliError> {
    let Arguments { node, run, command } = arguments;
    if let Some(rejection) = run.foreign.rejection() {
        return Err(CliError::Usage(rejection));
    }
    let command = match command {
        None => return run_daemon(&node, &[&run], daemon),
        Some(Command::Run(more)) => return run_daemon(&node, &[&run, &more], daemon),
        Some(command) => command,
    };
    if run.debug || run.ignore_certificate_errors {
        return Err(CliError::Usage("--debug and --ignore-certificate-errors are options of `alula run`".into()));
    }
    telemetry::warnings_to_stderr();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::Failed(format!("cannot start the asynchronous runtime: {error}")))?;
    runtime.block_on(perform(&node, &command))
}

fn run_daemon(
    node: &NodeArguments,
    options: &[&RunOptions],
    daemon: impl FnOnce(DaemonRequest) -> anyhow::Result<()>,
) -> Result<(), CliError> {
    if let Some(rejection) = options.iter().find_map(|options| options.foreign.rejection()) {
        return Err(CliError::Usage(rejection));
    }
    let request = DaemonRequest {
        config: node::config_path(node)?,
        debug: options.iter().any(|options| options.debug),
        ignore_certificate_errors: options.iter().any(|options| options.ignore_certificate_errors),
    };
    daemon(request).map_err(|error| CliError::Failed(format!("{error:#}")))
}

async fn perform(node: &NodeArguments, command: &Command) -> Result<(), CliError> {
    let printer = |format| Printer::new(format, Clock::System.now());
    let open = || Node::open(node);
    match command {
        // Taken care of before.
        Command::Run(_) => Ok(()),
        Command::Get(select) => get::run(&open()?, select, printer(select.output.output)).await,
        Command::Describe(one) => describe::run(&open()?, one, printer(one.output.output)).await,
        Command::Plan(select) => plan::run(&open()?, select, printer(select.output.output)).await,
        Command::Validate(files) => validate::run(files, printer(files.output.output)),
        Command::Apply(files) => apply::run(node, files, printer(files.output.output)).await,
        Command::Install(install) => install::run(&open()?, install, printer(install.output.output)).await,
        Command::Power(power) => power::run(&open()?, power, printer(power.output.output)).await,
        Command::Delete(delete) => delete::run(&open()?, delete, printer(delete.output.output)).await,
        Command::Events(events) => events::run(open()?, events, printer(events.output.output)).await,
        Command::Logs(logs) => logs::run(&open()?, logs, printer(logs.output.output)).await,
        Command::Version(output) => about::version(output, printer(output.output)),
        Command::Completions { shell } => about::completions(*shell),
        Command::Schema => about::schema(),
    }
}
