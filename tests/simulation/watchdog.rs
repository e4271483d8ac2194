//! Ends the whole program when a run does not end.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

/// Ends the whole program, and names the seed, when a run does not end: paused time does not advance while a daemon reconciles a
/// server again and again without waiting.
struct Watchdog {
    running: Mutex<BTreeMap<u64, Instant>>,
}

/// A seed takes a tenth of a second where nothing else runs.
const LIMIT: Duration = Duration::from_secs(120);

static WATCHDOG: LazyLock<Watchdog> = LazyLock::new(|| {
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            for (seed, since) in WATCHDOG.running.lock().unwrap().iter() {
                if since.elapsed() > LIMIT {
                    eprintln!(
                        "seed {seed} does not end; repeat it with: ALULA_SIM_SEED={seed} cargo test --test simulation -- --nocapture seeds"
                    );
                    std::process::exit(101);
                }
            }
        }
    });
    Watchdog { running: Mutex::default() }
});

/// Plays a seed, which ends the program if it takes longer than [`LIMIT`].
pub fn watch<T>(seed: u64, play: impl FnOnce() -> T) -> T {
    WATCHDOG.running.lock().unwrap().insert(seed, Instant::now());
    let played = play();
    WATCHDOG.running.lock().unwrap().remove(&seed);
    played
}
