//! Syncs a server's files to disk.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FileType, Mode, OFlags, Stat};

use super::scan::Visitor;

/// The most files and directories that are synced one by one. For more a sync of the whole file system is quicker, although it
/// includes the files of other servers.
const MAX: usize = 32;

/// Syncs up to [`MAX`] files one by one.
pub(super) struct Flush<'a> {
    left: usize,
    /// Cancels the scan.
    too_many: &'a AtomicBool,
}

impl<'a> Flush<'a> {
    pub(super) fn new(too_many: &'a AtomicBool) -> Self {
        Self { left: MAX, too_many }
    }

    fn is_within_limit(&mut self) -> bool {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => {
                self.too_many.store(true, Ordering::Relaxed);
                false
            }
        }
    }
}

impl Visitor for Flush<'_> {
    const ACTION: &'static str = "sync";

    fn directory(&mut self, directory: BorrowedFd<'_>, _: &Stat) -> rustix::io::Result<()> {
        if self.is_within_limit() { rustix::fs::fsync(directory) } else { Ok(()) }
    }

    fn entry(&mut self, parent: BorrowedFd<'_>, name: &CStr, kind: FileType) -> rustix::io::Result<()> {
        if kind != FileType::RegularFile || !self.is_within_limit() {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::fsync(rustix::fs::openat(parent, name, flags, Mode::empty())?)
    }
}
