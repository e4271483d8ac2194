//! The lifecycle of containers: create, start, end, update, remove.

use std::time::Duration;

use alula::model::{ContainerState, DigestKey, Fields, PublishedPort, Role, image};
use alula::runtime::{ErrorKind, Removal, Volume, VolumeRole};
use tokio::io::AsyncWriteExt;

use crate::harness::{Harness, Subject, TestProgram, limits, own_network, read_until};

/// Tolerance for clock ticks and the engine's rounding.
const SLACK: Duration = Duration::from_secs(2);

pub async fn a_created_container_is_inspected(harness: &dyn Harness) {
    let mut subject = Subject::new(harness, Role::Installer, TestProgram::Answers);
    subject.spec.fields = Fields::new(&DigestKey::default());
    let runtime = harness.runtime();
    assert_eq!(runtime.inspect(subject.server, Role::Installer).await.unwrap(), None);
    let id = subject.create(harness).await;
    let status = subject.status(harness).await;
    assert_eq!(status.id, id);
    assert_eq!(status.state, ContainerState::Created);
    assert_eq!(status.started_at, None);
    assert_eq!(status.finished_at, None);
    assert_eq!(status.token, Some(subject.purpose.token.clone()));
    assert_eq!(status.spec_hash, Some(subject.spec.hash()));
    assert!(image::is_same(status.image.as_deref().unwrap(), &subject.spec.image), "{status:?}");
    assert_eq!(status.fields.as_ref(), Some(&subject.spec.fields));
    assert_eq!(status.limits_hash, Some(subject.spec.limits.hash()));
    let signal = status.stop_signal.as_deref();
    assert!(signal == Some("SIGQUIT") || harness.is_podman() && signal == Some("3"), "{signal:?}");
    assert_eq!(runtime.inspect(subject.server, Role::Server).await.unwrap(), None);
}

pub async fn an_ended_container_has_its_exit_status(harness: &dyn Harness) {
    let subject = Subject::server(harness, TestProgram::EndsWithThree);
    let before = harness.now() - SLACK;
    let id = subject.start(harness).await;
    let status = subject.ended(harness).await;
    assert_eq!(status.id, id);
    assert_eq!(status.state, ContainerState::Exited { code: 3, oom_killed: false });
    let (started, finished) = (status.started_at.unwrap(), status.finished_at.unwrap());
    // Docker records the start when the start call returns; a short process may have ended before.
    assert!(before <= started && started <= finished + SLACK && finished <= harness.now() + SLACK, "{status:?}");
}

pub async fn an_out_of_memory_kill_is_reported(harness: &dyn Harness) {
    let mut subject = Subject::server(harness, TestProgram::ExceedsMemory);
    subject.spec.limits = limits(16);
    subject.start(harness).await;
    let status = subject.ended(harness).await;
    let ContainerState::Exited { code: 137, oom_killed } = status.state else { panic!("{status:?}") };
    assert!(oom_killed || harness.is_podman(), "{status:?}");
}

pub async fn starting_a_running_container_changes_nothing(harness: &dyn Harness) {
    let subject = Subject::server(harness, TestProgram::Answers);
    let id = subject.start(harness).await;
    let status = subject.status(harness).await;
    assert!(status.running());
    assert!(status.started_at.is_some());
    // A second start would have another time.
    tokio::time::sleep(Duration::from_millis(20)).await;
    harness.runtime().start(&id).await.unwrap();
    assert_eq!(subject.status(harness).await, status);
}

pub async fn an_ended_container_can_be_started_again(harness: &dyn Harness) {
    let subject = Subject::server(harness, TestProgram::EndsWithThree);
    let id = subject.start(harness).await;
    let first = subject.ended(harness).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    harness.runtime().start(&id).await.unwrap();
    let second = subject.ended(harness).await;
    assert_eq!((&second.id, &second.state), (&first.id, &first.state));
    assert!(second.started_at > first.finished_at, "{first:?} {second:?}");
}

pub async fn signals_reach_the_process(harness: &dyn Harness) {
    for (signal, code) in [("SIGTERM", 6), ("SIGKILL", 137)] {
        let subject = Subject::server(harness, TestProgram::Answers);
        let id = subject.start(harness).await;
        // The signal handler exists once it prints `ready`.
        subject.printed(harness, "ready").await;
        harness.runtime().signal(&id, signal).await.unwrap();
        let status = subject.ended(harness).await;
        assert_eq!(status.state, ContainerState::Exited { code, oom_killed: false }, "{signal}");
    }
}

pub async fn signalling_a_missing_container_succeeds(harness: &dyn Harness) {
    let subject = Subject::server(harness, TestProgram::EndsWithThree);
    let id = subject.create(harness).await;
    let runtime = harness.runtime();
    runtime.signal(&id, "SIGTERM").await.unwrap();
    runtime.start(&id).await.unwrap();
    subject.ended(harness).await;
    runtime.signal(&id, "SIGKILL").await.unwrap();
    runtime.remove(&id).await.unwrap();
    runtime.signal(&id, "SIGKILL").await.unwrap();
}

pub async fn a_signal_that_does_not_exist_is_rejected(harness: &dyn Harness) {
    let subject = Subject::server(harness, TestProgram::Answers);
    let id = subject.start(harness).await;
    let rejected = harness.runtime().signal(&id, "SIGUNKNOWN").await.unwrap_err();
    assert!(!rejected.is_outage() && rejected.kind != ErrorKind::NotFound, "{rejected:?}");
    assert!(subject.status(harness).await.running());
}

pub async fn a_running_container_is_removed(harness: &dyn Harness) {
    let subject = Subject::server(harness, TestProgram::Answers);
    let id = subject.start(harness).await;
    harness.runtime().remove(&id).await.unwrap();
    assert_eq!(harness.runtime().inspect(subject.server, Role::Server).await.unwrap(), None);
}

pub async fn removing_a_missing_container_succeeds(harness: &dyn Harness) {
    let subject = Subject::server(harness, TestProgram::Answers);
    let id = subject.create(harness).await;
    harness.runtime().remove(&id).await.unwrap();
    harness.runtime().remove(&id).await.unwrap();
    harness.runtime().remove(&subject.spec.name).await.unwrap();
}

pub async fn concurrent_removals_report_done_only_when_the_container_is_gone(harness: &dyn Harness) {
    let subject = Subject::server(harness, TestProgram::Answers);
    let id = subject.start(harness).await;
    let runtime = harness.runtime();
    let removals = futures_util::future::join_all((0..4).map(|_| runtime.remove(&id))).await;
    let removals: Vec<Removal> = removals.into_iter().map(Result::unwrap).collect();
    assert!(removals.contains(&Removal::Done), "{removals:?}");
    // After `Done` the container is gone.
    assert_eq!(runtime.inspect(subject.server, Role::Server).await, Ok(None));
    assert_eq!(runtime.remove(&id).await, Ok(Removal::Done));
}

pub async fn a_taken_name_is_rejected(harness: &dyn Harness) {
    let subject = Subject::server(harness, TestProgram::Answers);
    let id = subject.create(harness).await;
    let rejected = harness.runtime().create(&subject.spec, &subject.purpose).await.unwrap_err();
    assert_eq!(rejected.kind, ErrorKind::NameTaken, "{rejected:?}");
    assert_eq!(subject.status(harness).await.id, id);
}

pub async fn a_renamed_container_is_found_by_its_labels(harness: &dyn Harness) {
    let mut subject = Subject::server(harness, TestProgram::Answers);
    let (files, runtime) = (tempfile::tempdir().unwrap(), harness.runtime());
    subject.mount_files(files.path());
    let first = subject.start(harness).await;
    let name = subject.spec.name.clone();
    harness.rename(&name, &format!("{name}-old")).await;
    let found = subject.status(harness).await;
    assert_eq!((found.id.as_str(), found.running(), found.others.as_slice()), (first.as_str(), true, &[][..]));

    // A second one that runs is named, and one that does not run is no container of the server.
    let second = runtime.create(&subject.spec, &subject.purpose).await.unwrap();
    assert_eq!(subject.status(harness).await.id, first, "the one that runs counts");
    runtime.start(&second).await.unwrap();
    let found = subject.status(harness).await;
    assert_eq!((found.id, found.others), (second.clone(), vec![first.clone()]), "of two, the one with the name");
    runtime.remove(&second).await.unwrap();
    runtime.signal(&first, "SIGKILL").await.unwrap();
    assert_eq!(subject.status(harness).await.id, first, "one that has ended is found, too");
    runtime.remove(&first).await.unwrap();
    assert_eq!(runtime.inspect(subject.server, Role::Server).await.unwrap(), None);
}

pub async fn a_frozen_container_answers_once_it_is_thawed(harness: &dyn Harness) {
    let (subject, runtime) = (Subject::server(harness, TestProgram::Answers), harness.runtime());
    let id = subject.start(harness).await;
    subject.printed(harness, "ready").await;
    let mut terminal = runtime.attach(&id).await.unwrap();
    runtime.freeze(&id, false).await.expect("it is not frozen");
    runtime.freeze(&id, true).await.unwrap();
    runtime.freeze(&id, true).await.expect("it is frozen");
    assert!(subject.status(harness).await.running());
    terminal.input.write_all(b"one\n").await.unwrap();
    terminal.input.flush().await.unwrap();
    let answer = read_until(&mut terminal.output, &["got one"]);
    tokio::time::timeout(Duration::from_millis(500), answer).await.expect_err("it is frozen");
    runtime.freeze(&id, false).await.unwrap();
    read_until(&mut terminal.output, &["got one"]).await;
    runtime.signal(&id, "SIGKILL").await.unwrap();
    subject.ended(harness).await;
    for id in [id.as_str(), "no-such-container"] {
        runtime.freeze(id, true).await.expect("there is nothing to freeze");
        runtime.freeze(id, false).await.expect("there is nothing to thaw");
    }
}

pub async fn a_missing_image_is_rejected(harness: &dyn Harness) {
    let mut subject = Subject::server(harness, TestProgram::Answers);
    subject.spec.image = "alula-contract/missing:1".into();
    let rejected = harness.runtime().create(&subject.spec, &subject.purpose).await.unwrap_err();
    assert!(
        rejected.kind == ErrorKind::NotFound && rejected.to_string().to_lowercase().contains("no such image"),
        "{rejected:?}"
    );
    assert!(rejected.to_string().contains("alula-contract/missing:1"), "{rejected}");
    assert_eq!(harness.runtime().inspect(subject.server, Role::Server).await.unwrap(), None);
}

pub async fn a_missing_mount_is_rejected(harness: &dyn Harness) {
    let mut subject = Subject::server(harness, TestProgram::Answers);
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("missing").to_str().unwrap().to_owned();
    let (role, path) = (VolumeRole::Data, Some(source.clone()));
    subject.spec.volumes.push(Volume { role, path, target: "/x".into(), read_only: false });
    let started = match harness.runtime().create(&subject.spec, &subject.purpose).await {
        Ok(id) => harness.runtime().start(&id).await,
        Err(rejected) => Err(rejected),
    };
    if harness.is_podman() {
        // It creates the folder. The sources of mounts are looked for before a container is created.
        return started.unwrap();
    }
    let rejected = started.unwrap_err();
    assert_eq!(rejected.kind, ErrorKind::Invalid, "{rejected:?}");
    assert!(rejected.to_string().contains(&source), "{rejected}");
    assert!(!std::path::Path::new(&source).exists(), "the engine created the folder");
}

fn state_after_failed_start(harness: &dyn Harness) -> ContainerState {
    if harness.is_podman() { ContainerState::Created } else { ContainerState::StartFailed }
}

pub async fn a_bad_entrypoint_is_rejected_at_the_start(harness: &dyn Harness) {
    let subject = Subject::server(harness, TestProgram::BadEntrypoint);
    let id = subject.create(harness).await;
    let rejected = harness.runtime().start(&id).await.unwrap_err();
    assert_eq!(rejected.kind, ErrorKind::Invalid, "{rejected:?}");
    let status = subject.status(harness).await;
    assert_eq!((status.state, status.started_at), (state_after_failed_start(harness), None));
}

pub async fn a_taken_port_is_rejected_at_the_start(harness: &dyn Harness) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
    let port = PublishedPort { address: "127.0.0.1".into(), port: free.port() };
    let made = async || {
        let mut subject = Subject::server(harness, TestProgram::Answers);
        subject.spec.network_mode = harness.network(5);
        subject.spec.own_network = Some(own_network(harness.network(5)));
        harness.runtime().prepare(&subject.spec).await.unwrap();
        subject.spec.ports.push(port.clone());
        (subject.create(harness).await, subject)
    };
    let ((first, bound), (second, other)) = (made().await, made().await);
    assert_eq!(bound.status(harness).await.ports, []);
    harness.runtime().start(&first).await.unwrap();
    assert_eq!(bound.status(harness).await.ports, std::slice::from_ref(&port));
    let rejected = harness.runtime().start(&second).await.unwrap_err();
    assert_eq!(rejected.kind, ErrorKind::Failed, "{rejected:?}");
    assert_eq!(other.status(harness).await.state, state_after_failed_start(harness));
    harness.runtime().remove(&first).await.unwrap();
    harness.runtime().start(&made().await.0).await.unwrap();
}

pub async fn starting_a_missing_container_fails(harness: &dyn Harness) {
    let missing = harness.runtime().start("no-such-container").await.unwrap_err();
    assert_eq!(missing.kind, ErrorKind::NotFound, "{missing:?}");
}

pub async fn limits_change_in_place(harness: &dyn Harness) {
    let subject = Subject::server(harness, TestProgram::Answers);
    let id = subject.start(harness).await;
    let before = subject.status(harness).await;
    let mut wanted = limits(48);
    wanted.pids = Some(80);
    wanted.cpu = Some(50_000);
    harness.runtime().update(&id, &wanted).await.unwrap();
    let after = subject.status(harness).await;
    assert_eq!(after.limits_hash, Some(wanted.hash()));
    assert_ne!(after.limits_hash, before.limits_hash);
    assert_eq!(after.spec_hash, before.spec_hash);
    assert_eq!((after.id, after.state), (before.id, before.state));
    harness.runtime().remove(&id).await.unwrap();
    harness.runtime().update(&id, &wanted).await.unwrap();
}
