//! The identity of the node, in `{root}/.node`.
//!
//! The file names the path, the device and the inode of its folder. A folder for which both the path and the directory differ is a
//! copy, and gets an identity of its own: the original may run on the same engine. A folder that was moved, or restored in its place,
//! keeps its identity.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::atomic::{self, AtomicError};
use crate::files::directory_id;
use crate::model::{DigestKey, DirectoryId, NodeIdentity, OtherNode};

/// Name of the file in the state folder.
pub const NODE_FILE: &str = ".node";

/// The content of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeFile {
    id: String,
    key: DigestKey,
    path: String,
    directory: Option<DirectoryId>,
}

/// An identity, and where it comes from.
#[derive(Debug)]
pub struct Settled {
    /// The identity.
    pub identity: NodeIdentity,
    /// The node whose folder was copied.
    pub copy_of: Option<OtherNode>,
    /// The file was damaged, so the identity is a new one.
    pub damaged: bool,
    /// It differs from what is in the file.
    changed: bool,
}

/// The identity of the node with this state folder, which has the file afterwards.
///
/// # Errors
/// The file cannot be read or written.
pub fn settle(root: &Path) -> Result<Settled, AtomicError> {
    let settled = read(root)?;
    if settled.changed {
        let NodeIdentity { id, root: path, key } = settled.identity.clone();
        let file = NodeFile { id, key, path, directory: directory_id(root) };
        let text = serde_json::to_vec(&file).map_err(|error| at("encode", root)(io::Error::other(error)))?;
        atomic::write_file(&root.join(NODE_FILE), &text, 0o600)?;
    }
    Ok(settled)
}

/// The same without writing the file, for commands that run beside the daemon.
///
/// # Errors
/// The file cannot be read.
pub fn read(root: &Path) -> Result<Settled, AtomicError> {
    let text = match std::fs::read(root.join(NODE_FILE)) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(at("read", root)(error)),
    };
    let found: Option<NodeFile> = text.as_ref().and_then(|text| serde_json::from_slice(text).ok());
    let found = found.filter(|file| !file.id.is_empty());
    let damaged = text.is_some() && found.is_none();
    let (path, directory) = (root.display().to_string(), directory_id(root));
    let identity = |id, key| NodeIdentity { id, root: path.clone(), key };
    let random = || uuid::Uuid::new_v4().to_string();
    let new = || identity(random(), DigestKey::new(random() + &random()));
    Ok(match found {
        None => Settled { identity: new(), copy_of: None, damaged, changed: true },
        Some(file) if file.path != path && file.directory != directory => {
            let original = OtherNode { id: file.id, root: file.path };
            Settled { identity: new(), copy_of: Some(original), damaged, changed: true }
        }
        Some(file) => {
            let changed = file.path != path || file.directory != directory;
            Settled { identity: identity(file.id, file.key), copy_of: None, damaged, changed }
        }
    })
}

fn at(action: &'static str, root: &Path) -> impl Fn(io::Error) -> AtomicError {
    let path = root.join(NODE_FILE);
    move |error| AtomicError::at(action, &path)(error)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    fn folder(parent: &Path, name: &str) -> PathBuf {
        let path = parent.join(name);
        fs::create_dir(&path).unwrap();
        path
    }

    fn copy(from: &Path, to: &Path) {
        fs::copy(from.join(NODE_FILE), to.join(NODE_FILE)).unwrap();
    }

    fn id(root: &Path) -> String {
        settle(root).unwrap().identity.id
    }

    #[test]
    fn a_folder_keeps_its_identity_when_it_is_moved_or_restored() {
        let parent = tempfile::tempdir().unwrap();
        let root = folder(parent.path(), "state");
        let first = settle(&root).unwrap().identity;
        assert_eq!(settle(&root).unwrap().identity, first);
        let file = root.join(NODE_FILE);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "it holds a key");
        let moved = parent.path().join("moved");
        fs::rename(&root, &moved).unwrap();
        let found = settle(&moved).unwrap().identity;
        assert_eq!((found.id, found.key), (first.id.clone(), first.key.clone()));
        assert_eq!(found.root, moved.display().to_string());
        // A backup in the place of the folder, which it does not replace until then.
        let backup = folder(parent.path(), "backup");
        copy(&moved, &backup);
        fs::rename(&moved, parent.path().join("old")).unwrap();
        fs::rename(&backup, &moved).unwrap();
        assert_eq!(id(&moved), first.id);
    }

    #[test]
    fn a_copy_has_an_identity_of_its_own() {
        let parent = tempfile::tempdir().unwrap();
        let (root, other) = (folder(parent.path(), "state"), folder(parent.path(), "copy"));
        let first = settle(&root).unwrap().identity;
        copy(&root, &other);
        let copied = settle(&other).unwrap();
        let original = copied.copy_of.unwrap();
        assert_eq!((&original.id, original.root), (&first.id, root.display().to_string()));
        assert_ne!(copied.identity.id, first.id);
        assert_ne!(copied.identity.key, first.key);
        let again = settle(&other).unwrap();
        assert_eq!((again.identity.id, again.copy_of), (copied.identity.id, None));
        assert_eq!(id(&root), first.id);
    }

    #[test]
    fn a_link_to_a_folder_is_its_path() {
        let parent = tempfile::tempdir().unwrap();
        let (small, large) = (folder(parent.path(), "small"), folder(parent.path(), "large"));
        let link = parent.path().join("state");
        std::os::unix::fs::symlink(&small, &link).unwrap();
        let first = id(&link);
        copy(&small, &large);
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&large, &link).unwrap();
        assert_eq!(id(&link), first, "the folder went to another disk");
    }

    #[test]
    fn a_missing_or_damaged_file_makes_a_new_identity_and_reading_writes_none() {
        let parent = tempfile::tempdir().unwrap();
        let root = folder(parent.path(), "state");
        read(&root).unwrap();
        assert!(!root.join(NODE_FILE).exists());
        for text in ["", "{}", "garbage", r#"{"id":"","key":"k","path":"/"}"#] {
            fs::write(root.join(NODE_FILE), text).unwrap();
            assert!(settle(&root).unwrap().damaged, "{text}");
            assert!(!settle(&root).unwrap().damaged);
        }
    }
}
