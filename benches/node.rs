//! The cost of a node: `cargo bench --bench node`, or `cargo bench --bench node -- start idle` for a part of it.
//!
//! The real daemon, as released, against the machine's container engine and the project's panel simulator. The
//! baseline is measured in the same run, alternately, so that a busy machine slows both; the table includes the load. It needs
//! root and an engine, as the daemon does.

#[path = "../tests/support/daemon_process.rs"]
mod daemon_process;
#[path = "../tests/support/images.rs"]
mod images;
#[path = "../tests/support/panel_sim.rs"]
mod panel_sim;

#[path = "node/files.rs"]
mod files;
#[path = "node/many_servers.rs"]
mod many_servers;
#[path = "node/planning.rs"]
mod planning;
#[path = "node/process.rs"]
mod process;
#[path = "node/start.rs"]
mod start;
#[path = "node/statistics.rs"]
mod statistics;
#[path = "node/table.rs"]
mod table;
#[path = "node/without_daemon.rs"]
mod without_daemon;

use daemon_process::NodeOptions;
use table::Table;

/// Number of measurements; each figure is their median.
const REPEATS: usize = 5;

fn options() -> NodeOptions {
    NodeOptions { debug: false, ..NodeOptions::new(env!("CARGO_BIN_EXE_alula")) }
}

fn main() {
    let sections: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |section: &str| sections.is_empty() || sections.iter().any(|name| name == section);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut table = Table::default();
    if wanted("plan") {
        planning::measure(&mut table);
    }
    runtime.block_on(async {
        if wanted("start") {
            start::measure(&mut table).await;
        }
        if wanted("stats") {
            statistics::measure(&mut table).await;
        }
        if wanted("files") {
            files::measure(&mut table).await;
        }
        let parts = ["boot", "idle", "list", "takeover"].map(|part| (part, wanted(part)));
        if parts.iter().any(|(_, wanted)| *wanted) {
            many_servers::measure(&mut table, parts.map(|(_, wanted)| wanted)).await;
        }
    });
    table.print();
}
