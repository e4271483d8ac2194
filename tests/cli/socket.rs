//! The socket: who may use it, and commands that know nothing but its path.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use super::{Daemon, Ended, Node, ONE, SYSTEM, TWO, record};

/// A user and a group without rights of their own.
const USER: u32 = 65_534;
const GROUP: u32 = 4711;

/// A daemon whose socket is outside of its state folder, with more keys in `alula:`.
fn start(node: &Node, keys: &str) -> (Daemon, PathBuf) {
    let socket = node.folder.path().join("run/alula.sock");
    let text = format!(
        "system: {{root_directory: root, {SYSTEM}}}\nalula: {{socket: {}{keys}}}\n",
        socket.strip_prefix(node.folder.path()).unwrap().display()
    );
    let config = node.write("elsewhere.yml", &text);
    let mut command = node.bare_command();
    command.arg("--config").arg(config);
    (Daemon::of(command, &socket), socket)
}

#[test]
fn a_socket_is_enough_for_every_command() {
    let node = Node::with_servers();
    let (daemon, socket) = start(&node, "");
    let run = |arguments: &[&str]| Ended::of(node.bare_command().args(arguments).output().unwrap());
    let named = socket.to_str().unwrap();
    fs::remove_file(node.folder.path().join("elsewhere.yml")).unwrap();
    fs::create_dir(node.root().join("servers/notes")).unwrap();
    for arguments in [&["get"][..], &["describe", "first"], &["plan"], &["events"], &["power", "start", ONE]] {
        let ended = run(&[arguments, &["--socket", named]].concat());
        assert!(ended.code == 0 && !ended.err.contains("no daemon"), "{arguments:?}: {ended:?}");
    }
    node.write("one.yml", &record(ONE, "renamed"));
    assert!(run(&["apply", "-f", "one.yml", "--socket", named]).out.contains("changed"));
    let ended = run(&["get", "--socket", named]);
    assert!(ended.out.contains("renamed") && ended.err.contains("servers/notes is no server"), "{ended:?}");
    assert!(ended.err.contains("node: EngineReachable=False: "), "{ended:?}");
    let described = run(&["describe", ONE, "--socket", named]);
    assert!(described.out.contains(&format!("root/servers/{ONE}/config.yml")), "{described:?}");

    // The environment counts where the command line names no node.
    let with = |variable: &str, value: &str, arguments: &[&str]| {
        Ended::of(node.bare_command().args(arguments).env(variable, value).output().unwrap())
    };
    assert!(with("ALULA_SOCKET", named, &["get"]).out.contains("renamed"));
    let config = node.write("again.yml", &format!("system: {{root_directory: root, {SYSTEM}}}\n"));
    assert!(with("ALULA_CONFIG", config.to_str().unwrap(), &["get"]).err.contains("does not answer at"));
    assert!(with("ALULA_CONFIG", "/nonexistent.yml", &["get"]).err.contains("/nonexistent.yml"));
    assert!(with("ALULA_CONFIG", "/nonexistent.yml", &["get", "--socket", named]).out.contains("renamed"));
    assert!(with("ALULA_SOCKET", "/nonexistent.sock", &["get", "--root", "root"]).out.contains("renamed"));
    let gone = with("ALULA_SOCKET", "/nonexistent.sock", &["get"]);
    assert!(gone.code == 1 && gone.err.contains("no daemon answers at /nonexistent.sock"), "{gone:?}");
    for wrong in [&["get", "--socket", named, "--root", "root"][..], &["run", "--socket", named]] {
        assert_eq!(run(wrong).code, 2, "{wrong:?}");
    }
    daemon.end();
}

#[test]
fn members_of_the_sockets_group_control_the_node() {
    if !rustix::process::geteuid().is_root() {
        // Only root can act as another user.
        return;
    }
    let node = Node::with_servers();
    fs::set_permissions(node.folder.path(), Permissions::from_mode(0o755)).unwrap();
    // The program may be in a folder that only root can enter.
    let program = node.folder.path().join("alula");
    fs::copy(env!("CARGO_BIN_EXE_alula"), &program).unwrap();
    let (daemon, socket) = start(&node, &format!(", socket_group: '{GROUP}'"));
    let config = node.folder.path().join("elsewhere.yml");
    let mode = |path: &PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&socket), fs::metadata(&socket).unwrap().gid(), mode(&config)), (0o660, GROUP, 0o600));
    let run = |group: u32, arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).current_dir("/").uid(USER).gid(group);
        Ended::of(command.output().unwrap())
    };
    let named = socket.to_str().unwrap();
    let member = run(GROUP, &["--socket", named, "power", "start", TWO]);
    assert!(member.code == 0 && member.out.contains("start accepted"), "{member:?}");
    let described = run(GROUP, &["--socket", named, "describe", TWO]);
    assert!(described.code == 0 && described.out.contains("second"), "{described:?}");
    fs::set_permissions(node.root(), Permissions::from_mode(0o700)).unwrap();
    let described = run(GROUP, &["--socket", named, "describe", TWO]);
    assert!(described.code == 0 && described.err.contains("run this as root"), "{described:?}");
    let other = run(USER, &["--socket", named, "get"]);
    assert!(other.code == 1 && other.err.contains("alula.socket_group"), "{other:?}");
    let file = run(GROUP, &["--config", config.to_str().unwrap(), "get"]);
    assert!(file.code == 1 && file.err.contains("--socket or ALULA_SOCKET"), "{file:?}");
    daemon.end();
}

#[test]
fn a_group_that_does_not_exist_keeps_the_socket_private() {
    let node = Node::with_servers();
    let (daemon, socket) = start(&node, ", socket_group: no-such-group-here, socket_mode: '0666'");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let log = fs::read_to_string(node.root().join("wings.log")).unwrap();
    assert!(log.contains("alula.socket_group: is \"no-such-group-here\""), "{log}");
    let validated = Ended::of(node.bare_command().args(["validate", "elsewhere.yml"]).output().unwrap());
    assert!(validated.code == 1 && validated.err.contains("no-such-group-here"), "{validated:?}");
    daemon.end();
}
