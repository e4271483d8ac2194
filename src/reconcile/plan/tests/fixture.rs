//! A server in words: `Fixture::panel_server().installed().wants_up("p1").container_running("c1", "p1")`.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Moment;
use crate::model::manifest::{Install, Script};
use crate::model::record::{Crash, Handled, InstallResult, Serving};
use crate::model::time::Span;
use crate::model::{
    ContainerState, ContainerStatus, InstallOutcome, ManagedBy, Manifest, PowerState, Reason, Record, Request,
    Requester, Requests, Role, Timestamp, Verb,
};
use crate::reconcile::job::{JobKind, Subject};
use crate::reconcile::observed::{
    CrashTime, Failure, Job, JobState, Lifetime, Observed, Policy, StopProgress, Usage, WantedContainer,
};
use crate::reconcile::plan::{Input, Plan, plan};
use crate::reconcile::step::StepKind;
use crate::requests::{Asked, start_id};

/// The present of every scene.
pub const NOW: i64 = 1_800_000_000;
/// The image of the server.
pub const IMAGE: &str = "game:1";
/// The image of the install script.
pub const INSTALLER_IMAGE: &str = "setup:1";

/// A node with a panel and the defaults otherwise.
pub fn policy() -> Policy {
    Policy {
        panel: true,
        crash_detection: true,
        clean_exit_is_crash: true,
        crash_timeout: Duration::from_secs(60),
        install_timeout: None,
        fail_on_nonzero_exit: false,
        fix_permissions: true,
        disk_check_interval: Duration::from_secs(150),
        file_events: false,
    }
}

/// So many seconds from now.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis((NOW + seconds) * 1000)
}

/// The instant at a time.
pub fn instant(time: Timestamp) -> Instant {
    static START: LazyLock<Instant> = LazyLock::new(|| Instant::now() + DAY);
    *START + time.since(at(0)) - at(0).since(time)
}

/// The same for so many seconds from now.
pub fn due(seconds: i64) -> Instant {
    instant(at(seconds))
}

/// The time at an instant.
pub fn time(at_instant: Instant) -> Timestamp {
    at(0) + at_instant.saturating_duration_since(due(0)) - due(0).saturating_duration_since(at_instant)
}

const DAY: Duration = Duration::from_secs(86_400);

/// Everything that a plan is made from.
#[derive(Debug, Clone)]
pub struct Fixture {
    pub manifest: Option<Manifest>,
    pub problem: Option<(Reason, String)>,
    pub unrecorded: bool,
    pub requests: Requests,
    pub record: Record,
    pub published: PowerState,
    pub observed: Observed,
    pub policy: Policy,
    pub now: Timestamp,
    /// The seconds by which the clock was set forward a moment ago.
    pub clock_step: i64,
    /// Plans report states. Otherwise the panel has acknowledged the state of each plan.
    pub reports_states: bool,
}

/// A container as it is a moment after its making.
pub fn container(id: &str, token: Option<&str>) -> ContainerStatus {
    ContainerStatus {
        id: id.into(),
        state: ContainerState::Created,
        paused: false,
        process: None,
        started_at: None,
        finished_at: None,
        token: token.map(Into::into),
        spec_hash: token.map(|_| "spec".into()),
        limits_hash: Some("limits".into()),
        image: Some("game:1".into()),
        fields: None,
        ports: Vec::new(),
        stop_signal: None,
        others: Vec::new(),
        files: None,
    }
}

/// The same after the engine could not start it.
pub fn could_not_start(id: &str, token: &str) -> ContainerStatus {
    ContainerStatus { state: ContainerState::StartFailed, ..container(id, Some(token)) }
}

impl Fixture {
    fn new(managed_by: ManagedBy) -> Self {
        let id = "550e8400-e29b-41d4-a716-446655440000".parse().unwrap();
        let mut manifest = Manifest::new(id, managed_by);
        manifest.spec.settings.container.image = IMAGE.into();
        manifest.spec.process.stop.kind = "command".into();
        manifest.spec.process.stop.value = "quit".into();
        Self {
            manifest: Some(manifest),
            problem: None,
            unrecorded: false,
            requests: Requests::default(),
            record: Record { generation: 1, ..Record::default() },
            published: PowerState::Offline,
            observed: Observed {
                wanted: Some(WantedContainer {
                    spec_hash: Some("spec".into()),
                    limits_hash: "limits".into(),
                    image: IMAGE.into(),
                    ..WantedContainer::default()
                }),
                prepared: true,
                ..Observed::default()
            },
            policy: policy(),
            now: at(0),
            clock_step: 0,
            reports_states: false,
        }
    }

    /// A server of the panel, of which nothing is there but its folders.
    pub fn panel_server() -> Self {
        Self::new(ManagedBy::Panel)
    }

    /// A server that lives from its file alone.
    pub fn file_server() -> Self {
        Self::new(ManagedBy::File)
    }

    pub fn plan(&self) -> Plan {
        let planned = self.plan_from(&self.observed);
        if self.reports_states {
            return planned;
        }
        self.plan_from(&Observed { acknowledged: Some(planned.state), ..self.observed.clone() })
    }

    fn plan_from(&self, observed: &Observed) -> Plan {
        let now = Moment { time: self.now, instant: instant(self.now) };
        let mut with_unrecorded = self.record.clone();
        with_unrecorded.crashes.extend(observed.crash.clone());
        let observed = Observed {
            server_run: Lifetime::of(observed.server.as_ref(), now),
            installer_run: Lifetime::of(observed.installer.as_ref(), now),
            restart: CrashTime::of(&with_unrecorded, now),
            ..observed.clone()
        };
        plan(Input {
            manifest: self.manifest.as_ref(),
            problem: self.problem.as_ref().map(|(reason, message)| (*reason, message.as_str())),
            unrecorded: self.unrecorded,
            requests: &self.requests,
            record: &self.record,
            published: self.published,
            observed: &observed,
            policy: &self.policy,
            now: Moment { time: Timestamp::from_millis(now.time.as_millis() + self.clock_step * 1000), ..now },
        })
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn manifest(&mut self) -> &mut Manifest {
        self.manifest.as_mut().expect("the fixture has a manifest")
    }

    // What was asked.

    /// A request that was accepted so many seconds from now, after all that were before.
    pub fn asks(self, id: &str, verb: Verb, seconds: i64) -> Self {
        self.with(|fixture| {
            let requests = &mut fixture.requests;
            requests.sequence += 1;
            let (sequence, id, at) = (requests.sequence, id.into(), at(seconds));
            requests.accepted.push(Request {
                sequence,
                id,
                at,
                expires_at: None,
                timeout: None,
                by: Requester::Panel,
                verb,
            });
        })
    }

    pub fn wants_up(self, id: &str) -> Self {
        self.asks(id, Verb::Start, -1)
    }

    pub fn wants_restart(self, id: &str) -> Self {
        self.asks(id, Verb::Restart, -1)
    }

    pub fn wants_down(self, id: &str) -> Self {
        self.asks(id, Verb::Stop, -1)
    }

    pub fn wants_it_killed(self, id: &str) -> Self {
        self.asks(id, Verb::Kill, -1)
    }

    /// The latest request expires so many seconds from now.
    pub fn until(self, seconds: i64) -> Self {
        self.with(|fixture| fixture.requests.accepted.last_mut().unwrap().expires_at = Some(at(seconds)))
    }

    /// What was asked, and what became of it.
    pub fn asked(&self) -> Asked<'_> {
        Asked { requests: &self.requests, record: &self.record, now: self.now }
    }

    fn sequence_of(&self, id: &str) -> u64 {
        let known = |request: &&Request| request.id == id || start_id(&request.id) == id;
        self.requests.accepted.iter().find(known).map_or(0, |request| request.sequence)
    }

    /// An installation that was asked for ten seconds ago.
    pub fn wants_install(self, token: &str) -> Self {
        let fixture = self.with(|fixture| {
            fixture.requests.accepted.retain(|old| !matches!(old.verb, Verb::Install { .. }));
            if fixture.manifest().metadata.managed_by == ManagedBy::File {
                fixture.manifest().spec.script = Some(script());
            }
        });
        fixture.asks(token, Verb::Install { reinstall: false, then_start: false }, -10)
    }

    pub fn install(self, change: impl FnOnce(&mut Request)) -> Self {
        self.with(|fixture| {
            let mut requests = fixture.requests.accepted.iter_mut();
            change(requests.rfind(|request| matches!(request.verb, Verb::Install { .. })).unwrap());
        })
    }

    pub fn then_start(self) -> Self {
        self.install(|install| install.verb = Verb::Install { reinstall: false, then_start: true })
    }

    pub fn install_timeout(self, seconds: u64) -> Self {
        self.with(|fixture| {
            let timeout = Some(Span(Duration::from_secs(seconds)));
            fixture.manifest().spec.install = Some(Install { timeout, ..Install::default() });
        })
    }

    pub fn suspended(self) -> Self {
        self.with(|fixture| fixture.manifest().spec.suspended = true)
    }

    pub fn stops_by(self, kind: &str, value: &str) -> Self {
        self.with(|fixture| {
            let stop = &mut fixture.manifest().spec.process.stop;
            (stop.kind, stop.value) = (kind.into(), value.into());
        })
    }

    pub fn disk_limit(self, mib: i64) -> Self {
        self.with(|fixture| fixture.manifest().spec.settings.build.disk_space = mib)
    }

    // What was done.

    /// The panel's answer about the configuration is newer than every request.
    pub fn synced(self) -> Self {
        self.with(|fixture| fixture.record.synced_at = Some(at(0)))
    }

    /// The panel was asked for the start of this request.
    pub fn synced_for(self, key: &str) -> Self {
        self.synced().with(|fixture| fixture.record.synced_for = Some(key.into()))
    }

    /// The install script of this token was fetched.
    pub fn script_fetched(self, token: &str) -> Self {
        self.with(|fixture| {
            fixture.record.install.begun = Some(token.into());
            fixture.manifest().spec.script = Some(script());
        })
    }

    /// An installation with this token ended five seconds ago and is not reported yet.
    pub fn install_ended(self, token: &str, outcome: InstallOutcome) -> Self {
        self.with(|fixture| {
            fixture.record.install.done = Some(InstallResult {
                token: token.into(),
                sequence: fixture.sequence_of(token),
                outcome,
                reinstall: false,
                exit_code: Some(0),
                reason: Reason::Completed,
                message: "the install script ran to its end".into(),
                at: at(-5),
                reported: false,
            });
        })
    }

    /// The panel knows how the last installation ended.
    pub fn reported(self) -> Self {
        self.with(|fixture| fixture.record.install.done.as_mut().unwrap().reported = true)
    }

    /// An installation has succeeded long ago, and the panel knows.
    pub fn installed(self) -> Self {
        self.wants_install("i0")
            .install(|install| install.at = at(-1000))
            .install_ended("i0", InstallOutcome::Succeeded)
            .reported()
    }

    pub fn closed(self, id: &str, reason: Reason) -> Self {
        self.with(|fixture| {
            let (sequence, message) = (fixture.sequence_of(id), format!("closed: {reason}"));
            let verb = Verb::Start;
            fixture.record.power.handled = Some(Handled { sequence, id: id.into(), verb, reason, message, at: at(-1) });
        })
    }

    pub fn begun(self, request: &str) -> Self {
        self.with(|fixture| fixture.record.power.begun = Some(request.into()))
    }

    pub fn started(self, container: &str) -> Self {
        self.with(|fixture| fixture.record.power.started = Some(container.into()))
    }

    pub fn serving(self, container: &str, request: &str) -> Self {
        self.with(|fixture| {
            fixture.record.power.serving = Some(Serving { container: container.into(), power: request.into() });
        })
    }

    /// A crash so many seconds ago.
    pub fn crashed(self, container: &str, seconds_ago: i64, restarted: bool) -> Self {
        self.with(|fixture| {
            let at = at(-seconds_ago);
            let (container, power) = (container.into(), "p1".into());
            fixture.record.push_crash(Crash { container, at, exit_code: 1, restarted, power, ..Crash::default() });
        })
    }

    /// The server is to be deleted, and made again after that if `again`.
    pub fn deleted(self, again: bool) -> Self {
        let fixture = self.asks("d0", Verb::Delete, -1);
        if again { fixture.asks("i9", Verb::Install { reinstall: false, then_start: false }, -1) } else { fixture }
    }

    // What is there.

    pub fn container(self, server: ContainerStatus) -> Self {
        self.with(|fixture| fixture.observed.server = Some(server))
    }

    /// The server's container was made for this request and never started.
    pub fn container_made(self, id: &str, request: &str) -> Self {
        self.container(container(id, Some(request)))
    }

    /// The server's container runs for this request since a minute; it is attached, and its start-up is over.
    pub fn container_running(self, id: &str, request: &str) -> Self {
        let server = ContainerStatus {
            state: ContainerState::Running,
            started_at: Some(at(-60)),
            ..container(id, Some(request))
        };
        self.container(server).seen_running(id).attached(id).started(id)
    }

    /// The server's container has run for this request, seen by this daemon, and ended a second ago.
    pub fn container_exited(self, id: &str, request: &str, code: i64) -> Self {
        let server = ContainerStatus {
            state: ContainerState::Exited { code, oom_killed: false },
            started_at: Some(at(-60)),
            finished_at: Some(at(-1)),
            ..container(id, Some(request))
        };
        self.container(server).seen_running(id).started(id)
    }

    pub fn seen_running(self, id: &str) -> Self {
        self.with(|fixture| fixture.observed.seen_running = Some(id.into()))
    }

    pub fn attached(self, id: &str) -> Self {
        self.with(|fixture| fixture.observed.attached = Some(id.into()))
    }

    /// The daemon has just come up: of what it remembered between passes nothing is left.
    pub fn daemon_restarted(self) -> Self {
        self.with(|fixture| {
            let install_slot = fixture.installer_runs();
            let old = std::mem::take(&mut fixture.observed);
            fixture.observed = Observed {
                server: old.server,
                installer: old.installer,
                wanted: old.wanted,
                prepared: old.prepared,
                install_slot,
                ..Observed::default()
            };
        })
    }

    fn installer_runs(&self) -> bool {
        self.observed.installer.as_ref().is_some_and(ContainerStatus::running)
    }

    pub fn installer(self, installer: ContainerStatus) -> Self {
        self.with(|fixture| fixture.observed.installer = Some(installer))
    }

    pub fn installer_made(self, id: &str, token: &str) -> Self {
        self.installer(container(id, Some(token)))
    }

    /// The installer runs since a minute, and its output is followed.
    pub fn installer_running(self, id: &str, token: &str) -> Self {
        let installer =
            ContainerStatus { state: ContainerState::Running, started_at: Some(at(-60)), ..container(id, Some(token)) };
        self.installer(installer).slot().job_running(JobKind::InstallLog, id)
    }

    /// The installer has run for a minute and ended a second ago, and its follower with it.
    pub fn installer_exited(self, id: &str, token: &str, code: i64) -> Self {
        let installer = ContainerStatus {
            state: ContainerState::Exited { code, oom_killed: false },
            started_at: Some(at(-61)),
            finished_at: Some(at(-1)),
            ..container(id, Some(token))
        };
        self.installer(installer).slot().job_done(JobKind::InstallLog, id)
    }

    pub fn slot(self) -> Self {
        self.with(|fixture| fixture.observed.install_slot = true)
    }

    pub fn script_ready(self, token: &str) -> Self {
        self.with(|fixture| fixture.observed.script_ready = Some(token.into()))
    }

    /// A stop was sent so many seconds ago, with so many seconds to go from then.
    pub fn stop_sent(self, container: &str, seconds_ago: i64, grace: i64) -> Self {
        self.with(|fixture| {
            let stop = StopProgress {
                container: container.into(),
                sent_at: due(-seconds_ago),
                deadline: due(grace - seconds_ago),
                rejected: false,
                killed_at: None,
            };
            // Installers are called n1, n2, …
            match container.starts_with('n') {
                true => fixture.observed.installer_stop = Some(stop),
                false => fixture.observed.stop = Some(stop),
            }
        })
    }

    /// The latest request has a timeout.
    pub fn within(self, seconds: u64) -> Self {
        self.with(|fixture| {
            let timeout = Some(Span(Duration::from_secs(seconds)));
            fixture.requests.accepted.last_mut().unwrap().timeout = timeout;
        })
    }

    /// The manifest has a timeout for stops.
    pub fn stops_within(self, seconds: u64) -> Self {
        self.with(|fixture| fixture.manifest().spec.process.stop.timeout = Some(Span(Duration::from_secs(seconds))))
    }

    pub fn paused(self) -> Self {
        self.with(|fixture| fixture.observed.server.as_mut().unwrap().paused = true)
    }

    /// SIGKILL followed so many seconds ago.
    pub fn kill_sent(self, seconds_ago: i64) -> Self {
        self.with(|fixture| {
            let observed = &mut fixture.observed;
            for stop in [&mut observed.stop, &mut observed.installer_stop].into_iter().flatten() {
                stop.killed_at = Some(due(-seconds_ago));
            }
        })
    }

    pub fn usage(self, mib: u64) -> Self {
        self.with(|fixture| {
            fixture.observed.usage = Some(Usage { bytes: mib * 1024 * 1024, hidden: false, at: due(-1) })
        })
    }

    // Background jobs, and failed steps.

    pub fn job(self, kind: JobKind, subject: &str, state: JobState, attempts: u32) -> Self {
        self.with(|fixture| {
            let subject = subject_of(kind, subject);
            fixture.observed.jobs.retain(|old| old.kind != kind || !subject.replaces(&old.subject));
            fixture.observed.jobs.push(Job { kind, subject, state, attempts });
        })
    }

    pub fn job_running(self, kind: JobKind, subject: &str) -> Self {
        self.job(kind, subject, JobState::Running, 1)
    }

    pub fn job_done(self, kind: JobKind, subject: &str) -> Self {
        self.job(kind, subject, JobState::Done { at: due(-1) }, 1)
    }

    /// A job that has failed and is due again in so many seconds.
    pub fn job_failed(self, kind: JobKind, subject: &str, attempts: u32, retry_in: i64) -> Self {
        let state = JobState::Failed { fatal: false, retry_at: due(retry_in), message: "no answer".into() };
        self.job(kind, subject, state, attempts)
    }

    /// A job that was refused for good.
    pub fn job_rejected(self, kind: JobKind, subject: &str) -> Self {
        let state = JobState::Failed { fatal: true, retry_at: due(1), message: "refused".into() };
        self.job(kind, subject, state, 1)
    }

    /// A step that the engine has refused so often, and is due again in so many seconds.
    pub fn step_rejected(self, step: StepKind, subject: &str, attempts: u32, retry_in: i64) -> Self {
        self.with(|fixture| {
            let failure = Failure {
                subject: subject.into(),
                attempts,
                rejected: true,
                retry_at: due(retry_in),
                message: "the engine said no".into(),
            };
            fixture.observed.failures.insert(step, failure);
        })
    }

    /// The same, but because the engine did not answer.
    pub fn step_unanswered(self, step: StepKind, subject: &str, attempts: u32, retry_in: i64) -> Self {
        self.step_rejected(step, subject, attempts, retry_in)
            .with(|fixture| fixture.observed.failures.get_mut(&step).unwrap().rejected = false)
    }

    /// Everything that a start needs is there but a container.
    pub fn ready_to_start(self, key: &str) -> Self {
        self.synced_for(key)
            .job_done(JobKind::Image, &format!("{key} server {IMAGE}"))
            .job_done(JobKind::Permissions, key)
    }

    /// Everything that an installation needs is there but a container of its own.
    pub fn ready_to_install(self, token: &str) -> Self {
        self.synced()
            .script_fetched(token)
            .slot()
            .job_done(JobKind::Image, &format!("{token} server {IMAGE}"))
            .job_done(JobKind::Image, &format!("{token} installer {INSTALLER_IMAGE}"))
            .container_made("c0", &format!("install:{token}"))
            .script_ready(token)
    }
}

/// What a job is for, by its text: installations are named `i1` and so on.
pub fn subject_of(kind: JobKind, text: &str) -> Subject {
    let attempt = |id: &str| match id.strip_prefix('i').is_some_and(|rest| rest.starts_with(char::is_numeric)) {
        true => Subject::Install(id.into()),
        false => Subject::Start(id.into()),
    };
    let subject = match kind {
        JobKind::Quota => Subject::DiskLimit,
        JobKind::Usage if text == "watch" => Subject::DiskLimit,
        JobKind::Sync | JobKind::Script | JobKind::Usage | JobKind::ConfigFiles | JobKind::Permissions => attempt(text),
        JobKind::Image => {
            let [of, role, image] = text.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{text} is no image") };
            attempt(of).image(if role == "server" { Role::Server } else { Role::Installer }, image)
        }
        JobKind::InstallLog => Subject::Container(text.into()),
        JobKind::Report => match text.strip_prefix("install:") {
            Some(token) => Subject::InstallResult(token.into()),
            None => Subject::State,
        },
        JobKind::Removal => Subject::Deletion,
        JobKind::Backup
        | JobKind::BackupRelease
        | JobKind::BackupRemoval
        | JobKind::BackupVerification
        | JobKind::OperationReport => Subject::Backup(text.parse().expect("a backup's id")),
        JobKind::Transfer => Subject::Transfer(text.parse().expect("a transfer's token")),
        JobKind::Restore | JobKind::FormerFiles => Subject::Restore(text.parse().expect("a restore's token")),
    };
    assert_eq!(subject.to_string(), text, "a subject of {kind:?}");
    subject
}

/// An install script.
pub fn script() -> Script {
    Script { image: INSTALLER_IMAGE.into(), entrypoint: "sh".into(), text: "echo".into() }
}
