//! A limit of bytes per second that several operations share, in the order in which they ask: those that run at the same time get equal
//! shares.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A shared limit. Each user takes the bytes that it is about to move, and waits until those before it have had their time.
#[derive(Debug)]
pub struct Rate {
    bytes_per_second: Option<u64>,
    /// When the next bytes may go.
    next: Mutex<Option<Instant>>,
}

impl Rate {
    /// A limit in bytes per second; `None` for no limit.
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second: bytes_per_second.filter(|rate| *rate > 0), next: Mutex::default() }
    }

    /// Waits until this many bytes may go. The bytes count even where the caller stops waiting.
    pub async fn take(&self, bytes: u64) {
        if let Some(at) = self.reserve(bytes) {
            tokio::time::sleep_until(at).await;
        }
    }

    /// The same for a thread that may block.
    #[expect(clippy::disallowed_methods, reason = "the work has this thread for itself, and nothing signals its turn")]
    pub fn take_blocking(&self, bytes: u64) {
        if let Some(at) = self.reserve(bytes) {
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
        }
    }

    /// When these bytes may go; `None` for at once.
    fn reserve(&self, bytes: u64) -> Option<Instant> {
        let rate = self.bytes_per_second?;
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let at = next.map_or(now, |next| next.max(now));
        *next = Some(at + Duration::from_secs_f64(bytes as f64 / rate as f64));
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_shared() {
        let rate = Rate::new(Some(1000));
        let began = Instant::now();
        let one = async {
            for _ in 0..10 {
                rate.take(100).await;
            }
            began.elapsed()
        };
        let other = async {
            for _ in 0..10 {
                rate.take(100).await;
            }
            began.elapsed()
        };
        let (one, other) = tokio::join!(one, other);
        assert!(one.max(other) >= Duration::from_millis(1900), "{one:?} {other:?}");
        assert!(one.max(other) < Duration::from_millis(1990), "{one:?} {other:?}");
        // What was not used is not saved up.
        tokio::time::sleep(Duration::from_secs(60)).await;
        let began = Instant::now();
        rate.take(500).await;
        rate.take(500).await;
        assert!(began.elapsed() >= Duration::from_millis(500));
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit_never_waits() {
        let began = Instant::now();
        Rate::new(None).take(u64::MAX).await;
        Rate::new(Some(0)).take(u64::MAX).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
