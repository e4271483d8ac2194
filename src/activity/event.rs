//! The events of the activity log. Source: remote API, "Activity".

use serde::Serialize;

/// What was done, in the panel's words; each one names its metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum ActivityEvent {
    /// A user of the console started the server: `{}`.
    #[serde(rename = "server:power.start")]
    PowerStart,
    /// The same, stopped: `{}`.
    #[serde(rename = "server:power.stop")]
    PowerStop,
    /// The same, restarted: `{}`.
    #[serde(rename = "server:power.restart")]
    PowerRestart,
    /// The same, killed: `{}`.
    #[serde(rename = "server:power.kill")]
    PowerKill,
    /// A user of the console sent a line: `{"command"}`.
    #[serde(rename = "server:console.command")]
    ConsoleCommand,
    /// The server crashed: `{"exit_code", "oomkilled", "logs": […]}`, without a user, from 127.0.0.1.
    #[serde(rename = "server:crashed")]
    Crashed,
    /// A file was uploaded by the panel's page: `{"file", "directory"}`.
    #[serde(rename = "server:file.uploaded")]
    FileUploaded,
    /// A file was created over SFTP: `{"files": […]}`.
    #[serde(rename = "server:sftp.create")]
    SftpCreate,
    /// An existing file was written: `{"files": […]}`.
    #[serde(rename = "server:sftp.write")]
    SftpWrite,
    /// A folder was created: `{"files": […]}`.
    #[serde(rename = "server:sftp.create-directory")]
    SftpCreateDirectory,
    /// A file or folder was renamed: `{"from", "to"}`.
    #[serde(rename = "server:sftp.rename")]
    SftpRename,
    /// A file or folder was deleted: `{"files": […]}`.
    #[serde(rename = "server:sftp.delete")]
    SftpDelete,
}
