//! The install script, in the folder that the installer mounts.
//!
//! Any user of the container must be able to read the script. With user namespaces or a rootless engine the container's root is
//! another user of the host, and an image may have its own user. Other users of the host must not read it.
//!
//! So the folder and the file are readable for all (0755, 0644). The directory of all scripts (`system.tmp_directory`, created with
//! 0700) protects them; the container mounts the folder itself. If other users can access that directory, such as `/tmp`, the
//! folder is 0700, as for Wings. Then other users cannot read it, and neither can such a container.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::prepare::{Attributes, make_private, replace_file_in};
use super::{FilesError, Layout, remove};
use crate::model::ServerId;

/// Name of the script in its folder and in the container.
const NAME: &str = "install.sh";

/// Attempts to create the folder while another user takes its path.
const ATTEMPTS: usize = 4;

impl Layout {
    /// Writes a server's install script. CRLF is replaced by LF.
    ///
    /// # Errors
    /// It cannot be written; an earlier one stays.
    pub fn write_script(&self, id: ServerId, text: &str) -> Result<(), FilesError> {
        let path = self.script_folder(id);
        make_private(&self.directories.tmp)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let tmp = rustix::fs::open(&self.directories.tmp, flags, Mode::empty())
            .map_err(FilesError::disk("open", &self.directories.tmp))?;
        let text = text.replace("\r\n", "\n");
        let write = || {
            let folder = self.open_script_folder(id, tmp.as_fd())?;
            replace_file_in(folder.as_fd(), NAME.as_ref(), text.as_bytes(), Attributes { mode: 0o644, owner: None })
                .map_err(FilesError::disk("write", &path.join(NAME)))
        };
        match write() {
            // An earlier installer, which may write to the folder, has replaced a file by a directory.
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                remove::remove_tree(&path)?;
                write()
            }
            other => other,
        }
    }

    /// Whether a server's install script is there.
    pub fn has_script(&self, id: ServerId) -> bool {
        let path = self.script_folder(id).join(NAME);
        path.symlink_metadata().is_ok_and(|found| found.is_file())
    }

    /// Removes the folder of a server's install script.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove_script(&self, id: ServerId) -> Result<(), FilesError> {
        remove::remove_tree(&self.script_folder(id))
    }

    /// Opens the folder, and creates it if it is missing. One that is a link or belongs to another user is replaced: its owner
    /// could replace the script, which an installer runs as root.
    fn open_script_folder(&self, id: ServerId, tmp: BorrowedFd<'_>) -> Result<OwnedFd, FilesError> {
        let path = self.script_folder(id);
        let name = format!("install_{id}");
        for _ in 0..ATTEMPTS {
            match rustix::fs::mkdirat(tmp, &name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(FilesError::disk("create the directory", &path)(errno)),
            }
            match open_own(tmp, &name) {
                Ok(Some(folder)) => {
                    let mode = folder_mode(tmp).and_then(|mode| rustix::fs::fchmod(&folder, mode));
                    mode.map_err(FilesError::disk("set the mode of", &path))?;
                    return Ok(folder);
                }
                Ok(None) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                    remove::remove_tree(&path)?;
                }
                Err(errno) => return Err(FilesError::disk("open", &path)(errno)),
            }
        }
        let reason = "another user keeps taking its path; name a private directory in system.tmp_directory";
        Err(FilesError::rejected("create the directory", &path, reason))
    }
}

/// Opens a directory; `None` if another user owns it.
fn open_own(parent: BorrowedFd<'_>, name: &str) -> rustix::io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&folder)?;
    Ok((stat.st_uid == rustix::process::geteuid().as_raw()).then_some(folder))
}

/// The mode of a script's folder: readable for all if `tmp` is private.
fn folder_mode(tmp: BorrowedFd<'_>) -> rustix::io::Result<Mode> {
    let mode = Mode::from_raw_mode(rustix::fs::fstat(tmp)?.st_mode);
    Ok(match mode.intersects(Mode::XGRP | Mode::XOTH) {
        true => Mode::RWXU,
        false => Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH,
    })
}

#[cfg(test)]
mod tests;
