//! Unpacks an archive of any origin into a tree, whether that is empty or not. No link is followed.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::super::compress::tree_error;
use super::super::error::{ArchiveError, Refusal};
use super::super::extract::entry_error;
use super::super::header::{Content, Meta};
use super::super::limits::{MAX_NAME, MAX_TARGET, share_of_free_space};
use super::digest::Hashes;
use super::read::{Input, close, open};
use super::tar_reader::{Found, Kind};
use super::{BUFFER, Pace, Summary};
use crate::files::tree::{Attributes, Follow, Incoming, Place, Recursive, Tree, TreeError};
use crate::files::user_path::{PathError, UserPath};
use crate::progress::Progress;

/// The mode of files whose archive has none.
const FILE_MODE: u32 = 0o644;

/// Zeros of this length become a hole, if they begin at a multiple of it.
const HOLE: usize = 64 << 10;

/// Memory for directories whose mode and time are set last, in bytes. Those of further ones are set at once.
const MAX_POSTPONED: usize = 64 << 20;

/// How to unpack an archive.
pub struct UnpackOptions<'a> {
    /// Only these paths, and what is below them.
    pub only: Option<&'a [UserPath]>,
    /// Whether entries on the tree's denylist are skipped.
    pub denylist: bool,
    /// The checksums of the archive.
    pub hashes: Hashes,
    /// Limits the rate at which the archive is read.
    pub pace: Option<Pace<'a>>,
    /// Counts the bytes of the archive, and cancels.
    pub progress: &'a Progress,
    /// Called with the name of each entry before it is unpacked.
    pub entry: &'a mut dyn FnMut(&UserPath),
}

/// Unpacks an archive into the tree's directory. What is in the way is replaced, other files stay. Everything belongs to the tree's
/// owner. What was unpacked before an error stays.
///
/// # Errors
/// The archive is damaged, refused, or does not fit; a file cannot be written; or the operation is cancelled.
pub fn unpack(source: impl Read, tree: &Tree, options: UnpackOptions<'_>) -> Result<Summary, ArchiveError> {
    let mut input = open(source, options.hashes, options.pace, options.progress);
    let free = tree.space().map_err(tree_error)?.available;
    let mut unpacker = Unpacker {
        // The denylist is matched here, and never by the tree.
        tree: tree.with_denylist(Arc::default()),
        denied: tree.clone(),
        options,
        max_bytes: share_of_free_space(free),
        stored: 0,
        place: None,
        postponed: Postponed::default(),
        buffer: vec![0; BUFFER],
        done: Summary::default(),
    };
    while let Some(found) = input.next()? {
        if unpacker.options.progress.is_cancelled() {
            return Err(ArchiveError::Cancelled);
        }
        unpacker.entry(&mut input, found)?;
    }
    unpacker.finish_directories()?;
    let mut done = unpacker.done;
    (done.bytes, done.digests) = close(input);
    Ok(done)
}

struct Unpacker<'a> {
    tree: Tree,
    denied: Tree,
    options: UnpackOptions<'a>,
    /// Bytes that may be stored without a disk limit.
    max_bytes: u64,
    /// Bytes of files without holes.
    stored: u64,
    /// The directory of the last entry: most entries come directory by directory.
    place: Option<Place>,
    postponed: Postponed,
    buffer: Vec<u8>,
    done: Summary,
}

impl Unpacker<'_> {
    fn entry<R: Read>(&mut self, input: &mut Input<'_, R>, found: Found) -> Result<(), ArchiveError> {
        found.each_directory(|name, meta| self.directory(name, meta))?;
        if let Some(changes) = &found.changes {
            self.done.changes = changes.clone();
        }
        match found.kind {
            Kind::Directory => return self.directory(&found.name, found.meta),
            Kind::Other => return Ok(()),
            Kind::Device => return Err(ArchiveError::refused(&found.name, Refusal::Device)),
            _ => {}
        }
        let path = inside(&found.name)?;
        let (Some(parent), Some(name)) = (path.parent(), path.name()) else {
            return Err(ArchiveError::refused(&found.name, Refusal::Name));
        };
        if !self.is_selected(&path) {
            return Ok(());
        }
        if found.kind == Kind::Pipe || self.is_denied(&path) {
            self.done.skipped += 1;
            return Ok(());
        }
        (self.options.entry)(&path);
        let place = self.place(&parent).map_err(entry_error(&found.name))?;
        match found.content() {
            Content::Symlink(target) => self.symlink(&place, name, target, &found),
            Content::HardLink(target) => self.hard_link(&place, name, target, &found),
            _ => self.file(input, &place, name, &found),
        }
    }

    fn is_selected(&self, path: &UserPath) -> bool {
        self.options.only.is_none_or(|only| only.iter().any(|selected| path.is_within(selected)))
    }

    fn is_denied(&self, path: &UserPath) -> bool {
        self.options.denylist && self.denied.denylist().denies(path)
    }

    fn place(&mut self, path: &UserPath) -> Result<Place, TreeError> {
        match &self.place {
            Some(place) if place.path() == path => Ok(place.clone()),
            _ => {
                let place = self.tree.place(path)?;
                self.place = Some(place.clone());
                Ok(place)
            }
        }
    }

    fn directory(&mut self, name: &[u8], meta: Meta) -> Result<(), ArchiveError> {
        let path = inside(name)?;
        // The root is as it was only if all of it is unpacked.
        if !self.is_selected(&path) {
            return Ok(());
        }
        if !path.is_root() && self.is_denied(&path) {
            self.done.skipped += 1;
            return Ok(());
        }
        if !path.is_root() {
            (self.options.entry)(&path);
            // Not kept as the current place, as it is one level below what comes next.
            self.tree.place(&path).map_err(entry_error(name))?;
        }
        self.done.directories += 1;
        match self.postponed.add(&path, &meta) {
            true => Ok(()),
            false => self.tree.set_attributes(&path, Follow::No, attributes(&meta)).map_err(entry_error(name)),
        }
    }

    fn symlink(&mut self, place: &Place, name: &OsStr, target: &[u8], found: &Found) -> Result<(), ArchiveError> {
        if target.is_empty() || target.len() > MAX_TARGET || target.contains(&0) {
            return Err(ArchiveError::refused(&found.name, Refusal::Target));
        }
        let text = OsStr::from_bytes(target);
        self.over(place, name, |place| place.symlink(name, text, found.meta.modified))
            .map_err(entry_error(&found.name))?;
        self.done.links += 1;
        Ok(())
    }

    fn hard_link(&mut self, place: &Place, name: &OsStr, target: &[u8], found: &Found) -> Result<(), ArchiveError> {
        let target = inside(target).map_err(|_| ArchiveError::refused(&found.name, Refusal::Target))?;
        let (Some(parent), Some(file)) = (target.parent(), target.name()) else {
            return Err(ArchiveError::refused(&found.name, Refusal::Target));
        };
        if self.is_denied(&target) || !self.is_selected(&target) {
            self.done.skipped += 1;
            return Ok(());
        }
        let from =
            self.tree.existing_place(&parent).map_err(|_| ArchiveError::refused(&found.name, Refusal::Target))?;
        self.over(place, name, |place| place.hard_link(name, &from, file)).map_err(|error| match error {
            TreeError::NotRegular(_) | TreeError::NotFound(_) => ArchiveError::refused(&found.name, Refusal::Target),
            error => entry_error(&found.name)(error),
        })?;
        self.done.links += 1;
        Ok(())
    }

    fn file<R: Read>(
        &mut self,
        input: &mut Input<'_, R>,
        place: &Place,
        name: &OsStr,
        found: &Found,
    ) -> Result<(), ArchiveError> {
        let mode = found.meta.mode.map_or(FILE_MODE, |mode| mode & 0o777);
        let mut file = self
            .over(place, name, |place| place.create(name, mode, Some(found.size)))
            .map_err(entry_error(&found.name))?;
        self.content(input, &mut file, found)?;
        if let Some(modified) = found.meta.modified {
            file.set_mtime(modified);
        }
        file.commit().map_err(entry_error(&found.name))?;
        self.done.files += 1;
        self.done.content = self.done.content.saturating_add(found.size);
        Ok(())
    }

    fn content<R: Read>(
        &mut self,
        input: &mut Input<'_, R>,
        file: &mut Incoming,
        found: &Found,
    ) -> Result<(), ArchiveError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = loop {
            let read = match input.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(read) => read,
                Err(error) => break Err(error),
            };
            if self.options.progress.is_cancelled() {
                break Err(ArchiveError::Cancelled);
            }
            if let Err(error) = self.pieces(&buffer[..read], file, found) {
                break Err(error);
            }
        };
        self.buffer = buffer;
        result
    }

    /// Writes bytes, and zeros as holes.
    fn pieces(&mut self, bytes: &[u8], file: &mut Incoming, found: &Found) -> Result<(), ArchiveError> {
        static ZEROS: [u8; HOLE] = [0; HOLE];
        let is_hole = |piece: &[u8]| *piece == ZEROS;
        let mut rest = bytes;
        while !rest.is_empty() {
            let hole = rest.chunks(HOLE).take_while(|piece| is_hole(piece)).count() * HOLE;
            let data = rest[hole..].chunks(HOLE).take_while(|piece| !is_hole(piece)).map(<[u8]>::len).sum::<usize>();
            self.stored += data as u64;
            if self.stored > self.max_bytes && self.tree.account().limit().is_none() {
                return Err(ArchiveError::refused(&found.name, Refusal::TooLarge));
            }
            let skipped = if hole > 0 { file.skip(hole as u64) } else { Ok(()) };
            let written = skipped.and_then(|()| file.write_all(&rest[hole..hole + data]));
            written.map_err(|error| entry_error(&found.name)(TreeError::io("write", file.path())(error)))?;
            rest = &rest[hole + data..];
        }
        Ok(())
    }

    /// Puts something in a place. A directory that has the name is removed with what is in it.
    fn over<T>(
        &mut self,
        place: &Place,
        name: &OsStr,
        act: impl Fn(&Place) -> Result<T, TreeError>,
    ) -> Result<T, TreeError> {
        match act(place) {
            Err(TreeError::IsDirectory(path)) => {
                self.place = None;
                self.tree
                    .remove(&place.path().child(name), Recursive::Yes, self.options.progress.cancelled())
                    .map_err(|error| match error {
                        TreeError::NotFound(_) => TreeError::Busy(path),
                        error => error,
                    })?;
                act(place)
            }
            done => done,
        }
    }

    /// Sets what was postponed, what is deep first.
    fn finish_directories(&mut self) -> Result<(), ArchiveError> {
        while let Some((path, attributes)) = self.postponed.pop() {
            match self.tree.set_attributes(&path, Follow::No, attributes) {
                // Replaced by a later entry.
                Err(TreeError::NotFound(_) | TreeError::NotDirectory(_) | TreeError::Unsupported(_)) => {}
                set => set.map_err(entry_error(path.as_bytes()))?,
            }
        }
        Ok(())
    }
}

/// Directories get their modes and times last: writing into them changes the one and may need the other.
#[derive(Default)]
struct Postponed {
    paths: Vec<u8>,
    directories: Vec<(usize, Attributes)>,
}

impl Postponed {
    /// `false`: there are too many.
    fn add(&mut self, path: &UserPath, meta: &Meta) -> bool {
        let each = size_of::<(usize, Attributes)>();
        if self.paths.len() + path.as_bytes().len() + self.directories.len() * each > MAX_POSTPONED {
            return false;
        }
        self.directories.push((self.paths.len(), attributes(meta)));
        self.paths.extend_from_slice(path.as_bytes());
        true
    }

    fn pop(&mut self) -> Option<(UserPath, Attributes)> {
        let (start, attributes) = self.directories.pop()?;
        let path = UserPath::parse(OsStr::from_bytes(&self.paths[start..])).unwrap_or_default();
        self.paths.truncate(start);
        Some((path, attributes))
    }
}

fn attributes(meta: &Meta) -> Attributes {
    Attributes { mode: meta.mode, modified: meta.modified, ..Attributes::default() }
}

/// The path of an entry. One that leads out is refused, unlike in an archive that a user uploads: no daemon writes it.
fn inside(name: &[u8]) -> Result<UserPath, ArchiveError> {
    let refused = |refusal| ArchiveError::refused(name, refusal);
    if name.first() == Some(&b'/') || name.split(|byte| *byte == b'/').any(|part| part == b"..") {
        return Err(refused(Refusal::Outside));
    }
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(refused(Refusal::Name));
    }
    UserPath::parse(OsStr::from_bytes(name)).map_err(|error| match error {
        PathError::Outside => refused(Refusal::Outside),
        PathError::Nul | PathError::TooLong => refused(Refusal::Name),
    })
}
