//! RAR, from version 1.5 to 7. Sets of several volumes are not supported, as the first one alone is given.

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;
use std::time::SystemTime;

use rars::{
    Archive, ArchiveReadOptions, ArchiveReader, AttrSource, Error, ExtractedEntryMeta, ExtractedLink, ReadCancellation,
};

use super::super::error::{ArchiveError, Refusal};
use super::super::header::{Content, Header, Meta, time};
use super::super::limits::{MAX_DECODER_MEMORY, MAX_ENTRIES};
use super::super::source::Source;
use super::Visitor;
use crate::progress::Progress;

/// Names and other fields of all entries, in bytes: the library keeps them in memory.
const MAX_HEADERS: u64 = 64 << 20;

pub(super) fn read<V: Visitor + 'static>(
    source: Source,
    progress: &Progress,
    visitor: &Rc<RefCell<V>>,
) -> Result<(), ArchiveError> {
    let archive = open(source)?;
    let cancellation = ReadCancellation::new();
    let options = options().with_cancellation(&cancellation);
    let is_rar5 = matches!(archive, Archive::Rar50Plus(_));
    let run = Rc::new(RefCell::new(Run { visitor: visitor.clone(), open: false, failed: None }));
    let result = archive.extract_with_links(
        options,
        |entry| {
            if progress.is_cancelled() {
                cancellation.cancel();
            }
            let content = match entry.file_attr & 0o170_000 {
                _ if entry.is_directory => Content::Directory,
                0o060_000 | 0o020_000 | 0o010_000 | 0o140_000 if entry.attr_source == AttrSource::Unix => {
                    Content::Special
                }
                _ => Content::File(None),
            };
            let wanted = run.borrow_mut().begin(entry, content, is_rar5)?;
            Ok(Box::new(Piece { run: run.clone(), wanted }))
        },
        |entry, link| {
            let content = match link {
                ExtractedLink::Symlink { target, .. } => Content::Symlink(target),
                ExtractedLink::HardLink { target } | ExtractedLink::FileCopy { target } => Content::HardLink(target),
                _ => Content::Special,
            };
            run.borrow_mut().begin(entry, content, is_rar5).map(drop)
        },
    );
    let mut run = run.borrow_mut();
    match (run.failed.take(), result) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(damaged(error)),
        (None, Ok(())) => run.close(),
    }
}

pub(super) fn sizes(source: Source, add: &mut dyn FnMut(u64) -> Result<(), ArchiveError>) -> Result<(), ArchiveError> {
    open(source)?.members().try_for_each(|member| add(member.meta.unpacked_size))
}

fn open(source: Source) -> Result<Archive, ArchiveError> {
    let options = options().with_max_header_count(MAX_ENTRIES).with_max_header_bytes(MAX_HEADERS);
    let archive = ArchiveReader::read_reader_with_options(source, options).map_err(damaged)?;
    for member in archive.members() {
        let meta = &member.meta;
        let refusal = match () {
            () if meta.is_encrypted => Refusal::Encrypted,
            () if meta.is_split_before || meta.is_split_after => Refusal::Split,
            () => continue,
        };
        return Err(ArchiveError::refused(&meta.name, refusal));
    }
    Ok(archive)
}

fn options<'a>() -> ArchiveReadOptions<'a> {
    let mut options = ArchiveReadOptions::new();
    options.rar50_buffered_decode_limit = Some(8 << 20);
    options.rar50_dictionary_size_limit = Some(MAX_DECODER_MEMORY);
    options.max_reader_workspace_bytes = Some(2 * MAX_DECODER_MEMORY);
    options
}

/// The library asks for a destination of each entry and never says when one is complete: the next one, or the end, shows it.
struct Run<V> {
    visitor: Rc<RefCell<V>>,
    open: bool,
    failed: Option<ArchiveError>,
}

impl<V: Visitor> Run<V> {
    fn begin(&mut self, entry: &ExtractedEntryMeta, content: Content<'_>, is_rar5: bool) -> rars::Result<bool> {
        let meta = Meta {
            mode: (entry.attr_source == AttrSource::Unix).then_some(entry.file_attr as u32),
            modified: modified(entry, is_rar5),
            owner: None,
        };
        let mut name = entry.name.clone();
        // Only in RAR 4, where `\` separates.
        if !is_rar5 && entry.attr_source != AttrSource::Unix {
            name.iter_mut().filter(|byte| **byte == b'\\').for_each(|byte| *byte = b'/');
        }
        let closed = self.close();
        let begun = closed.and_then(|()| self.visitor.borrow_mut().begin(&Header { name: &name, content, meta }));
        match begun {
            Ok(wanted) => {
                self.open = wanted;
                Ok(wanted)
            }
            Err(error) => Err(self.fail(error).into()),
        }
    }

    fn close(&mut self) -> Result<(), ArchiveError> {
        match std::mem::take(&mut self.open) {
            true => self.visitor.borrow_mut().end(),
            false => Ok(()),
        }
    }

    /// Keeps the error, since the library passes its own only.
    fn fail(&mut self, error: ArchiveError) -> io::Error {
        self.open = false;
        self.failed = Some(error);
        io::Error::other("stopped")
    }
}

struct Piece<V> {
    run: Rc<RefCell<Run<V>>>,
    wanted: bool,
}

impl<V: Visitor> Write for Piece<V> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.wanted {
            let mut run = self.run.borrow_mut();
            let written = run.visitor.borrow_mut().write(bytes);
            written.map_err(|error| run.fail(error))?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The time. RAR 4 has local times, which count as UTC.
fn modified(entry: &ExtractedEntryMeta, is_rar5: bool) -> Option<SystemTime> {
    let stored = entry.file_time?;
    let refinement = entry.mtime_refinement;
    let nanoseconds = refinement.map_or(0, |refinement| refinement.nanoseconds);
    if is_rar5 {
        return time(stored.into(), nanoseconds);
    }
    let bits = |from: u32, count: u32| i8::try_from(stored >> from & ((1 << count) - 1)).ok();
    let date = jiff::civil::DateTime::new(
        1980 + i16::from(bits(25, 7)?),
        bits(21, 4)?,
        bits(16, 5)?,
        bits(11, 5)?,
        bits(5, 6)?,
        bits(0, 5)? * 2,
        0,
    );
    let seconds = jiff::tz::TimeZone::UTC.to_timestamp(date.ok()?).ok()?.as_second();
    time(seconds + i64::from(refinement.is_some_and(|refinement| refinement.add_second)), nanoseconds)
}

fn damaged(error: Error) -> ArchiveError {
    ArchiveError::Damaged(error.to_string())
}
