//! Container specs, independent of the engine.

#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::model::manifest::digest;
use crate::model::{Fields, NodeIdentity, PublishedPort, Ulimit, UlimitName};

/// Everything that a container is created from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// See [`container_name`](super::container_name).
    pub name: String,
    /// Image reference, without a `~`.
    pub image: String,
    /// The image is local and never pulled.
    #[serde(default, skip_serializing)]
    pub local_image: bool,
    /// Id of the image, if the engine has it. A new image changes the hash of the spec. The container is created from `image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    pub hostname: String,
    /// Empty for none.
    pub domainname: String,
    /// `uid:gid`; absent for that of the image.
    pub user: Option<String>,
    /// Absent for that of the image. The entrypoint of the image is not changed.
    pub command: Option<Vec<String>>,
    /// `NAME=value`, in order.
    pub environment: Vec<String>,
    /// Labels for people and tools. Those of the daemon are added at the creation.
    pub labels: BTreeMap<String, String>,
    /// Mounted in this order.
    pub volumes: Vec<Volume>,
    /// Options by folder.
    pub tmpfs: BTreeMap<String, String>,
    pub dns: Vec<String>,
    /// Absent for the engine's default.
    pub log: Option<LogDriver>,
    pub security_opt: Vec<String>,
    pub read_only_root: bool,
    pub cap_drop: Vec<String>,
    pub network_mode: String,
    /// A network of this server, which is created first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_network: Option<NetworkSpec>,
    /// For macvlan.
    pub endpoint: Option<Endpoint>,
    /// User namespace mode; empty for the engine's default.
    pub userns_mode: String,
    /// Published ports, each for TCP and UDP.
    pub ports: Vec<PublishedPort>,
    /// MiB of `/dev/shm`; absent for the engine's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shm_mib: Option<i64>,
    /// Limits of each process.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<UlimitName, Ulimit>,
    pub limits: Limits,
    /// The limits until the start-up has finished, if they are others.
    #[serde(skip)]
    pub start_limits: Option<Limits>,
    /// The fields of the manifest that it is built from. They are no part of the hash: it has their values.
    #[serde(skip)]
    pub fields: Fields,
}

/// A folder or file of the host in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub role: VolumeRole,
    /// Path on the host, set by [`Runtime::resolve`](super::Runtime::resolve).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Path in the container.
    pub target: String,
    pub read_only: bool,
}

/// What a volume contains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VolumeRole {
    /// The server's files.
    Data,
    /// The folder with the server's install script.
    InstallScript,
    /// The server's machine-id.
    MachineId,
    /// The node's `passwd` file for containers.
    Passwd,
    /// The node's `group` file for containers.
    Group,
    /// A mount in the server's settings.
    Mount {
        /// Path on the node, as in the settings.
        source: String,
    },
}

/// A container spec, and what the settings request and the spec leaves out.
#[derive(Debug, Clone, PartialEq)]
pub struct BuiltSpec {
    pub spec: ContainerSpec,
    /// Sentences for events: what was left out, and why.
    pub omissions: Vec<String>,
}

/// What container specs depend on, in addition to settings and configuration.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HostInfo {
    /// The network of the servers.
    pub network: NetworkInfo,
    /// What the kernel can limit.
    pub kernel: KernelLimits,
    /// The node, whose containers have its labels.
    pub identity: Arc<NodeIdentity>,
}

/// What the kernel can limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KernelLimits {
    /// Weights for block I/O.
    pub block_io_weight: bool,
    /// Disabling the OOM killer for a container.
    pub oom_kill_disable: bool,
    /// Limiting swap, or the host has none.
    pub swap: bool,
}

/// A log driver and its options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogDriver {
    pub driver: String,
    pub options: BTreeMap<String, String>,
}

/// A fixed IPv4 address in a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Name of the network.
    pub network: String,
    pub address: String,
    pub gateway: String,
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
    /// Disables the OOM killer for the container.
    pub oom_kill_disable: bool,
    /// Number of processes; `None` is the engine's default.
    pub pids: Option<i64>,
    /// Block I/O weight; `None` if the kernel does not support it.
    pub blkio_weight: Option<u16>,
    /// Microseconds of CPU time in each [`CPU_PERIOD`]; `None` is unlimited.
    pub cpu: Option<i64>,
    /// Cores, such as `0-3`; empty for all.
    pub cpuset: String,
}

impl ContainerSpec {
    /// Hash of everything except the limits, which can be changed in place.
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

/// The network of the servers, as it exists.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NetworkInfo {
    pub driver: String,
    /// The IPv4 address of the host in the network.
    pub gateway: Option<String>,
}

/// A network to create.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Name.
    pub name: String,
    pub driver: String,
    /// No access to other networks.
    pub internal: bool,
    /// Whether IPv6 is enabled.
    pub ipv6: bool,
    /// IPv4 subnet and gateway; absent for the engine's choice.
    pub v4: Option<(String, String)>,
    /// IPv6 subnet and gateway; absent for the engine's choice.
    pub v6: Option<(String, String)>,
    pub purpose: NetworkPurpose,
}

/// What a network is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NetworkPurpose {
    /// Connects the servers.
    Servers {
        /// Name of the device on the host, if it is free.
        device: String,
        /// Whether servers reach each other.
        reachable: bool,
        /// In bytes.
        mtu: i64,
    },
    /// Its outgoing traffic uses an address of the host.
    Outgoing { address: String },
    /// Belongs to one server.
    Server {
        /// The address of the host that outgoing traffic uses, if it is forced.
        address: Option<String>,
        /// In bytes.
        mtu: i64,
        /// Its IPv4 addresses are among these.
        range: Ipv4Net,
    },
}
