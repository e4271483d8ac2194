//! A server's files over the API: what is written, and how errors are answered.

use alula::model::ServerId;
use axum::body::Body;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::node::{ApiNode, TOKEN};

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

    fn data(&self) -> std::path::PathBuf {
        self.node.context.node.layout.data(self.id)
    }

    async fn get(&self, call: &str) -> (StatusCode, String) {
        let answer = self.node.ask(Method::GET, &format!("/api/servers/{}/files/{call}", self.id), "").await;
        (answer.status, answer.text)
    }

    async fn send(&self, method: Method, call: &str, body: Value) -> (StatusCode, String) {
        let path = format!("/api/servers/{}/files/{call}", self.id);
        let answer = self.node.ask(method, &path, body.to_string()).await;
        (answer.status, answer.text)
    }

    async fn write(&self, file: &str, content: &'static str) -> (StatusCode, String) {
        let path = format!("/api/servers/{}/files/write?file={file}", self.id);
        let request = Request::post(path).header("authorization", format!("Bearer {TOKEN}"));
        let request = request.header("content-length", content.len()).body(Body::from(content)).unwrap();
        let answer = self.node.send(request).await;
        (answer.status, answer.text)
    }
}

#[tokio::test(start_paused = true)]
async fn files_are_written_listed_read_and_removed() {
    let files = Files::new();
    assert_eq!(files.write("a%20b/c.txt", "text").await.0, StatusCode::NO_CONTENT);
    assert_eq!(files.get("contents?file=a+b/c.txt").await, (StatusCode::OK, "text".into()));
    let (status, listed) = files.get("list-directory?directory=/a%20b").await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(
        (status, &listed[0]["name"], &listed[0]["mode"]),
        (StatusCode::OK, &json!("c.txt"), &json!("-rw-r--r--"))
    );
    assert_eq!(listed[0]["mime"], "text/plain; charset=utf-8");
    let (status, found) = files.get("search?pattern=c.t").await;
    assert!(status == StatusCode::OK && found.contains("\"a b/c.txt\""), "{found}");
    let moved = json!({"root": "/a b", "files": [{"from": "c.txt", "to": "../d.txt"}]});
    assert_eq!(files.send(Method::PUT, "rename", moved).await.0, StatusCode::NO_CONTENT);
    assert_eq!(files.send(Method::POST, "copy", json!({"location": "/d.txt"})).await.0, StatusCode::NO_CONTENT);
    assert!(files.data().join("d copy.txt").exists());
    let modes = json!({"root": "/", "files": [{"file": "d.txt", "mode": "600"}, {"file": "missing", "mode": "600"}]});
    assert_eq!(files.send(Method::POST, "chmod", modes).await.0, StatusCode::NO_CONTENT);
    let gone = json!({"root": "/", "files": ["d.txt", "d copy.txt", "a b"]});
    assert_eq!(files.send(Method::POST, "delete", gone).await.0, StatusCode::NO_CONTENT);
    assert_eq!(files.get("list-directory").await, (StatusCode::OK, "[]".into()));
}

#[tokio::test(start_paused = true)]
async fn errors_say_what_is_wrong() {
    let files = Files::new();
    std::fs::create_dir(files.data().join("folder")).unwrap();
    std::fs::write(files.data().join("file"), "x").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", files.data().join("out")).unwrap();
    let found = files.get("contents?file=missing").await;
    assert!(found.0 == StatusCode::NOT_FOUND && found.1.contains("request_id"), "{found:?}");
    for (call, status, text) in [
        ("contents?file=folder", StatusCode::BAD_REQUEST, "is a directory"),
        ("contents?file=file/x", StatusCode::BAD_REQUEST, "not a directory"),
        ("contents?file=out", StatusCode::BAD_REQUEST, "leads out"),
        ("contents?file=../../x", StatusCode::BAD_REQUEST, "leads out"),
        ("contents?file=a%00b", StatusCode::BAD_REQUEST, "NUL"),
        ("list-directory?directory=missing", StatusCode::NOT_FOUND, "requested directory"),
        ("list-directory?directory=file", StatusCode::BAD_REQUEST, "not a directory"),
        ("search?pattern=ab", StatusCode::BAD_REQUEST, "at least 3"),
        ("search?pattern=abc&directory=missing", StatusCode::OK, "[]"),
    ] {
        let found = files.get(call).await;
        assert!(found.0 == status && found.1.contains(text), "{call}: {found:?}");
    }
    for (method, call, body, status, text) in [
        (Method::PUT, "rename", json!({"files": []}), 422, "No files"),
        (Method::PUT, "rename", json!({"files": [{"from": "file", "to": "folder"}]}), 400, "already exists"),
        (Method::PUT, "rename", json!({"files": [{"from": "", "to": "x"}]}), 400, "server's directory itself"),
        (Method::POST, "delete", json!({"files": [".."]}), 400, "server's directory itself"),
        (Method::POST, "delete", json!({"files": ["missing"]}), 404, "not found"),
        (Method::POST, "copy", json!({"location": "folder"}), 404, "not found"),
        (Method::POST, "chmod", json!({"files": [{"file": "file", "mode": "+77"}]}), 400, "Invalid file mode"),
        (Method::POST, "chmod", json!({"files": [{"file": "file", "mode": 777}]}), 400, "error"),
        (Method::POST, "create-directory", json!({"name": "x", "path": "/file"}), 400, "ENOTDIR"),
    ] {
        let found = files.send(method, call, body.clone()).await;
        assert!(found.0.as_u16() == status && found.1.contains(text), "{call} {body}: {found:?}");
    }
    assert_eq!(files.write("folder", "x").await.0, StatusCode::BAD_REQUEST);
    let unknown =
        files.node.ask(Method::GET, "/api/servers/550e8400-e29b-41d4-a716-446655440000/files/list-directory", "");
    assert_eq!(unknown.await.status, StatusCode::NOT_FOUND);
    assert_eq!(std::fs::read_to_string(files.data().join("file")).unwrap(), "x");
}

#[tokio::test(start_paused = true)]
async fn a_long_listing_is_sent_in_pieces() {
    let files = Files::new();
    for number in 0..3000 {
        std::fs::write(files.data().join(format!("{number:04}")), "").unwrap();
    }
    let (status, text) = files.get("list-directory").await;
    let listed: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!((status, listed.len()), (StatusCode::OK, 3000));
    assert!(listed.iter().enumerate().all(|(number, entry)| entry["name"] == format!("{number:04}")));
}

#[tokio::test(start_paused = true)]
async fn a_large_file_is_streamed_both_ways() {
    let files = Files::new();
    let content: &'static str = "0123456789abcdef".repeat(200_000).leak();
    assert_eq!(files.write("large", content).await.0, StatusCode::NO_CONTENT);
    let (status, text) = files.get("contents?file=large").await;
    assert!(status == StatusCode::OK && text == content);
}
