//! Networks, addresses and ports.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::config::NodeConfig;
use crate::model::settings::Allocations;
use crate::model::{ManagedBy, PublishedPort, ServerId};
use crate::runtime::{ContainerSpec, Endpoint, HostInfo, NetworkPurpose, NetworkSpec};

/// In an allocation, this address means the host.
pub(super) const LOOPBACK: &str = "127.0.0.1";

/// The network of the servers, for its creation.
pub fn network(node: &NodeConfig) -> NetworkSpec {
    let network = &node.docker.network;
    let (v4, v6) = (&network.interfaces.v4, &network.interfaces.v6);
    let range = |subnet: &str, gateway: &str| (!subnet.is_empty()).then(|| (subnet.to_owned(), gateway.to_owned()));
    NetworkSpec {
        name: network.name.clone(),
        driver: network.driver.clone(),
        internal: network.is_internal,
        ipv6: network.ipv6,
        v4: range(&v4.subnet, &v4.gateway),
        v6: range(&v6.subnet, &v6.gateway).filter(|_| network.ipv6),
        purpose: NetworkPurpose::Servers { device: "pelican0".into(), reachable: network.enable_icc, mtu: network.mtu },
    }
}

/// A network whose outgoing traffic uses an address of the host. It is named after the address.
pub fn outgoing_network(ip: &str) -> NetworkSpec {
    NetworkSpec {
        name: format!("ip-{}", ip.replace(['.', ':'], "-")),
        driver: "bridge".into(),
        internal: false,
        // Source of the IPv4 form: lifecycle, "Networks". Wings has none for IPv6.
        ipv6: ip.contains(':'),
        v4: None,
        v6: None,
        purpose: NetworkPurpose::Outgoing { address: ip.to_owned() },
    }
}

/// The network that belongs to one server. Its name is the server's, so that it is found again.
pub fn server_network(id: ServerId, node: &NodeConfig, address: Option<String>) -> NetworkSpec {
    let network = &node.docker.network;
    NetworkSpec {
        name: server_network_name(id),
        driver: "bridge".into(),
        internal: network.is_internal,
        ipv6: network.ipv6,
        v4: None,
        v6: None,
        purpose: NetworkPurpose::Server { address, mtu: network.mtu, range: node.server_networks.range },
    }
}

/// The name of the network that belongs to a server.
pub fn server_network_name(id: ServerId) -> String {
    format!("alula-{id}")
}

/// The network of a server that is not in the network of the servers: with `force_outgoing_ip`, or on a node that isolates servers.
pub(super) fn of_server(
    id: ServerId,
    allocations: &Allocations,
    node: &NodeConfig,
    host: &HostInfo,
    omissions: &mut Vec<String>,
) -> Option<NetworkSpec> {
    let address = outgoing_address(allocations, omissions);
    if node.server_networks.isolate {
        let network = &node.docker.network;
        if driver(node, host) == "bridge" && network.network_mode == network.name {
            return Some(server_network(id, node, address));
        }
        omissions.push(format!(
            "the isolation of the server's network is left out: it requires the driver bridge and no network_mode, and the node has {} \
             and {}; other servers may reach this one",
            driver(node, host),
            network.network_mode
        ));
    }
    address.map(|address| outgoing_network(&address))
}

/// The address that `force_outgoing_ip` asks for.
fn outgoing_address(allocations: &Allocations, omissions: &mut Vec<String>) -> Option<String> {
    if !allocations.force_outgoing_ip {
        return None;
    }
    let default = &allocations.default;
    let address = default.ip.parse::<IpAddr>().ok().filter(|ip| !ip.is_loopback() && !ip.is_unspecified());
    if default.port == 0 || address.is_none() {
        omissions.push(format!(
            "the forced outgoing address {} is left out: it requires a default allocation with a port on an address of this host",
            default.ip
        ));
        return None;
    }
    Some(default.ip.clone())
}

/// A container in the network of another one (`container:NAME`) has the names and the ports of that one; engines reject its own.
pub(super) fn share_network(spec: &mut ContainerSpec, omissions: &mut Vec<String>) {
    if !spec.network_mode.starts_with("container:") {
        return;
    }
    spec.hostname.clear();
    spec.domainname.clear();
    spec.dns.clear();
    if !std::mem::take(&mut spec.ports).is_empty() {
        omissions.push(format!(
            "the server's ports are left out: the node's network_mode is {}, so publish them on that container",
            spec.network_mode
        ));
    }
}

/// The address of the host that containers reach. It replaces 127.0.0.1 in allocations.
pub fn interface(node: &NodeConfig, host: &HostInfo) -> String {
    match driver(node, host) {
        "host" => LOOPBACK.into(),
        "overlay" | "weavemesh" => String::new(),
        _ => host.network.gateway.clone().unwrap_or_else(|| node.docker.network.interface.clone()),
    }
}

/// Whether the network spans several hosts. Loopback allocations are not published then.
fn inter_server_network(node: &NodeConfig, host: &HostInfo) -> bool {
    node.docker.network.ispn || matches!(driver(node, host), "overlay" | "weavemesh")
}

fn driver<'a>(node: &'a NodeConfig, host: &'a HostInfo) -> &'a str {
    match host.network.driver.as_str() {
        "" => &node.docker.network.driver,
        real => real,
    }
}

/// The fixed address in a macvlan network: that of the default allocation.
pub(super) fn endpoint(allocations: &Allocations, node: &NodeConfig, host: &HostInfo) -> Option<Endpoint> {
    if driver(node, host) != "macvlan" || allocations.default.ip == LOOPBACK {
        return None;
    }
    let network = &node.docker.network;
    Some(Endpoint {
        network: network.name.clone(),
        address: allocations.default.ip.clone(),
        gateway: host.network.gateway.clone().unwrap_or_else(|| network.interfaces.v4.gateway.clone()),
    })
}

/// The allocations that are published: the mappings, in which a panel lists the default allocation, too. A file without mappings publishes
/// its default.
pub(super) fn published<'a>(
    allocations: &'a Allocations,
    managed_by: ManagedBy,
    omissions: &mut Vec<String>,
) -> Cow<'a, BTreeMap<String, Vec<i64>>> {
    let Allocations { default, mappings, .. } = allocations;
    if managed_by == ManagedBy::Panel || default.port == 0 {
        return Cow::Borrowed(mappings);
    }
    if mappings.is_empty() {
        return Cow::Owned(BTreeMap::from([(default.ip.clone(), vec![default.port])]));
    }
    if !mappings.get(&default.ip).is_some_and(|ports| ports.contains(&default.port)) {
        omissions.push(format!(
            "the default allocation {}:{} is not published: allocations.mappings does not list it; add it there",
            default.ip, default.port
        ));
    }
    Cow::Borrowed(mappings)
}

/// The published ports, each once. Invalid numbers are left out silently, as with Wings.
pub(super) fn ports(
    mappings: &BTreeMap<String, Vec<i64>>,
    node: &NodeConfig,
    host: &HostInfo,
    omissions: &mut Vec<String>,
) -> Vec<PublishedPort> {
    let mut ports = BTreeSet::new();
    for (ip, numbers) in mappings {
        let address = match ip.as_str() {
            LOOPBACK if inter_server_network(node, host) => continue,
            LOOPBACK => interface(node, host),
            // An invalid address must not publish on all addresses.
            _ => match ip.parse::<IpAddr>() {
                Ok(address) => address.to_string(),
                Err(_) => {
                    omissions
                        .push(format!("allocation {ip:?} is left out: this is no IP address; correct the allocation"));
                    continue;
                }
            },
        };
        ports.extend(valid_ports(numbers).into_iter().map(|port| PublishedPort { address: address.clone(), port }));
    }
    ports.into_iter().collect()
}

/// The valid ones of a list of ports.
pub(super) fn valid_ports(numbers: &[i64]) -> BTreeSet<u16> {
    numbers.iter().filter_map(|number| u16::try_from(*number).ok()).filter(|port| *port != 0).collect()
}

#[cfg(test)]
mod tests;
