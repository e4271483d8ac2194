//! The counters of the fake engine's containers. They follow from the program and the time since the start.

use std::io;

use super::engine::FakeEngine;
use crate::runtime::{Counters, Meter};

/// Reads the counters of a container without a call of the engine, as from the kernel of its machine.
pub(super) struct FakeMeter {
    engine: FakeEngine,
    container: String,
    /// The run of the container: a later one has other control groups.
    run: u32,
}

impl FakeMeter {
    /// `None` if the engine runs on another machine than the daemon.
    pub(super) fn of(engine: &FakeEngine, container: &str) -> Option<Box<dyn Meter>> {
        let run = engine.with(|state| {
            let found = state.find(container).filter(|found| found.running())?;
            (!state.remote).then_some(found.run)
        })?;
        Some(Box::new(Self { engine: engine.clone(), container: container.to_owned(), run }))
    }
}

impl Meter for FakeMeter {
    fn read(&mut self) -> io::Result<Counters> {
        let read = self.engine.with(|state| {
            state.meter_reads += 1;
            let found = state.find(&self.container).filter(|found| found.run == self.run)?;
            found.counters(state.now)
        });
        read.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn close(&mut self) {}
}
