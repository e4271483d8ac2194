//! What is known about one upload, on disk: the links, and the parts that the store has.
//!
//! The first line is the [`Begun`] upload; each further line is a [`Part`] that the store has acknowledged, durable before it counts.
//! A last line without its end, from a crash, is ignored and cut off. The links are as good as the store's credentials: mode 0600.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::atomic;
use crate::model::Timestamp;
use crate::panel::{Part, UploadLinks};

const MODE: u32 = 0o600;
const VERSION: u32 = 1;
/// The longest journal that is read. Ten thousand links of 1.5 KiB, and as many parts, are shorter.
const MAX_BYTES: u64 = 64 << 20;
/// How long links live that do not say so. Source: the panel's default.
const DEFAULT_LIFE: Duration = Duration::from_secs(3600);
/// The longest life of a link. Source: S3, `X-Amz-Expires`.
const MAX_LIFE: u64 = 7 * 24 * 3600;

/// A multipart upload that was begun.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Begun {
    version: u32,
    /// Bytes of the archive.
    pub size: u64,
    /// How often links were requested, with these.
    pub round: u32,
    /// When they were requested.
    pub fetched: Timestamp,
    /// When they expire, by the clock of this host.
    pub expires: Timestamp,
    #[serde(flatten)]
    pub links: UploadLinks,
}

impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Begun")
            .field("size", &self.size)
            .field("round", &self.round)
            .field("fetched", &self.fetched)
            .field("expires", &self.expires)
            .field("links", &self.links.parts.len())
            .finish_non_exhaustive()
    }
}

impl Begun {
    /// An upload of so many bytes, with links that were requested at `fetched`.
    pub fn new(size: u64, round: u32, fetched: Timestamp, links: UploadLinks) -> Self {
        // Not `X-Amz-Date`, which is by the panel's clock: the panel signs while it answers.
        let life = links.parts.iter().filter_map(|link| life(link)).min().unwrap_or(DEFAULT_LIFE);
        Self { version: VERSION, size, round, fetched, expires: fetched + life, links }
    }

    /// The number of parts that the archive has.
    pub fn count(&self) -> u32 {
        u32::try_from(self.size.div_ceil(self.links.part_size).max(1)).unwrap_or(u32::MAX)
    }

    /// Offset and length of a part, counted from one.
    pub fn range(&self, number: u32) -> (u64, u64) {
        let from = u64::from(number.saturating_sub(1)).saturating_mul(self.links.part_size).min(self.size);
        (from, self.links.part_size.min(self.size - from))
    }

    fn is_valid(&self) -> bool {
        let links = &self.links;
        self.version == VERSION && links.part_size > 0 && links.parts.len() >= self.count() as usize
    }
}

/// How long a presigned link lives.
fn life(link: &str) -> Option<Duration> {
    let url = Url::parse(link).ok()?;
    let seconds =
        url.query_pairs().find(|(key, _)| key.eq_ignore_ascii_case("X-Amz-Expires"))?.1.parse::<u64>().ok()?;
    (1..=MAX_LIFE).contains(&seconds).then(|| Duration::from_secs(seconds))
}

/// The content of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    pub begun: Begun,
    /// ETags by the number of their part.
    pub etags: BTreeMap<u32, String>,
    /// Length of the lines that were read. What follows is of a crash.
    pub length: u64,
}

/// Reads a journal. `None`: there is no valid first line, so that nothing is known.
pub fn parse(bytes: &[u8]) -> Option<Content> {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').take_while(|line| line.ends_with(b"\n"));
    let first = lines.next()?;
    let begun: Begun = serde_json::from_slice(first).ok()?;
    if !begun.is_valid() {
        return None;
    }
    let (mut etags, mut length) = (BTreeMap::new(), first.len() as u64);
    for line in lines {
        // Parts behind a damaged line are sent again.
        let Ok(part) = serde_json::from_slice::<Part>(line) else { break };
        if part.part_number == 0 || part.part_number > begun.count() || part.etag.is_empty() {
            break;
        }
        etags.insert(part.part_number, part.etag);
        length += line.len() as u64;
    }
    Some(Content { begun, etags, length })
}

/// An upload and its journal. Every function blocks on the disk.
#[derive(Debug)]
pub struct Journal {
    file: File,
    length: u64,
    pub begun: Begun,
    pub etags: BTreeMap<u32, String>,
}

impl Journal {
    /// Reads the journal of an earlier run. `None`: there is none, or it is of another archive.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(path: &Path, size: u64) -> io::Result<Option<Self>> {
        let mut file = match OpenOptions::new().read(true).append(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(&mut file, MAX_BYTES), &mut bytes)?;
        let Some(content) = parse(&bytes).filter(|content| content.begun.size == size) else { return Ok(None) };
        // The next line begins where the last complete one ends.
        file.set_len(content.length)?;
        Ok(Some(Self { file, length: content.length, begun: content.begun, etags: content.etags }))
    }

    /// Begins a journal, in place of an earlier one.
    ///
    /// # Errors
    /// It cannot be written; an earlier one is unchanged.
    pub fn begin(path: &Path, begun: Begun) -> io::Result<Self> {
        let first = line(&begun)?;
        atomic::write_file(path, &first, MODE)?;
        let file = OpenOptions::new().append(true).open(path)?;
        Ok(Self { file, length: first.len() as u64, begun, etags: BTreeMap::new() })
    }

    /// Adds a part, durably.
    ///
    /// # Errors
    /// It may not be on disk.
    pub fn add(&mut self, part: Part) -> io::Result<()> {
        let line = line(&part)?;
        if let Err(error) = self.file.write_all(&line).and_then(|()| self.file.sync_data()) {
            // A part of a line would make the following ones unreadable.
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += line.len() as u64;
        self.etags.insert(part.part_number, part.etag);
        Ok(())
    }

    /// The parts that the store has, in order; `None` while one is missing.
    pub fn complete(&self) -> Option<Vec<Part>> {
        let part = |(number, etag): (&u32, &String)| Part { etag: etag.clone(), part_number: *number };
        (self.etags.len() == self.begun.count() as usize).then(|| self.etags.iter().map(part).collect())
    }

    /// The parts that are to be sent.
    pub fn missing(&self) -> Vec<u32> {
        (1..=self.begun.count()).filter(|number| !self.etags.contains_key(number)).collect()
    }
}

pub use crate::files::backup_files::upload_journal as path_for;

/// Removes a journal, durably. Call it when the panel has acknowledged the upload, or the backup is given up.
///
/// # Errors
/// It is still there.
pub fn remove(path: &Path) -> io::Result<()> {
    match atomic::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests;
