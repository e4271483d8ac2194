//! The whole controller in a simulated world: a real state folder, the in-memory runtime and panel, paused time, and a
//! seeded plan of everything that goes wrong.
//!
//! A normal run plays 2,000 seeds. More:
//! `ALULA_SIM_SEEDS=1000000 cargo test --release --test simulation -- --nocapture seeds`. One again:
//! `ALULA_SIM_SEED=123 cargo test --test simulation -- --nocapture seeds`. A failing seed prints itself.

#[path = "simulation/acts.rs"]
mod acts;
#[path = "simulation/check.rs"]
mod check;
#[path = "simulation/crash.rs"]
mod crash;
#[path = "simulation/daemon.rs"]
mod daemon;
#[path = "simulation/directed_c.rs"]
mod directed_c;
#[path = "simulation/exhaustive.rs"]
mod exhaustive;
#[path = "simulation/furnish.rs"]
mod furnish;
#[path = "simulation/hands.rs"]
mod hands;
#[path = "simulation/journal.rs"]
mod journal;
#[path = "simulation/outages.rs"]
mod outages;
#[path = "simulation/panel.rs"]
mod panel;
#[path = "simulation/peace.rs"]
mod peace;
#[path = "simulation/rest.rs"]
mod rest;
#[path = "simulation/rng.rs"]
mod rng;
#[path = "simulation/scenario.rs"]
mod scenario;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn seeds() {
    if let Some(seed) = number("ALULA_SIM_SEED") {
        scenario::play(seed, true);
        return;
    }
    let first = number("ALULA_SIM_FIRST").unwrap_or(0);
    let count = number("ALULA_SIM_SEEDS").unwrap_or(2000);
    let next = AtomicU64::new(first);
    let began = Instant::now();
    let watchdog = Watchdog::start();
    let totals = Mutex::new(scenario::Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let tally = watchdog.watch(seed, || scenario::play(seed, false));
                    totals.lock().unwrap().add(&tally);
                }
            });
        }
    });
    println!("{count} seeds in {:.1} s: {}", began.elapsed().as_secs_f64(), totals.lock().unwrap());
}

/// Ends the whole run, with the seed's name, when one does not come to an end: time stands still in a daemon that looks at the
/// same server again and again without waiting.
#[derive(Clone, Default)]
struct Watchdog {
    running: Arc<Mutex<BTreeMap<u64, Instant>>>,
}

impl Watchdog {
    /// A seed takes a tenth of a second where nothing else runs.
    const LIMIT: Duration = Duration::from_secs(120);

    fn start() -> Self {
        let watchdog = Self::default();
        let running = Arc::downgrade(&watchdog.running);
        std::thread::spawn(move || {
            while let Some(running) = running.upgrade() {
                for (seed, since) in running.lock().unwrap().iter() {
                    if since.elapsed() > Self::LIMIT {
                        eprintln!(
                            "seed {seed} does not come to an end; again: ALULA_SIM_SEED={seed} cargo test --test simulation -- --nocapture seeds"
                        );
                        std::process::exit(101);
                    }
                }
                drop(running);
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        watchdog
    }

    fn watch<T>(&self, seed: u64, play: impl FnOnce() -> T) -> T {
        self.running.lock().unwrap().insert(seed, Instant::now());
        let played = play();
        self.running.lock().unwrap().remove(&seed);
        played
    }
}

#[test]
fn a_seed_repeats_itself() {
    let first = number("ALULA_SIM_FIRST").unwrap_or(5_000_000);
    let count = number("ALULA_SIM_SEEDS").unwrap_or(50);
    let mut lines = 0;
    for seed in first..first + count {
        let ((tally, journal), (again, other)) = (scenario::play_noted(seed, false), scenario::play_noted(seed, false));
        if let Some(difference) = journal::difference(&journal, &other) {
            panic!("seed {seed} took another course the second time:\n{difference}");
        }
        assert_eq!(tally, again, "seed {seed}");
        lines += journal.lines().count() as u64;
    }
    assert!(lines > 100 * count, "{lines} lines of {count} seeds: they hardly say anything");
}

#[test]
fn a_log_whose_stream_breaks_just_before_its_end() {
    directed_c::a_log_whose_stream_breaks_just_before_its_end();
}

#[test]
fn a_wish_to_a_server_that_is_made_anew() {
    directed_c::a_wish_to_a_server_that_is_made_anew();
}

#[test]
fn a_crash_after_each_write_and_each_call() {
    exhaustive::every_point();
}

#[test]
fn a_crash_after_each_pair_of_them() {
    exhaustive::every_pair();
}

#[test]
fn a_deletion_that_is_held_back_waits() {
    rest::a_deletion_that_is_held_back();
}
