//! Where paths lead that may be on a file system which does not answer: a network mount whose server is gone, a FUSE mount
//! whose program hangs. A caller waits for [`MOUNT_PATHS`](crate::wait::MOUNT_PATHS) and gets an error that names the path.
//!
//! A thread that hangs there cannot be ended. So each path is followed by a thread of its own, one at most, and while
//! that one hangs further callers get the error at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::follow::{self, MountInfo, MountSource};
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
    asked: Arc<Mutex<Asked>>,
}

/// Paths that a thread is asking for.
type Asked = BTreeMap<PathBuf, Question>;

struct Question {
    since: Instant,
    answer: Answer,
}

/// What a thread finds, for all who wait for it; `None` where it has panicked.
type Answer = Shared<BoxFuture<'static, Option<MountSource>>>;

impl Paths {
    /// Asks the host's file systems.
    pub fn new(blocking: Blocking) -> Self {
        Self::with(blocking, Arc::new(follow::follow), crate::wait::MOUNT_PATHS)
    }

    /// With another way to follow paths and another limit.
    pub fn with(blocking: Blocking, follow: Follow, timeout: Duration) -> Self {
        Self { blocking, follow, timeout, asked: Arc::default() }
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
        let silent = || unresponsive(path);
        let answer = self.answer(path, work).ok_or_else(silent)?;
        tokio::time::timeout_at(until, answer).await.ok().flatten().ok_or_else(silent)
    }

    /// Where the answer will be, or `None` where a thread hangs already.
    fn answer(&self, path: &Path, work: impl FnOnce() -> MountSource + Send + 'static) -> Option<Answer> {
        let (found, answer) = oneshot::channel();
        let answer = answer.map(Result::ok).boxed().shared();
        {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(question) = asked.get(path) {
                return (question.since.elapsed() < self.timeout).then(|| question.answer.clone());
            }
            asked.insert(path.to_owned(), Question { since: Instant::now(), answer: answer.clone() });
        }
        let over = Over { asked: self.asked.clone(), path: path.to_owned() };
        let begun = self.blocking.run_detached("path", move || {
            let source = work();
            // What is asked from now on is asked again.
            drop(over);
            // Every caller may have given up.
            let _ = found.send(source);
        });
        begun.ok().map(|()| answer)
    }
}

/// Strikes a question out when it is answered, or will never be.
struct Over {
    asked: Arc<Mutex<Asked>>,
    path: PathBuf,
}

impl Drop for Over {
    fn drop(&mut self) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.path);
    }
}

#[cfg(test)]
mod tests;
