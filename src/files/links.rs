//! Links in the state folder to files in other folders.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use super::FilesError;

/// Whether `at` needs no change: it is the path `target`, a link to it, or a file or directory, which is never replaced.
pub(super) fn is_valid(root: &Path, at: &Path, target: &Path) -> bool {
    if at == target {
        return true;
    }
    match fs::read_link(at) {
        Ok(text) => text == link_text(root, at, target),
        // It exists and is not a link.
        Err(error) => error.kind() == io::ErrorKind::InvalidInput,
    }
}

/// Makes `at` a link to `target`, which need not exist yet. A link to another path is replaced.
///
/// # Errors
/// The link cannot be created.
pub(super) fn ensure(root: &Path, at: &Path, target: &Path) -> Result<(), FilesError> {
    if is_valid(root, at, target) {
        return Ok(());
    }
    let text = link_text(root, at, target);
    let made = match symlink(&text, at) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => replace(&text, at),
        other => other,
    };
    made.map_err(FilesError::disk("create the link", at))
}

/// Replaces a link atomically.
fn replace(text: &Path, at: &Path) -> io::Result<()> {
    let name = at.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let temporary = at.with_file_name(format!(".{}.link", name.to_string_lossy()));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => symlink(text, &temporary)?,
    }
    fs::rename(&temporary, at)
}

/// The content of a link at `at` to `target`. It is a relative path if both are in the state folder, so that the folder can be
/// moved, else an absolute one.
fn link_text(root: &Path, at: &Path, target: &Path) -> PathBuf {
    let inside = |path: &Path| Some(path.strip_prefix(root).ok()?.to_owned());
    let (Some(folder), Some(goal)) = (at.parent().and_then(inside), inside(target)) else {
        return target.to_owned();
    };
    // In a folder that is reached through a link, `..` is the parent of the link's target.
    let mut ancestor = root.to_owned();
    for name in &folder {
        ancestor.push(name);
        if ancestor.is_symlink() {
            return target.to_owned();
        }
    }
    let up = folder.components().map(|_| Component::ParentDir);
    up.collect::<PathBuf>().join(goal)
}
