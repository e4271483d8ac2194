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
        for op in [DiskOp::CreateFolder, DiskOp::WriteRequests, DiskOp::WriteManifest] {
            let scene = Scene::empty();
            scene.disk.refuses(&[op], kind);
            let create = || scene.store.create(manifest(id()), Record::default(), [request("install", INSTALL)]);
            is_of_the_disk(create().unwrap_err(), kind);
            assert!(scene.store.get(id()).is_none(), "{op:?}");
            assert!(!scene.store.folder(id()).exists(), "{op:?}: nothing is left");
            scene.is_the_same_after_a_reboot();

            scene.disk.refuses(&[], kind);
            create().unwrap();
            assert_eq!(verbs(&scene.get()), [INSTALL]);
            scene.is_the_same_after_a_reboot();
        }
    }
}

#[test]
fn a_create_writes_the_requests_before_the_manifest_and_the_record_last() {
    let scene = Scene::empty();
    scene.store.create(manifest(id()), Record::default(), [request("install", INSTALL)]).unwrap();
    let ops = [DiskOp::CreateFolder, DiskOp::WriteRequests, DiskOp::WriteManifest, DiskOp::WriteRecord];
    assert_eq!(scene.disk.done(), ops);
    assert!(!scene.get().unrecorded);
    assert!(!scene.store.refresh(id()).unwrap(), "the first pass has nothing to write");
    assert_eq!(verbs(&scene.get()), [INSTALL]);
    scene.is_the_same_after_a_reboot();
}

#[test]
fn a_change_that_cannot_be_written_did_not_happen() {
    for op in [DiskOp::WriteManifest, DiskOp::WriteRecord] {
        let scene = Scene::of_panel();
        let before = scene.get();
        scene.disk.refuses(&[op], io::ErrorKind::StorageFull);
        let edit = |manifest: &mut Manifest| manifest.spec.settings.invocation = "./walk".into();
        is_of_the_disk(scene.sync(edit).unwrap_err(), io::ErrorKind::StorageFull);
        let after = scene.get();
        assert_eq!((&after.manifest, &after.record), (&before.manifest, &before.record), "{op:?}");
        assert_eq!(scene.config(), panel_file(), "{op:?}: the old file stands");
        scene.has_no_leftovers();

        // What was refused does not come in effect later, either.
        scene.disk.refuses(&[], io::ErrorKind::StorageFull);
        scene.store.refresh(id()).unwrap();
        assert_eq!(scene.manifest(), before.manifest.clone().unwrap(), "{op:?}");
        assert_eq!(scene.get().record.generation, 1, "{op:?}");
        scene.is_the_same_after_a_reboot();
        scene.sync(edit).unwrap();
        assert_eq!(scene.manifest().spec.settings.invocation, "./walk");
        scene.is_the_same_after_a_reboot();
    }
}

#[test]
fn requests_that_cannot_be_written_are_not_accepted() {
    for kind in KINDS {
        let scene = Scene::with_file();
        let before = scene.get();
        let text = fs::read(scene.path(REQUESTS_FILE)).unwrap();
        scene.disk.refuses(&[DiskOp::WriteRequests], kind);
        let refused = scene.store.request(id(), None, [request("one", Verb::Start), request("two", Verb::Delete)]);
        is_of_the_disk(refused.unwrap_err(), kind);
        assert_eq!((scene.get().revision, &scene.get().requests), (before.revision, &before.requests));
        assert_eq!(fs::read(scene.path(REQUESTS_FILE)).unwrap(), text);
        scene.has_no_leftovers();
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
    scene.is_the_same_after_a_reboot();
}

#[test]
fn a_saved_file_that_cannot_be_recorded_is_recorded_at_the_next_look() {
    let scene = Scene::with_file();
    scene.disk.refuses(&[DiskOp::WriteRecord], io::ErrorKind::StorageFull);
    scene.saves(CONFIG_FILE, &FILE.replace("./run", "./walk"));
    is_of_the_disk(scene.store.refresh(id()).unwrap_err(), io::ErrorKind::StorageFull);
    assert_eq!(scene.manifest().spec.settings.invocation, "./run", "what is not recorded is not in effect");

    scene.disk.refuses(&[], io::ErrorKind::StorageFull);
    assert!(scene.store.refresh(id()).unwrap());
    assert_eq!(scene.manifest().spec.settings.invocation, "./walk");
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
    for op in [DiskOp::WriteRequests, DiskOp::WriteManifest, DiskOp::WriteRecord] {
        let scene = Scene::with_file();
        scene.store.commit(id(), |record| record.parked = Some(Timestamp::from_millis(1000))).unwrap();
        let before = scene.get();
        scene.disk.refuses(&[op], io::ErrorKind::StorageFull);
        let facts = |record: &mut Record| record.parked = None;
        let replaced = scene.store.replace(id(), manifest(id()), facts, [request("install", INSTALL)]);
        is_of_the_disk(replaced.unwrap_err(), io::ErrorKind::StorageFull);
        let known = |s: &Snapshot| (s.manifest.clone(), s.record.clone(), verbs(s));
        assert_eq!(known(&scene.get()), known(&before), "{op:?}");
        assert_eq!(scene.config(), FILE);
        scene.disk.refuses(&[], io::ErrorKind::StorageFull);
        scene.store.refresh(id()).unwrap();
        scene.is_the_same_after_a_reboot();
        assert_eq!(known(&scene.get()), known(&before), "{op:?}");
    }
}

/// A disk on which one more operation succeeds when it has been armed, and none after it.
#[derive(Default)]
struct LastBlock(Mutex<Option<u32>>);

impl DiskHook for LastBlock {
    fn before(&self, _: ServerId, _: DiskOp) -> io::Result<()> {
        match self.0.lock().unwrap().as_mut() {
            Some(0) => Err(io::ErrorKind::StorageFull.into()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn after(&self, _: ServerId, _: DiskOp) {}
}

/// The new file took the last block: there is none for the record, and none to write the old file again.
#[test]
fn what_was_refused_on_a_full_disk_is_taken_back_on_a_full_disk() {
    type Write = fn(&Store) -> Result<(), StoreError>;
    let sync: Write = |store| {
        store.sync(id(), None, |manifest| manifest.spec.settings.invocation = "./walk".into(), |_| {}).map(drop)
    };
    let replace: Write = |store| store.replace(id(), manifest(id()), |record| record.parked = None, []);
    let file = panel_file();
    for (write, text) in [(sync, Some(&*file)), (replace, Some(&*file)), (replace, None)] {
        let root = tempfile::tempdir().unwrap();
        let disk = Arc::new(LastBlock::default());
        let store = Store::open(root.path(), Blocking::Inline, Clock::System, Some(disk.clone())).unwrap();
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
        *disk.0.lock().unwrap() = Some(1);
        is_of_the_disk(write(&store).unwrap_err(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read_to_string(&path).ok().as_deref(), text, "the old file stands");
        *disk.0.lock().unwrap() = None;
        store.refresh(id()).unwrap();
        let after = store.get(id()).unwrap();
        assert_eq!((&after.manifest, &after.record), (&before.manifest, &before.record));
        for entry in fs::read_dir(store.folder(id())).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.ends_with(".tmp"), "{name}");
        }
    }
}

/// Somebody saves the file after the store has written it; then the record is refused.
struct SavedInBetween(std::path::PathBuf);

impl DiskHook for SavedInBetween {
    fn before(&self, _: ServerId, op: DiskOp) -> io::Result<()> {
        if op == DiskOp::WriteRecord && self.0.exists() {
            saves(&self.0, &FILE.replace("./run", "./by-hand"));
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn after(&self, _: ServerId, _: DiskOp) {}
}

#[test]
fn what_a_person_saved_after_a_refused_change_stays() {
    let scene = Scene::of_panel();
    let path = scene.path(CONFIG_FILE);
    let store =
        Store::open(scene.root.path(), Blocking::Inline, Clock::System, Some(Arc::new(SavedInBetween(path.clone()))))
            .unwrap();
    let refused = store.sync(id(), None, |manifest| manifest.spec.suspended = true, |_| {});
    is_of_the_disk(refused.unwrap_err(), io::ErrorKind::StorageFull);
    assert!(fs::read_to_string(&path).unwrap().contains("./by-hand"));
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
    let scene = Scene::of_panel();
    scene.sync(|_| {}).unwrap();
    scene.store.commit(id(), |_| {}).unwrap();
    scene.store.request(id(), None, []).unwrap();
    scene.store.refresh(id()).unwrap();
    assert_eq!(scene.disk.done(), []);
    scene.sync(|manifest| manifest.spec.suspended = true).unwrap();
    assert_eq!(scene.disk.done(), [DiskOp::WriteManifest, DiskOp::WriteRecord]);
    scene.accepts("one", Verb::Start);
    assert_eq!(scene.disk.done(), [DiskOp::WriteRequests]);
    scene.store.commit(id(), |record| record.synced_for = Some("x".into())).unwrap();
    assert_eq!(scene.disk.done(), [DiskOp::WriteRecord]);
    scene.store.refresh(id()).unwrap();
    assert_eq!(scene.disk.done(), [], "what the store wrote itself is no news");
}

#[test]
fn a_reader_makes_nothing() {
    let root = tempfile::tempdir().unwrap();
    assert!(Store::open_to_read(root.path()).is_err(), "there is no folder to read");
    fs::create_dir(root.path().join("servers")).unwrap();
    let reader = Store::open_to_read(root.path()).unwrap();
    let refused = reader.create(manifest(id()), Record::default(), []).unwrap_err();
    is_of_the_disk(refused, io::ErrorKind::ReadOnlyFilesystem);
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "no reserve");
    assert_eq!(fs::read_dir(root.path().join("servers")).unwrap().count(), 0);
}
