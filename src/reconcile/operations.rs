//! Backups, restores and transfers that run now: how far each is, and its cancellation. What they are for and what came of them is in
//! the record; this is what a listing shows besides.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::file_locks::FileLocks;
use super::job::Subject;
use crate::clock::Clock;
use crate::config::NodeConfig;
use crate::model::ServerId;
use crate::pressure::{IoPressure, Yielding};
use crate::progress::Progress;
use crate::rate::Rate;
use crate::tasks::Blocking;
use crate::transfer::Transfers;
use crate::upload::Uploads;

/// The operations of the node.
#[derive(Debug)]
pub struct RunningOperations {
    running: Arc<Mutex<BTreeMap<(ServerId, Subject), Running>>>,
    /// Permits to make backups, given in the order in which they are asked for.
    backups: Semaphore,
    backup_rate: Rate,
    uploads: Uploads,
    files: FileLocks,
    pressure: IoPressure,
    download_rate: Arc<Rate>,
    upload_rate: Arc<Rate>,
    transfers: Transfers,
}

#[derive(Debug, Clone)]
struct Running {
    progress: Progress,
    began: Instant,
}

/// An operation that runs. It is listed until it is dropped, and cancelled by that.
#[derive(Debug)]
pub struct RunningOperation {
    running: Arc<Mutex<BTreeMap<(ServerId, Subject), Running>>>,
    key: (ServerId, Subject),
    progress: Progress,
}

/// One line of a listing.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct OperationProgress {
    pub server: ServerId,
    pub subject: Subject,
    /// Bytes.
    pub done: u64,
    /// Bytes; zero while it is unknown.
    pub total: u64,
    pub seconds: f64,
}

impl RunningOperations {
    /// With the limits of the node's configuration. `ignore_certificate_errors`: as for the panel.
    pub fn new(node: &NodeConfig, clock: Clock, blocking: Blocking, ignore_certificate_errors: bool) -> Self {
        let rate = Arc::new(Rate::new(node.backups.upload_limit));
        Self {
            running: Arc::default(),
            backups: Semaphore::new(node.backups.concurrent.max(1)),
            backup_rate: Rate::new(node.backups.write_limit),
            download_rate: Arc::new(Rate::new(node.transfer_limits.download)),
            upload_rate: Arc::new(Rate::new(node.transfer_limits.upload)),
            transfers: Transfers::new(ignore_certificate_errors),
            uploads: Uploads::new(clock, blocking, rate, ignore_certificate_errors),
            files: FileLocks::default(),
            pressure: IoPressure::default(),
        }
    }

    /// What a backup or restore calls with the bytes that it is about to move: keeps the rate that they share, and gives way to programs
    /// that wait for disks. Blocks.
    pub fn pace(&self) -> impl Fn(u64) + Sync + '_ {
        let yielding = Yielding::new(&self.pressure);
        move |bytes| {
            self.backup_rate.take_blocking(bytes);
            yielding.pause();
        }
    }

    /// Uploads to object stores.
    pub fn uploads(&self) -> &Uploads {
        &self.uploads
    }

    /// Which jobs use the files of a server.
    pub fn files(&self) -> &FileLocks {
        &self.files
    }

    /// The rate at which servers are received.
    pub fn download_rate(&self) -> &Arc<Rate> {
        &self.download_rate
    }

    /// The rate at which servers are sent.
    pub fn upload_rate(&self) -> &Arc<Rate> {
        &self.upload_rate
    }

    /// Transfers to other nodes.
    pub fn transfers(&self) -> &Transfers {
        &self.transfers
    }

    /// Waits for a permit to make a backup.
    pub async fn permit_backup(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.backups.acquire().await.ok()
    }

    /// Lists an operation as running.
    pub fn begin(&self, server: ServerId, subject: &Subject) -> RunningOperation {
        let (key, progress) = ((server, subject.clone()), Progress::new());
        lock(&self.running).insert(key.clone(), Running { progress: progress.clone(), began: Instant::now() });
        RunningOperation { running: self.running.clone(), key, progress }
    }

    /// Whether an operation runs.
    pub fn is_running(&self, server: ServerId, subject: &Subject) -> bool {
        lock(&self.running).contains_key(&(server, subject.clone()))
    }

    /// The operations that run now.
    pub fn list(&self) -> Vec<OperationProgress> {
        let running = lock(&self.running);
        let line = |((server, subject), running): (&(ServerId, Subject), &Running)| OperationProgress {
            server: *server,
            subject: subject.clone(),
            done: running.progress.done(),
            total: running.progress.total(),
            seconds: running.began.elapsed().as_secs_f64(),
        };
        running.iter().map(line).collect()
    }
}

impl RunningOperation {
    /// How far it is, and its cancellation.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }
}

impl Drop for RunningOperation {
    fn drop(&mut self) {
        // Blocking work whose task was dropped ends soon.
        self.progress.cancel();
        lock(&self.running).remove(&self.key);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
