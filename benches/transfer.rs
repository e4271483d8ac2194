//! Transfers between two alulas: `cargo bench --bench transfer`. A server of 2 GiB goes over a link of 200 Mbit/s that is cut ten times,
//! and one of 512 MiB that runs and changes 1 MiB/s goes over the same link: in pieces as regions of a world are saved, and in pages all
//! over it, as a database does. The floor is what the link needs for the bytes themselves.
//!
//! `cargo bench --bench transfer -- running` leaves the first one out.
//!
//! Both nodes and the link are in this process. Everything is in the folder for temporary files, and needs 5 GiB there.

#[path = "../tests/transfers/cutting.rs"]
mod cutting;
#[path = "../tests/transfers/node.rs"]
#[allow(dead_code)]
mod node;
#[path = "node/table.rs"]
#[allow(dead_code)]
mod table;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use alula::model::{PowerState, Verb};
use cutting::Link;
use node::{Node, server};
use serde_json::json;

const MIB: u64 = 1 << 20;
/// 200 Mbit/s.
const LINK: u64 = 200_000_000 / 8;
/// The server that is cut off, and the one that runs, in files of 128 MiB.
const CUT: u64 = 2048;
const RUNNING: u64 = 512;
const FILE: u64 = 128;
const CUTS: usize = 10;
/// The longest downtime, in seconds.
const DOWNTIME: f64 = 3.0;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut table = table::Table::default();
    runtime.block_on(async {
        if !std::env::args().any(|argument| argument == "running") {
            cut(&mut table).await;
        }
        for piece in [MIB, 64 << 10, 4 << 10] {
            running(&mut table, piece).await;
        }
    });
    table.print();
}

async fn cut(table: &mut table::Table) {
    let (source, destination) = (source(CUT).await, Node::new().await);
    let link = Link::to(&destination.url()).await;
    link.limit(LINK);
    link.cut_after([CUT * MIB / (CUTS as u64 + 1); CUTS]);
    let wall = send(&source, &destination, &link).await;
    assert_eq!(link.cuts_left(), 0, "the link was not cut as often");
    let (sent, content) = (link.passed() as f64, (CUT * MIB) as f64);
    let ratio = sent / content;
    let (ours, floor) = (format!("{:.0} MiB", sent / MIB as f64), format!("{CUT} MiB"));
    table.row("cut ten times, bytes", format!("{ours} ({ratio:.4})"), floor, "1.05 times".into(), ratio <= 1.05);
    let floor = content / LINK as f64;
    let row = "cut ten times, wall";
    table.row(row, format!("{wall:.1} s"), format!("{floor:.1} s"), "about the same".into(), wall < floor * 1.2);
}

/// The game writes pieces of this size.
async fn running(table: &mut table::Table, piece: u64) {
    let (source, destination) = (source(RUNNING).await, Node::new().await);
    source.node().accept(server(), Verb::Start);
    let state = || source.node().context.store.status(server()).map(|status| status.state);
    while state() == Some(PowerState::Offline) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let link = Link::to(&destination.url()).await;
    link.limit(LINK);
    let runs = Arc::new(AtomicBool::new(true));
    let (world, writes) = (source.data(), runs.clone());
    let game = std::thread::spawn(move || change(&world, &writes, piece));
    let mut sending = Box::pin(send(&source, &destination, &link));
    let wall = loop {
        tokio::select! {
            wall = &mut sending => break wall,
            () = tokio::time::sleep(Duration::from_millis(5)) => {
                let up = matches!(state(), Some(PowerState::Starting | PowerState::Running));
                runs.fetch_and(up, Ordering::SeqCst);
            }
        }
    };
    let changed = game.join().expect("the game");
    let message =
        source.transfer().and_then(|transfer| transfer.result).map(|result| result.message).unwrap_or_default();
    let downtime = message.split("stopped for ").nth(1).and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    let downtime = downtime.expect("how long it was stopped");
    eprintln!(
        "sent {} MiB in {wall:.1} s, of which {changed} MiB were changed meanwhile: {message}",
        link.passed() / MIB
    );
    let row = format!("1 MiB/s in pieces of {} KiB, downtime", piece >> 10);
    table.row(&row, format!("{downtime:.1} s"), String::new(), format!("{DOWNTIME} s"), downtime <= DOWNTIME);
}

/// A server with so many MiB that cannot be packed.
async fn source(size: u64) -> Node {
    let source = Node::new().await;
    source.add_server();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for number in 0..size / FILE {
        let file = File::create(source.data().join(format!("world/region/{number}"))).expect("a file");
        for piece in 0..FILE {
            file.write_all_at(&random.bytes(MIB as usize), piece * MIB).expect("content");
        }
        file.sync_all().expect("a file on disk");
    }
    source
}

/// Sends a server. Returns how long it took, in seconds.
async fn send(source: &Node, destination: &Node, link: &Link) -> f64 {
    let begun = Instant::now();
    let status = source.send_to(&link.url(), &destination.token("one", json!({})), json!([])).await;
    assert!(status.is_success(), "{status}");
    while destination.reported() != [true] || source.transfer().is_none_or(|transfer| transfer.is_pending()) {
        assert_ne!(source.transfer().and_then(|known| known.result).map(|result| result.succeeded), Some(false));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    begun.elapsed().as_secs_f64()
}

/// Changes pieces all over the world, 1 MiB each second, as long as the server runs. Returns how many MiB.
fn change(data: &Path, runs: &AtomicBool, piece: u64) -> u64 {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let (begun, mut pieces) = (Instant::now(), 0_u64);
    while runs.load(Ordering::SeqCst) {
        let name = format!("world/region/{}", random.next() % (RUNNING / FILE));
        let file = File::options().write(true).open(data.join(name)).expect("a file");
        file.write_all_at(&random.bytes(piece as usize), random.next() % (FILE * MIB / piece) * piece)
            .expect("content");
        pieces += 1;
        let due = begun + Duration::from_secs_f64((pieces * piece) as f64 / MIB as f64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    pieces * piece / MIB
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length / 8).flat_map(|_| self.next().to_le_bytes()).collect()
    }
}
