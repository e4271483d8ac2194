//! Transfers: when the job is due, and what the condition is.

use std::time::Duration;

use super::{Planner, Progress};
use crate::model::{ConditionType, Reason, Transfer, TransferDirection, TransferResult};
use crate::reconcile::job::{JobKind, Subject};

/// How long a source that sends in rounds may be away.
const SESSION_IDLE: Duration = Duration::from_secs(24 * 60 * 60);

impl Planner<'_> {
    /// The latest transfer. An outgoing one waits until nothing runs on the files. An incoming one is received by the API; where
    /// that has ended without a result, the job records the failure.
    pub(super) fn plan_transfer(&mut self) {
        let Some(transfer) = &self.record.transfer else { return };
        match (&transfer.result, &transfer.direction) {
            (Some(result), _) => self.set_transferred(transfer, result),
            (None, TransferDirection::Outgoing(outgoing)) => {
                let message = format!("the server is being transferred to {}", outgoing.url);
                self.set_false(ConditionType::Transferred, Reason::Transferring, message);
                if transfer.cancelled || transfer.lets_run() {
                    self.transfer(transfer);
                } else if let Some(outage) = &self.observed.outage {
                    let message = format!("the server is transferred when it has ended: {outage}");
                    self.set_false(ConditionType::Transferred, Reason::RuntimeUnreachable, message);
                } else if !self.container_runs() {
                    self.transfer(transfer);
                }
            }
            (None, TransferDirection::Incoming(incoming)) => {
                let message = "the server is being transferred to this node";
                self.set_false(ConditionType::Transferred, Reason::Transferring, message);
                match &incoming.session {
                    // The source comes back after a break.
                    Some(session) if !transfer.cancelled && self.now < session.contact + SESSION_IDLE => {
                        self.requeue_at(self.input.now.instant_until(session.contact + SESSION_IDLE));
                    }
                    None if self.observed.receiving => {}
                    _ => self.transfer(transfer),
                }
            }
        }
    }

    fn set_transferred(&mut self, transfer: &Transfer, result: &TransferResult) {
        if !result.succeeded {
            let message = format!("the server was not transferred: {}", result.message);
            self.set_false(ConditionType::Transferred, Reason::TransferFailed, message);
            // It ran before.
            if transfer.outgoing().is_some_and(|outgoing| outgoing.then_start) {
                self.transfer(transfer);
            }
        } else if transfer.holds_server() {
            let message = match transfer.direction {
                TransferDirection::Outgoing(_) => {
                    "the destination has the server: it waits here for its deletion by the panel"
                }
                TransferDirection::Incoming(_) => "the server is here: it waits for the panel to learn of it",
            };
            self.set_false(ConditionType::Transferred, Reason::Transferring, message);
        }
    }

    fn transfer(&mut self, transfer: &Transfer) {
        match self.job(JobKind::Transfer, &Subject::Transfer(transfer.token), true) {
            Progress::Ready | Progress::Waiting => {}
            Progress::Failed { attempts, message, .. } => {
                let message = format!("{message}; attempt {attempts}, tried again");
                self.set_false(ConditionType::Transferred, Reason::Transferring, message);
            }
        }
    }
}
