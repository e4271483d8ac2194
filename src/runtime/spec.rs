//! What a container should be like, in terms that no engine is needed for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::LogConfig;
use crate::model::manifest::digest;

/// Everything that a container is created from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Name, see [`container_name`](super::container_name).
    pub name: String,
    /// Image reference, without a `~`.
    pub image: String,
    /// The image is of this host: no registry is asked for it.
    #[serde(default, skip_serializing)]
    pub local_image: bool,
    /// Id of the image that the reference means, where the engine knows it: another one makes it another container. The
    /// container is made from the reference.
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
    /// Files of the host, in order.
    pub volumes: Vec<Volume>,
    /// Folder → options.
    pub tmpfs: BTreeMap<String, String>,
    /// Name servers.
    pub dns: Vec<String>,
    /// Log driver; the runtime's own where absent.
    pub log: Option<LogConfig>,
    /// Security options.
    pub security_opt: Vec<String>,
    /// Read-only root file system.
    pub read_only_root: bool,
    /// Dropped capabilities.
    pub cap_drop: Vec<String>,
    /// Network mode.
    pub network_mode: String,
    /// A network that has to be there first, beside that of the servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_network: Option<NetworkSpec>,
    /// Fixed IPv4 endpoint (macvlan): network, address and gateway.
    pub endpoint: Option<Endpoint>,
    /// User namespace mode; empty for the runtime's own.
    pub userns_mode: String,
    /// Published ports, each for TCP and UDP.
    pub ports: Vec<PublishedPort>,
    /// Limits.
    pub limits: Limits,
}

/// A folder or file in the container that outlives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// What it is.
    pub role: VolumeRole,
    /// Where it is on the host, for an engine that mounts paths: see [`Runtime::resolve`](super::Runtime::resolve).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Path in the container.
    pub target: String,
    /// Read-only.
    pub read_only: bool,
}

/// What a volume is; where it is, the engine knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VolumeRole {
    /// The server's files.
    Data,
    /// The folder with the server's install script.
    InstallScript,
    /// The server's machine-id.
    MachineId,
    /// The node's list of users for containers.
    Passwd,
    /// The node's list of groups for containers.
    Group,
    /// A mount of the server's settings.
    Mount {
        /// Path on the node, as the settings have it.
        source: String,
    },
}

/// A container spec, and what was asked for and left out of it.
#[derive(Debug, Clone, PartialEq)]
pub struct BuiltSpec {
    /// What to create.
    pub spec: ContainerSpec,
    /// Sentences for events: what was left out, and why.
    pub omissions: Vec<String>,
}

/// What container specs depend on beside settings and configuration, as the engine last saw it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HostInfo {
    /// The network of the servers.
    pub network: NetworkInfo,
    /// What the kernel can limit.
    pub kernel: KernelLimits,
}

/// What the kernel can limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KernelLimits {
    /// It weighs block I/O by container.
    pub block_io_weight: bool,
    /// The OOM killer can be switched off for a container.
    pub oom_kill_disable: bool,
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

/// The period of a CPU quota, in microseconds.
pub const CPU_PERIOD: i64 = 100_000;

/// Limits of a container.
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
    /// Microseconds of CPU time in each [`CPU_PERIOD`]; `None` is unlimited.
    pub cpu: Option<i64>,
    /// Cores; empty for all.
    pub cpuset: String,
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

/// The network that servers live in.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NetworkInfo {
    /// The driver it really has.
    pub driver: String,
    /// Its IPv4 gateway: the address of the host inside the network.
    pub gateway: Option<String>,
}

/// What the network should be like if it has to be made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// What it is for.
    pub purpose: NetworkPurpose,
}

/// What a network is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NetworkPurpose {
    /// It connects the servers.
    Servers {
        /// Name of its device on the host, where that is free.
        device: String,
        /// Whether servers reach each other in it.
        reachable: bool,
        /// Bytes.
        mtu: i64,
    },
    /// What leaves it leaves by an address of the host.
    Outgoing {
        /// The address.
        address: String,
    },
}
