//! One fake container: what it was made from, where it stands, what it printed, and who reads that.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::program::Program;
use super::tape::{TAPE, Tape};
use crate::model::{ContainerState, Role, ServerId};
use crate::runtime::{ContainerSpec, Limits, Purpose, parse_container_name};

/// Where a container stands.
///
/// ```text
///  create          start             exit, kill
/// -------> Created ------> Running ------------> Exited
///             | refused       ^                    | |
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
    /// Limits in force.
    pub(super) limits: Limits,
    /// Labels: hashes of spec and limits at creation.
    pub(super) spec_hash: String,
    pub(super) limits_label: String,
    pub(super) phase: Phase,
    pub(super) started: Option<Duration>,
    pub(super) finished: Option<Duration>,
    /// Starts so far; tells what is still due of an earlier run.
    pub(super) run: u32,
    pub(super) program: Arc<Program>,
    /// Was sent a signal in this run.
    pub(super) signalled: bool,
    pub(super) stop_signal: Option<String>,
    /// The engine is at removing it.
    pub(super) removing: bool,
    pub(super) tape: Tape,
    /// A line that is being typed; before the start, all that was typed ahead.
    pub(super) line: Vec<u8>,
    /// Whoever reads what it prints; all are let go when it ends.
    readers: Vec<Reader>,
}

/// Somebody who reads what a container prints.
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
            spec_hash: spec.hash(),
            limits: spec.limits.clone(),
            limits_label: spec.limits.hash(),
            phase: Phase::Created,
            started: None,
            finished: None,
            run: 0,
            program: Arc::new(Program::idle()),
            signalled: false,
            stop_signal: None,
            removing: false,
            tape: Tape::default(),
            line: Vec::new(),
            readers: Vec::new(),
        }
    }

    /// Prints something, for all readers and for the log, of which the last `kept` bytes stay.
    pub(super) fn print(&mut self, bytes: Bytes, kept: Option<usize>) {
        self.readers.retain(|reader| reader.to.try_send(bytes.clone()).is_ok());
        self.tape.push(bytes);
        if let Some(kept) = kept {
            self.tape.rotate(kept);
        }
    }

    /// Lets all readers go: it ended, or the connections broke.
    pub(super) fn let_go(&mut self) {
        self.readers.clear();
    }

    pub(super) fn running(&self) -> bool {
        self.phase == Phase::Running
    }

    /// Server and role, by purpose or name; `None` for containers that are none of ours.
    pub(super) fn owner(&self) -> Option<(ServerId, Role)> {
        match &self.purpose {
            Some(purpose) => Some((purpose.server, purpose.role)),
            None => parse_container_name(&self.name),
        }
    }

    /// What it prints from now on, until it ends: nothing at all where it has ended. A reader that falls [`TAPE`] pieces behind
    /// is let go.
    pub(super) fn read(&mut self, attached: bool) -> mpsc::Receiver<Bytes> {
        let (to, from) = mpsc::channel(TAPE);
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
