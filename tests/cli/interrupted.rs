//! Commands about several servers whose reader or daemon ends in between.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use serde_json::Value;

use super::{Daemon, Ended, Node, ONE, TWO, record};

/// Runs a command whose standard output is closed.
fn with_closed_output(node: &Node, arguments: &[&str]) -> Ended {
    let mut child = node.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Closed before anything is written to it, as by `| head -0`.
    drop(child.stdout.take());
    Ended::of(child.wait_with_output().unwrap())
}

#[test]
fn a_closed_pipe_does_not_stop_a_command() {
    let node = Node::with_servers();
    let daemon = Daemon::start(&node);
    let ended = with_closed_output(&node, &["power", "start", ONE, TWO]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!((node.verbs(ONE), node.verbs(TWO)), (vec!["start".to_owned()], vec!["start".to_owned()]));
    let ended = with_closed_output(&node, &["delete", "-y", ONE, TWO]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!((node.verbs(ONE), node.verbs(TWO)), (vec!["delete".to_owned()], vec!["delete".to_owned()]));
    for format in ["table", "json"] {
        let rejected = with_closed_output(&node, &["power", "start", ONE, TWO, "-o", format]);
        assert_eq!((rejected.code, rejected.err.matches("being deleted").count()), (1, 2), "{rejected:?}");
        let rejected = with_closed_output(&node, &["apply", "-f", "one.yml", "-f", "two.yml", "-o", format]);
        assert_eq!((rejected.code, rejected.err.matches("being deleted").count()), (1, 2), "{rejected:?}");
    }
    daemon.end();
}

#[test]
fn a_closed_pipe_hides_no_invalid_file() {
    let node = Node::new();
    node.write("good.yml", &record(ONE, "first"));
    node.write("bad.yml", "half an ed");
    for arguments in [&["validate", "good.yml", "bad.yml"][..], &["apply", "-f", "good.yml", "-f", "bad.yml"]] {
        for format in ["table", "json"] {
            let arguments = [arguments, &["-o", format]].concat();
            let ended = with_closed_output(&node, &arguments);
            assert_eq!(ended.code, 1, "{arguments:?}: {ended:?}");
            assert!(format == "json" || ended.err.contains("error: bad.yml"), "{arguments:?}: {ended:?}");
        }
    }
    assert_eq!(with_closed_output(&node, &["validate", "good.yml"]).code, 0);
    assert!(!node.root().exists());
}

/// A program at the daemon's socket that lists servers, answers one write request, and closes the connection on every other.
fn daemon_that_ends_early(node: &Node) {
    let servers = node.ok(&["get", "-o", "json"]).out;
    let listener = UnixListener::bind(node.root().join("alula.sock")).unwrap();
    std::thread::spawn(move || {
        let mut answered = false;
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut part = [0; 4096];
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut part) {
                    Ok(length) if length > 0 => request.extend_from_slice(&part[..length]),
                    _ => break,
                }
            }
            let body = match request.first() {
                Some(b'G') => &servers,
                Some(_) if !std::mem::replace(&mut answered, true) => "{\"result\": \"changed\"}",
                _ => continue,
            };
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all((head + body).as_bytes());
        }
    });
}

#[test]
fn results_are_printed_although_the_daemon_ends() {
    for arguments in [
        &["power", "stop", ONE, TWO, "aaaa"][..],
        &["delete", "--yes", ONE, TWO, "aaaa"],
        &["apply", "-f", "one.yml", "-f", "two.yml", "-f", "three.yml"],
    ] {
        let node = Node::with_servers();
        let three = ONE.replace("550e8400", "aaaa8400");
        node.write("three.yml", &record(&three, "third"));
        node.write(&format!("root/servers/{three}/config.yml"), &record(&three, "third"));
        let written = fs::read(node.root().join("servers").join(TWO).join("config.yml")).unwrap();
        daemon_that_ends_early(&node);
        let ended = node.run(&[arguments, &["-o", "json"]].concat());
        assert_eq!(ended.code, 1, "{arguments:?}: {ended:?}");
        let done: Value = serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
        let done = done.as_array().unwrap();
        assert_eq!(done.len(), 2, "{done:?}");
        assert!(done[0]["uuid"] == ONE && done[0]["error"].is_null() && done[0]["result"] != "failed", "{done:?}");
        assert!(done[1]["uuid"] == TWO && done[1]["result"] == "failed", "{done:?}");
        assert!(done[1]["error"].as_str().unwrap().contains("the daemon cannot be asked"), "{done:?}");
        assert!(ended.err.starts_with("error: ") && ended.err.contains("1 more"), "{ended:?}");
        assert_eq!(fs::read(node.server(TWO).join("config.yml")).unwrap(), written);
    }
}

#[test]
fn the_error_names_results_before_the_daemon_ended() {
    let node = Node::with_servers();
    daemon_that_ends_early(&node);
    let ended = node.run(&["power", "stop", ONE, TWO]);
    assert!(ended.code == 1 && ended.out.contains("stop accepted") && ended.out.lines().count() == 1, "{ended:?}");
    assert!(ended.err.contains(&format!("error: {TWO}: the daemon cannot be asked")), "{ended:?}");
}
