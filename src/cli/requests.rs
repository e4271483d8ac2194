//! `alula power`, `alula install` and `alula delete`: requests to the daemon about servers.

use std::io::{self, BufRead, IsTerminal, Write};

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::arguments::{Delete, Install, Power};
use super::error::CliError;
use super::node::Node;
use super::outcome::each;
use super::output::{Printer, notify};
use super::server::ServerView;
use crate::model::ManagedBy;

/// Requests a power action.
///
/// # Errors
/// No daemon runs, a name matches no server, or the daemon rejects a request.
pub async fn power(node: &Node, arguments: &Power, printer: Printer) -> Result<(), CliError> {
    let action = &arguments.action;
    let mut body = json!({"action": action});
    if let Some(timeout) = arguments.timeout {
        if !matches!(action.as_str(), "stop" | "restart") {
            return Err(CliError::Usage(format!("--timeout is for stop and restart, not for {action}")));
        }
        body["timeout"] = json!(timeout);
    }
    post(node, &arguments.targets.servers, "power", &body, &format!("{action} accepted"), printer).await
}

/// Requests installations, or their abortion.
///
/// # Errors
/// No daemon runs, a name matches no server, or the daemon rejects a request.
pub async fn install(node: &Node, arguments: &Install, printer: Printer) -> Result<(), CliError> {
    let (action, accepted) =
        if arguments.abort { ("abort", "abort accepted") } else { ("again", "installation accepted") };
    post(node, &arguments.targets.servers, "install", &json!({"action": action}), accepted, printer).await
}

async fn post(
    node: &Node,
    names: &[String],
    path: &str,
    body: &Value,
    accepted: &str,
    printer: Printer,
) -> Result<(), CliError> {
    let client = node.daemon()?;
    let body = Bytes::from(body.to_string());
    let request = async |server: &ServerView| {
        client.call(Method::POST, &format!("/local/servers/{}/{path}", server.uuid), body.clone()).await?;
        Ok(accepted)
    };
    each(&node.pick(names).await?, printer, request).await
}

/// Requests the deletion of servers, after a confirmation.
///
/// # Errors
/// No daemon runs, a name matches no server, the deletion is not confirmed, or the daemon rejects a request.
pub async fn delete(node: &Node, arguments: &Delete, printer: Printer) -> Result<(), CliError> {
    let client = node.daemon()?;
    let servers = node.pick(&arguments.targets.servers).await?;
    if !arguments.yes && !confirmed(&servers, arguments.now)? {
        notify("nothing was deleted");
        return Err(CliError::Reported);
    }
    let delete = async |server: &ServerView| {
        if !crate::requests::wanted(&server.requests) {
            return Ok("is being deleted already");
        }
        let path = format!("/local/servers/{}?now={}", server.uuid, arguments.now);
        client.call(Method::DELETE, &path, Bytes::new()).await?;
        Ok("deletion accepted")
    };
    let result = each(&servers, printer, delete).await;
    if !arguments.now {
        notify("files and local backups are kept for a day: `alula restore-deleted` brings them back");
    }
    if node.has_panel && servers.iter().any(is_listed_by_panel) {
        notify("a server that its panel still lists comes back with its next list; delete it there too");
    }
    result
}

fn is_listed_by_panel(server: &ServerView) -> bool {
    let of_panel = server.manifest.as_ref().is_some_and(|manifest| manifest.metadata.managed_by == ManagedBy::Panel);
    of_panel && server.record.parked.is_none()
}

/// Asks at the terminal whether the servers are to be deleted.
fn confirmed(servers: &[ServerView], now: bool) -> Result<bool, CliError> {
    for server in servers.iter().filter(|_| io::stdin().is_terminal()) {
        notify(&format!("{}  {}", server.uuid, server.name()));
    }
    let what = if servers.len() == 1 { "this server" } else { "these servers" };
    let how = if now { "with all files and containers, for good" } else { "and keep the files for a day" };
    confirm("delete", &format!("Delete {what} {how}?"))
}

/// Asks a question at the terminal. `action` is what needs the answer.
///
/// # Errors
/// There is no terminal, or it cannot be read.
pub fn confirm(action: &str, question: &str) -> Result<bool, CliError> {
    if !io::stdin().is_terminal() {
        let message = format!("refusing to {action} without confirmation: stdin is not a terminal (use --yes)");
        return Err(CliError::Usage(message));
    }
    let mut answer = String::new();
    write!(io::stderr(), "{question} [y/N] ")
        .and_then(|()| io::stderr().flush())
        .and_then(|()| io::stdin().lock().read_line(&mut answer))
        .map_err(|error| CliError::Failed(format!("cannot ask for confirmation, nothing was done: {error}")))?;
    Ok(is_yes(&answer))
}

/// Whether an answer confirms.
pub fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_y_and_yes_confirm() {
        assert!(["y\n", "Y", " yes \n", "YES"].into_iter().all(is_yes));
        assert!(!["", "\n", "n", "no", "ye", "yess", "j"].into_iter().any(is_yes));
    }
}
