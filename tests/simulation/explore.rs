//! Plays many seeds on all cores, and continues after one that fails.
//!
//! | variable | meaning |
//! |---|---|
//! | `ALULA_SIM_SEED` | play this seed alone, with the daemon's log |
//! | `ALULA_SIM_KEEP` | of that seed, keep only these events: names separated by commas |
//! | `ALULA_SIM_FIRST` | the first seed, 0 |
//! | `ALULA_SIM_SEEDS` | how many, 2000 |
//! | `ALULA_SIM_MINUTES` | play seeds for this many minutes instead |

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::plan::Plan;
use crate::scenario::{Run, Tally};
use crate::shrink::{Failure, quietly, shrink};

/// Failures that are shrunk; more are usually one fault.
const MAX_SHRUNK: usize = 20;
/// Minimum percentage of servers that end with a definite expectation; the others prove little.
const CERTAIN: u64 = 60;

pub fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

pub fn seeds() {
    if let Some(seed) = number("ALULA_SIM_SEED") {
        return one(seed);
    }
    let first = number("ALULA_SIM_FIRST").unwrap_or(0);
    let minutes = number("ALULA_SIM_MINUTES");
    let count = number("ALULA_SIM_SEEDS").filter(|_| minutes.is_none());
    let end = first + minutes.map_or(count.unwrap_or(2000), |_| u64::MAX - first);
    let until = minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let began = Instant::now();
    let (next, actions) = (AtomicU64::new(first), AtomicU64::new(0));
    let (total, failed) = (Mutex::new(Tally::default()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while until.is_none_or(|until| Instant::now() < until) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    match quietly(&Plan::new(seed)) {
                        Ok(Run { tally, .. }) => total.lock().unwrap().add(&tally),
                        Err(failure) => report(failure, &failed),
                    }
                    let minute = began.elapsed().as_secs() / 60;
                    if minutes.is_some() && actions.fetch_max(minute, Ordering::Relaxed) < minute {
                        let failed = failed.lock().unwrap().len();
                        eprintln!("{minute} min: {} seeds, {failed} failed", next.load(Ordering::Relaxed) - first);
                    }
                }
            });
        }
    });
    let (total, failed) = (total.into_inner().unwrap(), failed.into_inner().unwrap());
    println!("seeds from {first} in {:.1} s: {total}", began.elapsed().as_secs_f64());
    assert!(failed.is_empty(), "{} seeds failed: {failed:?}", failed.len());
    let certain = total.certain * 100 / total.servers.max(1);
    assert!(
        total.servers < 500 || certain >= CERTAIN,
        "only {certain} % of the servers end with a certain expectation"
    );
}

fn one(seed: u64) {
    let kept = std::env::var("ALULA_SIM_KEEP").ok();
    let plan = match kept {
        None => Plan::new(seed),
        Some(kept) => Plan::only(seed, kept.split(',').map(str::to_owned).collect()),
    };
    match crate::scenario::try_play(&plan, true) {
        Ok(run) => println!("{}", run.tally),
        Err(failure) => panic!("{failure}"),
    }
}

fn report(failure: Failure, failed: &Mutex<Vec<u64>>) {
    let earlier = {
        let mut failed = failed.lock().unwrap();
        failed.push(failure.seed);
        failed.len() - 1
    };
    eprintln!("{}\n", if earlier < MAX_SHRUNK { shrink(failure) } else { failure });
}
