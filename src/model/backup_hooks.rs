//! What a server is asked to do around a backup: `spec.backup` of a manifest.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::time::Span;

/// Console commands around a backup of the running server, such as those that make a game write its world to disk.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct BackupHooks {
    /// Sent one after the other before the files are read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<BackupHook>,
    /// Sent when the archive is complete, or could not be made, or the daemon has ended meanwhile.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<BackupHook>,
    /// The container is frozen while a snapshot or a copy of its files is made, for this long at most, such as `2s`. The files are not
    /// copied before they are read where the file system can do neither, and the container is not frozen then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<Span>,
}

/// A console command, and what is awaited after it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BackupHook {
    /// The line that is written to the server's console.
    pub command: String,
    /// A text that a line of the console contains when the command has been carried out; after `regex:` a regular expression. If
    /// absent, nothing is awaited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// How long that is awaited, such as `60s`. The backup is made afterwards all the same.
    #[serde(default = "BackupHook::default_timeout")]
    pub timeout: Span,
}

impl BackupHooks {
    /// The most commands of a list.
    pub const MAX: usize = 20;
    /// What a pause may be, for messages.
    pub const PAUSES: &str = "100ms to 60s";

    /// Whether the pause, if there is one, is within [`PAUSES`](Self::PAUSES).
    pub fn has_valid_pause(&self) -> bool {
        let range = Duration::from_millis(100)..=Duration::from_secs(60);
        self.pause.is_none_or(|pause| range.contains(&pause.0))
    }
}

impl BackupHook {
    /// What a timeout may be, for messages.
    pub const TIMEOUTS: &str = "1s to 10m";

    fn default_timeout() -> Span {
        Span(Duration::from_secs(30))
    }

    /// Whether the timeout is within [`TIMEOUTS`](Self::TIMEOUTS).
    pub fn has_valid_timeout(&self) -> bool {
        (Duration::from_secs(1)..=Duration::from_secs(600)).contains(&self.timeout.0)
    }

    /// Whether the command is one line.
    pub fn is_line(&self) -> bool {
        !self.command.trim().is_empty() && !self.command.contains(['\n', '\r', '\0'])
    }
}
