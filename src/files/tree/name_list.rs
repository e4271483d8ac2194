//! The names in a directory, sorted. They take little more memory than their bytes.

use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Dir, DirEntry, FileType};

/// An order of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// By their bytes.
    Bytes,
    /// Those of directories first, then by their bytes.
    DirectoriesFirst,
}

/// The names in a directory that are still to be handled.
#[derive(Debug)]
pub(super) struct Names {
    /// Each ends with a NUL.
    bytes: Vec<u8>,
    /// Where each begins, and whether it comes first; the next one last.
    starts: Vec<(bool, usize)>,
}

impl Names {
    /// Reads the names in a directory, without `.` and `..`.
    pub(super) fn read(directory: BorrowedFd<'_>, order: Order) -> rustix::io::Result<Self> {
        let mut names = Self { bytes: Vec::new(), starts: Vec::new() };
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                let first = order == Order::DirectoriesFirst && is_directory(directory, &entry);
                names.starts.push((first, names.bytes.len()));
                names.bytes.extend_from_slice(name.to_bytes_with_nul());
            }
        }
        let bytes = &names.bytes;
        // The NULs end the comparison of a name with a longer one, and no two names are the same.
        let key = |(first, start): &(bool, usize)| (!first, &bytes[*start..]);
        names.starts.sort_unstable_by(|a, b| key(b).cmp(&key(a)));
        Ok(names)
    }

    /// The next name.
    pub(super) fn pop(&mut self) -> Option<CString> {
        self.starts.pop().map(|(_, start)| name_at(&self.bytes, start).to_owned())
    }
}

fn is_directory(parent: BorrowedFd<'_>, entry: &DirEntry) -> bool {
    match entry.file_type() {
        // Some file systems do not have it in the listing.
        FileType::Unknown => rustix::fs::statat(parent, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
        kind => kind == FileType::Directory,
    }
}

fn name_at(bytes: &[u8], start: usize) -> &CStr {
    CStr::from_bytes_until_nul(&bytes[start..]).unwrap_or_default()
}
