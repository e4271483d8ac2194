//! Requests about the content of files.

use std::sync::atomic::Ordering;

use super::handles::{Open, Writing};
use super::refused::Refused;
use super::{Outcome, Session, attributes, path_of};
use crate::activity::ActivityEvent;
use crate::files::tree::{Follow, OpenFlags as TreeFlags, Tree, TreeError};
use crate::files::user_path::UserPath;
use crate::sftp::permissions::Permission;
use crate::sftp::wire::{Attributes, Handle, Limits, OpenFlags, Replies};

/// Mode of new files for which the client asks for none.
const FILE_MODE: u32 = 0o644;
/// Bytes that are copied at once.
const COPY: usize = 256 << 10;

impl Session {
    pub(super) fn open(
        &mut self,
        id: u32,
        path: &[u8],
        flags: OpenFlags,
        attributes: Attributes,
        replies: &mut Replies,
    ) -> Outcome {
        let changes = flags.write || flags.append || flags.create || flags.truncate;
        let tree = match changes {
            true => self.changing_anything()?,
            false => self.reading(Permission::ReadContent)?,
        };
        let room = self.handles.room()?;
        let path = path_of(path)?;
        let open = match changes {
            true => self.open_for_writing(&tree, &path, flags, attributes)?,
            false => Open::Reading(tree.open(&path)?.0),
        };
        replies.handle(id, self.handles.add(room, open));
        Ok(())
    }

    /// The permission depends on whether the file exists.
    fn changing_anything(&self) -> Result<Tree, Refused> {
        self.accepts_changes()?;
        self.tree()
    }

    fn open_for_writing(
        &mut self,
        tree: &Tree,
        path: &UserPath,
        flags: OpenFlags,
        attributes: Attributes,
    ) -> Result<Open, Refused> {
        let exists = match tree.stat(path, Follow::Yes) {
            Ok(_) => true,
            Err(TreeError::NotFound(_)) => false,
            Err(error) => return Err(error.into()),
        };
        if flags.read {
            self.allow(Permission::ReadContent)?;
        }
        self.allow(if exists { Permission::Update } else { Permission::Create })?;
        if !tree.account().has_space() {
            return Err(Refused::QUOTA);
        }
        let wanted = TreeFlags {
            create: flags.create && self.access.permissions.allow(Permission::Create),
            // Another file may have been created in between, which this user may not change.
            exclusive: flags.exclusive || !self.access.permissions.allow(Permission::Update),
            truncate: flags.truncate,
            append: flags.append,
            read: flags.read,
            mode: attributes.mode.map_or(FILE_MODE, attributes::created),
        };
        let file = tree.open_for_writing(path, wanted)?;
        self.note(if exists { ActivityEvent::SftpWrite } else { ActivityEvent::SftpCreate }, path);
        Ok(Open::Writing(Writing { file, readable: flags.read }))
    }

    pub(super) fn read(
        &mut self,
        id: u32,
        handle: Option<Handle>,
        offset: u64,
        length: u32,
        replies: &mut Replies,
    ) -> Outcome {
        self.tree()?;
        let open = self.handles.get(handle)?;
        let length = (length as usize).min(Limits::DATA);
        match replies.data(id, length, |to| open.read_at(to, offset)) {
            Ok(0) => Err(Refused::EOF),
            Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn write(&mut self, handle: Option<Handle>, offset: u64, data: &[u8]) -> Outcome {
        self.tree()?;
        Ok(self.handles.writing(handle)?.write_at(data, offset)?)
    }

    pub(super) fn sync(&mut self, handle: Option<Handle>) -> Outcome {
        self.tree()?;
        Ok(self.handles.writing(handle)?.sync()?)
    }

    /// Copies between two open files. A length of 0 is up to the end.
    pub(super) fn copy_data(
        &mut self,
        (from, mut offset): (Option<Handle>, u64),
        length: u64,
        (to, mut to_offset): (Option<Handle>, u64),
    ) -> Outcome {
        self.tree()?;
        if from == to {
            return Err(Refused::failure("the handles are the same"));
        }
        self.handles.writing(to)?;
        let mut left = if length == 0 { u64::MAX } else { length };
        let mut buffer = vec![0; COPY];
        while left > 0 && !self.cancelled.load(Ordering::Relaxed) {
            let most = usize::try_from(left).unwrap_or(COPY).min(COPY);
            let open = self.handles.get(from)?;
            let count = open.read_at(&mut buffer[..most], offset)?;
            if count == 0 {
                break;
            }
            self.handles.writing(to)?.write_at(&buffer[..count], to_offset)?;
            offset += count as u64;
            to_offset += count as u64;
            left -= count as u64;
        }
        Ok(())
    }
}
