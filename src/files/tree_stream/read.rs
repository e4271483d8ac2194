//! The side that writes the files. What arrives is not trusted: every path stays below the one that is written.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use super::super::account::DiskAccount;
use super::super::denylist::Denylist;
use super::super::tree::Root;
use super::super::tree::{NewFile, Recursive, Tree, TreeError};
use super::super::user_path::UserPath;
use super::{Copied, Head, StreamError, read_block};

/// Receives what [`send`](super::send) sends, as `to`. Files that exist are replaced, directories are kept with what is in them.
/// `progress` is called for each block and entry.
///
/// # Errors
/// Something is in the way, does not fit, or cannot be written; the other side has failed or gone, or sends something else.
pub fn receive(
    tree: &Tree,
    to: &UserPath,
    mut source: impl Read,
    progress: impl FnMut(&Copied),
) -> Result<Copied, StreamError> {
    let first = read_head(&mut source, &mut Vec::new())?;
    receive_from(first, tree, to, source, progress)
}

/// As [`receive`], to a path of this host, for its own user. Nothing is written outside of it, whatever links are received.
///
/// # Errors
/// The same; or the folder that is to contain it does not exist.
pub fn receive_locally(
    target: &Path,
    mut source: impl Read,
    progress: impl FnMut(&Copied),
) -> Result<Copied, StreamError> {
    let first = read_head(&mut source, &mut Vec::new())?;
    let name = target.file_name().map(OsStr::to_owned).unwrap_or_default();
    let (root, to) = match (&first, target.parent()) {
        (Head::Directory { .. }, _) | (_, None) => {
            let made = std::fs::create_dir(target).or_else(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => Ok(()),
                _ => Err(error),
            });
            made.map_err(StreamError::local(target))?;
            (target, UserPath::root())
        }
        (_, Some(parent)) => {
            (if parent.as_os_str().is_empty() { Path::new(".") } else { parent }, UserPath::root().child(&name))
        }
    };
    receive_from(first, &local_tree(root)?, &to, source, progress)
}

/// The files below a folder of this host, for its own user and without a limit.
///
/// # Errors
/// It is no folder, or cannot be read.
pub fn local_tree(folder: &Path) -> Result<Tree, StreamError> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let root = Root::open(folder, uid, gid).map_err(StreamError::local(folder))?;
    Ok(Tree::new(root, Arc::new(Denylist::default()), DiskAccount::unlimited()))
}

fn receive_from(
    first: Head,
    tree: &Tree,
    to: &UserPath,
    mut source: impl Read,
    progress: impl FnMut(&Copied),
) -> Result<Copied, StreamError> {
    let copied = Copied::default();
    let mut receiver = Receiver { tree, to, source: &mut source, progress, copied, block: Vec::new() };
    let mut next = first;
    loop {
        match next {
            Head::End { skipped } => {
                receiver.copied.skipped = skipped;
                return Ok(receiver.copied);
            }
            Head::Error { message } => return Err(StreamError::Remote(message)),
            head => receiver.entry(head)?,
        }
        (receiver.progress)(&receiver.copied);
        next = read_head(receiver.source, &mut receiver.block)?;
    }
}

fn read_head(source: &mut impl Read, block: &mut Vec<u8>) -> Result<Head, StreamError> {
    read_block(source, block)?;
    serde_json::from_slice(block).map_err(|_| StreamError::Invalid("the head of an entry is not understood"))
}

struct Receiver<'a, R, P> {
    tree: &'a Tree,
    to: &'a UserPath,
    source: &'a mut R,
    progress: P,
    copied: Copied,
    block: Vec<u8>,
}

impl<R: Read, P: FnMut(&Copied)> Receiver<'_, R, P> {
    fn path(&self, text: &OsStr) -> Result<UserPath, StreamError> {
        if text.is_empty() {
            return Ok(self.to.clone());
        }
        let below = UserPath::parse(text).map_err(|_| StreamError::Invalid("a path leads elsewhere"))?;
        self.to.join_clamped(below.as_path().as_os_str()).map_err(|_| StreamError::Invalid("a path is too long"))
    }

    fn entry(&mut self, head: Head) -> Result<(), StreamError> {
        match head {
            Head::Directory { path, mode } => {
                let path = self.path(&path.into_os()?)?;
                let made = path.is_root() || self.tree.create_directory(&path, true, mode | 0o700)?;
                self.copied.directories += u64::from(made);
            }
            Head::Link { path, target } => {
                let (path, target) = (self.path(&path.into_os()?)?, target.into_os()?);
                match self.tree.symlink(&target, &path) {
                    Err(TreeError::Exists(_)) => {
                        self.tree.remove(&path, Recursive::No, &AtomicBool::new(false))?;
                        self.tree.symlink(&target, &path)?;
                    }
                    made => made?,
                }
                self.copied.links += 1;
            }
            Head::File { path, mode, size, seconds, nanoseconds } => {
                let path = self.path(&path.into_os()?)?;
                let modified = SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds.min(999_999_999)));
                self.file(&path, mode, size, modified)?;
            }
            Head::End { .. } | Head::Error { .. } => {}
        }
        Ok(())
    }

    fn file(&mut self, path: &UserPath, mode: u32, size: u64, modified: Option<SystemTime>) -> Result<(), StreamError> {
        let new = NewFile { mode: mode & 0o777, keep_mode: false, size: Some(size) };
        let mut file = self.tree.create(path, new)?;
        if let Some(modified) = modified {
            file.set_mtime(modified);
        }
        loop {
            // An error of the other side comes instead of a block, and its head follows.
            let length = match read_block(self.source, &mut self.block) {
                Err(StreamError::Invalid(_)) => return Ok(()),
                length => length?,
            };
            if length == 0 {
                break;
            }
            file.write_all(&self.block).map_err(TreeError::io("write", path))?;
            self.copied.bytes += length as u64;
            (self.progress)(&self.copied);
        }
        file.commit()?;
        self.copied.files += 1;
        Ok(())
    }
}
