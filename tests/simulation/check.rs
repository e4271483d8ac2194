//! The invariants, checked once nothing is left to do.

use std::time::Duration;

use alula::model::{ContainerState, InstallOutcome, PowerState, Role, Want};
use alula::reconcile::plan::{Wish, open_install, wish};
use alula::runtime::blueprint::server_container;
use alula::runtime::fake::Entry;
use alula::runtime::{HostInfo, container_name};
use alula::store::Snapshot;
use axum::http::{Method, StatusCode};
use serde_json::json;

use crate::daemon::Daemon;
use crate::furnish::LAST_LINE;
use crate::hands::OVERRIDDEN_CPU;
use crate::scenario::{Expect, Play, Server};

/// What was under way when a server was parked may still be done.
const LAST_STEP: Duration = Duration::from_secs(61);

impl Play {
    pub async fn check(&mut self, daemon: &Daemon) {
        self.notice(daemon);
        let seed = self.seed;
        assert_eq!(self.machine.docker.violations(), [], "seed {seed}");
        for ((id, role), counts) in self.machine.docker.all_counts() {
            assert!(counts.most <= 1, "seed {seed}: {} containers of one role: {id} {role:?}", counts.most);
        }
        let panel_violations = self.machine.panel.lock().violations.clone();
        assert!(panel_violations.is_empty(), "seed {seed}: {panel_violations:?}");
        self.check_runs();
        let asked =
            self.servers.iter().filter(|server| server.created || server.deleted || server.expect == Expect::Either);
        let uncertain = asked.clone().filter(|server| server.expect == Expect::Either).count() as u64;
        self.tally.servers = asked.count() as u64;
        self.tally.certain = self.tally.servers - uncertain;
        for (at, server) in self.servers.iter().enumerate() {
            self.check_server(daemon, at, server);
            let answer = daemon.request(Method::GET, &format!("/api/servers/{}", server.id), json!(null)).await;
            let elsewhere = self.machine.panel.lock().elsewhere.contains_key(&server.id);
            let known = answer.is_some_and(|status| status.is_success());
            assert!(!elsewhere || answer == Some(StatusCode::NOT_FOUND), "seed {seed}: {at} is parked: {answer:?}");
            let there = daemon.world.store.get(server.id).is_some_and(|snapshot| snapshot.record.deletion.is_none());
            let listed =
                self.machine.panel.lock().servers.contains_key(&server.id) && there || server.of_file && server.created;
            assert!(!listed || known || server.expect == Expect::Either, "seed {seed}: {at} is unknown: {answer:?}");
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
        let running = self.machine.docker.state_of(&name) == Some(ContainerState::Running);
        let data = daemon.world.layout.data(id);
        let snapshot = daemon.world.store.get(id);
        self.check_place(daemon, at, server, snapshot.as_deref());
        if server.deleted && !server.created {
            assert!(snapshot.is_none(), "seed {seed}: {at} is deleted, but its record is there");
            assert!(
                self.machine.docker.state_of(&name).is_none(),
                "seed {seed}: {at} is deleted, but its container is there"
            );
            assert!(!data.exists(), "seed {seed}: {at} is deleted, but its files are there");
            return;
        }
        let Some(snapshot) = snapshot else {
            let certain = server.created && server.expect != Expect::Either;
            assert!(!certain, "seed {seed}: {at} was created, and is not there");
            return;
        };
        assert!(snapshot.problem.is_none(), "seed {seed}: {:?}", snapshot.problem);
        let ran = self
            .runs
            .lock()
            .unwrap()
            .keys()
            .any(|token| token.starts_with(&id.to_string()) && !server.buried.contains(token));
        if ran && !server.deleted {
            assert!(data.join("world.txt").exists(), "seed {seed}: the files of {at} are gone, and nobody asked");
        }
        if snapshot.record.parked.is_some() {
            self.check_parked(at, server);
            return;
        }
        let installer = self.machine.docker.state_of(&container_name(id, Role::Installer));
        assert_eq!(installer, None, "seed {seed}: an installer of {at} is left");
        self.check_power(at, server, &snapshot, running);
        self.check_limits(daemon, at, server, &snapshot, running);
        self.check_log(daemon, at, server, &snapshot);
        self.check_panel(daemon, at, server, running);
    }

    /// The wish in force is carried out, or closed with a reason; and it is the last one that was asked for.
    fn check_power(&self, at: usize, server: &Server, snapshot: &Snapshot, running: bool) {
        let (seed, record) = (self.seed, &snapshot.record);
        let Some(manifest) = &snapshot.manifest else { return };
        let suspended = manifest.spec.suspended;
        assert!(!(suspended && running), "seed {seed}: {at} is suspended and runs");
        let wish = wish(manifest, record);
        let closed = |wish: &Wish<'_>| record.power.closed.as_ref().filter(|closed| closed.id == wish.id);
        // Of a record that was lost all requests count as done, the start that an installation asks for among them.
        let over =
            |wish: &Wish<'_>| closed(wish).is_some() || server.damaged && record.power_closed(&wish.id, wish.want);
        if let Some(wish) = wish.as_ref().filter(|wish| !over(wish)) {
            assert_eq!(wish.want, Want::Up, "seed {seed}: {at} has come to rest with a wish to be down: {record:#?}");
            assert!(running || suspended, "seed {seed}: {at} is to be up, and is not: {record:#?}");
        }
        let given_up = wish.as_ref().and_then(closed).is_some_and(|closed| closed.reason != "Stopped");
        let not_installed = manifest.spec.install.as_ref().is_some_and(|install| {
            install.then_start
                && record.install_done(&install.token).is_some_and(|done| done.outcome == InstallOutcome::Failed)
        });
        match server.expect {
            Expect::Up => assert!(
                running || suspended || given_up || not_installed,
                "seed {seed}: {at} was to be up, and is not: {wish:?} {record:#?}"
            ),
            Expect::Down => assert!(!running, "seed {seed}: {at} was to be down, and runs: {record:#?}"),
            Expect::Either => {}
        }
    }

    /// A running server has the limits that files and panel give it.
    fn check_limits(&self, daemon: &Daemon, at: usize, server: &Server, snapshot: &Snapshot, running: bool) {
        let seed = self.seed;
        let Some(manifest) = &snapshot.manifest else { return };
        let cpu = manifest.spec.settings.build.cpu_limit;
        assert!(!server.overridden || cpu == OVERRIDDEN_CPU, "seed {seed}: the override of {at} does not count: {cpu}");
        let name = container_name(server.id, Role::Server);
        if running {
            let host = HostInfo::default();
            let wanted = server_container(server.id, &manifest.spec, &daemon.world.node, &host).spec.limits;
            let limits = self.machine.docker.limits_of(&name);
            assert_eq!(limits, Some(wanted), "seed {seed}: the limits of {at}");
        }
    }

    /// A script that counts as run did run to its end, and what it has printed is in the log, to the last line.
    fn check_log(&self, daemon: &Daemon, at: usize, server: &Server, snapshot: &Snapshot) {
        let seed = self.seed;
        let Some(done) = &snapshot.record.install.done else { return };
        let key = format!("{} {}", snapshot.id, done.token);
        let whole = self.runs.lock().unwrap().contains_key(&key);
        // Nobody kills installers here but the engine that goes down, and the daemon, which then says so.
        let claimed = done.outcome == InstallOutcome::Succeeded && done.exit_code == Some(137);
        assert!(whole || !claimed, "seed {seed}: the script of {at} was cut off and counts as run: {done:?}");
        // A later installation that was withdrawn has begun another log.
        let name = container_name(snapshot.id, Role::Installer);
        let latest = |entry: &Entry| entry.call == "create" && entry.ok && entry.name == name;
        let latest = self.machine.docker.history().into_iter().rev().find(latest).and_then(|entry| entry.token);
        if latest.as_ref() != Some(&done.token) {
            return;
        }
        if done.exit_code.is_none() || !whole {
            return;
        }
        let log = std::fs::read_to_string(daemon.world.layout.install_log(snapshot.id)).unwrap_or_default();
        // One that was withdrawn before its container was made has begun another log, too: with a head and no output.
        let is_begun = log.ends_with("| Script Output\n| ------------------------------\n");
        if is_begun && server.outdone.as_ref() == Some(&done.token) {
            return;
        }
        assert!(log.contains(LAST_LINE), "seed {seed}: the install log of {at} is not whole: {log}");
    }

    /// Nobody waits in line, or holds a place, without an installation.
    fn check_place(&self, daemon: &Daemon, at: usize, server: &Server, snapshot: Option<&Snapshot>) {
        let open = snapshot.filter(|snapshot| snapshot.record.parked.is_none()).is_some_and(|snapshot| {
            let manifest = snapshot.manifest.as_ref();
            manifest.is_some_and(|manifest| open_install(manifest, &snapshot.record).is_some())
        });
        if open {
            return;
        }
        let slots = &daemon.world.slots;
        let (holds, waits) = (slots.holds(server.id), slots.waits(server.id));
        assert!(!holds && !waits, "seed {}: {at} has no installation: holds {holds}, waits {waits}", self.seed);
    }

    /// Nothing was done to the containers of a parked server.
    fn check_parked(&self, at: usize, server: &Server) {
        let Some(since) = server.parked else { return };
        let id = server.id.to_string();
        let touched: Vec<_> = self
            .machine
            .docker
            .history()
            .into_iter()
            .filter(|entry| entry.at > since + LAST_STEP && entry.name.starts_with(&id))
            .filter(|entry| matches!(entry.call, "create" | "start" | "signal" | "remove" | "update"))
            .collect();
        assert!(touched.is_empty(), "seed {}: {at} is parked since {since:?}: {touched:?}", self.seed);
    }

    /// What happened has reached the panel, and what it believes is so.
    fn check_panel(&self, daemon: &Daemon, at: usize, server: &Server, running: bool) {
        let seed = self.seed;
        let shown = daemon.world.store.status(server.id).map(|status| status.state).unwrap_or_default();
        assert_eq!(running, shown == PowerState::Running, "seed {seed}: {at} shows {shown:?}");
        let panel = self.machine.panel.lock();
        let Some(side) = panel.servers.get(&server.id) else { return };
        assert!(!side.promised, "seed {seed}: an installation of {at} was promised and never reported");
        let stuck = side.installing && server.damaged;
        assert!(!stuck, "seed {seed}: the record of {at} was lost, and the panel shows an installation for ever");
        let believed = side.states.last().map_or(PowerState::Offline, |(_, new)| *new);
        assert_eq!(believed, shown, "seed {seed}: the panel believes something else of {at}: {:?}", side.states);
        let listed = daemon.world.store.get(server.id).is_some_and(|snapshot| snapshot.is_listed());
        assert!(listed, "seed {seed}: the panel lists {at}, and the API does not know it");
    }
}
