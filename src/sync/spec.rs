//! A server's configuration as the panel has it, applied to what is on disk.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use crate::model::manifest::digest;
use crate::model::{Declared, ManagedBy, Manifest, Reason, Record, ServerId, Timestamp};
use crate::panel::PanelServer;
use crate::store::{NewServer, Snapshot, Store, StoreError};

/// Attempts to write a spec while other writers change the server.
const WRITE_ATTEMPTS: u32 = 20;

/// A server's configuration as it was fetched from the panel.
pub struct FetchedSpec {
    /// The server as the panel has it.
    pub server: PanelServer,
    /// When the panel was asked.
    pub asked_at: Timestamp,
    /// When its answer was read.
    pub read_at: Timestamp,
}

impl FetchedSpec {
    /// Identifies this configuration, see `Record::synced_hash`.
    fn hash(&self) -> String {
        digest(&(&self.server.settings, &self.server.process, self.server.suspended))
    }

    /// Whether the record has a newer configuration. One from the future is not newer: the clock was set back.
    fn is_older_than(&self, record: &Record) -> bool {
        record.synced_at.is_some_and(|synced| synced > self.asked_at && synced <= self.read_at)
    }

    /// Notes in the record which configuration is applied.
    pub fn note_in(&self, record: &mut Record) {
        record.synced_at = Some(self.asked_at);
        record.synced_hash = Some(self.hash());
    }

    /// Whether a server's manifest and record have this configuration already.
    pub(super) fn is_applied_to(&self, snapshot: &Snapshot) -> bool {
        let equal = snapshot.manifest.as_ref().is_some_and(|manifest| {
            let (spec, server) = (&manifest.spec, &self.server);
            spec.settings == server.settings && spec.process == server.process && spec.suspended == server.suspended
        });
        equal && snapshot.record.synced_hash.as_ref() == Some(&self.hash())
    }

    /// A new server with this configuration and no requests.
    pub fn new_server(&self, id: ServerId) -> NewServer {
        let mut record = Record::default();
        self.note_in(&mut record);
        NewServer {
            manifest: new_manifest(id, self.server.clone()),
            record,
            requests: Vec::new(),
            declared: Declared::default(),
        }
    }
}

/// Writes the panel's part of a server's manifest, unless a newer configuration is there. With `start`, the record notes that the
/// configuration was fetched for this start. Values that a person wrote into the panel's part are replaced, which is an event.
///
/// # Errors
/// When it cannot be written; the manifest stays as it was.
pub fn apply(
    store: &Store,
    id: ServerId,
    fetched: &FetchedSpec,
    start: Option<String>,
) -> Result<Arc<Snapshot>, StoreError> {
    for _ in 1..WRITE_ATTEMPTS {
        match try_apply(store, id, fetched, start.clone()) {
            // The other writer may have had a newer configuration.
            Err(StoreError::Conflict { .. }) => {}
            result => return result,
        }
    }
    try_apply(store, id, fetched, start)
}

fn try_apply(
    store: &Store,
    id: ServerId,
    fetched: &FetchedSpec,
    start: Option<String>,
) -> Result<Arc<Snapshot>, StoreError> {
    let before = store.get(id).ok_or(StoreError::Unknown(id))?;
    let outdated = fetched.is_older_than(&before.record);
    let unchanged = before.record.synced_hash.as_ref() == Some(&fetched.hash());
    let mut undone = BTreeSet::new();
    let snapshot = store.sync(
        id,
        Some(before.revision),
        |manifest| {
            if outdated {
                return;
            }
            let by_hand = manifest.clone();
            replace_panel_part(manifest, fetched.server.clone());
            if unchanged {
                differences("spec", &json(&by_hand), &json(manifest), &mut undone);
            }
        },
        |record| {
            if !outdated {
                fetched.note_in(record);
            }
            if start.is_some() {
                record.synced_for = start;
            }
        },
    )?;
    for field in undone.iter().take(10) {
        let message = format!(
            "{field} was changed by hand in config.yml, and the panel's value is back; write it into override.yml to keep it"
        );
        store.event(id, fetched.asked_at, Reason::HandEditUndone, &message);
    }
    Ok(snapshot)
}

/// The manifest of a server that the panel manages.
pub fn new_manifest(id: ServerId, server: PanelServer) -> Manifest {
    let mut manifest = Manifest::new(id, ManagedBy::Panel);
    replace_panel_part(&mut manifest, server);
    manifest
}

fn replace_panel_part(manifest: &mut Manifest, server: PanelServer) {
    manifest.spec.settings = server.settings;
    manifest.spec.process = server.process;
    manifest.spec.suspended = server.suspended;
}

fn json(manifest: &Manifest) -> Value {
    serde_json::to_value(&manifest.spec).unwrap_or_default()
}

/// Key paths of the values that differ.
fn differences(path: &str, one: &Value, other: &Value, found: &mut BTreeSet<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            for key in one.keys().chain(other.keys()).collect::<BTreeSet<_>>() {
                let null = Value::Null;
                let (one, other) = (one.get(key).unwrap_or(&null), other.get(key).unwrap_or(&null));
                differences(&format!("{path}.{key}"), one, other, found);
            }
        }
        (one, other) if one == other => {}
        _ => {
            found.insert(path.into());
        }
    }
}

#[cfg(test)]
mod tests;
