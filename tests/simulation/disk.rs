//! The disk under the state folder: the daemon can crash at each operation, the disk can be full, and it may reject records and
//! requests for a while.

use std::fmt::Display;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alula::model::ServerId;
use alula::store::DiskOp;
use tokio::time::Instant;

use crate::faults::{ProcessFaults, short};

/// What a file operation unwinds with when the daemon has crashed.
struct Crashed;

/// The disk under the state folder, which outlives daemons.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<Option<Outage>>>);

/// A time in which the disk rejects files of the store.
struct Outage {
    ops: &'static [DiskOp],
    /// Files of one server, or of all.
    server: Option<ServerId>,
    kind: io::ErrorKind,
    until: Instant,
}

impl Disk {
    pub fn reject(&self, ops: &'static [DiskOp], server: Option<ServerId>, kind: io::ErrorKind, time: Duration) {
        *self.0.lock().unwrap() = Some(Outage { ops, server, kind, until: Instant::now() + time });
    }

    /// Ends the outage.
    pub fn recover(&self) {
        *self.0.lock().unwrap() = None;
    }

    /// What happens before each operation of one daemon.
    pub fn hook(
        &self,
        faults: Arc<ProcessFaults>,
    ) -> impl Fn(ServerId, DiskOp) -> io::Result<()> + Send + Sync + 'static {
        let disk = self.clone();
        move |server, op| {
            if op == DiskOp::WriteStatus {
                return if faults.is_over() { Err(io::ErrorKind::Other.into()) } else { Ok(()) };
            }
            tracing::debug!(?op, server.id = %server, "file operation");
            point(&faults, format_args!("before {op:?} {server}"));
            if faults.occasion(format!("{op:?}/{}", short(server))).has("full", |rates| rates.disk_full) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            disk.write(op, server)
        }
    }

    fn write(&self, op: DiskOp, id: ServerId) -> io::Result<()> {
        let rejects = |outage: &&Outage| {
            Instant::now() < outage.until && outage.server.is_none_or(|server| server == id) && outage.ops.contains(&op)
        };
        self.0.lock().unwrap().as_ref().filter(rejects).map_or(Ok(()), |outage| Err(outage.kind.into()))
    }
}

fn point(faults: &ProcessFaults, what: impl Display) {
    if faults.crashes_at(what) {
        std::panic::resume_unwind(Box::new(Crashed));
    }
}

/// The point after an operation.
pub fn passed(faults: &ProcessFaults, server: ServerId, op: DiskOp) {
    if op != DiskOp::WriteStatus {
        point(faults, format_args!("after {op:?} {server}"));
    }
}
