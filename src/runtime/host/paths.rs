//! Where paths lead that may be on a file system which does not answer: a network mount whose server is gone, a FUSE mount
//! whose program hangs. A caller waits for [`MOUNT_PATHS`](crate::wait::MOUNT_PATHS) and gets an error that names the path.
//!
//! A thread that hangs there cannot be ended. So each path is followed by a thread of its own, one at most, and while
//! that one hangs further callers get the error at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::follow::{self, MountInfo, MountSource};
use super::in_flight::InFlight;
use crate::runtime::{ErrorKind, RuntimeError};
use crate::tasks::Blocking;

/// Follows a path to its end, for as long as its file system takes.
pub type Follow = Arc<dyn Fn(&Path) -> MountSource + Send + Sync>;

fn unresponsive(path: &Path) -> RuntimeError {
    let path = path.display();
    let message = format!(
        "{path} does not answer: repair or unmount the file system that it is on, or take it out of the server's mounts \
         if it is one of them"
    );
    RuntimeError::with_message(ErrorKind::VolumeUnresponsive, message)
}

/// Follows paths.
pub struct Paths {
    blocking: Blocking,
    follow: Follow,
    timeout: Duration,
    /// By path.
    asked: InFlight<MountSource>,
}

impl Paths {
    /// Asks the host's file systems.
    pub fn new(blocking: Blocking) -> Self {
        Self::with(blocking, Arc::new(follow::follow), crate::wait::MOUNT_PATHS)
    }

    /// With another way to follow paths and another limit.
    pub fn with(blocking: Blocking, follow: Follow, timeout: Duration) -> Self {
        Self { blocking, follow, timeout, asked: InFlight::default() }
    }

    /// Where the sources of mounts lead, and those allowed folders that say something about them.
    ///
    /// # Errors
    /// One of these paths does not answer.
    pub async fn of_mounts(&self, sources: &[&str], allowed: &[PathBuf]) -> Result<MountInfo, RuntimeError> {
        let until = Instant::now() + self.timeout;
        let mut info = MountInfo::default();
        for source in sources {
            let found = match follow::source_path(source) {
                Ok(path) => self.ask(&path, until).await?,
                Err(unusable) => unusable,
            };
            info.sources.insert((*source).to_owned(), found);
        }
        // One that is not above a source, as it is written, may hang without being of any concern.
        let (above, others): (Vec<_>, Vec<_>) =
            allowed.iter().filter(|path| path.is_absolute()).partition(|allowed| follow::is_above(allowed, sources));
        for path in above {
            let found = self.ask(path, until).await?;
            info.allow(path, found);
        }
        for path in others {
            if info.all_allowed() {
                break;
            }
            // It may be another way to a source, through a link.
            let found = self.ask(path, until).await.unwrap_or(MountSource::Missing);
            info.allow(path, found);
        }
        Ok(info)
    }

    /// What this work, which is about a path, finds out.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn find(
        &self,
        path: &Path,
        work: impl FnOnce() -> MountSource + Send + 'static,
    ) -> Result<MountSource, RuntimeError> {
        self.wait(path, Instant::now() + self.timeout, work).await
    }

    async fn ask(&self, path: &Path, until: Instant) -> Result<MountSource, RuntimeError> {
        let (follow, asked) = (self.follow.clone(), path.to_owned());
        self.wait(path, until, move || follow(&asked)).await
    }

    async fn wait(
        &self,
        path: &Path,
        until: Instant,
        work: impl FnOnce() -> MountSource + Send + 'static,
    ) -> Result<MountSource, RuntimeError> {
        let question = self.asked.join(&path.to_string_lossy(), |found| {
            // Without a thread the sender is dropped, and there is no answer.
            let _ = self.blocking.run_detached("path", move || drop(found.send_replace(Some(work()))));
        });
        if question.since.elapsed() >= self.timeout {
            return Err(unresponsive(path));
        }
        tokio::time::timeout_at(until, question.result()).await.ok().flatten().ok_or_else(|| unresponsive(path))
    }
}

#[cfg(test)]
mod tests;
