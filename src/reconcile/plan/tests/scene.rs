//! A server in words: `Scene::panel_server().installed().wants_up("p1").container_running("c1", "p1")`.

use std::time::Duration;

use crate::model::manifest::{InstallIntent, PowerIntent, Script, Span};
use crate::model::record::{Closed, Crash, Deletion, InstallResult, Serving};
use crate::model::{
    ContainerFacts, ContainerState, How, InstallOutcome, ManagedBy, Manifest, PowerState, Reason, Record, Timestamp,
    Want,
};
use crate::reconcile::job::{JobKind, Subject};
use crate::reconcile::observed::{Failure, Job, JobState, Observed, Policy, StopProgress, Usage, WantedContainer};
use crate::reconcile::plan::{Input, Plan, plan};
use crate::reconcile::step::StepKind;

/// The present of every scene.
pub const NOW: i64 = 1_800_000_000;
/// The image of the server.
pub const IMAGE: &str = "game:1";
/// The image of the install script.
pub const INSTALLER_IMAGE: &str = "setup:1";

/// So many seconds from now.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis((NOW + seconds) * 1000)
}

/// Everything that a plan is made from.
#[derive(Debug, Clone)]
pub struct Scene {
    pub intent: Option<Manifest>,
    pub problem: Option<(Reason, String)>,
    pub unrecorded: bool,
    pub record: Record,
    pub shown: PowerState,
    pub observed: Observed,
    pub policy: Policy,
    pub now: Timestamp,
}

/// A container as it is a moment after its making.
pub fn container(id: &str, token: Option<&str>) -> ContainerFacts {
    ContainerFacts {
        id: id.into(),
        state: ContainerState::Created,
        started_at: None,
        finished_at: None,
        token: token.map(Into::into),
        spec_hash: token.map(|_| "spec".into()),
        limits_hash: Some("limits".into()),
        stop_signal: None,
    }
}

/// The same after the engine could not start it.
pub fn could_not_start(id: &str, token: &str) -> ContainerFacts {
    ContainerFacts { state: ContainerState::StartFailed, ..container(id, Some(token)) }
}

impl Scene {
    fn new(managed_by: ManagedBy) -> Self {
        let id = "550e8400-e29b-41d4-a716-446655440000".parse().unwrap();
        let mut manifest = Manifest::new(id, managed_by);
        manifest.spec.settings.container.image = IMAGE.into();
        manifest.spec.process.stop.kind = "command".into();
        manifest.spec.process.stop.value = "quit".into();
        Self {
            intent: Some(manifest),
            problem: None,
            unrecorded: false,
            record: Record { generation: 1, ..Record::default() },
            shown: PowerState::Offline,
            observed: Observed {
                wanted: Some(WantedContainer { spec_hash: Some("spec".into()), limits_hash: "limits".into() }),
                prepared: true,
                ..Observed::default()
            },
            policy: Policy::default(),
            now: at(0),
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
        plan(Input {
            intent: self.intent.as_ref(),
            problem: self.problem.as_ref().map(|(reason, message)| (*reason, message.as_str())),
            unrecorded: self.unrecorded,
            record: &self.record,
            shown: self.shown,
            observed: &self.observed,
            policy: &self.policy,
            now: self.now,
        })
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn manifest(&mut self) -> &mut Manifest {
        self.intent.as_mut().expect("the scene has an intent")
    }

    // What is wanted.

    pub fn wishes(self, power: PowerIntent) -> Self {
        self.with(|scene| scene.manifest().spec.power = Some(power))
    }

    /// A wish that was made a second ago.
    pub fn wants(self, id: &str, want: Want, how: How) -> Self {
        self.wishes(PowerIntent { id: id.into(), want, how, requested_at: Some(at(-1)), expires_at: None })
    }

    pub fn wants_up(self, id: &str) -> Self {
        self.wants(id, Want::Up, How::Graceful)
    }

    pub fn wants_down(self, id: &str) -> Self {
        self.wants(id, Want::Down, How::Graceful)
    }

    pub fn wants_it_killed(self, id: &str) -> Self {
        self.wants(id, Want::Down, How::Kill)
    }

    /// The wish lapses so many seconds from now.
    pub fn until(self, seconds: i64) -> Self {
        self.with(|scene| scene.manifest().spec.power.as_mut().unwrap().expires_at = Some(at(seconds)))
    }

    /// An installation that was asked for ten seconds ago.
    pub fn wants_install(self, token: &str) -> Self {
        self.with(|scene| {
            let manifest = scene.manifest();
            manifest.spec.install = Some(InstallIntent {
                token: token.into(),
                then_start: false,
                reinstall: false,
                skip_scripts: false,
                abort: false,
                timeout: None,
                requested_at: Some(at(-10)),
            });
            if manifest.metadata.managed_by == ManagedBy::File {
                manifest.spec.script = Some(script());
            }
        })
    }

    pub fn install(self, change: impl FnOnce(&mut InstallIntent)) -> Self {
        self.with(|scene| change(scene.manifest().spec.install.as_mut().unwrap()))
    }

    pub fn then_start(self) -> Self {
        self.install(|install| install.then_start = true)
    }

    pub fn install_timeout(self, seconds: u64) -> Self {
        self.install(|install| install.timeout = Some(Span(Duration::from_secs(seconds))))
    }

    pub fn suspended(self) -> Self {
        self.with(|scene| scene.manifest().spec.suspended = true)
    }

    pub fn stops_by(self, kind: &str, value: &str) -> Self {
        self.with(|scene| {
            let stop = &mut scene.manifest().spec.process.stop;
            (stop.kind, stop.value) = (kind.into(), value.into());
        })
    }

    pub fn disk_limit(self, mib: i64) -> Self {
        self.with(|scene| scene.manifest().spec.settings.build.disk_space = mib)
    }

    // What was done.

    /// The panel's answer about the configuration is newer than every wish.
    pub fn synced(self) -> Self {
        self.with(|scene| scene.record.synced_at = Some(at(0)))
    }

    /// The panel was asked for the start of this wish.
    pub fn synced_for(self, key: &str) -> Self {
        self.synced().with(|scene| scene.record.synced_for = Some(key.into()))
    }

    /// The install script of this token was fetched.
    pub fn script_fetched(self, token: &str) -> Self {
        self.with(|scene| {
            scene.record.install.begun = Some(token.into());
            scene.manifest().spec.script = Some(script());
        })
    }

    /// An installation with this token is over, five seconds ago; the panel has not been told.
    pub fn install_ended(self, token: &str, outcome: InstallOutcome) -> Self {
        self.with(|scene| {
            scene.record.install.done = Some(InstallResult {
                token: token.into(),
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
        self.with(|scene| scene.record.install.done.as_mut().unwrap().reported = true)
    }

    /// An installation has succeeded long ago, and the panel knows.
    pub fn installed(self) -> Self {
        self.wants_install("i0")
            .install(|install| install.requested_at = Some(at(-1000)))
            .install_ended("i0", InstallOutcome::Succeeded)
            .reported()
    }

    pub fn closed(self, wish: &str, reason: Reason) -> Self {
        self.with(|scene| {
            let message = format!("closed: {reason}");
            scene.record.power.closed = Some(Closed { id: wish.into(), want: None, reason, message, at: at(-1) });
        })
    }

    pub fn begun(self, wish: &str) -> Self {
        self.with(|scene| scene.record.power.begun = Some(wish.into()))
    }

    pub fn started(self, container: &str) -> Self {
        self.with(|scene| scene.record.power.started = Some(container.into()))
    }

    pub fn serving(self, container: &str, wish: &str) -> Self {
        self.with(|scene| {
            scene.record.power.serving = Some(Serving { container: container.into(), power: wish.into() });
        })
    }

    /// A crash so many seconds ago.
    pub fn crashed(self, container: &str, seconds_ago: i64, restarted: bool) -> Self {
        self.with(|scene| {
            let at = at(-seconds_ago);
            let crash = Crash { container: container.into(), at, exit_code: 1, oom_killed: false, restarted };
            scene.record.push_crash(crash);
        })
    }

    pub fn marked_for_deletion(self, recreate: bool) -> Self {
        self.with(|scene| scene.record.deletion = Some(Deletion { at: at(-1), recreate }))
    }

    // What is there.

    pub fn container(self, server: ContainerFacts) -> Self {
        self.with(|scene| scene.observed.server = Some(server))
    }

    /// The server's container was made for this wish and never started.
    pub fn container_made(self, id: &str, wish: &str) -> Self {
        self.container(container(id, Some(wish)))
    }

    /// The server's container runs for this wish since a minute; it is attached, and its start-up is over.
    pub fn container_running(self, id: &str, wish: &str) -> Self {
        let server =
            ContainerFacts { state: ContainerState::Running, started_at: Some(at(-60)), ..container(id, Some(wish)) };
        self.container(server).seen_running(id).attached(id).started(id)
    }

    /// The server's container has run for this wish, seen by this daemon, and ended a second ago.
    pub fn container_exited(self, id: &str, wish: &str, code: i64) -> Self {
        let server = ContainerFacts {
            state: ContainerState::Exited { code, oom_killed: false },
            started_at: Some(at(-60)),
            finished_at: Some(at(-1)),
            ..container(id, Some(wish))
        };
        self.container(server).seen_running(id).started(id)
    }

    pub fn seen_running(self, id: &str) -> Self {
        self.with(|scene| scene.observed.seen_running = Some(id.into()))
    }

    pub fn attached(self, id: &str) -> Self {
        self.with(|scene| scene.observed.attached = Some(id.into()))
    }

    /// The daemon has just come up: of what it remembered between passes nothing is left.
    pub fn daemon_restarted(self) -> Self {
        self.with(|scene| {
            let install_slot = scene.installer_runs();
            let old = std::mem::take(&mut scene.observed);
            scene.observed = Observed {
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
        self.observed.installer.as_ref().is_some_and(ContainerFacts::running)
    }

    pub fn installer(self, installer: ContainerFacts) -> Self {
        self.with(|scene| scene.observed.installer = Some(installer))
    }

    pub fn installer_made(self, id: &str, token: &str) -> Self {
        self.installer(container(id, Some(token)))
    }

    /// The installer runs since a minute, and its output is followed.
    pub fn installer_running(self, id: &str, token: &str) -> Self {
        let installer =
            ContainerFacts { state: ContainerState::Running, started_at: Some(at(-60)), ..container(id, Some(token)) };
        self.installer(installer).slot().job_running(JobKind::InstallLog, id)
    }

    /// The installer has run for a minute and ended a second ago, and its follower with it.
    pub fn installer_exited(self, id: &str, token: &str, code: i64) -> Self {
        let installer = ContainerFacts {
            state: ContainerState::Exited { code, oom_killed: false },
            started_at: Some(at(-61)),
            finished_at: Some(at(-1)),
            ..container(id, Some(token))
        };
        self.installer(installer).slot().job_done(JobKind::InstallLog, id)
    }

    pub fn slot(self) -> Self {
        self.with(|scene| scene.observed.install_slot = true)
    }

    pub fn script_ready(self, token: &str) -> Self {
        self.with(|scene| scene.observed.script_ready = Some(token.into()))
    }

    /// A stop was sent so many seconds ago, with so many seconds to go from then.
    pub fn stop_sent(self, container: &str, seconds_ago: i64, grace: i64) -> Self {
        self.with(|scene| {
            let stop = StopProgress {
                container: container.into(),
                sent_at: at(-seconds_ago),
                deadline: at(grace - seconds_ago),
                killed_at: None,
            };
            // Installers are called n1, n2, …
            match container.starts_with('n') {
                true => scene.observed.installer_stop = Some(stop),
                false => scene.observed.stop = Some(stop),
            }
        })
    }

    /// SIGKILL followed so many seconds ago.
    pub fn kill_sent(self, seconds_ago: i64) -> Self {
        self.with(|scene| {
            let observed = &mut scene.observed;
            for stop in [&mut observed.stop, &mut observed.installer_stop].into_iter().flatten() {
                stop.killed_at = Some(at(-seconds_ago));
            }
        })
    }

    pub fn usage(self, mib: u64) -> Self {
        self.with(|scene| scene.observed.usage = Some(Usage { bytes: mib * 1024 * 1024, hidden: false, at: at(-1) }))
    }

    // What runs beside the passes, and what went wrong.

    pub fn job(self, kind: JobKind, subject: &str, state: JobState, attempts: u32) -> Self {
        self.with(|scene| {
            scene.observed.jobs.insert(kind, Job { subject: subject_of(kind, subject), state, attempts });
        })
    }

    pub fn job_running(self, kind: JobKind, subject: &str) -> Self {
        self.job(kind, subject, JobState::Running, 1)
    }

    pub fn job_done(self, kind: JobKind, subject: &str) -> Self {
        self.job(kind, subject, JobState::Done { at: at(-1) }, 1)
    }

    /// A job that has failed and is due again in so many seconds.
    pub fn job_failed(self, kind: JobKind, subject: &str, attempts: u32, retry_in: i64) -> Self {
        let state = JobState::Failed { fatal: false, retry_at: at(retry_in), message: "no answer".into() };
        self.job(kind, subject, state, attempts)
    }

    /// A job that was refused for good.
    pub fn job_refused(self, kind: JobKind, subject: &str) -> Self {
        let state = JobState::Failed { fatal: true, retry_at: at(1), message: "refused".into() };
        self.job(kind, subject, state, 1)
    }

    /// A step that the engine has refused so often, and is due again in so many seconds.
    pub fn step_refused(self, step: StepKind, subject: &str, attempts: u32, retry_in: i64) -> Self {
        self.with(|scene| {
            let failure = Failure {
                subject: subject.into(),
                attempts,
                refused: true,
                retry_at: at(retry_in),
                message: "the engine said no".into(),
            };
            scene.observed.failures.insert(step, failure);
        })
    }

    /// The same, but because the engine did not answer.
    pub fn step_unanswered(self, step: StepKind, subject: &str, attempts: u32, retry_in: i64) -> Self {
        self.step_refused(step, subject, attempts, retry_in)
            .with(|scene| scene.observed.failures.get_mut(&step).unwrap().refused = false)
    }

    /// Everything that a start needs is there but a container.
    pub fn ready_to_start(self, key: &str) -> Self {
        self.synced_for(key)
            .job_done(JobKind::ServerImage, &format!("{key} {IMAGE}"))
            .job_done(JobKind::Permissions, key)
    }

    /// Everything that an installation needs is there but a container of its own.
    pub fn ready_to_install(self, token: &str) -> Self {
        self.synced()
            .script_fetched(token)
            .slot()
            .job_done(JobKind::ServerImage, &format!("{token} {IMAGE}"))
            .job_done(JobKind::InstallerImage, &format!("{token} {INSTALLER_IMAGE}"))
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
        JobKind::Usage if text == "watch" => Subject::DiskLimit,
        JobKind::Sync | JobKind::Script | JobKind::Usage | JobKind::Permissions => attempt(text),
        JobKind::ServerImage | JobKind::InstallerImage => {
            let (of, image) = text.split_once(' ').expect("an image");
            attempt(of).image(image)
        }
        JobKind::InstallLog => Subject::Container(text.into()),
        JobKind::Report => match text.strip_prefix("install:") {
            Some(token) => Subject::InstallResult(token.into()),
            None => Subject::State,
        },
        JobKind::Removal => Subject::Deletion,
    };
    assert_eq!(subject.to_string(), text, "a subject of {kind:?}");
    subject
}

/// An install script.
pub fn script() -> Script {
    Script { image: INSTALLER_IMAGE.into(), entrypoint: "sh".into(), text: "echo".into() }
}
