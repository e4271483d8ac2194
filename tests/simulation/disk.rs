//! The disk under the state folder: each operation is a point where the daemon can die, the disk can be full, and for a while
//! it may refuse records and requests.

use std::fmt::Display;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alula::model::ServerId;
use alula::store::{DiskHook, DiskOp};
use tokio::time::Instant;

use crate::crash::{Fate, short};

/// What a file operation unwinds with when the daemon is dead.
struct Crashed;

/// The disk under the state folder, which outlives daemons.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<Option<NoRecords>>>);

/// A time in which the disk refuses files of the store.
struct NoRecords {
    ops: &'static [DiskOp],
    /// Those of one server, or all.
    server: Option<ServerId>,
    kind: io::ErrorKind,
    until: Instant,
}

impl Disk {
    pub fn reject(&self, ops: &'static [DiskOp], server: Option<ServerId>, kind: io::ErrorKind, time: Duration) {
        *self.0.lock().unwrap() = Some(NoRecords { ops, server, kind, until: Instant::now() + time });
    }

    /// Everything is written again.
    pub fn take_all(&self) {
        *self.0.lock().unwrap() = None;
    }

    fn write(&self, op: DiskOp, id: ServerId) -> io::Result<()> {
        let rejects = |no: &&NoRecords| {
            Instant::now() < no.until && no.server.is_none_or(|server| server == id) && no.ops.contains(&op)
        };
        self.0.lock().unwrap().as_ref().filter(rejects).map_or(Ok(()), |no| Err(no.kind.into()))
    }
}

/// The disk's faults in one life.
pub struct DiskFate {
    pub fate: Arc<Fate>,
    pub disk: Disk,
}

impl DiskFate {
    fn point(&self, what: impl Display) {
        if self.fate.dies(what) {
            std::panic::resume_unwind(Box::new(Crashed));
        }
    }
}

impl DiskHook for DiskFate {
    fn before(&self, server: ServerId, op: DiskOp) -> io::Result<()> {
        if op == DiskOp::WriteStatus {
            return if self.fate.is_over() { Err(io::ErrorKind::Other.into()) } else { Ok(()) };
        }
        tracing::debug!(?op, server.id = %server, "the disk is asked");
        self.point(format_args!("before {op:?} {server}"));
        if self.fate.occasion(format!("{op:?}/{}", short(server))).has("full", |rates| rates.disk_full) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.disk.write(op, server)
    }

    fn after(&self, server: ServerId, op: DiskOp) {
        if op != DiskOp::WriteStatus {
            self.point(format_args!("after {op:?} {server}"));
        }
    }
}
