//! Watch of `{root}/servers/*/` for changes of the two manifest files.
//!
//! [`WatchEvent`]s name a folder whose `config.yml` or `override.yml` may have changed, or ask for a check of all folders. A
//! superfluous event costs one check. There is one watch for each server's folder, one for each folder above, and one thread of the
//! notify crate for all of them. The files in `data/` are never watched. Editors replace files, so folders are watched and not files.
//!
//! A file that a program still writes is reported when it is closed, or when it has not changed for a second.
//!
//! ```text
//!             established: Rescan                 some folders cannot be watched
//!   Down ───────────────────────────▶ Watching ──────────────────────────────────▶ Partial
//!    ▲  each attempt: Rescan          │  overflow: Rescan ◀─ all watched again ──┘   │ every 10 s: Rescan
//!    └─ backoff ◀─ lost or replaced ──┴────────────────────────────────────────────────┘
//! ```
//!
//! The watch belongs to a folder and not to a path. A folder that was replaced, by a restore or by another target of a symbolic link,
//! sends no event of its own while a container has mounted a part of it. So the folders above are watched for its name, too.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

pub mod files;
mod folders;
mod lookups;
mod signals;

#[cfg(test)]
mod tests;

use super::Blocking;
use crate::model::DirectoryId;
use folders::{Connect, Folders};
use signals::Signals;

/// Capacity of the event channel. Further names wait in a set, so a slow reader loses no event.
const CAPACITY: usize = 64;

/// What to check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// In this server's folder a manifest file was created, changed or removed, or the folder itself was created or removed.
    Changed(String),
    /// All folders: at the start, after lost events, and periodically.
    Rescan,
}

#[derive(Debug, Clone, Copy)]
struct Timing {
    /// How long a folder must be unchanged before an event is sent: an editor finishes its writes and renames within milliseconds.
    quiet: Duration,
    /// The longest delay of an event for a folder that keeps changing.
    longest: Duration,
    /// How long a file must be unchanged that was not closed after a change.
    unclosed: Duration,
    /// How often all folders are checked while some cannot be watched.
    polling: Duration,
    /// How often all folders are checked although they are watched: some file systems (network, FUSE) send no events.
    safety: Duration,
    /// The first and the longest delay before a lost watch is established again.
    backoff: (Duration, Duration),
}

const TIMING: Timing = Timing {
    quiet: Duration::from_millis(75),
    longest: Duration::from_secs(1),
    unclosed: Duration::from_secs(1),
    polling: Duration::from_secs(10),
    safety: Duration::from_secs(300),
    backoff: (Duration::from_secs(1), Duration::from_secs(60)),
};

/// The watch of all servers' folders. [`run`](Self::run) starts it.
pub struct ServersWatch {
    servers: PathBuf,
    out: mpsc::Sender<WatchEvent>,
    connect: Arc<Connect>,
    timing: Timing,
}

/// Why [`ServersWatch::follow`] returned.
enum Ended {
    /// The watch is lost and must be established again.
    Lost,
    /// The path leads to another folder than the one that is watched, or to none.
    Replaced { before: Option<DirectoryId>, after: Option<DirectoryId> },
    /// The receiver was dropped.
    Closed,
}

impl ServersWatch {
    /// A watch of the folders in `servers`, and the receiver of its events.
    pub fn new(servers: &Path) -> (Self, mpsc::Receiver<WatchEvent>) {
        Self::with(servers, Arc::new(folders::connect), TIMING)
    }

    fn with(servers: &Path, connect: Arc<Connect>, timing: Timing) -> (Self, mpsc::Receiver<WatchEvent>) {
        let (out, events) = mpsc::channel(CAPACITY);
        // Events have absolute paths, which are compared with this one.
        let servers = std::path::absolute(servers).unwrap_or_else(|_| servers.to_owned());
        (Self { servers, out, connect, timing }, events)
    }

    /// Watches until the receiver is dropped. The first event is a [`WatchEvent::Rescan`] for changes before the watch was
    /// established.
    pub async fn run(self) {
        let mut wait = self.timing.backoff.0;
        let mut last_reported = None;
        while !self.out.is_closed() {
            let (begun, mut replaced) = (Instant::now(), false);
            let established = self.establish().await;
            if self.out.send(WatchEvent::Rescan).await.is_err() {
                return;
            }
            match established {
                Ok((folders, signals)) => {
                    last_reported = None;
                    match self.follow(folders, &signals).await {
                        Ended::Closed => return,
                        Ended::Replaced { before, after } => {
                            replaced = true;
                            self.log_replacement(before, after);
                        }
                        Ended::Lost => {
                            tracing::warn!(folder = %self.servers.display(), "the watch of the servers' folders is lost and will be established again")
                        }
                    }
                }
                Err(error) => {
                    let error = error.to_string();
                    if last_reported.as_ref() != Some(&error) {
                        tracing::warn!(folder = %self.servers.display(), error, "cannot watch the servers' folders; they are checked periodically instead. If inotify's limits are reached, raise fs.inotify.max_user_instances");
                        last_reported = Some(error);
                    }
                }
            }
            if begun.elapsed() > self.timing.backoff.1 {
                wait = self.timing.backoff.0;
            }
            // A replacement takes no longer than an editor's renames, and needs no backoff.
            let pause = if replaced { self.timing.quiet } else { wait };
            tokio::select! {
                () = self.out.closed() => return,
                () = tokio::time::sleep(pause) => {}
            }
            if !replaced {
                wait = (wait * 2).min(self.timing.backoff.1);
            }
        }
    }

    fn log_replacement(&self, before: Option<DirectoryId>, after: Option<DirectoryId>) {
        let folder = self.servers.display();
        match (before, after) {
            (before, after) if before == after => {}
            (_, None) => {
                tracing::warn!(%folder, "the folder of the servers is missing; the last good specs stay in effect until it is back")
            }
            (None, Some(_)) => tracing::info!(%folder, "the folder of the servers is there again; reading it"),
            (Some(_), Some(_)) => {
                tracing::warn!(%folder, "the folder of the servers was replaced; reading the new one. Restart the daemon if the whole state folder was replaced: its lock and its socket are in the former one")
            }
        }
    }

    async fn establish(&self) -> notify::Result<(Folders, Arc<Signals>)> {
        let (servers, connect) = (self.servers.clone(), self.connect.clone());
        Blocking::Pool
            .run(move || {
                let signals = Arc::new(Signals::default());
                let folders = Folders::open(servers, &*connect, &signals)?;
                Ok((folders, signals))
            })
            .await
    }

    /// Sends signals as events until the watch is lost or the receiver is dropped.
    async fn follow(&self, mut folders: Folders, signals: &Arc<Signals>) -> Ended {
        let mut rescan_at = Instant::now() + self.rescan_interval(&folders);
        loop {
            let due = signals.next_due(&self.timing);
            let wake_at = due.map_or(rescan_at, |due| due.min(rescan_at));
            // All three can be dropped and started again without loss: signals stay in their set.
            tokio::select! {
                () = self.out.closed() => return Ended::Closed,
                () = signals.changed() => {}
                () = tokio::time::sleep_until(wake_at.into()) => {}
            }
            let batch = signals.take(&self.timing);
            if batch.lost {
                return Ended::Lost;
            }
            let rescan = batch.overflow || Instant::now() >= rescan_at;
            if rescan || batch.moved || batch.removed {
                let (checked, replaced) = Blocking::Pool
                    .run(move || {
                        let (before, after) = folders.places();
                        let ended = Ended::Replaced { before: before.folder, after: after.folder };
                        let replaced = (batch.removed || *before != after).then_some(ended);
                        (folders, replaced)
                    })
                    .await;
                folders = checked;
                if let Some(replaced) = replaced {
                    return replaced;
                }
            }
            if !rescan && batch.appeared.is_empty() && batch.due.is_empty() {
                continue;
            }
            let due = batch.due.clone();
            folders = Blocking::Pool
                .run(move || {
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
            // The watch may have just become partial.
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
