//! The lock on a state folder: the daemon that writes into it holds it for as long as its process lives.
//!
//! It is the kernel's advisory lock on `{root}/.lock`: it goes with the process, however that ends, and no child inherits it.
//! The file names the process that holds it, for messages, and stays where it is. The store does not take it by itself: the
//! daemon does before it opens the store, and a command that only reads needs none.

use std::fmt::{self, Display};
use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Name of the file in the state folder.
pub const LOCK_FILE: &str = ".lock";

/// So long is a lock waited for: a daemon that was told to end has mostly done so by then.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two tries.
const INTERVAL: Duration = Duration::from_millis(50);
/// More of the file is not read, bytes.
const MAX: u64 = 16 * 1024;

/// The daemon that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process.
    pub pid: u32,
    /// The configuration file that it was started from.
    pub config: PathBuf,
}

impl Holder {
    /// This process.
    pub fn this(config: &Path) -> Self {
        Self { pid: std::process::id(), config: config.to_owned() }
    }
}

impl Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}, configuration {}", self.pid, self.config.display())
    }
}

/// Why a lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon has it; which one is unknown where it could not be written down.
    #[error("another daemon runs on the state folder")]
    Held(Option<Holder>),
    /// The system said no.
    #[error("cannot {action} {}: {source}", path.display())]
    Disk {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// The right to write into a state folder, until it is dropped.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Takes the lock as soon as it is free, within a moment. The state folder is made where it is missing.
    ///
    /// # Errors
    /// Another daemon keeps it, or the system says no.
    pub async fn take(root: &Path, holder: &Holder) -> Result<Self, LockError> {
        let timeout = Instant::now() + PATIENCE;
        loop {
            match Self::try_take(root, holder) {
                Err(LockError::Held(_)) if Instant::now() < timeout => tokio::time::sleep(INTERVAL).await,
                taken => return taken,
            }
        }
    }

    fn try_take(root: &Path, holder: &Holder) -> Result<Self, LockError> {
        DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(disk("make the state folder", root))?;
        let path = root.join(LOCK_FILE);
        let file = open(&path, OFlags::RDWR | OFlags::CREATE).map_err(disk("open", &path))?;
        match try_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(true) => {}
            Ok(false) => return Err(LockError::Held(read_holder(&file))),
            Err(source) => return Err(disk("lock", &path)(source)),
        }
        // Only for messages: a disk that is full keeps nobody from working.
        let _ = write_holder(&file, holder);
        Ok(Self { _file: file })
    }
}

/// The daemon that holds a state folder, as far as it can be found out. For those who only read: they may not be allowed to
/// write there, and take nothing from anybody.
pub fn daemon_on(root: &Path) -> Option<Holder> {
    let file = open(&root.join(LOCK_FILE), OFlags::RDONLY).ok()?;
    match try_lock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(false) => read_holder(&file),
        Ok(true) | Err(_) => None,
    }
}

fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(File::from(file)),
        Err(Errno::LOOP) => Err(io::Error::other("it is a symbolic link; remove it")),
        Err(error) => Err(error.into()),
    }
}

/// Whether the lock is ours now.
fn try_lock(file: &File, operation: FlockOperation) -> io::Result<bool> {
    match rustix::fs::flock(file, operation) {
        // A file system without locks: nobody can hold one.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOLCK) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn write_holder(file: &File, holder: &Holder) -> io::Result<()> {
    let text = serde_json::to_vec(holder)?;
    file.write_all_at(&text, 0)?;
    file.set_len(text.len() as u64)
}

fn read_holder(file: &File) -> Option<Holder> {
    let mut text = Vec::new();
    file.take(MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

fn disk(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LockError {
    let path = path.to_owned();
    move |source| LockError::Disk { action, path, source }
}

#[cfg(test)]
mod tests;
