//! Records, and their state after a reboot.

use super::*;

#[test]
fn each_kind_of_write_survives_a_reboot() {
    let fixture = Fixture::empty();
    fixture.store.create(Manifest::new(id(), ManagedBy::Panel), Record::default(), [request("i", INSTALL)]).unwrap();
    fixture.is_the_same_after_a_reboot();
    fixture.store.refresh(id()).unwrap();
    fixture.is_the_same_after_a_reboot();
    fixture.sync(|manifest| manifest.spec.settings.invocation = "./run".into()).unwrap();
    fixture.is_the_same_after_a_reboot();
    fixture.accepts("first", Verb::Start);
    fixture.is_the_same_after_a_reboot();
    fixture.store.commit(id(), |record| record.power.begun = Some("first".into())).unwrap();
    fixture.is_the_same_after_a_reboot();
    let edit_record = |record: &mut Record| record.synced_at = Some(Timestamp::from_millis(5000));
    fixture.store.sync(id(), None, |manifest| manifest.spec.suspended = true, edit_record).unwrap();
    fixture.is_the_same_after_a_reboot();
    let edit_record = |record: &mut Record| record.synced_at = Some(Timestamp::from_millis(5500));
    fixture.store.sync(id(), None, |_| {}, edit_record).unwrap();
    assert_eq!(
        fixture.get().record.synced_at,
        Some(Timestamp::from_millis(5500)),
        "a record is written without a change of the spec, too"
    );
    fixture.is_the_same_after_a_reboot();
    fixture.saves(OVERRIDE_FILE, "spec: {settings: {invocation: ./jump}}");
    fixture.store.refresh(id()).unwrap();
    fixture.is_the_same_after_a_reboot();
    fixture.store.commit(id(), |record| record.parked = Some(Timestamp::from_millis(6000))).unwrap();
    fixture.is_the_same_after_a_reboot();
    fixture.store.replace(id(), manifest(id()), |record| record.parked = None, [request("j", INSTALL)]).unwrap();
    fixture.is_the_same_after_a_reboot();
    assert_eq!(fixture.manifest().spec.settings.invocation, "./jump", "the override survives even that");
    fixture.accepts("delete", Verb::Delete);
    fixture.is_the_same_after_a_reboot();
    fixture.store.remove(id(), |_| true).unwrap();
    fixture.is_the_same_after_a_reboot();
    assert!(fixture.store.list().is_empty());
}

#[test]
fn what_was_saved_while_the_daemon_was_down_counts_and_is_recorded() {
    let fixture = Fixture::with_file();
    fixture.saves(CONFIG_FILE, &FILE.replace("./run", "./jump"));
    let again = reopened(fixture.root.path());
    let snapshot = again.get(id()).unwrap();
    assert!(snapshot.unrecorded);
    assert_eq!(snapshot.manifest.as_ref().unwrap().spec.settings.invocation, "./jump");
    assert_eq!(snapshot.record.generation, 2);
    assert!(again.refresh(id()).unwrap());
    let recorded = again.get(id()).unwrap();
    assert!(!recorded.unrecorded);
    assert_eq!(recorded.record, snapshot.record);
    let third = reopened(fixture.root.path());
    assert!(!third.get(id()).unwrap().unrecorded);
}

#[test]
fn what_was_saved_while_the_daemon_was_down_outlives_a_file_that_is_broken_before_it_was_recorded() {
    for break_it in [|path: &Path| saves(path, "spec: {"), |path: &Path| fs::remove_file(path).unwrap()] {
        let fixture = Fixture::with_file();
        fixture.saves(CONFIG_FILE, &FILE.replace("./run", "./jump"));
        let disk = Arc::default();
        let again = open(fixture.root.path(), &disk);
        let is_current = again.get(id()).unwrap();
        break_it(&fixture.path(CONFIG_FILE));
        disk.fail_ops(&[DiskOp::WriteRecord], io::ErrorKind::PermissionDenied);
        again.refresh(id()).unwrap_err();
        assert!(again.get(id()).unwrap().unrecorded, "nothing is done for it until it is recorded");
        disk.succeed();
        assert!(again.refresh(id()).unwrap());
        let known = again.get(id()).unwrap();
        assert!(known.problem.is_some() && !known.unrecorded);
        assert_eq!(known.manifest, is_current.manifest);

        let third = reopened(fixture.root.path());
        assert_eq!(third.get(id()).unwrap().manifest, known.manifest, "the spec does not revert to an older one");
        assert_eq!(third.get(id()).unwrap().record, known.record);
    }
}

#[test]
fn a_file_that_was_broken_while_the_daemon_was_down_changes_nothing() {
    let fixture = Fixture::with_file();
    let before = fixture.get();
    for break_it in [|path: &Path| saves(path, "spec: {"), |path: &Path| fs::remove_file(path).unwrap()] {
        break_it(&fixture.path(CONFIG_FILE));
        let again = reopened(fixture.root.path());
        let snapshot = again.get(id()).unwrap();
        assert_eq!((&snapshot.manifest, &snapshot.record), (&before.manifest, &before.record));
        assert!(snapshot.problem.is_some());
    }
}

#[test]
fn the_generation_counts_real_changes_alone() {
    let fixture = Fixture::with_file();
    let generation = || {
        fixture.store.refresh(id()).unwrap();
        let generation = fixture.get().record.generation;
        fixture.is_the_same_after_a_reboot();
        generation
    };
    assert_eq!(generation(), 1);
    fixture.saves(CONFIG_FILE, &FILE.replace("# fast", "# rather slow"));
    assert_eq!(generation(), 1, "a comment");
    fixture.saves(CONFIG_FILE, &FILE.replace("'example/image:1'", "\"example/image:1\""));
    assert_eq!(generation(), 1, "quotes");
    fixture.saves(CONFIG_FILE, &format!("{FILE}  suspended: false\n"));
    assert_eq!(generation(), 1, "a default, spelled out");
    fixture.saves(CONFIG_FILE, &FILE.replace("./run", "./jump"));
    assert_eq!(generation(), 2, "a change");
    fixture.saves(CONFIG_FILE, FILE);
    assert_eq!(generation(), 3, "a change back");
    fixture.saves(OVERRIDE_FILE, "spec: {settings: {invocation: ./run}}");
    assert_eq!(generation(), 3, "an override that says the same");
    fixture.store.commit(id(), |record| record.synced_for = Some("x".into())).unwrap();
    assert_eq!(generation(), 3, "a record");
}

#[test]
fn a_thousand_records_are_read_and_listed_in_order() {
    let fixture = Fixture::empty();
    let name = |number: u32| format!("{number:08x}-e29b-41d4-a716-446655440000");
    for number in (0..1000).rev() {
        let folder = fixture.store.servers_folder().join(name(number));
        fs::create_dir(&folder).unwrap();
        let text = FILE.replace("550e8400-e29b-41d4-a716-446655440000", &name(number));
        fs::write(folder.join(CONFIG_FILE), text).unwrap();
    }
    let store = reopened(fixture.root.path());
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
    let fixture = Fixture::empty();
    let servers = fixture.store.servers_folder();
    fs::create_dir(servers.join("lost+found")).unwrap();
    fs::create_dir(servers.join(".git")).unwrap();
    fs::create_dir(servers.join("550E8400-E29B-41D4-A716-446655440000")).unwrap();
    fs::create_dir_all(servers.join(id().to_string()).join("data")).unwrap();
    fs::write(servers.join("650e8400-e29b-41d4-a716-446655440000"), "a file").unwrap();
    let again = reopened(fixture.root.path());
    assert!(again.list().is_empty(), "{:?}", again.ids());
}

#[test]
fn what_a_writer_left_half_done_is_gone_after_the_next_boot_and_nothing_else() {
    let fixture = Fixture::with_file();
    let ours = [".config.yml.0a1b2c3d.tmp", ".record.json.ffffffff.tmp", ".requests.json.0a1b2c3d.tmp"];
    let others = [".override.yml.0a1b2c3d.tmp", ".config.yml.swp", ".config.yml.tmp", "config.yml.0a1b2c3d.tmp"];
    for name in ours.into_iter().chain(others) {
        fs::write(fixture.path(name), "half").unwrap();
    }
    drop(Store::open_to_read(fixture.root.path()).unwrap());
    assert!(fixture.path(ours[0]).exists(), "a reader leaves everything where it is");
    drop(reopened(fixture.root.path()));
    assert!(ours.iter().all(|name| !fixture.path(name).exists()));
    assert!(others.iter().all(|name| fixture.path(name).exists()));
}

#[test]
fn a_revision_is_never_given_out_twice() {
    let fixture = Fixture::empty();
    let mut given = std::collections::BTreeSet::new();
    for round in 0..3u64 {
        let new = Manifest::new(id(), ManagedBy::Panel);
        let born = fixture.store.create(new, Record::default(), []).unwrap().revision;
        let changed = fixture.sync(|manifest| manifest.spec.settings.invocation = round.to_string()).unwrap().revision;
        let asked = fixture.accepts("one", Verb::Start).revision;
        assert!(given.insert(born) && given.insert(changed) && given.insert(asked));
        assert!(born < changed && changed < asked);
        fixture.store.remove(id(), |_| true).unwrap();
        // A person puts the folder back.
        fs::create_dir(fixture.store.folder(id())).unwrap();
        fixture.saves(CONFIG_FILE, FILE);
        assert!(fixture.store.refresh(id()).unwrap());
        assert!(given.insert(fixture.get().revision));
        fixture.store.remove(id(), |_| true).unwrap();
    }
}
