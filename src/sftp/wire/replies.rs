//! Answers of the server, written one after the other to a buffer.

use super::attributes::Attributes;
use super::request::Handle;
use super::{VERSION, extension, kind};

/// The result of a request. Version 3 has the codes up to 8; the last one is a later version's, and what Wings sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    Ok = 0,
    Eof = 1,
    NoSuchFile = 2,
    PermissionDenied = 3,
    Failure = 4,
    BadMessage = 5,
    Unsupported = 8,
    QuotaExceeded = 15,
}

/// An entry of a directory, or a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name<'a> {
    pub name: &'a [u8],
    /// The line that a client may show instead.
    pub line: &'a [u8],
    pub attributes: Attributes,
}

/// The answer to `statvfs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileSystem {
    /// Bytes in a block.
    pub block: u64,
    /// Numbers of blocks.
    pub blocks: u64,
    pub free: u64,
    pub available: u64,
    /// Numbers of files.
    pub files: u64,
    pub files_free: u64,
    pub read_only: bool,
    /// The longest name, bytes.
    pub name_max: u64,
}

/// The answer to `limits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub packet: u64,
    pub read: u64,
    pub write: u64,
    pub handles: u64,
}

impl Limits {
    /// Most bytes of one read or write: those of OpenSSH.
    pub const DATA: usize = super::MAX_PACKET - 1024;
}

/// Answers, in the format of the protocol.
#[derive(Debug, Default)]
pub struct Replies {
    bytes: Vec<u8>,
}

impl Replies {
    /// An empty buffer with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    /// Bytes of all answers.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The answers.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The first answer: version and extensions.
    pub fn version(&mut self) {
        self.packet(kind::VERSION, |to| {
            to.extend(VERSION.to_be_bytes());
            for (name, version) in extension::ALL {
                text(to, name.as_bytes());
                text(to, version.as_bytes());
            }
        });
    }

    /// The result of a request, with a text for people.
    pub fn status(&mut self, id: u32, status: Status, message: &str) {
        self.packet(kind::STATUS, |to| {
            to.extend(id.to_be_bytes());
            to.extend((status as u32).to_be_bytes());
            text(to, message.as_bytes());
            text(to, b"en");
        });
    }

    /// A handle.
    pub fn handle(&mut self, id: u32, handle: Handle) {
        self.packet(kind::HANDLE, |to| {
            to.extend(id.to_be_bytes());
            text(to, &handle.0.to_be_bytes());
        });
    }

    /// Data of a file, which `read` puts into a buffer of `length` bytes. Nothing is written where it returns 0 or an error.
    ///
    /// # Errors
    /// That of `read`.
    pub fn data<E>(
        &mut self,
        id: u32,
        length: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        /// Length of the packet, type, number of the request, length of the data.
        const HEADER: usize = 13;
        let start = self.bytes.len();
        self.bytes.resize(start + HEADER + length, 0);
        let count = read(&mut self.bytes[start + HEADER..]);
        let count = match count {
            Ok(count) if count > 0 => count.min(length),
            nothing => {
                self.bytes.truncate(start);
                return nothing;
            }
        };
        self.bytes.truncate(start + HEADER + count);
        let header = &mut self.bytes[start..start + HEADER];
        header[..4].copy_from_slice(&length_of(HEADER - 4 + count));
        header[4] = kind::DATA;
        header[5..9].copy_from_slice(&id.to_be_bytes());
        header[9..].copy_from_slice(&length_of(count));
        Ok(count)
    }

    /// Entries of a directory, or a path.
    pub fn names<'a>(&mut self, id: u32, names: impl ExactSizeIterator<Item = Name<'a>>) {
        self.packet(kind::NAME, |to| {
            to.extend(id.to_be_bytes());
            to.extend(length_of(names.len()));
            for Name { name, line, attributes } in names {
                text(to, name);
                text(to, line);
                attributes.write(to);
            }
        });
    }

    /// Attributes of a file.
    pub fn attributes(&mut self, id: u32, attributes: &Attributes) {
        self.packet(kind::ATTRS, |to| {
            to.extend(id.to_be_bytes());
            attributes.write(to);
        });
    }

    /// The answer to `statvfs`.
    pub fn file_system(&mut self, id: u32, found: &FileSystem) {
        const READ_ONLY: u64 = 1;
        const NO_SETUID: u64 = 2;
        let flags = NO_SETUID | if found.read_only { READ_ONLY } else { 0 };
        let FileSystem { block, blocks, free, available, files, files_free, name_max, .. } = *found;
        self.numbers(id, &[block, block, blocks, free, available, files, files_free, files_free, 0, flags, name_max]);
    }

    /// The answer to `limits`.
    pub fn limits(&mut self, id: u32, Limits { packet, read, write, handles }: &Limits) {
        self.numbers(id, &[*packet, *read, *write, *handles]);
    }

    fn numbers(&mut self, id: u32, numbers: &[u64]) {
        self.packet(kind::EXTENDED_REPLY, |to| {
            to.extend(id.to_be_bytes());
            numbers.iter().for_each(|number| to.extend(number.to_be_bytes()));
        });
    }

    fn packet(&mut self, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend([0, 0, 0, 0, kind]);
        body(&mut self.bytes);
        let length = length_of(self.bytes.len() - start - 4);
        self.bytes[start..start + 4].copy_from_slice(&length);
    }
}

fn text(to: &mut Vec<u8>, text: &[u8]) {
    to.extend(length_of(text.len()));
    to.extend(text);
}

/// No packet comes near the limit of the type.
fn length_of(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}
