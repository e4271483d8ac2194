//! A server goes to another alula in rounds, over a link that is not reliable.

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use alula::model::{PowerState, RoundPhase, ServerId, Verb};
use http::{Method, StatusCode};
use serde_json::json;

use crate::cutting::{Link, Mishap};
use crate::node::{Node, add_backup, server, tree, wait};

const BACKUP: &str = "0f0e0d0c-0b0a-4000-8000-00000000000a";
/// One request of each kind, in order.
const REQUESTS: [&str; 7] = [
    "POST /api/transfers/session HTTP",
    "/extras/manifest",
    "/extras/blocks",
    "/extras/finish",
    "/files/manifest",
    "/files/blocks",
    "/files/finish",
];

/// Bytes that cannot be packed.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

fn state(node: &Node) -> Option<PowerState> {
    node.node().context.store.status(server()).map(|status| status.state)
}

fn succeeded(node: &Node) -> Option<bool> {
    node.transfer().and_then(|transfer| transfer.result).map(|result| result.succeeded)
}

fn phase(node: &Node) -> Option<RoundPhase> {
    let transfer = node.transfer()?;
    Some(transfer.outgoing()?.rounds.as_ref()?.phase)
}

async fn sent_over(source: &Node, destination: &Node, link: &Link) {
    let token = destination.token("one", json!({}));
    assert_eq!(source.send_to(&link.url(), &token, json!([BACKUP])).await, StatusCode::ACCEPTED);
}

async fn arrived(source: &Node, destination: &Node, data: &Path) {
    wait("the panel has it", || destination.reported() == [true]).await;
    wait("the source knows", || succeeded(source) == Some(true)).await;
    assert_eq!(tree(&destination.data()), tree(data));
    let layout = &destination.node().context.node.layout;
    let archive = layout.backup_archive(server(), BACKUP.parse().unwrap());
    assert_eq!(std::fs::read(archive).unwrap(), noise(100_000));
    assert_eq!(std::fs::read_to_string(layout.install_log(server())).unwrap(), "the log");
    let backups = destination.record().unwrap().backups;
    assert_eq!(backups.len(), 1);
    assert!(source.record().unwrap().holding_transfer().is_some(), "it waits for its deletion");
}

/// A source with a backup and a log.
async fn source() -> Node {
    let source = Node::new().await;
    source.add_server();
    std::fs::write(source.node().context.node.layout.install_log(server()), "the log").unwrap();
    add_backup(&source, BACKUP, &noise(100_000));
    source
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_cut_ten_times_costs_little() {
    const WORLD: usize = 160 << 20;
    let (source, destination) = (source().await, Node::new().await);
    std::fs::write(source.data().join("world/region/large"), noise(WORLD)).unwrap();
    let link = Link::to(&destination.url()).await;
    link.cut_after([15 << 20; 10]);
    sent_over(&source, &destination, &link).await;
    arrived(&source, &destination, &source.data()).await;
    assert_eq!(link.cuts_left(), 0);
    // Each cut costs the block that is under way, of each connection: of 2 GiB that is 1 per cent.
    let most = WORLD as u64 * 101 / 100 + 10 * 4 * ((1 << 20) + 64);
    assert!(link.passed() < most, "{} of {WORLD}", link.passed());
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_have_changed_travel_and_not_their_blocks() {
    const WORLD: usize = 32 << 20;
    const PAGES: usize = 200;
    let (source, destination) = (source().await, Node::new().await);
    let world = source.data().join("world/region/large");
    std::fs::write(&world, noise(WORLD)).unwrap();
    let link = Link::to(&destination.url()).await;
    link.expect(Mishap::Hold, "/files/finish");
    sent_over(&source, &destination, &link).await;
    wait("all of it was sent", || link.has_happened()).await;
    let before = link.passed();
    // Something in each block.
    let file = std::fs::File::options().write(true).open(&world).unwrap();
    for (number, page) in noise(PAGES * 4096).chunks(4096).enumerate() {
        file.write_all_at(page, (number * 41 * 4096 % WORLD) as u64).unwrap();
    }
    link.cut();
    arrived(&source, &destination, &source.data()).await;
    let passed = link.passed() - before;
    assert!(passed < (PAGES * (4096 + 200) + 20_000) as u64, "{passed} for {PAGES} pages");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_runs_while_it_is_sent_and_what_it_changes_goes_along() {
    let (source, destination) = (source().await, Node::new().await);
    let data = source.data();
    std::fs::write(data.join("world/region/r"), noise(6 << 20)).unwrap();
    source.node().accept(server(), Verb::Start);
    wait("it runs", || state(&source) == Some(PowerState::Starting)).await;
    let link = Link::to(&destination.url()).await;
    link.expect(Mishap::Hold, "/files/blocks");
    sent_over(&source, &destination, &link).await;
    wait("files are sent", || link.has_happened()).await;
    assert_eq!(state(&source), Some(PowerState::Starting), "it runs");
    assert_eq!(phase(&source), Some(RoundPhase::Live));
    // The game goes on.
    let region = std::fs::File::options().write(true).open(data.join("world/region/r")).unwrap();
    region.write_all_at(b"changed", 3 << 20).unwrap();
    std::fs::File::options().append(true).open(data.join("world/level.dat")).unwrap().write_all(b"more").unwrap();
    std::fs::write(data.join("new"), "new").unwrap();
    std::fs::remove_file(data.join("server.jar")).unwrap();
    link.cut();
    arrived(&source, &destination, &data).await;
    assert_eq!(state(&source), Some(PowerState::Offline));
    let message = source.transfer().unwrap().result.unwrap().message;
    assert!(message.contains("the server was stopped for"), "{message}");
    assert!(link.passed() < 15 << 20, "{}", link.passed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_gets_lost_changes_nothing() {
    for (mishap, request) in
        [Mishap::LoseAnswer, Mishap::Cut].into_iter().flat_map(|mishap| REQUESTS.map(|of| (mishap, of)))
    {
        let (source, destination) = (source().await, Node::new().await);
        let link = Link::to(&destination.url()).await;
        link.expect(mishap, request);
        sent_over(&source, &destination, &link).await;
        arrived(&source, &destination, &source.data()).await;
        assert!(link.has_happened(), "{mishap:?} {request}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn either_side_may_die_at_any_request() {
    for request in REQUESTS {
        for (source_dies, destination_dies) in [(true, false), (false, true), (true, true)] {
            let (mut source, mut destination) = (source().await, Node::new().await);
            let link = Link::to(&destination.url()).await;
            link.expect(Mishap::Hold, request);
            sent_over(&source, &destination, &link).await;
            wait(request, || link.has_happened()).await;
            if source_dies {
                source.die();
            }
            if destination_dies {
                destination.die();
                destination.start().await;
                link.retarget(&destination.url());
            }
            link.cut();
            if source_dies {
                source.start().await;
            }
            arrived(&source, &destination, &source.data()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_anywhere_the_source_is_as_it_was_and_the_destination_has_nothing() {
    for request in ["/extras/blocks", "/files/manifest", "/files/blocks", "/files/finish"] {
        for at_source in [true, false] {
            let (source, destination) = (source().await, Node::new().await);
            let before = tree(&source.data());
            source.node().accept(server(), Verb::Start);
            wait("it runs", || state(&source) == Some(PowerState::Starting)).await;
            let link = Link::to(&destination.url()).await;
            link.expect(Mishap::Hold, request);
            sent_over(&source, &destination, &link).await;
            wait(request, || link.has_happened()).await;
            let id: ServerId = server();
            let (node, path) = match at_source {
                true => (&source, format!("/api/servers/{id}/transfer")),
                false => (&destination, format!("/api/transfers/{id}")),
            };
            assert_eq!(node.ask(Method::DELETE, &path, "").await.0, StatusCode::ACCEPTED);
            if !at_source {
                link.cut();
            }
            wait("it has failed", || succeeded(&source) == Some(false)).await;
            destination.is_gone().await;
            assert_eq!(destination.reported(), [false]);
            wait("it runs", || state(&source) == Some(PowerState::Starting)).await;
            assert_eq!(tree(&source.data()), before, "{request}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_admits_its_source_only() {
    let (source, destination) = (source().await, Node::new().await);
    let link = Link::to(&destination.url()).await;
    link.expect(Mishap::Hold, "/files/blocks");
    sent_over(&source, &destination, &link).await;
    wait("files are sent", || link.has_happened()).await;
    // As the panel, with the node's token.
    let session = format!("/api/transfers/session/{}", server());
    for (method, path) in [
        (Method::GET, session.clone()),
        (Method::DELETE, session.clone()),
        (Method::POST, format!("{session}/files/manifest")),
        (Method::POST, format!("{session}/files/blocks")),
    ] {
        assert_eq!(destination.ask(method, &path, "").await.0, StatusCode::FORBIDDEN, "{path}");
    }
    let other = format!("/api/transfers/session/{}", alula::testing::server_id(2));
    assert_eq!(destination.ask(Method::GET, &other, "").await.0, StatusCode::NOT_FOUND);
    let short = json!({"server": server(), "secret": "short"}).to_string();
    assert_eq!(destination.ask(Method::POST, "/api/transfers/session", short).await.0, StatusCode::BAD_REQUEST);
    let secret = "0".repeat(64);
    let other = json!({"server": server(), "secret": secret}).to_string();
    let (status, _) = destination.ask(Method::POST, "/api/transfers/session", other).await;
    assert!(status.is_client_error() || status.is_server_error(), "{status}");
    let shown = serde_json::to_string(&destination.record()).unwrap();
    let own = source.transfer().unwrap().outgoing().unwrap().rounds.clone().unwrap().secret;
    assert!(!shown.contains(own.expose()), "the destination keeps a hash");
    link.cut();
    arrived(&source, &destination, &source.data()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_at_which_a_server_leaves_is_limited() {
    let source = Node::with_config(|config| config.transfer_limits.upload = Some(200_000)).await;
    let destination = Node::new().await;
    source.add_server();
    let content = noise(300_000);
    std::fs::write(source.data().join("noise"), &content).unwrap();
    let began = std::time::Instant::now();
    let token = destination.token("one", json!({}));
    assert_eq!(source.send_to(&destination.url(), &token, json!([])).await, StatusCode::ACCEPTED);
    wait("the panel has it", || destination.reported() == [true]).await;
    assert!(began.elapsed() > std::time::Duration::from_millis(500), "{:?}", began.elapsed());
    assert_eq!(std::fs::read(destination.data().join("noise")).unwrap(), content);
}
