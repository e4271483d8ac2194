//! Jobs that talk to the panel.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::{JobError, PANEL_TIMEOUT};
use crate::model::manifest::digest;
use crate::model::{ManagedBy, Manifest, Reason, Record, ServerId, Timestamp};
use crate::panel::{Panel, PanelError, PanelServer};
use crate::reconcile::context::Context;
use crate::retry;
use crate::store::{Snapshot, Store, StoreError};

/// How often a word is written anew because somebody else wrote in between.
const WRITE_ATTEMPTS: u32 = 20;

/// The panel, where there is one.
pub(super) fn panel_of(context: &Context) -> Result<Arc<dyn Panel>, JobError> {
    let panel = context.panel.clone();
    panel.ok_or_else(|| JobError::new(retry::PANEL, "there is no panel; set `remote` in config.yml"))
}

/// What the panel says about a server.
pub struct FetchedSpec {
    /// The server as the panel has it.
    pub server: PanelServer,
    /// When it was asked.
    pub asked_at: Timestamp,
    /// When its answer was read.
    pub read_at: Timestamp,
}

impl FetchedSpec {
    /// Tells this word from another one of the panel, see `Record::synced_hash`.
    pub fn hash(&self) -> String {
        digest(&(&self.server.settings, &self.server.process, self.server.suspended))
    }

    /// Whether the record has a newer word of the panel. One from the future is none: the clock was set back.
    pub fn is_older_than(&self, record: &Record) -> bool {
        record.synced_at.is_some_and(|synced| synced > self.asked_at && synced <= self.read_at)
    }
}

/// Asks the panel for a server's configuration, for as long as somebody can be kept waiting.
///
/// # Errors
/// The last attempt's error.
pub async fn sync_with_retries(context: &Context, panel: &dyn Panel, id: ServerId) -> Result<PanelServer, PanelError> {
    patiently(context, id, || panel.server(id)).await
}

/// Asks about a server until there is an answer that counts, for as long as somebody can be kept waiting.
pub(super) async fn patiently<T, F: Future<Output = Result<T, PanelError>>>(
    context: &Context,
    id: ServerId,
    ask: impl FnMut() -> F,
) -> Result<T, PanelError> {
    let asked = retry::within(PANEL_TIMEOUT, retry::PANEL, &context.jitter, PanelError::ends_waiting, ask).await;
    asked.map_err(|error| {
        error.unwrap_or_else(|| PanelError::Timeout { call: format!("GET /servers/{id}"), limit: PANEL_TIMEOUT })
    })
}

/// Writes the panel's part of a server's intent, unless a newer one is there. Says so where that undoes what a person wrote
/// into the panel's part by hand.
///
/// # Errors
/// When it cannot be written; the intent in force stays.
pub fn apply_sync(
    store: &Store,
    id: ServerId,
    word: &FetchedSpec,
    start: Option<String>,
) -> Result<Arc<Snapshot>, StoreError> {
    for _ in 1..WRITE_ATTEMPTS {
        match try_apply(store, id, word, start.clone()) {
            // Somebody else wrote in between, and may have had a newer word.
            Err(StoreError::Conflict { .. }) => {}
            result => return result,
        }
    }
    try_apply(store, id, word, start)
}

fn try_apply(
    store: &Store,
    id: ServerId,
    word: &FetchedSpec,
    start: Option<String>,
) -> Result<Arc<Snapshot>, StoreError> {
    let before = store.get(id).ok_or(StoreError::Unknown(id))?;
    let outdated = word.is_older_than(&before.record);
    let hash = word.hash();
    let same_word = before.record.synced_hash.as_ref() == Some(&hash);
    let mut undone = BTreeSet::new();
    let snapshot = store.sync(
        id,
        Some(before.revision),
        |manifest| {
            if outdated {
                return;
            }
            let by_hand = manifest.clone();
            put(manifest, word.server.clone());
            if same_word {
                differences("spec", &json(&by_hand), &json(manifest), &mut undone);
            }
        },
        |record| {
            if !outdated {
                record.synced_at = Some(word.asked_at);
                record.synced_hash = Some(hash);
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
        store.event(id, word.asked_at, Reason::HandEditUndone, &message);
    }
    Ok(snapshot)
}

/// A new record of a server that the panel manages.
pub fn new_manifest(id: ServerId, server: PanelServer) -> Manifest {
    let mut manifest = Manifest::new(id, ManagedBy::Panel);
    put(&mut manifest, server);
    manifest
}

/// Lays the panel's part over a manifest.
fn put(manifest: &mut Manifest, server: PanelServer) {
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
