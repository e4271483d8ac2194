//! The invariants, checked once nothing is left to do.

use std::time::Duration;

use alula::model::{ContainerState, InstallOutcome, InstallResult, PowerState, Reason, Role, Verb};
use alula::requests::declared;
use alula::runtime::spec_builder::server_container;
use alula::runtime::{HostInfo, container_name};
use alula::store::{Snapshot, manifests};
use alula::testing::fake::Entry;
use axum::http::{Method, StatusCode};
use serde_json::json;

use crate::daemon::Daemon;
use crate::expected::Expect;
use crate::operators::OVERRIDDEN_CPU;
use crate::scenario::{Play, Server};
use crate::setup::{CONFIG_FILE, LAST_LINE};

/// Work in progress may still end after a server was parked or a request expired.
pub const LAST_STEP: Duration = Duration::from_secs(61);

impl Play {
    pub async fn check(&mut self, daemon: &Daemon) {
        self.notice(daemon);
        let seed = self.seed;
        assert_eq!(self.machine.engine.violations(), [], "seed {seed}");
        for ((id, role), counts) in self.machine.engine.all_counts() {
            assert!(counts.most <= 1, "seed {seed}: {} containers of one role: {id} {role:?}", counts.most);
        }
        let panel_violations = self.machine.panel.lock().violations.clone();
        assert!(panel_violations.is_empty(), "seed {seed}: {panel_violations:?}");
        self.check_runs();
        self.check_backups(daemon);
        let asked = self
            .servers
            .iter()
            .filter(|server| server.created || server.deleted || server.asked.expect == Expect::Either);
        let uncertain = asked.clone().filter(|server| server.asked.expect == Expect::Either).count() as u64;
        self.tally.servers = asked.count() as u64;
        self.tally.certain = self.tally.servers - uncertain;
        for (at, server) in self.servers.iter().enumerate() {
            self.check_server(daemon, at, server);
            let answer = daemon.request(Method::GET, &format!("/api/servers/{}", server.id), json!(null)).await;
            let elsewhere = self.machine.panel.lock().elsewhere.contains_key(&server.id);
            let known = answer.is_some_and(|status| status.is_success());
            assert!(!elsewhere || answer == Some(StatusCode::NOT_FOUND), "seed {seed}: {at} is parked: {answer:?}");
            let there = daemon.node.context.store.get(server.id).is_some_and(|snapshot| !snapshot.is_being_deleted());
            let listed =
                self.machine.panel.lock().servers.contains_key(&server.id) && there || server.of_file && server.created;
            assert!(
                !listed || known || server.asked.expect == Expect::Either,
                "seed {seed}: {at} is unknown: {answer:?}"
            );
        }
    }

    pub fn check_runs(&self) {
        for (token, runs) in self.runs.lock().unwrap().iter() {
            assert!(*runs <= 1, "seed {}: the script of {token} ran {runs} times to its end", self.seed);
        }
    }

    fn check_server(&self, daemon: &Daemon, at: usize, server: &Server) {
        let (seed, id) = (self.seed, server.id);
        let name = container_name(id, Role::Server);
        let running = self.machine.engine.state_of(&name) == Some(ContainerState::Running);
        let data = daemon.node.context.node.layout.data(id);
        let snapshot = daemon.node.context.store.get(id);
        self.check_slot(daemon, at, server, snapshot.as_deref());
        if server.deleted && !server.created {
            assert!(snapshot.is_none(), "seed {seed}: {at} is deleted, but its record is there");
            assert!(
                self.machine.engine.state_of(&name).is_none(),
                "seed {seed}: {at} is deleted, but its container is there"
            );
            assert!(!data.exists(), "seed {seed}: {at} is deleted, but its files are there");
            return;
        }
        let Some(snapshot) = snapshot else {
            let certain = server.created && server.asked.expect != Expect::Either;
            assert!(!certain, "seed {seed}: {at} was created, and is not there");
            return;
        };
        assert!(snapshot.problem.is_none(), "seed {seed}: {:?}", snapshot.problem);
        let ran = self
            .runs
            .lock()
            .unwrap()
            .keys()
            .any(|token| token.starts_with(&id.to_string()) && !server.deleted_installs.contains(token));
        if ran && !server.deleted && !server.restored {
            assert!(
                data.join("level.dat").exists(),
                "seed {seed}: the files of {at} are gone without a delete request"
            );
        }
        if snapshot.record.parked.is_some() {
            self.check_parked(at, server);
            return;
        }
        let installer = self.machine.engine.state_of(&container_name(id, Role::Installer));
        assert_eq!(installer, None, "seed {seed}: an installer of {at} is left");
        self.check_spec(daemon, at, &snapshot);
        self.check_quiet(at, server);
        self.check_power(daemon, at, server, &snapshot, running);
        self.check_limits(daemon, at, server, &snapshot, running);
        self.check_config_file(daemon, at, server, running);
        self.check_log(daemon, at, server, &snapshot);
        self.check_panel(daemon, at, server, running);
    }

    /// The files' spec is the accepted one, and their declarative fields have become requests.
    fn check_spec(&self, daemon: &Daemon, at: usize, snapshot: &Snapshot) {
        let seed = self.seed;
        let files = manifests::read(&daemon.node.context.store.folder(snapshot.id), snapshot.id).effective();
        let manifest = snapshot.manifest.as_deref();
        assert_eq!(files.as_ref().ok(), manifest, "seed {seed}: the files of {at} are not the accepted spec");
        assert!(!snapshot.unrecorded && !snapshot.requests.lost, "seed {seed}: the spec of {at} is not recorded");
        let fields = manifest.map(|manifest| declared(&manifest.spec)).unwrap_or_default();
        assert_eq!(snapshot.requests.declared, fields, "seed {seed}: the fields of {at} are not handled");
        let sequences = snapshot.requests.accepted.iter().map(|request| request.sequence);
        assert!(sequences.is_sorted(), "seed {seed}: the requests of {at} have no order: {:?}", snapshot.requests);
    }

    /// After a file was lost, its requests count as completed, so the install script does not run before another request.
    fn check_quiet(&self, at: usize, server: &Server) {
        let Some(since) = server.unchanged_since else { return };
        let name = container_name(server.id, Role::Installer);
        let history = self.machine.engine.history();
        let made = history.iter().skip(since).find(|entry| entry.call == "create" && entry.name == name);
        assert!(made.is_none(), "seed {}: the script of {at} ran without a request: {made:?}", self.seed);
    }

    /// The latest request is the one that counts, and it is handled.
    fn check_power(&self, daemon: &Daemon, at: usize, server: &Server, snapshot: &Snapshot, running: bool) {
        let (seed, record) = (self.seed, &snapshot.record);
        let Some(manifest) = &snapshot.manifest else { return };
        let suspended = manifest.spec.suspended;
        assert!(!(suspended && running), "seed {seed}: {at} is suspended and runs");
        let asked = snapshot.asked(daemon.node.context.clock.now());
        assert_eq!(asked.install(), None, "seed {seed}: {at} converged with a pending installation: {record:#?}");
        // Without a panel a failed installation holds the start back.
        let failed = record.install.done.as_ref().is_some_and(|done| done.outcome == InstallOutcome::Failed);
        let held_back = failed && !manifest.is_managed_by_panel();
        let power = asked.power();
        if let Some(power) = &power {
            assert!(power.verb.wants_up(), "seed {seed}: {at} converged with {power:?}: {record:#?}");
            assert!(running || suspended || held_back, "seed {seed}: {at} should be up and is not: {record:#?}");
        }
        let given_up = power.is_none()
            && record.power.handled.as_ref().is_some_and(|handled| match handled.reason {
                Reason::Stopped | Reason::RecordLost => false,
                Reason::Expired => server.asked.expired,
                _ => true,
            });
        let mut installs = snapshot.requests.accepted.iter().rev();
        let not_installed = server.asked.after_install
            && installs.find(|request| matches!(request.verb, Verb::Install { .. })).is_some_and(|install| {
                let failed = |done: &InstallResult| done.token == install.id && done.outcome == InstallOutcome::Failed;
                record.install.done.as_ref().is_some_and(failed)
            });
        match server.asked.expect {
            Expect::Up => assert!(
                running || suspended || given_up || not_installed || held_back,
                "seed {seed}: {at} should be up and is not: {:?} {record:#?}",
                snapshot.requests
            ),
            Expect::Down => {
                assert!(!running, "seed {seed}: {at} should be down and runs: {:?} {record:#?}", snapshot.requests)
            }
            Expect::Either => {}
        }
    }

    /// A running server has the limits of its files and the panel.
    fn check_limits(&self, daemon: &Daemon, at: usize, server: &Server, snapshot: &Snapshot, running: bool) {
        let seed = self.seed;
        let Some(manifest) = &snapshot.manifest else { return };
        let cpu = manifest.spec.settings.build.cpu_limit;
        assert!(!server.overridden || cpu == OVERRIDDEN_CPU, "seed {seed}: the override of {at} does not count: {cpu}");
        let name = container_name(server.id, Role::Server);
        if running {
            let host = HostInfo::default();
            let wanted = server_container(manifest, &daemon.node.context.node.config, &host).spec.limits;
            let limits = self.machine.engine.limits_of(&name);
            assert_eq!(limits, Some(wanted), "seed {seed}: the limits of {at}");
        }
    }

    /// A server that the daemon has started has the egg's values in its files.
    fn check_config_file(&self, daemon: &Daemon, at: usize, server: &Server, running: bool) {
        let name = container_name(server.id, Role::Server);
        let started = |entry: &Entry| entry.call == "start" && entry.ok && entry.name == name;
        if !running || !self.machine.engine.history().iter().any(started) {
            return;
        }
        let (path, expected) = CONFIG_FILE;
        let text = std::fs::read_to_string(daemon.node.context.node.layout.data(server.id).join(path));
        assert_eq!(text.ok().as_deref(), Some(expected), "seed {}: the configuration file of {at}", self.seed);
    }

    /// A script that counts as completed ran to its end, and the install log has its output to the last line.
    fn check_log(&self, daemon: &Daemon, at: usize, server: &Server, snapshot: &Snapshot) {
        let seed = self.seed;
        let Some(done) = &snapshot.record.install.done else { return };
        let key = format!("{} {}", snapshot.id, done.token);
        let complete = self.runs.lock().unwrap().contains_key(&key);
        // Only an engine that shuts down kills installers here, and the daemon, which records that.
        let claimed = done.outcome == InstallOutcome::Succeeded && done.exit_code == Some(137);
        assert!(complete || !claimed, "seed {seed}: the script of {at} was cut off and counts as completed: {done:?}");
        // A later installation that was withdrawn began another log.
        let name = container_name(snapshot.id, Role::Installer);
        let latest = |entry: &Entry| entry.call == "create" && entry.ok && entry.name == name;
        let latest = self.machine.engine.history().into_iter().rev().find(latest).and_then(|entry| entry.token);
        if latest.as_ref() != Some(&done.token) {
            return;
        }
        if done.exit_code.is_none() || !complete {
            return;
        }
        let log = std::fs::read_to_string(daemon.node.context.node.layout.install_log(snapshot.id)).unwrap_or_default();
        // One that was withdrawn before its container was created began a log that has a header and no output.
        let has_only_header = log.ends_with("| Script Output\n| ------------------------------\n");
        if has_only_header && server.superseded_install.as_ref() == Some(&done.token) {
            return;
        }
        assert!(log.contains(LAST_LINE), "seed {seed}: the install log of {at} is not complete: {log}");
    }

    /// No server waits for or holds an install slot without an installation.
    fn check_slot(&self, daemon: &Daemon, at: usize, server: &Server, snapshot: Option<&Snapshot>) {
        let now = daemon.node.context.clock.now();
        let open = snapshot
            .is_some_and(|snapshot| snapshot.record.parked.is_none() && snapshot.asked(now).install().is_some());
        if open {
            return;
        }
        let slots = &daemon.node.context.slots;
        let (holds, waits) = (slots.holds(server.id), slots.waits(server.id));
        assert!(!holds && !waits, "seed {}: {at} has no installation: holds {holds}, waits {waits}", self.seed);
    }

    /// The containers of a parked server were not changed.
    fn check_parked(&self, at: usize, server: &Server) {
        let Some(since) = server.parked else { return };
        let id = server.id.to_string();
        let touched: Vec<_> = self
            .machine
            .engine
            .history()
            .into_iter()
            .filter(|entry| entry.at > since + LAST_STEP && entry.name.starts_with(&id))
            .filter(|entry| matches!(entry.call, "create" | "start" | "signal" | "remove" | "update"))
            .collect();
        assert!(touched.is_empty(), "seed {}: {at} is parked since {since:?}: {touched:?}", self.seed);
    }

    /// The panel got every report, and its last one is the current state.
    fn check_panel(&self, daemon: &Daemon, at: usize, server: &Server, running: bool) {
        let seed = self.seed;
        let state = daemon.node.context.store.status(server.id).map(|status| status.state).unwrap_or_default();
        assert_eq!(running, state == PowerState::Running, "seed {seed}: the state of {at} is {state:?}");
        let panel = self.machine.panel.lock();
        let Some(side) = panel.servers.get(&server.id) else { return };
        assert!(!side.promised, "seed {seed}: an installation of {at} was promised and never reported");
        let stuck = side.installing && server.damaged;
        assert!(!stuck, "seed {seed}: the record of {at} was lost, and the panel still shows an installation");
        let reported = side.states.last().map_or(PowerState::Offline, |(_, new)| *new);
        assert_eq!(reported, state, "seed {seed}: the panel has another state of {at}: {:?}", side.states);
        let listed = daemon.node.context.store.get(server.id).is_some_and(|snapshot| snapshot.is_listed());
        assert!(listed, "seed {seed}: the panel lists {at}, and the API does not know it");
    }
}
