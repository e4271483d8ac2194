//! A transfer of a server between two nodes, as the panel has it. Source: remote API, "Transfers".

use std::sync::{Arc, Mutex};

/// A node's part in a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Source,
    Destination,
}

/// A node's report of a transfer, and the status of the panel's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferReport {
    pub side: Side,
    pub successful: bool,
    pub status: u16,
}

/// A transfer. Each node has a simulator of its own; clones of this connect the two.
#[derive(Debug, Clone, Default)]
pub struct SimTransfer(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    result: Option<bool>,
    reports: Vec<TransferReport>,
}

impl SimTransfer {
    /// How it has ended.
    pub fn result(&self) -> Option<bool> {
        self.0.lock().expect("a lock").result
    }

    /// All reports, in order.
    pub fn reports(&self) -> Vec<TransferReport> {
        self.0.lock().expect("a lock").reports.clone()
    }

    /// Whether a node may read the server's configuration: both while the transfer goes on, the owner afterwards.
    pub fn may_read(&self, side: Side) -> bool {
        self.result().is_none() || self.owner() == side
    }

    /// The node whose list has the server.
    pub fn owner(&self) -> Side {
        if self.result() == Some(true) { Side::Destination } else { Side::Source }
    }

    /// A node reports the end. Returns the status of the answer.
    pub fn report(&self, side: Side, successful: bool) -> u16 {
        let mut state = self.0.lock().expect("a lock");
        let status = match (state.result, side, successful) {
            (Some(_), _, _) => 409,
            (None, Side::Source, true) => 403,
            (None, _, _) => {
                state.result = Some(successful);
                204
            }
        };
        state.reports.push(TransferReport { side, successful, status });
        status
    }
}
