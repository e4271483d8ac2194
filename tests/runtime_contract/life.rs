//! Containers are made, started, ended, changed and removed.

use std::time::Duration;

use alula::model::{ContainerState, Role};
use alula::runtime::{ErrorKind, PublishedPort, Removal, Volume, VolumeRole};

use crate::bench::{Bench, Routine, Subject, limits, own_network};

/// A clock's tick, and what the engine rounds.
const SLACK: Duration = Duration::from_secs(2);

pub async fn what_is_made_is_seen(bench: &dyn Bench) {
    let subject = Subject::new(bench, Role::Installer, Routine::Answers);
    let runtime = bench.runtime();
    assert_eq!(runtime.inspect(subject.server, Role::Installer).await.unwrap(), None);
    let id = subject.create(bench).await;
    let facts = subject.facts(bench).await;
    assert_eq!(facts.id, id);
    assert_eq!(facts.state, ContainerState::Created);
    assert_eq!(facts.started_at, None);
    assert_eq!(facts.finished_at, None);
    assert_eq!(facts.token, Some(subject.purpose.token.clone()));
    assert_eq!(facts.spec_hash, Some(subject.spec.hash()));
    assert_eq!(facts.limits_hash, Some(subject.spec.limits.hash()));
    assert_eq!(facts.stop_signal.as_deref(), Some("SIGQUIT"));
    assert_eq!(runtime.inspect(subject.server, Role::Server).await.unwrap(), None);
}

pub async fn an_end_is_seen_with_its_status(bench: &dyn Bench) {
    let subject = Subject::server(bench, Routine::EndsWithThree);
    let before = bench.now() - SLACK;
    let id = subject.start(bench).await;
    let facts = subject.ended(bench).await;
    assert_eq!(facts.id, id);
    assert_eq!(facts.state, ContainerState::Exited { code: 3, oom_killed: false });
    let (started, finished) = (facts.started_at.unwrap(), facts.finished_at.unwrap());
    // Docker notes the start when the start call returns: a short process has ended a little earlier than that.
    assert!(before <= started && started <= finished + SLACK && finished <= bench.now() + SLACK, "{facts:?}");
}

pub async fn an_end_for_want_of_memory_is_seen(bench: &dyn Bench) {
    let mut subject = Subject::server(bench, Routine::EatsMemory);
    subject.spec.limits = limits(16);
    subject.start(bench).await;
    let facts = subject.ended(bench).await;
    assert_eq!(facts.state, ContainerState::Exited { code: 137, oom_killed: true });
}

pub async fn starting_what_runs_changes_nothing(bench: &dyn Bench) {
    let subject = Subject::server(bench, Routine::Answers);
    let id = subject.start(bench).await;
    let facts = subject.facts(bench).await;
    assert!(facts.running());
    assert!(facts.started_at.is_some());
    // A second start would have another time.
    tokio::time::sleep(Duration::from_millis(20)).await;
    bench.runtime().start(&id).await.unwrap();
    assert_eq!(subject.facts(bench).await, facts);
}

pub async fn what_has_ended_can_be_started_again(bench: &dyn Bench) {
    let subject = Subject::server(bench, Routine::EndsWithThree);
    let id = subject.start(bench).await;
    let first = subject.ended(bench).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    bench.runtime().start(&id).await.unwrap();
    let second = subject.ended(bench).await;
    assert_eq!((&second.id, &second.state), (&first.id, &first.state));
    assert!(second.started_at > first.finished_at, "{first:?} {second:?}");
}

pub async fn signals_reach_the_process(bench: &dyn Bench) {
    for (signal, code) in [("SIGTERM", 6), ("SIGKILL", 137)] {
        let subject = Subject::server(bench, Routine::Answers);
        let id = subject.start(bench).await;
        // The handler is in place once it is ready.
        subject.printed(bench, "ready").await;
        bench.runtime().signal(&id, signal).await.unwrap();
        let facts = subject.ended(bench).await;
        assert_eq!(facts.state, ContainerState::Exited { code, oom_killed: false }, "{signal}");
    }
}

pub async fn signalling_what_is_not_there_is_fine(bench: &dyn Bench) {
    let subject = Subject::server(bench, Routine::EndsWithThree);
    let id = subject.create(bench).await;
    let runtime = bench.runtime();
    runtime.signal(&id, "SIGTERM").await.unwrap();
    runtime.start(&id).await.unwrap();
    subject.ended(bench).await;
    runtime.signal(&id, "SIGKILL").await.unwrap();
    runtime.remove(&id).await.unwrap();
    runtime.signal(&id, "SIGKILL").await.unwrap();
}

pub async fn a_signal_that_does_not_exist_is_rejected(bench: &dyn Bench) {
    let subject = Subject::server(bench, Routine::Answers);
    let id = subject.start(bench).await;
    let rejected = bench.runtime().signal(&id, "SIGNONSENSE").await.unwrap_err();
    assert!(!rejected.is_outage() && rejected.kind != ErrorKind::NotFound, "{rejected:?}");
    assert!(subject.facts(bench).await.running());
}

pub async fn a_running_container_is_removed(bench: &dyn Bench) {
    let subject = Subject::server(bench, Routine::Answers);
    let id = subject.start(bench).await;
    bench.runtime().remove(&id).await.unwrap();
    assert_eq!(bench.runtime().inspect(subject.server, Role::Server).await.unwrap(), None);
}

pub async fn removing_what_is_not_there_is_fine(bench: &dyn Bench) {
    let subject = Subject::server(bench, Routine::Answers);
    let id = subject.create(bench).await;
    bench.runtime().remove(&id).await.unwrap();
    bench.runtime().remove(&id).await.unwrap();
    bench.runtime().remove(&subject.spec.name).await.unwrap();
}

pub async fn of_removals_at_once_one_is_done_and_others_say_no_more_than_is_so(bench: &dyn Bench) {
    let subject = Subject::server(bench, Routine::Answers);
    let id = subject.start(bench).await;
    let runtime = bench.runtime();
    let removals = futures_util::future::join_all((0..4).map(|_| runtime.remove(&id))).await;
    let removals: Vec<Removal> = removals.into_iter().map(Result::unwrap).collect();
    assert!(removals.contains(&Removal::Done), "{removals:?}");
    // Who was told that it is done can rely on it.
    assert_eq!(runtime.inspect(subject.server, Role::Server).await, Ok(None));
    assert_eq!(runtime.remove(&id).await, Ok(Removal::Done));
}

pub async fn a_taken_name_is_rejected(bench: &dyn Bench) {
    let subject = Subject::server(bench, Routine::Answers);
    let id = subject.create(bench).await;
    let rejected = bench.runtime().create(&subject.spec, &subject.purpose).await.unwrap_err();
    assert_eq!(rejected.kind, ErrorKind::NameTaken, "{rejected:?}");
    assert_eq!(subject.facts(bench).await.id, id);
}

pub async fn a_missing_image_is_rejected(bench: &dyn Bench) {
    let mut subject = Subject::server(bench, Routine::Answers);
    subject.spec.image = "alula-contract/missing:1".into();
    let rejected = bench.runtime().create(&subject.spec, &subject.purpose).await.unwrap_err();
    assert!(rejected.kind == ErrorKind::NotFound && rejected.to_string().contains("No such image"), "{rejected:?}");
    assert!(rejected.to_string().contains("alula-contract/missing:1"), "{rejected}");
    assert_eq!(bench.runtime().inspect(subject.server, Role::Server).await.unwrap(), None);
}

pub async fn a_missing_mount_is_rejected(bench: &dyn Bench) {
    let mut subject = Subject::server(bench, Routine::Answers);
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("missing").to_str().unwrap().to_owned();
    let (role, path) = (VolumeRole::Data, Some(source.clone()));
    subject.spec.volumes.push(Volume { role, path, target: "/x".into(), read_only: false });
    let rejected = match bench.runtime().create(&subject.spec, &subject.purpose).await {
        Ok(id) => bench.runtime().start(&id).await.unwrap_err(),
        Err(rejected) => rejected,
    };
    assert_eq!(rejected.kind, ErrorKind::Invalid, "{rejected:?}");
    assert!(rejected.to_string().contains(&source), "{rejected}");
    assert!(!std::path::Path::new(&source).exists(), "the engine made the folder");
}

pub async fn a_bad_entrypoint_is_rejected_at_the_start(bench: &dyn Bench) {
    let subject = Subject::server(bench, Routine::BadEntrypoint);
    let id = subject.create(bench).await;
    let rejected = bench.runtime().start(&id).await.unwrap_err();
    assert_eq!(rejected.kind, ErrorKind::Invalid, "{rejected:?}");
    let facts = subject.facts(bench).await;
    assert_eq!((facts.state, facts.started_at), (ContainerState::StartFailed, None));
}

pub async fn a_taken_port_is_rejected_at_the_start(bench: &dyn Bench) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
    let port = PublishedPort { address: "127.0.0.1".into(), port: free.port() };
    let made = async || {
        let mut subject = Subject::server(bench, Routine::Answers);
        subject.spec.network_mode = bench.network(5);
        subject.spec.own_network = Some(own_network(bench.network(5)));
        bench.runtime().prepare(&subject.spec).await.unwrap();
        subject.spec.ports.push(port.clone());
        (subject.create(bench).await, subject)
    };
    let ((first, _), (second, other)) = (made().await, made().await);
    bench.runtime().start(&first).await.unwrap();
    let rejected = bench.runtime().start(&second).await.unwrap_err();
    assert_eq!(rejected.kind, ErrorKind::Failed, "{rejected:?}");
    assert_eq!(other.facts(bench).await.state, ContainerState::StartFailed);
    bench.runtime().remove(&first).await.unwrap();
    bench.runtime().start(&made().await.0).await.unwrap();
}

pub async fn starting_what_is_not_there_fails(bench: &dyn Bench) {
    let missing = bench.runtime().start("no-such-container").await.unwrap_err();
    assert_eq!(missing.kind, ErrorKind::NotFound, "{missing:?}");
}

pub async fn limits_change_in_place(bench: &dyn Bench) {
    let subject = Subject::server(bench, Routine::Answers);
    let id = subject.start(bench).await;
    let before = subject.facts(bench).await;
    let mut wanted = limits(48);
    wanted.pids = Some(80);
    wanted.cpu = Some(alula::runtime::CpuLimit { quota: 50_000, period: 100_000, shares: 512 });
    bench.runtime().update(&id, &wanted).await.unwrap();
    let after = subject.facts(bench).await;
    assert_eq!(after.limits_hash, Some(wanted.hash()));
    assert_ne!(after.limits_hash, before.limits_hash);
    assert_eq!(after.spec_hash, before.spec_hash);
    assert_eq!((after.id, after.state), (before.id, before.state));
    bench.runtime().remove(&id).await.unwrap();
    bench.runtime().update(&id, &wanted).await.unwrap();
}
