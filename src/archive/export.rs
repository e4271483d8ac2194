//! A whole server as one stream, to move it by hand: a tar with these entries, in this order.
//!
//! ```text
//! server.json               what the daemon needs of it
//! config.yml                its manifest, for people
//! data.tar.gz.000000 …      the pieces of the archive of its files: `cat data.tar.gz.* | tar xz`
//! backups/{id}.tar.gz       local backups, where they were asked for
//! end                       nothing is missing
//! ```
//!
//! The length of an archive is not known before it is complete, so it travels in pieces. What is read is not trusted.

mod server;

use std::io::{self, Read, Write};

use tar::{Archive, Builder, Entries, Entry, EntryType, Header};
use uuid::Uuid;

use super::backup::{self, Summary, UnpackOptions, WriteOptions};
use super::error::ArchiveError;
use crate::files::tree::Tree;

pub use server::{ExportError, read_server, write_server};

/// Bytes of a piece.
const PIECE: usize = 4 << 20;
/// The longest `server.json`.
const MAX_HEADER: u64 = 16 << 20;
const SERVER: &str = "server.json";
const CONFIG: &str = "config.yml";
const DATA: &str = "data.tar.gz.";
const BACKUPS: &str = "backups/";
const BACKUP_END: &str = ".tar.gz";
const END: &str = "end";

/// Writes a server, entry by entry.
pub struct Exporter<W: Write> {
    tar: Builder<W>,
}

impl<W: Write> Exporter<W> {
    /// Begins with what the daemon needs, and with the manifest.
    ///
    /// # Errors
    /// The sink fails.
    pub fn new(sink: W, server: &[u8], config: &[u8]) -> Result<Self, ArchiveError> {
        let mut exporter = Self { tar: Builder::new(sink) };
        exporter.append(SERVER, server.len() as u64, server)?;
        exporter.append(CONFIG, config.len() as u64, config)?;
        Ok(exporter)
    }

    /// Writes the server's files.
    ///
    /// # Errors
    /// As [`backup::write`].
    pub fn data(&mut self, tree: &Tree, options: WriteOptions<'_>) -> Result<(), ArchiveError> {
        options.progress.set_total(backup::estimate(tree, options.ignore, options.progress)?.content);
        let pieces = Pieces { exporter: self, collected: Vec::with_capacity(PIECE), number: 0 };
        let (mut pieces, _) = backup::write(tree, pieces, options)?;
        pieces.send().map_err(ArchiveError::Io)
    }

    /// Writes the archive of a backup, of this length.
    ///
    /// # Errors
    /// The file or the sink fails.
    pub fn backup(&mut self, id: Uuid, length: u64, archive: impl Read) -> Result<(), ArchiveError> {
        self.append(&format!("{BACKUPS}{id}{BACKUP_END}"), length, archive.take(length))
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// The sink fails.
    pub fn finish(mut self) -> Result<W, ArchiveError> {
        self.append(END, 0, io::empty())?;
        let mut sink = self.tar.into_inner().map_err(ArchiveError::Io)?;
        sink.flush().map_err(ArchiveError::Io)?;
        Ok(sink)
    }

    fn append(&mut self, name: &str, length: u64, content: impl Read) -> Result<(), ArchiveError> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_size(length);
        self.tar.append_data(&mut header, name, content).map_err(ArchiveError::Io)
    }
}

struct Pieces<'a, W: Write> {
    exporter: &'a mut Exporter<W>,
    collected: Vec<u8>,
    number: u32,
}

impl<W: Write> Pieces<'_, W> {
    fn send(&mut self) -> io::Result<()> {
        if self.collected.is_empty() {
            return Ok(());
        }
        let name = format!("{DATA}{:06}", self.number);
        let sent = self.exporter.append(&name, self.collected.len() as u64, self.collected.as_slice());
        self.collected.clear();
        self.number += 1;
        sent.map_err(io::Error::other)
    }
}

impl<W: Write> Write for Pieces<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.collected.len());
        self.collected.extend_from_slice(&bytes[..taken]);
        if self.collected.len() == PIECE {
            self.send()?;
        }
        Ok(taken)
    }

    /// Pieces are full but for the last one.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where an import puts what it reads.
pub trait Importing {
    /// The file in which an archive of a backup is written. It is not expected to be on disk when it is dropped.
    ///
    /// # Errors
    /// It cannot be created.
    fn backup(&mut self, id: Uuid) -> io::Result<Box<dyn Write>>;
}

/// Reads a stream. `begin` gets `server.json`, and returns the tree for the files and the place for the rest. `options` are those of
/// the unpacking.
///
/// # Errors
/// It is no such stream, is damaged or incomplete, or something cannot be written. What was written stays.
pub fn read<I: Importing, E: From<ArchiveError>>(
    source: impl Read,
    begin: impl FnOnce(&[u8]) -> Result<(Tree, I), E>,
    options: UnpackOptions<'_>,
) -> Result<(I, Summary), E> {
    let mut archive = Archive::new(source);
    let mut entries = archive.entries().map_err(ArchiveError::Io)?;
    let mut first = next(&mut entries, SERVER)?;
    let mut header = Vec::new();
    if first.size() > MAX_HEADER {
        return Err(damaged("its first entry is too long").into());
    }
    first.read_to_end(&mut header).map_err(ArchiveError::Io)?;
    // An entry that is cut just ends.
    if header.len() as u64 != first.size() {
        return Err(damaged("it breaks off").into());
    }
    let (tree, mut importing) = begin(&header)?;
    next(&mut entries, CONFIG)?;
    let current = next(&mut entries, DATA)?;
    let mut data = Joined { entries: &mut entries, current: Some(current), after: None };
    let unpacked = backup::unpack(&mut data, &tree, options)?;
    io::copy(&mut data, &mut io::sink()).map_err(ArchiveError::Io)?;
    let mut after = data.after;
    loop {
        let Some(mut entry) = after.take() else { return Err(damaged("it breaks off").into()) };
        let name = name(&entry)?;
        if name == END {
            return Ok((importing, unpacked));
        }
        let id = name.strip_prefix(BACKUPS).and_then(|name| name.strip_suffix(BACKUP_END));
        let id = id.and_then(|id| Uuid::try_parse(id).ok()).ok_or_else(|| damaged("an entry is unknown"))?;
        let mut file = importing.backup(id).map_err(ArchiveError::Io)?;
        io::copy(&mut entry, &mut file).and_then(|_| file.flush()).map_err(ArchiveError::Io)?;
        after = entries.next().transpose().map_err(ArchiveError::Io)?;
    }
}

/// The next entry, whose name begins with this.
fn next<'a, R: Read>(entries: &mut Entries<'a, R>, expected: &str) -> Result<Entry<'a, R>, ArchiveError> {
    let entry = entries.next().ok_or_else(|| damaged("it breaks off"))?.map_err(ArchiveError::Io)?;
    match name(&entry)?.starts_with(expected) {
        true => Ok(entry),
        false => Err(damaged("it was not written by `alula export`")),
    }
}

fn name<R: Read>(entry: &Entry<'_, R>) -> Result<String, ArchiveError> {
    match entry.header().entry_type() {
        EntryType::Regular => Ok(String::from_utf8_lossy(&entry.path_bytes()).into_owned()),
        _ => Err(damaged("it has entries that are no files")),
    }
}

fn damaged(what: &str) -> ArchiveError {
    ArchiveError::Damaged(what.to_owned())
}

/// The pieces of the data as one stream.
struct Joined<'a, 'b, R: Read> {
    entries: &'b mut Entries<'a, R>,
    current: Option<Entry<'a, R>>,
    /// The first entry that is no piece.
    after: Option<Entry<'a, R>>,
}

impl<R: Read> Read for Joined<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(current) = &mut self.current else { return Ok(0) };
            match current.read(buffer)? {
                0 if !buffer.is_empty() => {}
                read => return Ok(read),
            }
            self.current = None;
            match self.entries.next().transpose()? {
                Some(entry) if entry.path_bytes().starts_with(DATA.as_bytes()) => self.current = Some(entry),
                other => self.after = other,
            }
        }
    }
}

#[cfg(test)]
mod tests;
