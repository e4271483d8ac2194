//! Turns events of the kernel into a set of folder names, on the thread of `notify`.
//!
//! That thread must not wait, because it also sets watches. So events go into a set behind a short lock, and the task of the watch
//! takes them from there.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use tokio::sync::Notify;

use super::super::{CONFIG_FILE, OVERRIDE_FILE};

/// How many names can wait; more are an overflow.
const MAX_PENDING: usize = 10_000;

/// The names that wait.
#[derive(Default)]
pub(super) struct Signals {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    touched: HashMap<String, Touched>,
    overflow: bool,
    lost: bool,
    /// Targets of manifest files that are symbolic links, with the folders that they belong to.
    links: HashMap<PathBuf, Vec<String>>,
}

struct Touched {
    first: Instant,
    last: Instant,
    /// The folder is new and is not watched yet.
    appeared: bool,
}

impl Touched {
    fn due(&self, quiet: Duration, longest: Duration) -> Instant {
        (self.last + quiet).min(self.first + longest)
    }
}

/// The signals that are due.
pub(super) struct Batch {
    /// The watch is gone.
    pub lost: bool,
    /// Events were dropped.
    pub overflow: bool,
    /// New folders.
    pub appeared: Vec<String>,
    /// Folders that were unchanged for long enough, the oldest change first.
    pub due: Vec<String>,
}

impl Signals {
    /// Waits for the next signal.
    pub async fn changed(&self) {
        self.wake.notified().await;
    }

    /// When the next name is due.
    pub fn next_due(&self, quiet: Duration, longest: Duration) -> Option<Instant> {
        let state = self.lock();
        state.touched.values().map(|t| t.due(quiet, longest)).min()
    }

    /// Takes the signals that are due.
    pub fn take(&self, quiet: Duration, longest: Duration) -> Batch {
        let now = Instant::now();
        let mut state = self.lock();
        let state = &mut *state;
        let mut appeared = Vec::new();
        for (name, touched) in &mut state.touched {
            if std::mem::take(&mut touched.appeared) {
                appeared.push(name.clone());
            }
        }
        let is_due = |touched: &Touched| touched.due(quiet, longest) <= now;
        let mut due: Vec<_> = state.touched.extract_if(|_, touched| is_due(touched)).collect();
        due.sort_by_key(|(_, touched)| touched.last);
        let due = due.into_iter().map(|(name, _)| name).collect();
        Batch { lost: state.lost, overflow: std::mem::take(&mut state.overflow), appeared, due }
    }

    /// Sets the files elsewhere whose changes count as changes of this folder.
    pub fn set_links(&self, folder: &str, files: &[PathBuf]) {
        let mut state = self.lock();
        state.links.retain(|_, folders| {
            folders.retain(|f| f != folder);
            !folders.is_empty()
        });
        for file in files {
            state.links.entry(file.clone()).or_default().push(folder.to_owned());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.wake.notify_one();
    }
}

impl State {
    fn touch(&mut self, name: &str, appeared: bool) {
        let now = Instant::now();
        if let Some(touched) = self.touched.get_mut(name) {
            touched.last = now;
            touched.appeared |= appeared;
        } else if self.touched.len() < MAX_PENDING {
            self.touched.insert(name.to_owned(), Touched { first: now, last: now, appeared });
        } else {
            self.overflow = true;
        }
    }
}

/// The callback of `notify`. When it is dropped, the watch is lost.
pub(super) struct Handler {
    servers: PathBuf,
    signals: Arc<Signals>,
}

/// What an event concerns.
enum Subject<'e> {
    /// The folder of all servers was removed.
    Root,
    /// This server's folder, or a manifest file in it.
    Server { name: &'e str, appeared: bool },
}

impl Handler {
    pub fn new(servers: &Path, signals: &Arc<Signals>) -> Self {
        Self { servers: servers.to_owned(), signals: signals.clone() }
    }

    fn subject<'e>(&self, kind: EventKind, path: &'e Path) -> Option<Subject<'e>> {
        let arrival = matches!(kind, EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(RenameMode::To)));
        let departure = matches!(kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)));
        let mut names = path.strip_prefix(&self.servers).ok()?.iter();
        let Some(folder) = names.next() else {
            return departure.then_some(Subject::Root);
        };
        let name = folder.to_str().filter(|name| is_folder_name(name))?;
        match (names.next(), names.next()) {
            (None, _) => (arrival || departure).then_some(Subject::Server { name, appeared: arrival }),
            (Some(file), None) => {
                (file == CONFIG_FILE || file == OVERRIDE_FILE).then_some(Subject::Server { name, appeared: false })
            }
            _ => None,
        }
    }
}

/// Whether a folder of this name may be a server's: not hidden, and not an editor's backup.
pub(super) fn is_folder_name(name: &str) -> bool {
    !name.starts_with('.') && !name.ends_with('~')
}

impl notify::EventHandler for Handler {
    fn handle_event(&mut self, event: notify::Result<notify::Event>) {
        let Ok(event) = event else {
            return self.signals.update(|state| state.lost = true);
        };
        if event.need_rescan() {
            return self.signals.update(|state| state.overflow = true);
        }
        // Reading changes nothing, and the store's own reading must cause no event.
        let closed_after_writing = EventKind::Access(AccessKind::Close(AccessMode::Write));
        if event.kind.is_access() && event.kind != closed_after_writing {
            return;
        }
        for path in &event.paths {
            match self.subject(event.kind, path) {
                Some(Subject::Root) => self.signals.update(|state| state.lost = true),
                Some(Subject::Server { name, appeared }) => {
                    self.signals.update(|state| state.touch(name, appeared));
                }
                None => {}
            }
            let linked = self.signals.lock().links.get(path).cloned().unwrap_or_default();
            for name in linked {
                self.signals.update(|state| state.touch(&name, false));
            }
        }
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.signals.update(|state| state.lost = true);
    }
}
