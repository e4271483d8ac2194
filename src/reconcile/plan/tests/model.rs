//! A small model of everything that steps act on: each step changes the fixture as it promises, so that the next observation finds
//! it. Time goes on only when there is nothing to do.

use std::collections::BTreeMap;
use std::time::Duration;

use super::fixture::{Fixture, container, instant, script, time};
use crate::model::record::{InstallResult, Serving};
use crate::model::{ContainerState, ContainerStatus, Record, Requester, Role, Timestamp, Verb};
use crate::reconcile::job::{JobKind, Subject};
use crate::reconcile::observed::{Failure, Job, JobState, StopProgress, Usage, WantedContainer};
use crate::reconcile::plan::{Plan, report_subject};
use crate::reconcile::step::{Step, StepKind, StopMethod};
use crate::requests::{self, NewRequest};

/// A failed job or step is due again after this.
const BACK_OFF: Duration = Duration::from_secs(5);

/// How engine, panel and disk behave.
#[derive(Debug, Clone)]
pub struct Manners {
    /// The server ignores everything but SIGKILL.
    pub stubborn: bool,
    /// Seconds that the server takes to stop.
    pub stop_takes: u64,
    /// Seconds that an install script takes.
    pub script_takes: u64,
    /// What an install script ends with.
    pub exit_code: i64,
    /// MiB of the server's files, whenever they are counted.
    pub usage: u64,
    /// How often jobs fail before they succeed.
    pub job_failures: BTreeMap<JobKind, u32>,
    /// A step that fails so often before it succeeds, and whether the engine refuses it or does not answer.
    pub step_failures: Option<(StepKind, u32, bool)>,
}

/// The limits of the container, with the boost of its start-up or without.
fn limits_of(wanted: &WantedContainer, boost: bool) -> String {
    wanted.start_limits_hash.clone().filter(|_| boost).unwrap_or_else(|| wanted.limits_hash.clone())
}

/// A scene that lives.
#[derive(Debug, Clone)]
pub struct Model {
    pub fixture: Fixture,
    /// The server and everything of it was removed.
    pub gone: bool,
    manners: Manners,
    made: u32,
}

impl Model {
    pub fn new(fixture: Fixture, manners: Manners) -> Self {
        Self { fixture, gone: false, manners, made: 0 }
    }

    /// Does the steps of a plan, as a pass does: up to the first one that fails.
    pub fn carry_out(&mut self, plan: &Plan) {
        for step in &plan.steps {
            if !self.try_step(step) {
                break;
            }
        }
    }

    fn try_step(&mut self, step: &Step) -> bool {
        let now = self.fixture.now;
        let mut rejected = None;
        if let Some((kind, left, by_engine)) = &mut self.manners.step_failures
            && *kind == step.kind()
            && *left > 0
        {
            *left -= 1;
            rejected = Some(*by_engine);
        }
        let failures = &mut self.fixture.observed.failures;
        if let Some(rejected) = rejected {
            let same = failures.remove(&step.kind()).filter(|before| before.subject == step.subject());
            let failure = Failure {
                subject: step.subject().into(),
                attempts: same.map_or(0, |same| same.attempts) + 1,
                rejected,
                retry_at: instant(now) + BACK_OFF,
                message: "it fails now and then".into(),
            };
            failures.insert(step.kind(), failure);
            return false;
        }
        failures.remove(&step.kind());
        self.step(step);
        true
    }

    /// Accepts a request of the takeover.
    fn accept(&mut self, id: &str, verb: Verb) {
        let (at, id) = (self.fixture.now, id.to_owned());
        let new = NewRequest { id, at, expires_at: None, timeout: None, by: Requester::Takeover, verb };
        requests::accept(&mut self.fixture.requests, &self.fixture.record, new);
    }

    fn record(&mut self) -> &mut Record {
        &mut self.fixture.record
    }

    fn step(&mut self, step: &Step) {
        let now = self.fixture.now;
        let observed = &mut self.fixture.observed;
        match step.clone() {
            Step::Accept => self.fixture.unrecorded = false,
            Step::TakeInstallSlot => (observed.install_slot, observed.install_queued) = (true, false),
            Step::ReleaseInstallSlot => (observed.install_slot, observed.install_queued) = (false, false),
            Step::TakeStartSlot { .. } => (observed.start_slot, observed.start_queued) = (true, false),
            Step::ReleaseStartSlot => (observed.start_slot, observed.start_queued) = (false, false),
            Step::Prepare => observed.prepared = true,
            Step::StartJob { job, subject } => self.start_job(job, subject),
            Step::WriteScript { token } => observed.script_ready = Some(token),
            Step::CreateInstaller { token } => {
                assert!(observed.installer.is_none(), "the name is taken");
                let made = self.make("n", &token);
                self.fixture.observed.installer = Some(made);
            }
            Step::StartInstaller { container, .. } => {
                let installer = observed.installer.as_mut().filter(|found| found.id == container).expect("it is there");
                (installer.state, installer.started_at) = (ContainerState::Running, Some(now));
            }
            Step::Kill { container, role } => self.kill(&container, role),
            Step::RecordInstall(result) => self.record_install(result),
            Step::RecordInterrupted { container, token } => self.record().interrupt_install(&token, &container),
            Step::RemoveInstaller { .. } => {
                (observed.installer, observed.script_ready) = (None, None);
                observed.jobs.retain(|job| job.kind != JobKind::InstallLog);
            }
            Step::AdoptServer { container } => self.accept(&format!("adopted:{container}"), Verb::Start),
            Step::AdoptInstaller { container, reinstall } => {
                let adopted = requests::adopted_id(&container);
                let installer = observed.installer.as_mut().filter(|found| found.id == container).expect("it is there");
                let ran = !matches!(installer.state, ContainerState::Created | ContainerState::StartFailed);
                installer.token = ran.then(|| adopted.clone());
                self.accept(&adopted, Verb::Install { reinstall, then_start: false });
            }
            Step::RemoveServer { .. } => observed.server = None,
            Step::CreateServer { token } => {
                assert!(observed.server.is_none(), "the name is taken");
                let made = self.make("c", &token);
                self.fixture.observed.server = Some(made);
            }
            Step::Assign { container, power } => self.record().power.serving = Some(Serving { container, power }),
            Step::StartServer { container, .. } => {
                let server = observed.server.as_mut().filter(|found| found.id == container).expect("it is there");
                (server.state, server.started_at) = (ContainerState::Running, Some(now));
                (observed.attached, observed.seen_running) = (Some(container.clone()), Some(container));
            }
            Step::Attach { container, .. } => observed.attached = Some(container),
            Step::Stop { container, method, grace } => {
                let killed_at = (method == StopMethod::Kill).then_some(instant(now));
                let sent_at = instant(now);
                let deadline = sent_at + grace;
                observed.stop =
                    Some(StopProgress { container: container.clone(), sent_at, deadline, rejected: false, killed_at });
                if killed_at.is_some() {
                    self.kill(&container, Role::Server);
                }
            }
            Step::UpdateLimits { boost, .. } => {
                let limits = observed.wanted.as_ref().map(|wanted| limits_of(wanted, boost));
                observed.server.as_mut().expect("it is there").limits_hash = limits;
            }
            Step::RecordBegun { power } => self.record().power.begun = Some(power),
            Step::RecordStarted { container } => {
                observed.jobs.retain(|job| !job.kind.belongs_to_start());
                self.record().power.started = Some(container);
                self.record().synced_for = None;
            }
            Step::EndStart { .. } => {
                observed.jobs.retain(|job| !job.kind.belongs_to_start());
                self.record().synced_for = None;
            }
            Step::RecordCrash { crash, handled } => {
                if !crash.restarted {
                    self.record().power.handled = Some(handled);
                }
                self.record().push_crash(crash);
            }
            Step::ClosePower(handled) => self.record().power.handled = Some(handled),
            Step::Quiesce => {
                (observed.attached, observed.unacknowledged) = (None, false);
                (observed.install_slot, observed.install_queued) = (false, false);
                (observed.start_slot, observed.start_queued) = (false, false);
                observed.jobs.retain(|job| job.kind == JobKind::Removal);
            }
            Step::Forget => self.forget(),
            // `CloseInstallLog` changes nothing that a plan depends on. Plans with a step that should be here do not converge.
            _ => {}
        }
    }

    fn make(&mut self, kind: &str, token: &str) -> ContainerStatus {
        self.made += 1;
        let mut made = container(&format!("{kind}-made-{}", self.made), Some(token));
        if let Some(wanted) = &self.fixture.observed.wanted {
            made.spec_hash = wanted.spec_hash.clone();
            made.limits_hash = Some(limits_of(wanted, true));
        }
        made
    }

    fn record_install(&mut self, result: InstallResult) {
        assert_eq!(self.fixture.asked().install().expect("it is pending").sequence, result.sequence);
        self.record().finish_install(result);
        (self.fixture.observed.script_ready, self.fixture.observed.usage) = (None, None);
    }

    fn forget(&mut self) {
        if !requests::wanted(&self.fixture.requests) {
            self.gone = true;
            return;
        }
        let deletion = requests::deletion(&self.fixture.requests).map_or(0, |deletion| deletion.sequence);
        self.fixture.requests.accepted.retain(|request| request.sequence > deletion);
        let generation = self.fixture.record.generation;
        self.fixture.record = Record { generation, synced_at: self.fixture.record.synced_at, ..Record::default() };
        let wanted = self.fixture.observed.wanted.take();
        self.fixture.observed = crate::reconcile::observed::Observed { wanted, ..Default::default() };
    }

    fn start_job(&mut self, kind: JobKind, subject: Subject) {
        let jobs = &mut self.fixture.observed.jobs;
        let old = jobs.iter().find(|job| job.kind == kind && job.subject == subject);
        let attempts = old.map_or(1, |job| job.attempts + u32::from(matches!(job.state, JobState::Failed { .. })));
        jobs.retain(|job| job.kind != kind || !subject.replaces(&job.subject));
        jobs.push(Job { kind, subject, state: JobState::Running, attempts });
    }

    /// A job comes to its end, and what it does is done.
    fn end_job(&mut self, kind: JobKind, subject: Subject) {
        let now = self.fixture.now;
        let jobs = &mut self.fixture.observed.jobs;
        let Some(job) = jobs.iter_mut().find(|job| job.kind == kind && job.subject == subject) else { return };
        if let Some(left) = self.manners.job_failures.get_mut(&kind).filter(|left| **left > 0) {
            *left -= 1;
            job.state =
                JobState::Failed { fatal: false, retry_at: instant(now) + BACK_OFF, message: "no answer".into() };
            return;
        }
        job.state = JobState::Done { at: instant(now) };
        match kind {
            JobKind::Sync => {
                (self.record().synced_at, self.record().synced_for) = (Some(now), Some(subject.to_string()));
            }
            JobKind::Script if self.fixture.manifest.is_some() => {
                self.fixture.manifest().spec.script = Some(script());
                self.record().install.begun = Some(subject.to_string());
            }
            JobKind::Usage => {
                self.fixture.observed.usage =
                    Some(Usage { bytes: self.manners.usage * 1024 * 1024, hidden: false, at: instant(now) });
            }
            JobKind::Report => {
                assert_eq!(subject, report_subject(&self.fixture.record), "another report");
                if let Some(done) = &mut self.record().install.done {
                    done.reported = true;
                }
                let state = self.fixture.plan().state;
                (self.fixture.observed.acknowledged, self.fixture.observed.unacknowledged) = (Some(state), false);
                self.record().last_reported = Some(state);
                self.fixture.observed.jobs.retain(|job| job.kind != kind);
            }
            _ => {}
        }
    }

    fn kill(&mut self, id: &str, role: Role) {
        let (now, observed) = (self.fixture.now, &mut self.fixture.observed);
        let known = match role {
            Role::Server => &mut observed.stop,
            Role::Installer => &mut observed.installer_stop,
        };
        if let Some(stop) = known.as_mut().filter(|stop| stop.container == id) {
            stop.killed_at = Some(instant(now));
        } else {
            let container = id.to_string();
            let now = instant(now);
            *known =
                Some(StopProgress { container, sent_at: now, deadline: now, rejected: false, killed_at: Some(now) });
        }
        for found in [&mut observed.server, &mut observed.installer].into_iter().flatten() {
            if found.id == id && found.running() {
                end(found, 137, now);
            }
        }
        self.detach_ended();
    }

    /// The terminal of a container that has ended is closed.
    fn detach_ended(&mut self) {
        let observed = &mut self.fixture.observed;
        let runs = observed.server.as_ref().is_some_and(ContainerStatus::running);
        if !runs {
            observed.attached = None;
        }
        let ended = observed.installer.as_ref().is_some_and(|installer| !installer.running());
        let follows = |job: &&Job| ended && job.kind == JobKind::InstallLog && job.state == JobState::Running;
        let follower = observed.jobs.iter().find(follows).map(|job| job.subject.clone());
        if let Some(subject) = follower {
            self.end_job(JobKind::InstallLog, subject);
        }
    }

    /// What happens by itself next. Returns whether anything does.
    pub fn goes_on(&mut self, plan: &Plan) -> bool {
        if self.fixture.observed.outage.take().is_some() || self.ends_jobs() || self.finishes_starting() {
            return true;
        }
        let (now, script_takes, stop_takes) = (self.fixture.now, self.manners.script_takes, self.manners.stop_takes);
        let observed = &self.fixture.observed;
        let running = |found: &Option<ContainerStatus>| found.clone().filter(ContainerStatus::running);
        let script_ends = running(&observed.installer)
            .map(|installer| installer.started_at.unwrap_or(now) + Duration::from_secs(script_takes));
        let stop = observed.stopping().filter(|_| !self.manners.stubborn).cloned();
        let server_ends = stop.map(|stop| time(stop.sent_at) + Duration::from_secs(stop_takes));
        let watched = observed.usage.map(|usage| usage.at + self.fixture.policy.disk_check_interval);
        let again =
            plan.requeue.filter(|again| Some(*again) != watched || running(&observed.server).is_none()).map(time);
        let Some(next) = [script_ends, server_ends, again].into_iter().flatten().min() else { return false };
        let next = next.max(now);
        self.fixture.now = next;
        let observed = &mut self.fixture.observed;
        if script_ends.is_some_and(|at| at <= next) {
            end(observed.installer.as_mut().expect("it runs"), self.manners.exit_code, next);
        }
        if server_ends.is_some_and(|at| at <= next) {
            end(observed.server.as_mut().expect("it runs"), 0, next);
        }
        self.detach_ended();
        true
    }

    fn ends_jobs(&mut self) -> bool {
        let script_runs = self.fixture.observed.installer.as_ref().is_some_and(ContainerStatus::running);
        let ends = |job: &&Job| job.state == JobState::Running && !(script_runs && job.kind == JobKind::InstallLog);
        let ending: Vec<Job> = self.fixture.observed.jobs.iter().filter(ends).cloned().collect();
        for job in &ending {
            self.end_job(job.kind, job.subject.clone());
        }
        !ending.is_empty()
    }

    fn finishes_starting(&mut self) -> bool {
        let observed = &mut self.fixture.observed;
        let attached = observed.server.as_ref().filter(|server| server.running()).map(|server| server.id.clone());
        if attached.is_none() || attached != observed.attached || observed.done_seen == attached {
            return false;
        }
        observed.done_seen = attached;
        true
    }
}

fn end(found: &mut ContainerStatus, code: i64, at: Timestamp) {
    found.state = ContainerState::Exited { code, oom_killed: false };
    found.finished_at = Some(at);
}
