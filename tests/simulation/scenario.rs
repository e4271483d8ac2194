//! One seed: a few servers, some minutes (or hours) of wishes and trouble, then peace, then the invariants.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use std::sync::OnceLock;

use alula::model::ServerId;

use crate::crash::{Fate, Rates};
use crate::daemon::{Daemon, Machine};
use crate::expected::Asked;
use crate::furnish::{Runs, furnish, panel_side};
use crate::journal::Journal;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::shrink::{self, Failure};

/// What a run did; two runs of a seed are equal.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    pub lives: u64,
    pub points: u64,
    pub wishes: u64,
    pub rejected: u64,
    pub installs: u64,
    pub virtual_seconds: u64,
    pub history: u64,
    /// Servers that were ever asked for, and how many of them end with a certain expectation.
    pub servers: u64,
    pub certain: u64,
    /// The most points in one minute of one life.
    pub busiest: u64,
    /// The most calls of one kind about one server in one minute.
    pub alike: u64,
    /// The most points of one server while nothing happened.
    pub resting: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.lives += other.lives;
        self.points += other.points;
        self.wishes += other.wishes;
        self.rejected += other.rejected;
        self.installs += other.installs;
        self.virtual_seconds += other.virtual_seconds;
        self.history += other.history;
        self.servers += other.servers;
        self.certain += other.certain;
        self.busiest = self.busiest.max(other.busiest);
        self.alike = self.alike.max(other.alike);
        self.resting = self.resting.max(other.resting);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} lives of the daemon, {} fault points (at most {} in a minute, {} alike, {} at rest), {} wishes ({} refused), {} scripts run, {} container operations, {} servers ({} certain), {:.1} days",
            self.lives,
            self.points,
            self.busiest,
            self.alike,
            self.resting,
            self.wishes,
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
    /// What must be so at the end.
    pub asked: Asked,
    /// An override of the CPU's limit was written.
    pub overridden: bool,
    /// Earlier texts of its `config.yml`.
    pub texts: Vec<String>,
    /// Token of the installation whose result was recorded when a later one was wanted: that one may have begun another log.
    pub outdone: Option<String>,
    /// Tokens of installations that were under way when it was deleted: what they leave is nobody's.
    pub buried: Vec<String>,
    /// A file of it was damaged, and nothing has been installed or deleted since.
    pub damaged: bool,
    /// The same, also by an operator: how many operations on containers there were before the file was damaged.
    pub quiet_since: Option<usize>,
    /// Since when it is known to be parked.
    pub parked: Option<Duration>,
}

/// What a run has been.
#[derive(Debug)]
pub struct Run {
    pub tally: Tally,
    pub journal: String,
    /// What people have done in it, and when.
    pub story: String,
}

/// Plays a plan.
///
/// # Errors
/// The invariant that it breaks.
pub fn try_play(plan: &Plan, loud: bool) -> Result<Run, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    if loud {
        let lines = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).without_time().with_ansi(false);
        // Fails only when it was started before.
        let _ = lines.try_init();
    }
    let journal = OnceLock::new();
    let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(async {
            let play = Play::new(plan.clone(), loud);
            let journal = journal.get_or_init(|| play.machine.journal.clone());
            let tally = play.run().await;
            Run { tally, journal: journal.text(), story: journal.story() }
        })
    }));
    played.map_err(|panic| Failure {
        seed: plan.seed(),
        message: panic_text(&*panic),
        happened: plan.happened(),
        story: journal.get().map(Journal::story).unwrap_or_default(),
    })
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without text".into())
}

/// Plays a seed.
///
/// # Panics
/// When an invariant is broken; the message names what of it is needed for that.
pub fn play(seed: u64) -> Run {
    shrink::quietly(&Plan::new(seed)).unwrap_or_else(|failure| panic!("{}", shrink::shrink(failure)))
}

pub struct Play {
    pub seed: u64,
    pub plan: Plan,
    pub loud: bool,
    /// The chance of what happens just now.
    pub rng: Rng,
    pub machine: Machine,
    pub servers: Vec<Server>,
    pub runs: Runs,
    pub tally: Tally,
    pub rates: Rates,
    /// Whether the watch over files works at all.
    pub watched: bool,
    /// Edits that the watch notices later.
    pub late: VecDeque<ServerId>,
    /// Names what is written by hand.
    pub notes: u64,
}

impl Play {
    fn new(plan: Plan, loud: bool) -> Self {
        let seed = plan.seed();
        let mut rng = plan.rng("world");
        let places = if rng.permille(500) { 1 } else { 4 };
        let machine = Machine::with_places(places);
        let runs = Runs::default();
        furnish(&machine, seed, &runs, false);
        machine.docker.set_live_restore(rng.permille(300));
        machine.docker.set_kept_log(rng.permille(300).then_some(600));
        let count = 1 + rng.below(3);
        let mut servers = Vec::new();
        for number in 0..count {
            let bits = (u128::from(seed) << 64) | u128::from(number + 1);
            let id = ServerId::new(uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid());
            let of_file = rng.permille(250);
            let mut panel = machine.panel.lock();
            if of_file {
                panel.of_files.insert(id);
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
                outdone: None,
                buried: Vec::new(),
                damaged: false,
                quiet_since: None,
                parked: None,
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
            loud,
            rng,
            machine,
            servers,
            runs,
            tally: Tally::default(),
            rates,
            watched,
            late: VecDeque::new(),
            notes: 0,
        }
    }

    pub fn say(&self, text: impl FnOnce() -> String) {
        let text = text();
        if self.loud {
            println!("[{:>9.3}] {text}", self.machine.epoch.1.elapsed().as_secs_f64());
        }
        self.machine.journal.tell(&text);
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
            self.say_all(&daemon).await;
            daemon = self.survive(daemon).await;
        }
        self.make_peace(daemon).await
    }

    /// What goes on without anybody's doing: outages end, edits are noticed, the panel's list takes effect.
    pub fn notice(&mut self, daemon: &Daemon) {
        while let Some(id) = self.late.pop_front() {
            daemon.edited(id);
        }
        let now = self.machine.epoch.1.elapsed();
        for at in 0..self.servers.len() {
            self.follow(daemon, at);
            let server = &mut self.servers[at];
            let Some(snapshot) = daemon.world.store.get(server.id) else { continue };
            server.notice_later_installation(&snapshot, daemon.world.clock.now());
            match snapshot.record.parked {
                Some(_) => {
                    server.parked = server.parked.or(Some(now));
                }
                None => server.parked = None,
            }
        }
    }

    /// In a loud run: how every server stands.
    async fn say_all(&self, daemon: &Daemon) {
        if !self.loud {
            return;
        }
        for (at, server) in self.servers.iter().enumerate() {
            let Some(snapshot) = daemon.world.store.get(server.id) else { continue };
            let Some(status) = daemon.world.store.status(server.id) else { continue };
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

    /// Boots until a daemon stands.
    async fn boot(&mut self) -> Daemon {
        loop {
            self.tally.lives += 1;
            let life = self.tally.lives;
            let mut rng = self.plan.rng(&format!("life{life}"));
            let (seed, crashes, crash_at) = (rng.next(), rng.permille(450), rng.below(400));
            let crash_at = (crashes && self.plan.happens(&format!("c{life}"))).then_some(crash_at);
            let fate = Fate::of_life(self.plan.clone(), life, self.rates, crash_at);
            self.say(|| format!("boot, to crash at {crash_at:?}"));
            if let Some(daemon) = self.machine.boot(fate, seed) {
                return daemon;
            }
        }
    }

    /// Boots another daemon if this one has died.
    async fn survive(&mut self, daemon: Daemon) -> Daemon {
        if !daemon.fate.is_over() {
            return daemon;
        }
        self.reboot(daemon).await
    }

    pub async fn reboot(&mut self, daemon: Daemon) -> Daemon {
        self.end_of_a_life(&daemon);
        daemon.kill().await;
        self.between_lives();
        let away = self.plan.rng(&format!("away{}", self.tally.lives)).millis(0, 30_000);
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
            0..=40 => self.power(daemon, at).await,
            41..=48 => self.reinstall(daemon, at).await,
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
                self.say(|| "kill -9".into());
                daemon.fate.doom();
            }
            _ => daemon.wait(Duration::from_secs(1)).await,
        }
    }
}
