//! Files without a name, for what is too large for memory and is not needed after a restart.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter};
use std::os::fd::AsRawFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use uuid::Uuid;

use super::siblings::Siblings;
use super::{FilesError, Layout};
use crate::model::ServerId;

/// A file that is gone when it is closed.
#[derive(Debug)]
pub struct ScratchFile(File);

impl ScratchFile {
    /// Writes it from its beginning; only once.
    pub fn writer(&self) -> BufWriter<&File> {
        BufWriter::new(&self.0)
    }

    /// Reads it from its beginning, as often as it is called.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn reader(&self) -> io::Result<BufReader<File>> {
        // A copy of the descriptor would share its position.
        File::open(format!("/proc/self/fd/{}", self.0.as_raw_fd())).map(BufReader::new)
    }
}

impl Layout {
    /// A file on the file system of a server's files.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn scratch_file(&self, id: ServerId) -> Result<ScratchFile, FilesError> {
        let siblings = Siblings::of(self, id);
        let folder = siblings.parent();
        let failed = |error: io::Error| FilesError::disk("create a file in", folder)(error);
        let (flags, mode) = (OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
        match rustix::fs::open(folder, flags | OFlags::TMPFILE, mode) {
            // A file system without such files.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) => {
                let path = folder.join(format!(".{id}.scratch-{}", Uuid::new_v4()));
                let created = rustix::fs::open(&path, flags | OFlags::CREATE | OFlags::EXCL, mode);
                let file = created.map_err(|errno| failed(errno.into()))?;
                fs::remove_file(&path).map_err(failed)?;
                Ok(ScratchFile(file.into()))
            }
            created => Ok(ScratchFile(created.map_err(|errno| failed(errno.into()))?.into())),
        }
    }
}
