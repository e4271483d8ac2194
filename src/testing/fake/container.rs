//! One fake container: its spec, phase, output and readers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::log::{ContainerLog, LOG_CHUNKS};
use super::program::Program;
use crate::model::{
    ContainerState, DirectoryId, DiskIo, LABEL_NODE, LABEL_ROOT, NetworkTraffic, NodeIdentity, OtherNode, Owner, Role,
    ServerId,
};
use crate::runtime::{ContainerSpec, Counters, Limits, Purpose, parse_container_name};

/// The phase of a container.
///
/// ```text
///  create          start             exit, kill
/// -------> Created ------> Running ------------> Exited
///             | rejected      ^                    | |
///             +--> StartFailed +------- start ------+ |
///             |         | (start, as Docker 29 does) |
///             +---------+------ remove --------------+--> (gone)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Created,
    StartFailed,
    Running,
    Exited { code: i64, oom_killed: bool },
}

/// One container.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) number: u64,
    pub(super) name: String,
    pub(super) spec: ContainerSpec,
    pub(super) purpose: Option<Purpose>,
    /// Labels of the node that has created it.
    pub(super) node: Option<OtherNode>,
    /// Applied limits.
    pub(super) limits: Limits,
    /// Labels: hashes of spec and limits at creation.
    pub(super) spec_hash: String,
    pub(super) limits_label: String,
    pub(super) phase: Phase,
    pub(super) started: Option<Duration>,
    pub(super) finished: Option<Duration>,
    /// The directory that is mounted as the server's files since the last start.
    pub(super) files: Option<DirectoryId>,
    /// Starts so far. Scheduled actions carry it, so that those of an earlier run are skipped.
    pub(super) run: u32,
    pub(super) program: Arc<Program>,
    /// Was sent a signal in this run.
    pub(super) signalled: bool,
    pub(super) stop_signal: Option<String>,
    /// A removal is in progress.
    pub(super) removing: bool,
    /// What was typed since it was frozen; `None` while it is not.
    pub(super) frozen: Option<Vec<u8>>,
    pub(super) log: ContainerLog,
    /// An incomplete line of input; before the start, all input so far.
    pub(super) line: Vec<u8>,
    /// Receivers of its output, dropped when it ends.
    readers: Vec<Reader>,
}

/// A receiver of a container's output.
#[derive(Debug)]
struct Reader {
    to: mpsc::Sender<Bytes>,
    attached: bool,
}

impl Phase {
    pub(super) fn state(self) -> ContainerState {
        match self {
            Phase::Created => ContainerState::Created,
            Phase::StartFailed => ContainerState::StartFailed,
            Phase::Running => ContainerState::Running,
            Phase::Exited { code, oom_killed } => ContainerState::Exited { code, oom_killed },
        }
    }
}

impl Container {
    /// A container that was never started.
    pub(super) fn new(number: u64, spec: &ContainerSpec, purpose: Option<&Purpose>) -> Self {
        Self {
            id: format!("{number:012x}{:052x}", 0),
            number,
            name: spec.name.clone(),
            spec: spec.clone(),
            purpose: purpose.cloned(),
            node: None,
            spec_hash: spec.hash(),
            limits: spec.limits.clone(),
            limits_label: spec.limits.hash(),
            phase: Phase::Created,
            started: None,
            finished: None,
            files: None,
            run: 0,
            program: Arc::new(Program::idle()),
            signalled: false,
            stop_signal: None,
            removing: false,
            frozen: None,
            log: ContainerLog::default(),
            line: Vec::new(),
            readers: Vec::new(),
        }
    }

    /// Prints bytes to all readers and to the log, which keeps the last `kept` bytes.
    pub(super) fn print(&mut self, bytes: Bytes, kept: Option<usize>) {
        self.readers.retain(|reader| reader.to.try_send(bytes.clone()).is_ok());
        self.log.push(bytes);
        if let Some(kept) = kept {
            self.log.rotate(kept);
        }
    }

    /// Drops all readers: the container ended, or the connections broke.
    pub(super) fn drop_readers(&mut self) {
        self.readers.clear();
    }

    pub(super) fn running(&self) -> bool {
        self.phase == Phase::Running
    }

    /// What it has used at this time; `None` if it does not run.
    pub(super) fn counters(&self, now: Duration) -> Option<Counters> {
        let runs_for = now.checked_sub(self.started.filter(|_| self.running())?)?;
        let load = self.program.load;
        let limit = u64::try_from(self.limits.memory).ok().filter(|limit| *limit > 0);
        let passed = |per_second: u64| per_second.saturating_mul(runs_for.as_secs());
        Some(Counters {
            memory_bytes: load.memory_bytes.min(limit.unwrap_or(u64::MAX)),
            memory_limit_bytes: limit,
            cpu: runs_for * load.cpu_percent / 100,
            network: NetworkTraffic { rx_bytes: passed(load.bytes_per_second), tx_bytes: 0 },
            disk_io: DiskIo { read_bytes: 0, write_bytes: passed(load.bytes_per_second) },
        })
    }

    /// Server and role, by purpose or name; `None` for containers of other programs.
    pub(super) fn owner(&self) -> Option<(ServerId, Role)> {
        match &self.purpose {
            Some(purpose) => Some((purpose.server, purpose.role)),
            None => parse_container_name(&self.name),
        }
    }

    /// The node that has created it, as this one sees it.
    pub(super) fn node(&self, this: &NodeIdentity) -> Owner {
        let node = self.node.as_ref();
        this.owner(|label| match label {
            LABEL_NODE => node.map(|node| node.id.as_str()),
            LABEL_ROOT => node.map(|node| node.root.as_str()),
            _ => None,
        })
    }

    /// Its output from now on, until it ends. A reader that falls [`LOG_CHUNKS`] chunks behind is dropped.
    pub(super) fn read(&mut self, attached: bool) -> mpsc::Receiver<Bytes> {
        let (to, from) = mpsc::channel(LOG_CHUNKS);
        if !matches!(self.phase, Phase::Exited { .. }) {
            self.readers.push(Reader { to, attached });
        }
        from
    }

    /// Attachments that are open.
    pub(super) fn attachments(&self) -> usize {
        self.readers.iter().filter(|reader| reader.attached && !reader.to.is_closed()).count()
    }

    pub(super) fn token(&self) -> Option<String> {
        self.purpose.as_ref().map(|purpose| purpose.token.clone())
    }
}
