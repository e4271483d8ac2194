//! Measures the size of a server's files.

use std::collections::HashSet;
use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, Stat};

use super::scan::Visitor;

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
}

impl Sum {
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
                self.add(&stat);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
