//! Moves a staged tree into the server's files, file by file, where the file system has no reflinks.
//!
//! The journal names each change before the first one is made. A staged file that is there is still to be moved, and one that is not
//! was moved, so the changes may be repeated from the first. A file replaces another one by a rename, so each name has the old or the
//! new file; the old one has a second name in `overwritten/` before that. Undoing moves everything back, in the reverse order.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::super::crash_point::crash_point;
use super::super::quota::Assignment;
use super::super::scan::{FLAGS, Visitor, scan};
use super::super::siblings::{TREE, make_folder};
use super::super::tree::location::{Follow, Location, Method, resolve};
use super::super::tree::{Tree, TreeError, Visit, WalkEntry};
use super::super::tree_clone::times;
use super::super::usage::usage;
use super::super::user_path::UserPath;
use super::super::{FilesError, kernel};
use super::error::ReplacementError;
use super::journal::{Change, DirectoryState, Journal};
use super::operation::{Operation, loaded, saved};

const ACTION: &str = "merge";
const OVERWRITTEN: &str = "overwritten";
static NEVER: AtomicBool = AtomicBool::new(false);

/// The open directories of a merge.
pub(super) struct Merge {
    data: Arc<OwnedFd>,
    data_path: PathBuf,
    tree: Arc<OwnedFd>,
    tree_path: PathBuf,
    overwritten: Arc<OwnedFd>,
    overwritten_path: PathBuf,
    projects: Option<(u32, u32)>,
}

impl Merge {
    pub(super) fn open(data: &Path, folder: &Path, operation: &Operation) -> Result<Self, FilesError> {
        let (tree, overwritten) = (folder.join(TREE), folder.join(OVERWRITTEN));
        if !overwritten.exists() {
            make_folder(&overwritten)?;
        }
        let open = |path: &Path| {
            let opened = rustix::fs::open(path, FLAGS | OFlags::NOFOLLOW, Mode::empty());
            opened.map_err(FilesError::disk(ACTION, path))
        };
        Ok(Self {
            data: Arc::new(open(data)?),
            data_path: data.to_owned(),
            tree: Arc::new(open(&tree)?),
            tree_path: tree,
            overwritten: Arc::new(open(&overwritten)?),
            overwritten_path: overwritten,
            projects: operation.projects,
        })
    }

    /// What is to be changed, and the bytes that the server's files will have.
    pub(super) fn plan(&self, staged: &Tree, operation: &Operation) -> Result<(Journal, u64), ReplacementError> {
        let mut journal = vec![(self.keep(&UserPath::root(), operation)?, UserPath::root())];
        let (mut replaced, mut failure) = (0, None);
        staged.walk(&UserPath::root(), &NEVER, &mut |entry: WalkEntry<'_>| match self.change(
            &entry,
            operation,
            &mut replaced,
        ) {
            Ok(change) => {
                journal.push((change, entry.path));
                if matches!(change, Change::Keep { .. }) { Visit::Enter } else { Visit::Skip }
            }
            Err(error) => {
                failure = Some(error);
                Visit::Stop
            }
        })?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        let present = usage(&self.data_path, &NEVER)?.saturating_sub(replaced);
        Ok((journal, present + usage(&self.tree_path, &NEVER)?))
    }

    fn change(
        &self,
        staged: &WalkEntry<'_>,
        operation: &Operation,
        replaced: &mut u64,
    ) -> Result<Change, ReplacementError> {
        let Some((_, present)) = find(&self.data, &staged.path)? else { return Ok(Change::Add) };
        let is_directory = is_directory(&present);
        if is_directory && staged.entry.is_directory() {
            return Ok(self.keep(&staged.path, operation)?);
        }
        if is_directory {
            *replaced += usage(&self.data_path.join(staged.path.as_path()), &NEVER)?;
        } else if FileType::from_raw_mode(present.st_mode) == FileType::RegularFile && present.st_nlink == 1 {
            *replaced += u64::try_from(present.st_size).unwrap_or(0);
        }
        Ok(Change::Replace)
    }

    /// A directory that nothing has set the time of has one after the beginning: it was created for what is in it only.
    fn keep(&self, path: &UserPath, operation: &Operation) -> Result<Change, TreeError> {
        let missing = || TreeError::NotFound(path.clone());
        let (_, before) = find(&self.data, path)?.ok_or_else(missing)?;
        let (_, staged) = find(&self.tree, path)?.ok_or_else(missing)?;
        let state = |stat: &Stat| DirectoryState { mode: stat.st_mode & 0o7777, times: saved(&times(stat)) };
        let after = Some(state(&staged)).filter(|state| state.times.1 < operation.begun && !path.is_root());
        Ok(Change::Keep { before: state(&before), after })
    }

    /// Makes the changes that are not made yet.
    pub(super) fn execute(&self, journal: &Journal) -> Result<(), TreeError> {
        for (number, (change, path)) in journal.iter().enumerate() {
            let Some((staged, stat)) = find(&self.tree, path)? else { continue };
            match change {
                Change::Keep { .. } => continue,
                Change::Add => {}
                Change::Replace => self.keep_overwritten(path, number, &stat)?,
            }
            let target = resolve(&self.data, path, Follow::No, Method::of_this_kernel())?;
            self.assign(&staged, &stat, &self.tree_path, self.projects.map(|(data, _)| data))?;
            rename(&staged, &target, path)?;
        }
        // The changes have changed the times of directories, so these come last.
        for (change, path) in journal.iter().rev() {
            if let Change::Keep { after: Some(after), .. } = change {
                set_directory(&self.data, path, after)?;
            }
        }
        self.sync()
    }

    /// Gives a present file a second name, or moves it where that is not possible.
    fn keep_overwritten(&self, path: &UserPath, number: usize, staged: &Stat) -> Result<(), TreeError> {
        let error = |errno| TreeError::system(ACTION, path)(errno);
        let name = numbered(number);
        if find(&self.overwritten, &name)?.is_some() {
            return Ok(());
        }
        let Some((present, stat)) = find(&self.data, path)? else { return Ok(()) };
        crash_point().map_err(error)?;
        let atomic = !is_directory(&stat) && !is_directory(staged);
        let (from, kept) = (present.parent(), resolve(&self.overwritten, &name, Follow::No, Method::of_this_kernel())?);
        if !(atomic && rustix::fs::linkat(from, present.name(), kept.parent(), kept.name(), AtFlags::empty()).is_ok()) {
            rename(&present, &kept, path)?;
        }
        self.assign(&kept, &stat, &self.overwritten_path, self.projects.map(|(_, staging)| staging))
    }

    /// Puts back what was there before the merge, and what is there now into the staging tree.
    pub(super) fn undo(&self, journal: &Journal) -> Result<(), TreeError> {
        for (number, (change, path)) in journal.iter().enumerate().rev() {
            match change {
                Change::Keep { .. } => {}
                Change::Add => self.take_back(path)?,
                Change::Replace => self.put_back(path, number)?,
            }
        }
        for (change, path) in journal.iter().rev() {
            if let Change::Keep { before, after } = change {
                set_directory(&self.data, path, before)?;
                // For a merge that is made again.
                after.as_ref().map_or(Ok(()), |after| set_directory(&self.tree, path, after))?;
            }
        }
        self.sync()
    }

    /// Moves what the merge has put somewhere into the staging tree again.
    fn take_back(&self, path: &UserPath) -> Result<(), TreeError> {
        if find(&self.tree, path)?.is_some() {
            return Ok(());
        }
        let Some((present, stat)) = find(&self.data, path)? else { return Ok(()) };
        let staged = resolve(&self.tree, path, Follow::No, Method::of_this_kernel())?;
        self.assign(&present, &stat, &self.data_path, self.projects.map(|(_, staging)| staging))?;
        rename(&present, &staged, path)
    }

    /// If nothing was kept, it was put back already.
    fn put_back(&self, path: &UserPath, number: usize) -> Result<(), TreeError> {
        let Some((kept, stat)) = find(&self.overwritten, &numbered(number))? else { return Ok(()) };
        self.take_back(path)?;
        self.assign(&kept, &stat, &self.overwritten_path, self.projects.map(|(data, _)| data))?;
        let target = match resolve(&self.data, path, Follow::No, Method::of_this_kernel()) {
            // A directory on the way was removed since.
            Err(TreeError::NotFound(_)) => self.with_parents(path)?,
            found => found?,
        };
        rename(&kept, &target, path)
    }

    fn with_parents(&self, path: &UserPath) -> Result<Location, TreeError> {
        let mut below = UserPath::root();
        for name in path.parent().unwrap_or_else(UserPath::root).as_path() {
            below = below.child(name);
            let location = resolve(&self.data, &below, Follow::No, Method::of_this_kernel())?;
            match rustix::fs::mkdirat(location.parent(), location.name(), Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(TreeError::system(ACTION, &below)(errno)),
            }
        }
        resolve(&self.data, path, Follow::No, Method::of_this_kernel())
    }

    /// Puts what is at a location, and below, into a project: the kernel moves nothing into a directory of another one.
    fn assign(&self, at: &Location, stat: &Stat, top: &Path, project: Option<u32>) -> Result<(), TreeError> {
        let Some(project) = project else { return Ok(()) };
        let mut assignment = Assignment { project };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => scan(&top.join(at.path().as_path()), &NEVER, &mut assignment)
                .map_err(|error| TreeError::io(ACTION, at.path())(std::io::Error::other(error))),
            kind => {
                let name = CString::new(at.name().as_bytes()).map_err(|_| Errno::INVAL);
                let assigned = name.and_then(|name| assignment.entry(at.parent(), &name, kind));
                assigned.map_err(TreeError::system(ACTION, at.path()))
            }
        }
    }

    fn sync(&self) -> Result<(), TreeError> {
        rustix::fs::syncfs(&self.data).map_err(TreeError::system(ACTION, &UserPath::root()))
    }

    /// Lifts or sets the limit of the server's project: while files move, more than its own count for it.
    pub(super) fn limit(&self, limit: Option<u64>) -> Result<(), FilesError> {
        let Some((data, _)) = self.projects else { return Ok(()) };
        kernel::set_project_limit(self.data.as_fd(), data, limit)
            .map_err(FilesError::disk("set the project quota of", &self.data_path))
    }
}

fn set_directory(root: &Arc<OwnedFd>, path: &UserPath, state: &DirectoryState) -> Result<(), TreeError> {
    let error = |errno| TreeError::system(ACTION, path)(errno);
    let Some((location, stat)) = find(root, path)?.filter(|(_, stat)| is_directory(stat)) else {
        return Ok(());
    };
    let opened = rustix::fs::openat(location.parent(), location.name(), FLAGS | OFlags::NOFOLLOW, Mode::empty());
    let directory = opened.map_err(error)?;
    crash_point().map_err(error)?;
    if stat.st_mode & 0o7777 != state.mode {
        rustix::fs::fchmod(&directory, Mode::from_raw_mode(state.mode)).map_err(error)?;
    }
    rustix::fs::futimens(&directory, &loaded(state.times)).map_err(error)
}

/// What is at a path, whose last name is not followed. `None` if nothing is there.
fn find(root: &Arc<OwnedFd>, path: &UserPath) -> Result<Option<(Location, Stat)>, TreeError> {
    let location = match resolve(root, path, Follow::No, Method::of_this_kernel()) {
        Err(TreeError::NotFound(_) | TreeError::NotDirectory(_)) => return Ok(None),
        resolved => resolved?,
    };
    match rustix::fs::statat(location.parent(), location.name(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some((location, stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(TreeError::system(ACTION, path)(errno)),
    }
}

fn rename(from: &Location, to: &Location, path: &UserPath) -> Result<(), TreeError> {
    let renamed = crash_point().and_then(|()| rustix::fs::renameat(from.parent(), from.name(), to.parent(), to.name()));
    renamed.map_err(TreeError::system(ACTION, path))
}

fn numbered(number: usize) -> UserPath {
    UserPath::root().child(number.to_string().as_ref())
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}
