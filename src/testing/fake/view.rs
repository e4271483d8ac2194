//! The fake engine's state in the runtime's types, and its networks.

use std::collections::BTreeSet;

use super::container::Container;
use super::engine::FakeEngine;
use super::images::canonical;
use super::rejection::Rejection;
use super::state::{Network, State};
use crate::model::{ContainerStatus, NodeIdentity, Role, ServerId};
use crate::runtime::{ContainerSpec, EngineDiskUsage, EngineInfo, NetworkInfo, NetworkSpec, container_name};

pub(super) fn engine_info(state: &State) -> EngineInfo {
    let count = |which: fn(&Container) -> bool| {
        i64::try_from(state.containers.values().filter(|container| which(container)).count()).unwrap_or(i64::MAX)
    };
    EngineInfo {
        version: "0.0.0-fake".into(),
        cgroup_driver: "systemd".into(),
        cgroup_version: "2".into(),
        containers: [count(|_| true), count(|one| one.running()), 0, count(|one| !one.running())],
        storage_driver: "overlay2".into(),
        storage_filesystem: "extfs".into(),
        runc: "0.0.0-fake".into(),
    }
}

/// Images and containers occupy nothing here.
pub(super) fn disk_usage(state: &State) -> EngineDiskUsage {
    let names = state.containers.values().map(|container| canonical(&container.spec.image));
    let used: BTreeSet<String> = names.filter(|name| state.images.local.contains_key(name)).collect();
    EngineDiskUsage { images_total: state.images.local.len(), images_active: used.len(), ..EngineDiskUsage::default() }
}

/// The container of a server: the one with its name, or one with its labels; one that runs comes first.
pub(super) fn status(
    engine: &FakeEngine,
    node: &NodeIdentity,
    state: &State,
    server: ServerId,
    role: Role,
) -> Option<ContainerStatus> {
    let name = container_name(server, role);
    let of_node = |container: &&Container| container.node(node).other().is_none();
    let of_role = |container: &&Container| container.owner() == Some((server, role));
    let mut owned: Vec<&Container> = state.containers.values().filter(of_role).filter(of_node).collect();
    owned.sort_by_key(|container| (!container.running(), container.name != name));
    let (container, others) = owned.split_first()?;
    let ours = container.purpose.as_ref();
    Some(ContainerStatus {
        id: container.id.clone(),
        state: container.phase.state(),
        paused: false,
        process: None,
        started_at: container.started.map(|at| engine.timestamp(at)),
        finished_at: container.finished.map(|at| engine.timestamp(at)),
        token: ours.map(|purpose| purpose.token.clone()),
        spec_hash: ours.map(|_| container.spec_hash.clone()),
        limits_hash: ours.map(|_| container.limits_label.clone()),
        image: Some(container.spec.image.clone()),
        fields: ours.map(|_| container.spec.fields.clone()).filter(|fields| !fields.is_empty()),
        ports: if container.running() { container.spec.ports.clone() } else { Vec::new() },
        stop_signal: container.stop_signal.clone(),
        others: others.iter().filter(|other| other.running()).map(|other| other.id.clone()).collect(),
        files: container.files.filter(|_| container.running()),
    })
}

pub(super) fn ensure_network(state: &mut State, spec: &NetworkSpec) -> NetworkInfo {
    if let Some(network) = state.networks.get(&spec.name) {
        return network.info.clone();
    }
    let free = |subnet: &str| !state.networks.values().any(|network| network.subnet == subnet);
    let pool = || (18..=255).map(|part| (format!("172.{part}.0.0/16"), format!("172.{part}.0.1")));
    let wanted = spec.v4.clone().filter(|(subnet, _)| free(subnet));
    let (subnet, gateway) = wanted.or_else(|| pool().find(|(subnet, _)| free(subnet))).unwrap_or_default();
    let info = NetworkInfo { driver: spec.driver.clone(), gateway: Some(gateway) };
    state.networks.insert(spec.name.clone(), Network { info: info.clone(), subnet });
    info
}

/// Removes a network that no container uses; a missing one is no error.
pub(super) fn remove_network(state: &mut State, name: &str) -> Result<(), Rejection> {
    let uses = |spec: &ContainerSpec| {
        spec.network_mode == name || spec.endpoint.as_ref().is_some_and(|endpoint| endpoint.network == name)
    };
    if state.containers.values().any(|container| container.running() && uses(&container.spec)) {
        return Err(Rejection::new(403, format!("error while removing network: network {name} has active endpoints")));
    }
    state.networks.remove(name);
    Ok(())
}
