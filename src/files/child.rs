//! Opens a directory in a directory whose owner may change it at the same time.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Attempts to open a name. The kernel returns `EAGAIN` if something is renamed at the same time.
const ATTEMPTS: usize = 64;

/// Children of the daemon inherit no descriptor, and FIFOs and devices do not block.
const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

/// Opens the directory `name` in `parent` for reading, if it is on the same mount. Does not follow a link.
///
/// # Errors
/// [`Errno::NOTDIR`] or [`Errno::LOOP`] if it is not a directory, [`Errno::XDEV`] if it is a mount.
pub(super) fn open_child(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    for _ in 0..ATTEMPTS {
        match rustix::fs::openat2(parent, name, FLAGS, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The kernel is older than 5.6, or a sandbox forbids system calls that it does not know.
            Err(Errno::NOSYS | Errno::PERM) => return open_and_compare(parent, name),
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// As [`open_child`], without `openat2`.
pub(super) fn open_and_compare(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let child = rustix::fs::openat(parent, name, FLAGS, Mode::empty())?;
    let devices = (rustix::fs::fstat(parent)?.st_dev, rustix::fs::fstat(&child)?.st_dev);
    match devices.0 == devices.1 && mount_of(parent) == mount_of(child.as_fd()) {
        true => Ok(child),
        false => Err(Errno::XDEV),
    }
}

/// The mount of an open file. A bind mount of the same file system has the same device.
fn mount_of(fd: BorrowedFd<'_>) -> Option<u64> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use super::super::tests::{Outside, make_dir, make_fifo};
    use super::*;

    #[test]
    fn only_directories_on_the_same_mount_are_children() {
        let (outside, folder) = (Outside::new(), tempfile::tempdir().unwrap());
        let path = folder.path();
        make_dir(&path.join("dir"));
        fs::write(path.join("file"), "").unwrap();
        symlink("dir", path.join("to-dir")).unwrap();
        symlink(outside.path(), path.join("out")).unwrap();
        make_fifo(&path.join("fifo"));
        let (parent, host) = (File::open(path).unwrap(), File::open("/").unwrap());
        for open in [open_child, open_and_compare] {
            assert!(open(parent.as_fd(), c"dir").is_ok());
            for name in [c"file", c"fifo", c"out", c"to-dir"] {
                let errno = open(parent.as_fd(), name).unwrap_err();
                assert!(matches!(errno, Errno::NOTDIR | Errno::LOOP), "{name:?}: {errno}");
            }
            assert_eq!(open(host.as_fd(), c"proc").unwrap_err(), Errno::XDEV);
        }
    }
}
