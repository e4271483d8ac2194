//! What a server printed, on disk: `logs/console.log`, rotated by size to `console.log.1` and so on.
//!
//! The attachment and the daemon add lines to a buffer without waiting. One task per server writes the buffer in batches: when
//! it has [`FULL`] bytes, or [`QUIET`] after the first line. The task ends when there is nothing to write, and leaves no file
//! open. When the disk fails or is too slow, lines are dropped and counted, one warning is logged, and the transcript gets the
//! number of missing lines as soon as it can be written.
//!
//! Each line has a number. A [`Handover`] contains the number of its last line, so that its reader can skip published lines
//! that are in the file.
//!
//! `console.position` contains the container whose lines are at the end of `console.log`, and the byte where they begin. It is
//! written when a container is attached for the first time and at each rotation. After a restart of the daemon, the last lines
//! are found in the container's log by it, and only later lines are added.

mod file;

use std::collections::VecDeque;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::files::log::LogReader;
use crate::model::ServerId;
use crate::store::Blocking;
use crate::tasks::Tasks;
use file::Batch;

/// Name of the transcript in the server's folder of logs.
pub const TRANSCRIPT_FILE: &str = "console.log";
/// Name of the file with the position of the container's lines.
pub const POSITION_FILE: &str = "console.position";

/// Lines that identify the end of a transcript.
pub(super) const ANCHOR: usize = 32;
/// How long a line waits for others before it is written.
const QUIET: Duration = Duration::from_millis(200);
/// Bytes that make a batch worth writing at once.
const FULL: usize = 32 * 1024;
/// Bytes that wait while the disk is slow; more are dropped.
pub(super) const WAITING: usize = 256 * 1024;
/// Bytes that wait while the folder is unknown.
const WAITING_WITHOUT_FOLDER: usize = 4 * 1024;

/// How transcripts are kept.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// Maximum size of one file, exceeded by less than one batch.
    pub max_bytes: u64,
    /// Number of files, including the current one.
    pub max_files: u32,
    /// What lines of the daemon begin with.
    pub daemon: String,
    /// Numbers the lines of all transcripts: a later transcript of a server has higher ones than an earlier one.
    pub numbers: Arc<AtomicU64>,
}

/// A transcript up to a moment.
#[derive(Debug)]
pub struct Handover {
    /// The file, to be read up to its end at that moment; `None` where there is none.
    pub file: Option<LogReader>,
    /// Lines that belong after it and could not be written, each with its end.
    pub unwritten: Vec<u8>,
    /// The number of the last line in either: lines that were published with a higher one come after it.
    pub last: u64,
}

impl Handover {
    fn open(folder: &Path, unwritten: Vec<u8>, last: u64) -> io::Result<Self> {
        let mut file = LogReader::open(&folder.join(TRANSCRIPT_FILE))?;
        file.as_mut().map(LogReader::end_here).transpose()?;
        Ok(Self { file, unwritten, last })
    }
}

type Handed = oneshot::Sender<io::Result<Handover>>;

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
    /// Ends the writer's wait for more lines.
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
    /// The number of the last line that came.
    last: u64,
    /// Readers that wait for a handover.
    readers: Vec<Handed>,
    /// A writer is at work.
    writing: bool,
    /// The last attempt to write failed.
    failing: bool,
}

impl State {
    fn has_work(&self) -> bool {
        self.folder.is_some() && (!self.batch.is_empty() || !self.readers.is_empty())
    }
}

/// One batch of the writer.
struct Job {
    folder: PathBuf,
    container: Option<String>,
    batch: Batch,
    last: u64,
    readers: Vec<Handed>,
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

    /// Sets the folder, and the container of later lines. `resume` looks up the lines that the file has of that container. Returns
    /// the last lines of the container that the transcript has, as [`line_hash`]es.
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

    /// Adds a line of the container, and gives its number.
    pub fn print(&self, line: &[u8]) -> u64 {
        let mut state = self.state();
        if state.recent.len() == ANCHOR {
            state.recent.pop_front();
        }
        state.recent.push_back(line_hash(line));
        self.add(state, line)
    }

    /// Adds the beginning of an unfinished line and returns its number. A replay may add the complete line later.
    pub fn print_unfinished(&self, piece: &[u8]) -> u64 {
        let mut state = self.state();
        state.batch.add_unfinished(piece, WAITING);
        self.number(state)
    }

    /// Adds a line of the daemon, and gives its number.
    pub fn note(&self, text: &str) -> u64 {
        let line = format!("{}{text}", self.shared.rules.daemon);
        self.add(self.state(), line.as_bytes())
    }

    fn add(&self, mut state: MutexGuard<'_, State>, line: &[u8]) -> u64 {
        let room = if state.folder.is_some() { WAITING } else { WAITING_WITHOUT_FOLDER };
        state.batch.add(line, room);
        self.number(state)
    }

    /// Numbers what was added, and has it written.
    fn number(&self, mut state: MutexGuard<'_, State>) -> u64 {
        let number = self.shared.rules.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        state.last = number;
        self.write_soon(state);
        number
    }

    /// Writes all lines so far and opens the file up to the last one. The writer does both, so that no line comes in between.
    /// `folder` is used if the transcript has not been opened yet.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub async fn handover(&self, folder: &Path) -> io::Result<Handover> {
        match self.ask_writer() {
            Ok(handed) => {
                handed.await.unwrap_or_else(|_| Err(io::Error::other("the writer of the transcript has ended")))
            }
            Err((unwritten, last)) => {
                let folder = folder.to_owned();
                self.shared.blocking.run(move || Handover::open(&folder, unwritten, last)).await
            }
        }
    }

    /// Requests a handover from the writer. Without a folder there is no writer, and all lines are in the batch.
    fn ask_writer(&self) -> Result<oneshot::Receiver<io::Result<Handover>>, (Vec<u8>, u64)> {
        let mut state = self.state();
        if state.folder.is_none() {
            return Err((state.batch.bytes().to_vec(), state.last));
        }
        let (hand, handed) = oneshot::channel();
        state.readers.push(hand);
        self.write_soon(state);
        self.shared.hurry.notify_one();
        Ok(handed)
    }

    /// Writes what there is without waiting for more.
    pub fn flush(&self) {
        if self.state().writing {
            self.shared.hurry.notify_one();
        }
    }

    fn write_soon(&self, mut state: MutexGuard<'_, State>) {
        if !state.has_work() {
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
            let Some(job) = self.take() else { return };
            let rules = self.shared.rules.clone();
            let (batch, written) = self.shared.blocking.run(move || job.run(&rules)).await;
            let mut state = self.state();
            if let Some(written) = written {
                self.account(&mut state, &batch, written);
            }
            // Decided under the lock: the next line finds a running writer, or starts one.
            state.writing = state.has_work();
            work.ended = !state.writing;
        }
    }

    fn take(&self) -> Option<Job> {
        let mut state = self.state();
        Some(Job {
            folder: state.folder.clone()?,
            container: state.container.clone(),
            batch: std::mem::take(&mut state.batch),
            last: state.last,
            readers: std::mem::take(&mut state.readers),
        })
    }

    fn account(&self, state: &mut State, batch: &Batch, written: io::Result<()>) {
        let server = self.shared.server;
        match written {
            Ok(()) => {
                if std::mem::take(&mut state.failing) {
                    tracing::info!(%server, lost = batch.lost(), "console transcript can be written again");
                }
            }
            Err(error) => {
                state.batch.follow_lost(batch);
                // Where the server's folder is gone, the server was deleted while this was under way.
                let gone = error.kind() == io::ErrorKind::NotFound;
                if !std::mem::replace(&mut state.failing, true) && !gone {
                    tracing::warn!(%server, %error, "cannot write the console transcript; dropping lines until it can be written; check free space and the server's folder logs/");
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.state)
    }
}

impl Job {
    /// Appends the batch, if there is anything in it, and opens the file for the readers.
    fn run(self, rules: &Rules) -> (Batch, Option<io::Result<()>>) {
        let Self { folder, container, batch, last, readers } = self;
        let written = (!batch.is_empty()).then(|| file::append(&folder, container.as_deref(), &batch, rules));
        let lost = matches!(written, Some(Err(_)));
        for reader in readers {
            let unwritten = if lost { batch.bytes().to_vec() } else { Vec::new() };
            // The reader may have given up.
            let _ = reader.send(Handover::open(&folder, unwritten, last));
        }
        (batch, written)
    }
}

/// The state of a running writer. A panic of the writer resets `writing`, so that the next line starts a new one.
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

/// The hash that identifies a line.
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
