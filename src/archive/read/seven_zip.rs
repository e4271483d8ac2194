//! 7z.

use std::io::{self, Read};
use std::time::SystemTime;

use sevenz_rust2::{ArchiveEntry, ArchiveReader, EntryDecision, Error, Password};

use super::super::error::{ArchiveError, Refusal};
use super::super::header::{Content, Header, Meta};
use super::super::limits::{MAX_DECODER_MEMORY, MAX_ENTRIES, MAX_TARGET};
use super::super::source::Source;
use super::{Visitor, copy};

/// The attribute that says that the upper 16 bits are a mode.
const UNIX: u32 = 0x8000;

pub(super) fn read(source: Source, visitor: &mut dyn Visitor) -> Result<(), ArchiveError> {
    let mut archive = open(source)?;
    // The library passes its own errors only.
    let mut failed = None;
    let result = archive.for_each_entries_with_decision(|entry, content| match visit(entry, content, visitor) {
        Ok(()) => Ok(EntryDecision::Continue),
        Err(error) => {
            failed = Some(error);
            Ok(EntryDecision::Stop)
        }
    });
    match failed {
        Some(error) => Err(error),
        None => result.map_err(damaged),
    }
}

pub(super) fn sizes(source: Source, add: &mut dyn FnMut(u64) -> Result<(), ArchiveError>) -> Result<(), ArchiveError> {
    open(source)?.archive().files.iter().try_for_each(|entry| add(entry.size()))
}

fn open(source: Source) -> Result<ArchiveReader<Source>, ArchiveError> {
    let memory = usize::try_from(MAX_DECODER_MEMORY >> 10).unwrap_or(usize::MAX);
    let mut archive = ArchiveReader::new_with_memory_limit(source, Password::empty(), memory).map_err(damaged)?;
    archive.set_thread_count(1);
    match archive.archive().files.get(MAX_ENTRIES as usize) {
        Some(entry) => Err(ArchiveError::refused(entry.name().as_bytes(), Refusal::TooMany)),
        None => Ok(archive),
    }
}

fn visit(entry: &ArchiveEntry, content: &mut dyn Read, visitor: &mut dyn Visitor) -> Result<(), ArchiveError> {
    let name = entry.name().as_bytes();
    let attributes = entry.windows_attributes();
    let mode = (entry.has_windows_attributes && attributes & UNIX != 0).then_some(attributes >> 16);
    let modified = entry.has_last_modified_date.then(|| SystemTime::from(entry.last_modified_date()));
    let meta = Meta { mode, modified, owner: None };
    if entry.is_anti_item {
        // It says what an update removes.
        return Ok(());
    }
    let target;
    let content_of = match mode.unwrap_or_default() & 0o170_000 {
        _ if entry.is_directory() => Content::Directory,
        0o120_000 => {
            let mut text = Vec::new();
            content.take(MAX_TARGET as u64 + 1).read_to_end(&mut text).map_err(ArchiveError::decoding)?;
            target = text;
            Content::Symlink(&target)
        }
        0o060_000 | 0o020_000 | 0o010_000 | 0o140_000 => Content::Special,
        _ => Content::File(Some(entry.size())),
    };
    match visitor.begin(&Header { name, content: content_of, meta })? {
        true => copy(content, visitor),
        false => Ok(()),
    }
}

fn damaged(error: Error) -> ArchiveError {
    let encrypted = || ArchiveError::Damaged("it is encrypted".into());
    match error {
        Error::Io(error, _) => ArchiveError::decoding(error),
        Error::PasswordRequired | Error::MaybeBadPassword(_) => encrypted(),
        Error::MaxMemLimited { .. } => ArchiveError::decoding(io::Error::other("the dictionary needs too much memory")),
        other => ArchiveError::Damaged(other.to_string()),
    }
}
