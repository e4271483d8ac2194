//! Facts, and what is left of them after a reboot.

use super::*;

#[test]
fn each_kind_of_write_survives_a_reboot() {
    let scene = Scene::empty();
    scene.store.create(Manifest::new(id(), ManagedBy::Panel), Record::default(), [request("i", INSTALL)]).unwrap();
    scene.is_the_same_after_a_reboot();
    scene.store.refresh(id()).unwrap();
    scene.is_the_same_after_a_reboot();
    scene.sync(|manifest| manifest.spec.settings.invocation = "./run".into()).unwrap();
    scene.is_the_same_after_a_reboot();
    scene.accepts("first", Verb::Start);
    scene.is_the_same_after_a_reboot();
    scene.store.commit(id(), |record| record.power.begun = Some("first".into())).unwrap();
    scene.is_the_same_after_a_reboot();
    let facts = |record: &mut Record| record.synced_at = Some(Timestamp::from_millis(5000));
    scene.store.sync(id(), None, |manifest| manifest.spec.suspended = true, facts).unwrap();
    scene.is_the_same_after_a_reboot();
    let facts = |record: &mut Record| record.synced_at = Some(Timestamp::from_millis(5500));
    scene.store.sync(id(), None, |_| {}, facts).unwrap();
    assert_eq!(scene.get().record.synced_at, Some(Timestamp::from_millis(5500)), "facts alone are written, too");
    scene.is_the_same_after_a_reboot();
    scene.saves(OVERRIDE_FILE, "spec: {settings: {invocation: ./walk}}");
    scene.store.refresh(id()).unwrap();
    scene.is_the_same_after_a_reboot();
    scene.store.commit(id(), |record| record.parked = Some(Timestamp::from_millis(6000))).unwrap();
    scene.is_the_same_after_a_reboot();
    scene.store.replace(id(), manifest(id()), |record| record.parked = None, [request("j", INSTALL)]).unwrap();
    scene.is_the_same_after_a_reboot();
    assert_eq!(scene.manifest().spec.settings.invocation, "./walk", "the override survives even that");
    scene.accepts("delete", Verb::Delete);
    scene.is_the_same_after_a_reboot();
    scene.store.remove(id()).unwrap();
    scene.is_the_same_after_a_reboot();
    assert!(scene.store.list().is_empty());
}

#[test]
fn what_was_saved_while_the_daemon_was_down_counts_and_is_recorded() {
    let scene = Scene::with_file();
    scene.saves(CONFIG_FILE, &FILE.replace("./run", "./walk"));
    let again = reopened(scene.root.path());
    let snapshot = again.get(id()).unwrap();
    assert!(snapshot.unrecorded);
    assert_eq!(snapshot.manifest.as_ref().unwrap().spec.settings.invocation, "./walk");
    assert_eq!(snapshot.record.generation, 2);
    assert!(again.refresh(id()).unwrap());
    let recorded = again.get(id()).unwrap();
    assert!(!recorded.unrecorded);
    assert_eq!(recorded.record, snapshot.record);
    let third = reopened(scene.root.path());
    assert!(!third.get(id()).unwrap().unrecorded);
}

#[test]
fn what_was_saved_while_the_daemon_was_down_outlives_a_file_that_is_broken_before_it_was_recorded() {
    for break_it in [|path: &Path| saves(path, "spec: {"), |path: &Path| fs::remove_file(path).unwrap()] {
        let scene = Scene::with_file();
        scene.saves(CONFIG_FILE, &FILE.replace("./run", "./walk"));
        let disk = Arc::new(Disk::default());
        let again = Store::open(scene.root.path(), Blocking::Inline, Clock::System, Some(disk.clone())).unwrap();
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

        let third = reopened(scene.root.path());
        assert_eq!(third.get(id()).unwrap().manifest, known.manifest, "no older intent comes back");
        assert_eq!(third.get(id()).unwrap().record, known.record);
    }
}

#[test]
fn a_file_that_was_broken_while_the_daemon_was_down_changes_nothing() {
    let scene = Scene::with_file();
    let before = scene.get();
    for break_it in [|path: &Path| saves(path, "spec: {"), |path: &Path| fs::remove_file(path).unwrap()] {
        break_it(&scene.path(CONFIG_FILE));
        let again = reopened(scene.root.path());
        let snapshot = again.get(id()).unwrap();
        assert_eq!((&snapshot.manifest, &snapshot.record), (&before.manifest, &before.record));
        assert!(snapshot.problem.is_some());
    }
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
    let store = reopened(scene.root.path());
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
    let again = reopened(scene.root.path());
    assert!(again.list().is_empty(), "{:?}", again.ids());
}

#[test]
fn what_a_writer_left_half_done_is_gone_after_the_next_boot_and_nothing_else() {
    let scene = Scene::with_file();
    let ours = [".config.yml.0a1b2c3d.tmp", ".record.json.ffffffff.tmp", ".requests.json.0a1b2c3d.tmp"];
    let others = [".override.yml.0a1b2c3d.tmp", ".config.yml.swp", ".config.yml.tmp", "config.yml.0a1b2c3d.tmp"];
    for name in ours.into_iter().chain(others) {
        fs::write(scene.path(name), "half").unwrap();
    }
    drop(Store::open_to_read(scene.root.path()).unwrap());
    assert!(scene.path(ours[0]).exists(), "a reader leaves everything where it is");
    drop(reopened(scene.root.path()));
    assert!(ours.iter().all(|name| !scene.path(name).exists()));
    assert!(others.iter().all(|name| scene.path(name).exists()));
}

#[test]
fn a_revision_is_never_given_out_twice() {
    let scene = Scene::empty();
    let mut given = std::collections::BTreeSet::new();
    for round in 0..3u64 {
        let new = Manifest::new(id(), ManagedBy::Panel);
        let born = scene.store.create(new, Record::default(), []).unwrap().revision;
        let changed = scene.sync(|manifest| manifest.spec.settings.invocation = round.to_string()).unwrap().revision;
        let asked = scene.accepts("one", Verb::Start).revision;
        assert!(given.insert(born) && given.insert(changed) && given.insert(asked));
        assert!(born < changed && changed < asked);
        scene.store.remove(id()).unwrap();
        // A person puts the folder back.
        fs::create_dir(scene.store.folder(id())).unwrap();
        scene.saves(CONFIG_FILE, FILE);
        assert!(scene.store.refresh(id()).unwrap());
        assert!(given.insert(scene.get().revision));
        scene.store.remove(id()).unwrap();
    }
}
