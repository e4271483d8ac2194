//! What concerns the whole node: events, listings, the engine, networks.

use alula::model::{ContainerState, Role};
use alula::runtime::{ContainerChange, ErrorKind, HostInfo, Listed, Runtime, container_name};
use futures_util::StreamExt;

use crate::bench::{Bench, Routine, Subject, node, own_network};

pub async fn events_name_server_and_role(bench: &dyn Bench) {
    let mut events = bench.runtime().events().await.unwrap();
    let subject = Subject::new(bench, Role::Installer, Routine::EndsWithThree);
    let id = subject.start(bench).await;
    subject.ended(bench).await;
    bench.runtime().remove(&id).await.unwrap();
    let mut changes = Vec::new();
    while changes.last() != Some(&ContainerChange::Removed) {
        let event = events.next().await.expect("the stream goes on");
        // Other tests may use the same engine.
        if event.server == subject.server {
            assert_eq!(event.role, Role::Installer);
            changes.push(event.change);
        }
    }
    let started = changes.iter().position(|change| *change == ContainerChange::Started).expect("a start");
    let died = changes.iter().position(|change| *change == ContainerChange::Ended).expect("an end");
    assert!(started < died, "{changes:?}");
}

pub async fn the_list_shows_ours_alone(bench: &dyn Bench) {
    let waiting = Subject::new(bench, Role::Installer, Routine::Answers);
    let running = Subject::server(bench, Routine::Answers);
    let waiting_id = waiting.create(bench).await;
    let running_id = running.start(bench).await;
    let foreign = bench.create_foreign(&format!("contract-{}", waiting.server)).await;
    let list = bench.runtime().list().await.unwrap();
    let line = |subject: &Subject, id: &str, running| Listed {
        server: subject.server,
        role: subject.role,
        id: id.into(),
        running,
    };
    assert!(list.contains(&line(&waiting, &waiting_id, false)), "{list:?}");
    assert!(list.contains(&line(&running, &running_id, true)), "{list:?}");
    assert!(!list.iter().any(|listed| listed.id == foreign), "{list:?}");
}

pub async fn containers_without_our_labels_are_found_by_name(bench: &dyn Bench) {
    for role in [Role::Server, Role::Installer] {
        let server = Subject::server(bench, Routine::Answers).server;
        let id = bench.create_foreign(&container_name(server, role)).await;
        let facts = bench.runtime().inspect(server, role).await.unwrap().expect("found by name");
        assert_eq!((&facts.id, facts.token, facts.spec_hash), (&id, None, None));
        let listed = Listed { server, role, id: id.clone(), running: false };
        assert!(bench.runtime().list().await.unwrap().contains(&listed));
        bench.runtime().remove(&id).await.unwrap();
        assert_eq!(bench.runtime().inspect(server, role).await.unwrap(), None);
    }
}

pub async fn the_engine_tells_about_itself(bench: &dyn Bench) {
    Subject::server(bench, Routine::Answers).start(bench).await;
    let facts = bench.runtime().engine().await.unwrap();
    for text in [&facts.version, &facts.storage_driver, &facts.runc] {
        assert!(!text.is_empty(), "{facts:?}");
    }
    // containerd's image store, the default since Docker 29, does not say what it stands on.
    assert!(!facts.storage_filesystem.is_empty() || facts.storage_driver == "overlayfs", "{facts:?}");
    assert!(["cgroupfs", "systemd"].contains(&facts.cgroup_driver.as_str()), "{facts:?}");
    assert!(["1", "2"].contains(&facts.cgroup_version.as_str()), "{facts:?}");
    let [all, running, paused, stopped] = facts.containers;
    assert!(running >= 1 && all == running + paused + stopped, "{facts:?}");
}

/// A subnet that nobody else uses, and its gateway.
fn subnet() -> (String, String) {
    let [one, two, ..] = *uuid::Uuid::new_v4().as_bytes();
    let one = one | 128;
    (format!("10.{one}.{two}.0/24"), format!("10.{one}.{two}.1"))
}

/// The same engine under a node whose network has this name and these addresses.
fn on_network(bench: &dyn Bench, name: &str, v4: &(String, String)) -> Box<dyn Runtime> {
    let mut node = node();
    let network = &mut node.docker.network;
    (network.name, network.network_mode) = (name.to_owned(), name.to_owned());
    (network.driver, network.ipv6) = ("bridge".into(), false);
    (network.v4.subnet, network.v4.gateway) = v4.clone();
    bench.runtime_of(node)
}

pub async fn a_network_is_made_once(bench: &dyn Bench) {
    let (name, v4) = (bench.network(1), subnet());
    let runtime = on_network(bench, &name, &v4);
    assert_eq!(runtime.host(), HostInfo::default(), "it is not known yet");
    runtime.prepare_node().await.unwrap();
    let first = runtime.host().network;
    assert_eq!((first.driver.as_str(), &first.gateway), ("bridge", &Some(v4.1.clone())));
    runtime.node_settled().await;
    let again = on_network(bench, &name, &v4);
    again.prepare_node().await.unwrap();
    assert_eq!(again.host().network, first);
    let mut subject = Subject::server(bench, Routine::Answers);
    subject.spec.network_mode = name;
    subject.start(bench).await;
    assert!(subject.facts(bench).await.running());
}

pub async fn a_subnet_that_is_taken_gives_way(bench: &dyn Bench) {
    let v4 = subnet();
    let gateway = async |which| {
        let runtime = on_network(bench, &bench.network(which), &v4);
        runtime.prepare_node().await.unwrap();
        runtime.host().network.gateway
    };
    let (first, second) = (gateway(2).await, gateway(3).await);
    assert_eq!(first, Some(v4.1.clone()));
    assert!(second.is_some());
    assert_ne!(second, first);
    assert_eq!(gateway(3).await, second);
}

pub async fn a_network_of_its_own_is_prepared_with_a_container(bench: &dyn Bench) {
    let mut subject = Subject::server(bench, Routine::Answers);
    subject.spec.network_mode = bench.network(6);
    subject.spec.own_network = Some(own_network(bench.network(6)));
    for _ in 0..2 {
        bench.runtime().prepare(&subject.spec).await.unwrap();
    }
    subject.start(bench).await;
    assert!(subject.facts(bench).await.running());
}

pub async fn a_missing_network_is_rejected_at_the_start(bench: &dyn Bench) {
    let mut subject = Subject::server(bench, Routine::Answers);
    subject.spec.network_mode = bench.network(4);
    let rejected = match bench.runtime().create(&subject.spec, &subject.purpose).await {
        Ok(id) => {
            let rejected = bench.runtime().start(&id).await.unwrap_err();
            assert_eq!(subject.facts(bench).await.state, ContainerState::StartFailed);
            rejected
        }
        Err(rejected) => rejected,
    };
    assert_eq!(rejected.kind, ErrorKind::NotFound, "{rejected:?}");
    assert!(rejected.to_string().contains(&subject.spec.network_mode), "{rejected}");
}
