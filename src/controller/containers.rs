//! Which containers there are: one stream of events for the whole node, a listing each time the stream begins, and a listing now and
//! then for events that the stream may lose.
//!
//! ```text
//!                  connected                listed
//! (unreachable) ------------> (listing) -----------> (following) --+
//!       ^                                                |   ^     | every CONTAINER_RESYNC: list again
//!       +------------------- stream ended ---------------+   +-----+
//! ```

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::sync::watch;

use super::queue::Queue;
use super::unknown_containers::UnknownContainers;
use crate::model::{NodeConditionType, ServerId};
use crate::reconcile::context::Context;
use crate::retry;
use crate::runtime::{ErrorKind, RuntimeError, RuntimeEvent};
use crate::wait;

/// Fewer new servers than this are not worth a listing of all containers.
const FEW_NEW: usize = 4;

/// Follows the engine for as long as the daemon runs. `ready` turns true after the first listing, or the first failure to get one.
pub async fn follow(context: Arc<Context>, queue: Queue, ready: watch::Sender<bool>) {
    context.node.conditions.unmet(NodeConditionType::EngineReachable, "the container engine has not answered yet");
    let mut follower = Follower { context, queue, unknown_containers: UnknownContainers::default() };
    let mut failures = 0;
    loop {
        match follower.begin(failures == 0).await {
            Ok(events) => {
                follower.context.node.conditions.met(NodeConditionType::EngineReachable);
                if failures > 0 {
                    tracing::info!("the container engine answers again");
                }
                failures = 0;
                ready.send_replace(true);
                follower.listen(events).await;
                tracing::warn!("the stream of container events has ended; observing all servers again");
            }
            Err(error) => {
                follower.context.node.conditions.unmet(NodeConditionType::EngineReachable, error.to_string());
                failures += 1;
                if failures == 1 {
                    tracing::error!(%error, "cannot follow the container engine");
                }
                ready.send_replace(true);
            }
        }
        // An engine that goes down takes its containers along, and none of them has crashed.
        follower.context.servers.unwatch();
        if failures <= 1 {
            // Once for each outage, for the servers' conditions.
            follower.queue_all();
        }
        tokio::time::sleep(retry::delay(retry::ENGINE, failures.max(1), &follower.context.jitter)).await;
    }
}

struct Follower {
    context: Arc<Context>,
    queue: Queue,
    unknown_containers: UnknownContainers,
}

impl Follower {
    /// Connects, prepares the node and lists all containers. Only the `first` failure to create the network is logged.
    async fn begin(&mut self, first: bool) -> Result<BoxStream<'static, RuntimeEvent>, RuntimeError> {
        let mut events = self.context.runtime.events().await?;
        // The engine may have gone down and come back since the last stream ended.
        self.context.servers.unwatch();
        self.context.start_slots.collect(self.context.store.ids().len());
        let (context, queue) = (self.context.clone(), self.queue.clone());
        let listing = async {
            if let Err(error) = context.runtime.prepare_node().await
                && first
            {
                // The servers that need the network get a condition; those that run do not need it.
                tracing::error!(%error, "the servers' network is not ready");
            }
            self.list().await
        };
        let ended = RuntimeError::new(ErrorKind::Unavailable, "following containers", "disconnected");
        while_following(&context, &queue, &mut events, listing).await.unwrap_or(Err(ended))?;
        self.queue_all();
        Ok(events)
    }

    /// Follows the events until their stream ends or the engine rejects a listing.
    async fn listen(&mut self, mut events: BoxStream<'static, RuntimeEvent>) {
        let (context, queue) = (self.context.clone(), self.queue.clone());
        let resync = || tokio::time::sleep(wait::CONTAINER_RESYNC);
        while while_following(&context, &queue, &mut events, resync()).await.is_some() {
            match while_following(&context, &queue, &mut events, self.list()).await {
                Some(Ok(changed)) => changed.into_iter().for_each(|id| queue.push(id)),
                Some(Err(error)) => {
                    tracing::warn!(%error, "cannot list the containers");
                    return;
                }
                None => return,
            }
        }
    }

    /// Lists all containers. Returns the servers for which something else was known.
    async fn list(&mut self) -> Result<Vec<ServerId>, RuntimeError> {
        let before = self.context.servers.begin_listing(self.context.store.ids());
        let listed = self.context.runtime.list().await?;
        self.unknown_containers.update(&self.context, &listed, |id| before.knew(id));
        Ok(self.context.servers.listed(&before, &listed))
    }

    fn queue_all(&self) {
        self.context.store.ids().into_iter().for_each(|id| self.queue.push(id));
    }
}

/// Does some work while events are handled. `None`: their stream has ended, which must not be noticed later because of the work.
async fn while_following<T>(
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
            event = events.next() => {
                let RuntimeEvent { server, role, change } = event?;
                tracing::debug!(server.id = %server, role = role.as_str(), ?change, "container event");
                if context.servers.container_event(server, role, change) {
                    queue.push(server);
                }
            }
            done = &mut work => return Some(done),
        }
    }
}

/// Notes which of these servers have no containers, as far as the store does not know them yet: one call of the engine instead of
/// two for each of them in its first pass. Where the listing takes too long, the passes inspect them.
pub(super) async fn observe_new(context: &Context, ids: impl Iterator<Item = ServerId>) {
    let new: Vec<ServerId> = ids.filter(|id| context.store.get(*id).is_none()).collect();
    if new.len() < FEW_NEW {
        return;
    }
    let before = context.servers.begin_listing(new);
    if let Ok(Ok(listed)) = tokio::time::timeout(wait::LIST_FOR_CONTAINERS, context.runtime.list()).await {
        context.servers.listed(&before, &listed);
    }
}

#[cfg(test)]
mod tests;
