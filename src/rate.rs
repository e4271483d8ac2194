//! A rate that several operations share: each takes the bytes that it is about to move, and waits until they are due.
//!
//! Whoever takes a piece is served in order, so operations that run at the same time get equal shares.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long unused time counts: so many bytes may be moved at once after a pause.
const BURST: Duration = Duration::from_millis(250);

/// Bytes per second for all users of it together.
#[derive(Debug)]
pub struct Rate {
    bytes_per_second: Option<u64>,
    /// When everything that was taken has had its time.
    due: Mutex<Option<Instant>>,
}

impl Rate {
    /// A rate of so many bytes per second; `None` for no limit.
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, due: Mutex::new(None) }
    }

    /// Takes so many bytes, and blocks until they are due.
    pub fn take_blocking(&self, bytes: u64) {
        let wait = self.reserve(bytes, Instant::now());
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
    }

    /// The same, without blocking a thread.
    pub async fn take(&self, bytes: u64) {
        let wait = self.reserve(bytes, Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// How long to wait for these bytes.
    fn reserve(&self, bytes: u64, now: Instant) -> Duration {
        let Some(rate) = self.bytes_per_second.filter(|rate| *rate > 0) else { return Duration::ZERO };
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let begin = due.map_or(earliest, |due| due.max(earliest));
        let end = begin + Duration::from_secs_f64(bytes as f64 / rate as f64);
        *due = Some(end);
        end.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_adds_up_and_a_pause_gives_little_back() {
        let (rate, now) = (Rate::new(Some(1000)), Instant::now());
        let ms = |duration: Duration| (duration.as_secs_f64() * 1000.0).round();
        assert_eq!(ms(rate.reserve(1000, now)), 750.0);
        assert_eq!(ms(rate.reserve(1000, now)), 1750.0);
        assert_eq!(ms(rate.reserve(100, now + Duration::from_secs(1))), 850.0);
        assert_eq!(ms(rate.reserve(1000, now + Duration::from_secs(60))), 750.0);
        assert_eq!(Rate::new(None).reserve(u64::MAX, now), Duration::ZERO);
    }
}
