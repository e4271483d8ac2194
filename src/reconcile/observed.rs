//! What one observation found, as plain data for the planner.

#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::job::{JobKind, Subject};
use super::step::StepKind;
use crate::clock::Moment;
use crate::model::settings::UnenforcedLimit;
use crate::model::{ContainerStatus, Crash, DirectoryId, Fields, PowerState, Quota, Record, Timestamp};

/// Everything that the planner needs besides manifest, requests and record.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observed {
    /// Why the engine did not answer; then nothing below about containers counts.
    pub outage: Option<String>,
    pub server: Option<ContainerStatus>,
    pub installer: Option<ContainerStatus>,
    /// When the server's container began and ended to run.
    pub server_run: Lifetime,
    /// The same for the installer.
    pub installer_run: Lifetime,
    /// What the server's container would be created from now.
    pub wanted: Option<WantedContainer>,
    /// Why `wanted` is not known: the path of a mount does not answer.
    pub unresponsive_path: Option<String>,
    /// The server's folders and small files are in place.
    pub prepared: bool,
    /// The directory of the server's files, looked for while a container runs.
    pub files: Option<DirectoryId>,
    /// The install script of this token is in its folder, and its log is begun.
    pub script_ready: Option<String>,
    /// The container whose terminal is attached.
    pub attached: Option<String>,
    /// The container whose start-up was seen to finish.
    pub done_seen: Option<String>,
    /// The container that this process has started or seen running.
    pub seen_running: Option<String>,
    /// The same for the installer.
    pub installer_seen: Option<String>,
    /// A crash that could not be recorded.
    pub crash: Option<Crash>,
    /// The latest crash after which the server was to be started again.
    pub restart: Option<CrashTime>,
    /// The stop that was sent to a server's container, and to which.
    pub stop: Option<StopProgress>,
    /// The same for the installer.
    pub installer_stop: Option<StopProgress>,
    /// Background jobs that run or have ended.
    pub jobs: Vec<Job>,
    /// Steps that failed, until they succeed or fail for something else.
    pub failures: BTreeMap<StepKind, Failure>,
    /// The bytes of the server's account.
    pub used_bytes: u64,
    /// The same, if they were measured.
    pub usage: Option<Usage>,
    /// The files may have changed so much that a measurement is due.
    pub measurement_due: bool,
    /// How long the latest measurement took.
    pub measurement_took: Duration,
    /// The project quota of the server's files.
    pub quota: Quota,
    /// The server is being received from another node.
    pub receiving: bool,
    /// Whether an install slot is held.
    pub install_slot: bool,
    /// Whether the server waits for one.
    pub install_queued: bool,
    /// Whether a slot for the start after a boot is held.
    pub start_slot: bool,
    /// Whether the server waits for one.
    pub start_queued: bool,
    /// Until when such slots are not given, if they are not.
    pub start_slots_open_at: Option<Instant>,
    /// The state that the panel has acknowledged last to this process.
    pub acknowledged: Option<PowerState>,
    /// The panel has not acknowledged a state that was published since.
    pub unacknowledged: bool,
}

/// When a container began and ended to run, by instants: a change of the system's clock does not make it older.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lifetime {
    pub started: Option<Instant>,
    pub ended: Option<Instant>,
}

/// When a crash happened, by an instant: a change of the system's clock does not make it older.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashTime {
    /// As it is recorded.
    pub recorded: Timestamp,
    /// `None` if it was dated in the future when this process saw it first: the clock was set back since.
    pub at: Option<Instant>,
}

impl CrashTime {
    /// The latest recorded crash after which the server was to be started again, by the clock of this moment.
    pub fn of(record: &Record, now: Moment) -> Option<Self> {
        let crash = record.crashes.iter().rfind(|crash| crash.restarted)?;
        Some(Self { recorded: crash.at, at: (crash.at <= now.time).then(|| now.instant_of(crash.at)) })
    }
}

impl Lifetime {
    /// As the engine says, by the clock of this moment.
    pub fn of(container: Option<&ContainerStatus>, now: Moment) -> Self {
        let instant = |time: fn(&ContainerStatus) -> Option<_>| container.and_then(time).map(|at| now.instant_of(at));
        Self { started: instant(|found| found.started_at), ended: instant(|found| found.finished_at) }
    }
}

impl Usage {
    /// Whether this is more than a limit in bytes. Hidden files count as more.
    pub fn exceeds(&self, limit: u64) -> bool {
        self.hidden || self.bytes > limit
    }
}

/// What the server's container would be created from now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WantedContainer {
    /// Everything but limits. `None` while the server runs, when it makes no difference: its mounts are not resolved then.
    pub spec_hash: Option<String>,
    pub limits_hash: String,
    /// The same until the start-up has finished, if its limits are others.
    pub start_limits_hash: Option<String>,
    /// Image reference, without a `~`.
    pub image: String,
    /// Digests of the manifest's fields.
    pub fields: Fields,
    /// Limits that the kernel does not enforce.
    pub unenforced: Vec<UnenforcedLimit>,
}

/// How far a stop has come. After a restart of the daemon it is sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopProgress {
    pub container: String,
    pub sent_at: Instant,
    /// When SIGKILL is due, unless the request or the manifest says otherwise meanwhile.
    pub deadline: Instant,
    /// The engine rejected the stop, so the server cannot obey.
    pub rejected: bool,
    pub killed_at: Option<Instant>,
}

/// Bytes used by the server's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// At least, where not all could be counted.
    pub bytes: u64,
    /// There are directories that cannot be read.
    pub hidden: bool,
    pub at: Instant,
}

/// A job that runs or has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub kind: JobKind,
    /// What it is for: a job for something else does not count.
    pub subject: Subject,
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
    Running,
    Done {
        at: Instant,
    },
    Failed {
        /// Whether another attempt would fail, too, without a change of the spec.
        fatal: bool,
        /// When the next attempt is due.
        retry_at: Instant,
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
    /// Whether the engine rejected it (as opposed to not answering).
    pub rejected: bool,
    /// When the next attempt is due.
    pub retry_at: Instant,
    pub message: String,
}

impl Job {
    /// Why its latest attempt has failed.
    pub fn failure(&self) -> Option<&str> {
        match &self.state {
            JobState::Failed { message, .. } => Some(message),
            JobState::Running | JobState::Done { .. } => None,
        }
    }
}

impl Observed {
    /// The job of a kind, if it is for this subject.
    pub fn job(&self, kind: JobKind, subject: &Subject) -> Option<&Job> {
        self.jobs.iter().find(|job| job.kind == kind && job.subject == *subject)
    }

    /// Whether the server holds an install slot or waits for one.
    pub fn has_install_slot_or_waits(&self) -> bool {
        self.install_slot || self.install_queued
    }

    /// The stop that was sent to the server's current container.
    pub fn stopping(&self) -> Option<&StopProgress> {
        let server = self.server.as_ref().filter(|server| server.running())?;
        self.stop.as_ref().filter(|stop| stop.container == server.id)
    }
}

/// What decisions need of the node's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Whether there is a panel.
    pub panel: bool,
    /// Restart after a crash, where the server does not say.
    pub crash_detection: bool,
    /// Count an unrequested exit with status 0 as a crash.
    pub clean_exit_is_crash: bool,
    /// A second crash within this time stays down; zero always restarts.
    pub crash_timeout: Duration,
    /// Longest run of an install script; `None` is without limit.
    pub install_timeout: Option<Duration>,
    /// Count a script that ends with another status than 0 as failed.
    pub fail_on_nonzero_exit: bool,
    /// Set the owner of the server's files before each start.
    pub fix_permissions: bool,
    /// How old a disk usage may be; zero never measures.
    pub disk_check_interval: Duration,
    /// Whether writes to the server's files are noticed.
    pub file_events: bool,
}
