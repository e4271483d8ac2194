//! Writes an archive to any sink, entry by entry.

mod steady;
mod tar;
mod zip;

use std::io::{self, Read, Write};

use self::tar::Tar;
use self::zip::Zip;
pub use super::deflate::Spawn;
use super::format::Format;
use super::header::Meta;
use steady::Steady;

/// An archive that is being written. Its entries' names are relative and separated by `/`.
pub struct Writer<W: Write>(Kind<W>);

enum Kind<W: Write> {
    Tar(Box<Tar<W>>),
    Zip(Box<Zip<W>>),
}

impl<W: Write> Writer<W> {
    /// Begins an archive. `level` is that of gzip and zip, from 0 to 9. With `spawn`, several threads compress these two.
    ///
    /// # Errors
    /// The sink fails.
    pub fn new(format: Format, level: u32, spawn: Option<Spawn<'_>>, sink: W) -> io::Result<Self> {
        Ok(Self(match format {
            Format::Zip => Kind::Zip(Box::new(Zip::new(level, spawn, sink))),
            tar => Kind::Tar(Box::new(Tar::new(tar, level, spawn, sink)?)),
        }))
    }

    /// Adds a directory.
    ///
    /// # Errors
    /// The sink fails, or the format cannot represent the name.
    pub fn directory(&mut self, name: &[u8], meta: &Meta) -> io::Result<()> {
        match &mut self.0 {
            Kind::Tar(tar) => tar.directory(name, meta),
            Kind::Zip(zip) => zip.directory(name, meta),
        }
    }

    /// Adds a symbolic link with this text.
    ///
    /// # Errors
    /// As [`directory`](Self::directory).
    pub fn symlink(&mut self, name: &[u8], target: &[u8], meta: &Meta) -> io::Result<()> {
        match &mut self.0 {
            Kind::Tar(tar) => tar.symlink(name, target, meta),
            Kind::Zip(zip) => zip.symlink(name, target, meta),
        }
    }

    /// Whether the format has several names of one file. Without them each is added as a file.
    pub fn has_hard_links(&self) -> bool {
        matches!(self.0, Kind::Tar(_))
    }

    /// Adds another name of the file that was added as `first`.
    ///
    /// # Errors
    /// As [`directory`](Self::directory); or the format [has none](Self::has_hard_links).
    pub fn hard_link(&mut self, name: &[u8], first: &[u8], meta: &Meta) -> io::Result<()> {
        match &mut self.0 {
            Kind::Tar(tar) => tar.hard_link(name, first, meta),
            Kind::Zip(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Adds a file of `size` bytes. Content that turns out shorter is filled up with zeros, more of it is not read: a file may
    /// change meanwhile.
    ///
    /// # Errors
    /// As [`directory`](Self::directory); or the content cannot be read.
    pub fn file(&mut self, name: &[u8], meta: &Meta, size: u64, content: impl Read) -> io::Result<()> {
        let mut content = Steady::new(content, size);
        match &mut self.0 {
            Kind::Tar(tar) => tar.file(name, meta, size, &mut content),
            Kind::Zip(zip) => zip.file(name, meta, &mut content),
        }
    }

    /// Writes the end of the archive and returns the sink.
    ///
    /// # Errors
    /// The sink fails.
    pub fn finish(self) -> io::Result<W> {
        match self.0 {
            Kind::Tar(tar) => tar.finish(),
            Kind::Zip(zip) => zip.finish(),
        }
    }
}
