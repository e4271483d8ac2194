//! Observing one server.

use crate::clock::Moment;
use crate::config::NodeConfig;
use crate::egg_files::EggFiles;
use crate::files::{Layout, Meter};
use crate::model::record::AppliedLimits;
use crate::model::settings::UnenforcedLimit;
use crate::model::{ContainerState, ContainerStatus, DirectoryId, Quota, Role, ServerId, Timestamp};
use crate::reconcile::context::Context;
use crate::reconcile::job::Subject;
use crate::reconcile::observed::{CrashTime, Lifetime, Observed, WantedContainer};
use crate::requests::{self, Asked, InstallRequest};
use crate::runtime::{BuiltSpec, ContainerSpec, ErrorKind, Limits, Runtime, RuntimeError, spec_builder};
use crate::store::Snapshot;

/// An inspected container.
type Found = Result<Option<ContainerStatus>, RuntimeError>;

impl Context {
    /// Observes everything that a plan can depend on. A container is inspected only if it has changed since the last inspection.
    pub(super) async fn observe(&self, id: ServerId) -> Observed {
        let watch = self.servers.watch(id);
        let found = tokio::join!(self.container(id, Role::Server), self.container(id, Role::Installer));
        let snapshot = self.store.get(id);
        if let Some(snapshot) = &snapshot {
            self.servers.spec_accepted(id, snapshot.record.generation);
            self.open_account(snapshot);
        }
        let (now, config) = (self.clock.moment(), &self.node.config);
        let seen = containers(self.runtime.as_ref(), config, snapshot.as_deref(), now, found).await;
        if seen.install_slot {
            self.slots.adopt(id);
        }
        self.observe_folders(id).await;
        let running = seen.server.as_ref().is_some_and(|server| server.running() && server.files.is_some());
        let files = if running { self.files(id).await } else { None };
        let quota = self.quota(id).await;
        let used_bytes = self.accounts.used(id).unwrap_or_default();
        let transfer = snapshot.as_ref().and_then(|snapshot| snapshot.record.pending_transfer());
        // One that is sent is a job, which a deletion ends.
        let receiving = transfer.filter(|transfer| transfer.incoming().is_some()).is_some_and(|transfer| {
            let subject = Subject::Transfer(transfer.token);
            self.operations.is_running(id, &subject)
        });
        let (acknowledged, unacknowledged) = self.sync.as_ref().map(|sync| sync.acknowledged(id)).unwrap_or_default();
        Observed {
            attached: self.console.attached(id),
            done_seen: self.console.done_seen(id),
            install_slot: self.slots.holds(id),
            install_queued: self.slots.waits(id),
            start_slot: self.start_slots.holds(id),
            start_queued: self.start_slots.waits(id),
            start_slots_open_at: self.start_slots.opens_at(),
            acknowledged,
            unacknowledged,
            files,
            receiving,
            quota,
            measurement_due: self.accounts.is_due(id),
            ..self.servers.observed(id, watch, Observed { used_bytes, ..seen })
        }
    }

    async fn container(&self, id: ServerId, role: Role) -> Found {
        let servers = &self.servers;
        let version = servers.version(id, role);
        if let Some(found) = servers.cached(id, role) {
            return Ok(found);
        }
        let found = self.runtime.inspect(id, role).await?;
        let kept = self.store.get(id).is_some_and(|snapshot| !snapshot.is_being_deleted());
        if kept && found.as_ref().is_some_and(|found| servers.ended_unexpectedly(id, role, found)) {
            // An engine that goes down takes its containers along: then their end means nothing.
            self.runtime.ping().await?;
        }
        servers.inspected(id, role, version, found.clone());
        Ok(found)
    }

    /// The directory of a server's files.
    pub async fn files(&self, id: ServerId) -> Option<DirectoryId> {
        let layout = self.node.layout.clone();
        self.store.blocking().run(move || layout.data_directory(id)).await
    }

    /// The project quota of a server's files. From now on its account asks the kernel, or does not.
    async fn quota(&self, id: ServerId) -> Quota {
        if !self.node.config.quotas || !self.servers.is_prepared(id) {
            return Quota::Off;
        }
        let layout = self.node.layout.clone();
        let quota = self.store.blocking().run(move || layout.quota(id)).await;
        let account = self.accounts.account(id);
        if quota.is_assigned() != account.has_meter() {
            let layout = self.node.layout.clone();
            let meter = move || layout.quota_usage(id);
            account.set_meter(quota.is_assigned().then(|| Box::new(meter) as Meter));
        }
        quota
    }

    async fn observe_folders(&self, id: ServerId) {
        if self.servers.is_prepared(id) {
            return;
        }
        let layout = self.node.layout.clone();
        let Some(snapshot) = self.store.get(id) else { return };
        let restoring = snapshot.record.pending_restore().map(|restore| restore.token);
        let unrecorded = restoring.is_none() && snapshot.record.former_files.is_none();
        // A crash may have interrupted the exchange of its files, or a damaged record may have lost their restore.
        let receives = snapshot.record.pending_transfer().is_some_and(|transfer| transfer.incoming().is_some());
        let ready = move || {
            if receives {
                // What receives the server replaces its files, and removes what is left of it.
                return layout.is_prepared(id);
            }
            let former = unrecorded && layout.former_files(id).is_ok_and(|former| former.is_some());
            layout.is_prepared(id) && !former && !layout.is_replacement_left(id, restoring)
        };
        if self.store.blocking().run(ready).await {
            self.servers.prepared(id);
        }
    }
}

/// What follows from a server's files and its containers (server and installer) alone. The server holds an install slot if its
/// installer runs.
pub(super) async fn containers(
    runtime: &dyn Runtime,
    node: &NodeConfig,
    snapshot: Option<&Snapshot>,
    now: Moment,
    (server, installer): (Found, Found),
) -> Observed {
    let mut outage = match (&server, &installer) {
        (Err(error), _) | (_, Err(error)) => Some(error.to_string()),
        _ => None,
    };
    let server = server.ok().flatten().map(|server| with_limits(server, snapshot));
    let installer = installer.ok().flatten().map(|installer| with_adoption(installer, snapshot));
    // An installation that is no longer requested holds no slot: its installer is removed.
    let install = snapshot.and_then(|snapshot| asked(snapshot, now.time)).and_then(Asked::install);
    let resumed = |install: InstallRequest<'_>| {
        installer.as_ref().is_some_and(|found| found.running() && found.token.as_deref() == Some(install.id))
    };
    let wanted = match snapshot {
        Some(snapshot) if outage.is_none() => wanted(runtime, node, snapshot, now.time, server.as_ref()).await,
        _ => Ok(None),
    };
    let mut unresponsive_path = None;
    let wanted = wanted.unwrap_or_else(|error| {
        let path = error.kind == ErrorKind::VolumeUnresponsive;
        *(if path { &mut unresponsive_path } else { &mut outage }) = Some(error.to_string());
        None
    });
    let running =
        |found: &Option<ContainerStatus>| found.as_ref().filter(|found| found.running()).map(|found| found.id.clone());
    Observed {
        install_slot: install.is_some_and(resumed),
        seen_running: running(&server),
        installer_seen: running(&installer),
        server_run: Lifetime::of(server.as_ref(), now),
        installer_run: Lifetime::of(installer.as_ref(), now),
        restart: snapshot.and_then(|snapshot| CrashTime::of(&snapshot.record, now)),
        outage,
        server,
        installer,
        wanted,
        unresponsive_path,
        ..Observed::default()
    }
}

/// What the server's container should be, as far as a plan can depend on it.
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
    let (Some(manifest), Some(built)) = (&snapshot.manifest, built(runtime, node, snapshot)) else { return Ok(None) };
    let unenforced = spec_builder::unenforced(&manifest.spec.settings.build, &runtime.host());
    if running {
        // Its limits and its fields depend on no path.
        return Ok(Some(wanted_container(None, built.spec, unenforced)));
    }
    let spec = runtime.resolve(snapshot.id, built).await?.spec;
    Ok(Some(wanted_container(Some(spec.hash()), spec, unenforced)))
}

fn wanted_container(
    spec_hash: Option<String>,
    spec: ContainerSpec,
    unenforced: Vec<UnenforcedLimit>,
) -> WantedContainer {
    let start_limits_hash = spec.start_limits.as_ref().map(Limits::hash);
    let limits_hash = spec.limits.hash();
    WantedContainer { spec_hash, limits_hash, start_limits_hash, image: spec.image, fields: spec.fields, unenforced }
}

/// The spec of the server's container.
pub(super) fn built(runtime: &dyn Runtime, node: &NodeConfig, snapshot: &Snapshot) -> Option<BuiltSpec> {
    let manifest = snapshot.manifest.as_ref()?;
    Some(spec_builder::server_container(manifest, node, &runtime.host()))
}

/// The configuration files of a server, and the values for them.
pub(super) fn egg_files(
    runtime: &dyn Runtime,
    node: &NodeConfig,
    layout: &Layout,
    snapshot: &Snapshot,
) -> Option<EggFiles> {
    let manifest = snapshot.manifest.as_ref()?;
    Some(EggFiles::new(layout, manifest, spec_builder::interface(node, &runtime.host())))
}

/// The limits that were applied after the container was created count, and not those of its label.
fn with_limits(mut server: ContainerStatus, snapshot: Option<&Snapshot>) -> ContainerStatus {
    let applied = snapshot.and_then(|snapshot| snapshot.record.power.limits.as_ref());
    let lost = |applied: &&AppliedLimits| applied.container.is_empty() && server.running();
    if let Some(applied) = applied.filter(|applied| applied.container == server.id || lost(applied)) {
        server.limits_hash.clone_from(&applied.hash);
    }
    server
}

/// An installer of Wings has no label. The request that adopted it names its container. One that did not run is none to follow.
fn with_adoption(mut installer: ContainerStatus, snapshot: Option<&Snapshot>) -> ContainerStatus {
    let ran = installer.running() || matches!(installer.state, ContainerState::Exited { .. });
    let adopted = requests::adopted_id(&installer.id);
    let is_adopted = |snapshot: &Snapshot| snapshot.requests.accepted.iter().any(|request| request.id == adopted);
    if installer.token.is_none() && ran && snapshot.is_some_and(is_adopted) {
        installer.token = Some(adopted);
    }
    installer
}

/// The requests that a plan may carry out: none of a server that is parked or being deleted.
fn asked(snapshot: &Snapshot, now: Timestamp) -> Option<Asked<'_>> {
    let held = snapshot.record.parked.is_some() || snapshot.is_being_deleted();
    (!held).then(|| snapshot.asked(now))
}

/// Whether a plan may create or start the server's container for a power request.
fn may_start(snapshot: &Snapshot, now: Timestamp) -> bool {
    let (Some(manifest), Some(asked)) = (&snapshot.manifest, asked(snapshot, now)) else { return false };
    let held = manifest.spec.suspended || asked.install().is_some();
    !held && asked.power().is_some_and(|request| request.verb.wants_up())
}
