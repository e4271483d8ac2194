//! Waits for the end of an operation, with its progress on a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use uuid::Uuid;

use super::super::error::CliError;
use super::super::node::Node;
use super::super::operations::{self, OperationView};
use super::super::output::bytes;
use super::super::server::ServerView;
use super::{Known, known};
use crate::progress::Speed;

/// The time between two questions to the daemon.
const INTERVAL: Duration = Duration::from_millis(300);

/// Waits for a backup. Returns its message.
///
/// # Errors
/// It fails or is removed, or the daemon does not answer.
pub async fn for_backup(node: &Node, server: &ServerView, id: Uuid) -> Result<String, CliError> {
    let ended = |known: &Known| match known.backups.iter().find(|backup| backup.id == id) {
        None => Some(Err(CliError::Failed(format!("the backup {id} was removed before it was complete")))),
        Some(backup) => backup.result.as_ref().map(|result| match result.succeeded {
            true => Ok(result.message.clone()),
            false => Err(CliError::Failed(format!("the backup {id} has failed: {}", result.message))),
        }),
    };
    until(node, server, &format!("backup:{id}"), ended).await
}

/// Waits for a restore. Returns its message.
///
/// # Errors
/// It fails or another one takes its place, or the daemon does not answer.
pub async fn for_restore(node: &Node, server: &ServerView, token: Uuid) -> Result<String, CliError> {
    let ended = |known: &Known| match known.restore.as_ref().filter(|restore| restore.token == token) {
        None => Some(Err(CliError::Failed("another restore has taken the place of this one".to_owned()))),
        Some(restore) => restore.result.as_ref().map(|result| match result.succeeded {
            true => Ok(result.message.clone()),
            false => Err(CliError::Failed(format!("it has failed, and the files are as before: {}", result.message))),
        }),
    };
    until(node, server, &format!("restore:{token}"), ended).await
}

/// Waits for a verification. Returns whether the archive is intact, and a message.
///
/// # Errors
/// The backup is removed, or the daemon does not answer.
pub async fn for_verification(node: &Node, server: &ServerView, id: Uuid) -> Result<(bool, String), CliError> {
    let ended = |known: &Known| match known.backups.iter().find(|backup| backup.id == id) {
        None => Some(Err(CliError::Failed(format!("the backup {id} was removed before it was verified")))),
        Some(backup) if backup.verifying => None,
        Some(backup) => backup.verified.as_ref().map(|verified| Ok((verified.ok, verified.message.clone()))),
    };
    until(node, server, &format!("backup:{id}"), ended).await
}

async fn until<T>(
    node: &Node,
    server: &ServerView,
    subject: &str,
    mut ended: impl FnMut(&Known) -> Option<Result<T, CliError>>,
) -> Result<T, CliError> {
    let terminal = io::stderr().is_terminal();
    let clear = || {
        if terminal {
            // Without a terminal that can be written there is nothing to clear.
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    };
    loop {
        if let Some(end) = ended(&known(node, server).await?) {
            clear();
            return end;
        }
        if terminal {
            let running = operations::running(node).await?;
            let found = running.iter().find(|running| running.server == server.uuid && running.subject == subject);
            clear();
            let _ = write!(io::stderr(), "{}", found.map_or("waiting".to_owned(), line));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn line(running: &OperationView) -> String {
    let speed = Speed::of(running.done, running.total, running.seconds);
    let percent = speed.percent.map(|percent| format!("{percent} %, ")).unwrap_or_default();
    let left = speed.left.map(|left| format!(", {left} s left")).unwrap_or_default();
    format!("{}: {percent}{}, {}/s{left}", running.kind, bytes(running.done), bytes(speed.rate))
}
