//! Replaces a server's files by others, such that a crash at any moment leaves the old or the new ones, and never a mixture.
//!
//! The caller is a job that may be killed at any instruction and runs again. All functions block. Its steps, each of which may be
//! repeated:
//!
//! ```text
//! begin_replacement      an empty tree beside the server's files, or a copy of them by reflinks where the present files stay
//!   Staging::tree        filled by the caller, within the server's limit
//!   Staging::finish      owners set, flushed; from here on `begin_replacement` is not needed again
//! exchange_replacement   with the server stopped: the tree becomes the server's files, the former ones are kept
//! undo_replacement       the former files are the server's again; an exchange brings the restored ones back
//! remove_former          the former files are given up
//! ```
//!
//! After a restart [`replacement`](Layout::replacement) returns how far an operation is: before `Ready` the job begins again (or
//! reopens the tree to continue it), from `Ready` on it calls `exchange_replacement`. Before anything else uses the server's files
//! after a restart, call [`complete_replacement`](Layout::complete_replacement). When a job is over, and at boot,
//! [`sweep_replacement`](Layout::sweep_replacement) removes what no job refers to. Only one job works on the files of a server at a
//! time, and none of its containers runs while they are exchanged. Afterwards the account of the server has to be measured again
//! ([`DiskAccounts::not_measured`](super::DiskAccounts::not_measured)).
//!
//! What is on disk: `siblings.rs` has the folders, `replacement/operation.rs` the phases. ADR 47 has the reasons.

mod error;
mod journal;
mod merge;
mod operation;
mod staging;
mod swap;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use uuid::Uuid;

use super::siblings::{Siblings, TREE, is_missing, remove_folder};
use super::{FilesError, Layout};
use crate::model::{Incoming, ServerId};

pub use error::ReplacementError;
use merge::Merge;
use operation::Operation;
pub use operation::{Phase, Way};
pub use staging::Staging;

/// What happens to the files that the server has, and that the tree will not replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Present {
    /// They go: the server has exactly the files of the tree.
    Discard,
    /// They stay: the tree is put over them.
    Keep,
}

/// A replacement that is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Replacement {
    pub token: Uuid,
    pub phase: Phase,
    pub way: Way,
}

impl Layout {
    /// Begins a replacement, with an empty tree or a copy of the present files. The token is a random id that users do not see. What an earlier attempt has left is removed; a
    /// replacement that was happening is completed.
    ///
    /// # Errors
    /// The directory of the server's files is missing or a mount, something cannot be created, or `cancelled` was set.
    pub fn begin_replacement(
        &self,
        id: ServerId,
        token: Uuid,
        present: Present,
        limit: Option<u64>,
        cancelled: &AtomicBool,
    ) -> Result<Staging, ReplacementError> {
        self.complete_replacement(id)?;
        let siblings = Siblings::of(self, id);
        let data = siblings.data();
        if siblings.is_mount().map_err(FilesError::disk("open", &data))? {
            return Err(ReplacementError::Mounted { data });
        }
        self.discard(&siblings, &siblings.staging())?;
        Staging::create(self, id, token, present, limit, cancelled)
    }

    /// Opens the tree of a replacement that is being filled, with what is in it. `None` if there is none of this token in that phase.
    /// Files that were being written have temporary names ([`is_temporary`](super::tree::is_temporary)).
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn reopen_replacement(&self, id: ServerId, token: Uuid) -> Result<Option<Staging>, ReplacementError> {
        let folder = Siblings::of(self, id).staging();
        let operation = Operation::load(&folder)?;
        let filling = operation.filter(|operation| operation.token == token && operation.phase == Phase::Filling);
        filling.map(|operation| Staging::open(self, folder, operation)).transpose()
    }

    /// The replacement with this token, if it is on disk.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn replacement(&self, id: ServerId, token: Uuid) -> Result<Option<Replacement>, FilesError> {
        let found = find(&Siblings::of(self, id), token)?;
        Ok(found.map(|(_, operation)| operation.summary()))
    }

    /// The replacement whose former files are kept, or which was undone.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn former_files(&self, id: ServerId) -> Result<Option<Replacement>, FilesError> {
        Ok(Operation::load(&Siblings::of(self, id).former())?.map(|operation| operation.summary()))
    }

    /// Makes a finished tree the server's files. Completes what an earlier call has begun, and does nothing if it is done. After
    /// [`undo_replacement`](Self::undo_replacement) the restored files come back.
    ///
    /// # Errors
    /// No tree of this token is ready, the merged files exceed the limit (nothing is changed then), or the disk fails: call it again.
    pub fn exchange_replacement(&self, id: ServerId, token: Uuid) -> Result<(), ReplacementError> {
        let siblings = Siblings::of(self, id);
        let found = find(&siblings, token)?.filter(|(_, operation)| operation.phase >= Phase::Ready);
        let Some((folder, mut operation)) = found else { return Err(ReplacementError::NotReady { token }) };
        if operation.phase == Phase::Undoing {
            self.turn_back(&siblings, &folder, &mut operation)?;
        }
        self.turn_forward(&siblings, &folder, &mut operation)
    }

    /// Makes the former files those of the server again, and keeps the restored ones. Completes what an earlier call has begun, and
    /// does nothing if it is done.
    ///
    /// # Errors
    /// Nothing is kept of this token, or the disk fails: call it again.
    pub fn undo_replacement(&self, id: ServerId, token: Uuid) -> Result<(), ReplacementError> {
        let siblings = Siblings::of(self, id);
        let found = find(&siblings, token)?.filter(|(_, operation)| operation.phase >= Phase::Exchanging);
        let Some((mut folder, mut operation)) = found else { return Err(ReplacementError::NoFormer { token }) };
        if operation.phase <= Phase::Exchanged {
            self.turn_forward(&siblings, &folder, &mut operation)?;
            folder = siblings.former();
        }
        self.turn_back(&siblings, &folder, &mut operation)
    }

    /// Completes a replacement, or its undoing, that a crash has interrupted. Returns whether there was one.
    ///
    /// # Errors
    /// The disk fails.
    pub fn complete_replacement(&self, id: ServerId) -> Result<bool, ReplacementError> {
        let siblings = Siblings::of(self, id);
        let mut completed = false;
        for folder in [siblings.staging(), siblings.former()] {
            let Some(mut operation) = Operation::load(&folder)? else { continue };
            if !operation.is_interrupted(folder == siblings.former()) {
                continue;
            }
            match operation.phase {
                Phase::Undoing | Phase::Undone => self.turn_back(&siblings, &folder, &mut operation)?,
                _ => self.turn_forward(&siblings, &folder, &mut operation)?,
            }
            completed = true;
        }
        Ok(completed)
    }

    /// Whether a crash has interrupted a replacement: until it is completed the server's files may be missing.
    pub fn is_replacement_interrupted(&self, id: ServerId) -> bool {
        let siblings = Siblings::of(self, id);
        [(siblings.staging(), false), (siblings.former(), true)].into_iter().any(|(folder, kept)| {
            // One that cannot be read is an error of what completes it.
            Operation::load(&folder).map_or(true, |found| found.is_some_and(|found| found.is_interrupted(kept)))
        })
    }

    /// Whether [`sweep_replacement`](Self::sweep_replacement) has something to do.
    pub fn is_replacement_left(&self, id: ServerId, keep: Option<Uuid>) -> bool {
        let siblings = Siblings::of(self, id);
        let staging = siblings.staging();
        let kept = || Operation::load(&staging).is_ok_and(|found| found.is_some_and(|found| Some(found.token) == keep));
        !is_missing(&siblings.removing()) || !is_missing(&staging) && !kept() || self.is_replacement_interrupted(id)
    }

    /// Removes the files that were replaced, or those of a replacement that was undone.
    ///
    /// # Errors
    /// Something cannot be removed, or a replacement that was happening cannot be completed.
    pub fn remove_former(&self, id: ServerId) -> Result<(), ReplacementError> {
        self.complete_replacement(id)?;
        let siblings = Siblings::of(self, id);
        Ok(self.discard(&siblings, &siblings.former())?)
    }

    /// Removes what killed jobs have left: half removed folders, and the tree of a replacement with another token than `keep`. One
    /// that was happening is completed. Former files stay.
    ///
    /// # Errors
    /// Something cannot be removed or completed.
    pub fn sweep_replacement(&self, id: ServerId, keep: Option<Uuid>) -> Result<(), ReplacementError> {
        self.complete_replacement(id)?;
        let siblings = Siblings::of(self, id);
        remove_folder(&siblings.removing())?;
        let operation = Operation::load(&siblings.staging())?;
        if operation.is_none_or(|operation| Some(operation.token) != keep) {
            self.discard(&siblings, &siblings.staging())?;
        }
        Ok(())
    }

    /// Removes what has come of a server whose transfer has failed: the server's files are as they were before. Those of storage that
    /// nodes share are not touched.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn discard_incoming(&self, id: ServerId, token: Uuid, incoming: &Incoming) -> Result<(), ReplacementError> {
        for backup in &incoming.backups {
            self.remove_backup(id, *backup)?;
        }
        if incoming.shared {
            return Ok(());
        }
        self.remove_unfinished_backups(id)?;
        self.sweep_replacement(id, None)?;
        match self.undo_replacement(id, token) {
            Err(ReplacementError::NoFormer { .. }) => Ok(()),
            undone => {
                undone?;
                self.remove_former(id)
            }
        }
    }

    /// Whether so many bytes fit beside a server's files.
    ///
    /// # Errors
    /// [`ReplacementError::NoSpace`] if not.
    pub fn check_space_beside(&self, id: ServerId, needed: u64) -> Result<(), ReplacementError> {
        let siblings = Siblings::of(self, id);
        let found = rustix::fs::statvfs(siblings.parent());
        let found = found.map_err(FilesError::disk("read the space of", siblings.parent()))?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        match needed > free {
            true => Err(ReplacementError::NoSpace { data: siblings.data(), needed, free }),
            false => Ok(()),
        }
    }

    /// Brings an operation from `Ready`, or from `Undone`, to `Exchanged`.
    fn turn_forward(
        &self,
        siblings: &Siblings,
        folder: &Path,
        operation: &mut Operation,
    ) -> Result<(), ReplacementError> {
        if operation.phase != Phase::Exchanged {
            match operation.way {
                Way::Exchange => {
                    swap::bring_in(siblings, folder, operation, Phase::Exchanging)?;
                    operation.marked = true;
                }
                Way::Merge => self.merge(siblings, folder, operation)?,
            }
            operation.enter(Phase::Exchanged, folder)?;
        }
        if folder == siblings.staging() {
            self.release_beside(&siblings.former().join(TREE));
            swap::keep_former(siblings)?;
        }
        Ok(swap::remove_marker(siblings, &siblings.former(), operation)?)
    }

    /// Brings an operation from `Exchanged` to `Undone`. Its folder is that of former files.
    fn turn_back(&self, siblings: &Siblings, folder: &Path, operation: &mut Operation) -> Result<(), ReplacementError> {
        if operation.phase != Phase::Undone {
            match operation.way {
                Way::Exchange => {
                    swap::bring_in(siblings, folder, operation, Phase::Undoing)?;
                    operation.marked = true;
                }
                Way::Merge => {
                    operation.enter(Phase::Undoing, folder)?;
                    let merge = Merge::open(&siblings.data(), folder, operation)?;
                    merge.limit(None)?;
                    merge.undo(&journal::read(folder)?)?;
                    merge.limit(operation.limit)?;
                }
            }
            operation.enter(Phase::Undone, folder)?;
        }
        Ok(swap::remove_marker(siblings, folder, operation)?)
    }

    fn merge(&self, siblings: &Siblings, folder: &Path, operation: &mut Operation) -> Result<(), ReplacementError> {
        let merge = Merge::open(&siblings.data(), folder, operation)?;
        if operation.phase != Phase::Exchanging {
            let staging = Staging::open(self, folder.to_owned(), operation.clone())?;
            let (journal, used) = merge.plan(staging.tree(), operation)?;
            if let Some(limit) = operation.limit.filter(|limit| used > *limit) {
                return Err(ReplacementError::OverLimit { used, limit });
            }
            journal::write(folder, &journal)?;
            operation.enter(Phase::Exchanging, folder)?;
        }
        merge.limit(None)?;
        merge.execute(&journal::read(folder)?)?;
        Ok(merge.limit(operation.limit)?)
    }

    fn discard(&self, siblings: &Siblings, folder: &Path) -> Result<(), FilesError> {
        self.release_beside(&folder.join(TREE));
        siblings.discard(folder)
    }
}

impl Operation {
    fn summary(&self) -> Replacement {
        Replacement { token: self.token, phase: self.phase, way: self.way }
    }
}

/// The replacement with this token, and its folder.
fn find(siblings: &Siblings, token: Uuid) -> Result<Option<(PathBuf, Operation)>, FilesError> {
    for folder in [siblings.staging(), siblings.former()] {
        if let Some(operation) = Operation::load(&folder)?.filter(|operation| operation.token == token) {
            return Ok(Some((folder, operation)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
