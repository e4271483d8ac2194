//! Engines that go away and come back.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;

use super::*;
use crate::model::{ContainerState, Record, Role, Script, Verb};
use crate::reconcile::observed::Observed;
use crate::runtime::ErrorKind;
use crate::runtime::{container_name, spec_builder};
use crate::testing::fake::{Call, Faults, Program};
use crate::testing::{TestNode, file_manifest, server_id};

#[tokio::test(start_paused = true)]
async fn an_engine_that_comes_back_after_hours_is_noticed_within_seconds() {
    let node = TestNode::new();
    let (context, machine, queue) = (&node.context, &node.engine, Queue::default());
    context.store.create(file_manifest(1), Record::default(), []).unwrap();
    machine.set_engine_up(false);
    context.tasks.spawn("containers", follow(context.clone(), queue.clone(), watch::Sender::new(false)));
    // Once for the outage.
    queue.done(queue.next().await, None);
    let last_reported = tokio::time::timeout(Duration::from_secs(7200), queue.next()).await;
    assert!(last_reported.is_err(), "nothing has happened: {last_reported:?}");
    machine.set_engine_up(true);
    let last_reported = tokio::time::timeout(retry::ENGINE.cap, queue.next()).await;
    assert_eq!(last_reported, Ok(server_id(1)));
}

/// Calls of one kind, for a role or for none, that the engine refuses or is slow to hear.
#[derive(Default)]
struct Trouble {
    slow: Mutex<Option<(&'static str, Option<Role>)>>,
    rejected: Mutex<Option<&'static str>>,
}

/// How slow.
const SLOW: Duration = Duration::from_secs(9);

#[async_trait]
impl Faults for Trouble {
    async fn before(&self, call: Call) -> Result<(), RuntimeError> {
        if *self.rejected.lock().unwrap() == Some(call.name) {
            return Err(RuntimeError::new(ErrorKind::Failed, call.name, "refused"));
        }
        let slow = *self.slow.lock().unwrap() == Some((call.name, call.role));
        if slow {
            tokio::time::sleep(SLOW).await;
        }
        Ok(())
    }
}

/// A server whose install script runs and is seen to, and a daemon that follows its containers.
struct Fixture {
    node: TestNode,
    trouble: Arc<Trouble>,
}

impl Fixture {
    async fn new() -> Self {
        let trouble = Arc::new(Trouble::default());
        let node = TestNode::builder().engine_faults(trouble.clone()).build();
        let context = &node.context;
        node.engine.add_image("installer:1", Default::default());
        node.engine.set_checks_mounts(false);
        node.engine.set_program("installer:1", Program::installer(&[], Duration::from_secs(3600), 0));
        let mut manifest = file_manifest(1);
        manifest.spec.script = Some(Script { image: "installer:1".into(), entrypoint: "sh".into(), text: "x".into() });
        let install = node.request("once", Verb::Install { reinstall: false, then_start: false });
        context.store.create(manifest, Record::default(), [install]).unwrap();
        let known = watch::Sender::new(false);
        context.tasks.spawn("containers", follow(context.clone(), Queue::default(), known));
        let fixture = Self { node, trouble };
        fixture.comes_to("the script runs", Self::runs).await;
        fixture
    }

    fn runs(&self) -> bool {
        let state = self.node.engine.state_of(&container_name(server_id(1), Role::Installer));
        state == Some(ContainerState::Running)
            && self.node.context.servers.observed(server_id(1), u64::MAX, Observed::default()).installer_seen.is_some()
    }

    async fn comes_to(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..600 {
            self.node.context.pass(server_id(1)).await;
            if holds(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let status = self.node.context.store.status(server_id(1));
        panic!("in a minute it did not come to this: {what}: {status:#?}");
    }

    /// The engine goes down under the script, and is back in a moment.
    async fn engine_restarts(&self) {
        self.node.engine.set_engine_up(false);
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.node.engine.set_engine_up(true);
    }

    fn slow(&self, call: Option<(&'static str, Option<Role>)>) {
        *self.trouble.slow.lock().unwrap() = call;
    }

    /// What was cut off does not count as run, and runs again.
    async fn runs_again(self) {
        self.comes_to("the script runs again", Self::runs).await;
        let record = &self.node.context.store.get(server_id(1)).unwrap().record;
        assert_eq!(record.install.done, None);
        assert_eq!(record.interrupted("once").len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_inspection_during_which_the_engine_went_down_has_seen_nothing() {
    let fixture = Fixture::new().await;
    fixture.node.context.servers.container_changed(server_id(1), Role::Server);
    fixture.slow(Some(("inspect", Some(Role::Server))));
    tokio::join!(fixture.node.context.pass(server_id(1)), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        fixture.engine_restarts().await;
    });
    fixture.slow(None);
    fixture.runs_again().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_seen_without_a_stream_of_events_counts_as_unseen() {
    let fixture = Fixture::new().await;
    fixture.node.engine.set_live_restore(true);
    *fixture.trouble.rejected.lock().unwrap() = Some("events");
    fixture.engine_restarts().await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    // Right after an attempt to follow, so that the next one is seconds away.
    let attempts = |fixture: &Fixture| fixture.node.context.servers.watch(server_id(1));
    let before = attempts(&fixture);
    while attempts(&fixture) == before {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fixture.comes_to("the script is seen", Fixture::runs).await;
    fixture.node.engine.set_live_restore(false);
    fixture.engine_restarts().await;
    *fixture.trouble.rejected.lock().unwrap() = None;
    fixture.runs_again().await;
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_goes_down_under_a_listing_is_noticed_at_once() {
    let fixture = Fixture::new().await;
    fixture.slow(Some(("list", None)));
    tokio::time::sleep(wait::CONTAINER_RESYNC + Duration::from_secs(1)).await;
    fixture.engine_restarts().await;
    fixture.slow(None);
    fixture.node.context.servers.container_changed(server_id(1), Role::Server);
    fixture.runs_again().await;
}

/// An engine that makes containers long after the daemon has given up waiting.
struct LateCreations;

impl Faults for LateCreations {
    fn takes(&self, call: &Call) -> Option<Duration> {
        (call.name == "create").then_some(Duration::from_secs(90))
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_that_was_made_too_late_for_its_answer_is_noticed() {
    let node = TestNode::builder().engine_faults(Arc::new(LateCreations)).build();
    node.engine.set_checks_mounts(false);
    let (id, context, queue) = (server_id(1), &node.context, Queue::default());
    context.store.create(file_manifest(1), Record::default(), []).unwrap();
    context.tasks.spawn("containers", follow(context.clone(), queue.clone(), watch::Sender::new(false)));
    queue.done(queue.next().await, None);
    let host = crate::runtime::HostInfo::default();
    let built = spec_builder::server_container(&file_manifest(1), &context.node.config, &host);
    let spec = context.runtime.resolve(id, built).await.unwrap().spec;
    let purpose = crate::runtime::Purpose { server: id, role: Role::Server, token: "start".into() };
    context.runtime.create(&spec, &purpose).await.unwrap_err();
    context.servers.inspected(id, Role::Server, context.servers.version(id, Role::Server), None);
    let last_reported = tokio::time::timeout(Duration::from_secs(60), queue.next()).await;
    assert_eq!(last_reported, Ok(id));
    assert_eq!(context.servers.cached(id, Role::Server), None, "it is inspected again");
}
