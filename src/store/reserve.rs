//! Disk space that is reserved for requests that free space.
//!
//! A file in the state folder occupies the space. When a request that stops or removes something finds the disk full, the file is
//! shortened, and the request is written. The file gets its size again when there is enough space.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

/// Size of the reserve, bytes.
const SIZE: u64 = 1024 * 1024;
/// The part that is released for one request, bytes.
const SLICE: u64 = SIZE / 16;
/// The reserve is created only if this much is free, bytes: space that it has just released is not taken again at once.
const MIN_FREE: u64 = 8 * SIZE;

/// The reserve of one state folder.
pub(super) struct Reserve {
    path: PathBuf,
    kept: AtomicBool,
}

impl Reserve {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { kept: AtomicBool::new(false), path }
    }

    /// Creates the reserve if it is missing and there is enough space. Without it, a full disk rejects every request.
    pub(super) fn keep(&self) {
        if self.kept.load(Ordering::Acquire) {
            return;
        }
        match self.make() {
            Ok(made) => self.kept.store(made, Ordering::Release),
            Err(error) => tracing::debug!(path = %self.path.display(), %error, "cannot create the reserve"),
        }
    }

    fn make(&self) -> io::Result<bool> {
        if std::fs::metadata(&self.path).is_ok_and(|found| found.len() >= SIZE) {
            return Ok(true);
        }
        let disk = statvfs(self.path.parent().unwrap_or(&self.path))?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) < MIN_FREE {
            return Ok(false);
        }
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&self.path)?;
        let filled = match fallocate(&file, FallocateFlags::empty(), 0, SIZE) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => (&file).write_all(&vec![0; SIZE as usize]),
            filled => filled.map_err(io::Error::from),
        };
        if filled.is_err() {
            // An incomplete file would occupy space and free too little.
            let _ = std::fs::remove_file(&self.path);
        }
        filled.map(|()| true)
    }

    /// Releases a slice of the space: what fills the disk may take it, too, and more requests follow. Returns whether there was any.
    pub(super) fn release(&self) -> bool {
        self.kept.store(false, Ordering::Release);
        let release = || {
            let file = File::options().write(true).open(&self.path)?;
            let left = file.metadata()?.len();
            file.set_len(left.saturating_sub(SLICE))?;
            Ok::<_, io::Error>(left > 0)
        };
        let released = release().unwrap_or(false);
        if released {
            tracing::warn!(path = %self.path.display(), "the disk is full; a part of the reserve is released");
        }
        released
    }
}
