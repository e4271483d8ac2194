//! The readings of one running container.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::ContainerStatus;
use crate::runtime::{Counters, Meter, Runtime};

/// A reading is shared by those who ask within this time.
pub(super) const SHARED: Duration = Duration::from_millis(250);
/// The shortest time over which the CPU's load is computed.
pub(super) const BASELINE: Duration = Duration::from_millis(100);
/// An older reading says nothing about the load now.
pub(super) const RECENT: Duration = Duration::from_secs(60);

/// The readings of a container.
pub(super) struct Gauge {
    pub(super) container: ContainerStatus,
    readings: Mutex<Readings>,
}

#[derive(Default)]
struct Readings {
    source: Source,
    latest: Option<Reading>,
}

/// Where the counters come from.
#[derive(Default)]
enum Source {
    #[default]
    Unknown,
    Kernel(Box<dyn Meter>),
    Engine,
}

/// One reading.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    at: Instant,
    pub(super) counters: Counters,
    /// Percent of one processor since the reading before; `None` without a recent one.
    pub(super) load: Option<f64>,
}

impl Gauge {
    /// No reading yet.
    pub(super) fn new(container: ContainerStatus) -> Self {
        Self { container, readings: Mutex::default() }
    }

    /// Whether this is the same run of the same container.
    pub(super) fn is_of(&self, container: &ContainerStatus) -> bool {
        let run = |one: &ContainerStatus| (one.started_at, one.process);
        self.container.id == container.id && run(&self.container) == run(container)
    }

    /// The latest reading.
    pub(super) fn latest(&self) -> Option<Reading> {
        self.readings().latest
    }

    /// Whether the next reading has no earlier one to compute the load from.
    pub(super) fn is_cold(&self, now: Instant) -> bool {
        self.latest().is_none_or(|latest| now.saturating_duration_since(latest.at) > RECENT)
    }

    /// When a reading has a load, if another one is needed for it.
    pub(super) fn ready_at(&self) -> Option<Instant> {
        let readings = self.readings();
        let latest = readings.latest.filter(|latest| latest.load.is_none())?;
        matches!(readings.source, Source::Kernel(_)).then_some(latest.at + BASELINE)
    }

    /// Whether the latest reading is too old to be shared, and another one would have a load.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.latest().is_none_or(|latest| latest.is_outdated(now))
    }

    /// Whether the engine has to be asked.
    pub(super) fn is_of_engine(&self) -> bool {
        matches!(self.readings().source, Source::Engine)
    }

    /// Reads the kernel's counters if a reading is due. Where they are not visible, the engine has to be asked.
    pub(super) fn read(&self, runtime: &dyn Runtime, keep_open: bool) {
        let mut readings = self.readings();
        if let Source::Unknown = readings.source {
            let meter = runtime.meter(&self.container);
            readings.source = meter.map_or(Source::Engine, Source::Kernel);
        }
        let now = Instant::now();
        // Another caller may have read meanwhile.
        let due = readings.latest.is_none_or(|latest| latest.is_outdated(now));
        let Source::Kernel(meter) = &mut readings.source else { return };
        let counters = due.then(|| meter.read());
        if !keep_open {
            meter.close();
        }
        match counters {
            None => {}
            Some(Ok(counters)) => readings.add(now, counters),
            Some(Err(error)) => {
                // The container has ended, which a pass observes in a moment.
                tracing::debug!(container = self.container.id, %error, "cannot read the counters of a container");
                *readings = Readings::default();
            }
        }
    }

    /// Adds what the engine has answered.
    pub(super) fn add(&self, counters: Counters) {
        self.readings().add(Instant::now(), counters);
    }

    /// Closes the files of the kernel's counters.
    pub(super) fn close(&self) {
        if let Source::Kernel(meter) = &mut self.readings().source {
            meter.close();
        }
    }

    fn readings(&self) -> MutexGuard<'_, Readings> {
        self.readings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Readings {
    fn add(&mut self, at: Instant, counters: Counters) {
        let load = self.latest.and_then(|before| before.load_until(at, &counters));
        self.latest = Some(Reading { at, counters, load });
    }
}

impl Reading {
    fn is_outdated(&self, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.at);
        age >= if self.load.is_some() { SHARED } else { BASELINE }
    }

    /// The load since this reading, with three decimals.
    fn load_until(&self, at: Instant, counters: &Counters) -> Option<f64> {
        let elapsed = at.checked_duration_since(self.at).filter(|elapsed| !elapsed.is_zero() && *elapsed <= RECENT)?;
        let used = counters.cpu.saturating_sub(self.counters.cpu);
        let percent = used.as_secs_f64() / elapsed.as_secs_f64() * 100.0;
        Some((percent * 1000.0).round() / 1000.0)
    }
}
