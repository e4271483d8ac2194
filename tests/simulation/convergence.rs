//! The end of a run: faults end, broken files are fixed, and then every server must converge.

use std::time::Duration;

use alula::model::PowerState;

use crate::daemon::Daemon;
use crate::faults::{MAX_ALIKE_IN_A_MINUTE, MAX_IN_A_MINUTE, ProcessFaults, Rates};
use crate::scenario::{Play, Tally};

/// Points of one server in [`IDLE_TIME`] in which nothing happens: a count of its files and a listing now and then.
const MAX_WHILE_IDLE: u64 = 12;

/// Listings find lost events, and rescans find edits that the watch missed; both run every five minutes.
const IDLE_TIME: Duration = Duration::from_secs(330);

impl Play {
    pub async fn converge(mut self, mut daemon: Daemon) -> Tally {
        self.log(|| "end of all faults".into());
        self.rng = self.plan.rng("convergence");
        self.rates = Rates::default();
        self.fix_files(&daemon);
        self.end_outages();
        if self.rng.permille(500) {
            let elsewhere = std::mem::take(&mut self.machine.panel.lock().elsewhere);
            self.machine.panel.lock().servers.extend(elsewhere);
        }
        // The first daemon without other faults may still crash.
        let noticed = self.watched && self.rng.permille(500);
        loop {
            daemon.faults.set_rates(Rates::default());
            if !daemon.faults.is_over() && self.is_list_stale(&daemon) {
                // The panel's list counts at the next boot.
                self.log(|| "a boot, for the panel's list".into());
                daemon = self.boot_in_peace(daemon).await;
            }
            for server in &self.servers {
                if noticed {
                    daemon.edited(server.id);
                }
            }
            match self.settle(&daemon).await {
                // A server that was still being deleted and will be created again is not parked by that list.
                true if self.is_list_stale(&daemon) => {}
                true => break,
                false => {
                    daemon = self.reboot(daemon).await;
                    // A deletion may be lost with a damaged file, and then the server has no manifest any more.
                    self.fix_files(&daemon);
                    self.end_outages();
                }
            }
        }
        self.check(&daemon).await;
        self.end_of_process(&daemon);
        self.tally.history = self.machine.engine.history().len() as u64;
        self.tally.virtual_seconds = self.machine.epoch.1.elapsed().as_secs();
        self.tally.installs = self.runs.lock().unwrap().values().sum();
        self.note_end(&daemon);
        daemon.kill().await;
        self.tally
    }

    /// Records the final state in the journal.
    fn note_end(&self, daemon: &Daemon) {
        for snapshot in daemon.node.context.store.list() {
            let mut record = snapshot.record.as_ref().clone();
            // An archive has the times of files, by the clock of this machine.
            for backup in &mut record.backups {
                (backup.archive, backup.result) = (None, None);
            }
            self.machine.journal.note(format_args!("{:?} {:?} {record:?}", snapshot.manifest, snapshot.requests));
        }
        for entry in self.machine.engine.history() {
            self.machine.journal.note(format_args!("{entry:?}"));
        }
    }

    /// Counts what a daemon did before its end, and checks that it did not loop.
    pub fn end_of_process(&mut self, daemon: &Daemon) {
        self.tally.points += daemon.faults.passed();
        self.tally.busiest = self.tally.busiest.max(daemon.faults.busiest());
        let busiest = daemon.faults.busiest();
        assert!(busiest <= MAX_IN_A_MINUTE, "seed {}: {busiest} points in one minute", self.seed);
        let (calls, name) = daemon.faults.busiest_call();
        self.tally.alike = self.tally.alike.max(calls);
        assert!(calls <= MAX_ALIKE_IN_A_MINUTE, "seed {}: {calls} times {name} in one minute", self.seed);
    }

    async fn boot_in_peace(&mut self, daemon: Daemon) -> Daemon {
        self.end_of_process(&daemon);
        daemon.kill().await;
        self.tally.processes += 1;
        let process = self.tally.processes;
        let seed = self.plan.rng(&format!("process{process}")).next();
        let faults = ProcessFaults::of_process(self.plan.clone(), process, Rates::default(), None);
        self.machine.boot(faults, seed).unwrap()
    }

    fn fix_files(&mut self, daemon: &Daemon) {
        for at in 0..self.servers.len() {
            let id = self.servers[at].id;
            let folder = daemon.node.context.store.folder(id);
            let broken = match std::fs::read_to_string(folder.join("config.yml")) {
                Ok(text) => text.contains("\tbroken"),
                // Missing although its server is not deleted. Perhaps no daemon has read it.
                Err(_) => daemon.node.context.store.get(id).is_none_or(|snapshot| snapshot.wanted()),
            };
            if broken {
                self.restore_manifest(daemon, at);
            }
        }
    }

    /// Whether the panel lists a server that is parked, or no longer lists one that is not.
    fn is_list_stale(&self, daemon: &Daemon) -> bool {
        let panel = self.machine.panel.lock();
        self.servers.iter().any(|server| {
            let Some(snapshot) = daemon.node.context.store.get(server.id) else { return false };
            let parked = snapshot.record.parked.is_some();
            parked && panel.servers.contains_key(&server.id) || !parked && panel.elsewhere.contains_key(&server.id)
        })
    }

    /// Waits until every server has converged. `false`: the daemon crashed before.
    async fn settle(&mut self, daemon: &Daemon) -> bool {
        // Longest legitimate waits: a stop that takes its ten minutes, a lost event until the next listing, a script.
        for _ in 0..240 {
            daemon.wait(Duration::from_secs(10)).await;
            if !daemon.faults.is_over() && self.is_settled(daemon).await {
                daemon.wait(IDLE_TIME).await;
                if !daemon.faults.is_over() && self.is_settled(daemon).await {
                    return self.rest(daemon).await;
                }
            }
            if daemon.faults.is_over() {
                return false;
            }
        }
        for server in &self.servers {
            let snapshot = daemon.node.context.store.get(server.id);
            let plan = daemon.node.context.preview(server.id).await;
            println!("{}: {plan:#?}\n{snapshot:#?}", server.id);
        }
        panic!("seed {}: it does not converge", self.seed);
    }

    /// A converged daemon does nothing.
    async fn rest(&mut self, daemon: &Daemon) -> bool {
        let (mut before, mut history) = (0, usize::MAX);
        // A server may crash meanwhile, though not without end.
        for _ in 0..5 {
            if history == self.machine.engine.history().len() {
                break;
            }
            (before, history) = (daemon.faults.passed(), self.machine.engine.history().len());
            daemon.wait(IDLE_TIME).await;
            if daemon.faults.is_over() {
                return false;
            }
        }
        let each = (daemon.faults.passed() - before) / self.servers.len() as u64;
        assert!(
            each <= MAX_WHILE_IDLE,
            "seed {}: {each} points for each server, while nothing was to be done",
            self.seed
        );
        self.tally.idle = self.tally.idle.max(each);
        true
    }

    async fn is_settled(&self, daemon: &Daemon) -> bool {
        for server in &self.servers {
            let Some(snapshot) = daemon.node.context.store.get(server.id) else { continue };
            if snapshot.record.parked.is_some() {
                continue;
            }
            let Some(plan) = daemon.node.context.preview(server.id).await else { continue };
            // A running server is always reconciled again: its disk usage is measured from time to time.
            let soon = tokio::time::Instant::now() + Duration::from_secs(60);
            let waits = plan.state == PowerState::Offline && plan.requeue.is_some_and(|at| at < soon);
            let unacknowledged = daemon.node.context.sync.as_ref().is_some_and(|sync| sync.acknowledged(server.id).1);
            let unreported = snapshot.record.install.done.as_ref().is_some_and(|done| !done.reported);
            let installing = snapshot.asked(daemon.node.context.clock.now()).install().is_some();
            let moving = installing || matches!(plan.state, PowerState::Starting | PowerState::Stopping);
            if !plan.steps.is_empty() || waits || unacknowledged || unreported || moving || !snapshot.wanted() {
                return false;
            }
            if !self.operations_settled(daemon, server.id) {
                return false;
            }
        }
        true
    }
}
