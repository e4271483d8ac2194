//! The node's networks, on an engine that has others.

use alula::runtime::host::Engine;
use alula::runtime::{NetworkPurpose, NetworkSpec, spec_builder};
use bollard::Docker;
use bollard::models::NetworkInspect;

const BRIDGE_NAME: &str = "com.docker.network.bridge.name";

/// The node's network with unique names and subnets.
fn spec(bridge: &str, third: u8) -> NetworkSpec {
    let node = alula::testing::node_config(std::path::Path::new("/node"));
    let mut spec = spec_builder::network(&node);
    spec.name = crate::unique("net");
    if let NetworkPurpose::Servers { device, .. } = &mut spec.purpose {
        *device = bridge.into();
    }
    spec.v4 = Some((format!("10.213.{third}.0/24"), format!("10.213.{third}.1")));
    spec.v6 = Some((format!("fdba:17c8:6c94:{third}::/64"), format!("fdba:17c8:6c94:{third}::1011")));
    spec
}

fn device() -> String {
    format!("at{}", &uuid::Uuid::new_v4().simple().to_string()[..8])
}

async fn inspected(docker: &Docker, spec: &NetworkSpec) -> NetworkInspect {
    let network = docker.inspect_network(&spec.name, None::<bollard::query_parameters::InspectNetworkOptions>).await;
    docker.remove_network(&spec.name).await.unwrap();
    network.unwrap()
}

#[tokio::test]
async fn the_network_of_the_servers_is_created_as_specified() {
    let Some((runtime, docker)) = crate::engine().await else { return };
    let spec = spec(&device(), 80);
    let info = runtime.ensure_network(&spec).await.unwrap();
    let network = inspected(&docker, &spec).await;
    assert_eq!((info.driver.as_str(), info.gateway.as_deref()), ("bridge", Some("10.213.80.1")));
    let options = network.options.unwrap();
    let NetworkPurpose::Servers { device, reachable, mtu } = &spec.purpose else { panic!("{spec:?}") };
    assert_eq!(options.get(BRIDGE_NAME), Some(device));
    assert_eq!(options["com.docker.network.bridge.enable_icc"], reachable.to_string());
    assert_eq!(options["com.docker.network.driver.mtu"], mtu.to_string());
}

#[tokio::test]
async fn two_networks_do_not_share_a_bridge() {
    let Some((runtime, docker)) = crate::engine().await else { return };
    let bridge = device();
    let (first, second) = (spec(&bridge, 81), spec(&bridge, 82));
    runtime.ensure_network(&first).await.unwrap();
    let made = runtime.ensure_network(&second).await;
    let (first, second) = (inspected(&docker, &first).await, inspected(&docker, &second).await);
    assert_eq!(made.unwrap().gateway.as_deref(), Some("10.213.82.1"), "nothing else is given up");
    assert_eq!(first.options.unwrap().get(BRIDGE_NAME), Some(&bridge));
    assert_ne!(second.options.unwrap().get(BRIDGE_NAME), Some(&bridge));
}

#[tokio::test]
async fn concurrent_creations_result_in_one_network() {
    let Some((runtime, docker)) = crate::engine().await else { return };
    let spec = spec(&device(), 83);
    let all = futures_util::future::join_all((0..4).map(|_| runtime.ensure_network(&spec))).await;
    let gateways: Vec<_> = all.into_iter().map(|made| made.unwrap().gateway).collect();
    inspected(&docker, &spec).await;
    assert_eq!(gateways, vec![Some("10.213.83.1".to_owned()); 4]);
    let again = docker.inspect_network(&spec.name, None::<bollard::query_parameters::InspectNetworkOptions>).await;
    assert!(again.is_err(), "there was one, and it is removed");
}

#[tokio::test]
async fn an_outgoing_network_is_created() {
    let Some((runtime, docker)) = crate::engine().await else { return };
    let mut spec = spec_builder::outgoing_network("10.213.84.1");
    spec.name = crate::unique("out");
    let info = runtime.ensure_network(&spec).await.unwrap();
    let network = inspected(&docker, &spec).await;
    assert!(info.gateway.is_some());
    assert_eq!(network.options.unwrap()["com.docker.network.host_ipv4"], "10.213.84.1");
}

/// An engine has room for some thirty networks of its own choice.
#[tokio::test]
async fn networks_of_single_servers_have_small_ranges_of_their_own() {
    let Some((runtime, docker)) = crate::engine().await else { return };
    let mut node = alula::testing::node_config(std::path::Path::new("/node"));
    node.docker.network.ipv6 = false;
    node.server_networks.range = "10.214.0.0/16".parse().unwrap();
    let specs: Vec<NetworkSpec> = (0..40)
        .map(|_| spec_builder::server_network(alula::model::ServerId::new(uuid::Uuid::new_v4()), &node, None))
        .collect();
    let mut made = Vec::new();
    for some in specs.chunks(8) {
        made.extend(futures_util::future::join_all(some.iter().map(|spec| runtime.ensure_network(spec))).await);
    }
    let mut subnets = std::collections::BTreeSet::new();
    for spec in &specs {
        let configs = inspected(&docker, spec).await.ipam.unwrap().config.unwrap();
        subnets.extend(configs.into_iter().filter_map(|config| config.subnet));
    }
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    assert_eq!(subnets.len(), 40);
    assert!(subnets.iter().all(|subnet| subnet.starts_with("10.214.") && subnet.ends_with("/28")), "{subnets:?}");
}
