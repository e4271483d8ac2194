//! The attributes of one name in a server's files.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::time::{Duration, SystemTime};

use rustix::fs::{FileType, Stat};

/// What a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum EntryKind {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharacterDevice,
    BlockDevice,
}

/// A name with its attributes; those of a link are its own.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Entry {
    /// Empty for the server's directory.
    pub name: OsString,
    pub kind: EntryKind,
    /// In bytes, also for directories and links.
    pub size: u64,
    /// The permission bits, with those for set-user-id, set-group-id and sticky.
    pub mode: u32,
    pub modified: SystemTime,
    /// The last change of its attributes.
    pub changed: SystemTime,
    pub accessed: SystemTime,
    pub device: u64,
    pub inode: u64,
    /// The number of its names.
    pub links: u64,
    pub uid: u32,
    pub gid: u32,
}

impl Entry {
    pub(super) fn new(name: &OsStr, stat: &Stat) -> Self {
        Self {
            name: name.to_owned(),
            kind: kind(stat),
            size: size(stat),
            mode: stat.st_mode & 0o7777,
            modified: time(stat.st_mtime, stat.st_mtime_nsec),
            changed: time(stat.st_ctime, stat.st_ctime_nsec),
            accessed: time(stat.st_atime, stat.st_atime_nsec),
            device: stat.st_dev,
            inode: stat.st_ino,
            links: links(stat),
            uid: stat.st_uid,
            gid: stat.st_gid,
        }
    }

    /// The attributes of an open file, under this name.
    pub(in crate::files) fn of_file(name: &OsStr, file: &File) -> io::Result<Self> {
        Ok(Self::new(name, &rustix::fs::fstat(file)?))
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == EntryKind::Directory
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind == EntryKind::File
    }
}

fn kind(stat: &Stat) -> EntryKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Symlink,
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket => EntryKind::Socket,
        FileType::CharacterDevice => EntryKind::CharacterDevice,
        FileType::BlockDevice => EntryKind::BlockDevice,
        FileType::RegularFile | FileType::Unknown => EntryKind::File,
    }
}

pub(super) fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// The number of names. Its type differs between architectures.
pub(super) fn links(stat: &Stat) -> u64 {
    u64::try_from(u128::from(stat.st_nlink)).unwrap_or(u64::MAX)
}

/// A time of the file system, which may be before 1970.
fn time(seconds: i64, nanoseconds: impl TryInto<u32>) -> SystemTime {
    let nanoseconds = Duration::from_nanos(nanoseconds.try_into().unwrap_or(0).into());
    let seconds = match u64::try_from(seconds) {
        Ok(after) => SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(after)),
        Err(_) => SystemTime::UNIX_EPOCH.checked_sub(Duration::from_secs(seconds.unsigned_abs())),
    };
    seconds.and_then(|time| time.checked_add(nanoseconds)).unwrap_or(SystemTime::UNIX_EPOCH)
}
