//! Many servers at once, and none that holds up another.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use async_trait::async_trait;

use super::*;
use crate::model::settings::Mount;
use crate::model::{Record, Role, Verb};
use crate::reconcile::context::Context;
use crate::runtime::host::{MountSource, Paths};
use crate::runtime::{ErrorKind, RuntimeError, container_name};
use crate::store::Blocking;
use crate::telemetry::capture::Capture;
use crate::testing::fake::{Call, FakeEngine, Faults};
use crate::testing::{TestNode, file_manifest, server_id};

fn add(node: &TestNode, number: u32, mount: Option<&str>) {
    let mut manifest = file_manifest(number);
    manifest.spec.settings.mounts =
        mount.map(|source| vec![Mount { source: source.into(), target: "/maps".into(), read_only: true }]);
    node.context.store.create(manifest, Record::default(), []).unwrap();
    node.accept(server_id(number), Verb::Start);
}

async fn comes_to(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("in ten seconds it did not come to this: {what}");
}

fn runs(machine: &FakeEngine, number: u32) -> bool {
    let state = machine.state_of(&container_name(server_id(number), Role::Server));
    state == Some(crate::model::ContainerState::Running)
}

fn reason(context: &Context, number: u32) -> Option<Reason> {
    let status = context.store.status(server_id(number))?;
    let running = status.conditions.iter().find(|condition| condition.condition_type == ConditionType::Running)?;
    Some(running.reason)
}

#[tokio::test]
async fn a_mount_that_does_not_answer_holds_up_the_start_of_its_own_server_alone() {
    let (release, released) = mpsc::channel::<()>();
    let (dead, hung, released) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)), Mutex::new(released));
    let (is_dead, hangs) = (dead.clone(), hung.clone());
    let follow = move |path: &Path| {
        if is_dead.load(Ordering::SeqCst) {
            hangs.fetch_add(1, Ordering::SeqCst);
            let _ = released.lock().unwrap().recv();
        }
        MountSource::There(path.to_owned())
    };
    let timeout = Duration::from_millis(50);
    let paths = Paths::with(Blocking::Pool, Arc::new(follow), timeout);
    let node = TestNode::builder().host(|host| host.with_paths(paths)).build();
    let (context, machine) = (&node.context, &node.engine);
    machine.set_checks_mounts(false);
    context.runtime.prepare_node().await.unwrap();
    let (_ready, ready) = watch::channel(true);
    let controller = run(node.context.clone(), node.queue.clone(), 1, ready);
    context.tasks.spawn("controller", controller);

    for number in 1..4 {
        add(&node, number, Some("/dead"));
    }
    comes_to("three servers run", || (1..4).all(|number| runs(machine, number))).await;
    dead.store(true, Ordering::SeqCst);
    for (number, verb) in [(1, Verb::Kill), (2, Verb::Delete), (3, Verb::Kill), (3, Verb::Start)] {
        node.accept(server_id(number), verb);
    }
    add(&node, 4, None);
    comes_to("a stop", || !runs(machine, 1) && reason(context, 1) == Some(Reason::Stopped)).await;
    comes_to("a deletion", || context.store.get(server_id(2)).is_none()).await;
    comes_to("a restart that waits", || reason(context, 3) == Some(Reason::MountUnresponsive)).await;
    assert!(!runs(machine, 3));
    comes_to("a healthy server", || runs(machine, 4)).await;
    tokio::time::sleep(4 * timeout).await;
    assert_eq!(hung.load(Ordering::SeqCst), 1, "threads that hang");

    dead.store(false, Ordering::SeqCst);
    drop(release);
    comes_to("the restart", || runs(machine, 3)).await;
    assert_eq!(hung.load(Ordering::SeqCst), 1);
}

/// An engine that makes no containers.
struct NoCreations;

#[async_trait]
impl Faults for NoCreations {
    async fn before(&self, call: Call) -> Result<(), RuntimeError> {
        let rejected = || RuntimeError::new(ErrorKind::Failed, "create", "no");
        if call.name == "create" { Err(rejected()) } else { Ok(()) }
    }
}

/// The pass and the server that a line names.
fn pass_of(line: &str) -> Option<(u64, String)> {
    let (_, fields) = line.split_once(" pass{server.id=")?;
    let (server, fields) = fields.split_once(" pass.id=")?;
    let (pass, _) = fields.split_once("}: ")?;
    Some((pass.parse().ok()?, server.to_owned()))
}

#[tokio::test(start_paused = true)]
async fn each_line_of_a_pass_and_of_the_jobs_it_starts_names_the_server_and_the_pass() {
    let node = TestNode::builder().engine_faults(Arc::new(NoCreations)).build();
    node.engine.set_checks_mounts(false);
    let context = &node.context;
    context.runtime.prepare_node().await.unwrap();
    // The first one's container cannot be made, and the other one's image is not to be had.
    add(&node, 1, None);
    let mut manifest = file_manifest(2);
    manifest.spec.settings.container.image = "nowhere:1".into();
    context.store.create(manifest, Record::default(), []).unwrap();
    node.accept(server_id(2), Verb::Start);

    for filter in ["alula=debug", "alula::reconcile=warn"] {
        for number in [1, 2] {
            context.servers.remove(server_id(number));
            (context.wake)(server_id(number));
        }
        let (log, _guard) = Capture::of_this_thread(filter);
        let (_ready, ready) = watch::channel(true);
        let controller = run(node.context.clone(), node.queue.clone(), 2, ready);
        let running = context.tasks.spawn("controller", controller);
        let from = |module: &str| log.lines().into_iter().filter(|line| line.contains(module)).collect::<Vec<_>>();
        let (step, job) = ("WARN pass{", "alula::reconcile::server_state::jobs: ");
        comes_to("a step and a job have failed", || {
            from("alula::reconcile::pass: ").iter().any(|line| line.contains(step)) && !from(job).is_empty()
        })
        .await;
        running.abort();
        let mut servers = BTreeMap::<u64, BTreeSet<String>>::new();
        for line in log.lines() {
            let (pass, server) = pass_of(&line).unwrap_or_else(|| panic!("a line without them: {line}"));
            servers.entry(pass).or_default().insert(server);
        }
        assert!(servers.len() > 1 && servers.values().all(|servers| servers.len() == 1), "{servers:?}");
        let expected = server_id(2).to_string();
        assert!(from(job).iter().all(|line| pass_of(line).is_some_and(|(_, server)| server == expected)));
    }
}
