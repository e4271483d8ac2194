//! zip with deflate, written in one pass: sizes and checksums follow the content of each entry.

use std::borrow::Cow;
use std::io::{self, Read, Write};

use rawzip::path::{EntryPath, ZipFilePath};
use rawzip::time::UtcDateTime;
use rawzip::{CompressionMethod, ErrorKind, ZipArchiveWriter};

use super::super::deflate::{Deflate, Pool, Spawn};
use super::super::header::{Meta, seconds};

pub(super) struct Zip<W: Write> {
    archive: ZipArchiveWriter<W>,
    pool: Pool,
}

impl<W: Write> Zip<W> {
    pub(super) fn new(level: u32, spawn: Option<Spawn<'_>>, sink: W) -> Self {
        Self { archive: ZipArchiveWriter::new(sink), pool: Pool::new(level, spawn) }
    }

    pub(super) fn directory(&mut self, name: &[u8], meta: &Meta) -> io::Result<()> {
        let name = [name, b"/"].concat();
        let mode = 0o040_000 | meta.mode.unwrap_or(0o755) & 0o7777;
        let mut directory = self.archive.new_dir(path(&name)).unix_permissions(mode);
        if let Some(modified) = meta.modified {
            directory = directory.last_modified(UtcDateTime::from_unix(seconds(modified)));
        }
        directory.create().map(drop).map_err(io_error)
    }

    pub(super) fn symlink(&mut self, name: &[u8], target: &[u8], meta: &Meta) -> io::Result<()> {
        let mode = 0o120_000 | meta.mode.unwrap_or(0o777) & 0o777;
        self.entry(name, mode, meta, &mut &*target)
    }

    pub(super) fn file(&mut self, name: &[u8], meta: &Meta, content: &mut impl Read) -> io::Result<()> {
        let mode = 0o100_000 | meta.mode.unwrap_or(0o644) & 0o7777;
        self.entry(name, mode, meta, content)
    }

    fn entry(&mut self, name: &[u8], mode: u32, meta: &Meta, content: &mut impl Read) -> io::Result<()> {
        let mut entry =
            self.archive.new_file(path(name)).compression_method(CompressionMethod::DEFLATE).unix_permissions(mode);
        if let Some(modified) = meta.modified {
            entry = entry.last_modified(UtcDateTime::from_unix(seconds(modified)));
        }
        let (mut entry, config) = entry.start().map_err(io_error)?;
        let mut data = config.wrap(Deflate::new(&mut self.pool, &mut entry));
        io::copy(content, &mut data)?;
        let (deflate, descriptor) = data.finish().map_err(io_error)?;
        deflate.finish()?;
        entry.finish(descriptor).map(drop).map_err(io_error)
    }

    pub(super) fn finish(self) -> io::Result<W> {
        self.archive.finish().map_err(io_error)
    }
}

/// Marked as UTF-8 where this does not change it: the standard allows no backslash in names, Linux does.
fn path(name: &[u8]) -> EntryPath<'_> {
    match std::str::from_utf8(name) {
        Ok(text) if ZipFilePath::from_str(text).as_str() == text => EntryPath::conformant(text),
        _ => EntryPath::verbatim(Cow::Borrowed(name)),
    }
}

fn io_error(error: rawzip::Error) -> io::Error {
    match error.into_kind() {
        ErrorKind::IO(error) => error,
        other => io::Error::other(rawzip::Error::from(other).to_string()),
    }
}
