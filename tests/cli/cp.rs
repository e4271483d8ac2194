//! `alula cp`, through a daemon and without one.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::{Daemon, Node, ONE, record};

const MIB: usize = 1 << 20;

/// A node whose first server may have 4 MiB of files, and has some.
fn node() -> Node {
    let node = Node::with_servers();
    let text = record(ONE, "first").replacen("    meta:", "    build: {disk_space: 4}\n    meta:", 1);
    node.write(&format!("root/servers/{ONE}/config.yml"), &text);
    node.write(&format!("root/servers/{ONE}/data/world/level.dat"), "level");
    node.write(&format!("root/servers/{ONE}/data/server.properties"), "port=1");
    node
}

fn copies(node: &Node, daemon: bool) {
    let data = node.server(ONE).join("data");
    let local = |name: &str| node.folder.path().join(name);
    node.write("mods/a.jar", "a");
    node.write("mods/deep/b.jar", &"b".repeat(MIB));
    fs::set_permissions(local("mods/a.jar"), fs::Permissions::from_mode(0o755)).unwrap();
    if !local("mods/link").is_symlink() {
        symlink("a.jar", local("mods/link")).unwrap();
    }
    let report = node.json(&["cp", "mods", "first:"]);
    assert_eq!((&report["files"], &report["links"], &report["bytes"]), (&2.into(), &1.into(), &(MIB + 1).into()));
    assert_eq!(fs::read_to_string(data.join("mods/a.jar")).unwrap(), "a");
    assert_eq!(fs::metadata(data.join("mods/a.jar")).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(fs::read_link(data.join("mods/link")).unwrap(), Path::new("a.jar"));
    // Onto a name, into a directory, and a file over another one.
    node.ok(&["cp", "mods/a.jar", "first:plugins/renamed.jar"]);
    assert_eq!(fs::read_to_string(data.join("plugins/renamed.jar")).unwrap(), "a");
    node.ok(&["cp", "mods/a.jar", "first:/plugins"]);
    assert!(data.join("plugins/a.jar").exists());
    node.write("new.properties", "port=2");
    node.ok(&["cp", "new.properties", "first:server.properties"]);
    assert_eq!(fs::read_to_string(data.join("server.properties")).unwrap(), "port=2");

    node.ok(&["cp", "first:server.properties", "."]);
    assert_eq!(fs::read_to_string(local("server.properties")).unwrap(), "port=2");
    node.ok(&["cp", "first:/world", "backup"]);
    assert_eq!(fs::read_to_string(local("backup/level.dat")).unwrap(), "level");
    node.ok(&["cp", "first:", "everything"]);
    assert_eq!(fs::read_to_string(local("everything/mods/deep/b.jar")).unwrap().len(), MIB);

    // What does not fit changes nothing.
    node.write("large.bin", &"x".repeat(5 * MIB));
    let full = node.run(&["cp", "large.bin", "first:server.properties"]);
    assert!(full.code == 1 && full.err.contains("not enough disk space"), "{daemon}: {full:?}");
    assert_eq!(fs::read_to_string(data.join("server.properties")).unwrap(), "port=2");
    let names: Vec<_> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().starts_with('.')), "{names:?}");

    for (arguments, code, text) in [
        (&["cp", "first:nothing", "x"][..], 1, "no such file"),
        (&["cp", "nothing", "first:x"], 1, "nothing"),
        (&["cp", "third:x", "x"], 1, "third"),
        (&["cp", "a", "b"], 2, "one side has to be SERVER:PATH"),
        (&["cp", "first:a", "second:b"], 2, "one side has to be SERVER:PATH"),
        (&["cp", "mods", "first:../up"], 2, "leads out"),
        (&["cp", "first:server.properties", "no/such/folder"], 1, "no/such"),
    ] {
        let ended = node.run(arguments);
        assert!(ended.code == code && ended.err.contains(text), "{arguments:?}: {ended:?}");
    }
    symlink("/etc", data.join("outside")).unwrap();
    let escaped = node.run(&["cp", "mods/a.jar", "first:outside/passwd"]);
    assert!(escaped.code == 1 && escaped.err.contains("leads out"), "{escaped:?}");
    fs::remove_file(data.join("outside")).unwrap();
}

#[test]
fn files_are_copied_in_the_state_folder_where_no_daemon_runs() {
    copies(&node(), false);
}

#[test]
fn files_are_copied_through_the_daemon() {
    let node = node();
    let _daemon = Daemon::start(&node);
    copies(&node, true);
}
