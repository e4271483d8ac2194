//! From the request to the running server, against the bare sequence of the same calls to the engine.

use std::time::Instant;

use crate::daemon_process::{Node, with_node};
use crate::panel_sim::SimServer;
use crate::table::{Table, load, median, millis, spread};
use crate::without_daemon::Baseline;
use crate::{REPEATS, options};

/// Measures one server, and ten at once.
pub async fn measure(table: &mut Table) {
    with_node(options(), async |node| {
        node.boot().await;
        let bare = Baseline::like_those_of(node).await;
        for count in [1, 10] {
            compare(node, &bare, count, table).await;
        }
    })
    .await;
}

async fn compare(node: &mut Node, bare: &Baseline, count: usize, table: &mut Table) {
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    // Each of them once before it counts: caches are warm for both.
    bare.run(count).await;
    servers(node, count).await;
    for _ in 0..REPEATS {
        floor.push(millis(bare.run(count).await));
        ours.push(millis(servers(node, count).await));
    }
    let ratios: Vec<f64> = ours.iter().zip(&floor).map(|(ours, floor)| ours / floor).collect();
    let ratio = median(ratios.clone());
    let what = match count {
        1 => "create → running".to_owned(),
        count => format!("create → running, {count} at once"),
    };
    let (ours, floor) = (median(ours), median(floor));
    let against = format!("{ours:.0} ms, bare {floor:.0} ms; ratios {}, load {}", spread(&ratios, 2), load());
    table.row(&what, format!("{ratio:.3} times"), against, "1.05 times".into(), ratio <= 1.05);
}

/// Has the daemon make so many servers; the time until the panel knows that all of them run.
async fn servers(node: &mut Node, count: usize) -> std::time::Duration {
    let ids: Vec<String> = (0..count).map(|_| node.define("true")).collect();
    let begun = Instant::now();
    futures_util::future::join_all(ids.iter().map(|id| node.create(id, true))).await;
    let panel = &node.panel;
    futures_util::future::join_all(ids.iter().map(|id| panel.wait_state(0, id, "running"))).await;
    let took = begun.elapsed();
    for id in &ids {
        node.delete(id).await;
    }
    node.panel.with(|call_log| {
        call_log.requests.clear();
        call_log.servers.retain(|server: &SimServer| !ids.contains(&server.uuid));
    });
    took
}
