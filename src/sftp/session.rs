//! What a client does with a server's files, one request after the other. These functions block.
//!
//! Each request is checked in this order: whether the node accepts changes, whether the server's files are available now, and
//! whether the user has the permission. Source: SFTP, "Operations", and where Wings is wrong, the draft and OpenSSH.

mod attributes;
mod content;
mod handles;
mod listing;
mod names;
mod refused;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Buf, BytesMut};
use tokio::time::Instant;

use self::handles::Handles;
pub use self::refused::Refused;
use super::Service;
use super::login::Access;
use super::permissions::Permission;
use super::recorder::Recorder;
use super::wire::{Incoming, Malformed, Replies, Request, Status, next_packet, read_init, read_request};
use crate::activity::ActivityEvent;
use crate::files::tree::{Tree, TreeError};
use crate::files::user_path::UserPath;
use crate::server_files::Access as Availability;

/// The answer has been written, or there is none.
type Outcome = Result<(), Refused>;

/// One channel's open files and rights.
pub struct Session {
    service: Arc<Service>,
    access: Arc<Access>,
    /// Ends long operations.
    cancelled: Arc<AtomicBool>,
    /// The client has sent its version.
    begun: bool,
    handles: Handles,
    recorder: Recorder,
    /// The server's files for the current requests.
    files: Result<Tree, Refused>,
}

impl Session {
    /// A session without open files.
    pub fn new(service: Arc<Service>, access: Arc<Access>, cancelled: Arc<AtomicBool>) -> Self {
        let activity = service.context.activity.clone();
        let recorder = Recorder::new(activity, access.server, access.user, access.peer.ip());
        let handles = Handles::new(access.session.files.clone());
        let files = Err(Refused::DENIED);
        Self { service, access, cancelled, begun: false, handles, recorder, files }
    }

    /// When activity is to be recorded.
    pub fn due(&self) -> Option<Instant> {
        self.recorder.due()
    }

    /// Records activity that is due.
    pub fn record(&mut self, now: Instant) {
        self.recorder.flush_due(now);
    }

    /// Handles the complete requests of a buffer and removes them, until the answers have `limit` bytes. Returns whether there are
    /// more of them. `files` are the server's, or why they are not available.
    ///
    /// # Errors
    /// A packet cannot be read, and with it what follows.
    pub fn handle_all(
        &mut self,
        files: Result<Tree, Refused>,
        requests: &mut BytesMut,
        replies: &mut Replies,
        limit: usize,
    ) -> Result<bool, Malformed> {
        self.files = files;
        loop {
            if replies.len() >= limit {
                return Ok(true);
            }
            let Incoming::Packet(packet) = next_packet(requests)? else { break };
            if self.cancelled.load(Ordering::Relaxed) {
                break;
            }
            self.handle(packet, replies)?;
            let length = size_of::<u32>() + packet.len();
            requests.advance(length);
        }
        self.recorder.flush_due(Instant::now());
        Ok(false)
    }

    fn handle(&mut self, packet: &[u8], replies: &mut Replies) -> Result<(), Malformed> {
        if !self.begun {
            read_init(packet)?;
            self.begun = true;
            replies.version();
            return Ok(());
        }
        let (id, request) = read_request(packet)?;
        let outcome = match request {
            Ok(request) => self.answer(id, request, replies),
            Err(malformed) => Err(malformed.into()),
        };
        if let Err(Refused { status, message }) = outcome {
            replies.status(id, status, &message);
        }
        Ok(())
    }

    fn answer(&mut self, id: u32, request: Request<'_>, replies: &mut Replies) -> Outcome {
        match request {
            Request::Open { path, flags, attributes } => self.open(id, path, flags, attributes, replies)?,
            Request::Read { handle, offset, length } => return self.read(id, handle, offset, length, replies),
            Request::Write { handle, offset, data } => self.write(handle, offset, data)?,
            Request::Close(handle) => self.handles.close(handle)?,
            Request::Fsync(handle) => self.sync(handle)?,
            Request::CopyData { from, offset, length, to, to_offset } => {
                self.copy_data((from, offset), length, (to, to_offset))?;
            }
            Request::Stat { path } => return self.stat(id, path, true, replies),
            Request::Lstat { path } => return self.stat(id, path, false, replies),
            Request::Fstat(handle) => return self.stat_handle(id, handle, replies),
            Request::Setstat { path, attributes } => self.set_attributes(path, attributes, true)?,
            Request::Lsetstat { path, attributes } => self.set_attributes(path, attributes, false)?,
            Request::Fsetstat { handle, attributes } => self.set_attributes_of_handle(handle, attributes)?,
            Request::Opendir { path } => return self.open_directory(id, path, replies),
            Request::Readdir(handle) => return self.read_directory(id, handle, replies),
            Request::Remove { path } => self.remove(path)?,
            Request::Rmdir { path } => self.remove_directory(path)?,
            Request::Mkdir { path, attributes } => self.make_directory(path, attributes)?,
            Request::Rename { from, to, replace } => self.rename(from, to, replace)?,
            Request::Symlink { target, path } => self.symlink(target, path)?,
            Request::Hardlink { from, to } => self.hard_link(from, to)?,
            Request::Readlink { path } => return self.read_link(id, path, replies),
            Request::Realpath { path } | Request::ExpandPath { path } => return self.real_path(id, path, replies),
            Request::Statvfs { path } => return self.file_system(id, Some(path), replies),
            Request::Fstatvfs(handle) => {
                self.handles.get(handle)?;
                return self.file_system(id, None, replies);
            }
            Request::Limits => {
                self.limits(id, replies);
                return Ok(());
            }
            Request::Unknown => return Err(Refused::UNSUPPORTED),
        }
        if !matches!(request, Request::Open { .. }) {
            replies.status(id, Status::Ok, "");
        }
        Ok(())
    }

    /// The server's files, if the user may read them in this way now.
    fn reading(&self, permission: Permission) -> Result<Tree, Refused> {
        let tree = self.tree()?;
        self.allow(permission)?;
        Ok(tree)
    }

    /// The server's files, if the user may change them in this way now.
    fn changing(&self, permission: Permission) -> Result<Tree, Refused> {
        self.accepts_changes()?;
        self.reading(permission)
    }

    fn accepts_changes(&self) -> Outcome {
        if self.service.config().read_only { Err(Refused::READ_ONLY) } else { Ok(()) }
    }

    fn allow(&self, permission: Permission) -> Outcome {
        if self.access.permissions.allow(permission) { Ok(()) } else { Err(Refused::DENIED) }
    }

    /// The server's files while they are available.
    fn tree(&self) -> Result<Tree, Refused> {
        self.service.files.check(self.access.server, Availability::UserWrite)?;
        self.files.clone()
    }

    fn note(&mut self, event: ActivityEvent, path: &UserPath) {
        self.recorder.note(event, shown(path), Instant::now());
    }
}

/// A path for the activity log, from the server's directory.
fn shown(path: &UserPath) -> String {
    path.absolute().to_string_lossy().into_owned()
}

/// The path that a client means: from the server's directory, and never above it.
fn path_of(text: &[u8]) -> Result<UserPath, Refused> {
    Ok(UserPath::clamped(OsStr::from_bytes(text)).map_err(TreeError::from)?)
}

#[cfg(test)]
mod tests;
