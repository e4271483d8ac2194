//! Puts files of a server into a new archive in one of its directories.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;

use super::error::ArchiveError;
use super::format::Format;
use super::header::Meta;
use super::limits::MAX_HARD_LINKS;
use super::write::{Spawn, Writer};
use crate::files::tree::{
    Entry, EntryKind, Follow, Incoming, NewFile, Tree, TreeError, Visit, WalkEntry, is_temporary,
};
use crate::files::user_path::UserPath;
use crate::progress::Progress;

/// The mode of a new archive.
const MODE: u32 = 0o644;

/// What to compress, and how.
#[derive(Debug, Clone)]
pub struct Compression {
    /// The directory of the files and of the archive.
    pub directory: UserPath,
    /// Files and directories in it, also deeper ones.
    pub names: Vec<OsString>,
    /// The format.
    pub format: Format,
    /// The level of gzip and zip, from 0 to 9.
    pub level: u32,
}

/// Writes an archive. Gives it the first of `archive_names` that is free, and returns its path. Files on the egg's denylist are left
/// out, and so are sockets, pipes and devices. The progress counts the bytes of the files.
///
/// # Errors
/// One of the files is missing, none may be read, or the archive does not fit into the disk limit. No archive is left then.
pub fn compress(
    tree: &Tree,
    what: &Compression,
    archive_names: impl IntoIterator<Item = OsString>,
    spawn: Option<Spawn<'_>>,
    progress: &Progress,
) -> Result<UserPath, ArchiveError> {
    let inputs = inputs(tree, what)?;
    let mut total: u64 = 0;
    for input in &inputs {
        walk(tree, &input.path, progress, |entry| {
            total = total.saturating_add(size(&entry.entry));
            Ok(())
        })?;
    }
    progress.set_total(total);
    let names: Vec<OsString> = archive_names.into_iter().collect();
    let sink = Sink { incoming: create(tree, &what.directory, &names)?, progress: progress.clone() };
    let begun = Writer::new(what.format, what.level, spawn, sink);
    let mut archive = Packer { writer: begun.map_err(sink_error)?, links: HashMap::new(), progress: progress.clone() };
    for input in &inputs {
        archive.add(tree, input)?;
    }
    let sink = archive.writer.finish().map_err(sink_error)?;
    if progress.is_cancelled() {
        return Err(ArchiveError::Cancelled);
    }
    sink.incoming.commit_as(names).map_err(tree_error)
}

/// A file or directory to put into the archive.
struct Input {
    path: UserPath,
    /// Its name there.
    name: Vec<u8>,
}

/// Begins a file with the first free name.
fn create(tree: &Tree, directory: &UserPath, names: &[OsString]) -> Result<Incoming, ArchiveError> {
    let paths = names.iter().map(|name| directory.child(name));
    let mut free = paths.filter(|path| matches!(tree.stat(path, Follow::No), Err(TreeError::NotFound(_))));
    let path = free.next().ok_or_else(|| ArchiveError::Tree(TreeError::Exists(directory.clone())))?;
    tree.create(&path, NewFile { mode: MODE, keep_mode: false, size: None }).map_err(tree_error)
}

/// What the request names, without what the denylist has.
fn inputs(tree: &Tree, what: &Compression) -> Result<Vec<Input>, ArchiveError> {
    let mut inputs = Vec::new();
    for name in &what.names {
        let path = what.directory.join_clamped(name).map_err(|error| ArchiveError::Tree(error.into()))?;
        if tree.denylist().denies(&path) {
            continue;
        }
        tree.stat(&path, Follow::No).map_err(tree_error)?;
        // A name that leads up is that from the server's directory.
        let within = path.as_path().strip_prefix(what.directory.as_path()).unwrap_or(path.as_path());
        let name = within.as_os_str().as_bytes().to_vec();
        inputs.push(Input { path, name });
    }
    match inputs.is_empty() {
        true => Err(ArchiveError::NothingToCompress),
        false => Ok(inputs),
    }
}

/// Visits what may be in an archive: not what is denied, and no archive that is being written.
fn walk(
    tree: &Tree,
    from: &UserPath,
    progress: &Progress,
    mut act: impl FnMut(&WalkEntry<'_>) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let mut failed = None;
    let walked = tree.walk(from, progress.cancelled(), &mut |entry| {
        if tree.denylist().denies(&entry.path) || is_temporary(&entry.entry.name) {
            return Visit::Skip;
        }
        match act(&entry) {
            Ok(()) => Visit::Enter,
            Err(error) => {
                failed = Some(error);
                Visit::Stop
            }
        }
    });
    match failed {
        Some(error) => Err(error),
        None => walked.map_err(tree_error),
    }
}

struct Packer {
    writer: Writer<Sink>,
    /// The names of files that have more than one, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    progress: Progress,
}

impl Packer {
    fn add(&mut self, tree: &Tree, input: &Input) -> Result<(), ArchiveError> {
        // Links in the path are resolved in what the walk reports.
        let mut top = None;
        let progress = self.progress.clone();
        walk(tree, &input.path, &progress, |entry| {
            let top =
                top.get_or_insert_with(|| if input.path.is_root() { UserPath::root() } else { entry.path.clone() });
            let below = entry.path.as_path().strip_prefix(top.as_path()).unwrap_or(entry.path.as_path());
            let name = match (input.name.as_slice(), below.as_os_str().as_bytes()) {
                (name, b"") => name.to_vec(),
                (b"", below) => below.to_vec(),
                (name, below) => [name, b"/", below].concat(),
            };
            self.entry(entry, &name)
        })
    }

    fn entry(&mut self, found: &WalkEntry<'_>, name: &[u8]) -> Result<(), ArchiveError> {
        let meta = meta(&found.entry);
        match found.entry.kind {
            EntryKind::Directory => self.writer.directory(name, &meta).map_err(sink_error),
            EntryKind::Symlink => match found.read_link() {
                Ok(target) => self.writer.symlink(name, target.as_bytes(), &meta).map_err(sink_error),
                Err(error) => vanished(error),
            },
            EntryKind::File => match found.open() {
                Ok((file, entry)) => self.file(name, file, &entry),
                Err(error) => vanished(error),
            },
            EntryKind::Fifo | EntryKind::Socket | EntryKind::CharacterDevice | EntryKind::BlockDevice => Ok(()),
        }
    }

    fn file(&mut self, name: &[u8], file: File, entry: &Entry) -> Result<(), ArchiveError> {
        let meta = meta(entry);
        if entry.links > 1 && self.writer.has_hard_links() {
            let id = (entry.device, entry.inode);
            if let Some(first) = self.links.get(&id) {
                self.progress.add(entry.size);
                return self.writer.hard_link(name, first, &meta).map_err(sink_error);
            }
            if self.links.len() < MAX_HARD_LINKS {
                self.links.insert(id, name.to_vec());
            }
        }
        let content = Counted { file, progress: &self.progress };
        self.writer.file(name, &meta, entry.size, content).map_err(sink_error)
    }
}

/// A file that is gone since its directory was read is left out.
fn vanished(error: TreeError) -> Result<(), ArchiveError> {
    match error {
        TreeError::NotFound(_) | TreeError::NotRegular(_) | TreeError::Unsupported(_) => Ok(()),
        error => Err(tree_error(error)),
    }
}

fn meta(entry: &Entry) -> Meta {
    Meta { mode: Some(entry.mode & 0o777), modified: Some(entry.modified), owner: Some((entry.uid, entry.gid)) }
}

fn size(entry: &Entry) -> u64 {
    if entry.is_file() { entry.size } else { 0 }
}

/// Counts what is read, and ends when the operation is cancelled.
struct Counted<'a> {
    file: File,
    progress: &'a Progress,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.progress.add(read as u64);
        Ok(read)
    }
}

/// The new archive. Its bytes are charged.
struct Sink {
    incoming: Incoming,
    progress: Progress,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.progress.is_cancelled() {
            return Err(io::Error::other(Stopped));
        }
        self.incoming.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Marks the error of a cancelled operation.
#[derive(Debug, thiserror::Error)]
#[error("cancelled")]
pub(super) struct Stopped;

/// An error of the archive that is written, or of the file that is read into it.
pub(super) fn sink_error(error: io::Error) -> ArchiveError {
    if error.get_ref().is_some_and(|inner| inner.is::<Stopped>()) {
        return ArchiveError::Cancelled;
    }
    match error.kind() {
        io::ErrorKind::QuotaExceeded | io::ErrorKind::StorageFull => ArchiveError::NoSpace,
        _ => ArchiveError::Io(error),
    }
}

pub(super) fn tree_error(error: TreeError) -> ArchiveError {
    match error {
        TreeError::NoSpace(_) => ArchiveError::NoSpace,
        TreeError::Cancelled(_) => ArchiveError::Cancelled,
        error => ArchiveError::Tree(error),
    }
}

/// The names of an archive: `name` with the extension of the format, then those of copies of it.
pub fn archive_names(name: &OsStr, format: Format, now: &str) -> impl Iterator<Item = OsString> + use<> {
    let mut first = name.to_owned();
    first.push(format.extension());
    let copies = crate::files::tree::copy_names(&first, now);
    std::iter::once(first).chain(copies)
}
