//! The state folder: what it promises to people who edit files, to the API, and to whoever reboots the host.

mod broken;
mod disk;
mod facts;
mod unchanged;
mod writing;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::*;
use crate::model::{How, ManagedBy, PowerIntent, Timestamp, Want};

/// A file as a person writes it.
const FILE: &str = "\
# The server of the club. Ask Ada before you touch it.
apiVersion: alula/v1
kind: Server
metadata:
  uuid: 550e8400-e29b-41d4-a716-446655440000 # from the old host
spec:
  # up since 2019
  power: {id: first, want: down}
  settings:
    invocation: ./run   # fast
    environment: {MAP: de_dust}
    container: {image: 'example/image:1'}
";

fn id() -> ServerId {
    "550e8400-e29b-41d4-a716-446655440000".parse().unwrap()
}

fn wish(name: &str, want: Want) -> PowerIntent {
    PowerIntent { id: name.into(), want, how: How::Graceful, requested_at: None, expires_at: None }
}

fn manifest(id: ServerId) -> Manifest {
    let mut manifest = Manifest::new(id, ManagedBy::File);
    manifest.spec.settings.container.image = "example/image:1".into();
    manifest
}

/// A disk under the test's control.
#[derive(Default)]
struct Disk {
    refuses: Mutex<Vec<(DiskOp, io::ErrorKind)>>,
    done: Mutex<Vec<DiskOp>>,
    /// Done once, at the next operation.
    meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Disk {
    fn refuses(&self, ops: &[DiskOp], kind: io::ErrorKind) {
        *self.refuses.lock().unwrap() = ops.iter().map(|op| (*op, kind)).collect();
    }

    fn meanwhile(&self, act: impl FnOnce() + Send + 'static) {
        *self.meanwhile.lock().unwrap() = Some(Box::new(act));
    }

    fn done(&self) -> Vec<DiskOp> {
        std::mem::take(&mut self.done.lock().unwrap())
    }
}

impl DiskHook for Disk {
    fn before(&self, _: ServerId, op: DiskOp) -> io::Result<()> {
        if let Some(act) = self.meanwhile.lock().unwrap().take() {
            act();
        }
        match self.refuses.lock().unwrap().iter().find(|(refused, _)| *refused == op) {
            Some((_, kind)) => Err(io::Error::from(*kind)),
            None => Ok(()),
        }
    }

    fn after(&self, _: ServerId, op: DiskOp) {
        self.done.lock().unwrap().push(op);
    }
}

/// A state folder and the store on it.
struct Scene {
    root: TempDir,
    disk: Arc<Disk>,
    store: Store,
}

impl Scene {
    fn empty() -> Self {
        let root = tempfile::tempdir().unwrap();
        let disk = Arc::new(Disk::default());
        let store = Store::open(root.path(), Blocking::Inline, Some(disk.clone())).unwrap();
        Self { root, disk, store }
    }

    /// With [`FILE`] in force.
    fn with_file() -> Self {
        let scene = Self::empty();
        fs::create_dir(scene.store.folder(id())).unwrap();
        scene.saves(CONFIG_FILE, FILE);
        assert!(scene.store.refresh(id()).unwrap());
        scene.disk.done();
        scene
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

    fn intent(&self) -> Arc<Manifest> {
        self.get().manifest.clone().unwrap()
    }

    fn problem(&self) -> String {
        self.get().problem.clone().expect("there is a problem").message
    }

    /// The host goes down and comes back: what a new store reads is what this one knows.
    #[track_caller]
    fn is_the_same_after_a_reboot(&self) {
        let again = Store::open(self.root.path(), Blocking::Inline, None).unwrap();
        let known = |store: &Store| -> Vec<_> {
            let snapshots = store.list();
            let known = |s: &Arc<Snapshot>| (s.id, s.manifest.clone(), s.record.clone(), s.problem.clone());
            snapshots.iter().map(known).collect()
        };
        assert_eq!(known(&self.store), known(&again));
    }

    /// Nothing that a writer leaves half done lies about.
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
