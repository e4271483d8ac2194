//! The panel's list after the start of the daemon: it is fetched and applied, then the panel's flags are reset.

use std::sync::Arc;

use super::containers;
use crate::model::{NodeConditionType, ServerId};
use crate::panel::PanelError;
use crate::reconcile::context::Context;
use crate::sync::PanelSync;
use crate::wait;

/// Applies the panel's list and resets the panel's flags; returns when both are done and no server is parked.
pub async fn follow(context: Arc<Context>, sync: Arc<PanelSync>) {
    let conditions = context.node.conditions.clone();
    conditions.unmet(NodeConditionType::PanelListed, "the panel's list of servers is being fetched");
    let failed = |error: &PanelError| {
        let message = format!("{error}; the servers on disk are run meanwhile, and the panel is asked again");
        conditions.unmet(NodeConditionType::PanelListed, message);
    };
    let list = sync.fetch_list(failed).await;
    let count = list.ids().count();
    let ids: Vec<ServerId> = list.ids().collect();
    containers::observe_new(&context, ids.iter().copied()).await;
    // The folders of a server that is on disk and not published yet: a user who sees it in the list may write files into them. They
    // are not created earlier, because nothing would remove them if the server could not be written. The first pass finds an error
    // again.
    let of_new = context.clone();
    let prepare = move |id| match of_new.node.layout.prepare(id) {
        Ok(()) => of_new.servers.prepared(id),
        Err(error) => tracing::warn!(server.id = %id, "{error}"),
    };
    let changed = sync.apply_list(list, prepare).await;
    sync.list_applied();
    conditions.met(NodeConditionType::PanelListed);
    tracing::info!(servers = count, changed, "the panel's list is applied");
    first_passes(&context, ids).await;
    sync.reset().await;
    sync.follow_parked().await;
}

/// Waits until each of these servers had a pass, for [`wait::RESET_FOR_FIRST_PASSES`] at most.
async fn first_passes(context: &Context, ids: Vec<ServerId>) {
    let servers = &context.servers;
    let passes = async {
        for id in ids.into_iter().filter(|id| context.store.get(*id).is_some()) {
            servers.wait(id, wait::RESET_FOR_FIRST_PASSES, || servers.has_converged(id, 1)).await;
        }
    };
    // Without an answer of the engine nothing can be taken over, and the reset is not held up.
    let _ = tokio::time::timeout(wait::RESET_FOR_FIRST_PASSES, passes).await;
}
