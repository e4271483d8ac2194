//! What a running container has used so far.

#![allow(missing_docs)]

use std::io;
use std::time::Duration;

use crate::model::{DiskIo, NetworkTraffic};

/// The counters of a container at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Without the file cache that the kernel may drop.
    pub memory_bytes: u64,
    /// `None` for a container without a limit.
    pub memory_limit_bytes: Option<u64>,
    /// CPU time of all processors together.
    pub cpu: Duration,
    pub network: NetworkTraffic,
    pub disk_io: DiskIo,
}

/// Reads the counters of a container from the kernel. Its methods are a few system calls on files in memory.
pub trait Meter: Send {
    /// Reads the counters, and keeps files open for the next time.
    ///
    /// # Errors
    /// The container has ended, or its files cannot be read. The next call opens them again.
    fn read(&mut self) -> io::Result<Counters>;

    /// Closes what [`Meter::read`] has opened.
    fn close(&mut self);
}
