//! SIGKILL at random instants of transfers between two alulas: the server arrives, bit for bit, the panel has one result, and the node that it has
//! left has nothing of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::case::{Case, MIB, Tally, record, server, siblings};
use crate::cutting::Link;
use crate::daemon_process::{Node, NodeOptions, skipped, transfer_token, until, with_node};
use crate::options;
use crate::own_engine::OwnEngine;
use crate::panel_sim::{Side, SimTransfer};
use crate::trees::{Content, content, fill, has_marker};

/// Bytes per second between the two nodes.
const RATE: u64 = 6 << 20;

/// Everything below a node's folders whose name has the server's id.
pub fn named(node: &Node, id: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![node.folder.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().contains(id) {
                found.push(entry.path());
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
    found
}

/// Nothing of the server is on the node.
pub async fn is_gone(node: &Node, id: &str) {
    let begun = Instant::now();
    loop {
        let left = named(node, id);
        if left.is_empty() && node.get(&format!("/api/servers/{id}")).await.is_none() {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(8), "left: {left:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The names in the folder of backups.
fn archives(node: &Node, id: &str) -> Vec<String> {
    let folder = node.folder.path().join("root/backups").join(id);
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn names(backups: &[String]) -> Vec<String> {
    let mut names: Vec<String> = backups.iter().map(|backup| format!("{backup}.tar.gz")).collect();
    names.sort();
    names
}

/// The files of the server, without those that the game writes when it starts and stops.
pub fn files(node: &Node, id: &str) -> Option<Content> {
    let mut found = content(&node.data(id))?;
    found.retain(|path, _| path != Path::new("starts.txt") && path != Path::new("stops.txt"));
    Some(found)
}

/// The panel deletes the server on a node that has lost it. It does not repeat the call to a node that is away: a person does.
pub async fn delete(node: &Node, id: &str) -> bool {
    [204, 404].contains(&node.call(Method::DELETE, &format!("/api/servers/{id}")).await)
}

/// Starts a transfer from a node.
pub async fn send(source: &Node, id: &str, url: &str, token: &str, backups: &[String]) {
    let body = json!({
        "url": url, "token": format!("Bearer {token}"), "backups": backups,
        "server": {"uuid": id, "start_on_completion": false},
    });
    assert_eq!(source.post(&format!("/api/servers/{id}/transfer"), body).await, 202);
}

/// The server is on this node for good, with these files, and nothing else of it.
pub async fn has_arrived(node: &Node, id: &str, expected: &Content, backups: &[String]) {
    until("the acknowledged result", async || (record(node, id)["transfer"]["reported"] == true).then_some(())).await;
    until("clean folders", async || siblings(node, id).is_empty().then_some(())).await;
    assert!(files(node, id).as_ref() == Some(expected), "the files of the server are others");
    assert!(!has_marker(&node.data(id)));
    assert_eq!(node.state(id).await.as_deref(), Some("offline"), "nothing starts by itself");
    let known: BTreeSet<String> = known_backups(node, id).into_iter().collect();
    assert_eq!(known, backups.iter().cloned().collect());
    assert_eq!(archives(node, id), names(backups));
}

/// One accepted report of the panel. A report whose answer was lost is repeated, and rejected.
pub fn one_result(transfer: &SimTransfer) {
    let reports = transfer.reports();
    assert_eq!(reports.iter().filter(|report| report.status == 204).count(), 1, "{reports:?}");
    assert!(reports.iter().all(|report| report.status != 403), "{reports:?}");
    for side in [Side::Source, Side::Destination] {
        let of_side: Vec<bool> =
            reports.iter().filter(|report| report.side == side).map(|report| report.successful).collect();
        assert!(of_side.windows(2).all(|pair| pair[0] == pair[1]), "one node has two answers: {reports:?}");
    }
}

/// Both nodes of a transfer, and what the panel does between them.
struct Pair<'a> {
    source: &'a mut Node,
    destination: &'a mut Node,
    id: &'a str,
    transfer: SimTransfer,
    /// The panel has tried to delete the server at the source.
    deleted: bool,
}

impl Pair<'_> {
    /// The panel connects both nodes to a new transfer.
    fn open(&self) {
        let mut server = self.source.panel.with(|panel| panel.server(self.id).expect("the server").clone());
        let sides = [(&self.source.panel, Side::Source), (&self.destination.panel, Side::Destination)];
        for (panel, side) in sides {
            server.transfer = Some((side, self.transfer.clone()));
            panel.with(|panel| {
                panel.servers.retain(|known| known.uuid != self.id);
                panel.servers.push(server.clone());
            });
        }
    }

    /// What the source is about.
    fn moment(&self) -> &'static str {
        let sent = record(self.source, self.id)["transfer"].clone();
        let come = record(self.destination, self.id)["transfer"].clone();
        let phase = sent["direction"]["outgoing"]["rounds"]["phase"].clone();
        match () {
            () if self.transfer.result().is_some() => "the panel knows",
            () if !come["result"].is_null() => "arrived",
            () if !sent["result"].is_null() => "the source has a result",
            () if come.is_null() => "before the session",
            () => match phase.as_str() {
                Some("opening") => "a session is opened",
                Some("live") => "rounds",
                Some("last") => "the last round",
                _ => "otherwise",
            },
        }
    }

    /// Lets time pass. The panel deletes the server as soon as it is elsewhere.
    async fn pass(&mut self, delay: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < delay {
            self.follow().await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Lets time pass until the last round.
    async fn pass_to_the_end(&mut self) {
        until("the last round", async || {
            let early = ["before the session", "a session is opened", "rounds"].contains(&self.moment());
            (!early).then_some(())
        })
        .await;
    }

    async fn follow(&mut self) {
        if self.transfer.result() == Some(true) && !std::mem::replace(&mut self.deleted, true) {
            assert!(delete(self.source, self.id).await);
        }
    }
}

/// Moves a server back and forth.
#[tokio::test]
async fn at_random_instants_of_a_transfer_between_alulas() {
    if skipped() {
        return;
    }
    // Both have a container of this server.
    let engine = OwnEngine::start().await;
    let other = NodeOptions { engine: Some(engine.socket()), debug: false, ..options() };
    with_node(NodeOptions { debug: false, ..options() }, async |one| {
        with_node(other, async |two| {
            one.boot().await;
            two.boot().await;
            let id = server(one).await;
            let mut tally = Tally::new("a transfer between alulas");
            let (mut here, mut there) = (one, two);
            let mut round = 0;
            while tally.goes_on() {
                there.own(&id);
                moves(&mut *here, &mut *there, &id, round, &mut tally).await;
                std::mem::swap(&mut here, &mut there);
                round += 1;
            }
            tally.end();
        })
        .await;
    })
    .await;
}

/// One transfer. The first one is not disturbed.
async fn moves(here: &mut Node, there: &mut Node, id: &str, round: u64, tally: &mut Tally) {
    fill(&here.data(id), 50 + round, 40, 5 * MIB);
    // A backup goes with it from the second time on.
    let mut backups: Vec<String> = known_backups(here, id);
    if round == 1 {
        backups.push(backup(here, id).await);
    }
    let runs = round % 2 == 1;
    if runs {
        here.power(id, "start").await;
        here.wait_state(id, "running").await;
    }
    let expected = files(here, id).expect("files");
    let link = Link::to(&there.url("/api/transfers")).await;
    link.limit(RATE);
    let transfer = SimTransfer::default();
    let mut pair = Pair { source: here, destination: there, id, transfer: transfer.clone(), deleted: false };
    pair.open();
    let begun = Instant::now();
    let token = transfer_token(pair.destination.token(), id);
    send(pair.source, id, &link.url(), &token, &backups).await;
    let count = if round == 0 { 0 } else { 1 + tally.rng.below(2) };
    for _ in 0..count {
        if tally.kills % 3 == 1 {
            // Its end takes little of the time.
            pair.pass_to_the_end().await;
            pair.pass(Duration::from_millis(tally.rng.below(80))).await;
        } else {
            let delay = tally.spread();
            pair.pass(delay).await;
        }
        let moment = pair.moment();
        tally.hit(moment != "the panel knows");
        tally.note(moment);
        tally.kills += 1;
        let who = tally.rng.below(3);
        if who != 0 {
            pair.source.kill();
        }
        if who != 1 {
            pair.destination.kill();
        }
        tokio::time::sleep(Duration::from_millis(tally.rng.below(300))).await;
        if who != 0 {
            pair.source.boot().await;
        }
        if who != 1 {
            pair.destination.boot().await;
        }
    }
    until("the result", async || transfer.result()).await;
    if round == 0 {
        tally.takes = begun.elapsed();
    }
    assert_eq!(transfer.result(), Some(true), "{:?}", transfer.reports());
    pair.follow().await;
    has_arrived(pair.destination, id, &expected, &backups).await;
    // A daemon that was dead when the panel deleted the server is asked again.
    until("the deletion", async || delete(pair.source, id).await.then_some(())).await;
    is_gone(pair.source, id).await;
    assert!(files(pair.destination, id) == Some(expected));
    one_result(&transfer);
    assert!(transfer.reports().iter().all(|report| report.side == Side::Destination), "{:?}", transfer.reports());
}

fn known_backups(node: &Node, id: &str) -> Vec<String> {
    let known: Value = record(node, id)["backups"].clone();
    known.as_array().into_iter().flatten().filter_map(|backup| Some(backup["id"].as_str()?.to_owned())).collect()
}

async fn backup(node: &mut Node, id: &str) -> String {
    let mut case = Case { node, id: id.to_owned(), tally: Tally::new("a backup") };
    case.complete_backup().await
}
