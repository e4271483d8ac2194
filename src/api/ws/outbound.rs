//! Events as frames, and who gets them. Pure. Source: websocket, "Outbound events" and "Daemon notices".

use bytes::Bytes;

use crate::events::EventKind;
use crate::events::frames::{CONSOLE_OUTPUT, frame};

/// The permission to see the output of an installation.
const SEE_INSTALL: &str = "admin.websocket.install";
/// The permission to see how a transfer goes.
const SEE_TRANSFER: &str = "admin.websocket.transfer";
/// The permission to see backups.
const SEE_BACKUPS: &str = "backup.read";
/// The text at the beginning of an installation.
const INSTALLING: &str = "Starting installation process, this could take a few minutes...";

/// Which sockets get an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// All that have a token.
    All,
    /// Those whose token has this permission, too.
    With(&'static str),
}

/// Who gets an event; `None` for those that are not for browsers.
pub fn audience(event: &EventKind) -> Option<Audience> {
    match event {
        EventKind::Event { .. } | EventKind::Condition { .. } | EventKind::Suspended => None,
        EventKind::Install(_) => Some(Audience::With(SEE_INSTALL)),
        EventKind::BackupCompleted(_) => Some(Audience::With(SEE_BACKUPS)),
        EventKind::TransferLog(_) => Some(Audience::With(SEE_TRANSFER)),
        EventKind::State { .. }
        | EventKind::Console(_)
        | EventKind::Daemon { .. }
        | EventKind::InstallBegun
        | EventKind::InstallerStarted
        | EventKind::InstallEnded
        | EventKind::FeatureMatch(_)
        | EventKind::Notice(_)
        | EventKind::RestoreCompleted
        | EventKind::TransferStatus(_)
        | EventKind::Deleted
        | EventKind::Lagged { .. } => Some(Audience::All),
    }
}

/// The frames of an event.
pub fn frames(event: &EventKind, app_name: &str) -> Option<Bytes> {
    Some(match event {
        EventKind::Console(output) | EventKind::Install(output) => output.frames().clone(),
        EventKind::State { state } => frame("status", &[state.as_str()]),
        EventKind::Daemon { line, .. } => notice(app_name, line),
        EventKind::InstallBegun => frame("install started", &[""]),
        EventKind::InstallerStarted => frame("daemon message", &[INSTALLING]),
        EventKind::InstallEnded => frame("install completed", &[""]),
        EventKind::FeatureMatch(feature) => {
            frame("feature match", &[&serde_json::to_string(feature).unwrap_or_default()])
        }
        EventKind::BackupCompleted(end) => {
            frame("backup completed", &[&serde_json::to_string(end).unwrap_or_default()])
        }
        EventKind::Notice(text) => frame("daemon message", &[text]),
        EventKind::TransferStatus(status) => frame("transfer status", &[status.into()]),
        EventKind::TransferLog(line) => frame("transfer logs", &[line]),
        EventKind::RestoreCompleted => frame("backup restore completed", &[""]),
        EventKind::Deleted => frame("deleted", &["null"]),
        EventKind::Lagged { missed } => notice(
            app_name,
            &format!("up to {missed} lines are missing here: this connection is too slow for the server's output"),
        ),
        EventKind::Event { .. } | EventKind::Condition { .. } | EventKind::Suspended => return None,
    })
}

/// A line of the daemon.
fn notice(app_name: &str, text: &str) -> Bytes {
    frame(CONSOLE_OUTPUT, &[&format!("\u{1b}[33m\u{1b}[1m[{app_name} Daemon]:\u{1b}[39m {text}\u{1b}[0m")])
}

#[cfg(test)]
mod tests;
