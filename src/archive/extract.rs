//! Unpacks an archive into a server's files. Each entry is written through the confined root, and charged there.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::SystemTime;

use super::error::{ArchiveError, Refusal, shown};
use super::header::{Content, Header, Meta};
use super::limits::{FREE_CONTENT, MAX_DIRECTORIES, MAX_NAME, MAX_RATIO, MAX_TARGET, share_of_free_space};
use super::read::{self, Kind, Visitor};
use super::source::Source;
use crate::files::tree::{Attributes, Follow, Incoming, NewFile, Recursive, Tree, TreeError};
use crate::files::user_path::UserPath;
use crate::progress::Progress;

/// The mode of directories, and of files whose archive has no modes.
const DIRECTORY_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extraction {
    /// Files, directories and links.
    pub entries: u64,
    /// Content of files, in bytes.
    pub bytes: u64,
}

/// Unpacks `archive` into the directory `into`. Existing files are replaced, each when its new content is complete. Entries on the
/// egg's denylist are skipped. The progress counts the bytes of the archive.
///
/// # Errors
/// The archive cannot be read, is refused, or does not fit into the disk limit. The last is found before anything is written,
/// as far as the archive declares its sizes. What was unpacked before an error stays.
pub fn extract(
    tree: &Tree,
    archive: &UserPath,
    into: &UserPath,
    progress: &Progress,
) -> Result<Extraction, ArchiveError> {
    let (file, _) = tree.open(archive).map_err(tree_error)?;
    let source = Source::new(file).map_err(ArchiveError::Io)?;
    progress.set_total(source.len());
    // Formats are parsed by libraries from untrusted bytes.
    let run = AssertUnwindSafe(|| {
        let name = archive.name().unwrap_or_default().as_bytes();
        let kind = read::detect(&source, name)?;
        check_size(tree, &source, &kind, progress)?;
        let visitor = Rc::new(RefCell::new(Extractor::new(tree, into, source.len(), progress)?));
        read::read(&source, &kind, progress, &visitor)?;
        let mut visitor = visitor.borrow_mut();
        visitor.finish_directories();
        Ok(visitor.done)
    });
    match catch_unwind(run) {
        Ok(result) => result,
        Err(panic) => {
            let panic = crate::tasks::panic_text(panic.as_ref());
            tracing::error!(archive = %archive, panic, "reading an archive panicked (bug, please report)");
            Err(ArchiveError::Damaged("its reader failed unexpectedly".into()))
        }
    }
}

/// Checks the declared sizes against the disk limit, so that an archive that does not fit leaves no half of it behind. The limit
/// holds without this check, too.
fn check_size(tree: &Tree, source: &Source, kind: &Kind, progress: &Progress) -> Result<(), ArchiveError> {
    let account = tree.account();
    if account.limit().is_none() {
        return Ok(());
    }
    // Saves decompressing a tar twice.
    if read::hint(source, kind).is_some_and(|size| account.fits(size)) {
        return Ok(());
    }
    let mut total: u64 = 0;
    let uncounted = progress.uncounted();
    read::sizes(source, kind, &uncounted, &mut |size| {
        total = total.saturating_add(size);
        match account.fits(total) {
            true => Ok(()),
            false => Err(ArchiveError::NoSpace),
        }
    })
    .map_err(|error| if progress.is_cancelled() { ArchiveError::Cancelled } else { error })
}

/// Writes the entries of an archive.
struct Extractor {
    tree: Tree,
    into: UserPath,
    progress: Progress,
    /// Content that may be written in all, and why not more.
    max_bytes: (u64, Refusal),
    current: Option<Current>,
    /// Directories get their modes and times last: writing into them changes the one and may need the other.
    directories: Vec<(UserPath, Meta)>,
    done: Extraction,
}

/// The file that is being written.
struct Current {
    name: String,
    path: UserPath,
    incoming: Incoming,
    modified: Option<SystemTime>,
}

impl Extractor {
    fn new(tree: &Tree, into: &UserPath, length: u64, progress: &Progress) -> Result<Self, ArchiveError> {
        Ok(Self {
            tree: tree.clone(),
            into: into.clone(),
            progress: progress.clone(),
            max_bytes: max_bytes(tree, length)?,
            current: None,
            directories: Vec::new(),
            done: Extraction::default(),
        })
    }

    fn create(&mut self, name: &[u8], path: &UserPath, size: Option<u64>, meta: &Meta) -> Result<bool, TreeError> {
        let mode = meta.mode.map_or(FILE_MODE, |mode| mode & 0o777);
        // Archives of programs that know no modes.
        let mode = if mode == 0 { FILE_MODE } else { mode };
        let incoming = self.tree.create(path, NewFile { mode, keep_mode: false, size })?;
        self.current = Some(Current { name: shown(name), path: path.clone(), incoming, modified: meta.modified });
        Ok(true)
    }

    fn directory(&mut self, path: &UserPath, meta: &Meta) -> Result<(), TreeError> {
        self.tree.create_directory(path, true, DIRECTORY_MODE)?;
        if self.directories.len() < MAX_DIRECTORIES {
            self.directories.push((path.clone(), *meta));
        }
        Ok(())
    }

    /// Puts a link where nothing is, or a file or another link.
    fn link(&self, path: &UserPath, make: impl Fn(&Tree) -> Result<(), TreeError>) -> Result<(), TreeError> {
        match self.in_parent(path, &make) {
            Err(TreeError::Exists(_)) => {
                self.tree.remove(path, Recursive::No, self.progress.cancelled())?;
                make(&self.tree)
            }
            made => made,
        }
    }

    /// Makes the missing directories above `path`.
    fn in_parent<T>(&self, path: &UserPath, act: impl Fn(&Tree) -> Result<T, TreeError>) -> Result<T, TreeError> {
        match (act(&self.tree), path.parent()) {
            (Err(TreeError::NotFound(_)), Some(parent)) if !parent.is_root() => {
                self.tree.create_directory(&parent, true, DIRECTORY_MODE)?;
                act(&self.tree)
            }
            (result, _) => result,
        }
    }

    fn hard_link(&self, name: &[u8], path: &UserPath, target: &[u8]) -> Result<(), ArchiveError> {
        let refused = |refusal| ArchiveError::refused(name, refusal);
        let target = self.into.join_clamped(OsStr::from_bytes(target)).map_err(|_| refused(Refusal::Target))?;
        if target == *path {
            return Ok(());
        }
        if self.tree.denylist().denies(&target) {
            return Ok(());
        }
        // Before something at `path` is removed for a link that cannot be made.
        let found = self.tree.stat(&target, Follow::No).map_err(entry_error(name))?;
        if !found.is_file() {
            return Err(refused(Refusal::Target));
        }
        self.link(path, |tree| tree.hard_link(&target, path)).map_err(entry_error(name))
    }

    /// Sets what was postponed. The directories are as usable without it, so errors do not matter.
    fn finish_directories(&mut self) {
        for (path, meta) in self.directories.drain(..).rev() {
            let mode = meta.mode.map(|mode| mode & 0o777 | 0o700);
            let attributes = Attributes { mode, modified: meta.modified, ..Attributes::default() };
            if let Err(error) = self.tree.set_attributes(&path, Follow::No, attributes) {
                tracing::debug!(%path, %error, "mode and time of an unpacked directory not set");
            }
        }
    }
}

impl Visitor for Extractor {
    fn begin(&mut self, header: &Header<'_>) -> Result<bool, ArchiveError> {
        let name = header.name;
        if self.progress.is_cancelled() {
            return Err(ArchiveError::Cancelled);
        }
        self.current = None;
        if name.len() > MAX_NAME {
            return Err(ArchiveError::refused(name, Refusal::Name));
        }
        // `..` and a leading `/` stay at the root, as in Wings.
        let path = self.into.join_clamped(OsStr::from_bytes(name));
        let path = path.map_err(|_| ArchiveError::refused(name, Refusal::Name))?;
        if path.is_root() || path == self.into {
            return match header.content {
                Content::Directory => Ok(false),
                _ => Err(ArchiveError::refused(name, Refusal::Name)),
            };
        }
        if self.tree.denylist().denies(&path) {
            return Ok(false);
        }
        let wanted = match header.content {
            Content::Special => Err(ArchiveError::refused(name, Refusal::Device)),
            Content::Directory => self.directory(&path, &header.meta).map(|()| false).map_err(entry_error(name)),
            Content::File(size) => {
                if let Some(size) = size {
                    self.check_bytes(name, size)?;
                }
                self.create(name, &path, size, &header.meta).map_err(entry_error(name))
            }
            Content::Symlink(target) if target.is_empty() || target.len() > MAX_TARGET || target.contains(&0) => {
                Err(ArchiveError::refused(name, Refusal::Target))
            }
            // The text may lead anywhere: what it names is seen from inside of the container, and not followed out of the root here.
            Content::Symlink(target) => {
                let made = self.link(&path, |tree| tree.symlink(OsStr::from_bytes(target), &path));
                made.map(|()| false).map_err(entry_error(name))
            }
            Content::HardLink(target) => self.hard_link(name, &path, target).map(|()| false),
        };
        match wanted {
            Err(ArchiveError::Entry { source: TreeError::Denied(_), .. }) => Ok(false),
            Ok(wanted) => {
                self.done.entries += 1;
                Ok(wanted)
            }
            Err(error) => Err(error),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        if self.progress.is_cancelled() {
            return Err(ArchiveError::Cancelled);
        }
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        let length = bytes.len() as u64;
        if self.done.bytes + length > self.max_bytes.0 {
            return Err(ArchiveError::Refused { entry: current.name.clone(), refusal: self.max_bytes.1 });
        }
        let written = current.incoming.write_all(bytes).map_err(TreeError::io("write", &current.path));
        written.map_err(entry_error(current.name.as_bytes()))?;
        self.done.bytes += length;
        Ok(())
    }

    fn end(&mut self) -> Result<(), ArchiveError> {
        let Some(Current { name, mut incoming, modified, .. }) = self.current.take() else {
            return Ok(());
        };
        if let Some(modified) = modified {
            incoming.set_mtime(modified);
        }
        incoming.commit().map(drop).map_err(entry_error(name.as_bytes()))
    }
}

impl Extractor {
    /// Refuses a file whose declared size is too much, before it is created.
    fn check_bytes(&self, name: &[u8], size: u64) -> Result<(), ArchiveError> {
        match self.done.bytes.saturating_add(size) > self.max_bytes.0 {
            true => Err(ArchiveError::refused(name, self.max_bytes.1)),
            false => Ok(()),
        }
    }
}

/// The bytes that may be written in all. Under a disk limit that limit counts alone.
fn max_bytes(tree: &Tree, length: u64) -> Result<(u64, Refusal), ArchiveError> {
    if tree.account().limit().is_some() {
        return Ok((u64::MAX, Refusal::TooLarge));
    }
    let ratio = length.saturating_mul(MAX_RATIO).max(FREE_CONTENT);
    let free = share_of_free_space(tree.space().map_err(tree_error)?.available);
    Ok(if free < ratio { (free, Refusal::TooLarge) } else { (ratio, Refusal::Ratio) })
}

/// An error about the archive file or the directory.
fn tree_error(error: TreeError) -> ArchiveError {
    match error {
        TreeError::NoSpace(_) => ArchiveError::NoSpace,
        TreeError::Cancelled(_) => ArchiveError::Cancelled,
        error => ArchiveError::Tree(error),
    }
}

/// An error about an entry.
pub(super) fn entry_error(name: &[u8]) -> impl FnOnce(TreeError) -> ArchiveError {
    move |error| match error {
        TreeError::NoSpace(_) => ArchiveError::NoSpace,
        TreeError::Cancelled(_) => ArchiveError::Cancelled,
        TreeError::OutsideRoot(_) | TreeError::TooManyLinks(_) => ArchiveError::refused(name, Refusal::Outside),
        source => ArchiveError::Entry { entry: shown(name), source },
    }
}
