//! Files that are validated and applied: their locations, their mistakes, and the results.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Daemon, Ended, Node, ONE, SYSTEM, TWO, listing, record, wait_for};

#[test]
fn applied_files_become_servers_with_their_comments() {
    let node = Node::new();
    let daemon = Daemon::start(&node);
    let text = record(ONE, "first");
    node.write("one.yml", &text);
    let dry = node.ok(&["apply", "--dry-run", "-f", "one.yml"]);
    assert!(dry.out.contains("created (dry run)") && !node.server(ONE).exists(), "{dry:?}");
    let ended = node.ok(&["apply", "-f", "one.yml"]);
    assert!(ended.out.contains(ONE) && ended.out.contains("created") && ended.err.is_empty(), "{ended:?}");
    assert_eq!(node.config(ONE), text);
    assert!(node.ok(&["apply", "-f", "one.yml"]).out.contains("unchanged"));

    node.write("one.yml", &text.replace("image:1", "image:2"));
    let dry = node.ok(&["apply", "--dry-run", "-f", "one.yml"]);
    assert!(dry.out.contains("changed (dry run)"), "{dry:?}");
    assert_eq!(node.config(ONE), text);
    let changed = node.json(&["apply", "-f", "one.yml"]);
    assert_eq!(changed[0]["result"], "changed");
    assert!(node.config(ONE).contains("image:2") && node.config(ONE).contains("# its name"));
    daemon.end();
}

#[test]
fn a_folder_is_applied_completely_or_not_at_all() {
    let node = Node::new();
    let daemon = Daemon::start(&node);
    node.write("git/one.yml", &record(ONE, "first"));
    node.write(&format!("git/{TWO}/config.yml"), &record(TWO, "second").replace("image:", "imgae:"));
    let rejected = node.run(&["apply", "-f", "git"]);
    assert_eq!(rejected.code, 1);
    assert!(
        rejected.err.contains(&format!("git/{TWO}/config.yml:10:7: spec.settings.container.imgae")),
        "{rejected:?}"
    );
    assert!(
        rejected.err.contains("did you mean `image`?") && rejected.err.contains("nothing was applied"),
        "{rejected:?}"
    );
    assert!(!node.server(ONE).exists());

    node.write(&format!("git/{TWO}/config.yml"), &record(TWO, "second"));
    assert_eq!(node.json(&["apply", "-f", "git"]).as_array().unwrap().len(), 2);
    node.write("git/again.yml", &record(ONE, "first"));
    assert!(node.run(&["apply", "-f", "git"]).err.contains("keep one of them"));
    daemon.end();
}

#[test]
fn a_state_folder_is_applied_without_its_nodes_own_file() {
    let node = Node::new();
    node.write("state/config.yml", "system: {root_directory: .}\n");
    node.write(&format!("state/servers/{ONE}/config.yml"), &record(ONE, "first"));
    let daemon = Daemon::start(&node);
    let ended = node.ok(&["apply", "-f", "state"]);
    assert!(ended.out.contains(ONE) && ended.err.contains("left out: state/config.yml"), "{ended:?}");
    let alone = node.run(&["apply", "-f", "state/config.yml"]);
    assert!(alone.code == 1 && alone.err.contains("the configuration of a node"), "{alone:?}");
    fs::remove_dir_all(node.folder.path().join("state/servers")).unwrap();
    let empty = node.run(&["apply", "-f", "state"]);
    assert!(empty.code == 1 && empty.err.contains("no manifest"), "{empty:?}");
    daemon.end();
}

#[test]
fn files_that_cannot_be_read_are_findings_among_others() {
    let node = Node::new();
    node.write("good.yml", &record(ONE, "first"));
    fs::write(node.folder.path().join("latin.yml"), b"a: \xff\n").unwrap();
    let ended = node.run(&["apply", "-f", "none.yml", "-f", "latin.yml", "-f", "good.yml", "-o", "json"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    let outcomes: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((&outcomes[0]["file"], &outcomes[1]["file"]), (&Value::from("none.yml"), &Value::from("latin.yml")));
    assert!(outcomes[1]["error"].as_str().unwrap().contains("UTF-8"), "{outcomes}");
    assert!(ended.err.contains("error: none.yml: cannot read it: ") && ended.err.contains("nothing was applied"));
    assert!(!node.server(ONE).exists());

    let ended = node.run(&["validate", "-o", "json", "none.yml", "latin.yml", "good.yml"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    let findings: Value = serde_json::from_str(&ended.out).unwrap();
    let valid: Vec<&Value> = findings.as_array().unwrap().iter().map(|finding| &finding["valid"]).collect();
    assert_eq!(valid, [false, false, true]);
}

#[test]
fn a_broken_file_is_replaced_by_the_one_that_is_applied() {
    let node = Node::with_servers();
    let daemon = Daemon::start(&node);
    node.edit(ONE, "kind: Server\nspec: [\n");
    wait_for("the problem", || node.json(&["get", ONE])[0]["problem"]["reason"] == "SpecInvalid");
    let described = node.ok(&["describe", ONE]).out;
    assert!(described.contains("config.yml: line ") && !described.contains("config.yml: config.yml"), "{described}");
    assert!(node.ok(&["apply", "-f", "one.yml"]).out.contains("changed"));
    assert_eq!(node.config(ONE), record(ONE, "first"));
    assert!(node.json(&["get", ONE])[0]["problem"].is_null());
    daemon.end();
}

#[test]
fn a_record_is_read_from_standard_input() {
    let node = Node::new();
    let daemon = Daemon::start(&node);
    let mut command = node.command(&["apply", "-f", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(record(ONE, "first").as_bytes()).unwrap();
    let ended = Ended::of(child.wait_with_output().unwrap());
    assert!(ended.code == 0 && ended.out.contains("created"), "{ended:?}");
    daemon.end();
}

#[test]
fn faults_are_found_with_file_line_and_next_step() {
    let node = Node::new();
    node.write("good.yml", &record(ONE, "first"));
    node.write("bad.yml", &record(TWO, "second").replace("  uuid:", "  uid:"));
    let ended = node.run(&["validate", "good.yml", "bad.yml"]);
    assert_eq!(ended.code, 1);
    assert!(ended.out.contains("good.yml: ok") && !ended.out.contains("bad.yml"), "{ended:?}");
    assert!(ended.err.contains("bad.yml:5:3: metadata.uid: unknown field `uid`, expected one of"), "{ended:?}");
    assert!(ended.err.contains("did you mean `uuid`?"), "{ended:?}");
    let ended = node.run(&["validate", "-o", "json", "bad.yml"]);
    let findings: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((&findings[0]["valid"], &findings[0]["line"]), (&Value::Bool(false), &Value::from(5)));
    assert_eq!(node.run(&["validate", "none.yml"]).code, 1);
    assert_eq!(node.ok(&["validate", "good.yml"]).err, "");
}

#[test]
fn a_folder_is_validated_file_by_file() {
    let node = Node::new();
    node.write("state/config.yml", "alula: {soket: x}\n");
    node.write(&format!("state/servers/{ONE}/config.yml"), &record(ONE, "first"));
    node.write(&format!("state/servers/{ONE}/override.yml"), "spec: {suspendde: true}\n");
    let ended = node.run(&["validate", "state"]);
    assert_eq!(ended.code, 1);
    assert!(ended.out.contains(&format!("{ONE}/config.yml: ok")), "{ended:?}");
    assert!(ended.err.contains("override.yml:1:8: spec.suspendde"), "{ended:?}");
    assert!(ended.err.contains("state/config.yml:1:9: alula.soket: unknown field `soket`"), "{ended:?}");
    node.write("state/config.yml", "");
    let truncated = node.run(&["validate", "state"]);
    assert!(truncated.code == 1 && truncated.err.contains("state/config.yml: the file is empty"), "{truncated:?}");
    node.write("state/config.yml", "debug: false\n");
    node.write(&format!("state/servers/{ONE}/override.yml"), "spec: {suspended: true}\n");
    let ended = node.ok(&["validate", "state"]);
    assert!(ended.out.contains("state/config.yml: ok (configuration of a node)"), "{ended:?}");
    fs::create_dir(node.folder.path().join("empty")).unwrap();
    let empty = node.run(&["validate", "empty"]);
    assert!(empty.code == 1 && empty.err.contains("no files in this folder"), "{empty:?}");
}

#[test]
fn no_other_user_may_read_or_write_what_the_daemon_makes_whatever_the_umask_is() {
    let node = Node::new();
    node.write("two.yml", &record(TWO, "second"));
    fs::create_dir(node.root()).unwrap();
    fs::set_permissions(node.root(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = env!("CARGO_BIN_EXE_alula");
    let config = node.write("node.yml", &format!("system: {{root_directory: root, {SYSTEM}}}\n"));
    let mut command = Command::new("sh");
    command
        .current_dir(node.folder.path())
        .env("DOCKER_HOST", "unix:///nonexistent/docker.sock")
        .args(["-c", &format!("umask 0; exec {program} run --config {}", config.display())]);
    let daemon = Daemon::of(command, &node.root().join("alula.sock"));
    node.ok(&["apply", "-f", "two.yml"]);
    wait_for("the first status", || node.server(TWO).join("status.yml").exists());
    wait_for("the reserve", || node.root().join(".reserve").exists());
    // The socket is gone with the daemon.
    daemon.end();
    // Servers' containers read the files in these folders.
    let folders = ["passwd", "machine-id"].map(|name| node.root().join(name));
    for (path, _) in listing(&node.root()) {
        let found = fs::symlink_metadata(&path).unwrap();
        let mode = found.permissions().mode() & 0o777;
        let for_containers = folders.iter().any(|folder| path.parent() == Some(folder)) && mode == 0o644;
        assert!(mode & 0o077 == 0 || found.is_symlink() || for_containers, "{}: {mode:o}", path.display());
    }
}
