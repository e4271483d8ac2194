//! Creates the files and directories that a server's containers require.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, RenameFlags, Uid};
use rustix::io::Errno;

use super::{FilesError, Layout, links, remove};
use crate::model::ServerId;

/// Readable for all users of a container.
const FOR_CONTAINERS: u32 = 0o644;

impl Layout {
    /// Creates the missing ones of: the server's folder, its data directory (0700, owned by the server's user), `logs/` (0700),
    /// the machine-id file, and the links in the state folder. An existing data directory keeps its mode and owner. An existing
    /// file at the path of a link stays.
    ///
    /// # Errors
    /// Something cannot be created, or its path is taken.
    pub fn prepare(&self, id: ServerId) -> Result<(), FilesError> {
        make_private(&self.folder(id))?;
        self.make_data(id)?;
        make_private(&self.logs(id))?;
        if self.machine_id && !self.has_machine_id(id) {
            make_private(&self.directories.machine_id)?;
            let path = self.machine_id(id);
            replace_unsynced(&path, id.simple().as_bytes(), FOR_CONTAINERS)
                .map_err(FilesError::disk("write", &path))?;
        }
        make_private(&self.directories.root.join("install"))?;
        self.links(id).iter().try_for_each(|(at, target)| links::ensure(&self.directories.root, at, target))
    }

    /// Whether [`prepare`](Self::prepare) has nothing to do. Writes nothing.
    pub fn is_prepared(&self, id: ServerId) -> bool {
        self.data_path(id).is_dir()
            && self.logs(id).is_dir()
            && (!self.machine_id || self.has_machine_id(id))
            && self.links(id).iter().all(|(at, target)| links::is_valid(&self.directories.root, at, target))
    }

    /// Creates the folders of install logs, and the link to the daemon's log.
    ///
    /// # Errors
    /// Something cannot be created.
    pub fn prepare_node(&self) -> Result<(), FilesError> {
        let root = &self.directories.root;
        make_private(&root.join("install"))?;
        make_private(&self.directories.log.join("install"))?;
        links::ensure(root, &root.join("wings.log"), &self.directories.daemon_log())
    }

    /// The links of a server with their targets.
    fn links(&self, id: ServerId) -> [(PathBuf, PathBuf); 3] {
        let install_log = self.install_log(id);
        let by_id = self.directories.root.join("install").join(format!("{id}.log"));
        [
            (self.folder(id).join("data"), self.data_path(id)),
            (self.folder(id).join("install.log"), install_log.clone()),
            (by_id, install_log),
        ]
    }

    /// Creates the data directory under a temporary name and renames it after its owner and mode are set.
    fn make_data(&self, id: ServerId) -> Result<(), FilesError> {
        const ACTION: &str = "create the directory";
        let path = self.data_path(id);
        let error = FilesError::disk::<io::Error>;
        match fs::metadata(&path) {
            Ok(found) if found.is_dir() => return Ok(()),
            Ok(_) => {
                let reason = "a file has its path; move the file away";
                return Err(FilesError::rejected(ACTION, &path, reason));
            }
            Err(_) if path.is_symlink() => {
                let reason = "a dangling link has its path; create the target of the link, or remove it";
                return Err(FilesError::rejected(ACTION, &path, reason));
            }
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {}
            Err(other) => return Err(error(ACTION, &path)(other)),
        }
        if let Some(parent) = path.parent() {
            make_private(parent)?;
        }
        let unfinished = self.unfinished_data_path(id);
        // A crash may have left an empty one.
        remove::remove_tree(&unfinished)?;
        let made = self.make_owned(&unfinished).and_then(|()| {
            match rustix::fs::renameat_with(CWD, &unfinished, CWD, &path, RenameFlags::NOREPLACE) {
                // The file system does not support the flag. The path does not exist, so nothing is replaced.
                Err(Errno::INVAL | Errno::NOSYS) => fs::rename(&unfinished, &path),
                other => Ok(other?),
            }
        });
        made.map_err(error(ACTION, &path))
    }

    /// Creates a directory that only the server's user may enter.
    fn make_owned(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::open(path, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&made)?;
        if (stat.st_uid, stat.st_gid) != (self.uid, self.gid) {
            let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
            rustix::fs::fchown(&made, Some(uid), Some(gid))?;
        }
        Ok(rustix::fs::fchmod(&made, Mode::RWXU)?)
    }

    /// Containers mount the file itself, so a correct one is never replaced.
    fn has_machine_id(&self, id: ServerId) -> bool {
        let path = self.machine_id(id);
        let is_readable = |found: fs::Metadata| found.is_file() && found.mode() & 0o444 == 0o444 && found.len() < 64;
        fs::metadata(&path).is_ok_and(is_readable) && fs::read(&path).is_ok_and(|text| text == id.simple().as_bytes())
    }
}

/// Creates a directory and its parents with access for the daemon only. An existing one keeps its mode.
pub(super) fn make_private(path: &Path) -> Result<(), FilesError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(FilesError::disk("create the directory", path))
}

/// Replaces a file in a folder of the daemon without a sync, which would dominate the creation of hundreds of servers. A power
/// cut may leave it empty or missing, so it is compared before each use.
fn replace_unsynced(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let temporary = path.with_file_name(format!(".{}.new", name.to_string_lossy()));
    fs::write(&temporary, bytes)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(mode))?;
    fs::rename(&temporary, path)
}

/// Mode and owner of a new file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes {
    pub mode: u32,
    /// `None`: what the daemon runs as.
    pub owner: Option<(Uid, Gid)>,
}

/// Replaces a file in an open folder with untrusted content. After a power cut it may be missing, but is never incomplete.
pub(super) fn replace_file_in(
    folder: BorrowedFd<'_>,
    name: &OsStr,
    bytes: &[u8],
    attributes: Attributes,
) -> io::Result<()> {
    let mut temporary = OsString::from(".alula-new-");
    temporary.push(name);
    match rustix::fs::unlinkat(folder, &temporary, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, &temporary, flags, Mode::RUSR | Mode::WUSR)?;
    let mut file = File::from(file);
    let written = file
        .write_all(bytes)
        .and_then(|()| set_attributes(&file, attributes))
        .and_then(|()| file.sync_data())
        .and_then(|()| Ok(rustix::fs::renameat(folder, &temporary, folder, name)?));
    if written.is_err() {
        // The next attempt removes a file that stays.
        let _ = rustix::fs::unlinkat(folder, &temporary, AtFlags::empty());
    }
    written
}

/// Sets the owner first, because a change of it clears bits of the mode.
fn set_attributes(file: &File, attributes: Attributes) -> io::Result<()> {
    if let Some((uid, gid)) = attributes.owner {
        let stat = rustix::fs::fstat(file)?;
        if (stat.st_uid, stat.st_gid) != (uid.as_raw(), gid.as_raw()) {
            rustix::fs::fchown(file, Some(uid), Some(gid))?;
        }
    }
    Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(attributes.mode))?)
}

#[cfg(test)]
mod tests;
