//! Which containers there are: one stream of events for the whole node, a listing each time it begins anew, and a listing now
//! and then for what a stream may lose.
//!
//! ```text
//!                  connected                listed
//! (unreachable) ------------> (listing) -----------> (following) --+
//!       ^                                                |   ^     | every RESYNC: list again
//!       +------------------- stream ended ---------------+   +-----+
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::sync::watch;

use super::queue::Queue;
use super::unknown_containers::UnknownContainers;
use crate::model::{Role, ServerId};
use crate::reconcile::context::Context;
use crate::retry;
use crate::runtime::{ContainerChange, ErrorKind, RuntimeError, RuntimeEvent};

/// How often everything is listed although the stream is well.
const RESYNC: Duration = Duration::from_secs(300);

/// Fewer new servers than this are not worth a listing of all containers.
const FEW_NEW: usize = 4;
/// How long the panel's list waits for a listing of containers, which only spares calls.
const NEW_LIST_TIMEOUT: Duration = Duration::from_secs(1);

/// Follows the runtime for as long as the daemon runs. `ready` turns true after the first listing, or the first failure
/// to get one.
pub async fn follow(context: Arc<Context>, queue: Queue, ready: watch::Sender<bool>) {
    let (mut failures, mut unknown_containers) = (0, UnknownContainers::default());
    loop {
        match begin(&context, &queue, &mut unknown_containers, failures == 0).await {
            Ok(events) => {
                if failures > 0 {
                    tracing::info!("the container engine answers again");
                }
                failures = 0;
                ready.send_replace(true);
                listen(&context, &queue, &mut unknown_containers, events).await;
                tracing::warn!("the stream of container events has ended; looking at everything again");
            }
            Err(error) => {
                failures += 1;
                if failures == 1 {
                    tracing::error!("{error}");
                }
                ready.send_replace(true);
            }
        }
        // What ends from now on ends unwatched: an engine that goes down takes its containers along, and none of them has
        // crashed.
        context.for_each_server(|_, state| state.unwatch());
        if failures <= 1 {
            // Once for each outage: their conditions should say so.
            wake_all(&context, &queue);
        }
        tokio::time::sleep(retry::delay(retry::ENGINE, failures.max(1), &context.jitter)).await;
    }
}

/// Connects, and says what stands in the way of the network if nobody has heard of it yet (`first`).
async fn begin(
    context: &Context,
    queue: &Queue,
    unknown_containers: &mut UnknownContainers,
    first: bool,
) -> Result<BoxStream<'static, RuntimeEvent>, RuntimeError> {
    let mut events = context.runtime.events().await?;
    // The engine may have gone down and come back since the last stream ended.
    context.for_each_server(|_, state| state.unwatch());
    let ended = RuntimeError::new(ErrorKind::Unavailable, "following containers", "disconnected");
    hearing(context, queue, &mut events, settle(context, unknown_containers, first)).await.unwrap_or(Err(ended))?;
    wake_all(context, queue);
    Ok(events)
}

async fn settle(
    context: &Context,
    unknown_containers: &mut UnknownContainers,
    first: bool,
) -> Result<(), RuntimeError> {
    match context.runtime.prepare_node().await {
        // Servers that need it will say so; those that run do not.
        Err(error) if first => tracing::error!("the servers' network is not ready: {error}"),
        _ => {}
    }
    list(context, unknown_containers).await.map(drop)
}

async fn listen(
    context: &Context,
    queue: &Queue,
    unknown_containers: &mut UnknownContainers,
    mut events: BoxStream<'static, RuntimeEvent>,
) {
    while hearing(context, queue, &mut events, tokio::time::sleep(RESYNC)).await.is_some() {
        match hearing(context, queue, &mut events, list(context, unknown_containers)).await {
            Some(Ok(changed)) => changed.into_iter().for_each(|id| queue.push(id)),
            Some(Err(error)) => {
                tracing::warn!("{error}");
                return;
            }
            None => return,
        }
    }
}

/// Does something while events are heard. `None`: their stream has ended, which is not to be noticed any later for it.
async fn hearing<T>(
    context: &Context,
    queue: &Queue,
    events: &mut BoxStream<'static, RuntimeEvent>,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut work = std::pin::pin!(work);
    loop {
        // Both arms are cancel-safe: a stream's `next`, and work that goes on where it was.
        tokio::select! {
            biased;
            event = events.next() => acknowledged(context, queue, &event?),
            done = &mut work => return Some(done),
        }
    }
}

fn acknowledged(context: &Context, queue: &Queue, event: &RuntimeEvent) {
    tracing::debug!(server.id = %event.server, role = event.role.as_str(), change = ?event.change, "container event");
    let news = context.with_server(event.server, |state| {
        let look = state.look(event.role);
        // The daemon's own creation is known from its answer, unless that came too late: then "no container" was observed since.
        let news = event.change != ContainerChange::Created || look.fresh() == Some(&None);
        if news {
            look.invalidate();
        }
        news
    });
    if !news {
        return;
    }
    queue.push(event.server);
}

/// Lists all containers and corrects what is remembered. Returns the servers whose memory was wrong.
async fn list(context: &Context, unknown_containers: &mut UnknownContainers) -> Result<Vec<ServerId>, RuntimeError> {
    let mut serials = BTreeMap::new();
    for id in context.store.ids() {
        context.with_server(id, |state| serials.insert(id, (state.server.version(), state.installer.version())));
    }
    let mut seen: BTreeMap<(ServerId, Role), (String, bool)> = BTreeMap::new();
    let listed = context.runtime.list().await?;
    unknown_containers.see(context, &listed, |id| serials.contains_key(&id));
    for listed in listed {
        seen.insert((listed.server, listed.role), (listed.id, listed.running));
    }
    let mut changed = Vec::new();
    for (id, (server, installer)) in serials {
        let wrong = context.with_server(id, |state| {
            let mut wrong = false;
            for (role, version) in [(Role::Server, server), (Role::Installer, installer)] {
                let look = state.look(role);
                let remembered =
                    look.fresh().map(|facts| facts.as_ref().map(|facts| (facts.id.clone(), facts.running())));
                match (seen.get(&(id, role)), remembered) {
                    (None, Some(None)) => {}
                    (None, None) => look.fill(version, None),
                    (Some(listed), Some(Some(remembered))) if *listed == remembered => {}
                    _ => {
                        look.invalidate();
                        wrong = true;
                    }
                }
            }
            wrong
        });
        if wrong {
            changed.push(id);
        }
    }
    Ok(changed)
}

/// Notes which of these servers have no containers, as far as the store does not know them yet: one call instead of two for each
/// of them in its first pass. What cannot be learned soon is left to the passes.
pub(super) async fn observe_new(context: &Context, ids: impl Iterator<Item = ServerId>) {
    let new: Vec<ServerId> = ids.filter(|id| context.store.get(*id).is_none()).collect();
    if new.len() < FEW_NEW {
        return;
    }
    let version =
        |id: ServerId| context.with_server(id, |state| (id, state.server.version(), state.installer.version()));
    let before: Vec<_> = new.into_iter().map(version).collect();
    let Ok(Ok(listed)) = tokio::time::timeout(NEW_LIST_TIMEOUT, context.runtime.list()).await else { return };
    let there: BTreeSet<ServerId> = listed.into_iter().map(|listed| listed.server).collect();
    for (id, server, installer) in before.into_iter().filter(|(id, ..)| !there.contains(id)) {
        context.with_server(id, |state| {
            state.server.fill(server, None);
            state.installer.fill(installer, None);
        });
    }
}

fn wake_all(context: &Context, queue: &Queue) {
    for id in context.store.ids() {
        queue.push(id);
    }
}

#[cfg(test)]
mod tests;
