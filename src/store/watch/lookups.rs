//! The directory entries that the kernel reads to resolve a path: when one of them changes, the path may lead to another file.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use crate::files::directory_id;
use crate::model::DirectoryId;

/// How many symbolic links in a row are followed, as the kernel does.
const MAX_LINKS: usize = 40;

/// Where a path leads, and on which way.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The folder; `None` if there is none.
    pub(super) folder: Option<DirectoryId>,
    /// The entries that lead to it.
    pub(super) entries: Vec<PathBuf>,
}

impl Place {
    /// Where an absolute path leads now.
    pub(super) fn of(path: &Path) -> Self {
        Self { folder: directory_id(path), entries: entries(path) }
    }
}

/// The entries of an absolute path, each as its name in the real folder that holds it. Symbolic links are followed. The last one may
/// be missing.
pub(super) fn entries(path: &Path) -> Vec<PathBuf> {
    let mut left: VecDeque<OsString> = names(path).collect();
    let (mut folder, mut entries, mut links) = (PathBuf::from("/"), Vec::new(), 0);
    while let Some(name) = left.pop_front() {
        if name == ".." {
            folder.pop();
            continue;
        }
        let entry = folder.join(name);
        entries.push(entry.clone());
        match std::fs::read_link(&entry) {
            Ok(target) => {
                links += 1;
                if links > MAX_LINKS {
                    break;
                }
                if target.is_absolute() {
                    folder = PathBuf::from("/");
                }
                names(&target).rev().for_each(|name| left.push_front(name));
            }
            // Not a link.
            Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => folder = entry,
            Err(_) => break,
        }
    }
    entries.sort();
    entries.dedup();
    entries
}

/// The names in a path, and `..`.
fn names(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().to_owned()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// The entries below a folder, relative to it.
    fn below(root: &Path, path: &Path) -> Vec<String> {
        let entries = entries(path);
        let below = entries.iter().filter_map(|entry| entry.strip_prefix(root).ok());
        below.map(|entry| entry.display().to_string()).collect()
    }

    #[test]
    fn each_link_on_the_way_is_an_entry() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("v1/servers")).unwrap();
        symlink("v1", root.join("current")).unwrap();
        symlink(root.join("current"), root.join("state")).unwrap();
        assert_eq!(below(&root, &root.join("state/servers")), ["", "current", "state", "v1", "v1/servers"]);
        assert_eq!(below(&root, &root.join("v1/../v1/servers")), ["", "v1", "v1/servers"]);
        assert!(entries(&root.join("state")).contains(&root), "the folder itself is an entry of the one above");
    }

    #[test]
    fn the_first_missing_entry_and_a_circle_end_the_list() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        symlink("gone/file", root.join("dangling")).unwrap();
        symlink("circle", root.join("circle")).unwrap();
        assert_eq!(below(&root, &root.join("dangling")), ["", "dangling", "gone"]);
        assert_eq!(below(&root, &root.join("circle/file")), ["", "circle"]);
    }
}
