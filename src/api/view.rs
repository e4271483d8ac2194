//! Servers as JSON for the panel. The configuration of a server is rendered once for each change of the server.
//!
//! Source: HTTP API, "Server object".

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::system;
use crate::model::{Manifest, PowerState, Role, ServerId};
use crate::reconcile::context::Context;
use crate::store::Snapshot;

/// Rendered configurations.
#[derive(Default)]
pub struct ServerViews {
    configurations: Mutex<BTreeMap<ServerId, Configuration>>,
}

struct Configuration {
    /// Of the snapshot that it was rendered from.
    revision: u64,
    json: Arc<RawValue>,
}

/// A server as the panel reads it.
#[derive(Serialize)]
pub struct ServerView {
    state: PowerState,
    is_suspended: bool,
    utilization: Utilization,
    configuration: Arc<RawValue>,
}

/// Resources in use. Usage of CPU, memory, network and disk I/O is not measured.
#[derive(Serialize)]
struct Utilization {
    memory_bytes: u64,
    /// That of the host for a server without a limit.
    memory_limit_bytes: u64,
    cpu_absolute: f64,
    network: Network,
    disk_io: DiskIo,
    /// Milliseconds since the container was started; 0 if the server is offline, which is what the panel takes 0 for.
    uptime: u64,
    state: PowerState,
    disk_bytes: u64,
}

#[derive(Default, Serialize)]
struct Network {
    rx_bytes: u64,
    tx_bytes: u64,
}

#[derive(Default, Serialize)]
struct DiskIo {
    read_bytes: u64,
    write_bytes: u64,
}

impl ServerViews {
    /// The servers that the panel lists.
    pub fn list(&self, context: &Context) -> Vec<ServerView> {
        let snapshots = context.store.list();
        let listed = snapshots.iter().filter(|snapshot| snapshot.is_listed());
        listed.filter_map(|snapshot| self.one(context, snapshot)).collect()
    }

    /// One server; `None` without a manifest.
    pub fn one(&self, context: &Context, snapshot: &Snapshot) -> Option<ServerView> {
        let manifest = snapshot.manifest.as_deref()?;
        let status = context.store.status(snapshot.id);
        let (state, disk_bytes) = status.map(|status| (status.state, status.disk_bytes)).unwrap_or_default();
        Some(ServerView {
            state,
            is_suspended: manifest.spec.suspended,
            utilization: Utilization {
                memory_bytes: 0,
                memory_limit_bytes: memory_limit(context, manifest),
                cpu_absolute: 0.0,
                network: Network::default(),
                disk_io: DiskIo::default(),
                uptime: if state == PowerState::Offline { 0 } else { uptime(context, snapshot.id) },
                state,
                disk_bytes,
            },
            configuration: self.configuration(context, snapshot, manifest),
        })
    }

    /// Removes a server that is being deleted.
    pub fn remove(&self, id: ServerId) {
        self.lock().remove(&id);
    }

    fn configuration(&self, context: &Context, snapshot: &Snapshot, manifest: &Manifest) -> Arc<RawValue> {
        let mut configurations = self.lock();
        if let Some(known) = configurations.get(&snapshot.id).filter(|known| known.revision == snapshot.revision) {
            return known.json.clone();
        }
        let json = configuration(context, manifest);
        configurations.insert(snapshot.id, Configuration { revision: snapshot.revision, json: json.clone() });
        json
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServerId, Configuration>> {
        self.configurations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn memory_limit(context: &Context, manifest: &Manifest) -> u64 {
    let limit = context.node.config.overhead.memory_limit_bytes(manifest.spec.settings.build.memory_limit.max(0));
    u64::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or_else(system::memory_bytes)
}

fn uptime(context: &Context, id: ServerId) -> u64 {
    let container = context.servers.cached(id, Role::Server).flatten();
    let started_at = container.and_then(|container| container.started_at);
    let running = started_at.map_or(Duration::ZERO, |started_at| context.clock.now().since(started_at));
    // Never 0, also while the container is inspected again.
    u64::try_from(running.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn configuration(context: &Context, manifest: &Manifest) -> Arc<RawValue> {
    let settings = &manifest.spec.settings;
    let mut configuration = serde_json::to_value(settings).unwrap_or_default();
    configuration["uuid"] = json!(manifest.metadata.uuid);
    configuration["suspended"] = json!(manifest.spec.suspended);
    configuration["labels"] = json!(settings.labels);
    configuration["mounts"] = json!(settings.mounts);
    let detection = settings.crash_detection_enabled.unwrap_or(context.node.policy.crash_detection);
    configuration["crash_detection_enabled"] = json!(detection);
    serde_json::value::to_raw_value(&configuration).unwrap_or_default().into()
}
