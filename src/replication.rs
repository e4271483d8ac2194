//! Makes one tree the same as another one on another node, in rounds while the other one changes. Blocking, and without a network.
//!
//! ```text
//! source:       Tree ─▶ scan ─▶ manifest ─────────▶ (missing, pages) ─▶ send_blocks ─▶ frames
//! destination:  manifest ─▶ prepare: names, lengths ─▶ missing, pages    frames ─▶ store_blocks ─▶ ... ─▶ complete: root hash
//! ```
//!
//! A manifest names everything in a tree, in the order of a walk, and files by the hashes of their blocks of one MiB. The destination
//! scans what it has in the same way: whatever was interrupted, only blocks that differ travel, and of those that it has in an older version
//! only pages of 4 KiB that differ. All of what a peer sends is checked and limited before it is used; paths are resolved below the
//! destination's tree, and no link is followed. ADR 52 and 54 have the reasons.

mod blocks;
mod complete;
mod entry;
mod error;
mod manifest;
mod missing;
mod pages;
mod prepare;
mod scan;
#[cfg(test)]
mod tests;

pub use blocks::{FrameReader, FrameWriter, Span, send_blocks, store_blocks};
pub use complete::complete;
pub use entry::{Content, Entry, Hash};
pub use error::ReplicationError;
pub use manifest::{ManifestReader, ManifestWriter, Summary, receive_manifest, send_manifest};
pub use missing::{MissingReader, MissingWriter};
pub use pages::{PageReader, PageWriter, Pages, longest_answer};
pub use prepare::prepare;
pub use scan::{Scan, scan, scan_files, settled_before};

/// Bytes of a block. A smaller file is one block.
pub const BLOCK: u64 = 1 << 20;
