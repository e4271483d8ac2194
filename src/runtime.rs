//! The container runtime in our own vocabulary.
//!
//! [`Runtime`] is the seam: `docker` implements it over the Docker API (and Podman's socket that speaks it),
//! `fake` in memory; one contract suite runs against both. Calls come from `reconcile` (steps) and
//! `console` (attachments); wake-ups leave through [`Runtime::events`], which name a container and never say
//! what should be done about it. `blueprint` turns settings into container specs and is pure.

pub mod blueprint;
pub mod docker;
mod error;
pub mod fake;

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWrite;

use crate::model::manifest::digest;
use crate::model::{ContainerFacts, Role, ServerId};
pub use error::{ErrorKind, RuntimeError};

/// Label that holds the server's uuid.
pub const LABEL_SERVER: &str = "alula.server";
/// Label that holds the role's word.
pub const LABEL_ROLE: &str = "alula.role";
/// Label that holds the id of the power wish, or the token of the install intent, that the container serves.
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

/// Everything the runtime is told to make a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Name, see [`container_name`].
    pub name: String,
    /// Image reference, without a `~`.
    pub image: String,
    /// Id of the image that the reference means, where that is known: another one makes it another container. The runtime
    /// is told the reference alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// Host name.
    pub hostname: String,
    /// Domain name; empty for none.
    pub domainname: String,
    /// `uid:gid`; the image's own where absent.
    pub user: Option<String>,
    /// Command; the image's own where absent. The image's entrypoint is never touched.
    pub command: Option<Vec<String>>,
    /// `NAME=value`, in order.
    pub environment: Vec<String>,
    /// Labels for people and tools; ours are added at creation.
    pub labels: BTreeMap<String, String>,
    /// Bind mounts, in order.
    pub mounts: Vec<BindMount>,
    /// Folder → options.
    pub tmpfs: BTreeMap<String, String>,
    /// Name servers.
    pub dns: Vec<String>,
    /// Log driver; the runtime's own where absent.
    pub log: Option<LogDriver>,
    /// Security options.
    pub security_opt: Vec<String>,
    /// Read-only root file system.
    pub read_only_root: bool,
    /// Dropped capabilities.
    pub cap_drop: Vec<String>,
    /// Network mode.
    pub network_mode: String,
    /// Fixed IPv4 endpoint (macvlan): network, address and gateway.
    pub endpoint: Option<Endpoint>,
    /// User namespace mode; empty for the runtime's own.
    pub userns_mode: String,
    /// Published ports, each for TCP and UDP.
    pub ports: Vec<PublishedPort>,
    /// Limits.
    pub limits: Limits,
}

/// A folder or file of the host inside the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindMount {
    /// Path on the host.
    pub source: String,
    /// Path in the container.
    pub target: String,
    /// Read-only.
    pub read_only: bool,
}

/// A log driver with its options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogDriver {
    /// Name.
    pub driver: String,
    /// Options.
    pub options: BTreeMap<String, String>,
}

/// A fixed place in a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The network's name.
    pub network: String,
    /// The container's IPv4 address.
    pub address: String,
    /// IPv4 gateway.
    pub gateway: String,
}

/// A port of the host, published for TCP and UDP under the same number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishedPort {
    /// Address of the host.
    pub address: String,
    /// Port, never 0.
    pub port: u16,
}

/// Limits of a container, in the Docker API's units.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes; 0 is unlimited.
    pub memory: i64,
    /// Bytes; 0 is none.
    pub memory_reservation: i64,
    /// Memory and swap together, bytes; -1 is unlimited.
    pub memory_swap: i64,
    /// Forbid the kernel to kill for want of memory.
    pub oom_kill_disable: bool,
    /// Processes; `None` leaves it to the runtime.
    pub pids: Option<i64>,
    /// Block I/O weight; `None` where the kernel has none.
    pub blkio_weight: Option<u16>,
    /// CPU quota, period (microseconds) and shares; `None` is unlimited.
    pub cpu: Option<CpuLimit>,
    /// Cores; empty for all.
    pub cpuset: String,
}

/// CPU bandwidth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuLimit {
    /// Microseconds of CPU time in a period.
    pub quota: i64,
    /// Microseconds.
    pub period: i64,
    /// Relative weight.
    pub shares: i64,
}

impl ContainerSpec {
    /// Hash of everything but the limits, which can be changed in place, and the token.
    pub fn hash(&self) -> String {
        let mut unlimited = self.clone();
        unlimited.limits = Limits::default();
        digest(&unlimited)
    }
}

impl Limits {
    /// Hash of the limits.
    pub fn hash(&self) -> String {
        digest(self)
    }
}

/// What a container is made for; becomes our labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purpose {
    /// The server.
    pub server: ServerId,
    /// The role.
    pub role: Role,
    /// Power wish or install token.
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
    /// The runtime's word (`create`, `start`, `die`, `destroy`, …).
    pub action: String,
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

/// A container's terminal: what it prints and what is typed.
pub struct Attachment {
    /// Raw bytes as they are printed; ends with the container (or the connection).
    pub output: BoxStream<'static, Result<Bytes, RuntimeError>>,
    /// What is written here is typed.
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

/// The network that servers live in.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NetworkFacts {
    /// The driver it really has.
    pub driver: String,
    /// Its IPv4 gateway: the address of the host inside the network.
    pub gateway: Option<String>,
}

/// What the network should be like if it has to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkSpec {
    /// Name.
    pub name: String,
    /// Driver.
    pub driver: String,
    /// No way out.
    pub internal: bool,
    /// IPv6 on.
    pub ipv6: bool,
    /// IPv4 subnet and gateway wanted.
    pub v4: Option<(String, String)>,
    /// IPv6 subnet and gateway wanted.
    pub v6: Option<(String, String)>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
}

/// Facts about the engine (`GET /api/system?v=2`).
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct EngineFacts {
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

/// Credentials for a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryAuth {
    /// User.
    pub username: String,
    /// Password, never logged.
    pub password: String,
}

/// How far a removal has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// There is no such container any more.
    Done,
    /// The engine is still at it, for somebody who has asked before; the event `destroy` says when it is done.
    UnderWay,
}

/// The container runtime.
///
/// Every call is bounded in time by the implementation and idempotent where it can be: removing or
/// signalling what is not there succeeds.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Facts about the engine.
    async fn engine(&self) -> Result<EngineFacts, RuntimeError>;

    /// All containers that are ours by label or by name, one call for the whole node.
    async fn list(&self) -> Result<Vec<Listed>, RuntimeError>;

    /// Looks at one container by its name.
    async fn inspect(&self, server: ServerId, role: Role) -> Result<Option<ContainerFacts>, RuntimeError>;

    /// Whether the engine takes new calls. One that goes down ends its containers first, and answers meanwhile on the
    /// connections that it has: then this is [`ErrorKind::Unavailable`] or [`ErrorKind::Timeout`].
    async fn stays(&self) -> Result<(), RuntimeError>;

    /// Makes a container and returns its id. A name that is taken is [`ErrorKind::NameTaken`].
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
    async fn logs(
        &self,
        id: &str,
        part: LogPart,
    ) -> Result<BoxStream<'static, Result<Bytes, RuntimeError>>, RuntimeError>;

    /// The id of the image that is there under exactly this reference.
    async fn image(&self, reference: &str) -> Result<Option<String>, RuntimeError>;

    /// Pulls an image to its end. An error inside the pull stream is an error. `progress` gets short lines.
    async fn pull(
        &self,
        reference: &str,
        auth: Option<RegistryAuth>,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(), RuntimeError>;

    /// Makes the network where it is missing, with a free subnet where the wanted one overlaps, and looks at it.
    async fn ensure_network(&self, spec: &NetworkSpec) -> Result<NetworkFacts, RuntimeError>;

    /// The one stream of events; ends when the connection is lost. The first item is yielded (or the stream
    /// pending) only once the engine is listening, so that a listing made after this call misses nothing.
    async fn events(&self) -> Result<BoxStream<'static, RuntimeEvent>, RuntimeError>;
}
