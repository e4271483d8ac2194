//! `alula validate` finds what keeps the daemon from starting on this host.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::{Daemon, Ended, Node, SYSTEM, listing};

/// A file of a node that serves its API on a port of this host.
fn config(port: u32, system: &str, alula: &str) -> String {
    format!(
        "token_id: a\ntoken: b\napi: {{host: 127.0.0.1, port: {port}}}\n\
         system: {{root_directory: root, {SYSTEM}{system}}}\nalula: {{{alula}}}\n"
    )
}

/// What `validate` and the start print about the same file.
fn both(node: &Node, text: &str) -> [Ended; 2] {
    node.write("node.yml", text);
    let run = |arguments: &[&str]| Ended::of(node.bare_command().args(arguments).output().unwrap());
    [run(&["validate", "node.yml"]), run(&["run", "--config", "node.yml"])]
}

#[test]
fn what_keeps_the_daemon_from_starting_is_found_by_validate() {
    let node = Node::new();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().port().into();
    node.write("file", "");
    std::os::unix::fs::symlink("nowhere", node.folder.path().join("dangling")).unwrap();
    let _other = UnixListener::bind(node.folder.path().join("other.sock")).unwrap();
    let long = format!("socket: {}/alula.sock", "long/".repeat(24));
    for (text, key, message) in [
        (config(taken, "", ""), "api.port", "cannot listen on 127.0.0.1"),
        (config(0, "", "").replace("127.0.0.1", "no-such-host.invalid"), "api.host", "no-such-host.invalid"),
        (config(0, ", backup_directory: file/backups", ""), "system.backup_directory", "file"),
        (config(0, ", data: file", ""), "system.data", "file"),
        (config(0, ", tmp_directory: dangling/tmp", ""), "system.tmp_directory", "dangling"),
        (config(0, "", "socket: file/alula.sock"), "alula.socket", "file"),
        (config(0, "", "socket: other.sock"), "alula.socket", "answers already"),
        (config(0, "", &long), "alula.socket", "at most 107"),
        (config(0, "", "socket_mode: '0999'"), "alula.socket_mode", "0999"),
        (config(70000, "", ""), "api.port", "70000"),
    ] {
        let [validated, started] = both(&node, &text);
        assert!(validated.code == 1 && started.code == 1, "{key}: {validated:?} {started:?}");
        for ended in [&validated, &started] {
            assert!(ended.err.contains(key) && ended.err.contains(message), "{key}: {ended:?}");
        }
        // In the form of compilers, with the line of the key where the file has it.
        assert!(validated.err.contains("node.yml:"), "{validated:?}");
    }
}

#[test]
fn validate_changes_nothing_and_lists_every_problem() {
    let node = Node::new();
    node.write("file", "");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = config(taken.local_addr().unwrap().port().into(), ", data: file/a, backup_directory: file/b", "");
    node.write("node.yml", &text);
    let before = listing(node.folder.path());
    let ended = Ended::of(node.bare_command().args(["validate", "node.yml"]).output().unwrap());
    assert_eq!(ended.code, 1);
    assert_eq!(ended.err.lines().filter(|line| line.starts_with("error: ")).count(), 3, "{ended:?}");
    assert_eq!(listing(node.folder.path()), before);
}

#[test]
fn the_sockets_of_the_nodes_own_daemon_are_no_problem() {
    let node = Node::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let path = node.write("node.yml", &config(free.into(), "", ""));
    let mut command = node.bare_command();
    command.arg("--config").arg(&path);
    let daemon = Daemon::of(command, &node.root().join("alula.sock"));
    let validate = |path: &Path| Ended::of(node.bare_command().arg("validate").arg(path).output().unwrap());
    let ended = validate(&path);
    assert!(ended.code == 0, "{ended:?}");
    // Another node may not have its port.
    let other = node.write("other.yml", &fs::read_to_string(&path).unwrap().replace("directory: root", "directory: b"));
    let ended = validate(&other);
    assert!(ended.code == 1 && ended.err.contains("api.port"), "{ended:?}");
    daemon.end();
}
