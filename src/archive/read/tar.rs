//! tar: the formats of GNU, POSIX and Unix V7, compressed or not.

use std::cell::Cell;
use std::io::{self, BufReader, Read};
use std::rc::Rc;
use std::time::SystemTime;

use tar::{Archive, Entry, EntryType};

use super::super::error::{ArchiveError, Refusal};
use super::super::header::{Content, Header, Meta, time};
use super::super::limits::{MAX_ENTRIES, MAX_TAR_HEADERS};
use super::super::source::Source;
use super::codec::Codec;
use super::{BUFFER, Visitor, copy};

/// The size of a header.
pub(super) const BLOCK: u64 = 512;

/// Whether the block is the header of an entry: its checksum is right.
pub(in super::super) fn is_header(block: &[u8]) -> bool {
    let Ok(block) = <&[u8; BLOCK as usize]>::try_from(block) else {
        return false;
    };
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    let field: u32 = block[148..156].iter().map(|byte| u32::from(*byte)).sum();
    let header = tar::Header::from_byte_slice(block);
    // The checksum's own bytes count as blanks.
    block[0] != 0 && header.cksum().is_ok_and(|expected| expected == sum - field + 8 * u32::from(b' '))
}

/// Whether the block is the end of an archive.
pub(super) fn is_end(block: &[u8]) -> bool {
    block.len() as u64 == BLOCK && block.iter().all(|byte| *byte == 0)
}

pub(super) fn read(source: Source, codec: Codec, visitor: &mut dyn Visitor) -> Result<(), ArchiveError> {
    each(source, codec, |entry, name| visit(entry, name, visitor))
}

pub(super) fn sizes(
    source: Source,
    codec: Codec,
    add: &mut dyn FnMut(u64) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    each(source, codec, |entry, _| match is_file(entry.header().entry_type()) {
        true => add(entry.size()),
        false => Ok(()),
    })
}

type Decoder<'a> = Guard<Box<dyn Read + 'a>>;

fn each<'a>(
    source: Source,
    codec: Codec,
    mut act: impl FnMut(&mut Entry<'_, Decoder<'a>>, &[u8]) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let decoder = codec.decoder(BufReader::with_capacity(BUFFER, source)).map_err(ArchiveError::decoding)?;
    let budget = Rc::new(Cell::new(MAX_TAR_HEADERS));
    let mut archive = Archive::new(Guard { inner: decoder, budget: budget.clone() });
    let mut count = 0;
    let mut entries = archive.entries().map_err(ArchiveError::decoding)?;
    loop {
        budget.set(MAX_TAR_HEADERS);
        let Some(entry) = entries.next() else {
            return Ok(());
        };
        let mut entry = entry.map_err(ArchiveError::decoding)?;
        budget.set(u64::MAX);
        let name = entry.path_bytes().into_owned();
        count += 1;
        if count > MAX_ENTRIES {
            return Err(ArchiveError::refused(&name, Refusal::TooMany));
        }
        act(&mut entry, &name)?;
        // The rest of an entry that was not wanted.
        io::copy(&mut entry, &mut io::sink()).map_err(ArchiveError::decoding)?;
    }
}

fn visit(entry: &mut Entry<'_, impl Read>, name: &[u8], visitor: &mut dyn Visitor) -> Result<(), ArchiveError> {
    let header = entry.header();
    let seconds = header.mtime().ok().and_then(|seconds| i64::try_from(seconds).ok());
    let mut meta =
        Meta { mode: header.mode().ok(), modified: seconds.and_then(|seconds| time(seconds, 0)), owner: None };
    let kind = header.entry_type();
    let extensions = Extensions::of(entry);
    meta.modified = extensions.modified.or(meta.modified);
    if extensions.is_sparse {
        return Err(ArchiveError::refused(name, Refusal::Method));
    }
    let target = entry.link_name_bytes().map(|target| target.into_owned()).unwrap_or_default();
    let content = match kind {
        EntryType::Directory => Content::Directory,
        EntryType::Symlink => Content::Symlink(&target),
        EntryType::Link => Content::HardLink(&target),
        EntryType::Block | EntryType::Char | EntryType::Fifo => Content::Special,
        // Unix V7 has no other mark of a directory.
        kind if is_file(kind) && name.ends_with(b"/") => Content::Directory,
        kind if is_file(kind) => Content::File(Some(entry.size())),
        // Global headers, labels of volumes, and what later formats may add.
        _ => return Ok(()),
    };
    match visitor.begin(&Header { name, content, meta })? {
        true => copy_exactly(entry, visitor),
        false => Ok(()),
    }
}

/// The library ends an entry silently where the archive ends.
fn copy_exactly(entry: &mut Entry<'_, impl Read>, visitor: &mut dyn Visitor) -> Result<(), ArchiveError> {
    let size = entry.size();
    let mut counted = Counted { inner: entry, left: size };
    copy(&mut counted, visitor)
}

/// An end before the announced size is an error.
struct Counted<'a, R> {
    inner: &'a mut R,
    left: u64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if read == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends in the middle of an entry"));
        }
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}

fn is_file(kind: EntryType) -> bool {
    matches!(kind, EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse)
}

/// What extended headers say about an entry, as far as the library does not apply it.
#[derive(Default)]
struct Extensions {
    /// The time with fractions of a second.
    modified: Option<SystemTime>,
    /// The content is a map of its parts, in a format that is not supported.
    is_sparse: bool,
}

impl Extensions {
    fn of(entry: &mut Entry<'_, impl Read>) -> Self {
        let mut found = Self::default();
        let Ok(Some(extensions)) = entry.pax_extensions() else {
            return found;
        };
        for extension in extensions.filter_map(Result::ok) {
            match extension.key_bytes() {
                b"mtime" => found.modified = extension.value().ok().and_then(precise_time),
                key => found.is_sparse |= key.starts_with(b"GNU.sparse."),
            }
        }
        found
    }
}

/// A time such as `1000000000.25`.
fn precise_time(text: &str) -> Option<SystemTime> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.starts_with('-') || !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let nanoseconds = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    time(whole.parse().ok()?, nanoseconds)
}

/// Bounds what the library reads for headers: it keeps long names and extended headers in memory, whatever their size.
struct Guard<R> {
    inner: R,
    budget: Rc<Cell<u64>>,
}

impl<R: Read> Read for Guard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let budget = self.budget.get();
        if budget == 0 {
            return Err(io::Error::other("the header of an entry is too long"));
        }
        let most = usize::try_from(budget).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.inner.read(&mut buffer[..most])?;
        self.budget.set(budget.saturating_sub(read as u64));
        Ok(read)
    }
}
