//! A state folder that is kept in git.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Daemon, Node, ONE, TWO, record, wait_for};

/// Runs git without the configuration of the current user; returns its output.
fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false"]);
    let output = command.args(arguments).output().expect("git is installed");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "git {arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn status(node: &Node) -> String {
    git(&node.root(), &["status", "--porcelain", "--untracked-files=all"])
}

/// Two servers with tracked manifests, and their running daemon.
fn tracked() -> (Node, Daemon) {
    let node = Node::with_servers();
    fs::write(node.root().join(".gitignore"), include_str!("../../state/.gitignore")).unwrap();
    let daemon = Daemon::start(&node);
    git(&node.root(), &["init", "--quiet"]);
    git(&node.root(), &["add", "--all"]);
    git(&node.root(), &["commit", "--quiet", "--message", "as it is"]);
    let files = git(&node.root(), &["ls-files"]);
    let expected =
        [".gitignore", "config.yml", &format!("servers/{ONE}/config.yml"), &format!("servers/{TWO}/config.yml")];
    assert_eq!(files.lines().collect::<Vec<_>>(), expected);
    (node, daemon)
}

#[test]
fn a_hundred_power_commands_leave_a_checkout_clean() {
    let (node, daemon) = tracked();
    for verb in ["start", "restart", "stop", "kill", "start"].iter().cycle().take(100) {
        node.ok(&["power", verb, ONE, TWO]);
    }
    assert_eq!(status(&node), "");
    for uuid in [ONE, TWO] {
        assert!(node.server(uuid).join("requests.json").exists());
        assert_eq!(node.verbs(uuid).len(), 1, "the latest has replaced the others");
        wait_for("the first pass", || node.server(uuid).join("record.json").exists());
    }
    daemon.end();
    assert_eq!(status(&node), "");
}

#[test]
fn a_commit_that_is_reverted_is_a_change_and_an_unchanged_checkout_is_none() {
    let (node, daemon) = tracked();
    let ids = || {
        let accepted = &node.json(&["get", ONE])[0]["requests"]["accepted"];
        accepted.as_array().unwrap().iter().map(|request| request["id"].to_string()).collect::<Vec<_>>()
    };
    let is_asked = |what: &str, verbs: &[&str]| wait_for(what, || node.verbs(ONE) == verbs);
    let up = record(ONE, "first").replace("spec:\n", "spec:\n  power: up\n");
    for (text, message) in [(up.clone(), "up"), (up.replace("power: up", "power: down"), "down")] {
        node.edit(ONE, &text);
        git(&node.root(), &["commit", "--quiet", "--all", "--message", message]);
        is_asked(message, if message == "up" { &["start"] } else { &["stop"] });
    }
    git(&node.root(), &["revert", "--no-edit", "HEAD"]);
    is_asked("up again", &["restart"]);
    assert_eq!(node.config(ONE), up);

    node.ok(&["power", "kill", ONE]);
    let before = ids();
    // Written again unchanged, by git and by a person.
    fs::remove_file(node.server(ONE).join("config.yml")).unwrap();
    git(&node.root(), &["checkout", "--", "."]);
    fs::write(node.folder.path().join("one.yml"), &up).unwrap();
    assert!(node.ok(&["apply", "-f", "one.yml"]).out.contains("unchanged"));
    node.edit(ONE, &up.replace("image:1", "image:2"));
    wait_for("the other image", || {
        node.json(&["get", ONE])[0]["manifest"]["spec"]["settings"]["container"]["image"] == "example/image:2"
    });
    assert_eq!((node.verbs(ONE), ids()), (vec!["kill".to_owned()], before));
    daemon.end();
}
