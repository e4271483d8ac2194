//! What the daemon remembers of one server between passes. All of it may be lost: after a restart it is observed again,
//! asked for again, or sent again.

use std::collections::BTreeMap;

use super::job::{JobKind, Subject};
use super::observed::{Failure, Job, JobState, StopProgress, Usage};
use super::step::StepKind;
use crate::model::{ContainerStatus, Crash, Role, Timestamp};
use crate::tasks::TaskHandle;

/// Memory of one server.
#[derive(Default)]
pub struct ServerState {
    /// The last look at the server's container.
    pub server: Cached,
    /// The last look at the installer's container.
    pub installer: Cached,
    /// Jobs under way and ended.
    pub jobs: Vec<StateJob>,
    /// Number of the run of a job that was started last.
    pub last_run: u64,
    /// The stop that was sent to the server.
    pub stop: Option<StopProgress>,
    /// The same for the installer.
    pub installer_stop: Option<StopProgress>,
    /// The container that was started or seen running.
    pub seen_running: Option<String>,
    /// The same for the installer.
    pub installer_seen: Option<String>,
    /// Counts the watches over containers that broke off or began: what was seen before counts as unseen.
    pub watch: u64,
    /// A crash that a full disk did not take.
    pub crash: Option<Crash>,
    /// Steps that failed.
    pub failures: BTreeMap<StepKind, Failure>,
    /// Disk usage.
    pub usage: Option<Usage>,
    /// Token of the install script that lies in its folder.
    pub script_ready: Option<String>,
    /// Folders and small files were found in place.
    pub prepared: bool,
    /// `status.yml` no longer says what is so.
    pub status_stale: bool,
    /// Revision of the record over which a pass last came to rest.
    pub rested: u64,
    /// Passes in a row that did not come to rest.
    pub unconverged: u32,
    /// The container whose terminal was last opened again, and when.
    pub reopened: Option<(String, Timestamp)>,
    /// Passes in a row that panicked.
    pub panics: u32,
    /// Looks in a row at which the runtime did not answer.
    pub outages: u32,
    /// A step waits for what the engine is at: when to look again, should its event be lost.
    pub requeue_at: Option<Timestamp>,
    /// Looks in a row at which the path of a mount did not answer.
    pub silences: u32,
}

/// A look at one container, and whether it can still be trusted.
#[derive(Debug, Default)]
pub struct Cached {
    facts: Option<Option<ContainerStatus>>,
    /// Counts reasons to look again, so that one that comes during a look is not lost.
    version: u64,
}

impl Cached {
    /// What was seen, if nothing has happened since.
    pub fn fresh(&self) -> Option<&Option<ContainerStatus>> {
        self.facts.as_ref()
    }

    /// Something has happened.
    pub fn invalidate(&mut self) {
        self.facts = None;
        self.version += 1;
    }

    /// To be handed to [`Cached::fill`] after the look.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Notes what was seen, unless something has happened during the look.
    pub fn fill(&mut self, version: u64, facts: Option<ContainerStatus>) {
        if version == self.version {
            self.facts = Some(facts);
        }
    }
}

/// A job and the task that runs it.
pub struct StateJob {
    /// For the planner.
    pub job: Job,
    /// The task, while it runs.
    pub task: Option<TaskHandle>,
    /// Tells this run from the one before.
    pub run: u64,
    /// Answers in a row that could not be read.
    pub invalid_responses: u32,
}

impl ServerState {
    /// The look of a role.
    pub fn look(&mut self, role: Role) -> &mut Cached {
        match role {
            Role::Server => &mut self.server,
            Role::Installer => &mut self.installer,
        }
    }

    /// Both looks can no longer be trusted.
    pub fn invalidate(&mut self) {
        self.server.invalidate();
        self.installer.invalidate();
    }

    /// Nobody has watched the containers, or nobody will from now on: what ends meanwhile ends unseen, and what was known of
    /// them is looked at again.
    pub fn unwatch(&mut self) {
        self.invalidate();
        self.seen_running = None;
        self.installer_seen = None;
        self.watch += 1;
    }

    /// Brings retries that wait for the panel forward. Returns whether there were any.
    pub fn retry_panel_jobs_at(&mut self, now: Timestamp) -> bool {
        let mut any = false;
        for run in &mut self.jobs {
            if run.job.kind.asks_panel()
                && let JobState::Failed { fatal: false, retry_at, .. } = &mut run.job.state
                && *retry_at > now
            {
                *retry_at = now;
                any = true;
            }
        }
        any
    }

    /// Whether a start has failed and is tried again.
    pub fn start_fails(&self) -> bool {
        let steps = [StepKind::CreateServer, StepKind::StartServer, StepKind::RemoveServer];
        let fails = |job: &Job| {
            let of_start = match &job.subject {
                Subject::Image { role, .. } => *role == Role::Server,
                _ => job.kind == JobKind::Permissions,
            };
            of_start && matches!(job.state, JobState::Failed { .. })
        };
        steps.iter().any(|step| self.failures.contains_key(step)) || self.jobs.iter().any(|run| fails(&run.job))
    }

    /// Ends these jobs, running or not.
    pub fn end_jobs(&mut self, which: impl Fn(&Job) -> bool) {
        for ended in self.jobs.extract_if(.., |run| which(&run.job)) {
            if let Some(task) = ended.task {
                task.abort();
            }
        }
    }
}
