//! Transfers: when the job is due, and what the condition is.

use std::time::Duration;

use super::start::image_subject;
use super::{Planner, Progress};
use crate::model::{ConditionType, Manifest, Reason, Transfer, TransferDirection, TransferResult};
use crate::reconcile::job::{JobKind, Subject};
use crate::reconcile::observed::JobState;
use crate::reconcile::step::{Step, StepKind};

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

    /// A server that has come gets its container before its first start: what has to be pulled is here then. A failure is left to that
    /// start. Source: backups and transfers, "Destination".
    pub(super) fn create_arrived(&mut self, manifest: &Manifest) {
        let arrived = self.record.transfer.as_ref().filter(|known| known.incoming().is_some() && !known.holds_server());
        let Some(transfer) = arrived.filter(|_| self.observed.server.is_none() && self.observed.prepared) else {
            return;
        };
        let key = Subject::Transfer(transfer.token);
        let (image, token) = (image_subject(manifest, &key), key.to_string());
        if self.failed(StepKind::CreateServer, &token).is_some() {
            return;
        }
        match self.observed.job(JobKind::Image, &image).map(|job| &job.state) {
            None => self.step(Step::StartJob { job: JobKind::Image, subject: image }),
            Some(JobState::Done { .. }) => self.step(Step::CreateServer { token }),
            Some(_) => {}
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
