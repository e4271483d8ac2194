//! What happened on a fake machine: history, counts and violations, for the invariants of the simulation.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::model::{Role, ServerId};
use crate::runtime::{ContainerSpec, Purpose};

/// Entries of the history that are kept.
pub const HISTORY: usize = 65_536;

/// One call about a container or an image, or an event of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Since the machine was made.
    pub at: Duration,
    /// `create`, `start`, `signal`, `remove`, `update`, `pull`; `die` for an end; `kill outside` and the like
    /// for interference.
    pub call: &'static str,
    /// The container's name or the image's reference.
    pub name: String,
    /// The container's token.
    pub token: Option<String>,
    /// Whether the engine executed it.
    pub ok: bool,
}

/// How often calls took effect for one role of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Containers made.
    pub creates: u32,
    /// Containers started.
    pub starts: u32,
    /// Containers removed.
    pub removes: u32,
    /// Containers that ended, for whatever reason.
    pub ends: u32,
    /// Most containers that there were at once.
    pub most: u32,
    /// Most containers that ran at once.
    pub most_running: u32,
}

/// An event that must never happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Since the machine was made.
    pub at: Duration,
    /// Whose.
    pub server: ServerId,
    /// What.
    pub what: Breach,
}

/// The kind of a [`Violation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breach {
    /// The server was started while its installer ran.
    StartedWhileInstalling,
    /// The installer was started while the server ran.
    InstallingWhileStarted,
    /// A container that could not be started was started again, which Docker 29 does without its network.
    StartedAfterFailing,
    /// Two containers of one role ran at once.
    TwoOfARole(Role),
}

/// A container that ended, as [`FakeEngine::on_end`](super::FakeEngine::on_end) gets it.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its spec.
    pub spec: ContainerSpec,
    /// What it was created for.
    pub purpose: Option<Purpose>,
    /// Its exit status.
    pub code: i64,
    /// Its script ran to the end; otherwise a signal or the engine ended it.
    pub by_itself: bool,
}

/// History and counters.
#[derive(Debug, Default)]
pub(super) struct CallLog {
    pub(super) history: VecDeque<Entry>,
    pub(super) counts: BTreeMap<(ServerId, Role), Counts>,
    pub(super) violations: Vec<Violation>,
    /// Calls of every kind that reached the engine.
    pub(super) calls: BTreeMap<&'static str, u64>,
}

impl CallLog {
    pub(super) fn note(&mut self, at: Duration, call: &'static str, name: &str, token: Option<String>, ok: bool) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(Entry { at, call, name: name.into(), token, ok });
    }

    pub(super) fn counts(&mut self, of: (ServerId, Role)) -> &mut Counts {
        self.counts.entry(of).or_default()
    }
}
