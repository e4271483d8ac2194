//! The planner: what is to be done now for one server, and why. Pure.
//!
//! Manifest, requests, record, one observation, the node's policy and the time go in. Steps, conditions, phase and state come out,
//! and when the next pass is due without an event. Steps are executed in order; then the next plan is made from a new observation.
//! Every decision of the daemon about a server is made here or in the files below.
//!
//! ```text
//!            deletion mark ──────────────▶ deletion
//!            parked ─────────────────────▶ (nothing)
//!            engine unreachable ─────────▶ (wait)
//!            install request pending ────▶ install ──┐ stop what runs, then
//!            otherwise ──────────────────▶ power ◀───┘ up, down, or as it is
//!            always ─────────────────────▶ reports
//! ```

#![allow(missing_docs)]

mod crash;
mod deletion;
mod disk;
mod install;
mod operations;
mod power;
mod staged;
mod start;
mod stop;
#[cfg(test)]
mod tests;
mod transfer;
mod up_to_date;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::job::{JobKind, Subject};
use super::observed::{Failure, Job, JobState, Observed, Policy};
use super::step::{self, Step, StepKind};
use crate::clock::Moment;
use crate::model::{
    ConditionStatus, ConditionType, ContainerStatus, InstallOutcome, Manifest, Phase, PowerState, Reason, Record,
    Requests, Timestamp,
};
use crate::requests::{self, Asked};

/// What a plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The effective manifest; none where no file was ever valid.
    pub manifest: Option<&'a Manifest>,
    /// What is wrong with the manifest's files: reason and message.
    pub problem: Option<(Reason, &'a str)>,
    /// The accepted spec, or a request that it makes, is not recorded yet.
    pub unrecorded: bool,
    pub requests: &'a Requests,
    pub record: &'a Record,
    /// The published state; it is kept while the engine does not answer.
    pub published: PowerState,
    pub observed: &'a Observed,
    pub policy: &'a Policy,
    pub now: Moment,
}

/// What is to be done, and what is published.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    #[serde(serialize_with = "step::with_text")]
    pub steps: Vec<Step>,
    pub conditions: Vec<Verdict>,
    pub phase: Phase,
    pub state: PowerState,
    /// When the next pass is due. `None`: at the next event.
    #[serde(skip)]
    pub requeue: Option<Instant>,
    /// The same as a time of day, for people.
    #[serde(rename = "requeue")]
    pub requeue_time: Option<Timestamp>,
}

/// A condition without its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    pub kind: ConditionType,
    pub status: ConditionStatus,
    pub reason: Reason,
    pub message: String,
}

/// Makes a plan.
pub fn plan(input: Input<'_>) -> Plan {
    let Input { record, observed, policy, now, .. } = input;
    let Moment { time, instant } = now;
    let (needs_start_slot, waits_for_quota, plan) = (false, false, Plan::default());
    let mut planner =
        Planner { record, observed, policy, now: time, instant, input, needs_start_slot, waits_for_quota, plan };
    planner.run();
    planner.release_start_slot();
    planner.set_ready_condition();
    planner.plan.requeue_time = planner.plan.requeue.map(|at| now.time_at(at));
    planner.plan
}

/// How far a job is whose result the next step needs.
enum Progress<'a> {
    Ready,
    Waiting,
    Failed { fatal: bool, attempts: u32, message: &'a str },
}

struct Planner<'a> {
    record: &'a Record,
    observed: &'a Observed,
    policy: &'a Policy,
    /// The time of day, for what is recorded.
    now: Timestamp,
    /// The same moment, for what is due.
    instant: Instant,
    input: Input<'a>,
    /// The start needs a slot, or waits for one.
    needs_start_slot: bool,
    /// The files are not under their project quota yet.
    waits_for_quota: bool,
    plan: Plan,
}

impl<'a> Planner<'a> {
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
        if let Some(since) = self.record.parked {
            self.plan.phase = Phase::Parked;
            self.set_parked_condition(manifest, since);
            self.release_slot();
            self.measure_where_due();
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
            self.set_unknown(ConditionType::ContainerReady, Reason::RuntimeUnreachable, outage);
            self.plan.state = self.input.published;
            // Writers wait for it, and need no engine.
            self.measure_where_due();
            self.finish();
            return;
        }
        self.waits_for_quota = !self.keep_quota(manifest);
        match self.asked().install() {
            // An installation waits for the end of a restore or transfer.
            Some(install) if self.files_held_for().is_none() => self.plan_install(manifest, &install),
            _ => self.plan_installed(manifest),
        }
        self.measure_where_due();
        self.compare_fields(manifest);
        self.compare_limits();
        self.compare_files();
        self.remove_duplicates();
        self.finish();
    }

    /// A running container keeps the directory that it has mounted, also after the directory was replaced or removed.
    fn compare_files(&mut self) {
        let Some(server) = self.observed.server.as_ref().filter(|server| server.running()) else { return };
        if server.files.is_none() || server.files == self.observed.files {
            return;
        }
        let message = "the server's files were replaced while it ran: it still writes into the former ones, which are lost when it \
                       ends. Stop the server, restore its files once more, then start it";
        self.set_false(ConditionType::ContainerReady, Reason::FilesReplaced, message);
    }

    /// Two containers must not write to the same files. A person has renamed one of them, or started one by hand.
    fn remove_duplicates(&mut self) {
        let Some(server) = &self.observed.server else { return };
        for container in &server.others {
            let message =
                format!("the container {container} of this server runs, too, on the same files; it is removed");
            self.set_false(ConditionType::ContainerReady, Reason::DuplicateContainer, message);
            if !self.held_back(StepKind::RemoveServer, container) {
                self.plan.steps.insert(0, Step::RemoveServer { container: container.clone() });
            }
        }
    }

    /// No installation is pending: a leftover installer is removed, then power is planned.
    fn plan_installed(&mut self, manifest: &Manifest) {
        self.set_installed_condition();
        self.release_slot();
        if let Some(installer) = &self.observed.installer {
            if self.is_left_by_wings(installer) {
                self.adopt_installer(installer);
                return;
            }
            if installer.running() && installer.token.is_none() {
                let message = "an installer of another daemon runs beside the server; the server does not start again before it has ended";
                self.set_unknown(ConditionType::Installed, Reason::ForeignInstaller, message);
            } else {
                self.remove_installer(installer);
            }
        }
        self.plan_power(manifest);
        if !self.observed.prepared && self.plan.steps.is_empty() {
            self.try_step(Step::Prepare);
        }
    }

    /// Releases the install slot when no install is pending. A parked server whose installer still runs keeps it.
    fn release_slot(&mut self) {
        let runs = self.observed.installer.as_ref().is_some_and(ContainerStatus::running);
        let keeps = self.record.parked.is_some() && (runs || self.observed.outage.is_some());
        if self.observed.has_install_slot_or_waits() && !keeps {
            self.step(Step::ReleaseInstallSlot);
        }
    }

    /// Sets the phase and plans the reports, whatever else was planned.
    fn finish(&mut self) {
        self.plan.phase = if self.asked().install().is_some() {
            let begun = self.observed.installer.is_some() || self.record.install.begun.is_some();
            if begun { Phase::Installing } else { Phase::Created }
        } else if self.plan.state != PowerState::Offline {
            Phase::Online
        } else if self.record.install.has_failed() {
            Phase::Failed
        } else {
            Phase::Offline
        };
        self.plan_reports();
        self.plan_operations();
        self.set_recorded_condition();
    }

    /// Nothing goes on before what was decided is on disk. A failure whose step is no longer needed does not count.
    fn set_recorded_condition(&mut self) {
        let steps = &self.plan.steps;
        let needed = |kind: StepKind, failure: &Failure| {
            let planned = |step: &Step| step.kind() == kind && step.subject() == failure.subject;
            self.instant < failure.retry_at || steps.iter().any(planned)
        };
        let failures = self.observed.failures.iter();
        let failed = failures.filter(|(kind, _)| kind.is_record()).find(|(kind, failure)| needed(**kind, failure));
        if let Some((_, Failure { attempts, message, .. })) = failed {
            let message = format!("{message}; attempt {attempts}, tried again");
            self.set_false(ConditionType::Recorded, Reason::CannotRecord, message);
        }
    }

    /// Plans the report to the panel: first the result of an installation, then the states in order.
    fn plan_reports(&mut self) {
        if !self.is_managed_by_panel() {
            return;
        }
        let result = self.record.install.unreported();
        if result.is_none() && !self.state_report_is_due() {
            self.set_true(ConditionType::PanelNotified, Reason::Reported, "the panel has the current state");
            return;
        }
        let subject = report_subject(self.record);
        let others = self.plan.steps.len();
        if let Progress::Failed { attempts, message, .. } = self.job(JobKind::Report, &subject, true) {
            let message =
                format!("{message}; {attempts} attempts so far, and it is tried again until the panel has it");
            self.set_false(ConditionType::PanelNotified, Reason::PanelAway, message);
        }
        if result.is_none() {
            // No step waits for a report of a state. It comes first, because the state is published already.
            let added = self.plan.steps.len() - others;
            self.plan.steps.rotate_right(added);
        }
    }

    /// Whether a state is to be reported: one that was published before, or that of this plan. While the engine does not answer there
    /// is no new one.
    fn state_report_is_due(&self) -> bool {
        let known = PowerState::known_to_panel(self.observed.acknowledged, self.record.last_reported);
        let changed = self.observed.outage.is_none() && known != Some(self.plan.state);
        changed || self.observed.unacknowledged
    }

    /// Sums the conditions up. A server is not ready before its start-up has finished.
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
            Some((reason, message)) => self.set_false(ConditionType::SpecAccepted, reason, message),
            None => self.set_true(ConditionType::SpecAccepted, Reason::Accepted, "the manifest is effective"),
        }
    }

    fn set_parked_condition(&mut self, manifest: &Manifest, since: Timestamp) {
        let message = format!(
            "the panel has not listed this server since {since}: it is left as it is, and keeps its ports while it runs. List it in the \
             panel again, apply its file with managedBy: file, or remove it for good: `alula delete {}`",
            manifest.metadata.uuid
        );
        self.set_false(ConditionType::Listed, Reason::Parked, message);
    }

    fn set_installed_condition(&mut self) {
        match &self.record.install.done {
            Some(done) => {
                let succeeded = done.outcome == InstallOutcome::Succeeded;
                let status = if succeeded { ConditionStatus::True } else { ConditionStatus::False };
                let mut message = done.message.clone();
                if self.installation_holds_start() {
                    message += "; the server does not start. Run `alula install` again, or change spec.install.version; \
                                spec.settings.skip_egg_scripts: true starts it as it is";
                }
                self.set_condition(ConditionType::Installed, status, done.reason, message);
            }
            None => self.set_true(ConditionType::Installed, Reason::NotWanted, "no installation was requested"),
        }
    }

    /// Whether the server has no start after a failed installation. A panel has its own rule: it asks for no start then.
    fn installation_holds_start(&self) -> bool {
        let skipped = self.input.manifest.is_some_and(|manifest| manifest.spec.settings.skip_egg_scripts);
        self.record.install.has_failed() && !skipped && !self.is_managed_by_panel()
    }

    /// Whether the panel is asked about the server and gets its reports.
    fn is_managed_by_panel(&self) -> bool {
        self.policy.panel && self.input.manifest.is_some_and(Manifest::is_managed_by_panel)
    }

    /// The requests, and what became of them.
    fn asked(&self) -> Asked<'a> {
        Asked { requests: self.input.requests, record: self.record, now: self.now }
    }

    fn step(&mut self, step: Step) {
        self.plan.steps.push(step);
    }

    /// Adds a step, unless it has failed and is not due yet.
    fn try_step(&mut self, step: Step) {
        if !self.held_back(step.kind(), &step.subject()) {
            self.step(step);
        }
    }

    fn set_condition(&mut self, kind: ConditionType, status: ConditionStatus, reason: Reason, message: String) {
        self.plan.conditions.retain(|verdict| verdict.kind != kind);
        self.plan.conditions.push(Verdict { kind, status, reason, message });
    }

    fn set_true(&mut self, kind: ConditionType, reason: Reason, message: impl Into<String>) {
        self.set_condition(kind, ConditionStatus::True, reason, message.into());
    }

    fn set_false(&mut self, kind: ConditionType, reason: Reason, message: impl Into<String>) {
        self.set_condition(kind, ConditionStatus::False, reason, message.into());
    }

    fn set_unknown(&mut self, kind: ConditionType, reason: Reason, message: impl Into<String>) {
        self.set_condition(kind, ConditionStatus::Unknown, reason, message.into());
    }

    fn requeue_at(&mut self, at: Instant) {
        self.plan.requeue = Some(self.plan.requeue.map_or(at, |requeue| requeue.min(at)));
    }

    /// How far a job is. Starts it where it was not, and again when its next attempt is due if `retry`.
    fn job(&mut self, kind: JobKind, subject: &Subject, retry: bool) -> Progress<'a> {
        let start = Step::StartJob { job: kind, subject: subject.clone() };
        match self.observed.job(kind, subject) {
            None => {
                self.step(start);
                Progress::Waiting
            }
            Some(Job { state: JobState::Running, .. }) => Progress::Waiting,
            Some(Job { state: JobState::Done { .. }, .. }) => Progress::Ready,
            Some(Job { state: JobState::Failed { fatal, retry_at, message }, attempts, .. }) => {
                if retry && !fatal {
                    if self.instant >= *retry_at {
                        self.step(start);
                    } else {
                        self.requeue_at(*retry_at);
                    }
                }
                Progress::Failed { fatal: *fatal, attempts: *attempts, message }
            }
        }
    }

    /// Whether a step that failed is not due yet; then its time is noted.
    fn held_back(&mut self, step: StepKind, subject: &str) -> bool {
        let due = self.failed(step, subject).map(|failure| failure.retry_at).filter(|due| self.instant < *due);
        due.into_iter().for_each(|due| self.requeue_at(due));
        due.is_some()
    }

    /// The failure of a step, unless it has succeeded since.
    fn failed(&self, step: StepKind, subject: &str) -> Option<&'a Failure> {
        self.observed.failures.get(&step).filter(|failure| failure.subject == subject)
    }

    /// Whether the folders are in place. If not, creating them is the next step, and `waiting` says why that failed.
    fn prepared(&mut self, waiting: ConditionType) -> bool {
        if self.observed.prepared {
            return true;
        }
        if let Some(failure) = self.failed(StepKind::Prepare, "") {
            self.set_false(waiting, Reason::FoldersInTheWay, &failure.message);
        }
        self.try_step(Step::Prepare);
        false
    }

    /// Whether the start-up in this container has finished. That of another daemon's container counts as finished.
    fn started(&self, container: &ContainerStatus) -> bool {
        container.token.is_none() || self.start_up_was_seen(container)
    }

    /// Whether this node has seen the end of the start-up. Until then the container's log is read when its terminal is attached, so
    /// that the transcript has what was printed before.
    fn start_up_was_seen(&self, container: &ContainerStatus) -> bool {
        self.record.power.started.as_ref() == Some(&container.id)
            || self.observed.done_seen.as_ref() == Some(&container.id)
    }

    /// The state of the container, without starts that have no running container yet.
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
    match record.install.unreported() {
        Some(done) => Subject::InstallResult(done.token.clone()),
        None => Subject::State,
    }
}
