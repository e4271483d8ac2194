//! A disk that is full, read-only, or fails at the worst moment.

use super::*;
use crate::model::Deletion;

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
    let change: Write =
        |store| store.change(id(), None, |manifest| manifest.spec.power = Some(wish("second", Want::Up))).map(drop);
    let replace: Write = |store| store.replace(id(), manifest(id()), |record| record.parked = None);
    let (file, none) = (Some(FILE), None);
    for (write, text) in [(change, file), (replace, file), (replace, none)] {
        let root = tempfile::tempdir().unwrap();
        let disk = Arc::new(LastBlock::default());
        let store = Store::open(root.path(), Blocking::Inline, Some(disk.clone())).unwrap();
        let path = store.folder(id()).join(CONFIG_FILE);
        fs::create_dir(store.folder(id())).unwrap();
        saves(&path, FILE);
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
    let scene = Scene::with_file();
    let path = scene.path(CONFIG_FILE);
    let store = Store::open(scene.root.path(), Blocking::Inline, Some(Arc::new(SavedInBetween(path.clone())))).unwrap();
    let refused = store.change(id(), None, |manifest| manifest.spec.power = Some(wish("second", Want::Up)));
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

/// A disk that is full to the last block that the reserve does not hold.
struct FullDisk {
    reserve: std::path::PathBuf,
    full: std::sync::atomic::AtomicBool,
}

impl DiskHook for FullDisk {
    fn before(&self, _: ServerId, _: DiskOp) -> io::Result<()> {
        match self.full.load(Ordering::Acquire) && self.reserve.exists() {
            true => Err(io::Error::from(io::ErrorKind::StorageFull)),
            false => Ok(()),
        }
    }

    fn after(&self, _: ServerId, _: DiskOp) {}
}

#[test]
fn a_full_disk_hears_the_wishes_that_free_space() {
    type Write = fn(&Store) -> Result<(), StoreError>;
    let writes: [(&str, bool, Write); 7] = [
        ("stop", true, |store| store.wish_power(id(), None, wish("second", Want::Down))),
        ("kill", true, |store| {
            store.wish_power(id(), None, PowerIntent { how: How::Kill, ..wish("second", Want::Down) })
        }),
        ("delete", true, |store| {
            let deletion = Deletion { at: Timestamp::default(), recreate: false };
            store.commit(id(), |record| record.deletion = Some(deletion)).map(drop)
        }),
        ("abort", true, |store| {
            store.change(id(), None, |manifest| manifest.spec.install.as_mut().unwrap().abort = true).map(drop)
        }),
        ("suspend", true, |store| store.change(id(), None, |manifest| manifest.spec.suspended = true).map(drop)),
        ("start", false, |store| store.wish_power(id(), None, wish("second", Want::Up))),
        ("facts", false, |store| store.commit(id(), |record| record.synced_for = Some("x".into())).map(drop)),
    ];
    for (name, frees, write) in writes {
        let root = tempfile::tempdir().unwrap();
        let reserve = root.path().join(RESERVE_FILE);
        let disk = Arc::new(FullDisk { reserve: reserve.clone(), full: false.into() });
        let store = Store::open(root.path(), Blocking::Inline, Some(disk.clone())).unwrap();
        let kept = fs::metadata(&reserve).unwrap();
        assert!(kept.len() >= 1 << 20 && std::os::unix::fs::MetadataExt::blocks(&kept) >= 2048, "it takes up room");
        let mut new = manifest(id());
        new.spec.install =
            Some(serde_json::from_value(serde_json::json!({"token": "i", "skipScripts": true})).unwrap());
        store.create(new, Record::default()).unwrap();
        let before = store.get(id()).unwrap();

        disk.full.store(true, Ordering::Release);
        let written = write(&store);
        let after = store.get(id()).unwrap();
        if frees {
            written.unwrap();
            assert!((&after.manifest, &after.record) != (&before.manifest, &before.record), "{name}");
            // There is room here in truth, so the reserve is back at once.
            assert!(reserve.exists(), "{name}");
        } else {
            is_of_the_disk(written.unwrap_err(), io::ErrorKind::StorageFull);
            assert_eq!((&after.manifest, &after.record), (&before.manifest, &before.record), "{name}");
        }
    }
}

#[test]
fn a_reader_makes_nothing() {
    let root = tempfile::tempdir().unwrap();
    assert!(Store::open_to_read(root.path()).is_err(), "there is no folder to read");
    fs::create_dir(root.path().join("servers")).unwrap();
    let reader = Store::open_to_read(root.path()).unwrap();
    let refused = reader.create(manifest(id()), Record::default()).unwrap_err();
    is_of_the_disk(refused, io::ErrorKind::ReadOnlyFilesystem);
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "no reserve");
    assert_eq!(fs::read_dir(root.path().join("servers")).unwrap().count(), 0);
}

/// Takes a picture of the folder before and after each operation: what a power cut would leave there.
struct Camera {
    servers: std::path::PathBuf,
    pictures: Mutex<Vec<(DiskOp, &'static str, TempDir)>>,
}

impl Camera {
    fn take(&self, op: DiskOp, moment: &'static str) {
        let picture = tempfile::tempdir().unwrap();
        let servers = picture.path().join("servers");
        fs::create_dir(&servers).unwrap();
        for folder in fs::read_dir(&self.servers).unwrap() {
            let folder = folder.unwrap();
            let copy = servers.join(folder.file_name());
            fs::create_dir(&copy).unwrap();
            for file in fs::read_dir(folder.path()).unwrap() {
                let file = file.unwrap();
                fs::copy(file.path(), copy.join(file.file_name())).unwrap();
            }
        }
        self.pictures.lock().unwrap().push((op, moment, picture));
    }
}

impl DiskHook for Camera {
    fn before(&self, _: ServerId, op: DiskOp) -> io::Result<()> {
        self.take(op, "before");
        Ok(())
    }

    fn after(&self, _: ServerId, op: DiskOp) {
        self.take(op, "after");
    }
}

#[test]
fn a_power_cut_leaves_the_old_or_the_new() {
    type Write = fn(&Store);
    let writes: [(&str, Write); 6] = [
        ("create", |store| drop(store.create(manifest(id()), Record::default()).unwrap())),
        ("wish", |store| store.wish_power(id(), None, wish("first", Want::Up)).unwrap()),
        ("change", |store| {
            drop(store.change(id(), None, |manifest| manifest.spec.settings.invocation = "./run".into()).unwrap());
        }),
        ("facts", |store| drop(store.commit(id(), |record| record.synced_for = Some("x".into())).unwrap())),
        ("park", |store| drop(store.commit(id(), |record| record.parked = Some(Timestamp::default())).unwrap())),
        ("replace", |store| store.replace(id(), manifest(id()), |record| record.parked = None).unwrap()),
    ];
    let root = tempfile::tempdir().unwrap();
    let camera = Arc::new(Camera { servers: root.path().join("servers"), pictures: Mutex::default() });
    let store = Store::open(root.path(), Blocking::Inline, Some(camera.clone())).unwrap();
    for (name, write) in writes {
        let old = store.get(id());
        write(&store);
        let new = store.get(id()).unwrap();
        let pictures = std::mem::take(&mut *camera.pictures.lock().unwrap());
        assert!(!pictures.is_empty(), "{name} writes something");
        for (op, moment, picture) in pictures {
            let place = format!("{name}, {moment} {op:?}");
            let booted = Store::open(picture.path(), Blocking::Inline, None).unwrap();
            let Some(found) = booted.get(id()) else {
                assert!(old.is_none(), "{place}: the server is gone");
                continue;
            };
            assert_eq!(found.problem, None, "{place}");
            let is = |known: &Snapshot| {
                found.manifest == known.manifest && found.record.generation == known.record.generation
            };
            assert!(is(&new) || old.as_ref().is_some_and(|old| is(old)), "{place}: neither the old nor the new");
            // Facts never run ahead of the intent that they belong to.
            let facts_are_new =
                found.record.synced_for == new.record.synced_for && found.record.parked == new.record.parked;
            let facts_are_old = old.as_ref().is_none_or(|old| {
                found.record.synced_for == old.record.synced_for && found.record.parked == old.record.parked
            });
            assert!((facts_are_new && is(&new)) || facts_are_old, "{place}");
        }
    }
}
