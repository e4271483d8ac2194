//! Project quotas of the kernel: the disk limit of a server where the file system (XFS, ext4) enforces it.
//!
//! All files of a server belong to one project, whose hard limit is the server's. A directory of a project gives it to what is made
//! in it, so the files that exist are visited once. What is on disk is what counts, and no file of the host is written:
//!
//! ```text
//! project id of {data}, inherited     the server's project, chosen once
//! trusted.alula.project of {data}     the same number, when all files below were visited; no program in a container can write it
//! quota of the project                the limit, and what is used
//! ```
//!
//! A tree that will replace a server's files has another project with the same limit, and keeps it (ADR 47).
//!
//! The id is the panel's number of the server, as on Wings, unless another server or `/etc/projid` or `/etc/projects` has it. Those
//! without a panel, and those whose number is taken, get one above 2^31, derived from their UUID.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FileType, Mode, OFlags, Stat, XattrFlags};
use rustix::io::Errno;

use super::kernel::{self, Project, ProjectQuotas};
use super::scan::{FLAGS, Visitor};
use super::siblings::{Siblings, TREE};
use super::{FilesError, Layout};
use crate::model::{Quota, ServerId};

/// The attribute of a directory whose files were all visited.
const VISITED: &CStr = c"trusted.alula.project";
/// Ids of servers without a number of a panel begin here. Those of panels are smaller.
const DERIVED: u32 = 1 << 31;
/// The end of the ids: the kernel rejects the last one.
const END: u32 = u32::MAX;
const ACTION: &str = "set the project quota of";

/// Held while an id is chosen, until it is on disk: two servers never choose the same one.
static CHOICE: Mutex<()> = Mutex::new(());

impl Layout {
    /// Whether the kernel enforces a server's disk limit, and which.
    pub fn quota(&self, id: ServerId) -> Quota {
        if !self.quotas {
            return Quota::Off;
        }
        let path = self.data(id);
        match self.open_top(id) {
            Ok(top) => observed(top.as_fd()).unwrap_or_else(|error| {
                Quota::Unavailable(format!("the quota of {} cannot be read: {error}", path.display()))
            }),
            Err(error) => Quota::Unavailable(format!("{} cannot be opened: {error}", path.display())),
        }
    }

    /// Puts all of a server's files into its project, and sets the project's limit in bytes; `None` is none. `number` is the panel's
    /// of the server; zero without a panel. May be repeated, and goes on where it ended.
    ///
    /// # Errors
    /// The file system has no project quotas, some files cannot be changed (all others are), or `cancelled` was set.
    pub fn assign_quota(
        &self,
        id: ServerId,
        number: i64,
        limit: Option<u64>,
        cancelled: &AtomicBool,
    ) -> Result<(), FilesError> {
        let path = self.data(id);
        let failed = |error: io::Error| FilesError::disk(ACTION, &path)(error);
        let top = self.open_top(id).map_err(failed)?;
        let project = self.settle_project(id, number, top.as_fd()).map_err(failed)?;
        // Before the files: a server that is full stays so.
        kernel::set_project_limit(top.as_fd(), project, limit).map_err(failed)?;
        if visited(top.as_fd()) != Some(project) {
            self.scan_data(id, cancelled, &mut Assignment { project })?;
            let number = project.to_string();
            let marked = rustix::fs::fsetxattr(&top, VISITED, number.as_bytes(), XattrFlags::empty());
            marked.map_err(FilesError::disk(ACTION, &path))?;
        }
        match observed(top.as_fd()).map_err(failed)? {
            Quota::Assigned { limit: set, .. } if set == limit => Ok(()),
            other => Err(failed(io::Error::other(format!("the kernel says {other:?} after it was set")))),
        }
    }

    /// Bytes of a server's files by the kernel's account. `None` where the kernel does not count all of them.
    pub fn quota_usage(&self, id: ServerId) -> Option<u64> {
        if !self.quotas {
            return None;
        }
        let top = self.open_top(id).ok()?;
        let project = kernel::project(top.as_fd()).ok().filter(|project| project.inherited && project.id != 0)?;
        (visited(top.as_fd()) == Some(project.id)).then_some(())?;
        Some(kernel::project_usage(top.as_fd(), project.id).ok()?.bytes)
    }

    /// Files were found that are not in the server's project: all are visited again by the next [`assign_quota`](Self::assign_quota).
    pub fn distrust_quota(&self, id: ServerId) {
        if let Ok(top) = self.open_top(id) {
            let _ = rustix::fs::fremovexattr(&top, VISITED);
        }
    }

    /// Removes the limit of a server's project. The files keep their project until they are removed.
    pub(super) fn release_quota(&self, id: ServerId) {
        let Some(top) = self.open_top(id).ok().filter(|_| self.quotas) else { return };
        if let Ok(Quota::Assigned { project, limit: Some(_) }) = observed(top.as_fd()) {
            // Nothing depends on it: the number is given to no other server while the files are there.
            let _ = kernel::set_project_limit(top.as_fd(), project, None);
        }
    }

    fn open_top(&self, id: ServerId) -> io::Result<OwnedFd> {
        Ok(rustix::fs::open(self.data(id), FLAGS, Mode::empty())?)
    }

    /// The server's project, which is on its directory afterwards.
    fn settle_project(&self, id: ServerId, number: i64, top: BorrowedFd<'_>) -> io::Result<u32> {
        let _choice = CHOICE.lock().unwrap_or_else(PoisonError::into_inner);
        let current = kernel::project(top)?;
        if current.id != 0 && visited(top) == Some(current.id) {
            return Ok(current.id);
        }
        let taken = self.taken(id);
        let free = candidates(id, number).find(|candidate| !taken.contains(candidate));
        let project = free.ok_or_else(|| io::Error::other("no project id is free"))?;
        kernel::set_project(top, Project { id: project, inherited: true })?;
        Ok(project)
    }

    /// Puts an empty directory beside a server's into a project of its own, with the limit of the server. Returns the projects of the
    /// two; `None` where the kernel does not enforce the limit of the server's files.
    pub(super) fn assign_beside(
        &self,
        id: ServerId,
        path: &Path,
        limit: Option<u64>,
    ) -> io::Result<Option<(u32, u32)>> {
        let Quota::Assigned { project: of_data, .. } = self.quota(id) else { return Ok(None) };
        let _choice = CHOICE.lock().unwrap_or_else(PoisonError::into_inner);
        let taken: Vec<_> = self.taken(id).into_iter().chain(self.projects_of(id)).collect();
        let free = candidates(id, 0).find(|candidate| !taken.contains(candidate));
        let project = free.ok_or_else(|| io::Error::other("no project id is free"))?;
        let top = rustix::fs::open(path, FLAGS | OFlags::NOFOLLOW, Mode::empty())?;
        kernel::set_project_limit(top.as_fd(), project, limit)?;
        kernel::set_project(top.as_fd(), Project { id: project, inherited: true })?;
        // What is made in it has the project, so all of its files are visited.
        rustix::fs::fsetxattr(&top, VISITED, project.to_string().as_bytes(), XattrFlags::empty())?;
        Ok(Some((of_data, project)))
    }

    /// Removes the limit of the project of a directory beside a server's, which is about to be removed.
    pub(super) fn release_beside(&self, path: &Path) {
        let Some(top) = rustix::fs::open(path, FLAGS | OFlags::NOFOLLOW, Mode::empty()).ok().filter(|_| self.quotas)
        else {
            return;
        };
        if let Ok(Quota::Assigned { project, limit: Some(_) }) = observed(top.as_fd()) {
            let _ = kernel::set_project_limit(top.as_fd(), project, None);
        }
    }

    /// The projects of a server's files and of the trees beside them.
    fn projects_of(&self, id: ServerId) -> Vec<u32> {
        let siblings = Siblings::of(self, id);
        let trees = [siblings.data(), siblings.staging().join(TREE), siblings.former().join(TREE)];
        let tops = trees.iter().filter_map(|path| rustix::fs::open(path, FLAGS, Mode::empty()).ok());
        tops.filter_map(|top| kernel::project(top.as_fd()).ok()).map(|project| project.id).collect()
    }

    /// The project ids that belong to others.
    fn taken(&self, id: ServerId) -> Vec<u32> {
        let folders = fs::read_dir(self.directories.root.join("servers")).into_iter().flatten().flatten();
        let names = folders.filter_map(|folder| folder.file_name().into_string().ok());
        let others = names.filter_map(|name| name.parse::<ServerId>().ok()).filter(|other| *other != id);
        let of_servers = others.flat_map(|other| self.projects_of(other));
        let names = fs::read_to_string("/etc/projid").unwrap_or_default();
        let paths = fs::read_to_string("/etc/projects").unwrap_or_default();
        of_servers.chain(named_projects(&names, id)).chain(projects_of_paths(&paths, &self.data(id))).collect()
    }
}

/// Ids of `/etc/projid` (`name:id`) with another name than the server's, which Wings writes there.
fn named_projects(text: &str, id: ServerId) -> Vec<u32> {
    let entries = text.lines().filter_map(|line| line.trim().split_once(':'));
    let others = entries.filter(|(name, _)| *name != id.to_string());
    others.filter_map(|(_, number)| number.trim().parse().ok()).collect()
}

/// Ids of `/etc/projects` (`id:path`) with another path than the server's.
fn projects_of_paths(text: &str, data: &Path) -> Vec<u32> {
    let entries = text.lines().filter_map(|line| line.trim().split_once(':'));
    let same = |path: &str| {
        let path = Path::new(path.trim());
        path == data || path.canonicalize().is_ok_and(|path| path == data)
    };
    let others = entries.filter(|(_, path)| !same(path));
    others.filter_map(|(number, _)| number.trim().parse().ok()).collect()
}

/// The ids that a server may get, in order.
fn candidates(id: ServerId, number: i64) -> impl Iterator<Item = u32> {
    let of_panel = u32::try_from(number).ok().filter(|number| (1..DERIVED).contains(number));
    // A UUID of version 4 begins with 32 random bits.
    let first = u32::from_str_radix(&id.simple()[..8], 16).unwrap_or_default() % (END - DERIVED);
    of_panel.into_iter().chain((0..END - DERIVED).map(move |next| DERIVED + ((first + next) % (END - DERIVED))))
}

/// The project whose visit of this directory has ended.
fn visited(top: BorrowedFd<'_>) -> Option<u32> {
    let mut value = [0_u8; 16];
    let length = rustix::fs::fgetxattr(top, VISITED, &mut value).ok()?;
    std::str::from_utf8(value.get(..length)?).ok()?.parse().ok()
}

fn observed(top: BorrowedFd<'_>) -> io::Result<Quota> {
    match kernel::project_quotas(top)? {
        ProjectQuotas::Enforced => {}
        ProjectQuotas::Counted => {
            let remedy =
                "the file system counts projects, and does not enforce their limits: mount it with the option prjquota";
            return Ok(Quota::Unavailable(remedy.into()));
        }
        ProjectQuotas::Off => {
            let remedy = "the file system of the server's files has no project quotas: use XFS or ext4 (tune2fs -O project,quota), \
                          mounted with the option prjquota";
            return Ok(Quota::Unavailable(remedy.into()));
        }
    }
    let Project { id, inherited } = kernel::project(top)?;
    if id == 0 || !inherited || visited(top) != Some(id) {
        return Ok(Quota::Unassigned);
    }
    let limit = kernel::project_usage(top, id)?.limit;
    Ok(Quota::Assigned { project: id, limit })
}

/// Puts files into a project. A directory comes before its entries, so what is made in it meanwhile has the project already.
pub(super) struct Assignment {
    pub(super) project: u32,
}

impl Visitor for Assignment {
    const ACTION: &'static str = ACTION;

    fn directory(&mut self, directory: BorrowedFd<'_>, _: &Stat) -> rustix::io::Result<()> {
        self.assign(directory, true)
    }

    fn entry(&mut self, parent: BorrowedFd<'_>, name: &CStr, kind: FileType) -> rustix::io::Result<()> {
        // Links, devices and FIFOs have no blocks that count.
        if kind != FileType::RegularFile {
            return Ok(());
        }
        // The name may refer to another file by now. `O_PATH` has no effect on a device.
        let found = rustix::fs::openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        if FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let again = format!("/proc/self/fd/{}", found.as_raw_fd());
        let file = rustix::fs::open(again, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        self.assign(file.as_fd(), false)
    }
}

impl Assignment {
    fn assign(&self, file: BorrowedFd<'_>, inherited: bool) -> rustix::io::Result<()> {
        let set = kernel::set_project(file, Project { id: self.project, inherited });
        set.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}

#[cfg(test)]
mod tests;
