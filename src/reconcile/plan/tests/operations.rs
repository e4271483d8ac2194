//! Backups, restores and transfers: which job is due, what holds what back, and when replaced files go.

use uuid::Uuid;

use super::display::{reason, seconds, steps, table};
use super::fixture::{Fixture, at, due};
use crate::model::{
    Authorization, Backup, BackupArchive, BackupResult, BackupStorage, BackupVerification, ConditionType, FormerFiles,
    Incoming, Outgoing, PowerState, Reason, Record, Requester, Restore, RestoreFrom, RestoreResult, Role, Transfer,
    TransferDirection, TransferResult,
};
use crate::reconcile::job::{JobKind, Subject};
use crate::reconcile::observed::{Job, JobState};
use crate::reconcile::step::StepKind;

const ID: Uuid = Uuid::from_u128(7);
const MADE: &str = "StartJob Backup backup:00000000-0000-0000-0000-000000000007";
const REMOVED: &str = "StartJob BackupRemoval backup:00000000-0000-0000-0000-000000000007";
const REPORTED: &str = "StartJob OperationReport backup:00000000-0000-0000-0000-000000000007";

fn backup() -> Backup {
    Backup::new(ID, at(-5), Requester::Panel, BackupStorage::Local)
}

fn made() -> Backup {
    let result = BackupResult { succeeded: true, message: "9 bytes".into(), at: at(-1), parts: Vec::new() };
    Backup { archive: Some(BackupArchive::default()), result: Some(result), ..backup() }
}

fn restore() -> Restore {
    Restore { truncate: true, ..Restore::new(ID, ID, at(-5), Requester::Panel, RestoreFrom::Local) }
}

fn restored() -> Restore {
    let result = RestoreResult { succeeded: true, message: "done".into(), at: at(-1) };
    Restore { result: Some(result), ..restore() }
}

const SENT: &str = "StartJob Transfer transfer:00000000-0000-0000-0000-000000000007";
const SENT_REPORTED: &str = "StartJob OperationReport transfer:00000000-0000-0000-0000-000000000007";

fn outgoing(then_start: bool) -> Transfer {
    let outgoing = Outgoing {
        url: "https://node/api/transfers".into(),
        authorization: Authorization::new("Bearer jwt"),
        backups: Vec::new(),
        then_start,
        pool: None,
        rounds: None,
        begun: false,
    };
    Transfer::new(ID, at(-5), TransferDirection::Outgoing(outgoing))
}

fn incoming() -> Transfer {
    Transfer::new(ID, at(-5), TransferDirection::Incoming(Incoming::default()))
}

fn ended(transfer: Transfer, succeeded: bool, reported: bool) -> Transfer {
    let result = TransferResult { succeeded, message: "done".into(), at: at(-1) };
    Transfer { result: Some(result), reported, ..transfer }
}

fn offline() -> Fixture {
    Fixture::panel_server().installed()
}

const ARRIVED: &str = "transfer:00000000-0000-0000-0000-000000000007";
const ARRIVED_IMAGE: &str = "StartJob Image transfer:00000000-0000-0000-0000-000000000007 server game:1";
const ARRIVED_CONTAINER: &str = "CreateServer transfer:00000000-0000-0000-0000-000000000007";

fn arrived() -> Fixture {
    offline().transferring(ended(incoming(), true, true))
}

fn arrived_image(state: JobState) -> Fixture {
    arrived().with(|fixture| {
        let image = fixture.manifest().spec.settings.container.image.clone();
        let subject = Subject::Transfer(ID).image(Role::Server, &image);
        fixture.observed.jobs.push(Job { kind: JobKind::Image, subject, state, attempts: 1 });
    })
}

fn failed_image() -> JobState {
    JobState::Failed { fatal: false, retry_at: due(-1), message: "no answer".into() }
}

fn running() -> Fixture {
    offline().wants_up("p1").container_running("c1", "p1").attached("c1")
}

impl Fixture {
    fn backed_up(self, backup: Backup) -> Self {
        self.with(|s| s.record.backups.push(backup))
    }

    fn restoring(self, restore: Restore) -> Self {
        self.with(|s| s.record.restore = Some(restore))
    }

    fn transferring(self, transfer: Transfer) -> Self {
        self.with(|s| s.record.transfer = Some(transfer))
    }

    fn receiving(self) -> Self {
        self.with(|s| s.observed.receiving = true)
    }

    fn works_at(self, kind: JobKind, subject: Subject) -> Self {
        self.with(|s| s.observed.jobs.push(Job { kind, subject, state: JobState::Running, attempts: 1 }))
    }

    fn without_engine(self) -> Self {
        self.with(|s| s.observed.outage = Some("no answer".into()))
    }
}

#[test]
fn an_archive_is_verified_when_that_is_requested_and_damage_is_shown_until_it_is_gone() {
    const VERIFIED: &str = "StartJob BackupVerification backup:00000000-0000-0000-0000-000000000007";
    let known = || Backup { reported: true, ..made() };
    let verifying = || Backup { verifying: true, ..known() };
    let s3 = || Backup { storage: BackupStorage::S3, ..verifying() };
    let verified = |ok| BackupVerification { at: at(-3), ok, message: "its archive is cut".into() };
    let works = |fixture: Fixture| fixture.works_at(JobKind::BackupVerification, Subject::Backup(ID));
    table(&[
        ("requested", offline().backed_up(verifying()), &[VERIFIED]),
        ("while the server runs", running().backed_up(verifying()), &[VERIFIED]),
        ("being read", works(offline().backed_up(verifying())), &[]),
        ("not made yet", offline().backed_up(Backup { verifying: true, ..backup() }), &[MADE]),
        ("not here", offline().backed_up(s3()), &[]),
        ("no longer wanted", offline().backed_up(Backup { deleting: true, ..verifying() }), &[REMOVED]),
        ("no longer wanted, being read", works(offline().backed_up(Backup { deleting: true, ..verifying() })), &[]),
        ("damaged", offline().backed_up(Backup { verified: Some(verified(false)), ..known() }), &[]),
    ]);
    let damaged = |verified, deleting| {
        let plan = offline().backed_up(Backup { verified: Some(verified), deleting, ..known() }).plan();
        reason(&plan, ConditionType::BackupsIntact).is_some()
    };
    assert!(damaged(verified(false), false), "it is named");
    assert!(!damaged(verified(false), true), "it is being removed");
    assert!(!damaged(verified(true), false));
    let plan = offline().backed_up(Backup { verified: Some(verified(false)), ..known() }).plan();
    assert_eq!(reason(&plan, ConditionType::BackupsIntact), Some(Reason::BackupDamaged));
}

#[test]
fn the_commands_after_a_backup_are_sent_before_anything_else_is_done_with_it() {
    const RELEASED: &str = "StartJob BackupRelease backup:00000000-0000-0000-0000-000000000007";
    let quieted = |backup| Backup { quieted: Some("c1".into()), ..backup };
    let works = |fixture: Fixture| fixture.works_at(JobKind::Backup, Subject::Backup(ID));
    table(&[
        ("after a death in between", running().backed_up(quieted(backup())), &[RELEASED]),
        ("by the job itself", works(running().backed_up(quieted(backup()))), &[]),
        ("no longer wanted", running().backed_up(Backup { deleting: true, ..quieted(made()) }), &[RELEASED]),
        ("sent", running().backed_up(backup()), &[MADE]),
    ]);
}

#[test]
fn an_undo_stops_the_server_as_a_restore_does() {
    let undo = || Restore { from: RestoreFrom::Former { restore: Uuid::from_u128(6), back: true }, ..restore() };
    assert_eq!(steps(&running().restoring(undo()).plan()), steps(&running().restoring(restore()).plan()));
    assert_eq!(steps(&offline().restoring(undo()).plan()), steps(&offline().restoring(restore()).plan()));
}

#[test]
fn a_backup_is_made_once_and_reported_until_the_panel_has_it() {
    let deleting = || Backup { deleting: true, ..backup() };
    let works = |fixture: Fixture| fixture.works_at(JobKind::Backup, Subject::Backup(ID));
    table(&[
        ("requested", offline().backed_up(backup()), &[MADE]),
        ("while the server runs", running().backed_up(backup()), &[MADE]),
        ("while the engine is away", offline().backed_up(backup()).without_engine(), &[MADE]),
        ("being made", works(offline().backed_up(backup())), &[]),
        ("made", offline().backed_up(made()), &[REPORTED]),
        ("made for a person", offline().backed_up(Backup { reported: true, ..made() }), &[]),
        ("of a server without a panel", Fixture::file_server().installed().backed_up(made()), &[]),
        ("no longer wanted", offline().backed_up(Backup { deleting: true, ..made() }), &[REMOVED]),
        ("no longer wanted, not begun", offline().backed_up(deleting()), &[REMOVED]),
        ("no longer wanted, being made", works(offline().backed_up(deleting())), &[]),
    ]);
    let waits = offline().backed_up(backup()).restoring(restore()).plan();
    assert!(!steps(&waits).contains(&MADE.to_owned()), "after the restore");
    let plan = works(offline().backed_up(backup())).plan();
    assert_eq!(reason(&plan, ConditionType::BackedUp), Some(Reason::BackingUp));
    let plan = offline().backed_up(Backup { reported: true, ..made() }).plan();
    assert_eq!(reason(&plan, ConditionType::BackedUp), Some(Reason::BackupCompleted));
}

#[test]
fn a_restore_stops_the_server_and_holds_it() {
    let stopping = || running().stop_sent("c1", 1, 120).restoring(restore());
    let ended = || offline().wants_up("p1").container_exited("c1", "p1", 0).restoring(restore());
    table(&[
        (
            "while it runs",
            running().restoring(restore()),
            &["Stop c1 command \"quit\" 120s", "ClosePower p1 Restoring"],
        ),
        ("while it ends", stopping(), &["ClosePower p1 Restoring"]),
        (
            "when it has ended",
            ended(),
            &["ClosePower p1 Restoring", "StartJob Restore restore:00000000-0000-0000-0000-000000000007"],
        ),
        ("offline", offline().restoring(restore()), &["StartJob Restore restore:00000000-0000-0000-0000-000000000007"]),
        ("while the engine is away", offline().restoring(restore()).without_engine(), &[]),
        (
            "before an installation",
            offline().restoring(restore()).wants_install("i1"),
            &["StartJob Restore restore:00000000-0000-0000-0000-000000000007"],
        ),
        (
            "restored",
            offline().restoring(restored()),
            &["StartJob OperationReport restore:00000000-0000-0000-0000-000000000007"],
        ),
        (
            "restored, and to be started again",
            offline().restoring(Restore { then_start: true, reported: true, ..restored() }),
            &["StartJob Restore restore:00000000-0000-0000-0000-000000000007"],
        ),
    ]);
    let mut record = Record::default();
    record.begin_restore(restore());
    record.begin_restore(Restore { token: Uuid::from_u128(8), ..restore() });
    assert_eq!(record.pending_restore().map(|restore| restore.token), Some(ID), "another one is pending");
    record.restore = Some(Restore { then_start: true, ..restored() });
    record.begin_restore(Restore { token: Uuid::from_u128(8), ..restore() });
    assert_eq!(record.pending_restore().map(|restore| restore.then_start), Some(true));
    assert_eq!(record.unreported_restores().map(|restore| restore.token).collect::<Vec<_>>(), [ID], "not lost");
    record.restore_reported(ID);
    assert_eq!((record.unreported_restores().count(), record.earlier_restores.len()), (0, 0));
    let plan = offline().restoring(restore()).plan();
    assert_eq!(plan.state, PowerState::Offline);
    assert_eq!(reason(&plan, ConditionType::Restored), Some(Reason::Restoring));
    assert_eq!(reason(&plan, ConditionType::Ready), Some(Reason::Restoring));
}

#[test]
fn replaced_files_stay_until_the_server_has_run_or_a_day_has_passed() {
    let replaced = |fixture: Fixture, seconds_ago: i64| {
        let former = FormerFiles { restore: ID, at: at(-seconds_ago), removing: false, undone: false };
        fixture.with(|s| s.record.former_files = Some(former))
    };
    let due = "StartJob FormerFiles restore:00000000-0000-0000-0000-000000000007".to_owned();
    let offline = |seconds_ago| replaced(offline(), seconds_ago).plan();
    assert_eq!((steps(&offline(10)), seconds(offline(10).requeue)), (vec![], Some(86_390)));
    assert_eq!(steps(&offline(86_400)), std::slice::from_ref(&due));
    let runs = |run: i64| {
        let started = running().started("c1").with(|s| s.observed.server.as_mut().unwrap().started_at = Some(at(-run)));
        replaced(started, 5000).plan()
    };
    assert!(!steps(&runs(599)).contains(&due));
    assert!(steps(&runs(600)).contains(&due));
}

#[test]
fn a_transfer_stops_the_server_and_holds_it_until_the_end() {
    let cancelled = || Transfer { cancelled: true, ..outgoing(true) };
    let exited = || offline().wants_up("p1").container_exited("c1", "p1", 0);
    table(&[
        (
            "while it runs",
            running().transferring(outgoing(true)),
            &["Stop c1 command \"quit\" 120s", "ClosePower p1 Transferring"],
        ),
        (
            "while it ends",
            running().stop_sent("c1", 1, 120).transferring(outgoing(true)),
            &["ClosePower p1 Transferring"],
        ),
        (
            "cancelled while it ends",
            running().stop_sent("c1", 1, 120).transferring(cancelled()),
            &["ClosePower p1 Transferring", SENT],
        ),
        ("when it has ended", exited().transferring(outgoing(true)), &["ClosePower p1 Transferring", SENT]),
        ("offline", offline().transferring(outgoing(false)), &[SENT]),
        ("while the engine is away", offline().transferring(outgoing(false)).without_engine(), &[]),
        ("before an installation", offline().transferring(outgoing(false)).wants_install("i1"), &[SENT]),
        ("before a backup", offline().transferring(outgoing(false)).backed_up(backup()), &[SENT]),
        ("under way", offline().transferring(outgoing(false)).works_at(JobKind::Transfer, Subject::Transfer(ID)), &[]),
        ("the destination has it", offline().transferring(ended(outgoing(true), true, false)), &[]),
        ("failed", offline().transferring(ended(outgoing(false), false, false)), &[SENT_REPORTED]),
        ("failed, and it ran", offline().transferring(ended(outgoing(true), false, false)), &[SENT, SENT_REPORTED]),
        ("failed, and the panel has it", offline().transferring(ended(outgoing(false), false, true)), &[]),
        (
            "failed, and the panel is asked for nothing",
            Fixture::file_server().installed().transferring(ended(outgoing(false), false, false)),
            &[],
        ),
    ]);
    let gone = offline().wants_up("p1").transferring(ended(outgoing(true), true, false)).plan();
    assert_eq!(steps(&gone), ["ClosePower p1 Transferring"], "it has left");
    assert_eq!(reason(&gone, ConditionType::Transferred), Some(Reason::Transferring));
    let failed = offline().transferring(ended(outgoing(false), false, true)).plan();
    assert_eq!(reason(&failed, ConditionType::Transferred), Some(Reason::TransferFailed));
    assert_eq!(reason(&failed, ConditionType::Ready), Some(Reason::Ready));
}

#[test]
fn a_server_that_comes_waits_until_the_panel_knows_it() {
    table(&[
        ("is received", offline().transferring(incoming()).receiving(), &[]),
        ("is received no longer", offline().transferring(incoming()), &[SENT]),
        ("is here", offline().transferring(ended(incoming(), true, false)), &[SENT_REPORTED]),
        ("is here, and the panel knows it", arrived(), &[ARRIVED_IMAGE]),
        ("is here, and its image is pulled", arrived_image(JobState::Running), &[]),
        ("is here, and its image is not", arrived_image(failed_image()), &[]),
        ("is here, and its image is", arrived_image(JobState::Done { at: due(-1) }), &[ARRIVED_CONTAINER]),
        (
            "is here, and its container cannot be created",
            arrived_image(JobState::Done { at: due(-1) }).step_rejected(StepKind::CreateServer, ARRIVED, 1, -1),
            &[],
        ),
        (
            "is here, and has its container",
            arrived_image(JobState::Done { at: due(-1) }).container_made("c1", ARRIVED),
            &[],
        ),
        ("did not come", offline().transferring(ended(incoming(), false, false)), &[SENT_REPORTED]),
        (
            "did not come, and is to be removed",
            offline().transferring(ended(incoming(), false, true)),
            &[SENT_REPORTED],
        ),
        ("is deleted while it is received", offline().transferring(incoming()).receiving().deleted(false), &[]),
    ]);
    let held = offline().wants_up("p1").transferring(ended(incoming(), true, false)).plan();
    assert_eq!(steps(&held)[0], "ClosePower p1 Transferring");
}
