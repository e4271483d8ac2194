//! Links that the panel signs for browsers: downloads and uploads of files, once each.

use alula::model::ServerId;
use axum::body::Body;
use http::{Method, Request, StatusCode};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

use crate::node::{Answer, ApiNode, TOKEN};

const FORM: &str = "multipart/form-data; boundary=sep";

struct Files {
    node: ApiNode,
    id: ServerId,
    links: std::cell::Cell<u32>,
}

impl Files {
    fn new() -> Self {
        let node = ApiNode::with_config(|config| config.files.upload_limit_mib = 1);
        let id = node.add(1);
        node.context.node.layout.prepare(id).unwrap();
        std::fs::write(node.context.node.layout.data(id).join("file"), "0123456789").unwrap();
        Self { node, id, links: std::cell::Cell::default() }
    }

    fn data(&self) -> std::path::PathBuf {
        self.node.context.node.layout.data(self.id)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.data()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn token(&self, scope: &str, file: &str) -> String {
        self.links.set(self.links.get() + 1);
        let now = self.node.context.clock.now().as_millis() / 1000 + 1;
        let claims = json!({
            "iat": now, "exp": now + 600, "jti": "one", "scope": scope, "server_uuid": self.id, "file_path": file,
            "user_uuid": "f1ee10d5-2058-4647-9489-4cc29abdaac0", "unique_id": self.links.get().to_string(),
        });
        encode(&Header::default(), &claims, &EncodingKey::from_secret(TOKEN.as_bytes()).unwrap()).unwrap()
    }

    async fn visit(&self, method: Method, token: &str, range: Option<&str>) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("/download/file?token={token}"));
        if let Some(range) = range {
            request = request.header("range", range);
        }
        self.node.send(request.body(Body::empty()).unwrap()).await
    }

    async fn upload(&self, body: String) -> Answer {
        let uri = format!("/upload/file?directory=up&token={}", self.token("file-upload", ""));
        let request = Request::post(uri).header("content-type", FORM).body(Body::from(body)).unwrap();
        self.node.send(request).await
    }
}

fn part(name: &str, content: &str) -> String {
    format!("--sep\r\nContent-Disposition: form-data; name=\"files\"; filename=\"{name}\"\r\n\r\n{content}\r\n")
}

#[tokio::test(start_paused = true)]
async fn a_download_has_ranges_and_works_once() {
    let files = Files::new();
    let token = files.token("file-download", "/file");
    let asked = files.visit(Method::HEAD, &token, None).await;
    assert_eq!((asked.status, asked.header("content-length"), asked.text.as_str()), (StatusCode::OK, "10", ""));
    let whole = files.visit(Method::GET, &token, None).await;
    assert_eq!((whole.status, whole.text.as_str()), (StatusCode::OK, "0123456789"));
    assert_eq!(whole.header("content-disposition"), "attachment; filename=\"file\"");
    assert_eq!(files.visit(Method::GET, &token, None).await.status, StatusCode::NOT_FOUND, "used");
    let part = files.visit(Method::GET, &files.token("file-download", "file"), Some("bytes=2-4")).await;
    assert_eq!((part.status, part.text.as_str()), (StatusCode::PARTIAL_CONTENT, "234"));
    assert_eq!((part.header("content-range"), part.header("content-length")), ("bytes 2-4/10", "3"));
    let none = files.visit(Method::GET, &files.token("file-download", "file"), Some("bytes=10-")).await;
    assert_eq!((none.status, none.header("content-range")), (StatusCode::RANGE_NOT_SATISFIABLE, "bytes */10"));
    for (token, status) in [
        (files.token("file-upload", "file"), StatusCode::NOT_FOUND),
        (files.token("file-download", "missing"), StatusCode::NOT_FOUND),
        (files.token("file-download", ""), StatusCode::BAD_REQUEST),
        ("garbage".into(), StatusCode::UNAUTHORIZED),
    ] {
        assert_eq!(files.visit(Method::GET, &token, None).await.status, status);
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_is_all_or_nothing() {
    let files = Files::new();
    let answer = files.upload(part("a", "1") + &part("dir/../b", "22") + "--sep--\r\n").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(std::fs::read_to_string(files.data().join("up/b")).unwrap(), "22");
    std::fs::remove_dir_all(files.data().join("up")).unwrap();
    for (body, text) in [
        (part("a", "1") + &part("big", &"x".repeat((1 << 20) + 1)) + "--sep--\r\n", "larger than"),
        (part("a", "1") + &part("..", "x") + "--sep--\r\n", "no name"),
        (
            part("a", "1") + "--sep\r\nContent-Disposition: form-data; name=\"files\"; filename=\"b\"\r\n\r\nhalf",
            "Failed",
        ),
        ("--sep\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n1\r\n--sep--\r\n".into(), "No files"),
        (String::new(), "Failed"),
    ] {
        let answer = files.upload(body).await;
        assert!(answer.status == StatusCode::BAD_REQUEST && answer.text.contains(text), "{text}: {answer:?}");
        let left = std::fs::read_dir(files.data().join("up")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{text}");
    }
    assert!(files.names().iter().all(|name| name == "file" || name == "up"));
}

#[tokio::test(start_paused = true)]
async fn a_suspended_server_s_links_lead_nowhere() {
    let files = Files::new();
    let token = files.token("file-download", "file");
    let path = files.node.context.store.folder(files.id).join("config.yml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("suspended: false") || !text.contains("suspended"));
    let text = text.replace("suspended: false", "");
    std::fs::write(&path, text.replacen("spec:", "spec:\n  suspended: true", 1)).unwrap();
    alula::reconcile::refresh::refresh(&files.node.context.store, files.node.context.clock, files.id).await.unwrap();
    assert_eq!(files.visit(Method::GET, &token, None).await.status, StatusCode::CONFLICT);
    let listed = files.node.ask(Method::GET, &format!("/api/servers/{}/files/list-directory", files.id), "").await;
    assert_eq!(listed.status, StatusCode::OK, "the panel sees them");
}
