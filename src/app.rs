//! Wires a daemon together and runs it: the only module that knows all the others.
//!
//! The listeners are opened before the state folder is read; requests about servers wait a few milliseconds meanwhile. The startup
//! needs neither the panel nor the container engine: both have tasks of their own.

mod check;
mod listeners;
mod reload;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::activity::Activity;
use crate::api::startup::Startup;
use crate::api::{self, Api, Sockets};
use crate::cli::RunOptions;
use crate::clock::Clock;
use crate::config::{self, ConfigUpdates, HostEnvironment, Loaded, NodeConfig, Push};
use crate::console::Console;
use crate::controller::queue::Queue;
use crate::controller::{self, activity, backup_schedules, containers, file_events, listing, manifests, states, trash};
use crate::files::{DiskAccounts, Layout};
use crate::ids::Ids;
use crate::model::{NodeIdentity, ServerId};
use crate::panel::Panel;
use crate::panel::client::HttpPanel;
use crate::reconcile::context::{Context, Node, Wake};
use crate::reconcile::disk_scans::DiskScans;
use crate::reconcile::node_conditions::NodeConditions;
use crate::reconcile::operations::RunningOperations;
use crate::reconcile::receptions::Receptions;
use crate::reconcile::server_state::ServerStates;
use crate::reconcile::slots::Slots;
use crate::retry::Jitter;
use crate::runtime::docker::{Address, DockerRuntime};
use crate::runtime::host::{self, Host};
use crate::server_files::ServerFiles;
use crate::sessions::Sessions;
use crate::sftp;
use crate::stats::{self, Stats};
use crate::store::identity::{self, NODE_FILE, Settled};
use crate::store::lock::{Holder, LockError, StateLock};
use crate::store::watch::ServersWatch;
use crate::store::watch::files as files_watch;
use crate::store::wings;
use crate::store::{Blocking, Store};
use crate::sync::PanelSync;
use crate::tasks::Tasks;
use crate::telemetry;
use crate::wait;

pub use check::check;
use listeners::AutomaticTls;
use reload::Reload;

/// Running tasks get this long at the end. The next run continues the work of those that do not finish.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the daemon until a signal ends it.
///
/// # Errors
/// What prevents the start: the configuration file, the state folder, a port that is in use.
pub fn run(config: &Path, options: &RunOptions) -> anyhow::Result<()> {
    let loaded = config::load(config, HostEnvironment::of_this_process())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8))
        .thread_keep_alive(Duration::from_secs(2))
        .thread_name("alula")
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    refuse_wings(&loaded.node)?;
    // Before the first access to the state folder, and until the process ends.
    let _lock = runtime.block_on(lock(&loaded.node))?;
    let Loaded { file, node, notices, sources } = loaded;
    let node = config::host::prepare(&file, node, HostEnvironment::of_this_process())?;
    let _log = {
        let _inside = runtime.enter();
        telemetry::start(&node, options.debug).context("cannot start logging")?
    };
    let result = runtime.block_on(serve(Loaded { file, node, notices, sources }, options));
    // Blocking calls, such as a disk scan, do not delay the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Two daemons would start and stop the same containers.
fn refuse_wings(node: &NodeConfig) -> anyhow::Result<()> {
    match wings::wings_on(node) {
        Some(wings) => anyhow::bail!(
            "{wings} runs on this node; stop it first (`systemctl disable --now wings`), then start alula: the servers run on meanwhile"
        ),
        None => Ok(()),
    }
}

/// Locks the state folder, so that no other daemon uses it.
async fn lock(node: &NodeConfig) -> anyhow::Result<StateLock> {
    let root = node.directories.root.display();
    match StateLock::take(&node.directories.root, &Holder::this(node)).await {
        Err(LockError::Held(holder)) => {
            let who = holder.map(|holder| format!(" ({holder})")).unwrap_or_default();
            anyhow::bail!(
                "another alula{who} runs on the state folder {root}; stop it first, or name another folder in \
                 `system.root_directory` of {}",
                node.source.display()
            )
        }
        taken => Ok(taken?),
    }
}

async fn serve(loaded: Loaded, options: &RunOptions) -> anyhow::Result<()> {
    let started_at = Clock::System.now();
    let Loaded { file, node, notices, sources } = loaded;
    let rotation = config::rotate_daemon_log(&node, HostEnvironment::of_this_process().etc);
    for notice in notices.into_iter().chain(rotation) {
        tracing::warn!("{notice}");
    }
    if let Err(error) = config::host::restrict_mode(&node.source) {
        tracing::warn!("{error}");
    }
    let conditions = NodeConditions::new(Clock::System);
    let listeners = listeners::open(&node, AutomaticTls::of(options), &conditions)
        .await
        .map_err(|problem| anyhow::anyhow!("{}: {problem}", node.source.display()))?;
    let sftp = match node.panel {
        Some(_) => Some(sftp::bind(&node.sftp).await),
        None => None,
    };
    let tasks = Tasks::new();
    let node = Arc::new(node);
    let queue = Queue::default();
    let startup = Startup::default();
    listeners.serve(&tasks, |endpoint| api::router(&startup, endpoint, &node));
    // Blocks this thread, which serves no requests.
    let panel = panel(&node, options.ignore_certificate_errors)?;
    let (sources, followed) = watch::channel(sources);
    let (updates, pushes) = ConfigUpdates::new();
    let sockets = Sockets::default();
    let reload =
        Reload::new(node.clone(), file, panel.clone(), conditions.clone(), sources, updates.clone(), sockets.clone());
    let panel = panel.map(|panel| panel as Arc<dyn Panel>);
    let context =
        context(&node, &tasks, &queue, conditions, updates, panel.clone(), options.ignore_certificate_errors)?;
    let (files, sessions) = (ServerFiles::new(context.clone()), Sessions::default());
    startup.finish(Api::new(files.clone(), started_at, sockets, sessions.clone()));
    start(&context, &queue);
    serve_sftp(&context, files, sessions, panel.zip(sftp));
    follow_configuration(&tasks, reload, followed, pushes);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        servers = context.store.ids().len(),
        panel = context.sync.is_some(),
        "daemon started"
    );
    wait_for_end().await;
    tracing::info!("daemon ends; containers keep running");
    tasks.shutdown(SHUTDOWN_TIMEOUT).await;
    states::finish(&context).await;
    listeners::close(&node);
    Ok(())
}

fn context(
    node: &Arc<NodeConfig>,
    tasks: &Tasks,
    queue: &Queue,
    conditions: NodeConditions,
    updates: ConfigUpdates,
    panel: Option<Arc<dyn Panel>>,
    ignore_certificate_errors: bool,
) -> anyhow::Result<Arc<Context>> {
    let layout = Layout::new(node);
    trash::settle(&layout);
    let store = Store::open(&node.directories.root, Blocking::Pool, Clock::System, None)?;
    store.take_over_states();
    layout.prepare_node()?;
    let file_events = node.disk_check_interval.and_then(|_| file_events::begin(&layout));
    let host = Host::new(node.clone(), tasks.clone(), Blocking::Pool, host::kernel_limits());
    let host = host.with_identity(identity(&node.directories.root));
    let docker = Arc::new(DockerRuntime::connect(Address::from_environment()?, host));
    let woken = queue.clone();
    let wake: Wake = Arc::new(move |id: ServerId| woken.push(id));
    let console =
        Console::new(docker.clone(), Blocking::Pool, store.events().clone(), node, tasks.clone(), wake.clone());
    let changed = wake.clone();
    store.on_change(move |id| changed(id));
    let (clock, jitter) = (Clock::System, Arc::new(Jitter::random()));
    let activity = Activity::open(panel.clone(), (&**node).into(), clock, jitter.clone(), Blocking::Pool, tasks);
    let accounts = DiskAccounts::new(wake.clone());
    let stats = Stats::new(store.clone(), docker.clone(), node.clone(), clock, tasks.clone(), accounts.clone());
    Ok(Arc::new(Context {
        runtime: docker,
        node: Node::new(node.clone(), panel.is_some(), stats::kernel(), conditions, updates).with_events(file_events),
        sync: panel.map(|panel| Arc::new(PanelSync::new(panel, store.clone(), clock, jitter.clone()))),
        store,
        activity,
        console,
        stats,
        clock,
        servers: ServerStates::new(jitter.clone()),
        jitter,
        ids: Ids::Time,
        tasks: tasks.clone(),
        slots: Slots::new(node.concurrent_installs),
        start_slots: Slots::for_a_while(node.concurrent_starts, wait::START_SLOT),
        disk_scans: DiskScans::default(),
        receptions: Arc::new(Receptions::default()),
        operations: RunningOperations::new(node, clock, Blocking::Pool, ignore_certificate_errors),
        accounts,
        wake,
    }))
}

/// The node's identity. Without one, containers have no label, and those without a label are this node's.
fn identity(root: &Path) -> NodeIdentity {
    let settled = match identity::settle(root) {
        Ok(settled) => settled,
        Err(error) => {
            tracing::error!(%error, "cannot keep the node's identity; new containers do not name this node");
            return NodeIdentity::default();
        }
    };
    let Settled { identity, copy_of, damaged, .. } = settled;
    if damaged {
        tracing::warn!(node = identity.id, "the file with the node's identity was damaged; it has a new one");
    }
    if let Some(original) = copy_of {
        let file = root.join(NODE_FILE);
        tracing::warn!(
            node = identity.id,
            original = original.id,
            "the state folder is a copy of {}: this is a node of its own, and the other one's containers are left alone. If the \
             folder was moved here, stop the daemon, write the original id into {} and start it again",
            original.root,
            file.display()
        );
    }
    identity
}

/// The client of the panel, where there is one.
fn panel(node: &NodeConfig, ignore_certificate_errors: bool) -> anyhow::Result<Option<Arc<HttpPanel>>> {
    let client = node.panel.as_ref().map(|panel| HttpPanel::new(panel, ignore_certificate_errors));
    Ok(client.transpose()?.map(Arc::new))
}

/// Reads the configuration again when one of its files changes, and writes what the panel pushes.
fn follow_configuration(
    tasks: &Tasks,
    reload: Reload,
    sources: watch::Receiver<Vec<PathBuf>>,
    pushes: mpsc::Receiver<Push>,
) {
    let (changed, changes) = mpsc::channel(1);
    tasks.spawn("configuration watch", files_watch::follow(sources, changed));
    tasks.spawn("configuration", reload.follow(changes, pushes));
}

/// Starts the controller and its sources of events.
fn start(context: &Arc<Context>, queue: &Queue) {
    let tasks = &context.tasks;
    let (known, ready) = watch::channel(false);
    tasks.spawn("containers", containers::follow(context.clone(), queue.clone(), known));
    let (servers_watch, events) = ServersWatch::new(context.store.servers_folder());
    tasks.spawn("state folder watch", servers_watch.run());
    tasks.spawn("trash", trash::sweep(context.clone()));
    tasks.spawn("backup schedules", backup_schedules::follow(context.clone()));
    tasks.spawn("states", states::follow(context.clone()));
    tasks.spawn("manifests", manifests::follow(context.clone(), events));
    if let Some(sync) = &context.sync {
        tasks.spawn("activity", activity::send(context.clone()));
        tasks.spawn("panel's list", listing::follow(context.clone(), sync.clone()));
    }
    if let Some(events) = &context.node.file_events {
        tasks.spawn("file events", file_events::follow(context.clone(), events.clone()));
    }
    let workers = context.node.config.workers;
    tasks.spawn("controller", controller::run(context.clone(), queue.clone(), workers, ready));
}

/// Serves the servers' files over SFTP. The panel decides about logins: without one there is no service.
fn serve_sftp(
    context: &Arc<Context>,
    files: Arc<ServerFiles>,
    sessions: Sessions,
    panel: Option<(Arc<dyn Panel>, sftp::Bound)>,
) {
    let Some((panel, bound)) = panel else { return };
    let service = sftp::Service::new(context.clone(), files, panel, sessions);
    context.tasks.spawn_graceful("sftp", move |end| sftp::listen(service, bound, end));
}

async fn wait_for_end() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    // Both are cancel-safe.
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
