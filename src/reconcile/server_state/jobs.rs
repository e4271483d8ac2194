//! Which background jobs of a server run or have ended.

use std::time::Duration;

use tokio::time::Instant;

use super::{Measured, ServerState, ServerStates};
use crate::model::{Role, ServerId};
use crate::reconcile::job::{JobKind, Subject};
use crate::reconcile::observed::{Job, JobState};
use crate::reconcile::step::StepKind;
use crate::retry::{self, Growth};
use crate::tasks::TaskHandle;

/// After this many answers in a row that the protocol does not allow, a job counts as rejected by the panel.
const MAX_INVALID_RESPONSES: u32 = 5;

/// How a job failed.
#[derive(Debug)]
pub struct JobError {
    /// Another attempt would fail, too.
    pub fatal: bool,
    /// How the next attempts are spaced.
    pub growth: Growth,
    /// The least pause before the next attempt, whatever happens meanwhile.
    pub pause: Duration,
    /// The panel's answer is not what the protocol says.
    pub invalid_response: bool,
    /// What was attempted, and why it failed.
    pub message: String,
}

impl JobError {
    /// An error after which another attempt follows.
    pub fn new(growth: Growth, message: impl Into<String>) -> Self {
        Self { fatal: false, growth, pause: Duration::ZERO, invalid_response: false, message: message.into() }
    }
}

/// The jobs of one server.
#[derive(Default)]
pub(super) struct Jobs {
    runs: Vec<Run>,
    /// Number of the last run.
    last_run: u64,
}

/// One run of a job. Its number distinguishes it from other runs of the same job.
struct Run {
    number: u64,
    job: Job,
    /// The task, while it runs.
    task: Option<TaskHandle>,
    invalid_responses: u32,
    /// The panel has asked for no attempt before this time.
    not_before: Option<Instant>,
}

impl Jobs {
    pub(super) fn all(&self) -> Vec<Job> {
        self.runs.iter().map(|run| run.job.clone()).collect()
    }

    fn begin(&mut self, kind: JobKind, subject: &Subject) -> u64 {
        let (mut attempts, mut invalid_responses) = (1, 0);
        if let Some(old) = self.runs.iter().find(|old| old.job.kind == kind && old.job.subject == *subject) {
            attempts = old.job.attempts + u32::from(matches!(old.job.state, JobState::Failed { .. }));
            invalid_responses = old.invalid_responses;
        }
        self.end(|old| old.kind == kind && subject.replaces(&old.subject));
        self.last_run += 1;
        let job = Job { kind, subject: subject.clone(), state: JobState::Running, attempts };
        self.runs.push(Run { number: self.last_run, job, task: None, invalid_responses, not_before: None });
        self.last_run
    }

    /// Jobs that failed with an earlier spec are due again, and nothing of them counts. The panel is asked when it was to be.
    pub(super) fn spec_changed(&mut self) {
        self.end(|job| !job.kind.asks_panel() && matches!(job.state, JobState::Failed { .. }));
    }

    /// Ends these jobs, running or not.
    fn end(&mut self, which: impl Fn(&Job) -> bool) {
        for ended in self.runs.extract_if(.., |run| which(&run.job)) {
            if let Some(task) = ended.task {
                task.abort();
            }
        }
    }

    pub(super) fn end_install_log(&mut self) {
        self.end(|job| job.kind == JobKind::InstallLog);
    }
}

impl ServerStates {
    /// A job is about to start; it replaces those that it makes superfluous. Returns the number of this run.
    pub fn job_starting(&self, id: ServerId, kind: JobKind, subject: &Subject) -> u64 {
        self.change(id, |state| state.jobs.begin(kind, subject))
    }

    /// A job was started as this task, which is aborted if the job was replaced or ended in between.
    pub fn job_started(&self, id: ServerId, run: u64, task: TaskHandle) {
        self.change(id, |state| match state.jobs.runs.iter_mut().find(|job| job.number == run) {
            Some(job) if job.job.state == JobState::Running => job.task = Some(task),
            Some(_) => {}
            None => task.abort(),
        });
    }

    /// A job has ended by itself.
    pub fn job_finished(&self, id: ServerId, run: u64, result: Result<(), JobError>) {
        let now = Instant::now();
        self.change(id, |state| {
            let runs = &mut state.jobs.runs;
            let Some(at) = runs.iter().position(|job| job.number == run) else { return };
            let run = &mut runs[at];
            run.task = None;
            match result {
                Ok(()) if run.job.kind.is_recorded() => drop(runs.remove(at)),
                Ok(()) => run.job.state = JobState::Done { at: now },
                Err(JobError { mut fatal, growth, pause, invalid_response, message }) => {
                    run.invalid_responses = if invalid_response { run.invalid_responses + 1 } else { 0 };
                    fatal |= run.invalid_responses >= MAX_INVALID_RESPONSES;
                    if run.job.attempts == 1 || fatal {
                        tracing::warn!(job = ?run.job.kind, "{message}");
                    }
                    run.not_before = (!pause.is_zero()).then(|| now + pause);
                    let retry_at = now + retry::delay(growth, run.job.attempts, &self.jitter).max(pause);
                    run.job.state = JobState::Failed { fatal, retry_at, message };
                }
            }
        });
    }

    /// The panel answers again: failed jobs that ask it are due now. Returns their servers.
    pub fn panel_recovered(&self) -> Vec<ServerId> {
        let now = Instant::now();
        let due = |(id, state): (&ServerId, &mut Box<ServerState>)| {
            let mut any = false;
            for run in state.jobs.runs.iter_mut().filter(|run| run.job.kind.asks_panel()) {
                let due = run.not_before.map_or(now, |at| at.max(now));
                if let JobState::Failed { fatal: false, retry_at, .. } = &mut run.job.state
                    && *retry_at > due
                {
                    (*retry_at, any) = (due, true);
                }
            }
            any.then_some(*id)
        };
        self.lock().iter_mut().filter_map(due).collect()
    }

    /// A start is over: what was fetched for it does not count for the next one.
    pub fn start_ended(&self, id: ServerId) {
        let of_start = |job: &Job| job.kind.belongs_to_start() && job.state != JobState::Running;
        self.change(id, |state| state.jobs.end(of_start));
    }

    /// The image of a container is missing, although it was made available: the next attempt pulls it again.
    pub fn image_missing(&self, id: ServerId, container: Role) {
        let of_container = |job: &Job| matches!(&job.subject, Subject::Image { role, .. } if *role == container);
        self.change(id, |state| state.jobs.end(of_container));
    }

    /// The install log is about to be completed, so nothing else may write to it.
    pub fn closing_install_log(&self, id: ServerId) {
        self.change(id, |state| state.jobs.end_install_log());
    }

    /// The server is being deleted: every job ends but the removal of its files.
    pub fn quiesce(&self, id: ServerId) {
        self.change(id, |state| state.jobs.end(|job| job.kind != JobKind::Removal));
    }

    /// The server's files were measured, or asked for from the kernel if not `visited`.
    pub fn measured(&self, id: ServerId, measured: Measured, visited: bool) {
        self.change(id, |state| {
            if visited {
                state.visited_at = Some(measured.at);
            }
            state.measured = Some(measured);
        });
    }

    /// Whether the last visit of all files was this long ago.
    pub fn visit_is_due(&self, id: ServerId, interval: Duration) -> bool {
        let visited_at = self.read(id, |state| state.visited_at);
        visited_at.is_none_or(|at| at.elapsed() >= interval)
    }

    /// Whether a start has failed and is tried again.
    pub fn start_fails(&self, id: ServerId) -> bool {
        let steps = [StepKind::CreateServer, StepKind::StartServer, StepKind::RemoveServer];
        let fails = |job: &Job| {
            let image = matches!(job.subject, Subject::Image { role: Role::Server, .. });
            (image || job.kind == JobKind::Permissions) && matches!(job.state, JobState::Failed { .. })
        };
        self.read(id, |state| {
            steps.iter().any(|step| state.failures.contains_key(step))
                || state.jobs.runs.iter().any(|run| fails(&run.job))
        })
    }
}
