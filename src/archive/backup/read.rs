//! Reads an archive without unpacking it: verifies, lists, and reads single files.

use std::io::{BufReader, Read, Write};

use flate2::bufread::MultiGzDecoder;

use super::super::error::{ArchiveError, shown};
use super::super::header::Meta;
use super::digest::{Digests, Hashes, Hashing};
use super::tar_reader::{Found, Kind, TarReader};
use super::{BUFFER, Pace, Summary};
use crate::progress::Progress;

/// An archive that is read: decompressed, with its compressed bytes hashed and counted.
pub(super) type Input<'a, R> = TarReader<MultiGzDecoder<BufReader<Hashing<'a, R>>>>;

/// Begins to read. The progress counts the bytes of the archive.
pub(super) fn open<'a, R: Read>(
    source: R,
    hashes: Hashes,
    pace: Option<Pace<'a>>,
    progress: &'a Progress,
) -> Input<'a, R> {
    let source = Hashing::new(source, hashes, pace, progress).counted();
    TarReader::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER, source)))
}

/// The size and the checksums of an archive that was read to its end.
pub(super) fn close<R: Read>(input: Input<'_, R>) -> (u64, Digests) {
    let (_, bytes, digests) = input.into_inner().into_inner().into_inner().finish();
    (bytes, digests)
}

/// What an entry of an archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A link with this text.
    Symlink(Vec<u8>),
    /// Another name of the file with this name.
    HardLink(Vec<u8>),
    /// A pipe or a device, which is not unpacked.
    Special,
}

/// An entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The name, without `./` before it and `/` behind it; `.` for the server's directory.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: ItemKind,
    /// The size of a file, in bytes.
    pub size: u64,
    /// Mode, time and owner.
    pub meta: Meta,
}

/// Reads everything: structure, checksums of gzip, and the end.
///
/// # Errors
/// The archive is damaged, cannot be read, or the operation is cancelled.
pub fn verify(
    source: impl Read,
    hashes: Hashes,
    pace: Option<Pace<'_>>,
    progress: &Progress,
) -> Result<Summary, ArchiveError> {
    read(source, hashes, pace, progress, |_| {})
}

/// Reads everything, and hands out the entries in the archive's order. A directory may come after what is in it, and twice.
///
/// # Errors
/// As [`verify`].
pub fn list(source: impl Read, progress: &Progress, act: impl FnMut(Item)) -> Result<Summary, ArchiveError> {
    read(source, Hashes::default(), None, progress, act)
}

fn read(
    source: impl Read,
    hashes: Hashes,
    pace: Option<Pace<'_>>,
    progress: &Progress,
    mut act: impl FnMut(Item),
) -> Result<Summary, ArchiveError> {
    let mut input = open(source, hashes, pace, progress);
    let mut contents = Summary::default();
    while let Some(found) = input.next()? {
        found.each_directory(|name, meta| {
            contents.directories += 1;
            act(Item { name: plain(name), kind: ItemKind::Directory, size: 0, meta });
            Ok(())
        })?;
        contents.changes = found.changes.clone().unwrap_or(contents.changes);
        let Some(item) = item(found) else { continue };
        match item.kind {
            ItemKind::Directory => contents.directories += 1,
            ItemKind::File => contents.files += 1,
            ItemKind::Symlink(_) | ItemKind::HardLink(_) => contents.links += 1,
            ItemKind::Special => {}
        }
        contents.content = contents.content.saturating_add(item.size);
        act(item);
    }
    (contents.bytes, contents.digests) = close(input);
    Ok(contents)
}

fn item(found: Found) -> Option<Item> {
    let kind = match found.kind {
        Kind::File => ItemKind::File,
        Kind::Directory => ItemKind::Directory,
        Kind::Symlink => ItemKind::Symlink(found.target),
        Kind::HardLink => ItemKind::HardLink(plain(&found.target)),
        Kind::Pipe | Kind::Device => ItemKind::Special,
        Kind::Other => return None,
    };
    Some(Item { name: plain(&found.name), kind, size: found.size, meta: found.meta })
}

/// What was found under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OneFile {
    /// A file: this many bytes were written.
    Read(u64),
    /// Something else, such as a link to follow.
    Other(ItemKind),
    /// Nothing has the name.
    Missing,
}

/// Writes the content of one file into a sink. Reads no further, so the rest of the archive is not verified.
///
/// # Errors
/// The archive is damaged as far as it is read, or the sink fails.
pub fn read_one(
    source: impl Read,
    name: &[u8],
    mut sink: impl Write,
    progress: &Progress,
) -> Result<OneFile, ArchiveError> {
    let name = plain(name);
    let mut input = open(source, Hashes::default(), None, progress);
    let mut directory = false;
    while let Some(found) = input.next()? {
        found.each_directory(|path, _| {
            directory |= plain(path) == name;
            Ok(())
        })?;
        if plain(&found.name) != name {
            continue;
        }
        if found.kind != Kind::File {
            return Ok(item(found).map_or(OneFile::Missing, |item| OneFile::Other(item.kind)));
        }
        let mut buffer = vec![0; BUFFER];
        loop {
            match input.read(&mut buffer)? {
                0 => return Ok(OneFile::Read(found.size)),
                read => sink.write_all(&buffer[..read]).map_err(ArchiveError::Io)?,
            }
        }
    }
    Ok(if directory { OneFile::Other(ItemKind::Directory) } else { OneFile::Missing })
}

/// A name without what does not change it.
fn plain(name: &[u8]) -> Vec<u8> {
    let parts = name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    let plain = parts.collect::<Vec<_>>().join(&b'/');
    if plain.is_empty() { b".".to_vec() } else { plain }
}

impl Item {
    /// The name, for people.
    pub fn shown(&self) -> String {
        shown(&self.name)
    }
}
