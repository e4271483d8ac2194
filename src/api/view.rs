//! Servers as JSON for the panel, rendered once for each change.
//!
//! Source: HTTP API, "Server object".

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::{Value, json};

use super::system::memory_bytes;
use crate::model::{Manifest, PowerState, ServerId, Status, Timestamp};
use crate::reconcile::context::Context;
use crate::store::Snapshot;

/// Rendered servers, valid for one version of the store. The uptime changes all the time, and is filled in for each caller.
#[derive(Default)]
pub struct ServerViews {
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    version: u64,
    /// The servers of the list, in its order.
    listed: Vec<ServerId>,
    servers: BTreeMap<ServerId, Rendered>,
}

/// A server's JSON after its uptime, which comes first.
struct Rendered {
    revision: u64,
    state: PowerState,
    disk_bytes: u64,
    started_at: Option<Timestamp>,
    after_uptime: String,
}

impl ServerViews {
    /// All servers as a JSON array.
    pub fn list(&self, context: &Context) -> Bytes {
        let (mut cache, now) = (self.lock(), context.clock.now());
        // Before the servers are read: a change during the rendering makes the next caller render again.
        let version = context.store.version();
        if cache.version != version {
            cache.render(context);
            cache.version = version;
        }
        let mut list = String::from("[");
        for rendered in cache.listed.iter().filter_map(|id| cache.servers.get(id)) {
            if list.len() > 1 {
                list.push(',');
            }
            rendered.write(now, &mut list);
        }
        list.push(']');
        list.into()
    }

    /// Removes a server that is being deleted.
    pub fn remove(&self, id: ServerId) {
        self.lock().servers.remove(&id);
    }

    /// One server as a JSON object.
    pub fn one(&self, context: &Context, snapshot: &Snapshot) -> Bytes {
        let Some(manifest) = &snapshot.manifest else { return Bytes::from_static(b"{}") };
        let mut json = String::new();
        self.lock().one(context, snapshot, manifest).write(context.clock.now(), &mut json);
        json.into()
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    fn render(&mut self, context: &Context) {
        self.listed.clear();
        for snapshot in context.store.list().iter().filter(|snapshot| snapshot.is_listed()) {
            if let Some(manifest) = &snapshot.manifest {
                self.one(context, snapshot, manifest);
                self.listed.push(snapshot.id);
            }
        }
        let listed: BTreeSet<ServerId> = self.listed.iter().copied().collect();
        self.servers.retain(|id, _| listed.contains(id));
    }

    fn one(&mut self, context: &Context, snapshot: &Snapshot, manifest: &Manifest) -> &Rendered {
        let status = context.store.status(snapshot.id).unwrap_or_else(|| Status::new(snapshot.id).into());
        let current = |rendered: &Rendered| {
            (rendered.revision, rendered.state, rendered.disk_bytes, rendered.started_at)
                == (snapshot.revision, status.state, status.disk_bytes, status.started_at)
        };
        match self.servers.entry(snapshot.id) {
            Entry::Occupied(known) if current(known.get()) => known.into_mut(),
            entry => entry.insert_entry(Rendered::new(context, snapshot.revision, manifest, &status)).into_mut(),
        }
    }
}

impl Rendered {
    fn new(context: &Context, revision: u64, manifest: &Manifest, status: &Status) -> Self {
        let (utilization, rest) = server(context, manifest, status);
        Self {
            revision,
            state: status.state,
            disk_bytes: status.disk_bytes,
            started_at: status.started_at,
            after_uptime: format!(",{},{}", &utilization.to_string()[1..], &rest.to_string()[1..]),
        }
    }

    /// Adds the server with its uptime in milliseconds. The panel shows a server with an uptime of 0 as offline.
    fn write(&self, now: Timestamp, json: &mut String) {
        let running = self.started_at.filter(|_| self.state != PowerState::Offline);
        let uptime = running.map_or(0, |at| now.since(at).as_millis().max(1));
        json.push_str(r#"{"utilization":{"uptime":"#);
        json.push_str(&uptime.to_string());
        json.push_str(&self.after_uptime);
    }
}

/// What the server uses, without the uptime, and everything else.
fn server(context: &Context, manifest: &Manifest, status: &Status) -> (Value, Value) {
    let settings = &manifest.spec.settings;
    let state = status.state.as_str();
    let mut configuration = serde_json::to_value(settings).unwrap_or_default();
    if let Value::Object(configuration) = &mut configuration {
        configuration.insert("uuid".into(), json!(manifest.metadata.uuid));
        configuration.insert("suspended".into(), json!(manifest.spec.suspended));
        configuration.insert("labels".into(), json!(settings.labels));
        configuration.insert("mounts".into(), json!(settings.mounts));
        let detection = settings.crash_detection_enabled.unwrap_or(context.node.policy.crash_detection);
        configuration.insert("crash_detection_enabled".into(), json!(detection));
    }
    let utilization = json!({
        "memory_bytes": 0,
        "memory_limit_bytes": status.started_at.map_or(0, |_| memory_limit(context, manifest)),
        "cpu_absolute": 0,
        "network": {"rx_bytes": 0, "tx_bytes": 0},
        "disk_io": {"read_bytes": 0, "write_bytes": 0},
        "state": state,
        "disk_bytes": status.disk_bytes,
    });
    (utilization, json!({"state": state, "is_suspended": manifest.spec.suspended, "configuration": configuration}))
}

/// The memory that the container may use: its limit with the node's overhead, or all memory of the host.
fn memory_limit(context: &Context, manifest: &Manifest) -> u64 {
    let limit = context.node.config.overhead.memory_limit_bytes(manifest.spec.settings.build.memory_limit.max(0));
    u64::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or_else(memory_bytes)
}
