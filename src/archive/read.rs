//! Reads archives: finds the format by the first bytes, and hands one entry after another to a [`Visitor`].

mod codec;
mod rar;
mod seven_zip;
mod single;
mod tar;
mod zip;

use std::cell::RefCell;
use std::io::{self, BufReader, Read};
use std::rc::Rc;

use super::error::ArchiveError;
use super::header::Header;
use super::source::Source;
use crate::progress::Progress;
use codec::Codec;

pub(super) use tar::is_header;

/// Bytes of content that are moved at once.
const BUFFER: usize = 128 << 10;

/// Receives the entries of an archive, in the archive's order.
pub(super) trait Visitor {
    /// A new entry. Returns whether its content is wanted: then `write` follows for each piece, and `end`. Only files have content.
    fn begin(&mut self, header: &Header<'_>) -> Result<bool, ArchiveError>;
    /// A piece of the content.
    fn write(&mut self, bytes: &[u8]) -> Result<(), ArchiveError>;
    /// The content is complete and its checksum, where there is one, is right.
    fn end(&mut self) -> Result<(), ArchiveError>;
}

/// The format of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Zip,
    SevenZip,
    Rar,
    Tar(Codec),
    /// One file without a name of its own: the name of the compressed file without its extension.
    Single(Codec, Vec<u8>),
}

/// Finds the format. The content decides, the file's name only where the content cannot.
///
/// # Errors
/// The format is unknown, or the file cannot be read.
pub(super) fn detect(source: &Source, name: &[u8]) -> Result<Kind, ArchiveError> {
    let progress = Progress::new();
    let mut start = Vec::new();
    let beginning = source.again(&progress).map_err(ArchiveError::Io)?;
    beginning.take(tar::BLOCK).read_to_end(&mut start).map_err(ArchiveError::Io)?;
    if start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06") {
        return Ok(Kind::Zip);
    }
    if start.starts_with(b"7z\xbc\xaf\x27\x1c") {
        return Ok(Kind::SevenZip);
    }
    if start.starts_with(b"Rar!\x1a\x07") {
        return Ok(Kind::Rar);
    }
    let is_tar = |block: &[u8]| tar::is_header(block) || (is_named_tar(name) && tar::is_end(block));
    if is_tar(&start) {
        return Ok(Kind::Tar(Codec::Plain));
    }
    let codec = Codec::of(&start, name).ok_or(ArchiveError::UnknownFormat)?;
    let mut inner = Vec::new();
    let compressed = source.again(&progress).map_err(ArchiveError::Io)?;
    let decoder = codec.decoder(BufReader::new(compressed)).map_err(ArchiveError::decoding)?;
    // What cannot be decoded is reported when it is unpacked.
    let readable = decoder.take(tar::BLOCK).read_to_end(&mut inner).is_ok();
    match readable && is_tar(&inner) {
        true => Ok(Kind::Tar(codec)),
        false if !readable && is_named_tar(name) => Ok(Kind::Tar(codec)),
        false => Ok(Kind::Single(codec, codec.without_extension(name))),
    }
}

fn is_named_tar(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    let short = [&b".tgz"[..], b".tbz2", b".tbz", b".txz", b".tzst", b".tar"];
    name.windows(5).any(|part| part == b".tar.") || short.iter().any(|extension| name.ends_with(extension))
}

/// Hands the entries to the visitor.
///
/// # Errors
/// The archive is damaged or uses what is not supported, or the visitor fails.
pub(super) fn read<V: Visitor + 'static>(
    source: &Source,
    kind: &Kind,
    progress: &Progress,
    visitor: &Rc<RefCell<V>>,
) -> Result<(), ArchiveError> {
    let source = source.again(progress).map_err(ArchiveError::Io)?;
    let result = match kind {
        Kind::Zip => zip::read(source, &mut *visitor.borrow_mut()),
        Kind::SevenZip => seven_zip::read(source, &mut *visitor.borrow_mut()),
        Kind::Rar => rar::read(source, progress, visitor),
        Kind::Tar(codec) => tar::read(source, *codec, &mut *visitor.borrow_mut()),
        Kind::Single(codec, name) => single::read(source, *codec, name, &mut *visitor.borrow_mut()),
    };
    match result {
        // Whatever a library makes of it.
        Err(_) if progress.is_cancelled() => Err(ArchiveError::Cancelled),
        other => other,
    }
}

/// Reports the declared size of each file, as far as the archive has them without unpacking it, which a tar has not. The sizes of a
/// single compressed file are unknown.
///
/// # Errors
/// As [`read`]; or `add` fails.
pub(super) fn sizes(
    source: &Source,
    kind: &Kind,
    progress: &Progress,
    add: &mut dyn FnMut(u64) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let source = source.again(progress).map_err(ArchiveError::Io)?;
    match kind {
        Kind::Zip => zip::sizes(source, add),
        Kind::SevenZip => seven_zip::sizes(source, add),
        Kind::Rar => rar::sizes(source, add),
        Kind::Tar(codec) => tar::sizes(source, *codec, add),
        Kind::Single(..) => Ok(()),
    }
}

/// The size of the decompressed tar according to the compressed file's own trailer or header. Not to be trusted.
pub(super) fn hint(source: &Source, kind: &Kind) -> Option<u64> {
    match kind {
        Kind::Tar(codec) => codec.hint(source),
        _ => None,
    }
}

/// Moves the content of an entry to the visitor.
fn copy(content: &mut dyn Read, visitor: &mut dyn Visitor) -> Result<(), ArchiveError> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match content.read(&mut buffer) {
            Ok(0) => return visitor.end(),
            Ok(read) => visitor.write(&buffer[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ArchiveError::decoding(error)),
        }
    }
}
