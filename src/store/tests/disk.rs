//! A disk that is full, read-only, or fails at the worst moment.

use super::*;

const KINDS: [io::ErrorKind; 2] = [io::ErrorKind::StorageFull, io::ErrorKind::ReadOnlyFilesystem];

#[track_caller]
fn is_of_the_disk(error: StoreError, expected: io::ErrorKind) {
    match error {
        StoreError::Disk { source, .. } => assert_eq!(source.kind(), expected),
        other => panic!("not the disk's: {other}"),
    }
}

#[test]
fn a_server_that_cannot_be_written_does_not_exist() {
    for kind in KINDS {
        for op in [DiskOp::CreateFolder, DiskOp::WriteIntent, DiskOp::WriteRecord] {
            let scene = Scene::empty();
            scene.disk.refuses(&[op], kind);
            is_of_the_disk(scene.store.create(manifest(id()), Record::default()).unwrap_err(), kind);
            assert!(scene.store.get(id()).is_none(), "{op:?}");
            assert!(!scene.store.folder(id()).exists(), "{op:?}: nothing is left");
            scene.is_the_same_after_a_reboot();

            scene.disk.refuses(&[], kind);
            scene.store.create(manifest(id()), Record::default()).unwrap();
            scene.is_the_same_after_a_reboot();
        }
    }
}

#[test]
fn a_change_that_cannot_be_written_did_not_happen() {
    for op in [DiskOp::WriteIntent, DiskOp::WriteRecord] {
        let scene = Scene::with_file();
        let before = scene.get();
        scene.disk.refuses(&[op], io::ErrorKind::StorageFull);
        let edit = |manifest: &mut Manifest| manifest.spec.power = Some(wish("second", Want::Up));
        is_of_the_disk(scene.store.change(id(), None, edit).unwrap_err(), io::ErrorKind::StorageFull);
        let after = scene.get();
        assert_eq!((&after.manifest, &after.record), (&before.manifest, &before.record), "{op:?}");
        assert_eq!(scene.config(), FILE, "{op:?}: the old file stands");
        scene.has_no_leftovers();

        // What was refused does not come in force later, either.
        scene.disk.refuses(&[], io::ErrorKind::StorageFull);
        scene.store.refresh(id()).unwrap();
        assert_eq!(scene.intent(), before.manifest.clone().unwrap(), "{op:?}");
        assert_eq!(scene.get().record.generation, 1, "{op:?}");
        scene.is_the_same_after_a_reboot();
        scene.store.change(id(), None, edit).unwrap();
        assert_eq!(scene.intent().spec.power, Some(wish("second", Want::Up)));
        scene.is_the_same_after_a_reboot();
    }
}

#[test]
fn facts_that_cannot_be_written_did_not_happen() {
    let scene = Scene::with_file();
    let before = scene.get();
    scene.disk.refuses(&[DiskOp::WriteRecord], io::ErrorKind::StorageFull);
    let edit = |record: &mut Record| record.synced_for = Some("x".into());
    is_of_the_disk(scene.store.commit(id(), edit).unwrap_err(), io::ErrorKind::StorageFull);
    assert_eq!(scene.get().record, before.record);
    is_of_the_disk(
        scene.store.commit(id(), |record| record.pending_power = Some(wish("second", Want::Up))).unwrap_err(),
        io::ErrorKind::StorageFull,
    );
    assert_eq!(scene.intent(), before.manifest.clone().unwrap());
    scene.is_the_same_after_a_reboot();
}

#[test]
fn a_saved_file_that_cannot_be_recorded_is_recorded_at_the_next_look() {
    let scene = Scene::with_file();
    scene.disk.refuses(&[DiskOp::WriteRecord], io::ErrorKind::StorageFull);
    scene.saves(CONFIG_FILE, &FILE.replace("./run", "./walk"));
    is_of_the_disk(scene.store.refresh(id()).unwrap_err(), io::ErrorKind::StorageFull);
    assert_eq!(scene.intent().spec.settings.invocation, "./run", "what is not recorded is not in force");

    scene.disk.refuses(&[], io::ErrorKind::StorageFull);
    assert!(scene.store.refresh(id()).unwrap());
    assert_eq!(scene.intent().spec.settings.invocation, "./walk");
    assert_eq!(scene.get().record.generation, 2);
    scene.is_the_same_after_a_reboot();
}

#[test]
fn a_server_that_cannot_be_removed_is_still_there() {
    let scene = Scene::with_file();
    scene.disk.refuses(&[DiskOp::RemoveFolder], io::ErrorKind::ReadOnlyFilesystem);
    is_of_the_disk(scene.store.remove(id()).unwrap_err(), io::ErrorKind::ReadOnlyFilesystem);
    scene.is_the_same_after_a_reboot();
    assert_eq!(scene.store.ids(), [id()]);
    scene.disk.refuses(&[], io::ErrorKind::ReadOnlyFilesystem);
    scene.store.remove(id()).unwrap();
    assert!(scene.store.ids().is_empty());
    assert!(!scene.store.folder(id()).exists());
}

#[test]
fn a_replacement_that_cannot_be_written_did_not_happen() {
    for op in [DiskOp::WriteIntent, DiskOp::WriteRecord] {
        let scene = Scene::with_file();
        scene.store.commit(id(), |record| record.parked = Some(Timestamp::from_millis(1000))).unwrap();
        let before = scene.get();
        scene.disk.refuses(&[op], io::ErrorKind::StorageFull);
        let facts = |record: &mut Record| record.parked = None;
        is_of_the_disk(scene.store.replace(id(), manifest(id()), facts).unwrap_err(), io::ErrorKind::StorageFull);
        assert_eq!((&scene.get().manifest, &scene.get().record), (&before.manifest, &before.record), "{op:?}");
        assert_eq!(scene.config(), FILE);
        scene.disk.refuses(&[], io::ErrorKind::StorageFull);
        scene.store.refresh(id()).unwrap();
        scene.is_the_same_after_a_reboot();
        assert_eq!(scene.intent(), before.manifest.clone().unwrap(), "{op:?}");
    }
}

#[test]
fn a_status_that_cannot_be_written_is_an_error_and_no_more() {
    let scene = Scene::with_file();
    scene.disk.refuses(&[DiskOp::WriteStatus], io::ErrorKind::StorageFull);
    is_of_the_disk(scene.store.write_status(id()).unwrap_err(), io::ErrorKind::StorageFull);
    scene.disk.refuses(&[], io::ErrorKind::StorageFull);
    scene.store.write_status(id()).unwrap();
    assert!(scene.path(STATUS_FILE).exists());
    scene.has_no_leftovers();
}

#[test]
fn a_real_folder_that_cannot_be_written_is_an_error() {
    let scene = Scene::with_file();
    let before = scene.get();
    // A folder in the place of the file keeps even root from replacing it.
    fs::remove_file(scene.path(RECORD_FILE)).unwrap();
    fs::create_dir(scene.path(RECORD_FILE)).unwrap();
    let error = scene.store.commit(id(), |record| record.synced_for = Some("x".into())).unwrap_err();
    assert!(matches!(error, StoreError::Disk { .. }), "{error}");
    assert!(error.to_string().contains(RECORD_FILE), "{error}");
    assert_eq!(scene.get().record, before.record);
    scene.has_no_leftovers();
}

#[test]
fn nothing_is_written_where_nothing_changes() {
    let scene = Scene::with_file();
    scene.store.change(id(), None, |_| {}).unwrap();
    scene.store.commit(id(), |_| {}).unwrap();
    scene.store.refresh(id()).unwrap();
    assert_eq!(scene.disk.done(), []);
    scene.store.change(id(), None, |manifest| manifest.spec.suspended = true).unwrap();
    assert_eq!(scene.disk.done(), [DiskOp::WriteIntent, DiskOp::WriteRecord]);
    scene.store.commit(id(), |record| record.synced_for = Some("x".into())).unwrap();
    assert_eq!(scene.disk.done(), [DiskOp::WriteRecord]);
    scene.store.refresh(id()).unwrap();
    assert_eq!(scene.disk.done(), [], "what the store wrote itself is no news");
}
