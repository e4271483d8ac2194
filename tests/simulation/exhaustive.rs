//! One create-install-start run, with a crash after each write and each call in turn, and after each pair of them; and the life of
//! a server of a file, whose declarative fields are edited, with a crash at each point.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alula::model::{ContainerState, Power, PowerState, Role, ServerId};
use alula::runtime::container_name;
use alula::store::manifests;
use axum::http::Method;
use serde_json::json;

use crate::crash::{Fate, Rates};
use crate::daemon::Machine;
use crate::furnish::{by_hand, furnish, panel_side};

/// Where in one life the daemon dies: after so many points.
type Deaths = Vec<Option<u64>>;

/// Plays the run with these deaths. Returns the points passed in each life.
fn play(deaths: &Deaths) -> Vec<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(run(deaths))
}

async fn run(deaths: &Deaths) -> Vec<u64> {
    let machine = Machine::new();
    let runs = std::sync::Arc::default();
    furnish(&machine, 1, &runs, true);
    let id = ServerId::new(uuid::Builder::from_random_bytes([7; 16]).into_uuid());
    machine.panel.lock().servers.insert(id, panel_side(id, "only"));
    let mut passed = Vec::new();
    let mut accepted = false;
    let mut lives = deaths.iter().copied().chain(std::iter::repeat(None));
    loop {
        let fate = Fate::new(1, Rates::default(), lives.next().unwrap());
        let Some(daemon) = machine.boot(fate.clone(), 1) else {
            passed.push(fate.passed());
            continue;
        };
        if !accepted {
            // The panel asks until it has an answer; what is asked twice is done once.
            let body = json!({"uuid": id, "start_on_completion": true});
            let answer = daemon.request(Method::POST, "/api/servers", body).await;
            accepted = answer.is_some_and(|status| status.is_success());
            assert!(accepted || fate.is_over(), "{answer:?}");
        }
        daemon.wait(Duration::from_secs(120)).await;
        passed.push(fate.passed());
        if fate.is_over() {
            daemon.kill().await;
            continue;
        }
        check(&machine, &daemon, id, &runs, deaths);
        daemon.kill().await;
        return passed;
    }
}

fn check(
    machine: &Machine,
    daemon: &crate::daemon::Daemon,
    id: ServerId,
    runs: &std::sync::Arc<std::sync::Mutex<std::collections::BTreeMap<String, u64>>>,
    deaths: &Deaths,
) {
    let state = machine.docker.state_of(&container_name(id, Role::Server));
    let story = || {
        let status = daemon.world.store.status(id);
        format!("{deaths:?}: {status:#?} {:#?}", machine.docker.history())
    };
    assert_eq!(state, Some(ContainerState::Running), "{}", story());
    assert_eq!(machine.docker.state_of(&container_name(id, Role::Installer)), None, "{deaths:?}");
    assert_eq!(machine.docker.violations(), [], "{deaths:?}");
    let runs: Vec<u64> = runs.lock().unwrap().values().copied().collect();
    assert_eq!(runs, [1], "the script ran once to its end: {deaths:?}");
    let status = daemon.world.store.status(id).unwrap();
    assert_eq!(status.state, PowerState::Running, "{deaths:?}");
    let panel = machine.panel.lock();
    let side = &panel.servers[&id];
    assert!(!side.reports.is_empty() && side.reports.len() <= 1 + deaths.len(), "{deaths:?}: {:?}", side.reports);
    assert!(side.reports.iter().all(|report| *report == (true, false)), "{deaths:?}");
    assert_eq!(side.states.last().map(|(_, new)| *new), Some(PowerState::Running), "{deaths:?}: {:?}", side.states);
    assert!(panel.violations.is_empty(), "{deaths:?}: {:?}", panel.violations);
    drop(panel);
    let log = std::fs::read_to_string(daemon.world.node.layout.install_log(id)).unwrap();
    let output = log.split("| Script Output").nth(1).unwrap_or_default();
    assert_eq!(output.matches("half way").count(), 1, "the log is whole and has nothing twice: {deaths:?}\n{log}");
    let record = daemon.world.store.get(id).unwrap().record.clone();
    assert!(record.install.done.as_ref().is_some_and(|done| done.reported), "nothing is left to report: {deaths:?}");
}

/// Plays each of these on all cores.
fn all(cases: Vec<Deaths>) -> Vec<Vec<u64>> {
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

/// A file's server is made, started, stopped and started again by its fields alone, and the daemon dies at one point. Returns the
/// points passed in the first life.
async fn edit(death: Option<u64>) -> u64 {
    let machine = Machine::new();
    let runs = std::sync::Arc::default();
    furnish(&machine, 1, &runs, true);
    let id = ServerId::new(uuid::Builder::from_random_bytes([7; 16]).into_uuid());
    machine.panel.lock().of_files.insert(id);
    let folder = machine.root.path().join(format!("servers/{id}"));
    std::fs::create_dir_all(&folder).unwrap();
    let mut manifest = by_hand(id, "1".into(), false);
    // On a new server there is nothing to restart.
    manifest.spec.restarted_at = Some("today".into());
    let first = Fate::new(1, Rates::default(), death);
    let mut daemon = machine.boot(first.clone(), 1);
    for (power, restarted_at, up) in [
        (None, "today", false),
        (Some(Power::Up), "today", true),
        (Some(Power::Down), "tomorrow", false),
        (None, "tomorrow", false),
        (None, "later", true),
    ] {
        (manifest.spec.power, manifest.spec.restarted_at) = (power, Some(restarted_at.into()));
        std::fs::write(folder.join("config.yml"), manifests::render(&manifest).unwrap()).unwrap();
        if daemon.is_none() {
            daemon = machine.boot(Fate::new(1, Rates::default(), None), 1);
        }
        let mut lives = daemon.take().unwrap();
        lives.edited(id);
        lives.wait(Duration::from_secs(120)).await;
        if lives.fate.is_over() {
            lives.kill().await;
            lives = machine.boot(Fate::new(1, Rates::default(), None), 1).unwrap();
            lives.wait(Duration::from_secs(120)).await;
        }
        let runs_now = machine.docker.state_of(&container_name(id, Role::Server)) == Some(ContainerState::Running);
        let snapshot = lives.world.store.get(id);
        assert_eq!(runs_now, up, "{death:?}: {power:?} {restarted_at} {snapshot:#?}");
        daemon = Some(lives);
    }
    let runs: Vec<u64> = runs.lock().unwrap().values().copied().collect();
    assert_eq!(runs, [1], "the script ran once to its end: {death:?}");
    assert_eq!(machine.docker.violations(), [], "{death:?}");
    daemon.unwrap().kill().await;
    first.passed()
}

/// A crash at each point of the life of a file's server.
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

/// A crash at each point, then one at each point of the life after it.
pub fn every_pair() {
    let points = play(&Vec::new())[0];
    let singles: Vec<Deaths> = (0..points).map(|at| vec![Some(at)]).collect();
    let lives = all(singles);
    let mut pairs = Vec::new();
    for (first, passed) in lives.iter().enumerate() {
        let second_life = passed.get(1).copied().unwrap_or(0);
        pairs.extend((0..second_life).map(|second| vec![Some(first as u64), Some(second)]));
    }
    let count = pairs.len();
    assert!(count > 1000, "only {count} pairs");
    all(pairs);
    println!("{count} pairs of crashes");
}
