//! The panel's list meets what is on disk.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;

use super::*;
use crate::model::{PowerState, Record, Script};
use crate::panel::{ListedServer, Panel, PanelServer};
use crate::reconcile::bench::{ScriptedPanel, context, context_on, id, server};
use crate::reconcile::context::Context;
use crate::store::{Blocking, DiskHook, DiskOp};

fn listed(servers: &[(u32, &str)], asked: Instant) -> Listed {
    let entry = |(number, invocation): &(u32, &str)| ListedServer { id: id(*number), server: Ok(server(invocation)) };
    Listed { servers: servers.iter().map(entry).collect(), asked, incomplete: None }
}

/// A node with a panel.
fn node() -> (tempfile::TempDir, Arc<Context>) {
    context(Some(Arc::new(ScriptedPanel::default())))
}

/// Applies a list that was asked for so many seconds ago.
async fn apply_list(context: &Context, listed: Listed, ago: u64) -> usize {
    let read_at = context.clock.now();
    let list = FetchedList { listed, asked_at: read_at - Duration::from_secs(ago), read_at };
    let layout = context.node.layout.clone();
    sync(context).apply_list(list, move |id| layout.prepare(id).unwrap()).await
}

fn sync(context: &Context) -> &Arc<PanelSync> {
    context.sync.as_ref().unwrap()
}

/// A server that was synced so many seconds ago.
fn add(context: &Context, number: u32, invocation: &str, ago: u64) {
    let synced_at = Some(context.clock.now() - Duration::from_secs(ago));
    let record = Record { synced_at, ..Record::default() };
    context.store.create(crate::sync::new_manifest(id(number), server(invocation)), record, []).unwrap();
}

fn parked(context: &Context) -> Vec<ServerId> {
    let servers = context.store.list().into_iter();
    servers.filter(|snapshot| snapshot.record.parked.is_some()).map(|snapshot| snapshot.id).collect()
}

fn invocation(context: &Context, number: u32) -> String {
    context.store.get(id(number)).unwrap().manifest.as_ref().unwrap().spec.settings.invocation.clone()
}

#[tokio::test(start_paused = true)]
async fn servers_that_are_not_listed_are_parked_and_come_back() {
    let (_root, context) = node();
    add(&context, 1, "a", 100);
    add(&context, 2, "b", 100);
    // Made while the list was on its way.
    add(&context, 3, "c", 3);
    let mut by_file = crate::model::Manifest::new(id(4), ManagedBy::File);
    by_file.spec.settings.container.image = "game:1".into();
    context.store.create(by_file, Record::default(), []).unwrap();
    apply_list(&context, listed(&[(1, "a")], Instant::now()), 5).await;
    assert_eq!(parked(&context), [id(2)]);
    assert!(!context.store.get(id(2)).unwrap().is_listed());
    assert_eq!(context.store.status(id(2)).unwrap().events[0].reason, Reason::Parked);

    apply_list(&context, listed(&[(1, "a"), (2, "b2"), (3, "c")], Instant::now()), 0).await;
    assert_eq!(parked(&context), []);
    assert_eq!(invocation(&context, 2), "b2");
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_list_parks_no_server() {
    let (_root, context) = node();
    add(&context, 1, "a", 100);
    let list = Listed { incomplete: Some("for a test".into()), ..listed(&[(2, "b")], Instant::now()) };
    apply_list(&context, list, 5).await;
    assert_eq!(parked(&context), []);
    assert_eq!(invocation(&context, 2), "b", "what it has is applied");
}

#[tokio::test(start_paused = true)]
async fn a_list_does_not_undo_a_configuration_that_was_fetched_after_it() {
    let (_root, context) = node();
    add(&context, 1, "newer", 3);
    add(&context, 2, "older", 8);
    apply_list(&context, listed(&[(1, "listed"), (2, "listed")], Instant::now()), 5).await;
    assert_eq!((invocation(&context, 1).as_str(), invocation(&context, 2).as_str()), ("newer", "listed"));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_deleted_meanwhile_does_not_come_back() {
    let (_root, context) = node();
    let before = Instant::now();
    tokio::time::advance(Duration::from_secs(1)).await;
    sync(&context).server_removed(id(1));
    apply_list(&context, listed(&[(1, "a"), (2, "b")], before), 1).await;
    assert_eq!(context.store.ids(), [id(2)]);
    // A panel that lists it still, asked later, wants it.
    tokio::time::advance(Duration::from_secs(1)).await;
    apply_list(&context, listed(&[(1, "a"), (2, "b")], Instant::now()), 0).await;
    assert_eq!(context.store.ids(), [id(1), id(2)]);
}

/// Answers lists in turn; the last one again and again.
struct Lists(Mutex<Vec<Result<Listed, PanelError>>>);

#[async_trait]
impl Panel for Lists {
    async fn list(&self) -> Result<Listed, PanelError> {
        let mut answers = self.0.lock().unwrap();
        if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() }
    }
    async fn server(&self, _: ServerId) -> Result<PanelServer, PanelError> {
        unreachable!()
    }
    async fn script(&self, _: ServerId) -> Result<Script, PanelError> {
        unreachable!()
    }
    async fn report_install(&self, _: ServerId, _: bool, _: bool) -> Result<(), PanelError> {
        unreachable!()
    }
    async fn report_state(&self, _: ServerId, _: PowerState, _: PowerState) -> Result<(), PanelError> {
        unreachable!()
    }
    async fn reset(&self) -> Result<(), PanelError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn the_list_is_as_old_as_the_question_for_its_oldest_page() {
    let panel = Arc::new(Lists(Mutex::default()));
    let (_root, context) = context(Some(panel.clone()));
    let (asked_at, asked) = (context.clock.now(), Instant::now());
    tokio::time::advance(Duration::from_secs(20)).await;
    let away = PanelError::Unreachable { call: "GET /servers".into(), cause: "refused".into() };
    *panel.0.lock().unwrap() = vec![Err(away), Ok(listed(&[], asked))];
    let list = sync(&context).fetch_list().await;
    assert_eq!(list.asked_at, asked_at);
    assert!(list.read_at > asked_at + Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn a_panel_that_rejects_the_list_is_left_alone_for_minutes() {
    let rejected = PanelError::Rejected { call: "GET /servers".into(), status: 403, detail: "wrong token".into() };
    let failed = PanelError::Failed { call: "GET /servers".into(), status: 502, detail: "bad gateway".into() };
    for (error, shortest, longest) in [(rejected, 80, 300), (failed, 0, 2)] {
        let panel = Lists(Mutex::new(vec![Err(error), Ok(listed(&[], Instant::now()))]));
        let (_root, context) = context(Some(Arc::new(panel)));
        let began = Instant::now();
        sync(&context).fetch_list().await;
        let waited = began.elapsed().as_secs();
        assert!((shortest..=longest).contains(&waited), "{waited} s");
    }
}

/// A disk that is full for manifests.
struct NoRoomForManifests;

impl DiskHook for NoRoomForManifests {
    fn before(&self, _: ServerId, op: DiskOp) -> std::io::Result<()> {
        if op == DiskOp::WriteManifest { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
    fn after(&self, _: ServerId, _: DiskOp) {}
}

#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_be_created_leaves_no_files() {
    let disk = Arc::new(NoRoomForManifests);
    let (root, rejected) = context_on(Blocking::Inline, Some(disk), Some(Arc::new(ScriptedPanel::default())));
    assert_eq!(apply_list(&rejected, listed(&[(1, "a")], Instant::now()), 0).await, 0);
    let (data, folder) = (rejected.node.layout.data(id(1)), rejected.store.folder(id(1)));
    assert_eq!((data.exists(), folder.exists()), (false, false), "{}", root.path().display());

    let (_root, written) = node();
    let (seen, data) = (Arc::new(Mutex::new(None)), written.node.layout.data(id(1)));
    let woken = seen.clone();
    written.store.on_change(move |_| {
        woken.lock().unwrap().get_or_insert(data.exists());
    });
    assert_eq!(apply_list(&written, listed(&[(1, "a")], Instant::now()), 0).await, 1);
    assert_eq!(*seen.lock().unwrap(), Some(true), "its folder is there when it is published");
}
