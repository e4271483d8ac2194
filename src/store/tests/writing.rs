//! Changes: comments that stay, overrides that win, writers that meet.

use std::sync::atomic::AtomicUsize;

use super::*;

#[test]
fn a_sync_replaces_a_file_that_the_panel_manages_and_no_other() {
    let scene = Scene::of_panel();
    scene.sync(|manifest| manifest.spec.settings.invocation = "./walk".into()).unwrap();
    let text = scene.config();
    assert!(text.starts_with("# Written by alula") && text.contains("override.yml"), "{text}");
    assert!(text.contains("./walk") && !text.contains("Ask Ada"), "as a whole: {text}");
    assert_eq!(scene.manifest().spec.power, Some(crate::model::Power::Down), "what the panel has no word about stays");

    let scene = Scene::with_file();
    let before = scene.get();
    let facts = |record: &mut Record| record.synced_for = Some("x".into());
    let after = scene.store.sync(id(), None, |manifest| manifest.spec.suspended = true, facts).unwrap();
    assert_eq!((after.revision, scene.config().as_str()), (before.revision, FILE));
    assert_eq!(scene.disk.done(), []);
}

#[test]
fn an_override_wins_and_survives_every_change() {
    let scene = Scene::of_panel();
    let over = "# The operator's word\nspec:\n  settings:\n    invocation: ./walk\n    environment: {EXTRA: '1'}\n";
    scene.saves(OVERRIDE_FILE, over);
    assert!(scene.store.refresh(id()).unwrap());
    let settings = |scene: &Scene| scene.manifest().spec.settings.clone();
    assert_eq!(settings(&scene).invocation, "./walk");
    assert_eq!(settings(&scene).environment.len(), 2, "maps are merged");
    assert_eq!(settings(&scene).container.image, "example/image:1");

    scene
        .sync(|manifest| {
            assert_eq!(manifest.spec.settings.invocation, "./run", "a change sees the file without the override");
            manifest.spec.settings.invocation = "./fly".into();
        })
        .unwrap();
    assert_eq!(settings(&scene).invocation, "./walk");
    assert!(scene.config().contains("./fly") && !scene.config().contains("EXTRA"));
    assert_eq!(fs::read_to_string(scene.path(OVERRIDE_FILE)).unwrap(), over);
    scene.is_the_same_after_a_reboot();

    fs::remove_file(scene.path(OVERRIDE_FILE)).unwrap();
    assert!(scene.store.refresh(id()).unwrap());
    assert_eq!(settings(&scene).invocation, "./fly");
    scene.is_the_same_after_a_reboot();
}

#[test]
fn an_override_may_wait_for_its_server() {
    for (over, invocation) in [("spec: {settings: {invocation: ./walk}}", "./walk"), ("spec: {", "")] {
        let scene = Scene::empty();
        fs::create_dir(scene.store.folder(id())).unwrap();
        scene.saves(OVERRIDE_FILE, over);
        let snapshot = scene.store.create(manifest(id()), Record::default(), []).unwrap();
        assert_eq!(snapshot.manifest.as_ref().unwrap().spec.settings.invocation, invocation);
        assert_eq!(snapshot.problem.is_some(), over == "spec: {");
        assert_eq!(snapshot.record.generation, 1);
        scene.disk.done();
        scene.store.refresh(id()).unwrap();
        assert_eq!(scene.disk.done(), [DiskOp::WriteRecord], "the record comes with the first pass");
        assert!(!scene.store.refresh(id()).unwrap(), "nothing has changed since");
        scene.is_the_same_after_a_reboot();
    }
}

#[test]
fn a_server_is_made_once() {
    let scene = Scene::empty();
    scene.store.create(manifest(id()), Record::default(), []).unwrap();
    let error = scene.store.create(manifest(id()), Record::default(), []).unwrap_err();
    assert!(matches!(error, StoreError::Exists(found) if found == id()), "{error}");
    assert_eq!(scene.get().record.generation, 1);
}

#[test]
fn a_file_that_a_person_wrote_a_moment_ago_is_not_overwritten() {
    let scene = Scene::empty();
    fs::create_dir(scene.store.folder(id())).unwrap();
    scene.saves(CONFIG_FILE, FILE);
    let error = scene.store.create(manifest(id()), Record::default(), []).unwrap_err();
    assert!(matches!(error, StoreError::Exists(_)), "{error}");
    assert_eq!(scene.config(), FILE);
    assert_eq!(scene.manifest().spec.settings.invocation, "./run");
}

#[test]
fn a_change_that_is_based_on_an_old_revision_is_refused() {
    let scene = Scene::of_panel();
    let seen = scene.get().revision;
    scene.store.sync(id(), Some(seen), |manifest| manifest.spec.settings.invocation = "./walk".into(), |_| {}).unwrap();
    let late =
        scene.store.sync(id(), Some(seen), |manifest| manifest.spec.settings.invocation = "./fly".into(), |_| {});
    match late.unwrap_err() {
        StoreError::Conflict { expected, found, .. } => assert_eq!((expected, found), (seen, scene.get().revision)),
        other => panic!("{other}"),
    }
    assert_eq!(scene.manifest().spec.settings.invocation, "./walk");

    // Facts count as well: who decided on old facts decides again.
    let seen = scene.get().revision;
    scene.store.commit(id(), |record| record.power.begun = Some("first".into())).unwrap();
    let late = scene.store.sync(id(), Some(seen), |manifest| manifest.spec.suspended = true, |_| {});
    assert!(matches!(late.unwrap_err(), StoreError::Conflict { .. }));
    let late = scene.store.request(id(), Some(seen), [request("late", Verb::Start)]);
    assert!(matches!(late.unwrap_err(), StoreError::Conflict { .. }));

    // And so do requests: two callers do not both decide on what was asked before.
    let seen = scene.get().revision;
    scene.store.request(id(), Some(seen), [request("one", Verb::Start)]).unwrap();
    let late = scene.store.request(id(), Some(seen), [request("two", Verb::Stop)]);
    assert!(matches!(late.unwrap_err(), StoreError::Conflict { .. }));
    let late = scene.store.sync(id(), Some(seen), |manifest| manifest.spec.suspended = true, |_| {});
    assert!(matches!(late.unwrap_err(), StoreError::Conflict { .. }));
}

#[test]
fn what_a_person_saved_before_a_change_is_part_of_it() {
    let scene = Scene::of_panel();
    scene.saves(CONFIG_FILE, &panel_file().replace("de_dust", "de_inferno"));
    scene.store.sync(id(), None, |manifest| manifest.spec.suspended = true, |_| {}).unwrap();
    assert!(scene.config().contains("de_inferno"));
    assert_eq!(scene.manifest().spec.settings.environment["MAP"], "de_inferno");
    assert!(scene.manifest().spec.suspended);
}

#[test]
fn what_a_person_saves_during_a_change_is_not_overwritten() {
    let scene = Scene::of_panel();
    let path = scene.path(CONFIG_FILE);
    scene.disk.meanwhile(move || saves(&path, &panel_file().replace("de_dust", "de_inferno")));
    let change = scene.store.sync(id(), None, |manifest| manifest.spec.suspended = true, |_| {});
    assert!(matches!(change.unwrap_err(), StoreError::Conflict { .. }));
    assert_eq!(scene.config(), panel_file().replace("de_dust", "de_inferno"));
    assert_eq!(scene.manifest().spec.settings.environment["MAP"], "de_inferno");
    scene.is_the_same_after_a_reboot();
    scene.store.sync(id(), None, |manifest| manifest.spec.suspended = true, |_| {}).unwrap();
    assert!(scene.manifest().spec.suspended && scene.config().contains("de_inferno"));
}

#[test]
fn many_writers_at_once_lose_nothing() {
    let scene = Scene::of_panel();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let store = &scene.store;
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
    assert_eq!(scene.manifest().metadata.labels.len(), 32);
    assert_eq!(scene.get().record.generation, 33);
    assert_eq!(scene.get().requests.sequence, 33, "the file's own, and 32");
    assert_eq!(verbs(&scene.get()), [Verb::Restart], "the latest has replaced the others");
    scene.is_the_same_after_a_reboot();
}

#[test]
fn of_writers_that_compare_one_wins_at_a_time() {
    let scene = Scene::of_panel();
    let conflicts = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..8 {
                    loop {
                        let seen = scene.get();
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
                        match scene.store.sync(id(), Some(seen.revision), edit, |_| {}) {
                            Ok(_) => break,
                            Err(StoreError::Conflict { .. }) => conflicts.fetch_add(1, Ordering::Relaxed),
                            Err(other) => panic!("{other}"),
                        };
                    }
                }
            });
        }
    });
    assert_eq!(scene.manifest().metadata.labels["count"], "32", "{} conflicts", conflicts.load(Ordering::Relaxed));
}

#[test]
fn of_many_creators_one_wins() {
    let scene = Scene::empty();
    let wins = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| match scene.store.create(manifest(id()), Record::default(), []) {
                Ok(_) => {
                    wins.fetch_add(1, Ordering::Relaxed);
                }
                Err(StoreError::Exists(_)) => {}
                Err(other) => panic!("{other}"),
            });
        }
    });
    assert_eq!(wins.load(Ordering::Relaxed), 1);
    assert_eq!(scene.get().record.generation, 1);
    scene.is_the_same_after_a_reboot();
}

#[test]
fn a_removed_server_does_not_come_back_through_somebody_who_was_late() {
    for late in [
        (|store: &Store| drop(store.commit(id(), |record| record.synced_for = Some("x".into())))) as fn(&Store),
        |store| drop(store.sync(id(), None, |manifest| manifest.spec.suspended = true, |_| {})),
        |store| drop(store.request(id(), None, [request("late", Verb::Start)])),
        |store| drop(store.make_again(id())),
        |store| drop(store.write_status(id())),
        |store| drop(store.refresh(id())),
        |store| drop(store.remove(id())),
    ] {
        let scene = Scene::of_panel();
        let entry = scene.store.entry(id()).unwrap();
        scene.store.remove(id()).unwrap();
        // As one has it who took the entry before the removal and waited for its lock until after it.
        write(&scene.store.inner.entries).insert(id(), entry);
        late(&scene.store);
        assert!(!scene.store.folder(id()).exists());
    }
}

#[test]
fn a_server_that_the_api_knows_is_not_replaced() {
    let scene = Scene::with_file();
    let before = scene.get();
    let facts = |record: &mut Record| record.synced_for = Some("x".into());
    scene.store.replace(id(), manifest(id()), facts, [request("install", INSTALL)]).unwrap();
    assert_eq!(scene.config(), FILE);
    assert_eq!((&scene.get().record, &scene.get().requests), (&before.record, &before.requests));
}

#[test]
fn a_server_that_is_being_deleted_can_be_wanted_again() {
    let scene = Scene::with_file();
    scene.accepts("delete", Verb::Delete);
    assert!(!scene.get().is_listed());
    let before = scene.get().requests.clone();
    scene.accepts("again", Verb::Delete);
    assert_eq!(scene.get().requests, before, "a second deletion asks for nothing");
    scene.store.replace(id(), manifest(id()), |_| {}, [request("install", INSTALL)]).unwrap();
    let after = scene.get();
    assert!(after.is_listed() && after.wanted() && after.is_being_deleted());
    assert_eq!(after.manifest.as_deref(), Some(&manifest(id())));
    assert_eq!(after.record.generation, 2);
    scene.is_the_same_after_a_reboot();

    assert!(scene.store.make_again(id()).unwrap());
    let again = scene.get();
    assert!(again.is_listed() && !again.is_being_deleted());
    assert_eq!(verbs(&again), [INSTALL]);
    assert_eq!(again.asked(Timestamp::default()).install().unwrap().id, "install");
    assert_eq!(again.record.generation, 2, "it counts on");
    scene.is_the_same_after_a_reboot();
    assert!(!scene.store.make_again(id()).unwrap());
}

#[test]
fn unknown_servers_are_unknown() {
    let scene = Scene::empty();
    let unknown = |result: Result<(), StoreError>| assert!(matches!(result.unwrap_err(), StoreError::Unknown(_)));
    unknown(scene.store.sync(id(), None, |_| {}, |_| {}).map(drop));
    unknown(scene.store.request(id(), None, [request("one", Verb::Stop)]).map(drop));
    unknown(scene.store.commit(id(), |_| {}).map(drop));
    unknown(scene.store.replace(id(), manifest(id()), |_| {}, []));
    assert!(!scene.store.refresh(id()).unwrap());
    scene.store.remove(id()).unwrap();
    assert!(scene.store.get(id()).is_none());
}

#[test]
fn whoever_waits_for_changes_is_woken_by_each() {
    let scene = Scene::empty();
    let woken = Arc::new(AtomicUsize::new(0));
    let counter = woken.clone();
    scene.store.on_change(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    let took = |expected: usize, what: &str| assert_eq!(woken.swap(0, Ordering::Relaxed), expected, "{what}");
    scene.store.create(Manifest::new(id(), ManagedBy::Panel), Record::default(), []).unwrap();
    took(1, "create");
    scene.accepts("one", Verb::Start);
    took(1, "a request");
    scene.accepts("one", Verb::Stop);
    took(1, "another");
    scene.store.sync(id(), None, |manifest| manifest.spec.suspended = true, |_| {}).unwrap();
    took(1, "change");
    scene.store.sync(id(), None, |_| {}, |_| {}).unwrap();
    took(0, "no change");
    scene.store.commit(id(), |record| record.synced_for = Some("x".into())).unwrap();
    took(0, "facts are the reconciler's own");
    scene.saves(CONFIG_FILE, &scene.config().replace("suspended: true", "suspended: false"));
    scene.store.refresh(id()).unwrap();
    took(1, "refresh");
    scene.store.refresh(id()).unwrap();
    took(0, "nothing new");
    scene.saves(CONFIG_FILE, "spec: {");
    scene.store.refresh(id()).unwrap();
    took(1, "a problem");
    scene.store.remove(id()).unwrap();
    took(1, "remove");
}

#[test]
fn whether_a_server_goes_is_decided_when_its_turn_has_come() {
    let scene = Scene::with_file();
    scene.accepts("delete", Verb::Delete);
    assert!(!scene.store.remove_if(id(), Snapshot::wanted).unwrap());
    assert!(scene.path(CONFIG_FILE).exists());

    // While one asks for the server again, another is about to remove it.
    let (store, (last_reported, removed)) = (scene.store.clone(), std::sync::mpsc::channel());
    scene.disk.meanwhile(move || {
        let (begun, waits) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            begun.send(()).unwrap();
            last_reported.send(store.remove_if(id(), |now| !now.wanted()).unwrap()).unwrap();
        });
        waits.recv().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
    });
    scene.accepts("install", INSTALL);
    assert!(!removed.recv().unwrap(), "it is wanted again");
    assert!(scene.path(CONFIG_FILE).exists());

    scene.accepts("delete again", Verb::Delete);
    assert!(scene.store.remove_if(id(), |now| !now.wanted()).unwrap());
    assert!(!scene.store.folder(id()).exists());
    assert!(scene.store.remove_if(id(), |now| !now.wanted()).unwrap(), "gone is gone");
}

#[test]
fn a_file_that_is_a_link_is_written_where_it_leads() {
    let scene = Scene::of_panel();
    let checkout = scene.root.path().join("checkout");
    fs::create_dir(&checkout).unwrap();
    let target = checkout.join("club.yml");
    fs::rename(scene.path(CONFIG_FILE), &target).unwrap();
    std::os::unix::fs::symlink(&target, scene.path(CONFIG_FILE)).unwrap();
    scene.store.refresh(id()).unwrap();
    scene.disk.done();
    scene.sync(|manifest| manifest.spec.settings.invocation = "./walk".into()).unwrap();
    assert!(scene.path(CONFIG_FILE).is_symlink());
    assert!(fs::read_to_string(&target).unwrap().contains("./walk"));
    assert!(!scene.store.refresh(id()).unwrap(), "what the store wrote itself is no news");
    scene.disk.refuses(&[DiskOp::WriteRecord], io::ErrorKind::StorageFull);
    scene.store.sync(id(), None, |manifest| manifest.spec.suspended = true, |_| {}).unwrap_err();
    assert!(scene.path(CONFIG_FILE).is_symlink());
    assert!(!fs::read_to_string(&target).unwrap().contains("suspended: true"), "taken back");
    scene.disk.refuses(&[], io::ErrorKind::StorageFull);
    scene.store.refresh(id()).unwrap();
    scene.is_the_same_after_a_reboot();
}
