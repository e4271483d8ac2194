//! The planner: what should be done now for one server, and why. Pure.
//!
//! Goes in: intent, facts, one observation, the node's policy, the time. Comes out: steps (done in order, then planned
//! again from a new look), conditions, the words for people and panel, and when to look again although nothing has
//! happened. Every decision of the daemon about a server is made here or in the files below.
//!
//! ```text
//!            deletion mark ──────────────▶ deletion
//!            parked ─────────────────────▶ (nothing)
//!            runtime silent ─────────────▶ (wait)
//!            install intent not done ────▶ install ──┐ stop what runs, then
//!            otherwise ──────────────────▶ power ◀───┘ up, down, or as it is
//!            always ─────────────────────▶ reports
//! ```

mod deletion;
mod install;
mod power;
mod start;
mod stop;
#[cfg(test)]
mod tests;

use serde::Serialize;

use super::job::{JobKind, Subject};
use super::observed::{Job, JobState, Observed, Policy};
use super::step::{self, Step, StepKind};
use crate::model::{
    ConditionStatus, ConditionType, ContainerStatus, InstallOutcome, ManagedBy, Manifest, Phase, PowerState, Reason,
    Record, Requests, Timestamp,
};
use crate::requests::{self, Asked};

/// What a plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The intent in force; none where no file was ever good.
    pub manifest: Option<&'a Manifest>,
    /// What is wrong with the files of intent: reason and message.
    pub problem: Option<(Reason, &'a str)>,
    /// The accepted spec, or a request that it makes, is not recorded yet.
    pub unrecorded: bool,
    /// What was asked.
    pub requests: &'a Requests,
    /// Facts.
    pub record: &'a Record,
    /// The state that was last shown; kept while the runtime is silent.
    pub published: PowerState,
    /// What the look found.
    pub observed: &'a Observed,
    /// The node's settings.
    pub policy: &'a Policy,
    /// The time.
    pub now: Timestamp,
}

/// What should be done, and what to say about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// To be done in order; then the next plan is made.
    #[serde(serialize_with = "step::with_text")]
    pub steps: Vec<Step>,
    /// What is so.
    pub conditions: Vec<Verdict>,
    /// For people.
    pub phase: Phase,
    /// For the panel.
    pub state: PowerState,
    /// Look again at this time, whatever happens. `None`: when something happens.
    pub requeue: Option<Timestamp>,
}

/// A condition without its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// What it is about.
    pub kind: ConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// One word.
    pub reason: Reason,
    /// A sentence.
    pub message: String,
}

/// Makes a plan.
pub fn plan(input: Input<'_>) -> Plan {
    let mut planner = Planner::new(input);
    planner.run();
    planner.set_ready_condition();
    planner.plan
}

/// How far something is that must be there before the next step.
enum Progress {
    Ready,
    Waiting,
    Failed { fatal: bool, attempts: u32, message: String },
}

struct Planner<'a> {
    record: &'a Record,
    observed: &'a Observed,
    policy: &'a Policy,
    now: Timestamp,
    input: Input<'a>,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn new(input: Input<'a>) -> Self {
        Self {
            record: input.record,
            observed: input.observed,
            policy: input.policy,
            now: input.now,
            input,
            plan: Plan {
                steps: Vec::new(),
                conditions: Vec::new(),
                phase: Phase::Created,
                state: PowerState::Offline,
                requeue: None,
            },
        }
    }

    fn run(&mut self) {
        self.set_spec_condition();
        if requests::deletion(self.input.requests).is_some() {
            self.plan_deletion();
            return;
        }
        let Some(manifest) = self.input.manifest else {
            self.plan.state = self.input.published;
            return;
        };
        if self.record.parked.is_some() {
            self.plan.phase = Phase::Parked;
            self.leave_install_line();
            self.plan.state = match self.observed.outage {
                Some(_) => self.input.published,
                None => self.state_as_observed(),
            };
            return;
        }
        if self.input.unrecorded {
            self.step(Step::Accept);
        }
        if let Some(outage) = &self.observed.outage {
            let outage = outage.clone();
            self.set_condition(
                ConditionType::ContainerReady,
                ConditionStatus::Unknown,
                Reason::RuntimeUnreachable,
                outage,
            );
            self.plan.state = self.input.published;
            self.finish(manifest);
            return;
        }
        match self.asked().install() {
            Some(install) => self.plan_install(manifest, &install),
            None => self.plan_installed(manifest),
        }
        self.finish(manifest);
    }

    /// No installation is wanted: see to leftovers, then to power.
    fn plan_installed(&mut self, manifest: &Manifest) {
        self.set_installed_condition();
        self.leave_install_line();
        if let Some(installer) = &self.observed.installer {
            if installer.running() && installer.token.is_none() {
                self.set_condition(
                    ConditionType::Installed,
                    ConditionStatus::Unknown,
                    Reason::ForeignInstaller,
                    "an installer that another daemon started is still running; the server does not start before it has ended"
                        .into(),
                );
            } else {
                self.remove_installer(installer);
            }
        }
        self.plan_power(manifest);
        if !self.observed.prepared && self.plan.steps.is_empty() && !self.held_back(StepKind::Prepare, "") {
            self.step(Step::Prepare);
        }
    }

    /// Whoever does not install (any more) takes nobody's place. An installer that still runs keeps its own.
    fn leave_install_line(&mut self) {
        let runs = self.observed.installer.as_ref().is_some_and(ContainerStatus::running);
        let keeps = self.record.parked.is_some() && (runs || self.observed.outage.is_some());
        if self.observed.in_install_line() && !keeps {
            self.step(Step::ReleaseInstallSlot);
        }
    }

    /// Phase and reports, whatever was planned.
    fn finish(&mut self, manifest: &Manifest) {
        self.plan.phase = if self.asked().install().is_some() {
            match self.observed.installer {
                Some(_) => Phase::Installing,
                None if self.record.install.begun.is_some() => Phase::Installing,
                None => Phase::Created,
            }
        } else if self.plan.state != PowerState::Offline {
            Phase::Online
        } else if self.record.install.done.as_ref().is_some_and(|done| done.outcome == InstallOutcome::Failed) {
            Phase::Failed
        } else {
            Phase::Offline
        };
        self.plan_reports(manifest);
    }

    /// What happened must reach the panel: first the result of an installation, then the states, in order.
    fn plan_reports(&mut self, manifest: &Manifest) {
        if !self.policy.panel || manifest.metadata.managed_by != ManagedBy::Panel {
            return;
        }
        let result = self.record.install.done.as_ref().filter(|done| !done.reported);
        if result.is_none() && !self.state_report_is_due() {
            self.set_condition(
                ConditionType::PanelNotified,
                ConditionStatus::True,
                Reason::Reported,
                "the panel knows what is so".into(),
            );
            return;
        }
        let subject = report_subject(self.record);
        let others = self.plan.steps.len();
        if let Progress::Failed { attempts, message, .. } = self.job(JobKind::Report, &subject, true) {
            let message =
                format!("{message}; {attempts} attempts so far, and it is tried again until the panel has it");
            self.set_condition(ConditionType::PanelNotified, ConditionStatus::False, Reason::PanelAway, message);
        }
        if result.is_none() {
            // Nothing waits for the job; and what people see already, the panel should hear now.
            let added = self.plan.steps.len() - others;
            self.plan.steps.rotate_right(added);
        }
    }

    /// Whether the panel has to learn a state: one that was observed before, or that of this plan. While the engine does not answer
    /// there is no new one.
    fn state_report_is_due(&self) -> bool {
        let known = PowerState::known_to_panel(self.observed.acknowledged, self.record.last_reported);
        let changed = self.observed.outage.is_none() && known != Some(self.plan.state);
        changed || self.observed.unacknowledged
    }

    /// Sums the conditions up. A start that is under way is not ready before its start-up has finished.
    fn set_ready_condition(&mut self) {
        let starting =
            |verdict: &&Verdict| verdict.kind == ConditionType::Running && verdict.reason == Reason::Starting;
        let failing = |verdict: &&Verdict| verdict.kind.is_failing(verdict.status, verdict.reason);
        let conditions = &self.plan.conditions;
        let first = conditions.iter().filter(failing).min_by_key(|verdict| verdict.kind);
        let (status, reason, message) = match first.or(conditions.iter().find(starting)) {
            Some(verdict) if verdict.status == ConditionStatus::Unknown => {
                (ConditionStatus::Unknown, verdict.reason, verdict.message.clone())
            }
            Some(verdict) => (ConditionStatus::False, verdict.reason, verdict.message.clone()),
            None => (ConditionStatus::True, Reason::Ready, "the server is as its spec and requests say".into()),
        };
        self.plan.conditions.insert(0, Verdict { kind: ConditionType::Ready, status, reason, message });
    }

    fn set_spec_condition(&mut self) {
        match self.input.problem {
            Some((reason, message)) => {
                self.set_condition(ConditionType::SpecAccepted, ConditionStatus::False, reason, message.into());
            }
            None => {
                self.set_condition(
                    ConditionType::SpecAccepted,
                    ConditionStatus::True,
                    Reason::Accepted,
                    "the files of intent are in force".into(),
                );
            }
        }
    }

    fn set_installed_condition(&mut self) {
        match &self.record.install.done {
            Some(done) => {
                let status = match done.outcome {
                    InstallOutcome::Succeeded => ConditionStatus::True,
                    InstallOutcome::Failed => ConditionStatus::False,
                };
                self.set_condition(ConditionType::Installed, status, done.reason, done.message.clone());
            }
            None => {
                let message = "no installation was ever asked for".to_string();
                self.set_condition(ConditionType::Installed, ConditionStatus::True, Reason::NotWanted, message);
            }
        }
    }

    /// What was asked of the server, and what became of it.
    fn asked(&self) -> Asked<'a> {
        Asked { requests: self.input.requests, record: self.record, now: self.now }
    }

    fn step(&mut self, step: Step) {
        self.plan.steps.push(step);
    }

    fn set_condition(&mut self, kind: ConditionType, status: ConditionStatus, reason: Reason, message: String) {
        self.plan.conditions.retain(|verdict| verdict.kind != kind);
        self.plan.conditions.push(Verdict { kind, status, reason, message });
    }

    fn requeue_at(&mut self, at: Timestamp) {
        self.plan.requeue = Some(self.plan.requeue.map_or(at, |requeue| requeue.min(at)));
    }

    /// How far a job is; starts it where it has not been, and again when its time has come if `retry`.
    fn job(&mut self, kind: JobKind, subject: &Subject, retry: bool) -> Progress {
        let start = |planner: &mut Self| {
            planner.step(Step::StartJob { job: kind, subject: subject.clone() });
        };
        match self.observed.job(kind, subject) {
            None => {
                start(self);
                Progress::Waiting
            }
            Some(Job { state: JobState::Running, .. }) => Progress::Waiting,
            Some(Job { state: JobState::Done { .. }, .. }) => Progress::Ready,
            Some(Job { state: JobState::Failed { fatal, retry_at, message }, attempts, .. }) => {
                if retry && !fatal {
                    if self.now >= *retry_at {
                        start(self);
                    } else {
                        self.requeue_at(*retry_at);
                    }
                }
                Progress::Failed { fatal: *fatal, attempts: *attempts, message: message.clone() }
            }
        }
    }

    /// Whether a step that failed must still wait; then its time is noted.
    fn held_back(&mut self, step: StepKind, subject: &str) -> bool {
        let Some(failure) = self.observed.failures.get(&step) else { return false };
        if failure.subject != subject || self.now >= failure.retry_at {
            return false;
        }
        self.requeue_at(failure.retry_at);
        true
    }

    /// Failures in a row of a step, and the latest one's message.
    fn failed(&self, step: StepKind, subject: &str) -> Option<(u32, bool, String)> {
        let failure = self.observed.failures.get(&step)?;
        (failure.subject == subject).then(|| (failure.attempts, failure.rejected, failure.message.clone()))
    }

    /// The request that a container serves.
    fn serving<'b>(&'b self, container: &'b ContainerStatus) -> Option<&'b str> {
        self.record.serving(container)
    }

    /// Whether the start-up in this container has finished. One that another daemon made is taken for finished.
    fn started(&self, container: &ContainerStatus) -> bool {
        container.token.is_none()
            || self.record.power.started.as_ref() == Some(&container.id)
            || self.observed.done_seen.as_ref() == Some(&container.id)
    }

    /// The state word for what is there, leaving out starts that have no running container yet.
    fn state_as_observed(&self) -> PowerState {
        match &self.observed.server {
            Some(server) if server.running() && self.observed.stopping().is_some() => PowerState::Stopping,
            Some(server) if server.running() && self.started(server) => PowerState::Running,
            Some(server) if server.running() => PowerState::Starting,
            _ => PowerState::Offline,
        }
    }
}

/// What the report job is for: the result of an installation, or the state.
pub fn report_subject(record: &Record) -> Subject {
    match record.install.done.as_ref().filter(|done| !done.reported) {
        Some(done) => Subject::InstallResult(done.token.clone()),
        None => Subject::State,
    }
}

/// The limit on the server's files in bytes, where there is one.
fn disk_limit(manifest: &Manifest) -> Option<u64> {
    let mib = u64::try_from(manifest.spec.settings.build.disk_space).ok().filter(|mib| *mib > 0)?;
    Some(mib.saturating_mul(1024 * 1024))
}
