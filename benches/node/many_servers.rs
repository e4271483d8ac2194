//! A node with many servers: time to the first answer, cost while idle, cost of a list.

use std::time::{Duration, Instant};

use crate::daemon_process::{Node, until, with_node};
use crate::panel_sim::{Fault, SimServer};
use crate::table::{Table, load, median, millis, spread};
use crate::{REPEATS, options, process};

const SERVERS: usize = 500;
/// Delay of the panel's answers.
const PANEL_DELAY: Duration = Duration::from_millis(50);

/// Measures the wanted ones of `[boot, idle, list, takeover]`.
pub async fn measure(table: &mut Table, wanted: [bool; 4]) {
    with_node(options(), async |node| {
        fill(node, table, wanted[3]).await;
        if wanted[0] {
            boots(node, table).await;
        }
        if wanted[1] || wanted[2] {
            node.boot().await;
            process::quiet(node.pid()).await;
            if wanted[1] {
                idle(node, table).await;
            }
            if wanted[2] {
                lists(node, table).await;
            }
            node.kill();
        }
    })
    .await;
}

/// Has the servers on disk, offline: the node gets the panel's list for the first time.
async fn fill(node: &mut Node, table: &mut Table, measured: bool) {
    for _ in 0..SERVERS {
        let id = uuid::Uuid::new_v4().to_string();
        let mut server = SimServer::new(&id, &node.image, &node.image);
        server.standing = crate::panel_sim::Standing::Normal;
        node.panel.add(server);
    }
    let begun = Instant::now();
    node.boot().await;
    until("all servers", async || (listed(node).await == Some(SERVERS)).then_some(())).await;
    let (took, used) = (begun.elapsed(), process::cpu_ever(node.pid()));
    // They have their folders and their first status.
    process::quiet(node.pid()).await;
    if measured {
        let idle =
            format!("{:.2} s of CPU time while idle, load {}", process::cpu_ever(node.pid()).as_secs_f64(), load());
        let seconds = |span: Duration| format!("{:.2} s", span.as_secs_f64());
        let met = |span: Duration| span <= Duration::from_millis(150);
        table.row("takeover of 500 servers", seconds(took), idle.clone(), "0.15 s".into(), met(took));
        table.row("CPU time until they are listed", seconds(used), idle, "0.15 s".into(), met(used));
    }
    node.kill();
}

async fn listed(node: &Node) -> Option<usize> {
    node.get("/api/servers").await?.as_array().map(Vec::len)
}

async fn boots(node: &mut Node, table: &mut Table) {
    let slow = node.panel.fault(Fault::on("").delay(PANEL_DELAY));
    boots_with(node, table, "a panel at 50 ms").await;
    drop(slow);
    node.panel.pause();
    boots_with(node, table, "no panel").await;
    node.panel.resume();
}

async fn boots_with(node: &mut Node, table: &mut Table, panel: &str) {
    let (mut answers, mut all) = (Vec::new(), Vec::new());
    for _ in 0..REPEATS {
        let begun = Instant::now();
        node.spawn();
        let mut first = None;
        loop {
            if first.is_none() && node.get("/api/system").await.is_some() {
                first = Some(millis(begun.elapsed()));
            }
            if first.is_some() && listed(node).await == Some(SERVERS) {
                all.push(millis(begun.elapsed()));
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{}", node.latest_output());
            // Refused: the listener does not exist yet.
            tokio::task::yield_now().await;
        }
        answers.extend(first);
        process::quiet(node.pid()).await;
        node.kill();
    }
    for (what, spans, target) in [("first API answer", answers, 20.0), ("all 500 servers listed", all, 100.0)] {
        let ours = median(spans.clone());
        let noise = format!("{} ms, load {}", spread(&spans, 1), load());
        table.row(&format!("{what}, {panel}"), format!("{ours:.1} ms"), noise, format!("{target} ms"), ours <= target);
    }
}

async fn idle(node: &Node, table: &mut Table) {
    let memory = process::memory(node.pid());
    let (before, threads) = process::cpu(node.pid());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (after, threads_after) = process::cpu(node.pid());
    let mib = |kib: u64| kib as f64 / 1024.0;
    let (resident, anonymous) = (mib(memory.resident), mib(memory.anonymous));
    table.row(
        "resident with 500 idle servers",
        format!("{resident:.1} MiB"),
        String::new(),
        "24 MiB".into(),
        resident <= 24.0,
    );
    table.row("anonymous of it", format!("{anonymous:.1} MiB"), String::new(), "10 MiB".into(), anonymous <= 10.0);
    let used = millis(after.saturating_sub(before));
    let threads = format!("{threads} threads, then {threads_after}");
    table.row("CPU time in 10 idle seconds", format!("{used:.2} ms"), threads, "none".into(), used < 1.0);
}

async fn lists(node: &Node, table: &mut Table) {
    const REQUESTS: u32 = 500;
    assert_eq!(listed(node).await, Some(SERVERS));
    let (before, _) = process::cpu(node.pid());
    let mut bytes = 0;
    for _ in 0..REQUESTS {
        bytes = node.get_bytes("/api/servers").await.len();
    }
    let (after, _) = process::cpu(node.pid());
    let each = millis(after.saturating_sub(before)) / f64::from(REQUESTS);
    let size = format!("{} KiB each", bytes / 1024);
    table.row("CPU time of a list of 500", format!("{each:.3} ms"), size, "0.2 ms".into(), each <= 0.2);
}
