//! Archives of a server's files and downloads into them, over the API.

use alula::model::ServerId;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::node::ApiNode;

struct Files {
    node: ApiNode,
    id: ServerId,
}

impl Files {
    fn new() -> Self {
        let node = ApiNode::new();
        let id = node.add(1);
        node.context.node.layout.prepare(id).unwrap();
        Self { node, id }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.node.context.node.layout.data(self.id).join(name)
    }

    async fn send(&self, method: Method, call: &str, body: Value) -> (StatusCode, Value) {
        let path = format!("/api/servers/{}/files/{call}", self.id);
        let body = if method == Method::POST { body.to_string() } else { String::new() };
        let answer = self.node.ask(method, &path, body).await;
        (answer.status, serde_json::from_str(&answer.text).unwrap_or_default())
    }

    async fn post(&self, call: &str, body: Value) -> (StatusCode, Value) {
        self.send(Method::POST, call, body).await
    }
}

#[tokio::test(start_paused = true)]
async fn files_are_compressed_and_unpacked() {
    let files = Files::new();
    std::fs::create_dir(files.path("folder")).unwrap();
    std::fs::write(files.path("folder/a.txt"), "content").unwrap();
    for (extension, name, mime) in [
        ("zip", "result.zip", "application/zip"),
        ("", "result.tar.gz", "application/gzip"),
        ("tbz2", "result.tar.bz2", "application/x-bzip2"),
        (".TXZ", "result.tar.xz", "application/x-xz"),
    ] {
        let asked = json!({"root": "/", "files": ["folder"], "name": "result", "extension": extension});
        let (status, entry) = files.post("compress", asked).await;
        assert_eq!((status, &entry["name"], &entry["mime"]), (StatusCode::OK, &json!(name), &json!(mime)));
        assert_eq!(entry["size"], std::fs::metadata(files.path(name)).unwrap().len());
        std::fs::remove_dir_all(files.path("folder")).unwrap();
        let (status, _) = files.post("decompress", json!({"root": "/", "file": name})).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{name}");
        assert_eq!(std::fs::read(files.path("folder/a.txt")).unwrap(), b"content");
    }
    let (_, entry) = files.post("compress", json!({"root": "/folder", "files": ["a.txt"]})).await;
    let name = entry["name"].as_str().unwrap();
    assert!(name.starts_with("archive-2") && name.ends_with(".tar.gz") && !name.contains(':'), "{name}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_done_with_archives() {
    let files = Files::new();
    std::fs::write(files.path("a.txt"), "no archive").unwrap();
    std::fs::write(files.path("a.zip"), b"PK\x03\x04 and no more").unwrap();
    for (call, body, status, message) in [
        ("compress", json!({"root": "/"}), 422, "No files were passed through to be compressed."),
        ("compress", json!({"root": "/", "files": ["nope"]}), 404, "The requested resources was not found"),
        ("decompress", json!({"root": "/", "file": "nope.zip"}), 404, "The requested resources was not found"),
        (
            "decompress",
            json!({"root": "/", "file": "a.txt"}),
            400,
            "The archive provided is in a format Wings does not",
        ),
        ("decompress", json!({"root": "/", "file": "a.zip"}), 400, "The archive is damaged: "),
    ] {
        let (found, answer) = files.post(call, body).await;
        let text = answer["error"].as_str().unwrap_or_default();
        assert!(found == status && text.starts_with(message), "{call}: {found} {answer}");
    }
    assert_eq!(std::fs::read_dir(files.path("")).unwrap().count(), 2, "no archive is left");
}

#[tokio::test(start_paused = true)]
async fn downloads_are_checked_listed_and_cancelled() {
    let files = Files::new();
    for (body, message) in [
        (json!({"root": "/"}), "An unexpected error"),
        (json!({"url": "http://example.com/x"}), "An unexpected error"),
        (json!({"url": "http://a b/", "root": "/"}), "An error occurred while parsing that URL: "),
        (
            json!({"url": "http://127.0.0.1/x", "root": "/", "foreground": true}),
            "The file was not downloaded: 127.0.0.1",
        ),
        (
            json!({"url": "http://[::ffff:10.0.0.1]/x", "directory": "/", "foreground": true}),
            "The file was not downloaded",
        ),
        (
            json!({"url": "ftp://example.com/x", "root": "/", "foreground": true}),
            "The file was not downloaded: files are",
        ),
    ] {
        let (status, answer) = files.post("pull", body).await;
        let text = answer["error"].as_str().unwrap_or_default();
        assert!(status == StatusCode::BAD_REQUEST && text.starts_with(message), "{status} {answer}");
    }
    let (status, begun) = files.post("pull", json!({"url": "http://127.0.0.1/x", "root": "/"})).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let cancel = format!("pull/{}", begun["identifier"].as_str().unwrap());
    for call in [cancel.as_str(), "pull/unknown"] {
        assert_eq!(files.send(Method::DELETE, call, Value::Null).await.0, StatusCode::NO_CONTENT);
    }
    let running = || async { files.send(Method::GET, "pull", Value::Null).await.1 };
    while running().await["downloads"] != Value::Null {
        tokio::task::yield_now().await;
    }
}
