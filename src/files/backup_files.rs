//! The archives of local backups, in the node's backup directory, which only the daemon writes.
//!
//! ```text
//! {backup}/{server}/{backup}.tar.gz        a complete archive; of Pterodactyl's Wings {backup}/{backup}.tar.gz
//! {backup}/{server}/{backup}.upload         links and ETags of its upload, until the panel has acknowledged the report
//! {backup}/{server}/.{backup}.tar.gz.new   an archive that is being written; one of an earlier process is removed
//! ```
//!
//! Source: backups, "Creating a backup" and "Delete".

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::tree::Entry;
use super::{FilesError, Layout};
use crate::model::{Backup, BackupArchive, BackupResult, BackupStorage, Requester, ServerId, Timestamp};

/// The mode of an archive.
const MODE: u32 = 0o600;
/// What the name of an archive ends with.
const EXTENSION: &str = ".tar.gz";
/// What the name of one that is being written ends with.
const UNFINISHED: &str = ".tar.gz.new";

/// An archive that is being written. It is removed when it is dropped before [`NewArchive::keep`].
#[derive(Debug)]
pub struct NewArchive {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    kept: bool,
}

/// A file in a server's folder of backups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFile {
    /// The backup that its name says.
    pub id: Uuid,
    /// Its length.
    pub bytes: u64,
}

impl Layout {
    /// The folder of a server's archives.
    pub fn backups(&self, id: ServerId) -> PathBuf {
        self.directories.backup.join(id.to_string())
    }

    /// The path of a backup's archive. Pterodactyl's Wings has kept them without a folder for each server: one that is there stays there.
    pub fn backup_archive(&self, id: ServerId, backup: Uuid) -> PathBuf {
        let name = format!("{backup}{EXTENSION}");
        let (path, flat) = (self.backups(id).join(&name), self.directories.backup.join(&name));
        if !path.exists() && flat.is_file() { flat } else { path }
    }

    /// Begins the archive of a backup, instead of one that an earlier process has begun.
    ///
    /// # Errors
    /// The folder or the file cannot be created.
    pub fn create_backup(&self, id: ServerId, backup: Uuid) -> Result<NewArchive, FilesError> {
        let folder = self.backups(id);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(FilesError::disk("create", &folder))?;
        let path = self.backup_archive(id, backup);
        let temporary = unfinished(&path);
        remove(&temporary)?;
        let created = OpenOptions::new().read(true).write(true).create_new(true).mode(MODE).open(&temporary);
        let file = created.map_err(FilesError::disk("create", &temporary))?;
        Ok(NewArchive { file, temporary, path, kept: false })
    }

    /// Opens the archive of a backup, and returns its attributes, too. `None` if there is none.
    ///
    /// # Errors
    /// It cannot be opened, or is no file.
    pub fn open_backup(&self, id: ServerId, backup: Uuid) -> Result<Option<(File, Entry)>, FilesError> {
        let path = self.backup_archive(id, backup);
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let opened = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(&path);
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(FilesError::disk("open", &path))?,
        };
        let entry = Entry::of_file(path.file_name().unwrap_or_default(), &file);
        let entry = entry.map_err(FilesError::disk("open", &path))?;
        match entry.is_file() {
            true => Ok(Some((file, entry))),
            false => Err(FilesError::rejected("open", &path, "it is no file")),
        }
    }

    /// Removes the archive of a backup that is kept elsewhere.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove_uploaded(&self, id: ServerId, backup: Uuid) -> Result<(), FilesError> {
        remove(&self.backup_archive(id, backup)).map(drop)
    }

    /// Removes the files of a backup, and the server's folder if it is empty then. Whether there was an archive.
    ///
    /// # Errors
    /// One of them cannot be removed.
    pub fn remove_backup(&self, id: ServerId, backup: Uuid) -> Result<bool, FilesError> {
        let path = self.backup_archive(id, backup);
        remove(&unfinished(&path))?;
        let found = remove(&path)?;
        remove(&upload_journal(&path))?;
        let folder = self.backups(id);
        match std::fs::remove_dir(&folder) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
                if found {
                    sync_folder(&folder)?;
                }
            }
            Err(error) => return Err(FilesError::disk("remove", &folder)(error)),
        }
        Ok(found)
    }

    /// Removes archives that were being written.
    ///
    /// # Errors
    /// One of them cannot be removed.
    pub fn remove_unfinished_backups(&self, id: ServerId) -> Result<(), FilesError> {
        let folder = self.backups(id);
        let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(()) };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(UNFINISHED)) {
                remove(&entry.path())?;
            }
        }
        match std::fs::remove_dir(&folder) {
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
                Err(FilesError::disk("remove", &folder)(error))
            }
            _ => Ok(()),
        }
    }

    /// The archive of a backup, if there is one.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn backup_file(&self, id: ServerId, backup: Uuid) -> Result<Option<BackupFile>, FilesError> {
        let opened = self.open_backup(id, backup)?;
        Ok(opened.map(|(_, entry)| BackupFile { id: backup, bytes: entry.size }))
    }

    /// The archives in a server's folder.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list_backups(&self, id: ServerId) -> Result<Vec<BackupFile>, FilesError> {
        let folder = self.backups(id);
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(FilesError::disk("read", &folder))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(FilesError::disk("read", &folder))?;
            let name = entry.file_name();
            let Some(backup) = name.to_str().and_then(|name| name.strip_suffix(EXTENSION)) else { continue };
            let Ok(backup) = backup.parse() else { continue };
            match entry.metadata() {
                Ok(metadata) if metadata.is_file() => found.push(BackupFile { id: backup, bytes: metadata.len() }),
                _ => {}
            }
        }
        found.sort_by_key(|file| file.id);
        Ok(found)
    }

    /// The bytes that are free for archives.
    ///
    /// # Errors
    /// The file system does not answer.
    pub fn free_for_backups(&self) -> Result<u64, FilesError> {
        let folder = &self.directories.backup;
        let space = rustix::fs::statvfs(folder).map_err(FilesError::disk("read the free space of", folder))?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

impl BackupFile {
    /// The record's entry for an archive that has none: another daemon has made it.
    pub fn adopted(&self, at: Timestamp) -> Backup {
        let archive = BackupArchive { bytes: self.bytes, ..BackupArchive::default() };
        let message = "made by another daemon".to_owned();
        Backup {
            archive: Some(archive),
            result: Some(BackupResult { succeeded: true, message, at, parts: Vec::new() }),
            ..Backup::new(self.id, at, Requester::Takeover, BackupStorage::Local)
        }
    }
}

impl NewArchive {
    /// The file, to read and write.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the archive its name. It is on disk then.
    ///
    /// # Errors
    /// It cannot be synced or renamed; nothing is left.
    pub fn keep(mut self) -> Result<(), FilesError> {
        self.file.sync_all().map_err(FilesError::disk("sync", &self.temporary))?;
        std::fs::rename(&self.temporary, &self.path).map_err(FilesError::disk("rename", &self.temporary))?;
        self.kept = true;
        self.path.parent().map_or(Ok(()), |folder| {
            sync_folder(folder)?;
            folder.parent().map_or(Ok(()), sync_folder)
        })
    }
}

impl Write for NewArchive {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for NewArchive {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed now is removed by the next attempt.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// The journal of an archive's upload.
pub fn upload_journal(archive: &Path) -> PathBuf {
    archive.with_extension("").with_extension("upload")
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

/// Removes a file. Whether there was one.
fn remove(path: &Path) -> Result<bool, FilesError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(FilesError::disk("remove", path)(error)),
    }
}

fn sync_folder(folder: &Path) -> Result<(), FilesError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(FilesError::disk("sync", folder))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::super::tests::{id, layout};
    use super::*;

    const BACKUP: Uuid = Uuid::from_u128(7);

    #[test]
    fn an_archive_has_its_name_when_it_is_complete() {
        let (_folder, layout) = layout();
        let path = layout.backup_archive(id(), BACKUP);
        let mut begun = layout.create_backup(id(), BACKUP).unwrap();
        begun.write_all(b"half").unwrap();
        assert!(layout.open_backup(id(), BACKUP).unwrap().is_none());
        // A process that was killed leaves it.
        std::mem::forget(begun);
        let mut archive = layout.create_backup(id(), BACKUP).unwrap();
        archive.write_all(b"whole").unwrap();
        archive.keep().unwrap();
        let (_, entry) = layout.open_backup(id(), BACKUP).unwrap().unwrap();
        assert_eq!((entry.size, entry.mode), (5, 0o600));
        assert_eq!(layout.list_backups(id()).unwrap(), [BackupFile { id: BACKUP, bytes: 5 }]);
        fs::write(upload_journal(&path), "x").unwrap();
        assert!(layout.remove_backup(id(), BACKUP).unwrap());
        assert!(!layout.backups(id()).exists(), "nothing is left");
        assert!(!layout.remove_backup(id(), BACKUP).unwrap());
    }

    #[test]
    fn one_that_is_given_up_leaves_nothing() {
        let (_folder, layout) = layout();
        drop(layout.create_backup(id(), BACKUP).unwrap());
        assert_eq!(fs::read_dir(layout.backups(id())).unwrap().count(), 0);
    }

    #[test]
    fn what_is_no_archive_is_not_opened() {
        let (_folder, layout) = layout();
        fs::create_dir_all(layout.backups(id())).unwrap();
        let path = layout.backup_archive(id(), BACKUP);
        fs::create_dir(&path).unwrap();
        assert!(layout.open_backup(id(), BACKUP).is_err());
        fs::remove_dir(&path).unwrap();
        symlink("/etc/passwd", &path).unwrap();
        assert!(layout.open_backup(id(), BACKUP).is_err(), "no link is followed");
        assert!(layout.list_backups(id()).unwrap().is_empty());
    }

    #[test]
    fn an_archive_of_pterodactyl_stays_where_it_is() {
        let (_folder, layout) = layout();
        let flat = layout.backups(id()).with_file_name(format!("{BACKUP}.tar.gz"));
        fs::create_dir_all(flat.parent().unwrap()).unwrap();
        fs::write(&flat, "old").unwrap();
        let inode = fs::metadata(&flat).unwrap().ino();
        assert_eq!(layout.open_backup(id(), BACKUP).unwrap().unwrap().1.inode, inode);
        assert!(layout.remove_backup(id(), BACKUP).unwrap() && !flat.exists());
        let mut new = layout.create_backup(id(), BACKUP).unwrap();
        new.write_all(b"new").unwrap();
        new.keep().unwrap();
        assert!(layout.backups(id()).join(format!("{BACKUP}.tar.gz")).exists());
    }
}
