//! A disk under the control of a test: a hook for each file operation of the store.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::ServerId;
use crate::store::{DiskHook, DiskOp};

type Before = Arc<dyn Fn(ServerId, DiskOp) -> io::Result<()> + Send + Sync>;
type After = Arc<dyn Fn(ServerId, DiskOp) + Send + Sync>;

/// Operations succeed unless a test decides otherwise. No lock is held while a test's closure runs, so it may block or use the
/// store.
#[derive(Default)]
pub struct TestDisk {
    before: Mutex<Option<Before>>,
    after: Mutex<Option<After>>,
    done: Mutex<Vec<DiskOp>>,
}

impl TestDisk {
    /// Calls `before` ahead of each operation from now on; an error takes the place of the operation.
    pub fn on_before(&self, before: impl Fn(ServerId, DiskOp) -> io::Result<()> + Send + Sync + 'static) {
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(before));
    }

    /// Calls `after` behind each successful operation from now on.
    pub fn on_after(&self, after: impl Fn(ServerId, DiskOp) + Send + Sync + 'static) {
        *self.after.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(after));
    }

    /// Fails the chosen operations from now on.
    pub fn fail(&self, kind: io::ErrorKind, fails: impl Fn(ServerId, DiskOp) -> bool + Send + Sync + 'static) {
        self.on_before(move |server, op| if fails(server, op) { Err(kind.into()) } else { Ok(()) });
    }

    /// Fails the operations of these kinds from now on, and lets the others succeed.
    pub fn fail_ops(&self, ops: &[DiskOp], kind: io::ErrorKind) {
        let ops = ops.to_vec();
        self.fail(kind, move |_, op| ops.contains(&op));
    }

    /// Calls `act` once, ahead of the next operation.
    pub fn before_next(&self, act: impl FnOnce() + Send + 'static) {
        let act = Mutex::new(Some(act));
        self.on_before(move |_, _| {
            if let Some(act) = act.lock().unwrap_or_else(PoisonError::into_inner).take() {
                act();
            }
            Ok(())
        });
    }

    /// Fails the next operation of this kind as a full disk does.
    pub fn fail_next(&self, op: DiskOp) {
        let pending = Mutex::new(Some(op));
        self.fail(io::ErrorKind::StorageFull, move |_, op| {
            pending.lock().unwrap_or_else(PoisonError::into_inner).take_if(|pending| *pending == op).is_some()
        });
    }

    /// Lets every operation succeed from now on.
    pub fn succeed(&self) {
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The successful operations since the last call.
    pub fn take_done(&self) -> Vec<DiskOp> {
        std::mem::take(&mut self.done.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl DiskHook for TestDisk {
    fn before(&self, server: ServerId, op: DiskOp) -> io::Result<()> {
        let before = self.before.lock().unwrap_or_else(PoisonError::into_inner).clone();
        before.map_or(Ok(()), |before| before(server, op))
    }

    fn after(&self, server: ServerId, op: DiskOp) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push(op);
        let after = self.after.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(after) = after {
            after(server, op);
        }
    }
}
