//! Deletion: installer, container, files, record, in this order.

use super::{Planner, Progress};
use crate::model::{ConditionType, Phase, PowerState, Reason};
use crate::reconcile::job::{JobKind, Subject};
use crate::reconcile::step::Step;

impl Planner<'_> {
    pub(super) fn plan_deletion(&mut self) {
        self.plan.phase = Phase::Deleting;
        self.plan.state = PowerState::Offline;
        self.set_true(ConditionType::Deleting, Reason::Requested, "the server is being removed with its files");
        if let Some(outage) = &self.observed.outage {
            let message = format!("its containers cannot be removed: {outage}");
            self.set_true(ConditionType::Deleting, Reason::RuntimeUnreachable, message);
            return;
        }
        let busy = self.observed.attached.is_some()
            || self.observed.has_install_slot_or_waits()
            || self.observed.jobs.iter().any(|job| job.kind != JobKind::Removal);
        if busy {
            self.step(Step::Quiesce);
        }
        let (installer, server) = (&self.observed.installer, &self.observed.server);
        if let Some(installer) = installer {
            self.remove_installer(installer);
        }
        if let Some(server) = server {
            self.try_step(Step::RemoveServer { container: server.id.clone() });
        }
        if installer.is_some() || server.is_some() {
            return;
        }
        if self.observed.receiving {
            // What still arrives would be written into what is removed. Its end queues a pass.
            return;
        }
        match self.job(JobKind::Removal, &Subject::Deletion, true) {
            Progress::Ready => self.step(Step::Forget),
            Progress::Waiting => {}
            Progress::Failed { message, .. } => {
                self.set_true(ConditionType::Deleting, Reason::FilesInTheWay, message);
            }
        }
    }
}
