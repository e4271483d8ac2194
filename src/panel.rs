//! The panel as the node sees it.
//!
//! [`Panel`] has two implementations: `client` speaks the remote API over HTTP, and the simulation has one in memory. Each
//! call is one attempt; the callers (`retry`, the reconciler) decide about retries. `wire` converts answers to the model.

#![allow(missing_docs)]

mod backups;
pub mod client;
mod login;
pub mod wire;

use std::time::Duration;

use async_trait::async_trait;
use serde_json::value::RawValue;
use tokio::time::Instant;
use uuid::Uuid;

pub use backups::{BackupReport, COMMIT_TIME, Delivery, MAX_PARTS, Part, UploadLinks};
pub use login::{Credential, SftpLogin, SftpUser};

use crate::model::settings::{Process, Settings};
use crate::model::{PowerState, Script, ServerId};

/// Queries to the panel that are in flight at once; more of them wait for a slot.
pub const QUESTIONS: usize = 8;

/// One server as the panel has it (`GET /api/remote/servers/{uuid}`).
#[derive(Debug, Clone, PartialEq)]
pub struct PanelServer {
    pub suspended: bool,
    pub settings: Settings,
    /// `process_configuration`.
    pub process: Process,
}

/// One entry of the panel's list.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedServer {
    pub id: ServerId,
    /// The configuration, or why it cannot be read. An invalid entry does not affect the others.
    pub server: Result<PanelServer, String>,
}

/// The panel's list.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    pub servers: Vec<ListedServer>,
    /// When the oldest page was requested. Answers of the panel to later requests are newer.
    pub asked: Instant,
    /// Why servers may be missing from the list. If it is set, an absent server may still exist.
    pub incomplete: Option<String>,
}

/// Why a call to the panel failed. `call` is the request, such as `GET /api/remote/servers`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PanelError {
    /// The connection could not be opened, or broke.
    #[error("{call}: the panel cannot be reached ({cause}); check `remote` in config.yml and the network")]
    Unreachable { call: String, cause: String },
    /// No answer in time.
    #[error("{call}: no answer from the panel within {limit:?}")]
    Timeout { call: String, limit: Duration },
    /// The answer is not the panel's: an error of its server, or the page of a proxy, a firewall or a rate limit.
    #[error("{call}: the panel answered {status} ({detail})")]
    Failed {
        call: String,
        status: u16,
        detail: String,
        /// How long the answer asks to wait.
        retry_after: Option<Duration>,
    },
    /// The panel itself rejected the call: 4xx with `errors` in its body. Final.
    #[error("{call}: the panel rejected it with {status} ({detail})")]
    Rejected { call: String, status: u16, detail: String },
    /// The answer does not follow the protocol.
    #[error("{call}: the panel's answer cannot be read ({detail})")]
    InvalidResponse { call: String, detail: String },
}

impl PanelError {
    /// Whether the same call cannot succeed later.
    pub fn is_final(&self) -> bool {
        matches!(self, PanelError::Rejected { .. })
    }

    /// The least pause before another attempt while a caller waits. `None`: the caller should give up, because a retry within
    /// seconds would hardly succeed. After a timeout the panel has used the time that a caller can wait.
    pub fn pause_of_waiting(&self) -> Option<Duration> {
        let ends = self.is_final() || matches!(self, PanelError::InvalidResponse { .. } | PanelError::Timeout { .. });
        (!ends).then(|| self.pause())
    }

    /// The least pause before another attempt: what the answer asks for.
    pub fn pause(&self) -> Duration {
        match self {
            PanelError::Failed { retry_after, .. } => retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        }
    }

    /// Whether the panel answered 404.
    pub fn is_unknown(&self) -> bool {
        matches!(self, PanelError::Rejected { status: 404, .. })
    }

    /// Whether the panel answered 409: the call does not fit the state that the panel has.
    pub fn is_conflict(&self) -> bool {
        matches!(self, PanelError::Rejected { status: 409, .. })
    }
}

/// The panel's remote API, as far as the controller uses it. One attempt per call.
#[async_trait]
pub trait Panel: Send + Sync + 'static {
    /// All servers of this node, from all pages. A listing that may not be complete says so in [`Listed::incomplete`]. After
    /// an error, an implementation keeps the pages that it has read, and the next attempt requests the missing ones.
    async fn list(&self) -> Result<Listed, PanelError>;

    /// The configuration of a server.
    async fn server(&self, id: ServerId) -> Result<PanelServer, PanelError>;

    /// The install script of a server. A missing script is an empty one.
    async fn script(&self, id: ServerId) -> Result<Script, PanelError>;

    /// Reports the result of an installation.
    async fn report_install(&self, id: ServerId, successful: bool, reinstall: bool) -> Result<(), PanelError>;

    /// Reports a change of a container's state.
    async fn report_state(&self, id: ServerId, previous: PowerState, new: PowerState) -> Result<(), PanelError>;

    /// Reports the end of a transfer. Only the destination may report a success; either node may report a failure, after which the
    /// server stays on the source.
    async fn report_transfer(&self, id: ServerId, successful: bool) -> Result<(), PanelError>;

    /// Requests links for the upload of an archive of this size. **Each call begins a new multipart upload** and orphans the one of
    /// the call before. [`PanelError::is_conflict`]: the backup is completed. [`PanelError::is_unknown`]: as for
    /// [`report_backup`](Self::report_backup).
    async fn backup_upload(&self, backup: Uuid, size: u64) -> Result<UploadLinks, PanelError>;

    /// Reports the end of a backup. [`PanelError::is_unknown`]: the panel has no such backup, and knows this node. A backup that is
    /// younger than [`COMMIT_TIME`] may become visible later.
    async fn report_backup(&self, backup: Uuid, report: &BackupReport) -> Result<Delivery, PanelError>;

    /// Reports the end of a restore. [`PanelError::is_unknown`]: as for [`report_backup`](Self::report_backup).
    async fn report_restore(&self, backup: Uuid, successful: bool) -> Result<(), PanelError>;

    /// Adds rows to the activity log, each of them as the panel reads it.
    async fn report_activity(&self, rows: &[&RawValue]) -> Result<(), PanelError>;

    /// Asks whether a client may log in over SFTP.
    async fn sftp_login(&self, login: &SftpLogin) -> Result<SftpUser, PanelError>;

    /// Reports that nothing is being installed or restored on this node.
    async fn reset(&self) -> Result<(), PanelError>;
}
