//! Passes over a node in memory.

use std::time::Duration;

use async_trait::async_trait;

use super::first::first_plan;
use super::*;
use crate::model::PowerState::{Offline, Running};
use crate::model::{ConditionType, Event, Record, Role, Status, Verb};
use crate::runtime::container_name;
use crate::testing::fake::{Call, FakeEngine, Faults};
use crate::testing::{TestNode, TestNodeBuilder, TestPanel, file_manifest, node_config, panel_manifest, server_id};

/// An engine whose removals take longer than anybody waits.
struct SlowRemovals;

impl Faults for SlowRemovals {
    fn takes(&self, call: &Call) -> Option<Duration> {
        (call.name == "remove").then_some(Duration::from_secs(90))
    }
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_is_under_way_is_waited_for_and_not_asked_for_in_a_circle() {
    let node = TestNode::builder().engine_faults(Arc::new(SlowRemovals)).build();
    let (id, context, machine) = (server_id(1), &node.context, &node.engine);
    let delete = node.request("delete", Verb::Delete);
    context.store.create(file_manifest(1), Record::default(), [delete]).unwrap();
    let name = container_name(id, Role::Server);
    machine.create_foreign(&name).unwrap();

    let Some(retry_at) = context.pass(id).await else { panic!("a removal that took too long is tried again") };
    tokio::time::sleep_until(retry_at).await;
    let Some(again) = context.pass(id).await else { panic!("its event may be lost") };
    assert_eq!(again, tokio::time::Instant::now() + Duration::from_secs(3));
    assert_eq!(machine.calls()["remove"], 2);
    assert_eq!(context.servers.not_converged(id).0, 1, "the passes before have converged");

    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(machine.state_of(&name), None);
    assert_eq!(context.pass(id).await, None, "the files are next");
    assert_eq!(machine.calls()["remove"], 2);
}

/// Makes a container of another daemon run for a server.
fn run_outside(machine: &FakeEngine, id: ServerId) -> String {
    let name = container_name(id, Role::Server);
    machine.create_foreign(&name).unwrap();
    assert!(machine.start_outside(&name));
    name
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_files_were_replaced_under_it_has_a_condition_until_it_starts_again() {
    let node = TestNode::new();
    let (id, context) = (server_id(1), &node.context);
    context.runtime.prepare_node().await.unwrap();
    context.store.create(file_manifest(1), Record::default(), [node.request("start", Verb::Start)]).unwrap();
    let settled = async || {
        for _ in 0..5 {
            context.servers.container_changed(id, Role::Server);
            context.pass(id).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let status = context.store.status(id).unwrap();
        status.condition(ConditionType::ContainerReady).map(|condition| condition.reason)
    };
    assert_ne!(settled().await, Some(Reason::FilesReplaced));
    assert!(!context.servers.files_found(id, context.files(id).await));
    let data = context.node.layout.data(id);
    for restored in [true, false] {
        std::fs::rename(&data, data.with_file_name(format!("old-{restored}"))).unwrap();
        if restored {
            std::fs::create_dir(&data).unwrap();
        }
        assert!(context.servers.files_found(id, context.files(id).await), "a pass is due");
        assert_eq!(settled().await, Some(Reason::FilesReplaced));
        context.store.request(id, None, [node.request(&format!("restart-{restored}"), Verb::Restart)]).unwrap();
        settled().await;
        tokio::time::sleep(Duration::from_secs(700)).await;
        assert_ne!(settled().await, Some(Reason::FilesReplaced), "the new container has the new ones");
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_containers_of_a_server_that_run_one_is_removed_and_a_renamed_one_is_kept() {
    let node = TestNode::new();
    let (id, context, machine) = (server_id(1), &node.context, &node.engine);
    machine.set_checks_mounts(false);
    context.runtime.prepare_node().await.unwrap();
    context.store.create(file_manifest(1), Record::default(), [node.request("start", Verb::Start)]).unwrap();
    let name = container_name(id, Role::Server);
    let settles = async || {
        for _ in 0..5 {
            // As after a restart of the daemon.
            context.servers.unwatch();
            context.pass(id).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    settles().await;
    assert!(machine.rename_outside(&name, "kept"));
    settles().await;
    assert_eq!(machine.container_names(), ["kept"], "no second one is created");

    // A person has started a copy by hand.
    assert!(machine.copy_outside("kept", &name));
    settles().await;
    assert_eq!(machine.container_names(), std::slice::from_ref(&name));
    let status = context.store.status(id).unwrap();
    assert!(status.events.iter().any(|event| event.reason == Reason::DuplicateContainer), "{:?}", status.events);

    assert!(machine.rename_outside(&name, "again"));
    context.store.request(id, None, [node.request("stop", Verb::Delete)]).unwrap();
    settles().await;
    assert_eq!(machine.container_names(), [""; 0], "a deletion removes the renamed one");
}

#[tokio::test(start_paused = true)]
async fn the_panel_gets_the_state_that_a_server_reached_while_it_was_parked() {
    let panel = TestPanel::with_servers();
    let node = TestNode::builder().panel(panel.clone()).build();
    let (id, context, machine) = (server_id(1), &node.context, &node.engine);
    context.store.create(panel_manifest(1, "run"), Record::default(), []).unwrap();
    let name = run_outside(machine, id);
    let converge = async || {
        context.servers.container_changed(id, Role::Server);
        context.pass(id).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    converge().await;
    assert_eq!(panel.states(id), [(Offline, Running)]);

    let parked = context.clock.now();
    context.store.commit(id, |record| record.parked = Some(parked)).unwrap();
    assert!(machine.kill_outside(&name));
    converge().await;
    assert_eq!(panel.states(id).len(), 1, "its panel does not have it");

    context.store.commit(id, |record| record.parked = None).unwrap();
    converge().await;
    assert_eq!(panel.states(id), [(Offline, Running), (Running, Offline)]);
}

/// An engine that makes containers slowly.
struct SlowCreations;

#[async_trait]
impl Faults for SlowCreations {
    async fn before(&self, call: Call) -> Result<(), RuntimeError> {
        if call.name == "create" {
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_that_was_made_is_there_whatever_was_seen_meanwhile() {
    let node = TestNode::builder().engine_faults(Arc::new(SlowCreations)).build();
    let (id, context, machine) = (server_id(1), &node.context, &node.engine);
    machine.set_checks_mounts(false);
    context.store.create(file_manifest(1), Record::default(), []).unwrap();
    let create = Step::CreateServer { token: "request".into() };
    let listing = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        // The stream of events has ended, and the listing with which the next one begins finds nothing.
        context.servers.container_changed(id, Role::Server);
        let version = context.servers.version(id, Role::Server);
        context.servers.inspected(id, Role::Server, version, None);
    };
    let (created, ()) = tokio::join!(context.execute(id, &create), listing);
    assert!(created.unwrap());
    assert!(machine.state_of(&container_name(id, Role::Server)).is_some());
    assert!(context.observe(id).await.server.is_some());
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_goes_down_is_not_asked_by_every_pass_whether_it_stays() {
    let node = TestNode::new();
    let (context, machine) = (&node.context, &node.engine);
    let ids = [1, 2, 3].map(server_id);
    for (number, id) in (1..).zip(ids) {
        context.store.create(file_manifest(number), Record::default(), []).unwrap();
        run_outside(machine, id);
        context.pass(id).await;
    }
    machine.go_down();
    for _ in 0..30 {
        for id in ids {
            context.servers.container_changed(id, Role::Server);
            context.pass(id).await;
            let status = context.store.status(id).unwrap();
            assert_eq!(status.state, Running, "nothing is made of the end of {id}");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let asked = machine.calls()["stays"];
    assert!((2..=11).contains(&asked), "{asked} times in thirty seconds");
}

#[tokio::test(start_paused = true)]
async fn a_plan_without_a_daemon_is_that_of_a_first_pass() {
    let node = TestNode::new();
    let (context, machine) = (&node.context, &node.engine);
    for (number, verb) in [(1, Verb::Start), (2, Verb::Stop), (3, Verb::Start)] {
        let asked = node.request("one", verb);
        context.store.create(file_manifest(number), Record::default(), [asked]).unwrap();
    }
    run_outside(machine, server_id(2));
    context.node.layout.prepare(server_id(3)).unwrap();
    let kinds = |plan: &Plan| plan.steps.iter().map(|step| step.kind().as_str()).collect::<Vec<_>>();
    let mut firsts = Vec::new();
    for number in 1..=3 {
        let id = server_id(number);
        let first =
            first_plan(&context.store, context.runtime.as_ref(), &context.node.config, id, context.clock.moment())
                .await;
        let first = first.expect("the server is there");
        assert_eq!(Some(&first), node.context.preview(id).await.as_ref(), "{number}");
        firsts.push(kinds(&first));
    }
    assert!(firsts.iter().all(|steps| !steps.is_empty()), "{firsts:?}");
    assert!(firsts[0].contains(&"Prepare") && !firsts[2].contains(&"Prepare"), "{firsts:?}");
    let gone = first_plan(
        &context.store,
        context.runtime.as_ref(),
        &context.node.config,
        server_id(9),
        context.clock.moment(),
    )
    .await;
    assert_eq!(gone, None);
}

#[tokio::test(start_paused = true)]
async fn a_changed_manifest_of_a_running_server_shows_what_the_next_start_changes() {
    let node = TestNode::new();
    let (id, context) = (server_id(1), &node.context);
    node.engine.set_checks_mounts(false);
    node.engine.add_image("game:2", crate::testing::fake::LocalImage::default());
    let mut manifest = file_manifest(1);
    manifest.spec.settings.environment.insert("PASSWORD".into(), "hunter2".into());
    context.store.create(manifest.clone(), Record::default(), [node.request("start", Verb::Start)]).unwrap();
    let settles = async || {
        for _ in 0..5 {
            // As after a restart of the daemon.
            context.servers.unwatch();
            context.pass(id).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let status = context.store.status(id).unwrap();
        let condition = status.condition(ConditionType::UpToDate).unwrap().clone();
        (condition.reason, condition.message, status.image.clone().unwrap())
    };
    let (reason, _, image) = settles().await;
    assert_eq!((reason, image.as_str()), (Reason::Current, "game:1"));
    // The container was created before the servers' network was known.
    context.runtime.prepare_node().await.unwrap();
    assert_eq!(settles().await.0, Reason::Current);

    manifest.spec.settings.container.image = "game:2".into();
    manifest.spec.settings.environment.insert("PASSWORD".into(), "hunter3".into());
    manifest.spec.settings.build.cpu_limit = 50;
    context.store.apply(id, &crate::yaml::to_string(&manifest).unwrap(), false).unwrap();
    let (reason, message, image) = settles().await;
    assert_eq!((reason, image.as_str()), (Reason::RestartRequired, "game:1"));
    let changes = "the next start changes spec.settings.container.image from game:1 to game:2, \
                   spec.settings.environment.PASSWORD; ";
    assert!(message.starts_with(changes) && !message.contains("hunter"), "{message}");
    let plan = context.preview(id).await.unwrap();
    assert!(plan.steps.is_empty() && plan.conditions.iter().any(|verdict| verdict.message == message), "{plan:?}");

    context.store.request(id, None, [node.request("restart", Verb::Restart)]).unwrap();
    settles().await;
    tokio::time::sleep(Duration::from_secs(700)).await;
    let (reason, _, image) = settles().await;
    assert_eq!((reason, image.as_str()), (Reason::Current, "game:2"));
}

#[tokio::test(start_paused = true)]
async fn a_start_whose_port_another_server_holds_names_that_server() {
    let node = TestNode::new();
    let context = &node.context;
    node.engine.set_checks_mounts(false);
    let manifest = |number: u32, name: &str, address: &str| {
        let mut manifest = file_manifest(number);
        manifest.spec.settings.meta.name = name.into();
        manifest.spec.settings.allocations.mappings.insert(address.into(), vec![25565]);
        manifest
    };
    let start = |id: &str| [node.request(id, Verb::Start)];
    context.store.create(manifest(1, "Survival", "0.0.0.0"), Record::default(), start("first")).unwrap();
    context.store.create(manifest(2, "", "10.0.0.1"), Record::default(), start("second")).unwrap();
    context.store.create(manifest(3, "Alone", "10.0.0.1"), Record::default(), []).unwrap();
    let settles = async |number: u32| {
        for _ in 0..40 {
            context.pass(server_id(number)).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Status::clone(&context.store.status(server_id(number)).unwrap())
    };
    let ready = |status: &Status| status.condition(ConditionType::Ready).unwrap().clone();
    assert_eq!(settles(1).await.ports.len(), 1);
    let message = ready(&settles(2).await).message;
    let (first, second) = (server_id(1), server_id(2));
    let names = format!("the port 0.0.0.0:25565 is held by the running server \"Survival\" ({first}): stop it");
    assert!(message.contains(&names) && message.contains("allocated"), "{message}");

    let parked = context.clock.now();
    context.store.commit(first, |record| record.parked = Some(parked)).unwrap();
    let status = settles(1).await;
    assert_eq!(status.condition(ConditionType::Listed).unwrap().reason, Reason::Parked);
    let shown = ready(&status);
    assert_eq!((shown.status, shown.reason), (crate::model::ConditionStatus::False, Reason::Parked));
    assert!(shown.message.contains(&format!("alula delete {first}")), "{}", shown.message);
    tokio::time::sleep(Duration::from_secs(700)).await;
    let message = ready(&settles(2).await).message;
    assert!(message.contains("which the panel has not listed since"), "{message}");

    // A program of the host holds it: the engine's text is all that is known.
    context.store.request(second, None, [node.request("stop", Verb::Stop)]).unwrap();
    settles(2).await;
    node.engine.set_port_taken("10.0.0.1", 25566, true);
    let mut manifest = manifest(3, "Alone", "10.0.0.1");
    manifest.spec.settings.allocations.mappings.insert("10.0.0.1".into(), vec![25566]);
    context.store.apply(server_id(3), &crate::yaml::to_string(&manifest).unwrap(), false).unwrap();
    context.store.request(server_id(3), None, start("third")).unwrap();
    let message = ready(&settles(3).await).message;
    assert!(message.contains("address already in use") && !message.contains("is held by"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn two_nodes_on_one_engine_leave_each_other_s_containers_alone() {
    let machine = FakeEngine::default();
    machine.add_image("game:1", crate::testing::fake::LocalImage::default());
    machine.set_checks_mounts(false);
    let folder = tempfile::tempdir().unwrap();
    let node = |name: &str| {
        let root = folder.path().join(name);
        std::fs::create_dir_all(&root).unwrap();
        TestNodeBuilder::new(crate::testing::node_config(&root), machine.clone()).build()
    };
    let id = server_id(1);
    let create = |node: &TestNode| {
        let start = node.request("start", Verb::Start);
        node.context.store.create(file_manifest(1), Record::default(), [start]).unwrap();
    };
    let settles = async |node: &TestNode| {
        for _ in 0..20 {
            // As after a restart of the daemon.
            node.context.servers.unwatch();
            node.context.pass(id).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Status::clone(&node.context.store.status(id).unwrap())
    };
    let original = node("original");
    create(&original);
    let running = settles(&original).await;
    assert_ne!(running.state, Offline);

    std::fs::create_dir(folder.path().join("copy")).unwrap();
    let file = |name: &str| folder.path().join(name).join(crate::store::identity::NODE_FILE);
    std::fs::copy(file("original"), file("copy")).unwrap();
    let copy = node("copy");
    create(&copy);
    let status = settles(&copy).await;
    let message = &status.condition(ConditionType::ContainerReady).unwrap().message;
    let whose = format!("state folder {}", folder.path().join("original").display());
    assert!(message.contains(&whose) && message.contains("or delete it on that node"), "{message}");
    assert_eq!((status.state, status.container), (Offline, None));
    assert_eq!(settles(&original).await.container, running.container, "it runs on");

    // A deletion of the copy is one of its own container, and the original's deletion frees the name.
    copy.context.store.request(id, None, [copy.request("delete", Verb::Delete)]).unwrap();
    for _ in 0..5 {
        copy.context.pass(id).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(copy.context.store.get(id).is_none());
    assert_eq!(settles(&original).await.container, running.container);
    original.context.store.request(id, None, [original.request("delete", Verb::Delete)]).unwrap();
    for _ in 0..5 {
        original.context.pass(id).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    create(&copy);
    assert_ne!(settles(&copy).await.state, Offline);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_runs_on_has_no_event_and_no_new_times_after_a_restart_of_the_daemon() {
    let root = tempfile::tempdir().unwrap();
    let engine = FakeEngine::default();
    let node = || TestNodeBuilder::new(node_config(root.path()), engine.clone()).build();
    let (first, id) = (node(), server_id(1));
    let outside = run_outside(&engine, id);
    first.context.store.create(file_manifest(1), Record::default(), []).unwrap();
    first.context.pass(id).await;
    let before = first.context.store.status(id).unwrap();
    assert_eq!(before.state, Running);
    assert!(before.started_at.is_some());
    let created_at = first.context.store.get(id).unwrap().record.created_at;
    assert_eq!(created_at, Some(first.context.clock.now()));
    drop(first);

    tokio::time::sleep(Duration::from_secs(900)).await;
    let second = node();
    second.context.pass(id).await;
    assert_eq!(second.context.store.status(id), Some(before));
    assert_eq!(second.context.store.get(id).unwrap().record.created_at, created_at);
    drop(second);

    assert!(engine.kill_outside(&outside));
    let third = node();
    third.context.pass(id).await;
    let status = third.context.store.status(id).unwrap();
    let ended = |event: &Event| event.reason == Reason::StateChanged && event.message.starts_with("running → ");
    assert!(status.events.iter().any(ended), "what happened meanwhile is an event: {:?}", status.events);
}
