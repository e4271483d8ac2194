//! How far a long operation is, and its cancellation.
//!
//! The operation writes the bytes it has handled; others read them and may cancel it. Clones share both. [`Speed`] is what people want to
//! know of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;

/// The progress of one operation.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    bytes: Arc<Bytes>,
    cancellation: Arc<Cancellation>,
}

/// The same for work that asks, and for work that waits.
#[derive(Debug, Default)]
struct Cancellation {
    flag: AtomicBool,
    token: CancellationToken,
}

#[derive(Debug, Default)]
struct Bytes {
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress {
    /// Nothing done, of an unknown total.
    pub fn new() -> Self {
        Self::default()
    }

    /// The progress of a part whose bytes do not count. It is cancelled with this one.
    pub fn uncounted(&self) -> Self {
        Self { bytes: Arc::default(), cancellation: self.cancellation.clone() }
    }

    /// Sets the number of bytes to handle in all.
    pub fn set_total(&self, bytes: u64) {
        self.bytes.total.store(bytes, Ordering::Relaxed);
    }

    /// Counts bytes as handled.
    pub fn add(&self, bytes: u64) {
        self.bytes.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes handled so far.
    pub fn done(&self) -> u64 {
        self.bytes.done.load(Ordering::Relaxed)
    }

    /// The number of bytes to handle in all, zero while it is unknown.
    pub fn total(&self) -> u64 {
        self.bytes.total.load(Ordering::Relaxed)
    }

    /// The part that is done, from 0 to 1. Zero while the total is unknown.
    pub fn fraction(&self) -> f64 {
        match self.total() {
            0 => 0.0,
            total => (self.done() as f64 / total as f64).min(1.0),
        }
    }

    /// Asks the operation to end early.
    pub fn cancel(&self) {
        self.cancellation.flag.store(true, Ordering::Relaxed);
        self.cancellation.token.cancel();
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.cancellation.flag.load(Ordering::Relaxed)
    }

    /// The flag that [`cancel`](Self::cancel) sets.
    pub fn cancelled(&self) -> &AtomicBool {
        &self.cancellation.flag
    }

    /// The token that [`cancel`](Self::cancel) cancels.
    pub fn token(&self) -> &CancellationToken {
        &self.cancellation.token
    }

    /// Waits until [`cancel`](Self::cancel) is called.
    pub async fn when_cancelled(&self) {
        self.cancellation.token.cancelled().await;
    }
}

/// How fast an operation is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    /// From 0 to 100; `None` while the total is unknown.
    pub percent: Option<u64>,
    /// Bytes per second, since the operation has begun.
    pub rate: u64,
    /// Seconds until the end, at this rate.
    pub left: Option<u64>,
}

impl Speed {
    /// Of so many bytes in so many seconds. A total of zero is unknown.
    pub fn of(done: u64, total: u64, seconds: f64) -> Self {
        let rate = if seconds > 0.0 { (done as f64 / seconds) as u64 } else { 0 };
        let known = (total > 0).then(|| total.max(done));
        Self {
            percent: known.map(|total| ((done as f64 / total as f64) * 100.0) as u64),
            rate,
            left: known.filter(|_| rate > 0).map(|total| (total - done).div_ceil(rate)),
        }
    }
}

/// A number of bytes in the largest unit that leaves at least one, for people.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let unit = (bytes.max(1).ilog2() as usize / 10).min(UNITS.len());
    match unit.checked_sub(1) {
        None => format!("{bytes} B"),
        Some(index) => format!("{:.1} {}", bytes as f64 / 1024_f64.powi(unit as i32), UNITS[index]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_is_what_was_done_and_what_is_left() {
        let speed = |percent, rate, left| Speed { percent, rate, left };
        for (done, total, seconds, expected) in [
            (0, 0, 0.0, speed(None, 0, None)),
            (0, 100, 5.0, speed(Some(0), 0, None)),
            (50, 100, 5.0, speed(Some(50), 10, Some(5))),
            (55, 100, 10.0, speed(Some(55), 5, Some(9))),
            (100, 100, 10.0, speed(Some(100), 10, Some(0))),
            // A file has grown.
            (120, 100, 10.0, speed(Some(100), 12, Some(0))),
            (70, 0, 7.0, speed(None, 10, None)),
            (u64::MAX, u64::MAX, 1.0, speed(Some(100), u64::MAX, Some(0))),
        ] {
            assert_eq!(Speed::of(done, total, seconds), expected, "{done} of {total}");
        }
    }

    #[test]
    fn the_fraction_is_between_zero_and_one() {
        let progress = Progress::new();
        progress.add(5);
        assert_eq!(progress.fraction(), 0.0, "the total is unknown");
        progress.set_total(10);
        assert_eq!(progress.fraction(), 0.5);
        progress.clone().add(50);
        assert_eq!(progress.fraction(), 1.0, "clones share it");
        let part = progress.uncounted();
        part.add(7);
        assert_eq!(progress.done(), 55);
        progress.clone().cancel();
        assert!(progress.is_cancelled() && part.is_cancelled());
    }
}
