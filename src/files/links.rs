//! The state folder's names for what is really elsewhere.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use super::FilesError;

/// Whether `at` answers for `target`: it is that path, a link to it, or a file or directory of its own, which is not
/// ours to replace.
pub(super) fn is_answered(root: &Path, at: &Path, target: &Path) -> bool {
    if at == target {
        return true;
    }
    match fs::read_link(at) {
        Ok(text) => text == link_text(root, at, target),
        // It is there and no link.
        Err(error) => error.kind() == io::ErrorKind::InvalidInput,
    }
}

/// Makes `at` answer for `target`, which need not exist yet. A link that leads elsewhere is replaced.
///
/// # Errors
/// The link cannot be made.
pub(super) fn ensure(root: &Path, at: &Path, target: &Path) -> Result<(), FilesError> {
    if is_answered(root, at, target) {
        return Ok(());
    }
    let text = link_text(root, at, target);
    let made = match symlink(&text, at) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => replace(&text, at),
        other => other,
    };
    made.map_err(FilesError::disk("make the link", at))
}

/// Puts a link in the place of another.
fn replace(text: &Path, at: &Path) -> io::Result<()> {
    let name = at.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let temporary = at.with_file_name(format!(".{}.link", name.to_string_lossy()));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => symlink(text, &temporary)?,
    }
    fs::rename(&temporary, at)
}

/// What a link at `at` to `target` says: a relative path where both are in the state folder, which may then be moved
/// as a whole, or be mounted elsewhere; an absolute one otherwise.
fn link_text(root: &Path, at: &Path, target: &Path) -> PathBuf {
    let inside = |path: &Path| Some(path.strip_prefix(root).ok()?.to_owned());
    let (Some(folder), Some(goal)) = (at.parent().and_then(inside), inside(target)) else {
        return target.to_owned();
    };
    // `..` leads out of what a link leads to, not back to where the link is.
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
