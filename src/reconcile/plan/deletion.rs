//! Carrying out the deletion mark: installer, container, files, record, in this order.

use super::{Planner, Progress};
use crate::model::{ConditionStatus, ConditionType, Phase, PowerState, Reason};
use crate::reconcile::job::{JobKind, Subject};
use crate::reconcile::step::{Step, StepKind};

impl Planner<'_> {
    pub(super) fn plan_deletion(&mut self) {
        self.plan.phase = Phase::Deleting;
        self.plan.state = PowerState::Offline;
        let message = "the server is being removed with its files".to_string();
        self.set_condition(ConditionType::Deleting, ConditionStatus::True, Reason::Requested, message);
        if let Some(outage) = &self.observed.outage {
            let message = format!("its containers cannot be removed: {outage}");
            self.set_condition(ConditionType::Deleting, ConditionStatus::True, Reason::RuntimeUnreachable, message);
            return;
        }
        let busy = self.observed.attached.is_some()
            || self.observed.in_install_line()
            || self.observed.jobs.iter().any(|job| job.kind != JobKind::Removal);
        if busy {
            self.step(Step::Quiesce);
        }
        if self.remove_containers() {
            return;
        }
        match self.job(JobKind::Removal, &Subject::Deletion, true) {
            Progress::Ready => self.step(Step::Forget),
            Progress::Waiting => {}
            Progress::Failed { message, .. } => {
                self.set_condition(ConditionType::Deleting, ConditionStatus::True, Reason::FilesInTheWay, message);
            }
        }
    }

    /// Whether there are containers left.
    fn remove_containers(&mut self) -> bool {
        let (installer, server) = (&self.observed.installer, &self.observed.server);
        if let Some(installer) = installer {
            self.remove_installer(installer);
        }
        if let Some(server) = server
            && !self.held_back(StepKind::RemoveServer, &server.id)
        {
            self.step(Step::RemoveServer { container: server.id.clone() });
        }
        installer.is_some() || server.is_some()
    }
}
