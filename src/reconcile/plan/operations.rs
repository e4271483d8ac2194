//! Backups, restores and transfers: which job is due, and what holds it back. They need no engine, so they go on while it is away;
//! only a restore and a transfer need to know that nothing runs.

use std::time::Duration;

use super::{Planner, Progress};
use crate::model::{
    Backup, ConditionType, ContainerStatus, FormerFiles, Manifest, PowerState, Reason, Restore, Timestamp,
};
use crate::reconcile::job::{JobKind, Subject};
use crate::reconcile::observed::JobState;

/// Files that a restore has replaced are removed when the server has run for this long.
const FORMER_FILES_RUN: Duration = Duration::from_secs(600);
/// The same, whether it runs or not.
const FORMER_FILES_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

impl Planner<'_> {
    /// Plans the jobs of backups, of a restore and of a transfer, and their conditions.
    pub(super) fn plan_operations(&mut self) {
        self.plan_restore();
        self.plan_transfer();
        let record = self.record;
        for backup in &record.backups {
            self.plan_backup(backup);
        }
        self.set_backup_condition();
        self.set_damage_condition();
        self.remove_former_files();
        self.report_operations();
    }

    fn plan_backup(&mut self, backup: &Backup) {
        let subject = Subject::Backup(backup.id);
        if backup.quieted.is_some() && !self.runs(JobKind::Backup, &subject) {
            // The run that has sent the commands before it has ended with its daemon.
            self.job(JobKind::BackupRelease, &subject, true);
        } else if backup.deleting {
            // A job that makes or reads it ends by itself.
            let busy = [JobKind::Backup, JobKind::BackupVerification].into_iter().any(|kind| self.runs(kind, &subject));
            if !busy {
                self.job(JobKind::BackupRemoval, &subject, true);
            }
        } else if backup.is_pending() && self.files_held_for().is_none() {
            // The job waits for one of the node's permits itself, in the order in which jobs are started.
            self.job(JobKind::Backup, &subject, true);
        } else if backup.verifying && backup.is_kept_here() {
            self.job(JobKind::BackupVerification, &subject, true);
        }
    }

    fn runs(&self, kind: JobKind, subject: &Subject) -> bool {
        self.observed.job(kind, subject).is_some_and(|job| job.state == JobState::Running)
    }

    fn set_backup_condition(&mut self) {
        let backups = &self.record.backups;
        if let Some(pending) = backups.iter().find(|backup| backup.is_pending()) {
            let message = match self.observed.job(JobKind::Backup, &Subject::Backup(pending.id)) {
                Some(job) => job.failure().map(|message| format!("{message}; attempt {}, tried again", job.attempts)),
                None => None,
            };
            let message = message.unwrap_or_else(|| format!("the backup {} is being made", pending.id));
            self.set_unknown(ConditionType::BackedUp, Reason::BackingUp, message);
            return;
        }
        let ended = backups.iter().rev().find_map(|backup| backup.result.as_ref().map(|result| (backup, result)));
        match ended {
            Some((backup, result)) if result.succeeded => {
                let message = format!("the latest backup is {}, of {}: {}", backup.id, result.at, result.message);
                self.set_true(ConditionType::BackedUp, Reason::BackupCompleted, message);
            }
            Some((backup, result)) => {
                let message = format!("the backup {} has failed: {}", backup.id, result.message);
                self.set_false(ConditionType::BackedUp, Reason::BackupFailed, message);
            }
            None => {}
        }
    }

    /// Damage stays until the backup is deleted, or found intact.
    fn set_damage_condition(&mut self) {
        let damaged = self.record.backups.iter().filter(|backup| backup.is_damaged());
        let found = damaged.filter_map(|backup| Some((backup.id, backup.verified.as_ref()?)));
        let texts: Vec<String> = found
            .map(|(id, verified)| format!("the backup {id} is damaged, found {}: {}", verified.at, verified.message))
            .collect();
        if !texts.is_empty() {
            self.set_false(ConditionType::BackupsIntact, Reason::BackupDamaged, texts.join("; "));
        }
    }

    /// The restore that is pending. It waits until nothing runs on the files.
    fn plan_restore(&mut self) {
        let Some(restore) = &self.record.restore else { return };
        if let Some(result) = &restore.result {
            if restore.then_start {
                self.job(JobKind::Restore, &Subject::Restore(restore.token), true);
            }
            if !result.succeeded {
                let message = format!("{} has failed: {}", restored(restore), result.message);
                self.set_false(ConditionType::Restored, Reason::RestoreFailed, message);
            }
            return;
        }
        let message = format!("{} is under way", restored(restore));
        self.set_false(ConditionType::Restored, Reason::Restoring, message);
        if let Some(outage) = &self.observed.outage {
            let message = format!("{} begins when the server has ended: {outage}", restored(restore));
            self.set_false(ConditionType::Restored, Reason::RuntimeUnreachable, message);
        } else if !self.container_runs() {
            self.restore(restore);
        }
    }

    fn restore(&mut self, restore: &Restore) {
        match self.job(JobKind::Restore, &Subject::Restore(restore.token), true) {
            Progress::Ready | Progress::Waiting => {}
            Progress::Failed { attempts, message, .. } => {
                let message = format!("{message}; attempt {attempts}, tried again");
                self.set_false(ConditionType::Restored, Reason::Restoring, message);
            }
        }
    }

    /// Whether a container of the server runs, which may write to its files.
    pub(super) fn container_runs(&self) -> bool {
        let containers = [&self.observed.server, &self.observed.installer];
        containers.into_iter().flatten().any(ContainerStatus::running)
    }

    /// The operation for which the server is stopped and its files are left alone.
    pub(super) fn files_held_for(&self) -> Option<Reason> {
        let transfer = self.record.stopping_transfer().map(|_| Reason::Transferring);
        transfer.or_else(|| self.record.pending_restore().map(|_| Reason::Restoring))
    }

    /// The requests that want the server up are over: it is stopped for an operation, and does not start again by itself.
    pub(super) fn close_for_operation(&mut self, manifest: &Manifest) -> bool {
        let Some(reason) = self.files_held_for() else { return false };
        let message = match self.record.pending_restore() {
            Some(restore) if reason == Reason::Restoring => {
                format!("the server is stopped: {} is under way", restored(restore))
            }
            _ => "the server is stopped: it is being transferred between nodes".to_owned(),
        };
        match &self.observed.server {
            Some(server) if server.running() => {
                if let Some(demand) = self.demand(manifest, server, self.asked().power().as_ref()) {
                    self.plan_stop(manifest, server, &demand);
                }
            }
            _ => {
                self.plan.state = PowerState::Offline;
                self.set_offline(reason, message.clone());
            }
        }
        if let Some(request) = self.asked().power().filter(|request| request.verb.wants_up()) {
            self.close(&request, reason, message);
        }
        true
    }

    /// The files that the latest restore has replaced are removed after a while.
    fn remove_former_files(&mut self) {
        let Some(former) = &self.record.former_files else { return };
        if self.files_held_for().is_some() {
            return;
        }
        let (due, run) = self.former_files_due(former);
        if former.removing || due || run.is_some_and(|at| self.instant >= at) {
            self.job(JobKind::FormerFiles, &Subject::Restore(former.restore), true);
        } else {
            self.requeue_at(self.input.now.instant_until(removal_time(former)));
            run.into_iter().for_each(|at| self.requeue_at(at));
        }
    }

    /// Whether they are old enough, and when the server that runs now will have run for long enough.
    fn former_files_due(&self, former: &FormerFiles) -> (bool, Option<tokio::time::Instant>) {
        let runs = self.observed.server.as_ref().is_some_and(ContainerStatus::running);
        let run = self.observed.server_run.started.filter(|_| runs && self.plan.state == PowerState::Running);
        (self.now >= removal_time(former), run.map(|started| started + FORMER_FILES_RUN))
    }

    /// Each result that the panel waits for is reported on its own: one that is not accepted yet does not hold up the others.
    fn report_operations(&mut self) {
        if !self.is_managed_by_panel() {
            return;
        }
        let record = self.record;
        let backups = record.backups.iter().filter(|backup| backup.is_unreported());
        let mut subjects: Vec<Subject> = backups.map(|backup| Subject::Backup(backup.id)).collect();
        subjects.extend(record.unreported_restores().map(|restore| Subject::Restore(restore.token)));
        let transfer = record.transfer.as_ref().filter(|transfer| transfer.has_due_report());
        subjects.extend(transfer.map(|transfer| Subject::Transfer(transfer.token)));
        for subject in subjects {
            if let Progress::Failed { attempts, message, .. } = self.job(JobKind::OperationReport, &subject, true) {
                let message =
                    format!("{message}; {attempts} attempts so far, and it is tried again until the panel has it");
                self.set_false(ConditionType::PanelNotified, Reason::PanelAway, message);
            }
        }
    }
}

/// A restore, for people.
fn restored(restore: &Restore) -> String {
    match restore.is_undo() {
        true => format!("the undoing of the restore of the backup {}", restore.backup),
        false => format!("the restore of the backup {}", restore.backup),
    }
}

/// When files that a restore has replaced are removed at the latest.
fn removal_time(former: &FormerFiles) -> Timestamp {
    former.at + FORMER_FILES_KEPT
}
