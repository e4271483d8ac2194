//! The panel as the node sees it.
//!
//! [`Panel`] is the seam: `client` speaks the remote API over HTTP, the simulation has one in memory. Each call is
//! one attempt; who retries, and for how long, is the caller's affair (`retry`, the reconciler). What comes in is made to
//! fit the model by `wire`.

pub mod client;
pub mod wire;

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::model::settings::{Process, Settings};
use crate::model::{PowerState, Script, ServerId};

/// Questions that the panel is asked at once; more of them wait for their turn.
pub const QUESTIONS: usize = 8;

/// One server as the panel has it (`GET /api/remote/servers/{uuid}`).
#[derive(Debug, Clone, PartialEq)]
pub struct PanelServer {
    /// Suspended by the panel.
    pub suspended: bool,
    /// `settings`.
    pub settings: Settings,
    /// `process_configuration`.
    pub process: Process,
}

/// One entry of the panel's list.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedServer {
    /// The server.
    pub id: ServerId,
    /// Its configuration, or why it cannot be read; a broken entry does not hurt the others.
    pub server: Result<PanelServer, String>,
}

/// The panel's list.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// The servers of this node.
    pub servers: Vec<ListedServer>,
    /// When the oldest part of it was asked for: what the panel has said since is newer.
    pub asked: Instant,
    /// Why servers may be missing from it, if so: then its silence about one means nothing.
    pub incomplete: Option<String>,
}

/// Why a call to the panel failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PanelError {
    /// No connection, or one that broke.
    #[error("{call}: the panel cannot be reached ({cause}); check `remote` in config.yml and the network")]
    Unreachable {
        /// What was asked.
        call: String,
        /// The cause's text.
        cause: String,
    },
    /// No answer in time.
    #[error("{call}: no answer from the panel within {limit:?}")]
    Timeout {
        /// What was asked.
        call: String,
        /// `remote_query.timeout`.
        limit: Duration,
    },
    /// The panel has an error of its own (5xx and everything else that is neither 2xx nor 4xx).
    #[error("{call}: the panel answered {status} ({detail})")]
    Failed {
        /// What was asked.
        call: String,
        /// HTTP status.
        status: u16,
        /// The panel's words.
        detail: String,
    },
    /// The panel says no (4xx). Final.
    #[error("{call}: the panel refused with {status} ({detail})")]
    Rejected {
        /// What was asked.
        call: String,
        /// HTTP status.
        status: u16,
        /// The panel's words.
        detail: String,
    },
    /// The answer is not what the protocol says.
    #[error("{call}: the panel's answer cannot be read ({detail})")]
    InvalidResponse {
        /// What was asked.
        call: String,
        /// What is wrong with it.
        detail: String,
    },
}

impl PanelError {
    /// Whether asking again is pointless.
    pub fn is_final(&self) -> bool {
        matches!(self, PanelError::Rejected { .. })
    }

    /// Whether somebody who waits should stop waiting: the answer will hardly be another one in a moment, and a panel that was
    /// silent for as long as it may be has had its time.
    pub fn ends_waiting(&self) -> bool {
        self.is_final() || matches!(self, PanelError::InvalidResponse { .. } | PanelError::Timeout { .. })
    }

    /// Whether the panel said that it does not know the thing.
    pub fn is_unknown(&self) -> bool {
        matches!(self, PanelError::Rejected { status: 404, .. })
    }
}

/// The panel's remote API, as far as the controller uses it. One attempt per call.
#[async_trait]
pub trait Panel: Send + Sync + 'static {
    /// All servers of this node, every page. The listing fails as a whole, or is whole, or says that it may not be; an
    /// implementation keeps the pages that it has read, so that the next attempt asks only for those that are missing.
    async fn list(&self) -> Result<Listed, PanelError>;

    /// One server's configuration.
    async fn server(&self, id: ServerId) -> Result<PanelServer, PanelError>;

    /// One server's install script. A missing script is an empty one.
    async fn script(&self, id: ServerId) -> Result<Script, PanelError>;

    /// The result of an installation.
    async fn report_install(&self, id: ServerId, successful: bool, reinstall: bool) -> Result<(), PanelError>;

    /// A change of a container's state.
    async fn report_state(&self, id: ServerId, previous: PowerState, new: PowerState) -> Result<(), PanelError>;

    /// Tells the panel that nothing is installing or being restored on this node.
    async fn reset(&self) -> Result<(), PanelError>;
}
