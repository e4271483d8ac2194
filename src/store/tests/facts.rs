//! Facts, and what is left of them after a reboot, a damage, a move.

use super::*;
use crate::model::{Deletion, InstallOutcome, InstallResult, PowerState, Reason};

#[test]
fn each_kind_of_write_survives_a_reboot() {
    let scene = Scene::empty();
    scene.store.create(manifest(id()), Record { synced_for: Some("x".into()), ..Record::default() }).unwrap();
    scene.is_the_same_after_a_reboot();
    scene.store.change(id(), None, |manifest| manifest.spec.settings.invocation = "./run".into()).unwrap();
    scene.is_the_same_after_a_reboot();
    scene.store.wish_power(id(), None, wish("first", Want::Up)).unwrap();
    scene.is_the_same_after_a_reboot();
    scene.store.commit(id(), |record| record.power.begun = Some("first".into())).unwrap();
    scene.is_the_same_after_a_reboot();
    let facts = |record: &mut Record| record.synced_at = Some(Timestamp::from_millis(5000));
    scene.store.change_with(id(), None, |manifest| manifest.spec.suspended = true, facts).unwrap();
    scene.is_the_same_after_a_reboot();
    scene.saves(OVERRIDE_FILE, "spec: {settings: {invocation: ./walk}}");
    scene.store.refresh(id()).unwrap();
    scene.is_the_same_after_a_reboot();
    scene.store.commit(id(), |record| record.parked = Some(Timestamp::from_millis(6000))).unwrap();
    scene.is_the_same_after_a_reboot();
    scene.store.replace(id(), manifest(id()), |record| record.parked = None).unwrap();
    scene.is_the_same_after_a_reboot();
    assert_eq!(scene.intent().spec.settings.invocation, "./walk", "the override survives even a new life");
    scene
        .store
        .commit(id(), |record| record.deletion = Some(Deletion { at: Timestamp::default(), recreate: false }))
        .unwrap();
    scene.is_the_same_after_a_reboot();
    scene.store.remove(id()).unwrap();
    scene.is_the_same_after_a_reboot();
    assert!(scene.store.list().is_empty());
}

#[test]
fn what_was_saved_while_the_daemon_was_down_counts_and_is_recorded() {
    let scene = Scene::with_file();
    scene.saves(CONFIG_FILE, &FILE.replace("./run", "./walk"));
    let again = Store::open(scene.root.path(), Blocking::Inline, None).unwrap();
    let snapshot = again.get(id()).unwrap();
    assert!(snapshot.unrecorded);
    assert_eq!(snapshot.manifest.as_ref().unwrap().spec.settings.invocation, "./walk");
    assert_eq!(snapshot.record.generation, 2);
    assert!(again.refresh(id()).unwrap());
    let recorded = again.get(id()).unwrap();
    assert!(!recorded.unrecorded);
    assert_eq!(recorded.record, snapshot.record);
    let third = Store::open(scene.root.path(), Blocking::Inline, None).unwrap();
    assert!(!third.get(id()).unwrap().unrecorded);
}

#[test]
fn what_was_saved_while_the_daemon_was_down_outlives_a_file_that_is_broken_before_it_was_recorded() {
    for break_it in [|path: &Path| saves(path, "spec: {"), |path: &Path| fs::remove_file(path).unwrap()] {
        let scene = Scene::with_file();
        scene.saves(CONFIG_FILE, &FILE.replace("./run", "./walk"));
        let disk = Arc::new(Disk::default());
        let again = Store::open(scene.root.path(), Blocking::Inline, Some(disk.clone())).unwrap();
        let in_force = again.get(id()).unwrap();
        break_it(&scene.path(CONFIG_FILE));
        disk.refuses(&[DiskOp::WriteRecord], io::ErrorKind::PermissionDenied);
        again.refresh(id()).unwrap_err();
        assert!(again.get(id()).unwrap().unrecorded, "nothing is done for it until it is recorded");
        disk.refuses(&[], io::ErrorKind::Other);
        assert!(again.refresh(id()).unwrap());
        let known = again.get(id()).unwrap();
        assert!(known.problem.is_some() && !known.unrecorded);
        assert_eq!(known.manifest, in_force.manifest);

        let third = Store::open(scene.root.path(), Blocking::Inline, None).unwrap();
        assert_eq!(third.get(id()).unwrap().manifest, known.manifest, "no older intent comes back");
        assert_eq!(third.get(id()).unwrap().record, known.record);
    }
}

/// A daemon that had read the wish died before it recorded anything: to the next one it comes with the mended file.
#[test]
fn a_wish_on_no_record_is_later_than_what_was_asked_for_while_its_file_was_broken() {
    let scene = Scene::with_file();
    let by_hand = FILE.replace("{id: first, want: down}", "{id: second, want: up}");
    scene.saves(CONFIG_FILE, &by_hand);
    assert!(reopened(&scene).get(id()).unwrap().unrecorded);
    scene.saves(CONFIG_FILE, "spec: {");
    let again = reopened(&scene);
    again.wish_power(id(), None, wish("third", Want::Down)).unwrap();
    scene.saves(CONFIG_FILE, &by_hand);
    for store in [&reopened(&scene), &again] {
        store.refresh(id()).unwrap();
        let power = store.get(id()).unwrap().manifest.clone().unwrap().spec.power.clone();
        assert_eq!(power, Some(wish("second", Want::Up)));
    }
}

#[test]
fn a_file_that_was_broken_while_the_daemon_was_down_changes_nothing() {
    let scene = Scene::with_file();
    let before = scene.get();
    for break_it in [|path: &Path| saves(path, "spec: {"), |path: &Path| fs::remove_file(path).unwrap()] {
        break_it(&scene.path(CONFIG_FILE));
        let again = Store::open(scene.root.path(), Blocking::Inline, None).unwrap();
        let snapshot = again.get(id()).unwrap();
        assert_eq!((&snapshot.manifest, &snapshot.record), (&before.manifest, &before.record));
        assert!(snapshot.problem.is_some());
    }
}

#[test]
fn a_file_that_was_mended_while_the_daemon_was_down_does_not_undo_a_power_wish() {
    let scene = Scene::with_file();
    scene.saves(CONFIG_FILE, "spec: {");
    scene.store.refresh(id()).unwrap();
    scene.store.wish_power(id(), None, wish("second", Want::Up)).unwrap();
    scene.saves(CONFIG_FILE, FILE);
    let again = Store::open(scene.root.path(), Blocking::Inline, None).unwrap();
    let snapshot = again.get(id()).unwrap();
    assert_eq!(snapshot.problem, None);
    assert_eq!(snapshot.manifest.as_ref().unwrap().spec.power, Some(wish("second", Want::Up)));
    assert_eq!(snapshot.record.generation, 2);
}

#[test]
fn the_generation_counts_real_changes_alone() {
    let scene = Scene::with_file();
    let generation = || {
        scene.store.refresh(id()).unwrap();
        let generation = scene.get().record.generation;
        scene.is_the_same_after_a_reboot();
        generation
    };
    assert_eq!(generation(), 1);
    scene.saves(CONFIG_FILE, &FILE.replace("# fast", "# rather slow"));
    assert_eq!(generation(), 1, "a comment");
    scene.saves(CONFIG_FILE, &FILE.replace("'example/image:1'", "\"example/image:1\""));
    assert_eq!(generation(), 1, "quotes");
    scene.saves(CONFIG_FILE, &format!("{FILE}  suspended: false\n"));
    assert_eq!(generation(), 1, "a default, spelled out");
    scene.saves(CONFIG_FILE, &FILE.replace("./run", "./walk"));
    assert_eq!(generation(), 2, "a change");
    scene.saves(CONFIG_FILE, FILE);
    assert_eq!(generation(), 3, "a change back");
    scene.saves(OVERRIDE_FILE, "spec: {settings: {invocation: ./run}}");
    assert_eq!(generation(), 3, "an override that says the same");
    scene.store.commit(id(), |record| record.synced_for = Some("x".into())).unwrap();
    assert_eq!(generation(), 3, "a fact");
}

/// The wish and the installation of a server whose facts are lost count as done.
#[track_caller]
fn takes_everything_for_done(snapshot: &Snapshot) {
    let done = snapshot.record.install.done.as_ref().expect("the installation counts as done");
    assert_eq!((done.token.as_str(), done.outcome, done.reported), ("i1", InstallOutcome::Succeeded, true));
    assert!(snapshot.record.power_closed("first", Want::Down));
}

fn installed() -> (Scene, String) {
    let scene = Scene::with_file();
    let text = format!("{FILE}  install: {{token: i1, skipScripts: true}}\n");
    scene.saves(CONFIG_FILE, &text);
    scene.store.refresh(id()).unwrap();
    (scene, text)
}

#[test]
fn a_damaged_record_never_installs_over_a_world() {
    for damage in ["", "{", "\0\0\0\0", "[]", r#"{"version": 99, "files": {}, "lastGood": null, "facts": {}}"#] {
        let (scene, _) = installed();
        fs::write(scene.path(RECORD_FILE), damage).unwrap();
        let second = Store::open(scene.root.path(), Blocking::Inline, None).unwrap();
        takes_everything_for_done(&second.get(id()).unwrap());
        assert!(scene.path("record.json.broken").exists(), "{damage:?} is kept for whoever wants to know");

        // Killed before it could write that down.
        let third = Store::open(scene.root.path(), Blocking::Inline, None).unwrap();
        takes_everything_for_done(&third.get(id()).unwrap());
        third.refresh(id()).unwrap();
        takes_everything_for_done(&third.get(id()).unwrap());
        let fourth = Store::open(scene.root.path(), Blocking::Inline, None).unwrap();
        takes_everything_for_done(&fourth.get(id()).unwrap());

        // A new wish is a new wish.
        fourth.wish_power(id(), None, wish("second", Want::Up)).unwrap();
        assert!(!fourth.get(id()).unwrap().record.power_closed("second", Want::Up));
    }
}

#[test]
fn a_damaged_record_beside_a_broken_file_installs_nothing_when_the_file_is_mended() {
    let (scene, text) = installed();
    fs::write(scene.path(RECORD_FILE), "{").unwrap();
    scene.saves(CONFIG_FILE, "spec: {");
    let again = Store::open(scene.root.path(), Blocking::Inline, None).unwrap();
    assert!(again.get(id()).unwrap().manifest.is_none());
    scene.saves(CONFIG_FILE, &text);
    again.refresh(id()).unwrap();
    takes_everything_for_done(&again.get(id()).unwrap());
}

/// A server with a damaged record, whose manifest has this `managedBy` and this `spec`.
fn damaged(managed_by: &str, spec: &str) -> Record {
    let scene = Scene::with_file();
    let file = FILE.replace("metadata:\n", &format!("metadata:\n  managedBy: {managed_by}\n"));
    scene.saves(CONFIG_FILE, &file.replace("  power: {id: first, want: down}\n", spec));
    scene.store.refresh(id()).unwrap();
    assert!(!scene.get().record.install.reset_owed);
    fs::write(scene.path(RECORD_FILE), "{").unwrap();
    let again = Store::open(scene.root.path(), Blocking::Inline, None).unwrap();
    again.refresh(id()).unwrap();
    let record = Record::clone(&again.get(id()).unwrap().record);
    assert_eq!(again.status(id()).unwrap().state, PowerState::Offline, "nothing has shown that it runs");
    let later = Store::open(scene.root.path(), Blocking::Inline, None).unwrap();
    assert_eq!(*later.get(id()).unwrap().record, record, "it is on disk");
    record
}

#[test]
fn a_damaged_record_owes_the_panel_a_reset() {
    let install = "  install: {token: i1, skipScripts: true}\n";
    for (managed_by, spec, owed) in
        [("panel", install, true), ("panel", "  suspended: false\n", false), ("file", install, false)]
    {
        let record = damaged(managed_by, spec);
        assert_eq!(record.install.reset_owed, owed, "{managed_by} {spec}");
        // Not a result that is certain: a report would clear a failed installation on the panel.
        assert!(record.install.done.is_none_or(|done| done.reported), "{managed_by} {spec}");
        let told = (managed_by == "panel").then_some(PowerState::Running);
        assert_eq!(record.told, told, "whatever the panel shows, the state is reported");
    }
}

#[test]
fn a_later_installation_pays_what_a_damaged_record_owes() {
    let mut record = damaged("panel", "  install: {token: i1, skipScripts: true}\n");
    let result = InstallResult { token: "i2".into(), reported: false, ..record.install.done.clone().unwrap() };
    record.finish_install(result);
    assert!(!record.install.reset_owed);
}

#[test]
fn a_damaged_record_starts_nothing_after_the_installation() {
    let install = "  install: {token: i1, skipScripts: true, thenStart: true}\n";
    let record = damaged("panel", install);
    assert!(record.power_closed("install:i1", Want::Up));
    let record = damaged("panel", &format!("{install}  power: {{id: first, want: down}}\n"));
    assert!(record.power_closed("install:i1", Want::Up) && record.power_closed("first", Want::Down));
}

/// A record that cannot be read, as on a failing disk. Moved away, it can.
fn hides(scene: &Scene) -> std::path::PathBuf {
    let (path, kept) = (scene.path(RECORD_FILE), scene.root.path().join("kept.json"));
    fs::rename(&path, &kept).unwrap();
    fs::create_dir(&path).unwrap();
    kept
}

#[test]
fn a_record_that_cannot_be_read_is_set_aside_and_not_written_over() {
    let (scene, _) = installed();
    hides(&scene);
    fs::write(scene.path(RECORD_FILE).join("what it says"), "").unwrap();
    let daemon = Store::open(scene.root.path(), Blocking::Inline, None).unwrap();
    takes_everything_for_done(&daemon.get(id()).unwrap());
    daemon.refresh(id()).unwrap();
    daemon.commit(id(), |record| record.synced_for = Some("x".into())).unwrap();
    assert!(scene.path("record.json.broken").join("what it says").exists());
    takes_everything_for_done(&Store::open(scene.root.path(), Blocking::Inline, None).unwrap().get(id()).unwrap());
}

#[test]
fn a_record_that_cannot_even_be_set_aside_keeps_its_server_as_it_is() {
    let (scene, _) = installed();
    let before = scene.get();
    let kept = hides(&scene);
    fs::create_dir_all(scene.path("record.json.broken").join("in the way")).unwrap();
    fs::remove_dir(scene.path(RECORD_FILE)).unwrap();
    std::os::unix::fs::symlink(RECORD_FILE, scene.path(RECORD_FILE)).unwrap();
    let daemon = Store::open(scene.root.path(), Blocking::Inline, None).unwrap();
    let refuses = |store: &Store| {
        let snapshot = store.get(id()).unwrap();
        assert!(snapshot.manifest.is_none(), "nothing is done with it");
        let problem = snapshot.problem.clone().unwrap();
        assert_eq!(problem.reason, Reason::RecordUnreadable);
        assert!(problem.message.contains("rename it to record.json.broken"), "{}", problem.message);
        let config = scene.config();
        let broken = |error: StoreError| assert!(matches!(error, StoreError::Broken { .. }), "{error}");
        broken(store.commit(id(), |record| record.synced_for = Some("x".into())).unwrap_err());
        broken(store.wish_power(id(), None, wish("second", Want::Up)).unwrap_err());
        broken(store.replace(id(), manifest(id()), |_| {}).unwrap_err());
        assert!(!store.refresh(id()).unwrap());
        assert_eq!(scene.config(), config);
        assert!(scene.path(RECORD_FILE).is_symlink(), "it was not written over");
    };
    refuses(&daemon);

    // The disk is well again: nothing was lost.
    fs::remove_file(scene.path(RECORD_FILE)).unwrap();
    fs::rename(kept, scene.path(RECORD_FILE)).unwrap();
    assert!(daemon.refresh(id()).unwrap());
    let after = daemon.get(id()).unwrap();
    assert_eq!((&after.manifest, &after.record, &after.problem), (&before.manifest, &before.record, &None));
    daemon.commit(id(), |record| record.synced_for = Some("x".into())).unwrap();
}

#[test]
fn a_reader_moves_no_record_and_writes_none() {
    let (scene, _) = installed();
    fs::write(scene.path(RECORD_FILE), "{").unwrap();
    let reader = Store::open_to_read(scene.root.path()).unwrap();
    takes_everything_for_done(&reader.get(id()).unwrap());
    for error in [
        reader.commit(id(), |record| record.synced_for = Some("x".into())).unwrap_err(),
        reader.change(id(), None, |manifest| manifest.spec.suspended = true).unwrap_err(),
        reader.remove(id()).unwrap_err(),
    ] {
        assert!(error.to_string().contains("opened to read"), "{error}");
    }
    assert_eq!(fs::read_to_string(scene.path(RECORD_FILE)).unwrap(), "{");
    assert!(!scene.path("record.json.broken").exists());

    fs::remove_file(scene.path(RECORD_FILE)).unwrap();
    fs::create_dir(scene.path(RECORD_FILE)).unwrap();
    let reader = Store::open_to_read(scene.root.path()).unwrap();
    let problem = reader.get(id()).unwrap().problem.clone().unwrap();
    assert!(problem.reason == Reason::RecordUnreadable && problem.message.contains("record.json"), "{problem:?}");
    assert!(scene.path(RECORD_FILE).is_dir());
}

#[test]
fn a_server_that_is_moved_here_brings_its_facts() {
    let there = Scene::with_file();
    there.store.commit(id(), |record| record.power.begun = Some("first".into())).unwrap();
    let here = Scene::empty();
    fs::create_dir(here.store.folder(id())).unwrap();
    for file in [RECORD_FILE, CONFIG_FILE] {
        fs::copy(there.path(file), here.path(file)).unwrap();
    }
    assert!(here.store.refresh(id()).unwrap());
    assert_eq!(here.get().record, there.get().record);
    here.is_the_same_after_a_reboot();

    // Also when the very same folder comes: the news is that it is there.
    let third = Scene::empty();
    fs::rename(there.store.folder(id()), third.store.folder(id())).unwrap();
    assert!(third.store.refresh(id()).unwrap());
    assert_eq!(third.get().record, there.get().record);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in [RECORD_FILE, CONFIG_FILE] {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

fn reopened(scene: &Scene) -> Store {
    Store::open(scene.root.path(), Blocking::Inline, None).unwrap()
}

/// Somebody saves the files of a server that was deleted by mistake, and puts them back.
#[test]
fn a_folder_that_is_put_back_is_not_deleted() {
    let scene = Scene::with_file();
    let mark = |record: &mut Record| record.deletion = Some(Deletion { at: Timestamp::default(), recreate: false });
    scene.store.commit(id(), mark).unwrap();
    assert!(reopened(&scene).get(id()).unwrap().record.deletion.is_some(), "a deletion under way goes on");
    let rescued = scene.root.path().join("rescued");
    copy(&scene.store.folder(id()), &rescued);
    scene.store.remove(id()).unwrap();

    copy(&rescued, &scene.store.folder(id()));
    assert_eq!(reopened(&scene).get(id()).unwrap().record.deletion, None, "while the daemon was down");
    assert!(scene.store.refresh(id()).unwrap());
    assert!(scene.get().is_listed(), "while it runs");
    scene.is_the_same_after_a_reboot();
}

/// `cp -r` of a server under a name of its own, to be edited next: until then it is nobody.
#[test]
fn a_copy_of_a_server_is_not_a_second_one_of_it() {
    let scene = Scene::with_file();
    scene.store.wish_power(id(), None, wish("second", Want::Up)).unwrap();
    let facts = |record: &mut Record| {
        record.told = Some(PowerState::Running);
        record.install.past = vec!["first".into()];
        record.deletion = Some(Deletion { at: Timestamp::default(), recreate: false });
    };
    scene.store.commit(id(), facts).unwrap();
    let two: ServerId = "650e8400-e29b-41d4-a716-446655440000".parse().unwrap();
    copy(&scene.store.folder(id()), &scene.store.folder(two));
    scene.store.refresh(two).unwrap();
    for store in [&scene.store, &reopened(&scene)] {
        let snapshot = store.get(two).unwrap();
        assert_eq!(snapshot.manifest, None, "nothing is in force");
        assert!(snapshot.problem.as_ref().unwrap().message.contains("metadata.uuid"), "{:?}", snapshot.problem);
        let record = &snapshot.record;
        assert_eq!((record.told, &record.deletion, &*record.install.past), (None, &None, &["first".to_owned()][..]));
    }
    let text = fs::read_to_string(scene.store.folder(two).join(CONFIG_FILE)).unwrap();
    saves(&scene.store.folder(two).join(CONFIG_FILE), &text.replace("550e8400", "650e8400"));
    assert!(scene.store.refresh(two).unwrap());
    assert_eq!(scene.store.get(two).unwrap().problem, None);
    assert!(scene.get().record.deletion.is_some(), "the original is as it was");
}

#[test]
fn a_thousand_records_are_read_and_listed_in_order() {
    let scene = Scene::empty();
    let name = |number: u32| format!("{number:08x}-e29b-41d4-a716-446655440000");
    for number in (0..1000).rev() {
        let folder = scene.store.servers_folder().join(name(number));
        fs::create_dir(&folder).unwrap();
        let text = FILE.replace("550e8400-e29b-41d4-a716-446655440000", &name(number));
        fs::write(folder.join(CONFIG_FILE), text).unwrap();
    }
    let store = Store::open(scene.root.path(), Blocking::Inline, None).unwrap();
    let list = store.list();
    assert_eq!(list.len(), 1000);
    for (number, snapshot) in list.iter().enumerate() {
        assert_eq!(snapshot.id.to_string(), name(number as u32));
        assert_eq!(snapshot.problem, None);
        assert!(snapshot.unrecorded && snapshot.is_listed());
    }
    assert_eq!(store.ids(), list.iter().map(|snapshot| snapshot.id).collect::<Vec<_>>());
}

#[test]
fn what_is_no_server_is_left_alone() {
    let scene = Scene::empty();
    let servers = scene.store.servers_folder();
    fs::create_dir(servers.join("lost+found")).unwrap();
    fs::create_dir(servers.join(".git")).unwrap();
    fs::create_dir(servers.join("550E8400-E29B-41D4-A716-446655440000")).unwrap();
    fs::create_dir_all(servers.join(id().to_string()).join("data")).unwrap();
    fs::write(servers.join("650e8400-e29b-41d4-a716-446655440000"), "a file").unwrap();
    let again = Store::open(scene.root.path(), Blocking::Inline, None).unwrap();
    assert!(again.list().is_empty(), "{:?}", again.ids());
}

#[test]
fn what_a_writer_left_half_done_is_gone_after_the_next_boot_and_nothing_else() {
    let scene = Scene::with_file();
    let ours = [".config.yml.0a1b2c3d.tmp", ".record.json.ffffffff.tmp"];
    let others = [".override.yml.0a1b2c3d.tmp", ".config.yml.swp", ".config.yml.tmp", "config.yml.0a1b2c3d.tmp"];
    for name in ours.into_iter().chain(others) {
        fs::write(scene.path(name), "half").unwrap();
    }
    drop(Store::open_to_read(scene.root.path()).unwrap());
    assert!(scene.path(ours[0]).exists(), "a reader leaves everything where it is");
    drop(Store::open(scene.root.path(), Blocking::Inline, None).unwrap());
    assert!(ours.iter().all(|name| !scene.path(name).exists()));
    assert!(others.iter().all(|name| scene.path(name).exists()));
}

#[test]
fn a_revision_is_never_given_out_twice() {
    let scene = Scene::empty();
    let mut given = std::collections::BTreeSet::new();
    for life in 0..3u64 {
        let born = scene.store.create(manifest(id()), Record::default()).unwrap().revision;
        let changed = scene.store.change(id(), None, |m| m.spec.settings.invocation = life.to_string()).unwrap();
        assert!(given.insert(born) && given.insert(changed.revision) && born < changed.revision);
        scene.store.remove(id()).unwrap();
        // A person puts the folder back.
        fs::create_dir(scene.store.folder(id())).unwrap();
        scene.saves(CONFIG_FILE, FILE);
        assert!(scene.store.refresh(id()).unwrap());
        assert!(given.insert(scene.get().revision));
        scene.store.remove(id()).unwrap();
    }
}
