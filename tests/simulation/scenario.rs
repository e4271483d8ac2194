//! One seed: a few servers, some minutes (or hours) of wishes and trouble, then peace, then the invariants.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alula::model::settings::{Process, Settings, Startup, Stop};
use alula::model::{ContainerState, InstallOutcome, PowerState, Role, Script, ServerId};
use alula::panel::PanelServer;
use alula::runtime::container_name;
use alula::runtime::fake::{Act, Launch, LocalImage, Program, RemoteImage, ServerScript};
use axum::http::Method;
use serde_json::json;

use crate::crash::{Fate, Rates};
use crate::daemon::{Daemon, Machine};
use crate::panel::PanelSide;
use crate::rng::Rng;

/// What a run did; two runs of a seed are equal.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    pub lives: u64,
    pub points: u64,
    pub wishes: u64,
    pub refused: u64,
    pub installs: u64,
    pub virtual_seconds: u64,
    pub history: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.lives += other.lives;
        self.points += other.points;
        self.wishes += other.wishes;
        self.refused += other.refused;
        self.installs += other.installs;
        self.virtual_seconds += other.virtual_seconds;
        self.history += other.history;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} lives of the daemon, {} fault points, {} wishes ({} refused), {} scripts run, {} container operations, {:.1} days",
            self.lives,
            self.points,
            self.wishes,
            self.refused,
            self.installs,
            self.history,
            self.virtual_seconds as f64 / 86_400.0
        )
    }
}

/// What the harness knows that must be so at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Up,
    Down,
    /// Crashes, interference or unanswered requests: both are right.
    Either,
}

struct Server {
    id: ServerId,
    created: bool,
    deleted: bool,
    expect: Expect,
    /// Wishes to install that were answered with 2xx.
    installs: u64,
}

/// Times that each install token's script ran to its end by itself.
type Runs = Arc<Mutex<BTreeMap<String, u64>>>;

/// Plays a seed.
///
/// # Panics
/// When an invariant is broken; the message names the seed.
pub fn play(seed: u64, loud: bool) -> Tally {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    if loud {
        let lines = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).without_time().with_ansi(false);
        // Fails only when it was started before.
        let _ = lines.try_init();
    }
    let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(async { Play::new(seed, loud).run().await })
    }));
    match played {
        Ok(tally) => tally,
        Err(panic) => {
            eprintln!(
                "seed {seed} failed; again: ALULA_SIM_SEED={seed} cargo test --test simulation -- --nocapture seeds"
            );
            std::panic::resume_unwind(panic)
        }
    }
}

struct Play {
    seed: u64,
    loud: bool,
    rng: Rng,
    machine: Machine,
    servers: Vec<Server>,
    runs: Runs,
    tally: Tally,
    rates: Rates,
}

/// The image of game servers.
pub const GAME: &str = "game:1";
/// The image of installers.
pub const INSTALLER: &str = "installer:1";

/// A server as the panel wants it.
pub fn wanted(id: ServerId, name: &str) -> PanelServer {
    let mut settings = Settings { invocation: "game".into(), ..Settings::default() };
    settings.container.image = GAME.into();
    settings.meta.name = name.into();
    settings.environment.insert("P_SERVER_UUID".into(), json!(id.to_string()));
    settings.build.disk_space = 100;
    let process = Process {
        startup: Startup { done: vec!["Done!".into()], strip_ansi: false },
        stop: Stop { kind: "command".into(), value: "stop".into() },
        configs: Vec::new(),
    };
    PanelServer { suspended: false, settings, process }
}

/// The panel's side of a new server.
pub fn panel_side(id: ServerId, name: &str) -> PanelSide {
    PanelSide {
        wanted: wanted(id, name),
        script: Script { image: INSTALLER.into(), entrypoint: "sh".into(), text: "echo hi\r\n".into() },
        installing: false,
        promised: false,
        reports: Vec::new(),
        states: Vec::new(),
    }
}

/// What containers do, and what is counted of it.
pub fn furnish(machine: &Machine, seed: u64, runs: &Runs, calm: bool) {
    let pull =
        RemoteImage { takes: Duration::from_millis(1500), image: LocalImage::default(), ..RemoteImage::default() };
    machine.docker.publish_image(GAME, pull.clone());
    machine.docker.publish_image(INSTALLER, pull);
    machine.docker.choose_programs(move |launch: &Launch<'_>| {
        let mut rng = Rng::new(seed ^ u64::from(launch.run_of_name) ^ launch.name.len() as u64);
        match launch.role() {
            Role::Installer => {
                let lasts = if calm { Duration::from_secs(3) } else { rng.millis(0, 90_000) };
                let code = if rng.permille(200) { 3 } else { 0 };
                Program::installer(&[(Duration::ZERO, "installing"), (lasts / 2, "half way")], lasts, code)
            }
            Role::Server => {
                let mut plan = ServerScript { boots_in: Some(Duration::from_secs(1)), ..ServerScript::default() };
                if !calm {
                    plan.boots_in = Some(rng.millis(0, 20_000));
                    plan.stops_in = if rng.permille(50) { None } else { Some(rng.millis(0, 20_000)) };
                }
                let program = Program::server(&plan);
                if !calm && rng.permille(60) {
                    return program.and_then(rng.millis(0, 200_000), Act::Exit(1));
                }
                program
            }
        }
    });
    let runs = runs.clone();
    machine.docker.on_end(move |_, ended| {
        let Some(purpose) = ended.purpose.as_ref().filter(|purpose| purpose.role == Role::Installer) else { return };
        if !ended.by_itself {
            return;
        }
        *runs.lock().unwrap().entry(format!("{} {}", purpose.server, purpose.token)).or_default() += 1;
        if let Some(mount) = ended.spec.mounts.iter().find(|mount| mount.target == "/mnt/server") {
            std::fs::write(PathBuf::from(&mount.source).join("world.txt"), "precious").unwrap();
        }
    });
}

impl Play {
    fn new(seed: u64, loud: bool) -> Self {
        let mut rng = Rng::new(seed);
        let machine = Machine::new();
        let runs = Runs::default();
        furnish(&machine, seed, &runs, false);
        machine.docker.set_live_restore(rng.permille(300));
        let count = 1 + rng.below(3);
        let servers = (0..count).map(|number| {
            let bits = (u128::from(seed) << 64) | u128::from(number + 1);
            let id = ServerId::new(uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid());
            Server { id, created: false, deleted: false, expect: Expect::Down, installs: 0 }
        });
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
        };
        let servers: Vec<_> = servers.collect();
        for (number, server) in servers.iter().enumerate() {
            machine.panel.lock().servers.insert(server.id, panel_side(server.id, &format!("S{number}")));
        }
        Self { seed, loud, rng, machine, servers, runs, tally: Tally::default(), rates }
    }

    fn say(&self, text: impl FnOnce() -> String) {
        if self.loud {
            println!("[{:>9.3}] {}", self.machine.epoch.1.elapsed().as_secs_f64(), text());
        }
    }

    async fn run(mut self) -> Tally {
        let mut daemon = self.boot().await;
        let actions = 4 + self.rng.below(22);
        for _ in 0..actions {
            let pause = match self.rng.below(10) {
                0 => Duration::ZERO,
                1..=4 => self.rng.millis(0, 3_000),
                5..=8 => self.rng.millis(0, 60_000),
                _ => self.rng.millis(0, 900_000),
            };
            daemon.wait(pause).await;
            daemon = self.survive(daemon).await;
            self.act(&daemon).await;
            self.say_all(&daemon).await;
            daemon = self.survive(daemon).await;
        }
        self.make_peace(daemon).await
    }

    /// In a loud run: how every server stands.
    async fn say_all(&self, daemon: &Daemon) {
        if !self.loud {
            return;
        }
        for (at, server) in self.servers.iter().enumerate() {
            let Some(snapshot) = daemon.world.store.get(server.id) else { continue };
            let Some(status) = daemon.world.store.status(server.id) else { continue };
            let install = snapshot.manifest.as_ref().and_then(|manifest| manifest.spec.install.clone());
            let power = snapshot.manifest.as_ref().and_then(|manifest| manifest.spec.power.clone());
            println!(
                "    {at}: {:?}/{:?} install {:?} done {:?} power {:?} closed {:?} problem {:?} deletion {:?} parked {:?}",
                status.phase,
                status.state,
                install.map(|install| install.token),
                snapshot.record.install.done.as_ref().map(|done| (&done.token, done.reported)),
                power.map(|power| (power.id, power.want)),
                snapshot.record.power.closed.as_ref().map(|closed| (&closed.id, &closed.reason)),
                snapshot.problem,
                snapshot.record.deletion,
                snapshot.record.parked,
            );
        }
    }

    /// Boots until a daemon stands.
    async fn boot(&mut self) -> Daemon {
        loop {
            self.tally.lives += 1;
            let crash_at = self.rng.permille(450).then(|| self.rng.below(400));
            let fate = Fate::new(self.rng.next(), self.rates, crash_at);
            let seed = self.rng.next();
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

    async fn reboot(&mut self, daemon: Daemon) -> Daemon {
        self.tally.points += daemon.fate.passed();
        daemon.kill().await;
        let away = self.rng.millis(0, 30_000);
        tokio::time::sleep(away).await;
        self.boot().await
    }

    fn any(&mut self) -> usize {
        usize::try_from(self.rng.below(self.servers.len() as u64)).unwrap()
    }

    async fn act(&mut self, daemon: &Daemon) {
        let at = self.any();
        match self.rng.below(100) {
            0..=24 if !self.servers[at].created => self.create(daemon, at).await,
            0..=44 => self.power(daemon, at).await,
            45..=52 => self.reinstall(daemon, at).await,
            53..=58 => self.sync(daemon, at).await,
            59..=61 => self.delete(daemon, at).await,
            62..=70 => self.edit(daemon, at),
            71..=76 => self.interfere(at),
            77..=82 => self.engine(daemon).await,
            83..=89 => self.panel_away(daemon).await,
            90..=96 => {
                self.say(|| "kill -9".into());
                daemon.fate.doom();
            }
            _ => daemon.wait(Duration::from_secs(1)).await,
        }
    }

    async fn create(&mut self, daemon: &Daemon, at: usize) {
        let id = self.servers[at].id;
        let start = self.rng.permille(500);
        {
            let mut panel = self.machine.panel.lock();
            let side = panel.servers.entry(id).or_insert_with(|| panel_side(id, "again"));
            // One that has heard of an end does not wait for another because of a repeated request.
            side.installing |= side.reports.is_empty();
        }
        self.tally.wishes += 1;
        let answer =
            daemon.request(Method::POST, "/api/servers", json!({"uuid": id, "start_on_completion": start})).await;
        self.say(|| format!("create {at} start={start}: {answer:?}"));
        let server = &mut self.servers[at];
        match answer {
            Some(status) if status.is_success() => {
                let repeated = server.installs > 0 && !server.deleted;
                if !repeated && server.expect != Expect::Either {
                    server.expect = if start { Expect::Up } else { Expect::Down };
                }
                server.created = true;
                server.deleted = false;
                server.installs += 1;
                self.promise(id);
            }
            Some(_) => {
                // The panel has its row all the same, so the next boot finds it in the list.
                self.tally.refused += 1;
                server.deleted = false;
            }
            None => {
                // It may be on disk or not; then it is wanted again, which must be harmless.
                server.expect = Expect::Either;
                server.deleted = false;
            }
        }
    }

    /// The daemon has answered 2xx to an installation: the panel may rely on hearing of its end. If the report has come
    /// already, it has been heard.
    fn promise(&self, id: ServerId) {
        let mut panel = self.machine.panel.lock();
        if let Some(side) = panel.servers.get_mut(&id)
            && side.installing
        {
            side.promised = true;
        }
    }

    /// A request to install that was not answered with 2xx leaves the panel as it was: there it is one transaction.
    fn take_back(&self, id: ServerId) {
        if let Some(side) = self.machine.panel.lock().servers.get_mut(&id) {
            side.installing = side.promised;
        }
    }

    async fn power(&mut self, daemon: &Daemon, at: usize) {
        let action = *self.rng.pick(&["start", "start", "stop", "restart", "kill"]);
        let wait_seconds = if self.rng.permille(200) { self.rng.below(60) } else { 0 };
        let path = format!("/api/servers/{}/power", self.servers[at].id);
        self.tally.wishes += 1;
        let answer = daemon.request(Method::POST, &path, json!({"action": action, "wait_seconds": wait_seconds})).await;
        self.say(|| format!("{action} {at} wait={wait_seconds}: {answer:?}"));
        let server = &mut self.servers[at];
        match answer {
            Some(status) if status.is_success() => {
                server.expect = match action {
                    // A server may crash once too often after any start, and a wish with a limit may lapse.
                    "start" | "restart" if wait_seconds > 0 => Expect::Either,
                    "start" | "restart" => Expect::Up,
                    _ => Expect::Down,
                };
            }
            Some(_) => self.tally.refused += 1,
            None => server.expect = Expect::Either,
        }
    }

    async fn reinstall(&mut self, daemon: &Daemon, at: usize) {
        let id = self.servers[at].id;
        let word = *self.rng.pick(&["reinstall", "install"]);
        self.tally.wishes += 1;
        if let Some(side) = self.machine.panel.lock().servers.get_mut(&id) {
            side.installing = true;
        }
        let answer = daemon.request(Method::POST, &format!("/api/servers/{id}/{word}"), json!([])).await;
        self.say(|| format!("{word} {at}: {answer:?}"));
        match answer {
            Some(status) if status.is_success() => {
                self.servers[at].expect = Expect::Down;
                self.servers[at].installs += 1;
                self.promise(id);
            }
            // The panel takes its own change back, unless an earlier installation is still under way.
            Some(_) => {
                self.tally.refused += 1;
                self.take_back(id);
            }
            None => {
                self.servers[at].expect = Expect::Either;
                self.take_back(id);
            }
        }
    }

    async fn sync(&mut self, daemon: &Daemon, at: usize) {
        let id = self.servers[at].id;
        let memory = i64::try_from(64 + self.rng.below(4096)).unwrap();
        let suspend = self.rng.permille(150);
        let unsuspend = self.rng.permille(700);
        if let Some(side) = self.machine.panel.lock().servers.get_mut(&id) {
            side.wanted.settings.build.memory_limit = memory;
            if suspend {
                side.wanted.suspended = true;
            } else if unsuspend {
                side.wanted.suspended = false;
            }
        }
        if suspend || unsuspend {
            // A start is refused or ended while suspended, and a later one counts: both ends are right.
            self.servers[at].expect = Expect::Either;
        }
        let answer = daemon.request(Method::POST, &format!("/api/servers/{id}/sync"), json!([])).await;
        self.say(|| format!("sync {at} memory={memory} suspend={suspend}: {answer:?}"));
    }

    async fn delete(&mut self, daemon: &Daemon, at: usize) {
        let id = self.servers[at].id;
        if let Some(side) = self.machine.panel.lock().servers.get_mut(&id) {
            // Who deletes a server does not wait for its installation any more.
            side.promised = false;
        }
        let answer = daemon.request(Method::DELETE, &format!("/api/servers/{id}"), json!(null)).await;
        if answer.is_none_or(|status| status.is_success()) {
            // What a later server of this name finds is no concern of this one.
            self.check_runs();
            self.runs.lock().unwrap().retain(|token, _| !token.starts_with(&id.to_string()));
        }
        self.say(|| format!("delete {at}: {answer:?}"));
        match answer {
            Some(status) if status.is_success() => {
                self.servers[at].created = false;
                self.servers[at].deleted = true;
                self.servers[at].expect = Expect::Down;
                self.servers[at].installs = 0;
                self.machine.panel.lock().servers.remove(&id);
            }
            Some(_) => {}
            None => {
                // As the panel does: it asks again, or finds it gone. Here it is told that nothing is known any more.
                self.servers[at].expect = Expect::Either;
                self.servers[at].created = daemon.world.store.get(id).is_some_and(|snapshot| snapshot.is_listed());
                if !self.servers[at].created {
                    self.servers[at].deleted = true;
                    self.machine.panel.lock().servers.remove(&id);
                }
            }
        }
    }

    /// Somebody edits files by hand, well or badly.
    fn edit(&mut self, daemon: &Daemon, at: usize) {
        let id = self.servers[at].id;
        let path = daemon.world.store.folder(id).join("config.yml");
        let Ok(text) = std::fs::read_to_string(&path) else { return };
        if text.contains("\tbroken") {
            return;
        }
        let kind = self.rng.below(4);
        self.say(|| format!("edit {at} kind {kind}"));
        match kind {
            0 => std::fs::write(&path, format!("# a note by hand\n{text}")).unwrap(),
            1 => {
                let broken = format!("{text}\n\tbroken: [");
                std::fs::write(&path, broken).unwrap();
            }
            2 => std::fs::remove_file(&path).unwrap(),
            _ => {
                let over = "spec:\n  settings:\n    build:\n      cpu_limit: 150\n";
                std::fs::write(path.with_file_name("override.yml"), over).unwrap();
            }
        }
        if matches!(kind, 1 | 2) {
            // Put right again at the end, as a person would.
            std::fs::write(path.with_file_name(".saved.yml"), text).unwrap();
            self.servers[at].expect = Expect::Either;
        }
        if self.rng.permille(800) {
            daemon.edited(id);
        }
    }

    /// Somebody else works on Docker.
    fn interfere(&mut self, at: usize) {
        let name = container_name(self.servers[at].id, Role::Server);
        let killed = if self.rng.permille(500) {
            self.machine.docker.kill_outside(&name)
        } else {
            self.machine.docker.remove_outside(&name)
        };
        self.say(|| format!("interfere with {at}: {killed}"));
        if killed {
            self.servers[at].expect = Expect::Either;
        }
    }

    async fn engine(&mut self, daemon: &Daemon) {
        self.say(|| "engine down".into());
        self.machine.docker.set_engine_up(false);
        let time = self.rng.millis(100, 120_000);
        daemon.wait(time).await;
        self.machine.docker.set_engine_up(true);
        for server in &mut self.servers {
            server.expect = if server.expect == Expect::Down { Expect::Down } else { Expect::Either };
        }
    }

    async fn panel_away(&mut self, daemon: &Daemon) {
        let time = if self.rng.permille(150) { Duration::from_secs(3600) } else { self.rng.millis(100, 120_000) };
        self.say(|| format!("panel away for {time:?}"));
        self.machine.panel.lock().away = true;
        daemon.wait(time).await;
        self.machine.panel.lock().away = false;
    }

    /// Faults end; everything that was broken is put right; then nothing may be left to do.
    async fn make_peace(mut self, mut daemon: Daemon) -> Tally {
        self.say(|| "peace".into());
        self.rates = Rates::default();
        for server in &self.servers {
            let folder = daemon.world.store.folder(server.id);
            let saved = folder.join(".saved.yml");
            if saved.exists() && folder.join("record.json").exists() {
                let broken = std::fs::read_to_string(folder.join("config.yml"));
                if broken.map_or(true, |text| text.contains("\tbroken")) {
                    std::fs::rename(&saved, folder.join("config.yml")).unwrap();
                }
            }
        }
        // The first daemon that finds the world well may still have its own end before it.
        loop {
            daemon.fate.set_rates(Rates::default());
            for server in &self.servers {
                daemon.edited(server.id);
            }
            if self.settle(&daemon).await {
                break;
            }
            daemon = self.reboot(daemon).await;
        }
        self.check(&daemon).await;
        self.tally.points += daemon.fate.passed();
        self.tally.history = self.machine.docker.history().len() as u64;
        self.tally.virtual_seconds = self.machine.epoch.1.elapsed().as_secs();
        self.tally.installs = self.runs.lock().unwrap().values().sum();
        daemon.kill().await;
        self.tally
    }

    /// Waits until nothing is left to do. `false`: the daemon died on the way.
    async fn settle(&self, daemon: &Daemon) -> bool {
        // Longest legitimate waits: a stop that takes its ten minutes, a lost event until the next listing, a script.
        for _ in 0..240 {
            daemon.wait(Duration::from_secs(10)).await;
            if daemon.fate.is_over() {
                return false;
            }
            if self.is_settled(daemon).await {
                // Lost events are found by the listing that comes every five minutes.
                daemon.wait(Duration::from_secs(330)).await;
                if daemon.fate.is_over() {
                    return false;
                }
                if self.is_settled(daemon).await {
                    return true;
                }
            }
        }
        for server in &self.servers {
            let snapshot = daemon.world.store.get(server.id);
            let plan = daemon.reconciler.preview(server.id).await;
            println!("{}: {plan:#?}\n{:#?}", server.id, snapshot.map(|snapshot| snapshot.record.clone()));
        }
        panic!("seed {}: it does not come to rest", self.seed);
    }

    async fn is_settled(&self, daemon: &Daemon) -> bool {
        for server in &self.servers {
            let Some(snapshot) = daemon.world.store.get(server.id) else { continue };
            let Some(plan) = daemon.reconciler.preview(server.id).await else { continue };
            // A running server is looked at for ever: its disk usage is measured now and then.
            let soon = daemon.world.clock.now() + Duration::from_secs(60);
            let waits = plan.state == PowerState::Offline && plan.requeue.is_some_and(|at| at < soon);
            let untold = daemon.world.with_live(server.id, |live| live.untold.len());
            let unreported = snapshot.record.install.done.as_ref().is_some_and(|done| !done.reported);
            let moving = matches!(plan.state, PowerState::Starting | PowerState::Stopping);
            if !plan.steps.is_empty() || waits || untold > 0 || unreported || moving || !snapshot.wanted() {
                return false;
            }
        }
        true
    }

    async fn check(&self, daemon: &Daemon) {
        let seed = self.seed;
        assert_eq!(self.machine.docker.violations(), [], "seed {seed}");
        let panel_violations = self.machine.panel.lock().violations.clone();
        assert!(panel_violations.is_empty(), "seed {seed}: {panel_violations:?}");
        self.check_runs();
        for (at, server) in self.servers.iter().enumerate() {
            self.check_server(daemon, at, server);
        }
    }

    fn check_runs(&self) {
        for (token, runs) in self.runs.lock().unwrap().iter() {
            assert!(*runs <= 1, "seed {}: the script of {token} ran {runs} times to its end", self.seed);
        }
    }

    fn check_server(&self, daemon: &Daemon, at: usize, server: &Server) {
        let (seed, id) = (self.seed, server.id);
        let name = container_name(id, Role::Server);
        let running = self.machine.docker.state_of(&name) == Some(ContainerState::Running);
        let data = daemon.world.layout.data(id);
        if server.deleted && !server.created {
            assert!(daemon.world.store.get(id).is_none(), "seed {seed}: {at} is deleted, but its record is there");
            assert!(
                self.machine.docker.state_of(&name).is_none(),
                "seed {seed}: {at} is deleted, but its container is there"
            );
            assert!(!data.exists(), "seed {seed}: {at} is deleted, but its files are there");
            return;
        }
        let Some(snapshot) = daemon.world.store.get(id) else { return };
        assert!(snapshot.problem.is_none(), "seed {seed}: {:?}", snapshot.problem);
        let ran = self.runs.lock().unwrap().keys().any(|token| token.starts_with(&id.to_string()));
        if ran && !server.deleted {
            assert!(data.join("world.txt").exists(), "seed {seed}: the files of {at} are gone, and nobody asked");
        }
        let installer = self.machine.docker.state_of(&container_name(id, Role::Installer));
        assert_eq!(installer, None, "seed {seed}: an installer of {at} is left");
        let suspended = snapshot.manifest.as_ref().is_some_and(|manifest| manifest.spec.suspended);
        assert!(!(suspended && running), "seed {seed}: {at} is suspended and runs");
        let crashed = !snapshot.record.crashes.is_empty();
        let refused = snapshot.record.power.closed.as_ref().is_some_and(|closed| closed.reason != "Stopped")
            || snapshot.record.install.done.as_ref().is_some_and(|done| done.outcome == InstallOutcome::Failed);
        match server.expect {
            Expect::Up if !running => {
                assert!(
                    crashed || refused || suspended,
                    "seed {seed}: {at} was to be up, and is not: {:#?}",
                    snapshot.record
                );
            }
            Expect::Down => assert!(!running, "seed {seed}: {at} was to be down, and runs: {:#?}", snapshot.record),
            _ => {}
        }
        self.check_panel(daemon, at, server, running);
    }

    /// What happened has reached the panel, and what it believes is so.
    fn check_panel(&self, daemon: &Daemon, at: usize, server: &Server, running: bool) {
        let seed = self.seed;
        let panel = self.machine.panel.lock();
        let Some(side) = panel.servers.get(&server.id) else { return };
        assert!(!side.promised, "seed {seed}: an installation of {at} was promised and never reported");
        let believed = side.states.last().map_or(PowerState::Offline, |(_, new)| *new);
        let shown = daemon.world.store.status(server.id).map(|status| status.state).unwrap_or_default();
        assert_eq!(believed, shown, "seed {seed}: the panel believes something else of {at}: {:?}", side.states);
        assert_eq!(running, shown == PowerState::Running, "seed {seed}: {at} shows {shown:?}");
        let listed = daemon.world.store.get(server.id).is_some_and(|snapshot| snapshot.is_listed());
        assert!(listed, "seed {seed}: the panel lists {at}, and the API does not know it");
    }
}
