//! The container runtime in memory: the same promises as Docker, on tokio's clock, and with faults under a test's control.
//!
//! A [`FakeEngine`] is a machine with its engine, images and containers; it outlives daemons. A [`FakeRuntime`] is one daemon's
//! connection to it, with the [`Faults`] of that connection. Each start of a container selects a [`Program`]. The same calls at the
//! same (paused) times give the same history: the module uses no threads, no real time and no randomness.

mod calls;
mod checks;
mod container;
mod engine;
mod faults;
mod images;
mod log;
mod meter;
mod program;
mod pull;
mod rejection;
mod state;
mod streams;
#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use tokio::sync::{broadcast, mpsc, oneshot};

pub use calls::{Breach, Counts, Ended, Entry, HISTORY, Violation};
pub use engine::{EPOCH, FakeEngine};
pub use faults::{Call, Delivery, Faults, NoFaults};
pub use images::{LocalImage, Pulls, RemoteImage};
pub use log::LOG_CHUNKS;
pub use program::{Act, KILLED, Launch, Load, Program, Reaction, Script, ServerScript, Typed, default_program};

use crate::config::RegistryFile;
use crate::model::{ContainerStatus, OtherNode, Role, ServerId};
use crate::runtime::host::{Engine, Host};
use crate::runtime::{
    Attachment, BuiltSpec, ContainerSpec, Counters, EngineDiskUsage, EngineInfo, ErrorKind, HostInfo, Limits, Listed,
    LogPart, Meter, NetworkInfo, NetworkSpec, PruneReport, PullLine, Purpose, Removal, Runtime, RuntimeError,
    RuntimeEvent, container_name, spec_builder,
};
use images::canonical;
use meter::FakeMeter;
use pull::Pull;
use rejection::Rejection;
use state::State;
use streams::{Listener, TerminalInput};

/// Timeout of reads, signals, updates, and of opening a stream.
const QUICK: Duration = Duration::from_secs(10);
/// Timeout of a start, and of creating a network.
const START: Duration = Duration::from_secs(30);
/// Timeout of creating or removing a container.
const HEAVY: Duration = Duration::from_secs(60);

/// One daemon's connection to a [`FakeEngine`].
#[derive(Clone)]
pub struct FakeRuntime {
    engine: FakeEngine,
    faults: Arc<dyn Faults>,
    host: Arc<Host>,
    /// Hash of the limits that this connection last applied, by container id. Labels cannot be changed, so a new daemon knows only
    /// the limits at creation, as with Docker.
    limits: Arc<Mutex<BTreeMap<String, String>>>,
}

/// A call in progress, as faults and errors describe it.
struct Request {
    call: Call,
    /// The name of the container.
    name: Option<String>,
    attempt: String,
    limit: Duration,
}

impl FakeRuntime {
    /// A connection with these faults, of a daemon on this host.
    pub fn new(engine: FakeEngine, faults: Arc<dyn Faults>, host: Host) -> Self {
        Self { engine, faults, host: Arc::new(host), limits: Arc::default() }
    }

    /// A connection without faults.
    pub fn faultless(engine: FakeEngine, host: Host) -> Self {
        Self::new(engine, Arc::new(NoFaults), host)
    }

    /// The machine that it is connected to.
    pub fn engine(&self) -> &FakeEngine {
        &self.engine
    }

    fn limits(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call about no container.
    fn about(call: &'static str, what: &str, limit: Duration) -> Request {
        let call = Call { name: call, server: None, role: None };
        Request { attempt: format!("{} {what}", call.name), call, name: None, limit }
    }

    /// A call about the container of a role of a server.
    fn about_role(call: &'static str, server: ServerId, role: Role, limit: Duration) -> Request {
        let name = container_name(server, role);
        let call = Call { name: call, server: Some(server), role: Some(role) };
        Request { attempt: format!("{} container {name}", call.name), call, name: Some(name), limit }
    }

    /// A call about a container by its id.
    fn about_id(&self, call: &'static str, id: &str, limit: Duration) -> Request {
        let known = self.engine.with(|state| state.find(id).map(|found| (found.name.clone(), found.owner())));
        let (name, owner) = known.unzip();
        let (server, role) = owner.flatten().unzip();
        Request { call: Call { name: call, server, role }, name, attempt: format!("{call} container {id}"), limit }
    }

    /// Makes a call within its timeout: faults before, the effect, faults after.
    async fn ask<T, F>(&self, request: Request, effect: F) -> Result<T, RuntimeError>
    where
        T: Send + 'static,
        F: FnOnce(&mut State) -> Result<T, Rejection> + Send + 'static,
    {
        self.ask_unless(request, |_| None, effect).await
    }

    /// The same, for a call that the engine may answer without an effect.
    async fn ask_unless<T, F>(
        &self,
        request: Request,
        at_once: impl FnOnce(&mut State) -> Option<T> + Send,
        effect: F,
    ) -> Result<T, RuntimeError>
    where
        T: Send + 'static,
        F: FnOnce(&mut State) -> Result<T, Rejection> + Send + 'static,
    {
        let work = async {
            self.faults.before(request.call.clone()).await?;
            self.reach(&request).await?;
            let answer = self.engine.with(at_once);
            let result = match (answer, self.faults.takes(&request.call)) {
                (Some(answer), _) => Ok(answer),
                (None, None) => self.engine.with(effect).map_err(|no| no.into_error(request.attempt.clone())),
                (None, Some(time)) => self.carry_out(&request, time, effect).await,
            };
            self.faults.after(request.call.clone()).await?;
            result
        };
        match tokio::time::timeout(request.limit, work).await {
            Ok(result) => result,
            Err(_) => Err(RuntimeError::timeout(request.attempt, request.limit)),
        }
    }

    /// Waits until the engine accepts the call: not while its container hangs.
    async fn reach(&self, request: &Request) -> Result<(), RuntimeError> {
        loop {
            // Subscribe before the state is read, so that no change is missed.
            let poked = self.engine.outside();
            let (up, hangs) = self.engine.with(|state| {
                let name = request.name.as_ref();
                (state.up, name.is_some_and(|name| state.hanging.contains(name)))
            });
            if !up {
                return Err(unreachable(&request.attempt));
            }
            if !hangs {
                self.engine.with(|state| *state.call_log.calls.entry(request.call.name).or_default() += 1);
                return Ok(());
            }
            poked.await;
        }
    }

    /// Runs the effect after this time, even if the caller is dropped.
    async fn carry_out<T, F>(&self, request: &Request, time: Duration, effect: F) -> Result<T, RuntimeError>
    where
        T: Send + 'static,
        F: FnOnce(&mut State) -> Result<T, Rejection> + Send + 'static,
    {
        let (engine, attempt) = (self.engine.clone(), request.attempt.clone());
        let (sender, answer) = oneshot::channel();
        // The engine's work continues when the daemon dies, so it is no task of the daemon.
        #[allow(clippy::disallowed_methods)]
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            let done = engine.with(|state| state.up.then(|| effect(state)));
            let result = match done {
                None => Err(unreachable(&attempt)),
                Some(result) => result.map_err(|no| no.into_error(attempt)),
            };
            // The caller may have been dropped.
            let _ = sender.send(result);
        });
        answer.await.unwrap_or_else(|_| Err(unreachable(&request.attempt)))
    }
}

fn unreachable(attempt: &str) -> RuntimeError {
    RuntimeError::new(ErrorKind::Unavailable, attempt, "connection refused")
}

#[async_trait]
impl Runtime for FakeRuntime {
    fn host(&self) -> HostInfo {
        self.host.info()
    }

    fn pulls(&self) -> broadcast::Receiver<PullLine> {
        self.host.pulls()
    }

    async fn prepare_node(&self) -> Result<(), RuntimeError> {
        self.host.prepare_node(self).await
    }

    async fn node_settled(&self) {
        self.host.settled().await;
    }

    async fn resolve(&self, server: ServerId, built: BuiltSpec) -> Result<BuiltSpec, RuntimeError> {
        self.host.resolve(server, built).await
    }

    async fn prepare(&self, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        self.host.prepare(self, spec).await
    }

    async fn engine(&self) -> Result<EngineInfo, RuntimeError> {
        self.ask(Self::about("engine", "info", QUICK), |state| Ok(view::engine_info(state))).await
    }

    async fn disk_usage(&self) -> Result<EngineDiskUsage, RuntimeError> {
        self.ask(Self::about("disk_usage", "of the engine", HEAVY), |state| Ok(view::disk_usage(state))).await
    }

    async fn prune_images(&self) -> Result<PruneReport, RuntimeError> {
        // A local image always has its name.
        self.ask(Self::about("prune_images", "of the engine", HEAVY), |_| Ok(PruneReport::default())).await
    }

    async fn ping(&self) -> Result<(), RuntimeError> {
        let request = Self::about("stays", "the engine", QUICK);
        let attempt = request.attempt.clone();
        let ask = async {
            match self.ask(request, |state| Ok(state.goes_down)).await? {
                true => Err(unreachable(&attempt)),
                false => Ok(()),
            }
        };
        self.host.check.run(ask).await
    }

    async fn list(&self) -> Result<Vec<Listed>, RuntimeError> {
        let node = self.host.identity().clone();
        self.ask(Self::about("list", "containers", QUICK), move |state| {
            let listed = state.containers.values().filter_map(|container| {
                let (server, role) = container.owner()?;
                let owner = container.node(&node);
                Some(Listed { server, role, id: container.id.clone(), running: container.running(), owner })
            });
            Ok(listed.collect())
        })
        .await
    }

    async fn inspect(&self, server: ServerId, role: Role) -> Result<Option<ContainerStatus>, RuntimeError> {
        let request = Self::about_role("inspect", server, role, QUICK);
        let (engine, node) = (self.engine.clone(), self.host.identity().clone());
        let read = move |state: &mut State| Ok(view::status(&engine, &node, state, server, role));
        let mut status = self.ask(request, read).await?;
        if let Some(status) = &mut status
            && let Some(applied) = self.limits().get(&status.id)
        {
            status.limits_hash = Some(applied.clone());
        }
        Ok(status)
    }

    async fn create(&self, spec: &ContainerSpec, purpose: &Purpose) -> Result<String, RuntimeError> {
        let mut request = Self::about_role("create", purpose.server, purpose.role, HEAVY);
        request.attempt = format!("create container {} of image {}", spec.name, spec.image);
        request.name = Some(spec.name.clone());
        let (attempt, name) = (request.attempt.clone(), spec.name.clone());
        let (spec, purpose, node) = (spec.clone(), purpose.clone(), self.host.identity().clone());
        let create = move |state: &mut State| {
            let id = state.create(&spec, Some(&purpose))?;
            if let Some(container) = state.find_mut(&id) {
                container.node = Some(OtherNode { id: node.id.clone(), root: node.root.clone() });
            }
            Ok(id)
        };
        let created = self.ask(request, create).await;
        let node = self.host.identity();
        let holder = self.engine.with(|state| {
            let holder = state.find(&name)?;
            Some((holder.id.clone(), holder.node(node).other()?.clone()))
        });
        match holder.filter(|_| created.as_ref().is_err_and(|error| error.kind == ErrorKind::NameTaken)) {
            Some((container, other)) => Err(RuntimeError::held_by_other_node(attempt, &container, &other)),
            None => created,
        }
    }

    async fn start(&self, id: &str) -> Result<(), RuntimeError> {
        let key = id.to_owned();
        let start = self.ask(self.about_id("start", id, START), move |state| state.start(&key)).await;
        self.host.started(self, start).await
    }

    async fn signal(&self, id: &str, signal: &str) -> Result<(), RuntimeError> {
        let (key, signal) = (id.to_owned(), signal.to_owned());
        let request = self.about_id("signal", id, QUICK);
        self.ask(request, move |state| state.signal(&key, &signal).map(|_| ())).await
    }

    async fn freeze(&self, id: &str, frozen: bool) -> Result<(), RuntimeError> {
        let key = id.to_owned();
        let request = self.about_id(if frozen { "freeze" } else { "thaw" }, id, QUICK);
        let freeze = move |state: &mut State| {
            state.freeze(&key, frozen);
            Ok(())
        };
        self.ask(request, freeze).await
    }

    async fn remove(&self, id: &str) -> Result<Removal, RuntimeError> {
        let key = id.to_owned();
        let under_way = |state: &mut State| (!state.begin_removal(id)).then_some(Removal::UnderWay);
        let remove = move |state: &mut State| {
            state.remove(&key);
            Ok(Removal::Done)
        };
        let removal = self.ask_unless(self.about_id("remove", id, HEAVY), under_way, remove).await?;
        if removal == Removal::Done {
            self.limits().remove(id);
        }
        Ok(removal)
    }

    async fn update(&self, id: &str, limits: &Limits) -> Result<(), RuntimeError> {
        let (key, wanted) = (id.to_owned(), limits.clone());
        let update = move |state: &mut State| Ok(state.update(&key, &wanted));
        let there = self.ask(self.about_id("update", id, QUICK), update).await?;
        if there {
            self.limits().insert(id.to_owned(), limits.hash());
        }
        Ok(())
    }

    async fn remove_network(&self, server: ServerId) -> Result<(), RuntimeError> {
        let name = spec_builder::server_network_name(server);
        let request = Self::about("remove_network", &name, QUICK);
        self.ask(request, move |state| view::remove_network(state, &name)).await
    }

    async fn attach(&self, id: &str) -> Result<Attachment, RuntimeError> {
        let (key, engine) = (id.to_owned(), self.engine.clone());
        let attach = move |state: &mut State| {
            let generation = state.generation;
            let container = state.find_mut(&key).ok_or_else(|| Rejection::no_container(&key))?;
            let run = if container.running() { container.run } else { container.run + 1 };
            let output = streams::output(None, Some(container.read(true)));
            let keyboard = TerminalInput { engine, id: container.id.clone(), run, generation };
            Ok(Attachment { output, input: Box::new(keyboard) })
        };
        self.ask(self.about_id("attach", id, QUICK), attach).await
    }

    async fn logs(
        &self,
        id: &str,
        part: LogPart,
    ) -> Result<BoxStream<'static, Result<Bytes, RuntimeError>>, RuntimeError> {
        let key = id.to_owned();
        let read = move |state: &mut State| {
            let container = state.find_mut(&key).ok_or_else(|| Rejection::no_container(&key))?;
            if container.spec.log.as_ref().is_some_and(|log| log.driver == "none") {
                return Err(Rejection::new(501, "configured logging driver does not support reading"));
            }
            let bytes = match part {
                LogPart::All | LogPart::Follow => container.log.all(),
                LogPart::Tail(lines) => container.log.tail(lines),
            };
            let follows = part == LogPart::Follow && container.running();
            Ok(streams::output(Some(bytes), follows.then(|| container.read(false))))
        };
        self.ask(self.about_id("logs", id, QUICK), read).await
    }

    fn meter(&self, container: &ContainerStatus) -> Option<Box<dyn Meter>> {
        FakeMeter::of(&self.engine, &container.id)
    }

    async fn counters(&self, id: &str) -> Result<Counters, RuntimeError> {
        let key = id.to_owned();
        let read = move |state: &mut State| {
            let now = state.now;
            let container = state.find(&key).ok_or_else(|| Rejection::no_container(&key))?;
            Ok(container.counters(now).unwrap_or_default())
        };
        self.ask(self.about_id("counters", id, QUICK), read).await
    }

    async fn events(&self) -> Result<BoxStream<'static, RuntimeEvent>, RuntimeError> {
        let listen = |state: &mut State| {
            let (to, from) = mpsc::unbounded_channel();
            state.listeners.push(to);
            Ok(from)
        };
        let listening = self.ask(Self::about("events", "of the engine", QUICK), listen).await;
        let from = listening.inspect_err(|_| self.host.settle())?;
        Ok(Listener::new(self.engine.clone(), self.faults.clone(), from).into_stream())
    }
}

#[async_trait]
impl Engine for FakeRuntime {
    async fn image(&self, reference: &str) -> Result<Option<String>, RuntimeError> {
        let name = canonical(reference);
        let request = Self::about("image", reference, QUICK);
        let read = move |state: &mut State| {
            let found = state.images.local.get(&name);
            Ok(found.map(|image| format!("sha256:{name}/{}", image.version)))
        };
        self.ask(request, read).await
    }

    async fn pull(
        &self,
        reference: &str,
        auth: Option<&RegistryFile>,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(), RuntimeError> {
        let request = Self::about("pull", reference, Duration::MAX);
        self.faults.before(request.call.clone()).await?;
        self.reach(&request).await?;
        let pull = Pull::begin(&self.engine, reference);
        let result = pull.run(&request.attempt, auth, progress).await;
        self.engine.with(|state| state.call_log.note(state.now, "pull", reference, None, result.is_ok()));
        self.faults.after(request.call).await?;
        result
    }

    async fn ensure_network(&self, spec: &NetworkSpec) -> Result<NetworkInfo, RuntimeError> {
        let wanted = spec.clone();
        let request = Self::about("ensure_network", &spec.name, START);
        self.ask(request, move |state| Ok(view::ensure_network(state, &wanted))).await
    }
}
