//! What happened in the fake world: history, counts, and broken promises, for the invariants of a simulation.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::model::{Role, ServerId};
use crate::runtime::{ContainerSpec, Purpose};

/// Entries of the history that are kept.
pub const HISTORY: usize = 65_536;

/// One thing that was done to a container or an image, or that it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Since the world began.
    pub at: Duration,
    /// `create`, `start`, `signal`, `remove`, `update`, `pull`; `die` for an end; `kill outside` and the like
    /// for interference.
    pub call: &'static str,
    /// The container's name or the image's reference.
    pub name: String,
    /// The container's token.
    pub token: Option<String>,
    /// Whether the engine did it, or refused.
    pub ok: bool,
}

/// How often things were really done for one role of a server.
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

/// Something that must never happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Since the world began.
    pub at: Duration,
    /// Whose.
    pub server: ServerId,
    /// What.
    pub what: Breach,
}

/// What was broken.
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

/// A container ended; handed to the hook of the world.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its spec.
    pub spec: ContainerSpec,
    /// Whom it served.
    pub purpose: Option<Purpose>,
    /// Its exit status.
    pub code: i64,
    /// It ended by itself, so its script ran to its end; otherwise something ended it.
    pub by_itself: bool,
}

/// The books.
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
