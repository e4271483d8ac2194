//! The time of day, of the system or of a simulation.

use std::time::Duration;

use tokio::time::Instant;

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
        start: Instant,
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

    /// The current time on both scales.
    pub fn moment(&self) -> Moment {
        Moment { time: self.now(), instant: Instant::now() }
    }
}

/// One moment on both scales: the time of day, which may be set back or forward at any time, and the instant, which no change of the
/// system's clock moves. What only this process needs (delays, deadlines) is an instant. What is on disk or comes from the engine is a
/// time of day.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The time of day.
    pub time: Timestamp,
    /// The instant.
    pub instant: Instant,
}

impl Moment {
    /// The instant at a time that has been. A time that is still to come has passed just now: the clock was set back since.
    pub fn instant_of(&self, past: Timestamp) -> Instant {
        self.instant.checked_sub(self.time.since(past)).unwrap_or(self.instant)
    }

    /// The instant at a time that is to come.
    pub fn instant_until(&self, to_come: Timestamp) -> Instant {
        self.instant + to_come.since(self.time).min(MAX_WAIT)
    }

    /// The time of day at an instant that is to come.
    pub fn time_at(&self, to_come: Instant) -> Timestamp {
        self.time + to_come.saturating_duration_since(self.instant)
    }
}

/// An instant cannot be as far away as a time of day.
const MAX_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_converts_between_the_scales() {
        let moment = Moment { time: Timestamp::from_millis(1_000_000), instant: Instant::now() };
        let (earlier, later) = (Timestamp::from_millis(990_000), Timestamp::from_millis(1_010_000));
        let seconds = Duration::from_secs(10);
        assert_eq!(moment.instant_of(earlier), moment.instant - seconds);
        assert_eq!(moment.instant_of(later), moment.instant, "the clock was set back");
        assert_eq!(moment.instant_until(later), moment.instant + seconds);
        assert_eq!(moment.instant_until(earlier), moment.instant);
        assert_eq!(moment.time_at(moment.instant + seconds), later);
        assert!(moment.instant_until(Timestamp::from_millis(i64::MAX)) > moment.instant);
    }
}
