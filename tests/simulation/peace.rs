//! The end of a play: faults end, everything that was broken is put right, and then nothing may be left to do.

use std::time::Duration;

use alula::model::PowerState;

use crate::crash::{Fate, MAX_ALIKE_IN_A_MINUTE, MAX_IN_A_MINUTE, Rates};
use crate::daemon::Daemon;
use crate::scenario::{Play, Tally};

/// Points of one server in [`REST`] in which nothing happens: a count of its files and a listing now and then.
const MAX_AT_REST: u64 = 12;

/// Lost events are found by the listing that comes every five minutes, and edits that nobody noticed by the rescan.
const REST: Duration = Duration::from_secs(330);

impl Play {
    pub async fn make_peace(mut self, mut daemon: Daemon) -> Tally {
        self.say(|| "peace".into());
        self.rng = self.plan.rng("peace");
        self.rates = Rates::default();
        self.mend_files(&daemon);
        self.end_outages();
        if self.rng.permille(500) {
            let elsewhere = std::mem::take(&mut self.machine.panel.lock().elsewhere);
            self.machine.panel.lock().servers.extend(elsewhere);
        }
        // The first daemon that finds the world well may still have its own end before it.
        let noticed = self.watched && self.rng.permille(500);
        loop {
            daemon.fate.set_rates(Rates::default());
            if !daemon.fate.is_over() && self.is_list_stale(&daemon) {
                // The panel's list counts at the next boot.
                self.say(|| "a boot, for the panel's list".into());
                daemon = self.boot_in_peace(daemon).await;
            }
            for server in &self.servers {
                if noticed {
                    daemon.edited(server.id);
                }
            }
            match self.settle(&daemon).await {
                // One that was still being deleted, to be made anew, is not parked by that list.
                true if self.is_list_stale(&daemon) => {}
                true => break,
                false => {
                    daemon = self.reboot(daemon).await;
                    // A deletion may be lost with a damaged file, and then the server has no manifest any more.
                    self.mend_files(&daemon);
                    self.end_outages();
                }
            }
        }
        self.check(&daemon).await;
        self.end_of_a_life(&daemon);
        self.tally.history = self.machine.docker.history().len() as u64;
        self.tally.virtual_seconds = self.machine.epoch.1.elapsed().as_secs();
        self.tally.installs = self.runs.lock().unwrap().values().sum();
        self.note_end(&daemon);
        daemon.kill().await;
        self.tally
    }

    /// What is so at the end, into the journal.
    fn note_end(&self, daemon: &Daemon) {
        for snapshot in daemon.world.store.list() {
            self.machine
                .journal
                .note(format_args!("{:?} {:?} {:?}", snapshot.manifest, snapshot.requests, snapshot.record));
        }
        for entry in self.machine.docker.history() {
            self.machine.journal.note(format_args!("{entry:?}"));
        }
    }

    /// What a daemon that ends has done is counted, and it must not have gone round in circles.
    pub fn end_of_a_life(&mut self, daemon: &Daemon) {
        self.tally.points += daemon.fate.passed();
        self.tally.busiest = self.tally.busiest.max(daemon.fate.busiest());
        let busiest = daemon.fate.busiest();
        assert!(busiest <= MAX_IN_A_MINUTE, "seed {}: {busiest} points in one minute", self.seed);
        let (calls, name) = daemon.fate.busiest_call();
        self.tally.alike = self.tally.alike.max(calls);
        assert!(calls <= MAX_ALIKE_IN_A_MINUTE, "seed {}: {calls} times {name} in one minute", self.seed);
    }

    async fn boot_in_peace(&mut self, daemon: Daemon) -> Daemon {
        self.end_of_a_life(&daemon);
        daemon.kill().await;
        self.tally.lives += 1;
        let life = self.tally.lives;
        let seed = self.plan.rng(&format!("life{life}")).next();
        let fate = Fate::of_life(self.plan.clone(), life, Rates::default(), None);
        self.machine.boot(fate, seed).unwrap()
    }

    fn mend_files(&mut self, daemon: &Daemon) {
        for at in 0..self.servers.len() {
            let id = self.servers[at].id;
            let folder = daemon.world.store.folder(id);
            let broken = match std::fs::read_to_string(folder.join("config.yml")) {
                Ok(text) => text.contains("\tbroken"),
                // Gone although its server is not deleted. It may be that no daemon has ever seen it.
                Err(_) => daemon.world.store.get(id).is_none_or(|snapshot| snapshot.wanted()),
            };
            if broken {
                self.put_right(daemon, at);
            }
        }
    }

    /// Whether the panel lists a server that is parked, or no longer lists one that is not.
    fn is_list_stale(&self, daemon: &Daemon) -> bool {
        let panel = self.machine.panel.lock();
        self.servers.iter().any(|server| {
            let Some(snapshot) = daemon.world.store.get(server.id) else { return false };
            let parked = snapshot.record.parked.is_some();
            parked && panel.servers.contains_key(&server.id) || !parked && panel.elsewhere.contains_key(&server.id)
        })
    }

    /// Waits until nothing is left to do. `false`: the daemon died on the way.
    async fn settle(&mut self, daemon: &Daemon) -> bool {
        // Longest legitimate waits: a stop that takes its ten minutes, a lost event until the next listing, a script.
        for _ in 0..240 {
            daemon.wait(Duration::from_secs(10)).await;
            if !daemon.fate.is_over() && self.is_settled(daemon).await {
                daemon.wait(REST).await;
                if !daemon.fate.is_over() && self.is_settled(daemon).await {
                    return self.rest(daemon).await;
                }
            }
            if daemon.fate.is_over() {
                return false;
            }
        }
        for server in &self.servers {
            let snapshot = daemon.world.store.get(server.id);
            let plan = daemon.reconciler.preview(server.id).await;
            println!("{}: {plan:#?}\n{snapshot:#?}", server.id);
        }
        panic!("seed {}: it does not come to rest", self.seed);
    }

    /// Where nothing is left to do, nothing is done.
    async fn rest(&mut self, daemon: &Daemon) -> bool {
        let (mut before, mut history) = (0, usize::MAX);
        // A server that crashes meanwhile is something that happens, if not for ever.
        for _ in 0..5 {
            if history == self.machine.docker.history().len() {
                break;
            }
            (before, history) = (daemon.fate.passed(), self.machine.docker.history().len());
            daemon.wait(REST).await;
            if daemon.fate.is_over() {
                return false;
            }
        }
        let each = (daemon.fate.passed() - before) / self.servers.len() as u64;
        assert!(each <= MAX_AT_REST, "seed {}: {each} points for each server, and nothing to do", self.seed);
        self.tally.resting = self.tally.resting.max(each);
        true
    }

    async fn is_settled(&self, daemon: &Daemon) -> bool {
        for server in &self.servers {
            let Some(snapshot) = daemon.world.store.get(server.id) else { continue };
            if snapshot.record.parked.is_some() {
                continue;
            }
            let Some(plan) = daemon.reconciler.preview(server.id).await else { continue };
            // A running server is looked at for ever: its disk usage is measured now and then.
            let soon = daemon.world.clock.now() + Duration::from_secs(60);
            let waits = plan.state == PowerState::Offline && plan.requeue.is_some_and(|at| at < soon);
            let unacknowledged = daemon.world.sync.as_ref().is_some_and(|sync| sync.acknowledged(server.id).1);
            let unreported = snapshot.record.install.done.as_ref().is_some_and(|done| !done.reported);
            let installing = snapshot.asked(daemon.world.clock.now()).install().is_some();
            let moving = installing || matches!(plan.state, PowerState::Starting | PowerState::Stopping);
            if !plan.steps.is_empty() || waits || unacknowledged || unreported || moving || !snapshot.wanted() {
                return false;
            }
        }
        true
    }
}
