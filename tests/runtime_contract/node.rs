//! Calls about the whole node: events, listings, engine, networks.

use alula::model::{ContainerState, NodeIdentity, Owner, Role};
use alula::runtime::{ContainerChange, ErrorKind, HostInfo, Listed, Runtime, container_name, spec_builder};
use futures_util::StreamExt;

use crate::harness::{Harness, Subject, TestProgram, node, own_network};

pub async fn events_name_server_and_role(harness: &dyn Harness) {
    let mut events = harness.runtime().events().await.unwrap();
    let subject = Subject::new(harness, Role::Installer, TestProgram::EndsWithThree);
    let id = subject.start(harness).await;
    subject.ended(harness).await;
    harness.runtime().remove(&id).await.unwrap();
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

pub async fn the_list_has_only_containers_of_the_node(harness: &dyn Harness) {
    let waiting = Subject::new(harness, Role::Installer, TestProgram::Answers);
    let running = Subject::server(harness, TestProgram::Answers);
    let waiting_id = waiting.create(harness).await;
    let running_id = running.start(harness).await;
    let foreign = harness.create_foreign(&format!("contract-{}", waiting.server)).await;
    let list = harness.runtime().list().await.unwrap();
    let line = |subject: &Subject, id: &str, running| Listed {
        server: subject.server,
        role: subject.role,
        id: id.into(),
        running,
        owner: Owner::Unlabelled,
    };
    assert!(list.contains(&line(&waiting, &waiting_id, false)), "{list:?}");
    assert!(list.contains(&line(&running, &running_id, true)), "{list:?}");
    assert!(!list.iter().any(|listed| listed.id == foreign), "{list:?}");
}

pub async fn containers_without_our_labels_are_found_by_name(harness: &dyn Harness) {
    for role in [Role::Server, Role::Installer] {
        let server = Subject::server(harness, TestProgram::Answers).server;
        let id = harness.create_foreign(&container_name(server, role)).await;
        let status = harness.runtime().inspect(server, role).await.unwrap().expect("found by name");
        assert_eq!((&status.id, status.token, status.spec_hash), (&id, None, None));
        let listed = Listed { server, role, id: id.clone(), running: false, owner: Owner::Unlabelled };
        assert!(harness.runtime().list().await.unwrap().contains(&listed));
        harness.runtime().remove(&id).await.unwrap();
        assert_eq!(harness.runtime().inspect(server, role).await.unwrap(), None);
    }
}

pub async fn the_containers_of_another_node_are_left_alone(harness: &dyn Harness) {
    let node = |name: &str| NodeIdentity { id: name.into(), root: format!("/{name}"), ..NodeIdentity::default() };
    let [first, second] = ["first", "second"].map(|name| harness.runtime_as(node(name)));
    let files = tempfile::tempdir().unwrap();
    let mut subject = Subject::server(harness, TestProgram::Answers);
    subject.mount_files(files.path());
    let (server, role) = (subject.server, subject.role);
    let id = first.create(&subject.spec, &subject.purpose).await.unwrap();
    first.start(&id).await.unwrap();
    let owner = async |runtime: &dyn Runtime| {
        let listed = runtime.list().await.unwrap().into_iter().find(|listed| listed.id == id);
        listed.expect("it is listed").owner
    };
    assert_eq!(owner(first.as_ref()).await, Owner::ThisNode);
    assert_eq!(owner(second.as_ref()).await.other().map(|other| other.id.as_str()), Some("first"));
    assert_eq!(first.inspect(server, role).await.unwrap().unwrap().id, id);
    assert_eq!(second.inspect(server, role).await.unwrap(), None);
    let rejected = second.create(&subject.spec, &subject.purpose).await.unwrap_err();
    assert_eq!(rejected.kind, ErrorKind::NameTaken, "{rejected:?}");
    for text in [&id, "another alula node (first, state folder /first)"] {
        assert!(rejected.to_string().contains(text), "{rejected}");
    }
    // The node whose file was lost has another id and the same folder.
    let again = harness.runtime_as(NodeIdentity { id: "new".into(), ..node("first") });
    assert_eq!(again.inspect(server, role).await.unwrap().unwrap().id, id);

    // Each finds its own by the labels that both have, and the one that runs is no second one.
    harness.rename(&subject.spec.name, &format!("renamed-{}", harness.run())).await;
    assert_eq!(second.inspect(server, role).await.unwrap(), None);
    let other = second.create(&subject.spec, &subject.purpose).await.unwrap();
    second.start(&other).await.unwrap();
    for (runtime, id) in [(&first, &id), (&second, &other)] {
        let status = runtime.inspect(server, role).await.unwrap().unwrap();
        assert_eq!((&status.id, status.others.len()), (id, 0));
    }
}

pub async fn the_engine_describes_itself(harness: &dyn Harness) {
    Subject::server(harness, TestProgram::Answers).start(harness).await;
    let status = harness.runtime().engine().await.unwrap();
    for text in [&status.version, &status.storage_driver, &status.runc] {
        assert!(!text.is_empty(), "{status:?}");
    }
    // Neither containerd's image store, the default since Docker 29, nor storage without layers reports its file system.
    let unreported = ["overlayfs", "vfs"].contains(&status.storage_driver.as_str());
    assert!(!status.storage_filesystem.is_empty() || unreported, "{status:?}");
    assert!(["cgroupfs", "systemd"].contains(&status.cgroup_driver.as_str()), "{status:?}");
    assert!(["1", "2"].contains(&status.cgroup_version.as_str()), "{status:?}");
    let [all, running, paused, stopped] = status.containers;
    assert!(running >= 1 && all == running + paused + stopped, "{status:?}");
}

/// An unused subnet, and its gateway.
fn subnet() -> (String, String) {
    let [one, two, ..] = *uuid::Uuid::new_v4().as_bytes();
    let one = one | 128;
    (format!("10.{one}.{two}.0/24"), format!("10.{one}.{two}.1"))
}

/// The same engine under a node whose network has this name and these addresses.
fn on_network(harness: &dyn Harness, name: &str, v4: &(String, String)) -> Box<dyn Runtime> {
    let mut node = node();
    let network = &mut node.docker.network;
    (network.name, network.network_mode) = (name.to_owned(), name.to_owned());
    (network.driver, network.ipv6) = ("bridge".into(), false);
    (network.interfaces.v4.subnet, network.interfaces.v4.gateway) = v4.clone();
    harness.runtime_of(node)
}

pub async fn the_engine_measures_its_disk_usage(harness: &dyn Harness) {
    let subject = Subject::server(harness, TestProgram::Answers);
    subject.create(harness).await;
    let usage = harness.runtime().disk_usage().await.unwrap();
    assert!(0 < usage.images_active && usage.images_active <= usage.images_total, "{usage:?}");
    assert!(usage.images_size >= 0 && usage.containers_size >= 0 && usage.build_cache_size >= 0, "{usage:?}");
}

pub async fn a_network_is_created_once(harness: &dyn Harness) {
    let (name, v4) = (harness.network(1), subnet());
    let runtime = on_network(harness, &name, &v4);
    assert_eq!(runtime.host(), HostInfo::default(), "it is not known yet");
    runtime.prepare_node().await.unwrap();
    let first = runtime.host().network;
    assert_eq!((first.driver.as_str(), &first.gateway), ("bridge", &Some(v4.1.clone())));
    runtime.node_settled().await;
    let again = on_network(harness, &name, &v4);
    again.prepare_node().await.unwrap();
    assert_eq!(again.host().network, first);
    let mut subject = Subject::server(harness, TestProgram::Answers);
    subject.spec.network_mode = name;
    subject.start(harness).await;
    assert!(subject.status(harness).await.running());
}

pub async fn a_taken_subnet_is_replaced(harness: &dyn Harness) {
    let v4 = subnet();
    let gateway = async |which| {
        let runtime = on_network(harness, &harness.network(which), &v4);
        runtime.prepare_node().await.unwrap();
        runtime.host().network.gateway
    };
    let (first, second) = (gateway(2).await, gateway(3).await);
    assert_eq!(first, Some(v4.1.clone()));
    assert!(second.is_some());
    assert_ne!(second, first);
    assert_eq!(gateway(3).await, second);
}

pub async fn a_network_of_its_own_is_prepared_with_a_container(harness: &dyn Harness) {
    let mut subject = Subject::server(harness, TestProgram::Answers);
    subject.spec.network_mode = harness.network(6);
    subject.spec.own_network = Some(own_network(harness.network(6)));
    for _ in 0..2 {
        harness.runtime().prepare(&subject.spec).await.unwrap();
    }
    subject.start(harness).await;
    assert!(subject.status(harness).await.running());
}

pub async fn a_missing_network_is_rejected_at_the_start(harness: &dyn Harness) {
    let mut subject = Subject::server(harness, TestProgram::Answers);
    subject.spec.network_mode = harness.network(4);
    let rejected = match harness.runtime().create(&subject.spec, &subject.purpose).await {
        Ok(id) => {
            let rejected = harness.runtime().start(&id).await.unwrap_err();
            assert_eq!(subject.status(harness).await.state, ContainerState::StartFailed);
            rejected
        }
        Err(rejected) => rejected,
    };
    assert_eq!(rejected.kind, ErrorKind::NotFound, "{rejected:?}");
    assert!(rejected.to_string().contains(&subject.spec.network_mode), "{rejected}");
}

pub async fn the_network_of_a_server_is_removed_after_its_container(harness: &dyn Harness) {
    let (runtime, mut node) = (harness.runtime(), node());
    node.docker.network.ipv6 = false;
    let mut subject = Subject::server(harness, TestProgram::Answers);
    let network = spec_builder::server_network(subject.server, &node, None);
    subject.spec.network_mode.clone_from(&network.name);
    subject.spec.own_network = Some(network);
    for _ in 0..2 {
        runtime.prepare(&subject.spec).await.unwrap();
        let id = subject.start(harness).await;
        assert!(subject.status(harness).await.running());
        runtime.remove_network(subject.server).await.expect_err("a container uses it");
        runtime.remove(&id).await.unwrap();
        runtime.remove_network(subject.server).await.unwrap();
    }
    runtime.remove_network(subject.server).await.expect("there is none any more");
    let spec = &subject.spec;
    let started = match runtime.create(spec, &subject.purpose).await {
        Ok(id) => runtime.start(&id).await,
        Err(error) => Err(error),
    };
    started.expect_err("its network is gone");
}
