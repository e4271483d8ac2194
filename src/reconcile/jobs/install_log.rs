//! The installer's output on its way into the log: followed while it runs, read on from where the file ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;

use super::JobError;
use crate::files::FilesError;
use crate::files::install_log::InstallLog;
use crate::model::ServerId;
use crate::reconcile::world::World;
use crate::retry;
use crate::runtime::{LogPart, RuntimeError};

/// Reading what is left of a finished installer's output takes no longer than this.
const CLOSE_LIMIT: Duration = Duration::from_secs(20);

/// Follows a running installer.
pub(super) async fn follow(world: &World, id: ServerId, container: &str) -> Result<(), JobError> {
    copy(world, id, container, LogPart::Follow).await.map_err(|error| JobError::new(retry::STEP, error))
}

/// Brings the log of a finished installer to its end.
///
/// # Errors
/// What stood in the way, for people.
pub async fn close(world: &World, id: ServerId, container: &str) -> Result<(), String> {
    // The follower is reading the same bytes into the same file; only one may.
    world.with_live(id, |live| {
        if let Some(job) = live.jobs.remove(&super::JobKind::InstallLog)
            && let Some(task) = job.task
        {
            task.abort();
        }
    });
    match tokio::time::timeout(CLOSE_LIMIT, copy(world, id, container, LogPart::All)).await {
        Ok(result) => result,
        Err(_) => {
            Err(format!("reading the rest of the install log took longer than {} seconds", CLOSE_LIMIT.as_secs()))
        }
    }
}

async fn copy(world: &World, id: ServerId, container: &str, part: LogPart) -> Result<(), String> {
    let layout = world.layout.clone();
    let blocking = world.store.blocking();
    let log = blocking.run(move || InstallLog::open(&layout, id)).await.map_err(|error| error.to_string())?;
    let mut skip = log.written();
    let log = Arc::new(Mutex::new(log));
    let mut output = match world.runtime.logs(container, part).await {
        Ok(output) => output,
        Err(RuntimeError::NotFound { .. }) => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    while let Some(chunk) = output.next().await {
        let mut chunk = chunk.map_err(|error| error.to_string())?;
        let skipped = skip.min(chunk.len() as u64);
        skip -= skipped;
        bytes::Buf::advance(&mut chunk, usize::try_from(skipped).unwrap_or(usize::MAX));
        if chunk.is_empty() {
            continue;
        }
        let log = log.clone();
        let appended: Result<(), FilesError> =
            blocking.run(move || log.lock().unwrap_or_else(PoisonError::into_inner).append(&chunk)).await;
        appended.map_err(|error| error.to_string())?;
    }
    // The container goes soon, and with it the only other copy of what it printed.
    let finish = move || match Arc::try_unwrap(log) {
        Ok(log) => log.into_inner().unwrap_or_else(PoisonError::into_inner).finish(),
        Err(_) => Ok(()),
    };
    blocking.run(finish).await.map_err(|error| error.to_string())
}
