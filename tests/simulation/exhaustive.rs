//! A run that creates, installs and starts a server, with a crash after each write and call, and after each pair of them; and one
//! that edits declarative fields of a file's server, with a crash at each point.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alula::model::{ContainerState, Power, PowerState, Role, ServerId};
use alula::runtime::container_name;
use alula::store::manifests;
use axum::http::Method;
use serde_json::json;

use crate::daemon::Machine;
use crate::faults::{ProcessFaults, Rates};
use crate::setup::{by_hand, panel_side, set_up};

/// The points after which each process crashes.
type CrashPoints = Vec<Option<u64>>;

/// Plays the run with crashes at these points. Returns the points passed in each process.
fn play(crash_points: &CrashPoints) -> Vec<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(run(crash_points))
}

async fn run(crash_points: &CrashPoints) -> Vec<u64> {
    let machine = Machine::new();
    let runs = std::sync::Arc::default();
    set_up(&machine, 1, &runs, true);
    let id = ServerId::new(uuid::Builder::from_random_bytes([7; 16]).into_uuid());
    machine.panel.lock().servers.insert(id, panel_side(id, "only"));
    let mut passed = Vec::new();
    let mut accepted = false;
    let mut crashes = crash_points.iter().copied().chain(std::iter::repeat(None));
    loop {
        let faults = ProcessFaults::new(1, Rates::default(), crashes.next().unwrap());
        let Some(daemon) = machine.boot(faults.clone(), 1) else {
            passed.push(faults.passed());
            continue;
        };
        if !accepted {
            // The panel repeats the request until it has an answer; a repeated request has one effect.
            let body = json!({"uuid": id, "start_on_completion": true});
            let answer = daemon.request(Method::POST, "/api/servers", body).await;
            accepted = answer.is_some_and(|status| status.is_success());
            assert!(accepted || faults.is_over(), "{answer:?}");
        }
        daemon.wait(Duration::from_secs(120)).await;
        passed.push(faults.passed());
        if faults.is_over() {
            daemon.kill().await;
            continue;
        }
        check(&machine, &daemon, id, &runs, crash_points);
        daemon.kill().await;
        return passed;
    }
}

fn check(
    machine: &Machine,
    daemon: &crate::daemon::Daemon,
    id: ServerId,
    runs: &std::sync::Arc<std::sync::Mutex<std::collections::BTreeMap<String, u64>>>,
    crash_points: &CrashPoints,
) {
    let state = machine.engine.state_of(&container_name(id, Role::Server));
    let details = || {
        let status = daemon.node.context.store.status(id);
        format!("{crash_points:?}: {status:#?} {:#?}", machine.engine.history())
    };
    assert_eq!(state, Some(ContainerState::Running), "{}", details());
    assert_eq!(machine.engine.state_of(&container_name(id, Role::Installer)), None, "{crash_points:?}");
    assert_eq!(machine.engine.violations(), [], "{crash_points:?}");
    let runs: Vec<u64> = runs.lock().unwrap().values().copied().collect();
    assert_eq!(runs, [1], "the script ran once to its end: {crash_points:?}");
    let status = daemon.node.context.store.status(id).unwrap();
    assert_eq!(status.state, PowerState::Running, "{crash_points:?}");
    let panel = machine.panel.lock();
    let side = &panel.servers[&id];
    assert!(
        !side.installs.is_empty() && side.installs.len() <= 1 + crash_points.len(),
        "{crash_points:?}: {:?}",
        side.installs
    );
    assert!(side.installs.iter().all(|report| *report == (true, false)), "{crash_points:?}");
    assert_eq!(
        side.states.last().map(|(_, new)| *new),
        Some(PowerState::Running),
        "{crash_points:?}: {:?}",
        side.states
    );
    assert!(panel.violations.is_empty(), "{crash_points:?}: {:?}", panel.violations);
    drop(panel);
    let log = std::fs::read_to_string(daemon.node.context.node.layout.install_log(id)).unwrap();
    let output = log.split("| Script Output").nth(1).unwrap_or_default();
    assert_eq!(
        output.matches("half way").count(),
        1,
        "the log is complete and has nothing twice: {crash_points:?}\n{log}"
    );
    let record = daemon.node.context.store.get(id).unwrap().record.clone();
    assert!(
        record.install.done.as_ref().is_some_and(|done| done.reported),
        "nothing is left to report: {crash_points:?}"
    );
}

/// Plays all of these on all cores.
fn all(cases: Vec<CrashPoints>) -> Vec<Vec<u64>> {
    let next = AtomicU64::new(0);
    let results = std::sync::Mutex::new(vec![Vec::new(); cases.len()]);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let at = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap();
                    let Some(case) = cases.get(at) else { return };
                    let passed = play(case);
                    results.lock().unwrap()[at] = passed;
                }
            });
        }
    });
    results.into_inner().unwrap()
}

/// Creates, starts, stops and starts a file's server by its declarative fields alone, with a crash at one point. Returns the points
/// passed in the first process.
async fn edit(death: Option<u64>) -> u64 {
    let machine = Machine::new();
    let runs = std::sync::Arc::default();
    set_up(&machine, 1, &runs, true);
    let id = ServerId::new(uuid::Builder::from_random_bytes([7; 16]).into_uuid());
    machine.panel.lock().file_managed.insert(id);
    let folder = machine.root.path().join(format!("servers/{id}"));
    let mut manifest = by_hand(id, "1".into(), false);
    // A new server does not run, so `restartedAt` is no request.
    manifest.spec.restarted_at = Some("today".into());
    let first = ProcessFaults::new(1, Rates::default(), death);
    let mut daemon = machine.boot(first.clone(), 1);
    for (power, restarted_at, up) in [
        (None, "today", false),
        (Some(Power::Up), "today", true),
        (Some(Power::Down), "tomorrow", false),
        (None, "tomorrow", false),
        (None, "later", true),
    ] {
        (manifest.spec.power, manifest.spec.restarted_at) = (power, Some(restarted_at.into()));
        // A folder that is empty at a boot is removed.
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("config.yml"), manifests::render(&manifest).unwrap()).unwrap();
        if daemon.is_none() {
            daemon = machine.boot(ProcessFaults::new(1, Rates::default(), None), 1);
        }
        let mut running = daemon.take().unwrap();
        running.edited(id);
        running.wait(Duration::from_secs(120)).await;
        if running.faults.is_over() {
            running.kill().await;
            running = machine.boot(ProcessFaults::new(1, Rates::default(), None), 1).unwrap();
            running.wait(Duration::from_secs(120)).await;
        }
        let runs_now = machine.engine.state_of(&container_name(id, Role::Server)) == Some(ContainerState::Running);
        let snapshot = running.node.context.store.get(id);
        assert_eq!(runs_now, up, "{death:?}: {power:?} {restarted_at} {snapshot:#?}");
        daemon = Some(running);
    }
    let runs: Vec<u64> = runs.lock().unwrap().values().copied().collect();
    assert_eq!(runs, [1], "the script ran once to its end: {death:?}");
    assert_eq!(machine.engine.violations(), [], "{death:?}");
    daemon.unwrap().kill().await;
    first.passed()
}

/// A crash at each point of the run with a file's server.
pub fn every_point_of_a_file() {
    let play = |death| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(edit(death))
    };
    let points = play(None);
    assert!(points > 50, "only {points} points");
    for at in 0..points {
        play(Some(at));
    }
    println!("{points} single crashes");
}

/// A crash at each point of the run.
pub fn every_point() {
    let points = play(&Vec::new())[0];
    assert!(points > 50, "only {points} points");
    all((0..points).map(|at| vec![Some(at)]).collect());
    println!("{points} single crashes");
}

/// A crash at each point, then one at each point of the process after it.
pub fn every_pair() {
    let points = play(&Vec::new())[0];
    let singles: Vec<CrashPoints> = (0..points).map(|at| vec![Some(at)]).collect();
    let passed = all(singles);
    let mut pairs = Vec::new();
    for (first, passed) in passed.iter().enumerate() {
        let second_life = passed.get(1).copied().unwrap_or(0);
        pairs.extend((0..second_life).map(|second| vec![Some(first as u64), Some(second)]));
    }
    let count = pairs.len();
    assert!(count > 1000, "only {count} pairs");
    all(pairs);
    println!("{count} pairs of crashes");
}
