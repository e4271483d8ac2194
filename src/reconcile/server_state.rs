//! What the daemon keeps in memory of each server between passes. All of it may be lost: after a restart it is observed again,
//! requested again, or sent again. Its times are instants, which no change of the system's clock moves.
//!
//! The state of a server is private. Methods say what happened to it, and [`ServerStates::observed`] gives the planner what it needs.
//! Each change is announced, see [`ServerStates::wait`].

mod containers;
mod jobs;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::observed::{CrashTime, Failure, Observed, Usage};
use super::step::{Step, StepKind};
use crate::files::ScratchFile;
use crate::model::{Crash, DirectoryId, ServerId};
use crate::retry::{self, Growth, Jitter};
use crate::wait;

pub use containers::{Listing, StopOutcome};
pub use jobs::JobError;

/// The states of all servers.
pub struct ServerStates {
    jitter: Arc<Jitter>,
    /// Boxed, because a node of the map has room for eleven, and is half empty where ids come in their order.
    servers: Mutex<BTreeMap<ServerId, Box<ServerState>>>,
}

#[derive(Default)]
struct ServerState {
    containers: containers::Containers,
    jobs: jobs::Jobs,
    /// A crash that a full disk could not record.
    crash: Option<Crash>,
    /// The latest crash after which the server was to be started again. Its time was converted once: the clock may have been set since.
    restart: Option<CrashTime>,
    /// The accepted generation that was observed last.
    generation: u64,
    /// Steps that failed.
    failures: BTreeMap<StepKind, Failure>,
    /// The latest measurement of the files.
    measured: Option<Measured>,
    /// When all files were visited last.
    visited_at: Option<Instant>,
    /// Token of the install script in its folder.
    script_ready: Option<String>,
    /// Folders and small files are in place.
    prepared: bool,
    /// Held while configuration files are written.
    config_files: Arc<tokio::sync::Mutex<()>>,
    /// The directory of the server's files, when it was looked for last.
    files: Option<DirectoryId>,
    /// Revision of the record over which a pass converged last.
    converged: u64,
    /// Passes in a row that did not converge or panicked.
    failed_passes: u32,
    /// Observations in a row in which the engine or the path of a mount did not answer.
    unanswered: u32,
    /// When to check what the engine is working on, in case that its event is lost.
    check_at: Option<Instant>,
    /// The container whose terminal was attached last, and when.
    reattached: Option<(String, Instant)>,
    /// The latest manifests of a transfer in rounds, which stops the server between two of them.
    sent: Option<(Uuid, Arc<SentManifests>)>,
    changes: watch::Sender<()>,
}

/// The latest manifest of each part of a transfer: files that have not changed since then are not read again.
pub type SentManifests = [Mutex<Option<Arc<ScratchFile>>>; 2];

/// A measurement of a server's files. The bytes are in its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// There are directories that cannot be read.
    pub hidden: bool,
    /// When it ended.
    pub at: Instant,
    /// How long it took.
    pub took: Duration,
}

impl ServerStates {
    /// No server yet.
    pub fn new(jitter: Arc<Jitter>) -> Self {
        Self { jitter, servers: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServerId, Box<ServerState>>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, id: ServerId, edit: impl FnOnce(&mut ServerState) -> T) -> T {
        let mut servers = self.lock();
        let state = servers.entry(id).or_default();
        let result = edit(state);
        state.changes.send_replace(());
        result
    }

    fn read<T: Default>(&self, id: ServerId, read: impl FnOnce(&ServerState) -> T) -> T {
        self.lock().get(&id).map(|state| read(state)).unwrap_or_default()
    }

    fn retry_at(&self, growth: Growth, failures: u32) -> Instant {
        Instant::now() + retry::delay(growth, failures, &self.jitter)
    }

    /// Waits until the condition holds, for `limit` at most. It is checked at each change of the server's state. Returns whether it
    /// holds.
    pub async fn wait(&self, id: ServerId, limit: Duration, holds: impl Fn() -> bool) -> bool {
        let changes = self.lock().entry(id).or_default().changes.subscribe();
        wait::until(changes, limit, holds).await
    }

    /// The manifests of the transfer with this token, none at first. Those of another one are dropped.
    pub fn sent_manifests(&self, id: ServerId, token: Uuid) -> Arc<SentManifests> {
        self.change(id, |state| match &state.sent {
            Some((known, manifests)) if *known == token => manifests.clone(),
            _ => state.sent.insert((token, Arc::default())).1.clone(),
        })
    }

    /// Drops the manifests of a transfer that has ended.
    pub fn drop_sent_manifests(&self, id: ServerId) {
        self.change(id, |state| state.sent = None);
    }

    /// The servers of which something is kept.
    pub fn ids(&self) -> Vec<ServerId> {
        self.lock().keys().copied().collect()
    }

    /// The server is gone.
    pub fn remove(&self, id: ServerId) {
        self.lock().remove(&id);
    }

    /// Merges a new observation into the state, and adds what the state knows. `watch` is what [`ServerStates::watch`] returned before
    /// the observation.
    pub fn observed(&self, id: ServerId, watch: u64, seen: Observed) -> Observed {
        self.change(id, |state| {
            let unanswered = seen.outage.is_some() || seen.unresponsive_path.is_some();
            state.unanswered = if unanswered { state.unanswered + 1 } else { 0 };
            if let Some(path) = seen.unresponsive_path.as_ref().filter(|_| state.unanswered == 1) {
                tracing::warn!(server.id = %id, "{path}");
            }
            let seen = state.containers.observed(watch, seen);
            let known = state.restart.filter(|known| {
                state.crash.is_some() || seen.restart.is_some_and(|seen| seen.recorded == known.recorded)
            });
            state.restart = known.or(seen.restart);
            Observed {
                restart: state.restart,
                prepared: state.prepared,
                script_ready: state.script_ready.clone(),
                crash: state.crash.clone(),
                jobs: state.jobs.all(),
                failures: state.failures.clone(),
                usage: state.measured.map(|Measured { hidden, at, .. }| Usage { bytes: seen.used_bytes, hidden, at }),
                measurement_took: state.measured.map(|measured| measured.took).unwrap_or_default(),
                ..seen
            }
        })
    }

    /// This generation of the spec is accepted. What failed with an earlier one is due at once: a person may have fixed it.
    pub fn spec_accepted(&self, id: ServerId, generation: u64) {
        if self.read(id, |state| state.generation) == generation {
            return;
        }
        self.change(id, |state| {
            state.generation = generation;
            state.failures.clear();
            state.jobs.spec_changed();
        });
    }

    /// Whether folders and small files are known to be in place.
    pub fn is_prepared(&self, id: ServerId) -> bool {
        self.read(id, |state| state.prepared)
    }

    /// Folders and small files are in place.
    pub fn prepared(&self, id: ServerId) {
        self.change(id, |state| state.prepared = true);
    }

    /// Held while a server's configuration files are written, until the last byte.
    pub fn config_files(&self, id: ServerId) -> Arc<tokio::sync::Mutex<()>> {
        self.change(id, |state| state.config_files.clone())
    }

    /// This is the directory of the server's files now. Returns whether it was another one before.
    pub fn files_found(&self, id: ServerId, files: Option<DirectoryId>) -> bool {
        self.change(id, |state| {
            let before = std::mem::replace(&mut state.files, files);
            let replaced = before.is_some() && before != files;
            state.prepared &= !replaced;
            replaced
        })
    }

    /// The install script of this token is in its folder.
    pub fn script_written(&self, id: ServerId, token: &str) {
        self.change(id, |state| state.script_ready = Some(token.to_owned()));
    }

    /// The result of an installation is recorded: its script is no longer needed, and its files are not counted yet.
    pub fn install_recorded(&self, id: ServerId) {
        self.change(id, |state| {
            state.script_ready = None;
            state.measured = None;
        });
    }

    /// A crash cannot be recorded, because the disk is full.
    pub fn crash_unrecorded(&self, id: ServerId, crash: Crash) {
        let now = Instant::now();
        self.change(id, |state| {
            if crash.restarted {
                state.restart = Some(CrashTime { recorded: crash.at, at: Some(now) });
            }
            state.crash = Some(crash);
        });
    }

    /// A later crash is recorded.
    pub fn crash_recorded(&self, id: ServerId) {
        self.change(id, |state| state.crash = None);
    }

    /// The terminal of a running container is attached again. Returns whether that was done a moment ago, too.
    pub fn reattaching(&self, id: ServerId, container: &str) -> bool {
        let now = Instant::now();
        self.change(id, |state| {
            let before = state.reattached.replace((container.to_owned(), now));
            before.is_some_and(|(before, at)| before == container && now.saturating_duration_since(at) < wait::REATTACH)
        })
    }

    /// The engine is still removing a container.
    pub fn removal_under_way(&self, id: ServerId) {
        self.change(id, |state| state.check_at = Some(Instant::now() + wait::REMOVAL_CHECK));
    }

    /// When the next pass is due because of the engine: it did not answer, a path did not, or it is working on something.
    pub fn take_check(&self, id: ServerId) -> Option<Instant> {
        self.change(id, |state| {
            let retry_at = (state.unanswered > 0).then(|| self.retry_at(retry::STEP, state.unanswered));
            state.check_at.take().into_iter().chain(retry_at).min()
        })
    }

    /// When a step that has just failed may be executed again, whether the planner considered it or not.
    pub fn held_back(&self, id: ServerId, step: &Step) -> Option<Instant> {
        let now = Instant::now();
        self.read(id, |state| {
            let failure = state.failures.get(&step.kind())?;
            (failure.subject == step.subject() && now < failure.retry_at).then_some(failure.retry_at)
        })
    }

    /// A step was executed.
    pub fn step_succeeded(&self, id: ServerId, step: &Step) {
        self.change(id, |state| {
            state.failures.remove(&step.kind());
        });
    }

    /// A step failed, so everything is observed again; `rejected` by the engine or not. Returns how often it has failed in a row.
    pub fn step_failed(&self, id: ServerId, step: &Step, rejected: bool, message: String) -> u32 {
        self.change(id, |state| {
            state.containers.invalidate();
            state.prepared = false;
            let same = state.failures.get(&step.kind()).filter(|before| before.subject == step.subject());
            let attempts = same.map_or(0, |same| same.attempts) + 1;
            let retry_at = self.retry_at(retry::STEP, attempts);
            let subject = step.subject().into_owned();
            state.failures.insert(step.kind(), Failure { subject, attempts, rejected, retry_at, message });
            attempts
        })
    }

    /// A pass over this revision of the record has nothing left to do now.
    pub fn converged(&self, id: ServerId, revision: u64) {
        self.change(id, |state| {
            (state.failed_passes, state.converged) = (0, revision);
        });
    }

    /// Whether a pass has converged over this revision of the record or a later one.
    pub fn has_converged(&self, id: ServerId, revision: u64) -> bool {
        self.read(id, |state| state.converged) >= revision
    }

    /// A pass did not converge. Returns how many have failed in a row, and when the next one is due. The first one may have had much to
    /// do; more of them are steps that undo each other, which must not cost the node a core.
    pub fn not_converged(&self, id: ServerId) -> (u32, Instant) {
        self.change(id, |state| {
            state.failed_passes += 1;
            let at = match state.failed_passes {
                1 => Instant::now(),
                more => self.retry_at(retry::STEP, more - 1),
            };
            (state.failed_passes, at)
        })
    }

    /// A pass panicked, so everything is observed again. Returns how many have failed in a row, and when the next one is due.
    pub fn panicked(&self, id: ServerId) -> (u32, Instant) {
        self.change(id, |state| {
            state.containers.invalidate();
            state.failed_passes += 1;
            let at = self.retry_at(retry::FILES, state.failed_passes);
            (state.failed_passes, at.max(Instant::now() + Duration::from_secs(1)))
        })
    }
}

#[cfg(test)]
mod tests;
