//! zip. The central directory decides; it is read entry by entry and never held in memory.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};

use liblzma::stream::{Filters, Stream};
use rars::filename::LegacyNameEncoding;
use rawzip::{
    CompressionMethod, CreatorSystem, ErrorKind, MAX_CENTRAL_DIRECTORY_RECORD_SIZE, ZipArchive, ZipFileHeaderRecord,
    ZipLocator,
};

use super::super::error::{ArchiveError, Refusal};
use super::super::header::{Content, Header, Meta, time};
use super::super::limits::{MAX_AREAS, MAX_DECODER_MEMORY, MAX_ENTRIES, MAX_TARGET};
use super::super::source::Source;
use super::codec::Codec;
use super::{BUFFER, Visitor, copy};

/// The largest gap between two entries that are recorded as one area: a data descriptor of zip64.
const GAP: u64 = 24;

pub(super) fn read(source: Source, visitor: &mut dyn Visitor) -> Result<(), ArchiveError> {
    let archive = open(source)?;
    let mut areas = Areas::default();
    // What lies in the directory is no content.
    areas.add(archive.directory_offset(), archive.end_offset());
    each(&archive, |record, name| visit(&archive, record, name, &mut areas, visitor))
}

pub(super) fn sizes(source: Source, add: &mut dyn FnMut(u64) -> Result<(), ArchiveError>) -> Result<(), ArchiveError> {
    each(&open(source)?, |record, _| add(record.uncompressed_size_hint()))
}

fn open(source: Source) -> Result<ZipArchive<Source>, ArchiveError> {
    let length = source.len();
    let mut buffer = vec![0; MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
    ZipLocator::new().locate_in_reader(source, &mut buffer, length).map_err(|(_, error)| damaged(error))
}

fn each(
    archive: &ZipArchive<Source>,
    mut act: impl FnMut(&ZipFileHeaderRecord<'_>, &[u8]) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let mut buffer = vec![0; MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
    let mut entries = archive.entries(&mut buffer);
    let mut count = 0;
    while let Some(record) = entries.next_entry().map_err(damaged)? {
        let name = name(&record);
        count += 1;
        if count > MAX_ENTRIES {
            return Err(ArchiveError::refused(&name, Refusal::TooMany));
        }
        act(&record, &name)?;
    }
    Ok(())
}

fn visit(
    archive: &ZipArchive<Source>,
    record: &ZipFileHeaderRecord<'_>,
    name: &[u8],
    areas: &mut Areas,
    visitor: &mut dyn Visitor,
) -> Result<(), ArchiveError> {
    let meta = Meta { mode: mode(record), modified: modified(record), owner: None };
    if name.ends_with(b"/") {
        return visitor.begin(&Header { name, content: Content::Directory, meta }).map(drop);
    }
    if record.flags().is_encrypted() {
        return Err(ArchiveError::refused(name, Refusal::Encrypted));
    }
    let entry = archive.get_entry(record.wayfinder()).map_err(damaged)?;
    let (_, end) = entry.compressed_data_range();
    if !areas.add(record.local_header_offset(), end) {
        return Err(ArchiveError::refused(name, Refusal::Overlap));
    }
    let reader = BufReader::with_capacity(BUFFER, entry.reader());
    let size = record.uncompressed_size_hint();
    let decoder = decoder(record.compression_method(), reader, size, name)?;
    // One byte more shows that the declared size is wrong.
    let mut content = Checked { inner: entry.verifying_reader(decoder.take(size.saturating_add(1))), ended: false };
    let kind = mode(record).map(|_| record.mode().value() & 0o170_000);
    match kind {
        Some(0o120_000) => {
            let mut target = Vec::new();
            (&mut content).take(MAX_TARGET as u64 + 1).read_to_end(&mut target).map_err(ArchiveError::decoding)?;
            visitor.begin(&Header { name, content: Content::Symlink(&target), meta }).map(drop)
        }
        Some(0o040_000) => visitor.begin(&Header { name, content: Content::Directory, meta }).map(drop),
        Some(0o060_000 | 0o020_000 | 0o010_000 | 0o140_000) => {
            visitor.begin(&Header { name, content: Content::Special, meta }).map(drop)
        }
        _ => match visitor.begin(&Header { name, content: Content::File(Some(size)), meta })? {
            true => copy(&mut content, visitor),
            false => Ok(()),
        },
    }
}

/// Verifies also what is empty, and reads nothing after the end.
struct Checked<R> {
    inner: R,
    ended: bool,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ended {
            return Ok(0);
        }
        let read = self.inner.read(buffer)?;
        self.ended = read == 0 && !buffer.is_empty();
        Ok(read)
    }
}

fn decoder<'a>(
    method: CompressionMethod,
    mut source: impl io::BufRead + 'a,
    size: u64,
    name: &[u8],
) -> Result<Box<dyn Read + 'a>, ArchiveError> {
    let codec = match method {
        CompressionMethod::STORE => Codec::Plain,
        CompressionMethod::DEFLATE => return Ok(Box::new(flate2::bufread::DeflateDecoder::new(source))),
        // The file manager of Windows writes it for files of more than 2 GiB.
        CompressionMethod::DEFLATE64 => return Ok(Box::new(deflate64::Deflate64Decoder::with_buffer(source))),
        CompressionMethod::BZIP2 => Codec::Bzip2,
        CompressionMethod::ZSTD => Codec::Zstd,
        CompressionMethod::XZ => Codec::Xz,
        CompressionMethod::LZMA => {
            let stream = lzma(&mut source).map_err(ArchiveError::decoding)?;
            // The stream may have no end mark: the size ends it.
            return Ok(Box::new(liblzma::bufread::XzDecoder::new_stream(source, stream).take(size)));
        }
        _ => return Err(ArchiveError::refused(name, Refusal::Method)),
    };
    codec.decoder(source).map_err(ArchiveError::decoding)
}

/// Reads the header of method 14: the version of the encoder, and the properties of LZMA with the dictionary's size.
fn lzma(source: &mut impl Read) -> io::Result<Stream> {
    let mut header = [0; 9];
    source.read_exact(&mut header)?;
    let [_, _, 5, 0, properties @ ..] = header else {
        return Err(io::Error::other("unknown properties of LZMA"));
    };
    let [_, dictionary @ ..] = properties;
    if u64::from(u32::from_le_bytes(dictionary)) > MAX_DECODER_MEMORY {
        return Err(io::Error::other("the dictionary needs too much memory"));
    }
    Ok(Stream::new_raw_decoder(Filters::new().lzma1_properties(&properties)?)?)
}

/// The name, with `/` as separator and in UTF-8 where the archive allows to know.
fn name(record: &ZipFileHeaderRecord<'_>) -> Vec<u8> {
    let path = record.file_path();
    let bytes = path.as_bytes();
    // Bit 11: UTF-8.
    let is_legacy = record.flags().bits() & 1 << 11 == 0 && std::str::from_utf8(bytes).is_err();
    let mut name = match is_legacy {
        true => LegacyNameEncoding::Cp437.decode(bytes).map_or(Cow::Borrowed(bytes), |name| Cow::Owned(name.into())),
        false => Cow::Borrowed(bytes),
    }
    .into_owned();
    if !is_unix(record) && !name.contains(&b'/') {
        name.iter_mut().filter(|byte| **byte == b'\\').for_each(|byte| *byte = b'/');
    }
    name
}

fn is_unix(record: &ZipFileHeaderRecord<'_>) -> bool {
    matches!(record.version_made_by().creator_system(), CreatorSystem::UNIX | CreatorSystem::MACOS)
}

/// The mode, if the archive was made where files have one.
fn mode(record: &ZipFileHeaderRecord<'_>) -> Option<u32> {
    (is_unix(record) && record.external_attributes() >> 16 != 0).then(|| record.mode().value())
}

/// The time. One without a zone counts as UTC.
fn modified(record: &ZipFileHeaderRecord<'_>) -> Option<std::time::SystemTime> {
    let at = record.last_modified();
    let number = |field: u8| i8::try_from(field).ok();
    let date = jiff::civil::DateTime::new(
        i16::try_from(at.year()).ok()?,
        number(at.month())?,
        number(at.day())?,
        number(at.hour())?,
        number(at.minute())?,
        number(at.second())?,
        0,
    );
    let seconds = jiff::tz::TimeZone::UTC.to_timestamp(date.ok()?).ok()?.as_second();
    time(seconds, at.nanosecond())
}

/// The parts of the file that entries have taken. Content that several entries share is the trick of the densest bombs.
#[derive(Default)]
struct Areas(BTreeMap<u64, u64>);

impl Areas {
    /// Takes an area. `false` if part of it is taken, or there are too many.
    fn add(&mut self, start: u64, end: u64) -> bool {
        if start >= end || self.0.len() >= MAX_AREAS {
            return false;
        }
        if self.0.range(..end).next_back().is_some_and(|(_, taken)| *taken > start) {
            return false;
        }
        match self.0.range_mut(..=start).next_back() {
            Some((_, taken)) if start - *taken <= GAP => *taken = end,
            _ => drop(self.0.insert(start, end)),
        }
        true
    }
}

fn damaged(error: rawzip::Error) -> ArchiveError {
    match error.into_kind() {
        ErrorKind::IO(error) => ArchiveError::decoding(error),
        other => ArchiveError::Damaged(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_area_is_taken_once() {
        let mut areas = Areas::default();
        for (start, end, free) in [
            (100, 200, true),
            (200, 300, true),
            (0, 50, true),
            (40, 60, false),
            (50, 100, true),
            (150, 160, false),
            (0, 1000, false),
            (299, 301, false),
            (320, 400, true),
            (500, 500, false),
        ] {
            assert_eq!(areas.add(start, end), free, "{start}..{end}");
        }
    }
}
