//! A full disk: what frees space is accepted with the reserve, and everything else is refused.

use super::*;

/// What a server on a full disk accepts.
#[derive(Clone, Copy, PartialEq)]
enum Frees {
    Yes,
    No,
}

/// Fills the disk to the last block that the reserve does not hold.
fn fill(disk: &TestDisk, store: &Store) {
    let reserve = store.servers_folder().parent().unwrap().join(RESERVE_FILE);
    disk.fail(io::ErrorKind::StorageFull, move |_, _| fs::metadata(&reserve).is_ok_and(|kept| kept.len() >= 1 << 20));
}

/// A server that is to be installed, and its disk.
fn installing() -> (TempDir, Arc<TestDisk>, Store) {
    let root = tempfile::tempdir().unwrap();
    let reserve = root.path().join(RESERVE_FILE);
    let disk = Arc::default();
    let store = open(root.path(), &disk);
    let kept = fs::metadata(&reserve).unwrap();
    assert!(kept.len() >= 1 << 20 && std::os::unix::fs::MetadataExt::blocks(&kept) >= 2048, "it takes up room");
    let manifest = Manifest::new(id(), ManagedBy::Panel);
    store.create(manifest, Record::default(), [request("install", INSTALL)]).unwrap();
    store.refresh(id()).unwrap();
    (root, disk, store)
}

fn asks(store: &Store, verb: Verb) -> Result<(), StoreError> {
    store.request(id(), None, [request("second", verb)]).map(drop)
}

#[test]
fn a_full_disk_accepts_what_frees_space() {
    type Write = fn(&Store) -> Result<(), StoreError>;
    let writes: [(&str, Frees, Write); 9] = [
        ("stop", Frees::Yes, |store| asks(store, Verb::Stop)),
        ("kill", Frees::Yes, |store| asks(store, Verb::Kill)),
        ("abort", Frees::Yes, |store| asks(store, Verb::Abort)),
        ("delete", Frees::Yes, |store| asks(store, Verb::Delete)),
        ("suspend", Frees::Yes, |store| {
            store.sync(id(), None, |manifest| manifest.spec.suspended = true, |_| {}).map(drop)
        }),
        ("start", Frees::No, |store| asks(store, Verb::Start)),
        ("restart", Frees::No, |store| asks(store, Verb::Restart)),
        ("install", Frees::No, |store| asks(store, INSTALL)),
        ("record", Frees::No, |store| store.commit(id(), |record| record.synced_for = Some("x".into())).map(drop)),
    ];
    for (name, frees, write) in writes {
        let (root, disk, store) = installing();
        let before = store.get(id()).unwrap();
        fill(&disk, &store);
        let written = write(&store);
        let known = |s: &Snapshot| (s.manifest.clone(), s.requests.clone(), s.record.clone());
        let after = store.get(id()).unwrap();
        if frees == Frees::Yes {
            written.unwrap();
            assert!(known(&after) != known(&before), "{name}");
            // There is room here in truth, so the reserve is back at once.
            assert!(root.path().join(RESERVE_FILE).exists(), "{name}");
        } else {
            assert!(written.unwrap_err().is_full_disk(), "{name}");
            assert!(known(&after) == known(&before), "{name}: it leaves nothing");
        }
        let again = reopened(root.path()).get(id()).unwrap();
        assert!(known(&again) == known(&after), "{name}: on disk");
    }
}

#[test]
fn a_full_disk_accepts_a_file_with_power_down() {
    for (text, accepted) in [("power: down", true), ("power: up", false)] {
        let (_root, disk, store) = installing();
        let path = store.folder(id()).join(CONFIG_FILE);
        let config = fs::read_to_string(&path).unwrap().replace("spec:\n", &format!("spec:\n  {text}\n"));
        // The person has found room for it.
        saves(&path, &config);
        let before = store.get(id()).unwrap();
        fill(&disk, &store);
        assert_eq!(store.refresh(id()).is_ok(), accepted, "{text}");
        let after = store.get(id()).unwrap();
        assert_eq!(power(&after), accepted.then_some(Verb::Stop), "{text}");
        assert_eq!(after.manifest != before.manifest, accepted, "{text}");
        disk.succeed();
        store.refresh(id()).unwrap();
        assert!(power(&store.get(id()).unwrap()).is_some(), "{text}: accepted when there is room");
    }
}

#[test]
fn the_reserve_serves_several_requests() {
    let root = tempfile::tempdir().unwrap();
    let reserve = crate::store::reserve::Reserve::new(root.path().join(RESERVE_FILE));
    assert!(!reserve.release(), "there is none");
    reserve.keep();
    let left = || fs::metadata(root.path().join(RESERVE_FILE)).unwrap().len();
    for release in 1..=16 {
        assert!(reserve.release());
        assert_eq!(left(), (16 - release) * 65_536);
    }
    assert!(!reserve.release(), "it is used up");
    reserve.keep();
    assert_eq!(left(), 1 << 20);
}
