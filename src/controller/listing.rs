//! The panel's list after the start of the daemon: it is fetched and applied, then the panel's flags are reset.

use std::sync::{Arc, Mutex, PoisonError};

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

/// Waits until each of these servers had a pass.
async fn first_passes(context: &Context, ids: Vec<ServerId>) {
    let waiting = Mutex::new(ids);
    let had_pass = |id| context.store.status(id).is_none_or(|status| !status.conditions.is_empty());
    let all_had = || {
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while waiting.pop_if(|id| had_pass(*id)).is_some() {}
        waiting.is_empty()
    };
    wait::until(context.store.changes(), wait::RESET_FOR_FIRST_PASSES, all_had).await;
}
