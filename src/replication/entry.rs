//! One entry of a manifest, and its bytes. Pure.

use std::cmp::Ordering;

use super::BLOCK;
use super::error::ReplicationError;

/// The BLAKE3 hash of a block.
pub type Hash = [u8; 32];

/// The longest path or link, in bytes.
const MAX_PATH: usize = 4096;
/// The largest file: a terabyte, whose hashes are 32 MiB.
const MAX_SIZE: u64 = 1 << 40;
/// Bytes before the path.
const HEAD: usize = 1 + 2 + 8 + 4 + 2;
/// The largest entry, in bytes.
pub(super) const MAX_ENTRY: usize = HEAD + MAX_PATH + 8 + (MAX_SIZE / BLOCK) as usize * 32 + 64;

/// What a name in a tree is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// From the top of the tree, without a slash at either end; empty for the top itself.
    pub path: Vec<u8>,
    /// The permission bits.
    pub mode: u16,
    /// The time of modification: seconds and nanoseconds.
    pub modified: (i64, u32),
    /// The rest.
    pub content: Content,
}

/// What differs between kinds of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Content {
    Directory,
    /// Its length, and the hash of each block.
    File {
        size: u64,
        blocks: Vec<Hash>,
    },
    /// The text of a link, whatever it leads to.
    Symlink(Vec<u8>),
    /// Another name of a file, whose first one in the order of the walk is given.
    HardLink(Vec<u8>),
}

impl Entry {
    /// The blocks of a file of this length.
    pub(super) fn count(size: u64) -> u64 {
        size.div_ceil(BLOCK)
    }

    /// The length of a block of a file of this length.
    pub(super) fn length(size: u64, block: u64) -> u64 {
        size.saturating_sub(block * BLOCK).min(BLOCK)
    }

    /// Appends its bytes.
    pub(super) fn encode(&self, to: &mut Vec<u8>) {
        let kind = match self.content {
            Content::Directory => b'd',
            Content::File { .. } => b'f',
            Content::Symlink(_) => b'l',
            Content::HardLink(_) => b'h',
        };
        to.push(kind);
        to.extend_from_slice(&self.mode.to_le_bytes());
        to.extend_from_slice(&self.modified.0.to_le_bytes());
        to.extend_from_slice(&self.modified.1.to_le_bytes());
        to.extend_from_slice(&(self.path.len() as u16).to_le_bytes());
        to.extend_from_slice(&self.path);
        match &self.content {
            Content::Directory => {}
            Content::File { size, blocks } => {
                to.extend_from_slice(&size.to_le_bytes());
                blocks.iter().for_each(|hash| to.extend_from_slice(hash));
            }
            Content::Symlink(text) | Content::HardLink(text) => to.extend_from_slice(text),
        }
    }

    /// Reads bytes that [`encode`](Self::encode) has written, or a peer.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, ReplicationError> {
        let invalid = |why| ReplicationError::invalid("manifest", why);
        let short = || invalid("an entry is too short");
        let (head, rest) = bytes.split_at_checked(HEAD).ok_or_else(short)?;
        let number = |range: std::ops::Range<usize>| {
            let mut value = [0; 8];
            value[..range.len()].copy_from_slice(&head[range]);
            u64::from_le_bytes(value)
        };
        let (mode, nanoseconds, length) = (number(1..3) as u16, number(11..15) as u32, number(15..17) as usize);
        let (path, rest) = rest.split_at_checked(length).ok_or_else(short)?;
        if !is_plain(path) {
            return Err(invalid("a path is not plain"));
        }
        if nanoseconds >= 1_000_000_000 || mode > 0o7777 {
            return Err(invalid("a mode or a time is out of range"));
        }
        let content = match head[0] {
            b'd' if rest.is_empty() => Content::Directory,
            _ if path.is_empty() => return Err(invalid("the top is no directory")),
            b'f' => file(rest)?,
            b'l' if !rest.is_empty() && rest.len() <= MAX_PATH && !rest.contains(&0) => Content::Symlink(rest.to_vec()),
            b'h' if !rest.is_empty() && is_plain(rest) && order(rest, path) == Ordering::Less => {
                Content::HardLink(rest.to_vec())
            }
            _ => return Err(invalid("an entry is of no known kind")),
        };
        Ok(Self { path: path.to_vec(), mode, modified: (number(3..11).cast_signed(), nanoseconds), content })
    }
}

fn file(bytes: &[u8]) -> Result<Content, ReplicationError> {
    let invalid = |why| ReplicationError::invalid("manifest", why);
    let (size, hashes) = bytes.split_first_chunk().ok_or_else(|| invalid("a file has no length"))?;
    let size = u64::from_le_bytes(*size);
    if size > MAX_SIZE {
        return Err(invalid("a file is larger than a terabyte"));
    }
    let (blocks, rest) = hashes.as_chunks::<32>();
    if blocks.len() as u64 != Entry::count(size) || !rest.is_empty() {
        return Err(invalid("a file has another number of blocks than its length says"));
    }
    Ok(Content::File { size, blocks: blocks.to_vec() })
}

/// Whether a path has only names between single slashes. The top's is empty.
pub(super) fn is_plain(path: &[u8]) -> bool {
    let is_name = |name: &[u8]| !name.is_empty() && name != b"." && name != b".." && name.len() <= 255;
    path.len() <= MAX_PATH && !path.contains(&0) && (path.is_empty() || path.split(|byte| *byte == b'/').all(is_name))
}

/// The order of a walk: by names, a directory before what is in it.
pub(super) fn order(one: &[u8], other: &[u8]) -> Ordering {
    let names = |path| <[u8]>::split(path, |byte| *byte == b'/');
    match (one.is_empty(), other.is_empty()) {
        (false, false) => names(one).cmp(names(other)),
        (one, other) => other.cmp(&one),
    }
}

/// The path of the directory that contains a path.
pub(super) fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(&[], |slash| &path[..slash])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_a_walk() {
        let mut paths: Vec<&[u8]> = vec![b"b", b"a/b", b"a", b"a.b", b"", b"a/b/c", b"a-b"];
        paths.sort_by(|one, other| order(one, other));
        let expected: Vec<&[u8]> = vec![b"", b"a", b"a/b", b"a/b/c", b"a-b", b"a.b", b"b"];
        assert_eq!(paths, expected);
    }

    #[test]
    fn paths_that_lead_elsewhere_are_invalid() {
        for path in ["/a", "a/", "a//b", "..", "a/../b", ".", "a/.", "a\0"] {
            assert!(!is_plain(path.as_bytes()), "{path:?}");
        }
        assert!(is_plain(b"") && is_plain(b"a/..b/c") && !is_plain(&[b'a'; 300]));
        let entry = |path: &str, content| Entry { path: path.into(), mode: 0o644, modified: (0, 0), content };
        for wrong in [
            entry("", Content::File { size: 0, blocks: Vec::new() }),
            entry("a", Content::File { size: 1, blocks: Vec::new() }),
            entry("a", Content::File { size: 0, blocks: vec![[0; 32]] }),
            entry("a", Content::Symlink(Vec::new())),
            entry("a", Content::HardLink(b"b".to_vec())),
            entry("b", Content::HardLink(b"../a".to_vec())),
            entry("../b", Content::Directory),
        ] {
            let mut bytes = Vec::new();
            wrong.encode(&mut bytes);
            assert!(Entry::decode(&bytes).is_err(), "{wrong:?}");
        }
    }
}
