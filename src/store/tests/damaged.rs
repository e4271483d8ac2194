//! Files of the daemon that are damaged: nothing runs twice, nothing that ran before is asked for, and the panel gets its word.

use super::*;
use crate::model::{InstallOutcome, InstallResult, PowerState};
use crate::requests::declared;

/// What a daemon before this one may have left in its file.
const DAMAGES: [&str; 5] =
    ["", "{", "\0\0\0\0", "[]", r#"{"version": 99, "files": {}, "lastGood": null, "record": {}}"#];

/// A panel's server with each declarative field, and requests that nothing was done about yet.
fn asked_for_everything() -> (Fixture, String) {
    let fields = "power: up\n  restartedAt: monday\n  install: {version: one, thenStart: true}";
    let text = panel_file().replace("power: down", fields);
    let fixture = Fixture::with_text(&text);
    let install = Verb::Install { reinstall: true, then_start: true };
    fixture.store.request(id(), None, [request("again", install), request("second", Verb::Restart)]).unwrap();
    assert_eq!(verbs(&fixture.get()), [install, Verb::Restart]);
    (fixture, text)
}

fn install_token(snapshot: &Snapshot) -> Option<String> {
    snapshot.asked(Timestamp::from_millis(2000)).install().map(|install| install.id.to_owned())
}

/// Nothing is asked for, and a later request is.
#[track_caller]
fn takes_everything_for_done(snapshot: &Snapshot, what: &str) {
    assert_eq!((power(snapshot), install_token(snapshot)), (None, None), "{what}");
    let asked = snapshot.asked(Timestamp::from_millis(2000));
    assert!(asked.expired().is_none() && !asked.start_follows(), "{what}");
}

type Change = fn(&Fixture);

/// What happens to `config.yml` while a file of the daemon is damaged.
const CONFIGS: [(&str, Change); 3] = [
    ("config.yml is fine", |_| {}),
    ("config.yml is broken", |fixture| fixture.saves(CONFIG_FILE, "spec: {")),
    ("config.yml is missing", |fixture| fs::remove_file(fixture.path(CONFIG_FILE)).unwrap()),
];

#[test]
fn nothing_runs_twice_whatever_is_damaged() {
    for files in [&[RECORD_FILE][..], &[REQUESTS_FILE], &[RECORD_FILE, REQUESTS_FILE]] {
        for (config, change) in CONFIGS {
            for restarts in [false, true] {
                let what = format!("{files:?}, {config}, restarts: {restarts}");
                let (fixture, text) = asked_for_everything();
                for file in files {
                    fs::write(fixture.path(file), "{").unwrap();
                }
                change(&fixture);
                let mut store = reopened(fixture.root.path());
                takes_everything_for_done(&store.get(id()).unwrap(), &what);
                if restarts {
                    // Cut off before its first pass.
                    store = reopened(fixture.root.path());
                }
                store.refresh(id()).unwrap();
                store = reopened(fixture.root.path());
                takes_everything_for_done(&store.get(id()).unwrap(), &what);
                fixture.saves(CONFIG_FILE, &text);
                store.refresh(id()).unwrap();
                let known = store.get(id()).unwrap();
                takes_everything_for_done(&known, &what);
                assert_eq!(known.problem, None, "{what}");
                assert_eq!(known.requests.declared, declared(&known.manifest.as_ref().unwrap().spec), "{what}");
                assert!(!known.requests.lost, "{what}");
                let record = &known.record;
                assert!(
                    record.install.reset_owed && record.last_reported == Some(PowerState::Running),
                    "{what}: {record:?}"
                );
                // Not a result that is certain: a report would clear a failed installation on the panel.
                assert!(record.install.done.as_ref().is_none_or(|done| done.reported), "{what}");
                let again = reopened(fixture.root.path()).get(id()).unwrap();
                assert_eq!((&again.requests, &again.record), (&known.requests, &known.record), "{what}: on disk");

                later_requests_count(&fixture, &store, &text, &what);
            }
        }
    }
}

#[track_caller]
fn later_requests_count(fixture: &Fixture, store: &Store, text: &str, what: &str) {
    store.request(id(), None, [request("third", Verb::Start)]).unwrap();
    assert_eq!(power(&store.get(id()).unwrap()), Some(Verb::Start), "{what}");
    store.request(id(), None, [request("third", INSTALL)]).unwrap();
    assert_eq!(install_token(&store.get(id()).unwrap()).as_deref(), Some("third"), "{what}");
    let changed = text.replace("power: up", "power: down").replace("version: one", "version: two");
    fixture.saves(CONFIG_FILE, &changed);
    store.refresh(id()).unwrap();
    let known = reopened(fixture.root.path()).get(id()).unwrap();
    assert_eq!(power(&known), Some(Verb::Stop), "{what}");
    assert!(install_token(&known).is_some_and(|token| token.starts_with("manifest-")), "{what}");
}

#[test]
fn a_damaged_file_is_kept_for_a_person_who_wants_to_know() {
    for file in [RECORD_FILE, REQUESTS_FILE] {
        for damage in DAMAGES {
            let (fixture, _) = asked_for_everything();
            fs::write(fixture.path(file), damage).unwrap();
            let store = reopened(fixture.root.path());
            takes_everything_for_done(&store.get(id()).unwrap(), damage);
            let kept = fs::read_to_string(fixture.path(&format!("{file}.broken"))).unwrap();
            assert_eq!(kept, damage, "{file}");
            assert_eq!(store.status(id()).unwrap().state, PowerState::Offline, "nothing has shown that it runs");
        }
    }
}

/// A file of which nothing is left to write is written all the same: otherwise it counts as damaged at each start.
#[test]
fn a_damaged_file_is_damaged_once() {
    let file = panel_file().replace("  power: down\n", "");
    for files in [&[RECORD_FILE][..], &[REQUESTS_FILE], &[RECORD_FILE, REQUESTS_FILE]] {
        let fixture = Fixture::with_text(&file);
        for file in files {
            fs::write(fixture.path(file), "{").unwrap();
        }
        reopened(fixture.root.path()).refresh(id()).unwrap();
        let store = reopened(fixture.root.path());
        assert!(!store.get(id()).unwrap().unrecorded, "{files:?}");
        let settled = |record: &mut Record| {
            (record.last_reported, record.install.reset_owed) = (Some(PowerState::Offline), false)
        };
        store.commit(id(), settled).unwrap();
        // What is saved while the daemon is down is a change.
        fixture.saves(CONFIG_FILE, &panel_file());
        let again = reopened(fixture.root.path()).get(id()).unwrap();
        assert_eq!(
            (again.record.last_reported, again.record.install.reset_owed),
            (Some(PowerState::Offline), false),
            "{files:?}"
        );
        assert_eq!(power(&again), Some(Verb::Stop), "{files:?}");
    }
}

#[test]
fn completed_installations_stay_completed_without_the_requests() {
    let (fixture, _) = asked_for_everything();
    let result = InstallResult {
        token: "again".into(),
        sequence: 3,
        outcome: InstallOutcome::Failed,
        reinstall: true,
        exit_code: None,
        reason: Reason::TimedOut,
        message: "x".into(),
        at: Timestamp::default(),
        reported: false,
    };
    let done = result.clone();
    fixture.store.commit(id(), |record| record.install.done = Some(done)).unwrap();
    fs::write(fixture.path(REQUESTS_FILE), "{").unwrap();
    let store = reopened(fixture.root.path());
    let known = store.get(id()).unwrap();
    assert_eq!(known.record.install.done.as_ref(), Some(&result), "it is certain, and still to be reported");
    store.request(id(), None, [request("later", INSTALL)]).unwrap();
    assert_eq!(install_token(&store.get(id()).unwrap()).as_deref(), Some("later"), "positions go on where they were");
}

/// An installer of a request that is lost may have run to its end.
#[test]
fn an_installation_that_had_begun_counts_as_done_without_its_request() {
    let (fixture, _) = asked_for_everything();
    fixture.store.commit(id(), |record| record.install.begun = Some("again".into())).unwrap();
    fs::write(fixture.path(REQUESTS_FILE), "{").unwrap();
    let known = reopened(fixture.root.path()).get(id()).unwrap();
    let done = known.record.install.done.as_ref().expect("it counts as done");
    assert_eq!((done.token.as_str(), done.outcome, done.reported), ("again", InstallOutcome::Succeeded, true));
    assert_eq!(done.reason, Reason::RecordLost);
}

#[test]
fn a_deletion_goes_on_without_the_record() {
    let (fixture, _) = asked_for_everything();
    fixture.accepts("delete", Verb::Delete);
    fs::write(fixture.path(RECORD_FILE), "{").unwrap();
    let store = reopened(fixture.root.path());
    assert!(store.get(id()).unwrap().is_being_deleted());
    store.refresh(id()).unwrap();
    assert!(reopened(fixture.root.path()).get(id()).unwrap().is_being_deleted());
}

#[test]
fn a_damaged_record_of_a_persons_server_is_no_matter_of_the_panels() {
    let fixture = Fixture::with_file();
    fs::write(fixture.path(REQUESTS_FILE), "{").unwrap();
    let store = reopened(fixture.root.path());
    let record = store.get(id()).unwrap().record.clone();
    assert_eq!((record.install.reset_owed, record.last_reported), (false, None));
}

#[test]
fn a_later_installation_pays_what_a_damaged_record_owes() {
    let (fixture, _) = asked_for_everything();
    fs::write(fixture.path(RECORD_FILE), "{").unwrap();
    let mut record = Record::clone(&reopened(fixture.root.path()).get(id()).unwrap().record);
    let result = InstallResult { token: "i2".into(), reported: false, ..record.install.done.clone().unwrap() };
    record.finish_install(result);
    assert!(!record.install.reset_owed);
}

/// A file that cannot be read, as on a failing disk. Moved away, it can.
fn hides(fixture: &Fixture, file: &str) -> std::path::PathBuf {
    let (path, kept) = (fixture.path(file), fixture.root.path().join("kept.json"));
    fs::rename(&path, &kept).unwrap();
    fs::create_dir(&path).unwrap();
    kept
}

#[test]
fn a_file_that_cannot_be_read_is_quarantined_and_not_overwritten() {
    for file in [RECORD_FILE, REQUESTS_FILE] {
        let (fixture, _) = asked_for_everything();
        hides(&fixture, file);
        fs::write(fixture.path(file).join("what it says"), "").unwrap();
        let daemon = reopened(fixture.root.path());
        takes_everything_for_done(&daemon.get(id()).unwrap(), file);
        daemon.refresh(id()).unwrap();
        daemon.commit(id(), |record| record.synced_for = Some("x".into())).unwrap();
        assert!(fixture.path(&format!("{file}.broken")).join("what it says").exists());
        takes_everything_for_done(&reopened(fixture.root.path()).get(id()).unwrap(), file);
    }
}

#[test]
fn a_file_that_cannot_be_quarantined_keeps_its_server_unchanged() {
    for file in [RECORD_FILE, REQUESTS_FILE] {
        let (fixture, _) = asked_for_everything();
        let before = fixture.get();
        let kept = hides(&fixture, file);
        fs::create_dir_all(fixture.path(&format!("{file}.broken")).join("in the way")).unwrap();
        fs::remove_dir(fixture.path(file)).unwrap();
        std::os::unix::fs::symlink(file, fixture.path(file)).unwrap();
        let daemon = reopened(fixture.root.path());
        is_left_alone(&fixture, &daemon, file);

        // The disk is well again: nothing was lost.
        fs::remove_file(fixture.path(file)).unwrap();
        fs::rename(kept, fixture.path(file)).unwrap();
        assert!(daemon.refresh(id()).unwrap());
        let after = daemon.get(id()).unwrap();
        assert_eq!(
            (&after.manifest, &after.record, &after.problem),
            (&before.manifest, &before.record, &None),
            "{file}"
        );
        assert_eq!(after.requests, before.requests, "{file}");
        daemon.commit(id(), |record| record.synced_for = Some("x".into())).unwrap();
        daemon.request(id(), None, [request("third", Verb::Stop)]).unwrap();
    }
}

#[track_caller]
fn is_left_alone(fixture: &Fixture, store: &Store, file: &str) {
    let snapshot = store.get(id()).unwrap();
    assert!(snapshot.manifest.is_none(), "nothing is done with it");
    let problem = snapshot.problem.clone().unwrap();
    assert_eq!(problem.reason, Reason::RecordUnreadable);
    assert!(problem.message.contains(&format!("rename it to {file}.broken")), "{}", problem.message);
    let others = [CONFIG_FILE, RECORD_FILE, REQUESTS_FILE].map(|other| fs::read(fixture.path(other)).ok());
    let broken = |error: StoreError| assert!(matches!(error, StoreError::Broken { .. }), "{file}: {error}");
    broken(store.commit(id(), |record| record.synced_for = Some("x".into())).unwrap_err());
    broken(store.request(id(), None, [request("second", Verb::Start)]).unwrap_err());
    broken(store.request(id(), None, [request("second", Verb::Delete)]).unwrap_err());
    broken(store.sync(id(), None, |manifest| manifest.spec.suspended = true, |_| {}).unwrap_err());
    broken(store.replace(id(), manifest(id()), |_| {}, []).unwrap_err());
    assert!(!store.refresh(id()).unwrap());
    assert_eq!([CONFIG_FILE, RECORD_FILE, REQUESTS_FILE].map(|other| fs::read(fixture.path(other)).ok()), others);
    assert!(fixture.path(file).is_symlink(), "it was not written over");
}

#[test]
fn a_reader_moves_no_file_and_writes_none() {
    for file in [RECORD_FILE, REQUESTS_FILE] {
        let (fixture, _) = asked_for_everything();
        fs::write(fixture.path(file), "{").unwrap();
        let reader = Store::open_to_read(fixture.root.path()).unwrap();
        takes_everything_for_done(&reader.get(id()).unwrap(), file);
        for error in [
            reader.commit(id(), |record| record.synced_for = Some("x".into())).unwrap_err(),
            reader.request(id(), None, [request("third", Verb::Start)]).unwrap_err(),
            reader.sync(id(), None, |manifest| manifest.spec.suspended = true, |_| {}).unwrap_err(),
            reader.remove(id(), |_| true).unwrap_err(),
        ] {
            assert!(error.to_string().contains("open for reading only"), "{error}");
        }
        assert_eq!(fs::read_to_string(fixture.path(file)).unwrap(), "{");
        assert!(!fixture.path(&format!("{file}.broken")).exists());

        fs::remove_file(fixture.path(file)).unwrap();
        fs::create_dir(fixture.path(file)).unwrap();
        let reader = Store::open_to_read(fixture.root.path()).unwrap();
        let problem = reader.get(id()).unwrap().problem.clone().unwrap();
        assert!(problem.reason == Reason::RecordUnreadable && problem.message.contains(file), "{problem:?}");
        assert!(fixture.path(file).is_dir());
    }
}

/// A result as the reconciler records it.
fn install_done(store: &Store) {
    let install = store.get(id()).unwrap();
    let install =
        install.asked(Timestamp::from_millis(2000)).install().map(|found| (found.id.to_owned(), found.sequence));
    let (token, sequence) = install.expect("it is pending");
    let done = InstallResult {
        token,
        sequence,
        outcome: InstallOutcome::Succeeded,
        reinstall: false,
        exit_code: Some(0),
        reason: Reason::Completed,
        message: String::new(),
        at: Timestamp::from_millis(1500),
        reported: true,
    };
    store.commit(id(), |record| record.finish_install(done)).unwrap();
}

#[test]
fn an_older_copy_of_one_file_runs_no_script_again() {
    for file in [RECORD_FILE, REQUESTS_FILE] {
        let (fixture, text) = asked_for_everything();
        fixture.store.refresh(id()).unwrap();
        let backup = fs::read(fixture.path(file)).unwrap();
        fixture.saves(CONFIG_FILE, &text.replace("version: one", "version: two"));
        fixture.store.refresh(id()).unwrap();
        install_done(&fixture.store);
        let known = reopened(fixture.root.path()).get(id()).unwrap();
        assert_eq!(install_token(&known), None, "{file}: nothing is restored yet");
        assert!(!known.requests.lost && known.record.install.done.is_some(), "{file}");

        fs::write(fixture.path(file), &backup).unwrap();
        let store = reopened(fixture.root.path());
        takes_everything_for_done(&store.get(id()).unwrap(), file);
        store.refresh(id()).unwrap();
        let store = reopened(fixture.root.path());
        takes_everything_for_done(&store.get(id()).unwrap(), file);
        assert_eq!(fs::read(fixture.path(&format!("{file}.broken"))).unwrap(), backup, "{file} is kept");
    }
}

#[test]
fn older_copies_of_both_files_are_as_they_were() {
    let (fixture, text) = asked_for_everything();
    fixture.store.refresh(id()).unwrap();
    let backups = [RECORD_FILE, REQUESTS_FILE].map(|file| (file, fs::read(fixture.path(file)).unwrap()));
    let pending = install_token(&fixture.get());
    install_done(&fixture.store);
    for (file, backup) in backups {
        fs::write(fixture.path(file), backup).unwrap();
    }
    fixture.saves(CONFIG_FILE, &text);
    assert_eq!(install_token(&reopened(fixture.root.path()).get(id()).unwrap()), pending);
}

/// The record is written first, so a power cut before the note in `requests.json` leaves no older copy.
#[test]
fn a_power_cut_between_the_two_files_leaves_no_older_copy() {
    let (fixture, _) = asked_for_everything();
    fixture.store.refresh(id()).unwrap();
    let before = fs::read(fixture.path(REQUESTS_FILE)).unwrap();
    install_done(&fixture.store);
    assert_ne!(fs::read(fixture.path(REQUESTS_FILE)).unwrap(), before, "it is noted");
    fs::write(fixture.path(REQUESTS_FILE), before).unwrap();
    let known = reopened(fixture.root.path()).get(id()).unwrap();
    assert_eq!((known.requests.lost, install_token(&known)), (false, None));
    assert_eq!(power(&known), Some(Verb::Restart), "what was asked for last");
}
