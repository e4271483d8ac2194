//! How many scans of servers' files run at once. Each keeps a disk busy, and one of the threads that every write of the store needs.
//!
//! Scans for which no start waits have few permits of their own: however long they take, the next start gets one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::tasks::Blocking;

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
    awaited: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    removals: Arc<Semaphore>,
}

impl Default for DiskScans {
    fn default() -> Self {
        let [awaited, watches, removals] = [AWAITED, WATCHES, REMOVALS].map(|count| Arc::new(Semaphore::new(count)));
        Self { awaited, watches, removals }
    }
}

impl DiskScans {
    /// Runs a scan as blocking work. Its argument is set when the caller is dropped, so that a scan without one ends soon.
    /// It holds its permit until it has ended.
    pub async fn run<T: Send + 'static>(
        &self,
        blocking: Blocking,
        scan: DiskScan,
        work: impl FnOnce(&AtomicBool) -> T + Send + 'static,
    ) -> T {
        let permit = self.permit(scan).await;
        let guard = CancelOnDrop::default();
        let cancelled = guard.0.clone();
        let scan = move || {
            let _permit = permit;
            work(&cancelled)
        };
        blocking.run(scan).await
    }

    /// Waits for a permit, which is released when it is dropped.
    pub async fn permit(&self, scan: DiskScan) -> Option<OwnedSemaphorePermit> {
        let permits = match scan {
            DiskScan::Awaited => &self.awaited,
            DiskScan::Watch => &self.watches,
            DiskScan::Removal => &self.removals,
        };
        // The semaphores are never closed.
        permits.clone().acquire_owned().await.ok()
    }
}

/// Sets its flag when it is dropped.
#[derive(Default)]
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
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

    #[tokio::test]
    async fn a_scan_without_a_caller_ends_and_holds_its_permit_until_then() {
        let disk_scans = Arc::new(DiskScans::default());
        let (began, beginning) = std::sync::mpsc::channel();
        let (end, ending) = std::sync::mpsc::channel::<()>();
        let work = move |cancelled: &AtomicBool| {
            began.send(()).unwrap();
            while !cancelled.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            ending.recv().unwrap();
        };
        let scans = disk_scans.clone();
        let scan = tokio::spawn(async move { scans.run(Blocking::Pool, DiskScan::Removal, work).await });
        tokio::task::spawn_blocking(move || beginning.recv()).await.unwrap().unwrap();
        scan.abort();
        assert!(scan.await.unwrap_err().is_cancelled());
        assert_eq!(disk_scans.removals.available_permits(), REMOVALS - 1);
        end.send(()).unwrap();
        let all = disk_scans.removals.acquire_many(REMOVALS as u32).await.unwrap();
        drop(all);
    }
}
