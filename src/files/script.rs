//! The install script, in the folder that the installer mounts.
//!
//! The script must be readable in the container, whoever that makes the reader: with user namespaces, or a rootless
//! engine, the container's root is some other user of the host, and an image may run as a user of its own.
//! Other users of the host must not read it. So the folder and the file are open to all (0755, 0644), and it is the directory
//! of all scripts (`system.tmp_directory`, made 0700) that keeps others out: it is not on the container's way, which
//! has the folder itself mounted. Where that directory is open to others (`/tmp`, say), the folder is 0700, as Wings'
//! is: then others still cannot read it, but such a container cannot either.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::prepare::{make_private, replace_file_in};
use super::{FilesError, Layout, remove};
use crate::model::ServerId;

/// The script's name, in its folder and in the container.
const NAME: &str = "install.sh";

/// How often the folder is made before giving up on somebody who keeps putting things in its place.
const ATTEMPTS: usize = 4;

impl Layout {
    /// Writes a server's install script. Windows' line ends become Unix', and nothing else is changed.
    ///
    /// # Errors
    /// It cannot be written; one from before is still there, whole.
    pub fn write_script(&self, id: ServerId, text: &str) -> Result<(), FilesError> {
        let path = self.script_folder(id);
        make_private(&self.directories.tmp)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let tmp = rustix::fs::open(&self.directories.tmp, flags, Mode::empty())
            .map_err(FilesError::disk("open", &self.directories.tmp))?;
        let text = text.replace("\r\n", "\n");
        let write = || {
            let folder = self.open_script_folder(id, tmp.as_fd())?;
            replace_file_in(folder.as_fd(), NAME, text.as_bytes(), 0o644)
                .map_err(FilesError::disk("write", &path.join(NAME)))
        };
        match write() {
            // An earlier installer, which may write there, left a directory in the place of a file.
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                remove::remove_tree(&path)?;
                write()
            }
            other => other,
        }
    }

    /// Whether a server's install script is there, whole.
    pub fn has_script(&self, id: ServerId) -> bool {
        let path = self.script_folder(id).join(NAME);
        path.symlink_metadata().is_ok_and(|found| found.is_file())
    }

    /// Removes a server's install script and its folder with whatever the installer left there.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove_script(&self, id: ServerId) -> Result<(), FilesError> {
        remove::remove_tree(&self.script_folder(id))
    }

    /// The script's folder as it should be. One that is a link or somebody else's is not used: that one
    /// could replace what an installer runs as root.
    fn open_script_folder(&self, id: ServerId, tmp: BorrowedFd<'_>) -> Result<OwnedFd, FilesError> {
        let path = self.script_folder(id);
        let name = format!("install_{id}");
        for _ in 0..ATTEMPTS {
            match rustix::fs::mkdirat(tmp, &name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(FilesError::disk("make the directory", &path)(errno)),
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
        let reason =
            "somebody keeps putting something in its place; name a directory of its own in system.tmp_directory";
        Err(FilesError::rejected("make the directory", &path, reason))
    }
}

/// Opens a directory if it is the daemon's own.
fn open_own(parent: BorrowedFd<'_>, name: &str) -> rustix::io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&folder)?;
    Ok((stat.st_uid == rustix::process::geteuid().as_raw()).then_some(folder))
}

/// Open to all where nobody else comes that far, and closed otherwise.
fn folder_mode(tmp: BorrowedFd<'_>) -> rustix::io::Result<Mode> {
    let mode = Mode::from_raw_mode(rustix::fs::fstat(tmp)?.st_mode);
    Ok(match mode.intersects(Mode::XGRP | Mode::XOTH) {
        true => Mode::RWXU,
        false => Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH,
    })
}

#[cfg(test)]
mod tests;
