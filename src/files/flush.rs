//! Having a server's files on disk.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FileType, Mode, OFlags, Stat};

use super::scan::Visitor;

/// So many files and directories are brought to disk one by one. Where there are more the whole file system is quicker, but it has
/// to wait for what everybody else has written.
const FEW: usize = 32;

/// Brings files to disk one by one, as long as they are few.
pub(super) struct Flush<'a> {
    left: usize,
    /// Ends the walk: they are many.
    too_many: &'a AtomicBool,
}

impl<'a> Flush<'a> {
    pub(super) fn new(too_many: &'a AtomicBool) -> Self {
        Self { left: FEW, too_many }
    }

    fn counts(&mut self) -> bool {
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
    const ACTION: &'static str = "bring to disk";

    fn directory(&mut self, directory: BorrowedFd<'_>, _: &Stat) -> rustix::io::Result<()> {
        if self.counts() { rustix::fs::fsync(directory) } else { Ok(()) }
    }

    fn entry(&mut self, parent: BorrowedFd<'_>, name: &CStr, kind: FileType) -> rustix::io::Result<()> {
        if kind != FileType::RegularFile || !self.counts() {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::fsync(rustix::fs::openat(parent, name, flags, Mode::empty())?)
    }
}
