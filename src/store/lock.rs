//! The lock on a state folder. The daemon that writes into the folder holds it while its process runs.
//!
//! It is the kernel's advisory lock on `{root}/.lock`. It ends with the process, and no child inherits it. The file names the
//! process that holds it, for messages, and is never removed. The daemon takes the lock before it opens the store; a command that
//! only reads needs none.

use std::fmt::{self, Display};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::atomic::{self, AtomicError};
use crate::config::NodeConfig;

/// Name of the file in the state folder.
pub const LOCK_FILE: &str = ".lock";

/// How long [`StateLock::take`] waits for the lock: enough for most daemons that are shutting down.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Between two attempts.
const INTERVAL: Duration = Duration::from_millis(50);
/// How much of the file is read, bytes.
const MAX: u64 = 16 * 1024;

/// The daemon that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// The configuration file that it was started from.
    pub config: PathBuf,
    /// The address on which it serves the panel.
    #[serde(default)]
    pub api: Option<String>,
}

impl Holder {
    /// This process, with this configuration.
    pub fn this(node: &NodeConfig) -> Self {
        let api = node.serves_api().then(|| node.api.address.clone());
        Self { pid: std::process::id(), config: node.source.clone(), api }
    }
}

impl Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}, configuration {}", self.pid, self.config.display())
    }
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon holds it; `None` if the file does not name it.
    #[error("another daemon runs on the state folder")]
    Held(Option<Holder>),
    /// An operation on the disk failed.
    #[error(transparent)]
    Disk(#[from] AtomicError),
}

/// The lock of a state folder, held until it is dropped.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Takes the lock, and waits up to two seconds for it. The state folder is created if it is missing.
    ///
    /// # Errors
    /// Another daemon holds it, or the disk's error.
    pub async fn take(root: &Path, holder: &Holder) -> Result<Self, LockError> {
        let timeout = Instant::now() + TIMEOUT;
        loop {
            match Self::try_take(root, holder) {
                Err(LockError::Held(_)) if Instant::now() < timeout => tokio::time::sleep(INTERVAL).await,
                taken => return taken,
            }
        }
    }

    fn try_take(root: &Path, holder: &Holder) -> Result<Self, LockError> {
        atomic::create_private(root)?;
        let path = root.join(LOCK_FILE);
        let file = open(&path, OFlags::RDWR | OFlags::CREATE).map_err(AtomicError::at("open", &path))?;
        if !try_lock(&file, FlockOperation::NonBlockingLockExclusive).map_err(AtomicError::at("lock", &path))? {
            return Err(LockError::Held(read_holder(&file)));
        }
        // Only for messages: a full disk must not keep the daemon from starting.
        let _ = write_holder(&file, holder);
        Ok(Self { _file: file })
    }
}

/// The daemon that holds a state folder, if there is one and its file can be read. Needs no permission to write and does not keep
/// the lock.
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

/// Whether the lock was taken.
fn try_lock(file: &File, operation: FlockOperation) -> io::Result<bool> {
    match rustix::fs::flock(file, operation) {
        // On a file system without locks no other process can hold one.
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

#[cfg(test)]
mod tests;
