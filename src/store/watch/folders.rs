//! The watched folders: one for each server, the one of all servers, those above it, and each folder elsewhere through which a
//! symbolic link in a server's folder leads.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::{ErrorKind, RecursiveMode, Watcher};

use super::super::{CONFIG_FILE, DATA_FOLDER, OVERRIDE_FILE};
use super::lookups::{self, Place};
use super::signals::{Handler, Signals, is_folder_name};

/// Creates a watcher that calls the handler.
pub(super) type Connect = dyn Fn(Handler) -> notify::Result<Box<dyn Watcher + Send>> + Send + Sync;

/// The platform's watcher.
pub(super) fn connect(handler: Handler) -> notify::Result<Box<dyn Watcher + Send>> {
    Ok(Box::new(notify::RecommendedWatcher::new(handler, notify::Config::default())?))
}

/// The active watches. Its functions block on the file system.
pub(super) struct Folders {
    servers: PathBuf,
    /// Where that path led when the watch was established.
    place: Place,
    watcher: Box<dyn Watcher + Send>,
    signals: Arc<Signals>,
    /// The watched folders in `servers`, each with the entries elsewhere to which symbolic links in it lead.
    watched: HashMap<Box<str>, Vec<PathBuf>>,
    /// A folder could not be watched.
    incomplete: bool,
}

impl Folders {
    /// Watches `servers`, every folder in it, and the folders above. A missing `servers` is reported when it appears.
    ///
    /// # Errors
    /// `servers` itself cannot be watched. Another folder that cannot be watched is not an error, see [`Self::is_complete`].
    pub fn open(servers: PathBuf, connect: &Connect, signals: &Arc<Signals>) -> notify::Result<Self> {
        let watcher = connect(Handler::new(&servers, signals))?;
        let mut folders = Self {
            place: Place::of(&servers),
            servers,
            watcher,
            signals: signals.clone(),
            watched: HashMap::new(),
            incomplete: false,
        };
        signals.set_above(&folders.place.entries);
        for folder in parents(&folders.place.entries) {
            folders.watch_outside(&folder);
        }
        // After the watches above: they report a folder that is replaced from now on.
        folders.place = Place::of(&folders.servers);
        if folders.place.folder.is_some() {
            folders.watcher.watch(&folders.servers, RecursiveMode::NonRecursive)?;
            // After that watch: it reports a folder that is created during the listing.
            folders.attend(&[], &[], true);
        }
        Ok(folders)
    }

    /// Where the path of `servers` led when the watch was established, and where it leads now.
    pub fn places(&self) -> (&Place, Place) {
        (&self.place, Place::of(&self.servers))
    }

    /// Whether all folders are watched.
    pub fn is_complete(&self) -> bool {
        !self.incomplete
    }

    /// Updates the watches for new folders, for changed ones, or for all.
    pub fn attend(&mut self, appeared: &[String], changed: &[String], all: bool) {
        for name in appeared {
            // The folder may be a new one under an old name, and the old watch is on the removed one.
            self.unwatch(name);
            if let Err(error) = self.add(name) {
                self.report(&error);
            }
        }
        for name in changed {
            let folder = self.servers.join(name);
            if folder.is_symlink() {
                // It may lead to another folder now.
                self.unwatch(name);
                if let Err(error) = self.add(name) {
                    self.report(&error);
                }
            } else if folder.is_dir() {
                self.relink(name);
            } else {
                self.unwatch(name);
            }
        }
        if all && let Err(error) = self.add_missing() {
            self.report(&error);
        }
    }

    /// Watches every folder that has no watch yet, and drops the watches of removed ones.
    fn add_missing(&mut self) -> notify::Result<()> {
        let mut there = HashSet::new();
        for entry in std::fs::read_dir(&self.servers).map_err(notify::Error::io)? {
            let name = entry.map_err(notify::Error::io)?.file_name();
            if let Some(name) = name.to_str().filter(|name| is_folder_name(name)) {
                there.insert(Box::<str>::from(name));
            }
        }
        let watched: HashSet<_> = self.watched.keys().cloned().collect();
        watched.difference(&there).for_each(|name| self.unwatch(name));
        let mut failure = Ok(());
        for name in there.difference(&watched) {
            match self.add(name) {
                // Once the limit is reached each further attempt fails, too.
                Err(error) if matches!(error.kind, ErrorKind::MaxFilesWatch) => return Err(error),
                Err(error) => failure = Err(error),
                Ok(()) => {}
            }
        }
        failure?;
        if std::mem::take(&mut self.incomplete) {
            tracing::info!("all servers' folders are watched again");
        }
        Ok(())
    }

    /// Watches a folder. A missing one, and a file of that name, is not an error. Of a dangling link the way to its target is watched.
    fn add(&mut self, name: &str) -> notify::Result<()> {
        let folder = self.servers.join(name);
        if !folder.is_dir() {
            if folder.is_symlink() {
                self.watched.entry(name.into()).or_default();
                self.relink(name);
            }
            return Ok(());
        }
        match self.watcher.watch(&folder, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.watched.entry(name.into()).or_default();
                self.relink(name);
                Ok(())
            }
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn unwatch(&mut self, name: &str) {
        self.set_links(name, Vec::new());
        if self.watched.remove(name).is_some() {
            // The watch may have ended with its folder.
            let _ = self.watcher.unwatch(&self.servers.join(name));
        }
    }

    /// Logs once that not every folder is watched, and what to do.
    fn report(&mut self, error: &notify::Error) {
        if std::mem::replace(&mut self.incomplete, true) {
            return;
        }
        let remedy = match error.kind {
            ErrorKind::MaxFilesWatch => {
                "raise fs.inotify.max_user_watches (sysctl), and the watch becomes complete by itself"
            }
            _ => "check the permissions of that folder",
        };
        tracing::warn!(%error, remedy, "cannot watch every server's folder; all are checked periodically instead");
    }

    /// Watches the ways to the targets of symbolic links: this folder, its manifest files, and the directory of the server's files.
    fn relink(&mut self, name: &str) {
        let folder = self.servers.join(name);
        let files = [CONFIG_FILE, OVERRIDE_FILE, DATA_FOLDER].map(|file| folder.join(file));
        let links = [folder.clone()].into_iter().chain(files).filter(|path| path.is_symlink());
        let mut entries: Vec<PathBuf> = links.flat_map(|link| lookups::entries(&link)).collect();
        // Entries in folders that have another watch already, under another path.
        let watched = [self.servers.canonicalize(), folder.canonicalize()].map(Result::unwrap_or_default);
        let is_watched = |folder: &Path| watched.iter().any(|watched| watched == folder);
        entries.retain(|entry| !self.place.entries.contains(entry) && !entry.parent().is_none_or(is_watched));
        entries.sort();
        entries.dedup();
        self.set_links(name, entries);
    }

    fn set_links(&mut self, name: &str, entries: Vec<PathBuf>) {
        if self.watched.get(name).is_none_or(|before| *before == entries) {
            return;
        }
        self.signals.set_links(name, &entries);
        let watched = self.outside_folders();
        self.watched.insert(name.into(), entries);
        let wanted = self.outside_folders();
        for folder in watched.difference(&wanted) {
            let _ = self.watcher.unwatch(folder);
        }
        for folder in wanted.difference(&watched) {
            self.watch_outside(folder);
        }
    }

    fn watch_outside(&mut self, folder: &Path) {
        match self.watcher.watch(folder, RecursiveMode::NonRecursive) {
            Err(error) if !is_gone(&error) => self.report(&error),
            _ => {}
        }
    }

    /// The folders of the entries to which links lead, except those that are watched anyway: above `servers`, and servers' folders.
    /// Folders in these belong to games.
    fn outside_folders(&self) -> HashSet<PathBuf> {
        let above = parents(&self.place.entries);
        let mut outside = parents(self.watched.values().flatten());
        outside.retain(|folder| !folder.starts_with(&self.servers) && !above.contains(folder));
        outside
    }
}

/// The folders that hold these entries.
fn parents<'e>(entries: impl IntoIterator<Item = &'e PathBuf>) -> HashSet<PathBuf> {
    entries.into_iter().filter_map(|entry| entry.parent()).map(Path::to_owned).collect()
}

fn is_gone(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}
