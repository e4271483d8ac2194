//! The cost of consoles: `cargo bench --bench console`. 200,000 lines of 100 bytes to 20 sockets on loopback.
//!
//! The floor is measured in the same run: a bare task for each socket that writes the same bytes. Both include the same clients,
//! which read and count lines. The lines are those of one event for each 4 KiB; encoding them is part of the figure.

#[path = "node/process.rs"]
#[allow(dead_code)]
mod process;
#[path = "node/table.rs"]
#[allow(dead_code)]
mod table;

use std::time::{Duration, Instant};

use alula::api::Endpoint;
use alula::events::EventKind;
use alula::events::frames::{CONSOLE_OUTPUT, OutputBuilder};
use alula::model::{Record, ServerId};
use alula::testing::{TestNode, TestPanel, panel_manifest, server_id};
use bytes::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use jsonwebtoken::{EncodingKey, Header, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const SOCKETS: usize = 20;
const LINES: usize = 200_000;
/// Lines of one read of the terminal: 4 KiB.
const BATCH: usize = 40;
const REPEATS: usize = 5;
const TOKEN: &str = "the-token";
const PANEL: &str = "https://panel.example.com";

/// Wall and CPU time of a run.
struct Cost {
    wall: Duration,
    cpu: Duration,
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut table = table::Table::default();
    runtime.block_on(async {
        let (mut ours, mut floors) = (Vec::new(), Vec::new());
        for _ in 0..REPEATS {
            floors.push(floor().await);
            ours.push(node().await);
        }
        let median = |costs: &[Cost], of: fn(&Cost) -> Duration| {
            table::median(costs.iter().map(|cost| of(cost).as_secs_f64()).collect())
        };
        let (wall, cpu) = (|cost: &Cost| cost.wall, |cost: &Cost| cost.cpu);
        let row = |seconds: f64| format!("{seconds:.2} s");
        let (ours_wall, floor_wall) = (median(&ours, wall), median(&floors, wall));
        table.row("lines to all sockets", row(ours_wall), row(floor_wall), "3 s".into(), ours_wall <= 3.0);
        let millions = (LINES * SOCKETS) as f64 / 1e6;
        let (ours_cpu, floor_cpu) = (median(&ours, cpu) / millions, median(&floors, cpu) / millions);
        let own = ours_cpu - floor_cpu;
        table.row("CPU per million lines", row(ours_cpu), row(floor_cpu), "0.5 s above".into(), own <= 0.5);
    });
    table.print();
}

fn batches() -> impl Iterator<Item = EventKind> {
    let line = "x".repeat(100);
    let mut output = OutputBuilder::new(CONSOLE_OUTPUT);
    (0..LINES / BATCH).filter_map(move |_| {
        (0..BATCH).for_each(|_| output.push(&line, 0));
        output.take().map(EventKind::Console)
    })
}

async fn measured(clients: JoinSet<usize>, send: impl Future<Output = ()>) -> Cost {
    let (began, before) = (Instant::now(), process::cpu_ever(std::process::id()));
    send.await;
    for lines in clients.join_all().await {
        assert_eq!(lines, LINES, "a line is lost");
    }
    Cost { wall: began.elapsed(), cpu: process::cpu_ever(std::process::id()) - before }
}

/// Counts the ends of lines until there are enough.
async fn count(mut stream: TcpStream) -> usize {
    let (mut buffer, mut lines) = (vec![0; 256 * 1024], 0);
    while lines < LINES {
        match stream.read(&mut buffer).await {
            Ok(length) if length > 0 => lines += buffer[..length].iter().filter(|byte| **byte == b'\n').count(),
            _ => break,
        }
    }
    lines
}

async fn floor() -> Cost {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let frames: Vec<Bytes> = batches()
        .filter_map(|event| match event {
            EventKind::Console(output) => Some(output.frames().clone()),
            _ => None,
        })
        .collect();
    let (mut clients, mut writers) = (JoinSet::new(), Vec::new());
    for _ in 0..SOCKETS {
        clients.spawn(count(TcpStream::connect(address).await.expect("a connection")));
        writers.push(listener.accept().await.expect("a connection").0);
    }
    let send = async {
        let mut tasks = JoinSet::new();
        for mut writer in writers {
            let frames = frames.clone();
            tasks.spawn(async move {
                for frames in frames {
                    writer.write_all(&frames).await.expect("a reader");
                }
            });
        }
        tasks.join_all().await;
    };
    measured(clients, send).await
}

async fn node() -> Cost {
    let panel = TestPanel::default();
    let node = TestNode::builder().panel(panel).config(|node| {
        node.live.update(|live| live.token = alula::config::Secret::new(TOKEN));
        node.api.allowed_origins = vec![PANEL.into()];
    });
    let node = node.build();
    let id = server_id(1);
    node.context.store.create(panel_manifest(1, "run"), Record::default(), []).expect("a server");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let router = node.router(Endpoint::Tcp);
    let accept = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(router.clone());
            tokio::spawn(async move {
                let http = auto::Builder::new(TokioExecutor::new());
                // The client closes it.
                let _ = http.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
            });
        }
    });
    // Tokens of the second of the start are refused.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let mut clients = JoinSet::new();
    for _ in 0..SOCKETS {
        clients.spawn(count(socket(address, id, &node).await));
    }
    let events = node.context.store.events().clone();
    let send = async move {
        for event in batches() {
            events.publish_output(id, || event);
            tokio::task::yield_now().await;
        }
    };
    let cost = measured(clients, send).await;
    accept.abort();
    cost
}

/// A socket that has its first frames.
async fn socket(address: std::net::SocketAddr, id: ServerId, node: &TestNode) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let head = format!(
        "GET /api/servers/{id}/ws HTTP/1.1\r\nHost: node\r\nOrigin: {PANEL}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let now = node.context.clock.now().as_millis() / 1000;
    let claims = serde_json::json!({
        "iat": now, "exp": now + 600, "scope": "websocket", "server_uuid": id, "user_uuid": id, "permissions": ["*"],
    });
    let key = EncodingKey::from_secret(TOKEN.as_bytes()).expect("a key");
    let token = encode(&Header::default(), &claims, &key).expect("a token");
    let message = serde_json::json!({"event": "auth", "args": [token]}).to_string();
    // Masked with zeros.
    let length = u16::try_from(message.len()).expect("a short message").to_be_bytes();
    let frame = [&[0x81, 0xfe][..], &length, &[0; 4], message.as_bytes()].concat();
    stream.write_all(head.as_bytes()).await.expect("a daemon");
    stream.write_all(&frame).await.expect("a daemon");
    let mut seen = Vec::new();
    while !seen.windows(7).any(|window| window == b"\"stats\"") || !seen.ends_with(b"\n") {
        seen.push(stream.read_u8().await.expect("the first frames"));
    }
    stream
}
