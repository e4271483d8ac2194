//! Watch of `{root}/servers/*/` for changes of the two files of intent.
//!
//! The kernel's file events come in, [`WatchEvent`]s go out: the name of a folder whose `config.yml`
//! or `override.yml` may have changed, or the word to look at all of them. They say where to look and
//! nothing else; one that is sent for no reason costs a look. One watch per server's folder, one for
//! the folder above, and the notify crate's one thread for all of them; `data/` is never entered.
//! Editors replace files, so it is folders that are watched; their swap files, probes and backups have other names.
//!
//! ```text
//!             established: Rescan                 some folders cannot be watched
//!   Down ───────────────────────────▶ Watching ──────────────────────────────────▶ Partial
//!    ▲  each attempt: Rescan          │  overflow: Rescan ◀─ all watched at last ─┘   │ every 10 s: Rescan
//!    └──── backoff ◀─── watch lost ───┴────────────────────────────────────────────────┘
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

mod folders;
mod signals;

#[cfg(test)]
mod tests;

use folders::{Connect, Folders};
use signals::Signals;

/// How long a folder has to be quiet before its change is told: an editor's dance of writes and renames
/// is over within a few milliseconds.
const QUIET: Duration = Duration::from_millis(75);
/// How long a folder that does not become quiet is waited for.
const LONGEST: Duration = Duration::from_secs(1);
/// How often everything is looked at while not everything can be watched.
const POLLING: Duration = Duration::from_secs(10);
/// How often everything is looked at although it is watched: some file systems (network, FUSE) tell nothing.
const SAFETY: Duration = Duration::from_secs(300);
/// The wait before a lost watch is set up again, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Events that wait for the reader. More wait as names in a set, so a slow reader loses nothing.
const CAPACITY: usize = 64;

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// In this server's folder a file of intent has been made, changed or removed, or the folder
    /// itself has come or gone.
    Changed(String),
    /// Anywhere: at the start, after events were lost, and from time to time.
    Rescan,
}

#[derive(Debug, Clone, Copy)]
struct Timing {
    quiet: Duration,
    longest: Duration,
    polling: Duration,
    safety: Duration,
    backoff: (Duration, Duration),
}

/// The watch of all server folders. It does nothing until it [runs](Self::run).
pub struct ServersWatch {
    servers: PathBuf,
    out: mpsc::Sender<WatchEvent>,
    connect: Arc<Connect>,
    timing: Timing,
}

/// Why following ended.
enum Ended {
    /// The watch is lost and has to be set up again.
    Lost,
    /// Nobody listens any more.
    Closed,
}

impl ServersWatch {
    /// A watch of the folders in `servers`, and where its events come out.
    pub fn new(servers: &Path) -> (Self, mpsc::Receiver<WatchEvent>) {
        let timing = Timing { quiet: QUIET, longest: LONGEST, polling: POLLING, safety: SAFETY, backoff: BACKOFF };
        Self::with(servers, Arc::new(folders::connect), timing)
    }

    fn with(servers: &Path, connect: Arc<Connect>, timing: Timing) -> (Self, mpsc::Receiver<WatchEvent>) {
        let (out, events) = mpsc::channel(CAPACITY);
        // Events carry absolute paths, which are compared with this one.
        let servers = std::path::absolute(servers).unwrap_or_else(|_| servers.to_owned());
        (Self { servers, out, connect, timing }, events)
    }

    /// Watches until the receiver is dropped. The first event is a [`WatchEvent::Rescan`]: what
    /// changed before the watch was there has not been seen.
    pub async fn run(self) {
        let mut wait = self.timing.backoff.0;
        let mut last_reported = None;
        while !self.out.is_closed() {
            let begun = Instant::now();
            let established = self.establish().await;
            if self.out.send(WatchEvent::Rescan).await.is_err() {
                return;
            }
            match established {
                Ok((folders, signals)) => {
                    last_reported = None;
                    match self.follow(folders, &signals).await {
                        Ended::Closed => return,
                        Ended::Lost => {
                            tracing::warn!(folder = %self.servers.display(), "the watch of the servers' folders is lost; setting it up again")
                        }
                    }
                }
                Err(error) => {
                    let error = error.to_string();
                    if last_reported.as_ref() != Some(&error) {
                        tracing::warn!(folder = %self.servers.display(), error, "the servers' folders cannot be watched; they are looked at from time to time instead. If inotify's limits are reached, raise fs.inotify.max_user_instances");
                        last_reported = Some(error);
                    }
                }
            }
            if begun.elapsed() > self.timing.backoff.1 {
                wait = self.timing.backoff.0;
            }
            tokio::select! {
                () = self.out.closed() => return,
                () = tokio::time::sleep(wait) => {}
            }
            wait = (wait * 2).min(self.timing.backoff.1);
        }
    }

    async fn establish(&self) -> notify::Result<(Folders, Arc<Signals>)> {
        let (servers, connect) = (self.servers.clone(), self.connect.clone());
        blocking(move || {
            let signals = Arc::new(Signals::default());
            let folders = Folders::open(servers, &*connect, &signals)?;
            Ok((folders, signals))
        })
        .await
    }

    /// Passes signals on as events until the watch is lost or nobody listens.
    async fn follow(&self, mut folders: Folders, signals: &Arc<Signals>) -> Ended {
        let mut rescan_at = Instant::now() + self.rescan_interval(&folders);
        loop {
            let due = signals.next_due(self.timing.quiet, self.timing.longest);
            let wake_at = due.map_or(rescan_at, |due| due.min(rescan_at));
            // All three can be dropped and begun anew without loss: signals stay in their set.
            tokio::select! {
                () = self.out.closed() => return Ended::Closed,
                () = signals.changed() => {}
                () = tokio::time::sleep_until(wake_at.into()) => {}
            }
            let batch = signals.take(self.timing.quiet, self.timing.longest);
            if batch.lost {
                return Ended::Lost;
            }
            let rescan = batch.overflow || Instant::now() >= rescan_at;
            if !rescan && batch.appeared.is_empty() && batch.due.is_empty() {
                continue;
            }
            let due = batch.due.clone();
            folders = blocking(move || {
                folders.attend(&batch.appeared, &batch.due, rescan);
                folders
            })
            .await;
            if rescan {
                rescan_at = Instant::now() + self.rescan_interval(&folders);
                if self.out.send(WatchEvent::Rescan).await.is_err() {
                    return Ended::Closed;
                }
            }
            // A watch that has just become partial is one from now on.
            rescan_at = rescan_at.min(Instant::now() + self.rescan_interval(&folders));
            for name in due {
                if self.out.send(WatchEvent::Changed(name)).await.is_err() {
                    return Ended::Closed;
                }
            }
        }
    }

    fn rescan_interval(&self, folders: &Folders) -> Duration {
        if folders.is_complete() { self.timing.safety } else { self.timing.polling }
    }
}

/// Runs file system calls off the runtime's threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Blocking work is cancelled only when the whole runtime goes down, and this with it.
            Err(_) => std::future::pending().await,
        },
    }
}
