//! Exchanges the tree in a folder with the server's files, such that each state after a crash is known.
//!
//! An exchange looks the same before and after it, so the tree that comes in carries a marker: an empty file with the operation's
//! token in its name. Where it is says whether the exchange has happened. It exists in the phases `Exchanging` and `Undoing` only,
//! and until the tree has its own times again (`marked`).

use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use uuid::Uuid;

use super::super::FilesError;
use super::super::crash_point::{can_exchange, crash_point};
use super::super::scan::FLAGS;
use super::super::siblings::{Siblings, TREE, is_missing, sync};
use super::super::tree_clone::times;
use super::operation::{Operation, Phase, loaded, saved};

const ACTION: &str = "exchange";
/// Where the server's files are for a moment, on a file system that cannot exchange.
const MOVED: &str = "moved";

/// Makes the tree in the folder the server's files, and the server's files the tree in the folder. `during` is the phase meanwhile.
pub(super) fn bring_in(
    siblings: &Siblings,
    folder: &Path,
    operation: &mut Operation,
    during: Phase,
) -> Result<(), FilesError> {
    let (tree, data) = (folder.join(TREE), siblings.data());
    if operation.phase != during {
        let incoming = open(&tree).map_err(FilesError::disk(ACTION, &tree))?;
        let stat = rustix::fs::fstat(&incoming).map_err(FilesError::disk(ACTION, &tree))?;
        for path in [&tree, &data] {
            if has_marker(path, operation.token) {
                return Err(FilesError::rejected(ACTION, path, "it has the marker of an exchange that has not begun"));
            }
        }
        operation.times = Some(saved(&times(&stat)));
        operation.enter(during, folder)?;
    }
    exchange(siblings, folder, operation.token).map_err(FilesError::disk(ACTION, &data))
}

/// Removes the marker of the tree that has become the server's files, and gives it its times.
pub(super) fn remove_marker(siblings: &Siblings, folder: &Path, operation: &mut Operation) -> Result<(), FilesError> {
    if !operation.marked {
        return Ok(());
    }
    let data = siblings.data();
    let remove = || {
        let top = open(&data)?;
        crash_point()?;
        match rustix::fs::unlinkat(&top, marker(operation.token), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        crash_point()?;
        if let Some(times) = operation.times {
            rustix::fs::futimens(&top, &loaded(times))?;
        }
        rustix::fs::fsync(&top)
    };
    remove().map_err(FilesError::disk(ACTION, &data))?;
    operation.marked = false;
    operation.save(folder)
}

fn exchange(siblings: &Siblings, folder: &Path, token: Uuid) -> rustix::io::Result<()> {
    let (tree, moved, data) = (folder.join(TREE), folder.join(MOVED), siblings.data());
    let both = || sync(folder).and_then(|()| sync(siblings.parent()));
    if is_missing(&moved) {
        if has_marker(&data, token) {
            return both();
        }
        place_marker(open(&tree)?.as_fd(), token)?;
        crash_point()?;
        let exchanged = match can_exchange() {
            true => rustix::fs::renameat_with(CWD, &tree, CWD, &data, RenameFlags::EXCHANGE),
            false => Err(Errno::INVAL),
        };
        match exchanged {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            exchanged => return exchanged.and_then(|()| both()),
        }
        crash_point()?;
        rustix::fs::rename(&data, &moved)?;
        both()?;
    }
    complete_move(&tree, &moved, &data, &both)
}

/// The steps after the server's files were moved away. What exists says how many are done.
pub(super) fn complete_move(
    tree: &Path,
    moved: &Path,
    data: &Path,
    both: &dyn Fn() -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    if !is_missing(tree) {
        if !is_missing(data) {
            // An empty one was created because it was missing.
            crash_point()?;
            rustix::fs::rmdir(data)?;
        }
        crash_point()?;
        rustix::fs::rename(tree, data)?;
        both()?;
    }
    crash_point()?;
    rustix::fs::rename(moved, tree)?;
    both()
}

fn place_marker(tree: BorrowedFd<'_>, token: Uuid) -> rustix::io::Result<()> {
    crash_point()?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(tree, marker(token), flags, Mode::RUSR)?;
    rustix::fs::fsync(file)?;
    rustix::fs::fsync(tree)
}

fn has_marker(tree: &Path, token: Uuid) -> bool {
    open(tree).is_ok_and(|tree| rustix::fs::statat(tree, marker(token), AtFlags::SYMLINK_NOFOLLOW).is_ok())
}

fn marker(token: Uuid) -> OsString {
    format!(".alula-restore-{token}").into()
}

fn open(tree: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(tree, FLAGS | OFlags::NOFOLLOW, Mode::empty())
}

/// Gives the folder of a replacement that has happened its name, and removes what that name had.
pub(super) fn keep_former(siblings: &Siblings) -> Result<(), FilesError> {
    let (folder, former) = (siblings.staging(), siblings.former());
    let failed = |errno: Errno| FilesError::disk("rename", &former)(errno);
    siblings.discard(&former)?;
    crash_point().map_err(failed)?;
    fs::rename(&folder, &former).map_err(FilesError::disk("rename", &former))?;
    sync(siblings.parent()).map_err(failed)
}
