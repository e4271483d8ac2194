//! A little room that is kept for a full disk: the wishes that free space must be written first.
//!
//! While all is well a file lies in the state folder and takes up space. When a wish to bring something down finds the disk
//! full, the file goes, and the wish is written in its place. It comes back when there is room again.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

/// How much room is kept, bytes.
const SIZE: u64 = 1024 * 1024;
/// The reserve is made only where so much is free: what it gave up a moment ago is not taken back at once.
const ROOM: u64 = 8 * SIZE;

/// The reserve of one state folder.
pub(super) struct Reserve {
    path: PathBuf,
    kept: AtomicBool,
}

impl Reserve {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { kept: AtomicBool::new(false), path }
    }

    /// Makes the reserve where it is missing and there is room. Best effort: without it a full disk refuses every wish.
    pub(super) fn keep(&self) {
        if self.kept.load(Ordering::Acquire) {
            return;
        }
        match self.make() {
            Ok(made) => self.kept.store(made, Ordering::Release),
            Err(error) => tracing::debug!("no reserve can be kept at {}: {error}", self.path.display()),
        }
    }

    fn make(&self) -> io::Result<bool> {
        if std::fs::metadata(&self.path).is_ok_and(|found| found.len() >= SIZE) {
            return Ok(true);
        }
        let disk = statvfs(self.path.parent().unwrap_or(&self.path))?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) < ROOM {
            return Ok(false);
        }
        let file = File::create(&self.path)?;
        let filled = match fallocate(&file, FallocateFlags::empty(), 0, SIZE) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => (&file).write_all(&vec![0; SIZE as usize]),
            filled => filled.map_err(io::Error::from),
        };
        if filled.is_err() {
            // Half a reserve would look like a whole one that was used.
            let _ = std::fs::remove_file(&self.path);
        }
        filled.map(|()| true)
    }

    /// Gives the room up. Returns whether there was any.
    pub(super) fn release(&self) -> bool {
        self.kept.store(false, Ordering::Release);
        let released = std::fs::remove_file(&self.path).is_ok();
        if released {
            tracing::warn!("the disk is full; the room that was kept in {} is given up", self.path.display());
        }
        released
    }
}
