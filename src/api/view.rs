//! Servers as JSON for the panel.
//!
//! Source: HTTP API, "Server object".

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::model::Status;
use crate::reconcile::context::Context;
use crate::store::Snapshot;

/// All servers as a JSON array, rendered once for each version of the store.
#[derive(Default)]
pub struct ServerList {
    /// The array, and its version.
    cache: Mutex<(u64, Bytes)>,
}

impl ServerList {
    /// The array.
    pub fn render(&self, context: &Context) -> Bytes {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the servers are read: a change during the rendering makes the next caller render again.
        let version = context.store.version();
        if cache.0 != version {
            let snapshots = context.store.list();
            let listed = snapshots.iter().filter(|snapshot| snapshot.is_listed());
            let servers: Vec<String> = listed.map(|snapshot| server(context, snapshot).to_string()).collect();
            *cache = (version, format!("[{}]", servers.join(",")).into());
        }
        cache.1.clone()
    }
}

/// One server as a JSON object.
pub fn server(context: &Context, snapshot: &Snapshot) -> Value {
    let Some(manifest) = &snapshot.manifest else { return json!({}) };
    let status = context.store.status(snapshot.id).unwrap_or_else(|| Status::new(snapshot.id).into());
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
