//! A compressed file that is no archive.

use std::io::BufReader;

use super::super::error::ArchiveError;
use super::super::header::{Content, Header, Meta};
use super::super::source::Source;
use super::codec::Codec;
use super::{BUFFER, Visitor, copy};

pub(super) fn read(source: Source, codec: Codec, name: &[u8], visitor: &mut dyn Visitor) -> Result<(), ArchiveError> {
    let mut content = codec.decoder(BufReader::with_capacity(BUFFER, source)).map_err(ArchiveError::decoding)?;
    let header = Header { name, content: Content::File(None), meta: Meta::default() };
    match visitor.begin(&header)? {
        true => copy(&mut content, visitor),
        false => Ok(()),
    }
}
