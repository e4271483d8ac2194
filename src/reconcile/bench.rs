//! A node in memory for unit tests: a state folder of its own, an engine without faults, and a panel with scripted answers.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tempfile::TempDir;

use super::context::{Context, Parts};
use crate::clock::Clock;
use crate::config::NodeConfig;
use crate::console::{Console, ConsoleOptions};
use crate::ids::Ids;
use crate::model::settings::{Process, Settings};
use crate::model::{ManagedBy, Manifest, PowerState, Requester, Script, ServerId, Timestamp, Verb};
use crate::panel::{Listed, Panel, PanelError, PanelServer};
use crate::requests::NewRequest;
use crate::retry::Jitter;
use crate::runtime::KernelLimits;
use crate::runtime::fake::{FakeEngine, FakeRuntime, Faults};
use crate::runtime::host::Host;
use crate::store::{Blocking, DiskHook, Store};
use crate::tasks::Tasks;

/// One of some servers.
pub fn id(number: u32) -> ServerId {
    format!("550e8400-e29b-41d4-a716-{number:012}").parse().unwrap()
}

/// A server as a panel has it.
pub fn server(invocation: &str) -> PanelServer {
    let settings = Settings { invocation: invocation.into(), ..Settings::default() };
    PanelServer { suspended: false, settings, process: Process::default() }
}

/// A server of a file.
pub fn file_server(number: u32) -> Manifest {
    let mut manifest = Manifest::new(id(number), ManagedBy::File);
    manifest.spec.settings.container.image = "game:1".into();
    manifest
}

/// A request of the panel, made now.
pub fn request(context: &Context, name: &str, verb: Verb) -> NewRequest {
    NewRequest { id: name.into(), at: context.clock.now(), expires_at: None, by: Requester::Panel, verb }
}

/// The context of a node, and its state folder.
pub fn context(panel: Option<Arc<dyn Panel>>) -> (TempDir, Arc<Context>) {
    context_on(Blocking::Inline, None, panel)
}

/// The same, on a disk of its own.
pub fn context_on(
    blocking: Blocking,
    disk: Option<Arc<dyn DiskHook>>,
    panel: Option<Arc<dyn Panel>>,
) -> (TempDir, Arc<Context>) {
    let (root, context, _) = machine_on(blocking, disk, panel);
    (root, Arc::new(context))
}

/// A context that can still be changed, and the machine with its engine.
pub fn machine(panel: Option<Arc<dyn Panel>>) -> (TempDir, Context, FakeEngine) {
    machine_on(Blocking::Inline, None, panel)
}

fn machine_on(
    blocking: Blocking,
    disk: Option<Arc<dyn DiskHook>>,
    panel: Option<Arc<dyn Panel>>,
) -> (TempDir, Context, FakeEngine) {
    let root = tempfile::tempdir().unwrap();
    let node = Arc::new(NodeConfig::for_tests(root.path()));
    crate::config::host::make_directories(&node).unwrap();
    let machine = FakeEngine::default();
    let tasks = Tasks::new();
    let host = Host::new(node.clone(), tasks.clone(), blocking, KernelLimits::default());
    let runtime = Arc::new(FakeRuntime::faultless(machine.clone(), host));
    let options = ConsoleOptions { app_name: "test".into(), max_transcript_bytes: 1 << 20, max_transcript_files: 1 };
    let start = tokio::time::Instant::now();
    let clock = Clock::Simulated { base: Timestamp::from_millis(1_700_000_000_000), start };
    let store = Store::open(root.path(), blocking, clock, disk).unwrap();
    let events = store.events().clone();
    let console = Console::new(runtime.clone(), blocking, events, options, tasks.clone(), Arc::new(|_| {}));
    let context = Context::new(Parts {
        store,
        runtime,
        panel,
        console,
        node,
        clock,
        jitter: Jitter::seeded(1),
        ids: Ids::numbered(1),
        tasks,
        kernel: "test".into(),
        wake: Arc::new(|_| {}),
    });
    (root, context, machine)
}

/// The host of a node.
pub fn host(context: &Context) -> Host {
    Host::new(context.node.config.clone(), context.tasks.clone(), context.store.blocking(), KernelLimits::default())
}

/// Connects a context to its engine again, with these faults.
pub fn reconnect(context: &mut Context, machine: &FakeEngine, faults: Arc<dyn Faults>) {
    context.runtime = Arc::new(FakeRuntime::new(machine.clone(), faults, host(context)));
}

/// A panel that answers every question the same.
#[derive(Default)]
pub struct ScriptedPanel {
    answer: Mutex<Option<PanelError>>,
    asked: AtomicU32,
    /// How long it takes to answer about a server.
    takes: Mutex<Duration>,
    under_way: AtomicU32,
    at_once: AtomicU32,
    /// The state whose reports arrive while their answers are lost.
    unanswered: Mutex<Option<PowerState>>,
    states: Mutex<Vec<(PowerState, PowerState)>>,
}

impl ScriptedPanel {
    /// What it answers from now on.
    pub fn answers(&self, error: PanelError) {
        *self.answer.lock().unwrap() = Some(error);
        self.asked.store(0, Ordering::Relaxed);
    }

    /// How long it takes from now on to answer about a server.
    pub fn takes(&self, time: Duration) {
        *self.takes.lock().unwrap() = time;
    }

    /// Reports of this state arrive from now on, and their answers are lost.
    pub fn loses_answers_about(&self, state: Option<PowerState>) {
        *self.unanswered.lock().unwrap() = state;
    }

    /// The states that were reported, answered or not, as the panel got them: the one before, and the new one.
    pub fn states(&self) -> Vec<(PowerState, PowerState)> {
        self.states.lock().unwrap().clone()
    }

    /// How many questions about servers were under way at once, at most.
    pub fn at_once(&self) -> u32 {
        self.at_once.load(Ordering::Relaxed)
    }

    /// How often it was asked since.
    pub fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }

    fn answer<T>(&self, otherwise: T) -> Result<T, PanelError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.answer.lock().unwrap().clone().map_or(Ok(otherwise), Err)
    }
}

#[async_trait]
impl Panel for ScriptedPanel {
    async fn list(&self) -> Result<Listed, PanelError> {
        self.answer(Listed { servers: Vec::new(), asked: tokio::time::Instant::now(), incomplete: None })
    }
    async fn server(&self, _: ServerId) -> Result<PanelServer, PanelError> {
        let now = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        self.at_once.fetch_max(now, Ordering::Relaxed);
        let takes = *self.takes.lock().unwrap();
        tokio::time::sleep(takes).await;
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        self.answer(server("run"))
    }
    async fn script(&self, _: ServerId) -> Result<Script, PanelError> {
        self.answer(Script { image: "installer:1".into(), entrypoint: "sh".into(), text: "true".into() })
    }
    async fn report_install(&self, _: ServerId, _: bool, _: bool) -> Result<(), PanelError> {
        self.answer(())
    }
    async fn report_state(&self, _: ServerId, before: PowerState, new: PowerState) -> Result<(), PanelError> {
        self.states.lock().unwrap().push((before, new));
        if *self.unanswered.lock().unwrap() == Some(new) {
            return Err(PanelError::Unreachable { call: "POST".into(), cause: "reset".into() });
        }
        self.answer(())
    }
    async fn reset(&self) -> Result<(), PanelError> {
        self.answer(())
    }
}
