//! What the file API costs: a listing, small writes, and a gibibyte in and out. The floors are the same work of this process.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::json;

use crate::daemon_process::{Node, link_token, with_node};
use crate::options;
use crate::process;
use crate::table::{Table, load, millis};

const ENTRIES: usize = 10_000;
const WRITES: usize = 1000;
const BIG: usize = 1 << 30;
const BLOCK: usize = 1 << 20;

/// Measures all of them.
pub async fn measure(table: &mut Table) {
    let mut options = options();
    options.config = json!({"api": {"upload_limit": 2048}});
    with_node(options, async |node| {
        node.boot().await;
        let id = node.define("true");
        node.panel.edit(&id, |server| server.settings["build"]["disk_space"] = json!(0));
        node.create(&id, false).await;
        crate::daemon_process::until("the installation", async || {
            let server = node.get(&format!("/api/servers/{id}/files/list-directory")).await?;
            let written = node.write_file(&id, "probe", b"x".to_vec()).await == 204;
            written.then_some(server)
        })
        .await;
        listing(node, &id, table).await;
        small_writes(node, &id, table).await;
        upload(node, &id, table).await;
        download(node, &id, table).await;
        node.delete(&id).await;
    })
    .await;
}

async fn listing(node: &Node, id: &str, table: &mut Table) {
    let folder = node.data(id).join("many");
    fs::create_dir(&folder).expect("a folder");
    for number in 0..ENTRIES {
        fs::write(folder.join(format!("file-{number:05}.txt")), "some text\n").expect("a file");
    }
    let floor = own_cpu(|| {
        let entries = fs::read_dir(&folder).expect("a folder").map(|entry| entry.and_then(|entry| entry.metadata()));
        assert_eq!(entries.filter(Result::is_ok).count(), ENTRIES);
    });
    let path = format!("/api/servers/{id}/files/list-directory?directory=many");
    for what in ["first listing of 10,000 entries", "listing of 10,000 entries"] {
        let before = process::cpu(node.pid()).0;
        let bytes = node.get_bytes(&path).await;
        let used = process::cpu(node.pid()).0.saturating_sub(before);
        assert!(bytes.len() > ENTRIES * 100);
        row(table, what, used, floor, 40.0);
    }
}

async fn small_writes(node: &Node, id: &str, table: &mut Table) {
    let own = node.data(id).join("own");
    fs::create_dir(&own).expect("a folder");
    let floor = own_cpu(|| {
        for number in 0..WRITES {
            fs::write(own.join(format!("{number}")), "some text\n").expect("a file");
        }
    });
    let before = process::cpu(node.pid()).0;
    for number in 0..WRITES {
        assert_eq!(node.write_file(id, &format!("small/{number}"), b"some text\n".to_vec()).await, 204);
    }
    let used = process::cpu(node.pid()).0.saturating_sub(before);
    row(table, "1,000 small writes", used, floor, 50.0);
}

async fn upload(node: &Node, id: &str, table: &mut Table) {
    let source = node.data(id).with_extension("source");
    write_big(&source);
    let copy = source.with_extension("copy");
    let floor = own_cpu(|| copy_through_memory(&source, &copy));
    fs::remove_file(&copy).expect("a file");
    let file = tokio::fs::File::open(&source).await.expect("a file");
    let pieces = tokio_util::io::ReaderStream::with_capacity(file, BLOCK);
    let head = "--sep\r\nContent-Disposition: form-data; name=\"files\"; filename=\"big\"\r\n\r\n";
    let tail = "\r\n--sep--\r\n";
    let text =
        |text: &'static str| futures_util::stream::once(async move { Ok(bytes::Bytes::from_static(text.as_bytes())) });
    let form = text(head).chain(pieces).chain(text(tail));
    let url = node.url(&format!("/upload/file?token={}", link_token(node.token(), id, "file-upload", "")));
    let memory = process::memory(node.pid());
    let before = process::cpu_ever(node.pid());
    let answer = reqwest::Client::builder().no_proxy().build().expect("a client").post(url);
    let answer = answer.header("content-length", head.len() + BIG + tail.len());
    let answer = answer.header("content-type", "multipart/form-data; boundary=sep");
    let answer = answer.body(reqwest::Body::wrap_stream(form)).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let used = process::cpu_ever(node.pid()).saturating_sub(before);
    assert_eq!(fs::metadata(node.data(id).join("big")).expect("a file").len(), BIG as u64);
    fs::remove_file(&source).expect("a file");
    row(table, "upload of 1 GiB", used, floor, 500.0);
    let grown = process::memory(node.pid()).anonymous.saturating_sub(memory.anonymous);
    memory_row(table, "memory after the upload", grown);
}

async fn download(node: &Node, id: &str, table: &mut Table) {
    let file = node.data(id).join("big");
    let floor = own_cpu(|| {
        let (mut file, mut block) = (fs::File::open(&file).expect("a file"), vec![0; BLOCK]);
        while file.read(&mut block).expect("a file") > 0 {}
    });
    let url = node.url(&format!("/download/file?token={}", link_token(node.token(), id, "file-download", "big")));
    let memory = process::memory(node.pid());
    let before = process::cpu_ever(node.pid());
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = client.get(url).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let (mut pieces, mut bytes) = (answer.bytes_stream(), 0);
    while let Some(piece) = pieces.next().await {
        bytes += piece.expect("a piece").len();
    }
    let used = process::cpu_ever(node.pid()).saturating_sub(before);
    assert_eq!(bytes, BIG);
    row(table, "download of 1 GiB", used, floor, 200.0);
    let grown = process::memory(node.pid()).anonymous.saturating_sub(memory.anonymous);
    memory_row(table, "memory after the download", grown);
}

fn row(table: &mut Table, what: &str, used: Duration, floor: Duration, target: f64) {
    let against = format!("floor {:.1} ms; load {}", millis(floor), load());
    let met = millis(used) <= target;
    table.row(&format!("CPU time: {what}"), format!("{:.1} ms", millis(used)), against, format!("{target} ms"), met);
}

fn memory_row(table: &mut Table, what: &str, kib: u64) {
    table.row(what, format!("{kib} KiB"), String::new(), "32768 KiB".into(), kib <= 32 * 1024);
}

fn own_cpu(work: impl FnOnce()) -> Duration {
    let own = std::process::id();
    let before = process::cpu(own).0;
    work();
    process::cpu(own).0.saturating_sub(before)
}

fn write_big(path: &Path) {
    let mut file = fs::File::create(path).expect("a file");
    // No pattern that a boundary would be searched in for long.
    let block: Vec<u8> = (0..BLOCK).map(|at| (at.wrapping_mul(2_654_435_761) >> 7) as u8).collect();
    for _ in 0..BIG / BLOCK {
        file.write_all(&block).expect("space");
    }
}

fn copy_through_memory(from: &Path, to: &Path) {
    let (mut from, mut to) = (fs::File::open(from).expect("a file"), fs::File::create(to).expect("a file"));
    let mut block = vec![0; BLOCK];
    loop {
        match from.read(&mut block).expect("a file") {
            0 => return,
            read => to.write_all(&block[..read]).expect("space"),
        }
    }
}
