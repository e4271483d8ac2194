//! `alula delete`: servers that shall be no more, with their files.

use std::io::{self, BufRead, IsTerminal, Write};

use bytes::Bytes;
use http::Method;

use super::arguments::Delete;
use super::client::Client;
use super::done::Outcomes;
use super::error::CliError;
use super::node::Node;
use super::output::{Printer, tell};
use super::server::ServerView;
use crate::model::ManagedBy;

/// Asks for the deletion of servers.
///
/// # Errors
/// No daemon runs, a name is no server's, the deletion cannot be confirmed, or the daemon refuses.
pub async fn run(node: &Node, arguments: &Delete, printer: Printer) -> Result<(), CliError> {
    let client = node.daemon()?;
    let servers = node.pick(&arguments.servers).await?;
    if !arguments.yes && !confirmed(&servers)? {
        tell("nothing was deleted");
        return Err(CliError::Reported);
    }
    let outcomes = Outcomes::of(&servers, printer, async |server| delete(client, server).await).await;
    if node.config.panel.is_some() && servers.iter().any(known_to_panel) {
        tell("a server that its panel still lists comes back with its next list; delete it there too");
    }
    outcomes.end()
}

fn known_to_panel(server: &ServerView) -> bool {
    let of_panel = server.manifest.as_ref().is_some_and(|manifest| manifest.metadata.managed_by == ManagedBy::Panel);
    of_panel && server.record.parked.is_none()
}

/// Asks the person at the terminal.
fn confirmed(servers: &[ServerView]) -> Result<bool, CliError> {
    if !io::stdin().is_terminal() {
        let message = "nobody can be asked here whether this is meant; say so with --yes";
        return Err(CliError::Usage(message.into()));
    }
    for server in servers {
        tell(&format!("{}  {}", server.uuid, server.name()));
    }
    let what = if servers.len() == 1 { "this server" } else { "these servers" };
    let ask = write!(io::stderr(), "Delete {what} with all files and containers, for good? [y/N] ");
    ask.and_then(|()| io::stderr().flush())
        .map_err(|error| CliError::Failed(format!("nobody could be asked, so nothing was deleted: {error}")))?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(|error| CliError::Failed(format!("no answer: {error}")))?;
    Ok(is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

async fn delete(client: &Client, server: &ServerView) -> Result<&'static str, CliError> {
    if !crate::requests::wanted(&server.requests) {
        return Ok("is being deleted already");
    }
    client.call(Method::DELETE, &format!("/local/servers/{}", server.uuid), Bytes::new()).await?;
    Ok("deletion accepted")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_is_one() {
        assert!(["y\n", "Y", " yes \n", "YES"].into_iter().all(is_yes));
        assert!(!["", "\n", "n", "no", "ye", "yess", "j"].into_iter().any(is_yes));
    }
}
