//! `alula backup`, through a daemon and without one.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::{Daemon, Node, ONE, record, wait_for};

fn node() -> Node {
    let node = Node::with_servers();
    node.write(&format!("root/servers/{ONE}/config.yml"), &record(ONE, "first"));
    node.write(&format!("root/servers/{ONE}/data/world/level.dat"), "level");
    node.write(&format!("root/servers/{ONE}/data/server.properties"), "port=1");
    node.write(&format!("root/servers/{ONE}/data/cache/big.tmp"), "cache");
    node
}

fn listed(node: &Node) -> Vec<Value> {
    node.json(&["backup", "list", "first"]).as_array().unwrap().clone()
}

/// Whether damage is a condition of the server.
fn has_condition(node: &Node) -> bool {
    let server = node.json(&["get", "first"]);
    let conditions = server[0]["status"]["conditions"].as_array().unwrap().clone();
    conditions.iter().any(|condition| condition["reason"] == "BackupDamaged")
}

fn archive(node: &Node, backup: &str) -> PathBuf {
    node.root().join("backups").join(ONE).join(format!("{backup}.tar.gz"))
}

/// What only reads works with and without a daemon.
fn reads(node: &Node, backup: &str) {
    let listed = listed(node);
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((&listed[0]["backup"], &listed[0]["state"]), (&backup.into(), &"complete".into()));
    assert!(listed[0].get("problems").is_none(), "{listed:?}");
    let files = node.json(&["backup", "ls", "first", &backup[..8]]);
    let paths: Vec<&str> = files.as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert!(paths.contains(&"world/level.dat") && paths.contains(&"server.properties"), "{paths:?}");
    assert!(!paths.iter().any(|path| path.contains("big.tmp")), "{paths:?}");
    let below = node.json(&["backup", "ls", "first", "latest", "world/level.dat"]);
    assert_eq!((below.as_array().unwrap().len(), &below[0]["size"]), (1, &5.into()));
    assert_eq!(node.ok(&["backup", "cat", "first", "latest", "world/level.dat"]).out, "level");
    for (arguments, code, text) in [
        (&["backup", "cat", "first", "latest", "nothing"][..], 1, "nothing at nothing"),
        (&["backup", "cat", "first", "latest", "world"], 1, "no file"),
        (&["backup", "cat", "first", "latest", "../up"], 2, "leads out"),
        (&["backup", "ls", "first", "latest", "nothing"], 1, "nothing at"),
        (&["backup", "ls", "first", "dead"], 1, "alula backup list"),
        (&["backup", "ls", "first", "de"], 2, "at least 4"),
        (&["backup", "ls", "missing", "latest"], 1, "missing"),
    ] {
        let ended = node.run(arguments);
        assert!(ended.code == code && ended.err.contains(text), "{arguments:?}: {ended:?}");
    }
    let exported = node.command(&["backup", "export", "first", "latest"]).output().unwrap();
    assert!(exported.status.success());
    assert_eq!(exported.stdout, fs::read(archive(node, backup)).unwrap());
}

#[test]
fn a_backup_is_made_read_verified_and_removed() {
    let node = node();
    for arguments in [&["backup", "create", "first"][..], &["backup", "verify"], &["backup", "undo", "first", "--yes"]]
    {
        let ended = node.run(arguments);
        assert!(ended.code == 1 && ended.err.contains("no daemon runs"), "{arguments:?}: {ended:?}");
    }
    node.write("ignore", "*.tmp\n");
    let daemon = Daemon::start(&node);
    assert!(listed(&node).is_empty());
    let made = node.json(&["backup", "create", "first", "--ignore-file", "ignore", "--wait"]);
    let backup = made["backup"].as_str().unwrap().to_owned();
    assert!(made["result"].as_str().unwrap().contains("bytes"), "{made}");
    reads(&node, &backup);
    let verified = node.json(&["backup", "verify", "first", "--wait"]);
    assert!(verified[0]["result"].as_str().unwrap().starts_with("intact"), "{verified}");
    assert!(node.json(&["get", "operations"]).as_array().unwrap().is_empty());

    // Damage is found, named, and is a failure.
    let path = archive(&node, &backup);
    let good = fs::read(&path).unwrap();
    fs::write(&path, &good[..good.len() - 10]).unwrap();
    let damaged = node.run(&["backup", "verify", "first", "latest", "--wait"]);
    assert!(damaged.code == 1 && damaged.out.contains("damaged"), "{damaged:?}");
    wait_for("the condition", || has_condition(&node));
    assert_eq!(listed(&node)[0]["problems"][0], "damaged");
    let refused = node.run(&["backup", "restore", "first", &backup, "--yes"]);
    assert!(refused.code == 1 && refused.err.contains("damaged"), "{refused:?}");
    fs::write(&path, &good).unwrap();
    node.ok(&["backup", "verify", "first", &backup, "--wait"]);
    assert!(listed(&node)[0].get("problems").is_none());
    wait_for("the condition's end", || !has_condition(&node));

    // A file without a record, and a record without a file.
    let other = "01234567-89ab-4def-8123-456789abcdef";
    fs::copy(&path, archive(&node, other)).unwrap();
    fs::rename(&path, node.root().join("elsewhere")).unwrap();
    let problems: Vec<_> = listed(&node).iter().map(|entry| entry["problems"][0].clone()).collect();
    assert_eq!(problems, ["noFile", "noRecord"]);
    fs::rename(node.root().join("elsewhere"), &path).unwrap();
    node.ok(&["backup", "delete", "first", other, "--yes"]);
    wait_for("it is gone", || !archive(&node, other).exists() && listed(&node).len() == 1);

    drop(daemon);
    reads(&node, &backup);
    let _daemon = Daemon::start(&node);
    let unconfirmed = node.run(&["backup", "delete", "first", &backup]);
    assert!(unconfirmed.code == 2 && unconfirmed.err.contains("--yes"), "{unconfirmed:?}");
    node.ok(&["backup", "delete", "first", &backup, "--yes"]);
    wait_for("the backup is gone", || listed(&node).is_empty() && !path.exists());
    let nothing = node.run(&["backup", "undo", "first", "--yes"]);
    assert!(nothing.code == 1 && nothing.err.contains("nothing to undo"), "{nothing:?}");
}

#[test]
fn a_server_is_moved_by_hand() {
    let (from, to) = (node(), Node::new());
    let daemon = Daemon::start(&from);
    let backup = from.json(&["backup", "create", "first", "--wait"])["backup"].as_str().unwrap().to_owned();
    let with_daemon = from.command(&["export", "first", "--with-backups"]).output().unwrap();
    assert!(with_daemon.status.success(), "{with_daemon:?}");
    drop(daemon);
    let without = from.command(&["export", "first"]).output().unwrap();
    assert!(without.status.success(), "{without:?}");

    let imports = |stream: &[u8]| {
        let path = to.folder.path().join("stream.tar");
        fs::write(&path, stream).unwrap();
        let input = fs::File::open(path).unwrap();
        super::Ended::of(to.command(&["import"]).stdin(input).output().unwrap())
    };
    let _daemon = Daemon::start(&to);
    let cut = imports(&with_daemon.stdout[..with_daemon.stdout.len() - 2048]);
    assert_eq!(cut.code, 1, "{cut:?}");
    assert!(to.json(&["get"]).as_array().unwrap().is_empty());
    assert!(to.json(&["restore-deleted"]).as_array().unwrap().is_empty());
    let done = imports(&with_daemon.stdout);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(fs::read_to_string(to.server(ONE).join("data/world/level.dat")).unwrap(), "level");
    assert_eq!(to.json(&["get", "first"])[0]["uuid"], ONE);
    assert_eq!(listed(&to)[0]["backup"], backup.as_str());
    assert_eq!(to.ok(&["backup", "cat", "first", "latest", "world/level.dat"]).out, "level");
    let again = imports(&without.stdout);
    assert!(again.code == 1 && again.err.contains("is on this node"), "{again:?}");
}
