//! Servers that crash again and again under each restart policy, and many servers that are started after a boot: with lost events, an
//! engine that goes down, and daemons that are killed meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alula::model::{Power, PowerState, Restart, RestartPolicy, Role, ServerId};
use alula::runtime::container_name;
use alula::store::manifests;
use alula::testing::fake::{Program, ServerScript};

use crate::daemon::{Daemon, Machine};
use crate::faults::{ProcessFaults, Rates};
use crate::setup::{by_hand, set_up};

fn played(play: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(play());
}

fn id(number: u8) -> ServerId {
    ServerId::new(uuid::Builder::from_random_bytes([number; 16]).into_uuid())
}

/// A machine with servers of files that are wanted up, and whose installation is skipped.
fn machine(servers: &[(u8, Option<Restart>, i32)], program: Program) -> Machine {
    let mut machine = Machine::new();
    machine.config.concurrent_starts = 2;
    set_up(&machine, 1, &Arc::<Mutex<BTreeMap<String, u64>>>::default(), true);
    machine.engine.choose_programs(move |_| program.clone());
    for (number, restart, priority) in servers {
        let id = id(*number);
        machine.panel.lock().file_managed.insert(id);
        let mut manifest = by_hand(id, "1".into(), false);
        (manifest.spec.install, manifest.spec.script) = (None, None);
        (manifest.spec.restart, manifest.spec.priority) = (restart.clone(), *priority);
        manifest.spec.power = Some(Power::Up);
        let folder = machine.root.path().join(format!("servers/{id}"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("config.yml"), manifests::render(&manifest).unwrap()).unwrap();
    }
    machine
}

fn boot(machine: &Machine, rates: Rates, seed: u64) -> Daemon {
    machine.boot(ProcessFaults::new(seed, rates, None), seed).unwrap()
}

/// When containers of a server were started.
fn starts(machine: &Machine, id: ServerId) -> Vec<Duration> {
    let name = container_name(id, Role::Server);
    let history = machine.engine.history().into_iter();
    history.filter(|entry| entry.call == "start" && entry.ok && entry.name == name).map(|entry| entry.at).collect()
}

/// Ends a second after its start, with this exit code.
fn crashing(code: i64) -> Program {
    let script =
        ServerScript { boots_in: None, crash: Some((Duration::from_secs(1), code)), ..ServerScript::default() };
    Program::server(&script)
}

/// The pauses between two starts are no shorter than the policy says, whatever happens to the daemon, and no server is given up.
pub fn restarts_follow_the_policy() {
    for (policy, code, restarts) in [
        (RestartPolicy::Always, 0, true),
        (RestartPolicy::Always, 3, true),
        (RestartPolicy::OnFailure, 0, false),
        (RestartPolicy::OnFailure, 3, true),
        (RestartPolicy::Never, 0, false),
        (RestartPolicy::Never, 3, false),
    ] {
        for seed in 1..=6 {
            played(async || {
                let machine = machine(&[(7, Some(Restart::new(policy)), 0)], crashing(code));
                let rates = Rates { event_lost: 150, event_late: 100, runtime_answer_lost: 20, ..Rates::default() };
                let mut daemon = boot(&machine, rates, seed);
                for part in 0..4 {
                    daemon.wait(Duration::from_secs(300 + 7 * seed)).await;
                    // Only while the server waits: a container that ends unwatched is no crash.
                    if part < 3
                        && restarts
                        && daemon.node.context.store.status(id(7)).unwrap().state == PowerState::Offline
                    {
                        daemon.kill().await;
                        daemon = boot(&machine, rates, seed + 100 * part);
                    }
                }
                let starts = starts(&machine, id(7));
                if !restarts {
                    assert_eq!(starts.len(), 1, "{policy:?} {code} seed {seed}: {starts:?}");
                    daemon.kill().await;
                    return;
                }
                assert!((6..=12).contains(&starts.len()), "{policy:?} {code} seed {seed}: {starts:?}");
                for (number, pair) in starts.windows(2).enumerate().skip(1) {
                    let least = Restart::new(policy).delay(u32::try_from(number).unwrap());
                    assert!(pair[1] - pair[0] >= least, "{policy:?} {code} seed {seed}: {number} {starts:?}");
                }
                assert_eq!(machine.engine.violations(), []);
                daemon.kill().await;
            });
        }
    }
}

/// A person stops a server that waits, or suspends it, or asks for a start at once.
pub fn a_server_that_waits_obeys() {
    played(async || {
        let machine = machine(&[(7, Some(Restart::new(RestartPolicy::Always)), 0)], crashing(1));
        let daemon = boot(&machine, Rates::default(), 1);
        daemon.wait(Duration::from_secs(60)).await;
        let before = starts(&machine, id(7)).len();
        let path = format!("/api/servers/{}/power", id(7));
        let power = async |action: &str| {
            let body = serde_json::json!({"action": action});
            daemon.request(axum::http::Method::POST, &path, body).await.unwrap()
        };
        assert!(power("start").await.is_success());
        // An image is pulled before each start.
        daemon.wait(Duration::from_secs(5)).await;
        assert!(starts(&machine, id(7)).len() > before, "without a wait");
        daemon.wait(Duration::from_secs(5)).await;
        assert!(power("stop").await.is_success());
        daemon.wait(Duration::from_secs(2)).await;
        let stopped = starts(&machine, id(7)).len();
        daemon.wait(Duration::from_secs(2000)).await;
        assert_eq!(starts(&machine, id(7)).len(), stopped);
        daemon.kill().await;
    });
}

/// Most servers that were between the start of their container and the end of their start-up at once.
fn most_at_once(machine: &Machine, since: Duration, boots_in: Duration, servers: u8) -> usize {
    let starts: Vec<Duration> = (1..=servers).filter_map(|number| starts(machine, id(number)).pop()).collect();
    assert!(starts.iter().all(|start| *start > since), "all were started");
    let at_once =
        |start: &Duration| starts.iter().filter(|other| *other <= start && **other + boots_in > *start).count();
    starts.iter().map(at_once).max().unwrap()
}

/// The host goes down with all that runs. A few servers start at a time, those with a higher priority first, and none is left out; the
/// daemon may be killed meanwhile, and the engine may go down once more.
pub fn after_a_boot_servers_start_a_few_at_a_time() {
    for disturbance in 0..3 {
        played(async || {
            let priorities = [0, 5, 0, -1, 9, 5, 0, 0];
            let servers: Vec<(u8, Option<Restart>, i32)> =
                (1..=8).zip(priorities).map(|(number, priority)| (number, None, priority)).collect();
            let boots_in = Duration::from_secs(10);
            let program = Program::server(&ServerScript {
                boots_in: Some(boots_in),
                done: "Done!".into(),
                ..ServerScript::default()
            });
            let machine = machine(&servers, program);
            let mut daemon = boot(&machine, Rates::default(), 1);
            daemon.wait(Duration::from_secs(120)).await;
            daemon.kill().await;
            machine.engine.set_engine_up(false);
            machine.engine.set_engine_up(true);
            let down = machine.epoch.1.elapsed();
            daemon = boot(&machine, Rates::default(), 2);
            daemon.wait(Duration::from_secs(15)).await;
            if disturbance == 1 {
                daemon.kill().await;
                daemon = boot(&machine, Rates::default(), 3);
            }
            if disturbance == 2 {
                machine.engine.set_engine_up(false);
                daemon.wait(Duration::from_secs(3)).await;
                machine.engine.set_engine_up(true);
            }
            daemon.wait(Duration::from_secs(300)).await;
            assert!(most_at_once(&machine, down, boots_in, 8) <= 2, "disturbance {disturbance}");
            if disturbance == 0 {
                let mut order: Vec<(Duration, i32)> =
                    servers.iter().map(|(number, _, priority)| (starts(&machine, id(*number))[1], *priority)).collect();
                order.sort();
                let priorities: Vec<i32> = order.into_iter().map(|(_, priority)| priority).collect();
                let pairs: Vec<i32> = priorities.chunks(2).map(|pair| pair.iter().sum()).collect();
                assert_eq!(pairs, [9 + 5, 5, 0, -1], "two at a time: {priorities:?}");
            }
            for (number, ..) in &servers {
                let status = daemon.node.context.store.status(id(*number)).unwrap();
                assert_eq!(status.state, PowerState::Running, "{number}: {status:#?}");
                assert!(!daemon.node.context.start_slots.holds(id(*number)), "{number} keeps its slot");
            }
            daemon.kill().await;
        });
    }
}
