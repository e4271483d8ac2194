//! Backups and deleted servers over the local socket: made, restored in part, undone, with console commands, and brought back.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use alula::model::{BackupHook, BackupHooks, PowerState, Record, ServerId, time::Span};
use alula::testing::fake::{Act, Program, ServerScript};
use alula::testing::{IMAGE, file_manifest, server_id};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::node::{Answer, ApiNode};

struct Server {
    node: ApiNode,
    id: ServerId,
}

impl Server {
    fn new() -> Self {
        Self::with_hooks(None)
    }

    fn with_hooks(hooks: Option<BackupHooks>) -> Self {
        let node = ApiNode::new();
        let mut manifest = file_manifest(1);
        manifest.spec.backup = hooks;
        manifest.spec.process.startup.done = vec!["Done!".into()];
        node.context.store.create(manifest, Record::default(), []).unwrap();
        let id = server_id(1);
        node.context.node.layout.prepare(id).unwrap();
        Self { node, id }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.node.context.node.layout.data(self.id).join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    async fn post(&self, call: &str, body: Value) -> Answer {
        let path = format!("/local/servers/{}/{call}", self.id);
        self.node.send_locally(Method::POST, &path, body.to_string()).await
    }

    async fn known(&self) -> Value {
        self.node.ask_locally(&format!("/local/servers/{}/backups", self.id)).await.json()
    }

    async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..600 {
            let known = self.known().await;
            if holds(&known) {
                return known;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{what}: {:#}", self.known().await);
    }

    /// Makes a backup, and returns its id.
    async fn back_up(&self) -> String {
        let made = self.post("backups", json!({})).await.json()["backup"].as_str().unwrap().to_owned();
        self.until("the backup is made", |known| {
            let all = known["backups"].as_array().unwrap();
            all.iter().any(|backup| backup["id"] == made && backup["result"]["succeeded"] == true)
        })
        .await;
        made
    }

    async fn restored(&self, answer: Answer) {
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let token = answer.json()["restore"].clone();
        let ended = |known: &Value| known["restore"]["token"] == token && known["restore"]["result"].is_object();
        let known = self.until("the restore has ended", ended).await;
        assert_eq!(known["restore"]["result"]["succeeded"], true, "{known:#}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_restore_is_undone_and_done_again() {
    let server = Server::new();
    fs::write(server.path("world"), "old").unwrap();
    let backup = server.back_up().await;
    fs::write(server.path("world"), "new").unwrap();
    fs::write(server.path("more"), "more").unwrap();
    let nothing = server.post("undo-restore", json!({})).await;
    assert_eq!(nothing.status, StatusCode::CONFLICT, "{nothing:?}");
    server.restored(server.post(&format!("backups/{backup}/restore"), json!({"truncate": true})).await).await;
    assert_eq!((server.text("world").as_str(), server.path("more").exists()), ("old", false));
    server.restored(server.post("undo-restore", json!({})).await).await;
    assert_eq!((server.text("world").as_str(), server.text("more").as_str()), ("new", "more"));
    server.restored(server.post("undo-restore", json!({})).await).await;
    assert_eq!((server.text("world").as_str(), server.path("more").exists()), ("old", false));
    // A day later there is nothing to undo.
    tokio::time::sleep(Duration::from_secs(25 * 3600)).await;
    assert!(server.known().await["formerFiles"].is_null());
    assert_eq!(server.post("undo-restore", json!({})).await.status, StatusCode::CONFLICT);
}

#[tokio::test(start_paused = true)]
async fn single_files_come_back() {
    let server = Server::new();
    fs::create_dir(server.path("world")).unwrap();
    for (name, text) in [("world/level.dat", "old"), ("world/other.dat", "old"), ("settings", "old")] {
        fs::write(server.path(name), text).unwrap();
    }
    let backup = server.back_up().await;
    for name in ["world/level.dat", "world/other.dat", "settings", "unrelated"] {
        fs::write(server.path(name), "new").unwrap();
    }
    let restore = format!("backups/{backup}/restore");
    server.restored(server.post(&restore, json!({"only": ["world/level.dat"]})).await).await;
    let texts = ["world/level.dat", "world/other.dat", "settings", "unrelated"].map(|name| server.text(name));
    assert_eq!(texts, ["old", "new", "new", "new"]);
    let both = server.post(&restore, json!({"only": ["world"], "truncate": true})).await;
    assert_eq!(both.status, StatusCode::UNPROCESSABLE_ENTITY);
    let outside = server.post(&restore, json!({"only": ["../world"]})).await;
    assert_eq!(outside.status, StatusCode::UNPROCESSABLE_ENTITY);
    let missing = server.post(&restore, json!({"only": ["nothing"]})).await;
    assert_eq!(missing.status, StatusCode::OK);
    server.until("the restore has failed", |known| known["restore"]["result"]["succeeded"] == false).await;
    assert_eq!(server.text("settings"), "new");
}

fn hook(command: &str, until: Option<&str>) -> BackupHook {
    BackupHook { command: command.into(), until: until.map(Into::into), timeout: Span(Duration::from_secs(5)) }
}

#[tokio::test(start_paused = true)]
async fn commands_are_sent_before_and_after_a_backup_of_a_running_server() {
    let hooks = BackupHooks {
        before: vec![hook("save-off", None), hook("save-all", Some("regex:^Saved"))],
        after: vec![hook("save-on", Some("Saving is on"))],
        pause: None,
    };
    let server = Server::with_hooks(Some(hooks));
    let say = |text: &str| vec![(Duration::from_secs(1), Act::Print(text.into()))];
    let program = Program::server(&ServerScript::default())
        .on_line("save-off", say("Saving is off"))
        .on_line("save-all", say("Saved the game"))
        .on_line("save-on", say("Saving is on"));
    server.node.engine.set_program(IMAGE, program);
    // Of a server that is offline nothing is asked.
    server.back_up().await;
    assert_eq!(server.post("power", json!({"action": "start"})).await.status, StatusCode::ACCEPTED);
    server.node.becomes(server.id, PowerState::Running).await;
    let mut lines = server.node.stream(&format!("/local/servers/{}/logs?follow=true&tail=0", server.id)).await;
    server.back_up().await;
    let mut printed = Vec::new();
    while !printed.iter().any(|line: &String| line.contains("Saving is on")) {
        printed.push(lines.line().await.expect("another line"));
    }
    let printed = printed.join("\n");
    let at = |text: &str| printed.find(text).unwrap_or_else(|| panic!("{text}: {printed}"));
    assert!(at("Saving is off") < at("Saved the game") && at("Saved the game") < at("Saving is on"), "{printed}");
    server.until("the server is released", |known| !known.to_string().contains("quieted")).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_backed_up_all_the_same() {
    let hooks = BackupHooks { before: vec![hook("save-all", Some("Saved"))], ..BackupHooks::default() };
    let server = Server::with_hooks(Some(hooks));
    server.node.engine.set_program(IMAGE, Program::server(&ServerScript::default()));
    server.post("power", json!({"action": "start"})).await;
    server.node.becomes(server.id, PowerState::Running).await;
    server.back_up().await;
    let status = server.node.context.store.status(server.id).unwrap();
    let noted = status.events.iter().any(|event| event.message.contains("has not printed \"Saved\" within 5 s"));
    assert!(noted, "{:#?}", status.events);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_deleted_by_hand_comes_back() {
    let server = Server::new();
    fs::write(server.path("world"), "world").unwrap();
    let backup = server.back_up().await;
    let path = format!("/local/servers/{}", server.id);
    assert_eq!(server.node.send_locally(Method::DELETE, &path, "").await.status, StatusCode::NO_CONTENT);
    let gone = async |server: &Server| {
        for _ in 0..600 {
            if server.node.context.store.get(server.id).is_none() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("it is still there");
    };
    gone(&server).await;
    assert!(!server.path("world").exists());
    let kept = server.node.ask_locally("/local/trash").await.json();
    assert_eq!(kept.as_array().unwrap().len(), 1, "{kept:#}");
    let name =
        format!("{}-{}", server.id, server.node.context.node.layout.deleted_servers().unwrap()[0].at.as_millis());
    let restore = format!("/local/trash/{name}/restore");
    assert_eq!(server.node.send_locally(Method::POST, &restore, "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(server.text("world"), "world");
    let known = server.known().await;
    assert_eq!(
        (&known["backups"][0]["id"], &known["files"][0]["id"]),
        (&backup.as_str().into(), &backup.as_str().into())
    );
    assert_eq!(server.node.send_locally(Method::POST, &restore, "").await.status, StatusCode::NOT_FOUND);

    let now = format!("{path}?now=true");
    assert_eq!(server.node.send_locally(Method::DELETE, &now, "").await.status, StatusCode::NO_CONTENT);
    gone(&server).await;
    assert_eq!(server.node.ask_locally("/local/trash").await.json(), json!([]));
}
