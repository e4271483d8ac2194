//! Networks, addresses and ports.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::config::NodeConfig;
use crate::model::settings::Allocations;
use crate::runtime::{Endpoint, HostInfo, NetworkPurpose, NetworkSpec, Omission, PublishedPort};

/// The address that means "this host" in an allocation.
pub(super) const LOOPBACK: &str = "127.0.0.1";

/// The network of the servers, if it has to be made.
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

/// The network whose traffic leaves by an address of the host, named after the address.
pub fn outgoing_network(ip: &str) -> NetworkSpec {
    NetworkSpec {
        name: format!("ip-{}", ip.replace(['.', ':'], "-")),
        driver: "bridge".into(),
        internal: false,
        ipv6: false,
        v4: None,
        v6: None,
        purpose: NetworkPurpose::Outgoing { address: ip.to_owned() },
    }
}

/// The network of its own that a server asks for by `force_outgoing_ip`.
pub(super) fn outgoing(allocations: &Allocations, omissions: &mut Vec<Omission>) -> Option<NetworkSpec> {
    if !allocations.force_outgoing_ip {
        return None;
    }
    let default = &allocations.default;
    let address = default.ip.parse::<IpAddr>().ok().filter(|ip| !ip.is_loopback() && !ip.is_unspecified());
    if default.port == 0 || address.is_none() {
        let subject = format!("the forced outgoing address {}", default.ip);
        let reason = "it takes a default allocation with a port on an address of this host";
        omissions.push(Omission::new(subject, reason));
        return None;
    }
    Some(outgoing_network(&default.ip))
}

/// The address of the host that containers reach; stands for 127.0.0.1 in allocations.
pub(super) fn interface(node: &NodeConfig, host: &HostInfo) -> String {
    match driver(node, host) {
        "host" => LOOPBACK.into(),
        "overlay" | "weavemesh" => String::new(),
        _ => host.network.gateway.clone().unwrap_or_else(|| node.docker.network.interface.clone()),
    }
}

/// Whether servers reach each other by a network of many hosts, so that loopback allocations are not published.
fn inter_server_network(node: &NodeConfig, host: &HostInfo) -> bool {
    node.docker.network.ispn || matches!(driver(node, host), "overlay" | "weavemesh")
}

fn driver<'a>(node: &'a NodeConfig, host: &'a HostInfo) -> &'a str {
    match host.network.driver.as_str() {
        "" => &node.docker.network.driver,
        real => real,
    }
}

/// The fixed place in a macvlan network: the default allocation's address.
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

/// The published ports, each once. Numbers that are no ports are left out without a word, as the panel expects.
pub(super) fn ports(
    allocations: &Allocations,
    node: &NodeConfig,
    host: &HostInfo,
    omissions: &mut Vec<Omission>,
) -> Vec<PublishedPort> {
    let mut ports = BTreeSet::new();
    for (ip, numbers) in &allocations.mappings {
        let address = match ip.as_str() {
            LOOPBACK if inter_server_network(node, host) => continue,
            LOOPBACK => interface(node, host),
            // An empty or misspelt address must not become "all addresses".
            _ => match ip.parse::<IpAddr>() {
                Ok(address) => address.to_string(),
                Err(_) => {
                    let reason = "this is no IP address; correct the allocation";
                    omissions.push(Omission::new(format!("allocation {ip:?}"), reason));
                    continue;
                }
            },
        };
        let valid = numbers.iter().filter_map(|number| u16::try_from(*number).ok()).filter(|port| *port != 0);
        ports.extend(valid.map(|port| PublishedPort { address: address.clone(), port }));
    }
    ports.into_iter().collect()
}

#[cfg(test)]
mod tests;
