//! `alula logs`: the output of a server or its installer, and new output with `--follow`.

use std::io::{self, IsTerminal};

use anstream::adapter::strip_str;
use futures_util::TryStreamExt;
use serde::Serialize;

use super::arguments::Logs;
use super::error::CliError;
use super::node::{Endpoint, Node};
use super::output::{Format, Printer, clean, notify, print_bytes};
use super::server::ServerView;
use crate::console::TRANSCRIPT_FILE;
use crate::files::Layout;
use crate::files::install_log;
use crate::files::log::LogReader;
use crate::model::ServerId;

/// A line, in JSON and YAML.
#[derive(Serialize)]
struct Line<'a> {
    uuid: ServerId,
    line: &'a str,
}

/// Prints a server's log.
///
/// # Errors
/// The name matches no server, the log cannot be read, or `--follow` is given and no daemon runs.
pub async fn run(node: &Node, arguments: &Logs, printer: Printer) -> Result<(), CliError> {
    let servers = node.pick(std::slice::from_ref(&arguments.one.server)).await?;
    let Some(ServerView { uuid, .. }) = servers.first() else { return Ok(()) };
    let mut output = Output::new(*uuid, printer);
    match &node.endpoint {
        Endpoint::Daemon(client) => {
            let Logs { install, follow, tail, .. } = arguments;
            let tail = tail.map(|lines| format!("&tail={lines}")).unwrap_or_default();
            let path = format!("/local/servers/{uuid}/logs?install={install}&follow={follow}{tail}");
            let mut text = client.stream(&path).await?;
            while let Some(piece) = text.try_next().await.map_err(|error| client.lost(&error))? {
                output.add(&piece)?;
            }
        }
        Endpoint::Folder(..) if arguments.follow => {
            return Err(node.no_daemon(
                ", so there is nothing to follow; start it (`alula run`), or leave --follow out to read what was written",
            ));
        }
        Endpoint::Folder(_, config) => {
            node.warn_without_daemon("this is what was written down last");
            if let Some(mut log) = open(&Layout::new(config), *uuid, arguments)? {
                loop {
                    let piece = log.next_piece().map_err(unreadable)?;
                    if piece.is_empty() {
                        break;
                    }
                    output.add(&piece)?;
                }
            }
        }
    }
    output.finish()?;
    if arguments.follow {
        notify("the stream has ended: the daemon has, or the server is deleted");
    } else if output.is_empty {
        notify(match arguments.install {
            true => "there is no install log with output",
            false => "the server has printed nothing yet",
        });
    }
    Ok(())
}

fn open(layout: &Layout, id: ServerId, arguments: &Logs) -> Result<Option<LogReader>, CliError> {
    let mut log = if arguments.install {
        install_log::output(layout, id).map_err(|error| CliError::Failed(error.to_string()))?
    } else {
        LogReader::open(&layout.logs(id).join(TRANSCRIPT_FILE)).map_err(unreadable)?
    };
    if let (Some(log), Some(lines)) = (&mut log, arguments.tail) {
        log.skip_to_last(lines).map_err(unreadable)?;
    }
    Ok(log)
}

fn unreadable(error: io::Error) -> CliError {
    CliError::Failed(format!("cannot read the log: {error}"))
}

/// Prints a log: unchanged if standard output is no terminal, otherwise line by line and without control characters.
struct Output {
    uuid: ServerId,
    printer: Printer,
    terminal: bool,
    /// The beginning of an incomplete line.
    rest: Vec<u8>,
    is_empty: bool,
}

impl Output {
    fn new(uuid: ServerId, printer: Printer) -> Self {
        Self { uuid, printer, terminal: io::stdout().is_terminal(), rest: Vec::new(), is_empty: true }
    }

    fn add(&mut self, piece: &[u8]) -> Result<(), CliError> {
        self.is_empty = false;
        if self.printer.format == Format::Table && !self.terminal {
            return print_bytes(piece);
        }
        self.rest.extend_from_slice(piece);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
        let rest = self.rest.split_off(end + 1);
        let lines = std::mem::replace(&mut self.rest, rest);
        let text: Result<String, CliError> =
            lines[..end].split(|byte| *byte == b'\n').map(|line| self.line(line)).collect();
        print_bytes(text?.as_bytes())
    }

    /// Prints an incomplete last line.
    fn finish(&mut self) -> Result<(), CliError> {
        match std::mem::take(&mut self.rest) {
            rest if rest.is_empty() => Ok(()),
            rest => print_bytes(self.line(&rest)?.as_bytes()),
        }
    }

    fn line(&self, line: &[u8]) -> Result<String, CliError> {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end_matches('\r');
        self.printer.item(&Line { uuid: self.uuid, line }, || plain(line) + "\n")
    }
}

/// A line without control sequences.
fn plain(line: &str) -> String {
    clean(&strip_str(line).to_string()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_control_sequences() {
        assert_eq!(plain("\u{1b}[31mred\u{1b}[0m and \u{1b}]0;title\u{7}\tplain"), "red and  plain");
        assert_eq!(plain("50%\r100%"), "50% 100%");
    }
}
