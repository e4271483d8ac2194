//! What a server printed, on disk: `logs/console.log`, rotated by size to `console.log.1` and so on.
//!
//! Lines come in from the attachment and from the daemon, into a buffer that never makes anybody wait. One task at a
//! time per server writes the buffer out, in batches: when it is half full, or a moment after the first line
//! of a batch; it ends when there is nothing to write. Nothing is open or allocated in between. When the disk fails or
//! is too slow, lines are dropped and counted, one warning is logged, and the transcript says how many are missing
//! once it can.
//!
//! `console.position` says which container the end of `console.log` is from, and from which byte on. It is
//! written when a container is attached for the first time and at each rotation, so that after a restart of the
//! daemon the last lines of that container can be found in its log, and only what comes after them is added.

mod file;

use std::collections::VecDeque;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::model::ServerId;
use crate::store::Blocking;
use crate::tasks::Tasks;
use file::Batch;

/// Name of the transcript in the server's folder of logs.
pub const TRANSCRIPT_FILE: &str = "console.log";
/// Name of the note beside it.
pub const POSITION_FILE: &str = "console.position";

/// Lines that the end of a transcript is recognised by.
pub(super) const ANCHOR: usize = 32;
/// How long a line waits for others before it is written.
const QUIET: Duration = Duration::from_millis(200);
/// Bytes that make a batch worth writing at once.
const FULL: usize = 32 * 1024;
/// Bytes that wait while the disk is slow; more are dropped.
pub(super) const WAITING: usize = 256 * 1024;
/// Bytes that wait while it is not known where to write.
const HOMELESS: usize = 4 * 1024;

/// How transcripts are kept.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// Bytes of one file; exceeded by less than one batch.
    pub bytes: u64,
    /// Files, the one in use included.
    pub files: u32,
    /// What lines of the daemon begin with.
    pub daemon: String,
}

/// One server's transcript; all clones are the same.
#[derive(Clone)]
pub(super) struct Transcript {
    shared: Arc<Shared>,
}

struct Shared {
    server: ServerId,
    rules: Arc<Rules>,
    blocking: Blocking,
    tasks: Tasks,
    state: Mutex<State>,
    /// Tells the writer not to wait any longer.
    hurry: Notify,
}

#[derive(Default)]
struct State {
    folder: Option<PathBuf>,
    /// The container whose lines come.
    container: Option<String>,
    /// Its last lines, as hashes.
    recent: VecDeque<u64>,
    batch: Batch,
    /// A writer is at work.
    writing: bool,
    /// The last attempt to write failed.
    failing: bool,
}

impl Transcript {
    /// A transcript that has no folder yet: lines wait until it does.
    pub fn new(server: ServerId, rules: Arc<Rules>, blocking: Blocking, tasks: Tasks) -> Self {
        let state = Mutex::default();
        Self { shared: Arc::new(Shared { server, rules, blocking, tasks, state, hurry: Notify::new() }) }
    }

    /// Whose transcript it is.
    pub fn server(&self) -> ServerId {
        self.shared.server
    }

    /// Says where to write, and whose lines come from now on. `resume` looks up in the file what it has of that
    /// container. Returns the last lines of the container that the transcript has, as [`line_hash`]es.
    pub async fn open(&self, folder: &Path, container: &str, resume: bool) -> Vec<u64> {
        let known = self.state().container.as_deref() == Some(container);
        let mut found = None;
        if resume && !known {
            let (folder, container, rules) = (folder.to_owned(), container.to_owned(), self.shared.rules.clone());
            found = self.shared.blocking.run(move || file::last_lines(&folder, &container, &rules)).await;
        }
        let mut state = self.state();
        if state.folder.replace(folder.to_owned()).is_none() {
            state.batch.close_gap(&self.shared.rules);
        }
        if state.container.as_deref() != Some(container) {
            state.container = Some(container.to_owned());
            state.recent.clear();
            match found {
                Some(lines) => state.recent.extend(lines),
                None => state.batch.mark(),
            }
        }
        let anchor = state.recent.iter().copied().collect();
        self.write_soon(state);
        anchor
    }

    /// Adds a line of the container.
    pub fn print(&self, line: &[u8]) {
        let mut state = self.state();
        if state.recent.len() == ANCHOR {
            state.recent.pop_front();
        }
        state.recent.push_back(line_hash(line));
        self.add(state, line);
    }

    /// Adds the beginning of a line whose end has not come. It is told from a whole line, since it may come again.
    pub fn print_unfinished(&self, piece: &[u8]) {
        let mut state = self.state();
        state.batch.add_unfinished(piece, WAITING);
        self.write_soon(state);
    }

    /// Adds a line of the daemon.
    pub fn note(&self, text: &str) {
        let line = format!("{}{text}", self.shared.rules.daemon);
        self.add(self.state(), line.as_bytes());
    }

    fn add(&self, mut state: MutexGuard<'_, State>, line: &[u8]) {
        let room = if state.folder.is_some() { WAITING } else { HOMELESS };
        state.batch.add(line, room);
        self.write_soon(state);
    }

    /// Writes what there is without waiting for more.
    pub fn flush(&self) {
        if self.state().writing {
            self.shared.hurry.notify_one();
        }
    }

    fn write_soon(&self, mut state: MutexGuard<'_, State>) {
        if state.batch.is_empty() || state.folder.is_none() {
            return;
        }
        if state.batch.len() >= FULL {
            self.shared.hurry.notify_one();
        }
        if !state.writing {
            state.writing = true;
            drop(state);
            let transcript = self.clone();
            let name = format!("transcript {}", self.shared.server);
            self.shared.tasks.spawn_graceful(name, |stop| transcript.write(stop));
        }
    }

    /// The writer: until nothing is left.
    async fn write(self, stop: CancellationToken) {
        let mut work = Work { state: &self.shared.state, ended: false };
        while !work.ended {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = self.shared.hurry.notified() => {}
                () = tokio::time::sleep(QUIET) => {}
            }
            let Some((folder, container, batch)) = self.take() else { return };
            let (rules, batch) = (self.shared.rules.clone(), Arc::new(batch));
            let appended = batch.clone();
            let append = move || file::append(&folder, container.as_deref(), &appended, &rules);
            let written = self.shared.blocking.run(append).await;
            let mut state = self.state();
            self.account(&mut state, &batch, written);
            // Decided under the lock: whoever adds the next line sees a writer, or starts one.
            state.writing = !state.batch.is_empty();
            work.ended = !state.writing;
        }
    }

    fn take(&self) -> Option<(PathBuf, Option<String>, Batch)> {
        let mut state = self.state();
        let folder = state.folder.clone()?;
        Some((folder, state.container.clone(), std::mem::take(&mut state.batch)))
    }

    fn account(&self, state: &mut State, batch: &Batch, written: io::Result<()>) {
        let server = self.shared.server;
        match written {
            Ok(()) => {
                if std::mem::take(&mut state.failing) {
                    tracing::info!(%server, lost = batch.lost(), "the console transcript can be written again");
                }
            }
            Err(error) => {
                state.batch.follow_lost(batch);
                // Where the server's folder is gone, the server was deleted while this was under way.
                let gone = error.kind() == io::ErrorKind::NotFound;
                if !std::mem::replace(&mut state.failing, true) && !gone {
                    tracing::warn!(%server, %error, "the console transcript cannot be written; lines are dropped until it can; make room, or mend the server's folder logs/");
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.state)
    }
}

/// A writer at work. One that ends early, by a panic, leaves word that the next line needs a new one.
struct Work<'a> {
    state: &'a Mutex<State>,
    ended: bool,
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        if !self.ended {
            lock(self.state).writing = false;
        }
    }
}

/// What a line is recognised by.
pub(super) fn line_hash(line: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    hasher.finish()
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
