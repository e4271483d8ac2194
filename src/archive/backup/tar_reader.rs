//! Reads a tar entry by entry from a stream, strictly: an archive without its end, or with anything after it, is damaged.
//!
//! Extended headers are read by their lengths: the library that other archives are read with splits them at line ends, which
//! names may have.

use std::io::{self, Read};

use tar::{EntryType, Header};

use super::super::error::{ArchiveError, Refusal};
use super::super::header::{Content, Meta, time};
use super::super::read::is_header;
use super::pax;
use super::tar_writer::BLOCK;
use super::vendor::{CHANGED, Changes, DIRECTORIES, MAX_RECORD, next_directory};

/// The extended headers of one entry, in bytes: a record of directories, one of changes, and names.
const MAX_HEADERS: u64 = 2 * MAX_RECORD as u64 + (64 << 10);

/// The headers before one entry.
const MAX_HEADER_COUNT: usize = 16;

/// Entries of one archive, with the directories in records. More files than a file system of this size usually has room for.
const MAX_ENTRIES: u64 = 50_000_000;

/// An entry; then its content is read.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub name: Vec<u8>,
    pub kind: Kind,
    pub target: Vec<u8>,
    pub size: u64,
    pub meta: Meta,
    /// The record of directories that it carries.
    pub directories: Vec<u8>,
    /// The changes that it carries.
    pub changes: Option<Changes>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    File,
    Directory,
    Symlink,
    HardLink,
    /// A pipe: Go Wings writes one, which nothing needs.
    Pipe,
    Device,
    /// What is no file, such as a volume's label.
    Other,
}

impl Found {
    /// As entries of all formats are.
    pub(super) fn content(&self) -> Content<'_> {
        match self.kind {
            Kind::File => Content::File(Some(self.size)),
            Kind::Directory => Content::Directory,
            Kind::Symlink => Content::Symlink(&self.target),
            Kind::HardLink => Content::HardLink(&self.target),
            Kind::Pipe | Kind::Device | Kind::Other => Content::Special,
        }
    }

    /// Hands out the directories that it carries.
    pub(super) fn each_directory(
        &self,
        mut act: impl FnMut(&[u8], Meta) -> Result<(), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        let mut rest = self.directories.as_slice();
        while !rest.is_empty() {
            let (path, meta, after) =
                next_directory(rest).ok_or_else(|| damaged("a record of directories is damaged"))?;
            act(path, meta)?;
            rest = after;
        }
        Ok(())
    }
}

pub(super) struct TarReader<R> {
    inner: R,
    /// Of the entry's content, and of the zeros after it.
    left: u64,
    padding: u64,
    entries: u64,
}

impl<R: Read> TarReader<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, left: 0, padding: 0, entries: 0 }
    }

    pub(super) fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry; what is left of the one before is skipped. `None` is the end, behind which nothing is.
    pub(super) fn next(&mut self) -> Result<Option<Found>, ArchiveError> {
        self.skip()?;
        let mut extended = Extended::default();
        for count in 0.. {
            if count == MAX_HEADER_COUNT {
                return Err(damaged("an entry has too many headers"));
            }
            let mut block = [0; BLOCK];
            self.exactly(&mut block)?;
            if block == [0; BLOCK] {
                return self.end().map(|()| None);
            }
            if !is_header(&block) {
                return Err(damaged("a header has a wrong checksum"));
            }
            let header = Header::from_byte_slice(&block);
            let kind = header.entry_type();
            let size = header.entry_size().map_err(ArchiveError::decoding)?;
            match kind {
                EntryType::XHeader => {
                    let records = self.extended(&mut extended.bytes, size)?;
                    extended.read(&records)?;
                }
                EntryType::XGlobalHeader => drop(self.extended(&mut extended.bytes, size)?),
                EntryType::GNULongName => extended.name = Some(text(self.extended(&mut extended.bytes, size)?)),
                EntryType::GNULongLink => extended.target = Some(text(self.extended(&mut extended.bytes, size)?)),
                _ => return self.found(header, extended).map(Some),
            }
        }
        Ok(None)
    }

    /// Reads from the content of the entry. Zero is its end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        // Filled, so that pieces begin at the same offsets of a file.
        self.exactly(&mut buffer[..most])?;
        self.left -= most as u64;
        Ok(most)
    }

    fn found(&mut self, header: &Header, extended: Extended) -> Result<Found, ArchiveError> {
        self.entries += 1 + extended.directories.len() as u64 / 16;
        let mut found = Found {
            name: extended.name.unwrap_or_else(|| header.path_bytes().into_owned()),
            target: extended.target.or_else(|| header.link_name_bytes().map(Into::into)).unwrap_or_default(),
            directories: extended.directories,
            changes: extended.changes,
            ..Found::default()
        };
        if self.entries > MAX_ENTRIES {
            return Err(ArchiveError::refused(&found.name, Refusal::TooMany));
        }
        if extended.is_sparse || header.entry_type() == EntryType::GNUSparse {
            return Err(ArchiveError::refused(&found.name, Refusal::Method));
        }
        let number =
            |number: Option<io::Result<u64>>| number.and_then(Result::ok).and_then(|id| u32::try_from(id).ok());
        let seconds = header.mtime().ok().and_then(|seconds| i64::try_from(seconds).ok());
        found.meta = Meta {
            mode: header.mode().ok(),
            modified: extended.modified.or_else(|| time(seconds?, 0)),
            owner: number(Some(header.uid())).zip(number(Some(header.gid()))),
        };
        let size = extended.size.map_or_else(|| header.entry_size(), Ok).map_err(ArchiveError::decoding)?;
        found.kind = match header.entry_type() {
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Link => Kind::HardLink,
            EntryType::Fifo => Kind::Pipe,
            EntryType::Block | EntryType::Char => Kind::Device,
            // Unix V7 has no other mark of a directory.
            EntryType::Regular | EntryType::Continuous if found.name.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => Kind::File,
            _ => Kind::Other,
        };
        found.size = if found.kind == Kind::File { size } else { 0 };
        self.begin(match found.kind {
            Kind::File | Kind::Other | Kind::HardLink => size,
            // The size of others means something else, or nothing.
            _ => 0,
        })?;
        Ok(found)
    }

    /// Reads the content of an extended header.
    fn extended(&mut self, read_before: &mut u64, size: u64) -> Result<Vec<u8>, ArchiveError> {
        *read_before = read_before.saturating_add(size);
        if *read_before > MAX_HEADERS {
            return Err(damaged("the header of an entry is too long"));
        }
        self.begin(size)?;
        let mut content = vec![0; size as usize];
        self.read(&mut content)?;
        self.skip()?;
        Ok(content)
    }

    fn begin(&mut self, size: u64) -> Result<(), ArchiveError> {
        let padded = size.checked_next_multiple_of(BLOCK as u64).filter(|padded| *padded < 1 << 62);
        let padded = padded.ok_or_else(|| damaged("the size of an entry is impossible"))?;
        (self.left, self.padding) = (size, padded - size);
        Ok(())
    }

    fn skip(&mut self) -> Result<(), ArchiveError> {
        self.left += std::mem::take(&mut self.padding);
        if self.left > 0 {
            let mut buffer = vec![0; super::BUFFER.min(self.left as usize)];
            while self.read(&mut buffer)? > 0 {}
        }
        Ok(())
    }

    /// Reads the second block of the end. Programs may fill up the last tape with zeros, and that is all.
    fn end(&mut self) -> Result<(), ArchiveError> {
        let mut block = [0; BLOCK];
        self.exactly(&mut block)?;
        let mut buffer = vec![0; super::BUFFER];
        let mut rest = block.as_slice();
        loop {
            if rest.iter().any(|byte| *byte != 0) {
                return Err(damaged("something follows its end"));
            }
            rest = match self.inner.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => &buffer[..read],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => &[],
                Err(error) => return Err(decoding(error)),
            };
        }
    }

    fn exactly(&mut self, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        self.inner.read_exact(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof if error.get_ref().is_none() => damaged("it ends too early"),
            _ => decoding(error),
        })
    }
}

/// What extended headers say about an entry.
#[derive(Default)]
struct Extended {
    /// Their bytes so far.
    bytes: u64,
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    modified: Option<std::time::SystemTime>,
    is_sparse: bool,
    directories: Vec<u8>,
    changes: Option<Changes>,
}

impl Extended {
    fn read(&mut self, records: &[u8]) -> Result<(), ArchiveError> {
        let mut rest = records;
        while !rest.is_empty() {
            let (key, value, after) = pax::next(rest).ok_or_else(|| damaged("an extended header is damaged"))?;
            rest = after;
            match key {
                b"path" => self.name = Some(value.to_vec()),
                b"linkpath" => self.target = Some(value.to_vec()),
                b"size" => self.size = Some(pax::number(value).ok_or_else(|| damaged("the size of an entry is none"))?),
                b"mtime" => self.modified = pax::parse_time(value),
                key if key == DIRECTORIES.as_bytes() => self.directories = value.to_vec(),
                key if key == CHANGED.as_bytes() => {
                    let changes = Changes::from_record(value);
                    self.changes = Some(changes.ok_or_else(|| damaged("the record of changed files is damaged"))?);
                }
                key => self.is_sparse |= key.starts_with(b"GNU.sparse."),
            }
        }
        Ok(())
    }
}

/// A long name of GNU ends with a NUL.
fn text(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    bytes
}

fn damaged(what: &str) -> ArchiveError {
    ArchiveError::Damaged(what.to_owned())
}

/// An error of the stream below, which may be that of a cancelled operation.
fn decoding(error: io::Error) -> ArchiveError {
    match error.get_ref().is_some_and(|inner| inner.is::<super::super::compress::Stopped>()) {
        true => ArchiveError::Cancelled,
        false => ArchiveError::decoding(error),
    }
}
