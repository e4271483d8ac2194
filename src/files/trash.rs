//! Deleted servers that are kept for a while.
//!
//! ```text
//! {root}/trash/{server}-{time}/entry.json         what is kept, and where; written first
//! {root}/trash/{server}-{time}/data, backups      the server's files and its local backups, moved here by renames
//! {parent of the data}/.{server}.trash-{time}     the same, where the trash is on another file system
//! ```
//!
//! The time is that of the deletion's request, so a removal that runs again finds what the one before it has moved. Nothing is copied.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::denylist::Denylist;
use super::remove::remove_tree;
use super::siblings::{Siblings, is_missing, remove_folder, sync};
use super::tree::Tree;
use super::{DiskAccount, FilesError, Layout, Root};
use crate::atomic;
use crate::model::{Declared, Manifest, Record, ServerId, Timestamp};

const ENTRY: &str = "entry.json";
/// The same while a server is imported: see [`Layout::begin_import`].
const IMPORT: &str = "import.json";
/// How long deleted servers are kept.
pub const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// A deleted server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletedServer {
    /// The server.
    pub server: ServerId,
    /// When its deletion was requested.
    pub at: Timestamp,
    /// Its effective manifest, if it had a valid one.
    pub manifest: Option<Manifest>,
    /// The text of its `override.yml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#override: Option<String>,
    /// What cannot be observed again.
    pub record: Record,
    /// The declarative values that were handled: none of them is a request again.
    pub declared: Declared,
    /// Its files, and where they are now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Moved>,
    /// Its local backups, and where they are now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backups: Option<Moved>,
}

/// A directory that is moved by a rename.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Moved {
    pub from: PathBuf,
    pub to: PathBuf,
}

impl DeletedServer {
    /// The name of its folder.
    pub fn name(&self) -> String {
        format!("{}-{}", self.server, self.at.as_millis())
    }

    /// When it is removed for good.
    pub fn kept_until(&self) -> Timestamp {
        self.at + KEPT
    }
}

impl Layout {
    fn trash(&self) -> PathBuf {
        self.directories.root.join("trash")
    }

    fn trash_entry(&self, deleted: &DeletedServer) -> PathBuf {
        self.trash().join(deleted.name())
    }

    /// Moves the files of a server into the trash, and its backups where they would be removed with it. Continues what an earlier call has begun.
    ///
    /// # Errors
    /// The data directory is a mount, which cannot be renamed, or the disk's error. What was not moved is where it was.
    pub fn move_to_trash(&self, mut deleted: DeletedServer, with_backups: bool) -> Result<(), FilesError> {
        let folder = self.trash_entry(&deleted);
        if let Some(begun) = load(&folder)? {
            deleted = begun;
        } else {
            let (id, siblings) = (deleted.server, Siblings::of(self, deleted.server));
            let data = siblings.data();
            if siblings.is_mount().is_ok_and(|is_mount| is_mount) {
                let reason =
                    "it is a mount, which cannot be moved into the trash: delete the server with `alula delete --now`";
                return Err(FilesError::rejected("move", &data, reason));
            }
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            made.map_err(FilesError::disk("create", &folder))?;
            let beside = |path: &Path| path.with_file_name(format!(".{id}.trash-{}", deleted.at.as_millis()));
            deleted.data = planned(&data, &folder.join("data"), beside(&data));
            let backups = self.backups(id);
            let kept = planned(&backups, &folder.join("backups"), beside(&backups));
            deleted.backups = kept.filter(|_| with_backups);
            save(&folder.join(ENTRY), &deleted)?;
        }
        self.release_quota(deleted.server);
        [&deleted.data, &deleted.backups].into_iter().flatten().try_for_each(|moved| rename(&moved.from, &moved.to))
    }

    /// The deleted servers that are kept, latest first.
    ///
    /// # Errors
    /// The trash cannot be read.
    pub fn deleted_servers(&self) -> Result<Vec<DeletedServer>, FilesError> {
        let trash = self.trash();
        let entries = match fs::read_dir(&trash) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(FilesError::disk("read", &trash))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(FilesError::disk("read", &trash))?.path();
            match load(&path) {
                Ok(deleted) => found.extend(deleted),
                // The others are listed all the same.
                Err(error) => tracing::warn!(%error, "an entry of the trash cannot be read and is left alone"),
            }
        }
        found.sort_by_key(|deleted| std::cmp::Reverse(deleted.at));
        Ok(found)
    }

    /// Moves the files and backups of a deleted server back to where they were, and writes its `override.yml`. The entry stays until
    /// [`forget_deleted`](Self::forget_deleted).
    ///
    /// # Errors
    /// Something is where they were, or the disk's error: call it again.
    pub fn bring_back(&self, deleted: &DeletedServer) -> Result<(), FilesError> {
        let folder = self.folder(deleted.server);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(FilesError::disk("create", &folder))?;
        for moved in [&deleted.data, &deleted.backups].into_iter().flatten() {
            rename(&moved.to, &moved.from)?;
        }
        if let Some(text) = &deleted.r#override {
            atomic::write_file(&folder.join("override.yml"), text.as_bytes(), 0o600)?;
        }
        sync(&folder).map_err(FilesError::disk("sync", &folder))
    }

    /// Ends what a killed daemon had begun to bring back. Where the server `is_complete` only the entry was left; otherwise the files go
    /// back into the trash, and `written`, the files in the server's folder that make it a server, are removed.
    ///
    /// # Errors
    /// The disk's error: call it again.
    pub fn end_return(&self, deleted: &DeletedServer, is_complete: bool, written: &[&str]) -> Result<(), FilesError> {
        let moved = [&deleted.data, &deleted.backups].into_iter().flatten();
        let (back, kept): (Vec<_>, Vec<_>) = moved.partition(|moved| is_missing(&moved.to) && !is_missing(&moved.from));
        if back.is_empty() {
            return Ok(());
        }
        if is_complete {
            // A deletion that has moved a part of it goes on.
            return if kept.iter().all(|moved| is_missing(&moved.to)) { self.forget_deleted(deleted) } else { Ok(()) };
        }
        let folder = self.folder(deleted.server);
        for path in written.iter().map(|name| folder.join(name)).filter(|path| !is_missing(path)) {
            atomic::remove_file(&path).map_err(FilesError::disk("remove", &path))?;
        }
        // Last: as long as something is back, the next call continues.
        back.into_iter().try_for_each(|moved| rename(&moved.from, &moved.to))?;
        // It stays if a person has put something there.
        let _ = fs::remove_dir(&folder);
        Ok(())
    }

    /// Removes the entry of a server that was brought back.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn forget_deleted(&self, deleted: &DeletedServer) -> Result<(), FilesError> {
        let folder = self.trash_entry(deleted);
        // Without it, nothing else is found.
        atomic::remove_file(&folder.join(ENTRY)).map_err(FilesError::disk("remove", &folder))?;
        remove_tree(&folder)
    }

    /// Removes a deleted server for good.
    ///
    /// # Errors
    /// Something cannot be removed: call it again.
    pub fn remove_deleted(&self, deleted: &DeletedServer) -> Result<(), FilesError> {
        for moved in [&deleted.data, &deleted.backups].into_iter().flatten() {
            remove_folder(&moved.to)?;
        }
        self.forget_deleted(deleted)
    }
}

/// A server that is being imported: its files and backups are written where those of a deleted server are. Dropped before
/// [`finish`](Self::finish), they are removed.
#[derive(Debug)]
pub struct Import {
    layout: Layout,
    deleted: DeletedServer,
    tree: Tree,
    finished: bool,
}

impl Layout {
    /// Begins an import, with an empty tree that has the server's disk limit.
    ///
    /// # Errors
    /// The server has files here, or the directories cannot be created.
    pub fn begin_import(&self, mut deleted: DeletedServer) -> Result<Import, FilesError> {
        let (id, folder) = (deleted.server, self.trash_entry(&deleted));
        let (data, backups) = (Siblings::of(self, id).data(), self.backups(id));
        for path in [&data, &backups] {
            if !is_missing(path) && fs::remove_dir(path).is_err() {
                return Err(FilesError::rejected("import", path, "files of this server are there: move them away"));
            }
        }
        let create = |path: &Path| {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(FilesError::disk("create", path))
        };
        create(&folder)?;
        let time = deleted.at.as_millis();
        let beside = |path: &Path| path.with_file_name(format!(".{id}.trash-{time}"));
        deleted.data = Some(place(&data, &folder.join("data"), beside(&data)));
        deleted.backups = Some(place(&backups, &folder.join("backups"), beside(&backups)));
        save(&folder.join(IMPORT), &deleted)?;
        let moved: Vec<&Path> =
            [&deleted.data, &deleted.backups].into_iter().flatten().map(|moved| &*moved.to).collect();
        moved.iter().try_for_each(|path| create(path))?;
        let limit = deleted.manifest.as_ref().and_then(|manifest| manifest.spec.settings.build.disk_limit());
        let root = Root::open(moved[0], self.uid, self.gid).map_err(FilesError::disk("open", moved[0]))?;
        let tree = Tree::new(root, Arc::new(Denylist::default()), DiskAccount::new(limit, 0));
        Ok(Import { layout: self.clone(), deleted, tree, finished: false })
    }

    /// Removes what imports have left that a killed daemon was making: those that began before this time.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn sweep_imports(&self, before: Timestamp) -> Result<(), FilesError> {
        let Ok(entries) = fs::read_dir(self.trash()) else { return Ok(()) };
        let began = |folder: &Path| {
            let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.rsplit_once('-').and_then(|(_, millis)| millis.parse().ok()).map(Timestamp::from_millis)
        };
        let folders = entries.flatten().map(|entry| entry.path());
        let left = folders
            .filter(|folder| is_missing(&folder.join(ENTRY)) && began(folder).is_some_and(|began| began < before));
        left.map(|folder| remove_import(&folder)).fold(Ok(()), Result::and)
    }
}

impl Import {
    /// The tree for the server's files.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The server.
    pub fn server(&self) -> &DeletedServer {
        &self.deleted
    }

    /// Creates the archive of a backup.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn backup(&self, id: Uuid) -> io::Result<fs::File> {
        let folder = self.deleted.backups.as_ref().map(|moved| moved.to.clone()).unwrap_or_default();
        let path = folder.join(format!("{id}.tar.gz"));
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
    }

    /// Completes it: from now on the server can be brought back as a deleted one.
    ///
    /// # Errors
    /// The disk's error.
    pub fn finish(mut self) -> Result<DeletedServer, FilesError> {
        for moved in [&self.deleted.data, &self.deleted.backups].into_iter().flatten() {
            let synced = fs::File::open(&moved.to).and_then(|folder| Ok(rustix::fs::syncfs(folder)?));
            synced.map_err(FilesError::disk("sync", &moved.to))?;
        }
        let folder = self.layout.trash_entry(&self.deleted);
        save(&folder.join(ENTRY), &self.deleted)?;
        self.finished = true;
        Ok(self.deleted.clone())
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        if !self.finished {
            // What cannot be removed now is removed by a sweep.
            let _ = remove_import(&self.layout.trash_entry(&self.deleted));
        }
    }
}

/// Removes an unfinished import, and what is kept of it elsewhere.
fn remove_import(folder: &Path) -> Result<(), FilesError> {
    if let Some(deleted) = load_from(&folder.join(IMPORT))? {
        for moved in [&deleted.data, &deleted.backups].into_iter().flatten() {
            remove_folder(&moved.to)?;
        }
    }
    remove_tree(folder)
}

fn save(path: &Path, deleted: &DeletedServer) -> Result<(), FilesError> {
    let text = serde_json::to_vec(deleted).map_err(io::Error::from).map_err(FilesError::disk("write", path))?;
    atomic::write_file(path, &text, 0o600)?;
    for folder in path.ancestors().skip(2).take(2) {
        sync(folder).map_err(FilesError::disk("sync", folder))?;
    }
    Ok(())
}

/// Where a directory is moved: into the trash, or beside it on another file system. `None` if there is none.
fn planned(from: &Path, trash: &Path, beside: PathBuf) -> Option<Moved> {
    (!is_missing(from)).then(|| place(from, trash, beside))
}

fn place(from: &Path, trash: &Path, beside: PathBuf) -> Moved {
    let device =
        |path: &Path| path.ancestors().skip(1).find_map(|path| fs::metadata(path).ok()).map(|found| found.dev());
    let same = device(from) == device(trash);
    Moved { from: from.to_owned(), to: if same { trash.to_owned() } else { beside } }
}

fn load(folder: &Path) -> Result<Option<DeletedServer>, FilesError> {
    load_from(&folder.join(ENTRY))
}

fn load_from(path: &Path) -> Result<Option<DeletedServer>, FilesError> {
    let failed = FilesError::disk("read", path);
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(io::Error::from).map_err(failed),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Moves a directory, unless that was done. An empty directory in the way is replaced.
fn rename(from: &Path, to: &Path) -> Result<(), FilesError> {
    let failed = FilesError::disk("move", from);
    if is_missing(from) {
        return Ok(());
    }
    match rustix::fs::rename(from, to) {
        Ok(()) => {}
        Err(Errno::NOTEMPTY | Errno::EXIST) => {
            let reason = format!("{} is in the way", to.display());
            return Err(failed(io::Error::new(io::ErrorKind::AlreadyExists, reason)));
        }
        Err(errno) => return Err(failed(io::Error::from(errno))),
    }
    for folder in [to.parent(), from.parent()].into_iter().flatten() {
        sync(folder).map_err(FilesError::disk("sync", folder))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
