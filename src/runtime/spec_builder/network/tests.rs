use std::path::Path;

use super::*;
use crate::model::settings::Allocation;
use crate::runtime::NetworkInfo;

fn node() -> NodeConfig {
    crate::testing::node_config(Path::new("/node"))
}

fn host(driver: &str) -> HostInfo {
    let network = NetworkInfo { driver: driver.into(), gateway: Some("172.30.0.1".into()) };
    HostInfo { network, ..HostInfo::default() }
}

fn allocations(ip: &str, port: i64, mappings: &[(&str, &[i64])]) -> Allocations {
    Allocations {
        force_outgoing_ip: false,
        default: Allocation { ip: ip.into(), port },
        mappings: mappings.iter().map(|(ip, ports)| (ip.to_string(), ports.to_vec())).collect(),
    }
}

fn published_on(driver: &str, mappings: &[(&str, &[i64])]) -> Vec<String> {
    let ports = ports(&allocations("127.0.0.1", 0, mappings).mappings, &node(), &host(driver), &mut Vec::new());
    ports.iter().map(|port| format!("{} {}", port.address, port.port)).collect()
}

#[test]
fn ports_are_published_once_and_only_if_valid() {
    let all = published_on("bridge", &[("10.0.0.1", &[2, 1, 2, 0, -1, 65535, 65536, 70000]), ("0.0.0.0", &[7])]);
    assert_eq!(all, ["0.0.0.0 7", "10.0.0.1 1", "10.0.0.1 2", "10.0.0.1 65535"]);
    assert_eq!(published_on("bridge", &[]), [""; 0]);
    assert_eq!(published_on("bridge", &[("fd00::1", &[1])]), ["fd00::1 1"]);
}

#[test]
fn loopback_becomes_the_interface() {
    let loopback: &[(&str, &[i64])] = &[("127.0.0.1", &[1])];
    assert_eq!(published_on("bridge", loopback), ["172.30.0.1 1"]);
    assert_eq!(published_on("host", loopback), ["127.0.0.1 1"]);
    for inter_server in ["overlay", "weavemesh"] {
        assert_eq!(published_on(inter_server, loopback), [""; 0]);
        assert_eq!(published_on(inter_server, &[("10.0.0.1", &[1])]), ["10.0.0.1 1"]);
    }
    let unknown = HostInfo::default();
    assert_eq!(interface(&node(), &unknown), "172.18.0.1", "the configured one until the network is known");
    let mut node = node();
    node.docker.network.ispn = true;
    assert!(ports(&allocations("127.0.0.1", 1, loopback).mappings, &node, &host("bridge"), &mut Vec::new()).is_empty());
}

#[test]
fn an_invalid_address_is_not_published() {
    for ip in ["", "localhost", "10.0.0", "10.0.0.1:80", "::1%lo"] {
        let mut omissions = Vec::new();
        let ports =
            ports(&allocations("10.0.0.1", 1, &[(ip, &[1])]).mappings, &node(), &host("bridge"), &mut omissions);
        assert_eq!(ports, [], "{ip}");
        assert_eq!(omissions.len(), 1, "{ip}");
    }
}

#[test]
fn a_file_publishes_its_default_allocation_unless_it_has_mappings() {
    let of = |managed_by, allocations: &Allocations| {
        let mut omissions = Vec::new();
        let published = published(allocations, managed_by, &mut omissions);
        let ports = ports(&published, &node(), &host("bridge"), &mut omissions);
        (ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "), omissions)
    };
    let none: Vec<String> = Vec::new();
    for (allocations, by_file, by_panel) in [
        (allocations("0.0.0.0", 25565, &[]), "0.0.0.0:25565", ""),
        (allocations("fd00::1", 25565, &[]), "[fd00::1]:25565", ""),
        (allocations("127.0.0.1", 25565, &[]), "172.30.0.1:25565", ""),
        (allocations("127.0.0.1", 0, &[]), "", ""),
        (allocations("0.0.0.0", 70_000, &[]), "", ""),
        (allocations("0.0.0.0", 1, &[("0.0.0.0", &[1, 2])]), "0.0.0.0:1 0.0.0.0:2", "0.0.0.0:1 0.0.0.0:2"),
    ] {
        assert_eq!(of(ManagedBy::File, &allocations), (by_file.to_owned(), none.clone()), "{allocations:?}");
        assert_eq!(of(ManagedBy::Panel, &allocations), (by_panel.to_owned(), none.clone()), "{allocations:?}");
    }
    for (mappings, ports) in [("10.0.0.1", "10.0.0.1:1"), ("0.0.0.0", "0.0.0.0:1")] {
        let (published, omissions) = of(ManagedBy::File, &allocations("0.0.0.0", 25565, &[(mappings, &[1])]));
        assert_eq!(published, ports);
        assert!(omissions[0].contains("0.0.0.0:25565 is not published"), "{omissions:?}");
    }
    let (published, omissions) = of(ManagedBy::File, &allocations("0.0.0.0", 25565, &[("0.0.0.0", &[])]));
    assert_eq!((published.as_str(), omissions.len()), ("", 1), "an empty list publishes nothing");
    assert_eq!(of(ManagedBy::File, &allocations("localhost", 25565, &[])).1.len(), 1, "this is no address");
}

#[test]
fn a_forced_outgoing_address_requires_an_allocation() {
    for (ip, port, name) in [
        ("10.1.2.3", 1, Some("ip-10-1-2-3")),
        ("fd00::1", 1, Some("ip-fd00--1")),
        ("10.1.2.3", 0, None),
        ("127.0.0.1", 1, None),
        ("0.0.0.0", 1, None),
        ("garbage", 1, None),
    ] {
        let mut omissions = Vec::new();
        let allocations = Allocations { force_outgoing_ip: true, ..allocations(ip, port, &[]) };
        let network = outgoing(&allocations, &mut omissions);
        assert_eq!(network.as_ref().map(|network| network.name.as_str()), name, "{ip}:{port}");
        assert_eq!(omissions.len(), usize::from(name.is_none()), "{ip}:{port}");
        if let Some(network) = network {
            assert_eq!(network.purpose, NetworkPurpose::Outgoing { address: ip.into() });
            assert!(network.v4.is_none() && !network.ipv6);
        }
    }
    assert_eq!(outgoing(&allocations("10.1.2.3", 1, &[]), &mut Vec::new()), None, "not asked for");
}

#[test]
fn macvlan_fixes_the_address() {
    let fixed = endpoint(&allocations("10.0.0.9", 1, &[]), &node(), &host("macvlan")).unwrap();
    assert_eq!((fixed.network.as_str(), fixed.address.as_str()), ("pelican_nw", "10.0.0.9"));
    assert_eq!(fixed.gateway, "172.30.0.1");
    assert_eq!(endpoint(&allocations("10.0.0.9", 1, &[]), &node(), &host("bridge")), None);
    assert_eq!(endpoint(&allocations("127.0.0.1", 0, &[]), &node(), &host("macvlan")), None);
}

#[test]
fn the_network_of_the_servers() {
    let mut node = node();
    insta::assert_snapshot!(serde_json::to_string_pretty(&network(&node)).unwrap());
    node.docker.network.ipv6 = false;
    node.docker.network.enable_icc = false;
    let plain = network(&node);
    assert_eq!(plain.v6, None);
    assert!(matches!(plain.purpose, NetworkPurpose::Servers { reachable: false, .. }));
}
