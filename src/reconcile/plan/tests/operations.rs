//! Backups and restores: which job is due, what a restore holds back, and when replaced files go.

use uuid::Uuid;

use super::display::{reason, seconds, steps, table};
use super::fixture::{Fixture, at};
use crate::model::{
    Backup, BackupArchive, BackupResult, BackupStorage, ConditionType, FormerFiles, PowerState, Reason, Record,
    Requester, Restore, RestoreFrom, RestoreResult,
};
use crate::reconcile::job::{JobKind, Subject};
use crate::reconcile::observed::{Job, JobState};

const ID: Uuid = Uuid::from_u128(7);
const MADE: &str = "StartJob Backup backup:00000000-0000-0000-0000-000000000007";
const REMOVED: &str = "StartJob BackupRemoval backup:00000000-0000-0000-0000-000000000007";
const REPORTED: &str = "StartJob OperationReport backup:00000000-0000-0000-0000-000000000007";

fn backup() -> Backup {
    Backup {
        id: ID,
        at: at(-5),
        by: Requester::Panel,
        storage: BackupStorage::Local,
        ignore: String::new(),
        archive: None,
        result: None,
        reported: false,
        deleting: false,
        detached: false,
    }
}

fn made() -> Backup {
    let result = BackupResult { succeeded: true, message: "9 bytes".into(), at: at(-1), parts: Vec::new() };
    Backup { archive: Some(BackupArchive::default()), result: Some(result), ..backup() }
}

fn restore() -> Restore {
    Restore {
        token: ID,
        backup: ID,
        at: at(-5),
        by: Requester::Panel,
        from: RestoreFrom::Local,
        truncate: true,
        then_start: false,
        result: None,
        reported: false,
    }
}

fn restored() -> Restore {
    let result = RestoreResult { succeeded: true, message: "done".into(), at: at(-1) };
    Restore { result: Some(result), ..restore() }
}

fn offline() -> Fixture {
    Fixture::panel_server().installed()
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

    fn works_at(self, kind: JobKind, subject: Subject) -> Self {
        self.with(|s| s.observed.jobs.push(Job { kind, subject, state: JobState::Running, attempts: 1 }))
    }

    fn without_engine(self) -> Self {
        self.with(|s| s.observed.outage = Some("no answer".into()))
    }
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
        let former = FormerFiles { restore: ID, at: at(-seconds_ago), removing: false };
        fixture.with(|s| s.record.former_files = Some(former))
    };
    let due = "StartJob FormerFiles restore:00000000-0000-0000-0000-000000000007".to_owned();
    let offline = |seconds_ago| replaced(offline(), seconds_ago).plan();
    assert_eq!((steps(&offline(10)), seconds(offline(10).requeue)), (vec![], Some(86_390)));
    assert_eq!(steps(&offline(86_400)), [due.clone()]);
    let runs = |run: i64| {
        let started = running().started("c1").with(|s| s.observed.server.as_mut().unwrap().started_at = Some(at(-run)));
        replaced(started, 5000).plan()
    };
    assert!(!steps(&runs(599)).contains(&due));
    assert!(steps(&runs(600)).contains(&due));
}
