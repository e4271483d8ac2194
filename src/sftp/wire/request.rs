//! Requests of clients.

use super::attributes::Attributes;
use super::reader::{Malformed, Reader};
use super::{extension, kind};

/// An open file or directory, as this server names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Handle(pub u32);

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenFlags {
    pub read: bool,
    pub write: bool,
    pub append: bool,
    pub create: bool,
    pub truncate: bool,
    pub exclusive: bool,
}

/// A request. Handles that this server cannot have given out are `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request<'a> {
    Open {
        path: &'a [u8],
        flags: OpenFlags,
        attributes: Attributes,
    },
    Close(Option<Handle>),
    Read {
        handle: Option<Handle>,
        offset: u64,
        length: u32,
    },
    Write {
        handle: Option<Handle>,
        offset: u64,
        data: &'a [u8],
    },
    Stat {
        path: &'a [u8],
    },
    Lstat {
        path: &'a [u8],
    },
    Fstat(Option<Handle>),
    Setstat {
        path: &'a [u8],
        attributes: Attributes,
    },
    Lsetstat {
        path: &'a [u8],
        attributes: Attributes,
    },
    Fsetstat {
        handle: Option<Handle>,
        attributes: Attributes,
    },
    Opendir {
        path: &'a [u8],
    },
    Readdir(Option<Handle>),
    Remove {
        path: &'a [u8],
    },
    Mkdir {
        path: &'a [u8],
        attributes: Attributes,
    },
    Rmdir {
        path: &'a [u8],
    },
    Realpath {
        path: &'a [u8],
    },
    Rename {
        from: &'a [u8],
        to: &'a [u8],
        replace: bool,
    },
    Readlink {
        path: &'a [u8],
    },
    /// OpenSSH sends the target first, unlike the draft, and so do all clients.
    Symlink {
        target: &'a [u8],
        path: &'a [u8],
    },
    Hardlink {
        from: &'a [u8],
        to: &'a [u8],
    },
    Statvfs {
        path: &'a [u8],
    },
    Fstatvfs(Option<Handle>),
    Fsync(Option<Handle>),
    Limits,
    ExpandPath {
        path: &'a [u8],
    },
    /// A length of 0 is up to the end.
    CopyData {
        from: Option<Handle>,
        offset: u64,
        length: u64,
        to: Option<Handle>,
        to_offset: u64,
    },
    /// Another type of packet, or another extension.
    Unknown,
}

impl OpenFlags {
    const BITS: [u32; 6] = [0x01, 0x02, 0x04, 0x08, 0x10, 0x20];

    fn from_bits(bits: u32) -> Self {
        let [read, write, append, create, truncate, exclusive] = Self::BITS.map(|bit| bits & bit != 0);
        Self { read, write, append, create, truncate, exclusive }
    }

    #[cfg(test)]
    pub(super) fn bits(self) -> u32 {
        let Self { read, write, append, create, truncate, exclusive } = self;
        let set = [read, write, append, create, truncate, exclusive];
        set.iter().zip(Self::BITS).map(|(set, bit)| if *set { bit } else { 0 }).sum()
    }
}

/// Reads a packet after `INIT`: the number of the request, and the request or why it cannot be read.
///
/// # Errors
/// Not even the number can be read: there is no answer to the packet.
pub fn read_request(packet: &[u8]) -> Result<(u32, Result<Request<'_>, Malformed>), Malformed> {
    let mut reader = Reader(packet);
    let kind = reader.byte()?;
    let id = reader.u32()?;
    Ok((id, body(kind, &mut reader)))
}

/// Reads an `INIT`: the client's version.
///
/// # Errors
/// It is another packet.
pub fn read_init(packet: &[u8]) -> Result<u32, Malformed> {
    let mut reader = Reader(packet);
    match reader.byte()? {
        kind::INIT => reader.u32(),
        _ => Err(Malformed),
    }
}

fn body<'a>(kind: u8, from: &mut Reader<'a>) -> Result<Request<'a>, Malformed> {
    Ok(match kind {
        kind::OPEN => {
            let (path, flags) = (from.bytes()?, OpenFlags::from_bits(from.u32()?));
            Request::Open { path, flags, attributes: Attributes::read(from)? }
        }
        kind::CLOSE => Request::Close(handle(from)?),
        kind::READ => Request::Read { handle: handle(from)?, offset: from.u64()?, length: from.u32()? },
        kind::WRITE => Request::Write { handle: handle(from)?, offset: from.u64()?, data: from.bytes()? },
        kind::STAT => Request::Stat { path: from.bytes()? },
        kind::LSTAT => Request::Lstat { path: from.bytes()? },
        kind::FSTAT => Request::Fstat(handle(from)?),
        kind::SETSTAT => Request::Setstat { path: from.bytes()?, attributes: Attributes::read(from)? },
        kind::FSETSTAT => Request::Fsetstat { handle: handle(from)?, attributes: Attributes::read(from)? },
        kind::OPENDIR => Request::Opendir { path: from.bytes()? },
        kind::READDIR => Request::Readdir(handle(from)?),
        kind::REMOVE => Request::Remove { path: from.bytes()? },
        // Some clients send no attributes.
        kind::MKDIR => {
            let path = from.bytes()?;
            let attributes = if from.0.is_empty() { Attributes::default() } else { Attributes::read(from)? };
            Request::Mkdir { path, attributes }
        }
        kind::RMDIR => Request::Rmdir { path: from.bytes()? },
        kind::REALPATH => Request::Realpath { path: from.bytes()? },
        kind::RENAME => Request::Rename { from: from.bytes()?, to: from.bytes()?, replace: false },
        kind::READLINK => Request::Readlink { path: from.bytes()? },
        kind::SYMLINK => Request::Symlink { target: from.bytes()?, path: from.bytes()? },
        kind::EXTENDED => extended(from)?,
        _ => Request::Unknown,
    })
}

fn extended<'a>(from: &mut Reader<'a>) -> Result<Request<'a>, Malformed> {
    let name = std::str::from_utf8(from.bytes()?).unwrap_or_default();
    Ok(match name {
        extension::POSIX_RENAME => Request::Rename { from: from.bytes()?, to: from.bytes()?, replace: true },
        extension::STATVFS => Request::Statvfs { path: from.bytes()? },
        extension::FSTATVFS => Request::Fstatvfs(handle(from)?),
        extension::HARDLINK => Request::Hardlink { from: from.bytes()?, to: from.bytes()? },
        extension::FSYNC => Request::Fsync(handle(from)?),
        extension::LSETSTAT => Request::Lsetstat { path: from.bytes()?, attributes: Attributes::read(from)? },
        extension::LIMITS => Request::Limits,
        extension::EXPAND_PATH => Request::ExpandPath { path: from.bytes()? },
        extension::COPY_DATA => Request::CopyData {
            from: handle(from)?,
            offset: from.u64()?,
            length: from.u64()?,
            to: handle(from)?,
            to_offset: from.u64()?,
        },
        _ => Request::Unknown,
    })
}

fn handle(from: &mut Reader<'_>) -> Result<Option<Handle>, Malformed> {
    let bytes = from.bytes()?;
    Ok(bytes.try_into().ok().map(|bytes| Handle(u32::from_be_bytes(bytes))))
}
