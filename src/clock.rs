//! The time of day, real or simulated.

use crate::model::Timestamp;

/// Tells the time.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// The machine's.
    System,
    /// Follows tokio's clock from a fixed beginning: with paused time it is a simulation's.
    Simulated {
        /// What the time was at `start`.
        base: Timestamp,
        /// Tokio's instant at that time.
        start: tokio::time::Instant,
    },
}

impl Clock {
    /// Now.
    pub fn now(&self) -> Timestamp {
        match self {
            Clock::System => {
                let since = std::time::SystemTime::now()
                    .duration_since(std::time::UNIX_EPOCH)
                    .unwrap_or(std::time::Duration::ZERO);
                Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
            Clock::Simulated { base, start } => *base + start.elapsed(),
        }
    }

    /// Tokio's instant at a time of day.
    pub fn instant(&self, at: Timestamp) -> tokio::time::Instant {
        tokio::time::Instant::now() + at.since(self.now())
    }
}
