//! Servers as JSON for the panel, rendered once for each change.
//!
//! Source: HTTP API, "Server object".

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::model::{Manifest, ServerId, Status};
use crate::reconcile::context::Context;
use crate::store::Snapshot;

/// Rendered servers, valid for one version of the store.
#[derive(Default)]
pub struct ServerViews {
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    version: u64,
    list: Bytes,
    servers: BTreeMap<ServerId, Rendered>,
}

struct Rendered {
    revision: u64,
    state: crate::model::PowerState,
    disk_bytes: u64,
    json: Bytes,
}

impl ServerViews {
    /// All servers as a JSON array.
    pub fn list(&self, context: &Context) -> Bytes {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the servers are read: a change during the rendering makes the next caller render again.
        let version = context.store.version();
        if cache.version != version {
            cache.render(context);
            cache.version = version;
        }
        cache.list.clone()
    }

    /// Removes a server that is being deleted.
    pub fn remove(&self, id: ServerId) {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).servers.remove(&id);
    }

    /// One server as a JSON object.
    pub fn one(&self, context: &Context, snapshot: &Snapshot) -> Bytes {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.one(context, snapshot)
    }
}

impl Cache {
    fn render(&mut self, context: &Context) {
        let snapshots = context.store.list();
        let mut list = Vec::with_capacity(self.list.len().max(64));
        list.push(b'[');
        let mut listed = BTreeMap::new();
        for snapshot in snapshots.iter().filter(|snapshot| snapshot.is_listed()) {
            if list.len() > 1 {
                list.push(b',');
            }
            list.extend_from_slice(&self.one(context, snapshot));
            if let Some(rendered) = self.servers.remove(&snapshot.id) {
                listed.insert(snapshot.id, rendered);
            }
        }
        list.push(b']');
        self.servers = listed;
        self.list = Bytes::from(list);
    }

    fn one(&mut self, context: &Context, snapshot: &Snapshot) -> Bytes {
        let Some(manifest) = &snapshot.manifest else { return Bytes::from_static(b"{}") };
        let status = context.store.status(snapshot.id).unwrap_or_else(|| Status::new(snapshot.id).into());
        if let Some(rendered) = self.servers.get(&snapshot.id)
            && (rendered.revision, rendered.state, rendered.disk_bytes)
                == (snapshot.revision, status.state, status.disk_bytes)
        {
            return rendered.json.clone();
        }
        let value = server(context, manifest, &status);
        let json = Bytes::from(value.to_string());
        let rendered = Rendered {
            revision: snapshot.revision,
            state: status.state,
            disk_bytes: status.disk_bytes,
            json: json.clone(),
        };
        self.servers.insert(snapshot.id, rendered);
        json
    }
}

fn server(context: &Context, manifest: &Manifest, status: &Status) -> Value {
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
    json!({
        "state": state,
        "is_suspended": manifest.spec.suspended,
        "utilization": {
            "memory_bytes": 0,
            "memory_limit_bytes": 0,
            "cpu_absolute": 0,
            "network": {"rx_bytes": 0, "tx_bytes": 0},
            "disk_io": {"read_bytes": 0, "write_bytes": 0},
            "uptime": 0,
            "state": state,
            "disk_bytes": status.disk_bytes,
        },
        "configuration": configuration,
    })
}
