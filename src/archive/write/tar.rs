//! tar in the format of GNU, compressed.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bzip2::write::BzEncoder;
use liblzma::write::XzEncoder;
use tar::{Builder, EntryType, Header};

use super::super::deflate::{Gzip, Spawn};
use super::super::format::Format;
use super::super::header::{Meta, seconds};

/// The preset of xz. It uses 17 MiB of memory; the default, 6, uses 94 MiB.
const XZ_PRESET: u32 = 2;

/// The length of a link's target in a header.
const SHORT: usize = 100;

pub(super) struct Tar<W: Write>(Builder<Encoder<W>>);

enum Encoder<W: Write> {
    Gzip(Gzip<W>),
    Bzip2(BzEncoder<W>),
    Xz(XzEncoder<W>),
}

impl<W: Write> Tar<W> {
    pub(super) fn new(format: Format, level: u32, spawn: Option<Spawn<'_>>, sink: W) -> io::Result<Self> {
        Ok(Self(Builder::new(match format {
            Format::TarBz2 => Encoder::Bzip2(BzEncoder::new(sink, bzip2::Compression::best())),
            Format::TarXz => Encoder::Xz(XzEncoder::new(sink, XZ_PRESET)),
            Format::TarGz | Format::Zip => Encoder::Gzip(Gzip::new(level, spawn, sink)?),
        })))
    }

    pub(super) fn directory(&mut self, name: &[u8], meta: &Meta) -> io::Result<()> {
        let name = [name, b"/"].concat();
        self.0.append_data(&mut header(EntryType::Directory, meta, 0, 0o755), path(&name), io::empty())
    }

    pub(super) fn symlink(&mut self, name: &[u8], target: &[u8], meta: &Meta) -> io::Result<()> {
        self.link(EntryType::Symlink, name, target, meta)
    }

    pub(super) fn hard_link(&mut self, name: &[u8], first: &[u8], meta: &Meta) -> io::Result<()> {
        self.link(EntryType::Link, name, first, meta)
    }

    fn link(&mut self, kind: EntryType, name: &[u8], target: &[u8], meta: &Meta) -> io::Result<()> {
        let mut header = header(kind, meta, 0, 0o777);
        if target.len() > SHORT {
            return self.0.append_link(&mut header, path(name), path(target));
        }
        header.set_link_name_literal(OsStr::from_bytes(target).as_bytes())?;
        self.0.append_data(&mut header, path(name), io::empty())
    }

    pub(super) fn file(&mut self, name: &[u8], meta: &Meta, size: u64, content: &mut impl Read) -> io::Result<()> {
        self.0.append_data(&mut header(EntryType::Regular, meta, size, 0o644), path(name), content)
    }

    pub(super) fn finish(self) -> io::Result<W> {
        match self.0.into_inner()? {
            Encoder::Gzip(gzip) => gzip.finish(),
            Encoder::Bzip2(bzip2) => bzip2.finish(),
            Encoder::Xz(xz) => xz.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(gzip) => gzip.write(bytes),
            Self::Bzip2(bzip2) => bzip2.write(bytes),
            Self::Xz(xz) => xz.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn header(kind: EntryType, meta: &Meta, size: u64, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(meta.mode.unwrap_or(mode) & 0o7777);
    header.set_mtime(meta.modified.map_or(0, |time| seconds(time).max(0) as u64));
    let (uid, gid) = meta.owner.unwrap_or_default();
    header.set_uid(uid.into());
    header.set_gid(gid.into());
    header
}

fn path(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}
