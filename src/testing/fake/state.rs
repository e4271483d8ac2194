//! The fake engine's containers and networks, and how they change. All of it runs under the machine's lock.
//!
//! Time is the time since the machine was made. Future actions are on an agenda, and [`State::advance`] runs those that are due.
//! Ended containers leave through `ended` (for the hook), events through the listeners.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::calls::{Breach, CallLog, Ended, Violation};
use super::container::{Container, Phase};
use super::images::{Images, canonical};
use super::program::{Act, KILLED, Launch, Program, Script, default_program};
use super::rejection::{Rejection, signal_name};
use crate::files::directory_id;
use crate::model::{Role, ServerId};
use crate::runtime::{ContainerChange, ContainerSpec, Limits, NetworkInfo, Purpose, RuntimeEvent, VolumeRole};

/// Longest line of input, bytes: the terminal's limit.
const LINE: usize = 4_095;

/// Chooses what a container does.
pub(super) type Chooser = Arc<dyn Fn(&Launch<'_>) -> Program + Send + Sync>;

/// A network, and the subnet that it was made with.
#[derive(Debug, Clone)]
pub(super) struct Network {
    pub(super) info: NetworkInfo,
    pub(super) subnet: String,
}

/// A scheduled action of a container.
#[derive(Debug)]
struct Due {
    container: u64,
    run: u32,
    act: Act,
}

/// The machine's state.
pub(super) struct State {
    pub(super) now: Duration,
    /// By number, which is the order of creation.
    pub(super) containers: BTreeMap<u64, Container>,
    created: u64,
    runs_by_name: BTreeMap<String, u32>,
    agenda: BTreeMap<(Duration, u64), Due>,
    planned: u64,
    pub(super) programs: BTreeMap<String, Program>,
    pub(super) chooser: Chooser,
    pub(super) images: Images,
    pub(super) networks: BTreeMap<String, Network>,
    pub(super) taken_ports: BTreeSet<(String, u16)>,
    pub(super) checks_mounts: bool,
    pub(super) hanging: BTreeSet<String>,
    pub(super) up: bool,
    /// The daemon runs on another machine, and sees none of the processes.
    pub(super) remote: bool,
    /// Readings of meters.
    pub(super) meter_reads: u64,
    pub(super) live_restore: bool,
    /// Bytes that a container's log keeps.
    pub(super) kept_log: Option<usize>,
    /// It accepts no new connections and answers on open ones.
    pub(super) goes_down: bool,
    /// Counts the engine's stops: connections of an earlier generation are broken.
    pub(super) generation: u64,
    pub(super) listeners: Vec<mpsc::UnboundedSender<(Duration, RuntimeEvent)>>,
    pub(super) call_log: CallLog,
    /// For the hook, which runs without the lock.
    pub(super) ended: Vec<Ended>,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            now: Duration::ZERO,
            containers: BTreeMap::new(),
            created: 0,
            runs_by_name: BTreeMap::new(),
            agenda: BTreeMap::new(),
            planned: 0,
            programs: BTreeMap::new(),
            chooser: Arc::new(default_program),
            images: Images::default(),
            networks: BTreeMap::new(),
            taken_ports: BTreeSet::new(),
            checks_mounts: true,
            hanging: BTreeSet::new(),
            up: true,
            remote: false,
            meter_reads: 0,
            live_restore: false,
            kept_log: None,
            goes_down: false,
            generation: 0,
            listeners: Vec::new(),
            call_log: CallLog::default(),
            ended: Vec::new(),
        }
    }

    /// The time of the next action.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.agenda.keys().next().map(|(at, _)| *at)
    }

    /// Advances the time to `now`: runs due actions in order, each at its own time.
    pub(super) fn advance(&mut self, now: Duration) {
        while let Some(entry) = self.agenda.first_entry()
            && entry.key().0 <= now
        {
            let ((at, _), due) = entry.remove_entry();
            self.now = self.now.max(at);
            let current = |container: &Container| container.run == due.run && container.running();
            if self.containers.get(&due.container).is_some_and(current) {
                self.act(due.container, due.act);
            }
        }
        self.now = self.now.max(now);
    }

    /// A container by its id or name.
    pub(super) fn find(&self, key: &str) -> Option<&Container> {
        self.containers.values().find(|container| container.id == key || container.name == key)
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.find(key).map(|container| container.number)
    }

    pub(super) fn find_mut(&mut self, key: &str) -> Option<&mut Container> {
        self.containers.get_mut(&self.number(key)?)
    }

    /// Makes a container.
    pub(super) fn create(&mut self, spec: &ContainerSpec, purpose: Option<&Purpose>) -> Result<String, Rejection> {
        let token = purpose.map(|purpose| purpose.token.clone());
        let rejected = self.reject_creation(spec);
        self.call_log.note(self.now, "create", &spec.name, token, rejected.is_none());
        if let Some(rejection) = rejected {
            return Err(rejection);
        }
        let image = self.images.local.get(&canonical(&spec.image));
        let stop_signal = image.and_then(|image| image.stop_signal.clone());
        Ok(self.add(spec, purpose, stop_signal))
    }

    /// Adds a container without checks.
    pub(super) fn add(
        &mut self,
        spec: &ContainerSpec,
        purpose: Option<&Purpose>,
        stop_signal: Option<String>,
    ) -> String {
        self.created += 1;
        let number = self.created;
        let mut container = Container::new(number, spec, purpose);
        container.stop_signal = stop_signal;
        let (id, owner) = (container.id.clone(), container.owner());
        self.containers.insert(number, container);
        if let Some(owner) = owner {
            let there = self.alive(owner, |_| true);
            let counts = self.call_log.counts(owner);
            counts.creates += 1;
            counts.most = counts.most.max(there);
        }
        self.emit(number, ContainerChange::Created);
        id
    }

    /// Starts a container; one that runs stays as it is.
    pub(super) fn start(&mut self, key: &str) -> Result<(), Rejection> {
        let number = self.number(key).ok_or_else(|| Rejection::no_container(key))?;
        if self.containers[&number].running() {
            return Ok(());
        }
        let name = self.containers[&number].name.clone();
        let program = self.choose(number, &name);
        let rejected = self.reject_start(number, &program);
        let token = self.containers[&number].token();
        self.call_log.note(self.now, "start", &name, token, rejected.is_none());
        if let Some(rejection) = rejected {
            if let Some(container) = self.containers.get_mut(&number).filter(|found| found.phase == Phase::Created) {
                container.phase = Phase::StartFailed;
            }
            return Err(rejection);
        }
        self.check_first_start(number);
        *self.runs_by_name.entry(name).or_default() += 1;
        let now = self.now;
        let script = program.script.clone();
        let mut ahead = Vec::new();
        if let Some(container) = self.containers.get_mut(&number) {
            container.phase = Phase::Running;
            container.started = Some(now);
            let data = container.spec.volumes.iter().find(|volume| volume.role == VolumeRole::Data);
            let path = data.and_then(|data| data.path.as_deref());
            container.files = path.and_then(|path| directory_id(Path::new(path)));
            container.run += 1;
            container.program = Arc::new(program);
            container.signalled = false;
            ahead = std::mem::take(&mut container.line);
        }
        self.plan(number, script);
        self.check_start(number);
        self.emit(number, ContainerChange::Started);
        self.type_in(key, &ahead);
        Ok(())
    }

    fn choose(&self, number: u64, name: &str) -> Program {
        let container = &self.containers[&number];
        if let Some(program) = self.programs.get(&canonical(&container.spec.image)) {
            return program.clone();
        }
        let launch = Launch {
            name,
            spec: &container.spec,
            purpose: container.purpose.as_ref(),
            run: container.run + 1,
            run_of_name: self.runs_by_name.get(name).copied().unwrap_or(0) + 1,
        };
        (self.chooser)(&launch)
    }

    fn check_first_start(&mut self, number: u64) {
        let container = &self.containers[&number];
        if let (Phase::StartFailed, Some((server, _))) = (container.phase, container.owner()) {
            self.call_log.violations.push(Violation { at: self.now, server, what: Breach::StartedAfterFailing });
        }
    }

    /// Counts a start, and records violations.
    fn check_start(&mut self, number: u64) {
        let Some((server, role)) = self.containers[&number].owner() else {
            return;
        };
        let same = self.alive((server, role), Container::running);
        let counts = self.call_log.counts((server, role));
        counts.starts += 1;
        counts.most_running = counts.most_running.max(same);
        let (other, breach) = match role {
            Role::Server => (Role::Installer, Breach::StartedWhileInstalling),
            Role::Installer => (Role::Server, Breach::InstallingWhileStarted),
        };
        let at = self.now;
        if self.alive((server, other), Container::running) > 0 {
            self.call_log.violations.push(Violation { at, server, what: breach });
        }
        if same > 1 {
            self.call_log.violations.push(Violation { at, server, what: Breach::TwoOfARole(role) });
        }
    }

    fn alive(&self, owner: (ServerId, Role), which: impl Fn(&Container) -> bool) -> u32 {
        let theirs = self.containers.values().filter(|container| container.owner() == Some(owner));
        u32::try_from(theirs.filter(|container| which(container)).count()).unwrap_or(u32::MAX)
    }

    fn plan(&mut self, number: u64, script: Script) {
        let Some(container) = self.containers.get(&number) else {
            return;
        };
        for (after, act) in script {
            self.planned += 1;
            let due = Due { container: number, run: container.run, act };
            self.agenda.insert((self.now + after, self.planned), due);
        }
    }

    fn act(&mut self, number: u64, act: Act) {
        match act {
            Act::Print(mut line) => {
                line.push_str("\r\n");
                self.print(number, line.into());
            }
            Act::Write(bytes) => self.print(number, bytes.into()),
            Act::Exit(code) => {
                let by_itself = self.containers.get(&number).is_some_and(|container| !container.signalled);
                self.exit(number, code, false, by_itself);
            }
            Act::RunOutOfMemory => {
                self.emit(number, ContainerChange::Other);
                self.exit(number, KILLED, true, false);
            }
        }
    }

    fn print(&mut self, number: u64, bytes: Bytes) {
        if let Some(container) = self.containers.get_mut(&number) {
            let kept = self.kept_log.filter(|_| container.owner().is_some_and(|(_, role)| role == Role::Installer));
            container.print(bytes, kept);
        }
    }

    fn exit(&mut self, number: u64, code: i64, oom_killed: bool, by_itself: bool) {
        let now = self.now;
        let Some(container) = self.containers.get_mut(&number).filter(|container| container.running()) else {
            return;
        };
        container.phase = Phase::Exited { code, oom_killed };
        container.finished = Some(now);
        container.line.clear();
        container.drop_readers();
        let (spec, purpose) = (container.spec.clone(), container.purpose.clone());
        self.call_log.note(now, "die", &container.name, container.token(), true);
        self.ended.push(Ended { spec, purpose, code, by_itself });
        if let Some(owner) = self.containers[&number].owner() {
            self.call_log.counts(owner).ends += 1;
        }
        self.emit(number, ContainerChange::Ended);
    }

    /// Sends a signal; `false` where no container runs.
    pub(super) fn signal(&mut self, key: &str, signal: &str) -> Result<bool, Rejection> {
        let name = signal_name(signal)?;
        let Some(number) = self.number(key) else {
            return Ok(false);
        };
        let Some(container) = self.containers.get_mut(&number).filter(|container| container.running()) else {
            return Ok(false);
        };
        container.signalled = true;
        let program = container.program.clone();
        self.call_log.note(self.now, "signal", &container.name, container.token(), true);
        self.emit(number, ContainerChange::Other);
        if name == "SIGKILL" {
            self.exit(number, KILLED, false, false);
        } else if let Some(script) = program.signals.get(name.as_str()) {
            self.plan(number, script.clone());
        }
        Ok(true)
    }

    /// Whether a removal begins now or has nothing to do; `false` where an earlier one is in progress.
    pub(super) fn begin_removal(&mut self, key: &str) -> bool {
        self.find_mut(key).is_none_or(|container| !std::mem::replace(&mut container.removing, true))
    }

    /// Removes a container, killing it first; `false` where there is none.
    pub(super) fn remove(&mut self, key: &str) -> bool {
        let Some(number) = self.number(key) else {
            return false;
        };
        if self.containers[&number].running() {
            self.emit(number, ContainerChange::Other);
            self.exit(number, KILLED, false, false);
        }
        self.emit(number, ContainerChange::Removed);
        if let Some(container) = self.containers.remove(&number) {
            self.call_log.note(self.now, "remove", &container.name, container.token(), true);
            if let Some(owner) = container.owner() {
                self.call_log.counts(owner).removes += 1;
            }
        }
        true
    }

    /// Changes limits; `false` where there is no such container.
    pub(super) fn update(&mut self, key: &str, limits: &Limits) -> bool {
        let now = self.now;
        let Some(container) = self.find_mut(key) else {
            return false;
        };
        container.limits = limits.clone();
        let (name, token) = (container.name.clone(), container.token());
        self.call_log.note(now, "update", &name, token, true);
        true
    }

    /// Freezes a running container, or thaws it. Its program gets what is typed meanwhile at the thaw; what it does by itself goes on.
    pub(super) fn freeze(&mut self, key: &str, frozen: bool) {
        let Some(container) = self.find_mut(key).filter(|container| container.running()) else { return };
        if frozen {
            container.frozen.get_or_insert_default();
        } else if let Some(typed) = container.frozen.take() {
            let id = container.id.clone();
            self.type_in(&id, &typed);
        }
    }

    /// Sends bytes to the terminal of a container: they are echoed, and whole lines reach the program. `false` where it has ended.
    pub(super) fn type_in(&mut self, id: &str, bytes: &[u8]) -> bool {
        let Some(number) = self.number(id) else {
            return false;
        };
        for byte in bytes {
            let Some(container) = self.containers.get_mut(&number) else {
                return false;
            };
            if let Some(waiting) = &mut container.frozen {
                waiting.push(*byte);
                continue;
            }
            match container.phase {
                Phase::Exited { .. } => return false,
                Phase::Running if matches!(byte, b'\n' | b'\r') => self.enter(number),
                Phase::Created | Phase::StartFailed | Phase::Running if container.line.len() < LINE => {
                    container.line.push(*byte)
                }
                Phase::Created | Phase::StartFailed | Phase::Running => {}
            }
        }
        true
    }

    /// Completes the line of input.
    fn enter(&mut self, number: u64) {
        let Some(container) = self.containers.get_mut(&number) else {
            return;
        };
        let line = String::from_utf8_lossy(&std::mem::take(&mut container.line)).into_owned();
        let script = container.program.typed(&line);
        self.print(number, format!("{line}\r\n").into());
        self.plan(number, script);
        self.advance(self.now);
    }

    fn emit(&mut self, number: u64, change: ContainerChange) {
        let Some((server, role)) = self.containers.get(&number).and_then(Container::owner) else {
            return;
        };
        let event = RuntimeEvent { server, role, change };
        let now = self.now;
        self.listeners.retain(|listener| listener.send((now, event.clone())).is_ok());
    }

    /// Stops or starts the engine.
    pub(super) fn set_up(&mut self, up: bool) {
        if up && self.goes_down {
            self.set_up(false);
        }
        if self.up == up {
            return;
        }
        self.up = up;
        self.goes_down = false;
        if up {
            return;
        }
        self.generation += 1;
        self.listeners.clear();
        for container in self.containers.values_mut() {
            container.drop_readers();
            container.removing = false;
        }
        self.end_all();
    }

    /// Shuts the engine down: it ends its containers, and accepts no new connections.
    pub(super) fn go_down(&mut self) {
        if self.up {
            self.goes_down = true;
            self.end_all();
        }
    }

    fn end_all(&mut self) {
        if !self.live_restore {
            let numbers: Vec<u64> = self.containers.keys().copied().collect();
            numbers.into_iter().for_each(|number| self.exit(number, KILLED, false, false));
        }
    }
}
