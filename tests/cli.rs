//! The command line as a process: its output and exit codes, on a state folder without a daemon and with one whose container engine
//! does not answer.

#[path = "cli/backup.rs"]
mod backup;
#[path = "cli/configure.rs"]
mod configure;
#[path = "cli/cp.rs"]
mod cp;
#[path = "cli/diagnostics.rs"]
mod diagnostics;
#[path = "cli/files.rs"]
mod files;
#[path = "cli/git.rs"]
mod git;
#[path = "cli/interrupted.rs"]
mod interrupted;
#[path = "cli/lock.rs"]
mod lock;
#[path = "cli/reload.rs"]
mod reload;
#[path = "cli/socket.rs"]
mod socket;
#[path = "cli/streams.rs"]
mod streams;
#[path = "cli/validate.rs"]
mod validate;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const ONE: &str = "550e8400-e29b-41d4-a716-446655440000";
const TWO: &str = "550e9999-e29b-41d4-a716-446655440000";
/// Configuration that needs nothing outside of the state folder, and no user.
const SYSTEM: &str = "enable_log_rotate: false, user: {rootless: {enabled: true}}, check_permissions_on_boot: false";
/// Timeout of awaited states.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A state folder of its own.
struct Node {
    folder: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare_command();
        command.args(arguments).arg("--root").arg(self.root());
        command
    }

    /// The program, without `--root`.
    fn bare_command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_alula"));
        command.current_dir(self.folder.path());
        // An engine that runs on this machine must not affect the tests.
        command
            .env("DOCKER_HOST", "unix:///nonexistent/docker.sock")
            .env_remove("RUST_LOG")
            .env_remove("RUST_BACKTRACE")
            .env_remove("ALULA_CONFIG")
            .env_remove("ALULA_SOCKET");
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.command(arguments).output().unwrap())
    }

    /// Runs a command that must succeed.
    fn ok(&self, arguments: &[&str]) -> Ended {
        let ended = self.run(arguments);
        assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
        ended
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let mut arguments = arguments.to_vec();
        arguments.extend(["-o", "json"]);
        serde_json::from_str(&self.ok(&arguments).out).unwrap()
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn config(&self, uuid: &str) -> String {
        fs::read_to_string(self.server(uuid).join("config.yml")).unwrap()
    }

    /// The accepted verbs of a server, the oldest first.
    fn verbs(&self, uuid: &str) -> Vec<String> {
        let accepted = &self.json(&["get", uuid])[0]["requests"]["accepted"];
        accepted.as_array().unwrap().iter().map(|request| request["verb"].as_str().unwrap().to_owned()).collect()
    }

    fn server(&self, uuid: &str) -> PathBuf {
        self.root().join("servers").join(uuid)
    }

    /// Changes a server's file as editors do, which replace it as a whole.
    fn edit(&self, uuid: &str, text: &str) {
        let edited = self.write("edited.yml", text);
        fs::rename(edited, self.server(uuid).join("config.yml")).unwrap();
    }

    /// Two servers in the state folder, and their files next to it.
    fn with_servers() -> Self {
        let node = Self::new();
        for (file, uuid, name) in [("one.yml", ONE, "first"), ("two.yml", TWO, "second")] {
            node.write(file, &record(uuid, name));
            node.write(&format!("root/servers/{uuid}/config.yml"), &record(uuid, name));
        }
        node
    }
}

/// A command that has ended.
#[derive(Debug)]
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Ended {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().expect("it ended by itself"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn record(uuid: &str, name: &str) -> String {
    format!(
        "# A test's server.\napiVersion: alula/v1\nkind: Server\nmetadata:\n  uuid: {uuid}\nspec:\n  settings:\n    \
         meta: {{name: {name}}} # its name\n    container:\n      image: example/image:1\n"
    )
}

#[test]
fn what_is_no_server_among_the_servers_is_named_with_what_to_do() {
    let node = Node::with_servers();
    let upper = TWO.to_uppercase();
    for name in ["notes", &upper] {
        fs::create_dir(node.root().join("servers").join(name)).unwrap();
    }
    let ended = node.ok(&["get"]);
    assert!(ended.err.contains("servers/notes is no server: its name is no UUID"), "{ended:?}");
    assert!(ended.err.contains(&format!("servers/{upper}")) && ended.err.contains(&format!("rename it to {TWO}")));
    assert!(!ended.err.contains("WARN"), "{ended:?}");
    assert!(!node.ok(&["describe", ONE]).err.contains("notes"));
}

#[test]
fn servers_are_listed_and_described() {
    let node = Node::with_servers();
    let ended = node.ok(&["get"]);
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(lines.len(), 3, "{ended:?}");
    assert!(lines[0].starts_with("UUID") && lines[1].contains("first") && lines[2].contains("example/image:1"));
    assert!(!ended.out.contains('\u{1b}'), "no colours without a terminal");
    let list = node.json(&["get"]);
    assert_eq!(list[1]["uuid"], TWO);
    assert_eq!(list[1]["record"]["generation"], 1);
    let yaml = node.ok(&["get", "-o", "yaml"]).out;
    assert!(alula::yaml::parse_value(&yaml).unwrap()[0]["status"]["phase"] == "Created", "{yaml}");

    let ended = node.ok(&["describe", "550e8"]);
    assert!(ended.out.contains("first") && ended.out.contains(&format!("servers/{ONE}/config.yml")), "{ended:?}");
    assert_eq!(node.json(&["describe", ONE])["files"][0]["there"], true);
}

#[test]
fn beginnings_of_uuids_name_servers() {
    let node = Node::with_servers();
    assert!(node.ok(&["get", "550E9"]).out.contains("second"));
    let short = node.run(&["get", "550"]);
    assert!(short.code == 2 && short.err.contains("at least 4"), "{short:?}");
    let several = node.run(&["describe", "550e"]);
    assert!(several.code == 1 && several.err.contains(ONE) && several.err.contains(TWO), "{several:?}");
    let none = node.run(&["describe", "dead"]);
    assert!(none.code == 1 && none.err.contains("alula get"), "{none:?}");
}

#[test]
fn commands_that_write_need_a_daemon() {
    let node = Node::with_servers();
    node.write("three.yml", &record(&ONE.replace("550e8400", "aaaa8400"), "third"));
    let before = listing(&node.root());
    for arguments in [
        &["power", "start", ONE][..],
        &["delete", "--yes", ONE],
        &["apply", "-f", "three.yml"],
        &["apply", "--dry-run", "-f", "three.yml"],
    ] {
        let ended = node.run(arguments);
        assert!(ended.code == 1 && ended.out.is_empty(), "{arguments:?}: {ended:?}");
        let file = format!("{}/servers/{{uuid}}/config.yml", node.root().display());
        for part in ["no daemon runs on", "nothing was done", "`alula run`", &file] {
            assert!(ended.err.contains(part), "{part:?}, {arguments:?}: {ended:?}");
        }
    }
    assert_eq!(listing(&node.root()), before);
}

#[test]
fn power_is_the_daemons_decision() {
    let node = Node::with_servers();
    let daemon = Daemon::start(&node);
    let ended = node.ok(&["power", "start", ONE]);
    assert!(ended.out.contains("start accepted") && ended.err.is_empty(), "{ended:?}");
    let text = node.config(ONE);
    assert_eq!(node.verbs(ONE), ["start"]);
    node.ok(&["power", "start", ONE]);
    assert_eq!(node.verbs(ONE), ["start"], "a second start is no restart");
    node.ok(&["power", "restart", ONE]);
    assert_eq!(node.verbs(ONE), ["restart"]);
    assert_eq!(node.config(ONE), text, "requests are no part of the manifest");
    assert_eq!(node.json(&["power", "kill", ONE])[0]["result"], "kill accepted");

    // A server can be stopped while its file is broken.
    node.edit(TWO, "half an ed");
    node.ok(&["power", "stop", TWO]);
    node.ok(&["power", "start", TWO]);
    assert_eq!(node.config(TWO), "half an ed");
    let server = &node.json(&["get", TWO])[0];
    assert_eq!(server["requests"]["accepted"][0]["by"], "cli");
    assert!(["start", "restart"].contains(&node.verbs(TWO)[0].as_str()), "{server}");
    assert_eq!(server["problem"]["reason"], "SpecInvalid");

    let suspended = record(TWO, "second").replace("spec:\n", "spec:\n  suspended: true\n");
    node.edit(TWO, &suspended);
    let rejected = node.run(&["power", "restart", TWO]);
    assert!(rejected.code == 1 && rejected.err.contains("suspended"), "{rejected:?}");
    daemon.end();
}

#[test]
fn deletion_is_asked_for_and_accepted() {
    let node = Node::with_servers();
    let daemon = Daemon::start(&node);
    let ended = node.run(&["delete", ONE]);
    assert!(ended.code == 2 && ended.err.contains("--yes"), "{ended:?}");
    assert!(node.verbs(ONE).is_empty());
    node.ok(&["delete", "--yes", ONE]);
    assert!(node.server(ONE).join("config.yml").exists(), "files wait for the containers");
    let ended = node.ok(&["get", ONE]);
    assert!(ended.out.contains("Deleting"), "{ended:?}");
    assert!(node.ok(&["delete", "--yes", ONE]).out.contains("already"));
    let done = node.json(&["delete", "--yes", ONE, TWO]);
    assert_eq!((&done[0]["uuid"], &done[1]["result"]), (&Value::from(ONE), &Value::from("deletion accepted")));
    let rejected = node.run(&["power", "start", ONE]);
    assert!(rejected.code == 1 && rejected.err.contains("it is being deleted"), "{rejected:?}");
    let rejected = node.run(&["apply", "-f", "one.yml"]);
    assert!(rejected.code == 1 && rejected.err.contains("is being deleted"), "{rejected:?}");
    let rejected = node.run(&["power", "start", ONE, "-o", "json"]);
    let done: Value = serde_json::from_str(&rejected.out).unwrap();
    assert!(rejected.code == 1 && done[0]["error"].as_str().unwrap().contains("it is being deleted"), "{rejected:?}");
    daemon.end();
}

#[test]
fn a_plan_needs_no_daemon_and_writes_nothing() {
    let node = Node::with_servers();
    node.edit(ONE, &record(ONE, "first").replace("spec:\n", "spec:\n  power: up\n"));
    let before = listing(&node.root());
    let ended = node.ok(&["plan"]);
    assert!(ended.err.contains("no daemon runs"), "{ended:?}");
    assert!(ended.out.contains("RuntimeUnreachable") && ended.out.contains("BECAUSE"), "{ended:?}");
    assert!(ended.out.contains("wanted: up, by the request manifest-"), "{ended:?}");
    assert!(ended.out.contains("wanted: nothing: no power request was made"), "{ended:?}");
    let plans = node.json(&["plan", ONE]);
    assert_eq!(plans[0]["uuid"], ONE);
    assert!(plans[0]["plan"]["steps"].is_array());
    assert_eq!(listing(&node.root()), before);
}

/// Every file below a folder, with its text.
fn listing(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for item in fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            found.push((path.clone(), Vec::new()));
            found.extend(listing(&path));
        } else {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn what_makes_no_sense_is_rejected_with_exit_code_2() {
    let node = Node::new();
    for arguments in [
        &["--pprof"][..],
        &["--auto-tls", "--tls-hostname", "example.com"],
        &["run", "--pprof-port", "6060"],
        &["--debug", "get"],
        &["get", "--bogus"],
        &["power", "dance", ONE],
        &["validate"],
        &["run"],
    ] {
        let ended = node.run(arguments);
        assert_eq!(ended.code, 2, "{arguments:?}: {ended:?}");
        assert!(ended.out.is_empty() && ended.err.starts_with("error: "), "{arguments:?}: {ended:?}");
    }
    assert!(node.run(&["--auto-tls"]).err.contains("--tls-hostname"));
    assert!(node.run(&["run"]).err.contains("root_directory: ."));
    assert!(!node.root().exists(), "a refused command creates no folders");
    let nowhere = node.run(&["get"]);
    assert!(nowhere.code == 1 && nowhere.err.contains("there is no state folder"), "{nowhere:?}");
    assert!(!node.root().exists(), "nor does a command that reads");
}

#[test]
fn a_folder_and_its_configuration_must_agree() {
    let node = Node::with_servers();
    node.write("root/config.yml", "system: {root_directory: ../other}\n");
    let ended = node.run(&["get"]);
    assert!(ended.code == 2 && ended.err.contains("root_directory: ."), "{ended:?}");
    node.write("root/config.yml", "system: {root_directory: .}\n");
    assert_eq!(node.ok(&["get"]).out.lines().count(), 3);
    node.write("root/config.yml", "system: {root_directroy: [.}\n");
    let ended = node.run(&["get"]);
    assert!(ended.code == 1 && ended.err.contains("config.yml:1:"), "{ended:?}");
}

#[test]
fn completions_version_and_schema_are_printed() {
    let node = Node::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = node.ok(&["completions", shell]).out;
        assert!(script.contains("describe") && script.contains("root"), "{shell}");
    }
    let version = node.ok(&["version"]).out;
    assert!(version.starts_with(concat!("alula ", env!("CARGO_PKG_VERSION"))), "{version}");
    assert_eq!(node.json(&["version"])["version"], env!("CARGO_PKG_VERSION"));
    let schema: Value = serde_json::from_str(&node.ok(&["schema"]).out).unwrap();
    let shipped = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/state/server.schema.json")).unwrap();
    assert_eq!(schema, serde_json::from_str::<Value>(&shipped).unwrap());
    assert!(schema["properties"]["spec"].is_object());
}

#[test]
fn a_closed_pipe_is_no_error() {
    let node = Node::with_servers();
    for arguments in [&["get"][..], &["completions", "bash"], &["schema"]] {
        let mut child = node.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Closed before anything is written to it, as by `| head -0`.
        drop(child.stdout.take());
        let ended = Ended::of(child.wait_with_output().unwrap());
        assert!(!ended.err.contains("panicked") && !ended.err.contains("error"), "{arguments:?}: {ended:?}");
        assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
    }
}

/// A daemon that is ended with the test.
struct Daemon {
    child: Child,
}

impl Daemon {
    fn start(node: &Node) -> Self {
        node.write("root/config.yml", &format!("system: {{root_directory: ., {SYSTEM}}}\n"));
        Self::of(node.command(&["run"]), &node.root().join("alula.sock"))
    }

    /// A daemon whose socket is outside of the state folder.
    fn start_hidden(node: &Node) -> Self {
        let text = format!("system: {{root_directory: root, {SYSTEM}}}\nalula: {{socket: other.sock}}\n");
        let config = node.write("elsewhere.yml", &text);
        let mut command = node.bare_command();
        command.arg("--config").arg(config);
        Self::of(command, &node.folder.path().join("other.sock"))
    }

    fn of(mut command: Command, socket: &Path) -> Self {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut daemon = Self { child };
        wait_for("the daemon's socket", || {
            assert!(daemon.child.try_wait().unwrap().is_none(), "the daemon has ended");
            std::os::unix::net::UnixStream::connect(socket).is_ok()
        });
        daemon
    }

    fn end(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !holds() {
        assert!(Instant::now() < deadline, "timeout: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a daemon has reconciled the first server.
fn reconciled(node: &Node) -> bool {
    let server = &node.json(&["get", ONE])[0];
    let conditions = server["status"]["conditions"].as_array().unwrap();
    conditions.iter().any(|condition| condition["reason"] == "RuntimeUnreachable")
}

#[test]
fn a_running_daemon_is_asked_through_its_socket() {
    let node = Node::with_servers();
    let daemon = Daemon::start(&node);
    let ended = node.ok(&["get"]);
    assert!(ended.out.contains("first") && !ended.err.contains("no daemon"), "{ended:?}");
    assert!(ended.err.lines().all(|line| line.starts_with("node: EngineReachable=False: ")), "{ended:?}");
    wait_for("the first pass", || reconciled(&node));
    let described = node.ok(&["describe", ONE]);
    assert!(described.out.contains("RuntimeUnreachable"), "{described:?}");
    assert!(node.ok(&["plan", ONE]).out.contains("RuntimeUnreachable"));

    let ended = node.ok(&["power", "start", ONE]);
    assert!(ended.out.contains("start accepted") && ended.err.is_empty(), "{ended:?}");
    assert_eq!(node.verbs(ONE), ["start"]);

    node.write("one.yml", &record(ONE, "renamed"));
    assert!(node.ok(&["apply", "--dry-run", "-f", "one.yml"]).out.contains("changed (dry run)"));
    assert!(node.config(ONE).contains("first"));
    assert!(node.ok(&["apply", "-f", "one.yml"]).out.contains("changed"));
    assert_eq!(node.config(ONE), record(ONE, "renamed"));
    assert_eq!(node.verbs(ONE), ["start"], "a file without an opinion leaves it");
    let three = ONE.replace("550e8400", "aaaa8400");
    node.write("three.yml", &record(&three, "third"));
    assert!(node.ok(&["apply", "-f", "three.yml"]).out.contains("created"));
    assert_eq!(node.config(&three), record(&three, "third"));

    node.ok(&["delete", "-y", TWO]);
    assert!(node.ok(&["get", TWO]).out.contains("Deleting"));
    let second = node.run(&["run"]);
    assert!(second.code == 1 && second.err.contains("runs on the state folder"), "{second:?}");
    daemon.end();
    assert!(node.ok(&["get"]).err.contains("no daemon runs"));
    assert_eq!(node.verbs(TWO), ["delete"]);
}

#[test]
fn events_outlive_the_daemon_and_are_followed_across_its_restart() {
    let node = Node::with_servers();
    let daemon = Daemon::start(&node);
    let reasons = |node: &Node| -> Vec<String> {
        let events = node.json(&["events", ONE]);
        events.as_array().unwrap().iter().map(|event| event["reason"].as_str().unwrap().to_owned()).collect()
    };
    let seen = || node.server(ONE).join("status.yml").exists();
    wait_for("the first status", seen);
    node.edit(ONE, &record(ONE, "changed by hand"));
    wait_for("the event of a changed file", || reasons(&node).contains(&"SpecAccepted".to_owned()));
    wait_for("the event on disk", || {
        fs::read_to_string(node.server(ONE).join("status.yml")).unwrap().contains("accepted generation 2")
    });

    let follow = node.command(&["events", "--follow", "-o", "json", ONE]);
    let mut follow = Follow::start(follow);
    assert_eq!(follow.next()["reason"], "SpecAccepted");
    daemon.end();
    assert_eq!(reasons(&node), ["SpecAccepted"], "without a daemon, from the file");

    let daemon = Daemon::start(&node);
    // What it finds at its start is a condition and no event.
    wait_for("the first pass", || reconciled(&node));
    node.edit(ONE, "half an ed");
    assert_eq!(follow.next()["reason"], "SpecInvalid", "the old event is not printed again");
    wait_for("both events", || reasons(&node) == ["SpecAccepted", "SpecInvalid"]);
    let ended = node.ok(&["get", ONE]);
    assert!(ended.out.contains("SpecInvalid") && ended.out.contains("config.yml: line 1, "), "{ended:?}");
    daemon.end();
}

/// A stream of events, ended with the test.
struct Follow {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Follow {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    fn next(&mut self) -> Value {
        let line = self.lines.recv_timeout(TIMEOUT).expect("another event");
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
