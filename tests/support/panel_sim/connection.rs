//! The simulator's thread: it accepts and records requests, applies faults, stops and starts again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc as async_mpsc;
use tokio::task::JoinSet;

use super::answers::{self, error};
use super::faults::{Fault, Rule};
use super::{Recorded, Shared};

/// A command to the thread, which answers when it is done.
pub(super) enum Control {
    Pause(mpsc::Sender<()>),
    Resume(mpsc::Sender<()>),
}

/// Listens on the port of `reserved`, which is bound and not listening: while nothing listens, connections are refused, and no other
/// program can bind the port.
pub(super) fn run(
    shared: &Arc<Shared>,
    reserved: TcpSocket,
    listens: &mpsc::Sender<()>,
    orders: async_mpsc::UnboundedReceiver<Control>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let address = reserved.local_addr().expect("a bound socket");
        let listener = listen(address);
        listens.send(()).expect("the test");
        serve(shared, listener, address, orders).await;
    });
}

async fn serve(
    shared: &Arc<Shared>,
    listener: TcpListener,
    address: SocketAddr,
    mut orders: async_mpsc::UnboundedReceiver<Control>,
) {
    let (mut listener, mut connections) = (Some(listener), JoinSet::new());
    loop {
        tokio::select! {
            stream = accept(listener.as_ref()) => {
                connections.spawn(converse(shared.clone(), stream));
            }
            Some(_) = connections.join_next() => {}
            order = orders.recv() => match order {
                None => return,
                Some(Control::Pause(done)) => {
                    listener = None;
                    connections.shutdown().await;
                    let _ = done.send(());
                }
                Some(Control::Resume(done)) => {
                    listener = listener.or_else(|| Some(listen(address)));
                    let _ = done.send(());
                }
            },
        }
    }
}

/// A socket that shares its port with those of the same kind.
pub(super) fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("a socket");
    socket.set_reuseport(true).expect("a socket");
    socket.bind(address).expect("a free or reserved port");
    socket
}

fn listen(address: SocketAddr) -> TcpListener {
    bind(address).listen(1024).expect("a bound socket")
}

async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    match listener {
        None => std::future::pending().await,
        Some(listener) => loop {
            if let Ok((stream, _)) = listener.accept().await {
                return stream;
            }
            tokio::task::yield_now().await;
        },
    }
}

async fn converse(shared: Arc<Shared>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| answer(shared.clone(), request));
    // A fault that drops the connection ends here as an error.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("dropped by a fault")]
struct Dropped;

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Dropped> {
    let (index, rule) = record(&shared, request).await;
    if let Some(rule) = &rule {
        tokio::time::sleep(rule.fault.delay).await;
        if rule.fault.held {
            until_it_ends(&shared, rule).await;
        }
        if rule.fault.dropped {
            shared.lock().requests[index].answered = Some(Instant::now());
            return Err(Dropped);
        }
    }
    let fault = rule.as_ref().map(|rule| &rule.fault);
    let response = match fault.filter(|fault| fault.status.is_some() || fault.body.is_some()) {
        Some(fault) => faulty(fault),
        None => answers::answer(&shared, index),
    };
    let mut call_log = shared.lock();
    call_log.requests[index].status = Some(response.status().as_u16());
    call_log.requests[index].answered = Some(Instant::now());
    drop(call_log);
    shared.changed.send_replace(());
    Ok(response)
}

/// Records the request and selects its fault, both under one lock.
async fn record(shared: &Shared, request: Request<Incoming>) -> (usize, Option<Arc<Rule>>) {
    let at = Instant::now();
    let (head, body) = request.into_parts();
    let body = Limited::new(body, 32 << 20).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let path = head.uri.path().strip_prefix("/api/remote").unwrap_or(head.uri.path()).to_owned();
    let query: BTreeMap<String, String> =
        url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let method = head.method.to_string();
    let mut call_log = shared.lock();
    let index = call_log.requests.len();
    let rule = call_log.faults.iter().find(|rule| rule.take(&method, &path)).cloned();
    let headers = head.headers;
    let faulted = rule.is_some();
    call_log.requests.push(Recorded {
        index,
        at,
        method,
        path,
        query,
        headers,
        body,
        status: None,
        answered: None,
        faulted,
    });
    drop(call_log);
    shared.changed.send_replace(());
    (index, rule)
}

async fn until_it_ends(shared: &Shared, rule: &Arc<Rule>) {
    let mut changed = shared.changed.subscribe();
    loop {
        changed.borrow_and_update();
        if !shared.lock().faults.iter().any(|active| Arc::ptr_eq(active, rule)) {
            return;
        }
        let _ = changed.changed().await;
    }
}

fn faulty(fault: &Fault) -> Response<Full<Bytes>> {
    let status = fault.status.unwrap_or(200);
    let mut response = match fault.body.clone() {
        Some(body) => Response::new(Full::new(body)),
        None if status >= 400 => error(status, "InjectedFault", "A fault of the test."),
        None => Response::new(Full::default()),
    };
    *response.status_mut() = status.try_into().expect("a status");
    response.headers_mut().extend(fault.headers.iter().cloned());
    response
}
