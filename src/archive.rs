//! Writes archives of a server's files, and unpacks archives into them.
//!
//! Everything streams: an archive is read and written entry by entry, and at most a few MiB are in memory, whatever its size. The
//! exception is an archive whose compression needs a large dictionary, which is limited (see [`limits`]).
//!
//! - [`compress`] reads files through the confined root and hands them to a [`Writer`], which writes to any `Write`: a file of a
//!   server, or a backup with a checksum computed on the way.
//! - [`extract`] asks `read` for the entries of an archive and writes each through the confined root. No library writes a file.
//!
//! Source: file system, "Archives made through the file API" and "Decompress".

pub mod backup;
mod compress;
mod deflate;
mod error;
pub mod export;
mod extract;
mod format;
mod header;
pub mod limits;
mod read;
mod segments;
mod source;
mod write;

pub use compress::{Compression, archive_names, compress};
pub use deflate::spawn_helper;
pub use error::{ArchiveError, Refusal};
pub use extract::{Extraction, extract};
pub use format::Format;
pub use header::{Content, Header, Meta};
pub use write::{Spawn, Writer};

#[cfg(test)]
mod tests;
