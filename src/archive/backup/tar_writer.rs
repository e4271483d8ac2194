//! Headers of a tar in the format of POSIX. What ustar cannot have is in an extended header before the entry.

use std::io::{self, Write};

use tar::{EntryType, Header};

use super::super::header::{Meta, seconds};
use super::pax;

/// The unit of a tar.
pub(super) const BLOCK: usize = 512;

/// The longest name or target in a header.
const SHORT: usize = 100;

/// The first time that a header cannot have, in seconds.
const MAX_SECONDS: i64 = 0o77_777_777_777;

/// The name of extended headers, for programs that do not know them.
const EXTENDED: &[u8] = b"PaxHeaders/entry";

/// An entry that is about to be written.
pub(super) struct Head<'a> {
    pub kind: EntryType,
    pub name: &'a [u8],
    /// The target of a link.
    pub target: &'a [u8],
    pub size: u64,
    pub meta: Meta,
}

/// Writes entries. Their content is written to the sink between [`begin`](Self::begin) and [`end`](Self::end).
pub(super) struct TarWriter<W> {
    sink: W,
    size: u64,
}

impl<W: Write> TarWriter<W> {
    pub(super) fn new(sink: W) -> Self {
        Self { sink, size: 0 }
    }

    /// Writes the headers of an entry, with these records of the vendor.
    pub(super) fn begin(&mut self, head: &Head<'_>, vendor: &[(&str, Vec<u8>)]) -> io::Result<()> {
        let mut records = records(head);
        for (key, value) in vendor {
            pax::add(&mut records, key, value);
        }
        if !records.is_empty() {
            let meta = Meta { mode: Some(0o644), ..Meta::default() };
            let size = records.len() as u64;
            self.sink.write_all(
                header(&Head { kind: EntryType::XHeader, name: EXTENDED, target: b"", size, meta }).as_bytes(),
            )?;
            self.sink.write_all(&records)?;
            self.pad(size)?;
        }
        self.size = head.size;
        self.sink.write_all(header(head).as_bytes())
    }

    /// The sink, for the content.
    pub(super) fn content(&mut self) -> &mut W {
        &mut self.sink
    }

    /// Ends an entry whose content is written.
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.pad(self.size)
    }

    /// Writes the end of the archive.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.sink.write_all(&[0; 2 * BLOCK])?;
        Ok(self.sink)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = (size % BLOCK as u64) as usize;
        if over > 0 { self.sink.write_all(&[0; BLOCK][over..]) } else { Ok(()) }
    }
}

/// The bytes of an entry with a name of this length, at most: two headers, the records, and the content.
pub(super) fn entry_size(name: usize, target: usize, content: u64) -> u64 {
    let records = 64 + if name > SHORT { name + 20 } else { 0 } + if target > SHORT { target + 20 } else { 0 };
    let block = BLOCK as u64;
    2 * block + (records as u64).next_multiple_of(block) + content.div_ceil(block).saturating_mul(block)
}

fn records(head: &Head<'_>) -> Vec<u8> {
    let mut records = Vec::new();
    if head.name.len() > SHORT {
        pax::add(&mut records, "path", head.name);
    }
    if head.target.len() > SHORT {
        pax::add(&mut records, "linkpath", head.target);
    }
    if let Some(modified) = head.meta.modified {
        let text = pax::time_text(modified);
        let whole = !text.contains('.') && (0..=MAX_SECONDS).contains(&seconds(modified));
        if !whole {
            pax::add(&mut records, "mtime", text.as_bytes());
        }
    }
    records
}

fn header(head: &Head<'_>) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(head.kind);
    header.set_size(head.size);
    header.set_mode(head.meta.mode.unwrap_or(0o644) & 0o7777);
    let modified = head.meta.modified.map_or(0, seconds);
    header.set_mtime(modified.clamp(0, MAX_SECONDS) as u64);
    // Large numbers are binary, which every program of today reads.
    let (uid, gid) = head.meta.owner.unwrap_or_default();
    header.set_uid(uid.into());
    header.set_gid(gid.into());
    let old = header.as_old_mut();
    fill(&mut old.name, head.name);
    fill(&mut old.linkname, head.target);
    header.set_cksum();
    header
}

/// As much of the text as fits. The end of a cut one is no `/`, which would make it a directory.
fn fill(field: &mut [u8; SHORT], text: &[u8]) {
    let mut text = &text[..text.len().min(SHORT)];
    while let [rest @ .., b'/'] = text
        && text.len() == SHORT
    {
        text = rest;
    }
    field[..text.len()].copy_from_slice(text);
}
