//! Builds archives of all formats, also such as no program makes.

use std::borrow::Cow;
use std::io::{Cursor, Write};

use rawzip::path::EntryPath;
use rawzip::time::UtcDateTime;
use rawzip::{CompressionMethod, ZipArchiveWriter};
use sevenz_rust2::{ArchiveEntry, ArchiveWriter};

/// The time of all entries.
pub(super) const TIME: u64 = 1_000_000_000;

/// The same, 2001-09-09 01:46:40.
const DOS_TIME: u32 = (2001 - 1980) << 25 | 9 << 21 | 9 << 16 | 1 << 11 | 46 << 5 | 20;

#[derive(Debug, Clone)]
pub(in super::super) enum Item<'a> {
    File(&'a str, &'a [u8]),
    Directory(&'a str),
    Symlink(&'a str, &'a str),
    /// Only tar has them.
    HardLink(&'a str, &'a str),
    Device(&'a str),
}
use Item::{Device, Directory, File, HardLink, Symlink};

impl<'a> Item<'a> {
    fn parts(&self) -> (&'a str, u32, &'a [u8]) {
        match self {
            File(name, content) => (name, 0o100_750, content),
            Directory(name) => (name, 0o040_755, b""),
            Symlink(name, target) => (name, 0o120_777, target.as_bytes()),
            HardLink(name, _) => (name, 0o100_644, b""),
            Device(name) => (name, 0o020_666, b""),
        }
    }
}

/// All formats that [`build`] can make.
pub(super) const KINDS: &[&str] = &[
    "zip", "tar", "tar.gz", "tar.bz2", "tar.xz", "tar.zst", "tar.lz4", "tar.sz", "tar.zz", "7z", "rar", "rar4", "rar5",
];

pub(super) fn build(kind: &str, items: &[Item<'_>]) -> Vec<u8> {
    match kind {
        "zip" => zip(items),
        "7z" => seven_zip(items),
        "rar" => rar(items),
        "rar4" => compressed_rar(rars::ArchiveVersion::Rar29, items),
        "rar5" => compressed_rar(rars::ArchiveVersion::Rar50, items),
        _ => pack(kind.rsplit('.').next().unwrap(), &tar(items)),
    }
}

/// Compresses a stream; the format has this extension.
pub(in super::super) fn pack(extension: &str, data: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    match extension {
        "tar" => packed.extend_from_slice(data),
        "gz" => {
            let mut encoder = flate2::write::GzEncoder::new(&mut packed, flate2::Compression::fast());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap();
        }
        "zz" => {
            let mut encoder = flate2::write::ZlibEncoder::new(&mut packed, flate2::Compression::fast());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap();
        }
        "bz2" => {
            let mut encoder = bzip2::write::BzEncoder::new(&mut packed, bzip2::Compression::fast());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap();
        }
        "xz" => {
            let mut encoder = liblzma::write::XzEncoder::new(&mut packed, 0);
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap();
        }
        "zst" => packed = zstd::encode_all(data, 1).unwrap(),
        "lz4" => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(&mut packed);
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap();
        }
        "sz" => {
            let mut encoder = snap::write::FrameEncoder::new(&mut packed);
            encoder.write_all(data).unwrap();
            encoder.flush().unwrap();
            drop(encoder);
        }
        other => panic!("no format {other}"),
    }
    packed
}

pub(in super::super) fn tar(items: &[Item<'_>]) -> Vec<u8> {
    let mut archive = Vec::new();
    for item in items {
        let (name, mode, content) = item.parts();
        let (kind, content) = match item {
            File(..) => (tar::EntryType::Regular, content),
            Directory(_) => (tar::EntryType::Directory, content),
            Symlink(..) => (tar::EntryType::Symlink, &b""[..]),
            HardLink(..) => (tar::EntryType::Link, content),
            Device(_) => (tar::EntryType::Char, content),
        };
        let mut header = tar::Header::new_gnu();
        // The library would refuse such names.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        if let Symlink(_, target) | HardLink(_, target) = item {
            header.as_gnu_mut().unwrap().linkname[..target.len()].copy_from_slice(target.as_bytes());
        }
        header.set_entry_type(kind);
        header.set_mode(mode & 0o7777);
        header.set_mtime(TIME);
        header.set_size(content.len() as u64);
        header.set_cksum();
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

fn zip(items: &[Item<'_>]) -> Vec<u8> {
    let mut archive = ZipArchiveWriter::new(Vec::new());
    for item in items {
        let (name, mode, content) = item.parts();
        let path = |name: String| EntryPath::verbatim(Cow::Owned(name.into_bytes()));
        let time = UtcDateTime::from_unix(TIME as i64);
        if let Directory(_) = item {
            archive.new_dir(path(format!("{name}/"))).unix_permissions(mode).last_modified(time).create().unwrap();
            continue;
        }
        let entry = archive.new_file(path(name.to_owned())).compression_method(CompressionMethod::DEFLATE);
        let (mut entry, config) = entry.unix_permissions(mode).last_modified(time).start().unwrap();
        let encoder = flate2::write::DeflateEncoder::new(&mut entry, flate2::Compression::fast());
        let mut data = config.wrap(encoder);
        data.write_all(content).unwrap();
        let (encoder, descriptor) = data.finish().unwrap();
        encoder.finish().unwrap();
        entry.finish(descriptor).unwrap();
    }
    archive.finish().unwrap()
}

fn seven_zip(items: &[Item<'_>]) -> Vec<u8> {
    let mut archive = ArchiveWriter::new(Cursor::new(Vec::new())).unwrap();
    for item in items {
        let (name, mode, content) = item.parts();
        let mut entry = match item {
            Directory(_) => ArchiveEntry::new_directory(name),
            _ => ArchiveEntry::new_file(name),
        };
        entry.has_windows_attributes = true;
        entry.windows_attributes = mode << 16 | 0x8000;
        entry.has_last_modified_date = true;
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(TIME);
        entry.last_modified_date = time.try_into().unwrap();
        let content = (!content.is_empty()).then_some(content);
        archive.push_archive_entry(entry, content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// RAR 4, without compression.
fn rar(items: &[Item<'_>]) -> Vec<u8> {
    let mut archive = b"Rar!\x1a\x07\x00".to_vec();
    let mut block = |kind: u8, flags: u16, rest: &[u8], content: &[u8]| {
        let mut head = vec![kind];
        head.extend_from_slice(&flags.to_le_bytes());
        head.extend_from_slice(&(7 + rest.len() as u16).to_le_bytes());
        head.extend_from_slice(rest);
        let checksum = crc32fast::hash(&head) as u16;
        archive.extend_from_slice(&checksum.to_le_bytes());
        archive.extend_from_slice(&head);
        archive.extend_from_slice(content);
    };
    block(0x73, 0, &[0; 6], b"");
    for item in items {
        let (name, mode, content) = item.parts();
        let length = (content.len() as u32).to_le_bytes();
        let mut rest = [length, length].concat();
        rest.push(3);
        rest.extend_from_slice(&crc32fast::hash(content).to_le_bytes());
        rest.extend_from_slice(&DOS_TIME.to_le_bytes());
        rest.extend_from_slice(&[20, 0x30]);
        rest.extend_from_slice(&(name.len() as u16).to_le_bytes());
        rest.extend_from_slice(&mode.to_le_bytes());
        rest.extend_from_slice(name.as_bytes());
        let directory = if let Directory(_) = item { 0x00e0 } else { 0 };
        block(0x74, 0x8000 | directory, &rest, content);
    }
    block(0x7b, 0x4000, b"", b"");
    archive
}

fn compressed_rar(version: rars::ArchiveVersion, items: &[Item<'_>]) -> Vec<u8> {
    // The versions before 5 have local times, as text of MS-DOS.
    let time = if version == rars::ArchiveVersion::Rar50 { TIME as u32 } else { DOS_TIME };
    let mut archive = rars::Builder::new(version).allow_duplicate_names(true);
    for item in items {
        let (name, mode, content) = item.parts();
        let name = name.as_bytes().to_vec();
        let added = match item {
            Directory(_) => archive.add_directory(name, Some(time), Some(mode)),
            Symlink(..) => archive.add_unix_symlink(name, content.to_vec(), false, Some(time), None),
            _ => archive.add_bytes(name, content.to_vec(), Some(time), Some(mode)),
        };
        added.unwrap();
    }
    archive.to_bytes().unwrap()
}
