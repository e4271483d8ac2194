//! How far a long operation is, and its cancellation.
//!
//! The operation writes the bytes it has handled; others read them and may cancel it. Clones share both.

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

#[cfg(test)]
mod tests {
    use super::*;

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
