//! A server goes from one alula to another one.

use std::path::Path;

use alula::model::{BackupStorage, PowerState, Verb};
use http::{Method, StatusCode};
use serde_json::json;

use crate::node::{Node, add_backup, server, statuses, tree, wait};

const BACKUP: &str = "0f0e0d0c-0b0a-4000-8000-00000000000a";

#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_moves_with_its_backups_and_its_log() {
    let (source, destination) = (Node::new().await, Node::new().await);
    let data = source.add_server();
    let before = tree(&data);
    let log = source.node().context.node.layout.install_log(server());
    std::fs::write(log, "the log").unwrap();
    let chosen = add_backup(&source, BACKUP, &[3; 200_000]);
    let other = add_backup(&source, "0f0e0d0c-0b0a-4000-8000-00000000000b", b"stays");
    source.node().accept(server(), Verb::Start);
    let state = |node: &Node| node.node().context.store.status(server()).map(|status| status.state);
    wait("it runs", || state(&source) == Some(PowerState::Starting)).await;
    let (mut left, mut came) = (source.events(), destination.events());
    let token = destination.token("one", json!({}));
    assert_eq!(source.send_to(&destination.url(), &token, json!([BACKUP])).await, StatusCode::ACCEPTED);
    assert_eq!(source.send_to(&destination.url(), &token, json!([])).await, StatusCode::CONFLICT);
    wait("the panel has it", || !destination.reported().is_empty()).await;
    assert_eq!(destination.reported(), [true], "{:?} {:?}", source.transfer(), destination.transfer());
    assert_eq!(tree(&destination.data()), before, "links, modes and empty directories, too");
    wait("it is released", || destination.record().unwrap().holding_transfer().is_none()).await;
    let record = destination.record().unwrap();
    let backups: Vec<_> = record.backups.iter().map(|backup| (backup.id, backup.storage, backup.reported)).collect();
    assert_eq!(backups, [(chosen, BackupStorage::Local, true)]);
    let layout = &destination.node().context.node.layout;
    assert_eq!(std::fs::read(layout.backup_archive(server(), chosen)).unwrap(), [3; 200_000]);
    assert_eq!(std::fs::read_to_string(layout.install_log(server())).unwrap(), "the log");
    assert_eq!(state(&destination), Some(PowerState::Offline), "nothing starts by itself");
    wait("former files are gone", || destination.record().unwrap().former_files.is_none()).await;
    // The source waits for the panel.
    assert_eq!(state(&source), Some(PowerState::Offline));
    assert!(source.record().unwrap().holding_transfer().is_some());
    assert!(source.reported().is_empty(), "the source reports nothing");
    let detached = source.record().unwrap().backup(other).unwrap().detached;
    assert!(detached, "the panel forgets what was not chosen");
    let start = json!({"action": "start"}).to_string();
    let power = format!("/api/servers/{}/power", server());
    assert_eq!(source.ask(Method::POST, &power, start).await.0, StatusCode::CONFLICT);
    let (status, _) = source.ask(Method::DELETE, &format!("/api/servers/{}", server()), "").await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    source.is_gone().await;
    assert_eq!(statuses(&mut left), ["processing", "completed"]);
    wait("browsers know", || statuses(&mut came) == ["success"]).await;
    // It starts there.
    destination.node().accept(server(), Verb::Start);
    wait("it runs there", || state(&destination) == Some(PowerState::Starting)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_moves_away_and_comes_back_while_its_files_were_left() {
    let (source, destination) = (Node::new().await, Node::new().await);
    source.add_server();
    let store = destination.node().context.store.clone();
    destination.add_server();
    std::fs::write(destination.data().join("old"), "old").unwrap();
    let parked = destination.node().context.clock.now();
    store.commit(server(), |record| record.parked = Some(parked)).unwrap();
    // Listed ones are not overwritten, and a failure leaves what was there.
    let broken = destination.receive(&destination.token("zero", json!({})), b"no form").await;
    assert_eq!(broken, StatusCode::BAD_REQUEST);
    wait("it is as it was", || destination.record().unwrap().parked == Some(parked)).await;
    assert!(destination.data().join("old").exists());
    let token = destination.token("one", json!({}));
    assert_eq!(source.send_to(&destination.url(), &token, json!([])).await, StatusCode::ACCEPTED);
    wait("the panel has it", || destination.reported() == [false, true]).await;
    assert_eq!(tree(&destination.data()), tree(&source.data()));
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_share_their_storage_copy_nothing() {
    fn pooled(config: &mut alula::config::NodeConfig) {
        config.storage_pool = Some("Nfs".into());
        config.directories.data =
            Some(Path::new("/").join(std::env::temp_dir()).join(format!("pool-{}", std::process::id())));
    }
    let (source, destination) = (Node::with_config(pooled).await, Node::with_config(pooled).await);
    let data = source.add_server();
    let before = tree(&data);
    let token = destination.token("one", json!({}));
    assert_eq!(source.send_to(&destination.url(), &token, json!([])).await, StatusCode::ACCEPTED);
    wait("the panel has it", || destination.reported() == [true]).await;
    wait("the source knows", || {
        source.transfer().is_some_and(|transfer| transfer.result.is_some_and(|result| result.succeeded))
    })
    .await;
    assert_eq!(tree(&data), before);
    let (status, _) = source.ask(Method::DELETE, &format!("/api/servers/{}", server()), "").await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    wait("it is gone", || source.record().is_none()).await;
    assert_eq!(tree(&destination.data()), before, "the files stay");
    std::fs::remove_dir_all(data.parent().unwrap()).unwrap();
}
