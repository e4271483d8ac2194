//! A store of objects that takes parts by links.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

/// The parts of all uploads, by their paths.
#[derive(Clone)]
pub struct ObjectStore {
    address: SocketAddr,
    parts: Arc<Mutex<BTreeMap<String, Stored>>>,
}

/// One part.
#[derive(Default)]
pub struct Stored {
    /// Requests, complete or not.
    pub requests: u32,
    /// Complete ones.
    pub complete: u32,
    pub content: Bytes,
}

impl ObjectStore {
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let store = Self { address: listener.local_addr().expect("a socket"), parts: Arc::default() };
        let served = store.clone();
        // Of its own, so that it answers while the test blocks. It ends with the test.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
                while let Ok((stream, _)) = listener.accept().await {
                    let store = served.clone();
                    tokio::spawn(async move {
                        let service = service_fn(|request| put(store.clone(), request));
                        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                    });
                }
            });
        });
        store
    }

    /// What the panel answers to a request for links.
    pub fn links(&self, backup: &str, parts: u32, part_size: u64) -> Value {
        let link = |number| format!("http://{}/{backup}/{number}?X-Amz-Expires=3600", self.address);
        json!({"parts": (1..=parts).map(link).collect::<Vec<_>>(), "part_size": part_size})
    }

    pub fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Stored>> {
        self.parts.lock().expect("a lock")
    }

    /// Complete requests for each part of a backup.
    pub fn complete(&self, backup: &str) -> BTreeMap<u32, u32> {
        let number = |path: &str| path.strip_prefix(&format!("/{backup}/"))?.parse().ok();
        self.lock().iter().filter_map(|(path, part)| Some((number(path)?, part.complete))).collect()
    }

    /// The object that these parts make.
    pub fn object(&self, backup: &str, parts: usize) -> Vec<u8> {
        let stored = self.lock();
        (1..=parts).flat_map(|number| stored[&format!("/{backup}/{number}")].content.to_vec()).collect()
    }
}

/// The store's name for a content.
pub fn etag(content: &[u8]) -> String {
    let hash: String = Sha1::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hash}\"")
}

async fn put(store: ObjectStore, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let path = request.uri().path().to_owned();
    store.lock().entry(path.clone()).or_default().requests += 1;
    let content = request.into_body().collect().await?.to_bytes();
    let mut response = Response::new(Full::default());
    response.headers_mut().insert(http::header::ETAG, etag(&content).parse().expect("a value"));
    let mut parts = store.lock();
    let part = parts.entry(path).or_default();
    part.complete += 1;
    part.content = content;
    drop(parts);
    Ok(response)
}
