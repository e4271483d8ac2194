use std::path::Path;

use super::*;
use crate::model::settings::Allocation;
use crate::runtime::NetworkInfo;

fn node() -> NodeConfig {
    crate::testing::node_config(Path::new("/node"))
}

fn id() -> ServerId {
    "550e8400-e29b-41d4-a716-446655440000".parse().unwrap()
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
        let network = of_server(id(), &allocations, &node(), &host("bridge"), &mut omissions);
        assert_eq!(network.as_ref().map(|network| network.name.as_str()), name, "{ip}:{port}");
        assert_eq!(omissions.len(), usize::from(name.is_none()), "{ip}:{port}");
        if let Some(network) = network {
            assert_eq!(network.purpose, NetworkPurpose::Outgoing { address: ip.into() });
            assert!(network.v4.is_none() && network.ipv6 == ip.contains(':'));
        }
    }
    let unforced = allocations("10.1.2.3", 1, &[]);
    assert_eq!(of_server(id(), &unforced, &node(), &host("bridge"), &mut Vec::new()), None, "not asked for");
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

#[test]
fn an_isolated_server_has_a_network_of_its_own() {
    let mut node = node();
    node.server_networks.isolate = true;
    let of = |node: &NodeConfig, driver: &str, force_outgoing_ip: bool| {
        let mut omissions = Vec::new();
        let allocations = Allocations { force_outgoing_ip, ..allocations("10.1.2.3", 1, &[]) };
        (of_server(id(), &allocations, node, &host(driver), &mut omissions), omissions.len())
    };
    for (forced, expected) in [(false, None), (true, Some("10.1.2.3"))] {
        let (network, omissions) = of(&node, "bridge", forced);
        let network = network.unwrap();
        assert_eq!((network.name.as_str(), omissions), ("alula-550e8400-e29b-41d4-a716-446655440000", 0));
        let NetworkPurpose::Server { address, .. } = network.purpose else { panic!("{network:?}") };
        assert_eq!(address.as_deref(), expected);
    }
    for driver in ["macvlan", "host", "overlay"] {
        assert_eq!(of(&node, driver, false), (None, 1), "{driver} has no such network, and says so");
    }
    node.docker.network.network_mode = "host".into();
    assert_eq!(of(&node, "bridge", false), (None, 1));
}

#[test]
fn a_container_in_the_network_of_another_one_has_no_names_and_ports() {
    let published = PublishedPort { address: "10.0.0.1".into(), port: 1 };
    let spec = |network_mode: &str| ContainerSpec {
        network_mode: network_mode.into(),
        hostname: "h".into(),
        domainname: "d".into(),
        dns: vec!["1.1.1.1".into()],
        ports: vec![published.clone()],
        ..ContainerSpec::default()
    };
    let (mut shared, mut omissions) = (spec("container:vpn"), Vec::new());
    share_network(&mut shared, &mut omissions);
    let expected = ContainerSpec { network_mode: "container:vpn".into(), ..ContainerSpec::default() };
    assert_eq!((shared, omissions.len()), (expected, 1));
    let (mut own, mut omissions) = (spec("pelican_nw"), Vec::new());
    share_network(&mut own, &mut omissions);
    assert_eq!((own, omissions.len()), (spec("pelican_nw"), 0));
}
