//! A power cut at each operation on the disk, and what the next start of the daemon finds.

use super::*;

/// The files of all servers before and after each operation: what a power cut would leave there.
#[derive(Default)]
pub(super) struct Camera(Arc<Mutex<Vec<Picture>>>);

type Picture = (DiskOp, &'static str, TempDir);

impl Camera {
    /// A store whose operations are recorded.
    pub(super) fn open(root: &Path) -> (Self, Store) {
        let (camera, disk) = (Self::default(), Arc::new(TestDisk::default()));
        let servers = root.join("servers");
        let take = move |pictures: &Mutex<Vec<Picture>>, op, moment| {
            pictures.lock().unwrap().push((op, moment, copy(&servers)));
        };
        let (before, after, take_after) = (camera.0.clone(), camera.0.clone(), take.clone());
        disk.on_before(move |_, op| {
            take(&before, op, "before");
            Ok(())
        });
        disk.on_after(move |_, op| take_after(&after, op, "after"));
        let store = super::open(root, &disk);
        (camera, store)
    }

    /// The pictures since this was last called.
    pub(super) fn take(&self) -> Vec<Picture> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// A state folder with a copy of these servers.
fn copy(servers: &Path) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for folder in fs::read_dir(servers).unwrap() {
        let folder = folder.unwrap();
        let copy = root.path().join("servers").join(folder.file_name());
        fs::create_dir_all(&copy).unwrap();
        for file in fs::read_dir(folder.path()).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), copy.join(file.file_name())).unwrap();
        }
    }
    root
}

#[test]
fn a_power_cut_leaves_the_old_or_the_new() {
    type Write = fn(&Store);
    let writes: [(&str, Write); 8] = [
        ("create", |store| {
            let manifest = Manifest::new(id(), ManagedBy::Panel);
            drop(store.create(manifest, Record::default(), [request("install", INSTALL)]).unwrap());
        }),
        ("request", |store| drop(store.request(id(), None, [request("first", Verb::Start)]).unwrap())),
        ("sync", |store| {
            let edit = |manifest: &mut Manifest| manifest.spec.settings.invocation = "./run".into();
            drop(store.sync(id(), None, edit, |_| {}).unwrap());
        }),
        ("record", |store| drop(store.commit(id(), |record| record.synced_for = Some("x".into())).unwrap())),
        ("park", |store| drop(store.commit(id(), |record| record.parked = Some(Timestamp::default())).unwrap())),
        ("replace", |store| store.replace(id(), manifest(id()), |record| record.parked = None, []).unwrap()),
        ("two requests", |store| {
            let two = [request("again", INSTALL), request("second", Verb::Stop)];
            drop(store.request(id(), None, two).unwrap());
        }),
        ("delete", |store| drop(store.request(id(), None, [request("delete", Verb::Delete)]).unwrap())),
    ];
    let root = tempfile::tempdir().unwrap();
    let (camera, store) = Camera::open(root.path());
    for (name, write) in writes {
        let old = store.get(id());
        write(&store);
        let new = store.get(id()).unwrap();
        let pictures = camera.take();
        assert!(!pictures.is_empty(), "{name} writes something");
        for (op, moment, picture) in &pictures {
            let place = format!("{name}, {moment} {op:?}");
            let booted = reopened(picture.path());
            let Some(found) = booted.get(id()) else {
                assert!(old.is_none(), "{place}: the server is gone");
                continue;
            };
            assert_eq!(found.problem, None, "{place}");
            let is = |known: &Snapshot| {
                found.manifest == known.manifest && found.record.generation == known.record.generation
            };
            assert!(is(&new) || old.as_ref().is_some_and(|old| is(old)), "{place}: neither the old nor the new");
            // A request is accepted as a whole or not at all, and a server has what was asked when it was created. The picture
            // is another folder, so no deletion is carried out there.
            let asked =
                |known: &Snapshot| found.requests.accepted == known.requests.accepted || known.is_being_deleted();
            assert!(asked(&new) || old.as_ref().is_some_and(|old| asked(old)), "{place}: half of what was asked");
            // A record is never newer than the spec that it belongs to.
            let record_is_new =
                found.record.synced_for == new.record.synced_for && found.record.parked == new.record.parked;
            let record_is_old = old.as_ref().is_none_or(|old| {
                found.record.synced_for == old.record.synced_for && found.record.parked == old.record.parked
            });
            assert!((record_is_new && is(&new)) || record_is_old, "{place}");
        }
        // What has returned is on disk.
        let (_, _, last) = pictures.last().unwrap();
        let requests = fs::read(last.path().join("servers").join(id().to_string()).join(REQUESTS_FILE)).unwrap();
        assert_eq!(requests, fs::read(store.folder(id()).join(REQUESTS_FILE)).unwrap(), "{name}");
        let again = reopened(root.path()).get(id()).unwrap();
        assert_eq!((&again.manifest, &again.requests), (&new.manifest, &new.requests), "{name}");
    }
}

/// The new files of a server that is created again while its deletion is under way, or that was parked: whichever of them a power
/// cut leaves, its panel gets it when it asks again.
#[test]
fn a_power_cut_while_a_server_is_replaced_leaves_what_the_next_create_completes() {
    for deleted in [true, false] {
        let root = tempfile::tempdir().unwrap();
        let (camera, store) = Camera::open(root.path());
        store.create(manifest(id()), Record::default(), [request("install", INSTALL)]).unwrap();
        store.refresh(id()).unwrap();
        match deleted {
            true => drop(store.request(id(), None, [request("delete", Verb::Delete)]).unwrap()),
            false => drop(store.commit(id(), |record| record.parked = Some(Timestamp::default())).unwrap()),
        }
        camera.take();
        let edit_record = |record: &mut Record| record.parked = None;
        store.replace(id(), Manifest::new(id(), ManagedBy::Panel), edit_record, [request("again", INSTALL)]).unwrap();
        for (op, moment, picture) in &camera.take() {
            let found = reopened(picture.path()).get(id()).unwrap();
            let asked_again = found.requests.accepted.iter().any(|request| request.id == "again");
            let is_parked = found.record.parked.is_some();
            assert!(deleted || is_parked || asked_again, "{moment} {op:?}: listed, and what was asked is lost");
        }
    }
}

/// What was on disk before and after each operation of `write` on this scene's folder.
fn pictures(fixture: &Fixture, write: impl FnOnce(&Store)) -> Vec<Picture> {
    let (camera, store) = Camera::open(fixture.root.path());
    write(&store);
    camera.take()
}

#[test]
fn a_create_that_is_cut_off_leaves_no_server() {
    let fixture = Fixture::empty();
    let install = Verb::Install { reinstall: false, then_start: true };
    let create = |store: &Store| {
        store.create(manifest(id()), Record::default(), [request("install", install)]).unwrap();
    };
    let pictures = pictures(&fixture, create);
    // From here on it counts, with a record or without.
    let counts =
        pictures.iter().position(|(op, moment, _)| (*op, *moment) == (DiskOp::WriteManifest, "after")).unwrap();
    assert_eq!((pictures.len(), counts), (8, 5));
    for (position, (op, moment, picture)) in pictures.iter().enumerate() {
        let store = reopened(picture.path());
        if position >= counts {
            let known = store.get(id()).unwrap();
            assert_eq!((verbs(&known), known.record.generation), (vec![install], 1));
            continue;
        }
        assert!(store.list().is_empty(), "{moment} {op:?}");
        // A manifest that a person writes into the folder later does not find the first attempt's requests.
        assert!(!store.folder(id()).join(REQUESTS_FILE).exists(), "{moment} {op:?}");
        // The panel asks again, and what the first attempt left counts no more.
        store.create(manifest(id()), Record::default(), []).unwrap();
        assert_eq!(verbs(&store.get(id()).unwrap()), [], "{moment} {op:?}");
        assert_eq!(verbs(&reopened(picture.path()).get(id()).unwrap()), [], "{moment} {op:?}");
    }
}

/// A changed field becomes a request once, wherever the daemon is cut off.
#[test]
fn a_changed_field_is_requested_once_whatever_was_written() {
    let fixture = Fixture::with_file();
    fixture.saves(CONFIG_FILE, &FILE.replace("power: down", "power: up"));
    let pictures = pictures(&fixture, |store| assert!(store.refresh(id()).unwrap()));
    let ops: Vec<DiskOp> = pictures.iter().map(|(op, ..)| *op).collect();
    assert_eq!(ops, [DiskOp::WriteRequests, DiskOp::WriteRequests, DiskOp::WriteRecord, DiskOp::WriteRecord]);
    for (op, moment, picture) in &pictures {
        let place = format!("{moment} {op:?}");
        for boot in 0..3 {
            let store = reopened(picture.path());
            let known = store.get(id()).unwrap();
            assert_eq!(verbs(&known), [Verb::Restart], "{place}, boot {boot}");
            assert_eq!(known.requests.sequence, 2, "{place}, boot {boot}");
            // The second boot is cut off before its first pass.
            if boot > 0 {
                store.refresh(id()).unwrap();
                assert_eq!(store.get(id()).unwrap().requests, known.requests, "{place}");
                assert!(!store.refresh(id()).unwrap(), "{place}");
            }
        }
        // Once it is handled it is not requested again.
        let store = reopened(picture.path());
        let handled = |record: &mut Record| record.power.handled = Some(handled(2));
        store.commit(id(), handled).unwrap();
        assert_eq!(power(&reopened(picture.path()).get(id()).unwrap()), None, "{place}");
    }
}

/// The disk is full for the requests, and then the daemon is cut off.
#[test]
fn a_changed_field_whose_request_cannot_be_written_is_requested_when_it_can() {
    for reboots in [false, true] {
        let fixture = Fixture::with_file();
        fixture.saves(CONFIG_FILE, &FILE.replace("power: down", "restartedAt: monday"));
        fixture.disk.fail_ops(&[DiskOp::WriteRequests], io::ErrorKind::ReadOnlyFilesystem);
        fixture.store.refresh(id()).unwrap_err();
        fixture.store.refresh(id()).unwrap_err();
        assert_eq!(verbs(&fixture.get()), [Verb::Stop], "nothing is done for what is not on disk");
        fixture.disk.succeed();
        let store = if reboots { reopened(fixture.root.path()) } else { fixture.store.clone() };
        store.refresh(id()).unwrap();
        let after = store.get(id()).unwrap();
        assert_eq!((verbs(&after), after.requests.sequence), (vec![Verb::Restart], 2));
        assert_eq!(after.record.generation, 2);
        assert_eq!(reopened(fixture.root.path()).get(id()).unwrap().requests, after.requests);
    }
}

/// A later daemon that finds a record takes the spec for a changed one, which restarts the server.
#[test]
fn no_record_is_written_before_the_requests_of_a_first_spec() {
    let fixture = Fixture::with_file();
    fixture.saves(CONFIG_FILE, &FILE.replace("power: down", "power: down\n  restartedAt: monday"));
    fs::write(fixture.path(RECORD_FILE), "{").unwrap();
    fixture.disk.fail_ops(&[DiskOp::WriteRequests], io::ErrorKind::ReadOnlyFilesystem);
    let store = open(fixture.root.path(), &fixture.disk);
    store.commit(id(), |record| record.synced_for = Some("x".into())).unwrap_err();
    fixture.disk.succeed();
    let store = reopened(fixture.root.path());
    store.refresh(id()).unwrap();
    assert_eq!(power(&store.get(id()).unwrap()), None);
}

/// The deletion goes last.
#[test]
fn making_a_deleted_server_again_can_be_cut_off() {
    let fixture = Fixture::with_file();
    fixture.accepts("delete", Verb::Delete);
    fixture.store.commit(id(), |record| record.power.begun = Some("before".into())).unwrap();
    fixture.store.replace(id(), manifest(id()), |_| {}, [request("install", INSTALL)]).unwrap();
    let mut moments = 0;
    let (camera, store) = Camera::open(fixture.root.path());
    assert!(store.make_again(id()).unwrap());
    for (op, moment, picture) in &camera.take() {
        moments += 1;
        let folder = picture.path().join("servers").join(id().to_string());
        let text = fs::read_to_string(folder.join(REQUESTS_FILE)).unwrap();
        let still = text.contains("delete");
        assert_eq!(still, (*op, *moment) != (DiskOp::WriteRequests, "after"), "{moment} {op:?}: {text}");
        let record = fs::read_to_string(folder.join(RECORD_FILE)).unwrap();
        assert!(still || !record.contains("before"), "nothing of the deleted server outlasts its deletion: {record}");
        assert!(text.contains("install"), "{moment} {op:?}");
    }
    assert_eq!(moments, 4);
}

#[test]
fn a_removal_that_is_cut_off_goes_on_or_leaves_no_server() {
    let fixture = Fixture::of_panel();
    fixture.saves(OVERRIDE_FILE, "spec: {power: up}");
    for left in ["record.json.broken", "requests.json.broken", "install.log"] {
        fs::write(fixture.path(left), "{").unwrap();
    }
    fs::create_dir_all(fixture.path("logs/old")).unwrap();
    fixture.accepts("delete", Verb::Delete);
    let order = super::super::disk::removal_order(&fixture.store.folder(id())).unwrap();
    assert_eq!(order.len(), 8, "{order:?}");
    for path in order {
        match path.is_dir() {
            true => fs::remove_dir_all(&path).unwrap(),
            // The start before has removed the requests, once neither the manifest nor the record was left.
            false if path.ends_with(REQUESTS_FILE) && !path.exists() => {}
            false => fs::remove_file(&path).unwrap(),
        }
        let found = reopened(fixture.root.path()).get(id());
        let ends = match &found {
            Some(found) => found.is_being_deleted(),
            // The next start removes an empty folder.
            None => !fixture.store.folder(id()).exists(),
        };
        assert!(ends, "without {}: {found:?}", path.display());
    }
    fixture.store.remove(id(), |_| true).unwrap();
    assert!(!fixture.store.folder(id()).exists());
}
