//! How many scans of servers' files run at once. Each keeps a disk busy, and one of the threads that every write of the store needs.
//!
//! Scans for which no start waits have few permits of their own: however long they take, the next start gets one.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Scans for which a start or an installation waits.
const AWAITED: usize = 8;
/// Counts of running servers' files, each due again after an interval.
const WATCHES: usize = 4;
/// Removals of deleted servers' files, which may take hours.
const REMOVALS: usize = 2;

/// What a scan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskScan {
    /// A start or an installation waits for it.
    Awaited,
    /// It counts the files of a running server.
    Watch,
    /// It removes the files of a deleted server.
    Removal,
}

/// The node's permits for scans.
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
    /// Waits for a permit, which is released when it is dropped.
    pub async fn permit(&self, scan: DiskScan) -> Option<SemaphorePermit<'_>> {
        let permits = match scan {
            DiskScan::Awaited => &self.awaited,
            DiskScan::Watch => &self.watches,
            DiskScan::Removal => &self.removals,
        };
        // The semaphores are never closed.
        permits.acquire().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn scans_in_the_background_hold_up_no_start() {
        let disk_scans = DiskScans::default();
        let mut held = Vec::new();
        for (scan, count) in [(DiskScan::Removal, REMOVALS), (DiskScan::Watch, WATCHES), (DiskScan::Awaited, AWAITED)] {
            for _ in 0..count {
                held.push(disk_scans.permit(scan).now_or_never().expect("a free permit"));
            }
            assert!(disk_scans.permit(scan).now_or_never().is_none(), "{scan:?}: there are no more");
        }
        held.clear();
        assert!(disk_scans.permit(DiskScan::Removal).now_or_never().is_some());
    }
}
