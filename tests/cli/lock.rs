//! One writes into a state folder at a time: a daemon, or a command while no daemon runs.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::{Daemon, Ended, Node, ONE, TWO, record, wait_for};

#[test]
fn a_daemon_that_is_not_found_is_not_taken_for_none() {
    let node = Node::with_servers();
    let daemon = Daemon::start_hidden(&node);
    let before = fs::read(node.server(ONE).join("record.json")).unwrap();
    node.write("one.yml", &record(ONE, "renamed"));
    for arguments in [&["delete", "-y", ONE][..], &["power", "start", ONE], &["apply", "-f", "one.yml"]] {
        let ended = node.run(arguments);
        assert!(ended.code == 1 && ended.out.is_empty(), "{arguments:?}: {ended:?}");
        for part in ["a daemon (pid ", "root/alula.sock", "elsewhere.yml", "--config"] {
            assert!(ended.err.contains(part), "{part:?}, {arguments:?}: {ended:?}");
        }
    }
    assert_eq!(fs::read(node.server(ONE).join("record.json")).unwrap(), before);
    assert!(node.config(ONE).contains("first"));

    // Who only reads is told, and served from the files.
    let ended = node.ok(&["get"]);
    assert!(ended.out.contains("first") && ended.err.contains("does not answer at"), "{ended:?}");
    assert!(!ended.err.contains("no daemon runs"), "{ended:?}");
    node.ok(&["apply", "--dry-run", "-f", "one.yml"]);

    let config = node.folder.path().join("elsewhere.yml");
    let mut command = node.bare_command();
    let ended = Ended::of(command.args(["power", "start", ONE, "--config"]).arg(config).output().unwrap());
    assert!(ended.code == 0 && ended.out.contains("start accepted"), "{ended:?}");
    daemon.end();
    node.ok(&["delete", "-y", ONE]);
}

#[test]
fn a_folder_has_one_daemon() {
    let node = Node::with_servers();
    let mut first = Daemon::start(&node);
    // Another socket does not make it another folder.
    let text = format!("system: {{root_directory: root, {}}}\nalula: {{socket: other.sock}}\n", super::SYSTEM);
    let config = node.write("elsewhere.yml", &text);
    let mut command = node.bare_command();
    let second = Ended::of(command.arg("--config").arg(config).output().unwrap());
    assert!(second.code == 1 && second.err.contains("another alula (pid "), "{second:?}");
    assert!(second.err.contains("stop it first") && second.err.contains("system.root_directory"), "{second:?}");
    assert!(!node.folder.path().join("other.sock").exists());
    node.ok(&["power", "start", ONE]);

    // The lock goes with the process, however it ends.
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let mode = node.root().join(".lock").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    Daemon::start(&node).end();
}

#[test]
fn commands_wait_for_each_other() {
    let node = Node::with_servers();
    let lock = File::options().write(true).open(node.root().join(".lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    // Whoever only reads waits for nobody.
    node.ok(&["get"]);
    let mut command = node.command(&["power", "start", ONE, TWO]);
    let mut waiting = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(waiting.try_wait().unwrap().is_none(), "it waits");
    assert!(!node.config(ONE).contains("want: up"));
    drop(lock);
    let ended = Ended::of(waiting.wait_with_output().unwrap());
    assert!(ended.code == 0 && node.config(TWO).contains("want: up"), "{ended:?}");
}

#[test]
fn a_command_that_keeps_the_folder_is_named() {
    let node = Node::with_servers();
    let lock = File::options().write(true).open(node.root().join(".lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let ended = node.run(&["delete", "-y", ONE]);
    assert!(ended.code == 1 && ended.err.contains("another command (pid "), "{ended:?}");
    node.write("root/config.yml", &format!("system: {{root_directory: ., {}}}\n", super::SYSTEM));
    let daemon = node.run(&["run"]);
    assert!(daemon.code == 1 && daemon.err.contains("start the daemon when it has ended"), "{daemon:?}");
    assert!(!node.root().join("wings.log").exists(), "nothing is written by who has no lock");
}

#[test]
fn files_that_are_still_being_typed_keep_nobody_waiting() {
    let node = Node::with_servers();
    let mut command = node.command(&["apply", "-f", "-"]);
    let mut typing = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // It has begun when its arguments can be seen.
    wait_for("the command", || fs::read(format!("/proc/{}/cmdline", typing.id())).is_ok_and(|line| !line.is_empty()));
    std::thread::sleep(Duration::from_millis(100));
    node.ok(&["power", "start", ONE]);
    typing.kill().unwrap();
    typing.wait().unwrap();
}
