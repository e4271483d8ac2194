//! SIGKILL at random instants of transfers to a Wings and from one, which the tests play: the panel has one result, and the server is where that
//! says, bit for bit, and nowhere else.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::case::{Case, MIB, case, record, server};
use crate::cutting::Link;
use crate::daemon_process::{Node, transfer_token, until};
use crate::panel_sim::{Side, SimServer, SimTransfer};
use crate::transfers::{delete, files, has_arrived, is_gone, one_result, send};
use crate::trees::{Rng, fill};
use crate::wings::{Panel, Part, Wings, archive, form, sha256};

/// Bytes per second between the two nodes.
const RATE: u64 = 5 << 20;

/// The panel of a Wings that receives.
struct OfWings(SimTransfer);

impl Panel for OfWings {
    fn may_read(&self) -> bool {
        self.0.may_read(Side::Destination)
    }

    fn report(&self, successful: bool) {
        self.0.report(Side::Destination, successful);
    }
}

/// What a Wings gets: files with their contents, and links as empty files.
fn plain(top: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).expect("a directory").map(|entry| entry.expect("an entry").path()) {
            let (name, kind) = (path.strip_prefix(top).expect("below"), path.symlink_metadata().expect("an entry"));
            let name = name.display().to_string();
            match () {
                () if kind.is_dir() => folders.push(path),
                () if kind.is_symlink() => drop(found.insert(name, Vec::new())),
                () => drop(found.insert(name, fs::read(&path).expect("a file"))),
            }
        }
    }
    without_games(found)
}

/// Without what the game writes when it starts and stops.
fn without_games(mut files: BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    files.retain(|name, _| name != "starts.txt" && name != "stops.txt");
    files
}

/// What a source is about.
fn moment(case: &Case<'_>, wings: &Wings, transfer: &SimTransfer) -> &'static str {
    let sent = case.record()["transfer"].clone();
    match () {
        () if transfer.result() == Some(true) && sent["result"].is_null() => "before the answer",
        () if transfer.result().is_some() => "the panel knows",
        () if !sent["result"].is_null() => "the source has a result",
        () if wings.seen(|seen| seen.requests > 0) => "the form is sent",
        () => "before the form",
    }
}

#[tokio::test]
async fn at_random_instants_of_a_transfer_to_a_wings() {
    case("a transfer to a Wings", async |case| {
        let mut round = 0;
        while case.tally.goes_on() {
            goes(case, round).await;
            round += 1;
        }
    })
    .await;
}

/// One transfer. The first one is not disturbed.
async fn goes(case: &mut Case<'_>, round: u64) {
    if case.node.state(&case.id).await.as_deref() != Some("offline") {
        case.node.power(&case.id, "kill").await;
        case.node.wait_state(&case.id, "offline").await;
    }
    fill(&case.data(), 70 + round, 30, 4 * MIB);
    let runs = case.tally.rng.below(3) == 0;
    if runs {
        case.node.power(&case.id, "start").await;
        case.node.wait_state(&case.id, "running").await;
    }
    let (old, sent) = (files(case.node, &case.id).expect("files"), plain(&case.data()));
    let (id, transfer) = (case.id.clone(), SimTransfer::default());
    case.node.panel.edit(&id, |server| server.transfer = Some((Side::Source, transfer.clone())));
    let delay = Duration::from_millis(case.tally.rng.below(300));
    let wings = Wings { panel: Some(Arc::new(OfWings(transfer.clone()))), delay, ..Wings::default() };
    let link = Link::to(&wings.listen().await).await;
    link.limit(RATE);
    let begun = Instant::now();
    send(case.node, &id, &link.url(), "a.b.c", &[]).await;
    let (count, mut deleted) = (if round == 0 { 0 } else { 1 + case.tally.rng.below(2) }, false);
    for _ in 0..count {
        let until = Instant::now() + case.tally.spread();
        while Instant::now() < until {
            if transfer.result() == Some(true) && !std::mem::replace(&mut deleted, true) {
                assert!(delete(case.node, &id).await);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let moment = moment(case, &wings, &transfer);
        case.kill();
        case.note(moment);
        case.tally.hit(moment != "the panel knows");
        let delay = Duration::from_millis(case.tally.rng.below(200));
        tokio::time::sleep(delay).await;
        case.node.boot().await;
    }
    let arrived = until("the result", async || transfer.result()).await;
    if arrived {
        assert!(wings.seen(|seen| without_games(seen.files.clone())) == sent, "the destination has other files");
        until("the deletion", async || delete(case.node, &id).await.then_some(())).await;
        is_gone(case.node, &id).await;
        case.tally.takes = if round == 0 { begun.elapsed() } else { case.tally.takes };
        case.id = server(case.node).await;
    } else {
        until("the end", async || (case.record()["transfer"]["reported"] == true).then_some(())).await;
        assert!(files(case.node, &id) == Some(old), "the files of the server are others");
        assert_eq!(case.siblings(), Vec::<String>::new());
        case.node.wait_state(&id, if runs { "running" } else { "offline" }).await;
    }
    assert!(round > 0 || arrived, "nothing was disturbed");
    assert_eq!(wings.seen(|seen| seen.again), 0, "a form is sent again to a node that has the server");
    one_result(&transfer);
}

/// Sends a form in pieces, as a Wings does. Returns the answer's status; `None` if the connection has ended before.
async fn send_form(url: String, token: String, form: Vec<u8>, pause: Duration) -> Option<u16> {
    let address = url.trim_start_matches("http://").split('/').next()?.to_owned();
    let mut stream = TcpStream::connect(&address).await.ok()?;
    let head = format!(
        "POST /api/transfers HTTP/1.1\r\nHost: {address}\r\nUser-Agent: Go-http-client/1.1\r\nTransfer-Encoding: chunked\r\n\
         Authorization: Bearer {token}\r\nContent-Type: multipart/form-data; boundary=abc\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.ok()?;
    for piece in form.chunks(64 << 10) {
        stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.ok()?;
        stream.write_all(piece).await.ok()?;
        stream.write_all(b"\r\n").await.ok()?;
        tokio::time::sleep(pause).await;
    }
    stream.write_all(b"0\r\n\r\n").await.ok()?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.ok()?;
    std::str::from_utf8(&answer[9..]).ok()?.parse().ok()
}

/// The form of a Wings, and the files in it.
fn wings_form(seed: u64, backup: &str) -> (Vec<u8>, BTreeMap<String, Vec<u8>>) {
    let mut rng = Rng(seed);
    let files: BTreeMap<String, Vec<u8>> =
        (0..40).map(|number| (format!("world/region/r.{number}.mca"), rng.bytes(MIB / 20))).collect();
    let entries: Vec<(&str, &[u8])> = files.iter().map(|(name, content)| (name.as_str(), &content[..])).collect();
    let (archived, saved) = (archive(&entries), rng.bytes(MIB / 2));
    let (sum, saved_sum) = (sha256(&archived), sha256(&saved));
    let (part, file, sum_part) =
        (format!("backup_{backup}.tar.gz"), format!("{backup}.tar.gz"), format!("checksum_backup_{backup}.tar.gz"));
    let parts: [Part<'_>; 5] = [
        ("archive", Some("archive.tar.gz"), &archived),
        ("checksum_archive", None, sum.as_bytes()),
        (&part, Some(&file), &saved),
        (&sum_part, None, saved_sum.as_bytes()),
        ("install_logs", Some("install.log"), b"the log"),
    ];
    (form(&parts), files)
}

#[tokio::test]
async fn at_random_instants_of_a_transfer_from_a_wings() {
    case("a transfer from a Wings", async |case| {
        let mut round = 0;
        while case.tally.goes_on() {
            comes(case, round).await;
            round += 1;
        }
    })
    .await;
}

/// One transfer. The first one is not disturbed.
async fn comes(case: &mut Case<'_>, round: u64) {
    let (id, backup) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
    let transfer = SimTransfer::default();
    let mut server = SimServer::new(&id, &case.node.image, &case.node.image);
    server.transfer = Some((Side::Destination, transfer.clone()));
    case.node.panel.add(server);
    case.node.own(&id);
    let (form, sent) = wings_form(round, &backup);
    let begun = Instant::now();
    let token = transfer_token(case.node.token(), &id);
    let sender = tokio::spawn(send_form(case.node.url(""), token, form, Duration::from_millis(8)));
    if round > 0 {
        tokio::time::sleep(case.tally.spread()).await;
        let moment = moment_of_arrival(case.node, &id, &transfer);
        case.kill();
        case.note(moment);
        case.tally.hit(moment != "the panel knows");
    }
    let answer = sender.await.expect("a task");
    // A Wings whose form is not answered 200 reports that, at once or later than the destination does.
    let fails = |wait: bool| wait == round.is_multiple_of(2);
    if answer != Some(200) && fails(false) {
        transfer.report(Side::Source, false);
    }
    if round > 0 {
        case.node.boot().await;
    }
    if answer != Some(200) && fails(true) {
        let known = async || (transfer.result().is_some() || record(case.node, &id).is_null()).then_some(());
        until("a report of the destination", known).await;
        transfer.report(Side::Source, false);
    }
    let arrived = until("the result", async || transfer.result()).await;
    assert!(arrived || answer != Some(200), "the source was answered that the server is there");
    if arrived {
        case.tally.takes = if round == 0 { begun.elapsed() } else { case.tally.takes };
        let expected = files(case.node, &id).expect("files");
        has_arrived(case.node, &id, &expected, std::slice::from_ref(&backup)).await;
        assert!(plain(&case.node.data(&id)) == sent, "the files of the server are others");
        assert_eq!(case.node.install_log(&id), "the log");
        until("the deletion", async || delete(case.node, &id).await.then_some(())).await;
        is_gone(case.node, &id).await;
    } else {
        is_gone(case.node, &id).await;
    }
    assert!(round > 0 || arrived, "nothing was disturbed");
    one_result(&transfer);
    case.node.panel.remove(&id);
}

/// What a destination is about.
fn moment_of_arrival(node: &Node, id: &str, transfer: &SimTransfer) -> &'static str {
    let come = record(node, id)["transfer"].clone();
    match () {
        () if transfer.result().is_some() => "the panel knows",
        () if come["result"]["succeeded"] == json!(true) => "arrived",
        () if !come["result"].is_null() => "failed",
        () if come["direction"]["incoming"]["backups"].is_array() => "about to be exchanged",
        () if !come.is_null() => "the form is received",
        () => "before the form",
    }
}
