//! Which directory a path leads to, on the host and in a running container.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::model::DirectoryId;

/// The directory at a path; `None` if there is none.
pub fn directory_id(path: &Path) -> Option<DirectoryId> {
    let found = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_dir)?;
    Some(DirectoryId { device: found.dev(), inode: found.ino() })
}

/// The directory at an absolute path in the root of a process, which may be hostile: no link leads out of it. `None` where the process
/// cannot be seen, as from inside another container, or the kernel is older than 5.6.
pub fn directory_in(process: u32, path: &str) -> Option<DirectoryId> {
    const FLAGS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
    let root: OwnedFd = rustix::fs::open(format!("/proc/{process}/root"), FLAGS, Mode::empty()).ok()?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let directory = rustix::fs::openat2(&root, path, FLAGS, Mode::empty(), resolve).ok()?;
    let found = rustix::fs::fstat(&directory).ok()?;
    Some(DirectoryId { device: found.st_dev, inode: found.st_ino })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_the_same_id_in_a_process_and_another_one_after_it_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("data");
        std::fs::create_dir(&path).unwrap();
        let (id, text) = (directory_id(&path).unwrap(), path.to_str().unwrap());
        let own = std::process::id();
        assert_eq!(directory_in(own, text), Some(id));
        std::fs::rename(&path, folder.path().join("old")).unwrap();
        assert_eq!((directory_id(&path), directory_in(own, text)), (None, None));
        std::fs::create_dir(&path).unwrap();
        assert!(directory_id(&path).is_some_and(|new| new != id));
        assert_eq!(directory_in(u32::MAX, text), None);
    }
}
