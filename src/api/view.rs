//! Servers as JSON for the panel. The configuration of a server is rendered once for each change of the server.
//!
//! Source: HTTP API, "Server object".

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::model::{Manifest, PowerState, ServerId, Utilization};
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

impl ServerViews {
    /// The servers that the panel lists.
    pub async fn list(&self, context: &Context) -> Vec<ServerView> {
        let mut snapshots = context.store.list();
        snapshots.retain(|snapshot| snapshot.is_listed());
        let ids: Vec<ServerId> = snapshots.iter().map(|snapshot| snapshot.id).collect();
        let used = context.stats.read_all(&ids).await;
        snapshots.iter().zip(used).filter_map(|(snapshot, used)| self.view(context, snapshot, used)).collect()
    }

    /// One server; `None` without a manifest.
    pub async fn one(&self, context: &Context, snapshot: &Snapshot) -> Option<ServerView> {
        self.view(context, snapshot, context.stats.read(snapshot.id).await)
    }

    fn view(&self, context: &Context, snapshot: &Snapshot, utilization: Utilization) -> Option<ServerView> {
        let manifest = snapshot.manifest.as_deref()?;
        Some(ServerView {
            state: utilization.state,
            is_suspended: manifest.spec.suspended,
            utilization,
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
