//! The plan of a first pass, made without the services of a daemon.

use std::sync::atomic::AtomicBool;

use super::observe::{containers, egg_files};
use super::plan_of;
use crate::clock::Moment;
use crate::config::NodeConfig;
use crate::egg_files::FileChange;
use crate::files::Layout;
use crate::model::{ContainerStatus, Role, ServerId};
use crate::reconcile::context;
use crate::reconcile::plan::Plan;
use crate::runtime::Runtime;
use crate::store::Store;

/// What the next start makes of a server's configuration files. Nothing is written.
pub async fn first_files(store: &Store, runtime: &dyn Runtime, node: &NodeConfig, id: ServerId) -> Vec<FileChange> {
    let Some(snapshot) = store.get(id) else { return Vec::new() };
    let Some(files) = egg_files(runtime, node, &Layout::new(node), &snapshot) else { return Vec::new() };
    store.blocking().run(move || files.preview(&AtomicBool::new(false))).await
}

/// The plan of a daemon that has just started; none where there is no such server. Nothing is executed.
pub async fn first_plan(
    store: &Store,
    runtime: &dyn Runtime,
    node: &NodeConfig,
    id: ServerId,
    now: Moment,
) -> Option<Plan> {
    let found = tokio::join!(runtime.inspect(id, Role::Server), runtime.inspect(id, Role::Installer));
    // Whether a container that was created and not started is still usable depends on the servers' network, which exists if such a
    // container does.
    if matches!(&found.0, Ok(Some(server)) if ContainerStatus::is_created(server)) {
        // Without it the plan follows the configuration.
        let _ = runtime.prepare_node().await;
    }
    let snapshot = store.get(id)?;
    let mut observed = containers(runtime, node, Some(&snapshot), now, found).await;
    let layout = Layout::new(node);
    let found = store.blocking().run(move || (layout.is_prepared(id), layout.data_directory(id)));
    (observed.prepared, observed.files) = found.await;
    Some(plan_of(store, &snapshot, &observed, &context::policy(node, node.panel.is_some()), now))
}
