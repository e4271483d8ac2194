//! Changes: comments that stay, overrides that win, writers that meet.

use std::sync::atomic::AtomicUsize;

use super::*;
use crate::model::Deletion;

#[test]
fn a_power_wish_keeps_every_comment() {
    let scene = Scene::with_file();
    scene.store.wish_power(id(), None, wish("second", Want::Up)).unwrap();
    let text = scene.config();
    for comment in ["# The server of the club. Ask Ada", "# from the old host", "# up since 2019", "./run   # fast"] {
        assert!(text.contains(comment), "{comment} is gone:\n{text}");
    }
    let untouched = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|line| !line.contains("power") && !line.contains("id:") && !line.contains("want:"))
            .map(Into::into)
            .collect()
    };
    let (old, new) = (untouched(FILE), untouched(&text));
    assert!(old.iter().all(|line| line.contains("uuid") || new.contains(line)), "{text}");
    assert_eq!(scene.intent().spec.power, Some(wish("second", Want::Up)));
}

#[test]
fn an_override_wins_and_survives_every_change() {
    let scene = Scene::with_file();
    let over = "# The operator's word\nspec:\n  settings:\n    invocation: ./walk\n    environment: {EXTRA: '1'}\n";
    scene.saves(OVERRIDE_FILE, over);
    assert!(scene.store.refresh(id()).unwrap());
    let settings = |scene: &Scene| scene.intent().spec.settings.clone();
    assert_eq!(settings(&scene).invocation, "./walk");
    assert_eq!(settings(&scene).environment.len(), 2, "maps are merged");
    assert_eq!(settings(&scene).container.image, "example/image:1");

    scene
        .store
        .change(id(), None, |manifest| {
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
        let snapshot = scene.store.create(manifest(id()), Record::default()).unwrap();
        assert_eq!(snapshot.manifest.as_ref().unwrap().spec.settings.invocation, invocation);
        assert_eq!(snapshot.problem.is_some(), over == "spec: {");
        assert_eq!(snapshot.record.generation, 1);
        scene.is_the_same_after_a_reboot();
        assert!(!scene.store.refresh(id()).unwrap(), "nothing has changed since");
    }
}

#[test]
fn a_server_is_made_once() {
    let scene = Scene::empty();
    scene.store.create(manifest(id()), Record::default()).unwrap();
    let error = scene.store.create(manifest(id()), Record::default()).unwrap_err();
    assert!(matches!(error, StoreError::Exists(found) if found == id()), "{error}");
    assert_eq!(scene.get().record.generation, 1);
}

#[test]
fn a_file_that_a_person_wrote_a_moment_ago_is_not_overwritten() {
    let scene = Scene::empty();
    fs::create_dir(scene.store.folder(id())).unwrap();
    scene.saves(CONFIG_FILE, FILE);
    let error = scene.store.create(manifest(id()), Record::default()).unwrap_err();
    assert!(matches!(error, StoreError::Exists(_)), "{error}");
    assert_eq!(scene.config(), FILE);
    assert_eq!(scene.intent().spec.settings.invocation, "./run");
}

#[test]
fn a_change_that_is_based_on_an_old_revision_is_refused() {
    let scene = Scene::with_file();
    let seen = scene.get().revision;
    scene.store.change(id(), Some(seen), |manifest| manifest.spec.settings.invocation = "./walk".into()).unwrap();
    let late = scene.store.change(id(), Some(seen), |manifest| manifest.spec.settings.invocation = "./fly".into());
    match late.unwrap_err() {
        StoreError::Conflict { expected, found, .. } => assert_eq!((expected, found), (seen, scene.get().revision)),
        other => panic!("{other}"),
    }
    assert_eq!(scene.intent().spec.settings.invocation, "./walk");

    // Facts count as well: who decided on old facts decides again.
    let seen = scene.get().revision;
    scene.store.commit(id(), |record| record.power.begun = Some("first".into())).unwrap();
    let late = scene.store.change(id(), Some(seen), |manifest| manifest.spec.suspended = true);
    assert!(matches!(late.unwrap_err(), StoreError::Conflict { .. }));
}

#[test]
fn what_a_person_saved_before_a_change_is_part_of_it() {
    let scene = Scene::with_file();
    scene.saves(CONFIG_FILE, &FILE.replace("de_dust", "de_inferno"));
    scene.store.change(id(), None, |manifest| manifest.spec.suspended = true).unwrap();
    assert!(scene.config().contains("de_inferno"));
    assert_eq!(scene.intent().spec.settings.environment["MAP"], "de_inferno");
    assert!(scene.intent().spec.suspended);
}

#[test]
fn what_a_person_saves_during_a_change_is_not_overwritten() {
    let scene = Scene::with_file();
    let path = scene.path(CONFIG_FILE);
    scene.disk.meanwhile(move || saves(&path, &FILE.replace("de_dust", "de_inferno")));
    let change = scene.store.change(id(), None, |manifest| manifest.spec.suspended = true);
    assert!(matches!(change.unwrap_err(), StoreError::Conflict { .. }));
    assert_eq!(scene.config(), FILE.replace("de_dust", "de_inferno"));
    assert_eq!(scene.intent().spec.settings.environment["MAP"], "de_inferno");
    scene.is_the_same_after_a_reboot();
    scene.store.change(id(), None, |manifest| manifest.spec.suspended = true).unwrap();
    assert!(scene.intent().spec.suspended && scene.config().contains("de_inferno"));
}

#[test]
fn many_writers_at_once_lose_nothing() {
    let scene = Scene::with_file();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let store = &scene.store;
            scope.spawn(move || {
                for number in 0..8 {
                    let label = format!("w{writer}-{number}");
                    store
                        .change(id(), None, |manifest| {
                            manifest.metadata.labels.insert(label.clone(), "x".into());
                        })
                        .unwrap();
                    store.commit(id(), |record| record.synced_for = Some(label)).unwrap();
                }
            });
        }
    });
    assert_eq!(scene.intent().metadata.labels.len(), 32);
    assert_eq!(scene.get().record.generation, 33);
    assert!(scene.config().contains("# up since 2019"));
    scene.is_the_same_after_a_reboot();
}

#[test]
fn of_writers_that_compare_one_wins_at_a_time() {
    let scene = Scene::with_file();
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
                        match scene.store.change(id(), Some(seen.revision), |manifest| {
                            manifest.metadata.labels.insert("count".into(), next);
                        }) {
                            Ok(_) => break,
                            Err(StoreError::Conflict { .. }) => conflicts.fetch_add(1, Ordering::Relaxed),
                            Err(other) => panic!("{other}"),
                        };
                    }
                }
            });
        }
    });
    assert_eq!(scene.intent().metadata.labels["count"], "32", "{} conflicts", conflicts.load(Ordering::Relaxed));
}

#[test]
fn of_many_creators_one_wins() {
    let scene = Scene::empty();
    let wins = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| match scene.store.create(manifest(id()), Record::default()) {
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
        |store| drop(store.change(id(), None, |manifest| manifest.spec.suspended = true)),
        |store| drop(store.write_status(id())),
        |store| drop(store.refresh(id())),
        |store| drop(store.remove(id())),
    ] {
        let scene = Scene::with_file();
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
    scene.store.replace(id(), manifest(id()), |record| record.synced_for = Some("x".into())).unwrap();
    assert_eq!(scene.config(), FILE);
    assert_eq!(scene.get().record.synced_for, None);
}

#[test]
fn a_server_on_its_way_out_can_be_wanted_again() {
    let scene = Scene::with_file();
    let deletion = Deletion { at: Timestamp::default(), recreate: false };
    scene.store.commit(id(), |record| record.deletion = Some(deletion)).unwrap();
    assert!(!scene.get().is_listed());
    scene.store.replace(id(), manifest(id()), |record| record.deletion.as_mut().unwrap().recreate = true).unwrap();
    let after = scene.get();
    assert!(after.is_listed() && after.wanted());
    assert_eq!(after.manifest.as_deref(), Some(&manifest(id())));
    assert_eq!(after.record.generation, 2);
    scene.is_the_same_after_a_reboot();
}

#[test]
fn unknown_servers_are_unknown() {
    let scene = Scene::empty();
    let unknown = |result: Result<(), StoreError>| assert!(matches!(result.unwrap_err(), StoreError::Unknown(_)));
    unknown(scene.store.change(id(), None, |_| {}).map(drop));
    unknown(scene.store.commit(id(), |_| {}).map(drop));
    unknown(scene.store.replace(id(), manifest(id()), |_| {}));
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
    scene.store.create(manifest(id()), Record::default()).unwrap();
    took(1, "create");
    scene.store.change(id(), None, |manifest| manifest.spec.suspended = true).unwrap();
    took(1, "change");
    scene.store.change(id(), None, |_| {}).unwrap();
    took(0, "no change");
    scene.store.commit(id(), |record| record.synced_for = Some("x".into())).unwrap();
    took(0, "facts are the reconciler's own");
    scene.saves(CONFIG_FILE, &scene.config().replace("image:1", "image:2"));
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
    let deletion = |recreate| Some(Deletion { at: Timestamp::default(), recreate });
    scene.store.commit(id(), |record| record.deletion = deletion(false)).unwrap();
    assert!(!scene.store.remove_if(id(), Snapshot::wanted).unwrap());
    assert!(scene.path(CONFIG_FILE).exists());

    // While one asks for the server again, another is about to remove it.
    let (store, (told, removed)) = (scene.store.clone(), std::sync::mpsc::channel());
    scene.disk.meanwhile(move || {
        let (begun, waits) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            begun.send(()).unwrap();
            told.send(store.remove_if(id(), |now| !now.wanted()).unwrap()).unwrap();
        });
        waits.recv().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
    });
    scene.store.commit(id(), |record| record.deletion = deletion(true)).unwrap();
    assert!(!removed.recv().unwrap(), "it is wanted again");
    assert!(scene.path(CONFIG_FILE).exists());

    scene.store.commit(id(), |record| record.deletion = deletion(false)).unwrap();
    assert!(scene.store.remove_if(id(), |now| !now.wanted()).unwrap());
    assert!(!scene.store.folder(id()).exists());
    assert!(scene.store.remove_if(id(), |now| !now.wanted()).unwrap(), "gone is gone");
}

#[test]
fn a_file_that_is_a_link_is_written_where_it_leads() {
    let scene = Scene::with_file();
    let checkout = scene.root.path().join("checkout");
    fs::create_dir(&checkout).unwrap();
    let target = checkout.join("club.yml");
    fs::rename(scene.path(CONFIG_FILE), &target).unwrap();
    std::os::unix::fs::symlink(&target, scene.path(CONFIG_FILE)).unwrap();
    scene.store.refresh(id()).unwrap();
    scene.disk.done();
    scene.store.wish_power(id(), None, wish("second", Want::Up)).unwrap();
    assert!(scene.path(CONFIG_FILE).is_symlink());
    assert!(fs::read_to_string(&target).unwrap().contains("id: second"));
    assert!(!scene.store.refresh(id()).unwrap(), "what the store wrote itself is no news");
    scene.disk.refuses(&[DiskOp::WriteRecord], io::ErrorKind::StorageFull);
    scene.store.change(id(), None, |manifest| manifest.spec.suspended = true).unwrap_err();
    assert!(scene.path(CONFIG_FILE).is_symlink());
    assert!(!fs::read_to_string(&target).unwrap().contains("suspended"), "taken back");
    scene.disk.refuses(&[], io::ErrorKind::StorageFull);
    scene.store.refresh(id()).unwrap();
    scene.is_the_same_after_a_reboot();
}
