//! Backups and restores over the API: accepted, made, reported, restored, deleted.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use alula::events::EventKind;
use alula::model::{PowerState, Reason, ServerId};
use alula::panel::PanelError;
use alula::testing::{PanelBackup, PanelCall};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use uuid::Uuid;

use crate::node::{Answer, ApiNode};

const ID: Uuid = Uuid::from_u128(0x5555_5555_5555_4555_8555_5555_5555_5555);

struct Backups {
    node: ApiNode,
    id: ServerId,
}

impl Backups {
    fn new() -> Self {
        let node = ApiNode::new();
        let id = node.add(1);
        node.context.node.layout.prepare(id).unwrap();
        node.panel.lock().backups.insert(ID, PanelBackup::default());
        Self { node, id }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.node.context.node.layout.data(self.id).join(name)
    }

    fn archive(&self) -> PathBuf {
        self.node.context.node.layout.backup_archive(self.id, ID)
    }

    async fn call(&self, method: Method, call: &str, body: Value) -> Answer {
        let path = format!("/api/servers/{}/{call}", self.id);
        self.node.ask(method, &path, body.to_string()).await
    }

    async fn back_up(&self) -> StatusCode {
        self.call(Method::POST, "backup", json!({"adapter": "wings", "uuid": ID, "ignore": ""})).await.status
    }

    async fn restore(&self, truncate: bool) -> Answer {
        let body = json!({"adapter": "wings", "truncate_directory": truncate, "download_url": "https://x"});
        self.call(Method::POST, &format!("backup/{ID}/restore"), body).await
    }

    /// Waits until the panel has so many results.
    async fn reported(&self, reports: usize, restores: usize) {
        let has = || {
            let panel = self.node.panel.lock();
            let backup = &panel.backups[&ID];
            backup.reports.len() == reports && backup.restores.len() == restores
        };
        for _ in 0..600 {
            if has() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{:?}", self.node.panel.lock().backups);
    }
}

#[tokio::test(start_paused = true)]
async fn a_backup_is_made_reported_restored_and_deleted() {
    let backups = Backups::new();
    fs::write(backups.path("world"), "one").unwrap();
    fs::create_dir(backups.path("empty")).unwrap();
    std::os::unix::fs::symlink("world", backups.path("link")).unwrap();
    assert_eq!(backups.back_up().await, StatusCode::ACCEPTED);
    assert_eq!(backups.back_up().await, StatusCode::ACCEPTED, "the same request changes nothing");
    backups.reported(1, 0).await;
    let report = backups.node.panel.lock().backups[&ID].reports[0].clone();
    let archive = fs::read(backups.archive()).unwrap();
    let sha1: String = Sha1::digest(&archive).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((report.successful, report.size, report.checksum), (true, archive.len() as u64, sha1));
    assert_eq!(report.parts, None);

    fs::write(backups.path("world"), "two").unwrap();
    fs::write(backups.path("new"), "new").unwrap();
    fs::remove_dir(backups.path("empty")).unwrap();
    assert_eq!(backups.restore(false).await.status, StatusCode::ACCEPTED);
    backups.reported(1, 1).await;
    assert_eq!(fs::read_to_string(backups.path("world")).unwrap(), "one");
    assert_eq!(fs::read_link(backups.path("link")).unwrap(), PathBuf::from("world"));
    assert!(backups.path("empty").is_dir() && backups.path("new").exists(), "files that the archive lacks stay");

    assert_eq!(backups.restore(true).await.status, StatusCode::ACCEPTED);
    backups.reported(1, 2).await;
    assert!(!backups.path("new").exists());
    assert_eq!(backups.node.panel.lock().backups[&ID].restores, [true, true]);

    let gone = backups.call(Method::DELETE, &format!("backup/{ID}"), json!({})).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    assert!(!backups.archive().exists() && !backups.archive().parent().unwrap().exists(), "the answer waits for it");
    let again = backups.call(Method::DELETE, &format!("backup/{ID}"), json!({})).await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);
    assert_eq!(again.json()["error"], "The requested backup was not found on this server.");

    backups.node.panel.lock().backups.insert(ID, PanelBackup::default());
    assert_eq!(backups.back_up().await, StatusCode::ACCEPTED, "the id is free again");
    backups.reported(1, 0).await;
    assert!(backups.archive().exists());
    let all = backups.call(Method::DELETE, "deleteAllBackups", json!({})).await;
    assert_eq!(all.status, StatusCode::NO_CONTENT);
    assert!(!backups.archive().parent().unwrap().exists());
}

#[tokio::test(start_paused = true)]
async fn a_result_waits_for_the_panel_and_a_backup_that_it_does_not_know_is_removed() {
    let backups = Backups::new();
    let away = PanelError::Unreachable { call: String::new(), cause: "refused".into() };
    backups.node.panel.fail(|call| matches!(call, PanelCall::ReportBackup(_)), away);
    assert_eq!(backups.back_up().await, StatusCode::ACCEPTED);
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    assert!(backups.archive().exists(), "the panel is away");
    backups.node.panel.succeed();
    backups.reported(1, 0).await;
    assert!(backups.archive().exists());

    let unknown = Uuid::from_u128(9);
    let body = json!({"adapter": "wings", "uuid": unknown, "ignore": ""});
    assert_eq!(backups.call(Method::POST, "backup", body).await.status, StatusCode::ACCEPTED);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let archive = backups.node.context.node.layout.backup_archive(backups.id, unknown);
    assert!(archive.exists(), "the panel may not have committed it yet");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!archive.exists());
    assert!(backups.archive().exists());
}

#[tokio::test(start_paused = true)]
async fn a_success_that_the_panel_refuses_stays_and_is_not_announced() {
    for (status, announced) in [(400, true), (403, false), (409, false)] {
        let backups = Backups::new();
        let mut events = backups.node.context.store.events().subscribe(backups.id);
        let refused = PanelError::Rejected { call: String::new(), status, detail: String::new() };
        backups.node.panel.fail(|call| matches!(call, PanelCall::ReportBackup(_)), refused);
        assert_eq!(backups.back_up().await, StatusCode::ACCEPTED);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(backups.archive().exists());
        let found: Vec<_> = std::iter::from_fn(|| events.try_recv()).collect();
        let completed = found.iter().any(|event| matches!(event.kind, EventKind::BackupCompleted(_)));
        assert_eq!(completed, announced, "{status}");
        let status = backups.node.context.store.status(backups.id).unwrap();
        assert!(status.events.iter().any(|event| event.reason == Reason::OperationReportRejected), "{status:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn links_that_make_no_sense_end_an_upload_and_are_not_requested_again() {
    let backups = Backups::new();
    let invalid = PanelError::InvalidResponse { call: String::new(), detail: "parts: expected 1 link".into() };
    backups.node.panel.fail(|call| matches!(call, PanelCall::BackupUpload(_)), invalid);
    let body = json!({"adapter": "s3", "uuid": ID, "ignore": ""});
    assert_eq!(backups.call(Method::POST, "backup", body).await.status, StatusCode::ACCEPTED);
    backups.reported(1, 0).await;
    let report = backups.node.panel.lock().backups[&ID].reports[0].clone();
    assert!(!report.successful && report.checksum.is_empty(), "{report:?}");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!backups.archive().exists());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_request_for_a_backup() {
    let backups = Backups::new();
    let stars = format!("a\n{}", "*".repeat(17));
    for (body, message) in [
        (json!({"adapter": "wings", "uuid": "x"}), "The backup identifier must be a valid UUID."),
        (json!({"adapter": "wings", "uuid": format!("{{{ID}}}")}), "The backup identifier must be a valid UUID."),
        (json!({"adapter": "ftp", "uuid": ID}), "The backup adapter must be one of: wings, s3."),
        (
            json!({"adapter": "wings", "uuid": ID, "ignore": stars}),
            "line 2 of the ignore list: the pattern has more than 16 `*`",
        ),
    ] {
        let answer = backups.call(Method::POST, "backup", body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert_eq!(answer.json()["error"], message);
    }
    assert!(backups.node.context.store.get(backups.id).unwrap().record.backups.is_empty());
    let missing = backups.restore(true).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    let link = |url: &str| json!({"adapter": "s3", "truncate_directory": true, "download_url": url});
    for (url, message) in [
        ("", "The download_url field is required when the backup adapter is set to S3."),
        ("file:///etc/passwd", "The provided backup link must use HTTP or HTTPS."),
        ("no link", "The provided backup link is not a valid URL."),
        ("http://127.0.0.1:1/x", "The provided backup link resolves to a blocked address."),
    ] {
        let answer = backups.call(Method::POST, &format!("backup/{ID}/restore"), link(url)).await;
        assert_eq!((answer.status, &answer.json()["error"]), (StatusCode::BAD_REQUEST, &json!(message)), "{url}");
    }
    assert_eq!(backups.node.context.store.get(backups.id).unwrap().record.restore, None);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_archive_changes_nothing_and_the_panel_learns_it() {
    let backups = Backups::new();
    fs::write(backups.path("world"), "one").unwrap();
    backups.back_up().await;
    backups.reported(1, 0).await;
    let mut archive = fs::read(backups.archive()).unwrap();
    let middle = archive.len() / 2;
    archive[middle] ^= 0xff;
    fs::write(backups.archive(), archive).unwrap();
    fs::write(backups.path("world"), "two").unwrap();
    assert_eq!(backups.restore(true).await.status, StatusCode::ACCEPTED);
    backups.reported(1, 1).await;
    assert_eq!(backups.node.panel.lock().backups[&ID].restores, [false]);
    assert_eq!(fs::read_to_string(backups.path("world")).unwrap(), "two");
    let names: Vec<_> = fs::read_dir(backups.path("..")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains("restore")), "{names:?}");
    let status = backups.node.context.store.status(backups.id).unwrap();
    assert!(status.events.iter().any(|event| event.reason == Reason::RestoreFailed), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn a_running_server_is_stopped_for_a_restore_and_nothing_starts_it_meanwhile() {
    let backups = Backups::new();
    backups.back_up().await;
    backups.reported(1, 0).await;
    backups.call(Method::POST, "power", json!({"action": "start"})).await;
    backups.node.becomes(backups.id, PowerState::Starting).await;
    assert_eq!(backups.restore(true).await.status, StatusCode::ACCEPTED);
    let again = backups.restore(true).await;
    let start = backups.call(Method::POST, "power", json!({"action": "start"})).await;
    let write = backups.call(Method::POST, "files/create-directory", json!({"name": "a", "path": "/"})).await;
    let install = backups.call(Method::POST, "reinstall", json!({})).await;
    for answer in [again, start, write, install] {
        assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.text);
    }
    backups.reported(1, 1).await;
    backups.node.becomes(backups.id, PowerState::Offline).await;
    let start = backups.call(Method::POST, "power", json!({"action": "start"})).await;
    assert_eq!(start.status, StatusCode::ACCEPTED);
    backups.node.becomes(backups.id, PowerState::Starting).await;
}
