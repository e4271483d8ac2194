//! How many walks over servers' files run at once: each keeps a disk busy, and one of the threads that every write of the
//! store needs.
//!
//! Those that nobody waits for have few places and their own: however long they take, the next start finds one free.

use tokio::sync::{Semaphore, SemaphorePermit};

/// What a start or an installation waits for.
const AWAITED: usize = 8;
/// Counts of running servers' files, each due again after an interval.
const WATCHES: usize = 4;
/// Removals of deleted servers' files, which may take hours.
const REMOVALS: usize = 2;

/// What a walk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskScan {
    /// A start or an installation waits for it.
    Awaited,
    /// A count of a running server's files.
    Watch,
    /// A removal.
    Removal,
}

/// The node's places for walks.
pub struct DiskScans {
    awaited: Semaphore,
    watches: Semaphore,
    removals: Semaphore,
}

impl Default for DiskScans {
    fn default() -> Self {
        Self { awaited: Semaphore::new(AWAITED), watches: Semaphore::new(WATCHES), removals: Semaphore::new(REMOVALS) }
    }
}

impl DiskScans {
    /// Waits for a place; it is free again when what is returned is dropped.
    pub async fn permit(&self, scan: DiskScan) -> Option<SemaphorePermit<'_>> {
        let places = match scan {
            DiskScan::Awaited => &self.awaited,
            DiskScan::Watch => &self.watches,
            DiskScan::Removal => &self.removals,
        };
        // The places are never closed.
        places.acquire().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn scans_that_nobody_waits_for_hold_up_no_start() {
        let disk_scans = DiskScans::default();
        let mut permits = Vec::new();
        for (scan, places) in [(DiskScan::Removal, REMOVALS), (DiskScan::Watch, WATCHES), (DiskScan::Awaited, AWAITED)]
        {
            for _ in 0..places {
                permits.push(disk_scans.permit(scan).now_or_never().expect("a free place"));
            }
            assert!(disk_scans.permit(scan).now_or_never().is_none(), "{scan:?}: there are no more");
        }
        permits.clear();
        assert!(disk_scans.permit(DiskScan::Removal).now_or_never().is_some());
    }
}
