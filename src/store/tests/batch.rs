//! Many servers that are created at once.

use std::sync::atomic::{AtomicBool, Ordering};

use super::crash::Camera;
use super::*;

/// One of some servers.
fn numbered(number: u32) -> ServerId {
    format!("550e8400-e29b-41d4-a716-{number:012}").parse().unwrap()
}

/// A server that its panel has, and what is asked of it.
fn new(number: u32, requests: &[Verb]) -> NewServer {
    let requests = requests.iter().map(|verb| request("asked", *verb)).collect();
    let record = Record { synced_at: Some(Timestamp::from_millis(7)), ..Record::default() };
    let mut manifest = Manifest::new(numbered(number), ManagedBy::Panel);
    manifest.spec.settings.invocation = format!("./run {number}");
    NewServer { manifest, record, requests, declared: crate::model::Declared::default() }
}

/// The first asks for its installation.
fn three() -> Vec<NewServer> {
    vec![new(1, &[INSTALL]), new(2, &[]), new(3, &[])]
}

fn create_all(store: &Store, new: Vec<NewServer>) -> Vec<(ServerId, Result<(), StoreError>)> {
    let results = store.create_all(new, |_| ());
    results.into_iter().map(|(id, created)| (id, created.map(drop))).collect()
}

fn created(results: &[(ServerId, Result<(), StoreError>)]) -> Vec<ServerId> {
    let mut created: Vec<_> = results.iter().filter(|(_, result)| result.is_ok()).map(|(id, _)| *id).collect();
    created.sort_unstable();
    created
}

#[test]
fn a_batch_is_written_kind_by_kind() {
    let fixture = Fixture::empty();
    assert_eq!(created(&create_all(&fixture.store, three())), [numbered(1), numbered(2), numbered(3)]);
    let expected = [
        [DiskOp::CreateFolder; 3].as_slice(),
        &[DiskOp::WriteRequests],
        &[DiskOp::WriteManifest; 3],
        &[DiskOp::WriteRecord; 3],
    ];
    assert_eq!(fixture.disk.take_done(), expected.concat());
    for number in 1..=3 {
        let snapshot = fixture.store.get(numbered(number)).unwrap();
        assert_eq!(snapshot.manifest.as_ref().unwrap().spec.settings.invocation, format!("./run {number}"));
        assert_eq!((snapshot.record.generation, snapshot.unrecorded), (1, false));
        assert!(!fixture.store.refresh(numbered(number)).unwrap(), "the first pass has nothing to write");
    }
    assert_eq!(fixture.disk.take_done(), []);
    fixture.is_the_same_after_a_reboot();
    assert!(reopened(fixture.root.path()).list().iter().all(|snapshot| !snapshot.unrecorded));
}

#[test]
fn a_batch_that_is_cut_off_leaves_complete_servers_or_none() {
    let root = tempfile::tempdir().unwrap();
    let (camera, store) = Camera::open(root.path());
    create_all(&store, three());
    let (pictures, mut counts) = (camera.take(), Vec::new());
    for (op, moment, picture) in &pictures {
        let place = format!("{moment} {op:?}");
        let booted = reopened(picture.path());
        for found in booted.list() {
            let known = store.get(found.id).unwrap();
            assert_eq!(found.problem, None, "{place}");
            assert_eq!((&found.manifest, &found.requests), (&known.manifest, &known.requests), "{place}");
            assert_eq!(found.record.generation, 1, "{place}");
            let recorded = found.record.synced_at.is_some();
            assert!(recorded || found.unrecorded, "{place}: a server without a record is new");
        }
        counts.push(booted.list().len());
        // The panel's next list completes what is missing, and nothing else.
        let results = create_all(&booted, three());
        assert_eq!(created(&results).len(), 3 - counts.last().unwrap(), "{place}");
        for snapshot in booted.list() {
            assert_eq!(snapshot.requests, store.get(snapshot.id).unwrap().requests, "{place}");
        }
        assert_eq!(reopened(picture.path()).list().len(), 3, "{place}");
    }
    assert!(counts.is_sorted() && [0, 1, 2, 3].iter().all(|count| counts.contains(count)), "{counts:?}");
    assert_eq!(pictures.len(), 20);
}

#[test]
fn no_server_is_published_before_it_is_on_disk() {
    let root = tempfile::tempdir().unwrap();
    let disk = Arc::default();
    let store = open(root.path(), &disk);
    let published = Arc::new(Mutex::new(Vec::new()));
    let (seen, observed) = (published.clone(), store.clone());
    let observe = move || {
        let servers = observed.list().into_iter().filter(|snapshot| snapshot.manifest.is_some());
        seen.lock().unwrap().extend(servers.map(|snapshot| snapshot.id));
    };
    let observe_after = observe.clone();
    disk.on_before(move |_, _| {
        observe();
        Ok(())
    });
    disk.on_after(move |_, _| observe_after());
    let (woken, then) = (Arc::new(Mutex::new(Vec::new())), Mutex::new(Vec::new()));
    let wakes = woken.clone();
    store.on_change(move |id| wakes.lock().unwrap().push(id));
    store.create_all(three(), |id| {
        assert!(!woken.lock().unwrap().contains(&id), "it is called before the reconciliation is queued");
        assert!(reopened(root.path()).get(id).is_some_and(|snapshot| snapshot.manifest.is_some()));
        then.lock().unwrap().push(id);
    });
    assert_eq!(*published.lock().unwrap(), []);
    assert_eq!(*woken.lock().unwrap(), [numbered(1), numbered(2), numbered(3)]);
    assert_eq!(*then.lock().unwrap(), *woken.lock().unwrap());
}

#[test]
fn one_server_s_error_is_its_own() {
    for op in [DiskOp::CreateFolder, DiskOp::WriteRequests, DiskOp::WriteManifest] {
        let fixture = Fixture::empty();
        let store = &fixture.store;
        let (folder, saved) = (store.folder(id()), std::sync::Once::new());
        fixture.disk.on_before(move |_, next| {
            if next == op {
                saved.call_once(|| {
                    let _ = fs::create_dir(&folder);
                    saves(&folder.join(CONFIG_FILE), FILE);
                });
            }
            Ok(())
        });
        let created = store.create(manifest(id()), Record::default(), [request("asked", INSTALL)]);
        assert!(created.is_err(), "{op:?}");
        assert_eq!(fs::read_to_string(store.folder(id()).join(CONFIG_FILE)).unwrap(), FILE, "{op:?}");
        store.refresh(id()).unwrap();
        let snapshot = store.get(id()).unwrap();
        assert_eq!(snapshot.manifest.as_ref().unwrap().metadata.managed_by, ManagedBy::File, "{op:?}");
        assert_eq!(verbs(&snapshot), [Verb::Stop], "{op:?}: only the request of the file counts");
    }
}

#[test]
fn a_failed_creation_removes_its_files_before_another_can_take_the_name() {
    let fixture = Fixture::empty();
    let store = &fixture.store;
    let (seen, checked) = (store.clone(), Arc::new(AtomicBool::new(false)));
    let done = checked.clone();
    fixture.disk.on_before(move |id, op| {
        if op == DiskOp::RemoveFolder {
            assert!(seen.ids().contains(&id) && seen.folder(id).join(REQUESTS_FILE).exists());
            done.store(true, Ordering::Relaxed);
        }
        if op == DiskOp::WriteManifest { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    });
    store.create(manifest(id()), Record::default(), [request("asked", INSTALL)]).unwrap_err();
    assert!(checked.load(Ordering::Relaxed));
    assert!(store.get(id()).is_none() && !store.folder(id()).exists());
}

#[test]
fn the_fields_of_an_override_that_waited_are_those_of_a_new_server() {
    for (text, expected) in [
        ("spec: {restartedAt: a}", vec![]),
        ("spec: {power: down, restartedAt: a}", vec![Verb::Stop]),
        ("spec: {power: up}", vec![Verb::Start]),
    ] {
        let fixture = Fixture::empty();
        fs::create_dir(fixture.store.folder(id())).unwrap();
        saves(&fixture.store.folder(id()).join(OVERRIDE_FILE), text);
        fixture.store.create(manifest(id()), Record::default(), []).unwrap();
        assert_eq!(verbs(&fixture.store.get(id()).unwrap()), expected, "{text}");
        fixture.store.refresh(id()).unwrap();
        assert_eq!(verbs(&fixture.store.get(id()).unwrap()), expected, "{text}");
        fixture.is_the_same_after_a_reboot();
    }
}
