//! What the fake guarantees beyond the contract suite: determinism, faults, history and counts.

mod faults;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::Instant;

use super::*;
use crate::model::ContainerState;

const SECOND: Duration = Duration::from_secs(1);

fn server(number: u128) -> ServerId {
    ServerId::new(uuid::Uuid::from_u128(number))
}

fn spec(server: ServerId, role: Role) -> ContainerSpec {
    let mut spec = crate::testing::container_spec(&container_name(server, role), "foreign:latest");
    spec.image = "box".into();
    spec
}

fn purpose(server: ServerId, role: Role, token: &str) -> Purpose {
    Purpose { server, role, token: token.into() }
}

/// A machine with the image `box`.
fn machine() -> FakeEngine {
    let engine = FakeEngine::default();
    engine.add_image("box", LocalImage::default());
    engine
}

fn faultless(engine: &FakeEngine) -> FakeRuntime {
    FakeRuntime::faultless(engine.clone(), crate::testing::test_host())
}

async fn make(runtime: &FakeRuntime, server: ServerId, role: Role) -> String {
    runtime.create(&spec(server, role), &purpose(server, role, "token")).await.unwrap()
}

async fn make_running(runtime: &FakeRuntime, server: ServerId, role: Role) -> String {
    let id = make(runtime, server, role).await;
    runtime.start(&id).await.unwrap();
    id
}

/// Seeded faults: some calls are slow or fail, some events are lost, doubled or late.
struct Seeded(AtomicU64);

impl Seeded {
    fn roll(&self, sides: u64) -> u64 {
        // splitmix64
        let seed = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

#[async_trait]
impl Faults for Seeded {
    async fn before(&self, call: Call) -> Result<(), RuntimeError> {
        match self.roll(5) {
            0 => tokio::time::sleep(Duration::from_millis(self.roll(2_000))).await,
            1 => return Err(unreachable(call.name)),
            _ => {}
        }
        Ok(())
    }

    async fn after(&self, call: Call) -> Result<(), RuntimeError> {
        if self.roll(6) == 0 { Err(unreachable(call.name)) } else { Ok(()) }
    }

    fn takes(&self, _: &Call) -> Option<Duration> {
        (self.roll(4) == 0).then(|| Duration::from_millis(self.roll(20_000)))
    }

    fn deliver(&self, _: &RuntimeEvent) -> Delivery {
        match self.roll(4) {
            0 => Delivery::Lost,
            1 => Delivery::Twice,
            2 => Delivery::Late(Duration::from_millis(self.roll(3_000))),
            _ => Delivery::Once,
        }
    }
}

/// Several clients that do things to the same containers at once; what was seen of it.
fn scenario(seed: u64) -> (Vec<Entry>, Vec<(Duration, RuntimeEvent)>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let began = Instant::now();
        let engine = machine();
        let faults = Arc::new(Seeded(AtomicU64::new(seed)));
        let runtime = FakeRuntime::new(engine.clone(), faults, crate::testing::test_host());
        let listener = async {
            let mut acknowledged = Vec::new();
            while let Ok(mut events) = tokio::time::timeout_at(began + 100 * SECOND, async {
                loop {
                    if let Ok(events) = runtime.events().await {
                        break events;
                    }
                }
            })
            .await
            {
                while let Ok(Some(event)) = tokio::time::timeout_at(began + 100 * SECOND, events.next()).await {
                    acknowledged.push((began.elapsed(), event));
                }
            }
            acknowledged
        };
        let client = |of: ServerId, role: Role| {
            let runtime = runtime.clone();
            async move {
                for _ in 0..4 {
                    let _ = runtime.create(&spec(of, role), &purpose(of, role, "t")).await;
                    if let Ok(Some(status)) = runtime.inspect(of, role).await {
                        let _ = runtime.start(&status.id).await;
                        tokio::time::sleep(SECOND).await;
                        let _ = runtime.signal(&status.id, "SIGTERM").await;
                        let _ = runtime.remove(&status.id).await;
                    }
                }
            }
        };
        let clients = futures_util::future::join_all(
            (0..3).flat_map(|number| [Role::Server, Role::Installer].map(|role| client(server(number), role))),
        );
        let (acknowledged, _) = tokio::join!(listener, clients);
        (engine.history(), acknowledged)
    })
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let mut histories = Vec::new();
    for seed in 0..20 {
        let (history, acknowledged) = scenario(seed);
        assert!(!history.is_empty() && !acknowledged.is_empty(), "seed {seed} does nothing");
        assert_eq!((history.clone(), acknowledged), scenario(seed), "seed {seed} gives two histories");
        histories.push(history);
    }
    histories.dedup();
    assert_eq!(histories.len(), 20, "seeds make no difference");
}

#[tokio::test(start_paused = true)]
async fn an_installer_prints_in_time_and_ends_by_itself() {
    let engine = machine();
    let lines = [(SECOND, "one"), (3 * SECOND, "two")];
    engine.set_program("box", Program::installer(&lines, 5 * SECOND, 7));
    let runtime = faultless(&engine);
    let name = container_name(server(1), Role::Installer);
    let id = make(&runtime, server(1), Role::Installer).await;
    assert_eq!(engine.state_of(&name), Some(ContainerState::Created));
    runtime.start(&id).await.unwrap();
    tokio::time::advance(2 * SECOND).await;
    assert_eq!(engine.printed(&name), "one\r\n");
    tokio::time::advance(3 * SECOND).await;
    assert_eq!(engine.printed(&name), "one\r\ntwo\r\n");
    let status = runtime.inspect(server(1), Role::Installer).await.unwrap().unwrap();
    assert_eq!(status.state, ContainerState::Exited { code: 7, oom_killed: false });
    let (began, ended) = (status.started_at.unwrap(), status.finished_at.unwrap());
    assert_eq!(ended.since(began), 5 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn an_end_has_the_time_at_which_it_was_due() {
    let engine = machine();
    engine.set_program("box", Program::idle().and_then(2 * SECOND, Act::RunOutOfMemory));
    let runtime = faultless(&engine);
    make_running(&runtime, server(1), Role::Server).await;
    tokio::time::advance(3_600 * SECOND).await;
    let status = runtime.inspect(server(1), Role::Server).await.unwrap().unwrap();
    assert_eq!(status.state, ContainerState::Exited { code: KILLED, oom_killed: true });
    assert_eq!(status.finished_at.unwrap().since(status.started_at.unwrap()), 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_server_reacts_to_lines_and_signals() {
    let engine = machine();
    let runtime = faultless(&engine);
    let name = container_name(server(1), Role::Server);
    let id = make_running(&runtime, server(1), Role::Server).await;
    assert!(engine.send_command(&name, "say hello there"));
    assert_eq!(engine.printed(&name), "booting\r\nsay hello there\r\nhello there\r\n");
    runtime.signal(&id, "SIGHUP").await.unwrap();
    assert!(engine.send_command(&name, "crash 3"));
    assert_eq!(engine.state_of(&name), Some(ContainerState::Exited { code: 3, oom_killed: false }));
    for stop in ["stop", "SIGTERM", "SIGINT"] {
        runtime.start(&id).await.unwrap();
        match stop {
            "stop" => assert!(engine.send_command(&name, stop)),
            signal => runtime.signal(&id, signal).await.unwrap(),
        }
        tokio::time::advance(Duration::from_millis(499)).await;
        assert_eq!(engine.state_of(&name), Some(ContainerState::Running), "{stop}");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(engine.state_of(&name), Some(ContainerState::Exited { code: 0, oom_killed: false }), "{stop}");
    }
    assert!(!engine.send_command(&name, "say again"));
}

#[tokio::test(start_paused = true)]
async fn a_server_without_handlers_ends_only_by_kill() {
    let engine = machine();
    let deaf = ServerScript { stops_in: None, boots_in: None, ..ServerScript::default() };
    engine.set_program("box", Program::server(&deaf));
    let runtime = faultless(&engine);
    let name = container_name(server(1), Role::Server);
    let id = make_running(&runtime, server(1), Role::Server).await;
    runtime.signal(&id, "SIGTERM").await.unwrap();
    engine.send_command(&name, "stop");
    tokio::time::advance(600 * SECOND).await;
    assert_eq!(engine.state_of(&name), Some(ContainerState::Running));
    runtime.signal(&id, "SIGKILL").await.unwrap();
    assert_eq!(engine.state_of(&name), Some(ContainerState::Exited { code: KILLED, oom_killed: false }));
}

#[tokio::test(start_paused = true)]
async fn scheduled_actions_of_an_earlier_run_are_skipped() {
    let engine = machine();
    engine.choose_programs(|launch| match launch.run_of_name {
        1 => Program::idle().and_then(10 * SECOND, Act::Exit(1)),
        _ => Program::idle(),
    });
    let runtime = faultless(&engine);
    let name = container_name(server(1), Role::Server);
    let id = make_running(&runtime, server(1), Role::Server).await;
    engine.kill_outside(&name);
    runtime.start(&id).await.unwrap();
    tokio::time::advance(20 * SECOND).await;
    assert_eq!(engine.state_of(&name), Some(ContainerState::Running));
}

#[tokio::test(start_paused = true)]
async fn counts_and_violations_are_recorded() {
    let engine = machine();
    let ended = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = ended.clone();
    engine.on_end(move |engine, end| {
        assert!(!engine.history().is_empty(), "the hook may use the machine");
        let token = end.purpose.as_ref().unwrap().token.clone();
        noted.lock().unwrap().push((token, end.code, end.by_itself));
    });
    let runtime = faultless(&engine);
    let (one, two) = (server(1), server(2));
    make_running(&runtime, one, Role::Installer).await;
    tokio::time::advance(3 * SECOND).await;
    make_running(&runtime, one, Role::Server).await;
    assert_eq!(engine.violations(), []);
    make_running(&runtime, two, Role::Installer).await;
    make_running(&runtime, two, Role::Server).await;
    engine.remove_outside(&container_name(two, Role::Installer));
    let breaches: Vec<_> = engine.violations().iter().map(|one| (one.server, one.what)).collect();
    assert_eq!(breaches, [(two, Breach::StartedWhileInstalling)]);
    assert_eq!(*ended.lock().unwrap(), [("token".into(), 0, true), ("token".into(), KILLED, false)]);
    let counts = engine.counts(two, Role::Installer);
    let wanted = Counts { creates: 1, starts: 1, removes: 1, ends: 1, most: 1, most_running: 1 };
    assert_eq!(counts, wanted);
    let calls: Vec<_> = engine.history().iter().map(|entry| entry.call).collect();
    let story = ["create", "start", "die", "create", "start", "create", "start", "create", "start"];
    assert_eq!(calls[..9], story);
    assert_eq!(calls[9..], ["die", "remove", "remove outside"]);
}

#[tokio::test(start_paused = true)]
async fn two_containers_of_one_role_are_noticed() {
    let engine = machine();
    let runtime = faultless(&engine);
    make_running(&runtime, server(1), Role::Server).await;
    let mut twin = spec(server(1), Role::Server);
    twin.name = "twin".into();
    let id = runtime.create(&twin, &purpose(server(1), Role::Server, "t")).await.unwrap();
    assert_eq!(engine.violations(), []);
    runtime.start(&id).await.unwrap();
    let breaches: Vec<_> = engine.violations().iter().map(|one| one.what).collect();
    assert_eq!(breaches, [Breach::TwoOfARole(Role::Server)]);
    assert_eq!(engine.counts(server(1), Role::Server).most_running, 2);
}

#[tokio::test(start_paused = true)]
async fn the_hook_runs_in_time_without_a_call() {
    let engine = machine();
    let lasts = |name: &str| if name == container_name(server(1), Role::Installer) { 100 } else { 2 };
    engine.choose_programs(move |launch| Program::installer(&[], lasts(launch.name) * SECOND, 0));
    let (ended, mut ends) = mpsc::unbounded_channel();
    engine.on_end(move |_, end| ended.send((end.spec.name.clone(), Instant::now())).unwrap());
    let runtime = faultless(&engine);
    let began = Instant::now();
    make_running(&runtime, server(1), Role::Installer).await;
    // The driver sleeps until the first end by now; the second is due earlier.
    tokio::time::sleep(SECOND).await;
    make_running(&runtime, server(2), Role::Installer).await;
    for (number, at) in [(2, 3), (1, 100)] {
        let (name, time) = ends.recv().await.unwrap();
        assert_eq!((name, time - began), (container_name(server(number), Role::Installer), at * SECOND));
    }
}

#[tokio::test(start_paused = true)]
async fn applied_limits_are_known_to_the_connection_that_set_them() {
    let engine = machine();
    let runtime = faultless(&engine);
    let id = make(&runtime, server(1), Role::Server).await;
    let (before, after) = (Limits::default(), Limits { memory: 1 << 30, ..Limits::default() });
    runtime.update(&id, &after).await.unwrap();
    assert_eq!(engine.limits_of(&container_name(server(1), Role::Server)), Some(after.clone()));
    let hash = async |runtime: &FakeRuntime| {
        runtime.inspect(server(1), Role::Server).await.unwrap().unwrap().limits_hash.unwrap()
    };
    assert_eq!(hash(&runtime).await, after.hash());
    assert_eq!(hash(&faultless(&engine)).await, before.hash());
}

#[tokio::test(start_paused = true)]
async fn ports_mounts_and_networks_are_rejected_as_docker_does() {
    let engine = machine();
    let runtime = faultless(&engine);
    let port = |address: &str| vec![crate::model::PublishedPort { address: address.into(), port: 25_565 }];
    let mut ids = Vec::new();
    for (number, address) in ["127.0.0.1", "127.0.0.2", "0.0.0.0"].into_iter().enumerate() {
        let id = server(number as u128);
        let mut spec = spec(id, Role::Server);
        spec.ports = port(address);
        ids.push(runtime.create(&spec, &purpose(id, Role::Server, "t")).await.unwrap());
    }
    runtime.start(&ids[0]).await.unwrap();
    runtime.start(&ids[1]).await.unwrap();
    let rejected = runtime.start(&ids[2]).await.unwrap_err();
    assert!(
        rejected.kind == ErrorKind::Failed && rejected.to_string().contains("port is already allocated"),
        "{rejected}"
    );
    runtime.remove(&ids[0]).await.unwrap();
    runtime.remove(&ids[1]).await.unwrap();
    engine.set_port_taken("10.0.0.1", 25_565, true);
    assert!(runtime.start(&ids[2]).await.unwrap_err().to_string().contains("address already in use"));
    engine.set_port_taken("10.0.0.1", 25_565, false);
    runtime.start(&ids[2]).await.unwrap();

    let mut mounted = spec(server(9), Role::Server);
    let (role, path) = (crate::runtime::VolumeRole::Data, Some("/nowhere/at/all".to_owned()));
    mounted.volumes.push(crate::runtime::Volume { role, path, target: "/x".into(), read_only: false });
    let rejected = runtime.create(&mounted, &purpose(server(9), Role::Server, "t")).await.unwrap_err();
    assert_eq!(rejected.kind, ErrorKind::Invalid, "{rejected}");
    engine.set_checks_mounts(false);
    mounted.network_mode = "gone".into();
    let id = runtime.create(&mounted, &purpose(server(9), Role::Server, "t")).await.unwrap();
    let rejected = runtime.start(&id).await.unwrap_err();
    assert_eq!(rejected.kind, ErrorKind::NotFound, "{rejected}");
}
