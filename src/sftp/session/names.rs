//! Requests about names: directories, renames, removals, links.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::handles::Open;
use super::refused::Refused;
use super::{Outcome, Session, attributes, listing, path_of, shown};
use crate::activity::ActivityEvent;
use crate::files::tree::{EntryKind, Follow, Recursive, Replace, Space};
use crate::sftp::limits::HANDLES;
use crate::sftp::permissions::Permission;
use crate::sftp::wire::{Attributes, FileSystem, Handle, Limits, MAX_PACKET, Name, Replies};

/// Mode of a new directory for which the client asks for none.
const DIRECTORY_MODE: u32 = 0o755;
/// Entries of one answer, and bytes of their names.
const ENTRIES: usize = 256;
const BYTES: usize = 64 << 10;

impl Session {
    pub(super) fn open_directory(&mut self, id: u32, path: &[u8], replies: &mut Replies) -> Outcome {
        let tree = self.reading(Permission::Read)?;
        let room = self.handles.room()?;
        let path = path_of(path)?;
        let listing = tree.list(&path)?;
        replies.handle(id, self.handles.add(room, Open::Directory(path, listing)));
        Ok(())
    }

    pub(super) fn read_directory(&mut self, id: u32, handle: Option<Handle>, replies: &mut Replies) -> Outcome {
        self.tree()?;
        let Open::Directory(_, listing) = self.handles.get(handle)? else { return Err(Refused::HANDLE) };
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while entries.len() < ENTRIES && bytes < BYTES {
            let Some(entry) = listing.next().transpose()? else { break };
            bytes += 2 * entry.name.len() + 64;
            entries.push((listing::line(&entry, &self.service.zone), entry));
        }
        if entries.is_empty() {
            return Err(Refused::EOF);
        }
        let names = entries.iter().map(|(line, entry)| Name {
            name: entry.name.as_bytes(),
            line,
            attributes: attributes::of(entry),
        });
        replies.names(id, names);
        Ok(())
    }

    pub(super) fn make_directory(&mut self, path: &[u8], attributes: Attributes) -> Outcome {
        let tree = self.changing(Permission::Create)?;
        let path = path_of(path)?;
        let mode = attributes.mode.map_or(DIRECTORY_MODE, attributes::created);
        if !tree.create_directory(&path, true, mode)? {
            return Err(Refused::EXISTS);
        }
        self.note(ActivityEvent::SftpCreateDirectory, &path);
        Ok(())
    }

    /// Removes anything but a directory.
    pub(super) fn remove(&mut self, path: &[u8]) -> Outcome {
        let tree = self.changing(Permission::Delete)?;
        let path = path_of(path)?;
        tree.remove(&path, Recursive::No, &self.cancelled)?;
        self.note(ActivityEvent::SftpDelete, &path);
        Ok(())
    }

    /// Removes a directory with what is in it, as Wings does: clients need not remove each file.
    pub(super) fn remove_directory(&mut self, path: &[u8]) -> Outcome {
        let tree = self.changing(Permission::Delete)?;
        let path = path_of(path)?;
        if tree.stat(&path, Follow::No)?.kind != EntryKind::Directory {
            return Err(Refused::failure("it is no directory"));
        }
        tree.remove(&path, Recursive::Yes, &self.cancelled)?;
        self.note(ActivityEvent::SftpDelete, &path);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &[u8], to: &[u8], replace: bool) -> Outcome {
        let tree = self.changing(Permission::Update)?;
        let (from, to) = (path_of(from)?, path_of(to)?);
        tree.rename(&from, &to, if replace { Replace::Allow } else { Replace::Refuse })?;
        self.recorder.note_rename(&shown(&from), &shown(&to));
        Ok(())
    }

    /// The text of a link is free: whether it leads outside is decided when it is followed.
    pub(super) fn symlink(&mut self, target: &[u8], path: &[u8]) -> Outcome {
        let tree = self.changing(Permission::Create)?;
        Ok(tree.symlink(OsStr::from_bytes(target), &path_of(path)?)?)
    }

    pub(super) fn hard_link(&mut self, from: &[u8], to: &[u8]) -> Outcome {
        let tree = self.changing(Permission::Create)?;
        // Writing through the new name changes the file of the old one.
        self.allow(Permission::Update)?;
        Ok(tree.hard_link(&path_of(from)?, &path_of(to)?)?)
    }

    pub(super) fn read_link(&mut self, id: u32, path: &[u8], replies: &mut Replies) -> Outcome {
        let tree = self.reading(Permission::Read)?;
        let target = tree.read_link(&path_of(path)?)?;
        one_name(id, target.as_bytes(), replies);
        Ok(())
    }

    /// The path as this server understands it. It need not exist.
    pub(super) fn real_path(&mut self, id: u32, path: &[u8], replies: &mut Replies) -> Outcome {
        let path = match path {
            b"~" => path_of(b"/")?,
            [b'~', b'/', rest @ ..] => path_of(rest)?,
            path => path_of(path)?,
        };
        one_name(id, path.absolute().as_os_str().as_bytes(), replies);
        Ok(())
    }

    /// The space of a server with a limit is that limit.
    pub(super) fn file_system(&mut self, id: u32, path: Option<&[u8]>, replies: &mut Replies) -> Outcome {
        let tree = self.reading(Permission::Read)?;
        if let Some(path) = path {
            tree.stat(&path_of(path)?, Follow::Yes)?;
        }
        let Space { block_size, total, available, files, free_files, name_max } = tree.space()?;
        let block = block_size.max(1);
        let left = available / block;
        let system = FileSystem {
            block,
            blocks: total / block,
            free: left,
            available: left,
            files,
            files_free: free_files,
            read_only: self.service.config().read_only,
            name_max,
        };
        replies.file_system(id, &system);
        Ok(())
    }

    pub(super) fn limits(&self, id: u32, replies: &mut Replies) {
        let data = Limits::DATA as u64;
        replies.limits(id, &Limits { packet: MAX_PACKET as u64, read: data, write: data, handles: HANDLES as u64 });
    }
}

fn one_name(id: u32, name: &[u8], replies: &mut Replies) {
    let attributes = Attributes::default();
    replies.names(id, [Name { name, line: name, attributes }].into_iter());
}
