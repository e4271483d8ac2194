//! Archives of whole servers, for backups and transfers: `tar.gz`, written from a tree and unpacked into one.
//!
//! ```text
//! write:   tree ─▶ walk, ignore list ─▶ tar ─▶ gzip on several threads ─▶ checksums, rate ─▶ any `Write`
//! unpack:  any `Read` ─▶ checksums, rate ─▶ gunzip ─▶ tar ─▶ tree, without following a link
//! ```
//!
//! The format is that of POSIX with extended headers for what a header of ustar cannot have. Go Wings cannot restore an archive
//! with directory entries, so directories and the files that changed while they were read travel in records of the vendor `ALULA`
//! in the extended headers of regular files (`vendor`). Everything streams, and everything blocks: call it on the blocking pool.
//! What is read is not trusted. Source: `filesystem.md` § 7, `backups-transfers.md` § 7.

mod digest;
mod estimate;
mod ignore;
mod pax;
mod read;
mod select;
mod tar_reader;
mod tar_writer;
mod unpack;
mod vendor;
mod write;

pub use digest::{Digests, Hashes};
pub use estimate::{Estimate, estimate};
pub use ignore::{DefaultList, IgnoreError, IgnoreList};
pub use read::{Item, ItemKind, OneFile, list, read_one, verify};
pub use unpack::{UnpackOptions, unpack};
pub use vendor::{Change, ChangeKind, Changes};
pub use write::{WriteOptions, write};

/// Bytes of content that are moved at once.
const BUFFER: usize = 128 << 10;

/// What is in an archive that was written, unpacked or verified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Summary {
    /// The size of the archive.
    pub bytes: u64,
    pub digests: Digests,
    pub files: u64,
    pub directories: u64,
    /// Symbolic links, and further names of files.
    pub links: u64,
    /// The content of the files, in bytes.
    pub content: u64,
    /// Written: pipes, sockets and devices, which are left out. Unpacked: pipes, entries of the denylist, and links to files that were
    /// not unpacked.
    pub skipped: u64,
    /// What changed while it was made.
    pub changes: Changes,
}

/// Waits until so many bytes may be written or read, to keep a rate.
pub type Pace<'a> = &'a (dyn Fn(u64) + Sync);

#[cfg(test)]
mod tests;
