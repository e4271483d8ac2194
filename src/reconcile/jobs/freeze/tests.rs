use std::sync::Arc;

use super::*;
use crate::model::{Backup, BackupHooks, BackupStorage, PowerState, Record, Requester, Role, Verb, time::Span};
use crate::runtime::container_name;
use crate::testing::fake::{Program, ServerScript};
use crate::testing::{IMAGE, TestNode, file_manifest, server_id};

const PAUSE: Duration = Duration::from_secs(2);

/// A running server with a backup that is being made.
struct Running {
    node: TestNode,
    backup: Uuid,
}

impl Running {
    async fn new(pause: Option<Duration>) -> Self {
        let (node, id, backup) = (TestNode::new(), server_id(1), Uuid::from_u128(1));
        node.engine.set_program(IMAGE, Program::server(&ServerScript::default()));
        let mut manifest = file_manifest(1);
        manifest.spec.backup = pause.map(|pause| BackupHooks { pause: Some(Span(pause)), ..BackupHooks::default() });
        manifest.spec.process.startup.done = vec![ServerScript::default().done];
        node.context.store.create(manifest, Record::default(), []).unwrap();
        node.start(1);
        node.accept(id, Verb::Start);
        let running = || node.context.store.status(id).is_some_and(|status| status.state == PowerState::Running);
        while !running() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let container = node.context.console.attached(id);
        let begun = Backup {
            quieted: container,
            ..Backup::new(backup, node.context.clock.now(), Requester::Cli, BackupStorage::Local)
        };
        node.context.store.commit(id, |record| record.backups.push(begun)).unwrap();
        Self { node, backup }
    }

    async fn freeze(&self) -> Option<Frozen> {
        let (context, backup) = (Arc::clone(&self.node.context), self.backup);
        tokio::task::spawn_blocking(move || freeze(&context, server_id(1), backup)).await.unwrap()
    }

    fn is_frozen(&self) -> bool {
        self.node.engine.is_frozen(&container_name(server_id(1), Role::Server))
    }

    async fn becomes_thawed(&self) {
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(!self.is_frozen());
    }

    fn events(&self) -> String {
        let status = self.node.context.store.status(server_id(1)).unwrap();
        status.events.iter().map(|event| event.message.clone()).collect::<Vec<_>>().join("\n")
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_is_frozen_until_the_copy_is_complete() {
    let server = Running::new(Some(PAUSE)).await;
    let frozen = server.freeze().await.expect("a pause");
    assert!(server.is_frozen());
    drop(frozen);
    server.becomes_thawed().await;
    assert!(!server.events().contains("pause"), "{}", server.events());
}

#[tokio::test(start_paused = true)]
async fn a_container_is_not_frozen_for_longer_than_its_manifest_says() {
    let server = Running::new(Some(PAUSE)).await;
    let _frozen = server.freeze().await.expect("a pause");
    tokio::time::sleep(PAUSE - Duration::from_millis(100)).await;
    assert!(server.is_frozen());
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.becomes_thawed().await;
    assert!(server.events().contains("has ended after 2s"), "{}", server.events());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_daemon_thaws_it() {
    let server = Running::new(Some(PAUSE)).await;
    let _frozen = server.freeze().await.expect("a pause");
    server.node.context.tasks.shutdown(Duration::from_secs(1)).await;
    assert!(!server.is_frozen());
}

#[tokio::test(start_paused = true)]
async fn without_a_pause_nothing_is_frozen() {
    let server = Running::new(None).await;
    assert!(server.freeze().await.is_none());
    assert!(!server.is_frozen());
}

/// The record names the container of a backup that no job makes any more.
#[tokio::test(start_paused = true)]
async fn a_container_that_a_crash_left_frozen_is_thawed() {
    let server = Running::new(Some(PAUSE)).await;
    let (context, id) = (&server.node.context, server_id(1));
    let container = context.console.attached(id).unwrap();
    context.runtime.freeze(&container, true).await.unwrap();
    let backup = server.backup;
    let given_up = move |record: &mut Record| record.backup_mut(backup).unwrap().deleting = true;
    context.store.commit(id, given_up).unwrap();
    context.store.wake(id);
    let released =
        || context.store.get(id).unwrap().record.backup(backup).is_none_or(|backup| backup.quieted.is_none());
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if released() {
            return assert!(!server.is_frozen());
        }
    }
    panic!("it is not released: {}", server.events());
}
