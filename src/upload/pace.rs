//! A limit of bytes per second that several transfers share in the order in which they ask.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A shared limit. Each caller waits until the bytes of those before it have had their time.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: Option<u64>,
    /// When the next bytes may go.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    /// A limit in bytes per second; `None` for no limit.
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second: bytes_per_second.filter(|rate| *rate > 0), next: Mutex::default() }
    }

    /// Waits until this many bytes may go. The bytes count even where the caller stops waiting.
    pub async fn take(&self, bytes: usize) {
        let Some(rate) = self.bytes_per_second else { return };
        let at = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let at = next.map_or(now, |next| next.max(now));
            *next = Some(at + Duration::from_secs_f64(bytes as f64 / rate as f64));
            at
        };
        tokio::time::sleep_until(at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_shared() {
        let pace = Pace::new(Some(1000));
        let began = Instant::now();
        let one = async {
            for _ in 0..10 {
                pace.take(100).await;
            }
            began.elapsed()
        };
        let other = async {
            for _ in 0..10 {
                pace.take(100).await;
            }
            began.elapsed()
        };
        let (one, other) = tokio::join!(one, other);
        assert!(one.max(other) >= Duration::from_millis(1900), "{one:?} {other:?}");
        assert!(one.max(other) < Duration::from_millis(1990), "{one:?} {other:?}");
        // What was not used is not saved up.
        tokio::time::sleep(Duration::from_secs(60)).await;
        let began = Instant::now();
        pace.take(500).await;
        pace.take(500).await;
        assert!(began.elapsed() >= Duration::from_millis(500));
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit_never_waits() {
        let began = Instant::now();
        Pace::new(None).take(usize::MAX).await;
        Pace::new(Some(0)).take(usize::MAX).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
