//! The panel's list after the start of the daemon: it is fetched and applied, then the panel's flags are reset.

use std::sync::Arc;

use super::containers;
use crate::model::NodeConditionType;
use crate::panel::PanelError;
use crate::reconcile::context::Context;
use crate::sync::PanelSync;

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
    containers::observe_new(&context, list.ids()).await;
    // The folders of a server that is on disk and not published yet: a user who sees it in the list may write files into them. They
    // are not created earlier, because nothing would remove them if the server could not be written. The first pass finds an error
    // again.
    let prepare = move |id| match context.node.layout.prepare(id) {
        Ok(()) => context.servers.prepared(id),
        Err(error) => tracing::warn!(server.id = %id, "{error}"),
    };
    let changed = sync.apply_list(list, prepare).await;
    sync.list_applied();
    conditions.met(NodeConditionType::PanelListed);
    tracing::info!(servers = count, changed, "the panel's list is applied");
    sync.reset().await;
    sync.follow_parked().await;
}
