//! A Wings, played from the reference: the forms that it sends, and what it accepts.

#![allow(dead_code, reason = "each binary uses a part of it")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use http::StatusCode;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An archive as Wings makes it: files only, no directories.
pub fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        // As hostile as the name is.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// The parts of a form: name, name of a file, content.
pub type Part<'a> = (&'a str, Option<&'a str>, &'a [u8]);

/// A form with the boundary `abc`.
pub fn form(parts: &[Part<'_>]) -> Vec<u8> {
    let mut form = open_form(parts);
    form.extend_from_slice(b"--abc--\r\n");
    form
}

/// The same without its end.
pub fn open_form(parts: &[Part<'_>]) -> Vec<u8> {
    let mut form = Vec::new();
    for (name, file, content) in parts {
        let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
        write!(form, "--abc\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n").unwrap();
        if !file.is_empty() {
            form.extend_from_slice(b"Content-Type: application/octet-stream\r\n");
        }
        form.extend_from_slice(b"\r\n");
        form.extend_from_slice(content);
        form.extend_from_slice(b"\r\n");
    }
    form
}

/// A destination.
#[derive(Clone, Default)]
pub struct Wings {
    pub state: Arc<Mutex<Seen>>,
    /// It answers this before it reads anything.
    pub refuses: Option<StatusCode>,
    /// It reads nothing and answers nothing.
    pub hangs: bool,
    /// Its panel, if there is one.
    pub panel: Option<Arc<dyn Panel>>,
    /// It answers so long after its report.
    pub delay: Duration,
}

/// What it asks its panel.
pub trait Panel: Send + Sync {
    /// Whether it may read the server's configuration.
    fn may_read(&self) -> bool;
    /// It reports the end of a transfer.
    fn report(&self, successful: bool);
}

/// What a destination has got.
#[derive(Default)]
pub struct Seen {
    pub requests: u32,
    pub authorization: String,
    pub pool: Option<String>,
    /// The parts in order: names and names of files.
    pub parts: Vec<(String, Option<String>)>,
    /// Names and contents of the archive's entries.
    pub files: BTreeMap<String, Vec<u8>>,
    pub accepted: bool,
    /// Forms that came after one was accepted.
    pub again: u32,
}

impl Wings {
    /// Listens. Returns its address for transfers.
    pub async fn listen(&self) -> String {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = socket.local_addr().unwrap();
        let router = axum::Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(socket, router).await.unwrap() });
        format!("http://{address}/api/transfers")
    }

    pub fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.state.lock().unwrap())
    }
}

async fn answer(State(wings): State<Wings>, request: Request) -> StatusCode {
    let (head, body) = request.into_parts();
    if head.uri.path() != "/api/transfers" {
        // It asks for the node's token before it says that it has no such path.
        return StatusCode::FORBIDDEN;
    }
    let header = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let content_type = header("content-type").unwrap_or_default();
    {
        let mut seen = wings.state.lock().unwrap();
        seen.requests += 1;
        seen.again += u32::from(seen.accepted);
        seen.authorization = header("authorization").unwrap_or_default();
        seen.pool = header("x-storage-pool");
        assert_eq!(header("content-length"), None, "it is chunked");
    }
    if let Some(status) = wings.refuses {
        return status;
    }
    if wings.hangs {
        std::future::pending::<()>().await;
    }
    if wings.panel.as_ref().is_some_and(|panel| !panel.may_read()) {
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    // It reports also where the connection has ended meanwhile.
    let received = tokio::spawn(async move {
        let read = read(&wings, &content_type, body).await;
        if let Some(panel) = &wings.panel {
            panel.report(read.is_some());
            tokio::time::sleep(wings.delay).await;
        }
        read
    });
    match received.await.unwrap() {
        Some(()) => StatusCode::OK,
        None => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What Wings checks.
async fn read(wings: &Wings, content_type: &str, body: Body) -> Option<()> {
    let boundary = multer::parse_boundary(content_type).ok()?;
    let mut form = multer::Multipart::new(body.into_data_stream(), boundary);
    let (mut sums, mut expected) = (BTreeMap::new(), BTreeMap::new());
    while let Some(field) = form.next_field().await.ok()? {
        let name = field.name()?.to_owned();
        wings.state.lock().unwrap().parts.push((name.clone(), field.file_name().map(str::to_owned)));
        let content = field.bytes().await.ok()?;
        if name == "archive" {
            wings.state.lock().unwrap().files = unpack(&content)?;
        }
        if name == "archive" || name.starts_with("backup_") {
            sums.insert(name, sha256(&content));
        } else if let Some(of) = name.strip_prefix("checksum_") {
            expected.insert(of.to_owned(), String::from_utf8(content.to_vec()).ok()?);
        }
    }
    let archived = sums.contains_key("archive");
    let accepted = archived && sums.iter().all(|(name, sum)| expected.get(name) == Some(sum));
    wings.state.lock().unwrap().accepted = accepted;
    accepted.then_some(())
}

/// Entries are read to the end mark: two blocks of zeros, and nothing after it.
fn unpack(content: &[u8]) -> Option<BTreeMap<String, Vec<u8>>> {
    let mut plain = Vec::new();
    let mut gzip = flate2::bufread::MultiGzDecoder::new(content);
    gzip.read_to_end(&mut plain).ok()?;
    assert!(gzip.into_inner().is_empty(), "nothing follows the gzip stream");
    assert!(
        plain.len() >= 1024 && plain[plain.len() - 1024..].iter().all(|byte| *byte == 0),
        "it ends with two blocks"
    );
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(&plain[..]).entries().ok()? {
        let mut entry = entry.ok()?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).ok()?;
        files.insert(entry.path().ok()?.display().to_string(), bytes);
    }
    Some(files)
}
