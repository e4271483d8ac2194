//! Measures the size of a server's files, and removes incomplete ones that an earlier process has left.

use std::collections::HashSet;
use std::ffi::{CStr, OsStr};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, FileType, Stat};

use super::FilesError;
use super::scan::{Visitor, scan};
use super::tree::is_temporary;

/// The most files with several names that are remembered, so that each counts once.
const REMEMBERED: usize = 1 << 18;

/// Adds up the lengths of regular files, as Wings does. A file with several names counts once; directories, links and devices
/// do not count.
#[derive(Debug, Default)]
pub(super) struct Sum {
    pub(super) bytes: u64,
    /// Blocks of the same files in bytes, of each file no more than its length.
    pub(super) allocated: u64,
    /// Device and inode of files with several names.
    seen: HashSet<(u64, u64)>,
    /// Files with temporary names that were last changed before this are removed.
    left_before: Option<SystemTime>,
}

/// The bytes of the files below a folder.
pub(super) fn usage(path: &Path, cancelled: &AtomicBool) -> Result<u64, FilesError> {
    let mut sum = Sum::default();
    scan(path, cancelled, &mut sum)?;
    Ok(sum.bytes)
}

impl Sum {
    /// A sum that does not have files with temporary names which were last changed before this time: they are removed.
    pub(super) fn with_removal(left_before: SystemTime) -> Self {
        Self { left_before: Some(left_before), ..Self::default() }
    }

    fn is_left(&self, name: &CStr, stat: &Stat) -> bool {
        let changed = || {
            let since = Duration::new(u64::try_from(stat.st_ctime).ok()?, u32::try_from(stat.st_ctime_nsec).ok()?);
            UNIX_EPOCH.checked_add(since)
        };
        is_temporary(OsStr::from_bytes(name.to_bytes()))
            && self.left_before.is_some_and(|before| changed().is_some_and(|changed| changed < before))
    }

    fn add(&mut self, stat: &Stat) {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512).min(size);
        // The type of `st_nlink` differs between architectures.
        let (size, blocks) = match u64::try_from(u128::from(stat.st_nlink)).unwrap_or(u64::MAX) {
            0 | 1 => (size, blocks),
            names => {
                let share = self.share_of_name(size, names, (stat.st_dev, stat.st_ino));
                (share, blocks.min(share))
            }
        };
        self.bytes = self.bytes.saturating_add(size);
        self.allocated = self.allocated.saturating_add(blocks);
    }

    /// The bytes that one of several names of a file adds.
    fn share_of_name(&mut self, size: u64, names: u64, file: (u64, u64)) -> u64 {
        if self.seen.contains(&file) {
            0
        } else if self.seen.len() < REMEMBERED {
            self.seen.insert(file);
            size
        } else {
            // Beyond the limit each name adds its share, which gives the same sum except for rounding.
            size / names
        }
    }
}

impl Visitor for Sum {
    const ACTION: &'static str = "measure the size of";

    fn directory(&mut self, _: BorrowedFd<'_>, _: &Stat) -> rustix::io::Result<()> {
        Ok(())
    }

    fn entry(&mut self, parent: BorrowedFd<'_>, name: &CStr, kind: FileType) -> rustix::io::Result<()> {
        if kind == FileType::RegularFile {
            let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                // Where it cannot be removed it counts.
                if !self.is_left(name, &stat) || rustix::fs::unlinkat(parent, name, AtFlags::empty()).is_err() {
                    self.add(&stat);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incomplete_files_of_an_earlier_process_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("world");
        std::fs::create_dir(&inside).unwrap();
        let left = inside.join(".alula-new-00000000000000ff");
        let users =
            ["region", ".alula-new-", ".alula-new-notes", ".alula-new-00000000000000fg", "alula-new-00000000000000ff"];
        users.iter().for_each(|name| std::fs::write(inside.join(name), "12345").unwrap());
        std::fs::write(&left, "1234567").unwrap();
        let measured = |mut sum: Sum| {
            super::super::scan::scan(folder.path(), &std::sync::atomic::AtomicBool::new(false), &mut sum).unwrap();
            sum.bytes
        };
        let hour = Duration::from_secs(3600);
        assert_eq!(measured(Sum::default()), 32);
        assert_eq!(measured(Sum::with_removal(SystemTime::now() - hour)), 32, "it is being written");
        assert_eq!(measured(Sum::with_removal(SystemTime::now() + hour)), 25);
        assert!(!left.exists() && users.iter().all(|name| inside.join(name).exists()));
    }

    #[test]
    fn names_beyond_the_limit_add_their_share() {
        let mut usage = Sum::default();
        for inode in 0..REMEMBERED as u64 {
            assert_eq!(usage.share_of_name(10, 2, (1, inode)), 10);
        }
        assert_eq!(usage.share_of_name(10, 2, (1, 0)), 0, "its second name");
        assert_eq!(usage.share_of_name(10, 2, (1, u64::MAX)), 5);
        assert_eq!(usage.share_of_name(10, 2, (1, u64::MAX)), 5);
        assert_eq!(usage.share_of_name(10, 2, (2, 0)), 5, "same number, other device");
        assert_eq!(usage.seen.len(), REMEMBERED);
    }
}
