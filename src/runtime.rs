//! The interface to the container engine.
//!
//! `docker` implements [`Runtime`] over the Docker API of Docker and Podman, `testing::fake` in memory. One contract suite runs
//! against both, and both have a `host` for images, networks and paths. `reconcile` and `console` call it. An event of
//! [`Runtime::events`] names a container and requeues its server. `spec_builder` turns settings into container specs and is pure.

pub mod cgroup;
mod counters;
pub mod docker;
mod error;
pub mod host;
pub mod lines;
mod spec;
pub mod spec_builder;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWrite;
use tokio::sync::broadcast;

use crate::model::{ContainerStatus, Owner, Role, ServerId};
pub use counters::{Counters, Meter};
pub use error::{ErrorKind, RuntimeError};
pub use spec::{
    BuiltSpec, CPU_PERIOD, ContainerSpec, Endpoint, HostInfo, KernelLimits, Limits, LogDriver, NetworkInfo,
    NetworkPurpose, NetworkSpec, Volume, VolumeRole,
};

/// Label that holds the server's uuid.
pub const LABEL_SERVER: &str = "alula.server";
/// Label that holds the role.
pub const LABEL_ROLE: &str = "alula.role";
/// Label that holds the id of the power request, or the token of the installation, that the container serves.
pub const LABEL_TOKEN: &str = "alula.token";
/// Label that holds the hash of the spec without its token.
pub const LABEL_SPEC: &str = "alula.spec";
/// Label that holds the hash of the limits at creation.
pub const LABEL_LIMITS: &str = "alula.limits";

/// Label that holds the digests of the manifest's fields, see [`Fields`](crate::model::Fields).
pub const LABEL_FIELDS: &str = "alula.fields";

/// The name of a server's container of a role: `{uuid}` or `{uuid}_installer`, as Wings names them.
pub fn container_name(server: ServerId, role: Role) -> String {
    match role {
        Role::Server => server.to_string(),
        Role::Installer => format!("{server}_installer"),
    }
}

/// Parses the name of a server's container.
pub fn parse_container_name(name: &str) -> Option<(ServerId, Role)> {
    let name = name.strip_prefix('/').unwrap_or(name);
    match name.strip_suffix("_installer") {
        Some(server) => Some((server.parse().ok()?, Role::Installer)),
        None => Some((name.parse().ok()?, Role::Server)),
    }
}

/// What a container is created for, as written to its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purpose {
    /// The server that the container is created for.
    pub server: ServerId,
    /// Whether it runs the server or its install script.
    pub role: Role,
    /// Id of the power request, or install token.
    pub token: String,
}

/// A container of a server, in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// By label or name.
    pub server: ServerId,
    /// By label or name.
    pub role: Role,
    /// The engine's id of the container.
    pub id: String,
    /// Whether it has started and not ended.
    pub running: bool,
    /// The node that has created it. The containers of another node are listed, and are left alone.
    pub owner: Owner,
}

/// A change of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeEvent {
    /// The server of the container.
    pub server: ServerId,
    /// The role of the container.
    pub role: Role,
    /// The kind of the change.
    pub change: ContainerChange,
}

/// The kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerChange {
    /// The container was created and not started.
    Created,
    /// The container runs.
    Started,
    /// The container's process has ended.
    Ended,
    /// The container does not exist any more.
    Removed,
    /// Any other change, such as a signal.
    Other,
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
    /// Everything until now.
    All,
    /// Everything until the container ends.
    Follow,
    /// The last lines.
    Tail(u32),
}

/// Version and size of the engine (`GET /api/system?v=2`).
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct EngineInfo {
    /// Version of the engine.
    pub version: String,
    /// `cgroupfs` or `systemd`.
    pub cgroup_driver: String,
    /// `1` or `2`.
    pub cgroup_version: String,
    /// Numbers of all, running, paused and stopped containers.
    pub containers: [i64; 4],
    /// Such as `overlay2`.
    pub storage_driver: String,
    /// The backing file system of the storage driver.
    pub storage_filesystem: String,
    /// Version or commit of runc.
    pub runc: String,
}

/// What images, containers and caches of the engine occupy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct EngineDiskUsage {
    /// Bytes that containers have written to their own layers.
    pub containers_size: i64,
    /// Number of images.
    pub images_total: usize,
    /// Number of images that containers use.
    pub images_active: usize,
    /// Bytes of all images; a layer that several have counts once.
    pub images_size: i64,
    /// Bytes of the builder's cache.
    pub build_cache_size: i64,
}

/// The engine's report about removed images, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PruneReport {
    /// `{"Untagged": …}` or `{"Deleted": …}`.
    pub images_deleted: Option<Vec<BTreeMap<String, String>>>,
    /// Bytes.
    pub space_reclaimed: i64,
}

/// A line about the progress of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullLine {
    /// The image's reference.
    pub image: Arc<str>,
    /// A short line without control characters.
    pub line: Arc<str>,
}

/// The state of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// The container does not exist any more.
    Done,
    /// The engine is removing the container for an earlier call, and sends [`ContainerChange::Removed`] at the end.
    UnderWay,
}

/// The container runtime.
///
/// The implementation bounds the time of every call. Calls are idempotent where possible: removing or signalling a container
/// that does not exist succeeds.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// What container specs depend on, as observed last.
    fn host(&self) -> HostInfo;

    /// Subscribes to the progress of all pulls from now on.
    fn pulls(&self) -> broadcast::Receiver<PullLine>;

    /// Creates the network of the servers. Call it after each connection to the engine.
    async fn prepare_node(&self) -> Result<(), RuntimeError>;

    /// Waits until the network of the servers was created or failed, or a few seconds after the start of the daemon.
    async fn node_settled(&self);

    /// Adds what depends on the host to a spec: the paths of volumes and the id of the image. Mounts that cannot be used are
    /// left out and named. A file system that hangs is [`ErrorKind::VolumeUnresponsive`].
    async fn resolve(&self, server: ServerId, built: BuiltSpec) -> Result<BuiltSpec, RuntimeError>;

    /// Ensures that the image and the network of a container exist, by the node's policy and credentials. Servers share the pull
    /// of an image, which continues when a caller is dropped. A reference that only a person can correct is
    /// [`ErrorKind::InvalidImage`].
    async fn prepare(&self, spec: &ContainerSpec) -> Result<(), RuntimeError>;

    /// Version and size of the engine.
    async fn engine(&self) -> Result<EngineInfo, RuntimeError>;

    /// What the engine's images, containers and caches occupy. It takes a busy engine a minute.
    async fn disk_usage(&self) -> Result<EngineDiskUsage, RuntimeError>;

    /// Removes the images that have no name and no container. What an image was called before a newer one was pulled counts as no
    /// name.
    async fn prune_images(&self) -> Result<PruneReport, RuntimeError>;

    /// Lists the containers of all servers, also those of other nodes.
    async fn list(&self) -> Result<Vec<Listed>, RuntimeError>;

    /// Inspects the container of a server: by its name, or by its labels where a person has renamed it. One of another node does not count.
    async fn inspect(&self, server: ServerId, role: Role) -> Result<Option<ContainerStatus>, RuntimeError>;

    /// Checks that the engine accepts new connections. An engine that shuts down ends its containers first, and still answers
    /// on open connections. The error is then [`ErrorKind::Unavailable`] or [`ErrorKind::Timeout`], and kept for some seconds.
    async fn ping(&self) -> Result<(), RuntimeError>;

    /// Creates a container of a resolved spec, and returns its id. A used name is [`ErrorKind::NameTaken`]; the message names another node
    /// that has it.
    async fn create(&self, spec: &ContainerSpec, purpose: &Purpose) -> Result<String, RuntimeError>;

    /// Starts a container. A running one stays as it is.
    async fn start(&self, id: &str) -> Result<(), RuntimeError>;

    /// Sends a signal. A container that has ended or does not exist is no error.
    async fn signal(&self, id: &str, signal: &str) -> Result<(), RuntimeError>;

    /// Freezes the processes of a container, or thaws them. One that is so already, has ended or does not exist is no error. A frozen
    /// container counts as running.
    async fn freeze(&self, id: &str, frozen: bool) -> Result<(), RuntimeError>;

    /// Kills a container and removes it with its anonymous volumes. One that does not exist is no error.
    async fn remove(&self, id: &str) -> Result<Removal, RuntimeError>;

    /// Changes the limits of a container in place. One that does not exist is no error.
    async fn update(&self, id: &str, limits: &Limits) -> Result<(), RuntimeError>;

    /// Removes the network that belongs to a server, if there is one. Its containers are removed before.
    async fn remove_network(&self, server: ServerId) -> Result<(), RuntimeError>;

    /// Opens a container's terminal.
    async fn attach(&self, id: &str) -> Result<Attachment, RuntimeError>;

    /// Reads a container's log as raw bytes.
    async fn logs(&self, id: &str, part: LogPart) -> Result<Output, RuntimeError>;

    /// Finds the kernel's counters of a running container. `None` where this process cannot see them, because the engine is on another
    /// host or in another process namespace: then the engine has to be asked. It does not wait for the engine.
    fn meter(&self, container: &ContainerStatus) -> Option<Box<dyn Meter>>;

    /// Asks the engine for the counters of a container.
    async fn counters(&self, id: &str) -> Result<Counters, RuntimeError>;

    /// Subscribes to the events of containers. The stream ends with the connection. The engine sends all events after this call
    /// returns, so a later listing misses nothing.
    async fn events(&self) -> Result<BoxStream<'static, RuntimeEvent>, RuntimeError>;
}
