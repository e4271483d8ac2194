//! `alula diagnostics`: a report about the node, also where no daemon runs or the configuration is broken.

use std::path::Path;
use std::sync::Arc;

use super::arguments::{Diagnostics, NodeArguments};
use super::client::Client;
use super::error::CliError;
use super::output::{Printer, notify};
use super::{node, plan};
use crate::clock::Clock;
use crate::config::{self, ConfigError, ConfigFile, DEFAULT_PATH, NodeConfig};
use crate::diagnostics::{Contents, EngineAnswers, Known, Report, log_tail};
use crate::runtime::docker::DockerRuntime;

/// Prints the report of the daemon, or one of what can be found out without it.
///
/// # Errors
/// Standard output is closed or cannot be written.
pub async fn run(arguments: &NodeArguments, wanted: &Diagnostics, printer: Printer) -> Result<(), CliError> {
    let log_lines = (!wanted.no_logs).then_some(wanted.log_lines);
    let contents = Contents { endpoints: wanted.include_endpoints, log_lines };
    let config = match &arguments.socket {
        Some(_) => Err("the daemon that its socket names does not answer".to_owned()),
        None => node::config_of(arguments).map_err(|error| reason(&error)),
    };
    let socket = arguments.socket.as_deref().or(config.as_ref().ok().map(|node| node.directories.socket.as_path()));
    let report = match of_daemon(socket, contents).await {
        Some(report) => report,
        None => without_daemon(config, contents).await,
    };
    printer.print(&report, || report.text())
}

/// The message about a configuration. That of an invalid file may quote it, and the file has tokens.
fn reason(error: &CliError) -> String {
    match error {
        CliError::Config(ConfigError::Invalid { path, faults }) => {
            let line = faults.iter().find_map(|fault| fault.line);
            let line = line.map(|line| format!("; the first error is in line {line}")).unwrap_or_default();
            let path = path.display();
            format!("{path} is not valid{line}; `alula validate {path}` shows what is wrong")
        }
        error => error.to_string(),
    }
}

async fn of_daemon(socket: Option<&Path>, contents: Contents) -> Option<Report> {
    let answer = async {
        let client = Client::find(socket?).transpose()?;
        let lines = contents.log_lines.map(|lines| format!("&log_lines={lines}")).unwrap_or_default();
        let (endpoints, logs) = (contents.endpoints, contents.log_lines.is_some());
        let path = format!("/local/diagnostics?include_endpoints={endpoints}&include_logs={logs}{lines}");
        Some(match client {
            Ok(client) => client.get(&path).await,
            Err(error) => Err(error),
        })
    };
    answer.await?.inspect_err(|error| notify(&format!("the report is made without the daemon: {error}"))).ok()
}

async fn without_daemon(config: Result<NodeConfig, String>, contents: Contents) -> Report {
    let log = match (&config, contents.log_lines) {
        (Ok(node), Some(lines)) => log_tail(node, lines),
        (Ok(_), None) => Ok(Vec::new()),
        (Err(_), _) => Err("the configuration, which names the folder of the log, cannot be read".into()),
    };
    let engine = match runtime(config.as_ref().ok().cloned()) {
        Ok(runtime) => EngineAnswers::of(&runtime).await,
        Err(why) => EngineAnswers::none(&why),
    };
    let node = config.as_ref().map_err(Clone::clone);
    let known =
        Known { now: Clock::System.now(), node, engine, conditions: None, not_applied: None, servers: Vec::new(), log };
    Report::new(&known, contents)
}

/// The engine of a node, or of one with defaults.
fn runtime(node: Option<NodeConfig>) -> Result<DockerRuntime, String> {
    let defaults = || {
        let owner = config::host::current_user();
        let node = NodeConfig::resolve(&ConfigFile::default(), Path::new(DEFAULT_PATH), &|_| None, owner, "UTC".into());
        node.map_err(|_| "the engine cannot be asked without a configuration".to_owned())
    };
    let node = node.map_or_else(defaults, Ok)?;
    plan::engine(&Arc::new(node)).map_err(|error| error.to_string())
}
