//! Downloads from a web server of the test, on the loopback address that only these tests allow.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::files::Root;
use crate::files::account::DiskAccount;
use crate::files::denylist::Denylist;
use crate::tasks::Tasks;

/// A server's directory, and a web server that gives each path its answer.
struct Fixture {
    folder: tempfile::TempDir,
    tree: Tree,
    tasks: Tasks,
    address: String,
}

impl Fixture {
    async fn new(limit: Option<u64>, answer: fn(&str) -> Vec<u8>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let owner = std::fs::metadata(folder.path()).unwrap();
        let root = Root::open(folder.path(), owner.uid(), owner.gid()).unwrap();
        let denylist = Arc::new(Denylist::new(["secret.txt"]));
        let tree = Tree::new(root, denylist, DiskAccount::new(limit, 0));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let tasks = Tasks::new();
        let own = address.clone();
        tasks.spawn("web server", async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve(stream, &own, answer).await;
            }
        });
        Self { folder, tree, tasks, address }
    }

    fn file(&self, path: &str) -> RemoteFile {
        RemoteFile {
            url: format!("http://{}{path}", self.address).parse().unwrap(),
            directory: UserPath::root(),
            name: None,
            use_header: false,
            max_redirects: 3,
        }
    }

    async fn get(&self, file: &RemoteFile) -> Result<UserPath, DownloadError> {
        download(&here(), file, &self.tree, Blocking::Pool, &Progress::new()).await
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.tasks.abort_all();
    }
}

/// Allows the address of the test's web server alone.
fn here() -> Downloads {
    Downloads::with_allowed(|address| address == IpAddr::from([127, 0, 0, 1])).unwrap()
}

async fn serve(mut stream: TcpStream, address: &str, answer: fn(&str) -> Vec<u8>) {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(read) if read > 0 => request.extend_from_slice(&buffer[..read]),
            _ => return,
        }
    }
    let text = String::from_utf8(request).unwrap();
    assert!(text.to_lowercase().contains("user-agent: pelican panel (https://pelican.dev)"), "{text}");
    let path = text.split(' ').nth(1).unwrap();
    let answer = String::from_utf8(answer(path)).unwrap().replace("{here}", address);
    // The client may have gone.
    let _ = stream.write_all(answer.as_bytes()).await;
}

fn plain(path: &str) -> Vec<u8> {
    let body = format!("content of {path}");
    format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn redirect(to: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nConnection: close\r\nContent-Length: 0\r\nLocation: {to}\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn a_file_gets_the_name_that_is_asked_for() {
    let fixture = Fixture::new(Some(1000), |path| match path {
        "/named" => b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\
            Content-Disposition: attachment; filename=\"../of header.jar\"\r\n\r\nhi"
            .to_vec(),
        path => plain(path),
    })
    .await;
    let mut file = fixture.file("/a/b.jar?x=1");
    assert_eq!(fixture.get(&file).await.unwrap().as_bytes(), b"b.jar");
    assert_eq!(fixture.read("b.jar"), "content of /a/b.jar?x=1");
    file.name = Some("sub/own name".into());
    assert_eq!(fixture.get(&file).await.unwrap().as_bytes(), b"sub/own name");
    let mut file = fixture.file("/named");
    file.name = Some("own".into());
    assert_eq!(fixture.get(&file).await.unwrap().as_bytes(), b"own");
    file.use_header = true;
    assert_eq!(fixture.get(&file).await.unwrap().as_bytes(), b"of header.jar");
    file = fixture.file("/a/b.jar");
    file.use_header = true;
    assert_eq!(fixture.get(&file).await.unwrap().as_bytes(), b"b.jar", "there is no such header");
    assert!(matches!(fixture.get(&fixture.file("/")).await, Err(DownloadError::NoName)));
    let sum: u64 =
        ["b.jar", "sub/own name", "own", "of header.jar"].map(|name| fixture.read(name).len() as u64).iter().sum();
    assert_eq!(fixture.tree.account().used(), sum);
}

#[tokio::test]
async fn redirects_are_followed_and_checked() {
    let fixture = Fixture::new(None, |path| match path {
        "/once" => redirect("/file"),
        "/twice" => redirect("http://{here}/once"),
        "/loop" => redirect("/loop"),
        "/private" => redirect("http://127.0.0.2/file"),
        "/mapped" => redirect("http://[::ffff:127.0.0.2]/file"),
        "/number" => redirect("http://2130706434/file"),
        "/local" => redirect("file:///etc/passwd"),
        path => plain(path),
    })
    .await;
    assert_eq!(fixture.get(&fixture.file("/twice")).await.unwrap().as_bytes(), b"twice");
    assert_eq!(fixture.read("twice"), "content of /file");
    assert!(matches!(fixture.get(&fixture.file("/loop")).await, Err(DownloadError::TooManyRedirects(3))));
    for path in ["/private", "/mapped", "/number"] {
        assert!(matches!(fixture.get(&fixture.file(path)).await, Err(DownloadError::Address(_))), "{path}");
    }
    assert!(matches!(fixture.get(&fixture.file("/local")).await, Err(DownloadError::Scheme(_))));
    assert_eq!(fixture.names(), ["twice"]);
}

#[tokio::test]
async fn names_are_resolved_to_allowed_addresses_only() {
    let fixture = Fixture::new(None, plain).await;
    let port = fixture.address.rsplit(':').next().unwrap();
    let mut file = fixture.file("/file");
    file.url = format!("http://localhost:{port}/file").parse().unwrap();
    fixture.get(&file).await.unwrap();
    let progress = Progress::new();
    let internet = Downloads::new().unwrap();
    let refused = download(&internet, &file, &fixture.tree, Blocking::Pool, &progress).await;
    assert!(matches!(refused, Err(DownloadError::Address(_))), "{refused:?}");
    let refused = download(&internet, &fixture.file("/file"), &fixture.tree, Blocking::Pool, &progress).await;
    assert!(matches!(refused, Err(DownloadError::Address(_))), "{refused:?}");
}

#[tokio::test]
async fn an_answer_without_a_whole_file_changes_nothing() {
    let fixture = Fixture::new(Some(100), |path| match path {
        "/missing" => b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno".to_vec(),
        "/short" => b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 50\r\n\r\nshort".to_vec(),
        "/endless" => b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nendless".to_vec(),
        "/chunked" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n".to_vec(),
        "/big" => b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5000\r\n\r\nbig".to_vec(),
        "/partial" => b"HTTP/1.1 206 Partial Content\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx".to_vec(),
        path => plain(path),
    })
    .await;
    std::fs::write(fixture.folder.path().join("file"), "as it was").unwrap();
    let get = async |path: &str, name: &str| {
        let mut file = fixture.file(path);
        file.name = Some(name.into());
        fixture.get(&file).await
    };
    assert!(matches!(get("/missing", "file").await, Err(DownloadError::Status(_))));
    assert!(matches!(get("/partial", "file").await, Err(DownloadError::Status(_))));
    assert!(matches!(get("/short", "file").await, Err(DownloadError::BrokenOff { received: 5, length: 50 })));
    assert!(matches!(get("/endless", "file").await, Err(DownloadError::NoLength)));
    assert!(matches!(get("/chunked", "file").await, Err(DownloadError::NoLength)));
    assert!(matches!(get("/big", "file").await, Err(DownloadError::Tree(TreeError::NoSpace(_)))));
    assert!(matches!(get("/x", "secret.txt").await, Err(DownloadError::Tree(TreeError::Denied(_)))));
    assert_eq!(fixture.names(), ["file"]);
    assert_eq!(fixture.read("file"), "as it was");
    assert_eq!(fixture.tree.account().used(), 0);
}

#[tokio::test]
async fn a_download_that_waits_is_cancelled() {
    let fixture = Fixture::new(None, plain).await;
    // Accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut file = fixture.file("/file");
    file.url = format!("http://{}/file", silent.local_addr().unwrap()).parse().unwrap();
    let progress = Progress::new();
    let canceller = progress.clone();
    let downloads = here();
    let download = download(&downloads, &file, &fixture.tree, Blocking::Pool, &progress);
    let connected = async {
        let connection = silent.accept().await.unwrap();
        canceller.cancel();
        connection
    };
    let (result, _connection) = tokio::join!(download, connected);
    assert!(matches!(result, Err(DownloadError::Cancelled)), "{result:?}");
    assert!(fixture.names().is_empty());
}
