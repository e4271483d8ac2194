//! The real daemon on a real container engine: killed, disconnected and obstructed at every step.
//!
//! Without an engine these tests fail; `ALULA_SKIP_DOCKER=1` skips them with a message. They need root, as the daemon
//! does.

#[path = "transfers/cutting.rs"]
mod cutting;
#[path = "support/daemon_process.rs"]
mod daemon_process;
#[path = "support/docker_proxy.rs"]
mod docker_proxy;
#[path = "support/images.rs"]
mod images;
#[path = "support/own_engine.rs"]
mod own_engine;
#[path = "support/panel_sim.rs"]
mod panel_sim;

#[path = "kills/by_hand.rs"]
mod by_hand;
#[path = "kills/case.rs"]
mod case;
#[path = "kills/engine.rs"]
mod engine;
#[path = "kills/install.rs"]
mod install;
#[path = "kills/object_store.rs"]
mod object_store;
#[path = "kills/operations.rs"]
mod operations;
#[path = "kills/power.rs"]
mod power;
#[path = "kills/recovery.rs"]
mod recovery;
#[path = "kills/takeover.rs"]
mod takeover;
#[path = "kills/transfers.rs"]
mod transfers;
#[path = "kills/transfers_wings.rs"]
mod transfers_wings;
#[path = "kills/trees.rs"]
mod trees;
#[path = "transfers/wings.rs"]
mod wings;

use std::path::Path;

use daemon_process::{Node, NodeOptions, skipped, with_node};
use docker_proxy::DockerProxy;

/// The machine's engine.
const ENGINE: &str = "/var/run/docker.sock";

fn options() -> NodeOptions {
    NodeOptions::new(env!("CARGO_BIN_EXE_alula"))
}

/// Runs a test on a node.
async fn on_a_node(test: impl AsyncFnOnce(&mut Node)) {
    if !skipped() {
        with_node(options(), test).await;
    }
}

/// Runs a test on a node whose connection to the engine can be stalled.
async fn behind_a_proxy(test: impl AsyncFnOnce(&mut Node, &DockerProxy)) {
    if skipped() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let proxy = DockerProxy::start(folder.path(), Path::new(ENGINE));
    let options = NodeOptions { docker_host: Some(proxy.address()), ..options() };
    with_node(options, async |node| test(node, &proxy).await).await;
}
