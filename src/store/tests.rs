//! The guarantees of the state folder: to people who edit files, to the API, and after a reboot of the host.

mod batch;
mod broken;
mod crash;
mod damaged;
mod declared;
mod disk;
mod folders;
mod records;
mod room;
mod unchanged;
mod writing;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::*;
use crate::model::{Handled, ManagedBy, Requester, Timestamp, Verb};
use crate::requests::NewRequest;
use crate::testing::TestDisk;

/// A file as a person writes it.
const FILE: &str = "\
# The server of the club. Ask Ada before you touch it.
apiVersion: alula/v1
kind: Server
metadata:
  uuid: 550e8400-e29b-41d4-a716-446655440000 # from the old host
spec:
  # up since 2019
  power: down
  settings:
    invocation: ./run   # fast
    environment: {MAP: de_dust}
    container: {image: 'example/image:1'}
";

fn id() -> ServerId {
    "550e8400-e29b-41d4-a716-446655440000".parse().unwrap()
}

/// [`FILE`] of a server that its panel manages.
fn panel_file() -> String {
    FILE.replace("metadata:\n", "metadata:\n  managedBy: panel\n")
}

/// Another server than [`id`].
fn other_id() -> ServerId {
    "650e8400-e29b-41d4-a716-446655440000".parse().unwrap()
}

fn request(name: &str, verb: Verb) -> NewRequest {
    NewRequest {
        id: name.into(),
        at: Timestamp::from_millis(1000),
        expires_at: None,
        timeout: None,
        by: Requester::Cli,
        verb,
    }
}

/// A request that the panel's API accepts while the server is created.
const INSTALL: Verb = Verb::Install { reinstall: false, then_start: false };

/// The verbs of everything that was accepted and not replaced since.
fn verbs(snapshot: &Snapshot) -> Vec<Verb> {
    snapshot.requests.accepted.iter().map(|request| request.verb).collect()
}

/// The power request that counts.
fn power(snapshot: &Snapshot) -> Option<Verb> {
    snapshot.asked(Timestamp::from_millis(2000)).power().map(|power| power.verb)
}

/// The power request at this position was completed.
fn handled(sequence: u64) -> Handled {
    let (id, message, at) = (sequence.to_string(), String::new(), Timestamp::default());
    Handled { sequence, id, verb: Verb::Stop, reason: Reason::Stopped, message, at }
}

/// As after a restart of the daemon.
fn reopened(root: &Path) -> Store {
    Store::open(root, Blocking::Inline, Clock::System, None).unwrap()
}

fn manifest(id: ServerId) -> Manifest {
    let mut manifest = Manifest::new(id, ManagedBy::File);
    manifest.spec.settings.container.image = "example/image:1".into();
    manifest
}

/// A store on this disk.
fn open(root: &Path, disk: &Arc<TestDisk>) -> Store {
    Store::open(root, Blocking::Inline, Clock::System, Some(disk.clone())).unwrap()
}

/// A state folder and the store on it.
struct Fixture {
    root: TempDir,
    disk: Arc<TestDisk>,
    store: Store,
}

impl Fixture {
    fn empty() -> Self {
        let root = tempfile::tempdir().unwrap();
        let disk = Arc::default();
        let store = open(root.path(), &disk);
        Self { root, disk, store }
    }

    /// With [`FILE`] in effect.
    fn with_file() -> Self {
        Self::with_text(FILE)
    }

    /// With [`panel_file`] in effect.
    fn of_panel() -> Self {
        Self::with_text(&panel_file())
    }

    fn with_text(text: &str) -> Self {
        let fixture = Self::empty();
        fs::create_dir(fixture.store.folder(id())).unwrap();
        fixture.saves(CONFIG_FILE, text);
        assert!(fixture.store.refresh(id()).unwrap());
        fixture.disk.take_done();
        fixture
    }

    fn path(&self, file: &str) -> std::path::PathBuf {
        self.store.folder(id()).join(file)
    }

    /// A person saves a file, as editors do: by replacing it.
    fn saves(&self, file: &str, text: &str) {
        saves(&self.path(file), text);
    }

    fn config(&self) -> String {
        fs::read_to_string(self.path(CONFIG_FILE)).unwrap()
    }

    fn get(&self) -> Arc<Snapshot> {
        self.store.get(id()).unwrap()
    }

    /// Syncs a changed spec from the panel.
    fn sync(&self, edit: impl FnOnce(&mut Manifest)) -> Result<Arc<Snapshot>, StoreError> {
        self.store.sync(id(), None, edit, |_| {})
    }

    /// Accepts one request.
    fn accepts(&self, name: &str, verb: Verb) -> Arc<Snapshot> {
        self.store.request(id(), None, [request(name, verb)]).unwrap()
    }

    fn manifest(&self) -> Arc<Manifest> {
        self.get().manifest.clone().unwrap()
    }

    fn problem(&self) -> String {
        self.get().problem.clone().expect("there is a problem").message
    }

    /// After a reboot of the host a new store has the same servers as this one.
    #[track_caller]
    fn is_the_same_after_a_reboot(&self) {
        let again = reopened(self.root.path());
        let known = |store: &Store| -> Vec<_> {
            let snapshots = store.list();
            let known =
                |s: &Arc<Snapshot>| (s.id, s.manifest.clone(), s.requests.clone(), s.record.clone(), s.problem.clone());
            snapshots.iter().map(known).collect()
        };
        assert_eq!(known(&self.store), known(&again));
    }

    /// No temporary file is left.
    #[track_caller]
    fn has_no_leftovers(&self) {
        for entry in fs::read_dir(self.store.folder(id())).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.ends_with(".tmp"), "{name}");
        }
    }
}

fn saves(path: &Path, text: &str) {
    crate::atomic::write_file(path, text.as_bytes(), 0o644).unwrap();
}

/// A connection ends while its request is carried out.
#[tokio::test]
async fn a_change_whose_caller_goes_away_is_made_and_queued() {
    let fixture = Fixture::with_file();
    let store = Store::open(fixture.root.path(), Blocking::Pool, Clock::System, None).unwrap();
    let (woken, queued) = std::sync::mpsc::channel();
    store.on_change(move |id| {
        // The test has ended if nothing receives it.
        let _ = woken.send(id);
    });
    let mut change = Box::pin(store.commit_and_wake(id(), |record| record.keep_deleted = true));
    assert!(futures_util::poll!(&mut change).is_pending());
    drop(change);
    let timeout = std::time::Duration::from_secs(30);
    assert_eq!(tokio::task::spawn_blocking(move || queued.recv_timeout(timeout)).await.unwrap(), Ok(id()));
    assert!(store.get(id()).unwrap().record.keep_deleted);
}
