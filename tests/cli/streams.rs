//! Streams that commands follow: events and logs from a daemon, and logs that are read without one.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc;

use serde_json::json;

use super::{Daemon, Follow, Node, ONE, TIMEOUT, TWO, wait_for};

/// A fake daemon, which returns each request with its connection.
struct Socket {
    requests: mpsc::Receiver<(String, UnixStream)>,
}

impl Socket {
    fn open(node: &Node) -> Self {
        let listener = UnixListener::bind(node.root().join("alula.sock")).unwrap();
        let (sender, requests) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                // A connection without a request only checks for a daemon.
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    continue;
                }
                let mut header = String::new();
                while reader.read_line(&mut header).unwrap() > 2 {
                    header.clear();
                }
                if sender.send((line, stream)).is_err() {
                    return;
                }
            }
        });
        Self { requests }
    }

    /// The next request, and the connection for its answer.
    fn next(&self) -> (String, UnixStream) {
        self.requests.recv_timeout(TIMEOUT).expect("another request")
    }

    /// Answers the next request with this body.
    fn answers(&self, path: &str, body: &str) {
        let (request, mut stream) = self.next();
        assert!(request.contains(path), "{request}");
        let length = body.len();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}").unwrap();
    }
}

fn send(stream: &mut UnixStream, uuid: &str, message: &str) {
    let event = json!({
        "uuid": uuid, "at": "2026-03-01T12:00:00Z", "type": "event", "number": 1_772_366_400_000u64, "reason": "LeftOut",
        "message": message, "count": 1,
    });
    let line = format!("{event}\n");
    write!(stream, "{:x}\r\n{line}\r\n", line.len()).unwrap();
}

#[test]
fn events_are_followed_by_one_request_and_not_by_asking_again() {
    let node = Node::with_servers();
    let servers = node.ok(&["get", "-o", "json"]).out;
    let socket = Socket::open(&node);
    let mut follow = Follow::start(node.command(&["events", "--follow", "-o", "json", ONE]));
    socket.answers("GET /local/servers ", &servers);
    let (request, mut stream) = socket.next();
    assert!(request.contains("GET /local/events?after="), "{request}");
    write!(stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
    for message in ["first", "second", "third"] {
        send(&mut stream, TWO, "of a server that was not named");
        send(&mut stream, ONE, message);
        assert_eq!(follow.next()["message"], message);
    }
    assert!(socket.requests.try_recv().is_err(), "nothing is asked while the answer goes on");

    // The daemon ends. The next one has an event that was printed already, and a new one.
    drop(stream);
    let (request, mut stream) = socket.next();
    assert!(request.contains("GET /local/events?after=1772366390000 "), "{request}");
    write!(stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
    send(&mut stream, ONE, "third");
    send(&mut stream, ONE, "fourth");
    assert_eq!(follow.next()["message"], "fourth");
}

#[test]
fn logs_are_read_from_the_files_where_no_daemon_runs() {
    let node = Node::with_servers();
    let none = node.ok(&["logs", ONE]);
    assert!(none.out.is_empty() && none.err.contains("no daemon runs on") && none.err.contains("printed nothing yet"));
    node.write(&format!("root/servers/{ONE}/logs/console.log"), "one\n\u{1b}[31mtwo\u{1b}[0m\nthree");
    let read = node.ok(&["logs", "550e8"]);
    assert_eq!(read.out, "one\n\u{1b}[31mtwo\u{1b}[0m\nthree", "as it is, where it is not read on a terminal");
    assert!(read.err.contains("this is what was written down last"), "{read:?}");
    assert_eq!(node.ok(&["logs", "--tail", "1", ONE]).out, "three");
    let lines = node.ok(&["logs", "--tail", "2", "-o", "json", ONE]).out;
    assert_eq!(
        lines,
        format!(
            "{}\n{}\n",
            json!({"uuid": ONE, "line": "\u{1b}[31mtwo\u{1b}[0m"}),
            json!({"uuid": ONE, "line": "three"})
        )
    );

    assert!(node.ok(&["logs", "--install", ONE]).err.contains("there is no install log"));
    let log =
        "Pelican Server Installation Log\n\n|\n| Script Output\n| ------------------------------\nfetching\n\ndone\n";
    fs::create_dir_all(node.root().join("install")).unwrap();
    for path in [format!("root/servers/{ONE}/install.log"), format!("root/install/{ONE}.log")] {
        node.write(&path, log);
    }
    assert_eq!(node.ok(&["logs", "--install", ONE]).out, "fetching\n\ndone\n");

    for arguments in [&["logs", "--follow", ONE][..], &["logs", "-f", "--install", ONE]] {
        let rejected = node.run(arguments);
        assert!(rejected.code == 1 && rejected.out.is_empty(), "{rejected:?}");
        assert!(rejected.err.contains("start it (`alula run`), or leave --follow out"), "{rejected:?}");
    }
    assert_eq!(node.run(&["logs"]).code, 2);
}

#[test]
fn logs_are_followed_until_the_daemon_ends() {
    let node = Node::with_servers();
    node.write(&format!("root/servers/{ONE}/logs/console.log"), "one\ntwo\n");
    let daemon = Daemon::start(&node);
    let read = node.ok(&["logs", "--tail", "1", ONE]);
    assert_eq!((read.out.as_str(), read.err.as_str()), ("two\n", ""));
    let mut follow = Follow::start(node.command(&["logs", "--follow", "-o", "json", ONE]));
    assert_eq!((follow.next()["line"].clone(), follow.next()["line"].clone()), (json!("one"), json!("two")));
    daemon.end();
    wait_for("the end of the stream", || follow.child.try_wait().unwrap().is_some());
    assert!(follow.child.wait().unwrap().success());
}
