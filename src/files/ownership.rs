//! Giving a server's files to the user that its processes run as.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};

use super::scan::Visitor;

/// What was done about owners.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fixed {
    /// Entries that had the wrong owner or group.
    pub changed: u64,
    /// All of them.
    pub looked_at: u64,
}

/// Sets owner and group where they are wrong.
///
/// - A link gets the owner itself, not what it leads to.
/// - Devices keep theirs: an install script runs as root and can make them, and the server's user shall not get at
///   the host's disks by one.
/// - The kernel takes set-user-id and set-group-id bits and file capabilities off a file that changes hands. That is
///   wanted: a program of root's with such a bit must not become one of the server's user with it. They are not put
///   back; servers run with `no-new-privileges`, where they mean nothing.
#[derive(Debug)]
pub(super) struct Ownership {
    uid: Uid,
    gid: Gid,
    fixed: Fixed,
}

impl Ownership {
    pub(super) fn new(uid: u32, gid: u32) -> Self {
        Self { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid), fixed: Fixed::default() }
    }

    pub(super) fn fixed(&self) -> Fixed {
        self.fixed
    }

    fn is_wrong(&self, stat: &Stat) -> bool {
        let device = matches!(FileType::from_raw_mode(stat.st_mode), FileType::CharacterDevice | FileType::BlockDevice);
        !device && (stat.st_uid != self.uid.as_raw() || stat.st_gid != self.gid.as_raw())
    }

    /// Changes the owner of an open file, of whatever kind, and of nothing else.
    fn change(&mut self, file: BorrowedFd<'_>) -> rustix::io::Result<()> {
        let (uid, gid) = (Some(self.uid), Some(self.gid));
        rustix::fs::chownat(file, c"", uid, gid, AtFlags::EMPTY_PATH)?;
        self.fixed.changed += 1;
        Ok(())
    }
}

impl Visitor for Ownership {
    const ACTION: &'static str = "set the owner of";

    fn directory(&mut self, directory: BorrowedFd<'_>, stat: &Stat) -> rustix::io::Result<()> {
        self.fixed.looked_at += 1;
        match self.is_wrong(stat) {
            true => self.change(directory),
            false => Ok(()),
        }
    }

    fn entry(&mut self, parent: BorrowedFd<'_>, name: &CStr, _: FileType) -> rustix::io::Result<()> {
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        self.fixed.looked_at += 1;
        if !self.is_wrong(&stat) {
            return Ok(());
        }
        // By name it might be another file by now, so it is held on to and looked at once more. Opening like
        // this touches nothing, not even a device.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent, name, flags, Mode::empty())?;
        match self.is_wrong(&rustix::fs::fstat(&file)?) {
            true => self.change(file.as_fd()),
            false => Ok(()),
        }
    }
}
