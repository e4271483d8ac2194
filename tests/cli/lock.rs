//! One daemon writes into a state folder; commands call it, or read the files.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use rustix::fs::{FlockOperation, flock};

use super::{Daemon, Ended, Node, ONE, TWO, listing, record};

/// More bytes than a pipe holds: writing them ends only if the command reads.
const MORE_THAN_A_PIPE: usize = 256 * 1024;

#[test]
fn a_daemon_with_another_socket_is_noticed() {
    let node = Node::with_servers();
    let daemon = Daemon::start_hidden(&node);
    node.write("one.yml", &record(ONE, "renamed"));
    for arguments in [&["delete", "-y", ONE][..], &["power", "start", ONE], &["apply", "-f", "one.yml"]] {
        let ended = node.run(arguments);
        assert!(ended.code == 1 && ended.out.is_empty(), "{arguments:?}: {ended:?}");
        for part in ["a daemon (pid ", "root/alula.sock", "elsewhere.yml", "--config"] {
            assert!(ended.err.contains(part), "{part:?}, {arguments:?}: {ended:?}");
        }
    }
    assert_eq!(node.config(ONE), record(ONE, "first"));

    // Commands that only read print a warning, and read the files.
    let ended = node.ok(&["get"]);
    assert!(ended.out.contains("first") && ended.err.contains("does not answer at"), "{ended:?}");
    assert!(!ended.err.contains("no daemon runs"), "{ended:?}");

    let config = node.folder.path().join("elsewhere.yml");
    let mut command = node.bare_command();
    let ended = Ended::of(command.args(["power", "start", ONE, "--config"]).arg(config).output().unwrap());
    assert!(ended.code == 0 && ended.out.contains("start accepted"), "{ended:?}");
    daemon.end();
}

#[test]
fn a_folder_has_one_daemon() {
    let node = Node::with_servers();
    let mut first = Daemon::start(&node);
    // The folder is the same with another socket.
    let text = format!("system: {{root_directory: root, {}}}\nalula: {{socket: other.sock}}\n", super::SYSTEM);
    let config = node.write("elsewhere.yml", &text);
    let mut command = node.bare_command();
    let second = Ended::of(command.arg("--config").arg(config).output().unwrap());
    assert!(second.code == 1 && second.err.contains("another alula (pid "), "{second:?}");
    assert!(second.err.contains("stop it first") && second.err.contains("system.root_directory"), "{second:?}");
    assert!(!node.folder.path().join("other.sock").exists());
    node.ok(&["power", "start", ONE]);

    // The lock is released with the end of the process, also after SIGKILL.
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let mode = node.root().join(".lock").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    Daemon::start(&node).end();
}

#[test]
fn commands_that_read_take_no_lock_and_change_no_file() {
    let node = Node::with_servers();
    // A damaged file and a leftover of a writer, which the daemon cleans up.
    node.write(&format!("root/servers/{ONE}/record.json"), "{");
    node.write(&format!("root/servers/{ONE}/.config.yml.0a1b2c3d.tmp"), "half");
    let reads = || {
        let before = listing(&node.root());
        for arguments in [&["get"][..], &["describe", ONE], &["plan"], &["events"]] {
            let ended = node.ok(arguments);
            assert!(ended.err.contains("no daemon runs"), "{arguments:?}: {ended:?}");
        }
        assert_eq!(listing(&node.root()), before);
    };
    reads();
    // Held by a process that has not written its pid.
    let lock = File::create(node.root().join(".lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    reads();
    node.write("elsewhere.yml", &format!("system: {{root_directory: root, {}}}\n", super::SYSTEM));
    let rejected = Ended::of(node.bare_command().args(["run", "--config", "elsewhere.yml"]).output().unwrap());
    assert!(rejected.code == 1 && rejected.err.contains("another alula runs on the state folder"), "{rejected:?}");
    assert!(!node.root().join("wings.log").exists(), "nothing is written without the lock");
}

#[test]
fn a_file_that_is_still_being_typed_blocks_no_other_command() {
    let node = Node::with_servers();
    let mut command = node.command(&["apply", "-f", "-"]);
    let typing = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut typing = typing.unwrap();
    let mut keyboard = typing.stdin.take().unwrap();
    keyboard.write_all(record(ONE, "typed").as_bytes()).unwrap();
    keyboard.write_all("# and so on\n".repeat(MORE_THAN_A_PIPE / 12).as_bytes()).unwrap();
    // It reads by now. Neither a daemon nor another command waits for it.
    let daemon = Daemon::start(&node);
    node.ok(&["power", "start", TWO]);
    assert!(typing.try_wait().unwrap().is_none());
    drop(keyboard);
    let ended = Ended::of(typing.wait_with_output().unwrap());
    assert!(ended.code == 0 && node.config(ONE).contains("typed"), "{ended:?}");
    daemon.end();
}
