//! The container runtime in our own vocabulary.
//!
//! [`Runtime`] is the seam: `docker` implements it over the Docker API (and Podman's socket that speaks it),
//! `testing::fake` in memory for tests;
//! one contract suite runs against both. Both keep a `host` for images, networks and paths.
//! Calls come from `reconcile` (steps) and
//! `console` (attachments); wake-ups leave through [`Runtime::events`], which name a container and never say
//! what should be done about it. `spec_builder` turns settings into container specs and is pure.

pub mod docker;
mod error;
pub mod host;
pub mod lines;
mod spec;
pub mod spec_builder;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWrite;

use crate::model::{ContainerStatus, Role, ServerId};
pub use error::{ErrorKind, RuntimeError};
pub use spec::{
    BuiltSpec, ContainerSpec, CpuLimit, Endpoint, HostInfo, KernelLimits, Limits, LogDriver, NetworkInfo,
    NetworkPurpose, NetworkSpec, Omission, PublishedPort, Volume, VolumeRole,
};

/// Label that holds the server's uuid.
pub const LABEL_SERVER: &str = "alula.server";
/// Label that holds the role's word.
pub const LABEL_ROLE: &str = "alula.role";
/// Label that holds the id of the power request, or the token of the installation, that the container serves.
pub const LABEL_TOKEN: &str = "alula.token";
/// Label that holds the hash of the spec without its token.
pub const LABEL_SPEC: &str = "alula.spec";
/// Label that holds the hash of the limits at creation.
pub const LABEL_LIMITS: &str = "alula.limits";

/// The name of a server's container of a role: `{uuid}` or `{uuid}_installer`, as Wings names them.
pub fn container_name(server: ServerId, role: Role) -> String {
    match role {
        Role::Server => server.to_string(),
        Role::Installer => format!("{server}_installer"),
    }
}

/// Reads a container's name back; other names are not ours.
pub fn parse_container_name(name: &str) -> Option<(ServerId, Role)> {
    let name = name.strip_prefix('/').unwrap_or(name);
    match name.strip_suffix("_installer") {
        Some(server) => Some((server.parse().ok()?, Role::Installer)),
        None => Some((name.parse().ok()?, Role::Server)),
    }
}

/// What a container is made for; becomes our labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purpose {
    /// The server.
    pub server: ServerId,
    /// The role.
    pub role: Role,
    /// Id of the power request, or install token.
    pub token: String,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The server, by label or name.
    pub server: ServerId,
    /// The role, by label or name.
    pub role: Role,
    /// The runtime's id.
    pub id: String,
    /// Whether it runs.
    pub running: bool,
}

/// Something happened to a container; look at its server again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeEvent {
    /// The server.
    pub server: ServerId,
    /// The role.
    pub role: Role,
    /// What happened.
    pub change: ContainerChange,
}

/// What happened to a container, as far as callers tell one from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerChange {
    /// It was made, and does nothing yet.
    Created,
    /// It was started.
    Started,
    /// It ended.
    Ended,
    /// It was removed.
    Removed,
    /// Something else, such as a signal.
    Other,
}

/// A signal by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    /// SIGTERM
    Terminate,
    /// SIGKILL
    Kill,
}

impl Signal {
    /// The name the runtime knows.
    pub fn name(self) -> &'static str {
        match self {
            Signal::Terminate => "SIGTERM",
            Signal::Kill => "SIGKILL",
        }
    }
}

/// Raw bytes that a container prints, as they are printed.
pub type Output = BoxStream<'static, Result<Bytes, RuntimeError>>;

/// A container's terminal.
pub struct Attachment {
    /// Ends with the container or the connection.
    pub output: Output,
    /// Receives the input of the container.
    pub input: Box<dyn AsyncWrite + Send + Unpin>,
}

/// Which part of a container's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogPart {
    /// Everything since the start; ends at the end of what is there.
    All,
    /// Everything since the start, then what comes, until the container ends.
    Follow,
    /// The last lines.
    Tail(u32),
}

/// Version and size of the engine (`GET /api/system?v=2`).
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct EngineInfo {
    /// Engine version.
    pub version: String,
    /// `cgroupfs` or `systemd`.
    pub cgroup_driver: String,
    /// `1` or `2`.
    pub cgroup_version: String,
    /// Containers: all, running, paused, stopped.
    pub containers: [i64; 4],
    /// Storage driver.
    pub storage_driver: String,
    /// The storage driver's backing file system.
    pub storage_filesystem: String,
    /// runc's version (or commit).
    pub runc: String,
}

/// How far a removal has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// There is no such container any more.
    Done,
    /// The engine is still removing it for an earlier call; the event `destroy` marks the end.
    UnderWay,
}

/// The container runtime.
///
/// Every call is bounded in time by the implementation and idempotent where it can be: removing or
/// signalling what is not there succeeds.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// What container specs depend on, as the engine last saw it. Asks nothing.
    fn host(&self) -> HostInfo;

    /// Makes what all servers share: their network. To be called whenever the engine was connected to.
    async fn prepare_node(&self) -> Result<(), RuntimeError>;

    /// Waits until what all servers share has been prepared once, cannot be, or has taken too long since the start.
    async fn node_settled(&self);

    /// Finds out what a container of this spec would be here and now: paths of volumes, the id of the image. What cannot be
    /// had is left out and named. Changes nothing; a file system that hangs is [`ErrorKind::VolumeUnresponsive`].
    async fn resolve(&self, server: ServerId, built: BuiltSpec) -> Result<BuiltSpec, RuntimeError>;

    /// Makes sure that the image and the network of a container are there: policy, credentials and progress of pulls are the
    /// implementation's own affair, and servers that want the same image share one pull, which goes on when a caller is
    /// dropped. A reference that only a person can correct is [`ErrorKind::InvalidImage`].
    async fn prepare(&self, spec: &ContainerSpec) -> Result<(), RuntimeError>;

    /// Version and size of the engine.
    async fn engine(&self) -> Result<EngineInfo, RuntimeError>;

    /// All containers that are ours by label or by name, one call for the whole node.
    async fn list(&self) -> Result<Vec<Listed>, RuntimeError>;

    /// Looks at one container by its name.
    async fn inspect(&self, server: ServerId, role: Role) -> Result<Option<ContainerStatus>, RuntimeError>;

    /// Whether the engine takes new calls. One that goes down ends its containers first, and answers meanwhile on the
    /// connections that it has: then this is [`ErrorKind::Unavailable`] or [`ErrorKind::Timeout`], for callers in the next
    /// seconds too.
    async fn ping(&self) -> Result<(), RuntimeError>;

    /// Makes a container of a spec that was resolved, and returns its id. A name that is taken is [`ErrorKind::NameTaken`].
    async fn create(&self, spec: &ContainerSpec, purpose: &Purpose) -> Result<String, RuntimeError>;

    /// Starts a container; one that runs already stays as it is.
    async fn start(&self, id: &str) -> Result<(), RuntimeError>;

    /// Sends a signal; a container that is gone or has ended is no error.
    async fn signal(&self, id: &str, signal: &str) -> Result<(), RuntimeError>;

    /// Removes a container with its anonymous volumes, killing it first; one that is gone is no error.
    async fn remove(&self, id: &str) -> Result<Removal, RuntimeError>;

    /// Changes the limits of a container in place; one that is gone is no error.
    async fn update(&self, id: &str, limits: &Limits) -> Result<(), RuntimeError>;

    /// Opens a container's terminal.
    async fn attach(&self, id: &str) -> Result<Attachment, RuntimeError>;

    /// Reads a container's log as raw bytes.
    async fn logs(&self, id: &str, part: LogPart) -> Result<Output, RuntimeError>;

    /// The one stream of events; ends when the connection is lost. The first item is yielded (or the stream
    /// pending) only once the engine is listening, so that a listing made after this call misses nothing.
    async fn events(&self) -> Result<BoxStream<'static, RuntimeEvent>, RuntimeError>;
}
