//! A node of Wings is taken over, and given back: containers, folders and files are as Wings leaves them.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use alula::model::{ConditionType, Reason};
use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, NetworkCreateRequest};
use bollard::query_parameters::{CreateContainerOptionsBuilder, StopContainerOptionsBuilder};
use serde_json::{Value, json};

use crate::daemon_process::{Node, NodeOptions, until, wait_path, with_node};
use crate::install::GATED;
use crate::{options, skipped};

/// The user and the group `games` of Debian, which owns the servers' files.
const OWNER: (u32, u32) = (5, 60);

/// Runs a test on a node on which Wings has run. Its configuration names all folders, as Wings writes them.
async fn after_wings(test: impl AsyncFnOnce(&mut Node)) {
    if skipped() {
        return;
    }
    let folder = tempfile::Builder::new().prefix("alula-wings-").tempdir().expect("a temporary folder");
    let data = folder.path().join("volumes");
    fs::create_dir(&data).expect("a folder");
    let options = NodeOptions { config: json!({"system": {"data": data.display().to_string()}}), ..options() };
    with_node(options, async |node| {
        let network = NetworkCreateRequest {
            name: node.network().to_owned(),
            driver: Some("bridge".into()),
            enable_ipv6: Some(false),
            ..NetworkCreateRequest::default()
        };
        node.docker.create_network(network).await.expect("a network");
        fs::create_dir_all(node.folder.path().join("root")).expect("a folder");
        test(node).await;
    })
    .await;
}

/// The folder of a server's files.
fn volume(node: &Node, id: &str) -> PathBuf {
    PathBuf::from(node.setting("/system/data")).join(id)
}

fn states_file(node: &Node) -> PathBuf {
    node.folder.path().join("root/states.json")
}

fn states(node: &Node) -> Value {
    serde_json::from_slice(&fs::read(states_file(node)).expect("states.json")).expect("JSON")
}

/// Makes the folder of a server as Wings does.
fn make_volume(node: &Node, id: &str) {
    let volume = volume(node, id);
    fs::create_dir_all(&volume).expect("a folder");
    chown(&volume, Some(OWNER.0), Some(OWNER.1)).expect("the owner");
    let machine_id = PathBuf::from(node.setting("/system/machine_id/directory"));
    fs::create_dir_all(&machine_id).expect("a folder");
    fs::write(machine_id.join(id), id.replace('-', "")).expect("a file");
}

fn bind(source: &Path, target: &str, read_only: bool) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source.display().to_string()),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        ..Mount::default()
    }
}

fn labels(kind: &str) -> Option<HashMap<String, String>> {
    Some([("Service", "Pelican"), ("ContainerType", kind)].map(|(key, value)| (key.into(), value.into())).into())
}

/// What containers of servers and of installers have in common.
fn body(node: &Node, kind: &str, mounts: Vec<Mount>) -> ContainerCreateBody {
    ContainerCreateBody {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        open_stdin: Some(true),
        tty: Some(true),
        image: Some(node.image.clone()),
        env: Some(
            ["TZ=UTC", "STARTUP=sh server.sh", "SERVER_MEMORY=128", "SERVER_IP=172.18.0.1", "SERVER_PORT=0"]
                .map(Into::into)
                .into(),
        ),
        labels: labels(kind),
        host_config: Some(HostConfig {
            mounts: Some(mounts),
            tmpfs: Some([("/tmp".to_owned(), "rw,exec,nosuid,size=100M".to_owned())].into()),
            dns: Some(vec!["1.1.1.1".into(), "1.0.0.1".into()]),
            log_config: Some(HostConfigLogConfig {
                typ: Some("local".into()),
                config: Some(
                    [("max-size", "5m"), ("max-file", "1"), ("compress", "false"), ("mode", "non-blocking")]
                        .map(|(key, value)| (key.into(), value.into()))
                        .into(),
                ),
            }),
            network_mode: Some(node.network().to_owned()),
            memory: Some(154_350_387),
            memory_reservation: Some(134_217_728),
            memory_swap: Some(154_350_387),
            blkio_weight: Some(500),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// Creates the container of a server as Wings does. Source: lifecycle, "Server container".
async fn create_server(node: &Node, id: &str) {
    make_volume(node, id);
    let machine_id = PathBuf::from(node.setting("/system/machine_id/directory")).join(id);
    let mounts = vec![bind(&volume(node, id), "/home/container", false), bind(&machine_id, "/etc/machine-id", true)];
    let mut body = ContainerCreateBody {
        hostname: Some(id.to_owned()),
        user: Some(format!("{}:{}", OWNER.0, OWNER.1)),
        ..body(node, "server_process", mounts)
    };
    let host = body.host_config.as_mut().expect("it was set");
    host.security_opt = Some(vec!["no-new-privileges".into()]);
    host.readonly_rootfs = Some(true);
    host.pids_limit = Some(512);
    let dropped =
        "setpcap mknod audit_write net_raw dac_override fowner fsetid net_bind_service sys_chroot setfcap sys_ptrace";
    host.cap_drop = Some(dropped.split(' ').map(Into::into).collect());
    create(node, id, body).await;
}

/// Creates an installer as Wings does. Source: install, "Installer container".
async fn create_installer(node: &Node, id: &str, script: &str) {
    make_volume(node, id);
    let folder = PathBuf::from(node.setting("/system/tmp_directory")).join(id);
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("install.sh"), script).expect("a script");
    let mounts = vec![bind(&volume(node, id), "/mnt/server", false), bind(&folder, "/mnt/install", false)];
    let body = ContainerCreateBody {
        hostname: Some("installer".into()),
        cmd: Some(vec!["sh".into(), "/mnt/install/install.sh".into()]),
        ..body(node, "server_installer", mounts)
    };
    create(node, &format!("{id}_installer"), body).await;
}

async fn create(node: &Node, name: &str, body: ContainerCreateBody) {
    let options = CreateContainerOptionsBuilder::new().name(name).build();
    node.docker.create_container(Some(options), body).await.expect("a container");
}

async fn start(node: &Node, name: &str) {
    node.docker.start_container(name, None).await.expect("it starts");
}

async fn stop(node: &Node, name: &str) {
    let options = StopContainerOptionsBuilder::new().t(0).build();
    node.docker.stop_container(name, Some(options)).await.expect("it stops");
    until("the container's end", async || node.container(name).await.is_some_and(|(_, runs)| !runs).then_some(()))
        .await;
}

/// A server that was installed under Wings, and its container, which runs.
async fn server_of_wings(node: &mut Node) -> String {
    let id = node.define("echo run >> /mnt/server/runs.txt");
    node.panel.edit(&id, |server| server.standing = crate::panel_sim::Standing::Normal);
    create_server(node, &id).await;
    start(node, &id).await;
    until("the start-up", async || (starts(node, &id) == 1).then_some(())).await;
    id
}

fn starts(node: &Node, id: &str) -> usize {
    fs::read_to_string(volume(node, id).join("starts.txt")).unwrap_or_default().lines().count()
}

fn transcript(node: &Node, id: &str) -> String {
    fs::read_to_string(node.folder.path().join(format!("root/servers/{id}/logs/console.log"))).unwrap_or_default()
}

async fn wait_states(node: &Node, expected: Value) {
    until(&format!("states.json with {expected}"), async || (states(node) == expected).then_some(())).await;
}

#[tokio::test]
async fn servers_run_on_while_the_node_goes_to_alula_and_back() {
    after_wings(async |node| {
        let (game, rebooted, down) =
            (server_of_wings(node).await, server_of_wings(node).await, server_of_wings(node).await);
        stop(node, &rebooted).await;
        stop(node, &down).await;
        fs::write(states_file(node), json!({&game: "running", &rebooted: "running", &down: "offline"}).to_string())
            .unwrap();
        let sftp = PathBuf::from(node.setting("/system/data")).join(".sftp");
        fs::create_dir(&sftp).unwrap();
        fs::write(sftp.join("id_ed25519"), "the key").unwrap();
        fs::write(node.folder.path().join("root/wings.db"), "the database").unwrap();
        let log = node.folder.path().join(format!("log/install/{game}.log"));
        fs::create_dir_all(log.parent().unwrap()).unwrap();
        fs::write(&log, "Pelican Server Installation Log\n").unwrap();
        let config = node.folder.path().join("config.yml");
        let (of_game, database) = (volume(node, &game), node.folder.path().join("root/wings.db"));
        let left = || {
            let volume = fs::metadata(&of_game).unwrap();
            let files =
                [&config, &sftp.join("id_ed25519"), &log, &database].map(|path| fs::read_to_string(path).unwrap());
            (files, volume.ino(), volume.uid(), volume.gid(), volume.mode())
        };
        let (before, container) = (left(), node.container(&game).await);
        let machine_id = PathBuf::from(node.setting("/system/machine_id/directory")).join(&game);
        let machine_id_before = fs::read_to_string(&machine_id).unwrap();

        node.boot().await;
        for id in [&game, &rebooted] {
            node.wait_state(id, "running").await;
        }
        assert_eq!(node.container(&game).await, container, "it is the same container");
        assert_eq!(starts(node, &game), 1);
        until("the start after the reboot", async || (starts(node, &rebooted) == 2).then_some(())).await;
        assert_eq!(node.state(&down).await.as_deref(), Some("offline"));
        node.wait_condition(&game, ConditionType::PanelNotified, Reason::Reported).await;
        wait_states(node, json!({&game: "running", &rebooted: "running", &down: "offline"})).await;

        // Its console has what was printed under Wings, and takes commands.
        let path = format!("/api/servers/{game}/commands");
        until("a command", async || (node.post(&path, json!({"commands": ["say hi"]})).await == 204).then_some(()))
            .await;
        until("the transcript", async || transcript(node, &game).contains("<<hi>>").then_some(())).await;
        assert_eq!(transcript(node, &game).matches("booting").count(), 1, "{}", transcript(node, &game));

        assert_eq!(left(), before);
        assert_eq!(fs::read_to_string(&machine_id).unwrap(), machine_id_before);
        assert_eq!(starts(node, &down), 1);

        // It is as one that was started here: a crash starts it again.
        assert_eq!(node.post(&path, json!({"commands": ["crash"]})).await, 204);
        until("the start after the crash", async || (starts(node, &game) == 2).then_some(())).await;
        node.wait_state(&game, "running").await;

        // And back. Wings finds the containers by their names, and writes its own file.
        node.terminate();
        assert_eq!(states(node), json!({&game: "running", &rebooted: "running", &down: "offline"}));
        for id in [&game, &rebooted] {
            assert!(node.container(id).await.is_some_and(|(_, runs)| runs));
        }
        stop(node, &rebooted).await;
        start(node, &down).await;
        fs::write(states_file(node), json!({&game: "running", &rebooted: "offline", &down: "running"}).to_string())
            .unwrap();

        // There again: what Wings did meanwhile counts.
        let container = node.container(&game).await;
        node.boot().await;
        node.wait_state(&down, "running").await;
        node.wait_state(&game, "running").await;
        wait_states(node, json!({&game: "running", &rebooted: "offline", &down: "running"})).await;
        assert_eq!((node.container(&game).await, starts(node, &rebooted)), (container, 2));
    })
    .await;
}

#[tokio::test]
async fn servers_run_on_without_the_panel_and_are_managed_when_it_answers() {
    after_wings(async |node| {
        let (game, rebooted) = (server_of_wings(node).await, server_of_wings(node).await);
        stop(node, &rebooted).await;
        let left = json!({&game: "running", &rebooted: "starting"});
        fs::write(states_file(node), left.to_string()).unwrap();
        let container = node.container(&game).await;
        node.panel.pause();
        node.boot().await;
        // Also over another start of the daemon, which keeps what Wings has left.
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        node.kill_and_boot().await;
        assert_eq!((states(node), node.container(&game).await), (left, container.clone()));
        node.panel.resume();
        for id in [&game, &rebooted] {
            node.wait_state(id, "running").await;
        }
        assert_eq!(node.container(&game).await, container);
        until("the start", async || (starts(node, &rebooted) == 2).then_some(())).await;
    })
    .await;
}

#[tokio::test]
async fn an_installation_of_wings_is_followed_to_its_end_and_reported() {
    after_wings(async |node| {
        let id = node.define("echo again >> /mnt/server/runs.txt");
        create_server(node, &id).await;
        create_installer(node, &id, GATED).await;
        start(node, &format!("{id}_installer")).await;
        wait_path(&volume(node, &id).join("early")).await;
        node.boot().await;
        node.wait_condition(&id, ConditionType::Installed, Reason::Running).await;
        until("the log so far", async || node.install_log(&id).contains("first line").then_some(())).await;
        node.touch(&id, "go");
        node.wait_file(&id, "late").await;
        // It is still known after another start.
        node.kill_and_boot().await;
        node.touch(&id, "end");
        let report = node.panel.wait_install(0, &id).await;
        assert_eq!(report, json!({"successful": true, "reinstall": false}));
        assert!(
            node.panel.matching(0, "POST", "/servers/reset").iter().all(|reset| {
                reset.index > node.panel.matching(0, "POST", &format!("/servers/{id}/install"))[0].index
            }),
            "the panel keeps showing an installation"
        );
        let log = node.install_log(&id);
        assert!(log.contains("| Script Output"), "{log}");
        for line in ["first line", "last line"] {
            assert_eq!(log.matches(line).count(), 1, "{log}");
        }
        assert_eq!(node.read(&id, "runs.txt"), "run\n", "the script ran once");
        let installer = format!("{id}_installer");
        until("the installer's removal", async || node.container(&installer).await.is_none().then_some(())).await;
        assert_eq!(node.state(&id).await.as_deref(), Some("offline"));
    })
    .await;
}

#[tokio::test]
async fn an_installation_that_ended_after_wings_is_reported() {
    after_wings(async |node| {
        let id = node.define("echo again >> /mnt/server/runs.txt");
        create_server(node, &id).await;
        create_installer(node, &id, "echo run >> /mnt/server/runs.txt; echo last line; exit 3").await;
        let installer = format!("{id}_installer");
        start(node, &installer).await;
        until("its end", async || node.container(&installer).await.is_some_and(|(_, runs)| !runs).then_some(())).await;
        node.boot().await;
        let report = node.panel.wait_install(0, &id).await;
        assert_eq!(report, json!({"successful": true, "reinstall": false}));
        assert!(node.install_log(&id).contains("last line"));
        assert_eq!(node.read(&id, "runs.txt"), "run\n");
    })
    .await;
}

/// Every file below a folder, with what tells whether it was changed.
fn tree(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
        let (path, metadata) = (entry.path(), entry.metadata().expect("its metadata"));
        let changed = (metadata.ctime(), metadata.ctime_nsec(), metadata.len(), metadata.mode());
        found.push(format!("{} {changed:?} {:?}", path.display(), metadata.is_file().then(|| fs::read(&path).ok())));
        if metadata.is_dir() {
            found.extend(tree(&path));
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_dry_run_shows_what_is_taken_over_and_changes_nothing() {
    after_wings(async |node| {
        let game = server_of_wings(node).await;
        let rebooted = node.define("true");
        create_server(node, &rebooted).await;
        fs::write(states_file(node), json!({&game: "running", &rebooted: "running"}).to_string()).unwrap();
        let run = |engine: &str, format: &str| {
            let output = std::process::Command::new(env!("CARGO_BIN_EXE_alula"))
                .args(["adopt", "--dry-run", "--output", format, "--config"])
                .arg(node.folder.path().join("config.yml"))
                .env("NO_PROXY", "*")
                .env("DOCKER_HOST", engine)
                .output()
                .expect("the program");
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).expect("text")
        };
        // Its own files are written while it runs.
        let state =
            |node: &Node| [tree(&node.folder.path().join("root")), tree(Path::new(&node.setting("/system/data")))];
        let (before, container) = (state(node), node.container(&game).await);
        let engine = format!("unix://{}", crate::ENGINE);
        let report: Value = serde_json::from_str(&run(&engine, "json")).expect("JSON");
        let server = |report: &Value, id: &str| {
            let servers = report["servers"].as_array().expect("a list").iter();
            servers.clone().find(|server| server["uuid"] == id).cloned().expect("the server")
        };
        let found = server(&report, &game);
        assert_eq!(
            (&found["state"], &found["wanted"], &found["listed"]),
            (&json!("running"), &json!("running"), &json!(true))
        );
        assert_eq!(found["container"].as_str(), container.as_ref().map(|(id, _)| id.as_str()));
        assert_eq!(
            (found["image"].as_str(), found["name"].as_str()),
            (Some(node.image.as_str()), Some(format!("server {game}").as_str()))
        );
        assert_eq!(server(&report, &rebooted)["wanted"], "running");
        assert!(run(&engine, "table").contains("Nothing was changed"));
        // Without the engine and the panel the rest is shown.
        node.panel.pause();
        let report: Value = serde_json::from_str(&run("unix:///nonexistent/docker.sock", "json")).expect("JSON");
        assert_eq!((&report["engine"], &report["panelServers"]), (&Value::Null, &Value::Null));
        assert_eq!(server(&report, &rebooted)["wanted"], "running");
        assert_eq!(report["attention"].as_array().map(Vec::len), Some(2), "{report}");
        assert_eq!(state(node), before);
        assert_eq!(node.container(&game).await, container);
    })
    .await;
}

#[tokio::test]
async fn alula_does_not_start_while_wings_runs_on_the_node() {
    after_wings(async |node| {
        let database = node.folder.path().join("root/wings.db");
        fs::write(&database, "").unwrap();
        let program = node.folder.path().join("wings");
        fs::copy("/bin/sleep", &program).unwrap();
        let open = fs::File::open(&database).unwrap();
        let mut wings = std::process::Command::new(&program).arg("600").stdin(open).spawn().expect("a process");
        node.spawn();
        let ended = node.ended().await;
        let output = node.latest_output();
        wings.kill().unwrap();
        wings.wait().unwrap();
        assert!(!ended.success());
        assert!(
            output.contains(&format!("Wings (pid {}", wings.id())) && output.contains("systemctl disable"),
            "{output}"
        );
        assert!(!node.folder.path().join("root/.lock").exists(), "nothing was touched");
        node.boot().await;
    })
    .await;
}
