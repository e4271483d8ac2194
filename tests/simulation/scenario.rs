//! One seed: a few servers, minutes or hours of requests and faults, then convergence, then the invariants.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use std::sync::OnceLock;

use alula::model::ServerId;

use crate::backups::{Backup, Stamps};
use crate::daemon::{Daemon, Machine};
use crate::expected::Asked;
use crate::faults::{ProcessFaults, Rates};
use crate::journal::Journal;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::setup::{Runs, panel_side, set_up};
use crate::shrink::{self, Failure};

/// Counters of a run; two runs of a seed have equal ones.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    pub processes: u64,
    pub points: u64,
    pub requests: u64,
    pub rejected: u64,
    pub installs: u64,
    pub virtual_seconds: u64,
    pub history: u64,
    /// Servers that were requested, and how many of them have a definite expectation at the end.
    pub servers: u64,
    pub certain: u64,
    /// The most points in one minute of one process.
    pub busiest: u64,
    /// The most calls of one kind about one server in one minute.
    pub alike: u64,
    /// The most points of one server after convergence.
    pub idle: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.processes += other.processes;
        self.points += other.points;
        self.requests += other.requests;
        self.rejected += other.rejected;
        self.installs += other.installs;
        self.virtual_seconds += other.virtual_seconds;
        self.history += other.history;
        self.servers += other.servers;
        self.certain += other.certain;
        self.busiest = self.busiest.max(other.busiest);
        self.alike = self.alike.max(other.alike);
        self.idle = self.idle.max(other.idle);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} daemon processes, {} fault points (at most {} in a minute, {} alike, {} while idle), {} requests ({} rejected), {} scripts run, {} container operations, {} servers ({} certain), {:.1} days",
            self.processes,
            self.points,
            self.busiest,
            self.alike,
            self.idle,
            self.requests,
            self.rejected,
            self.installs,
            self.history,
            self.servers,
            self.certain,
            self.virtual_seconds as f64 / 86_400.0
        )
    }
}

pub struct Server {
    pub id: ServerId,
    /// `managedBy: file`: the panel does not know it.
    pub of_file: bool,
    pub created: bool,
    pub deleted: bool,
    /// What must hold at the end.
    pub asked: Asked,
    /// An override of the CPU limit was written.
    pub overridden: bool,
    /// Earlier texts of its `config.yml`.
    pub texts: Vec<String>,
    /// Token of the installation whose result was recorded when a later one was requested: the later one may have begun another log.
    pub superseded_install: Option<String>,
    /// Tokens of installations that were in progress when the server was deleted.
    pub deleted_installs: Vec<String>,
    /// Installations whose request a damaged file has lost; their script may still run.
    pub lost_installs: Vec<String>,
    /// One of its files was damaged, and it was not installed or deleted since.
    pub damaged: bool,
    /// Operations on containers before that damage; reset by operators' installations too.
    pub unchanged_since: Option<usize>,
    /// Since when it is known to be parked.
    pub parked: Option<Duration>,
    /// Of which time its files may be.
    pub stamps: Stamps,
    /// It may have the files of a backup from before its installation.
    pub restored: bool,
}

/// A completed run.
#[derive(Debug)]
pub struct Run {
    pub tally: Tally,
    pub journal: String,
    /// The actions of panel and operators, with their times.
    pub actions: String,
}

/// Plays a plan.
///
/// # Errors
/// The invariant that it breaks.
pub fn try_play(plan: &Plan, verbose: bool) -> Result<Run, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    if verbose {
        let lines = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).without_time().with_ansi(false);
        // Fails only when it was started before.
        let _ = lines.try_init();
    }
    let journal = OnceLock::new();
    let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(async {
            let play = Play::new(plan.clone(), verbose);
            let journal = journal.get_or_init(|| play.machine.journal.clone());
            let tally = play.run().await;
            Run { tally, journal: journal.text(), actions: journal.actions() }
        })
    }));
    played.map_err(|panic| Failure {
        seed: plan.seed(),
        message: alula::tasks::panic_text(panic.as_ref()).to_owned(),
        happened: plan.happened(),
        actions: journal.get().map(Journal::actions).unwrap_or_default(),
    })
}

/// Plays a seed.
///
/// # Panics
/// When an invariant is broken. The message names the events that are needed for that.
pub fn play(seed: u64) -> Run {
    shrink::quietly(&Plan::new(seed)).unwrap_or_else(|failure| panic!("{}", shrink::shrink(failure)))
}

pub struct Play {
    pub seed: u64,
    pub plan: Plan,
    pub verbose: bool,
    /// Randomness of the current action.
    pub rng: Rng,
    pub machine: Machine,
    pub servers: Vec<Server>,
    pub backups: Vec<Backup>,
    pub runs: Runs,
    pub tally: Tally,
    pub rates: Rates,
    /// Whether the watch over files works.
    pub watched: bool,
    /// Edits that the watch notices later.
    pub late: VecDeque<ServerId>,
    /// Numbers the texts that operators write.
    pub notes: u64,
}

impl Play {
    fn new(plan: Plan, verbose: bool) -> Self {
        let seed = plan.seed();
        let mut rng = plan.rng("setup");
        let slots = if rng.permille(500) { 1 } else { 4 };
        let machine = Machine::with_install_slots(slots);
        let runs = Runs::default();
        set_up(&machine, seed, &runs, false);
        machine.engine.set_live_restore(rng.permille(300));
        machine.engine.set_kept_log(rng.permille(300).then_some(600));
        let count = 1 + rng.below(3);
        let mut servers = Vec::new();
        for number in 0..count {
            let bits = (u128::from(seed) << 64) | u128::from(number + 1);
            let id = ServerId::new(uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid());
            let of_file = rng.permille(250);
            let mut panel = machine.panel.lock();
            if of_file {
                panel.file_managed.insert(id);
            } else {
                panel.servers.insert(id, panel_side(id, &format!("S{number}")));
            }
            drop(panel);
            servers.push(Server {
                id,
                of_file,
                created: false,
                deleted: false,
                asked: Asked::default(),
                overridden: false,
                texts: Vec::new(),
                superseded_install: None,
                deleted_installs: Vec::new(),
                lost_installs: Vec::new(),
                damaged: false,
                unchanged_since: None,
                parked: None,
                stamps: Stamps::default(),
                restored: false,
            });
        }
        let rates = Rates {
            runtime_fails: rng.below(60),
            runtime_answer_lost: rng.below(40),
            runtime_slow: rng.below(60),
            event_lost: rng.below(150),
            event_twice: rng.below(100),
            event_late: rng.below(100),
            disk_full: rng.below(15),
            panel_fails: rng.below(150),
            panel_answer_lost: rng.below(80),
            panel_slow: rng.below(150),
            panel_rejects: if rng.permille(300) { rng.below(100) } else { 0 },
            end_lost: if rng.permille(300) { rng.below(600) } else { 0 },
        };
        let watched = rng.permille(800);
        Self {
            seed,
            plan,
            verbose,
            rng,
            machine,
            servers,
            backups: Vec::new(),
            runs,
            tally: Tally::default(),
            rates,
            watched,
            late: VecDeque::new(),
            notes: 0,
        }
    }

    pub fn log(&self, text: impl FnOnce() -> String) {
        let text = text();
        if self.verbose {
            println!("[{:>9.3}] {text}", self.machine.epoch.1.elapsed().as_secs_f64());
        }
        self.machine.journal.action(&text);
    }

    async fn run(mut self) -> Tally {
        let mut daemon = self.boot().await;
        let actions = 4 + self.rng.below(22);
        for number in 1..=actions {
            let name = format!("a{number}");
            self.rng = self.plan.rng(&name);
            let pause = match self.rng.below(10) {
                0 => Duration::ZERO,
                1..=4 => self.rng.millis(0, 3_000),
                5..=8 => self.rng.millis(0, 60_000),
                _ => self.rng.millis(0, 900_000),
            };
            daemon.wait(pause).await;
            daemon = self.survive(daemon).await;
            self.notice(&daemon);
            if self.plan.happens(&name) {
                self.act(&daemon).await;
            }
            self.log_all(&daemon).await;
            daemon = self.survive(daemon).await;
        }
        self.converge(daemon).await
    }

    /// Events without an action: late edits are noticed, and the panel's list parks servers.
    pub fn notice(&mut self, daemon: &Daemon) {
        while let Some(id) = self.late.pop_front() {
            daemon.edited(id);
        }
        let now = self.machine.epoch.1.elapsed();
        for at in 0..self.servers.len() {
            self.follow(daemon, at);
            self.check_stamp(daemon, at);
            let server = &mut self.servers[at];
            let Some(snapshot) = daemon.node.context.store.get(server.id) else { continue };
            server.notice_later_installation(&snapshot, daemon.node.context.clock.now());
            match snapshot.record.parked {
                Some(_) => {
                    server.parked = server.parked.or(Some(now));
                }
                None => server.parked = None,
            }
        }
    }

    /// Prints the state of every server in a verbose run.
    async fn log_all(&self, daemon: &Daemon) {
        if !self.verbose {
            return;
        }
        for (at, server) in self.servers.iter().enumerate() {
            let Some(snapshot) = daemon.node.context.store.get(server.id) else { continue };
            let Some(status) = daemon.node.context.store.status(server.id) else { continue };
            println!(
                "    {at}: {:?}/{:?} {:?} requests {:?} done {:?} handled {:?} problem {:?} unrecorded {} parked {:?}",
                status.phase,
                status.state,
                server.asked,
                snapshot.requests,
                snapshot.record.install.done.as_ref().map(|done| (&done.token, done.reported)),
                snapshot.record.power.handled.as_ref().map(|handled| (&handled.id, &handled.reason)),
                snapshot.problem,
                snapshot.unrecorded,
                snapshot.record.parked,
            );
        }
    }

    /// Boots until a daemon runs.
    async fn boot(&mut self) -> Daemon {
        loop {
            self.tally.processes += 1;
            let process = self.tally.processes;
            let mut rng = self.plan.rng(&format!("process{process}"));
            let (seed, crashes, crash_at) = (rng.next(), rng.permille(450), rng.below(400));
            let crash_at = (crashes && self.plan.happens(&format!("c{process}"))).then_some(crash_at);
            let faults = ProcessFaults::of_process(self.plan.clone(), process, self.rates, crash_at);
            self.log(|| format!("boot, to crash at {crash_at:?}"));
            if let Some(daemon) = self.machine.boot(faults, seed) {
                return daemon;
            }
        }
    }

    /// Boots another daemon if this one has crashed.
    async fn survive(&mut self, daemon: Daemon) -> Daemon {
        if !daemon.faults.is_over() {
            return daemon;
        }
        self.reboot(daemon).await
    }

    pub async fn reboot(&mut self, daemon: Daemon) -> Daemon {
        self.end_of_process(&daemon);
        daemon.kill().await;
        self.between_processes();
        let away = self.plan.rng(&format!("away{}", self.tally.processes)).millis(0, 30_000);
        tokio::time::sleep(away).await;
        self.boot().await
    }

    pub fn any(&mut self) -> usize {
        usize::try_from(self.rng.below(self.servers.len() as u64)).unwrap()
    }

    async fn act(&mut self, daemon: &Daemon) {
        let at = self.any();
        let of_file = self.servers[at].of_file;
        match self.rng.below(100) {
            0..=24 if !self.servers[at].created && of_file => self.create_by_hand(daemon, at).await,
            0..=24 if !self.servers[at].created => self.create(daemon, at).await,
            0..=34 => self.power(daemon, at).await,
            35..=41 => self.back_up(daemon, at).await,
            42..=44 => self.restore(daemon, at).await,
            45 => self.delete_backup(daemon, at).await,
            46..=48 => self.reinstall(daemon, at).await,
            49..=53 => self.sync(daemon, at).await,
            54..=56 => self.delete(daemon, at).await,
            57..=71 => self.edit(daemon, at),
            72 => self.abort(daemon, at).await,
            73..=75 => self.interfere(at),
            76..=79 => self.engine_away(),
            80..=84 => self.panel_away(),
            85..=86 => self.records_rejected(at),
            87..=90 => self.list_or_not(at),
            91..=97 => {
                self.log(|| "kill -9".into());
                daemon.faults.crash_at_next_point();
            }
            _ => daemon.wait(Duration::from_secs(1)).await,
        }
    }
}
