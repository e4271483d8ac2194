//! Attributes of files as the protocol has them, and what of them a client may set.

use std::fs::{File, FileTimes, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::handles::Open;
use super::refused::Refused;
use super::{Outcome, Session, path_of};
use crate::files::tree::{Attributes as TreeAttributes, Entry, EntryKind, Follow};
use crate::sftp::permissions::Permission;
use crate::sftp::wire::{Attributes, Handle, Ids, Replies, Times};

/// The permissions that a client can set: no bit that gives rights to other users of the host.
const PERMISSIONS: u32 = 0o777;
/// What new files and directories never have, as on other servers.
const UMASK: u32 = 0o022;

/// The mode of a new file or directory.
pub(super) fn created(asked: u32) -> u32 {
    asked & PERMISSIONS & !UMASK
}

/// The attributes of an entry.
pub(super) fn of(entry: &Entry) -> Attributes {
    Attributes {
        size: Some(entry.size),
        ids: Some(Ids { uid: entry.uid, gid: entry.gid }),
        mode: Some(kind_bits(entry.kind) | entry.mode & 0o7777),
        times: Some(Times { accessed: seconds(entry.accessed), modified: seconds(entry.modified) }),
    }
}

/// The attributes of an open file.
fn of_open(found: &Metadata) -> Attributes {
    let seconds = |seconds: i64| u32::try_from(seconds.max(0)).unwrap_or(u32::MAX);
    Attributes {
        size: Some(found.size()),
        ids: Some(Ids { uid: found.uid(), gid: found.gid() }),
        mode: Some(found.mode()),
        times: Some(Times { accessed: seconds(found.atime()), modified: seconds(found.mtime()) }),
    }
}

/// The bits of a type in `st_mode`.
pub(super) fn kind_bits(kind: EntryKind) -> u32 {
    match kind {
        EntryKind::File => 0o100_000,
        EntryKind::Directory => 0o040_000,
        EntryKind::Symlink => 0o120_000,
        EntryKind::Fifo => 0o010_000,
        EntryKind::Socket => 0o140_000,
        EntryKind::BlockDevice => 0o060_000,
        EntryKind::CharacterDevice => 0o020_000,
    }
}

/// The protocol has no times before 1970 or after 2106.
fn seconds(time: SystemTime) -> u32 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

fn time(seconds: u32) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::from(seconds))
}

/// What a client wants to change; `None` where it wants nothing that this server changes.
fn wanted(attributes: &Attributes) -> Option<TreeAttributes> {
    let Attributes { size, mode, times, .. } = *attributes;
    let some = size.is_some() || mode.is_some() || times.is_some();
    some.then(|| TreeAttributes {
        mode: mode.map(|mode| mode & PERMISSIONS),
        size,
        accessed: times.map(|times| time(times.accessed)),
        modified: times.map(|times| time(times.modified)),
    })
}

impl Session {
    pub(super) fn stat(&mut self, id: u32, path: &[u8], follow: bool, replies: &mut Replies) -> Outcome {
        let tree = self.reading(Permission::Read)?;
        let entry = tree.stat(&path_of(path)?, following(follow))?;
        replies.attributes(id, &of(&entry));
        Ok(())
    }

    /// A client that has a file open may know its size: no permission is needed.
    pub(super) fn stat_handle(&mut self, id: u32, handle: Option<Handle>, replies: &mut Replies) -> Outcome {
        let tree = self.tree()?;
        let attributes = match self.handles.get(handle)? {
            Open::Reading(file) => of_open(&file.metadata()?),
            Open::Writing(writing) => of_open(&writing.file.file().metadata()?),
            Open::Directory(path, _) => of(&tree.stat(path, Follow::Yes)?),
        };
        replies.attributes(id, &attributes);
        Ok(())
    }

    pub(super) fn set_attributes(&mut self, path: &[u8], attributes: Attributes, follow: bool) -> Outcome {
        let tree = self.changing(Permission::Update)?;
        let (path, follow) = (path_of(path)?, following(follow));
        match wanted(&attributes) {
            Some(wanted) => Ok(tree.set_attributes(&path, follow, wanted)?),
            None => keeps_owner(&attributes, &tree.stat(&path, follow)?),
        }
    }

    pub(super) fn set_attributes_of_handle(&mut self, handle: Option<Handle>, attributes: Attributes) -> Outcome {
        self.changing(Permission::Update)?;
        let file = self.handles.writing(handle)?;
        match wanted(&attributes) {
            Some(wanted) => {
                if let Some(size) = wanted.size {
                    file.set_len(size)?;
                }
                Ok(set(file.file(), &wanted)?)
            }
            None => keeps_owner(&attributes, &file.metadata()?),
        }
    }
}

/// Sets the mode and times of an open file.
fn set(file: &File, wanted: &TreeAttributes) -> io::Result<()> {
    if let Some(mode) = wanted.mode {
        file.set_permissions(Permissions::from_mode(mode))?;
    }
    if let (Some(accessed), Some(modified)) = (wanted.accessed, wanted.modified) {
        file.set_times(FileTimes::new().set_accessed(accessed).set_modified(modified))?;
    }
    Ok(())
}

fn following(follow: bool) -> Follow {
    if follow { Follow::Yes } else { Follow::No }
}

/// Files belong to the server's user: only that owner can be set.
fn keeps_owner(attributes: &Attributes, entry: &Entry) -> Outcome {
    match attributes.ids {
        Some(Ids { uid, gid }) if (uid, gid) != (entry.uid, entry.gid) => Err(Refused::DENIED),
        _ => Ok(()),
    }
}
