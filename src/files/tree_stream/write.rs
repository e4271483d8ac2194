//! The side that reads the files.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use super::super::tree::{Entry, EntryKind, Follow, Tree, TreeError, Visit, WalkEntry};
use super::super::user_path::UserPath;
use super::{Copied, Head, MAX_BLOCK, StreamError, Text, write_block};

/// Sends what is at a path, and all that is below. An error is sent, too.
///
/// # Errors
/// Nothing is there, something cannot be read, the other side has gone, or `cancelled` was set.
pub fn send(tree: &Tree, from: &UserPath, cancelled: &AtomicBool, mut sink: impl Write) -> Result<Copied, StreamError> {
    let mut sender = Sender { from, sink: &mut sink, copied: Copied::default(), block: vec![0; MAX_BLOCK] };
    let sent = sender.all(tree, cancelled);
    let head = match &sent {
        Ok(copied) => Head::End { skipped: copied.skipped },
        Err(StreamError::Connection(_)) => return sent,
        Err(error) => Head::Error { message: error.to_string() },
    };
    sender.head(&head)?;
    sink.flush().map_err(StreamError::Connection)?;
    sent
}

struct Sender<'a, W> {
    from: &'a UserPath,
    sink: &'a mut W,
    copied: Copied,
    block: Vec<u8>,
}

impl<W: Write> Sender<'_, W> {
    fn all(&mut self, tree: &Tree, cancelled: &AtomicBool) -> Result<Copied, StreamError> {
        let top = tree.stat(self.from, Follow::No)?;
        if self.from.is_root() {
            // A walk does not visit it.
            self.directory(Path::new(""), &top)?;
        }
        let mut failed = None;
        tree.walk(self.from, cancelled, &mut |entry| match self.entry(&entry) {
            Ok(()) => Visit::Enter,
            Err(error) => {
                failed = Some(error);
                Visit::Stop
            }
        })?;
        failed.map_or(Ok(self.copied), Err)
    }

    fn entry(&mut self, found: &WalkEntry<'_>) -> Result<(), StreamError> {
        let path = found.path.as_path().strip_prefix(self.from.as_path()).unwrap_or(found.path.as_path());
        match found.entry.kind {
            EntryKind::Directory => self.directory(path, &found.entry),
            EntryKind::File => match found.open() {
                Ok((file, entry)) => self.file(path, &entry, file, &found.path),
                // It was removed or replaced meanwhile.
                Err(TreeError::NotFound(_) | TreeError::NotRegular(_)) => Ok(()),
                Err(error) => Err(error.into()),
            },
            EntryKind::Symlink => match found.read_link() {
                Ok(target) => {
                    self.copied.links += 1;
                    self.head(&Head::Link { path: Text::new(path.as_os_str()), target: Text::new(&target) })
                }
                Err(TreeError::NotFound(_)) => Ok(()),
                Err(error) => Err(error.into()),
            },
            _ => {
                self.copied.skipped += 1;
                Ok(())
            }
        }
    }

    fn directory(&mut self, path: &Path, entry: &Entry) -> Result<(), StreamError> {
        self.copied.directories += 1;
        self.head(&Head::Directory { path: Text::new(path.as_os_str()), mode: entry.mode & 0o777 })
    }

    fn file(
        &mut self,
        path: &Path,
        entry: &Entry,
        mut content: impl Read,
        whole_path: &UserPath,
    ) -> Result<(), StreamError> {
        let since_1970 = entry.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        self.head(&Head::File {
            path: Text::new(path.as_os_str()),
            mode: entry.mode & 0o777,
            size: entry.size,
            seconds: since_1970.as_secs(),
            nanoseconds: since_1970.subsec_nanos(),
        })?;
        loop {
            let read = match content.read(&mut self.block) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // The head of the error follows, and the file is not completed.
                Err(error) => {
                    self.sink.write_all(&u32::MAX.to_be_bytes()).map_err(StreamError::Connection)?;
                    return Err(TreeError::io("read", whole_path)(error).into());
                }
            };
            write_block(self.sink, &self.block[..read]).map_err(StreamError::Connection)?;
            if read == 0 {
                self.copied.files += 1;
                return Ok(());
            }
            self.copied.bytes += read as u64;
        }
    }

    fn head(&mut self, head: &Head) -> Result<(), StreamError> {
        let json = serde_json::to_vec(head).map_err(|error| StreamError::Connection(error.into()))?;
        write_block(self.sink, &json).map_err(StreamError::Connection)
    }
}
