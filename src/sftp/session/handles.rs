//! The open files and directories of a channel.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Outcome;
use super::refused::Refused;
use crate::files::tree::{Listing, OpenFile};
use crate::files::user_path::UserPath;
use crate::sftp::limits::HANDLES;
use crate::sftp::wire::Handle;

/// An open file or directory.
pub enum Open {
    Directory(UserPath, Listing),
    /// For reading only.
    Reading(File),
    Writing(Writing),
}

/// A file that is open for writing.
pub struct Writing {
    pub file: OpenFile,
    /// Whether it may be read as well.
    pub readable: bool,
}

/// The open files and directories of a channel, by handle.
pub struct Handles {
    open: BTreeMap<Handle, (Open, OwnedSemaphorePermit)>,
    next: u32,
    /// Of all channels of the server.
    permits: Arc<Semaphore>,
}

/// Room for another handle.
pub struct Room(OwnedSemaphorePermit);

impl Handles {
    /// None is open.
    pub fn new(permits: Arc<Semaphore>) -> Self {
        Self { open: BTreeMap::new(), next: 0, permits }
    }

    /// Room for another one.
    pub fn room(&self) -> Result<Room, Refused> {
        let permit = self.permits.clone().try_acquire_owned().ok().filter(|_| self.open.len() < HANDLES);
        permit.map(Room).ok_or(Refused::failure("too many open files"))
    }

    /// A handle, which this channel has not had before.
    pub fn add(&mut self, Room(permit): Room, open: Open) -> Handle {
        let handle = Handle(self.next);
        self.next = self.next.wrapping_add(1);
        self.open.insert(handle, (open, permit));
        handle
    }

    /// What a handle stands for.
    pub fn get(&mut self, handle: Option<Handle>) -> Result<&mut Open, Refused> {
        let open = handle.and_then(|handle| self.open.get_mut(&handle));
        open.map(|(open, _)| open).ok_or(Refused::HANDLE)
    }

    /// A file that is open for writing.
    pub fn writing(&mut self, handle: Option<Handle>) -> Result<&OpenFile, Refused> {
        match self.get(handle)? {
            Open::Writing(Writing { file, .. }) => Ok(file),
            Open::Directory(..) | Open::Reading(_) => Err(Refused::failure("the handle is not open for writing")),
        }
    }

    /// Closes a handle.
    pub fn close(&mut self, handle: Option<Handle>) -> Outcome {
        let closed = handle.and_then(|handle| self.open.remove(&handle));
        closed.map(drop).ok_or(Refused::HANDLE)
    }
}

impl Open {
    /// Reads from a file.
    ///
    /// # Errors
    /// The system's error, or the handle is not open for reading.
    pub fn read_at(&self, to: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Self::Reading(file) => file.read_at(to, offset),
            Self::Writing(Writing { file, readable: true }) => file.read_at(to, offset),
            Self::Writing(_) | Self::Directory(..) => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "the handle is not open for reading"))
            }
        }
    }
}
