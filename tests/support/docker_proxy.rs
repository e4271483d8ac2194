//! A proxy of a container engine that can be stalled: a unix socket whose calls are forwarded one by one, and held back
//! where a test says so, either before the engine gets them or before its answer is forwarded.
//!
//! Requests are read as HTTP, so that a test names calls by method and path. Connections that are upgraded to terminals are
//! copied as bytes.

#![allow(dead_code, reason = "each binary uses a part of it")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::UPGRADE;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use regex::Regex;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Where a call is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Before the engine gets the call.
    Before,
    /// After the engine has executed it, before the caller gets the answer.
    After,
}

/// The proxy. Its connections end when this is dropped.
pub struct DockerProxy {
    shared: Arc<Shared>,
    socket: PathBuf,
    server: tokio::task::JoinHandle<()>,
}

struct Shared {
    engine: PathBuf,
    rules: Mutex<Vec<Arc<Rule>>>,
    calls: Mutex<Vec<String>>,
    changed: watch::Sender<()>,
}

struct Rule {
    side: Side,
    calls: Regex,
    skip: u32,
    seen: AtomicU32,
    held: AtomicU32,
}

/// Calls are held back until this is dropped.
#[must_use = "calls go on when this is dropped"]
pub struct Hold {
    rule: Arc<Rule>,
    shared: Arc<Shared>,
}

impl DockerProxy {
    /// Listens on a socket in this folder for an engine's socket.
    pub fn start(folder: &Path, engine: &Path) -> Self {
        let socket = folder.join("docker-proxy.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let shared = Arc::new(Shared {
            engine: engine.to_owned(),
            rules: Mutex::default(),
            calls: Mutex::default(),
            changed: watch::Sender::new(()),
        });
        let server = tokio::spawn(serve(shared.clone(), listener));
        Self { shared, socket, server }
    }

    /// `DOCKER_HOST` for clients of this proxy.
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Holds calls back whose `METHOD path` (without the API's version) has a match of the regular expression, but forwards the
    /// first `skip` of them.
    pub fn hold(&self, side: Side, calls: &str, skip: u32) -> Hold {
        let calls = Regex::new(calls).expect("a regular expression");
        let rule = Arc::new(Rule { side, calls, skip, seen: AtomicU32::new(0), held: AtomicU32::new(0) });
        lock(&self.shared.rules).push(rule.clone());
        Hold { rule, shared: self.shared.clone() }
    }

    /// All calls so far, as `METHOD path`.
    pub fn calls(&self) -> Vec<String> {
        lock(&self.shared.calls).clone()
    }
}

impl Drop for DockerProxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Hold {
    /// Waits until a call is held back.
    pub async fn reached(&self, timeout: Duration) {
        let mut changed = self.shared.changed.subscribe();
        let reached = tokio::time::timeout(timeout, async {
            loop {
                changed.borrow_and_update();
                if self.rule.held.load(Ordering::SeqCst) > 0 {
                    return;
                }
                let _ = changed.changed().await;
            }
        });
        if reached.await.is_err() {
            let calls = lock(&self.shared.calls).join("\n  ");
            panic!("no call {:?} of {} in {timeout:?}; there were:\n  {calls}", self.rule.side, self.rule.calls);
        }
    }

    /// Calls that were held back.
    pub fn held(&self) -> u32 {
        self.rule.held.load(Ordering::SeqCst)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        lock(&self.shared.rules).retain(|rule| !Arc::ptr_eq(rule, &self.rule));
        self.shared.changed.send_replace(());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(shared: Arc<Shared>, listener: UnixListener) {
    // The connections end with this task.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let shared = shared.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| forward(shared.clone(), request));
                    let server = hyper::server::conn::http1::Builder::new();
                    // A caller that was killed is no error.
                    let _ = server.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn forward(shared: Arc<Shared>, mut request: Request<Incoming>) -> Result<Response<Incoming>, Failure> {
    let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let bare = path.strip_prefix("/v").and_then(|rest| rest.split_once('/')).map_or(path, |(_, rest)| rest);
    let call = format!("{} /{}", request.method(), bare.trim_start_matches('/'));
    lock(&shared.calls).push(call.clone());
    // Decided once for both sides, so that a call counts once for each rule.
    let rules: Vec<Arc<Rule>> = lock(&shared.rules).iter().filter(|rule| rule.applies(&call)).cloned().collect();
    hold(&shared, &rules, Side::Before).await;

    let stream = UnixStream::connect(&shared.engine).await?;
    let (mut engine, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with its stream, which ends with the answer's body or the upgraded connection.
    tokio::spawn(connection.with_upgrades());
    let caller = request.headers().contains_key(UPGRADE).then(|| hyper::upgrade::on(&mut request));
    let mut response = engine.send_request(request).await?;
    hold(&shared, &rules, Side::After).await;
    if let Some(caller) = caller.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS) {
        let engine = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            if let (Ok(caller), Ok(engine)) = tokio::join!(caller, engine) {
                let (mut caller, mut engine) = (TokioIo::new(caller), TokioIo::new(engine));
                let _ = tokio::io::copy_bidirectional(&mut caller, &mut engine).await;
            }
        });
    }
    Ok(response)
}

impl Rule {
    fn applies(&self, call: &str) -> bool {
        self.calls.is_match(call) && self.seen.fetch_add(1, Ordering::SeqCst) >= self.skip
    }
}

/// Waits until no rule holds this side of the call back any more.
async fn hold(shared: &Shared, rules: &[Arc<Rule>], side: Side) {
    let mut changed = shared.changed.subscribe();
    for rule in rules.iter().filter(|rule| rule.side == side) {
        rule.held.fetch_add(1, Ordering::SeqCst);
        shared.changed.send_replace(());
        loop {
            changed.borrow_and_update();
            if !lock(&shared.rules).iter().any(|active| Arc::ptr_eq(active, rule)) {
                break;
            }
            let _ = changed.changed().await;
        }
    }
}
