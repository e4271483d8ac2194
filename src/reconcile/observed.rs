//! What one look at the world found, as plain data for the planner.

use std::collections::BTreeMap;
use std::time::Duration;

use super::job::{JobKind, Subject};
use super::step::StepKind;
use crate::model::{ContainerStatus, Crash, PowerState, Timestamp};

/// Everything the planner knows beside intent and facts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observed {
    /// Why the container runtime could not be asked; then nothing below about containers counts.
    pub outage: Option<String>,
    /// The server's container.
    pub server: Option<ContainerStatus>,
    /// The installer's container.
    pub installer: Option<ContainerStatus>,
    /// What the server's container would be made from now.
    pub wanted: Option<WantedContainer>,
    /// Why nobody knows all of that: the path of a mount does not answer.
    pub unresponsive_path: Option<String>,
    /// The server's folders and small files are in place.
    pub prepared: bool,
    /// The install script of this token lies in its folder, and its log is begun.
    pub script_ready: Option<String>,
    /// The container whose terminal is attached.
    pub attached: Option<String>,
    /// The container whose start-up was seen to finish.
    pub done_seen: Option<String>,
    /// The container that this daemon has started or seen running.
    pub seen_running: Option<String>,
    /// The same for the installer.
    pub installer_seen: Option<String>,
    /// A crash that could not be written down.
    pub crash: Option<Crash>,
    /// The stop that was sent to a server's container, and to which.
    pub stop: Option<StopProgress>,
    /// The same for the installer.
    pub installer_stop: Option<StopProgress>,
    /// Jobs that run beside the passes, or have ended.
    pub jobs: Vec<Job>,
    /// Steps that failed, until they succeed or fail for something else.
    pub failures: BTreeMap<StepKind, Failure>,
    /// Disk usage and when it was measured.
    pub usage: Option<Usage>,
    /// Whether one of the node's places for installations is held.
    pub install_slot: bool,
    /// Whether it waits in line for one.
    pub install_queued: bool,
    /// The state that the panel has acknowledged last, to this process.
    pub acknowledged: Option<PowerState>,
    /// It has not acknowledged a state that was observed since.
    pub unacknowledged: bool,
}

impl Usage {
    /// Whether this is more than a limit in bytes. Where something is hidden it is taken to be.
    pub fn exceeds(&self, limit: u64) -> bool {
        self.hidden || self.bytes > limit
    }
}

/// Hashes of what the server's container would be made from now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedContainer {
    /// Everything but limits. `None` while the server runs, when it makes no difference: where its mounts lead is not asked.
    pub spec_hash: Option<String>,
    /// Limits.
    pub limits_hash: String,
}

/// How far a stop has come. Forgotten with the daemon: then it is sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopProgress {
    /// The container it was sent to.
    pub container: String,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// When it may no longer take its time.
    pub deadline: Timestamp,
    /// When SIGKILL was last sent.
    pub killed_at: Option<Timestamp>,
}

/// Bytes used by the server's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes; at least, where not all could be counted.
    pub bytes: u64,
    /// There are directories that nobody can look into.
    pub hidden: bool,
    /// When they were counted.
    pub at: Timestamp,
}

/// A job, running or over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// What runs.
    pub kind: JobKind,
    /// What it is for: a job for something else does not count.
    pub subject: Subject,
    /// Where it stands.
    pub state: JobState,
    /// Attempts so far, this one included.
    pub attempts: u32,
}

/// Where a job stands.
///
/// ```text
///            ok
/// Running -------> Done
///    |   error
///    +-----------> Failed --(retry_at has come: started again)--> Running
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    /// Under way.
    Running,
    /// Succeeded.
    Done {
        /// When.
        at: Timestamp,
    },
    /// Failed.
    Failed {
        /// Whether trying again is pointless without a new intent.
        fatal: bool,
        /// When to try again.
        retry_at: Timestamp,
        /// For people.
        message: String,
    },
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What it was for.
    pub subject: String,
    /// Failures in a row.
    pub attempts: u32,
    /// Whether the engine refused (as opposed to being away).
    pub rejected: bool,
    /// When to try again.
    pub retry_at: Timestamp,
    /// For people.
    pub message: String,
}

impl Observed {
    /// The job of a kind, if it is for this subject.
    pub fn job(&self, kind: JobKind, subject: &Subject) -> Option<&Job> {
        self.jobs_of(kind).find(|job| job.subject == *subject)
    }

    /// The jobs of a kind.
    pub fn jobs_of(&self, kind: JobKind) -> impl Iterator<Item = &Job> {
        self.jobs.iter().filter(move |job| job.kind == kind)
    }

    /// Whether the server takes part in the distribution of places for installations.
    pub fn in_install_line(&self) -> bool {
        self.install_slot || self.install_queued
    }

    /// The stop that was sent to the server's present container.
    pub fn stopping(&self) -> Option<&StopProgress> {
        let server = self.server.as_ref().filter(|server| server.running())?;
        self.stop.as_ref().filter(|stop| stop.container == server.id)
    }
}

/// What decisions need of the node's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Whether there is a panel to ask and to tell.
    pub panel: bool,
    /// Restart after a crash, where the server does not say.
    pub crash_detection: bool,
    /// Count an exit with status 0 that nobody asked for as a crash.
    pub clean_exit_is_crash: bool,
    /// A second crash within this time stays down; zero always restarts.
    pub crash_timeout: Duration,
    /// Longest run of an install script; `None` is without limit.
    pub install_timeout: Option<Duration>,
    /// Count a script that ends with another status than 0 as failed.
    pub fail_on_nonzero_exit: bool,
    /// Give the server's files to their user before each start.
    pub fix_permissions: bool,
    /// How old a disk usage may be; zero never measures.
    pub disk_check_interval: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            panel: true,
            crash_detection: true,
            clean_exit_is_crash: true,
            crash_timeout: Duration::from_secs(60),
            install_timeout: None,
            fail_on_nonzero_exit: false,
            fix_permissions: true,
            disk_check_interval: Duration::from_secs(150),
        }
    }
}
