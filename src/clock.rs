//! The time of day, of the system or of a simulation.

use crate::model::Timestamp;

/// A clock.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// The clock of the system.
    System,
    /// Follows tokio's clock from a fixed start, so that it can be paused.
    Simulated {
        /// The time at `start`.
        base: Timestamp,
        /// The instant of tokio at the time `base`.
        start: tokio::time::Instant,
    },
}

impl Clock {
    /// The current time.
    pub fn now(&self) -> Timestamp {
        match self {
            Clock::System => Timestamp::from_millis(jiff::Timestamp::now().as_millisecond()),
            Clock::Simulated { base, start } => *base + start.elapsed(),
        }
    }

    /// The instant of tokio at this time.
    pub fn instant(&self, at: Timestamp) -> tokio::time::Instant {
        tokio::time::Instant::now() + at.since(self.now())
    }
}
