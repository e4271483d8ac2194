//! Delays between attempts. The only module that uses the crate `backoff`.
//!
//! A delay is a function of a policy, the number of consecutive failures and a source of jitter. The jitter has a seed, so that
//! simulations are deterministic.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backoff::ExponentialBackoffBuilder;
use backoff::backoff::Backoff;

/// How delays grow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Growth {
    /// After the first failure.
    pub initial: Duration,
    /// Each further failure multiplies by this.
    pub factor: f64,
    /// Never longer than this.
    pub cap: Duration,
}

/// Failed steps: the engine is unreachable, a disk is busy.
pub const STEP: Growth = Growth { initial: Duration::from_millis(500), factor: 2.0, cap: Duration::from_secs(60) };
/// Connections to the engine.
pub const ENGINE: Growth = Growth { initial: Duration::from_millis(500), factor: 2.0, cap: Duration::from_secs(3) };
/// Requests to the panel.
pub const PANEL: Growth = Growth { initial: Duration::from_millis(500), factor: 1.5, cap: Duration::from_secs(12) };
/// Requests with an invalid response of the panel.
pub const INVALID_RESPONSE: Growth =
    Growth { initial: Duration::from_secs(2), factor: 2.0, cap: Duration::from_secs(60) };
/// Lists of servers that the panel rejects: a person has to fix it.
pub const REJECTED: Growth = Growth { initial: Duration::from_secs(120), factor: 1.5, cap: Duration::from_secs(300) };
/// Lists of servers while some are parked: the panel may lack them for a moment, or for ever.
pub const PARKED: Growth = Growth { initial: Duration::from_secs(30), factor: 2.0, cap: Duration::from_secs(600) };
/// Batches of activity.
pub const ACTIVITY: Growth = Growth { initial: Duration::from_secs(1), factor: 2.0, cap: Duration::from_secs(60) };
/// Orders of a certificate: authorities limit failures to five an hour.
pub const ACME: Growth = Growth { initial: Duration::from_secs(300), factor: 2.0, cap: Duration::from_secs(6 * 3600) };
/// Parts of an upload, and broken downloads of backups.
pub const STORE: Growth = Growth { initial: Duration::from_millis(500), factor: 2.0, cap: Duration::from_secs(30) };
/// Image pulls.
pub const IMAGE: Growth = Growth { initial: Duration::from_millis(500), factor: 3.0, cap: Duration::from_secs(300) };
/// Long blocking work.
pub const FILES: Growth = Growth { initial: Duration::from_secs(1), factor: 2.0, cap: Duration::from_secs(300) };

/// The range of the jitter: a delay is multiplied by 1-SPREAD to 1+SPREAD.
const SPREAD: f64 = 0.25;
/// Every policy reaches its cap in fewer steps.
const MAX_STEPS: u32 = 40;

/// A source of jitter.
#[derive(Debug)]
pub struct Jitter(AtomicU64);

impl Jitter {
    /// A deterministic source.
    pub fn seeded(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// A source with a random seed.
    pub fn random() -> Self {
        Self::seeded(uuid::Uuid::new_v4().as_u64_pair().0)
    }

    /// A number in 0..1 (SplitMix64).
    fn unit(&self) -> f64 {
        let state = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed).wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The delay after this number of consecutive failures, counted from one.
pub fn delay(growth: Growth, failures: u32, jitter: &Jitter) -> Duration {
    let mut exponential = ExponentialBackoffBuilder::new()
        .with_initial_interval(growth.initial)
        .with_multiplier(growth.factor)
        .with_max_interval(growth.cap)
        .with_randomization_factor(0.0)
        .with_max_elapsed_time(None)
        .build();
    let mut delay = growth.initial;
    for _ in 0..failures.clamp(1, MAX_STEPS) {
        delay = exponential.next_backoff().unwrap_or(growth.cap);
    }
    delay.mul_f64(1.0 + SPREAD * (2.0 * jitter.unit() - 1.0)).min(growth.cap)
}

/// Repeats `attempt` until it succeeds, fails with a final error, or `total` has passed. At that time a running attempt is dropped.
/// `pause` returns the least pause after an error; `None` if the error is final.
///
/// # Errors
/// The error of the last attempt, or `None` if no attempt ended in time.
pub async fn within<T, E, F>(
    total: Duration,
    growth: Growth,
    jitter: &Jitter,
    pause: impl Fn(&E) -> Option<Duration>,
    mut attempt: impl FnMut() -> F,
) -> Result<T, Option<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let deadline = tokio::time::Instant::now() + total;
    let mut last = None;
    let mut failures = 0;
    loop {
        let least = match tokio::time::timeout_at(deadline, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => {
                let Some(least) = pause(&error) else { return Err(Some(error)) };
                last = Some(error);
                least
            }
            Err(_) => return Err(last),
        };
        failures += 1;
        let pause = delay(growth, failures, jitter).max(least);
        if tokio::time::Instant::now() + pause >= deadline {
            return Err(last);
        }
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_cap_and_depend_on_the_seed() {
        let delays = |seed| {
            let jitter = Jitter::seeded(seed);
            (1..20).map(|failures| delay(PANEL, failures, &jitter)).collect::<Vec<_>>()
        };
        assert_eq!(delays(7), delays(7));
        assert_ne!(delays(7), delays(8));
        let all = delays(7);
        assert!(all[0] >= PANEL.initial.mul_f64(0.75) && all[0] <= PANEL.initial.mul_f64(1.25), "{all:?}");
        assert!(all.iter().all(|delay| *delay <= PANEL.cap));
        assert!(all[18] >= PANEL.cap.mul_f64(0.74), "{all:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn retries_end_at_the_deadline() {
        let mut attempts = 0;
        let started = tokio::time::Instant::now();
        let result: Result<(), _> = within(
            Duration::from_secs(8),
            PANEL,
            &Jitter::seeded(1),
            |_: &u8| Some(Duration::ZERO),
            || {
                attempts += 1;
                async { Err(1) }
            },
        )
        .await;
        assert_eq!(result, Err(Some(1)));
        assert!(attempts > 3);
        assert!(started.elapsed() <= Duration::from_secs(8));
    }

    #[tokio::test(start_paused = true)]
    async fn a_final_error_ends_the_retries() {
        let result: Result<(), _> = within(
            Duration::from_secs(8),
            PANEL,
            &Jitter::seeded(1),
            |error| (*error != 4).then_some(Duration::ZERO),
            || async { Err(4) },
        )
        .await;
        assert_eq!(result, Err(Some(4)));
    }
}
