//! Power requests survive a kill right after their 202.

use serde_json::json;

use crate::daemon_process::until;
use crate::docker_proxy::Side;
use crate::{behind_a_proxy, on_a_node};

#[tokio::test]
async fn requests_survive_the_daemon() {
    on_a_node(async |node| {
        node.boot().await;
        let id = node.running_server().await;

        node.power(&id, "stop").await;
        node.kill_and_boot().await;
        node.wait_state(&id, "offline").await;
        assert!(node.container(&id).await.is_none_or(|(_, running)| !running));
        assert_eq!(node.read(&id, "stops.txt"), "command\n", "stopped as its egg defines it");

        node.power(&id, "start").await;
        node.kill_and_boot().await;
        // A daemon first reports the last state that its predecessor has written.
        until("the second start", async || (node.read(&id, "starts.txt").lines().count() == 2).then_some(())).await;
        node.wait_state(&id, "running").await;

        node.power(&id, "restart").await;
        node.kill_and_boot().await;
        until("the third start", async || (node.read(&id, "starts.txt").lines().count() == 3).then_some(())).await;
        node.wait_state(&id, "running").await;

        node.power(&id, "kill").await;
        node.kill_and_boot().await;
        node.wait_state(&id, "offline").await;
        assert_eq!(node.read(&id, "starts.txt").lines().count(), 3, "a kill is the end");
    })
    .await;
}

/// As above, with calls to the engine held back: the request had no effect before the daemon was killed.
#[tokio::test]
async fn requests_survive_without_a_first_step() {
    behind_a_proxy(async |node, proxy| {
        node.boot().await;
        let id = node.define("echo run >> /mnt/server/runs.txt");
        // A stop command would be sent through the terminal that is open already.
        node.panel.edit(&id, |server| server.process["stop"] = json!({"type": "signal", "value": "SIGTERM"}));
        node.create(&id, true).await;
        node.wait_state(&id, "running").await;
        let (started, _) = node.container(&id).await.expect("a container");

        let held = proxy.hold(Side::Before, "^(POST|DELETE) ", 0);
        node.power(&id, "restart").await;
        node.kill();
        assert_eq!(node.container(&id).await, Some((started.clone(), true)), "nothing has happened");
        drop(held);
        node.boot().await;
        until("the restart", async || (node.container(&id).await?.0 != started).then_some(())).await;
        node.wait_state(&id, "running").await;
        assert_eq!(node.read(&id, "starts.txt").lines().count(), 2);

        let held = proxy.hold(Side::Before, "^(POST|DELETE) ", 0);
        node.power(&id, "stop").await;
        held.reached(crate::daemon_process::TIMEOUT).await;
        // The latest request counts.
        node.power(&id, "kill").await;
        node.kill();
        drop(held);
        node.boot().await;
        node.wait_state(&id, "offline").await;
    })
    .await;
}
