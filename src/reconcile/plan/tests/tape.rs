//! Fixtures and models from a tape of bytes. A zero stands for the plainest choice, so that a shrunk tape is a plain fixture.

use std::time::Duration;

use super::fixture::{Fixture, at, container, due, script};
use super::model::Manners;
use super::properties::by_panel;
use crate::model::manifest::Install;
use crate::model::time::Span;
use crate::model::{
    ContainerState, ContainerStatus, InstallOutcome, ManagedBy, PowerState, Reason, Restart, RestartPolicy, Verb,
};
use crate::reconcile::job::JobKind;
use crate::reconcile::observed::JobState;
use crate::reconcile::step::StepKind;
use crate::requests;

/// Choices, one byte each.
#[derive(Clone)]
pub struct Tape {
    bytes: Vec<u8>,
    at: usize,
}

impl std::fmt::Debug for Tape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.bytes.iter().enumerate().filter(|(_, byte)| **byte != 0)).finish()
    }
}

impl Tape {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, at: 0 }
    }

    fn next(&mut self) -> u8 {
        self.at += 1;
        self.bytes.get(self.at - 1).copied().unwrap_or(0)
    }

    fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.next()) % choices.len()].clone()
    }

    /// Something in one case of so many.
    fn one_in(&mut self, many: u8) -> bool {
        self.next() % many == many - 1
    }
}

/// Any scene: also such as no history leads to.
pub fn fixture(tape: &mut Tape) -> Fixture {
    let mut fixture = if tape.one_in(3) { Fixture::file_server() } else { Fixture::panel_server() };
    fixture.policy.panel = !tape.one_in(5);
    fixture.policy.fix_permissions = tape.one_in(2);
    fixture.policy.clean_exit_is_crash = tape.one_in(2);
    let restart = tape.pick(&[
        None,
        None,
        Some(RestartPolicy::Always),
        Some(RestartPolicy::OnFailure),
        Some(RestartPolicy::Never),
    ]);
    fixture.manifest().spec.restart = restart.map(Restart::new);
    (fixture.observed.start_slot, fixture.observed.start_queued) =
        tape.pick(&[(false, false), (true, false), (false, true)]);
    if let Some(wanted) = &mut fixture.observed.wanted {
        wanted.start_limits_hash = tape.pick(&[None, Some("boost".into())]);
    }
    fixture.policy.install_timeout = tape.pick(&[None, Some(Duration::from_secs(100))]);
    wanted(tape, &mut fixture);
    remembered(tape, &mut fixture);
    containers(tape, &mut fixture);
    under_way(tape, &mut fixture);
    fixture
}

fn wanted(tape: &mut Tape, fixture: &mut Fixture) {
    let first_install = tape.one_in(2);
    if first_install {
        installs(tape, fixture);
    }
    for id in ["p0", "p1"] {
        if tape.one_in(2) {
            let verb = tape.pick(&[Verb::Start, Verb::Stop, Verb::Restart, Verb::Kill]);
            let expires = tape.pick(&[None, None, None, Some(-2), Some(30)]);
            *fixture = fixture.clone().asks(id, verb, -1);
            if let Some(seconds) = expires {
                *fixture = fixture.clone().until(seconds);
            }
        }
    }
    if !first_install && tape.one_in(2) {
        installs(tape, fixture);
    }
    let without_panel = !fixture.policy.panel;
    let manifest = fixture.manifest();
    manifest.spec.suspended = tape.one_in(6);
    manifest.spec.settings.build.disk_space = tape.pick(&[0, 0, 100]);
    manifest.spec.settings.skip_egg_scripts = tape.one_in(8);
    let (kind, value) = tape.pick(&[("command", "quit"), ("signal", "C"), ("", ""), ("stop", "")]);
    (manifest.spec.process.stop.kind, manifest.spec.process.stop.value) = (kind.into(), value.into());
    // Files without a script that is to be run are not accepted.
    let of_file = without_panel || manifest.metadata.managed_by == ManagedBy::File;
    manifest.spec.script = (of_file || tape.one_in(2)).then(script);
}

fn installs(tape: &mut Tape, fixture: &mut Fixture) {
    let verb = Verb::Install { reinstall: false, then_start: tape.one_in(2) };
    *fixture = fixture.clone().asks("i1", verb, -10);
    if tape.one_in(8) {
        *fixture = fixture.clone().asks("a1", Verb::Abort, -1);
    }
    let timeout = tape.pick(&[None, Some(Span(Duration::from_secs(50)))]);
    fixture.manifest().spec.install = Some(Install { timeout, ..Install::default() });
}

fn remembered(tape: &mut Tape, fixture: &mut Fixture) {
    let outcome = tape.pick(&[InstallOutcome::Succeeded, InstallOutcome::Failed]);
    let done = tape.pick(&[None, Some("i1"), Some("i0")]);
    let mut next = fixture.clone();
    if let Some(token) = done {
        next = next.install_ended(token, outcome);
        if tape.one_in(2) {
            next = next.reported();
        }
    }
    if let Some(request) = tape.pick(&[None, None, Some("p1"), Some("install:i1"), Some("p0")]) {
        next = next.closed(request, Reason::Stopped);
    }
    for _ in 0..tape.pick(&[0, 0, 1, 2]) {
        let (crashed, ago, restarted) = (tape.pick(&["c0", "c1"]), tape.pick(&[5, 100]), tape.one_in(2));
        next = next.crashed(crashed, ago, restarted);
    }
    let record = &mut next.record;
    record.install.begun = tape.pick(&[None, Some("i1"), Some("i0")]).map(Into::into);
    record.synced_at = tape.pick(&[None, Some(at(-1)), Some(at(-500))]);
    record.synced_for = tape.pick(&[None, Some("p1"), Some("install:i1")]).map(Into::into);
    record.power.begun = tape.pick(&[None, Some("p1"), Some("p0")]).map(Into::into);
    record.power.started = tape.pick(&[None, Some("c1"), Some("c0")]).map(Into::into);
    if tape.one_in(4) {
        next = next.serving("c1", "p1");
    }
    if tape.one_in(8) {
        let again = tape.one_in(2);
        next = next.deleted(again);
    }
    if tape.one_in(16) {
        next.record.parked = Some(at(-100));
    }
    if tape.one_in(24) {
        next.manifest = None;
    }
    next.unrecorded = next.manifest.is_some() && tape.one_in(4);
    next.published = tape.pick(&[PowerState::Offline, PowerState::Running]);
    *fixture = next;
}

fn state(tape: &mut Tape) -> Option<ContainerState> {
    let exited = |code, oom_killed| Some(ContainerState::Exited { code, oom_killed });
    tape.pick(&[
        None,
        Some(ContainerState::Created),
        Some(ContainerState::StartFailed),
        Some(ContainerState::Running),
        Some(ContainerState::Running),
        exited(0, false),
        exited(1, false),
        exited(0, true),
    ])
}

fn containers(tape: &mut Tape, fixture: &mut Fixture) {
    let times = |status: ContainerStatus| {
        let ended = matches!(status.state, ContainerState::Exited { .. });
        ContainerStatus {
            started_at: (ended || status.running()).then_some(at(-60)),
            finished_at: ended.then_some(at(-3)),
            ..status
        }
    };
    if let Some(state) = state(tape) {
        let token = tape.pick(&[Some("p1"), Some("p0"), Some("install:i1"), None]);
        let mut status = times(ContainerStatus { state, ..container("c1", token) });
        if tape.one_in(4) {
            status.spec_hash = Some("old".into());
        }
        if tape.one_in(4) {
            status.limits_hash = Some("old".into());
        }
        fixture.observed.server = Some(status);
        fixture.observed.attached = tape.pick(&[None, Some("c1"), Some("c0")]).map(Into::into);
        fixture.observed.seen_running = tape.pick(&[None, Some("c1"), Some("c0")]).map(Into::into);
        fixture.observed.done_seen = tape.pick(&[None, Some("c1")]).map(Into::into);
    }
    if tape.one_in(2)
        && let Some(state) = state(tape)
    {
        let token = tape.pick(&[Some("i1"), Some("i0"), None]);
        fixture.observed.installer = Some(times(ContainerStatus { state, ..container("n1", token) }));
    }
    if tape.one_in(3) {
        let (container, ago) = (tape.pick(&["c1", "n1", "c0"]), tape.pick(&[1, 30, 700]));
        let next = fixture.clone().stop_sent(container, ago, tape.pick(&[10, 600]));
        *fixture = if tape.one_in(2) { next.kill_sent(1) } else { next };
    }
    fixture.observed.install_slot = tape.one_in(2);
    fixture.observed.install_queued = !fixture.observed.install_slot && tape.one_in(4);
    fixture.observed.script_ready = tape.pick(&[None, Some("i1"), Some("i0")]).map(Into::into);
    fixture.observed.prepared = !tape.one_in(4);
    fixture.reports_states = true;
    let states = [PowerState::Offline, PowerState::Starting, PowerState::Running, PowerState::Stopping];
    fixture.observed.acknowledged = tape.one_in(2).then(|| tape.pick(&states));
    fixture.record.last_reported = tape.one_in(2).then(|| tape.pick(&states));
    fixture.observed.unacknowledged = tape.one_in(3);
    if tape.one_in(16) {
        fixture.observed.outage = Some("no answer".into());
    }
}

fn under_way(tape: &mut Tape, fixture: &mut Fixture) {
    let states = [
        JobState::Running,
        JobState::Done { at: due(-1) },
        JobState::Failed { fatal: false, retry_at: due(4), message: "no answer".into() },
        JobState::Failed { fatal: true, retry_at: due(4), message: "refused".into() },
    ];
    let jobs: [(JobKind, &[&str]); 10] = [
        (JobKind::Sync, &["i1", "p1", "install:i1"]),
        (JobKind::Script, &["i1", "i0"]),
        (JobKind::Image, &["i1 server game:1", "p1 server game:1", "p0 server game:1"]),
        (JobKind::Image, &["i1 installer setup:1", "i0 installer setup:1"]),
        (JobKind::Usage, &["p1", "watch"]),
        (JobKind::ConfigFiles, &["p1", "install:i1"]),
        (JobKind::Permissions, &["p1", "install:i1"]),
        (JobKind::InstallLog, &["n1", "n0"]),
        (JobKind::Report, &["state", "install:i1"]),
        (JobKind::Removal, &["deletion"]),
    ];
    for (kind, subjects) in jobs {
        if !tape.one_in(3) {
            continue;
        }
        let (subject, mut state, attempts) = (tape.pick(subjects), tape.pick(&states), tape.pick(&[1, 2, 5]));
        // Only the panel and registries refuse for good; a refused image of the server waits for another one.
        if !matches!(kind, JobKind::Sync | JobKind::Script)
            && !subject.contains(" installer ")
            && let JobState::Failed { fatal, .. } = &mut state
        {
            *fatal = false;
        }
        // The daemon makes only the reports that are due, and none about a server of a file.
        let report = crate::reconcile::plan::report_subject(&fixture.record);
        let due = by_panel(fixture) && subject == report.to_string() && !matches!(state, JobState::Done { .. });
        if kind == JobKind::Report && !due {
            continue;
        }
        // What was fetched is in the file.
        if kind == JobKind::Script
            && matches!(state, JobState::Done { .. })
            && let Some(manifest) = &mut fixture.manifest
        {
            manifest.spec.script = Some(script());
        }
        // Files are removed, and a removal remembered, only where a deletion was requested.
        if kind == JobKind::Removal && requests::deletion(&fixture.requests).is_none() {
            continue;
        }
        *fixture = fixture.clone().job(kind, subject, state, attempts);
    }
    fixture.observed.usage = None;
    let counted = tape.pick(&[None, Some(50), Some(150)]);
    if let Some(mib) = counted {
        *fixture = fixture.clone().usage(mib);
    }
    if tape.one_in(3) {
        let (step, subject) = tape.pick(&[
            (StepKind::CreateServer, "p1"),
            (StepKind::CreateServer, "install:i1"),
            (StepKind::StartServer, "p1"),
            (StepKind::CreateInstaller, "i1"),
            (StepKind::StartInstaller, "i1"),
            (StepKind::RemoveInstaller, "n1"),
            (StepKind::RemoveServer, "c1"),
            (StepKind::Stop, "c1"),
            (StepKind::Kill, "c1"),
            (StepKind::Kill, "n1"),
            (StepKind::Attach, "c1"),
            (StepKind::Prepare, ""),
            (StepKind::WriteScript, "i1"),
            (StepKind::UpdateLimits, "c1"),
            (StepKind::CloseInstallLog, "n1"),
        ]);
        let (attempts, retry_in, rejected) = (tape.pick(&[1, 2, 3]), tape.pick(&[3, -1]), tape.one_in(2));
        let next = fixture.clone();
        *fixture = match rejected {
            true => next.step_rejected(step, subject, attempts, retry_in),
            false => next.step_unanswered(step, subject, attempts, retry_in),
        };
    }
}

/// How engine, panel and disk behave.
pub fn manners(tape: &mut Tape) -> Manners {
    let kinds = [
        JobKind::Sync,
        JobKind::Script,
        JobKind::Image,
        JobKind::Usage,
        JobKind::ConfigFiles,
        JobKind::Permissions,
        JobKind::InstallLog,
        JobKind::Report,
        JobKind::Removal,
    ];
    Manners {
        stubborn: tape.one_in(3),
        stop_takes: tape.pick(&[0, 5, 100]),
        script_takes: tape.pick(&[10, 1000]),
        exit_code: tape.pick(&[0, 1]),
        usage: tape.pick(&[50, 150]),
        job_failures: kinds.map(|kind| (kind, tape.pick(&[0, 0, 0, 1, 2, 4]))).into(),
        step_failures: tape.one_in(2).then(|| {
            let steps = [
                StepKind::Prepare,
                StepKind::WriteScript,
                StepKind::CreateInstaller,
                StepKind::StartInstaller,
                StepKind::CreateServer,
                StepKind::StartServer,
                StepKind::Stop,
                StepKind::Kill,
                StepKind::RemoveServer,
                StepKind::RemoveInstaller,
                StepKind::Attach,
                StepKind::UpdateLimits,
                StepKind::RecordInstall,
                StepKind::ClosePower,
                StepKind::RecordCrash,
                StepKind::Accept,
                StepKind::Assign,
                StepKind::Forget,
            ];
            (tape.pick(&steps), tape.pick(&[1, 2, 4]), tape.one_in(2))
        }),
    }
}
