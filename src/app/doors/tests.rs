//! Slow, idle and many clients, over streams in memory with paused time, and over real sockets.

use std::io;
use std::sync::Mutex;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::*;
use crate::api::Peer;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: node\r\n\r\n";
const LAST_REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n";

/// Answers with the client's name.
fn names_the_peer() -> Router {
    Router::new().route("/", get(|ConnectInfo(peer): ConnectInfo<Peer>| async move { peer.to_string() }))
}

/// The client's end of a connection that is served.
fn connect(router: Router) -> DuplexStream {
    let (client, server) = tokio::io::duplex(1 << 16);
    let (peer, tasks, end) = (Peer::Local { uid: 0 }, Tasks::new(), CancellationToken::new());
    let connection = Connection { peer, router, limits: Limits::API, tasks, end };
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
async fn a_client_that_is_silent_loses_its_connection() {
    let began = Instant::now();
    assert_eq!(rest(connect(names_the_peer())).await, "");
    assert_eq!(began.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_slow_with_its_head_loses_its_connection() {
    let began = Instant::now();
    let mut client = connect(names_the_peer());
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
    let mut client = connect(names_the_peer());
    for _ in 0..3 {
        client.write_all(REQUEST).await.unwrap();
        tokio::time::sleep(29 * SECOND).await;
    }
    client.write_all(REQUEST).await.unwrap();
    let began = Instant::now();
    assert_eq!(rest(client).await.matches("200 OK").count(), 4);
    assert_eq!(began.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_take_its_time() {
    let slow = || async {
        tokio::time::sleep(HOUR).await;
        let lines = futures_util::stream::unfold(0, |line| async move {
            tokio::time::sleep(HOUR).await;
            (line < 3).then(|| (Ok::<_, io::Error>(format!("line {line}\n")), line + 1))
        });
        Body::from_stream(lines)
    };
    let answer = ask(connect(Router::new().route("/", get(slow)))).await;
    assert!(answer.contains("200 OK") && answer.contains("line 2"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_http2_connection_is_closed_too() {
    let client = TokioIo::new(connect(names_the_peer()));
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), client).await.unwrap();
    let connection = tokio::spawn(connection);
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

/// A listener that is served, and where it is.
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
    let served = Served::with(Limits::API, names_the_peer()).await;
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
    let listener = Listener::Local(local(&path).unwrap());
    let acceptor = Acceptor::new(listener, names_the_peer(), Limits::API, tasks.clone());
    tasks.spawn_graceful("local api", |end| acceptor.run(end));
    let answer = ask(UnixStream::connect(&path).await.unwrap()).await;
    let uid = rustix::process::getuid().as_raw();
    assert!(answer.ends_with(&format!("\r\n\r\nlocal user {uid}")), "{answer}");
}

#[tokio::test]
async fn more_clients_than_connections_wait_for_their_turn() {
    let (entered, mut entries) = mpsc::unbounded_channel();
    let (inside, gate) = (Arc::new(Mutex::new((0, 0))), Arc::new(Semaphore::new(0)));
    let handler = {
        let (inside, gate) = (inside.clone(), gate.clone());
        move || async move {
            {
                let (now, most) = &mut *inside.lock().unwrap();
                *now += 1;
                *most = (*most).max(*now);
            }
            entered.send(()).unwrap();
            gate.acquire().await.unwrap().forget();
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
        gate.add_permits(1);
    }
    while let Some(answer) = clients.join_next().await {
        assert!(answer.as_ref().unwrap().ends_with("done"), "{answer:?}");
    }
    assert_eq!(*inside.lock().unwrap(), (0, 2));
}

#[tokio::test]
async fn an_idle_client_gives_way_to_one_that_waits() {
    let limits = Limits { connections: 1, idle: Duration::from_millis(50), ..Limits::API };
    let served = Served::with(limits, names_the_peer()).await;
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
    let gate = Arc::new(Semaphore::new(0));
    let handler = {
        let gate = gate.clone();
        move || async move {
            entered.send(()).unwrap();
            gate.acquire().await.unwrap().forget();
            "done"
        }
    };
    let served = Served::with(Limits::API, Router::new().route("/", get(handler))).await;
    let silent = served.connect().await;
    let asking = tokio::spawn(ask(served.connect().await));
    entries.recv().await.unwrap();
    let tasks = served.tasks.clone();
    let ended = tokio::spawn(async move { tasks.shutdown(HOUR).await });
    assert_eq!(rest(silent).await, "");
    assert!(!asking.is_finished() && !ended.is_finished());
    gate.add_permits(1);
    assert!(asking.await.unwrap().ends_with("done"));
    assert_eq!(ended.await.unwrap(), Vec::<String>::new());
    assert!(TcpStream::connect(served.address).await.is_err(), "the port is still open");
}
