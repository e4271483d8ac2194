//! The watched folders: one for each server, the one above them, and each folder elsewhere that holds the target of a manifest file
//! that is a symbolic link.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::{ErrorKind, RecursiveMode, Watcher};

use super::super::{CONFIG_FILE, OVERRIDE_FILE};
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
    watcher: Box<dyn Watcher + Send>,
    signals: Arc<Signals>,
    /// The watched folders in `servers`, each with the targets of its manifest files that are symbolic links.
    watched: HashMap<Box<str>, Vec<PathBuf>>,
    /// A folder could not be watched.
    incomplete: bool,
}

impl Folders {
    /// Watches `servers` and every folder in it.
    ///
    /// # Errors
    /// `servers` itself cannot be watched. A folder in it that cannot be watched is not an error, see [`Self::is_complete`].
    pub fn open(servers: PathBuf, connect: &Connect, signals: &Arc<Signals>) -> notify::Result<Self> {
        let mut watcher = connect(Handler::new(&servers, signals))?;
        watcher.watch(&servers, RecursiveMode::NonRecursive)?;
        let mut folders =
            Self { servers, watcher, signals: signals.clone(), watched: HashMap::new(), incomplete: false };
        // After the watch above: it reports a folder that is created during the listing.
        folders.attend(&[], &[], true);
        Ok(folders)
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
            if self.servers.join(name).is_dir() {
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

    /// Watches a folder. A missing one, and a file of that name, is not an error.
    fn add(&mut self, name: &str) -> notify::Result<()> {
        let folder = self.servers.join(name);
        if !folder.is_dir() {
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

    /// Watches the folders that hold the targets of this server's manifest files.
    fn relink(&mut self, name: &str) {
        let folder = self.servers.join(name);
        let mut targets = Vec::new();
        for file in [CONFIG_FILE, OVERRIDE_FILE] {
            let path = folder.join(file);
            if !path.is_symlink() {
                continue;
            }
            match std::fs::canonicalize(&path) {
                Ok(target) => targets.push(target),
                // A target that is being replaced does not exist for a moment: the known target stays.
                Err(_) => targets.extend(self.watched.get(name).cloned().unwrap_or_default()),
            }
        }
        targets.sort();
        targets.dedup();
        self.set_links(name, targets);
    }

    fn set_links(&mut self, name: &str, targets: Vec<PathBuf>) {
        if self.watched.get(name).is_none_or(|before| *before == targets) {
            return;
        }
        self.signals.set_links(name, &targets);
        let watched = self.outside_folders();
        self.watched.insert(name.into(), targets);
        let wanted = self.outside_folders();
        for folder in watched.difference(&wanted) {
            let _ = self.watcher.unwatch(folder);
        }
        for folder in wanted.difference(&watched) {
            if let Err(error) = self.watcher.watch(folder, RecursiveMode::NonRecursive) {
                self.report(&error);
            }
        }
    }

    /// The folders of link targets, except those below `servers`: servers' folders are watched anyway, and folders in them belong to
    /// games.
    fn outside_folders(&self) -> HashSet<PathBuf> {
        let parents = self.watched.values().flatten().filter_map(|target| target.parent());
        let outside = parents.filter(|folder| !folder.starts_with(&self.servers));
        outside.map(Path::to_owned).collect()
    }
}

fn is_gone(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}
