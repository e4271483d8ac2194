//! Copies a whole tree by references to its blocks (reflinks), which needs no room and no time for the content.
//!
//! The source is read through descriptors as any scan does, and may be written meanwhile: each file is copied as it is at one
//! moment. Kept: modes, owners, times, extended attributes, holes, links, and files with several names. A file that the file system
//! does not share (such as one without checksums on btrfs) is copied by its bytes.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use uuid::Uuid;

use super::FilesError;
use super::crash_point::crash_point;
use super::remove::remove_tree;
use super::scan::{FLAGS, Visitor, scan};

/// The most directories of the copy that are open at a time; the others are opened again through `..`.
const HELD_OPEN: usize = 32;
/// The bytes that are copied at a time where blocks are not shared.
const CHUNK: u64 = 8 << 20;
/// Attributes that belong to a directory and not to its content.
const OWN_ATTRIBUTES: &[u8] = b"trusted.alula.";

/// Whether files in this directory can share blocks. Writes two small files into it and removes them.
pub(super) fn can_share_blocks(folder: &Path) -> io::Result<bool> {
    let names = [folder.join("probe"), folder.join("probe-copy")];
    let probe = || {
        std::fs::write(&names[0], [1; 4096])?;
        let (from, to) = (File::open(&names[0])?, File::create(&names[1])?);
        match rustix::fs::ioctl_ficlone(&to, &from) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL | Errno::XDEV | Errno::NOSYS | Errno::PERM) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    };
    let shared = probe();
    names.iter().for_each(|name| drop(std::fs::remove_file(name)));
    shared
}

/// Copies everything below `from` into the empty directory `to`, with the attributes of the top directory itself.
///
/// # Errors
/// Something cannot be copied, or `cancelled` was set. The copy is incomplete then.
pub(super) fn clone_tree(from: &Path, to: &Path, cancelled: &AtomicBool) -> Result<(), FilesError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |errno: Errno| FilesError::disk(ACTION, &path)(errno)
    };
    // In the copy, because a btrfs subvolume has no names of files of another one.
    let links = to.join(format!(".alula-links-{}", Uuid::new_v4()));
    let open = |path: &Path| rustix::fs::open(path, FLAGS | OFlags::NOFOLLOW, Mode::empty()).map_err(failed(path));
    let top = open(to)?;
    rustix::fs::mkdir(&links, Mode::RWXU).map_err(failed(&links))?;
    let mut copy = Copy { top: Some(top), links: open(&links)?, directories: Vec::new() };
    scan(from, cancelled, &mut copy)?;
    remove_tree(&links)?;
    // The removal has changed its time.
    copy_directory_attributes(from, to).map_err(failed(to))
}

const ACTION: &str = "copy";

/// A directory of the copy.
struct Directory {
    /// `None` if it was closed because too many are open.
    directory: Option<OwnedFd>,
    /// Attributes that it gets when its entries are complete, because these change them.
    stat: Stat,
    attributes: Vec<(CString, Vec<u8>)>,
}

struct Copy {
    /// Taken when the top directory of the source is entered.
    top: Option<OwnedFd>,
    /// Names of the files that have several ones, by their numbers.
    links: OwnedFd,
    /// The current path of the copy, from the top.
    directories: Vec<Directory>,
}

impl Visitor for Copy {
    const ACTION: &'static str = ACTION;

    fn directory(&mut self, _: BorrowedFd<'_>, _: &Stat) -> rustix::io::Result<()> {
        Ok(())
    }

    fn entered(&mut self, name: &CStr, directory: BorrowedFd<'_>, stat: &Stat) -> rustix::io::Result<()> {
        let attributes = read_attributes(directory)?;
        let made = match self.directories.last().map(Directory::open) {
            Some(parent) => make_directory(parent?, name)?,
            None => self.top.take().ok_or(Errno::BADF)?,
        };
        self.directories.push(Directory { directory: Some(made), stat: *stat, attributes });
        // The top one stays open.
        if let Some(index) = self.directories.len().checked_sub(HELD_OPEN + 1)
            && index > 0
        {
            self.directories[index].directory = None;
        }
        Ok(())
    }

    fn left(&mut self) -> rustix::io::Result<()> {
        let Some(done) = self.directories.pop() else { return Ok(()) };
        let directory = done.open()?;
        if let Some(parent) = self.directories.last_mut().filter(|parent| parent.directory.is_none()) {
            parent.directory = Some(rustix::fs::openat(directory, "..", FLAGS | OFlags::NOFOLLOW, Mode::empty())?);
        }
        write_attributes(directory, &done.attributes)?;
        set_stat(directory, &done.stat)
    }

    fn entry(&mut self, parent: BorrowedFd<'_>, name: &CStr, kind: FileType) -> rustix::io::Result<()> {
        let Some(target) = self.directories.last() else { return Err(Errno::BADF) };
        let target = target.open()?;
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != kind {
            // It was replaced: the scan reads its kind again.
            return Err(Errno::NOTDIR);
        }
        crash_point()?;
        let several = u128::from(stat.st_nlink) > 1;
        let number = CString::new(format!("{}-{}", stat.st_dev, stat.st_ino)).map_err(|_| Errno::INVAL)?;
        if several && rustix::fs::linkat(&self.links, &number, target, name, AtFlags::empty()).is_ok() {
            return Ok(());
        }
        match kind {
            FileType::RegularFile => copy_file(parent, target, name)?,
            FileType::Symlink => copy_link(parent, target, name, &stat)?,
            kind => {
                rustix::fs::mknodat(target, name, kind, Mode::empty(), stat.st_rdev)?;
                set_stat_of(target, name, &stat)?;
            }
        }
        match several {
            true => rustix::fs::linkat(target, name, &self.links, &number, AtFlags::empty()),
            false => Ok(()),
        }
    }
}

impl Directory {
    fn open(&self) -> rustix::io::Result<BorrowedFd<'_>> {
        self.directory.as_ref().map(OwnedFd::as_fd).ok_or(Errno::BADF)
    }
}

fn make_directory(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    crash_point()?;
    rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
    rustix::fs::openat(parent, name, FLAGS | OFlags::NOFOLLOW, Mode::empty())
}

fn copy_file(parent: BorrowedFd<'_>, target: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let from = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&from)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::NOTDIR);
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let to = rustix::fs::openat(target, name, flags, Mode::RUSR | Mode::WUSR)?;
    match rustix::fs::ioctl_ficlone(&to, &from) {
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOTTY | Errno::XDEV | Errno::PERM) => {
            copy_bytes(&from, &to, &stat)?
        }
        cloned => cloned?,
    }
    write_attributes(to.as_fd(), &read_attributes(from.as_fd())?)?;
    set_stat(to.as_fd(), &stat)
}

/// Copies the parts that are no holes.
fn copy_bytes(from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> rustix::io::Result<()> {
    let length = u64::try_from(stat.st_size).unwrap_or(0);
    rustix::fs::ftruncate(to, length)?;
    let mut at = 0;
    while at < length {
        let begin = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(begin) => begin,
            // Only a hole is left.
            Err(Errno::NXIO) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(begin))?.min(length);
        copy_range(from, to, begin, end)?;
        at = end.max(begin + 1);
    }
    Ok(())
}

fn copy_range(from: &OwnedFd, to: &OwnedFd, mut at: u64, end: u64) -> rustix::io::Result<()> {
    let mut buffer = Vec::new();
    while at < end {
        let length = (end - at).min(CHUNK);
        buffer.resize(length.min(128 * 1024) as usize, 0);
        let read = rustix::io::pread(from, &mut buffer[..], at)?;
        if read == 0 {
            // It has become shorter.
            return Ok(());
        }
        let mut written = 0;
        while written < read {
            written += rustix::io::pwrite(to, &buffer[written..read], at + written as u64)?;
        }
        at += read as u64;
    }
    Ok(())
}

fn copy_link(parent: BorrowedFd<'_>, target: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> rustix::io::Result<()> {
    let text = rustix::fs::readlinkat(parent, name, Vec::new())?;
    rustix::fs::symlinkat(&text, target, name)?;
    set_owner_of(target, name, stat)?;
    rustix::fs::utimensat(target, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
}

/// Sets owner, mode and times of an open file or directory.
fn set_stat(file: BorrowedFd<'_>, stat: &Stat) -> rustix::io::Result<()> {
    let found = rustix::fs::fstat(file)?;
    if (found.st_uid, found.st_gid) != (stat.st_uid, stat.st_gid) {
        rustix::fs::fchown(file, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    }
    rustix::fs::fchmod(file, Mode::from_raw_mode(stat.st_mode))?;
    rustix::fs::futimens(file, &times(stat))
}

/// The same for a name in the copy, which only the daemon writes.
fn set_stat_of(directory: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> rustix::io::Result<()> {
    set_owner_of(directory, name, stat)?;
    rustix::fs::chmodat(directory, name, Mode::from_raw_mode(stat.st_mode), AtFlags::empty())?;
    rustix::fs::utimensat(directory, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
}

fn set_owner_of(directory: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> rustix::io::Result<()> {
    let found = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if (found.st_uid, found.st_gid) == (stat.st_uid, stat.st_gid) {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

/// The times of access and modification.
pub(super) fn times(stat: &Stat) -> Timestamps {
    #[allow(clippy::unnecessary_cast, reason = "the types differ between architectures")]
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds as i64, tv_nsec: nanoseconds as _ };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Extended attributes, with those that hold access lists.
fn read_attributes(file: BorrowedFd<'_>) -> rustix::io::Result<Vec<(CString, Vec<u8>)>> {
    let mut names = Vec::with_capacity(64 << 10);
    match rustix::fs::flistxattr(file, rustix::buffer::spare_capacity(&mut names)) {
        Ok(_) => {}
        Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    }
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty() && !name.starts_with(OWN_ATTRIBUTES));
    let mut found = Vec::new();
    for name in names {
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        let mut value = Vec::with_capacity(64 << 10);
        match rustix::fs::fgetxattr(file, &name, rustix::buffer::spare_capacity(&mut value)) {
            Ok(_) => found.push((name, value)),
            // Removed meanwhile, or none that can be read.
            Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM | Errno::ACCESS) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(found)
}

fn write_attributes(file: BorrowedFd<'_>, attributes: &[(CString, Vec<u8>)]) -> rustix::io::Result<()> {
    for (name, value) in attributes {
        match rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()) {
            // The kernel's own, or one that needs a capability.
            Ok(()) | Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS | Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Gives an empty directory the mode, owner and extended attributes of another one.
pub(super) fn copy_directory_attributes(from: &Path, to: &Path) -> rustix::io::Result<()> {
    let from = rustix::fs::open(from, FLAGS, Mode::empty())?;
    let to = rustix::fs::openat(CWD, to, FLAGS | OFlags::NOFOLLOW, Mode::empty())?;
    write_attributes(to.as_fd(), &read_attributes(from.as_fd())?)?;
    set_stat(to.as_fd(), &rustix::fs::fstat(&from)?)
}

#[cfg(test)]
mod tests;
