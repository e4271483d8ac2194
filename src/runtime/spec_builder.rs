//! Builds the container specs of servers and installers from their settings.
//!
//! The functions are pure: a spec depends only on the server's spec, the node's configuration and [`HostInfo`].
//! [`Runtime::resolve`](super::Runtime::resolve) adds the paths of volumes. [`BuiltSpec::omissions`] names what the settings
//! request and the spec leaves out.
//!
//! Names and values are those of Wings' containers, because images, eggs and panels rely on them.

mod environment;
mod fields;
mod limits;
mod mounts;
mod network;

use std::collections::BTreeMap;

pub use limits::unenforced;
pub use mounts::clean_path;
pub use network::{interface, network, outgoing_network, server_network, server_network_name};

use super::{BuiltSpec, ContainerSpec, HostInfo, LogDriver, Volume, VolumeRole, container_name};
use crate::config::NodeConfig;
use crate::model::{Manifest, Role, Script, ServerId, Spec};
use environment::Address;

/// Folder of a server's files in its container.
pub const SERVER_FOLDER: &str = "/home/container";
/// Folder of a server's files in an installer.
pub const INSTALL_FOLDER: &str = "/mnt/server";
/// Folder of the install script in an installer.
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

/// The image of a server, and whether it is local. A leading `~` marks a local image, which is never pulled.
///
/// Images of install scripts have no such prefix.
fn server_image(image: &str) -> (&str, bool) {
    match image.strip_prefix('~') {
        Some(reference) => (reference, true),
        None => (image, false),
    }
}

/// The container that runs a server.
pub fn server_container(manifest: &Manifest, node: &NodeConfig, host: &HostInfo) -> BuiltSpec {
    let (id, settings) = (manifest.metadata.uuid, &manifest.spec.settings);
    let mut omissions = Vec::new();
    let (image, local_image) = server_image(&settings.container.image);
    let mut labels = settings.labels.clone().unwrap_or_default();
    labels.extend(wings_labels("server_process"));
    let published = network::published(&settings.allocations, manifest.metadata.managed_by, &mut omissions);
    let resources = manifest.spec.resources.clone().unwrap_or_default();
    let limits = limits::of_server(&settings.build, node, host);
    let own_network = network::of_server(id, &settings.allocations, node, host, &mut omissions);
    let network_mode = match &own_network {
        Some(own) => own.name.clone(),
        None => node.docker.network.network_mode.clone(),
    };
    let mut spec = ContainerSpec {
        name: container_name(id, Role::Server),
        image: image.to_owned(),
        local_image,
        hostname: id.to_string(),
        domainname: node.docker.domainname.clone(),
        user: Some(node.container_user().to_string()),
        environment: environment::environment(settings, node, host, Address::Reachable, &mut omissions),
        labels,
        volumes: mounts::of_server(settings, node, &mut omissions),
        tmpfs: tmpfs(node),
        dns: node.docker.network.dns.clone(),
        log: log_driver(node),
        security_opt: vec!["no-new-privileges".into()],
        read_only_root: true,
        cap_drop: DROPPED_CAPABILITIES.map(String::from).into(),
        // A server with a network of its own is not in the macvlan network.
        endpoint: own_network.is_none().then(|| network::endpoint(&settings.allocations, node, host)).flatten(),
        network_mode,
        own_network,
        userns_mode: node.docker.userns_mode.clone(),
        ports: network::ports(&published, node, host, &mut omissions),
        start_limits: limits::of_start(&limits, &resources),
        limits,
        fields: fields::of_server(settings, &resources, &host.identity.key),
        shm_mib: resources.shm_size,
        ulimits: resources.ulimits,
        ..ContainerSpec::default()
    };
    network::share_network(&mut spec, &mut omissions);
    BuiltSpec { spec, omissions }
}

/// The container that runs a server's install script.
pub fn installer_container(
    id: ServerId,
    spec: &Spec,
    script: &Script,
    node: &NodeConfig,
    host: &HostInfo,
) -> BuiltSpec {
    let settings = &spec.settings;
    let mut omissions = Vec::new();
    let volume = |role, target: &str| Volume { role, path: None, target: target.into(), read_only: false };
    let mut spec = ContainerSpec {
        name: container_name(id, Role::Installer),
        image: script.image.clone(),
        hostname: "installer".into(),
        command: Some(vec![script.entrypoint.clone(), format!("{SCRIPT_FOLDER}/{SCRIPT_FILE}")]),
        environment: environment::environment(settings, node, host, Address::AsAllocated, &mut omissions),
        labels: wings_labels("server_installer"),
        volumes: vec![volume(VolumeRole::Data, INSTALL_FOLDER), volume(VolumeRole::InstallScript, SCRIPT_FOLDER)],
        tmpfs: tmpfs(node),
        dns: node.docker.network.dns.clone(),
        log: installer_log(node),
        network_mode: node.docker.network.network_mode.clone(),
        endpoint: network::endpoint(&settings.allocations, node, host),
        userns_mode: node.docker.userns_mode.clone(),
        limits: limits::of_installer(&settings.build, node, host),
        ..ContainerSpec::default()
    };
    network::share_network(&mut spec, &mut omissions);
    BuiltSpec { spec, omissions }
}

/// The labels of Wings' containers.
fn wings_labels(container_type: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("Service".into(), "Pelican".into()), ("ContainerType".into(), container_type.into())])
}

fn tmpfs(node: &NodeConfig) -> BTreeMap<String, String> {
    BTreeMap::from([("/tmp".into(), format!("rw,exec,nosuid,size={}M", node.docker.tmpfs_mib))])
}

/// The log of an installer, which the daemon reads: with the driver `none` the output of an installation would be lost.
fn installer_log(node: &NodeConfig) -> Option<LogDriver> {
    log_driver(node).map(|log| {
        if log.driver == "none" { LogDriver { driver: "local".into(), options: BTreeMap::new() } } else { log }
    })
}

fn log_driver(node: &NodeConfig) -> Option<LogDriver> {
    let log = &node.live.get().log_config;
    (!log.driver.is_empty()).then(|| LogDriver { driver: log.driver.clone(), options: log.options.clone() })
}

#[cfg(test)]
mod tests;
