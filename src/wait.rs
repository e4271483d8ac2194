//! How long the daemon waits for what, and the one function that waits.
//!
//! Timeouts of a library or a protocol (the engine's calls, the panel's connection) are with their clients, and the grace periods
//! of a stop are decided by the planner (`reconcile::plan::stop`).

use std::time::Duration;

use tokio::sync::watch;

/// A delete of a server that is not known waits for the panel's list, which may name the server.
pub const DELETE_FOR_LIST: Duration = Duration::from_secs(5);
/// A delete waits for the containers to be removed: the panel assigns their ports to other servers as soon as it has the answer.
pub const DELETE_FOR_CONTAINERS: Duration = Duration::from_secs(3);
/// A delete of backups waits for their archives to be removed: the panel counts them as gone when it has the answer.
pub const DELETE_FOR_ARCHIVES: Duration = Duration::from_secs(2);
/// A sync waits for the new limits of a running server: the panel expects them to be effective when it has the answer.
pub const SYNC_FOR_LIMITS: Duration = Duration::from_secs(2);
/// A console command waits for the terminal, which is attached by the next pass (after a restart of the daemon, for example).
pub const COMMAND_FOR_TERMINAL: Duration = Duration::from_secs(2);
/// The commands after a backup wait for the terminal of the server, after a restart of the daemon.
pub const HOOKS_FOR_TERMINAL: Duration = Duration::from_secs(30);
/// A read of a state waits for the panel to acknowledge it, so that the panel's own view agrees with the answer.
pub const READ_FOR_PANEL: Duration = Duration::from_millis(100);
/// The first list of servers waits for the servers' network. Creating it takes a busy engine seconds.
pub const LIST_FOR_NETWORK: Duration = Duration::from_secs(5);
/// A create, a sync or a start waits for the panel's configuration. An installation has no limit: it cannot go on without.
pub const PANEL_ANSWER: Duration = Duration::from_secs(8);

/// The first write to a server's files after a start of the daemon waits for them to be measured.
pub const WRITE_FOR_MEASUREMENT: Duration = Duration::from_secs(10);
/// `alula logs` waits for the transcript's writer, which names the last line of the file.
pub const LOGS_FOR_TRANSCRIPT: Duration = Duration::from_secs(10);
/// Replaying a container's log after a restart of the daemon, the wait for a permit included.
pub const REPLAY: Duration = Duration::from_secs(60);
/// Observing the paths of a server's mounts, all of them together. A network file system may never answer.
pub const MOUNT_PATHS: Duration = Duration::from_secs(5);
/// Measuring the file systems of the node. A panel waits one second for the answer.
pub const DISKS: Duration = Duration::from_millis(500);
/// A diagnostics report waits for the container engine. A panel waits five seconds for the report.
pub const REPORT_FOR_ENGINE: Duration = Duration::from_secs(2);

/// One attempt to reset the panel's flags. Requests to install wait as long, so it is shorter than the panel's own timeout.
pub const RESET: Duration = Duration::from_secs(5);
/// A reset that installations hold back checks this often whether one is still pending.
pub const RESET_CHECK: Duration = Duration::from_secs(2);
/// After this time a reset that installations hold back is replaced by reports for the servers to which it is owed.
pub const RESET_HELD_BACK: Duration = Duration::from_secs(600);

/// Servers that are to be started after a boot wait this long for each other, so that their priority decides.
pub const SLOT_ORDER: Duration = Duration::from_secs(2);
/// How long a server may hold one of the slots for starts after a boot.
pub const START_SLOT: Duration = Duration::from_secs(60);

/// Applying the panel's list waits for a list of all containers, which only saves calls of the first passes.
pub const LIST_FOR_CONTAINERS: Duration = Duration::from_secs(1);
/// The reset of the panel's flags waits for the first pass over each server: Wings may have left installations, which are taken over.
pub const RESET_FOR_FIRST_PASSES: Duration = Duration::from_secs(10);
/// Events of files are collected for this long before they are read.
pub const FILE_EVENTS_COLLECTED: Duration = Duration::from_secs(1);
/// Changes of states are collected for this long before `states.json` is written.
pub const STATES_COLLECTED: Duration = Duration::from_secs(1);
/// All containers are listed this often, in case that the stream of events has lost one.
pub const CONTAINER_RESYNC: Duration = Duration::from_secs(300);
/// A removal that the engine is still working on is checked after this time, in case that its event is lost.
pub const REMOVAL_CHECK: Duration = Duration::from_secs(3);
/// A terminal that was opened less than this ago is not opened again at once.
pub const REATTACH: Duration = Duration::from_secs(1);
/// A server whose stop signal the engine rejects is killed after this time.
pub const REJECTED_STOP: Duration = Duration::from_secs(1);

/// Recording an installation waits for its files to be flushed to disk. A busy disk delays the result no longer than this.
pub const INSTALL_FLUSH: Duration = Duration::from_secs(5);
/// Closing an install log waits for the rest of the installer's output.
pub const INSTALL_LOG_CLOSE: Duration = Duration::from_secs(20);
/// Output that may be a repetition is held back until the engine has sent nothing for this long.
pub const INSTALL_LOG_PAUSE: Duration = Duration::from_secs(2);

/// Waits until the condition holds, for `limit` at most. It is checked at each change, and once more when no further change can
/// come. Returns whether it holds.
pub async fn until<T>(changes: watch::Receiver<T>, limit: Duration, holds: impl Fn() -> bool) -> bool {
    tokio::time::timeout(limit, forever(changes, holds)).await.unwrap_or(false)
}

/// The same without a limit.
pub async fn forever<T>(mut changes: watch::Receiver<T>, holds: impl Fn() -> bool) -> bool {
    loop {
        // Before the check: a change during the check leads to another one.
        changes.mark_unchanged();
        if holds() {
            return true;
        }
        if changes.changed().await.is_err() {
            return holds();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_condition_is_checked_at_each_change_until_the_limit() {
        let (limit, began) = (Duration::from_secs(5), tokio::time::Instant::now());
        let (changes, met) = (watch::Sender::new(()), AtomicBool::new(false));
        let holds = || met.load(Ordering::Relaxed);
        assert!(!until(changes.subscribe(), limit, holds).await);
        assert_eq!(began.elapsed(), limit);
        let change = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            changes.send_replace(());
            tokio::time::sleep(Duration::from_secs(1)).await;
            met.store(true, Ordering::Relaxed);
            changes.send_replace(());
        };
        let (held, ()) = tokio::join!(until(changes.subscribe(), limit, holds), change);
        assert!(held);
        assert_eq!(began.elapsed(), limit + Duration::from_secs(2));
        assert!(until(changes.subscribe(), limit, holds).await, "without another change");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_when_no_change_can_come() {
        let (limit, began) = (Duration::from_secs(5), tokio::time::Instant::now());
        let changes = watch::Sender::new(());
        let waiting = until(changes.subscribe(), limit, || false);
        drop(changes);
        assert!(!waiting.await);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
