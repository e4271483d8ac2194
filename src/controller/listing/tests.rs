//! The panel's list meets what is on disk.

use std::sync::Mutex;

use super::*;
use crate::model::{InstallOutcome, InstallRecord, InstallResult, Verb};
use crate::panel::ListedServer;
use crate::store::DiskOp;
use crate::testing::{TestNode, TestPanel, file_manifest, panel_server, server_id};

fn listed(servers: &[(u32, &str)], asked: Instant) -> Listed {
    let entry = |(number, invocation): &(u32, &str)| ListedServer {
        id: server_id(*number),
        server: Ok(panel_server(invocation)),
    };
    Listed { servers: servers.iter().map(entry).collect(), asked, incomplete: None }
}

/// The panel's list, asked for so many seconds ago.
fn when(context: &Context, ago: u64) -> When {
    let read_at = context.clock.now();
    When { asked_at: read_at - Duration::from_secs(ago), read_at }
}

/// A server that was synced so many seconds ago.
fn add(context: &Context, number: u32, invocation: &str, ago: u64) {
    let synced_at = Some(context.clock.now() - Duration::from_secs(ago));
    let record = Record { synced_at, ..Record::default() };
    context.store.create(new_manifest(server_id(number), panel_server(invocation)), record, []).unwrap();
}

fn parked(context: &Context) -> Vec<ServerId> {
    let servers = context.store.list().into_iter();
    servers.filter(|snapshot| snapshot.record.parked.is_some()).map(|snapshot| snapshot.id).collect()
}

fn invocation(context: &Context, number: u32) -> String {
    context.store.get(server_id(number)).unwrap().manifest.as_ref().unwrap().spec.settings.invocation.clone()
}

#[tokio::test(start_paused = true)]
async fn servers_that_are_not_listed_are_parked_and_come_back() {
    let node = TestNode::new();
    let context = &node.context;
    add(context, 1, "a", 100);
    add(context, 2, "b", 100);
    // Made while the list was on its way.
    add(context, 3, "c", 3);
    context.store.create(file_manifest(4), Record::default(), []).unwrap();
    apply(context, listed(&[(1, "a")], Instant::now()), when(context, 5));
    assert_eq!(parked(context), [server_id(2)]);
    assert!(!context.store.get(server_id(2)).unwrap().is_listed());
    assert_eq!(context.store.status(server_id(2)).unwrap().events[0].reason, Reason::Parked);

    apply(context, listed(&[(1, "a"), (2, "b2"), (3, "c")], Instant::now()), when(context, 0));
    assert_eq!(parked(context), []);
    assert_eq!(invocation(context, 2), "b2");
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_list_parks_nobody() {
    let node = TestNode::new();
    let context = &node.context;
    add(context, 1, "a", 100);
    let list = Listed { incomplete: Some("for a test".into()), ..listed(&[(2, "b")], Instant::now()) };
    apply(context, list, when(context, 5));
    assert_eq!(parked(context), []);
    assert_eq!(invocation(context, 2), "b", "what it has is in force");
}

#[tokio::test(start_paused = true)]
async fn a_list_does_not_undo_what_the_panel_said_after_it_was_asked_for() {
    let node = TestNode::new();
    let context = &node.context;
    add(context, 1, "newer", 3);
    add(context, 2, "older", 8);
    apply(context, listed(&[(1, "listed"), (2, "listed")], Instant::now()), when(context, 5));
    assert_eq!((invocation(context, 1).as_str(), invocation(context, 2).as_str()), ("newer", "listed"));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_deleted_meanwhile_does_not_come_back() {
    let node = TestNode::builder().panel(TestPanel::default()).build();
    let context = &node.context;
    let before = Instant::now();
    tokio::time::advance(Duration::from_secs(1)).await;
    context.recently_deleted.add(server_id(1));
    apply(context, listed(&[(1, "a"), (2, "b")], before), when(context, 1));
    assert_eq!(context.store.ids(), [server_id(2)]);
    // A panel that lists it still, asked later, wants it.
    tokio::time::advance(Duration::from_secs(1)).await;
    apply(context, listed(&[(1, "a"), (2, "b")], Instant::now()), when(context, 0));
    assert_eq!(context.store.ids(), [server_id(1), server_id(2)]);
}

#[tokio::test(start_paused = true)]
async fn the_list_is_as_old_as_the_question_for_its_oldest_page() {
    let node = TestNode::new();
    let context = &node.context;
    let (asked_at, asked) = (context.clock.now(), Instant::now());
    tokio::time::advance(Duration::from_secs(20)).await;
    let away = PanelError::Unreachable { call: "GET /servers".into(), cause: "refused".into() };
    let panel = TestPanel::default();
    panel.lock().lists.extend([Err(away), Ok(listed(&[], asked))]);
    let (_, when) = list(context, &panel).await;
    assert_eq!(when.asked_at, asked_at);
    assert!(when.read_at > asked_at + Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn a_panel_that_rejects_the_list_is_left_alone_for_minutes() {
    let rejected = PanelError::Rejected { call: "GET /servers".into(), status: 403, detail: "wrong token".into() };
    let failed = PanelError::Failed { call: "GET /servers".into(), status: 502, detail: "bad gateway".into() };
    for (error, shortest, longest) in [(rejected, 80, 300), (failed, 0, 2)] {
        let node = TestNode::new();
        let context = &node.context;
        let panel = TestPanel::default();
        panel.lock().lists.push_back(Err(error));
        let began = Instant::now();
        list(context, &panel).await;
        let waited = began.elapsed().as_secs();
        assert!((shortest..=longest).contains(&waited), "{waited} s");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_the_list_hears_of_it() {
    let limit = Duration::from_secs(5);
    let began = Instant::now();
    let without = TestNode::new();
    assert!(without.context.recently_deleted.listed(limit).await);
    let node = TestNode::builder().panel(TestPanel::default()).build();
    let with = &node.context;
    assert_eq!((with.recently_deleted.listed(limit).await, began.elapsed()), (false, limit));
    let closer = with.clone();
    tokio::spawn(async move { closer.recently_deleted.close() });
    assert_eq!((with.recently_deleted.listed(limit).await, began.elapsed()), (true, limit));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_remembered_where_no_list_is_awaited() {
    let node = TestNode::new();
    let context = &node.context;
    context.recently_deleted.add(server_id(1));
    assert!(!context.recently_deleted.since(server_id(1), Instant::now()));
}

/// A server of the panel with an installation: open, or done as far as a lost record lets the store assume.
fn add_installed(node: &TestNode, number: u32, lost: bool) {
    let done = InstallResult {
        token: "i1".into(),
        sequence: 1,
        outcome: InstallOutcome::Succeeded,
        reinstall: false,
        exit_code: None,
        reason: Reason::RecordLost,
        message: String::new(),
        at: Timestamp::default(),
        reported: true,
    };
    let install = match lost {
        true => InstallRecord { done: Some(done), reset_owed: true, ..InstallRecord::default() },
        false => InstallRecord::default(),
    };
    let asked = node.request("i1", Verb::Install { reinstall: false, then_start: false });
    let record = Record { install, ..Record::default() };
    let asked = (!lost).then_some(asked);
    node.context.store.create(new_manifest(server_id(number), panel_server("run")), record, asked).unwrap();
}

/// What a reset is owed to, and whether the assumed result is reported.
fn owed(context: &Context, number: u32) -> (bool, bool) {
    let record = &context.store.get(server_id(number)).unwrap().record;
    (record.install.reset_owed, record.install.done.as_ref().unwrap().reported)
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_all_that_a_lost_record_needs() {
    let node = TestNode::new();
    let context = &node.context;
    add_installed(&node, 1, true);
    let panel = TestPanel::default();
    reset(context, &panel).await;
    assert_eq!(owed(context, 1), (false, true));
}

#[tokio::test(start_paused = true)]
async fn a_lost_record_s_result_is_reported_where_the_panel_rejects_a_reset() {
    let node = TestNode::new();
    let context = &node.context;
    add_installed(&node, 1, true);
    add(context, 2, "run", 1);
    let panel = TestPanel::default();
    panel.fail(
        |_| true,
        PanelError::Rejected { call: "POST /servers/reset".into(), status: 404, detail: "none".into() },
    );
    reset(context, &panel).await;
    assert_eq!(owed(context, 1), (false, false));
    assert_eq!(
        context.store.get(server_id(2)).unwrap().record.install,
        InstallRecord::default(),
        "nothing was owed to it"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_record_s_result_is_reported_where_others_install_for_ever() {
    let node = TestNode::new();
    let context = &node.context;
    add_installed(&node, 1, true);
    add_installed(&node, 2, false);
    add_installed(&node, 3, true);
    context.store.commit(server_id(3), |record| record.parked = Some(Timestamp::default())).unwrap();
    let panel = TestPanel::default();
    let held_back = tokio::time::timeout(RESET_HELD_BACK - INSTALLS_CHECK, reset(context, &panel)).await;
    assert!(held_back.is_err());
    assert_eq!(owed(context, 1), (true, true), "the reset may still come");
    let held_back = tokio::time::timeout(RESET_HELD_BACK + INSTALLS_CHECK, reset(context, &panel)).await;
    assert!(held_back.is_err());
    assert_eq!(owed(context, 1), (false, false));
    assert_eq!(owed(context, 3), (true, true), "the panel does not list it");
}

#[tokio::test(start_paused = true)]
async fn a_panel_that_does_not_answer_a_reset_for_long_gets_no_assumed_result() {
    let node = TestNode::new();
    let context = &node.context;
    add_installed(&node, 1, true);
    let panel = TestPanel::default();
    panel.fail(|_| true, PanelError::Failed { call: "POST /servers/reset".into(), status: 502, detail: "busy".into() });
    let (task_context, task_panel) = (context.clone(), panel.clone());
    context.tasks.spawn("reset", async move { reset(&task_context, &task_panel).await });
    tokio::time::sleep(2 * RESET_HELD_BACK).await;
    add_installed(&node, 2, false);
    tokio::time::sleep(RESET_HELD_BACK / 2).await;
    assert_eq!(owed(context, 1), (true, true), "installations hold the reset back since five minutes");
    tokio::time::sleep(RESET_HELD_BACK).await;
    assert_eq!(owed(context, 1), (false, false));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_be_written_down_leaves_no_files() {
    let node = TestNode::new();
    node.disk.fail(std::io::ErrorKind::StorageFull, |_, op| op == DiskOp::WriteManifest);
    let rejected = &node.context;
    assert_eq!(apply(rejected, listed(&[(1, "a")], Instant::now()), when(rejected, 0)), 0);
    let (data, folder) = (rejected.layout.data(server_id(1)), rejected.store.folder(server_id(1)));
    assert_eq!((data.exists(), folder.exists()), (false, false));

    let node = TestNode::new();
    let written = &node.context;
    let (seen, data) = (Arc::new(Mutex::new(None)), written.layout.data(server_id(1)));
    let woken = seen.clone();
    written.store.on_change(move |_| {
        woken.lock().unwrap().get_or_insert(data.exists());
    });
    assert_eq!(apply(written, listed(&[(1, "a")], Instant::now()), when(written, 0)), 1);
    assert_eq!(*seen.lock().unwrap(), Some(true), "whoever hears of it finds its folder");
}
