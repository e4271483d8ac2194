//! Which servers' files are written, by events of the kernel (fanotify) for whole file systems.
//!
//! They are a hint: an event may be lost, or name a directory that has moved meanwhile. The kernel keeps one event for each
//! directory until it is read, so a reader that waits between two reads has little to do, however much is written.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::Mode;
use rustix::io::Errno;

use super::kernel;
use super::scan::FLAGS;
use super::{DiskAccounts, Layout};
use crate::model::ServerId;

/// Size of `struct fanotify_event_metadata`, which begins with the length of the event.
const METADATA: usize = 24;
/// `struct fanotify_event_info_header` and the id of the file system, which precede a handle.
const BEFORE_HANDLE: usize = 12;
/// `FAN_EVENT_INFO_TYPE_FID` and `FAN_EVENT_INFO_TYPE_DFID`: both are of a directory, where nothing else was asked for.
const OF_DIRECTORY: [u8; 2] = [1, 3];
/// `FAN_Q_OVERFLOW`.
const OVERFLOW: u64 = 0x4000;
/// Handles whose servers are remembered, and for how long: a directory may be moved.
const REMEMBERED: usize = 4096;
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// Events of the file systems that servers' files are on.
#[derive(Debug)]
pub struct FileEvents {
    queue: OwnedFd,
    /// A directory on each file system.
    file_systems: Vec<OwnedFd>,
    known: Mutex<Known>,
}

/// The servers of directories, by their handles.
#[derive(Debug)]
struct Known {
    servers: HashMap<Vec<u8>, Option<ServerId>>,
    since: Instant,
}

/// The servers whose files were written.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    /// Of these, at least.
    These(HashSet<ServerId>),
    /// Events were lost.
    Any,
}

impl FileEvents {
    /// Begins to receive events of the file systems that servers' files are on by this layout.
    ///
    /// # Errors
    /// The kernel is older than 5.9, the process lacks `CAP_SYS_ADMIN` or `CAP_DAC_READ_SEARCH`, or a file system has no handles.
    pub fn begin(layout: &Layout) -> io::Result<Self> {
        let queue = kernel::event_queue()?;
        let mut file_systems = Vec::new();
        for folder in layout.folders_of_data() {
            let Ok(folder) = rustix::fs::open(&folder, FLAGS, Mode::empty()) else { continue };
            kernel::watch_writes(queue.as_fd(), folder.as_fd())?;
            file_systems.push(folder);
        }
        let known = Mutex::new(Known { servers: HashMap::new(), since: Instant::now() });
        Ok(Self { queue, file_systems, known })
    }

    /// Reads all events that there are, without waiting. `servers` have files at these paths.
    pub fn read(&self, servers: &HashMap<PathBuf, ServerId>) -> Written {
        let mut written = HashSet::new();
        let mut buffer = vec![0; 64 * 1024];
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.since.elapsed() > REMEMBERED_FOR || known.servers.len() > REMEMBERED {
            *known = Known { servers: HashMap::new(), since: Instant::now() };
        }
        loop {
            let read = match rustix::io::read(&self.queue, &mut buffer) {
                Ok(0) | Err(Errno::AGAIN) => return Written::These(written),
                Ok(read) => read,
                Err(Errno::INTR) => continue,
                Err(_) => return Written::Any,
            };
            for event in events(&buffer[..read]) {
                match event {
                    Event::Overflow => return Written::Any,
                    Event::In(handle) => {
                        let found = known.servers.entry(handle.to_vec());
                        written.extend(*found.or_insert_with(|| self.server_of(handle, servers)));
                    }
                }
            }
        }
    }

    fn server_of(&self, handle: &[u8], servers: &HashMap<PathBuf, ServerId>) -> Option<ServerId> {
        let opened = self.file_systems.iter().find_map(|on| kernel::open_handle(on.as_fd(), handle).ok())?;
        let path = fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd())).ok()?;
        path.ancestors().find_map(|path| servers.get(path)).copied()
    }
}

impl AsFd for FileEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

impl AsRawFd for FileEvents {
    fn as_raw_fd(&self) -> RawFd {
        self.queue.as_raw_fd()
    }
}

impl Layout {
    /// The folders in which directories of servers' files are made.
    fn folders_of_data(&self) -> Vec<PathBuf> {
        let servers = self.directories.root.join("servers");
        self.directories.data.clone().into_iter().chain([servers]).collect()
    }

    /// The paths of the files of servers with a limit, without links.
    pub fn limited(&self, accounts: &DiskAccounts) -> HashMap<PathBuf, ServerId> {
        accounts.limited().into_iter().map(|id| (self.data(id), id)).collect()
    }

    /// Free bytes of the file system of a server's files.
    pub fn free_bytes(&self, id: ServerId) -> Option<u64> {
        free_bytes(&self.data(id))
    }
}

fn free_bytes(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some(found.f_bfree.saturating_mul(found.f_frsize))
}

enum Event<'a> {
    Overflow,
    /// A file in the directory of this handle was written.
    In(&'a [u8]),
}

/// The events in what the kernel has written. What is not understood is left out.
fn events(mut buffer: &[u8]) -> Vec<Event<'_>> {
    let mut events = Vec::new();
    while let Some(length) = buffer.first_chunk().map(|length| u32::from_ne_bytes(*length) as usize) {
        let Some(event) = buffer.get(..length).filter(|event| event.len() >= METADATA) else { break };
        buffer = &buffer[length..];
        let mask = event[8..16].first_chunk().map_or(0, |mask| u64::from_ne_bytes(*mask));
        let header = usize::from(u16::from_ne_bytes([event[6], event[7]])).max(METADATA);
        if mask & OVERFLOW != 0 {
            events.push(Event::Overflow);
        } else if let Some(handle) = event.get(header..).and_then(handle) {
            events.push(Event::In(handle));
        }
    }
    events
}

/// The handle of the directory among the records of an event.
fn handle(mut records: &[u8]) -> Option<&[u8]> {
    while records.len() >= BEFORE_HANDLE {
        let length = usize::from(u16::from_ne_bytes([records[2], records[3]]));
        let record = records.get(..length).filter(|record| record.len() > BEFORE_HANDLE)?;
        if OF_DIRECTORY.contains(&record[0]) {
            return Some(&record[BEFORE_HANDLE..]);
        }
        records = &records[length..];
    }
    None
}

#[cfg(test)]
mod tests;
