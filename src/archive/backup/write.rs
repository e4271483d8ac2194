//! Writes the archive of a tree that may change meanwhile.
//!
//! One small file is read when it is found and written last: it carries the directories that are left, and all changes.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::time::SystemTime;

use rustix::fs::AtFlags;
use tar::EntryType;

use super::super::compress::{sink_error, tree_error};
use super::super::deflate::{Gzip, Spawn};
use super::super::error::ArchiveError;
use super::super::header::{Meta, time};
use super::digest::{Hashes, Hashing};
use super::ignore::IgnoreList;
use super::select::{Choice, Links, choose};
use super::tar_writer::{Head, TarWriter};
use super::vendor::{CHANGED, ChangeKind, DIRECTORIES, Directories, next_directory};
use super::{BUFFER, Pace, Summary};
use crate::files::page_cache::Reading;
use crate::files::tree::{Entry, EntryKind, Follow, Tree, TreeError, Visit, Visitor, WalkEntry};
use crate::files::user_path::UserPath;
use crate::progress::Progress;

/// The largest file that is kept in memory to be the last one.
const MAX_KEPT: u64 = 4 << 20;

/// A file of this size is small enough to look for no smaller one.
const SMALL: u64 = 64 << 10;

/// How to write an archive.
#[derive(Clone, Copy)]
pub struct WriteOptions<'a> {
    /// What is left out.
    pub ignore: &'a IgnoreList,
    /// The level of gzip, from 0 to 9.
    pub level: u32,
    /// The checksums of the archive.
    pub hashes: Hashes,
    /// Starts the other threads that compress.
    pub spawn: Option<Spawn<'a>>,
    /// Limits the rate at which the archive is written.
    pub pace: Option<Pace<'a>>,
    /// Counts the bytes of files, and cancels. Its total is the caller's to set: [`estimate`](super::estimate).
    pub progress: &'a Progress,
}

/// Writes the archive of a whole tree, and returns the sink. The denylist of the tree has no effect.
///
/// # Errors
/// The sink fails, a file or directory cannot be read, or the operation is cancelled. A file that changes is no error.
pub fn write<W: Write>(tree: &Tree, sink: W, options: WriteOptions<'_>) -> Result<(W, Summary), ArchiveError> {
    let progress = options.progress;
    let sink = Hashing::new(sink, options.hashes, options.pace, progress);
    let gzip = Gzip::new(options.level, options.spawn, sink).map_err(sink_error)?;
    let mut packer = Packer {
        tar: TarWriter::new(gzip),
        ignore: options.ignore,
        progress,
        links: Links::default(),
        directories: Directories::default(),
        entered: Entered::default(),
        kept: None,
        buffer: vec![0; BUFFER],
        failed: None,
        done: Summary::default(),
    };
    let root = tree.stat(&UserPath::root(), Follow::No).map_err(tree_error)?;
    packer.directory(b"", &root);
    let walked = tree.walk_with(&UserPath::root(), progress.cancelled(), &mut packer);
    if let Some(error) = packer.failed.take() {
        return Err(error);
    }
    walked.map_err(tree_error)?;
    let (tar, mut done) = packer.finish(tree, &root)?;
    let sink = tar.finish().and_then(Gzip::finish).map_err(sink_error)?;
    let (mut sink, bytes, digests) = sink.finish();
    sink.flush().map_err(sink_error)?;
    (done.bytes, done.digests) = (bytes, digests);
    Ok((sink, done))
}

/// The archive on its way to the sink.
type Output<'a, W> = TarWriter<Gzip<Hashing<'a, W>>>;

struct Packer<'a, W: Write> {
    tar: Output<'a, W>,
    ignore: &'a IgnoreList,
    progress: &'a Progress,
    links: Links,
    directories: Directories,
    entered: Entered,
    kept: Option<Kept>,
    buffer: Vec<u8>,
    failed: Option<ArchiveError>,
    done: Summary,
}

/// When each directory on the current path was changed last, before its names were read: depths and times.
#[derive(Default)]
struct Entered(Vec<(usize, SystemTime)>);

impl Entered {
    fn add(&mut self, depth: usize, modified: SystemTime) {
        self.0.push((depth, modified));
    }

    /// The time of the last directory of this depth. Deeper ones, which could not be opened, are dropped.
    fn left(&mut self, depth: usize) -> Option<SystemTime> {
        while self.0.last().is_some_and(|(deeper, _)| *deeper > depth) {
            self.0.pop();
        }
        self.0.pop_if(|(last, _)| *last == depth).map(|(_, modified)| modified)
    }
}

/// A file that is written later.
struct Kept {
    name: Vec<u8>,
    entry: Entry,
    content: KeptContent,
}

enum KeptContent {
    Memory(Vec<u8>),
    /// Of a tree without any smaller file.
    Open(File),
}

impl<W: Write> Visitor for Packer<'_, W> {
    fn entry(&mut self, found: WalkEntry<'_>) -> Result<Visit, TreeError> {
        let name = found.path.as_bytes();
        let visit = match choose(&found, self.ignore) {
            Choice::Take => Visit::Enter,
            Choice::Enter => {
                self.entered.add(found.path.depth(), found.entry.modified);
                return Ok(Visit::Enter);
            }
            Choice::Leave => return Ok(Visit::Skip),
            Choice::Special => {
                self.done.skipped += 1;
                return Ok(Visit::Skip);
            }
            Choice::TooLong => {
                self.done.changes.add(name, ChangeKind::TooLong);
                return Ok(Visit::Skip);
            }
        };
        let packed = match found.entry.kind {
            EntryKind::Directory => {
                self.entered.add(found.path.depth(), found.entry.modified);
                self.directory(name, &found.entry);
                Ok(())
            }
            EntryKind::Symlink => self.symlink(&found, name),
            _ => match found.open() {
                Ok((file, entry)) => self.file(name, file, entry),
                Err(error) => self.vanished(name, error),
            },
        };
        match packed {
            Ok(()) => Ok(visit),
            Err(error) => {
                self.failed = Some(error);
                Ok(Visit::Stop)
            }
        }
    }

    fn left(&mut self, parent: BorrowedFd<'_>, name: &OsStr, path: &UserPath) -> Result<(), TreeError> {
        let before = self.entered.left(path.depth());
        let after = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
        let after = after.ok().and_then(|stat| time(stat.st_mtime, u32::try_from(stat.st_mtime_nsec).ok()?));
        match (before, after) {
            (Some(_), None) => self.done.changes.add(path.as_bytes(), ChangeKind::Vanished),
            (Some(before), Some(after)) if before != after => {
                self.done.changes.add(path.as_bytes(), ChangeKind::Entries);
            }
            _ => {}
        }
        Ok(())
    }
}

impl<'a, W: Write> Packer<'a, W> {
    fn directory(&mut self, name: &[u8], entry: &Entry) {
        self.done.directories += 1;
        self.directories.add(name, &meta(entry));
    }

    fn symlink(&mut self, found: &WalkEntry<'_>, name: &[u8]) -> Result<(), ArchiveError> {
        match found.read_link() {
            Ok(target) => self.link(EntryType::Symlink, name, target.as_bytes(), &found.entry),
            Err(error) => self.vanished(name, error),
        }
    }

    fn link(&mut self, kind: EntryType, name: &[u8], target: &[u8], entry: &Entry) -> Result<(), ArchiveError> {
        self.done.links += 1;
        self.tar.begin(&Head { kind, name, target, size: 0, meta: meta(entry) }, &[]).map_err(sink_error)
    }

    fn file(&mut self, name: &[u8], file: File, entry: Entry) -> Result<(), ArchiveError> {
        if let Some(first) = self.links.first(name, &entry) {
            return self.link(EntryType::Link, name, &first, &entry);
        }
        let smaller = self.kept.as_ref().is_none_or(|kept| kept.entry.size > SMALL && entry.size < kept.entry.size);
        // Other names of a file must come after it.
        if entry.links > 1 || !smaller {
            return self.open_file(name, &file, &entry, Vec::new());
        }
        let content = match entry.size <= MAX_KEPT {
            true => KeptContent::Memory(self.read_kept(name, &file, &entry)?),
            false => KeptContent::Open(file),
        };
        match self.kept.replace(Kept { name: name.to_vec(), entry, content }) {
            Some(kept) => self.kept_file(kept, Vec::new()),
            None => Ok(()),
        }
    }

    /// Reads a file into memory.
    fn read_kept(&mut self, name: &[u8], file: &File, entry: &Entry) -> Result<Vec<u8>, ArchiveError> {
        let mut content = Vec::with_capacity(entry.size as usize);
        let reading = Reading::begin(file, entry.size);
        { file }.take(entry.size).read_to_end(&mut content).map_err(|error| read_error(name, error))?;
        reading.end();
        self.progress.add(content.len() as u64);
        let is_short = (content.len() as u64) < entry.size;
        content.resize(entry.size as usize, 0);
        self.check(name, file, entry, is_short)?;
        Ok(content)
    }

    fn kept_file(&mut self, kept: Kept, vendor: Vec<(&str, Vec<u8>)>) -> Result<(), ArchiveError> {
        let Kept { name, entry, content } = kept;
        match content {
            KeptContent::Open(file) => self.open_file(&name, &file, &entry, vendor),
            KeptContent::Memory(content) => {
                self.begin(&name, &entry, vendor)?;
                let written = self.tar.content().write_all(&content).and_then(|()| self.tar.end());
                written.map_err(sink_error)
            }
        }
    }

    fn begin(&mut self, name: &[u8], entry: &Entry, mut vendor: Vec<(&str, Vec<u8>)>) -> Result<(), ArchiveError> {
        if vendor.is_empty() {
            vendor.extend(self.directories.next_if_enough().map(|record| (DIRECTORIES, record)));
        }
        self.done.files += 1;
        self.done.content += entry.size;
        let head = Head { kind: EntryType::Regular, name, target: b"", size: entry.size, meta: meta(entry) };
        self.tar.begin(&head, &vendor).map_err(sink_error)
    }

    /// Writes exactly as many bytes as the file had when it was opened.
    fn open_file(
        &mut self,
        name: &[u8],
        file: &File,
        entry: &Entry,
        vendor: Vec<(&str, Vec<u8>)>,
    ) -> Result<(), ArchiveError> {
        self.begin(name, entry, vendor)?;
        let mut reading = Reading::begin(file, entry.size);
        let (mut offset, mut is_short) = (0, false);
        while offset < entry.size {
            let wanted = usize::try_from(entry.size - offset).unwrap_or(BUFFER).min(BUFFER);
            let buffer = &mut self.buffer[..wanted];
            let read = match is_short {
                true => wanted,
                false => match { file }.read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    read => read.map_err(|error| read_error(name, error))?,
                },
            };
            if read == 0 {
                is_short = true;
                buffer.fill(0);
                continue;
            }
            self.tar.content().write_all(&buffer[..read]).map_err(sink_error)?;
            offset += read as u64;
            self.progress.add(read as u64);
            reading.read_to(offset);
        }
        reading.end();
        self.tar.end().map_err(sink_error)?;
        self.check(name, file, entry, is_short)
    }

    /// Compares a file that was read with what it was before.
    fn check(&mut self, name: &[u8], file: &File, before: &Entry, is_short: bool) -> Result<(), ArchiveError> {
        use std::os::unix::fs::MetadataExt;
        let after = file.metadata().map_err(|error| read_error(name, error))?;
        let times = |modified, changed| (modified, changed) == (Some(before.modified), Some(before.changed));
        let at = |seconds, nanoseconds| time(seconds, u32::try_from(nanoseconds).ok()?);
        let kind = match () {
            () if is_short || after.len() < before.size => ChangeKind::Shrank,
            () if after.len() > before.size => ChangeKind::Grew,
            () if after.nlink() == 0 => ChangeKind::Vanished,
            () if !times(at(after.mtime(), after.mtime_nsec()), at(after.ctime(), after.ctime_nsec())) => {
                ChangeKind::Modified
            }
            () => return Ok(()),
        };
        self.done.changes.add(name, kind);
        Ok(())
    }

    /// A name that is gone since its directory was read is left out.
    fn vanished(&mut self, name: &[u8], error: TreeError) -> Result<(), ArchiveError> {
        match error {
            TreeError::NotFound(_) | TreeError::NotRegular(_) => {
                self.done.changes.add(name, ChangeKind::Vanished);
                Ok(())
            }
            // A link by now.
            TreeError::Busy(_) | TreeError::TooManyLinks(_) => {
                self.done.changes.add(name, ChangeKind::Modified);
                Ok(())
            }
            TreeError::Io { source, .. } if source.kind() == io::ErrorKind::InvalidInput => {
                self.done.changes.add(name, ChangeKind::Vanished);
                Ok(())
            }
            error => Err(tree_error(error)),
        }
    }

    /// Writes what is left: the kept file with it, or without one the directories as entries.
    fn finish(mut self, tree: &Tree, root: &Entry) -> Result<(Output<'a, W>, Summary), ArchiveError> {
        let after = tree.stat(&UserPath::root(), Follow::No).map_err(tree_error)?;
        if after.modified != root.modified {
            self.done.changes.add(b".", ChangeKind::Entries);
        }
        if let Some(kept) = self.kept.take() {
            let mut vendor: Vec<_> = self.directories.next().map(|record| (DIRECTORIES, record)).into_iter().collect();
            if !self.done.changes.is_empty() {
                vendor.push((CHANGED, self.done.changes.to_record()));
            }
            self.kept_file(kept, vendor)?;
        }
        let root_alone = self.done.directories == 1;
        while let Some(record) = self.directories.next() {
            if root_alone {
                // It is not worth an entry, at which Go Wings would fail.
                self.done.directories = 0;
                break;
            }
            let mut rest = record.as_slice();
            while let Some((name, meta, after)) = next_directory(rest) {
                let name = [name, b"/"].concat();
                let head = Head { kind: EntryType::Directory, name: &name, target: b"", size: 0, meta };
                self.tar.begin(&head, &[]).map_err(sink_error)?;
                rest = after;
            }
        }
        Ok((self.tar, self.done))
    }
}

fn meta(entry: &Entry) -> Meta {
    Meta { mode: Some(entry.mode), modified: Some(entry.modified), owner: Some((entry.uid, entry.gid)) }
}

fn read_error(name: &[u8], error: io::Error) -> ArchiveError {
    let path = UserPath::clamped(OsStr::from_bytes(name)).unwrap_or_default();
    tree_error(TreeError::io("read", &path)(error))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A mount, or a directory that was removed meanwhile, is found and never left.
    #[test]
    fn directories_that_are_not_entered_do_not_shift_the_others() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut entered = Entered::default();
        entered.add(1, at(1));
        entered.add(2, at(2));
        entered.add(2, at(3));
        entered.add(3, at(4));
        assert_eq!(entered.left(2), Some(at(3)));
        entered.add(2, at(5));
        assert_eq!(entered.left(1), Some(at(1)));
        assert_eq!(entered.left(1), None);
    }
}
