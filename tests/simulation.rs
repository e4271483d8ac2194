//! The whole controller in a simulated world: a real state folder, the in-memory runtime and panel, paused time, and a
//! seeded plan of everything that goes wrong.
//!
//! A normal run plays 2,000 seeds. More:
//! `ALULA_SIM_SEEDS=1000000 cargo test --release --test simulation -- --nocapture seeds`. One again:
//! `ALULA_SIM_SEED=123 cargo test --test simulation -- --nocapture seeds`. A failing seed prints itself.

#[path = "simulation/crash.rs"]
mod crash;
#[path = "simulation/daemon.rs"]
mod daemon;
#[path = "simulation/exhaustive.rs"]
mod exhaustive;
#[path = "simulation/panel.rs"]
mod panel;
#[path = "simulation/rng.rs"]
mod rng;
#[path = "simulation/scenario.rs"]
mod scenario;

use std::sync::atomic::{AtomicU64, Ordering};

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
    let began = std::time::Instant::now();
    let totals = std::sync::Mutex::new(scenario::Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let tally = scenario::play(seed, false);
                    totals.lock().unwrap().add(&tally);
                }
            });
        }
    });
    println!("{count} seeds in {:.1} s: {}", began.elapsed().as_secs_f64(), totals.lock().unwrap());
}

#[test]
fn a_seed_repeats_itself() {
    for seed in [3, 77, 1234] {
        assert_eq!(scenario::play(seed, false), scenario::play(seed, false), "seed {seed}");
    }
}

#[test]
fn a_crash_after_each_write_and_each_call() {
    exhaustive::every_point();
}

#[test]
fn a_crash_after_each_pair_of_them() {
    exhaustive::every_pair();
}
