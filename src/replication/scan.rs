//! Makes the manifest of a tree. Files that have not changed since an earlier manifest of it are not read again.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use super::BLOCK;
use super::entry::{Content, Entry, Hash, order};
use super::error::ReplicationError;
use super::manifest::{ManifestReader, ManifestWriter, Stamp, Summary};
use crate::files::page_cache::Reading;
use crate::files::tree::{self, EntryKind, Follow, Tree, TreeError, Visit, Visitor, WalkEntry};
use crate::files::user_path::UserPath;

/// The most files with several names whose names are known to belong together. Further ones are files of their own.
const MAX_LINKED: usize = 1_000_000;

/// More than the resolution of the times of files.
const CLOCK: Duration = Duration::from_secs(1);

/// How a tree is scanned.
pub struct Scan<'a, R> {
    /// An earlier manifest of the same tree.
    pub former: Option<ManifestReader<R>>,
    /// A file that was read is known to be unchanged later if its last change was before this time, which is [`settled_before`] where a
    /// program may have mapped it.
    pub settled_before: SystemTime,
    /// Ends it early.
    pub cancelled: &'a AtomicBool,
}

/// Writes back what is in memory of a tree's file system. Files whose last change was before the time that is returned change their times
/// with each later change: the kernel notes the first one to a page that a program has mapped, and then none until that is written back. All
/// files in memory are read each time.
///
/// # Errors
/// The disk fails.
pub fn settled_before(tree: &Tree) -> Result<SystemTime, ReplicationError> {
    if tree.is_in_memory() {
        // Nothing is written back there, so no change to a mapped page is noted.
        return Ok(SystemTime::UNIX_EPOCH);
    }
    let now = SystemTime::now();
    tree.sync_file_system()?;
    Ok(now - CLOCK)
}

/// Writes the manifest of a tree. Pipes, sockets and devices are left out.
///
/// # Errors
/// The tree or the former manifest cannot be read, the sink fails, or it is cancelled.
pub fn scan<R: Read, W: Write>(
    tree: &Tree,
    options: Scan<'_, R>,
    to: ManifestWriter<W>,
) -> Result<(W, Summary), ReplicationError> {
    let cancelled = options.cancelled;
    let mut scanner = Scanner::new(options, to);
    let top = tree.stat(&UserPath::root(), Follow::No)?;
    scanner.to.add(&entry(Vec::new(), &top, Content::Directory), Stamp::default())?;
    let walked = tree.walk_with(&UserPath::root(), cancelled, &mut scanner);
    if let Some(error) = scanner.failed {
        return Err(error);
    }
    match walked {
        Err(TreeError::Cancelled(_)) => Err(ReplicationError::Cancelled),
        walked => {
            walked?;
            scanner.to.finish()
        }
    }
}

/// Writes the manifest of a tree that has nothing but these files, which come in the order of their names.
///
/// # Errors
/// As [`scan`].
pub fn scan_files<R: Read, W: Write>(
    files: Vec<(UserPath, File, tree::Entry)>,
    options: Scan<'_, R>,
    to: ManifestWriter<W>,
) -> Result<(W, Summary), ReplicationError> {
    let mut scanner = Scanner::new(options, to);
    let top = Entry { path: Vec::new(), mode: 0o700, modified: (0, 0), content: Content::Directory };
    scanner.to.add(&top, Stamp::default())?;
    for (path, file, now) in files {
        scanner.open_file(&path, &file, &now)?;
    }
    scanner.to.finish()
}

struct Scanner<'a, R, W> {
    to: ManifestWriter<W>,
    former: Former<R>,
    settled_before: SystemTime,
    cancelled: &'a AtomicBool,
    /// The first name of each file with several ones.
    linked: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
    failed: Option<ReplicationError>,
}

impl<R: Read, W: Write> Visitor for Scanner<'_, R, W> {
    fn entry(&mut self, found: WalkEntry<'_>) -> Result<Visit, TreeError> {
        match self.add(&found) {
            Ok(()) => Ok(Visit::Enter),
            // Gone, or something else by now: the next round has it.
            Err(ReplicationError::Tree(
                TreeError::NotFound(_) | TreeError::NotRegular(_) | TreeError::Busy(_) | TreeError::TooManyLinks(_),
            )) => Ok(Visit::Skip),
            Err(error) => {
                self.failed = Some(error);
                Ok(Visit::Stop)
            }
        }
    }
}

impl<'a, R: Read, W: Write> Scanner<'a, R, W> {
    fn new(options: Scan<'a, R>, to: ManifestWriter<W>) -> Self {
        Self {
            to,
            former: Former { manifest: options.former, next: None },
            settled_before: options.settled_before,
            cancelled: options.cancelled,
            linked: HashMap::new(),
            buffer: vec![0; BLOCK as usize],
            failed: None,
        }
    }

    fn add(&mut self, found: &WalkEntry<'_>) -> Result<(), ReplicationError> {
        let path = found.path.as_bytes().to_vec();
        match found.entry.kind {
            EntryKind::Directory => self.to.add(&entry(path, &found.entry, Content::Directory), Stamp::default()),
            EntryKind::Symlink => {
                let text = match found.read_link() {
                    // Replaced meanwhile.
                    Err(TreeError::Io { .. }) => return Ok(()),
                    text => text?.into_encoded_bytes(),
                };
                self.to.add(&entry(path, &found.entry, Content::Symlink(text)), Stamp::default())
            }
            EntryKind::File => self.file(path, found),
            _ => Ok(()),
        }
    }

    fn file(&mut self, path: Vec<u8>, found: &WalkEntry<'_>) -> Result<(), ReplicationError> {
        let (file, now) = found.open()?;
        if now.links > 1 {
            let id = (now.device, now.inode);
            if let Some(first) = self.linked.get(&id) {
                let link = Entry { path, mode: 0, modified: (0, 0), content: Content::HardLink(first.clone()) };
                return self.to.add(&link, Stamp::default());
            }
            if self.linked.len() < MAX_LINKED {
                self.linked.insert(id, path.clone());
            }
        }
        self.open_file(&found.path, &file, &now)
    }

    fn open_file(&mut self, path: &UserPath, file: &File, now: &tree::Entry) -> Result<(), ReplicationError> {
        let name = path.as_bytes().to_vec();
        let settled = now.changed < self.settled_before;
        let stamp = Stamp { changed: seconds(now.changed), inode: now.inode, device: now.device, settled };
        let known = self.former.unchanged(&name, now.size, &stamp)?;
        let content = match known {
            Some(blocks) => Content::File { size: now.size, blocks },
            None => self.hash(file, now, path)?,
        };
        self.to.add(&entry(name, now, content), stamp)
    }

    /// Reads a file as long as it was when it was opened. One that is shorter by now ends there.
    fn hash(&mut self, file: &File, now: &tree::Entry, path: &UserPath) -> Result<Content, ReplicationError> {
        let mut reading = Reading::begin(file, now.size);
        let (mut size, mut blocks): (u64, Vec<Hash>) = (0, Vec::new());
        while size < now.size {
            if self.cancelled.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(ReplicationError::Cancelled);
            }
            let wanted = Entry::length(now.size, blocks.len() as u64) as usize;
            let length = read_full(file, &mut self.buffer[..wanted]).map_err(TreeError::io("read", path))?;
            if length > 0 {
                blocks.push(*blake3::hash(&self.buffer[..length]).as_bytes());
            }
            size += length as u64;
            reading.read_to(size);
            if length < wanted {
                break;
            }
        }
        reading.end();
        Ok(Content::File { size, blocks })
    }
}

/// Reads until the buffer is full or the file ends.
pub(super) fn read_full(mut file: impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// An earlier manifest, read in step with the walk.
struct Former<R> {
    manifest: Option<ManifestReader<R>>,
    next: Option<(Entry, Stamp)>,
}

impl<R: Read> Former<R> {
    /// The blocks of a file that has not changed since then.
    fn unchanged(&mut self, path: &[u8], size: u64, now: &Stamp) -> Result<Option<Vec<Hash>>, ReplicationError> {
        loop {
            if self.next.is_none() {
                self.next = match &mut self.manifest {
                    Some(manifest) => manifest.next_stamped()?,
                    None => None,
                };
            }
            let Some((former, _)) = &self.next else { return Ok(None) };
            match order(&former.path, path) {
                Ordering::Less => self.next = None,
                Ordering::Greater => return Ok(None),
                Ordering::Equal => break,
            }
        }
        let Some((former, stamp)) = self.next.take() else { return Ok(None) };
        let same = stamp.settled && Stamp { settled: true, ..*now } == stamp;
        Ok(match former.content {
            Content::File { size: known, blocks } if same && known == size => Some(blocks),
            _ => None,
        })
    }
}

/// An entry with the attributes that a tree can have.
fn entry(path: Vec<u8>, found: &tree::Entry, content: Content) -> Entry {
    let mode = match content {
        Content::Directory => found.mode & 0o3777,
        Content::File { .. } => found.mode & 0o777,
        Content::Symlink(_) | Content::HardLink(_) => 0,
    };
    Entry { path, mode: mode as u16, modified: seconds(found.modified), content }
}

/// A time as seconds, which may be negative, and nanoseconds.
pub(super) fn seconds(time: SystemTime) -> (i64, u32) {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => (after.as_secs().cast_signed(), after.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            match before.subsec_nanos() {
                0 => (-before.as_secs().cast_signed(), 0),
                part => (-before.as_secs().cast_signed() - 1, 1_000_000_000 - part),
            }
        }
    }
}

/// A path of a manifest, which is plain.
pub(super) fn user_path(path: &[u8]) -> Result<UserPath, ReplicationError> {
    UserPath::parse(OsStr::from_bytes(path)).map_err(|_| ReplicationError::invalid("path", "it leads elsewhere"))
}
