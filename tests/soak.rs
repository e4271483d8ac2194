//! A soak in minutes: the real daemon on a real engine goes through floods of output, sockets that come and go, power cycles and
//! outages of the panel, and has afterwards the memory, descriptors, threads and containers that it had before.
//!
//! `ALULA_SOAK_ROUNDS` repeats it more often. Without an engine this fails; `ALULA_SKIP_DOCKER=1` skips it with a message.

#[path = "support/daemon_process.rs"]
mod daemon_process;
#[path = "support/images.rs"]
mod images;
#[path = "support/panel_sim.rs"]
mod panel_sim;

use std::time::Duration;

use daemon_process::{Node, NodeOptions, console_token, skipped, until, with_node};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// Rounds before the first measurement: what is allocated once is there.
const WARM_UP: usize = 3;
/// Lines of a flood.
const LINES: usize = 5_000;
/// Sockets that come and go in a round, and of these at once.
const SOCKETS: usize = 40;
/// How much more memory is no leak.
const TOLERANCE: i64 = 1 << 20;

type Socket = WebSocketStream<TcpStream>;

/// What the daemon has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Footprint {
    /// Bytes that are not of files.
    memory: i64,
    descriptors: usize,
    threads: usize,
    containers: usize,
}

impl Footprint {
    async fn of(node: &Node, id: &str) -> Self {
        let process = format!("/proc/{}", node.pid());
        let status = std::fs::read_to_string(format!("{process}/status")).expect("a process");
        let field = |name: &str| -> i64 {
            let line = status.lines().find(|line| line.starts_with(name)).expect("a field");
            line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
        };
        Self {
            memory: field("RssAnon:") << 10,
            descriptors: std::fs::read_dir(format!("{process}/fd")).expect("a process").count(),
            threads: std::fs::read_dir(format!("{process}/task")).expect("a process").count(),
            containers: usize::from(node.container(id).await.is_some())
                + usize::from(node.container(&format!("{id}_installer")).await.is_some()),
        }
    }

    /// Waits until idle threads have ended and the numbers stay.
    async fn settled(node: &Node, id: &str) -> Self {
        let mut last = Self::of(node, id).await;
        loop {
            tokio::time::sleep(Duration::from_secs(12)).await;
            let now = Self::of(node, id).await;
            if (now.descriptors, now.threads) == (last.descriptors, last.threads) {
                return now;
            }
            last = now;
        }
    }
}

async fn send(socket: &mut Socket, event: &str, argument: &str) {
    let text = json!({"event": event, "args": [argument]}).to_string();
    socket.send(Message::text(text)).await.expect("an open socket");
}

/// Reads until an event fits.
async fn wait_for(socket: &mut Socket, fits: impl Fn(&str, &str) -> bool) {
    let read = async {
        loop {
            let message = socket.next().await.expect("an open socket").expect("a message");
            let Ok(event) = serde_json::from_str::<Value>(message.to_text().unwrap_or_default()) else { continue };
            if fits(event["event"].as_str().unwrap_or_default(), event["args"][0].as_str().unwrap_or_default()) {
                return;
            }
        }
    };
    tokio::time::timeout(daemon_process::TIMEOUT, read).await.expect("an event in time");
}

async fn connect(node: &Node, id: &str) -> Socket {
    let url = node.url(&format!("/api/servers/{id}/ws"));
    let address = url.trim_start_matches("http://").split('/').next().unwrap().to_owned();
    let mut request = url.replacen("http", "ws", 1).into_client_request().unwrap();
    request.headers_mut().insert("origin", node.panel.url().parse().unwrap());
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.expect("a websocket");
    send(&mut socket, "auth", &console_token(node.panel.token(), id)).await;
    wait_for(&mut socket, |event, _| event == "auth success").await;
    socket
}

async fn flood(node: &Node, id: &str, round: usize) {
    let mut readers = vec![connect(node, id).await, connect(node, id).await];
    let end = format!("<<end {round}>>");
    send(&mut readers[0], "send command", &format!("flood {LINES}")).await;
    send(&mut readers[0], "send command", &format!("say end {round}")).await;
    for reader in &mut readers {
        wait_for(reader, |event, line| event == "console output" && line == end).await;
    }
}

async fn churn(node: &Node, id: &str) {
    for _ in 0..SOCKETS / 10 {
        let sockets = futures_util::future::join_all((0..10).map(|_| connect(node, id))).await;
        // Half of them say good-bye.
        for (number, mut socket) in sockets.into_iter().enumerate() {
            if number % 2 == 0 {
                let _ = socket.close(None).await;
            }
        }
    }
}

async fn cycle(node: &Node, id: &str) {
    let starts = || node.read(id, "starts.txt").lines().count();
    let before = starts();
    node.power(id, "restart").await;
    until("the next start", async || (starts() > before).then_some(())).await;
    node.wait_state(id, "running").await;
}

async fn outage(node: &Node, id: &str) {
    node.panel.pause();
    node.power(id, "kill").await;
    node.wait_state(id, "offline").await;
    node.panel.resume();
    node.power(id, "start").await;
    node.wait_state(id, "running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_soak_the_daemon_has_what_it_began_with() {
    if skipped() {
        return;
    }
    let rounds = std::env::var("ALULA_SOAK_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    let mut options = NodeOptions::new(env!("CARGO_BIN_EXE_alula"));
    options.debug = false;
    options.config = json!({"throttles": {"enabled": false}});
    with_node(options, async |node: &mut Node| {
        node.boot().await;
        let id = node.running_server().await;
        let mut before = None;
        for round in 0..WARM_UP + rounds {
            if round == WARM_UP {
                before = Some(Footprint::settled(node, &id).await);
            }
            flood(node, &id, round).await;
            churn(node, &id).await;
            cycle(node, &id).await;
            outage(node, &id).await;
        }
        let (before, after) = (before.unwrap(), Footprint::settled(node, &id).await);
        eprintln!("before {before:?}\nafter  {after:?}");
        assert!(after.memory - before.memory <= TOLERANCE, "{before:?} {after:?}");
        // The clients of the engine and of the panel keep a few connections. A leak would be one in each round at least.
        assert!(after.descriptors <= before.descriptors + 2, "{before:?} {after:?}");
        assert!(after.threads <= before.threads, "{before:?} {after:?}");
        assert_eq!(after.containers, before.containers, "containers");
        until("the panel knows", async || {
            let states = node.panel.states(0, &id);
            states.last().is_some_and(|(_, new)| new == "running").then_some(())
        })
        .await;
    })
    .await;
}
