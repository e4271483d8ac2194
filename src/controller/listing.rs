//! The panel's list of servers: asked for at boot until it is there, laid over what is on disk, then the panel's flags are
//! reset, but not while an installation is open.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::containers;
use crate::model::{ManagedBy, Reason, Record, ServerId, Timestamp};
use crate::panel::{Listed, Panel, PanelError};
use crate::reconcile::context::Context;
use crate::reconcile::jobs::{FetchedSpec, apply_sync, new_manifest};
use crate::retry;
use crate::store::{NewServer, Snapshot, Store, StoreError};

/// How often it is looked whether the last open installation has ended, while one is.
const INSTALLS_CHECK: Duration = Duration::from_secs(2);

/// After this time a reset that installations hold back is replaced by reports for the servers to which it is owed.
const RESET_HELD_BACK: Duration = Duration::from_secs(600);

/// The longest reset.
const RESET_LIMIT: Duration = Duration::from_secs(5);

/// Brings the panel's list in force and resets the panel's flags; returns when both are done.
pub async fn follow(context: Arc<Context>, panel: Arc<dyn Panel>) {
    let (listed, when) = list(&context, &*panel).await;
    let count = listed.servers.len();
    containers::observe_new(&context, listed.servers.iter().map(|listed| listed.id)).await;
    let task_context = context.clone();
    let applied = context.store.run(move |_| apply(&task_context, listed, when)).await;
    context.recently_deleted.close();
    tracing::info!(servers = count, changed = applied, "the panel's list is in force");
    reset(&context, &*panel).await;
}

/// When the panel's word was asked for and read.
#[derive(Clone, Copy)]
struct When {
    asked_at: Timestamp,
    read_at: Timestamp,
}

async fn list(context: &Context, panel: &dyn Panel) -> (Listed, When) {
    let mut failures = 0;
    let mut said = String::new();
    loop {
        let (began_at, began) = (context.clock.now(), Instant::now());
        match panel.list().await {
            Ok(listed) => {
                // Its oldest page may be from an attempt before this one.
                let asked_at = began_at - began.saturating_duration_since(listed.asked);
                return (listed, When { asked_at, read_at: context.clock.now() });
            }
            Err(error) => {
                failures += 1;
                let growth = if error.is_final() { retry::REJECTED } else { retry::PANEL };
                say(&error, &mut said);
                tokio::time::sleep(retry::delay(growth, failures, &context.jitter)).await;
            }
        }
    }
}

/// Says what is wrong, unless it was `said` just before.
fn say(error: &PanelError, said: &mut String) {
    let message = error.to_string();
    if message == *said {
        return;
    }
    if error.is_final() {
        tracing::error!(
            "{message}; check `token_id`, `token` and `remote` in config.yml against the node's page in the panel. The servers on disk are run meanwhile, and the panel is asked again every few minutes"
        );
    } else {
        tracing::warn!("{message}; the servers on disk are run meanwhile, and the panel is asked again");
    }
    *said = message;
}

/// The panel takes every server that it thinks is installing for installed: so it is asked to only when none is.
async fn reset(context: &Context, panel: &dyn Panel) {
    let (mut held_since, mut failures) = (None, 0);
    loop {
        let gate = context.reset_lock.reset().await;
        if context.store.list().iter().any(|snapshot| installing(snapshot, context.clock.now())) {
            if held_since.get_or_insert_with(Instant::now).elapsed() >= RESET_HELD_BACK {
                settle(context, Cleared::Never).await;
            }
            drop(gate);
            tokio::time::sleep(INSTALLS_CHECK).await;
            continue;
        }
        held_since = None;
        // Whoever wants to install meanwhile waits, so the panel does not get all the time it may have elsewhere.
        let answer = tokio::time::timeout(RESET_LIMIT, panel.reset()).await;
        match answer {
            Ok(Ok(())) => return settle(context, Cleared::ByReset).await,
            Ok(Err(error)) if error.is_final() => {
                tracing::warn!("{error}");
                return settle(context, Cleared::Never).await;
            }
            _ => {
                drop(gate);
                failures += 1;
                tokio::time::sleep(retry::delay(retry::PANEL, failures, &context.jitter)).await;
            }
        }
    }
}

/// Whether the panel's flags were reset.
#[derive(Clone, Copy, PartialEq)]
enum Cleared {
    ByReset,
    Never,
}

/// Clears `reset_owed` of the servers whose record was lost. A reset ends "installing" on the panel and leaves "install
/// failed" as it is, so nothing else follows. Without a reset the assumed result becomes one that is to be reported.
async fn settle(context: &Context, cleared: Cleared) {
    let owed = |snapshot: &Arc<Snapshot>| snapshot.record.install.reset_owed;
    for snapshot in context.store.list().into_iter().filter(owed) {
        let of_panel =
            snapshot.manifest.as_ref().is_some_and(|manifest| manifest.metadata.managed_by == ManagedBy::Panel);
        let listed = of_panel && snapshot.record.parked.is_none();
        if cleared == Cleared::Never && (!listed || installing(&snapshot, context.clock.now())) {
            // The panel does not list the server, or gets the result of a later installation.
            continue;
        }
        let id = snapshot.id;
        let settled = move |record: &mut Record| {
            // A later installation may have ended since.
            if std::mem::take(&mut record.install.reset_owed)
                && let Some(done) = record.install.done.as_mut()
            {
                done.reported &= cleared == Cleared::ByReset;
            }
        };
        match context.store.run(move |store| store.commit(id, settled)).await {
            Ok(_) => (context.wake)(id),
            Err(error) if cleared == Cleared::ByReset => {
                tracing::warn!(server.id = %id, %error, "cannot record the panel's reset; it is sent again after the next start");
            }
            Err(error) => tracing::debug!(server.id = %id, %error, "cannot record the assumed result; trying again"),
        }
    }
}

fn installing(snapshot: &Snapshot, now: Timestamp) -> bool {
    let record = &snapshot.record;
    if record.parked.is_some() || !snapshot.wanted() {
        return false;
    }
    let unreported = record.install.done.as_ref().is_some_and(|done| !done.reported);
    unreported || snapshot.asked(now).install().is_some()
}

/// Applies the panel's list to the store. Returns how many servers were changed.
fn apply(context: &Context, listed: Listed, when: When) -> usize {
    let Listed { servers, asked, incomplete } = listed;
    let mut names = BTreeSet::new();
    let (mut new, mut changed) = (Vec::new(), 0);
    for entry in servers {
        names.insert(entry.id);
        let word = match entry.server {
            Ok(server) => FetchedSpec { server, asked_at: when.asked_at, read_at: when.read_at },
            Err(message) => {
                tracing::error!(server.id = %entry.id, "the panel's configuration of this server cannot be read: {message}");
                continue;
            }
        };
        match context.store.get(entry.id) {
            None => new.push(new_server(entry.id, word)),
            Some(snapshot) => changed += count(entry.id, apply_one(&context.store, &snapshot, &word)),
        }
    }
    // Asked as late as possible: a server may be deleted while others are written.
    let new = new.into_iter().filter(|new| !context.recently_deleted.since(new.manifest.metadata.uuid, asked));
    for (id, created) in context.store.create_all(new, |id| prepare(context, id)) {
        changed += count(id, created.map(|_| true));
    }
    match incomplete {
        None => changed + park(&context.store, &names, when.asked_at),
        Some(reason) => {
            tracing::warn!("the panel's list may lack servers: {reason}; no server is parked because it is not in it");
            changed
        }
    }
}

/// How many servers were changed: one or none.
fn count(id: ServerId, changed: Result<bool, StoreError>) -> usize {
    let changed = changed.inspect_err(|error| {
        tracing::error!(server.id = %id, "the panel's configuration cannot be written: {error}");
    });
    usize::from(changed.unwrap_or(false))
}

fn new_server(id: ServerId, word: FetchedSpec) -> NewServer {
    let record = Record { synced_at: Some(word.asked_at), synced_hash: Some(word.hash()), ..Record::default() };
    NewServer { manifest: new_manifest(id, word.server), record, requests: Vec::new() }
}

/// Makes the folders of a server that is on disk and not published yet: a user who sees it in the list may write files into them.
/// They are not made earlier, because nothing would remove them if the server could not be written. The first pass finds an error
/// again.
fn prepare(context: &Context, id: ServerId) {
    match context.layout.prepare(id) {
        Ok(()) => context.with_server(id, |state| state.prepared = true),
        Err(error) => tracing::warn!(server.id = %id, "{error}"),
    }
}

fn apply_one(store: &Store, snapshot: &Snapshot, word: &FetchedSpec) -> Result<bool, StoreError> {
    let (id, hash) = (snapshot.id, word.hash());
    let managed_here =
        snapshot.manifest.as_ref().is_some_and(|manifest| manifest.metadata.managed_by == ManagedBy::File);
    if managed_here || snapshot.is_being_deleted() {
        return Ok(false);
    }
    let mut did = false;
    if snapshot.record.parked.is_some() {
        store.commit(id, |record| record.parked = None)?;
        store.wake(id);
        did = true;
    }
    let same = snapshot.manifest.as_ref().is_some_and(|manifest| {
        let (spec, server) = (&manifest.spec, &word.server);
        spec.settings == server.settings && spec.process == server.process && spec.suspended == server.suspended
    });
    if !same || snapshot.record.synced_hash.as_ref() != Some(&hash) {
        let before = store.get(id).map(|snapshot| snapshot.revision);
        did |= Some(apply_sync(store, id, word, None)?.revision) != before;
    }
    Ok(did)
}

/// Servers that their panel no longer lists are left as they are, and shown to nobody but the command line. One that was
/// made while the list was on its way is not among them.
fn park(store: &Store, names: &BTreeSet<ServerId>, asked_at: Timestamp) -> usize {
    let mut parked = 0;
    for snapshot in store.list() {
        let of_panel =
            snapshot.manifest.as_ref().is_some_and(|manifest| manifest.metadata.managed_by == ManagedBy::Panel);
        let younger = snapshot.record.synced_at.is_some_and(|synced| synced >= asked_at);
        let known = names.contains(&snapshot.id) || snapshot.record.parked.is_some();
        if !of_panel || younger || known || snapshot.is_being_deleted() {
            continue;
        }
        match store.commit(snapshot.id, |record| record.parked = Some(asked_at)) {
            Ok(_) => {
                let message = "the panel no longer lists this server; its files and containers are left as they are";
                store.event(snapshot.id, asked_at, Reason::Parked, message);
                store.wake(snapshot.id);
                parked += 1;
            }
            Err(error) => tracing::error!(server.id = %snapshot.id, "cannot be parked: {error}"),
        }
    }
    parked
}

#[cfg(test)]
mod tests;
