//! Faults of the container engine: it restarts, it is killed, it hangs for one container.

use alula::model::{ConditionType, Reason};

use crate::daemon_process::{Node, NodeOptions, until, with_node};
use crate::docker_proxy::Side;
use crate::install::GATED;
use crate::own_engine::OwnEngine;
use crate::{behind_a_proxy, options, skipped};

/// A node on an engine of its own.
async fn on_an_own_engine(test: impl AsyncFnOnce(&mut Node, &mut OwnEngine)) {
    if skipped() {
        return;
    }
    let mut engine = OwnEngine::start().await;
    let options = NodeOptions { engine: Some(engine.socket()), ..options() };
    with_node(options, async |node| test(node, &mut engine).await).await;
}

/// Servers start again without a restart of the daemon.
#[tokio::test]
async fn the_engine_restarts() {
    on_an_own_engine(async |node, engine| {
        node.boot().await;
        let (daemon, id) = (node.pid(), node.running_server().await);
        let stopped = node.running_server().await;
        node.power(&stopped, "stop").await;
        node.wait_state(&stopped, "offline").await;

        engine.stop();
        // Requests from that time are accepted, reported as waiting, and executed afterwards.
        node.power(&stopped, "start").await;
        node.wait_condition(&stopped, ConditionType::ContainerReady, Reason::RuntimeUnreachable).await;
        engine.up().await;
        until("the start after the engine's restart", async || {
            (node.read(&id, "starts.txt").lines().count() == 2).then_some(())
        })
        .await;
        node.wait_state(&id, "running").await;
        node.wait_state(&stopped, "running").await;

        engine.kill();
        node.wait_condition(&id, ConditionType::ContainerReady, Reason::RuntimeUnreachable).await;
        assert_eq!(node.state(&id).await.as_deref(), Some("running"), "nothing else is known");
        engine.up().await;
        // An engine that was killed ends its containers when it starts.
        until("the start after the engine's death", async || {
            (node.read(&id, "starts.txt").lines().count() == 3).then_some(())
        })
        .await;
        node.wait_state(&id, "running").await;
        node.wait_state(&stopped, "running").await;
        assert_eq!(node.pid(), daemon);
    })
    .await;
}

/// The engine ends the script when it stops: the script runs again to its end, and only then the result is reported.
#[tokio::test]
async fn the_engine_goes_down_under_an_install_script() {
    on_an_own_engine(async |node, engine| {
        node.boot().await;
        let id = node.define(GATED);
        node.create(&id, true).await;
        node.wait_file(&id, "early").await;
        engine.stop();
        engine.up().await;
        let runs = async |wanted| {
            let count = async || (node.read(&id, "runs.txt").lines().count() == wanted).then_some(());
            until("another run of the script", count).await;
        };
        runs(2).await;
        engine.kill();
        engine.up().await;
        runs(3).await;
        assert!(node.panel.matching(0, "POST", &format!("/servers/{id}/install")).is_empty(), "reported too early");
        node.touch(&id, "go");
        node.touch(&id, "end");
        node.wait_state(&id, "running").await;
        let report = node.panel.wait_install(0, &id).await;
        assert_eq!(report["successful"], true, "{report}");
        assert_eq!((node.read(&id, "runs.txt").lines().count(), node.read(&id, "starts.txt").as_str()), (3, "start\n"));
    })
    .await;
}

/// Calls about one container hang: the condition of its server says so, and other servers are not affected.
#[tokio::test]
async fn the_engine_hangs_for_one_container() {
    behind_a_proxy(async |node, proxy| {
        node.boot().await;
        let (hung, neighbour) = (node.running_server().await, node.running_server().await);
        let (container, _) = node.container(&hung).await.expect("a container");
        let hang = proxy.hold(Side::Before, &format!("{hung}|{container}"), 0);
        node.power(&hung, "restart").await;
        hang.reached(crate::daemon_process::TIMEOUT).await;

        node.power(&neighbour, "restart").await;
        until("the neighbour's restart", async || {
            (node.read(&neighbour, "starts.txt").lines().count() == 2).then_some(())
        })
        .await;
        node.wait_state(&neighbour, "running").await;
        let another = node.running_server().await;
        node.power(&another, "stop").await;
        node.wait_state(&another, "offline").await;
        assert_eq!(node.read(&hung, "starts.txt"), "start\n");

        let message = node.wait_condition(&hung, ConditionType::ContainerReady, Reason::RuntimeUnreachable).await;
        assert!(message.contains("10"), "it says how long it was waited: {message}");
        drop(hang);
        until("the restart", async || (node.read(&hung, "starts.txt").lines().count() == 2).then_some(())).await;
        node.wait_state(&hung, "running").await;
    })
    .await;
}
