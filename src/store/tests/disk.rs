//! A disk that is full, read-only, or fails at the worst moment.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use super::*;

const KINDS: [io::ErrorKind; 2] = [io::ErrorKind::StorageFull, io::ErrorKind::ReadOnlyFilesystem];

#[track_caller]
fn is_of_the_disk(error: StoreError, expected: io::ErrorKind) {
    match error {
        StoreError::Disk(error) => assert_eq!(error.kind(), expected),
        other => panic!("not the disk's: {other}"),
    }
}

#[test]
fn a_server_that_cannot_be_written_does_not_exist() {
    for kind in KINDS {
        for op in [DiskOp::CreateFolder, DiskOp::WriteRequests, DiskOp::WriteManifest] {
            let fixture = Fixture::empty();
            fixture.disk.fail_ops(&[op], kind);
            let create = || fixture.store.create(manifest(id()), Record::default(), [request("install", INSTALL)]);
            is_of_the_disk(create().unwrap_err(), kind);
            assert!(fixture.store.get(id()).is_none(), "{op:?}");
            assert!(!fixture.store.folder(id()).exists(), "{op:?}: nothing is left");
            fixture.is_the_same_after_a_reboot();

            fixture.disk.succeed();
            create().unwrap();
            assert_eq!(verbs(&fixture.get()), [INSTALL]);
            fixture.is_the_same_after_a_reboot();
        }
    }
}

#[test]
fn a_create_writes_the_requests_before_the_manifest_and_the_record_last() {
    let fixture = Fixture::empty();
    fixture.store.create(manifest(id()), Record::default(), [request("install", INSTALL)]).unwrap();
    let ops = [DiskOp::CreateFolder, DiskOp::WriteRequests, DiskOp::WriteManifest, DiskOp::WriteRecord];
    assert_eq!(fixture.disk.take_done(), ops);
    assert!(!fixture.get().unrecorded);
    assert!(!fixture.store.refresh(id()).unwrap(), "the first pass has nothing to write");
    assert_eq!(verbs(&fixture.get()), [INSTALL]);
    fixture.is_the_same_after_a_reboot();
}

#[test]
fn a_change_that_cannot_be_written_did_not_happen() {
    for op in [DiskOp::WriteManifest, DiskOp::WriteRecord] {
        let fixture = Fixture::of_panel();
        let before = fixture.get();
        fixture.disk.fail_ops(&[op], io::ErrorKind::StorageFull);
        let edit = |manifest: &mut Manifest| manifest.spec.settings.invocation = "./jump".into();
        is_of_the_disk(fixture.sync(edit).unwrap_err(), io::ErrorKind::StorageFull);
        let after = fixture.get();
        assert_eq!((&after.manifest, &after.record), (&before.manifest, &before.record), "{op:?}");
        assert_eq!(fixture.config(), panel_file(), "{op:?}: the old file stands");
        fixture.has_no_leftovers();

        // What was refused does not come in effect later, either.
        fixture.disk.succeed();
        fixture.store.refresh(id()).unwrap();
        assert_eq!(fixture.manifest(), before.manifest.clone().unwrap(), "{op:?}");
        assert_eq!(fixture.get().record.generation, 1, "{op:?}");
        fixture.is_the_same_after_a_reboot();
        fixture.sync(edit).unwrap();
        assert_eq!(fixture.manifest().spec.settings.invocation, "./jump");
        fixture.is_the_same_after_a_reboot();
    }
}

#[test]
fn requests_that_cannot_be_written_are_not_accepted() {
    for kind in KINDS {
        let fixture = Fixture::with_file();
        let before = fixture.get();
        let text = fs::read(fixture.path(REQUESTS_FILE)).unwrap();
        fixture.disk.fail_ops(&[DiskOp::WriteRequests], kind);
        let rejected = fixture.store.request(id(), None, [request("one", Verb::Start), request("two", Verb::Delete)]);
        is_of_the_disk(rejected.unwrap_err(), kind);
        assert_eq!((fixture.get().revision, &fixture.get().requests), (before.revision, &before.requests));
        assert_eq!(fs::read(fixture.path(REQUESTS_FILE)).unwrap(), text);
        fixture.has_no_leftovers();
        fixture.is_the_same_after_a_reboot();
    }
}

/// Where there is no record, the requests of a manifest are written before it.
#[test]
fn the_fields_of_a_rejected_manifest_make_no_request() {
    let fixture = Fixture::empty();
    fixture.disk.fail_ops(&[DiskOp::WriteRecord], io::ErrorKind::StorageFull);
    fixture.store.create(manifest(id()), Record::default(), [request("install", INSTALL)]).unwrap();
    let before = fixture.get();
    let text = FILE.replace("power: down", "power: up");
    assert!(fixture.store.apply(id(), &text, false).is_err());
    assert_eq!(fixture.get().requests, before.requests);
    let stored = reopened(fixture.root.path()).get(id()).unwrap();
    assert_eq!((verbs(&stored), power(&stored)), (vec![INSTALL], None));

    fixture.disk.succeed();
    fixture.store.apply(id(), &text, false).unwrap();
    assert_eq!(verbs(&fixture.get()), [INSTALL, Verb::Start]);
    fixture.is_the_same_after_a_reboot();
}

/// As above, of a file that a person saves and takes back: what is on disk is what the daemon knows.
#[test]
fn a_field_whose_request_was_written_before_a_record_that_could_not_be() {
    let fixture = Fixture::empty();
    fixture.disk.fail_ops(&[DiskOp::WriteRecord], io::ErrorKind::StorageFull);
    fixture.store.create(manifest(id()), Record::default(), []).unwrap();
    let first = fixture.config();
    fixture.saves(CONFIG_FILE, &FILE.replace("power: down", "power: up"));
    is_of_the_disk(fixture.store.refresh(id()).unwrap_err(), io::ErrorKind::StorageFull);
    fixture.disk.succeed();
    fixture.saves(CONFIG_FILE, &first);
    fixture.store.refresh(id()).unwrap();
    fixture.is_the_same_after_a_reboot();
}

#[test]
fn a_record_that_cannot_be_written_is_not_changed() {
    let fixture = Fixture::with_file();
    let before = fixture.get();
    fixture.disk.fail_ops(&[DiskOp::WriteRecord], io::ErrorKind::StorageFull);
    let edit = |record: &mut Record| record.synced_for = Some("x".into());
    is_of_the_disk(fixture.store.commit(id(), edit).unwrap_err(), io::ErrorKind::StorageFull);
    assert_eq!(fixture.get().record, before.record);
    fixture.is_the_same_after_a_reboot();
}

#[test]
fn a_saved_file_that_cannot_be_recorded_is_recorded_at_the_next_refresh() {
    let fixture = Fixture::with_file();
    fixture.disk.fail_ops(&[DiskOp::WriteRecord], io::ErrorKind::StorageFull);
    fixture.saves(CONFIG_FILE, &FILE.replace("./run", "./jump"));
    is_of_the_disk(fixture.store.refresh(id()).unwrap_err(), io::ErrorKind::StorageFull);
    assert_eq!(fixture.manifest().spec.settings.invocation, "./run", "what is not recorded is not in effect");

    fixture.disk.succeed();
    assert!(fixture.store.refresh(id()).unwrap());
    assert_eq!(fixture.manifest().spec.settings.invocation, "./jump");
    assert_eq!(fixture.get().record.generation, 2);
    fixture.is_the_same_after_a_reboot();
}

#[test]
fn a_server_that_cannot_be_removed_is_still_there() {
    let fixture = Fixture::with_file();
    fixture.disk.fail_ops(&[DiskOp::RemoveFolder], io::ErrorKind::ReadOnlyFilesystem);
    is_of_the_disk(fixture.store.remove(id(), |_| true).unwrap_err(), io::ErrorKind::ReadOnlyFilesystem);
    fixture.is_the_same_after_a_reboot();
    assert_eq!(fixture.store.ids(), [id()]);
    fixture.disk.succeed();
    fixture.store.remove(id(), |_| true).unwrap();
    assert!(fixture.store.ids().is_empty());
    assert!(!fixture.store.folder(id()).exists());
}

#[test]
fn a_replacement_that_cannot_be_written_did_not_happen() {
    for op in [DiskOp::WriteRequests, DiskOp::WriteManifest, DiskOp::WriteRecord] {
        let fixture = Fixture::with_file();
        fixture.store.commit(id(), |record| record.parked = Some(Timestamp::from_millis(1000))).unwrap();
        let before = fixture.get();
        fixture.disk.fail_ops(&[op], io::ErrorKind::StorageFull);
        let edit_record = |record: &mut Record| record.parked = None;
        let replaced = fixture.store.replace(id(), manifest(id()), edit_record, [request("install", INSTALL)]);
        is_of_the_disk(replaced.unwrap_err(), io::ErrorKind::StorageFull);
        let known = |s: &Snapshot| (s.manifest.clone(), s.record.clone(), verbs(s));
        assert_eq!(known(&fixture.get()), known(&before), "{op:?}");
        assert_eq!(fixture.config(), FILE);
        fixture.disk.succeed();
        fixture.store.refresh(id()).unwrap();
        fixture.is_the_same_after_a_reboot();
        assert_eq!(known(&fixture.get()), known(&before), "{op:?}");
    }
}

/// The new file took the last block: there is none for the record, and none to write the old file again.
#[test]
fn what_was_rejected_on_a_full_disk_is_taken_back_on_a_full_disk() {
    type Write = fn(&Store) -> Result<(), StoreError>;
    let sync: Write = |store| {
        store.sync(id(), None, |manifest| manifest.spec.settings.invocation = "./jump".into(), |_| {}).map(drop)
    };
    let replace: Write = |store| store.replace(id(), manifest(id()), |record| record.parked = None, []);
    let file = panel_file();
    for (write, text) in [(sync, Some(&*file)), (replace, Some(&*file)), (replace, None)] {
        let root = tempfile::tempdir().unwrap();
        let disk = Arc::default();
        let store = open(root.path(), &disk);
        let path = store.folder(id()).join(CONFIG_FILE);
        fs::create_dir(store.folder(id())).unwrap();
        saves(&path, &file);
        store.refresh(id()).unwrap();
        store.commit(id(), |record| record.parked = Some(Timestamp::from_millis(1000))).unwrap();
        if text.is_none() {
            fs::remove_file(&path).unwrap();
            store.refresh(id()).unwrap();
        }
        let before = store.get(id()).unwrap();
        let first = AtomicBool::new(true);
        disk.fail(io::ErrorKind::StorageFull, move |_, _| !first.swap(false, Ordering::Relaxed));
        is_of_the_disk(write(&store).unwrap_err(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read_to_string(&path).ok().as_deref(), text, "the old file stands");
        disk.succeed();
        store.refresh(id()).unwrap();
        let after = store.get(id()).unwrap();
        assert_eq!((&after.manifest, &after.record), (&before.manifest, &before.record));
        for entry in fs::read_dir(store.folder(id())).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.ends_with(".tmp"), "{name}");
        }
    }
}

#[test]
fn what_a_person_saved_after_a_rejected_change_stays() {
    let fixture = Fixture::of_panel();
    let path = fixture.path(CONFIG_FILE);
    let saved = path.clone();
    fixture.disk.on_before(move |_, op| match op {
        DiskOp::WriteRecord => {
            saves(&saved, &FILE.replace("./run", "./by-hand"));
            Err(io::ErrorKind::StorageFull.into())
        }
        _ => Ok(()),
    });
    let rejected = fixture.store.sync(id(), None, |manifest| manifest.spec.suspended = true, |_| {});
    is_of_the_disk(rejected.unwrap_err(), io::ErrorKind::StorageFull);
    assert!(fs::read_to_string(&path).unwrap().contains("./by-hand"));
}

#[test]
fn a_status_that_cannot_be_written_is_an_error_and_no_more() {
    let fixture = Fixture::with_file();
    fixture.disk.fail_ops(&[DiskOp::WriteStatus], io::ErrorKind::StorageFull);
    is_of_the_disk(fixture.store.write_status(id()).unwrap_err(), io::ErrorKind::StorageFull);
    fixture.disk.succeed();
    fixture.store.write_status(id()).unwrap();
    assert!(fixture.path(STATUS_FILE).exists());
    fixture.has_no_leftovers();
}

#[test]
fn a_real_folder_that_cannot_be_written_is_an_error() {
    let fixture = Fixture::with_file();
    let before = fixture.get();
    // A folder in the place of the file keeps even root from replacing it.
    fs::remove_file(fixture.path(RECORD_FILE)).unwrap();
    fs::create_dir(fixture.path(RECORD_FILE)).unwrap();
    let error = fixture.store.commit(id(), |record| record.synced_for = Some("x".into())).unwrap_err();
    assert!(matches!(error, StoreError::Disk(_)), "{error}");
    assert!(error.to_string().contains(RECORD_FILE), "{error}");
    assert_eq!(fixture.get().record, before.record);
    fixture.has_no_leftovers();
}

#[test]
fn nothing_is_written_where_nothing_changes() {
    let fixture = Fixture::of_panel();
    fixture.sync(|_| {}).unwrap();
    fixture.store.commit(id(), |_| {}).unwrap();
    fixture.store.request(id(), None, []).unwrap();
    fixture.store.refresh(id()).unwrap();
    assert_eq!(fixture.disk.take_done(), []);
    fixture.sync(|manifest| manifest.spec.suspended = true).unwrap();
    assert_eq!(fixture.disk.take_done(), [DiskOp::WriteManifest, DiskOp::WriteRecord]);
    fixture.accepts("one", Verb::Start);
    assert_eq!(fixture.disk.take_done(), [DiskOp::WriteRequests]);
    fixture.store.commit(id(), |record| record.synced_for = Some("x".into())).unwrap();
    assert_eq!(fixture.disk.take_done(), [DiskOp::WriteRecord]);
    fixture.store.refresh(id()).unwrap();
    assert_eq!(fixture.disk.take_done(), [], "what the store wrote itself is no news");
}

#[test]
fn a_reader_makes_nothing() {
    let root = tempfile::tempdir().unwrap();
    assert!(Store::open_to_read(root.path()).is_err(), "there is no folder to read");
    fs::create_dir(root.path().join("servers")).unwrap();
    let reader = Store::open_to_read(root.path()).unwrap();
    let rejected = reader.create(manifest(id()), Record::default(), []).unwrap_err();
    is_of_the_disk(rejected, io::ErrorKind::ReadOnlyFilesystem);
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "no reserve");
    assert_eq!(fs::read_dir(root.path().join("servers")).unwrap().count(), 0);
}
