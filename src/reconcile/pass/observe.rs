//! Looking at one server.

use super::Reconciler;
use crate::config::NodeConfig;
use crate::model::record::AppliedLimits;
use crate::model::{ContainerState, ContainerStatus, Role, ServerId, Timestamp};
use crate::reconcile::observed::{Observed, WantedContainer};
use crate::requests::InstallRequest;
use crate::runtime::{BuiltSpec, ErrorKind, Runtime, RuntimeError, spec_builder};
use crate::store::Snapshot;

/// What the engine says about one container.
type Found = Result<Option<ContainerStatus>, RuntimeError>;

impl Reconciler {
    /// Looks at everything that a plan can depend on. Containers are asked for only if something has happened to them since
    /// the last look.
    pub(super) async fn observe(&self, id: ServerId) -> Observed {
        let context = &self.context;
        let watch = context.with_server(id, |state| state.watch);
        let found = tokio::join!(self.container(id, Role::Server), self.container(id, Role::Installer));
        let snapshot = context.store.get(id);
        let now = context.clock.now();
        let seen = containers(context.runtime.as_ref(), &context.node, snapshot.as_deref(), now, found).await;
        if seen.install_slot {
            context.slots.adopt(id);
        }
        let prepared = self.is_prepared(id).await;
        let sync = context.sync.as_ref();
        let (acknowledged, unacknowledged) = sync.map(|sync| sync.acknowledged(id)).unwrap_or_default();
        context.with_server(id, |state| {
            state.outages = if seen.outage.is_some() { state.outages + 1 } else { 0 };
            state.silences = if seen.unresponsive_path.is_some() { state.silences + 1 } else { 0 };
            if let Some(silent) = seen.unresponsive_path.as_ref().filter(|_| state.silences == 1) {
                tracing::warn!(server.id = %id, "{silent}");
            }
            // A look takes time: what was seen before the engine went down, with all that ran, was not seen since.
            let watched = state.watch == watch;
            state.seen_running = seen.seen_running.filter(|_| watched).or(state.seen_running.take());
            state.installer_seen = seen.installer_seen.filter(|_| watched).or(state.installer_seen.take());
            Observed {
                prepared,
                script_ready: state.script_ready.clone(),
                attached: context.console.attached(id),
                done_seen: context.console.done_seen(id),
                seen_running: state.seen_running.clone(),
                installer_seen: state.installer_seen.clone(),
                crash: state.crash.clone(),
                stop: state.stop.clone(),
                installer_stop: state.installer_stop.clone(),
                jobs: state.jobs.iter().map(|run| run.job.clone()).collect(),
                failures: state.failures.clone(),
                usage: state.usage,
                install_slot: context.slots.holds(id),
                install_queued: context.slots.waits(id),
                acknowledged,
                unacknowledged,
                ..seen
            }
        })
    }

    async fn container(&self, id: ServerId, role: Role) -> Found {
        let (fresh, version) = self.context.with_server(id, |state| {
            let look = state.look(role);
            (look.fresh().cloned(), look.version())
        });
        if let Some(facts) = fresh {
            return Ok(facts);
        }
        let facts = self.context.runtime.inspect(id, role).await?;
        if facts.as_ref().is_some_and(|facts| self.ended_unasked(id, role, facts)) {
            // An engine that goes down takes its containers along: then nothing is to be made of their end.
            self.context.runtime.stays().await?;
        }
        self.context.with_server(id, |state| state.look(role).fill(version, facts.clone()));
        Ok(facts)
    }

    /// Whether a container that ran has ended, and not because of us.
    fn ended_unasked(&self, id: ServerId, role: Role, facts: &ContainerStatus) -> bool {
        let ended = matches!(facts.state, ContainerState::Exited { .. });
        let kept = self.context.store.get(id).is_some_and(|snapshot| !snapshot.is_being_deleted());
        ended
            && kept
            && self.context.with_server(id, |state| {
                let (seen, stop) = match role {
                    Role::Server => (&state.seen_running, &state.stop),
                    Role::Installer => (&state.installer_seen, &state.installer_stop),
                };
                let ours = stop.as_ref().is_some_and(|stop| stop.container == facts.id);
                seen.as_ref() == Some(&facts.id) && !ours
            })
    }

    async fn is_prepared(&self, id: ServerId) -> bool {
        if self.context.with_server(id, |state| state.prepared) {
            return true;
        }
        let layout = self.context.layout.clone();
        let prepared = self.context.store.blocking().run(move || layout.is_prepared(id)).await;
        self.context.with_server(id, |state| state.prepared = prepared);
        prepared
    }

    /// What the server's container should be like.
    pub(super) fn built(&self, snapshot: &Snapshot) -> Option<BuiltSpec> {
        built(self.context.runtime.as_ref(), &self.context.node, snapshot)
    }
}

/// What follows from a server's files and its containers, server and installer, alone. It holds one of the node's slots if
/// its installer runs.
pub(super) async fn containers(
    runtime: &dyn Runtime,
    node: &NodeConfig,
    snapshot: Option<&Snapshot>,
    now: Timestamp,
    (server, installer): (Found, Found),
) -> Observed {
    let mut outage = match (&server, &installer) {
        (Err(error), _) | (_, Err(error)) => Some(error.to_string()),
        _ => None,
    };
    let server = server.ok().flatten().map(|server| with_limits(server, snapshot));
    let installer = installer.ok().flatten();
    let install = snapshot.and_then(|snapshot| resumable_install(snapshot, now));
    let resumed = |install: InstallRequest<'_>| {
        installer.as_ref().is_some_and(|found| found.running() && found.token.as_deref() == Some(install.id))
    };
    let wanted = match snapshot {
        Some(snapshot) if outage.is_none() => wanted(runtime, node, snapshot, now, server.as_ref()).await,
        _ => Ok(None),
    };
    let mut unresponsive_path = None;
    let wanted = wanted.unwrap_or_else(|error| {
        let says = if error.kind == ErrorKind::VolumeUnresponsive { &mut unresponsive_path } else { &mut outage };
        *says = Some(error.to_string());
        None
    });
    let running =
        |found: &Option<ContainerStatus>| found.as_ref().filter(|facts| facts.running()).map(|facts| facts.id.clone());
    Observed {
        install_slot: install.is_some_and(resumed),
        seen_running: running(&server),
        installer_seen: running(&installer),
        outage,
        server,
        installer,
        wanted,
        unresponsive_path,
        ..Observed::default()
    }
}

/// What the server's container should be like, as far as a plan can depend on it.
async fn wanted(
    runtime: &dyn Runtime,
    node: &NodeConfig,
    snapshot: &Snapshot,
    now: Timestamp,
    server: Option<&ContainerStatus>,
) -> Result<Option<WantedContainer>, RuntimeError> {
    let running = server.is_some_and(ContainerStatus::running);
    if !running && !may_start(snapshot, now) {
        return Ok(None);
    }
    let Some(built) = built(runtime, node, snapshot) else { return Ok(None) };
    if running {
        // No path has a say in its limits.
        return Ok(Some(WantedContainer { spec_hash: None, limits_hash: built.spec.limits.hash() }));
    }
    let spec = runtime.resolve(snapshot.id, built).await?.spec;
    Ok(Some(WantedContainer { spec_hash: Some(spec.hash()), limits_hash: spec.limits.hash() }))
}

fn built(runtime: &dyn Runtime, node: &NodeConfig, snapshot: &Snapshot) -> Option<BuiltSpec> {
    let manifest = snapshot.manifest.as_ref()?;
    Some(spec_builder::server_container(snapshot.id, &manifest.spec, node, &runtime.host()))
}

/// What was put in force since the container was made counts, and not what its label says.
fn with_limits(mut server: ContainerStatus, snapshot: Option<&Snapshot>) -> ContainerStatus {
    let since = snapshot.and_then(|snapshot| snapshot.record.power.limits.as_ref());
    let lost = |since: &&AppliedLimits| since.container.is_empty() && server.running();
    if let Some(since) = since.filter(|since| since.container == server.id || lost(since)) {
        server.limits_hash = since.hash.clone();
    }
    server
}

/// The installation whose running installer holds one of the node's slots. One that is no longer requested holds none: its
/// installer is a leftover to be removed.
fn resumable_install(snapshot: &Snapshot, now: Timestamp) -> Option<InstallRequest<'_>> {
    if snapshot.record.parked.is_some() || snapshot.is_being_deleted() {
        return None;
    }
    snapshot.asked(now).install()
}

/// Whether a plan may make or start the server's container for a power request.
fn may_start(snapshot: &Snapshot, now: Timestamp) -> bool {
    let Some(manifest) = &snapshot.manifest else { return false };
    let asked = snapshot.asked(now);
    let held = manifest.spec.suspended || asked.install().is_some();
    if held || snapshot.record.parked.is_some() || snapshot.is_being_deleted() {
        return false;
    }
    asked.power().is_some_and(|request| request.verb.wants_up())
}
