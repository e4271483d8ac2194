//! Changes of permission bits, lengths and times, and the space of the file system.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, FileType, Timespec, Timestamps, UTIME_OMIT};

use super::super::user_path::UserPath;
use super::error::TreeError;
use super::location::Follow;
use super::open_file::OpenFlags;
use super::{Tree, itself, pin};

/// What to change; `None` stays.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attributes {
    /// The permission bits. Those for set-user-id have no effect, those for set-group-id only on directories.
    pub mode: Option<u32>,
    /// The length in bytes.
    pub size: Option<u64>,
    /// The time of the last access.
    pub accessed: Option<SystemTime>,
    /// The time of the last modification.
    pub modified: Option<SystemTime>,
}

/// The space of the file system for one server, in bytes and files.
#[derive(Debug, Clone, Copy)]
pub struct Space {
    /// The unit of the file system, in bytes.
    pub block_size: u64,
    /// The files that the file system has room for.
    pub files: u64,
    /// Those of them that are not used.
    pub free_files: u64,
    /// The longest name, in bytes.
    pub name_max: u64,
    /// The server's limit, or all of the file system.
    pub total: u64,
    /// What the server may still write.
    pub available: u64,
}

impl Tree {
    /// Changes attributes.
    ///
    /// # Errors
    /// Nothing is there; a length is set of something that is no regular file, or does not fit; the mode of a link or a device
    /// is set; or the denylist has the path.
    pub fn set_attributes(&self, path: &UserPath, follow: Follow, attributes: Attributes) -> Result<(), TreeError> {
        const ACTION: &str = "set the attributes of";
        let location = self.locate(path, follow)?;
        if let Some(size) = attributes.size {
            let file = self.open_for_writing(location.path(), OpenFlags::default())?;
            file.set_len(size).map_err(TreeError::io("truncate", path))?;
        }
        let (pinned, found) = pin(&location).map_err(TreeError::system(ACTION, path))?;
        if let Some(mode) = attributes.mode {
            let allowed = match FileType::from_raw_mode(found.st_mode) {
                FileType::Directory => 0o3777,
                FileType::RegularFile | FileType::Fifo | FileType::Socket => 0o777,
                _ => return Err(TreeError::Unsupported(path.clone())),
            };
            let permissions = fs::Permissions::from_mode(mode & allowed);
            fs::set_permissions(itself(&pinned), permissions).map_err(TreeError::io(ACTION, path))?;
        }
        set_times(&pinned, attributes).map_err(TreeError::system(ACTION, path))
    }

    /// Writes what was changed to the disk, with everything else on the file system.
    ///
    /// # Errors
    /// That fails.
    pub fn sync_file_system(&self) -> Result<(), TreeError> {
        rustix::fs::syncfs(self.shared.root.directory()).map_err(TreeError::system("sync", &UserPath::root()))
    }

    /// Whether the files are in memory only.
    pub fn is_in_memory(&self) -> bool {
        /// `TMPFS_MAGIC`.
        const TMPFS: u32 = 0x0102_1994;
        rustix::fs::fstatfs(self.shared.root.directory()).is_ok_and(|found| found.f_type as u32 == TMPFS)
    }

    /// The space that is left for the server.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn space(&self) -> Result<Space, TreeError> {
        let file_system = rustix::fs::fstatvfs(self.shared.root.directory())
            .map_err(TreeError::system("read the space of", &UserPath::root()))?;
        let free = file_system.f_bavail.saturating_mul(file_system.f_frsize);
        let all = file_system.f_blocks.saturating_mul(file_system.f_frsize);
        let account = self.account();
        let (total, available) = match account.limit() {
            None => (all, free),
            Some(limit) => (limit, limit.saturating_sub(account.used()).min(free)),
        };
        Ok(Space {
            block_size: file_system.f_frsize,
            files: file_system.f_files,
            free_files: file_system.f_favail,
            name_max: file_system.f_namemax,
            total,
            available,
        })
    }
}

fn set_times(pinned: &OwnedFd, attributes: Attributes) -> rustix::io::Result<()> {
    if attributes.accessed.is_none() && attributes.modified.is_none() {
        return Ok(());
    }
    let time = |time: Option<SystemTime>| time.map_or(Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, timespec);
    let times = Timestamps { last_access: time(attributes.accessed), last_modification: time(attributes.modified) };
    rustix::fs::utimensat(CWD, itself(pinned), &times, AtFlags::empty())
}

/// A time for the kernel.
pub(super) fn timespec(time: SystemTime) -> Timespec {
    let (seconds, nanoseconds) = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => (i64::try_from(after.as_secs()).unwrap_or(i64::MAX), after.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            let whole = -i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            match before.subsec_nanos() {
                0 => (whole, 0),
                part => (whole - 1, 1_000_000_000 - part),
            }
        }
    };
    Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() }
}
