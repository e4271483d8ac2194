//! The panel's list meets what is on disk.

use std::sync::Mutex;

use async_trait::async_trait;

use super::*;
use crate::model::{InstallOutcome, InstallRecord, InstallResult, PowerState, Script, Verb};
use crate::panel::{ListedServer, PanelServer};
use crate::reconcile::bench::{ScriptedPanel, context, context_on, id, request, server};
use crate::store::{Blocking, DiskHook, DiskOp};

fn listed(servers: &[(u32, &str)], asked: Instant) -> Listed {
    let entry = |(number, invocation): &(u32, &str)| ListedServer { id: id(*number), server: Ok(server(invocation)) };
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
    context.store.create(new_manifest(id(number), server(invocation)), record, []).unwrap();
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
    let (_root, context) = context(None);
    add(&context, 1, "a", 100);
    add(&context, 2, "b", 100);
    // Made while the list was on its way.
    add(&context, 3, "c", 3);
    let mut by_file = crate::model::Manifest::new(id(4), ManagedBy::File);
    by_file.spec.settings.container.image = "game:1".into();
    context.store.create(by_file, Record::default(), []).unwrap();
    apply(&context, listed(&[(1, "a")], Instant::now()), when(&context, 5));
    assert_eq!(parked(&context), [id(2)]);
    assert!(!context.store.get(id(2)).unwrap().is_listed());
    assert_eq!(context.store.status(id(2)).unwrap().events[0].reason, Reason::Parked);

    apply(&context, listed(&[(1, "a"), (2, "b2"), (3, "c")], Instant::now()), when(&context, 0));
    assert_eq!(parked(&context), []);
    assert_eq!(invocation(&context, 2), "b2");
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_list_parks_nobody() {
    let (_root, context) = context(None);
    add(&context, 1, "a", 100);
    let list = Listed { incomplete: Some("for a test".into()), ..listed(&[(2, "b")], Instant::now()) };
    apply(&context, list, when(&context, 5));
    assert_eq!(parked(&context), []);
    assert_eq!(invocation(&context, 2), "b", "what it has is in force");
}

#[tokio::test(start_paused = true)]
async fn a_list_does_not_undo_what_the_panel_said_after_it_was_asked_for() {
    let (_root, context) = context(None);
    add(&context, 1, "newer", 3);
    add(&context, 2, "older", 8);
    apply(&context, listed(&[(1, "listed"), (2, "listed")], Instant::now()), when(&context, 5));
    assert_eq!((invocation(&context, 1).as_str(), invocation(&context, 2).as_str()), ("newer", "listed"));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_deleted_meanwhile_does_not_come_back() {
    let (_root, context) = context(Some(Arc::new(Lists(Mutex::default()))));
    let before = Instant::now();
    tokio::time::advance(Duration::from_secs(1)).await;
    context.recently_deleted.add(id(1));
    apply(&context, listed(&[(1, "a"), (2, "b")], before), when(&context, 1));
    assert_eq!(context.store.ids(), [id(2)]);
    // A panel that lists it still, asked later, wants it.
    tokio::time::advance(Duration::from_secs(1)).await;
    apply(&context, listed(&[(1, "a"), (2, "b")], Instant::now()), when(&context, 0));
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
    let (_root, context) = context(None);
    let (asked_at, asked) = (context.clock.now(), Instant::now());
    tokio::time::advance(Duration::from_secs(20)).await;
    let away = PanelError::Unreachable { call: "GET /servers".into(), cause: "refused".into() };
    let panel = Lists(Mutex::new(vec![Err(away), Ok(listed(&[], asked))]));
    let (_, when) = list(&context, &panel).await;
    assert_eq!(when.asked_at, asked_at);
    assert!(when.read_at > asked_at + Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn a_panel_that_rejects_the_list_is_left_alone_for_minutes() {
    let rejected = PanelError::Rejected { call: "GET /servers".into(), status: 403, detail: "wrong token".into() };
    let failed = PanelError::Failed { call: "GET /servers".into(), status: 502, detail: "bad gateway".into() };
    for (error, shortest, longest) in [(rejected, 80, 300), (failed, 0, 2)] {
        let (_root, context) = context(None);
        let panel = Lists(Mutex::new(vec![Err(error), Ok(listed(&[], Instant::now()))]));
        let began = Instant::now();
        list(&context, &panel).await;
        let waited = began.elapsed().as_secs();
        assert!((shortest..=longest).contains(&waited), "{waited} s");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_the_list_hears_of_it() {
    let limit = Duration::from_secs(5);
    let began = Instant::now();
    let without = context(None).1;
    assert!(without.recently_deleted.listed(limit).await);
    let (_root, with) = context(Some(Arc::new(Lists(Mutex::default()))));
    assert_eq!((with.recently_deleted.listed(limit).await, began.elapsed()), (false, limit));
    let closer = with.clone();
    tokio::spawn(async move { closer.recently_deleted.close() });
    assert_eq!((with.recently_deleted.listed(limit).await, began.elapsed()), (true, limit));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_remembered_where_no_list_is_awaited() {
    let (_root, context) = context(None);
    context.recently_deleted.add(id(1));
    assert!(!context.recently_deleted.since(id(1), Instant::now()));
}

/// A server of the panel with an installation: open, or done as far as a lost record lets the store assume.
fn add_installed(context: &Context, number: u32, lost: bool) {
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
    let asked = request(context, "i1", Verb::Install { reinstall: false, then_start: false });
    let record = Record { install, ..Record::default() };
    let asked = (!lost).then_some(asked);
    context.store.create(new_manifest(id(number), server("run")), record, asked).unwrap();
}

/// What a reset is owed to, and whether the assumed result is reported.
fn owed(context: &Context, number: u32) -> (bool, bool) {
    let record = &context.store.get(id(number)).unwrap().record;
    (record.install.reset_owed, record.install.done.as_ref().unwrap().reported)
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_all_that_a_lost_record_needs() {
    let (_root, context) = context(None);
    add_installed(&context, 1, true);
    let panel = ScriptedPanel::default();
    reset(&context, &panel).await;
    assert_eq!(owed(&context, 1), (false, true));
}

#[tokio::test(start_paused = true)]
async fn a_lost_record_s_result_is_reported_where_the_panel_rejects_a_reset() {
    let (_root, context) = context(None);
    add_installed(&context, 1, true);
    add(&context, 2, "run", 1);
    let panel = ScriptedPanel::default();
    panel.answers(PanelError::Rejected { call: "POST /servers/reset".into(), status: 404, detail: "none".into() });
    reset(&context, &panel).await;
    assert_eq!(owed(&context, 1), (false, false));
    assert_eq!(context.store.get(id(2)).unwrap().record.install, InstallRecord::default(), "nothing was owed to it");
}

#[tokio::test(start_paused = true)]
async fn a_lost_record_s_result_is_reported_where_others_install_for_ever() {
    let (_root, context) = context(None);
    add_installed(&context, 1, true);
    add_installed(&context, 2, false);
    add_installed(&context, 3, true);
    context.store.commit(id(3), |record| record.parked = Some(Timestamp::default())).unwrap();
    let panel = ScriptedPanel::default();
    let held_back = tokio::time::timeout(RESET_HELD_BACK - INSTALLS_CHECK, reset(&context, &panel)).await;
    assert!(held_back.is_err());
    assert_eq!(owed(&context, 1), (true, true), "the reset may still come");
    let held_back = tokio::time::timeout(RESET_HELD_BACK + INSTALLS_CHECK, reset(&context, &panel)).await;
    assert!(held_back.is_err());
    assert_eq!(owed(&context, 1), (false, false));
    assert_eq!(owed(&context, 3), (true, true), "the panel does not list it");
}

#[tokio::test(start_paused = true)]
async fn a_panel_that_does_not_answer_a_reset_for_long_gets_no_assumed_result() {
    let (_root, context) = context(None);
    let context = Arc::new(context);
    add_installed(&context, 1, true);
    let panel = Arc::new(ScriptedPanel::default());
    panel.answers(PanelError::Failed { call: "POST /servers/reset".into(), status: 502, detail: "busy".into() });
    let (task_context, task_panel) = (context.clone(), panel.clone());
    let resetting = context.tasks.spawn("reset", async move { reset(&task_context, &*task_panel).await });
    tokio::time::sleep(2 * RESET_HELD_BACK).await;
    add_installed(&context, 2, false);
    tokio::time::sleep(RESET_HELD_BACK / 2).await;
    assert_eq!(owed(&context, 1), (true, true), "installations hold the reset back since five minutes");
    tokio::time::sleep(RESET_HELD_BACK).await;
    assert_eq!(owed(&context, 1), (false, false));
    resetting.abort();
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
async fn a_server_that_cannot_be_written_down_leaves_no_files() {
    let (root, rejected) = context_on(Blocking::Inline, Some(Arc::new(NoRoomForManifests)), None);
    assert_eq!(apply(&rejected, listed(&[(1, "a")], Instant::now()), when(&rejected, 0)), 0);
    let (data, folder) = (rejected.layout.data(id(1)), rejected.store.folder(id(1)));
    assert_eq!((data.exists(), folder.exists()), (false, false), "{}", root.path().display());

    let (_root, written) = context(None);
    let (seen, data) = (Arc::new(Mutex::new(None)), written.layout.data(id(1)));
    let woken = seen.clone();
    written.store.on_change(move |_| {
        woken.lock().unwrap().get_or_insert(data.exists());
    });
    assert_eq!(apply(&written, listed(&[(1, "a")], Instant::now()), when(&written, 0)), 1);
    assert_eq!(*seen.lock().unwrap(), Some(true), "whoever hears of it finds its folder");
}
