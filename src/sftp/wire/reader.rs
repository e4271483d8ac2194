//! Packets of a stream of bytes, and the values in them.

/// The longest packet, without its length: data of [`Limits::DATA`](super::Limits::DATA) bytes and what comes with it.
pub const MAX_PACKET: usize = 256 << 10;

/// The packet does not follow the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the packet does not follow the protocol")]
pub struct Malformed;

/// What a stream begins with.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// The packet is not complete yet.
    Incomplete,
    /// A packet, without its length.
    Packet(&'a [u8]),
}

/// The first packet of a stream.
///
/// # Errors
/// It is empty or too long: what follows cannot be read.
pub fn next_packet(stream: &[u8]) -> Result<Incoming<'_>, Malformed> {
    let Some((length, rest)) = stream.split_first_chunk() else { return Ok(Incoming::Incomplete) };
    let length = u32::from_be_bytes(*length) as usize;
    if length == 0 || length > MAX_PACKET {
        return Err(Malformed);
    }
    Ok(rest.get(..length).map_or(Incoming::Incomplete, Incoming::Packet))
}

/// Reads values from the beginning of a body.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        let (byte, rest) = self.0.split_first().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*byte)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(u64::from_be_bytes(*bytes))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()? as usize;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }
}
