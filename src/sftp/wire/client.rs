//! The client's side of the protocol, for tests: requests are written, answers are read.

use super::reader::Reader;
use super::{Attributes, Handle, Incoming, Malformed, Request, extension, kind, next_packet};

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A code and its text.
    Status(u32, String),
    Handle(Handle),
    Data(Vec<u8>),
    Names(Vec<Vec<u8>>),
    Attributes(Attributes),
    Numbers(Vec<u64>),
}

/// The first packet of a client.
pub fn init(version: u32) -> Vec<u8> {
    [&[0, 0, 0, 5, kind::INIT][..], &version.to_be_bytes()].concat()
}

/// Reads the answers in a buffer, with the numbers of their requests.
pub fn read_replies(mut bytes: &[u8]) -> Result<Vec<(u32, Reply)>, Malformed> {
    let mut replies = Vec::new();
    while let Incoming::Packet(packet) = next_packet(bytes)? {
        bytes = &bytes[packet.len() + 4..];
        let mut reader = Reader(packet);
        let (kind, id) = (reader.byte()?, reader.u32()?);
        replies.push((id, read_reply(kind, &mut reader)?));
    }
    Ok(replies)
}

fn read_reply(kind: u8, from: &mut Reader<'_>) -> Result<Reply, Malformed> {
    Ok(match kind {
        kind::STATUS => Reply::Status(from.u32()?, String::from_utf8_lossy(from.bytes()?).into_owned()),
        kind::HANDLE => Reply::Handle(Handle(u32::from_be_bytes(from.bytes()?.try_into().map_err(|_| Malformed)?))),
        kind::DATA => Reply::Data(from.bytes()?.to_vec()),
        kind::NAME => {
            let mut names = Vec::new();
            for _ in 0..from.u32()? {
                names.push(from.bytes()?.to_vec());
                from.bytes()?;
                Attributes::read(from)?;
            }
            Reply::Names(names)
        }
        kind::ATTRS => Reply::Attributes(Attributes::read(from)?),
        kind::EXTENDED_REPLY => {
            let mut numbers = Vec::new();
            while !from.0.is_empty() {
                numbers.push(from.u64()?);
            }
            Reply::Numbers(numbers)
        }
        _ => return Err(Malformed),
    })
}

/// A packet as a client writes it, with its length.
fn packet(kind: u8, id: u32, parts: &[&[u8]]) -> Vec<u8> {
    let body = [&[kind][..], &id.to_be_bytes(), &parts.concat()].concat();
    [&(body.len() as u32).to_be_bytes()[..], &body].concat()
}

fn text(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}

fn handle(handle: Option<Handle>) -> Vec<u8> {
    handle.map_or_else(|| text(b"no handle"), |handle| text(&handle.0.to_be_bytes()))
}

/// Attributes as a client writes them.
pub fn attributes(attributes: &Attributes) -> Vec<u8> {
    let mut bytes = Vec::new();
    attributes.write(&mut bytes);
    bytes
}

/// A request as a client writes it.
pub fn encode(id: u32, request: &Request<'_>) -> Vec<u8> {
    let simple = |kind, parts: &[&[u8]]| packet(kind, id, parts);
    let extended = |name: &str, parts: &[&[u8]]| packet(kind::EXTENDED, id, &[&text(name.as_bytes()), &parts.concat()]);
    match request {
        Request::Open { path, flags, attributes: given } => {
            simple(kind::OPEN, &[&text(path), &flags.bits().to_be_bytes(), &attributes(given)])
        }
        Request::Close(of) => simple(kind::CLOSE, &[&handle(*of)]),
        Request::Read { handle: of, offset, length } => {
            simple(kind::READ, &[&handle(*of), &offset.to_be_bytes(), &length.to_be_bytes()])
        }
        Request::Write { handle: of, offset, data } => {
            simple(kind::WRITE, &[&handle(*of), &offset.to_be_bytes(), &text(data)])
        }
        Request::Stat { path } => simple(kind::STAT, &[&text(path)]),
        Request::Lstat { path } => simple(kind::LSTAT, &[&text(path)]),
        Request::Fstat(of) => simple(kind::FSTAT, &[&handle(*of)]),
        Request::Setstat { path, attributes: given } => simple(kind::SETSTAT, &[&text(path), &attributes(given)]),
        Request::Lsetstat { path, attributes: given } => {
            extended(extension::LSETSTAT, &[&text(path), &attributes(given)])
        }
        Request::Fsetstat { handle: of, attributes: given } => {
            simple(kind::FSETSTAT, &[&handle(*of), &attributes(given)])
        }
        Request::Opendir { path } => simple(kind::OPENDIR, &[&text(path)]),
        Request::Readdir(of) => simple(kind::READDIR, &[&handle(*of)]),
        Request::Remove { path } => simple(kind::REMOVE, &[&text(path)]),
        Request::Mkdir { path, attributes: given } => simple(kind::MKDIR, &[&text(path), &attributes(given)]),
        Request::Rmdir { path } => simple(kind::RMDIR, &[&text(path)]),
        Request::Realpath { path } => simple(kind::REALPATH, &[&text(path)]),
        Request::Rename { from, to, replace: false } => simple(kind::RENAME, &[&text(from), &text(to)]),
        Request::Rename { from, to, replace: true } => extended(extension::POSIX_RENAME, &[&text(from), &text(to)]),
        Request::Readlink { path } => simple(kind::READLINK, &[&text(path)]),
        Request::Symlink { target, path } => simple(kind::SYMLINK, &[&text(target), &text(path)]),
        Request::Hardlink { from, to } => extended(extension::HARDLINK, &[&text(from), &text(to)]),
        Request::Statvfs { path } => extended(extension::STATVFS, &[&text(path)]),
        Request::Fstatvfs(of) => extended(extension::FSTATVFS, &[&handle(*of)]),
        Request::Fsync(of) => extended(extension::FSYNC, &[&handle(*of)]),
        Request::Limits => extended(extension::LIMITS, &[]),
        Request::ExpandPath { path } => extended(extension::EXPAND_PATH, &[&text(path)]),
        Request::CopyData { from, offset, length, to, to_offset } => extended(
            extension::COPY_DATA,
            &[&handle(*from), &offset.to_be_bytes(), &length.to_be_bytes(), &handle(*to), &to_offset.to_be_bytes()],
        ),
        Request::Unknown => extended("unknown@example.com", &[]),
    }
}
