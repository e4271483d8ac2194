//! Turns events of the kernel into a set of folder names, on the thread of `notify`.
//!
//! That thread must not wait, because it also sets watches. So events go into a set behind a short lock, and the task of the watch
//! takes them from there.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind, RenameMode};
use tokio::sync::Notify;

use super::super::{CONFIG_FILE, DATA_FOLDER, OVERRIDE_FILE};
use super::Timing;

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
    removed: bool,
    /// An entry above the folder of all servers has changed.
    moved: bool,
    /// The entries that lead to the folder of all servers.
    above: HashSet<PathBuf>,
    /// Entries elsewhere to which symbolic links of servers lead, with the folders that they belong to.
    links: HashMap<PathBuf, Vec<String>>,
}

struct Touched {
    first: Instant,
    last: Instant,
    /// The folder is new and is not watched yet.
    appeared: bool,
    /// Files that were written and not closed since.
    open: HashSet<PathBuf>,
}

impl Touched {
    fn due(&self, timing: &Timing) -> Instant {
        if self.open.is_empty() {
            (self.last + timing.quiet).min(self.first + timing.longest)
        } else {
            self.last + timing.unclosed
        }
    }
}

/// The signals that are due.
pub(super) struct Batch {
    /// The watch is gone.
    pub lost: bool,
    /// The folder of all servers was removed or renamed.
    pub removed: bool,
    /// The path of that folder may lead to another one.
    pub moved: bool,
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
    pub fn next_due(&self, timing: &Timing) -> Option<Instant> {
        self.lock().touched.values().map(|touched| touched.due(timing)).min()
    }

    /// Takes the signals that are due.
    pub fn take(&self, timing: &Timing) -> Batch {
        let now = Instant::now();
        let mut state = self.lock();
        let state = &mut *state;
        let mut appeared = Vec::new();
        for (name, touched) in &mut state.touched {
            if std::mem::take(&mut touched.appeared) {
                appeared.push(name.clone());
            }
        }
        let is_due = |touched: &Touched| touched.due(timing) <= now;
        let mut due: Vec<_> = state.touched.extract_if(|_, touched| is_due(touched)).collect();
        due.sort_by_key(|(_, touched)| touched.last);
        let due = due.into_iter().map(|(name, _)| name).collect();
        Batch {
            lost: state.lost,
            removed: state.removed,
            moved: std::mem::take(&mut state.moved),
            overflow: std::mem::take(&mut state.overflow),
            appeared,
            due,
        }
    }

    /// Sets the entries that lead to the folder of all servers.
    pub fn set_above(&self, entries: &[PathBuf]) {
        self.lock().above = entries.iter().cloned().collect();
    }

    /// Sets the entries elsewhere whose changes count as changes of this folder.
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
    fn touch(&mut self, name: &str, appeared: bool, writing: Option<bool>, path: &Path) {
        let now = Instant::now();
        if !self.touched.contains_key(name) && self.touched.len() >= MAX_PENDING {
            self.overflow = true;
            return;
        }
        let new = || Touched { first: now, last: now, appeared: false, open: HashSet::new() };
        let touched = self.touched.entry(name.to_owned()).or_insert_with(new);
        touched.last = now;
        touched.appeared |= appeared;
        match writing {
            Some(true) => drop(touched.open.insert(path.to_owned())),
            Some(false) => drop(touched.open.remove(path)),
            None => {}
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
    /// This server's folder, a manifest file in it, or the directory of its files.
    Server { name: &'e str, appeared: bool },
}

impl Handler {
    pub fn new(servers: &Path, signals: &Arc<Signals>) -> Self {
        Self { servers: servers.to_owned(), signals: signals.clone() }
    }

    fn subject<'e>(&self, kind: EventKind, path: &'e Path) -> Option<Subject<'e>> {
        let (arrival, departure) = (is_arrival(kind), is_departure(kind));
        let mut names = path.strip_prefix(&self.servers).ok()?.iter();
        let Some(folder) = names.next() else {
            return departure.then_some(Subject::Root);
        };
        let name = folder.to_str().filter(|name| is_folder_name(name))?;
        match (names.next(), names.next()) {
            (None, _) => (arrival || departure).then_some(Subject::Server { name, appeared: arrival }),
            (Some(file), None) => {
                let manifest = file == CONFIG_FILE || file == OVERRIDE_FILE;
                let data = file == DATA_FOLDER && (arrival || departure);
                (manifest || data).then_some(Subject::Server { name, appeared: false })
            }
            _ => None,
        }
    }
}

fn is_arrival(kind: EventKind) -> bool {
    matches!(kind, EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(RenameMode::To)))
}

fn is_departure(kind: EventKind) -> bool {
    matches!(kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)))
}

/// Whether a program may be writing the file from now on; `None` if the event does not tell.
fn is_writing(kind: EventKind, path: &Path) -> Option<bool> {
    match kind {
        // A file is created open, a link complete.
        EventKind::Create(CreateKind::File) => Some(!path.is_symlink()),
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any) => Some(true),
        kind if kind == CLOSED_AFTER_WRITING || is_arrival(kind) || is_departure(kind) => Some(false),
        _ => None,
    }
}

const CLOSED_AFTER_WRITING: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));

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
        if event.kind.is_access() && event.kind != CLOSED_AFTER_WRITING {
            return;
        }
        for path in &event.paths {
            let subject = self.subject(event.kind, path);
            let (above, linked) = {
                let state = self.signals.lock();
                (state.above.contains(path), state.links.get(path).cloned().unwrap_or_default())
            };
            if above && (is_arrival(event.kind) || is_departure(event.kind)) {
                self.signals.update(|state| state.moved = true);
            }
            if subject.is_none() && linked.is_empty() {
                continue;
            }
            let writing = is_writing(event.kind, path);
            match subject {
                Some(Subject::Root) => self.signals.update(|state| state.removed = true),
                Some(Subject::Server { name, appeared }) => {
                    self.signals.update(|state| state.touch(name, appeared, writing, path));
                }
                None => {}
            }
            for name in linked {
                self.signals.update(|state| state.touch(&name, false, writing, path));
            }
        }
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.signals.update(|state| state.lost = true);
    }
}
