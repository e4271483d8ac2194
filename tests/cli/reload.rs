//! The configuration file changes while the daemon runs.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::{Daemon, Node, SYSTEM, wait_for};

/// The status of a request with this token.
fn status(port: u16, token: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let request =
        format!("GET /api/system HTTP/1.1\r\nhost: node\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn a_changed_token_applies_without_a_restart() {
    let node = Node::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = |token: &str, port: u16| {
        format!(
            "token_id: a\ntoken: {token}\napi: {{host: 127.0.0.1, port: {port}}}\n\
             system: {{root_directory: root, {SYSTEM}}}\n"
        )
    };
    let path = node.write("node.yml", &text("one", port));
    let mut command = node.bare_command();
    command.arg("--config").arg(&path);
    let daemon = Daemon::of(command, &node.root().join("alula.sock"));
    let get = || node.bare_command().args(["get", "--config"]).arg(&path).output().unwrap();
    let troubles = || String::from_utf8(get().stderr).unwrap();
    assert_eq!((status(port, "one").as_str(), status(port, "two").as_str()), ("200", "403"));

    fs::write(&path, text("two", port)).unwrap();
    wait_for("the new token", || status(port, "two") == "200");
    assert_eq!(status(port, "one"), "403");

    // A file with the token, which is replaced.
    let token = node.write("token", "three\n");
    fs::write(&path, text(&format!("file://{}", token.display()), port)).unwrap();
    wait_for("the token of the file", || status(port, "three") == "200");
    node.write("new", "four\n");
    fs::rename(node.folder.path().join("new"), &token).unwrap();
    wait_for("the changed token of the file", || status(port, "four") == "200");

    // An invalid file changes nothing, and the node says so.
    fs::write(&path, "token: [").unwrap();
    wait_for("the condition", || troubles().contains("node.yml:1:"));
    assert_eq!(status(port, "four"), "200");
    fs::write(&path, text("five", 1)).unwrap();
    wait_for("the condition", || troubles().contains("api.port changed, which needs a restart of the daemon"));
    assert_eq!(status(port, "five"), "200");
    fs::write(&path, text("six", port)).unwrap();
    wait_for("the end of the condition", || !troubles().contains("ConfigurationApplied"));
    daemon.end();
}

/// The status and the body of a push with this token.
fn push(port: u16, token: &str, body: &str) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let length = body.len();
    let request = format!(
        "POST /api/update HTTP/1.1\r\nhost: node\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().to_owned(), body.to_owned())
}

#[test]
fn the_panel_pushes_a_configuration() {
    let node = Node::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!(
        "# Ours.\ntoken_id: a\ntoken: one # secret\napi: {{host: 127.0.0.1, port: {port}}}\n\
         system: {{root_directory: root, {SYSTEM}}}\n"
    );
    let path = node.write("node.yml", &text);
    let mut command = node.bare_command();
    command.arg("--config").arg(&path);
    let daemon = Daemon::of(command, &node.root().join("alula.sock"));
    let applied = |applied: bool| ("200".to_owned(), format!("{{\"applied\":{applied}}}"));

    // A rotated token counts as soon as the panel has its answer.
    let body = r#"{"token": "two", "system": {"data": "/elsewhere"}, "allowed_mounts": ["/"]}"#;
    assert_eq!(push(port, "one", body), applied(true));
    assert_eq!((status(port, "one").as_str(), status(port, "two").as_str()), ("403", "200"));
    assert_eq!(fs::read_to_string(&path).unwrap(), text.replace("one", "two"));

    // What cannot be applied undoes nothing on the panel.
    for body in ["[]", "null", r#"{"token": 5}"#, r#"{"api": {"port": 70000}}"#] {
        assert_eq!(push(port, "two", body), applied(false), "{body}");
    }
    for body in ["", "{", "token"] {
        assert_eq!(push(port, "two", body).0, "400", "{body}");
    }
    assert_eq!(push(port, "two", "{}"), applied(true));
    assert_eq!(push(port, "wrong", "{}").0, "403");
    assert_eq!(fs::read_to_string(&path).unwrap(), text.replace("one", "two"));

    // A change that needs a restart is on disk, and the node says so.
    assert_eq!(push(port, "two", r#"{"debug": true}"#), applied(true));
    assert!(fs::read_to_string(&path).unwrap().contains("debug: true"));
    let get = node.bare_command().args(["get", "--config"]).arg(&path).output().unwrap();
    let troubles = String::from_utf8(get.stderr).unwrap();
    assert!(troubles.contains("debug changed, which needs a restart of the daemon"), "{troubles}");
    daemon.end();
}

#[test]
fn a_signal_opens_the_log_again_and_reads_the_configuration() {
    let node = Node::new();
    let daemon = Daemon::start(&node);
    let log = node.root().join("wings.log");
    let pid = rustix::process::Pid::from_child(&daemon.child);
    // Another key each time: the same reason is logged once.
    for (signal, key) in [(rustix::process::Signal::USR1, "debug"), (rustix::process::Signal::HUP, "quiet")] {
        let rotated = node.root().join(format!("wings.log.{}", signal.as_raw()));
        fs::rename(&log, &rotated).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        // The next line, whichever it is, is in a new file.
        let config = node.root().join("config.yml");
        fs::write(&config, format!("{}{key}: true\n", fs::read_to_string(&config).unwrap())).unwrap();
        wait_for("the new log", || {
            fs::read_to_string(&log)
                .is_ok_and(|text| text.contains("the configuration on disk is not the one in effect"))
        });
        assert!(!fs::read_to_string(&rotated).unwrap().is_empty());
    }
    daemon.end();
}
