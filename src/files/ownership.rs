//! Sets the owner of a server's files.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};

use super::scan::Visitor;

/// Sets owner and group where they are wrong.
///
/// - The owner of a link changes, not that of its target.
/// - Devices keep their owner. An install script runs as root and can create them, and the server's user must not get access
///   to the host's disks.
/// - The kernel clears set-user-id bits, set-group-id bits and file capabilities of a file whose owner changes. They are not
///   restored: servers run with `no-new-privileges`, which disables them.
#[derive(Debug)]
pub(super) struct Ownership {
    uid: Uid,
    gid: Gid,
}

impl Ownership {
    pub(super) fn new(uid: u32, gid: u32) -> Self {
        Self { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid) }
    }

    fn is_wrong(&self, stat: &Stat) -> bool {
        let device = matches!(FileType::from_raw_mode(stat.st_mode), FileType::CharacterDevice | FileType::BlockDevice);
        !device && (stat.st_uid != self.uid.as_raw() || stat.st_gid != self.gid.as_raw())
    }

    /// Changes the owner of an open file of any type.
    fn change(&self, file: BorrowedFd<'_>) -> rustix::io::Result<()> {
        rustix::fs::chownat(file, c"", Some(self.uid), Some(self.gid), AtFlags::EMPTY_PATH)
    }
}

impl Visitor for Ownership {
    const ACTION: &'static str = "set the owner of";

    fn directory(&mut self, directory: BorrowedFd<'_>, stat: &Stat) -> rustix::io::Result<()> {
        match self.is_wrong(stat) {
            true => self.change(directory),
            false => Ok(()),
        }
    }

    fn entry(&mut self, parent: BorrowedFd<'_>, name: &CStr, _: FileType) -> rustix::io::Result<()> {
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if !self.is_wrong(&stat) {
            return Ok(());
        }
        // The name may refer to another file by now, so the file is opened and checked again. `O_PATH` has no effect on a device.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent, name, flags, Mode::empty())?;
        match self.is_wrong(&rustix::fs::fstat(&file)?) {
            true => self.change(file.as_fd()),
            false => Ok(()),
        }
    }
}
