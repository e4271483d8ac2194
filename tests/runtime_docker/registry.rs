//! A registry with one image, on the loopback address, where engines need no TLS.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::Digest;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// How the layer is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    Complete,
    /// Other bytes than its digest says.
    Wrong,
    /// A few bytes now and then, without end.
    Dripping,
}

pub struct Registry {
    address: SocketAddr,
    /// Whether a dripping layer is being served.
    serving: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

struct Shelf {
    /// User and password.
    login: Option<(String, String)>,
    manifest: Bytes,
    blobs: HashMap<String, Bytes>,
    layer: (String, Layer),
    serving: watch::Sender<bool>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Registry {
    pub async fn start(login: Option<(&str, &str)>, how: Layer) -> Self {
        let layer = layer();
        let config = serde_json::json!({
            "architecture": architecture(), "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        });
        let config = Bytes::from(config.to_string());
        let part = |kind: &str, blob: &Bytes| {
            let media_type = format!("application/vnd.docker.{kind}");
            serde_json::json!({"mediaType": media_type, "size": blob.len(), "digest": digest(blob)})
        };
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": part("container.image.v1+json", &config),
            "layers": [part("image.rootfs.diff.tar.gzip", &layer)],
        });
        let (serving, hear) = watch::channel(false);
        let shelf = Shelf {
            login: login.map(|(user, password)| (user.to_owned(), password.to_owned())),
            manifest: manifest.to_string().into(),
            layer: (digest(&layer), how),
            blobs: [config, layer].map(|blob| (digest(&blob), blob)).into(),
            serving,
        };
        let router = Router::new()
            .route("/v2/", get(welcome))
            .route("/v2/{*path}", get(fetch).head(fetch))
            .with_state(Arc::new(shelf));
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, serving: hear, task }
    }

    /// A reference to the image with some tag; only `:good` is there.
    pub fn reference(&self, tag: &str) -> String {
        format!("{}/alula-test/{}:{tag}", self.address, self.address.port())
    }

    /// Waits until a dripping layer is being served, or is no longer.
    pub async fn wait_serving(&mut self, serving: bool) {
        let wait = self.serving.wait_for(|now| *now == serving);
        tokio::time::timeout(std::time::Duration::from_secs(30), wait).await.expect("in time").unwrap();
    }
}

async fn welcome(State(shelf): State<Arc<Shelf>>, headers: HeaderMap) -> Response {
    shelf.admit(&headers).err().unwrap_or_else(|| StatusCode::OK.into_response())
}

async fn fetch(State(shelf): State<Arc<Shelf>>, Path(path): Path<String>, headers: HeaderMap) -> Response {
    if let Err(rejected) = shelf.admit(&headers) {
        return rejected;
    }
    let digest_of_manifest = digest(&shelf.manifest);
    match path.rsplit_once('/') {
        Some((kind, name)) if kind.ends_with("/manifests") && (name == "good" || name == digest_of_manifest) => {
            let headers = [(header::CONTENT_TYPE, MANIFEST), (header::ETAG, &digest_of_manifest)];
            (headers, [("Docker-Content-Digest", digest_of_manifest.clone())], shelf.manifest.clone()).into_response()
        }
        Some((kind, name)) if kind.ends_with("/blobs") => shelf.blob(name),
        _ => rejection(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown"),
    }
}

impl Shelf {
    #[expect(clippy::result_large_err, reason = "a test's server answers a handful of requests")]
    fn admit(&self, headers: &HeaderMap) -> Result<(), Response> {
        let Some((user, password)) = &self.login else { return Ok(()) };
        let expected = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        if headers.get(header::AUTHORIZATION).is_some_and(|given| given.as_bytes() == expected.as_bytes()) {
            return Ok(());
        }
        let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"test\"")];
        Err((ask, rejection(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required")).into_response())
    }

    fn blob(&self, digest: &str) -> Response {
        let Some(blob) = self.blobs.get(digest).cloned() else {
            return rejection(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "blob unknown");
        };
        match self.layer {
            (ref layer, Layer::Wrong) if layer == digest => vec![b'x'; blob.len()].into_response(),
            (ref layer, Layer::Dripping) if layer == digest => {
                let serving = Serving::begin(&self.serving);
                let drops = futures_util::stream::unfold(serving, |serving| async {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    Some((Ok::<_, std::io::Error>(Bytes::from_static(&[0; 64])), serving))
                });
                Body::from_stream(drops).into_response()
            }
            _ => blob.into_response(),
        }
    }
}

/// Says that a layer is being served for as long as it is.
struct Serving(watch::Sender<bool>);

impl Serving {
    fn begin(serving: &watch::Sender<bool>) -> Self {
        serving.send_replace(true);
        Self(serving.clone())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}

fn rejection(status: StatusCode, code: &str, message: &str) -> Response {
    let body = serde_json::json!({"errors": [{"code": code, "message": message}]});
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// A layer with one file. Random, so that no engine has it already.
fn layer() -> Bytes {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), uuid::Uuid::new_v4().to_string().repeat(100)).unwrap();
    let tar = Command::new("tar").arg("-C").arg(folder.path()).args(["-c", "file"]).output().expect("tar runs");
    assert!(tar.status.success(), "tar: {}", String::from_utf8_lossy(&tar.stderr));
    tar.stdout.into()
}

fn digest(blob: &[u8]) -> String {
    let hash = sha2::Sha256::digest(blob);
    hash.iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// As images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
