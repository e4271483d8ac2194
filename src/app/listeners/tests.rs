//! Slow, idle and many clients, over streams in memory with paused time, and over real sockets.

use std::io;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::routing::{get, post};
use http_body_util::BodyExt;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::activity::Activity;
use super::connection::Connection;
use super::*;
use crate::api::Peer;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: node\r\n\r\n";
const LAST_REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n";

/// Answers with the client's name.
fn peer_name() -> Router {
    Router::new().route("/", get(|ConnectInfo(peer): ConnectInfo<Peer>| async move { peer.to_string() }))
}

/// The client's end of a connection that is served.
fn connect(router: Router) -> DuplexStream {
    connect_until(router, CancellationToken::new())
}

/// The same, until the daemon ends.
fn connect_until(router: Router, end: CancellationToken) -> DuplexStream {
    let (client, server) = tokio::io::duplex(1 << 10);
    let (peer, tasks, activity) = (Peer::Local { uid: 0 }, Tasks::new(), Activity::new());
    let server = activity.watch(server);
    let connection = Connection { peer, router, limits: Limits::API, tasks, activity, end };
    tokio::spawn(connection.serve(server));
    client
}

/// Reads until the connection is closed.
async fn rest(mut stream: impl AsyncRead + Unpin) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(24 * HOUR, stream.read_to_end(&mut bytes)).await;
    match read.expect("the connection stays open") {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => panic!("{error}"),
        _ => String::from_utf8_lossy(&bytes).into_owned(),
    }
}

/// Makes one request on a connection of its own.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> String {
    stream.write_all(LAST_REQUEST).await.unwrap();
    rest(stream).await
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_nothing_loses_its_connection() {
    let began = Instant::now();
    assert_eq!(rest(connect(peer_name())).await, "");
    assert_eq!(began.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_slow_with_its_head_loses_its_connection() {
    let began = Instant::now();
    let mut client = connect(peer_name());
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    while client.write_all(b"x-more: to come\r\n").await.is_ok() {
        tokio::time::sleep(SECOND).await;
        assert!(began.elapsed() < HOUR, "it is still served");
    }
    assert!((30..=31).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    let answer = rest(client).await;
    assert!(!answer.contains("200 OK"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_kept_for_a_while_between_requests() {
    let mut client = connect(peer_name());
    for _ in 0..3 {
        client.write_all(REQUEST).await.unwrap();
        tokio::time::sleep(29 * SECOND).await;
    }
    client.write_all(REQUEST).await.unwrap();
    let began = Instant::now();
    assert_eq!(rest(client).await.matches("200 OK").count(), 4);
    assert_eq!(began.elapsed().as_secs(), 30);
}

/// Answers after an hour, with one line per hour.
fn slow() -> Router {
    let slow = || async {
        tokio::time::sleep(HOUR).await;
        let lines = futures_util::stream::unfold(0, |line| async move {
            tokio::time::sleep(HOUR).await;
            (line < 3).then(|| (Ok::<_, io::Error>(format!("line {line}\n")), line + 1))
        });
        Body::from_stream(lines)
    };
    Router::new().route("/", get(slow))
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_is_not_cut() {
    let answer = ask(connect(slow())).await;
    assert!(answer.contains("200 OK") && answer.contains("line 2"), "{answer}");
    let (mut sender, _connection) = connect_http2(slow()).await;
    let request = http::Request::get("http://node/").body(Body::empty()).unwrap();
    let answer = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(answer, "line 0\nline 1\nline 2\n");
}

const UPLOAD: &[u8] = b"POST / HTTP/1.1\r\nhost: node\r\nconnection: close\r\ncontent-length: 10\r\n\r\n";

/// Works for an hour, then answers with the body that it was sent.
fn echo() -> Router {
    let echo = |request: axum::extract::Request| async {
        tokio::time::sleep(HOUR).await;
        request.into_body().collect().await.unwrap().to_bytes()
    };
    Router::new().route("/", post(echo))
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_send_its_body_loses_its_connection() {
    let began = Instant::now();
    let mut client = connect(echo());
    client.write_all(UPLOAD).await.unwrap();
    client.write_all(b"half").await.unwrap();
    let answer = rest(client).await;
    assert!(!answer.contains("200 OK"), "{answer}");
    let elapsed = began.elapsed() - HOUR;
    assert!((35..=66).contains(&elapsed.as_secs()), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_its_body_slowly_is_answered() {
    let mut client = connect(echo());
    client.write_all(UPLOAD).await.unwrap();
    tokio::time::sleep(HOUR).await;
    for byte in b"0123456789" {
        tokio::time::sleep(29 * SECOND).await;
        client.write_all(&[*byte]).await.unwrap();
    }
    let answer = rest(client).await;
    assert!(answer.contains("200 OK") && answer.ends_with("0123456789"), "{answer}");
}

type Http2 = (SendRequest<Body>, tokio::task::JoinHandle<hyper::Result<()>>);

/// An HTTP/2 client of this router.
async fn connect_http2(router: Router) -> Http2 {
    let client = TokioIo::new(connect(router));
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), client).await.unwrap();
    (sender, tokio::spawn(connection))
}

#[tokio::test(start_paused = true)]
async fn an_idle_http2_connection_is_closed_too() {
    let (mut sender, connection) = connect_http2(peer_name()).await;
    for _ in 0..3 {
        let request = http::Request::get("http://node/").body(Body::empty()).unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
        tokio::time::sleep(29 * SECOND).await;
        assert!(!connection.is_finished());
    }
    let began = Instant::now();
    tokio::time::timeout(HOUR, connection).await.expect("it stays open").unwrap().unwrap();
    assert_eq!(began.elapsed().as_secs(), 1);
}

/// An answer in one piece, or in many, that does not fit on the way to the client.
fn large() -> Router {
    let chunks = || futures_util::stream::iter((0..64).map(|_| Ok::<_, io::Error>("#".repeat(1 << 10))));
    Router::new()
        .route("/", get(|| async { "#".repeat(1 << 16) }))
        .route("/chunks", get(move || async move { Body::from_stream(chunks()) }))
}

/// The beginning of HTTP/2, with no room for any answer; then one request.
fn http2_without_window(path: &str) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS: INITIAL_WINDOW_SIZE = 0.
    bytes.extend([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
    // HEADERS of stream 1, the last ones: GET, http, the path, the authority.
    let head = [&[0x82, 0x86, 0x04, path.len() as u8], path.as_bytes(), &[0x01, 4], b"node"].concat();
    bytes.extend([0, 0, head.len() as u8, 1, 5, 0, 0, 0, 1]);
    bytes.extend(head);
    bytes
}

#[tokio::test(start_paused = true)]
async fn an_http2_client_without_room_for_its_answer_loses_its_connection() {
    for path in ["/", "/chunks"] {
        let began = Instant::now();
        let mut client = connect(large());
        client.write_all(&http2_without_window(path)).await.unwrap();
        let answer = rest(client).await;
        assert!(!answer.contains("###"), "{answer}");
        assert_eq!(began.elapsed().as_secs(), 35, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_loses_its_connection() {
    for path in ["/", "/chunks"] {
        let mut client = connect(large());
        client.write_all(format!("GET {path} HTTP/1.1\r\nhost: node\r\n\r\n").as_bytes()).await.unwrap();
        tokio::time::sleep(36 * SECOND).await;
        assert!(rest(client).await.len() <= 1 << 10, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_the_whole_answer() {
    for path in ["/", "/chunks"] {
        let mut client = connect(large());
        client.write_all(format!("GET {path} HTTP/1.1\r\nhost: node\r\n\r\n").as_bytes()).await.unwrap();
        let (mut answer, mut piece) = (Vec::<u8>::new(), [0; 1 << 9]);
        loop {
            // Also while the connection is being closed: it is for lack of a next request only.
            tokio::time::sleep(4 * SECOND).await;
            match client.read(&mut piece).await.unwrap() {
                0 => break,
                read => answer.extend(&piece[..read]),
            }
        }
        assert_eq!(answer.iter().filter(|byte| **byte == b'#').count(), 1 << 16, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn at_the_end_an_idle_client_is_dropped() {
    for bytes in [b"GET / HTTP/1.1\r\nhost:".to_vec(), http2_without_window("/")] {
        for idle in [false, true] {
            let end = CancellationToken::new();
            let mut client = connect_until(large(), end.clone());
            client.write_all(&bytes).await.unwrap();
            // With the idle ones, in the middle of their being closed.
            tokio::time::sleep(if idle { 31 * SECOND } else { SECOND }).await;
            end.cancel();
            let ended = Instant::now();
            rest(client).await;
            assert!(ended.elapsed().as_secs() <= 1, "{:?}", ended.elapsed());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn at_the_end_a_reader_gets_the_whole_answer() {
    let end = CancellationToken::new();
    let mut client = connect_until(large(), end.clone());
    client.write_all(REQUEST).await.unwrap();
    let mut answer = vec![0; 1 << 9];
    client.read_exact(&mut answer).await.unwrap();
    end.cancel();
    let mut piece = [0; 1 << 9];
    loop {
        tokio::time::sleep(SECOND / 2).await;
        match client.read(&mut piece).await.unwrap() {
            0 => break,
            read => answer.extend(&piece[..read]),
        }
    }
    assert_eq!(answer.iter().filter(|byte| **byte == b'#').count(), 1 << 16);
}

/// A served listener.
struct Served {
    address: std::net::SocketAddr,
    tasks: Tasks,
}

impl Served {
    async fn with(limits: Limits, router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, tasks) = (listener.local_addr().unwrap(), Tasks::new());
        let acceptor = Acceptor::new(Listener::Tcp(listener, None), router, limits, tasks.clone());
        tasks.spawn_graceful("api", |end| acceptor.run(end));
        Self { address, tasks }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

#[tokio::test]
async fn handlers_find_the_clients_address() {
    let served = Served::with(Limits::API, peer_name()).await;
    let client = served.connect().await;
    let address = client.local_addr().unwrap().to_string();
    let answer = ask(client).await;
    assert!(answer.ends_with(&format!("\r\n\r\n{address}")), "{answer}");
}

#[tokio::test]
async fn handlers_find_the_local_user() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alula.sock");
    let tasks = Tasks::new();
    let listener = Listener::Local(local(&path, &SocketAccess { group: None, mode: OWN_MODE }).unwrap());
    let acceptor = Acceptor::new(listener, peer_name(), Limits::API, tasks.clone());
    tasks.spawn_graceful("local api", |end| acceptor.run(end));
    let answer = ask(UnixStream::connect(&path).await.unwrap()).await;
    let uid = rustix::process::getuid().as_raw();
    assert!(answer.ends_with(&format!("\r\n\r\nlocal user {uid}")), "{answer}");
}

#[tokio::test]
async fn clients_above_the_limit_wait_for_a_connection() {
    let (entered, mut entries) = mpsc::unbounded_channel();
    let (inside, permits) = (Arc::new(Mutex::new((0, 0))), Arc::new(Semaphore::new(0)));
    let handler = {
        let (inside, permits) = (inside.clone(), permits.clone());
        move || async move {
            {
                let (now, most) = &mut *inside.lock().unwrap();
                *now += 1;
                *most = (*most).max(*now);
            }
            entered.send(()).unwrap();
            permits.acquire().await.unwrap().forget();
            inside.lock().unwrap().0 -= 1;
            "done"
        }
    };
    let limits = Limits { connections: 2, ..Limits::API };
    let served = Served::with(limits, Router::new().route("/", get(handler))).await;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..6 {
        clients.spawn(ask(served.connect().await));
    }
    for _ in 0..6 {
        entries.recv().await.unwrap();
        // Without a limit the others come in meanwhile: this runtime has one thread.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        permits.add_permits(1);
    }
    while let Some(answer) = clients.join_next().await {
        assert!(answer.as_ref().unwrap().ends_with("done"), "{answer:?}");
    }
    assert_eq!(*inside.lock().unwrap(), (0, 2));
}

#[tokio::test]
async fn a_waiting_client_gets_the_connection_of_an_idle_one() {
    let limits = Limits { connections: 1, idle: Duration::from_millis(50), ..Limits::API };
    let served = Served::with(limits, peer_name()).await;
    let mut idle = served.connect().await;
    idle.write_all(REQUEST).await.unwrap();
    idle.readable().await.unwrap();
    let answer = ask(served.connect().await).await;
    assert!(answer.contains("200 OK"), "{answer}");
    assert!(rest(idle).await.contains("200 OK"));
}

#[tokio::test]
async fn at_the_end_requests_are_answered_and_idle_connections_closed() {
    let (entered, mut entries) = mpsc::unbounded_channel();
    let permits = Arc::new(Semaphore::new(0));
    let handler = {
        let permits = permits.clone();
        move || async move {
            entered.send(()).unwrap();
            permits.acquire().await.unwrap().forget();
            "done"
        }
    };
    let served = Served::with(Limits::API, Router::new().route("/", get(handler))).await;
    let idle = served.connect().await;
    let asking = tokio::spawn(ask(served.connect().await));
    entries.recv().await.unwrap();
    let tasks = served.tasks.clone();
    let ended = tokio::spawn(async move { tasks.shutdown(HOUR).await });
    assert_eq!(rest(idle).await, "");
    assert!(!asking.is_finished() && !ended.is_finished());
    permits.add_permits(1);
    assert!(asking.await.unwrap().ends_with("done"));
    assert_eq!(ended.await.unwrap(), Vec::<String>::new());
    assert!(TcpStream::connect(served.address).await.is_err(), "the port is still open");
}
