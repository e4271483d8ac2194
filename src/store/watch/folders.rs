//! Which folders are watched: one watch for each server, one above them, and one for each folder
//! elsewhere that a file of intent is a symbolic link into.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::{ErrorKind, RecursiveMode, Watcher};

use super::super::{CONFIG_FILE, OVERRIDE_FILE};
use super::signals::{Handler, Signals, is_folder_name};

/// Makes a watcher that calls the handler.
pub(super) type Connect = dyn Fn(Handler) -> notify::Result<Box<dyn Watcher + Send>> + Send + Sync;

/// The platform's watcher.
pub(super) fn connect(handler: Handler) -> notify::Result<Box<dyn Watcher + Send>> {
    Ok(Box::new(notify::RecommendedWatcher::new(handler, notify::Config::default())?))
}

/// The watches that are set. Its functions make file system calls.
pub(super) struct Folders {
    servers: PathBuf,
    watcher: Box<dyn Watcher + Send>,
    signals: Arc<Signals>,
    watched: HashSet<Box<str>>,
    /// Symbolic links: whose, and to which files.
    links: HashMap<Box<str>, Vec<PathBuf>>,
    /// Some folder could not be watched.
    incomplete: bool,
}

impl Folders {
    /// Watches `servers` and every folder in it.
    ///
    /// # Errors
    /// `servers` itself cannot be watched. Folders in it that cannot are no error:
    /// see [`Self::is_complete`].
    pub fn open(servers: PathBuf, connect: &Connect, signals: &Arc<Signals>) -> notify::Result<Self> {
        let mut watcher = connect(Handler::new(&servers, signals))?;
        watcher.watch(&servers, RecursiveMode::NonRecursive)?;
        let mut folders = Self {
            servers,
            watcher,
            signals: signals.clone(),
            watched: HashSet::new(),
            links: HashMap::new(),
            incomplete: false,
        };
        // Only now: a folder that comes during the listing is told by the watch above.
        folders.attend(&[], &[], true);
        Ok(folders)
    }

    /// Whether everything that should be watched is.
    pub fn is_complete(&self) -> bool {
        !self.incomplete
    }

    /// Brings the watches in line with what is there: for new folders, for changed ones, or for all.
    pub fn attend(&mut self, appeared: &[String], changed: &[String], all: bool) {
        for name in appeared {
            // Gone and come again under the same name: the old watch is on the folder that is gone.
            self.forget(name);
            if let Err(error) = self.add(name) {
                self.report(&error);
            }
        }
        for name in changed {
            if self.servers.join(name).is_dir() {
                self.relink(name);
            } else {
                self.forget(name);
            }
        }
        if all && let Err(error) = self.add_missing() {
            self.report(&error);
        }
    }

    /// Watches every folder that has no watch yet, and forgets those that are gone.
    fn add_missing(&mut self) -> notify::Result<()> {
        let mut there = HashSet::new();
        for entry in std::fs::read_dir(&self.servers).map_err(notify::Error::io)? {
            let name = entry.map_err(notify::Error::io)?.file_name();
            if let Some(name) = name.to_str().filter(|name| is_folder_name(name)) {
                there.insert(Box::<str>::from(name));
            }
        }
        for name in self.watched.difference(&there).cloned().collect::<Vec<_>>() {
            self.forget(&name);
        }
        let mut failure = Ok(());
        for name in there.difference(&self.watched.clone()) {
            match self.add(name) {
                // With the limit reached each further attempt fails alike.
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

    /// Watches a folder; anything else of that name, or nothing, is no error.
    fn add(&mut self, name: &str) -> notify::Result<()> {
        let folder = self.servers.join(name);
        if !folder.is_dir() {
            return Ok(());
        }
        match self.watcher.watch(&folder, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.watched.insert(name.into());
                self.relink(name);
                Ok(())
            }
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn forget(&mut self, name: &str) {
        if self.watched.remove(name) {
            // The watch may have gone with its folder already.
            let _ = self.watcher.unwatch(&self.servers.join(name));
        }
        self.set_links(name, Vec::new());
    }

    /// Says once that not all is watched, and what helps.
    fn report(&mut self, error: &notify::Error) {
        if std::mem::replace(&mut self.incomplete, true) {
            return;
        }
        let remedy = match error.kind {
            ErrorKind::MaxFilesWatch => {
                "raise fs.inotify.max_user_watches (sysctl), and the watch becomes complete by itself"
            }
            _ => "see to the permissions of that folder",
        };
        tracing::warn!(%error, remedy, "not every server's folder can be watched; all are looked at from time to time instead");
    }

    /// Watches the folders that this server's files of intent are links into.
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
                // A target that is being replaced is gone for a moment: what was known stays.
                Err(_) => targets.extend(self.links.get(name).cloned().unwrap_or_default()),
            }
        }
        targets.sort();
        targets.dedup();
        self.set_links(name, targets);
    }

    fn set_links(&mut self, name: &str, targets: Vec<PathBuf>) {
        let before = self.links.get(name).cloned().unwrap_or_default();
        if before == targets {
            return;
        }
        self.signals.set_links(name, &targets);
        let watched = self.outside_folders();
        if targets.is_empty() {
            self.links.remove(name);
        } else {
            self.links.insert(name.into(), targets);
        }
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

    /// The folders of link targets. Not those below `servers`: servers' folders are watched anyway, and
    /// what lies in them belongs to games.
    fn outside_folders(&self) -> HashSet<PathBuf> {
        let parents = self.links.values().flatten().filter_map(|target| target.parent());
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
