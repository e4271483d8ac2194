//! From settings to container specs: what a server's or an installer's container should be like.
//!
//! Pure: the record's spec, the node's configuration and [`BlueprintFacts`] come in, a [`Blueprint`] goes out, and
//! the same input gives the same spec and hash. What has to be asked of the host (which mount sources exist and
//! where they lead, what the kernel can limit) is asked in [`host`] and handed in as facts. What was asked for and
//! is not done is named in [`Blueprint::omissions`].
//!
//! Names and values are those of Wings' containers, since images, eggs and panels rely on them.

mod environment;
pub mod host;
mod limits;
mod mounts;
mod network;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

pub use host::{KernelLimits, MountFacts, MountSource};
pub use network::{network, outgoing_network};

use super::{BindMount, ContainerSpec, LogDriver, NetworkFacts, NetworkSpec, container_name};
use crate::config::NodeConfig;
use crate::model::{Role, Script, ServerId, Spec};
use environment::Address;

/// Where a server's files are in its container.
pub const SERVER_FOLDER: &str = "/home/container";
/// Where a server's files are in an installer.
pub const INSTALL_FOLDER: &str = "/mnt/server";
/// Where the folder with the install script is in an installer.
pub const SCRIPT_FOLDER: &str = "/mnt/install";
/// Name of the install script in its folder.
pub const SCRIPT_FILE: &str = "install.sh";

/// Capabilities that a server does not get.
const DROPPED_CAPABILITIES: [&str; 11] = [
    "setpcap",
    "mknod",
    "audit_write",
    "net_raw",
    "dac_override",
    "fowner",
    "fsetid",
    "net_bind_service",
    "sys_chroot",
    "setfcap",
    "sys_ptrace",
];

/// What is known about the host and the engine.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlueprintFacts {
    /// The network of the servers as it really is.
    pub network: NetworkFacts,
    /// What the kernel can limit, see [`host::kernel_limits`].
    pub kernel: KernelLimits,
    /// The server's files, symbolic links resolved.
    pub data: PathBuf,
    /// The folder of the install script, symbolic links resolved; unused for servers.
    pub script: PathBuf,
    /// Where the settings' mounts lead, see [`host::follow`]; unused for installers.
    pub mounts: MountFacts,
}

/// A container spec and what belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Blueprint {
    /// What to create.
    pub spec: ContainerSpec,
    /// A network that has to be there first, beside that of the servers.
    pub network: Option<NetworkSpec>,
    /// What was asked for and left out.
    pub omissions: Vec<Omission>,
}

/// Something that was asked for and left out. `Display` is a sentence for an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Omission {
    /// What, such as `mount /srv/maps at /maps`.
    pub subject: String,
    /// Why, and what to do about it.
    pub reason: String,
}

impl Omission {
    fn new(subject: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { subject: subject.into(), reason: reason.into() }
    }
}

impl fmt::Display for Omission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is left out: {}", self.subject, self.reason)
    }
}

/// The image of a server: its reference, and whether a leading `~` says that it is local and never pulled.
///
/// Images of install scripts know no such prefix.
pub fn server_image(image: &str) -> (&str, bool) {
    match image.strip_prefix('~') {
        Some(reference) => (reference, true),
        None => (image, false),
    }
}

/// The container that runs a server.
pub fn server_container(id: ServerId, spec: &Spec, node: &NodeConfig, facts: &BlueprintFacts) -> Blueprint {
    let settings = &spec.settings;
    let mut omissions = Vec::new();
    let mut labels = settings.labels.clone().unwrap_or_default();
    labels.extend(wings_labels("server_process"));
    let outgoing = network::outgoing(&settings.allocations, &mut omissions);
    let network_mode = match &outgoing {
        Some(outgoing) => outgoing.name.clone(),
        None => node.docker.network.network_mode.clone(),
    };
    let spec = ContainerSpec {
        name: container_name(id, Role::Server),
        image: server_image(&settings.container.image).0.to_owned(),
        image_id: None,
        hostname: id.to_string(),
        domainname: node.docker.domainname.clone(),
        user: Some(node.container_user().to_string()),
        command: None,
        environment: environment::environment(settings, node, facts, Address::Reachable, &mut omissions),
        labels,
        mounts: mounts::of_server(id, settings, node, facts, &mut omissions),
        tmpfs: tmpfs(node),
        dns: node.docker.network.dns.clone(),
        log: log_driver(node),
        security_opt: vec!["no-new-privileges".into()],
        read_only_root: true,
        cap_drop: DROPPED_CAPABILITIES.map(String::from).into(),
        // An own network leaves by the forced address, and has no place in the macvlan network.
        endpoint: outgoing.is_none().then(|| network::endpoint(&settings.allocations, node, facts)).flatten(),
        network_mode,
        userns_mode: node.docker.userns_mode.clone(),
        ports: network::ports(&settings.allocations, node, facts, &mut omissions),
        limits: limits::of_server(&settings.build, node, facts),
    };
    Blueprint { spec, network: outgoing, omissions }
}

/// The container that runs a server's install script.
pub fn installer_container(
    id: ServerId,
    spec: &Spec,
    script: &Script,
    node: &NodeConfig,
    facts: &BlueprintFacts,
) -> Blueprint {
    let settings = &spec.settings;
    let mut omissions = Vec::new();
    let bind = |source: &PathBuf, target: &str| BindMount {
        source: source.display().to_string(),
        target: target.into(),
        read_only: false,
    };
    let spec = ContainerSpec {
        name: container_name(id, Role::Installer),
        image: script.image.clone(),
        image_id: None,
        hostname: "installer".into(),
        domainname: String::new(),
        user: None,
        command: Some(vec![script.entrypoint.clone(), format!("{SCRIPT_FOLDER}/{SCRIPT_FILE}")]),
        environment: environment::environment(settings, node, facts, Address::AsAllocated, &mut omissions),
        labels: wings_labels("server_installer"),
        mounts: vec![bind(&facts.data, INSTALL_FOLDER), bind(&facts.script, SCRIPT_FOLDER)],
        tmpfs: tmpfs(node),
        dns: node.docker.network.dns.clone(),
        log: log_driver(node),
        security_opt: Vec::new(),
        read_only_root: false,
        cap_drop: Vec::new(),
        network_mode: node.docker.network.network_mode.clone(),
        endpoint: network::endpoint(&settings.allocations, node, facts),
        userns_mode: node.docker.userns_mode.clone(),
        ports: Vec::new(),
        limits: limits::of_installer(&settings.build, node, facts),
    };
    Blueprint { spec, network: None, omissions }
}

/// The labels by which Wings' users find containers.
fn wings_labels(container_type: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("Service".into(), "Pelican".into()), ("ContainerType".into(), container_type.into())])
}

fn tmpfs(node: &NodeConfig) -> BTreeMap<String, String> {
    BTreeMap::from([("/tmp".into(), format!("rw,exec,nosuid,size={}M", node.docker.tmpfs_mib))])
}

fn log_driver(node: &NodeConfig) -> Option<LogDriver> {
    let log = node.docker.log_config.as_ref()?;
    Some(LogDriver { driver: log.driver.clone(), options: log.options.clone() })
}

#[cfg(test)]
mod tests;
