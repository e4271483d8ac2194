//! Resolves paths on file systems that may not answer, such as a network mount without its server. A caller waits for
//! [`MOUNT_PATHS`](crate::wait::MOUNT_PATHS), and gets an error that names the path.
//!
//! A thread that hangs in such a file system cannot be ended. So each path is resolved by at most one thread of its own, and
//! while that thread hangs, other callers get the error at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::follow::{self, MountInfo, MountSource};
use super::in_flight::InFlight;
use crate::runtime::{ErrorKind, RuntimeError};
use crate::tasks::Blocking;

/// Resolves a path. Blocks until its file system answers.
pub type Follow = Arc<dyn Fn(&Path) -> MountSource + Send + Sync>;

fn unresponsive(path: &Path) -> RuntimeError {
    let path = path.display();
    let message = format!(
        "{path} does not answer: repair or unmount the file system that it is on, or take it out of the server's mounts \
         if it is one of them"
    );
    RuntimeError::with_message(ErrorKind::VolumeUnresponsive, message)
}

/// Resolves paths.
pub struct Paths {
    blocking: Blocking,
    follow: Follow,
    timeout: Duration,
    /// Running questions, by path.
    asked: InFlight<MountSource>,
}

impl Paths {
    /// Asks the host's file systems.
    pub fn new(blocking: Blocking) -> Self {
        Self::with(blocking, Arc::new(follow::follow), crate::wait::MOUNT_PATHS)
    }

    /// Resolves paths with another function and time limit.
    pub fn with(blocking: Blocking, follow: Follow, timeout: Duration) -> Self {
        Self { blocking, follow, timeout, asked: InFlight::default() }
    }

    /// Resolves the sources of mounts, and the allowed folders until all sources are allowed.
    ///
    /// # Errors
    /// A file system does not answer.
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
        // A folder that is not above a source may hang without an effect on the server.
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
            // A link in it may lead to a source.
            let found = self.ask(path, until).await.unwrap_or(MountSource::Missing);
            info.allow(path, found);
        }
        Ok(info)
    }

    /// Resolves a path by other work.
    ///
    /// # Errors
    /// The file system does not answer.
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
            let _ = self.blocking.run_detached("path", move || drop(found.send(work())));
        });
        if question.since.elapsed() >= self.timeout {
            return Err(unresponsive(path));
        }
        tokio::time::timeout_at(until, question.result()).await.ok().flatten().ok_or_else(|| unresponsive(path))
    }
}

#[cfg(test)]
mod tests;
