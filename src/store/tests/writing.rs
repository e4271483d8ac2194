//! Changes: comments that stay, overrides that win, writers that meet.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use super::*;

#[test]
fn a_sync_replaces_a_file_that_the_panel_manages_and_no_other() {
    let fixture = Fixture::of_panel();
    fixture.sync(|manifest| manifest.spec.settings.invocation = "./jump".into()).unwrap();
    let text = fixture.config();
    assert!(text.starts_with("# Written by alula") && text.contains("override.yml"), "{text}");
    assert!(text.contains("./jump") && !text.contains("Ask Ada"), "as a whole: {text}");
    assert_eq!(
        fixture.manifest().spec.power,
        Some(crate::model::Power::Down),
        "what the panel has no word about stays"
    );

    let fixture = Fixture::with_file();
    let before = fixture.get();
    let edit_record = |record: &mut Record| record.synced_for = Some("x".into());
    let after = fixture.store.sync(id(), None, |manifest| manifest.spec.suspended = true, edit_record).unwrap();
    assert_eq!((after.revision, fixture.config().as_str()), (before.revision, FILE));
    assert_eq!(fixture.disk.take_done(), []);
}

#[test]
fn an_override_wins_and_survives_every_change() {
    let fixture = Fixture::of_panel();
    let over = "# The operator's settings\nspec:\n  settings:\n    invocation: ./jump\n    environment: {EXTRA: '1'}\n";
    fixture.saves(OVERRIDE_FILE, over);
    assert!(fixture.store.refresh(id()).unwrap());
    let settings = |fixture: &Fixture| fixture.manifest().spec.settings.clone();
    assert_eq!(settings(&fixture).invocation, "./jump");
    assert_eq!(settings(&fixture).environment.len(), 2, "maps are merged");
    assert_eq!(settings(&fixture).container.image, "example/image:1");

    fixture
        .sync(|manifest| {
            assert_eq!(manifest.spec.settings.invocation, "./run", "a change sees the file without the override");
            manifest.spec.settings.invocation = "./fly".into();
        })
        .unwrap();
    assert_eq!(settings(&fixture).invocation, "./jump");
    assert!(fixture.config().contains("./fly") && !fixture.config().contains("EXTRA"));
    assert_eq!(fs::read_to_string(fixture.path(OVERRIDE_FILE)).unwrap(), over);
    fixture.is_the_same_after_a_reboot();

    fs::remove_file(fixture.path(OVERRIDE_FILE)).unwrap();
    assert!(fixture.store.refresh(id()).unwrap());
    assert_eq!(settings(&fixture).invocation, "./fly");
    fixture.is_the_same_after_a_reboot();
}

#[test]
fn an_override_may_wait_for_its_server() {
    for (over, invocation) in [("spec: {settings: {invocation: ./jump}}", "./jump"), ("spec: {", "")] {
        let fixture = Fixture::empty();
        fs::create_dir(fixture.store.folder(id())).unwrap();
        fixture.saves(OVERRIDE_FILE, over);
        let snapshot = fixture.store.create(manifest(id()), Record::default(), []).unwrap();
        assert_eq!(snapshot.manifest.as_ref().unwrap().spec.settings.invocation, invocation);
        assert_eq!(snapshot.problem.is_some(), over == "spec: {");
        assert_eq!(snapshot.record.generation, 1);
        fixture.disk.take_done();
        fixture.store.refresh(id()).unwrap();
        assert_eq!(fixture.disk.take_done(), [DiskOp::WriteRecord], "the record comes with the first pass");
        assert!(!fixture.store.refresh(id()).unwrap(), "nothing has changed since");
        fixture.is_the_same_after_a_reboot();
    }
}

#[test]
fn a_server_is_made_once() {
    let fixture = Fixture::empty();
    fixture.store.create(manifest(id()), Record::default(), []).unwrap();
    let error = fixture.store.create(manifest(id()), Record::default(), []).unwrap_err();
    assert!(matches!(error, StoreError::Exists(found) if found == id()), "{error}");
    assert_eq!(fixture.get().record.generation, 1);
}

#[test]
fn a_file_that_a_person_wrote_a_moment_ago_is_not_overwritten() {
    let fixture = Fixture::empty();
    fs::create_dir(fixture.store.folder(id())).unwrap();
    fixture.saves(CONFIG_FILE, FILE);
    let error = fixture.store.create(manifest(id()), Record::default(), []).unwrap_err();
    assert!(matches!(error, StoreError::Exists(_)), "{error}");
    assert_eq!(fixture.config(), FILE);
    assert_eq!(fixture.manifest().spec.settings.invocation, "./run");
}

#[test]
fn a_change_that_is_based_on_an_old_revision_is_rejected() {
    let fixture = Fixture::of_panel();
    let seen = fixture.get().revision;
    fixture
        .store
        .sync(id(), Some(seen), |manifest| manifest.spec.settings.invocation = "./jump".into(), |_| {})
        .unwrap();
    let late =
        fixture.store.sync(id(), Some(seen), |manifest| manifest.spec.settings.invocation = "./fly".into(), |_| {});
    assert!(matches!(late.unwrap_err(), StoreError::Conflict(found) if found == id()));
    assert_eq!(fixture.manifest().spec.settings.invocation, "./jump");

    // A changed record is a conflict, too: a caller that decided on an old record must decide again.
    let seen = fixture.get().revision;
    fixture.store.commit(id(), |record| record.power.begun = Some("first".into())).unwrap();
    let late = fixture.store.sync(id(), Some(seen), |manifest| manifest.spec.suspended = true, |_| {});
    assert!(matches!(late.unwrap_err(), StoreError::Conflict { .. }));
    let late = fixture.store.request(id(), Some(seen), [request("late", Verb::Start)]);
    assert!(matches!(late.unwrap_err(), StoreError::Conflict { .. }));

    // And so do requests: two callers do not both decide on what was asked before.
    let seen = fixture.get().revision;
    fixture.store.request(id(), Some(seen), [request("one", Verb::Start)]).unwrap();
    let late = fixture.store.request(id(), Some(seen), [request("two", Verb::Stop)]);
    assert!(matches!(late.unwrap_err(), StoreError::Conflict { .. }));
    let late = fixture.store.sync(id(), Some(seen), |manifest| manifest.spec.suspended = true, |_| {});
    assert!(matches!(late.unwrap_err(), StoreError::Conflict { .. }));
}

#[test]
fn what_a_person_saved_before_a_change_is_part_of_it() {
    let fixture = Fixture::of_panel();
    fixture.saves(CONFIG_FILE, &panel_file().replace("de_dust", "de_inferno"));
    fixture.store.sync(id(), None, |manifest| manifest.spec.suspended = true, |_| {}).unwrap();
    assert!(fixture.config().contains("de_inferno"));
    assert_eq!(fixture.manifest().spec.settings.environment["MAP"], "de_inferno");
    assert!(fixture.manifest().spec.suspended);
}

#[test]
fn what_a_person_saves_during_a_change_is_not_overwritten() {
    let fixture = Fixture::of_panel();
    let path = fixture.path(CONFIG_FILE);
    fixture.disk.before_next(move || saves(&path, &panel_file().replace("de_dust", "de_inferno")));
    let change = fixture.store.sync(id(), None, |manifest| manifest.spec.suspended = true, |_| {});
    assert!(matches!(change.unwrap_err(), StoreError::Conflict { .. }));
    assert_eq!(fixture.config(), panel_file().replace("de_dust", "de_inferno"));
    assert_eq!(fixture.manifest().spec.settings.environment["MAP"], "de_inferno");
    fixture.is_the_same_after_a_reboot();
    fixture.store.sync(id(), None, |manifest| manifest.spec.suspended = true, |_| {}).unwrap();
    assert!(fixture.manifest().spec.suspended && fixture.config().contains("de_inferno"));
}

#[test]
fn many_writers_at_once_lose_nothing() {
    let fixture = Fixture::of_panel();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let store = &fixture.store;
            scope.spawn(move || {
                for number in 0..8 {
                    let label = format!("w{writer}-{number}");
                    let edit =
                        |manifest: &mut Manifest| drop(manifest.metadata.labels.insert(label.clone(), "x".into()));
                    store.sync(id(), None, edit, |_| {}).unwrap();
                    store.commit(id(), |record| record.synced_for = Some(label.clone())).unwrap();
                    store.request(id(), None, [request(&label, Verb::Restart)]).unwrap();
                }
            });
        }
    });
    assert_eq!(fixture.manifest().metadata.labels.len(), 32);
    assert_eq!(fixture.get().record.generation, 33);
    assert_eq!(fixture.get().requests.sequence, 33, "the file's own, and 32");
    assert_eq!(verbs(&fixture.get()), [Verb::Restart], "the latest has replaced the others");
    fixture.is_the_same_after_a_reboot();
}

#[test]
fn of_writers_that_compare_one_wins_at_a_time() {
    let fixture = Fixture::of_panel();
    let conflicts = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..8 {
                    loop {
                        let seen = fixture.get();
                        let count: u32 = seen
                            .manifest
                            .as_ref()
                            .unwrap()
                            .metadata
                            .labels
                            .get("count")
                            .map_or(0, |n| n.parse().unwrap());
                        let next = (count + 1).to_string();
                        let edit =
                            |manifest: &mut Manifest| drop(manifest.metadata.labels.insert("count".into(), next));
                        match fixture.store.sync(id(), Some(seen.revision), edit, |_| {}) {
                            Ok(_) => break,
                            Err(StoreError::Conflict { .. }) => conflicts.fetch_add(1, Ordering::Relaxed),
                            Err(other) => panic!("{other}"),
                        };
                    }
                }
            });
        }
    });
    assert_eq!(fixture.manifest().metadata.labels["count"], "32", "{} conflicts", conflicts.load(Ordering::Relaxed));
}

#[test]
fn of_many_creators_one_wins() {
    let fixture = Fixture::empty();
    let wins = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| match fixture.store.create(manifest(id()), Record::default(), []) {
                Ok(_) => {
                    wins.fetch_add(1, Ordering::Relaxed);
                }
                Err(StoreError::Exists(_)) => {}
                Err(other) => panic!("{other}"),
            });
        }
    });
    assert_eq!(wins.load(Ordering::Relaxed), 1);
    assert_eq!(fixture.get().record.generation, 1);
    fixture.is_the_same_after_a_reboot();
}

#[test]
fn a_late_writer_does_not_create_a_removed_server_again() {
    for late in [
        (|store: &Store| drop(store.commit(id(), |record| record.synced_for = Some("x".into())))) as fn(&Store),
        |store| drop(store.sync(id(), None, |manifest| manifest.spec.suspended = true, |_| {})),
        |store| drop(store.request(id(), None, [request("late", Verb::Start)])),
        |store| drop(store.make_again(id())),
        |store| drop(store.write_status(id())),
        |store| drop(store.refresh(id())),
        |store| drop(store.remove(id(), |_| true)),
    ] {
        let fixture = Fixture::of_panel();
        let entry = fixture.store.entry(id()).unwrap();
        fixture.store.remove(id(), |_| true).unwrap();
        // As one has it who took the entry before the removal and waited for its lock until after it.
        write(&fixture.store.inner.entries).insert(id(), entry);
        late(&fixture.store);
        assert!(!fixture.store.folder(id()).exists());
    }
}

#[test]
fn a_server_that_the_api_knows_is_not_replaced() {
    let fixture = Fixture::with_file();
    let before = fixture.get();
    let edit_record = |record: &mut Record| record.synced_for = Some("x".into());
    fixture.store.replace(id(), manifest(id()), edit_record, [request("install", INSTALL)]).unwrap();
    assert_eq!(fixture.config(), FILE);
    assert_eq!((&fixture.get().record, &fixture.get().requests), (&before.record, &before.requests));
}

#[test]
fn a_server_that_is_being_deleted_can_be_wanted_again() {
    let fixture = Fixture::with_file();
    fixture.accepts("delete", Verb::Delete);
    assert!(!fixture.get().is_listed());
    let before = fixture.get().requests.clone();
    fixture.accepts("again", Verb::Delete);
    assert_eq!(fixture.get().requests, before, "a second deletion asks for nothing");
    fixture.store.replace(id(), manifest(id()), |_| {}, [request("install", INSTALL)]).unwrap();
    let after = fixture.get();
    assert!(after.is_listed() && after.wanted() && after.is_being_deleted());
    assert_eq!(after.manifest.as_deref(), Some(&manifest(id())));
    assert_eq!(after.record.generation, 2);
    fixture.is_the_same_after_a_reboot();

    assert!(fixture.store.make_again(id()).unwrap());
    let again = fixture.get();
    assert!(again.is_listed() && !again.is_being_deleted());
    assert_eq!(verbs(&again), [INSTALL]);
    assert_eq!(again.asked(Timestamp::default()).install().unwrap().id, "install");
    assert_eq!(again.record.generation, 2, "it counts on");
    fixture.is_the_same_after_a_reboot();
    assert!(!fixture.store.make_again(id()).unwrap());
}

#[test]
fn unknown_servers_are_unknown() {
    let fixture = Fixture::empty();
    let unknown = |result: Result<(), StoreError>| assert!(matches!(result.unwrap_err(), StoreError::Unknown(_)));
    unknown(fixture.store.sync(id(), None, |_| {}, |_| {}).map(drop));
    unknown(fixture.store.request(id(), None, [request("one", Verb::Stop)]).map(drop));
    unknown(fixture.store.commit(id(), |_| {}).map(drop));
    unknown(fixture.store.replace(id(), manifest(id()), |_| {}, []));
    assert!(!fixture.store.refresh(id()).unwrap());
    fixture.store.remove(id(), |_| true).unwrap();
    assert!(fixture.store.get(id()).is_none());
}

#[test]
fn each_change_calls_on_change() {
    let fixture = Fixture::empty();
    let woken = Arc::new(AtomicUsize::new(0));
    let counter = woken.clone();
    fixture.store.on_change(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    let took = |expected: usize, what: &str| assert_eq!(woken.swap(0, Ordering::Relaxed), expected, "{what}");
    fixture.store.create(Manifest::new(id(), ManagedBy::Panel), Record::default(), []).unwrap();
    took(1, "create");
    fixture.accepts("one", Verb::Start);
    took(1, "a request");
    fixture.accepts("one", Verb::Stop);
    took(1, "another");
    fixture.store.sync(id(), None, |manifest| manifest.spec.suspended = true, |_| {}).unwrap();
    took(1, "change");
    fixture.store.sync(id(), None, |_| {}, |_| {}).unwrap();
    took(0, "no change");
    fixture.store.commit(id(), |record| record.synced_for = Some("x".into())).unwrap();
    took(0, "the reconciler writes the record itself");
    fixture.saves(CONFIG_FILE, &fixture.config().replace("suspended: true", "suspended: false"));
    fixture.store.refresh(id()).unwrap();
    took(1, "refresh");
    fixture.store.refresh(id()).unwrap();
    took(0, "nothing new");
    fixture.saves(CONFIG_FILE, "spec: {");
    fixture.store.refresh(id()).unwrap();
    took(1, "a problem");
    fixture.store.remove(id(), |_| true).unwrap();
    took(1, "remove");
}

#[test]
fn whether_a_server_is_removed_is_decided_under_the_lock() {
    let fixture = Fixture::with_file();
    fixture.accepts("delete", Verb::Delete);
    assert!(!fixture.store.remove(id(), Snapshot::wanted).unwrap());
    assert!(fixture.path(CONFIG_FILE).exists());

    // While one asks for the server again, another is about to remove it.
    let (store, (last_reported, removed)) = (fixture.store.clone(), std::sync::mpsc::channel());
    fixture.disk.before_next(move || {
        let (begun, waits) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            begun.send(()).unwrap();
            last_reported.send(store.remove(id(), |now| !now.wanted()).unwrap()).unwrap();
        });
        waits.recv().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
    });
    fixture.accepts("install", INSTALL);
    assert!(!removed.recv().unwrap(), "it is wanted again");
    assert!(fixture.path(CONFIG_FILE).exists());

    fixture.accepts("delete again", Verb::Delete);
    assert!(fixture.store.remove(id(), |now| !now.wanted()).unwrap());
    assert!(!fixture.store.folder(id()).exists());
    assert!(fixture.store.remove(id(), |now| !now.wanted()).unwrap(), "gone is gone");
}

#[test]
fn a_file_that_is_a_link_is_written_where_it_leads() {
    let fixture = Fixture::of_panel();
    let checkout = fixture.root.path().join("checkout");
    fs::create_dir(&checkout).unwrap();
    let target = checkout.join("club.yml");
    fs::rename(fixture.path(CONFIG_FILE), &target).unwrap();
    std::os::unix::fs::symlink(&target, fixture.path(CONFIG_FILE)).unwrap();
    fixture.store.refresh(id()).unwrap();
    fixture.disk.take_done();
    fixture.sync(|manifest| manifest.spec.settings.invocation = "./jump".into()).unwrap();
    assert!(fixture.path(CONFIG_FILE).is_symlink());
    assert!(fs::read_to_string(&target).unwrap().contains("./jump"));
    assert!(!fixture.store.refresh(id()).unwrap(), "what the store wrote itself is no news");
    fixture.disk.fail_ops(&[DiskOp::WriteRecord], io::ErrorKind::StorageFull);
    fixture.store.sync(id(), None, |manifest| manifest.spec.suspended = true, |_| {}).unwrap_err();
    assert!(fixture.path(CONFIG_FILE).is_symlink());
    assert!(!fs::read_to_string(&target).unwrap().contains("suspended: true"), "taken back");
    fixture.disk.succeed();
    fixture.store.refresh(id()).unwrap();
    fixture.is_the_same_after_a_reboot();
}

#[test]
fn the_log_says_who_made_each_request() {
    let (log, _guard) = crate::telemetry::capture::Capture::of_this_thread("info");
    let fixture = Fixture::of_panel();
    // Another thread may have come by this line first, without a log: then it counts as disabled until it is checked again.
    fixture.store.request(id(), None, [request("r0", Verb::Start)]).unwrap();
    tracing::callsite::rebuild_interest_cache();
    fixture.store.request(id(), None, [request("r1", Verb::Restart)]).unwrap();
    fixture.store.request(id(), None, [NewRequest { by: Requester::Panel, ..request("r2", Verb::Kill) }]).unwrap();
    let lines = log.lines();
    for (name, action, requester) in [("r1", "restart", "cli"), ("r2", "kill", "panel")] {
        let mut found = lines.iter().filter(|line| line.contains("accepted a request") && line.contains(name));
        let line = found.next().unwrap_or_else(|| panic!("{lines:?}"));
        assert_eq!(found.count(), 0, "{lines:?}");
        for field in [format!("action=\"{action}\""), format!("requester=\"{requester}\""), id().to_string()] {
            assert!(line.contains(&field), "{field}: {line}");
        }
    }
}
