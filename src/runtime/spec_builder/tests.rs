use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::model::{ManagedBy, Settings};
use crate::runtime::{KernelLimits, NetworkInfo};

fn id() -> ServerId {
    "550e8400-e29b-41d4-a716-446655440000".parse().unwrap()
}

fn node() -> NodeConfig {
    let mut node = crate::testing::node_config(Path::new("/node"));
    (node.owner.uid, node.owner.gid) = (988, 989);
    node
}

fn host() -> HostInfo {
    HostInfo {
        identity: Arc::default(),
        network: NetworkInfo { driver: "bridge".into(), gateway: Some("172.30.0.1".into()) },
        kernel: KernelLimits { block_io_weight: true, oom_kill_disable: true, swap: true },
    }
}

/// A server with all settings of the panel.
fn full() -> Spec {
    let settings: Settings = serde_json::from_value(json!({
        "id": 7,
        "invocation": "java -Xmx{{SERVER_MEMORY}}M -jar {{JAR}} --port {{SERVER_PORT}}",
        "environment": {"JAR": "server.jar", "P_SERVER_UUID": id().to_string(), "SERVER_TIMEZONE": "Europe/Berlin",
                        "players": 20},
        "labels": {"team": "blue", "Service": "spoofed"},
        "allocations": {"default": {"ip": "127.0.0.1", "port": 25565},
                        "mappings": {"127.0.0.1": [25565], "203.0.113.5": [25566, 0]}},
        "build": {"memory_limit": 128, "swap": 64, "io_weight": 300, "cpu_limit": 150, "threads": "0-1"},
        "mounts": [{"source": "/srv/maps", "target": "/maps", "read_only": true}],
        "container": {"image": "~ghcr.io/pelican-eggs/yolks:java_21"}
    }))
    .unwrap();
    Spec { settings, ..Spec::default() }
}

fn manifest(spec: &Spec) -> Manifest {
    Manifest { spec: spec.clone(), ..Manifest::new(id(), ManagedBy::Panel) }
}

fn script() -> Script {
    Script { image: "ghcr.io/pelican-eggs/installers:alpine".into(), entrypoint: "ash".into(), text: "true".into() }
}

#[test]
fn a_server() {
    let built = server_container(&manifest(&full()), &node(), &host());
    assert_eq!(built.omissions, [""; 0]);
    assert_eq!(built.spec.own_network, None);
    insta::assert_snapshot!(serde_json::to_string_pretty(&built.spec).unwrap());
}

#[test]
fn without_a_log_driver_the_engine_chooses() {
    let node = node();
    node.live.update(|live| live.log_config.driver.clear());
    assert!(server_container(&manifest(&full()), &node, &host()).spec.log.is_none());
}

#[test]
fn the_output_of_an_installer_can_be_read_whatever_the_log_driver() {
    let node = node();
    node.live.update(|live| live.log_config.driver = "none".into());
    assert_eq!(server_container(&manifest(&full()), &node, &host()).spec.log.unwrap().driver, "none");
    assert_eq!(installer_container(id(), &full(), &script(), &node, &host()).spec.log.unwrap().driver, "local");
    node.live.update(|live| live.log_config.driver = "journald".into());
    assert_eq!(installer_container(id(), &full(), &script(), &node, &host()).spec.log.unwrap().driver, "journald");
}

#[test]
fn an_installer() {
    let built = installer_container(id(), &full(), &script(), &node(), &host());
    assert_eq!(built.omissions, [""; 0]);
    insta::assert_snapshot!(serde_json::to_string_pretty(&built.spec).unwrap());
}

#[test]
fn the_same_input_gives_the_same_hash() {
    let hash = |spec: &Spec| server_container(&manifest(spec), &node(), &host()).spec.hash();
    let limits = |spec: &Spec| server_container(&manifest(spec), &node(), &host()).spec.limits.hash();
    let mut larger = full();
    larger.settings.build.memory_limit = 256;
    larger.settings.build.cpu_limit = 10;
    assert_eq!(hash(&full()), hash(&full()));
    assert_ne!(limits(&full()), limits(&larger));
    let mut other = full();
    other.settings.invocation.push_str(" --verbose");
    assert_ne!(hash(&full()), hash(&other));
    assert_eq!(limits(&full()), limits(&other));
}

#[test]
fn addresses_differ_between_server_and_installer() {
    let of = |environment: &[String]| {
        environment.iter().find_map(|variable| variable.strip_prefix("SERVER_IP=").map(String::from))
    };
    let mut spec = full();
    let server = |spec: &Spec| of(&server_container(&manifest(spec), &node(), &host()).spec.environment);
    let installer = |spec: &Spec| of(&installer_container(id(), spec, &script(), &node(), &host()).spec.environment);
    assert_eq!(server(&spec).unwrap(), "172.30.0.1");
    assert_eq!(installer(&spec).unwrap(), "127.0.0.1");
    spec.settings.allocations.default.port = 0;
    assert_eq!(server(&spec).unwrap(), "127.0.0.1", "no allocation");
    spec.settings.allocations.default.ip = "203.0.113.5".into();
    assert_eq!(server(&spec).unwrap(), "203.0.113.5");
}

#[test]
fn time_zones() {
    let zone = |zone: &str| {
        let mut spec = full();
        spec.settings.environment.insert("SERVER_TIMEZONE".into(), zone.into());
        server_container(&manifest(&spec), &node(), &host()).spec.environment.swap_remove(0)
    };
    assert_eq!(zone("Europe/Berlin"), "TZ=Europe/Berlin");
    assert_eq!(zone("America/Port-au-Prince"), "TZ=America/Port-au-Prince");
    assert_eq!(zone("Etc/GMT+5"), "TZ=Etc/GMT+5");
    for invalid_response in ["No/Where", "", "../../etc/passwd"] {
        assert_eq!(zone(invalid_response), "TZ=UTC", "{invalid_response}");
    }
}

#[test]
fn a_forced_outgoing_address_does_not_apply_to_installers() {
    let mut spec = full();
    spec.settings.allocations.force_outgoing_ip = true;
    spec.settings.allocations.default.ip = "203.0.113.5".into();
    let server = server_container(&manifest(&spec), &node(), &host());
    assert_eq!(server.spec.network_mode, "ip-203-0-113-5");
    assert_eq!(server.spec.own_network.unwrap().name, "ip-203-0-113-5");
    let installer = installer_container(id(), &spec, &script(), &node(), &host());
    assert_eq!(installer.spec.network_mode, "pelican_nw");
    assert_eq!(installer.spec.own_network, None);
}

#[test]
fn a_rootless_node_names_its_own_user() {
    let mut node = node();
    node.rootless = Some(crate::config::ContainerUser { uid: 0, gid: 0 });
    assert_eq!(server_container(&manifest(&full()), &node, &host()).spec.user.unwrap(), "0:0");
}

#[test]
fn local_images() {
    assert_eq!(server_image("~game:1"), ("game:1", true));
    assert_eq!(server_image("~~game:1"), ("~game:1", true));
    assert_eq!(server_image("game:1"), ("game:1", false));
}

#[test]
fn variables_with_nul_bytes_are_left_out() {
    let mut spec = full();
    spec.settings.environment.insert("BAD".into(), "a\0b".into());
    let built = server_container(&manifest(&spec), &node(), &host());
    assert!(built.spec.environment.iter().all(|variable| !variable.contains('\0')));
    assert_eq!(built.omissions.len(), 1);
}
